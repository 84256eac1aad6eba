//! Where bytes from outside come in, and what must hold whatever they are. Used by the fuzz targets beside this file
//! and by `tests/robustness.rs`, which runs them briefly with every test run.

use afferent::config::{self, LoadError};
use afferent::driver::{self, Context, Driver, Registry};
use afferent::wire::dimse::{self, Association};
use afferent::wire::{Custody, Output, Persist, Protocol, Refusal, Refused, Token, astm, line, mllp, poct1a};
use jiff::tz::TimeZone;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// More outputs than this for one input mean a machine that talks to itself.
const OUTPUTS_PER_BYTE_MAX: usize = 16;
/// Limit for the framer: small, so that it is reached.
const MESSAGE_MAX: usize = 4096;

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::builtin);

/// The journal's word, in a test.
struct Kept(Token);

impl Custody for Kept {
    fn token(&self) -> Token {
        self.0
    }
}

/// Feeds a machine part by part, with time between them, and has everything it says taken; then the line is cut. The
/// machines have the same verbs and no trait. With bit 5 of the plan some deadlines pass.
macro_rules! drive {
    ($machine:ident, $bytes:expr, $plan:expr, $(holds: $held_max:expr,)? |$now:ident, $index:ident, $output:ident| $take:block) => {
        let mut $now = Instant::now();
        let mut outputs = 0;
        for ($index, part) in split($bytes, $plan).enumerate() {
            $now += Duration::from_millis(u64::from($plan) * 40);
            $machine.handle_bytes($now, part);
            $(assert!($machine.bytes_held() <= $held_max, "too much is held");)?
            while let Some($output) = $machine.poll_output() {
                outputs += 1;
                assert!(outputs <= OUTPUTS_PER_BYTE_MAX * ($bytes.len() + 2), "the machine talks to itself");
                $take
            }
            if let Some(deadline) = $machine.poll_timeout().filter(|_| $plan & 0x20 != 0 && $index % 7 == 6) {
                $now = $now.max(deadline);
                $machine.handle_timeout($now);
            }
        }
        $machine.handle_disconnect($now);
        while $machine.poll_output().is_some() {}
    };
}

/// A receiver of ASTM under this input: the first byte says how the rest is split and when custody is refused.
pub fn astm_link(input: &[u8]) {
    let Some((&plan, bytes)) = input.split_first() else { return };
    let mut machine = astm::Receiver::new(astm::ReceiverConfig::default(), 1);
    drive!(machine, bytes, plan, |now, index, output| {
        match output {
            Output::Persist(part) if plan & 0x10 != 0 && index % 5 == 4 => {
                verbatim(&part, bytes);
                machine.handle_custody(now, Err::<&Kept, _>(Refused { token: part.token, reason: Refusal::Full }));
                // I1: what is not kept is not acknowledged.
                assert!(!matches!(machine.poll_output(), Some(Output::Send(reply)) if reply == [astm::ACK]));
            }
            Output::Persist(part) => {
                verbatim(&part, bytes);
                machine.handle_custody(now, Ok(&Kept(part.token)));
            }
            _ => {}
        }
    });
}

/// A receiver of MLLP under this input.
pub fn mllp_link(input: &[u8]) {
    let Some((&plan, bytes)) = input.split_first() else { return };
    let config = mllp::ReceiverConfig { message_max: MESSAGE_MAX, ..Default::default() };
    let mut machine = mllp::Receiver::new(config, 1);
    drive!(machine, bytes, plan, |now, index, output| {
        if let Output::Persist(part) = output {
            verbatim(&part, bytes);
            assert!(part.bytes.len() <= MESSAGE_MAX);
            machine.handle_custody(now, Ok(&Kept(part.token)));
        }
    });
    framer_does_not_care_about_splits(bytes, plan);
}

