//! Captures of real instruments: every one is read completely, in every split, and says what a person reads in it.
//!
//! The captures live outside of the repository. Without them these tests say so and leave themselves out; CI sets
//! `AFFERENT_CORPUS_REQUIRED`, which makes that a failure.

use afferent::clinical::{Observation, Value};
use afferent::driver::{Context, Interpretation, Protocol, Registry, guess_protocol, interpret};
use afferent::message::{astm, hl7};
use afferent::sim::replay::replay;
use afferent::sim::transcript::Step;
use afferent::wire::poct1a::document::{Element, parse};
use afferent::wire::{Event, Output, poct1a};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[path = "support/corpus.rs"]
mod corpus;
#[path = "corpus/dialogue.rs"]
mod dialogue;
#[path = "corpus/probe.rs"]
mod probe;
#[path = "corpus/readable.rs"]
mod readable;

fn folder() -> Option<PathBuf> {
    let found = corpus::folder("analyzers");
    if found.is_none() {
        assert!(std::env::var_os("AFFERENT_CORPUS_REQUIRED").is_none(), "the corpus is required and not there");
        eprintln!("left out: no captures on this machine (set AFFERENT_CORPUS)");
    }
    found
}

/// Every file of the corpus as (path inside it, bytes as the instrument would have sent them).
fn captures() -> Vec<(String, Vec<u8>)> {
    let Some(root) = folder() else { return Vec::new() };
    let mut open = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                open.push(entry);
                continue;
            }
            // What the collector wrote about the captures is none.
            if entry.extension().is_some_and(|ending| ending == "md") {
                continue;
            }
            let name = entry.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            found.push((name, as_sent(&entry)));
        }
    }
    found.sort();
    found
}

/// Undoes what the loggers did: Ruby string literals and the comments of the files' authors.
fn as_sent(path: &Path) -> Vec<u8> {
    let raw = std::fs::read(path).unwrap();
    match raw.first() {
        Some(b'"') if path.ends_with("siemens_clinitek.txt") => String::from_utf8(raw)
            .unwrap()
            .trim()
            .trim_matches('"')
            .replace("\\v", "\u{b}")
            .replace("\\r", "\r")
            .replace("\\x1C", "\u{1c}")
            .replace("\\\\", "\\")
            .into_bytes(),
        // Both sides of a conversation, one message a line.
        Some(b'D') if raw.starts_with(b"D><") => {
            raw.split(|b| *b == b'\n').filter_map(|line| line.strip_prefix(b"D>")).flatten().copied().collect()
        }
        Some(b'#') => {
            raw.split_inclusive(|b| *b == b'\n').filter(|l| !l.starts_with(b"#")).flatten().copied().collect()
        }
        _ => raw,
    }
}

fn read(raw: &[u8]) -> (String, Interpretation) {
    let registry = Registry::builtin();
    let driver = registry.identify(guess_protocol(raw), raw);
    (driver.id.clone(), interpret(driver, raw, &context()))
}

fn context() -> Context {
    Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true }
}

fn capture(name: &str) -> Option<Vec<u8>> {
    folder().map(|root| as_sent(&root.join(name)))
}

fn observations(interpretation: &Interpretation) -> Vec<&Observation> {
    interpretation.reports.iter().flat_map(|r| &r.observations).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Absent => String::new(),
        Value::Number(n) => n.to_string(),
        Value::Compared { comparator, number } => format!("{comparator}{number}"),
        Value::Text(text) => format!("\"{text}\""),
        other => format!("{other:?}"),
    }
}

/// `code loinc value ucum flags doubts`.
fn line(o: &Observation) -> String {
    let loinc = o.code.as_ref().map_or("-", |c| c.code.as_str());
    let doubts: Vec<&str> = o.doubts.iter().map(|d| d.name()).collect();
    format!(
        "{} {loinc} {} {} [{}] [{}]",
        o.instrument_code,
        shown(&o.value),
        o.ucum,
        o.flags.join(","),
        doubts.join(",")
    )
}

