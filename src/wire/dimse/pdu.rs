//! Protocol data units (PS3.8 section 9.3): finds them in bytes that come in any split, and writes them.
//!
//! [`Splitter`] hands out the fragments of P-DATA as they come and never holds them, so an instance costs no memory
//! whatever its size and however large its PDUs are. Only association requests and answers are collected, up to
//! [`ASSOCIATE_MAX`]. A length that cannot be is refused at the header, before anything waits or is reserved for it.

use super::command::Command;

/// Longest A-ASSOCIATE-RQ or -AC, in bytes: 128 contexts with 60 transfer syntaxes each are half of it.
pub const ASSOCIATE_MAX: usize = 1024 * 1024;
/// Longest of the other PDUs, in bytes. The standard's have four; what more there is says nothing.
const SHORT_MAX: usize = 256;
/// Bytes of a PDU header: type, reserved, length.
const HEADER: usize = 6;
/// Bytes in front of a fragment: length of the item (PDV), presentation context, message control header.
const PDV_HEADER: usize = 6;
/// Of those, what the length counts.
const PDV_COUNTED: u32 = 2;
/// Message control header: the fragment is of a command.
const COMMAND: u8 = 0b01;
/// Message control header: the fragment is the last.
const LAST: u8 = 0b10;
/// A peer that says it takes less than this in a PDU, in bytes, is not believed: no command would ever get through.
const PEER_MAX_LEAST: u32 = 64;
/// What is sent in one PDU at most, in bytes, to a peer that takes more or names no limit.
const SEND_MAX: u32 = 128 * 1024;

/// Types of PDU.
pub mod kind {
    /// A-ASSOCIATE-RQ.
    pub const ASSOCIATE_RQ: u8 = 1;
    /// A-ASSOCIATE-AC.
    pub const ASSOCIATE_AC: u8 = 2;
    /// A-ASSOCIATE-RJ.
    pub const ASSOCIATE_RJ: u8 = 3;
    /// P-DATA-TF.
    pub const DATA: u8 = 4;
    /// A-RELEASE-RQ.
    pub const RELEASE_RQ: u8 = 5;
    /// A-RELEASE-RP.
    pub const RELEASE_RP: u8 = 6;
    /// A-ABORT.
    pub const ABORT: u8 = 7;
}

/// Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// 1 for good, 2 for now.
    pub result: u8,
    /// 1 the user, 2 the provider (ACSE), 3 the provider (presentation).
    pub source: u8,
    /// Why, by source.
    pub reason: u8,
}

impl Rejection {
    /// The application context is not DICOM's.
    pub const APPLICATION_CONTEXT: Rejection = Rejection { result: 1, source: 1, reason: 2 };
    /// The calling AE title is not known.
    pub const CALLING_AE_TITLE: Rejection = Rejection { result: 1, source: 1, reason: 3 };
    /// The called AE title is not ours.
    pub const CALLED_AE_TITLE: Rejection = Rejection { result: 1, source: 1, reason: 7 };
    /// The protocol version is none of ours.
    pub const PROTOCOL_VERSION: Rejection = Rejection { result: 1, source: 2, reason: 2 };
    /// Too much is going on: come back later.
    pub const CONGESTION: Rejection = Rejection { result: 2, source: 3, reason: 1 };
    /// A limit is reached, such as that of the disk: come back later.
    pub const LOCAL_LIMIT: Rejection = Rejection { result: 2, source: 3, reason: 2 };
}

/// Source and reason of an A-ABORT (PS3.8 table 9-26).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// 0 the user, 2 the provider.
    pub source: u8,
    /// Why, when it was the provider.
    pub reason: u8,
}

impl Abort {
    /// The user of the association gave it up.
    pub const USER: Abort = Abort { source: 0, reason: 0 };
    /// A PDU of a type that there is not.
    pub const UNRECOGNIZED_PDU: Abort = Abort { source: 2, reason: 1 };
    /// A PDU that does not belong here.
    pub const UNEXPECTED_PDU: Abort = Abort { source: 2, reason: 2 };
    /// A value that cannot be.
    pub const INVALID_PARAMETER: Abort = Abort { source: 2, reason: 6 };
}

/// What bytes can hold that is no PDU. Nothing can be found in them any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PduFault {
    /// A TLS handshake.
    Tls,
    /// HTTP, or another protocol that begins with a word.
    Text,
    /// A PDU of a type that there is not.
    Type,
    /// A PDU longer than any of its kind.
    TooLong,
    /// P-DATA longer than was announced.
    DataTooLong,
    /// A fragment whose length does not fit into its PDU, or is none.
    Fragment,
    /// P-DATA without a fragment.
    Empty,
}

