use super::super::payload::Value;
use super::*;

const EVERY: Duration = Duration::from_secs(60);

fn reading(messages: u64, devices: &[(&str, u64)]) -> Reading {
    let figure = |count| vec![Figure::new("messages", Value::Count(count))];
    Reading {
        at: At::of_ms(1_790_000_000_000),
        node: figure(messages),
        devices: devices.iter().map(|(name, count)| ((*name).to_owned(), figure(*count))).collect(),
    }
}

fn node(epoch: u64, now: Instant) -> Node {
    Node::new("acme", "bench-1", epoch, EVERY, now)
}

/// What is published: kind and what follows it, and its `seq`.
fn said(node: &mut Node) -> Vec<(String, u8)> {
    let mut said = Vec::new();
    while let Some(output) = node.poll_output() {
        if let Output::Publish { topic, payload } = output {
            let seq = payload::seq(&payload);
            said.push((topic.strip_prefix("spBv1.0/acme/").unwrap().to_owned(), seq));
        }
    }
    said
}

fn connects(node: &mut Node, now: Instant) -> Vec<u8> {
    node.timeout(now, At::of_ms(1));
    let Some(Output::Connect { topic, will }) = node.poll_output() else { panic!() };
    assert_eq!(topic, "spBv1.0/acme/NDEATH/bench-1");
    node.connected(now);
    assert_eq!(node.poll_output(), Some(Output::Subscribe("spBv1.0/acme/NCMD/bench-1".to_owned())));
    will
}

fn rebirth() -> Vec<u8> {
    // The metric `Node Control/Rebirth`, Boolean, true.
    [&b"\x12\x1c\x0a\x14Node Control/Rebirth\x20\x0b\x70\x01\x18\x00"[..]].concat()
}

#[test]
fn a_connection_begins_with_births_and_then_tells_what_changed() {
    let mut now = Instant::now();
    let mut node = node(7, now);
    let will = connects(&mut node, now);
    assert!(node.wants_reading(now));
    node.look(reading(1, &[("if:chemistry", 1), ("to:ehr", 1)]), now);
    let births = [("NBIRTH/bench-1", 0), ("DBIRTH/bench-1/if:chemistry", 1), ("DBIRTH/bench-1/to:ehr", 2)];
    assert_eq!(said(&mut node), births.map(|(topic, seq)| (topic.to_owned(), seq)));
    assert_eq!(will, payload::node_death(At::of_ms(1), 195));
    // Nothing changed, nothing is said; the node's own figures are told no more often than they may.
    node.look(reading(1, &[("if:chemistry", 1), ("to:ehr", 1)]), now);
    node.look(reading(2, &[("if:chemistry", 2), ("to:ehr", 1)]), now);
    assert_eq!(said(&mut node), [("DDATA/bench-1/if:chemistry".to_owned(), 3)]);
    now += EVERY;
    node.look(reading(2, &[("if:chemistry", 2), ("if:urine", 0)]), now);
    let changes = [("NDATA/bench-1", 4), ("DDEATH/bench-1/to:ehr", 5), ("DBIRTH/bench-1/if:urine", 6)];
    assert_eq!(said(&mut node), changes.map(|(topic, seq)| (topic.to_owned(), seq)));
}

#[test]
fn seq_goes_around_and_a_birth_begins_it_anew() {
    let now = Instant::now();
    let mut node = node(1, now);
    connects(&mut node, now);
    let mut seqs = Vec::new();
    for count in 0..600 {
        node.look(reading(0, &[("if:chemistry", count)]), now);
        seqs.extend(said(&mut node).into_iter().map(|(_, seq)| seq));
    }
    assert!(seqs.iter().zip(seqs.iter().skip(1)).all(|(one, next)| *next == one.wrapping_add(1)), "{seqs:?}");
    node.received("spBv1.0/acme/NCMD/bench-1", &rebirth());
    assert!(!node.wants_reading(now), "it had one just now");
    let later = node.poll_timeout().unwrap();
    assert_eq!(later, now + REBIRTH_MIN);
    assert!(node.wants_reading(later));
    node.look(reading(0, &[]), later);
    assert_eq!(said(&mut node), [("NBIRTH/bench-1".to_owned(), 0)]);
}

#[test]
fn i12_whoever_asks_ever_so_often_gets_few_births() {
    let mut now = Instant::now();
    let mut node = node(1, now);
    connects(&mut node, now);
    let mut births = 0;
    for _ in 0..1000 {
        node.received("spBv1.0/acme/NCMD/bench-1", &rebirth());
        node.received("spBv1.0/acme/NCMD/bench-2", &rebirth());
        node.received("spBv1.0/acme/NCMD/bench-1", b"\xff\xff");
        if node.wants_reading(now) {
            node.look(reading(0, &[]), now);
            births += said(&mut node).len();
        }
        now += Duration::from_millis(10);
    }
    assert_eq!(births, 5, "ten seconds");
}

