//! HL7 v2 messages to reports: ORU^R01 of any version, OUL^R22, and what else carries OBX.
//!
//! In ORU^R01 the standard puts SPM after the results it belongs to, yet many senders put it first; in OUL^R22 SPM is
//! the parent, and OBR comes before its ORC. Which of the two a message does is decided once, by what comes first.

use super::condition::{Stage, Then};
use super::observe::{Reader, Sent, Setting, asserted_loinc, reason};
use super::path::{Paths, Place};
use super::read::{Origin, Source, Trace, first};
use super::{Context, Driver, Interpretation, unread, value};
use crate::clinical::{Coding, CodingSystem, Doubt, Observation, Timestamp, Value};
use crate::message::hl7::{self, Message, Segment};
use std::collections::BTreeMap;

pub(super) fn interpret(driver: &Driver, raw: &[u8], context: &Context, trace: bool) -> (Interpretation, Vec<Origin>) {
    let mut reader = Reader::new(driver, context, trace);
    let charset = reader.charset();
    let reading = hl7::read(raw, charset);
    for oddity in &reading.oddities {
        reader.note(oddity.record, oddity.what);
    }
    let mut results = 0;
    for message in &reading.messages {
        results = Walk::new(&mut reader, message, reading.cut_off, results).run();
    }
    if reading.cut_off {
        reader.refuse(0, "OBX", reason::CUT_OFF);
    }
    if results == 0 && reader.out.refused.is_empty() {
        reader
            .note(0, if asks(&reading) { "a query or an answer, not a result" } else { "no results in this message" });
    }
    if trace {
        unread::hl7(&mut reader.trace, &reading.messages);
    }
    (reader.out, reader.trace.origins)
}

/// True when no message here is one that brings results: the instrument asks, or answers what it was told.
fn asks(reading: &hl7::Reading) -> bool {
    let kind = |message: &Message| message.msh().map(|msh| msh.component(9, 1, None).to_ascii_uppercase());
    let asks = |kind: String| matches!(kind.trim(), "QBP" | "QRY" | "QCN" | "ORM" | "ORL" | "ORR" | "ACK");
    !reading.messages.is_empty() && reading.messages.iter().all(|message| kind(message).is_some_and(asks))
}

/// The segments a path can name at one point of a message, by name.
#[derive(Default)]
struct Scope<'m>(BTreeMap<&'m str, &'m Segment>);

impl<'m> Scope<'m> {
    fn set(&mut self, segment: &'m Segment) {
        self.0.insert(segment.name.as_str(), segment);
    }

    fn forget(&mut self, names: &[&str]) {
        self.0.retain(|name, _| !names.contains(name));
    }

    fn get(&self, name: &str) -> Option<&'m Segment> {
        self.0.get(name).copied()
    }

    fn component(&self, name: &str, field: u16, component: u16) -> String {
        self.get(name).map(|s| s.component(field, component, None).trim().to_string()).unwrap_or_default()
    }
}

impl Source for Scope<'_> {
    fn text(&self, place: &Place, whole: bool) -> String {
        self.get(&place.record).map(|segment| text(segment, place, whole)).unwrap_or_default()
    }

    fn number(&self, place: &Place) -> Option<u32> {
        self.get(&place.record).map(|s| s.number)
    }
}

/// The text at a place of a segment.
pub(super) fn text(segment: &Segment, place: &Place, whole: bool) -> String {
    match place.component {
        Some(component) => segment.component(place.field, component, place.subcomponent),
        None if whole || place.each => segment.whole(place.field),
        None => segment.component(place.field, 1, None),
    }
}

/// What a comment (NTE) belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    Message,
    Patient,
    Order,
    Result(u32),
}

struct Open {
    record: u32,
    observations: Vec<Observation>,
    comments: Vec<String>,
    /// What the rules conclude from the comments.
    said: Vec<Then>,
    /// When the result before was complete.
    completed: Option<Timestamp>,
    refused_before: usize,
    /// Two specimens are named for the one order.
    ambiguous: bool,
}

