//! `afferent sim`: instruments, modalities, folders and an EHR.

mod ask;
mod fleet;
mod modality;
mod pacs;

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::tls::{TlsCalling, TlsServing};
use crate::driver::{self, Registry};
use crate::sim::ehr::{self, EhrOptions, Mix, Script};
use crate::sim::files;
use crate::sim::instrument::faults::Faults;
use crate::sim::instrument::line::Line;
use crate::sim::instrument::results::Shape;
use crate::sim::instrument::{self, Ledger, Settings, Summary};
use crate::sim::transcript;
use crate::tls;
use crate::wire::{Protocol, astm};

/// Ledger lines that may wait for the disk.
const LEDGER_QUEUE: usize = 1024;

/// Run an instrument, a modality or an EHR that misbehaves on request, or a fleet of boxes.
#[derive(Debug, Args)]
pub struct Sim {
    /// Which.
    #[command(subcommand)]
    peer: Peer,
}

#[derive(Debug, Subcommand)]
enum Peer {
    Instrument(Box<Instrument>),
    Files(Files),
    Modality(Box<modality::Modality>),
    Pacs(Box<pacs::Pacs>),
    Ehr(Box<Ehr>),
    Fleet(Box<fleet::Boxes>),
}

/// Leave files in a folder, as the computer of an analyzer does on a share.
///
/// What is left are these files, one after the other and again from the first, each under a number of its own. The cases of
/// a driver for tables hold some.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent sim files --folder /srv/pcr --file drivers/roche-taqman48/cases/normal-two-specimens/session.rsf
  afferent sim files --folder /srv/pcr --file run.csv -n 50 --manners slow:0.3,half:0.2,renamed --json")]
