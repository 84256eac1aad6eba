//! Lab to chart while the broker of the fleet is not well (invariant I12): a gateway with `[fleet]` on a mosquitto as it is
//! shipped. Calm stretches and stretches with one kind of trouble take turns, so that both meet the same disk and the same
//! machine; in a calm one the box is connected.

use super::child::Child;
use super::client::Instrument;
use super::sink::Sink;
use super::{Options, Percentiles, ms};
use crate::sim::fleet::stage::{self, Mosquitto};
use anyhow::{anyhow, bail};
use serde::Serialize;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Each kind of trouble comes so often.
const ROUNDS: usize = 2;
/// Length of a stretch.
const STRETCH: Duration = Duration::from_secs(5);
/// A box that has just started is let in by then.
const COMES: Duration = Duration::from_secs(30);
/// After that it has told what it has to tell at first.
const SETTLES: Duration = Duration::from_secs(2);
/// How long a broker that flaps is there, and how long it is not; a broker that stalls goes on for as long in between.
const FLAP: Duration = Duration::from_millis(300);
/// How long a broker that is slow does nothing at a time.
const STALL: Duration = Duration::from_millis(900);

/// What a broker does.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// It is killed, and not there.
    Killed,
    /// It is killed and started again and again.
    Flapping,
    /// It stands still most of the time, with its connections open.
    Slow,
    /// It lets the box in and refuses all it says and wants to hear.
    Refusing,
}

const ALL: [Trouble; 4] = [Trouble::Killed, Trouble::Flapping, Trouble::Slow, Trouble::Refusing];

/// Lab to chart in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// With a broker that is well.
    pub calm_ms: Percentiles,
    /// With one that is not.
    pub chaos_ms: Percentiles,
    /// The 99th percentile of the latter over that of the former. At most 1.2 is wanted.
    pub chaos_ratio: f64,
    /// By kind of trouble.
    pub by_trouble_ms: Vec<(String, Percentiles)>,
    /// Messages in each of the two.
    pub messages: [usize; 2],
}

/// Takes the measurement, which takes two minutes. `say` is told what is being measured.
///
/// # Errors
/// Without mosquitto, or when the gateway under test does not deliver.
pub fn run(options: &Options, say: &dyn Fn(&str)) -> anyhow::Result<Figures> {
    let dir = options.dir.join(format!("afferent-bench-bus-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(&dir, say);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn measure(dir: &Path, say: &dyn Fn(&str)) -> anyhow::Result<Figures> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let folder = std::path::absolute(dir.join("fleet"))?;
    stage::make(&folder, 1, port).map_err(|error| anyhow!(error))?;
    let mut broker = Broker { rules: std::fs::read_to_string(folder.join("acl"))?, folder, port, running: None };
    broker.start()?;
    let name = stage::name(1);
    let fleet = format!(
        "[fleet]\nbroker = \"localhost:{port}\"\ntenant = \"{}\"\nmetrics_s = 5\n[fleet.tls]\n{}",
        stage::TENANT,
        toml::to_string(&stage::client(&broker.folder, &name))?
    );
    let sink = Sink::start(Duration::ZERO)?;
    let (mut calm, mut troubled) = (Vec::new(), vec![Vec::new(); ALL.len()]);
    for round in 1..=ROUNDS {
        for (trouble, samples) in ALL.into_iter().zip(&mut troubled) {
            // A box that has lost its broker comes back in its own time; one that has just started is there at once.
            let heard = broker.heard(&name)?;
            let gateway = Child::start_with(&dir.join(format!("{trouble:?}-{round}")), 1, sink.port(), "", &fleet)?;
            broker.hears(&name, heard)?;
            let mut line = Line { instrument: Instrument::connect(gateway.port(0))?, sink: &sink, sent: 0 };
            let not_yet = AtomicBool::new(false);
            line.stretch(Some(SETTLES), &not_yet)?;
            say(&format!("round {round} of {ROUNDS}: a broker that is well"));
            calm.extend(line.stretch(Some(STRETCH), &not_yet)?);
            say(&format!("round {round} of {ROUNDS}: {trouble:?}"));
            let over = AtomicBool::new(false);
            let took = std::thread::scope(|scope| {
                let line = scope.spawn(|| line.stretch(None, &over));
                let made = broker.makes(trouble);
                over.store(true, Ordering::Relaxed);
                let took = line.join().map_err(|_| anyhow!("the bench's instrument died"))?;
                made.and(took)
            })?;
            samples.extend(took);
            broker.recovers()?;
            gateway.stop()?;
        }
    }
    let messages = [calm.len(), troubled.iter().map(Vec::len).sum()];
    let by_trouble_ms = ALL.iter().zip(&troubled).map(|(t, took)| (format!("{t:?}"), Percentiles::of(took.clone())));
    let by_trouble_ms = by_trouble_ms.collect();
    let (calm_ms, chaos_ms) = (Percentiles::of(calm), Percentiles::of(troubled.concat()));
    Ok(Figures { calm_ms, chaos_ms, chaos_ratio: chaos_ms.p99 / calm_ms.p99, by_trouble_ms, messages })
}

/// One instrument at one end and the EHR at the other.
struct Line<'s> {
    instrument: Instrument,
    sink: &'s Sink,
    sent: usize,
}

impl Line<'_> {
    /// Message after message for so long, or until it is over: from the last frame leaving to the EHR, milliseconds.
    fn stretch(&mut self, length: Option<Duration>, over: &AtomicBool) -> anyhow::Result<Vec<f64>> {
        let (began, mut took) = (Instant::now(), Vec::new());
        while length.map_or_else(|| !over.load(Ordering::Relaxed), |length| began.elapsed() < length) {
            self.sent += 1;
            let specimen = format!("B-{:06}", self.sent);
            let left = self.instrument.message(&specimen, 2, &mut Vec::new())?;
            let arrived = self.sink.wait_for(&specimen, Duration::from_secs(10))?;
            took.push(ms(arrived.saturating_duration_since(left)));
        }
        Ok(took)
    }
}

