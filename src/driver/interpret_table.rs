//! Tables to reports: files an instrument leaves in a folder, as rows under a header.
//!
//! In a **long** table each row is one result. In a **wide** one each row is a specimen with a column for each test
//! (`table.test_columns`). A path names a column (`[Sample ID]`), which may also be a key outside of the table; in a
//! wide table `[@]` and its kin are the test's own ([`super::schema::Table`]). Rows that follow each other and say the
//! same of specimen, patient and order make one report.

use super::condition::{Stage, Then};
use super::observe::{Reader, Sent, Setting, asserted_loinc, reason};
use super::path::{COLUMN, Place};
use super::read::{Origin, Source, first};
use super::schema::Schema;
use super::unread::UNREAD;
use super::{Context, Driver, Interpretation, identify::wildcard, value};
use crate::clinical::{Doubt, Observation, Report};
use crate::message::tables::layout::{Headers, Layout, Table, lay_out, plain_name};
use crate::message::tables::{self, COLUMNS_MAX, Reading, Row, bare};
use std::collections::{HashMap, HashSet};

/// What a refused row is called.
const ROW: &str = "row";
/// Names of fields in one row by which a header is recognised.
const NAMES_MIN: usize = 2;
/// Longest unit in a header, in bytes.
const UNIT_MAX: usize = 24;

pub(super) fn interpret(driver: &Driver, raw: &[u8], context: &Context, trace: bool) -> (Interpretation, Vec<Origin>) {
    let mut reader = Reader::new(driver, context, trace);
    let charset = reader.charset();
    let mut reading = tables::read(raw, charset, driver.schema.table.delimiter);
    let empty = &driver.schema.table.empty;
    let is_nothing = |cell: &&mut String| empty.iter().any(|nothing| nothing == bare(cell));
    reading.rows.iter_mut().flat_map(|row| &mut row.cells).filter(is_nothing).for_each(String::clear);
    for oddity in &reading.oddities {
        reader.note(oddity.record, oddity.what);
    }
    let names = Names::of(&driver.schema);
    let layout = names.lay_out(&reading.rows, &driver.schema);
    let mut walk =
        Walk { reader: &mut reader, reading: &reading, names: &names, results: 0, open: None, spoilt: false };
    let data: HashSet<u32> = layout.tables.iter().flat_map(|table| &table.rows).map(|row| row.number).collect();
    walk.spoilt = reading.rows.iter().any(|row| row.damaged && !data.contains(&row.number));
    for table in &layout.tables {
        walk.table(&layout, table);
    }
    walk.rest(&layout);
    walk.close();
    if walk.results == 0 && reader.out.refused.is_empty() {
        reader.note(0, "no results in this file");
    }
    if reading.cut_off {
        reader.refuse(0, ROW, reason::CUT_OFF);
    }
    (reader.out, reader.trace.origins)
}

/// What the file calls its parts, without anything that was measured or anybody's name: titles, keys and headers, cells
/// joined with `|`. By this a driver recognises its instrument.
pub(super) fn sender(reading: &Reading) -> Option<String> {
    let layout = lay_out(&reading.rows, &Headers::Like(&|_| false, true));
    let keys = layout.keys.iter().map(|key| (key.row, key.name.to_string()));
    let headers = layout.tables.iter().filter_map(|table| table.header);
    let headers = headers.map(|row| (row.number, row.cells.iter().map(|c| bare(c)).collect::<Vec<_>>().join("|")));
    let mut lines: Vec<(u32, String)> = keys.chain(headers).collect();
    lines.sort();
    let text = lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    (!text.is_empty()).then_some(text)
}

/// The first text of a column or key in a file of which nothing is known yet.
pub(super) fn first_text(reading: &Reading, place: &Place) -> Option<String> {
    let layout = lay_out(&reading.rows, &Headers::Like(&|_| false, true));
    let name = &place.item.as_ref()?.name;
    let in_column = layout.tables.iter().find_map(|table| Some(table.rows.first()?.cell(table.column(name)?)));
    let key = || layout.keys.iter().find(|key| plain_name(key.name) == plain_name(name)).map(|key| key.value);
    in_column.or_else(key).map(str::to_string)
}

