//! What all protocols share once the fields are read: codes, units, flags, statuses, control runs and doubts.

use super::condition::{Stage, Then};
use super::identify::{is_loinc, wildcard};
use super::path::{Path, Paths};
use super::quirk::Quirk;
use super::read::{Source, Trace, first};
use super::schema::{Analyte, ValueKind};
use super::value::{Read, Rules};
use super::written_time;
use super::{Context, Driver, Interpretation, Note, Protocol, RESULTS_MAX, RefusedRecord};
use crate::clinical::{
    Coding, Control, Doubt, Instrument, Observation, Order, Patient, Phi, Report, Specimen, Timestamp, Value,
};
use crate::message::charset::Charset;

/// Reasons for which a result record makes no observation.
pub(super) mod reason {
    pub const NOTHING: &str = "no result in record";
    pub const TECHNICAL: &str = "technical value";
    pub const NOT_MEASURED: &str = "not measured";
    pub const LIMIT: &str = "more results than one message may hold";
    pub const DAMAGED: &str = "the check characters do not fit";
    pub const CUT_OFF: &str = "more records than one message may hold";
    pub const NO_VALUE: &str = "a row in a table without the driver's column for values";
    pub const NO_HEADER: &str = "a row under no header the driver knows";
    pub const BEYOND: &str = "behind the point to which the document can be read";
}

/// What a result record measures: by this the rest of it is read.
pub(super) struct Measured<'r> {
    pub code: String,
    /// The path the value stands at; `None` when there is none.
    pub path: Option<&'r Path>,
    /// The value as it stands there.
    pub text: String,
    /// Type of the specimen, as sent.
    pub specimen: String,
    pub unit: String,
}

/// One result as its record says it.
#[derive(Clone)]
pub(super) struct Sent {
    pub record: u32,
    pub code: String,
    /// Type of the specimen, as sent.
    pub specimen: String,
    pub name: String,
    /// A LOINC the instrument itself asserts in the place the standard has for it.
    pub loinc: Option<Coding>,
    pub value: Read,
    pub unit: String,
    pub reference_range: String,
    pub flags: Vec<String>,
    /// Flag from `[qualitative]`, or the code as sent when it is not listed.
    pub qualitative: Option<String>,
    pub status: String,
    /// Status of the whole order, which stands in when the result has none.
    pub order_status: String,
    pub completed: Option<Timestamp>,
    pub operator: String,
    pub equipment: String,
    pub dilution: String,
    /// What the rules on the result conclude.
    pub said: Vec<Then>,
}

impl Sent {
    /// A result of which nothing more is known.
    pub fn bare(record: u32, code: String, value: Read) -> Self {
        Sent {
            record,
            code,
            specimen: String::new(),
            name: String::new(),
            loinc: None,
            value,
            unit: String::new(),
            reference_range: String::new(),
            flags: Vec::new(),
            qualitative: None,
            status: String::new(),
            order_status: String::new(),
            completed: None,
            operator: String::new(),
            equipment: String::new(),
            dilution: String::new(),
            said: Vec::new(),
        }
    }
}

/// What is true of every result in a message.
#[derive(Clone, Copy, Default)]
pub(super) struct Setting {
    pub not_production: bool,
    pub control: bool,
    pub incomplete: bool,
    pub unreadable: bool,
    pub bad_charset: bool,
}

/// Everything needed to read fields by the driver.
pub(super) struct Reader<'r> {
    pub driver: &'r Driver,
    pub context: &'r Context,
    pub trace: Trace,
    pub out: Interpretation,
}

impl<'r> Reader<'r> {
    pub fn new(driver: &'r Driver, context: &'r Context, trace: bool) -> Self {
        let out = Interpretation {
            driver: driver.id_and_version(),
            inbound_results: 0,
            reports: Vec::new(),
            refused: Vec::new(),
            notes: Vec::new(),
        };
        Reader { driver, context, trace: Trace { on: trace, origins: Vec::new() }, out }
    }

