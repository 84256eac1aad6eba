//! Structured reports (PS3.3 C.17.3): the measurements of the tree, each with the context it inherits.
//!
//! Finding site, laterality, image mode, fetus and tracking id are said once, of the container; what a number says of
//! itself counts more. Concepts are known by code: SNOMED RT as carts write it and its SNOMED CT twin are one.
//!
//! A cart that measures three times reports three numbers and a mean, or the chosen one with a Selection Status beside
//! them. Those three are raw. Some write the chosen value a second time without the status; that one is a repeat.

use super::head::{coding, first_coding};
use super::{DataSet, tags};
use crate::clinical::imaging::{DicomTime, Measurement, MeasurementReport, Modifier, ModifierValue};
use crate::clinical::{Coding, CodingSystem, Decimal, Doubt, Unit};
use std::collections::{HashMap, HashSet};

/// Most measurements taken of one report.
pub const MEASUREMENTS_MAX: usize = 10_000;
/// Longest words kept of all measurements of one report, in bytes: what numbers inherit is kept once for each.
const WORDS_BYTES_MAX: usize = 32 << 20;
/// Longest words that the numbers in a container inherit, in bytes.
const INHERITED_BYTES_MAX: usize = 64 << 10;
/// Most predecessors read of one document.
const PREDECESSORS_MAX: usize = 64;
/// Most documents read of one rejection note: with what they go back to they are one line.
const REJECTED_MAX: usize = 32;
/// Most modifiers kept of one measurement.
const MODIFIERS_MAX: usize = 64;
/// Root of a vascular ultrasound report (TID 5100): its containers are named after vessels.
const VASCULAR_ROOT: &str = "125100";
/// Purposes of reference that say of a predecessor that its place is taken (CID 7009): it is replaced, was preliminary, or
/// was a part. One that is addended, or is evidence, stands.
const REPLACED: [&str; 3] = ["121360", "121362", "121363"];
/// Titles of a rejection note (CID 7011) that say that what it names is wrong: its quality, a danger to the patient, the
/// wrong worklist entry. That the time to keep it is over says nothing of the kind.
const REJECTED: [&str; 3] = ["113001", "113037", "113038"];
/// Mean, in SNOMED RT and CT.
const MEANS: [&str; 2] = ["R-00317", "373098007"];

/// What a content item is about, whatever code it goes by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Concept {
    FindingSite,
    Laterality,
    ImageMode,
    Method,
    Derivation,
    CyclePoint,
    Direction,
    SelectionStatus,
    Tracking,
    TrackingUid,
    Fetus,
    SubjectClass,
    SubjectId,
    /// About the document, not about a measurement.
    Language,
    Other,
}

/// What a number inherits and may say anew.
#[derive(Clone, Default)]
struct Context {
    said: Measurement,
    is_fetus: bool,
    is_vascular: bool,
}

/// The measurements found, and whether they are all there are.
#[derive(Default)]
struct Found {
    measurements: Vec<Measurement>,
    words_bytes: usize,
    is_cut: bool,
}

/// The measurements of a data set that is a structured report; `None` when it is none.
pub fn measurement_report(set: &DataSet) -> Option<MeasurementReport> {
    if set.first(tags::VALUE_TYPE) != "CONTAINER" {
        return None;
    }
    let title = first_coding(set, tags::CONCEPT_NAME_CODE_SEQUENCE).unwrap_or_default();
    let mut context = Context { is_vascular: title.code == VASCULAR_ROOT, ..Context::default() };
    context.said.path = "1".to_string();
    let mut found = Found::default();
    container(set, context, &mut found);
    let Found { mut measurements, is_cut, .. } = found;
    let repeats = tell_apart(&mut measurements);
    Some(MeasurementReport {
        template: set
            .item(tags::CONTENT_TEMPLATE_SEQUENCE)
            .map(|t| t.first(tags::TEMPLATE_IDENTIFIER))
            .unwrap_or_default(),
        title,
        sop_class_uid: set.uid(tags::SOP_CLASS_UID),
        sop_instance_uid: set.uid(tags::SOP_INSTANCE_UID),
        predecessors: predecessors(set).0,
        first_uid: String::new(),
        completion: set.first(tags::COMPLETION_FLAG),
        verification: set.first(tags::VERIFICATION_FLAG),
        made: DicomTime {
            date: set.first(tags::CONTENT_DATE),
            time: set.first(tags::CONTENT_TIME),
            offset: set.first(tags::TIMEZONE_OFFSET_FROM_UTC),
        },
        measurements,
        repeats,
        is_cut,
    })
}

