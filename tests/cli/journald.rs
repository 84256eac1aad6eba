//! The log in a journal of its own, by a real systemd-journald: fields and stable ids of events, as `journalctl` finds them.

use crate::patience::{PATIENCE, until};
use crate::site::ended;
use afferent::wire::mllp;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Ids never change: whoever watches for them has written them down.
const GATEWAY_READY: &str = "5d693b7a1b014d37968bd6177cedc6a1";
const LINK_OPEN: &str = "9c3a24ae83e34286a3290eccaddd7381";

/// A journal beside that of the machine.
struct Journal {
    child: Child,
    namespace: String,
}

impl Journal {
    /// `None`, with a word, where there is no journald, or no right to run one.
    fn start() -> Option<Journal> {
        let program = ["/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald"];
        let program = program.iter().map(Path::new).find(|path| path.exists());
        // SAFETY: the call reads a number and nothing else.
        let is_root = unsafe { libc::geteuid() == 0 };
        let has_reader = Command::new("journalctl").arg("--version").output().is_ok();
        let (Some(program), true, true) = (program, is_root, has_reader) else {
            println!("left out: a journal of its own (needs systemd-journald, journalctl and root)");
            return None;
        };
        let namespace = format!("afferent-{}", std::process::id());
        let child = Command::new(program).arg(&namespace).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let journal = Journal { child, namespace };
        until("journald listens", || journal.socket().exists());
        Some(journal)
    }

    fn runtime(&self) -> PathBuf {
        PathBuf::from(format!("/run/systemd/journal.{}", self.namespace))
    }

    fn socket(&self) -> PathBuf {
        self.runtime().join("socket")
    }

    fn find(&self, wanted: &[String]) -> Vec<Value> {
        let mut command = Command::new("journalctl");
        command.args(["--no-pager", "-o", "json", "--namespace", &self.namespace]).args(wanted);
        let found = String::from_utf8(command.output().unwrap().stdout).unwrap();
        found.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(self.runtime());
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        for kept in ["/var/log/journal", "/run/log/journal"] {
            let _ = std::fs::remove_dir_all(format!("{kept}/{}.{}", machine.trim(), self.namespace));
        }
    }
}

#[test]
fn a_gateway_under_systemd_logs_with_fields_and_ids() {
    let Some(journal) = Journal::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n[[link]]\nname = \"chemistry\"\nprotocol = \"astm\"\n\
         listen = \"127.0.0.1:0\"\n[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n",
        dir.path().join("data")
    );
    let text = text.replace("127.0.0.1:0", &format!("127.0.0.1:{}", crate::ports::free_port()));
    std::fs::write(dir.path().join("afferent.toml"), text).unwrap();
    // As systemd does: standard error leads to the journal, and the variable names what it gave.
    let stderr = std::fs::File::create(dir.path().join("stderr")).unwrap();
    let about = stderr.metadata().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    command.args(["run", "--config"]).arg(dir.path().join("afferent.toml")).stdout(Stdio::null()).stderr(stderr);
    command.env("JOURNAL_STREAM", format!("{}:{}", about.dev(), about.ino())).env_remove("AFFERENT_LOG");
    command.env("AFFERENT_JOURNAL_SOCKET", journal.socket());
    let mut gateway = command.spawn().unwrap();
    until("it is ready", || !journal.find(&[format!("MESSAGE_ID={GATEWAY_READY}")]).is_empty());
    let ready = journal.find(&[format!("MESSAGE_ID={GATEWAY_READY}")]);
    assert_eq!((ready[0]["PRIORITY"].as_str(), ready[0]["SYSLOG_IDENTIFIER"].as_str()), (Some("6"), Some("afferent")));
    assert_eq!(ready[0]["_PID"], gateway.id().to_string(), "the journal knows who said it");
    until("the link is open", || !journal.find(&["LINK=chemistry".to_owned()]).is_empty());
    let open = journal.find(&["LINK=chemistry".to_owned(), format!("MESSAGE_ID={LINK_OPEN}")]);
    assert!(open[0]["MESSAGE"].as_str().unwrap().ends_with(" link=chemistry"), "{open:?}");
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("stderr")).unwrap(), "", "nothing is said twice");
}

