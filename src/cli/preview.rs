//! `afferent preview FILE`: what the gateway would make of a message, without sending anything.

mod site;

use super::EXIT_WRONG;
use super::outgoing::{self, As};
use crate::audit::Act;
use crate::clinical::{Observation, Phi, Report, Value};
use crate::driver::unread::UNREAD;
use crate::driver::{Context, Driver, Interpretation, Origin, Protocol, Registry, builtin, explain, guess_protocol};
use crate::mapping;
use crate::orders::matching::Matched;
use crate::rules::autoverification::{changed, held};
use crate::rules::{Decision, Outcome, Policy, Unmapped, Verdict, decide_with};
use crate::sim::transcript::{Step, parse};
use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;
use site::Site;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

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
/// Records that say nothing of a person; what no field takes of others is masked.
const IMPERSONAL_RECORDS: [&str; 10] = ["H", "R", "L", "MSH", "OBX", "HDR", "DEV", "OBS", "RGT", "CTC"];
/// Most characters of one field shown on a line; `--json` has all of them.
const LINE_CHARS_MAX: usize = 160;
/// Shown instead of a patient's data.
const MASK: &str = "••••";

/// Show what the gateway would make of a message.
///
/// Tells which driver reads it and why, every field with the place it came from and what no field takes (`unread`),
/// which results would be sent, held or refused, with the reason, and the messages a destination would get. The file may
/// be frames as captured, bare records, an HL7 message with or without MLLP framing, a table (CSV and its kin) or a
/// session transcript. With --config the site's own drivers, orders and rules count, as for a message that comes over
/// the link now: each rule tells what it decides. Nothing is sent or stored. Patient data is masked; names made from it
/// (filler order number, UUIDs) are then made from the mask.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent preview capture.bin
  afferent preview --as fhir --unmapped send-local capture.bin
  afferent preview --driver sysmex-xn --reveal capture.txt
  afferent preview --config afferent.toml --link chemistry capture.txt
  cat message.hl7 | afferent preview --json - | jq '.results[] | select(.verdict == \"held\")'")]
pub struct Preview {
    /// The message; - reads standard input
    pub file: PathBuf,
    /// Read and judge it as the gateway with this configuration would
    #[arg(long, value_name = "FILE", conflicts_with_all = ["driver", "drivers", "time_zone", "charset", "unmapped"])]
    pub config: Option<PathBuf>,
    /// The link it would come over; may be left out where the configuration has one only
    #[arg(long, value_name = "NAME", requires = "config")]
    pub link: Option<String>,
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
    /// What becomes of results without a LOINC, as link.unmapped says
    #[arg(long, value_name = "RULE", default_value = "hold", value_parser = unmapped())]
    pub unmapped: Unmapped,
    /// How to show the messages that would be sent
    #[arg(long = "as", value_name = "FORM", value_enum, default_value_t)]
    pub form: As,
    /// Show patient data
    #[arg(long)]
    pub reveal: bool,
    /// Print one JSON object: driver, counts, results, messages, refused, notes
    #[arg(long)]
    pub json: bool,
}

impl Preview {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let raw = instrument_bytes(read(&self.file)?);
        let site = self.config.as_deref().map(|file| Site::open(file, self.link.as_deref())).transpose()?;
        let read = match &site {
            Some(site) => as_site(site, &raw),
            None => self.as_asked(&raw)?,
        };
        let Understood { why, interpretation, origins, policy } = read;
        if let Some(data) = site.as_ref().and_then(Site::orders_of).filter(|_| self.reveal) {
            super::audit::note(data, Act::Previewed)?;
        }
        let matched = match &site {
            Some(site) => site.match_up(&interpretation)?,
            None => interpretation.reports.iter().map(Matched::untouched).collect(),
        };
        let (results, messages) = outcome(&matched, &policy, site.as_ref(), self.form, self.reveal)?;
        let shown = Shown {
            why,
            interpretation: &interpretation,
            origins: &origins,
            results,
            messages,
            form: self.form,
            reveal: self.reveal,
        };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if self.json {
            writeln!(out, "{}", shown.json())?;
        } else {
            shown.print(&mut out, super::colour(&std::io::stdout()))?;
        }
        let nothing = interpretation.inbound_results == 0;
        Ok(if nothing { ExitCode::from(EXIT_WRONG) } else { ExitCode::SUCCESS })
    }

    /// Reads it by what the options say.
    fn as_asked(&self, raw: &[u8]) -> anyhow::Result<Understood> {
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
                let (protocol, driver) = identify(&registry, raw);
                (driver, why(driver, protocol, raw))
            }
        };
        let zone = jiff::tz::TimeZone::get(&self.time_zone).context("time zone")?;
        let context = Context { zone, charset: self.charset.clone(), framing: None, complete: true };
        let (interpretation, origins) = explain(driver, raw, &context);
        let policy = Policy { unmapped: self.unmapped, ..Policy::default() };
        Ok(Understood { why, interpretation, origins, policy })
    }
}

