//! The service: what the program tells its manager, and whether the units hold what they promise, by systemd's own tools.

use crate::ports::free_port;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// `systemd-analyze security` of the units, in tenths.
const EXPOSURE_MAX: &str = "20";

#[test]
fn the_manager_is_told_on_a_box_with_a_board_too_whose_definition_may_be_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (link, config) = (free_port(), folder.path().join("afferent.toml"));
    for (number, definition) in ["x86-1", "/nowhere.toml"].iter().enumerate() {
        let text = format!(
            "[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n[board]\ndefinition = {definition:?}\n\
             [[link]]\nname = \"chemistry\"\nlisten = \"127.0.0.1:{link}\"\n\
             [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n",
            folder.path().join("data")
        );
        std::fs::write(&config, text).unwrap();
        let socket = folder.path().join(format!("notify-{number}"));
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut gateway = Command::new(env!("CARGO_BIN_EXE_afferent"));
        gateway.args(["run", "--config"]).arg(&config).env("NOTIFY_SOCKET", &socket);
        // A word is due after eleven seconds, with a board after five.
        gateway.env("WATCHDOG_USEC", "44000000");
        let gateway = gateway.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut gateway = crate::site::Running(gateway);
        let (mut said, mut words) = (String::new(), [0; 512]);
        while !said.contains("WATCHDOG=1") {
            let length = manager.recv(&mut words).unwrap();
            said += &String::from_utf8_lossy(&words[..length]);
        }
        assert!(said.contains("READY=1") && gateway.0.try_wait().unwrap().is_none(), "{said}");
    }
}

#[test]
fn the_manager_is_told_when_results_can_come_and_as_long_as_they_can() {
    let folder = tempfile::tempdir().unwrap();
    let (link, ehr) = (free_port(), free_port());
    let config = folder.path().join("afferent.toml");
    let text = format!(
        "[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n\
         [[link]]\nname = \"chemistry\"\nlisten = \"127.0.0.1:{link}\"\n\
         [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{ehr}\"\n",
        folder.path().join("data")
    );
    std::fs::write(&config, text).unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut words = [0; 512];
    // A slow start asks for time, which is not what is looked at here.
    let mut said = || loop {
        let length = manager.recv(&mut words).unwrap();
        match String::from_utf8_lossy(&words[..length]).into_owned() {
            asked if asked.starts_with("EXTEND_TIMEOUT_USEC=") => {}
            said => return said,
        }
    };
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_afferent"));
    gateway.args(["run", "--config"]).arg(&config);
    gateway.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", "400000");
    let mut gateway = gateway.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let ready = said();
    assert!(ready.contains("READY=1") && ready.contains("STATUS=1 links, 1 destinations"), "{ready}");
    assert!(std::net::TcpStream::connect(("127.0.0.1", link)).is_ok(), "it says so once it listens");
    for _ in 0..5 {
        assert_eq!(said().trim_end(), "WATCHDOG=1");
    }
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(gateway.id() as i32, libc::SIGTERM) };
    while said().trim_end() != "STOPPING=1" {}
    assert!(crate::site::ended(&mut gateway).success());
}

/// A gateway with a hardware watchdog, a file in its place, and a manager that hears a word every four tenths of a second.
#[cfg(debug_assertions)]
struct Guarded {
    folder: tempfile::TempDir,
    link: u16,
    manager: UnixDatagram,
    gateway: crate::site::Running,
}

