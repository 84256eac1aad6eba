//! Standard error that nobody waits for: whoever reads the log may stall (a journal that hangs, a pipe that is full), and
//! no result waits for that (invariant I12). What is not taken at once is lost and counted, and the count is said, once,
//! before the next line that is taken. One event is one line, whatever is in its text.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};

/// Longest line, in bytes; of a longer one the beginning is written.
pub const LINE_MAX: usize = 64 << 10;

/// Where lines go, and how it is said that some were lost.
pub struct Stderr<F = io::Stderr> {
    stream: F,
    notice: fn(u64) -> String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The end of a line whose beginning was taken.
    rest: Vec<u8>,
    /// Lines lost since that was said last.
    lost: u64,
}

impl<F: AsFd> Stderr<F> {
    /// `notice` makes a line that says how many were lost.
    pub fn new(stream: F, notice: fn(u64) -> String) -> Self {
        Stderr { stream, notice, state: Mutex::default() }
    }

    /// Writes a line, or loses it. Never waits for the reader.
    pub fn line(&self, text: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { rest, lost } = &mut *state;
        self.offer(rest);
        if rest.is_empty() && *lost > 0 {
            let notice = whole((self.notice)(*lost).as_bytes());
            *rest = notice.clone();
            self.offer(rest);
            match rest.len() == notice.len() {
                true => rest.clear(),
                false => *lost = 0,
            }
        }
        // While lines are lost, or the end of one is still to be written, others would come out of their order.
        if !rest.is_empty() || *lost > 0 {
            *lost += 1;
            return;
        }
        let line = whole(text);
        *rest = line.clone();
        self.offer(rest);
        if rest.len() == line.len() {
            rest.clear();
            *lost += 1;
        }
    }

    /// How many lines were lost, for whoever says it elsewhere; from now on they are not counted here.
    pub fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).lost)
    }

    /// They could not be told of elsewhere.
    pub fn give_back(&self, lost: u64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).lost += lost;
    }

    /// Hands over as much as is taken without waiting; what is left stays. Where nobody will ever read, nothing is left.
    fn offer(&self, bytes: &mut Vec<u8>) {
        let stream = self.stream.as_fd().as_raw_fd();
        let mut done = 0;
        while done < bytes.len() {
            let left = &bytes[done..];
            match send(stream, left) {
                Ok(taken) => done += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_gone(&error) => done = bytes.len(),
                // It may be taken later (a pipe that is full, a disk that is): what is lost until then is counted.
                Err(_) => break,
            }
        }
        bytes.drain(..done);
    }
}

impl<F: AsFd> io::Write for &Stderr<F> {
    /// One event, as `tracing-subscriber` writes it: at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.line(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Nobody reads, and nobody ever will.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN | libc::EBADF))
}

/// The text as one line with its end.
fn whole(text: &[u8]) -> Vec<u8> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = &text[..text.len().min(LINE_MAX)];
    let mut line = one_line(&String::from_utf8_lossy(text)).into_owned().into_bytes();
    line.push(b'\n');
    line
}

/// A line break in what somebody else said must not begin a line of the log.
fn one_line(text: &str) -> Cow<'_, str> {
    match text.contains(['\n', '\r']) {
        true => Cow::Owned(text.replace('\n', "\\n").replace('\r', "\\r")),
        false => Cow::Borrowed(text),
    }
}

