//! The command line: one file per command.
//!
//! What a person asked for goes to standard output, everything else (logs, faults, progress) to standard error.
//! Exit codes: 0 done, 1 it failed or something does not balance, 2 the command line or the configuration is wrong.

pub mod audit;
pub mod backup;
pub mod bench;
pub mod check;
pub mod completions;
pub mod config;
pub mod console;
pub mod demo;
pub mod desk;
pub mod dicom;
pub mod doctor;
pub mod driver;
pub mod fleet;
pub mod journal;
pub mod logging;
pub mod man;
pub mod map;
pub mod orders;
pub mod outgoing;
pub mod preview;
pub mod probe;
pub mod reset;
pub mod restore;
pub mod rules;
pub mod run;
pub mod setup;
pub mod sim;
pub mod tap;
mod tls;
pub mod update;

use crate::config::LoadError;
use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Args, Parser, Subcommand};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where the configuration is unless told otherwise.
const CONFIG_DEFAULT: &str = "/etc/afferent/afferent.toml";
/// Exit code for a wrong command line or configuration; clap uses the same.
pub const EXIT_WRONG: u8 = 2;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Carries what lab analyzers found to the hospital EHR, and never loses a result on the way.
#[derive(Debug, Parser)]
#[command(name = "afferent", version, styles = STYLES, max_term_width = 100)]
#[command(after_help = "\
Examples:
  afferent config sample > afferent.toml    a commented configuration to start from
  afferent check afferent.toml              is it right?
  afferent COMMAND --help                   every command has examples")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to log.
    #[command(flatten)]
    pub logging: Logging,
}

/// Options every command takes.
#[derive(Debug, Args)]
pub struct Logging {
    /// What to log: a level, or levels by module such as "info,afferent::link=debug" [default: info; or AFFERENT_LOG]
    #[arg(long, global = true, value_name = "FILTER", hide_short_help = true)]
    pub log: Option<String>,
    /// How to write log lines; left out, for people on a terminal and for journald under systemd
    #[arg(long, global = true, value_name = "FORMAT", hide_short_help = true)]
    pub log_format: Option<logging::Format>,
}

/// The configuration of this box, and how what is found is shown.
#[derive(Debug, Args)]
struct ThisBox {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    config: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole path working, and failing safely, in half a minute.
    Demo(demo::Demo),
    /// Set this box up: from an unpacked box to the first result in the EHR.
    Setup(setup::Setup),
    /// Run the gateway until it is told to stop.
    Run(run::Run),
    /// See what is kept, and decide about what is held.
    Journal(journal::Journal),
    /// See what the EHR ordered and where it stands.
    Orders(orders::Orders),
    /// Measure speed and memory on this machine, as ratios to what its disk can do.
    Bench(bench::Bench),
    /// Check a configuration file and tell everything that is wrong with it.
    Check(check::Check),
    /// Print a sample configuration, its JSON Schema, or what to register with a FHIR server.
    Config(config::Config),
    /// Show who did what on this box, and who saw what of patients.
    Audit(audit::Audit),
    /// Forget everything this box came to know.
    Reset(reset::Reset),
    /// Write an encrypted backup of this box, without anything of a patient.
    Backup(backup::Backup),
    /// Make this box the one that a backup was made of.
    Restore(restore::Restore),
    /// Look after a fleet of boxes: see how they are, and tell them what to do.
    Desk(desk::Desk),
    /// See who this box is to its fleet, and let it ask to be let in.
    Fleet(fleet::Fleet),
    /// Speak DICOM to a PACS or a modality: echo, send images, ask for a worklist.
    Dicom(dicom::Dicom),
    /// Run a simulated instrument or EHR that misbehaves on request.
    Sim(sim::Sim),
    /// Serve a page on this box: how each link and destination is, live, and what is unusual now.
    Console(console::Console),
    /// Tell what is wrong between the instruments and the EHR, and what to do next.
    Doctor(doctor::Doctor),
    /// See where an update of this box stands, and whether results would flow.
    Update(update::Update),
    /// Show what passes on a link, live.
    Tap(tap::Tap),
    /// Find out what is at the other end of a line.
    Probe(probe::Probe),
    /// Show what the gateway would make of a message.
    Preview(preview::Preview),
    /// Show the codes and units nobody has mapped yet, and map them.
    Map(map::Map),
    /// List the site's rules, or try rules on what came already.
    Rules(rules::Rules),
    /// See the drivers, test one, or begin a new one from a capture.
    Driver(driver::DriverCommand),
    /// Print a completion script for a shell.
    Completions(completions::Completions),
    /// Write the man pages into a directory.
    Man(man::Man),
}

impl Command {
    /// What is logged unless told otherwise. A setup says itself what it does, on the same terminal.
    pub fn logs(&self) -> &'static str {
        if matches!(self, Command::Setup(_)) { "off" } else { logging::FILTER_DEFAULT }
    }
}

/// Does what was asked.
///
/// # Errors
/// What kept it from being done, for [`fail`].
pub fn execute(command: Command) -> anyhow::Result<ExitCode> {
    let goes_on = match &command {
        Command::Run(_) | Command::Demo(_) | Command::Bench(_) | Command::Sim(_) => true,
        Command::Console(console) => console.goes_on(),
        Command::Desk(desk) => desk.goes_on(),
        _ => false,
    };
    if !goes_on {
        end_with_the_reader();
    }
    match command {
        Command::Demo(demo) => demo.execute(),
        Command::Setup(setup) => setup.execute(),
        Command::Run(run) => run.execute(),
        Command::Journal(journal) => journal.execute(),
        Command::Orders(orders) => orders.execute(),
        Command::Bench(bench) => bench.execute(),
        Command::Check(check) => check.execute(),
        Command::Config(config) => config.execute(),
        Command::Audit(audit) => audit.execute(),
        Command::Reset(reset) => reset.execute(),
        Command::Backup(backup) => backup.execute(),
        Command::Restore(restore) => restore.execute(),
        Command::Desk(desk) => desk.execute(),
        Command::Fleet(fleet) => fleet.execute(),
        Command::Dicom(dicom) => dicom.execute(),
        Command::Sim(sim) => sim.execute(),
        Command::Console(console) => console.execute(),
        Command::Doctor(doctor) => doctor.execute(),
        Command::Update(update) => update.execute(),
        Command::Tap(tap) => tap.execute(),
        Command::Probe(probe) => probe.execute(),
        Command::Preview(preview) => preview.execute(),
        Command::Map(map) => map.execute(),
        Command::Rules(rules) => rules.execute(),
        Command::Driver(driver) => driver.execute(),
        Command::Completions(completions) => completions.execute(),
        Command::Man(man) => man.execute(),
    }
}

/// Tells a person why it was not done. The exit code is 2 when the configuration is wrong, else 1.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<LoadError>() {
        Some(LoadError::Faults(faults)) => eprintln!("{}", faults.render(colour(&std::io::stderr()))),
        _ => eprintln!("error: {error:#}"),
    }
    if error.is::<LoadError>() { ExitCode::from(EXIT_WRONG) } else { ExitCode::FAILURE }
}

/// A command whose output nobody reads any more (`afferent journal hold | head`) just ends. What serves others must
/// not: it outlives the reader of its log.
fn end_with_the_reader() {
    // SAFETY: restores the default action of a signal before any thread is started.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// True when this stream is a terminal that wants colour (`NO_COLOR` is respected).
pub fn colour(stream: &impl IsTerminal) -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stream.is_terminal() && !unwanted && !dumb
}
