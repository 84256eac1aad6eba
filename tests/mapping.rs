//! What an EHR gets for a report: every byte against goldens, and the promises behind them.
//!
//! `tests/mapping/NAME.json` is a canonical report; beside it stands what is sent. `.hl7` files have LF where the
//! message has CR, JSON files are indented, so that a diff can be read; nothing else differs.
//! `UPDATE_GOLDEN=1 cargo test --test mapping` rewrites them; the diff is the review. The judges in `tests/judges` read
//! the same files.

#[path = "support/receiver.rs"]
mod receiver;

use afferent::clinical::{Coding, Decimal, Observation, Phi, Report, Timestamp, Value};
use afferent::mapping::{
    Charset, FhirProfile, Format, Hl7Version, MapError, Optional, Origin, PatientReference, Target, map, map_part,
};
use receiver::{VERSIONS, formats};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The target of a report: one that is marked as a test goes to a target of tests.
fn target_of(report: &Report, format: Format) -> Target {
    Target { tests_only: report.not_production, ..target(format) }
}

fn target(format: Format) -> Target {
    receiver::target(
        format,
        "LAB",
        FhirProfile { specimen_system: "https://lab.example/specimens".into(), ..FhirProfile::default() },
    )
}

fn origin() -> Origin {
    receiver::origin("chemistry")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mapping")
}

fn report(name: &str) -> Report {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn names() -> Vec<String> {
    let paths = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path());
    let stems = paths.filter_map(|p| p.file_name()?.to_str()?.strip_suffix(".json").map(String::from));
    let mut names: Vec<String> = stems.filter(|s| !s.contains('.')).collect();
    names.sort();
    names
}

/// One result with the given value, on a specimen of its own.
fn one(value: Value) -> Report {
    let observation = Observation {
        instrument_code: "685".into(),
        value,
        unit: "U/l".into(),
        ucum: "U/L".into(),
        status: "F".into(),
        ..Observation::default()
    };
    let mut report = Report { observations: vec![observation], ..Report::default() };
    report.specimen.id = Phi::new("S1");
    report
}

fn hl7(report: &Report, version: Hl7Version) -> String {
    String::from_utf8(map(report, &target(Format::Hl7V2(version)), &origin()).unwrap()).unwrap()
}

/// Field `n` of the first segment with this name.
fn field(message: &str, segment: &str, n: usize) -> String {
    let line = message.split('\r').find(|l| l.starts_with(segment)).unwrap_or("");
    let shift = usize::from(segment == "MSH");
    line.split('|').nth(n - shift).unwrap_or("").to_string()
}

fn bundle(report: &Report) -> serde_json::Value {
    serde_json::from_slice(&map(report, &target(Format::FhirTransaction), &origin()).unwrap()).unwrap()
}

/// The resources of a kind in a Bundle.
fn resources<'b>(bundle: &'b serde_json::Value, kind: &str) -> Vec<&'b serde_json::Value> {
    let entries = bundle["entry"].as_array().unwrap().iter().map(|e| &e["resource"]);
    entries.filter(|r| r["resourceType"] == kind).collect()
}

/// The addresses a Bundle writes to, of one kind.
fn urls(bundle: &serde_json::Value, kind: &str) -> Vec<String> {
    let urls = bundle["entry"].as_array().unwrap().iter().filter_map(|e| e["request"]["url"].as_str());
    urls.filter(|u| u.starts_with(kind)).map(String::from).collect()
}

/// Compact JSON, indented; no token is touched.
fn indented(json: &str) -> String {
    let (mut out, mut depth, mut quoted, mut escaped) = (String::new(), 0, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&" ".repeat(depth));
    };
    for c in json.chars() {
        if quoted {
            out.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '{' | '[' => {
                depth += 1;
                out.push(c);
                line(&mut out, depth);
            }
            '}' | ']' => {
                depth -= 1;
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                quoted = c == '"';
                out.push(c);
            }
        }
    }
    out + "\n"
}

