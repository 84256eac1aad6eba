//! `afferent dicom echo|send|find`: speak to a PACS or modality by hand, as the gateway would.

mod find;
mod send;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::tls::TlsCalling;
use crate::delivery::config::{Config, Protocol};
use crate::delivery::dicom::association::Peer;
use crate::delivery::dicom::{echo, peer};
use crate::fleet::desired::tree;

/// Speak DICOM to a PACS or a modality: echo, send images, ask for a worklist.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent dicom echo 10.0.0.9:11112 --called PACS     does it answer, and let this box in?
  afferent dicom echo pacs                             a destination of the configuration
  afferent dicom send pacs images/
  afferent dicom find pacs --worklist -k ScheduledStationAETitle=VIVID")]
pub struct Dicom {
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Echo(Echo),
    Send(send::Send),
    Find(find::Find),
}

/// Ask whether a DICOM peer is there and lets this box in (C-ECHO).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent dicom echo 10.0.0.9:11112 --called PACS --calling AFFERENT
  afferent dicom echo pacs --json
  afferent dicom echo pacs.example:2762 --called PACS --tls-ca ca.pem --tls-cert me.pem --tls-key me.key

Exit codes: 0 it answered, 1 it did not; the reason says which setting to change.")]
struct Echo {
    #[command(flatten)]
    target: Target,
    /// Print one JSON object: peer, called, calling, answered, ms, why
    #[arg(long)]
    json: bool,
}

/// Whom to call.
#[derive(Debug, Args)]
struct Target {
    /// HOST:PORT, or the name of a destination of the configuration
    target: String,
    /// AE title of the peer [default: that of the destination, else ANY-SCP]
    #[arg(long, value_name = "TITLE")]
    called: Option<String>,
    /// Our AE title [default: that of the destination, else AFFERENT]
    #[arg(long, value_name = "TITLE")]
    calling: Option<String>,
    #[command(flatten)]
    tls: TlsCalling,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "N", default_value_t = 30)]
    timeout: u64,
    /// The configuration file that names destinations
    #[arg(long, value_name = "FILE", default_value = super::CONFIG_DEFAULT)]
    config: PathBuf,
}

impl Dicom {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self.verb {
                Verb::Echo(echo) => echo.execute().await,
                Verb::Send(send) => send.execute().await,
                Verb::Find(find) => find.execute().await,
            }
        })
    }
}

impl Echo {
    async fn execute(self) -> anyhow::Result<ExitCode> {
        let peer = self.target.peer()?;
        let began = Instant::now();
        let answered = echo(&peer).await;
        let ms = began.elapsed().as_millis();
        let place = format!("{}:{}", peer.host, peer.port);
        if self.json {
            println!(
                "{}",
                json!({
                    "peer": place,
                    "called": peer.called_ae_title,
                    "calling": peer.calling_ae_title,
                    "answered": answered.is_ok(),
                    "ms": ms,
                    "why": answered.as_ref().err().map(ToString::to_string),
                })
            );
            return Ok(ExitCode::from(u8::from(answered.is_err())));
        }
        answered.with_context(|| format!("{} at {place} does not answer", peer.called_ae_title))?;
        println!("{} at {place} answers within {ms} ms and lets {} in", peer.called_ae_title, peer.calling_ae_title);
        Ok(ExitCode::SUCCESS)
    }
}

impl Target {
    /// Who is called: an address with what the options say, or a destination of the configuration.
    fn peer(&self) -> anyhow::Result<Peer> {
        let destination = self.destination()?;
        peer(&destination).with_context(|| format!("{} is no HOST:PORT", self.target))
    }

    /// The destination as the configuration has it, or as the options make it.
    fn destination(&self) -> anyhow::Result<Config> {
        let mut destination = match self.target.contains(':') {
            true => Config {
                address: Some(self.target.clone()),
                called_ae_title: Some("ANY-SCP".to_owned()),
                // Whoever types the address knows the network.
                plain: true,
                ..Config::new("peer", Protocol::Dicom)
            },
            false => self.configured()?,
        };
        destination.tls = self.tls.client().or(destination.tls);
        destination.called_ae_title = self.called.clone().or(destination.called_ae_title);
        destination.calling_ae_title = self.calling.clone().or(destination.calling_ae_title);
        let limit = Duration::from_secs(self.timeout).as_millis().try_into().unwrap_or(u64::MAX);
        (destination.connect_timeout_ms, destination.ack_timeout_ms) = (limit, limit);
        match destination.problems().into_iter().next() {
            None => Ok(destination),
            Some(problem) => bail!("{}: {}", problem.key, problem.text),
        }
    }

    fn configured(&self) -> anyhow::Result<Config> {
        let config = tree::load(&self.config)?.config;
        let known: Vec<&str> =
            config.destinations.iter().filter(|d| d.protocol == Protocol::Dicom).map(|d| d.name.as_str()).collect();
        match config.destinations.iter().find(|d| d.name == self.target && d.protocol == Protocol::Dicom) {
            Some(destination) => Ok(destination.clone()),
            None if known.is_empty() => bail!(
                "`{}` is no HOST:PORT, and {} has no destination with protocol = \"dicom\"",
                self.target,
                self.config.display()
            ),
            None => bail!("`{}` is no HOST:PORT, and no destination; there are: {}", self.target, known.join(", ")),
        }
    }
}
