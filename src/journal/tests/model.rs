//! The journal against a model that is a few vectors.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Lanes in play; few, so that they fill.
const LANES: [&str; 3] = ["A", "B", "C"];

#[derive(Debug, Clone)]
enum Step {
    /// A part of this session; whether it completes the entry.
    Persist(u64, bool),
    Abandon(u64),
    /// Files the oldest waiting entry with a message in each of these lanes.
    File(Vec<usize>),
    Deliver,
    Retry,
    Return,
    Park,
    RequeueFirst,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u64, any::<bool>()).prop_map(|(session, completes)| Step::Persist(session, completes)),
        1 => (0..3_u64).prop_map(Step::Abandon),
        4 => proptest::collection::vec(0..LANES.len(), 0..4).prop_map(Step::File),
        4 => Just(Step::Deliver),
        1 => Just(Step::Retry),
        1 => Just(Step::Return),
        1 => Just(Step::Park),
        1 => Just(Step::RequeueFirst),
        1 => Just(Step::Restart),
    ]
}

/// What must be true of the journal.
#[derive(Default)]
struct Model {
    open: BTreeMap<u64, Vec<u8>>,
    waiting: Vec<(Vec<u8>, bool)>,
    /// Pending messages of each lane: number and body.
    lanes: BTreeMap<usize, BTreeMap<i64, Vec<u8>>>,
    parked: BTreeMap<i64, (usize, Vec<u8>)>,
    delivered: i64,
    next_part: u32,
}

impl Model {
    /// The messages that are due: all, lane by lane, in order of the lanes' heads.
    fn due(&self) -> Vec<(i64, Vec<u8>)> {
        let mut lanes: Vec<_> = self.lanes.values().filter(|lane| !lane.is_empty()).collect();
        lanes.sort_by_key(|lane| lane.keys().next().copied());
        lanes.into_iter().flatten().map(|(id, body)| (*id, body.clone())).collect()
    }

    fn take(&mut self, id: i64) -> Option<(usize, Vec<u8>)> {
        self.lanes.iter_mut().find_map(|(lane, rows)| rows.remove(&id).map(|body| (*lane, body)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_is_what_the_model_says(steps in proptest::collection::vec(step(), 1..40)) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Persist(session, completes) => {
                    model.next_part += 1;
                    let bytes = format!("{session}:{};", model.next_part).into_bytes();
                    bench.persist(session, &bytes, completes).unwrap();
                    model.open.entry(session).or_default().extend(bytes);
                    if completes {
                        let raw = model.open.remove(&session).unwrap();
                        model.waiting.push((raw, true));
                    }
                }
                Step::Abandon(session) => {
                    bench.journal.abandon(LINK, 1, session);
                    model.waiting.extend(model.open.remove(&session).map(|raw| (raw, false)));
                    bench.journal.operate(OperatorAction::Replay { entries: vec![] }).unwrap();
                }
                Step::File(lanes) => {
                    let Some(entry) = bench.pending().first().map(|e| e.id) else { continue };
                    model.waiting.remove(0);
                    let names: Vec<&str> = lanes.iter().map(|n| LANES[*n]).collect();
                    let outbound = filing(entry, &names, 0);
                    let bodies: Vec<Vec<u8>> = outbound.reports.iter().map(|r| r.outbox[0].body.clone()).collect();
                    bench.journal.file(outbound).unwrap();
                    let conn = bench.sabotage();
                    let last: i64 =
                        conn.query_row("SELECT coalesce(max(id), 0) FROM outbox", [], |r| r.get(0)).unwrap();
                    let first = last - bodies.len() as i64 + 1;
                    for ((id, lane), body) in (first..).zip(lanes).zip(bodies) {
                        model.lanes.entry(lane).or_default().insert(id, body);
                    }
                }
                Step::Deliver | Step::Retry | Step::Return | Step::Park => {
                    let due = bench.claim(64);
                    let told: Vec<(i64, Vec<u8>)> = due.iter().map(|row| (row.id.0, row.body.clone())).collect();
                    prop_assert_eq!(&told, &model.due());
                    let Some(row) = due.first() else { continue };
                    match step {
                        Step::Deliver => {
                            bench.deliver(row.id);
                            model.take(row.id.0).unwrap();
                            model.delivered += 1;
                        }
                        Step::Park => {
                            bench.settle(row.id, Settlement::Park { reason: "AR".to_string() });
                            let parked = model.take(row.id.0).unwrap();
                            model.parked.insert(row.id.0, parked);
                        }
                        Step::Retry => {
                            bench.settle(row.id, Settlement::Retry { after: Duration::ZERO, reason: "AE".to_string() });
                        }
                        _ => bench.settle(row.id, Settlement::Return),
                    }
                    for row in due.iter().skip(1) {
                        bench.settle(row.id, Settlement::Return);
                    }
                }
                Step::RequeueFirst => {
                    let Some((id, (lane, body))) = model.parked.pop_first() else { continue };
                    let done = bench.journal.operate(OperatorAction::Requeue { outbox: vec![OutboxId(id)] }).unwrap();
                    prop_assert_eq!(done.done, 1);
                    model.lanes.entry(lane).or_default().insert(id, body);
                }
                Step::Restart => {
                    bench = bench.restart();
                    model.waiting.extend(std::mem::take(&mut model.open).into_values().map(|raw| (raw, false)));
                }
            }
            let pending: Vec<_> = bench.pending().into_iter().map(|e| (e.raw, e.complete)).collect();
            let mut expected = model.waiting.clone();
            if pending != expected {
                // Entries that a restart ended come in order of their first part, which the model does not keep.
                expected.sort();
                let mut sorted = pending.clone();
                sorted.sort();
                prop_assert_eq!(sorted, expected);
                model.waiting = pending;
            }
            let account = bench.account();
            prop_assert_eq!(account.missing(), 0);
            prop_assert_eq!(account.delivered, model.delivered);
            prop_assert_eq!(account.parked, model.parked.len() as i64);
        }
        let verified = bench.journal.reader().unwrap().verify(|_, _| {}).unwrap();
        prop_assert!(verified.is_sound(), "{:?}", verified);
    }
}
