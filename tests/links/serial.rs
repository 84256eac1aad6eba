//! Serial lines. socat is the cable: two pseudo terminals joined together, or one joined to a socket, as in a terminal
//! server.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use afferent::sim::instrument::Settings;
use afferent::sim::instrument::line::Line;
use afferent::wire::Protocol;

use crate::rig::{Instrument, Rig, dial, free_port, health, link, listen, local, serial, until};

const BAUD: u32 = 9600;
const LEFT_OUT: &str = "left out: socat is not installed";

/// A running socat. Pulling it out kills it, and the devices it made vanish.
struct Cable {
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

    fn pull(mut self) {
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

    let line = Line::Device { path: far.clone(), baud: BAUD };
    let settings = Settings {
        count: Some(SPECIMENS as u64),
        rate: Some(20.0),
        corrections: 0.0,
        ..Settings::new(line, Protocol::Astm)
    };
    let mut instrument = Instrument::with(settings);
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
