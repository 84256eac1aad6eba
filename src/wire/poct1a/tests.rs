//! Promises of the POCT1-A host.

mod properties;

use std::time::{Duration, Instant};

use super::document::{Element, parse};
use super::*;
use crate::wire::{Custody, ENDED, Event, Output, Refusal, Refused, Time, Token};

struct Proof(Token);

impl Custody for Proof {
    fn token(&self) -> Token {
        self.0
    }
}

const TIME: &str = "2026-01-02T03:04:05+01:00";
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>";

/// A message of a device.
fn message(root: &str, id: &str, body: &str) -> String {
    format!(
        "{DECLARATION}<{root}><HDR><HDR.message_type V=\"{root}\" /><HDR.control_id V=\"{id}\" />\
         <HDR.version_id V=\"POCT1\" /><HDR.creation_dttm V=\"2026-01-01T13:40:47-08:00\" /></HDR>{body}</{root}>"
    )
}

fn hello(directives: &[&str], timeout: &str) -> String {
    let directives: String = directives.iter().map(|d| format!("<DSC.directives_supported_cd V=\"{d}\" />")).collect();
    let body = format!(
        "<DEV><DEV.device_id V=\"ACME^Meter One^S1\" /><DCP><DCP.application_timeout V=\"{timeout}\" /></DCP>\
         <DSC>{directives}<DSC.max_message_sz V=\"16000\" /></DSC></DEV>"
    );
    message("HEL.R01", "10", &body)
}

fn status(waiting: &str) -> String {
    message("DST.R01", "11", &format!("<DST><DST.new_observations_qty V=\"{waiting}\" /></DST>"))
}

fn observation(id: &str) -> String {
    let body = "<SVC><SVC.role_cd V=\"OBS\" /><PT><PT.patient_id V=\"P 1\" /><OBS><OBS.observation_id V=\"Glu\" />\
                <OBS.value V=\"5.10\" U=\"mmol/L\" /></OBS></PT></SVC>";
    message("OBS.R01", id, body)
}

fn answer(id: &str, code: &str, error: &str) -> String {
    let body = format!(
        "<ACK><ACK.type_cd V=\"{code}\" /><ACK.ack_control_id V=\"{id}\" />\
         <ACK.error_detail_cd V=\"{error}\" /></ACK>"
    );
    message("ACK.R01", "90", &body)
}

fn end_of_topic(of: &str) -> String {
    message("EOT.R01", "17", &format!("<EOT><EOT.eot_control_id V=\"{of}\" /><EOT.topic_cd V=\"OBS\" /></EOT>"))
}

/// A host whose journal answers at once, and what came of it.
struct Bench {
    now: Time,
    receiver: Receiver,
    /// What the host said, one line a message.
    said: Vec<String>,
    kept: Vec<(u64, Vec<u8>, Vec<u8>)>,
    events: Vec<Event>,
    closed: Vec<&'static str>,
    refusal: Option<Refusal>,
    /// Custody is not answered while true.
    held: bool,
    open: Vec<Token>,
    /// Accepting answers to observations, which custody must have come before.
    taken: usize,
}

impl Bench {
    fn new() -> Self {
        Self::with(ReceiverConfig::default())
    }

    fn with(config: ReceiverConfig) -> Self {
        let mut receiver = Receiver::new(config, 1);
        receiver.set_wall_time(TIME);
        Bench {
            now: Instant::now(),
            receiver,
            said: vec![],
            kept: vec![],
            events: vec![],
            closed: vec![],
            refusal: None,
            held: false,
            open: vec![],
            taken: 0,
        }
    }

    /// Feeds text and returns what the host said to it.
    fn feed(&mut self, text: &str) -> Vec<String> {
        self.feed_bytes(text.as_bytes())
    }

