//! Invariants I1, I4, I5, I6 and I7 under the worst there is: the gateway, the real program, is killed without warning
//! again and again while three instruments send and two destinations come and go. What was acknowledged must be in the
//! chart or held; nothing twice under two ids, nothing out of order, nothing unaccounted for.
//!
//! `AFFERENT_KILL_ROUNDS` sets the number of kills, `AFFERENT_SEED` repeats a run as far as a race can be repeated.

#[path = "support/verdict.rs"]
mod verdict;

use afferent::demo::stage::{Scenery, Stage};
use afferent::sim::ehr::Behaviour;
use afferent::sim::random::Random;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard};

/// One play at a time: two would only take each other's processor.
static TURN: Mutex<()> = Mutex::const_new(());
/// Kills, unless the environment says otherwise.
const ROUNDS: u64 = 200;
/// Of those in the run with TLS, one in this many.
const TLS_SHARE: u64 = 10;
/// The gateway lives this long in a round, in milliseconds.
const LIFE_MS: (usize, usize) = (10, 300);
/// With TLS it takes longer to get going.
const LIFE_TLS_MS: (usize, usize) = (100, 800);
/// The EHR is there, or away, this long at a time, in milliseconds.
const FLAP_MS: (usize, usize) = (100, 900);
/// Specimens a second of each instrument: enough that a death mostly interrupts something. About three messages a death
/// are repeated under their id; more would only take longer.
const RATE: f64 = 15.0;
/// The standard's 15 s are 150 ms: who waits for a reply that is never coming still gets something done in a round.
const TIME_SCALE: f64 = 0.01;
/// Everything that is left must arrive within this time.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);
/// A gateway that does not come to the wanted place by itself within this time never will.
const ABORT_TIMEOUT: Duration = Duration::from_secs(20);

/// How an EHR misbehaves all along: stores and does not say so.
const MIX: &str = "close=2,reset=2,half=1,ae=1";

/// The places between which everything happens, where a debug build can be made to die; see `src/journal/crash.rs`.
#[cfg(debug_assertions)]
const COMMIT_POINTS: [&str; 3] = ["before-commit", "after-commit", "after-answer"];
/// Passings at which it dies: each of the first, then further and further apart.
#[cfg(debug_assertions)]
const PASSINGS: [u32; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 17, 31, 59, 101];
/// The schema never has more steps.
#[cfg(debug_assertions)]
const MIGRATIONS_MAX: u32 = 100;

struct Play {
    stage: Stage,
    random: Random,
    seed: u64,
    life_ms: (usize, usize),
    /// Flapping: when the EHR changes next.
    change_at: Instant,
    _turn: MutexGuard<'static, ()>,
}

impl Play {
    async fn begin(tls: bool) -> Self {
        let turn = TURN.lock().await;
        let seed = number("AFFERENT_SEED").unwrap_or_else(|| jiff::Timestamp::now().as_microsecond() as u64);
        println!("AFFERENT_SEED={seed}");
        let scenery = Scenery {
            program: env!("CARGO_BIN_EXE_afferent").into(),
            dir: tempfile::Builder::new().prefix("afferent-durability-").tempdir().unwrap().keep(),
            tls,
            rate: RATE,
            time_scale: TIME_SCALE,
            mix: MIX.parse().unwrap(),
            seed,
        };
        let stage = Stage::set(scenery).await.unwrap();
        let life_ms = if tls { LIFE_TLS_MS } else { LIFE_MS };
        Play { stage, random: Random::new(seed), seed, life_ms, change_at: Instant::now(), _turn: turn }
    }

    /// Lets the gateway live for a random while; the EHR flaps meanwhile, if told to.
    async fn live(&mut self, flapping: bool) {
        let until = Instant::now() + self.draw(self.life_ms);
        while flapping && self.change_at < until {
            tokio::time::sleep_until(self.change_at.into()).await;
            let next = if self.stage.ehr_is_up() { Behaviour::Down } else { Behaviour::Ok };
            self.stage.ehr.behave(next);
            self.change_at = Instant::now() + self.draw(FLAP_MS);
        }
        tokio::time::sleep_until(until.into()).await;
        if !flapping {
            self.stage.ehr.behave(Behaviour::Ok);
        }
    }

    fn draw(&mut self, (least, most): (usize, usize)) -> Duration {
        Duration::from_millis((least + self.random.below(most - least)) as u64)
    }

