//! `afferent probe` on lines with simulated instruments: pseudo terminals joined by socat, TCP, and a link that the
//! running gateway has.

use crate::site::{Running, SERUM, Site, until};
use crate::{afferent, case, err, file, out};
use afferent::sim::transcript::{self, Step};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A configuration that is not there: the bench has none.
const NO_CONFIG: &str = "/nonexistent/afferent.toml";

/// Two pseudo terminals joined together.
pub struct Cable {
    socat: Child,
    pub near: PathBuf,
    far: PathBuf,
}

impl Cable {
    /// `None` where socat is not installed.
    pub fn join(dir: &Path) -> Option<Cable> {
        let (near, far) = (dir.join("ttyNEAR"), dir.join("ttyFAR"));
        let end = |path: &Path| format!("pty,raw,echo=0,link={}", path.display());
        let socat = Command::new("socat").args([end(&near), end(&far)]).stdin(Stdio::null()).spawn().ok()?;
        until("socat made its devices", || near.exists() && far.exists());
        Some(Cable { socat, near, far })
    }

    /// Says this at the far end, again and again while `probing` goes on; what was answered.
    pub fn say(&self, bytes: &[u8], probing: &mut Child) -> Vec<u8> {
        let mut port = std::fs::File::options().read(true).write(true).open(&self.far).unwrap();
        let mut hears = port.try_clone().unwrap();
        let answers = std::thread::spawn(move || {
            let mut heard = Vec::new();
            let _ = hears.read_to_end(&mut heard);
            heard
        });
        until("the probe has decided", || {
            if !bytes.is_empty() {
                port.write_all(bytes).unwrap();
            }
            std::thread::sleep(std::time::Duration::from_millis(700));
            probing.try_wait().unwrap().is_some()
        });
        // What was answered is read to its end once the other side is gone.
        drop(port);
        end(self.socat.id());
        answers.join().unwrap()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = self.socat.kill();
        let _ = self.socat.wait();
    }
}

/// Ends a socat of ours.
fn end(id: u32) {
    // SAFETY: kill takes no memory of ours, and the child has not been waited for, so the id is still its own.
    unsafe { libc::kill(id as i32, libc::SIGTERM) };
}

/// What the instrument says in a case of a driver.
pub fn said(session: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(case(session)).unwrap();
    let steps = transcript::parse(&text).unwrap().into_iter();
    steps.filter_map(|step| if let Step::Instrument(bytes) = step { Some(bytes) } else { None }).flatten().collect()
}

fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    command.args(["probe", "--config", NO_CONFIG, "--json"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The one finding of a probe that has ended, and its exit code.
fn finding(probing: Child) -> (Value, Option<i32>) {
    let output = probing.wait_with_output().unwrap();
    let printed: Value = serde_json::from_str(&out(&output)).unwrap_or_else(|_| panic!("{}", err(&output)));
    let findings = printed["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{printed}");
    (findings[0].clone(), output.status.code())
}

#[test]
fn a_probe_tells_what_is_spoken_on_a_serial_line_and_acknowledges_nothing() {
    let table: [(&str, Vec<u8>, &str, Option<&str>); 5] = [
        ("frames", said(SERUM), "astm", Some("roche-cobas-c311")),
        ("a call", vec![0x05], "astm", None),
        ("messages", said("siemens-clinitek/cases/normal-multistix-words"), "mllp", Some("siemens-clinitek")),
        (
            "a printer",
            b"GLUCOSE   5.4 mmol/L\r\nUREA      6.1 mmol/L\r\nSODIUM    140 mmol/L\r\n".to_vec(),
            "printed",
            None,
        ),
        ("lines", b"1;SYN-1;GLU;5.4;mmol/L\r\n2;SYN-2;GLU;6.1;mmol/L\r\n".to_vec(), "csv", None),
    ];
    for (name, bytes, spoken, driver) in table {
        let dir = tempfile::tempdir().unwrap();
        let Some(cable) = Cable::join(dir.path()) else { return println!("left out: socat is not installed") };
        let seconds = if matches!(spoken, "astm" | "mllp") { "60" } else { "3" };
        let mut probing = start(&[&cable.near.display().to_string(), "--seconds", seconds]);
        let answers = cable.say(&bytes, &mut probing);
        let (found, code) = finding(probing);
        assert_eq!((found["spoken"].as_str(), code), (Some(spoken), Some(0)), "{name}: {found}");
        assert_eq!(found["driver"].as_str(), driver, "{name}: {found}");
        assert_eq!(found["first"], "instrument", "{name}");
        assert!(!answers.contains(&0x06), "{name}: nothing is acknowledged: {answers:02X?}");
        assert!(found["evidence"].to_string().contains("keeps no error counters"), "{name}: {found}");
    }
}

#[test]
fn a_probe_of_a_silent_line_says_what_to_try() {
    let dir = tempfile::tempdir().unwrap();
    let Some(cable) = Cable::join(dir.path()) else { return println!("left out: socat is not installed") };
    let (found, code) = finding(start(&[&cable.near.display().to_string(), "--seconds", "1"]));
    assert_eq!((&found["spoken"], &found["first"], code), (&Value::Null, &Value::from("nobody"), Some(1)));
    assert!(found["next"].to_string().contains("crossed (null modem) cable"), "{found}");
}

#[test]
fn a_probe_listens_and_dials_on_the_network() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let probing = start(&["--listen", &port.to_string(), "--seconds", "60"]);
    let mut stream = None;
    until("the probe listens", || {
        stream = TcpStream::connect(port).ok();
        stream.is_some()
    });
    let hello = "<?xml version=\"1.0\"?><HEL.R01><HDR><HDR.control_id V=\"1\"/></HDR><DEV><DEV.device_id V=\"DCA\"/></DEV></HEL.R01>";
    stream.as_mut().unwrap().write_all(hello.as_bytes()).unwrap();
    let (found, _) = finding(probing);
    assert_eq!(found["spoken"], "poct1a", "{found}");
    assert!(found["link"].as_str().unwrap().contains(&format!("listen = \"{port}\"")), "{found}");

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let probing = start(&["--dial", &address, "--seconds", "60"]);
    listener.accept().unwrap().0.write_all(&said(SERUM)).unwrap();
    let (found, _) = finding(probing);
    assert_eq!((&found["spoken"], &found["driver"]), (&Value::from("astm"), &Value::from("roche-cobas-c311")));
}

#[test]
fn a_link_that_the_gateway_has_is_listened_to_through_it() {
    let site = Site::new();
    let (printed, config) = (site.path("probe.out"), site.config().display().to_string());
    let probing = Running::start(&["probe", "chemistry", "--config", &config, "--json"], Some(&printed));
    until("the probe has heard it", || {
        afferent(&["sim", "instrument", "--connect", &site.chemistry(), "--session", &case(SERUM)]);
        std::fs::read_to_string(&printed).is_ok_and(|text| text.ends_with('\n'))
    });
    drop(probing);
    let found: Value = serde_json::from_str(&std::fs::read_to_string(&printed).unwrap()).unwrap();
    let found = &found["findings"][0];
    assert_eq!(
        (&found["place"]["link"], &found["driver"]),
        (&Value::from("chemistry"), &Value::from("roche-cobas-c311"))
    );
    assert_eq!(found["link"], Value::Null, "it has its link already");
}

#[test]
fn what_was_found_is_written_as_a_link_of_its_own() {
    let (_dir, path) = file(crate::SOUND);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for name in ["roche-cobas-c311", "roche-cobas-c311-2"] {
        let instrument = listener.try_clone().unwrap();
        let says = std::thread::spawn(move || instrument.accept().unwrap().0.write_all(&said(SERUM)).unwrap());
        let probed = afferent(&["probe", "--dial", &address, "--config", &path, "--write"]);
        says.join().unwrap();
        assert_eq!(probed.status.code(), Some(0), "{}{}", out(&probed), err(&probed));
        assert!(err(&probed).contains(&format!("link {name} is in")), "{}", err(&probed));
    }
    let checked = afferent(&["check", &path]);
    assert_eq!(checked.status.code(), Some(0), "{}", err(&checked));
    assert!(out(&checked).contains("roche-cobas-c311-2"), "{}", out(&checked));
}

#[test]
fn a_probe_on_a_terminal_is_coloured_and_shows_that_it_goes_on() {
    if Command::new("tmux").arg("-V").output().is_err() {
        return println!("left out: the probe on a terminal (no tmux)");
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(cable) = Cable::join(dir.path()) else { return println!("left out: socat is not installed") };
    let (socket, binary) = (dir.path().join("tmux.sock"), env!("CARGO_BIN_EXE_afferent"));
    let tmux = |arguments: &[&str]| {
        let output = Command::new("tmux").arg("-S").arg(&socket).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let command = format!("{binary} probe {} --config {NO_CONFIG}; sleep 60", cable.near.display());
    tmux(&["new-session", "-d", "-x", "140", "-y", "50", "-s", "bench", &command]);
    let screen = || tmux(&["capture-pane", "-p", "-e", "-t", "bench"]);
    until("progress is on the screen", || screen().contains("at 9600 baud"));
    let mut port = std::fs::File::options().write(true).open(&cable.far).unwrap();
    port.write_all(&said(SERUM)).unwrap();
    until("the link is on the screen", || screen().contains("driver = "));
    let shown = screen();
    tmux(&["kill-server"]);
    assert!(shown.contains("\u{1b}[32mASTM"), "what is spoken is green: {shown}");
    assert!(!shown.contains("s left"), "progress is wiped away: {shown}");
}
