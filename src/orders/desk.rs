//! Where messages of the EHR are taken: read, kept with what they change, answered.

use super::answer::answer;
use super::read::{Context, read};
use crate::journal::{Journal, Receipt};
use crate::wire::mllp::{Reply, msh};
use crate::wire::{Persist, Refused};
use std::sync::Arc;

/// The desk of one connection.
pub struct Desk {
    journal: Journal,
    source: String,
    context: Context,
    links: Arc<[String]>,
}

/// A message that was taken.
pub struct Taken {
    /// Proof of custody.
    pub receipt: Receipt,
    /// What the EHR is told.
    pub reply: Option<Reply>,
    /// Why not everything was done that it asked for.
    pub refused: Option<&'static str>,
}

impl Desk {
    /// A desk for the connection of this name. New orders are for these links.
    pub fn new(journal: &Journal, source: &str, context: Context, links: Vec<String>) -> Self {
        Desk { journal: journal.clone(), source: source.to_string(), context, links: links.into() }
    }

    /// Takes a message: once this resolves, it and what it changed are on stable storage, or it is refused.
    ///
    /// A message that asks for what cannot be done is kept all the same, for whoever looks into it.
    pub async fn take(&self, connection: u64, part: Persist) -> Result<Taken, Refused> {
        let raw = part.bytes.clone();
        let asked = read(&raw, &self.context);
        let refused = asked.as_ref().err().map(|fault| fault.text);
        let changes = asked.iter().flat_map(|a| &a.requests).filter_map(|r| r.changes.as_ref().ok()).flatten();
        let changes = changes.cloned().collect();
        let links = self.links.clone();
        let persist = self.journal.persist_orders(&self.source, connection, part, changes, refused, links);
        let (stored, receipt) = persist.await?;
        let reply = msh(&raw).map(|header| answer(&raw, &header, &asked, &stored));
        let partly = || reply.as_ref().filter(|r| !r.verdict.is_accepted()).map(|_| "not everything could be done");
        let refused = refused.or_else(partly);
        Ok(Taken { receipt, reply, refused })
    }
}
