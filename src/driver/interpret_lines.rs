//! Foreign lines to reports, by the records of `[lines]`; without any, by what is obvious ([`obvious`]).
//!
//! A line with a test or a value is a result. Everything else it names (specimen, patient, times) holds for the results
//! of the report around it. A report ends where another specimen begins. What no record fits
//! is held as a result that cannot be read, so that nothing that was printed vanishes (invariant I7).

mod obvious;
mod record;
pub mod skeleton;

use super::condition::{Stage, Then};
use super::lines::{DateOrder, Lines, OF_RESULT, RECORD, Unmatched};
use super::observe::{Reader, Sent, Setting, reason};
use super::path::{Paths, Place};
use super::read::{Origin, Source};
use super::{Context, Driver, Interpretation, value};
use crate::clinical::{Doubt, Observation, Value};
use crate::message::lines::{Cut, Line, State, read};
use std::collections::BTreeMap;

/// What a result that makes none is called.
pub(super) const KIND: &str = "line";
/// The name of a line that fits nothing.
const UNREAD: &str = "line";
/// Fields of which one makes a line a result.
const RESULT: [&str; 3] = ["test_code", "value", "qualitative"];

/// Texts by the names of their fields, each with the number of its line.
type Bag = BTreeMap<String, (String, u32)>;

/// What one line says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reading {
    /// What holds for the whole line.
    shared: Bag,
    /// Its results.
    results: Vec<Bag>,
    /// What stood between them.
    rest: String,
    /// A new report begins here.
    begins_report: bool,
    /// How surely the label of the specimen id means one; 0 is surest. Only what is obvious has other ranks.
    specimen_rank: usize,
}

pub(super) fn interpret(driver: &Driver, raw: &[u8], context: &Context, trace: bool) -> (Interpretation, Vec<Origin>) {
    let mut reader = Reader::new(driver, context, trace);
    let charset = reader.charset();
    let lines = &driver.schema.lines;
    let cut = Cut {
        split: lines.split.iter().map(|mark| mark.0.as_slice()).filter(|mark| !mark.is_empty()).collect(),
        block_bytes: lines.block_bytes,
        block_start: &lines.block_start.0,
    };
    let framing = context.framing.as_ref().or(driver.wire().framing.as_ref());
    let parts = read(raw, framing, &cut, charset);
    let mut walk = Walk::new(&mut reader, lines);
    for part in &parts {
        walk.setting.incomplete |= part.state == State::Loose;
        walk.setting.bad_charset |= !part.clean;
        if part.state == State::Damaged {
            let number = part.lines.first().map_or(0, |line| line.number);
            walk.reader.refuse(number, KIND, reason::DAMAGED);
        } else if lines.record.is_empty() {
            walk.obvious(&part.lines);
        } else {
            part.lines.iter().for_each(|line| walk.line(line));
        }
    }
    walk.finish();
    if walk.results == 0 && walk.reader.out.refused.is_empty() {
        reader.note(0, "no results in this message");
    }
    (reader.out, reader.trace.origins)
}

/// What is known at one point: of the result, and of the report around it.
struct Scope<'b> {
    result: &'b Bag,
    report: &'b Bag,
    dates: DateOrder,
}

impl Scope<'_> {
    fn find(&self, name: &str) -> Option<&(String, u32)> {
        self.result.get(name).or_else(|| self.report.get(name))
    }

    fn found(&self, name: &str) -> &str {
        self.find(name).map_or("", |(text, _)| text)
    }
}

impl Source for Scope<'_> {
    /// Times come in the digits all reports have, as far as they can be read; otherwise as they were sent.
    fn text(&self, place: &Place, _whole: bool) -> String {
        let Some(item) = &place.item else { return String::new() };
        let whole = self.found(&item.name);
        match item.name.as_str() {
            "completed" | "collected" if whole.is_empty() => {
                let part = |part| self.found(&format!("{}_{part}", item.name)).to_string();
                let (date, time) = (part("date"), part("time"));
                self.dates.time(&date, &time).unwrap_or_else(|| format!("{date} {time}").trim().to_string())
            }
            "completed" | "collected" | "birth_date" => self.dates.both(whole).unwrap_or_else(|| whole.to_string()),
            _ => whole.to_string(),
        }
    }

    fn number(&self, place: &Place) -> Option<u32> {
        let name = &place.item.as_ref()?.name;
        let date = || self.find(&format!("{name}_date")).or_else(|| self.find(&format!("{name}_time")));
        self.find(name).or_else(date).map(|(_, number)| *number)
    }
}

