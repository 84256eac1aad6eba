//! When the next backup fails the older one is there, what comes out is as open as it was, and what a restore is to judge
//! before it begins: what lies in its way, whose clock was wrong, and whether the desk's revision can run.

use crate::bench::{Bench, PASSPHRASE, adapters};
use crate::{err, out};
use afferent::backup::sealed::seal;
use afferent::backup::secret::Secret;
use afferent::config::load::source_digest;
use afferent::fleet::desired::{Desired, tree, write};
use afferent::fleet::envelope::{SigningKey, new_key};
use afferent::fleet::outlives::{self, Outlives};
use afferent::fleet::telemetry::Digest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A command under a shell that says this first.
fn below(shell: &str, command: &Command) -> Command {
    let mut below = Command::new("sh");
    below.args(["-c", &format!("{shell}; exec \"$@\""), "sh"]).arg(command.get_program()).args(command.get_args());
    below
}

#[test]
fn i7_the_older_backup_stays_whole_when_the_next_one_is_cut_off() {
    let bench = Bench::new();
    bench.backup();
    let older = std::fs::read(bench.path("stick/bench-1.backup")).unwrap();
    std::fs::write(bench.config(), bench.text("").replace("under the window", "at the door")).unwrap();
    let backup = || bench.command("backup", "stick/bench-1.backup", &[]);
    // A stick that takes half a kilobyte and no more, a process that dies as it writes, and one that dies before it has
    // read back what it wrote.
    let cut_off: [(&str, Output); 3] = [
        ("the stick refuses", below("ulimit -f 1; trap '' XFSZ", &backup()).output().unwrap()),
        ("it dies as it writes", below("ulimit -f 1", &backup()).output().unwrap()),
        ("it dies when it wrote", backup().env("AFFERENT_ABORT_AT", "backup-written:1").output().unwrap()),
    ];
    let [refuses, writing, written] = cut_off.map(|(what, done)| {
        assert!(!done.status.success(), "{what}");
        done
    });
    assert!(err(&refuses).contains("cannot write") && err(&refuses).contains("os error 27"), "{}", err(&refuses));
    let signals = [&writing, &written].map(|done| done.status.signal());
    assert_eq!(signals, [Some(libc::SIGXFSZ), Some(libc::SIGABRT)]);
    assert!(std::fs::read(bench.path("stick/bench-1.backup")).unwrap() == older);
    bench.restored(&[]);
    assert!(std::fs::read_to_string(bench.config()).unwrap().contains("under the window"), "it is restored from");
    // What they left does not keep the next one from being written.
    bench.backup();
    assert!(std::fs::read(bench.path("stick/bench-1.backup")).unwrap() != older);
    assert_eq!(std::fs::read_dir(bench.path("stick")).unwrap().count(), 1);
}

/// A box of a fleet, with folders of every kind that a restore makes.
fn of_a_fleet() -> Bench {
    let bench = Bench::new();
    let authority = afferent::tls::throwaway::Authority::new().unwrap();
    authority.client("bench-1").unwrap().write(&bench.path("box"), "fleet").unwrap();
    std::fs::create_dir(bench.path("box/releases")).unwrap();
    std::fs::write(bench.path("box/releases/floor"), "0.0.1\n").unwrap();
    let [releases, root, ca, cert, key] =
        ["releases", "root.json", "ca.pem", "fleet.pem", "fleet.key"].map(|name| bench.path("box").join(name));
    // Name and zone are the machine's, whether the desk's revision runs or the file.
    let text = bench.text("clock_trusted = true\n")
        + &format!(
            "[update]\nreleases = {releases:?}\nroot = {root:?}\n\
             [fleet]\nbroker = \"localhost:9\"\ntenant = \"acme\"\n\
             [[fleet.operator]]\nkid = \"ann\"\nkey = \"{}\"\n\
             [fleet.tls]\nca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n",
            ann().public_key()
        );
    std::fs::write(bench.config(), text).unwrap();
    bench
}

fn ann() -> SigningKey {
    SigningKey::from_pkcs8("ann", &new_key(&[7; 32])).unwrap()
}

/// The box runs a revision of the desk with these links, in the place of its own file.
fn runs(bench: &Bench, rev: u64, links: &str) {
    let (tenant, gateway) = ("acme".to_string(), "bench-1".to_string());
    let config = format!("{links}[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n");
    let desired = Desired { v: 1, tenant, gateway, rev, config, files: BTreeMap::new(), replaces: None };
    let base = Digest::stored(source_digest(&bench.config()).unwrap()).to_string();
    std::fs::create_dir_all(bench.data()).unwrap();
    tree::take_over(&bench.data(), &write(&desired), &base).unwrap();
}

