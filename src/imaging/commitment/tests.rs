//! What modalities are told over a journal: whose rows and files are damaged, who takes long, and who asks again.

use super::*;
use crate::journal::{Config, NewInstance};
use crate::message::dicom::commitment::{Reference, action, read_report};
use crate::wire::dimse::Arrival;
use tokio::sync::mpsc::{Receiver, channel};

const CLASS: &str = "1.2.840.10008.5.1.4.1.1.6.1";
const EXPLICIT: &str = uid::EXPLICIT_VR_LITTLE_ENDIAN;
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    data: tempfile::TempDir,
    journal: Journal,
    service: Arc<Commitments>,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

/// What a modality is told: what is committed, and what is not and why.
type Told = (Vec<String>, Vec<(String, u16)>);

impl Bench {
    fn new() -> Bench {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path(), &Config { free_min_mb: 0, ..Config::default() }).unwrap();
        let service = Commitments::new(&journal, "BOX", &[], Vec::new());
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(service.clone().run(stopped));
        Bench { data, journal, service, stop, running }
    }

    /// Stores an image; its entry.
    async fn store(&self, sop_instance_uid: &str) -> EntryId {
        let spooled = self.journal.spool().keep(b"DICM", sop_instance_uid.as_bytes()).unwrap();
        let arrival = Arrival {
            sop_class_uid: CLASS.to_string(),
            sop_instance_uid: sop_instance_uid.to_string(),
            transfer_syntax_uid: EXPLICIT.to_string(),
            calling_ae_title: "VIVID".to_string(),
            called_ae_title: "BOX".to_string(),
            message_id: 1,
        };
        let instance = NewInstance { arrival, spooled };
        self.journal.persist_instance("echo", Token(1), instance).await.unwrap().0.entry
    }

    fn path(&self, entry: EntryId) -> std::path::PathBuf {
        let stored = self.journal.reader().unwrap().instance(entry).unwrap().unwrap();
        self.data.path().join("spool").join(stored.spool)
    }

    /// Makes a pipe of an image's file, which nobody can open before somebody writes to it.
    fn block(&self, entry: EntryId) -> std::path::PathBuf {
        let path = self.path(entry);
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// A modality asks on an association of its own, on which it hears reports.
    async fn ask(&self, link: &str, uids: &[&str]) -> Receiver<EventReport> {
        let (reports, heard) = channel(4);
        self.ask_on(link, uids, reports).await;
        heard
    }

    async fn ask_on(&self, link: &str, uids: &[&str], reports: Sender<EventReport>) {
        self.ask_as("VIVID", "2.25.1", link, uids, reports).await;
    }

    async fn ask_as(&self, calling: &str, transaction: &str, link: &str, uids: &[&str], reports: Sender<EventReport>) {
        let of = |uid: &&str| Reference { sop_class_uid: CLASS.to_string(), sop_instance_uid: uid.to_string() };
        let request = Request { transaction_uid: transaction.to_string(), instances: uids.iter().map(of).collect() };
        let question = Question {
            sop_class_uid: uid::STORAGE_COMMITMENT.to_string(),
            sop_instance_uid: None,
            transfer_syntax_uid: EXPLICIT.to_string(),
            calling_ae_title: calling.to_string(),
            data_set: action(&request).write(Layout::of(EXPLICIT)),
        };
        assert_eq!(self.service.take(link, 1, question, reports).await.status, status::SUCCESS);
    }

    async fn stop(&mut self) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(PATIENCE, &mut self.running).await.unwrap().unwrap();
    }
}

/// The next report, as it came.
async fn next(heard: &mut Receiver<EventReport>) -> EventReport {
    tokio::time::timeout(PATIENCE, heard.recv()).await.expect("a report").unwrap()
}

/// The next report, read and answered.
async fn told(heard: &mut Receiver<EventReport>) -> Told {
    let EventReport { event_type_id, data_set, transfer_syntax_uid, answered } = next(heard).await;
    answered.send(status::SUCCESS).unwrap();
    let said = read_data_set(&data_set, &transfer_syntax_uid).data_set;
    let (failed, committed): (Vec<_>, Vec<_>) =
        read_report(event_type_id, &said).unwrap().outcomes.into_iter().partition(|(_, reason)| reason.is_some());
    let failed = failed.into_iter().map(|(uid, reason)| (uid, reason.unwrap())).collect();
    (committed.into_iter().map(|(uid, _)| uid).collect(), failed)
}

