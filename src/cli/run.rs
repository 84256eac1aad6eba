//! `afferent run --config FILE`.

use crate::backup::restore;
use crate::config::{self, Config};
use crate::fleet;
use crate::fleet::desired::tree;
use crate::gateway::{self, Ended};
use crate::reset::{self, Consent, ResetError};
use crate::service::{self, Manager, Pulse};
use crate::update::station::Station;
use crate::update::system::Next;
use anyhow::Context;
use std::path::PathBuf;
use std::process::ExitCode;

/// Worker threads: ingest and delivery wait for disks and networks, not for processors.
const WORKERS: usize = 2;

/// Run the gateway until it is told to stop (SIGTERM, Ctrl-C).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afferent run --config /etc/afferent/afferent.toml
  afferent run --config bench.toml --log debug")]
pub struct Run {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

impl Run {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        service::take_sockets();
        // What comes before the gateway has as much time as that.
        let manager = Manager::of_environment(None).context("cannot start a thread")?;
        // A restore or a reset that was begun comes to its end before anything of what was here is used.
        restore::finish(&self.config)?;
        reset_if_asked(&config::load(&self.config)?.config, &manager.started())?;
        let loaded = tree::start(&self.config)?;
        // A missing certificate or port keeps nothing from being accepted; it is tried again until it is there.
        for fault in loaded.missing.list() {
            tracing::warn!("{}", fault.message);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
        let station = Station::open(&loaded.config);
        if let Some(station) = &station {
            if station.settle().map_err(anyhow::Error::msg)? == Next::End {
                return Ok(ExitCode::SUCCESS);
            }
            station.prove_first(&runtime).map_err(anyhow::Error::msg)?;
            station.watch();
        }
        drop(manager);
        let ended = runtime.block_on(gateway::run(&loaded.config))?;
        if let Some(station) = &station {
            station.stopped();
        }
        if ended == Ended::Reset {
            // Counted again, with nobody beside.
            let found = reset::begin(&loaded.config, Consent::Number(0), &Pulse::default())?;
            tracing::warn!(event = "reset", "this box is reset as somebody in front of it asked; thrown away: {found}");
            reset::finish(&loaded.config)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Goes on with a reset that was begun, and begins one that the desk asked for and was told of. What came in meanwhile
/// keeps it from being done; then the box is as it was, and says so.
fn reset_if_asked(config: &Config, progress: &Pulse) -> Result<(), ResetError> {
    if let Some(found) = fleet::resets(&config.gateway.data).filter(|_| !reset::is_begun(&config.gateway.data)) {
        match reset::begin(config, Consent::Found(found), progress) {
            Ok(found) => tracing::warn!(event = "reset", "this box is reset as the desk asked; thrown away: {found}"),
            Err(error @ ResetError::Open(_)) => return Err(error),
            Err(error) => tracing::error!(event = "reset-failed", "this box is not reset as the desk asked: {error}"),
        }
    }
    reset::finish(config).map(drop)
}
