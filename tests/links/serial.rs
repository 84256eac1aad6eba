//! Serial lines. socat is the cable: two pseudo terminals joined together, or one joined to a socket, as in a terminal
//! server.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use afferent::sim::instrument::Settings;
use afferent::sim::instrument::line::Line;
use afferent::wire::{Protocol, mllp};
use tokio::io::AsyncWriteExt;
use tokio_serial::SerialPortBuilderExt;

use crate::rig::{Instrument, Rig, dial, free_port, health, link, listen, local, oru, read_message, serial, until};

const BAUD: u32 = 9600;
const LEFT_OUT: &str = "left out: socat is not installed";

/// A running socat. Pulling it out kills it, and the devices it made vanish.
pub struct Cable {
    socat: Child,
    devices: Vec<PathBuf>,
}

impl Cable {
    /// Joins two ends, and waits until the devices among them are there.
    async fn join(ends: [String; 2], devices: Vec<PathBuf>) -> Cable {
        let socat = Command::new("socat").args(ends).stdin(Stdio::null()).spawn().unwrap();
        let cable = Cable { socat, devices };
        until("socat made its devices", || cable.devices.iter().all(|device| device.exists())).await;
        cable
    }

    async fn between(one: PathBuf, other: PathBuf) -> Cable {
        Cable::join([terminal(&one), terminal(&other)], vec![one, other]).await
    }

    /// A terminal at one end, a connection to a port at the other; `None`, and said so, without socat.
    pub async fn to_port(device: PathBuf, port: u16) -> Option<Cable> {
        if !has_socat() {
            println!("{LEFT_OUT}");
            return None;
        }
        Some(Cable::join([terminal(&device), format!("TCP:{}", local(port))], vec![device]).await)
    }

    /// Two terminals; `None`, and said so, without socat.
    pub async fn join_terminals(one: PathBuf, other: PathBuf) -> Option<Cable> {
        if !has_socat() {
            println!("{LEFT_OUT}");
            return None;
        }
        Some(Cable::between(one, other).await)
    }

