//! What a message of the EHR asks for (HL7 v2 chapters 3 and 4). Pure.
//!
//! | message | read as |
//! |---|---|
//! | `OML^O21`, `ORM^O01` | patient, then orders; a specimen stands behind its order (SPM, SAC) |
//! | `OML^O33` | patient, then specimens; their orders stand behind each |
//! | `OMI^O23` | patient, then orders for imaging (`imaging` says what else is one) |
//! | `ADT` of [`UPDATES`] | what is known of a patient |
//! | `ADT` of [`MERGES`] | patients that turned out to be one (PID stays, MRG goes) |
//!
//! A message that is not one of these, is marked as training, or cannot be proven to have been read whole is refused
//! whole. An order that lacks what it needs is refused by itself, with the place of what is missing. Nothing is guessed:
//! results of earlier orders that some EHRs send along (ORC-1 `PR`, or an OBR with a result status) are no orders.
//!
//! Before HL7 2.5, and in `OML^O21` without SPM, a message need not name its specimen. Such an order is kept; results
//! find it by its placer or filler number only.

mod imaging;
pub mod service_request;

use super::fault::{self, Fault};
use crate::clinical::{
    Coding, CodingSystem, OrderNumber, OrderStatus, OrderedPatient, OrderedTest, Patient, Phi, Specimen, Timestamp,
    WorkOrder,
};
use crate::journal::OrderChange;
use crate::message::charset::Charset;
use crate::message::hl7::{self, Message, Segment};

/// Most orders one message may hold.
pub const ORDERS_MAX: usize = 500;
/// Most comments kept with an order.
const COMMENTS_MAX: usize = 50;
/// ADT events that tell what is known of a patient.
pub const UPDATES: [&str; 10] = ["A01", "A02", "A03", "A04", "A05", "A06", "A07", "A08", "A28", "A31"];
/// ADT events that merge two patient ids.
pub const MERGES: [&str; 4] = ["A18", "A34", "A40", "A47"];
/// OBR-25 of an OBR that reports instead of ordering.
const REPORTED: [&str; 7] = ["A", "C", "F", "M", "P", "R", "X"];

/// How a connection's messages are read.
#[derive(Debug, Clone)]
pub struct Context {
    /// Zone of times without one.
    pub zone: jiff::tz::TimeZone,
    /// Character set when MSH-18 is silent.
    pub charset: Option<Charset>,
    /// Where messages without SPM hold the specimen id.
    pub specimen_field: Option<Place>,
}

/// A field, or one component of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    segment: String,
    field: u16,
    component: u16,
}

impl Place {
    /// From `OBR-3` or `OBR-18.1`: only ORC and OBR belong to one order.
    pub fn parse(text: &str) -> Option<Place> {
        let (segment, rest) = text.split_once('-')?;
        let (field, component) = rest.split_once('.').unwrap_or((rest, "1"));
        let number = |digits: &str| digits.parse::<u16>().ok().filter(|n| *n > 0);
        let known = matches!(segment, "ORC" | "OBR");
        known.then_some(Place { segment: segment.to_string(), field: number(field)?, component: number(component)? })
    }
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// What it asks for, in its order.
    pub requests: Vec<Request>,
}

/// One order, or one patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// ORC-1; empty for a patient.
    pub control: String,
    /// Which ORC of the message it is, from 1; 0 for a patient.
    pub orc: usize,
    /// Which OBR is its first, from 1; 0 when it has none.
    pub obr: usize,
    /// What to do, or why it cannot be done. Nothing at all when an earlier order of the message took it in.
    pub changes: Result<Vec<OrderChange>, Fault>,
}

