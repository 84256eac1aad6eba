//! Both destinations against a simulated EHR on real sockets over mutual TLS, in every way it can misbehave.
//!
//! The promise: whatever a receiver answers, a message counts as delivered only when the receiver really has it and
//! said so; and sending again until it does leaves exactly that message in the chart, never another one.

use std::sync::Arc;
use std::time::Duration;

use afferent::delivery::config::{Config, OAuth, Protocol};
use afferent::delivery::fhir::Fhir;
use afferent::delivery::mllp::Mllp;
use afferent::delivery::oauth::SigningKey;
use afferent::delivery::{Destination, Outcome, Scope};
use afferent::sim::ehr::{Behaviour, Ehr, EhrOptions, LogIn};
use afferent::tls::throwaway::{Authority, Files};

/// How long the destinations wait for an answer here.
const ACK_TIMEOUT_MS: u64 = 150;
/// Tries after the receiver is well again.
const TRIES_MAX: usize = 4;

/// What one attempt may end as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Delivered,
    RetryLane,
    RetryDestination,
    Refused,
}

struct Bench {
    ehr: Ehr,
    config: Config,
    _files: tempfile::TempDir,
}

fn kind(outcome: &Outcome) -> Kind {
    match outcome {
        Outcome::Delivered { .. } => Kind::Delivered,
        Outcome::Retry { scope: Scope::Lane, .. } => Kind::RetryLane,
        Outcome::Retry { scope: Scope::Destination | Scope::Unclear, .. } => Kind::RetryDestination,
        Outcome::Doubted { .. } | Outcome::Refused { .. } => Kind::Refused,
    }
}

fn behaviour(text: &str) -> Behaviour {
    text.parse().unwrap()
}

fn certificates() -> (tempfile::TempDir, Files) {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().unwrap().write(dir.path()).unwrap();
    (dir, files)
}

fn quick(protocol: Protocol) -> Config {
    Config { ack_timeout_ms: ACK_TIMEOUT_MS, connect_timeout_ms: 1000, ..Config::new("ehr", protocol) }
}

async fn mllp_bench() -> Bench {
    let (dir, files) = certificates();
    let options = EhrOptions { mllp: Some("127.0.0.1:0".into()), tls: Some(files.server), ..EhrOptions::default() };
    let ehr = Ehr::start(options).await.unwrap();
    let address = ehr.mllp().map(|a| a.to_string());
    Bench { ehr, config: Config { address, tls: Some(files.client), ..quick(Protocol::Mllp) }, _files: dir }
}

async fn fhir_bench() -> Bench {
    let (dir, files) = certificates();
    let options = EhrOptions { fhir: Some("127.0.0.1:0".into()), tls: Some(files.server), ..EhrOptions::default() };
    let ehr = Ehr::start(options).await.unwrap();
    let url = ehr.fhir().map(|a| format!("https://{a}/fhir"));
    Bench { ehr, config: Config { url, tls: Some(files.client), ..quick(Protocol::Fhir) }, _files: dir }
}

fn oru(id: &str) -> Vec<u8> {
    format!(
        "MSH|^~\\&|GW|LAB|EHR|HOSP|20260101120000+0000||ORU^R01^ORU_R01|{id}|P|2.5.1\r\
         OBR|1||{id}|1920-8^AST^LN\rOBX|1|NM|1920-8^AST^LN||8.0|U/L^^UCUM|||||F\rSPM|1|S-{id}\r"
    )
    .into_bytes()
}

fn bundle(id: &str) -> Vec<u8> {
    format!(
        r#"{{"resourceType":"Bundle","type":"transaction","identifier":{{"system":"urn:gw","value":"{id}"}},"entry":[
        {{"fullUrl":"urn:uuid:1","resource":{{"resourceType":"Specimen","identifier":[{{"value":"S-{id}"}}]}},
          "request":{{"method":"PUT","url":"Specimen?identifier=urn:s|S-{id}"}}}},
        {{"fullUrl":"urn:uuid:2","resource":{{"resourceType":"Observation","valueQuantity":{{"value":8.0}}}},
          "request":{{"method":"PUT","url":"Observation?identifier=urn:o|{id}"}}}}]}}"#
    )
    .into_bytes()
}