#[test]
fn every_report_is_written_as_its_goldens_say() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let mut expected = BTreeSet::new();
    for name in names() {
        for (ending, format) in formats() {
            let report = report(&name);
            let (file, text) = match map(&report, &target_of(&report, format), &origin()) {
                Ok(bytes) if ending.ends_with("json") => (ending, indented(&String::from_utf8(bytes).unwrap())),
                Ok(bytes) => {
                    assert!(!bytes.contains(&b'\n'), "{name}.{ending} holds a line feed");
                    (ending, String::from_utf8(bytes).unwrap().replace('\r', "\n"))
                }
                Err(error) => (format!("{ending}.error.txt"), format!("{}: {error}\n", error.reason())),
            };
            let path = folder().join(format!("{name}.{file}"));
            expected.insert(path.clone());
            if update {
                std::fs::write(&path, &text).unwrap();
            } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
                wrong.push(path.display().to_string());
            }
        }
        expected.insert(folder().join(format!("{name}.json")));
    }
    let found: BTreeSet<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(expected.len() > 40 && found == expected, "goldens of no report: {:?}", found.difference(&expected));
    assert!(wrong.is_empty(), "not as expected:\n{}\nUPDATE_GOLDEN=1 rewrites the files", wrong.join("\n"));
}

#[test]
fn i5_the_same_report_gives_the_same_bytes() {
    for name in names() {
        for (_, format) in formats() {
            let report = report(&name);
            let run = || map(&report, &target_of(&report, format), &origin());
            assert_eq!(run(), run(), "{name}");
        }
    }
}

/// Numerals as analyzers print them, from a fixed seed.
struct Numerals(u64);

impl Iterator for Numerals {
    type Item = String;
    fn next(&mut self) -> Option<String> {
        let mut draw = |below: u64| {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) % below
        };
        let mut digits = |most: u64| (0..draw(most + 1)).map(|_| char::from(b'0' + draw(10) as u8)).collect::<String>();
        let (whole, fraction) = (digits(12), digits(9));
        let sign = ["", "", "", "-", "+"][draw(5) as usize];
        let text = match draw(4) {
            0 => format!("{sign}{whole}"),
            _ => format!("{sign}{whole}.{fraction}"),
        };
        Some(text)
    }
}

#[test]
fn i11_a_hundred_thousand_numerals_keep_every_digit_in_both_formats() {
    const COUNT: usize = 100_000;
    const PER_REPORT: usize = 1000;
    #[derive(serde::Deserialize)]
    struct Write<'a> {
        #[serde(borrow)]
        resource: Resource<'a>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Resource<'a> {
        resource_type: String,
        #[serde(borrow)]
        value_quantity: Option<Quantity<'a>>,
        value_string: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Quantity<'a> {
        #[serde(borrow)]
        value: &'a RawValue,
    }
    let seed = 20261103;
    let numerals = Numerals(seed).filter(|t| Decimal::parse(t).is_some()).take(COUNT);
    let numerals: Vec<String> = numerals.collect();
    let mut as_text = 0;
    for sent in numerals.chunks(PER_REPORT) {
        let mut report = one(Value::Absent);
        let template = report.observations.remove(0);
        let of = |t: &String| Observation { value: Value::Number(Decimal::parse(t).unwrap()), ..template.clone() };
        report.observations = sent.iter().map(of).collect();
        let message = hl7(&report, Hl7Version::V251);
        let values: Vec<&str> =
            message.split('\r').filter(|l| l.starts_with("OBX")).map(|l| l.split('|').nth(5).unwrap()).collect();
        assert_eq!(values, sent, "seed {seed}");
        let writes = map(&report, &target(Format::FhirWrites), &origin()).unwrap();
        let writes: Vec<Write> = serde_json::from_slice(&writes).unwrap();
        let observations = writes.iter().map(|w| &w.resource).filter(|r| r.resource_type == "Observation");
        let values: Vec<&str> = observations
            .map(|r| match (&r.value_quantity, &r.value_string) {
                (Some(quantity), None) => quantity.value.get(),
                (None, Some(text)) => {
                    as_text += 1;
                    text
                }
                _ => panic!("exactly one value, seed {seed}"),
            })
            .collect();
        assert_eq!(values, sent, "seed {seed}");
    }
    assert!((1000..COUNT / 2).contains(&as_text), "both ways are taken: {as_text}");
}

