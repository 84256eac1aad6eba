//! Which order a result answers. Pure: what is known comes in, what follows from it goes out.
//!
//! Only what is known exactly is filled in (invariant I13):
//!
//! - Orders that were not taken back count, found by a name of the specimen; an order whose message named no specimen is
//!   found by the placer or filler order number the instrument sent.
//! - All of them must be one patient's, and an instrument that names a patient itself must name that one, by any number
//!   the EHR gave. Otherwise everything is held as `order-mismatch`.
//! - The patient is then the order's. One order alone takes all results of its specimen. Of several, a result answers
//!   the one under the number the instrument sent, else the only one that asks for its test, else the only open one that
//!   does; one that asks for the test itself goes before one that asks for a panel. What fits none goes out under the
//!   patient without an order number, or is held as `no-order` where orders are required.
//! - Without any order the result is the instrument's own, or held as `no-order`. An id the EHR merged into another goes
//!   out as the one that survived.
//!
//! Control runs and links with `orders = "off"` are left alone.

use crate::clinical::{Coding, Doubt, Observation, OrderNumber, OrderedPatient, OrderedTest, Patient, Phi, Report};
use crate::driver::order_code::SiteCodes;
use crate::journal::StoredOrder;
use crate::rules::Orders;

/// What the box knows about the specimen and the patient of a report.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Orders on the report's specimen.
    pub on_specimen: Vec<StoredOrder>,
    /// Orders under the numbers the instrument sent.
    pub numbered: Vec<StoredOrder>,
    /// The patient the instrument's own patient id stands for.
    pub patient: Option<OrderedPatient>,
    /// Code of the EHR = codes of the instrument that it stands for: a panel asks for each of its tests.
    pub codes: SiteCodes,
    /// State of the orders when this was read.
    pub as_of: i64,
}

/// A report with what the orders say about it.
#[derive(Debug, Clone)]
pub struct Matched {
    /// The report, under the patient it goes out for, with the doubts of matching.
    pub report: Report,
    /// Its results by the order they answer.
    pub parts: Vec<Part>,
}

/// Results that go out together.
#[derive(Debug, Clone)]
pub struct Part {
    /// Which results, from 0, ascending.
    pub observations: Vec<u32>,
    /// The order they answer.
    pub order: Option<StoredOrder>,
    /// What of it they answer, when it is certain.
    pub asked: Option<Coding>,
}

impl Matched {
    /// The report as the instrument said it.
    pub fn untouched(report: &Report) -> Self {
        let all = (0..report.observations.len() as u32).collect();
        Matched { report: report.clone(), parts: vec![Part { observations: all, order: None, asked: None }] }
    }

    fn doubted(report: &Report, doubt: Doubt) -> Self {
        let mut matched = Matched::untouched(report);
        matched.report.observations.iter_mut().for_each(|o| o.doubts.push(doubt));
        matched
    }

    /// What is doubtful about the order of one result.
    pub fn doubt(&self, observation: u32) -> Option<Doubt> {
        let doubts = &self.report.observations.get(observation as usize)?.doubts;
        doubts.iter().copied().find(|d| matches!(d, Doubt::NoOrder | Doubt::OrderMismatch))
    }
}

impl Part {
    /// The report as these results go out: under their order's numbers, and with what the order says of the specimen
    /// where the instrument said nothing.
    pub fn report(&self, matched: &Report) -> Report {
        let mut report = matched.clone();
        let Some(order) = self.order.as_ref().map(|stored| &stored.order) else { return report };
        report.order.placer_order_number = order.placer_order_number.id.clone();
        report.order.placer_namespace = Some(order.placer_order_number.namespace.clone());
        if !order.filler_order_number.is_empty() {
            let OrderNumber { id, namespace } = &order.filler_order_number;
            report.order.filler_order_number = id.clone();
            report.order.filler_namespace = Some(namespace.clone());
        }
        if self.asked.is_some() {
            report.order.universal_service_id.clone_from(&self.asked);
        }
        if report.order.priority.is_empty() {
            report.order.priority.clone_from(&order.priority);
        }
        let (specimen, ordered) = (&mut report.specimen, &order.specimen);
        specimen.collected = specimen.collected.take().or_else(|| ordered.collected.clone());
        specimen.type_code = specimen.type_code.take().or_else(|| ordered.type_code.clone());
        report
    }
}

