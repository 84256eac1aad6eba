//! The installation of a box, as whoever stands at the bench goes through it: from an unpacked box to the first result in
//! the EHR. This is the engine: it says what to ask next or what to do next, checks answers, does what is to be done and
//! says what it found. It knows no terminal; `cli/setup.rs` is one shell of it, a file of answers is another.
//!
//! | step | asks for | does |
//! |---|---|---|
//! | place | name, data directory | |
//! | network | DHCP or fixed addresses, a name to look up, a proxy | looks at it; a file for systemd-networkd ([`network`]) |
//! | time | the zone, who keeps the clock | looks at the clock ([`crate::clock`]) |
//! | EHR | HL7 or FHIR, where, certificates, log-in | a handshake with it ([`ehr`]) |
//! | link | where the analyzer is, its driver | listens to what it sends ([`crate::workbench::probe`]) |
//! | fleet | whether it joins one, and which | |
//! | write | whether that is right | the configuration, checked, then written whole |
//! | let in | how long to wait for the desk | shows the box's code, and asks until somebody accepted it |
//! | test | whether the EHR may get a test result | a test result on its way ([`test_result`]) |
//! | hand-over | | the report ([`report`]) |
//!
//! What comes next follows from the answers and from what was found, and from nothing else ([`steps`]). Both are kept
//! beside the configuration after every answer ([`progress`]), so that a setup that was cut off goes on where it was; no
//! secret is among them. The configuration is written once and whole: whatever happens, there is the old one or the new
//! one. One that a person wrote is only ever added to, and only when the person says so.

pub mod answers;
mod board;
pub mod ehr;
mod fleet;
pub mod network;
pub mod progress;
pub mod question;
pub mod report;
mod service_user;
pub mod steps;
pub mod test_result;
pub mod time_server;
mod values;
mod work;
pub mod writing;

use crate::config::{self, Config, LoadError};
use crate::disk;
use crate::driver::{DriverError, Registry};
use crate::journal;
pub use crate::workbench::probe::listen::Show;
use progress::Progress;
use question::Question;
use std::path::{Path, PathBuf};

/// What a new box starts with. Nobody wrote it by hand, so it may be replaced.
const SHIPPED: &str = include_str!("../systemd/afferent.toml");

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Whoever sets the box up is asked.
    Ask(Box<Question>),
    /// Something is to be done ([`Setup::perform`]).
    Do(Work),
    /// The person wants it to end here. Its answers are kept.
    Stop,
    /// It is finished.
    Done,
}

/// Something that takes a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Looks at the network and the clock.
    Look,
    /// Looks a name up.
    LookUp,
    /// Writes the network's file, on trial where that can be.
    Network,
    /// Keeps the addresses that were tried.
    Keep,
    /// Has the addresses back that it had.
    TakeBack,
    /// Calls the EHR.
    Handshake,
    /// Listens to the analyzer.
    Listen,
    /// Writes the configuration.
    Write,
    /// Makes the key and the code by which the desk lets the box in.
    Code,
    /// Asks the desk to let it in.
    Enrol,
    /// Sends a test result.
    Test,
    /// Writes the report.
    Report,
}

/// Why a setup cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The configuration that is there, or that was to be written, is not sound.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A driver of the site does not load.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl SetupError {
    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> SetupError {
        let what = what.into();
        move |source| SetupError::System { what, source }
    }
}

/// One installation.
pub struct Setup {
    file: PathBuf,
    /// Where `/` is, for what is looked at and written of the network.
    root: PathBuf,
    registry: Registry,
    /// The configuration a person wrote, and its text.
    existing: Option<(Config, String)>,
    progress: Progress,
    is_resumed: bool,
    is_finished: bool,
}

impl Setup {
    /// The setup of the box with this configuration file, which may not be there yet. It goes on where an earlier one was
    /// cut off, unless that is to be forgotten (`anew`).
    ///
    /// # Errors
    /// The configuration that is there cannot be used, or the folder cannot be written.
    pub fn open(file: &Path, anew: bool) -> Result<Setup, SetupError> {
        let folder = folder(file);
        std::fs::create_dir_all(folder).map_err(SetupError::system(format!("cannot make {}", folder.display())))?;
        let kept = Progress::read(file);
        // Begun anew it knows one thing still: which file it wrote itself.
        let writing = kept.as_ref().and_then(|kept| kept.writing.clone());
        // What ended it then is asked again.
        let kept = kept.filter(|_| !anew).map(Progress::without_an_end);
        let is_resumed = kept.is_some();
        let progress = kept.unwrap_or_else(|| Progress { writing, ..Progress::default() });
        let mut existing = None;
        if file.exists() {
            let text =
                std::fs::read_to_string(file).map_err(SetupError::system(format!("cannot read {}", file.display())))?;
            let is_ours = progress.has_written(&text) || text == SHIPPED;
            if !is_ours || progress.adds() {
                existing = Some((config::parse(&file.display().to_string(), &text)?.config, text));
            }
        }
        let registry = existing.as_ref().map_or_else(|| Ok(Registry::builtin()), |(config, _)| config.registry())?;
        let setup = Setup {
            file: file.to_path_buf(),
            root: PathBuf::from("/"),
            registry,
            existing,
            progress,
            is_resumed,
            is_finished: false,
        };
        // Whoever may not write here is told before the first question.
        setup.keep()?;
        Ok(setup)
    }

    /// Has the network's files looked for and written below this folder.
    pub fn with_root(self, root: PathBuf) -> Setup {
        Setup { root, ..self }
    }

    /// True when it goes on where an earlier one was cut off.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// The configuration file it is about.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What was answered and found so far.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Takes the answer to the question that comes next, and keeps it.
    ///
    /// # Errors
    /// In words, why it cannot be right; nothing has changed then.
    pub fn answer(&mut self, key: &str, answer: &str) -> Result<(), String> {
        let Next::Ask(question) = self.next() else { return Err("nothing is asked now".to_string()) };
        if question.key != key {
            return Err(format!("`{}` is asked now, not `{key}`", question.key));
        }
        let answer = self.checked(&question, answer.trim())?;
        self.take(question.key, answer);
        self.keep().map_err(|error| error.to_string())?;
        journal::crash::point("setup-answer");
        Ok(())
    }

    /// Writes where the configuration is. That is root's mostly; whoever else it belongs to could lead root astray there.
    fn beside(&self, write: impl FnOnce() -> std::io::Result<()> + Send) -> std::io::Result<()> {
        disk::as_owner_of(folder(&self.file), write).flatten()
    }

    fn keep(&self) -> Result<(), SetupError> {
        let file = progress::place(&self.file);
        self.beside(|| self.progress.write(&self.file)).map_err(SetupError::system(format!(
            "cannot write {}; a setup may write where its configuration is, mostly as root (sudo)",
            file.display()
        )))
    }
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;