/// Reads a message.
pub fn read(raw: &[u8], context: &Context) -> Result<Asked, Fault> {
    let reading = hl7::read(raw, context.charset);
    let [message] = reading.messages.as_slice() else { return Err(fault::not_one_message()) };
    if message.unreadable || reading.cut_off {
        return Err(fault::unreadable());
    }
    if !message.clean {
        return Err(fault::charset());
    }
    let msh = message.msh().ok_or_else(fault::not_one_message)?;
    if matches!(msh.component(11, 1, None).as_str(), "T" | "D") {
        return Err(fault::training());
    }
    let (kind, event) = (msh.component(9, 1, None), msh.component(9, 2, None));
    match (kind.as_str(), event.as_str()) {
        ("OML", "O21") | ("OMI", "O23") | ("ORM", "O01" | "") => Orders::new(context, message, false).read(),
        ("OML", "O33") => Orders::new(context, message, true).read(),
        ("ADT", event) if UPDATES.contains(&event) => Ok(Asked { requests: vec![update(message)?] }),
        ("ADT", event) if MERGES.contains(&event) => merges(message),
        ("OML" | "OMI" | "ORM" | "ADT", _) => Err(fault::unknown_event()),
        _ => Err(fault::unknown_type()),
    }
}

fn update(message: &Message) -> Result<Request, Fault> {
    let pid = message.segments.iter().find(|s| s.name == "PID").ok_or_else(|| fault::missing("PID", 1, 0))?;
    let visit = message.segments.iter().find(|s| s.name == "PV1");
    let patient = patient(pid, visit).ok_or_else(|| fault::missing("PID", 1, 3))?;
    Ok(Request { control: String::new(), orc: 0, obr: 0, changes: Ok(vec![OrderChange::Patient(Box::new(patient))]) })
}

fn merges(message: &Message) -> Result<Asked, Fault> {
    let (mut changes, mut surviving) = (Vec::new(), None);
    for segment in &message.segments {
        match segment.name.as_str() {
            "PID" => surviving = Some(patient(segment, None).ok_or_else(|| fault::missing("PID", 1, 3))?),
            "MRG" => {
                let surviving = surviving.clone().ok_or_else(|| fault::missing("PID", 1, 0))?;
                let gone: Vec<String> = segment.repeats(1, 1, None).into_iter().filter(|id| !id.is_empty()).collect();
                if gone.is_empty() {
                    return Err(fault::missing("MRG", 1, 1));
                }
                changes.extend(
                    gone.into_iter()
                        .map(|id| OrderChange::Merge { gone: Phi::new(id), surviving: Box::new(surviving.clone()) }),
                );
            }
            _ => {}
        }
    }
    if changes.is_empty() {
        return Err(fault::missing("MRG", 1, 0));
    }
    Ok(Asked { requests: vec![Request { control: String::new(), orc: 0, obr: 0, changes: Ok(changes) }] })
}

/// The patient of a PID; `None` without any identifier. The medical record number comes first.
fn patient(pid: &Segment, visit: Option<&Segment>) -> Option<OrderedPatient> {
    let all = |component| pid.repeats(3, component, None).into_iter();
    let authorities = pid.repeats(3, 4, Some(1));
    let mut listed: Vec<(String, String, bool)> = all(1)
        .zip(authorities)
        .zip(all(5))
        .map(|((id, authority), kind)| (id.trim().to_string(), authority, matches!(kind.as_str(), "MR" | "PI")))
        .filter(|(id, _, _)| !id.is_empty())
        .collect();
    listed.sort_by_key(|(_, _, is_record_number)| !is_record_number);
    let earlier = [(2, 1), (4, 1), (18, 1)].map(|(field, component)| pid.component(field, component, None));
    let mut ids = listed.iter().map(|(id, _, _)| id.clone()).chain(earlier);
    let id = ids.find(|id| !id.is_empty())?;
    let mut other_ids: Vec<Phi> = Vec::new();
    for other in ids.chain(visit.map(|pv1| pv1.component(19, 1, None))) {
        let other = Phi::new(other);
        if !other.is_empty() && other.expose() != id && !other_ids.contains(&other) {
            other_ids.push(other);
        }
    }
    let birth_date: String = pid.component(7, 1, None).chars().take(8).collect();
    let patient = Patient {
        id_authority: listed.first().map(|(_, authority, _)| authority.clone()).unwrap_or_default(),
        id: Phi::new(id),
        family: Phi::new(pid.component(5, 1, Some(1))),
        given: Phi::new(pid.component(5, 2, None)),
        birth_date: Phi::new(birth_date),
        sex: pid.component(8, 1, None),
        location: Phi::new(visit.map(|pv1| pv1.component(3, 1, None)).unwrap_or_default()),
    };
    Some(OrderedPatient { patient, other_ids })
}