    /// The character set for text that does not declare one: the link's, else the driver's.
    pub fn charset(&mut self) -> Option<Charset> {
        let label = self.context.charset.as_deref().or(self.driver.wire().charset.as_deref())?;
        let charset = Charset::named(label);
        if charset.is_none() {
            self.note(0, "the link names an unknown character set");
        }
        charset
    }

    pub fn note(&mut self, record: u32, what: &'static str) {
        let note = Note { record, what };
        if self.out.notes.len() < crate::message::ODDITIES_MAX && self.out.notes.last() != Some(&note) {
            self.out.notes.push(note);
        }
    }

    pub fn refuse(&mut self, record: u32, kind: &str, reason: &'static str) {
        self.out.refused.push(RefusedRecord { record, kind: kind.to_string(), reason });
    }

    /// The first text that is not empty, blanks around it removed.
    pub fn text(&mut self, field: &'static str, paths: &Paths, source: &impl Source) -> String {
        first(paths, source, false, field, &mut self.trace).1.trim().to_string()
    }

    /// The first text that is a time.
    pub fn time(&mut self, field: &'static str, paths: &'r Paths, source: &impl Source) -> Option<Timestamp> {
        for path in paths.iter() {
            let one = Paths::one(path);
            let text = first(&one, source, false, field, &mut self.trace).1;
            let text = self.digits(text.trim());
            if let Some(time) = Timestamp::parse(&text, &self.context.zone) {
                return Some(time);
            }
        }
        None
    }

    /// A time in the digits all reports have: in tables times are written as people write them.
    fn digits(&mut self, text: &str) -> String {
        if self.driver.protocol() != Protocol::Table || text.is_empty() {
            return text.to_string();
        }
        let digits = written_time::digits(text, &self.driver.schema.table.time_formats);
        if digits.is_none() {
            self.note(0, "a time that has several readings or none; see `time_formats` in [table]");
        }
        digits.unwrap_or_default()
    }

    /// The specimen id exactly as sent, except for padding the driver names; and whether it is one (hazard H2).
    fn specimen_id(&mut self, source: &impl Source) -> (String, bool) {
        let fields = &self.driver.schema.fields;
        let id = first(&fields.specimen_id, source, false, "specimen_id", &mut self.trace).1;
        let id = if fields.specimen_trim { id.trim().to_string() } else { id };
        let misread = fields.specimen_misread.iter().any(|marker| wildcard(marker, id.trim()));
        let known = !id.trim().is_empty() && !misread;
        (id, known)
    }

    /// A report without observations: everything its headers say.
    pub fn report(&mut self, source: &impl Source, order_status: &str) -> (Report, bool) {
        let fields = &self.driver.schema.fields;
        let identity = &self.driver.schema.identity;
        let (specimen_id, specimen_known) = self.specimen_id(source);
        let service = self.code("service", &fields.service, source);
        let patient_id = self.text("patient_id", &fields.patient_id, source);
        let specimen_known =
            specimen_known || (fields.specimen_optional && specimen_id.is_empty() && !patient_id.is_empty());
        let sex = self.text("sex", &fields.sex, source).to_ascii_uppercase();
        let birth_date = self.text("birth_date", &fields.birth_date, source);
        let birth_date = self.digits(&birth_date);
        let specimen_type = self.text("specimen_type", &fields.specimen_type, source);
        let report = Report {
            instrument: Instrument {
                vendor: identity.vendor.clone(),
                model: identity.model.clone(),
                name: String::new(),
                sender: self.text("instrument_name", &fields.instrument_name, source),
                serial_number: self.text("serial_number", &fields.serial_number, source),
                software_version: self.text("software_version", &fields.software_version, source),
            },
            patient: Patient {
                id: Phi::new(patient_id),
                id_authority: self.text("patient_id_authority", &fields.patient_id_authority, source),
                family: Phi::new(self.text("family", &fields.family, source)),
                given: Phi::new(self.text("given", &fields.given, source)),
                birth_date: Phi::new(date(&birth_date)),
                sex: if matches!(sex.as_str(), "M" | "F" | "O" | "U" | "A" | "N") { sex } else { String::new() },
                location: Phi::new(self.text("location", &fields.location, source)),
            },
            specimen: Specimen {
                id: Phi::new(specimen_id),
                type_code: (!specimen_type.is_empty()).then(|| Coding::local(specimen_type, "")),
                position: self.text("position", &fields.position, source),
                collected: self.time("collected", &fields.collected, source),
            },
            order: Order {
                placer_order_number: Phi::new(self.text("placer_order_number", &fields.placer_order_number, source)),
                filler_order_number: Phi::new(self.text("filler_order_number", &fields.filler_order_number, source)),
                universal_service_id: (!service.is_empty()).then(|| Coding::local(service, "")),
                priority: self.text("priority", &fields.priority, source),
                status: order_status.to_string(),
                ..Order::default()
            },
            ..Report::default()
        };
        (report, specimen_known)
    }

