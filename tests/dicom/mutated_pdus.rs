//! Ten thousand conversations that were damaged on their way: none breaks the machine, none makes it hand out what never
//! came, and whatever they leave open at the gateway is gone with them.

use crate::caller::CT;
use crate::rig::Rig;
use afferent::sim::random::Random;
use afferent::wire::dimse::pdu::{self, message};
use afferent::wire::dimse::{Association, Command, Output, Proposal, Reply, Settings, uid};
use afferent::wire::{Custody, Refusal, Refused, Token};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

const COUNT: usize = 10_000;
/// Of those so many also go to the real gateway.
const AT_THE_GATEWAY: usize = 400;
const SEED: u64 = 0x5eed_0b5e;
/// Most the gateway may have resident after all of them, in kB.
const RESIDENT_MAX_KB: u64 = 128 * 1024;

struct Kept(Token);

impl Custody for Kept {
    fn token(&self) -> Token {
        self.0
    }
}

/// What a modality sends that asks for an association, echoes, stores two instances, asks for its worklist and leaves.
fn conversation(number: usize) -> Vec<u8> {
    let syntaxes = vec![uid::IMPLICIT_VR_LITTLE_ENDIAN.to_string()];
    let classes = [uid::VERIFICATION, CT, uid::MODALITY_WORKLIST];
    let proposal = Proposal {
        called_ae_title: "AFFERENT".to_string(),
        calling_ae_title: "CT-1".to_string(),
        contexts: classes.map(|class| (class.to_string(), syntaxes.clone())).to_vec(),
        roles: Vec::new(),
    };
    let mut requestor = Association::request(Instant::now(), Settings::default(), &proposal);
    let Some(Output::Send(mut bytes)) = requestor.poll_output() else { panic!("it asks first") };
    bytes.extend(message(1, &Command::echo_request(1), None, 16384));
    for (message_id, length) in [(2, 3000), (3, 40)] {
        let data_set: Vec<u8> = (0..length).map(|at| at as u8).collect();
        let store = Command::store_request(message_id, CT, &format!("1.2.{number}.{message_id}"));
        bytes.extend(message(3, &store, Some(&data_set), 700));
    }
    bytes.extend(message(5, &Command::find_request(4, uid::MODALITY_WORKLIST), Some(&[0; 30]), 16384));
    bytes.extend(pdu::release_rq());
    bytes
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(5) {
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(60)).min(bytes.len());
        match random.below(7) {
            0 => bytes[at] = random.bits() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            // A length of all there could be, or of nothing.
            2 => bytes[at..end.min(at + 4)].fill(0xff),
            3 => bytes[at..end.min(at + 4)].fill(0),
            4 => drop(bytes.drain(at..end)),
            5 => bytes.truncate(at.max(1)),
            _ => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece.repeat(1 + random.below(50)));
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

/// Plays a conversation to the machine; how many instances it gave out whole.
fn play(bytes: &[u8], random: &mut Random) -> usize {
    let mut now = Instant::now();
    let mut machine = Association::accept(now, Settings::default());
    let (mut open, mut handed_out, mut whole) = (BTreeSet::new(), 0, 0);
    let mut rest = bytes;
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Associate(_) => machine.handle_admission(now, Ok(())),
                Output::Begin { token, .. } => assert!(open.insert(token.0), "one instance at a time has this token"),
                Output::Data { token, bytes } => {
                    assert!(open.contains(&token.0) && !bytes.is_empty());
                    handed_out += bytes.len();
                }
                Output::Discard { token } => assert!(open.remove(&token.0)),
                Output::Commit { token } => {
                    assert!(open.remove(&token.0));
                    whole += 1;
                    match random.below(4) {
                        0 => machine.handle_custody(now, Err::<&Kept, _>(Refused { token, reason: Refusal::Full })),
                        _ => machine.handle_custody(now, Ok(&Kept(token))),
                    }
                }
                Output::Ask { token, .. } => machine.handle_reply(now, token, Reply::default()),
                _ => {}
            }
            assert!(handed_out <= bytes.len() && open.len() <= 1);
        }
        assert!(machine.wants_bytes() || rest.is_empty() || machine.poll_timeout().is_some());
        if rest.is_empty() {
            break;
        }
        let (piece, left) = rest.split_at((1 + random.below(900)).min(rest.len()));
        rest = left;
        machine.handle_bytes(now, piece);
    }
    // Some peers hang up, some fall silent.
    if random.below(2) == 0 {
        machine.handle_disconnect(now);
    }
    while let Some(at) = machine.poll_timeout() {
        now = now.max(at);
        machine.handle_timeout(now);
        while let Some(output) = machine.poll_output() {
            if let Output::Discard { token } = output {
                assert!(open.remove(&token.0));
            }
        }
    }
    while let Some(output) = machine.poll_output() {
        if let Output::Discard { token } = output {
            assert!(open.remove(&token.0));
        }
    }
    assert!(open.is_empty(), "what was begun is committed or discarded");
    whole
}

#[test]
fn i10_ten_thousand_damaged_conversations_leave_no_instance_open() {
    println!("seed {SEED:#x}");
    let mut random = Random::new(SEED);
    assert_eq!(play(&conversation(0), &mut random), 2, "an undamaged one stores both");
    let mut whole = 0;
    for number in 0..COUNT {
        let mut bytes = conversation(number);
        damage(&mut bytes, &mut random);
        whole += play(&bytes, &mut random);
    }
    assert!((COUNT / 10..2 * COUNT).contains(&whole), "{whole} whole instances: nothing was tested");
}

#[test]
fn i10_the_gateway_survives_damaged_conversations_and_keeps_nothing_cut() {
    println!("seed {SEED:#x}");
    let rig = Rig::start("", "idle_timeout_s = 2\n");
    let mut random = Random::new(SEED);
    let mut answered = 0;
    for number in 0..AT_THE_GATEWAY {
        let mut bytes = conversation(number);
        damage(&mut bytes, &mut random);
        let mut peer = TcpStream::connect(("127.0.0.1", rig.port)).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // It may hang up at any moment.
        let _ = bytes.chunks(1 + random.below(2000)).try_for_each(|piece| peer.write_all(piece));
        let _ = peer.shutdown(Shutdown::Write);
        let mut told = Vec::new();
        let _ = peer.read_to_end(&mut told);
        answered += usize::from(!told.is_empty());
    }
    assert!(answered > AT_THE_GATEWAY / 2, "{answered} were answered: nothing was tested");
    let mut caller = crate::caller::Caller::call(rig.port).unwrap();
    assert_eq!(caller.echo().unwrap(), 0);
    let deadline = Instant::now() + Duration::from_secs(30);
    while rig.spooled().iter().any(|name| !name.ends_with(".dcm")) {
        assert!(Instant::now() < deadline, "cut files stay: {:?}", rig.spooled());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Each file is on record with its digest, and each record has its file.
    let verified = crate::peers::afferent(&["journal", "verify", "--json", "--data", rig.data().to_str().unwrap()]);
    let verified: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified["instances"].as_u64(), Some(rig.spooled().len() as u64), "{verified}");
    assert_eq!(verified["damaged"], serde_json::json!([]));
    assert!(rig.resident_kb() < RESIDENT_MAX_KB, "{} kB are resident", rig.resident_kb());
}