#[cfg(debug_assertions)]
impl Guarded {
    /// It waits at this place of the program as long as there is a file `stall`, and has patience for so long.
    fn start(place: &str, patience_s: u64, is_stalled: bool) -> Guarded {
        let (folder, link) = (tempfile::tempdir().unwrap(), free_port());
        let at = |name: &str| folder.path().join(name);
        let definition = "[board]\nname = \"bench\"\nrevision = \"1\"\n[watchdog]\ndevice = \"/dev/watchdog0\"\n";
        std::fs::write(at("bench.toml"), definition).unwrap();
        let text = format!(
            "[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n[board]\ndefinition = {:?}\nfolder = {:?}\n\
             [[link]]\nname = \"ward\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{link}\"\nclock_limit_s = 0\n\
             [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n",
            at("data"),
            at("bench.toml"),
            at("board"),
        );
        std::fs::write(at("afferent.toml"), text).unwrap();
        if is_stalled {
            std::fs::write(at("stall"), "").unwrap();
        }
        let manager = UnixDatagram::bind(at("notify")).unwrap();
        manager.set_nonblocking(true).unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let mut gateway = Command::new(env!("CARGO_BIN_EXE_afferent"));
        gateway.args(["run", "--config"]).arg(at("afferent.toml")).env_remove("JOURNAL_STREAM");
        gateway.env("NOTIFY_SOCKET", at("notify")).env("WATCHDOG_USEC", "1600000");
        gateway.env("AFFERENT_STALL_AT", format!("{place}:{}", at("stall").display()));
        gateway.env("AFFERENT_PATIENCE_S", patience_s.to_string());
        let gateway = gateway.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Guarded { folder, link, manager, gateway: crate::site::Running(gateway) }
    }

    fn stall(&self) -> PathBuf {
        self.folder.path().join("stall")
    }

    /// What the manager has heard since it was asked last.
    fn said(&self) -> String {
        let (mut said, mut words) = (String::new(), [0; 512]);
        while let Ok(length) = self.manager.recv(&mut words) {
            said += &String::from_utf8_lossy(&words[..length]);
        }
        said
    }

