//! Writes one instance to the spool while the network brings more of it, and gives it into custody.
//!
//! The connection's task fills blocks and digests them. A small image is one block, which is handed over at its end and
//! digested while the disk is waited for. Of a large one each full block goes to a thread that writes it while the next
//! one comes. When the disk is slower there is no empty block, nothing more is read from the connection, and TCP slows
//! the modality down; so memory stays bounded whatever the size of the instance (invariant I10).

use crate::journal::{Block, BlockFiller, Journal, NewInstance, Receipt, Spool, Spooled, Whole, refusal};
use crate::link::counters::LinkCounters;
use crate::message::dicom::FileMeta;
use crate::wire::dimse::Arrival;
use crate::wire::{Event, Refusal, Refused, Token};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Blocks of a large instance beside the one that is filled: one is written while others wait, or come meanwhile.
const SPARE_BLOCKS: usize = 3;

/// An instance that is coming in. Dropped without a commit, nothing of it is left.
pub struct Storing {
    token: Token,
    arrival: Arrival,
    spool: Spool,
    filler: BlockFiller,
    /// From the first full block on.
    writer: Option<Writer>,
}

/// The thread that writes.
struct Writer {
    work: Sender<Work>,
    emptied: Receiver<Block>,
    thread: JoinHandle<io::Result<Spooled>>,
}

/// What it has to do next.
enum Work {
    Write(Block),
    /// The last one; what is known of the instance comes when it was digested.
    Finish(Arc<Block>, oneshot::Receiver<Whole>),
}

impl Storing {
    /// Begins to take an instance.
    pub fn begin(spool: &Spool, token: Token, arrival: Arrival) -> Storing {
        let header = FileMeta {
            sop_class_uid: &arrival.sop_class_uid,
            sop_instance_uid: &arrival.sop_instance_uid,
            transfer_syntax_uid: &arrival.transfer_syntax_uid,
            source_ae_title: &arrival.calling_ae_title,
        };
        let filler = BlockFiller::new(&header.write());
        Storing { token, arrival, spool: spool.clone(), filler, writer: None }
    }

    /// Takes a piece; waits while the disk is behind. What a writer that failed is given is dropped: the commit tells.
    pub async fn write(&mut self, bytes: &[u8]) {
        let mut rest = self.filler.take(bytes);
        while !rest.is_empty() {
            let writer = self.writer.get_or_insert_with(|| Writer::start(&self.spool, SPARE_BLOCKS));
            let Some(empty) = writer.emptied.recv().await else { return };
            let _ = writer.work.send(Work::Write(self.filler.exchange(empty))).await;
            rest = self.filler.take(rest);
        }
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
        let Storing { token, arrival, spool, filler, writer } = self;
        let (last, summing) = filler.finish();
        let (last, (digested, whole)) = (Arc::new(last), oneshot::channel());
        let Writer { work, thread, .. } = writer.unwrap_or_else(|| Writer::start(&spool, 0));
        let _ = work.send(Work::Finish(last.clone(), whole)).await;
        let _ = digested.send(summing.end(&last));
        let spooled = match thread.await {
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

impl Writer {
    fn start(spool: &Spool, spare_blocks: usize) -> Writer {
        let (to_writer, work) = channel(SPARE_BLOCKS);
        let (empties, emptied) = channel(SPARE_BLOCKS);
        for _ in 0..spare_blocks {
            let _ = empties.try_send(Block::new());
        }
        let spool = spool.clone();
        let thread = tokio::task::spawn_blocking(move || write(&spool, work, &empties));
        Writer { work: to_writer, emptied, thread }
    }
}

/// Writes until there is nothing more; the file is gone again unless it is finished.
fn write(spool: &Spool, mut work: Receiver<Work>, empties: &Sender<Block>) -> io::Result<Spooled> {
    let mut file = spool.create()?;
    while let Some(next) = work.blocking_recv() {
        match next {
            Work::Write(mut block) => {
                file.write(&block)?;
                block.clear();
                let _ = empties.try_send(block);
            }
            Work::Finish(last, whole) => return file.finish(&last, || whole.blocking_recv().map_err(|_| cut_short())),
        }
    }
    Err(cut_short())
}

fn cut_short() -> io::Error {
    io::Error::other("the instance was cut short")
}