#[test]
fn each_connection_has_a_number_and_pairs_its_birth_with_its_death() {
    let mut now = Instant::now();
    let mut node = node(147, now);
    let first = connects(&mut node, now);
    node.look(reading(0, &[]), now);
    said(&mut node);
    node.lost(now);
    now = node.poll_timeout().unwrap();
    let second = connects(&mut node, now);
    assert_eq!((first, second), (payload::node_death(At::of_ms(1), 255), payload::node_death(At::of_ms(1), 0)));
    node.look(reading(0, &[]), now);
    assert_eq!(said(&mut node), [("NBIRTH/bench-1".to_owned(), 0)]);
}

#[test]
fn another_start_does_not_go_on_where_the_last_one_stopped() {
    let mut now = Instant::now();
    let mut before = node(7, now);
    let first_after = connects(&mut node(8, now), now);
    for _ in 0..STARTS_APART {
        assert_ne!(connects(&mut before, now), first_after);
        before.lost(now);
        now = before.poll_timeout().unwrap();
    }
}

#[test]
fn a_birth_waits_for_the_primary_host_and_the_connection_ends_with_it() {
    let now = Instant::now();
    let mut node = node(1, now).waits_for(Some("scada"));
    connects(&mut node, now);
    assert_eq!(node.poll_output(), Some(Output::Subscribe("spBv1.0/STATE/scada".to_owned())));
    let state = |online: bool, timestamp: u64| format!("{{\"online\":{online},\"timestamp\":{timestamp},\"x\":1}}");
    let says = |node: &mut Node, text: &str| node.received("spBv1.0/STATE/scada", text.as_bytes());
    let devices = [("if:chemistry", 1)];
    let looks = |node: &mut Node| {
        node.look(reading(1, &devices), now);
        said(node).len()
    };
    for nothing in ["", "OFFLINE", "{\"online\":true}", &state(false, 7), &state(true, 6)] {
        says(&mut node, nothing);
        assert!(!node.wants_reading(now) && node.poll_timeout() == Some(now + HOST_LATE), "{nothing}");
        assert_eq!(looks(&mut node), 0, "{nothing}");
    }
    node.received("spBv1.0/STATE/other", state(true, 99).as_bytes());
    assert_eq!(looks(&mut node), 0);
    says(&mut node, &state(true, 8));
    assert_eq!(looks(&mut node), 2);
    says(&mut node, &state(true, 9));
    says(&mut node, &state(false, 8));
    assert_eq!((node.poll_output(), looks(&mut node)), (None, 0), "it was said before");
    says(&mut node, &state(false, 9));
    assert_eq!(node.poll_output(), Some(Output::Host(HostIs::Gone)));
    assert_eq!(node.poll_output(), Some(Output::Disconnect));
    node.look(reading(2, &[("if:chemistry", 2)]), now);
    assert_eq!(said(&mut node), [], "it is dead");
    // It dials again, and is born when the host is back.
    node.lost(now);
    let later = node.poll_timeout().unwrap();
    connects(&mut node, later);
    assert!(matches!(node.poll_output(), Some(Output::Subscribe(_))) && !node.wants_reading(later));
    says(&mut node, &state(true, 1));
    assert!(node.wants_reading(later));
}

#[test]
fn a_primary_host_that_is_late_is_told_of_once_and_again_when_it_comes_or_goes() {
    let mut now = Instant::now();
    let mut node = node(1, now).waits_for(Some("scada"));
    let told = |node: &mut Node| {
        let all = std::iter::from_fn(|| node.poll_output());
        all.filter_map(|output| if let Output::Host(is) = output { Some(is) } else { None }).collect::<Vec<_>>()
    };
    let says = |node: &mut Node, online: bool| {
        let state = format!("{{\"online\":{online},\"timestamp\":1}}");
        node.received("spBv1.0/STATE/scada", state.as_bytes());
    };
    let again = |node: &mut Node, now: Instant| {
        node.lost(now);
        let now = node.poll_timeout().unwrap();
        connects(node, now);
        now
    };
    connects(&mut node, now);
    node.timeout(now + HOST_LATE - Duration::from_secs(1), At::of_ms(1));
    assert_eq!(told(&mut node), []);
    now = node.poll_timeout().unwrap();
    node.timeout(now, At::of_ms(1));
    assert_eq!((told(&mut node), node.poll_timeout()), (vec![HostIs::Awaited], None));
    // Once, however often the broker goes and comes.
    now = again(&mut node, now);
    assert_eq!((told(&mut node), node.poll_timeout()), (vec![], None));
    says(&mut node, true);
    says(&mut node, true);
    assert_eq!(told(&mut node), [HostIs::Here]);
    now = again(&mut node, now);
    says(&mut node, true);
    assert_eq!(told(&mut node), []);
    says(&mut node, false);
    assert_eq!(told(&mut node), [HostIs::Gone]);
    now = again(&mut node, now);
    says(&mut node, false);
    node.timeout(now + HOST_LATE, At::of_ms(1));
    assert_eq!(told(&mut node), []);
}

#[test]
fn boxes_that_started_as_often_do_not_dial_in_step() {
    let now = Instant::now();
    let pause = |name: &str| {
        let mut node = Node::new("acme", name, 1, EVERY, now);
        connects_as(&mut node, now);
        node.lost(now);
        node.poll_timeout()
    };
    assert_ne!(pause("bench-1"), pause("bench-2"));
}

fn connects_as(node: &mut Node, now: Instant) {
    node.timeout(now, At::of_ms(1));
    node.connected(now);
}
