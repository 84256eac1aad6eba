//! A box with its files, an EHR and a stick, to be backed up, lost and restored.

use crate::site::{Running, SERUM, free_port, until, until_served};
use crate::{afferent, case, err, out};
use afferent::backup::Contents;
use afferent::backup::sealed::Sealed;
use afferent::backup::secret::Secret;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const PASSPHRASE: &str = "a bench, a box and a stick";

/// A box with its files, an EHR, and a stick.
pub struct Bench {
    pub dir: tempfile::TempDir,
    port: u16,
    ehr: Option<Running>,
    ehr_port: u16,
}

impl Bench {
    pub fn new() -> Bench {
        let bench = Bench { dir: tempfile::tempdir().unwrap(), port: free_port(), ehr: None, ehr_port: free_port() };
        std::fs::create_dir_all(bench.path("box/drivers/acme-x1/revisions")).unwrap();
        std::fs::create_dir_all(bench.path("box/drivers/acme-x1/cases")).unwrap();
        std::fs::create_dir(bench.path("stick")).unwrap();
        let driver = include_str!("../../drivers/generic-astm/driver.toml");
        for (file, text) in [
            ("box/drivers/acme-x1/driver.toml", driver),
            ("box/drivers/acme-x1/revisions.jsonl", ""),
            ("box/drivers/acme-x1/revisions/1.toml", driver),
            ("box/drivers/acme-x1/cases/captured.txt", "not the driver's"),
            ("box/rules.toml", "# the site's rules\n"),
            ("box/journal.key", &format!("{}\n", "7a".repeat(32))),
            ("passphrase", &format!("{PASSPHRASE}\n")),
            ("wrong", "another passphrase, as long\n"),
        ] {
            std::fs::write(bench.path(file), text).unwrap();
        }
        let authority = afferent::tls::throwaway::Authority::new().unwrap();
        std::fs::write(bench.path("box/ca.pem"), authority.ca_pem()).unwrap();
        authority.client("bench-1").unwrap().write(&bench.path("box"), "link").unwrap();
        for (file, mode) in [("box/link.key", 0o600), ("box/journal.key", 0o600), ("box/ca.pem", 0o644)] {
            std::fs::set_permissions(bench.path(file), PermissionsExt::from_mode(mode)).unwrap();
        }
        std::fs::write(bench.config(), bench.text("")).unwrap();
        bench
    }

    pub fn text(&self, gateway: &str) -> String {
        let [data, drivers, rules, key, ca, cert, tls_key] =
            ["data", "drivers", "rules.toml", "journal.key", "ca.pem", "link.pem", "link.key"]
                .map(|name| self.path("box").join(name));
        let named = if gateway.is_empty() { "name = \"bench-1\"\ntime_zone = \"Europe/Berlin\"\n" } else { gateway };
        format!(
            "# what the bench knows of itself\n[gateway]\n{named}data = {data:?}\ndrivers = {drivers:?}\nrules = {rules:?}\n\
             [journal]\nfree_min_mb = 0\nkey_file = {key:?}\n\
             [[link]]\nname = \"chemistry\"   # under the window\nlisten = \"127.0.0.1:{port}\"\nclock_limit_s = 0\n\
             [[link]]\nname = \"ward\"\nprotocol = \"hl7\"\nlisten = \"127.0.0.1:{ward}\"\n\
             tls = {{ cert = {cert:?}, key = {tls_key:?}, client_ca = {ca:?} }}\n\
             [[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:{ehr}\"\nretry_min_ms = 20\nretry_max_ms = 200\n",
            port = self.port,
            ward = free_port(),
            ehr = self.ehr_port,
        )
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("box/afferent.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.path("box/data")
    }

    pub fn receive(&mut self) {
        let (address, ledger) = (format!("127.0.0.1:{}", self.ehr_port), self.path("ehr.jsonl"));
        let ehr = ["sim", "ehr", "--mllp", &address, "--ledger", ledger.to_str().unwrap()];
        self.ehr = Some(Running::start(&ehr, None));
        until("the EHR listens", || std::net::TcpStream::connect(&address).is_ok());
    }

    pub fn run(&self) -> Running {
        let log = self.path("log");
        let running = Running::start(&["run", "--config", self.config().to_str().unwrap()], Some(&log));
        until_served(&self.data(), &log);
        running
    }

    pub fn serum(&self) {
        let address = format!("127.0.0.1:{}", self.port);
        let played = afferent(&["sim", "instrument", "--connect", &address, "--session", &case(SERUM)]);
        assert_eq!(played.status.code(), Some(0), "{}{}", out(&played), err(&played));
    }

    /// Messages that the EHR stored.
    pub fn stored(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("ehr.jsonl")).unwrap_or_default();
        let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        all.filter(|arrival| arrival["stored"] == true).collect()
    }