    pub fn pull(mut self) {
        self.socat.kill().unwrap();
        self.socat.wait().unwrap();
        for device in &self.devices {
            std::fs::remove_file(device).unwrap();
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = self.socat.kill();
        let _ = self.socat.wait();
    }
}

fn terminal(device: &std::path::Path) -> String {
    format!("pty,raw,echo=0,link={}", device.display())
}

fn has_socat() -> bool {
    Command::new("socat").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_pulled_out_in_the_middle_and_put_back_loses_nothing() {
    if !has_socat() {
        return println!("{LEFT_OUT}");
    }
    const SPECIMENS: usize = 24;
    let rig = Rig::new().await;
    let (near, far) = (rig.path("ttyGATEWAY"), rig.path("ttyINSTRUMENT"));
    // Not plugged in yet when the gateway starts: it says so, and waits.
    let gateway = rig.gateway(&link("chemistry", "astm", &serial(&near))).await;
    until("the missing port is counted", || {
        health(&gateway, "chemistry").reasons.contains_key("the serial port cannot be opened")
    })
    .await;
    assert!(!health(&gateway, "chemistry").up);

    let mut instrument = Instrument::with(steady(&far, Protocol::Astm, SPECIMENS));
    for reached in [SPECIMENS / 3, SPECIMENS * 2 / 3] {
        let cable = Cable::between(near.clone(), far.clone()).await;
        instrument.reaches(reached).await;
        assert!(health(&gateway, "chemistry").up);
        cable.pull();
        until("the gateway notices", || !health(&gateway, "chemistry").up).await;
    }
    let _cable = Cable::between(near, far).await;

    let (summary, books) = instrument.finishes().await;
    assert_eq!((books.len(), summary.violations), (SPECIMENS, 0));
    rig.everything_arrives(&books).await;
    assert!(health(&gateway, "chemistry").reasons["the serial port went away"] >= 2);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_server_may_dial_or_be_dialled() {
    if !has_socat() {
        return println!("{LEFT_OUT}");
    }
    let rig = Rig::new().await;
    let (called, calling) = (free_port(), free_port());
    let links = [link("called", "astm", &dial(called)), link("calling", "astm", &listen(calling))].concat();
    let gateway = rig.gateway(&links).await;
    let (one, two) = (rig.path("ttyONE"), rig.path("ttyTWO"));
    let server = format!("TCP-LISTEN:{called},bind=127.0.0.1,reuseaddr");
    let _first = Cable::join([terminal(&one), server], vec![one.clone()]).await;
    let _second = Cable::join([terminal(&two), format!("TCP:{}", local(calling))], vec![two.clone()]).await;
    let instruments = [("ONE1", one), ("TWO2", two)]
        .map(|(run, path)| Instrument::start(Line::Device { path, baud: BAUD }, Protocol::Astm, run, 5));
    for instrument in instruments {
        let (_, books) = instrument.finishes().await;
        assert_eq!(books.len(), 5);
        rig.everything_arrives(&books).await;
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_on_a_serial_line_loses_nothing_to_noise_cuts_and_a_pulled_cable() {
    if !has_socat() {
        return println!("{LEFT_OUT}");
    }
    const SPECIMENS: usize = 20;
    let rig = Rig::new().await;
    let (near, far) = (rig.path("ttyGATEWAY"), rig.path("ttyINSTRUMENT"));
    let gateway = rig.gateway(&link("chemistry", "hl7", &serial(&near))).await;
    let faults = "noise:0.4,cut:0.1".parse().unwrap();
    let cable = Cable::between(near.clone(), far.clone()).await;
    let mut instrument = Instrument::with(Settings { faults, ..steady(&far, Protocol::Hl7, SPECIMENS) });
    instrument.reaches(SPECIMENS / 2).await;
    cable.pull();
    until("the gateway notices", || !health(&gateway, "chemistry").up).await;
    let _cable = Cable::between(near, far).await;

    let (summary, books) = instrument.finishes().await;
    assert_eq!((books.len(), summary.violations), (SPECIMENS, 0));
    assert_eq!(summary.faults.keys().copied().collect::<Vec<_>>(), ["cut", "noise"]);
    rig.everything_arrives(&books).await;
    assert!(health(&gateway, "chemistry").reasons.contains_key("bytes between messages"), "the noise is counted");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_on_a_serial_line_is_found_in_what_idle_ports_send() {
    if !has_socat() {
        return println!("{LEFT_OUT}");
    }
    let rig = Rig::new().await;
    let (near, far) = (rig.path("ttyGATEWAY"), rig.path("ttyINSTRUMENT"));
    let _cable = Cable::between(near.clone(), far.clone()).await;
    let gateway = rig.gateway(&link("chemistry", "hl7", &serial(&near))).await;
    until("the port is open", || health(&gateway, "chemistry").up).await;
    let mut port = tokio_serial::new(far.to_string_lossy(), BAUD).open_native_async().unwrap();
    let message = |id: &str| oru(id, &format!("SPECIMEN-{id}"), "5.4");
    let framed = |id: &str| mllp::frame(&message(id));
    let lines = [
        // STX bytes while idle (Mindray BC-5130), a lost VT, a message broken off by the next, FS without CR.
        ("1", [b"\x02\x02\0", framed("1").as_slice()].concat()),
        ("2", [message("2").as_slice(), &[mllp::FS, mllp::CR]].concat()),
        ("3", [&framed("broken")[..40], &framed("3")].concat()),
        ("4", framed("4").strip_suffix(&[mllp::CR]).unwrap().to_vec()),
    ];
    for (id, sent) in lines {
        // As a UART hands them over.
        for piece in sent.chunks(8) {
            port.write_all(piece).await.unwrap();
        }
        let answer = read_message(&mut port).await.unwrap();
        assert!(String::from_utf8_lossy(&answer).contains(&format!("MSA|AA|{id}")), "{id}");
    }
    until("all four are in the chart", || rig.chart().len() == 4).await;
    gateway.stop().await;
}

/// An instrument on a serial device that sends so many specimens, twenty a second.
fn steady(path: &std::path::Path, protocol: Protocol, specimens: usize) -> Settings {
    let line = Line::Device { path: path.to_owned(), baud: BAUD };
    Settings { count: Some(specimens as u64), rate: Some(20.0), corrections: 0.0, ..Settings::new(line, protocol) }
}
