//! When a study is stable, whose it is, and what EHRs are told of it: then, and again when it grew.

use super::chart::Charts;
use super::doubt::{Doubt, Facts, Record, facts, held_again, of_patient};
use super::instance::KeptSeries;
use super::{Desk, document};
use crate::clinical::imaging::{ImagingRequest, Instance as Object, Series, Study, StudyDoubt, Update};
use crate::clinical::{Order, Patient, Phi, WorkOrder};
use crate::delivery::{self, Lane};
use crate::journal::{
    EntryId, FiledReport, Grounds, Grown, Journal, JournalError, Lookup, NewHold, NewOutbound, Reader, ReleaseFiling,
    Released, StoredOrder, StudyFiling, StudyId, Told,
};
use crate::mapping::imaging::{ImagingMessage, ImagingProfile, StudyFacts};
use crate::mapping::{MapError, Origin, Target, imaging, message_id};
use serde::{Deserialize, Serialize};

/// Studies looked at in one round.
const STUDIES: usize = 16;

/// What is kept of what EHRs are told of a study.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    /// The study's number in the journal.
    study: StudyId,
}

/// A study as it is on record, with the order it answers.
pub(super) struct Known {
    pub number: StudyId,
    pub study: Study,
    /// Each Series Instance UID once, in the order in which they began.
    pub series: Vec<(Series, Vec<Member>)>,
    /// Whose it is, as its objects say.
    named: Vec<Patient>,
    requests: Vec<ImagingRequest>,
    order: Ordered,
    /// What is doubtful about it, whichever doubt that is: whom its objects name, whose chart it goes to, and the orders
    /// that do not settle it.
    facts: Facts,
    /// State of the orders when this was read.
    pub orders_as_of: i64,
}

/// An instance of a study.
pub(super) struct Member {
    pub entry: EntryId,
    pub link: String,
    pub received_ms: i64,
    pub object: Object,
}

/// What the orders say about a study.
enum Ordered {
    /// Nothing: none is known.
    Unknown {
        /// Whom the patient id stands for by now, where the EHR said so.
        patient: Option<Patient>,
    },
    /// It answers this one.
    By(Box<StoredOrder>),
    /// One of these is for another patient.
    ForAnother(Vec<StoredOrder>),
    /// Several, and nothing says which.
    Several(Vec<StoredOrder>),
}

/// Tells of what is stable; says how much it was.
pub(super) fn settle(desk: &Desk, journal: &Journal, reader: &Reader, now_ms: i64) -> Result<usize, JournalError> {
    let idle_ms = i64::from(desk.config.study_idle_s) * 1000;
    let mut stable = reader.grown_studies(now_ms - idle_ms, now_ms, STUDIES)?;
    let performed = reader.performed_studies()?;
    stable.extend(performed.into_iter().filter(|grown| !stable.contains(grown)).take(STUDIES).collect::<Vec<_>>());
    for &grown in &stable {
        let told = tell(desk, journal, reader, grown)?;
        journal.file_study(StudyFiling { grown, told })?;
    }
    Ok(stable.len())
}

