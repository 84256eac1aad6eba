use super::*;
use crate::interpreter::register::Seen;
use crate::journal::DestinationStats;
use crate::watch::Alert;

fn config(name: &str) -> link::Config {
    link::Config { name: name.to_string(), listen: Some("0.0.0.0:4001".to_string()), ..Default::default() }
}

fn health(parts: u64, messages: u64, reasons: &[(&str, u64)]) -> LinkHealth {
    LinkHealth {
        link: "chemistry".to_string(),
        up: true,
        open_connections: 1,
        connections: 1,
        parts,
        messages,
        silent_s: (parts > 0).then_some(3),
        line_errors: None,
        modem_lines: None,
        reasons: reasons.iter().map(|(reason, n)| (reason.to_string(), *n)).collect(),
    }
}

fn facts<'a>(links: Vec<(&'a link::Config, Option<LinkHealth>)>) -> Facts<'a> {
    Facts {
        links,
        orders: Vec::new(),
        order_feeds: Vec::new(),
        destinations: Vec::new(),
        condition: Some(Condition::Good),
        free_bytes: 5 << 30,
        alerts: Vec::new(),
        clock_synchronised: true,
        stats: None,
        ports: Vec::new(),
        held: BTreeMap::new(),
        parked: Vec::new(),
        instruments: Instruments::new(),
        fleet: None,
        folders: BTreeMap::new(),
    }
}

fn found(facts: &Facts<'_>, layer: &str) -> Finding {
    let all = diagnose(facts);
    all.iter().find(|f| f.layer == layer).unwrap_or_else(|| panic!("nothing about {layer} in {all:?}")).clone()
}

#[test]
fn a_sound_box_has_nothing_to_do() {
    let link = config("chemistry");
    let facts = facts(vec![(&link, Some(health(28, 1, &[])))]);
    let all = diagnose(&facts);
    assert!(all.iter().all(|f| f.state == State::Good && f.next.is_empty()), "{all:?}");
    assert_eq!(
        all.iter().map(|f| f.layer).collect::<Vec<_>>(),
        ["disk", "clock", "gateway", "line", "link-ack", "records"]
    );
}

#[test]
fn what_the_watch_found_is_worth_a_look() {
    let alert = |trouble, of: &str, figure| Alert { began: true, trouble, of: of.to_string(), figure, limit: 20 };
    let standing = |alert| StandingAlert { alert, since_ms: 0 };
    let alerts = vec![standing(alert(Trouble::Silence, "chemistry", 4000)), standing(alert(Trouble::Disk, "", 30))];
    let all = diagnose(&Facts { alerts, ..facts(vec![]) });
    let told: Vec<_> = all.iter().filter(|f| f.layer == "watch").map(|f| (&*f.subject, f.state, &*f.says)).collect();
    let silence = "silence of chemistry: nothing came for 4000 s, where messages used to come";
    let disk = "disk: at the rate of the last day the disk is full in 30 hours";
    assert_eq!(told, [("chemistry", State::Look, silence), ("", State::Look, disk)]);
}

#[test]
fn each_instruments_clock_is_judged_and_a_wrong_zone_is_called_one() {
    let link = config("chemistry");
    for (drift_s, state, says, next) in [
        (4, State::Good, "4 s ahead", ""),
        (-400, State::Look, "6 min 40 s behind", "soon"),
        (-1_500, State::Bad, "its results are held", "set the clock"),
        (7_203, State::Bad, "wrong time zone; its results are held", "2 h 00 min more than `time_zone`"),
        (-890, State::Look, "wrong time zone", "15 min 0 s less"),
    ] {
        let seen = Seen { drifts_s: [drift_s; 5].into(), ..Seen::default() };
        let instruments = [("chemistry".to_string(), [("abl".to_string(), seen)].into())].into();
        let facts = Facts { instruments, ..facts(vec![(&link, Some(health(28, 1, &[])))]) };
        let found = diagnose(&facts).into_iter().find(|f| f.subject == "chemistry" && f.layer == "clock").unwrap();
        assert_eq!(found.state, state, "{found:?}");
        assert!(found.says.starts_with("abl: ") && found.says.contains(says), "{found:?}");
        assert!(found.next.contains(next), "{found:?}");
    }
}