/// A POCT1-A host under this input.
pub fn poct1a_link(input: &[u8]) {
    let Some((&plan, bytes)) = input.split_first() else { return };
    let config = poct1a::ReceiverConfig { document_max: MESSAGE_MAX, set_time: true, ..Default::default() };
    let mut machine = poct1a::Receiver::new(config, 1);
    drive!(machine, bytes, plan, holds: 3 * MESSAGE_MAX, |now, index, output| {
        if let Output::Persist(part) = output {
            verbatim(&part, bytes);
            assert!(part.bytes.len() <= MESSAGE_MAX);
            machine.handle_custody(now, Ok(&Kept(part.token)));
        }
    });
}

/// A DICOM listener under this input; with bit 6 of the plan the association is open already.
pub fn dicom_link(input: &[u8]) {
    let Some((&plan, bytes)) = input.split_first() else { return };
    let now = Instant::now();
    let mut machine = Association::accept(now, dimse::Settings::default());
    if plan & 0x40 != 0 {
        let services = [dimse::uid::VERIFICATION, "1.2.840.10008.5.1.4.1.1.2", dimse::uid::MODALITY_WORKLIST];
        let syntaxes = vec![dimse::uid::IMPLICIT_VR_LITTLE_ENDIAN.to_string()];
        let contexts = services.map(|class| (class.to_string(), syntaxes.clone())).to_vec();
        let proposal = dimse::Proposal { contexts, ..Default::default() };
        let mut requestor = Association::request(now, dimse::Settings::default(), &proposal);
        if let Some(dimse::Output::Send(request)) = requestor.poll_output() {
            machine.handle_bytes(now, &request);
        }
    }
    let mut kept = 0;
    drive!(machine, bytes, plan, |now, index, output| {
        match output {
            dimse::Output::Associate(_) => machine.handle_admission(now, Ok(())),
            dimse::Output::Data { bytes: data, .. } => {
                kept += data.len();
                assert!(kept <= bytes.len(), "more is kept than came in");
            }
            dimse::Output::Commit { token } if plan & 0x10 != 0 => {
                machine.handle_custody(now, Err::<&Kept, _>(Refused { token, reason: Refusal::Full }));
            }
            dimse::Output::Commit { token } => machine.handle_custody(now, Ok(&Kept(token))),
            dimse::Output::Ask { token, .. } if index % 3 != 2 => {
                machine.handle_reply(now, token, dimse::Reply::default());
            }
            _ => {}
        }
    });
    assert!(machine.poll_timeout().is_none(), "nothing is waited for on a lost connection");
}

/// A receiver of foreign lines under this input. The first bytes choose how they are framed.
pub fn lines_link(input: &[u8]) {
    let Some(([plan, choice], bytes)) = input.split_first_chunk::<2>() else { return };
    let mark = |text: &[u8]| line::framing::Mark(text.to_vec());
    let stx = || line::Framing { start: mark(b"\x02"), end: vec![mark(b"\x03")], ..Default::default() };
    let check = |form| Some(line::framing::Check { form, ..Default::default() });
    let framing = match choice % 7 {
        0 => stx(),
        1 => line::Framing { check: check(line::framing::CheckForm::Byte), reply: line::framing::Reply::Ack, ..stx() },
        2 => line::Framing { check: check(line::framing::CheckForm::Hex), handshake: true, gather: true, ..stx() },
        3 => line::Framing { end: vec![mark(b"\r"), mark(b"\n")], ..Default::default() },
        4 => line::Framing { first_line: Some("^ID".into()), last_line: Some("^END|\\f".into()), ..Default::default() },
        5 => line::Framing {
            length: Some(line::framing::Length { at: Some(1), digits: 2, bytes: 3, ..Default::default() }),
            ..Default::default()
        },
        _ => line::Framing::by_silence(100),
    };
    let config = line::ReceiverConfig { framing, message_max: MESSAGE_MAX, ..Default::default() };
    let mut machine = line::Receiver::new(config, 1);
    drive!(machine, bytes, *plan, |now, index, output| {
        if let Output::Persist(part) = output {
            assert!(part.bytes.len() <= MESSAGE_MAX);
            machine.handle_custody(now, Ok(&Kept(part.token)));
        }
    });
}

