//! How far a setup is: what was answered and what was found, kept beside the configuration until the report is written.
//! There is no secret in it, and nothing of a patient.

use super::network::Network;
use crate::clock::Quality;
use crate::delivery::config::Algorithm;
use crate::disk;
use crate::wire::Protocol;
use crate::wire::hex;
use crate::workbench::probe::findings::Setting;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What was tried, and how that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// It worked.
    pub worked: bool,
    /// In words, what came of it.
    pub says: String,
    /// When.
    pub at: jiff::Timestamp,
}

impl Tried {
    pub(super) fn new(worked: bool, says: impl Into<String>) -> Tried {
        Tried { worked, says: says.into(), at: jiff::Timestamp::now() }
    }
}

/// What was heard of the analyzer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// What it speaks, where that was recognised.
    pub spoken: Option<String>,
    /// The protocol a link of it has.
    pub protocol: Option<Protocol>,
    /// What it calls itself.
    pub sender: Option<String>,
    /// The driver that knows it.
    pub driver: Option<String>,
    /// The settings of the serial line.
    pub setting: Option<Setting>,
    /// Why that is thought.
    pub because: Vec<String>,
    /// What to do next.
    pub advice: Vec<String>,
    /// When.
    pub at: jiff::Timestamp,
}

/// How far a setup is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Progress {
    /// What was answered, by key.
    pub answers: BTreeMap<String, String>,
    /// What was answered before it was asked again.
    pub earlier: BTreeMap<String, String>,
    /// What the key for the log-in signs by, as it was when it was named.
    pub login_algorithm: Option<Algorithm>,
    /// The network as it was found.
    pub network: Option<Network>,
    /// A name that was looked up.
    pub looked_up: Option<Tried>,
    /// The network's file, and whether it is in effect.
    pub network_file: Option<Tried>,
    /// Until when that is on trial; none where it is not.
    pub network_trial: Option<jiff::Timestamp>,
    /// Who else sets the interface.
    pub rivals: Vec<String>,
    /// What the clock is worth.
    pub clock: Option<Quality>,
    /// How the EHR answered a call.
    pub ehr: Option<Tried>,
    /// What was heard of the analyzer.
    pub heard: Option<Heard>,
    /// SHA-256 of the configuration that is written, noted before it is.
    pub writing: Option<String>,
    /// It is written.
    pub written: bool,
    /// What the check of the configuration missed on this machine.
    pub missing: Vec<String>,
    /// The code by which the desk lets the box in.
    pub code: Option<String>,
    /// Whether it did.
    pub enrolled: Option<Tried>,
    /// What became of the test result.
    pub test: Option<Tried>,
}

/// Where it is kept.
pub fn place(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".setup");
    name.into()
}

impl Progress {
    /// What an earlier setup left; none where it came to its end, or where nobody can read it.
    pub(super) fn read(file: &Path) -> Option<Progress> {
        let text = std::fs::read(place(file)).ok()?;
        let progress: Progress = serde_json::from_slice(&text).ok()?;
        (progress != Progress::default()).then_some(progress)
    }

    /// The same without the answers that a person ends a setup with.
    pub(super) fn without_an_end(mut self) -> Progress {
        let ends = [("config.existing", "stop"), ("config.write", "no")];
        self.answers.retain(|key, answer| !ends.contains(&(key.as_str(), answer.as_str())));
        self
    }

    pub(super) fn write(&self, file: &Path) -> std::io::Result<()> {
        disk::replace_secret(&place(file), &serde_json::to_vec_pretty(self)?)
    }

    pub(super) fn remove(file: &Path) -> std::io::Result<()> {
        std::fs::remove_file(place(file))?;
        disk::sync_folder(file)
    }

    /// True when this text is the configuration that this setup wrote.
    pub(super) fn has_written(&self, text: &str) -> bool {
        self.writing.as_deref() == Some(digest(text).as_str())
    }

    /// True when it adds to what a person wrote.
    pub(super) fn adds(&self) -> bool {
        self.get("config.existing") == Some("add")
    }

    /// Has these asked again, with what was answered as their default.
    pub(super) fn ask_again(&mut self, keys: &[&str]) {
        for key in keys {
            self.earlier.extend(self.answers.remove_entry(*key));
        }
    }

    /// As if these had never been asked.
    pub(super) fn forget(&mut self, keys: &[&str]) {
        for key in keys {
            self.answers.remove(*key);
            self.earlier.remove(*key);
        }
    }

    /// An answer.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.answers.get(key).map(String::as_str)
    }
}

pub(super) fn digest(text: &str) -> String {
    hex::digits(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}
