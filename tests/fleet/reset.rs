//! A box is told to forget everything: by two operators, never while anything waits that they do not know of, never half,
//! never twice; its answer is there before its keys are gone, and afterwards it enrols anew.

use crate::broker::{Broker, until};
use crate::commands::{BOX, Box, said, signed, topic};
use crate::data_path::{ASTM, of_round, send, session};
use crate::identity::{Site, is_up};
use crate::rig::{ALL_UP, DESK, TENANT};
use crate::witness::Witness;
use afferent::fleet::command::Operation;
use serde_json::Value;
use std::path::Path;

fn phases(witness: &Witness, id: &str) -> Vec<String> {
    let said: std::collections::BTreeSet<_> = said(witness, id).into_iter().map(|(phase, id)| (id, phase)).collect();
    said.into_iter().map(|(_, phase)| phase).collect()
}

fn outcome(witness: &Witness, id: &str) -> Value {
    let events = witness.heard("up/event").into_iter().map(|event| event.json());
    events.filter(|event| event["command"] == id).map(|event| event["outcome"].clone()).next_back().unwrap()
}

fn entries(data: &Path) -> i64 {
    let db = rusqlite::Connection::open(data.join("journal.db")).unwrap();
    db.query_row("SELECT count(*) FROM entry", [], |row| row.get(0)).unwrap_or(-1)
}