    pub fn command(&self, verb: &str, file: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.arg(verb).args([self.path(file), "--config".into(), self.config()]).args(words);
        if !words.iter().any(|word| matches!(*word, "--passphrase-file" | "--recovery-key")) {
            command.args(["--passphrase-file".as_ref(), self.path("passphrase").as_os_str()]);
        }
        command.env_remove("AFFERENT_LOG").env_remove("JOURNAL_STREAM");
        command
    }

    pub fn backup(&self) {
        let made = self.command("backup", "stick/bench-1.backup", &[]).output().unwrap();
        assert!(made.status.success(), "{}", err(&made));
    }

    /// What is in the backup on the stick.
    pub fn contents(&self) -> Contents {
        let file = std::fs::read(self.path("stick/bench-1.backup")).unwrap();
        let secret = Secret::passphrase(PASSPHRASE).unwrap();
        Contents::read(&Sealed::read(&file).unwrap().open(&secret).unwrap()).unwrap()
    }

    pub fn restore(&self, words: &[&str]) -> Output {
        self.command("restore", "stick/bench-1.backup", words).output().unwrap()
    }

    #[track_caller]
    pub fn restored(&self, words: &[&str]) -> Value {
        let done = self.restore(&[words, &["--json"]].concat());
        assert!(done.status.success(), "{}{}", out(&done), err(&done));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// The box is gone, as when its disk is another one; where it is kept.
    pub fn lose(&self) -> PathBuf {
        let old = self.path("old");
        std::fs::rename(self.path("box"), &old).unwrap();
        old
    }

    /// Every file below the place of the box, with its permissions.
    pub fn everything(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut all = BTreeMap::new();
        let mut open = vec![self.path("box")];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
                match entry.is_dir() {
                    true => open.push(entry),
                    false => {
                        let mode = entry.symlink_metadata().unwrap().permissions().mode() & 0o777;
                        drop(all.insert(entry.clone(), (mode, std::fs::read(&entry).unwrap_or_default())));
                    }
                }
            }
        }
        all
    }
}

/// Adapters, as the kernel and udev show them: terminal, socket, serial number.
pub fn adapters(root: &Path, all: &[(&str, &str, &str)]) {
    use std::os::unix::fs::symlink;
    let _ = std::fs::remove_dir_all(root);
    for folder in ["sys/class/tty", "dev/serial/by-id", "dev/serial/by-path"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (tty, socket, serial) in all {
        let device = root.join("sys/devices/usb1").join(socket);
        let hardware = device.join(format!("{socket}:1.0")).join(tty);
        std::fs::create_dir_all(&hardware).unwrap();
        for (file, text) in [("idVendor", "0403"), ("idProduct", "6001"), ("serial", *serial)] {
            std::fs::write(device.join(file), text).unwrap();
        }
        std::fs::create_dir(root.join("sys/class/tty").join(tty)).unwrap();
        symlink(&hardware, root.join("sys/class/tty").join(tty).join("device")).unwrap();
        std::fs::write(root.join("dev").join(tty), "").unwrap();
        symlink(format!("../../{tty}"), root.join("dev/serial/by-id").join(format!("usb-FTDI_{serial}"))).unwrap();
        symlink(format!("../../{tty}"), root.join("dev/serial/by-path").join(format!("usb-{socket}"))).unwrap();
    }
}
