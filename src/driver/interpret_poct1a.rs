//! POCT1-A observations to reports: `OBS.R01` (patients) and `OBS.R02` (controls and calibration).
//!
//! A result is an `OBS` object inside a patient (`PT`) or a control (`CTC`), inside a service (`SVC`). What a path names
//! is looked for from the result outwards: in the object around it, beside that, and so on. Each patient or control of
//! each service makes one report.

use super::condition::{Stage, Then};
use super::observe::{Reader, Sent, Setting, asserted_loinc, reason};
use super::path::{Paths, Place};
use super::read::{Origin, Source, Trace};
use super::{Context, Driver, Interpretation, unread, value};
use crate::clinical::{Coding, Doubt, Observation, Timestamp};
use crate::message::poct1a::{self, Document, Element, RESULT};
use std::collections::HashMap;

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
    if trace {
        unread::poct1a(&mut reader.trace, &reading.documents);
    }
    (reader.out, reader.trace.origins)
}

/// What stands inside each element of a document, by name: a document with thousands of results is not searched from
/// its beginning for each of them.
struct Index<'m>(HashMap<u32, HashMap<&'m str, Vec<&'m Element>>>);

impl<'m> Index<'m> {
    fn of(root: &'m Element) -> Self {
        let mut index = Index(HashMap::new());
        index.add(root);
        index
    }

    fn add(&mut self, element: &'m Element) {
        for child in &element.children {
            self.0.entry(element.number).or_default().entry(&child.name).or_default().push(child);
            self.add(child);
        }
    }

    /// The children of this name.
    fn children(&self, of: &Element, name: &str) -> &[&'m Element] {
        self.0.get(&of.number).and_then(|names| names.get(name)).map_or(&[], Vec::as_slice)
    }
}

/// The objects around one point of a document, from the root inwards.
struct Scope<'i, 'm> {
    document: &'m Document,
    index: &'i Index<'m>,
    around: Vec<&'m Element>,
}

impl<'i, 'm> Scope<'i, 'm> {
    /// The nearest object of this name: around the point, or beside what is around it.
    fn object(&self, name: &str) -> Option<&'m Element> {
        let beside = |e: &'m Element| self.index.children(e, name).first().copied();
        self.around.iter().rev().find_map(|e| if e.name == name { Some(*e) } else { beside(e) })
    }

    /// Every field of this name in the nearest object that could hold it.
    fn fields(&self, place: &Place) -> &[&'m Element] {
        let (Some(object), Some(item)) = (self.object(&place.record), &place.item) else { return &[] };
        self.index.children(object, &format!("{}.{}", place.record, item.name))
    }

    /// `V` of a field, blanks around it removed.
    fn value(&self, object: &str, field: &str) -> &'m str {
        let found = self.object(object).and_then(|o| self.index.children(o, field).first().copied());
        found.map_or("", |f| f.attribute("V").trim())
    }

    fn within(&self, element: &'m Element) -> Scope<'i, 'm> {
        Scope {
            document: self.document,
            index: self.index,
            around: self.around.iter().copied().chain([element]).collect(),
        }
    }
}

impl Source for Scope<'_, '_> {
    fn text(&self, place: &Place, _whole: bool) -> String {
        self.fields(place).first().map(|field| text(field, place)).unwrap_or_default()
    }

    fn number(&self, place: &Place) -> Option<u32> {
        self.object(&place.record).map(|object| self.document.number(object))
    }
}

