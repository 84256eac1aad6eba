//! Lines that follow no standard, from instruments that wait for an acknowledgement.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_serial::SerialPortBuilderExt;

use crate::rig::{PATIENCE, Rig, free_port, health, link, listen, local, serial, until};
use crate::serial::Cable;

const ACK: u8 = 0x06;
const NAK: u8 = 0x15;

/// A block of a Beckman AU: results of one specimen between STX and ETX, and the exclusive or of it all.
fn block(specimen: &str, value: &str) -> Vec<u8> {
    let text = format!("D 000101 0001{specimen:>26}    E001{value:>6}  \u{3}");
    let check = text.bytes().fold(0, |sum, byte| sum ^ byte);
    [b"\x02", text.as_bytes(), &[check]].concat()
}

fn lines(transport: &str) -> String {
    link("chemistry", "lines", &format!("{transport}\ndriver = \"beckman-au\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_foreign_lines_on_a_serial_port_are_acknowledged_refused_and_survive_a_pulled_cable() {
    let rig = Rig::new().await;
    let (near, far) = (rig.path("ttyGATEWAY"), rig.path("ttyINSTRUMENT"));
    let Some(cable) = Cable::join_terminals(near.clone(), far.clone()).await else { return };
    let gateway = rig.gateway(&lines(&serial(&near))).await;
    until("the port is open", || health(&gateway, "chemistry").up).await;
    let mut port = tokio_serial::new(far.to_string_lossy(), 9600).open_native_async().unwrap();
    let mut damaged = block("AU-1", "9.3");
    *damaged.last_mut().unwrap() ^= 1;
    for (sent, answer) in [(block("AU-0", "5.1"), ACK), (damaged, NAK), (block("AU-1", "9.3"), ACK)] {
        // As a UART hands them over.
        for piece in sent.chunks(8) {
            port.write_all(piece).await.unwrap();
        }
        let heard = tokio::time::timeout(PATIENCE, port.read_u8()).await.expect("an answer in time").unwrap();
        assert_eq!(heard, answer);
    }
    // The cable goes in the middle of a block; the analyzer sends it again.
    port.write_all(&block("AU-2", "7.0")[..30]).await.unwrap();
    drop(port);
    cable.pull();
    until("the gateway notices", || !health(&gateway, "chemistry").up).await;
    let _cable = Cable::join_terminals(near, far.clone()).await;
    until("the port is open again", || health(&gateway, "chemistry").up).await;
    let mut port = tokio_serial::new(far.to_string_lossy(), 9600).open_native_async().unwrap();
    port.write_all(&block("AU-2", "7.0")).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, port.read_u8()).await.expect("an answer in time").unwrap(), ACK);
    let holds = |id: &str| rig.chart().iter().filter(|arrival| arrival.specimens.iter().any(|s| s == id)).count();
    until("all three are in the chart", || ["AU-0", "AU-1", "AU-2"].iter().all(|id| holds(id) >= 1)).await;
    assert_eq!(rig.chart().len(), 3, "and none of them twice");
    assert!(health(&gateway, "chemistry").reasons.contains_key("a message came damaged"));
    gateway.stop().await;
}

/// Sends a block until it is acknowledged, over as many connections as it takes.
fn deliver(port: u16, block: &[u8]) {
    use std::io::{Read, Write};
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "nobody acknowledges the block");
        let answer = TcpStream::connect(local(port)).and_then(|mut line| {
            line.set_read_timeout(Some(Duration::from_secs(3)))?;
            line.write_all(block)?;
            let mut answer = [0];
            line.read_exact(&mut answer)?;
            Ok(answer[0])
        });
        match answer {
            Ok(ACK) => return,
            Ok(_) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_gateway_killed_while_it_acknowledges_lines_neither_loses_nor_doubles_a_block() {
    const BLOCKS: usize = 120;
    let rig = Rig::new().await;
    let port = free_port();
    let links = lines(&listen(port));
    let instrument = tokio::task::spawn_blocking(move || {
        for number in 0..BLOCKS {
            deliver(port, &block(&format!("AU-{number:04}"), &format!("{}.{}", number / 10, number % 10)));
            std::thread::sleep(Duration::from_millis(15));
        }
    });
    for round in 0..6u64 {
        let served = rig.child(&links).await;
        tokio::time::sleep(Duration::from_millis(40 * round)).await;
        drop(served);
    }
    let _served = rig.child(&links).await;
    tokio::time::timeout(PATIENCE, instrument).await.expect("every block is acknowledged in time").unwrap();
    let of = |number: usize| {
        let specimen = format!("AU-{number:04}");
        let arrivals = rig.chart().into_iter().filter(move |arrival| arrival.specimens.contains(&specimen));
        arrivals.map(|arrival| arrival.message_id).collect::<std::collections::BTreeSet<_>>().len()
    };
    until("every acknowledged block is in the chart", || (0..BLOCKS).all(|number| of(number) >= 1)).await;
    // A block whose ACK died with the gateway was sent again; the chart has it once.
    let doubled: Vec<usize> = (0..BLOCKS).filter(|number| of(*number) > 1).collect();
    assert_eq!(doubled, Vec::<usize>::new());
}
