//! A box dies, and another one takes its place: what a backup holds, when it is not put, and that it is never half put.

use crate::bench::{Bench, PASSPHRASE, adapters};
use crate::site::{SERUM_SPECIMEN, until};
use crate::{afferent, err, out};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[test]
fn a_credential_of_systemd_is_named_as_one_and_is_not_in_the_backup() {
    let bench = Bench::new();
    let handed = bench.path("handed");
    std::fs::create_dir(&handed).unwrap();
    std::fs::rename(bench.path("box/link.key"), handed.join("link-key")).unwrap();
    let file = format!("{:?}", bench.path("box/link.key"));
    let text = std::fs::read_to_string(bench.config()).unwrap().replace(&file, "\"credential:link-key\"");
    std::fs::write(bench.config(), text).unwrap();
    let run = |verb: &str, words: &[&str], handed: &Path| {
        let mut command = bench.command(verb, "stick/bench-1.backup", words);
        let done = command.env("CREDENTIALS_DIRECTORY", handed).output().unwrap();
        assert!(done.status.success(), "{}", err(&done));
        assert!(!err(&done).contains("link-key"), "it is no file that is not there: {}", err(&done));
        out(&done)
    };
    let listed = run("backup", &[], &handed);
    assert!(listed.contains("  credential:link-key: a systemd credential, not in this backup\n"), "{listed}");
    let told: Value = serde_json::from_str(&run("backup", &["--json"], &handed)).unwrap();
    assert_eq!((&told["absent"], &told["credentials"]), (&Value::Array(vec![]), &vec!["credential:link-key"].into()));
    bench.lose();
    std::fs::create_dir(bench.path("nothing")).unwrap();
    let looked = run("restore", &["--look"], &bench.path("nothing"));
    assert!(looked.contains("`link-key` is a systemd credential, not in this backup"), "{looked}");
    assert!(looked.contains("`LoadCredential=link-key:FILE` hands it over"), "{looked}");
    let told: Value = serde_json::from_str(&run("restore", &["--json"], &handed)).unwrap();
    assert_eq!((&told["restored"], &told["open"]), (&true.into(), &Value::Array(vec![])), "it is handed over here too");
}

#[test]
fn another_box_takes_what_the_analyzers_send_and_is_told_of_everything_that_is_open() {
    let mut bench = Bench::new();
    bench.receive();
    let gateway = bench.run();
    bench.serum();
    until("the EHR has it", || bench.stored().len() == 1);
    bench.backup();
    drop(gateway);
    let old = bench.lose();
    let told = bench.restored(&[]);
    assert_eq!(
        (&told["gateway"], &told["restored"], &told["open"]),
        (&"bench-1".into(), &true.into(), &Value::Array(vec![]))
    );

    // Byte for byte, with their permissions; the journal is new, and what is a folder's and not the driver's stays.
    let here = bench.everything();
    for (path, file) in &here {
        let was = old.join(path.strip_prefix(bench.path("box")).unwrap());
        if !path.starts_with(bench.data()) {
            let mode = was.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!((file.0, &file.1), (mode, &std::fs::read(&was).unwrap()), "{}", path.display());
        }
    }
    let names: Vec<_> =
        here.keys().map(|path| path.strip_prefix(bench.path("box")).unwrap().to_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "afferent.toml",
            "ca.pem",
            "data/journal.lock",
            "data/last-reset",
            "drivers/acme-x1/driver.toml",
            "drivers/acme-x1/revisions/1.toml",
            "drivers/acme-x1/revisions.jsonl",
            "journal.key",
            "link.key",
            "link.pem",
            "rules.toml",
        ]
    );
    let checked = afferent(&["check", "--strict", bench.config().to_str().unwrap()]);
    assert!(checked.status.success(), "{}", err(&checked));

    // The analyzer sends it again: the EHR gets another message, about the very same results.
    let gateway = bench.run();
    bench.serum();
    until("the EHR has it", || bench.stored().len() == 2);
    let [first, again] = &bench.stored()[..] else { panic!("two messages") };
    assert_eq!(first["results"], again["results"]);
    assert_ne!(first["message_id"], again["message_id"], "no id stands for two messages: {first}");
    gateway.stop();
}

