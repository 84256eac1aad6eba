use super::*;
use crate::desk::authority;
use rcgen::{KeyPair, PublicKeyData};

const NOW_S: i64 = 1_790_000_000;
const LIFE_S: i64 = 90 * DAY_S;

struct Desk {
    dir: tempfile::TempDir,
    authority: Authority,
    registry: Registry,
}

impl Desk {
    fn new() -> Desk {
        let dir = tempfile::tempdir().unwrap();
        authority::init(&dir.path().join("ca"), "acme", NOW_S).unwrap();
        let authority = Authority::open(&dir.path().join("ca")).unwrap();
        let registry = Registry::open(dir.path(), LIFE_S).unwrap();
        Desk { dir, authority, registry }
    }

    fn asks(&mut self, key: &PublicKey, now_s: i64) -> Answer {
        self.registry.enrol(&self.authority, key, now_s).unwrap()
    }

    fn renews(&mut self, shown: &Signed, key: &PublicKey, now_s: i64) -> Answer {
        self.registry.renew(&self.authority, shown.certificate(), key, now_s).unwrap()
    }

    fn accepts(&mut self, key: &PublicKey, name: Option<&str>, now_s: i64) -> Result<String, EnrolError> {
        self.registry.accept(Code::of(key), name, false, "ann", now_s)
    }

    /// A box that asked and was accepted.
    fn enrolled(&mut self, name: &str) -> (PublicKey, Signed) {
        let key = key();
        self.asks(&key, NOW_S);
        self.accepts(&key, Some(name), NOW_S).unwrap();
        let signed = certificate(self.asks(&key, NOW_S));
        (key, signed)
    }
}

fn key() -> PublicKey {
    PublicKey::of_info(&KeyPair::generate().unwrap().subject_public_key_info()).unwrap()
}

fn certificate(answer: Answer) -> Signed {
    match answer {
        Answer::Certificate(signed) => signed,
        other => panic!("{other:?}"),
    }
}

fn name(signed: &Signed) -> String {
    Facts::of(signed.certificate()).unwrap().common_name.unwrap()
}

#[test]
fn a_box_waits_for_a_person_and_gets_the_name_it_was_given_for_its_key_alone() {
    let mut desk = Desk::new();
    let (key, other) = (key(), key());
    assert!(matches!(desk.accepts(&key, Some("bench-1"), NOW_S), Err(EnrolError::Unknown)), "it has not asked");
    assert!(matches!(desk.asks(&key, NOW_S), Answer::Later { after_s: ASK_AGAIN_S }));
    assert!(matches!(desk.asks(&key, NOW_S + LATE_S + 1), Answer::Later { after_s: ASK_AGAIN_LATE_S }));
    desk.asks(&other, NOW_S);
    assert!(matches!(desk.accepts(&key, None, NOW_S), Err(EnrolError::Nameless)));
    for wrong in ["desk-acme", "desk-", "#", "", "a/b"] {
        assert!(matches!(desk.accepts(&key, Some(wrong), NOW_S), Err(EnrolError::Name(_))), "{wrong}");
    }
    assert_eq!(desk.accepts(&key, Some("bench-1"), NOW_S).unwrap(), "bench-1");
    assert!(matches!(desk.asks(&other, NOW_S), Answer::Later { .. }));
    let signed = certificate(desk.asks(&key, NOW_S));
    let facts = Facts::of(signed.certificate()).unwrap();
    assert_eq!((name(&signed).as_str(), facts.public_key), ("bench-1", key.subject_public_key_info()));
    // An answer that was lost is given again.
    assert_eq!(certificate(desk.asks(&key, NOW_S + 60)).certificate(), signed.certificate());
    let [enrolled] = &desk.registry.enrolled().unwrap()[..] else { panic!() };
    assert_eq!((enrolled.name.as_str(), enrolled.how.as_str()), ("bench-1", "accepted"));
    let record = std::fs::read_to_string(desk.dir.path().join(audit::FILE)).unwrap();
    assert!(
        record.contains("\"by\":\"ann\"") && audit::chain(desk.dir.path()).check(|_| {}).unwrap().is_whole(),
        "{record}"
    );
}

