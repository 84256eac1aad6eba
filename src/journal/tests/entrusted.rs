//! Images an archive is to commit to: asked about until it did, sent again when it does not.

use super::*;

const CLASS: &str = "1.2.840.10008.5.1.4.1.1.6.1";
const HOUR: Duration = Duration::from_secs(3600);

const MISSING: Verdict = Verdict::Missing(0x0112);
const NOT_NOW: Verdict = Verdict::NotNow(0x0213);

/// An image that is missing is sent again at once.
fn terms(destination: &str) -> Terms {
    Terms {
        destination: destination.to_string(),
        wait: HOUR,
        resend_after: Duration::ZERO,
        give_up_after: HOUR * 24 * 7,
    }
}

impl Bench {
    /// Stores an image, files it for the archive and has it delivered; its entry and its message.
    fn entrust(&self, uid: &str) -> (EntryId, OutboxId) {
        self.journal.name_archives(vec![(EHR.to_string(), true)]).unwrap();
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
        self.ask_under(transaction, asked, &terms(EHR));
    }

    fn ask_under(&self, transaction: &str, asked: &[(OutboxId, &str)], terms: &Terms) {
        let asked = asked.iter().map(|(id, uid)| (*id, uid.to_string())).collect();
        self.runtime.block_on(self.journal.ask_for_commitment(transaction, asked, terms.clone())).unwrap();
    }

    /// For the last time.
    fn ask_last(&self, transaction: &str, asked: &[(OutboxId, &str)]) {
        // What was delivered in this very millisecond is not older than it.
        std::thread::sleep(Duration::from_millis(2));
        self.ask_under(transaction, asked, &Terms { give_up_after: Duration::ZERO, ..terms(EHR) });
    }

    fn report(&self, transaction: &str, outcomes: &[(&str, Verdict)]) -> Noted {
        self.report_of(EHR, transaction, outcomes)
    }

    fn report_of(&self, destination: &str, transaction: &str, outcomes: &[(&str, Verdict)]) -> Noted {
        let outcomes = outcomes.iter().map(|(uid, verdict)| (uid.to_string(), *verdict)).collect();
        self.runtime.block_on(self.journal.note_report(transaction, vec![terms(destination)], outcomes)).unwrap()
    }

    fn put_off(&self, transaction: &str, away: bool) {
        let second = Duration::from_secs(1);
        self.runtime.block_on(self.journal.put_off_commitment(transaction, second, away)).unwrap();
    }

    /// Gives up what is to be given up after this; tells of it.
    fn give_up(&self, after: Duration) -> Vec<OutboxId> {
        let at = wall_clock_ms() + after.as_millis() as i64;
        let due = self.journal.reader().unwrap().entrusted(EHR, at, 10).unwrap();
        let ids: Vec<OutboxId> = due.into_iter().filter(|due| due.is_given_up).map(|due| due.id).collect();
        self.runtime.block_on(self.journal.give_up_commitment(ids.clone())).unwrap();
        ids
    }

