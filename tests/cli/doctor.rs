//! `afferent doctor` on a site in miniature: each fault is told at its layer, with what to do next.

use crate::site::Site;
use crate::{afferent, case, err, out};
use serde_json::Value;

fn doctor(site: &Site) -> (Option<i32>, Vec<Value>) {
    let told = afferent(&["doctor", "--json", "--config", &site.config().display().to_string()]);
    let report: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{}{}", out(&told), err(&told)));
    assert_eq!(report["ok"] == true, told.status.success(), "{report}");
    (told.status.code(), report["findings"].as_array().unwrap().clone())
}

fn found<'a>(findings: &'a [Value], layer: &str, subject: &str) -> &'a Value {
    let fits = |f: &&Value| f["layer"] == layer && f["subject"] == subject;
    findings.iter().find(fits).unwrap_or_else(|| panic!("nothing about {layer} of {subject} in {findings:?}"))
}

#[test]
fn the_doctor_finds_what_keeps_results_from_the_ehr_and_says_what_to_do() {
    let mut site = Site::filled();
    let (code, findings) = doctor(&site);
    assert_eq!(code, Some(1), "the registry refused messages for good");
    assert_eq!(found(&findings, "gateway", "")["state"], "good");
    assert_eq!(found(&findings, "ehr", "ehr")["state"], "good");
    assert_eq!(found(&findings, "ehr-ack", "ehr")["state"], "good");
    let refused = found(&findings, "ehr-ack", "registry");
    assert!(refused["says"].as_str().unwrap().starts_with("3 messages were refused for good"), "{refused}");
    assert!(refused["next"].as_str().unwrap().contains("requeue"), "{refused}");
    let held = found(&findings, "mapping", "chemistry");
    assert!(held["says"].as_str().unwrap().starts_with("1 results are held"), "{held}");
    assert_eq!(found(&findings, "records", "chemistry")["state"], "good");
    for finding in &findings {
        assert!(finding["state"] == "good" || finding["next"] != "", "no next step in {finding}");
    }

    site.stop_gateway();
    let (code, findings) = doctor(&site);
    assert_eq!((code, &found(&findings, "gateway", "")["state"]), (Some(1), &"bad".into()));
}

#[test]
fn a_bad_line_is_told_at_the_line_and_by_its_reason() {
    let site = Site::new();
    let (_, findings) = doctor(&site);
    let line = found(&findings, "line", "chemistry");
    assert!(line["next"].as_str().unwrap().contains("firewall"), "nobody is connected: {line}");
    let damaged = "roche-cobas-c311/cases/damaged-three-naks";
    let played = afferent(&["sim", "instrument", "--connect", &site.chemistry(), "--session", &case(damaged)]);
    assert_eq!(played.status.code(), Some(0), "{}", err(&played));
    let (_, findings) = doctor(&site);
    let ack = found(&findings, "link-ack", "chemistry");
    assert_eq!(ack["says"], "bad checksum, 2 times");
    assert!(ack["next"].as_str().unwrap().contains("afferent tap"), "{ack}");
}
