//! `afferent sim modality`: an echo machine or a CT.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tokio::sync::{mpsc, watch};

use super::super::tls::TlsCalling;
use super::{LEDGER_QUEUE, keep_ledger, progress};
use crate::delivery::dicom::association::Peer;
use crate::sim::modality::exam::{EDGE_DEFAULT, Kind};
use crate::sim::modality::fault::Faults;
use crate::sim::modality::{self, Settings, Stored, Summary};

/// Send examinations as an ultrasound machine or a CT would, over DICOM.
///
/// Patients and images are made up; a seed makes the same ones again. Each object is sent until the gateway takes it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent sim modality 127.0.0.1:11112
  afferent sim modality 127.0.0.1:11112 --kind ct -n 10 --objects 200 --edge 512 --associations 4
  afferent sim modality 127.0.0.1:11112 --worklist --mpps --commit 60
  afferent sim modality 127.0.0.1:11112 -n 20 --faults abort:0.1,cut:0.1,again --ledger sent.jsonl --json

Exit codes: 0 everything was stored as it should, 1 not.")]
pub(super) struct Modality {
    /// HOST:PORT of the gateway
    address: String,
    /// AE title of the gateway
    #[arg(long, value_name = "TITLE", default_value = "AFFERENT")]
    called: String,
    /// AE title of the modality
    #[arg(long, value_name = "TITLE", default_value = "SIMULATOR")]
    calling: String,
    /// What kind of machine it is
    #[arg(long, value_enum, default_value_t = KindArg::Echo)]
    kind: KindArg,
    /// How many examinations
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1)]
    exams: u64,
    /// Objects in each examination
    #[arg(long, value_name = "N", default_value_t = 6)]
    objects: usize,
    /// Rows and columns of an image
    #[arg(long, value_name = "N", default_value_t = EDGE_DEFAULT)]
    edge: u16,
    /// Examinations sent side by side
    #[arg(long, value_name = "N", default_value_t = 1)]
    associations: usize,
    /// Ask for the worklist first, and take patient and accession number from it
    #[arg(long)]
    worklist: bool,
    /// Say when each examination begins and ends (MPPS)
    #[arg(long)]
    mpps: bool,
    /// Ask for storage commitment and wait so many seconds for the report
    #[arg(long, value_name = "SECONDS")]
    commit: Option<u64>,
    /// What goes wrong, with a probability each, such as "abort:0.1,cut,wrong-length,half-pdu,again", or "all"
    #[arg(long, value_name = "SCRIPT", default_value = "")]
    faults: Faults,
    /// Same seed, same examinations
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "N", default_value_t = 30)]
    timeout: u64,
    #[command(flatten)]
    tls: TlsCalling,
    /// Append one JSON line for each object that was stored
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    /// An ultrasound machine: images, some of them compressed, and a report with measurements
    Echo,
    /// A CT: slices of 16 bits
    Ct,
}

impl Modality {
    pub(super) async fn execute(self) -> anyhow::Result<ExitCode> {
        let settings = self.settings()?;
        let objects = settings.exams * settings.objects as u64;
        let (ledger, lines) = mpsc::channel(LEDGER_QUEUE);
        let bar = progress(Some(objects), self.json);
        let books = tokio::spawn(keep_ledger(lines, self.ledger.clone(), bar, |_: &Stored| true));
        let (stop, stopped) = watch::channel(false);
        let running = modality::run(settings, Some(ledger), stopped);
        tokio::pin!(running);
        let summary = tokio::select! {
            summary = &mut running => summary,
            _ = tokio::signal::ctrl_c() => {
                stop.send_replace(true);
                running.await
            }
        };
        books.await??;
        if self.json {
            println!("{}", serde_json::to_string(&summary)?);
        } else {
            report(&summary);
        }
        let is_right = summary.violations == 0 && summary.stored == objects && summary.uncommitted == 0;
        Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        if self.objects == 0 || self.edge == 0 || self.associations == 0 {
            bail!("--objects, --edge and --associations are at least 1");
        }
        let (host, port) =
            self.address.rsplit_once(':').with_context(|| format!("{} is no HOST:PORT", self.address))?;
        let limit = Duration::from_secs(self.timeout);
        Ok(Settings {
            peer: Peer {
                host: host.trim_matches(['[', ']']).to_owned(),
                port: port.parse().with_context(|| format!("{} is no HOST:PORT", self.address))?,
                tls: self.tls.client(),
                called_ae_title: self.called.clone(),
                calling_ae_title: self.calling.clone(),
                connect_timeout: limit,
                answer_timeout: limit,
            },
            kind: match self.kind {
                KindArg::Echo => Kind::Echo,
                KindArg::Ct => Kind::Ct,
            },
            exams: self.exams,
            objects: self.objects,
            edge: self.edge,
            seed: self.seed,
            associations: self.associations,
            worklist: self.worklist,
            mpps: self.mpps,
            commitment: self.commit.map(Duration::from_secs),
            faults: self.faults.clone(),
        })
    }
}

fn report(summary: &Summary) {
    println!("stored        {} objects of {} examinations, {} kB", summary.stored, summary.exams, summary.bytes / 1000);
    println!("associations  {}, and {} refused or lost", summary.associations, summary.failures);
    for (status, count) in &summary.refusals {
        println!("  answered {status:6} {count}");
    }
    println!("scheduled     {}", summary.scheduled);
    println!("steps         {}", summary.steps);
    println!("committed     {}, and {} not", summary.committed, summary.uncommitted);
    println!("violations    {}", summary.violations);
    for (fault, count) in &summary.faults {
        println!(
            "  {:14} {count}",
            serde_json::to_value(fault).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
        );
    }
    println!("answered within {} ms (p50), {} ms (longest)", summary.answer_ms_p50, summary.answer_ms_max);
}