/// The documents that a document names as wholly or partly included in it (PS3.3 C.17.2): it may take their place, unless
/// it says that it names them for another purpose (0040,A170). The first 64, and true when there are more.
pub fn predecessors(set: &DataSet) -> (Vec<String>, bool) {
    let studies = set.items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).iter();
    let series = studies.flat_map(|study| study.items(tags::REFERENCED_SERIES_SEQUENCE));
    let documents = series.flat_map(|series| series.items(tags::REFERENCED_SOP_SEQUENCE));
    let replaced = documents.filter(|document| {
        let mut purposes =
            document.items(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE).iter().filter_map(coding).peekable();
        let is_none_said = purposes.peek().is_none();
        is_none_said || purposes.any(|purpose| REPLACED.contains(&purpose.code.as_str()))
    });
    at_most(PREDECESSORS_MAX, replaced.map(|document| document.uid(tags::REFERENCED_SOP_INSTANCE_UID)))
}

/// The documents that a rejection note (PS3.3 A.35.4 with a title of CID 7011) says are wrong; nothing of another document.
/// Images it names are for the archive. `None` of one that names more than 32 documents: half of them would be acted on.
pub fn rejected(set: &DataSet, is_document: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let title = first_coding(set, tags::CONCEPT_NAME_CODE_SEQUENCE);
    if !title.is_some_and(|title| title.system.hl7() == "DCM" && REJECTED.contains(&title.code.as_str())) {
        return Some(Vec::new());
    }
    let studies = set.items(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE).iter();
    let series = studies.flat_map(|study| study.items(tags::REFERENCED_SERIES_SEQUENCE));
    let named = series.flat_map(|series| series.items(tags::REFERENCED_SOP_SEQUENCE));
    let documents = named.filter(|named| is_document(&named.uid(tags::REFERENCED_SOP_CLASS_UID)));
    let (uids, is_cut) = at_most(REJECTED_MAX, documents.map(|named| named.uid(tags::REFERENCED_SOP_INSTANCE_UID)));
    (!is_cut).then_some(uids)
}

/// The first of these UIDs, and true when there are more.
fn at_most(most: usize, uids: impl Iterator<Item = String>) -> (Vec<String>, bool) {
    let mut uids: Vec<String> = uids.filter(|uid| !uid.is_empty()).take(most + 1).collect();
    let is_cut = uids.len() > most;
    uids.truncate(most);
    (uids, is_cut)
}

/// A container: first what it says of all that is in it, then what is in it.
fn container(set: &DataSet, mut context: Context, found: &mut Found) {
    let items = set.items(tags::CONTENT_SEQUENCE);
    let around = context.said.group_name.take().filter(|_| context.said.group != "1");
    context.said.sections.extend(around);
    context.said.group = context.said.path.clone();
    context.said.group_name = first_coding(set, tags::CONCEPT_NAME_CODE_SEQUENCE);
    if let Some(name) = context.said.group_name.clone().filter(|name| is_anatomy(name, context.is_vascular)) {
        context.said.site = Some(name);
    }
    for item in items.iter().filter(|item| is_context(item)) {
        context.take(item);
    }
    found.is_cut |= words_bytes(&context.said) > INHERITED_BYTES_MAX;
    if found.is_cut {
        return;
    }
    for (at, item) in items.iter().enumerate().filter(|(_, item)| !is_context(item)) {
        let mut inner = context.clone();
        inner.said.path = format!("{}.{}", context.said.path, at + 1);
        match item.first(tags::VALUE_TYPE).as_str() {
            "NUM" if item.first(tags::RELATIONSHIP_TYPE) != "HAS ACQ CONTEXT" => number(item, inner, found, false),
            "CONTAINER" => container(item, inner, found),
            _ => {}
        }
    }
}

