//! Modality -> gateway -> EHR, the real binary between DCMTK and the simulated EHR: what arrives is what was measured,
//! once, through outages and kills.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use afferent::journal::{self, Reader};
use afferent::message::dicom::{CharacterSets, DataSet, Element, FileMeta, Layout, VR, Value as Data, tags};
use afferent::sim::ehr::{Arrival, Behaviour, Ehr, EhrOptions};
use base64::Engine;
use serde_json::Value;

use crate::documents;
use crate::peers::{afferent, program, until_async};
use crate::site::{AE_TITLE, Site};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const STUDY: &str = "1.2.826.0.1.3680043.10.1000.7";
/// Rounds of the kill test, unless `AFFERENT_KILL_ROUNDS` says otherwise.
const KILL_ROUNDS: u64 = 6;

/// An EHR that hears of studies by both ways.
async fn ehr() -> Ehr {
    let free = || Some("127.0.0.1:0".to_owned());
    Ehr::start(EhrOptions { mllp: free(), fhir: free(), keep_bodies: true, ..EhrOptions::default() }).await.unwrap()
}

/// The gateway's settings behind `[dicom]`.
fn settings(ehr: &Ehr, imaging: &str) -> String {
    format!(
        "[imaging]\n{imaging}\n\
         [[destination]]\nname = \"ehr\"\nprotocol = \"mllp\"\naddress = \"{}\"\nretry_min_ms = 50\nretry_max_ms = 200\n\
         [[destination]]\nname = \"chart\"\nprotocol = \"fhir\"\nurl = \"http://{}/fhir\"\nretry_min_ms = 50\n\
         retry_max_ms = 200\n[destination.fhir]\npatient_system = \"urn:oid:2.16.840.1.113883.19.5\"\n\
         [destination.imaging]\nwado_rs = \"https://pacs.example/dicom-web\"\n",
        ehr.mllp().unwrap(),
        ehr.fhir().unwrap()
    )
}

/// An object of the study, whatever else is in it.
fn object(mut set: DataSet, class: &str, series: &str, number: u32, modality: &str) -> DataSet {
    let uid = format!("{STUDY}.{series}.{number}");
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, class),
        (tags::SOP_INSTANCE_UID, VR::UI, uid.as_str()),
        (tags::STUDY_DATE, VR::DA, "20261103"),
        (tags::STUDY_TIME, VR::TM, "085000"),
        (tags::ACCESSION_NUMBER, VR::SH, "ACC-1"),
        (tags::MODALITY, VR::CS, modality),
        (tags::STUDY_DESCRIPTION, VR::LO, "Echo"),
        (tags::PATIENT_NAME, VR::PN, "MUSTER^ADA"),
        (tags::PATIENT_ID, VR::LO, "P-100"),
        (tags::STUDY_INSTANCE_UID, VR::UI, STUDY),
        (tags::SERIES_INSTANCE_UID, VR::UI, &format!("{STUDY}.{series}")),
        (tags::INSTANCE_NUMBER, VR::IS, &number.to_string()),
    ] {
        set.put_text(tag, vr, text);
    }
    set
}

fn image(number: u32) -> DataSet {
    let mut set = DataSet::new(CharacterSets::utf8());
    set.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, 4),
        (tags::COLUMNS, 4),
        (tags::BITS_ALLOCATED, 8),
        (tags::BITS_STORED, 8),
        (tags::HIGH_BIT, 7),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        set.put_u16(tag, value);
    }
    set.put(Element { tag: tags::PIXEL_DATA, vr: VR::OB, value: Data::Bytes(vec![number as u8; 16]) });
    object(set, "1.2.840.10008.5.1.4.1.1.6.1", "1", number, "US")
}

fn report(tree: DataSet, number: u32) -> DataSet {
    object(tree, "1.2.840.10008.5.1.4.1.1.88.33", "9", number, "SR")
}

fn pdf(bytes: &[u8]) -> DataSet {
    numbered_pdf(1, bytes)
}

fn numbered_pdf(number: u32, bytes: &[u8]) -> DataSet {
    let mut set = DataSet::new(CharacterSets::utf8());
    set.put_text(tags::DOCUMENT_TITLE, VR::ST, "Befund");
    set.put_text(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, VR::LO, "application/pdf");
    set.put(Element { tag: tags::ENCAPSULATED_DOCUMENT, vr: VR::OB, value: Data::Bytes(bytes.to_vec()) });
    object(set, "1.2.840.10008.5.1.4.1.1.104.1", "8", number, "DOC")
}

