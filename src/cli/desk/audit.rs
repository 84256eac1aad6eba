//! `afferent desk audit`.

use super::SETTINGS;
use crate::desk::audit;
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
        let text = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        match audit::first_broken(&text) {
            None => println!("{} lines, each follows from the one before", text.lines().count()),
            Some(line) => bail!("{} line {line} does not follow from the one before: it was changed", file.display()),
        }
        Ok(ExitCode::SUCCESS)
    }
}