    fn feed_bytes(&mut self, bytes: &[u8]) -> Vec<String> {
        let before = self.said.len();
        self.receiver.handle_bytes(self.now, bytes);
        self.settle();
        self.said[before..].to_vec()
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.receiver.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.receiver.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn answer_custody(&mut self, token: Token) {
        match self.refusal {
            Some(reason) => self.receiver.handle_custody(self.now, Err::<&Proof, _>(Refused { token, reason })),
            None => {
                self.taken += 1;
                self.receiver.handle_custody(self.now, Ok(&Proof(token)));
            }
        }
    }

    fn settle(&mut self) {
        while let Some(output) = self.receiver.poll_output() {
            match output {
                Output::Send(bytes) => self.said.push(gist(&bytes)),
                Output::Persist(part) => {
                    assert!(part.completes);
                    self.kept.push((part.session, part.bytes, part.identity.unwrap()));
                    match self.held {
                        true => self.open.push(part.token),
                        false => self.answer_custody(part.token),
                    }
                }
                Output::Event(event) => self.events.push(event),
                Output::Close(why) => self.closed.push(why),
                Output::Abandon { .. } => panic!("a document is whole or nothing"),
                Output::Ask(_) | Output::Answered(_) => panic!("a device orders nothing"),
            }
        }
    }

    /// A conversation up to the point where the device sends by itself.
    fn continuous() -> Self {
        let mut bench = Bench::new();
        bench.feed(&hello(&["START_CONTINUOUS"], "60"));
        bench.feed(&status("0"));
        bench.feed(&answer("3", "AA", ""));
        assert_eq!(bench.said.len(), 3, "{:?}", bench.said);
        bench
    }
}

/// What a host's message says: `root#id` and what matters in it. Checks what holds of every message.
fn gist(bytes: &[u8]) -> String {
    let parsed = parse(std::str::from_utf8(bytes).unwrap());
    assert_eq!(parsed.flaw, None);
    let root: Element = parsed.root.unwrap();
    assert_eq!(root.value("HDR.message_type"), root.name);
    assert_eq!((root.value("HDR.version_id"), root.value("HDR.creation_dttm")), ("POCT1", TIME));
    let parts =
        ["ACK.type_cd", "ACK.ack_control_id", "ACK.error_detail_cd", "REQ.request_cd", "DTV.command_cd", "TM.dttm"];
    let parts = parts.iter().chain(&["TRM.reason_cd", "ESC.esc_control_id", "OPR.operator_id", "EOT.topic_cd"]);
    let said: Vec<&str> = parts.map(|name| root.value(name)).filter(|v| !v.is_empty()).collect();
    format!("{}#{} {}", root.name, root.value("HDR.control_id"), said.join(" "))
}

#[test]
fn a_whole_conversation_runs_as_the_standard_has_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.feed(&hello(&["START_CONTINUOUS"], "60")), ["ACK.R01#1 AA 10"]);
    assert_eq!(bench.feed(&status("1")), ["ACK.R01#2 AA 11", "REQ.R01#3 ROBS"]);
    assert_eq!(bench.feed(&observation("12")), ["ACK.R01#4 AA 12"]);
    assert_eq!(bench.feed(&end_of_topic("3")), ["DTV.R01#5 START_CONTINUOUS"]);
    assert_eq!(bench.feed(&answer("5", "AA", "")), Vec::<String>::new());
    assert_eq!(bench.feed(&observation("13")), ["ACK.R01#6 AA 13"]);
    assert_eq!(bench.feed(&message("KPA.R01", "14", "")), ["ACK.R01#7 AA 14"]);
    assert_eq!(bench.feed(&status("1")), ["ACK.R01#8 AA 11"], "who sends by itself is not asked");
    assert_eq!(bench.feed(&message("END.R01", "15", "<TRM><TRM.reason_cd V=\"NRM\"/></TRM>")), ["ACK.R01#9 AA 15"]);
    assert_eq!(bench.closed, [ENDED]);
    assert_eq!(bench.events, []);
    let kept: Vec<&[u8]> = bench.kept.iter().map(|(_, bytes, _)| bytes.as_slice()).collect();
    assert_eq!(kept, [observation("12").as_bytes(), observation("13").as_bytes()], "verbatim (I2)");
    assert_eq!(bench.kept[0].2, b"ACME^Meter One^S1|12|2026-01-01T13:40:47-08:00");
}

