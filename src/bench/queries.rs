//! How long an analyzer waits for the orders it asks for: from its question to the end of the host's answer.
//!
//! In it are the commit of the question, the look-up and the frames of the answer. The analyzer acknowledges at once, so
//! nothing of it is its own.

use super::child::Child;
use super::{Percentiles, ms};
use crate::clinical::{Coding, OrderNumber, OrderedTest, Phi, WorkOrder};
use crate::journal::{self, Journal, OrderChange};
use crate::wire::astm::{ACK, ENQ, EOT, LF, encode_frame};
use crate::wire::{Persist, Token};
use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tubes with an order each; every one is asked for once.
const TUBES: usize = 300;
/// What the link has to say so that its instrument is answered.
const LINK: &str = "driver = \"roche-cobas-e411\"\norder_codes = [\"TSH = 10\"]\n";

/// Milliseconds from question to answer.
pub fn measure(dir: &Path, ehr: u16) -> anyhow::Result<Percentiles> {
    let data = dir.join("queries");
    place(&data)?;
    let gateway = Child::start_with(&data, 1, ehr, LINK, "")?;
    let mut line = TcpStream::connect(("127.0.0.1", gateway.port(0))).context("the gateway's link does not answer")?;
    line.set_nodelay(true)?;
    line.set_read_timeout(Some(Duration::from_secs(20)))?;
    let took = (0..TUBES).map(|number| ask(&mut line, number)).collect::<anyhow::Result<Vec<f64>>>()?;
    drop(line);
    gateway.stop()?;
    Ok(Percentiles::of(took))
}

/// Puts the orders into a fresh journal, as the EHR's messages would.
fn place(data: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(data)?;
    let journal = Journal::open(data, &journal::Config { quota_mb: 0, ..journal::Config::default() })?;
    let order = |number: usize| {
        let mut order = WorkOrder {
            placer_order_number: OrderNumber::new(format!("N{number}")),
            tests: vec![OrderedTest { universal_service_id: Coding::local("TSH", ""), alternate: None }],
            ..WorkOrder::default()
        };
        order.specimen.id = Phi::new(tube(number));
        order.patient.patient.id = Phi::new(format!("P{number}"));
        OrderChange::New(Box::new(order))
    };
    let part = Persist { token: Token(1), session: 1, bytes: b"orders".to_vec(), completes: true, identity: None };
    let links: Arc<[String]> = Arc::new(["link-0".to_string()]);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime
        .block_on(journal.persist_orders("ehr", 1, part, (0..TUBES).map(order).collect(), None, links))
        .map_err(|refused| anyhow::anyhow!("the journal took no orders: {:?}", refused.reason))?;
    journal.close();
    Ok(())
}

fn tube(number: usize) -> String {
    format!("TUBE-{number:05}")
}

/// Asks for one tube; how long it took until its order was there.
fn ask(line: &mut TcpStream, number: usize) -> anyhow::Result<f64> {
    let text = format!(
        "H|\\^&|||cobas-e411^1|||||host|TSREQ^REAL|P|1\rQ|1|^^{}^1^0^1^^S1^SC||ALL||||||||O\rL|1|N\r",
        tube(number)
    );
    line.write_all(&[ENQ])?;
    expect(line, ACK)?;
    let asked = Instant::now();
    line.write_all(&encode_frame(1, text.as_bytes(), true))?;
    expect(line, ACK)?;
    line.write_all(&[EOT])?;
    expect(line, ENQ)?;
    let mut answer = Vec::new();
    let mut answered = asked;
    loop {
        line.write_all(&[ACK])?;
        let mut byte = [0];
        while !matches!(byte, [LF] | [EOT]) {
            line.read_exact(&mut byte).context("the gateway did not answer")?;
            answer.push(byte[0]);
        }
        if byte == [EOT] {
            break;
        }
        answered = Instant::now();
    }
    // What was not told would not be an answer.
    match String::from_utf8_lossy(&answer).contains(&format!("|{}|1^0^1^^S1^SC|^^^10^|", tube(number))) {
        true => Ok(ms(answered.saturating_duration_since(asked))),
        false => bail!("the gateway did not tell of the order"),
    }
}

fn expect(line: &mut TcpStream, wanted: u8) -> anyhow::Result<()> {
    let mut byte = [0];
    line.read_exact(&mut byte).context("the gateway did not answer")?;
    if byte != [wanted] {
        bail!("the gateway answered {:02X}, expected {wanted:02X}", byte[0]);
    }
    Ok(())
}