fn writes(id: &str) -> Vec<u8> {
    format!(
        r#"[{{"method":"PUT","url":"Specimen?identifier=urn:s|S-{id}","resource":{{"resourceType":"Specimen"}}}},
        {{"method":"POST","url":"Observation","ifNoneExist":"identifier=urn:o|{id}",
          "resource":{{"resourceType":"Observation","valueQuantity":{{"value":1.50}}}}}}]"#
    )
    .into_bytes()
}

/// Delivers until the receiver has it; returns the number of tries.
async fn insist(destination: &mut impl Destination, id: &str, body: &[u8]) -> usize {
    let mut last = None;
    for tries in 1..=TRIES_MAX {
        let outcome = destination.deliver(id, body).await;
        match kind(&outcome) {
            Kind::Delivered => return tries,
            Kind::RetryLane | Kind::RetryDestination => last = Some(outcome),
            Kind::Refused => panic!("{id} was refused by a receiver that is well: {outcome:?}"),
        }
    }
    panic!("{id} was not delivered in {TRIES_MAX} tries to a receiver that is well: {last:?}");
}

/// One message to a misbehaving receiver, then again to a good one, then another message.
async fn exercise(bench: &Bench, destination: &mut impl Destination, body: fn(&str) -> Vec<u8>, how: &str, want: Kind) {
    let id = format!("ID-{how}");
    bench.ehr.behave(behaviour(how));
    let first = destination.deliver(&id, &body(&id)).await;
    assert_eq!(kind(&first), want, "{how}: {first:?}");
    bench.ehr.behave(Behaviour::Ok);
    if want != Kind::Delivered && want != Kind::Refused {
        insist(destination, &id, &body(&id)).await;
    }
    let next = format!("NEXT-{how}");
    insist(destination, &next, &body(&next)).await;
}

const MLLP_CASES: [(&str, Kind); 24] = [
    ("ok", Kind::Delivered),
    ("slow:20", Kind::Delivered),
    ("ca", Kind::Delivered),
    ("split", Kind::Delivered),
    ("twice", Kind::Delivered),
    ("late:20", Kind::Delivered),
    ("ae", Kind::RetryLane),
    ("ae:207", Kind::RetryLane),
    ("ae:101", Kind::Refused),
    ("ar", Kind::RetryLane),
    ("ar:203", Kind::Refused),
    ("503", Kind::RetryLane),
    ("422", Kind::Refused),
    ("hang", Kind::RetryDestination),
    ("lose", Kind::RetryDestination),
    ("close", Kind::RetryDestination),
    ("reset", Kind::RetryDestination),
    ("half", Kind::RetryDestination),
    ("wrong-id", Kind::RetryDestination),
    ("stale-id", Kind::RetryDestination),
    ("no-msa", Kind::RetryDestination),
    ("garbage", Kind::RetryDestination),
    ("noise", Kind::RetryDestination),
    ("down", Kind::RetryDestination),
];

#[tokio::test]
async fn i5_a_misbehaving_mllp_receiver_ends_with_each_message_once() {
    let bench = mllp_bench().await;
    let mut destination = Mllp::new(Arc::new(bench.config.clone()));
    for (how, want) in MLLP_CASES {
        exercise(&bench, &mut destination, oru, how, want).await;
    }
    let refused = MLLP_CASES.iter().filter(|(_, kind)| *kind == Kind::Refused).count();
    let account = bench.ehr.account();
    assert_eq!((account.stored, account.conflicting), (2 * MLLP_CASES.len() - refused, 0), "{account:?}");
    // Only what was under way when a late second answer came may have been sent again after a clear answer: that
    // answer was on a line that could not be trusted any more.
    assert!(account.repeated_after_answer <= 1, "{:?}", bench.ehr.arrivals());
}

