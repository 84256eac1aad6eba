//! LIS02-A2 messages to reports.
//!
//! The hierarchy is H > P > O > R; a comment belongs to the last record that is none (clause 5.4). Each order makes a
//! report of its own. A failed order comes back as O with report type X and no R (clause 7.4.26) and makes one
//! observation that says so.

use super::condition::{Stage, Then};
use super::observe::{Measured, Reader, Sent, Setting, asserted_loinc, reason};
use super::path::{Path, Paths, Place};
use super::read::{Origin, Source, Trace, first};
use super::value::{self, Read};
use super::{Context, Driver, Interpretation, unread};
use crate::clinical::{Doubt, Report, Timestamp, Value};
use crate::message::astm::{self, Kind, Message, Record};

pub(super) fn interpret(driver: &Driver, raw: &[u8], context: &Context, trace: bool) -> (Interpretation, Vec<Origin>) {
    let mut reader = Reader::new(driver, context, trace);
    let charset = reader.charset();
    let reading = astm::read(raw, charset);
    for oddity in &reading.oddities {
        reader.note(oddity.record, oddity.what);
    }
    let mut results = 0;
    for message in &reading.messages {
        let setting = Setting {
            incomplete: !context.complete || !message.ended,
            unreadable: message.damaged || reading.cut_off,
            bad_charset: !reading.clean,
            ..Setting::default()
        };
        results = Walk::new(&mut reader, setting, results).message(message);
    }
    if reading.cut_off {
        reader.refuse(0, "R", reason::CUT_OFF);
    }
    if results == 0 && reader.out.refused.is_empty() {
        reader.note(0, "no results in this session");
    }
    if trace {
        unread::astm(&mut reader.trace, &reading.messages);
    }
    (reader.out, reader.trace.origins)
}

/// The records a path can name at one point of a message.
#[derive(Default, Clone, Copy)]
struct Scope<'m> {
    header: Option<&'m Record>,
    patient: Option<&'m Record>,
    order: Option<&'m Record>,
    result: Option<&'m Record>,
    comment: Option<&'m Record>,
    manufacturer: Option<&'m Record>,
}

impl Scope<'_> {
    fn record(&self, name: &str) -> Option<&Record> {
        let of = |record: Option<&'_ Record>, kind: Kind| record.is_some_and(|r| r.kind == kind);
        match name {
            "H" => self.header,
            "P" => self.patient,
            "O" if of(self.order, Kind::Order) => self.order,
            "OBR" if of(self.order, Kind::Request) => self.order,
            "R" if of(self.result, Kind::Result) => self.result,
            "OBX" if of(self.result, Kind::Observation) => self.result,
            "C" => self.comment,
            "M" => self.manufacturer,
            _ => None,
        }
    }
}

impl Source for Scope<'_> {
    fn text(&self, place: &Place, whole: bool) -> String {
        self.record(&place.record).map(|record| text(record, place, whole)).unwrap_or_default()
    }

    fn number(&self, place: &Place) -> Option<u32> {
        self.record(&place.record).map(|r| r.number)
    }
}

/// The text at a place of a record.
pub(super) fn text(record: &Record, place: &Place, whole: bool) -> String {
    match place.component {
        Some(component) => record.component(place.field, component),
        None if whole || place.each => record.whole(place.field),
        None => record.component(place.field, 1),
    }
}

struct Walk<'w, 'r, 'm> {
    reader: &'w mut Reader<'r>,
    setting: Setting,
    results: usize,
    scope: Scope<'m>,
    open: Option<Open>,
    patient_comments: Vec<String>,
    /// What the rules conclude from them.
    patient_said: Vec<Then>,
    last: Option<Kind>,
    message_time: Option<Timestamp>,
}

struct Open {
    report: Report,
    specimen_known: bool,
    order_status: String,
    order_record: u32,
    /// Code of the first test ordered.
    service: String,
    /// How many records had been refused before this order.
    refused_before: usize,
    /// What the rules conclude from its comments.
    said: Vec<Then>,
    /// When the result before was complete.
    completed: Option<Timestamp>,
}

impl<'w, 'r, 'm> Walk<'w, 'r, 'm> {
    fn new(reader: &'w mut Reader<'r>, setting: Setting, results: usize) -> Self {
        Walk {
            reader,
            setting,
            results,
            scope: Scope::default(),
            open: None,
            patient_comments: Vec::new(),
            patient_said: Vec::new(),
            last: None,
            message_time: None,
        }
    }

