//! What the simulated EHR remembers: the chart that a test or the demo compares with what was sent.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::{Behaviour, EhrError};
use crate::delivery::config::Protocol;
use crate::wire::hex;
use crate::wire::mllp::msh;

/// One message that arrived, stored or not.
#[derive(Clone, Serialize)]
pub struct Arrival {
    /// Counts everything that arrives, from 1.
    pub number: u64,
    /// When it arrived, on this machine's steady clock.
    #[serde(skip)]
    pub at: Instant,
    /// When it arrived.
    pub time: Timestamp,
    /// How it came.
    pub protocol: Protocol,
    /// MSH-10, the Bundle's identifier, or method and address of a single write.
    pub message_id: String,
    /// SHA-256 of the bytes, in hexadecimal.
    pub digest: String,
    /// Specimen ids named in the message.
    pub specimens: Vec<String>,
    /// OBX segments or Observation resources.
    pub results: usize,
    /// How it was treated.
    pub behaviour: String,
    /// Whether it is in the chart.
    pub stored: bool,
    /// Whether the sender was told so clearly.
    pub clean: bool,
    /// The message, when the options say to keep it.
    #[serde(skip)]
    pub body: Vec<u8>,
}

/// What the chart holds, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Everything that arrived, whatever became of it.
    pub arrived: usize,
    /// Different messages in the chart.
    pub stored: usize,
    /// Results in those.
    pub results: usize,
    /// Messages stored again with the same id and the same bytes: the receiver can tell them.
    pub repeated: usize,
    /// Of those, the ones that came again although the sender had been told clearly.
    pub repeated_after_answer: usize,
    /// Messages stored again with the same id and other bytes. Must stay 0.
    pub conflicting: usize,
    /// How often each behaviour was shown.
    pub behaviours: BTreeMap<String, usize>,
}

/// A message as a server read it.
pub(super) struct Message<'a> {
    pub protocol: Protocol,
    pub message_id: String,
    pub specimens: Vec<String>,
    pub results: usize,
    pub body: &'a [u8],
}

pub(super) struct Record {
    inner: Mutex<Inner>,
    keep_bodies: bool,
}

struct Inner {
    arrivals: Vec<Arrival>,
    ledger: Option<File>,
    previous_id: String,
}

impl Record {
    pub(super) fn new(ledger: Option<PathBuf>, keep_bodies: bool) -> Result<Self, EhrError> {
        let open = |file: PathBuf| match File::options().create(true).append(true).open(&file) {
            Ok(open) => Ok(open),
            Err(source) => Err(EhrError::Ledger { file, source }),
        };
        let ledger = ledger.map(open).transpose()?;
        let inner = Inner { arrivals: Vec::new(), ledger, previous_id: String::new() };
        Ok(Record { inner: Mutex::new(inner), keep_bodies })
    }

    /// Notes a message before it is answered. `treat` decides by its number and id; returned are the decision and the id of
    /// the message before.
    pub(super) fn arrived(
        &self,
        message: Message<'_>,
        treat: impl FnOnce(u64, &str) -> Behaviour,
    ) -> (Behaviour, String) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let number = inner.arrivals.len() as u64 + 1;
        let behaviour = treat(number, &message.message_id);
        let arrival = Arrival {
            number,
            at: Instant::now(),
            time: Timestamp::now(),
            protocol: message.protocol,
            message_id: message.message_id.clone(),
            digest: hex::digits(digest(&SHA256, message.body).as_ref()),
            specimens: message.specimens,
            results: message.results,
            behaviour: behaviour.to_string(),
            stored: behaviour.stores(),
            clean: behaviour.is_clean(),
            body: if self.keep_bodies { message.body.to_vec() } else { Vec::new() },
        };
        if let (Some(ledger), Ok(mut line)) = (&mut inner.ledger, serde_json::to_vec(&arrival)) {
            line.push(b'\n');
            // A simulator whose ledger cannot be written goes on; its record in memory is whole.
            let _ = ledger.write_all(&line);
        }
        inner.arrivals.push(arrival);
        let previous = std::mem::replace(&mut inner.previous_id, message.message_id);
        (behaviour, previous)
    }

    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).arrivals.clone()
    }

    pub(super) fn account(&self) -> Account {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut account = Account { arrived: inner.arrivals.len(), ..Account::default() };
        let mut seen: HashMap<&str, (&str, bool)> = HashMap::new();
        for arrival in &inner.arrivals {
            *account.behaviours.entry(arrival.behaviour.clone()).or_default() += 1;
            if !arrival.stored {
                continue;
            }
            match seen.insert(&arrival.message_id, (&arrival.digest, arrival.clean)) {
                None => {
                    account.stored += 1;
                    account.results += arrival.results;
                }
                Some((digest, clean)) if digest == arrival.digest => {
                    account.repeated += 1;
                    account.repeated_after_answer += usize::from(clean);
                }
                Some(_) => account.conflicting += 1,
            }
        }
        account
    }
}

impl std::fmt::Debug for Arrival {
    /// Without specimen ids and bytes: simulated patients are treated like real ones (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{} {} {} stored={}", self.number, self.message_id, self.behaviour, self.stored)
    }
}

/// Reads what the record needs from an HL7 message: MSH-10, the ids of SPM-2, OBR-2 and OBR-3, and the OBX count.
pub(super) fn hl7(body: &[u8]) -> Message<'_> {
    let header = msh(body);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let message_id = header.map(|h| text(h.field(10))).unwrap_or_default();
    let separator = header.map_or(b'|', |h| h.field_separator);
    let (component, subcomponent) =
        header.map_or((b'^', b'&'), |h| (h.component_separator(), h.subcomponent_separator()));
    let mut specimens = Vec::new();
    let mut results = 0;
    for segment in body.split(|b| matches!(b, b'\r' | b'\n')) {
        let fields: Vec<&[u8]> = segment.split(|&b| b == separator).collect();
        let wanted: &[usize] = match fields.first().copied() {
            Some(b"SPM") => &[2],
            Some(b"OBR") => &[2, 3],
            Some(b"OBX") => {
                results += 1;
                continue;
            }
            _ => continue,
        };
        let values = wanted.iter().filter_map(|n| fields.get(*n));
        for part in values.flat_map(|v| v.split(|&b| b == component)) {
            let id = text(part.split(|&b| b == subcomponent).next().unwrap_or_default());
            if !id.is_empty() && !specimens.contains(&id) {
                specimens.push(id);
            }
        }
    }
    Message { protocol: Protocol::Mllp, message_id, specimens, results, body }
}