/// What a place says of a field. Times and dates come in the digits all reports have.
pub(super) fn text(field: &Element, place: &Place) -> String {
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
        let index = Index::of(&document.root);
        self.visit(&Scope { document, index: &index, around: vec![&document.root] });
        for _ in 0..document.lost.min(super::RESULTS_MAX) {
            self.reader.refuse(document.number(&document.root), RESULT, reason::BEYOND);
        }
        self.results
    }

    /// The results right inside the innermost object are one report; then the same for each object inside.
    fn visit(&mut self, scope: &Scope<'_, 'm>) {
        let Some(object) = scope.around.last().copied() else { return };
        if !scope.index.children(object, RESULT).is_empty() {
            self.report(scope, object);
        }
        for inside in &object.children {
            self.visit(&scope.within(inside));
        }
    }

    fn report(&mut self, scope: &Scope<'_, 'm>, object: &'m Element) {
        let mut observations = Vec::new();
        for result in scope.index.children(object, RESULT).iter().copied() {
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
        if by_code {
            report.control = Some(self.reader.control(scope));
        }
        report.observations = observations;
        let mut said = Vec::new();
        report.comments = self.comments(scope, &mut said);
        report.message_time =
            Timestamp::parse(&poct1a::digits(scope.value("HDR", "HDR.creation_dttm")), &self.reader.context.zone);
        self.reader.finish(report, specimen_known && !nobody, self.setting, &said, scope);
    }

    fn result(&mut self, scope: &Scope<'_, 'm>, result: &'m Element) -> Option<Observation> {
        let record = self.document.number(result);
        let count = self.results;
        if !self.reader.has_room(count, record, RESULT) {
            return None;
        }
        let measured = self.reader.measured(record, RESULT, scope)?;
        let value = value::text(&measured.text, self.reader.rules_for(&measured));
        let fields = &self.reader.driver.schema.fields;
        let sent = Sent {
            loinc: loinc(result),
            flags: flags(&fields.flag, scope, &mut self.reader.trace),
            ..self.reader.sent(record, measured, value, scope)
        };
        let mut observation = self.reader.observation(sent);
        let sound = SOUND_SERVICES.contains(&scope.value("SVC", "SVC.status_cd"))
            && SOUND_REASONS.contains(&scope.value("SVC", "SVC.reason_cd"))
            && SOUND_METHODS.contains(&scope.value(RESULT, "OBS.method_cd"));
        if !sound {
            observation.doubts.push(Doubt::Questionable);
        }
        for comment in scope.index.children(result, "NTE") {
            let scope = scope.within(comment);
            let text = self.reader.text("comment", &fields.comment, &scope);
            let said = self.reader.conclusions(Stage::Comment, &scope);
            self.reader.comment(&mut observation, text, true, &said);
        }
        self.results += 1;
        Some(observation)
    }

    /// Comments on the patient and the service, and which reagents were used.
    /// `said` takes what the rules conclude from them.
    fn comments(&mut self, scope: &Scope<'_, 'm>, said: &mut Vec<Then>) -> Vec<String> {
        let fields = &self.reader.driver.schema.fields;
        let mut comments = Vec::new();
        for object in &scope.around {
            for comment in scope.index.children(object, "NTE") {
                let scope = scope.within(comment);
                let text = self.reader.text("comment", &fields.comment, &scope);
                let concluded = self.reader.conclusions(Stage::Comment, &scope);
                comments.extend((!concluded.contains(&Then::Technical)).then_some(text));
                said.extend(concluded.into_iter().filter(|then| *then != Then::Technical));
            }
            comments.extend(scope.index.children(object, "RGT").iter().map(|object| reagent(object)));
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
fn flags(paths: &Paths, scope: &Scope<'_, '_>, trace: &mut Trace) -> Vec<String> {
    for place in paths.places() {
        let flags: Vec<String> = scope.fields(place).iter().map(|field| text(field, place)).collect();
        if flags.iter().any(|f| !f.trim().is_empty()) {
            trace.add("flag", place.to_string(), scope.number(place).unwrap_or(0), &flags.join(" "));
            return flags;
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::super::{Protocol, Registry, guess_protocol};
    use super::*;
    use crate::clinical::Value;

    fn result(code: &str, tag: &str, rest: &str) -> String {
        format!("<OBS><OBS.observation_id V=\"{code}\" SN=\"{tag}\"/><OBS.value V=\"5.10\" U=\"mmol/L\"/>{rest}</OBS>")
    }

    fn glucose() -> String {
        result("15074-8", "LN", "")
    }

    fn document(root: &str, services: &str) -> String {
        format!("<{root}><HDR><HDR.creation_dttm V=\"2026-01-02T03:04:05-08:00\"/></HDR>{services}</{root}>")
    }

    fn service(fields: &str, inside: &str) -> String {
        format!("<SVC><SVC.observation_dttm V=\"2026-07-02T03:00:00\"/>{fields}{inside}</SVC>")
    }

    fn patient(id: &str, results: &str) -> String {
        format!("<PT><PT.patient_id V=\"{id}\"/>{results}</PT>")
    }

    fn read(text: &str) -> Interpretation {
        assert_eq!(guess_protocol(text.as_bytes()), Protocol::Poct1a);
        let zone = jiff::tz::TimeZone::get("America/Los_Angeles").unwrap();
        let context = Context { zone, charset: None, framing: None, complete: true };
        super::super::interpret(Registry::builtin().generic(Protocol::Poct1a), text.as_bytes(), &context)
    }

    fn doubts(text: &str) -> Vec<Vec<Doubt>> {
        read(text).reports.iter().flat_map(|r| &r.observations).map(|o| o.doubts.clone()).collect()
    }

    #[test]
    fn each_patient_of_each_service_is_a_report_of_its_own() {
        let first = service("", &(patient("P 1", &glucose().repeat(2)) + &patient("P 2", &glucose())));
        let second = service("<SVC.sequence_nbr V=\"2\"/>", &patient("P 3", &glucose()));
        let interpretation = read(&document("OBS.R01", &(first + &second)));
        let ids: Vec<(&str, usize)> =
            interpretation.reports.iter().map(|r| (r.patient.id.expose(), r.observations.len())).collect();
        assert_eq!(ids, [("P 1", 2), ("P 2", 1), ("P 3", 1)]);
        assert_eq!(interpretation.inbound_results, 4);
        let report = &interpretation.reports[0];
        assert_eq!(report.message_time.as_ref().unwrap().hl7(), "20260102030405-0800", "the device's own offset");
        let completed = report.observations[0].completed.as_ref().unwrap().hl7();
        assert_eq!(completed, "20260702030000-0700", "none was sent: the zone of the link, in summer");
        let Value::Number(number) = &report.observations[0].value else { panic!("no number") };
        assert_eq!(number.to_string(), "5.10", "digits stay (I11)");
        assert_eq!(report.observations[0].doubts, []);
    }

    #[test]
    fn i13_whatever_is_no_plain_patients_result_is_held() {
        let one = |fields: &str, results: &str| document("OBS.R01", &service(fields, &patient("P1", results)));
        for (text, expected) in [
            (one("", &glucose()), vec![]),
            (one("<SVC.role_cd V=\"LQC\"/>", &glucose()), vec![Doubt::Control]),
            (one("<CTC/>", &glucose()), vec![Doubt::Control]),
            (document("OBS.R02", &service("", &patient("P1", &glucose()))), vec![Doubt::Control]),
            (one("<SVC.status_cd V=\"OVR\"/>", &glucose()), vec![Doubt::Questionable]),
            (one("<SVC.reason_cd V=\"EDT\"/>", &glucose()), vec![Doubt::Questionable]),
            (one("", &result("15074-8", "LN", "<OBS.method_cd V=\"I\"/>")), vec![Doubt::Questionable]),
            (one("", &result("15074-8", "LN", "<OBS.interpretation_cd V=\"&gt;\"/>")), vec![Doubt::Questionable]),
            (one("", &result("15074-8", "LN", "<OBS.status_cd V=\"D\"/>")), vec![Doubt::UnknownStatus]),
            (one("", &result("GLU", "ACME", "")), vec![Doubt::UnmappedCode]),
            (one("", &glucose().replace("V=\"5.10\"", "NULL=\"NI\"")), vec![Doubt::UnreadableValue]),
            (document("OBS.R01", &service("", &patient("UNKNOWN", &glucose()))), vec![Doubt::NoSpecimen]),
            (document("OBS.R01", &service("", &glucose())), vec![Doubt::NoSpecimen]),
            (document("XYZ.R01", &service("", &patient("P1", &glucose()))), vec![Doubt::Unreadable]),
            (one("", &glucose()).replace("</SVC>", ""), vec![Doubt::Unreadable]),
        ] {
            assert_eq!(doubts(&text), [expected], "{text}");
        }
    }

    #[test]
    fn i10_thousands_of_results_are_read_in_time() {
        let one = "<OBS><OBS.observation_id V=\"A\"/><OBS.value V=\"1\"/></OBS>";
        let begun = std::time::Instant::now();
        for text in [service("", &patient("P1", &one.repeat(15_000))), service("", &patient("P1", one).repeat(15_000))]
        {
            assert_eq!(read(&document("OBS.R01", &text)).inbound_results, 15_000);
        }
        // Searching from the beginning each time takes minutes.
        assert!(begun.elapsed() < std::time::Duration::from_secs(60));
    }

    #[test]
    fn a_translation_may_carry_the_loinc_and_a_word_the_value() {
        let text = "<OBS><OBS.observation_id V=\"Flu A\" SN=\"ACME\"><TRANSLTN V=\"80382-5\" SN=\"LN\"/>\
            </OBS.observation_id><OBS.qualitative_value V=\"negative\"/></OBS>";
        let interpretation = read(&document("OBS.R01", &service("", &patient("P1", text))));
        let observation = &interpretation.reports[0].observations[0];
        assert_eq!(observation.instrument_code, "Flu A");
        assert_eq!(observation.code.as_ref().unwrap().code, "80382-5");
        assert_eq!((&observation.value, &observation.flags), (&Value::Text("negative".into()), &vec![]));
    }

    #[test]
    fn i7_results_behind_a_flaw_are_refused_and_counted() {
        let results = glucose() + "<OBS><OBS.value V=5/></OBS>" + &glucose();
        let interpretation = read(&document("OBS.R01", &service("", &patient("P1", &results))));
        let seen = interpretation.reports.iter().map(|r| r.observations.len()).sum::<usize>();
        assert_eq!((seen + interpretation.refused.len(), interpretation.inbound_results), (3, 3));
        assert!(interpretation.refused.iter().any(|r| r.reason == reason::BEYOND));
    }
}