    /// Ends the play with a gateway that is left alone, and judges it.
    async fn end(mut self, what: &str, deaths: u64, began: Instant) {
        self.stage.ehr.behave(Behaviour::Ok);
        self.stage.stop_instruments().await.unwrap();
        // One more death, so that no session that an instrument left in the middle is still open.
        self.stage.kill_gateway().await.unwrap();
        self.stage.start_gateway().await.unwrap();
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while !self.stage.drained().unwrap() {
            assert!(Instant::now() < deadline, "seed {}: the queue does not drain", self.seed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.stage.stop_gateway().await.unwrap();
        let figures = verdict::judge(&self.stage, &format!("{what}, seed {}", self.seed));
        let quietest = figures.messages.values().min().copied().unwrap_or(0);
        assert!(figures.messages.len() == 3 && quietest > deaths / 50, "hardly anything was tried: {figures:?}");
        println!("{what}: {deaths} deaths in {:.1} s; {figures}", began.elapsed().as_secs_f64());
        self.stage.strike();
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}

async fn kill_at_random(tls: bool, rounds: u64, what: &str) {
    let mut play = Play::begin(tls).await;
    let began = Instant::now();
    for round in 0..rounds {
        // A third with the EHR there, a third with it flapping, and again.
        play.live(round / 16 % 3 == 1).await;
        play.stage.kill_gateway().await.unwrap();
        play.stage.start_gateway().await.unwrap();
    }
    play.end(what, rounds, began).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_what_was_acknowledged_outlives_a_kill_at_any_moment() {
    kill_at_random(false, number("AFFERENT_KILL_ROUNDS").unwrap_or(ROUNDS), "killed at random").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_what_was_acknowledged_outlives_a_kill_with_tls_on_the_way_out() {
    let rounds = number("AFFERENT_KILL_ROUNDS").unwrap_or(ROUNDS) / TLS_SHARE;
    kill_at_random(true, rounds.max(1), "killed at random, TLS").await;
}

/// The moments that count are hit for certain here, not by luck: just before a commit, between a commit and the
/// answer, right after the answer, in the middle of recovery, and before the log is copied at a stop.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_what_was_acknowledged_outlives_a_death_at_every_persist_point() {
    let mut play = Play::begin(false).await;
    let began = Instant::now();
    let mut deaths = 0;
    let of_commits = PASSINGS.iter().flat_map(|passing| COMMIT_POINTS.map(|point| format!("{point}:{passing}")));
    for at in of_commits.chain(["recovery:1".to_string(), "recovery:1".to_string()]) {
        play.stage.kill_gateway().await.unwrap();
        play.stage.spawn_gateway(&[("AFFERENT_ABORT_AT", &at)]).unwrap();
        assert!(play.stage.gateway_ended(ABORT_TIMEOUT).await.unwrap(), "the gateway never came to {at}");
        deaths += 1;
        play.stage.start_gateway().await.unwrap();
        play.live(deaths % 3 == 1).await;
    }
    for _ in 0..3 {
        play.stage.kill_gateway().await.unwrap();
        play.stage.spawn_gateway(&[("AFFERENT_ABORT_AT", "checkpoint:1")]).unwrap();
        play.live(false).await;
        play.live(false).await;
        assert!(play.stage.stop_gateway().await.is_err(), "the gateway stopped in order");
        deaths += 1;
        play.stage.start_gateway().await.unwrap();
    }
    play.end("killed at every persist point", deaths, began).await;
}

#[cfg(debug_assertions)]
#[test]
fn a_death_in_the_middle_of_a_migration_is_made_good_by_the_next_start() {
    use afferent::journal;
    let dir = tempfile::tempdir().unwrap();
    let mut deaths = 0;
    for step in 1..=MIGRATIONS_MAX {
        let data = dir.path().join(format!("data-{step}"));
        let config = dir.path().join("gateway.toml");
        let text = format!(
            "[gateway]\nname = \"bench\"\ndata = {data:?}\n[[link]]\nname = \"dials-nobody\"\nprotocol = \"astm\"\n\
             dial = \"127.0.0.1:9\"\n[[destination]]\nname = \"away\"\naddress = \"127.0.0.1:9\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_afferent"))
            .args(["run", "--config"])
            .arg(&config)
            .env("AFFERENT_ABORT_AT", format!("migration:{step}"))
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let died = loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert_eq!(status.code(), None, "it ended in order before migration {step}");
                break true;
            }
            // The socket is made when everything has started, so this step does not exist.
            if data.join("control.sock").exists() {
                break false;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if !died {
            child.kill().unwrap();
            child.wait().unwrap();
            break;
        }
        deaths += 1;
        let opened = journal::Journal::open(&data, &journal::Config::default()).unwrap();
        assert_eq!(opened.reader().unwrap().stats(0).unwrap().account.missing(), 0);
        opened.close();
    }
    assert!(deaths > 0, "no migration was interrupted");
}
