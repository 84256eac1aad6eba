//! `afferent sim pacs`: a receiver of images that misbehaves on request.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::super::tls::TlsServing;
use crate::sim::pacs::{self, Commitment, Mix, Options, Rejection};

/// Receive images as a PACS would, over DICOM, and misbehave on request.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent sim pacs 127.0.0.1:11113                        take and count
  afferent sim pacs 127.0.0.1:11113 --store /tmp/images    keep them as files
  afferent sim pacs 127.0.0.1:11113 --mix a700:0.1,abort:0.05,slow --json
  afferent sim pacs 127.0.0.1:11113 --refuse 1.2.840.10008.1.2.5 --commitment fails

Exit codes: 0 each object that came twice was the same, 1 not.")]
pub(super) struct Pacs {
    /// Listen at HOST:PORT
    address: String,
    /// Keep the objects as files in this directory; left out, they are counted and discarded
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Refuse this SOP class or transfer syntax (may be given several times)
    #[arg(long, value_name = "UID")]
    refuse: Vec<String>,
    /// Abort associations that propose this SOP class or transfer syntax (may be given several times)
    #[arg(long, value_name = "UID")]
    abort_on: Vec<String>,
    /// Reject so many associations first, as busy
    #[arg(long, value_name = "N", default_value_t = 0)]
    reject: usize,
    /// What it does with objects, with a probability each: a700, c000, slow, abort, close, hang
    #[arg(long, value_name = "SCRIPT", default_value = "")]
    mix: Mix,
    /// Milliseconds a slow answer takes
    #[arg(long, value_name = "MS", default_value_t = pacs::SLOW_DEFAULT.as_millis() as u64)]
    slow_ms: u64,
    /// What it answers when asked for storage commitment
    #[arg(long, value_enum, default_value_t = CommitmentArg::Honest)]
    commitment: CommitmentArg,
    /// Longest PDU it says it takes; 0 is any
    #[arg(long, value_name = "BYTES", default_value_t = 16_384)]
    pdu_max: u32,
    /// Same seed, same misbehaviour
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    tls: TlsServing,
    /// Stop after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CommitmentArg {
    /// Commits to what it has
    Honest,
    /// Commits to what it has, before it answers the request, as it may
    Early,
    /// Says it has nothing
    Fails,
    /// Never reports
    Silent,
}

impl Pacs {
    pub(super) async fn execute(self) -> anyhow::Result<ExitCode> {
        if let Some(store) = &self.store {
            std::fs::create_dir_all(store).with_context(|| format!("cannot use {}", store.display()))?;
        }
        let options = Options {
            listen: self.address,
            tls: self.tls.server(),
            store: self.store,
            rejects: vec![Rejection::Congestion; self.reject],
            refuses: self.refuse,
            aborts_on: self.abort_on,
            pdu_max: self.pdu_max,
            mix: self.mix,
            seed: self.seed,
            slow: Some(Duration::from_millis(self.slow_ms)),
            commitment: match self.commitment {
                CommitmentArg::Honest => Commitment::Honest,
                CommitmentArg::Early => Commitment::Early,
                CommitmentArg::Fails => Commitment::Fails,
                CommitmentArg::Silent => Commitment::Silent,
            },
            ..Options::default()
        };
        let pacs = pacs::Pacs::start(options).await?;
        eprintln!("listening on {}", pacs.address());
        super::over(self.seconds).await;
        let account = pacs.account();
        if self.json {
            println!("{}", serde_json::to_string(&account)?);
        } else {
            println!("associations  {}", account.associations);
            println!("arrived       {} objects", account.arrived);
            println!("stored        {}", account.stored);
            println!("repeated      {}", account.repeated);
            println!("conflicts     {}", account.conflicting);
            println!("committed     {}, asked {}", account.committed, account.asked);
        }
        Ok(if account.conflicting == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
