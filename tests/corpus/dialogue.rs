//! Captured dialogues about orders, played to the machine of a link: it is fed the instrument's side, with the orders
//! that the captured host sent, and what we say is compared with what that host said, field by field. Every difference
//! stands here with its reason.
//!
//! | capture | what it can be used for |
//! |---|---|
//! | `roche-cobas-psm/order_download_session.txt` | all of it: orders nobody asked for, both sides |
//! | `roche-cobas-e411/roche_enquiry.txt`, `roche_query_for_non_existent_sample.txt` | the question; of the host only its `ACK` was logged, and both questions are taken back (`Q.13` = `A`), so nothing else is to be said |
//! | `_no-licence/sat5000-query/query.astm` | nothing here: a bare question of an instrument that no driver knows, no host |
//! | `immucor-galileo-echo/order.astm` | nothing here: a bare order, whether it was asked for is not told |
//! | `_no-licence/siemens-dca-vantage-poct1a` | both sides; POCT1-A has no orders in it, and `corpus.rs` plays it |

use crate::{Kept, folder};
use afferent::clinical::{Coding, OrderNumber, OrderedPatient, OrderedTest, Patient, Phi, Specimen, WorkOrder};
use afferent::driver::{Context, Driver, Registry, query, worklist};
use afferent::wire::astm::{ACK, ENQ, EOT, ReceiverConfig, Role, STX, SenderConfig, Station};
use afferent::wire::{Event, Output, Token};
use std::time::{Duration, Instant};

const SESSION: &str = "roche-cobas-psm/order_download_session.txt";

/// Record, field, and why we do not write what the captured host wrote there.
const DIFFERENCES: &[(&str, usize, &str)] = &[
    ("P", 24, "the time of the message once more, in a field for the patient's admission"),
    ("P", 33, "the clinic's name in free words, which no order says in that way"),
];

/// Records of the captured host that we have none for, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("O|4|40082175||^^8220|", "a test that stands in record 3 already, with its code in a component nobody reads"),
    ("C|1|L|", "patient and clinic once more, as a comment"),
];

/// A link's machine with what it says, driven by hand.
struct Link {
    station: Station,
    now: Instant,
    said: Vec<Vec<u8>>,
    entry: Vec<u8>,
    accepted: bool,
}

impl Link {
    fn of(driver: &Driver) -> Link {
        let standard = SenderConfig::default();
        let sender = SenderConfig {
            role: Role::Computer,
            packing: driver.wire().packing.unwrap_or(standard.packing),
            ..standard
        };
        let now = Instant::now();
        let station = Station::new(now, ReceiverConfig::default(), sender, 1);
        Link { station, now, said: Vec::new(), entry: Vec::new(), accepted: false }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.station.handle_bytes(self.now, bytes);
        self.collect();
    }

    /// Nobody says anything for a minute.
    fn silence(&mut self) {
        self.now += Duration::from_secs(60);
        self.station.handle_timeout(self.now);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(output) = self.station.poll_output() {
            match output {
                Output::Send(bytes) => self.said.push(bytes),
                Output::Persist(part) => {
                    self.entry.extend_from_slice(&part.bytes);
                    self.station.handle_custody(self.now, Ok(&Kept(part.token)));
                }
                Output::Event(Event::Accepted(_)) => self.accepted = true,
                _ => {}
            }
        }
    }
}

/// The text of a frame, without number and checksum; `None` for a control character.
fn text(said: &[u8]) -> Option<String> {
    let end = said.iter().position(|byte| matches!(byte, 3 | 0x17))?;
    (said.first() == Some(&STX)).then(|| String::from_utf8_lossy(&said[2..end]).trim_end_matches('\r').to_string())
}

/// What a side of the captured session wrote, in order.
fn side(log: &str, name: &str) -> Vec<Vec<u8>> {
    let spelled = log.lines().filter_map(|line| line.split_once(&format!("{name} -> ")).map(|(_, said)| said.trim()));
    let controls = [("[ENQ]", "\x05"), ("[ACK]", "\x06"), ("[EOT]", "\x04"), ("[STX]", "\x02"), ("[ETX]", "\x03")];
    let line_ends = [("[CR]", "\r"), ("[LF]", "\n")];
    let plain = |said: &str| {
        controls.iter().chain(&line_ends).fold(said.to_string(), |said, (name, byte)| said.replace(name, byte))
    };
    spelled.map(|said| plain(said).into_bytes()).collect()
}

/// The order the captured host sent, as the EHR would have placed it.
fn ordered() -> WorkOrder {
    let patient = Patient {
        id: Phi::new("18543663"),
        family: Phi::new("DOE"),
        given: Phi::new("JOHN"),
        birth_date: Phi::new("19970207"),
        sex: "M".to_string(),
        ..Patient::default()
    };
    let test = |code| OrderedTest { universal_service_id: Coding::local(code, ""), alternate: None };
    WorkOrder {
        placer_order_number: OrderNumber::new("1"),
        patient: OrderedPatient { patient, other_ids: Vec::new() },
        specimen: Specimen { id: Phi::new("40082175"), ..Specimen::default() },
        tests: ["8687", "8685", "8220"].map(test).to_vec(),
        priority: "R".to_string(),
        ..WorkOrder::default()
    }
}

