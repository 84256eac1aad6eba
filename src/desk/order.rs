//! What a box is told, signed by the desk's keys.

use super::pack::Content;
use crate::fleet::command::{Command, Operation};
use crate::fleet::desired::{self, Desired};
use crate::fleet::envelope::{self, ENVELOPE_MAX, Purpose, SigningKey};
use crate::fleet::telemetry::{Digest, Id};
use crate::fleet::topic::{Down, Place};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A box that is said to have had a higher revision is not believed; what this desk sent it is.
const REPORTED_REV_MAX: u64 = 1_000_000_000;

/// Most characters of what a box says became of something.
const SAID_MAX: usize = 512;

/// A signed document on its way to a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What makes it this one: the box's answer names it.
    pub id: String,
    /// For whom.
    pub place: Place,
    /// What of it is told.
    pub down: Down,
    /// The envelope, as it is published.
    pub bytes: Vec<u8>,
    /// What the audit says of it.
    pub asked: Value,
}

impl Order {
    /// A command that is valid from `now` on for as long. The first key numbers it.
    ///
    /// # Errors
    /// A sentence for the person who gives it: too few keys.
    pub fn command(
        place: &Place,
        operation: Operation,
        keys: &[SigningKey],
        now: Timestamp,
        valid: SignedDuration,
    ) -> Result<Order, String> {
        let (needed, word) = (operation.signatures(), operation.word());
        let Some((first, others)) = keys.split_first().filter(|_| signers(keys) >= needed) else {
            return Err(format!("{word} takes {needed} signatures: give --sign as often, with other keys"));
        };
        let id = Id::make().to_string();
        let command = Command {
            v: 1,
            id: id.clone(),
            tenant: place.tenant().to_string(),
            gateway: place.gateway().to_string(),
            issuer: first.kid().to_string(),
            // Larger than the last without a memory of it.
            seq: u64::try_from(now.as_millisecond()).unwrap_or_default(),
            not_before: now,
            expires: now + valid,
            operation,
        };
        let document = serde_json::to_vec(&command).map_err(|error| error.to_string())?;
        let bytes = signed(&document, Purpose::Command, first, others)?;
        let asked = json!({ "at": now.to_string(), "signed_by": names(keys), "command": command });
        Ok(Order { down: Down::Command(id.clone()), id, place: place.clone(), bytes, asked })
    }

    /// A configuration as this revision, which the broker keeps for the box. Its id is the digest of the document.
    /// `replaces` is the digest of the box's own file, where that was edited and is to be replaced all the same.
    ///
    /// # Errors
    /// A sentence for the person who sends it: no key, or it is too long.
    pub fn config(
        place: &Place,
        content: Content,
        rev: u64,
        replaces: Option<String>,
        keys: &[SigningKey],
        now: Timestamp,
    ) -> Result<Order, String> {
        let Some((first, others)) = keys.split_first() else { return Err("give --sign".to_string()) };
        let desired = Desired {
            v: 1,
            tenant: place.tenant().to_string(),
            gateway: place.gateway().to_string(),
            rev,
            config: content.config,
            files: content.files,
            replaces,
        };
        let document = desired::write(&desired);
        let bytes = signed(&document, Purpose::Config, first, others)?;
        if bytes.len() > ENVELOPE_MAX {
            return Err(format!("it takes {} bytes with what it names, and {ENVELOPE_MAX} go at once", bytes.len()));
        }
        let id = Digest::of(&document).to_string();
        let what = json!({ "gateway": desired.gateway, "rev": rev, "sha256": id,
                           "replaces": desired.replaces, "files": desired.files.keys().collect::<Vec<_>>() });
        let asked = json!({ "at": now.to_string(), "signed_by": names(keys), "config": what });
        Ok(Order { down: Down::Desired, id, place: place.clone(), bytes, asked })
    }

    /// Where it is published.
    pub fn topic(&self) -> String {
        self.place.down(&self.down)
    }
}

/// The number of the next revision for a box that is said to have had `reported`, and was sent `sent` last by this desk.
/// Whoever can write for the box may say what they like: a number that no desk comes to is not believed, so that there is
/// always a larger one.
pub fn next_rev(reported: Option<u64>, sent: Option<u64>) -> u64 {
    reported.filter(|rev| *rev <= REPORTED_REV_MAX).max(sent).unwrap_or(0) + 1
}

/// The revision in the envelope of a configuration that this desk has made.
pub fn rev_of(envelope: &[u8]) -> Option<u64> {
    Some(desired::read_bytes(&envelope::unproven(envelope).ok()?).ok()?.rev)
}

/// How many people sign with these: the same key twice is one.
pub fn signers(keys: &[SigningKey]) -> usize {
    keys.iter().map(SigningKey::kid).collect::<BTreeSet<_>>().len()
}

