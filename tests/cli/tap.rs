//! `afferent tap` on a running gateway: what a person at the bench sees, and what is saved of it.

use crate::site::{Running, SERUM_SPECIMEN, Site, until};
use crate::{afferent, case, err, out};
use afferent::driver::Registry;
use afferent::sim::transcript;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const DAMAGED: &str = "roche-cobas-c311/cases/damaged-three-naks";

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Listens to the chemistry link while its instrument plays `session`; what was printed and what was saved.
fn tapped(site: &Site, session: &str, options: &[&str]) -> (String, String) {
    let (printed, saved) = (site.path("tap.out"), site.path("session.txt"));
    let (config, to) = (site.config().display().to_string(), saved.display().to_string());
    let tap = ["tap", "chemistry", "--config", &config, "--save", &to];
    let listening = Running::start(&[&tap[..], options].concat(), Some(&printed));
    until("the tap listens", || {
        site.knock();
        read(&printed).contains("connected")
    });
    let played = afferent(&["sim", "instrument", "--connect", &site.chemistry(), "--session", &case(session)]);
    assert_eq!(played.status.code(), Some(0), "{}{}", out(&played), err(&played));
    until("all of it was heard", || read(&saved).trim_end().ends_with("<EOT>"));
    drop(listening);
    (read(&printed), read(&saved))
}

#[test]
fn a_tap_judges_frames_and_masks_patients_and_its_capture_is_a_case() {
    let site = Site::new();
    let (printed, saved) = tapped(&site, DAMAGED, &[]);
    assert!(printed.contains("expected") && printed.contains("NAK sent after"), "{printed}");
    assert!(printed.contains("<ENQ>") && printed.contains("is right, ACK sent after"), "{printed}");
    assert!(read(Path::new(&case(DAMAGED))).contains(SERUM_SPECIMEN), "the case names the specimen");
    assert!(!printed.contains(SERUM_SPECIMEN) && !saved.contains(SERUM_SPECIMEN), "it is masked");

    // The capture replays: our answers are the same ones, byte by byte, and every result is read again.
    let registry = Registry::builtin();
    let steps = transcript::parse(&saved).unwrap();
    let driver = registry.get("roche-cobas-c311").unwrap();
    for split in [usize::MAX, 1, 8] {
        let replayed = afferent::sim::replay::replay(&steps, driver.protocol(), split);
        assert!(replayed.mismatches.is_empty(), "{:?}\n{saved}", replayed.mismatches);
        assert!(replayed.entries().iter().any(|(_, complete)| *complete));
    }
}

#[test]
fn a_tap_for_machines_is_json_and_shows_patients_only_when_asked() {
    let site = Site::new();
    let (printed, saved) = tapped(&site, DAMAGED, &["--json", "--reveal"]);
    let lines: Vec<Value> = printed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(lines.iter().any(|l| l["side"] == "instrument" && l["shown"]["text"].as_str().unwrap().contains("<STX>")));
    assert!(lines.iter().any(|l| l["side"] == "gateway" && l["shown"]["text"] == "<NAK>"));
    assert!(saved.contains(SERUM_SPECIMEN), "{saved}");
}

#[test]
fn a_tap_of_a_link_that_is_not_there_names_those_that_are() {
    let site = Site::new();
    let refused = afferent(&["tap", "chemstry", "--config", &site.config().display().to_string()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("there are chemistry, ward"), "{}", err(&refused));
}

#[test]
fn a_tap_on_a_terminal_is_coloured_and_aligned() {
    if Command::new("tmux").arg("-V").output().is_err() {
        println!("left out: the tap on a terminal (no tmux)");
        return;
    }
    let site = Site::new();
    let (socket, binary) = (site.path("tmux.sock"), env!("CARGO_BIN_EXE_afferent"));
    let tmux = |arguments: &[&str]| {
        let output = Command::new("tmux").arg("-S").arg(&socket).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let command = format!("{binary} tap chemistry --config {}", site.config().display());
    tmux(&["new-session", "-d", "-x", "160", "-y", "50", "-s", "bench", &command]);
    until("the tap listens", || {
        site.knock();
        tmux(&["capture-pane", "-p", "-t", "bench"]).contains("connected")
    });
    let played = afferent(&["sim", "instrument", "--connect", &site.chemistry(), "--session", &case(DAMAGED)]);
    assert_eq!(played.status.code(), Some(0), "{}", err(&played));
    let screen = || tmux(&["capture-pane", "-p", "-e", "-t", "bench"]);
    until("the end is on the screen", || screen().contains("gives the line back"));
    let shown = screen();
    tmux(&["kill-server"]);
    assert!(shown.contains("\u{1b}[32m<"), "the instrument is green: {shown}");
    assert!(shown.contains("NAK sent after"), "{shown}");
}
