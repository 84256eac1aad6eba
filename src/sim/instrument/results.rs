//! Made-up results: synthetic patients, awkward numerals, and messages around them.

use serde::Serialize;

use crate::driver::path::Place;
use crate::driver::{Driver, Protocol};
use crate::sim::random::Random;
use crate::wire::line::framing::{Check, CheckForm, Framing, Mark, Reply};

/// A test an instrument can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analyte {
    /// Code as it is sent.
    pub code: String,
    /// Name as it is sent.
    pub name: String,
    /// Unit as it is sent.
    pub unit: String,
}

/// How the messages of one instrument family look.
#[derive(Debug, Clone)]
pub struct Shape {
    /// H.5 or MSH-3.
    pub sender: String,
    /// Its tests.
    pub analytes: Vec<Analyte>,
    /// Field and component of the O record (ASTM) with the specimen id.
    specimen: (usize, usize),
    /// What every specimen is: fields and components of the O record (ASTM), and what stands there.
    specimen_type: Vec<(usize, usize, String)>,
    /// Component of Q.3 with the specimen id (ASTM).
    pub query_component: usize,
    /// Status that takes a question back (Q.13).
    pub cancel_status: String,
    /// Component of R.3 with the test code, and what follows the code in it.
    code_component: usize,
    code_suffix: String,
    /// Orders and results are OBR and OBX segments between ASTM records, as a few instruments write them.
    has_segments: bool,
    /// Component of R.3 in which the instrument's own codes stand: what is ordered comes back there.
    own_component: usize,
    /// Its messages are marked as training (H.12, MSH-11 `T`), and of a patient who is nobody.
    is_test: bool,
}

/// One made-up result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MadeResult {
    /// Code of the test.
    pub code: String,
    /// Numeral, digit for digit as sent.
    pub value: String,
    /// Unit as sent.
    pub unit: String,
    /// Flag, `N`, `L` or `H`.
    pub flag: &'static str,
}

/// One made-up specimen, or a correction of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Specimen {
    /// Specimen id, unique per run: four characters of the run, then the number.
    pub id: String,
    /// Its number.
    pub number: u64,
    /// 0 for first results (status F), 1 for their correction (status C).
    pub version: u8,
    /// What was found.
    pub results: Vec<MadeResult>,
}

/// LOINC code, name and unit of what an instrument without a driver reports.
const GENERIC: [(&str, &str, &str); 8] = [
    ("2345-7", "Glucose", "mg/dL"),
    ("2160-0", "Creatinine", "mg/dL"),
    ("2823-3", "Potassium", "mmol/L"),
    ("2951-2", "Sodium", "mmol/L"),
    ("1742-6", "ALT", "U/L"),
    ("1920-8", "AST", "U/L"),
    ("718-7", "Hemoglobin", "g/dL"),
    ("1988-5", "CRP", "mg/L"),
];

impl Shape {
    /// An instrument nobody wrote a driver for: standard places, LOINC codes.
    pub fn generic() -> Self {
        let analyte = |(code, name, unit): (&str, &str, &str)| Analyte {
            code: code.to_owned(),
            name: name.to_owned(),
            unit: unit.to_owned(),
        };
        Shape {
            sender: "SIMULATED-1".to_owned(),
            analytes: GENERIC.map(analyte).to_vec(),
            specimen: (3, 1),
            specimen_type: Vec::new(),
            query_component: 2,
            cancel_status: "A".to_owned(),
            code_component: 1,
            code_suffix: String::new(),
            has_segments: false,
            own_component: 4,
            is_test: false,
        }
    }

    /// The same instrument reporting by the codes it was ordered by.
    pub fn by_its_own_codes(self) -> Self {
        Shape { code_component: self.own_component, ..self }
    }

    /// The same instrument, sending nothing but test messages.
    pub fn for_tests(self) -> Self {
        Shape { is_test: true, ..self }
    }

    /// Processing id, patient number, name and sex.
    fn whose(&self, number: u64) -> (&'static str, String, &'static str, &'static str) {
        if self.is_test {
            return ("T", "AFFERENT-TEST".to_owned(), "ZZTEST^AFFERENT", "U");
        }
        let (name, sex) = patient(number);
        ("P", format!("PT{number:07}"), name, sex)
    }

