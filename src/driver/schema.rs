//! The format of `driver.toml`. Everything an instrument family does its own way is a key in here, so that a driver is
//! data a laboratory can read. Unknown keys are errors that name the line.
//!
//! Only `[identity]` is required. A list under `[fields]` means "the first of these that is not empty"; what is left
//! out stands where the standard puts it (`driver/standard.rs`).

use serde::Deserialize;
use std::collections::BTreeMap;

use super::condition::{Condition, When};
use super::lines::Lines;
use super::path::Paths;
use super::quirk::Quirk;
use crate::wire::line::Framing;

/// Longest timer of a line, in milliseconds: a day.
pub const TIMER_MAX_MS: u64 = 86_400_000;

/// One `driver.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Who the driver is for and where its knowledge comes from.
    pub identity: Identity,
    /// Defaults for a link that uses this driver.
    #[serde(default)]
    pub wire: Wire,
    /// Where things are in the message.
    #[serde(default)]
    pub fields: Fields,
    /// How lines are read (`protocol = "lines"` only).
    #[serde(default)]
    pub lines: Lines,
    /// The tests this instrument reports.
    #[serde(default)]
    pub analyte: Vec<Analyte>,
    /// Unit as sent = UCUM, for analytes that have no `units` of their own and for codes that are LOINC already.
    #[serde(default)]
    pub units: BTreeMap<String, String>,
    /// Flag as sent = HL7 table 0078 code; `""` drops the flag. A flag that is not listed is kept as sent.
    #[serde(default)]
    pub flags: BTreeMap<String, String>,
    /// Result status as sent = HL7 table 0085 code, over the standard reading. `""` as key stands for "none was sent".
    #[serde(default)]
    pub status: BTreeMap<String, String>,
    /// Qualitative code as sent (at `fields.qualitative`) = flag it adds.
    #[serde(default)]
    pub qualitative: BTreeMap<String, String>,
    /// How a control run is told from a patient's.
    #[serde(default)]
    pub qc: Qc,
    /// What means "no result" or "doubtful result".
    #[serde(default)]
    pub failure: Failure,
    /// Values that never belong in a chart.
    #[serde(default)]
    pub technical: Technical,
    /// What follows when a field looks like that: a control run, a failed or doubtful one, a technical value.
    #[serde(default)]
    pub when: Vec<When>,
    /// How a file of rows and columns is laid out.
    #[serde(default)]
    pub table: Table,
    /// How the instrument asks for orders; without it nothing is answered.
    #[serde(default)]
    pub query: Option<super::dialogue::QueryLayout>,
    /// The records orders are sent in; without it the standard's.
    #[serde(default)]
    pub orders: Option<super::dialogue::OrderLayout>,
    /// Behaviour that data cannot say.
    #[serde(default)]
    pub quirks: Vec<Quirk>,
}

/// `[identity]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Maker.
    pub vendor: String,
    /// Model or family.
    pub model: String,
    /// `astm`, `hl7`, `poct1a`, `table` or `lines`.
    pub protocol: super::Protocol,
    /// The instrument is recognised when one of these is found in H.5 (whole field, delimiters included) or in MSH-3. In
    /// POCT1-A it is `DEV.device_id` of a hello; an observation alone gives the maker's tag (`SN`) and the reagent's
    /// name, `SIEM^DCA HbA1c`.
    /// In a table it is what the file calls its parts: titles, keys and headers, with `|` between cells.
    /// Of lines it is the first one that says anything, control characters by name.
    /// With a `*` the pattern must match the whole field. Case-sensitive. Without any, and without `where`, the
    /// instrument is never recognised by itself.
    #[serde(default)]
    pub header: Vec<String>,
    /// What else must be true of the first record of its name, such as `{ field = "H.6", is = ["IH v*"] }`; exactly
    /// this name and no longer one is `{ field = "H.5", is = ["Echo"] }`. All of them must hold.
    #[serde(default, rename = "where")]
    pub conditions: Vec<Condition>,
    /// Where the knowledge comes from: captures, manuals with revision.
    #[serde(default)]
    pub evidence: Vec<String>,
}

