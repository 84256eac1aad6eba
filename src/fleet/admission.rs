//! Who may tell this box anything: envelopes are opened here, and those that nobody who may had signed are counted.

use super::envelope::{self, Operator, Purpose, Signed};
use super::store::{Store, StoreError};
use super::telemetry::{Event, Id, Stamp, What};

/// Lets in what an operator of this box has signed for one purpose.
pub(super) struct Admission {
    operators: Vec<Operator>,
    purpose: Purpose,
    /// Makes the event that tells of so many forgeries.
    told: fn(u64) -> What,
    /// Envelopes that nobody who may had signed, since start.
    unsigned: u64,
}

impl Admission {
    /// For what these operators sign for this purpose.
    pub fn new(operators: &[Operator], purpose: Purpose, told: fn(u64) -> What) -> Admission {
        Admission { operators: operators.to_vec(), purpose, told, unsigned: 0 }
    }

    /// Opens an envelope; none when nobody who may has signed it. Whoever floods the box with forgeries fills neither the
    /// log nor the outbox: the 1st, 2nd, 4th, 8th ... is told.
    ///
    /// # Errors
    /// [`StoreError`]: what is told of it is not kept, and it must come again.
    pub fn open(&mut self, store: &mut Store, payload: &[u8], stamp: Stamp) -> Result<Option<Signed>, StoreError> {
        let why = match envelope::open(payload, self.purpose, &self.operators) {
            Ok(signed) => return Ok(Some(signed)),
            Err(why) => why,
        };
        // It counts once what is told of it is kept: what comes again is not another one.
        let count = self.unsigned + 1;
        if count.is_power_of_two() {
            tracing::warn!(count, "fleet: a {} is not obeyed: {why}", self.purpose.word());
            store.put(&Event { id: Id::make(), stamp, what: (self.told)(count) })?;
        }
        self.unsigned = count;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Quality;
    use crate::fleet::telemetry::At;

    #[test]
    fn what_is_told_of_a_forgery_is_of_what_was_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let mut admission = Admission::new(&[], Purpose::Command, |count| What::UnsignedCommands { count });
        let stamp = Stamp { at: At::of_ms(1), clock: Quality::Trusted };
        let mut comes = |store: &mut Store| admission.open(store, b"{}", stamp).is_ok();
        assert!(comes(&mut store) && comes(&mut store) && comes(&mut store));
        // What is told of the fourth cannot be kept, and it comes again: it is the fourth still.
        store.change(|tx| tx.execute_batch("ALTER TABLE event RENAME TO away")).unwrap();
        assert!(!comes(&mut store) && !comes(&mut store));
        store.change(|tx| tx.execute_batch("ALTER TABLE away RENAME TO event")).unwrap();
        assert!(comes(&mut store));
        let told = store.events_after(0, 9).unwrap();
        let counts =
            told.iter().map(|event| serde_json::from_slice::<serde_json::Value>(event.document.bytes()).unwrap());
        assert_eq!(counts.map(|event| event["count"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 4]);
    }
}
