//! Links over TCP: the box listens (the usual way) or dials, plain or TLS.

use super::peers::Peers;
use super::pump::Ended;
use super::seats::{Seat, Seats};
use super::{Config, LinkError, Shell, stopped};
use crate::backoff::Backoff;
use crate::service;
use crate::tls::{self, ClientTls, Doorkeeper, TlsError};
use crate::wire::Event;
use rustls_pki_types::ServerName;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A dialled peer must answer within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A TLS handshake must be over within this time.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is counted when it is not.
pub(super) const HANDSHAKE_LATE: &str = "TLS: the handshake took too long";
/// What is counted when somebody dials in whom no link of the port names.
const STRANGER: &str = "a connection from an address that no link of this port names: closed";
/// Pending connections the kernel keeps for us.
const BACKLOG: u32 = 256;
/// A silent line is probed after this time, again at this interval, and given up after this many probes: a peer whose
/// power was cut is noticed within two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// Keep-alive is silent while something we sent is not acknowledged. Without this limit a peer that lost power right
/// after its frame would keep a dialled line for the quarter of an hour that Linux goes on sending.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(120);

/// A listener that is bound but not yet accepting. Several links may share one: the address a peer dials from tells
/// whose it is.
pub struct Listener {
    address: String,
    socket: TcpListener,
    tls: Option<Doorkeeper>,
    doors: Vec<Door>,
}

/// One of the links of a listener.
struct Door {
    shell: Arc<Shell>,
    seats: Arc<Seats>,
    peers: Vec<Peers>,
}

impl Door {
    /// How well this address fits, in leading bits; a link that names no peers takes whoever none of the others names.
    fn fit(&self, address: IpAddr) -> Option<i16> {
        match self.shell.config.peers.is_empty() {
            true => Some(-1),
            false => self.peers.iter().filter_map(|peers| peers.fit(address)).max().map(i16::from),
        }
    }
}

impl Listener {
    /// Binds the address of the link. Fails at once when it is taken, so that start-up says so.
    pub fn bind(config: &Config, address: &str) -> Result<Self, LinkError> {
        let tls = match &config.tls {
            None => None,
            Some(settings) => Some(Doorkeeper::new(settings.listening()?)?),
        };
        let socket = bind(address).map_err(|source| LinkError::Listen {
            link: config.name.clone(),
            address: address.to_string(),
            source,
        })?;
        Ok(Listener { address: address.to_string(), socket, tls, doors: Vec::new() })
    }

    /// True for a link that listens here.
    pub fn is_at(&self, address: &str) -> bool {
        self.address == address
    }

    /// A link whose instruments dial in here.
    pub fn add(&mut self, shell: Arc<Shell>) {
        // An address that is none fits nobody; `afferent check` refuses it.
        let peers = shell.config.peers.iter().filter_map(|text| text.parse().ok()).collect();
        self.doors.push(Door { seats: Arc::new(Seats::new(shell.connections_max())), shell, peers });
    }

    /// Accepts and serves until the gateway stops.
    pub async fn serve(mut self) {
        let Some(first) = self.doors.first().map(|door| door.shell.clone()) else { return };
        let mut connections = JoinSet::new();
        let mut shutdown = first.shutdown.clone();
        self.doors.iter().for_each(|door| door.shell.counters.up("listening"));
        loop {
            tokio::select! {
                () = stopped(&mut shutdown) => break,
                Some(_) = connections.join_next() => {}
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, from)) => {
                        let fitting = self.doors.iter().filter_map(|door| Some((door.fit(from.ip())?, door)));
                        let Some((_, door)) = fitting.max_by_key(|(bits, _)| *bits) else {
                            first.counters.stranger(STRANGER);
                            continue;
                        };
                        let Door { shell, seats, .. } = door;
                        let number = shell.next_connection();
                        let (seat, full) = seats.take(number);
                        if full {
                            shell.counters.event(&Event::Odd("too many connections: the least useful one was closed"));
                        }
                        let task = Connection { shell: shell.clone(), seats: seats.clone(), seat, number };
                        let acceptor = self.tls.as_mut().map(|tls| tls.acceptor(|what, why| shell.counters.trouble(what, why)));
                        connections.spawn(task.serve(stream, acceptor));
                    }
                    Err(_) => {
                        // Out of descriptors, most likely: somebody who is of no use has to go.
                        first.counters.event(&Event::Odd("a connection could not be accepted"));
                        self.doors.iter().for_each(|door| door.seats.make_room());
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                },
            }
        }
        drop(self.socket);
        while connections.join_next().await.is_some() {}
    }
}

struct Connection {
    shell: Arc<Shell>,
    seats: Arc<Seats>,
    seat: Arc<Seat>,
    number: u64,
}

