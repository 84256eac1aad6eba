//! DICOM links: modalities dial in, store what they made, and ask for their worklist.
//!
//! One listener serves all modalities, plain, with TLS or both. Who calls is known by its AE title once it asks for an
//! association ([`admission`]); from then on its connection is counted and kept under the name of its `[[modality]]`.
//! [`association`] is the loop that runs the machine of [`crate::wire::dimse`] on a connection; [`storing`] writes an
//! instance to the spool while the network brings more of it; [`services`] answers what is asked.
//!
//! Nothing is decoded on the way in: an odd data set is no reason to refuse bytes (invariant I2).

pub mod admission;
pub mod association;
pub mod config;
pub mod services;
pub mod storing;

pub use config::{Config, Modality};

use super::counters::LinkCounters;
use super::seats::{Seat, Seats};
use super::tcp;
use super::{LinkError, stopped};
use crate::journal::Journal;
use crate::tls::{self, Doorkeeper};
use crate::wire::Event;
use crate::wire::dimse::Settings;
use admission::{Callers, Way};
use association::Line;
use services::Services;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// Name of the link in logs, counters and the journal for callers that no `[[modality]]` names.
pub const LINK: &str = "dicom";
/// Connections beyond the associations there may be: those that have not asked yet, or are told to come back later.
const CONNECTIONS_SPARE: usize = 32;

/// Counters of every name under which images come in, and the tasks that serve them.
type Opened = (Vec<Arc<LinkCounters>>, Vec<JoinHandle<()>>);

/// What all connections of the DICOM listener share.
pub struct Shared {
    journal: Journal,
    callers: Callers,
    services: Services,
    settings: Settings,
    seats: Seats,
    connections: Arc<AtomicU64>,
    shutdown: watch::Receiver<bool>,
}

/// Binds the addresses and serves them on tasks of its own until `shutdown` turns true. `connections` numbers
/// connections across all links.
///
/// # Errors
/// An address or the certificates do not work.
pub fn open(
    config: &Config,
    callers: Callers,
    journal: &Journal,
    services: Services,
    shutdown: &watch::Receiver<bool>,
    connections: &Arc<AtomicU64>,
) -> Result<Opened, LinkError> {
    let counters = callers.counters();
    let seats = Seats::new(callers.places() + CONNECTIONS_SPARE);
    let shared = Arc::new(Shared {
        journal: journal.clone(),
        callers,
        services,
        settings: Settings { idle: Duration::from_secs(config.idle_timeout_s.into()), ..Settings::default() },
        seats,
        connections: connections.clone(),
        shutdown: shutdown.clone(),
    });
    let bind = |address: &str| {
        tcp::bind(address).map_err(|source| LinkError::Listen {
            link: LINK.to_string(),
            address: address.to_string(),
            source,
        })
    };
    let mut tasks = Vec::new();
    if let Some(address) = &config.listen {
        tasks.push(tokio::spawn(serve(shared.clone(), bind(address)?, None)));
    }
    if let Some(address) = &config.listen_tls {
        let settings = config.tls.as_ref().ok_or(tls::TlsError::HalfPair)?;
        tasks.push(tokio::spawn(serve(shared.clone(), bind(address)?, Some(Doorkeeper::new(settings.clone())?))));
    }
    Ok((counters, tasks))
}

/// Accepts and serves until the gateway stops.
async fn serve(shared: Arc<Shared>, socket: TcpListener, mut tls: Option<Doorkeeper>) {
    let mut connections = JoinSet::new();
    let mut shutdown = shared.shutdown.clone();
    let counters = shared.callers.strangers().clone();
    shared.callers.counters().iter().for_each(|counters| counters.up("listening"));
    loop {
        tokio::select! {
            () = stopped(&mut shutdown) => break,
            Some(_) = connections.join_next() => {}
            accepted = socket.accept() => match accepted {
                Ok((stream, from)) => {
                    let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
                    let (seat, full) = shared.seats.take(number);
                    if full {
                        counters.event(&Event::Odd("too many connections: the least useful one was closed"));
                    }
                    let acceptor = tls.as_mut().map(|tls| tls.acceptor(|what, why| counters.trouble(what, why)));
                    connections.spawn(converse(shared.clone(), stream, from, number, seat, acceptor));
                }
                Err(_) => {
                    // Out of descriptors, most likely: somebody who is of no use has to go.
                    counters.event(&Event::Odd("a connection could not be accepted"));
                    shared.seats.make_room();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            },
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

async fn converse(
    shared: Arc<Shared>,
    stream: TcpStream,
    from: SocketAddr,
    number: u64,
    seat: Arc<Seat>,
    acceptor: Option<TlsAcceptor>,
) {
    tcp::keep_alive(&stream);
    let counters = shared.callers.strangers();
    let run = async {
        let from = from.ip();
        let Some(acceptor) = acceptor else {
            let way = Way { from, is_secured: false, certificate: None };
            return run(&shared, stream, |stream| stream, way, number, &seat).await;
        };
        match tokio::time::timeout(tcp::HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let way = Way { from, is_secured: true, certificate: tls::shown(stream.get_ref().1) };
                run(&shared, stream, |stream| stream.get_ref().0, way, number, &seat).await;
            }
            Ok(Err(error)) => counters.turned_away(tls::failure(&error)),
            Err(_) => counters.event(&Event::Refused(tcp::HANDSHAKE_LATE)),
        }
    };
    tokio::select! {
        () = run => {}
        () = seat.evicted() => {}
    }
    shared.seats.leave(&seat);
}

async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Arc<Shared>,
    stream: S,
    socket: fn(&S) -> &TcpStream,
    way: Way,
    number: u64,
    seat: &Seat,
) {
    Line::new(shared.clone(), way, number).run(stream, socket, || shared.seats.completed(seat)).await;
}