/// What a box says, as a person may see it: nothing of it steers a terminal.
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// All of a document of a box so.
pub fn plain_all(said: &Value) -> Value {
    match said {
        Value::String(text) => Value::String(plain(text)),
        Value::Array(all) => all.iter().map(plain_all).collect(),
        Value::Object(all) => all.iter().map(|(name, value)| (plain(name), plain_all(value))).collect(),
        other => other.clone(),
    }
}

/// A document of a box as a line of JSON that steers no terminal and says the same: JSON itself lets U+007F to U+009F
/// stand as they are.
pub fn plain_json(said: &Value) -> String {
    let escaped = |c: char| if c.is_control() { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    said.to_string().chars().map(escaped).collect()
}

/// As much of it as a roll-out keeps.
fn cut(text: &str) -> String {
    plain(text).chars().take(SAID_MAX).collect()
}

fn signed(document: &[u8], purpose: Purpose, first: &SigningKey, others: &[SigningKey]) -> Result<Vec<u8>, String> {
    let sealed = envelope::seal(document, purpose, first);
    let sign = |bytes: Vec<u8>, key| envelope::countersign(&bytes, purpose, key).map_err(|error| error.to_string());
    others.iter().try_fold(sealed, sign)
}

fn names(keys: &[SigningKey]) -> Vec<&str> {
    keys.iter().map(SigningKey::kid).collect()
}

/// Whether a box's event, or what it reports of its configuration, says what became of the one of this digest, and then
/// whether it runs and is confirmed, or why not.
pub fn settled(said: &Value, digest: &str) -> Option<Result<(), String>> {
    if said["hash"] != digest && !(said["event"] == "config" && said["document"] == digest) {
        return None;
    }
    match said["state"].as_str()? {
        "committed" => Some(Ok(())),
        ended @ ("reverted" | "refused") => {
            let why = said["why"].as_str().map(|why| format!(": {}", cut(why))).unwrap_or_default();
            Some(Err(format!("{ended}{why}")))
        }
        _ => None,
    }
}

/// Whether an event says what became of this command, and then whether it was done or why not.
pub fn outcome(event: &Value, id: &str) -> Option<Result<(), String>> {
    if event["event"] != "command" || event["command"] != id {
        return None;
    }
    let phase = cut(event["phase"].as_str().unwrap_or("failed"));
    // A box that forgets everything cannot say that it has: only that it is about to.
    if phase == "done" || phase == "leaving" {
        return Some(Ok(()));
    }
    let why = event["why"].as_str().or(event["outcome"]["failure"].as_str());
    let why = why.or(event["outcome"]["refusal"].as_str());
    let why = why.or(event["outcome"]["did"].as_str().filter(|did| *did == "undelivered"));
    Some(Err(why.map_or(phase.clone(), |why| format!("{phase}: {}", cut(why)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_twice_is_one_person() {
        let key = |kid: &str| SigningKey::from_pkcs8(kid, &envelope::new_key(&[1; 32])).unwrap();
        assert_eq!(signers(&[key("ops-1"), key("ops-1")]), 1);
        assert_eq!(signers(&[key("ops-1"), key("ops-2")]), 2);
    }

    #[test]
    fn what_a_box_says_is_shown_without_what_steers_a_terminal() {
        let event = json!({ "event": "command", "command": "c-1", "phase": "failed", "why": "\u{1b}[2Jgone\u{9b}K" });
        assert_eq!(outcome(&event, "c-1"), Some(Err("failed: [2JgoneK".to_string())));
        let said = json!({ "a\u{9b}": ["\u{1b}]0;x\u{7}\u{9d}é", 1] });
        assert_eq!(plain_all(&said), json!({ "a": ["]0;xé", 1] }));
        let line = plain_json(&said);
        assert!(!line.contains(char::is_control), "{line:?}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), said);
        let long = json!({ "hash": "d", "state": "refused", "why": "x".repeat(100_000) });
        assert!(settled(&long, "d").unwrap().unwrap_err().len() < 10_000);
    }

    #[test]
    fn a_box_that_is_said_to_be_far_ahead_does_not_lock_the_desk_out() {
        assert_eq!(next_rev(None, None), 1);
        assert_eq!(next_rev(Some(7), None), 8, "another desk has sent it");
        assert_eq!(next_rev(Some(7), Some(9)), 10, "the box has not had what was sent last");
        assert_eq!(next_rev(Some(i64::MAX as u64), Some(9)), 10);
        assert_eq!(next_rev(Some(REPORTED_REV_MAX), Some(9)), REPORTED_REV_MAX + 1);
        assert_eq!(next_rev(Some(REPORTED_REV_MAX + 1), Some(REPORTED_REV_MAX + 1)), REPORTED_REV_MAX + 2);
    }
}