#[test]
fn every_split_of_a_conversation_says_the_same() {
    let text = [
        hello(&["START_CONTINUOUS"], "60"),
        status("2"),
        observation("12"),
        format!("\r\n{}", observation("13")),
        end_of_topic("3"),
        format!("\u{feff}{}", answer("6", "AA", "300")),
        "noise".to_string(),
        observation("14"),
    ]
    .concat();
    let mut whole = Bench::new();
    whole.feed(&text);
    assert_eq!(whole.kept.len(), 3);
    for size in [1, 2, 3, 7, 8, 16, 1000] {
        let mut split = Bench::new();
        for part in text.as_bytes().chunks(size) {
            split.feed_bytes(part);
        }
        assert_eq!(split.said, whole.said, "reads of {size}");
        assert_eq!(split.kept, whole.kept, "reads of {size}");
        assert_eq!(split.events, whole.events, "reads of {size}");
    }
    let odd = ["the device accepted what the host said, with an error code", "bytes between documents"];
    assert_eq!(whole.events, odd.map(Event::Odd));
}

#[test]
fn i1_nothing_is_acknowledged_before_custody() {
    let mut bench = Bench::continuous();
    bench.held = true;
    assert_eq!(bench.feed(&observation("12")), Vec::<String>::new());
    assert!(bench.receiver.wants_bytes());
    assert_eq!(bench.feed(&observation("13")), Vec::<String>::new(), "one at a time");
    assert!(!bench.receiver.wants_bytes());
    let token = bench.open.remove(0);
    bench.answer_custody(token);
    bench.settle();
    assert_eq!(bench.said.last().unwrap(), "ACK.R01#4 AA 12");
    assert_eq!(bench.kept.len(), 2);
}

#[test]
fn i1_refused_custody_is_an_error_and_the_device_keeps_its_result() {
    for reason in [Refusal::Full, Refusal::Storage] {
        let mut bench = Bench::continuous();
        bench.refusal = Some(reason);
        assert_eq!(bench.feed(&observation("12")), ["ACK.R01#4 AE 12 207"]);
        assert_eq!(bench.events, [Event::Refused("no custody")]);
        bench.refusal = None;
        assert_eq!(bench.feed(&observation("12")), ["ACK.R01#5 AA 12"]);
    }
}

#[test]
fn i1_custody_that_comes_too_late_is_not_acknowledged() {
    // The device waits for less time than the link allows.
    let mut bench = Bench::new();
    bench.feed(&hello(&["START_CONTINUOUS"], "4"));
    bench.feed(&status("0"));
    bench.feed(&answer("3", "AA", ""));
    bench.held = true;
    bench.feed(&observation("12"));
    let token = bench.open.remove(0);
    bench.wait(Duration::from_secs(4));
    assert_eq!(bench.closed, ["custody came too late"]);
    bench.answer_custody(token);
    bench.settle();
    assert_eq!(bench.said.len(), 3, "{:?}", bench.said);
    assert_eq!(bench.receiver.poll_timeout(), None);
}

#[test]
fn i4_the_same_message_again_gets_the_same_answer_under_the_same_identity() {
    let mut bench = Bench::continuous();
    assert_eq!(bench.feed(&observation("12")), ["ACK.R01#4 AA 12"]);
    assert_eq!(bench.feed(&observation("12")), ["ACK.R01#5 AA 12"]);
    let (first, again) = (&bench.kept[0], &bench.kept[1]);
    assert_eq!((&first.1, &first.2), (&again.1, &again.2), "the journal keeps one");
    assert_ne!(first.0, again.0);
}

#[test]
fn the_clock_is_set_when_both_sides_want_it() {
    let wanted = ReceiverConfig { set_time: true, ..ReceiverConfig::default() };
    let mut bench = Bench::with(wanted.clone());
    bench.feed(&hello(&["SET_TIME", "START_CONTINUOUS"], "60"));
    assert_eq!(bench.feed(&status("0")), ["ACK.R01#2 AA 11", &format!("DTV.R02#3 SET_TIME {TIME}")]);
    assert_eq!(bench.feed(&answer("3", "AA", "")), ["DTV.R01#4 START_CONTINUOUS"]);
    let mut bench = Bench::with(wanted);
    bench.feed(&hello(&["START_CONTINUOUS"], "60"));
    assert_eq!(bench.feed(&status("0")), ["ACK.R01#2 AA 11", "DTV.R01#3 START_CONTINUOUS"]);
}

