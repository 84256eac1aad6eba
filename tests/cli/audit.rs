//! The box's record: what commands do and show is in it before it is done, what cannot be noted is not done, and whoever
//! changes a line is found out.

use crate::site::Site;
use crate::{afferent, err, out};
use serde_json::{Value, json};
use std::process::Output;

/// What would give a patient of the ward or a specimen away.
const SECRETS: [&str; 5] = ["DOE", "ROE", "PT000000", "19700101", "WARD-00000"];

fn audit(site: &Site, arguments: &[&str]) -> Output {
    let config = site.config();
    afferent(&[&["audit"], arguments, &["--config", config.to_str().unwrap()]].concat())
}

/// What was noted, without when and by whom.
fn noted(site: &Site) -> Vec<Value> {
    let listed = audit(site, &["list", "--json"]);
    assert!(listed.status.success(), "{}", err(&listed));
    let lines = out(&listed);
    for secret in SECRETS {
        assert!(!lines.contains(secret), "{secret} is in\n{lines}");
    }
    let bare = |line: &str| {
        let mut what = serde_json::from_str::<Value>(line).unwrap()["what"].take();
        let of_line = what.as_object_mut().unwrap();
        assert!(of_line.remove("at").unwrap().as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert!(of_line.remove("by").unwrap().is_string(), "{line}");
        what
    };
    lines.lines().map(bare).collect()
}

/// A number out of what a verb of the journal tells.
fn number(of: &Value) -> String {
    of.as_i64().unwrap().to_string()
}

#[test]
fn what_commands_do_and_show_is_noted_before_and_nothing_of_a_patient() {
    let mut site = Site::filled();
    let started = json!({ "act": "gateway-started", "version": env!("CARGO_PKG_VERSION") });
    crate::site::until("the start is noted", || site.data().join("audit/audit.head").exists());
    assert_eq!(noted(&site), std::slice::from_ref(&started), "nothing was done, and nothing shown");
    let waiting = site.json(&["hold"]);
    let (hold, message) = (number(&waiting["held"][0]["id"]), number(&waiting["parked"][0]["id"]));
    let entry = number(&site.json(&["search"])[0]["entry"]);
    site.told(&["show", &entry]);
    assert_eq!(noted(&site).len(), 1, "what names no patient needs no line");

    site.told(&["show", &entry, "--reveal"]);
    site.told(&["hold", "--ids"]);
    site.told(&["export", "--entry", &entry]);
    site.told(&["export", "--all"]);
    site.told(&["search", "--patient", "PT0000002"]);
    let config = site.config();
    let order = afferent(&["orders", "list", "--reveal", "--config", config.to_str().unwrap()]);
    assert!(order.status.success());
    site.told(&["release", &hold, "--note", "checked"]);
    let reason = "control run without its mark";
    site.told(&["discard", "--parked", &message, "--reason", reason]);
    let operated = |action: Value| json!({ "act": "operated", "action": action });
    let id = |text: &str| text.parse::<i64>().unwrap();
    let expected = [
        started.clone(),
        json!({ "act": "shown", "what": "entry", "number": id(&entry) }),
        json!({ "act": "listed", "what": "specimens" }),
        json!({ "act": "exported", "what": "entry", "number": id(&entry) }),
        json!({ "act": "exported", "what": "all" }),
        json!({ "act": "searched", "key": "patient" }),
        json!({ "act": "listed", "what": "orders" }),
        operated(json!({ "release": { "holds": [id(&hold)], "note": "checked" } })),
        operated(json!({ "discard": { "holds": [], "outbox": [id(&message)], "images": [], "reason": reason } })),
    ];
    assert_eq!(noted(&site), expected);
    let shown = out(&audit(&site, &["list", "--last", "2"]));
    assert_eq!(shown.lines().count(), 2);
    assert!(shown.lines().all(|line| line.contains(" operated {") && line.contains(" (uid ")), "{shown}");

    site.stop_gateway();
    assert_eq!(noted(&site).last(), Some(&json!({ "act": "gateway-stopped" })));
    site.told(&["replay", &entry]);
    assert_eq!(noted(&site).last(), Some(&operated(json!({ "replay": { "entries": [id(&entry)] } }))));
    let whole = audit(&site, &["verify"]);
    assert!(whole.status.success() && out(&whole).ends_with(" lines, each follows from the one before\n"), "{whole:?}");
}

#[test]
fn what_cannot_be_noted_is_neither_done_nor_shown_and_results_go_on() {
    let mut site = Site::new();
    site.stop_gateway();
    std::fs::remove_dir_all(site.data().join("audit")).unwrap();
    std::fs::write(site.data().join("audit"), "in the way").unwrap();
    site.start_gateway();
    let sent = site.ward(&["-n", "1", "--corrections", "0", "--run", "WARD"]);
    assert_eq!(sent["acknowledged"], 1, "{sent}");
    site.until("it is parked at the registry", |stats| stats["account"]["parked"] == 4);
    let entry = number(&site.json(&["search"])[0]["entry"]);
    let parked = number(&site.json(&["hold"])["parked"][0]["id"]);
    for verb in [
        &["show", &entry, "--reveal"][..],
        &["hold", "--ids"],
        &["export", "--entry", &entry],
        &["discard", "--parked", &parked, "--reason", "none"],
    ] {
        let told = site.journal(verb);
        assert_eq!(told.status.code(), Some(1), "{verb:?}");
        let (shown, why) = (out(&told), err(&told));
        assert!(
            shown.is_empty() && why.starts_with("error: nothing was done: the record in "),
            "{verb:?}: {shown}{why}"
        );
    }
    let config = site.config();
    let tapped = afferent(&["tap", "--reveal", "--seconds", "1", "--config", config.to_str().unwrap()]);
    assert!(!tapped.status.success() && err(&tapped).contains("nothing was done"), "{}", err(&tapped));
    assert_eq!(site.json(&["stats"])["account"]["parked"], 4, "nothing was given up");
    let log = std::fs::read_to_string(site.path("gateway.log")).unwrap();
    assert!(log.contains("lacks a line"), "{log}");
}

#[test]
fn a_line_that_was_changed_or_taken_away_is_named() {
    let mut site = Site::new();
    site.stop_gateway();
    site.start_gateway();
    site.stop_gateway();
    let file = site.data().join("audit/audit.jsonl");
    let whole = std::fs::read_to_string(&file).unwrap();
    assert_eq!(whole.lines().count(), 4);
    let verified = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let verified = audit(&site, &["verify"]);
        (verified.status.code(), err(&verified))
    };
    assert_eq!(verified(&whole), (Some(0), String::new()));
    let (code, why) = verified(&whole.replacen("gateway-stopped", "gateway-started", 1));
    assert!(code == Some(1) && why.contains("audit.jsonl, line 3: it does not follow from the one before"), "{why}");
    let without_last: Vec<&str> = whole.lines().take(3).collect();
    let (code, why) = verified(&(without_last.join("\n") + "\n"));
    assert!(code == Some(1) && why.contains("audit.jsonl, line 4: what was written here is missing"), "{why}");
    let listed = audit(&site, &["list"]);
    assert!(
        listed.status.code() == Some(1) && err(&listed).contains("`afferent audit verify` says where"),
        "{listed:?}"
    );
}
