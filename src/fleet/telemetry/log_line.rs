//! A line of the log as it may be told (invariant I8): nothing that came from elsewhere is in it, by construction. Of its
//! text and its fields only what stands in the program's own read-only memory is kept, so words that are written in the
//! source, and nothing that was read, received or made at run time; in its place stands [`LEFT_OUT`]. Numbers of fields
//! are kept. Names of links and destinations are told when the configuration has them.

use super::{At, Id, Name, Text, Word};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::ops::Range;
use std::sync::OnceLock;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};

/// In place of what came from elsewhere.
pub const LEFT_OUT: &str = "\u{2026}";
/// Longest text, and longest name, in bytes.
const TEXT_MAX: usize = 256;
const NAME_MAX: usize = 64;
/// Numbers of a line, and names.
const FIELDS_MAX: usize = 16;

/// A line of the log, as it is kept.
#[derive(Debug, Clone)]
pub struct LogLine {
    at: At,
    metadata: &'static Metadata<'static>,
    text: String,
    numbers: BTreeMap<Word, i64>,
    /// What fields say that have such a name in them: they are told only when it is one.
    names: Vec<(Word, String)>,
}

/// A line of the log, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogFacts {
    /// When.
    at: At,
    /// How bad.
    level: Word,
    /// Where in the program: module and line.
    module: Word,
    line: u32,
    /// What.
    text: Text,
    /// Numbers of its fields; 1 for what is true.
    numbers: BTreeMap<Word, i64>,
    /// Links and destinations.
    names: BTreeMap<Word, Name>,
}

/// Lines of a session of the live log ([`crate::fleet::tail`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogChunk {
    /// Which session: the id of the command that asked for it.
    pub session: Id,
    /// Lines of it that were told before. A chunk may come twice.
    pub from: u64,
    /// Lines of it that were dropped so far.
    pub dropped: u64,
    /// The lines.
    pub lines: Vec<LogFacts>,
}

/// Why a session of the live log is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogEnd {
    /// Its time is.
    Time,
    /// So many lines were told as were asked for.
    Lines,
    /// Somebody asked for its end.
    Asked,
    /// Another takes its place.
    Replaced,
    /// The bus does not follow.
    Slow,
    /// Nobody listens.
    Nobody,
    /// The program ends.
    Stopped,
}

impl LogLine {
    /// What may be kept of a line that was logged at this moment.
    pub fn of(event: &Event<'_>, at: At) -> LogLine {
        let (text, numbers, names) = (String::new(), BTreeMap::new(), Vec::new());
        let mut line = LogLine { at, metadata: event.metadata(), text, numbers, names };
        event.record(&mut line);
        line
    }

    /// What may be told of it, where the configuration has these names.
    pub fn facts(&self, known: &[Name]) -> LogFacts {
        let name =
            |(field, text): &(Word, String)| Some((*field, known.iter().find(|name| name.as_str() == text)?.clone()));
        LogFacts {
            at: self.at,
            level: Word(self.metadata.level().as_str()),
            module: Word(self.metadata.target()),
            line: self.metadata.line().unwrap_or_default(),
            text: Text(self.text.as_str().into()),
            numbers: self.numbers.clone(),
            names: self.names.iter().filter_map(name).collect(),
        }
    }

    fn number(&mut self, field: &Field, number: i64) {
        if self.numbers.len() < FIELDS_MAX {
            self.numbers.insert(Word(field.name()), number);
        }
    }
}

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut constants = Constants(&mut self.text);
        if field.name() != "message" {
            let _ = write!(constants, "{}{}=", if constants.0.is_empty() { "" } else { " " }, field.name());
        }
        let _ = write!(constants, "{value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if ["link", "destination"].contains(&field.name()) && value.len() <= NAME_MAX {
            if self.names.len() < FIELDS_MAX {
                self.names.push((Word(field.name()), value.to_string()));
            }
        } else {
            self.record_debug(field, &format_args!("{value}"));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, i64::from(value));
    }
}

/// Takes text up piece by piece, as it is formatted, and of it only constants of this program.
struct Constants<'t>(&'t mut String);

impl Write for Constants<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let piece = match is_constant(piece) {
            true => piece,
            false if self.0.ends_with(LEFT_OUT) => "",
            false => LEFT_OUT,
        };
        // What finds no room ends there.
        if self.0.len() + piece.len() > TEXT_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(piece);
        Ok(())
    }
}

/// True for text that stands in the program's own read-only memory, where nothing comes at run time.
fn is_constant(piece: &str) -> bool {
    static READ_ONLY: OnceLock<Vec<Range<usize>>> = OnceLock::new();
    let ranges = READ_ONLY.get_or_init(|| {
        let Ok(program) = std::fs::read_link("/proc/self/exe") else { return Vec::new() };
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        read_only(&maps, &program.to_string_lossy())
    });
    let at = piece.as_ptr() as usize;
    piece.is_empty() || ranges.iter().any(|range| range.start <= at && at + piece.len() <= range.end)
}

