//! Storage SCP, the real program on a real socket: what was answered 0x0000 is on disk, whole, whatever happens then.
//!
//! `AFFERENT_KILL_ROUNDS` sets the number of kills, `AFFERENT_SEED` repeats a run as far as a race can be repeated.

use crate::caller::{CT, Caller};
use crate::peers::Orthanc;
use crate::rig::{Rig, tools};
use afferent::sim::random::Random;
use afferent::tls::throwaway::Authority;
use afferent::tls::{self, ClientTls};
use afferent::wire::dimse::command::status;
use afferent::wire::dimse::negotiation::AssociateAc;
use afferent::wire::dimse::{Association, Command, Output, Proposal, Settings, pdu, uid};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Kills, unless the environment says otherwise.
const ROUNDS: u64 = 200;
/// Associations that store at the same time.
const ASSOCIATIONS: usize = 3;
/// The gateway lives this long in a round, in milliseconds.
const LIFE_MS: (usize, usize) = (20, 250);
/// A modality thinks this long before each instance, in milliseconds.
const THINKS_MS: usize = 30;
/// Bytes of an instance, and of one whose UID begins with 1.2.7.
const INSTANCE: (usize, usize) = (1_000, 100_000);
const LARGE: (usize, usize) = (900_000, 3_500_000);
/// Bytes of noise that are drawn for an instance; after those it begins again. A debug build takes too long to draw them
/// all, and so odd a length is in step with nothing that writes in blocks.
const NOISE: usize = 8 * 1_021;
/// Everything that is left must reach the PACS within this time.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of a file before its group 2: preamble and prefix.
const PREFIX: usize = 132;

fn seed(sop_instance_uid: &str) -> u64 {
    sop_instance_uid.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()))
}

/// The bytes of the instance of this UID: the same whenever they are asked for.
pub fn data_set(sop_instance_uid: &str) -> Vec<u8> {
    let mut random = Random::new(seed(sop_instance_uid));
    let (least, most) = if sop_instance_uid.starts_with("1.2.7.") { LARGE } else { INSTANCE };
    data_set_of(sop_instance_uid, (least + random.below(most - least)) & !1)
}

/// The bytes of the instance of this UID with so many of pixels.
pub fn data_set_of(sop_instance_uid: &str, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed(sop_instance_uid).rotate_left(1));
    let drawn = length.min(NOISE);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.bits().to_le_bytes()).flatten().take(drawn).collect();
    let mut noise = noise.repeat(length.div_ceil(NOISE));
    noise.truncate(length);
    // What a PACS files it by, then pixels that are noise.
    [
        element(0x0008, 0x0016, CT.as_bytes()),
        element(0x0008, 0x0018, sop_instance_uid.as_bytes()),
        element(0x0010, 0x0020, b"P1"),
        element(0x0020, 0x000D, b"1.2.3"),
        element(0x0020, 0x000E, b"1.2.3.4"),
        element(0x7FE0, 0x0010, &noise),
    ]
    .concat()
}

/// An element in Implicit VR Little Endian.
fn element(group: u16, number: u16, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    value.resize(value.len().next_multiple_of(2), 0);
    let tag = [group.to_le_bytes(), number.to_le_bytes()].concat();
    [&tag, &(value.len() as u32).to_le_bytes()[..], &value].concat()
}

