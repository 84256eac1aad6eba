//! Several instruments behind one connection, as a terminal server or a data manager carries them, or on one port.

use crate::rig::{Rig, TIMERS, free_port, health, link, listen, until};
use afferent::interpreter::register;
use afferent::wire::astm::checksum;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// One message of one instrument whose clock shows `sent` now.
fn message(serial: &str, specimen: &str, value: &str, sent: &str) -> [String; 4] {
    [
        format!("H|\\^&|||ABL90^{serial}||||||||1|{sent}"),
        format!("O|1|{specimen}"),
        format!("R|1|2345-7^Glucose|{value}|mmol/L||N||F||op|{sent}|{sent}"),
        "L|1|N".to_string(),
    ]
}

/// Sends records as one session, a record a frame, each acknowledged.
async fn session(stream: &mut TcpStream, records: &[String]) {
    let mut number = 0;
    stream.write_all(b"\x05").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 0x06);
    for record in records {
        number = (number + 1) % 8;
        let body = [format!("{number}{record}\r").as_bytes(), b"\x03"].concat();
        let sum = format!("{:02X}\r\n", checksum(&body));
        stream.write_all(&[b"\x02", &body[..], sum.as_bytes()].concat()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 0x06, "{record}");
    }
    stream.write_all(b"\x04").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn instruments_of_one_connection_are_told_apart_and_a_stranger_is_held() {
    let rig = Rig::new().await;
    let port = free_port();
    let instrument = |name: &str, serial: &str, zone: &str| {
        format!(
            "[[link.instrument]]\nname = \"{name}\"\nwhere = [{{ field = \"H.5.2\", is = [\"{serial}\"] }}]\n\
             time_zone = \"{zone}\"\n"
        )
    };
    let links = format!(
        "[[link]]\nname = \"server\"\ndriver = \"generic-astm\"\n{}\n{TIMERS}{}{}",
        listen(port),
        instrument("icu", "394412", "UTC"),
        instrument("lab", "39*01", "Asia/Tokyo"),
    );
    let gateway = rig.gateway(&links).await;
    let now = jiff::Timestamp::now();
    let shows = |zone: &str| now.in_tz(zone).unwrap().strftime("%Y%m%d%H%M%S").to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // Read as UTC, the second would be nine hours ahead.
    let interleaved = [
        message("394412", "S1", "5.1", &shows("UTC")),
        message("390001", "S2", "6.2", &shows("Asia/Tokyo")),
        message("777", "S3", "7.3", &shows("UTC")),
        message("394412", "S4", "5.4", &shows("UTC")),
        message("390001", "S5", "6.5", &shows("Asia/Tokyo")),
    ];
    session(&mut stream, &interleaved.concat()).await;
    until("the known instruments' results are in the chart", || rig.chart().len() == 4).await;
    for (specimen, name) in [("S1", "icu"), ("S2", "lab"), ("S4", "icu"), ("S5", "lab")] {
        let chart = rig.chart();
        let arrival = chart.iter().find(|a| a.specimens.iter().any(|s| s == specimen)).unwrap();
        let body = String::from_utf8_lossy(&arrival.body).into_owned();
        assert!(body.contains(&format!("|{name}^")), "{specimen} names {name}: {body}");
    }
    let reader = gateway.journal().reader().unwrap();
    until("the stranger is held", || reader.holds(10).unwrap().iter().any(|h| h.reason == "unknown-instrument")).await;
    gateway.stop().await;
    let seen = &register::read(&rig.data())["server"];
    assert_eq!((seen["icu"].results, seen["lab"].results, seen["ABL90"].held), (2, 2, 1), "{seen:?}");
    assert!(seen["lab"].drifts_s.iter().all(|drift| drift.abs() < 600), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_share_a_port_are_told_apart_by_who_dials_and_a_stranger_is_turned_away() {
    let (rig, port) = (Rig::new().await, free_port());
    let shared = |name: &str, peers: &str| {
        link(name, "astm", &format!("{}\npeers = [{peers}]\ndriver = \"generic-astm\"", listen(port)))
    };
    let links = [("icu", "\"127.0.0.2\""), ("lab", "\"127.0.0.8/30\""), ("cell", "\"127.0.0.10\"")];
    let gateway = rig.gateway(&links.map(|(name, peers)| shared(name, peers)).concat()).await;
    // The most exact network wins.
    for (from, specimen) in [("127.0.0.2", "S1"), ("127.0.0.9", "S2"), ("127.0.0.11", "S3"), ("127.0.0.10", "S4")] {
        session(&mut dial(from, port).await, &message("1", specimen, "5.1", "20260101120000")).await;
    }
    until("all is in the chart", || rig.chart().len() == 4).await;
    assert_eq!(["icu", "lab", "cell"].map(|name| health(&gateway, name).messages), [1, 2, 1]);
    let mut stranger = dial("127.0.0.12", port).await;
    assert!(stranger.read_u8().await.is_err(), "nobody speaks to it");
    let reasons = health(&gateway, "icu").reasons;
    assert_eq!(reasons["a connection from an address that no link of this port names: closed"], 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_without_peers_takes_whoever_none_of_the_others_names() {
    let (rig, port) = (Rig::new().await, free_port());
    let at = |peers: &str| format!("{}\n{peers}driver = \"generic-astm\"", listen(port));
    let gateway =
        rig.gateway(&(link("icu", "astm", &at("peers = [\"127.0.0.2\"]\n")) + &link("rest", "astm", &at("")))).await;
    for (from, specimen) in [("127.0.0.2", "S1"), ("127.0.0.3", "S2")] {
        session(&mut dial(from, port).await, &message("1", specimen, "5.1", "20260101120000")).await;
    }
    until("all is in the chart", || rig.chart().len() == 2).await;
    assert_eq!(["icu", "rest"].map(|name| health(&gateway, name).messages), [1, 1]);
    gateway.stop().await;
}

async fn dial(from: &str, port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(format!("127.0.0.1:{port}").parse().unwrap()).await.unwrap()
}