#[test]
fn operators_are_sent_whole_to_a_device_that_takes_a_list_or_asks_for_it() {
    let list: String = (0..7).map(|n| format!("NURSE {n};Roe & Co;2\n")).collect();
    let wanted = ReceiverConfig { operators: operators::parse(&list).unwrap(), ..ReceiverConfig::default() };
    let small = hello(&["START_CONTINUOUS"], "60").replace("16000", "1000");
    let takes = small.replace("<DSC>", "<DSC><DSC.topics_supported_cd V=\"OP_LST\" />");
    let mut bench = Bench::with(wanted.clone());
    bench.feed(&takes);
    assert_eq!(bench.feed(&status("0")), ["ACK.R01#2 AA 11", "OPL.R01#3 NURSE 0"]);
    assert_eq!(bench.feed(&answer("3", "AA", "")), ["OPL.R01#4 NURSE 5"], "no message is too large for it");
    assert_eq!(bench.feed(&answer("4", "AA", "")), ["EOT.R01#5 OP_LST", "DTV.R01#6 START_CONTINUOUS"]);
    assert_eq!(bench.events, []);

    let mut bench = Bench::with(wanted.clone());
    bench.feed(&takes);
    bench.feed(&status("0"));
    assert_eq!(bench.feed(&answer("3", "AE", "")), ["DTV.R01#4 START_CONTINUOUS"], "what is refused is not forced");
    assert_eq!(bench.events.last(), Some(&Event::Refused("the device did not take the operator list")));

    let mut bench = Bench::with(wanted);
    bench.feed(&small);
    bench.feed(&status("0"));
    bench.feed(&answer("3", "AA", ""));
    let asks = message("REQ.R01", "20", "<REQ><REQ.request_cd V=\"OP_LST\" /></REQ>");
    assert_eq!(bench.feed(&asks), ["ACK.R01#4 AA 20", "OPL.R01#5 NURSE 0"]);
}

#[test]
fn a_device_that_cannot_send_by_itself_is_dismissed() {
    let mut bench = Bench::new();
    bench.feed(&hello(&[], "60"));
    bench.feed(&status("1"));
    assert_eq!(bench.feed(&end_of_topic("3")), ["END.R01#4 NRM"]);
    bench.feed(&answer("4", "AA", ""));
    assert_eq!(bench.closed, [ENDED]);
}

#[test]
fn cannot_now_is_no_error() {
    let mut bench = Bench::new();
    bench.feed(&hello(&["START_CONTINUOUS"], "60"));
    bench.feed(&status("1"));
    let escape = message("ESC.R01", "12", "<ESC><ESC.esc_control_id V=\"3\" /><ESC.detail_cd V=\"OTH\" /></ESC>");
    assert_eq!(bench.feed(&escape), ["DTV.R01#4 START_CONTINUOUS"]);
    assert_eq!(bench.events, [Event::Odd("the device cannot do now what it was asked")]);
}

#[test]
fn an_error_code_is_seen_behind_any_answer() {
    for (code, error, expected) in [
        ("AA", "300", Event::Odd("the device accepted what the host said, with an error code")),
        ("AE", "200", Event::Refused("the device refused what the host said")),
    ] {
        let mut bench = Bench::new();
        bench.feed(&hello(&["START_CONTINUOUS"], "60"));
        bench.feed(&status("0"));
        bench.feed(&answer("3", code, error));
        assert_eq!(bench.events, [expected]);
        assert_eq!(bench.feed(&observation("12")), ["ACK.R01#4 AA 12"], "what comes is taken all the same");
    }
}

#[test]
fn what_is_not_well_formed_is_answered_and_not_kept() {
    let good = observation("12");
    for (bad, id) in [
        (good.replace("</PT>", "</XX>"), "12 "),
        (good.replace("V=\"5.10\"", "V=5.10"), "12 "),
        (good.replace("5.10", "&five;"), "12 "),
        (good.replace("<OBS.R01>", "<!DOCTYPE OBS.R01 [<!ENTITY a \"b\">]><OBS.R01>"), ""),
        (good.replace("</OBS.R01>", ""), "12 "),
        (good.replace("<HDR.control_id V=\"12\" />", ""), ""),
    ] {
        let mut bench = Bench::continuous();
        let said = bench.feed(&format!("{bad}{}", observation("13")));
        assert!(said[0].starts_with(&format!("ACK.R01#4 AE {id}10")), "{said:?}");
        assert_eq!(said[1], "ACK.R01#5 AA 13", "{bad}");
        assert_eq!(bench.kept.len(), 1);
        assert!(matches!(bench.events[..], [Event::Refused(_)]), "{:?}", bench.events);
    }
}

