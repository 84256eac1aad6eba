//! Links on a serial port, through [`tokio_serial`]. An adapter that is pulled out and put back is simply opened again.
//!
//! With parity, the port is told to mark damaged characters ([`super::marks`]), so that the frame they are in is
//! refused; otherwise the kernel would put a NUL in their place. Without parity nothing is marked, and a character
//! without its stop bit is dropped by the kernel: the checksum alone tells.

pub mod port;
pub mod ports;

use super::config::{FlowControl, Parity};
use super::marks::Marks;
use super::pump::Ended;
use super::{Config, Shell, stopped};
use crate::backoff::Backoff;
use port::{LineErrors, ModemLines};
use ports::Unresolved;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::convert::Infallible;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_serial::{SerialPortBuilderExt, SerialStream};

/// LIS01-A2 section 5: 9600 bits per second unless told otherwise.
const BAUD_DEFAULT: u32 = 9600;
/// The port's error counters and handshake lines are read so often.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Opens the port and serves it, again and again, until the gateway stops.
pub async fn serve(shell: Arc<Shell>, path: PathBuf) {
    serve_below(Path::new("/"), shell, path).await;
}

/// The same with the names of ports below `root`, which is `/` but in tests.
async fn serve_below(root: &Path, shell: Arc<Shell>, path: PathBuf) {
    let mut backoff = shell.backoff();
    let mut shutdown = shell.shutdown.clone();
    while !*shutdown.borrow() {
        // The name is followed anew each time: the kernel may have given the adapter another number.
        match claim(root, &shell.config, &path) {
            Ok((_claim, mut port)) => {
                shell.counters.up("the serial port is open");
                shell.counters.connected();
                let descriptor = port.as_raw_fd();
                let ended = tokio::select! {
                    ended = converse(&shell, &mut port, &mut backoff) => ended,
                    never = watch(&shell, descriptor) => match never {},
                };
                shell.counters.disconnected();
                if ended == Ended::Stopped {
                    break;
                }
                shell.counters.down("the serial port went away", &"waiting for it to come back");
            }
            Err(error) => shell.counters.down(error.reason(), &error),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.failed()) => {}
            () = stopped(&mut shutdown) => break,
        }
    }
}

/// Why a port is not served now.
#[derive(Debug, thiserror::Error)]
enum Closed {
    /// Its name leads nowhere, or to several.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// Another link has it, under another name.
    #[error("{} is served by link {link}", device.display())]
    Taken { device: PathBuf, link: String },
    /// The system will not open it.
    #[error(transparent)]
    System(#[from] tokio_serial::Error),
}

impl Closed {
    fn reason(&self) -> &'static str {
        match self {
            Closed::Taken { .. } => "another link has this serial port",
            Closed::Unresolved(_) | Closed::System(_) => "the serial port cannot be opened",
        }
    }
}

/// The ports that links of this process have open, and whose they are. One for the whole process, as the ports are:
/// the kernel's own lock does not hold for the superuser.
static CLAIMED: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());

/// Keeps a port for its link until it is dropped.
struct Claim(PathBuf);

impl Drop for Claim {
    fn drop(&mut self) {
        claimed().remove(&self.0);
    }
}

fn claimed() -> MutexGuard<'static, BTreeMap<PathBuf, String>> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows the name and opens the port, unless another link has it.
fn claim(root: &Path, config: &Config, name: &Path) -> Result<(Claim, SerialStream), Closed> {
    let device = ports::resolve(root, name)?;
    let claim = match claimed().entry(device.clone()) {
        Entry::Occupied(owner) => return Err(Closed::Taken { device, link: owner.get().clone() }),
        Entry::Vacant(free) => {
            free.insert(config.name.clone());
            Claim(device.clone())
        }
    };
    Ok((claim, open(config, &device)?))
}