#[test]
fn i7_every_result_of_every_capture_is_accounted_for() {
    for (name, raw) in captures() {
        let (driver, interpretation) = read(&raw);
        let results: usize = match guess_protocol(&raw) {
            Protocol::Hl7 => {
                let all = hl7::read(&raw, None);
                all.messages.iter().flat_map(|m| &m.segments).filter(|s| s.name == "OBX").count()
            }
            Protocol::Poct1a => String::from_utf8_lossy(&raw).matches("<OBS>").count(),
            // What is a result depends on the columns; each file has been counted by hand in `FACTS`.
            Protocol::Table => {
                assert!(FACTS.iter().any(|(known, ..)| *known == name), "{name} is a table nobody has counted");
                interpretation.inbound_results as usize
            }
            // What counts as a result in a foreign line is what the driver says; nothing readable may be missing.
            Protocol::Lines => {
                let records: BTreeSet<u32> = observations(&interpretation).iter().map(|o| o.record).collect();
                records.len() + interpretation.refused.len()
            }
            Protocol::Astm => {
                // Counted without our reader: lines that begin like a result, once frames are taken off.
                let text = String::from_utf8_lossy(&astm::deframe::deframe(&raw).text).into_owned();
                let is_result = |l: &&str| {
                    let l = l.trim_start_matches(|c: char| c.is_ascii_digit());
                    l.starts_with("R|") || l.starts_with("OBX|") || l.starts_with("R;")
                };
                text.split(['\r', '\n']).filter(is_result).count()
            }
        };
        let seen = observations(&interpretation);
        assert_eq!(seen.len() + interpretation.refused.len(), interpretation.inbound_results as usize, "{name}");
        // A driver may find several results in one record.
        let records: BTreeSet<u32> = seen.iter().map(|o| o.record).collect();
        assert_eq!(records.len() + interpretation.refused.len(), results, "{name} read by {driver}");
    }
}

#[test]
fn every_capture_read_from_any_cut_keeps_its_account() {
    for (name, raw) in captures() {
        for cut in [raw.len() / 3, raw.len() / 2, raw.len().saturating_sub(3)] {
            let (_, interpretation) = read(&raw[..cut]);
            let accounted = observations(&interpretation).len() + interpretation.refused.len();
            assert_eq!(accounted, interpretation.inbound_results as usize, "{name} cut at {cut}");
        }
    }
}

#[test]
fn captured_frames_through_the_receiver_give_the_same_reports_in_every_split() {
    for name in [
        "roche-cobas-c111/cobas_c111.txt",
        "roche-cobas-c311/cobas_c311.txt",
        "roche-cobas-e411/d10_error.bin",
        "roche-cobas-e411/roche_multi_frame_bytes.bin",
        "siemens-dca-vantage/dca_vantage.txt",
        "cepheid-genexpert/genexpert.txt",
        "sysmex-xn550/sysmex_xn550.txt",
    ] {
        let Some(raw) = capture(name) else { return };
        let (driver, expected) = read(&raw);
        let mut wire = raw.clone();
        if wire.first() != Some(&0x05) {
            wire.insert(0, 0x05);
            wire.push(0x04);
        }
        for split in [1, 2, 8, 240, usize::MAX] {
            let replayed = replay(&[Step::Instrument(wire.clone())], Protocol::Astm, split);
            let entries = replayed.entries();
            assert_eq!(entries.len(), 1, "{name} in reads of {split}");
            assert!(entries[0].1, "{name} in reads of {split} is not complete");
            let registry = Registry::builtin();
            let again = interpret(registry.get(&driver).unwrap(), &entries[0].0, &context());
            assert_eq!(again.reports, expected.reports, "{name} in reads of {split}");
        }
    }
}