/// Where a program is mapped and cannot be written, by `/proc/self/maps` (proc(5)).
fn read_only(maps: &str, program: &str) -> Vec<Range<usize>> {
    let range = |line: &str| {
        let (from, rest) = line.split_once('-')?;
        let (to, rest) = rest.split_once(' ')?;
        let is_ours = rest.starts_with("r-") && rest.ends_with(&format!(" {program}"));
        let hex = |digits| usize::from_str_radix(digits, 16).ok();
        is_ours.then_some(hex(from)?..hex(to)?)
    };
    maps.lines().filter_map(range).collect()
}

#[cfg(test)]
impl LogFacts {
    /// Some line.
    pub fn for_tests() -> LogFacts {
        let at = At::of_ms(0);
        let (level, module, text) = (Word("INFO"), Word("afferent"), Text("the broker is there".into()));
        LogFacts { at, level, module, line: 1, text, numbers: BTreeMap::new(), names: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::DeliveryCounters;
    use crate::fleet::log::{self, Keep};
    use std::sync::Arc;
    use tracing_subscriber::layer::SubscriberExt;

    /// What is told of what `logged` logs.
    fn told(logged: impl FnOnce()) -> String {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Keep), logged);
        let known = [Name::of_destination(&DeliveryCounters::new("ehr"))];
        let lines: Vec<LogFacts> = log::last(log::LINES_MAX).iter().map(|line| line.facts(&known)).collect();
        serde_json::to_string(&lines).unwrap()
    }

    /// Whatever way it goes into a line, nothing that came at run time comes out of it.
    #[test]
    fn i8_nothing_of_a_message_is_in_a_line_that_is_told() {
        let secret = ["DOE", "JANE"].join("^");
        let number: String = "19700101".chars().rev().collect();
        let shared: Arc<str> = secret.as_str().into();
        let error = std::io::Error::other(secret.clone());
        let told = told(|| {
            tracing::warn!("the destination refuses {secret}: {error}");
            tracing::warn!(%secret, ?shared, link = secret, destination = secret.as_str(), "a field");
            tracing::error!(error = &error as &dyn std::error::Error, "padded {secret:>40} and {number:?}");
            tracing::info!(patient = &*number, "{}", &secret[..4]);
            tracing::warn!(destination = "ehr", count = 7, shut = true, reason = "no-order", "{}", "it is held");
        });
        for part in ["DOE", "JANE", "doe", "1010", &number] {
            assert!(!told.contains(part), "{part}: {told}");
        }
        for part in [
            "the destination refuses \u{2026}: \u{2026}",
            "\"names\":{\"destination\":\"ehr\"}",
            "\"numbers\":{\"count\":7,\"shut\":1}",
            "it is held",
            "reason=no-order",
            "\"level\":\"ERROR\"",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn i10_a_line_is_short() {
        const LONG: &str =
            concat!("0123456789012345678901234567890123456789", "012345678901234567890123456789012345678_");
        static LONGEST: [u8; TEXT_MAX + 1] = [b'z'; TEXT_MAX + 1];
        let longest = std::str::from_utf8(&LONGEST).unwrap();
        let text = |logged: &dyn Fn()| {
            let lines: Vec<serde_json::Value> = serde_json::from_str(&told(logged)).unwrap();
            lines.last().unwrap()["text"].as_str().unwrap().to_string()
        };
        // Whole pieces, as many as there is room for.
        assert_eq!(text(&|| tracing::info!("{LONG}{LONG}{LONG}{LONG}")), LONG.repeat(TEXT_MAX / LONG.len()));
        assert_eq!(text(&|| tracing::info!("{longest}{LONG}")), "");
        let (made, sign) = (LONG.repeat(100), LEFT_OUT);
        assert_eq!(text(&|| tracing::info!("{made}{made} and {made}")), format!("{sign} and {sign}"));
    }

    #[test]
    fn memory_that_is_not_ours_or_can_be_written_is_no_constant() {
        let maps = "00400000-00401000 r--p 00000000 08:01 17   /opt/afferent\n\
                    00401000-00402000 r-xp 00001000 08:01 17   /opt/afferent\n\
                    00402000-00403000 rw-p 00002000 08:01 17   /opt/afferent\n\
                    00500000-00501000 r--p 00000000 08:01 18   /lib/other\n\
                    00600000-00601000 r--p 00000000 00:00 0\n";
        assert_eq!(read_only(maps, "/opt/afferent"), [0x40_0000..0x40_1000, 0x40_1000..0x40_2000]);
        assert!(!is_constant(&String::from("ehr")));
        assert!(is_constant("ehr"));
    }
}
