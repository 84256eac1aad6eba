//! TCP: listeners and diallers, many sessions, many instruments, peers that go away.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use afferent::sim::instrument::Settings;
use afferent::sim::instrument::line::Line;
use afferent::wire::Protocol::{self, Astm, Hl7};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{
    Instrument, Rig, code, dial, free_port, health, holds, link, listen, local, oru, read_message, until,
};

/// Four links, one for each protocol and direction, and where an instrument on each is plugged in.
fn four_links() -> (String, [(&'static str, Protocol, Line); 4]) {
    let ports = [(); 4].map(|()| free_port());
    let links = [
        link("astm-listens", "astm", &listen(ports[0])),
        link("astm-dials", "astm", &dial(ports[1])),
        link("hl7-listens", "hl7", &listen(ports[2])),
        link("hl7-dials", "hl7", &dial(ports[3])),
    ];
    let lines = [
        ("astm-listens", Astm, Line::Connect(local(ports[0]))),
        ("astm-dials", Astm, Line::Listen(local(ports[1]))),
        ("hl7-listens", Hl7, Line::Connect(local(ports[2]))),
        ("hl7-dials", Hl7, Line::Listen(local(ports[3]))),
    ];
    (links.concat(), lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_and_diallers_carry_many_sessions_from_several_instruments_at_once() {
    const SPECIMENS: u64 = 12;
    let rig = Rig::new().await;
    let (links, lines) = four_links();
    let gateway = rig.gateway(&links).await;
    let instruments = lines.map(|(name, protocol, line)| (name, Instrument::start(line, protocol, name, SPECIMENS)));
    for (name, instrument) in instruments {
        let (summary, books) = instrument.finishes().await;
        assert_eq!((summary.acknowledged, summary.line_losses), (SPECIMENS, 0), "{name}");
        rig.everything_arrives(&books).await;
        let health = health(&gateway, name);
        // A dialler may have knocked before the instrument listened; every message came over one connection.
        assert_eq!((health.messages, health.connections), (SPECIMENS, 1), "{name}");
        let expected = ["the instrument cannot be reached", "the connection to the instrument ended"];
        assert!(health.reasons.keys().all(|reason| expected.contains(&reason.as_str())), "{health:?}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_instruments_share_a_listener() {
    const INSTRUMENTS: usize = 16;
    let rig = Rig::new().await;
    let (astm, hl7) = (free_port(), free_port());
    let links = [link("astm", "astm", &listen(astm)), link("hl7", "hl7", &listen(hl7))].concat();
    let gateway = rig.gateway(&links).await;
    let instruments: Vec<Instrument> = (0..INSTRUMENTS)
        .map(|n| {
            let (port, protocol) = if n % 2 == 0 { (astm, Astm) } else { (hl7, Hl7) };
            Instrument::start(Line::Connect(local(port)), protocol, &format!("N{n:03}"), 3)
        })
        .collect();
    for instrument in instruments {
        let (_, books) = instrument.finishes().await;
        assert_eq!(books.len(), 3);
        rig.everything_arrives(&books).await;
    }
    assert_eq!(health(&gateway, "astm").messages + health(&gateway, "hl7").messages, 3 * INSTRUMENTS as u64);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_the_same_specimen_numbers_on_other_links_are_other_results() {
    const SPECIMENS: u64 = 6;
    let rig = Rig::new().await;
    let (links, lines) = four_links();
    let gateway = rig.gateway(&links).await;
    // The first three send the very same numbers with the very same values, the last one with values of its own.
    let seeds = [1, 1, 1, 2];
    let instruments: Vec<Instrument> = lines
        .into_iter()
        .zip(seeds)
        .map(|((_, protocol, line), seed)| {
            let twins = Settings::new(line, protocol);
            Instrument::with(Settings { count: Some(SPECIMENS), corrections: 0.0, seed, run: "TWIN".into(), ..twins })
        })
        .collect();
    let mut all = Vec::new();
    for instrument in instruments {
        let (_, books) = instrument.finishes().await;
        rig.everything_arrives(&books).await;
        all.push(books);
    }
    until("every instrument's results are in the chart", || rig.chart().len() >= 4 * SPECIMENS as usize).await;
    let chart = rig.chart();
    assert_eq!(chart.len(), 4 * SPECIMENS as usize);
    for (first, other) in all[0].iter().zip(&all[3]) {
        let of = |wanted| chart.iter().filter(|arrival| holds(arrival, wanted)).count();
        assert_eq!((of(first), of(other)), (3, 1), "no message mixes two instruments");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_hangs_up_is_dialled_again_after_growing_pauses() {
    let rig = Rig::new().await;
    let port = free_port();
    let listener = TcpListener::bind(local(port)).await.unwrap();
    let gateway = rig.gateway(&link("chemistry", "astm", &dial(port))).await;
    let mut accepted = Vec::new();
    for _ in 0..6 {
        drop(listener.accept().await.unwrap());
        accepted.push(Instant::now());
    }
    drop(listener);
    // Steps of 20, 40, 80, 160 and 200 ms; the jitter takes at most half of one off.
    for (pair, step_ms) in accepted.windows(2).zip([20, 40, 80, 160, 200]) {
        let pause = pair[1] - pair[0];
        assert!(pause >= Duration::from_millis(step_ms / 2), "{pause:?} of {step_ms} ms");
    }
    until("the loss is counted", || !health(&gateway, "chemistry").up).await;
    assert!(health(&gateway, "chemistry").reasons["the connection to the instrument ended"] >= 5);

    let (_, books) = Instrument::start(Line::Listen(local(port)), Astm, "BACK", 3).finishes().await;
    assert_eq!(books.len(), 3);
    rig.everything_arrives(&books).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_power_was_cut_is_noticed_within_two_minutes() {
    let rig = Rig::new().await;
    let (listens, dials) = (free_port(), free_port());
    let instrument = TcpListener::bind(local(dials)).await.unwrap();
    let links = [link("listens", "astm", &listen(listens)), link("dials", "hl7", &dial(dials))].concat();
    let gateway = rig.gateway(&links).await;
    let calling = TcpStream::connect(local(listens)).await.unwrap();
    let (called, _) = instrument.accept().await.unwrap();
    until("both are connected", || {
        ["listens", "dials"].iter().all(|name| health(&gateway, name).open_connections == 1)
    })
    .await;
    for (ours, name) in [(&calling, "listens"), (&called, "dials")] {
        let (keepalive, unacknowledged) = probing(ours.local_addr().unwrap());
        assert!(keepalive <= Duration::from_secs(120), "{name}: a silent peer is noticed after {keepalive:?}");
        assert!(unacknowledged <= Duration::from_secs(120), "{name}: an unheard answer is noticed after it");
    }
    gateway.stop().await;
}

/// Finds, among the sockets of this process, the gateway's end of a connection, and tells how long it takes to notice
/// that its peer is gone: while nothing is sent, and while something sent is not acknowledged.
fn probing(peer: std::net::SocketAddr) -> (Duration, Duration) {
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers: Vec<i32> =
        numbers.map(|entry| entry.unwrap().file_name().to_string_lossy().parse().unwrap()).collect();
    for number in numbers {
        // SAFETY: only asked for its options. Should the descriptor be closed meanwhile, asking fails.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        let socket = socket2::SockRef::from(&borrowed);
        if socket.peer_addr().ok().and_then(|address| address.as_socket()) != Some(peer) {
            continue;
        }
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        let probes = socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        let unacknowledged = socket.tcp_user_timeout().unwrap().expect("bounded");
        return (socket.tcp_keepalive_time().unwrap() + probes, unacknowledged);
    }
    panic!("the gateway has no connection from {peer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn oru_and_oul_both_reach_the_chart() {
    let oul = b"MSH|^~\\&|SIMULATED-1|LAB|||20260101120000||OUL^R22^OUL_R22|OUL-1|P|2.5.1||||||UNICODE UTF-8\r\
        PID|1||PT2^^^HOSP^MR||ROE^RICHARD||19700101|M\rSPM|1|OUL-SPECIMEN||SER\rSAC|||OUL-SPECIMEN\r\
        OBR|1||OUL-SPECIMEN|2823-3^Potassium^LN|||20260101120000\r\
        OBX|1|NM|2823-3^Potassium^LN||4.10|mmol/L||N|||F|||20260101120000\r";
    let rig = Rig::new().await;
    let port = free_port();
    let gateway = rig.gateway(&link("chemistry", "hl7", &listen(port))).await;
    let mut stream = TcpStream::connect(local(port)).await.unwrap();
    for message in [oru("ORU-1", "ORU-SPECIMEN", "7.050"), oul.to_vec()] {
        stream.write_all(&afferent::wire::mllp::frame(&message)).await.unwrap();
        assert_eq!(code(&read_message(&mut stream).await.unwrap()), "AA");
    }
    until("both are in the chart", || rig.chart().len() == 2).await;
    for (specimen, value) in [("ORU-SPECIMEN", "|7.050|"), ("OUL-SPECIMEN", "|4.10|")] {
        let arrival = rig.chart().into_iter().find(|a| a.specimens.iter().any(|s| s == specimen)).unwrap();
        assert!(String::from_utf8_lossy(&arrival.body).contains(value), "{specimen}");
    }
    drop(stream);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_closes_its_lines() {
    let rig = Rig::new().await;
    let port = free_port();
    let gateway = rig.gateway(&link("chemistry", "astm", &listen(port))).await;
    let mut stream = TcpStream::connect(local(port)).await.unwrap();
    stream.write_all(&[afferent::wire::astm::ENQ]).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), afferent::wire::astm::ACK);
    gateway.stop().await;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
}
