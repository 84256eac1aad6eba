//! Acknowledgments: MSH, MSA and ERR in the sender's own version, delimiters and charset.

use super::msh::Msh;

/// Version stated when the message stated none; every receiver reads it.
const VERSION_DEFAULT: &[u8] = b"2.3";

/// What is wrong with a message, for ERR (HL7 v2 chapter 2.14.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Segment, sequence and field of the error, in the order of ERR-2; empty when the whole message is meant.
    pub location: &'static [&'static str],
    /// Code of table 0357.
    pub code: &'static str,
    /// The table's own words for the code.
    pub meaning: &'static str,
    /// What a person needs to know. Never a peer's bytes.
    pub text: &'static str,
}

/// The unframed answer to the message with this header.
///
/// `code` is an MSA-1 value, `control_id` our MSH-10 (at most 20 characters), `time` our MSH-7. MSH-10 of the message
/// is echoed byte for byte in MSA-2.
pub fn acknowledgment(msh: &Msh<'_>, code: &str, fault: Option<&Fault>, control_id: &str, time: &str) -> Vec<u8> {
    let version = msh.version().unwrap_or((2, 3));
    let mut out = Segments { bytes: Vec::with_capacity(256), separator: msh.field_separator };
    out.header(msh, version, control_id, time);
    let told = fault.map_or("", |fault| fault.text);
    // MSA-3 is where a text goes before ERR-8 exists.
    let text: &[u8] = if version < (2, 5) { told.as_bytes() } else { b"" };
    out.segment(&[b"MSA", code.as_bytes(), msh.field(10), text]);
    if let Some(fault) = fault {
        out.error(msh, version, fault);
    }
    out.bytes
}

struct Segments {
    bytes: Vec<u8>,
    separator: u8,
}

impl Segments {
    fn header(&mut self, msh: &Msh<'_>, version: (u32, u32), control_id: &str, time: &str) {
        let component = msh.component_separator();
        let trigger = msh.component(9, 2);
        let kind = if version >= (2, 4) && !trigger.is_empty() {
            join(&[b"ACK", trigger, b"ACK"], component)
        } else {
            b"ACK".to_vec()
        };
        let version = if msh.field(12).is_empty() { VERSION_DEFAULT } else { msh.field(12) };
        let [from, from_facility, to, to_facility] = [5, 6, 3, 4].map(|n| msh.field(n));
        let fields: [&[u8]; 18] = [
            b"MSH",
            msh.encoding_characters(),
            from,
            from_facility,
            to,
            to_facility,
            time.as_bytes(),
            b"",
            &kind,
            control_id.as_bytes(),
            msh.field(11),
            version,
            b"",
            b"",
            b"",
            b"",
            b"",
            msh.field(18),
        ];
        self.segment(&fields);
    }

    fn error(&mut self, msh: &Msh<'_>, version: (u32, u32), fault: &Fault) {
        let component = msh.component_separator();
        let mut place: Vec<&[u8]> = fault.location.iter().map(|part| part.as_bytes()).collect();
        let coded = [fault.code.as_bytes(), fault.meaning.as_bytes(), b"HL70357"];
        if version < (2, 5) {
            // ERR-1 is segment, sequence, field and the coded error, one component each.
            let coded = join(&coded, msh.subcomponent_separator());
            place.resize(3, b"");
            place.push(&coded);
            self.segment(&[b"ERR", &join(&place, component)]);
        } else {
            let coded = join(&coded, component);
            self.segment(&[b"ERR", b"", &join(&place, component), &coded, b"E", b"", b"", b"", fault.text.as_bytes()]);
        }
    }

    /// Adds a segment without its trailing empty fields.
    fn segment(&mut self, fields: &[&[u8]]) {
        let used = fields.iter().rposition(|field| !field.is_empty()).map_or(0, |at| at + 1);
        self.bytes.extend(join(fields.get(..used).unwrap_or_default(), self.separator));
        self.bytes.push(super::CR);
    }
}

fn join(parts: &[&[u8]], separator: u8) -> Vec<u8> {
    parts.join(&separator)
}
