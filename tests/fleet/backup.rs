//! A box of a fleet dies, and another one takes its place: the desk sees it under its name, with what it ran, and with
//! another key; nothing that was asked or sent before counts again.

use crate::broker::{Broker, until};
use crate::commands::{BOX, key, said, signed, topic};
use crate::config;
use crate::identity::{Site, is_up, openssl_takes};
use crate::ports::free_port;
use crate::rig::{ALL_UP, DESK, TENANT};
use crate::witness::Witness;
use afferent::fleet::command::Operation;
use afferent::fleet::desired::Desired;
use serde_json::Value;
use std::collections::BTreeMap;

/// What the box says that it runs, without when.
fn runs(witness: &Witness) -> Value {
    let said = config::reported(witness);
    serde_json::json!(["running", "rev", "hash", "state", "local", "drift"].map(|key| said[key].clone()))
}

fn tell(desk: &mut Witness, (id, bytes): &(String, Vec<u8>), phase: &str) {
    desk.say(&topic(id), bytes, false);
    until(phase, || said(desk, id).iter().any(|(found, _)| found == phase));
}

#[test]
fn i4_the_desk_sees_another_box_with_what_ran_another_key_and_nothing_done_twice() {
    let Some(mut broker) = Broker::start() else { return };
    let mut site = Site::new();
    broker.trusts(&site.path("ca/root.pem"), &site.path("trust.pem"));
    let Some(mut desk) = Witness::start(&broker, DESK, ALL_UP) else { return };
    site.serve("90d");
    site.configure(broker.port);
    let text = std::fs::read_to_string(site.path("box.toml")).unwrap();
    let operator = format!("[[fleet.operator]]\nkid = \"ann\"\nkey = \"{}\"\n", key("ann").public_key());
    let text = text.replace("tenant = ", "confirm_s = 4\ntenant = ");
    std::fs::write(site.path("box.toml"), format!("# of the bench\n{text}{operator}")).unwrap();
    std::fs::write(site.path("passphrase"), "a bench, a box and a stick\n").unwrap();
    site.run();
    let code = site.code();
    site.says(&["desk", "enrol", "accept", &code, "--name", BOX]);
    until("the box is on the bus", || is_up(&desk));
    let first = site.serial().unwrap();

    // A revision of the desk runs, one came before it, and commands were obeyed before and after the backup.
    let more = free_port();
    let links = text.split("[[link]]").nth(1).unwrap().split("[fleet]").next().unwrap();
    let wanted = |rev| Desired {
        v: 1,
        tenant: TENANT.to_string(),
        gateway: BOX.to_string(),
        rev,
        config: format!(
            "[[link]]{links}[[link]]\nname = \"more\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:{more}\"\n"
        ),
        files: BTreeMap::new(),
        replaces: None,
    };
    desk.say(&config::topic(), &config::sealed(&wanted(7), &key("ann")), true);
    assert_eq!(config::ended(&desk, 7), config::committed());
    let before = signed(1, Operation::Ping, &["ann"]);
    tell(&mut desk, &before, "done");
    until("it reports", || config::reported(&desk)["running"] == 7);
    let ran = runs(&desk);
    site.says(&["backup", "bench-1.backup", "--config", "box.toml", "--passphrase-file", "passphrase"]);
    let since = signed(2, Operation::Ping, &["ann"]);
    tell(&mut desk, &since, "done");
    site.kill();

    let lose = |site: &Site| {
        std::fs::remove_dir_all(site.path("data")).unwrap();
        std::fs::remove_file(site.path("box.toml")).unwrap();
    };
    let restore = |site: &Site, words: &[&str]| -> Value {
        let restore =
            ["restore", "bench-1.backup", "--config", "box.toml", "--passphrase-file", "passphrase", "--json"];
        serde_json::from_str(&site.says(&[&restore[..], words].concat())).unwrap()
    };
    let nothing_of_before_counts = |site: &Site, desk: &mut Witness| {
        until("it runs what ran", || runs(desk) == ran);
        assert!(config::listens(more));
        for command in [&before, &since] {
            desk.say(&topic(&command.0), &command.1, false);
            let why = |event: &Value| event["command"] == *command.0 && event["why"] == "before-reset";
            until("it is refused", || config::events(desk, "command").iter().any(why));
        }
        let refused = config::events(desk, "config").iter().filter(|event| event["rev"] == 6).count();
        desk.say(&config::topic(), &config::sealed(&wanted(6), &key("ann")), false);
        until("an older revision is refused", || {
            let events = config::events(desk, "config");
            let of_it: Vec<&Value> = events.iter().filter(|event| event["rev"] == 6).collect();
            of_it.len() > refused && of_it.iter().all(|event| event["state"] == "refused")
        });
        let epochs = desk.heard("up/birth");
        let epochs: Vec<u64> = epochs.iter().filter_map(|birth| birth.json()["epoch"].as_u64()).collect();
        assert!(epochs.is_sorted(), "{epochs:?}: starts are counted on");
        assert!(site.says(&["check", "--strict", "box.toml"]).contains("is sound"));
    };

    // Its place is taken by one that is said to be all there is: it needs nobody.
    lose(&site);
    let told = restore(&site, &["--old-box-is-dead"]);
    assert!(told["code"].is_null() && told["open"] == serde_json::json!([]), "{told}");
    assert_eq!(told["revision"], 7);
    let births = desk.heard("up/birth").len();
    site.run();
    until("it is on the bus", || desk.heard("up/birth").len() > births && is_up(&desk));
    assert_eq!(site.serial().as_ref(), Some(&first));
    nothing_of_before_counts(&site, &mut desk);
    site.kill();

    // Its place is taken by one beside which the old one may be started again: it has a key of its own.
    lose(&site);
    let told = restore(&site, &[]);
    let open = told["open"].to_string();
    assert!(open.contains("afferent desk enrol accept CODE --name bench-1 --replace"), "{told}");
    let births = desk.heard("up/birth").len();
    site.run();
    let second = site.code();
    assert_eq!(told["code"], *second);
    let doctor = || {
        let doctor = site.command(&["doctor", "--config", "box.toml"]).output().unwrap();
        String::from_utf8(doctor.stdout).unwrap()
    };
    until("the doctor says what is open", || doctor().contains("afferent desk enrol accept"));
    assert_ne!(code, second, "another key");
    let taken = site.command(&["desk", "enrol", "accept", &second, "--name", BOX]).output().unwrap();
    assert!(!taken.status.success(), "nobody takes a name without saying so");
    site.says(&["desk", "enrol", "accept", &second, "--name", BOX, "--replace"]);
    until("it is on the bus", || desk.heard("up/birth").len() > births && is_up(&desk));
    assert!(site.serial().is_some_and(|serial| serial != first));
    openssl_takes(&site);
    nothing_of_before_counts(&site, &mut desk);
    let record = std::fs::read_to_string(site.path("audit.jsonl")).unwrap();
    assert!(record.contains(r#""replaces":true"#), "the desk's record names what it replaced");
}
