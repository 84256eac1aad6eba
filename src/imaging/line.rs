//! Lines of documents: which takes the place of which (Predecessor Documents Sequence, PS3.3 C.17.2).
//!
//! All documents of a line are known to EHRs under the name of one of them: the one under which something of it stands,
//! else the one they were told of first, else the first of the line. Where it is not certain which that is, nobody is told before a person has looked, or what is
//! missing came: a document under a name of its own would stand in the chart beside the one it takes the place of.
//!
//! To name a document is to include some or all of it, not to replace it: a report in words names the measurements it
//! rests on, and these stand. So a document takes the place of one of its own kind alone. What names one of another
//! kind, or has nothing for EHRs itself, stands aside until a person has said that it replaces that one. So does a
//! rejection note (PS3.16 CID 7011) beside the documents it says are wrong.
//!
//! A line is of one patient. What a document names of another patient is not of its line: it waits until a person has
//! seen that, is told as if it did not name it, and changes nothing of what the other's chart has or waits for.

use super::Desk;
use super::chart::{ANOTHER_PATIENT, Charts};
use super::content::{is_document, kind, says_anything};
use super::document::{is_discarded, subject_key};
use super::doubt::{Doubt, Facts, Record, both, facts, of_patient};
use super::study::{Known, Member};
use crate::journal::{EntryId, Instance, JournalError, Reader, StudyId};
use crate::mapping::imaging::ImagingMessage;
use crate::message::dicom::{DataSet, End, HEAD_BYTES_MAX, Limits, Tag, predecessors, rejected, tags, walk};
use std::collections::{HashMap, HashSet};

/// Bytes of a document that mostly say which one it takes the place of.
const PREDECESSOR_BYTES: usize = 1 << 17;
/// Key Object Selection Document Storage.
const KEY_OBJECTS: &str = "1.2.840.10008.5.1.4.1.1.88.59";
/// Where a document names those it takes the place of.
const PREDECESSORS: Tag = tags::PREDECESSOR_DOCUMENTS_SEQUENCE;
/// Why it is not certain which line a document belongs to.
pub(super) const DOUBTS: [&str; 6] = ["no-predecessor", SEVERAL, FORK, INCLUDED, ANOTHER_PATIENT, DISCARDED];
/// A document takes the place of several, or of more than is read.
pub(super) const SEVERAL: &str = "several-predecessors";
/// Some of a document was discarded under a name that its line had before.
pub(super) const DISCARDED: &str = "discarded-before";
/// Several documents take one place.
pub(super) const FORK: &str = "several-successors";
/// A document names one of another kind, or rejects one.
pub(super) const INCLUDED: &str = "included-elsewhere";
/// A rejection note rejects more documents than are read. No release acts on it.
pub(super) const UNREAD: &str = "too-large";
/// Most documents of one line. One that goes back to more is held.
const LINE_MAX: usize = 64;
/// Most documents of other studies that are looked for.
const ELSEWHERE_MAX: usize = 256;

/// Which documents take the place of which: those of a study, and what they go back to.
#[derive(Default)]
pub(super) struct Lines {
    documents: HashMap<String, Named>,
    /// What EHRs were told of under the names of documents that are not here; `None` when that is not known.
    elsewhere: HashMap<String, Option<ImagingMessage>>,
    /// The documents that take the place of each.
    replaced_by: HashMap<String, Vec<String>>,
    /// Documents that may be here and were not looked for: there are too many.
    unread: HashSet<String>,
    /// The names under which EHRs were told, and nothing is left.
    ended: HashSet<String>,
    /// Documents of other patients.
    anothers: HashSet<String>,
    /// Whom the study is of, before it is digested.
    patient: String,
}

/// What is known of a document.
struct Named {
    entry: EntryId,
    /// What it has for EHRs; `None` when that is nothing.
    what: Option<ImagingMessage>,
    /// The UIDs it names, its own not among them.
    predecessors: Vec<String>,
    /// Of what it goes back to, that of which it does not take the place.
    includes: Vec<String>,
    /// True of a rejection note.
    rejects: bool,
    /// True of one that names more documents than are read.
    is_cut: bool,
}

/// What a document goes back to.
struct Behind {
    /// This document and everything before it.
    uids: Vec<String>,
    /// False when some of that is not known.
    is_whole: bool,
    /// True when there is more than is read.
    is_cut: bool,
}

