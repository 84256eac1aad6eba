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
    let kind = [b"ACK", msh.component(9, 2), b"ACK"];
    let mut answer = Answer::begin(msh, &kind, code, control_id, time, fault.map_or("", |fault| fault.text));
    if let Some(fault) = fault {
        let place: Vec<&[u8]> = fault.location.iter().map(|part| part.as_bytes()).collect();
        answer.error(msh, &place, (fault.code, fault.meaning), fault.text);
    }
    answer.finish()
}

/// An answer being written: MSH and MSA first, ERR after them, then whatever the kind of answer holds.
pub struct Answer {
    bytes: Vec<u8>,
    separator: u8,
    version: (u32, u32),
    has_error: bool,
}

impl Answer {
    /// MSH and MSA. `kind` is MSH-9; what `text` says goes to MSA-3 where ERR-8 does not exist yet (before 2.5).
    pub fn begin(msh: &Msh<'_>, kind: &[&[u8]; 3], code: &str, control_id: &str, time: &str, text: &str) -> Answer {
        let version = msh.version().unwrap_or((2, 3));
        let bytes = Vec::with_capacity(256);
        let mut answer = Answer { bytes, separator: msh.field_separator, version, has_error: false };
        answer.header(msh, kind, control_id, time);
        let text: &[u8] = if version < (2, 5) { text.as_bytes() } else { b"" };
        answer.segment(&[b"MSA", code.as_bytes(), msh.field(10), text]);
        answer
    }

    /// The whole answer, unframed.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn header(&mut self, msh: &Msh<'_>, kind: &[&[u8]; 3], control_id: &str, time: &str) {
        let component = msh.component_separator();
        // Plain below 2.4, where MSH-9.3 is new and an ACK has no event; an answer with a meaning of its own keeps it.
        let kind = match kind {
            [b"ACK", event, _] if self.version < (2, 4) || event.is_empty() => b"ACK".to_vec(),
            [name, event, _] if self.version < (2, 4) => join(&[name, event], component),
            whole => join(whole.as_slice(), component),
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

    /// Adds an ERR: where (segment, sequence, field), which code of table 0357 and its words, and what to know. Below
    /// 2.5 there is one at most.
    pub fn error(&mut self, msh: &Msh<'_>, place: &[&[u8]], (code, meaning): (&str, &str), text: &str) {
        let component = msh.component_separator();
        let coded: [&[u8]; 3] = [code.as_bytes(), meaning.as_bytes(), b"HL70357"];
        if self.version >= (2, 5) {
            let coded = join(&coded, component);
            return self.segment(&[b"ERR", b"", &join(place, component), &coded, b"E", b"", b"", b"", text.as_bytes()]);
        }
        if !std::mem::replace(&mut self.has_error, true) {
            // ERR-1 is segment, sequence, field and the coded error, one component each.
            let coded = join(&coded, msh.subcomponent_separator());
            let mut place = place.to_vec();
            place.resize(3, b"");
            place.push(&coded);
            self.segment(&[b"ERR", &join(&place, component)]);
        }
    }

    /// Adds a segment of the message as it came.
    pub fn echo(&mut self, segment: &[u8]) {
        self.bytes.extend(segment);
        self.bytes.push(super::CR);
    }

    /// Adds a segment without its trailing empty fields.
    pub fn segment(&mut self, fields: &[&[u8]]) {
        let used = fields.iter().rposition(|field| !field.is_empty()).map_or(0, |at| at + 1);
        self.bytes.extend(join(fields.get(..used).unwrap_or_default(), self.separator));
        self.bytes.push(super::CR);
    }
}

fn join(parts: &[&[u8]], separator: u8) -> Vec<u8> {
    parts.join(&separator)
}
