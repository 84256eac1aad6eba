//! Power cuts while images come in: the disk is rebuilt as a cut at any instant would leave it, unsynced writes gone, kept
//! or torn, and what was answered 0x0000 before the cut is there, whole, when the gateway starts on it.
//!
//! Needs the power-cut layer beside the repository, a C compiler and Python; said when left out.

use crate::caller::Caller;
use crate::rig::{Rig, tools};
use crate::storage::{data_set, data_set_of, kept};
use afferent::sim::random::Random;
use afferent::wire::dimse::command::status;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Cuts of the recorded run.
const CUTS: u64 = 16;
/// Instances of each association, and how many of those are longer than a block.
const INSTANCES: usize = 12;
const ASSOCIATIONS: usize = 3;
const LARGE: usize = 4;
/// Bytes of an instance that is made durable in several parts.
const LONG: usize = 40 << 20;
/// A gateway that takes nothing this long after its disk works again never will.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Nanoseconds of the clock that the power-cut layer stamps its records with.
fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn run(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

/// The power-cut layer, and its shim built here.
fn power_cut_layer(dir: &Path) -> Option<(PathBuf, PathBuf)> {
    let Some(layer) = tools().map(|tools| tools.join("../faults/powercut")).filter(|layer| layer.is_dir()) else {
        println!("left out: power cuts (no power-cut layer here)");
        return None;
    };
    let shim = dir.join("shim.so");
    let mut compile = Command::new("cc");
    compile.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&shim).arg(layer.join("shim.c")).args(["-ldl", "-lpthread"]);
    if !run(&mut compile) {
        println!("left out: power cuts (no C compiler here)");
        return None;
    }
    Some((layer, shim))
}

#[test]
fn i1_an_image_of_which_a_part_cannot_be_made_durable_is_refused_and_leaves_nothing() {
    let mut rig = Rig::start("", "");
    rig.stop();
    let Some((_, shim)) = power_cut_layer(rig.dir.path()) else { return };
    let (data, faults) = (std::fs::canonicalize(rig.data()).unwrap(), rig.dir.path().join("faults"));
    std::fs::create_dir(&faults).unwrap();
    rig.preload(&shim, &data, "PC_FLAGS", &faults);
    let mut caller = Caller::call(rig.port).unwrap();
    let [first, second] = ["1.2.1.1", "1.2.1.2"].map(|uid| (uid, data_set_of(uid, LONG)));
    assert_eq!(caller.store(first.0, &first.1).unwrap(), 0);
    let failing = faults.join("eio_sync");
    std::fs::write(&failing, "").unwrap();
    for _ in 0..2 {
        let answer = caller.store(second.0, &second.1).unwrap();
        assert_eq!(answer, status::OUT_OF_RESOURCES, "{answer:04X}");
        assert_eq!((caller.echo().unwrap(), rig.spooled().len()), (0, 1), "nothing of it is left");
    }
    std::fs::remove_file(&failing).unwrap();
    // The journal opens itself again when a sync of its own failed meanwhile: a modality sends once more.
    let deadline = Instant::now() + RECOVERY_TIMEOUT;
    while caller.store(second.0, &second.1).unwrap() != 0 {
        assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(rig.log()).unwrap());
    }
    let kept = kept(&rig);
    assert!([first, second].iter().all(|(uid, bytes)| kept[*uid] == *bytes));
}

#[test]
fn i1_what_was_answered_outlives_a_power_cut_at_any_moment() {
    let mut rig = Rig::start("", "");
    rig.stop();
    let Some((layer, shim)) = power_cut_layer(rig.dir.path()) else { return };
    let data = std::fs::canonicalize(rig.data()).unwrap();
    let (initial, log) = (rig.dir.path().join("initial"), rig.dir.path().join("pc.log"));
    assert!(run(Command::new("cp").arg("-a").args([&data, &initial])));
    rig.preload(&shim, &data, "PC_LOG", &log);
    let answered = Arc::new(Mutex::new(Vec::new()));
    let modalities: Vec<_> = (0..ASSOCIATIONS)
        .map(|modality| {
            let (answered, port) = (answered.clone(), rig.port);
            std::thread::spawn(move || {
                let mut caller = Caller::call(port).unwrap();
                for number in 0..INSTANCES {
                    let kind = if number % (INSTANCES / LARGE) == 0 { "7" } else { "1" };
                    let uid = format!("1.2.{kind}.{}.{}", modality + 1, number + 1);
                    assert_eq!(caller.store(&uid, &data_set(&uid)).unwrap(), 0);
                    answered.lock().unwrap().push((monotonic_ns(), uid));
                    std::thread::sleep(Duration::from_millis(5));
                }
            })
        })
        .collect();
    modalities.into_iter().for_each(|modality| modality.join().unwrap());
    rig.kill();
    rig.preload_nothing();
    let answered = answered.lock().unwrap().clone();
    let mut random = Random::new(0xC07);
    for cut in 0..CUTS {
        // Most cuts right after an answer: that is when a promise is youngest.
        let (at, _) = answered[random.below(answered.len())];
        let at = if cut % 3 == 0 { at.saturating_sub(random.below(30_000_000) as u64) } else { at };
        let keep = ["none", "rand", "rand", "all"][random.below(4)];
        let names = ["ext4", "strict"][random.below(2)];
        let image = rig.dir.path().join(format!("cut{cut}"));
        rebuild(&layer, &log, &data, &image, &initial, (at, keep, names, cut));
        rig.use_data(&image);
        rig.restart();
        let kept = kept(&rig);
        let told = format!("cut {cut} at {at}, unsynced writes: {keep}, names: {names}");
        for (_, uid) in answered.iter().filter(|(then, _)| *then <= at) {
            assert!(kept.contains_key(uid), "{told}: {uid} was answered and is gone");
        }
        kept.iter().for_each(|(uid, bytes)| assert!(*bytes == data_set(uid), "{told}: {uid} is not what was sent"));
        rig.kill();
        std::fs::remove_dir_all(&image).unwrap();
    }
    println!("{CUTS} power cuts, {} answered", answered.len());
}

/// The data directory as this cut would leave it.
fn rebuild(
    layer: &Path,
    log: &Path,
    data: &Path,
    image: &Path,
    initial: &Path,
    (at, keep, names, seed): (u64, &str, &str, u64),
) {
    let mut command = Command::new("python3");
    command.arg(layer.join("powercut.py")).arg("build");
    command.arg("--log").arg(log).arg("--root").arg(data).arg("--out").arg(image).arg("--initial").arg(initial);
    command.args(["--at", &at.to_string(), "--keep", keep, "--meta", names, "--seed", &seed.to_string()]);
    assert!(run(command.env("PYTHONDONTWRITEBYTECODE", "1")));
}