/// Hands over without waiting. The stream's own flags are shared with other programs and stay as they are.
fn send(stream: i32, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are of a slice that lives as long as the call.
    let sent =
        unsafe { libc::send(stream, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    if let Ok(sent) = usize::try_from(sent) {
        return Ok(sent);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ENOTSOCK) {
        return Err(error);
    }
    // A pipe that can be written to has room for so much (pipe(7)); a file always has.
    let mut ready = libc::pollfd { fd: stream, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one structure, which lives as long as the call.
    match unsafe { libc::poll(&raw mut ready, 1, 0) } {
        0 => return Err(io::ErrorKind::WouldBlock.into()),
        count if count < 0 => return Err(io::Error::last_os_error()),
        _ => {}
    }
    let length = bytes.len().min(libc::PIPE_BUF);
    // SAFETY: as above.
    let written = unsafe { libc::write(stream, bytes.as_ptr().cast(), length) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, Read};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    fn notice(lost: u64) -> String {
        format!("{lost} lost")
    }

    /// The two streams that a service may be given, and their other ends.
    fn streams() -> [(OwnedFd, Box<dyn Read + Send>); 2] {
        let ((reader, writer), (ours, theirs)) = (std::io::pipe().unwrap(), UnixStream::pair().unwrap());
        let reader: PipeReader = reader;
        [(writer.into(), Box::new(reader)), (ours.into(), Box::new(theirs))]
    }

    #[test]
    fn i12_nobody_waits_for_a_reader_that_stalls_and_what_is_lost_is_said_once() {
        for (stream, mut reader) in streams() {
            let stderr = Stderr::new(stream, notice);
            // Far more than any of them holds.
            let lines = 20_000_u64;
            let line = |number: u64| format!("{number:06} {}", "x".repeat(usize::try_from(number % 300).unwrap()));
            (0..lines).for_each(|number| stderr.line(line(number).as_bytes()));
            let lost = stderr.state.lock().unwrap().lost;
            assert!(lost > 1000, "{lost}");
            // It reads on, and is told how many are missing.
            let (told, heard) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let mut bytes = vec![0; 1 << 20];
                while let Ok(length @ 1..) = reader.read(&mut bytes) {
                    told.send(bytes[..length].to_vec()).unwrap();
                }
            });
            let (mut text, mut last) = (Vec::new(), 0);
            while !String::from_utf8_lossy(&text).contains("\nlast") {
                stderr.line(b"last");
                last += 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
                heard.try_iter().for_each(|bytes| text.extend(bytes));
            }
            let untold = stderr.take_lost();
            drop(stderr);
            heard.iter().for_each(|bytes| text.extend(bytes));
            let text = String::from_utf8(text).unwrap();
            let is_notice = |line: &&str| line.ends_with(" lost");
            for (number, taken) in text.lines().take_while(|line| !is_notice(line)).enumerate() {
                assert_eq!(taken, line(number as u64), "whole, and in order");
            }
            let said = text.lines().filter(is_notice).map(|line| line.split(' ').next().unwrap());
            let said: u64 = said.map(|count| count.parse::<u64>().unwrap()).sum();
            let taken = text.lines().filter(|line| !is_notice(line)).count() as u64;
            assert_eq!(taken + said + untold, lines + last, "each is there or counted, once");
        }
    }

    #[test]
    fn an_event_is_one_line_and_a_reader_that_is_gone_is_no_trouble() {
        for (stream, mut reader) in streams() {
            let stderr = Stderr::new(stream, notice);
            stderr.line(b"<4>said: a\n<0>not a line of ours\r\n");
            stderr.line(&vec![b'y'; 2 * LINE_MAX]);
            let mut bytes = vec![0; 1 << 20];
            let mut text = String::new();
            while text.lines().count() < 2 || !text.ends_with('\n') {
                // What did not fit follows with the next line.
                stderr.line(b"z");
                let length = reader.read(&mut bytes).unwrap();
                text += &String::from_utf8_lossy(&bytes[..length]);
            }
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], "<4>said: a\\n<0>not a line of ours\\r");
            assert_eq!(lines[1], "y".repeat(LINE_MAX));
            drop(reader);
            (0..1000).for_each(|_| stderr.line(b"to nobody"));
            assert_eq!(stderr.take_lost(), 0);
        }
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_counted() {
        let stderr = Stderr::new(std::fs::File::options().write(true).open("/dev/full").unwrap(), notice);
        (0..7).for_each(|_| stderr.line(b"a line"));
        assert_eq!(stderr.take_lost(), 7);
    }
}
