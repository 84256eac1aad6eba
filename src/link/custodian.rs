//! Who takes custody of what a link hears.

use crate::journal::Journal;
use crate::orders::{self, Taken};
use crate::wire::{Persist, Refused};
use std::sync::Arc;

/// Takes custody of parts, and may know what to answer.
#[derive(Clone)]
pub enum Custodian {
    /// Results of an instrument: kept now, understood later.
    Results(Journal),
    /// Orders of the EHR: understood, kept and answered in one go. The journal takes what breaks off.
    Orders(Journal, Arc<orders::Desk>),
}

impl Custodian {
    /// Makes `part` durable. See [`Journal::persist`].
    pub async fn take(&self, link: &str, connection: u64, part: Persist) -> Result<Taken, Refused> {
        match self {
            Custodian::Results(journal) => {
                let receipt = journal.persist(link, connection, part).await?;
                Ok(Taken { receipt, reply: None, refused: None })
            }
            Custodian::Orders(_, desk) => desk.take(connection, part).await,
        }
    }

    /// The data directory, beside whose journal a link may keep what it has to remember.
    pub fn data(&self) -> &std::path::Path {
        let (Custodian::Results(journal) | Custodian::Orders(journal, _)) = self;
        journal.data()
    }

    /// The session ended before its message was complete.
    pub fn abandon(&self, link: &str, connection: u64, session: u64) {
        let (Custodian::Results(journal) | Custodian::Orders(journal, _)) = self;
        journal.abandon(link, connection, session);
    }
}
