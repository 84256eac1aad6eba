//! POCT1-A observations to reports: `OBS.R01` (patients) and `OBS.R02` (controls and calibration).
//!
//! A result is an `OBS` object inside a patient (`PT`) or a control (`CTC`), inside a service (`SVC`). What a path names
//! is looked for from the result outwards: in the object around it, beside that, and so on. Each patient or control of
//! each service makes one report.

use super::observe::{Reader, Sent, Setting, asserted_loinc, reason};
use super::path::{Paths, Place};
use super::read::{Origin, Source, first};
use super::{Context, Driver, Interpretation, value};
use crate::clinical::{Coding, Doubt, Observation, Timestamp};
use crate::message::poct1a::{self, Document, Element, RESULT};

/// The message of patients' results.
const OF_PATIENTS: &str = "OBS.R01";
/// The message of everything else that is measured.
const OF_CONTROLS: &str = "OBS.R02";
/// `SVC.role_cd` of a patient's result; every other role (LQC, EQC, CVR, CAL, PRF) is a control run.
const PATIENT_ROLE: &str = "OBS";
/// What devices write for a patient they do not know.
const NOBODY: &str = "UNKNOWN";
/// `SVC.status_cd` under normal conditions; OVR is a run the device would have refused without a supervisor.
const SOUND_SERVICES: [&str; 2] = ["", "NRM"];
/// `SVC.reason_cd` of a new result, and of one sent again from memory; EDT is one a person has changed.
const SOUND_REASONS: [&str; 3] = ["", "NEW", "RES"];
/// `OBS.method_cd` measured and calculated; others are typed in, estimated or assumed.
const SOUND_METHODS: [&str; 3] = ["", "M", "C"];

pub(super) fn interpret(driver: &Driver, raw: &[u8], context: &Context, trace: bool) -> (Interpretation, Vec<Origin>) {
    let mut reader = Reader::new(driver, context, trace);
    let charset = reader.charset();
    let reading = poct1a::read(raw, charset);
    for oddity in &reading.oddities {
        reader.note(oddity.record, oddity.what);
    }
    let mut results = 0;
    for document in &reading.documents {
        results = Walk::new(&mut reader, document, results).run();
    }
    if reading.cut_off {
        reader.refuse(0, RESULT, reason::CUT_OFF);
    }
    if results == 0 && reader.out.refused.is_empty() {
        reader.note(0, "no results in this message");
    }
    (reader.out, reader.trace.origins)
}

/// The objects around one point of a document, from the root inwards.
struct Scope<'m> {
    document: &'m Document,
    around: Vec<&'m Element>,
}

impl<'m> Scope<'m> {
    /// The nearest object of this name: around the point, or beside what is around it.
    fn object(&self, name: &str) -> Option<&'m Element> {
        self.around.iter().rev().find_map(|e| if e.name == name { Some(*e) } else { e.child(name) })
    }

    /// Every field of this name in the nearest object that could hold it.
    fn fields(&self, place: &Place) -> impl Iterator<Item = &'m Element> {
        let name = place.item.as_ref().map(|item| format!("{}.{}", place.record, item.name)).unwrap_or_default();
        let all = self.object(&place.record).map(|object| object.children.as_slice()).unwrap_or_default();
        all.iter().filter(move |field| field.name == name)
    }

    /// `V` of a field, blanks around it removed.
    fn value(&self, object: &str, field: &str) -> &'m str {
        self.object(object).and_then(|o| o.child(field)).map_or("", |f| f.attribute("V").trim())
    }

    fn within(&self, element: &'m Element) -> Scope<'m> {
        Scope { document: self.document, around: self.around.iter().copied().chain([element]).collect() }
    }
}

impl Source for Scope<'_> {
    fn text(&self, place: &Place, _whole: bool) -> String {
        self.fields(place).next().map(|field| text(field, place)).unwrap_or_default()
    }

    fn number(&self, place: &Place) -> Option<u32> {
        self.object(&place.record).map(|object| self.document.number(object))
    }
}

/// What a place says of a field. Times and dates come in the digits all reports have.
fn text(field: &Element, place: &Place) -> String {
    let Some(item) = &place.item else { return String::new() };
    let holder = match &item.inside {
        Some(name) => field.child(name),
        None => Some(field),
    };
    let text = holder.map(|h| h.attribute(item.attribute.as_deref().unwrap_or("V"))).unwrap_or_default();
    let is_time = item.name.ends_with("_dttm") || item.name.ends_with("_date");
    if is_time { poct1a::digits(text.trim()) } else { text.to_string() }
}

struct Walk<'w, 'r, 'm> {
    reader: &'w mut Reader<'r>,
    document: &'m Document,
    setting: Setting,
    results: usize,
}

impl<'w, 'r, 'm> Walk<'w, 'r, 'm> {
    fn new(reader: &'w mut Reader<'r>, document: &'m Document, results: usize) -> Self {
        let of_results = matches!(document.root.name.as_str(), OF_PATIENTS | OF_CONTROLS);
        let has_results = document.root.find(RESULT).is_some();
        if has_results && !of_results {
            reader.note(document.number(&document.root), "results in a message that is no result message");
        }
        let setting = Setting {
            not_production: false,
            control: document.root.name == OF_CONTROLS,
            incomplete: !reader.context.complete,
            unreadable: document.damaged || (has_results && !of_results),
            bad_charset: !document.clean,
        };
        Walk { reader, document, setting, results }
    }

    /// Walks the document and returns how many results have been read so far.
    fn run(mut self) -> usize {
        let document = self.document;
        self.visit(&Scope { document, around: vec![&document.root] });
        for _ in 0..document.lost.min(super::RESULTS_MAX) {
            self.reader.refuse(document.number(&document.root), RESULT, reason::BEYOND);
        }
        self.results
    }

