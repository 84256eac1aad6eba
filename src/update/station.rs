//! The station: the thread that brings an update forward, one step after another, and what happens around the gateway's
//! start and stop. The record says where it stands; this does what comes next.

use super::about::About;
use super::download::{FetchError, Limits, Wanted, digest, fetch};
use super::gate;
use super::record::{Happened, Phase, Reason, Record, Schemas};
use super::{Updates, program, rauc, schemas, slots};
use crate::backoff::Backoff;
use crate::config::Config;
use crate::control::{self, Request, Response};
use crate::fleet::store::Store;
use crate::journal::{self, Account, Journal, Reader, crash};
use crate::link::LinkHealth;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The record is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at the gate.
const GATE_PAUSE: Duration = Duration::from_secs(2);
/// Between two attempts to fetch.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(600);
/// Attempts of one run of the program, and fetches that turned out wrong, before an update is given up.
const ATTEMPTS_MAX: u32 = 200;
const WRONG_MAX: u32 = 3;
/// A release that is asked what it is answers within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Of the time of a trial, the part that this side takes before it gives up in order; the launcher takes the rest.
const OWN_SHARE: f64 = 0.8;
/// What worked is looked at again after this.
const WORKED_MAX: Duration = Duration::from_secs(600);
/// Names of the files that grow.
const DOWNLOAD: &str = "download";
const BUNDLE: &str = "download.raucb";

/// See the module docs. Cheap to clone.
#[derive(Clone)]
pub struct Station {
    pub(super) updates: Updates,
    config: Arc<Config>,
    /// The gateway was asked to stop so that the new release can start, or the box restart.
    switches: Arc<AtomicBool>,
    started: Instant,
}

/// A file that is fetched, where it goes, and its hash.
struct File<'r> {
    wanted: Wanted<'r>,
    path: PathBuf,
    sha256: &'r str,
}

/// When what failed is tried again, and why it did: that is told when it is another reason than before.
pub(super) struct Retry {
    backoff: Backoff,
    not_before: Option<Instant>,
    told: String,
}

impl Retry {
    fn new() -> Retry {
        let backoff = Backoff::seeded(RETRY_MIN, RETRY_MAX, u64::from(std::process::id()));
        Retry { backoff, not_before: None, told: String::new() }
    }

    pub(super) fn is_early(&self) -> bool {
        self.not_before.is_some_and(|at| Instant::now() < at)
    }

    /// It is tried again after this.
    pub(super) fn pause(&mut self, pause: Duration) {
        self.not_before = Some(Instant::now() + pause);
    }

    /// It is tried again later each time.
    pub(super) fn failed(&mut self) {
        let pause = self.backoff.failed();
        self.pause(pause);
    }

    /// The same, and the log is told.
    pub(super) fn failed_as(&mut self, what: &str, why: &str) {
        if self.is_news(why) {
            tracing::error!(event = "update-trouble", "update: {what}: {why}");
        }
        self.failed();
    }

    fn is_news(&mut self, why: &str) -> bool {
        let is_news = self.told != why;
        if is_news {
            self.told = why.to_string();
        }
        is_news
    }
}

/// What the thread knows between two looks.
pub(super) struct Patience {
    pub(super) retry: Retry,
    attempts: u32,
    bench: Bench,
    pub(super) waits_since: Option<Instant>,
    /// What works, and since when that is known.
    worked: Option<(Instant, Vec<String>)>,
    /// Looks at an RAUC that is busy or silent.
    pub(super) looks: u32,
    /// The operating system that runs was marked good.
    pub(super) has_vouched: bool,
    pub(super) vouching: Retry,
}

impl Patience {
    fn new() -> Patience {
        Patience {
            retry: Retry::new(),
            attempts: 0,
            bench: Bench::default(),
            waits_since: None,
            worked: None,
            looks: 0,
            has_vouched: false,
            vouching: Retry::new(),
        }
    }

    /// Another attempt failed; how many have.
    pub(super) fn failed(&mut self) -> u32 {
        self.attempts += 1;
        self.retry.failed();
        self.attempts
    }

    /// What comes next has failed nowhere yet.
    pub(super) fn begin(&mut self) {
        self.retry = Retry::new();
        (self.attempts, self.looks, self.waits_since) = (0, 0, None);
    }
}