#[test]
fn vendors_messages_and_events_are_acknowledged_and_counted() {
    let mut bench = Bench::continuous();
    assert_eq!(bench.feed(&message("ACME.STATE", "12", "<X/>")), ["ACK.R01#4 AA 12"]);
    assert_eq!(bench.feed(&message("EVS.R01", "13", "<EVT/>")), ["ACK.R01#5 AA 13"]);
    assert_eq!(bench.feed(&message("REQ.R01", "14", "<REQ/>")), ["ESC.R01#6 14"]);
    assert_eq!(bench.feed(&message("OBS.R07", "15", "")), ["ACK.R01#7 AA 15"]);
    assert_eq!((bench.events.len(), bench.kept.len()), (3, 1), "unknown observations are kept");
}

#[test]
fn silence_is_bounded_when_something_is_due() {
    let silent = "the device was silent for longer than its timeout";
    let mut bench = Bench::new();
    bench.feed(&hello(&["START_CONTINUOUS"], "20"));
    bench.feed(&status("1"));
    bench.wait(Duration::from_secs(19));
    bench.feed(&observation("12"));
    bench.wait(Duration::from_secs(19));
    assert!(bench.closed.is_empty());
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.closed, [silent]);

    let mut bench = Bench::continuous();
    bench.wait(Duration::from_secs(86_400));
    assert!(bench.closed.is_empty(), "who keeps nothing alive may be silent");
    bench.feed(&message("KPA.R01", "12", ""));
    bench.wait(Duration::from_secs(120));
    assert_eq!(bench.closed, [silent]);
}

#[test]
fn i10_a_document_is_bounded_in_bytes_and_in_time() {
    let config = ReceiverConfig { document_max: 8192, ..ReceiverConfig::default() };
    let mut bench = Bench::with(config);
    bench.feed(&hello(&["START_CONTINUOUS"], "60"));
    let long = observation("12").replace("</SVC>", &format!("{}</SVC>", "<NTE V=\"x\"/>".repeat(2000)));
    for part in long.as_bytes().chunks(100) {
        bench.feed_bytes(part);
        assert!(bench.receiver.bytes_held() <= 8192);
    }
    assert_eq!(bench.said.last().unwrap(), "ACK.R01#2 AE 12 207");
    assert_eq!(bench.receiver.bytes_held(), 0);
    bench.feed("<OBS.R01><!-- never ");
    bench.wait(Duration::from_secs(31));
    assert_eq!(bench.closed, ["a document did not end in time"]);
    assert_eq!((bench.receiver.bytes_held(), bench.receiver.poll_timeout()), (0, None));
}

#[test]
fn what_had_come_whole_is_kept_when_the_line_goes_away() {
    let mut bench = Bench::continuous();
    bench.held = true;
    bench.feed(&format!("{}{}<OBS.R01>", observation("12"), observation("13")));
    bench.held = false;
    bench.receiver.handle_disconnect(bench.now);
    let token = bench.open.remove(0);
    bench.answer_custody(token);
    bench.settle();
    assert_eq!((bench.kept.len(), bench.said.len()), (2, 3), "kept, and nothing more is said");
    assert_eq!(bench.events, [Event::Odd("the line went away inside a document")]);
}

#[test]
fn a_damaged_character_tears_its_document_only() {
    let mut bench = Bench::continuous();
    let text = observation("12");
    let (head, tail) = text.split_at(200);
    bench.feed(head);
    bench.receiver.handle_damage(bench.now);
    assert_eq!(bench.feed(tail), ["ACK.R01#4 AE 12 100"]);
    bench.receiver.handle_damage(bench.now);
    assert_eq!(bench.feed(&observation("13")), ["ACK.R01#5 AA 13"]);
}