    fn parked(&self) -> Vec<String> {
        self.journal.reader().unwrap().parked(10).unwrap().into_iter().map(|row| row.reason).collect()
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
    let committed = Verdict::Committed;
    assert_eq!(bench.report("2.1", &[("1.1", committed)]), Noted { committed: 1, ..known });
    assert_eq!(bench.report("2.1", &[("1.1", committed)]), known);
    assert_eq!(bench.report("2.2", &[("1.2", committed)]), Noted::default(), "nothing was asked under this name");
    assert!(bench.standing("1.1").is_committed() && bench.standing("1.2").is_pending());
    assert_eq!(bench.due(HOUR * 2), [second]);
}

#[test]
fn i7_what_is_not_committed_is_sent_again_and_then_waits_for_a_person() {
    let bench = Bench::new();
    let (_, id) = bench.entrust("1.1");
    for round in 0..4 {
        bench.ask_about(&format!("2.{round}"), &[(id, "1.1")]);
        let both = [("1.1", MISSING), ("1.1", Verdict::Committed)];
        assert_eq!(bench.report(&format!("2.{round}"), &both).failed, 1);
        let account = bench.account();
        if round < 3 {
            assert_eq!((account.queued, account.delivered), (1, 0), "it is on the way again");
            assert_eq!(bench.hand_over(), id, "the same message (I5)");
            let repeated = bench.report(&format!("2.{round}"), &[("1.1", MISSING)]);
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
    assert_eq!(bench.report("3.1", &[("1.1", MISSING)]).failed, 1);
    assert_eq!(bench.account().queued, 1);
}

#[test]
fn i7_what_an_archive_never_commits_to_is_parked_after_it_was_asked_once_more() {
    let bench = Bench::new();
    let (entry, id) = bench.entrust("1.1");
    bench.ask_about("2.1", &[(id, "1.1")]);
    assert_eq!(bench.give_up(HOUR * 24), [], "it is asked again, for as long as it may take");
    bench.ask_last("2.2", &[(id, "1.1")]);
    assert_eq!(bench.give_up(HOUR), [], "the last request has its time too");
    let bench = bench.restart();
    assert_eq!(bench.give_up(HOUR * 3), [id]);
    assert_eq!((bench.account().delivered, bench.account().parked, bench.due(HOUR * 24)), (0, 1, vec![]));
    assert!(bench.parked()[0].contains("has not said so") && bench.parked()[0].contains("requeue it"));
    assert!(bench.journal.reader().unwrap().show(entry).is_ok());
    // A person has it sent anew, and it may take its time again.
    bench.journal.operate(OperatorAction::Requeue { outbox: vec![id] }).unwrap();
    assert_eq!(bench.hand_over(), id);
    bench.ask_about("2.3", &[(id, "1.1")]);
    assert_eq!(bench.give_up(HOUR * 24), []);
    assert_eq!(bench.report("2.3", &[("1.1", Verdict::Committed)]).committed, 1);
}

#[test]
fn an_archive_that_is_away_is_asked_until_it_is_there_and_one_that_cannot_be_asked_is_not() {
    for (away, given_up) in [(true, 0), (false, 1)] {
        let bench = Bench::new();
        let (_, id) = bench.entrust("1.1");
        bench.ask_last("2.1", &[(id, "1.1")]);
        bench.put_off("2.1", away);
        assert_eq!(bench.give_up(HOUR * 3).len(), given_up, "away: {away}");
    }
}

#[test]
fn i7_an_archive_that_cannot_commit_now_is_asked_later_and_sent_nothing() {
    let bench = Bench::new();
    let (_, id) = bench.entrust("1.1");
    bench.ask_about("2.1", &[(id, "1.1")]);
    let known = Noted { is_known: true, ..Noted::default() };
    assert_eq!(bench.report("2.1", &[("1.1", NOT_NOW), ("1.1", Verdict::Committed)]), Noted { failed: 1, ..known });
    assert_eq!(bench.report("2.1", &[("1.1", NOT_NOW)]), known);
    assert_eq!((bench.account().queued, bench.account().delivered, bench.account().parked), (0, 1, 0));
    assert_eq!((bench.due(HOUR / 2), bench.due(HOUR * 2)), (vec![], vec![id]));
    bench.ask_last("2.2", &[(id, "1.1")]);
    assert_eq!(bench.report("2.2", &[("1.1", NOT_NOW)]).failed, 1);
    assert_eq!(bench.give_up(HOUR * 3), [id]);
    assert!(bench.parked()[0].contains("0213"), "{:?}", bench.parked());
}

#[test]
fn i7_what_an_archive_never_takes_waits_for_a_person_at_once() {
    let bench = Bench::new();
    let (_, id) = bench.entrust("1.1");
    bench.ask_about("2.1", &[(id, "1.1")]);
    assert_eq!(bench.report("2.1", &[("1.1", Verdict::Never(0x0122))]).failed, 1);
    assert!(bench.parked()[0].contains("0122"), "{:?}", bench.parked());
}

#[test]
fn i7_what_an_archive_has_not_got_waits_for_a_person_though_other_bytes_came_under_its_uid() {
    for verdict in [Some(MISSING), Some(Verdict::Never(0x0122)), None] {
        let bench = Bench::new();
        let (first, id) = bench.entrust("1.1");
        assert!(bench.runtime.block_on(bench.journal.promise(vec![first])).unwrap());
        let second = bench.store("1.1", b"other").unwrap().entry;
        let mut newer = filing(second, &["1.1"], 0);
        newer.reports[0].subject_key = filing(first, &["1.1"], 0).reports.remove(0).subject_key;
        bench.journal.file(newer).unwrap();
        match verdict {
            Some(verdict) => {
                bench.ask_about("2.1", &[(id, "1.1")]);
                assert_eq!(bench.report("2.1", &[("1.1", verdict)]).failed, 1);
            }
            None => {
                bench.ask_last("2.1", &[(id, "1.1")]);
                assert_eq!(bench.give_up(HOUR * 3), [id]);
            }
        }
        assert!(bench.parked()[0].contains("something newer was filed"), "{verdict:?}: {:?}", bench.parked());
        assert_eq!((bench.account().parked, bench.account().missing()), (1, 0));
        let only_here = || bench.journal.reader().unwrap().stats(0).unwrap().only_here;
        assert_eq!(only_here(), 1);
        // As it was left before such messages were parked.
        bench.sabotage().execute("UPDATE outbox SET state = 1 WHERE id = ?1", [id]).unwrap();
        assert_eq!(only_here(), 1);
        assert!(!bench.standing("1.1").is_delivered());
    }
}

#[test]
fn what_an_archive_has_not_got_is_sent_again_after_a_pause_that_grows() {
    let bench = Bench::new();
    let (_, id) = bench.entrust("1.1");
    bench.ask_about("2.1", &[(id, "1.1")]);
    let late = Terms { resend_after: HOUR, ..terms(EHR) };
    let outcomes = vec![("1.1".to_string(), MISSING)];
    bench.runtime.block_on(bench.journal.note_report("2.1", vec![late], outcomes)).unwrap();
    assert_eq!((bench.claim(1).len(), bench.account().queued), (0, 1), "it is not sent at once");
    let due = bench.runtime.block_on(bench.journal.next_due(EHR)).unwrap().unwrap();
    assert!(due > HOUR / 2);
    assert_eq!(bench.restart().hand_over(), id, "after a restart everything is due");
}

#[test]
fn i4_a_report_is_believed_whatever_became_of_the_answer_to_the_request() {
    let bench = Bench::new();
    let (_, first) = bench.entrust("1.1");
    let (_, second) = bench.entrust("1.2");
    bench.ask_about("2.1", &[(first, "1.1"), (second, "1.2")]);
    // The answer did not come, nor the report: they are asked about under another name, and the first report comes.
    bench.ask_about("2.2", &[(first, "1.1"), (second, "1.2")]);
    let bench = bench.restart();
    assert_eq!(bench.report("2.1", &[("1.1", Verdict::Committed)]).committed, 1);
    assert_eq!(bench.report("2.2", &[("1.1", MISSING), ("1.2", Verdict::Committed)]).committed, 1);
    assert!(bench.standing("1.1").is_committed() && bench.standing("1.2").is_committed());
    assert_eq!(bench.account().queued, 0, "what is committed is not sent again");
}

#[test]
fn only_the_archive_that_was_asked_is_believed() {
    let bench = Bench::new();
    let (_, id) = bench.entrust("1.1");
    bench.ask_about("2.1", &[(id, "1.1")]);
    assert_eq!(bench.report_of("another", "2.1", &[("1.1", Verdict::Committed)]), Noted::default());
    assert!(bench.standing("1.1").is_pending());
    assert_eq!(bench.report("2.1", &[("1.1", Verdict::Committed)]).committed, 1);
}

#[test]
fn what_could_not_be_asked_is_due_again_and_what_nobody_asks_any_more_is_not() {
    let bench = Bench::new();
    let (_, id) = bench.entrust("1.1");
    bench.ask_about("2.1", &[(id, "1.1")]);
    bench.put_off("2.1", true);
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
    assert!(reader.is_whole(entry, &|| true).unwrap());
    let file = reader.instance(entry).unwrap().unwrap().spool;
    std::fs::write(bench.data.path().join("spool").join(file), b"DICM1.0").unwrap();
    assert!(!reader.is_whole(entry, &|| true).unwrap());
    assert_eq!(reader.is_whole(entry, &|| false), Err(JournalError::Closed), "nobody waits for it any more");
}

#[test]
fn i7_an_image_that_is_to_be_committed_stays_however_old() {
    let mut bench = Bench::new();
    let (committed, id) = bench.entrust("1.1");
    bench.ask_about("2.1", &[(id, "1.1")]);
    assert_eq!(bench.report("2.1", &[("1.1", Verdict::Committed)]).committed, 1);
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

#[test]
fn i7_who_took_an_image_is_judged_by_what_it_was_then() {
    for was_archive in [true, false] {
        let bench = Bench::new();
        let name = |is_archive| bench.journal.name_archives(vec![(EHR.to_string(), is_archive)]).unwrap();
        name(was_archive);
        let entry = bench.store("1.1", b"data set").unwrap().entry;
        bench.journal.file(filing(entry, &["1.1"], 0)).unwrap();
        assert!(bench.runtime.block_on(bench.journal.promise(vec![entry])).unwrap());
        let row = bench.claim(1).remove(0);
        bench.deliver(row.id);
        for is_archive in [!was_archive, was_archive] {
            name(is_archive);
            let only_here = bench.journal.reader().unwrap().stats(0).unwrap().only_here;
            assert_eq!((only_here == 0, bench.standing("1.1").is_delivered()), (was_archive, was_archive));
        }
        // What was delivered before that was noted is judged by what it is.
        bench.sabotage().execute("UPDATE outbox SET original = NULL", []).unwrap();
        for is_archive in [true, false] {
            name(is_archive);
            assert_eq!(bench.journal.reader().unwrap().stats(0).unwrap().only_here == 0, is_archive);
        }
    }
}
