//! Storage SCP, the real program on a real socket: what was answered 0x0000 is on disk, whole, whatever happens then.
//!
//! `AFFERENT_KILL_ROUNDS` sets the number of kills, `AFFERENT_SEED` repeats a run as far as a race can be repeated.

use crate::caller::Caller;
use crate::rig::{Rig, tools};
use afferent::sim::random::Random;
use afferent::tls::throwaway::Authority;
use afferent::tls::{self, ClientTls};
use afferent::wire::dimse::command::status;
use rustls_pki_types::ServerName;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Kills, unless the environment says otherwise.
const ROUNDS: u64 = 40;
/// Associations that store at the same time.
const ASSOCIATIONS: usize = 3;
/// The gateway lives this long in a round, in milliseconds.
const LIFE_MS: (usize, usize) = (20, 400);
/// Bytes of an instance.
const INSTANCE: (usize, usize) = (1_000, 300_000);
/// Bytes of a file before its group 2: preamble and prefix.
const PREFIX: usize = 132;

/// The bytes of the instance of this UID: the same whenever they are asked for.
fn data_set(sop_instance_uid: &str) -> Vec<u8> {
    let seed = sop_instance_uid.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let mut random = Random::new(seed);
    let length = (INSTANCE.0 + random.below(INSTANCE.1 - INSTANCE.0)) & !1;
    // SOP Instance UID, so that the head of the data set reads like one, then a private element with noise.
    let mut bytes = element(0x0008, 0x0018, sop_instance_uid.as_bytes());
    let noise: Vec<u8> = std::iter::repeat_with(|| random.bits().to_le_bytes()).flatten().take(length).collect();
    bytes.extend(element(0x0009, 0x1001, &noise));
    bytes
}

/// An element in Implicit VR Little Endian.
fn element(group: u16, number: u16, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    value.resize(value.len().next_multiple_of(2), 0);
    let tag = [group.to_le_bytes(), number.to_le_bytes()].concat();
    [&tag, &(value.len() as u32).to_le_bytes()[..], &value].concat()
}

/// The instances in the spool: SOP Instance UID and data set of each file.
fn kept(rig: &Rig) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in rig.spooled() {
        assert!(name.ends_with(".dcm"), "{name} is no whole instance");
        let file = std::fs::read(rig.spool().join(&name)).unwrap();
        assert_eq!(&file[128..PREFIX], b"DICM");
        let group_length = u32::from_le_bytes(file[140..144].try_into().unwrap()) as usize;
        let (meta, data_set) = file[144..].split_at(group_length);
        let at = meta.windows(8).position(|w| w[..6] == [2, 0, 3, 0, b'U', b'I']).unwrap();
        let length = u16::from_le_bytes([meta[at + 6], meta[at + 7]]) as usize;
        let uid = String::from_utf8(meta[at + 8..at + 8 + length].to_vec()).unwrap();
        found.insert(uid.trim_end_matches('\0').to_string(), data_set.to_vec());
    }
    found
}

#[test]
fn forty_probes_are_answered_as_wanted() {
    let Some(tools) = tools() else { return println!("no DICOM tools on this machine") };
    let rig = Rig::start("", "");
    let probe = Command::new("python3")
        .arg(tools.join("probe.py"))
        .args(["127.0.0.1", &rig.port.to_string(), "AFFERENT", "--store"])
        .arg(rig.spool())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&probe.stdout);
    println!("{told}");
    assert!(told.contains("40/40 as wanted"), "{}", String::from_utf8_lossy(&probe.stderr));
}

/// Stores instance after instance until the gateway is gone; notes each that was answered 0x0000.
fn store_on_and_on(port: u16, first: String, acknowledged: &Mutex<Vec<String>>, stop: &AtomicBool) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut caller) = Caller::call(port) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        loop {
            number += 1;
            let uid = format!("{first}.{number}");
            match caller.store(&uid, &data_set(&uid)) {
                Ok(status::SUCCESS) => acknowledged.lock().unwrap().push(uid),
                Ok(other) => panic!("status {other:04X}"),
                Err(_) => break,
            }
        }
    }
}

#[test]
fn i1_what_was_answered_outlives_a_kill_at_any_moment() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("AFFERENT_KILL_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("AFFERENT_SEED").unwrap_or_else(|| jiff::Timestamp::now().as_microsecond() as u64);
    println!("AFFERENT_SEED={seed}");
    let mut random = Random::new(seed);
    let mut rig = Rig::start("", "");
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    for round in 0..rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let port = rig.port;
        let modalities: Vec<_> = (0..ASSOCIATIONS)
            .map(|modality| {
                let (acknowledged, stop) = (acknowledged.clone(), stop.clone());
                let first = format!("1.2.{}.{}", round + 1, modality + 1);
                std::thread::spawn(move || store_on_and_on(port, first, &acknowledged, &stop))
            })
            .collect();
        std::thread::sleep(Duration::from_millis((LIFE_MS.0 + random.below(LIFE_MS.1 - LIFE_MS.0)) as u64));
        rig.kill();
        stop.store(true, Ordering::Relaxed);
        modalities.into_iter().for_each(|modality| modality.join().unwrap());
        rig.restart();
    }
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    let kept = kept(&rig);
    println!("{rounds} kills, {} acknowledged, {} kept", acknowledged.len(), kept.len());
    assert!(acknowledged.len() as u64 > rounds, "hardly anything was stored");
    for uid in &acknowledged {
        let bytes = kept.get(uid).unwrap_or_else(|| panic!("seed {seed}: {uid} was acknowledged and is gone"));
        assert!(*bytes == data_set(uid), "seed {seed}: {uid} was acknowledged and is not what was sent");
    }
    // What was not acknowledged may be there as well, but only whole.
    kept.iter().for_each(|(uid, bytes)| assert!(*bytes == data_set(uid), "seed {seed}: {uid} is cut"));
}

