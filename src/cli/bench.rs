//! `afferent bench`: measures this gateway on this machine.

use crate::bench::{self, Figures, Options, Percentiles};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measure speed and memory on this machine, as ratios to what its disk can do.
///
/// Every figure is compared with a bare SQLite loop that commits rows of the same size on the same disk in the same
/// run, so that the verdicts mean the same on every machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  afferent bench\n  afferent bench --dir /var/lib/afferent --backlog 1000000\n  \
                        afferent bench --json | tail -n 1\n  afferent bench --bus")]
pub struct Bench {
    /// Folder on the disk to measure; a temporary folder in it is made and removed
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Undelivered entries in the backlog round; 0 leaves the round out
    #[arg(long, default_value_t = 20_000)]
    backlog: usize,
    /// Length of one throughput round in milliseconds
    #[arg(long, default_value_t = 2000)]
    round_ms: u64,
    /// Measure only this: lab to chart beside a fleet's broker that is killed, flaps, is slow and refuses, over that beside
    /// one that is well. Takes two minutes, and mosquitto
    #[arg(long)]
    bus: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        measure(&self)
    }
}

fn measure(args: &Bench) -> anyhow::Result<ExitCode> {
    let spinner = if args.json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    let options =
        Options { dir: args.dir.clone(), backlog: args.backlog, round: Duration::from_millis(args.round_ms.max(100)) };
    if args.bus {
        let figures = bench::bus::run(&options, &|what| spinner.set_message(what.to_string()))?;
        spinner.finish_and_clear();
        if args.json {
            println!("{}", serde_json::to_string(&figures)?);
        } else {
            print_bus(&figures);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let figures = bench::run(&options, &|what| spinner.set_message(what.to_string()))?;
    spinner.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        print_figures(&figures);
    }
    Ok(ExitCode::SUCCESS)
}

fn row(name: &str, value: String, goal: &str, met: Option<bool>) {
    let verdict = match met {
        Some(true) => "met",
        Some(false) => "NOT met",
        None => "",
    };
    println!("  {name:<44}{value:>14}   {goal:<16}{verdict}");
}

fn print_bus(f: &bench::bus::Figures) {
    println!("Lab to chart, {} messages with a broker that is well and {} without.\n", f.messages[0], f.messages[1]);
    let both = |name: &str, of: &Percentiles| {
        row(name, format!("{:.2} / {:.2} ms", of.p50, of.p99), "", None);
    };
    both("a broker that is well, p50 / p99", &f.calm_ms);
    for (trouble, took) in &f.by_trouble_ms {
        both(&format!("  {}", trouble.to_lowercase()), took);
    }
    both("trouble of all kinds, p50 / p99", &f.chaos_ms);
    row(
        "  p99 over that of a broker that is well",
        format!("{:.2}", f.chaos_ratio),
        "at most 1.2",
        Some(f.chaos_ratio <= 1.2),
    );
}

fn print_figures(f: &Figures) {
    println!("One bare commit takes {:.2} ms (p99 {:.2} ms) here.\n", f.bare_commit_ms_p50, f.bare_commit_ms_p99);
    row("frames acknowledged per second, 16 links", format!("{:.0}", f.durable_frames_per_s), "", None);
    row(
        "  over a bare loop in groups of 16",
        format!("{:.2}", f.durable_results_ratio),
        "at least 0.8",
        Some(f.durable_results_ratio >= 0.8),
    );
    row("frame ack on a lone link, p50", format!("{:.2} ms", f.lone_link_ack_ms_p50), "", None);
    row(
        "  over one bare commit",
        format!("{:.2}", f.lone_link_ack_ratio),
        "at most 1.5",
        Some(f.lone_link_ack_ratio <= 1.5),
    );
    row("lab to chart, p50", format!("{:.2} ms", f.lab_to_chart_ms.p50), "", None);
    row("lab to chart, p99", format!("{:.2} ms", f.lab_to_chart_ms.p99), "", None);
    row(
        "  over one bare commit, p99",
        format!("{:.2}", f.lab_to_chart_commits),
        "at most 4",
        Some(f.lab_to_chart_commits <= 4.0),
    );
    if f.backlog_entries > 0 {
        row("with this many undelivered entries", f.backlog_entries.to_string(), "", None);
        row(
            "  frame ack over that without",
            format!("{:.2}", f.backlog_ack_ratio),
            "at most 1.2",
            Some(f.backlog_ack_ratio <= 1.2),
        );
        row("  search by specimen", format!("{:.1} ms", f.search_ms), "under 50 ms", Some(f.search_ms < 50.0));
        row(
            "  start to listening",
            format!("{:.0} ms", f.start_to_listening_ms),
            "under 200 ms",
            Some(f.start_to_listening_ms < 200.0),
        );
        row("  drained per second", format!("{:.0}", f.drain_per_s), "", None);
        row("  over what the EHR takes directly", format!("{:.2}", f.drain_ratio), "", None);
        row("  the same, an EHR that thinks for 1 ms", format!("{:.2}", f.drain_thinking_ratio), "", None);
    }
    row(
        "memory a link, 500 links",
        format!("{:.0} kB", f.crowd_kb_per_link),
        "under 100 kB",
        Some(f.crowd_kb_per_link < 100.0),
    );
    row(
        "processor time a frame, 500 links over 1",
        format!("{:.2}", f.crowd_cpu_ratio),
        "at most 1.3",
        Some(f.crowd_cpu_ratio <= 1.3),
    );
    row(
        "preview of a 45 kB record",
        format!("{:.1} ms", f.preview_45_kb_ms),
        "under 10 ms",
        Some(f.preview_45_kb_ms < 10.0),
    );
    row(
        "rules tried per second, one core",
        format!("{:.0}", f.rules_per_second),
        "at least 10 000",
        Some(f.rules_per_second >= 10_000.0),
    );
    row("host query answered, p50", format!("{:.1} ms", f.host_query_ms.p50), "", None);
    row(
        "host query answered, p99",
        format!("{:.1} ms", f.host_query_ms.p99),
        "50 ms + a commit",
        Some(f.host_query_ms.p99 < 50.0 + f.bare_commit_ms_p99),
    );
    row("idle resident memory", format!("{:.1} MiB", f.idle_rss_mib), "under 20 MiB", Some(f.idle_rss_mib < 20.0));
    row(
        "peak resident memory under load",
        format!("{:.1} MiB", f.load_rss_mib),
        "under 64 MiB",
        Some(f.load_rss_mib < 64.0),
    );
    row("binary", format!("{:.1} MiB", f.binary_mib), "under 15 MiB", Some(f.binary_mib < 15.0));
}
