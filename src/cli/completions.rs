//! `afferent completions SHELL`.

use super::Cli;
use clap::CommandFactory;
use clap_complete::Shell;
use std::process::ExitCode;

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent completions bash > /usr/share/bash-completion/completions/afferent
  afferent completions zsh > /usr/local/share/zsh/site-functions/_afferent")]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

impl Completions {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        clap_complete::generate(self.shell, &mut Cli::command(), "afferent", &mut std::io::stdout());
        Ok(ExitCode::SUCCESS)
    }
}
