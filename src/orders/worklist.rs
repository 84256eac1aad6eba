//! The modality worklist: which scheduled steps a modality that asks is told (PS3.4 annex K).
//!
//! The entries are the steps of open imaging orders ([`entry`]), sorted by their start. What a query is mostly asked by
//! (station, start, modality, patient, numbers) is kept in memory, a few hundred bytes an entry, and brought up to date
//! by what the journal says changed; the order itself is opened only for entries that fit so far. Everything else is
//! matched on the whole entry ([`crate::message::dicom::matching`]).
//!
//! Where more fit than one query is answered, those nearest to today are told: what was never done, or will be done next
//! year, does not crowd out today's. An entry without a start counts from the day it was ordered.

pub mod config;
pub mod entry;

pub use config::Config;

use crate::clinical::{ScheduledStep, WorkOrder};
use crate::journal::{Journal, JournalError, Reader, SharedReader, StoredOrder, WorkOrderId};
use crate::message::dicom::{CharacterSets, DataSet, End, Layout, Tag, VR, is_deflated, matching, read_data_set, tags};
use crate::wire::dimse::Reply;
use crate::wire::dimse::command::status::{
    CANNOT_UNDERSTAND, OUT_OF_RESOURCES, PENDING, PENDING_KEYS_IGNORED, SUCCESS,
};
use entry::Scheduled;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The worklist of this gateway.
pub struct Worklist {
    journal: Journal,
    reader: SharedReader,
    config: Config,
    zone: TimeZone,
    entries: Mutex<Vec<Kept>>,
    /// Changes were taken that the entries do not show, because reading them failed.
    is_stale: AtomicBool,
}

/// One scheduled step, as far as it is kept in memory.
struct Kept {
    order: WorkOrderId,
    /// Place of its procedure in the order, and of the step in that.
    place: (usize, usize),
    /// `YYYYMMDD`, then `HHMMSS`, as far as they are known.
    start: (Box<str>, Box<str>),
    /// The day of its start, else the one it was ordered on.
    day: Date,
    modality: Box<str>,
    station_ae_titles: Box<str>,
    patient_name: Box<str>,
    patient_id: Box<str>,
    accession_number: Box<str>,
    study_instance_uid: Box<str>,
    /// [`Reader::patient_key`] of the id the order came with and of the one it goes by now.
    patient_keys: [i64; 2],
}

/// An entry that fits so far.
struct Candidate {
    /// Where it stands among the others.
    at: usize,
    day: Date,
    order: WorkOrderId,
    place: (usize, usize),
}

/// An attribute that is kept in memory.
type Field = (Tag, VR, fn(&Kept) -> &str);

/// A key that entries in memory can be compared with.
struct Key {
    of: fn(&Kept) -> &str,
    vr: VR,
    wanted: String,
}

impl Kept {
    /// Where it stands among the others.
    fn position(&self) -> impl Ord + '_ {
        (self.start.0.is_empty(), &self.start, self.order, self.place)
    }
}

impl Worklist {
    /// The worklist of this journal's orders. `zone` says which day it is.
    pub fn new(journal: &Journal, config: Config, zone: TimeZone) -> Worklist {
        let reader = SharedReader::new(journal);
        Worklist {
            journal: journal.clone(),
            reader,
            config,
            zone,
            entries: Mutex::default(),
            is_stale: AtomicBool::new(false),
        }
    }

    /// Reads the orders before anybody asks for them, which takes a moment where there are thousands. Blocks on the
    /// database.
    pub fn warm(&self) {
        let warmed = self.reader.read(|reader| self.candidates(reader, &[]).map(drop));
        if let Err(error) = warmed {
            tracing::debug!("the worklist is read when it is asked for: {error}");
        }
    }

    /// Answers a C-FIND, the last reply included. Blocks on the database.
    pub fn answer(&self, identifier: &[u8], transfer_syntax_uid: &str) -> Vec<Reply> {
        self.answer_on(Timestamp::now().to_zoned(self.zone.clone()).date(), identifier, transfer_syntax_uid)
    }

