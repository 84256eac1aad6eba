//! The verbs of `afferent journal`, on a journal that instruments and EHRs have filled: what each prints for people and
//! for programs, which code it exits with, and that it works beside a running gateway and without one.

use afferent::control;
use serde_json::{Value, json};

use crate::site::{SERUM_SPECIMEN, Site, WARD_SPECIMENS};
use crate::{afferent, err, out};

/// What would give a patient of the ward or a specimen away.
const SECRETS: [&str; 6] = ["DOE", "ROE", "PT000000", "19700101", SERUM_SPECIMEN, "WARD-00000"];

/// The first row below the head of a printed table.
fn first_row(table: &str) -> Vec<&str> {
    table.lines().nth(1).unwrap().split_whitespace().collect()
}

/// Numbers of the entries of a link, oldest first.
fn entries(site: &Site, link: &str) -> Vec<i64> {
    let found = site.json(&["search"]);
    let of_link = found.as_array().unwrap().iter().rev().filter(|entry| entry["link"] == link);
    of_link.map(|entry| entry["entry"].as_i64().unwrap()).collect()
}

/// Numbers of the holds, and of the parked messages, oldest first.
fn waiting(site: &Site) -> (Vec<i64>, Vec<i64>) {
    let waiting = site.json(&["hold"]);
    let ids = |of: &str| waiting[of].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect();
    (ids("held"), ids("parked"))
}

fn text(number: i64) -> String {
    number.to_string()
}

#[test]
fn everything_can_be_looked_at_beside_a_gateway_and_without_one() {
    let mut site = Site::filled();
    look_at_everything(&site);
    site.stop_gateway();
    look_at_everything(&site);
}

