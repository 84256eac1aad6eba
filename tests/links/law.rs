//! Analyzers that ask for their orders in HL7, and are told of them.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use afferent::clinical::{
    Coding, OrderNumber, OrderStatus, OrderedPatient, OrderedTest, Patient, Phi, Specimen, WorkOrder,
};
use afferent::journal::{self, Journal, OrderChange};
use afferent::sim::instrument::asking::{self, Asking, Dialect};
use afferent::sim::instrument::line::Line;
use afferent::wire::{Persist, Token, mllp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{PATIENCE, Rig, code, free_port, health, link, listen, local, until};

pub const LINK: &str = "chemistry";

/// An order of the EHR for glucose on this tube.
pub fn order(number: &str, tube: &str) -> OrderChange {
    let patient = Patient { id: Phi::new("PAT7"), family: Phi::new("DOE"), ..Patient::default() };
    OrderChange::New(Box::new(WorkOrder {
        placer_order_number: OrderNumber::new(number),
        patient: OrderedPatient { patient, other_ids: Vec::new() },
        specimen: Specimen { id: Phi::new(tube), ..Specimen::default() },
        tests: vec![OrderedTest { universal_service_id: Coding::local("GLU", "Glucose"), alternate: None }],
        ..WorkOrder::default()
    }))
}

pub fn cancellation(number: &str) -> OrderChange {
    let number = OrderNumber::new(number);
    OrderChange::TakeBack { number, specimen: Phi::default(), becomes: OrderStatus::Cancelled }
}

/// As the EHR's message would.
pub async fn place(journal: &Journal, control_id: &str, changes: Vec<OrderChange>) {
    let part = Persist {
        token: Token(1),
        session: 1,
        bytes: format!("MSH|^~\\&|EHR|||||||{control_id}\r").into_bytes(),
        completes: true,
        identity: Some(control_id.as_bytes().to_vec()),
    };
    journal.persist_orders("ehr", u64::MAX, part, changes, None, Arc::new([LINK.to_string()])).await.unwrap();
}

pub fn status(journal: &Journal, number: &str) -> OrderStatus {
    journal.reader().unwrap().work_orders_numbered(&Phi::new(number)).unwrap()[0].status
}

/// What the link still has to tell its instrument.
fn tasks(journal: &Journal) -> usize {
    journal.reader().unwrap().link_tasks(LINK, 0, 10).unwrap().len()
}

pub fn query(control_id: &str, tube: &str) -> String {
    format!(
        "MSH|^~\\&|AN|LAB|GW||20260101120000||QBP^Q11^QBP_Q11|{control_id}|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-27^IHE\r\
         QPD|WOS^Work Order Step^IHELAW|T{control_id}|{tube}\rRCP|I||R^^HL70394\r"
    )
}

/// An analyzer's end of a line, with what has come and was not looked at.
pub struct Analyzer<S> {
    stream: S,
    framer: mllp::Framer,
    heard: VecDeque<Vec<u8>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Analyzer<S> {
    pub fn new(stream: S) -> Self {
        Analyzer { stream, framer: mllp::Framer::new(mllp::MESSAGE_MAX), heard: VecDeque::new() }
    }

    pub async fn say(&mut self, message: &str) {
        self.stream.write_all(&mllp::frame(message.as_bytes())).await.unwrap();
    }

    pub async fn hear(&mut self) -> String {
        let mut buffer = [0; 4096];
        while self.heard.is_empty() {
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("a message in time");
            let read = read.expect("the line is open");
            assert!(read > 0, "the line is open");
            let items = self.framer.push(&buffer[..read]);
            self.heard.extend(items.into_iter().filter_map(|item| match item {
                mllp::Item::Message(message) => Some(message),
                _ => None,
            }));
        }
        String::from_utf8(self.heard.pop_front().unwrap()).unwrap()
    }

    /// Asks for a tube; the reply and the message that follows it.
    pub async fn ask(&mut self, control_id: &str, tube: &str) -> [String; 2] {
        self.say(&query(control_id, tube)).await;
        [self.hear().await, self.hear().await]
    }

    /// Answers an OML^O33: this ORC-1 for every order.
    pub async fn answer(&mut self, orders: &str, control: &str) {
        let mut answer = format!(
            "MSH|^~\\&|AN|LAB|GW||20260101120001||ORL^O34^ORL_O42|R{0}|P|2.5.1|||ER|NE||UNICODE UTF-8|||LAB-28^IHE\r\
             MSA|AA|{0}\r",
            field(orders, "MSH", 9)
        );
        for orc in orders.split('\r').filter(|segment| segment.starts_with("ORC|")) {
            let number = orc.split('|').nth(2).unwrap();
            answer.push_str(&format!("ORC|{control}|{number}\r"));
        }
        self.say(&answer).await;
    }
}

/// A field of the first such segment, counted by separators.
pub fn field<'m>(message: &'m str, segment: &str, at: usize) -> &'m str {
    let found = message.split('\r').find(|line| line.starts_with(segment)).unwrap_or_default();
    found.split('|').nth(at).unwrap_or_default()
}

