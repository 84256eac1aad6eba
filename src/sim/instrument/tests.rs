//! The simulated instrument against the receivers, over real sockets and a real pseudo terminal, in shrunk time.

use std::collections::BTreeSet;

use tokio::net::TcpListener;
use tokio_serial::SerialPortBuilderExt;

use super::*;
use crate::wire::{Custody, Output, Refused, Time, Token, line as lines};

/// 15 s become 0.3 s.
const TIME_SCALE: f64 = 0.02;

struct Taken(Token);

impl Custody for Taken {
    fn token(&self) -> Token {
        self.0
    }
}

enum Machine {
    Astm(Box<astm::Receiver>),
    Hl7(Box<mllp::Receiver>),
    Lines(Box<lines::Receiver>),
}

macro_rules! each {
    ($machine:expr, $m:ident => $run:expr) => {
        match $machine {
            Machine::Astm($m) => $run,
            Machine::Hl7($m) => $run,
            Machine::Lines($m) => $run,
        }
    };
}

fn machine(protocol: Protocol) -> Machine {
    let standard = astm::ReceiverConfig::default();
    let config = astm::ReceiverConfig {
        frame_timeout: standard.frame_timeout.mul_f64(TIME_SCALE),
        reply_timeout: standard.reply_timeout.mul_f64(TIME_SCALE),
        ..standard
    };
    let mllp_config = mllp::ReceiverConfig { frame_timeout: config.frame_timeout, ..mllp::ReceiverConfig::default() };
    match protocol {
        Protocol::Astm => Machine::Astm(Box::new(astm::Receiver::new(config, 1))),
        Protocol::Lines => {
            let config = lines::ReceiverConfig {
                framing: results::report_framing(),
                message_timeout: config.frame_timeout,
                reply_timeout: config.reply_timeout,
                ..lines::ReceiverConfig::default()
            };
            Machine::Lines(Box::new(lines::Receiver::new(config, 1)))
        }
        Protocol::Hl7 | Protocol::Poct1a | Protocol::Table => {
            Machine::Hl7(Box::new(mllp::Receiver::new(mllp_config, 1)))
        }
    }
}

/// Receives until the line goes away and adds every complete entry.
async fn receive(io: &mut dyn Stream, protocol: Protocol, entries: &mpsc::UnboundedSender<Vec<u8>>) {
    let mut machine = machine(protocol);
    let mut open: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut buffer = [0; 512];
    loop {
        let now = || -> Time { Instant::now().into_std() };
        while let Some(output) = each!(&mut machine, m => m.poll_output()) {
            match output {
                Output::Send(bytes) => {
                    if io.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Output::Persist(part) => {
                    let entry = open.entry(part.session).or_default();
                    entry.extend_from_slice(&part.bytes);
                    if part.completes && entries.send(std::mem::take(entry)).is_err() {
                        return;
                    }
                    let answer: Result<&Taken, Refused> = Ok(&Taken(part.token));
                    each!(&mut machine, m => m.handle_custody(now(), answer));
                }
                Output::Close(_) => return,
                Output::Abandon { .. } | Output::Ask(_) | Output::Answered(_) | Output::Event(_) => {}
            }
        }
        let deadline = each!(&machine, m => m.poll_timeout()).unwrap_or(now() + Duration::from_secs(60));
        match tokio::time::timeout_at(Instant::from_std(deadline), io.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => each!(&mut machine, m => m.handle_bytes(now(), &buffer[..count])),
            Ok(_) => return,
            Err(_) => each!(&mut machine, m => m.handle_timeout(now())),
        }
    }
}

/// Runs an instrument against a receiver that listens, and checks the account.
async fn account(protocol: Protocol, count: u64, faults: &str) -> Summary {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (entries, mut kept) = mpsc::unbounded_channel();
    let gateway = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            receive(&mut stream, protocol, &entries).await;
        }
    });
    let settings = Settings {
        count: Some(count),
        faults: faults.parse().unwrap(),
        time_scale: TIME_SCALE,
        ..Settings::new(Line::Connect(address), protocol)
    };
    let summary = run_and_check(settings, &mut kept).await;
    gateway.abort();
    summary
}

