//! `afferent audit`, and what commands note in the record.

use crate::audit::chain::{Checked, Flaw};
use crate::audit::{self, Act};
use crate::desk::order::{plain, plain_json};
use crate::disk;
use crate::journal::{FILE as JOURNAL, OpenError};
use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Show who did what on this box, and who saw what of patients, or check that nothing of that was changed.
///
/// Each line has the digest of the one before, and says what was asked, whatever became of it. Lines have numbers of
/// entries, holds and messages; `afferent journal show` says what they stand for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent audit verify
  afferent audit list --last 20
  afferent audit list --json > audit.jsonl")]
pub struct Audit {
    /// The configuration file, for the data directory
    #[arg(long, global = true, value_name = "FILE", default_value = super::CONFIG_DEFAULT)]
    config: PathBuf,
    /// The data directory, when there is no configuration file
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Check that no line was changed, put in between or taken out.
    ///
    /// The exit code is 1 when one was. The digests have no key: whoever may write the files can make all of them anew.
    #[command(after_help = "Example:\n  afferent audit verify")]
    Verify,
    /// Show the lines, oldest first.
    #[command(after_help = "Examples:\n  afferent audit list --last 20\n  afferent audit list --json > audit.jsonl")]
    List {
        /// Only so many, the newest
        #[arg(long, value_name = "N")]
        last: Option<usize>,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
}

impl Audit {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let data = match self.data {
            Some(data) => data,
            None => crate::config::load(&self.config)?.config.gateway.data,
        };
        match self.verb {
            Verb::Verify => report(&check(&data, |_| {})?),
            Verb::List { last, json } => list(&data, last, json),
        }
    }
}

fn check(data: &Path, each: impl FnMut(&Value) + Send) -> anyhow::Result<Checked> {
    let checked = disk::as_owner_of(data, || audit::chain_of(data).check(each))?;
    checked.with_context(|| format!("the record in {} cannot be read", data.display()))
}

/// Says how whole a record is, a line for each flaw; the exit code says it too.
pub(super) fn report(checked: &Checked) -> anyhow::Result<ExitCode> {
    for (file, line, flaw) in &checked.flaws {
        let place = format!("{}, line {line}", file.display());
        match flaw {
            Flaw::Torn => println!("{place}: half a line, as a power cut leaves it"),
            Flaw::DoesNotFollow => eprintln!(
                "{place}: it does not follow from the one before: one of them was changed, or one put in or taken out"
            ),
            Flaw::Missing => eprintln!("{place}: what was written here is missing"),
        }
    }
    if !checked.is_whole() {
        bail!("the record is not as it was written");
    }
    let before = match checked.before {
        0 => String::new(),
        files => format!("; those of {files} files before them were put away, as there is room for so many only"),
    };
    println!("{} lines, each follows from the one before{before}", checked.lines);
    Ok(ExitCode::SUCCESS)
}

fn list(data: &Path, last: Option<usize>, json: bool) -> anyhow::Result<ExitCode> {
    let mut kept = VecDeque::new();
    let shown = |line: &Value| if json { plain_json(line) } else { words(line) };
    let checked = check(data, |line| match last {
        None => println!("{}", shown(line)),
        Some(most) => {
            kept.push_back(shown(line));
            if kept.len() > most {
                kept.pop_front();
            }
        }
    })?;
    kept.iter().for_each(|line| println!("{line}"));
    if !checked.is_whole() {
        bail!("the record is not as it was written; `afferent audit verify` says where");
    }
    Ok(ExitCode::SUCCESS)
}

/// `2026-01-01T00:00:00Z ann (uid 0) operated {...}`
fn words(line: &Value) -> String {
    let what = &line["what"];
    let text = |name: &str| plain(what[name].as_str().unwrap_or("?"));
    let rest = what.as_object().into_iter().flatten().filter(|(name, _)| !["at", "by", "act"].contains(&name.as_str()));
    let rest: serde_json::Map<String, Value> = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
    let rest = match rest.is_empty() {
        true => String::new(),
        false => format!(" {}", plain_json(&Value::Object(rest))),
    };
    format!("{} {} (uid {}) {}{rest}", text("at"), text("by"), plain_json(&line["uid"]), text("act"))
}

/// Notes what this command is about to do or show; else it must not. A full disk keeps nobody from deciding about what
/// fills it, and one that cannot be written any more can still be read.
pub(super) fn note(data: &Path, act: Act) -> anyhow::Result<()> {
    if !data.join(JOURNAL).exists() {
        return Err(OpenError::Missing(data.to_path_buf()).into());
    }
    let decides = matches!(act, Act::Operated { .. });
    match audit::note(data, &audit::operator(), act) {
        Err(error) if decides && matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            eprintln!("not in the record (afferent audit), as the disk is full");
            Ok(())
        }
        Err(error) if !decides && error.kind() == ErrorKind::ReadOnlyFilesystem => {
            eprintln!("not in the record (afferent audit), as the disk cannot be written");
            Ok(())
        }
        noted => noted.with_context(|| format!("nothing was done: the record in {} cannot be written", data.display())),
    }
}