    /// Which control a run is one of.
    pub fn control(&mut self, source: &impl Source) -> Control {
        let qc = &self.driver.schema.qc;
        Control {
            name: self.text("control_name", &qc.control_name, source),
            lot: self.text("control_lot", &qc.control_lot, source),
            level: self.text("control_level", &qc.control_level, source),
        }
    }

    /// What the driver's rules conclude from what is at hand.
    pub fn conclusions(&self, stage: Stage, source: &impl Source) -> Vec<Then> {
        let rules = self.driver.schema.when.iter().filter(|rule| rule.stage() == stage && rule.holds(source));
        rules.map(|rule| rule.then).collect()
    }

    /// Takes what the comments say about a control; a comment that names one makes the report a control run.
    pub fn control_by_comments(&self, report: &mut Report) {
        let qc = &self.driver.schema.qc;
        let said = |key: &str, comments: &[String]| {
            let value =
                |c: &String| c.trim().strip_prefix(key)?.trim_start().strip_prefix(':').map(|v| v.trim().to_string());
            if key.is_empty() { None } else { comments.iter().find_map(value) }
        };
        let name = said(&qc.comment_name, &report.comments);
        if report.control.is_none() && name.is_none() {
            return;
        }
        let lot = said(&qc.comment_lot, &report.comments);
        let level = said(&qc.comment_level, &report.comments);
        let control = report.control.get_or_insert_default();
        control.name = name.unwrap_or(std::mem::take(&mut control.name));
        control.lot = lot.unwrap_or(std::mem::take(&mut control.lot));
        control.level = level.unwrap_or(std::mem::take(&mut control.level));
    }

    /// The test code as `[[analyte]]` lists it.
    pub fn code(&mut self, field: &'static str, paths: &Paths, source: &impl Source) -> String {
        let fields = &self.driver.schema.fields;
        let mut code = self.text(field, paths, source);
        if !fields.test_code_until.is_empty() {
            let until: Vec<char> = fields.test_code_until.chars().collect();
            code = code.split(until.as_slice()).next().unwrap_or("").to_string();
        }
        let trim: Vec<char> = fields.test_code_trim.chars().collect();
        code.trim_end_matches(trim.as_slice()).trim().to_string()
    }