#[test]
fn i11_each_kind_of_value_has_its_type_in_both_formats() {
    let d = |t: &str| Decimal::parse(t).unwrap();
    let compared = |c: &str, n: &str| Value::Compared { comparator: c.into(), number: d(n) };
    let ratio = |s: &str| Value::Ratio { numerator: d("1"), separator: s.into(), denominator: d("64") };
    let lab = Coding::local("POS", "Positive");
    let pdf = Value::Data { media_type: "application/pdf".into(), base64: "JVBERg==".into() };
    for (value, obx2, obx5, fhir) in [
        (Value::Number(d("1.50")), "NM", "1.50", "valueQuantity"),
        (Value::Number(d("065.88")), "NM", "065.88", "valueString"),
        (Value::Number(d("1.")), "NM", "1.", "valueString"),
        (Value::Number(d(".5")), "NM", ".5", "valueString"),
        (Value::Number(d("+3")), "NM", "+3", "valueString"),
        (compared("<", "0.050"), "SN", "<^0.050", "valueQuantity"),
        (compared(">=", "5"), "SN", ">=^5", "valueQuantity"),
        (compared("<", ".5"), "SN", "<^.5", "valueString"),
        (Value::Range { low: d("5"), high: d("10") }, "SN", "^5^-^10", "valueRange"),
        (Value::Range { low: d("05"), high: d("10") }, "SN", "^05^-^10", "valueString"),
        (ratio(":"), "SN", "^1^:^64", "valueRatio"),
        (ratio("/"), "SN", "^1^/^64", "valueRatio"),
        (Value::Text("a|b".into()), "ST", "a\\F\\b", "valueString"),
        (Value::Text("a\nb".into()), "FT", "a\\.br\\b", "valueString"),
        (Value::Text("x".repeat(200)), "FT", &"x".repeat(200), "valueString"),
        (Value::Coded(lab), "CE", "POS^Positive^L", "valueCodeableConcept"),
        (pdf, "ED", "^application^pdf^Base64^JVBERg==", "dataAbsentReason"),
        (Value::Absent, "ST", "", "dataAbsentReason"),
    ] {
        let report = one(value.clone());
        let message = hl7(&report, Hl7Version::V251);
        assert_eq!((field(&message, "OBX", 2).as_str(), field(&message, "OBX", 5).as_str()), (obx2, obx5));
        let bundle = bundle(&report);
        let observation = resources(&bundle, "Observation")[0].as_object().unwrap();
        let stated: Vec<&String> =
            observation.keys().filter(|k| k.starts_with("value") || *k == "dataAbsentReason").collect();
        assert_eq!(stated, [fhir], "{value:?}");
    }
    let coded = one(Value::Coded(Coding::local("POS", "")));
    assert_eq!(field(&hl7(&coded, Hl7Version::V28), "OBX", 2), "CWE");
}

#[test]
fn the_unit_as_sent_goes_beside_every_value() {
    let mut report = one(Value::Number(Decimal::parse("5.0").unwrap()));
    for (unit, ucum, obx6) in
        [("U/l", "U/L", "U/L^U/l^UCUM"), ("Mio/ul", "", "Mio/ul"), ("10^9/L", "10*9/L", "10*9/L^10\\S\\9/L^UCUM")]
    {
        let observation = &mut report.observations[0];
        (observation.unit, observation.ucum) = (unit.into(), ucum.into());
        assert_eq!(field(&hl7(&report, Hl7Version::V251), "OBX", 6), obx6);
        let bundle = bundle(&report);
        let quantity = &resources(&bundle, "Observation")[0]["valueQuantity"];
        assert_eq!(quantity["unit"], unit);
        assert_eq!(quantity.get("code").is_some(), !ucum.is_empty());
    }
    for value in [Value::Text("+++".into()), Value::Number(Decimal::parse("065").unwrap())] {
        let mut report = report.clone();
        report.observations[0].value = value;
        let bundle = bundle(&report);
        assert_eq!(resources(&bundle, "Observation")[0]["note"][0]["text"], "Unit as sent: 10^9/L");
    }
}

