//! Links: the connections to instruments. A link runs a machine of [`crate::wire`] over a serial port or TCP.
//!
//! - [`pump`] is THE loop; every link is that loop.
//! - [`serial`], [`tcp`] open lines and open them again when they are lost; [`marks`] is how a serial port says that a
//!   character came damaged.
//! - [`peers`] tells apart links that share a port.
//! - [`instrument`] tells apart several instruments on one link: which of them a message is from ([`listed`]) and how it
//!   is read ([`speakers`]).
//! - [`dicom`] lets modalities in; what they store goes to the spool of the journal.
//! - [`directory`] takes files from a folder; it runs no machine.
//! - [`seats`] keeps idle and hostile connections from crowding out instruments (invariant I10).
//! - [`host`] looks up what an instrument asks and tells it of its orders.
//! - [`custodian`] is who takes custody: the journal for results, the desk of [`crate::orders`] for orders.
//! - [`operators`] reads who may use a POCT1-A device.
//! - [`settled`] tells what a link runs with, and whether its driver said so.
//! - [`worklist`] is what an instrument is told of orders, asked or not.
//! - [`counters`] is what a link counts and logs; [`taps`] is who listens in on it.

pub mod config;
pub mod counters;
pub mod custodian;
pub mod dicom;
pub mod host;
pub mod instrument;
pub mod directory;
pub mod listed;
pub mod machine;
pub mod marks;
pub mod operators;
pub mod peers;
pub mod pump;
pub mod seats;
pub mod serial;
pub mod settled;
pub mod speakers;
pub mod taps;
pub mod tcp;
pub mod worklist;

pub use config::Config;
pub use counters::{LinkCounters, LinkCounts, LinkHealth};
pub use custodian::Custodian;
pub use instrument::{Instrument, Says};

use crate::backoff::Backoff;
use crate::tls::TlsError;
use crate::wire::Protocol;
use host::clerk::Office;
use host::{Host, OrderDesk};
use machine::Machine;
use pump::Pump;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use worklist::Worklist;

/// A link that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address is taken, unknown or not allowed.
    #[error("link {link}: cannot listen on {address}: {source}; is another program using the port?")]
    Listen {
        /// The link.
        link: String,
        /// The address as configured.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificates do not work.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Not exactly one of serial, listen, dial and directory, or tables from something that is no folder.
    #[error("link {0}: exactly one of serial, listen, dial and directory must be given, and directory for tables")]
    Transport(String),
}

/// Resolves once the gateway stops; also when the sender is gone.
pub async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // The guard wait_for returns must not live across an await elsewhere, so it ends here.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// What every connection of one link shares.
pub struct Shell {
    config: Config,
    link: Arc<str>,
    custodian: Custodian,
    counters: Arc<LinkCounters>,
    shutdown: watch::Receiver<bool>,
    connections: Arc<AtomicU64>,
    connections_max: usize,
    held: Arc<AtomicUsize>,
    /// Where orders are looked up and told, on links that can be asked.
    office: Option<Arc<Office>>,
    /// True on the connection that only brings orders to the instrument.
    outgoing: bool,
    /// Where what is asked in ASTM is answered.
    worklist: Option<Arc<OrderDesk>>,
}

impl Shell {
    /// The same for the connection on which the instrument only takes orders.
    fn for_orders(&self) -> Arc<Shell> {
        Arc::new(Shell {
            config: self.config.clone(),
            link: self.link.clone(),
            custodian: self.custodian.clone(),
            counters: self.counters.clone(),
            shutdown: self.shutdown.clone(),
            connections: self.connections.clone(),
            connections_max: self.connections_max,
            held: self.held.clone(),
            office: self.office.clone(),
            outgoing: true,
            worklist: None,
        })
    }

    fn machine(&self) -> Machine {
        let mut machine = Machine::new(&self.config);
        if let (Some(file), Machine::Poct1a(receiver, _)) = (&self.config.operators, &mut machine) {
            match operators::read(file) {
                Ok(operators) => receiver.set_operators(operators),
                Err(why) => self.counters.trouble("the operator list is not used", &why),
            }
        }
        machine
    }