/// A number: what it says of itself, and those it was inferred from.
fn number(item: &DataSet, mut context: Context, found: &mut Found, is_raw: bool) {
    found.is_cut |= found.measurements.len() >= MEASUREMENTS_MAX || found.words_bytes > WORDS_BYTES_MAX;
    if found.is_cut {
        return;
    }
    let inherited = context.clone();
    let mut raw = Vec::new();
    for (at, child) in item.items(tags::CONTENT_SEQUENCE).iter().enumerate() {
        let kind = child.first(tags::VALUE_TYPE);
        match (child.first(tags::RELATIONSHIP_TYPE).as_str(), kind.as_str()) {
            ("INFERRED FROM" | "R-INFERRED FROM", "NUM") => raw.push((at, child)),
            (_, "IMAGE" | "COMPOSITE" | "SCOORD" | "SCOORD3D") => context.take_images(child),
            _ => context.take(child),
        }
    }
    let mut measurement = context.said;
    let measured = item.item(tags::MEASURED_VALUE_SEQUENCE);
    measurement.is_raw = is_raw;
    measurement.code = first_coding(item, tags::CONCEPT_NAME_CODE_SEQUENCE).unwrap_or_default();
    measurement.value = measured.map(|m| m.first(tags::NUMERIC_VALUE)).unwrap_or_default();
    measurement.unit = measured.and_then(|m| first_coding(m, tags::MEASUREMENT_UNITS_CODE_SEQUENCE));
    measurement.qualifier = first_coding(item, tags::NUMERIC_VALUE_QUALIFIER_CODE_SEQUENCE);
    measurement.observed = DicomTime::from_date_time(&item.first(tags::OBSERVATION_DATE_TIME));
    let unit = measurement.unit.as_ref();
    // Some name UCUM and write it; some write it and name nobody. Only what is a UCUM unit becomes one.
    measurement.ucum = unit.map(|u| u.code.clone()).filter(|code| is_ucum(code)).unwrap_or_default();
    measurement.doubts = doubts(&measurement);
    let path = measurement.path.clone();
    found.words_bytes += words_bytes(&measurement);
    found.measurements.push(measurement);
    for (at, child) in raw {
        let mut inner = inherited.clone();
        inner.said.path = format!("{path}.{}", at + 1);
        number(child, inner, found, true);
    }
}

/// How long everything is that is said about a number.
fn words_bytes(m: &Measurement) -> usize {
    let of = |coding: &Coding| coding.code.len() + coding.text.len();
    let codes = [&m.site, &m.laterality, &m.mode, &m.method, &m.derivation, &m.cycle_point, &m.direction, &m.selection];
    let codes = codes.into_iter().chain([&m.group_name, &m.unit, &m.qualifier]).flatten().chain(&m.sections);
    let texts =
        [&m.path, &m.value, &m.fetus, &m.tracking, &m.tracking_uid].into_iter().chain(&m.images).map(String::len);
    let modifiers = m.modifiers.iter().map(|modifier| {
        let value = match &modifier.value {
            ModifierValue::Coded(coding) => of(coding),
            ModifierValue::Text(text) => text.len(),
            ModifierValue::Number { value, unit } => value.len() + unit.len(),
        };
        of(&modifier.name) + value
    });
    of(&m.code) + codes.map(of).chain(texts).chain(modifiers).sum::<usize>()
}