/// The orders of a message while it is read.
struct Orders<'m> {
    context: &'m Context,
    message: &'m Message,
    /// Specimens stand before their orders.
    by_specimen: bool,
    patient: Option<(&'m Segment, Option<&'m Segment>)>,
    /// A second PID came: what follows are results of earlier orders, of somebody's.
    foreign: bool,
    specimen: Option<Tube<'m>>,
    draft: Option<Draft<'m>>,
    orcs: usize,
    obrs: usize,
    asked: Asked,
}

/// A specimen and its containers.
#[derive(Clone, Default)]
struct Tube<'m> {
    spm: Option<&'m Segment>,
    sacs: Vec<&'m Segment>,
}

/// An order whose segments are still coming.
struct Draft<'m> {
    orc: &'m Segment,
    number: usize,
    obrs: Vec<(&'m Segment, usize)>,
    priority: String,
    comments: Vec<String>,
    tubes: Vec<Tube<'m>>,
    imaging: imaging::Draft<'m>,
}

impl<'m> Orders<'m> {
    fn new(context: &'m Context, message: &'m Message, by_specimen: bool) -> Self {
        Orders {
            context,
            message,
            by_specimen,
            patient: None,
            foreign: false,
            specimen: None,
            draft: None,
            orcs: 0,
            obrs: 0,
            asked: Asked::default(),
        }
    }

    fn read(mut self) -> Result<Asked, Fault> {
        for segment in &self.message.segments {
            self.segment(segment)?;
        }
        self.finish()?;
        match self.asked.requests.is_empty() {
            true => Err(fault::missing("ORC", 1, 0)),
            false => Ok(self.asked),
        }
    }

