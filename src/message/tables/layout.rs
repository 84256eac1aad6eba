//! What the rows of a file are: titles, keys with their values, headers and the data under them.
//!
//! ```text
//! RESULT TABLE                 a title: one cell
//! Sample ID,AP-0001            a key and its value: two cells outside of a table
//!
//! Analyte Result               a title
//! Analyte Name,Ct,Result       a header
//! GP,39.1,POS                  data
//! ```
//!
//! A file may hold several tables and several **blocks**, one for each specimen. A key holds for its own block only: a
//! block ends where one of its keys or titles comes again. So a block without a specimen id never takes the one of the
//! block before it (hazard H2).

use super::{Row, bare, is_numeric};
use std::collections::{HashMap, HashSet};

/// A key outside of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key<'r> {
    /// Row number.
    pub row: u32,
    /// Its name as it stands there.
    pub name: &'r str,
    /// Its value; empty when it has none.
    pub value: &'r str,
    /// The block it belongs to.
    pub block: usize,
    /// The name as it is compared.
    plain: String,
}

/// A header and the data under it.
#[derive(Debug, Clone)]
pub struct Table<'r> {
    /// The title above it, brackets removed; empty without one.
    pub title: &'r str,
    /// The header; `None` when the file has none and columns go by their number.
    pub header: Option<&'r Row>,
    /// The data.
    pub rows: Vec<&'r Row>,
    /// The block it belongs to.
    pub block: usize,
    columns: HashMap<String, usize>,
}

/// A file laid out.
#[derive(Debug, Clone, Default)]
pub struct Layout<'r> {
    /// Keys, in order. A title is also a key without a value: exports leave the value of a key away.
    pub keys: Vec<Key<'r>>,
    /// Tables, in order.
    pub tables: Vec<Table<'r>>,
    /// Rows that are none of these.
    pub loose: Vec<&'r Row>,
}

/// How headers are told.
pub enum Headers<'h> {
    /// There are none: every row is data.
    None,
    /// This row is one, counted from 1.
    Row(u32),
    /// A row is one when this says so. With `any`, so is a row of at least three texts that stands where a header would.
    Like(&'h dyn Fn(&Row) -> bool, bool),
}

/// Lays a file out.
pub fn lay_out<'r>(rows: &'r [Row], headers: &Headers<'_>) -> Layout<'r> {
    let mut sorter = Sorter::default();
    for row in rows {
        sorter.take(row, headers);
    }
    sorter.layout
}

/// A name as it is compared: without blanks, line ends, case and the marks that writers vary.
pub fn plain_name(name: &str) -> String {
    let ignored = |c: &char| !(c.is_whitespace() || matches!(c, '_' | '-' | '.' | ':' | '\'' | '"' | '\u{feff}'));
    let plain: String = name.chars().filter(ignored).flat_map(char::to_lowercase).collect();
    // A name of nothing but marks is still a name.
    if plain.is_empty() { bare(name).to_string() } else { plain }
}

impl<'r> Table<'r> {
    fn new(title: &'r str, header: Option<&'r Row>, block: usize) -> Self {
        let mut columns = HashMap::new();
        for (at, cell) in header.into_iter().flat_map(|row| row.cells.iter().enumerate()) {
            if !bare(cell).is_empty() {
                columns.entry(plain_name(cell)).or_insert(at);
            }
        }
        Table { title, header, rows: Vec::new(), block, columns }
    }

    /// A table without header or rows, for what stands in none.
    pub fn without_header(block: usize) -> Self {
        Table::new("", None, block)
    }

    /// The column of this name, from 0; the first of several.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.get(&plain_name(name)).copied()
    }

    /// The header's cell over a column, blanks around it removed.
    pub fn heading(&self, at: usize) -> &'r str {
        self.header.map_or("", |row| row.cell(at))
    }

    /// Cells a complete row has.
    pub fn width(&self) -> usize {
        self.header.map_or(0, Row::width)
    }
}

impl<'r> Layout<'r> {
    /// The value of a key of this block: the last one of that name.
    pub fn key(&self, block: usize, name: &str) -> Option<&Key<'r>> {
        let name = plain_name(name);
        self.keys.iter().rev().find(|key| key.block == block && key.plain == name)
    }
}

#[derive(Default)]
struct Sorter<'r> {
    layout: Layout<'r>,
    /// True while the last table takes rows.
    open: bool,
    after_blank: bool,
    title: &'r str,
    block: usize,
    /// Keys and titles of the block.
    said: HashSet<String>,
}

impl<'r> Sorter<'r> {
    fn take(&mut self, row: &'r Row, headers: &Headers<'_>) {
        if row.is_blank() {
            self.after_blank = true;
            return;
        }
        let after_blank = std::mem::take(&mut self.after_blank);
        let is_header = match headers {
            Headers::None => false,
            Headers::Row(number) => row.number == *number,
            Headers::Like(like, _) => like(row),
        };
        if matches!(headers, Headers::None) && !self.open {
            self.layout.tables.push(Table::new("", None, 0));
            self.open = true;
        }
        if is_header {
            return self.header(row);
        }
        if self.open && !self.leaves(row, after_blank, headers) {
            if let Some(table) = self.layout.tables.last_mut() {
                table.rows.push(row);
            }
            return;
        }
        self.open = false;
        let could_be_header = row.filled() >= 3 && !row.cells.iter().any(|cell| is_numeric(cell));
        match (row.filled(), headers) {
            (1 | 2, _) if !row.cell(0).is_empty() && row.width() <= 2 => self.key(row),
            (_, Headers::Like(_, true)) if could_be_header => self.header(row),
            _ => self.layout.loose.push(row),
        }
    }