fn key(data: &Path) -> Option<Vec<u8>> {
    std::fs::read(data.join("journal.key")).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_kill_a_box_is_reset_from_afar_whole_or_not_at_all_and_once() {
    let Some(broker) = Broker::start() else { return };
    let Some(mut desk) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut gateway = Box::new(&broker);
    let data = gateway.data();
    let reset = |discard| Operation::FactoryReset { discard };
    let mut seq = 0;
    let mut tell = |desk: &mut Witness, discard, signers: &[&str]| {
        seq += 1;
        let (id, bytes) = signed(seq, reset(discard), signers);
        desk.say(&topic(&id), &bytes, false);
        (id, bytes)
    };

    // A result waits for an EHR that is not there. Who does not know of it throws nothing away.
    gateway.run(None);
    until("the box is there", || is_up(&desk));
    send(gateway.astm, &of_round(&session(ASTM), 1)).await;
    until("it is in the journal", || entries(&data) == 1);
    let before = key(&data);
    let (alone, _) = tell(&mut desk, 1, &["ann"]);
    until("one is not enough", || phases(&desk, &alone) == ["refused"]);
    let (unknowing, _) = tell(&mut desk, 0, &["ann", "bob"]);
    until("it says how much waits", || phases(&desk, &unknowing) == ["failed"]);
    let told = outcome(&desk, &unknowing);
    let waits = told["total"].as_u64().unwrap();
    assert!(told["did"] == "undelivered" && waits > 0 && told["queued"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(key(&data), before);

    // What comes in between its answer and its end keeps it from being done; the box says so, and nothing is lost.
    gateway.kill();
    gateway.run(Some("fleet-command-left:1"));
    let (id, _) = tell(&mut desk, waits, &["ann", "bob"]);
    assert!(gateway.died(), "it has answered");
    let change = |sql: &str| {
        let db = rusqlite::Connection::open(data.join("journal.db")).unwrap();
        db.execute_batch(sql).unwrap();
    };
    change("UPDATE outbox SET state = 1 WHERE state = 0");
    gateway.run(None);
    until("it says that it is as it was", || phases(&desk, &id).contains(&"failed".to_string()));
    assert_eq!(phases(&desk, &id).len(), 2);
    assert_eq!((entries(&data), key(&data)), (1, before.clone()));
    gateway.kill();
    change("UPDATE outbox SET state = 0 WHERE state = 1");

    // Nor does another thing that comes in the place of one that went: the number is the same, and nobody knows of it.
    gateway.run(Some("fleet-command-left:1"));
    let (id, _) = tell(&mut desk, waits, &["ann", "bob"]);
    assert!(gateway.died(), "it has answered");
    change(
        "UPDATE outbox SET state = 1 WHERE id = (SELECT min(id) FROM outbox WHERE state = 0);
         INSERT INTO entry(link, received_ms, state, complete, parts, bytes) VALUES ('other', 0, 3, 1, 0, 0)",
    );
    gateway.run(None);
    until("it says that it is as it was", || phases(&desk, &id).contains(&"failed".to_string()));
    assert_eq!((entries(&data), key(&data)), (2, before.clone()));
    gateway.kill();
    change("UPDATE outbox SET state = 0 WHERE state = 1; DELETE FROM entry WHERE link = 'other'");

    // Wherever it dies, it is what it was or it is new, the desk has heard, and another start makes it good.
    let before_the_answer =
        ["fleet-command-kept", "fleet-command-running", "fleet-command-run", "fleet-command-leaving"];
    let behind_it = ["fleet-command-left"];
    let at_next_start = ["reset-counted", "reset-begun", "reset-erased", "reset-synced", "reset-ended"];
    let mut discard = waits;
    let mut epoch = 0;
    for place in before_the_answer.into_iter().chain(behind_it).chain(at_next_start) {
        let old = key(&data);
        let is_late = at_next_start.contains(&place);
        gateway.run(if is_late { None } else { Some(place) }.map(|place| format!("{place}:1")).as_deref());
        let (id, bytes) = tell(&mut desk, discard, &["ann", "bob"]);
        assert_eq!(gateway.died(), !is_late, "{place}");
        // The broker has it before whoever listens does.
        if is_late {
            until(place, || !phases(&desk, &id).is_empty());
            assert_eq!(phases(&desk, &id), ["leaving"], "{place}");
            assert_eq!(key(&data), old, "nothing is erased while it runs");
            gateway.run(Some(&format!("{place}:1")));
            assert!(gateway.died(), "{place}");
        }
        // It ends by itself once the broker has its answer, if it had not.
        gateway.run(None);
        if before_the_answer.contains(&place) {
            assert!(!gateway.died(), "{place}: it stopped in order");
            gateway.run(None);
        }
        until(place, || key(&data).is_some_and(|new| Some(new) != old) && entries(&data) == 0);
        assert_eq!(phases(&desk, &id), ["leaving"], "{place}");
        // The box goes on counting its starts, so that the desk knows what is new.
        let births = || desk.heard("up/birth").iter().filter_map(|birth| birth.json()["epoch"].as_u64()).max();
        until("it is on the bus", || births().is_some_and(|now| now > epoch));
        epoch = births().unwrap();
        // Told again what it was told before, it does not do it again.
        desk.say(&topic(&id), &bytes, false);
        until("it refuses", || phases(&desk, &id).contains(&"refused".to_string()));
        let events = desk.heard("up/event").into_iter().map(|event| event.json());
        let refused = events.filter(|event| event["command"] == id && event["phase"] == "refused");
        assert!(refused.map(|event| event["why"].clone()).all(|why| why == "before-reset"), "{place}");
        discard = 0;
        gateway.kill();
    }
}

#[test]
fn a_box_that_was_reset_from_afar_enrols_anew() {
    let Some(mut broker) = Broker::start() else { return };
    let mut site = Site::new();
    broker.trusts(&site.path("ca/root.pem"), &site.path("trust.pem"));
    let Some(witness) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let tls = toml::to_string(&broker.client("desk-acme-2")).unwrap();
    let desk = format!("broker = \"localhost:{}\"\ntenant = \"{TENANT}\"\n[tls]\n{tls}", broker.port);
    site.serve("90d");
    site.configure(broker.port);
    std::fs::write(site.path("desk.toml"), desk).unwrap();
    let operators = ["ops-1.key", "ops-2.key"].map(|key| site.says(&["desk", "key", key])).concat();
    let settings = std::fs::read_to_string(site.path("box.toml")).unwrap();
    std::fs::write(site.path("box.toml"), settings + &operators).unwrap();
    site.run();
    let first = site.code();
    site.says(&["desk", "enrol", "accept", &first, "--name", BOX]);
    until("the box is on the bus", || is_up(&witness));
    let serial = site.serial();

    let both = ["--sign", "ops-1.key", "--sign", "ops-2.key"];
    let wrong = site.command(&[&["desk", "command", BOX, "factory-reset", "--discard", "7"][..], &both].concat());
    let wrong = { wrong }.output().unwrap();
    let says = String::from_utf8(wrong.stdout).unwrap();
    assert!(!wrong.status.success() && says.contains("0 went nowhere yet; to throw that away, say exactly"), "{says}");
    let said = site.says(&[&["desk", "command", BOX, "factory-reset"][..], &both].concat());
    assert!(said.starts_with("factory-reset leaving: it forgets everything"), "{said}");
    site.ended();
    site.run();
    // Another key, and so another code; whoever sees it says that this box takes the other's place.
    let second = site.code();
    assert_ne!(first, second);
    assert_eq!(site.serial(), None, "nothing is left of what it was");
    let taken = site.command(&["desk", "enrol", "accept", &second, "--name", BOX]).output().unwrap();
    assert!(!taken.status.success());
    let ups = witness.heard("up/birth").len();
    site.says(&["desk", "enrol", "accept", &second, "--name", BOX, "--replace"]);
    until("it is on the bus anew", || witness.heard("up/birth").len() > ups && is_up(&witness));
    assert!(site.serial().is_some_and(|now| Some(now) != serial));
}