#[test]
fn a_captured_worklist_session_gets_the_records_its_host_sent() {
    let Some(root) = folder() else { return };
    let log = std::fs::read_to_string(root.join(SESSION)).unwrap();
    let (host, instrument) = (side(&log, "Host"), side(&log, "HCA"));
    assert!(instrument.iter().all(|said| *said == [ACK]), "the instrument only acknowledges");

    let registry = Registry::builtin();
    let driver = registry.get("roche-cobas-psm").unwrap();
    let codes = ["8687", "8685", "8220"].map(|code| (code.to_string(), vec![code.to_string()]));
    let site = worklist::Site { codes: codes.into_iter().collect(), charset: None };
    let message = worklist::push(driver, &site, &[ordered()], false, "20210108143403").unwrap();
    assert!(message.left_out.is_empty(), "{:?}", message.left_out);
    let mut link = Link::of(driver);
    link.station.send(link.now, Token(1), message.records).unwrap();
    link.silence();
    for said in &instrument[..instrument.len() - LEFT_OUT.len()] {
        link.feed(said);
    }
    assert!(link.accepted, "every record was acknowledged");

    assert_eq!((&link.said[0], link.said.last()), (&vec![ENQ], Some(&vec![EOT])));
    assert_eq!((&host[0], host.last()), (&vec![ENQ], Some(&vec![EOT])));
    let records = |said: &[Vec<u8>]| said.iter().filter_map(|said| text(said)).collect::<Vec<_>>();
    let (ours, mut theirs) = (records(&link.said), records(&host));
    for (start, why) in LEFT_OUT {
        let at = theirs.iter().position(|record| record.starts_with(start));
        theirs.remove(at.unwrap_or_else(|| panic!("{start} is in the capture: {why}")));
    }
    assert_eq!(ours.len(), theirs.len(), "{ours:?}");
    let mut seen = Vec::new();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let fields = |record: &str| record.split('|').map(str::to_string).collect::<Vec<_>>();
        let (ours, theirs) = (fields(ours), fields(theirs));
        for at in 0..ours.len().max(theirs.len()) {
            let own = ours.get(at).map_or("", String::as_str);
            let other = theirs.get(at).map_or("", String::as_str);
            if own == other {
                continue;
            }
            let difference = DIFFERENCES.iter().find(|(record, field, _)| *record == ours[0] && *field == at + 1);
            assert!(difference.is_some() && own.is_empty(), "{} field {}: {own} and not {other}", ours[0], at + 1);
            seen.push(difference.unwrap());
        }
    }
    assert_eq!(seen, DIFFERENCES.iter().collect::<Vec<_>>(), "every difference is one of the capture");
}

/// The captured question as the analyzer sent it: the logger turned each CR into LF, and left ENQ and EOT out.
fn question(root: &std::path::Path, name: &str) -> Vec<u8> {
    let log = std::fs::read(root.join("roche-cobas-e411").join(name)).unwrap();
    let start = log.iter().position(|byte| *byte == STX).unwrap();
    assert!(log[..start].iter().all(|byte| *byte == ACK), "of the host only ACK was logged");
    let end = log.iter().position(|byte| *byte == 3).unwrap();
    let frame = log[start..end + 3].iter().map(|byte| if *byte == b'\n' { b'\r' } else { *byte });
    frame.chain(*b"\r\n").collect()
}

#[test]
fn captured_questions_get_the_acknowledgments_their_host_gave_and_nobodys_orders() {
    let Some(root) = folder() else { return };
    let registry = Registry::builtin();
    let driver = registry.get("roche-cobas-e411").unwrap();
    for name in ["roche_enquiry.txt", "roche_query_for_non_existent_sample.txt"] {
        let frame = question(&root, name);
        let mut link = Link::of(driver);
        link.feed(&[ENQ]);
        link.feed(&frame);
        link.feed(&[EOT]);
        assert_eq!(link.said, [vec![ACK], vec![ACK]], "{name}: the captured checksum holds");
        let context = Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true };
        let asked = query::query(driver, &link.entry, &context).unwrap();
        assert!(asked.cancels, "{name}: taken back, so there is nothing to answer");
        link.silence();
        assert_eq!(link.said.len(), 2, "{name}: and nothing is");

        // Had it not been taken back: orders for the tube, and none for the barcode that was not read, whoever has an
        // order under the number the analyzer made up for it.
        let text = String::from_utf8_lossy(&link.entry).replace("||||||||A\r", "||||||||O\r");
        let asked = query::query(driver, strip(&text).as_bytes(), &context).unwrap();
        let id = if name == "roche_enquiry.txt" { "0000000387" } else { "@192" };
        let mut order = ordered();
        order.specimen.id = Phi::new(id);
        let codes = [("8687".to_string(), vec!["10".to_string()])].into_iter().collect();
        let site = worklist::Site { codes, charset: None };
        let answer = worklist::answer(driver, &site, &asked, &[order], "20260101120000");
        let is_told = answer.told.len() == 1;
        assert_eq!(is_told, id != "@192", "{name}");
        let written =
            answer.records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect::<Vec<_>>();
        // As the maker's manual prints both answers (cobas e 411 Host Interface Manual 2.3, page 51).
        let order = match is_told {
            true => "O|1|0000000387|587^0^2^^S1^SC|^^^10^|R||||||A||||1||||||||||O",
            false => "O|1|@192|192^0^5^^S1^SC||R||||||A||||1||||||||||O",
        };
        let header = r"H|\^&|||host^1|||||cobas-e411|TSDWN^REPLY|P|1";
        assert_eq!(written, [header, "P|1", order, "L|1|N"], "{name}");
    }
}

/// The records of one frame, bare.
fn strip(frame: &str) -> String {
    let from = frame.find("H|").unwrap();
    frame[from..frame.find('\x03').unwrap()].to_string()
}