    /// True when a row ends the table it would be in.
    fn leaves(&self, row: &Row, after_blank: bool, headers: &Headers<'_>) -> bool {
        let width = self.layout.tables.last().map_or(0, Table::width);
        let (first, alone) = (row.cell(0), row.width() == 1);
        let bracketed = alone && first.starts_with('[') && first.ends_with(']');
        match headers {
            Headers::None => false,
            _ if bracketed => true,
            _ if row.cells.len() == 1 && width > 1 => true,
            _ => after_blank && row.width() <= 2 && width > 2,
        }
    }

    fn header(&mut self, row: &'r Row) {
        self.layout.tables.push(Table::new(self.title, Some(row), self.block));
        self.open = true;
    }

    fn key(&mut self, row: &'r Row) {
        let first = row.cell(0);
        let (name, value) = match (row.cell(1), first.split_once([':', '='])) {
            ("", Some((name, value))) => (bare(name), bare(value)),
            (value, _) => (first, value),
        };
        let name = name.trim_start_matches('#').trim_start();
        if value.is_empty() {
            self.title = name.trim_start_matches('[').trim_end_matches(']').trim();
        }
        let plain = plain_name(name);
        if !self.said.insert(plain.clone()) {
            self.block += 1;
            self.said.clear();
            self.said.insert(plain.clone());
        }
        self.layout.keys.push(Key { row: row.number, name, value, block: self.block, plain });
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    fn shown(text: &str, headers: &Headers<'_>) -> Vec<String> {
        let reading = read(text.as_bytes(), None, None);
        let layout = lay_out(&reading.rows, headers);
        let keys = layout.keys.iter().map(|k| format!("{}: {} = {}", k.block, k.name, k.value));
        let tables = layout.tables.iter().map(|t| {
            let rows: Vec<u32> = t.rows.iter().map(|r| r.number).collect();
            format!("{}: {} {:?}", t.block, t.title, rows)
        });
        keys.chain(tables).chain(layout.loose.iter().map(|r| format!("loose {}", r.number))).collect()
    }

    fn has_test(row: &Row) -> bool {
        row.cells.iter().any(|cell| plain_name(cell) == "test")
    }

    #[test]
    fn a_sectioned_export_is_laid_out() {
        let text = "[Results]\nSample ID,S1\nRun date: 2026-11-03 10:00\n\nTest,Value,Unit\nGLU,5.0,mmol/L\n\nK,4.1,mmol/L\n\
                    \nOperator,AB\n[Errors]\nnone\n";
        let like = Headers::Like(&has_test, false);
        assert_eq!(
            shown(text, &like),
            [
                "0: [Results] = ",
                "0: Sample ID = S1",
                "0: Run date = 2026-11-03 10:00",
                "0: Operator = AB",
                "0: [Errors] = ",
                "0: none = ",
                "0: Results [6, 8]",
            ]
        );
    }

    #[test]
    fn h2_a_block_never_takes_the_specimen_of_another() {
        let block = |id: &str| format!("RESULT TABLE\n{id}Assay,X\n\nTest,Value,Unit\nGLU,5.0,mmol/L\n\n");
        for second in ["Sample ID\n", "", "Sample ID,\n"] {
            let text = block("Sample ID,S1\n") + &block(second);
            let reading = read(text.as_bytes(), None, None);
            let layout = lay_out(&reading.rows, &Headers::Like(&has_test, false));
            let ids: Vec<&str> = layout
                .tables
                .iter()
                .map(|table| layout.key(table.block, "sample_id").map_or("-", |key| key.value))
                .collect();
            assert_eq!(ids.first(), Some(&"S1"));
            assert!(matches!(ids.get(1), Some(&"" | &"-")), "{ids:?}");
        }
    }

    #[test]
    fn headers_are_found_by_number_by_likeness_or_not_at_all() {
        let text = "a,b,c\n1,2,3\n4,5,6\n";
        assert_eq!(shown(text, &Headers::None), ["0:  [1, 2, 3]"]);
        assert_eq!(shown(text, &Headers::Row(1)), ["0:  [2, 3]"]);
        assert_eq!(shown(text, &Headers::Like(&has_test, true)), ["0:  [2, 3]"]);
        assert_eq!(shown(text, &Headers::Like(&has_test, false)), ["loose 1", "loose 2", "loose 3"]);
    }

    #[test]
    fn names_are_compared_as_people_vary_them() {
        assert_eq!(plain_name("Sample ID"), plain_name("\u{feff}sample_id:"));
        assert_ne!(plain_name("NEUT#"), plain_name("NEUT%"));
        assert_ne!(plain_name("-"), plain_name("."));
    }
}
