//! What another configuration may not do to the patients of a box: leave messages for nobody, cut off an instrument, or
//! send results where they are all refused; and nothing in the way of the old one keeps that from running again.

use crate::broker::{Broker, until};
use crate::commands::key;
use crate::config::{
    BOX, Site, a_box, because, committed, destination, ended, events, in_trial, is_connected, is_up, listens, push,
    reported, sealed, topic,
};
use crate::data_path::{ASTM, of_round, send, session};
use crate::line::{Line, Way};
use crate::ports::free_port;
use crate::rig::{ALL_UP, DESK};
use crate::witness::Witness;
use afferent::fleet::envelope::{self, Purpose};
use afferent::sim::ehr::behaviour::Behaviour;
use afferent::sim::ehr::{Ehr, EhrOptions};
use std::net::{SocketAddr, TcpListener, TcpStream};

fn nowhere() -> SocketAddr {
    format!("127.0.0.1:{}", free_port()).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_destination_for_which_messages_wait_is_not_taken_away_unseen() {
    let Some(broker) = Broker::start() else { return };
    let Some(mut desk) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut site = Site::new(&broker, 4).await;
    let away = nowhere();
    let own = format!("{}{}{}", site.own, site.text(&[]), destination("old", away));
    std::fs::write(site.file(), &own).unwrap();
    site.run(None);
    until("the box is there", || is_up(&desk));
    site.send().await;
    site.everything_arrives();
    // Gone, and under another name: what waits for `old` would wait for nobody.
    for (rev, text) in [(1, site.text(&[])), (2, format!("{}{}", site.text(&[]), destination("new", away)))] {
        push(&site, &mut desk, rev, &text);
        assert_eq!(ended(&desk, rev), because("refused", "undelivered"), "{text}");
    }
    // Another one that does nothing of the kind may come.
    push(&site, &mut desk, 3, &format!("{}{}", site.text(&[("second", free_port())]), destination("old", away)));
    assert_eq!(ended(&desk, 3), committed());
    // Whoever stands at the bench is told.
    site.kill();
    std::fs::write(site.file(), format!("{}{}[watch]\nlook_s = 1\n", site.own, site.text(&[]))).unwrap();
    site.run(None);
    until("it is told that nobody will deliver them", || {
        events(&desk, "alert").iter().any(|alert| alert["trouble"] == "stranded" && alert["of"] == "old")
    });
    site.send().await;
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_with_an_instrument_on_it_is_not_taken_away_or_lost_under_another_name() {
    let Some((_broker, mut desk, mut site)) = a_box(4).await else { return };
    site.send().await;
    let other = free_port();
    let with_second = site.text(&[("second", other)]);
    let analyzer = TcpStream::connect(("127.0.0.1", site.astm)).unwrap();
    is_connected(&desk, 1);
    let without = with_second.replace("name = \"chemistry\"", "name = \"chemistry-2\"");
    push(&site, &mut desk, 1, &without.replace(&site.astm.to_string(), &free_port().to_string()));
    assert_eq!(ended(&desk, 1), because("refused", "link-in-use"));
    // The same line by another name: the instrument has to come back to it.
    push(&site, &mut desk, 2, &without);
    assert_eq!(ended(&desk, 2), because("reverted", "link-lost"));
    drop(analyzer);
    push(&site, &mut desk, 3, &without);
    assert_eq!(ended(&desk, 3), committed());
    site.send().await;
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_that_refuses_everything_is_none_to_stay_with() {
    let Some((_broker, mut desk, mut site)) = a_box(8).await else { return };
    site.send().await;
    site.everything_arrives();
    let options = || EhrOptions {
        mllp: Some("127.0.0.1:0".to_string()),
        script: "0:ar:203".parse().unwrap(),
        ..EhrOptions::default()
    };
    let refusing = Ehr::start(options()).await.unwrap();
    let ehr = site.ehr.mllp().unwrap();
    push(&site, &mut desk, 1, &site.text(&[]).replace(&ehr.to_string(), &refusing.mllp().unwrap().to_string()));
    in_trial(&desk, 1);
    site.send().await;
    until("it is refused", || !refusing.arrivals().is_empty());
    assert_eq!(ended(&desk, 1), because("reverted", "destination-lost"));
    // What was refused goes to the one that takes it, and nobody has to ask for that.
    site.everything_arrives();
    // Under a name that nothing waits for it shows only with results, and is told of at once.
    let lis = Ehr::start(options()).await.unwrap();
    push(&site, &mut desk, 2, &format!("{}[watch]\nlook_s = 1\n", renamed(&site, lis.mllp().unwrap())));
    assert_eq!(ended(&desk, 2), committed());
    for round in 91..94 {
        send(site.astm, &of_round(&session(ASTM), round)).await;
    }
    until("it is told", || {
        events(&desk, "alert").iter().any(|alert| alert["trouble"] == "refusing" && alert["of"] == "lis")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_that_took_all_and_takes_nothing_in_a_trial_ends_it() {
    let Some((_broker, mut desk, mut site)) = a_box(6).await else { return };
    site.send().await;
    site.everything_arrives();
    // Nothing is said of the EHR, so results flow; it does not like what it gets now.
    let second = free_port();
    push(&site, &mut desk, 1, &site.text(&[("second", second)]));
    in_trial(&desk, 1);
    until("the new one runs", || listens(second));
    site.ehr.behave(Behaviour::Ar(Some(203)));
    let before = site.ehr.arrivals().len();
    site.send().await;
    until("it is refused", || site.ehr.arrivals().len() > before);
    assert_eq!(ended(&desk, 1), because("reverted", "destination-lost"));
    until("the old one runs", || !listens(second));
    // It waits for a person, who has it sent again.
    site.ehr.behave(Behaviour::Ok);
    let shown: serde_json::Value = serde_json::from_str(&journal(&site, &["hold", "--json"])).unwrap();
    let parked = shown["parked"].as_array().unwrap();
    assert_eq!(parked.len(), 1, "{shown}");
    journal(&site, &["requeue", &parked[0]["id"].to_string()]);
    site.everything_arrives();
}

/// What `afferent journal` says of the box.
fn journal(site: &Site, words: &[&str]) -> String {
    let mut afferent = std::process::Command::new(env!("CARGO_BIN_EXE_afferent"));
    let output = afferent.arg("journal").args(words).arg("--config").arg(site.file()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn another_ehr() -> Ehr {
    Ehr::start(EhrOptions { mllp: Some("127.0.0.1:0".to_string()), ..EhrOptions::default() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_an_ehr_at_a_wrong_address_keeps_no_result_of_a_trial() {
    let Some((_broker, mut desk, mut site)) = a_box(6).await else { return };
    site.send().await;
    site.everything_arrives();
    let wrong = another_ehr().await;
    let ehr = site.ehr.mllp().unwrap().to_string();
    let elsewhere = site.text(&[]).replace(&ehr, &wrong.mllp().unwrap().to_string());
    // The instrument does not find its link any more: the box goes back, whatever the other EHR says.
    let analyzer = TcpStream::connect(("127.0.0.1", site.astm)).unwrap();
    is_connected(&desk, 1);
    let other = free_port();
    let moved = format!(
        "{}[[link]]\nname = \"second\"\nprotocol = \"astm\"\ndriver = \"generic-astm\"\nlisten = \"127.0.0.1:{}\"\n",
        elsewhere.replace(&site.astm.to_string(), &other.to_string()),
        site.astm
    );
    push(&site, &mut desk, 1, &moved);
    in_trial(&desk, 1);
    until("the new one runs", || listens(other));
    site.send().await;
    assert_eq!(ended(&desk, 1), because("reverted", "link-lost"));
    site.everything_arrives();
    assert!(wrong.arrivals().is_empty());
    drop(analyzer);
    // Where all is well the first result shows it, and goes there once.
    push(&site, &mut desk, 2, &elsewhere);
    in_trial(&desk, 2);
    for round in [91, 92] {
        send(site.astm, &of_round(&session(ASTM), round)).await;
    }
    assert_eq!(ended(&desk, 2), committed());
    until("they arrive there", || wrong.arrivals().len() == 2);
    assert!(wrong.arrivals().iter().all(|arrival| arrival.stored));
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_results_wait_no_longer_than_the_trial_though_the_fleets_disk_takes_nothing() {
    let Some((_broker, mut desk, mut site)) = a_box(4).await else { return };
    site.send().await;
    site.everything_arrives();
    let lis = another_ehr().await;
    push(&site, &mut desk, 1, &renamed(&site, lis.mllp().unwrap()));
    in_trial(&desk, 1);
    let store = site.store();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    send(site.astm, &of_round(&session(ASTM), 91)).await;
    until("it arrives", || lis.arrivals().len() == 1);
    assert_ne!(reported(&desk)["state"], "committed", "nothing could be noted yet");
    store.execute_batch("ROLLBACK").unwrap();
    assert_eq!(ended(&desk, 1), committed());
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_results_wait_no_longer_than_the_trial_though_nobody_can_watch_it() {
    let Some((_broker, mut desk, mut site)) = a_box(4).await else { return };
    let lis = another_ehr().await;
    site.kill();
    // What the desk had signed cannot be read again.
    site.run(Some("fleet-config-applied:1"));
    site.send().await;
    push(&site, &mut desk, 1, &renamed(&site, lis.mllp().unwrap()));
    site.died("fleet-config-applied");
    site.store().execute("UPDATE desired SET document = x'00'", []).unwrap();
    site.run(None);
    site.send().await;
    assert_eq!(ended(&desk, 1), because("reverted", "unknown"));
    site.everything_arrives();
    site.kill();
    // The fleet does not come up at all.
    site.run(Some("fleet-config-applied:1"));
    site.send().await;
    push(&site, &mut desk, 2, &renamed(&site, lis.mllp().unwrap()));
    site.died("fleet-config-applied");
    let (cert, aside) = (site.cert(), site.dir.path().join("aside.pem"));
    std::fs::rename(&cert, &aside).unwrap();
    site.run(None);
    site.send().await;
    site.everything_arrives();
    assert!(lis.arrivals().is_empty());
    std::fs::rename(&aside, &cert).unwrap();
    site.kill();
    site.run(None);
    assert_eq!(ended(&desk, 2), because("reverted", "never-confirmed"));
    until("it is told", || events(&desk, "config").iter().any(|event| event["why"] == "never-confirmed"));
    site.send().await;
    site.everything_arrives();
}

/// A configuration that has `lis` instead of `ehr`, at this address.
fn renamed(site: &Site, to: SocketAddr) -> String {
    let ehr = site.ehr.mllp().unwrap().to_string();
    site.text(&[]).replace("name = \"ehr\"", "name = \"lis\"").replace(&ehr, &to.to_string())
}

/// Something that can be reached, and cannot any more once it is dropped.
fn reachable(at: SocketAddr) -> TcpListener {
    TcpListener::bind(at).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_results_that_come_in_a_trial_go_out_as_what_runs_after_it_says() {
    let Some((_broker, mut desk, mut site)) = a_box(6).await else { return };
    site.send().await;
    site.everything_arrives();
    let at = nowhere();
    let beside = destination("lis", at);
    // In the place of the other, beside it, and in its place for all of one link: the box goes back from each.
    let narrower =
        site.text(&[("second", free_port())]).replace("name = \"ehr\"", "name = \"ehr\"\nlinks = [\"second\"]");
    let texts = [renamed(&site, at), format!("{}{beside}", site.text(&[])), format!("{narrower}{beside}")];
    for (rev, text) in (1..).zip(&texts) {
        let lis = reachable(at);
        push(&site, &mut desk, rev, text);
        in_trial(&desk, rev);
        drop(lis);
        site.send().await;
        assert_eq!(ended(&desk, rev), because("reverted", "destination-lost"), "{text}");
        site.everything_arrives();
    }
    // Confirmed, what came meanwhile goes to the new one, and to no other.
    let lis = another_ehr().await;
    push(&site, &mut desk, 4, &renamed(&site, lis.mllp().unwrap()));
    in_trial(&desk, 4);
    send(site.astm, &of_round(&session(ASTM), 99)).await;
    assert_eq!(ended(&desk, 4), committed());
    until("it arrives at the new one", || lis.arrivals().iter().filter(|arrival| arrival.stored).count() == 1);
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_kill_a_box_that_dies_around_a_trial_sends_each_result_under_one_name() {
    let Some((_broker, mut desk, mut site)) = a_box(6).await else { return };
    site.kill();
    let ehr = site.ehr.mllp().unwrap();
    let places = ["trial", "applied", "good", "committed"].map(|place| format!("fleet-config-{place}"));
    for (rev, place) in (1..).zip(&places) {
        let text = if rev % 2 == 1 { renamed(&site, ehr) } else { site.text(&[]) };
        site.run(Some(&format!("{place}:1")));
        site.send().await;
        site.everything_arrives();
        push(&site, &mut desk, rev, &text);
        site.died(place);
        site.run(None);
        site.send().await;
        assert_eq!(ended(&desk, rev), committed(), "{place}");
        site.everything_arrives();
        site.kill();
    }
    // It goes back: in the run that tried it, which dies over that, and at a start after two deaths.
    let at = nowhere();
    for (rev, places) in [(5, &["reverted"][..]), (6, &["applied", "boot", "boot-reverted"])] {
        let lis = reachable(at);
        let mut deaths = places.iter().map(|place| format!("fleet-config-{place}"));
        let first = deaths.next().unwrap();
        site.run(Some(&format!("{first}:1")));
        site.send().await;
        site.everything_arrives();
        push(&site, &mut desk, rev, &renamed(&site, at));
        if rev == 5 {
            in_trial(&desk, rev);
            drop(lis);
            site.send().await;
        }
        site.died(&first);
        for place in deaths {
            site.run(Some(&format!("{place}:1")));
            site.died(&place);
        }
        site.run(None);
        site.send().await;
        assert_eq!(ended(&desk, rev).0, "reverted", "{places:?}");
        site.everything_arrives();
        site.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_the_old_one_runs_again_though_nothing_can_be_noted_and_a_new_one_helps_where_it_cannot() {
    let Some((_broker, mut desk, mut site)) = a_box(4).await else { return };
    site.send().await;
    let (second, third, fourth) = (free_port(), free_port(), free_port());
    push(&site, &mut desk, 1, &site.text(&[("second", second)]));
    assert_eq!(ended(&desk, 1), committed());

    let ehr = site.ehr.mllp().unwrap();
    let way = Line::to(ehr.port());
    let through = |text: String| text.replace(&ehr.to_string(), &format!("127.0.0.1:{}", way.port));
    push(&site, &mut desk, 2, &through(site.text(&[("second", third)])));
    in_trial(&desk, 2);
    let store = site.store();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    way.becomes(Way::Closed);
    site.send().await;
    until("the old one runs again", || listens(second) && !listens(third));
    assert_ne!(reported(&desk)["state"], "reverted", "nothing could be noted yet");
    store.execute_batch("ROLLBACK").unwrap();
    // The bus may have been lost over it as well.
    assert_eq!(ended(&desk, 2).0, "reverted");
    site.everything_arrives();

    // Another program takes the port that the old one needs.
    way.becomes(Way::Open);
    push(&site, &mut desk, 3, &through(site.text(&[("second", third)])));
    in_trial(&desk, 3);
    until("the new one runs", || listens(third));
    let thief = TcpListener::bind(("127.0.0.1", second)).unwrap();
    way.becomes(Way::Closed);
    site.send().await;
    assert_eq!(ended(&desk, 3), because("reverted", "destination-lost"));
    push(&site, &mut desk, 4, &site.text(&[("second", fourth)]));
    assert_eq!(ended(&desk, 4), committed(), "{BOX}");
    assert!(listens(fourth));
    drop(thief);
    site.send().await;
    site.everything_arrives();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_asks_for_two_operators_runs_nothing_that_one_has_signed() {
    let Some(broker) = Broker::start() else { return };
    let Some(mut desk) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut site = Site::new(&broker, 4).await;
    let bob = format!("[[fleet.operator]]\nkid = \"bob\"\nkey = \"{}\"\n[[fleet.operator]]", key("bob").public_key());
    let own = site.own.replace("confirm_s = 4\n", "confirm_s = 4\nconfig_signatures = 2\n");
    let own = own.replacen("[[fleet.operator]]", &bob, 1);
    std::fs::write(site.file(), format!("{own}{}", site.text(&[]))).unwrap();
    site.run(None);
    until("the box is there", || is_up(&desk) && reported(&desk)["signatures"] == 2);
    let port = free_port();
    let one = sealed(&site.desired(1, &site.text(&[("second", port)])), &key("ann"));
    desk.say(&topic(), &one, true);
    until("it is refused", || events(&desk, "config").iter().any(|event| event["why"] == "too-few-signatures"));
    // The desk knows before it asks.
    let file = site.dir.path().join("bench-1.toml");
    std::fs::write(&file, site.text(&[("second", port)])).unwrap();
    let asked = site.desk(&broker, &["push", BOX, file.to_str().unwrap(), "--sign", "ann.key"]);
    assert!(String::from_utf8_lossy(&asked.stderr).contains("2 signatures"), "{asked:?}");
    assert!(!listens(port));
    // The same document, once another operator has signed it as well.
    desk.say(&topic(), &envelope::countersign(&one, Purpose::Config, &key("bob")).unwrap(), true);
    assert_eq!(ended(&desk, 1), committed());
    assert!(listens(port));
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_what_a_link_brought_that_was_only_tried_is_told_of_and_goes_out_when_a_person_says_so() {
    let Some(broker) = Broker::start() else { return };
    let Some(mut desk) = Witness::start(&broker, DESK, ALL_UP) else { return };
    let mut site = Site::new(&broker, 6).await;
    let watched = format!("{}[watch]\nlook_s = 1\n", site.text(&[]));
    std::fs::write(site.file(), format!("{}{watched}", site.own)).unwrap();
    site.run(None);
    until("the box is there", || is_up(&desk));
    site.send().await;
    site.everything_arrives();
    let (second, at) = (free_port(), nowhere());
    let lis = reachable(at);
    let link = format!(
        "[[link]]\nname = \"second\"\nprotocol = \"astm\"\ndriver = \"generic-astm\"\nlisten = \"127.0.0.1:{second}\"\n"
    );
    push(&site, &mut desk, 1, &format!("{watched}{link}{}", destination("lis", at)));
    in_trial(&desk, 1);
    until("the new link is there", || listens(second));
    send(second, &of_round(&session(ASTM), 91)).await;
    drop(lis);
    assert_eq!(ended(&desk, 1), because("reverted", "destination-lost"));
    let is_told = |began: bool| {
        let alerts = events(&desk, "alert");
        let last = alerts.iter().rfind(|alert| alert["trouble"] == "no-link" && alert["of"] == "second");
        last.is_some_and(|alert| alert["began"] == began)
    };
    until("it is told that results are held", || is_told(true));
    let shown: serde_json::Value = serde_json::from_str(&journal(&site, &["hold", "--json"])).unwrap();
    let held = shown["held"].as_array().unwrap();
    assert!(!held.is_empty() && held.iter().all(|hold| hold["reason"] == "no-link"), "{shown}");
    let ids: Vec<String> = held.iter().map(|hold| hold["id"].to_string()).collect();
    let before = site.ehr.arrivals().len();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    journal(&site, &[&["release", "--note", "the link was only tried"], &*ids].concat());
    until("it goes out", || site.ehr.arrivals().len() > before);
    until("it is over", || is_told(false));
    site.everything_arrives_and(1);
}
