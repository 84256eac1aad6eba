//! `afferent preview FILE`: what the gateway would make of a message, without sending anything.

use super::EXIT_WRONG;
use crate::clinical::{Observation, Report, Value};
use crate::driver::{Context, Driver, Interpretation, Origin, Protocol, Registry, explain, guess_protocol};
use crate::rules::{Policy, Unmapped, Verdict, decide};
use crate::sim::transcript::{Step, parse};
use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use serde_json::json;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Longest message read, in bytes.
const MESSAGE_MAX: u64 = 16 << 20;
/// Fields that name or describe a patient.
const PATIENT_FIELDS: [&str; 9] = [
    "specimen_id",
    "patient_id",
    "family",
    "given",
    "birth_date",
    "sex",
    "location",
    "placer_order_number",
    "filler_order_number",
];
/// Shown instead of a patient's data.
const MASK: &str = "••••";

/// Show what the gateway would make of a message.
///
/// Tells which driver reads it and why, every field with the place it came from, and which results would be sent, held
/// or refused, with the reason. The file may be frames as captured, bare records, an HL7 message with or without MLLP
/// framing, or a session transcript. Nothing is sent or stored. Patient data is masked.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent preview capture.bin
  afferent preview --driver sysmex-xn --reveal capture.txt
  cat message.hl7 | afferent preview --json - | jq '.results[] | select(.verdict == \"held\")'")]
pub struct Preview {
    /// The message; - reads standard input
    pub file: PathBuf,
    /// Read it by this driver instead of the one its header names
    #[arg(long, value_name = "ID")]
    pub driver: Option<String>,
    /// More drivers, as in gateway.drivers: a folder of folders with a driver.toml each
    #[arg(long, value_name = "DIR")]
    pub drivers: Option<PathBuf>,
    /// Time zone of the instrument's clock
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub time_zone: String,
    /// Character set of the text when the message does not say
    #[arg(long, value_name = "NAME")]
    pub charset: Option<String>,
    /// As a link with unmapped = "send-local" would
    #[arg(long)]
    pub send_local: bool,
    /// Show patient data
    #[arg(long)]
    pub reveal: bool,
    /// Print one JSON object: driver, counts, results, refused, notes
    #[arg(long)]
    pub json: bool,
}

impl Preview {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let raw = instrument_bytes(read(&self.file)?);
        let mut registry = Registry::builtin();
        if let Some(folder) = &self.drivers {
            super::driver::overlay(&mut registry, folder)?;
        }
        let (driver, why) = match &self.driver {
            Some(id) => {
                let named = registry.get(id);
                (
                    named.with_context(|| format!("no driver {id}; afferent driver list shows them"))?,
                    "as asked".to_string(),
                )
            }
            None => {
                let protocol = guess_protocol(&raw);
                let driver = registry.identify(protocol, &raw);
                (driver, why(driver, protocol, &raw))
            }
        };
        let zone = jiff::tz::TimeZone::get(&self.time_zone).context("time zone")?;
        let context = Context { zone, charset: self.charset.clone(), complete: true };
        let (interpretation, origins) = explain(driver, &raw, &context);
        let unmapped = if self.send_local { Unmapped::SendLocal } else { Unmapped::Hold };
        let results = results(&interpretation, &Policy { unmapped, ..Policy::default() });
        let shown = Shown { why, interpretation: &interpretation, origins: &origins, results, reveal: self.reveal };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if self.json {
            writeln!(out, "{}", shown.json())?;
        } else {
            shown.print(&mut out, super::colour(&std::io::stdout()))?;
        }
        let nothing = interpretation.inbound_results == 0;
        Ok(if nothing { ExitCode::from(EXIT_WRONG) } else { ExitCode::SUCCESS })
    }
}

/// What becomes of one result.
struct Judged<'i> {
    report: &'i Report,
    observation: &'i Observation,
    verdict: Verdict,
}

struct Shown<'i> {
    why: String,
    interpretation: &'i Interpretation,
    origins: &'i [Origin],
    results: Vec<Judged<'i>>,
    reveal: bool,
}

