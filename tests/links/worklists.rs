//! Orders down: an analyzer that asks is answered, a worklist goes out when the line is free, and nobody gets an order
//! that is not theirs. The analyzer's end is a station of our own in the instrument's role.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use afferent::clinical::{Coding, OrderNumber, OrderedTest, Phi, WorkOrder};
use afferent::journal::{Journal, OrderChange};
use afferent::wire::astm::{ReceiverConfig, Role, SenderConfig, Station};
use afferent::wire::{Custody, Event, Output, Persist, Token};

use crate::rig::{PATIENCE, Rig, free_port, health, link, listen, local};

/// An instrument whose queries the gateway knows how to read.
const E411: &str = "driver = \"roche-cobas-e411\"\norder_codes = [\"FT3 = 2450\", \"TSH = 10, 11\"]\n";

struct Kept(Token);

impl Custody for Kept {
    fn token(&self) -> Token {
        self.0
    }
}

/// An analyzer's end of a line.
pub struct Analyzer {
    line: TcpStream,
    station: Station,
    text: String,
    /// Messages it was sent, as records.
    pub messages: Vec<Vec<String>>,
    accepted: u64,
    said: u64,
}

impl Analyzer {
    fn on(line: TcpStream) -> Analyzer {
        line.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        line.set_nodelay(true).unwrap();
        let sender = SenderConfig {
            role: Role::Instrument,
            reply_timeout: Duration::from_millis(1500),
            contention_wait: Some(Duration::from_millis(100)),
            ..SenderConfig::default()
        };
        let receiver = ReceiverConfig { frame_timeout: Duration::from_secs(3), ..ReceiverConfig::default() };
        let station = Station::new(Instant::now(), receiver, sender, 1);
        Analyzer { line, station, text: String::new(), messages: vec![], accepted: 0, said: 0 }
    }

    pub fn dial(port: u16) -> Analyzer {
        Analyzer::on(TcpStream::connect(local(port)).unwrap())
    }

    /// Reads, writes and keeps time until `done`, or fails the test.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Analyzer) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "not in time: {what}");
            self.turn();
        }
    }

    fn turn(&mut self) {
        let mut bytes = [0; 1024];
        match self.line.read(&mut bytes) {
            Ok(0) => panic!("the gateway hung up"),
            Ok(n) => self.station.handle_bytes(Instant::now(), &bytes[..n]),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}"),
        }
        self.station.handle_timeout(Instant::now());
        while let Some(output) = self.station.poll_output() {
            match output {
                Output::Send(bytes) => self.line.write_all(&bytes).unwrap(),
                Output::Persist(part) => {
                    let end = part.bytes.iter().position(|b| matches!(b, 3 | 0x17)).unwrap();
                    self.text.push_str(&String::from_utf8_lossy(&part.bytes[2..end]));
                    self.station.handle_custody(Instant::now(), Ok(&Kept(part.token)));
                    if part.completes {
                        let text = std::mem::take(&mut self.text);
                        self.messages.push(text.split('\r').filter(|r| !r.is_empty()).map(str::to_string).collect());
                    }
                }
                Output::Event(Event::Accepted(_)) => self.accepted += 1,
                Output::Abandon { .. } => self.text.clear(),
                _ => {}
            }
        }
    }

    /// Sends records and waits until they are acknowledged.
    pub fn say(&mut self, records: &[&str]) {
        self.said += 1;
        let records = records.iter().map(|record| record.as_bytes().to_vec()).collect();
        self.station.send(Instant::now(), Token(self.said), records).unwrap();
        let wanted = self.accepted + 1;
        self.until("the message is acknowledged", |analyzer| analyzer.accepted >= wanted);
    }

    fn ask(&mut self, specimen: &str) -> Vec<String> {
        let before = self.messages.len();
        let q = format!("Q|1|^^{specimen}^5^0^2^^S1^SC||ALL||||||||O");
        self.say(&["H|\\^&|||cobas-e411^1|||||host|TSREQ^REAL|P|1", &q, "L|1|N"]);
        self.until("the query is answered", |analyzer| analyzer.messages.len() > before);
        self.messages[before].clone()
    }
}

pub async fn place(journal: &Journal, number: &str, specimen: &str, patient: &str, test: &str) {
    let mut order = WorkOrder {
        placer_order_number: OrderNumber::new(number),
        tests: vec![OrderedTest { universal_service_id: Coding::local(test, ""), alternate: None }],
        ..WorkOrder::default()
    };
    order.specimen.id = Phi::new(specimen);
    order.patient.patient.id = Phi::new(patient);
    let part = Persist {
        token: Token(0),
        session: number.bytes().map(u64::from).sum(),
        bytes: format!("order {number}").into_bytes(),
        completes: true,
        identity: Some(number.as_bytes().to_vec()),
    };
    let changes = vec![OrderChange::New(Box::new(order))];
    let links: Arc<[String]> = Arc::new(["immunology".to_string()]);
    journal.persist_orders("ehr", 1, part, changes, None, links).await.unwrap();
}

