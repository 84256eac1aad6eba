//! The dialogue with an ASTM analyzer that works by orders, whatever goes wrong in it: a simulated analyzer asks or is
//! told, the line breaks, both speak at once, the gateway is killed. Every order reaches the analyzer, once or again the
//! same, and nobody else's.

use afferent::clinical::{
    Coding, OrderNumber, OrderStatus, OrderedPatient, OrderedTest, Patient, Phi, Specimen, WorkOrder,
};
use afferent::driver::Registry;
use afferent::journal::OrderChange;
use afferent::sim::instrument::asking::{self, Asking, Dialect, Told};
use afferent::sim::instrument::line::Line;
use afferent::sim::instrument::results::Shape;
use afferent::sim::instrument::worklist::{self, Work, Working};
use afferent::sim::random::Random;
use tokio::sync::watch;

use crate::law::{place, placed_before, status_after};
use crate::rig::{PATIENCE, Rig, free_port, listen, local, serial, until};

/// 15 s become 0.75 s, on both sides.
const TIME_SCALE: f64 = 0.05;
const TIMERS: &str = "[link.timers]\nframe_timeout_ms = 1500\nreply_timeout_ms = 700\nreconnect_min_ms = 20\n\
                      reconnect_max_ms = 200\n";
/// An analyzer that asks.
const ASKS: &str = "roche-cobas-e411";
/// One that takes worklists.
const TAKES: &str = "roche-cobas-psm";
/// Deaths of the gateway in one run.
const DEATHS: usize = 8;
const TUBES: usize = 30;

fn link(driver: &str, line: &str) -> String {
    let push = if driver == TAKES { "push_orders = true\n" } else { "" };
    format!(
        "[[link]]\nname = \"chemistry\"\nprotocol = \"astm\"\nunmapped = \"send-local\"\nclock_limit_s = 0\n{line}\n\
         driver = \"{driver}\"\norders = \"required\"\norder_codes = [\"FT3 = 2450\", \"TSH = 10, 11\"]\n{push}{TIMERS}"
    )
}

/// An order for this test on a tube of the tube's own patient.
fn order(tube: &str, test: &str) -> OrderChange {
    let patient = Patient { id: Phi::new(format!("PAT-{tube}")), family: Phi::new("DOE"), ..Patient::default() };
    OrderChange::New(Box::new(WorkOrder {
        placer_order_number: OrderNumber::new(format!("N-{tube}")),
        patient: OrderedPatient { patient, other_ids: Vec::new() },
        specimen: Specimen { id: Phi::new(tube), ..Specimen::default() },
        tests: vec![OrderedTest { universal_service_id: Coding::local(test, ""), alternate: None }],
        ..WorkOrder::default()
    }))
}

fn analyzer(driver: &str, line: Line, work: Work, faults: &str) -> Working {
    Working {
        line,
        shape: Shape::of(Registry::builtin().get(driver).unwrap()),
        work,
        faults: faults.parse().unwrap(),
        seed: 7,
        time_scale: TIME_SCALE,
        tries: worklist::TRIES,
        frames: None,
    }
}

async fn works(working: &Working) -> Vec<Told> {
    tokio::time::timeout(PATIENCE, worklist::run(working)).await.expect("the analyzer gets its orders in time").unwrap()
}

fn orders(told: &[Told]) -> Vec<(&str, Vec<&str>)> {
    told.iter().map(|told| (told.tube.as_str(), told.orders.iter().map(String::as_str).collect())).collect()
}

/// Waits until the results of these tubes are in the chart, each under its own order and patient.
async fn are_in_the_chart(rig: &Rig, tubes: &[String]) {
    let is_filed = |tube: &String| {
        rig.chart().iter().any(|arrival| {
            let body = String::from_utf8_lossy(&arrival.body);
            let (order, patient) = (format!("|N-{tube}|"), format!("|PAT-{tube}"));
            arrival.specimens.contains(tube) && body.contains(&order) && body.contains(&patient)
        })
    };
    until("every result is in the chart under its order", || tubes.iter().all(is_filed)).await;
    for arrival in rig.chart() {
        let body = String::from_utf8_lossy(&arrival.body).into_owned();
        let patients: Vec<&str> = body.split(['|', '^']).filter(|part| part.starts_with("PAT-")).collect();
        assert!(patients.iter().all(|patient| arrival.specimens.contains(&patient[4..].to_string())), "{body}");
    }
}

