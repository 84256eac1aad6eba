//! Promises of the session, whatever order things happen in.

use super::*;
use proptest::prelude::*;

const MOMENT: Duration = Duration::from_millis(700);

fn place() -> Place {
    Place::new("acme", "bench-1").unwrap()
}

fn document(n: u64) -> Document {
    Document::stored(n.to_string().into_bytes())
}

fn session(now: Instant) -> Session {
    Session::new(place(), 7, document(0), now, 1)
}

fn outputs(session: &mut Session) -> Vec<Output> {
    std::iter::from_fn(|| session.poll_output()).collect()
}

/// What was published, by topic.
fn published(outputs: &[Output]) -> Vec<Up> {
    let topic = |output: &Output| match output {
        Output::Publish { topic, .. } => Some(topic.clone()),
        _ => None,
    };
    outputs.iter().filter_map(topic).collect()
}

fn ids(outputs: &[Output]) -> Vec<PublishId> {
    let id = |output: &Output| match output {
        Output::Publish { id, quality, .. } if *quality != Quality::AtMostOnce => Some(*id),
        _ => None,
    };
    outputs.iter().filter_map(id).collect()
}

/// What was asked, to learn whether the box is heard.
fn questions(outputs: &[Output]) -> Vec<Vec<u8>> {
    let question = |output: &Output| match output {
        Output::Publish { topic: Up::Echo, document, .. } => Some(document.bytes().to_vec()),
        _ => None,
    };
    outputs.iter().filter_map(question).collect()
}

/// A session that is connected, with all that was said acknowledged.
fn settled(session: &mut Session, session_present: bool, now: Instant) -> Vec<Output> {
    session.timeout(now);
    session.connected(session_present, IN_FLIGHT_MAX, now);
    let mut all = Vec::new();
    loop {
        let some = outputs(session);
        if some.is_empty() {
            return all;
        }
        ids(&some).into_iter().for_each(|id| session.acknowledged(id, now));
        all.extend(some);
    }
}