impl Station {
    /// The station of a box that updates itself; none of one that does not.
    pub fn open(config: &Config) -> Option<Station> {
        let updates = Updates::of(config);
        if updates.is_none() && config.update.is_some() {
            tracing::warn!(
                "update: this box does not update itself: afferent-launcher did not start it from [update] releases"
            );
        }
        let station = Station {
            updates: updates?,
            config: Arc::new(config.clone()),
            switches: Arc::default(),
            started: Instant::now(),
        };
        gate::tidy(&config.gateway.data);
        if station.updates.record().is_some_and(|record| record.phase.is_final()) {
            station.tidy();
        }
        Some(station)
    }

    /// Before the gateway starts: a release that changed the databases' shape passes the gate first, see [`super`].
    ///
    /// # Errors
    /// It did not, and nothing may be started; the launcher puts the old release back.
    pub fn prove_first(&self, runtime: &tokio::runtime::Runtime) -> Result<(), String> {
        let Some(record) = self.updates.record().filter(|record| record.phase.is_on_trial()) else { return Ok(()) };
        if schemas() != record.new_schemas {
            self.fail(record.phase, Reason::DoesNotRun);
            return Err("this release gives its databases another shape than its manifest says".to_string());
        }
        if !record.is_held() {
            return Ok(());
        }
        let done = self.bring_up_to_date();
        let done = done.and_then(|()| self.happened(Phase::Trial, Happened::Looking).ok_or("its record".to_string()));
        if let Err(why) = done {
            self.fail(Phase::Trial, Reason::Gate);
            return Err(format!("the databases cannot be brought up to date: {why}"));
        }
        while let Err(missing) = self.pass(&record, runtime) {
            tracing::warn!("update: not yet: {missing}");
            if self.is_time_over(&record) {
                self.fail(Phase::Confirming, Reason::Gate);
                return Err(format!("the release does not pass the gate: {missing}"));
            }
            std::thread::sleep(GATE_PAUSE);
        }
        Ok(())
    }

    /// Looks whether results flow, and confirms the release when they do; else what is missing.
    fn pass(&self, record: &Record, runtime: &tokio::runtime::Runtime) -> Result<(), String> {
        let missing = gate::missing(&runtime.block_on(gate::look(&self.config)), &record.worked);
        if missing.is_empty() { self.confirm(record) } else { Err(missing.join("; ")) }
    }

