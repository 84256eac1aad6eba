//! The verbs that read everything.

use super::Place;
use crate::audit::Act;
use crate::journal::{EntryId, Query, Reader, ReportId};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write an entry's raw bytes or image, a report, or all reports as JSON lines.
///
/// What comes out is patient data, unsealed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent journal export --entry 4711 > message.astm
  afferent journal export --entry 4712 > image.dcm
  afferent journal export --report 17
  afferent journal export --all > reports.jsonl")]
pub(super) struct Export {
    #[command(flatten)]
    what: What,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Raw bytes of this entry, as they were on the wire
    #[arg(long, value_name = "ENTRY")]
    entry: Option<i64>,
    /// This report, as JSON
    #[arg(long, value_name = "REPORT")]
    report: Option<i64>,
    /// Every report, newest entry first, one JSON object a line
    #[arg(long)]
    all: bool,
}

/// Check every row, every digest and the loss account.
///
/// The exit code is 1 when anything is damaged or does not add up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  afferent journal verify")]
pub(super) struct Verify {}

/// Copy the journal to a file. It stays sealed: keep the key as well.
///
/// Images are not in it: they are the files in `spool` of the data directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  afferent journal backup /mnt/backup/journal.db")]
pub(super) struct Backup {
    /// The file to write; it must not exist
    to: PathBuf,
}

impl Export {
    pub(super) fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let reader = place.reader()?;
        let (what, number) = match self.what {
            What { entry: Some(entry), .. } => ("entry", Some(entry)),
            What { report: Some(report), .. } => ("report", Some(report)),
            What { .. } => ("all", None),
        };
        place.note(Act::Exported { what, number })?;
        let mut out = std::io::stdout().lock();
        match self.what {
            What { entry: Some(entry), .. } => match reader.instance(EntryId(entry))? {
                Some(instance) => drop(std::io::copy(&mut reader.open_instance(&instance)?, &mut out)?),
                None => out.write_all(&reader.raw(EntryId(entry))?)?,
            },
            What { report: Some(report), .. } => {
                out.write_all(&reader.report(ReportId(report))?)?;
                out.write_all(b"\n")?;
            }
            What { .. } => export_all(&reader, &mut out)?,
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A damaged report becomes a line that says so: the others are still exported.
fn export_all(reader: &Reader, out: &mut impl Write) -> anyhow::Result<()> {
    let found = reader.search(&Query { limit: i64::MAX as usize, ..Query::default() })?;
    let bar = bar(found.len() as u64, "entries");
    for entry in found {
        bar.inc(1);
        for report in reader.show(entry.entry)?.reports {
            let mut line = json!({ "entry": entry.entry, "link": entry.link, "received_ms": entry.received_ms,
                                   "report": report.report, "repeat_of": report.repeat_of });
            let content = reader.report(report.report).ok().and_then(|json| serde_json::from_slice(&json).ok());
            if let Some(object) = line.as_object_mut() {
                object.insert("content".to_string(), content.unwrap_or_else(|| json!({ "damaged": true })));
            }
            writeln!(out, "{line}")?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

impl Verify {
    pub(super) fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let bar = bar(0, "rows");
        let verified = place.reader()?.verify(|done, all| {
            bar.set_length(all);
            bar.set_position(done);
        })?;
        bar.finish_and_clear();
        let sound = verified.is_sound();
        if place.json {
            println!("{}", serde_json::to_string(&verified)?);
            return Ok(ExitCode::from(u8::from(!sound)));
        }
        println!(
            "{} entries, {} images, {} reports, {} messages read",
            verified.entries, verified.instances, verified.reports, verified.messages
        );
        for fault in &verified.file {
            println!("file: {fault}");
        }
        for row in &verified.damaged {
            println!("damaged: {row}");
        }
        for fault in &verified.account_faults {
            println!("account: {fault}");
        }
        if verified.broken_lanes > 0 {
            println!("{} lanes are out of order", verified.broken_lanes);
        }
        if verified.account.missing() != 0 {
            println!("{} results are missing", verified.account.missing());
        }
        println!("{}", if sound { "everything is whole and adds up" } else { "the journal is NOT sound" });
        Ok(ExitCode::from(u8::from(!sound)))
    }
}

impl Backup {
    pub(super) fn execute(self, place: &Place) -> anyhow::Result<ExitCode> {
        let bar = bar(0, "pages");
        let progress = |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        };
        place.reader()?.backup(&self.to, progress).with_context(|| format!("cannot write {}", self.to.display()))?;
        bar.finish_and_clear();
        match place.json {
            true => println!("{}", json!({ "backup": self.to })),
            false => println!("{} written; it opens only with this journal's key", self.to.display()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A progress bar on standard error; nothing when that is no terminal.
fn bar(length: u64, of: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} {eta}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(of)
}