impl PduFault {
    /// What is counted and logged, with what to do where that can be known.
    pub fn reason(self) -> &'static str {
        match self {
            PduFault::Tls => "TLS on the plain DICOM port: switch TLS off at the peer, or dial the port of listen_tls",
            PduFault::Text => "this is not DICOM: a web browser or another program dialled the DICOM port",
            PduFault::Type => "a PDU of an unknown type",
            PduFault::TooLong => "a PDU longer than any of its kind",
            PduFault::DataTooLong => "P-DATA longer than the maximum that was announced",
            PduFault::Fragment => "P-DATA with a fragment of an impossible length",
            PduFault::Empty => "P-DATA without a fragment",
        }
    }

    /// How the peer is told.
    pub fn abort(self) -> Abort {
        match self {
            PduFault::Tls | PduFault::Text | PduFault::Type => Abort::UNRECOGNIZED_PDU,
            PduFault::TooLong | PduFault::DataTooLong | PduFault::Fragment | PduFault::Empty => {
                Abort::INVALID_PARAMETER
            }
        }
    }
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A-ASSOCIATE-RQ, without its header.
    AssociateRq(Vec<u8>),
    /// A-ASSOCIATE-AC, without its header.
    AssociateAc(Vec<u8>),
    /// A-ASSOCIATE-RJ.
    AssociateRj(Rejection),
    /// A fragment of P-DATA, or as much of it as there is.
    Fragment(Fragment<'a>),
    /// A-RELEASE-RQ.
    ReleaseRq,
    /// A-RELEASE-RP.
    ReleaseRp,
    /// A-ABORT.
    Abort(Abort),
}

/// A fragment of a message, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Presentation context.
    pub context: u8,
    /// True for a command, false for a data set.
    pub is_command: bool,
    /// Its bytes; may be none.
    pub bytes: &'a [u8],
    /// True when the command or data set ends with these bytes.
    pub last: bool,
}

/// Finds PDUs in a stream of bytes.
#[derive(Debug)]
pub struct Splitter {
    data_max: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; HEADER], have: usize },
    Body { kind: u8, length: usize, bytes: Vec<u8> },
    Pdv { left_in_pdu: usize, bytes: [u8; PDV_HEADER], have: usize },
    Fragment { left_in_pdu: usize, left: usize, context: u8, control: u8 },
}

impl State {
    const START: State = State::Header { bytes: [0; HEADER], have: 0 };

    /// What follows a fragment in a PDU with so many bytes left.
    fn after_fragment(left_in_pdu: usize) -> State {
        match left_in_pdu {
            0 => State::START,
            _ => State::Pdv { left_in_pdu, bytes: [0; PDV_HEADER], have: 0 },
        }
    }
}

impl Splitter {
    /// For a side that announced `data_max` bytes as its longest P-DATA.
    pub fn new(data_max: u32) -> Self {
        Splitter { data_max: data_max as usize, state: State::START }
    }

    /// True inside of a PDU.
    pub fn is_inside(&self) -> bool {
        !matches!(self.state, State::Header { have: 0, .. })
    }

    /// The next piece in `input`, which is moved behind it; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`PduFault`]; the splitter must not be used any more.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, PduFault> {
        loop {
            match &mut self.state {
                State::Header { bytes, have } => {
                    if *have == 0 && !input.is_empty() {
                        check_type(input[0])?;
                    }
                    if !fill(bytes, have, input) {
                        return Ok(None);
                    }
                    let [kind, _, length @ ..] = *bytes;
                    self.state = self.begin(kind, u32::from_be_bytes(length) as usize)?;
                }
                State::Body { kind, length, bytes } => {
                    let take = (*length - bytes.len()).min(input.len());
                    bytes.extend_from_slice(advance(input, take));
                    if bytes.len() < *length {
                        return Ok(None);
                    }
                    let piece = whole(*kind, std::mem::take(bytes));
                    self.state = State::START;
                    return Ok(Some(piece));
                }
                State::Pdv { left_in_pdu, bytes, have } => {
                    if !fill(bytes, have, input) {
                        return Ok(None);
                    }
                    let [l0, l1, l2, l3, context, control] = *bytes;
                    let length = u32::from_be_bytes([l0, l1, l2, l3]);
                    let left_in_pdu = *left_in_pdu - PDV_HEADER;
                    let left = length.checked_sub(PDV_COUNTED).ok_or(PduFault::Fragment)? as usize;
                    let left_in_pdu = left_in_pdu.checked_sub(left).ok_or(PduFault::Fragment)?;
                    if (1..PDV_HEADER).contains(&left_in_pdu) {
                        return Err(PduFault::Fragment);
                    }
                    self.state = State::Fragment { left_in_pdu, left, context, control };
                    if left == 0 {
                        self.state = State::after_fragment(left_in_pdu);
                        return Ok(Some(fragment(context, control, &[], true)));
                    }
                }
                State::Fragment { left_in_pdu, left, context, control } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let bytes = advance(input, (*left).min(input.len()));
                    *left -= bytes.len();
                    let piece = fragment(*context, *control, bytes, *left == 0);
                    if *left == 0 {
                        self.state = State::after_fragment(*left_in_pdu);
                    }
                    return Ok(Some(piece));
                }
            }
        }
    }

    fn begin(&self, kind: u8, length: usize) -> Result<State, PduFault> {
        let body = |max| if length > max { Err(PduFault::TooLong) } else { Ok(()) };
        match kind {
            kind::DATA if length > self.data_max => return Err(PduFault::DataTooLong),
            kind::DATA if length == 0 => return Err(PduFault::Empty),
            kind::DATA if length < PDV_HEADER => return Err(PduFault::Fragment),
            kind::DATA => return Ok(State::after_fragment(length)),
            kind::ASSOCIATE_RQ | kind::ASSOCIATE_AC => body(ASSOCIATE_MAX)?,
            _ => body(SHORT_MAX)?,
        }
        Ok(State::Body { kind, length, bytes: Vec::new() })
    }
}

