//! What HL7 instruments ask of their host, and what they say to an order.
//!
//! | query | profile | reply |
//! |---|---|---|
//! | `QBP^Q11` | IHE LAW, LAB-27 (PaLM TF-2b 3.27) | `RSP^K11`, then LAB-28 `OML^O33` |
//! | `QBP^Z01`, `QBP^Z03` | Cepheid GeneXpert | `RSP^Z02` with the orders |
//! | `QRY^Q02` | Mindray BS and its kin | `QCK^Q02`, then `DSR^Q03` |
//! | `ORM^O01`, ORC-1 `RF` | Mindray BC and its kin | `ORR^O02` with the order |

use super::{Message, Segment, read};
use crate::clinical::Phi;
use crate::message::charset::Charset;

/// Which host-query dialect a message is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// IHE LAW.
    Law,
    /// Cepheid GeneXpert.
    GeneXpert,
    /// The display query of HL7 2.3, as Mindray's chemistry analyzers use it.
    Display,
    /// The order message with which Mindray's haematology analyzers ask.
    OrderMessage,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The orders on these specimens, by the ids on their labels. Never empty, and none of them is.
    Specimens(Vec<Phi>),
    /// Every order for this instrument.
    All,
    /// The orders on whatever stands in this place (LAW, query by rack or by tray).
    Place(Place),
    /// Something nobody here can know, or no id at all; in words that are safe to log.
    Unanswerable(&'static str),
}

/// Where a tube stands in an analyzer, escaped with the usual delimiters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A tray (QPD-6 and QPD-7), or a rack (QPD-4 and QPD-5).
    pub is_tray: bool,
    /// Which.
    pub holder: String,
    /// The position in it.
    pub position: String,
}

/// The header of a peer's message, as far as answers and orders to it repeat it. The texts are escaped with the usual
/// delimiters, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// MSH-3 and MSH-4.
    pub sender: [String; 2],
    /// MSH-5 and MSH-6: how the peer calls us.
    pub receiver: [String; 2],
    /// MSH-10.
    pub control_id: String,
    /// MSH-11.
    pub processing_id: String,
    /// MSH-12.
    pub version: String,
    /// MSH-18.
    pub charset: String,
}

/// A query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostQuery {
    /// In which dialect.
    pub dialect: Dialect,
    /// Who asks.
    pub peer: Peer,
    /// For what.
    pub wanted: Wanted,
    /// QPD-1 and QPD-2 (name and tag), escaped; empty in the other dialects.
    pub name_and_tag: [String; 2],
    /// The segments that say what is asked (QPD, or QRD and QRF), with the usual delimiters: answers repeat them.
    pub echo: Vec<Phi>,
}

/// What an instrument says to one order (ORC of `ORL^O34`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderAnswer {
    /// ORC-2, else OBR-2.
    pub placer_order_number: Phi,
    /// ORC-1: `OK`, `UA` (unable to accept), `CR` (cancelled as requested), `UC` (unable to cancel), ...
    pub control: String,
}

/// An answer to orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// MSA-1.
    pub code: String,
    /// One for each order it names; none when it speaks of the message as a whole.
    pub orders: Vec<OrderAnswer>,
}

impl Answer {
    /// True when the message as a whole was taken.
    pub fn accepts(&self) -> bool {
        matches!(self.code.as_str(), "AA" | "CA")
    }
}

/// Reads a query; `None` when the message is none. `declared` is the character set of the link or its driver.
pub fn query(raw: &[u8], declared: Option<Charset>) -> Option<HostQuery> {
    let reading = read(raw, declared);
    let message = reading.messages.first()?;
    let (kind, trigger) = (part(message.msh()?, 9, 1), part(message.msh()?, 9, 2));
    let dialect = match (kind.as_str(), trigger.as_str()) {
        ("QBP", "Z01" | "Z03") => Dialect::GeneXpert,
        ("QBP", _) => Dialect::Law,
        ("QRY", _) => Dialect::Display,
        ("ORM", _) => Dialect::OrderMessage,
        _ => return None,
    };
    // What came damaged or in another character set must not be taken for somebody's id.
    let sound = !message.unreadable && message.clean && reading.messages.len() == 1;
    let wanted = match sound {
        true => wanted(dialect, &trigger, message),
        false => Wanted::Unanswerable("the query could not be read"),
    };
    let qpd = segment(message, "QPD");
    let field = |n| qpd.map(|qpd| rewritten(qpd, n)).unwrap_or_default();
    let echo = message.segments.iter().filter(|s| matches!(s.name.as_str(), "QPD" | "QRD" | "QRF"));
    Some(HostQuery {
        dialect,
        peer: peer(message)?,
        wanted,
        name_and_tag: [field(1), field(2)],
        echo: echo.map(|segment| Phi::new(whole(segment))).collect(),
    })
}

