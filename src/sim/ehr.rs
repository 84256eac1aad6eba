//! A simulated EHR: an MLLP receiver and a FHIR server that misbehave on request and remember what they took.
//!
//! It is the counterpart of [`crate::delivery`]: each [`Behaviour`] is a way a real receiver has been seen to fail, and
//! the record says what a chart would hold at the end: which messages, in which order, which of them more than once.
//! It listens plain or over TLS, with or without a client certificate, and can demand a SMART Backend Services log-in
//! whose signature it really checks.
//!
//! Everything it stores is in memory (and, on request, in a ledger of JSON lines); nothing here is for real patients.

pub mod behaviour;
mod fhir;
mod mllp;
pub mod record;
mod search;
mod token;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

pub use behaviour::{Behaviour, Mix, Script};
pub use record::{Account, Arrival};
pub use token::LogIn;

use crate::tls::{self, ServerTls, TlsError};
use record::Record;

/// How long binding is tried again when the port is not free yet after a time "down".
const REBIND_PAUSE: Duration = Duration::from_millis(20);
/// How often binding is tried at the start.
const BIND_TRIES: usize = 50;

/// What the simulated EHR should be and do.
#[derive(Debug, Clone, Default)]
pub struct EhrOptions {
    /// Where the MLLP receiver listens, such as `127.0.0.1:2575`; port 0 takes a free one.
    pub mllp: Option<String>,
    /// Where the FHIR server listens.
    pub fhir: Option<String>,
    /// TLS for both. With a `client_ca` a client certificate is demanded.
    pub tls: Option<ServerTls>,
    /// File that gets one JSON line for each message that arrives.
    pub ledger: Option<PathBuf>,
    /// How it behaves over time. Empty: as it should.
    pub script: Script,
    /// How it behaves at random while the script says "ok".
    pub mix: Mix,
    /// Seed of everything random.
    pub seed: u64,
    /// Log-in demanded by the FHIR server.
    pub log_in: Option<LogIn>,
    /// Folder with ServiceRequests and Patients the FHIR server is searched for, one JSON file each, read anew for every
    /// question.
    pub orders: Option<PathBuf>,
    /// Keep the messages themselves, for tests that look inside.
    pub keep_bodies: bool,
}

/// Why the simulated EHR could not start.
#[derive(Debug, thiserror::Error)]
pub enum EhrError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address as it was given.
        address: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The ledger cannot be written.
    #[error("cannot write the ledger {file}: {source}")]
    Ledger {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The key set of the log-in cannot be read.
    #[error("the key set is not a JSON Web Key set with an ES384 or RS384 key")]
    KeySet,
}

/// A running simulated EHR. Dropping it stops it.
pub struct Ehr {
    mllp: Option<SocketAddr>,
    fhir: Option<SocketAddr>,
    state: Arc<State>,
    tasks: JoinSet<()>,
}

/// What the listeners share.
struct State {
    behaviour: watch::Sender<Behaviour>,
    special: Mutex<HashMap<String, Behaviour>>,
    mix: Mix,
    seed: u64,
    record: Record,
    store: fhir::Store,
    connections: AtomicU64,
    acceptor: Option<TlsAcceptor>,
    log_in: Option<token::Issuer>,
    orders: Option<PathBuf>,
}

/// Which of the two servers a listener feeds.
#[derive(Clone, Copy)]
enum Server {
    Mllp,
    Fhir,
}

/// Runs a simulated EHR until `stop` completes, and says what it took.
///
/// # Errors
/// [`EhrError`] when it cannot start.
pub async fn run(options: EhrOptions, stop: impl Future<Output = ()>) -> Result<Account, EhrError> {
    let ehr = Ehr::start(options).await?;
    stop.await;
    Ok(ehr.account())
}

impl Ehr {
    /// Starts listening; returns when the ports are open.
    ///
    /// # Errors
    /// [`EhrError`].
    pub async fn start(options: EhrOptions) -> Result<Self, EhrError> {
        let acceptor = match &options.tls {
            Some(config) => Some(TlsAcceptor::from(tls::server(config)?)),
            None => None,
        };
        let log_in = match options.log_in {
            Some(log_in) => Some(token::Issuer::new(log_in).ok_or(EhrError::KeySet)?),
            None => None,
        };
        let state = Arc::new(State {
            behaviour: watch::Sender::new(options.script.at_start()),
            special: Mutex::default(),
            mix: options.mix,
            seed: options.seed,
            record: Record::new(options.ledger, options.keep_bodies)?,
            store: fhir::Store::default(),
            connections: AtomicU64::new(0),
            acceptor,
            log_in,
            orders: options.orders,
        });
        let mut ehr = Ehr { mllp: None, fhir: None, state, tasks: JoinSet::new() };
        if let Some(address) = &options.mllp {
            ehr.mllp = Some(ehr.listen(address, Server::Mllp).await?);
        }
        if let Some(address) = &options.fhir {
            ehr.fhir = Some(ehr.listen(address, Server::Fhir).await?);
        }
        ehr.tasks.spawn(follow(options.script, Arc::clone(&ehr.state)));
        Ok(ehr)
    }