#[tokio::test]
async fn a_damaged_row_is_one_instance_that_is_not_safe() {
    let mut bench = Bench::new();
    let damaged = bench.store("1.1").await;
    bench.store("1.2").await;
    let rows = rusqlite::Connection::open(bench.data.path().join("journal.db")).unwrap();
    rows.execute("UPDATE instance SET sealed = x'00' WHERE entry = ?1", [damaged.0]).unwrap();
    let mut heard = bench.ask("echo", &["1.1", "1.2"]).await;
    let mut other = bench.ask("ct", &["1.2"]).await;
    assert_eq!(told(&mut heard).await, (vec!["1.2".to_string()], vec![("1.1".to_string(), 0x0110)]));
    assert_eq!(told(&mut other).await, (vec!["1.2".to_string()], vec![]));
    let only_here = bench.journal.reader().unwrap().stats(0).unwrap().only_here;
    assert_eq!(only_here, 1, "what a modality was told is safe is kept");
    bench.stop().await;
}

#[tokio::test]
async fn what_takes_long_to_read_keeps_neither_others_waiting_nor_the_end() {
    let mut bench = Bench::new();
    let long = bench.store("1.1").await;
    bench.store("1.2").await;
    let path = bench.block(long);
    let _heard = bench.ask("echo", &["1.1"]).await;
    let mut other = bench.ask("ct", &["1.2"]).await;
    assert_eq!(told(&mut other).await.0, ["1.2"]);
    // Modalities that nobody named share a link.
    let (reports, mut stranger) = channel(4);
    bench.ask_as("STRANGER", "2.25.2", "echo", &["1.2"], reports).await;
    assert_eq!(told(&mut stranger).await.0, ["1.2"]);
    bench.stop().await;
    // Whoever is still at it is let go.
    drop(std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap());
}

#[tokio::test]
async fn what_is_asked_again_while_it_is_told_is_told_again() {
    let mut bench = Bench::new();
    bench.store("1.1").await;
    let (reports, mut heard) = channel(4);
    bench.ask_on("echo", &["1.1"], reports.clone()).await;
    let first = next(&mut heard).await;
    // It asks again before the answer to the report is noted.
    bench.ask_on("echo", &["1.1"], reports).await;
    first.answered.send(status::SUCCESS).unwrap();
    assert_eq!(told(&mut heard).await.0, ["1.1"]);
    bench.stop().await;
}

#[tokio::test]
async fn i7_before_a_report_is_repeated_its_images_are_looked_at_and_kept_anew() {
    let mut bench = Bench::new();
    bench.store("1.1").await;
    let damaged = bench.store("1.2").await;
    let (reports, mut heard) = channel(4);
    bench.ask_on("echo", &["1.1", "1.2"], reports.clone()).await;
    next(&mut heard).await.answered.send(status::PROCESSING_FAILURE).unwrap();
    // Meanwhile one is damaged, and of the other it is not known any more that it was promised.
    std::fs::write(bench.path(damaged), b"DICM1.3").unwrap();
    let rows = rusqlite::Connection::open(bench.data.path().join("journal.db")).unwrap();
    rows.execute("UPDATE instance SET promised = 0", []).unwrap();
    bench.ask_on("echo", &["1.1", "1.2"], reports).await;
    assert_eq!(told(&mut heard).await, (vec!["1.1".to_string()], vec![("1.2".to_string(), 0x0110)]));
    assert_eq!(bench.journal.reader().unwrap().stats(0).unwrap().only_here, 1);
    bench.stop().await;
}

#[tokio::test]
async fn images_are_not_read_again_for_a_report_that_nobody_can_take() {
    let mut bench = Bench::new();
    let first = bench.store("1.1").await;
    bench.store("1.2").await;
    let mut heard = bench.ask("echo", &["1.1"]).await;
    next(&mut heard).await.answered.send(status::PROCESSING_FAILURE).unwrap();
    let path = bench.block(first);
    // The same modality again, which has the first one tried again before; at the latest the second time, when the report
    // of the first is sure to have failed.
    for transaction in ["2.25.2", "2.25.3"] {
        let (reports, mut heard) = channel(4);
        bench.ask_as("VIVID", transaction, "echo", &["1.2"], reports).await;
        assert_eq!(told(&mut heard).await.0, ["1.2"]);
    }
    bench.stop().await;
    drop(std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap());
}
