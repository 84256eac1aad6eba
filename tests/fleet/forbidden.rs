//! What the shipped rules forbid is refused, and what they cannot forbid is not believed.

use crate::broker::{Broker, until};
use crate::desk::Desk;
use crate::raw::Client;
use crate::rig::DESK;
use afferent::tls::ClientTls;
use rumqttc::PubAckReason;
use serde_json::Value;

const ONLINE: &[u8] = br#"{"v":1,"online":true,"epoch":9,"downlink":"proven"}"#;
const AWAY: &[u8] = br#"{"v":1,"online":false,"epoch":99}"#;

fn topic(tenant: &str, name: &str, end: &str) -> String {
    format!("afferent/v1/{tenant}/{name}/{end}")
}

#[test]
fn a_hostile_box_speaks_for_nobody_else_and_hears_nothing() {
    let Some(broker) = Broker::start() else { return };
    let tls = broker.client("bench-1");
    let connect = |name: &str, will| Client::connect(broker.port, &broker.client(name), name, will).unwrap();
    let mut victim = connect("bench-2", None);
    assert_eq!(victim.say(&topic("acme", "bench-2", "up/state"), ONLINE), PubAckReason::NoMatchingSubscribers);
    let will = topic("acme", "bench-2", "up/state");
    let mut hostile = connect("bench-1", Some((will.as_str(), AWAY)));
    for forbidden in [
        topic("acme", "bench-2", "up/state"),
        topic("acme", "bench-2", "up/event"),
        topic("acme", "bench-2", "dn/cmd/x"),
        topic("acme", "bench-1", "dn/desired"),
        // Names of its own making, under which it could have the broker keep anything.
        topic("acme", "bench-1", "up"),
        topic("acme", "bench-1", "up/junk"),
        topic("acme", "bench-1", "up/junk/1"),
        topic("acme", "bench-1", "up/if"),
        topic("acme", "bench-1", "up/if/a/b"),
        topic("acme", "bench-1", "up/state/1"),
        topic("acme", "bench-1", "up/log/a/b"),
        topic("acme", "bench-1", "junk/state"),
        topic("no-tenant", "bench-1", "up/state"),
        "afferent/v2/acme/bench-1/up/state".to_string(),
        "spBv1.0/no-group/NBIRTH/bench-1".to_string(),
        "spBv1.0/acme/NBIRTH/bench-2".to_string(),
        "spBv1.0/acme/NCMD/bench-1".to_string(),
        "afferent/v1/acme".to_string(),
        "other".to_string(),
    ] {
        assert_eq!(hostile.say(&forbidden, b"{}"), PubAckReason::NotAuthorized, "{forbidden}");
    }

    // mosquitto takes any subscription and gives nothing of it.
    hostile.subscribe("#");
    hostile.subscribe("afferent/v1/acme/+/dn/#");
    hostile.subscribe("$SYS/#");
    hostile.subscribe("$share/desk/afferent/v1/acme/+/up/event");
    let mut desk = connect(DESK, None);
    desk.say(&topic("acme", "bench-2", "dn/cmd/a"), b"secret");
    victim.say(&topic("acme", "bench-2", "up/event"), b"secret");
    desk.say(&topic("acme", "bench-1", "dn/cmd/b"), b"mine");
    hostile.hear(&topic("acme", "bench-1", "dn/cmd/b"));
    assert!(hostile.came.iter().all(|(_, payload)| payload == b"mine"), "{:?}", hostile.came);

    // Whoever it says it is, the broker knows its certificate: it ends no connection but its own.
    let mut disguised = Client::connect(broker.port, &tls, "bench-2", None).unwrap();
    assert!(victim.is_alive() && !hostile.is_alive());
    assert_eq!(disguised.say(&topic("acme", "bench-2", "up/state"), AWAY), PubAckReason::NotAuthorized);
    Client::connect(broker.port, &tls, "bench-1", Some((&will, AWAY))).unwrap().vanish();

    // Behind the forged will comes something true; the desk has heard both when it hears this.
    let mut watching = connect("desk-acme-2", None);
    until("the end of the hostile box was seen", || {
        let log = std::fs::read_to_string(broker.path().join("log")).unwrap();
        log.contains("Client bench-1 closed its connection")
    });
    watching.subscribe("afferent/v1/acme/+/up/state");
    watching.hear(&will);
    victim.say(&topic("acme", "bench-2", "up/alerts"), b"{}");
    let states: Vec<_> =
        watching.came.iter().filter(|(on, _)| *on == will).map(|(_, payload)| payload.clone()).collect();
    assert_eq!(states, [ONLINE], "the forged will was dropped");
}