/// A message as it was read, and the hold rules it meets.
struct Understood {
    why: String,
    interpretation: Interpretation,
    origins: Vec<Origin>,
    policy: Policy,
}

/// Reads it as a link of the site would.
fn as_site(site: &Site, raw: &[u8]) -> Understood {
    let (rules, driver, interpretation, origins) = site.reading.explain(&site.link, raw);
    let why = match &rules.speakers.driver {
        Some(_) => format!("as link {} says", site.link),
        None => why(driver, rules.speakers.protocol, raw),
    };
    // When it came is not known, so the rule about clocks has nothing to say.
    let policy = Policy { clock_limit: Duration::ZERO, ..rules.policy.clone() };
    Understood { why, interpretation, origins, policy }
}

/// What the bytes are, and who reads them. Separated lines look like a table, unless a driver for lines knows them.
fn identify<'r>(registry: &'r Registry, raw: &[u8]) -> (Protocol, &'r Driver) {
    let protocol = guess_protocol(raw);
    let of_lines = registry.identify(Protocol::Lines, raw);
    match protocol {
        Protocol::Table if of_lines.id != registry.generic(Protocol::Lines).id => (Protocol::Lines, of_lines),
        _ => (protocol, registry.identify(protocol, raw)),
    }
}

/// What becomes of one result.
struct Judged<'i> {
    report: &'i Report,
    observation: &'i Observation,
    /// Why it is held; empty when it is sent.
    held: Vec<&'static str>,
    /// What the site's rules decide.
    decisions: Vec<Decision>,
}

struct Shown<'i> {
    why: String,
    interpretation: &'i Interpretation,
    origins: &'i [Origin],
    results: Vec<Judged<'i>>,
    messages: Vec<String>,
    form: As,
    reveal: bool,
}

