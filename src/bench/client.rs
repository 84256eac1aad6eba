//! Instruments of the bench: stop and wait, one frame a record, as fast as the acknowledgements come.

use super::child::Child;
use crate::wire::astm::{ACK, ENQ, EOT, encode_frame};
use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Length of a result record's frame, so that the bare loop commits rows of the same size.
pub fn frame_bytes() -> usize {
    encode_frame(1, result(1).as_bytes(), true).len()
}

fn result(number: usize) -> String {
    format!(
        "R|{number}|^^^T{number:02}|{}.{:03}|mmol/L|3.9 to 6.1|N||F||op||20260301120000|BENCH\r",
        number,
        number * 7
    )
}

/// One instrument on a TCP line.
pub struct Instrument {
    line: TcpStream,
}

impl Instrument {
    /// Connects to a link of the gateway.
    pub fn connect(port: u16) -> anyhow::Result<Self> {
        let line = TcpStream::connect(("127.0.0.1", port)).context("the gateway's link does not answer")?;
        line.set_nodelay(true)?;
        line.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Instrument { line })
    }

    /// Sends one whole message and notes the milliseconds of each frame's acknowledgement. Returns when the last
    /// frame left.
    pub fn message(&mut self, specimen: &str, results: usize, acks: &mut Vec<f64>) -> anyhow::Result<Instant> {
        let mut records = vec![
            "H|\\^&|||BENCH^1^1.0|||||||P|LIS2-A2|\r".to_string(),
            "P|1||||\r".to_string(),
            format!("O|1|{specimen}||^^^ALL|R||||||||||||||||||||F\r"),
        ];
        records.extend((1..=results).map(result));
        records.push("L|1|N\r".to_string());
        self.exchange(&[ENQ])?;
        let mut last = Instant::now();
        for (at, record) in records.iter().enumerate() {
            let frame = encode_frame(((at + 1) % 8) as u8, record.as_bytes(), true);
            last = Instant::now();
            self.exchange(&frame)?;
            acks.push(super::ms(last.elapsed()));
        }
        self.line.write_all(&[EOT])?;
        Ok(last)
    }

    fn exchange(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.line.write_all(bytes)?;
        let mut reply = [0];
        self.line.read_exact(&mut reply).context("the gateway did not answer")?;
        if reply != [ACK] {
            bail!("the gateway answered {:02X} where ACK was due", reply[0]);
        }
        Ok(())
    }
}

/// Frames acknowledged per second over `time` with one instrument on each of `links` links.
pub fn flood(gateway: &Child, links: usize, results: usize, round: usize, time: Duration) -> anyhow::Result<f64> {
    let (frames, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let outcome: anyhow::Result<()> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..links)
            .map(|link| {
                let (frames, stop) = (&frames, &stop);
                let port = gateway.port(link);
                scope.spawn(move || -> anyhow::Result<()> {
                    let mut instrument = Instrument::connect(port)?;
                    let mut acks = Vec::new();
                    for n in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        acks.clear();
                        instrument.message(&format!("F{round}-{link:02}-{n:06}"), results, &mut acks)?;
                        frames.fetch_add(acks.len() as u64, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("an instrument of the bench died"))??;
        }
        Ok(())
    });
    outcome?;
    Ok(frames.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}
