//! The machine's clock: whether anybody keeps it right.

/// `STA_UNSYNC`: the kernel's clock is not kept by anybody.
const UNSYNCHRONISED: libc::c_int = 0x0040;

/// True while a time server keeps this machine's clock right, as far as the kernel knows.
pub fn is_synchronised() -> bool {
    // SAFETY: a zeroed timex asks for nothing to be changed; the call only fills it in.
    unsafe {
        let mut clock: libc::timex = std::mem::zeroed();
        libc::adjtimex(&mut clock) >= 0 && clock.status & UNSYNCHRONISED == 0
    }
}