#[test]
fn i8_there_is_nothing_of_a_patient_in_it_and_others_read_it_as_we_do() {
    let bench = Bench::new();
    let gateway = bench.run();
    bench.serum();
    until("it is kept", || {
        let stats = afferent(&["journal", "--config", bench.config().to_str().unwrap(), "--json", "stats"]);
        serde_json::from_slice::<Value>(&stats.stdout).is_ok_and(|stats| stats["entries"] == 1)
    });
    std::fs::write(bench.data().join("console.json"), "who may see the console").unwrap();
    bench.backup();
    gateway.stop();
    let file = std::fs::read(bench.path("stick/bench-1.backup")).unwrap();
    let contents = bench.contents();
    let everything = contents.bodies.iter().flat_map(|body| body.iter().copied()).collect::<Vec<u8>>();
    let text = String::from_utf8_lossy(&everything).into_owned() + &serde_json::to_string(&contents.manifest).unwrap();
    assert!(text.contains("under the window"), "it holds what it should");
    assert!(!text.contains(SERUM_SPECIMEN) && !text.contains("journal.db") && !text.contains("captured"));
    assert!(!text.contains("who may see the console") && !text.contains("console.json"), "people are invited anew");
    for clear in ["BEGIN PRIVATE KEY", "under the window", "bench-1"] {
        assert!(!file.windows(clear.len()).any(|window| window == clear.as_bytes()), "{clear} can be read");
    }
    let script = "\
import hashlib, json, sys, zlib
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
file = open(sys.argv[1], 'rb').read()
first, second, rest = file.split(b'\\n', 2)
head, known = json.loads(second), first + b'\\n' + second + b'\\n'
key = hashlib.pbkdf2_hmac('sha256', sys.argv[2].encode(), head['salt'].encode(), head['iterations'], 64)
assert hashlib.sha256(key[32:]).hexdigest() == head['check']
size = 65536 + 16
chunks = [rest[at:at + size] for at in range(0, len(rest), size)]
nonce = lambda n: bytes(3) + n.to_bytes(8, 'big') + bytes([n == len(chunks) - 1])
plain = b''.join(ChaCha20Poly1305(key[:32]).decrypt(nonce(n), c, known) for n, c in enumerate(chunks))
assert len(plain) == head['length']
sys.stdout.buffer.write(zlib.decompress(plain))
";
    let mut other = Command::new("python3");
    match other.args(["-c", script]).arg(bench.path("stick/bench-1.backup")).arg(PASSPHRASE).output() {
        Ok(read) if read.status.success() => {
            let ends: Vec<u8> = contents.bodies.iter().flat_map(|body| body.iter().copied()).collect();
            assert!(read.stdout.ends_with(&ends), "they read something else");
        }
        Ok(read) if err(&read).contains("No module named") => println!("left out: another reader (no cryptography)"),
        Ok(read) => panic!("{}", err(&read)),
        Err(_) => println!("left out: another reader (no python3)"),
    }
}

#[test]
fn the_readmes_way_to_another_box_works() {
    let bench = Bench::new();
    let readme = include_str!("../../README.md");
    let block = readme.split("```console\n").skip(1).find(|block| block.contains("afferent backup")).unwrap();
    let lines: Vec<&str> = block.split("```").next().unwrap().lines().map(|l| l.split(" #").next().unwrap()).collect();
    for (n, line) in lines.iter().enumerate() {
        let words = line.strip_prefix("$ afferent ").unwrap().split_whitespace();
        let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.args(words.clone()).current_dir(bench.dir.path());
        // The configuration is this test's, and not the machine's.
        match words.clone().next() {
            Some("check") => drop(std::fs::copy(bench.config(), bench.path("afferent.toml")).unwrap()),
            _ => drop(command.args(["--config", bench.config().to_str().unwrap()])),
        }
        if n == 2 {
            bench.lose();
        }
        let output = command.output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{line}: {}", err(&output));
    }
    assert_eq!(lines.len(), 4);
}