/// `[wire]`: what a link takes when its configuration does not say otherwise.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// Serial speed in bits per second.
    pub baud: Option<u32>,
    /// 7 or 8.
    pub data_bits: Option<u8>,
    /// `none`, `even` or `odd`.
    pub parity: Option<String>,
    /// 1 or 2.
    pub stop_bits: Option<u8>,
    /// Wrong ways to sum a frame that a link may take up once bytes that fit one were refused twice: `code-points`,
    /// `without-terminator`, `without-line-feeds`, `line-feed-for-return`. The standard's way is always accepted.
    pub checksum: Vec<crate::wire::astm::ChecksumRule>,
    /// Character set of the text when the message does not say: an HL7 table 0211 name or a WHATWG label.
    pub charset: Option<String>,
    /// Longest frame text the instrument takes, in bytes (240 in E1381-95, 63 993 in LIS01-A2).
    pub frame_text_max: Option<u32>,
    /// How records are laid into the frames it is sent: `record-per-frame` (the standard's, and the default),
    /// `record-per-frame-etb` or `packed`.
    pub packing: Option<crate::wire::astm::Packing>,
    /// How long a frame may take, in milliseconds (LIS01-A2: 30 000).
    pub frame_timeout_ms: Option<u64>,
    /// A reply that would come later than this is not sent, in milliseconds: a little less than the instrument waits.
    pub reply_timeout_ms: Option<u64>,
    /// How long a message may take that is no run of frames (HL7, POCT1-A, lines), in milliseconds.
    pub message_timeout_ms: Option<u64>,
    /// How messages are told apart (`protocol = "lines"` only).
    pub framing: Option<Framing>,
}

/// `[fields]`: each is a path or a list of paths (see [`super::path::Path`]).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fields {
    /// Specimen id.
    pub specimen_id: Paths,
    /// Ids that are no id but a marker for "barcode could not be read" (`*` is a wildcard), such as `@*`.
    pub specimen_misread: Vec<String>,
    /// Strip blanks around the specimen id. Off unless the instrument pads.
    pub specimen_trim: bool,
    /// The operator names the patient and no specimen, as at the point of care: the patient id is enough.
    pub specimen_optional: bool,
    /// Specimen type.
    pub specimen_type: Paths,
    /// Specimen types, as sent, for which the analytes hold that do not name their own; none means all.
    pub analyte_specimen: Vec<String>,
    /// Rack and position.
    pub position: Paths,
    /// When the specimen was collected.
    pub collected: Paths,
    /// Patient id.
    pub patient_id: Paths,
    /// Who assigned it.
    pub patient_id_authority: Paths,
    /// Family name.
    pub family: Paths,
    /// Given name.
    pub given: Paths,
    /// Birth date.
    pub birth_date: Paths,
    /// Sex.
    pub sex: Paths,
    /// Ward or bed.
    pub location: Paths,
    /// Placer's order number.
    pub placer_order_number: Paths,
    /// Filler's order number.
    pub filler_order_number: Paths,
    /// What was ordered.
    pub service: Paths,
    /// Priority.
    pub priority: Paths,
    /// Code of the test in a result.
    pub test_code: Paths,
    /// Characters trimmed from the end of the code.
    pub test_code_trim: String,
    /// The code ends before the first of these characters (`8/1/not` is `8` with `"/"`).
    pub test_code_until: String,
    /// The instrument's own name for the test.
    pub test_name: Paths,
    /// Value. A path without a component takes the whole field. `R.4.*` makes each component that is not empty a result
    /// of its own (LIS02-A2 only), with its number behind the code: `Result/2`.
    pub value: Paths,
    /// What a value must be, for analytes that do not say. Default: a number where units are listed, else anything.
    pub value_kind: Option<ValueKind>,
    /// Words a result may be, for analytes that do not list their own; `*` is a wildcard, upper or lower case. None
    /// means any. Another word is held: it may say "failed" in a language this driver does not know. Of a coded value
    /// the code or the text has to be listed.
    pub value_words: Vec<String>,
    /// A qualitative code beside the value; looked up in `[qualitative]` and only when the value stands elsewhere.
    pub qualitative: Paths,
    /// Numbers are written with a decimal comma.
    pub decimal_comma: bool,
    /// Unit.
    pub unit: Paths,
    /// Reference range.
    pub reference_range: Paths,
    /// Flags; every repeat is one flag, and with `R.7.*` every component.
    pub flag: Paths,
    /// Result status.
    pub result_status: Paths,
    /// When the measurement completed.
    pub completed: Paths,
    /// A result without a time of its own has that of the one before it in the same order.
    pub completed_carries: bool,
    /// Operator.
    pub operator: Paths,
    /// Text of a comment.
    pub comment: Paths,
    /// Name the instrument gives itself.
    pub instrument_name: Paths,
    /// Serial number.
    pub serial_number: Paths,
    /// Instrument or module that made this one result, where several share the line.
    pub equipment: Paths,
    /// Factor or name of the dilution.
    pub dilution: Paths,
    /// Software version.
    pub software_version: Paths,
}

