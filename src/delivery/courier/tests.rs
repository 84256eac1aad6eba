//! Days without an EHR, in the runtime's own time.

use super::*;
use crate::delivery::config::Protocol;
use crate::journal::{self, FiledReport, Filing, NewOutbound};
use crate::wire::{Persist, Token};
use std::collections::BTreeMap;
use std::sync::Mutex;

pub(in crate::delivery) const EHR: &str = "ehr";
/// How long the EHR is away.
const AWAY: Duration = Duration::from_secs(2 * 24 * 3600);
/// Time goes by in such steps while it is away, and in such while it comes and goes.
const STEP_AWAY: Duration = Duration::from_secs(5);
const STEP_FLAP: Duration = Duration::from_millis(20);
/// A claim, an attempt and a settlement follow from one another; none needs more answers from the journal.
const ROUND_TRIPS: usize = 3;
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);
pub(in crate::delivery) const LANES: usize = 5;
/// More than the loop may hold in memory.
const EACH: usize = HELD_MAX / LANES + 10;

fn counters() -> Arc<DeliveryCounters> {
    Arc::new(DeliveryCounters::new(EHR))
}

/// An EHR that is away for a while, or comes and goes.
#[derive(Clone)]
struct Fickle {
    began: Instant,
    is_there: fn(Duration) -> bool,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// When it was tried and nobody was there, since the beginning.
    failed: Vec<Duration>,
    /// What was delivered, in order.
    delivered: Vec<String>,
}

impl Destination for Fickle {
    async fn deliver(&mut self, message_id: &str, _body: &[u8]) -> Outcome {
        // A refused connection takes a moment as well.
        sleep(Duration::from_millis(1)).await;
        let at = now() - self.began;
        let mut seen = self.seen.lock().unwrap();
        if (self.is_there)(at) {
            seen.delivered.push(message_id.to_string());
            return Outcome::Delivered { answer: "AA".to_string() };
        }
        seen.failed.push(at);
        Outcome::unreachable("connection refused")
    }
}

