//! The machine with a clock of its own, and its file with processes that die.

use super::log::Log;
use super::*;
use crate::desk::Said;
use crate::desk::roster::{Roster, SILENT_AFTER};
use crate::fleet::bus::Receipt;
use crate::fleet::topic::{Place, Up};
use crate::sim::random::Random;
use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

const BEGAN: i64 = 1_790_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(BEGAN + seconds).unwrap()
}

fn plan(rings: &[usize]) -> Plan {
    let mut n = 0;
    let mut name = || {
        n += 1;
        format!("bench-{n}")
    };
    let rings = rings.iter().enumerate();
    let rings = rings.map(|(ring, boxes)| Ring { ring: ring as u32, boxes: (0..*boxes).map(|_| name()).collect() });
    Plan {
        name: "restart".into(),
        made: at(0),
        signed_by: vec!["ops-1".into()],
        change: Change::Command { operation: Operation::Restart },
        rings: rings.collect(),
        batch: 3,
        wait_s: 60,
        silent_s: 300,
        success_percent: 90,
        failure_percent: 10,
    }
}

fn told(name: &str) -> What {
    let before = Before::default();
    What::Told { gateway: name.into(), id: name.into(), document: String::new(), before }
}

/// Boxes that answer at once as they are made to, and a clock that goes on when there is nothing to do.
struct World {
    rollout: Rollout,
    now: i64,
    told: Vec<String>,
    bad: HashSet<String>,
    silent: HashSet<String>,
    away: HashSet<String>,
    unusual: HashSet<String>,
    coming: HashSet<String>,
    unheard: HashSet<String>,
}

impl Rollout {
    /// The next moment at which `steps` says something else by time alone.
    fn wakes(&self) -> Option<Timestamp> {
        if self.over.is_some() {
            return None;
        }
        let silent_s = SignedDuration::from_secs(self.plan.silent_s.into());
        let silent = self.in_flight().map(|(_, at)| at + silent_s);
        let wait = self.ring_ended.map(|at| at + SignedDuration::from_secs(self.plan.wait_s.into()));
        let counts = self.counts(self.ring);
        let away = (counts.told == 0 && counts.waiting + counts.ready > 0).then_some(self.last + silent_s);
        silent.chain(wait).chain(away).min()
    }
}

impl World {
    fn new(plan: Plan) -> World {
        let none = HashSet::new;
        World {
            rollout: Rollout::new(plan),
            now: 0,
            told: Vec::new(),
            bad: none(),
            silent: none(),
            away: none(),
            unusual: none(),
            coming: none(),
            unheard: none(),
        }
    }

    fn note(&mut self, what: What) {
        self.rollout.apply(Record { at: at(self.now), what });
    }

    /// Does what is to be done now. False when there is nothing.
    fn step(&mut self) -> bool {
        let is = |name: &str| match (self.away.contains(name), self.unusual.contains(name)) {
            _ if self.coming.contains(name) => Now::Coming,
            _ if self.unheard.contains(name) => Now::Unheard,
            (true, _) => Now::Away,
            (false, true) => Now::Unusual("silence of chemistry".into()),
            (false, false) => Now::Well,
        };
        let steps = self.rollout.steps(at(self.now), is);
        for step in &steps {
            match step {
                Step::Note(what) => self.note(what.clone()),
                Step::Tell(name) => {
                    self.told.push(name.clone());
                    self.note(told(name));
                }
            }
        }
        let told = self.rollout.in_flight().filter(|(name, _)| !self.silent.contains(*name));
        let answering: Vec<String> = told.map(|(name, _)| name.to_string()).collect();
        let is_idle = steps.is_empty() && answering.is_empty();
        for name in answering {
            let is_update = matches!(self.rollout.plan().change, Change::Update { .. });
            if is_update && !self.rollout.has_fetched(&name) {
                self.note(What::Ready { gateway: name });
                continue;
            }
            let failure = self.bad.contains(&name).then(|| "failed".to_string());
            self.note(What::Ended { gateway: name, failure });
        }
        !is_idle
    }

    fn run(&mut self) -> Stage {
        for _ in 0..10_000 {
            if !self.step() {
                match self.rollout.wakes() {
                    Some(next) if self.rollout.stage() == Stage::Running => self.now = next.as_second() - BEGAN,
                    _ => return self.rollout.stage(),
                }
            }
        }
        panic!("it does not end: {:?}", self.rollout);
    }
}