    fn pump(&self, connection: u64) -> Pump {
        Pump {
            custodian: self.custodian.clone(),
            link: self.link.clone(),
            connection,
            held: self.held.clone(),
            marks: None,
            clerk: self.office.as_ref().map(|office| office.clerk(self.outgoing)),
            worklist: self.worklist.as_ref().map(Worklist::new),
            counters: self.counters.clone(),
            shutdown: self.shutdown.clone(),
        }
    }

    fn backoff(&self) -> Backoff {
        let timers = &self.config.timers;
        let ms = Duration::from_millis;
        Backoff::new(ms(timers.reconnect_min_ms.max(1)), ms(timers.reconnect_max_ms))
    }

    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn connections_max(&self) -> usize {
        self.connections_max
    }
}

/// Opens a link and serves it on tasks of its own until `shutdown` turns true. Where it listens, its address is bound
/// at once, so that a taken port is an error at start, or shared with a link of `listeners` that is there already; the
/// caller serves those when all links are open. `connections` numbers connections across all links; `descriptors` is
/// this link's share of the descriptors the process may open.
///
/// # Errors
/// The address, the certificates or the transport do not work.
pub fn open(
    config: &Config,
    custodian: &Custodian,
    host: &Arc<Host>,
    shutdown: &watch::Receiver<bool>,
    connections: &Arc<AtomicU64>,
    descriptors: usize,
    listeners: &mut Vec<tcp::Listener>,
) -> Result<(Arc<LinkCounters>, Vec<tokio::task::JoinHandle<()>>), LinkError> {
    let counters = Arc::new(LinkCounters::new(&config.name, config.protocol));
    // The EHR asks nothing and is told nothing here.
    let desk = match custodian {
        Custodian::Results(_) => Some(OrderDesk::new(host, config, &counters)),
        Custodian::Orders(..) => None,
    };
    let speaking = |protocol| desk.as_ref().filter(|_| config.protocol == protocol);
    let office = speaking(Protocol::Hl7).map(|desk| Office::new(desk, config.orders_dial.is_some()));
    let can_be_asked = office.is_some();
    let shell = Arc::new(Shell {
        worklist: speaking(Protocol::Astm).cloned(),
        config: config.clone(),
        link: config.name.as_str().into(),
        custodian: custodian.clone(),
        counters: counters.clone(),
        shutdown: shutdown.clone(),
        connections: connections.clone(),
        held: Arc::default(),
        connections_max: usize::from(config.connections_max).min(descriptors).max(1),
        office,
        outgoing: false,
    });
    let mut tasks = Vec::new();
    // Where orders go apart, that line is served beside the one on which the instrument asks.
    if let Some(address) = config.orders_dial.as_ref().filter(|_| can_be_asked) {
        tasks.push(tokio::spawn(tcp::Dialler::new(config, address)?.serve(shell.for_orders())));
    }
    match (&config.serial, &config.listen, &config.dial, &config.directory) {
        (None, None, None, Some(path)) => tasks.push(tokio::spawn(directory::serve(shell, path.clone()))),
        _ if config.protocol == Protocol::Table => return Err(LinkError::Transport(config.name.clone())),
        (Some(path), None, None, None) => tasks.push(tokio::spawn(serial::serve(shell, path.clone()))),
        (None, Some(address), None, None) => match listeners.iter_mut().find(|listener| listener.is_at(address)) {
            Some(shared) => shared.add(shell),
            None => {
                let mut listener = tcp::Listener::bind(config, address)?;
                listener.add(shell);
                listeners.push(listener);
            }
        },
        (None, None, Some(address), None) => {
            tasks.push(tokio::spawn(tcp::Dialler::new(config, address)?.serve(shell)));
        }
        _ => return Err(LinkError::Transport(config.name.clone())),
    }
    Ok((counters, tasks))
}