#[test]
fn the_fleet_is_worth_a_look_and_keeps_no_result() {
    let good = Status { connected: true, downlink_proven: true, ..Status::default() };
    let away = Status { events_waiting: 7, trouble: "the broker does not answer".to_string(), ..Status::default() };
    for (status, state, says) in [
        (good.clone(), State::Good, "desk is heard"),
        (Status { downlink_proven: false, ..good.clone() }, State::Look, "no desk has answered"),
        (Status { trouble: "it refuses".to_string(), ..good }, State::Look, "is there, but: it refuses"),
        (away, State::Look, "away: the broker does not answer; 7 events wait"),
        (Status::default(), State::Look, "not reached yet"),
    ] {
        let found = found(&Facts { fleet: Some(status), ..facts(Vec::new()) }, "fleet");
        assert!(found.state == state && found.says.contains(says), "{found:?}");
        assert_eq!(found.next.is_empty(), state == State::Good);
    }
    assert!(diagnose(&facts(Vec::new())).iter().all(|f| f.layer != "fleet"), "a box on its own is not told of it");
}

#[test]
fn what_is_not_good_says_what_to_do_next() {
    let link = config("chemistry");
    let serial = link::Config { listen: None, serial: Some("/dev/ttyUSB0".into()), ..config("serial") };
    let down = LinkHealth { up: false, ..health(0, 0, &[]) };
    let nobody = LinkHealth { open_connections: 0, ..health(0, 0, &[]) };
    let lines = |cts| Some(link::serial::port::ModemLines { cts, ..Default::default() });
    let with_lines = |cts| LinkHealth { modem_lines: lines(cts), ..health(0, 0, &[]) };
    for (facts, layer, state, word) in [
        (facts(vec![(&serial, Some(with_lines(true)))]), "line", State::Look, "host interface"),
        (facts(vec![(&serial, Some(with_lines(false)))]), "line", State::Look, "crossed"),
        (facts(vec![(&serial, Some(down))]), "line", State::Bad, "by-id"),
        (facts(vec![(&serial, Some(health(0, 0, &[])))]), "line", State::Look, "crossed"),
        (facts(vec![(&link, Some(nobody))]), "line", State::Look, "firewall"),
        (facts(vec![(&link, Some(health(0, 0, &[("bad checksum", 6)])))]), "link-ack", State::Bad, "tap"),
        (facts(vec![(&link, Some(health(9, 3, &[("bad checksum", 1)])))]), "link-ack", State::Look, "tap"),
        (facts(vec![(&link, Some(health(9, 0, &[])))]), "records", State::Look, "L record"),
        (Facts { condition: None, ..facts(vec![(&link, None)]) }, "gateway", State::Bad, "start"),
        (Facts { condition: Some(Condition::Full), ..facts(vec![]) }, "disk", State::Bad, "quota_mb"),
        (
            Facts { condition: Some(Condition::FullOfImages { since_ms: 1 }), ..facts(vec![]) },
            "disk",
            State::Bad,
            "archives",
        ),
        (Facts { clock_synchronised: false, ..facts(vec![]) }, "clock", State::Look, "time server"),
    ] {
        let finding = found(&facts, layer);
        assert_eq!(finding.state, state, "{finding:?}");
        assert!(finding.next.contains(word), "{finding:?}");
    }
}

#[test]
fn held_results_and_a_deaf_ehr_are_told_apart() {
    let link = config("chemistry");
    let ehr = delivery::Config { name: "ehr".to_string(), ..Default::default() };
    let mut facts = facts(vec![(&link, Some(health(28, 1, &[])))]);
    facts.held.insert(("chemistry".to_string(), Doubt::UnmappedCode.name().to_string()), 12);
    facts.destinations = vec![(&ehr, Reached::No("connection refused".to_string()))];
    let waits = DestinationStats { destination: "ehr".to_string(), queued: 40, parked: 2, oldest_ms: Some(7_200_000) };
    facts.stats = Some(Stats { destinations: vec![waits], ..Stats::default() });
    let mapping = found(&facts, "mapping");
    assert_eq!((mapping.says.as_str(), mapping.state), ("12 results are held: unmapped-code", State::Look));
    assert!(found(&facts, "queue").says.contains("40 messages wait, the oldest for 120 min"));
    assert_eq!(found(&facts, "ehr").says, "connection refused");
    assert!(found(&facts, "ehr-ack").next.contains("requeue"));

    facts.destinations.clear();
    let left = found(&facts, "queue");
    assert!(left.state == State::Bad && left.says.contains("42 messages wait for it"), "a name that is gone: {left:?}");
    facts.destinations = vec![(&ehr, Reached::No("connection refused".to_string()))];
    facts.stats = None;
    assert_eq!(found(&facts, "queue").state, State::Look, "nothing is known of what waits");
}

