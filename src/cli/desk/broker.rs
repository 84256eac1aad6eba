//! `afferent desk broker`.

use crate::desk;
use anyhow::{Context, bail};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write the configuration and the rules of mosquitto for a fleet.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent desk broker /etc/mosquitto/fleet
  mosquitto -c /etc/mosquitto/fleet/mosquitto.conf")]
pub(super) struct BrokerFiles {
    /// The folder; ca.pem, broker.pem and broker.key belong there too
    folder: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

impl BrokerFiles {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let folder = std::path::absolute(&self.folder)?;
        std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        let here = folder.to_str().context("the folder's name is no UTF-8")?;
        let conf = desk::MOSQUITTO_CONF.replace("/etc/mosquitto/fleet", here);
        for (name, text) in [("mosquitto.conf", conf.as_str()), ("acl", desk::MOSQUITTO_ACL)] {
            let file = folder.join(name);
            if file.exists() && !self.force {
                bail!("{} is there already; --force replaces it", file.display());
            }
            std::fs::write(&file, text).with_context(|| format!("{}", file.display()))?;
            println!("{}", file.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}