const FHIR_CASES: [(&str, Kind); 17] = [
    ("ok", Kind::Delivered),
    ("slow:20", Kind::Delivered),
    ("503", Kind::RetryDestination),
    ("500", Kind::RetryDestination),
    ("401", Kind::RetryDestination),
    ("403", Kind::RetryDestination),
    ("429:1", Kind::RetryDestination),
    ("stored-500", Kind::RetryDestination),
    ("html", Kind::RetryDestination),
    ("empty", Kind::RetryDestination),
    ("redirect", Kind::RetryDestination),
    ("half", Kind::RetryDestination),
    ("hang", Kind::RetryDestination),
    ("close", Kind::RetryDestination),
    ("reset", Kind::RetryDestination),
    ("422", Kind::Refused),
    ("down", Kind::RetryDestination),
];

#[tokio::test]
async fn i5_a_misbehaving_fhir_server_ends_with_each_transaction_once() {
    let bench = fhir_bench().await;
    let mut destination = Fhir::new(Arc::new(bench.config.clone()));
    for (how, want) in FHIR_CASES {
        exercise(&bench, &mut destination, bundle, how, want).await;
    }
    let account = bench.ehr.account();
    assert_eq!((account.stored, account.conflicting), (2 * FHIR_CASES.len() - 1, 0), "{account:?}");
    assert_eq!(account.repeated_after_answer, 0, "{:?}", bench.ehr.arrivals());
}

#[tokio::test]
async fn i5_a_misbehaving_fhir_server_ends_with_each_single_write_once() {
    let bench = fhir_bench().await;
    let mut destination = Fhir::new(Arc::new(bench.config.clone()));
    for (how, want) in FHIR_CASES {
        exercise(&bench, &mut destination, writes, how, want).await;
    }
    let account = bench.ehr.account();
    // Two writes a message, except for the one that was refused.
    assert_eq!((account.stored, account.conflicting), (2 * (2 * FHIR_CASES.len() - 1), 0), "{account:?}");
}

