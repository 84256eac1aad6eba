//! A configuration on a memory stick, for a box that its broker does not reach.

use crate::broker::{Broker, until};
use crate::commands::key;
use crate::config::{BOX, Site, destination, listens, sealed};
use crate::ports::free_port;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the doctor says of a box.
fn doctor(site: &Site) -> String {
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_afferent"));
    let output = doctor.args(["doctor", "--config"]).arg(site.file()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_signed_and_somebody_carried_runs_without_a_broker() {
    let Some(broker) = Broker::start() else { return println!("left out: a stick (no mosquitto here)") };
    let mut site = Site::new(&broker, 4).await;
    let stick = site.dir.path().join("stick");
    std::fs::create_dir(&stick).unwrap();
    let line = site.own.lines().find(|line| line.starts_with("broker")).unwrap().to_string();
    let nobody = format!("broker = \"localhost:{}\"\nstick = {stick:?}", free_port());
    site.own = site.own.replace(&line, &nobody);
    let board = site.dir.path().join("board");
    site.own += &format!("[board]\ndefinition = \"cm4-carrier-1\"\nfolder = {board:?}\n");
    let shows = |words: &str| {
        let shown = || std::fs::read_to_string(board.join("shown")).unwrap_or_default();
        until(words, || shown().lines().any(|line| line == words));
    };
    std::fs::write(site.file(), format!("{}{}", site.own, site.text(&[]))).unwrap();
    site.run(None);
    until("the box is there", || listens(site.astm));

    let port = free_port();
    let text = site.text(&[("more", port)]);
    let file = stick.join(afferent::fleet::stick::file_name(BOX));
    std::fs::write(&file, sealed(&site.desired(1, &text), &key("eve"))).unwrap();
    until("a stranger's is named", || {
        doctor(&site).contains("stick is not taken: no operator of this box who may has signed it")
    });
    shows("box stick-refused");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    until("one that cannot be read is named", || doctor(&site).contains("cannot be read: it is not a regular file"));
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, sealed(&site.desired(1, "[[link]]"), &key("ann"))).unwrap();
    until("one that is wrong is named", || doctor(&site).contains("revision 1 is refused: the check finds faults"));
    assert!(!listens(port));

    let written = site.dir.path().join("bench-1.toml");
    std::fs::write(&written, &text).unwrap();
    let (from, to) = (written.to_str().unwrap(), stick.to_str().unwrap());
    let carry = |rev: &str, more: &[&str]| {
        let arguments = ["stick", BOX, from, "--sign", "ann.key", "--out", to, "--rev", rev];
        let output = site.desk(&broker, &[arguments.as_slice(), more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    carry("2", &[]);
    until("it is confirmed", || doctor(&site).contains("revision 2 runs; revision 2 is committed"));
    assert!(listens(port));
    shows("screen stick");

    // The stick stays where it is, and an older one is put in after that: nothing happens any more.
    site.kill();
    site.run(None);
    until("the box is there again", || listens(port));
    std::fs::write(&file, sealed(&site.desired(1, "[[link]]"), &key("ann"))).unwrap();
    until("an older one is named", || doctor(&site).contains("stick is not taken: a later revision was seen"));
    std::fs::remove_file(&file).unwrap();
    until("it was pulled out", || doctor(&site).contains("revision 2 runs; revision 2 is committed"));
    let told = |state: &str| {
        let sql = "SELECT count(*) FROM desired WHERE phase = ?1";
        site.store().query_row(sql, [state], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((told("committed"), told("refused")), (1, 1));

    // Somebody edits the box's own file: what it says is not thrown away unseen.
    let edited = std::fs::read_to_string(site.file()).unwrap() + "# the analyzer was moved\n";
    std::fs::write(site.file(), edited).unwrap();
    until("it is noticed", || doctor(&site).contains("the configuration file was edited on this box"));
    let carry = |rev: &str, more: &[&str]| {
        let arguments = ["stick", BOX, from, "--sign", "ann.key", "--out", to, "--rev", rev];
        let output = site.desk(&broker, &[arguments.as_slice(), more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    carry("3", &[]);
    until("it is not replaced", || told("refused") == 2);
    let said = doctor(&site);
    let (_, digest) = said.split_once("config stick --replace ").unwrap();
    carry("4", &["--replace", &digest[..64]]);
    until("it is replaced", || doctor(&site).contains("revision 4 runs; revision 4 is committed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_was_not_let_in_yet_takes_one_for_the_name_it_is_to_have() {
    let Some(broker) = Broker::start() else { return println!("left out: a stick (no mosquitto here)") };
    let mut site = Site::new(&broker, 4).await;
    let stick = site.dir.path().join("stick");
    std::fs::create_dir(&stick).unwrap();
    let (before, tls) = site.own.split_once("[fleet.tls]\n").unwrap();
    let ca = tls.lines().find(|line| line.starts_with("ca")).unwrap();
    let line = before.lines().find(|line| line.starts_with("broker")).unwrap();
    let named = before.replace(line, &format!("{line}\nname = \"{BOX}\"\nstick = {stick:?}"));
    site.own = format!("{named}[fleet.enrol]\nurl = \"https://localhost:{}\"\n[fleet.tls]\n{ca}\n", free_port());
    std::fs::write(site.file(), format!("{}{}", site.own, site.text(&[]))).unwrap();
    site.run(None);
    until("it asks to be let in", || doctor(&site).contains("the box is not let in: "));
    let port = free_port();
    let file = stick.join(afferent::fleet::stick::file_name(BOX));
    std::fs::write(&file, sealed(&site.desired(1, &site.text(&[("more", port)])), &key("ann"))).unwrap();
    until("it is confirmed", || doctor(&site).contains("revision 1 runs; revision 1 is committed"));
    assert!(listens(port));
    assert!(doctor(&site).contains("the box is not let in: "), "it waits for that all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_supply_that_goes_during_a_change_is_heard_at_once() {
    let Some(broker) = Broker::start() else {
        return println!("left out: a supply during a change (no mosquitto here)");
    };
    let mut site = Site::new(&broker, 4).await;
    let (stick, board) = (site.dir.path().join("stick"), site.dir.path().join("board"));
    std::fs::create_dir(&stick).unwrap();
    let line = site.own.lines().find(|line| line.starts_with("broker")).unwrap().to_string();
    let nobody = format!("broker = \"localhost:{}\"\nstick = {stick:?}", free_port());
    site.own = site.own.replace(&line, &nobody);
    site.own += &format!("[board]\ndefinition = \"cm4-carrier-1\"\nfolder = {board:?}\n");
    // The hospital takes a result, and says nothing for as long as this test may take.
    let (ehr, more) = (TcpListener::bind("127.0.0.1:0").unwrap(), free_port());
    let told = destination("ehr", site.ehr.mllp().unwrap());
    let silent = destination("ehr", ehr.local_addr().unwrap()) + "ack_timeout_ms = 120000\n";
    let before = site.text(&[("more", more)]).replace(&told, &silent);
    std::fs::write(site.file(), format!("{}{before}", site.own)).unwrap();
    site.run(None);
    site.send().await;
    let (mut hospital, mut asked) = (ehr.accept().unwrap().0, [0]);
    hospital.read_exact(&mut asked).unwrap();

    // The change moves one link, leaves another as it is, and waits for the hospital's answer.
    let after = before.replace(&format!(":{}\"", site.astm), &format!(":{}\"", free_port()));
    let after = after.replace("retry_max_ms = 500", "retry_max_ms = 600");
    let file = stick.join(afferent::fleet::stick::file_name(BOX));
    std::fs::write(&file, sealed(&site.desired(1, &after), &key("ann"))).unwrap();
    until("the change is under way", || !listens(site.astm));
    let mut analyzer = TcpStream::connect(("127.0.0.1", more)).unwrap();
    analyzer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut say = |bytes: &[u8]| {
        let mut answer = [0];
        analyzer.write_all(bytes).unwrap();
        analyzer.read_exact(&mut answer).map(|()| answer[0]).ok()
    };
    assert_eq!(say(b"\x05"), Some(0x06), "this link goes on");

    std::fs::write(board.join("supply"), "off").unwrap();
    until("it stops acknowledging, and copies its log", || {
        site.log().contains("the supply is gone: all that came is safe, and nothing is taken any more")
    });
    let wal = site.dir.path().join("data/journal.db-wal");
    until("its log is in the journal", || std::fs::metadata(&wal).map_or(true, |about| about.len() == 0));
    assert_ne!(say(b"\x021H|\\^&\r\x03E5\r\n"), Some(0x06), "nothing is acknowledged any more");
    hospital.set_nonblocking(true).unwrap();
    while hospital.read(&mut asked).is_ok_and(|read| read > 0) {}
    let waits = hospital.read(&mut asked).unwrap_err().kind();
    assert_eq!(waits, std::io::ErrorKind::WouldBlock, "the change is still under way, and the hospital waited for");
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_a_slow_disk_holds_up_makes_nobody_start_the_box_anew() {
    let Some(broker) = Broker::start() else { return println!("left out: a slow change (no mosquitto here)") };
    let mut site = Site::new(&broker, 4).await;
    let at = |name: &str| site.dir.path().join(name);
    let (stick, board, stall) = (at("stick"), at("board"), at("stall"));
    std::fs::create_dir(&stick).unwrap();
    let line = site.own.lines().find(|line| line.starts_with("broker")).unwrap().to_string();
    let nobody = format!("broker = \"localhost:{}\"\nstick = {stick:?}", free_port());
    let (definition, guarded) = (at("guarded.toml"), "[watchdog]\ndevice = \"/dev/watchdog0\"\n");
    std::fs::write(&definition, format!("[board]\nname = \"bench\"\nrevision = \"1\"\n{guarded}")).unwrap();
    let manager = UnixDatagram::bind(at("notify")).unwrap();
    let environment = [
        ("NOTIFY_SOCKET", at("notify").into()),
        ("WATCHDOG_USEC", "2000000".into()),
        ("AFFERENT_STALL_AT", format!("parts-stopped:{}", stall.display()).into()),
    ];
    site.own = site.own.replace(&line, &nobody);
    site.own += &format!("[board]\ndefinition = {definition:?}\nfolder = {board:?}\n");
    std::fs::write(site.file(), format!("{}{}", site.own, site.text(&[]))).unwrap();
    // Whoever does not listen keeps the box from talking.
    let alive = Arc::new(AtomicU64::new(0));
    let heard = alive.clone();
    std::thread::spawn(move || {
        let mut words = [0; 512];
        while let Ok(length) = manager.recv(&mut words) {
            heard.fetch_add(u64::from(words[..length].starts_with(b"WATCHDOG=1")), Ordering::Relaxed);
        }
    });
    site.run_with(&environment);
    until("the box is there", || listens(site.astm) && alive.load(Ordering::Relaxed) > 0);

    std::fs::write(&stall, "").unwrap();
    let moved = free_port();
    let text = site.text(&[]).replace(&format!(":{}\"", site.astm), &format!(":{moved}\""));
    let file = stick.join(afferent::fleet::stick::file_name(BOX));
    std::fs::write(&file, sealed(&site.desired(1, &text), &key("ann"))).unwrap();
    until("the change is under way", || !listens(site.astm));
    let fed = || -> u64 {
        let said = std::fs::read_to_string(board.join("watchdog")).unwrap_or_default();
        said.trim().strip_prefix("fed ").and_then(|times| times.parse().ok()).unwrap_or_default()
    };
    // More than what a lease that nobody renews would allow.
    let (fed_before, heard_before) = (fed(), alive.load(Ordering::Relaxed));
    until("the hardware watchdog is fed", || fed() >= fed_before + 5);
    until("and so is the service manager", || alive.load(Ordering::Relaxed) >= heard_before + 20);
    assert!(!listens(moved), "the change waits");
    std::fs::remove_file(&stall).unwrap();
    until("the change is made", || listens(moved));
}