/// Starts with a log that takes nothing, has messages acknowledged all the same, and says what is missing once it is read.
fn goes_on_although_nobody_reads(stream: OwnedFd, mut reader: impl Read, how: &[&str], more: &[(&str, &str)]) {
    let (dir, port) = (tempfile::tempdir().unwrap(), crate::ports::free_port());
    let text = format!(
        "[gateway]\ndata = {:?}\n[journal]\nfree_min_mb = 0\n[[link]]\nname = \"ward\"\nprotocol = \"hl7\"\n\
         listen = \"127.0.0.1:{port}\"\n[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n",
        dir.path().join("data")
    );
    std::fs::write(dir.path().join("afferent.toml"), text).unwrap();
    let filled = fill(&stream);
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    command.args(how).args(["run", "--config"]).arg(dir.path().join("afferent.toml"));
    command.env_remove("AFFERENT_LOG").env_remove("JOURNAL_STREAM").envs(more.iter().copied());
    command.stdout(Stdio::null()).stderr(stream);
    let mut gateway = Ended(command.spawn().unwrap());
    drop(command);
    until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let mut line = TcpStream::connect(("127.0.0.1", port)).unwrap();
    line.set_read_timeout(Some(PATIENCE)).unwrap();
    for number in 0..20 {
        let message = format!(
            "MSH|^~\\&|SIMULATED-1|LAB|||20260101120000||ORU^R01^ORU_R01|{number}|P|2.5.1\r\
             OBR|1||T{number}|PANEL^Panel^L\rOBX|1|NM|2345-7^Glucose^LN||3.0|mg/dL|||||F\r"
        );
        // Each is logged too.
        line.write_all(&mllp::frame(b"no message")).unwrap();
        line.write_all(&mllp::frame(message.as_bytes())).unwrap();
        let (mut answer, mut bytes) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&answer).contains(&format!("MSA|AA|{number}")) {
            let length = line.read(&mut bytes).expect("an answer in time");
            assert!(length > 0, "it hung up");
            answer.extend_from_slice(&bytes[..length]);
        }
    }
    reader.read_exact(&mut vec![0; filled]).unwrap();
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(gateway.0.id() as libc::pid_t, libc::SIGTERM) };
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert!(ended(&mut gateway.0).success());
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(
        lines[0].contains(" lines of the log were lost before this one") && lines[1].contains("stopping"),
        "{said}"
    );
}

/// Writes until the stream takes no more; how much it took.
fn fill(stream: &OwnedFd) -> usize {
    // SAFETY: calls that take numbers and change nothing but the flags of a stream of ours.
    let flags = |flags: i32| assert_eq!(unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    let mut file = std::fs::File::from(stream.try_clone().unwrap());
    flags(libc::O_NONBLOCK);
    let mut filled = 0;
    for size in [4096, 1] {
        while let Ok(taken) = file.write(&vec![b'.'; size]) {
            filled += taken;
        }
    }
    flags(0);
    filled
}

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn i12_messages_are_acknowledged_although_nobody_reads_the_log() {
    for format in ["human", "json", "journald"] {
        let (reader, writer) = std::io::pipe().unwrap();
        goes_on_although_nobody_reads(writer.into(), reader, &["--log-format", format], &[]);
    }
}

#[test]
fn i12_messages_are_acknowledged_although_journald_stalls() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let stalled = UnixDatagram::bind(&socket).unwrap();
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    while other.send_to(b"MESSAGE=of others\n", &socket).is_ok() {}
    let (ours, theirs) = UnixStream::pair().unwrap();
    let ours = OwnedFd::from(ours);
    let about = std::fs::File::from(ours.try_clone().unwrap()).metadata().unwrap();
    let stream = format!("{}:{}", about.dev(), about.ino());
    let more = [("JOURNAL_STREAM", &*stream), ("AFFERENT_JOURNAL_SOCKET", socket.to_str().unwrap())];
    goes_on_although_nobody_reads(ours, theirs, &[], &more);
    drop(stalled);
}