struct Walk<'w, 'r, 'm> {
    reader: &'w mut Reader<'r>,
    message: &'m Message,
    setting: Setting,
    results: usize,
    scope: Scope<'m>,
    open: Option<Open>,
    patient_comments: Vec<String>,
    /// What the rules conclude from them.
    patient_said: Vec<Then>,
    last: Last,
    /// OUL: the specimen is the parent and ORC follows OBR.
    oul: bool,
    /// SPM and SAC come before the orders they belong to.
    specimen_first: bool,
    message_time: Option<Timestamp>,
}

impl<'w, 'r, 'm> Walk<'w, 'r, 'm> {
    fn new(reader: &'w mut Reader<'r>, message: &'m Message, cut_off: bool, results: usize) -> Self {
        let msh = |field, component| message.msh().map(|m| m.component(field, component, None)).unwrap_or_default();
        let kind = msh(9, 1).trim().to_ascii_uppercase();
        let result_message = matches!(kind.as_str(), "ORU" | "OUL");
        let processing = msh(11, 1);
        let processing = processing.trim();
        let at = |names: &[&str]| message.segments.iter().position(|s| names.contains(&s.name.as_str()));
        let specimen_first = match (at(&["SPM", "SAC"]), at(&["OBR"])) {
            (Some(specimen), Some(order)) => specimen < order,
            (specimen, _) => specimen.is_some(),
        };
        let setting = Setting {
            not_production: matches!(processing, "T" | "D"),
            control: reader.driver.schema.qc.processing_id.iter().any(|p| p == processing),
            incomplete: !reader.context.complete,
            unreadable: message.unreadable || cut_off,
            bad_charset: !message.clean,
        };
        let has_results = at(&["OBX"]).is_some();
        if message.unreadable {
            reader.note(0, "the structure of the message could not be proven");
        }
        if !result_message && has_results {
            reader.note(0, "results in a message that is no result message");
        }
        let message_time = Timestamp::parse(msh(7, 1).trim(), &reader.context.zone);
        Walk {
            reader,
            message,
            setting: Setting { unreadable: setting.unreadable || (!result_message && has_results), ..setting },
            results,
            scope: Scope::default(),
            open: None,
            patient_comments: Vec::new(),
            patient_said: Vec::new(),
            last: Last::Message,
            oul: kind == "OUL",
            specimen_first: specimen_first || kind == "OUL",
            message_time,
        }
    }

    /// Walks the message and returns how many results have been read so far.
    fn run(mut self) -> usize {
        let message = self.message;
        for (at, segment) in message.segments.iter().enumerate() {
            match segment.name.as_str() {
                "PID" => {
                    self.close();
                    self.scope.0.retain(|name, _| *name == "MSH");
                    self.patient_comments.clear();
                    self.patient_said.clear();
                    self.last = Last::Patient;
                    self.scope.set(segment);
                }
                "SPM" | "SAC" => self.specimen(segment),
                "ORC" => self.common_order(segment, at),
                "OBR" => self.order(segment),
                "OBX" => self.result(segment),
                "NTE" => self.comment(segment),
                _ => self.scope.set(segment),
            }
        }
        self.close();
        self.results
    }

    fn specimen(&mut self, segment: &'m Segment) {
        if !self.specimen_first {
            if let (Some(open), Some(other)) = (&mut self.open, self.scope.get(&segment.name)) {
                open.ambiguous |= other.raw_field(2) != segment.raw_field(2);
                return;
            }
        } else if segment.name == "SPM" {
            let pending = self.scope.get("ORC").filter(|_| self.scope.get("OBR").is_none());
            self.close();
            self.scope.forget(&["SAC", "ORC", "OBR", "OBX", "NTE", "TQ1"]);
            if let Some(orc) = pending {
                self.scope.set(orc);
            }
            self.last = Last::Order;
        }
        self.scope.set(segment);
    }

    /// ORC stands before its OBR, but in OUL after it.
    fn common_order(&mut self, segment: &'m Segment, at: usize) {
        let follows = |s: &&Segment| matches!(s.name.as_str(), "OBR" | "OBX" | "ORC" | "PID" | "SPM");
        let next = self.message.segments.get(at + 1..).unwrap_or_default().iter().find(follows);
        let of_next = next.is_some_and(|s| s.name == "OBR");
        let open_order = self.open.is_some() && self.scope.get("OBR").is_some() && self.scope.get("ORC").is_none();
        if !(open_order && (self.oul || !of_next)) {
            self.close();
            self.scope.forget(&["OBR", "OBX", "NTE", "TQ1"]);
            self.last = Last::Order;
        }
        self.scope.set(segment);
    }