#[test]
fn a_hostile_box_has_nothing_kept_under_other_names_and_what_it_did_shows_and_can_be_cleaned() {
    let Some(mut broker) = Broker::start() else { return };
    let clean = "desk-acme-clean";
    // As the file says: uncommented, and read again. The observer is nobody that a fleet has.
    let acl = broker.path().join("acl");
    let shipped = std::fs::read_to_string(&acl).unwrap();
    let rules = shipped.replace(&format!("#user {clean}\n#topic"), &format!("user {clean}\ntopic"));
    assert_ne!(rules, shipped);
    std::fs::write(&acl, format!("{rules}user observer\ntopic read #\n")).unwrap();
    // Its port is open before it minds signals: until then SIGHUP ends it.
    let serves = || Client::connect(broker.port, &broker.client("observer"), "observer", None).is_ok();
    until("the broker serves", serves);
    broker.reads_its_rules_again();
    let kept = |broker: &Broker| {
        let mut observer = Client::connect(broker.port, &broker.client("observer"), "observer", None).unwrap();
        observer.subscribe("#");
        // What is kept comes before what is said now.
        let mut other = Client::connect(broker.port, &broker.client("bench-2"), "bench-2", None).unwrap();
        other.say(&topic("acme", "bench-2", "up/event"), b"now");
        observer.hear(&topic("acme", "bench-2", "up/event"));
        observer.came.into_iter().map(|(on, _)| on).filter(|on| !on.contains("bench-2")).collect::<Vec<_>>()
    };
    // The rules are read a moment later.
    until("the observer is let in", || kept(&broker).is_empty());

    let will = topic("acme", "bench-1", "up/junk");
    let connect = |will| Client::connect(broker.port, &broker.client("bench-1"), "bench-1", will).unwrap();
    let mut hostile = connect(Some((will.as_str(), AWAY)));
    for n in 0..50 {
        for end in [format!("up/{n}"), format!("up/junk/{n}"), format!("up/state/{n}"), format!("up/if/{n}/x")] {
            assert_eq!(hostile.say(&topic("acme", "bench-1", &end), b"{}"), PubAckReason::NotAuthorized, "{end}");
        }
    }
    hostile.vanish();
    until("its end was seen", || {
        let log = std::fs::read_to_string(broker.path().join("log")).unwrap();
        log.contains("Client bench-1 closed its connection")
    });
    assert_eq!(kept(&broker), Vec::<String>::new());

    // As many links as it likes it may have, but no desk takes them for well.
    let desk = Desk::shipped(&broker);
    let row = || desk.fleet()["bench-1"].clone();
    let mut hostile = connect(None);
    hostile.say(&topic("acme", "bench-1", "up/state"), ONLINE);
    for n in 0..64 {
        hostile.say(&topic("acme", "bench-1", &format!("up/if/{n}")), br#"{"up":true}"#);
    }
    assert_eq!(row()["crowded"], false);
    for n in 64..300 {
        hostile.say(&topic("acme", "bench-1", &format!("up/if/{n}")), br#"{"up":true}"#);
    }
    assert_eq!((row()["crowded"].clone(), row()["links"].as_object().unwrap().len()), (true.into(), 64));
    let table = desk.does(&["fleet"]);
    let line = table.lines().find(|line| line.starts_with("bench-1")).unwrap();
    assert!(line.contains("unusual") && line.contains("more than 64 links or destinations"), "{table}");
    assert!(kept(&broker).len() >= 300);
    hostile.vanish();

    let Ok(_) = std::process::Command::new("mosquitto_sub").arg("--help").output() else {
        println!("left out: cleaning up (no mosquitto_sub here)");
        return;
    };
    let tls = broker.client(clean);
    let port = broker.port.to_string();
    let mut cleaner = std::process::Command::new("mosquitto_sub");
    cleaner.arg("--cafile").arg(tls.ca.unwrap()).arg("--cert").arg(tls.cert.unwrap());
    cleaner.arg("--key").arg(tls.key.unwrap()).args(["-h", "localhost", "-p", &port, "-i", clean]);
    cleaner.args(["--remove-retained", "--retained-only", "-W", "10", "-t", "afferent/v1/acme/bench-1/up/#"]);
    cleaner.output().unwrap();
    assert_eq!(kept(&broker), Vec::<String>::new());
    assert_eq!(row(), Value::Null);
}

#[test]
fn a_word_of_another_box_gets_through_a_broker_that_a_hostile_one_has_filled() {
    let Some(mut broker) = Broker::start() else { return };
    let conf = broker.path().join("mosquitto.conf");
    let shipped = std::fs::read_to_string(&conf).unwrap();
    // Less, so that it is full sooner.
    let small = shipped.replace("memory_limit 1073741824\n", "memory_limit 8000000\n");
    assert_ne!(small, shipped);
    std::fs::write(&conf, small).unwrap();
    broker.kill();
    broker.restart();
    let connect = |name: &str| Client::connect(broker.port, &broker.client(name), name, None).unwrap();
    let mut victim = connect("bench-2");
    let (mut hostile, junk) = (connect("bench-1"), vec![b'x'; 200_000]);
    let mut count = 0;
    while hostile.tries_to_say(&topic("acme", "bench-1", &format!("up/if/{count}")), &junk).is_ok() {
        count += 1;
        assert!(count < 100, "there is no bound");
    }
    assert!(count > 10, "{count}");
    let mut watching = connect("desk-acme-2");
    watching.subscribe("afferent/v1/acme/bench-2/up/state");
    assert_eq!(victim.say(&topic("acme", "bench-2", "up/state"), ONLINE), PubAckReason::Success);
    watching.hear(&topic("acme", "bench-2", "up/state"));
}

#[test]
fn a_desk_speaks_for_no_box_and_to_no_other_tenant() {
    let Some(broker) = Broker::start() else { return };
    let mut desk = Client::connect(broker.port, &broker.client(DESK), DESK, None).unwrap();
    for forbidden in [
        topic("acme", "bench-1", "up/state"),
        topic("globex", "bench-1", "dn/cmd/x"),
        topic("acme", "bench-1", "up/event"),
    ] {
        assert_eq!(desk.say(&forbidden, b"{}"), PubAckReason::NotAuthorized, "{forbidden}");
    }
    // A desk that the rules do not name says and hears nothing; neither does the one that notes events tell.
    for name in ["desk-globex", "desk-acme-events"] {
        let mut other = Client::connect(broker.port, &broker.client(name), name, None).unwrap();
        assert_eq!(other.say(&topic("acme", "bench-1", "dn/cmd/x"), b"{}"), PubAckReason::NotAuthorized, "{name}");
        other.subscribe("afferent/v1/acme/+/up/state");
        let mut gateway = Client::connect(broker.port, &broker.client("bench-1"), "bench-1", None).unwrap();
        gateway.say(&topic("acme", "bench-1", "up/state"), ONLINE);
        assert!(other.is_alive() && other.came.is_empty(), "{name}: {:?}", other.came);
    }
    // Nobody comes without a certificate, or with one of another authority.
    let without = ClientTls { cert: None, key: None, ..broker.client("bench-1") };
    assert!(Client::connect(broker.port, &without, DESK, None).is_err());
    let other = afferent::tls::throwaway::Authority::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = other.client(DESK).unwrap().write(dir.path(), DESK).unwrap();
    let forged = ClientTls { cert: Some(cert), key: Some(key), ..broker.client("bench-1") };
    assert!(Client::connect(broker.port, &forged, DESK, None).is_err());
}

#[test]
fn a_box_that_was_barred_is_kept_out_by_what_the_desk_prints() {
    let Some(mut broker) = Broker::start() else { return };
    let desk = Desk::shipped(&broker);
    desk.does(&["enrol", "list"]);
    let enrolled = "INSERT INTO certificate VALUES ('1', 'bench-1', x'00', 'accepted', 0, 1, 0, x'00')";
    rusqlite::Connection::open(desk.file("enrol.db")).unwrap().execute(enrolled, []).unwrap();
    let printed = desk.does(&["enrol", "bar", "bench-1"]);
    let (_, rules) = printed.split_once("\n\n").unwrap();
    let acl = broker.path().join("acl");
    std::fs::write(&acl, format!("{}\n{rules}", std::fs::read_to_string(&acl).unwrap())).unwrap();
    let mut stolen = Client::connect(broker.port, &broker.client("bench-1"), "bench-1", None).unwrap();
    let state = topic("acme", "bench-1", "up/state");
    assert_eq!(stolen.say(&state, ONLINE), PubAckReason::NoMatchingSubscribers, "not yet");
    broker.reads_its_rules_again();
    until("it is kept out", || stolen.say(&state, ONLINE) == PubAckReason::NotAuthorized);
    let mut other = Client::connect(broker.port, &broker.client("bench-2"), "bench-2", None).unwrap();
    assert_eq!(other.say(&topic("acme", "bench-2", "up/state"), ONLINE), PubAckReason::NoMatchingSubscribers);
}

#[test]
fn a_box_under_another_tenants_name_is_a_stranger() {
    let Some(broker) = Broker::start() else { return };
    let desk = Desk::shipped(&broker);
    desk.does(&["inventory", "put", "bench-1"]);
    // The rules cannot tell whose box it is: it may say so here and there.
    let mut gateway = Client::connect(broker.port, &broker.client("thief-1"), "thief-1", None).unwrap();
    for tenant in ["acme", "globex"] {
        let said = gateway.say(&topic(tenant, "thief-1", "up/state"), ONLINE);
        assert_eq!(said, PubAckReason::NoMatchingSubscribers, "{tenant}");
    }
    let table = desk.does(&["fleet"]);
    let row = table.lines().find(|line| line.starts_with("thief-1")).unwrap();
    assert!(row.split_whitespace().nth(2) == Some("?") && table.contains("1 strangers"), "{table}");
    let known: Value = serde_json::from_str(&desk.does(&["fleet", "--json", "--group", "all"])).unwrap();
    assert_eq!(known, serde_json::json!({}), "it belongs to no group");
    assert!(
        desk.refuses(&["rollout", "start", "ping", "--sign", "none.key", "--group", "name=thief-*"]).contains("no box")
    );
}
