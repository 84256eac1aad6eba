//! What a box is told, signed by the desk's keys.

use crate::fleet::command::{Command, Operation};
use crate::fleet::envelope::{self, Purpose, SigningKey};
use crate::fleet::telemetry::Id;
use crate::fleet::topic::{Down, Place};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A signed document on its way to a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What makes it this one: the box's answer names it.
    pub id: String,
    /// For whom.
    pub place: Place,
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
        let Some((first, others)) = keys.split_first().filter(|_| keys.len() >= needed) else {
            return Err(format!("{word} takes {needed} signatures: give --sign as often"));
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
        let mut bytes = envelope::seal(&document, Purpose::Command, first);
        for key in others {
            bytes = envelope::countersign(&bytes, Purpose::Command, key).map_err(|error| error.to_string())?;
        }
        let signers: Vec<&str> = keys.iter().map(SigningKey::kid).collect();
        let asked = json!({ "at": now.to_string(), "signed_by": signers, "command": command });
        Ok(Order { id, place: place.clone(), bytes, asked })
    }

    /// Where it is published.
    pub fn topic(&self) -> String {
        topic(&self.place, &self.id)
    }
}

/// Where a command of this id is published.
pub fn topic(place: &Place, id: &str) -> String {
    place.down(&Down::Command(id.to_string()))
}

/// Whether an event says what became of this order, and then whether it was done or why not.
pub fn outcome(event: &Value, id: &str) -> Option<Result<(), String>> {
    if event["event"] != "command" || event["command"] != id {
        return None;
    }
    let phase = event["phase"].as_str().unwrap_or("failed");
    if phase == "done" {
        return Some(Ok(()));
    }
    let why = event["why"].as_str().or(event["outcome"]["failure"].as_str());
    let why = why.or(event["outcome"]["refusal"].as_str());
    Some(Err(why.map_or(phase.to_string(), |why| format!("{phase}: {why}"))))
}
