//! Promises of the probe, in virtual time. A line is simulated bit by bit: characters are laid out at one speed and
//! sampled at another, as a UART does.

use super::findings::{Findings, First, Place};
use super::*;
use crate::driver::Registry;
use crate::link::config::Parity;
use crate::wire::astm::encode_frame;
use std::time::Instant;

#[path = "../../../tests/support/corpus.rs"]
mod corpus;

/// How a simulated instrument has set its port.
#[derive(Debug, Clone, Copy)]
struct Sender {
    baud: u64,
    data_bits: u32,
    parity: Parity,
}

const NONE: Parity = Parity::None;

fn sender(baud: u64, data_bits: u32, parity: Parity) -> Sender {
    Sender { baud, data_bits, parity }
}

impl Sender {
    /// The levels of the line, one for each bit, high while idle.
    fn levels(self, bytes: &[u8]) -> Vec<bool> {
        let mut levels = vec![true; 4];
        for byte in bytes {
            let bits = (0..self.data_bits).map(|bit| byte >> bit & 1 == 1);
            let odd = bits.clone().filter(|bit| *bit).count() % 2 == 1;
            levels.push(false);
            levels.extend(bits);
            match self.parity {
                Parity::None => {}
                Parity::Even => levels.push(odd),
                Parity::Odd => levels.push(!odd),
            }
            levels.push(true);
            if self.data_bits + u32::from(self.parity != NONE) < 8 {
                levels.push(true);
            }
        }
        levels.extend([true; 12]);
        levels
    }

    /// What a port at `baud`, eight data bits without parity, makes of `bytes`.
    fn heard_at(self, bytes: &[u8], baud: u64) -> Vec<Character> {
        let levels = self.levels(bytes);
        // Times in units of one bit here and one bit there, halved: everything is a whole number.
        let level = |time: u64| levels.get((time / (2 * baud)) as usize).copied().unwrap_or(true);
        let (step, end) = (2 * self.baud, levels.len() as u64 * 2 * baud);
        let mut heard = Vec::new();
        let mut time = 0;
        loop {
            while time < end && !level(time) {
                time += 1.max(baud / 8);
            }
            while time < end && level(time) {
                time += 1.max(baud / 8);
            }
            if time >= end {
                return heard;
            }
            let sample = |bit: u64| level(time + step / 2 + bit * step);
            if sample(0) {
                // Too short for a start bit.
                time += step / 2;
                continue;
            }
            let byte = (0..8).fold(0, |byte, bit| byte | u8::from(sample(bit + 1)) << bit);
            heard.push(Character { byte, damaged: !sample(9) });
            time += step / 2 + 9 * step;
        }
    }
}

fn place() -> Place {
    Place::Serial("/dev/ttyUSB0".to_string())
}

/// Lets an instrument send the same again and again, every eleven seconds, until the probe has decided.
fn probed(sender: Sender, burst: &[u8], manner: Manner) -> (Findings, usize, Vec<u8>) {
    let mut now = Instant::now();
    let mut probe = Probe::serial(now, SPEEDS[0], false, manner);
    let (mut baud, mut sent) = (u64::from(SPEEDS[0]), Vec::new());
    for bursts in 1..=24 {
        for piece in sender.heard_at(burst, baud).chunks(64) {
            now += Duration::from_millis(60);
            probe.hear(now, piece);
            let before = baud;
            act(&mut probe, &mut baud, &mut sent);
            if baud != before {
                break;
            }
        }
        now += Duration::from_millis(400);
        probe.handle_timeout(now);
        act(&mut probe, &mut baud, &mut sent);
        if probe.is_decided() {
            return (probe.findings(place(), &Registry::builtin()), bursts, sent);
        }
        now += Duration::from_secs(11);
    }
    (probe.findings(place(), &Registry::builtin()), 25, sent)
}

fn act(probe: &mut Probe, baud: &mut u64, sent: &mut Vec<u8>) {
    while let Some(action) = probe.poll_action() {
        match action {
            Action::Speed(speed) => *baud = speed.into(),
            Action::Send(bytes) => sent.extend(bytes),
        }
    }
}

/// Two frames of an instrument there is a driver for.
fn session() -> Vec<u8> {
    let header = b"H|\\^&|||c311^1|||||host|RSUPL^REAL|P|1\r";
    let result = b"O|1|SYN-1|^50001^1^^S1^SC|^^^717|R||||||N||||1|||||||20260301||||O\rR|1|^^^717|5.4|mmol/L||N||F\r";
    [vec![ENQ], encode_frame(1, header, false), encode_frame(2, result, true), vec![EOT]].concat()
}