    /// Walks one message and returns how many results have been read so far.
    fn message(mut self, message: &'m Message) -> usize {
        for record in &message.records {
            match record.kind {
                Kind::Header => self.header(record),
                Kind::Patient => {
                    self.close();
                    self.scope = Scope { header: self.scope.header, patient: Some(record), ..Scope::default() };
                    self.patient_comments.clear();
                    self.patient_said.clear();
                }
                Kind::Order | Kind::Request => {
                    self.close();
                    self.scope.order = Some(record);
                    self.scope.result = None;
                    self.scope.comment = None;
                    self.scope.manufacturer = None;
                    self.begin(record.number);
                }
                Kind::Result | Kind::Observation => self.result(record),
                Kind::Comment => self.comment(record),
                Kind::Query => self.reader.note(record.number, "a query, not a result"),
                Kind::Manufacturer => self.scope.manufacturer = Some(record),
                Kind::Scientific | Kind::Terminator | Kind::Unknown => {}
            }
            if record.kind != Kind::Comment {
                self.last = Some(record.kind);
            }
        }
        self.close();
        self.results
    }

    fn header(&mut self, record: &'m Record) {
        let processing = record.component(12, 1);
        let processing = processing.trim();
        self.setting.not_production = matches!(processing, "T" | "D");
        self.setting.control = self.reader.driver.schema.qc.processing_id.iter().any(|p| p == processing);
        self.message_time = Timestamp::parse(record.component(14, 1).trim(), &self.reader.context.zone);
        self.scope = Scope { header: Some(record), ..Scope::default() };
    }

    fn begin(&mut self, record: u32) {
        let order_status = match self.scope.order {
            Some(order) if order.kind == Kind::Order => order.component(26, 1).trim().to_string(),
            Some(order) => order.component(25, 1).trim().to_string(),
            None => String::new(),
        };
        // Q says "this answers a query", which is no status of a report in table 0123.
        let known = if order_status == "Q" { "" } else { &order_status };
        let (mut report, specimen_known) = self.reader.report(&self.scope, known);
        let action_code = self.scope.order.map(|o| o.component(12, 1).trim().to_string()).unwrap_or_default();
        if self.setting.control || self.reader.driver.schema.qc.action_code.contains(&action_code) {
            report.control = Some(self.reader.control(&self.scope));
        }
        let service = report.order.universal_service_id.as_ref().map(|s| s.code.clone()).unwrap_or_default();
        // Several tests ordered at once: no single one of them is what the report answers.
        if self.scope.order.is_some_and(|o| o.kind == Kind::Order && o.repeats(5, 1).len() > 1) {
            report.order.universal_service_id = None;
        }
        report.comments = self.patient_comments.clone();
        report.message_time = self.message_time.clone();
        let order_status = known.to_string();
        let refused_before = self.reader.out.refused.len();
        self.open = Some(Open {
            report,
            specimen_known,
            order_status,
            order_record: record,
            service,
            refused_before,
            said: self.patient_said.clone(),
            completed: None,
        });
    }

    fn result(&mut self, record: &'m Record) {
        let kind = record.kind.name();
        if self.open.is_none() {
            self.begin(record.number);
        }
        self.scope.result = Some(record);
        self.scope.comment = None;
        let count = self.results;
        if !self.reader.has_room(count, record.number, kind) {
            return;
        }
        let Some(measured) = self.reader.measured(record.number, kind, &self.scope) else { return };
        let values = self.values(record, &measured);
        let sent = self.sent(record, measured);
        for (number, (code, value)) in values.into_iter().enumerate() {
            // The first has been counted already.
            let count = self.results;
            if number > 0 && !self.reader.has_room(count, record.number, kind) {
                return;
            }
            let observation = self.reader.observation(Sent { code, value, ..sent.clone() });
            if let Some(open) = &mut self.open {
                open.report.observations.push(observation);
                self.results += 1;
            }
        }
    }

    /// The codes and values of one record: several where the driver says that each component is a result.
    fn values(&self, record: &Record, measured: &Measured) -> Vec<(String, Read)> {
        let Measured { code, path, text, specimen, unit } = measured;
        let rules = self.reader.rules(code, specimen, unit);
        if let Some(place) = path.and_then(|p| p.places.iter().find(|p| p.each)) {
            let parts = (1..).zip(record.components(place.field)).filter(|(_, part)| !part.trim().is_empty());
            let read = |(number, part): (u16, String)| {
                let code = format!("{code}/{number}");
                let value = value::text(&part, self.reader.rules(&code, specimen, unit));
                (code, value)
            };
            return parts.map(read).collect();
        }
        let mut value = value::text(text, rules);
        if record.kind == Kind::Observation {
            // An E1238 hybrid: the value is a component of its own, and nothing says what the others are.
            value = value::text(&record.component(5, 1), rules);
        } else if path.is_some_and(|path| self.leaves_value_behind(path, record)) {
            value.1.push(Doubt::UnreadableValue);
        }
        vec![(code.clone(), value)]
    }

