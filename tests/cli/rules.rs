//! The site's rules through the real binary: what is locked goes out in order once its control is good, also when the
//! gateway is killed in between; each decision is on record; mapped results leave in the order in which they came.

use crate::site::{Running, Site, ended};
use crate::{afferent, err, out};
use serde_json::Value;
use std::process::{Command, Output, Stdio};

/// An analyzer that marks its controls by their action code.
const DRIVER: &str = "[identity]\nvendor = \"ACME\"\nmodel = \"Two\"\nprotocol = \"astm\"\nheader = [\"ACME Two\"]\n\
    [[analyte]]\ncode = \"K\"\nloinc = \"2823-3\"\nname = \"Potassium [Moles/volume] in Serum or Plasma\"\n\
    units = { \"mmol/L\" = \"mmol/L\" }\n[qc]\naction_code = [\"Q\"]\ncontrol_name = \"O.3.1\"\n";

const RULES: &str = "[[rule]]\nname = \"potassium control\"\nkind = \"qc\"\nanalytes = [\"2823-3\"]\nunit = \"mmol/L\"\n\
    max_age_hours = 24\ncontrols = [{ name = \"QC-ONE\", low = \"3.8\", high = \"4.2\" }]\n\
    [[rule]]\nname = \"potassium critical\"\nkind = \"critical\"\nanalytes = [\"K\"]\nunit = \"mmol/L\"\nhigh = \"6.2\"\n\
    [[rule]]\nname = \"potassium delta\"\nkind = \"delta\"\nanalytes = [\"K\"]\npercent = \"25\"\nwithin_days = 3\n";

/// A gateway that reads ACME Two by this driver, with these rules in a file of their own.
fn site(driver: &str, rules: &str) -> Site {
    let mut site = Site::new();
    site.stop_gateway();
    std::fs::create_dir_all(site.path("drivers/acme-two")).unwrap();
    std::fs::write(site.path("drivers/acme-two/driver.toml"), driver).unwrap();
    std::fs::write(site.path("rules.toml"), rules).unwrap();
    let config = std::fs::read_to_string(site.config()).unwrap();
    let named = format!("[gateway]\nrules = {:?}\n", site.path("rules.toml"));
    std::fs::write(site.config(), config.replacen("[gateway]\n", &named, 1)).unwrap();
    site.start_gateway();
    site
}

/// Plays one result of one specimen.
fn play(site: &Site, specimen: &str, patient: &str, code: &str, value: &str) -> Output {
    let file = session(site, specimen, patient, code, value);
    afferent(&["sim", "instrument", "--connect", &site.chemistry(), "--session", &file])
}

/// The file of a session that sends one result.
fn session(site: &Site, specimen: &str, patient: &str, code: &str, value: &str) -> String {
    let action = if specimen.starts_with("QC-") { "Q" } else { "" };
    let session = format!(
        "> <ENQ>\n< <ACK>\n> <STX>1H|\\^&|||ACME Two|||||||P|LIS2-A2|20261103090000<CR>\n> P|1||{patient}<CR>\n\
         > O|1|{specimen}||^^^{code}|R||||||{action}<CR>\n> R|1|^^^{code}|{value}|mmol/L||||F||||20261103085800<CR>\n\
         > L|1|N<CR><ETX><CS><CR><LF>\n< <ACK>\n> <EOT>\n"
    );
    let file = site.path("session.txt");
    std::fs::write(&file, session).unwrap();
    file.display().to_string()
}

fn send(site: &Site, specimen: &str, patient: &str, code: &str, value: &str) {
    let played = play(site, specimen, patient, code, value);
    assert_eq!(played.status.code(), Some(0), "{}{}", out(&played), err(&played));
}

fn account(stats: &Value, bucket: &str) -> i64 {
    stats["account"][bucket].as_i64().unwrap()
}

/// Specimens in the order in which the EHR stored them, each time.
fn arrived(site: &Site) -> Vec<String> {
    site.chart("ehr.jsonl").iter().map(specimen).collect()
}

/// The specimen a message is about; the filler order number beside it is the gateway's own.
fn specimen(arrival: &Value) -> String {
    let mut ids = arrival["specimens"].as_array().unwrap().iter().filter_map(Value::as_str);
    ids.find(|id| id.starts_with("S-")).unwrap().to_owned()
}

