//! `afferent bench`: the figures that matter, as ratios within one run on one disk.
//!
//! Absolute speeds say more about the disk than about the gateway, and disks change their mind from minute to minute.
//! So every figure is taken beside a *bare* one: a loop that does nothing but commit rows of the same size to SQLite
//! with the same durability (`bench/bare.rs`). The gateway under test is a child process, this very binary, watched from
//! outside: its clients (`client.rs`) are instruments on TCP, its EHR (`sink.rs`) answers at once.

mod bare;
pub mod bus;
mod client;
mod child;
mod crowd;
mod floor;
pub mod rules;
mod queries;
mod sink;

use child::Child;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Links that send at once in the throughput round.
const LINKS: usize = 16;
/// Commits in one group of the bare loop: what sixteen links can have waiting at once.
const GROUP: usize = 16;
/// Result records in a message of the throughput round, about what a blood count has.
const RESULTS: usize = 24;
/// Rounds; bare and gateway take turns, so that both meet the same disk.
const ROUNDS: usize = 5;
/// Messages sent one at a time to measure latency.
const LATENCY_MESSAGES: usize = 300;

/// How long a quick EHR takes for an answer.
const THINKING: Duration = Duration::from_millis(1);

/// A port where no EHR listens.
const NOBODY: u16 = 1;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the gateway's data lies during the run; it should be on the disk the box uses.
    pub dir: PathBuf,
    /// Undelivered entries in the backlog round.
    pub backlog: usize,
    /// Length of one throughput round.
    pub round: Duration,
}

/// What was measured. Ratios compare with the bare loop of the same run; times are milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// One bare commit, median.
    pub bare_commit_ms_p50: f64,
    /// One bare commit, 99th percentile.
    pub bare_commit_ms_p99: f64,
    /// Rows a bare loop commits per second in groups of sixteen.
    pub bare_rows_per_s: f64,
    /// Frames the gateway takes custody of and acknowledges per second on sixteen links.
    pub durable_frames_per_s: f64,
    /// The two above, divided. At least 0.8 is wanted.
    pub durable_results_ratio: f64,
    /// Frames the same instruments get acknowledged by a loop that only reads, commits and answers (`bench/floor.rs`).
    pub floor_frames_per_s: f64,
    /// What the gateway reaches of that.
    pub durable_floor_ratio: f64,
    /// Frame acknowledgement on a lone link, median.
    pub lone_link_ack_ms_p50: f64,
    /// The same over one bare commit. At most 1.5 is wanted.
    pub lone_link_ack_ratio: f64,
    /// From the last frame leaving the instrument to the message arriving at the EHR, median and 99th percentile.
    pub lab_to_chart_ms: Percentiles,
    /// The 99th percentile of that in bare commits (99th percentile). At most 4 is wanted.
    pub lab_to_chart_commits: f64,
    /// Undelivered entries in the journal in the backlog round.
    pub backlog_entries: usize,
    /// Frame acknowledgement with that backlog over that without. At most 1.2 is wanted.
    pub backlog_ack_ratio: f64,
    /// Finding one specimen in that backlog. Under 50 is wanted.
    pub search_ms: f64,
    /// From the start of the process to its listener answering, with that backlog. Under 200 is wanted.
    pub start_to_listening_ms: f64,
    /// Backlog delivered per second, and the EHR's own speed when messages are handed to it directly.
    pub drain_per_s: f64,
    /// Messages per second the same EHR takes straight from a plain sender.
    pub peer_per_s: f64,
    /// The two above, divided: 1 means that the peer alone limits the drain.
    pub drain_ratio: f64,
    /// The same with an EHR that takes a millisecond for an answer, as quick ones do.
    pub drain_thinking_ratio: f64,
    /// Resident memory of the idle gateway in MiB. Under 20 is wanted.
    pub idle_rss_mib: f64,
    /// Peak resident memory under the throughput load in MiB. Under 64 is wanted.
    pub load_rss_mib: f64,
    /// Resident memory each of 500 connected links adds, in kB. Under 100 is wanted.
    pub crowd_kb_per_link: f64,
    /// Processor time a frame takes with 500 links sending, over that with one. At most 1.3 is wanted.
    pub crowd_cpu_ratio: f64,
    /// Finding the driver of a message with a 45 kB record and the place of each of its fields. Under 10 is wanted.
    pub preview_45_kb_ms: f64,
    /// Decisions of the site's rules per second on one core. At least 10 000 is wanted.
    pub rules_per_second: f64,
    /// From the question of an analyzer to the end of the answer with its orders, median and 99th percentile. In it is
    /// the commit of the question; under 50 beside that is wanted.
    pub host_query_ms: Percentiles,
    /// Size of this binary in MiB. Under 15 is wanted when it is a stripped release.
    pub binary_mib: f64,
}