/// The instances in the spool: SOP Instance UID and data set of each file.
pub fn kept(rig: &Rig) -> BTreeMap<String, Vec<u8>> {
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
    let probe = process::Command::new("python3")
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
    let (mut number, mut random) = (0, Random::new(port.into()));
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut caller) = Caller::call(port) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        loop {
            number += 1;
            // One in a while is long enough to be written in blocks.
            let kind = if number % 8 == 0 { 7 } else { 1 };
            let uid = format!("1.2.{kind}.{first}.{number}");
            std::thread::sleep(Duration::from_millis(random.below(THINKS_MS) as u64));
            match caller.store(&uid, &data_set(&uid)) {
                Ok(status::SUCCESS) => acknowledged.lock().unwrap().push(uid),
                Ok(other) => panic!("status {other:04X}"),
                Err(_) => break,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_kill_what_was_answered_is_on_disk_and_reaches_orthanc_once() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("AFFERENT_KILL_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("AFFERENT_SEED").unwrap_or_else(|| jiff::Timestamp::now().as_microsecond() as u64);
    println!("AFFERENT_SEED={seed}");
    let mut random = Random::new(seed);
    let orthanc = Orthanc::start("what outlives kills, in Orthanc").await;
    let mut rig = match &orthanc {
        Some(orthanc) => {
            let pacs = format!(
                "address = \"{}\"\ncalled_ae_title = \"{}\"\nconnections = 3\nretry_min_ms = 20\nretry_max_ms = 200\n",
                orthanc.address(),
                Orthanc::AE_TITLE
            );
            Rig::before(&pacs, "", "")
        }
        None => Rig::start("", ""),
    };
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    for round in 0..rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let port = rig.port;
        let modalities: Vec<_> = (0..ASSOCIATIONS)
            .map(|modality| {
                let (acknowledged, stop) = (acknowledged.clone(), stop.clone());
                let first = format!("{}.{}", round + 1, modality + 1);
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
        assert!(kept.contains_key(uid), "seed {seed}: {uid} was acknowledged and is gone");
    }
    // What was not acknowledged may be there as well, but all of it only whole.
    kept.iter().for_each(|(uid, bytes)| assert!(*bytes == data_set(uid), "seed {seed}: {uid} is not what was sent"));
    let Some(orthanc) = orthanc else { return };
    let began = Instant::now();
    while orthanc.count().await < kept.len() as u64 {
        assert!(began.elapsed() < DRAIN_TIMEOUT, "seed {seed}: {} of {}", orthanc.count().await, kept.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let held = orthanc.held().await;
    let uids: BTreeSet<&str> = held.iter().map(|held| held.sop_instance_uid.as_str()).collect();
    assert_eq!(uids.len(), held.len(), "each instance once");
    assert!(uids.iter().copied().eq(kept.keys().map(String::as_str)), "seed {seed}: just what is on disk");
}

#[test]
fn an_instance_that_is_cut_short_leaves_nothing() {
    let rig = Rig::start("", "");
    let mut caller = Caller::call(rig.port).unwrap();
    assert_eq!(caller.store("1.2.1", &data_set("1.2.1")).unwrap(), status::SUCCESS);
    caller.begin_to_store("1.2.2", &[7; 3_000_000]).unwrap();
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
    let rig = Rig::start("quota_mb = 100\n", "");
    let mut caller = Caller::call(rig.port).unwrap();
    // So long that its writer, which finds no room, is gone before all of it has come.
    let large = vec![0x55; 5 << 20];
    let (mut stored, mut refused) = (0, 0);
    // How full it is, is looked at now and then, and what is refused makes a little room again.
    let turned_away = (0..1000).any(|number| {
        match caller.store(&format!("1.2.{number}"), &large).unwrap() {
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

/// Asks for an association that proposes a window of eight operations each way (PS3.7 D.3.3.3) and tells the answer.
fn ask_for_a_window(stream: &mut TcpStream) -> Vec<u8> {
    let proposal = Proposal {
        called_ae_title: "AFFERENT".to_string(),
        calling_ae_title: "CT-1".to_string(),
        contexts: vec![(CT.to_string(), vec![uid::IMPLICIT_VR_LITTLE_ENDIAN.to_string()])],
        roles: Vec::new(),
    };
    let mut requestor = Association::request(Instant::now(), Settings::default(), &proposal);
    let Some(Output::Send(mut asks)) = requestor.poll_output() else { panic!("it asks first") };
    // User information is the last item; it and the PDU become longer by one sub-item.
    let window = [0x53, 0, 0, 4, 0, 8, 0, 8];
    let user = asks.windows(5).rposition(|bytes| bytes[0] == 0x50 && bytes[4] == 0x51).unwrap();
    let length = u16::from_be_bytes([asks[user + 2], asks[user + 3]]) + window.len() as u16;
    asks[user + 2..user + 4].copy_from_slice(&length.to_be_bytes());
    asks.extend(window);
    let length = asks.len() as u32 - 6;
    asks[2..6].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&asks).unwrap();
    read_pdu(stream)
}

fn read_pdu(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 6];
    stream.read_exact(&mut header).unwrap();
    let mut body = vec![0; u32::from_be_bytes(header[2..].try_into().unwrap()) as usize];
    stream.read_exact(&mut body).unwrap();
    [&header[..], &body].concat()
}

#[test]
fn a_window_of_operations_is_not_agreed_to_and_who_uses_one_is_served_all_the_same() {
    let rig = Rig::start("", "");
    let mut stream = TcpStream::connect(("127.0.0.1", rig.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let answer = ask_for_a_window(&mut stream);
    assert_eq!(answer[0], pdu::kind::ASSOCIATE_AC);
    let user = AssociateAc::read(&answer[6..]).unwrap().user;
    assert!(user.max_pdu > 0 && !answer.windows(4).any(|bytes| bytes == [0x53, 0, 0, 4]), "no item 53H: one at a time");
    let uids: Vec<String> = (1..=8).map(|number| format!("1.2.1.{number}")).collect();
    let at_once: Vec<u8> = (1..)
        .zip(&uids)
        .flat_map(|(id, uid)| pdu::message(1, &Command::store_request(id, CT, uid), Some(&data_set(uid)), 16384))
        .collect();
    stream.write_all(&at_once).unwrap();
    for id in 1..=8 {
        let answer = read_pdu(&mut stream);
        let command = Command::read(&answer[12..]).unwrap();
        assert_eq!((command.message_id_responded_to(), command.status()), (Some(id), Some(status::SUCCESS)));
    }
    assert!(kept(&rig).into_keys().eq(uids));
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

/// The fingerprint of the certificate in a PEM file.
fn fingerprint(pem: &Path) -> tls::Fingerprint {
    tls::Fingerprint::of(&CertificateDer::from_pem_file(pem).unwrap())
}

#[test]
fn with_tls_only_a_modality_with_a_certificate_is_let_in() {
    tls::provider();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    let files = authority.write(folder.path()).unwrap();
    let table = format!(
        "listen_tls = \"127.0.0.1:{{tls_port}}\"\n[dicom.tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n\
         [[modality]]\nname = \"ct-1\"\nae_title = \"CT-1\"\ncertificates = [\"{}\"]\n",
        files.server.cert,
        files.server.key,
        files.ca,
        fingerprint(files.client.cert.as_ref().unwrap())
    );
    let rig = Rig::start("", &table);
    let mut caller = secured(rig.tls_port, &files.client).unwrap();
    assert_eq!(caller.store("1.2.1", &data_set("1.2.1")).unwrap(), status::SUCCESS);
    caller.release().unwrap();
    assert_eq!(kept(&rig)["1.2.1"], data_set("1.2.1"));
    let another = authority.client("another").unwrap().write(folder.path(), "another").unwrap();
    let another = ClientTls { cert: Some(another.0), key: Some(another.1), ..files.client.clone() };
    assert!(secured(rig.tls_port, &another).is_err(), "the certificate of another modality");
    assert!(Caller::call(rig.port).is_err(), "no certificate at all, on the plain port");
    let anonymous = ClientTls { cert: None, key: None, ..files.client.clone() };
    assert!(secured(rig.tls_port, &anonymous).is_err());
    assert!(Caller::call(rig.tls_port).is_err(), "plain DICOM on the TLS port");
    let log = || std::fs::read_to_string(rig.log()).unwrap();
    wait_for(|| log().contains("a caller without the certificate of the modality"), "the log says why");
    wait_for(|| log().contains("the peer shows no certificate"), "the log says why");
    wait_for(|| log().contains("the peer does not speak TLS"), "the log says why");
}

#[test]
fn a_gateway_that_stops_ends_its_associations_and_leaves_nothing_cut() {
    let mut rig = Rig::start("", "");
    let mut caller = Caller::call(rig.port).unwrap();
    assert_eq!(caller.store("1.2.1", &data_set("1.2.1")).unwrap(), status::SUCCESS);
    caller.begin_to_store("1.2.2", &[7; 3_000_000]).unwrap();
    wait_for(|| rig.spooled().len() == 2, "the second instance is being written");
    rig.stop();
    assert_eq!(kept(&rig).into_keys().collect::<Vec<_>>(), ["1.2.1"]);
}

#[track_caller]
fn wait_for(mut holds: impl FnMut() -> bool, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