    /// What a record of this kind measures; one that makes no observation is refused, with the reason.
    pub fn measured(&mut self, record: u32, kind: &str, source: &impl Source) -> Option<Measured<'r>> {
        let driver = self.driver;
        let fields = &driver.schema.fields;
        let code = self.code("test_code", &fields.test_code, source);
        let (path, text) = first(&fields.value, source, true, "value", &mut self.trace);
        if let Some(reason) = self.no_result(&code, &text, source) {
            self.refuse(record, kind, reason);
            return None;
        }
        // Whole in LIS02-A2, because `10^3/uL` is often sent without escaping its separator.
        let whole = driver.protocol() == Protocol::Astm;
        let unit = first(&fields.unit, source, whole, "unit", &mut self.trace).1.trim().to_string();
        let specimen = self.text("specimen_type", &fields.specimen_type, source);
        Some(Measured { code, path, text, specimen, unit })
    }

    /// What every protocol says alike of a result. Flags, a LOINC of its own and the status of an order are left to the
    /// interpreter: each protocol has its own place for them.
    pub fn sent(&mut self, record: u32, measured: Measured<'r>, value: Read, source: &impl Source) -> Sent {
        let driver = self.driver;
        let fields = &driver.schema.fields;
        let range = first(&fields.reference_range, source, true, "reference_range", &mut self.trace).1;
        Sent {
            specimen: measured.specimen,
            name: self.text("test_name", &fields.test_name, source),
            unit: measured.unit,
            reference_range: range.trim().to_string(),
            qualitative: self.qualitative(measured.path, source),
            status: self.text("result_status", &fields.result_status, source),
            completed: self.time("completed", &fields.completed, source),
            operator: self.text("operator", &fields.operator, source),
            equipment: self.text("equipment", &fields.equipment, source),
            dilution: self.text("dilution", &fields.dilution, source),
            said: self.conclusions(Stage::Result, source),
            ..Sent::bare(record, measured.code, value)
        }
    }

    /// How the value of what was measured is to be read.
    pub fn rules_for(&self, measured: &Measured) -> Rules<'r> {
        self.rules(&measured.code, &measured.specimen, &measured.unit)
    }

    /// How the value of this code is to be read.
    pub fn rules(&self, code: &str, specimen: &str, unit: &str) -> Rules<'r> {
        let schema = &self.driver.schema;
        let promised = |a: &Analyte| {
            a.value_kind.or(schema.fields.value_kind).unwrap_or(match a.units.keys().any(|u| !u.is_empty()) {
                true => ValueKind::Number,
                false => ValueKind::Any,
            })
        };
        let analyte = self.driver.analyte(code, specimen, unit);
        let kind = analyte.map(promised).or(schema.fields.value_kind).unwrap_or(ValueKind::Any);
        Rules {
            kind,
            decimal_comma: schema.fields.decimal_comma,
            failure: &schema.failure,
            words: match analyte {
                Some(a) if !a.value_words.is_empty() => &a.value_words,
                _ => &schema.fields.value_words,
            },
        }
    }

    /// True when the driver says that this code is for the service engineer.
    fn is_technical(&self, code: &str, source: &impl Source) -> bool {
        let technical = &self.driver.schema.technical;
        let empty = |paths: &Paths| paths.places().all(|p| source.text(p, false).trim().is_empty());
        let listed = |patterns: &[String]| patterns.iter().any(|pattern| wildcard(pattern, code));
        listed(&technical.codes)
            || (listed(&technical.codes_without_flag) && empty(&self.driver.schema.fields.flag))
            || self.conclusions(Stage::Result, source).contains(&Then::Technical)
    }

    /// Why a record with this code and value makes no observation, if it makes none.
    pub fn no_result(&self, code: &str, value: &str, source: &impl Source) -> Option<&'static str> {
        let empty = value.trim().is_empty();
        if code.is_empty() && empty {
            return Some(reason::NOTHING);
        }
        if self.is_technical(code, source) {
            return Some(reason::TECHNICAL);
        }
        (empty && self.driver.schema.quirks.contains(&Quirk::EmptyIsNotMeasured)).then_some(reason::NOT_MEASURED)
    }

    /// Looks up a qualitative code beside a value that stands elsewhere.
    pub fn qualitative(&mut self, value_path: Option<&super::path::Path>, source: &impl Source) -> Option<String> {
        let schema = &self.driver.schema;
        let (path, text) = first(&schema.fields.qualitative, source, false, "qualitative", &mut self.trace);
        let elsewhere = path.is_some() && path != value_path;
        let code = text.trim().to_string();
        elsewhere.then(|| schema.qualitative.get(&code).cloned().unwrap_or(code))
    }

    /// Makes the observation, with the doubts of its own.
    pub fn observation(&self, sent: Sent) -> Observation {
        let schema = &self.driver.schema;
        let analyte = self.driver.analyte(&sent.code, &sent.specimen, &sent.unit);
        let (value, mut doubts) = sent.value;
        let code = match analyte {
            Some(a) => Some(Coding::loinc(&a.loinc, &a.name)),
            None => sent.loinc,
        };
        if code.is_none() {
            doubts.push(Doubt::UnmappedCode);
        }
        let units = analyte.map(|a| &a.units).filter(|u| !u.is_empty()).unwrap_or(&schema.units);
        let needs_unit = matches!(value, Value::Number(_) | Value::Compared { .. } | Value::Range { .. });
        // Words have no unit, unless the instrument sent one; then it has to be one of the driver's too.
        let has_unit = needs_unit || !sent.unit.is_empty();
        let ucum = units.get(&sent.unit).filter(|_| has_unit).cloned();
        if code.is_some() && ucum.is_none() && (needs_unit || (has_unit && !units.is_empty())) {
            doubts.push(Doubt::UnknownUnit);
        }
        let listed = |list: &[String], text: &str| list.iter().any(|l| l == text);
        let mut flags = Vec::new();
        for flag in sent.flags.iter().map(|f| f.trim()).filter(|f| !f.is_empty()) {
            if listed(&schema.failure.flags, flag) {
                doubts.push(Doubt::FailedRun);
            }
            if listed(&schema.failure.questionable_flags, flag) {
                doubts.push(Doubt::Questionable);
            }
            let read = schema.flags.get(flag).map_or(flag, String::as_str);
            if !read.is_empty() && !flags.iter().any(|f| f == read) {
                flags.push(read.to_string());
            }
        }
        flags.extend(sent.qualitative.filter(|q| !q.is_empty()));
        let own = sent.status.trim();
        if listed(&schema.failure.questionable_status, own) {
            doubts.push(Doubt::Questionable);
        }
        let (status, doubt) = match schema.status.get(own) {
            Some(mapped) => (mapped.clone(), None),
            None => status(self.driver.protocol(), own, sent.order_status.trim()),
        };
        doubts.extend(doubt);
        doubts.extend(sent.said.iter().filter_map(|then| then.doubt()));
        if doubts.contains(&Doubt::FailedRun) && value == Value::Absent {
            doubts.retain(|d| *d != Doubt::UnreadableValue);
        }
        Observation {
            instrument_code: sent.code,
            instrument_name: sent.name,
            code,
            value,
            unit: sent.unit,
            ucum: ucum.unwrap_or_default(),
            reference_range: sent.reference_range,
            flags,
            status,
            completed: sent.completed,
            operator: sent.operator,
            equipment: sent.equipment,
            dilution: sent.dilution,
            comments: Vec::new(),
            doubts,
            record: sent.record,
        }
    }

    /// Attaches a comment to a result, unless the rules say it is for the service engineer. Where the instrument writes
    /// data alarms into comments, an alarm is a doubt.
    pub fn comment(&self, observation: &mut Observation, text: String, by_instrument: bool, said: &[Then]) {
        observation.doubts.extend(said.iter().filter_map(|then| then.doubt()));
        if said.contains(&Then::Technical) {
            return;
        }
        let alarm = text.trim();
        let is_alarm = by_instrument && self.driver.schema.quirks.contains(&Quirk::CommentIsDataAlarm);
        // Alarm 0 says that there is none, which is no comment either.
        if alarm.is_empty() || (is_alarm && alarm == "0") {
            return;
        }
        if is_alarm && !self.driver.schema.failure.harmless_alarms.iter().any(|harmless| harmless == alarm) {
            observation.doubts.push(Doubt::Questionable);
        }
        observation.comments.push(text);
    }

    /// True when one more result fits; else it is refused.
    pub fn has_room(&mut self, so_far: usize, record: u32, kind: &str) -> bool {
        if so_far >= RESULTS_MAX {
            self.refuse(record, kind, reason::LIMIT);
            return false;
        }
        true
    }

    /// Adds the doubts that hold for the whole report and files it. `said` is what the rules conclude from its comments.
    pub fn finish(
        &mut self,
        mut report: Report,
        specimen_known: bool,
        setting: Setting,
        said: &[Then],
        source: &impl Source,
    ) {
        let said: Vec<Then> = self.conclusions(Stage::Report, source).into_iter().chain(said.iter().copied()).collect();
        if said.contains(&Then::Technical) {
            let kind = result_record(self.driver.protocol());
            return report.observations.iter().for_each(|o| self.refuse(o.record, kind, reason::TECHNICAL));
        }
        let one_is_control = report.observations.iter().any(|o| o.doubts.contains(&Doubt::Control));
        if report.control.is_none() && (setting.control || one_is_control || said.contains(&Then::Control)) {
            report.control = Some(self.control(source));
        }
        self.control_by_comments(&mut report);
        report.not_production = setting.not_production;
        for observation in &mut report.observations {
            let doubts = &mut observation.doubts;
            for (holds, doubt) in [
                (report.control.is_some(), Doubt::Control),
                (!specimen_known, Doubt::NoSpecimen),
                (setting.not_production, Doubt::NotProduction),
                (setting.incomplete, Doubt::Incomplete),
                (setting.unreadable, Doubt::Unreadable),
                (setting.bad_charset, Doubt::Charset),
            ] {
                if holds {
                    doubts.push(doubt);
                }
            }
            doubts.extend(said.iter().filter_map(|then| then.doubt()));
            doubts.sort();
            doubts.dedup();
        }
        self.out.reports.push(report);
    }
}