/// ASTM records, framed or not.
pub fn astm_records(input: &[u8]) {
    records(Protocol::Astm, input);
}

/// HL7 v2 messages.
pub fn hl7(input: &[u8]) {
    records(Protocol::Hl7, input);
}

/// POCT1-A documents.
pub fn poct1a(input: &[u8]) {
    records(Protocol::Poct1a, input);
}

/// Tables in files.
pub fn table(input: &[u8]) {
    records(Protocol::Table, input);
}

/// Lines that follow no standard.
pub fn lines(input: &[u8]) {
    records(Protocol::Lines, input);
}

/// A `driver.toml`, and a message read with whatever came of it.
pub fn driver_toml(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(driver) = Driver::parse("fuzzed", text) {
        read_with(
            &driver,
            b"H|\\^&|||X^1|||||||P|1|20260102030405\rP|1\rO|1|S1||^^^T\rR|1|^^^T|1.50|g/L||N||F\rL|1|N\r",
        );
        read_with(&driver, b"Sample ID;Test;Result;Unit\nS1;T;1,50;g/L\n");
        read_with(&driver, b"\x02ID 1;GLU;5.1;mmol/L;H\rK 4.1 mmol/L\r\x03\x00R123456789\x0c");
        read_with(&driver, b"MSH|^~\\&|X|||||| ORU^R01|1|P|2.5.1\rOBR|1|S1\rOBX|1|NM|T^T||1.50|g/L|||||F\r");
    }
}

/// A configuration file.
pub fn configuration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match config::parse("fuzzed.toml", text) {
        Ok(loaded) => drop(loaded.missing.render(false)),
        Err(LoadError::Faults(faults)) => {
            assert!(!faults.is_empty(), "refused without a reason");
            assert!(faults.render(false).contains("error"));
            faults.to_json();
        }
        Err(other) => panic!("{other}"),
    }
}

fn records(protocol: Protocol, input: &[u8]) {
    read_with(REGISTRY.identify(protocol, input), input);
}

fn read_with(driver: &Driver, input: &[u8]) {
    let context = Context { zone: TimeZone::UTC, charset: None, framing: None, complete: true };
    let read = driver::interpret(driver, input, &context);
    // I7: every result is an observation or a refused record.
    let observations: usize = read.reports.iter().map(|report| report.observations.len()).sum();
    assert_eq!(read.inbound_results as usize, observations + read.refused.len());
    // I2: a report is a function of the bytes.
    assert_eq!(driver::interpret(driver, input, &context), read);
}

/// I2: what is kept is what was on the wire.
fn verbatim(part: &Persist, wire: &[u8]) {
    let found = part.bytes.is_empty() || wire.windows(part.bytes.len()).any(|window| window == part.bytes);
    assert!(found, "kept {} bytes that were not on the wire", part.bytes.len());
}

fn framer_does_not_care_about_splits(bytes: &[u8], plan: u8) {
    // Noise is counted, however often it is told.
    let messages = |items: Vec<mllp::Item>| {
        let kept = |item: &mllp::Item| matches!(item, mllp::Item::Message(_) | mllp::Item::TooLong(_));
        items.into_iter().filter(kept).collect::<Vec<_>>()
    };
    let mut whole = mllp::Framer::new(MESSAGE_MAX);
    let mut items = whole.push(bytes);
    items.extend(whole.flush());
    let mut parts = mllp::Framer::new(MESSAGE_MAX);
    let mut split_items: Vec<mllp::Item> = split(bytes, plan).flat_map(|part| parts.push(part)).collect();
    split_items.extend(parts.flush());
    assert!(messages(items) == messages(split_items), "messages depend on how the bytes were split");
}

/// Whole, byte by byte, or in parts of up to 15 bytes.
fn split(bytes: &[u8], plan: u8) -> std::slice::Chunks<'_, u8> {
    let size = match plan & 0x0F {
        0 => bytes.len().max(1),
        size => size.into(),
    };
    bytes.chunks(size)
}
