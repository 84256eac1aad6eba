//! What an HL7 acknowledgement means for the message that was sent: a pure table.
//!
//! HL7 2.5.1 chapter 2.9.3: MSA-1 is the code, MSA-2 the control id of the message it answers. Only an answer whose
//! MSA-2 is the control id we wait for says anything about our message. Everything is read as bytes, in the answer's
//! own delimiters, so no character set can make an answer unreadable.
//!
//! | MSA-1 | error condition | verdict |
//! |---|---|---|
//! | AA | | accepted |
//! | CA | | accepted, unless our MSH-16 asked for an application answer: then wait for it |
//! | AE AR CE CR | 100..=103, 200..=203 | rejected for good: these bytes will never fit |
//! | AE AR CE CR | any other (204 unknown key, 206 locked, 207 internal) or none | rejected for now |
//! | anything else | | no answer: drop the connection |
//!
//! AE and AR are used loosely in the field ("temporarily unable" comes as either), which is why the error condition
//! decides and not the letter.

/// Error conditions of HL7 table 0357 that say the message itself is wrong: sequence, required field, data type, table
/// value, and unsupported message type, event, processing id and version.
const PERMANENT_CONDITIONS: [u16; 8] = [100, 101, 102, 103, 200, 201, 202, 203];

/// Segments of an acknowledgement that are looked at. A longer one is not an acknowledgement.
const SEGMENTS_MAX: usize = 1000;

/// What is known of a message that waits for its acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    control_id: Vec<u8>,
    wants_application_ack: bool,
}

/// The acknowledgement codes of HL7 table 0008.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Application accept.
    AA,
    /// Application error.
    AE,
    /// Application reject.
    AR,
    /// Commit accept.
    CA,
    /// Commit error.
    CE,
    /// Commit reject.
    CR,
}

/// What an answer says about the message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has the message.
    Accepted(Code),
    /// The receiver has stored the message and will say later what it made of it.
    Committed,
    /// The receiver does not take the message.
    Rejected {
        /// How it said so.
        code: Code,
        /// The error condition (ERR-3, ERR-1 before 2.5, or MSA-6), when there is a numeric one.
        condition: Option<u16>,
        /// True when the same bytes would be rejected again.
        permanent: bool,
    },
    /// This says nothing about our message. The connection it came on cannot be trusted any more.
    NotAnAnswer(&'static str),
}

impl Sent {
    /// Takes down what matters of an unframed message: `control_id` is its MSH-10, as stored beside it.
    pub fn new(control_id: &str, message: &[u8]) -> Self {
        let application = Segments::of(message).and_then(|s| s.header(16).map(trim)).unwrap_or_default();
        Sent { control_id: control_id.as_bytes().to_vec(), wants_application_ack: matches!(application, b"AL" | b"SU") }
    }

    /// Says what `answer` (one deframed message) means for this message. Total: any bytes have a verdict.
    pub fn judge(&self, answer: &[u8]) -> Verdict {
        let Some(segments) = Segments::of(answer) else { return Verdict::NotAnAnswer("the answer is not HL7") };
        if segments.list.iter().skip(1).any(|s| s.starts_with(b"MSH")) {
            return Verdict::NotAnAnswer("two messages in one frame");
        }
        let mut acknowledgements = segments.named(b"MSA");
        let Some(msa) = acknowledgements.next() else { return Verdict::NotAnAnswer("the answer has no MSA") };
        if acknowledgements.next().is_some() {
            return Verdict::NotAnAnswer("the answer has two MSA");
        }
        let Some(code) = Code::read(trim(segments.field(msa, 1))) else {
            return Verdict::NotAnAnswer("MSA-1 is not an acknowledgement code");
        };
        let answered = trim(segments.field(msa, 2));
        // A receiver that could not read our message cannot name it. One message is in flight on a connection, so a
        // rejection without a name is ours; an acceptance without a name is credited to nobody.
        let nameless_rejection = answered.is_empty() && !matches!(code, Code::AA | Code::CA);
        if !nameless_rejection && answered != self.control_id {
            return Verdict::NotAnAnswer(if answered.is_empty() {
                "MSA-2 is empty"
            } else {
                "MSA-2 names another message"
            });
        }
        match code {
            Code::CA if self.wants_application_ack => Verdict::Committed,
            Code::AA | Code::CA => Verdict::Accepted(code),
            Code::AE | Code::AR | Code::CE | Code::CR => {
                let conditions = segments.conditions(msa);
                let permanent = conditions.iter().copied().find(|c| PERMANENT_CONDITIONS.contains(c));
                let condition = permanent.or(conditions.first().copied());
                Verdict::Rejected { code, condition, permanent: permanent.is_some() }
            }
        }
    }
}

