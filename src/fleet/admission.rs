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
        self.unsigned += 1;
        if self.unsigned.is_power_of_two() {
            tracing::warn!(count = self.unsigned, "fleet: a {} is not obeyed: {why}", self.purpose.word());
            store.put(&Event { id: Id::make(), stamp, what: (self.told)(self.unsigned) })?;
        }
        Ok(None)
    }
}
