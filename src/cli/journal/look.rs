//! The verbs that show.

use super::{Place, now_ms, print_table, shown_age, shown_time};
use crate::audit::Act;
use crate::clock::Quality;
use crate::journal::{EntryId, Found, Instance, JournalError, Lookup, OnlyHere, Query, Reader, Shown};
use crate::rules::{Decision, Outcome};
use serde_json::json;
use std::process::ExitCode;

/// Entries listed unless told otherwise.
const LIMIT_DEFAULT: usize = 50;

/// Count everything: the loss account, queues, ages, delivery times.
///
/// Every result that was received is delivered, queued, parked, held, refused, repeated or unrouted. If any is missing
/// the exit code is 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  afferent journal stats\n  afferent journal stats --json | jq .account")]
pub(super) struct Stats {}

impl Stats {
    pub(super) fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let stats = place.reader()?.stats(now_ms())?;
        let missing = stats.account.missing();
        if place.json {
            let mut value = serde_json::to_value(&stats)?;
            if let Some(object) = value.as_object_mut() {
                object.insert("missing".to_string(), json!(missing));
            }
            println!("{value}");
        } else {
            let a = &stats.account;
            print_table(
                &["received", "delivered", "queued", "parked", "held", "refused", "repeated", "unrouted", "missing"],
                &[[a.received, a.delivered, a.queued, a.parked, a.held, a.refused, a.repeated, a.unrouted, missing]
                    .map(|n| n.to_string())
                    .to_vec()],
            );
            println!(
                "\n{} entries, {} waiting, {} damaged, {} with a message id seen before",
                stats.entries, stats.waiting, stats.damaged, stats.identity_conflicts
            );
            if stats.only_here > 0 {
                println!(
                    "{} images are safe as their modality was told, and no archive took them: kept however old they are \
                     (afferent journal hold --images)",
                    stats.only_here
                );
            }
            let mb = |bytes: i64| bytes / (1 << 20);
            println!("{} MB on disk, {} MB of it free for new rows", mb(stats.bytes), mb(stats.reusable_bytes));
            if let (Some(p50), Some(p99)) = (stats.latency_p50_ms, stats.latency_p99_ms) {
                println!("instrument to EHR: half within {}, 99 % within {}", shown_age(p50), shown_age(p99));
            }
            if !stats.destinations.is_empty() {
                println!();
                let rows: Vec<Vec<String>> = stats
                    .destinations
                    .iter()
                    .map(|d| {
                        let oldest = d.oldest_ms.map(shown_age).unwrap_or_default();
                        vec![d.destination.clone(), d.queued.to_string(), d.parked.to_string(), oldest]
                    })
                    .collect();
                print_table(&["destination", "queued", "parked", "oldest"], &rows);
            }
        }
        Ok(ExitCode::from(u8::from(missing != 0)))
    }
}

/// Find entries by an identifier or a time.
///
/// Identifiers must be given exactly as they were sent: only their keyed hashes are stored.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent journal search --specimen 4711
  afferent journal search --accession A4711
  afferent journal search --control 20260101-17
  afferent journal search --since 2026-01-01T08:00:00Z --limit 10")]
