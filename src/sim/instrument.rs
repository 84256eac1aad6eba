//! A simulated instrument: sends results as an analyzer with a result buffer would, again and again until they are
//! acknowledged, and misbehaves on request.
//!
//! A specimen counts as acknowledged when the gateway acknowledged its last frame (ASTM) or its message (HL7); until
//! then it is sent again, whole and in order. The ledger is the judge's side of the loss account: what is in it as
//! acknowledged must reach the chart or be held where a person sees it.

pub mod asking;
mod conversation;
mod device;
pub mod faults;
pub mod line;
pub mod results;
pub mod worklist;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::conversation::{Attempt, Letter, Mischief, attempt, hush};
use self::faults::{Fault, Faults};
use self::line::{Line, Plug, Stream};
use self::results::{MadeResult, Shape, Specimen};
use super::random::Random;
use super::transcript::{Step, spell};
use crate::wire::{Protocol, astm, mllp};

/// Pause after a failed attempt, scaled.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long a transcript waits for an answer, scaled.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// How long a transcript listens where it expects silence, scaled.
const SILENCE: Duration = Duration::from_millis(100);

/// What a simulated instrument is and does.
#[derive(Clone)]
pub struct Settings {
    /// Where it is plugged in.
    pub line: Line,
    /// What it speaks.
    pub protocol: Protocol,
    /// How its messages look.
    pub shape: Shape,
    /// How records are laid into ASTM frames.
    pub packing: astm::Packing,
    /// Text bytes in an ASTM frame.
    pub frame_text_max: usize,
    /// How many specimens; `None` goes on until it is stopped.
    pub count: Option<u64>,
    /// Number of the first specimen.
    pub first: u64,
    /// Specimens a second; `None` is as fast as they are acknowledged.
    pub rate: Option<f64>,
    /// Results in each specimen.
    pub results: usize,
    /// Share of specimens that are corrected right after, from 0 to 1.
    pub corrections: f64,
    /// What goes wrong.
    pub faults: Faults,
    /// Names the run: same seed, same traffic.
    pub seed: u64,
    /// Four characters that begin each specimen id.
    pub run: String,
    /// Shrinks every timer of the standard: 1 is real time, 0.04 makes 15 s into 0.6 s. The gateway's timers must be
    /// shrunk alike.
    pub time_scale: f64,
}

impl Settings {
    /// An instrument with a generic shape that sends without end, without faults, a tenth corrected.
    pub fn new(line: Line, protocol: Protocol) -> Self {
        Settings {
            line,
            protocol,
            shape: Shape::generic(),
            packing: astm::Packing::RecordPerFrame,
            frame_text_max: 240,
            count: None,
            first: 1,
            rate: None,
            results: 4,
            corrections: 0.1,
            faults: Faults::default(),
            seed: 1,
            run: "S001".to_owned(),
            time_scale: 1.0,
        }
    }
}

/// One line of the ledger.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Ledger {
    /// An attempt begins.
    Sent {
        /// What is sent.
        specimen: Specimen,
        /// Which attempt, from 1.
        attempt: u64,
    },
    /// The gateway acknowledged it: from here on it may not be lost.
    Acknowledged {
        /// Specimen id.
        id: String,
        /// 0, or 1 for the correction.
        version: u8,
        /// What must arrive.
        results: Vec<MadeResult>,
        /// From the first attempt to the acknowledgment.
        #[serde(skip)]
        took: Duration,
        /// When, by the monotonic clock of this process.
        #[serde(skip)]
        at: std::time::Instant,
    },
}

/// What an instrument did, for `--json`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Specimens and corrections that were begun.
    pub sent: u64,
    /// Those that were acknowledged.
    pub acknowledged: u64,
    /// Results in those.
    pub results_acknowledged: u64,
    /// Attempts to send them.
    pub attempts: u64,
    /// Refusals by the gateway.
    pub refusals: u64,
    /// Times the line went away.
    pub line_losses: u64,
    /// Answers no gateway may give; transcripts: answers that were not the expected ones.
    pub violations: u64,
    /// Faults committed, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// How long it ran.
    pub seconds: f64,
    /// Half of the messages were acknowledged within this time.
    pub ack_ms_p50: f64,
    /// All but one in a hundred were.
    pub ack_ms_p99: f64,
}