struct Walk<'w, 'r> {
    reader: &'w mut Reader<'r>,
    lines: &'r Lines,
    /// What the report at hand says besides its results.
    report: Bag,
    /// [`Reading::specimen_rank`] of its specimen id.
    specimen_rank: usize,
    observations: Vec<Observation>,
    comments: Vec<String>,
    setting: Setting,
    results: usize,
}

impl<'w, 'r> Walk<'w, 'r> {
    fn new(reader: &'w mut Reader<'r>, lines: &'r Lines) -> Self {
        let setting = Setting {
            incomplete: !reader.context.complete,
            // What is only obvious is no agreement with anybody: a person has to see it, whatever the rules release.
            unreadable: lines.record.is_empty(),
            ..Setting::default()
        };
        Walk {
            reader,
            lines,
            report: Bag::new(),
            specimen_rank: 0,
            observations: Vec::new(),
            comments: Vec::new(),
            setting,
            results: 0,
        }
    }

    /// Reads a line by the first record that fits.
    fn line(&mut self, line: &Line) {
        if self.lines.ignore.iter().any(|pattern| pattern.0.is_match(&line.text)) {
            return;
        }
        match self.lines.record.iter().find_map(|record| record::read(record, line)) {
            Some(reading) => self.take(line.number, reading),
            None => self.unread(line),
        }
    }

    fn obvious(&mut self, lines: &[Line]) {
        for (line, reading) in obvious::read(lines) {
            match reading {
                Some(reading) => self.take(line.number, reading),
                None => self.unread(line),
            }
        }
    }

    fn take(&mut self, number: u32, reading: Reading) {
        let mut shared = reading.shared;
        if reading.begins_report || self.is_of_another(&shared) {
            self.finish();
        }
        let mut results = reading.results;
        if RESULT.iter().any(|name| shared.contains_key(*name)) {
            let own = |name: &String| OF_RESULT.contains(&name.as_str());
            let (of_result, rest): (Bag, Bag) = shared.into_iter().partition(|(name, _)| own(name));
            results.insert(0, of_result);
            shared = rest;
        }
        if let Some((comment, number)) = shared.remove("comment") {
            self.comment(number, comment);
        }
        self.settle(&mut shared, reading.specimen_rank);
        self.report.extend(shared);
        for result in &results {
            self.result(number, result);
        }
        if !reading.rest.is_empty() {
            self.comment(number, reading.rest);
        }
    }

    /// How dates are read: without records nobody has agreed on anything.
    fn dates(&self) -> DateOrder {
        match self.lines.date_order {
            DateOrder::Ymd if self.lines.record.is_empty() => DateOrder::Unsaid,
            declared => declared,
        }
    }

    /// Two lines above the results may claim the same field, `ID: 4711` and `Sample: SERUM`: the surer label of a
    /// specimen id stays, else the later line, and the other one is a comment.
    fn settle(&mut self, shared: &mut Bag, specimen_rank: usize) {
        let names: Vec<String> = shared.keys().cloned().collect();
        // Where records are declared, the driver says what a line means.
        let settles = self.lines.record.is_empty() && self.observations.is_empty();
        for name in names.iter().filter(|_| settles) {
            let says = |bag: &Bag| bag.get(name).map(|(text, _)| text.clone());
            let Some(before) = self.report.get(name).cloned().filter(|(text, _)| Some(text) != says(shared).as_ref())
            else {
                continue;
            };
            let is_blank = says(shared).is_none_or(|text| text.is_empty());
            let is_surer = self.specimen_rank < specimen_rank || (is_blank && self.specimen_rank != specimen_rank);
            let earlier_stays = name == "specimen_id" && !before.0.is_empty() && is_surer;
            let other = if earlier_stays { shared.remove(name) } else { Some(before) };
            if let Some((text, number)) = other.filter(|(text, _)| !text.is_empty()) {
                self.comment(number, text);
            }
        }
        if shared.contains_key("specimen_id") {
            self.specimen_rank = specimen_rank;
        }
    }

    /// True when the line names another specimen than the results before it. Results without a specimen are given one
    /// that comes later only where the driver says with which line a report begins: else they might be another one's.
    fn is_of_another(&self, shared: &Bag) -> bool {
        let Some((id, _)) = shared.get("specimen_id") else { return false };
        let has_results = self.observations.iter().any(|o| !o.instrument_code.is_empty());
        match self.report.get("specimen_id") {
            Some((before, _)) => !self.observations.is_empty() && before != id,
            None => has_results && !self.lines.record.iter().any(|record| record.begins_report),
        }
    }