/// Stores objects by DCMTK where it is installed, else by our own sender.
fn send(site: &Site, objects: &[DataSet]) {
    let dir = tempfile::tempdir().unwrap();
    for (number, set) in objects.iter().enumerate() {
        let (class, uid) = (set.uid(tags::SOP_CLASS_UID), set.uid(tags::SOP_INSTANCE_UID));
        let meta = FileMeta {
            sop_class_uid: &class,
            sop_instance_uid: &uid,
            transfer_syntax_uid: EXPLICIT,
            source_ae_title: "TEST",
        };
        let file = [meta.write(), set.write(Layout::ExplicitLittle)].concat();
        std::fs::write(dir.path().join(format!("{number}.dcm")), file).unwrap();
    }
    let output = match program("storescu") {
        Some(storescu) => Command::new(storescu)
            .args(["-R", "+sd", "-aec", AE_TITLE, "-aet", "DCMTK", "127.0.0.1", &site.port.to_string()])
            .arg(dir.path())
            .output()
            .unwrap(),
        None => afferent(&["dicom", "send", &site.address(), "--called", AE_TITLE, dir.path().to_str().unwrap()]),
    };
    assert!(output.status.success(), "{output:?}");
}

fn reader(site: &Site) -> Reader {
    Reader::open(&site.data(), &journal::Config::default()).unwrap()
}

/// The messages in the chart, each once, by how they came.
fn charted(ehr: &Ehr, protocol: &str) -> Vec<String> {
    let mut seen = BTreeMap::new();
    for Arrival { number, message_id, body, .. } in
        ehr.arrivals().into_iter().filter(|arrival| arrival.stored && format!("{:?}", arrival.protocol) == protocol)
    {
        seen.entry(message_id).or_insert((number, String::from_utf8(body).unwrap()));
    }
    let mut messages: Vec<(u64, String)> = seen.into_values().collect();
    messages.sort();
    messages.into_iter().map(|(_, body)| body).collect()
}

async fn charted_is(ehr: &Ehr, count: usize) {
    until_async("the EHR has been told", || async {
        charted(ehr, "Mllp").len() >= count && charted(ehr, "Fhir").len() >= count
    })
    .await;
    assert_eq!((charted(ehr, "Mllp").len(), charted(ehr, "Fhir").len()), (count, count));
}

/// OBX-3.1, the readable part of OBX-4, OBX-5, OBX-6.1 and OBX-11 of every OBX.
fn results(message: &str) -> Vec<[String; 5]> {
    let obx = message.split('\r').filter(|segment| segment.starts_with("OBX|"));
    let first = |field: &str| field.split('^').next().unwrap_or_default().to_owned();
    obx.map(|segment| {
        let fields: Vec<&str> = segment.split('|').collect();
        [
            first(fields[3]),
            fields[4].split('.').next().unwrap().to_owned(),
            fields[5].into(),
            first(fields[6]),
            fields[11].into(),
        ]
    })
    .collect()
}

fn resources(bodies: &[String], kind: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for body in bodies {
        let bundle: Value = serde_json::from_str(body).unwrap();
        let entries = bundle["entry"].as_array().unwrap().iter().map(|entry| entry["resource"].clone());
        found.extend(entries.filter(|resource| resource["resourceType"] == kind));
    }
    found
}