#[test]
fn a_connection_begins_with_birth_and_state_and_leaves_a_will() {
    let now = Instant::now();
    let mut session = session(now);
    session.changed(Up::Link("chemistry".into()), document(1), now);
    assert_eq!(outputs(&mut session), [], "nothing before it is time");
    session.timeout(now);
    let said = outputs(&mut session);
    let [Output::Connect { will }] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!(will.bytes(), br#"{"v":1,"online":false,"epoch":7}"#);
    session.connected(false, IN_FLIGHT_MAX, now);
    let said = outputs(&mut session);
    assert_eq!(said[0], Output::Subscribe);
    assert_eq!(published(&said), [Up::Birth, Up::State, Up::Link("chemistry".into()), Up::Echo]);
}

#[test]
fn a_broker_that_lost_the_session_is_told_everything_anew_and_another_only_what_it_must_be() {
    let mut now = Instant::now();
    let mut session = session(now);
    for name in ["a", "b"] {
        session.changed(Up::Link(name.into()), document(1), now);
    }
    let everything = [Up::Birth, Up::State, Up::Link("a".into()), Up::Link("b".into()), Up::Echo];
    assert_eq!(published(&settled(&mut session, false, now)), everything);
    for session_present in [true, false] {
        session.lost(now);
        now = session.poll_timeout().unwrap();
        let said = published(&settled(&mut session, session_present, now));
        match session_present {
            true => assert_eq!(said, [Up::Birth, Up::State, Up::Echo]),
            false => assert_eq!(said, everything),
        }
    }
}

#[test]
fn a_connection_that_takes_the_place_of_another_begins_anew_and_what_was_under_way_is_said_again() {
    let now = Instant::now();
    let mut session = session(now);
    settled(&mut session, false, now);
    session.event(3, document(3), now);
    let early = ids(&outputs(&mut session));
    assert!(session.replaced());
    session.connected(true, IN_FLIGHT_MAX, now);
    let said = outputs(&mut session);
    assert_eq!((&said[0], session.wants_events(now).map(|(behind, _)| behind)), (&Output::Subscribe, Some(0)));
    assert_eq!(published(&said), [Up::Birth, Up::State, Up::Echo]);
    // What was said on the connection before is acknowledged there or nowhere.
    early.into_iter().for_each(|id| session.acknowledged(id, now));
    assert!(!outputs(&mut session).contains(&Output::Done(3)));
    session.stop(now);
    assert!(!session.replaced(), "a box that goes takes no other connection");
}

#[test]
fn events_that_nobody_took_are_told_at_once_when_somebody_speaks() {
    let now = Instant::now();
    let mut session = session(now);
    settled(&mut session, false, now);
    session.event(3, document(3), now);
    ids(&outputs(&mut session)).into_iter().for_each(|id| session.refused(id, now));
    assert_eq!(session.wants_events(now), None, "nobody listens");
    let topic = "afferent/v1/acme/bench-1/dn/cmd/1".to_string();
    session.received(&topic, b"{}".to_vec(), Receipt::new(1, 1), now);
    assert_eq!(session.wants_events(now).map(|(behind, _)| behind), Some(0));
}

#[test]
fn what_has_no_room_waits_for_an_acknowledgement_and_not_in_circles() {
    let mut now = Instant::now();
    let mut session = session(now);
    for name in ["a", "b"] {
        session.changed(Up::Link(name.into()), document(1), now);
    }
    session.timeout(now);
    outputs(&mut session);
    session.connected(false, 1, now);
    for _ in 0..20 {
        let said = outputs(&mut session);
        now += CHANGE_INTERVAL;
        for name in ["a", "b"] {
            session.changed(Up::Link(name.into()), document(now.elapsed().as_nanos() as u64), now);
        }
        session.timeout(now);
        assert!(session.poll_timeout().is_none_or(|at| at > now), "it wakes at once for what it cannot do");
        ids(&said).into_iter().for_each(|id| session.acknowledged(id, now));
    }
}

#[test]
fn what_changes_often_is_told_at_a_bounded_rate_and_the_last_change_is_told() {
    let mut now = Instant::now();
    let mut session = session(now);
    settled(&mut session, false, now);
    let began = now;
    let mut told = Vec::new();
    for n in 0..100 {
        session.changed(Up::Link("a".into()), document(n), now);
        session.timeout(now);
        let said = outputs(&mut session);
        ids(&said).into_iter().for_each(|id| session.acknowledged(id, now));
        told.extend(said.into_iter().filter_map(|output| match output {
            Output::Publish { topic: Up::Link(_), document, .. } => Some(document),
            _ => None,
        }));
        now += MOMENT;
    }
    let most = (now - began).as_secs() / CHANGE_INTERVAL.as_secs() + 1;
    assert!(told.len() as u64 <= most && told.len() > 5, "{} of {most}", told.len());
    now += CHANGE_INTERVAL;
    session.timeout(now);
    let Some(Output::Publish { document: last, .. }) = session.poll_output() else { panic!() };
    assert_eq!(last, document(99));
}

#[test]
fn an_event_is_done_when_the_broker_has_it_and_is_handed_over_again_after_a_loss() {
    let mut now = Instant::now();
    let mut session = session(now);
    assert_eq!(session.wants_events(now), None);
    settled(&mut session, false, now);
    for _ in 0..2 {
        let (behind, room) = session.wants_events(now).unwrap();
        assert_eq!((behind, room), (0, IN_FLIGHT_MAX - 1));
        session.event(3, document(3), now);
        session.event(4, document(4), now);
        assert_eq!(session.wants_events(now), Some((4, room - 2)));
        let said = outputs(&mut session);
        assert_eq!(published(&said), [Up::Event, Up::Event]);
        session.lost(now);
        assert!(!outputs(&mut session).iter().any(|output| matches!(output, Output::Done(_))));
        now = session.poll_timeout().unwrap();
        settled(&mut session, true, now);
    }
    session.event(3, document(3), now);
    let said = outputs(&mut session);
    session.acknowledged(ids(&said)[0], now);
    session.acknowledged(ids(&said)[0], now);
    assert_eq!(outputs(&mut session), [Output::Done(3)]);
}

#[test]
fn what_is_refused_is_tried_again_later_and_stops_nothing_else() {
    let mut now = Instant::now();
    let mut session = session(now);
    settled(&mut session, false, now);
    session.event(3, document(3), now);
    session.changed(Up::Reported, document(1), now);
    let said = outputs(&mut session);
    ids(&said).into_iter().for_each(|id| session.refused(id, now));
    assert_eq!(session.wants_events(now), None);
    session.changed(Up::Link("a".into()), document(1), now);
    assert_eq!(published(&outputs(&mut session)), [Up::Link("a".into())]);
    now += REFUSED_PAUSE;
    session.timeout(now);
    assert_eq!(published(&outputs(&mut session)), [Up::Reported]);
    assert!(matches!(session.wants_events(now), Some((0, _))), "from the first on");
}

#[test]
fn the_downlink_is_proven_by_an_echo_and_only_until_one_is_missing() {
    let mut now = Instant::now();
    let mut session = session(now);
    let said = settled(&mut session, false, now);
    let Some(Output::Publish { document: question, .. }) =
        said.iter().rfind(|o| published(&[(*o).clone()]) == [Up::Echo])
    else {
        panic!("{said:?}")
    };
    let receipt = Receipt::new(1, 1);
    let topic = place().down(&Down::Echo);
    session.received(&topic, b"another answer".to_vec(), receipt, now);
    assert_eq!(outputs(&mut session), [Output::Acknowledge(receipt)]);
    session.received(&topic, question.bytes().to_vec(), receipt, now);
    assert_eq!(outputs(&mut session)[..2], [Output::Downlink(Downlink::Proven), Output::Acknowledge(receipt)]);
    now += ECHO_INTERVAL;
    session.timeout(now);
    assert!(published(&outputs(&mut session)).contains(&Up::Echo), "asked again");
    now += ECHO_TIMEOUT;
    session.timeout(now);
    assert!(outputs(&mut session).contains(&Output::Downlink(Downlink::Unproven)));
    assert!(session.is_up(), "that is no reason to stop");
}

#[test]
fn a_question_is_repeated_until_its_time_is_over_and_the_answer_to_any_counts() {
    let mut now = Instant::now();
    let mut session = session(now);
    let began = now;
    let asked = questions(&settled(&mut session, false, now));
    let mut repeated = 0;
    while now + ECHO_REPEAT < began + ECHO_TIMEOUT {
        assert_eq!(session.poll_timeout(), Some(now + ECHO_REPEAT));
        now += ECHO_REPEAT;
        session.timeout(now);
        let said = outputs(&mut session);
        assert_eq!(questions(&said), asked, "a desk may not have heard it");
        assert_eq!(session.poll_timeout(), Some(began + ECHO_TIMEOUT), "the broker does not have the last one yet");
        ids(&said).into_iter().for_each(|id| session.acknowledged(id, now));
        repeated += 1;
    }
    assert_eq!((repeated, session.downlink()), (5, Downlink::Unproven));
    session.received(&place().down(&Down::Echo), asked[0].clone(), Receipt::new(1, 1), now);
    assert_eq!(session.downlink(), Downlink::Proven);
    outputs(&mut session);
    session.timeout(now + ECHO_REPEAT);
    assert_eq!(questions(&outputs(&mut session)), Vec::<Vec<u8>>::new(), "it was answered");
}

#[test]
fn a_desk_that_comes_late_is_asked_soon_and_one_that_is_known_changes_nothing() {
    let mut now = Instant::now();
    let mut session = session(now);
    let first = questions(&settled(&mut session, false, now));
    let (topic, receipt) = (place().down(&Down::Echo), Receipt::new(1, 1));
    // While the first question may still be answered, it gets its time.
    session.received(&topic, Vec::new(), receipt, now);
    assert_eq!(questions(&outputs(&mut session)), Vec::<Vec<u8>>::new());
    now += ECHO_AGAIN;
    session.timeout(now);
    let second = questions(&outputs(&mut session));
    assert!(second.len() == 1 && second != first, "{second:?}");
    session.received(&topic, first[0].clone(), receipt, now);
    assert_eq!(session.downlink(), Downlink::Unproven, "a late answer to the first says nothing of the second");
    session.received(&topic, second[0].clone(), receipt, now);
    assert_eq!(session.downlink(), Downlink::Proven);
    outputs(&mut session);
    // However many desks come, one that was heard is not asked before its time.
    session.received(&topic, Vec::new(), receipt, now);
    now += ECHO_AGAIN;
    session.timeout(now);
    assert_eq!(questions(&outputs(&mut session)), Vec::<Vec<u8>>::new());
    // Nobody answers: it is deaf, and waits; then a desk comes.
    now += ECHO_INTERVAL;
    session.timeout(now);
    now += ECHO_TIMEOUT;
    session.timeout(now);
    assert_eq!(session.downlink(), Downlink::Unproven);
    outputs(&mut session);
    now += MOMENT;
    session.received(&topic, Vec::new(), receipt, now);
    now += ECHO_AGAIN;
    session.timeout(now);
    assert_eq!(questions(&outputs(&mut session)).len(), 1, "it is asked now, not after {ECHO_INTERVAL:?}");
}

#[test]
fn what_is_told_is_handed_on_with_its_receipt() {
    let now = Instant::now();
    let mut session = session(now);
    settled(&mut session, false, now);
    let receipt = Receipt::new(1, 9);
    session.received(&place().down(&Down::Desired), b"x".to_vec(), receipt, now);
    assert_eq!(outputs(&mut session), [Output::Told(Down::Desired, b"x".to_vec(), receipt)]);
    let other = Place::new("acme", "bench-2").unwrap();
    session.received(&other.down(&Down::Desired), b"x".to_vec(), receipt, now);
    assert_eq!(outputs(&mut session), [Output::Acknowledge(receipt)], "another box's is of no use");
}

#[test]
fn a_stop_says_goodbye_and_leaves_it_to_the_will_when_nobody_listens() {
    let now = Instant::now();
    let mut session = session(now);
    settled(&mut session, false, now);
    session.stop(now);
    let said = outputs(&mut session);
    let [Output::Publish { topic: Up::State, document, .. }] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!(document.bytes(), br#"{"v":1,"online":false,"epoch":7}"#);
    session.acknowledged(ids(&said)[0], now);
    assert_eq!(outputs(&mut session), [Output::Disconnect { has_said_so: true }]);
    assert!(session.is_stopped());

    let mut session = self::session(now);
    settled(&mut session, false, now);
    session.stop(now);
    outputs(&mut session);
    session.timeout(session.poll_timeout().unwrap());
    assert_eq!(outputs(&mut session), [Output::Disconnect { has_said_so: false }]);
}

#[test]
fn the_last_word_of_a_box_that_goes_is_that_it_goes() {
    let now = Instant::now();
    let mut session = session(now);
    session.timeout(now);
    session.connected(false, IN_FLIGHT_MAX, now);
    let said = outputs(&mut session);
    let asked = questions(&said);
    ids(&said).into_iter().for_each(|id| session.acknowledged(id, now));
    outputs(&mut session);
    session.stop(now);
    let farewell = ids(&outputs(&mut session));
    let topic = "afferent/v1/acme/bench-1/dn/echo".to_string();
    session.received(&topic, asked[0].clone(), Receipt::new(1, 1), now);
    farewell.into_iter().for_each(|id| session.acknowledged(id, now));
    let said = outputs(&mut session);
    assert_eq!(published(&said), [], "no word that it is there");
    assert!(said.contains(&Output::Disconnect { has_said_so: true }), "{said:?}");
}

#[test]
fn a_broker_that_comes_and_goes_is_dialled_ever_more_seldom() {
    let mut now = Instant::now();
    let mut session = session(now);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        settled(&mut session, true, now);
        session.lost(now);
        let again = session.poll_timeout().unwrap();
        pauses.push(again - now);
        now = again;
    }
    assert!(pauses[11] >= RECONNECT_MAX / 2 && pauses[11] <= RECONNECT_MAX, "{pauses:?}");
    settled(&mut session, true, now);
    session.lost(now + LASTED);
    assert!(session.poll_timeout().unwrap() <= now + LASTED + RECONNECT_MIN);
}

#[derive(Debug, Clone)]
enum Happens {
    Connected(bool, usize),
    Acknowledged(usize),
    Refused(usize),
    Received,
    Lost,
    TimeGoesBy(u64),
    Changed(u8, u64),
    Event,
    Beat,
    Stop,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => (any::<bool>(), 0..40_usize).prop_map(|(present, max)| Happens::Connected(present, max)),
        8 => (0..20_usize).prop_map(Happens::Acknowledged),
        1 => (0..20_usize).prop_map(Happens::Refused),
        1 => Just(Happens::Received),
        1 => Just(Happens::Lost),
        6 => (0..100_000_u64).prop_map(Happens::TimeGoesBy),
        4 => (0..6_u8, 0..4_u64).prop_map(|(which, n)| Happens::Changed(which, n)),
        6 => Just(Happens::Event),
        1 => Just(Happens::Beat),
        1 => Just(Happens::Stop),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_order_holds_rows_leave_once_acknowledged_and_little_is_in_flight(
        all in prop::collection::vec(happens(), 1..120)
    ) {
        let mut now = Instant::now();
        let mut session = session(now);
        let mut open: BTreeMap<PublishId, (Up, Document)> = BTreeMap::new();
        let mut acknowledged_rows: Vec<i64> = Vec::new();
        let mut outbox: Vec<i64> = (1..100).collect();
        let mut said: Vec<Up> = Vec::new();
        let mut room = IN_FLIGHT_MAX;
        for this in all {
            match this {
                Happens::Connected(present, max) => {
                    if session.phase == Phase::Connecting {
                        room = max.clamp(1, IN_FLIGHT_MAX);
                        said.clear();
                    }
                    session.connected(present, max, now);
                }
                Happens::Acknowledged(nth) => {
                    if let Some(id) = open.keys().nth(nth).copied() {
                        let (topic, document) = open.remove(&id).unwrap();
                        if topic == Up::Event {
                            let row: i64 = String::from_utf8(document.bytes().to_vec()).unwrap().parse().unwrap();
                            acknowledged_rows.push(row);
                        }
                        session.acknowledged(id, now);
                    }
                }
                Happens::Refused(nth) => {
                    if let Some(id) = open.keys().nth(nth).copied() {
                        open.remove(&id);
                        session.refused(id, now);
                    }
                }
                Happens::Received => {
                    session.received(&place().down(&Down::Echo), b"x".to_vec(), Receipt::new(1, 1), now);
                }
                Happens::Lost => {
                    session.lost(now);
                    open.clear();
                }
                Happens::TimeGoesBy(ms) => {
                    now += Duration::from_millis(ms);
                    session.timeout(now);
                }
                Happens::Changed(which, n) => session.changed(Up::Link(which.to_string()), document(n), now),
                Happens::Event => {
                    if let Some((behind, limit)) = session.wants_events(now) {
                        for row in outbox.iter().filter(|row| **row > behind).take(limit) {
                            session.event(*row, document(*row as u64), now);
                        }
                    }
                }
                Happens::Beat => session.beat(document(0), now),
                Happens::Stop => session.stop(now),
            }
            for output in outputs(&mut session) {
                match output {
                    Output::Publish { id, topic, document, quality } => {
                        match said.last() {
                            None => prop_assert_eq!(&topic, &Up::Birth),
                            Some(_) if said.len() == 1 => prop_assert_eq!(&topic, &Up::State),
                            Some(_) => {}
                        }
                        said.push(topic.clone());
                        if quality != Quality::AtMostOnce {
                            let fresh = open.insert(id, (topic, document)).is_none();
                            prop_assert!(fresh, "one id for two");
                        }
                        prop_assert!(open.len() <= room + usize::from(session.says_farewell), "{} open", open.len());
                    }
                    Output::Done(row) => {
                        let at = acknowledged_rows.iter().position(|known| *known == row);
                        prop_assert!(at.is_some(), "row {} left without its acknowledgement", row);
                        acknowledged_rows.remove(at.unwrap());
                        outbox.retain(|known| *known != row);
                    }
                    Output::Connect { .. } => prop_assert!(open.is_empty()),
                    _ => {}
                }
            }
            prop_assert!(acknowledged_rows.is_empty(), "a row is done at once");
        }
        // Left in peace, everything is told in the end.
        if !session.is_stopped() && !session.says_farewell {
            for _ in 0..2000 {
                if let Some(at) = session.poll_timeout() {
                    now = now.max(at);
                }
                session.timeout(now);
                if let Some((behind, limit)) = session.wants_events(now) {
                    for row in outbox.iter().filter(|row| **row > behind).take(limit) {
                        session.event(*row, document(*row as u64), now);
                    }
                }
                for output in outputs(&mut session) {
                    match output {
                        Output::Connect { .. } => session.connected(true, IN_FLIGHT_MAX, now),
                        Output::Publish { id, .. } => { open.insert(id, (Up::Echo, document(0))); }
                        Output::Done(row) => outbox.retain(|known| *known != row),
                        _ => {}
                    }
                }
                for id in std::mem::take(&mut open).into_keys() {
                    session.acknowledged(id, now);
                }
                if session.phase == Phase::Connecting {
                    session.connected(true, IN_FLIGHT_MAX, now);
                }
            }
            for output in outputs(&mut session) {
                if let Output::Done(row) = output {
                    outbox.retain(|known| *known != row);
                }
            }
            prop_assert!(outbox.is_empty(), "{} rows are left", outbox.len());
            prop_assert!(session.rest.values().all(Slot::is_held));
        }
    }
}