impl Code {
    fn read(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"AA" => Code::AA,
            b"AE" => Code::AE,
            b"AR" => Code::AR,
            b"CA" => Code::CA,
            b"CE" => Code::CE,
            b"CR" => Code::CR,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// The segments of one message and its delimiters.
struct Segments<'a> {
    list: Vec<&'a [u8]>,
    field_separator: u8,
    component_separator: u8,
    repetition_separator: u8,
    subcomponent_separator: u8,
}

impl<'a> Segments<'a> {
    /// Splits at CR, LF or both; a byte-order mark and blank lines are passed over. `None` when it is not HL7.
    fn of(message: &'a [u8]) -> Option<Self> {
        let message = message.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(message);
        let lines = message.split(|b| matches!(b, b'\r' | b'\n')).filter(|l| !trim(l).is_empty());
        let list: Vec<&[u8]> = lines.take(SEGMENTS_MAX + 1).collect();
        let header = list.first().filter(|h| h.starts_with(b"MSH") && list.len() <= SEGMENTS_MAX)?;
        let field_separator = *header.get(3)?;
        let encoding = header.get(4..)?.split(|&b| b == field_separator).next()?;
        let separator = |at: usize, default: u8| encoding.get(at).copied().unwrap_or(default);
        Some(Segments {
            field_separator,
            component_separator: separator(0, b'^'),
            repetition_separator: separator(1, b'~'),
            subcomponent_separator: separator(3, b'&'),
            list,
        })
    }

