//! The hardware of a box, of which there is none here: a folder of files is in its place (`board.folder`).

use crate::patience::PATIENCE;
use crate::ports::free_port;
use crate::{afferent, err, file};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A gateway with a board.
struct Bench {
    dir: tempfile::TempDir,
    link: u16,
    ehr: u16,
    gateway: Option<Child>,
}

impl Bench {
    fn start(board: &str) -> Bench {
        let mut bench = Bench::prepare(board);
        bench.run();
        bench
    }

    fn prepare(board: &str) -> Bench {
        let (dir, link, ehr) = (tempfile::tempdir().unwrap(), free_port(), free_port());
        let board = board.replace("FOLDER", &format!("{:?}", dir.path().join("board")));
        let text = format!(
            "[gateway]\nname = \"bench-1\"\ndata = {:?}\n[journal]\nfree_min_mb = 0\n[board]\n{board}\n\
             [[link]]\nname = \"chemistry\"\nlisten = \"127.0.0.1:{link}\"\n\
             [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{ehr}\"\n",
            dir.path().join("data")
        );
        fs::write(dir.path().join("afferent.toml"), text).unwrap();
        Bench { dir, link, ehr, gateway: None }
    }

    /// Has other words in its configuration.
    fn change(&self, from: &str, to: &str) {
        let text = self.read("afferent.toml");
        assert!(text.contains(from), "{text}");
        fs::write(self.dir.path().join("afferent.toml"), text.replace(from, to)).unwrap();
    }

    fn run(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.args(["run", "--config"]).arg(self.dir.path().join("afferent.toml"));
        // As if a service manager had started it, which would do so again.
        command.env("INVOCATION_ID", "bench").env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
        let gateway = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.gateway = Some(gateway.unwrap());
    }