/// Says at the first byte when a peer speaks something else.
fn check_type(first: u8) -> Result<(), PduFault> {
    match first {
        kind::ASSOCIATE_RQ..=kind::ABORT => Ok(()),
        0x16 => Err(PduFault::Tls),
        b'A'..=b'Z' => Err(PduFault::Text),
        _ => Err(PduFault::Type),
    }
}

fn advance<'a>(input: &mut &'a [u8], by: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(by);
    *input = rest;
    taken
}

/// Fills a header; true when it is whole.
fn fill<const N: usize>(bytes: &mut [u8; N], have: &mut usize, input: &mut &[u8]) -> bool {
    let taken = advance(input, (N - *have).min(input.len()));
    bytes[*have..*have + taken.len()].copy_from_slice(taken);
    *have += taken.len();
    *have == N
}

fn fragment(context: u8, control: u8, bytes: &[u8], ends: bool) -> Piece<'_> {
    let (is_command, last) = (control & COMMAND != 0, control & LAST != 0 && ends);
    Piece::Fragment(Fragment { context, is_command, bytes, last })
}

/// A PDU that is not P-DATA. What a short one lacks counts as 0.
fn whole(kind: u8, bytes: Vec<u8>) -> Piece<'static> {
    let at = |index: usize| bytes.get(index).copied().unwrap_or_default();
    match kind {
        kind::ASSOCIATE_RQ => Piece::AssociateRq(bytes),
        kind::ASSOCIATE_AC => Piece::AssociateAc(bytes),
        kind::ASSOCIATE_RJ => Piece::AssociateRj(Rejection { result: at(1), source: at(2), reason: at(3) }),
        kind::RELEASE_RQ => Piece::ReleaseRq,
        kind::RELEASE_RP => Piece::ReleaseRp,
        _ => Piece::Abort(Abort { source: at(2), reason: at(3) }),
    }
}

/// A PDU of this type around `body`.
pub fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&[kind, 0]);
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A-ASSOCIATE-RJ.
pub fn associate_rj(rejection: Rejection) -> Vec<u8> {
    pdu(kind::ASSOCIATE_RJ, &[0, rejection.result, rejection.source, rejection.reason])
}

/// A-RELEASE-RQ.
pub fn release_rq() -> Vec<u8> {
    pdu(kind::RELEASE_RQ, &[0; 4])
}

/// A-RELEASE-RP.
pub fn release_rp() -> Vec<u8> {
    pdu(kind::RELEASE_RP, &[0; 4])
}

/// A-ABORT.
pub fn abort(abort: Abort) -> Vec<u8> {
    pdu(kind::ABORT, &[0, 0, abort.source, abort.reason])
}

/// What is sent to a peer in one PDU at most, when it announced this; 0 is no limit.
pub fn send_max(announced: u32) -> u32 {
    match announced {
        0 => SEND_MAX,
        least => least.clamp(PEER_MAX_LEAST, SEND_MAX),
    }
}

/// A whole message as P-DATA, each PDU at most `send_max` bytes long.
pub fn message(context: u8, command: &Command, data_set: Option<&[u8]>, send_max: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_fragments(&mut bytes, context, true, &command.write(), true, send_max);
    if let Some(data_set) = data_set {
        put_fragments(&mut bytes, context, false, data_set, true, send_max);
    }
    bytes
}

/// Appends bytes of a command or data set as P-DATA; `last` when it ends with them. Fragments are of even length as
/// long as pieces of a data set are (PS3.8 Annex E).
pub fn put_fragments(to: &mut Vec<u8>, context: u8, is_command: bool, bytes: &[u8], last: bool, send_max: u32) {
    let room = ((send_max as usize).max(PDV_HEADER + 2) - PDV_HEADER) & !1;
    let count = bytes.len().div_ceil(room).max(1);
    to.reserve(bytes.len() + count * (HEADER + PDV_HEADER));
    for index in 0..count {
        let part = &bytes[index * room..bytes.len().min((index + 1) * room)];
        let mut control = if is_command { COMMAND } else { 0 };
        if last && index + 1 == count {
            control |= LAST;
        }
        to.extend_from_slice(&[kind::DATA, 0]);
        to.extend_from_slice(&((PDV_HEADER + part.len()) as u32).to_be_bytes());
        to.extend_from_slice(&(part.len() as u32 + PDV_COUNTED).to_be_bytes());
        to.extend_from_slice(&[context, control]);
        to.extend_from_slice(part);
    }
}
