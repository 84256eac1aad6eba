//! Every driver's cases: our side of the line byte for byte in several read splits, then the reports.
//!
//! `UPDATE_GOLDEN=1 cargo test --test drivers` rewrites the expected files; the diff is the review.

use afferent::cli::driver::case;
use afferent::driver::{Protocol, Registry, builtin};
use std::path::{Path, PathBuf};

fn drivers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

#[test]
fn every_case_of_every_driver_comes_out_as_expected() {
    let registry = Registry::builtin();
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    let mut cases = 0;
    for driver in registry.iter().filter(|d| drivers().join(&d.id).join("cases").is_dir()) {
        for folder in case::folders(&drivers().join(&driver.id)).unwrap() {
            cases += 1;
            let name = format!("{}/{}", driver.id, folder.file_name().unwrap().to_string_lossy());
            match case::check(driver, &folder, update) {
                Ok(differences) => {
                    for difference in differences {
                        wrong.push_str(&format!("\n{name}: {}\n{}\n", difference.at, difference.lines.join("\n")));
                    }
                }
                Err(error) => wrong.push_str(&format!("\n{name}: {error}\n")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nUPDATE_GOLDEN=1 rewrites the expected files");
    assert!(cases >= 24, "only {cases} cases were found");
}

#[test]
fn every_driver_folder_is_compiled_in_and_complete() {
    for entry in std::fs::read_dir(drivers()).unwrap().map(Result::unwrap).filter(|e| e.path().is_dir()) {
        let id = entry.file_name().to_string_lossy().into_owned();
        assert!(builtin::DRIVERS.iter().any(|(name, _)| *name == id), "{id} is not in src/driver/builtin.rs");
        if id.starts_with("generic-") {
            continue;
        }
        let driver = Registry::builtin().get(&id).unwrap().clone();
        let model = &driver.schema.identity.model;
        assert!(model.chars().count() <= 20, "{id}: OBX-18 has room for 20 characters of a name: {model}");
        assert!(!driver.schema.identity.evidence.is_empty(), "{id} names no evidence");
        let identity = &driver.schema.identity;
        let known = !identity.header.is_empty() || !identity.conditions.is_empty();
        assert!(known, "{id} has no header to be recognised by");
        assert!(entry.path().join("README.md").is_file(), "{id} has no README.md");
        let stories: Vec<String> = case::folders(&entry.path())
            .unwrap()
            .iter()
            .map(|f| f.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        for kind in ["normal-", "qc-", "damaged-"] {
            assert!(stories.iter().any(|s| s.starts_with(kind)), "{id} has no {kind} case");
        }
    }
}

#[test]
fn there_are_at_least_thirty_families_with_evidence() {
    let registry = Registry::builtin();
    let known = registry.iter().filter(|driver| !driver.id.starts_with("generic-"));
    let with_evidence = known.filter(|driver| !driver.schema.identity.evidence.is_empty());
    // The same instrument over another protocol is no other family.
    let family = |id: &str| {
        let other = ["-csv", "-poct1a", "-hl7"].iter().find_map(|protocol| id.strip_suffix(protocol));
        other.unwrap_or(id).to_string()
    };
    let families: std::collections::BTreeSet<String> = with_evidence.map(|driver| family(&driver.id)).collect();
    assert!(families.len() >= 30, "only {}: {families:?}", families.len());
}

/// Families whose messages cannot be told apart, each with the other one, and why that does no harm.
const AMBIGUOUS: [(&str, &str); 0] = [];

#[test]
fn the_header_in_every_case_finds_its_driver_and_no_other() {
    let registry = Registry::builtin();
    let mut entries = 0;
    for driver in registry.iter().filter(|d| drivers().join(&d.id).join("cases").is_dir()) {
        for folder in case::folders(&drivers().join(&driver.id)).unwrap() {
            let steps = case::session(&folder).unwrap();
            let replayed = case::play(driver, &steps, usize::MAX, None);
            for (raw, _) in replayed.entries() {
                entries += 1;
                let found = registry.identify(driver.protocol(), &raw);
                assert_eq!(found.id, driver.id, "{}", folder.display());
                let others: Vec<&str> =
                    registry.fitting(driver.protocol(), &raw).iter().map(|fitting| fitting.id.as_str()).collect();
                let declared = |other: &&str| AMBIGUOUS.contains(&(driver.id.as_str(), other));
                let strangers: Vec<&&str> =
                    others.iter().filter(|other| **other != driver.id && !declared(other)).collect();
                assert!(strangers.is_empty(), "{} is taken for {strangers:?} too", folder.display());
            }
        }
    }
    assert!(entries > 100, "only {entries} entries were looked at");
}

/// Instruments nobody wrote a driver for, whose names or makers are like those of instruments that have one.
const STRANGERS: [(Protocol, &str); 18] = [
    (Protocol::Lines, "\x02\x1emtrsl|iiV2|is0001|ciV-1|rtGN|\r\x1d70\x03"),
    (Protocol::Lines, "\x02\x1emtrsl|piP1|pn|ciV-2|rtTSH|qn1.2|\r\x1dab\x03"),
    (Protocol::Lines, "\x02DATE: 2026-11-03\rGLU 5.6 mmol/L\r\x03"),
    (Protocol::Lines, "REMDESIVIR 5 mg/L\rEND\r"),
    (Protocol::Astm, "H|\\^&|||Becton Dickinson||||||||V1.0\rO|1|S\rR|1|^^^AST_MIC^42^PIP|INST_COMPLETE^64^I\rL|1\r"),
    (Protocol::Astm, "H|\\^&|||Becton Dickinson||||||||V1.0\rO|1|S||^^^RTO\rR|1|^^^OTHER|-\rL|1\r"),
    (Protocol::Astm, "H|\\^&|||GEM Premier 4000^V2.2.6^12345\rO|1|S\rR|1|^^^pH|7.31\rL|1\r"),
    (Protocol::Astm, "H|\\^&|||cobas b 123^1\rO|1|S\rR|1|^^^pH|7.31\rL|1\r"),
    (Protocol::Astm, "H|\\^&|||cobas pro^1.0\rO|1|S\rR|1|^^^8687|5\rL|1\r"),
    (Protocol::Astm, "H|\\^&|||ELECSYS2010^1\rO|1|S\rR|1|^^^10^^0|1.2\rL|1\r"),
    (Protocol::Astm, "H|\\^&|||Bio-Rad|CFX Maestro\rO|1|S\rR|1|^^^X|1\rL|1\r"),
    (Protocol::Astm, "H|\\^&|||Atellica Solution^1.25\rO|1|S\rR|1|^^^TSH^1|2\rL|1\r"),
    (Protocol::Astm, "H|\\^&|||Phadia 250^1\rO|1|S\rR|1|^^^f1|2\rL|1\r"),
    (Protocol::Astm, "H|\\^&|||EchoLab^1\rO|1|S\rR|1|^^^X|2\rL|1\r"),
    (Protocol::Hl7, "MSH|^~\\&|Mindray|RX-99|||20260101||ORU^R01|1|P|2.3.1\rOBX|1|NM|1||2\r"),
    (Protocol::Hl7, "MSH|^~\\&|CLINITEK Novus|S|||20260101||ORU^R01|1|P|2.3.1\rOBX|1|NM|1||2\r"),
    (Protocol::Hl7, "MSH|^~\\&|BCM-500|S|||20260101||ORU^R01|1|P|2.3.1\rOBX|1|NM|1||2\r"),
    (
        Protocol::Poct1a,
        "<HEL.R01><HDR><HDR.control_id V=\"1\"/></HDR><DEV><DEV.device_id V=\"SIEM^CLINITEK^1\"/></DEV></HEL.R01>",
    ),
];

#[test]
fn i13_no_driver_takes_another_makers_instrument_for_its_own() {
    let registry = Registry::builtin();
    for (protocol, raw) in STRANGERS {
        let fitting: Vec<&str> = registry.fitting(protocol, raw.as_bytes()).iter().map(|d| d.id.as_str()).collect();
        assert!(fitting.is_empty(), "{fitting:?} would read {raw}");
    }
}
