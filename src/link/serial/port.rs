//! What the kernel knows of a serial port besides its bytes: the errors it counted, and the handshake lines of the plug.

use serde::{Deserialize, Serialize};
use std::os::fd::AsRawFd;

/// Errors the kernel counted on a port since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineErrors {
    /// Characters without their stop bit: the speed differs, or the line is noisy.
    pub framing: u32,
    /// Characters whose parity bit was wrong; counted only while parity is on.
    pub parity: u32,
    /// Characters that came faster than they were taken.
    pub overrun: u32,
    /// Breaks: the line was held low for longer than a character.
    pub breaks: u32,
}

/// The handshake lines the other side drives. All are low when it has no power, or its plug has three wires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModemLines {
    /// Clear to send.
    pub cts: bool,
    /// Data set ready.
    pub dsr: bool,
    /// Data carrier detect.
    pub dcd: bool,
}

/// `struct serial_icounter_struct` of `linux/serial.h`.
#[repr(C)]
#[derive(Default)]
struct Counted {
    modem_changes: [libc::c_int; 4],
    rx: libc::c_int,
    tx: libc::c_int,
    frame: libc::c_int,
    overrun: libc::c_int,
    parity: libc::c_int,
    breaks: libc::c_int,
    buffer_overrun: libc::c_int,
    reserved: [libc::c_int; 9],
}

impl LineErrors {
    /// What was counted on this port since its driver was loaded; `None` when the port keeps no error counters, as
    /// pseudo terminals and some USB adapters do not.
    pub fn read(port: &impl AsRawFd) -> Option<LineErrors> {
        let mut counted = Counted::default();
        // SAFETY: the descriptor is open as long as `port` is, and the kernel fills in no more than the struct.
        let answer = unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCGICOUNT, &mut counted) };
        (answer == 0).then(|| LineErrors {
            framing: counted.frame.cast_unsigned(),
            parity: counted.parity.cast_unsigned(),
            overrun: counted.overrun.wrapping_add(counted.buffer_overrun).cast_unsigned(),
            breaks: counted.breaks.cast_unsigned(),
        })
    }

    /// What was added since `before`; the kernel's counters wrap around.
    pub fn since(self, before: LineErrors) -> LineErrors {
        LineErrors {
            framing: self.framing.wrapping_sub(before.framing),
            parity: self.parity.wrapping_sub(before.parity),
            overrun: self.overrun.wrapping_sub(before.overrun),
            breaks: self.breaks.wrapping_sub(before.breaks),
        }
    }

    /// Each kind that was counted, in words, with its number.
    pub fn words(self) -> impl Iterator<Item = (&'static str, u32)> {
        let all = [
            ("the kernel counted framing errors", self.framing),
            ("the kernel counted parity errors", self.parity),
            ("the kernel counted overruns", self.overrun),
            ("the kernel counted breaks", self.breaks),
        ];
        all.into_iter().filter(|(_, count)| *count > 0)
    }
}

impl ModemLines {
    /// The lines as they are now; `None` when the port has none, as a pseudo terminal.
    pub fn read(port: &impl AsRawFd) -> Option<ModemLines> {
        let mut lines: libc::c_int = 0;
        // SAFETY: the descriptor is open as long as `port` is, and the kernel writes one integer.
        let answer = unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCMGET, &mut lines) };
        (answer == 0).then_some(ModemLines {
            cts: lines & libc::TIOCM_CTS != 0,
            dsr: lines & libc::TIOCM_DSR != 0,
            dcd: lines & libc::TIOCM_CAR != 0,
        })
    }

    /// True when the other side drives any of them.
    pub fn any(self) -> bool {
        self.cts || self.dsr || self.dcd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_told_from_where_they_stood_even_when_they_wrap() {
        let before = LineErrors { framing: u32::MAX, parity: 4, ..LineErrors::default() };
        let now = LineErrors { framing: 2, parity: 4, ..LineErrors::default() };
        assert_eq!(now.since(before).words().collect::<Vec<_>>(), [("the kernel counted framing errors", 3)]);
    }

    #[test]
    fn a_port_without_counters_and_lines_says_so() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!((LineErrors::read(&file), ModemLines::read(&file)), (None, None));
    }
}