fn look_at_everything(site: &Site) {
    // stats
    let stats = site.told(&["stats"]);
    assert!(stats.starts_with("received  delivered  queued  parked  held  refused  repeated  unrouted  missing\n"));
    assert_eq!(first_row(&stats), ["19", "6", "0", "12", "1", "0", "0", "0", "0"], "{stats}");
    assert!(stats.contains("\n4 entries, 0 waiting, 0 damaged, 0 with a message id seen before\n"), "{stats}");
    assert!(stats.contains("instrument to EHR: half within "), "{stats}");
    let registry: Vec<&str> = stats.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(registry, ["registry", "0", "3"], "{stats}");
    let stats = site.json(&["stats"]);
    let account = json!({ "received": 19, "delivered": 6, "queued": 0, "parked": 12, "held": 1, "refused": 0,
                          "repeated": 0, "unrouted": 0 });
    assert_eq!((&stats["account"], &stats["missing"], &stats["entries"]), (&account, &0.into(), &4.into()));

    // search
    let found = site.told(&["search", "--specimen", SERUM_SPECIMEN]);
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(found.contains("chemistry  interpreted  roche-cobas-c311@"), "{found}");
    let ward = entries(site, "ward");
    assert_eq!(ward.len(), WARD_SPECIMENS);
    for (by, id) in [("--specimen", "WARD-0000002"), ("--patient", "PT0000002"), ("--control", "WARD00000020")] {
        let found = site.json(&["search", by, id]);
        assert_eq!(found.as_array().unwrap().len(), 1, "{by}: {found}");
        let entry = &found[0];
        assert_eq!((&entry["entry"], &entry["link"]), (&ward[1].into(), &"ward".into()), "{by}");
        assert_eq!((&entry["results"], &entry["parked"], &entry["held"]), (&4.into(), &1.into(), &0.into()), "{by}");
    }
    let sent = site.json(&["show", &text(ward[0])])["reports"][0]["messages"][0]["message_id"].clone();
    let by_message = site.json(&["search", "--message", sent.as_str().unwrap()]);
    assert_eq!(by_message[0]["entry"], ward[0], "what the EHR's people ask about is found too");
    assert_eq!(site.told(&["search", "--specimen", "ward-0000002"]), "nothing found\n", "only as it was sent");
    assert_eq!(site.json(&["search", "--order", "none"]), json!([]));
    assert_eq!(site.json(&["search", "--limit", "2"])[0]["entry"], ward[2], "the newest first");
    let all = site.json(&["search"]);
    let received = |at: usize| jiff::Timestamp::from_millisecond(all[at]["received_ms"].as_i64().unwrap()).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 4);
    let since = site.json(&["search", "--since", &received(0).to_string()]);
    assert!(since.as_array().unwrap().iter().all(|e| e["received_ms"].as_i64() >= all[0]["received_ms"].as_i64()));
    assert_eq!(site.json(&["search", "--until", &received(3).to_string()]), json!([]), "before the oldest");

    // show
    let serum = entries(site, "chemistry")[0];
    let shown = site.told(&["show", &text(serum)]);
    assert!(shown.starts_with(&format!("entry {serum} on chemistry, ")), "{shown}");
    for part in [
        "interpreted, complete, ",
        "read by roche-cobas-c311@",
        ": 7 results",
        "result 5 held (unmapped-code: nobody has said which LOINC its code is)",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    assert!(shown.contains(" to ehr: delivered"), "{shown}");
    let shown = site.json(&["show", &text(ward[1])]);
    let states: Vec<&str> =
        shown["reports"][0]["messages"].as_array().unwrap().iter().map(|m| m["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["delivered", "parked"]);
    let shown = site.told(&["show", &text(ward[1]), "--reveal"]);
    assert!(
        shown.contains("\nPID|1||PT0000002^^^HOSP^MR||DOE^JANE||") && shown.contains("\"WARD-0000002\""),
        "{shown}"
    );
    let shown = site.json(&["show", &text(ward[1]), "--reveal"]);
    assert!(shown["raw"].as_str().unwrap().contains("DOE^JANE"));
    assert_eq!(shown["contents"].as_array().unwrap().len(), 1);
    let missing = site.journal(&["show", "999"]);
    assert_eq!((missing.status.code(), err(&missing).as_str()), (Some(1), "error: there is no such entry\n"));

    // hold
    let held = site.told(&["hold"]);
    assert!(held.starts_with("hold  entry  link       result  reason         received             why\n"), "{held}");
    assert_eq!(first_row(&held)[2..5], ["chemistry", "5", "unmapped-code"], "{held}");
    assert_eq!(held.matches(" registry ").count(), WARD_SPECIMENS, "{held}");
    let (holds, parked) = waiting(site);
    assert_eq!((holds.len(), parked.len()), (1, WARD_SPECIMENS));
    assert_eq!(site.json(&["hold", "--limit", "1"])["parked"].as_array().unwrap().len(), 1);
    let ids = site.told(&["hold", "--ids"]);
    assert_eq!(ids.lines().collect::<Vec<_>>(), [SERUM_SPECIMEN, "WARD-0000001", "WARD-0000002", "WARD-0000003"]);
    assert_eq!(site.json(&["hold", "--ids"]).as_array().unwrap().len(), 4);

    // export
    let raw = site.told(&["export", "--entry", &text(ward[0])]);
    assert!(raw.starts_with("MSH|^~\\&|SIMULATED-1|LAB|") && raw.ends_with('\r') && raw.contains("|WARD-0000001|"));
    let report = site.json(&["show", &text(serum)])["reports"][0]["report"].as_i64().unwrap();
    let report: Value = serde_json::from_str(&site.told(&["export", "--report", &text(report)])).unwrap();
    assert_eq!(report["observations"].as_array().unwrap().len(), 7);
    let lines = site.told(&["export", "--all"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let exported: Vec<i64> = lines.iter().map(|line| line["entry"].as_i64().unwrap()).collect();
    assert_eq!(exported, [ward[2], ward[1], ward[0], serum], "every report, the newest entry first");
    assert_eq!(lines[3]["content"], report);
    for nothing in [["export", "--entry", "999"], ["export", "--report", "999"]] {
        assert_eq!(site.journal(&nothing).status.code(), Some(1), "{nothing:?}");
    }
    assert_eq!(site.journal(&["export"]).status.code(), Some(2), "what?");

    // verify
    let verified = site.told(&["verify"]);
    assert_eq!(verified, "4 entries, 0 images, 4 reports, 7 messages read\neverything is whole and adds up\n");
    let verified = site.json(&["verify"]);
    assert_eq!((&verified["entries"], &verified["damaged"]), (&4.into(), &json!([])));
}

#[test]
fn i8_no_verb_shows_a_patient_unless_asked_by_name() {
    let site = Site::filled();
    let serum = text(entries(&site, "chemistry")[0]);
    let ward = text(entries(&site, "ward")[1]);
    let told = |arguments: &[&str]| {
        let told = site.journal(arguments);
        out(&told) + &err(&told)
    };
    for verb in [
        &["stats"][..],
        &["search", "--patient", "PT0000002"],
        &["show", &serum],
        &["show", &ward],
        &["hold"],
        &["verify"],
    ] {
        for all in [told(verb), told(&[&["--json"], verb].concat())] {
            assert!(SECRETS.iter().all(|secret| !all.contains(secret)), "{verb:?} shows a patient:\n{all}");
        }
    }
    let log = std::fs::read_to_string(site.path("gateway.log")).unwrap();
    assert!(SECRETS.iter().all(|secret| !log.contains(secret)), "the log shows a patient:\n{log}");
}

#[test]
fn i3_a_running_gateway_carries_out_what_a_person_decides() {
    let mut site = Site::filled();
    let (holds, parked) = waiting(&site);
    let serum = text(entries(&site, "chemistry")[0]);

    // release: the EHR gets the result that was held, in a message of its own.
    assert_eq!(site.told(&["release", &text(holds[0]), "--note", "checked with the ward"]), "1 released\n");
    site.until("the released result is delivered", |stats| stats["account"]["delivered"] == 7);
    assert_eq!(site.stored("ehr.jsonl", SERUM_SPECIMEN), [6, 1]);
    let hold = site.json(&["show", &serum])["reports"][0]["holds"][0].clone();
    assert_eq!((&hold["state"], &hold["note"]), (&"sent".into(), &"checked with the ward".into()));

    // requeue, once the registry takes messages; one of them is given up.
    site.replace_registry();
    let again = site.json(&["requeue", &text(parked[0]), &text(parked[1])]);
    assert_eq!(again, json!({ "done": 2, "skipped": [] }));
    let given_up = site.told(&["discard", "--parked", &text(parked[2]), "--reason", "sent by fax"]);
    assert_eq!(given_up, "1 discarded\n");
    site.until("the registry has what was sent again", |stats| stats["account"]["delivered"] == 15);
    let registered = [1, 2, 3].map(|number| site.stored("registry.jsonl", &format!("WARD-000000{number}")));
    assert_eq!(registered, [vec![4], vec![4], vec![]]);
    let messages = site.json(&["search", "--specimen", "WARD-0000003"]);
    let messages = site.json(&["show", &messages[0]["entry"].to_string()])["reports"][0]["messages"].clone();
    assert_eq!((&messages[1]["state"], &messages[1]["note"]), (&"discarded".into(), &"sent by fax".into()));

    // replay: the same bytes say the same, so nothing is sent twice (invariant I4).
    let before = site.chart("ehr.jsonl").len();
    assert_eq!(site.told(&["replay", &serum]), "1 interpreted again\n");
    site.until("the entry is interpreted again", |stats| {
        stats["waiting"] == 0 && site.json(&["show", &serum])["entry"]["state"] == "interpreted"
    });
    let shown = site.json(&["show", &serum]);
    assert_eq!((&shown["replays"], shown["reports"].as_array().unwrap().len()), (&1.into(), 2));
    assert_eq!(shown["reports"][1]["repeat_of"], shown["reports"][0]["report"]);
    assert_eq!(site.chart("ehr.jsonl").len(), before);

    assert_eq!(site.told(&["hold"]), "nothing is held and nothing is parked\n");
    let account = site.json(&["stats"]);
    assert_eq!((&account["missing"], &account["account"]["refused"]), (&0.into(), &4.into()), "{account}");
    assert!(site.told(&["verify"]).ends_with("everything is whole and adds up\n"));
}

#[test]
fn without_a_gateway_a_decision_waits_for_the_next_one() {
    let mut site = Site::filled();
    let (holds, parked) = waiting(&site);
    let serum = text(entries(&site, "chemistry")[0]);
    site.stop_gateway();
    assert_eq!(site.json(&["release", &text(holds[0])]), json!({ "done": 1, "skipped": [] }));
    assert_eq!(site.told(&["requeue", &text(parked[0])]), "1 queued again\n");
    assert_eq!(site.json(&["discard", "--parked", &text(parked[1]), "--reason", "sent by fax"])["done"], 1);
    assert_eq!(site.told(&["replay", &text(entries(&site, "ward")[2])]), "1 interpreted again\n");
    assert_eq!(site.json(&["show", &serum])["reports"][0]["holds"][0]["state"], "released");
    let stats = site.json(&["stats"]);
    assert_eq!((&stats["waiting"], &stats["account"]["delivered"]), (&1.into(), &6.into()), "nothing moves yet");

    site.replace_registry();
    site.start_gateway();
    site.until("the next gateway does what was decided", |stats| {
        stats["waiting"] == 0 && stats["account"]["queued"] == 0 && stats["account"]["delivered"] == 11
    });
    assert_eq!((site.chart("registry.jsonl").len(), site.stored("registry.jsonl", "WARD-0000001")), (1, vec![4]));
    assert_eq!(site.json(&["show", &serum])["reports"][0]["holds"][0]["state"], "sent");
}

#[test]
fn what_cannot_be_done_is_told_and_stops_nothing_else() {
    let mut site = Site::filled();
    let (holds, parked) = waiting(&site);
    let refuse = |site: &Site| {
        for (verb, number) in [("release", "999"), ("requeue", "999"), ("replay", "999")] {
            let told = site.journal(&[verb, number]);
            assert_eq!(told.status.code(), Some(1), "{verb}");
            assert!(out(&told).starts_with("0 "), "{verb}: {}", out(&told));
            assert!(err(&told).starts_with("999: there is no such "), "{verb}: {}", err(&told));
        }
        let told = site.journal(&["--json", "discard", "--hold", "999", "--reason", "none"]);
        let json: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!((told.status.code(), &json["done"], &json["skipped"][0][0]), (Some(1), &0.into(), &999.into()));
        let told = site.journal(&["discard", "--image", "999", "--reason", "none"]);
        assert_eq!((told.status.code(), out(&told).as_str()), (Some(1), "0 discarded\n"));
        assert_eq!(err(&told), "999: there is no such image that is safe here alone\n");
        let image = ["discard", "--image", "1"];
        for incomplete in
            [&["release"][..], &["requeue"], &["replay"], &["discard"], &["discard", "--hold", "1"], &image]
        {
            assert_eq!(site.journal(incomplete).status.code(), Some(2), "{incomplete:?}");
        }
    };
    refuse(&site);
    let told = site.journal(&["release", "999", &text(holds[0])]);
    assert_eq!((told.status.code(), out(&told).as_str()), (Some(1), "1 released\n"));
    site.stop_gateway();
    refuse(&site);
    let told = site.journal(&["discard", "--parked", "999", "--parked", &text(parked[0]), "--reason", "none"]);
    assert_eq!((told.status.code(), out(&told).as_str()), (Some(1), "1 discarded\n"));
}

#[test]
fn i3_nobody_writes_beside_a_gateway_that_does_not_answer() {
    let site = Site::filled();
    let (holds, _) = waiting(&site);
    std::fs::remove_file(site.data().join("control.sock")).unwrap();
    let refused = site.journal(&["release", &text(holds[0])]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("another gateway or command is using"), "{}", err(&refused));
    assert_eq!(waiting(&site).0, holds, "and reading still works");
    let request = control::Request::Health;
    assert!(matches!(control::request(&site.data(), &request), Err(control::ControlError::NotRunning(_))));
}

#[test]
fn a_backup_is_whole_and_opens_only_with_the_key() {
    let mut site = Site::filled();
    let (beside, after) = (site.path("beside.db"), site.path("after.db"));
    let told = site.told(&["backup", &beside.display().to_string()]);
    assert_eq!(told, format!("{} written; it opens only with this journal's key\n", beside.display()));
    site.stop_gateway();
    let told = site.json(&["backup", &after.display().to_string()]);
    assert_eq!(told, json!({ "backup": after }));

    let again = site.journal(&["backup", &after.display().to_string()]);
    assert_eq!(again.status.code(), Some(1));
    assert!(err(&again).contains("the backup file exists already"), "{}", err(&again));

    let key = site.data().join("journal.key").display().to_string();
    for (name, copy) in [("beside", beside), ("after", after)] {
        assert!(!std::fs::read(&copy).unwrap().windows(8).any(|bytes| bytes == b"DOE^JANE"), "it stays sealed");
        let restored = site.path(name);
        std::fs::create_dir(&restored).unwrap();
        std::fs::rename(copy, restored.join("journal.db")).unwrap();
        let restored = restored.display().to_string();
        let verb = |arguments: &[&str]| afferent(&[&["journal", "--data", &restored], arguments].concat());
        let locked = verb(&["stats"]);
        assert_eq!(locked.status.code(), Some(1));
        assert!(err(&locked).contains("key") && err(&locked).contains("is missing"), "{}", err(&locked));
        let verified = verb(&["--key-file", &key, "verify"]);
        assert_eq!(verified.status.code(), Some(0), "{}", err(&verified));
        assert_eq!(
            out(&verified),
            "4 entries, 0 images, 4 reports, 7 messages read\neverything is whole and adds up\n"
        );
        let released = verb(&["--key-file", &key, "release", "1"]);
        assert_eq!(out(&released), "1 released\n", "a restored journal can be worked on: {}", err(&released));
    }
}

#[test]
fn verify_finds_what_is_damaged_and_what_does_not_add_up() {
    let mut site = Site::filled();
    let serum = entries(&site, "chemistry")[0];
    site.stop_gateway();
    let change = |sql: &str| {
        let journal = rusqlite::Connection::open(site.data().join("journal.db")).unwrap();
        assert_eq!(journal.execute(sql, []).unwrap(), 1, "{sql}");
    };
    change("UPDATE report SET json = zeroblob(length(json)) WHERE id = 1");
    change("UPDATE part SET sealed = zeroblob(length(sealed)) WHERE seq = (SELECT max(seq) FROM part)");
    let last = entries(&site, "ward")[2];
    let told = site.journal(&["verify"]);
    assert_eq!(told.status.code(), Some(1));
    let text = out(&told);
    for part in [format!("damaged: entry {last}\n"), "damaged: report 1\n".into(), "the journal is NOT sound\n".into()]
    {
        assert!(text.contains(&part), "{part} is not in\n{text}");
    }
    // The others can still be exported.
    let lines = site.told(&["export", "--all"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let damaged = |line: &&Value| line["content"]["damaged"] == true;
    assert_eq!((lines.len(), lines.iter().filter(damaged).count()), (4, 1));
    assert_eq!(lines.iter().find(damaged).unwrap()["entry"], serum);
    let raw = site.journal(&["export", "--entry", &last.to_string()]);
    assert_eq!((raw.status.code(), err(&raw).as_str()), (Some(1), "error: a stored row is damaged\n"));
    assert!(raw.stdout.is_empty(), "half a message is no message");

    // I7: what is in the books and nowhere else is missing, and every look at the books says so.
    change("UPDATE account SET received = received + 1");
    let told = site.journal(&["--json", "verify"]);
    let verified: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((told.status.code(), &verified["account"]["received"]), (Some(1), &20.into()));
    assert!(out(&site.journal(&["verify"])).contains("1 results are missing\n"));
    let stats = site.journal(&["stats"]);
    assert_eq!((stats.status.code(), first_row(&out(&stats))[8]), (Some(1), "1"));
}

#[test]
fn where_there_is_no_journal_none_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().display().to_string();
    let to = dir.path().join("copy.db").display().to_string();
    for verb in [
        &["stats"][..],
        &["search"],
        &["show", "1"],
        &["hold"],
        &["release", "1"],
        &["requeue", "1"],
        &["replay", "1"],
        &["discard", "--hold", "1", "--reason", "none"],
        &["export", "--all"],
        &["verify"],
        &["backup", &to],
    ] {
        let told = afferent(&[&["journal", "--data", &data], verb].concat());
        assert_eq!((told.status.code(), out(&told).as_str()), (Some(1), ""), "{verb:?}");
        assert_eq!(err(&told), format!("error: there is no journal in {data}\n"), "{verb:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "and nothing is left behind");
}
