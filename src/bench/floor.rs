//! The ceiling for any gateway on this machine: all that a gateway cannot leave out, and nothing else.
//!
//! The same instruments on the same number of lines, one thread that asks all lines in turn without ever sleeping,
//! rows committed in groups to a bare database, each acknowledged after its commit. No checksum, no sealing, no
//! interpretation, no delivery. What this loses against a bare loop is the price of waiting for instruments that wait
//! for their acknowledgements; no gateway can be nearer to the bare loop than this.

use super::bare::Loop;
use crate::wire::astm::{ACK, ENQ, EOT};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A group is committed without the lines that are silent for so long: they are between two messages.
const PATIENCE: Duration = Duration::from_micros(300);

/// A running loop; it ends with this value.
pub struct Floor {
    ports: Vec<u16>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
}

impl Floor {
    /// Listens on `lines` ports and serves one instrument on each, with a database at `path`.
    pub fn start(path: &Path, lines: usize) -> anyhow::Result<Self> {
        let listeners = (0..lines).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        let ports = listeners.iter().map(|l| Ok(l.local_addr()?.port())).collect::<anyhow::Result<_>>()?;
        let database = Loop::open(path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || serve(&listeners, database, &stopped));
        Ok(Floor { ports, stop, thread: Some(thread) })
    }

    /// Where its lines are.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One line: what was heard of a frame, and whether it waits for the commit.
struct Line {
    stream: TcpStream,
    frame: Vec<u8>,
    waits: bool,
    open: bool,
}

impl Line {
    /// Reads what is there and answers what needs no commit. An error ends the line.
    fn listen(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 512];
        let n = match self.stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        for byte in &buffer[..n] {
            match *byte {
                ENQ => self.stream.write_all(&[ACK])?,
                EOT => {}
                byte => self.frame.push(byte),
            }
        }
        self.waits = self.frame.ends_with(b"\n");
        Ok(())
    }
}

fn serve(listeners: &[TcpListener], mut database: Loop, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for listener in listeners {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        lines.push(Line { stream, frame: Vec::new(), waits: false, open: true });
    }
    let mut group_began = Instant::now();
    while !stop.load(Ordering::Relaxed) && lines.iter().any(|line| line.open) {
        for line in lines.iter_mut().filter(|line| line.open && !line.waits) {
            line.open = line.listen().is_ok();
        }
        let waiting = lines.iter().filter(|line| line.waits).count();
        let complete = waiting == lines.iter().filter(|line| line.open).count();
        if waiting > 0 && (complete || group_began.elapsed() >= PATIENCE) {
            database.commit(lines.iter().filter(|line| line.waits).map(|line| line.frame.as_slice()))?;
            for line in lines.iter_mut().filter(|line| line.waits) {
                line.frame.clear();
                line.waits = false;
                line.open = line.stream.write_all(&[ACK]).is_ok();
            }
            group_began = Instant::now();
        }
    }
    Ok(())
}