/// Asks on this line under every fault; a tube with orders and one without.
async fn asks_whatever_goes_wrong(serial_line: bool, faults: &[&str]) {
    let (rig, port) = (Rig::new().await, free_port());
    let device = rig.path("ttyANALYZER");
    let near = if serial_line { serial(&device) } else { listen(port) };
    let far = || if serial_line { Line::Pty(device.clone()) } else { Line::Connect(local(port)) };
    let gateway = rig.gateway(&link(ASKS, &near)).await;
    let mut filed = Vec::new();
    for (round, fault) in faults.iter().enumerate() {
        let (tube, nobodys) = (format!("T{round}"), format!("X{round}"));
        place(gateway.journal(), &format!("E{round}"), vec![order(&tube, "TSH")]).await;
        let work = Work::Ask(vec![tube.clone(), nobodys.clone()]);
        let told = works(&analyzer(ASKS, far(), work, &format!("{fault}:1"))).await;
        assert_eq!(orders(&told), [(&*tube, vec!["10", "11"]), (&*nobodys, vec![])], "{fault}");
        for told in &told {
            assert_eq!((told.violations, &told.faults[..]), (0, &[*fault][..]), "{fault}: {told:?}");
        }
        assert_eq!(told[0].results_acknowledged, 2, "{fault}");
        filed.push(tube);
    }
    are_in_the_chart(&rig, &filed).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyzer_is_answered_whatever_goes_wrong_on_tcp() {
    let faults = [
        "answer-cut",
        "answer-nak",
        "answer-contention",
        "answer-stall",
        "answer-unheard",
        "contention",
        "enq-in-session",
        "glued-eot",
        "cut",
    ];
    asks_whatever_goes_wrong(false, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyzer_is_answered_whatever_goes_wrong_on_a_serial_line() {
    let faults = ["answer-cut", "answer-nak", "answer-contention", "answer-unheard", "dropped-ack", "noise"];
    asks_whatever_goes_wrong(true, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_for_many_for_all_and_one_that_is_taken_back() {
    let (rig, port) = (Rig::new().await, free_port());
    let gateway = rig.gateway(&link(ASKS, &listen(port))).await;
    place(gateway.journal(), "E1", vec![order("T1", "FT3"), order("T2", "TSH"), order("T3", "FT3")]).await;
    let tubes = |ids: &[&str]| ids.iter().map(|id| id.to_string()).collect::<Vec<_>>();
    let asking = |work| analyzer(ASKS, Line::Connect(local(port)), work, "");

    let told = works(&asking(Work::TakeBack(tubes(&["T1"])))).await;
    assert_eq!((orders(&told), told[0].violations), (vec![("T1", vec![])], 0), "nothing is answered");
    let told = works(&asking(Work::AskTogether(tubes(&["T1", "X1", "T2", "@9"])))).await;
    let expected = [("T1", vec!["2450"]), ("X1", vec![]), ("T2", vec!["10", "11"]), ("@9", vec![])];
    assert_eq!(orders(&told), expected);
    // What was measured is done; the rest is what everything is.
    are_in_the_chart(&rig, &tubes(&["T1", "T2"])).await;
    let told_all = works(&asking(Work::Ask(tubes(&["ALL"])))).await;
    assert_eq!(orders(&told_all), [("T3", vec!["2450"])]);
    assert!(told.iter().chain(&told_all).all(|told| told.violations == 0), "{told:?} {told_all:?}");
    are_in_the_chart(&rig, &tubes(&["T1", "T2", "T3"])).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worklist_is_taken_whatever_goes_wrong() {
    let (rig, port) = (Rig::new().await, free_port());
    let gateway = rig.gateway(&link(TAKES, &listen(port))).await;
    for (round, fault) in ["answer-nak", "answer-contention", "answer-cut", "answer-unheard"].into_iter().enumerate() {
        let tubes: Vec<String> = (0..2).map(|n| format!("T{round}{n}")).collect();
        let changes = tubes.iter().map(|tube| order(tube, "TSH")).collect();
        place(gateway.journal(), &format!("E{round}"), changes).await;
        let working = analyzer(TAKES, Line::Connect(local(port)), Work::Wait(2), &format!("{fault}:1"));
        let told = works(&working).await;
        let mut seen = orders(&told);
        seen.sort();
        assert_eq!(seen, [(&*tubes[0], vec!["10", "11"]), (&*tubes[1], vec!["10", "11"])], "{fault}");
        assert!(told.iter().all(|told| told.violations == 0), "{fault}: {told:?}");
        assert!(told.iter().any(|told| told.faults.contains(&fault)), "{fault}: {told:?}");
        if fault == "answer-unheard" {
            assert!(told.iter().any(|told| told.repeats > 0), "told again, the same: {told:?}");
        }
        are_in_the_chart(&rig, &tubes).await;
    }
    gateway.stop().await;
}

/// Kills the gateway, the real program, again and again while it tells of orders, at any frame of it.
async fn i1_killed_while_it_tells(driver: &'static str, serial_line: bool) {
    let seed = std::env::var("AFFERENT_SEED").ok().map_or(11, |seed| seed.parse().unwrap());
    println!("AFFERENT_SEED={seed}");
    let mut random = Random::new(seed);
    let (rig, port) = (Rig::new().await, free_port());
    let device = rig.path("ttyANALYZER");
    let (near, far) = match serial_line {
        true => (serial(&device), Line::Pty(device.clone())),
        false => (listen(port), Line::Connect(local(port))),
    };
    let links = link(driver, &near);
    let tubes: Vec<String> = (0..TUBES).map(|n| format!("T{n}")).collect();
    placed_before(&rig.data(), "E1", tubes.iter().map(|tube| order(tube, "TSH")).collect()).await;

    let work = if driver == ASKS { Work::Ask(tubes.clone()) } else { Work::Wait(TUBES) };
    let (frames, mut heard) = watch::channel(0);
    // Each death breaks the line, and on a busy machine waits pass in silence beside: patience is the limit here.
    let working = Working { frames: Some(frames), tries: u32::MAX, ..analyzer(driver, far, work, "") };
    let task = tokio::spawn(async move { worklist::run(&working).await });
    let mut due = 0;
    for death in 0..DEATHS {
        let gateway = rig.child(&links).await;
        due += 1 + random.below(3) as u64;
        let reached = tokio::time::timeout(PATIENCE, heard.wait_for(|now| *now >= due)).await;
        due = *reached.unwrap_or_else(|_| panic!("nothing is told before death {death}")).unwrap();
        drop(gateway);
    }
    let gateway = rig.child(&links).await;
    let told = tokio::time::timeout(PATIENCE, task).await.expect("the analyzer gets its orders in time");
    let told = told.unwrap().unwrap();
    for tube in &tubes {
        let of_it: Vec<&Told> = told.iter().filter(|told| told.tube == *tube).collect();
        assert_eq!(of_it.len(), 1, "{tube}");
        assert_eq!((&of_it[0].orders[..], of_it[0].violations), (&["10".into(), "11".into()][..], 0), "{tube}");
        assert_eq!(of_it[0].results_acknowledged, 2, "{tube}");
    }
    assert_eq!(told.len(), TUBES, "nobody else's");
    are_in_the_chart(&rig, &tubes).await;
    drop(gateway);
    for tube in &tubes {
        assert!(status_after(&rig.data(), &format!("N-{tube}")) >= OrderStatus::InProgress, "{tube}");
    }
    let repeats: u64 = told.iter().map(|told| told.repeats).sum();
    println!("{DEATHS} deaths, {TUBES} tubes, {repeats} told again");
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_killed_with_a_worklist_in_flight_on_tcp() {
    i1_killed_while_it_tells(TAKES, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_killed_with_a_worklist_in_flight_on_a_serial_line() {
    i1_killed_while_it_tells(TAKES, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_killed_with_an_answer_in_flight_on_tcp() {
    i1_killed_while_it_tells(ASKS, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_killed_with_an_answer_in_flight_on_a_serial_line() {
    i1_killed_while_it_tells(ASKS, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_analyzers_are_answered_on_a_serial_line() {
    let rig = Rig::new().await;
    let device = rig.path("ttyANALYZER");
    let links = format!(
        "[[link]]\nname = \"chemistry\"\nprotocol = \"hl7\"\nclock_limit_s = 0\nunmapped = \"send-local\"\n{}\n\
         [link.timers]\nmessage_timeout_ms = 1500\nreply_timeout_ms = 700\nreconnect_min_ms = 20\n\
         reconnect_max_ms = 200\n",
        serial(&device)
    );
    let gateway = rig.gateway(&links).await;
    let dialects = [Dialect::Law, Dialect::Display, Dialect::GeneXpert, Dialect::OrderMessage];
    for (round, (dialect, faults)) in dialects.into_iter().flat_map(|d| [(d, ""), (d, "dup-frame:1")]).enumerate() {
        let tube = format!("T{round}");
        place(gateway.journal(), &format!("E{round}"), vec![order(&tube, "TSH")]).await;
        let asking = Asking {
            line: Line::Pty(device.clone()),
            dialect,
            tubes: vec![tube.clone(), format!("X{round}")],
            faults: faults.parse().unwrap(),
            seed: 7,
            time_scale: TIME_SCALE,
        };
        let told = tokio::time::timeout(PATIENCE, asking::run(&asking)).await.expect("in time").unwrap();
        let named = if dialect == Dialect::Law { format!("N-{tube}") } else { "TSH".to_string() };
        let orders: Vec<Vec<&str>> = told.iter().map(|t| t.orders.iter().map(String::as_str).collect()).collect();
        assert_eq!(orders, [vec![named.as_str()], vec![]], "{dialect:?} {faults}");
        assert!(told.iter().all(|told| told.violations == 0), "{dialect:?} {faults}: {told:?}");
        if dialect == Dialect::Law {
            assert_eq!(told[0].results_acknowledged, 1, "{faults}");
        }
    }
    gateway.stop().await;
}