impl Shown<'_> {
    fn counts(&self) -> (usize, usize, usize) {
        let sent = self.results.iter().filter(|r| r.held.is_empty()).count();
        (sent, self.results.len() - sent, self.interpretation.refused.len())
    }

    /// Where fields came from that stand in no result record, each place once.
    fn header_origins(&self) -> Vec<&Origin> {
        let of_results: HashSet<u32> = self.results.iter().map(|r| r.observation.record).collect();
        let mut seen = HashSet::new();
        let header = self.origins.iter().filter(|f| !of_results.contains(&f.record));
        header.filter(|f| seen.insert((f.field, &f.path, f.record, f.text.expose()))).collect()
    }

    /// True when any word of a result may be part of a name.
    fn guesses(&self) -> bool {
        builtin::guesses_codes(&self.interpretation.driver)
    }

    fn text(&self, origin: &Origin) -> String {
        let record = origin.path.split('.').next().unwrap_or("");
        let hidden = PATIENT_FIELDS.contains(&origin.field)
            || self.guesses()
            || origin.field == "comment"
            || (origin.field == UNREAD && !IMPERSONAL_RECORDS.contains(&record));
        if hidden && !self.reveal { MASK.to_string() } else { plain(origin.text.expose()) }
    }

    /// The same, short enough for a line: histograms and pictures are longer than anyone reads.
    fn line(&self, origin: &Origin) -> String {
        let text = self.text(origin);
        match text.char_indices().nth(LINE_CHARS_MAX) {
            Some((at, _)) => format!("{}… ({} characters)", &text[..at], text.chars().count()),
            None => text,
        }
    }

    /// The value; a line that nobody could read may name the patient.
    fn value(&self, observation: &Observation) -> Value {
        let unread = observation.instrument_code.is_empty() || self.guesses();
        let hidden = unread && matches!(observation.value, Value::Text(_)) && !self.reveal;
        if hidden { Value::Text(MASK.to_string()) } else { observation.value.clone() }
    }

    /// A code or a unit as it is shown.
    fn word<'w>(&self, word: &'w str) -> &'w str {
        if self.guesses() && !self.reveal && !word.is_empty() { MASK } else { word }
    }

    fn json(&self) -> serde_json::Value {
        let (sent, held, refused) = self.counts();
        let results = self.results.iter().map(|judged| {
            let o = judged.observation;
            json!({
                "record": o.record,
                "code": self.word(&o.instrument_code),
                "loinc": o.code.as_ref().map(|c| c.code.as_str()),
                "value": self.value(o),
                "unit": self.word(&o.unit),
                "ucum": o.ucum,
                "flags": o.flags,
                "status": o.status,
                "doubts": o.doubts,
                "control": judged.report.control.is_some(),
                "verdict": if judged.held.is_empty() { "sent" } else { "held" },
                "held_for": judged.held,
                "decisions": judged.decisions,
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
            "messages": self.messages.iter().map(|m| self.message_json(m)).collect::<Vec<_>>(),
            "refused_records": self.interpretation.refused,
            "notes": self.interpretation.notes,
        })
    }

    /// The message as a destination would get it.
    fn message_json(&self, shown: &str) -> serde_json::Value {
        match self.form {
            As::Hl7 => json!(shown.replace('\n', "\r")),
            As::Fhir => serde_json::from_str(shown).unwrap_or_default(),
        }
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
            writeln!(out, "  {:20} {:24} {dim}{place}{dim:#}", origin.field, self.line(origin))?;
        }
        for judged in &self.results {
            let o = judged.observation;
            let loinc = o.code.as_ref().map_or("no LOINC".to_string(), |c| format!("LOINC {}", c.code));
            let heard = plain(self.word(&o.unit));
            let unit = if o.ucum.is_empty() { heard } else { format!("{heard} = {}", o.ucum) };
            let code = plain(self.word(&o.instrument_code));
            writeln!(out, "\n{bold}record {}{bold:#}  {code}  {loinc}", o.record)?;
            writeln!(out, "  {}  {unit}  {}  status {}", value(&self.value(o)), o.flags.join(" "), plain(&o.status))?;
            if judged.held.is_empty() {
                writeln!(out, "  {good}would be sent{good:#}")?;
            } else {
                writeln!(out, "  {bad}would be held{bad:#}: {}", judged.held.join(", "))?;
            }
            for Decision { rule, version, outcome, why, .. } in &judged.decisions {
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                writeln!(out, "    rule {rule}@{version} {}{why}", outcome_name(*outcome))?;
            }
            for origin in self.origins.iter().filter(|f| f.record == o.record) {
                writeln!(out, "    {dim}{:18} {:16} {}{dim:#}", origin.field, origin.path, self.line(origin))?;
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
        if !self.reveal {
            writeln!(out, "\n{dim}patient data is masked; --reveal shows it{dim:#}")?;
        }
        for (at, message) in self.messages.iter().enumerate() {
            writeln!(out, "\n{bold}message {} of {}{bold:#}", at + 1, self.messages.len())?;
            for line in message.lines() {
                writeln!(out, "  {}", plain(line))?;
            }
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

/// What becomes of every result, and the messages that carry those which are sent.
///
/// # Errors
/// The site's journal, which its rules ask, cannot be read.
fn outcome<'i>(
    matched: &'i [Matched],
    policy: &Policy,
    site: Option<&Site>,
    form: As,
    reveal: bool,
) -> anyhow::Result<(Vec<Judged<'i>>, Vec<String>)> {
    let (mut results, mut messages) = (Vec::new(), Vec::new());
    for Matched { report, parts } in matched {
        // The message's own time stands for the time of receipt: an old file is no clock at fault.
        let received = report.message_time.as_ref().and_then(|t| t.instant()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let decisions = site.map(|site| site.decide(report)).transpose()?.unwrap_or_default();
        let verdicts = decide_with(report, policy, received, &decisions);
        let goes = |(at, verdict): &(u32, &Verdict)| **verdict == Verdict::Release && held(&decisions, *at).is_none();
        let all_going: Vec<u32> = (0..).zip(&verdicts).filter(goes).map(|(at, _)| at).collect();
        let mut unsendable = None;
        for part in parts {
            let going = part.observations.iter().filter(|at| all_going.contains(at));
            let going: Vec<usize> = going.map(|&at| at as usize).collect();
            if going.is_empty() {
                continue;
            }
            let origin = mapping::Origin {
                message_id: format!("PREVIEW{}", messages.len() + 1),
                gateway: "afferent".to_string(),
                link: site.map_or("preview", |site| site.link.as_str()).to_string(),
                made: jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC),
            };
            let sent = part.report(&changed(report, &decisions));
            let say = |report: &Report| outgoing::message(report, &going, form, &origin);
            // Behind the mask nothing is left that could not be said, so the real message is always made.
            match say(&sent).and_then(|real| if reveal { Ok(real) } else { say(&masked(&sent)) }) {
                Ok(message) => messages.push(message),
                Err(error) => unsendable = Some(error.reason()),
            }
        }
        for ((at, observation), verdict) in (0..).zip(&report.observations).zip(verdicts) {
            let why_held = match verdict {
                Verdict::Release => match held(&decisions, at) {
                    Some(decision) => vec![decision.kind.reason()],
                    None => unsendable.into_iter().collect(),
                },
                Verdict::Hold(_) if !observation.doubts.is_empty() => {
                    observation.doubts.iter().map(|d| d.name()).collect()
                }
                Verdict::Hold(doubt) => vec![doubt.name()],
            };
            let decisions = decisions.iter().filter(|decision| decision.observation == at).cloned().collect();
            results.push(Judged { report, observation, held: why_held, decisions });
        }
    }
    Ok((results, messages))
}

/// What a rule decided, in the word the journal uses.
fn outcome_name(outcome: Outcome) -> String {
    serde_json::to_value(outcome).ok().and_then(|name| name.as_str().map(String::from)).unwrap_or_default()
}

/// The report without what names or describes the patient.
fn masked(report: &Report) -> Report {
    let mut report = report.clone();
    let (patient, order) = (&mut report.patient, &mut report.order);
    for field in [
        &mut patient.id,
        &mut patient.family,
        &mut patient.given,
        &mut patient.birth_date,
        &mut patient.location,
        &mut report.specimen.id,
        &mut order.placer_order_number,
        &mut order.filler_order_number,
    ] {
        if !field.is_empty() {
            *field = Phi::new(MASK);
        }
    }
    let comments = report.observations.iter_mut().flat_map(|o| &mut o.comments).chain(&mut report.comments);
    for text in comments.chain(std::iter::once(&mut patient.sex)).filter(|text| !text.is_empty()) {
        *text = MASK.to_string();
    }
    report
}

fn unmapped() -> impl TypedValueParser<Value = Unmapped> {
    PossibleValuesParser::new(["hold", "send-local"]).map(|rule| match rule.as_str() {
        "send-local" => Unmapped::SendLocal,
        _ => Unmapped::Hold,
    })
}

fn why(driver: &Driver, protocol: Protocol, raw: &[u8]) -> String {
    let place = match protocol {
        Protocol::Astm => "H.5",
        Protocol::Hl7 => "MSH-3",
        Protocol::Poct1a => "the device",
        // Rows of a table whose header nobody knows may be patients'.
        Protocol::Table if driver.schema.identity.header.is_empty() => {
            return "no driver knows its headers".to_string();
        }
        Protocol::Table => return "by the names in it".to_string(),
        // Nor is it known whom the first line names.
        Protocol::Lines if driver.schema.identity.header.is_empty() => return "no driver knows its lines".to_string(),
        Protocol::Lines => "the first line",
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
        printed_of(Protocol::Astm, RAW, reveal)
    }

    fn printed_of(protocol: Protocol, raw: &[u8], reveal: bool) -> (String, serde_json::Value) {
        let registry = Registry::builtin();
        let driver = registry.generic(protocol);
        let context = Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true };
        let (interpretation, origins) = explain(driver, raw, &context);
        let form = As::Hl7;
        let matched: Vec<Matched> = interpretation.reports.iter().map(Matched::untouched).collect();
        let (results, messages) = outcome(&matched, &Policy::default(), None, form, reveal).unwrap();
        let why = why(driver, protocol, raw);
        let shown = Shown { why, interpretation: &interpretation, origins: &origins, results, messages, form, reveal };
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
    fn i8_what_is_only_guessed_of_lines_is_masked() {
        let raw = b"DOE JANE 45\nGLU 5.10 mmol/L\nSEEN BY DOE\n";
        let (text, json) = printed_of(Protocol::Lines, raw, false);
        for secret in ["DOE", "JANE"] {
            assert!(!text.contains(secret) && !json.to_string().contains(secret), "{secret} in\n{text}");
        }
        assert!(text.contains("5.10"), "{text}");
        assert!(printed_of(Protocol::Lines, raw, true).0.contains("DOE JANE"));
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
