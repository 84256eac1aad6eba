//! Images an archive is to commit to: asked about until it did, sent again when it does not.

use super::*;

const CLASS: &str = "1.2.840.10008.5.1.4.1.1.6.1";
const HOUR: Duration = Duration::from_secs(3600);

impl Bench {
    /// Stores an image, files it for the archive and has it delivered; its entry and its message.
    fn entrust(&self, uid: &str) -> (EntryId, OutboxId) {
        let entry = self.store(uid, uid.as_bytes()).unwrap().entry;
        self.journal.file(filing(entry, &[uid], 0)).unwrap();
        (entry, self.hand_over())
    }

    /// Delivers the one message that is due.
    fn hand_over(&self) -> OutboxId {
        let rows = self.claim(2);
        assert_eq!(rows.len(), 1);
        self.settle(rows[0].id, Settlement::Entrusted { answer: "0000".to_string() });
        rows[0].id
    }

    fn due(&self, after: Duration) -> Vec<OutboxId> {
        let at = wall_clock_ms() + after.as_millis() as i64;
        self.journal.reader().unwrap().entrusted(EHR, at, 10).unwrap().into_iter().map(|e| e.id).collect()
    }

    fn ask_about(&self, transaction: &str, asked: &[(OutboxId, &str)]) {
        let asked = asked.iter().map(|(id, uid)| (*id, uid.to_string())).collect();
        self.runtime.block_on(self.journal.ask_for_commitment(transaction, asked, HOUR)).unwrap();
    }

    fn report(&self, transaction: &str, outcomes: &[(&str, Option<u16>)]) -> Noted {
        let outcomes = outcomes.iter().map(|(uid, why)| (uid.to_string(), *why)).collect();
        self.runtime.block_on(self.journal.note_report(transaction, outcomes)).unwrap()
    }

    fn standing(&self, uid: &str) -> Archives {
        match self.journal.reader().unwrap().instance_standing(uid, CLASS, &[EHR.to_string()]).unwrap() {
            InstanceStanding::Kept { archives, .. } => archives,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn i4_an_image_is_asked_about_until_it_is_committed_and_a_report_counts_once() {
    let bench = Bench::new();
    let (_, first) = bench.entrust("1.1");
    let (_, second) = bench.entrust("1.2");
    assert_eq!(bench.due(Duration::ZERO), [], "it waits a moment for others");
    assert_eq!(bench.due(HOUR), [first, second]);
    bench.ask_about("2.1", &[(first, "1.1"), (second, "1.2")]);
    let bench = bench.restart();
    assert_eq!(bench.due(HOUR / 2), [], "its report is awaited");
    assert_eq!(bench.due(HOUR * 2), [first, second], "it does not report: it is asked again");
    assert!(bench.standing("1.1").is_delivered() && !bench.standing("1.1").is_committed());
    let known = Noted { is_known: true, ..Noted::default() };
    assert_eq!(bench.report("2.1", &[("1.1", None)]), Noted { committed: 1, ..known });
    assert_eq!(bench.report("2.1", &[("1.1", None)]), known);
    assert_eq!(bench.report("2.2", &[("1.2", None)]), Noted::default(), "nothing was asked under this name");
    assert!(bench.standing("1.1").is_committed() && bench.standing("1.2").is_pending());
    assert_eq!(bench.due(HOUR * 2), [second]);
}

#[test]
fn i7_what_is_not_committed_is_sent_again_and_then_waits_for_a_person() {
    let bench = Bench::new();
    let (_, id) = bench.entrust("1.1");
    for round in 0..3 {
        bench.ask_about(&format!("2.{round}"), &[(id, "1.1")]);
        assert_eq!(bench.report(&format!("2.{round}"), &[("1.1", Some(0x0112)), ("1.1", None)]).failed, 1);
        let account = bench.account();
        if round < 2 {
            assert_eq!((account.queued, account.delivered), (1, 0), "it is on the way again");
            assert_eq!(bench.hand_over(), id, "the same message (I5)");
            let repeated = bench.report(&format!("2.{round}"), &[("1.1", Some(0x0112))]);
            assert_eq!(repeated, Noted { is_known: true, ..Noted::default() }, "it speaks of the time before");
        } else {
            assert_eq!((account.queued, account.parked), (0, 1));
        }
    }
    assert!(!bench.standing("1.1").is_pending() && !bench.standing("1.1").is_delivered());
    // A person has it sent once more, and everything begins anew.
    bench.journal.operate(OperatorAction::Requeue { outbox: vec![id] }).unwrap();
    assert_eq!(bench.hand_over(), id);
    bench.ask_about("3.1", &[(id, "1.1")]);
    assert_eq!(bench.report("3.1", &[("1.1", Some(0x0112))]).failed, 1);
    assert_eq!(bench.account().queued, 1);
}

#[test]
fn what_could_not_be_asked_is_due_again_and_what_nobody_asks_any_more_is_not() {
    let bench = Bench::new();
    let (_, id) = bench.entrust("1.1");
    bench.ask_about("2.1", &[(id, "1.1")]);
    bench.runtime.block_on(bench.journal.put_off_commitment("2.1", Duration::from_secs(1))).unwrap();
    assert_eq!(bench.due(Duration::from_secs(2)), [id]);
    bench.journal.ask_only(vec![EHR.to_string()]).unwrap();
    assert_eq!(bench.due(HOUR), [id]);
    bench.journal.ask_only(Vec::new()).unwrap();
    assert_eq!(bench.due(HOUR), []);
}

#[test]
fn an_instance_is_known_by_uid_and_class_and_whole_by_its_bytes() {
    let bench = Bench::new();
    let (entry, _) = bench.entrust("1.1");
    let reader = bench.journal.reader().unwrap();
    let stands = |uid, class| reader.instance_standing(uid, class, &[]).unwrap();
    assert_eq!(stands("1.2", CLASS), InstanceStanding::Unknown);
    assert_eq!(stands("1.1", "1.2"), InstanceStanding::OtherClass);
    assert!(matches!(stands("1.1", CLASS), InstanceStanding::Kept { entry: e, .. } if e == entry));
    assert!(reader.is_whole(entry).unwrap());
    let file = reader.instance(entry).unwrap().unwrap().spool;
    std::fs::write(bench.data.path().join("spool").join(file), b"DICM1.0").unwrap();
    assert!(!reader.is_whole(entry).unwrap());
}

#[test]
fn i7_an_image_that_is_to_be_committed_stays_however_old() {
    let mut bench = Bench::new();
    let (committed, id) = bench.entrust("1.1");
    bench.ask_about("2.1", &[(id, "1.1")]);
    assert_eq!(bench.report("2.1", &[("1.1", None)]).committed, 1);
    let (asked, _) = bench.entrust("1.2");
    bench.journal.clone().close();
    bench.config.retention_days = 0;
    let bench = bench.restart();
    let reader = bench.journal.reader().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while reader.show(committed).is_ok() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(reader.show(committed).is_err() && reader.show(asked).is_ok());
}
