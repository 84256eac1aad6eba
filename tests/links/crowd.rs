//! Invariant I10 on a listener: however many useless or greedy peers there are, an instrument gets through, and the
//! memory of the gateway stays where it was.

use std::time::{Duration, Instant};

use afferent::sim::instrument::line::Line;
use afferent::wire::Protocol;
use afferent::wire::astm::{ACK, ENQ, EOT, NAK, STX, encode_frame};
use afferent::wire::mllp::{FS, MESSAGE_MAX, VT, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Instrument, PATIENCE, Rig, code, free_port, link, listen, local, oru, read_message, until};

/// Connections that say nothing, and as many that say one byte now and then.
const IDLE: usize = 200;
const DRIPPING: usize = 200;
const DRIP: Duration = Duration::from_millis(100);
/// Unfinished messages of a mebibyte, more than a link holds, and ordinary ones that need more than one mebibyte.
const PILE: usize = 80;
const ORDINARY: usize = 20;
const ORDINARY_BYTES: usize = 60 * 1024;
/// Memory the crowd may cost, and a pile of unfinished messages on top.
const CROWD_MIB: u64 = 24;
const PILE_MIB: u64 = 160;
/// Memory a few messages of the largest size may cost in an unoptimised build, all copies on their way included.
const LARGE_MIB: u64 = 400;

/// Peers who hold connections and give nothing. They leave with the test.
struct Crowd {
    _idle: Vec<TcpStream>,
    dripping: tokio::task::JoinHandle<()>,
}

impl Crowd {
    /// Fills a listener; the dripping ones begin with `start`.
    async fn gather(port: u16, start: &'static [u8]) -> Crowd {
        let mut idle = Vec::new();
        let mut dripping = Vec::new();
        for n in 0..IDLE + DRIPPING {
            let mut stream = TcpStream::connect(local(port)).await.unwrap();
            if n % 2 == 0 {
                idle.push(stream);
            } else {
                stream.write_all(start).await.unwrap();
                dripping.push(stream);
            }
        }
        let dripping = tokio::spawn(async move {
            loop {
                for stream in &mut dripping {
                    // Those that were sent away have nobody to drip on.
                    let _ = stream.write_all(b"x").await;
                }
                tokio::time::sleep(DRIP).await;
            }
        });
        Crowd { _idle: idle, dripping }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.dripping.abort();
    }
}

/// Several hundred connections need more descriptors than a shell gives.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read and write the struct they are given.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_idle_and_dripping_peers_do_not_keep_an_instrument_out() {
    raise_descriptor_limit();
    let rig = Rig::new().await;
    let (astm, hl7) = (free_port(), free_port());
    let served = rig.child(&[link("astm", "astm", &listen(astm)), link("hl7", "hl7", &listen(hl7))].concat()).await;
    // One instrument was there before the crowd; it has no reason to lose its place.
    let mut early = Instrument::start(Line::Connect(local(astm)), Protocol::Astm, "EARLY", 40);
    early.reaches(2).await;
    let before = served.peak_mib();
    let crowds = [Crowd::gather(astm, b"\x05\x021H|").await, Crowd::gather(hl7, b"\x0bMSH|^~\\&|").await];
    for (link, port, protocol) in [("astm", astm, Protocol::Astm), ("hl7", hl7, Protocol::Hl7)] {
        let start = Instant::now();
        let (_, books) = Instrument::start(Line::Connect(local(port)), protocol, link, 10).finishes().await;
        println!("{link}: 10 specimens in {:?} beside the crowd", start.elapsed());
        assert_eq!(books.len(), 10);
        rig.everything_arrives(&books).await;
        assert!(served.counted(link, "too many connections: the least useful one was closed") > 0);
    }
    let (summary, books) = early.finishes().await;
    assert_eq!((books.len(), summary.line_losses), (40, 0), "the useful connection was kept");
    rig.everything_arrives(&books).await;
    println!("peak {} MiB, {before} MiB before the crowd", served.peak_mib());
    assert!(served.peak_mib() <= before + CROWD_MIB);
    drop(crowds);
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_a_pile_of_unfinished_messages_leaves_room_for_an_ordinary_one() {
    let rig = Rig::new().await;
    let port = free_port();
    let served = rig.child(&link("ward", "hl7", &listen(port))).await;
    let before = served.peak_mib();
    // Together more than the link may hold; what is over is cut off.
    let unfinished = [b"\x0bMSH|^~\\&|".as_slice(), &vec![b'x'; 1 << 20]].concat();
    let mut pile = Vec::new();
    for _ in 0..PILE {
        let mut stream = TcpStream::connect(local(port)).await.unwrap();
        let _ = stream.write_all(&unfinished).await;
        pile.push(stream);
    }
    let reason = "too many unfinished bytes on this link: closed";
    until(reason, || served.counted("ward", reason) >= 1).await;
    // What is left is less than these need together, and still each of them gets through.
    let mut ordinary = Vec::new();
    for n in 0..ORDINARY {
        let message = frame(&with_document(&format!("D{n}"), ORDINARY_BYTES));
        let mut stream = TcpStream::connect(local(port)).await.unwrap();
        let (most, rest) = message.split_at(message.len() - 10);
        stream.write_all(most).await.unwrap();
        ordinary.push((stream, rest.to_vec()));
    }
    until("all are connected", || served.health("ward")["connections"].as_u64() == Some((PILE + ORDINARY) as u64))
        .await;
    for (mut stream, rest) in ordinary {
        stream.write_all(&rest).await.unwrap();
        assert_eq!(code(&read_message(&mut stream).await.unwrap()), "AA");
    }
    println!("peak {} MiB, {before} MiB before the pile", served.peak_mib());
    assert!(served.peak_mib() <= before + PILE_MIB);
    drop(pile);
}

