//! Programs that are asked something and answer soon.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Lines of a complaint that are passed on.
const COMPLAINTS_MAX: usize = 3;
/// Longest answer that is read, in bytes: no more than a pipe holds.
const ANSWER_MAX: u64 = 32 << 10;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the program prints, once it has ended well.
///
/// # Errors
/// In words: it cannot be started, takes longer, or ends otherwise, with the last lines of what it complained of.
pub fn answer(command: &mut Command, timeout: Duration) -> Result<Vec<u8>, String> {
    let mut child = ended_well(command.stdout(Stdio::piped()), timeout)?;
    Ok(child.stdout.take().map(all).unwrap_or_default())
}

/// The same, whatever it prints.
///
/// # Errors
/// As [`answer`].
pub fn run(command: &mut Command, timeout: Duration) -> Result<(), String> {
    ended_well(command.stdout(Stdio::null()), timeout).map(drop)
}

fn ended_well(command: &mut Command, timeout: Duration) -> Result<Child, String> {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    let began = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if began.elapsed() > timeout => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer within {} s", timeout.as_secs()));
            }
            None => std::thread::sleep(LOOK_EVERY),
        }
    };
    if status.success() {
        return Ok(child);
    }
    let said = child.stderr.take().map(all).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(format!("it ended with {status}: {}", lines[lines.len().saturating_sub(COMPLAINTS_MAX)..].join("; ")))
}

/// What is in the pipe. A child of the child may hold it open and is not waited for.
fn all(pipe: impl Read + std::os::fd::AsRawFd) -> Vec<u8> {
    // SAFETY: the descriptor is open, and a pipe that is ours alone to read.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    let mut said = Vec::new();
    let _ = pipe.take(ANSWER_MAX).read_to_end(&mut said);
    said
}