#[test]
fn a_correction_takes_the_place_of_what_it_corrects_and_of_nothing_else() {
    let first = report("chemistry");
    let corrected = report("correction");
    let (before, after) = (bundle(&first), bundle(&corrected));
    for kind in ["Observation", "DiagnosticReport", "Specimen", "Device"] {
        assert_eq!(urls(&before, kind), urls(&after, kind), "{kind}");
    }
    let statuses: Vec<_> = resources(&after, "Observation").iter().map(|o| o["status"].clone()).collect();
    assert_eq!(statuses, ["corrected", "corrected"]);
    let [one, two] = [&first, &corrected].map(|r| hl7(r, Hl7Version::V251));
    for (segment, n) in [("ORC", 2), ("ORC", 3), ("OBR", 2), ("OBR", 3), ("OBX", 3), ("OBX", 4)] {
        assert_eq!(field(&one, segment, n), field(&two, segment, n), "{segment}-{n}");
    }
    // The same tube number again, for another patient, on another day, on another link.
    let mut other = [first.clone(), first.clone(), first.clone()];
    other[0].patient.id = Phi::new("P4712");
    other[1].specimen.collected = Timestamp::parse("20261104081500", &jiff::tz::TimeZone::UTC);
    let mut origins = [origin(), origin(), origin()];
    origins[2].link = "immunology".into();
    let mut seen: BTreeSet<String> = urls(&before, "Observation").into_iter().collect();
    for (report, origin) in other.iter().zip(&origins) {
        let bytes = map(report, &target(Format::FhirTransaction), origin).unwrap();
        for url in urls(&serde_json::from_slice(&bytes).unwrap(), "Observation") {
            assert!(seen.insert(url), "two uses of one tube number share a name");
        }
    }
}

#[test]
fn parts_released_at_different_times_never_take_each_others_place() {
    let whole = report("statuses");
    let part = |indexes: &[usize], format| map_part(&whole, indexes, &target(format), &origin()).unwrap();
    let all: serde_json::Value =
        serde_json::from_slice(&map(&whole, &target(Format::FhirTransaction), &origin()).unwrap()).unwrap();
    let later: serde_json::Value = serde_json::from_slice(&part(&[2], Format::FhirTransaction)).unwrap();
    assert_eq!(urls(&later, "Observation"), urls(&all, "Observation")[2..3]);
    assert_ne!(urls(&later, "DiagnosticReport"), urls(&all, "DiagnosticReport"));
    let message = String::from_utf8(part(&[2], Format::Hl7V2(Hl7Version::V251))).unwrap();
    assert_eq!((field(&message, "OBX", 1), field(&message, "OBX", 4)), ("1".into(), "3".into()));
}

#[test]
fn without_a_specimen_number_results_of_one_patient_stay_apart() {
    let first = report("point-of-care");
    let mut next = first.clone();
    next.observations[0].completed = Timestamp::parse("20270203091011+0100", &jiff::tz::TimeZone::UTC);
    assert_ne!(urls(&bundle(&first), "Observation"), urls(&bundle(&next), "Observation"));
    next.observations[0].completed = None;
    let mut again = origin();
    again.message_id = "A0000000000000000002".into();
    let bytes = map(&next, &target(Format::FhirTransaction), &again).unwrap();
    let later: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_ne!(urls(&bundle(&next), "Observation"), urls(&later, "Observation"));
}

#[test]
fn no_condition_stands_twice_in_a_bundle_and_no_name_holds_patient_data() {
    for name in names() {
        let report = report(&name);
        let target = target_of(&report, Format::FhirTransaction);
        let bundle: serde_json::Value = serde_json::from_slice(&map(&report, &target, &origin()).unwrap()).unwrap();
        let urls = urls(&bundle, "");
        let distinct: BTreeSet<&String> = urls.iter().collect();
        assert_eq!(distinct.len(), urls.len(), "{name}");
        for secret in [&report.patient.id, &report.specimen.id, &report.patient.family].map(Phi::expose) {
            assert!(secret.is_empty() || !urls.iter().any(|u| u.contains(secret)), "{name}");
        }
    }
}