fn doubts(measurement: &Measurement) -> Vec<Doubt> {
    let code = &measurement.code;
    let private = match &code.system {
        CodingSystem::Local => true,
        CodingSystem::Other(name) => name.starts_with("99") && name != "99SDM",
        _ => false,
    };
    let is_unreadable = !measurement.value.is_empty() && !is_decimal_string(&measurement.value);
    let is_unknown = measurement.ucum.is_empty() && !measurement.value.is_empty();
    [
        (private || code.code.is_empty(), Doubt::UnmappedCode),
        (is_unreadable, Doubt::UnreadableValue),
        (is_unknown, Doubt::UnknownUnit),
    ]
    .into_iter()
    .filter_map(|(holds, doubt)| holds.then_some(doubt))
    .collect()
}

/// True for a UCUM code. DICOM's own units of uptake (CID 85, `{SUVbw}g/ml`) set the annotation before the unit, which
/// UCUM's grammar does not have and everybody reads.
fn is_ucum(code: &str) -> bool {
    let annotated = code.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(_, unit)| unit);
    Unit::parse(code).is_ok() || annotated.is_some_and(|unit| Unit::parse(unit).is_ok())
}

/// DS (PS3.5 6.2): a decimal, with an exponent or without.
fn is_decimal_string(text: &str) -> bool {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    Decimal::parse(digits).is_some() && !exponent.is_empty() && exponent.bytes().all(|b| b.is_ascii_digit())
}

/// Marks as raw what another number of the same kind was chosen over, and takes out what only repeats a chosen one.
/// Gives how many those were.
fn tell_apart(measurements: &mut Vec<Measurement>) -> u32 {
    let is_mean = |m: &Measurement| m.derivation.as_ref().is_some_and(|d| MEANS.contains(&d.code.as_str()));
    let mut chosen: HashMap<String, HashSet<String>> = HashMap::new();
    let mut averaged = HashSet::new();
    for measurement in measurements.iter() {
        if measurement.selection.is_some() {
            chosen.entry(kind(measurement)).or_default().insert(measurement.value.clone());
        } else if is_mean(measurement) {
            averaged.insert(kind(measurement));
        }
    }
    let before = measurements.len();
    measurements.retain_mut(|m| {
        if m.selection.is_some() || m.is_raw {
            return true;
        }
        let kind = kind(m);
        match chosen.get(&kind) {
            Some(values) if values.contains(&m.value) => return false,
            Some(_) => m.is_raw = true,
            None => m.is_raw = m.derivation.is_none() && averaged.contains(&kind),
        }
        true
    });
    u32::try_from(before - measurements.len()).unwrap_or(u32::MAX)
}

/// What tells one quantity from another: numbers of one kind are of the same thing, measured the same way, in the same
/// container.
fn kind(m: &Measurement) -> String {
    let code = |coding: &Option<Coding>| coding.as_ref().map(|c| c.code.clone()).unwrap_or_default();
    let codes = [&m.site, &m.laterality, &m.mode, &m.cycle_point, &m.method, &m.direction].map(code);
    format!("{:?}", (&m.group, &m.code.code, &m.unit, codes, &m.fetus, &m.tracking, &m.modifiers))
}

/// True for items that say something of their parent.
fn is_context(item: &DataSet) -> bool {
    matches!(item.first(tags::RELATIONSHIP_TYPE).as_str(), "HAS CONCEPT MOD" | "HAS OBS CONTEXT")
}

impl Context {
    /// Takes what an item says.
    fn take(&mut self, item: &DataSet) {
        let Some(name) = first_coding(item, tags::CONCEPT_NAME_CODE_SEQUENCE) else { return };
        let coded = first_coding(item, tags::CONCEPT_CODE_SEQUENCE);
        let said = &mut self.said;
        match concept(&name) {
            Concept::FindingSite => {
                said.site = coded;
                // Post-coordinated: the site's own modifiers say which part and which side of it.
                for inner in item.items(tags::CONTENT_SEQUENCE) {
                    self.take(inner);
                }
            }
            Concept::Laterality => said.laterality = coded,
            Concept::ImageMode => said.mode = coded,
            Concept::Method => said.method = coded,
            Concept::Derivation => said.derivation = coded,
            Concept::CyclePoint => said.cycle_point = coded,
            Concept::Direction => said.direction = coded,
            Concept::SelectionStatus => said.selection = coded,
            Concept::Tracking => said.tracking = item.text(tags::TEXT_VALUE),
            Concept::TrackingUid => said.tracking_uid = item.uid(tags::UID),
            Concept::SubjectClass => self.is_fetus = coded.is_some_and(|c| c.code == "121026"),
            Concept::Fetus => said.fetus = item.text(tags::TEXT_VALUE),
            Concept::SubjectId if self.is_fetus && said.fetus.is_empty() => said.fetus = item.text(tags::TEXT_VALUE),
            Concept::SubjectId | Concept::Language => {}
            Concept::Other => self.modify(item, name, coded),
        }
    }