/// The record that holds one result.
fn result_record(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Astm => "R",
        Protocol::Hl7 => "OBX",
        Protocol::Poct1a => crate::message::poct1a::RESULT,
        Protocol::Table => "row",
        Protocol::Lines => super::interpret_lines::KIND,
    }
}

/// A LOINC in the place the standard has for it.
pub(super) fn asserted_loinc(code: &str, text: &str) -> Option<Coding> {
    is_loinc(code).then(|| Coding::loinc(code, text))
}

/// Result status in table 0085, and what is doubtful about it.
///
/// LIS02-A2 8.1.9 has letters of its own: V is verified by an operator, W is of questionable validity (in table 0085 it
/// would say "wrong patient"), M and Q have no counterpart and become R, "not verified". A result without a status
/// has that of its order.
fn status(protocol: Protocol, own: &str, order: &str) -> (String, Option<Doubt>) {
    let sent = if own.is_empty() { order } else { own };
    match (protocol, sent) {
        // A device sends what it has finished; `OBS.status_cd` is left out, or says that the operator accepted it.
        (Protocol::Poct1a, "" | "A") => ("F".to_string(), None),
        // A table mostly has no column for it: what an instrument exports it has finished.
        (Protocol::Table, "") => ("F".to_string(), None),
        // Nor do lines; "F" is what an instrument prints that has one.
        (Protocol::Lines, "") => ("F".to_string(), None),
        (Protocol::Poct1a, _) => (sent.to_string(), Some(Doubt::UnknownStatus)),
        (_, "F" | "C" | "P") => (sent.to_string(), None),
        (_, "X") => (sent.to_string(), Some(Doubt::FailedRun)),
        (Protocol::Hl7, "R") => (sent.to_string(), None),
        (Protocol::Astm, "V") => ("F".to_string(), None),
        (Protocol::Astm, "W") => ("R".to_string(), Some(Doubt::Questionable)),
        (Protocol::Astm, "M" | "Q") => ("R".to_string(), Some(Doubt::UnknownStatus)),
        _ => (sent.to_string(), Some(Doubt::UnknownStatus)),
    }
}

/// The day of a birth date; empty when it is none, or the null date some instruments send.
fn date(text: &str) -> String {
    let day = text.get(..8).unwrap_or(text);
    let known = day.len() == 8 && Timestamp::parse(day, &jiff::tz::TimeZone::UTC).is_some();
    if known { day.to_string() } else { String::new() }
}
