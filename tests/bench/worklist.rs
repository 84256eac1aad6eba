//! What a modality's question costs on a worklist of ten thousand entries. Part of `cargo bench`.

use afferent::clinical::{
    Coding, ImagingOrder, OrderNumber, OrderedTest, Phi, RequestedProcedure, ScheduledStep, Timestamp, WorkOrder,
};
use afferent::journal::{self, Journal, OrderChange};
use afferent::message::dicom::{DataSet, Layout, Tag, VR, tags};
use afferent::orders::worklist::{Config, Worklist};
use afferent::wire::{Persist, Token};
use criterion::Criterion;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

/// Entries of the worklist.
const ENTRIES: usize = 10_000;
/// Orders of one message.
const PER_MESSAGE: usize = 250;
const IMPLICIT: &str = "1.2.840.10008.1.2";

/// A hospital's orders for some weeks, of twenty stations.
fn place(data: &Path) -> Journal {
    let journal = Journal::open(data, &journal::Config { quota_mb: 0, ..journal::Config::default() }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for first in (0..ENTRIES).step_by(PER_MESSAGE) {
        let orders = (first..first + PER_MESSAGE).map(|n| OrderChange::New(Box::new(order(n)))).collect();
        let number = first as u64 + 1;
        let part = Persist {
            token: Token(number),
            session: number,
            bytes: format!("orders from {first}").into_bytes(),
            completes: true,
            identity: None,
        };
        let stored = journal.persist_orders("ris", 1, part, orders, None, Arc::new([]));
        assert!(runtime.block_on(stored).is_ok());
    }
    journal
}

fn order(n: usize) -> WorkOrder {
    let start = format!("202603{:02}{:02}{:02}00", 1 + n % 28, 7 + n / 28 % 12, n % 60);
    let step = ScheduledStep {
        id: format!("S{n}"),
        modality: ["US", "CT", "MR", "CR"][n % 4].to_string(),
        station_ae_titles: vec![format!("STATION{}", n % 20)],
        start: Timestamp::parse(&start, &jiff::tz::TimeZone::UTC),
        ..ScheduledStep::default()
    };
    let procedure = RequestedProcedure {
        id: format!("R{n}"),
        study_instance_uid: format!("1.2.840.99.{n}"),
        code: Coding::local("ECHO", "Echocardiogram"),
        steps: vec![step],
    };
    let mut order = WorkOrder {
        placer_order_number: OrderNumber::new(format!("N{n}")),
        tests: vec![OrderedTest { universal_service_id: Coding::local("ECHO", ""), alternate: None }],
        imaging: Some(ImagingOrder {
            accession_number: Phi::new(format!("A{n}")),
            patient_name: Phi::new(format!("FAMILY{n}^GIVEN")),
            procedures: vec![procedure],
            ..ImagingOrder::default()
        }),
        ..WorkOrder::default()
    };
    order.patient.patient.id = Phi::new(format!("P{n}"));
    order.patient.patient.family = Phi::new(format!("FAMILY{n}"));
    order.patient.patient.given = Phi::new("GIVEN");
    order
}

/// What carts ask for, with these keys.
fn query(keys: &[(Tag, VR, &str)], step_keys: &[(Tag, VR, &str)]) -> Vec<u8> {
    let (mut query, mut step) = (DataSet::default(), DataSet::default());
    for tag in [tags::PATIENT_NAME, tags::PATIENT_ID, tags::ACCESSION_NUMBER, tags::STUDY_INSTANCE_UID] {
        query.put_text(tag, VR::LO, "");
    }
    for (tag, vr, text) in keys {
        query.put_text(*tag, *vr, text);
    }
    for (tag, vr, text) in step_keys {
        step.put_text(*tag, *vr, text);
    }
    query.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    query.write(Layout::ImplicitLittle)
}

pub fn worklist(criterion: &mut Criterion) {
    let data = tempfile::tempdir().unwrap();
    let journal = place(data.path());
    let worklist = Worklist::new(&journal, Config::default(), jiff::tz::TimeZone::UTC);
    let mut group = criterion.benchmark_group("a worklist of ten thousand entries");
    for (name, query, answers) in [
        (
            "one station, one day",
            query(
                &[],
                &[
                    (tags::SCHEDULED_STATION_AE_TITLE, VR::AE, "STATION4"),
                    (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, "20260305"),
                ],
            ),
            72,
        ),
        ("one patient", query(&[(tags::PATIENT_ID, VR::LO, "P4711")], &[]), 1),
        ("a name with a wildcard", query(&[(tags::PATIENT_NAME, VR::PN, "family471*")], &[]), 11),
        ("everything, as much as is told", query(&[], &[]), 100),
    ] {
        assert_eq!(worklist.answer(&query, IMPLICIT).len(), answers + 1, "{name}");
        group.bench_function(name, |b| b.iter(|| worklist.answer(black_box(&query), IMPLICIT)));
    }
    group.finish();
    drop(worklist);
    journal.close();
}