    /// Where the MLLP receiver listens.
    pub fn mllp(&self) -> Option<SocketAddr> {
        self.mllp
    }

    /// Where the FHIR server listens.
    pub fn fhir(&self) -> Option<SocketAddr> {
        self.fhir
    }

    /// Behaves like this from now on, until the script says otherwise.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state.behaviour.send_replace(behaviour);
    }

    /// Treats this one message like this, whatever happens to the others: a message that its receiver chokes on.
    pub fn behave_for(&self, message_id: &str, behaviour: Behaviour) {
        let mut special = self.state.special.lock().unwrap_or_else(PoisonError::into_inner);
        special.insert(message_id.to_owned(), behaviour);
    }

    /// How it behaves now.
    pub fn behaviour(&self) -> Behaviour {
        *self.state.behaviour.borrow()
    }

    /// What has arrived so far, in order, also what was not stored.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.state.record.arrivals()
    }

    /// What has been stored so far, counted.
    pub fn account(&self) -> Account {
        self.state.record.account()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Every token that was issued is worth nothing from now on.
    pub fn forget_tokens(&self) {
        if let Some(issuer) = &self.state.log_in {
            issuer.forget();
        }
    }

    async fn listen(&mut self, address: &str, server: Server) -> Result<SocketAddr, EhrError> {
        let refused = |source| EhrError::Listen { address: address.to_owned(), source };
        let listener = bind(address).await.map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        self.tasks.spawn(keep_listening(Some(listener), bound, server, Arc::clone(&self.state)));
        Ok(bound)
    }
}

impl State {
    /// How the message with this number and id is treated.
    fn behaviour_for(&self, number: u64, message_id: &str) -> Behaviour {
        if let Some(special) = self.special.lock().unwrap_or_else(PoisonError::into_inner).get(message_id) {
            return *special;
        }
        let scripted = *self.behaviour.borrow();
        if scripted == Behaviour::Ok { self.mix.draw(self.seed, number) } else { scripted }
    }

    async fn until_down(&self) {
        let mut behaviour = self.behaviour.subscribe();
        // An error means that the simulator is going away, which ends every wait as well.
        let _ = behaviour.wait_for(|b| *b == Behaviour::Down).await;
    }

    async fn until_up(&self) {
        let mut behaviour = self.behaviour.subscribe();
        let _ = behaviour.wait_for(|b| *b != Behaviour::Down).await;
    }
}

async fn follow(script: Script, state: Arc<State>) {
    let start = Instant::now();
    for (after, behaviour) in script.steps() {
        tokio::time::sleep_until(start + after).await;
        state.behaviour.send_replace(behaviour);
    }
}

/// Accepts while the EHR is up. Going down closes the listener and cuts every connection.
async fn keep_listening(mut listener: Option<TcpListener>, bound: SocketAddr, server: Server, state: Arc<State>) {
    loop {
        state.until_up().await;
        let open = match listener.take() {
            Some(open) => open,
            None => match TcpListener::bind(bound).await {
                Ok(open) => open,
                Err(_) => {
                    sleep(REBIND_PAUSE).await;
                    continue;
                }
            },
        };
        let mut peers = JoinSet::new();
        let down = state.until_down();
        tokio::pin!(down);
        loop {
            tokio::select! {
                () = &mut down => break,
                accepted = open.accept() => if let Ok((tcp, _)) = accepted {
                    state.connections.fetch_add(1, Ordering::Relaxed);
                    peers.spawn(serve(tcp, server, Arc::clone(&state)));
                },
                Some(_) = peers.join_next() => {}
            }
        }
    }
}

async fn serve(tcp: TcpStream, server: Server, state: Arc<State>) {
    // Small answers must not wait for more to send.
    let _ = tcp.set_nodelay(true);
    match server {
        Server::Mllp => mllp::serve(tcp, state).await,
        Server::Fhir => fhir::serve(tcp, state).await,
    }
}

async fn bind(address: &str) -> std::io::Result<TcpListener> {
    let mut tries = 0;
    loop {
        match TcpListener::bind(address).await {
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && tries < BIND_TRIES => {
                tries += 1;
                sleep(REBIND_PAUSE).await;
            }
            bound => return bound,
        }
    }
}

/// A second handle to a socket, kept to answer with a reset instead of an orderly end.
struct Breaker(Option<TcpStream>);

impl Breaker {
    fn of(tcp: &TcpStream) -> Self {
        use std::os::fd::AsFd;
        let again = tcp.as_fd().try_clone_to_owned().map(std::net::TcpStream::from);
        Breaker(again.and_then(TcpStream::from_std).ok())
    }

    /// The connection will end with RST when its last handle is closed.
    fn reset_on_close(&self) {
        if let Some(tcp) = &self.0 {
            let _ = tcp.set_zero_linger();
        }
    }
}