    /// An instrument of this driver: its header, the codes it has for one type of specimen with the first unit each may
    /// have, and specimen id, specimen type and code where the driver looks first.
    pub fn of(driver: &Driver) -> Self {
        let generic = Shape::generic();
        let schema = &driver.schema;
        let kinds = schema.analyte.iter().flat_map(|analyte| driver.specimens(analyte));
        let kind = schema.fields.analyte_specimen.iter().chain(kinds).next().map_or("", String::as_str);
        let fits = |limit: &[String]| limit.is_empty() || limit.iter().any(|specimen| specimen == kind);
        let analytes: Vec<_> = schema
            .analyte
            .iter()
            .filter(|analyte| fits(driver.specimens(analyte)))
            .map(|analyte| Analyte {
                code: analyte.code.clone(),
                name: analyte.code.clone(),
                unit: analyte.units.keys().next().cloned().unwrap_or_default(),
            })
            .collect();
        let component = |place: &Place| usize::from(place.component.unwrap_or(1));
        let at = |place: &Place| (usize::from(place.field), component(place));
        let specimen = schema.fields.specimen_id.places().next();
        // A type of several places is read with a slash between them.
        let typed = schema.fields.specimen_type.iter().next().into_iter().flat_map(|path| &path.places);
        let specimen_type = typed.zip(kind.split('/')).filter(|(place, kind)| place.record == "O" && !kind.is_empty());
        let specimen_type = specimen_type.map(|(place, kind)| (at(place).0, at(place).1, kind.to_owned())).collect();
        let code = schema.fields.test_code.places().next();
        let own = !analytes.is_empty();
        let asked = schema.query.as_ref();
        let asked_at = asked.and_then(|query| query.specimen_id.places().next().map(component));
        let cancel_status = asked.and_then(|query| query.cancel_status.first().cloned());
        Shape {
            sender: schema.identity.header.first().map_or(generic.sender, |header| header.replace('*', "1")),
            analytes: if own { analytes } else { generic.analytes },
            specimen: specimen.map_or((3, 1), at),
            specimen_type,
            query_component: asked_at.unwrap_or(generic.query_component),
            cancel_status: cancel_status.unwrap_or(generic.cancel_status),
            code_component: if own { code.map_or(4, component) } else { 1 },
            own_component: code.map_or(4, component),
            code_suffix: schema.fields.test_code_until.chars().take(1).collect(),
            has_segments: driver.protocol() == Protocol::Astm && code.is_some_and(|place| place.record == "OBX"),
            is_test: false,
        }
    }
}

/// The results of specimen `number`. The same numbers give the same results.
pub fn make(shape: &Shape, run: &str, seed: u64, number: u64, version: u8, count: usize) -> Specimen {
    let mut random = Random::new(seed ^ number.wrapping_mul(0x51_7CC1_B727_2202) ^ u64::from(version) << 56);
    let first = random.below(shape.analytes.len());
    let analytes = shape.analytes.iter().cycle().skip(first).take(count.min(shape.analytes.len()));
    let results = analytes.map(|analyte| MadeResult {
        code: analyte.code.clone(),
        value: numeral(&mut random),
        unit: analyte.unit.clone(),
        flag: ["N", "N", "N", "L", "H"].get(random.below(5)).copied().unwrap_or("N"),
    });
    Specimen { id: format!("{run}-{number:07}"), number, version, results: results.collect() }
}

/// The results of what was ordered for a specimen: its tests by the instrument's codes.
pub fn measured(shape: &Shape, id: &str, seed: u64, codes: &[String]) -> Specimen {
    let mut random = Random::new(seed);
    let unit = |code: &str| shape.analytes.iter().find(|a| a.code == code).map_or("", |a| a.unit.as_str()).to_owned();
    let results = codes.iter().map(|code| MadeResult {
        code: code.clone(),
        value: numeral(&mut random),
        unit: unit(code),
        flag: "N",
    });
    Specimen { id: id.to_owned(), number: 0, version: 0, results: results.collect() }
}

