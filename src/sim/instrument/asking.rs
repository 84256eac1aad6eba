//! A simulated analyzer that asks for its orders before it measures: IHE LAW as a full peer (LAB-27, LAB-28, LAB-29)
//! and the older HL7 host queries.

use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::faults::{Fault, Faults};
use super::line::{Line, Plug, Stream};
use crate::sim::random::Random;
use crate::wire::Protocol;
use crate::wire::mllp::{self, Framer, Item};

/// How long an answer may take, scaled. Longer than a gateway waits before it sends an order again.
const ANSWER_MAX: Duration = Duration::from_secs(45);
/// Pause before the line is opened again, scaled.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Tries to ask for one tube.
const TRIES: u32 = 5;

/// How an analyzer asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `QBP^Q11`, orders in `OML^O33`, results in `OUL^R22`.
    Law,
    /// `QBP^Z03`, orders in the reply.
    GeneXpert,
    /// `QRY^Q02`, orders in `DSR^Q03`.
    Display,
    /// `ORM^O01`, the order in `ORR^O02`.
    OrderMessage,
}

/// What an asking analyzer is and does.
#[derive(Clone)]
pub struct Asking {
    /// Where it is plugged in.
    pub line: Line,
    /// How it asks.
    pub dialect: Dialect,
    /// The ids on the tubes it finds, one after the other.
    pub tubes: Vec<String>,
    /// What goes wrong: noise before a query, a query that comes twice (`dup-frame`), a line that is cut behind one, an
    /// order whose answer is lost (`dropped-ack`).
    pub faults: Faults,
    /// Same seed, same faults.
    pub seed: u64,
    /// Shrinks every timer.
    pub time_scale: f64,
}

/// What an analyzer was told of one tube.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The id it asked with.
    pub tube: String,
    /// How the query fared: QAK-2, or MSA-1 where there is none; in ASTM the code of the terminator.
    pub reply: String,
    /// The orders: numbers in LAW, the instrument's codes in the other dialects.
    pub orders: Vec<String>,
    /// Results that were acknowledged (LAW and ASTM).
    pub results_acknowledged: u64,
    /// Orders that came once more, unchanged, because no answer was seen.
    pub repeats: u64,
    /// Orders that were taken back (ASTM only).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cancelled: Vec<String>,
    /// What went wrong on purpose meanwhile (ASTM only).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<&'static str>,
    /// What no gateway may do.
    pub violations: u64,
}

/// Asks for every tube, again and again where the line goes away.
///
/// # Errors
/// The line cannot be set up, or nothing is heard on it.
pub async fn run(asking: &Asking) -> io::Result<Vec<Told>> {
    let plug = Plug::new(asking.line.clone()).await?;
    let mut random = Random::new(asking.seed);
    let (mut all, mut tries) = (Vec::new(), 0);
    'line: loop {
        let stream = plug.connect().await;
        let mut talk = Talk { stream, framer: Framer::new(mllp::MESSAGE_MAX), heard: Vec::new(), asking };
        while let Some(tube) = asking.tubes.get(all.len()) {
            tries += 1;
            // Only first tries go wrong, so that every tube is asked for in the end.
            let fault = (tries == 1).then(|| asking.faults.pick(&mut random, Protocol::Hl7)).flatten();
            match talk.ask(tube, all.len(), fault).await {
                Ok(told) => {
                    all.push(told);
                    tries = 0;
                }
                Err(error) if tries >= TRIES => return Err(error),
                Err(_) => {
                    drop(talk);
                    tokio::time::sleep(RETRY_PAUSE.mul_f64(asking.time_scale)).await;
                    continue 'line;
                }
            }
        }
        return Ok(all);
    }
}

struct Talk<'t> {
    stream: Box<dyn Stream + 't>,
    framer: Framer,
    heard: Vec<String>,
    asking: &'t Asking,
}

impl Talk<'_> {
    async fn ask(&mut self, tube: &str, number: usize, fault: Option<Fault>) -> io::Result<Told> {
        let mut told = Told { tube: tube.to_string(), ..Told::default() };
        let id = format!("Q{}", number + 1);
        let query = query(self.asking.dialect, &id, tube);
        let copies = match fault {
            Some(Fault::Noise) => {
                self.stream.write_all(b"\x02\x02 noise\0").await?;
                1
            }
            Some(Fault::DupFrame) => 2,
            _ => 1,
        };
        for _ in 0..copies {
            self.say(&query).await?;
        }
        if fault == Some(Fault::Cut) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        for copy in 0..copies {
            let reply = self.hear().await?;
            told.violations += u64::from(field(&reply, "MSA", 2) != id);
            let fared = if reply.contains("\rQAK|") { field(&reply, "QAK", 2) } else { field(&reply, "MSA", 1) };
            told.reply = fared.to_string();
            let follows = match self.asking.dialect {
                Dialect::Law => matches!(fared, "OK" | "NF"),
                Dialect::Display => fared == "OK",
                Dialect::GeneXpert | Dialect::OrderMessage => false,
            };
            let orders = if follows { self.hear().await? } else { reply };
            told.orders = ordered(self.asking.dialect, &orders);
            if !follows {
                continue;
            }
            if fault == Some(Fault::DroppedAck) && copy == 0 {
                let again = self.hear().await?;
                told.repeats += 1;
                told.violations += u64::from(again != orders);
            }
            self.say(&answer(self.asking.dialect, &orders)).await?;
        }
        if self.asking.dialect == Dialect::Law {
            for (at, order) in told.orders.clone().iter().enumerate() {
                self.say(&result(&format!("{id}R{at}"), tube, order)).await?;
                let acknowledged = field(&self.hear().await?, "MSA", 1) == "AA";
                told.results_acknowledged += u64::from(acknowledged);
            }
        }
        Ok(told)
    }

    async fn say(&mut self, message: &str) -> io::Result<()> {
        self.stream.write_all(&mllp::frame(message.as_bytes())).await?;
        self.stream.flush().await
    }

    /// The next message.
    async fn hear(&mut self) -> io::Result<String> {
        let deadline = Instant::now() + ANSWER_MAX.mul_f64(self.asking.time_scale);
        let mut buffer = [0; 4096];
        while self.heard.is_empty() {
            let read = tokio::time::timeout_at(deadline, self.stream.read(&mut buffer)).await;
            let count = read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for item in self.framer.push(buffer.get(..count).unwrap_or_default()) {
                if let Item::Message(message) = item {
                    self.heard.push(String::from_utf8_lossy(&message).into_owned());
                }
            }
        }
        Ok(self.heard.remove(0))
    }
}