#[test]
fn what_was_accepted_is_collected_within_its_days_or_not_at_all() {
    let mut desk = Desk::new();
    let key = key();
    desk.asks(&key, NOW_S);
    desk.accepts(&key, Some("bench-1"), NOW_S).unwrap();
    assert!(matches!(desk.asks(&key, NOW_S + COLLECTED_WITHIN_S + 1), Answer::Later { .. }));
    assert!(desk.accepts(&key, Some("bench-1"), NOW_S + COLLECTED_WITHIN_S + 2).is_ok());
}

#[test]
fn a_box_that_was_accepted_may_be_off_until_its_days_are_over() {
    let mut desk = Desk::new();
    let (sleeping, other) = (key(), key());
    desk.asks(&sleeping, NOW_S);
    desk.accepts(&sleeping, Some("bench-1"), NOW_S).unwrap();
    let monday = NOW_S + 3 * DAY_S;
    desk.asks(&other, monday);
    let waiting = desk.registry.waiting(monday).unwrap();
    assert!(waiting.iter().any(|one| one.accepted.as_deref() == Some("bench-1")), "{waiting:?}");
    assert_eq!(desk.accepts(&sleeping, Some("bench-2"), monday).unwrap(), "bench-2", "a person may think again");
    assert_eq!(name(&certificate(desk.asks(&sleeping, monday + 1))), "bench-2");
}

#[test]
fn a_box_renews_with_what_it_has_and_under_its_own_name() {
    let mut desk = Desk::new();
    let (first_key, first) = desk.enrolled("bench-1");
    let (foreign_key, _) = desk.enrolled("bench-2");
    let fresh = key();
    let later = NOW_S + 60 * DAY_S;
    let second = certificate(desk.renews(&first, &fresh, later));
    assert_eq!(name(&second), "bench-1");
    assert_eq!(certificate(desk.renews(&first, &fresh, later + 1)).certificate(), second.certificate());
    assert!(matches!(desk.renews(&first, &foreign_key, later), Answer::Refused(_)), "a key of another box");
    // The same key again is allowed: a foreign box may do so.
    assert_eq!(name(&certificate(desk.renews(&first, &first_key, later))), "bench-1");
    // A certificate of the same authority that the desk has not given to a box renews nothing.
    let stray = desk.authority.sign(&key(), &Use::Client("bench-1".into()), NOW_S, NOW_S + LIFE_S).unwrap();
    assert!(matches!(desk.renews(&stray, &fresh, later), Answer::Refused(_)));
}

#[test]
fn a_box_that_slept_through_its_end_waits_for_a_person_and_is_who_it_was() {
    let mut desk = Desk::new();
    let (key, _) = desk.enrolled("bench-1");
    let months = NOW_S + 200 * DAY_S;
    assert!(matches!(desk.asks(&key, months), Answer::Later { .. }));
    let [waiting] = &desk.registry.waiting(months).unwrap()[..] else { panic!() };
    assert_eq!((waiting.was.as_deref(), waiting.barred, &waiting.accepted), (Some("bench-1"), false, &None));
    assert_eq!(desk.accepts(&key, None, months).unwrap(), "bench-1");
    assert_eq!(name(&certificate(desk.asks(&key, months))), "bench-1");
    assert_eq!(desk.registry.enrolled().unwrap()[0].how, "recovered");
}