/// A decimal numeral that any rounding, float or trimming would change.
fn numeral(random: &mut Random) -> String {
    let whole = random.below(200);
    let part = random.below(1000);
    match random.below(8) {
        0 => format!("{whole}.000"),
        1 => format!("0.0{part:03}"),
        2 => format!("{whole}.{part:03}0"),
        3 => format!("{whole}.00000{part:03}"),
        4 => format!("{}", whole * 1000 + part),
        5 => format!("<{whole}.{part:03}"),
        _ => format!("{whole}.{part:03}"),
    }
}

/// The records of an LIS02-A2 message, without their ends.
pub fn records(shape: &Shape, specimen: &Specimen, time: &str) -> Vec<Vec<u8>> {
    let status = status(specimen);
    let number = specimen.number;
    let (processing, id, name, sex) = shape.whose(number);
    let mut records = vec![
        format!("H|\\^&|||{}|||||||{processing}|LIS2-A2|{time}", shape.sender),
        format!("P|1||{id}||{name}||19700101|{sex}"),
        match shape.has_segments {
            true => format!("OBR|1||{}||||{time}", specimen.id),
            false => order(shape, &specimen.id, time),
        },
    ];
    for (index, result) in specimen.results.iter().enumerate() {
        let code = nested(shape.code_component, &format!("{}{}", result.code, shape.code_suffix));
        let MadeResult { value, unit, flag, .. } = result;
        let n = index + 1;
        records.push(match shape.has_segments {
            true => format!("OBX|{n}|NM|{code}||{value}|{unit}||{flag}|||{status}|{time}"),
            false => format!("R|{n}|{code}|{value}|{unit}||{flag}||{status}||||{time}"),
        });
    }
    records.push("L|1|N".to_owned());
    records.into_iter().map(String::into_bytes).collect()
}

/// The O record of a specimen (LIS02-A2 clause 9).
fn order(shape: &Shape, id: &str, time: &str) -> String {
    let mut fields = vec![String::new(); 26];
    let (field, component) = shape.specimen;
    let own = shape.specimen_type.iter().map(|(field, component, kind)| (*field, *component, kind.as_str()));
    let standard = [(1, 1, "O"), (2, 1, "1"), (6, 1, "R"), (8, 1, time), (12, 1, "N"), (26, 1, "F")];
    for (field, component, text) in standard.into_iter().chain(own).chain([(field, component, id)]) {
        let Some(there) = field.checked_sub(1).and_then(|index| fields.get_mut(index)) else { continue };
        let mut components: Vec<&str> = there.split('^').collect();
        components.resize(components.len().max(component), "");
        if let Some(there) = component.checked_sub(1).and_then(|index| components.get_mut(index)) {
            *there = text;
        }
        *there = components.join("^");
    }
    fields.join("|")
}

/// An ORU^R01 message of HL7 2.5.1. `control_id` stays the same when the message is sent again.
pub fn oru(shape: &Shape, specimen: &Specimen, control_id: &str, time: &str) -> Vec<u8> {
    let status = status(specimen);
    let number = specimen.number;
    let (processing, patient_id, name, sex) = shape.whose(number);
    let id = &specimen.id;
    let sender = &shape.sender;
    let mut segments = vec![
        format!("MSH|^~\\&|{sender}|LAB|||{time}||ORU^R01^ORU_R01|{control_id}|{processing}|2.5.1||||||UNICODE UTF-8"),
        format!("PID|1||{patient_id}^^^HOSP^MR||{name}||19700101|{sex}"),
        format!("OBR|1||{id}|PANEL^Panel^L|||{time}||||||||||||||||||{status}"),
    ];
    for (index, result) in specimen.results.iter().enumerate() {
        let MadeResult { code, value, unit, flag } = result;
        let (kind, value) = match value.strip_prefix('<') {
            Some(limit) => ("SN", format!("<^{limit}")),
            None => ("NM", value.clone()),
        };
        let name = shape.analytes.iter().find(|a| a.code == *code).map_or("", |a| a.name.as_str());
        let system = if is_loinc(code) { "LN" } else { "L" };
        segments.push(format!(
            "OBX|{}|{kind}|{code}^{name}^{system}||{value}|{unit}||{flag}|||{status}|||{time}",
            index + 1
        ));
    }
    segments.push(format!("SPM|1|{id}||SER"));
    (segments.join("\r") + "\r").into_bytes()
}

