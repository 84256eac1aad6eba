//! Orders down and results back: the EHR orders over MLLP, an instrument reports, and what reaches the chart is the
//! order's. Every order that was acknowledged is there after a kill.

use afferent::clinical::{OrderStatus, Phi};
use afferent::journal::Reader;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Rig, code, free_port, link, listen, local, oru, read_message, until};
use afferent::wire::mllp::frame;

/// A message of the EHR for this patient.
pub fn ordering(kind: &str, control_id: &str, patient: &str, segments: &[&str]) -> Vec<u8> {
    let header = format!("MSH|^~\\&|EHR|HOSP|LAB|L|20260101110000||{kind}|{control_id}|P|2.5.1");
    let pid = format!("PID|1||{patient}^^^HOSP^MR||SYNTHETIC^PAT||19700101|F");
    let mut lines = vec![header, pid];
    lines.extend(segments.iter().map(|s| s.to_string()));
    (lines.join("\r") + "\r").into_bytes()
}

/// An order for glucose on a specimen.
fn glucose(control_id: &str, number: &str, specimen: &str, patient: &str) -> Vec<u8> {
    let (orc, obr) = (format!("ORC|NW|{number}^EHR^1.2.3^ISO"), format!("OBR|1|{number}^EHR^1.2.3^ISO||GLU^Glucose^L"));
    let spm = format!("SPM|1|{specimen}||SER");
    ordering("OML^O21^OML_O21", control_id, patient, &[&orc, &obr, &spm])
}

async fn say(stream: &mut TcpStream, message: &[u8]) -> Vec<u8> {
    send(stream, message).await;
    read_message(stream).await.expect("an answer")
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) {
    stream.write_all(&frame(message)).await.unwrap();
}

fn tables(results: u16, orders: u16, matching: &str) -> String {
    let line = format!("{}\norders = \"{matching}\"", listen(results));
    format!("{}\n[[orders]]\nname = \"hospital\"\nlisten = \"{}\"\n", link("chemistry", "hl7", &line), local(orders))
}

/// A result without a patient of its own.
fn result(control_id: &str, specimen: &str, value: &str) -> Vec<u8> {
    let text = String::from_utf8(oru(control_id, specimen, value)).unwrap();
    let anonymous = text.split('\r').filter(|s| !s.starts_with("PID")).collect::<Vec<_>>().join("\r");
    anonymous.replace(&format!("OBR|1||{specimen}"), "OBR|1||").into_bytes()
}

