//! Orders as LIS02-A2 records: the answer to a query, or a worklist nobody asked for.
//!
//! What goes to the instrument is exact or does not go. A test is sent by the one code of the instrument that stands for
//! it, by the driver's analytes or by a code map; a test with no code, or with several, is left out and named. A tube
//! that orders of two patients point to gets none of them. An order is only ever put to the specimen id it names.

use super::Driver;
use super::dialogue::{OrderLayout, Piece, Template};
use super::order_code::SiteCodes;
use super::path::Place;
use super::query::{Asked, Query};
use crate::clinical::{Patient, Phi, WorkOrder};
use crate::message::astm::Delimiters;
use crate::message::charset::Charset;

/// Most orders in one message.
pub const ORDERS_MAX: usize = 200;

/// What the link knows beside the driver.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// What codes of the EHR stand for; goes before the driver's.
    pub codes: SiteCodes,
    /// Character set of the link; goes before the driver's.
    pub charset: Option<String>,
}

/// Records to send, and what they say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The records in order, each without its closing CR.
    pub records: Vec<Vec<u8>>,
    /// Which of the orders are in it, by their place in the list.
    pub told: Vec<usize>,
    /// What is not in it.
    pub left_out: Vec<LeftOut>,
}

/// Something ordered that is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Which of the orders.
    pub order: usize,
    /// The EHR's code of the test; empty when it is the whole order.
    pub code: String,
    /// Why; a closed set of texts.
    pub why: &'static str,
}

/// Why something ordered is not sent.
pub mod why {
    /// Nothing the driver or the link lists stands for the test.
    pub const UNKNOWN: &str = "no code of this instrument stands for an ordered test";
    /// Several codes do.
    pub const AMBIGUOUS: &str = "several codes of this instrument stand for an ordered test";
    /// Two patients, one tube.
    pub const PATIENTS: &str = "orders of several patients are on one specimen";
    /// Nothing to put the order to.
    pub const NO_SPECIMEN: &str = "an order names no specimen";
    /// The id has characters the instrument cannot be sent.
    pub const UNWRITABLE: &str = "a specimen id cannot be written in the instrument's character set";
    /// More than one message carries.
    pub const LIMIT: &str = "more orders than one message carries";
}

/// The answer to a query. `orders` may hold more than was asked for; `now` is the time of day on the instrument's clock.
pub fn answer(driver: &Driver, site: &Site, query: &Query, orders: &[WorkOrder], now: &str) -> Message {
    let layout = driver.order_layout();
    let mut writer = Writer::new(driver, site, layout, now, &layout.action);
    writer.query = Some(query);
    let all: Vec<(usize, &WorkOrder)> = orders.iter().enumerate().collect();
    let mut tubes: Vec<Tube> = Vec::new();
    for asked in &query.specimens {
        let of_it =
            |order: &WorkOrder| asked.specimen_id.as_ref().is_some_and(|id| order.specimen_ids().any(|own| own == id));
        let orders = all.iter().filter(|(_, order)| of_it(order)).copied().collect();
        tubes.push(Tube { asked: Some(asked), id: asked.specimen_id.as_ref(), orders });
    }
    if query.all {
        tubes.extend(by_specimen(&all));
    }
    writer.message(&tubes)
}

/// Orders that are sent without a question; `None` when the driver does not know how, or none of them can be sent.
pub fn push(driver: &Driver, site: &Site, orders: &[WorkOrder], cancel: bool, now: &str) -> Option<Message> {
    let layout = driver.order_layout();
    let action = if cancel { layout.cancel_action.as_ref()? } else { layout.push_action.as_ref()? };
    let all: Vec<(usize, &WorkOrder)> = orders.iter().enumerate().collect();
    let mut message = Writer::new(driver, site, layout, now, action).message(&by_specimen(&all));
    if message.told.is_empty() {
        message.records.clear();
    }
    Some(message)
}

struct Tube<'o> {
    asked: Option<&'o Asked>,
    /// `None` for an id that could not be read.
    id: Option<&'o Phi>,
    orders: Vec<(usize, &'o WorkOrder)>,
}

/// One tube for each specimen id, in the order in which they come. An order that names none is in a tube of its own.
fn by_specimen<'o>(orders: &[(usize, &'o WorkOrder)]) -> Vec<Tube<'o>> {
    let mut tubes: Vec<Tube> = Vec::new();
    for &(at, order) in orders {
        let id = &order.specimen.id;
        match tubes.iter_mut().find(|tube| !id.is_empty() && tube.id == Some(id)) {
            Some(tube) => tube.orders.push((at, order)),
            None => tubes.push(Tube { asked: None, id: Some(id), orders: vec![(at, order)] }),
        }
    }
    tubes
}

