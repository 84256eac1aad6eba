//! Finding documents in a stream of bytes, in any split, with bounded memory.
//!
//! POCT1-A puts nothing between two documents, so the end of one is the end of its root element. Only as much of XML is
//! read as that needs: tags, quotes, comments, CDATA and instructions. Whether the document is well-formed is decided
//! on the whole of it.

/// Largest document by default, in bytes. Devices announce at most some ten thousand.
pub const DOCUMENT_MAX: usize = 4 * 1024 * 1024;
/// What is kept of a document that is too long, in bytes, so that the refusal can name it.
const HEAD_MAX: usize = 4096;
/// Longest name that is told apart from others, in bytes.
const NAME_MAX: usize = 128;
/// How a document begins; inside of one it means that the one before it was torn.
const DECLARATION: &[u8] = b"xml";
/// The byte order mark some senders write before each document.
const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// What the framer found.
#[derive(Clone, PartialEq, Eq)]
pub enum Item {
    /// A whole document, verbatim, from its declaration or root to the end of its root.
    Document(Vec<u8>),
    /// Bytes outside any document; said once for each run of them. Blanks and byte order marks do not count.
    Noise,
    /// A document that ended without the end of its root, or in which a character came damaged: what there was.
    Torn(Vec<u8>),
    /// A document over the limit. Its first bytes; the rest was skipped to its end.
    TooLong(Vec<u8>),
}

impl std::fmt::Debug for Item {
    /// Prints sizes, not bytes (invariant I8).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Item::Document(bytes) => write!(f, "Document({} bytes)", bytes.len()),
            Item::Noise => f.write_str("Noise"),
            Item::Torn(bytes) => write!(f, "Torn({} bytes)", bytes.len()),
            Item::TooLong(head) => write!(f, "TooLong({} bytes kept)", head.len()),
        }
    }
}

/// Where in a document the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Text,
    /// After `<`.
    Markup,
    /// Inside `<name ...>` or `</name>`.
    Tag {
        closing: bool,
        /// The name is not over.
        naming: bool,
        quote: Option<u8>,
    },
    /// Inside `<?...?>`.
    Instruction {
        naming: bool,
    },
    /// After `<!`.
    Declaration,
    Comment,
    Data,
    /// A document type: it ends when as many `>` as `<` have come.
    Type {
        open: u32,
    },
}

/// Frames documents.
pub struct Framer {
    document_max: usize,
    place: Place,
    buffer: Vec<u8>,
    /// Bytes of the document so far, also those that were not kept.
    length: usize,
    /// Name of the tag or instruction at hand.
    name: Vec<u8>,
    root: Vec<u8>,
    /// Elements of the root's name that are open.
    depth: u32,
    /// The three bytes before this one, latest last.
    last: [u8; 3],
    /// Where the markup at hand began, counted like `length`.
    markup_at: usize,
    damaged: bool,
    /// Bytes outside that no document claimed have been told.
    noisy: bool,
}

impl Framer {
    /// A framer that refuses documents over `document_max` bytes.
    pub fn new(document_max: usize) -> Self {
        Framer {
            document_max,
            place: Place::Outside,
            buffer: Vec::new(),
            length: 0,
            name: Vec::new(),
            root: Vec::new(),
            depth: 0,
            last: [0; 3],
            markup_at: 0,
            damaged: false,
            noisy: false,
        }
    }

