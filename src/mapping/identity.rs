//! The names under which an EHR finds a result again.
//!
//! A correction has to replace what it corrects and nothing else. So every outgoing thing has a name made only from
//! what a correction has in common with its first report: gateway, link, specimen, the instrument's test code and which
//! of several results with that code it is. Never from the value, the status, the message or the mapping to LOINC.
//!
//! Specimen numbers come round again at some sites. What tells two uses of one number apart, as far as the instrument
//! says it, is part of the name: the patient and the day of collection. Where no specimen is named (point of care), the
//! time of measurement stands in for it; there a correction replaces only a result of that same time.
//!
//! Names are UUIDs (version 5, RFC 9562): they hold no patient data, so they may stand in URLs and logs.

use super::{Origin, Outgoing};
use crate::clinical::{Order, Report};
use crate::wire::hex;
use ring::digest;

/// Crockford's alphabet: no letter that is mistaken for a digit when a person reads an id aloud.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// RFC 9562 name space for URIs; ours start with the gateway's URI.
const NAMESPACE_URL: [u8; 16] =
    [0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8];
/// Hexadecimal digits of a derived filler order number: 80 bits, and EI is at most 22 characters up to HL7 2.5.1.
const FILLER_CHARS: usize = 20;

/// Characters that tell a result from others of the same code in OBX-4, which has 20 up to HL7 2.6: 40 bits.
pub(super) const SUB_ID_CHARS: usize = 8;

/// Names for one report.
pub(super) struct Identity {
    /// URI of this gateway; what it names stands below it.
    gateway: String,
    link: String,
    /// What the results are of.
    subject: Vec<String>,
    /// What was asked for.
    order: Vec<String>,
    specimen: String,
    device: String,
}

impl Identity {
    /// Names below `gateway_system`, or below `urn:afferent:<gateway>` when it is empty, for results the instrument
    /// reported like this and that go out under `order`.
    pub fn new(report: &Report, order: &Order, origin: &Origin, gateway_system: &str) -> Self {
        let gateway = match gateway_system {
            "" => format!("urn:afferent:{}", percent_encoded(&origin.gateway)),
            system => system.trim_end_matches(['/', ':']).to_string(),
        };
        let (specimen, patient, instrument) = (&report.specimen, &report.patient, &report.instrument);
        let measured = || report.observations.iter().find_map(|o| o.completed.as_ref());
        let time = match (&specimen.collected, specimen.id.is_empty()) {
            (_, true) => measured().or(specimen.collected.as_ref()).map_or_else(
                // Nothing at all tells it from another one: then only the message does.
                || origin.message_id.clone(),
                |t| t.hl7(),
            ),
            (Some(collected), false) => collected.local.chars().take(8).collect(),
            (None, false) => String::new(),
        };
        let text = |s: &str| s.to_string();
        let device = [
            text(&instrument.vendor),
            text(&instrument.model),
            match instrument.serial_number.as_str() {
                "" => format!("{}@{}", instrument.sender, origin.link),
                serial => text(serial),
            },
        ];
        let mut identity = Identity {
            gateway,
            link: origin.link.clone(),
            subject: vec![text(specimen.id.expose()), text(patient.id.expose()), time],
            order: vec![
                text(order.placer_order_number.expose()),
                text(order.filler_order_number.expose()),
                order.universal_service_id.as_ref().map(|c| c.code.clone()).unwrap_or_default(),
            ],
            specimen: String::new(),
            device: String::new(),
        };
        identity.specimen = identity.uuid("specimen", &[&identity.link], &[&identity.subject]);
        identity.device = identity.uuid("device", &[], &[&device]);
        identity
    }

    /// The gateway's own URI, or one below it: `urn:afferent:bench-1:observation`, `https://lab.example/ids/observation`.
    pub fn system(&self, of: &str) -> String {
        let separator = if self.gateway.starts_with("urn:") { ':' } else { '/' };
        match of {
            "" => self.gateway.clone(),
            of => format!("{}{separator}{}", self.gateway, percent_encoded(of)),
        }
    }

    /// OBR-3 when the instrument sent none: stable for the order's results on this specimen over this link.
    pub fn filler(&self) -> String {
        let name = self.sha1("order", &[&self.link], &[&self.subject, &self.order]);
        hex::digits(&name).to_ascii_uppercase().chars().take(FILLER_CHARS).collect()
    }