/// A serial line cannot be closed to show displeasure: when a machine asks for it, a fresh one takes over in silence.
async fn converse(shell: &Shell, port: &mut SerialStream, backoff: &mut Backoff) -> Ended {
    let mut marks = has_parity(&shell.config).then(Marks::default);
    loop {
        let mut machine = shell.machine();
        let mut pump = shell.pump(shell.next_connection());
        pump.marks = marks;
        match pump.run(&mut *port, &mut machine, || backoff.succeeded()).await {
            Ended::Closed(_) => marks = pump.marks,
            other => return other,
        }
    }
}

/// Tells the link what the kernel knows of the port, which must stay open meanwhile.
async fn watch(shell: &Shell, port: RawFd) -> Infallible {
    // What another opening of the port counted is no part of it.
    shell.counters.port(None, None);
    let first = LineErrors::read(&port);
    if first.is_none() && ModemLines::read(&port).is_none() {
        return std::future::pending().await;
    }
    loop {
        let counted = LineErrors::read(&port).zip(first).map(|(now, first)| now.since(first));
        shell.counters.port(counted, ModemLines::read(&port));
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Opens the port of a link and closes it again; no other link may have it.
///
/// # Errors
/// In words, why it cannot be opened.
pub fn try_open(config: &Config, path: &Path) -> Result<(), String> {
    claim(Path::new("/"), config, path).map(drop).map_err(|error| error.to_string())
}

/// Opens a port as a link's settings have it.
///
/// # Errors
/// What the system said.
pub fn open(config: &Config, path: &Path) -> tokio_serial::Result<SerialStream> {
    let data_bits = match config.data_bits {
        Some(7) => tokio_serial::DataBits::Seven,
        _ => tokio_serial::DataBits::Eight,
    };
    let parity = match config.parity {
        None | Some(Parity::None) => tokio_serial::Parity::None,
        Some(Parity::Even) => tokio_serial::Parity::Even,
        Some(Parity::Odd) => tokio_serial::Parity::Odd,
    };
    let stop_bits = match config.stop_bits {
        Some(2) => tokio_serial::StopBits::Two,
        _ => tokio_serial::StopBits::One,
    };
    let flow_control = match config.flow_control {
        None | Some(FlowControl::None) => tokio_serial::FlowControl::None,
        Some(FlowControl::Hardware) => tokio_serial::FlowControl::Hardware,
        Some(FlowControl::Software) => tokio_serial::FlowControl::Software,
    };
    tokio_serial::new(path.to_string_lossy(), config.baud.unwrap_or(BAUD_DEFAULT))
        .data_bits(data_bits)
        .parity(parity)
        .stop_bits(stop_bits)
        .flow_control(flow_control)
        .open_native_async()
        .and_then(|port| match has_parity(config) {
            true => mark_damage(&port).map(|()| port).map_err(Into::into),
            false => Ok(port),
        })
}

fn has_parity(config: &Config) -> bool {
    matches!(config.parity, Some(Parity::Even | Parity::Odd))
}

/// Has the kernel check parity and mark what came damaged, and a break, in the way of `termios(3)`, `PARMRK`.
pub fn mark_damage(port: &impl AsRawFd) -> std::io::Result<()> {
    let mut settings = settings(port)?;
    settings.c_iflag |= libc::INPCK | libc::PARMRK;
    settings.c_iflag &= !(libc::IGNPAR | libc::IGNBRK | libc::BRKINT | libc::ISTRIP);
    // SAFETY: the descriptor is open as long as `port` is, and the settings are initialised.
    if unsafe { libc::tcsetattr(port.as_raw_fd(), libc::TCSANOW, &settings) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // Success means no more than that something was set.
    match self::settings(port)?.c_iflag == settings.c_iflag {
        true => Ok(()),
        false => Err(std::io::Error::other("the port does not mark damaged characters")),
    }
}

fn settings(port: &impl AsRawFd) -> std::io::Result<libc::termios> {
    let mut found = std::mem::MaybeUninit::uninit();
    // SAFETY: the descriptor is open as long as `port` is; success means that `found` was filled in.
    match unsafe { libc::tcgetattr(port.as_raw_fd(), found.as_mut_ptr()) } {
        0 => Ok(unsafe { found.assume_init() }),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