/// The line that ends with a document.
pub(super) struct Line {
    /// The document under whose name all of it is known.
    pub first_uid: String,
    /// Under which names there stands what the document takes the place of besides, once a person has said so.
    pub others: Vec<String>,
    /// Under which names one document of the line ended what it took the place of besides.
    pub merged: Vec<String>,
    /// Everything in it. Of a document that stands aside, everything it goes back to.
    pub uids: Vec<String>,
    /// Everything the document goes back to, itself first: the names under which something of it may have been filed.
    /// That a name is of another patient, or only included, may have come out since.
    pub names: Vec<String>,
    /// Under which names there stands what a document that stands aside would take the place of.
    pub stands: Vec<String>,
    /// Why that is not certain.
    pub doubt: Option<Doubt>,
}

impl Line {
    /// Says that another document takes the same place, whatever it told. Each further one is held itself.
    pub fn fork(&mut self) {
        self.doubt = both(Some(forked(Facts::new())), self.doubt.take());
    }

    /// Adds to its doubt what others told where this one would: what one of them tells later is not overwritten unseen.
    pub fn see_rivals(&mut self, reader: &Reader) -> Result<(), JournalError> {
        let Some(mut doubt) = self.doubt.take() else { return Ok(()) };
        let rivals = self.rivals(reader)?;
        if self.is_aside() || doubt.grounds.reason == FORK {
            doubt.facts.extend(rivals);
            self.doubt = Some(doubt);
        } else {
            self.doubt = both(Some(doubt), (!rivals.is_empty()).then(|| forked(rivals)));
        }
        Ok(())
    }

    /// What other documents told since under the names of what it takes the place of.
    pub fn rivals(&self, reader: &Reader) -> Result<Facts, JournalError> {
        let own = std::iter::once(&self.first_uid).chain(&self.others).chain(&self.merged);
        let names = if self.is_aside() { self.stands.iter().collect() } else { own.collect::<Vec<_>>() };
        let mut rivals = Vec::new();
        for name in names {
            rivals.extend(rivals_under(reader, name, &self.uids)?);
        }
        Ok(facts(reader, rivals))
    }

    /// True when a person is asked about it though it has nothing for EHRs.
    pub fn is_asked_about(&self) -> bool {
        self.is_aside() || self.doubt.as_ref().is_some_and(|doubt| doubt.grounds.reason == ANOTHER_PATIENT)
    }

    /// True when it is not told before a person has said what becomes of the documents it includes.
    pub fn is_aside(&self) -> bool {
        !self.stands.is_empty()
    }
}

/// What other documents than these told under this name since one of these told something there last.
fn rivals_under(reader: &Reader, name: &str, uids: &[String]) -> Result<Vec<String>, JournalError> {
    let mut rivals = Vec::new();
    for entry in reader.tellers(&subject_key(name))? {
        match instance_of(reader, entry)? {
            Some(of) if uids.contains(&of.sop_instance_uid) => break,
            Some(_) => rivals.push(format!("{name}\u{1f}{}", entry.0)),
            // What is not kept any more may have been one of them.
            None => {}
        }
    }
    Ok(rivals)
}

/// Another document takes the same place, and told this. One of a study that this document does not lead to may name this
/// one as well.
pub(super) fn forked(rivals: Facts) -> Doubt {
    Doubt::new(
        FORK,
        "another document takes the same place, or the place of this one: see which of them counts",
        rivals,
    )
}

impl Lines {
    /// Reads what documents say of it, and what those say that they go back to, of whatever study. One whose file is lost,
    /// or too long to be read that far, is not among them.
    pub fn read(
        desk: &Desk,
        reader: &Reader,
        known: &Known,
        all: &[(&Member, Instance)],
    ) -> Result<Lines, JournalError> {
        let mut lines = Lines { patient: of_patient(known.patient()), ..Lines::default() };
        let mut named = Vec::new();
        for (member, instance) in all {
            named.extend(lines.add(desk, reader, member.entry, instance, desk.heard_as(member))?);
        }
        let mut looked_for = HashSet::new();
        while let Some(uid) = named.pop() {
            if lines.documents.contains_key(&uid) || looked_for.contains(&uid) {
                continue;
            }
            if looked_for.len() == ELSEWHERE_MAX {
                lines.unread.insert(uid);
                continue;
            }
            looked_for.insert(uid.clone());
            let newest = match reader.instances_of(&uid) {
                // A row that cannot be read, of whatever study, stops nobody: what it is of is not known.
                Err(JournalError::Damaged) => {
                    lines.elsewhere.insert(uid, None);
                    continue;
                }
                found => found?.pop(),
            };
            if let Some((entry, instance)) = newest.filter(|(_, instance)| is_document(&instance.sop_class_uid)) {
                let what = kind(&instance.sop_class_uid);
                named.extend(lines.add(desk, reader, entry, &instance, what)?);
                // Its file is lost, and its class is not.
                if !lines.documents.contains_key(&uid) {
                    lines.elsewhere.insert(uid, what);
                }
            } else if let Some(latest) = reader.last_told(&subject_key(&uid))? {
                let told = instance_of(reader, latest.entry())?;
                lines.elsewhere.insert(uid, told.and_then(|told| kind(&told.sop_class_uid)));
            }
        }
        lines.read_charts(desk, reader, known)?;
        lines.part(reader)?;
        Ok(lines)
    }

