//! The promises of the journal, by invariant.

mod child;
mod clock;
mod custody;
mod entrusted;
mod instances;
mod lanes;
mod model;
mod orders;
mod storage;
mod studies;

use super::*;
use crate::wire::{Custody, Token};

pub(super) const LINK: &str = "chemistry";
pub(super) const EHR: &str = "ehr";

pub(super) struct Bench {
    pub data: tempfile::TempDir,
    pub config: Config,
    pub journal: Journal,
    pub runtime: tokio::runtime::Runtime,
    token: u64,
}

impl Bench {
    pub(super) fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = Config { free_min_mb: 0, ..Config::default() };
        let journal = Journal::open(data.path(), &config).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Bench { data, config, journal, runtime, token: 0 }
    }

    pub(super) fn restart(self) -> Self {
        let Bench { data, config, journal, runtime, token } = self;
        journal.close();
        let journal = Journal::open(data.path(), &config).unwrap();
        Bench { data, config, journal, runtime, token }
    }

    pub(super) fn persist(&mut self, session: u64, bytes: &[u8], completes: bool) -> Result<Receipt, Refused> {
        self.persist_named(session, bytes, completes, None)
    }

    pub(super) fn persist_named(
        &mut self,
        session: u64,
        bytes: &[u8],
        completes: bool,
        identity: Option<&[u8]>,
    ) -> Result<Receipt, Refused> {
        self.token += 1;
        let part = Persist {
            token: Token(self.token),
            session,
            bytes: bytes.to_vec(),
            completes,
            identity: identity.map(<[u8]>::to_vec),
        };
        self.runtime.block_on(self.journal.persist(LINK, 1, part))
    }

    pub(super) fn pending(&self) -> Vec<Entry> {
        self.journal.reader().unwrap().pending_entries(100).unwrap()
    }

    /// Persists a message and files one report of `results` results with these messages in these lanes.
    pub(super) fn filed(&mut self, session: u64, lanes: &[&str], held: u32) -> Filed {
        self.persist(session, format!("message {session}").as_bytes(), true).unwrap();
        let entry = self.pending().last().unwrap().id;
        self.journal.file(filing(entry, lanes, held)).unwrap()
    }

    pub(super) fn claim(&self, limit: usize) -> Vec<Outbound> {
        self.runtime.block_on(self.journal.claim(EHR, limit)).unwrap()
    }

    pub(super) fn settle(&self, id: OutboxId, how: Settlement) {
        self.runtime.block_on(self.journal.settle(id, how)).unwrap();
    }

    pub(super) fn deliver(&self, id: OutboxId) {
        self.settle(id, Settlement::Delivered { answer: "AA".to_string() });
    }

    pub(super) fn account(&self) -> Account {
        self.journal.reader().unwrap().account().unwrap()
    }

    /// A connection that does what a broken disk does.
    pub(super) fn sabotage(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.data.path().join(schema::FILE)).unwrap()
    }
}

/// One report for each lane, each with one result in one message, and one report with `held` held results.
pub(super) fn filing(entry: EntryId, lanes: &[&str], held: u32) -> Filing {
    let report = |n: usize, lane: &str| FiledReport {
        subject_key: format!("{lane} {n} {entry}").into_bytes(),
        content_key: b"5.0".to_vec(),
        completed_at_s: Some(1),
        repeat_of: None,
        lookups: vec![(Lookup::Specimen, lane.to_string())],
        json: b"{}".to_vec(),
        results: 1,
        decisions: String::new(),
        holds: Vec::new(),
        outbox: vec![NewOutbound {
            destination: EHR.to_string(),
            lane: lane.to_string(),
            message_id: format!("{entry}-{n}"),
            body: format!("MSH {entry} {n} {lane}").into_bytes(),
            results: 1,
            charted: Vec::new(),
        }],
        answered: Vec::new(),
        orders_as_of: 0,
    };
    let mut reports: Vec<FiledReport> = lanes.iter().enumerate().map(|(n, lane)| report(n, lane)).collect();
    if held > 0 {
        let holds = (0..held)
            .map(|observation| NewHold {
                observation,
                grounds: Grounds { reason: "unmapped-code", rule: None, why: String::new() },
            })
            .collect();
        reports.push(FiledReport { results: held, holds, outbox: Vec::new(), ..report(99, "held") });
    }
    Filing {
        entry,
        driver: "generic-astm@1".to_string(),
        inbound_results: lanes.len() as u32 + held,
        refused: Vec::new(),
        reports,
        covers: Vec::new(),
        placement: None,
    }
}

#[test]
fn a_receipt_names_the_request_it_is_for() {
    let mut bench = Bench::new();
    assert_eq!(bench.persist(1, b"x", true).unwrap().token(), Token(1));
    assert_eq!(bench.persist(2, b"x", true).unwrap().token(), Token(2));
}

#[test]
fn a_second_gateway_on_the_same_data_is_refused() {
    let bench = Bench::new();
    assert!(matches!(Journal::open(bench.data.path(), &bench.config), Err(OpenError::InUse(_))));
}

#[test]
fn a_closed_journal_refuses_and_says_so() {
    let mut bench = Bench::new();
    bench.journal.clone().close();
    assert_eq!(bench.persist(1, b"x", true).unwrap_err().reason, Refusal::Storage);
    assert_eq!(bench.journal.operate(OperatorAction::Requeue { outbox: vec![] }), Err(JournalError::Closed));
}

/// The steps in which a fresh journal would answer this.
pub(super) fn plan_of(sql: &str) -> Vec<String> {
    let data = tempfile::tempdir().unwrap();
    Journal::open(data.path(), &Config { free_min_mb: 0, ..Config::default() }).unwrap().close();
    let conn = rusqlite::Connection::open(data.path().join("journal.db")).unwrap();
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let (mut rows, mut steps) = (statement.raw_query(), Vec::new());
    while let Some(row) = rows.next().unwrap() {
        steps.push(row.get::<_, String>(3).unwrap());
    }
    steps
}