/// Both sides of a DCA Vantage's conversation with its host.
const DCA_CONVERSATION: &str = "_no-licence/siemens-dca-vantage-poct1a/conversation.txt";

/// What a host's message says besides its header: root, then what matters in it.
fn meaning(message: &[u8]) -> String {
    let parsed = parse(std::str::from_utf8(message).unwrap());
    assert_eq!(parsed.flaw, None);
    let root: Element = parsed.root.unwrap();
    let fields = ["ACK.type_cd", "ACK.ack_control_id", "REQ.request_cd", "DTV.command_cd"];
    let said: Vec<&str> = fields.iter().map(|f| root.value(f)).filter(|v| !v.is_empty()).collect();
    format!("{} {}", root.name, said.join(" "))
}

#[test]
fn a_captured_poct1a_conversation_gets_the_answers_its_host_gave() {
    let Some(root) = folder() else { return };
    let text = std::fs::read_to_string(root.join(DCA_CONVERSATION)).unwrap();
    for read_bytes in [1, 2, 8, 1460, usize::MAX] {
        let mut host = poct1a::Receiver::new(poct1a::ReceiverConfig::default(), 1);
        let now = std::time::Instant::now();
        let (mut said, mut kept, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for line in text.lines() {
            if let Some(expected) = line.strip_prefix("H>") {
                assert!(!said.is_empty(), "nothing was said, and the capture has {}", meaning(expected.as_bytes()));
                assert_eq!(said.remove(0), meaning(expected.as_bytes()), "reads of {read_bytes}");
                continue;
            }
            assert_eq!(said, Vec::<String>::new(), "the capture's host said no more");
            // The host of the capture counted its messages from 4001, we count from 1.
            let line = line.strip_prefix("D>").unwrap().replace("V=\"400", "V=\"");
            for part in line.as_bytes().chunks(read_bytes) {
                host.handle_bytes(now, part);
                while let Some(output) = host.poll_output() {
                    match output {
                        Output::Send(bytes) => said.push(meaning(&bytes)),
                        Output::Persist(part) => {
                            host.handle_custody(now, Ok(&Kept(part.token)));
                            kept.push(part.bytes);
                        }
                        Output::Event(event) => events.push(event),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        assert_eq!(said, Vec::<String>::new());
        assert_eq!(events, [Event::Odd("the device accepted what the host said, with an error code")]);
        assert_eq!(kept.len(), 1);
        let (driver, interpretation) = read(&kept[0]);
        assert_eq!((driver.as_str(), interpretation.inbound_results), ("siemens-dca-vantage-poct1a", 2));
        let report = &interpretation.reports[0];
        assert_eq!(report.comments, ["Reagent DCA HbA1c, lot 0852, expires 2020-03-31"]);
        assert_eq!(report.order.filler_order_number.expose(), "183");
        assert_eq!(report.observations[0].completed.as_ref().unwrap().hl7(), "20180726155126+0000");
    }
}

/// A journal's word.
struct Kept(afferent::wire::Token);

impl afferent::wire::Custody for Kept {
    fn token(&self) -> afferent::wire::Token {
        self.0
    }
}

/// What a person reads in a capture: file, driver, specimen, results, some of them in full.
type Fact = (&'static str, &'static str, &'static str, usize, &'static [&'static str]);

const FACTS: &[Fact] = &[
    ("roche-cobas-c111/cobas_c111.txt", "roche-cobas-c111", "T20 10134GA D28", 1, &["413 1751-7 40.13 g/L [N] []"]),
    (
        "roche-cobas-c311/cobas_c311.txt",
        "roche-cobas-c311",
        "CL-PL-24-0370",
        7,
        &[
            "685 1742-6 22.4 U/L [A] [questionable]",
            "687 1920-8 15.0 U/L [N] []",
            "735 - 1.6  [N] [unmapped-code]",
            "717 14749-6 5.85 mmol/L [N] []",
        ],
    ),
    (
        "roche-cobas-e411/roche_multi_frame_bytes.bin",
        "roche-cobas-e411",
        "000002327",
        7,
        &[
            "8 - 1.95  [N] [unmapped-code]",
            "7 - 9.61  [N] [unmapped-code]",
            "5 - 0.282  [N,NR] [unmapped-code]",
            "3 - <3.00  [LL] [unmapped-code,questionable]",
        ],
    ),
    ("roche-cobas-e411/roche_enquiry.txt", "roche-cobas-e411", "", 0, &[]),
    (
        "siemens-dca-vantage/dca_vantage.txt",
        "siemens-dca-vantage",
        "",
        3,
        &["Alb 14957-5 63.7 mg/L [] []", "Ratio 14959-1 27.6 mg/g [] []"],
    ),
    (
        "cepheid-genexpert/genexpert.txt",
        "cepheid-genexpert",
        "PR25A137",
        84,
        &["Xpert MTB-RIF Ultra/MTB 38379-4 \"NOT DETECTED\"  [] []"],
    ),
    (
        "sysmex-xn550/sysmex_xn550.txt",
        "sysmex-xn",
        "27",
        41,
        &["WBC 6690-2 8.13 10*3/uL [N] []", "HGB 718-7 8.0 g/dL [N] []", "HCT 4544-3 22.7 % [L] []"],
    ),
    (
        "sysmex-xn550/sysmex_550_sample_qc.txt",
        "sysmex-xn",
        "QC-82151403",
        33,
        &["WBC 6690-2 16.74 10*3/uL [N] [control]"],
    ),
    ("horiba-yumizen-h500/yumizen_h500.txt", "horiba-yumizen-h500", "PX440N", 21, &["MCV 787-2 90.6 fL [N] [control]"]),
    (
        "horiba-yumizen-h550/result.astm",
        "horiba-yumizen-h500",
        "PX449L",
        20,
        &["WBC 6690-2 3.22 10*3/uL [N] [control]"],
    ),
    (
        "siemens-clinitek-status/siemens_clinitek.txt",
        "siemens-clinitek",
        "",
        12,
        &["SG 53326-5 <=1.005 1 [] []", "URO 60025-4 3.2 umol/L [] []"],
    ),
    (
        "siemens-clinitek-status/siemens_control.txt",
        "siemens-clinitek",
        "",
        10,
        &["pH 50560-2 6.5 [pH] [] [control,no-specimen]"],
    ),
    (
        DCA_CONVERSATION,
        "siemens-dca-vantage-poct1a",
        "",
        2,
        &["HbA1c 59261-8 64 mmol/mol [H] []", "eAG - 183  [] [unmapped-code]"],
    ),
    ("esr-astm/esr.txt", "generic-astm", "231", 1, &["ESR - 11 mm/h [] [unmapped-code]"]),
    (
        "phadia-prime/PhadiaLIS2SampleMessage.txt",
        "thermo-phadia-prime",
        "B7650020",
        3,
        &["t3/sIgE - \"Examine\"  [] [unmapped-code,questionable]", "a-IgE/tIgE 19113-0 199 k[IU]/L [] []"],
    ),
    (
        "roche-cobas-psm/sample_message.txt",
        "roche-cobas-psm",
        "WT33721",
        62,
        &["ALPL - 44.42893  [N] [unmapped-code]", "PHOS - .995455  [N] [unmapped-code]"],
    ),
    (
        "_no-licence/osmometer-osmo1/result.astm",
        "advanced-osmo1",
        "a0489307400a",
        1,
        &["OSMO - 296  [N] [unmapped-code]"],
    ),
    (
        "biorad-ih1000/bloodtype.astm",
        "biorad-ih1000",
        "1122206642",
        9,
        &[
            "MO10/AntiA/1 - 40  [] [unmapped-code,unknown-status]",
            "MO10/Result/1 - \"A\"  [] [unmapped-code,unknown-status]",
            "MO10/Result/4 - \"ccee\"  [] [unmapped-code,unknown-status]",
        ],
    ),
    (
        "immucor-galileo-echo/result.astm",
        "immucor-galileo-echo",
        "0651439A",
        14,
        &["Anti-B - \"3+^3+^45\"  [] [unmapped-code]", "ABOD Full Interp 882-1 \"B Pos\"  [] []"],
    ),
    (
        "file-sysmex-xt4000i-e1238/2012-05-09_CBDB6A.txt",
        "sysmex-xt4000i",
        "8927",
        21,
        &["WBC 6690-2 6.01  [] [unknown-unit]", "MCV 787-2 79.7  [L] [unknown-unit]"],
    ),
    (
        "biomerieux-mini-vidas/mini_vidas.txt",
        "biomerieux-mini-vidas",
        "Z1G021SCR",
        1,
        &["HBCT - 0.05  [Positif] [unmapped-code]"],
    ),
    (
        "esr-analyzer-binary/esr_server_data.bin",
        "unnamed-esr",
        "",
        10,
        &["ESR - 21  [] [unmapped-code]", "ESR - 0  [132] [unmapped-code,questionable]"],
    ),
    (
        "file-abaxis-vetscan-csv/VetScanVS2.csv",
        "abaxis-vetscan-vs2",
        "",
        14,
        &["ALB 1751-7 3.40 g/dL [] []", "K+ 2823-3 8.50 mmol/L [] []", "GLOB - 2.50  [] [unmapped-code]"],
    ),
    (
        "file-bd-facscalibur-exp/Facscalibur.exp",
        "bd-facscalibur",
        "7587066",
        70,
        &["T Helper/Suppressor Ratio 54218-3 1.50 1 [] [questionable]"],
    ),
    (
        "file-cepheid-genexpert-csv/GenExpert.csv",
        "cepheid-genexpert-csv",
        "AP-0001",
        6,
        &["Ebola RUO GP - \"POS\"  [] [unmapped-code]"],
    ),
    (
        "file-roche-cobas-c111-csv/C111_exportfile.csv",
        "roche-cobas-c111-csv",
        "03",
        4,
        &["767 2345-7 1.30 g/L [H] []", "685 1742-6 40.6 U/L [? QC] [questionable]"],
    ),
    (
        "file-roche-taqman48-rsf/DBS0714.rsf",
        "roche-taqman48",
        "ACCC00218",
        5,
        &["HI2QLD48 - \"Detected DBS\"  [] [unmapped-code]"],
    ),
    (
        "file-sysmex-xt2000i-csv/2000i_exported_files.txt",
        "sysmex-xt2000i",
        "ACCC76134",
        66,
        &["HBG 718-7 120 g/L [] []", "PLQ 777-3 151 10*3/uL [] [questionable]"],
    ),
    (
        "file-thermo-quantstudio3-csv/quaintStudioSampleOutput.csv",
        "thermo-quantstudio3",
        "DEV01210000000000009",
        1,
        &["RP - 32.854  [] [unmapped-code]"],
    ),
];

#[test]
fn captures_say_what_a_person_reads_in_them() {
    for (name, driver, specimen, results, lines) in FACTS {
        let Some(raw) = capture(name) else { return };
        let (found, interpretation) = read(&raw);
        assert_eq!(found, *driver, "{name}");
        assert_eq!(interpretation.inbound_results as usize, *results, "{name}");
        let all: Vec<String> = observations(&interpretation).into_iter().map(line).collect();
        let id = interpretation.reports.first().map_or("", |r| r.specimen.id.expose());
        assert_eq!(id, *specimen, "{name}");
        for line in *lines {
            assert!(all.iter().any(|l| l == line), "{name}: no {line:?} in\n{}", all.join("\n"));
        }
    }
}
