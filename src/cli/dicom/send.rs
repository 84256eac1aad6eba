//! `afferent dicom send`: files to a PACS by C-STORE, each in its own transfer syntax.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Target;
use crate::delivery::dicom::Dicom;
use crate::delivery::dicom::object::{Content, Header};
use crate::delivery::instance::{Images, Stored};
use crate::delivery::window::Pace;
use crate::delivery::{Outcome, Scope};

/// Files looked at in all.
const FILES_MAX: usize = 1_000_000;

/// Send DICOM files to a PACS (C-STORE), each as it is: nothing is transcoded or rewritten.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent dicom send pacs images/
  afferent dicom send 10.0.0.9:11112 --called PACS one.dcm two.dcm --json
  afferent dicom send pacs images/ --bandwidth 500

Exit codes: 0 everything was stored, 1 something was not; each such file is named with the reason.")]
pub(super) struct Send {
    #[command(flatten)]
    target: Target,
    /// Files, and directories with all files below them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Send at most so many kB a second
    #[arg(long, value_name = "KB", default_value_t = 0)]
    bandwidth: u64,
    /// Print one JSON object: files, stored, bytes, seconds, failed (file, why)
    #[arg(long)]
    json: bool,
}

impl Send {
    pub(super) async fn execute(self) -> anyhow::Result<ExitCode> {
        let destination = self.target.destination()?;
        anyhow::ensure!(
            destination.changes().is_empty(),
            "images are changed on their way to `{}` (deidentify, coerce), which only the running gateway does; to send \
             these files as they are, give HOST:PORT",
            destination.name
        );
        let mut failed: BTreeMap<PathBuf, String> = BTreeMap::new();
        let letters = self.letters(&mut failed)?;
        anyhow::ensure!(!letters.is_empty() || !failed.is_empty(), "there is no file to send");
        let files = letters.len() + failed.len();
        let bar = self.bar(letters.iter().map(|letter| letter.file.bytes()).sum());
        let began = Instant::now();
        let mut pacs = Dicom::new(Arc::new(destination), Images::unchanged(PathBuf::new()), Pace::new(self.bandwidth));
        let pair = |letter: &Stored| (letter.header.sop_class_uid.clone(), letter.header.transfer_syntax_uid.clone());
        pacs.expect(letters.iter().map(pair));
        let (mut stored, mut bytes) = (0_usize, 0_u64);
        let mut unreachable = None;
        for letter in letters {
            let why = match (&unreachable, pacs.store(&letter).await) {
                (_, Outcome::Delivered { .. }) => {
                    stored += 1;
                    bytes += letter.file.bytes();
                    None
                }
                (_, Outcome::Retry { reason, scope, .. }) => {
                    if scope == Scope::Destination {
                        unreachable = Some(reason.clone());
                    }
                    Some(reason)
                }
                (_, Outcome::Doubted { reason } | Outcome::Refused { reason }) => Some(reason),
            };
            bar.inc(letter.file.bytes());
            if let Some(why) = why {
                failed.insert(letter.file.path, why);
            }
            if unreachable.is_some() {
                break;
            }
        }
        pacs.close().await;
        bar.finish_and_clear();
        let seconds = began.elapsed().as_secs_f64();
        if self.json {
            let failed: Vec<_> = failed.iter().map(|(file, why)| json!({ "file": file, "why": why })).collect();
            let told =
                json!({ "files": files, "stored": stored, "bytes": bytes, "seconds": seconds, "failed": failed });
            println!("{told}");
        } else {
            for (file, why) in &failed {
                eprintln!("{}: {why}", file.display());
            }
            println!("{stored} of {files} files stored, {} kB in {seconds:.1} s", bytes / 1000);
        }
        if let Some(why) = unreachable {
            anyhow::bail!("stopped, the peer takes nothing: {why}");
        }
        Ok(ExitCode::from(u8::from(stored < files)))
    }

    /// The files there are; what is no DICOM file goes to `failed`.
    fn letters(&self, failed: &mut BTreeMap<PathBuf, String>) -> anyhow::Result<Vec<Stored>> {
        let mut letters = Vec::new();
        let mut open: Vec<PathBuf> = self.paths.iter().rev().cloned().collect();
        while let Some(path) = open.pop() {
            let failed_to_look = || format!("cannot read {}", path.display());
            if std::fs::metadata(&path).with_context(failed_to_look)?.is_dir() {
                let mut inside = Vec::new();
                for entry in std::fs::read_dir(&path).with_context(failed_to_look)? {
                    inside.push(entry.with_context(failed_to_look)?.path());
                }
                inside.sort_by(|a, b| b.cmp(a));
                open.append(&mut inside);
                continue;
            }
            anyhow::ensure!(
                letters.len() + failed.len() < FILES_MAX,
                "more than {FILES_MAX} files; send them in parts"
            );
            match letter(&path) {
                Ok(letter) => letters.push(letter),
                Err(why) => drop(failed.insert(path, why)),
            }
        }
        Ok(letters)
    }

    /// A bar for people at a terminal, nothing for anybody else.
    fn bar(&self, bytes: u64) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left");
        ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}

/// A file that is to be sent.
fn letter(path: &Path) -> Result<Stored, String> {
    let mut file = File::open(path).map_err(|e| e.to_string())?;
    let bytes = file.metadata().map_err(|e| e.to_string())?.len();
    let header = Header::read(&mut file).map_err(|e| e.to_string())?;
    let file = Content { made: Bytes::new(), path: path.to_owned(), stretch: 0..bytes };
    Ok(Stored { header, file, conflict: false })
}
