//! How often the refusal of a message was doubted.
//!
//! Kept in memory: attempts that only found the receiver busy do not count, and a restart gives each message its tries
//! anew. Of what there is no room for, the journal's own count of attempts is taken, which counts more and forgets
//! nothing: however many are doubted, each is refused in the end and none is sent for ever.

use crate::journal::{Outbound, OutboxId};
use std::collections::BTreeMap;

/// So many messages are remembered.
const DOUBTED_MAX: usize = 4096;

/// See the module docs.
#[derive(Default)]
pub(super) struct Doubts(BTreeMap<OutboxId, u32>);

impl Doubts {
    /// The refusal of this message is doubted, once more: the how many-th time that is.
    pub(super) fn again(&mut self, row: &Outbound) -> u32 {
        if self.0.len() >= DOUBTED_MAX && !self.0.contains_key(&row.id) {
            return row.attempts + 1;
        }
        let tries = self.0.entry(row.id).or_default();
        *tries += 1;
        *tries
    }

    /// The message is settled.
    pub(super) fn forget(&mut self, id: OutboxId) {
        self.0.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, attempts: u32) -> Outbound {
        let (message_id, body) = (id.to_string(), Vec::new());
        Outbound { id: OutboxId(id), lane: id, message_id, body, results: 1, received_at_ms: 0, attempts }
    }

    #[test]
    fn each_of_more_messages_than_are_remembered_is_doubted_three_times_and_no_more() {
        let mut doubts = Doubts::default();
        let all = 1..=(DOUBTED_MAX as i64 + 100);
        for tries in 1..=3 {
            for id in all.clone() {
                assert_eq!(doubts.again(&row(id, tries - 1)), tries, "message {id}");
            }
        }
    }

    #[test]
    fn attempts_that_found_the_receiver_busy_do_not_count_while_there_is_room() {
        let mut doubts = Doubts::default();
        assert_eq!(doubts.again(&row(7, 5)), 1);
        assert_eq!(doubts.again(&row(7, 6)), 2);
        doubts.forget(OutboxId(7));
        assert_eq!(doubts.again(&row(7, 0)), 1, "a person sent it once more");
    }
}