    /// Reads what a document says of it, which is of this kind as far as it has anything; gives the UIDs it names.
    fn add(
        &mut self,
        desk: &Desk,
        reader: &Reader,
        entry: EntryId,
        instance: &Instance,
        kind: Option<ImagingMessage>,
    ) -> Result<Vec<String>, JournalError> {
        for bytes in [PREDECESSOR_BYTES, desk.config.document_bytes_max() + HEAD_BYTES_MAX] {
            let file = match reader.open_instance(instance) {
                Err(JournalError::Damaged) => break,
                file => file?,
            };
            let walked = walk(file, &instance.transfer_syntax_uid, Limits { bytes, value_bytes: 256 });
            let is_note = instance.sop_class_uid == KEY_OBJECTS;
            let last = if is_note { tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE } else { PREDECESSORS };
            if walked.end == End::Limit && !is_past(&walked.data_set, last) {
                continue;
            }
            let own = &instance.sop_instance_uid;
            let rejected = if is_note { rejected(&walked.data_set, is_document) } else { Some(Vec::new()) };
            let rejects = rejected.as_ref().is_none_or(|rejected| !rejected.is_empty());
            let (mut named, mut is_cut) = predecessors(&walked.data_set);
            is_cut |= rejected.is_none();
            named.extend(rejected.into_iter().flatten());
            let mut before = HashSet::from([own.clone()]);
            named.retain(|uid| before.insert(uid.clone()));
            let what = kind.filter(|what| says_anything(*what, &walked));
            let document = Named { entry, what, predecessors: named.clone(), includes: Vec::new(), rejects, is_cut };
            self.documents.insert(own.clone(), document);
            return Ok(named);
        }
        Ok(Vec::new())
    }

    /// Finds what was ended, and the documents of other patients: those in whose charts they were told, else those whose
    /// study it is.
    fn read_charts(&mut self, desk: &Desk, reader: &Reader, known: &Known) -> Result<(), JournalError> {
        let mut is_anothers: HashMap<StudyId, bool> = HashMap::from([(known.number, false)]);
        let named = self.documents.values().flat_map(|document| &document.predecessors);
        let uids: HashSet<String> = self.documents.keys().chain(named).cloned().collect();
        for uid in uids {
            let charts = Charts::read(desk, reader, &subject_key(&uid))?;
            if charts.are_ended() {
                self.ended.insert(uid.clone());
            }
            let mut is_told = false;
            for (_, patient) in charts.patients() {
                is_told = true;
                if !known.is_of(reader, patient)? {
                    self.anothers.insert(uid.clone());
                }
            }
            let Some(document) = self.documents.get(&uid).filter(|_| !is_told) else { continue };
            let Some(study) = reader.study_of(document.entry)? else { continue };
            let is_anothers = match is_anothers.get(&study) {
                Some(is_anothers) => *is_anothers,
                None => *is_anothers.entry(study).or_insert(known.is_of_another(reader, study)?),
            };
            if is_anothers {
                self.anothers.insert(uid);
            }
        }
        Ok(())
    }