pub(super) struct Search {
    #[command(flatten)]
    by: By,
    /// Received at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<jiff::Timestamp>,
    /// Received before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<jiff::Timestamp>,
    /// Most entries to list, the newest first
    #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
    limit: usize,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct By {
    /// Specimen id
    #[arg(long, value_name = "ID")]
    specimen: Option<String>,
    /// Patient id
    #[arg(long, value_name = "ID")]
    patient: Option<String>,
    /// Placer or filler order number
    #[arg(long, value_name = "ID")]
    order: Option<String>,
    /// Accession number of an imaging study
    #[arg(long, value_name = "ID")]
    accession: Option<String>,
    /// Study Instance UID
    #[arg(long, value_name = "UID")]
    study: Option<String>,
    /// Control id the instrument gave its message (MSH-10)
    #[arg(long, value_name = "ID")]
    control: Option<String>,
    /// Message id this gateway gave an outgoing message; of an image, its SOP Instance UID
    #[arg(long, value_name = "ID")]
    message: Option<String>,
}

impl Search {
    pub(super) fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let By { specimen, patient, order, accession, study, control, message } = self.by;
        let id = [
            (Lookup::Specimen, "specimen", specimen),
            (Lookup::Patient, "patient", patient),
            (Lookup::Order, "order", order),
            (Lookup::Accession, "accession", accession),
            (Lookup::Study, "study", study),
            (Lookup::Control, "control", control),
            (Lookup::Message, "message", message),
        ]
        .into_iter()
        .find_map(|(kind, key, id)| id.map(|id| (kind, key, id)));
        if let Some((_, key, _)) = id {
            place.note(Act::Searched { key })?;
        }
        let query = Query {
            id: id.map(|(kind, _, id)| (kind, id)),
            from_ms: self.since.map(|at| at.as_millisecond()),
            to_ms: self.until.map(|at| at.as_millisecond()),
            limit: self.limit,
        };
        let found = place.reader()?.search(&query)?;
        if place.json {
            println!("{}", serde_json::to_string(&found)?);
        } else if found.is_empty() {
            println!("nothing found");
        } else {
            let head = ["entry", "received", "link", "state", "driver", "results", "held", "queued", "parked"];
            print_table(&head, &found.iter().map(row).collect::<Vec<_>>());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Show one entry and what became of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  afferent journal show 4711\n  afferent journal show 4711 --reveal")]
pub(super) struct Show {
    /// Number of the entry
    entry: i64,
    /// Show the message and the reports as well: patient data
    #[arg(long)]
    reveal: bool,
}

impl Show {
    pub(super) fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let reader = place.reader()?;
        let shown = reader.show(EntryId(self.entry))?;
        if self.reveal {
            place.note(Act::Shown { what: "entry", number: self.entry })?;
        }
        if place.json {
            let mut value = serde_json::to_value(&shown)?;
            if let Some(object) = value.as_object_mut().filter(|_| self.reveal) {
                if reader.instance(shown.entry.entry)?.is_none() {
                    let raw = String::from_utf8_lossy(&reader.raw(shown.entry.entry)?).into_owned();
                    object.insert("raw".to_string(), json!(raw));
                }
                object.insert("contents".to_string(), json!(contents(&reader, &shown)?));
            }
            println!("{value}");
            return Ok(ExitCode::SUCCESS);
        }
        let instance = reader.instance(shown.entry.entry)?;
        Self::print(&shown, instance.as_ref());
        if self.reveal {
            match instance {
                Some(_) => println!("\nits bytes are an image: afferent journal export --entry {}", shown.entry.entry),
                None => println!("\nmessage:\n{}", visible(&reader.raw(shown.entry.entry)?)),
            }
            for content in contents(&reader, &shown)? {
                println!("{}", serde_json::to_string_pretty(&content)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print(shown: &Shown, instance: Option<&Instance>) {
        let e = &shown.entry;
        let complete = if e.complete { "complete" } else { "incomplete" };
        println!("entry {} on {}, {}", e.entry, e.link, shown_time(e.received_ms));
        if let Some(quality) = e.clock.filter(|quality| *quality != Quality::Trusted) {
            let worth = match quality {
                Quality::Unset => "was behind the truth",
                _ => "was kept by nobody",
            };
            let truth = e.corrected_ms.map_or("; nothing set it right since the machine started".to_owned(), |ms| {
                format!("; it was {} in truth", shown_time(ms))
            });
            println!("  the clock of this box {worth}{truth}");
        }
        println!(
            "  {}, {complete}, {} bytes, read by {}",
            e.state,
            e.bytes,
            e.driver.as_deref().unwrap_or("nobody yet")
        );
        if shown.identity_conflict {
            println!("  its message id came before with other content");
        }
        if let Some(instance) = &instance {
            println!(
                "  an image from {}: SOP class {}, transfer syntax {}",
                instance.calling_ae_title, instance.sop_class_uid, instance.transfer_syntax_uid
            );
            if let Some(reason) = &instance.let_go {
                println!("  its modality was told that it is safe; it need not be kept here any more: {reason}");
            }
        }
        for (record, reason) in &shown.refused {
            println!("  record {record} is no result: {reason}");
        }
        for report in &shown.reports {
            let repeat = report.repeat_of.map(|r| format!(", repeats report {r}")).unwrap_or_default();
            println!("report {}: {} results{repeat}", report.report, report.results);
            for hold in &report.holds {
                let result = hold.observation + 1;
                let why = because(hold.rule.as_deref(), &hold.why);
                println!("  hold {}: result {result} {} ({}{why})", hold.hold, hold.state, hold.reason);
                if let Some(note) = hold.note.as_deref().filter(|note| !note.is_empty()) {
                    println!("    {note}");
                }
            }
            let decisions = report.decisions.iter().filter_map(|d| serde_json::from_value::<Decision>(d.clone()).ok());
            for decision in decisions {
                println!("  {}", told(&decision));
            }
            for message in &report.messages {
                let note = message.note.as_deref().unwrap_or_default();
                println!("  message {} to {}: {} {note}", message.message_id, message.destination, message.state);
            }
        }
    }
}

/// List held results and parked messages, or images that are safe here alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent journal hold
  afferent journal hold --ids          specimen ids only, one a line: patient data
  afferent journal hold --images       what their modality was told is safe, and no archive took")]
pub(super) struct Hold {
    /// Print only the specimen ids, each once
    #[arg(long)]
    ids: bool,
    /// List images instead of which their modality was told that they are safe, and that no archive took
    #[arg(long, conflicts_with = "ids")]
    images: bool,
    /// Most rows to list of each kind, the oldest first
    #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
    limit: usize,
}

impl Hold {
    pub(super) fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let reader = place.reader()?;
        if self.ids {
            place.note(Act::Listed { what: "specimens" })?;
            let ids = reader.waiting_specimens()?;
            match place.json {
                true => println!("{}", serde_json::to_string(&ids)?),
                false => ids.iter().for_each(|id| println!("{id}")),
            }
            return Ok(ExitCode::SUCCESS);
        }
        if self.images {
            print_only_here(place, &reader.only_here(None, self.limit)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let (holds, parked) = (reader.holds(self.limit)?, reader.parked(self.limit)?);
        if place.json {
            println!("{}", json!({ "held": holds, "parked": parked }));
            return Ok(ExitCode::SUCCESS);
        }
        if holds.is_empty() && parked.is_empty() {
            println!("nothing is held and nothing is parked");
        }
        if !holds.is_empty() {
            let row = |h: &crate::journal::HoldRow| {
                let result = (h.observation + 1).to_string();
                vec![
                    h.id.to_string(),
                    h.entry.to_string(),
                    h.link.clone(),
                    result,
                    h.reason.clone(),
                    shown_time(h.received_ms),
                    format!("{}{}", h.why, h.rule.as_deref().map(|r| format!(", rule {r}")).unwrap_or_default()),
                ]
            };
            print_table(
                &["hold", "entry", "link", "result", "reason", "received", "why"],
                &holds.iter().map(row).collect::<Vec<_>>(),
            );
        }
        if !parked.is_empty() {
            println!();
            let row = |p: &crate::journal::ParkedRow| {
                let numbers = [p.id.to_string(), p.entry.to_string()];
                let texts = [p.destination.clone(), p.message_id.clone(), p.reason.clone(), shown_time(p.parked_ms)];
                numbers.into_iter().chain(texts).collect::<Vec<_>>()
            };
            print_table(
                &["parked", "entry", "destination", "message", "reason", "since"],
                &parked.iter().map(row).collect::<Vec<_>>(),
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_only_here(place: &Place, images: &[OnlyHere]) -> anyhow::Result<()> {
    if place.json {
        println!("{}", serde_json::to_string(images)?);
    } else if images.is_empty() {
        println!("no image is safe here alone");
    } else {
        let row = |image: &OnlyHere| {
            let study = image.study.map(|study| study.to_string()).unwrap_or_default();
            vec![image.entry.to_string(), study, image.link.clone(), shown_time(image.received_ms)]
        };
        print_table(&["entry", "study", "link", "received"], &images.iter().map(row).collect::<Vec<_>>());
    }
    Ok(())
}

/// Why a result is held, behind its reason: in words, and by which rule.
fn because(rule: Option<&str>, why: &str) -> String {
    let rule = rule.map(|rule| format!(", rule {rule}")).unwrap_or_default();
    if why.is_empty() { rule } else { format!(": {why}{rule}") }
}

/// A decision of a rule, in a line.
fn told(decision: &Decision) -> String {
    let Decision { observation, rule, version, outcome, why, .. } = decision;
    let outcome = match outcome {
        Outcome::Passed => "passed",
        Outcome::Held => "held",
        Outcome::Flagged => "flagged",
        Outcome::Released => "released",
        Outcome::Changed => "changed",
        Outcome::Covers => "covers",
    };
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    format!("rule {rule}@{version}: result {} {outcome}{why}", observation + 1)
}

fn row(found: &Found) -> Vec<String> {
    vec![
        found.entry.to_string(),
        shown_time(found.corrected_ms.unwrap_or(found.received_ms)),
        found.link.clone(),
        if found.complete { found.state.clone() } else { format!("{} (incomplete)", found.state) },
        found.driver.clone().unwrap_or_default(),
        found.results.to_string(),
        found.held.to_string(),
        found.queued.to_string(),
        found.parked.to_string(),
    ]
}

fn contents(reader: &Reader, shown: &Shown) -> Result<Vec<serde_json::Value>, JournalError> {
    shown
        .reports
        .iter()
        .map(|report| {
            let json = reader.report(report.report)?;
            serde_json::from_slice(&json).map_err(|_| JournalError::Damaged)
        })
        .collect()
}

/// A message as text: control characters are spelled out, each record on its line.
fn visible(raw: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(raw).chars() {
        match c {
            '\r' => text.push('\n'),
            '\n' => {}
            '\u{2}' => text.push_str("<STX>"),
            '\u{3}' => text.push_str("<ETX>"),
            '\u{17}' => text.push_str("<ETB>"),
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}