/// The columns and keys a driver's paths name.
struct Names {
    /// As written.
    written: Vec<String>,
    /// As compared.
    plain: HashSet<String>,
}

impl Names {
    fn of(schema: &Schema) -> Self {
        let columns = schema.places().filter(|place| place.record == COLUMN).filter_map(|place| place.item.as_ref());
        let mut written: Vec<String> = columns.map(|item| item.name.clone()).collect();
        written.sort();
        written.dedup();
        let named = written.iter().filter(|name| !name.starts_with(['@', '#']));
        let plain = named.map(|name| plain_name(name)).collect();
        Names { written, plain }
    }

    fn lay_out<'r>(&self, rows: &'r [Row], schema: &Schema) -> Layout<'r> {
        let table = &schema.table;
        let wanted: Vec<String> = table.header.iter().map(|name| plain_name(name)).collect();
        let is_header = |row: &Row| {
            let cells: HashSet<String> = row.cells.iter().map(|cell| plain_name(cell)).collect();
            match wanted.as_slice() {
                [] => cells.iter().filter(|cell| self.plain.contains(*cell)).count() >= NAMES_MIN,
                all => all.iter().all(|name| cells.contains(name)),
            }
        };
        let headers = match table.header_row {
            Some(0) => Headers::None,
            Some(number) => Headers::Row(number),
            None => Headers::Like(&is_header, takes_anything(schema)),
        };
        lay_out(rows, &headers)
    }
}

/// True for the driver that takes every column for a test.
fn takes_anything(schema: &Schema) -> bool {
    schema.table.test_columns.iter().any(|pattern| pattern == "*")
}

/// Where a name stands, seen from one table.
enum Found<'m> {
    Column(usize),
    Key { row: u32, value: &'m str },
}

/// One row, and in a wide table one test of it.
#[derive(Clone, Copy)]
struct Scope<'s, 'm> {
    found: &'s HashMap<&'s str, Found<'m>>,
    /// What blank cells stand for, by column.
    above: &'s HashMap<usize, &'m str>,
    table: &'s Table<'m>,
    row: &'m Row,
    test: Option<usize>,
}

impl<'m> Scope<'_, 'm> {
    fn cell(&self, at: usize) -> &'m str {
        let text = self.row.cells.get(at).map_or("", String::as_str);
        if bare(text).is_empty() { self.above.get(&at).copied().unwrap_or("") } else { text }
    }

    /// What `[@...]` stands for at this test.
    fn of_test(&self, what: &str) -> &'m str {
        let Some(test) = self.test else { return "" };
        let (name, unit) = name_and_unit(self.table.heading(test));
        match what {
            "" => self.cell(test),
            "header" => self.table.heading(test),
            "name" => name,
            "unit" => unit,
            "next" if self.table.heading(test + 1).is_empty() => self.cell(test + 1),
            _ => {
                let at = what.parse::<isize>().ok().and_then(|step| test.checked_add_signed(step));
                at.map_or("", |at| self.cell(at))
            }
        }
    }

    fn named(&self, name: &str) -> &'m str {
        if let Some(what) = name.strip_prefix('@') {
            return self.of_test(what);
        }
        match self.found.get(name) {
            Some(Found::Column(at)) => self.cell(*at),
            Some(Found::Key { value, .. }) => value,
            None => "",
        }
    }

    /// The result's number: its row, and in a wide table its row and column.
    fn record(&self) -> u32 {
        let column = |at: usize| u32::try_from(at + 1).unwrap_or(u32::MAX);
        match self.test {
            Some(test) => self.row.number.saturating_mul(COLUMNS_MAX as u32 + 1).saturating_add(column(test)),
            None => self.row.number,
        }
    }
}

impl Source for Scope<'_, '_> {
    fn text(&self, place: &Place, _whole: bool) -> String {
        let name = place.item.as_ref().map_or("", |item| item.name.as_str());
        self.named(name).trim_matches('\u{feff}').to_string()
    }

    fn number(&self, place: &Place) -> Option<u32> {
        let name = place.item.as_ref().map_or("", |item| item.name.as_str());
        Some(match self.found.get(name) {
            Some(Found::Key { row, .. }) => *row,
            _ => self.record(),
        })
    }
}