#[test]
fn a_backup_that_is_not_right_is_named_and_nothing_is_changed() {
    let bench = Bench::new();
    bench.backup();
    let good = std::fs::read(bench.path("stick/bench-1.backup")).unwrap();
    let before = bench.everything();
    let mut altered = good.clone();
    let last = altered.len() - 20;
    altered[last] ^= 1;
    let text = String::from_utf8_lossy(&good[..18]).replace(" 1", " 2");
    let newer = [text.as_bytes(), &good[18..]].concat();
    let wrong = bench.path("wrong");
    let wrong = ["--passphrase-file", wrong.to_str().unwrap()];
    for (file, words, says) in [
        (&good, &wrong[..], "this is not the passphrase of this backup"),
        (&good[..good.len() / 2].to_vec(), &[], "is cut short"),
        (&altered, &[], "was altered or damaged"),
        (&newer, &[], "a newer afferent wrote this backup (format 2, this one knows 1)"),
        (&b"PK\x03\x04".to_vec(), &[], "this is no backup of afferent"),
    ] {
        std::fs::write(bench.path("stick/bench-1.backup"), file).unwrap();
        let refused = bench.restore(words);
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            err(&refused).contains(says) && err(&refused).contains("nothing was changed"),
            "{says}: {}",
            err(&refused)
        );
        assert!(bench.everything() == before, "{says}");
    }
    std::fs::remove_file(bench.path("stick/bench-1.backup")).unwrap();
    assert!(err(&bench.restore(&[])).contains("cannot read"));
    // Nor does a backup take the place of another file, or have a passphrase that is none.
    std::fs::write(bench.path("stick/bench-1.backup"), "somebody's thesis").unwrap();
    let refused = bench.command("backup", "stick/bench-1.backup", &[]).output().unwrap();
    assert!(err(&refused).contains("is there and is no backup"), "{}", err(&refused));
    std::fs::write(bench.path("passphrase"), "short\n").unwrap();
    let refused = bench.command("backup", "stick/other.backup", &[]).output().unwrap();
    assert!(err(&refused).contains("at least 12 characters") && !bench.path("stick/other.backup").exists());
}

#[test]
fn a_recovery_key_is_shown_once_and_opens_it() {
    let bench = Bench::new();
    let made = bench.command("backup", "stick/bench-1.backup", &["--recovery-key", "--json"]).output().unwrap();
    assert!(made.status.success(), "{}", err(&made));
    let told: Value = serde_json::from_slice(&made.stdout).unwrap();
    let key = told["recovery_key"].as_str().unwrap();
    std::fs::write(bench.path("key"), format!("  {}\n", key.to_lowercase())).unwrap();
    let words = ["--passphrase-file", bench.path("key").to_str().unwrap()].map(str::to_string);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    bench.lose();
    assert_eq!(bench.restored(&words)["restored"], true);
    let slip = if key.starts_with('A') { "B" } else { "A" };
    std::fs::write(bench.path("key"), format!("{slip}{}", &key[1..])).unwrap();
    assert!(err(&bench.restore(&words)).contains("this is no recovery key: a letter is wrong or missing"));
}