    /// Of the documents of another patient that this one goes back to, why it is held: a person has seen nothing of those
    /// before which no document of its line was told.
    fn doubt_of_patient(
        &self,
        reader: &Reader,
        anothers: Vec<String>,
        told: &[String],
        line: &[String],
    ) -> Result<Option<Doubt>, JournalError> {
        if anothers.is_empty() {
            return Ok(None);
        }
        let mut seen = HashSet::new();
        for name in told {
            for entry in reader.tellers(&subject_key(name))? {
                let teller = instance_of(reader, entry)?.map(|told| told.sop_instance_uid);
                if let Some(teller) = teller.filter(|uid| line.contains(uid)) {
                    seen.extend(self.back_from(&teller).uids);
                }
            }
        }
        let unseen = anothers.into_iter().filter(|of| !seen.contains(of));
        let about: Vec<String> = unseen.map(|of| [of.as_str(), &self.patient].join("\u{1f}")).collect();
        let why = "it names a document of another patient; released, it is told as if it did not, and what the chart of the \
                   other has stays until somebody takes it back there";
        Ok((!about.is_empty()).then(|| Doubt::new(ANOTHER_PATIENT, why, facts(reader, about))))
    }

    /// Tells what each document takes the place of from what it only includes.
    fn part(&mut self, reader: &Reader) -> Result<(), JournalError> {
        let mut parted = Vec::new();
        let mut accepted: HashMap<String, HashSet<String>> = HashMap::new();
        for (uid, document) in &self.documents {
            let uids = self.back_from(uid).uids;
            let mut includes: Vec<String> = uids.iter().filter(|of| self.is_another(document, of)).cloned().collect();
            for before in if includes.is_empty() { &[][..] } else { &uids[..] } {
                if !accepted.contains_key(before) {
                    accepted.insert(before.clone(), self.accepted(reader, before)?);
                }
                includes.retain(|of| !accepted.get(before).is_some_and(|accepted| accepted.contains(of)));
            }
            parted.push((uid.clone(), uids, includes));
        }
        for (uid, uids, includes) in parted {
            let is_discarded = match self.documents.get(&uid) {
                Some(document) => is_discarded(reader, &uids, document.entry)?,
                None => false,
            };
            let takes_none = is_discarded || self.anothers.contains(&uid);
            let uids = if takes_none { Vec::new() } else { uids };
            for of in uids.into_iter().filter(|of| *of != uid && !includes.contains(of)) {
                self.replaced_by.entry(of).or_default().push(uid.clone());
            }
            if let Some(document) = self.documents.get_mut(&uid) {
                document.includes = includes;
            }
        }
        Ok(())
    }

    /// True when a document is of a kind whose place this one does not take, or nobody knows of which.
    fn is_another(&self, document: &Named, of: &str) -> bool {
        match (self.documents.get(of), self.elsewhere.get(of)) {
            (Some(of), _) => of.what.is_some() && of.what != document.what,
            (None, Some(what)) => what.is_none() || *what != document.what,
            (None, None) => document.what.is_none(),
        }
    }

    /// Of what a document goes back to, what a person has said that it takes the place of, with everything before that. What
    /// it names besides and came since is not among them.
    fn accepted(&self, reader: &Reader, uid: &str) -> Result<HashSet<String>, JournalError> {
        let mut accepted = HashSet::new();
        let Some(document) = self.documents.get(uid) else { return Ok(accepted) };
        let behind = self.back_from(uid).uids;
        let mut seen = Facts::new();
        for name in &behind {
            for (decisions, is_told) in reader.decisions_under(&subject_key(name), document.entry)? {
                let record = Record::read(&decisions);
                // What was released may wait under its new name for something else.
                seen.extend(if is_told { record.facts_of(&[INCLUDED]) } else { record.passed(INCLUDED) });
            }
        }
        for of in behind.iter().skip(1).filter(|of| seen.contains(&reader.fact(&[of]))) {
            accepted.extend(self.back_from(of).uids);
        }
        accepted.remove(uid);
        Ok(accepted)
    }