/// The order records with a test in them.
pub fn orders(message: &[String]) -> Vec<&str> {
    let is_ordered = |record: &&str| record.starts_with("O|") && !record.split('|').nth(4).unwrap().is_empty();
    message.iter().map(String::as_str).filter(is_ordered).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyzer_that_asks_is_told_its_orders_and_nobody_elses() {
    let (rig, port) = (Rig::new().await, free_port());
    let gateway = rig.gateway(&link("immunology", "astm", &format!("{}\n{E411}", listen(port)))).await;
    place(gateway.journal(), "P1", "S-1", "H1", "FT3").await;
    place(gateway.journal(), "P2", "S-1", "H1", "TSH").await;
    place(gateway.journal(), "P3", "S-2", "H2", "FT3").await;
    place(gateway.journal(), "P4", "S-2", "H3", "FT3").await;
    place(gateway.journal(), "P5", "@7", "H4", "FT3").await;

    tokio::task::spawn_blocking(move || {
        let mut analyzer = Analyzer::dial(port);
        for again in 0..2 {
            let answer = analyzer.ask("S-1");
            assert_eq!(answer[0], "H|\\^&|||host^1|||||cobas-e411|TSDWN^REPLY|P|1");
            let o = "O|1|S-1|5^0^2^^S1^SC|^^^2450^\\^^^10^\\^^^11^|R||||||A||||1||||||||||O";
            assert_eq!(orders(&answer), [o], "time {again}");
        }
        for nobody in ["S-2", "S-9", "@7", " ", ""] {
            let answer = analyzer.ask(nobody);
            assert!(orders(&answer).is_empty(), "{nobody}: {answer:?}");
            let record = format!("O|1|{nobody}|5^0^2^^S1^SC||R||||||A||||1||||||||||O");
            assert_eq!(answer[2..], [record, "L|1|N".to_string()], "{nobody}");
        }
        // The question is taken back: what comes next is the answer to the next one.
        let q = "Q|1|^^S-1^5^0^2^^S1^SC||ALL||||||||A";
        analyzer.say(&["H|\\^&|||cobas-e411^1|||||host|TSREQ^REAL|P|1", q, "L|1|N"]);
        assert_eq!(orders(&analyzer.ask("S-9")).len(), 0);
        assert_eq!(analyzer.messages.len(), 8);
    })
    .await
    .unwrap();

    let reasons = health(&gateway, "immunology").reasons;
    assert_eq!(reasons["a query was answered"], 8);
    assert_eq!(reasons["orders of several patients are on one specimen"], 2);
    let account = gateway.journal().reader().unwrap().pending_entries(10).unwrap();
    assert!(account.len() <= 10, "queries are filed like any entry");
    gateway.stop().await;
}

/// A driver that takes worklists.
const TAKES: &str = "[identity]\nvendor = \"V\"\nmodel = \"M\"\nprotocol = \"astm\"\n\
    [orders]\npush_action = \"A\"\ncancel_action = \"C\"\n[orders.codes]\nFT3 = [\"2450\"]\n";

fn pushing(rig: &Rig, line: &str) -> String {
    std::fs::create_dir_all(rig.path("drivers/taker")).unwrap();
    std::fs::write(rig.path("drivers/taker/driver.toml"), TAKES).unwrap();
    link("immunology", "astm", &format!("{line}\ndriver = \"taker\"\npush_orders = true\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worklist_goes_out_once_after_contention_refusals_and_a_cut_line() {
    let (rig, port) = (Rig::new().await, free_port());
    let text = pushing(&rig, &listen(port));
    let gateway = rig.gateway_with_drivers(&text).await;
    place(gateway.journal(), "P1", "S-1", "H1", "FT3").await;
    place(gateway.journal(), "P2", "S-2", "H2", "UNKNOWN").await;
    let journal = gateway.journal().clone();

    tokio::task::spawn_blocking(move || {
        // The line goes away in the middle of the worklist.
        let mut analyzer = Analyzer::dial(port);
        analyzer.until("the worklist begins", |analyzer| !analyzer.text.is_empty());
        drop(analyzer);
        // The next connection gets it whole, while it has something to say itself.
        let mut analyzer = Analyzer::dial(port);
        analyzer.say(&["H|\\^&|||x", "L|1|N"]);
        analyzer.until("the worklist comes", |analyzer| !analyzer.messages.is_empty());
        assert_eq!(orders(&analyzer.messages[0]), ["O|1|S-1||^^^2450|R||||||A"]);
        for _ in 0..3 {
            analyzer.say(&["H|\\^&|||x", "L|1|N"]);
        }
        let reader = journal.reader().unwrap();
        analyzer.until("everything is marked", |_| reader.link_tasks("immunology", 0, 10).unwrap().is_empty());
        assert_eq!(analyzer.messages.len(), 1, "sent once, and what it does not measure never");
    })
    .await
    .unwrap();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worklist_on_a_serial_line_and_after_a_restart_of_the_gateway() {
    let (rig, port) = (Rig::new().await, free_port());
    let device = rig.path("ttyGATEWAY");
    let listener = TcpListener::bind(local(port)).unwrap();
    let Some(_cable) = crate::serial::Cable::to_port(device.clone(), port).await else { return };
    let text = pushing(&rig, &crate::rig::serial(&device));
    let gateway = rig.gateway_with_drivers(&text).await;
    place(gateway.journal(), "P1", "S-1", "H1", "FT3").await;
    let (line, _) = listener.accept().unwrap();
    let mut analyzer = Analyzer::on(line);
    let mut analyzer = tokio::task::spawn_blocking(move || {
        analyzer.until("the worklist begins", |analyzer| !analyzer.text.is_empty());
        analyzer
    })
    .await
    .unwrap();
    // Stopped in the middle of the worklist: it is not marked, so the next gateway sends it again, the same.
    gateway.stop().await;
    let gateway = rig.gateway_with_drivers(&text).await;
    let journal = gateway.journal().clone();
    tokio::task::spawn_blocking(move || {
        analyzer.until("the worklist comes", |analyzer| !analyzer.messages.is_empty());
        assert_eq!(orders(&analyzer.messages[0]), ["O|1|S-1||^^^2450|R||||||A"]);
        let reader = journal.reader().unwrap();
        analyzer.until("it is marked", |_| reader.link_tasks("immunology", 0, 10).unwrap().is_empty());
    })
    .await
    .unwrap();
    gateway.stop().await;
}
