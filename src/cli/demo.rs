//! `afferent demo`: shows the whole path working, and failing safely, in half a minute.

use crate::demo::{self, Audience, Outcome, account::Tally};
use indicatif::{ProgressBar, ProgressStyle};
use std::process::ExitCode;
use std::time::Duration;

/// Run a gateway, three analyzers and an EHR; take the EHR away, kill the gateway, and show that nothing is lost.
///
/// Everything runs on this machine, in a temporary folder, and ends by itself. The exit code is 0 only when the loss
/// account balances: every acknowledged result is delivered or held, none is lost, doubled or out of order.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  afferent demo\n  afferent demo --seconds 15\n  afferent demo --json | tail -n 1")]
pub struct Demo {
    /// How long it plays, in seconds (8 to 50)
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Print nothing but events and, as the last line, one JSON object
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let screen = Screen::new(self.json);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let outcome = runtime.block_on(demo::play(self.seconds, &screen))?;
        screen.bar.finish_and_clear();
        if self.json {
            println!("{}", serde_json::to_string(&outcome)?);
        } else {
            print_account(&outcome);
        }
        Ok(if outcome.balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The terminal: events scroll by, the figures stay in one place. Without a terminal only the events are printed.
struct Screen {
    json: bool,
    bar: ProgressBar,
}

impl Screen {
    fn new(json: bool) -> Self {
        let bar = if json { ProgressBar::hidden() } else { ProgressBar::new(1000) };
        if let Ok(style) = ProgressStyle::with_template("{bar:24.cyan/blue} {msg}") {
            bar.set_style(style.progress_chars("━╸─"));
        }
        Screen { json, bar }
    }
}

impl Audience for Screen {
    fn event(&self, at: Duration, text: &str) {
        let line = format!("{:5.1} s  {text}", at.as_secs_f64());
        if self.json {
            eprintln!("{line}");
        } else if self.bar.is_hidden() {
            println!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    fn figures(&self, at: Duration, total: Duration, tally: &Tally, ehr_up: bool) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_position((at.as_millis() * 1000 / total.as_millis().max(1)) as u64);
        let stored: Vec<String> = tally.stored_results().iter().map(|(name, n)| format!("{name} {n}")).collect();
        let ehr = if ehr_up { "EHR up" } else { "EHR AWAY" };
        self.bar.set_message(format!(
            "acknowledged {} results | {ehr} | {}",
            tally.acknowledged_results(),
            stored.join(" | ")
        ));
    }
}

fn print_account(outcome: &Outcome) {
    let row = |name: &str, value: u64, remark: &str| println!("  {name:<22}{value:>8}  {remark}");
    println!("\nLoss account, in results");
    row("sent", outcome.sent, "by three analyzers: serial, TCP, MLLP");
    row("acknowledged", outcome.acknowledged, "the analyzers may forget these");
    row("delivered", outcome.delivered, "at both destinations");
    row("held", outcome.held, "a test without a LOINC code: shown to a person, not guessed");
    row("lost", outcome.lost, "");
    row("duplicated", outcome.duplicated, "");
    row("out of order", outcome.reordered, "");
    row("repeated, same id", outcome.repeated_same_id, "sent again after the interruptions; a receiver knows them");
    let (calm, all) = (outcome.lab_to_chart_calm_ms, outcome.lab_to_chart_ms);
    println!("\nLab to chart");
    println!("  before the outage     p50 {:>6} ms   p99 {:>6} ms", calm.p50, calm.p99);
    println!("  with the outage       p50 {:>6} ms   p99 {:>6} ms", all.p50, all.p99);
    println!("  EHR away for {} ms, gateway gone for {} ms\n", outcome.outage_ms, outcome.restart_ms);
    if outcome.balanced {
        println!("Balanced: acknowledged = delivered + held; nothing lost, doubled or out of order.");
    } else {
        println!("NOT balanced: results are missing, doubled or out of order.");
    }
}