    /// The line that ends with this document; `None` when another one takes its place.
    pub fn ending_with(&self, reader: &Reader, uid: &str) -> Result<Option<Line>, JournalError> {
        let Behind { uids: names, is_whole, is_cut } = self.back_from(uid);
        let replacing = self.replaced_by.get(uid).map(Vec::as_slice).unwrap_or_default();
        // Of documents that name each other in a ring, none takes the place of another.
        let is_ring = !replacing.is_empty();
        if replacing.iter().any(|by| !names.contains(by)) {
            return Ok(None);
        }
        let (anothers, all): (Vec<String>, Vec<String>) =
            names.iter().cloned().partition(|of| of != uid && self.anothers.contains(of));
        let mut told = Vec::new();
        for uid in &all {
            if reader.was_told(&subject_key(uid))? {
                told.push(uid.clone());
            }
        }
        let of_patient = self.doubt_of_patient(reader, anothers, &told, &all)?;
        let document = self.documents.get(uid);
        if document.is_some_and(|document| document.rejects && document.is_cut) {
            let why = "it rejects more than 32 documents, and what it names is not read: see which of them the chart has, \
                       have them taken back there, and discard this";
            let doubt = Some(Doubt::new(UNREAD, why, Facts::new()));
            let (others, merged) = (Vec::new(), Vec::new());
            let stands = vec![uid.to_string()];
            return Ok(Some(Line { first_uid: uid.to_string(), others, merged, uids: all, names, stands, doubt }));
        }
        let mut includes = document.map(|document| document.includes.clone()).unwrap_or_default();
        // What is not here, and was never told of, may be anything.
        includes.retain(|of| all.contains(of) && (self.documents.contains_key(of) || told.contains(of)));
        // One that has nothing itself takes the place of nothing; another, of those of its kind.
        let what = document.and_then(|document| document.what);
        let is_own = |of: &String| match (self.documents.get(of), self.elsewhere.get(of)) {
            (Some(own), _) => of != uid && own.what == what,
            (None, other) => other.is_none_or(|other| *other == what),
        };
        if !includes.is_empty() && (what.is_none() || !all.iter().any(is_own)) {
            let how = if document.is_some_and(|document| document.rejects) { "rejects" } else { "names" };
            let why = format!(
                "it {how} another document, which stands: release it to take that back, discard it to leave that"
            );
            let mut stands = told;
            if stands.is_empty() {
                stands.push(self.first_of(uid, &all).to_string());
            } else if what.is_none() {
                stands = self.standing(reader, stands, &all)?;
            }
            // What it names has been replaced since, by what it does not name, and it has nothing to tell itself.
            if stands.is_empty() {
                return Ok(None);
            }
            let about = facts(reader, includes.into_iter().chain(stands.iter().cloned()));
            let doubt = both(Some(Doubt::new(INCLUDED, &why, about)), both(of_patient, is_cut.then(|| unread(reader))));
            let (others, merged) = (Vec::new(), Vec::new());
            return Ok(Some(Line { first_uid: uid.to_string(), others, merged, uids: all, names, stands, doubt }));
        }
        told.retain(|of| !includes.contains(of));
        let merged = self.merged(reader, &mut told, &all)?;
        told.retain(|of| !merged.contains(of));
        let uids: Vec<String> = all.into_iter().filter(|of| !includes.contains(of)).collect();
        let held = |reason: &'static str, why: &str| Some(Doubt::new(reason, why, Facts::new()));
        let several = |why: &str| {
            let told = told.iter().filter(|_| told.len() > 1);
            Some(Doubt::new(SEVERAL, why, facts(reader, told.chain(&includes).cloned())))
        };
        let (first, mut doubt) = match &told[..] {
            [] if is_ring => (uids.iter().min().map_or(uid, String::as_str), None),
            [] => {
                let missing = "it takes the place of a document that is not here, or not readable";
                (self.first_of(uid, &uids), if is_whole { None } else { held(DOUBTS[0], missing) })
            }
            [first] => (first.as_str(), None),
            [first, ..] => {
                let why = "it takes the place of several documents in the chart: release it to tell it as the first of them \
                           and take the others back";
                (first.as_str(), several(why))
            }
        };
        doubt = both(is_cut.then(|| unread(reader)), doubt);
        if !includes.is_empty() {
            let more = "it takes the place of one document, and names one of another kind that would stand beside it";
            doubt = both(several(more), doubt);
        }
        if is_ring {
            doubt = held(FORK, "it and others take the place of each other: see which of them counts");
        }
        doubt = both(of_patient, doubt);
        let others: Vec<String> = told.iter().skip(1).filter(|_| !is_ring).cloned().collect();
        let first_uid = first.to_string();
        Ok(Some(Line { first_uid, others, merged, stands: Vec::new(), uids, names, doubt }))
    }