#[test]
fn files_and_folders_come_out_as_open_as_they_were_whatever_the_mask() {
    let bench = of_a_fleet();
    for (folder, mode) in [(".", 0o755), ("box", 0o755), ("box/drivers", 0o755)] {
        std::fs::set_permissions(bench.path(folder), PermissionsExt::from_mode(mode)).unwrap();
    }
    runs(&bench, 7, "[[link]]\nname = \"more\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:9\"\n");
    bench.backup();
    let old = bench.lose();
    let restored = |mask: &str| -> BTreeMap<PathBuf, u32> {
        let _ = std::fs::remove_dir_all(bench.path("box"));
        let restore = bench.command("restore", "stick/bench-1.backup", &["--old-box-is-dead"]);
        let done = below(&format!("umask {mask}"), &restore).output().unwrap();
        assert!(done.status.success(), "{}", err(&done));
        let (mut all, mut open) = (BTreeMap::new(), vec![bench.path("box")]);
        while let Some(path) = open.pop() {
            let about = path.symlink_metadata().unwrap();
            if about.is_dir() {
                open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            // A link has no mode of its own.
            if about.is_symlink() {
                continue;
            }
            all.insert(path.strip_prefix(bench.path("box")).unwrap().to_path_buf(), about.permissions().mode() & 0o777);
        }
        all
    };
    let usual = restored("0022");
    for mask in ["0077", "0000"] {
        assert_eq!(restored(mask), usual, "{mask}");
    }
    for (path, mode) in &usual {
        let was = old.join(path).metadata().map(|was| was.permissions().mode() & 0o777);
        match path.starts_with("data") {
            true => assert_eq!(mode & 0o077, 0, "{} is the service's alone", path.display()),
            false => assert_eq!(*mode, was.unwrap(), "{}", path.display()),
        }
    }
    let folders = ["", "drivers", "drivers/acme-x1/revisions", "releases"].map(|folder| usual[&PathBuf::from(folder)]);
    assert_eq!(folders, [0o755; 4], "as open as the one that they are in");
}

#[test]
fn i7_what_is_no_file_in_the_place_of_one_is_told_and_nothing_is_begun() {
    let bench = Bench::new();
    bench.backup();
    let pipe = |name: &str| {
        let _ = std::fs::remove_file(bench.path(name));
        assert!(Command::new("mkfifo").arg(bench.path(name)).status().unwrap().success());
    };
    // A pipe has no end: nobody waits for it.
    let run = |command: Command| {
        let mut bounded = Command::new("timeout");
        let done = bounded.arg("120").arg(command.get_program()).args(command.get_args()).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{}{}", out(&done), err(&done));
        done
    };
    let restore = |words: &[&str]| run(bench.command("restore", "stick/bench-1.backup", words));
    pipe("box/link.pem");
    std::fs::remove_file(bench.path("box/ca.pem")).unwrap();
    std::fs::create_dir(bench.path("box/ca.pem")).unwrap();
    let looked = out(&restore(&["--look"]));
    let file = |name: &str| format!("  in-the-way {}\n", bench.path(name).display());
    assert!(looked.contains(&file("box/link.pem")) && looked.contains(&file("box/ca.pem")), "{looked}");
    let before = std::fs::read_to_string(bench.config()).unwrap() + "# as it is\n";
    std::fs::write(bench.config(), &before).unwrap();
    let told = err(&restore(&[]));
    assert!(told.contains("is no regular file") && told.contains("nothing was changed"), "{told}");
    assert_eq!(std::fs::read_to_string(bench.config()).unwrap(), before);
    pipe("box/afferent.toml");
    let told = err(&restore(&[]));
    assert!(told.contains("the configuration that is here cannot be read"), "{told}");
    // Nor does anybody wait for a pipe in the place of a backup, to read one or to write one.
    bench.lose();
    pipe("stick/bench-1.backup");
    let told = err(&restore(&[]));
    assert!(told.contains("stick/bench-1.backup: it is not a regular file"), "{told}");
    std::fs::rename(bench.path("old"), bench.path("box")).unwrap();
    std::fs::remove_file(bench.config()).unwrap();
    std::fs::write(bench.config(), bench.text("")).unwrap();
    let told = err(&run(bench.command("backup", "stick/bench-1.backup", &[])));
    assert!(told.contains("cannot write") && told.contains("it is not a regular file"), "{told}");
}

#[test]
fn i12_a_backup_of_a_moment_that_is_still_to_come_needs_a_word_about_the_old_boxs_clock() {
    let bench = of_a_fleet();
    bench.backup();
    let mut contents = bench.contents();
    assert!(contents.manifest.is_made_surely, "the site vouches for its clock");
    contents.manifest.made_ms += 86_400_000;
    let tomorrow = jiff::Timestamp::from_millisecond(contents.manifest.made_ms).unwrap();
    let sealed = seal(&contents.write().unwrap(), &Secret::passphrase(PASSPHRASE).unwrap()).unwrap();
    std::fs::write(bench.path("stick/bench-1.backup"), sealed).unwrap();
    bench.lose();
    let refused = bench.restore(&[]);
    let told = err(&refused);
    assert!(told.contains(&format!("the backup was made at {tomorrow}")), "{told}");
    assert!(told.contains("--its-clock-was-wrong") && !bench.config().exists(), "{told}");
    bench.restored(&["--its-clock-was-wrong"]);
    // Commands count from when it was restored, by a clock that is right.
    let counts_from = Outlives::read(&bench.data()).reset().unwrap();
    assert!(counts_from < tomorrow && counts_from.duration_until(jiff::Timestamp::now()).as_mins() < 60);
}

#[test]
fn i13_the_desks_revision_runs_where_it_can_and_is_left_out_where_somebody_says_so() {
    let bench = of_a_fleet();
    let (devices, more) = (bench.path("devices"), crate::ports::free_port());
    adapters(&devices, &[("ttyUSB0", "1-1.1", "A1")]);
    let links = format!(
        "[[link]]\nname = \"more\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:{more}\"\n\
         [[link]]\nname = \"pcr\"\nprotocol = \"astm\"\nserial = \"usb:0403:6001:A1\"\n"
    );
    runs(&bench, 7, &links);
    let run = |verb: &str, words: &[&str]| {
        let mut command = bench.command(verb, "stick/bench-1.backup", words);
        command.env("AFFERENT_DEVICES", &devices).output().unwrap()
    };
    let revision = |words: &[&str]| -> Value {
        let done = run("restore", &[words, &["--json"]].concat());
        assert!(done.status.success(), "{}", err(&done));
        serde_json::from_slice::<Value>(&done.stdout).unwrap()["revision"].clone()
    };
    // The link is of the desk's revision alone.
    let listens = || {
        let gateway = bench.run();
        let found = TcpStream::connect(("127.0.0.1", more)).is_ok();
        gateway.stop();
        found
    };
    assert!(run("backup", &[]).status.success());
    bench.lose();
    assert_eq!(revision(&["--old-box-is-dead"]), 7);
    assert!(listens(), "it runs in the place of the file");

    // The adapter is another one. What the desk signed names the old one, and nobody may change that.
    adapters(&devices, &[("ttyUSB0", "1-1.1", "B1")]);
    std::fs::remove_dir_all(bench.path("box")).unwrap();
    for words in [&["--old-box-is-dead"][..], &["--old-box-is-dead", "--look"]] {
        let refused = run("restore", words);
        let told = out(&refused) + &err(&refused);
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(told.contains("the desk's revision that ran on the old box cannot run here as it is"), "{told}");
        assert!(told.contains("link `pcr` would have to be on") && told.contains("--without-revision"), "{told}");
        assert!(!bench.config().exists());
    }
    assert_eq!(revision(&["--old-box-is-dead", "--without-revision"]), Value::Null);
    assert!(!listens(), "the file runs");
}

#[test]
fn i13_a_backup_with_an_older_revision_than_was_here_is_told_and_nothing_older_is_taken_again() {
    let bench = of_a_fleet();
    let more = crate::ports::free_port();
    let links = format!("[[link]]\nname = \"more\"\nprotocol = \"astm\"\nlisten = \"127.0.0.1:{more}\"\n");
    runs(&bench, 7, &links);
    bench.backup();
    // The same box has seen revision 9 since.
    let nine = Digest::of(b"nine");
    let seen = serde_json::json!({ "epoch": 3, "reset_ms": null, "seen": [9, nine.bytes()] });
    std::fs::write(bench.data().join(outlives::FILE), seen.to_string()).unwrap();
    let told = bench.restored(&["--old-box-is-dead"]);
    assert_eq!(told["revision"], 7);
    let notes = told["notes"].to_string();
    assert!(notes.contains("revision 9 of the desk was seen here, and this backup has 7"), "{notes}");
    assert_eq!(Outlives::read(&bench.data()).seen(), Some((9, nine)));

    // Its file was edited on the old box: there the file ran, and so it does here.
    std::fs::write(bench.config(), std::fs::read_to_string(bench.config()).unwrap() + "# edited\n").unwrap();
    bench.backup();
    bench.lose();
    assert_eq!(bench.restored(&["--old-box-is-dead"])["revision"], 7);
    let gateway = bench.run();
    assert!(TcpStream::connect(("127.0.0.1", more)).is_err());
    gateway.stop();
}
