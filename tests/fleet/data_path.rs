//! The data path does not know of the bus: results go on whatever becomes of it (invariant I12), and nothing of them is
//! on it (I8).

use crate::broker::{Broker, until};
use crate::line::Way;
use crate::rig::{ALL_UP, DESK, Rig};
use crate::witness::Witness;
use afferent::fleet::log::{self, Keep};
use afferent::fleet::telemetry::LogFacts;
use afferent::sim::instrument::line::Line as Wire;
use afferent::sim::instrument::play;
use afferent::sim::transcript;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Sessions whose results go to the EHR.
pub const ASTM: &str = "generic-astm/cases/normal-loinc-coded-esr";
const HL7: &str = "generic-hl7/cases/normal-loinc-and-local";

pub fn session(case: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers").join(case).join("session.txt");
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A session of today with other specimens, so that it is not the same again.
pub fn of_round(text: &str, round: usize) -> String {
    assert!(text.contains("|261104"), "{text}");
    let now = jiff::Timestamp::now().strftime("%Y%m%d%H%M%S").to_string();
    let text = text.replace("20261103090000", &now).replace("20261103085500", &now);
    text.replace("|261104", &format!("|7{round:03}04"))
}

pub async fn send(port: u16, text: &str) {
    let steps = transcript::parse(text).unwrap();
    play(Wire::Connect(format!("127.0.0.1:{port}")), &[steps], 1.0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_results_are_delivered_whatever_the_bus_does() {
    let Some(broker) = Broker::start() else { return };
    let mut rig = Rig::start(&broker, "bench-1").await;
    let text = session(ASTM);
    for (round, way) in [Way::Open, Way::Closed, Way::Hanging, Way::Resetting, Way::Deaf].into_iter().enumerate() {
        rig.line.becomes(way);
        let before = rig.ehr.arrivals().len();
        send(rig.astm, &of_round(&text, round)).await;
        until("the result is delivered", || rig.ehr.arrivals().len() > before);
        eprintln!("delivered with the way to the broker {way:?}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_nothing_of_a_patient_is_on_the_bus() {
    let Some(broker) = Broker::start() else { return };
    let Some(witness) = Witness::start(&broker, DESK, ALL_UP) else { return };
    // What an operator may ask for of the log, at its most talkative.
    let _ = tracing_subscriber::registry().with(Keep).try_init();
    let mut rig = Rig::start(&broker, "bench-1").await;
    until("the box is there", || witness.last("up/state").is_some());
    let sessions = [(rig.astm, of_round(&session(ASTM), 1)), (rig.hl7, of_round(&session(HL7), 1))];
    for (port, text) in &sessions {
        send(*port, text).await;
        // What is refused is counted with its reason: the reason is ours.
        let damaged = text.replacen("<CS>", "00", 1).replacen("MSH|", "MSX|", 1);
        let _ = tokio::time::timeout(Duration::from_secs(20), send(*port, &damaged)).await;
    }
    until("results are delivered", || rig.ehr.arrivals().len() >= 2);
    let told = |end: &str, key: &str, least: u64| {
        witness.last(end).and_then(|told| told[key].as_u64()).is_some_and(|count| count >= least)
    };
    until("the bus tells of both links and of the deliveries", || {
        told("if/chemistry", "messages", 1) && told("if/point-of-care", "messages", 1) && told("to/ehr", "delivered", 2)
    });
    rig.stop().await;
    let everything = witness.messages();
    assert!(everything.len() > 10);
    // Every field of what the instruments said that could be told from our own numbers: names, specimens, codes, values.
    let lines = sessions.iter().flat_map(|(_, text)| text.lines().filter(|line| line.starts_with('>')));
    let fields = lines.flat_map(|line| line.split(['|', '^', '<', '>', ' ', '&', '\\']));
    let is_telling = |word: &&str| match word.bytes().all(|b| b.is_ascii_digit()) {
        true => word.len() >= 8,
        false => NAMES.contains(word) || word.len() >= 4 && word.bytes().any(|b| b.is_ascii_digit()),
    };
    let words: BTreeSet<&str> = fields.filter(is_telling).collect();
    assert!(words.len() > 10 && NAMES.iter().all(|name| words.contains(name)), "{words:?}");
    assert!(words.contains("70010401"), "the specimen: {words:?}");
    let lines: Vec<LogFacts> = log::last(log::LINES_MAX).iter().map(|line| line.facts(&[])).collect();
    assert!(lines.len() > 5, "{lines:?}");
    let lines = lines.iter().map(|line| serde_json::to_string(line).unwrap());
    let said =
        everything.iter().map(|message| format!("{} {}", message.topic, String::from_utf8_lossy(&message.payload)));
    for said in said.chain(lines) {
        for word in &words {
            assert!(!said.contains(word), "`{word}` is on the bus: {said}");
        }
    }
}

const NAMES: [&str; 4] = ["DOE", "JANE", "ROE", "RICHARD"];