/// Queues `EACH` messages in each of `LANES` lanes and runs the loop until all are delivered, time going by in steps.
async fn run_until_drained(step: Duration, is_there: fn(Duration) -> bool) -> (Seen, Duration) {
    // Time must stand still while the journal's thread, which knows nothing of it, works. A blocking task sees to it.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let brake = tokio::task::spawn_blocking(move || held.recv().is_ok());
    let dir = tempfile::tempdir().unwrap();
    let settings = journal::Config { free_min_mb: 0, ..journal::Config::default() };
    let journal = Journal::open(dir.path(), &settings).unwrap();
    for n in 0..EACH {
        queue(&journal, n).await;
    }
    let config = Config {
        retry_min_ms: RETRY_MIN.as_millis() as u64,
        retry_max_ms: RETRY_MAX.as_millis() as u64,
        attempts_max: 1,
        ..Config::new(EHR, Protocol::Mllp)
    };
    let fickle = Fickle { began: now(), is_there, seen: Arc::default() };
    let (stop, stopped) = watch::channel(false);
    let connect = {
        let fickle = fickle.clone();
        move || fickle.clone()
    };
    let running =
        tokio::spawn(run(Arc::new(config), journal.clone(), TimeZone::UTC, stopped, None, counters(), connect));
    let reader = journal.reader().unwrap();
    while fickle.seen.lock().unwrap().delivered.len() < LANES * EACH {
        tokio::time::advance(step).await;
        // What the loop asks of the journal is answered before this is: then everything has come to rest.
        for _ in 0..ROUND_TRIPS {
            journal.next_due(EHR).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
    let took = now() - fickle.began;
    stop.send_replace(true);
    running.await.unwrap();
    release.send(()).unwrap();
    brake.await.unwrap();
    let account = reader.account().unwrap();
    assert_eq!((account.delivered, account.missing()), ((LANES * EACH) as i64, 0), "an outage parks and loses nothing");
    journal.close();
    let seen = std::mem::take(&mut *fickle.seen.lock().unwrap());
    (seen, took)
}

/// One entry with one report in each lane.
pub(in crate::delivery) async fn queue(journal: &Journal, n: usize) {
    let part = Persist { token: Token(1), session: n as u64, bytes: vec![b'x'], completes: true, identity: None };
    journal.persist("chemistry", 1, part).await.unwrap();
    let entry = journal.reader().unwrap().pending_entries(1).unwrap().remove(0).id;
    let report = |lane: usize| FiledReport {
        answered: Vec::new(),
        orders_as_of: 0,
        subject_key: format!("{lane} {n}").into_bytes(),
        content_key: b"8.0".to_vec(),
        completed_at_s: None,
        repeat_of: None,
        lookups: Vec::new(),
        json: b"{}".to_vec(),
        results: 1,
        decisions: String::new(),
        holds: Vec::new(),
        outbox: vec![NewOutbound {
            destination: EHR.to_string(),
            lane: format!("lane {lane}"),
            message_id: format!("{lane} {n:03}"),
            body: b"MSH".to_vec(),
            results: 1,
            charted: Vec::new(),
        }],
    };
    let filing = Filing {
        entry,
        driver: "test@1".to_string(),
        inbound_results: LANES as u32,
        refused: Vec::new(),
        reports: (0..LANES).map(report).collect(),
        covers: Vec::new(),
        placement: None,
    };
    journal.file(filing).unwrap();
}

fn assert_every_lane_in_order_and_once(delivered: &[String]) {
    for lane in 0..LANES {
        let of_lane = delivered.iter().filter(|id| id.starts_with(&format!("{lane} ")));
        let expected = (0..EACH).map(|n| format!("{lane} {n:03}"));
        assert!(of_lane.cloned().eq(expected), "lane {lane} is not whole, or not in order");
    }
}

#[tokio::test(start_paused = true)]
async fn days_without_an_ehr_cost_a_bounded_number_of_attempts_and_nothing_else() {
    let (seen, _) = run_until_drained(STEP_AWAY, |at| at >= AWAY).await;
    assert_every_lane_in_order_and_once(&seen.delivered);
    let attempts = seen.failed.len() as u128;
    let fewest = AWAY.as_millis() / RETRY_MAX.as_millis();
    assert!((fewest..=fewest * 2 + 20).contains(&attempts), "{attempts} attempts in {AWAY:?}");
    let pauses = seen.failed.windows(2).map(|pair| pair[1] - pair[0]);
    let longest = pauses.clone().max().unwrap();
    // The back-off's own bound, and what the steps are too coarse for: the end of the pause, a claim, the attempt.
    assert!(longest <= RETRY_MAX + STEP_AWAY * 4, "{longest:?} between two attempts");
    // Once it has grown it stays: an EHR that is away is not knocked at more often as time goes by.
    let shortest = pauses.skip(10).min().unwrap();
    assert!(shortest >= RETRY_MAX / 2 - STEP_AWAY, "{shortest:?} between two attempts");
}

#[tokio::test(start_paused = true)]
async fn an_ehr_that_comes_and_goes_gets_everything_once_and_in_order() {
    // There for 300 ms, away for 1.1 s, again and again.
    let (seen, took) = run_until_drained(STEP_FLAP, |at| at.as_millis() % 1400 < 300).await;
    assert_every_lane_in_order_and_once(&seen.delivered);
    assert!(!seen.failed.is_empty());
    assert!(took < Duration::from_secs(2 * 3600), "{took:?} for a queue that is short");
}

/// Has no room for a message at first, and then refuses it, in a way that is not believed at once.
#[derive(Clone, Default)]
struct Doubtful(Arc<Mutex<BTreeMap<String, u32>>>);

/// So often there is no room for a message.
const SHORT_OF_ROOM: u32 = 5;

impl Destination for Doubtful {
    async fn deliver(&mut self, message_id: &str, _body: &[u8]) -> Outcome {
        let mut tries = self.0.lock().unwrap();
        let tries = tries.entry(message_id.to_string()).or_default();
        *tries += 1;
        match *tries <= SHORT_OF_ROOM {
            true => Outcome::Retry { reason: "A700 out of resources".to_owned(), after: None, scope: Scope::Lane },
            false => Outcome::Doubted { reason: "C000 cannot understand".to_owned() },
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_doubted_refusal_is_tried_three_times_and_then_parked() {
    let dir = tempfile::tempdir().unwrap();
    let settings = journal::Config { free_min_mb: 0, ..journal::Config::default() };
    let journal = Journal::open(dir.path(), &settings).unwrap();
    queue(&journal, 0).await;
    let config = Config { retry_min_ms: 10, retry_max_ms: 20, ..Config::new(EHR, Protocol::Mllp) };
    let tries = Doubtful::default();
    let (stop, stopped) = watch::channel(false);
    let doubtful = tries.clone();
    let running =
        tokio::spawn(run(Arc::new(config), journal.clone(), TimeZone::UTC, stopped, None, counters(), move || {
            doubtful.clone()
        }));
    let reader = journal.reader().unwrap();
    let began = std::time::Instant::now();
    while reader.account().unwrap().parked < LANES as i64 {
        assert!(began.elapsed() < Duration::from_secs(60), "not parked: {:?}", reader.account().unwrap());
        // Pauses of lanes run on the journal's own clock.
        std::thread::sleep(Duration::from_millis(5));
        tokio::time::advance(Duration::from_millis(1100)).await;
        journal.next_due(EHR).await.unwrap();
        tokio::task::yield_now().await;
    }
    stop.send_replace(true);
    running.await.unwrap();
    let tries = tries.0.lock().unwrap();
    assert_eq!(tries.len(), LANES);
    assert!(tries.values().all(|tries| *tries == SHORT_OF_ROOM + DOUBTED_TRIES), "{tries:?}");
    journal.close();
}