#[test]
fn i7_a_box_with_results_that_went_nowhere_or_a_gateway_is_left_as_it_is() {
    let mut bench = Bench::new();
    bench.backup();
    let gateway = bench.run();
    let running = bench.restore(&[]);
    assert!(err(&running).contains("stop the gateway first"), "{}", err(&running));
    bench.serum();
    gateway.stop();
    let before = bench.everything();
    for words in [&[][..], &["--look"]] {
        let refused = bench.restore(words);
        assert_eq!(refused.status.code(), Some(1));
        let says = out(&refused) + &err(&refused);
        assert!(says.contains("1 results held, 1 messages queued") && says.contains("went nowhere yet"), "{says}");
    }
    let kept = |all: BTreeMap<PathBuf, (u32, Vec<u8>)>| {
        let is_shared = |path: &Path| path.extension().is_some_and(|end| end == "db-shm" || end == "db-wal");
        all.into_iter().filter(|(path, _)| !is_shared(path)).collect::<BTreeMap<_, _>>()
    };
    assert!(kept(bench.everything()) == kept(before), "nothing was changed");
    // Once all of it is delivered or decided about, there is nothing to lose.
    bench.receive();
    let gateway = bench.run();
    let config = bench.config().display().to_string();
    let held = afferent(&["journal", "--config", &config, "--json", "hold"]);
    let held: Value = serde_json::from_slice(&held.stdout).unwrap();
    let id = held["held"][0]["id"].as_i64().unwrap_or_else(|| panic!("{held}")).to_string();
    let discarded = afferent(&["journal", "--config", &config, "discard", "--hold", &id, "--reason", "a test"]);
    assert!(discarded.status.success(), "{}", err(&discarded));
    until("the EHR has it", || bench.stored().len() == 1);
    until("it is settled", || {
        let stats = afferent(&["journal", "--config", &config, "--json", "stats"]);
        serde_json::from_slice::<Value>(&stats.stdout).is_ok_and(|stats| stats["account"]["queued"] == 0)
    });
    gateway.stop();
    assert_eq!(bench.restored(&[])["restored"], true);
    assert!(!bench.data().join("journal.db").exists());
}

#[test]
fn kill_a_box_is_as_before_or_restored_wherever_it_dies() {
    let bench = Bench::new();
    bench.backup();
    let other = bench.text("").replace("under the window", "at the door");
    let dies = |place: &str| {
        let mut restore = bench.command("restore", "stick/bench-1.backup", &[]);
        restore.env("AFFERENT_ABORT_AT", place).output().unwrap().status.signal() == Some(libc::SIGABRT)
    };
    let is_restored = || std::fs::read_to_string(bench.config()).unwrap().contains("under the window");
    let puts = (1..).map(|n| format!("restore-put:{n}"));
    let places = ["restore-begun:1", "reset-erased:5", "restore-erased:1", "restore-done:1"].map(str::to_string);
    std::fs::write(bench.config(), &other).unwrap();
    assert!(dies("restore-counted:1"));
    assert!(!is_restored(), "nothing was done");
    bench.run().stop();
    for (n, place) in places.into_iter().chain(puts).enumerate() {
        std::fs::write(bench.config(), &other).unwrap();
        std::fs::write(bench.path("box/rules.toml"), "# others\n").unwrap();
        std::fs::write(bench.data().join("console.json"), "of before").unwrap();
        if !dies(&place) {
            assert!(n > 12, "{place}: it puts one after the other");
            break;
        }
        let config = bench.config().display().to_string();
        let checked = afferent(&["check", &config]);
        assert!(!checked.status.success() && err(&checked).contains("was interrupted"), "{place}: {}", err(&checked));
        // Whoever stands there ends it, or the gateway's start.
        if n % 2 == 0 {
            let done = afferent(&["restore", "--config", &config]);
            assert!(done.status.success(), "{place}: {}", err(&done));
            assert!(!bench.data().join("console.json").exists(), "{place}: nothing is left of before");
        } else {
            bench.run().stop();
        }
        assert!(is_restored(), "{place}");
        assert_eq!(std::fs::read_to_string(bench.path("box/rules.toml")).unwrap(), "# the site's rules\n", "{place}");
        assert!(!bench.path("box/afferent.toml.restoring").exists(), "{place}");
        assert!(
            !afferent(&["restore", "--config", &config]).status.success(),
            "{place}: there is nothing to go on with"
        );
    }
    assert!(dies("restore-ended:1"), "and behind its end");
    bench.run().stop();
    assert!(is_restored());
}

