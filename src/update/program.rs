//! Programs that are asked something and answer soon.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Lines of either output that are passed on when it fails.
const LINES_MAX: usize = 3;
/// Longest answer that is read, in bytes: no more than a pipe holds.
const ANSWER_MAX: u64 = 32 << 10;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the program prints, once it has ended well.
///
/// # Errors
/// In words: it cannot be started, takes longer, or ends otherwise, with the last lines of what it said.
pub fn answer(command: &mut Command, timeout: Duration) -> Result<Vec<u8>, String> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
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
    let said = child.stdout.take().map(all).unwrap_or_default();
    if status.success() {
        return Ok(said);
    }
    let complained = child.stderr.take().map(all).unwrap_or_default();
    let last = |said: &[u8]| {
        let said = String::from_utf8_lossy(said);
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(LINES_MAX)..].join("; ")
    };
    Err(format!("it ended with {status}: {}; {}", last(&said), last(&complained)))
}

/// What is in the pipe. A child of the child may hold it open and is not waited for.
fn all(pipe: impl Read + std::os::fd::AsRawFd) -> Vec<u8> {
    // SAFETY: the descriptor is open, and a pipe that is ours alone to read.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    let mut said = Vec::new();
    let _ = pipe.take(ANSWER_MAX).read_to_end(&mut said);
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Vec<u8>, String> {
        answer(Command::new("/bin/sh").args(["-c", script]), Duration::from_secs(1))
    }

    #[test]
    fn a_program_says_what_it_says_or_why_it_does_not() {
        assert_eq!(shell("echo yes").unwrap(), b"yes\n");
        let why = shell("seq 9; echo because >&2; exit 3").unwrap_err();
        assert_eq!(why, "it ended with exit status: 3: 7; 8; 9; because");
        assert_eq!(shell("sleep 9").unwrap_err(), "no answer within 1 s");
        // What it has left behind is not waited for.
        assert_eq!(shell("sleep 9 & echo yes").unwrap(), b"yes\n");
        assert!(answer(&mut Command::new("/nowhere"), Duration::from_secs(1)).is_err());
    }
}