/// `HCT(10^(-1)%)` as `HCT` and `10^(-1)%`: what stands in brackets at the end of a header is the unit.
fn name_and_unit(heading: &str) -> (&str, &str) {
    let (open, close) = match heading.chars().last() {
        Some(')') => ('(', ')'),
        Some(']') => ('[', ']'),
        _ => return (heading, ""),
    };
    let mut depth = 0;
    for (at, c) in heading.char_indices().rev() {
        depth += i32::from(c == close) - i32::from(c == open);
        if depth == 0 && at > 0 {
            let (name, unit) = heading.split_at(at);
            let unit = unit.get(1..unit.len() - 1).unwrap_or("").trim();
            // `Qflag(Blasts?)` has brackets that hold a word.
            let is_unit = unit.len() <= UNIT_MAX && !unit.contains('?');
            return if is_unit { (name.trim_end(), unit) } else { (heading, "") };
        }
    }
    (heading, "")
}

struct Walk<'w, 'r, 'm> {
    reader: &'w mut Reader<'r>,
    reading: &'m Reading,
    names: &'w Names,
    results: usize,
    open: Option<Open>,
    /// A damaged row stands above or beside the data: a key, a header or what is filled down may be wrong.
    spoilt: bool,
}

/// A report that rows still add to.
struct Open {
    /// Without its observations.
    head: Report,
    specimen_known: bool,
    observations: Vec<Observation>,
}

impl<'m> Walk<'_, '_, 'm> {
    fn table(&mut self, layout: &Layout<'m>, table: &Table<'m>) {
        let schema = &self.reader.driver.schema;
        let settings = &schema.table;
        if !settings.sections.is_empty() && !settings.sections.iter().any(|s| wildcard(s, table.title)) {
            self.reader.note(table.header.map_or(0, |h| h.number), "a section the driver does not read");
            table.rows.iter().for_each(|row| self.unread(row, |_| false));
            return;
        }
        let names = self.names;
        let mut found: HashMap<&str, Found<'m>> =
            names.written.iter().filter_map(|name| Some((name.as_str(), find(layout, table, name)?))).collect();
        let columns: HashSet<usize> =
            found.values().filter_map(|f| if let Found::Column(at) = f { Some(*at) } else { None }).collect();
        let value_column = schema.fields.value.places().find_map(|place| {
            let Found::Column(at) = found.get(place.item.as_ref()?.name.as_str())? else { return None };
            Some(*at)
        });
        let is_test = |at: usize| {
            let heading = table.heading(at);
            let listed = |patterns: &[String]| patterns.iter().any(|pattern| wildcard(pattern, heading));
            !heading.is_empty()
                && !columns.contains(&at)
                && listed(&settings.test_columns)
                && !listed(&settings.other_columns)
        };
        let tests: Vec<usize> = match value_column {
            Some(_) => Vec::new(),
            None => (0..table.width()).filter(|at| is_test(*at)).collect(),
        };
        only_columns(&mut found, schema, !tests.is_empty());
        let fill_down: HashSet<usize> = settings.fill_down.iter().filter_map(|name| table.column(name)).collect();
        let mut above = HashMap::new();
        let mut damaged_above = HashSet::new();
        let spoilt = self.spoilt;
        for row in &table.rows {
            for at in fill_down.iter().filter(|at| !row.cell(**at).is_empty()) {
                above.insert(*at, row.cell(*at));
                damaged_above.remove(at);
                if row.damaged {
                    damaged_above.insert(*at);
                }
            }
            self.spoilt = spoilt || !damaged_above.is_empty();
            let scope = Scope { found: &found, above: &above, table, row, test: None };
            if settings.footer.iter().any(|pattern| wildcard(pattern, row.cell(0))) {
                self.reader.note(row.number, "a footer");
                self.unread(row, |_| false);
            } else if let Some(at) = value_column {
                self.row(&scope, &[(None, at)]);
            } else if tests.is_empty() {
                self.reader.refuse(row.number, ROW, reason::NO_VALUE);
            } else {
                let filled: Vec<_> =
                    tests.iter().filter(|at| !row.cell(**at).is_empty()).map(|at| (Some(*at), *at)).collect();
                self.row(&scope, &filled);
            }
            let belongs =
                |at: usize| columns.contains(&at) || tests.contains(&at) || belongs_to_test(table, &tests, at);
            self.unread_in(table, row, belongs);
        }
        self.spoilt = spoilt;
        self.close();
    }