struct Files {
    /// The folder a link takes files from
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// A file to leave (may be given several times)
    #[arg(long, value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    /// How many files in all; left out, each once
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// How they come to be, each with its share: slow, half (rests half-written), renamed (has another name first), twice, or
    /// "all"; left out, at once
    #[arg(long, value_name = "SCRIPT", default_value = "")]
    manners: files::Manners,
    /// Same seed, same manners
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Shrinks every pause
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    time_scale: f64,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

impl Files {
    fn execute(self) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(self.time_scale >= 0.0, "--time-scale is not below 0");
        let mut contents = Vec::new();
        for path in &self.file {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            contents.push((name, bytes));
        }
        let settings = files::Settings {
            folder: self.folder.clone(),
            count: self.count.unwrap_or(contents.len() as u64),
            files: contents,
            manners: self.manners,
            seed: self.seed,
            time_scale: self.time_scale,
        };
        let summary = files::run(&settings).with_context(|| format!("cannot write into {}", self.folder.display()))?;
        if self.json {
            println!("{}", serde_json::to_string(&summary)?);
        } else {
            println!("left          {} files", summary.files);
            for (name, manner) in files::Manner::NAMES {
                println!("  {name:11} {}", summary.manners.get(&manner).copied().unwrap_or(0));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Send made-up results, or play transcripts, as an analyzer would.
///
/// The exit code is 0 when everything was acknowledged and nothing was answered that must not be.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent sim instrument --connect 127.0.0.1:4001 -n 100
  afferent sim instrument --pty /tmp/analyzer --driver roche-cobas-c311 --rate 2 --faults bad-checksum:0.1,cut
  afferent sim instrument --connect 127.0.0.1:2575 --protocol hl7 --json
  afferent sim instrument --connect 127.0.0.1:3001 --protocol poct1a -n 20 --faults cut:0.2,late-ack
  afferent sim instrument --pty /tmp/analyzer --protocol lines -n 20 --faults bad-checksum:0.2,noise
  afferent sim instrument --connect box:2575 --protocol hl7 --tls-ca ca.pem --tls-cert poct.pem --tls-key poct.key
  afferent sim instrument --connect 127.0.0.1:2575 --ask TUBE1 --ask TUBE2
  afferent sim instrument --connect 127.0.0.1:4001 --driver roche-cobas-e411 --ask TUBE1 --ask TUBE2 --together
  afferent sim instrument --pty /tmp/analyzer --driver roche-cobas-psm --wait 3 --faults answer-cut:0.5,answer-nak
  afferent sim instrument --connect 127.0.0.1:4001 --session drivers/sysmex-xn/cases/normal-cbc-diff/session.txt")]
struct Instrument {
    #[command(flatten)]
    line: LineArgs,
    /// What to speak; left out, what the driver speaks, else ASTM
    #[arg(long, value_enum)]
    protocol: Option<ProtocolArg>,
    /// Shape the messages like this driver's instrument
    #[arg(long, value_name = "ID")]
    driver: Option<String>,
    /// Play this transcript in place of made-up results (may be given several times)
    #[arg(long, value_name = "FILE")]
    session: Vec<PathBuf>,
    /// Ask for the orders on this tube and measure what is ordered (may be given several times; "ALL" asks for
    /// everything)
    #[arg(long, value_name = "ID", conflicts_with = "session")]
    ask: Vec<String>,
    /// Ask for all of these tubes in one question (ASTM)
    #[arg(long, requires = "ask", conflicts_with = "take_back")]
    together: bool,
    /// Take each question back in the same breath (ASTM); nothing may be answered then
    #[arg(long, requires = "ask")]
    take_back: bool,
    /// Ask for nothing: wait until orders for so many tubes came by themselves, and measure them (ASTM)
    #[arg(long, value_name = "TUBES", conflicts_with_all = ["session", "ask"])]
    wait: Option<usize>,
    /// How to ask; left out, as the driver's instrument does, else as IHE LAW has it
    #[arg(long, value_enum)]
    dialect: Option<DialectArg>,
    /// How many specimens; left out, until it is interrupted
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Number of the first specimen
    #[arg(long, value_name = "N", default_value_t = 1)]
    first: u64,
    /// Results in each specimen
    #[arg(long, value_name = "N", default_value_t = 4)]
    results: usize,
    /// Specimens a second; left out, as fast as they are acknowledged
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Share of the specimens that are corrected right after, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    corrections: f64,
    /// How records are laid into ASTM frames
    #[arg(long, value_enum, default_value_t = PackingArg::Record)]
    packing: PackingArg,
    /// Text bytes in an ASTM frame
    #[arg(long, value_name = "N", default_value_t = 240)]
    frame_text_max: usize,
    /// What goes wrong, with a probability each, such as "bad-checksum:0.05,cut", or "all"
    #[arg(long, value_name = "SCRIPT", default_value = "")]
    faults: Faults,
    /// Same seed, same traffic
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Characters that begin each specimen id
    #[arg(long, value_name = "TEXT", default_value = "S001")]
    run: String,
    /// Shrinks every timer: 1 is the standard's time, 0.04 makes 15 s into 0.6 s
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    time_scale: f64,
    /// Append one JSON line for each thing sent and acknowledged
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "line")]
struct Plugs {
    /// Dial the gateway at HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    connect: Option<String>,
    /// Wait for the gateway at HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Use this serial device
    #[arg(long, value_name = "PATH")]
    device: Option<PathBuf>,
    /// Make a pseudo terminal and link it to this path
    #[arg(long, value_name = "PATH")]
    pty: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct LineArgs {
    #[command(flatten)]
    plugs: Plugs,
    /// Speed of the serial device
    #[arg(long, value_name = "BAUD", default_value_t = 9600)]
    baud: u32,
    #[command(flatten)]
    tls: TlsCalling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtocolArg {
    Astm,
    Hl7,
    Poct1a,
    /// A printed report between STX and ETX with a BCC in hexadecimal digits, which wants to hear ACK
    Lines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DialectArg {
    /// LIS02-A2: a Q record, laid out as the driver's instrument has it
    Astm,
    /// IHE LAW: QBP^Q11, OML^O33, OUL^R22
    Law,
    /// Cepheid GeneXpert: QBP^Z03, RSP^Z02
    Genexpert,
    /// Mindray BS and its kin: QRY^Q02, DSR^Q03
    Display,
    /// Mindray BC and its kin: ORM^O01, ORR^O02
    Order,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PackingArg {
    /// A frame for each record, each ending in ETX
    Record,
    /// A frame for each record, only the last ending in ETX
    RecordEtb,
    /// One run of text, cut where a frame is full
    Packed,
}

/// Receive results as an EHR would, and be asked for orders.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  afferent sim ehr --mllp 127.0.0.1:2575
  afferent sim ehr --mllp 127.0.0.1:2575 --script 0:ok,10:down,20:ok --mix ae=5,reset=2 --json
  afferent sim ehr --fhir 127.0.0.1:8080 --orders service-requests/")]
struct Ehr {
    /// Receive HL7 v2 over MLLP at HOST:PORT
    #[arg(long, value_name = "ADDRESS", required_unless_present = "fhir")]
    mllp: Option<String>,
    /// Receive FHIR R4 over HTTP at HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    fhir: Option<String>,
    /// Folder with ServiceRequests and Patients it can be searched for, one JSON file each; they may change at any time
    #[arg(long, value_name = "FOLDER", requires = "fhir")]
    orders: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsServing,
    /// How it behaves over time, such as "0:ok,5:down,12:ok" (seconds after the start)
    #[arg(long, value_name = "SCRIPT", default_value = "")]
    script: Script,
    /// How it behaves at random, in percent of the messages, such as "ae=5,reset=2"
    #[arg(long, value_name = "MIX", default_value = "")]
    mix: Mix,
    /// Same seed, same behaviour
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Stop after so many seconds; left out, when it is interrupted
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Append one JSON line for each message that arrives
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

impl Sim {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self.peer {
            Peer::Instrument(instrument) => runtime.block_on(instrument.execute()),
            Peer::Files(files) => files.execute(),
            Peer::Modality(modality) => runtime.block_on(modality.execute()),
            Peer::Pacs(pacs) => runtime.block_on(pacs.execute()),
            Peer::Ehr(ehr) => runtime.block_on(ehr.execute()),
            Peer::Fleet(boxes) => tokio::runtime::Runtime::new()?.block_on(boxes.execute()),
        }
    }
}

impl Instrument {
    async fn execute(self) -> anyhow::Result<ExitCode> {
        if !self.ask.is_empty() || self.wait.is_some() {
            return self.work_by_orders().await;
        }
        let summary = if self.session.is_empty() { self.generate().await? } else { self.play().await? };
        let right = summary.violations == 0 && summary.acknowledged == summary.sent;
        if self.json {
            println!("{}", serde_json::to_string(&summary)?);
        } else {
            report(&summary);
        }
        Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn play(&self) -> anyhow::Result<Summary> {
        let mut transcripts = Vec::new();
        for path in &self.session {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            transcripts.push(transcript::parse(&text).with_context(|| format!("in {}", path.display()))?);
        }
        Ok(instrument::play(self.line.line()?, &transcripts, self.time_scale).await?)
    }

    async fn generate(&self) -> anyhow::Result<Summary> {
        let settings = self.settings()?;
        let (stopper, stop) = watch::channel(false);
        let (sender, lines) = mpsc::channel(LEDGER_QUEUE);
        let bar = progress(self.count, self.json);
        let writer = tokio::spawn(keep_ledger(lines, self.ledger.clone(), bar, |line| {
            matches!(line, Ledger::Acknowledged { .. })
        }));
        let running = instrument::run(settings, Some(sender), stop);
        tokio::pin!(running);
        let summary = tokio::select! {
            summary = &mut running => summary,
            _ = tokio::signal::ctrl_c() => {
                stopper.send_replace(true);
                running.await
            }
        };
        writer.await??;
        summary.context("the line cannot be set up")
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        if !(0.0..=1.0).contains(&self.corrections) || self.time_scale <= 0.0 || self.results == 0 {
            bail!("--corrections is from 0 to 1, --time-scale above 0, --results at least 1");
        }
        let registry = Registry::builtin();
        let driver = match &self.driver {
            Some(id) => Some(registry.get(id).with_context(|| format!("there is no driver {id}; see `driver list`"))?),
            None => None,
        };
        let protocol = match (self.protocol, driver.map(driver::Driver::protocol)) {
            (Some(ProtocolArg::Poct1a), _) | (None, Some(driver::Protocol::Poct1a)) => Protocol::Poct1a,
            (Some(ProtocolArg::Lines), None) => Protocol::Lines,
            (Some(ProtocolArg::Lines), Some(_)) | (None, Some(driver::Protocol::Lines)) => {
                bail!(
                    "no results are made up in a driver's lines; --session plays a case, --protocol lines alone a report"
                )
            }
            (Some(ProtocolArg::Hl7), _) | (None, Some(driver::Protocol::Hl7)) => Protocol::Hl7,
            _ => Protocol::Astm,
        };
        Ok(Settings {
            shape: driver.map_or_else(Shape::generic, Shape::of),
            packing: match self.packing {
                PackingArg::Record => astm::Packing::RecordPerFrame,
                PackingArg::RecordEtb => astm::Packing::RecordPerFrameEtb,
                PackingArg::Packed => astm::Packing::Packed,
            },
            frame_text_max: self.frame_text_max,
            count: self.count,
            first: self.first,
            rate: self.rate,
            results: self.results,
            corrections: self.corrections,
            faults: self.faults.clone(),
            seed: self.seed,
            run: self.run.clone(),
            time_scale: self.time_scale,
            ..Settings::new(self.line.line()?, protocol)
        })
    }
}

impl LineArgs {
    fn line(&self) -> anyhow::Result<Line> {
        let Plugs { connect, listen, device, pty } = &self.plugs;
        if connect.is_none() && self.tls.client().is_some() {
            bail!("--tls-ca needs --connect");
        }
        match (connect, listen, device, pty) {
            (Some(address), ..) => self.dial(address),
            (_, Some(address), ..) => Ok(Line::Listen(address.clone())),
            (_, _, Some(path), _) => Ok(Line::Device { path: path.clone(), baud: self.baud }),
            (_, _, _, Some(path)) => Ok(Line::Pty(path.clone())),
            _ => bail!("one of --connect, --listen, --device and --pty is needed"),
        }
    }

    fn dial(&self, address: &str) -> anyhow::Result<Line> {
        let address = address.to_owned();
        let Some(config) = self.tls.client() else { return Ok(Line::Connect(address)) };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let name = config.name_for(host)?;
        let tls = Arc::clone(&tls::client(&config)?);
        Ok(Line::ConnectTls { address, tls, name })
    }
}

impl Ehr {
    async fn execute(self) -> anyhow::Result<ExitCode> {
        let options = EhrOptions {
            mllp: self.mllp,
            fhir: self.fhir,
            orders: self.orders,
            tls: self.tls.server(),
            ledger: self.ledger,
            script: self.script,
            mix: self.mix,
            seed: self.seed,
            ..EhrOptions::default()
        };
        let account = ehr::run(options, over(self.seconds)).await?;
        if self.json {
            println!("{}", serde_json::to_string(&account)?);
        } else {
            println!("arrived    {}", account.arrived);
            println!("stored     {} messages with {} results", account.stored, account.results);
            println!("repeated   {}", account.repeated);
            println!("conflicts  {}", account.conflicting);
        }
        Ok(if account.conflicting == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Completes when a simulator has run for so many seconds, or when somebody stops it.
pub(super) async fn over(seconds: Option<u64>) {
    let time = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = time => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Writes the ledger as it comes and moves the bar for each line that counts.
async fn keep_ledger<L: Serialize>(
    mut lines: mpsc::Receiver<L>,
    file: Option<PathBuf>,
    bar: ProgressBar,
    counts: impl Fn(&L) -> bool,
) -> anyhow::Result<()> {
    let mut file = match file {
        Some(path) => Some(BufWriter::new(append(&path)?)),
        None => None,
    };
    while let Some(line) = lines.recv().await {
        if let Some(file) = &mut file {
            serde_json::to_writer(&mut *file, &line)?;
            file.write_all(b"\n")?;
        }
        if counts(&line) {
            bar.inc(1);
            // A killed simulator must not know less than the gateway.
            file.as_mut().map_or(Ok(()), BufWriter::flush)?;
        }
    }
    file.as_mut().map_or(Ok(()), BufWriter::flush)?;
    bar.finish_and_clear();
    Ok(())
}

fn append(path: &Path) -> anyhow::Result<File> {
    File::options().create(true).append(true).open(path).with_context(|| format!("cannot write {}", path.display()))
}

/// A bar for people at a terminal, nothing for anybody else.
fn progress(count: Option<u64>, json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    match count {
        Some(count) => {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} acknowledged, {eta} left");
            ProgressBar::new(count).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        }
        None => ProgressBar::new_spinner(),
    }
}

fn report(summary: &Summary) {
    println!("sent          {} specimens and corrections in {} attempts", summary.sent, summary.attempts);
    println!("acknowledged  {} with {} results", summary.acknowledged, summary.results_acknowledged);
    println!("refusals      {}", summary.refusals);
    println!("line lost     {} times", summary.line_losses);
    println!("violations    {}", summary.violations);
    for (fault, count) in &summary.faults {
        println!("  {fault:16} {count}");
    }
    println!("acknowledged within {} ms (p50), {} ms (p99)", summary.ack_ms_p50, summary.ack_ms_p99);
}