/// What a value promises to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueKind {
    /// A number, a limit (`<3.00`), a range or a ratio.
    Number,
    /// Words, even when they look like a number.
    Text,
    /// Whatever it looks like.
    Any,
}

/// `[[analyte]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Analyte {
    /// Code as the instrument sends it, after trimming.
    pub code: String,
    /// LOINC.
    pub loinc: String,
    /// LOINC long common name.
    #[serde(default)]
    pub name: String,
    /// Unit as sent = UCUM. When there are any, no other unit is accepted; `""` as key stands for "no unit was sent".
    #[serde(default)]
    pub units: BTreeMap<String, String>,
    /// What the value must be.
    #[serde(default)]
    pub value_kind: Option<ValueKind>,
    /// Words a result may be; none means `fields.value_words`.
    #[serde(default)]
    pub value_words: Vec<String>,
    /// Specimen types, as sent, for which this entry holds; none means `fields.analyte_specimen`. A code may have
    /// several entries when their specimens or their units tell them apart.
    #[serde(default)]
    pub specimen: Vec<String>,
}

/// `[qc]`: any rule that matches makes the report a control run; a rule on any other field is a `[[when]]`. The first
/// three default to the standard's own `Q`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Qc {
    /// H.12 or MSH-11.
    pub processing_id: Vec<String>,
    /// O.12.
    pub action_code: Vec<String>,
    /// SPM-11 or OBR-15 component 7.
    pub specimen_role: Vec<String>,
    /// Where the control's name stands.
    pub control_name: Paths,
    /// Where its lot stands.
    pub control_lot: Paths,
    /// Where its level stands.
    pub control_level: Paths,
    /// A comment that begins with this key and `:` makes it a control run and names the control.
    pub comment_name: String,
    /// The same for the lot.
    pub comment_lot: String,
    /// The same for the level.
    pub comment_level: String,
}

impl Default for Qc {
    fn default() -> Self {
        let q = || vec!["Q".to_string()];
        Qc {
            processing_id: q(),
            action_code: q(),
            specimen_role: q(),
            control_name: Paths::default(),
            control_lot: Paths::default(),
            control_level: Paths::default(),
            comment_name: String::new(),
            comment_lot: String::new(),
            comment_level: String::new(),
        }
    }
}

/// `[failure]`. Values are compared whole and without regard to case.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Failure {
    /// Value words that mean the run gave no result.
    pub values: Vec<String>,
    /// Value words that mean the instrument would not commit itself.
    pub questionable_values: Vec<String>,
    /// Flags (as sent) that mean the run gave no result.
    pub flags: Vec<String>,
    /// Flags (as sent) by which the instrument questions its result.
    pub questionable_flags: Vec<String>,
    /// Statuses (as sent) by which the instrument questions its result; `W` always does (LIS02-A2 8.1.9).
    pub questionable_status: Vec<String>,
    /// Data alarms that do not put a result in doubt (quirk `comment-is-data-alarm`).
    pub harmless_alarms: Vec<String>,
}

/// `[technical]`: values for the service engineer (curve points, rack numbers). They are counted and refused with the
/// reason "technical value", never sent and never held.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Technical {
    /// Test codes, `*` is a wildcard.
    pub codes: Vec<String>,
    /// Test codes (`*` is a wildcard) that are technical unless the instrument flags them, such as suspicion scores
    /// below its own threshold.
    pub codes_without_flag: Vec<String>,
}