/// Matches a report with what is known.
pub fn match_up(report: &Report, known: &Known, orders: Orders) -> Matched {
    if orders == Orders::Off || report.control.is_some() {
        return Matched::untouched(report);
    }
    let numbered = known.numbered.iter().filter(|stored| stored.order.specimen_ids().next().is_none());
    let candidates: Vec<&StoredOrder> =
        known.on_specimen.iter().chain(numbered).filter(|stored| stored.status.is_valid()).collect();
    let Some(first) = candidates.first() else { return without_order(report, known, orders) };
    let patient = &first.order.patient;
    if !Patient::are_one(candidates.iter().map(|stored| &stored.order.patient.patient))
        || !is_named(&report.patient.id, patient, known)
    {
        return Matched::doubted(report, Doubt::OrderMismatch);
    }
    let mut matched = report.clone();
    matched.patient = of_order(&report.patient, &patient.patient);
    let mut parts: Vec<Part> = Vec::new();
    for (at, observation) in report.observations.iter().enumerate() {
        let order = answered(report, observation, &candidates, &known.codes);
        if order.is_none()
            && orders == Orders::Required
            && let Some(observation) = matched.observations.get_mut(at)
        {
            observation.doubts.push(Doubt::NoOrder);
        }
        match parts.iter_mut().find(|part| part.order.as_ref().map(|o| o.id) == order.map(|o| o.id)) {
            Some(part) => part.observations.push(at as u32),
            None => parts.push(Part { observations: vec![at as u32], order: order.cloned(), asked: None }),
        }
    }
    for part in &mut parts {
        part.asked = asked(part, report, &known.codes);
    }
    Matched { report: matched, parts }
}

/// What of their order results answer: the only test of it, else the first that asks for one of them.
fn asked(part: &Part, report: &Report, codes: &SiteCodes) -> Option<Coding> {
    let results = || part.observations.iter().filter_map(|at| report.observations.get(*at as usize));
    let test = match part.order.as_ref()?.order.tests.as_slice() {
        [only] => Some(only),
        several => {
            let first = |by: By| several.iter().find(|test| results().any(|r| asks_for(test, report, r, codes, by)));
            first(By::Name).or_else(|| first(By::NameOrPanel))
        }
    };
    test.map(|test| test.universal_service_id.clone())
}

fn without_order(report: &Report, known: &Known, orders: Orders) -> Matched {
    if orders == Orders::Required {
        return Matched::doubted(report, Doubt::NoOrder);
    }
    let mut matched = Matched::untouched(report);
    if let Some(patient) = &known.patient {
        matched.report.patient = of_order(&report.patient, &patient.patient);
    }
    matched
}

/// True when the instrument names this patient, or none.
fn is_named(id: &Phi, patient: &OrderedPatient, known: &Known) -> bool {
    let merged = || known.patient.as_ref().is_some_and(|now| now.patient.id == patient.patient.id);
    id.is_empty() || patient.goes_by(id) || merged()
}

/// The EHR's word on the patient, completed by the instrument's on where they lie.
fn of_order(heard: &Patient, ordered: &Patient) -> Patient {
    let mut patient = ordered.clone();
    if patient.location.is_empty() {
        patient.location = heard.location.clone();
    }
    patient
}

/// The one order a result answers, when it is certain which.
fn answered<'o>(
    report: &Report,
    observation: &Observation,
    candidates: &[&'o StoredOrder],
    codes: &SiteCodes,
) -> Option<&'o StoredOrder> {
    let sent = &report.order.placer_order_number;
    let by_number = candidates.iter().filter(|c| !sent.is_empty() && c.order.placer_order_number.id == *sent);
    let asking = |by: By| {
        let asks = move |test: &OrderedTest| asks_for(test, report, observation, codes, by);
        candidates.iter().filter(move |c| c.order.tests.iter().any(asks))
    };
    // Who asks for the test itself means it more than who asks for a panel that has it. An order that has its results is
    // found by a correction, and where no open one asks.
    let open = |by: By| only(asking(by).filter(|c| c.status.is_open()));
    let open = || open(By::Name).or_else(|| open(By::NameOrPanel)).filter(|_| observation.status != "C");
    let by_test = || open().or_else(|| only(asking(By::Name))).or_else(|| only(asking(By::NameOrPanel)));
    only(candidates.iter()).or_else(|| only(by_number)).or_else(by_test)
}

/// How an ordered test means a result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The test itself: by LOINC, by the instrument's code, by what the instrument says was ordered, or by a code that
    /// stands for one of these.
    Name,
    /// That, or a panel that holds it.
    NameOrPanel,
}

fn asks_for(test: &OrderedTest, report: &Report, observation: &Observation, codes: &SiteCodes, by: By) -> bool {
    let loinc = observation.code.as_ref().map(|c| c.code.as_str());
    let service = report.order.universal_service_id.as_ref().map(|c| c.code.as_str());
    let own = Some(observation.instrument_code.as_str());
    test.codings().any(|coding| {
        // Where tests are ordered by codes of the laboratory, the service alone tells which of them was done.
        let stands_for = |code: &String| [own, service].contains(&Some(code.as_str()));
        // A code the site says the meaning of has no other, even where the instrument has the same one.
        let listed = codes.get(&coding.code);
        let named = if listed.is_some() { [loinc, None, None] } else { [loinc, own, service] };
        named.contains(&Some(coding.code.as_str()))
            || listed
                .filter(|codes| by == By::NameOrPanel || codes.len() == 1)
                .is_some_and(|codes| codes.iter().any(stands_for))
    })
}

fn only<'a, 'o: 'a>(mut all: impl Iterator<Item = &'a &'o StoredOrder>) -> Option<&'o StoredOrder> {
    let first = *all.next()?;
    all.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests;
