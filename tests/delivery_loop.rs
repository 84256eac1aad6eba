//! The delivery loop between a real journal and a simulated EHR: nothing lost, nothing out of order, nothing parked
//! that should not be, and nothing waiting that could go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use afferent::delivery::config::{Config, OnReject, Protocol};
use afferent::delivery::{self};
use afferent::journal::{self, FiledReport, Filing, Journal, NewOutbound};
use afferent::sim::ehr::{Arrival, Behaviour, Ehr, EhrOptions};
use afferent::wire::{Persist, Token};
use jiff::tz::TimeZone;
use tokio::sync::watch;

const EHR: &str = "ehr";
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A journal with an outbox, and the loop that empties it.
struct Bench {
    journal: Journal,
    ehr: Ehr,
    stop: watch::Sender<bool>,
    config: Config,
    entries: u64,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new(ehr: EhrOptions, config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = journal::Config { free_min_mb: 0, ..journal::Config::default() };
        let journal = Journal::open(dir.path(), &settings).unwrap();
        let ehr = Ehr::start(EhrOptions { mllp: Some("127.0.0.1:0".into()), ..ehr }).await.unwrap();
        let address = ehr.mllp().map(|a| a.to_string());
        let config = Config { address, ..config };
        Bench { journal, ehr, stop: watch::Sender::new(false), config, entries: 0, _dir: dir }
    }

    fn start(&self) -> tokio::task::JoinHandle<()> {
        delivery::start(self.config.clone(), self.journal.clone(), TimeZone::UTC, self.stop.subscribe()).unwrap().1
    }

    /// Takes a message into custody and files it for the EHR, in this lane.
    async fn queue(&mut self, lane: &str, id: &str) {
        self.entries += 1;
        let part = Persist {
            token: Token(self.entries),
            session: self.entries,
            bytes: id.as_bytes().to_vec(),
            completes: true,
            identity: None,
        };
        self.journal.persist("chemistry", 1, part).await.unwrap();
        let entry = self.journal.reader().unwrap().pending_entries(1).unwrap().remove(0).id;
        let outbound = NewOutbound {
            destination: EHR.into(),
            lane: lane.into(),
            message_id: id.into(),
            body: oru(id),
            results: 1,
            charted: Vec::new(),
        };
        let report = FiledReport {
            answered: Vec::new(),
            orders_as_of: 0,
            subject_key: id.into(),
            content_key: b"8.0".to_vec(),
            completed_at_s: None,
            repeat_of: None,
            lookups: Vec::new(),
            json: b"{}".to_vec(),
            results: 1,
            decisions: String::new(),
            holds: Vec::new(),
            outbox: vec![outbound],
        };
        let filing = Filing {
            entry,
            driver: "test@1".into(),
            inbound_results: 1,
            refused: Vec::new(),
            reports: vec![report],
            covers: Vec::new(),
            placement: None,
        };
        self.journal.file(filing).unwrap();
    }