#[test]
fn an_instance_that_is_cut_short_leaves_nothing() {
    let rig = Rig::start("", "");
    let mut caller = Caller::call(rig.port).unwrap();
    assert_eq!(caller.store("1.2.1", &data_set("1.2.1")).unwrap(), status::SUCCESS);
    caller.begin_to_store("1.2.2", &[7; 500_000]).unwrap();
    wait_for(|| rig.spooled().len() == 2, "the second instance is being written");
    drop(caller);
    wait_for(|| rig.spooled().len() == 1, "the second instance is gone");
    let mut caller = Caller::call(rig.port).unwrap();
    assert_eq!(caller.store("1.2.2", &data_set("1.2.2")).unwrap(), status::SUCCESS);
    assert_eq!(caller.echo().unwrap(), status::SUCCESS);
    caller.release().unwrap();
    assert_eq!(kept(&rig).into_keys().collect::<Vec<_>>(), ["1.2.1", "1.2.2"]);
}

#[test]
fn i4_the_same_instance_again_is_answered_and_kept_once() {
    let rig = Rig::start("", "");
    for _ in 0..3 {
        let mut caller = Caller::call(rig.port).unwrap();
        assert_eq!(caller.store("1.2.1", &data_set("1.2.1")).unwrap(), status::SUCCESS);
        caller.release().unwrap();
    }
    wait_for(|| rig.spooled().len() == 1, "one file is left");
    let mut caller = Caller::call(rig.port).unwrap();
    assert_eq!(caller.store("1.2.1", &data_set("1.2.9")).unwrap(), status::SUCCESS);
    assert_eq!(rig.spooled().len(), 2, "other bytes under the same UID are kept as well");
}

#[test]
fn i7_a_full_disk_is_said_and_costs_nothing() {
    let rig = Rig::start("quota_mb = 20\n", "");
    let mut caller = Caller::call(rig.port).unwrap();
    let megabyte = vec![0x55; 1 << 20];
    let (mut stored, mut refused) = (0, 0);
    // How full it is, is looked at now and then, and what is refused makes a little room again.
    let turned_away = (0..1000).any(|number| {
        match caller.store(&format!("1.2.{number}"), &megabyte).unwrap() {
            status::SUCCESS => stored += 1,
            status::OUT_OF_RESOURCES => refused += 1,
            other => panic!("status {other:04X}"),
        }
        refused > 5 && Caller::call(rig.port).is_err()
    });
    assert!(turned_away && stored > 10, "who would store is told to come back later: {stored}, {refused}");
    assert_eq!(caller.echo().unwrap(), status::SUCCESS, "the association stays");
    let spooled = rig.spooled();
    assert!(spooled.iter().all(|name| name.ends_with(".dcm")), "what was refused left nothing");
    assert_eq!(spooled.len(), stored, "what was taken waits for the PACS, all of it");
    assert!(std::fs::read_to_string(rig.log()).unwrap().contains("no room"));
}

#[test]
fn another_protocol_is_told_apart_in_the_log() {
    let rig = Rig::start("", "");
    let mut browser = TcpStream::connect(("127.0.0.1", rig.port)).unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    wait_for(|| std::fs::read_to_string(rig.log()).unwrap().contains("this is not DICOM"), "the log says what it was");
}

type Secured = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// Calls the TLS port.
fn secured(port: u16, settings: &ClientTls) -> std::io::Result<Caller<Secured>> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = rustls::ClientConnection::new(tls::client(settings).unwrap(), name).unwrap();
    Caller::associate(rustls::StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port))?))
}

#[test]
fn with_tls_only_a_modality_with_a_certificate_is_let_in() {
    tls::provider();
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::new().unwrap().write(folder.path()).unwrap();
    let table = format!(
        "listen_tls = \"127.0.0.1:{{tls_port}}\"\n[dicom.tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
        files.server.cert, files.server.key, files.ca
    );
    let rig = Rig::start("", &table);
    let mut caller = secured(rig.tls_port, &files.client).unwrap();
    assert_eq!(caller.store("1.2.1", &data_set("1.2.1")).unwrap(), status::SUCCESS);
    caller.release().unwrap();
    assert_eq!(kept(&rig)["1.2.1"], data_set("1.2.1"));
    let anonymous = ClientTls { cert: None, key: None, ..files.client.clone() };
    assert!(secured(rig.tls_port, &anonymous).is_err());
    assert!(Caller::call(rig.tls_port).is_err(), "plain DICOM on the TLS port");
    let log = || std::fs::read_to_string(rig.log()).unwrap();
    wait_for(|| log().contains("the peer shows no certificate"), "the log says why");
    wait_for(|| log().contains("the peer does not speak TLS"), "the log says why");
}

#[test]
fn a_gateway_that_stops_ends_its_associations_and_leaves_nothing_cut() {
    let mut rig = Rig::start("", "");
    let mut caller = Caller::call(rig.port).unwrap();
    assert_eq!(caller.store("1.2.1", &data_set("1.2.1")).unwrap(), status::SUCCESS);
    caller.begin_to_store("1.2.2", &[7; 500_000]).unwrap();
    wait_for(|| rig.spooled().len() == 2, "the second instance is being written");
    rig.stop();
    assert_eq!(kept(&rig).into_keys().collect::<Vec<_>>(), ["1.2.1"]);
}

#[track_caller]
fn wait_for(mut holds: impl FnMut() -> bool, what: &str) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
