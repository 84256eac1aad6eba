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
  afferent desk broker /etc/mosquitto/fleet --tenant lab
  afferent desk ca issue /etc/mosquitto/fleet/broker --server broker.example
  cp ca/root.pem /etc/mosquitto/fleet/ca.pem
  chown mosquitto /etc/mosquitto/fleet/broker.key
  mosquitto -c /etc/mosquitto/fleet/mosquitto.conf

Where a Sparkplug B host sees the boxes, uncomment its lines in acl: they hold for every certificate.

Started by root, mosquitto becomes the user mosquitto, who must be allowed to read the four files beside its
configuration.")]
pub(super) struct BrokerFiles {
    /// The folder; ca.pem, broker.pem and broker.key belong there too
    folder: PathBuf,
    /// Whose fleet it is: the rules name its desks, desk-TENANT and so on
    #[arg(long, default_value = "acme")]
    tenant: String,
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
        if !crate::config::check::name_is_usable(&self.tenant) {
            bail!("`{}` cannot stand in topics: letters, digits, `-`, `_` and `.`", self.tenant);
        }
        let acl = desk::MOSQUITTO_ACL.replace("desk-acme", &format!("desk-{}", self.tenant));
        let acl = acl.replace("/acme/", &format!("/{}/", self.tenant));
        for (name, text) in [("mosquitto.conf", conf.as_str()), ("acl", acl.as_str())] {
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