    /// Waits until the account says so many results are delivered and parked.
    async fn wait_for(&self, delivered: i64, parked: i64) {
        let reader = self.journal.reader().unwrap();
        let start = Instant::now();
        loop {
            let account = reader.account().unwrap();
            if (account.delivered, account.parked) == (delivered, parked) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "wanted {delivered} delivered and {parked} parked, got {account:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ids of the messages in the chart, in the order in which they first came.
    fn chart(&self) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        for Arrival { message_id, stored, .. } in self.ehr.arrivals() {
            if stored && !ids.contains(&message_id) {
                ids.push(message_id);
            }
        }
        ids
    }
}

fn oru(id: &str) -> Vec<u8> {
    format!("MSH|^~\\&|GW|LAB|EHR|HOSP|20260101||ORU^R01^ORU_R01|{id}|P|2.5.1\rOBX|1|NM|x||8.0\r").into_bytes()
}

fn quick() -> Config {
    Config {
        retry_min_ms: 10,
        retry_max_ms: 100,
        ack_timeout_ms: 100,
        connect_timeout_ms: 500,
        ..Config::new(EHR, Protocol::Mllp)
    }
}

#[tokio::test]
async fn i6_every_lane_keeps_its_order_and_nothing_is_lost_however_the_ehr_answers() {
    const LANES: usize = 4;
    const EACH: usize = 15;
    for seed in [1, 2, 3] {
        let mix = "ae=8,close=4,reset=4,half=4,wrong-id=4,stale-id=4,no-msa=4,garbage=4,noise=4,hang=2,lose=2,\
                   twice=4,late:5=4,split=4,slow:20=4";
        let options = EhrOptions { mix: mix.parse().unwrap(), seed, ..EhrOptions::default() };
        let mut bench = Bench::new(options, Config { connections: 3, ..quick() }).await;
        let running = bench.start();
        for n in 0..EACH {
            for lane in 0..LANES {
                bench.queue(&format!("lane {lane}"), &format!("L{lane}-{n:02}")).await;
            }
        }
        bench.wait_for((LANES * EACH) as i64, 0).await;
        let mut by_lane: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for id in bench.chart() {
            by_lane.entry(id[..2].to_owned()).or_default().push(id);
        }
        for (lane, ids) in by_lane {
            let expected: Vec<String> = (0..EACH).map(|n| format!("{lane}-{n:02}")).collect();
            assert_eq!(ids, expected, "seed {seed}");
        }
        assert_eq!(bench.ehr.account().conflicting, 0, "seed {seed}");
        bench.stop.send_replace(true);
        running.await.unwrap();
    }
}

#[tokio::test]
async fn an_outage_parks_nothing_and_ends_when_the_ehr_is_back() {
    let options = EhrOptions { script: "0:down".parse().unwrap(), ..EhrOptions::default() };
    let mut bench = Bench::new(options, Config { attempts_max: 1, ..quick() }).await;
    let _running = bench.start();
    for n in 0..3 {
        bench.queue("specimen", &format!("M{n}")).await;
    }
    for outage in [Behaviour::Lose, Behaviour::Down] {
        bench.ehr.behave(outage);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    bench.ehr.behave(Behaviour::Ok);
    let back = Instant::now();
    bench.wait_for(3, 0).await;
    // The longest pause is 100 ms here.
    assert!(back.elapsed() < Duration::from_millis(900), "took {:?} to recover", back.elapsed());
    assert_eq!(bench.chart(), ["M0", "M1", "M2"]);
}

#[tokio::test]
async fn a_refused_message_is_parked_and_its_lane_goes_on() {
    let mut bench = Bench::new(EhrOptions::default(), quick()).await;
    bench.ehr.behave("ar:203".parse().unwrap());
    bench.queue("specimen", "A").await;
    let _running = bench.start();
    bench.wait_for(0, 1).await;
    bench.ehr.behave(Behaviour::Ok);
    bench.queue("specimen", "B").await;
    bench.wait_for(1, 1).await;
    assert_eq!(bench.chart(), ["B"]);
}

#[tokio::test]
async fn a_held_lane_waits_for_its_head_and_no_other_lane_does() {
    let config = Config { on_reject: OnReject::HoldLane, ..quick() };
    let mut bench = Bench::new(EhrOptions::default(), config).await;
    bench.ehr.behave("ar:203".parse().unwrap());
    bench.queue("one", "A").await;
    bench.queue("one", "B").await;
    let _running = bench.start();
    while bench.ehr.account().arrived < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.wait_for(0, 0).await;
    assert!(bench.ehr.arrivals().iter().all(|a| a.message_id == "A"), "B must not overtake A");
    bench.ehr.behave(Behaviour::Ok);
    bench.wait_for(2, 0).await;
    assert_eq!(bench.chart(), ["A", "B"]);
}

#[tokio::test]
async fn a_message_turned_down_too_often_is_parked() {
    let mut bench = Bench::new(EhrOptions::default(), Config { attempts_max: 3, ..quick() }).await;
    bench.ehr.behave(Behaviour::Ae(None));
    bench.queue("specimen", "A").await;
    let _running = bench.start();
    bench.wait_for(0, 1).await;
    assert_eq!(bench.ehr.account().arrived, 3);
    let reason = bench.journal.reader().unwrap().parked(1).unwrap().remove(0).reason;
    assert!(reason.starts_with("AE") && reason.ends_with("(turned down 3 times)"), "{reason}");
}

#[tokio::test]
async fn a_message_its_receiver_chokes_on_stops_only_its_own_lane_and_is_parked_in_the_end() {
    let mut bench = Bench::new(EhrOptions::default(), Config { attempts_max: 4, ..quick() }).await;
    bench.ehr.behave_for("POISON", Behaviour::Reset);
    bench.queue("one", "POISON").await;
    bench.queue("one", "BEHIND").await;
    for n in 0..10 {
        bench.queue(&format!("lane {n}"), &format!("M{n}")).await;
    }
    let _running = bench.start();
    bench.wait_for(10, 0).await;
    // Only what gets through in the meantime shows that the message is to blame and not the receiver.
    for n in 10..30 {
        bench.queue(&format!("lane {n}"), &format!("M{n}")).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    bench.wait_for(31, 1).await;
    assert_eq!(bench.chart().iter().filter(|id| *id == "BEHIND").count(), 1);
}

#[tokio::test]
async fn i5_after_a_restart_the_same_bytes_go_out_under_the_same_id() {
    let mut bench = Bench::new(EhrOptions { keep_bodies: true, ..EhrOptions::default() }, quick()).await;
    bench.ehr.behave(Behaviour::Close);
    bench.queue("specimen", "A").await;
    let running = bench.start();
    while bench.ehr.account().arrived == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.stop.send_replace(true);
    running.await.unwrap();
    bench.stop.send_replace(false);
    bench.ehr.behave(Behaviour::Ok);
    // The journal of a real restart forgets who held what; here the loop gave nothing back, so it is opened again.
    let Bench { journal, ehr, stop, config, entries, _dir } = bench;
    journal.close();
    let settings = journal::Config { free_min_mb: 0, ..journal::Config::default() };
    let journal = Journal::open(_dir.path(), &settings).unwrap();
    let bench = Bench { journal, ehr, stop, config, entries, _dir };
    let _running = bench.start();
    bench.wait_for(1, 0).await;
    let account = bench.ehr.account();
    assert_eq!((account.stored, account.conflicting), (1, 0));
    assert!(account.repeated >= 1);
    assert!(bench.ehr.arrivals().iter().all(|a| a.body == oru("A")));
}

#[tokio::test]
async fn a_stop_notes_the_answer_that_is_under_way() {
    let mut bench = Bench::new(EhrOptions::default(), Config { ack_timeout_ms: 2000, ..quick() }).await;
    bench.ehr.behave(Behaviour::Slow(Duration::from_millis(200)));
    bench.queue("specimen", "A").await;
    let running = bench.start();
    while bench.ehr.account().arrived == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.stop.send_replace(true);
    running.await.unwrap();
    assert_eq!(bench.journal.reader().unwrap().account().unwrap().delivered, 1);
}