/// A printed report, as many an instrument without a standard sends it.
pub fn report(shape: &Shape, specimen: &Specimen, time: &str) -> Vec<u8> {
    let mut lines = vec![format!("ID: {}", specimen.id), format!("Date/Time: {time}")];
    for MadeResult { code, value, unit, flag } in &specimen.results {
        let name = shape.analytes.iter().find(|a| a.code == *code).map_or(code.as_str(), |a| a.name.as_str());
        lines.push(format!("{name} {value} {unit} {flag}"));
    }
    (lines.join("\r\n") + "\r\n").into_bytes()
}

/// How a simulated instrument frames its printed reports: between STX and ETX, with a BCC in hexadecimal digits, and it
/// wants to hear ACK.
pub fn report_framing() -> Framing {
    Framing {
        start: Mark(vec![0x02]),
        end: vec![Mark(vec![0x03])],
        check: Some(Check { form: CheckForm::Hex, ..Check::default() }),
        reply: Reply::Ack,
        ..Framing::default()
    }
}

fn status(specimen: &Specimen) -> &'static str {
    if specimen.version == 0 { "F" } else { "C" }
}

fn patient(number: u64) -> (&'static str, &'static str) {
    if number.is_multiple_of(2) { ("DOE^JANE", "F") } else { ("ROE^RICHARD", "M") }
}

/// The text in component `n` of an otherwise empty field.
fn nested(n: usize, text: &str) -> String {
    "^".repeat(n.saturating_sub(1)) + text
}

fn is_loinc(code: &str) -> bool {
    code.split_once('-').is_some_and(|(number, check)| {
        check.len() == 1
            && (1..=7).contains(&number.len())
            && [number, check].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clinical::Doubt;
    use crate::driver::Context;

    #[test]
    fn the_same_numbers_make_the_same_results() {
        let shape = Shape::generic();
        assert_eq!(make(&shape, "S001", 1, 5, 0, 4), make(&shape, "S001", 1, 5, 0, 4));
        assert_ne!(make(&shape, "S001", 1, 5, 0, 4).results, make(&shape, "S001", 1, 5, 1, 4).results);
        assert_eq!(make(&shape, "S001", 1, 5, 0, 100).results.len(), 8, "no test twice in a specimen");
    }

    #[test]
    fn the_driver_says_where_things_stand() {
        let registry = crate::driver::Registry::builtin();
        let shape = Shape::of(registry.get("roche-cobas-c311").unwrap());
        let specimen = make(&shape, "S001", 3, 17, 0, 2);
        let records = records(&shape, &specimen, "20260102030405");
        let code = &specimen.results[0].code;
        assert!(records[0].starts_with(b"H|\\^&|||c311^1|"));
        assert!(records[2].starts_with(b"O|1|^S001-0000017|R1||R||20260102030405||||N|"));
        assert!(records[3].starts_with(format!("R|1|^^^{code}/|").as_bytes()));
    }

    #[test]
    fn every_driver_reads_what_an_instrument_of_it_sends() {
        let registry = crate::driver::Registry::builtin();
        let context = Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true };
        let mut read = 0;
        for driver in registry.iter().filter(|d| d.protocol() == Protocol::Astm && !d.schema.analyte.is_empty()) {
            let shape = Shape::of(driver);
            let specimen = make(&shape, "S001", 3, 17, 0, usize::MAX);
            let message = records(&shape, &specimen, "20260102030405").join(&b'\r');
            let interpretation = crate::driver::interpret(driver, &message, &context);
            let [report] = interpretation.reports.as_slice() else { panic!("{}: {interpretation:?}", driver.id) };
            assert_eq!(report.specimen.id.expose(), &specimen.id, "{}", driver.id);
            assert_eq!(report.observations.len(), specimen.results.len(), "{}", driver.id);
            for observation in &report.observations {
                // What names no unit is held until a site has said it.
                let without = driver.schema.units.is_empty() && observation.unit.is_empty();
                let held = |d: &&Doubt| **d == Doubt::UnmappedCode || (**d == Doubt::UnknownUnit && !without);
                assert_eq!(observation.doubts.iter().find(held), None, "{}: {:?}", driver.id, observation.code);
            }
            read += 1;
        }
        assert!(read > 10, "{read}");
    }
}