    fn named(&self, name: &'static [u8; 3]) -> impl Iterator<Item = &'a [u8]> + use<'a, '_> {
        let ends = move |s: &&[u8]| s.get(3).is_none_or(|b| *b == self.field_separator);
        self.list.iter().copied().filter(move |s| s.starts_with(name) && ends(s))
    }

    /// Field `n` of a segment other than MSH, 1-based; empty when it is absent.
    fn field(&self, segment: &'a [u8], n: usize) -> &'a [u8] {
        segment.split(|&b| b == self.field_separator).nth(n).unwrap_or_default()
    }

    /// Field `n` of the MSH, where MSH-1 is the separator itself.
    fn header(&self, n: usize) -> Option<&'a [u8]> {
        self.list.first()?.split(|&b| b == self.field_separator).nth(n.checked_sub(1)?)
    }

    /// Component `n` (1-based), its first subcomponent.
    fn component(&self, field: &'a [u8], n: usize) -> &'a [u8] {
        let component = field.split(|&b| b == self.component_separator).nth(n.wrapping_sub(1)).unwrap_or_default();
        component.split(|&b| b == self.subcomponent_separator).next().unwrap_or_default()
    }

    /// The error conditions the answer gives, errors only: ERR-3 (2.5 and later); else ERR-1, whose fourth component
    /// is the code (before 2.5); else MSA-6 (2.2 to 2.4). Severities W and I (ERR-4) are not errors.
    fn conditions(&self, msa: &'a [u8]) -> Vec<u16> {
        let mut found = Vec::new();
        for err in self.named(b"ERR") {
            if matches!(trim(self.field(err, 4)), b"W" | b"I") {
                continue;
            }
            let current = condition(self.component(self.field(err, 3), 1));
            let repetitions = self.field(err, 1).split(|&b| b == self.repetition_separator);
            let old = repetitions.filter_map(|r| condition(self.component(r, 4)));
            match current {
                Some(code) => found.push(code),
                None => found.extend(old),
            }
        }
        if found.is_empty() {
            found.extend(condition(self.component(self.field(msa, 6), 1)));
        }
        found
    }
}

/// A condition of table 0357 is three digits. Anything else may be a peer's free text and is not taken.
fn condition(text: &[u8]) -> Option<u16> {
    let text = trim(text);
    if text.len() != 3 {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "A1B2C3D4E5F6G7H8I9J0";
    const HEAD: &str = "MSH|^~\\&|EHR|HOSP|GW|LAB|20260101||ACK|1|P|2.5.1\r";

    fn sent() -> Sent {
        Sent::new(ID, b"MSH|^~\\&|GW|LAB|EHR|HOSP|20260101||ORU^R01|A1B2C3D4E5F6G7H8I9J0|P|2.5.1\rOBR|1\r")
    }

    fn judge(tail: &str) -> Verdict {
        sent().judge(format!("{HEAD}{tail}").as_bytes())
    }

    fn rejected(code: Code, condition: Option<u16>, permanent: bool) -> Verdict {
        Verdict::Rejected { code, condition, permanent }
    }

    #[test]
    fn only_an_answer_that_names_our_message_is_credited() {
        assert_eq!(judge(&format!("MSA|AA|{ID}\r")), Verdict::Accepted(Code::AA));
        assert_eq!(judge(&format!("MSA|AA| {ID} |fine\r")), Verdict::Accepted(Code::AA));
        assert_eq!(judge("MSA|AA|ANOTHER\r"), Verdict::NotAnAnswer("MSA-2 names another message"));
        assert_eq!(judge(&format!("MSA|AA|{ID}0\r")), Verdict::NotAnAnswer("MSA-2 names another message"));
        assert_eq!(judge("MSA|AA|\r"), Verdict::NotAnAnswer("MSA-2 is empty"));
        assert_eq!(judge("MSA|AA\r"), Verdict::NotAnAnswer("MSA-2 is empty"));
        assert_eq!(judge("MSA|AE|ANOTHER\r"), Verdict::NotAnAnswer("MSA-2 names another message"));
    }

    #[test]
    fn blank_and_garbled_answers_are_no_answers() {
        assert_eq!(sent().judge(b""), Verdict::NotAnAnswer("the answer is not HL7"));
        assert_eq!(sent().judge(b"MSH"), Verdict::NotAnAnswer("the answer is not HL7"));
        assert_eq!(sent().judge(b"<html>"), Verdict::NotAnAnswer("the answer is not HL7"));
        assert_eq!(judge(""), Verdict::NotAnAnswer("the answer has no MSA"));
        assert_eq!(judge("MSA\r"), Verdict::NotAnAnswer("MSA-1 is not an acknowledgement code"));
        assert_eq!(judge(&format!("MSA||{ID}\r")), Verdict::NotAnAnswer("MSA-1 is not an acknowledgement code"));
        assert_eq!(judge(&format!("MSA|OK|{ID}\r")), Verdict::NotAnAnswer("MSA-1 is not an acknowledgement code"));
        assert_eq!(judge(&format!("MSAX|AA|{ID}\r")), Verdict::NotAnAnswer("the answer has no MSA"));
        let twice = format!("MSA|AA|{ID}\rMSA|AE|{ID}\r");
        assert_eq!(judge(&twice), Verdict::NotAnAnswer("the answer has two MSA"));
        let glued = format!("MSA|AA|{ID}\r{HEAD}");
        assert_eq!(judge(&glued), Verdict::NotAnAnswer("two messages in one frame"));
    }

    #[test]
    fn the_error_condition_decides_whether_a_rejection_is_for_good() {
        for (text, code) in [("AE", Code::AE), ("AR", Code::AR), ("CE", Code::CE), ("CR", Code::CR)] {
            let with = |err: &str| judge(&format!("MSA|{text}|{ID}|said why\r{err}"));
            assert_eq!(with(""), rejected(code, None, false));
            for c in PERMANENT_CONDITIONS {
                assert_eq!(with(&format!("ERR||PID^1^3|{c}^Why^HL70357|E\r")), rejected(code, Some(c), true));
            }
            for c in [204, 205, 206, 207] {
                assert_eq!(with(&format!("ERR|||{c}|E\r")), rejected(code, Some(c), false));
            }
            assert_eq!(with("ERR|||bad patient DOE^JANE|E\r"), rejected(code, None, false));
        }
    }

    #[test]
    fn every_err_segment_counts_and_warnings_do_not() {
        let two = format!("MSA|AE|{ID}\rERR|||207|E\rERR|||101|E\r");
        assert_eq!(judge(&two), rejected(Code::AE, Some(101), true));
        let warned = format!("MSA|AE|{ID}\rERR|||101|W\rERR|||207|E\r");
        assert_eq!(judge(&warned), rejected(Code::AE, Some(207), false));
    }

    #[test]
    fn the_condition_of_old_versions_is_found_in_err_1_and_msa_6() {
        let err_1 = format!("MSA|AR|{ID}\rERR|PID^1^3^101&Required field missing&HL70357\r");
        assert_eq!(judge(&err_1), rejected(Code::AR, Some(101), true));
        let repeated = format!("MSA|AE|{ID}\rERR|PID^1^3^207~OBX^2^5^102\r");
        assert_eq!(judge(&repeated), rejected(Code::AE, Some(102), true));
        let msa_6 = format!("MSA|AR|{ID}|no|||203^Unsupported version^HL70357\r");
        assert_eq!(judge(&msa_6), rejected(Code::AR, Some(203), true));
    }

    #[test]
    fn a_rejection_without_a_name_is_ours_but_an_acceptance_is_nobodys() {
        assert_eq!(judge("MSA|AR|\rERR||MSH^1^10|101|E\r"), rejected(Code::AR, Some(101), true));
        assert_eq!(judge("MSA|CA|\r"), Verdict::NotAnAnswer("MSA-2 is empty"));
    }

    #[test]
    fn a_commit_is_final_unless_an_application_answer_was_asked_for() {
        assert_eq!(judge(&format!("MSA|CA|{ID}\r")), Verdict::Accepted(Code::CA));
        let ask = |how: &str| {
            let message = format!("MSH|^~\\&|GW|LAB|EHR|HOSP|2026||ORU^R01|{ID}|P|2.5.1|||AL|{how}\r");
            Sent::new(ID, message.as_bytes()).judge(format!("{HEAD}MSA|CA|{ID}\r").as_bytes())
        };
        assert_eq!(ask("AL"), Verdict::Committed);
        assert_eq!(ask("SU"), Verdict::Committed);
        assert_eq!(ask("NE"), Verdict::Accepted(Code::CA));
        assert_eq!(ask("ER"), Verdict::Accepted(Code::CA));
    }

    #[test]
    fn the_answers_own_delimiters_and_line_ends_are_used() {
        let odd = format!("\u{feff}MSH$%~\\!$EHR\r\n\r\nMSA$AE${ID}\r\nERR$$$102%why\r\n");
        assert_eq!(sent().judge(odd.as_bytes()), rejected(Code::AE, Some(102), true));
        let mut latin = format!("{HEAD}MSA|AA|{ID}|").into_bytes();
        latin.extend([0xFC, 0xFF, b'\r']);
        assert_eq!(sent().judge(&latin), Verdict::Accepted(Code::AA));
    }

    proptest! {
        #[test]
        fn i13_no_bytes_without_our_control_id_are_ever_an_acceptance(
            answer in proptest::collection::vec(any::<u8>(), 0..300),
            framed in any::<bool>(),
        ) {
            let answer = if framed { [HEAD.as_bytes(), b"MSA|AA|", &answer].concat() } else { answer };
            let names_us = answer.windows(ID.len()).any(|w| w == ID.as_bytes());
            let accepted = matches!(sent().judge(&answer), Verdict::Accepted(_) | Verdict::Committed);
            prop_assert!(!accepted || names_us);
        }
    }
}