    fn order(&mut self, segment: &'m Segment) {
        // An ORC without an OBR of its own is this one's.
        let pending = self.scope.get("ORC").filter(|_| self.scope.get("OBR").is_none());
        self.close();
        self.scope.forget(&["ORC", "OBR", "OBX", "NTE"]);
        if !self.specimen_first {
            self.scope.forget(&["SPM", "SAC"]);
        }
        if let Some(orc) = pending {
            self.scope.set(orc);
        }
        self.scope.set(segment);
        self.begin(segment.number);
        self.last = Last::Order;
    }

    fn begin(&mut self, record: u32) {
        let refused_before = self.reader.out.refused.len();
        self.open = Some(Open {
            record,
            observations: Vec::new(),
            comments: self.patient_comments.clone(),
            said: self.patient_said.clone(),
            completed: None,
            refused_before,
            ambiguous: false,
        });
    }

    fn result(&mut self, segment: &'m Segment) {
        if self.open.is_none() {
            self.begin(segment.number);
        }
        self.scope.forget(&["NTE"]);
        self.scope.set(segment);
        self.last = Last::Result(segment.number);
        let count = self.results;
        if !self.reader.has_room(count, segment.number, "OBX") {
            return;
        }
        let Some(mut measured) = self.reader.measured(segment.number, "OBX", &self.scope) else { return };
        if measured.unit == "10" && segment.components_filled(6) > 1 {
            // `10^3/uL` with its separator left unescaped: no unit is just "10".
            measured.unit = segment.whole(6);
        }
        // Where SPM comes after the results the specimen is not known yet, so an analyte limited to one stays unmapped.
        let rules = self.reader.rules_for(&measured);
        let is_obx_5 = |place: &Place| place.record == "OBX" && place.field == 5 && place.component.is_none();
        let typed = measured.path.is_none_or(|path| path.places.iter().all(is_obx_5));
        let value = match typed {
            true => value::obx(segment, &measured.text, rules),
            false => value::text(&measured.text, rules),
        };
        let fields = &self.reader.driver.schema.fields;
        let sent = Sent {
            loinc: loinc(segment),
            flags: flags(&fields.flag, &self.scope, &mut self.reader.trace),
            order_status: self.scope.component("OBR", 25, 1),
            ..self.reader.sent(segment.number, measured, value, &self.scope)
        };
        let completed = self.completed(sent.completed.clone());
        let equipment = self.last_named(segment).unwrap_or(sent.equipment);
        let sent = Sent { completed, equipment, ..sent };
        let observation = self.reader.observation(sent);
        if let Some(open) = &mut self.open {
            open.observations.push(observation);
            self.results += 1;
        }
    }

