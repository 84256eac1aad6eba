//! Another configuration is applied while the gateway runs: what it does not touch goes on, and nothing is lost or
//! doubled by what it does.

use crate::rig::{Instrument, Rig, free_port, health, link, listen, local, until};
use afferent::config::{self, Config, Trial};
use afferent::delivery::Tryout;
use afferent::gateway::{Changes, Gateway, PartId};
use afferent::sim::instrument::line::Line;
use afferent::wire::Protocol;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const RULE: &str = "[[rule]]\nname = \"flags\"\nkind = \"flag\"\nflags = [\"HH\"]\n";

fn config(text: &str) -> Config {
    config::parse("rig.toml", text).unwrap_or_else(|error| panic!("{error}")).config
}

async fn apply(gateway: &mut Gateway, text: &str) -> Changes {
    let changes = gateway.apply(&config(text)).await.unwrap();
    assert!(changes.failed.is_empty(), "{changes:?}");
    changes
}

/// A frame as LIS01-A2 lays it out.
fn frame(number: u8, text: &str) -> Vec<u8> {
    let body = format!("{number}{text}\r\x03");
    let sum = body.bytes().fold(0_u8, u8::wrapping_add);
    format!("\x02{body}{sum:02X}\r\n").into_bytes()
}

async fn acknowledged(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    let mut answer = [0];
    tokio::time::timeout(crate::rig::PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, [0x06]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untouched_link_keeps_its_connection_in_the_middle_of_a_message() {
    let rig = Rig::new().await;
    let (here, there, elsewhere) = (free_port(), free_port(), free_port());
    let chemistry =
        link("chemistry", "astm", &listen(here)).replace("message_timeout_ms = 3000", "message_timeout_ms = 60000");
    let chemistry = chemistry.replace("frame_timeout_ms = 3000", "frame_timeout_ms = 60000");
    let mut gateway = rig.gateway(&chemistry).await;
    let mut analyzer = TcpStream::connect(local(here)).await.unwrap();
    acknowledged(&mut analyzer, b"\x05").await;
    acknowledged(&mut analyzer, &frame(1, "H|\\^&|||SIMULATED^1|||||||P|LIS2-A2|20260101120000")).await;

    // Another link is added, changed and removed; the rules and the zone of nothing change with it.
    let with = |port: u16| format!("{chemistry}{}", link("other", "hl7", &listen(port)));
    let changes = apply(&mut gateway, &rig.text(&with(there))).await;
    assert_eq!(changes.started, [PartId::Interpreter, PartId::Line("other".into())]);
    assert!(changes.kept.contains(&PartId::Line("chemistry".into())), "{changes:?}");
    acknowledged(&mut analyzer, &frame(2, "P|1||PT1||DOE^JANE||19700101|F")).await;
    assert!(TcpStream::connect(local(there)).await.is_ok(), "the new one listens");
    apply(&mut gateway, &rig.text(&with(elsewhere))).await;
    assert!(TcpStream::connect(local(there)).await.is_err(), "and not where it did any more");
    assert!(TcpStream::connect(local(elsewhere)).await.is_ok());
    acknowledged(&mut analyzer, &frame(3, "O|1|S-1||^^^GLU|R||20260101120000||||N||||SER")).await;
    let changes = apply(&mut gateway, &format!("{}{RULE}", rig.text(&chemistry))).await;
    assert_eq!((changes.removed, changes.started), (vec![PartId::Line("other".into())], vec![PartId::Interpreter]));
    assert!(TcpStream::connect(local(elsewhere)).await.is_err(), "it is gone");
    acknowledged(&mut analyzer, &frame(4, "R|1|^^^2345-7|5.5|mmol/L||N||F||||20260101120000")).await;
    acknowledged(&mut analyzer, &frame(5, "L|1|N")).await;
    analyzer.write_all(b"\x04").await.unwrap();
    until("the result is in the chart", || rig.chart().iter().any(|a| a.specimens.contains(&"S-1".to_string()))).await;
    assert_eq!(health(&gateway, "chemistry").connections, 1, "one connection all the time");

    // What the gateway stands on is not changed while it runs, and a port that is taken fails alone.
    let other_data = rig.text(&chemistry).replace("/data\"", "/other\"");
    assert!(gateway.apply(&config(&other_data)).await.unwrap_err().to_string().contains("gateway.data"));
    let taken = std::net::TcpListener::bind(local(there)).unwrap();
    let changes = gateway.apply(&config(&rig.text(&with(there)))).await.unwrap();
    assert_eq!(changes.failed.len(), 1, "{changes:?}");
    drop(taken);
    assert_eq!(apply(&mut gateway, &rig.text(&with(there))).await.started, [PartId::Line("other".into())]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_every_result_arrives_once_while_its_destination_and_its_reader_are_changed() {
    let rig = Rig::new().await;
    let port = free_port();
    let links = link("chemistry", "astm", &listen(port));
    let text = rig.text(&links);
    let away = text.replace(&rig.ehr.mllp().unwrap().to_string(), &local(free_port()));
    let mut gateway = Gateway::start(&config(&away)).await.unwrap();
    let mut waiting = Instrument::start(Line::Connect(local(port)), Protocol::Astm, "W", 10);
    waiting.reaches(10).await;
    assert!(rig.chart().is_empty(), "they wait for a destination that is not there");
    // Now it is there; and while more comes, destination and rules are others again and again.
    let mut instrument = Instrument::start(Line::Connect(local(port)), Protocol::Astm, "R", 40);
    for round in 0..12 {
        let other = text.replace("retry_max_ms = 200", &format!("retry_max_ms = {}", 200 + round));
        apply(&mut gateway, &if round % 2 == 0 { other } else { format!("{other}{RULE}") }).await;
        instrument.reaches((round as usize + 1) * 3).await;
    }
    let (_, mut books) = waiting.finishes().await;
    books.extend(instrument.finishes().await.1);
    assert_eq!(books.len(), 50);
    rig.everything_arrives(&books).await;
    let arrivals = rig.ehr.arrivals();
    let ids: BTreeSet<&String> = arrivals.iter().map(|arrival| &arrival.message_id).collect();
    assert_eq!((arrivals.len(), ids.len()), (50, 50), "each once");
    assert_eq!(health(&gateway, "chemistry").connections, 2, "the link was not touched");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_trial_that_asks_for_no_commitment_lets_go_of_no_image_before_it_is_confirmed() {
    let rig = Rig::new().await;
    let pacs = format!(
        "[dicom]\nlisten = \"{}\"\nae_title = \"BOX\"\n[[modality]]\nname = \"ct\"\nae_title = \"CT\"\n\
         [[destination]]\nname = \"pacs\"\nprotocol = \"dicom\"\naddress = \"{}\"\ncalled_ae_title = \"PACS\"\n",
        local(free_port()),
        local(free_port())
    );
    let text = rig.text(&link("chemistry", "astm", &listen(free_port())));
    let with = |commitment: bool| config(&format!("{text}{pacs}commitment = {commitment}\n"));
    let mut gateway = Gateway::start(&with(true)).await.unwrap();
    let db = rusqlite::Connection::open(with(true).gateway.data.join("journal.db")).unwrap();
    let image = "INSERT INTO entrusted(outbox, destination, state, due_ms) VALUES (1, 'pacs', 0, 9000000000000)";
    db.execute_batch(&format!("PRAGMA foreign_keys = OFF; {image}")).unwrap();
    let waits =
        || db.query_row("SELECT count(*) FROM entrusted WHERE state = 0", [], |row| row.get::<_, i64>(0)).unwrap();
    let in_trial = |wanted: Config| {
        let (waiting, tryout) = (BTreeSet::new(), Tryout::default());
        let trial = Trial { wanted: Arc::new(wanted.clone()), results_wait: true, waiting, tryout };
        let mut tried = wanted;
        tried.trial = Some(Arc::new(trial));
        tried
    };
    for tried in [with(false), config(&text)] {
        gateway.apply(&in_trial(tried)).await.unwrap();
        assert_eq!(waits(), 1, "it may go back");
        gateway.apply(&with(true)).await.unwrap();
        assert_eq!(waits(), 1);
    }
    gateway.apply(&with(false)).await.unwrap();
    assert_eq!(waits(), 0, "nobody asks any more");
    gateway.stop().await;
}
