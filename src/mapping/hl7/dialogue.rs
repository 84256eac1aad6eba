//! What an instrument gets for its query, and what its answer to an order means. Pure: the orders are looked up by the
//! caller, who is told which of them the instrument then knows.

use super::host::{self, Container, Control, Found, Stamp, Work};
use crate::clinical::Phi;
use crate::mapping::{MapError, message_id};
use crate::message::hl7::query::{Answer, Dialect, HostQuery, Peer, Wanted};
use std::collections::BTreeMap;

/// What makes our messages ours.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The gateway's name.
    pub gateway: &'a str,
    /// The link's name.
    pub link: &'a str,
    /// The time of day, as HL7 writes it.
    pub time: &'a str,
}

/// The orders on one specimen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnSpecimen {
    /// The id on its label.
    pub id: Phi,
    /// What is to be done with it; nothing when it is unknown here.
    pub work: Vec<Work>,
}

/// What goes out for a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// At once, in place of an acknowledgment.
    pub message: Vec<u8>,
    /// The orders that this message itself tells of ([`Work::key`]).
    pub told: Vec<i64>,
    /// What follows by itself, each answered by the instrument.
    pub follow: Vec<Dispatch>,
}

/// A message of ours about orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// The message, unframed.
    pub message: Vec<u8>,
    /// What it says of the orders.
    pub control: Control,
    /// The orders it tells of: placer order number and [`Work::key`], one for each test.
    pub orders: Vec<(Phi, i64)>,
}

/// What became of an order at the instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The instrument does as it was told.
    Accepted,
    /// It does not.
    Refused,
}

/// The reply to a query. `specimens` has the orders for each id that was asked for, or all there are.
///
/// # Errors
/// An order that the instrument's character set cannot carry.
pub fn reply(query: &HostQuery, specimens: &[OnSpecimen], names: &Names<'_>) -> Result<Reply, MapError> {
    let work: Vec<Work> = specimens.iter().flat_map(|specimen| specimen.work.clone()).collect();
    let found = match (&query.wanted, work.is_empty()) {
        (Wanted::Unanswerable(why), _) => Found::Fault(why),
        (_, true) => Found::Nothing,
        (_, false) => Found::Orders,
    };
    let id = id(names, "reply", &[query.peer.control_id.as_bytes(), names.time.as_bytes()]);
    let stamp = Stamp { control_id: &id, time: names.time };
    let told = |work: &[Work]| work.iter().map(|work| work.key).collect();
    let mut follow = Vec::new();
    let (message, told) = match query.dialect {
        Dialect::Law => {
            for specimen in specimens {
                follow.push(match specimen.work.is_empty() {
                    false => law_orders(&query.peer, &specimen.id, &specimen.work, Control::New, names)?,
                    true => law_nothing(query, &Container::Labelled(&specimen.id), names)?,
                });
            }
            if let Wanted::Place(place) = &query.wanted {
                follow.push(law_nothing(query, &Container::At(place), names)?);
            }
            (host::law_response(query, found, &stamp)?, Vec::new())
        }
        Dialect::GeneXpert => (host::genexpert_response(query, found, &work, &stamp)?, told(&work)),
        Dialect::Display => {
            let filled: Vec<&OnSpecimen> = specimens.iter().filter(|specimen| !specimen.work.is_empty()).collect();
            for (at, specimen) in filled.iter().enumerate() {
                follow.push(display_orders(query, specimen, at + 1 < filled.len(), names)?);
            }
            (host::display_acknowledgment(query, found, &stamp)?, Vec::new())
        }
        Dialect::OrderMessage => {
            // One specimen is asked for, and one can be answered.
            let nothing = OnSpecimen { id: Phi::default(), work: Vec::new() };
            let specimen = specimens.first().unwrap_or(&nothing);
            (host::order_response(query, &specimen.id, &specimen.work, &stamp)?, told(&specimen.work))
        }
    };
    Ok(Reply { message, told, follow })
}

/// LAB-28 for one specimen. The same orders make the same message with the same MSH-10, also after a restart, so that
/// an analyzer that heard it before can tell (invariant I5).
///
/// # Errors
/// There is no order.
pub fn law_orders(
    peer: &Peer,
    container: &Phi,
    work: &[Work],
    control: Control,
    names: &Names<'_>,
) -> Result<Dispatch, MapError> {
    let mut parts: Vec<Vec<u8>> = vec![container.expose().as_bytes().to_vec()];
    for work in work {
        parts.push(work.key.to_be_bytes().to_vec());
        parts.push(work.changed.clone().into_bytes());
        parts.extend(work.tests.iter().map(|test| test.code.clone().into_bytes()));
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let what = if control == Control::New { "order" } else { "cancel" };
    let id = id(names, what, &parts);
    let time = work.iter().map(|work| work.changed.as_str()).max().unwrap_or(names.time);
    let message = host::law_orders(peer, container, work, control, &Stamp { control_id: &id, time })?;
    Ok(Dispatch { message, control, orders: numbered(work) })
}

/// What an answer says of each order of the message it answers. Silence about an order of an accepted message accepts
/// it; of several tests of one order, one that is accepted is enough.
pub fn outcomes(dispatch: &Dispatch, answer: &Answer) -> Vec<(i64, Outcome)> {
    let mut outcomes: BTreeMap<i64, Outcome> = BTreeMap::new();
    for (number, key) in &dispatch.orders {
        let said = answer.orders.iter().find(|said| said.placer_order_number == *number);
        let outcome = match said.map(|said| said.control.as_str()) {
            Some("UA" | "UC" | "UD" | "UX" | "UH") => Outcome::Refused,
            Some(_) => Outcome::Accepted,
            None if answer.accepts() => Outcome::Accepted,
            None => Outcome::Refused,
        };
        let entry = outcomes.entry(*key).or_insert(outcome);
        if outcome == Outcome::Accepted {
            *entry = outcome;
        }
    }
    outcomes.into_iter().collect()
}

fn law_nothing(query: &HostQuery, container: &Container<'_>, names: &Names<'_>) -> Result<Dispatch, MapError> {
    let named = match container {
        Container::Labelled(id) => [id.expose(), ""],
        Container::At(place) => [place.holder.as_str(), place.position.as_str()],
    };
    let id = id(names, "nothing", &[query.peer.control_id.as_bytes(), named[0].as_bytes(), named[1].as_bytes()]);
    let message = host::law_nothing(&query.peer, container, &Stamp { control_id: &id, time: names.time })?;
    Ok(Dispatch { message, control: Control::New, orders: Vec::new() })
}

fn display_orders(
    query: &HostQuery,
    specimen: &OnSpecimen,
    more: bool,
    names: &Names<'_>,
) -> Result<Dispatch, MapError> {
    let id = id(names, "display", &[query.peer.control_id.as_bytes(), specimen.id.expose().as_bytes()]);
    let stamp = Stamp { control_id: &id, time: names.time };
    let message = host::display_orders(query, &specimen.id, &specimen.work, more, &stamp)?;
    Ok(Dispatch { message, control: Control::New, orders: numbered(&specimen.work) })
}

fn numbered(work: &[Work]) -> Vec<(Phi, i64)> {
    host::each_test(work).map(|(work, number, _)| (Phi::new(number.id), work.key)).collect()
}

fn id(names: &Names<'_>, what: &str, parts: &[&[u8]]) -> String {
    let own = [names.gateway.as_bytes(), names.link.as_bytes(), what.as_bytes()];
    message_id(&[&own, parts].concat())
}

#[cfg(test)]
mod tests;
