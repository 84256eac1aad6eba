//! `afferent-launcher RELEASES ARGUMENT...`: starts the release that is to run, with these arguments, and nothing else.
//!
//! It is what the service manager starts. Most of the time it becomes the program at once (exec). While a release is on
//! trial it stays beside it: it counts the starts, ends it when its time is over, and puts the old release back; then
//! it ends as the program did and is started again. It holds nothing but the standard library and the files of the
//! record, so that there is little in it that could ever have to be updated; it never is together with a release.
//!
//! The release finds in its environment `AFFERENT_RELEASES`, the folder, and `AFFERENT_RELEASE`, its version. Where the
//! record cannot be written the confirmed release runs without the folder, and so changes nothing of the update.

// Its parts are tested in the library, where they live.
#![cfg(not(test))]

#[path = "journal/crash.rs"]
mod crash;
#[allow(dead_code)]
#[path = "update/record.rs"]
mod record;
#[allow(dead_code)]
#[path = "update/slots.rs"]
mod slots;

use slots::Start;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at the release on trial.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// `prctl`: the signal this process gets when its parent ends.
const PR_SET_PDEATHSIG: i32 = 1;

/// Somebody wants us to stop.
static STOP: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    fn kill(process: i32, number: i32) -> i32;
    fn prctl(option: i32, argument: u64, third: u64, fourth: u64, fifth: u64) -> i32;
}

extern "C" fn stop(_: i32) {
    STOP.store(true, Ordering::Relaxed);
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(releases) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: afferent-launcher RELEASES ARGUMENT...");
        return ExitCode::from(2);
    };
    let arguments: Vec<OsString> = arguments.collect();
    match run(&releases, &arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("afferent-launcher: {}: {error}", releases.display());
            ExitCode::FAILURE
        }
    }
}

fn run(releases: &Path, arguments: &[OsString]) -> io::Result<ExitCode> {
    let start = slots::begin(releases)?;
    let mut command = Command::new(&start.program);
    command.args(arguments).env("AFFERENT_RELEASES", releases);
    if let Some(why) = &start.stuck {
        eprintln!(
            "afferent-launcher: {}: the update stands still, and the confirmed release runs, as nothing can be noted \
             there: {why}. Make room or mend the disk, and restart the service",
            releases.display()
        );
        command.env_remove("AFFERENT_RELEASES");
    }
    command.env("AFFERENT_RELEASE", start.version.map(|version| version.to_string()).unwrap_or_default());
    let Some(trial_s) = start.trial_s else { return Err(command.exec()) };
    match watch(command, &start, trial_s) {
        Ok(Some(status)) => Ok(ended_as(status)),
        // Its time was over, and it is gone: the next start puts the old one back, if it did not confirm at the last
        // moment.
        Ok(None) => {
            slots::time_is_over(releases)?;
            Ok(ExitCode::FAILURE)
        }
        // A program that cannot even be started has used up one start.
        Err(error) => Err(error),
    }
}

/// Runs a release on trial until it ends, or its time is over and it is killed: then `None`. One that is confirmed runs
/// as long as it likes. One that is told to stop and does not is left to the service manager, which kills both.
fn watch(mut command: Command, start: &Start, trial_s: u64) -> io::Result<Option<ExitStatus>> {
    let releases = start.program.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    // SAFETY: the handler only sets a flag; `prctl` is safe between fork and exec.
    unsafe {
        signal(SIGTERM, stop as *const () as usize);
        signal(SIGINT, stop as *const () as usize);
        command.pre_exec(|| {
            prctl(PR_SET_PDEATHSIG, SIGKILL as u64, 0, 0, 0);
            Ok(())
        });
    }
    // The word that the service manager waits for is the release's, which is not the process that it started.
    let mut child = command.env_remove("WATCHDOG_PID").spawn()?;
    let until = Instant::now() + Duration::from_secs(trial_s);
    let (mut is_told, mut is_confirmed) = (false, false);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if STOP.load(Ordering::Relaxed) && !is_told {
            is_told = true;
            tell(&child);
        }
        if !is_confirmed && Instant::now() >= until {
            is_confirmed = slots::read(releases)?.is_none_or(|record| !record.phase.is_on_trial());
            if !is_confirmed {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn tell(child: &Child) {
    // SAFETY: a signal to a child that has not been waited for; its number cannot be anybody else's.
    unsafe {
        kill(child.id() as i32, SIGTERM);
    }
}

fn ended_as(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