/// What strangers say of what arrived; left out where they are not installed.
fn judged(messages: &[String], bundles: &[String]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let peers = std::env::var_os("AFFERENT_PEERS").map_or_else(|| root.join("target/peers"), Into::into);
    let dir = tempfile::tempdir().unwrap();
    for (ending, bodies) in [("hl7", messages), ("fhir.json", bundles)] {
        for (number, body) in bodies.iter().enumerate() {
            std::fs::write(dir.path().join(format!("{number}.{ending}")), body).unwrap();
        }
    }
    for (program, judge) in [(peers.join("venv/bin/python"), "hl7apy_judge.py"), ("node".into(), "fhir_judge.mjs")] {
        let mut command = Command::new(&program);
        command.arg(root.join("tests/judges").join(judge)).arg(dir.path()).env("AFFERENT_PEERS", &peers);
        match command.output() {
            Ok(said) if !peers.join("node/node_modules/fhir").is_dir() => {
                println!("left out: {judge} ({:?})", said.status);
            }
            Ok(said) => assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout)),
            Err(error) => println!("left out: {judge} ({error})"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_with_its_report_and_document_is_in_the_chart_as_it_was_stored() {
    let ehr = ehr().await;
    let mut site = Site::new(&settings(&ehr, "study_idle_s = 1"));
    site.start();
    let document = b"%PDF-1.4 a synthetic report of odd length";
    send(&site, &[image(1), image(2), report(documents::echo(), 1), report(documents::vascular(), 2), pdf(document)]);
    // Echo, vascular, document and study, to each of the two.
    charted_is(&ehr, 4).await;
    let (messages, bundles) = (charted(&ehr, "Mllp"), charted(&ehr, "Fhir"));
    judged(&messages, &bundles);

    let of = |code: &str| results(messages.iter().find(|message| message.contains(code)).unwrap());
    let line = |[code, place, value, unit, status]: [&str; 5]| [code, place, value, unit, status].map(str::to_owned);
    assert_eq!(
        of("|18043-0^"),
        [
            line(["29436-3", "T-32600", "4.2141821355915", "cm", "F"]),
            line(["18026-5", "T-32600", "61.33", "ml", "F"]),
            line(["18043-0", "T-32600", "58.30", "%", "F"]),
            line(["18087-7", "T-32600", "", "", "X"]),
            line(["11726-7", "T-35400", "-1.382e2", "cm/s", "F"]),
        ],
        "the chosen and derived ones, not those they were made of, nor the cart's own code"
    );
    let vascular = of("|12023-8^");
    assert_eq!(vascular.len(), 12);
    assert_eq!(vascular[0], line(["11726-7", "T-45100-L", "88.1", "cm/s", "P"]), "nobody has verified it");
    assert_eq!(vascular[8], line(["12023-8", "T-45100-R", "0.70", "1", "P"]));
    let sent = of("|ED|").remove(0)[2].clone();
    let base64 = sent.rsplit('^').next().unwrap();
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(base64).unwrap(), document);
    assert_eq!(of("|113014^")[0][2], STUDY);
    for message in &messages {
        assert!(message.contains("\rPID|1||P-100") && message.contains("|ACC-1|"), "{message}");
    }

    let study = &resources(&bundles, "ImagingStudy")[0];
    assert_eq!(study["identifier"][0]["value"], format!("urn:oid:{STUDY}"));
    assert_eq!((&study["numberOfSeries"], &study["numberOfInstances"]), (&3.into(), &5.into()));
    assert_eq!(study["description"], "Echo");
    assert_eq!(resources(&bundles, "Endpoint")[0]["address"], "https://pacs.example/dicom-web");
    let observations = resources(&bundles, "Observation");
    let coded = |observation: &Value, code: &str| observation["code"]["coding"][0]["code"] == code;
    let fraction = observations.iter().find(|observation| coded(observation, "18043-0")).unwrap();
    // serde_json keeps the digits as text here: 58.30 is not 58.3.
    assert_eq!(fraction["valueQuantity"]["value"].to_string(), "58.30");
    assert_eq!(
        (&fraction["valueQuantity"]["unit"], &fraction["valueQuantity"]["code"]),
        (&"percent".into(), &"%".into())
    );
    assert_eq!(fraction["method"]["coding"][0]["code"], "125207");
    let volume = observations.iter().find(|observation| coded(observation, "18026-5")).unwrap();
    let said = |observation: &Value, what: &str| {
        let components = observation["component"].as_array().unwrap().clone();
        components.into_iter().find(|c| c["code"]["text"] == what).unwrap()["valueCodeableConcept"].clone()
    };
    assert_eq!(said(volume, "Derivation")["text"], "Mean");
    let resistivity: Vec<&Value> = observations.iter().filter(|o| coded(o, "12023-8")).collect();
    let sides: Vec<Value> = resistivity.iter().map(|o| said(o, "Laterality")["text"].clone()).collect();
    assert_eq!(sides, ["Left", "Left", "Right", "Right"]);
    let attachment = &resources(&bundles, "DocumentReference")[0]["content"][0]["attachment"];
    assert_eq!(attachment["data"], base64);

    let stats = reader(&site);
    until_async("everything is settled", || async { stats.account().unwrap().queued == 0 }).await;
    let account = stats.account().unwrap();
    // Five objects no archive takes; six and twelve numbers, of which one is held; document and study.
    assert_eq!((account.received, account.unrouted, account.delivered, account.held), (25, 5, 19, 1));
    assert_eq!(account.missing(), 0);
    let mapped = afferent(&["map", "--json", "--config", site.path("box.toml").to_str().unwrap()]);
    assert!(mapped.status.success(), "what is held of a structured report is no matter of a driver: {mapped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_what_a_corrected_report_has_no_more_is_taken_back_from_the_chart() {
    let ehr = ehr().await;
    let mut site = Site::new(&settings(&ehr, "study_idle_s = 1"));
    site.start();
    send(&site, &[report(documents::echo(), 1)]);
    charted_is(&ehr, 2).await;
    // The same without what was measured at the aortic valve.
    let mut corrected = documents::echo();
    let mut content = corrected.items(tags::CONTENT_SEQUENCE).to_vec();
    content.pop();
    corrected.put_items(tags::CONTENT_SEQUENCE, content);
    send(&site, &[report(corrected, 1)]);
    charted_is(&ehr, 3).await;
    let (messages, bundles) = (charted(&ehr, "Mllp"), charted(&ehr, "Fhir"));
    judged(&messages, &bundles);
    let last = results(messages.last().unwrap());
    let status: Vec<(&str, &str)> = last.iter().map(|[code, .., status]| (code.as_str(), status.as_str())).collect();
    let expected = [("29436-3", "C"), ("18026-5", "C"), ("18043-0", "C"), ("18087-7", "X"), ("11726-7", "D")];
    assert_eq!(status, expected);
    let observations = resources(&bundles[bundles.len() - 1..], "Observation");
    let gone = observations.iter().filter(|observation| observation["status"] == "entered-in-error");
    let gone: Vec<&str> = gone.map(|observation| observation["code"]["coding"][0]["code"].as_str().unwrap()).collect();
    assert_eq!(gone, ["11726-7", "125007"], "the velocity and its group");
    assert_eq!(reader(&site).account().unwrap().missing(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_a_pdf_of_another_kind_and_the_end_of_the_one_before_it_are_one_message() {
    let ehr = ehr().await;
    let mut site = Site::new(&settings(&ehr, "study_idle_s = 1"));
    site.start();
    let made = |number: u32, kind: &'static str, replaces: Option<u32>| {
        let mut set = numbered_pdf(number, b"%PDF-1.4 a synthetic report");
        for (tag, text) in [(tags::COMPLETION_FLAG, "COMPLETE"), (tags::VERIFICATION_FLAG, "VERIFIED")] {
            set.put_text(tag, VR::CS, text);
        }
        set.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![documents::code((kind, "LN", "Report"))]);
        if let Some(replaces) = replaces {
            let [mut study, mut series, mut document] = [0; 3].map(|_| DataSet::default());
            document.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &format!("{STUDY}.8.{replaces}"));
            series.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![document]);
            study.put_items(tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
            set.put_items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, vec![study]);
        }
        set
    };
    send(&site, &[made(1, "18842-5", None)]);
    charted_is(&ehr, 2).await;
    send(&site, &[made(2, "11522-0", Some(1))]);
    charted_is(&ehr, 4).await;
    let (messages, bundles) = (charted(&ehr, "Mllp"), charted(&ehr, "Fhir"));
    judged(&messages, &bundles);
    let of_pdf: Vec<&String> = messages.iter().filter(|message| message.contains("|ED|")).collect();
    let [first, second] = of_pdf[..] else { panic!("{of_pdf:?}") };
    let [before] = &results(first)[..] else { panic!("{first}") };
    let [after, gone] = &results(second)[..] else { panic!("{second}") };
    assert_eq!([&after[0], &after[4], &gone[0], &gone[4]], ["11522-0", "C", "18842-5", "D"]);
    assert_eq!((&gone[1], gone[2].as_str()), (&before[1], ""), "in the place it had");
    let resources = resources(&bundles, "DocumentReference");
    let status: Vec<&str> = resources.iter().map(|resource| resource["status"].as_str().unwrap()).collect();
    assert_eq!(status, ["current", "current"], "one resource, which the second replaces");
    assert_eq!(reader(&site).account().unwrap().missing(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_an_ehr_that_is_away_is_told_once_after_a_kill_and_again_of_what_grew() {
    let ehr = ehr().await;
    let mut site = Site::new(&settings(&ehr, "study_idle_s = 1"));
    site.start();
    ehr.behave(Behaviour::Down);
    send(&site, &[image(1), report(documents::lesion(), 1)]);
    let stable = || reader(&site).studies(1).unwrap().first().is_some_and(|study| study.state == "stable");
    until_async("the study is stable", || async { stable() }).await;
    site.kill();
    site.start();
    ehr.behave(Behaviour::Ok);
    charted_is(&ehr, 2).await;
    let first = charted(&ehr, "Mllp");
    send(&site, &[image(1), image(2)]);
    charted_is(&ehr, 3).await;
    let last = charted(&ehr, "Mllp").pop().unwrap();
    assert!(first.iter().any(|message| message.contains("instances: 2")) && last.contains("instances: 3"));
    assert_eq!(results(&last)[0][4], "C");
    judged(&charted(&ehr, "Mllp"), &charted(&ehr, "Fhir"));
    let account = ehr.account();
    assert_eq!((account.stored, account.repeated_after_answer, account.conflicting), (6, 0, 0));
    assert_eq!(reader(&site).account().unwrap().missing(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_kill_at_any_moment_and_each_study_and_report_is_told_once() {
    let ehr = ehr().await;
    let rounds = std::env::var("AFFERENT_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILL_ROUNDS);
    let mut site = Site::new(&settings(&ehr, "study_idle_s = 1"));
    let mut random = afferent::sim::random::Random::new(rounds);
    for round in 0..rounds {
        site.start();
        let seed = (500 + round).to_string();
        let told = afferent(&[
            "sim",
            "modality",
            &site.address(),
            "--called",
            AE_TITLE,
            "-n",
            "2",
            "--objects",
            "3",
            "--seed",
            &seed,
        ]);
        assert!(told.status.success(), "{told:?}");
        // Somewhere between the last object and the last answer of the EHR.
        tokio::time::sleep(std::time::Duration::from_millis(random.below(1800) as u64)).await;
        site.kill();
    }
    site.start();
    charted_is(&ehr, 4 * rounds as usize).await;
    let messages = charted(&ehr, "Mllp");
    let studies = messages.iter().filter(|message| message.contains("|113014^")).map(|m| results(m)[0][2].clone());
    let studies: std::collections::BTreeSet<String> = studies.collect();
    assert_eq!(studies.len() as u64, 2 * rounds);
    assert!(messages.iter().all(|message| !message.contains("|C|")), "none was told as a correction");
    assert_eq!(ehr.account().conflicting, 0, "what came twice came as the same message");
    let journal = reader(&site);
    until_async("everything is settled", || async { journal.account().unwrap().queued == 0 }).await;
    assert_eq!(journal.account().unwrap().missing(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_a_held_study_waits_and_goes_when_a_person_releases_it() {
    let ehr = ehr().await;
    let mut site = Site::new(&settings(&ehr, "study_idle_s = 1"));
    site.start();
    let mut unnumbered = [image(1), pdf(b"%PDF-1.4 short")];
    unnumbered.iter_mut().for_each(|set| set.remove(tags::ACCESSION_NUMBER));
    send(&site, &unnumbered);
    let data = site.data();
    let journal = |verb: &[&str]| {
        let said = afferent(&[&["journal"], verb, &["--json", "--data", data.to_str().unwrap()]].concat());
        serde_json::from_slice::<Value>(&said.stdout).unwrap_or(Value::Null)
    };
    until_async("it is held", || async { journal(&["hold"])["held"].as_array().is_some_and(|held| held.len() == 1) })
        .await;
    let held = journal(&["hold"])["held"][0].clone();
    assert_eq!(held["reason"], "no-accession");
    assert_eq!(ehr.arrivals().len(), 0);
    journal(&["release", &held["id"].to_string(), "--note", "asked the ward"]);
    charted_is(&ehr, 2).await;
    assert_eq!(journal(&["hold"])["held"].as_array().map(Vec::len), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modality_that_says_that_it_is_done_is_not_waited_for() {
    let ehr = ehr().await;
    let mut site = Site::new(&settings(&ehr, "study_idle_s = 86400"));
    site.start();
    let told = afferent(&["sim", "modality", &site.address(), "--called", AE_TITLE, "--objects", "4", "--mpps"]);
    assert!(told.status.success(), "{told:?}");
    charted_is(&ehr, 2).await;
}