#[test]
fn a_placer_number_is_echoed_or_left_out_and_the_filler_number_is_always_there() {
    let mut report = report("chemistry");
    let message = hl7(&report, Hl7Version::V251);
    assert_eq!((field(&message, "ORC", 2), field(&message, "OBR", 2)), ("PL-1\\S\\7".into(), "PL-1\\S\\7".into()));
    report.order.placer_order_number = Phi::default();
    let message = hl7(&report, Hl7Version::V251);
    let (orc, obr) = (field(&message, "ORC", 3), field(&message, "OBR", 3));
    assert_eq!((field(&message, "OBR", 2).as_str(), orc == obr), ("", true));
    let (number, space) = obr.split_once('^').unwrap();
    assert_eq!((number.len(), space), (20, "bench-1"));
    report.order.filler_order_number = Phi::new("17");
    assert_eq!(field(&hl7(&report, Hl7Version::V251), "OBR", 3), "17^chemistry");
}

#[test]
fn the_specimen_number_is_sent_unchanged_in_every_version() {
    let report = report("awkward");
    for version in VERSIONS {
        let message = hl7(&report, version);
        let (segment, n) = if version < Hl7Version::V251 { ("OBR", 20) } else { ("SPM", 2) };
        assert_eq!(field(&message, segment, n), "  s\\S\\6\\T\\00\\F\\04 ");
        assert_eq!(message.contains("\rSPM|"), version >= Hl7Version::V251);
    }
    let bundle = bundle(&report);
    assert_eq!(resources(&bundle, "Specimen")[0]["identifier"][1]["value"], "  s^6&00|04 ");
}

#[test]
fn a_patient_is_referred_to_as_the_profile_says_and_never_written() {
    let reference = |report: &Report, format, profile: FhirProfile| {
        let target = Target { fhir: profile, ..target(format) };
        let bytes = map(report, &target, &origin()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("\"resourceType\":\"Patient\""));
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let entries = json.get("entry").unwrap_or(&json).as_array().unwrap().clone();
        entries.into_iter().map(|e| e["resource"].clone()).find(|r| r["resourceType"] == "Observation").unwrap()
    };
    let known = report("chemistry");
    let profile = target(Format::FhirTransaction).fhir;
    let subject = |format, profile: &FhirProfile| reference(&known, format, profile.clone())["subject"].clone();
    let conditional = subject(Format::FhirTransaction, &profile);
    assert_eq!(conditional["reference"], "Patient?identifier=urn%3Aoid%3A2.16.840.1.113883.19.5%7CP4711");
    let logical = FhirProfile { patient: PatientReference::Logical, ..profile.clone() };
    for (format, profile) in [(Format::FhirWrites, &profile), (Format::FhirTransaction, &logical)] {
        let by_identifier = subject(format, profile);
        assert_eq!(by_identifier["identifier"]["system"], "urn:oid:2.16.840.1.113883.19.5");
        assert_eq!(by_identifier["identifier"]["value"], "P4711");
    }
    // An authority nobody configured is never turned into a look-up by the bare number.
    let unknown = subject(Format::FhirTransaction, &FhirProfile::default());
    assert!(unknown.get("reference").is_none() && unknown["identifier"].get("system").is_none());
    // A control is about no patient, whatever the instrument wrote there.
    let control = reference(&report("control"), Format::FhirWrites, profile);
    assert_eq!(control["subject"]["type"], "Device");
    assert!(!hl7(&report("control"), Hl7Version::V251).contains("\rPID"));
}

#[test]
fn a_server_gets_only_the_resources_it_takes() {
    let all = [Optional::Device, Optional::Specimen, Optional::DiagnosticReport, Optional::Provenance];
    let profile = FhirProfile { leave_out: all.to_vec(), single_coding: true, ..FhirProfile::default() };
    let target = Target { fhir: profile, ..target(Format::FhirWrites) };
    let bytes = map(&report("chemistry"), &target, &origin()).unwrap();
    let writes: Vec<BTreeMap<String, serde_json::Value>> = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(writes.len(), 2);
    for write in &writes {
        let resource = &write["resource"];
        assert_eq!((&resource["resourceType"], &write["method"]), (&"Observation".into(), &"PUT".into()));
        assert_eq!(resource["code"]["coding"].as_array().unwrap().len(), 1);
        assert_eq!(resource["specimen"]["display"], "S260001");
        assert!(!resource.to_string().contains("urn:uuid:"), "nothing to point at");
    }
    let document = map(&report("values"), &target, &origin());
    assert_eq!(document, Err(MapError::Attachment(24)));
}