/// Reads an answer to an order.
pub fn answer(raw: &[u8], declared: Option<Charset>) -> Option<Answer> {
    let reading = read(raw, declared);
    let message = reading.messages.first()?;
    let code = part(segment(message, "MSA")?, 1, 1);
    let mut orders: Vec<OrderAnswer> = Vec::new();
    for segment in &message.segments {
        match segment.name.as_str() {
            "ORC" => orders
                .push(OrderAnswer { placer_order_number: Phi::new(part(segment, 2, 1)), control: part(segment, 1, 1) }),
            "OBR" => {
                if let Some(last) = orders.last_mut().filter(|order| order.placer_order_number.is_empty()) {
                    last.placer_order_number = Phi::new(part(segment, 2, 1));
                }
            }
            _ => {}
        }
    }
    Some(Answer { code, orders })
}

/// Who sent a message.
pub fn sender(raw: &[u8]) -> Option<Peer> {
    peer(read(raw, None).messages.first()?)
}

fn peer(message: &Message) -> Option<Peer> {
    let msh = message.msh()?;
    let field = |n| rewritten(msh, n);
    Some(Peer {
        sender: [field(3), field(4)],
        receiver: [field(5), field(6)],
        control_id: field(10),
        processing_id: field(11),
        version: field(12),
        charset: field(18),
    })
}

fn wanted(dialect: Dialect, trigger: &str, message: &Message) -> Wanted {
    const NO_ID: Wanted = Wanted::Unanswerable("the query names no specimen");
    let ids = |segment: Option<&Segment>, field: u16| {
        let ids = segment.map(|segment| segment.repeats(field, 1, None)).unwrap_or_default();
        let ids: Vec<Phi> = ids.iter().map(|id| id.trim()).filter(|id| !id.is_empty()).map(Phi::new).collect();
        if ids.is_empty() { NO_ID } else { Wanted::Specimens(ids) }
    };
    match dialect {
        Dialect::Law => {
            let qpd = segment(message, "QPD");
            match qpd.map(|qpd| part(qpd, 1, 1)).unwrap_or_default().as_str() {
                "WOS" => ids(qpd, 3),
                "WOS_ALL" => Wanted::All,
                "WOS_BY_RACK" => place(qpd, 4),
                "WOS_BY_TRAY" => place(qpd, 6),
                _ => Wanted::Unanswerable("the query has a name that is not known here"),
            }
        }
        Dialect::GeneXpert if trigger == "Z01" => Wanted::All,
        Dialect::GeneXpert => ids(segment(message, "QPD"), 4),
        Dialect::Display => match segment(message, "QRD") {
            Some(qrd) if qrd.raw_field(8).trim().is_empty() => Wanted::All,
            qrd => ids(qrd, 8),
        },
        Dialect::OrderMessage => match segment(message, "ORC") {
            // ORC-3 is where these instruments put the id; some leave it in ORC-2.
            Some(orc) if orc.raw_field(3).trim().is_empty() => ids(Some(orc), 2),
            orc => ids(orc, 3),
        },
    }
}

/// The place that a query names at this field of QPD and the next.
fn place(qpd: Option<&Segment>, field: u16) -> Wanted {
    let at = |n| qpd.map(|qpd| rewritten(qpd, n)).unwrap_or_default();
    let (holder, position) = (at(field), at(field + 1));
    match holder.trim().is_empty() || position.trim().is_empty() {
        true => Wanted::Unanswerable("the query names no place"),
        false => Wanted::Place(Place { is_tray: field == 6, holder, position }),
    }
}

fn segment<'m>(message: &'m Message, name: &str) -> Option<&'m Segment> {
    message.segments.iter().find(|segment| segment.name == name)
}

fn part(segment: &Segment, field: u16, component: u16) -> String {
    segment.component(field, component, None).trim().to_string()
}

/// A field as it would stand between the usual delimiters.
fn rewritten(segment: &Segment, n: u16) -> String {
    segment.with_usual_separators(segment.raw_field(n))
}

/// The segment as it would stand with the usual delimiters.
fn whole(segment: &Segment) -> String {
    segment.with_usual_separators(segment.text())
}
