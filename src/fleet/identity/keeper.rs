//! The thread that keeps the box's identity: it asks, waits, writes. It has a disk and a network of its own to wait for;
//! the fleet's loop is told when there is a certificate, and when one wants to be proven.

use super::est::{Answer, Enrol, Site};
use super::folder::{FOLDER, Folder, Held};
use super::{Identity, Step};
use crate::disk;
use crate::fleet::Config;
use jiff::Timestamp;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// The wall clock may be set: what is due is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// What keeps the identity from being kept is tried again after this.
const START_PAUSE: Duration = Duration::from_secs(30);
/// The fleet's loop says within this whether a certificate was proven.
const PROOF_MAX: Duration = Duration::from_secs(180);

/// What the fleet's loop is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// There is a certificate in use.
    Ready,
    /// This file has a certificate and key that are to be proven; the answer goes to [`Line::verdict`].
    Prove(PathBuf),
}

/// The fleet's way to the keeper.
pub struct Line {
    /// What it says.
    pub words: mpsc::Receiver<Word>,
    /// Whether what was to be proven is.
    pub verdict: mpsc::Sender<bool>,
    /// Wakes it to renew the certificate now.
    pub renew: Arc<Notify>,
    /// What keeps it, for a person.
    pub trouble: watch::Receiver<Waits>,
}

/// What keeps the box's identity waiting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    /// In words; empty while all is well.
    pub why: String,
    /// The code under which the box asks to be let in, where that is what it waits for.
    pub code: Option<String>,
}

/// Starts the thread, which runs until `stopped` becomes true.
pub fn start(config: &Config, enrol: &Enrol, data: &Path, stopped: watch::Receiver<bool>) -> Line {
    let (say, words) = mpsc::channel(4);
    let (verdict, verdicts) = mpsc::channel(1);
    let (told, trouble) = watch::channel(Waits::default());
    let (config, enrol, data) = (config.clone(), enrol.clone(), data.to_path_buf());
    let renew = Arc::new(Notify::new());
    let wanted = renew.clone();
    let thread = std::thread::Builder::new().name("identity".to_string()).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(run(&config, &enrol, &data, (&say, verdicts, &wanted), &told, stopped)),
            Err(error) => tracing::error!(event = "identity-trouble", "the box's identity is not kept: {error}"),
        }
    });
    if let Err(error) = thread {
        tracing::error!(event = "identity-trouble", "the box's identity is not kept: {error}");
    }
    Line { words, verdict, renew, trouble }
}

async fn run(
    config: &Config,
    enrol: &Enrol,
    data: &Path,
    (say, mut verdicts, wanted): (&mpsc::Sender<Word>, mpsc::Receiver<bool>, &Notify),
    told: &watch::Sender<Waits>,
    mut stopped: watch::Receiver<bool>,
) {
    let work = async {
        let mut keeper = loop {
            match Keeper::open(config, enrol, data) {
                Ok(keeper) => break keeper,
                Err(why) => tell(told, Waits { why, code: None }),
            }
            tokio::time::sleep(START_PAUSE).await;
        };
        if keeper.has_certificate() {
            let _ = say.send(Word::Ready).await;
        }
        loop {
            match keeper.step().await {
                Progress::Took => {
                    let _ = say.send(Word::Ready).await;
                }
                Progress::Prove(file) => {
                    while verdicts.try_recv().is_ok() {}
                    let _ = say.send(Word::Prove(file)).await;
                    let proven = tokio::time::timeout(PROOF_MAX, verdicts.recv()).await;
                    keeper.judged(matches!(proven, Ok(Some(true))));
                }
                Progress::Waits(pause) => {
                    tell(told, Waits { why: keeper.trouble(), code: keeper.waits_as.clone() });
                    tokio::select! {
                        () = tokio::time::sleep(pause.min(LOOK_EVERY)) => {}
                        () = wanted.notified() => keeper.identity.renew(),
                    }
                }
            }
        }
    };
    tokio::select! {
        () = work => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
}

fn tell(told: &watch::Sender<Waits>, waits: Waits) {
    told.send_if_modified(|held| {
        let is_news = *held != waits;
        if is_news && !waits.why.is_empty() {
            tracing::warn!(event = "identity-trouble", "fleet: {}", waits.why);
        }
        *held = waits;
        is_news
    });
}

/// What a step led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is to be done for so long.
    Waits(Duration),
    /// A certificate is in use that was not before.
    Took,
    /// The certificate in this file is to be proven.
    Prove(PathBuf),
}

