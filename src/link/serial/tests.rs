//! Promises of serial links that need no cable. A pseudo terminal has no parity, so damage is fed as the kernel marks it.

use super::*;
use crate::journal::{self, Journal};
use crate::link::{Custodian, LinkCounters};
use crate::wire::astm::{ACK, ENQ, NAK, encode_frame};
use crate::wire::{Protocol, mllp};
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Both ends of a pseudo terminal: the master, and the other's name.
fn pseudo_terminal() -> (std::fs::File, OwnedFd, PathBuf) {
    let (mut master, mut slave, mut name) = (0, 0, [0; 128]);
    // SAFETY: all three are valid for writing, and Linux's names of terminals are far shorter than the room for one.
    let done = unsafe { libc::openpty(&mut master, &mut slave, name.as_mut_ptr(), std::ptr::null(), std::ptr::null()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both were opened just now and belong to nobody else; the name ends in NUL.
    unsafe {
        let path = std::ffi::CStr::from_ptr(name.as_ptr()).to_str().unwrap().into();
        (std::fs::File::from_raw_fd(master), OwnedFd::from_raw_fd(slave), path)
    }
}

fn with(parity: Option<Parity>) -> Config {
    Config { name: "chemistry".into(), parity, ..Config::default() }
}

#[tokio::test]
async fn damage_is_marked_where_there_is_parity_and_nowhere_else() {
    let marking = libc::INPCK | libc::PARMRK;
    let hiding = libc::IGNPAR | libc::IGNBRK | libc::BRKINT | libc::ISTRIP;
    for (parity, marked) in
        [(None, false), (Some(Parity::None), false), (Some(Parity::Even), true), (Some(Parity::Odd), true)]
    {
        let (_master, _slave, path) = pseudo_terminal();
        let port = open(&with(parity), &path).unwrap();
        let flags = settings(&port).unwrap().c_iflag;
        match marked {
            true => assert_eq!(flags & (marking | hiding), marking, "{parity:?}"),
            false => assert_eq!(flags & libc::PARMRK, 0, "{parity:?}"),
        }
    }
}

#[tokio::test]
async fn every_byte_comes_through_a_port_that_marks_damage() {
    let (mut master, _slave, path) = pseudo_terminal();
    let mut port = open(&with(Some(Parity::Even)), &path).unwrap();
    let sent: Vec<u8> = (0..=0xFF).chain([0xFF, 0, 0xFF]).collect();
    master.write_all(&sent).unwrap();
    let (mut marks, mut heard, mut on_the_port) = (Marks::default(), Vec::new(), 0);
    while heard.len() < sent.len() {
        let mut buffer = [0; 7];
        let many = port.read(&mut buffer).await.unwrap();
        on_the_port += many;
        marks.decode(&buffer[..many], |what| match what {
            crate::link::marks::Heard::Good(bytes) => heard.extend_from_slice(bytes),
            crate::link::marks::Heard::Damaged(how, _) => panic!("{how}"),
        });
    }
    assert_eq!(heard, sent);
    assert_eq!(on_the_port, sent.len() + 3, "each FF came twice, so the port does mark");
}

/// What a link needs, with a journal of its own.
fn shell(data: &Path, config: Config) -> (watch::Sender<bool>, Shell) {
    let settings = journal::Config { free_min_mb: 0, ..journal::Config::default() };
    let (stop, shutdown) = watch::channel(false);
    let shell = Shell {
        link: config.name.as_str().into(),
        custodian: Custodian::Results(Journal::open(data, &settings).unwrap()),
        counters: Arc::new(LinkCounters::new(&config.name, config.protocol)),
        config,
        shutdown,
        connections: Arc::default(),
        connections_max: 1,
        held: Arc::default(),
        office: None,
        outgoing: false,
        worklist: None,
    };
    (stop, shell)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_comes_back_under_another_number_is_found_again_and_serves_one_link() {
    let tree = ports::tests::tree(&[("ttyUSB0", "1-1.1", Some("A1"))]);
    let root = tree.path().to_path_buf();
    let plug = |tty: &str| {
        let (master, slave, path) = pseudo_terminal();
        std::os::unix::fs::symlink(path, root.join("dev").join(tty)).unwrap();
        (master, slave)
    };
    std::fs::remove_file(root.join("dev/ttyUSB0")).unwrap();
    let mut plugged = plug("ttyUSB0");

    let data = tempfile::tempdir().unwrap();
    let mut quick = with(None);
    (quick.timers.reconnect_min_ms, quick.timers.reconnect_max_ms) = (10, 50);
    let (stop, first) = shell(&data.path().join("first"), quick.clone());
    let (stop_second, second) = shell(&data.path().join("second"), Config { name: "urine".into(), ..quick });
    let (first, second) = (Arc::new(first), Arc::new(second));
    let serving = |shell: &Arc<Shell>, name: &str| {
        let (root, shell, name) = (root.clone(), shell.clone(), PathBuf::from(name));
        tokio::spawn(async move { serve_below(&root, shell, name).await })
    };
    let served = serving(&first, "usb:067b:2303:A1");
    for number in 1..=3 {
        until("the port is open", || first.counters.health().up).await;
        let (mut master, slave) = plugged;
        let answer = tokio::task::spawn_blocking(move || {
            let mut answer = [0];
            master.write_all(&[ENQ]).unwrap();
            std::io::Read::read_exact(&mut master, &mut answer).unwrap();
            (master, answer)
        });
        let (master, answer) = answer.await.unwrap();
        assert_eq!(answer, [ACK], "as ttyUSB{}", number - 1);
        if number == 1 {
            // The same port by its socket: the second link is told, and the first goes on.
            let refused = serving(&second, "usb:1-1.1");
            let taken = || second.counters.health().reasons.contains_key("another link has this serial port");
            until("the second link is refused", taken).await;
            stop_second.send_replace(true);
            refused.await.unwrap();
        }
        drop((master, slave));
        until("the gateway notices", || !first.counters.health().up).await;
        let (before, after) = (format!("ttyUSB{}", number - 1), format!("ttyUSB{number}"));
        let class = root.join("sys/class/tty");
        std::fs::remove_file(root.join("dev").join(&before)).unwrap();
        std::fs::rename(class.join(&before), class.join(&after)).unwrap();
        plugged = plug(&after);
    }
    stop.send_replace(true);
    served.await.unwrap();
}

/// A gateway's end of a line with parity, without a gateway around it.
struct Bench {
    shell: Shell,
    journal: Journal,
    instrument: tokio::io::DuplexStream,
    served: tokio::task::JoinHandle<Ended>,
    _stop: watch::Sender<bool>,
    _data: tempfile::TempDir,
}

impl Bench {
    fn new(protocol: Protocol) -> Bench {
        let data = tempfile::tempdir().unwrap();
        let (stop, shell) = shell(data.path(), Config { protocol, ..with(Some(Parity::Even)) });
        let Custodian::Results(journal) = shell.custodian.clone() else { panic!("an instrument's link") };
        let mut pump = shell.pump(1);
        pump.marks = Some(Marks::default());
        let (instrument, port) = tokio::io::duplex(1024);
        let mut machine = shell.machine();
        let served = tokio::spawn(async move { pump.run(port, &mut machine, || {}).await });
        Bench { shell, journal, instrument, served, _stop: stop, _data: data }
    }

    /// Byte by byte, so that the marks are split.
    async fn send(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.instrument.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    }

    /// The instrument goes away. How often each reason was counted, and the bytes of every entry.
    async fn end(self) -> (std::collections::BTreeMap<String, u64>, Vec<Vec<u8>>) {
        drop(self.instrument);
        self.served.await.unwrap();
        let entries = self.journal.reader().unwrap().pending_entries(10).unwrap();
        self.journal.close();
        let reasons = self.shell.counters.health().reasons;
        let reasons = reasons.into_iter().map(|(reason, count)| (reason.to_string(), count)).collect();
        (reasons, entries.into_iter().map(|entry| entry.raw.clone()).collect())
    }
}

#[tokio::test]
async fn i2_a_damaged_character_is_answered_nak_counted_and_never_kept() {
    let mut bench = Bench::new(Protocol::Astm);

    let good = encode_frame(1, b"H|\\^&\rL|1\r", true);
    let mut parity_error = good.clone();
    parity_error.splice(3..4, [0xFF, 0, b'}']);
    let mut broken_off = good.clone();
    broken_off.splice(3..3, [0xFF, 0, 0]);
    for (sent, answer) in [(&[ENQ][..], ACK), (&parity_error, NAK), (&broken_off, NAK), (&good, ACK)] {
        bench.send(sent).await;
        assert_eq!(bench.instrument.read_u8().await.unwrap(), answer);
    }
    let (reasons, entries) = bench.end().await;
    let counted = |reason: &str| reasons.get(reason).copied().unwrap_or(0);
    assert_eq!(counted("a character with a parity or framing error"), 1);
    assert_eq!(counted("a break on the line"), 1);
    assert_eq!(counted("damaged character inside a frame"), 2);
    assert_eq!(entries, [good]);
}

#[tokio::test]
async fn i2_a_damaged_message_is_answered_ae_counted_and_never_kept() {
    let mut bench = Bench::new(Protocol::Hl7);
    let good = b"MSH|^~\\&|A|B|||20260101120000||ORU^R01|17|P|2.3.1\rOBX|1|NM|GLU||5.4\r".to_vec();
    let mut damaged = mllp::frame(&good);
    // Where the digit 4 was: with a mark, MLLP sees no more of it than that something was there.
    let at = damaged.iter().position(|&b| b == b'.').unwrap() + 1;
    damaged.splice(at..=at, [0xFF, 0, b'5']);
    // A character that is damaged between messages damages none.
    let after_noise = [&[0xFF, 0, 0x02][..], &mllp::frame(&good)].concat();
    for (sent, code) in [(damaged, "AE"), (after_noise, "AA")] {
        bench.send(&sent).await;
        let mut answer = Vec::new();
        while !answer.ends_with(&[mllp::FS, mllp::CR]) {
            answer.push(bench.instrument.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains(&format!("MSA|{code}|17")), "{answer}");
    }
    let (reasons, entries) = bench.end().await;
    assert_eq!(reasons.get("damaged character inside a message"), Some(&1), "{reasons:?}");
    assert_eq!(entries, [good]);
}