    fn is_running(&mut self) -> bool {
        self.gateway.as_mut().is_some_and(|gateway| gateway.try_wait().unwrap().is_none())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    fn part(&self, name: &str) -> PathBuf {
        self.dir.path().join("board").join(name)
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < PATIENCE, "{what}\n{}\n{}", self.read("board/shown"), self.read("log"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until this was shown.
    fn shows(&self, words: &str) {
        self.until(words, || self.read("board/shown").lines().any(|line| line == words));
    }

    fn says(&self, words: &str) {
        self.until(words, || self.read("log").contains(words));
    }

    fn hold(&self, time: Duration) {
        fs::write(self.part("button"), "on").unwrap();
        std::thread::sleep(time);
        fs::write(self.part("button"), "off").unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }

    /// One message, which the box keeps, and can send: an analyzer's that codes in LOINC, over ASTM.
    fn send_a_result(&self) {
        let now = jiff::Timestamp::now().strftime("%Y%m%d%H%M%S");
        let records = format!(
            "H|\\^&|||X^1|||||||P|LIS2-A2|{now}\rP|1||PT1||DOE^JANE||19800214|F\rO|1|26110401||30341-2^Sed rate|R\r\
             R|1|30341-2^Sed rate|12|mm/h|0 - 20|N||F||||{now}\rL|1|N\r"
        );
        let body = format!("1{records}\u{3}");
        let sum = body.bytes().fold(0u8, u8::wrapping_add);
        let mut line = TcpStream::connect(("127.0.0.1", self.link)).unwrap();
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        for bytes in [b"\x05".to_vec(), format!("\u{2}{body}{sum:02X}\r\n").into_bytes()] {
            line.write_all(&bytes).unwrap();
            let mut answer = [0];
            line.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [6], "ACK");
        }
        line.write_all(b"\x04").unwrap();
    }

    /// How it ended, once it has.
    fn ends(&mut self) -> std::process::ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.gateway.as_mut().unwrap().try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "{}", self.read("log"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            let _ = gateway.kill();
            let _ = gateway.wait();
        }
    }
}

/// The board of a CM4 with a hardware watchdog, which the service manager has else, as a file in this folder.
fn guarded(folder: &Path) -> String {
    let text = include_str!("../../board/definitions/cm4-carrier-1.toml");
    let file = folder.join("guarded.toml");
    fs::write(&file, format!("{text}\n[watchdog]\ndevice = \"/dev/watchdog0\"\n")).unwrap();
    format!("definition = {file:?}\nfolder = FOLDER")
}

/// Whoever writes to this file next waits for ever.
fn hangs(file: &Path) {
    let path = std::ffi::CString::new(file.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the path is a string with its zero, and lives as long as the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

fn is_empty(wal: &Path) -> bool {
    fs::metadata(wal).map_or(true, |about| about.len() == 0)
}

#[test]
fn a_box_shows_how_it_is_and_stops_in_order_when_its_supply_goes() {
    let mut bench = Bench::start(
        "definition = \"cm4-carrier-1\"\nfolder = FOLDER\n[[board.port]]\nname = \"serial-2\"\nmode = \"rs485\"",
    );
    for words in ["box starting", "box well", "analyzer waiting", "hospital waiting", "screen status"] {
        bench.shows(words);
    }
    assert_eq!(fs::read_to_string(bench.part("port-serial-2-0")).unwrap().trim(), "on");
    assert_eq!(fs::read_to_string(bench.part("relay-well")).unwrap().trim(), "on");
    bench.send_a_result();
    bench.shows("analyzer heard");
    bench.hold(Duration::from_millis(300));
    for words in ["box identify", "screen identify"] {
        bench.shows(words);
    }
    bench.says("somebody asks which box this is");

    fs::write(bench.part("supply"), "off").unwrap();
    bench.shows("box stopping");
    bench.shows("box off");
    bench.says("the supply is gone: all that came is safe");
    bench.until("nothing is taken any more", || TcpStream::connect(("127.0.0.1", bench.link)).is_err());
    assert!(is_empty(&bench.dir.path().join("data/journal.db-wal")), "its log is in the journal");
    for led in ["led-box", "led-analyzer", "led-hospital"] {
        assert_eq!(fs::read_to_string(bench.part(led)).unwrap().trim(), "off");
    }
    assert!(bench.is_running(), "it waits for the supply");
    fs::write(bench.part("supply"), "on").unwrap();
    assert!(bench.ends().success(), "to be started anew");
}

#[test]
fn i1_a_hanging_display_and_a_hanging_hospital_keep_neither_supply_nor_watchdog_waiting() {
    let definition = tempfile::tempdir().unwrap();
    let mut bench = Bench::prepare(&guarded(definition.path()));
    // It takes a result, and answers long after everybody has gone home.
    let ehr = TcpListener::bind("127.0.0.1:0").unwrap();
    let patient = format!("address = \"{}\"\nack_timeout_ms = 120000", ehr.local_addr().unwrap());
    bench.change(&format!("address = \"127.0.0.1:{}\"", bench.ehr), &patient);
    bench.change("name = \"chemistry\"", "name = \"chemistry\"\ndriver = \"generic-astm\"");
    bench.run();
    bench.shows("box well");
    bench.send_a_result();
    ehr.set_nonblocking(true).unwrap();
    let called = std::cell::OnceCell::new();
    bench.until("the hospital is called", || ehr.accept().is_ok_and(|(call, _)| called.set(call).is_ok()));
    let (mut hospital, mut asked) = (called.into_inner().unwrap(), [0]);
    hospital.set_read_timeout(Some(PATIENCE)).unwrap();
    hospital.read_exact(&mut asked).unwrap();

    let picture = || fs::read_to_string(bench.part("display.pbm")).unwrap_or_default();
    bench.until("the picture is there", || picture().starts_with("P1\n# status"));
    hangs(&bench.part("display.pbm.new"));
    bench.hold(Duration::from_millis(300));
    bench.shows("box identify");
    bench.says("somebody asks which box this is");
    let lit = || fs::read_to_string(bench.part("led-box")).unwrap_or_default();
    for level in ["on\n", "off\n", "on\n", "off\n"] {
        bench.until("the LED goes on blinking", || lit() == level);
    }
    bench.says("board: display: its bus hangs");
    assert!(picture().starts_with("P1\n# status"), "what was asked for cannot be shown");
    let fed = || fs::read_to_string(bench.part("watchdog")).unwrap_or_default();
    for _ in 0..2 {
        let before = fed();
        bench.until("it is fed", || fed() != before);
    }
    // The bus lets go.
    assert!(fs::read_to_string(bench.part("display.pbm.new")).unwrap().starts_with("P1\n# "));
    bench.says("board: display: it works again");
    bench.hold(Duration::from_millis(300));
    let is_pipe = |name: &str| fs::metadata(bench.part(name)).unwrap().file_type().is_fifo();
    bench.until("the next picture is there", || !is_pipe("display.pbm"));

    fs::write(bench.part("supply"), "off").unwrap();
    bench.says("the supply is gone: all that came is safe, and nothing is taken any more");
    bench.until("its log is in the journal", || is_empty(&bench.dir.path().join("data/journal.db-wal")));
    bench.until("nobody is let in", || TcpStream::connect(("127.0.0.1", bench.link)).is_err());
    hospital.set_nonblocking(true).unwrap();
    while hospital.read(&mut asked).is_ok_and(|read| read > 0) {}
    let waits = hospital.read(&mut asked).unwrap_err().kind();
    assert!(bench.is_running() && waits == std::io::ErrorKind::WouldBlock, "the hospital may still answer");
}

#[test]
fn a_guarded_hold_resets_the_box_unless_something_went_nowhere() {
    let board = "definition = \"cm4-carrier-1\"\nfolder = FOLDER";
    let (mut new, mut used) = (Bench::start(board), Bench::start(board));
    used.shows("box well");
    new.shows("box well");
    used.send_a_result();
    used.shows("analyzer heard");
    const ANSWERS: [&str; 2] = ["this box is not reset: 1 in all", "this box was reset"];
    // A button that was not looked at for three seconds, on a busy machine, means nothing: whoever holds it tries again.
    let twice = |bench: &Bench| {
        let began = Instant::now();
        while !ANSWERS.iter().any(|words| bench.read("log").contains(words)) {
            assert!(began.elapsed() < PATIENCE * 2, "{}\n{}", bench.read("board/shown"), bench.read("log"));
            bench.hold(Duration::from_secs(16));
            bench.hold(Duration::from_secs(6));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| twice(&new));
        scope.spawn(|| twice(&used));
    });
    used.says(ANSWERS[0]);
    assert!(used.is_running(), "it goes on");
    assert!(new.ends().success(), "{}", new.read("log"));
    let left =
        fs::read_dir(new.dir.path().join("data")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<String> = left.collect();
    left.sort();
    assert_eq!(left, ["journal.lock", "last-reset"], "as new");
}

#[test]
fn i12_a_board_that_is_not_there_is_named_and_results_come_in() {
    let bench = Bench::start("definition = \"cm4-carrier-1\"");
    bench.says("name the definition of this board; nothing is driven until then");
    bench.until("it listens", || TcpStream::connect(("127.0.0.1", bench.link)).is_ok());
    bench.send_a_result();
}

#[test]
fn what_is_wrong_with_a_board_is_told_at_its_line() {
    let sound = |board: &str| format!("{board}\n{}", crate::SOUND);
    let own = file("[board]\nname = \"mine\"\nrevision = \"1\"\n[button]\npin = \"A1\"\nmay = [\"fly\"]\n");
    for (board, told) in [
        ("[board]", vec!["this table does not say which board it is", "cm4-carrier-1"]),
        ("[board]\ndefinition = \"cm5\"", vec!["cm5: No such file", "beaglebone-1, cm4-carrier-1, x86-1", ":2:14"]),
        (&format!("[board]\ndefinition = {:?}", own.1), vec!["afferent.toml:6: unknown variant `fly`"]),
        (
            "[board]\ndefinition = \"x86-1\"\n[[board.port]]\nname = \"serial-1\"\nmode = \"rs485\"",
            vec!["this board has no port `serial-1`", "the ports it has: none"],
        ),
        (
            "[board]\ndefinition = \"cm4-carrier-1\"\n[[board.port]]\nname = \"serial-1\"\nmode = \"rs422\"",
            vec!["the port `serial-1` cannot be `rs422`", "rs232, rs485, rs485-terminated", ":5:8"],
        ),
    ] {
        let (_dir, path) = file(&sound(board));
        let checked = afferent(&["check", &path]);
        assert_eq!(checked.status.code(), Some(2), "{board}");
        for part in told {
            assert!(err(&checked).contains(part), "{part} is not in\n{}", err(&checked));
        }
    }
}