#[test]
fn i13_what_cannot_be_said_is_an_error_and_never_replaced() {
    let good = report("chemistry");
    let with = |change: &dyn Fn(&mut Report)| {
        let mut report = good.clone();
        change(&mut report);
        report
    };
    let try_map = |report: &Report, format| map(report, &target(format), &origin());
    let v251 = Format::Hl7V2(Hl7Version::V251);
    for (charset, text, place) in [(Charset::Latin1, "μg", "OBX-6"), (Charset::Ascii, "µg", "OBX-6")] {
        let report = with(&|r| r.observations[1].unit = text.into());
        let error = map(&report, &Target { charset, ..target(v251) }, &origin()).unwrap_err();
        assert_eq!(error, MapError::Charset { place: place.into(), charset: charset.hl7() });
        assert_eq!(error.reason(), "unsendable-character");
    }
    let latin = with(&|r| r.observations[1].unit = "µg".into());
    let bytes = map(&latin, &Target { charset: Charset::Latin1, ..target(v251) }, &origin()).unwrap();
    assert!(bytes.windows(3).any(|w| w == b"^\xb5g") && std::str::from_utf8(&bytes).is_err());
    let order_only = with(&|r| r.observations[1].status = "O".into());
    let no_offset = with(&|r| r.specimen.collected.as_mut().unwrap().offset = "+9900".into());
    let control_character = with(&|r| r.comments = vec!["bell \u{7}".into()]);
    let training = with(&|r| r.not_production = true);
    let no_code = with(&|r| {
        r.observations[0].code = None;
        r.observations[0].instrument_code = String::new();
    });
    // What stays behind does not stop the rest.
    let rest = map_part(&no_code, &[1], &target(v251), &origin());
    assert!(rest.is_ok_and(|message| String::from_utf8(message).unwrap().contains("\rOBX|1|SN|1920-8^")));
    let nothing = with(&|r| r.observations.clear());
    for (report, format, error) in [
        (&order_only, v251, MapError::Status(2)),
        (&order_only, Format::FhirTransaction, MapError::Status(2)),
        (&no_offset, Format::FhirTransaction, MapError::Time("Specimen.collection")),
        (&control_character, Format::FhirTransaction, MapError::ControlCharacter),
        (&training, v251, MapError::NotProduction),
        (&no_code, v251, MapError::NoCode(1)),
        (&nothing, Format::FhirWrites, MapError::Empty),
        (&report("control"), Format::Hl7V2(Hl7Version::V231), MapError::Control("HL7 2.3.1")),
    ] {
        assert_eq!(try_map(report, format), Err(error));
    }
    let long = Origin { message_id: "A".repeat(21), ..origin() };
    assert_eq!(map(&good, &target(v251), &long), Err(MapError::MessageId));
}