    /// The results right inside the innermost object are one report; then the same for each object inside.
    fn visit(&mut self, scope: &Scope<'m>) {
        let Some(object) = scope.around.last().copied() else { return };
        if object.child(RESULT).is_some() {
            self.report(scope, object);
        }
        for inside in &object.children {
            self.visit(&scope.within(inside));
        }
    }

    fn report(&mut self, scope: &Scope<'m>, object: &'m Element) {
        let mut observations = Vec::new();
        for result in object.children.iter().filter(|c| c.name == RESULT) {
            observations.extend(self.result(&scope.within(result), result));
        }
        if observations.is_empty() {
            return;
        }
        let (mut report, specimen_known) = self.reader.report(scope, "");
        let nobody = report.patient.id.expose().eq_ignore_ascii_case(NOBODY);
        if nobody {
            self.reader.note(self.document.number(object), "the device does not know the patient");
        }
        let role = scope.value("SVC", "SVC.role_cd");
        let by_code = self.setting.control
            || !(role.is_empty() || role == PATIENT_ROLE)
            || self.reader.driver.schema.qc.specimen_role.iter().any(|r| r == role)
            || scope.object("CTC").is_some();
        report.control = self.reader.control(&report, "", by_code, scope);
        report.observations = observations;
        report.comments = self.comments(scope);
        report.message_time =
            Timestamp::parse(&poct1a::digits(scope.value("HDR", "HDR.creation_dttm")), &self.reader.context.zone);
        self.reader.finish(report, specimen_known && !nobody, self.setting);
    }

    fn result(&mut self, scope: &Scope<'m>, result: &'m Element) -> Option<Observation> {
        let record = self.document.number(result);
        let count = self.results;
        if !self.reader.has_room(count, record, RESULT) {
            return None;
        }
        let fields = &self.reader.driver.schema.fields;
        let code = self.reader.code("test_code", &fields.test_code, scope);
        let (path, text) = first(&fields.value, scope, true, "value", &mut self.reader.trace);
        if let Some(reason) = self.reader.no_result(&code, &text, scope) {
            self.reader.refuse(record, RESULT, reason);
            return None;
        }
        let unit = self.reader.text("unit", &fields.unit, scope);
        let specimen = self.reader.text("specimen_type", &fields.specimen_type, scope);
        let rules = self.reader.rules(&code, &specimen, &unit);
        let sent = Sent {
            record,
            loinc: loinc(result),
            code,
            specimen,
            name: self.reader.text("test_name", &fields.test_name, scope),
            value: value::text(&text, rules),
            unit,
            reference_range: self.reader.text("reference_range", &fields.reference_range, scope),
            flags: flags(&fields.flag, scope),
            qualitative: self.reader.qualitative(path, scope),
            status: self.reader.text("result_status", &fields.result_status, scope),
            order_status: String::new(),
            completed: self.reader.time("completed", &fields.completed, scope),
            operator: self.reader.text("operator", &fields.operator, scope),
        };
        let mut observation = self.reader.observation(sent);
        let sound = SOUND_SERVICES.contains(&scope.value("SVC", "SVC.status_cd"))
            && SOUND_REASONS.contains(&scope.value("SVC", "SVC.reason_cd"))
            && SOUND_METHODS.contains(&scope.value(RESULT, "OBS.method_cd"));
        if !sound {
            observation.doubts.push(Doubt::Questionable);
        }
        for comment in result.children.iter().filter(|c| c.name == "NTE") {
            let text = self.reader.text("comment", &fields.comment, &scope.within(comment));
            self.reader.comment(&mut observation, text, true);
        }
        self.results += 1;
        Some(observation)
    }

    /// Comments on the patient and the service, and which reagents were used.
    fn comments(&mut self, scope: &Scope<'m>) -> Vec<String> {
        let fields = &self.reader.driver.schema.fields;
        let mut comments = Vec::new();
        for object in &scope.around {
            for comment in object.children.iter().filter(|c| c.name == "NTE") {
                comments.push(self.reader.text("comment", &fields.comment, &scope.within(comment)));
            }
            comments.extend(object.children.iter().filter(|c| c.name == "RGT").map(reagent));
        }
        comments.retain(|text| !text.is_empty());
        comments
    }
}

/// `Reagent DCA HbA1c, lot 0852, expires 2020-03-31`.
fn reagent(object: &Element) -> String {
    let said = |field: &str| object.child(field).map_or("", |f| f.attribute("V").trim());
    let mut text = format!("Reagent {}", said("RGT.name")).trim_end().to_string();
    for (words, value) in [("lot", said("RGT.lot_number")), ("expires", said("RGT.expiration_date"))] {
        if !value.is_empty() {
            text.push_str(&format!(", {words} {value}"));
        }
    }
    if text == "Reagent" { String::new() } else { text }
}

/// A LOINC the device declares as such: a code or its translation with the tag LN.
fn loinc(result: &Element) -> Option<Coding> {
    let id = result.child("OBS.observation_id")?;
    let text = id.child("TRANSLTN").map_or("", |t| t.attribute("V"));
    [Some(id), id.child("TRANSLTN")]
        .into_iter()
        .flatten()
        .filter(|code| code.attribute("SN") == "LN")
        .find_map(|code| asserted_loinc(code.attribute("V").trim(), text.trim()))
}

/// Every repeat of the first flag field that is not empty.
fn flags(paths: &Paths, scope: &Scope<'_>) -> Vec<String> {
    for place in paths.places() {
        let flags: Vec<String> = scope.fields(place).map(|field| text(field, place)).collect();
        if flags.iter().any(|f| !f.trim().is_empty()) {
            return flags;
        }
    }
    Vec::new()
}