#[test]
fn i5_a_machine_that_would_call_itself_otherwise_or_read_clocks_otherwise_is_refused() {
    let bench = Bench::new();
    for (gateway, says) in [
        ("time_zone = \"UTC\"\n", "the old box called itself `bench-9`"),
        ("name = \"bench-1\"\n", "the old box read its instruments' clocks in Asia/Tokyo"),
    ] {
        std::fs::write(bench.config(), bench.text(gateway)).unwrap();
        let mut backup = bench.command("backup", "stick/bench-1.backup", &[]);
        backup.env("AFFERENT_HOST", "bench-9").env("TZ", "Asia/Tokyo");
        assert!(backup.output().unwrap().status.success());
        let mut restore = bench.command("restore", "stick/bench-1.backup", &["--look"]);
        let refused = restore.env("TZ", "UTC").output().unwrap();
        let told = out(&refused) + &err(&refused);
        assert!(told.contains(says), "{says}: {told}");
        assert_eq!(refused.status.code(), Some(1));
        let mut same = bench.command("restore", "stick/bench-1.backup", &["--look"]);
        let same = same.env("AFFERENT_HOST", "bench-9").env("TZ", "Asia/Tokyo").output().unwrap();
        assert!(same.status.success(), "{}{}", out(&same), err(&same));
    }
}

#[test]
fn what_is_written_together_is_together_in_a_backup_taken_meanwhile() {
    let bench = Bench::new();
    let pause = |ms| std::time::Duration::from_millis(ms);
    // Two files that belong together, as a certificate and its key do, are replaced again and again.
    let replaces = |every_ms: u64, until: &std::sync::atomic::AtomicBool| {
        for round in (0..).take_while(|_| !until.load(std::sync::atomic::Ordering::Relaxed)) {
            for file in ["rules.toml", "ca.pem"] {
                std::fs::write(bench.path("box/next"), format!("# {round}\n")).unwrap();
                std::fs::rename(bench.path("box/next"), bench.path("box").join(file)).unwrap();
            }
            std::thread::sleep(pause(every_ms));
        }
    };
    let taken = |every_ms: u64| {
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| replaces(every_ms, &done));
            let made = bench.command("backup", "stick/bench-1.backup", &[]).output().unwrap();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            made
        })
    };
    for _ in 0..4 {
        let made = taken(700);
        assert!(made.status.success(), "{}", err(&made));
        let contents = bench.contents();
        let of = |name: &str| contents.files().find(|(file, _)| file.path.ends_with(name)).unwrap().1.to_vec();
        assert_eq!(of("rules.toml"), of("ca.pem"));
    }
    let restless = taken(5);
    assert_eq!(restless.status.code(), Some(1));
    assert!(
        err(&restless).contains("change all the time") && err(&restless).contains("try again"),
        "{}",
        err(&restless)
    );
}

