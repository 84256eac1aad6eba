//! The station's part for the operating system: to install it beside the one that runs, to get to it and back. Which one
//! runs only RAUC can say, and it is asked each time.

use super::rauc::{self, InstallError, Mark, Which};
use super::record::{Happened, Phase, Reason, Record, System};
use super::station::{Patience, Station};
use super::{program, slots};
use crate::journal::crash;
use std::process::Command;
use std::time::{Duration, Instant};

/// Attempts of one run of the program to install, before an update is given up.
const INSTALLS_MAX: u32 = 3;
/// Between two looks while RAUC is at work for somebody else or does not answer, or the old operating system is waited
/// for.
const PAUSE: Duration = Duration::from_secs(10);
/// Such looks before an update is given up: an hour, in which whatever RAUC does has ended.
pub(super) const LOOKS_MAX: u32 = 360;
/// When the box starts RAUC may come up later than this program. What is on trial runs only under the system it came
/// with, so that much is waited; where the old release runs either way, results do not wait for RAUC.
const RAUC_PATIENCE: Duration = Duration::from_secs(30);
const RAUC_GLANCE: Duration = Duration::from_secs(2);
const RAUC_PAUSE: Duration = Duration::from_secs(1);
/// The command that restarts the box has done so within this time, or will not.
const RESTART_TIMEOUT: Duration = Duration::from_secs(60);

/// What comes after [`Station::settle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// What was to be started.
    Start,
    /// Nothing: this program ends, and the service manager starts the launcher.
    End,
}

/// Which operating system runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    Old,
    New,
}

impl Station {
    /// Before anything is started: whether the operating system is the one that the update has come to.
    ///
    /// # Errors
    /// A release on trial does not run under the operating system it came with; the launcher counts the start, or puts
    /// the old release back.
    pub fn settle(&self) -> Result<Next, String> {
        let Some(mut record) = self.updates.record() else { return Ok(Next::Start) };
        let Some(system) = record.system.clone() else { return Ok(Next::Start) };
        let Some(patience) = patience_in(record.phase) else { return Ok(Next::Start) };
        let runs = ask(&system, patience).inspect_err(|why| tracing::warn!("update: {why}")).ok();
        if matches!(record.phase, Phase::Installing | Phase::WaitingIdle) && runs == Some(Runs::New) {
            tracing::warn!("update: the box started with the new operating system before it was to");
            self.fail(record.phase, Reason::Boot);
            record = self.updates.record().unwrap_or(record);
        }
        match (record.phase, runs) {
            (Phase::Rebooting, Some(Runs::New)) => {
                tracing::info!("update: operating system {} runs, on trial", system.version);
                let noted = self.happened(Phase::Rebooting, Happened::Booted);
                if noted.is_none_or(|noted| noted.phase == Phase::Rebooting) {
                    // A trial that nobody counts would have no end.
                    tracing::error!(
                        event = "update-reverted",
                        "update: the box goes back to its old operating system: the trial cannot be noted"
                    );
                    self.turn(Phase::Returning);
                    return Ok(unnoted(&record));
                }
                Ok(Next::End)
            }
            (Phase::Rebooting, _) | (Phase::Returning, Some(Runs::New)) => Ok(self.restart(&record)),
            (Phase::Returning, Some(Runs::Old)) => {
                self.try_return(&system);
                Ok(Next::Start)
            }
            (phase, Some(Runs::Old)) if phase.is_on_trial() => {
                self.fail(phase, Reason::Boot);
                Err("the box runs the old operating system again".to_string())
            }
            (phase, None) if phase.is_on_trial() => Err("RAUC does not say what runs".to_string()),
            _ => Ok(Next::Start),
        }
    }

    /// Restarts the box with the operating system that is to run next, [`super::record::REBOOTS_MAX`] times at most:
    /// then an update is given up, and a way back is left to a person, while results flow.
    pub(super) fn restart(&self, record: &Record) -> Next {
        let restarts = |record: &Record| record.system.as_ref().map(|system| system.reboots);
        let Some(noted) = self.happened(record.phase, Happened::Restarts) else {
            tracing::error!(
                event = "update-trouble",
                "update: the box is not restarted, as that cannot be noted in the folder of releases"
            );
            return unnoted(record);
        };
        if restarts(&noted) == restarts(record) {
            match (record.phase, &record.system) {
                (Phase::Rebooting, Some(system)) => {
                    self.fail(Phase::Rebooting, Reason::Boot);
                    self.try_return(system);
                }
                _ => tracing::error!(
                    event = "update-trouble",
                    "update: restart this box by hand, so that its old operating system comes back"
                ),
            }
            return Next::Start;
        }
        self.turn(record.phase);
        Next::End
    }

