//! A gateway between modalities and PACSs: the real binary, with its data in a directory that outlives it.

use std::path::PathBuf;
use std::process::Command;

use crate::peers::{Running, afferent, free_port, until};
use afferent::control;
use serde_json::Value;

/// The AE title of the gateway.
pub const AE_TITLE: &str = "AFFERENT";

pub struct Site {
    dir: tempfile::TempDir,
    /// Where the gateway takes images.
    pub port: u16,
    destinations: String,
    gateway: Option<Running>,
}

impl Site {
    /// A gateway with these `[[destination]]` tables, which is not running yet.
    pub fn new(destinations: &str) -> Site {
        let dir = tempfile::tempdir().unwrap();
        Site { dir, port: free_port(), destinations: destinations.to_owned(), gateway: None }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Starts the gateway, or starts it again, and waits until it takes commands.
    pub fn start(&mut self) {
        let text = format!(
            "[gateway]\nname = \"box\"\ndata = {:?}\ntime_zone = \"UTC\"\n[journal]\nfree_min_mb = 0\n\
             [dicom]\nae_title = \"{AE_TITLE}\"\nlisten = \"{}\"\n{}",
            self.data(),
            self.address(),
            self.destinations
        );
        let file = self.path("box.toml");
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
        command.args(["run", "--config"]).arg(file).stdout(log.try_clone().unwrap()).stderr(log);
        command.env_remove("AFFERENT_LOG").env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
        self.gateway = Some(Running::start(&mut command));
        until("the gateway answers", || control::request(&self.data(), &control::Request::Health).is_ok());
    }

    /// The most memory the gateway ever had since it was started, in kB.
    pub fn peak_kb(&self) -> u64 {
        self.gateway.as_ref().unwrap().peak_kb()
    }

    /// These `[[destination]]` tables from the next start on.
    pub fn reconfigure(&mut self, destinations: &str) {
        self.destinations = destinations.to_owned();
    }

    /// The loss account.
    pub fn account(&self) -> Value {
        let told = afferent(&["journal", "--data", self.data().to_str().unwrap(), "--json", "stats"]);
        serde_json::from_slice::<Value>(&told.stdout).unwrap()["account"].take()
    }

    /// Waits until nothing is on the way or waits for a person.
    pub fn everything_is_delivered(&self) {
        until("everything is delivered", || {
            let account = self.account();
            account["received"] != 0 && account["received"] == account["delivered"]
        });
    }

    /// Ends the gateway as a power cut would.
    pub fn kill(&mut self) {
        self.gateway = None;
    }
}