    /// The same on another day than today.
    pub fn answer_on(&self, today: Date, identifier: &[u8], transfer_syntax_uid: &str) -> Vec<Reply> {
        let read = read_data_set(identifier, transfer_syntax_uid);
        if is_deflated(transfer_syntax_uid) || read.end != End::Whole {
            return vec![Reply::refusing(CANNOT_UNDERSTAND, "the identifier cannot be read")];
        }
        let keys = read.data_set;
        let found = match self.find(&keys, today) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("a worklist query cannot be answered: {error}");
                return vec![Reply::refusing(OUT_OF_RESOURCES, "the journal does not answer")];
            }
        };
        let layout = Layout::of(transfer_syntax_uid);
        let charsets = [Some(keys.charset.clone()), self.config.charset(), CharacterSets::declared("ISO_IR 100")];
        let charsets: Vec<CharacterSets> = charsets.into_iter().flatten().collect();
        let pending = |entry: &DataSet| {
            let status = if matching::lacks(&keys, entry) { PENDING_KEYS_IGNORED } else { PENDING };
            Reply::pending(status, matching::answer(&keys, entry, &charsets).write(layout))
        };
        let last = Reply { status: SUCCESS, ..Reply::default() };
        found.iter().map(pending).chain([last]).collect()
    }

    /// The entries that fit every key, by their start; those without one last.
    fn find(&self, keys: &DataSet, today: Date) -> Result<Vec<DataSet>, JournalError> {
        self.reader.read(|reader| {
            let mut candidates = self.candidates(reader, &quick_keys(keys))?;
            candidates.sort_by_key(|candidate| candidate.day.duration_since(today).abs());
            let mut found = Vec::new();
            let mut open: Option<StoredOrder> = None;
            for Candidate { at, order: id, place, .. } in candidates {
                if open.as_ref().is_none_or(|order| order.id != id) {
                    open = reader.open_imaging_order(id)?;
                }
                let Some(entry) = open.as_ref().and_then(|order| self.data_set(&order.order, place)) else { continue };
                if !matching::matches(keys, &entry) {
                    continue;
                }
                if found.len() >= usize::from(self.config.answers_max) {
                    tracing::warn!(
                        answers = found.len(),
                        "a worklist query finds more: those nearest to today are told"
                    );
                    break;
                }
                found.push((at, entry));
            }
            found.sort_by_key(|(at, _)| *at);
            Ok(found.into_iter().map(|(_, entry)| entry).collect())
        })
    }

    /// The entries that fit the quick keys, in order.
    fn candidates(&self, reader: &Reader, keys: &[Key]) -> Result<Vec<Candidate>, JournalError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(reader, &mut entries)?;
        let fits = |entry: &Kept| keys.iter().all(|key| matching::fits(&key.wanted, key.vr, (key.of)(entry)));
        let fitting = entries.iter().enumerate().filter(|(_, entry)| fits(entry));
        let candidate =
            |(at, entry): (usize, &Kept)| Candidate { at, day: entry.day, order: entry.order, place: entry.place };
        Ok(fitting.map(candidate).collect())
    }

    /// Takes in what changed since the last query.
    fn refresh(&self, reader: &Reader, entries: &mut Vec<Kept>) -> Result<(), JournalError> {
        // A failure on the way leaves it set: the changes that were taken would be forgotten otherwise.
        let was_stale = self.is_stale.swap(true, Ordering::Relaxed);
        let changes = self.journal.take_order_changes();
        if changes.everything || was_stale {
            entries.clear();
            let mut open = Vec::new();
            reader.for_each_imaging_order(|order| open.push(self.keep(reader, &order)))?;
            for kept in open {
                entries.extend(kept?);
            }
        } else {
            let concerns = |entry: &Kept| entry.patient_keys.iter().any(|key| changes.patients.contains(key));
            let mut orders = changes.orders.clone();
            orders.extend(entries.iter().filter(|entry| concerns(entry)).map(|entry| entry.order));
            entries.retain(|entry| !orders.contains(&entry.order));
            for id in &orders {
                if let Some(order) = reader.open_imaging_order(*id)? {
                    entries.extend(self.keep(reader, &order)?);
                }
            }
            if orders.is_empty() {
                self.is_stale.store(false, Ordering::Relaxed);
                return Ok(());
            }
        }
        entries.sort_by(|a, b| a.position().cmp(&b.position()));
        self.is_stale.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// The steps of an order that are still to be done.
    fn keep(&self, reader: &Reader, stored: &StoredOrder) -> Result<Vec<Kept>, JournalError> {
        let order = &stored.order;
        let Some(imaging) = &order.imaging else { return Ok(Vec::new()) };
        let done = reader.steps_done(stored.id)?;
        let mut entries = Vec::new();
        let patient = &order.patient.patient;
        let ordered = Timestamp::from_millisecond(stored.placed_ms).unwrap_or_default();
        let ordered = ordered.to_zoned(self.zone.clone()).date();
        for (at, procedure) in imaging.procedures.iter().enumerate() {
            for (number, step) in
                procedure.steps.iter().enumerate().filter(|(number, _)| !done.contains(&(at, *number)))
            {
                let scheduled = Scheduled { order, imaging, procedure, step: &self.config.placed(step) };
                let (date, time) = entry::start(step);
                entries.push(Kept {
                    order: stored.id,
                    place: (at, number),
                    day: date.parse().unwrap_or(ordered),
                    start: (date.into(), time.into()),
                    modality: scheduled.step.modality.as_str().into(),
                    station_ae_titles: scheduled.step.station_ae_titles.join("\\").into(),
                    patient_name: scheduled.patient_name().into(),
                    patient_id: patient.id.expose().into(),
                    accession_number: imaging.accession_number.expose().into(),
                    study_instance_uid: procedure.study_instance_uid.as_str().into(),
                    patient_keys: [&stored.ordered_for, &patient.id].map(|id| reader.patient_key(id)),
                });
            }
        }
        Ok(entries)
    }

    fn data_set(&self, order: &WorkOrder, (procedure, step): (usize, usize)) -> Option<DataSet> {
        let imaging = order.imaging.as_ref()?;
        let procedure = imaging.procedures.get(procedure)?;
        let step: ScheduledStep = self.config.placed(procedure.steps.get(step)?);
        Some(Scheduled { order, imaging, procedure, step: &step }.data_set())
    }
}