/// Median and 99th percentile.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Percentiles {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at =
            |share: f64| samples.get(((samples.len() as f64 * share) as usize).min(samples.len().saturating_sub(1)));
        Percentiles { p50: at(0.5).copied().unwrap_or(0.0), p99: at(0.99).copied().unwrap_or(0.0) }
    }
}

/// Takes all the measurements. `say` is told what is being measured.
pub fn run(options: &Options, say: &dyn Fn(&str)) -> anyhow::Result<Figures> {
    let dir = options.dir.join(format!("afferent-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(options, &dir, say);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn measure(options: &Options, dir: &Path, say: &dyn Fn(&str)) -> anyhow::Result<Figures> {
    let binary_mib = mib(std::fs::metadata(std::env::current_exe()?)?.len());
    let mut figures = Figures { binary_mib, ..Figures::default() };

    let sink = sink::Sink::start(Duration::ZERO)?;
    let gateway = Child::start(&dir.join("calm"), LINKS, sink.port())?;
    std::thread::sleep(Duration::from_millis(500));
    figures.idle_rss_mib = mib(gateway.rss()?);

    say("lone link: frame acknowledgement and lab to chart");
    let (mut commits, mut acks, mut charts) = (Vec::new(), Vec::new(), Vec::new());
    let mut bare = bare::Loop::open(&dir.join("bare.db"))?;
    let mut instrument = client::Instrument::connect(gateway.port(0))?;
    for round in 0..ROUNDS {
        commits.extend(bare.commits(LATENCY_MESSAGES / ROUNDS, client::frame_bytes())?);
        for n in 0..LATENCY_MESSAGES / ROUNDS {
            let specimen = format!("L{round}-{n:05}");
            let sent = instrument.message(&specimen, 2, &mut acks)?;
            let arrived = sink.wait_for(&specimen, Duration::from_secs(10))?;
            charts.push(ms(arrived.saturating_duration_since(sent)));
        }
    }
    let commit = Percentiles::of(commits);
    let ack = Percentiles::of(acks);
    figures.bare_commit_ms_p50 = commit.p50;
    figures.bare_commit_ms_p99 = commit.p99;
    figures.lone_link_ack_ms_p50 = ack.p50;
    figures.lone_link_ack_ratio = ack.p50 / commit.p50;
    figures.lab_to_chart_ms = Percentiles::of(charts);
    figures.lab_to_chart_commits = figures.lab_to_chart_ms.p99 / commit.p99;

    say("sixteen links: durable frames per second");
    let (mut bare_rates, mut floor_rates, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        bare_rates.push(bare.rows_per_s(GROUP, client::frame_bytes(), options.round)?);
        let floor = floor::Floor::start(&dir.join(format!("floor-{round}.db")), LINKS)?;
        floor_rates.push(client::flood(floor.ports(), RESULTS, round, options.round)?);
        drop(floor);
        rates.push(client::flood(gateway.ports(), RESULTS, round, options.round)?);
    }
    figures.bare_rows_per_s = Percentiles::of(bare_rates).p50;
    figures.durable_frames_per_s = Percentiles::of(rates).p50;
    figures.floor_frames_per_s = Percentiles::of(floor_rates).p50;
    figures.durable_floor_ratio = figures.durable_frames_per_s / figures.floor_frames_per_s;
    figures.durable_results_ratio = figures.durable_frames_per_s / figures.bare_rows_per_s;
    figures.load_rss_mib = mib(gateway.peak_rss()?);
    drop(instrument);
    gateway.stop()?;

    say("five hundred links: memory and processor time");
    let cost = crowd::measure(dir, sink.port(), options.round)?;
    figures.crowd_kb_per_link = cost.memory_kb_per_link;
    figures.crowd_cpu_ratio = cost.cpu_ratio;
    say("preview of a 45 kB record");
    figures.preview_45_kb_ms = crowd::preview_ms();
    say("rules on one core");
    figures.rules_per_second = rules::per_second(options.round);
    say("host queries");
    figures.host_query_ms = queries::measure(dir, sink.port())?;

    if options.backlog > 0 {
        say(&format!("backlog: filling the journal with {} undelivered entries", options.backlog));
        backlog(options, dir, &sink, &mut figures, say)?;
    }
    Ok(figures)
}

/// The rounds with a journal full of undelivered entries.
fn backlog(
    options: &Options,
    dir: &Path,
    sink: &sink::Sink,
    figures: &mut Figures,
    say: &dyn Fn(&str),
) -> anyhow::Result<()> {
    // The same traffic with the same EHR away, but nothing waiting.
    let empty = Child::start(&dir.join("empty"), 1, NOBODY)?;
    let calm = acknowledgements(&empty)?;
    empty.stop()?;
    let data = dir.join("full");
    let filled = options.backlog;
    Child::fill(&data, filled, &|done| say(&format!("backlog: {done} of {filled} undelivered entries")))?;
    figures.backlog_entries = filled;
    say("backlog: start, search, acknowledgement");
    let gateway = Child::start(&data, 1, NOBODY)?;
    figures.start_to_listening_ms = ms(gateway.started());
    figures.backlog_ack_ratio = acknowledgements(&gateway)?.p50 / calm.p50;
    figures.search_ms = gateway.search_ms(&Child::filled_specimen(filled as u64 / 2))?;
    gateway.stop()?;

    let half = filled as u64 / 2;
    say("backlog: drain");
    (figures.peer_per_s, figures.drain_per_s) = drain(&data, sink, half.min(20_000))?;
    figures.drain_ratio = figures.drain_per_s / figures.peer_per_s;
    say("backlog: drain to an EHR that thinks");
    let thinking = sink::Sink::start(THINKING)?;
    let (direct, drained) = drain(&data, &thinking, half.min(4_000))?;
    figures.drain_thinking_ratio = drained / direct;
    Ok(())
}

/// Messages a second that an EHR takes directly, and out of this backlog.
fn drain(data: &Path, sink: &sink::Sink, enough: u64) -> anyhow::Result<(f64, f64)> {
    let direct = sink.direct_rate(Duration::from_secs(2))?;
    let before = sink.received();
    let gateway = Child::start(data, 1, sink.port())?;
    let began = Instant::now();
    while sink.received() - before < enough && began.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let drained = (sink.received() - before) as f64 / began.elapsed().as_secs_f64();
    gateway.stop()?;
    Ok((direct, drained))
}

/// Milliseconds of each frame's acknowledgement while one instrument sends message after message.
fn acknowledgements(gateway: &Child) -> anyhow::Result<Percentiles> {
    let mut acks = Vec::new();
    let mut instrument = client::Instrument::connect(gateway.port(0))?;
    for n in 0..LATENCY_MESSAGES {
        instrument.message(&format!("B-{n:05}"), 2, &mut acks)?;
    }
    Ok(Percentiles::of(acks))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