    fn result(&mut self, number: u32, result: &Bag) {
        if !self.reader.has_room(self.results, number, KIND) {
            return;
        }
        let report = std::mem::take(&mut self.report);
        let scope = Scope { result, report: &report, dates: self.dates() };
        let made = self.observation(number, &scope);
        self.report = report;
        if let Some(observation) = made {
            self.results += 1;
            self.observations.push(observation);
        }
    }

    fn observation(&mut self, number: u32, scope: &Scope<'_>) -> Option<Observation> {
        let measured = self.reader.measured(number, KIND, scope)?;
        let value = value::text(&measured.text, self.reader.rules_for(&measured));
        let fields = &self.reader.driver.schema.fields;
        let flags = self.reader.text("flag", &fields.flag, scope);
        let sent = Sent {
            flags: flags.split_whitespace().map(ToString::to_string).collect(),
            ..self.reader.sent(number, measured, value, scope)
        };
        let mut observation = self.reader.observation(sent);
        let comment = self.reader.text("comment", &fields.comment, scope);
        let said = self.reader.conclusions(Stage::Comment, scope);
        self.reader.comment(&mut observation, comment, true, &said);
        Some(observation)
    }

    /// A line that fits nothing: a person has to see it, or at least find it beside the results.
    fn unread(&mut self, line: &Line) {
        let text = line.text.trim();
        let says_something = text.chars().any(char::is_alphanumeric);
        if self.lines.unmatched == Unmatched::Comment || !says_something {
            if says_something {
                self.comment(line.number, text.to_string());
            }
            return;
        }
        if !self.reader.has_room(self.results, line.number, KIND) {
            return;
        }
        let text = self.traced(UNREAD, line.number, line.text.clone());
        let unreadable = (Value::Text(text), vec![Doubt::UnreadableValue]);
        let observation = self.reader.observation(Sent::bare(line.number, String::new(), unreadable));
        self.results += 1;
        self.observations.push(observation);
    }

    fn comment(&mut self, number: u32, text: String) {
        let text = self.traced("comment", number, text);
        self.comments.push(text);
    }

    /// The text, remembered with its place.
    fn traced(&mut self, name: &'static str, number: u32, text: String) -> String {
        let bag = Bag::from([(name.to_string(), (text, number))]);
        let scope = Scope { result: &bag, report: &Bag::new(), dates: self.dates() };
        self.reader.text(name, &Paths::of(&[&format!("{RECORD}.{name}")]), &scope)
    }

    /// Files the report at hand; what follows is another one.
    fn finish(&mut self) {
        let bag = std::mem::take(&mut self.report);
        let observations = std::mem::take(&mut self.observations);
        let comments = std::mem::take(&mut self.comments);
        if observations.is_empty() {
            return;
        }
        let scope = Scope { result: &Bag::new(), report: &bag, dates: self.dates() };
        let (mut report, specimen_known) = self.reader.report(&scope, "");
        let by_name = ["control_name", "control_lot", "control_level"].iter().any(|name| bag.contains_key(*name));
        report.control = by_name.then(|| self.reader.control(&scope));
        report.observations = observations;
        let mut said = Vec::new();
        for comment in comments {
            let bag = Bag::from([("comment".to_string(), (comment.clone(), 0))]);
            let scope = Scope { result: &bag, ..scope };
            let concluded = self.reader.conclusions(Stage::Comment, &scope);
            report.comments.extend((!concluded.contains(&Then::Technical)).then_some(comment));
            said.extend(concluded.into_iter().filter(|then| *then != Then::Technical));
        }
        self.late_time(&mut report.observations, &scope);
        self.reader.finish(report, specimen_known, self.setting, &said, &scope);
    }

    /// A time printed below the results is theirs too.
    fn late_time(&mut self, observations: &mut [Observation], scope: &Scope<'_>) {
        let fields = &self.reader.driver.schema.fields;
        let completed = self.reader.time("completed", &fields.completed, scope);
        let operator = self.reader.text("operator", &fields.operator, scope);
        for observation in observations {
            observation.completed = observation.completed.take().or_else(|| completed.clone());
            if observation.operator.is_empty() {
                observation.operator.clone_from(&operator);
            }
        }
    }
}

#[cfg(test)]
mod tests;