fn chart(rig: &Rig) -> Vec<String> {
    rig.chart().iter().map(|a| String::from_utf8_lossy(&a.body).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_goes_out_under_the_numbers_and_the_patient_it_was_ordered_for() {
    let rig = Rig::new().await;
    let (results, orders) = (free_port(), free_port());
    let gateway = rig.gateway(&tables(results, orders, "required")).await;
    let mut ehr = TcpStream::connect(local(orders)).await.unwrap();
    let mut instrument = TcpStream::connect(local(results)).await.unwrap();

    // Before its order came, the result waits; it goes out by itself when the order is there.
    assert_eq!(code(&say(&mut instrument, &result("R-1", "S-1", "5.50")).await), "AA");
    let reader = gateway.journal().reader().unwrap();
    until("the result is held", || reader.holds(9).unwrap().iter().any(|hold| hold.reason == "no-order")).await;
    assert!(chart(&rig).is_empty());
    let order = glucose("M-1", "A-1", "S-1", "4711");
    let answer = say(&mut ehr, &order).await;
    assert_eq!(code(&answer), "AA");
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.contains("ORL^O22^ORL_O22") && text.contains("ORC|OK|A-1^EHR^1.2.3^ISO"), "{text}");
    until("the result is in the chart", || !chart(&rig).is_empty()).await;
    let sent = chart(&rig).remove(0);
    assert!(sent.contains("ORC|RE|A-1^EHR^1.2.3^ISO|"), "{sent}");
    assert!(sent.contains("OBR|1|A-1^EHR^1.2.3^ISO|"), "{sent}");
    assert!(sent.contains("PID|1||4711^^^HOSP^MR||SYNTHETIC^PAT"), "{sent}");
    assert!(sent.contains("|5.50|"), "{sent}");
    let status = || reader.work_orders_on(&Phi::new("S-1")).unwrap()[0].status;
    until("the order is done", || status() == OrderStatus::Done).await;

    // The same message again is answered byte for byte the same, and makes no second order.
    assert_eq!(say(&mut ehr, &order).await, answer);
    assert_eq!(reader.work_orders_on(&Phi::new("S-1")).unwrap().len(), 1);

    // A merge, and a later result of the old id's order.
    assert_eq!(code(&say(&mut ehr, &glucose("M-2", "A-2", "S-2", "OLD-7")).await), "AA");
    let merge = ordering("ADT^A40^ADT_A39", "M-3", "4711", &["MRG|OLD-7^^^HOSP^MR"]);
    assert_eq!(code(&say(&mut ehr, &merge).await), "AA");
    assert_eq!(code(&say(&mut instrument, &result("R-2", "S-2", "6.10")).await), "AA");
    until("the second result is in the chart", || chart(&rig).len() == 2).await;
    let sent = chart(&rig).remove(1);
    assert!(sent.contains("PID|1||4711^") && sent.contains("|A-2^EHR") && !sent.contains("OLD-7"), "{sent}");

    // An order that was taken back takes no result, and a cancellation of nothing is refused with the place.
    assert_eq!(code(&say(&mut ehr, &glucose("M-4", "A-3", "S-3", "4711")).await), "AA");
    let cancel = |id: &str, number: &str| ordering("OML^O21^OML_O21", id, "4711", &[&format!("ORC|CA|{number}")]);
    let answer = say(&mut ehr, &cancel("M-5", "A-3")).await;
    assert!(String::from_utf8_lossy(&answer).contains("ORC|CR|A-3"));
    let refused = say(&mut ehr, &cancel("M-6", "nothing")).await;
    let text = String::from_utf8_lossy(&refused).into_owned();
    assert!(text.contains("MSA|AE|M-6") && text.contains("ORC|UC|nothing") && text.contains("ORC^1^2|204^"), "{text}");
    assert_eq!(code(&say(&mut instrument, &result("R-3", "S-3", "7.20")).await), "AA");
    until("the third result is held", || reader.holds(9).unwrap().len() == 1).await;
    assert_eq!(reader.account().unwrap().missing(), 0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_a_result_that_names_another_patient_than_its_order_is_held() {
    let rig = Rig::new().await;
    let (results, orders) = (free_port(), free_port());
    let gateway = rig.gateway(&tables(results, orders, "when-known")).await;
    let mut ehr = TcpStream::connect(local(orders)).await.unwrap();
    let mut instrument = TcpStream::connect(local(results)).await.unwrap();
    assert_eq!(code(&say(&mut ehr, &glucose("M-1", "A-1", "S-1", "4711")).await), "AA");
    // The instrument says PT1.
    assert_eq!(code(&say(&mut instrument, &oru("R-1", "S-1", "5.50")).await), "AA");
    let reader = gateway.journal().reader().unwrap();
    until("the result is held", || reader.holds(9).unwrap().iter().any(|hold| hold.reason == "order-mismatch")).await;
    assert!(chart(&rig).is_empty());
    // The EHR corrects itself: the order moves to the other patient, and the result goes out.
    let moved = ["ORC|XO|A-1^EHR^1.2.3^ISO", "OBR|1|A-1^EHR^1.2.3^ISO||GLU^Glucose^L", "SPM|1|S-1||SER"];
    assert_eq!(code(&say(&mut ehr, &ordering("OML^O21^OML_O21", "M-2", "PT1", &moved)).await), "AA");
    until("the result is in the chart", || !chart(&rig).is_empty()).await;
    let sent = chart(&rig).remove(0);
    assert!(sent.contains("PID|1||PT1^") && sent.contains("ORC|RE|A-1^EHR"), "{sent}");
    assert_eq!(reader.account().unwrap().missing(), 0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_hears_the_commit_and_then_the_application_when_it_asks_for_both() {
    let rig = Rig::new().await;
    let (results, orders) = (free_port(), free_port());
    let gateway = rig.gateway(&tables(results, orders, "when-known")).await;
    let mut ehr = TcpStream::connect(local(orders)).await.unwrap();
    let enhanced = String::from_utf8(glucose("M-1", "A-1", "S-1", "4711")).unwrap();
    let enhanced = enhanced.replacen("|P|2.5.1", "|P|2.5.1|||AL|AL", 1);
    send(&mut ehr, enhanced.as_bytes()).await;
    let (first, second) = (read_both(&mut ehr).await).expect("two answers");
    assert_eq!((code(&first).as_str(), code(&second).as_str()), ("CA", "AA"));
    assert!(String::from_utf8_lossy(&second).contains("ORL^O22"));
    gateway.stop().await;
}

/// Two messages that may come in one piece.
async fn read_both(stream: &mut TcpStream) -> Option<(Vec<u8>, Vec<u8>)> {
    use afferent::wire::mllp::{Framer, Item, MESSAGE_MAX};
    use tokio::io::AsyncReadExt;
    let (mut framer, mut messages, mut buffer) = (Framer::new(MESSAGE_MAX), Vec::new(), [0; 4096]);
    while messages.len() < 2 {
        let count = tokio::time::timeout(crate::rig::PATIENCE, stream.read(&mut buffer)).await.ok()?.ok()?;
        if count == 0 {
            return None;
        }
        messages.extend(framer.push(&buffer[..count]).into_iter().filter_map(|item| match item {
            Item::Message(message) => Some(message),
            _ => None,
        }));
    }
    let second = messages.pop()?;
    Some((messages.pop()?, second))
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_an_order_whose_answer_was_heard_is_there_after_a_kill_and_is_answered_the_same() {
    let rig = Rig::new().await;
    let (results, orders) = (free_port(), free_port());
    let tables = tables(results, orders, "when-known");
    let mut answers: Vec<Option<Vec<u8>>> = Vec::new();
    let message = |n: usize| glucose(&format!("M-{n}"), &format!("A-{n}"), &format!("S-{n}"), "4711");
    for round in 0..6_usize {
        let served = rig.child(&tables).await;
        let mut ehr = TcpStream::connect(local(orders)).await.unwrap();
        // Some orders are heard to the end; of the last only the asking is certain when the program dies.
        for n in round * 4..round * 4 + 3 {
            answers.push(Some(say(&mut ehr, &message(n)).await));
        }
        send(&mut ehr, &message(round * 4 + 3)).await;
        answers.push(None);
        drop(served);
    }
    let _served = rig.child(&tables).await;
    let mut ehr = TcpStream::connect(local(orders)).await.unwrap();
    for (n, heard) in answers.iter().enumerate() {
        let again = say(&mut ehr, &message(n)).await;
        assert_eq!(code(&again), "AA", "order {n}");
        if let Some(heard) = heard {
            assert_eq!(&again, heard, "order {n}");
        }
    }
    let settings = afferent::journal::Config::default();
    let reader = Reader::open(&rig.data(), &settings).unwrap();
    for n in 0..answers.len() {
        let found = reader.work_orders_on(&Phi::new(format!("S-{n}"))).unwrap();
        assert_eq!(found.len(), 1, "order {n} is there once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_where_an_order_stands_and_why_an_instrument_is_not_told() {
    let rig = Rig::new().await;
    let (chemistry, coagulation, orders) = (free_port(), free_port(), free_port());
    let tables = link(
        "chemistry",
        "hl7",
        &format!("{}\norder_codes = [\"GLU = 7, 8\"]\ndriver = \"generic-hl7\"", listen(chemistry)),
    ) + &link("coagulation", "astm", &format!("{}\ndriver = \"sysmex-cs\"", listen(coagulation)))
        + &format!("\n[[orders]]\nname = \"hospital\"\nlisten = \"{}\"\n", local(orders));
    let _served = rig.child(&tables).await;
    let mut ehr = TcpStream::connect(local(orders)).await.unwrap();
    assert_eq!(code(&say(&mut ehr, &glucose("M-1", "A-1", "S-1", "4711")).await), "AA");
    let show = |json: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.args(["orders", "show", "1", "--config"]).arg(rig.path("rig.toml")).args(json);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let text = show(&[]);
    for line in [
        "link chemistry: not told yet",
        "GLU to chemistry (generic-hl7): as 7, 8",
        "GLU to coagulation (sysmex-cs): no code of this instrument stands for an ordered test",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&show(&["--json"])).unwrap();
    assert_eq!(json["links"][0]["state"], "due");
    assert_eq!(json["links"][0]["instruments"][0]["tests"][0]["codes"], serde_json::json!(["7", "8"]));
    assert!(!text.contains("4711") && !json.to_string().contains("4711"), "no patient without --reveal");
}

/// The places around a commit at which a debug build can be made to die; see `src/journal/crash.rs`.
#[cfg(debug_assertions)]
const COMMIT_POINTS: [&str; 3] = ["before-commit", "after-commit", "after-answer"];

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn i1_dead_around_the_commit_of_an_order_it_is_there_once_and_answered_the_same() {
    const ORDERS: usize = 4;
    let rig = Rig::new().await;
    let (results, orders) = (free_port(), free_port());
    let tables = tables(results, orders, "when-known");
    let mut heard: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
    let unanswered = |heard: &[(Vec<u8>, Option<Vec<u8>>)]| heard.iter().filter(|(_, answer)| answer.is_none()).count();
    // What the gateway itself commits at its start passes there too, and how much of it depends on the machine: on, until
    // it died over some orders and after others.
    for passing in 1.. {
        if passing > 6 && unanswered(&heard) >= COMMIT_POINTS.len() && unanswered(&heard) < heard.len() {
            break;
        }
        assert!(passing <= 60, "{} of {} unanswered", unanswered(&heard), heard.len());
        for point in COMMIT_POINTS {
            let _served = rig.child_that_dies(&tables, &format!("{point}:{passing}")).await;
            let Ok(mut ehr) = TcpStream::connect(local(orders)).await else { continue };
            for _ in 0..ORDERS {
                let n = heard.len();
                let message = glucose(&format!("M-{n}"), &format!("A-{n}"), &format!("S-{n}"), "4711");
                let asked = ehr.write_all(&frame(&message)).await;
                let answer = if asked.is_ok() { read_message(&mut ehr).await } else { None };
                let died = answer.is_none();
                heard.push((message, answer));
                if died {
                    break;
                }
            }
        }
    }
    let _served = rig.child(&tables).await;
    let mut ehr = TcpStream::connect(local(orders)).await.unwrap();
    let settings = afferent::journal::Config::default();
    let reader = Reader::open(&rig.data(), &settings).unwrap();
    for (n, (message, answer)) in heard.iter().enumerate() {
        let again = say(&mut ehr, message).await;
        assert_eq!(code(&again), "AA", "order {n}");
        assert!(answer.as_ref().is_none_or(|answer| *answer == again), "order {n} is answered the same");
        assert_eq!(reader.work_orders_on(&Phi::new(format!("S-{n}"))).unwrap().len(), 1, "order {n} is there once");
    }
}

#[test]
fn every_order_of_the_corpus_is_read_or_refused_with_a_reason() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(corpus) = ["../shared/corpus/hl7v2", "../../shared/corpus/hl7v2"]
        .map(|path| root.join(path))
        .into_iter()
        .find(|path| path.is_dir())
    else {
        return println!("left out: messages of the corpus (it is not beside the repository)");
    };
    let context =
        afferent::orders::read::Context { zone: jiff::tz::TimeZone::UTC, charset: None, specimen_field: None };
    let (mut read, mut refused, mut open) = (0, std::collections::BTreeMap::new(), vec![corpus]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let raw = std::fs::read(&path).unwrap();
        let head = String::from_utf8_lossy(&raw[..raw.len().min(300)]).into_owned();
        if !["|OML^", "|ORM^", "|ADT^A01", "|ADT^A04", "|ADT^A08", "|ADT^A40"].iter().any(|kind| head.contains(kind)) {
            continue;
        }
        match afferent::orders::read::read(&raw, &context) {
            Err(fault) => *refused.entry(fault.text).or_insert(0) += 1,
            Ok(asked) => {
                assert!(!asked.requests.is_empty(), "{}", path.display());
                read += 1;
                for fault in asked.requests.iter().filter_map(|request| request.changes.as_ref().err()) {
                    *refused.entry(fault.text).or_insert(0) += 1;
                }
            }
        }
    }
    println!("{read} messages read; refused: {refused:#?}");
    assert!(read > 0, "the corpus has orders");
    assert!(refused.keys().all(|reason| !reason.is_empty()));
}