struct Writer<'w> {
    driver: &'w Driver,
    site: &'w Site,
    layout: &'w OrderLayout,
    query: Option<&'w Query>,
    now: &'w str,
    action: &'w str,
    charset: Charset,
    delimiters: Delimiters,
    made: Message,
}

/// What the names of a layout stand for at one point.
#[derive(Clone, Copy, Default)]
struct Scope<'s> {
    n: usize,
    asked: Option<&'s Asked>,
    id: &'s str,
    order: Option<&'s WorkOrder>,
    priority: &'s str,
    tests: &'s str,
    code: &'s str,
}

impl<'w> Writer<'w> {
    fn new(driver: &'w Driver, site: &'w Site, layout: &'w OrderLayout, now: &'w str, action: &'w str) -> Self {
        let label = site.charset.as_deref().or(driver.wire().charset.as_deref());
        let header = layout.header.filled(|_| String::new());
        Writer {
            driver,
            site,
            layout,
            query: None,
            now,
            action,
            charset: label.and_then(Charset::named).unwrap_or(Charset::Latin1),
            delimiters: Delimiters::declared_by(&header),
            made: Message::default(),
        }
    }

    fn message(mut self, tubes: &[Tube<'_>]) -> Message {
        self.record(&self.layout.header, Scope { n: 1, ..Scope::default() });
        let (mut patients, mut orders) = (0, 0);
        for tube in tubes {
            let Some((first, tests)) = self.tests_of(tube) else {
                for template in &self.layout.nothing {
                    let id = tube.id.map_or("", Phi::expose);
                    let n = if template.begins("P") { patients + 1 } else { 1 };
                    patients += usize::from(template.begins("P"));
                    self.record(template, Scope { n, asked: tube.asked, id, ..Scope::default() });
                }
                continue;
            };
            let id = tube.id.map_or("", Phi::expose);
            let priority = self.priority(tube);
            let scope = Scope { asked: tube.asked, id, order: Some(first), priority: &priority, ..Scope::default() };
            if let Some(template) = &self.layout.patient {
                (patients, orders) = (patients + 1, 0);
                self.record(template, Scope { n: patients, ..scope });
            }
            let written: Vec<String> =
                tests.iter().map(|code| self.fill(&self.layout.test, Scope { code, ..scope })).collect();
            if self.layout.order.names("tests") {
                orders += 1;
                let tests = written.join(&self.delimiters.repeat.to_string());
                self.record(&self.layout.order, Scope { n: orders, tests: &tests, ..scope });
            } else {
                for (test, code) in written.iter().zip(&tests) {
                    orders += 1;
                    self.record(&self.layout.order, Scope { n: orders, tests: test, code, ..scope });
                }
            }
        }
        let end = if self.made.told.is_empty() { &self.layout.end_nothing } else { &self.layout.end };
        self.record(end, Scope { n: 1, ..Scope::default() });
        self.made
    }

    /// The first order that is told of this tube and the codes of all of them; `None` when there is nothing to tell.
    fn tests_of<'o>(&mut self, tube: &Tube<'o>) -> Option<(&'o WorkOrder, Vec<String>)> {
        tube.orders.first()?;
        let left = |order: usize, why| LeftOut { order, code: String::new(), why };
        let id = tube.id.map_or("", Phi::expose);
        let refusal = if id.trim().is_empty() {
            Some(why::NO_SPECIMEN)
        } else if !Patient::are_one(tube.orders.iter().map(|(_, order)| &order.patient.patient)) {
            Some(why::PATIENTS)
        } else if !self.charset.encode(id).1 || id.chars().any(char::is_control) {
            Some(why::UNWRITABLE)
        } else {
            None
        };
        if let Some(why) = refusal {
            self.made.left_out.extend(tube.orders.iter().map(|(at, _)| left(*at, why)));
            return None;
        }
        let asked_for = self.query.map(|query| query.tests.as_slice()).unwrap_or_default();
        let (mut tests, mut told) = (Vec::new(), None);
        for &(at, order) in &tube.orders {
            if self.made.told.len() >= ORDERS_MAX {
                self.made.left_out.push(left(at, why::LIMIT));
                continue;
            }
            let mut sent = false;
            for test in &order.tests {
                match self.driver.codes_to_order(&self.site.codes, test) {
                    Ok(codes) => {
                        let codes = codes.into_iter().map(|coding| coding.code);
                        for code in codes.filter(|c| asked_for.is_empty() || asked_for.contains(c)) {
                            sent = true;
                            if !tests.contains(&code) {
                                tests.push(code);
                            }
                        }
                    }
                    Err(why) => {
                        let code = test.universal_service_id.code.clone();
                        self.made.left_out.push(LeftOut { order: at, code, why });
                    }
                }
            }
            if sent {
                told = told.or(Some(order));
                self.made.told.push(at);
            }
        }
        told.map(|order| (order, tests))
    }