    fn segment(&mut self, segment: &'m Segment) -> Result<(), Fault> {
        match segment.name.as_str() {
            "PID" if self.patient.is_none() => self.patient = Some((segment, None)),
            "PID" => self.foreign = true,
            "PV1" if !self.foreign => {
                if let Some((_, visit)) = &mut self.patient {
                    *visit = Some(segment);
                }
            }
            "ORC" => {
                self.finish()?;
                self.orcs += 1;
                let earlier = segment.component(1, 1, None) == "PR";
                if !earlier && self.foreign {
                    return Err(fault::second_patient());
                }
                let tubes = self.specimen.iter().filter(|_| self.by_specimen).cloned().collect();
                let (priority, comments) = (segment.component(7, 6, None), Vec::new());
                self.draft = (!earlier).then_some(Draft {
                    orc: segment,
                    number: self.orcs,
                    obrs: Vec::new(),
                    priority,
                    comments,
                    tubes,
                    imaging: imaging::Draft::default(),
                });
            }
            "OBR" => self.obr(segment)?,
            "TQ1" => {
                if let Some(draft) = &mut self.draft {
                    draft.priority = segment.component(9, 1, None);
                    draft.imaging.start = segment.component(7, 1, None);
                }
            }
            "NTE" => {
                if let Some(draft) = self.draft.as_mut().filter(|d| d.comments.len() < COMMENTS_MAX) {
                    draft.comments.extend(segment.whole_repeats(3).into_iter().filter(|text| !text.is_empty()));
                }
            }
            "SPM" if self.by_specimen => {
                self.finish()?;
                self.specimen = Some(Tube { spm: Some(segment), sacs: Vec::new() });
            }
            "SPM" => {
                if let Some(draft) = &mut self.draft {
                    draft.tubes.push(Tube { spm: Some(segment), sacs: Vec::new() });
                }
            }
            "SAC" => self.container(segment),
            "IPC" | "OBX" => {
                if let Some(draft) = &mut self.draft {
                    draft.imaging.take(segment);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn obr(&mut self, obr: &'m Segment) -> Result<(), Fault> {
        self.obrs += 1;
        let reported = REPORTED.contains(&obr.component(25, 1, None).as_str());
        let Some(draft) = &mut self.draft else {
            // It belongs to a result of an earlier order, or to nothing.
            return if self.foreign || reported || self.orcs > 0 { Ok(()) } else { Err(fault::missing("ORC", 1, 0)) };
        };
        if draft.obrs.is_empty() {
            draft.add(obr, self.obrs);
            return Ok(());
        }
        if reported {
            return Ok(());
        }
        // Another test of the same order, or another order under the same ORC.
        let own = obr.component(2, 1, None);
        let first = draft.obrs.first().map(|(first, _)| first.component(2, 1, None)).unwrap_or_default();
        if own.is_empty() || own == first {
            draft.add(obr, self.obrs);
            return Ok(());
        }
        let mut next = Draft {
            orc: draft.orc,
            number: draft.number,
            obrs: Vec::new(),
            priority: draft.priority.clone(),
            comments: Vec::new(),
            tubes: self.specimen.iter().filter(|_| self.by_specimen).cloned().collect(),
            imaging: imaging::Draft { start: draft.imaging.start.clone(), ..imaging::Draft::default() },
        };
        next.add(obr, self.obrs);
        self.finish()?;
        self.draft = Some(next);
        Ok(())
    }

    fn container(&mut self, sac: &'m Segment) {
        match &mut self.draft {
            Some(draft) => match draft.tubes.last_mut() {
                Some(tube) => tube.sacs.push(sac),
                None => draft.tubes.push(Tube { spm: None, sacs: vec![sac] }),
            },
            None if self.by_specimen => self.specimen.get_or_insert_default().sacs.push(sac),
            None => {}
        }
    }

    /// The draft has all its segments.
    fn finish(&mut self) -> Result<(), Fault> {
        let Some(draft) = self.draft.take() else { return Ok(()) };
        if self.asked.requests.len() >= ORDERS_MAX {
            return Err(fault::too_many());
        }
        let control = draft.orc.component(1, 1, None);
        let changes = self.changes(&control, &draft);
        let changes = changes.map(|changes| changes.into_iter().filter_map(|change| self.join(change)).collect());
        let obr = draft.obrs.first().map_or(0, |(_, number)| *number);
        self.asked.requests.push(Request { control, orc: draft.number, obr, changes });
        Ok(())
    }

    /// A further test or step of an order that this message placed or changed already joins it.
    fn join(&mut self, change: OrderChange) -> Option<OrderChange> {
        let (OrderChange::New(order) | OrderChange::Change(order)) = &change else { return Some(change) };
        let earlier = self.asked.requests.iter_mut().filter_map(|r| r.changes.as_mut().ok()).flatten();
        for placed in earlier {
            if let OrderChange::New(placed) | OrderChange::Change(placed) = placed
                && placed.number() == order.number()
                && placed.specimen.id == order.specimen.id
            {
                placed.tests.extend(order.tests.iter().cloned());
                if let (Some(placed), Some(more)) = (&mut placed.imaging, &order.imaging) {
                    placed.join(more.clone());
                }
                return None;
            }
        }
        Some(change)
    }

    fn changes(&self, control: &str, draft: &Draft<'m>) -> Result<Vec<OrderChange>, Fault> {
        let becomes = match control {
            "NW" | "RO" | "XO" => return self.placed(control, draft),
            "CA" | "OC" | "DC" | "OD" => OrderStatus::Cancelled,
            "RP" => OrderStatus::Replaced,
            "SC" => return self.status(draft),
            "" => return Err(fault::missing("ORC", draft.number, 1)),
            _ => return Err(fault::unknown_control(draft.number)),
        };
        let number = known_by(draft)?;
        let named = draft.tubes.first().filter(|_| self.by_specimen).and_then(|tube| tube.ids().into_iter().next());
        Ok(vec![OrderChange::TakeBack { number, specimen: named.unwrap_or_default(), becomes }])
    }

    /// The EHR tells where an order stands (ORC-5, table 0038). What says nothing of an end leaves it as it is.
    fn status(&self, draft: &Draft<'m>) -> Result<Vec<OrderChange>, Fault> {
        let number = known_by(draft)?;
        let becomes = match draft.orc.component(5, 1, None).as_str() {
            "CM" => OrderStatus::Done,
            "CA" | "DC" => OrderStatus::Cancelled,
            "IP" => OrderStatus::InProgress,
            _ => OrderStatus::Requested,
        };
        Ok(vec![OrderChange::Status { number, becomes }])
    }

    /// The order, once for each of its specimens.
    fn placed(&self, control: &str, draft: &Draft<'m>) -> Result<Vec<OrderChange>, Fault> {
        let placer_order_number = placer(draft)?;
        let filler_order_number = filler(draft);
        let (pid, visit) = self.patient.ok_or_else(|| fault::missing("PID", 1, 0))?;
        let patient = patient(pid, visit).ok_or_else(|| fault::missing("PID", 1, 3))?;
        let Some((first, number)) = draft.obrs.first().copied() else {
            return Err(fault::missing("OBR", draft.number, 0));
        };
        let around = imaging::Around { message: self.message, pid, visit, zone: &self.context.zone };
        let imaging = imaging::read(around, draft.orc, &draft.imaging, &filler_order_number, &draft.comments);
        // Radiology systems schedule under their own number alone (IHE RAD-4).
        if placer_order_number.is_empty() && (imaging.is_none() || filler_order_number.is_empty()) {
            return Err(fault::missing("ORC", draft.number, 2));
        }
        let tests: Vec<OrderedTest> = draft.obrs.iter().map(|(obr, _)| test(obr)).collect();
        if let Some(at) = tests.iter().position(|test| test.codings().next().is_none()) {
            let number = draft.obrs.get(at).map_or(number, |(_, number)| *number);
            return Err(fault::missing("OBR", number, 4));
        }
        let [orc_priority, obr_priority] = [first.component(27, 6, None), first.component(5, 1, None)];
        let priority = [draft.priority.clone(), orc_priority, obr_priority].into_iter().find(|p| !p.is_empty());
        let order = WorkOrder {
            placer_order_number,
            filler_order_number,
            placer_group_number: number_of(draft.orc, 4),
            patient,
            tests,
            priority: priority.unwrap_or_default(),
            ordered: Timestamp::parse(&draft.orc.component(9, 1, None), &self.context.zone),
            comments: draft.comments.clone(),
            imaging,
            ..WorkOrder::default()
        };
        let mut orders = Vec::new();
        for specimen in self.specimens(draft, first)? {
            let (specimen, other_specimen_ids) = specimen;
            orders.push(Box::new(WorkOrder { specimen, other_specimen_ids, ..order.clone() }));
        }
        let is_change = control == "XO";
        let change = |(at, order): (usize, Box<WorkOrder>)| match at == 0 && is_change {
            true => OrderChange::Change(order),
            false => OrderChange::New(order),
        };
        Ok(orders.into_iter().enumerate().map(change).collect())
    }

    /// The specimens of an order, each with its further names; one without a name when the message names none.
    fn specimens(&self, draft: &Draft<'m>, obr: &'m Segment) -> Result<Vec<(Specimen, Vec<Phi>)>, Fault> {
        let time = |text: String| Timestamp::parse(&text, &self.context.zone);
        let mut specimens = Vec::new();
        for tube in &draft.tubes {
            let mut ids = tube.ids().into_iter();
            let id = ids.next().unwrap_or_default();
            if id.is_empty() && self.by_specimen {
                return Err(fault::missing("SPM", 1, 2));
            }
            let type_code = tube.spm.map(|spm| coding(spm, 4, 1)).filter(|c| !c.code.is_empty());
            let collected = tube.spm.and_then(|spm| time(spm.component(17, 1, None)));
            let collected = collected.or_else(|| time(obr.component(7, 1, None)));
            specimens.push((Specimen { id, type_code, position: String::new(), collected }, ids.collect()));
        }
        if !specimens.is_empty() {
            return Ok(specimens);
        }
        if self.by_specimen {
            return Err(fault::missing("SPM", 1, 0));
        }
        let id = self.context.specimen_field.as_ref().map(|place| {
            let segment = if place.segment == "ORC" { draft.orc } else { obr };
            segment.component(place.field, place.component, None).trim().to_string()
        });
        let kind = obr.component(15, 1, Some(1));
        let type_code = (!kind.is_empty()).then(|| Coding::local(kind, obr.component(15, 1, Some(2))));
        let collected = time(obr.component(7, 1, None));
        let id = Phi::new(id.unwrap_or_default());
        Ok(vec![(Specimen { id, type_code, position: String::new(), collected }, Vec::new())])
    }
}

impl<'m> Draft<'m> {
    fn add(&mut self, obr: &'m Segment, number: usize) {
        self.obrs.push((obr, number));
        self.imaging.groups.push((obr, Vec::new()));
    }
}

impl Tube<'_> {
    /// Every name of the specimen: the placer's, the filler's, those of its containers.
    fn ids(&self) -> Vec<Phi> {
        let assigned = self.spm.iter().flat_map(|spm| [1, 2].map(|who| spm.component(2, who, Some(1))));
        let containers = self.sacs.iter().map(|sac| sac.component(3, 1, None));
        let mut ids: Vec<Phi> = Vec::new();
        for id in assigned.chain(containers) {
            let id = Phi::new(id.trim());
            if !id.is_empty() && !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }
}

/// The number an order is known by: the placer's, else the filler's.
fn known_by(draft: &Draft<'_>) -> Result<OrderNumber, Fault> {
    let placer = placer(draft)?;
    let number = if placer.is_empty() { filler(draft) } else { placer };
    match number.is_empty() {
        true => Err(fault::missing("ORC", draft.number, 2)),
        false => Ok(number),
    }
}

/// ORC-2, else OBR-2. Two that differ are nobody's number.
fn placer(draft: &Draft<'_>) -> Result<OrderNumber, Fault> {
    let own = number_of(draft.orc, 2);
    let Some((obr, number)) = draft.obrs.first() else { return Ok(own) };
    let again = number_of(obr, 2);
    match () {
        () if own.is_empty() => Ok(again),
        // A second order under the same ORC has only its OBR.
        () if again.is_empty() || again.id == own.id => Ok(own),
        () => Err(fault::numbers_differ(*number)),
    }
}

fn filler(draft: &Draft<'_>) -> OrderNumber {
    let own = number_of(draft.orc, 3);
    match draft.obrs.first() {
        Some((obr, _)) if own.is_empty() => number_of(obr, 3),
        _ => own,
    }
}

/// An EI: its number, and the rest of it as it stands.
fn number_of(segment: &Segment, field: u16) -> OrderNumber {
    let part = |n| segment.component(field, n, None);
    let rest = [2, 3, 4].map(part).join("^");
    OrderNumber { id: Phi::new(part(1)), namespace: rest.trim_end_matches('^').to_string() }
}

fn test(obr: &Segment) -> OrderedTest {
    let alternate = coding(obr, 4, 4);
    OrderedTest {
        universal_service_id: coding(obr, 4, 1),
        alternate: (!alternate.code.is_empty()).then_some(alternate),
    }
}

/// A coded element from its first component on.
fn coding(segment: &Segment, field: u16, from: u16) -> Coding {
    let part = |n| segment.component(field, from + n, None);
    Coding { code: part(0), text: part(1), system: CodingSystem::from_hl7(&part(2)) }
}

#[cfg(test)]
pub(in crate::orders) mod tests;
