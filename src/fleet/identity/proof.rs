//! The proof of a new certificate: the broker lets the box in with it, beside the connection there is, and what the box is
//! told reaches it as before. Pure.
//!
//! The broker knows a box by the common name of its certificate, which is its client id as well: when it lets the second
//! connection in, it ends the first. So the first is given up only once the broker has taken the new certificate, and the
//! session, with all that waits for the box, goes over. The certificate of the first is given up once an echo came, if one
//! came on the first; where no desk answers, once the broker has acknowledged what the box says. Until then the box can
//! always go back, and does.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An echo on the connection there is is waited for so long before a proof begins without one.
const ECHO_BEFORE_MAX: Duration = Duration::from_secs(60);
/// Dialling beside takes no longer.
const DIAL_MAX: Duration = Duration::from_secs(30);
/// Nor does an echo, or an acknowledgement.
const ECHO_MAX: Duration = Duration::from_secs(60);

/// A certificate and key that wait to be proven.
#[derive(Debug)]
pub struct Wanted {
    file: PathBuf,
    since: Instant,
}

impl Wanted {
    /// Those in this file.
    pub fn new(file: PathBuf, now: Instant) -> Wanted {
        Wanted { file, since: now }
    }

    /// The file, when the proof may begin: an echo was answered on the connection there is, or no desk answers any.
    pub fn ready(&self, has_echo: bool, now: Instant) -> Option<&Path> {
        (has_echo || now.saturating_duration_since(self.since) >= ECHO_BEFORE_MAX).then_some(&self.file)
    }
}

/// A proof that is under way. What it is told, it answers with the verdict, once there is one.
#[derive(Debug)]
pub struct Proof {
    wants_echo: bool,
    is_in: bool,
    until: Instant,
}

impl Proof {
    /// Begins by dialling. `had_echo`: an echo was answered on the connection there is.
    pub fn begin(had_echo: bool, now: Instant) -> Proof {
        Proof { wants_echo: had_echo, is_in: false, until: now + DIAL_MAX }
    }

    /// The broker let the box in.
    pub fn let_in(&mut self, now: Instant) {
        (self.is_in, self.until) = (true, now + ECHO_MAX);
    }

    /// True when the connection is that of the new certificate.
    pub fn is_in(&self) -> bool {
        self.is_in
    }

    /// The broker has something that the box said.
    pub fn acknowledged(&self) -> Option<bool> {
        (self.is_in && !self.wants_echo).then_some(true)
    }

    /// An echo was answered.
    pub fn echoed(&self) -> Option<bool> {
        self.is_in.then_some(true)
    }

    /// The connection of the new certificate is gone, or was not made.
    pub fn lost(&self) -> Option<bool> {
        Some(false)
    }

    /// Time goes by.
    pub fn timeout(&self, now: Instant) -> Option<bool> {
        (self.until <= now).then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_wanted_where_one_was_answered_before() {
        let now = Instant::now();
        let wanted = Wanted::new("next.pem".into(), now);
        let file = Path::new("next.pem");
        assert_eq!((wanted.ready(true, now), wanted.ready(false, now)), (Some(file), None));
        assert_eq!(wanted.ready(false, now + ECHO_BEFORE_MAX), Some(file), "there is no desk");
        let mut proof = Proof::begin(true, now);
        assert_eq!((proof.acknowledged(), proof.echoed()), (None, None), "that was the old connection");
        proof.let_in(now);
        assert_eq!((proof.acknowledged(), proof.echoed()), (None, Some(true)));
        assert_eq!((proof.timeout(now), proof.timeout(now + ECHO_MAX)), (None, Some(false)));
        let mut proof = Proof::begin(false, now);
        assert_eq!(proof.acknowledged(), None);
        proof.let_in(now);
        assert_eq!(proof.acknowledged(), Some(true));
        assert_eq!(proof.lost(), Some(false));
    }
}