impl Shown<'_> {
    fn counts(&self) -> (usize, usize, usize) {
        let sent = self.results.iter().filter(|r| r.verdict == Verdict::Release).count();
        (sent, self.results.len() - sent, self.interpretation.refused.len())
    }

    /// Where fields came from that stand in no result record, each place once.
    fn header_origins(&self) -> Vec<&Origin> {
        let of_results: HashSet<u32> = self.results.iter().map(|r| r.observation.record).collect();
        let mut seen = HashSet::new();
        let header = self.origins.iter().filter(|f| !of_results.contains(&f.record));
        header.filter(|f| seen.insert((f.field, &f.path, f.record))).collect()
    }

    fn text(&self, origin: &Origin) -> String {
        let hidden = !self.reveal && (PATIENT_FIELDS.contains(&origin.field) || origin.field == "comment");
        if hidden { MASK.to_string() } else { plain(origin.text.expose()) }
    }

    fn json(&self) -> serde_json::Value {
        let (sent, held, refused) = self.counts();
        let results = self.results.iter().map(|judged| {
            let o = judged.observation;
            json!({
                "record": o.record,
                "code": o.instrument_code,
                "loinc": o.code.as_ref().map(|c| c.code.as_str()),
                "value": o.value,
                "unit": o.unit,
                "ucum": o.ucum,
                "flags": o.flags,
                "status": o.status,
                "doubts": o.doubts,
                "control": judged.report.control.is_some(),
                "verdict": if judged.verdict == Verdict::Release { "sent" } else { "held" },
                "from": self.origins.iter().filter(|f| f.record == o.record)
                    .map(|f| json!({ "field": f.field, "path": f.path, "text": self.text(f) })).collect::<Vec<_>>(),
            })
        });
        let header = self.header_origins().into_iter();
        json!({
            "driver": self.interpretation.driver,
            "why": self.why,
            "inbound_results": self.interpretation.inbound_results,
            "sent": sent,
            "held": held,
            "refused": refused,
            "results": results.collect::<Vec<_>>(),
            "fields": header
                .map(|f| json!({ "record": f.record, "field": f.field, "path": f.path, "text": self.text(f) }))
                .collect::<Vec<_>>(),
            "refused_records": self.interpretation.refused,
            "notes": self.interpretation.notes,
        })
    }

    fn print(&self, out: &mut impl Write, colour: bool) -> std::io::Result<()> {
        let paint = |style: Style| if colour { style } else { Style::new() };
        let (bold, dim) = (paint(Style::new().bold()), paint(Style::new().dimmed()));
        let (good, bad) = (paint(AnsiColor::Green.on_default()), paint(AnsiColor::Yellow.on_default()));
        let (sent, held, refused) = self.counts();
        writeln!(out, "{bold}driver{bold:#}   {} ({})", self.interpretation.driver, self.why)?;
        let all = self.interpretation.inbound_results;
        writeln!(out, "{bold}results{bold:#}  {all} = {sent} sent + {held} held + {refused} refused")?;
        let headers = self.header_origins();
        if !headers.is_empty() {
            writeln!(out, "\n{bold}fields{bold:#}")?;
        }
        for origin in headers {
            let place = format!("{}, record {}", origin.path, origin.record);
            writeln!(out, "  {:20} {:24} {dim}{place}{dim:#}", origin.field, self.text(origin))?;
        }
        for judged in &self.results {
            let o = judged.observation;
            let loinc = o.code.as_ref().map_or("no LOINC".to_string(), |c| format!("LOINC {}", c.code));
            let unit = if o.ucum.is_empty() { plain(&o.unit) } else { format!("{} = {}", plain(&o.unit), o.ucum) };
            writeln!(out, "\n{bold}record {}{bold:#}  {}  {loinc}", o.record, plain(&o.instrument_code))?;
            writeln!(out, "  {}  {unit}  {}  status {}", value(&o.value), o.flags.join(" "), plain(&o.status))?;
            match judged.verdict {
                Verdict::Release => writeln!(out, "  {good}would be sent{good:#}")?,
                Verdict::Hold(_) => {
                    let doubts: Vec<&str> = o.doubts.iter().map(|d| d.name()).collect();
                    writeln!(out, "  {bad}would be held{bad:#}: {}", doubts.join(", "))?;
                }
            }
            for origin in self.origins.iter().filter(|f| f.record == o.record) {
                writeln!(out, "    {dim}{:18} {:16} {}{dim:#}", origin.field, origin.path, self.text(origin))?;
            }
        }
        if refused + self.interpretation.notes.len() > 0 {
            writeln!(out)?;
        }
        for record in &self.interpretation.refused {
            writeln!(
                out,
                "{bold}record {}{bold:#}  {}  {bad}refused{bad:#}: {}",
                record.record, record.kind, record.reason
            )?;
        }
        for note in &self.interpretation.notes {
            writeln!(out, "{bold}record {}{bold:#}  note: {}", note.record, note.what)?;
        }
        Ok(())
    }
}

/// Reads a file, or standard input for `-`, up to the limit.
///
/// # Errors
/// It cannot be read or is longer than 16 MiB.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut raw = Vec::new();
    let name = file.display();
    if file == Path::new("-") {
        std::io::stdin().take(MESSAGE_MAX + 1).read_to_end(&mut raw).context("standard input")?;
    } else {
        let open = std::fs::File::open(file).with_context(|| format!("{name}"))?;
        open.take(MESSAGE_MAX + 1).read_to_end(&mut raw).with_context(|| format!("{name}"))?;
    }
    anyhow::ensure!(raw.len() as u64 <= MESSAGE_MAX, "{name} is longer than 16 MiB");
    Ok(raw)
}

