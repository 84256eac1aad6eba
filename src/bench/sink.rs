//! The bench's EHR: an MLLP receiver that answers at once or after a while, and notes when each specimen arrived.

use crate::wire::mllp;
use anyhow::{Context, bail};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Specimens remembered; the bench waits for one at a time.
const REMEMBERED_MAX: usize = 4096;

/// A running receiver. It lives as long as the process.
pub struct Sink {
    port: u16,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

#[derive(Default)]
struct Seen {
    count: u64,
    specimens: HashMap<String, Instant>,
}

impl Sink {
    /// Listens on a port of its own and takes this long for an answer.
    pub fn start(thinks: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let shared = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = shared.clone();
                std::thread::spawn(move || serve(stream, &seen, thinks));
            }
        });
        Ok(Sink { port, seen })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Messages received so far.
    pub fn received(&self) -> u64 {
        self.seen.0.lock().map_or(0, |seen| seen.count)
    }

    /// Waits until this specimen arrives and tells when it did.
    pub fn wait_for(&self, specimen: &str, time: Duration) -> anyhow::Result<Instant> {
        let (seen, arrived) = (&self.seen.0, &self.seen.1);
        let guard = seen.lock().map_err(|_| anyhow::anyhow!("the bench's EHR died"))?;
        let (mut guard, _) = arrived
            .wait_timeout_while(guard, time, |seen| !seen.specimens.contains_key(specimen))
            .map_err(|_| anyhow::anyhow!("the bench's EHR died"))?;
        guard.specimens.remove(specimen).with_context(|| format!("{specimen} did not reach the EHR within {time:?}"))
    }

    /// Messages a second this receiver takes from a plain sender, one at a time.
    pub fn direct_rate(&self, time: Duration) -> anyhow::Result<f64> {
        let mut line = TcpStream::connect(("127.0.0.1", self.port))?;
        line.set_nodelay(true)?;
        let message = mllp::frame(
            b"MSH|^~\\&|BENCH||EHR||20260301120000||ORU^R01^ORU_R01|DIRECT|P|2.5.1\rOBR|1||D|T01^^L\r\
              OBX|1|NM|T01^^L||1.007|mmol/L|||||F\rOBX|2|NM|T02^^L||2.014|mmol/L|||||F\r",
        );
        let (began, mut count, mut buffer) = (Instant::now(), 0_u64, [0; 4096]);
        while began.elapsed() < time {
            line.write_all(&message)?;
            let mut got = Vec::new();
            while !got.ends_with(&[0x1C, 0x0D]) {
                let n = line.read(&mut buffer)?;
                if n == 0 {
                    bail!("the bench's EHR closed");
                }
                got.extend_from_slice(&buffer[..n]);
            }
            count += 1;
        }
        Ok(count as f64 / began.elapsed().as_secs_f64())
    }
}

fn serve(mut stream: TcpStream, seen: &(Mutex<Seen>, Condvar), thinks: Duration) {
    let _ = stream.set_nodelay(true);
    let (mut pending, mut buffer) = (Vec::new(), [0; 64 * 1024]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => pending.extend_from_slice(&buffer[..n]),
        }
        while let Some(end) = pending.windows(2).position(|w| w == [0x1C, 0x0D]) {
            let message: Vec<u8> = pending.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&message);
            let field = |segment: &str, at: usize| {
                let line = text.trim_start_matches('\u{b}').split('\r').find(|s| s.starts_with(segment))?.to_string();
                line.split('|').nth(at).map(|f| f.to_string())
            };
            let id = field("MSH", 9).unwrap_or_default();
            if let Ok(mut guard) = seen.0.lock() {
                guard.count += 1;
                if guard.specimens.len() >= REMEMBERED_MAX {
                    guard.specimens.clear();
                }
                for candidate in [field("SPM", 2), field("OBR", 3), field("OBR", 2)].into_iter().flatten() {
                    for part in candidate.split(['^', '&']) {
                        guard.specimens.insert(part.to_string(), Instant::now());
                    }
                }
                seen.1.notify_all();
            }
            if !thinks.is_zero() {
                std::thread::sleep(thinks);
            }
            let answer = format!("MSH|^~\\&|EHR||AFFERENT||20260301120000||ACK^R01^ACK|A{id}|P|2.5.1\rMSA|AA|{id}\r");
            if stream.write_all(&mllp::frame(answer.as_bytes())).is_err() {
                return;
            }
        }
    }
}