    /// What made this result in a message of LAW (LAB-29), where OBX-18 names the kind of analyzer first and the one
    /// that did it last. Elsewhere the lowest level comes first (HL7 v2, 7.4.2.18).
    fn last_named(&self, segment: &Segment) -> Option<String> {
        let profiles = self.scope.get("MSH").map(|header| header.repeats(21, 1, None)).unwrap_or_default();
        profiles.iter().find(|profile| profile.trim() == "LAB-29")?;
        let is_obx_18 = |p: &Place| (p.record.as_str(), p.field, p.component) == ("OBX", 18, Some(1));
        self.reader.driver.schema.fields.equipment.places().find(|place| is_obx_18(place))?;
        let repeats = segment.repeats(18, 1, None);
        repeats.into_iter().rev().map(|name| name.trim().to_string()).find(|name| !name.is_empty())
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

    fn comment(&mut self, segment: &'m Segment) {
        self.scope.set(segment);
        let fields = &self.reader.driver.schema.fields;
        let text = match first(&fields.comment, &self.scope, true, "comment", &mut self.reader.trace) {
            (Some(path), _) if path.places.iter().all(|p| p.field == 3 && p.component.is_none()) => {
                segment.whole_repeats(3).join("\n")
            }
            (_, text) => text,
        };
        let text = text.trim().to_string();
        let said = self.reader.conclusions(Stage::Comment, &self.scope);
        let technical = said.contains(&Then::Technical);
        let of_report: Vec<Then> = said.iter().copied().filter(|then| *then != Then::Technical).collect();
        match (self.last, &mut self.open) {
            (Last::Result(of), Some(open)) => {
                // The comment of a refused result goes with it.
                if let Some(last) = open.observations.last_mut().filter(|o| o.record == of) {
                    self.reader.comment(last, text, true, &said);
                }
            }
            (Last::Order, Some(open)) => {
                open.said.extend(of_report);
                open.comments.extend((!text.is_empty() && !technical).then_some(text));
            }
            (Last::Patient, _) => {
                self.patient_said.extend(of_report);
                self.patient_comments.extend((!text.is_empty() && !technical).then_some(text));
            }
            _ => {}
        }
    }

    fn close(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let order_status = self.scope.component("OBR", 25, 1);
        let (mut report, specimen_known) = self.reader.report(&self.scope, &order_status);
        let coding = |segment: &str, code: &str| {
            let (sent, text) = (self.scope.component(segment, 4, 1), self.scope.component(segment, 4, 2));
            let system = CodingSystem::from_hl7(&self.scope.component(segment, 4, 3));
            (sent == code).then_some(Coding { code: sent, text, system })
        };
        let whole = |c: Option<Coding>, segment| c.map(|c| coding(segment, &c.code).unwrap_or(c));
        report.order.universal_service_id = whole(report.order.universal_service_id, "OBR");
        report.specimen.type_code = whole(report.specimen.type_code, "SPM");
        if open.observations.is_empty() && order_status == "X" {
            let count = self.results;
            if self.reader.has_room(count, open.record, "OBR") {
                let code = report.order.universal_service_id.as_ref().map(|s| s.code.clone()).unwrap_or_default();
                open.observations.push(self.reader.observation(failed_order(open.record, code)));
                self.results += 1;
            }
        }
        if open.observations.is_empty() {
            if self.reader.out.refused.len() == open.refused_before {
                self.reader.note(open.record, "an order without results");
            }
            return;
        }
        let qc = &self.reader.driver.schema.qc;
        let roles = [self.scope.component("SPM", 11, 1), self.scope.component("OBR", 15, 7)];
        let control = self.setting.control
            || roles.iter().any(|role| qc.specimen_role.contains(role))
            || qc.action_code.contains(&self.scope.component("OBR", 11, 1));
        if control {
            report.control = Some(self.reader.control(&self.scope));
        }
        report.observations = open.observations;
        report.comments = open.comments;
        report.message_time = self.message_time.clone();
        self.reader.finish(report, specimen_known && !open.ambiguous, self.setting, &open.said, &self.scope);
    }
}

/// A LOINC the sender declares as such: OBX-3 with coding system LN, in the primary or the alternate triplet.
fn loinc(obx: &Segment) -> Option<Coding> {
    [(1, 2, 3), (4, 5, 6)].into_iter().find_map(|(code, text, system)| {
        let part = |n| obx.component(3, n, None).trim().to_string();
        if part(system) == "LN" { asserted_loinc(&part(code), &part(text)) } else { None }
    })
}

/// Every repeat of the first flag field that is not empty.
fn flags(paths: &Paths, scope: &Scope, trace: &mut Trace) -> Vec<String> {
    for place in paths.places() {
        let Some(segment) = scope.get(&place.record) else { continue };
        let flags = match place.each {
            true => segment.components(place.field),
            false => segment.repeats(place.field, place.component.unwrap_or(1), place.subcomponent),
        };
        if flags.iter().any(|f| !f.trim().is_empty()) {
            trace.add("flag", place.to_string(), segment.number, &segment.whole(place.field));
            return flags;
        }
    }
    Vec::new()
}

fn failed_order(record: u32, code: String) -> Sent {
    Sent { status: "X".to_string(), ..Sent::bare(record, code, (Value::Absent, vec![Doubt::FailedRun])) }
}