#[test]
fn i4_files_that_stay_in_their_folder_are_not_taken_again_by_another_box() {
    let bench = Bench::new();
    let folder = bench.path("share");
    std::fs::create_dir(&folder).unwrap();
    let text = bench.text("")
        + &format!(
            "[[link]]\nname = \"pcr\"\nprotocol = \"hl7\"\ndirectory = {folder:?}\n\
         [link.files]\nthen = \"leave\"\npoll_ms = 50\nstable_ms = 50\n",
        );
    std::fs::write(bench.config(), text).unwrap();
    let put = |id: &str| {
        let message = format!(
            "MSH|^~\\&|PCR|LAB|||20260102030405||ORU^R01|{id}|P|2.5.1\rPID|1||P-1\rOBR|1||{id}|GLU\rOBX|1|NM|GLU||5.0|mmol/L\r"
        );
        std::fs::write(folder.join(format!("{id}.hl7")), message).unwrap();
    };
    let entries = || {
        let stats = afferent(&["journal", "--config", bench.config().to_str().unwrap(), "--json", "stats"]);
        serde_json::from_slice::<Value>(&stats.stdout).ok().and_then(|stats| stats["entries"].as_i64())
    };
    put("one");
    let gateway = bench.run();
    until("it is taken", || entries() == Some(1));
    bench.backup();
    gateway.stop();
    bench.lose();
    bench.restored(&[]);
    put("two");
    let gateway = bench.run();
    until("the other is taken", || entries() == Some(1));
    let found = afferent(&["journal", "--config", bench.config().to_str().unwrap(), "export", "--entry", "1"]);
    assert!(out(&found).contains("|two|"), "the one that was taken before is not taken again: {}", out(&found));
    assert_eq!(entries(), Some(1));
    gateway.stop();
}

#[test]
fn ports_are_found_by_their_sockets_and_what_is_not_found_is_told() {
    let bench = Bench::new();
    let devices = bench.path("devices");
    adapters(&devices, &[("ttyUSB0", "1-1.1", "A1"), ("ttyUSB1", "1-1.2", "A2"), ("ttyUSB2", "1-1.3", "A3")]);
    let links = ["A1", "A2", "A3"].map(|serial| {
        let name = serial.to_lowercase();
        format!("[[link]]\nname = \"{name}\"   # {name}\nserial = \"usb:0403:6001:{serial}\"   # of {name}\n")
    });
    let text = bench.text("") + &links.concat();
    std::fs::write(bench.config(), &text).unwrap();
    let made = bench.command("backup", "stick/bench-1.backup", &[]).env("AFFERENT_DEVICES", &devices).output().unwrap();
    assert!(made.status.success(), "{}", err(&made));
    bench.lose();

    // The adapters are others, one is in no socket that one was in, and one is not plugged in.
    adapters(&devices, &[("ttyUSB0", "1-1.2", "B2"), ("ttyUSB1", "1-1.1", "B1"), ("ttyUSB2", "1-1.4", "B4")]);
    let by_id = |serial: &str| devices.join(format!("dev/serial/by-id/usb-FTDI_{serial}")).display().to_string();
    let restore = |words: &[&str]| {
        let mut restore = bench.command("restore", "stick/bench-1.backup", words);
        restore.env("AFFERENT_DEVICES", &devices).arg("--json").output().unwrap()
    };
    let read = |output: &Output| -> Value {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", err(output)))
    };
    let look = read(&restore(&["--look"]));
    let to: Vec<&Value> = look["ports"].as_array().unwrap().iter().map(|port| &port["to"]).collect();
    assert_eq!(to, [&Value::from(by_id("B1")), &Value::from(by_id("B2")), &Value::Null]);
    let open = look["open"].to_string();
    assert!(open.contains("link `a3` has no port") && open.contains("nothing is plugged into socket 1-1.3"), "{open}");
    assert!(!bench.config().exists(), "it only looked");
    let wrong = restore(&["--ports", "a3=/dev/ttyS99"]);
    assert!(err(&wrong).contains("there is no serial port /dev/ttyS99 for `a3` here"), "{}", err(&wrong));
    let done = restore(&["--ports", "a3=usb:1-1.4"]);
    assert!(done.status.success(), "{}", err(&done));
    // Nothing else of the text has changed, comments least of all.
    let wanted = [("A1", by_id("B1")), ("A2", by_id("B2")), ("A3", "usb:1-1.4".to_string())];
    let wanted = wanted.iter().fold(text, |text, (was, is)| text.replace(&format!("usb:0403:6001:{was}"), is));
    assert_eq!(std::fs::read_to_string(bench.config()).unwrap(), wanted);
}

