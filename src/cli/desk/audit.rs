//! `afferent desk audit`.

use super::SETTINGS;
use crate::desk::audit;
use anyhow::Context;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check the record of what was asked of boxes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk audit
  tail audit.jsonl

Exit codes: 0 whole, 1 a line was changed, put in or taken out.")]
pub(super) struct Audit {
    /// The desk's settings; the record lies beside them
    #[arg(long, value_name = "FILE", default_value = SETTINGS)]
    desk: PathBuf,
}

impl Audit {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let folder = super::folder_of(&self.desk);
        let chain = audit::chain(&folder);
        // Without a record nothing was checked.
        let file = chain.file();
        std::fs::metadata(&file).with_context(|| format!("{}", file.display()))?;
        let checked = chain.check(|_| {}).with_context(|| format!("{}", file.display()))?;
        crate::cli::audit::report(&checked)
    }
}
