//! Storage commitment: what modalities are told is safe, and what archives say of what they were given.

use crate::peers::{Orthanc, Running, afferent, free_port, pynetdicom, until};
use crate::site::Site;
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// An EHR that is away.
const EHR: &str = "[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n";
const IMAGES: usize = 5;

/// A gateway with a modality that listens for reports on this port, these further settings of it, and these tables.
fn site(modality: u16, settings: &str, tables: &str) -> Site {
    let mut site = Site::new(&format!(
        "[[modality]]\nname = \"echo-1\"\nae_title = \"VIVID\"\naddress = \"127.0.0.1:{modality}\"\n\
         commitment_wait_s = 5\n{settings}\n{tables}"
    ));
    site.start();
    site
}

/// A PACS on this port that is asked to commit to what it takes.
fn pacs(port: u16, title: &str) -> String {
    format!(
        "[[destination]]\nname = \"pacs\"\nprotocol = \"dicom\"\naddress = \"127.0.0.1:{port}\"\n\
         called_ae_title = \"{title}\"\ncommitment = true\nretry_min_ms = 50\nretry_max_ms = 500\n"
    )
}

/// An examination that the simulated modality sends.
fn send(site: &Site, options: &[&str]) -> Value {
    let (address, images) = (site.address(), IMAGES.to_string());
    let arguments = ["sim", "modality", &address, "--kind", "ct", "--objects", &images, "--calling", "VIVID", "--json"];
    let sent = afferent(&[&arguments[..], options].concat());
    serde_json::from_slice(&sent.stdout).unwrap_or_else(|_| panic!("{sent:?}"))
}

/// Deliveries of the only study: how many are on the way, done, and parked.
fn deliveries(site: &Site) -> Value {
    let data = site.data().display().to_string();
    let told = afferent(&["journal", "studies", "--json", "--data", &data]);
    let studies: Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
    json!([studies[0]["queued"], studies[0]["delivered"], studies[0]["parked"]])
}

/// Runs the modality of pynetdicom and tells what it heard; `None`, said, where it is not installed.
fn modality(arguments: &[&str], what: &str) -> Option<Value> {
    let done = pynetdicom("modality_peer.py", arguments, what)?.output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    Some(serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}{}", String::from_utf8_lossy(&done.stderr))))
}

#[test]
fn a_modality_is_told_what_is_safe_on_the_association_it_asked_on_or_where_it_listens() {
    let own = free_port();
    let site = site(own, "", EHR);
    let arguments = ["commitment", &site.port.to_string(), &own.to_string()];
    let Some(said) = modality(&arguments, "storage commitment with pynetdicom") else { return };
    let expected = json!({
        "whole, action": "0000",
        "whole": [["same association", 1, "whole", ["stored"], []]],
        "again": [["same association", 1, "whole", ["stored"], []]],
        "duplicate": [["same association", 2, "whole", [], [["missing", "0131"]]]],
        "partly, action": "0000",
        "partly": [["own association", 2, "partly", ["stored"], [["missing", "0112"]]]],
        "late, action": "0000",
        "late": [["same association", 1, "late", ["late"], []]],
    });
    assert_eq!(said, expected);
}

#[test]
fn a_request_that_may_not_be_has_a_status_of_its_own() {
    let site = site(free_port(), "", EHR);
    let what = "wrong requests for storage commitment";
    let Some(said) = modality(&["wrong", &site.port.to_string()], what) else { return };
    let expected = json!({
        "unknown action": "0123",
        "unknown instance": "0112",
        "no instances": "0115",
        "no transaction": "0115",
    });
    assert_eq!(said, expected);
}

#[test]
fn i1_kill_a_commitment_asked_for_before_a_kill_is_reported_after_it() {
    let own = free_port();
    let mut site = site(own, "", EHR);
    let what = "a kill between N-ACTION and N-EVENT-REPORT";
    let Some(asked) = modality(&["ask", &site.port.to_string()], what) else { return };
    // Nobody listens there yet: nothing can have been reported.
    site.kill();
    assert_eq!(asked["status"], "0000");
    site.start();
    let told = modality(&["hear", &own.to_string()], what).unwrap();
    let report = &told[0];
    assert_eq!((&report[1], &report[2]), (&json!(2), &asked["transaction"]));
    assert_eq!(report[3], json!([asked["instance"]]), "what is whole is committed");
    assert_eq!(report[4][0][1], "0112", "what never came is not");
}

/// Runs the archive of pynetdicom until everything is settled; tells what it did. `meanwhile` sends.
fn archive(
    where_: &str,
    refusals: usize,
    what: &str,
    meanwhile: impl FnOnce(u16, u16) -> Site,
) -> Option<(Site, Value)> {
    let (port, gateway) = (free_port(), free_port());
    let (refusals, images) = (refusals.to_string(), IMAGES.to_string());
    let arguments = [&port.to_string(), &gateway.to_string(), where_, &refusals, &images];
    let archive = pynetdicom("archive_peer.py", &arguments, what)?.stdout(Stdio::piped()).spawn().unwrap();
    let site = meanwhile(port, gateway);
    let done = archive.wait_with_output().unwrap();
    let told = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    Some((site, told))
}