/// The keys of a query that entries in memory can be compared with.
fn quick_keys(keys: &DataSet) -> Vec<Key> {
    let of_order: [Field; 4] = [
        (tags::PATIENT_NAME, VR::PN, |entry| &entry.patient_name),
        (tags::PATIENT_ID, VR::LO, |entry| &entry.patient_id),
        (tags::ACCESSION_NUMBER, VR::SH, |entry| &entry.accession_number),
        (tags::STUDY_INSTANCE_UID, VR::UI, |entry| &entry.study_instance_uid),
    ];
    let of_step: [Field; 4] = [
        (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, |entry| &entry.start.0),
        (tags::SCHEDULED_PROCEDURE_STEP_START_TIME, VR::TM, |entry| &entry.start.1),
        (tags::SCHEDULED_STATION_AE_TITLE, VR::AE, |entry| &entry.station_ae_titles),
        (tags::MODALITY, VR::CS, |entry| &entry.modality),
    ];
    let step = keys.item(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE);
    let of_order = of_order.into_iter().map(|key| (Some(keys), key));
    let asked = of_order.chain(of_step.into_iter().map(|key| (step, key)));
    let key = |(set, (tag, vr, of)): (Option<&DataSet>, Field)| {
        let wanted = set?.text(tag);
        (!wanted.is_empty()).then_some(Key { of, vr, wanted })
    };
    asked.filter_map(key).collect()
}

#[cfg(test)]
mod tests;