    /// Reads the results of one row, each with the column its value is in.
    fn row(&mut self, scope: &Scope<'_, 'm>, results: &[(Option<usize>, usize)]) {
        let (mut report, known) = self.reader.report(scope, "");
        if self.reader.conclusions(Stage::Result, scope).contains(&Then::Control) {
            report.control = Some(self.reader.control(scope));
        }
        if !self.open.as_ref().is_some_and(|open| open.specimen_known == known && open.head == report) {
            self.close();
            self.open = Some(Open { head: report, specimen_known: known, observations: Vec::new() });
        }
        for (test, at) in results {
            self.result(&Scope { test: *test, ..*scope }, *at);
        }
    }

    fn result(&mut self, scope: &Scope<'_, 'm>, value_at: usize) {
        let record = scope.record();
        if !self.reader.has_room(self.results, record, ROW) {
            return;
        }
        let Some(measured) = self.reader.measured(record, ROW, scope) else { return };
        let value = value::text(&measured.text, self.reader.rules_for(&measured));
        let fields = &self.reader.driver.schema.fields;
        let flag = first(&fields.flag, scope, true, "flag", &mut self.reader.trace).1;
        let sent = self.reader.sent(record, measured, value, scope);
        let sent = Sent { loinc: asserted_loinc(&sent.code, &sent.name), flags: vec![flag], ..sent };
        let mut observation = self.reader.observation(sent);
        if self.may_be_cut(scope, value_at) {
            observation.doubts.push(Doubt::Incomplete);
            self.reader.note(scope.row.number, "the last line has no line end; see `last_line_open` in [table]");
        }
        if scope.row.damaged || self.spoilt {
            observation.doubts.push(Doubt::Unreadable);
        }
        let comment = self.reader.text("comment", &fields.comment, scope);
        self.reader.comment(&mut observation, comment, true, &[]);
        self.add(observation);
    }

    fn add(&mut self, observation: Observation) {
        if let Some(open) = &mut self.open {
            open.observations.push(observation);
            self.results += 1;
        }
    }

    /// True in the last line of a file when its end is missing and the value may be, too.
    fn may_be_cut(&self, scope: &Scope<'_, 'm>, value_at: usize) -> bool {
        let last = self.reading.rows.last().is_some_and(|row| row.number == scope.row.number);
        let allowed = self.reader.driver.schema.table.last_line_open;
        let (cells, width) = (scope.row.cells.len(), scope.table.width());
        last && !self.reading.ended && !allowed && (cells < width || value_at + 1 >= cells)
    }

    /// What stands in no table. Without any table in the file each such row would be a result that vanishes.
    fn rest(&mut self, layout: &Layout<'m>) {
        let said = |name: &str| self.names.plain.contains(&plain_name(name));
        let lines: Vec<(u32, &str, &str, &str)> = {
            let keys = layout.keys.iter().filter(|k| !said(k.name)).map(|k| (k.row, k.name, k.value, ""));
            let loose = layout.loose.iter().map(|r| (r.number, r.cell(0), r.cell(1), r.cell(2)));
            keys.chain(loose).collect()
        };
        if !layout.tables.is_empty() {
            for (row, name, value, _) in &lines {
                self.other(format!("[{name}]"), *row, value);
            }
            for row in &layout.loose {
                self.reader.note(row.number, "a row outside of every table");
                self.unread(row, |at| at < 2);
            }
            return;
        }
        let generic = takes_anything(&self.reader.driver.schema);
        let mut lines: Vec<_> = lines.into_iter().filter(|(_, _, value, _)| !value.is_empty()).collect();
        lines.sort_by_key(|(row, ..)| *row);
        let table = Table::without_header(layout.keys.last().map_or(0, |key| key.block));
        let found: HashMap<&str, Found<'m>> =
            self.names.written.iter().filter_map(|name| Some((name.as_str(), find(layout, &table, name)?))).collect();
        let above = HashMap::new();
        for (number, code, text, unit) in lines {
            let Some(row) = self.reading.rows.iter().find(|row| row.number == number).filter(|_| generic) else {
                self.reader.refuse(number, ROW, reason::NO_HEADER);
                continue;
            };
            if !self.reader.has_room(self.results, number, ROW) {
                continue;
            }
            let scope = Scope { found: &found, above: &above, table: &table, row, test: None };
            self.row(&scope, &[]);
            for (field, path, text) in [("test_code", "[#1]", code), ("value", "[#2]", text), ("unit", "[#3]", unit)] {
                self.reader.trace.add(field, path.to_string(), number, text);
            }
            let rules = self.reader.rules(code, "", unit);
            let sent = Sent::bare(number, code.to_string(), value::text(text, rules));
            let mut observation = self.reader.observation(Sent { unit: unit.to_string(), ..sent });
            if self.spoilt {
                observation.doubts.push(Doubt::Unreadable);
            }
            self.add(observation);
            self.unread(row, |at| at < 3);
        }
    }

