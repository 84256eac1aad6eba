//! What many links cost in one process: memory a link, and processor time a result beside what one link costs.

use super::child::Child;
use super::{client, mib, ms};
use crate::driver::{Context, Registry, explain, guess_protocol};
use std::path::Path;
use std::time::{Duration, Instant};

/// Links of the crowd.
pub const LINKS: usize = 500;
/// Result records in a message, about what a blood count has.
const RESULTS: usize = 24;
/// Bytes of the long record: an instrument that sends its histogram along.
const RECORD_BYTES: usize = 45_000;
/// Previews of it, of which the median counts.
const PREVIEWS: usize = 15;

/// What was seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Resident memory that a connected link adds, in kB.
    pub memory_kb_per_link: f64,
    /// Processor time a frame takes with every link sending, over that with one.
    pub cpu_ratio: f64,
}

/// Runs a gateway with one link and one with [`LINKS`], both with instruments that send for `time`.
pub fn measure(dir: &Path, ehr: u16, time: Duration) -> anyhow::Result<Cost> {
    let one = load(&dir.join("one"), 1, ehr, time)?;
    let crowd = load(&dir.join("crowd"), LINKS, ehr, time)?;
    let memory_kb_per_link = (mib(crowd.rss) - mib(one.rss)) * 1024.0 / (LINKS - 1) as f64;
    Ok(Cost { memory_kb_per_link, cpu_ratio: crowd.cpu_per_frame / one.cpu_per_frame })
}

struct Load {
    cpu_per_frame: f64,
    rss: u64,
}

fn load(data: &Path, links: usize, ehr: u16, time: Duration) -> anyhow::Result<Load> {
    let gateway = Child::start(data, links, ehr)?;
    let before = gateway.cpu()?;
    let began = Instant::now();
    let rate = client::flood(gateway.ports(), RESULTS, 0, time)?;
    let frames = rate * began.elapsed().as_secs_f64();
    // What was acknowledged is interpreted and delivered as well: that is part of what a frame costs.
    gateway.settle()?;
    let cpu = gateway.cpu()?.saturating_sub(before);
    let quiet =
        (0..links).map(|link| client::Instrument::connect(gateway.port(link))).collect::<Result<Vec<_>, _>>()?;
    let rss = gateway.rss()?;
    drop(quiet);
    gateway.stop()?;
    Ok(Load { cpu_per_frame: cpu.as_secs_f64() / frames.max(1.0), rss })
}

/// Milliseconds, median, in which a message with one record of [`RECORD_BYTES`] finds its driver and every field of it
/// its place: what a preview shows.
pub fn preview_ms() -> f64 {
    let histogram: String = (0..RECORD_BYTES).map(|at| char::from(b'A' + (at % 26) as u8)).collect();
    let message = format!(
        "H|\\^&|||BENCH^1^1.0|||||||P|LIS2-A2|20260301120000\rP|1\rO|1|PREVIEW-1||^^^ALL|R\r\
         R|1|^^^WBC|7.41|10*3/uL|4.0 to 10.0|N||F||||20260301115500\r\
         R|2|^^^HISTOGRAM|{histogram}||||||F\rL|1|N\r"
    );
    let registry = Registry::builtin();
    let context = Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true };
    let took = (0..PREVIEWS).map(|_| {
        let began = Instant::now();
        let driver = registry.identify(guess_protocol(message.as_bytes()), message.as_bytes());
        std::hint::black_box(explain(driver, message.as_bytes(), &context));
        ms(began.elapsed())
    });
    super::Percentiles::of(took.collect()).p50
}