    /// The specimen, as this link's instrument sees it.
    pub fn specimen(&self) -> String {
        self.specimen.clone()
    }

    /// The instrument.
    pub fn device(&self) -> String {
        self.device.clone()
    }

    /// The `occurrence`th result with this instrument code, from 1.
    pub fn observation(&self, instrument_code: &str, occurrence: usize) -> String {
        self.uuid("observation", &[&self.link, instrument_code, &occurrence.to_string()], &[&self.subject])
    }

    /// The report over these results. Other results of the same order, sent at another time, make another report:
    /// a conditional update would else drop the first ones from the list.
    pub fn report(&self, results: &[Outgoing]) -> String {
        let mut members: Vec<String> = results.iter().map(|r| r.name.clone()).collect();
        members.sort();
        self.uuid("report", &[&self.link], &[&self.subject, &self.order, &members])
    }

    /// A thing that DICOM names by its UIDs, such as a number of a structured report by that and what it is a number of.
    pub fn imaging(&self, kind: &str, names: &[&str]) -> String {
        self.uuid(kind, names, &[])
    }

    /// OBR-3 of a study nobody gave a number.
    pub fn study_filler(&self, study_instance_uid: &str) -> String {
        hex::digits(&self.sha1("study", &[study_instance_uid], &[]))
            .to_ascii_uppercase()
            .chars()
            .take(FILLER_CHARS)
            .collect()
    }

    /// The same in a few characters, where there is room for no more.
    pub fn imaging_sub_id(&self, names: &[&str]) -> String {
        let bytes = self.sha1("sub-id", names, &[]);
        bytes.iter().take(SUB_ID_CHARS).map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
    }

    /// What belongs to one message.
    pub fn of_message(&self, kind: &str, message_id: &str) -> String {
        self.uuid(kind, &[message_id], &[])
    }

    fn uuid(&self, kind: &str, own: &[&str], lists: &[&[String]]) -> String {
        let mut bytes = self.sha1(kind, own, lists);
        for (byte, keep, set) in [(6, 0x0f, 0x50), (8, 0x3f, 0x80)] {
            if let Some(b) = bytes.get_mut(byte) {
                *b = *b & keep | set;
            }
        }
        let digits = hex::digits(&bytes);
        let group = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
        format!("{}-{}-{}-{}-{}", group(0, 8), group(8, 12), group(12, 16), group(16, 20), group(20, 32))
    }

    /// Every part goes in with its length, so that no two different lists of parts look alike.
    fn sha1(&self, kind: &str, own: &[&str], lists: &[&[String]]) -> Vec<u8> {
        let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        context.update(&NAMESPACE_URL);
        let parts = [self.gateway.as_str(), kind].into_iter().chain(own.iter().copied());
        for part in parts.chain(lists.iter().flat_map(|list| list.iter().map(String::as_str))) {
            context.update(format!("{}:", part.len()).as_bytes());
            context.update(part.as_bytes());
        }
        context.finish().as_ref().to_vec()
    }
}

/// A message id (MSH-10) made of these parts, which tell the message from every other: the same for the same parts, and
/// never otherwise (invariant I5).
pub fn message_id(parts: &[&[u8]]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    let bits = |at: usize| {
        let (byte, shift) = (at / 8, at % 8);
        let pair = u16::from_be_bytes([digest.as_ref()[byte], digest.as_ref()[byte + 1]]);
        usize::from(pair >> (11 - shift)) & 31
    };
    (0..super::MESSAGE_ID_CHARS_MAX).map(|n| char::from(ALPHABET[bits(n * 5)])).collect()
}

/// Percent-encoding of everything but RFC 3986 unreserved characters.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i5_a_message_id_is_stable_and_says_what_it_names() {
        let id = message_id(&[b"bench", b"ehr"]);
        assert_eq!(id, message_id(&[b"bench", b"ehr"]));
        assert_ne!(id, message_id(&[b"benche", b"hr"]), "parts do not run into each other");
        assert_eq!(id.len(), super::super::MESSAGE_ID_CHARS_MAX);
        assert!(id.bytes().all(|b| ALPHABET.contains(&b)));
    }
}