#[test]
fn i13_what_would_read_results_otherwise_or_is_not_known_keeps_a_restore_from_being_done() {
    let bench = Bench::new();
    bench.backup();
    bench.lose();
    let refused = |why: &str| {
        let tried = bench.command("restore", "stick/bench-1.backup", &[]).output().unwrap();
        assert!(!tried.status.success() && err(&tried).contains(why), "{why}: {}", err(&tried));
    };
    // Another bench's driver, which would be asked for results as well.
    std::fs::create_dir_all(bench.path("box/drivers/acme-x9")).unwrap();
    let driver = include_str!("../../drivers/generic-astm/driver.toml");
    std::fs::write(bench.path("box/drivers/acme-x9/driver.toml"), driver).unwrap();
    refused("there is a driver here that the old box did not have");
    std::fs::remove_dir_all(bench.path("box/drivers")).unwrap();
    // Nobody knows where the results of this box are.
    std::fs::write(bench.config(), "[gateway\n").unwrap();
    refused("the configuration that is here cannot be read");
    // They are somewhere else than those of the old one.
    let elsewhere = bench.path("elsewhere");
    let other = bench.text(&format!("name = \"bench-9\"\ndata = {elsewhere:?}\n"));
    let line = format!("data = {:?}\n", bench.data());
    std::fs::write(
        bench.config(),
        other.replace(&line, "").replace("drivers = ", "# drivers = ").replace("rules = ", "# rules = "),
    )
    .unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    rusqlite::Connection::open(elsewhere.join("journal.db")).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
    refused("this box has its journal in");
    // Only to look is never to go on with what was interrupted.
    let looked = afferent(&["restore", "--look", "--config", bench.config().to_str().unwrap()]);
    assert_eq!(looked.status.code(), Some(2), "{}", err(&looked));
}