/// A gateway at this port whose PACS is the archive.
fn site_of_archive(port: u16, gateway: u16, only_known: bool) -> Site {
    let mut site = Site::new(&format!(
        "only_known = {only_known}\n[[modality]]\nname = \"ct-1\"\nae_title = \"VIVID\"\n{}",
        pacs(port, "ARCHIVE")
    ));
    site.port = gateway;
    site.start();
    site
}

#[test]
fn an_archive_commits_to_what_it_took_and_reports_where_it_likes() {
    for (where_, only_known) in [("same", false), ("own", true)] {
        let what = "an archive of pynetdicom that commits";
        let sent = archive(where_, 0, what, |port, gateway| {
            let site = site_of_archive(port, gateway, only_known);
            send(&site, &[]);
            site
        });
        let Some((site, told)) = sent else { return };
        let answers = if where_ == "own" { json!(["0000", "again 0000"]) } else { json!(["0000"]) };
        assert_eq!((&told["ended"], &told["answers"]), (&json!(true), &answers), "{told}");
        assert_eq!((&told["committed"], &told["asked"]), (&json!(IMAGES), &json!(IMAGES)), "each asked once: {told}");
        assert_eq!(told["stored"], json!(vec![1; IMAGES]), "each sent once: {told}");
        assert_eq!(deliveries(&site), json!([0, IMAGES, 0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modality_is_told_what_orthanc_committed_to() {
    let Some(orthanc) = Orthanc::start("storage commitment with Orthanc").await else { return };
    let mut site = Site::new(&format!(
        "[[modality]]\nname = \"ct-1\"\nae_title = \"VIVID\"\ncommitment = \"committed\"\n{}",
        pacs(orthanc.dicom, Orthanc::AE_TITLE)
    ));
    site.port = orthanc.gateway;
    site.start();
    let heard = send(&site, &["--commit", "110"]);
    assert_eq!((&heard["committed"], &heard["uncommitted"]), (&json!(IMAGES), &json!(0)), "{heard}");
    assert_eq!(orthanc.count().await, IMAGES as u64);
}

#[test]
fn an_archive_that_reports_before_it_answers_is_believed() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    let _pacs = Running::start(command.args(["sim", "pacs", &address, "--commitment", "early"]));
    until("the PACS listens", || std::net::TcpStream::connect(&address).is_ok());
    let site = site(free_port(), "commitment = \"committed\"\n", &pacs(port, "SIMPACS"));
    let heard = send(&site, &["--commit", "110"]);
    assert_eq!((&heard["committed"], &heard["uncommitted"]), (&json!(IMAGES), &json!(0)), "{heard}");
}

#[test]
fn what_an_archive_does_not_commit_to_is_sent_again_and_parked_in_the_end() {
    for (refusals, sends, parked) in [(1, 2, 0), (9, 4, IMAGES)] {
        let what = "an archive of pynetdicom that does not commit";
        let sent = archive("own", refusals, what, |port, gateway| {
            let site = site_of_archive(port, gateway, false);
            send(&site, &[]);
            site
        });
        let Some((site, told)) = sent else { return };
        assert_eq!((&told["ended"], &told["stored"]), (&json!(true), &json!(vec![sends; IMAGES])), "{told}");
        until("what is not committed is parked", || deliveries(&site) == json!([0, IMAGES - parked, parked]));
    }
}

#[test]
fn i1_kill_what_an_archive_was_given_before_a_kill_is_asked_about_after_it() {
    let what = "a kill between delivery and commitment";
    let sent = archive("own", 0, what, |port, gateway| {
        let mut site = site_of_archive(port, gateway, false);
        send(&site, &[]);
        until("everything is delivered", || deliveries(&site) == json!([0, IMAGES, 0]));
        site.kill();
        site.start();
        site
    });
    let Some((_site, told)) = sent else { return };
    assert_eq!((&told["ended"], &told["committed"]), (&json!(true), &json!(IMAGES)), "{told}");
    assert_eq!(told["stored"], json!(vec![1; IMAGES]), "each sent once: {told}");
}

#[test]
fn a_modality_that_waits_for_the_archive_is_told_when_that_has_committed() {
    for (refusals, committed) in [(0, IMAGES), (9, 0)] {
        let what = "commitment from end to end";
        let mut heard = Value::Null;
        let sent = archive("same", refusals, what, |port, gateway| {
            let mut site = Site::new(&format!(
                "[[modality]]\nname = \"ct-1\"\nae_title = \"VIVID\"\ncommitment = \"committed\"\n{}",
                pacs(port, "ARCHIVE")
            ));
            site.port = gateway;
            site.start();
            heard = send(&site, &["--commit", "110"]);
            site
        });
        let Some((_site, told)) = sent else { return };
        assert_eq!(told["ended"], json!(true), "{told}");
        assert_eq!(heard["committed"], json!(committed), "{heard}");
        assert_eq!(heard["uncommitted"], json!(IMAGES - committed), "{heard}");
    }
}