/// Runs an instrument until its specimens are acknowledged or `stop` turns true (or its sender is dropped).
///
/// The ledger is written before anything goes out, so that it never knows less than the gateway. A receiver that does
/// not keep up slows the instrument down.
///
/// # Errors
/// The line cannot be set up. A line that goes away is not an error: it is opened again.
pub async fn run(
    settings: Settings,
    ledger: Option<mpsc::Sender<Ledger>>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<Summary> {
    if settings.protocol == Protocol::Table {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "tables come in files, not over a line"));
    }
    let plug = Plug::new(settings.line.clone()).await?;
    let mut run = Run {
        random: Random::new(settings.seed),
        settings,
        ledger,
        summary: Summary::default(),
        took: Vec::new(),
        started: Instant::now(),
    };
    let sends = async {
        match run.settings.protocol {
            Protocol::Poct1a => run.device(plug).await,
            _ => run.everything(plug).await,
        }
    };
    tokio::select! {
        () = sends => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    Ok(run.finish())
}

/// Plays the instrument's side of transcripts over a line, each on the same connection, and compares the answers.
///
/// # Errors
/// The line cannot be set up, or went away.
pub async fn play(line: Line, transcripts: &[Vec<Step>], time_scale: f64) -> io::Result<Summary> {
    let plug = Plug::new(line).await?;
    let mut summary = Summary::default();
    let started = Instant::now();
    let mut io = plug.connect().await;
    for steps in transcripts {
        summary.sent += 1;
        summary.attempts += 1;
        let wrong = play_one(&mut *io, steps, time_scale).await?;
        summary.acknowledged += u64::from(wrong.is_empty());
        summary.violations += u64::try_from(wrong.len()).unwrap_or(u64::MAX);
        for mismatch in wrong {
            tracing::warn!("{mismatch}");
        }
    }
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(summary)
}

struct Run {
    settings: Settings,
    ledger: Option<mpsc::Sender<Ledger>>,
    random: Random,
    summary: Summary,
    took: Vec<Duration>,
    started: Instant,
}

/// The specimen or correction that is being delivered.
struct Job {
    specimen: Specimen,
    begun: Instant,
    tries: u64,
    /// When it was made: the same in every attempt, so that a retransmission is one.
    time: String,
}

impl Run {
    /// Connects, sends until the line goes away, and connects again.
    async fn everything(&mut self, plug: Plug) {
        let mut job = None;
        let mut number = self.settings.first;
        let can_cut = plug.can_be_cut();
        loop {
            let mut io = plug.connect().await;
            loop {
                let mut current = match job.take() {
                    Some(job) => job,
                    None if self.settings.count.is_some_and(|count| number >= self.settings.first + count) => return,
                    None => self.begin(number, 0).await,
                };
                let mut outcome = self.attempt(&mut *io, &mut current, can_cut).await;
                if let Ok(Attempt::Unanswered) = outcome {
                    outcome = hush(&mut *io, self.settings.time_scale).await.map(|()| Attempt::Failed);
                }
                match outcome {
                    Ok(Attempt::Acknowledged) => {
                        let first = current.specimen.version == 0;
                        self.acknowledge(current).await;
                        if first && self.random.chance(self.settings.corrections) {
                            job = Some(self.begin(number, 1).await);
                        } else {
                            number += 1;
                        }
                    }
                    Ok(Attempt::Failed | Attempt::Unanswered) => {
                        job = Some(current);
                        self.pause().await;
                    }
                    Err(_) => {
                        job = Some(current);
                        self.summary.line_losses += 1;
                        break;
                    }
                }
            }
            drop(io);
            self.pause().await;
        }
    }

    async fn begin(&mut self, number: u64, version: u8) -> Job {
        if let Some(rate) = self.settings.rate.filter(|rate| *rate > 0.0 && version == 0) {
            let due = (number - self.settings.first) as f64 / rate;
            tokio::time::sleep_until(self.started + Duration::from_secs_f64(due)).await;
        }
        let Settings { shape, run, seed, results, .. } = &self.settings;
        let specimen = results::make(shape, run, *seed, number, version, *results);
        self.summary.sent += 1;
        let time = jiff::Zoned::now().strftime("%Y%m%d%H%M%S").to_string();
        Job { specimen, begun: Instant::now(), tries: 0, time }
    }

    async fn attempt(&mut self, io: &mut dyn Stream, job: &mut Job, can_cut: bool) -> io::Result<Attempt> {
        job.tries += 1;
        self.summary.attempts += 1;
        let sent = Ledger::Sent { specimen: job.specimen.clone(), attempt: job.tries };
        self.note(sent).await;
        // Only first attempts go wrong, so that every specimen gets through in the end.
        let fault = match job.tries {
            1 => self.settings.faults.pick(&mut self.random, self.settings.protocol),
            _ => None,
        };
        if let Some(fault) = fault {
            *self.summary.faults.entry(fault.name()).or_default() += 1;
        }
        let letter = self.letter(job);
        let at = 1 + self.random.below(job.specimen.results.len() + 4);
        let at = if fault == Some(Fault::EnqInSession) { at.max(2) } else { at };
        let mischief = Mischief { fault, at, can_cut };
        let (outcome, seen) = attempt(io, letter, mischief, &mut self.random, self.settings.time_scale).await;
        self.summary.refusals += seen.refusals;
        self.summary.violations += seen.violations;
        outcome
    }