#[test]
fn i7_a_full_disk_leaves_the_box_as_it_was_or_is_made_good_once_there_is_room() {
    let bench = Bench::new();
    bench.backup();
    bench.lose();
    std::fs::create_dir(bench.path("box")).unwrap();
    let Some(_disk) = Disk::mount(&bench.path("box")) else { return };
    let full = |free_kib: usize| {
        let filler = bench.path("box/filler");
        let _ = std::fs::remove_file(&filler);
        for chunk in (0..).map(|_| vec![0; 4096]) {
            let mut file = std::fs::File::options().append(true).create(true).open(&filler).unwrap();
            if std::io::Write::write_all(&mut file, &chunk).is_err() {
                let length = file.metadata().unwrap().len();
                return file.set_len(length.saturating_sub(free_kib as u64 * 1024)).unwrap();
            }
        }
    };
    let (mut as_before, mut made_good) = (0, 0);
    for free_kib in (0..80).step_by(8) {
        for name in ["afferent.toml", "drivers", "data"] {
            let path = bench.path("box").join(name);
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
        full(free_kib);
        let before = bench.everything();
        let done = bench.restore(&[]);
        let says = err(&done);
        match (done.status.success(), says.contains("has begun")) {
            (true, _) => {}
            (false, true) => {
                made_good += 1;
                assert!(says.contains("os error 28"), "{says}");
                std::fs::remove_file(bench.path("box/filler")).unwrap();
                let again = afferent(&["restore", "--config", bench.config().to_str().unwrap()]);
                assert!(again.status.success(), "{}", err(&again));
                assert!(std::fs::read_to_string(bench.config()).unwrap().contains("under the window"));
            }
            (false, false) => {
                as_before += 1;
                assert!(says.contains("os error 28") && says.contains("nothing was changed"), "{says}");
                let is_left =
                    |path: &Path| path.to_str().unwrap().ends_with(".unfinished") || path.ends_with("journal.lock");
                let mut after = bench.everything();
                after.retain(|path, _| !is_left(path));
                assert!(after == before, "{free_kib}");
            }
        }
    }
    assert!(as_before > 0 && made_good > 0, "{as_before} {made_good}");
    // The stick is full: the older backup is there still.
    full(0);
    std::fs::copy(bench.path("stick/bench-1.backup"), bench.path("box/older.backup")).unwrap_err();
    full(64);
    std::fs::copy(bench.path("stick/bench-1.backup"), bench.path("box/older.backup")).unwrap();
    let older = std::fs::read(bench.path("box/older.backup")).unwrap();
    let mut filler = std::fs::File::options().append(true).open(bench.path("box/filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
    let mut backup = Command::new(env!("CARGO_BIN_EXE_afferent"));
    backup.arg("backup").arg(bench.path("box/older.backup")).arg("--config").arg(bench.path("old/afferent.toml"));
    let text = std::fs::read_to_string(bench.path("old/afferent.toml")).unwrap();
    let moved = text.replace(bench.path("box").to_str().unwrap(), bench.path("old").to_str().unwrap());
    std::fs::write(bench.path("old/afferent.toml"), moved).unwrap();
    let refused = backup.arg("--passphrase-file").arg(bench.path("passphrase")).output().unwrap();
    assert!(err(&refused).contains("os error 28"), "{}", err(&refused));
    assert_eq!(std::fs::read(bench.path("box/older.backup")).unwrap(), older);
}

/// A small file system that goes away with this value.
struct Disk(PathBuf);

impl Disk {
    /// `None` where this machine does not let us mount one.
    fn mount(at: &Path) -> Option<Disk> {
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(at).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            println!("left out: a full disk (cannot mount a tmpfs here)");
            return None;
        }
        Some(Disk(at.to_path_buf()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn i12_root_restores_as_the_service_and_no_link_leads_it_elsewhere() {
    let bench = Bench::new();
    bench.run().stop();
    std::fs::set_permissions(bench.path("."), PermissionsExt::from_mode(0o711)).unwrap();
    // A user that every Linux has.
    let give = || Command::new("chown").args(["-hR", "daemon:daemon"]).arg(bench.data()).output().unwrap();
    if !give().status.success() {
        println!("left out: a restore by root of what is another's (this is not root)");
        return;
    }
    bench.backup();
    let daemon = std::fs::metadata(bench.data()).unwrap().uid();
    let owners = || {
        let all = std::fs::read_dir(bench.data()).unwrap().map(|entry| entry.unwrap().path());
        all.chain([bench.data()])
            .map(|path| (std::fs::symlink_metadata(&path).unwrap().uid(), path))
            .collect::<Vec<_>>()
    };
    let is_daemons = |(user, path): &(u32, PathBuf)| {
        assert_eq!(*user, daemon, "{}", path.display());
    };
    // What the service would have root lock, empty and give away.
    let roots = bench.path("roots");
    std::fs::create_dir(&roots).unwrap();
    std::fs::write(roots.join("file"), "root's").unwrap();
    std::fs::set_permissions(&roots, PermissionsExt::from_mode(0o700)).unwrap();
    for (name, to) in [("journal.lock", roots.join("file")), ("spool", roots.clone())] {
        let (place, aside) = (bench.data().join(name), bench.data().join("aside"));
        std::fs::rename(&place, &aside).unwrap();
        std::os::unix::fs::symlink(&to, &place).unwrap();
        let done = bench.restore(&[]);
        assert_eq!(done.status.success(), name != "journal.lock", "{}", err(&done));
        let about = std::fs::metadata(roots.join("file")).unwrap();
        assert_eq!((about.uid(), std::fs::read(roots.join("file")).unwrap()), (0, b"root's".to_vec()), "{name}");
        let _ = std::fs::remove_file(&place);
        if std::fs::rename(&aside, &place).is_err() {
            let _ = std::fs::remove_dir_all(&aside);
        }
    }
    owners().iter().for_each(is_daemons);
    // And where the disk is another one, the data directory is made for the service.
    std::fs::remove_dir_all(bench.data()).unwrap();
    bench.restored(&[]);
    owners().iter().for_each(is_daemons);
}
