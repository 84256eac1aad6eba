//! `afferent setup` from outside: a person at a terminal (tmux), a file of answers, a simulated analyzer that is heard, a
//! simulated EHR that gets the test result, and what is there after a kill at any moment.

#[path = "setup/network.rs"]
mod network;
#[path = "setup/ehr.rs"]
mod ehr;

use crate::probe::{Cable, said};
use crate::site::{Running, SERUM, free_port, until};
use crate::{afferent, err, out};
use afferent::clock::Clock;
use serde_json::Value;
use std::cell::Cell;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const DRIVER: &str = "roche-cobas-c311";

/// An unpacked box beside an EHR and an analyzer.
struct Bench {
    dir: tempfile::TempDir,
    ehr: u16,
    link: u16,
    _receiver: Running,
}

impl Bench {
    fn new() -> Bench {
        let (dir, [ehr, link]) = (tempfile::tempdir().unwrap(), [(); 2].map(|()| free_port()));
        let ledger = dir.path().join("ehr.jsonl").display().to_string();
        let address = format!("127.0.0.1:{ehr}");
        let receiver = Running::start(&["sim", "ehr", "--mllp", &address, "--ledger", &ledger], None);
        until("the EHR listens", || std::net::TcpStream::connect(&address).is_ok());
        Bench { dir, ehr, link, _receiver: receiver }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> String {
        self.path("afferent.toml").display().to_string()
    }

    fn answers(&self, rest: &str) -> String {
        let (file, data) = (self.path("answers.toml"), self.path("data"));
        let text = format!(
            "[gateway]\nname = \"bench-1\"\ndata = {data:?}\n[ehr]\naddress = \"127.0.0.1:{}\"\ntls = false\n{rest}",
            self.ehr
        );
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    fn set_up(&self, rest: &str) -> Output {
        afferent(&["setup", "--config", &self.config(), "--answers", &self.answers(rest), "--json"])
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.config()).unwrap()
    }

    /// Messages the EHR stored.
    fn chart(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("ehr.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|arrival| arrival["stored"] == true).collect()
    }

    /// The link with a driver chosen by hand.
    fn by_hand(&self) -> String {
        format!(
            "[link]\nlisten = \"127.0.0.1:{}\"\nlisten_s = 0\ndriver = \"{DRIVER}\"\nname = \"chemistry\"\n",
            self.link
        )
    }
}

/// A simulated analyzer that sends to this port until it is dropped.
fn analyzer(port: u16) -> Running {
    let address = format!("127.0.0.1:{port}");
    Running::start(&["sim", "instrument", "--connect", &address, "--driver", DRIVER, "--time-scale", "0.04"], None)
}

fn report(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}{}", out(output), err(output));
    serde_json::from_str(&out(output)).unwrap()
}

#[test]
fn a_file_of_answers_sets_a_box_up_to_the_ehrs_acknowledgment() {
    let bench = Bench::new();
    let sending = analyzer(bench.link);
    let rest = format!("[link]\nlisten = \"127.0.0.1:{}\"\nlisten_s = 60\n[test]\nsend = \"send\"\n", bench.link);
    let done = bench.set_up(&rest);
    drop(sending);
    let report = report(&done);
    assert_eq!((&report["driver"], &report["link"][0]), (&Value::from(DRIVER), &Value::from(DRIVER)), "{report}");
    assert_eq!(report["heard"]["driver"], DRIVER, "it is the one that was heard: {report}");
    assert_eq!((&report["handshake"]["worked"], &report["test"]["worked"]), (&Value::from(true), &Value::from(true)));
    assert!(report["test"]["says"].as_str().unwrap().contains("AA"), "the EHR's answer is shown: {report}");
    let [only] = bench.chart().try_into().unwrap();
    assert!(only["specimens"].to_string().contains("TEST-0000001"), "{only}");
    let mode = std::fs::metadata(bench.config()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o640);
    let checked = afferent(&["check", "--strict", &bench.config()]);
    assert_eq!(checked.status.code(), Some(0), "{}{}", out(&checked), err(&checked));
    let page = std::fs::read_to_string(bench.path("afferent.handover.txt")).unwrap();
    assert!(page.contains("systemctl enable afferent && systemctl") && page.lines().count() <= 60, "{page}");
    assert!(!bench.path("data/journal.db").exists(), "the journal of the box has no part in a test");
}

#[test]
fn in_a_folder_of_somebody_elses_root_writes_as_they_would() {
    const SERVICE: u32 = 4711;
    let (bench, roots) = (Bench::new(), tempfile::tempdir().unwrap());
    if chown(bench.dir.path(), Some(SERVICE), Some(SERVICE)).is_err() {
        return println!("left out: a configuration in somebody else's folder (this is not root)");
    }
    let secret = roots.path().join("secret");
    std::fs::write(&secret, "root's").unwrap();
    let written = ["afferent.toml", "afferent.handover.txt", "afferent.handover.json"];
    let unfinished = written.map(|name| format!("{name}.unfinished"));
    for planted in unfinished.iter().map(String::as_str).chain(["afferent.toml.setup", "afferent.handover.txt"]) {
        symlink(&secret, bench.path(planted)).unwrap();
    }
    report(&bench.set_up(&format!("{}[test]\nsend = \"queue\"\n", bench.by_hand())));
    let about = std::fs::metadata(&secret).unwrap();
    assert_eq!((about.uid(), std::fs::read_to_string(&secret).unwrap().as_str()), (0, "root's"));
    for name in written {
        let about = std::fs::symlink_metadata(bench.path(name)).unwrap();
        assert_eq!((about.is_file(), about.uid(), about.mode() & 0o777), (true, SERVICE, 0o640), "{name}");
    }
}

#[test]
fn an_analyzer_on_a_serial_port_is_heard_and_its_line_is_written_down() {
    let bench = Bench::new();
    let Some(cable) = Cable::join(bench.dir.path()) else { return println!("left out: socat is not installed") };
    let port = cable.near.display().to_string();
    let rest = format!("[link]\nkind = \"serial\"\nserial = {port:?}\nlisten_s = 60\n[test]\nsend = \"send\"\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    command.args(["setup", "--config", &bench.config(), "--answers", &bench.answers(&rest), "--json"]);
    let mut setting_up = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    cable.say(&said(SERUM), &mut setting_up);
    let report = report(&setting_up.wait_with_output().unwrap());
    assert_eq!((&report["heard"]["driver"], &report["test"]["worked"]), (&Value::from(DRIVER), &Value::from(true)));
    let text = bench.text();
    assert!(text.contains(&format!("serial = {port:?}\nbaud = 9600\ndata_bits = 8\nparity = \"none\"")), "{text}");
}

#[test]
fn an_ehr_that_must_not_get_a_test_result_gets_none() {
    let bench = Bench::new();
    let done = bench.set_up(&format!("{}[test]\nsend = \"queue\"\n", bench.by_hand()));
    let report = report(&done);
    assert!(report["test"]["says"].as_str().unwrap().contains("nothing was sent"), "{report}");
    assert!(report["open"].to_string().contains("has not got a test result"), "{report}");
    assert!(report["open"].to_string().contains("not heard yet"), "{report}");
    assert!(bench.chart().is_empty());
}

#[test]
fn where_no_test_can_be_made_nothing_fails_and_the_report_says_what_was_not_tried() {
    let bench = Bench::new();
    for (protocol, driver) in [("poct1a", "none"), ("lines", "none")] {
        let link = bench.by_hand().replace(DRIVER, driver);
        std::fs::remove_file(bench.config()).ok();
        let done = bench.set_up(&format!("{link}protocol = \"{protocol}\"\n[test]\nsend = \"send\"\n"));
        let report = report(&done);
        assert_eq!(report["test"], Value::Null, "{report}");
        assert!(report["no_test"].as_str().unwrap().contains("a sample of a test patient"), "{report}");
        assert!(report["open"].to_string().contains("see what was not tried"), "{report}");
        assert!(err(&done).contains("`test.send` was answered and not asked"), "{}", err(&done));
        let page = std::fs::read_to_string(bench.path("afferent.handover.txt")).unwrap();
        assert!(page.contains("not tried: the analyzer's protocol has no mark"), "{page}");
    }
    assert!(bench.chart().is_empty());
}

#[test]
fn what_a_file_does_not_answer_ends_the_setup_and_nothing_is_written() {
    let bench = Bench::new();
    let wrong = [
        (String::new(), "no `link.driver`"),
        ("unreachable = \"keep\"\nadress = \"a\"\n".to_string(), "is it `ehr.address`"),
        (bench.by_hand().replace(DRIVER, "roche-cobas-c31"), "is it `roche-cobas-c311`"),
        ("plain = true\n[link]\nkind = \"usb\"\n".to_string(), "answer one of: listen, serial, dial"),
    ];
    for (rest, says) in wrong {
        let rest = if rest.is_empty() { "[link]\nlisten_s = 0\n".to_string() } else { rest };
        let refused = bench.set_up(&rest);
        assert_eq!(refused.status.code(), Some(1), "{rest}");
        assert!(err(&refused).contains(says), "{}", err(&refused));
        assert!(!bench.path("afferent.toml").exists());
    }
    std::fs::write(bench.config(), "[gateway]\nnme = \"bench\"\n").unwrap();
    let refused = bench.set_up(&bench.by_hand());
    assert_eq!(refused.status.code(), Some(2), "{}", err(&refused));
    assert!(err(&refused).contains("nme") && bench.text().starts_with("[gateway]\nnme"), "{}", err(&refused));
    let piped = Command::new(env!("CARGO_BIN_EXE_afferent"))
        .args(["setup", "--config", &bench.config()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(err(&piped).contains("--answers FILE"), "{}", err(&piped));
}

/// A terminal of 80 columns and 24 lines, in which the setup runs.
struct Desk<'b> {
    bench: &'b Bench,
    /// Each start has a tmux of its own: one that is told to end takes its time.
    starts: Cell<usize>,
}

impl<'b> Desk<'b> {
    /// `None` where tmux is not installed.
    fn new(bench: &'b Bench) -> Option<Desk<'b>> {
        Command::new("tmux").arg("-V").output().ok()?;
        Some(Desk { bench, starts: Cell::new(0) })
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.bench.path(&format!("tmux-{}", self.starts.get()));
        let output = Command::new("tmux").arg("-S").arg(socket).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts it, with these variables; how it ended is shown at its end.
    fn start(&self, variables: &str) {
        self.tmux(&["kill-server"]);
        self.starts.set(self.starts.get() + 1);
        let binary = env!("CARGO_BIN_EXE_afferent");
        // The shell outlives a Ctrl-C, to say how the setup ended.
        let command = format!(
            "trap : INT; {variables} {binary} setup --config {}; echo ended $?; sleep 600",
            self.bench.config()
        );
        self.tmux(&["new-session", "-d", "-x", "80", "-y", "24", "-s", "bench", &command]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J", "-S", "-500", "-t", "bench"])
    }

    fn type_line(&self, line: &str) {
        self.tmux(&["send-keys", "-t", "bench", "-l", line]);
        self.tmux(&["send-keys", "-t", "bench", "Enter"]);
    }

    /// Answers whatever is asked last with what the table says of it, until it ended.
    fn answer_all(&self, answers: &[(&str, String)]) -> String {
        let mut answered = 0;
        let mut screen = String::new();
        until("the setup has ended", || {
            screen = self.screen();
            if screen.contains("ended ") {
                return true;
            }
            // What is asked is the last line; each answer is given once it is.
            let prompts = |text: &str| answers.iter().map(|(asks, _)| text.matches(asks).count()).sum::<usize>();
            let last = screen.trim_end().lines().last().unwrap_or_default();
            if prompts(&screen) > answered
                && let Some((_, answer)) = answers.iter().find(|(asks, _)| last.contains(asks))
            {
                answered = prompts(&screen);
                self.type_line(answer);
            }
            false
        });
        screen
    }
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// What a person answers at this bench, by what is asked.
fn person(bench: &Bench) -> Vec<(&'static str, String)> {
    vec![
        ("Name of this box", "bench-1".to_string()),
        ("Directory for what it keeps", bench.path("data").display().to_string()),
        ("How does it get its addresses", "leave".to_string()),
        ("A name of the site to look up", "localhost".to_string()),
        ("HTTP proxy that leads out", "none".to_string()),
        ("Time zone of the analyzers", "UTC".to_string()),
        ("Does something else keep this clock", "no".to_string()),
        ("What does the EHR take", "hl7".to_string()),
        ("Host and port of the EHR", format!("127.0.0.1:{}", bench.ehr)),
        ("Does it speak TLS", "no".to_string()),
        ("Name of the EHR", "ehr".to_string()),
        ("How is the analyzer connected", "1".to_string()),
        ("Address and port on which", format!("127.0.0.1:{}", bench.link)),
        ("Seconds to listen to it", "60".to_string()),
        ("Driver of the analyzer", String::new()),
        ("Name of the link", "chemistry".to_string()),
        ("Does the box join a fleet", "no".to_string()),
        ("Is this written to", "yes".to_string()),
        ("get one test result now", "send".to_string()),
    ]
}

#[test]
fn a_person_at_a_terminal_of_80_by_24_comes_to_the_first_result() {
    let bench = Bench::new();
    let Some(desk) = Desk::new(&bench) else { return println!("left out: the setup on a terminal (no tmux)") };
    let _sending = analyzer(bench.link);
    desk.start("");
    let screen = desk.answer_all(&person(&bench));
    assert!(screen.contains("ended 0"), "{screen}");
    assert!(screen.contains("HAND-OVER OF bench-1") && screen.contains("it answered"), "{screen}");
    assert!(bench.text().contains(&format!("driver = \"{DRIVER}\"")), "{}", bench.text());
    assert_eq!(bench.chart().len(), 1);
}

#[test]
fn a_dumb_terminal_gets_lines_alone_and_an_interrupted_setup_goes_on() {
    let bench = Bench::new();
    let Some(desk) = Desk::new(&bench) else { return println!("left out: the setup on a terminal (no tmux)") };
    let written = bench.path("written");
    // tmux would show what control sequences do, not that they came.
    desk.start("read begin; TERM=dumb");
    desk.tmux(&["pipe-pane", "-t", "bench", &format!("cat >> {}", written.display())]);
    desk.type_line("");
    until("it asks", || desk.screen().contains("Name of this box ["));
    desk.type_line("bench 1");
    until("it says what is wrong", || desk.screen().contains("a name has letters"));
    // As a terminal that is set to Latin-1 sends an ä.
    desk.tmux(&["send-keys", "-t", "bench", "-H", "e4", "0d"]);
    until("it says what is wrong", || desk.screen().contains("that is not UTF-8"));
    desk.type_line("bench-1");
    until("it asks on", || desk.screen().contains("Directory for what it keeps ["));
    desk.tmux(&["send-keys", "-t", "bench", "C-c"]);
    until("it has ended", || desk.screen().contains("ended 130"));
    let read = || String::from_utf8_lossy(&std::fs::read(&written).unwrap()).into_owned();
    until("all of it was read", || read().contains("Directory"));
    assert!(read().contains("Name of this box") && !read().contains('\u{1b}'), "{:?}", read());
    desk.start("");
    until("it goes on", || desk.screen().contains("goes on where an earlier setup was cut off"));
    until("it asks on", || desk.screen().contains("Directory for what it keeps"));
    desk.tmux(&["send-keys", "-t", "bench", "C-c"]);
    until("it has ended", || desk.screen().contains("ended 130"));
}

#[test]
fn a_setup_that_is_killed_anywhere_leaves_the_old_file_or_the_new_one_and_goes_on() {
    let bench = Bench::new();
    let Some(desk) = Desk::new(&bench) else { return println!("left out: the setup on a terminal (no tmux)") };
    let by_hand = ["Seconds to listen to it", "Driver of the analyzer"];
    let mut answers: Vec<_> = person(&bench).into_iter().filter(|(asks, _)| !by_hand.contains(asks)).collect();
    answers.push((by_hand[0], "0".to_string()));
    answers.push((by_hand[1], DRIVER.to_string()));
    let whole = || Path::new(&bench.config()).exists().then(|| bench.text());
    if Clock::open(&bench.path("data"), false).is_trusted() {
        answers.retain(|(asks, _)| !asks.starts_with("Does something else"));
    }
    let mut starts = 0;
    // It dies after each answer, so that each start comes one question further.
    loop {
        desk.start("AFFERENT_ABORT_AT=setup-answer:1");
        let screen = desk.answer_all(&answers);
        starts += 1;
        if screen.contains("ended 0") {
            break;
        }
        assert!(screen.contains("ended 134"), "{screen}");
        assert!(starts == 1 || screen.contains("goes on where an earlier setup was cut off"), "{screen}");
        assert!(starts < 20, "{screen}");
        if let Some(text) = whole() {
            assert!(text.contains("[[destination]]") && text.contains("name = \"chemistry\""), "whole: {text}");
        }
    }
    assert_eq!(starts, answers.len() + 1, "each answer was given once");
    let expected = bench.text();
    for (point, is_there) in [("setup-noted", false), ("setup-written", true), ("setup-reported", true)] {
        std::fs::remove_file(bench.config()).unwrap();
        desk.start(&format!("AFFERENT_ABORT_AT={point}:1"));
        let screen = desk.answer_all(&answers);
        assert!(screen.contains("ended 134"), "{point}: {screen}");
        assert_eq!(whole().is_some(), is_there, "{point}");
        assert!(whole().is_none_or(|text| text == expected), "{point}");
        desk.start("");
        let screen = desk.answer_all(&answers);
        assert!(screen.contains("ended 0"), "{point}: {screen}");
        assert_eq!(bench.text(), expected, "{point}");
        assert!(!bench.path("afferent.toml.setup").exists(), "{point}");
    }
}
