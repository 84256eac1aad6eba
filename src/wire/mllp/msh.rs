//! The header segment at byte level: enough to answer a message, whatever its charset and however odd the rest.

/// Separator and encoding characters when a message does not say (HL7 v2 chapter 2.5.4).
const ENCODING_DEFAULT: &[u8; 4] = b"^~\\&";

/// The MSH segment of a message.
#[derive(Clone, Copy)]
pub struct Msh<'a> {
    /// MSH-1.
    pub field_separator: u8,
    /// The segment from its `MSH`, without its end.
    segment: &'a [u8],
}

/// Finds the header: `MSH` and a separator, after an optional byte order mark and blank lines. `None` for anything else.
pub fn msh(message: &[u8]) -> Option<Msh<'_>> {
    let message = message.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(message);
    let message = message.trim_ascii_start();
    let separator = *message.strip_prefix(b"MSH")?.first()?;
    if !separator.is_ascii_punctuation() {
        return None;
    }
    let end = message.iter().position(|&b| b == b'\r' || b == b'\n').unwrap_or(message.len());
    Some(Msh { field_separator: separator, segment: message.get(..end)? })
}

/// MSA-1 and MSA-2 of an answer; `None` for a message that is none.
pub(super) fn msa(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let separator = msh(answer)?.field_separator;
    let segment = answer.split(|&b| b == b'\r' || b == b'\n').find(|segment| segment.starts_with(b"MSA"))?;
    let mut fields = segment.split(|&b| b == separator).skip(1);
    Some((fields.next()?, fields.next()?))
}

impl<'a> Msh<'a> {
    /// Field `n` as the standard counts: MSH-1 is the separator itself. Empty when the message has no such field.
    pub fn field(&self, n: usize) -> &'a [u8] {
        match n {
            0 => b"MSH",
            1 => self.segment.get(3..4).unwrap_or_default(),
            _ => self.segment.split(|&b| b == self.field_separator).nth(n - 1).unwrap_or_default(),
        }
    }

    /// Component `n` (from 1) of the first repetition of a field.
    pub fn component(&self, field: usize, n: usize) -> &'a [u8] {
        let first = self.field(field).split(|&b| b == self.repetition_separator()).next().unwrap_or_default();
        first.split(|&b| b == self.component_separator()).nth(n.saturating_sub(1)).unwrap_or_default()
    }

    /// MSH-2, or the usual characters when it is empty. May have a fifth, the truncation character of HL7 2.7.
    pub fn encoding_characters(&self) -> &'a [u8] {
        match self.field(2) {
            [] => ENCODING_DEFAULT,
            characters => characters,
        }
    }

    /// The first encoding character.
    pub fn component_separator(&self) -> u8 {
        self.encoding(0)
    }

    /// The second encoding character.
    pub fn repetition_separator(&self) -> u8 {
        self.encoding(1)
    }

    /// The fourth encoding character.
    pub fn subcomponent_separator(&self) -> u8 {
        self.encoding(3)
    }

    /// MSH-12 as numbers, `(2, 5)` for `2.5.1`; `None` when it is not a version.
    pub fn version(&self) -> Option<(u32, u32)> {
        let text = std::str::from_utf8(self.component(12, 1)).ok()?;
        let mut parts = text.trim().split('.').map(|part| part.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??))
    }

    /// The segment from its `MSH`, without its end.
    pub fn segment(&self) -> &'a [u8] {
        self.segment
    }

    fn encoding(&self, at: usize) -> u8 {
        let usual = ENCODING_DEFAULT.get(at).copied().unwrap_or(b'^');
        self.field(2).get(at).copied().unwrap_or(usual)
    }
}