#[test]
fn rings_come_in_order_and_no_more_than_a_batch_at_once() {
    let mut world = World::new(plan(&[2, 10, 5]));
    world.silent = world.rollout.boxes.keys().cloned().collect();
    world.step();
    assert_eq!(world.told, ["bench-1", "bench-2"], "the first ring and nobody else");
    world.silent.clear();
    assert_eq!(world.run(), Stage::Finished);
    assert_eq!(world.told.len(), 17);
    let numbers: Vec<usize> = world.told.iter().map(|name| name[6..].parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert!(world.now >= 3 * 60, "each ring was watched for a minute");

    let mut world = World::new(plan(&[10]));
    world.silent = world.rollout.boxes.keys().cloned().collect();
    world.step();
    world.step();
    assert_eq!(world.told.len(), 3);
}

#[test]
fn too_many_failures_stop_it_before_another_box_is_told() {
    let mut world = World::new(plan(&[10, 10]));
    world.bad = ["bench-2".to_string()].into();
    assert_eq!(world.run(), Stage::Finished, "one of ten may fail");
    let mut world = World::new(plan(&[10, 10]));
    world.bad = ["bench-2", "bench-3"].map(str::to_string).into();
    assert_eq!(world.run(), Stage::Stopped("2 of the 10 boxes of ring 0 failed".into()));
    assert_eq!(world.told.len(), 3, "its batch and no more");
    assert!(!world.step());
}

#[test]
fn too_few_successes_do_not_open_the_next_ring() {
    let strict = Plan { success_percent: 100, failure_percent: 50, ..plan(&[10, 10]) };
    let mut world = World::new(strict);
    world.bad = ["bench-2".to_string()].into();
    assert_eq!(world.run(), Stage::Stopped("only 9 of the 10 boxes of ring 0 succeeded".into()));
    assert_eq!(world.told.len(), 10);
}

#[test]
fn a_box_that_is_silent_or_away_after_the_change_has_failed() {
    let mut world = World::new(plan(&[2, 2]));
    world.silent = ["bench-1".to_string()].into();
    assert_eq!(world.run(), Stage::Stopped("1 of the 2 boxes of ring 0 failed".into()));
    assert_eq!(world.rollout.failures().collect::<Vec<_>>(), [("bench-1", "no answer within 300 s")]);
    let mut world = World::new(plan(&[2, 2]));
    world.step();
    world.away = ["bench-2".to_string()].into();
    assert!(matches!(world.run(), Stage::Stopped(_)));
    assert_eq!(world.rollout.failures().collect::<Vec<_>>(), [("bench-2", "it is away after the change")]);
    assert_eq!(world.told.len(), 2);
}

#[test]
fn a_box_that_may_still_come_back_to_the_broker_is_neither_away_nor_silent() {
    // One has not answered, one has, one is not told yet; then the broker is gone for longer than all of them have.
    let mut world = World::new(Plan { batch: 2, ..plan(&[3]) });
    world.silent = ["bench-1".to_string()].into();
    world.step();
    world.coming = world.rollout.boxes.keys().cloned().collect();
    world.now = 10_000;
    assert!(!world.step(), "{:?}", world.rollout);
    assert_eq!(world.rollout.failures().count(), 0);
    // They come back, and the one says what it did meanwhile.
    world.coming.clear();
    world.silent.clear();
    world.note(What::Ended { gateway: "bench-1".into(), failure: None });
    assert_eq!((world.run(), world.told.len()), (Stage::Finished, 3));
    // One that does not has failed after all.
    let mut world = World::new(plan(&[1]));
    while world.step() {}
    world.coming = ["bench-1".to_string()].into();
    world.now = 10_000;
    assert!(!world.step());
    (world.away, world.coming) = (std::mem::take(&mut world.coming), HashSet::new());
    assert!(matches!(world.run(), Stage::Stopped(_)));
    assert_eq!(world.rollout.failures().collect::<Vec<_>>(), [("bench-1", "it is away after the change")]);
}

#[test]
fn a_box_that_ended_together_with_the_broker_opens_no_ring() {
    let place = Place::new("acme", "bench-1").unwrap();
    let live = Receipt::new(1, 1);
    let said = |what: Up, payload: &str, receipt| {
        let payload = payload.as_bytes().to_vec();
        Said { place: place.clone(), what, payload, receipt }
    };
    let (mut world, began) = (World::new(plan(&[1, 1])), Instant::now());
    while world.step() {}
    world.now = 61;
    assert_eq!((world.rollout.counts(0).done, world.rollout.ring()), (1, 0));
    // The broker is there again: this is what it kept, and the wait is over.
    let mut roster = Roster::default();
    let kept = [(Up::State, r#"{"online":true,"epoch":3,"downlink":"proven"}"#), (Up::Alerts, r#"{"alerts":[]}"#)];
    for (what, kept) in kept.clone() {
        roster.heard(&said(what, kept, live.kept()), began);
    }
    let steps = |world: &World, roster: &Roster| {
        world.rollout.steps(at(world.now), |name| run::now(roster, &world.rollout, name, false))
    };
    assert_eq!(steps(&world, &roster), []);
    roster.look(began + SILENT_AFTER);
    assert_eq!(steps(&world, &roster), [failed("bench-1", "it is away after the change")]);
    // One that speaks is there.
    roster.heard(&said(Up::Metrics, "{}", live), began + SILENT_AFTER);
    assert_eq!(steps(&world, &roster), [Step::Note(What::RingOpened)]);
    // One that starts just then is not away: it has not said yet how it is. It has so long for that and no longer.
    let started = began + SILENT_AFTER;
    roster.heard(&said(Up::State, r#"{"online":true,"epoch":4,"downlink":"proven"}"#, live), started);
    roster.look(started);
    assert_eq!(steps(&world, &roster), []);
    let mut well = Roster::default();
    for (what, payload) in [(Up::State, r#"{"online":true,"epoch":4}"#), (Up::Alerts, r#"{"alerts":[]}"#)] {
        well.heard(&said(what, payload, live), started);
    }
    assert_eq!(steps(&world, &well), [Step::Note(What::RingOpened)]);
    for epoch in 5..9 {
        let state = format!("{{\"online\":true,\"epoch\":{epoch},\"downlink\":\"proven\"}}");
        roster.heard(&said(Up::State, &state, live), started + SILENT_AFTER / 2);
    }
    roster.look(started + SILENT_AFTER - Duration::from_secs(1));
    assert_eq!(steps(&world, &roster), []);
    roster.look(started + SILENT_AFTER);
    assert_eq!(steps(&world, &roster), [failed("bench-1", "it is away after the change")]);
    // What the broker keeps of one that had it already, and was told nothing, opens no ring either.
    let mut world = World::new(plan(&[1, 1]));
    world.note(What::Ended { gateway: "bench-1".into(), failure: None });
    world.note(What::RingEnded);
    world.now = 61;
    let mut roster = Roster::default();
    for (what, kept) in kept {
        roster.heard(&said(what, kept, live.kept()), began);
    }
    assert_eq!(steps(&world, &roster), []);
    roster.heard(&said(Up::Metrics, "{}", live), began);
    assert_eq!(steps(&world, &roster), [Step::Note(What::RingOpened)]);
    // Until then it may be told something all the same, but is no success.
    let mut world = World::new(plan(&[1, 1]));
    world.unheard = ["bench-1".to_string()].into();
    while world.step() {}
    world.now = 1_000;
    assert!(!world.step() && world.told == ["bench-1"]);
}

#[test]
fn what_nobody_looked_at_is_held_against_no_box() {
    let mut world = World::new(Plan { batch: 1, silent_s: 600, ..plan(&[2]) });
    world.silent = ["bench-1".to_string()].into();
    world.away = ["bench-2".to_string()].into();
    world.step();
    // The desk dies, and goes on long after.
    world.now = 10_000;
    world.rollout.attend(at(world.now));
    assert!(!world.step() && !world.rollout.is_overdue("bench-1", at(world.now)));
    // Told again, it says what it did; the other is waited for as if it had just been looked for.
    world.note(What::Ended { gateway: "bench-1".into(), failure: None });
    world.now += 599;
    assert!(!world.step());
    world.away.clear();
    assert_eq!((world.run(), world.told.len()), (Stage::Finished, 2));
    // One that says nothing has failed after all, and so has one that stays away.
    let mut world = World::new(Plan { batch: 1, silent_s: 600, failure_percent: 100, ..plan(&[2]) });
    world.silent = ["bench-1".to_string()].into();
    world.away = ["bench-2".to_string()].into();
    world.step();
    world.now = 10_000;
    world.rollout.attend(at(world.now));
    world.now += i64::from(SAYS_AGAIN_S);
    assert!(world.step() && matches!(world.rollout.standing("bench-1"), Some(Standing::Failed(_))));
    world.now += 600;
    assert!(world.step() && matches!(world.rollout.standing("bench-2"), Some(Standing::Failed(_))));
}

#[test]
fn what_is_unusual_before_a_release_is_installed_is_not_of_the_release() {
    let (manifest, roots) = (String::new(), Vec::new());
    let change = Change::Update { version: "1.2.0".into(), manifest, roots, with_system: None };
    let mut world = World::new(Plan { change, ..plan(&[1]) });
    let told = |alerts: &[&str], update: Option<&str>| What::Told {
        gateway: "bench-1".into(),
        id: "bench-1".into(),
        document: String::new(),
        before: Before { alerts: alerts.iter().map(ToString::to_string).collect(), update: update.map(str::to_string) },
    };
    world.note(told(&[], None));
    world.note(What::Ready { gateway: "bench-1".into() });
    world.note(told(&["disk"], Some("1.2.0 staged")));
    let before = world.rollout.before("bench-1").unwrap();
    assert_eq!((before.alerts.as_slice(), &before.update), (&["disk".to_string()][..], &None));
}

#[test]
fn a_box_that_is_away_is_told_when_it_is_back_or_has_failed() {
    let mut world = World::new(plan(&[3]));
    world.away = ["bench-2".to_string()].into();
    while world.step() {}
    assert_eq!(world.told, ["bench-1", "bench-3"]);
    world.away.clear();
    assert_eq!((world.run(), world.told.len()), (Stage::Finished, 3));
    let mut world = World::new(plan(&[3]));
    world.away = ["bench-2".to_string()].into();
    assert!(matches!(world.run(), Stage::Stopped(_)));
    assert_eq!(world.rollout.failures().collect::<Vec<_>>(), [("bench-2", "it was away for 300 s")]);
    assert_eq!(world.told.len(), 2, "it was never told");
}

#[test]
fn a_box_that_tells_of_something_unusual_has_failed_at_once() {
    let mut world = World::new(plan(&[10, 10]));
    world.step();
    world.unusual = ["bench-1", "bench-2"].map(str::to_string).into();
    assert_eq!(world.run(), Stage::Stopped("2 of the 10 boxes of ring 0 failed".into()));
    assert_eq!((world.told.len(), world.now), (3, 0), "no other box of its ring was told");
    let failures: Vec<_> = world.rollout.failures().collect();
    assert_eq!(failures[0], ("bench-1", "silence of chemistry since the change"));
    // Also while the ring is watched.
    let mut world = World::new(plan(&[2, 2]));
    while world.step() {}
    world.unusual = ["bench-1".to_string()].into();
    assert!(matches!(world.run(), Stage::Stopped(_)));
    assert_eq!(world.told.len(), 2);
    // And once the next one is open.
    let mut world = World::new(plan(&[2, 20]));
    while world.rollout.ring() == 0 {
        if !world.step() {
            world.now = world.rollout.wakes().unwrap().as_second() - BEGAN;
        }
    }
    let before = world.told.len();
    world.unusual = ["bench-1".to_string()].into();
    assert_eq!(world.run(), Stage::Stopped("1 of the 2 boxes of ring 0 failed".into()));
    assert!(world.told.len() <= before + 3, "{:?}", world.told);
}

#[test]
fn an_update_is_told_twice_and_a_batch_is_through_before_the_next() {
    let (manifest, roots) = (String::new(), Vec::new());
    let change = Change::Update { version: "1.2.0".into(), manifest, roots, with_system: None };
    assert_eq!(change.signatures(), 2);
    let mut world = World::new(Plan { change, ..plan(&[4, 2]) });
    world.step();
    assert_eq!(world.rollout.counts(0), Counts { waiting: 1, ready: 3, ..Counts::default() });
    // One that lies ready and goes away keeps its place, and the others do not wait for it.
    world.away = ["bench-1".to_string()].into();
    while world.step() {}
    let counts = world.rollout.counts(0);
    assert_eq!((counts.ready, counts.done), (1, 3));
    // Nobody is told to install while it pauses.
    world.note(What::Paused);
    world.away.clear();
    assert!(!world.step());
    world.note(What::Resumed);
    assert_eq!(world.run(), Stage::Finished);
    let times = |name: &str| world.told.iter().filter(|told| *told == name).count();
    assert!(world.rollout.boxes.keys().all(|name| times(name) == 2), "{:?}", world.told);
    // One that lies ready and never comes back has failed.
    let mut world = World::new(world.rollout.plan().clone());
    world.step();
    world.away = ["bench-1".to_string()].into();
    assert!(matches!(world.run(), Stage::Stopped(_)));
    assert_eq!(world.rollout.failures().collect::<Vec<_>>(), [("bench-1", "it was away for 300 s")]);
}

#[test]
fn no_silence_counts_while_it_pauses() {
    let mut world = World::new(plan(&[2]));
    world.silent = world.rollout.boxes.keys().cloned().collect();
    world.step();
    world.note(What::Paused);
    world.now += 100_000;
    assert!(world.rollout.steps(at(world.now), |_| Now::Well).is_empty());
    world.note(What::Resumed);
    assert!(world.rollout.steps(at(world.now), |_| Now::Well).is_empty(), "they are told again first");
    world.silent.clear();
    assert_eq!(world.run(), Stage::Finished);
}

#[test]
fn nobody_is_told_while_it_pauses_and_an_end_is_an_end() {
    let mut world = World::new(plan(&[5]));
    world.step();
    world.note(What::Paused);
    assert_eq!((world.run(), world.told.len()), (Stage::Paused, 3));
    world.note(What::Resumed);
    assert_eq!((world.run(), world.told.len()), (Stage::Finished, 5));
    world.note(What::Stopped { why: "late".into() });
    assert_eq!(world.rollout.stage(), Stage::Finished);
    let mut world = World::new(plan(&[5]));
    world.step();
    world.note(What::Stopped { why: "by ann".into() });
    assert_eq!((world.run(), world.told.len()), (Stage::Stopped("by ann".into()), 3));
    assert_eq!(World::new(plan(&[])).run(), Stage::Finished);
}

/// Whatever the boxes do, no ring is opened before enough of the one before succeeded, no box is told twice, and no more
/// are told than a batch after too many have failed.
#[test]
fn whatever_boxes_do_the_rules_hold() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let rings: Vec<usize> = (0..=random.below(4)).map(|_| random.below(12)).collect();
        let mut plan = plan(&rings);
        plan.batch = 1 + random.below(6);
        plan.success_percent = random.below(101) as u8;
        plan.failure_percent = random.below(101) as u8;
        let mut world = World::new(plan.clone());
        for name in world.rollout.boxes.keys() {
            let troubled = match random.below(10) {
                0 => &mut world.bad,
                1 => &mut world.silent,
                2 => &mut world.away,
                3 => &mut world.unusual,
                _ => continue,
            };
            troubled.insert(name.clone());
        }
        let stage = world.run();
        assert!(matches!(stage, Stage::Finished | Stage::Stopped(_)), "seed {seed}: {stage:?}");
        let told: BTreeSet<&String> = world.told.iter().collect();
        assert_eq!(told.len(), world.told.len(), "seed {seed}: told twice");
        let opened = world.rollout.ring();
        for (at, ring) in plan.rings.iter().enumerate() {
            let (counts, all) = (world.rollout.counts(at), ring.boxes.len());
            if at < opened {
                assert!(counts.done * 100 >= all * usize::from(plan.success_percent), "seed {seed}");
                assert!(counts.failed * 100 <= all * usize::from(plan.failure_percent), "seed {seed}");
            } else if at > opened {
                assert!(ring.boxes.iter().all(|name| !told.contains(name)), "seed {seed}");
            }
        }
    }
}

#[test]
fn what_is_on_disk_is_how_it_stands() {
    let desk = tempfile::tempdir().unwrap();
    let mut log = Log::create(desk.path(), plan(&[2])).unwrap();
    assert!(Log::create(desk.path(), plan(&[2])).is_err(), "there is one of this name");
    let turn = log.turn().unwrap();
    assert!(turn.is_some() && Log::open(desk.path(), "restart").unwrap().turn().unwrap().is_none());
    drop(turn);
    assert!(!log.has_begun());
    log.note([told("bench-1")]).unwrap();
    // Another process pauses it, and is killed in the middle of a line.
    Log::open(desk.path(), "restart").unwrap().note([What::Paused]).unwrap();
    let file = desk.path().join("rollouts/restart/log.jsonl");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("{\"at\":\"2026");
    std::fs::write(&file, text).unwrap();
    log.catch_up().unwrap();
    assert_eq!(log.rollout().stage(), Stage::Paused);
    log.note([What::Resumed]).unwrap();
    let mut again = Log::open(desk.path(), "restart").unwrap();
    assert!(again.has_begun());
    assert_eq!(again.rollout().stage(), Stage::Running);
    assert!(matches!(again.rollout().standing("bench-1"), Some(Standing::Told { id, .. }) if id == "bench-1"));
    again.note([What::Ended { gateway: "bench-1".into(), failure: None }]).unwrap();
    log.catch_up().unwrap();
    assert_eq!(log.rollout().standing("bench-1"), Some(&Standing::Done));
    assert_eq!(Log::all(desk.path()), ["restart"]);
    for name in ["", "..", "a/b"] {
        assert!(Log::open(desk.path(), name).is_err());
    }
}