impl Connection {
    async fn serve(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        keep_alive(&stream);
        self.shell.counters.connected();
        let evicted = self.seat.clone();
        tokio::select! {
            () = self.converse(stream, acceptor) => {}
            () = evicted.evicted() => {}
        }
        self.shell.counters.disconnected();
        self.seats.leave(&self.seat);
    }

    async fn converse(&self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        let Some(acceptor) = acceptor else { return self.pump(stream).await };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.pump(stream).await,
            Ok(Err(error)) => self.shell.counters.turned_away(tls::failure(&error)),
            Err(_) => self.shell.counters.event(&Event::Refused(HANDSHAKE_LATE)),
        }
    }

    async fn pump<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) {
        let mut machine = self.shell.machine();
        self.shell.pump(self.number).run(stream, &mut machine, || self.seats.completed(&self.seat)).await;
    }
}

/// A peer to dial, with its TLS settings already proven.
pub struct Dialler {
    address: String,
    tls: Option<ClientTls>,
}

impl Dialler {
    /// Reads the certificates once, so that start-up says when they do not work.
    pub fn new(config: &Config, address: &str) -> Result<Self, LinkError> {
        let tls = config.tls.as_ref().map(|settings| settings.dialling());
        let dialler = Dialler { address: address.to_string(), tls };
        dialler.connector()?;
        Ok(dialler)
    }

    /// The certificates as they are now and the name to expect.
    fn connector(&self) -> Result<Option<(TlsConnector, ServerName<'static>)>, TlsError> {
        let Some(settings) = &self.tls else { return Ok(None) };
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        Ok(Some((tls::client_or_last(settings)?.into(), settings.name_for(host)?)))
    }

    /// Dials and serves the connection, again and again, until the gateway stops.
    pub async fn serve(self, shell: Arc<Shell>) {
        let mut backoff = shell.backoff();
        let mut shutdown = shell.shutdown.clone();
        while !*shutdown.borrow() {
            match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await {
                Ok(Ok(stream)) => {
                    keep_alive(&stream);
                    shell.counters.up("the instrument answers");
                    shell.counters.connected();
                    let ended = self.converse(&shell, stream, &mut backoff).await;
                    shell.counters.disconnected();
                    if ended == Ended::Stopped {
                        break;
                    }
                    // Many instruments hang up after each message: it is down only when it does not answer again.
                    shell.counters.event(&Event::Odd("the connection to the instrument ended"));
                }
                Ok(Err(error)) => shell.counters.down("the instrument cannot be reached", &error),
                Err(_) => shell.counters.down("the instrument cannot be reached", &"no answer in time"),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.failed()) => {}
                () = stopped(&mut shutdown) => break,
            }
        }
    }

    async fn converse(&self, shell: &Shell, stream: TcpStream, backoff: &mut Backoff) -> Ended {
        let mut machine = shell.machine();
        let mut pump = shell.pump(shell.next_connection());
        let (connector, name) = match self.connector() {
            Ok(Some(tls)) => tls,
            Ok(None) => return pump.run(stream, &mut machine, || backoff.succeeded()).await,
            Err(error) => {
                shell.counters.trouble("the certificates do not work", &error);
                return Ended::Disconnected;
            }
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => pump.run(stream, &mut machine, || backoff.succeeded()).await,
            Ok(Err(error)) => {
                shell.counters.event(&Event::Refused(tls::failure(&error)));
                Ended::Disconnected
            }
            Err(_) => {
                shell.counters.event(&Event::Refused(HANDSHAKE_LATE));
                Ended::Disconnected
            }
        }
    }
}

/// Takes an address to listen on: the socket that the service manager has there, else one of its own.
pub(super) fn bind(address: &str) -> std::io::Result<TcpListener> {
    let address: std::net::SocketAddr = std::net::ToSocketAddrs::to_socket_addrs(address)?
        .next()
        .ok_or_else(|| std::io::Error::other("the name has no address"))?;
    if let Some(socket) = service::listener(address)? {
        return TcpListener::from_std(socket);
    }
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address).and_then(|()| socket.listen(BACKLOG)).map_err(|error| {
        let elsewhere = Some(address).filter(|_| error.kind() == std::io::ErrorKind::AddrInUse);
        let told = elsewhere.and_then(service::held_elsewhere);
        told.map_or(error, |told| std::io::Error::new(std::io::ErrorKind::AddrInUse, told))
    })
}

/// Half-open lines are noticed by TCP keep-alive; small replies leave at once.
pub(super) fn keep_alive(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    // A socket that refuses these options still works; it is only slower to notice a dead peer.
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
    let _ = stream.set_nodelay(true);
}