/// Asks until the box has a certificate that is good, or for so long; `says` hears what keeps it, whenever that changes.
/// Blocks meanwhile. Root asks as whom the data directory belongs to.
///
/// # Errors
/// In words, what is in the way, or that nobody let it in in time.
pub fn let_in(
    config: &Config,
    enrol: &Enrol,
    data: &Path,
    wait: Duration,
    says: impl FnMut(&str) + Send,
) -> Result<Held, String> {
    let asked = disk::as_owner_of(data, || {
        std::fs::create_dir_all(data).map_err(|error| format!("{}: {error}", data.display()))?;
        // One thread: what it starts has its rights.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(ask_until_let_in(config, enrol, data, wait, says))
    });
    asked.map_err(|error| format!("{}: {error}", data.display()))?
}

async fn ask_until_let_in(
    config: &Config,
    enrol: &Enrol,
    data: &Path,
    wait: Duration,
    mut says: impl FnMut(&str),
) -> Result<Held, String> {
    let mut keeper = Keeper::open(config, enrol, data)?;
    let until = tokio::time::Instant::now() + wait;
    let mut said = String::new();
    loop {
        if let Some(held) = keeper.folder.current().filter(|held| held.life.ends_s > now_s()) {
            return Ok(held);
        }
        let progress = keeper.step().await;
        let trouble = keeper.trouble();
        if trouble != said && !trouble.is_empty() {
            says(&trouble);
        }
        said = trouble;
        if let Progress::Waits(pause) = progress {
            if tokio::time::Instant::now() + pause > until {
                let seconds = wait.as_secs();
                return Err(format!("nobody let this box in within {seconds} s; ask again, its code stays the same"));
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whoever keeps the identity of a box; one at a time.
pub struct Keeper {
    enrol: Enrol,
    site: Site,
    name: Option<String>,
    folder: Folder,
    identity: Identity,
    trouble: String,
    /// The code it waits under.
    waits_as: Option<String>,
    _lock: File,
}

impl Keeper {
    /// Opens what is kept in the data directory.
    ///
    /// # Errors
    /// In words, what is in the way.
    pub fn open(config: &Config, enrol: &Enrol, data: &Path) -> Result<Keeper, String> {
        let ca = config.tls.ca.clone().ok_or("[fleet.tls] names no `ca`: whom shall the box trust?")?;
        let site = Site { ca, tls: config.tls.clone() };
        let failed = |error: Error| in_the_way(data, &error);
        let folder = Folder::open(data).map_err(failed)?;
        let lock = folder.lock().map_err(failed)?;
        folder.trust(&site.ca).map_err(failed)?;
        let mut keeper = Keeper {
            enrol: enrol.clone(),
            site,
            name: config.name.clone(),
            folder,
            identity: Identity::new(None, None, jitter()),
            trouble: String::new(),
            waits_as: None,
            _lock: lock,
        };
        keeper.look();
        Ok(keeper)
    }

    /// True once the box may show who it is.
    pub fn has_certificate(&self) -> bool {
        self.folder.current().is_some()
    }

    /// What keeps it, for a person; empty while all is well.
    pub fn trouble(&self) -> String {
        match &self.waits_as {
            Some(code) => format!(
                "this box waits to be let in; at the desk: afferent desk enrol accept {code} {}",
                if self.has_certificate() { "" } else { "--name NAME" }
            )
            .trim_end()
            .to_string(),
            None => self.trouble.clone(),
        }
    }

    /// Does what is due, if anything is.
    pub async fn step(&mut self) -> Progress {
        let now_s = now_s();
        if let Err(error) = self.folder.forget_previous(now_s) {
            tracing::debug!("the certificate before is not removed: {error}");
        }
        let Some(step) = self.identity.step(now_s) else {
            let pause_s = self.identity.due_s().saturating_sub(now_s).clamp(1, LOOK_EVERY.as_secs() as i64);
            return Progress::Waits(Duration::from_secs(pause_s.unsigned_abs()));
        };
        tracing::debug!(?step, "identity");
        let done = match step {
            Step::Prove => return Progress::Prove(self.folder.next_file()),
            Step::Adopt => self.folder.promote().map(|()| true),
            Step::Discard => self.folder.discard_next().map(|()| false),
            Step::Enrol | Step::Recover | Step::Renew => return self.ask(step, now_s).await,
        };
        self.settle(done, now_s)
    }

    /// What was to be proven is, or is not.
    pub fn judged(&mut self, is_proven: bool) {
        let now_s = now_s();
        if is_proven {
            let done = self.folder.promote().map(|()| true);
            self.settle(done, now_s);
            return;
        }
        self.trouble = "the next certificate is not accepted; the one there is goes on".to_string();
        self.identity.failed(now_s);
    }

    async fn ask(&mut self, step: Step, now_s: i64) -> Progress {
        let key = match step {
            Step::Recover => self.folder.current_key(),
            _ => self.folder.new_key(),
        };
        let key = match key {
            Ok(key) => key,
            Err(error) => return self.failed(format!("the box's key: {error}"), now_s),
        };
        let held = self.folder.current();
        let code = key.code().map(|code| code.to_string()).unwrap_or_default();
        let known = held.as_ref().and_then(|held| held.common_name.clone()).or_else(|| self.name.clone());
        let name = known.unwrap_or_else(|| code.clone());
        let present = (step == Step::Renew).then(|| self.folder.current_file());
        let asked = self.enrol.ask(&self.folder, &self.site, &key, &name, present.as_deref()).await;
        let now_s = self::now_s().max(now_s);
        match asked {
            Ok(Answer::Chain(chain)) => {
                crate::journal::crash::point("identity-issued");
                let kept = self.folder.keep_next(&chain, &key, now_s).map(|()| false);
                self.settle(kept, now_s)
            }
            Ok(Answer::Later(after_s)) => {
                self.identity.later(after_s, now_s);
                self.waits_as = (step != Step::Renew).then_some(code);
                self.wait()
            }
            Err(why) => {
                let what = if step == Step::Renew { "the certificate is not renewed" } else { "the box is not let in" };
                self.failed(format!("{what}: {why}"), now_s)
            }
        }
    }

    fn settle(&mut self, done: std::io::Result<bool>, now_s: i64) -> Progress {
        match done {
            Ok(took) => {
                (self.trouble, self.waits_as) = (String::new(), None);
                self.look();
                if took { Progress::Took } else { self.wait() }
            }
            Err(error) => self.failed(format!("identity/: {error}"), now_s),
        }
    }

    fn failed(&mut self, why: String, now_s: i64) -> Progress {
        (self.trouble, self.waits_as) = (why, None);
        self.identity.failed(now_s);
        self.wait()
    }

    fn wait(&self) -> Progress {
        let pause_s = self.identity.due_s().saturating_sub(now_s()).clamp(0, LOOK_EVERY.as_secs() as i64);
        Progress::Waits(Duration::from_secs(pause_s.unsigned_abs()))
    }

    fn look(&mut self) {
        let life = |held: Held| held.life;
        self.identity.holds(self.folder.current().map(life), self.folder.next().map(life));
    }
}

/// What keeps this process from the identity of the box, where that is, and what helps.
fn in_the_way(data: &Path, error: &Error) -> String {
    let place = data.join(FOLDER);
    let place = place.display();
    match error.kind() {
        ErrorKind::WouldBlock => {
            "another process keeps this box's identity already: is the gateway running?".to_string()
        }
        ErrorKind::PermissionDenied => {
            let owner_of = |path: &Path| std::fs::symlink_metadata(path).map(|about| about.uid()).ok();
            let owner = owner_of(data).unwrap_or(0);
            let name = disk::name_of("/etc/passwd", owner).unwrap_or_else(|| owner.to_string());
            let inside = std::fs::read_dir(data.join(FOLDER)).into_iter().flatten().filter_map(Result::ok);
            let mut all = inside.map(|entry| entry.path()).chain([data.join(FOLDER)]);
            match owner != 0 && all.any(|path| owner_of(&path).is_some_and(|user| user != owner)) {
                true => format!(
                    "{place}: {error}; all in it has to be of whom {} is: chown -hR {name} {place}",
                    data.display()
                ),
                false => format!("{place}: {error}; it is for root and {name}"),
            }
        }
        _ => format!("{place}: {error}"),
    }
}

fn now_s() -> i64 {
    Timestamp::now().as_second()
}

/// The box's own for this run, from the operating system's random numbers.
fn jitter() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