    /// Shows the cells of a row that nobody reads.
    fn unread(&mut self, row: &Row, is_read: impl Fn(usize) -> bool) {
        for (at, cell) in row.cells.iter().enumerate().filter(|(at, _)| !is_read(*at)) {
            self.other(format!("[#{}]", at + 1), row.number, cell);
        }
    }

    fn unread_in(&mut self, table: &Table<'m>, row: &Row, is_read: impl Fn(usize) -> bool) {
        for (at, cell) in row.cells.iter().enumerate().filter(|(at, _)| !is_read(*at)) {
            let path = match table.heading(at) {
                "" => format!("[#{}]", at + 1),
                heading => format!("[{heading}]"),
            };
            self.other(path, row.number, cell);
        }
    }

    fn other(&mut self, path: String, record: u32, text: &str) {
        if !bare(text).is_empty() {
            self.reader.trace.add(UNREAD, path, record, bare(text));
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take().filter(|open| !open.observations.is_empty()) {
            let setting = Setting {
                incomplete: !self.reader.context.complete,
                bad_charset: !self.reading.clean,
                ..Setting::default()
            };
            let report = Report { observations: open.observations, ..open.head };
            self.reader.finish(report, open.specimen_known, setting, &[], &Nowhere);
        }
    }
}

/// Rules on a table are about its rows, so nothing is asked once a report is complete.
struct Nowhere;

impl Source for Nowhere {
    fn text(&self, _: &Place, _: bool) -> String {
        String::new()
    }

    fn number(&self, _: &Place) -> Option<u32> {
        None
    }
}

/// True for a column without a header right of a test: it holds the test's unit or flag.
fn belongs_to_test(table: &Table<'_>, tests: &[usize], at: usize) -> bool {
    table.heading(at).is_empty() && at > 0 && tests.contains(&(at - 1))
}

/// Takes the keys away that must not stand in for a column: for a value always, for whatever else a wide table says of
/// each test by itself, and for a field that has a column.
fn only_columns(found: &mut HashMap<&str, Found<'_>>, schema: &Schema, wide: bool) {
    let fields = &schema.fields;
    let of_result = [&fields.value, &fields.test_code, &fields.unit, &fields.flag, &fields.reference_range];
    for paths in schema.lists() {
        // What is joined needs both: a key and a column may make one code together.
        let alone = || paths.iter().filter(|path| path.places.len() == 1).flat_map(|path| &path.places);
        let names = || alone().filter_map(|place| place.item.as_ref()).map(|item| item.name.as_str());
        let has_column = names().any(|name| matches!(found.get(name), Some(Found::Column(_))));
        let of_test = wide && of_result.iter().any(|list| std::ptr::eq(*list, paths));
        if has_column || of_test || std::ptr::eq(paths, &fields.value) {
            for name in names() {
                if matches!(found.get(name), Some(Found::Key { .. })) {
                    found.remove(name);
                }
            }
        }
    }
}

fn find<'m>(layout: &Layout<'m>, table: &Table<'m>, name: &str) -> Option<Found<'m>> {
    if let Some(number) = name.strip_prefix('#') {
        return number.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).map(Found::Column);
    }
    let column = table.column(name).map(Found::Column);
    column.or_else(|| layout.key(table.block, name).map(|key| Found::Key { row: key.row, value: key.value }))
}