#[test]
fn speed_and_layout_are_found_from_one_instruments_bits() {
    let burst = session();
    for baud in SPEEDS {
        for (data_bits, parity) in [(8, NONE), (7, Parity::Even), (7, Parity::Odd), (8, Parity::Even), (8, Parity::Odd)]
        {
            let set = sender(baud.into(), data_bits, parity);
            let (found, bursts, _) = probed(set, &burst, Manner::Listen);
            let setting = found.setting.unwrap_or_else(|| panic!("{set:?}: {found:?}"));
            assert_eq!(
                (setting.baud, u32::from(setting.data_bits), setting.parity),
                (baud, data_bits, parity),
                "{found:?}"
            );
            assert_eq!(found.driver.as_deref(), Some("roche-cobas-c311"), "{set:?}");
            assert!(bursts <= SPEEDS.len() + 1, "{set:?} took {bursts} bursts");
        }
    }
}

/// What a printer's port gets: no frame, no header, no checksum.
const PRINTED: &[u8] =
    b"GLUCOSE   5.4 mmol/L  H\r\nUREA      6.1 mmol/L\r\nSODIUM    140 mmol/L\r\nCHLORIDE  101 mmol/L\r\n";
const SEPARATED: &[u8] = b"1;SYN-1;GLU;5.4;mmol/L\r\n2;SYN-2;GLU;6.1;mmol/L\r\n3;SYN-3;GLU;4.9;mmol/L\r\n";

/// A line of results between STX and ETX with the check character behind it.
const LINES_OF_AU: &[u8] = b"\x02D 000102 0007                      SYN-0001    E001  5.62  002 18.20H \x03\x5A";

#[test]
fn bare_lines_tell_speed_and_layout_too() {
    for (burst, spoken) in [(PRINTED, Spoken::Printed), (SEPARATED, Spoken::Csv)] {
        for baud in [1200, 2400, 4800, 9600, 19200, 115_200] {
            // Seven bits without parity come with two stop bits; with one, a port that expects eight loses its step.
            for (data_bits, parity) in [(8, NONE), (7, Parity::Even), (7, NONE)] {
                let set = sender(baud, data_bits, parity);
                let (found, bursts, sent) = probed(set, burst, Manner::Listen);
                let setting = found.setting.unwrap_or_else(|| panic!("{set:?}: {found:?}"));
                let layout = (u64::from(setting.baud), u32::from(setting.data_bits), setting.parity);
                assert_eq!((layout, found.spoken), ((baud, data_bits, parity), Some(spoken)), "{bursts} {found:?}");
                assert!(sent.is_empty(), "nothing is said to a printer: {sent:02X?}");
            }
        }
    }
}

#[test]
fn lines_get_a_link_too_and_an_instrument_that_begins_them_in_its_own_way_its_driver() {
    for (burst, driver) in [(PRINTED, None), (LINES_OF_AU, Some("beckman-au"))] {
        let (found, ..) = probed(sender(9600, 8, NONE), burst, Manner::Listen);
        assert_eq!((found.driver.as_deref(), found.sender.as_ref()), (driver, None), "{found:?}");
        let text = format!(
            "{}\n[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:2575\"\n",
            found.link.as_deref().unwrap()
        );
        assert!(text.contains("protocol = \"lines\""), "{text}");
        let link = crate::config::parse("probe.toml", &text).unwrap().config.links.remove(0);
        assert_eq!(link.driver.as_deref(), driver);
        assert_eq!(found.next.iter().any(|next| next.contains("drivers/README.md")), driver.is_none(), "{found:?}");
    }
}

#[test]
fn dicom_and_tls_are_known_and_no_link_is_written_for_them() {
    // An association request (PS3.8, 9.3.2) as far as its application context item.
    let mut associate = vec![1, 0, 0, 0, 0, 0xCE, 0, 1, 0, 0];
    associate.extend(b"ARCHIVE         ANALYZER        ");
    associate.extend([0; 32]);
    associate.extend([0x10, 0, 0, 21]);
    associate.extend(b"1.2.840.10008.3.1.1.1");
    let file = [&[0; 128][..], b"DICM\x02\0\0\0"].concat();
    // Client hellos of TLS 1.2 (record version 3.1) and of a client that says 3.3.
    let hello = |minor| [&[0x16, 3, minor, 0, 0x2F, 1, 0, 0, 0x2B, 3, 3][..], &[0x5A; 32]].concat();
    for (bytes, spoken) in
        [(associate, Spoken::Dicom), (file, Spoken::Dicom), (hello(1), Spoken::Tls), (hello(3), Spoken::Tls)]
    {
        let mut probe = Probe::network(Instant::now(), Manner::Provoke);
        probe.hear_bytes(Instant::now(), &bytes);
        probe.handle_timeout(Instant::now() + QUIET);
        assert_eq!(probe.poll_action(), None, "nothing is said to it");
        let found = probe.findings(Place::Listen("0.0.0.0:4001".to_string()), &Registry::builtin());
        assert_eq!((found.spoken, found.link.as_ref()), (Some(spoken), None), "{found:?}");
        assert!(!found.next.is_empty(), "{found:?}");
    }
    // A record type and versions TLS does not have.
    for bytes in [[0x16, 3, 9, 0, 0x2F, 1, 0, 0, 0, 0, 0, 0], [0x17, 2, 1, 0, 0x2F, 1, 0, 0, 0, 0, 0, 0]] {
        assert_ne!(spoken::recognise(&bytes).map(|found| found.spoken), Some(Spoken::Tls));
    }
}