    fn letter(&self, job: &Job) -> Letter {
        let scale = self.settings.time_scale;
        let specimen = &job.specimen;
        match self.settings.protocol {
            Protocol::Astm => {
                let standard = astm::SenderConfig::default();
                let config = astm::SenderConfig {
                    packing: self.settings.packing,
                    frame_text_max: self.settings.frame_text_max,
                    reply_timeout: standard.reply_timeout.mul_f64(scale),
                    busy_wait: standard.busy_wait.mul_f64(scale),
                    contention_wait: Some(Duration::from_secs(1).mul_f64(scale)),
                    ..standard
                };
                Letter::Astm(astm::Sender::new(config), results::records(&self.settings.shape, specimen, &job.time))
            }
            Protocol::Lines => {
                let report = results::report(&self.settings.shape, specimen, &job.time);
                Letter::Block(results::report_framing().enclose(&report))
            }
            // A POCT1-A device has a conversation of its own, and `run` turns tables away.
            Protocol::Hl7 | Protocol::Poct1a | Protocol::Table => {
                let reply_timeout = mllp::SenderConfig::default().reply_timeout.mul_f64(scale);
                let control_id = format!("{}{}", specimen.id.replace('-', ""), specimen.version);
                let message = results::oru(&self.settings.shape, specimen, &control_id, &job.time);
                Letter::Hl7(mllp::Sender::new(mllp::SenderConfig { reply_timeout }), message)
            }
        }
    }

    async fn acknowledge(&mut self, job: Job) {
        let took = job.begun.elapsed();
        self.took.push(took);
        self.summary.acknowledged += 1;
        self.summary.results_acknowledged += u64::try_from(job.specimen.results.len()).unwrap_or_default();
        let Specimen { id, version, results, .. } = job.specimen;
        let at = std::time::Instant::now();
        self.note(Ledger::Acknowledged { id, version, results, took, at }).await;
    }

    async fn note(&mut self, line: Ledger) {
        if let Some(ledger) = &self.ledger
            && ledger.send(line).await.is_err()
        {
            // Nobody reads it any more.
            self.ledger = None;
        }
    }

    async fn pause(&self) {
        tokio::time::sleep(RETRY_PAUSE.mul_f64(self.settings.time_scale)).await;
    }

    fn finish(mut self) -> Summary {
        self.took.sort_unstable();
        let share = |percent: usize| {
            let at = (self.took.len() * percent / 100).min(self.took.len().saturating_sub(1));
            self.took.get(at).map_or(0.0, |took| (took.as_secs_f64() * 1e5).round() / 100.0)
        };
        (self.summary.ack_ms_p50, self.summary.ack_ms_p99) = (share(50), share(99));
        self.summary.seconds = (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        self.summary
    }
}

/// Plays one transcript; the mismatches in words.
async fn play_one(io: &mut dyn Stream, steps: &[Step], time_scale: f64) -> io::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Pause(time) => tokio::time::sleep(time.mul_f64(time_scale)).await,
            Step::Instrument(bytes) => {
                io.write_all(bytes).await?;
                io.flush().await?;
            }
            Step::Gateway(pattern) => {
                let mut got = Vec::new();
                let deadline = Instant::now() + ANSWER_MAX.mul_f64(time_scale);
                while !pattern.matches(&got) && read_some(io, &mut got, deadline).await? {}
                // Nothing more may come.
                read_some(io, &mut got, Instant::now() + SILENCE.mul_f64(time_scale)).await?;
                if !pattern.matches(&got) {
                    wrong.push(format!("step {}: not the answer in the transcript: {}", at + 1, spell(&got)));
                }
            }
        }
    }
    Ok(wrong)
}

/// Adds what comes until the deadline; false when nothing came.
async fn read_some(io: &mut dyn Stream, got: &mut Vec<u8>, deadline: Instant) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    match tokio::time::timeout_at(deadline, io.read(&mut buffer)).await {
        Err(_) => Ok(false),
        Ok(count) => {
            let bytes = buffer.get(..count?).unwrap_or_default();
            got.extend_from_slice(bytes);
            Ok(!bytes.is_empty())
        }
    }
}

#[cfg(test)]
mod tests;