    /// The most urgent priority of a tube's orders, in the instrument's word.
    fn priority(&self, tube: &Tube<'_>) -> String {
        let urgent = ["S", "A"].into_iter().chain(tube.orders.iter().map(|(_, order)| order.priority.as_str()));
        let mut urgent = urgent.filter(|p| tube.orders.iter().any(|(_, order)| order.priority == *p));
        let word = urgent.find_map(|p| self.layout.priorities.get(p));
        word.unwrap_or(&self.layout.priority_other).clone()
    }

    fn record(&mut self, template: &Template, scope: Scope<'_>) {
        let text = self.fill(template, scope);
        // Empty fields at the end say nothing.
        let text = text.trim_end_matches([self.delimiters.field, self.delimiters.component]);
        self.made.records.push(self.charset.encode(text).0);
    }

    fn fill(&self, template: &Template, scope: Scope<'_>) -> String {
        template.filled(|piece| match piece {
            Piece::Name("tests" | "test") => scope.tests.to_string(),
            Piece::Name(name) => self.escape(&self.named(name, scope)),
            Piece::Echo(place) => {
                // Asked for everything, the instrument named no specimen that could be echoed.
                if scope.asked.is_none() && self.is_specimen(place) {
                    return self.escape(scope.id);
                }
                let text = self.query.map(|query| query.echo(scope.asked, place)).unwrap_or_default();
                // A whole field was decoded with its delimiters in it.
                if place.component.is_some() { self.escape(&text) } else { text }
            }
            Piece::Text(text) => text.clone(),
        })
    }

    /// True for the place where the instrument names the specimen it asks for.
    fn is_specimen(&self, place: &Place) -> bool {
        self.driver.schema.query.as_ref().is_some_and(|query| query.specimen_id.places().any(|own| own == place))
    }

    fn named(&self, name: &str, scope: Scope<'_>) -> String {
        match name {
            "now" => return self.now.to_string(),
            "n" => return scope.n.to_string(),
            "action" => return self.action.to_string(),
            "specimen_id" => return scope.id.to_string(),
            "priority" => return scope.priority.to_string(),
            "code" => return scope.code.to_string(),
            _ => {}
        }
        let Some(order) = scope.order else { return String::new() };
        let patient = &order.patient.patient;
        match name {
            "specimen_type" => {
                let code = order.specimen.type_code.as_ref().map_or("", |coding| coding.code.as_str());
                self.layout.specimen_types.get(code).unwrap_or(&self.layout.specimen_type_other).clone()
            }
            "ordered" => order.ordered.as_ref().map(|time| time.local.clone()).unwrap_or_default(),
            "collected" => order.specimen.collected.as_ref().map(|time| time.local.clone()).unwrap_or_default(),
            "patient_id" => patient.id.expose().to_string(),
            "family" => patient.family.expose().to_string(),
            "given" => patient.given.expose().to_string(),
            "birth_date" => patient.birth_date.expose().to_string(),
            "sex" => patient.sex.clone(),
            "location" => patient.location.expose().to_string(),
            "placer_order_number" => order.placer_order_number.id.expose().to_string(),
            _ => String::new(),
        }
    }

    /// Delimiters as LIS02-A2 clause 5.4.6 escapes them; a control character would end the record or the frame.
    fn escape(&self, text: &str) -> String {
        let d = self.delimiters;
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            let letter = match c {
                c if c == d.field => 'F',
                c if c == d.component => 'S',
                c if c == d.repeat => 'R',
                c if c == d.escape => 'E',
                c if c.is_control() => {
                    out.push(' ');
                    continue;
                }
                c => {
                    out.push(c);
                    continue;
                }
            };
            out.extend([d.escape, letter, d.escape]);
        }
        out
    }
}

#[cfg(test)]
mod tests;
