//! `afferent desk audit`.

use super::SETTINGS;
use crate::desk::audit::{self, Flaw};
use anyhow::{Context, bail};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check the record of what was asked of boxes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk audit
  tail audit.jsonl

Exit codes: 0 whole, 1 a line was changed or taken out.")]
pub(super) struct Audit {
    /// The desk's settings; the record lies beside them
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
}

impl Audit {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let file = super::folder_of(&self.desk).join(audit::FILE);
        let text = std::fs::read(&file).with_context(|| format!("{}", file.display()))?;
        // A power cut may leave half a letter.
        let text = String::from_utf8_lossy(&text);
        let (mut is_whole, flaws) = (true, audit::flaws(&text));
        for (line, flaw) in &flaws {
            is_whole &= *flaw == Flaw::Torn;
            match flaw {
                Flaw::Torn => println!("line {line} is half a line, as a power cut leaves it"),
                Flaw::DoesNotFollow => eprintln!(
                    "line {line} does not follow from the one before: one of them was changed, or one taken out"
                ),
            }
        }
        if !is_whole {
            bail!("{} is not as it was written", file.display());
        }
        println!("{} lines, each follows from the one before", text.lines().count());
        Ok(ExitCode::SUCCESS)
    }
}