    fn fed(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("board/watchdog")).unwrap_or_default()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Hears until this is so.
    fn until(&self, what: &str, mut is_so: impl FnMut(&str) -> bool) {
        for _ in 0..1200 {
            if is_so(&self.said()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{what}\n{}", self.log());
    }

    /// Both are told, again and again.
    fn goes_on(&self) {
        self.until("the manager is told", |said| said.contains("WATCHDOG=1"));
        let before = self.fed();
        self.until("the hardware watchdog is fed", |_| self.fed() != before);
    }

    /// Neither is told, for longer than either would wait.
    fn is_given_up(&self) {
        let (fed, mut said) = (self.fed(), self.said());
        for _ in 0..12 {
            std::thread::sleep(Duration::from_secs(1));
            said += &self.said();
        }
        let is_told = said.contains("WATCHDOG=1") || said.contains("EXTEND_TIMEOUT_USEC=");
        assert!(!is_told && self.fed() == fed, "{said}\n{}", self.log());
    }
}

#[cfg(debug_assertions)]
#[test]
fn neither_manager_nor_watchdog_is_told_while_what_takes_custody_is_stuck() {
    let bench = Guarded::start("before-commit", 15, false);
    bench.until("it runs", |said| said.contains("READY=1"));
    bench.goes_on();
    std::fs::write(bench.stall(), "").unwrap();
    let sim = Command::new(env!("CARGO_BIN_EXE_afferent"))
        .args(["sim", "instrument", "--protocol", "hl7", "-n", "1", "--corrections", "0", "--connect"])
        .arg(format!("127.0.0.1:{}", bench.link))
        .stdout(Stdio::null())
        .spawn();
    let mut sim = sim.unwrap();
    bench.until("it is named", |_| bench.log().contains("is to be started again: journal"));
    bench.is_given_up();
    // What hung goes on before anybody had enough of it.
    std::fs::remove_file(bench.stall()).unwrap();
    bench.goes_on();
    assert!(ends(&mut sim).is_some_and(|status| status.success()), "it was answered");
}

#[cfg(debug_assertions)]
#[test]
fn manager_and_watchdog_wait_for_a_long_start_and_not_for_one_that_hangs() {
    let mut long = Guarded::start("recovery", 3600, true);
    let (fed, mut times, mut extended) = (std::cell::RefCell::new(String::new()), 0, 0);
    long.until("it is fed, and its manager waits", |said| {
        assert!(!said.contains("READY=1"));
        times += u32::from(fed.replace(long.fed()) != long.fed());
        extended += said.matches("EXTEND_TIMEOUT_USEC=90000000").count();
        times > 5 && extended > 5
    });
    std::fs::remove_file(long.stall()).unwrap();
    long.until("it runs", |said| said.contains("READY=1"));
    assert!(long.gateway.0.try_wait().unwrap().is_none());

    // It comes that far in less than ten seconds.
    let hangs = Guarded::start("recovery", 10, true);
    hangs.until("it is named", |_| hangs.log().contains("is to be started again: start"));
    hangs.is_given_up();
}

#[test]
fn what_ends_an_interrupted_restore_asks_the_manager_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut restore = Command::new(env!("CARGO_BIN_EXE_afferent"));
    restore.args(["restore", "--config"]).arg(folder.path().join("afferent.toml"));
    restore.env("NOTIFY_SOCKET", folder.path().join("notify"));
    assert!(!restore.output().unwrap().status.success(), "none was interrupted");
    let mut words = [0; 512];
    let length = manager.recv(&mut words).unwrap();
    assert_eq!(std::str::from_utf8(&words[..length]), Ok("EXTEND_TIMEOUT_USEC=600000000\n"));
}

/// How a process ended, within a minute.
fn ends(process: &mut std::process::Child) -> Option<std::process::ExitStatus> {
    for _ in 0..600 {
        if let Ok(Some(status)) = process.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = process.kill();
    None
}

#[test]
fn i7_a_caller_waits_at_the_managers_socket_while_the_gateway_is_started_anew() {
    let folder = tempfile::tempdir().unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, config) = (socket.local_addr().unwrap().to_string(), folder.path().join("afferent.toml"));
    let text = format!(
        "[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n[[link]]\nname = \"ward\"\nprotocol = \"hl7\"\n\
         listen = \"{address}\"\nclock_limit_s = 0\n[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n",
        folder.path().join("data")
    );
    std::fs::write(&config, text).unwrap();
    // As the manager hands it over, and as the launcher does, which is then the process that it named.
    for script in ["LISTEN_PID=$$ exec \"$@\"", "export LISTEN_PID=$$; \"$@\" & echo $! >&4; wait"] {
        let sim = Command::new(env!("CARGO_BIN_EXE_afferent"))
            .args(["sim", "instrument", "--protocol", "hl7", "-n", "1", "--corrections", "0", "--connect", &address])
            .stdout(Stdio::null())
            .spawn();
        let mut sim = sim.unwrap();
        let said = std::fs::File::create(folder.path().join("said")).unwrap();
        let mut gateway = Command::new("sh");
        gateway.args(["-c", script, "sh", env!("CARGO_BIN_EXE_afferent"), "run", "--config"]).arg(&config);
        gateway.env("LISTEN_FDS", "1").stdout(Stdio::null()).stderr(Stdio::null());
        hand_over(&mut gateway, [socket.as_raw_fd(), said.as_raw_fd()]);
        let mut gateway = gateway.spawn().unwrap();
        assert!(
            ends(&mut sim).is_some_and(|status| status.success()),
            "it called before anybody was there, and was answered"
        );
        let child = std::fs::read_to_string(folder.path().join("said")).unwrap();
        let process = child.trim().parse().unwrap_or(gateway.id() as i32);
        // SAFETY: a signal to a process that has not been waited for.
        unsafe { libc::kill(process, libc::SIGTERM) };
        assert!(ends(&mut gateway).is_some());
    }
    assert!(std::net::TcpStream::connect(&address).is_ok(), "the socket is still there");
}

#[test]
fn every_secret_can_come_from_the_service_manager_and_one_that_does_not_is_named() {
    let (folder, handed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = afferent::tls::throwaway::Authority::new().unwrap();
    let (cert, key) = authority.client("localhost").unwrap().write(folder.path(), "box").unwrap();
    for name in ["ward-key", "ehr-key", "broker-key"] {
        std::fs::copy(&key, handed.path().join(name)).unwrap();
    }
    std::fs::write(handed.path().join("proxy-password"), "open sesame").unwrap();
    std::fs::write(handed.path().join("journal"), "7f".repeat(32)).unwrap();
    let config = folder.path().join("afferent.toml");
    let text = format!(
        "[gateway]\ndata = {data:?}\n[journal]\nfree_min_mb = 0\nkey_file = \"credential:journal\"\n\
         [[link]]\nname = \"ward\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{port}\"\n\
         tls = {{ cert = {cert:?}, key = \"credential:ward-key\" }}\n\
         [[destination]]\nname = \"ehr\"\naddress = \"localhost:9\"\n[destination.tls]\nca = {cert:?}\n\
         cert = {cert:?}\nkey = \"credential:ehr-key\"\nproxy = \"http://localhost:9\"\nproxy_user = \"box\"\n\
         proxy_password_file = \"credential:proxy-password\"\n\
         [fleet]\nbroker = \"localhost:9\"\ntenant = \"acme\"\n[fleet.tls]\nca = {cert:?}\ncert = {cert:?}\n\
         key = \"credential:broker-key\"\n",
        data = folder.path().join("data"),
        port = free_port(),
    );
    std::fs::write(&config, text).unwrap();
    let check = |place: Option<&Path>| {
        let mut check = Command::new(env!("CARGO_BIN_EXE_afferent"));
        check.args(["check", "--strict"]).arg(&config).env_remove("CREDENTIALS_DIRECTORY");
        let output = check.envs(place.map(|place| ("CREDENTIALS_DIRECTORY", place))).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (is_sound, said) = check(Some(handed.path()));
    assert!(is_sound, "{said}");
    let empty = tempfile::tempdir().unwrap();
    let (is_sound, said) = check(Some(empty.path()));
    assert!(!is_sound);
    for name in ["ward-key", "ehr-key", "broker-key", "proxy-password", "journal"] {
        let told = format!("there is no `{name}` in {}", empty.path().display());
        assert!(said.contains(&told) && said.contains(&format!("LoadCredential={name}:FILE")), "{name}: {said}");
    }
    let (is_sound, said) = check(None);
    assert!(!is_sound && said.contains("$CREDENTIALS_DIRECTORY, where `journal` is looked for"), "{said}");

    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_afferent"));
    gateway.args(["run", "--config"]).arg(&config).env("CREDENTIALS_DIRECTORY", handed.path());
    let gateway = gateway.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let mut gateway = crate::site::Running(gateway);
    let said = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    while !said().contains("gateway-ready") {
        assert!(gateway.0.try_wait().unwrap().is_none(), "{}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!folder.path().join("data/journal.key").exists(), "no key lies beside the data");
    assert!(!said().contains("open sesame"));
}

/// Gives what is started these descriptors, as its third and fourth.
fn hand_over(command: &mut Command, handed: [RawFd; 2]) {
    // SAFETY: between fork and exec only descriptors are copied.
    unsafe {
        command.pre_exec(move || {
            // Out of the way of each other first.
            let [third, fourth] = handed.map(|from| libc::fcntl(from, libc::F_DUPFD, 100));
            let done = libc::dup2(third, 3) == 3 && libc::dup2(fourth, 4) == 4;
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
}

/// A socket that listens at this address, of IPv6 alone where that is said.
fn listening(address: &str, only_v6: bool) -> TcpListener {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(only_v6).unwrap();
    }
    socket.bind(&address.into()).unwrap();
    socket.listen(16).unwrap();
    socket.into()
}

#[test]
fn i7_a_listener_takes_the_managers_socket_that_is_meant_or_it_is_told() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return println!("left out: sockets of both families (no IPv6 here)");
    }
    // Its address, the sockets, and what is said: none where all is well, and callers over IPv4 are heard.
    for (listen, sockets, told) in [
        ("0.0.0.0", vec![("[::]", false)], None),
        ("0.0.0.0", vec![("[::]", true), ("0.0.0.0", false)], Some("(afferent.socket), and nothing here does")),
        ("[::]", vec![("0.0.0.0", false)], Some("which is not [::]:")),
    ] {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let sockets: Vec<TcpListener> =
            sockets.into_iter().map(|(ip, only_v6)| listening(&format!("{ip}:{port}"), only_v6)).collect();
        let config = folder.path().join("afferent.toml");
        let text = format!(
            "[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n[[link]]\nname = \"ward\"\nprotocol = \"hl7\"\n\
             listen = \"{listen}:{port}\"\nclock_limit_s = 0\n[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n",
            folder.path().join("data")
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut gateway = Command::new("sh");
        gateway.args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh", env!("CARGO_BIN_EXE_afferent"), "run", "--config"]);
        gateway.arg(&config).env("LISTEN_FDS", sockets.len().to_string()).env_remove("JOURNAL_STREAM");
        hand_over(&mut gateway, [0, sockets.len() - 1].map(|at| sockets[at].as_raw_fd()));
        let gateway = gateway.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut gateway = crate::site::Running(gateway);
        if listen == "0.0.0.0" {
            let address = format!("127.0.0.1:{port}");
            let mut sim = Command::new(env!("CARGO_BIN_EXE_afferent"));
            sim.args([
                "sim",
                "instrument",
                "--protocol",
                "hl7",
                "-n",
                "1",
                "--corrections",
                "0",
                "--connect",
                &address,
            ]);
            let mut sim = sim.stdout(Stdio::null()).spawn().unwrap();
            assert!(ends(&mut sim).is_some_and(|status| status.success()), "{listen}: it was answered");
        } else {
            assert!(!ends(&mut gateway.0).unwrap().success(), "it does not start deaf");
        }
        let said = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(told.map_or(!said.contains("afferent.socket"), |told| said.contains(told)), "{listen}: {said}");
    }
}

fn analyze(words: &[&str], unit: &Path) -> Option<(bool, String)> {
    let output = Command::new("systemd-analyze").args(words).arg(unit).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn the_units_are_sound_and_give_little_away() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let folder = tempfile::tempdir().unwrap();
    for name in ["afferent.service", "afferent-console.service"] {
        // The program lies elsewhere as long as it is not installed.
        let text = std::fs::read_to_string(shipped.join(name)).unwrap();
        let unit: PathBuf = folder.path().join(name);
        std::fs::write(&unit, text.replace("/usr/bin/afferent ", concat!(env!("CARGO_BIN_EXE_afferent"), " ")))
            .unwrap();
        let Some((is_sound, said)) = analyze(&["verify", "--man=no"], &unit) else {
            return println!("left out: what systemd says of the units (no systemd-analyze)");
        };
        assert!(is_sound && said.is_empty(), "{said}");
        let security = ["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE_MAX];
        let (is_closed, said) = analyze(&security, &unit).unwrap();
        assert!(is_closed, "{said}");
        println!("{}", said.lines().last().unwrap_or_default());
    }

    // With secrets of the service manager's, and with hardware of its own.
    let drop_ins = folder.path().join("afferent.service.d");
    std::fs::create_dir(&drop_ins).unwrap();
    for name in ["credentials.conf", "board.conf"] {
        std::fs::copy(shipped.join(name), drop_ins.join(name)).unwrap();
        let unit = folder.path().join("afferent.service");
        let (is_sound, said) = analyze(&["verify", "--man=no"], &unit).unwrap();
        assert!(is_sound && said.is_empty(), "{name}: {said}");
        let security = ["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE_MAX];
        let (is_closed, said) = analyze(&security, &unit).unwrap();
        assert!(is_closed, "{name}: {said}");
        println!("{name}: {}", said.lines().last().unwrap_or_default());
    }

    // With the service beside it.
    let unit = folder.path().join("afferent.socket");
    std::fs::copy(shipped.join("afferent.socket"), &unit).unwrap();
    let (is_sound, said) = analyze(&["verify", "--man=no"], &unit).unwrap();
    assert!(is_sound && said.is_empty(), "{said}");

    // The user and the folders, made in a root of their own.
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\ndialout:x:20:\n").unwrap();
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    for (tool, file) in [("systemd-sysusers", "sysusers.conf"), ("systemd-tmpfiles", "tmpfiles.conf")] {
        let mut command = Command::new(tool);
        command.arg(format!("--root={}", root.display()));
        command.args((tool == "systemd-tmpfiles").then_some("--create")).arg(shipped.join(file));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let unit = std::fs::read_to_string(shipped.join("afferent.service")).unwrap();
    let mut given = vec![unit.lines().find_map(|line| line.strip_prefix("Group=")).unwrap().to_string()];
    for unit in ["afferent.service", "board.conf"] {
        let text = std::fs::read_to_string(shipped.join(unit)).unwrap();
        let wanted = text.lines().find_map(|line| line.strip_prefix("SupplementaryGroups=")).unwrap();
        given.extend(wanted.split(' ').map(str::to_string));
        let made = std::fs::read_to_string(root.join("etc/group")).unwrap();
        // A group that is not there keeps the service from starting.
        for group in wanted.split(' ') {
            assert!(made.lines().any(|line| line.starts_with(&format!("{group}:"))), "{unit}: {group}: {made}");
        }
    }
    let rules = std::fs::read_to_string(shipped.join("99-afferent.rules")).unwrap();
    for rule in rules.lines().filter(|rule| !rule.starts_with('#')) {
        let group = rule.split_once("GROUP=\"").and_then(|(_, rest)| rest.split('"').next());
        assert!(
            group.is_none_or(|group| given.iter().any(|of| of == group)),
            "the service is not in that group: {rule}"
        );
    }
    let groups = std::fs::read_to_string(root.join("etc/group")).unwrap();
    assert!(groups.contains("dialout:x:20:afferent"), "{groups}");
    let mode = std::fs::metadata(root.join("var/lib/afferent")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o700);
}

#[test]
fn the_launcher_is_given_the_folder_that_the_configuration_has_by_default() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let drop_in = std::fs::read_to_string(shipped.join("launcher.conf")).unwrap();
    let releases = afferent::update::Config::default().releases;
    assert!(drop_in.contains(&format!("afferent-launcher {} run", releases.display())), "{drop_in}");
    let page = std::fs::read_to_string(shipped.join("launcher-console.conf")).unwrap();
    assert!(page.contains(&format!("ExecStart={}/current/afferent console", releases.display())), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let unit = std::fs::read_to_string(shipped.join("afferent.service")).unwrap();
    let file = folder.path().join("afferent.service");
    std::fs::write(&file, unit.replace("/usr/bin/afferent ", concat!(env!("CARGO_BIN_EXE_afferent"), " "))).unwrap();
    std::fs::create_dir(folder.path().join("afferent.service.d")).unwrap();
    let drop_in = drop_in.replace("/usr/bin/afferent-launcher", env!("CARGO_BIN_EXE_afferent-launcher"));
    std::fs::write(folder.path().join("afferent.service.d/launcher.conf"), drop_in).unwrap();
    if let Some((is_sound, said)) = analyze(&["verify", "--man=no"], &file) {
        assert!(is_sound && said.is_empty(), "{said}");
    }
}