pub async fn dial_in(port: u16) -> Analyzer<TcpStream> {
    Analyzer::new(TcpStream::connect(local(port)).await.unwrap())
}

/// LAB-29 for an order.
fn result(number: &str, tube: &str) -> String {
    format!(
        "MSH|^~\\&|AN|LAB|GW||20260101120100||OUL^R22^OUL_R22|RES{number}|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-29^IHE\r\
         SPM|1|||SER^Serum^HL70487|||||||P^Patient^HL70369\rSAC|||{tube}\rINV|REAG1|OK|SR|||||||||20270101||||LOT7\r\
         OBR|1|{number}||GLU^Glucose^L\rORC|OK||||CM||||20260101120000\r\
         OBX|1|NM|GLU^Glucose^L|1|5.40|mmol/L||N|||F|||||ADMIN||AN^MAKER~SER123^MAKER|20260101120050||||||||||RSLT\r"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyzer_asks_is_told_measures_and_reports() {
    let rig = Rig::new().await;
    let port = free_port();
    let gateway = rig.gateway(&link(LINK, "hl7", &listen(port))).await;
    let journal = gateway.journal().clone();
    place(&journal, "E1", vec![order("A1", "TUBE1"), order("A2", "TUBE1"), order("A3", "TUBE3")]).await;
    let mut analyzer = dial_in(port).await;

    let [response, orders] = analyzer.ask("Q1", "TUBE1").await;
    assert_eq!((code(response.as_bytes()).as_str(), field(&response, "QAK", 2)), ("AA", "OK"));
    assert_eq!(field(&response, "QPD", 3), "TUBE1");
    assert!(orders.contains("\rORC|NW|A1|") && orders.contains("\rORC|NW|A2|") && !orders.contains("A3"), "{orders}");
    assert_eq!(status(&journal, "A1"), OrderStatus::Requested, "sent is not yet accepted");
    analyzer.answer(&orders, "OK").await;
    until("the orders are in progress", || status(&journal, "A2") == OrderStatus::InProgress).await;
    assert_eq!(status(&journal, "A1"), OrderStatus::InProgress);
    assert_eq!(tasks(&journal), 1, "the order of the other tube waits");

    // A tube nobody knows: heard, and nothing to do. Its answer is MSH and MSA alone.
    let [response, nothing] = analyzer.ask("Q2", "TUBE9").await;
    assert_eq!((code(response.as_bytes()).as_str(), field(&response, "QAK", 2)), ("AA", "NF"));
    assert_eq!((field(&nothing, "ORC", 1), field(&nothing, "SAC", 3)), ("DC", "TUBE9"));
    analyzer.answer(&nothing, "OK").await;

    // An id that was not read is nobody's.
    analyzer.say(&query("Q3", "")).await;
    assert_eq!(code(analyzer.hear().await.as_bytes()), "AE");

    analyzer.say(&result("A1", "TUBE1")).await;
    let ack = analyzer.hear().await;
    assert_eq!((field(&ack, "MSH", 8), code(ack.as_bytes()).as_str()), ("ACK^R22^ACK", "AA"));
    until("the result is in the chart", || rig.chart().len() == 1).await;
    let body = String::from_utf8(rig.chart()[0].body.clone()).unwrap();
    assert!(body.contains("|5.40|mmol/L") && body.contains("\rOBR|1|A1|"), "{body}");
    // Queries and answers carry no results: filed, and nothing held.
    until("everything is interpreted", || journal.reader().unwrap().pending_entries(10).unwrap().is_empty()).await;
    let holds = journal.reader().unwrap().holds(10).unwrap();
    assert!(holds.is_empty(), "{holds:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_is_told_and_what_is_refused_is_noted() {
    let rig = Rig::new().await;
    let port = free_port();
    let gateway = rig.gateway(&link(LINK, "hl7", &listen(port))).await;
    let journal = gateway.journal().clone();
    place(&journal, "E1", vec![order("A1", "TUBE1"), order("B1", "TUBE2")]).await;
    let mut analyzer = dial_in(port).await;
    let [_, orders] = analyzer.ask("Q1", "TUBE1").await;
    analyzer.answer(&orders, "OK").await;
    until("it is in progress", || status(&journal, "A1") == OrderStatus::InProgress).await;

    place(&journal, "E2", vec![cancellation("A1")]).await;
    let cancel = analyzer.hear().await;
    assert_eq!((field(&cancel, "ORC", 1), field(&cancel, "OBR", 2)), ("CA", "A1"));
    analyzer.answer(&cancel, "CR").await;
    until("the cancellation is done with", || tasks(&journal) == 1).await;

    let [_, orders] = analyzer.ask("Q2", "TUBE2").await;
    analyzer.answer(&orders, "UA").await;
    until("the refusal is counted", || health(&gateway, LINK).reasons.contains_key("the instrument refuses an order"))
        .await;
    until("the instrument is not told again", || tasks(&journal) == 0).await;
    assert_eq!(status(&journal, "B1"), OrderStatus::Requested, "another instrument may do it");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_go_out_unasked_on_a_line_of_their_own() {
    let rig = Rig::new().await;
    let (port, apart) = (free_port(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let line = format!(
        "{}\norders_dial = \"{}\"\npush_orders = true\ndriver = \"generic-hl7\"",
        listen(port),
        apart.local_addr().unwrap()
    );
    let gateway = rig.gateway(&link(LINK, "hl7", &line)).await;
    let journal = gateway.journal().clone();
    let mut told = Analyzer::new(apart.accept().await.unwrap().0);
    place(&journal, "E1", vec![order("A1", "TUBE1")]).await;
    let pushed = told.hear().await;
    assert_eq!((field(&pushed, "MSH", 8), field(&pushed, "ORC", 2)), ("OML^O33^OML_O33", "A1"));
    // The line breaks before the answer: the same message comes again.
    drop(told);
    let mut told = Analyzer::new(apart.accept().await.unwrap().0);
    place(&journal, "E2", vec![order("A2", "TUBE2")]).await;
    let again = told.hear().await;
    assert_eq!(again, pushed, "same bytes, same MSH-10");
    told.answer(&again, "OK").await;
    let second = told.hear().await;
    told.answer(&second, "OK").await;
    until("both are in progress", || status(&journal, "A2") == OrderStatus::InProgress).await;
    assert_eq!(status(&journal, "A1"), OrderStatus::InProgress);

    // Asked on the one line, told on the other.
    let mut asking = dial_in(port).await;
    asking.say(&query("Q1", "TUBE1")).await;
    assert_eq!(field(&asking.hear().await, "QAK", 2), "OK");
    assert_eq!(field(&told.hear().await, "ORC", 2), "A1");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_queries_are_answered_in_their_own_words() {
    let rig = Rig::new().await;
    let port = free_port();
    let gateway = rig.gateway(&link(LINK, "hl7", &listen(port))).await;
    let journal = gateway.journal().clone();
    place(&journal, "E1", vec![order("A1", "TUBE1"), order("B1", "TUBE2"), order("C1", "TUBE3")]).await;
    let mut analyzer = dial_in(port).await;

    analyzer.say("MSH|^~\\&|Mindray|BS-200E|||2026||QRY^Q02|7|P|2.3.1||||||ASCII\rQRD|2026|R|D|1|||RD|TUBE1|OTH|||T\rQRF|BS\r").await;
    assert_eq!(field(&analyzer.hear().await, "QAK", 2), "OK");
    let display = analyzer.hear().await;
    assert!(display.contains("\rDSP|21||TUBE1\r") && display.contains("\rDSP|29||GLU^^^\r"), "{display}");
    assert_eq!(status(&journal, "A1"), OrderStatus::Requested);
    let id = field(&display, "MSH", 9);
    analyzer
        .say(&format!(
            "MSH|^~\\&|Mindray|BS-200E|||2026||ACK^Q03|7|P|2.3.1||||||ASCII\rMSA|AA|{id}|Message accepted|||0\r"
        ))
        .await;
    until("the first is in progress", || status(&journal, "A1") == OrderStatus::InProgress).await;

    analyzer.say("MSH|^~\\&|BC|Mindray|||2026||ORM^O01|4|P|2.3.1||||||UNICODE\rORC|RF||TUBE2||IP\r").await;
    assert!(analyzer.hear().await.contains("\rORC|AF|TUBE2\r"));
    until("the second is in progress", || status(&journal, "B1") == OrderStatus::InProgress).await;

    analyzer
        .say("MSH|^~\\&|ICU^GeneXpert||LIS||2026||QBP^Z03^QBP_Z03|9|P|2.5\rQPD|Z03^HOST QUERY|T|P|TUBE3\rRCP|I\r")
        .await;
    assert!(analyzer.hear().await.contains("\rOBR|1|||GLU|"));
    until("the third is in progress", || status(&journal, "C1") == OrderStatus::InProgress).await;
    gateway.stop().await;
}

/// Orders in a journal no gateway has open.
pub async fn placed_before(data: &Path, control_id: &str, changes: Vec<OrderChange>) {
    std::fs::create_dir_all(data).unwrap();
    let settings = journal::Config { free_min_mb: 0, ..journal::Config::default() };
    let journal = Journal::open(data, &settings).unwrap();
    place(&journal, control_id, changes).await;
    journal.close();
}

pub fn status_after(data: &Path, number: &str) -> OrderStatus {
    let settings = journal::Config { free_min_mb: 0, ..journal::Config::default() };
    let journal = Journal::open(data, &settings).unwrap();
    let status = status(&journal, number);
    journal.close();
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_killed_while_an_order_is_in_flight_it_is_told_again_under_the_same_id() {
    let rig = Rig::new().await;
    placed_before(&rig.data(), "E1", vec![order("A1", "TUBE1")]).await;
    let port = free_port();
    let links = link(LINK, "hl7", &listen(port));
    let gateway = rig.child(&links).await;
    let [_, first] = dial_in(port).await.ask("Q1", "TUBE1").await;
    // SIGKILL, with the order out and no answer in.
    drop(gateway);
    assert_eq!(status_after(&rig.data(), "A1"), OrderStatus::Requested, "nobody said that the analyzer has it");

    let gateway = rig.child(&links).await;
    let mut analyzer = dial_in(port).await;
    let [_, again] = analyzer.ask("Q2", "TUBE1").await;
    assert_eq!(again, first, "the analyzer can tell that it is the same");
    analyzer.answer(&again, "OK").await;
    // The answer is in custody before anything else is heard, so a result that is acknowledged came after it.
    analyzer.say(&result("A1", "TUBE1")).await;
    assert_eq!(code(analyzer.hear().await.as_bytes()), "AA");
    until("the result is in the chart", || rig.chart().len() == 1).await;
    drop(gateway);
    assert!(status_after(&rig.data(), "A1") >= OrderStatus::InProgress);
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_analyzers_that_misbehave_are_told_the_same() {
    let rig = Rig::new().await;
    let port = free_port();
    let gateway = rig.gateway(&link(LINK, "hl7", &listen(port))).await;
    let mut round = 0;
    for (dialect, none) in
        [(Dialect::Law, "NF"), (Dialect::Display, "NF"), (Dialect::GeneXpert, "OK"), (Dialect::OrderMessage, "AR")]
    {
        for faults in ["", "noise:1", "cut:1", "dup-frame:1"] {
            // Orders that were answered with results are done, so each analyzer has its own.
            round += 1;
            let (one, other) = (format!("TUBE{round}A"), format!("TUBE{round}B"));
            let numbers = [format!("A{round}"), format!("B{round}"), format!("C{round}")];
            let [a, b, c] = &numbers;
            let placed = vec![order(a, &one), order(b, &one), order(c, &other)];
            place(gateway.journal(), &format!("E{round}"), placed).await;
            let asking = Asking {
                line: Line::Connect(local(port)),
                dialect,
                tubes: vec![one, other, "TUBE99".to_owned()],
                faults: faults.parse().unwrap(),
                seed: 1,
                time_scale: 0.05,
            };
            let told = asking::run(&asking).await.unwrap();
            let orders: Vec<Vec<&str>> = told.iter().map(|t| t.orders.iter().map(String::as_str).collect()).collect();
            // Only LAW names the order; the others name the test.
            let named = |number| if dialect == Dialect::Law { number } else { "GLU" };
            let expected = [vec![named(a.as_str()), named(b)], vec![named(c)], Vec::new()];
            assert_eq!(orders, expected, "{dialect:?} {faults}");
            assert_eq!(told[2].reply, none, "{dialect:?} {faults}");
            assert!(told.iter().all(|told| told.violations == 0), "{told:?}");
            if dialect == Dialect::Law {
                assert_eq!(told[0].results_acknowledged, 2, "{faults}");
            }
        }
    }
    gateway.stop().await;
}