/// Tells of the documents of a study, and says what is to be told of the study itself, if anything.
fn tell(desk: &Desk, journal: &Journal, reader: &Reader, grown: Grown) -> Result<Option<Told>, JournalError> {
    let known = match Known::read(reader, grown.study) {
        Ok(Some(known)) => known,
        Ok(None) => return Ok(None),
        Err(JournalError::Damaged) => {
            tracing::error!(
                event = "stored-damaged",
                study = grown.study.0,
                "no EHR is told of a study: what is kept of it is damaged"
            );
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let doubts = known.doubts(&desk.config.hold);
    if doubts.is_empty() {
        document::tell(desk, reader, &known, |told| journal.file_told(told))?;
    }
    let Some(newest) = known.newest() else { return Ok(None) };
    let (subject_key, content_key) = (known.subject_key(), known.content_key());
    let covers: Vec<_> = reader.held_of(&subject_key)?.into_iter().map(|(hold, ..)| hold).collect();
    // Documents of a doubtful study wait with it, also where no EHR hears of the study itself.
    let keeps_any = !doubts.is_empty() && document::are_heard_of(desk, &known) || !covers.is_empty();
    if !keeps_any && !desk.hear_of(ImagingMessage::Studies, &newest.link) {
        return Ok(None);
    }
    let before = reader.last_told(&subject_key)?;
    if let Some(before) = before.filter(|before| before.same_content(&content_key) && !before.is_undone()) {
        // A person who decided about a doubt saw its documents as they were then. While it is held they wait with it.
        let is_decided = !doubts.is_empty() && covers.is_empty();
        // What was discarded in doubt was never told, and is asked about again only when one of them comes again.
        let is_discarded = before.entry() == newest.entry
            && !reader.unsent_of(before.report)?.is_empty()
            && !reader.decisions(before.report)?.is_empty();
        if !is_decided || is_discarded || !document::is_any_new(desk, reader, &known)? {
            return Ok(None);
        }
    }
    let is_correction = reader.was_told(&subject_key)?;
    let mut record = Record::default();
    known.shown(&doubts).iter().for_each(|doubt| record.shows(doubt, [0]));
    let mut report = FiledReport {
        completed_at_s: Some(newest.received_ms / 1000),
        repeat_of: None,
        lookups: known.lookups(None),
        json: kept(super::Kept::Study(Kept { study: known.number }))?,
        results: 1,
        decisions: record.json(),
        holds: Vec::new(),
        outbox: Vec::new(),
        answered: Vec::new(),
        orders_as_of: known.orders_as_of,
        content_key,
        subject_key,
    };
    let name = [report.content_key.as_slice(), &grown.version.to_be_bytes()].concat();
    let outcome = match doubts.first() {
        Some(&doubt) => Err(doubted(doubt, &doubts)),
        None => {
            let charts = Charts::read(desk, reader, &report.subject_key)?;
            known.outbound(desk, &name, is_correction, &charts).map_err(|error| uncarried(newest.entry, &error))
        }
    };
    match outcome {
        Ok(outbox) => report.outbox = outbox,
        Err(grounds) => report.holds = vec![NewHold { observation: 0, grounds }],
    }
    Ok(Some(Told { entry: newest.entry, report, covers }))
}

/// What becomes of a study that was held. Once it goes out, its documents do too.
pub(super) fn release(
    desk: &Desk,
    journal: &Journal,
    reader: &Reader,
    item: &Released,
    kept: &Kept,
) -> Result<Vec<ReleaseFiling>, JournalError> {
    let mut known = match Known::read(reader, kept.study) {
        Ok(Some(known)) => known,
        // What else was released goes on.
        Ok(None) | Err(JournalError::Damaged) => {
            reader.set_unreadable(item.report);
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let as_of = known.orders_as_of;
    if let Some(held) = known.pass(desk, item, &Record::default()) {
        return Ok(vec![held]);
    }
    // One at a time is in memory, so each is filed by itself, as long as the study is released.
    let file = |told| journal.file_release(ReleaseFiling::begun(item, told)).map(drop);
    document::tell(desk, reader, &known, file)?;
    let is_correction = reader.was_told(&known.subject_key())?;
    let charts = Charts::read(desk, reader, &known.subject_key())?;
    let filing = match known.outbound(desk, &released(item), is_correction, &charts) {
        Ok(outbox) => ReleaseFiling::sent(item, outbox, Vec::new()).lookups(known.lookups(None)),
        Err(error) => held_again(item, uncarried(item.entry, &error), &[]),
    };
    Ok(vec![filing.orders_as_of(as_of)])
}

impl Known {
    /// `None` when nothing of it is kept any more.
    ///
    /// # Errors
    /// `Damaged` when what is kept of it cannot be read.
    pub fn read(reader: &Reader, number: StudyId) -> Result<Option<Known>, JournalError> {
        let Some(stored) = reader.study(number)? else { return Ok(None) };
        let orders_as_of = reader.orders_as_of()?;
        let study: Study = serde_json::from_slice(&stored.json).map_err(|_| JournalError::Damaged)?;
        let (mut series, mut named): (Vec<(Series, Vec<Member>)>, Vec<Patient>) = (Vec::new(), Vec::new());
        let mut requests: Vec<ImagingRequest> = Vec::new();
        for of in stored.series {
            let kept: KeptSeries = serde_json::from_slice(&of.json).map_err(|_| JournalError::Damaged)?;
            let members = of.instances.into_iter().map(|instance| Member {
                entry: instance.entry,
                link: instance.link,
                received_ms: instance.received_ms,
                object: Object {
                    sop_class_uid: instance.sop_class_uid,
                    sop_instance_uid: instance.sop_instance_uid,
                    number: instance.number.map(|number| number.to_string()).unwrap_or_default(),
                    ..Object::default()
                },
            });
            match series.iter_mut().find(|(known, _)| known.instance_uid == kept.series.instance_uid) {
                Some((_, known)) => known.extend(members),
                None => series.push((kept.series, members.collect())),
            }
            named.push(kept.patient);
            requests
                .extend(kept.requests.into_iter().filter(|request| !requests.contains(request)).collect::<Vec<_>>());
        }
        let patient = named.iter().find(|patient| !patient.id.is_empty()).cloned().unwrap_or_default();
        let order = ordered(reader, &study, &requests, &patient)?;
        let mut known = Known { number, study, series, named, requests, order, facts: Facts::new(), orders_as_of };
        known.facts = facts(reader, known.about());
        Ok(Some(known))
    }

    /// What came last.
    pub fn newest(&self) -> Option<&Member> {
        self.series.iter().flat_map(|(_, members)| members).max_by_key(|member| member.entry)
    }

    /// Whose it is: the order's where there is one, else as its first series says that names somebody.
    pub fn patient(&self) -> &Patient {
        static NOBODY: std::sync::LazyLock<Patient> = std::sync::LazyLock::new(Patient::default);
        match &self.order {
            Ordered::By(stored) => &stored.order.patient.patient,
            Ordered::Unknown { patient: Some(patient) } => patient,
            _ => self.named.iter().find(|patient| !patient.id.is_empty()).unwrap_or(&NOBODY),
        }
    }

    /// True when this is whom it is of, as far as its order and the EHR say.
    pub fn is_of(&self, reader: &Reader, patient: &Patient) -> Result<bool, JournalError> {
        let now = self.patient();
        let is_ordered_for = matches!(&self.order, Ordered::By(by)
            if by.order.patient.goes_by(&patient.id) && by.order.patient.patient.may_share_authority_with(patient));
        if patient.shares_id_with(now) || is_ordered_for {
            return Ok(true);
        }
        let current = reader.patient(&patient.id)?.filter(|is| is.patient.may_share_authority_with(patient));
        Ok(current.is_some_and(|is| {
            is.patient.shares_id_with(now) || is.goes_by(&now.id) && is.patient.may_share_authority_with(now)
        }))
    }

    /// True when another study is of another patient, as far as that is known.
    pub fn is_of_another(&self, reader: &Reader, study: StudyId) -> Result<bool, JournalError> {
        let other = match Known::read(reader, study) {
            Err(JournalError::Damaged) => None,
            other => other?,
        };
        let Some(other) = other.filter(|other| !other.patient().id.is_empty()) else { return Ok(false) };
        Ok(!self.is_of(reader, other.patient())? && !other.is_of(reader, self.patient())?)
    }

    /// Why no EHR may be told of it, by the rules the site has.
    fn doubts(&self, rules: &[StudyDoubt]) -> Vec<StudyDoubt> {
        if self.named.iter().all(|patient| patient.id.is_empty()) {
            return vec![StudyDoubt::NoPatient];
        }
        let of_order = match &self.order {
            Ordered::By(_) => [None, None],
            Ordered::ForAnother(_) => [Some(StudyDoubt::OrderMismatch), None],
            Ordered::Several(_) => [Some(StudyDoubt::AmbiguousOrder), None],
            Ordered::Unknown { .. } => {
                let is_numbered = !self.study.accession_number.is_empty()
                    || self.requests.iter().any(|request| !request.accession_number.is_empty());
                [Some(StudyDoubt::NoOrder), (!is_numbered).then_some(StudyDoubt::NoAccession)]
            }
        };
        let several = (!Patient::are_one(self.named.iter())).then_some(StudyDoubt::SeveralPatients);
        // Without an order nobody knows whose it is, whatever the site holds.
        let is_nobodys = |doubt| doubt == StudyDoubt::SeveralPatients && !self.is_ordered();
        let all = std::iter::once(several).chain(of_order).flatten();
        all.filter(|doubt| rules.contains(doubt) || is_nobodys(*doubt)).collect()
    }

    /// What is doubtful about it, before it is digested.
    fn about(&self) -> Vec<String> {
        let orders = match &self.order {
            Ordered::ForAnother(orders) | Ordered::Several(orders) => orders.as_slice(),
            Ordered::Unknown { .. } | Ordered::By(_) => &[],
        };
        let named = self.named.iter().map(|patient| format!("named\u{1f}{}", of_patient(patient)));
        let ordered = orders
            .iter()
            .map(|stored| format!("ordered\u{1f}{}\u{1f}{}", stored.id.0, of_patient(&stored.order.patient.patient)));
        let told = format!("told\u{1f}{}", of_patient(self.patient()));
        named.chain(ordered).chain([told]).collect()
    }

    /// These doubts with what they are about.
    fn shown(&self, doubts: &[StudyDoubt]) -> Vec<Doubt> {
        doubts.iter().map(|doubt| Doubt::new(doubt.name(), doubt.words(), self.facts.clone())).collect()
    }

    fn is_ordered(&self) -> bool {
        matches!(self.order, Ordered::By(_))
    }

    /// Lets pass what a person released with all its doubts seen as they are now, besides those in `more`: then the study
    /// is only what its objects say, as far as no order settles it. Else it is held once more.
    pub fn pass(&mut self, desk: &Desk, item: &Released, more: &Record) -> Option<ReleaseFiling> {
        let doubts = self.doubts(&desk.config.hold);
        let (shown, seen) = (self.shown(&doubts), Record::seen(item));
        let is_nobodys = |doubt: &StudyDoubt| match doubt {
            StudyDoubt::NoPatient => true,
            doubt => *doubt == StudyDoubt::SeveralPatients && !self.is_ordered(),
        };
        let is_kept_back = |(doubt, shown): &(&StudyDoubt, &Doubt)| {
            item.rematch || is_nobodys(doubt) || !(seen.has(shown) || more.has(shown))
        };
        if let Some((&doubt, _)) = doubts.iter().zip(&shown).find(is_kept_back) {
            let held = held_again(item, doubted(doubt, &doubts), &shown);
            return Some(held.orders_as_of(self.orders_as_of));
        }
        if !doubts.is_empty() && !self.is_ordered() {
            self.order = Ordered::Unknown { patient: None };
        }
        None
    }

    /// The doubts of the study that a person let pass when it was told.
    pub fn passed(&self, reader: &Reader) -> Result<Record, JournalError> {
        match reader.last_told(&self.subject_key())? {
            Some(told) if reader.unsent_of(told.report)?.is_empty() => {
                Ok(Record::read(&reader.decisions(told.report)?))
            }
            _ => Ok(Record::default()),
        }
    }

    /// Makes what is said about it, from what is known of it. `told_under` are the order numbers of what it corrects.
    pub fn with_facts<T>(
        &self,
        desk: &Desk,
        is_correction: bool,
        told_under: Option<&Order>,
        say: impl FnOnce(&StudyFacts) -> T,
    ) -> T {
        let request = match &self.order {
            Ordered::By(stored) => Some(requested(&stored.order, &self.study.instance_uid)),
            _ => self.requests.first().cloned(),
        };
        say(&StudyFacts {
            patient: self.patient(),
            study: &self.study,
            request: request.as_ref(),
            series: self.series.iter().map(|(series, all)| (series, all.iter().map(|m| &m.object).collect())).collect(),
            zone: &desk.zone,
            is_correction,
            told_under,
        })
    }

    /// A message for each EHR. Of `charts` only the lane counts that it goes in.
    fn outbound(
        &self,
        desk: &Desk,
        name: &[u8],
        is_correction: bool,
        charts: &Charts,
    ) -> Result<Vec<NewOutbound>, MapError> {
        let Some(about) = self.newest() else { return Ok(Vec::new()) };
        let telling = Telling { desk, known: self, about, name };
        self.with_facts(desk, is_correction, None, |facts| {
            let hearing = desk.hearing(ImagingMessage::Studies, &about.link);
            let rows = hearing.map(|to| {
                telling.to(to, ImagingMessage::Studies, 1, |target, profile, origin| {
                    imaging::study(facts, target, profile, origin)
                })
            });
            let noted = |row| charts.noted(row, Update::default(), facts.patient);
            rows.filter_map(Result::transpose).map(|row| row.map(noted)).collect()
        })
    }

    fn subject_key(&self) -> Vec<u8> {
        format!("study\u{1f}{}", self.study.instance_uid).into_bytes()
    }

    /// Everything that is said.
    fn content_key(&self) -> Vec<u8> {
        let series: Vec<(&Series, Vec<&Object>)> =
            self.series.iter().map(|(series, all)| (series, all.iter().map(|m| &m.object).collect())).collect();
        let order = match &self.order {
            Ordered::By(stored) => Some(requested(&stored.order, &self.study.instance_uid)),
            _ => None,
        };
        serde_json::to_vec(&(&self.study, series, self.patient(), &self.requests, order)).unwrap_or_default()
    }

    /// What a person may search it by, or an object of it.
    pub fn lookups(&self, sop_instance_uid: Option<&str>) -> Vec<(Lookup, String)> {
        let number = |request: &ImagingRequest| {
            [
                (Lookup::Accession, request.accession_number.clone()),
                (Lookup::Order, request.placer_order_number.clone()),
                (Lookup::Order, request.filler_order_number.clone()),
            ]
        };
        let of_order = match &self.order {
            Ordered::By(stored) => Some(requested(&stored.order, &self.study.instance_uid)),
            _ => None,
        };
        let mut ids = vec![
            (Lookup::Study, Phi::new(self.study.instance_uid.as_str())),
            (Lookup::Instance, Phi::new(sop_instance_uid.unwrap_or_default())),
            (Lookup::Accession, self.study.accession_number.clone()),
            (Lookup::Patient, self.patient().id.clone()),
        ];
        ids.extend(self.named.iter().map(|patient| (Lookup::Patient, patient.id.clone())));
        ids.extend(self.requests.iter().chain(&of_order).flat_map(number));
        let mut found: Vec<(Lookup, String)> = Vec::new();
        for (kind, id) in ids.into_iter().filter(|(_, id)| !id.is_empty()) {
            let lookup = (kind, id.expose().to_string());
            if !found.contains(&lookup) {
                found.push(lookup);
            }
        }
        found
    }

    /// The ordering key of what is told first of a study or a line of documents. What is said of it later goes in the
    /// same lane ([`Charts::noted`]).
    fn lane(&self, destination: &delivery::Config, link: &str) -> String {
        match destination.lane {
            Lane::Patient => self.patient().id.expose().to_string(),
            Lane::Link => link.to_string(),
            Lane::Specimen => self.study.instance_uid.clone(),
        }
    }
}

impl Desk {
    /// True when any EHR hears of these from this link.
    pub(super) fn hear_of(&self, what: ImagingMessage, link: &str) -> bool {
        self.hearing(what, link).next().is_some()
    }

    /// The EHRs that hear of these.
    pub(super) fn hearing(&self, what: ImagingMessage, link: &str) -> impl Iterator<Item = &delivery::Config> {
        self.destinations.iter().filter(move |to| to.takes(link) && to.imaging.takes(what))
    }

    /// The EHRs, whatever they hear of.
    pub(super) fn ehrs(&self) -> impl Iterator<Item = &delivery::Config> {
        self.destinations.iter().filter(|to| !to.protocol.takes_images())
    }
}

/// Something EHRs are told about a study.
pub(super) struct Telling<'t> {
    pub desk: &'t Desk,
    pub known: &'t Known,
    pub about: &'t Member,
    /// Tells it from everything else that is told about the study.
    pub name: &'t [u8],
}

impl Telling<'_> {
    /// The message for one EHR; `None` when it wants nothing of this.
    pub fn to(
        &self,
        to: &delivery::Config,
        what: ImagingMessage,
        results: u32,
        map: impl FnOnce(&Target, &ImagingProfile, &Origin) -> Result<Vec<u8>, MapError>,
    ) -> Result<Option<NewOutbound>, MapError> {
        let Telling { desk, known, about, name } = self;
        let made = jiff::Timestamp::from_millisecond(about.received_ms).unwrap_or_default();
        let kind = format!("{what:?}\u{1f}{}", known.study.instance_uid);
        // Numbers of rows begin anew with a journal, on another box or after a reset: the moment tells those apart.
        let message_id = message_id(&[
            desk.gateway.as_bytes(),
            to.name.as_bytes(),
            kind.as_bytes(),
            &about.received_ms.to_be_bytes(),
            name,
        ]);
        let origin = Origin {
            message_id: message_id.clone(),
            gateway: desk.gateway.clone(),
            link: about.link.clone(),
            made: made.to_zoned(jiff::tz::TimeZone::UTC),
        };
        let body = match map(&to.target(&desk.gateway), &to.imaging, &origin) {
            Err(MapError::Empty) => return Ok(None),
            body => body?,
        };
        let lane = known.lane(to, &about.link);
        Ok(Some(NewOutbound { destination: to.name.clone(), lane, message_id, body, results, charted: Vec::new() }))
    }
}

/// Which order a study answers: one found by its UID, its accession number, or a number its objects name. All that are
/// found must be for its patient; of several, the one whose placer number it names, else whose study it is, else whose
/// accession number it has.
fn ordered(
    reader: &Reader,
    study: &Study,
    requests: &[ImagingRequest],
    patient: &Patient,
) -> Result<Ordered, JournalError> {
    let current = reader.patient(&patient.id)?.filter(|now| now.patient.may_share_authority_with(patient));
    let accessions: Vec<&Phi> =
        std::iter::once(&study.accession_number).chain(requests.iter().map(|r| &r.accession_number)).collect();
    let placers: Vec<&Phi> =
        requests.iter().map(|r| &r.placer_order_number).filter(|number| !number.is_empty()).collect();
    let fillers = requests.iter().map(|r| &r.filler_order_number);
    let mut found = reader.imaging_orders_of(&study.instance_uid)?;
    for accession in &accessions {
        found.extend(reader.imaging_orders_under(accession)?);
    }
    for number in placers.iter().copied().chain(fillers) {
        found.extend(reader.work_orders_numbered(number)?);
    }
    found.retain(|stored| stored.status.is_valid() && stored.order.imaging.is_some());
    found.sort_by_key(|stored| stored.id);
    found.dedup_by_key(|stored| stored.id);
    let is_of = |stored: &StoredOrder| {
        let ordered = &stored.order.patient;
        let goes_by = ordered.patient.shares_id_with(patient) || ordered.other_ids.contains(&patient.id);
        goes_by || current.as_ref().is_some_and(|now| now.patient.shares_id_with(&ordered.patient))
    };
    if !found.iter().all(is_of) {
        return Ok(Ordered::ForAnother(found));
    }
    let is_named = |order: &WorkOrder| placers.contains(&&order.placer_order_number.id);
    let is_study = |order: &WorkOrder| ImagingRequest::of(order, &study.instance_uid).is_some();
    let is_numbered =
        |order: &WorkOrder| order.imaging.as_ref().is_some_and(|i| accessions.contains(&&i.accession_number));
    let tests: [&dyn Fn(&WorkOrder) -> bool; 3] = [&is_named, &is_study, &is_numbered];
    for fits in tests {
        if found.iter().any(|stored| fits(&stored.order)) {
            found.retain(|stored| fits(&stored.order));
        }
    }
    Ok(match found.len() {
        0 | 1 => match found.pop() {
            Some(only) => Ordered::By(Box::new(only)),
            None => Ordered::Unknown { patient: current.map(|now| now.patient) },
        },
        _ => Ordered::Several(found),
    })
}

/// The request as the EHR knows it: for this study, else for the only one the order asks for, whose UID the modality did
/// not take over.
fn requested(order: &WorkOrder, study_instance_uid: &str) -> ImagingRequest {
    let only = || match order.imaging.as_ref()?.procedures.as_slice() {
        [only] => ImagingRequest::of(order, &only.study_instance_uid),
        _ => None,
    };
    let numbers = || ImagingRequest {
        accession_number: order.imaging.as_ref().map(|i| i.accession_number.clone()).unwrap_or_default(),
        placer_order_number: order.placer_order_number.id.clone(),
        placer_authority: order.placer_order_number.namespace.clone(),
        filler_order_number: order.filler_order_number.id.clone(),
        filler_authority: order.filler_order_number.namespace.clone(),
        ..ImagingRequest::default()
    };
    ImagingRequest::of(order, study_instance_uid).or_else(only).unwrap_or_else(numbers)
}

/// The name of what goes out by a release: the same until it is filed. What an order released of a report and what a
/// person released of it at the same time are two messages.
pub(super) fn released(item: &Released) -> Vec<u8> {
    let which: Vec<u8> = item.observations.iter().flat_map(|at| at.to_be_bytes()).collect();
    [&b"release"[..], &item.report.0.to_be_bytes(), &item.serial.to_be_bytes(), &which].concat()
}

pub(super) fn kept(kept: super::Kept) -> Result<Vec<u8>, JournalError> {
    serde_json::to_vec(&kept).map_err(|_| JournalError::Damaged)
}

pub(super) fn uncarried(entry: EntryId, error: &MapError) -> Grounds {
    tracing::error!(event = "not-carried", entry = entry.0, "held: {error}");
    Grounds { reason: error.reason(), rule: None, why: "a destination cannot carry it as it is".to_string() }
}

/// Held for one doubt, with everything that is doubtful in words.
fn doubted(doubt: StudyDoubt, all: &[StudyDoubt]) -> Grounds {
    let why = all.iter().map(|doubt| doubt.words()).collect::<Vec<_>>().join("; ");
    Grounds { reason: doubt.name(), rule: None, why }
}
