//! Links on a serial port, through [`tokio_serial`]. An adapter that is pulled out and put back is simply opened again.

use super::config::{FlowControl, Parity};
use super::pump::Ended;
use super::{Config, Shell, stopped};
use crate::backoff::Backoff;
use std::path::Path;
use std::sync::Arc;
use tokio_serial::{SerialPortBuilderExt, SerialStream};

/// LIS01-A2 section 5: 9600 bits per second unless told otherwise.
const BAUD_DEFAULT: u32 = 9600;

/// Opens the port and serves it, again and again, until the gateway stops.
pub async fn serve(shell: Arc<Shell>, path: std::path::PathBuf) {
    let mut backoff = shell.backoff();
    let mut shutdown = shell.shutdown.clone();
    while !*shutdown.borrow() {
        match open(&shell.config, &path) {
            Ok(mut port) => {
                shell.counters.up("the serial port is open");
                shell.counters.connected();
                let ended = converse(&shell, &mut port, &mut backoff).await;
                shell.counters.disconnected();
                if ended == Ended::Stopped {
                    break;
                }
                shell.counters.down("the serial port went away", &"waiting for it to come back");
            }
            Err(error) => shell.counters.down("the serial port cannot be opened", &error),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.failed()) => {}
            () = stopped(&mut shutdown) => break,
        }
    }
}

/// A serial line cannot be closed to show displeasure: when a machine asks for it, a fresh one takes over in silence.
async fn converse(shell: &Shell, port: &mut SerialStream, backoff: &mut Backoff) -> Ended {
    loop {
        let mut machine = shell.machine();
        match shell.pump(shell.next_connection()).run(&mut *port, &mut machine, || backoff.succeeded()).await {
            Ended::Closed(_) => {}
            other => return other,
        }
    }
}

fn open(config: &Config, path: &Path) -> tokio_serial::Result<SerialStream> {
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
}