/// `[table]`: how a file of rows and columns is laid out. Paths in `[fields]` are names in square brackets, compared
/// without regard to case, blanks, `_`, `-`, `.` and `:`
///
/// | path | reads |
/// |---|---|
/// | `[Sample ID]` | the column of this name, else the key of this name in the same block |
/// | `[#3]` | the third column |
/// | `[Date]+[Time]` | both, with a blank between them; nothing unless both are there |
/// | `[@]`, `[@+1]` | in a wide table: the test's own cell, the one right of it |
/// | `[@next]` | the cell right of it, if its column has no name |
/// | `[@header]`, `[@name]`, `[@unit]` | the test's column header; without, and only, the brackets at its end |
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Table {
    /// What separates the cells, one character; detected when left out.
    pub delimiter: Option<char>,
    /// Number of the header's row, from 1; 0: there is none, and columns go by their number. Left out, a row with at
    /// least two of the names in `[fields]` is one.
    pub header_row: Option<u32>,
    /// Names a row must all have to be a header, instead of any two of `[fields]`.
    pub header: Vec<String>,
    /// Titles of the sections whose tables hold results (`*` is a wildcard); none means all.
    pub sections: Vec<String>,
    /// Columns that are tests (`*` is a wildcard), in tables without the column of `fields.value`: each row is a
    /// specimen, each of these cells a result; empty ones were not measured.
    pub test_columns: Vec<String>,
    /// Columns that are none though `test_columns` fits them.
    pub other_columns: Vec<String>,
    /// Columns that are written once for several rows: a blank cell means what stands above it.
    pub fill_down: Vec<String>,
    /// What a cell holds in which there is nothing (`"."`, `"n/a"`).
    pub empty: Vec<String>,
    /// First cells of rows that sum up and are no results (`*` is a wildcard).
    pub footer: Vec<String>,
    /// How times are written when they can be read in several ways, as strptime has it: `"%d/%m/%Y %I:%M %p"`.
    pub time_formats: Vec<String>,
    /// The instrument's files always end without a line end, so that it does not mean a cut.
    pub last_line_open: bool,
}

impl Schema {
    /// A driver without data.
    pub(super) fn bare(identity: Identity) -> Schema {
        Schema {
            identity,
            wire: Wire::default(),
            fields: Fields::default(),
            lines: Lines::default(),
            analyte: Vec::new(),
            units: BTreeMap::new(),
            flags: BTreeMap::new(),
            status: BTreeMap::new(),
            qualitative: BTreeMap::new(),
            qc: Qc::default(),
            failure: Failure::default(),
            technical: Technical::default(),
            when: Vec::new(),
            table: Table::default(),
            query: None,
            orders: None,
            quirks: Vec::new(),
        }
    }

    /// True where `*` may stand for the component: in flags, and in LIS02-A2 values.
    pub(super) fn may_split(&self, place: &super::path::Place) -> bool {
        let has = |paths: &Paths| paths.iter().any(|path| path.places == [place.clone()]);
        has(&self.fields.flag) || (self.identity.protocol == super::Protocol::Astm && has(&self.fields.value))
    }

    /// Every place the driver names.
    pub(super) fn places(&self) -> impl Iterator<Item = &super::path::Place> {
        let conditions = self.identity.conditions.iter().flat_map(|c| c.field.places());
        let rules = self.when.iter().flat_map(When::places);
        self.lists().into_iter().flat_map(|paths| paths.places()).chain(conditions).chain(rules)
    }

    /// Every list of paths.
    pub(super) fn lists(&self) -> Vec<&Paths> {
        let f = &self.fields;
        vec![
            &f.specimen_id,
            &f.specimen_type,
            &f.position,
            &f.collected,
            &f.patient_id,
            &f.patient_id_authority,
            &f.family,
            &f.given,
            &f.birth_date,
            &f.sex,
            &f.location,
            &f.placer_order_number,
            &f.filler_order_number,
            &f.service,
            &f.priority,
            &f.test_code,
            &f.test_name,
            &f.value,
            &f.qualitative,
            &f.unit,
            &f.reference_range,
            &f.flag,
            &f.result_status,
            &f.completed,
            &f.operator,
            &f.comment,
            &f.instrument_name,
            &f.serial_number,
            &f.equipment,
            &f.dilution,
            &f.software_version,
            &self.qc.control_name,
            &self.qc.control_lot,
            &self.qc.control_level,
        ]
    }
}
