//! What the status of a C-STORE response means for its object (PS3.7 annex C, PS3.4 B.2.3), as a table.
//!
//! Some archives answer 0110 while their own database is away: that waits like an outage, and is the object's own fault
//! only when others get through in between.

use std::ops::RangeInclusive;

use crate::delivery::Outcome;

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The peer has it.
    Stored,
    /// The peer has an object of this UID.
    There,
    /// Not now, and perhaps because of this object.
    Later,
    /// It is the peer that does not want us, not this object: everything waits.
    Unwanted,
    /// A few tries, then a person.
    Doubted,
}

use Meaning::{Doubted, Later, Stored, There, Unwanted};

/// The first line that holds a status says what it means; one in no line is doubted.
const MEANINGS: [(RangeInclusive<u16>, Meaning, &str); 22] = [
    (0x0000..=0x0000, Stored, "stored"),
    (0x0001..=0x0001, Stored, "with a warning"),
    (0x0105..=0x0106, Doubted, "no such attribute, or an invalid value"),
    (0x0107..=0x0107, Stored, "with a warning"),
    (0x0110..=0x0110, Later, "processing failure"),
    (0x0111..=0x0111, There, "already there"),
    (0x0112..=0x0112, Doubted, "no such instance"),
    (0x0116..=0x0116, Stored, "with a warning"),
    (0x0117..=0x0117, Doubted, "invalid instance UID"),
    (0x0118..=0x0119, Doubted, "SOP class and instance do not go together"),
    (0x0120..=0x0121, Doubted, "an attribute or its value is missing"),
    (0x0122..=0x0122, Doubted, "SOP class not supported"),
    (0x0124..=0x0124, Unwanted, "not authorised"),
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
        Unwanted => Outcome::unreachable(told),
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
    use crate::delivery::Scope;

    #[test]
    fn a_status_says_whether_the_object_is_stored_whether_to_wait_or_to_ask_a_person() {
        for stored in [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007] {
            assert!(matches!(outcome(Some(stored), false), Outcome::Delivered { .. }), "{stored:04X}");
        }
        for later in [0xA700, 0xA701, 0xA7FF, 0x0213, 0x0110, 0xFE00] {
            let said = outcome(Some(later), false);
            assert!(matches!(said, Outcome::Retry { scope: Scope::Unclear, .. }), "{later:04X}");
        }
        for doubted in [0xA900, 0xC000, 0xCFFF, 0x0122, 0x0117, 0xFF00, 0x1234] {
            assert!(matches!(outcome(Some(doubted), false), Outcome::Doubted { .. }), "{doubted:04X}");
        }
        let unwanted = outcome(Some(0x0124), false);
        assert!(matches!(unwanted, Outcome::Retry { scope: Scope::Destination, .. }), "nothing is lost by it");
        assert!(matches!(outcome(None, false), Outcome::Retry { .. }));
    }

    #[test]
    fn i4_who_has_the_other_image_of_a_uid_has_not_got_this_one() {
        for stored in [0x0000, 0xB000] {
            assert!(matches!(outcome(Some(stored), true), Outcome::Delivered { .. }), "{stored:04X}");
        }
        assert!(matches!(outcome(Some(0x0111), true), Outcome::Refused { .. }));
    }
}
