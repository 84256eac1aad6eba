//! Writes one instance to the spool while the network brings more of it, and gives it into custody.
//!
//! Disk and network overlap: a blocking writer takes what comes through a short queue. When the disk is slower the queue
//! fills, nothing more is read from the connection, and TCP slows the modality down; so memory stays bounded whatever
//! the size of the instance (invariant I10).

use crate::journal::{Journal, NewInstance, Receipt, Spool, Spooled, refusal};
use crate::link::counters::LinkCounters;
use crate::message::dicom::FileMeta;
use crate::wire::dimse::Arrival;
use crate::wire::{Event, Refusal, Refused, Token};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

/// Pieces that wait for the disk; each is at most what one read of the connection brought.
const PIECES_WAITING: usize = 4;

/// An instance that is coming in. Dropped without a commit, nothing of it is left.
pub struct Storing {
    token: Token,
    arrival: Arrival,
    to_writer: Sender<Work>,
    writer: JoinHandle<io::Result<Spooled>>,
}

/// What the writer has to do next.
enum Work {
    Write(Vec<u8>),
    Finish,
}

impl Storing {
    /// Begins to write an instance.
    pub fn begin(spool: &Spool, token: Token, arrival: Arrival) -> Storing {
        let (to_writer, work) = channel(PIECES_WAITING);
        let header = FileMeta {
            sop_class_uid: &arrival.sop_class_uid,
            sop_instance_uid: &arrival.sop_instance_uid,
            transfer_syntax_uid: &arrival.transfer_syntax_uid,
            source_ae_title: &arrival.calling_ae_title,
        };
        let header = header.write();
        let spool = spool.clone();
        let writer = tokio::task::spawn_blocking(move || write(&spool, &header, work));
        Storing { token, arrival, to_writer, writer }
    }

    /// Hands on a piece; waits while the disk is behind. What a writer that failed is given is dropped: the commit
    /// tells.
    pub async fn write(&self, bytes: Vec<u8>) {
        let _ = self.to_writer.send(Work::Write(bytes)).await;
    }

    /// The instance is whole: makes it durable and takes it into custody.
    ///
    /// # Errors
    /// [`Refused`] when the disk is full or has trouble, which is counted; nothing of the instance is left then.
    pub async fn commit(
        self,
        journal: Journal,
        link: Arc<str>,
        counters: Arc<LinkCounters>,
    ) -> Result<Receipt, Refused> {
        let Storing { token, arrival, to_writer, writer } = self;
        let _ = to_writer.send(Work::Finish).await;
        let spooled = match writer.await {
            Ok(Ok(spooled)) => spooled,
            Ok(Err(error)) => {
                let reason = refusal(&error);
                match reason {
                    Refusal::Full => counters.event(&Event::Refused("no room for an image: the modality keeps it")),
                    Refusal::Storage => counters.trouble("an image cannot be written", &error),
                }
                return Err(Refused { token, reason });
            }
            Err(_) => return Err(Refused { token, reason: Refusal::Storage }),
        };
        let kept = journal.persist_instance(&link, token, NewInstance { arrival, spooled }).await;
        let (kept, receipt) = kept.inspect_err(|refused| {
            let why = match refused.reason {
                Refusal::Full => "no room for an image: the modality keeps it",
                Refusal::Storage => "the journal has trouble: the modality keeps its image",
            };
            counters.event(&Event::Refused(why));
        })?;
        if kept.conflict {
            counters.event(&Event::Odd("a SOP Instance UID came again with other bytes: both are kept"));
        } else if !kept.is_new {
            counters.event(&Event::Odd("an image came again"));
        }
        Ok(receipt)
    }
}

/// Writes until there is nothing more; the file is gone again unless it is finished.
fn write(spool: &Spool, header: &[u8], mut work: Receiver<Work>) -> io::Result<Spooled> {
    let mut file = spool.create(header)?;
    while let Some(next) = work.blocking_recv() {
        match next {
            Work::Write(bytes) => file.write(&bytes)?,
            Work::Finish => return file.finish(),
        }
    }
    Err(io::Error::other("the instance was cut short"))
}
