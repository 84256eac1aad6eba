//! What can be wrong with a message of the EHR, in the words of HL7 table 0357.

/// Why something is refused. Holds no bytes of the message (invariant I8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Segment, its sequence among those of its name, and field, for ERR-2; field 0 means the segment.
    pub place: Option<(&'static str, usize, u16)>,
    /// Code of table 0357.
    pub code: &'static str,
    /// The table's own words for it.
    pub meaning: &'static str,
    /// What a person at the EHR needs to know. Also the reason that is counted.
    pub text: &'static str,
    /// True when the message will never be taken (AR), false when it can be sent again once it is right (AE).
    pub is_rejection: bool,
}

const SEQUENCE: (&str, &str) = ("100", "Segment sequence error");
const REQUIRED: (&str, &str) = ("101", "Required field missing");
const DATA_TYPE: (&str, &str) = ("102", "Data type error");
const TABLE_VALUE: (&str, &str) = ("103", "Table value not found");
const MESSAGE_TYPE: (&str, &str) = ("200", "Unsupported message type");
const EVENT: (&str, &str) = ("201", "Unsupported event code");
const PROCESSING_ID: (&str, &str) = ("202", "Unsupported processing id");
const UNKNOWN_KEY: (&str, &str) = ("204", "Unknown key identifier");
const DUPLICATE_KEY: (&str, &str) = ("205", "Duplicate key identifier");
const LOCKED: (&str, &str) = ("206", "Application record locked");

fn new(
    place: Option<(&'static str, usize, u16)>,
    (code, meaning): (&'static str, &'static str),
    text: &'static str,
) -> Fault {
    Fault { place, code, meaning, text, is_rejection: false }
}

fn rejection(
    place: Option<(&'static str, usize, u16)>,
    what: (&'static str, &'static str),
    text: &'static str,
) -> Fault {
    Fault { is_rejection: true, ..new(place, what, text) }
}

/// A required segment (field 0) or field is not there.
pub fn missing(segment: &'static str, sequence: usize, field: u16) -> Fault {
    let text = match (segment, field) {
        ("ORC", 0) => "there is no ORC: an order needs one",
        ("ORC", 1) => "ORC-1 is empty: what is to be done with the order is not said",
        ("ORC", _) => "ORC-2 and OBR-2 are empty: an order needs the placer's number",
        ("OBR", 0) => "there is no OBR: an order needs one",
        ("OBR", _) => "OBR-4 has no code: what is ordered is not said",
        ("SPM", 0) => "there is no SPM before the order: OML^O33 orders tests on a specimen",
        ("SPM", _) => "SPM-2 and SAC-3 are empty: OML^O33 orders tests on a specimen",
        ("PID", 0) => "there is no PID: whose order it is is not said",
        ("PID", _) => "PID-3 is empty: whose order it is is not said",
        ("MRG", 0) => "there is no MRG: which patient id goes is not said",
        _ => "MRG-1 is empty: which patient id goes is not said",
    };
    new(Some((segment, sequence, field)), if field == 0 { SEQUENCE } else { REQUIRED }, text)
}

/// Not exactly one message in the frame.
pub fn not_one_message() -> Fault {
    rejection(None, SEQUENCE, "there is not exactly one message in the frame")
}

/// Its structure could not be proven.
pub fn unreadable() -> Fault {
    rejection(None, SEQUENCE, "the message could not be read whole: a segment is damaged")
}

/// Bytes that are no text.
pub fn charset() -> Fault {
    rejection(Some(("MSH", 1, 18)), TABLE_VALUE, "the message holds bytes that are no text in its character set")
}

/// MSH-11 is T or D.
pub fn training() -> Fault {
    rejection(Some(("MSH", 1, 11)), PROCESSING_ID, "training and debugging messages are not taken")
}

/// Not a message this listener reads.
pub fn unknown_type() -> Fault {
    rejection(Some(("MSH", 1, 9)), MESSAGE_TYPE, "only OML, ORM and ADT messages are taken here")
}

/// Not an event this listener reads.
pub fn unknown_event() -> Fault {
    rejection(Some(("MSH", 1, 9)), EVENT, "this event is not taken here")
}

/// More orders than one message may hold.
pub fn too_many() -> Fault {
    rejection(None, SEQUENCE, "the message holds too many orders")
}

/// Orders behind a second PID.
pub fn second_patient() -> Fault {
    rejection(Some(("PID", 2, 0)), SEQUENCE, "there are orders behind a second PID: whose they are is not certain")
}

/// ORC-1 is not one that is carried out.
pub fn unknown_control(sequence: usize) -> Fault {
    new(Some(("ORC", sequence, 1)), TABLE_VALUE, "this order control code is not carried out here")
}

/// ORC-2 and OBR-2 are not the same.
pub fn numbers_differ(sequence: usize) -> Fault {
    new(Some(("OBR", sequence, 2)), DATA_TYPE, "OBR-2 is not the number in ORC-2")
}

/// There is no such order to change or cancel.
pub fn unknown_order(sequence: usize) -> Fault {
    new(Some(("ORC", sequence, 2)), UNKNOWN_KEY, "there is no order under this number")
}

/// The number stands for another order.
pub fn duplicate_order(sequence: usize) -> Fault {
    new(Some(("ORC", sequence, 2)), DUPLICATE_KEY, "another order has this number")
}

/// It is too late to change or cancel it.
pub fn too_late(sequence: usize) -> Fault {
    new(Some(("ORC", sequence, 2)), LOCKED, "its results went out already, or it was taken back before")
}
