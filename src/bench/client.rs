//! Instruments of the bench: stop and wait, one frame a record, as fast as the acknowledgements come.

use crate::wire::astm::{ACK, ENQ, EOT, encode_frame};
use anyhow::{Context, bail};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        self.exchange(&[ENQ])?;
        let mut last = Instant::now();
        for frame in frames(specimen, results) {
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
        acknowledged(reply)
    }
}

fn frames(specimen: &str, results: usize) -> Vec<Vec<u8>> {
    let mut records = vec![
        "H|\\^&|||BENCH^1^1.0|||||||P|LIS2-A2|\r".to_string(),
        "P|1||||\r".to_string(),
        format!("O|1|{specimen}||^^^ALL|R||||||||||||||||||||F\r"),
    ];
    records.extend((1..=results).map(result));
    records.push("L|1|N\r".to_string());
    (1..).zip(records).map(|(at, record)| encode_frame((at % 8) as u8, record.as_bytes(), true)).collect()
}

fn acknowledged(reply: [u8; 1]) -> anyhow::Result<()> {
    match reply {
        [ACK] => Ok(()),
        [other] => bail!("the gateway answered {other:02X} where ACK was due"),
    }
}

/// Frames acknowledged per second over `time` with one instrument on each of these ports.
///
/// Instruments have processors of their own; here they share one thread, so that they take as little as they can from
/// the gateway that is measured.
pub fn flood(ports: &[u16], results: usize, round: usize, time: Duration) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let frames = Rc::new(Cell::new(0_u64));
    let began = Instant::now();
    let lines: Vec<_> = (0..)
        .zip(ports)
        .map(|(link, port)| pour(*port, format!("F{round}-{link:02}"), results, began + time, frames.clone()))
        .collect();
    let set = tokio::task::LocalSet::new();
    let lines: Vec<_> = lines.into_iter().map(|line| set.spawn_local(line)).collect();
    runtime.block_on(set.run_until(async {
        for line in lines {
            line.await??;
        }
        anyhow::Ok(())
    }))?;
    Ok(frames.get() as f64 / began.elapsed().as_secs_f64())
}

/// One instrument sends message after message until `end`.
async fn pour(port: u16, name: String, results: usize, end: Instant, count: Rc<Cell<u64>>) -> anyhow::Result<()> {
    let mut line = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    line.set_nodelay(true)?;
    for n in 0.. {
        if Instant::now() >= end {
            break;
        }
        say(&mut line, &[ENQ]).await?;
        for frame in frames(&format!("{name}-{n:06}"), results) {
            say(&mut line, &frame).await?;
            count.set(count.get() + 1);
        }
        line.write_all(&[EOT]).await?;
    }
    Ok(())
}

/// Sends and waits for the acknowledgement.
async fn say(line: &mut tokio::net::TcpStream, bytes: &[u8]) -> anyhow::Result<()> {
    line.write_all(bytes).await?;
    // Room for more than is due: a read that fills its buffer would be followed by one in vain.
    let mut reply = [0; 2];
    match line.read(&mut reply).await? {
        1 => acknowledged([reply[0]]),
        n => bail!("the gateway answered with {n} characters where ACK was due"),
    }
}