async fn run_and_check(settings: Settings, kept: &mut mpsc::UnboundedReceiver<Vec<u8>>) -> Summary {
    let (ledger, mut lines) = mpsc::channel(10_000);
    let (_running, stop) = watch::channel(false);
    let summary = tokio::time::timeout(Duration::from_secs(20), run(settings, Some(ledger), stop));
    let summary = summary.await.expect("the instrument comes to an end").unwrap();
    let mut entries = BTreeSet::new();
    while let Ok(entry) = kept.try_recv() {
        entries.insert(String::from_utf8_lossy(&entry).into_owned());
    }
    let mut acknowledged = 0;
    while let Ok(line) = lines.try_recv() {
        let Ledger::Acknowledged { id, version, results, .. } = line else { continue };
        acknowledged += 1;
        let status = if version == 0 { "||F||" } else { "||C||" };
        let whole = |entry: &&String| {
            entry.contains(&id)
                && results.iter().all(|r| entry.contains(r.value.trim_start_matches('<')))
                && (entry.contains(status) || entry.starts_with("MSH") || entry.starts_with("\u{2}ID: "))
        };
        assert!(entries.iter().any(|entry| whole(&entry)), "{id} was acknowledged and is not kept whole");
    }
    assert_eq!(summary.acknowledged, acknowledged);
    assert_eq!(summary.acknowledged, summary.sent);
    assert_eq!(summary.violations, 0);
    summary
}

#[tokio::test]
async fn i1_what_an_astm_instrument_counts_as_acknowledged_is_kept() {
    let summary = account(Protocol::Astm, 50, "").await;
    assert_eq!(summary.attempts, summary.sent);
    assert!(summary.sent > 50, "some specimens are corrected");
}

#[tokio::test]
async fn i1_every_astm_fault_loses_nothing() {
    for (name, _) in Fault::NAMES.into_iter().filter(|(_, fault)| fault.applies_to(Protocol::Astm)) {
        let summary = account(Protocol::Astm, 4, &format!("{name}:1")).await;
        assert!(summary.faults[name] >= 4, "{name}");
    }
}

#[tokio::test]
async fn i1_every_hl7_fault_loses_nothing() {
    for name in ["dropped-ack", "noise", "cut", "dup-frame"] {
        let summary = account(Protocol::Hl7, 4, &format!("{name}:1")).await;
        assert!(summary.faults[name] >= 4, "{name}");
    }
}

#[tokio::test]
async fn i1_every_fault_of_a_foreign_line_loses_nothing() {
    assert!(account(Protocol::Lines, 20, "").await.sent > 20, "some specimens are corrected");
    for name in ["bad-checksum", "dropped-ack", "stall", "noise", "cut", "dup-frame"] {
        let summary = account(Protocol::Lines, 3, &format!("{name}:1")).await;
        assert!(summary.faults[name] >= 3, "{name}");
        assert_eq!(name == "bad-checksum", summary.refusals >= 3, "{name}");
    }
}

#[tokio::test]
async fn a_pseudo_terminal_is_a_serial_line() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("analyzer");
    let (entries, mut kept) = mpsc::unbounded_channel();
    let path = link.clone();
    let gateway = tokio::spawn(async move {
        loop {
            if let Ok(mut port) = tokio_serial::new(path.to_string_lossy(), 9600).open_native_async() {
                receive(&mut port, Protocol::Astm, &entries).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let settings = Settings {
        count: Some(5),
        faults: "cut:1".parse().unwrap(),
        time_scale: TIME_SCALE,
        ..Settings::new(Line::Pty(link.clone()), Protocol::Astm)
    };
    run_and_check(settings, &mut kept).await;
    assert!(link.symlink_metadata().is_err(), "the link goes with the instrument");
    gateway.abort();
}

#[tokio::test]
async fn an_instrument_that_is_told_to_stop_stops() {
    let (stopper, stop) = watch::channel(false);
    let settings = Settings::new(Line::Listen("127.0.0.1:0".to_owned()), Protocol::Astm);
    let task = tokio::spawn(run(settings, None, stop));
    stopper.send(true).unwrap();
    assert_eq!(task.await.unwrap().unwrap().acknowledged, 0);
}

#[tokio::test]
async fn a_transcript_is_played_and_its_answers_are_compared() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let line = Line::Connect(listener.local_addr().unwrap().to_string());
    let (entries, mut kept) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        receive(&mut stream, Protocol::Astm, &entries).await;
    });
    let text = "> <ENQ>\n< <ACK>\n> <STX>1H|\\^&<CR>L|1<CR><ETX><CS><CR><LF>\n< <ACK>\n> <EOT>\n> <ENQ>\n< <NAK>\n";
    let steps = super::super::transcript::parse(text).unwrap();
    let summary = play(line, &[steps], TIME_SCALE).await.unwrap();
    assert_eq!(summary.violations, 1, "the last answer is an ACK");
    assert!(kept.recv().await.is_some());
}