    fn bring_up_to_date(&self) -> Result<(), String> {
        let data = &self.config.gateway.data;
        Journal::bring_up_to_date(data, &self.config.journal).map_err(|error| error.to_string())?;
        if self.config.fleet.is_some() {
            Store::open(data).map_err(|error| error.to_string())?;
        }
        match Reader::open(data, &self.config.journal) {
            Ok(reader) => match reader.account().map_err(|error| error.to_string())?.missing() {
                0 => Ok(()),
                missing => Err(format!("{missing} results are not accounted for")),
            },
            Err(journal::OpenError::Missing(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn confirm(&self, record: &Record) -> Result<(), String> {
        if record.system.is_some() {
            rauc::mark(rauc::Which::Booted, rauc::Mark::Good)?;
            crash::point("system-marked-good");
        }
        let confirmed = self.happened(Phase::Confirming, Happened::Confirmed);
        let record =
            confirmed.filter(|record| record.phase == Phase::Committed).ok_or("the record cannot be written")?;
        tracing::info!(event = "update-confirmed", from = %record.from, "update: release {} is confirmed", record.version);
        Ok(())
    }

    /// Starts the thread. It ends with the process: whatever it does, a crash there is made good.
    pub fn watch(&self) {
        let station = self.clone();
        let thread = std::thread::Builder::new().name("update".to_string()).spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() else {
                return tracing::error!(event = "update-trouble", "the update cannot start its runtime");
            };
            let mut patience = Patience::new();
            while !station.switches.load(Ordering::Relaxed) {
                station.vouch(&mut patience);
                if let Some(record) = station.updates.record().filter(|record| !record.phase.is_final()) {
                    station.go_on(&record, &mut patience, &runtime);
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
        if let Err(error) = thread {
            tracing::error!(event = "update-trouble", "the update cannot start: {error}");
        }
    }

    /// After the gateway has stopped in order: when that was for the new release, it is the launcher's turn.
    pub fn stopped(&self) {
        let Some(record) = self.updates.record() else { return };
        match record.phase {
            _ if !self.switches.load(Ordering::Relaxed) => return,
            Phase::WaitingIdle => {}
            Phase::Returning => {
                let _ = self.restart(&record);
                return;
            }
            _ => return,
        }
        let kept = match record.is_held() {
            true => slots::keep_before(self.updates.releases(), &self.config.gateway.data),
            false => Ok(()),
        };
        match kept {
            Ok(()) => {
                let next = self.happened(Phase::WaitingIdle, Happened::Stopped);
                if let Some(record) = next.filter(|record| record.phase == Phase::Rebooting) {
                    let _ = self.restart(&record);
                }
            }
            Err(error) => {
                tracing::error!(
                    event = "update-trouble",
                    "update: the databases cannot be copied, so the old release goes on: {error}"
                );
                self.fail(Phase::WaitingIdle, Reason::Disk);
            }
        }
    }

    /// One step, if it is time for it.
    fn go_on(&self, record: &Record, patience: &mut Patience, runtime: &tokio::runtime::Runtime) {
        match record.phase {
            Phase::Offered => {
                patience.begin();
                // What may lie there is of another release.
                self.forget_files();
                let _ = self.happened(Phase::Offered, Happened::Begun);
            }
            Phase::Downloading => self.download(record, patience, runtime),
            Phase::Verifying => self.verify(record),
            Phase::Installing => self.install(record, patience),
            Phase::WaitingIdle => self.wait(record, patience, runtime),
            Phase::Returning => self.come_back(record, patience),
            Phase::Trial => drop(self.happened(Phase::Trial, Happened::Looking)),
            Phase::Confirming => self.look(record, patience, runtime),
            _ => {}
        }
    }

    fn download(&self, record: &Record, patience: &mut Patience, runtime: &tokio::runtime::Runtime) {
        if patience.retry.is_early() {
            return;
        }
        let settings = self.updates.config();
        let room = || self.room(record);
        let limits = Limits { bytes_s: settings.bandwidth_kb_s * 1000, room: &room };
        let tls = settings.tls.as_ref();
        let done = runtime.block_on(async {
            for file in self.files(record) {
                fetch(file.wanted, &file.path, &limits, tls).await?;
            }
            Ok(())
        });
        let reason = match done {
            Ok(()) => {
                patience.attempts = 0;
                return drop(self.happened(Phase::Downloading, Happened::Fetched));
            }
            Err(error) => {
                tracing::warn!("update: release {} is not fetched yet: {error}", record.version);
                match error {
                    FetchError::Later(_) => Reason::Download,
                    FetchError::Wrong(_) => Reason::Content,
                    FetchError::NoRoom => Reason::NoRoom,
                    FetchError::Disk(_) => Reason::Disk,
                }
            }
        };
        if patience.failed() >= if reason == Reason::Content { WRONG_MAX } else { ATTEMPTS_MAX } {
            self.fail(Phase::Downloading, reason);
        }
    }

    /// Bytes that a download may still take: not what the journal keeps free, nor what the second copy of the release
    /// and the copies to go back to will take.
    fn room(&self, record: &Record) -> u64 {
        let releases = self.updates.releases();
        let copies = if record.is_held() { slots::bytes_before(&self.config.gateway.data) } else { 0 };
        let kept = (self.config.journal.free_min_mb << 20) + record.length + copies;
        journal::free_bytes(releases).saturating_sub(kept)
    }

    /// What was fetched, into the slot; and asked what it is.
    fn verify(&self, record: &Record) {
        for File { wanted, path, sha256 } in self.files(record) {
            match digest(&path) {
                Ok((found, length)) if found == sha256 && length == wanted.length => {}
                Ok(_) => {
                    tracing::warn!("update: what was fetched is not what the manifest names");
                    let _ = std::fs::remove_file(&path);
                    return match record.wrong + 1 >= WRONG_MAX {
                        true => self.fail(Phase::Verifying, Reason::Content),
                        false => drop(self.happened(Phase::Verifying, Happened::Wrong)),
                    };
                }
                Err(error) => {
                    tracing::warn!("update: {}: {error}", path.display());
                    return self.fail(Phase::Verifying, Reason::Disk);
                }
            }
        }
        let releases = self.updates.releases();
        // An operating system alone comes with the release that runs.
        let file = match record.url.is_empty() {
            true => slots::program(releases, record.slot.other()),
            false => self.file(),
        };
        if let Err(error) = slots::unpack(releases, record.slot, &file, record.version) {
            tracing::warn!("update: slot {}: {error}", record.slot.name());
            return self.fail(Phase::Verifying, Reason::Disk);
        }
        match ask(&slots::program(releases, record.slot)) {
            Ok(about) if !record.url.is_empty() && about.version != record.version.to_string() => {
                tracing::warn!("update: what was fetched as release {} is another", record.version);
                self.fail(Phase::Verifying, Reason::DoesNotRun);
            }
            Ok(about)
                if (Schemas { journal: about.journal_schema, fleet: about.fleet_schema }) == record.new_schemas =>
            {
                tracing::info!("update: release {} lies ready", record.version);
                // Not before that is written: without the file it could not be verified again.
                if self.happened(Phase::Verifying, Happened::Unpacked).is_some() {
                    let _ = std::fs::remove_file(self.file());
                }
            }
            Ok(_) => {
                tracing::warn!("update: the release gives its databases another shape than its manifest says");
                self.fail(Phase::Verifying, Reason::DoesNotRun);
            }
            Err(why) => {
                tracing::warn!("update: the release does not run on this box: {why}");
                self.fail(Phase::Verifying, Reason::DoesNotRun);
            }
        }
    }

    /// Notes what works, waits for an idle bench, and then has the gateway stop.
    fn wait(&self, record: &Record, patience: &mut Patience, runtime: &tokio::runtime::Runtime) {
        let now = Instant::now();
        let Some((_, worked)) = patience.worked.as_ref().filter(|(at, _)| now.duration_since(*at) < WORKED_MAX) else {
            let found = runtime.block_on(gate::look(&self.config));
            let missing = gate::missing(&found, &[]);
            if !missing.is_empty() {
                // A gate that is shut to the release that runs says nothing of the next one.
                tracing::warn!("update: the release that runs does not pass the gate: {}", missing.join("; "));
                return self.fail(Phase::WaitingIdle, Reason::Gate);
            }
            patience.worked = Some((Instant::now(), gate::worked(&found)));
            return;
        };
        let worked = worked.clone();
        if let Some(is_idle) = self.may_disturb(patience)
            && self.is_still_old(record, patience)
            && self.updates.note(worked).is_ok()
        {
            tracing::info!(is_idle, "update: the gateway stops for the new release");
            self.stop();
        }
    }

    /// The bench is idle, or was waited for long enough: whether it is.
    pub(super) fn may_disturb(&self, patience: &mut Patience) -> Option<bool> {
        let now = Instant::now();
        let since = *patience.waits_since.get_or_insert(now);
        let settings = self.updates.config();
        let is_over = now.duration_since(since) >= Duration::from_secs(settings.wait_max_min * 60);
        let is_idle = patience.bench.is_idle(self.seen()?, Duration::from_secs(settings.quiet_s), now);
        (is_idle || is_over).then_some(is_idle)
    }

    /// The gateway stops, and what comes next happens when it has.
    pub(super) fn stop(&self) {
        self.switches.store(true, Ordering::Relaxed);
        stop_gateway();
    }

    /// The gateway says how its links are.
    pub(super) fn gateway_runs(&self) -> bool {
        matches!(control::request(&self.config.gateway.data, &Request::Health), Ok(Response::Health(_)))
    }

    /// What comes in and goes out; none while the gateway does not say.
    fn seen(&self) -> Option<Seen> {
        let data = &self.config.gateway.data;
        let Ok(Response::Health(health)) = control::request(data, &Request::Health) else { return None };
        let health: Vec<LinkHealth> = serde_json::from_value(health).ok()?;
        let account = Reader::open(data, &self.config.journal).ok()?.account().ok()?;
        Some(Seen { parts: health.iter().map(|link| link.parts).sum(), account })
    }

    /// The new release looks whether results flow, until they do or its time is over.
    fn look(&self, record: &Record, patience: &mut Patience, runtime: &tokio::runtime::Runtime) {
        if patience.retry.is_early() {
            return;
        }
        let Err(missing) = self.pass(record, runtime) else {
            // That has marked the operating system good.
            patience.has_vouched |= record.system.is_some();
            return;
        };
        if patience.retry.is_news(&missing) {
            tracing::warn!("update: not yet: {missing}");
        }
        patience.retry.pause(GATE_PAUSE);
        if self.is_time_over(record) {
            tracing::error!(
                event = "update-reverted",
                "update: release {} does not pass the gate; the old one is put back",
                record.version
            );
            self.fail(Phase::Confirming, Reason::Gate);
            self.stop();
        }
    }

    fn is_time_over(&self, record: &Record) -> bool {
        self.started.elapsed() >= Duration::from_secs(record.trial_s).mul_f64(OWN_SHARE)
    }

    /// The record as it is now; none where it cannot be written, of which the log was told.
    pub(super) fn happened(&self, phase: Phase, what: Happened) -> Option<Record> {
        let record = self.updates.happened(phase, what).ok().flatten();
        if record.as_ref().is_some_and(|record| record.phase.is_final()) {
            self.tidy();
        }
        record
    }

    pub(super) fn fail(&self, phase: Phase, reason: Reason) {
        if self.happened(phase, Happened::Failed(reason)).is_some() {
            tracing::warn!("update: given up: {}", reason.word());
        }
    }

    fn file(&self) -> PathBuf {
        self.updates.releases().join(DOWNLOAD)
    }

    /// Where the bundle of an operating system is fetched to.
    pub(super) fn bundle(&self) -> PathBuf {
        self.updates.releases().join(BUNDLE)
    }

    /// What is fetched.
    fn files<'r>(&self, record: &'r Record) -> Vec<File<'r>> {
        let release = (!record.url.is_empty()).then(|| File {
            wanted: Wanted { url: &record.url, length: record.length },
            path: self.file(),
            sha256: &record.sha256,
        });
        let system = record.system.as_ref().map(|system| File {
            wanted: Wanted { url: &system.url, length: system.length },
            path: self.bundle(),
            sha256: &system.sha256,
        });
        release.into_iter().chain(system).collect()
    }

    fn forget_files(&self) {
        for file in [self.file(), self.bundle()] {
            let _ = std::fs::remove_file(file);
        }
    }

    /// What an update that has ended leaves lying about; of the copies of databases nothing may stay longer than it
    /// must.
    fn tidy(&self) {
        self.forget_files();
        if let Err(error) = slots::forget_before(self.updates.releases()) {
            tracing::warn!("update: copies of databases cannot be removed: {error}");
        }
    }
}

/// What comes in and goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    parts: u64,
    account: Account,
}

/// Whether anything moves on the bench.
#[derive(Debug, Default)]
struct Bench {
    last: Option<Seen>,
    since: Option<Instant>,
}

impl Bench {
    fn is_idle(&mut self, seen: Seen, quiet: Duration, now: Instant) -> bool {
        if self.last.as_ref() != Some(&seen) {
            (self.last, self.since) = (Some(seen), Some(now));
        }
        self.since.is_some_and(|since| now.duration_since(since) >= quiet)
    }
}

/// Asks a release what it is.
fn ask(release: &Path) -> Result<About, String> {
    let said = program::answer(Command::new(release).args(["update", "about", "--json"]), ANSWER_TIMEOUT)?;
    serde_json::from_slice(&said).map_err(|_| "it does not say what it is".to_string())
}

/// The gateway stops in order, as if the service manager had asked.
fn stop_gateway() {
    // SAFETY: a signal to this very process.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGTERM);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Version;
    use super::super::record::tests::{record, with_system};
    use super::super::system::{LOOKS_MAX, Next};
    use super::*;

    /// A station whose record is this, in a folder of its own.
    fn station(record: &Record) -> (Station, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let settings = super::super::Config { releases: dir.path().to_path_buf(), ..Default::default() };
        let updates = Updates { config: settings, data: dir.path().join("data"), version: Version(1, 0, 0) };
        slots::write(updates.releases(), record).unwrap();
        (Station { updates, config: Arc::default(), switches: Arc::default(), started: Instant::now() }, dir)
    }

    #[test]
    fn a_box_is_not_restarted_where_that_cannot_be_noted() {
        let held = |record: Record| Record { new_schemas: Schemas { journal: 99, ..record.new_schemas }, ..record };
        for (record, next) in [
            (with_system(Phase::Rebooting), Next::Start),
            (with_system(Phase::Returning), Next::Start),
            // What came in would be missing from the copies to go back to.
            (held(with_system(Phase::Rebooting)), Next::End),
            (held(with_system(Phase::Returning)), Next::Start),
        ] {
            let (station, dir) = station(&record);
            // No file can take its place.
            std::fs::create_dir(dir.path().join("update.new")).unwrap();
            assert_eq!(station.restart(&record), next, "{:?}", record.phase);
            assert_eq!(station.updates.record(), Some(record));
        }
    }

    #[test]
    fn an_rauc_that_stays_busy_ends_the_update() {
        let (station, _dir) = station(&with_system(Phase::Installing));
        let mut patience = Patience::new();
        for _ in 1..LOOKS_MAX {
            station.waits(Phase::Installing, "busy", &mut patience);
        }
        assert_eq!(station.updates.record().map(|record| record.phase), Some(Phase::Installing));
        assert!(patience.retry.is_early());
        station.waits(Phase::Installing, "busy", &mut patience);
        let record = station.updates.record().unwrap();
        assert_eq!((record.phase, record.reason), (Phase::Returning, Some(Reason::Install)));
    }

    #[test]
    fn what_fails_is_tried_ever_more_seldom_and_told_of_when_it_is_for_another_reason() {
        let mut retry = Retry::new();
        assert!(!retry.is_early());
        let mut pause = || {
            let began = Instant::now();
            retry.failed();
            retry.not_before.unwrap().duration_since(began)
        };
        let pauses: Vec<Duration> = (0..20).map(|_| pause()).collect();
        assert!(pauses[0] <= 2 * RETRY_MIN && pauses[19] >= RETRY_MAX / 2 && pauses[19] <= 2 * RETRY_MAX, "{pauses:?}");
        assert!(retry.is_early());
        let told = ["a", "a", "b", "a"].map(|why| retry.is_news(why));
        assert_eq!(told, [true, false, true, true]);
    }

    #[test]
    fn what_was_fetched_goes_when_the_update_ends() {
        for (begun, end) in [
            (record(Phase::Downloading), Happened::Failed(Reason::Download)),
            (with_system(Phase::Returning), Happened::Returned),
            (record(Phase::Confirming), Happened::Confirmed),
        ] {
            let (station, _dir) = station(&begun);
            std::fs::write(station.file(), "a release").unwrap();
            std::fs::write(station.bundle(), "an operating system").unwrap();
            let _ = station.happened(Phase::Staged, Happened::Told);
            assert!(station.file().exists() && station.bundle().exists(), "it is under way");
            assert!(station.happened(begun.phase, end).unwrap().phase.is_final());
            assert!(!station.file().exists() && !station.bundle().exists(), "{end:?}");
        }
    }

    #[test]
    fn a_bench_is_idle_when_nothing_has_moved_for_a_while() {
        let (began, quiet) = (Instant::now(), Duration::from_secs(60));
        let at = |s| began + Duration::from_secs(s);
        let seen = |parts, delivered| Seen { parts, account: Account { delivered, ..Account::default() } };
        let mut bench = Bench::default();
        assert!(!bench.is_idle(seen(1, 0), quiet, at(0)));
        assert!(!bench.is_idle(seen(1, 0), quiet, at(59)));
        assert!(!bench.is_idle(seen(2, 0), quiet, at(60)), "something came in");
        assert!(!bench.is_idle(seen(2, 4), quiet, at(119)), "something went out");
        assert!(!bench.is_idle(seen(2, 4), quiet, at(178)));
        assert!(bench.is_idle(seen(2, 4), quiet, at(179)));
    }
}
