//! `afferent man DIR`.

use super::Cli;
use anyhow::Context;
use clap::CommandFactory;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write the man pages into a directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  afferent man /usr/local/share/man/man1")]
pub struct Man {
    /// Where to put them; made when it is not there
    pub dir: PathBuf,
}

impl Man {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let dir = &self.dir;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        clap_mangen::generate_to(Cli::command(), dir).with_context(|| format!("cannot write to {}", dir.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
