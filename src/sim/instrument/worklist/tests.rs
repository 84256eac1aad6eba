//! The judge is judged: a host that does what none may do is found out.

use tokio::net::TcpListener;

use super::*;
use crate::wire::astm::{ReceiverConfig, Role, SenderConfig, Station};

/// 15 s become 0.3 s.
const TIME_SCALE: f64 = 0.02;
const HEADER: &str = "H|\\^&|||host";

/// Says these messages, each after the instrument's last one (`asked`) or one after the other.
async fn host(listener: TcpListener, asked: bool, says: Vec<Vec<&'static str>>) {
    let (mut io, _) = listener.accept().await.unwrap();
    let standard = SenderConfig::default();
    let sender = SenderConfig {
        role: Role::Computer,
        reply_timeout: standard.reply_timeout.mul_f64(TIME_SCALE),
        contention_wait: Some(Duration::from_secs(20).mul_f64(TIME_SCALE)),
        ..standard
    };
    let mut station = Station::new(now(), ReceiverConfig::default(), sender, 1);
    let mut says = says.into_iter();
    let mut say = |station: &mut Station| {
        let Some(records) = says.next().filter(|records| !records.is_empty()) else { return };
        let records = records.into_iter().map(|record| record.as_bytes().to_vec()).collect();
        station.send(now(), Token(0), records).unwrap();
    };
    if !asked {
        say(&mut station);
    }
    loop {
        while let Some(output) = station.poll_output() {
            match output {
                Output::Send(bytes) if io.write_all(&bytes).await.is_err() => return,
                Output::Persist(part) => {
                    station.handle_custody(now(), Ok(&Noted(part.token)));
                    if part.completes && asked {
                        say(&mut station);
                    }
                }
                Output::Event(Event::Accepted(_)) if !asked => say(&mut station),
                _ => {}
            }
        }
        let until = station.poll_timeout().unwrap_or(now() + Duration::from_secs(60));
        match read(&mut io, Instant::from_std(until)).await {
            Ok(Some(bytes)) => station.handle_bytes(now(), &bytes),
            Ok(None) => station.handle_timeout(now()),
            Err(_) => return,
        }
    }
}

fn working(line: Line, work: Work, tries: u32) -> Working {
    let (shape, faults) = (Shape::generic(), Faults::default());
    Working { line, shape, work, faults, seed: 1, time_scale: TIME_SCALE, tries, frames: None }
}

/// What an analyzer that does this is told by a host that says that.
async fn told(work: Work, says: Vec<Vec<&'static str>>) -> Vec<Told> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let line = Line::Connect(listener.local_addr().unwrap().to_string());
    let asked = !matches!(work, Work::Wait(_));
    tokio::spawn(host(listener, asked, says));
    let working = working(line, work, TRIES);
    tokio::time::timeout(Duration::from_secs(20), run(&working)).await.expect("it comes to an end").unwrap()
}

fn one(tube: &str) -> Vec<String> {
    vec![tube.to_string()]
}

#[tokio::test]
async fn lines_that_break_before_anything_is_told_are_tries() {
    for (tries, is_told) in [(TRIES, false), (TRIES + 2, true)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Line::Connect(listener.local_addr().unwrap().to_string());
        tokio::spawn(async move {
            for _ in 0..=TRIES {
                drop(listener.accept().await);
            }
            host(listener, false, vec![vec![HEADER, "P|1|H1", "O|1|T1||^^^10|R", "L|1|N"]]).await;
        });
        let working = working(line, Work::Wait(1), tries);
        let told = tokio::time::timeout(Duration::from_secs(20), run(&working)).await.expect("it comes to an end");
        assert_eq!(told.is_ok_and(|told| told.len() == 1), is_told, "{tries} tries");
    }
}

#[tokio::test]
async fn an_order_for_the_tube_that_was_asked_for_is_measured() {
    let right = vec![HEADER, "P|1|H1", "O|1|T1||^^^10\\^^^11|R", "L|1|N"];
    let told = told(Work::Ask(one("T1")), vec![right]).await;
    assert_eq!((&told[0].orders[..], told[0].violations), (&["10".to_string(), "11".to_string()][..], 0), "{told:?}");
    assert_eq!((told[0].results_acknowledged, told.len()), (2, 1));
}

#[tokio::test]
async fn an_order_for_another_tube_is_found_out_and_not_measured() {
    let wrong = vec![HEADER, "P|1|H1", "O|1|T2||^^^10|R", "L|1|N"];
    let told = told(Work::Ask(one("T1")), vec![wrong]).await;
    assert_eq!((told.len(), told[0].orders.len(), told[0].violations), (1, 0, 1), "{told:?}");
}

#[tokio::test]
async fn an_answer_to_a_question_that_was_taken_back_is_found_out() {
    let late = vec![HEADER, "P|1|H1", "O|1|T1||^^^10|R", "L|1|N"];
    let told = told(Work::TakeBack(one("T1")), vec![vec![], late]).await;
    assert_eq!((told[0].orders.len(), told[0].violations), (0, 1), "{told:?}");
}

#[tokio::test]
async fn a_repeat_is_one_and_another_patient_on_the_same_tube_is_found_out() {
    let says = |patient| vec![HEADER, patient, "O|1|T1||^^^10|R||||||A", "L|1|N"];
    let other = vec![HEADER, "P|1|H9", "O|1|T2||^^^10|R||||||A", "L|1|N"];
    let told = told(Work::Wait(2), vec![says("P|1|H1"), says("P|1|H1"), says("P|1|H2"), other]).await;
    assert_eq!((told[0].repeats, told[0].violations, told[0].results_acknowledged), (2, 1, 1), "{told:?}");
    assert_eq!((told[1].tube.as_str(), told[1].violations), ("T2", 0));
}
