//! What is said when, and that nothing of it is lost.

use crate::broker::{Broker, until};
use crate::data_path::{ASTM, of_round, send, session};
use crate::line::Way;
use crate::rig::{ALL_UP, DESK, Rig};
use crate::witness::{Message, Witness};
use afferent::fleet::telemetry::What;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const BOX: &str = "bench-1";

fn topic(end: &str) -> String {
    format!("afferent/v1/acme/{BOX}/{end}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_is_born_says_how_it_is_and_says_goodbye() {
    let Some(broker) = Broker::start() else { return };
    let Some(witness) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut rig = Rig::start(&broker, BOX).await;
    until("the downlink is proven", || witness.last("up/state").is_some_and(|state| state["downlink"] == "proven"));
    let heard = witness.messages();
    assert_eq!(heard[0].topic, topic("up/birth"), "{heard:?}");
    assert_eq!(heard[1].topic, topic("up/state"));
    let birth = heard[0].json();
    assert_eq!((&birth["v"], &birth["epoch"]), (&json!(1), &json!(1)));
    assert_eq!(birth["links"], json!(["chemistry", "point-of-care"]));
    assert_eq!((&birth["destinations"], &birth["version"]), (&json!(["ehr"]), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(heard[1].json(), json!({ "v": 1, "online": true, "epoch": 1, "downlink": "unproven" }));
    until("counters come", || !witness.heard("up/metrics").is_empty());
    let metrics = &witness.heard("up/metrics")[0];
    assert_eq!((metrics.qos, metrics.expiry.is_some_and(|s| s <= 120), metrics.retain), (0, true, false));
    until("links and destinations are told of", || {
        ["up/if/chemistry", "up/if/point-of-care", "up/to/ehr"].iter().all(|end| witness.last(end).is_some())
    });
    let link = witness.last("up/if/chemistry").unwrap();
    assert_eq!((&link["link"], &link["up"], &link["messages"]), (&json!("chemistry"), &json!(true), &json!(0)));
    until("its start is an event", || witness.heard("up/event").iter().any(|e| e.json()["event"] == "started"));

    // The doctor on the box says the same.
    let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_afferent"))
        .args(["doctor", "--json", "--config"])
        .arg(rig.config())
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let fleet = told["findings"].as_array().unwrap().iter().find(|finding| finding["layer"] == "fleet").unwrap();
    assert_eq!(fleet["state"], "good", "{told}");

    // Whoever comes later is told by the broker.
    let late = Witness::start(&broker, DESK, ALL_UP).unwrap();
    until("what is retained is told", || late.messages().iter().filter(|m| m.retain).count() >= 5);
    rig.stop().await;
    until("it said goodbye", || late.last("up/state").is_some_and(|state| state["online"] == false));
    rig.restart().await;
    until("it is back", || late.last("up/state").is_some_and(|state| state["online"] == true));
    assert_eq!(late.last("up/birth").unwrap()["epoch"], 2);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_with_a_broker_that_dies_and_forgets() {
    let Some(mut broker) = Broker::start() else { return };
    let Some(witness) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut rig = Rig::start(&broker, BOX).await;
    until("the box is there", || witness.last("up/state").is_some_and(|state| state["downlink"] == "proven"));
    let ids = |events: &[Message]| -> BTreeSet<String> {
        let ours = events.iter().map(Message::json).filter(|event| event["epoch"].as_u64() >= Some(1000));
        ours.map(|event| event["id"].as_str().unwrap().to_string()).collect()
    };
    // The broker takes what is said and its acknowledgements do not come through; then it dies and has forgotten all.
    rig.line.becomes(Way::Deaf);
    let tell = |rig: &Rig, some: std::ops::Range<u64>| some.for_each(|epoch| rig.fleet().tell(What::Started { epoch }));
    tell(&rig, 1000..1050);
    until("some of it was taken", || !ids(&witness.heard("up/event")).is_empty());
    broker.kill_and_forget();
    rig.line.becomes(Way::Closed);
    tell(&rig, 1050..1100);
    let (ups, before) = (witness.ups(), witness.heard("up/event"));
    broker.restart();
    until("the witness is back", || witness.ups() > ups);
    rig.line.becomes(Way::Open);
    until("all of them arrived", || ids(&witness.heard("up/event")).len() == 100);
    let again = ids(&witness.heard("up/event")[before.len()..]);
    assert!(ids(&before).is_subset(&again), "what was never acknowledged comes again, under its id");
    let waiting = || {
        let store = afferent::fleet::store::Store::open(rig.data()).unwrap();
        store.waiting().unwrap()
    };
    until("the outbox is empty", || waiting() == 0);
    // Everything retained was told anew.
    let late = Witness::start(&broker, DESK, ALL_UP).unwrap();
    let ends = ["up/birth", "up/state", "up/if/chemistry", "up/if/point-of-care", "up/to/ehr"];
    until("what is retained is there again", || ends.iter().all(|end| late.heard(end).iter().any(|m| m.retain)));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_dies_is_told_dead_by_its_will_with_its_epoch() {
    let Some(broker) = Broker::start() else { return };
    let Some(witness) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut rig = Rig::start(&broker, BOX).await;
    until("the box is there", || witness.last("up/state").is_some());
    rig.line.becomes(Way::Closed);
    let gone = json!({ "v": 1, "online": false, "epoch": 1 });
    until("the broker says so", || witness.last("up/state").as_ref() == Some(&gone));
    rig.line.becomes(Way::Open);
    until("it says that it is there", || witness.last("up/state").is_some_and(|s: Value| s["online"] == true));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_says_and_hears_under_its_own_name_only() {
    let Some(broker) = Broker::start() else { return };
    let Some(mut witness) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let Some(mut stranger) = Witness::start(&broker, "bench-2", "#") else { return };
    let mut rig = Rig::start(&broker, BOX).await;
    until("the box is there", || witness.last("up/state").is_some_and(|state| state["downlink"] == "proven"));
    stranger.say(&topic("up/state"), b"{\"v\":1,\"online\":false,\"epoch\":99}", true);
    stranger.say(&topic("dn/desired"), b"forged", true);
    stranger.say("afferent/v1/acme/bench-2/up/state", b"{\"v\":1,\"online\":true,\"epoch\":1}", true);
    until("the stranger's own passes", || witness.messages().iter().any(|m| m.topic.contains("/bench-2/")));
    assert!(witness.heard(&topic("up/state")).iter().all(|m| m.json()["epoch"] == 1), "a forged state came through");
    assert!(stranger.messages().is_empty(), "{:?}", stranger.messages());
    // What the stranger said to the box did not come through: what the desk says is the first that does.
    witness.say(&topic("dn/desired"), b"forged", false);
    let unsigned = |witness: &Witness| {
        let events = witness.heard("up/event").into_iter().map(|event| event.json());
        events
            .filter(|event| event["event"] == "unsigned-configs")
            .map(|event| event["count"].clone())
            .collect::<Vec<_>>()
    };
    until("it is counted", || !unsigned(&witness).is_empty());
    assert_eq!(unsigned(&witness), [1]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_two_boxes_under_one_name_say_so_and_the_results_of_both_go_on() {
    let Some(broker) = Broker::start() else { return };
    let mut one = Rig::start(&broker, BOX).await;
    until("the old box is there", || one.fleet().status().connected);
    // A restore where it was said that the old box never runs again.
    let mut other = Rig::start(&broker, BOX).await;
    let says = |rig: &Rig| rig.fleet().status().trouble.contains("another box is on the bus under this one's name");
    until("the old box says so", || says(&one));
    until("it comes back, and the new one says so", || says(&other));
    for (round, rig) in [&one, &other].into_iter().enumerate() {
        send(rig.astm, &of_round(&session(ASTM), round)).await;
        until("the result is delivered", || rig.ehr.arrivals().len() == 1);
    }
    one.stop().await;
    other.stop().await;
}
