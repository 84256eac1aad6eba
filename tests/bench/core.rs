//! What one result costs on its way through the pure core: receive, interpret, verify, map. Run with `cargo bench`.

#[path = "worklist.rs"]
mod worklist;

use afferent::bench::rules;
use afferent::driver::{Context, Protocol, Registry, interpret};
use afferent::mapping::{self, Charset, FhirProfile, Format, Hl7Version, Origin, Target};
use afferent::rules::Outcome;
use afferent::sim::instrument::results::{Shape, make, records};
use afferent::wire::astm::{ENQ, Receiver, ReceiverConfig, encode_frame};
use afferent::wire::{Custody, Output, Token};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Instant;

/// Results in the message: about what a chemistry panel has.
const RESULTS: usize = 8;

struct Kept(Token);

impl Custody for Kept {
    fn token(&self) -> Token {
        self.0
    }
}

/// One message's frames, a record each.
fn frames(registry: &Registry) -> Vec<Vec<u8>> {
    let shape = registry.get("roche-cobas-c111").map_or_else(Shape::generic, Shape::of);
    let specimen = make(&shape, "BNCH", 1, 1, 0, RESULTS);
    let records = records(&shape, &specimen, "20260301120000");
    records.iter().enumerate().map(|(at, record)| encode_frame((at + 1) as u8 % 8, record, true)).collect()
}

fn receive(frames: &[Vec<u8>]) -> usize {
    let now = Instant::now();
    let mut receiver = Receiver::new(ReceiverConfig::default(), 1);
    receiver.handle_bytes(now, &[ENQ]);
    let mut kept = 0;
    for frame in frames {
        receiver.handle_bytes(now, frame);
        while let Some(output) = receiver.poll_output() {
            if let Output::Persist(part) = output {
                kept += part.bytes.len();
                receiver.handle_custody(now, Ok(&Kept(part.token)));
            }
        }
    }
    kept
}

fn core(criterion: &mut Criterion) {
    let registry = Registry::builtin();
    let frames = frames(&registry);
    let raw = frames.concat();
    let driver = registry.identify(Protocol::Astm, &raw);
    let context = Context { zone: jiff::tz::TimeZone::UTC, charset: None, framing: None, complete: true };
    let interpretation = interpret(driver, &raw, &context);
    let report = interpretation.reports.first().cloned().unwrap_or_default();
    let target = |format| Target {
        format,
        sending_application: "BENCH".into(),
        sending_facility: String::new(),
        receiving_application: "EHR".into(),
        receiving_facility: String::new(),
        patient_authority: String::new(),
        charset: Charset::Utf8,
        fhir: FhirProfile::default(),
        tests_only: false,
    };
    let origin = Origin {
        message_id: "BENCH000000000000001".into(),
        gateway: "bench".into(),
        link: "bench".into(),
        made: jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC),
    };
    assert_eq!(receive(&frames), raw.len(), "every frame is taken");
    let mut group = criterion.benchmark_group("one message of eight results");
    group.throughput(Throughput::Bytes(raw.len() as u64));
    group.bench_function("receive", |b| b.iter(|| receive(black_box(&frames))));
    group.bench_function("identify and interpret", |b| {
        b.iter(|| interpret(registry.identify(Protocol::Astm, black_box(&raw)), &raw, &context));
    });
    for (name, format) in
        [("map to HL7 2.5.1", Format::Hl7V2(Hl7Version::V251)), ("map to a FHIR transaction", Format::FhirTransaction)]
    {
        let target = target(format);
        group.bench_function(name, |b| b.iter(|| mapping::map(black_box(&report), &target, &origin)));
    }
    group.finish();

    let report = rules::report();
    let (rulebook, facts) = rules::strict_rules(&report);
    let decided = rulebook.judge("bench", &report, 0, &facts);
    assert_eq!(decided.len(), 4 * report.observations.len(), "every rule decides");
    assert!(decided.iter().all(|d| d.outcome == Outcome::Passed), "{decided:?}");
    let mut group = criterion.benchmark_group("rules");
    group.throughput(Throughput::Elements(decided.len() as u64));
    group.bench_function("four for each result of a panel", |b| {
        b.iter(|| rulebook.judge("bench", black_box(&report), 0, &facts));
    });
    group.finish();
}

criterion_group!(benches, core, worklist::worklist);
criterion_main!(benches);