    /// Everything that has no place of its own. Who observed and what was asked for are about the document.
    fn modify(&mut self, item: &DataSet, name: Coding, coded: Option<Coding>) {
        if item.first(tags::RELATIONSHIP_TYPE) == "HAS OBS CONTEXT" || self.said.modifiers.len() >= MODIFIERS_MAX {
            return;
        }
        let value = match (coded, item.first(tags::VALUE_TYPE).as_str()) {
            (Some(coded), _) => ModifierValue::Coded(coded),
            (None, "TEXT") => ModifierValue::Text(item.text(tags::TEXT_VALUE)),
            (None, "NUM") => {
                let measured = item.item(tags::MEASURED_VALUE_SEQUENCE);
                let unit = measured.and_then(|m| m.item(tags::MEASUREMENT_UNITS_CODE_SEQUENCE)).and_then(coding);
                ModifierValue::Number {
                    value: measured.map(|m| m.first(tags::NUMERIC_VALUE)).unwrap_or_default(),
                    unit: unit.unwrap_or_default().code,
                }
            }
            _ => return,
        };
        self.said.modifiers.retain(|m| m.name.code != name.code);
        self.said.modifiers.push(Modifier { name, value });
    }

    fn take_images(&mut self, item: &DataSet) {
        let nested = item.items(tags::CONTENT_SEQUENCE).iter().flat_map(|i| i.items(tags::REFERENCED_SOP_SEQUENCE));
        for image in item.items(tags::REFERENCED_SOP_SEQUENCE).iter().chain(nested).take(MODIFIERS_MAX) {
            let uid = image.uid(tags::REFERENCED_SOP_INSTANCE_UID);
            if !uid.is_empty() && !self.said.images.contains(&uid) {
                self.said.images.push(uid);
            }
        }
    }
}

/// Which concept a name stands for, by its code in DCM, SNOMED RT or SNOMED CT.
fn concept(name: &Coding) -> Concept {
    match name.code.as_str() {
        "G-C0E3" | "363698007" => Concept::FindingSite,
        "G-C171" | "272741003" => Concept::Laterality,
        "G-0373" | "399264008" => Concept::ImageMode,
        "G-C036" | "370129005" => Concept::Method,
        "121401" => Concept::Derivation,
        "R-4089A" | "272518008" => Concept::CyclePoint,
        "G-C048" | "260674002" => Concept::Direction,
        "121404" => Concept::SelectionStatus,
        "112039" => Concept::Tracking,
        "112040" => Concept::TrackingUid,
        "11951-1" => Concept::Fetus,
        "121024" => Concept::SubjectClass,
        "121030" => Concept::SubjectId,
        "121049" | "121046" | "121058" => Concept::Language,
        _ => Concept::Other,
    }
}

/// True when a container is named after a part of the body. SNOMED RT has an axis for it; of SNOMED CT only the
/// template says so.
fn is_anatomy(name: &Coding, is_vascular: bool) -> bool {
    match &name.system {
        CodingSystem::Snomed => is_vascular,
        CodingSystem::Other(scheme) => {
            ["SRT", "SNM3", "99SDM"].contains(&scheme.as_str()) && name.code.starts_with("T-")
        }
        _ => false,
    }
}