#[test]
fn i13_a_test_goes_nowhere_else_and_nothing_else_goes_where_tests_go() {
    let real = report("chemistry");
    let test = Report { not_production: true, ..real.clone() };
    let formats = [Format::Hl7V2(Hl7Version::V231), Format::Hl7V2(Hl7Version::V24), Format::Hl7V2(Hl7Version::V251)];
    for format in formats.into_iter().chain([Format::Hl7V2(Hl7Version::V28)]) {
        let for_tests = Target { tests_only: true, ..target(format) };
        assert_eq!(map(&real, &for_tests, &origin()), Err(MapError::NoTest), "{format:?}");
        assert_eq!(map(&test, &target(format), &origin()), Err(MapError::NotProduction), "{format:?}");
        let message = String::from_utf8(map(&test, &for_tests, &origin()).unwrap()).unwrap();
        assert_eq!(field(&message, "MSH", 11), "T");
        assert_eq!(field(&message, "PID", 3), "AFFERENT-TEST^^^AFFERENT-TEST^MR", "whoever the report names");
        assert_eq!(field(&message, "PID", 5), "ZZTEST^AFFERENT");
        for of_a_patient in [real.patient.id.expose(), real.patient.family.expose(), real.patient.birth_date.expose()] {
            assert!(!of_a_patient.is_empty() && !message.contains(of_a_patient), "{message}");
        }
    }
    for format in [Format::FhirTransaction, Format::FhirWrites] {
        let for_tests = Target { tests_only: true, ..target(format) };
        assert_eq!(map(&real, &for_tests, &origin()), Err(MapError::NoTest), "{format:?}");
        assert_eq!(map(&test, &target(format), &origin()), Err(MapError::NotProduction), "{format:?}");
        let bytes = map(&test, &for_tests, &origin()).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let patient = &real.patient;
        for of_a_patient in [patient.id.expose(), patient.family.expose(), patient.birth_date.expose()] {
            assert!(!of_a_patient.is_empty() && !text.contains(of_a_patient), "{text}");
        }
        assert!(!text.contains("Patient?") && !text.contains("ServiceRequest"), "nobody is looked up: {text}");
        let sent: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let whole = sent.is_object().then_some(&sent);
        let written = if sent.is_object() { &sent["entry"] } else { &sent };
        let resources: Vec<_> = written.as_array().unwrap().iter().map(|write| &write["resource"]).collect();
        assert!(resources.len() > 4, "{text}");
        for resource in whole.into_iter().chain(resources) {
            for place in ["security", "tag"] {
                let label = &resource["meta"][place][0];
                assert_eq!(label["code"], "HTEST", "{resource}");
                assert_eq!(label["system"], "http://terminology.hl7.org/CodeSystem/v3-ActReason");
            }
            let subject = &resource["subject"];
            assert!(subject.is_null() || subject["identifier"]["value"] == "AFFERENT-TEST", "{resource}");
        }
        // What a test writes is never what a real result updates, or the other way round.
        let names = |bytes: &[u8]| -> BTreeSet<String> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let urls = text.split(['"']).filter(|part| part.contains("?identifier=") && !part.starts_with("Patient"));
            urls.map(String::from).collect()
        };
        let of_real = names(&map(&real, &target(format), &origin()).unwrap());
        assert!(of_real.len() > 3 && of_real.is_disjoint(&names(&bytes)), "{text}");
    }
}

#[test]
fn the_header_names_both_sides_the_version_and_the_character_set() {
    for version in VERSIONS {
        let message = hl7(&report("chemistry"), version);
        let expected = [
            (2, "^~\\&"),
            (3, "AFFERENT"),
            (4, "LAB^2.16.840.1.113883.19.4^ISO"),
            (5, "EHR"),
            (6, "HOSP"),
            (7, "20261103092000+0100"),
            (9, "ORU^R01^ORU_R01"),
            (10, "A0000000000000000001"),
            (11, "P"),
            (12, version.name()),
            (18, "UNICODE UTF-8"),
        ];
        for (n, text) in expected {
            assert_eq!(field(&message, "MSH", n), text, "MSH-{n}");
        }
        assert!(message.ends_with('\r'));
    }
}

#[test]
fn an_order_is_referred_to_by_its_number_and_whoever_gave_it() {
    let system = |namespace: Option<&str>| {
        let mut report = one(Value::Number(Decimal::parse("5.0").unwrap()));
        report.order.placer_order_number = Phi::new("A-1");
        report.order.placer_namespace = namespace.map(String::from);
        let mut target = target(Format::FhirTransaction);
        target.fhir.order_system = "https://ehr.example/orders".into();
        let bundle: serde_json::Value = serde_json::from_slice(&map(&report, &target, &origin()).unwrap()).unwrap();
        let reference = &resources(&bundle, "DiagnosticReport")[0]["basedOn"][0];
        assert_eq!((&reference["type"], &reference["identifier"]["value"]), (&"ServiceRequest".into(), &"A-1".into()));
        reference["identifier"]["system"].as_str().map(String::from)
    };
    assert_eq!(system(Some("")).as_deref(), Some("https://ehr.example/orders"));
    assert_eq!(system(Some("EHR^1.2.840.99^ISO")).as_deref(), Some("urn:oid:1.2.840.99"));
    assert_eq!(system(Some("EHR^https://ehr.example/n^URI")).as_deref(), Some("https://ehr.example/n"));
    assert_eq!(
        system(Some("HOSP^1.2.3^ISO")).as_deref(),
        Some("urn:oid:2.16.840.1.113883.19.5"),
        "the site's own word first"
    );
    assert_eq!(system(Some("EHR")), None, "a name alone is no system");
    assert_eq!(system(None), None, "the EHR never gave a number that only the instrument says");
}
