//! Modality -> gateway -> PACS with real peers at both ends: the PACS's own count against what the modality was told.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use afferent::sim::modality::exam::{Exam, Kind};
use serde_json::Value;

use crate::peers::{Orthanc, needed, until_async};
use crate::site::{AE_TITLE, Site};

/// Rounds of the kill test, unless `AFFERENT_KILL_ROUNDS` says otherwise.
const KILL_ROUNDS: u64 = 6;
/// Examinations of each round, and objects in each.
const ROUND_EXAMS: u64 = 4;
const ROUND_OBJECTS: usize = 5;

fn destination(orthanc: &Orthanc, more: &str) -> String {
    format!(
        "[[destination]]\nname = \"pacs\"\nprotocol = \"dicom\"\naddress = \"{}\"\ncalled_ae_title = \"{}\"\n\
         retry_min_ms = 50\nretry_max_ms = 500\nack_timeout_ms = 10000\n{more}",
        orthanc.address(),
        Orthanc::AE_TITLE
    )
}

/// The SOP Instance UIDs the modality was told are stored.
fn acknowledged(ledger: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    // The last line may be cut short when the modality was ended.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.map(|line| line["sop_instance_uid"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the PACS holds exactly these, each once.
async fn everything_arrives(orthanc: &Orthanc, sent: &BTreeSet<String>) {
    until_async("everything acknowledged is in the PACS", || async { orthanc.count().await >= sent.len() as u64 })
        .await;
    let held: Vec<String> = orthanc.held().await.into_iter().map(|held| held.sop_instance_uid).collect();
    assert_eq!(held.iter().collect::<BTreeSet<_>>(), sent.iter().collect::<BTreeSet<_>>());
    assert_eq!(held.len(), sent.len(), "each instance once");
}

/// A simulated modality as a process of its own, which outlives the gateway.
fn modality(site: &Site, ledger: &Path, options: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    command.args(["sim", "modality", &site.address(), "--called", AE_TITLE, "--json", "--timeout", "20", "--ledger"]);
    command.arg(ledger).args(options).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn finished(modality: Child) -> Value {
    let output = modality.wait_with_output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dcmtk_stores_here_is_in_orthanc_once_and_unchanged() {
    let what = "DCMTK through the gateway into Orthanc";
    let (Some(storescu), Some(dcmsend)) = (needed("storescu", what), needed("dcmsend", what)) else { return };
    let Some(orthanc) = Orthanc::start(what).await else { return };
    let mut site = Site::new(&destination(&orthanc, ""));
    site.start();
    let exams = [Exam::new(Kind::Echo, 11, 0, 5), Exam::new(Kind::Ct, 11, 1, 4)];
    for (exam, sender) in exams.iter().zip([storescu, dcmsend]) {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..exam.objects {
            std::fs::write(dir.path().join(format!("{number}.dcm")), exam.object(number).file()).unwrap();
        }
        let mut command = Command::new(&sender);
        match sender.ends_with("storescu") {
            true => command.args(["-R", "+sd", "-xr"]),
            false => command.args(["--decompress-never", "+sd"]),
        };
        command.args(["-aec", AE_TITLE, "-aet", "DCMTK", "127.0.0.1"]).arg(site.port.to_string()).arg(dir.path());
        let sent = command.output().unwrap();
        assert!(sent.status.success(), "{sent:?}");
    }
    let objects: Vec<_> = exams.iter().flat_map(|exam| (0..exam.objects).map(|n| exam.object(n))).collect();
    let sent = objects.iter().map(|object| object.sop_instance_uid.clone()).collect();
    everything_arrives(&orthanc, &sent).await;
    for held in orthanc.held().await {
        let object = objects.iter().find(|o| o.sop_instance_uid == held.sop_instance_uid).unwrap();
        let stored = orthanc.file(&held).await;
        let tail = &object.data_set[object.data_set.len() / 2..];
        assert!(stored.ends_with(tail), "{} was changed on the way", held.sop_instance_uid);
        let syntax = object.transfer_syntax_uid.as_bytes();
        assert!(stored[..400].windows(syntax.len()).any(|w| w == syntax), "compressed stays compressed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_pacs_that_is_away_for_a_while_gets_everything_once() {
    let Some(mut orthanc) = Orthanc::start("an outage of Orthanc").await else { return };
    let mut site = Site::new(&destination(&orthanc, "connections = 3\n"));
    site.start();
    let ledger = site.path("sent.jsonl");
    let sending = modality(&site, &ledger, &["-n", "8", "--objects", "5", "--associations", "2", "--faults", "all"]);
    until_async("some images have arrived", || async { orthanc.count().await >= 5 }).await;
    orthanc.stop();
    // The modality does not notice.
    let told = finished(sending);
    assert_eq!((told["stored"].as_u64(), told["violations"].as_u64()), (Some(40), Some(0)), "{told}");
    orthanc.go_on().await;
    let sent = acknowledged(&ledger);
    assert_eq!(sent.len(), 40);
    everything_arrives(&orthanc, &sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_kill_what_was_acknowledged_before_a_kill_is_in_the_pacs_once() {
    let Some(orthanc) = Orthanc::start("kills of the gateway").await else { return };
    let rounds = std::env::var("AFFERENT_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILL_ROUNDS);
    let mut site = Site::new(&destination(&orthanc, "connections = 2\n"));
    let ledger = site.path("sent.jsonl");
    let mut random = afferent::sim::random::Random::new(rounds);
    for round in 0..rounds {
        site.start();
        let (exams, objects, seed) = (ROUND_EXAMS.to_string(), ROUND_OBJECTS.to_string(), (100 + round).to_string());
        let options = ["-n", &exams, "--objects", &objects, "--seed", &seed, "--associations", "4"];
        let mut sending = modality(&site, &ledger, &options);
        // Somewhere between the first object and the last.
        let before = acknowledged(&ledger).len();
        let kill_at = before + random.below(ROUND_EXAMS as usize * ROUND_OBJECTS);
        until_async("the modality comes that far", || async { acknowledged(&ledger).len() >= kill_at }).await;
        site.kill();
        let _ = sending.kill();
        let _ = sending.wait();
    }
    site.start();
    let sent = acknowledged(&ledger);
    assert!(sent.len() as u64 >= rounds, "{} objects in {rounds} rounds", sent.len());
    // What was durable but not acknowledged any more may be there as well; what was acknowledged must.
    until_async("everything acknowledged is in the PACS", || async {
        let held: BTreeSet<String> = orthanc.held().await.into_iter().map(|held| held.sop_instance_uid).collect();
        sent.is_subset(&held)
    })
    .await;
    let held: Vec<String> = orthanc.held().await.into_iter().map(|held| held.sop_instance_uid).collect();
    assert_eq!(held.len(), held.iter().collect::<BTreeSet<_>>().len(), "each instance once");
}
