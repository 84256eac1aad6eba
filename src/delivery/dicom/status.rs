//! What the status of a C-STORE response means for its object (PS3.7 annex C, PS3.4 B.2.3), as a table.
//!
//! 0110 says that the peer failed at this object. Some archives answer it while their own database is away as well, so the
//! object is tried again after a long pause, and only so often; the others go on meanwhile. 0124 may be about the sender
//! or about this object: everything waits, until others get through in between.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::delivery::{Outcome, Scope};

/// Between two tries of an object at which the peer failed, so that the tries outlast a morning.
const FAILED_PAUSE: Duration = Duration::from_secs(5 * 60);

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The peer has it.
    Stored,
    /// The peer has an object of this UID.
    There,
    /// Not now, and perhaps because of this object.
    Later,
    /// The peer failed at this object: after a pause again, so many times.
    Failed,
    /// A few tries, then a person.
    Doubted,
}

use Meaning::{Doubted, Failed, Later, Stored, There};

/// The first line that holds a status says what it means; one in no line is doubted.
const MEANINGS: [(RangeInclusive<u16>, Meaning, &str); 22] = [
    (0x0000..=0x0000, Stored, "stored"),
    (0x0001..=0x0001, Stored, "with a warning"),
    (0x0105..=0x0106, Doubted, "no such attribute, or an invalid value"),
    (0x0107..=0x0107, Stored, "with a warning"),
    (0x0110..=0x0110, Failed, "processing failure"),
    (0x0111..=0x0111, There, "already there"),
    (0x0112..=0x0112, Doubted, "no such instance"),
    (0x0116..=0x0116, Stored, "with a warning"),
    (0x0117..=0x0117, Doubted, "invalid instance UID"),
    (0x0118..=0x0119, Doubted, "SOP class and instance do not go together"),
    (0x0120..=0x0121, Doubted, "an attribute or its value is missing"),
    (0x0122..=0x0122, Doubted, "SOP class not supported"),
    (0x0124..=0x0124, Later, "not authorised"),
    (0x0210..=0x0210, Later, "duplicate invocation"),
    (0x0211..=0x0212, Doubted, "unrecognised operation or mistyped argument"),
    (0x0213..=0x0213, Later, "out of resources"),
    (0xA700..=0xA7FF, Later, "out of resources"),
    (0xA900..=0xA9FF, Doubted, "data set does not match SOP class"),
    (0xB000..=0xBFFF, Stored, "with a warning"),
    (0xC000..=0xCFFF, Doubted, "cannot understand"),
    (0xFE00..=0xFE00, Later, "cancelled there"),
    (0x0000..=0xFFFF, Doubted, "refused"),
];

/// The outcome of an attempt that was answered. `conflict`: an earlier object has this UID and other bytes, so a peer
/// that has one already need not have this one.
pub fn outcome(status: Option<u16>, conflict: bool) -> Outcome {
    let Some(status) = status else { return Outcome::unclear("the answer has no status") };
    let line = MEANINGS.iter().find(|(statuses, ..)| statuses.contains(&status));
    let (meaning, text) = line.map_or((Doubted, "refused"), |(_, meaning, text)| (*meaning, *text));
    let told = format!("{status:04X} {text}");
    match meaning {
        Stored => Outcome::Delivered { answer: told },
        There if conflict => other_there(&told),
        There => Outcome::Delivered { answer: told },
        Later => Outcome::unclear(told),
        Failed => Outcome::Retry { reason: told, after: Some(FAILED_PAUSE), scope: Scope::Lane },
        Doubted => Outcome::Doubted { reason: told },
    }
}

/// The peer has an object of this UID, and two that differ came here: whether it has this one is for a person to find out.
pub fn other_there(told: &str) -> Outcome {
    Outcome::Refused {
        reason: format!("{told}, but two images with this SOP Instance UID came here; see which of them the PACS has"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_the_object_is_stored_whether_to_wait_or_to_ask_a_person() {
        for stored in [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007] {
            assert!(matches!(outcome(Some(stored), false), Outcome::Delivered { .. }), "{stored:04X}");
        }
        for doubted in [0xA900, 0xC000, 0xCFFF, 0x0122, 0x0117, 0xFF00, 0x1234] {
            assert!(matches!(outcome(Some(doubted), false), Outcome::Doubted { .. }), "{doubted:04X}");
        }
        assert!(matches!(outcome(None, false), Outcome::Retry { scope: Scope::Unclear, .. }));
    }

    #[test]
    fn no_status_of_one_object_stops_the_destination_for_good() {
        for (status, scope, pause) in [
            (0x0110, Scope::Lane, Some(FAILED_PAUSE)),
            (0x0124, Scope::Unclear, None),
            (0x0210, Scope::Unclear, None),
            (0x0213, Scope::Unclear, None),
            (0xA700, Scope::Unclear, None),
            (0xA701, Scope::Unclear, None),
            (0xA7FF, Scope::Unclear, None),
            (0xFE00, Scope::Unclear, None),
        ] {
            let Outcome::Retry { after, scope: said, .. } = outcome(Some(status), false) else {
                panic!("{status:04X} is not tried again")
            };
            assert_eq!((said, after), (scope, pause), "{status:04X}");
        }
        for status in 0..=u16::MAX {
            let said = outcome(Some(status), false);
            assert!(!matches!(said, Outcome::Retry { scope: Scope::Destination, .. }), "{status:04X}");
        }
    }

    #[test]
    fn i4_who_has_the_other_image_of_a_uid_has_not_got_this_one() {
        for stored in [0x0000, 0xB000] {
            assert!(matches!(outcome(Some(stored), true), Outcome::Delivered { .. }), "{stored:04X}");
        }
        assert!(matches!(outcome(Some(0x0111), true), Outcome::Refused { .. }));
    }
}