fn query(dialect: Dialect, id: &str, tube: &str) -> String {
    let now = now();
    match dialect {
        Dialect::Law => format!(
            "MSH|^~\\&|SIMULATED|LAB|||{now}||QBP^Q11^QBP_Q11|{id}|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-27^IHE\r\
             QPD|WOS^Work Order Step^IHELAW|T{id}|{tube}\rRCP|I||R^^HL70394\r"
        ),
        Dialect::GeneXpert => format!(
            "MSH|^~\\&|SIMULATED^GeneXpert^1.0||LIS||{now}||QBP^Z03^QBP_Z03|{id}|P|2.5\r\
             QPD|Z03^HOST QUERY|T{id}||{tube}\rRCP|I\r"
        ),
        Dialect::Display => format!(
            "MSH|^~\\&|Mindray|SIMULATED|||{now}||QRY^Q02|{id}|P|2.3.1||||||ASCII\r\
             QRD|{now}|R|D|1|||RD|{tube}|OTH|||T|\rQRF|SIMULATED|||||RCT|COR|ALL||\r"
        ),
        Dialect::OrderMessage => {
            format!("MSH|^~\\&|SIMULATED|Mindray|||{now}||ORM^O01|{id}|P|2.3.1||||||UNICODE\rORC|RF||{tube}||IP\r")
        }
    }
}

/// What a message orders.
fn ordered(dialect: Dialect, message: &str) -> Vec<String> {
    let segments = message.split('\r').map(|segment| segment.split('|').collect::<Vec<_>>());
    let part = |fields: &[&str], at: usize| {
        fields.get(at).copied().unwrap_or_default().split('^').next().unwrap_or_default().to_string()
    };
    let order = |fields: Vec<&str>| match (dialect, fields.first().copied()) {
        (Dialect::Law, Some("ORC")) if fields.get(1) == Some(&"NW") => Some(part(&fields, 2)),
        (Dialect::GeneXpert | Dialect::OrderMessage, Some("OBR")) => Some(part(&fields, 4)),
        (Dialect::Display, Some("DSP")) if part(&fields, 1).parse::<u32>().is_ok_and(|line| line > 28) => {
            Some(part(&fields, 3))
        }
        _ => None,
    };
    segments.filter_map(order).collect()
}

/// Accepts everything a message orders.
fn answer(dialect: Dialect, orders: &str) -> String {
    let (id, now) = (field(orders, "MSH", 9), now());
    if dialect == Dialect::Display {
        return format!(
            "MSH|^~\\&|Mindray|SIMULATED|||{now}||ACK^Q03|A{id}|P|2.3.1||||||ASCII\rMSA|AA|{id}|Message accepted|||0\r"
        );
    }
    let accepted: String = ordered(dialect, orders).iter().map(|number| format!("ORC|OK|{number}|||SC\r")).collect();
    format!(
        "MSH|^~\\&|SIMULATED|LAB|||{now}||ORL^O34^ORL_O42|A{id}|P|2.5.1|||ER|NE||UNICODE UTF-8|||LAB-28^IHE\r\
         MSA|AA|{id}\r{accepted}"
    )
}

/// One result for an order (LAB-29).
fn result(id: &str, tube: &str, order: &str) -> String {
    let now = now();
    format!(
        "MSH|^~\\&|SIMULATED|LAB|||{now}||OUL^R22^OUL_R22|{id}|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-29^IHE\r\
         SPM|1|||SER^Serum^HL70487|||||||P^Patient^HL70369\rSAC|||{tube}\r\
         OBR|1|{order}||GLU^Glucose^L\rORC|OK||||CM||||{now}\r\
         OBX|1|NM|GLU^Glucose^L|1|5.40|mmol/L||N|||F|||||SIM||SIMULATED^MAKER|{now}\r"
    )
}

fn now() -> String {
    jiff::Zoned::now().strftime("%Y%m%d%H%M%S").to_string()
}

/// A field of the first such segment, counted by separators.
fn field<'m>(message: &'m str, segment: &str, at: usize) -> &'m str {
    let found = message.split('\r').find(|line| line.starts_with(segment)).unwrap_or_default();
    found.split('|').nth(at).unwrap_or_default()
}