#[test]
fn an_instrument_that_only_asks_for_the_line_is_found_and_told_that_we_are_busy() {
    for baud in [9600, 19200, 4800, 2400, 38400, 115_200] {
        for (data_bits, parity) in [(8, NONE), (8, Parity::Even)] {
            let set = sender(baud, data_bits, parity);
            let (found, bursts, sent) = probed(set, &[ENQ], Manner::Listen);
            assert_eq!(found.spoken, Some(Spoken::Astm), "{set:?} {found:?}");
            assert_eq!(u64::from(found.setting.unwrap().baud), baud, "{set:?} {found:?}");
            assert!(sent.iter().all(|byte| *byte == NAK), "nothing but NAK is said: {sent:02X?}");
            assert!(bursts <= 12, "{set:?} took {bursts} bursts");
        }
    }
}

/// A probe that hears nothing for a minute, but what `answer` makes of each byte it sends.
fn alone(
    manner: Manner,
    lines: Option<ModemLines>,
    errors: Option<LineErrors>,
    answer: fn(u8) -> Option<u8>,
) -> Findings {
    let mut now = Instant::now();
    let end = now + Duration::from_secs(60);
    let mut probe = Probe::serial(now, SPEEDS[0], false, manner);
    probe.see_port(errors, lines);
    while now < end && !probe.is_decided() {
        now = probe.poll_timeout().unwrap_or(end).max(now + Duration::from_millis(10)).min(end);
        probe.handle_timeout(now);
        while let Some(action) = probe.poll_action() {
            if let Action::Send(bytes) = action {
                assert_ne!(manner, Manner::Listen, "a probe that listens says nothing into silence");
                let heard: Vec<u8> = bytes.iter().filter_map(|byte| answer(*byte)).collect();
                probe.hear_bytes(now + Duration::from_millis(20), &heard);
            }
        }
    }
    probe.findings(place(), &Registry::builtin())
}

fn told(found: &Findings) -> String {
    let says: Vec<&str> = found.evidence.iter().map(|evidence| evidence.says.as_str()).collect();
    format!("{}; {}", says.join("; "), found.next.join("; "))
}

#[test]
fn a_crossed_cable_is_told_from_silence() {
    let nobody = |_| None;
    let low = Some(ModemLines::default());
    let high = Some(ModemLines { cts: true, ..ModemLines::default() });
    let counted = Some(LineErrors::default());
    let dead = alone(Manner::Provoke, low, counted, nobody);
    assert_eq!((dead.first, dead.spoken, dead.link.as_ref()), (First::Nobody, None, None));
    for word in ["our own ENQ was not answered", "all handshake lines are low", "crossed (null modem) cable"] {
        assert!(told(&dead).contains(word), "{word}: {}", told(&dead));
    }
    let silent = told(&alone(Manner::Listen, high, counted, nobody));
    assert!(silent.contains("the other side has power") && !silent.contains("crossed"), "{silent}");
    assert!(silent.contains("--provoke"), "{silent}");
    let echo = told(&alone(Manner::Provoke, None, None, Some));
    assert!(echo.contains("what we send comes back") && echo.contains("this port keeps no error counters"), "{echo}");
    let breaks = LineErrors { breaks: 3, ..LineErrors::default() };
    let inverted = told(&alone(Manner::Listen, low, Some(breaks), nobody));
    assert!(inverted.contains("held low") && inverted.contains("TTL"), "{inverted}");
}

#[test]
fn an_instrument_that_waits_for_us_is_found_by_its_answer() {
    let found = alone(Manner::Provoke, None, None, |byte| (byte == ENQ).then_some(ACK));
    assert_eq!((found.first, found.spoken), (First::Us, Some(Spoken::Astm)), "{}", told(&found));
}