    /// Restarts the box with the other operating system; when it returns that did not come to be.
    fn turn(&self, phase: Phase) {
        if let Err(why) = turn_to_other(phase) {
            return tracing::error!(
                event = "update-trouble",
                "update: the other operating system cannot be made the next one: {why}"
            );
        }
        crash::point("system-activated");
        let Some((name, arguments)) = self.updates.config().reboot.split_first() else { return };
        tracing::info!("update: the box restarts");
        // Whoever stops this program now may do so at once.
        // SAFETY: the default takes the place of a handler.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_DFL) };
        match program::answer(Command::new(name).args(arguments), RESTART_TIMEOUT) {
            Ok(_) => std::thread::sleep(RESTART_TIMEOUT),
            Err(why) => tracing::error!(event = "update-trouble", "update: the box cannot be restarted: {name}: {why}"),
        }
    }

    /// The old operating system runs: it is made the next one too, and the new one is not started again.
    fn returned(&self, system: &System) -> Result<(), String> {
        stay(system).map_err(|why| format!("the operating system that runs cannot be kept: {why}"))?;
        self.happened(Phase::Returning, Happened::Returned)
            .map(drop)
            .ok_or("that it is back cannot be noted".to_string())
    }

    /// The same; the thread goes on with what fails.
    fn try_return(&self, system: &System) {
        if let Err(why) = self.returned(system) {
            tracing::error!(event = "update-trouble", "update: {why}");
        }
    }

    /// Has RAUC install, when the bench is idle, until it says that it has.
    pub(super) fn install(&self, record: &Record, patience: &mut Patience) {
        let Some(system) = record.system.as_ref().filter(|_| !patience.retry.is_early()) else { return };
        let status = match rauc::status() {
            Ok(status) => status,
            Err(why) => return self.not_installed(&why, patience),
        };
        if status.booted.bootname != system.from {
            return self.fail(Phase::Installing, Reason::Boot);
        }
        let other = &status.other;
        let is_new = other.is_whole && other.installs > system.installs;
        match (is_new && other.version.as_ref() == Some(&system.version), status.stays) {
            (true, true) => {
                tracing::info!("update: operating system {} is installed in {}", system.version, other.name);
                patience.begin();
                if self.happened(Phase::Installing, Happened::Installed).is_some() {
                    let _ = std::fs::remove_file(self.bundle());
                }
            }
            // Only an idle bench lets the box restart.
            (true, false) => {
                if let Err(why) = keep_booted() {
                    self.not_installed(&why, patience);
                }
            }
            (false, _) => {
                if self.may_disturb(patience).is_none() {
                    return;
                }
                tracing::info!("update: operating system {} is being installed in {}", system.version, other.name);
                match rauc::install(&self.bundle()) {
                    Ok(()) => {
                        crash::point("system-installed");
                        let is_named =
                            rauc::status().is_ok_and(|now| now.other.version.as_ref() == Some(&system.version));
                        if !is_named {
                            let why =
                                "RAUC does not say that version is there: does its system.conf name a statusfile?";
                            self.not_installed(why, patience);
                        }
                    }
                    Err(error @ InstallError::Busy) => self.waits(Phase::Installing, &error.to_string(), patience),
                    Err(error) => self.not_installed(&error.to_string(), patience),
                }
            }
        }
    }

    fn not_installed(&self, why: &str, patience: &mut Patience) {
        tracing::warn!("update: the operating system is not installed yet: {why}");
        if patience.failed() >= INSTALLS_MAX {
            self.fail(Phase::Installing, Reason::Install);
        }
    }

    /// RAUC is waited for, [`LOOKS_MAX`] looks long.
    pub(super) fn waits(&self, phase: Phase, why: &str, patience: &mut Patience) {
        if patience.looks == 0 {
            tracing::warn!("update: RAUC is waited for, {} s at most: {why}", PAUSE.as_secs() * u64::from(LOOKS_MAX));
        }
        patience.looks += 1;
        patience.retry.pause(PAUSE);
        if patience.looks >= LOOKS_MAX {
            self.fail(phase, Reason::Install);
        }
    }

    /// Before the gateway stops for an update: whether the box still runs the operating system that it is to leave.
    pub(super) fn is_still_old(&self, record: &Record, patience: &mut Patience) -> bool {
        let Some(system) = &record.system else { return true };
        if patience.retry.is_early() {
            return false;
        }
        match which(system, rauc::status()) {
            Ok(Runs::Old) => return true,
            Ok(Runs::New) => {
                patience.retry.pause(PAUSE);
                self.fail(Phase::WaitingIdle, Reason::Boot);
            }
            Err(why) => self.waits(Phase::WaitingIdle, &why, patience),
        }
        false
    }