    /// Takes bytes and returns what they completed, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        for &byte in bytes {
            self.take(byte, &mut items);
        }
        items
    }

    /// A character came damaged; the document it is in is torn.
    pub fn damage(&mut self) {
        self.damaged = self.place != Place::Outside;
    }

    /// Bytes of the document that has not ended; `None` between documents.
    pub fn unfinished(&self) -> Option<usize> {
        (self.place != Place::Outside).then_some(self.length)
    }

    /// Ends the input: what there is of a document that has not ended.
    pub fn take_unfinished(&mut self) -> Option<Vec<u8>> {
        (self.place != Place::Outside).then(|| self.end())
    }

    /// Bytes kept now; at most the limit.
    pub fn bytes_held(&self) -> usize {
        self.buffer.len()
    }

    /// Forgets everything unfinished.
    pub fn reset(&mut self) {
        *self = Framer::new(self.document_max);
    }

    fn take(&mut self, byte: u8, items: &mut Vec<Item>) {
        if self.place == Place::Outside {
            match byte {
                b'<' => self.begin(),
                _ if byte.is_ascii_whitespace() || MARK.contains(&byte) => {}
                _ => self.noise(items),
            }
            return;
        }
        self.keep(byte);
        // Nowhere inside a tag may `<` stand, so there it begins new markup: the tag before it lost its end.
        self.place = match self.place {
            Place::Outside => Place::Outside,
            Place::Text | Place::Tag { .. } if byte == b'<' => self.markup(),
            Place::Text => Place::Text,
            Place::Markup => self.kind(byte, items),
            Place::Tag { closing, naming, quote } => self.tag(byte, closing, naming, quote, items),
            Place::Instruction { naming } => self.instruction(byte, naming, items),
            Place::Declaration => self.declaration(byte),
            Place::Comment if byte == b'>' && self.last.ends_with(b"--") => Place::Text,
            Place::Comment => Place::Comment,
            Place::Data if byte == b'>' && self.last.ends_with(b"]]") => Place::Text,
            Place::Data => Place::Data,
            Place::Type { open } => match (byte, open) {
                (b'>', 1) => Place::Text,
                (b'>', open) => Place::Type { open: open - 1 },
                (b'<', open) => Place::Type { open: open.saturating_add(1) },
                _ => Place::Type { open },
            },
        };
        self.last = [self.last[1], self.last[2], byte];
    }

    fn begin(&mut self) {
        self.keep(b'<');
        self.place = self.markup();
    }

    fn markup(&mut self) -> Place {
        self.markup_at = self.length.saturating_sub(1);
        self.name.clear();
        Place::Markup
    }

    fn keep(&mut self, byte: u8) {
        if self.length < self.document_max {
            self.buffer.push(byte);
        } else if self.length == self.document_max {
            self.buffer.truncate(HEAD_MAX);
            self.buffer.shrink_to_fit();
        }
        self.length = self.length.saturating_add(1);
    }

    /// What `<` and this byte begin.
    fn kind(&mut self, byte: u8, items: &mut Vec<Item>) -> Place {
        match byte {
            b'?' => Place::Instruction { naming: true },
            b'!' => Place::Declaration,
            b'/' => Place::Tag { closing: true, naming: true, quote: None },
            b'<' => self.markup(),
            _ if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 => {
                self.name.push(byte);
                Place::Tag { closing: false, naming: true, quote: None }
            }
            // A `<` that begins nothing, before anything has begun, is noise like any other.
            _ if self.length == 2 => {
                let told = self.noisy;
                self.end();
                self.noisy = told;
                self.noise(items);
                Place::Outside
            }
            _ => Place::Text,
        }
    }

    fn tag(&mut self, byte: u8, closing: bool, naming: bool, quote: Option<u8>, items: &mut Vec<Item>) -> Place {
        let naming = naming && !(byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'));
        if naming {
            if self.name.len() < NAME_MAX {
                self.name.push(byte);
            }
            return Place::Tag { closing, naming, quote };
        }
        match (quote, byte) {
            (Some(open), _) => Place::Tag { closing, naming, quote: (byte != open).then_some(open) },
            (None, b'"' | b'\'') => Place::Tag { closing, naming, quote: Some(byte) },
            (None, b'>') => self.tag_ended(closing, items),
            (None, _) => Place::Tag { closing, naming, quote },
        }
    }

    fn tag_ended(&mut self, closing: bool, items: &mut Vec<Item>) -> Place {
        let empty = !closing && self.last[2] == b'/';
        if self.root.is_empty() && !closing {
            self.root.clone_from(&self.name);
        }
        if self.root.is_empty() {
            // An end before any beginning.
            return self.torn(items);
        }
        if self.name == self.root {
            match (closing, empty) {
                (true, _) => self.depth = self.depth.saturating_sub(1),
                (false, false) => self.depth = self.depth.saturating_add(1),
                (false, true) => {}
            }
        }
        if self.depth > 0 {
            return Place::Text;
        }
        let too_long = self.length > self.document_max;
        let damaged = self.damaged;
        let bytes = self.end();
        items.push(match (too_long, damaged) {
            (true, _) => Item::TooLong(bytes),
            (false, true) => Item::Torn(bytes),
            (false, false) => Item::Document(bytes),
        });
        Place::Outside
    }

    fn instruction(&mut self, byte: u8, naming: bool, items: &mut Vec<Item>) -> Place {
        if byte == b'>' && self.last[2] == b'?' {
            return Place::Text;
        }
        if !naming {
            return Place::Instruction { naming };
        }
        if !byte.is_ascii_whitespace() {
            if self.name.len() < NAME_MAX {
                self.name.push(byte);
            }
            return Place::Instruction { naming };
        }
        if self.name == DECLARATION && self.markup_at > 0 {
            // Only a document begins so: the one before it is torn, and this one is whole.
            self.torn(items);
            for &byte in b"<?xml".iter().chain([&byte]) {
                self.keep(byte);
            }
        }
        Place::Instruction { naming: false }
    }

    fn declaration(&mut self, byte: u8) -> Place {
        self.name.push(byte);
        match self.name.as_slice() {
            b"--" => Place::Comment,
            b"[CDATA[" => Place::Data,
            b"-" => Place::Declaration,
            so_far if b"[CDATA[".starts_with(so_far) => Place::Declaration,
            _ if byte == b'>' => Place::Text,
            _ => Place::Type { open: 1 },
        }
    }

    fn torn(&mut self, items: &mut Vec<Item>) -> Place {
        let at = self.markup_at;
        let too_long = self.length > self.document_max;
        let mut bytes = self.end();
        bytes.truncate(if at > 0 { at } else { bytes.len() });
        items.push(if too_long { Item::TooLong(bytes) } else { Item::Torn(bytes) });
        Place::Outside
    }

    /// Ends the document at hand and returns what was kept of it.
    fn end(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.buffer);
        self.reset();
        bytes
    }

    fn noise(&mut self, items: &mut Vec<Item>) {
        if !self.noisy {
            self.noisy = true;
            items.push(Item::Noise);
        }
    }
}