#[test]
fn one_name_is_one_box_and_what_takes_its_place_is_said_so() {
    let mut desk = Desk::new();
    let (_, old) = desk.enrolled("bench-1");
    let spare = key();
    desk.asks(&spare, NOW_S);
    assert!(matches!(desk.accepts(&spare, Some("bench-1"), NOW_S), Err(EnrolError::Taken(_))));
    desk.registry.accept(Code::of(&spare), Some("bench-1"), true, "ann", NOW_S).unwrap();
    assert!(matches!(desk.renews(&old, &key(), NOW_S), Answer::Refused(_)), "the old box renews no more");
    let new = certificate(desk.asks(&spare, NOW_S));
    assert_eq!(name(&new), "bench-1");
    desk.registry.bar("bench-1", "ann", NOW_S).unwrap();
    assert!(matches!(desk.renews(&new, &key(), NOW_S), Answer::Refused(_)));
    assert!(matches!(desk.asks(&spare, NOW_S), Answer::Later { .. }), "it may ask, and a person may say yes again");
    // Whoever stole it is not let in by a person who takes it for one that slept.
    let [waiting] = &desk.registry.waiting(NOW_S).unwrap()[..] else { panic!() };
    assert!(waiting.barred);
    for name in [None, Some("bench-1"), Some("bench-2")] {
        assert!(matches!(desk.accepts(&spare, name, NOW_S), Err(EnrolError::Barred(was)) if was == "bench-1"));
    }
    desk.registry.accept(Code::of(&spare), None, true, "ann", NOW_S).unwrap();
    assert_eq!(name(&certificate(desk.asks(&spare, NOW_S))), "bench-1");
    assert!(matches!(desk.registry.bar("bench-9", "ann", NOW_S), Err(EnrolError::NoSuchBox(_))));
}

#[test]
fn the_name_of_a_box_that_sleeps_is_not_another_keys_by_a_slip_of_the_pen() {
    let mut desk = Desk::new();
    let (first_key, first) = desk.enrolled("bench-1");
    let second_key = key();
    certificate(desk.renews(&first, &second_key, NOW_S + 60 * DAY_S));
    let (spare, months) = (key(), NOW_S + 200 * DAY_S);
    desk.asks(&spare, months);
    assert!(matches!(desk.accepts(&spare, Some("bench-1"), months), Err(EnrolError::Taken(_))));
    // The box itself, with either of its keys, is.
    for key in [second_key, first_key] {
        desk.asks(&key, months);
        assert_eq!(desk.registry.accept(Code::of(&key), None, false, "ann", months).unwrap(), "bench-1");
        let tx = desk.registry.conn.transaction().unwrap();
        tx.execute("UPDATE certificate SET barred = 0", []).unwrap();
        tx.execute("UPDATE request SET name = NULL", []).unwrap();
        tx.commit().unwrap();
    }
}

#[test]
fn those_who_wait_are_bounded_and_who_was_accepted_is_not_crowded_out() {
    let mut desk = Desk::new();
    let accepted = key();
    desk.asks(&accepted, NOW_S);
    desk.accepts(&accepted, Some("bench-1"), NOW_S).unwrap();
    let tx = desk.registry.conn.transaction().unwrap();
    for n in 0..WAITING_MAX + 5 {
        let row = (n.to_le_bytes(), n.to_string(), NOW_S + 1);
        tx.execute("INSERT INTO request(key, code, first_s, last_s) VALUES (?1, ?2, ?3, ?3)", row).unwrap();
    }
    tx.commit().unwrap();
    desk.asks(&key(), NOW_S + 2);
    assert_eq!(desk.registry.waiting(NOW_S + 2).unwrap().len() as i64, WAITING_MAX + 1);
    certificate(desk.asks(&accepted, NOW_S + 3));
    desk.asks(&key(), NOW_S + 2 * DAY_S);
    assert_eq!(desk.registry.waiting(NOW_S + 2 * DAY_S).unwrap().len(), 1, "the rest gave up");
}

#[test]
fn a_box_that_renews_without_end_is_told_to_wait() {
    let mut desk = Desk::new();
    let (_, first) = desk.enrolled("bench-1");
    let answers: Vec<Answer> = (0..RENEWALS_A_DAY).map(|n| desk.renews(&first, &key(), NOW_S + n)).collect();
    assert!(matches!(answers.last(), Some(Answer::Later { .. })));
    assert!(matches!(desk.renews(&first, &key(), NOW_S + 2 * DAY_S), Answer::Certificate(_)));
}