#[test]
fn i13_rules_hold_and_say_why_and_a_good_control_unlocks() {
    let mut site = site(DRIVER, RULES);
    send(&site, "S-1", "P-1", "K", "4.0");
    send(&site, "S-2", "P-2", "K", "4.1");
    send(&site, "S-3", "P-3", "K", "6.9");
    site.until("all are held", |stats| account(stats, "held") == 3);
    let held = site.json(&["hold"])["held"].as_array().unwrap().clone();
    let reasons: Vec<&str> = held.iter().map(|row| row["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["qc-lock", "qc-lock", "rule-critical"]);
    assert_eq!(held[0]["why"], "the control QC-ONE has not run");
    assert_eq!(held[2]["why"], "above the critical limit of 6.2 mmol/L");
    assert!(held[2]["rule"].as_str().unwrap().starts_with("potassium critical@"), "{}", held[2]);
    let shown = site.told(&["hold"]);
    assert!(shown.contains("above the critical limit of 6.2 mmol/L, rule potassium critical@"), "{shown}");

    send(&site, "QC-ONE", "", "K", "4.3");
    site.until("a bad control unlocks nothing", |stats| account(stats, "held") == 4);
    site.stop_gateway();
    site.start_gateway();
    send(&site, "QC-ONE", "", "K", "4.0");
    site.until("what was locked goes out", |stats| {
        account(stats, "delivered") == 2 && account(stats, "held") == 3 && stats["missing"] == 0
    });
    assert_eq!(arrived(&site), ["S-1", "S-2"]);

    // The second specimen of a patient is compared with the first.
    send(&site, "S-4", "P-1", "K", "5.1");
    site.until("a jump is held", |stats| account(stats, "held") == 4);
    send(&site, "S-5", "P-1", "K", "4.9");
    site.until("a small change is not", |stats| account(stats, "delivered") == 3);
    let entry = site.json(&["search", "--specimen", "S-4"])[0]["entry"].to_string();
    let shown = site.json(&["show", &entry]);
    let decisions = shown["reports"][0]["decisions"].as_array().unwrap();
    let told: Vec<(&str, &str)> =
        decisions.iter().map(|d| (d["rule"].as_str().unwrap(), d["outcome"].as_str().unwrap())).collect();
    assert_eq!(told, [("potassium control", "passed"), ("potassium critical", "passed"), ("potassium delta", "held")]);
    assert!(decisions.iter().all(|d| d["version"].as_str().unwrap().len() == 12));
    assert!(!shown.to_string().contains("5.1"), "I8: no value in what is shown unasked");
    let shown = site.told(&["show", &entry]);
    assert!(shown.contains(": result 1 held: differs from the previous value by more than 25 %"), "{shown}");

    // A person lets the critical one go; it leaves as it was measured.
    let hold = held[2]["id"].to_string();
    assert!(site.told(&["release", &hold, "--note", "phoned"]).starts_with("1 released"));
    site.until("it is delivered", |stats| account(stats, "delivered") == 4 && stats["missing"] == 0);
}

#[test]
fn i6_what_is_locked_leaves_in_order_though_the_gateway_is_killed_on_the_way() {
    const SPECIMENS: usize = 45;
    let mut site = site(DRIVER, RULES);
    for number in 0..SPECIMENS {
        send(&site, &format!("S-{number:02}"), &format!("P-{number}"), "K", "4.0");
    }
    site.until("all are locked", |stats| account(stats, "held") == SPECIMENS as i64);
    site.stop_gateway();
    // It dies after its second commit, when the control is filed and nothing is unlocked yet; then while it unlocks;
    // then between the messages of what it unlocked. The journal alone knows how far it came.
    let mut commits = 2;
    let control = session(&site, "QC-ONE", "", "K", "4.1");
    loop {
        let mut gateway = doomed(&site, commits);
        let arguments = ["sim", "instrument", "--connect", &site.chemistry(), "--session", &control];
        let mut instrument = Running::start(&arguments, None);
        assert!(!ended(&mut gateway.0).success());
        // One that was acknowledged ends, the other dials on.
        std::thread::sleep(std::time::Duration::from_millis(500));
        if instrument.0.try_wait().unwrap().is_some_and(|status| status.success()) {
            break;
        }
        // What the gateway commits by itself at a start counts too.
        commits += 1;
    }
    for commits in [1, 3, 7, 12] {
        assert!(!ended(&mut doomed(&site, commits).0).success());
    }
    site.start_gateway();
    site.until("all went out", |stats| account(stats, "delivered") == SPECIMENS as i64 && stats["missing"] == 0);
    let mut arrived = arrived(&site);
    // What was sent and not yet settled when it died comes once more.
    arrived.dedup();
    let mut seen = Vec::new();
    arrived.retain(|specimen| {
        !seen.contains(specimen) && {
            seen.push(specimen.clone());
            true
        }
    });
    let expected: Vec<String> = (0..SPECIMENS).map(|number| format!("S-{number:02}")).collect();
    assert_eq!(arrived, expected, "in the order in which they were locked");
}

#[test]
fn i6_mapped_results_leave_in_order_and_a_correction_is_never_overtaken() {
    const SPECIMENS: usize = 20;
    let unmapped = DRIVER.replace("code = \"K\"", "code = \"NA\"");
    let mut site = site(&unmapped, "");
    for number in 0..SPECIMENS {
        send(&site, &format!("S-{number:02}"), "P-1", "K", "4.0");
    }
    // Corrections of every other specimen, after all of them.
    for number in (0..SPECIMENS).step_by(2) {
        send(&site, &format!("S-{number:02}"), "P-1", "K", "4.4");
    }
    let all = (SPECIMENS + SPECIMENS / 2) as i64;
    site.until("all are held", |stats| account(stats, "held") == all);
    let config = site.config().display().to_string();
    let map = |arguments: &[&str]| {
        let told = afferent(&[&["map", "--json", "--config", &config], arguments].concat());
        assert_eq!(told.status.code(), Some(0), "{}{}", out(&told), err(&told));
        serde_json::from_slice::<Value>(&told.stdout).unwrap()
    };
    let refused = afferent(&[
        "map",
        "--config",
        &config,
        "accept",
        "--driver",
        "acme-two",
        "--code",
        "K",
        "--loinc",
        "2823-3",
        "--unit",
        "mmol/L=mMol/L",
    ]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("`mMol/L` is not a UCUM unit; did you mean `mmol/L`?"), "{}", err(&refused));
    let accepted =
        map(&["accept", "--driver", "acme-two", "--code", "K", "--loinc", "2823-3", "--unit", "mmol/L=mmol/L"]);
    let entries: Vec<String> = accepted["entries"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(entries.len() as i64, all);
    site.stop_gateway();
    site.start_gateway();
    let replay: Vec<&str> = std::iter::once("replay").chain(entries.iter().map(String::as_str)).collect();
    site.told(&replay);
    site.until("all are delivered", |stats| account(stats, "delivered") == all && stats["missing"] == 0);
    // Of which entry each message about a specimen was, in the order of arrival.
    let entry_of = |arrival: &Value| {
        site.json(&["search", "--message", arrival["message_id"].as_str().unwrap()])[0]["entry"].as_i64().unwrap()
    };
    let chart = site.chart("ehr.jsonl");
    for number in 0..SPECIMENS {
        let about = |arrival: &&Value| specimen(arrival) == format!("S-{number:02}");
        let order: Vec<i64> = chart.iter().filter(about).map(entry_of).collect();
        assert_eq!(order.len(), 1 + usize::from(number % 2 == 0));
        assert!(order.is_sorted(), "S-{number:02}: {order:?}");
    }
    // An original interpreted once more comes too late: its correction was sent.
    let late = site.json(&["search", "--specimen", "S-00"])[1]["entry"].to_string();
    site.told(&["replay", &late]);
    site.until("it is held", |stats| account(stats, "held") == 1 && stats["missing"] == 0);
    assert_eq!(site.json(&["hold"])["held"][0]["reason"], "overtaken");
}

#[test]
fn a_dry_run_tells_what_other_rules_would_have_made_of_what_came() {
    let critical = &RULES[RULES.find("[[rule]]\nname = \"potassium critical\"").unwrap()..];
    let site = site(DRIVER, critical);
    for (specimen, patient, value) in
        [("S-1", "P-1", "4.0"), ("S-2", "P-2", "6.9"), ("S-3", "P-1", "4.1"), ("S-4", "P-1", "5.9")]
    {
        send(&site, specimen, patient, "K", value);
    }
    site.until("two are sent, two held", |stats| account(stats, "delivered") == 2 && account(stats, "held") == 2);
    let config = site.config().display().to_string();
    let run = |arguments: &[&str]| {
        let told = afferent(&[&["rules", "--config", &config, "dry-run"], arguments].concat());
        assert_eq!(told.status.code(), Some(0), "{}", err(&told));
        out(&told)
    };
    let same = run(&[]);
    assert!(same.contains("4 entries, 4 results: 2 would be sent, 2 held"), "{same}");
    assert!(same.contains("nothing would have fared otherwise"), "{same}");

    // A wider critical limit, no delta, and a range nobody had before.
    let new = "[[rule]]\nname = \"potassium critical\"\nkind = \"critical\"\nanalytes = [\"K\"]\nunit = \"mmol/L\"\n\
               high = \"7.0\"\n[[rule]]\nname = \"potassium unseen\"\nkind = \"range\"\nanalytes = [\"2823-3\"]\n\
               unit = \"mmol/L\"\nlow = \"4.05\"\n";
    std::fs::write(site.path("new.toml"), new).unwrap();
    let file = site.path("new.toml").display().to_string();
    let told = run(&["--rules", &file]);
    for part in [
        "4 entries, 4 results: 3 would be sent, 1 held",
        "       1 rule-range",
        ": 4 passed",
        "potassium unseen@",
        ": 3 passed, 1 held",
        "       1 rule-critical -> sent",
        "       1 rule-delta -> sent",
        "       1 sent -> rule-range",
        "on chemistry, result 1 (K): sent -> rule-range: below the verification limit of 4.05 mmol/L, rule potassium unseen@",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    for secret in ["S-1", "P-1", "6.9", "5.9"] {
        assert!(!told.contains(secret), "I8: {secret} in\n{told}");
    }
    let short = run(&["--rules", &file, "--limit", "1"]);
    assert!(short.contains("  and 2 more") && short.matches(" -> ").count() == 4, "{short}");
    let json: Value = serde_json::from_str(&run(&["--rules", &file, "--json"])).unwrap();
    assert_eq!((&json["results"], &json["sent"], &json["held"]), (&4.into(), &3.into(), &1.into()));
    assert_eq!(json["changes"]["sent -> rule-range"], 1);
    assert_eq!(json["rules"]["potassium unseen"]["outcomes"]["passed"], 3);
    assert_eq!(json["rules"]["potassium unseen"]["version"].as_str().unwrap().len(), 12);
    let differences = json["differences"].as_array().unwrap();
    let entries: Vec<i64> = differences.iter().map(|d| d["entry"].as_i64().unwrap()).collect();
    assert!(entries.len() == 3 && entries.is_sorted(), "the oldest first: {json}");
    // Before anything came there is nothing to try them on; and nothing of all this changed anything.
    assert!(run(&["--until", "2026-01-01T00:00:00Z", "--since", "2025-01-01T00:00:00Z"]).starts_with("0 entries"));
    site.until("nothing changed", |stats| account(stats, "delivered") == 2 && account(stats, "held") == 2);
}

#[test]
fn a_preview_goes_by_the_sites_own_drivers_and_rules_and_by_what_the_box_knows() {
    let site = site(DRIVER, RULES);
    let config = site.config().display().to_string();
    let message = "H|\\^&|||ACME Two|||||||P|LIS2-A2|20261103090000\nP|1||P-1\nO|1|S-9||^^^K|R\n\
                   R|1|^^^K|6.5|mmol/L||||F||||20261103085800\nL|1|N\n";
    let file = site.path("message.astm");
    std::fs::write(&file, message).unwrap();
    let file = file.display().to_string();
    let shown = |options: &[&str]| {
        let shown = afferent(&[&["preview", "--config", &config], options, &[&file]].concat());
        assert_eq!(shown.status.code(), Some(0), "{}", err(&shown));
        out(&shown)
    };
    let unnamed = afferent(&["preview", "--config", &config, &file]);
    assert!(err(&unnamed).contains("name it with --link: chemistry, ward"), "{}", err(&unnamed));
    let told = shown(&["--link", "chemistry"]);
    for part in [
        "acme-two@",
        "would be held: rule-critical",
        " held: the control QC-ONE has not run",
        " held: above the critical",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    send(&site, "QC-ONE", "", "K", "4.0");
    send(&site, "S-1", "P-1", "K", "4.0");
    site.until("the control is filed", |stats| account(stats, "delivered") == 1);
    let json: Value = serde_json::from_str(&shown(&["--link", "chemistry", "--json"])).unwrap();
    let decisions = json["results"][0]["decisions"].as_array().unwrap();
    let told: Vec<(&str, &str)> =
        decisions.iter().map(|d| (d["rule"].as_str().unwrap(), d["outcome"].as_str().unwrap())).collect();
    assert_eq!(told, [("potassium control", "passed"), ("potassium critical", "held"), ("potassium delta", "held")]);
    assert_eq!((&json["results"][0]["held_for"], &json["held"]), (&serde_json::json!(["rule-critical"]), &1.into()));
    assert_eq!(json["messages"], serde_json::json!([]));
    let text = std::fs::read_to_string(site.config()).unwrap();
    let required = text.replacen("name = \"chemistry\"\n", "name = \"chemistry\"\norders = \"required\"\n", 1);
    std::fs::write(site.config(), required).unwrap();
    let json: Value = serde_json::from_str(&shown(&["--link", "chemistry", "--json"])).unwrap();
    assert_eq!(json["results"][0]["held_for"], serde_json::json!(["no-order"]), "nobody ordered it");
}

/// A gateway that dies after so many commits.
fn doomed(site: &Site, commits: usize) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    command.arg("run").arg("--config").arg(site.config());
    command.env("AFFERENT_ABORT_AT", format!("after-commit:{commits}")).env_remove("AFFERENT_LOG");
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}