/// What the instrument says in a transcript; anything else as it is.
pub(super) fn instrument_bytes(raw: Vec<u8>) -> Vec<u8> {
    let steps = std::str::from_utf8(&raw).ok().and_then(|text| parse(text).ok()).unwrap_or_default();
    let bytes: Vec<u8> = steps
        .into_iter()
        .filter_map(|s| if let Step::Instrument(bytes) = s { Some(bytes) } else { None })
        .flatten()
        .collect();
    if bytes.is_empty() { raw } else { bytes }
}

fn results<'i>(interpretation: &'i Interpretation, policy: &Policy) -> Vec<Judged<'i>> {
    let judge = |report: &'i Report| {
        // The message's own time stands for the time of receipt: an old file is no clock at fault.
        let received = report.message_time.as_ref().and_then(|t| t.instant()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let verdicts = decide(report, policy, received);
        report.observations.iter().zip(verdicts).map(move |(observation, verdict)| Judged {
            report,
            observation,
            verdict,
        })
    };
    interpretation.reports.iter().flat_map(judge).collect()
}

fn why(driver: &Driver, protocol: Protocol, raw: &[u8]) -> String {
    let place = match protocol {
        Protocol::Astm => "H.5",
        Protocol::Hl7 => "MSH-3",
    };
    match crate::driver::identify::sender(protocol, raw).filter(|s| !s.trim().is_empty()) {
        Some(sender) if driver.schema.identity.header.is_empty() => {
            format!("no driver knows the header, {place} is \"{}\"", plain(&sender))
        }
        Some(sender) => format!("by its header, {place} is \"{}\"", plain(&sender)),
        None => format!("no header, {place} is empty"),
    }
}

/// Text without control characters, so that a capture cannot steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn value(value: &Value) -> String {
    match value {
        Value::Absent => "(no value)".to_string(),
        Value::Number(number) => number.to_string(),
        Value::Compared { comparator, number } => format!("{comparator} {number}"),
        Value::Range { low, high } => format!("{low} to {high}"),
        Value::Ratio { numerator, separator, denominator } => format!("{numerator}{separator}{denominator}"),
        Value::Text(text) => format!("\"{}\"", plain(text)),
        Value::Coded(coding) => format!("{} \"{}\"", plain(&coding.code), plain(&coding.text)),
        Value::Data { media_type, base64 } => format!("{media_type}, {} characters of Base64", base64.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &[u8] =
        b"H|\\^&|||Acme^1|||||||P|1\rP|1||H7||DOE^JANE\rO|1|S-100||^^^GLU\rR|1|2345-7|5.10|mmol/L||N||F\r\
C|1|I|seen by DOE|G\rR|2|^^^K|4.1|mmol/L||N||F\rR|3|||\rL|1\r";

    fn printed(reveal: bool) -> (String, serde_json::Value) {
        let registry = Registry::builtin();
        let driver = registry.generic(Protocol::Astm);
        let context = Context { zone: jiff::tz::TimeZone::UTC, charset: None, complete: true };
        let (interpretation, origins) = explain(driver, RAW, &context);
        let results = results(&interpretation, &Policy::default());
        let why = why(driver, Protocol::Astm, RAW);
        let shown = Shown { why, interpretation: &interpretation, origins: &origins, results, reveal };
        let mut out = Vec::new();
        shown.print(&mut out, false).unwrap();
        (String::from_utf8(out).unwrap(), shown.json())
    }

    #[test]
    fn i8_patient_data_is_masked_unless_asked_for() {
        let (text, json) = printed(false);
        for secret in ["DOE", "JANE", "S-100", "H7"] {
            assert!(!text.contains(secret) && !json.to_string().contains(secret), "{secret} in\n{text}");
            let (revealed, _) = printed(true);
            assert!(revealed.contains(secret), "{secret}");
        }
    }

    #[test]
    fn i7_sent_held_and_refused_add_up() {
        let (text, json) = printed(false);
        assert!(text.contains("3 = 1 sent + 1 held + 1 refused"), "{text}");
        assert!(text.contains("would be held: unmapped-code") && text.contains("no result in record"), "{text}");
        assert_eq!((&json["sent"], &json["held"], &json["refused"]), (&json!(1), &json!(1), &json!(1)));
        assert_eq!(json["results"][0]["from"][1]["path"], "R.4");
    }

    #[test]
    fn a_transcript_is_read_as_what_the_instrument_said() {
        assert_eq!(instrument_bytes(b"> <ENQ>\n< <ACK>\n> x<LF>\n".to_vec()), b"\x05x\n");
        assert_eq!(instrument_bytes(RAW.to_vec()), RAW);
    }
}