/// A message of exactly `length` bytes: a report in a PDF, as ED.
fn with_document(control_id: &str, length: usize) -> Vec<u8> {
    let head = format!(
        "MSH|^~\\&|SIMULATED-1|LAB|||20260101120000||ORU^R01^ORU_R01|{control_id}|P|2.5.1||||||UNICODE UTF-8\r\
         PID|1||PT1^^^HOSP^MR||DOE^JANE||19700101|F\rOBR|1||LARGE|PANEL^Panel^L|||20260101120000\r\
         OBX|1|ED|11502-2^Laboratory report^LN||^application^pdf^Base64^"
    );
    let tail = "||||||F|||20260101120000\r";
    let document = "JVBERi0x".bytes().cycle().take(length - head.len() - tail.len());
    head.bytes().chain(document).chain(tail.bytes()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_a_message_of_sixteen_mebibytes_is_taken_and_one_byte_more_is_not() {
    let rig = Rig::new().await;
    let port = free_port();
    // Reply timers are for small messages; this build is slow.
    let served = rig
        .child(&link("ward", "hl7", &listen(port)).replace("reply_timeout_ms = 1400", "reply_timeout_ms = 30000"))
        .await;
    let mut line = TcpStream::connect(local(port)).await.unwrap();
    line.write_all(&frame(&with_document("L1", MESSAGE_MAX))).await.unwrap();
    assert_eq!(code(&read_message(&mut line).await.unwrap()), "AA");

    line.write_all(&frame(&with_document("L2", MESSAGE_MAX + 1))).await.unwrap();
    assert_eq!(code(&read_message(&mut line).await.unwrap()), "AR");
    line.write_all(&frame(&oru("M1", "SMALL", "5.0"))).await.unwrap();
    assert_eq!(code(&read_message(&mut line).await.unwrap()), "AA", "the line is usable at once");

    // One that never ends is refused when it is over the limit; ended at last, it is over and done with.
    let endless = [&[VT], with_document("L3", MESSAGE_MAX).as_slice(), &vec![b'x'; MESSAGE_MAX / 2]].concat();
    line.write_all(&endless).await.unwrap();
    assert_eq!(code(&read_message(&mut line).await.unwrap()), "AR");
    line.write_all(&[FS, b'\r']).await.unwrap();
    line.write_all(&frame(&oru("M2", "SMALL", "6.0"))).await.unwrap();
    assert_eq!(code(&read_message(&mut line).await.unwrap()), "AA");
    assert_eq!(served.counted("ward", "message over the size limit"), 2);

    let document = with_document("L1", MESSAGE_MAX);
    let document = &document[document.len() - (1 << 20)..document.len() - 100];
    until("the document is in the chart, whole", || {
        rig.chart()
            .iter()
            .any(|a| a.body.len() > MESSAGE_MAX - 4096 && a.body.windows(document.len()).any(|w| w == document))
    })
    .await;
    until("the small ones are in the chart", || rig.chart().len() >= 3).await;
    println!("peak {} MiB", served.peak_mib());
    assert!(served.peak_mib() <= LARGE_MIB, "{} MiB", served.peak_mib());
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_an_endless_frame_is_refused_and_the_line_is_usable_at_once() {
    let rig = Rig::new().await;
    let port = free_port();
    let gateway = rig.gateway(&link("chemistry", "astm", &listen(port))).await;
    let mut line = TcpStream::connect(local(port)).await.unwrap();
    let mut say = async |bytes: &[u8], answer: u8| {
        line.write_all(bytes).await.unwrap();
        let read = tokio::time::timeout(PATIENCE, line.read_u8()).await.expect("an answer in time");
        assert_eq!(read.unwrap(), answer);
    };
    let text = vec![b'x'; 1 << 20];
    say(&[ENQ], ACK).await;
    say(&encode_frame(1, &text, true), NAK).await;
    say(&encode_frame(1, b"H|\\^&|||SIMULATED-1|||||||P|LIS2-A2|20260101120000\r", true), ACK).await;
    // The second one never ends: its sender gives up and asks for the line again.
    let endless = [&[STX, b'2'], text.as_slice()].concat();
    say(&[&endless[..], &[ENQ]].concat(), ACK).await;
    let records = "H|\\^&|||SIMULATED-1|||||||P|LIS2-A2|20260101120000\rP|1||PT1||DOE^JANE||19700101|F\r\
                   O|1|AFTER-ENDLESS|||R||20260101120000||||N||||||||||||||F\r\
                   R|1|2345-7|5.50|mg/dL||N||F||||20260101120000\rL|1|N\r";
    say(&encode_frame(1, records.as_bytes(), true), ACK).await;
    line.write_all(&[EOT]).await.unwrap();
    until("the result is in the chart", || {
        rig.chart().iter().any(|arrival| arrival.specimens.iter().any(|id| id == "AFTER-ENDLESS"))
    })
    .await;
    drop(line);
    gateway.stop().await;
}
