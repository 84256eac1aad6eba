//! What came behind the message in custody, in order, and how many of its bytes are in memory.

use std::collections::VecDeque;

/// Items that may wait before a peer is told, or made, to wait too.
const ITEMS_MAX: usize = 64;

pub(super) struct Waiting<T> {
    /// Each with its bytes.
    items: VecDeque<(usize, T)>,
    bytes: usize,
}

impl<T> Waiting<T> {
    pub fn new() -> Self {
        Waiting { items: VecDeque::new(), bytes: 0 }
    }

    /// It is taken after everything before it.
    pub fn push(&mut self, bytes: usize, item: T) {
        self.bytes += bytes;
        self.items.push_back((bytes, item));
    }

    /// It was taken, and has to wait once more, before everything else.
    pub fn put_back(&mut self, bytes: usize, item: T) {
        self.bytes += bytes;
        self.items.push_front((bytes, item));
    }

    /// The next one.
    pub fn take(&mut self) -> Option<T> {
        let (bytes, item) = self.items.pop_front()?;
        self.bytes -= bytes;
        Some(item)
    }

    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of everything that waits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True while as many items wait as may.
    pub fn is_long(&self) -> bool {
        self.items.len() >= ITEMS_MAX
    }
}