/// The broker, as it is told to be.
struct Broker {
    folder: PathBuf,
    port: u16,
    rules: String,
    running: Option<Mosquitto>,
}

impl Broker {
    fn start(&mut self) -> anyhow::Result<()> {
        // The one before is gone first: it has the port.
        self.running = None;
        self.running = Some(Mosquitto::start(&self.folder, self.port).map_err(|error| anyhow!(error))?);
        Ok(())
    }

    /// Has this trouble for a stretch.
    fn makes(&mut self, trouble: Trouble) -> anyhow::Result<()> {
        let began = Instant::now();
        let rules = self.folder.join("acl");
        match trouble {
            Trouble::Killed => self.running = None,
            Trouble::Refusing => std::fs::write(rules, "# Nobody may say or hear anything.\n")?,
            Trouble::Flapping | Trouble::Slow => {}
        }
        if matches!(trouble, Trouble::Refusing) {
            self.start()?;
        }
        while began.elapsed() < STRETCH {
            let signal = |signal| self.running.iter().for_each(|broker| broker.signal(signal));
            match trouble {
                Trouble::Killed | Trouble::Refusing => {}
                Trouble::Flapping => {
                    self.running = None;
                    std::thread::sleep(FLAP);
                    self.start()?;
                }
                Trouble::Slow => {
                    signal(libc::SIGSTOP);
                    std::thread::sleep(STALL);
                    signal(libc::SIGCONT);
                }
            }
            std::thread::sleep(FLAP);
        }
        Ok(())
    }

    /// It is well again, as new.
    fn recovers(&mut self) -> anyhow::Result<()> {
        std::fs::write(self.folder.join("acl"), &self.rules)?;
        self.start()
    }

    /// How often this box was let in.
    fn heard(&self, name: &str) -> anyhow::Result<usize> {
        Ok(std::fs::read_to_string(self.folder.join("log"))?.matches(&format!(" as {name} ")).count())
    }

    /// Waits until it was let in more often than that.
    fn hears(&self, name: &str, before: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.heard(name)? <= before {
            if began.elapsed() > COMES {
                bail!("the box does not come to its broker: see {}", self.folder.join("log").display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}