    /// Why a document ends no line that came under this entry, in words for a person.
    pub fn why_replaced(&self, reader: &Reader, uid: &str, entry: EntryId) -> Result<&'static str, JournalError> {
        let replacing = self.replaced_by.get(uid).into_iter().flatten().map(String::as_str);
        let mut is_any = false;
        for by in replacing.chain([uid]) {
            let Some(by_entry) = self.documents.get(by).map(|by| by.entry).filter(|by| *by != entry) else { continue };
            is_any = true;
            for name in self.back_from(by).uids {
                if reader.was_told_by(&subject_key(&name), by_entry)? {
                    return Ok("another took its place since, and EHRs are told of that one: discard this");
                }
            }
        }
        Ok(match is_any {
            true => "another that would take its place waits as well: decide about that one first",
            false => "what it names was replaced since, by what it does not name: discard this",
        })
    }

    /// Of these names under which EHRs were told, those under which there stands one of these documents.
    fn standing(&self, reader: &Reader, told: Vec<String>, of: &[String]) -> Result<Vec<String>, JournalError> {
        let mut standing = Vec::new();
        for name in told {
            let key = subject_key(&name);
            let Some(last) = reader.last_told(&key)? else { continue };
            let is_another =
                instance_of(reader, last.entry())?.is_some_and(|last| !of.contains(&last.sop_instance_uid));
            // What is only held has replaced nothing yet.
            if !(is_another && reader.was_told_by(&key, last.entry())?) {
                standing.push(name);
            }
        }
        Ok(standing)
    }

    /// Of the names under which EHRs were told of a line, puts that first under which one of its documents stands, or else
    /// one that none of them ended. Gives those which that one ended besides, as it took the place of several.
    fn merged(&self, reader: &Reader, told: &mut [String], all: &[String]) -> Result<Vec<String>, JournalError> {
        let mut tellers: HashMap<String, EntryId> = HashMap::new();
        for name in told.iter() {
            for entry in reader.tellers(&subject_key(name))? {
                let Some(last) = instance_of(reader, entry)? else { continue };
                if all.contains(&last.sop_instance_uid) {
                    tellers.insert(name.clone(), entry);
                }
                break;
            }
        }
        let is_own = |name: &String| tellers.contains_key(name);
        let own = told.iter().position(|name| is_own(name) && !self.ended.contains(name));
        let others = || told.iter().position(|name| !is_own(name));
        if let Some(at) = own.or_else(others) {
            told[..=at].rotate_right(1);
        }
        let mut merged = Vec::new();
        let Some((first, others)) = told.split_first() else { return Ok(merged) };
        for other in others.iter().filter(|other| self.ended.contains(*other)) {
            if let Some(teller) = tellers.get(other)
                && reader.was_told_by(&subject_key(first), *teller)?
            {
                merged.push(other.clone());
            }
        }
        Ok(merged)
    }

    fn back_from(&self, uid: &str) -> Behind {
        let (mut uids, mut is_whole, mut is_cut) = (vec![uid.to_string()], true, false);
        let mut at = 0;
        while let Some(uid) = uids.get(at) {
            let Some(document) = self.documents.get(uid) else {
                is_cut |= self.unread.contains(uid);
                (is_whole, at) = (false, at + 1);
                continue;
            };
            is_cut |= document.is_cut;
            let named = &document.predecessors;
            let more: Vec<String> = named.iter().filter(|named| !uids.contains(named)).cloned().collect();
            let room = LINE_MAX - uids.len();
            is_cut |= more.len() > room;
            uids.extend(more.into_iter().take(room));
            at += 1;
        }
        Behind { uids, is_whole, is_cut }
    }

    /// The first document of a line, where it parts by what is named first.
    fn first_of<'l>(&'l self, uid: &'l str, line: &[String]) -> &'l str {
        let (mut first, mut seen) = (uid, HashSet::from([uid]));
        while let Some(document) = self.documents.get(first)
            && let Some(before) = document.predecessors.iter().find(|named| line.contains(named))
        {
            if !seen.insert(before) {
                break;
            }
            first = before;
        }
        first
    }
}

/// It goes back to more documents than are read.
fn unread(reader: &Reader) -> Doubt {
    let why = "it goes back to more documents than are read: see what else of them the chart has, which stays there";
    Doubt::new(SEVERAL, why, facts(reader, ["more than is read".to_string()]))
}

/// The document that came under this entry; `None` when that is not kept any more.
pub(super) fn instance_of(reader: &Reader, entry: EntryId) -> Result<Option<Instance>, JournalError> {
    match reader.instance(entry) {
        Err(JournalError::Damaged) => Ok(None),
        instance => instance,
    }
}

/// True when the elements that were read are past where the sequence stands.
fn is_past(set: &DataSet, tag: Tag) -> bool {
    set.elements().last().is_some_and(|element| element.tag > tag)
}