    /// The bootloader takes an attempt from a slot whenever it starts it, and starts the other when none is left: the
    /// slot under which the gateway runs is marked good, once a start of this program. Never while an update changes
    /// which one is to stay. Where there is no RAUC it is asked for ever more seldom.
    pub(super) fn vouch(&self, patience: &mut Patience) {
        let Ok(record) = slots::read(&self.updates.config().releases) else { return };
        let is_open = record.as_ref().is_some_and(|record| record.system.is_some() && !record.may_be_replaced());
        if patience.has_vouched || is_open || patience.vouching.is_early() || !self.gateway_runs() {
            return;
        }
        let Ok(status) = rauc::status_within(RAUC_GLANCE) else { return patience.vouching.failed() };
        if let Err(why) = rauc::mark(Which::Booted, Mark::Good) {
            return patience.vouching.failed_as("the operating system that runs is not marked good yet", &why);
        }
        // The watch tells of it.
        let is_away = record.and_then(|record| record.system).is_some_and(|s| s.from == status.booted.bootname);
        match self.updates.note_away(is_away) {
            Ok(()) => patience.has_vouched = true,
            Err(_) => patience.vouching.failed(),
        }
    }

    /// What could not be done before the gateway started.
    pub(super) fn come_back(&self, record: &Record, patience: &mut Patience) {
        let Some(system) = record.system.as_ref().filter(|_| !patience.retry.is_early()) else { return };
        match which(system, rauc::status()) {
            Ok(Runs::Old) => match self.returned(system) {
                Ok(()) => patience.begin(),
                Err(why) => patience.retry.failed_as("the way back is not at its end", &why),
            },
            Ok(Runs::New) if system.reboots < super::record::REBOOTS_MAX => {
                if self.may_disturb(patience).is_some() {
                    self.stop();
                }
            }
            // A person restarts the box.
            Ok(Runs::New) => patience.retry.failed(),
            Err(why) => patience.retry.failed_as("the way back is not at its end", &why),
        }
    }
}

/// What comes next where nothing can be noted: results flow, but where databases were copied to go back to, as what
/// came in from now on would be missing from the copies.
fn unnoted(record: &Record) -> Next {
    match record.is_held() && record.phase == Phase::Rebooting {
        true => Next::End,
        false => Next::Start,
    }
}

/// How long a start waits for RAUC to say what runs; none where that does not matter.
fn patience_in(phase: Phase) -> Option<Duration> {
    match phase {
        Phase::Rebooting => Some(RAUC_PATIENCE),
        _ if phase.is_on_trial() => Some(RAUC_PATIENCE),
        // The thread asks again.
        Phase::Installing | Phase::WaitingIdle | Phase::Returning => Some(RAUC_GLANCE),
        _ => None,
    }
}

/// Which operating system runs, once RAUC says so, or is waited for no longer.
fn ask(system: &System, patience: Duration) -> Result<Runs, String> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match which(system, rauc::status_within(left)) {
            Err(_) if Instant::now() + RAUC_PAUSE < until => std::thread::sleep(RAUC_PAUSE),
            runs => return runs,
        }
    }
}

fn which(system: &System, said: Result<rauc::Status, String>) -> Result<Runs, String> {
    said.map(|status| if status.booted.bootname == system.from { Runs::Old } else { Runs::New })
}

fn stay(system: &System) -> Result<(), String> {
    let status = rauc::status()?;
    if status.other.installs > system.installs {
        rauc::mark(Which::Other, Mark::Bad)?;
    }
    if status.stays { Ok(()) } else { keep_booted() }
}

fn turn_to_other(phase: Phase) -> Result<(), String> {
    if phase == Phase::Returning {
        rauc::mark(Which::Booted, Mark::Bad)?;
    }
    rauc::mark(Which::Other, Mark::Active)
}

/// The operating system that runs is made the next one, and RAUC says that it is.
fn keep_booted() -> Result<(), String> {
    rauc::mark(Which::Booted, Mark::Active)?;
    match rauc::status()?.stays {
        true => Ok(()),
        false => Err("RAUC says that the bootloader starts another one next".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::record::PHASES;

    #[test]
    fn results_wait_for_rauc_only_where_the_release_depends_on_what_runs() {
        for phase in PHASES {
            let wanted = match phase {
                Phase::Rebooting | Phase::Switching | Phase::Trial | Phase::Confirming => Some(30),
                Phase::Installing | Phase::WaitingIdle | Phase::Returning => Some(2),
                _ => None,
            };
            assert_eq!(patience_in(phase).map(|patience| patience.as_secs()), wanted, "{phase:?}");
        }
    }
}
