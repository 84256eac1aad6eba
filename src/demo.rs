//! `afferent demo`: the whole promise in half a minute, on real parts.
//!
//! The gateway runs as a child process, this very binary, on a journal of its own. Three simulated instruments feed it
//! (a pseudo terminal, TCP and MLLP), a simulated EHR takes the results (HL7 over MLLP with mutual TLS, FHIR over
//! HTTPS, certificates made on the spot). In the middle the EHR goes away, the gateway is killed without warning and
//! started again, and the EHR comes back. At the end the instruments' own record of what was acknowledged is compared
//! with what the EHR really holds.

pub mod account;
pub mod stage;

use crate::sim::ehr::{Behaviour, Mix};
use account::Tally;
use anyhow::Context;
use serde::Serialize;
use stage::{Scenery, Stage};
use std::time::{Duration, Instant};

/// The shortest demo in which everything has time to happen.
const SECONDS_MIN: u64 = 8;
/// The longest; it must end by itself within a minute.
const SECONDS_MAX: u64 = 50;
/// Specimens a second of one instrument.
const RATE: f64 = 6.0;
/// The instruments' timers are shrunk by this.
const TIME_SCALE: f64 = 0.04;
/// After the instruments stopped, the last results have this long to arrive.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(9);
/// How often the screen is brought up to date.
const TICK: Duration = Duration::from_millis(250);

/// How the demo ended. The last line of `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Results the instruments sent.
    pub sent: u64,
    /// Results the gateway acknowledged.
    pub acknowledged: u64,
    /// Of those, results that every destination holds.
    pub delivered: u64,
    /// Of those, results the gateway shows as held, with a reason.
    pub held: u64,
    /// Of those, results that are nowhere. Must be 0.
    pub lost: u64,
    /// Results a destination got twice under different message ids. Must be 0.
    pub duplicated: u64,
    /// Corrections that arrived before what they correct. Must be 0.
    pub reordered: u64,
    /// Messages sent again under the same id after an interruption, which a receiver recognises.
    pub repeated_same_id: u64,
    /// From custody to the EHR's acknowledgement, outage included.
    pub lab_to_chart_ms: Percentiles,
    /// The same for results of the calm time before the outage.
    pub lab_to_chart_calm_ms: Percentiles,
    /// How long the gateway was gone when it was killed, in milliseconds.
    pub restart_ms: u64,
    /// How long the EHR was away, in milliseconds.
    pub outage_ms: u64,
    /// What does not balance, by specimen; empty when everything does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub complaints: Vec<String>,
    /// True when acknowledged = delivered + held and nothing is lost, doubled or out of order.
    pub balanced: bool,
}

/// Median and 99th percentile, milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
}

/// What a spectator sees. The terminal and `--json` differ only here.
pub trait Audience {
    /// Something happened.
    fn event(&self, at: Duration, text: &str);
    /// The figures now.
    fn figures(&self, at: Duration, total: Duration, tally: &Tally, ehr_up: bool);
}

/// Plays the demo for `seconds`.
pub async fn play(seconds: u64, audience: &dyn Audience) -> anyhow::Result<Outcome> {
    let total = Duration::from_secs(seconds.clamp(SECONDS_MIN, SECONDS_MAX));
    let began = Instant::now();
    let share = |percent: u32| total * percent / 100;
    let mut stage = Stage::set(scenery()?).await?;
    audience.event(began.elapsed(), "gateway started; three instruments send, two destinations receive over TLS");

    watch(&stage, audience, began, total, share(25)).await;
    let calm = stage.tally().latencies();
    stage.ehr.behave(Behaviour::Down);
    let away = Instant::now();
    audience.event(began.elapsed(), "the EHR is gone; instruments notice nothing");

    watch(&stage, audience, began, total, share(45)).await;
    let killed = Instant::now();
    stage.kill_gateway().await?;
    audience.event(began.elapsed(), "the gateway was killed (SIGKILL) in the middle of its work");
    stage.start_gateway().await?;
    let restart = killed.elapsed();
    audience.event(began.elapsed(), &format!("started again after {} ms", restart.as_millis()));

    watch(&stage, audience, began, total, share(60)).await;
    stage.ehr.behave(Behaviour::Ok);
    let outage = away.elapsed();
    audience.event(began.elapsed(), "the EHR is back; the queue drains, in order");

    watch(&stage, audience, began, total, share(80)).await;
    stage.stop_instruments().await?;
    audience.event(began.elapsed(), "the instruments stopped; the last results arrive");
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    while Instant::now() < deadline && !stage.drained()? {
        tokio::time::sleep(TICK).await;
        audience.figures(began.elapsed(), total, &stage.tally(), true);
    }
    stage.stop_gateway().await?;

    let (held, all) = stage.held_and_latency()?;
    let tally = stage.tally();
    let mut outcome = tally.outcome(&held);
    outcome.lab_to_chart_ms = all;
    outcome.lab_to_chart_calm_ms = calm;
    outcome.restart_ms = restart.as_millis() as u64;
    outcome.outage_ms = outage.as_millis() as u64;
    if outcome.balanced {
        stage.strike();
    } else {
        let kept = format!("it does not balance; everything is kept for a look in {}", stage.dir().display());
        audience.event(began.elapsed(), &kept);
    }
    Ok(outcome)
}

fn scenery() -> anyhow::Result<Scenery> {
    Ok(Scenery {
        // Emulated, this program cannot be started but by what emulates it.
        program: std::env::var_os("AFFERENT_PROGRAM")
            .map_or_else(std::env::current_exe, |program| Ok(program.into()))
            .context("cannot find this program")?,
        dir: std::env::temp_dir().join(format!("afferent-demo-{}", std::process::id())),
        tls: true,
        rate: RATE,
        time_scale: TIME_SCALE,
        mix: Mix::default(),
        seed: 1,
    })
}

/// Shows the figures until `until` after the beginning.
async fn watch(stage: &Stage, audience: &dyn Audience, began: Instant, total: Duration, until: Duration) {
    while began.elapsed() < until {
        tokio::time::sleep(TICK.min(until.saturating_sub(began.elapsed()))).await;
        audience.figures(began.elapsed(), total, &stage.tally(), stage.ehr_is_up());
    }
}