#[test]
fn what_the_kernel_counted_on_a_port_is_told_before_any_protocol() {
    let serial = link::Config { listen: None, serial: Some("/dev/ttyUSB0".into()), ..config("serial") };
    let counted = link::serial::port::LineErrors { framing: 12, ..Default::default() };
    let of = |messages, counted| LinkHealth { line_errors: Some(counted), ..health(messages, messages, &[]) };
    let deaf = found(&facts(vec![(&serial, Some(of(0, counted)))]), "port");
    assert_eq!((deaf.state, deaf.says.as_str()), (State::Bad, "the kernel counted framing errors: 12"));
    assert_eq!(found(&facts(vec![(&serial, Some(of(3, counted)))]), "port").state, State::Look);
    let sound = diagnose(&facts(vec![(&serial, Some(of(3, Default::default())))]));
    assert!(sound.iter().all(|finding| finding.layer != "port"), "{sound:?}");
}

#[test]
fn twins_are_told_of_where_a_link_names_them_alike() {
    let by_id = std::path::PathBuf::from("/dev/serial/by-id/usb-Prolific");
    let serial = link::Config { listen: None, serial: Some(by_id.clone()), ..config("serial") };
    let port = Port {
        device: "/dev/ttyUSB0".into(),
        by_id: Some(by_id),
        by_path: Some("/dev/serial/by-path/pci-usb-1-1.1".into()),
        usb: None,
        twin: true,
    };
    let told = Facts { ports: vec![port.clone()], ..facts(vec![(&serial, Some(health(1, 1, &[])))]) };
    let twin = found(&told, "port");
    assert!(twin.says.contains("alike") && twin.next.contains("by-path/pci-usb-1-1.1"), "{twin:?}");
    let alone = Facts { ports: vec![Port { twin: false, ..port }], ..facts(vec![(&serial, Some(health(1, 1, &[])))]) };
    assert!(diagnose(&alone).iter().all(|finding| finding.layer != "port"));
}

#[test]
fn a_connection_for_orders_is_told_apart_by_what_came_over_it() {
    let orders = crate::orders::Config { name: "hospital".into(), listen: "0.0.0.0:4100".into(), ..Default::default() };
    let say =
        |health: LinkHealth| found(&Facts { orders: vec![(&orders, Some(health))], ..facts(Vec::new()) }, "orders");
    assert_eq!(say(health(3, 3, &[])).state, State::Good);
    let refused = say(health(3, 3, &[("this event is not taken here", 2)]));
    assert_eq!(refused.state, State::Look);
    assert!(refused.says.contains("this event is not taken here (2)"), "{refused:?}");
    let silent = say(LinkHealth { open_connections: 0, ..health(0, 0, &[]) });
    assert!(silent.says.contains("0.0.0.0:4100"), "{silent:?}");
    assert_eq!(say(LinkHealth { up: false, ..health(0, 0, &[]) }).state, State::Bad);
}

#[test]
fn a_feed_of_orders_is_told_apart_by_what_the_server_gives() {
    let feed = crate::orders::feed::Config {
        name: "ehr".into(),
        url: "https://ehr.example/fhir".into(),
        ..Default::default()
    };
    let say =
        |health: LinkHealth| found(&Facts { order_feeds: vec![(&feed, Some(health))], ..facts(Vec::new()) }, "orders");
    assert_eq!(say(health(3, 3, &[])).state, State::Good);
    assert_eq!(say(LinkHealth { up: false, ..health(3, 3, &[]) }).state, State::Bad);
    let empty = say(health(0, 0, &[]));
    assert!(empty.next.contains("https://ehr.example/fhir/ServiceRequest?category="), "{empty:?}");
    assert!(say(health(3, 3, &[("it has no identifier", 2)])).says.contains("it has no identifier (2)"));
}