/// An instrument that follows LIS01-A2 says what it gets to say before it gives up, one breath after each answer.
fn grants(manner: Manner) -> (Vec<u8>, Findings) {
    let mut now = Instant::now();
    let mut probe = Probe::network(now, manner);
    let (mut answers, mut says) = (Vec::new(), vec![ENQ]);
    let frame = encode_frame(1, b"H|\\^&|||c311^1\r", false);
    for _ in 0..4 {
        probe.hear_bytes(now, &says);
        now += Duration::from_secs(1);
        probe.handle_timeout(now);
        let Some(Action::Send(answer)) = probe.poll_action() else { break };
        says = if answer == [ACK] || answers.first() == Some(&ACK) { frame.clone() } else { vec![ENQ] };
        answers.extend(answer);
    }
    (answers, probe.findings(Place::Listen("0.0.0.0:4001".to_string()), &Registry::builtin()))
}

#[test]
fn i1_no_frame_is_ever_acknowledged() {
    let (answers, found) = grants(Manner::Listen);
    assert_eq!(answers, [NAK; 4], "busy, each time");
    assert_eq!(found.driver, None);
    let (answers, found) = grants(Manner::Provoke);
    assert_eq!(answers, [ACK, NAK, NAK, NAK], "the line is granted, no frame is taken");
    assert_eq!(found.driver.as_deref(), Some("roche-cobas-c311"));
    assert_eq!(grants(Manner::Grant).0, answers, "the same without a word of our own");
    assert_eq!(grants(Manner::Overhear).0, Vec::<u8>::new());
    let message = b"\x0bMSH|^~\\&|ACME|LAB|||20260101||ORU^R01|1|P|2.5.1\r\x1c\r";
    let mut probe = Probe::network(Instant::now(), Manner::Provoke);
    probe.hear_bytes(Instant::now(), message);
    probe.handle_timeout(Instant::now() + QUIET);
    assert_eq!((probe.poll_action(), probe.is_decided()), (None, true), "and no message either");
}

#[test]
fn whoever_joins_in_the_middle_waits_for_the_header() {
    let now = Instant::now();
    let mut probe = Probe::network(now, Manner::Overhear);
    probe.hear_bytes(now, &encode_frame(2, b"R|1|^^^717|5.4|mmol/L\r", true));
    probe.handle_timeout(now + QUIET);
    assert!(!probe.is_decided(), "a right frame that names nobody");
    probe.hear_bytes(now + QUIET, &session());
    assert!(probe.is_decided());
    let found = probe.findings(Place::Link("chemistry".to_string()), &Registry::builtin());
    assert_eq!(found.driver.as_deref(), Some("roche-cobas-c311"));
}

#[test]
fn the_table_that_is_written_is_a_sound_link() {
    let (found, ..) = probed(sender(19200, 7, Parity::Even), &session(), Manner::Listen);
    let config = format!("{}\n[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:2575\"\n", found.link.unwrap());
    let link = crate::config::parse("probe.toml", &config).unwrap().config.links.remove(0);
    let settings = (link.baud, link.data_bits, link.parity, link.stop_bits, link.driver.as_deref());
    assert_eq!(settings, (Some(19200), Some(7), Some(Parity::Even), Some(1), Some("roche-cobas-c311")));
}

#[test]
fn findings_say_nothing_of_a_patient() {
    let burst = [&session()[..], b"P|1||PT-CANARY||DOE^JANE\r"].concat();
    let (found, ..) = probed(sender(9600, 8, NONE), &burst, Manner::Listen);
    assert!(!serde_json::to_string(&found).unwrap().contains("CANARY"));
}

#[test]
fn no_wrong_speed_makes_sense_of_any_capture() {
    for (name, raw) in captures() {
        let start = &raw[..raw.len().min(JUDGED_AT)];
        for sent in [4800, 9600, 19200, 115_200] {
            for heard in SPEEDS.iter().copied().filter(|speed| u64::from(*speed) != sent) {
                let characters = sender(sent, 8, NONE).heard_at(start, heard.into());
                let reading = reading::read(&characters);
                assert!(
                    reading.score() < PLAUSIBLE,
                    "{name} sent at {sent} and heard at {heard}: {:?}",
                    reading.recognised
                );
            }
        }
    }
}

fn captures() -> Vec<(String, Vec<u8>)> {
    let Some(root) = corpus::folder("analyzers") else { return Vec::new() };
    let mut open = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            match entry.is_dir() {
                true => open.push(entry),
                false => found
                    .push((entry.strip_prefix(&root).unwrap().display().to_string(), std::fs::read(&entry).unwrap())),
            }
        }
    }
    found.sort();
    found
}
