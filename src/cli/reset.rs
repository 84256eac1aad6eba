//! `afferent reset --factory`.

use super::CONFIG_DEFAULT;
use crate::fleet::identity::folder;
use crate::reset::{self, Consent};
use crate::service::Pulse;
use crate::{config, disk};
use anyhow::Context;
use std::path::PathBuf;
use std::process::ExitCode;

/// Forget everything this box came to know: keys, certificates, journal, configurations from afar.
///
/// The gateway must not run. Nothing is done while something is here that went nowhere yet, unless --discard says exactly
/// how much that is. What a crash interrupts is finished when the gateway starts. The box's own configuration file stays,
/// and what it names outside of the data directory. Files that lie in a folder a link takes files from are taken again:
/// empty it first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent reset --factory                 refused while something waits, and says what
  afferent reset --factory --discard 12    throws exactly 12 away

Exit codes: 0 it is as new, 1 it is not, and nothing was done unless it says so.")]
pub struct Reset {
    /// Yes, all of it
    #[arg(long, required = true)]
    factory: bool,
    /// How much is thrown away that went nowhere yet
    #[arg(long, value_name = "N", default_value_t = 0)]
    discard: u64,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    config: PathBuf,
}

impl Reset {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let config = config::load(&self.config)?.config;
        let data = &config.gateway.data;
        // Root's hands are led by nothing that lies there, and the service finds what is left.
        disk::as_owner_of(data, || {
            if !reset::is_begun(data) {
                let found = reset::begin(&config, Consent::Number(self.discard), &Pulse::default())?;
                println!("thrown away: {found}");
            }
            reset::finish(&config)
                .context("the reset has begun; it goes on when the gateway starts, or with this command")
        })
        .with_context(|| format!("{}", data.display()))??;
        println!("this box is as new");
        if config.fleet.is_some_and(|fleet| fleet.enrol.is_some())
            && let Some(code) = folder::code(data).context("the box's new key")?
        {
            println!("at the desk: afferent desk enrol accept {code} --name NAME");
        }
        Ok(ExitCode::SUCCESS)
    }
}
