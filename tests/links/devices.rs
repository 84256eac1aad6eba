//! POCT1-A devices: they dial in, are greeted, and what they measured is in the chart once and stays there.

use std::collections::BTreeSet;

use afferent::interpreter::register;
use afferent::sim::instrument::Settings;
use afferent::sim::instrument::line::Line;
use afferent::sim::instrument::results::Shape;
use afferent::tls::throwaway::Authority;
use afferent::tls::{self, ClientTls};
use afferent::wire::Protocol;
use afferent::wire::poct1a::document::{Element, parse};
use afferent::wire::poct1a::{DOCUMENT_MAX, Framer, Item};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::rig::{Acknowledged, Instrument, PATIENCE, Rig, TIMERS, free_port, health, link, listen, local, until};

/// A device's end of a line.
struct Device<S> {
    stream: S,
    framer: Framer,
    heard: Vec<Element>,
    last_id: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Device<S> {
    fn on(stream: S) -> Self {
        Device { stream, framer: Framer::new(DOCUMENT_MAX), heard: Vec::new(), last_id: 100 }
    }

    /// Says hello, reports one waiting observation and is asked for it.
    async fn introduce(&mut self) {
        self.say(
            "HEL.R01",
            "<DEV><DEV.device_id V=\"ACME^Meter^M1\"/><DCP><DCP.application_timeout V=\"30\"/></DCP>\
             <DSC><DSC.directives_supported_cd V=\"START_CONTINUOUS\"/></DSC></DEV>",
        )
        .await;
        assert_eq!(self.hears().await, "ACK.R01 AA");
        self.say("DST.R01", "<DST><DST.new_observations_qty V=\"1\"/></DST>").await;
        assert_eq!(self.hears().await, "ACK.R01 AA");
        assert_eq!(self.hears().await, "REQ.R01 ROBS");
    }

    async fn say(&mut self, root: &str, body: &str) {
        self.last_id += 1;
        self.send(&document(root, &self.last_id.to_string(), body)).await;
    }

    async fn send(&mut self, document: &str) {
        self.stream.write_all(document.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The host's next message: its root and what matters in it.
    async fn hears(&mut self) -> String {
        let mut buffer = [0; 1024];
        while self.heard.is_empty() {
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("an answer in time");
            let count = read.unwrap();
            assert!(count > 0, "the host hung up");
            for item in self.framer.push(&buffer[..count]) {
                let Item::Document(bytes) = item else { panic!("{item:?}") };
                let root = parse(std::str::from_utf8(&bytes).unwrap()).root.unwrap();
                assert_eq!(root.value("HDR.message_type"), root.name);
                // The time of day in the zone of the link.
                assert!(root.value("HDR.creation_dttm").ends_with("+05:30"), "{}", root.value("HDR.creation_dttm"));
                self.heard.push(root);
            }
        }
        let root = self.heard.remove(0);
        let fields = ["ACK.type_cd", "REQ.request_cd", "DTV.command_cd"];
        let said: Vec<&str> = fields.iter().map(|f| root.value(f)).filter(|v| !v.is_empty()).collect();
        format!("{} {}", root.name, said.join(" "))
    }

    /// Ends the topic and starts sending by itself.
    async fn becomes_continuous(&mut self) {
        self.say("EOT.R01", "<EOT><EOT.topic_cd V=\"OBS\"/></EOT>").await;
        assert_eq!(self.hears().await, "DTV.R01 START_CONTINUOUS");
    }

    /// Says goodbye, is answered and hung up on.
    async fn ends(mut self) {
        self.say("END.R01", "<TRM><TRM.reason_cd V=\"NRM\"/></TRM>").await;
        assert_eq!(self.hears().await, "ACK.R01 AA");
        let end = tokio::time::timeout(PATIENCE, self.stream.read(&mut [0; 16])).await.expect("hung up in time");
        assert!(matches!(end, Ok(0) | Err(_)));
    }
}

fn document(root: &str, id: &str, body: &str) -> String {
    document_made(root, id, body, "2026-01-01T12:00:00+01:00")
}

/// A document that says when it was made by the device's clock.
fn document_made(root: &str, id: &str, body: &str, time: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><{root}><HDR><HDR.message_type V=\"{root}\"/>\
         <HDR.control_id V=\"{id}\"/><HDR.version_id V=\"POCT1\"/>\
         <HDR.creation_dttm V=\"{time}\"/></HDR>{body}</{root}>"
    )
}

/// One glucose; `within` is PT or CTC.
fn observation(root: &str, id: &str, within: &str, value: &str) -> String {
    let body = format!(
        "<SVC><SVC.role_cd V=\"OBS\"/><SVC.observation_dttm V=\"2026-01-01T11:59:00\"/>\
         <{within}><{within}.patient_id V=\"PT {id}\"/><OBS><OBS.observation_id V=\"2345-7\" SN=\"LN\"/>\
         <OBS.value V=\"{value}\" U=\"mg/dL\"/></OBS></{within}></SVC>"
    );
    document(root, id, &body)
}

/// Messages in the chart that say this, those sent twice counted once.
fn charted(rig: &Rig, text: &str) -> usize {
    let bodies = rig.chart().into_iter().map(|a| String::from_utf8_lossy(&a.body).into_owned());
    bodies.filter(|body| body.contains(text)).collect::<BTreeSet<_>>().len()
}

fn settings(port: u16) -> String {
    listen(port) + "\ntime_zone = \"Asia/Kolkata\""
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_served_plain_and_over_tls_and_its_controls_stay_out_of_the_chart() {
    let rig = Rig::new().await;
    let files = Authority::new().unwrap().write(rig.dir.path()).unwrap();
    let [plain, secured] = [(); 2].map(|()| free_port());
    let tls = format!("[link.tls]\ncert = {:?}\nkey = {:?}\n", files.server.cert, files.server.key);
    let links = link("plain", "poct1a", &settings(plain)) + &link("secured", "poct1a", &settings(secured)) + &tls;
    let gateway = rig.gateway(&links).await;

    let device = Device::on(TcpStream::connect(local(plain)).await.unwrap());
    serve(&rig, device, "101.25").await;

    let trust = ClientTls { ca: Some(files.ca.clone()), ..ClientTls::default() };
    let connector = TlsConnector::from(tls::client(&trust).unwrap());
    let stream = TcpStream::connect(local(secured)).await.unwrap();
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    serve(&rig, Device::on(stream), "102.25").await;

    assert_eq!(charted(&rig, "55.5"), 0, "a control is no patient's result");
    for name in ["plain", "secured"] {
        let health = health(&gateway, name);
        assert_eq!((health.messages, health.reasons.len()), (2, 0), "{:?}", health.reasons);
    }
    gateway.stop().await;
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(rig: &Rig, mut device: Device<S>, value: &str) {
    device.introduce().await;
    device.send(&observation("OBS.R02", "1", "CTC", "55.5")).await;
    assert_eq!(device.hears().await, "ACK.R01 AA");
    device.send(&observation("OBS.R01", "2", "PT", value)).await;
    assert_eq!(device.hears().await, "ACK.R01 AA");
    device.becomes_continuous().await;
    device.say("ACK.R01", "<ACK><ACK.type_cd V=\"AA\"/><ACK.ack_control_id V=\"6\"/></ACK>").await;
    device.say("KPA.R01", "").await;
    assert_eq!(device.hears().await, "ACK.R01 AA");
    device.ends().await;
    until("the result is in the chart", || charted(rig, &format!("|{value}|")) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_i4_what_was_acknowledged_survives_a_kill_and_comes_once() {
    let rig = Rig::new().await;
    let port = free_port();
    let links = link("ward", "poct1a", &settings(port));
    let first = rig.child(&links).await;
    let mut device = Device::on(TcpStream::connect(local(port)).await.unwrap());
    device.introduce().await;
    let sent = observation("OBS.R01", "7", "PT", "103.25");
    device.send(&sent).await;
    assert_eq!(device.hears().await, "ACK.R01 AA");
    // SIGKILL.
    drop(first);

    let second = rig.child(&links).await;
    let mut device = Device::on(TcpStream::connect(local(port)).await.unwrap());
    device.introduce().await;
    device.send(&sent).await;
    assert_eq!(device.hears().await, "ACK.R01 AA", "sent again, answered alike");
    device.send(&observation("OBS.R01", "8", "PT", "104.25")).await;
    assert_eq!(device.hears().await, "ACK.R01 AA");
    until("both are in the chart", || charted(&rig, "|103.25|") == 1 && charted(&rig, "|104.25|") == 1).await;
    assert_eq!(rig.chart().into_iter().map(|a| a.body).collect::<BTreeSet<_>>().len(), 2);
    // A device that is torn away inside a document leaves a reason, and no patient in the log.
    device.send("<OBS.R01><HDR><HDR.control_id V=\"CANARY\"/>").await;
    drop(device);
    let reason = "the line went away inside a document";
    until("it is counted", || second.counted("ward", reason) == 1).await;
    assert!(!second.log().contains("CANARY") && !second.log().contains("PT 7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_misbehaves_loses_nothing_and_is_sent_its_operators() {
    const SPECIMENS: u64 = 24;
    let rig = Rig::new().await;
    let (port, operators) = (free_port(), rig.path("operators.csv"));
    let list: String = (0..600).map(|n| format!("NURSE {n};Roe, R & Co;2\n")).collect();
    std::fs::write(&operators, list).unwrap();
    let line = format!("{}\noperators = {operators:?}\nset_time = true", listen(port));
    let gateway = rig.gateway(&link("ward", "poct1a", &line)).await;
    let faults = "noise:0.2,cut:0.2,dup-frame:0.3,dropped-ack:0.3,late-ack:1,wrong-control-id:1".parse().unwrap();
    // The generic driver takes no activities of enzymes.
    let mut shape = Shape::generic();
    shape.analytes.retain(|analyte| analyte.unit != "U/L");
    let instrument = Instrument::with(Settings {
        count: Some(SPECIMENS),
        faults,
        shape,
        run: "WARD".to_owned(),
        ..Settings::new(Line::Connect(local(port)), Protocol::Poct1a)
    });
    let (summary, books) = instrument.finishes().await;
    assert_eq!((summary.acknowledged, summary.violations), (SPECIMENS, 0), "{summary:?}");
    let committed: Vec<&str> = summary.faults.keys().copied().collect();
    assert_eq!(committed, ["cut", "dropped-ack", "dup-frame", "late-ack", "noise", "wrong-control-id"]);

    let says = |body: &str, book: &Acknowledged| {
        body.contains(&book.id) && book.results.iter().all(|result| body.contains(&format!("|{}|", result.value)))
    };
    until("everything is in the chart, once", || {
        let bodies = rig.chart().into_iter().map(|arrival| String::from_utf8_lossy(&arrival.body).into_owned());
        let bodies: BTreeSet<String> = bodies.collect();
        books.iter().all(|book| bodies.iter().filter(|body| says(body, book)).count() == 1)
    })
    .await;
    assert_eq!(charted(&rig, "|55.5|"), 0, "a control is no patient's result");
    let health = health(&gateway, "ward");
    assert!(health.reasons.contains_key("an answer to nothing the host said"), "{:?}", health.reasons);
    assert!(!health.reasons.contains_key("the device did not take the operator list"), "{:?}", health.reasons);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_device_that_stalls_inside_a_document_sends_it_again() {
    let rig = Rig::new().await;
    let port = free_port();
    let gateway = rig.gateway(&link("ward", "poct1a", &listen(port))).await;
    let mut shape = Shape::generic();
    shape.analytes.retain(|analyte| analyte.unit != "U/L");
    let settings = Settings {
        count: Some(2),
        corrections: 0.0,
        shape,
        ..Settings::new(Line::Connect(local(port)), Protocol::Poct1a)
    };
    let instrument = Instrument::with(Settings { faults: "stall:1".parse().unwrap(), ..settings });
    let (summary, books) = instrument.finishes().await;
    assert_eq!((summary.acknowledged, summary.violations, summary.faults["stall"]), (2, 0, 2), "{summary:?}");
    // Each document stalls once, the gateway hangs up, and another attempt gets through.
    assert_eq!(health(&gateway, "ward").reasons["a document did not end in time"], 2);
    until("both are in the chart", || books.iter().all(|book| charted(&rig, &book.id) == 1)).await;
    assert_eq!(gateway.journal().reader().unwrap().account().unwrap().missing(), 0);
    gateway.stop().await;
}

/// The clock of a device in India, read in its own zone: exact, and two hours slow.
#[tokio::test(flavor = "multi_thread")]
async fn i13_a_device_whose_clock_is_off_is_measured_and_held_until_it_is_right() {
    let rig = Rig::new().await;
    let port = free_port();
    let links =
        format!("[[link]]\nname = \"ward\"\nprotocol = \"poct1a\"\nclock_limit_s = 900\n{}\n{TIMERS}", settings(port));
    let gateway = rig.gateway(&links).await;
    let mut device = Device::on(TcpStream::connect(local(port)).await.unwrap());
    device.introduce().await;
    let shows = |slow: jiff::Span| {
        let now = jiff::Timestamp::now().in_tz("Asia/Kolkata").unwrap().checked_sub(slow).unwrap();
        now.strftime("%Y-%m-%dT%H:%M:%S").to_string()
    };
    for (id, value, slow) in [("1", "101.5", jiff::Span::new().hours(2)), ("2", "102.5", jiff::Span::new())] {
        let time = shows(slow);
        let body = format!(
            "<SVC><SVC.role_cd V=\"OBS\"/><SVC.observation_dttm V=\"{time}\"/><PT><PT.patient_id V=\"PT{id}\"/><OBS>\
             <OBS.observation_id V=\"2345-7\" SN=\"LN\"/><OBS.value V=\"{value}\" U=\"mg/dL\"/></OBS></PT></SVC>"
        );
        device.send(&document_made("OBS.R01", id, &body, &time)).await;
        assert_eq!(device.hears().await, "ACK.R01 AA", "in custody, whatever its clock shows");
    }
    until("the one with the right time is in the chart", || charted(&rig, "|102.5|") == 1).await;
    assert_eq!(charted(&rig, "|101.5|"), 0);
    let holds = gateway.journal().reader().unwrap().holds(9).unwrap();
    assert_eq!(holds.iter().map(|hold| hold.reason.as_str()).collect::<Vec<_>>(), ["clock-disagreement"]);
    gateway.stop().await;
    let seen = register::read(&rig.data())["ward"].values().next().unwrap().clone();
    let drifts: Vec<i64> = seen.drifts_s.iter().map(|drift| (*drift as f64 / 3600.0).round() as i64).collect();
    assert_eq!((drifts, seen.held), (vec![0, -2], 1), "hours, the last first: {seen:?}");
}