#[tokio::test]
async fn retry_after_is_handed_on() {
    let bench = fhir_bench().await;
    bench.ehr.behave(behaviour("429:7"));
    let mut destination = Fhir::new(Arc::new(bench.config.clone()));
    let Outcome::Retry { after, .. } = destination.deliver("A", &bundle("A")).await else { panic!("not a retry") };
    assert_eq!(after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_late_answer_is_never_credited_to_the_next_message() {
    let bench = mllp_bench().await;
    let mut destination = Mllp::new(Arc::new(bench.config.clone()));
    // The answer to A comes after its time-out: the connection it comes on must be gone.
    bench.ehr.behave(Behaviour::Slow(Duration::from_millis(ACK_TIMEOUT_MS * 2)));
    assert_eq!(kind(&destination.deliver("A", &oru("A")).await), Kind::RetryDestination);
    bench.ehr.behave(behaviour("lose"));
    let second = destination.deliver("B", &oru("B")).await;
    assert_eq!(kind(&second), Kind::RetryDestination, "{second:?}");
}

#[tokio::test]
async fn a_cancelled_delivery_leaves_no_connection_behind() {
    let bench = mllp_bench().await;
    let mut destination = Mllp::new(Arc::new(bench.config.clone()));
    insist(&mut destination, "A", &oru("A")).await;
    bench.ehr.behave(Behaviour::Slow(Duration::from_millis(50)));
    let body = oru("B");
    let cancelled = tokio::time::timeout(Duration::from_millis(10), destination.deliver("B", &body)).await;
    assert!(cancelled.is_err());
    bench.ehr.behave(behaviour("lose"));
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_eq!(kind(&destination.deliver("C", &oru("C")).await), Kind::RetryDestination);
}

#[tokio::test]
async fn one_connection_serves_many_messages_and_an_idle_one_is_renewed() {
    let bench = mllp_bench().await;
    let config = Config { idle_close_ms: 100, ..bench.config.clone() };
    let mut destination = Mllp::new(Arc::new(config));
    for n in 0..20 {
        let id = format!("M{n}");
        assert_eq!(insist(&mut destination, &id, &oru(&id)).await, 1);
    }
    assert_eq!(bench.ehr.connections(), 1);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(insist(&mut destination, "LAST", &oru("LAST")).await, 1);
    assert_eq!(bench.ehr.connections(), 2);
}

#[tokio::test]
async fn nothing_is_sent_to_a_receiver_with_the_wrong_certificate() {
    let bench = mllp_bench().await;
    let fhir = fhir_bench().await;
    let (_dir, foreign) = certificates();
    let mllp = Config { tls: Some(foreign.client.clone()), ..bench.config.clone() };
    let outcome = Mllp::new(Arc::new(mllp)).deliver("A", &oru("A")).await;
    assert_eq!(kind(&outcome), Kind::RetryDestination);
    assert!(format!("{outcome:?}").contains("certificate"), "{outcome:?}");
    let mut wrong_name = bench.config.clone();
    wrong_name.tls.as_mut().unwrap().server_name = Some("ehr.example".into());
    let outcome = Mllp::new(Arc::new(wrong_name)).deliver("A", &oru("A")).await;
    assert_eq!(kind(&outcome), Kind::RetryDestination);
    let http = Config { tls: Some(foreign.client), ..fhir.config.clone() };
    let outcome = Fhir::new(Arc::new(http)).deliver("A", &bundle("A")).await;
    assert_eq!(kind(&outcome), Kind::RetryDestination);
    assert!(format!("{outcome:?}").contains("certificate"), "{outcome:?}");
    assert_eq!(bench.ehr.account().arrived + fhir.ehr.account().arrived, 0);
}

/// A FHIR server that demands a log-in from `client_id`, and the configuration of the client `bench-1`.
async fn guarded(token_life: Duration, client_id: &str) -> Bench {
    let (dir, files) = certificates();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let key_file = dir.path().join("oauth.key");
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let oauth = OAuth {
        client_id: "bench-1".into(),
        kid: "2026".into(),
        key_file,
        scope: "system/*.cud".into(),
        ..OAuth::default()
    };
    let key_set = SigningKey::load(&oauth).unwrap().key_set().to_string();
    let log_in = LogIn { client_id: client_id.into(), key_set, audience: None, token_life };
    let options = EhrOptions {
        fhir: Some("127.0.0.1:0".into()),
        tls: Some(files.server),
        log_in: Some(log_in),
        ..EhrOptions::default()
    };
    let ehr = Ehr::start(options).await.unwrap();
    let url = ehr.fhir().map(|a| format!("https://{a}/fhir"));
    let config = Config { url, tls: Some(files.client), oauth: Some(oauth), ..quick(Protocol::Fhir) };
    Bench { ehr, config, _files: dir }
}

#[tokio::test]
async fn a_log_in_is_found_signed_and_renewed_after_a_401() {
    let bench = guarded(Duration::from_secs(300), "bench-1").await;
    let mut destination = Fhir::new(Arc::new(bench.config.clone()));
    assert_eq!(insist(&mut destination, "A", &bundle("A")).await, 1);
    // The server forgets every token: the next delivery costs a new token, not an attempt.
    bench.ehr.forget_tokens();
    assert_eq!(insist(&mut destination, "B", &bundle("B")).await, 1);
    assert_eq!(bench.ehr.account().behaviours.get("401"), Some(&1));
    // A server that takes no token at all is not asked over and over.
    bench.ehr.behave(behaviour("401"));
    assert_eq!(kind(&destination.deliver("C", &bundle("C")).await), Kind::RetryDestination);
    assert_eq!(bench.ehr.account().behaviours.get("401"), Some(&3));
}

#[tokio::test]
async fn a_token_is_replaced_before_it_is_missed() {
    let bench = guarded(Duration::from_secs(1), "bench-1").await;
    let mut destination = Fhir::new(Arc::new(bench.config.clone()));
    assert_eq!(insist(&mut destination, "A", &bundle("A")).await, 1);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(insist(&mut destination, "B", &bundle("B")).await, 1);
    assert!(!bench.ehr.account().behaviours.contains_key("401"));
}

#[tokio::test]
async fn a_log_in_that_is_not_known_sends_nothing_and_says_why() {
    let bench = guarded(Duration::from_secs(300), "somebody-else").await;
    let outcome = Fhir::new(Arc::new(bench.config.clone())).deliver("A", &bundle("A")).await;
    assert_eq!(kind(&outcome), Kind::RetryDestination);
    assert!(format!("{outcome:?}").contains("401 invalid_client"), "{outcome:?}");
    assert_eq!(bench.ehr.account().arrived, 0);
}