    /// When the result was complete; that of the one before it where the driver says so.
    fn completed(&mut self, own: Option<Timestamp>) -> Option<Timestamp> {
        let carries = self.reader.driver.schema.fields.completed_carries;
        let open = self.open.as_mut()?;
        if own.is_some() {
            open.completed.clone_from(&own);
        }
        own.or_else(|| open.completed.clone().filter(|_| carries))
    }

    /// One result as its record says it, but for its value.
    fn sent(&mut self, record: &Record, measured: Measured<'r>) -> Sent {
        let fields = &self.reader.driver.schema.fields;
        let flags = flags(&fields.flag, &self.scope, &mut self.reader.trace);
        let sent = self.reader.sent(record.number, measured, (Value::Absent, Vec::new()), &self.scope);
        let (loinc, name) = match record.kind {
            Kind::Result => (record.component(3, 1), sent.name.clone()),
            _ => (String::new(), record.component(3, 2).trim().to_string()),
        };
        Sent {
            loinc: asserted_loinc(loinc.trim(), record.component(3, 2).trim()),
            name,
            flags,
            order_status: self.open.as_ref().map(|o| o.order_status.clone()).unwrap_or_default(),
            completed: self.completed(sent.completed.clone()),
            ..sent
        }
    }

    /// True when the driver reads one component of the value and another one holds text that nobody reads.
    fn leaves_value_behind(&self, path: &Path, record: &Record) -> bool {
        let [place] = path.places.as_slice() else { return false };
        let Some(component) = place.component.filter(|_| matches!(place.record.as_str(), "R")) else { return false };
        let fields = &self.reader.driver.schema.fields;
        let read: Vec<u16> =
            fields.qualitative.places().filter(|p| p.field == place.field).filter_map(|p| p.component).collect();
        let alone = usize::from(!record.component(place.field, component).trim().is_empty());
        let beside = read.iter().filter(|c| **c != component && !record.component(place.field, **c).trim().is_empty());
        record.components_filled(place.field) > alone + beside.count()
    }

    fn comment(&mut self, record: &'m Record) {
        self.scope.comment = Some(record);
        let fields = &self.reader.driver.schema.fields;
        let text = first(&fields.comment, &self.scope, true, "comment", &mut self.reader.trace).1.trim().to_string();
        let by_instrument = record.component(3, 1).trim() == "I";
        let said = self.reader.conclusions(Stage::Comment, &self.scope);
        let technical = said.contains(&Then::Technical);
        let of_report: Vec<Then> = said.iter().copied().filter(|then| *then != Then::Technical).collect();
        match (self.last, &mut self.open) {
            (Some(Kind::Result | Kind::Observation), Some(open)) => {
                // The comment of a refused result goes with it.
                let of = self.scope.result.map(|r| r.number);
                for result in open.report.observations.iter_mut().rev().take_while(|o| Some(o.record) == of) {
                    self.reader.comment(result, text.clone(), by_instrument, &said);
                }
            }
            (Some(Kind::Order | Kind::Request), Some(open)) => {
                open.said.extend(of_report);
                open.report.comments.extend((!text.is_empty() && !technical).then_some(text));
            }
            (Some(Kind::Patient), _) => {
                self.patient_said.extend(of_report);
                self.patient_comments.extend((!text.is_empty() && !technical).then_some(text));
            }
            _ => {}
        }
    }

    fn close(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if open.report.observations.is_empty() && open.order_status == "X" {
            let count = self.results;
            if self.reader.has_room(count, open.order_record, "O") {
                open.report.observations.push(self.failed_order(&open));
                self.results += 1;
            }
        }
        if open.report.observations.is_empty() {
            if self.reader.out.refused.len() == open.refused_before {
                self.reader.note(open.order_record, "an order without results");
            }
            return;
        }
        self.reader.finish(open.report, open.specimen_known, self.setting, &open.said, &self.scope);
    }

    fn failed_order(&self, open: &Open) -> crate::clinical::Observation {
        let failed = (Value::Absent, vec![Doubt::FailedRun]);
        let specimen = open.report.specimen.type_code.as_ref().map(|t| t.code.clone()).unwrap_or_default();
        let sent = Sent::bare(open.order_record, open.service.clone(), failed);
        self.reader.observation(Sent { specimen, status: "X".to_string(), ..sent })
    }
}

/// Every repeat of the first flag field that is not empty.
fn flags(paths: &Paths, scope: &Scope, trace: &mut Trace) -> Vec<String> {
    for place in paths.places() {
        let Some(record) = scope.record(&place.record) else { continue };
        let flags = match place.each {
            true => record.components(place.field),
            false => record.repeats(place.field, place.component.unwrap_or(1)),
        };
        if flags.iter().any(|f| !f.trim().is_empty()) {
            trace.add("flag", place.to_string(), record.number, &record.whole(place.field));
            return flags;
        }
    }
    Vec::new()
}
