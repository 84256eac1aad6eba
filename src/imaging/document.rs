//! What EHRs are told of the documents of a study: the measurements of structured reports, and encapsulated PDFs.
//!
//! A document that takes the place of another is told as its correction, under the name of the first of the line
//! ([`super::line`]); what was replaced before anybody was told of it is not told at all. What an EHR has of the line
//! ([`super::chart`]) and the document has no more is taken back, in one message with what takes its place: the EHR takes
//! both or refuses both.
//!
//! Each EHR's chart is its own. One that has something of the line and does not hear of the document (it is of another
//! link, or of a kind that it leaves out) would have neither the old nor the new, so nothing is taken back there unseen:
//! that is held beside what the others are told (`replaced-elsewhere`). One that names a document of another patient is
//! held whole (`another-patient`).
//!
//! One that takes the place of several documents in the chart is told as the first of them, once a person has said so, and
//! the others are withdrawn under their own names.
//!
//! One that has nothing for any EHR, or is of another kind, does not say that what it names counts no more: it may only
//! include it. That is told as if it stood alone, and the other is held (`included-elsewhere`). Whoever releases it says
//! that it takes the place, and what stands is withdrawn.
//!
//! One that nobody has verified and that takes the place of what was told as final is held (`unverified-correction`): an EHR
//! takes no preliminary result after a final one.
//!
//! Each document is filed by itself, so that one at a time is in memory. One that says and stands as it was last told is
//! not told again.

use super::Desk;
use super::chart::{ANOTHER_PATIENT, Charts};
use super::content::{Content, is_document};
use super::doubt::{Doubt, Facts, Record, both, facts, held_again};
use super::draft::{Certain, Draft, Drafted, ELSEWHERE, Kept};
use super::line::{DISCARDED, DOUBTS, FORK, INCLUDED, Line, Lines, SEVERAL, UNREAD, forked, instance_of};
use super::study::{Known, Member, released, uncarried};
use crate::journal::{
    EntryId, Grounds, HoldId, Instance, JournalError, Latest, Reader, ReleaseFiling, Released, ReportId, Told,
};
use std::collections::{HashMap, HashSet};

/// A document that nobody has verified takes the place of one that somebody had.
const UNVERIFIED: &str = "unverified-correction";
/// Why all of a document waits, besides the doubts about its line and what no message can carry.
const UNTOLD: [&str; 5] = [UNVERIFIED, ELSEWHERE, UNREAD, "unreadable", "damaged"];
/// What the reasons begin with for which no message can carry it.
const UNSENDABLE: &str = "unsendable-";

/// The documents of a study with their entries, each SOP Instance UID once, and which of them take the place of which.
struct Documents<'k> {
    all: Vec<(&'k Member, Instance)>,
    lines: Lines,
}

/// A document that EHRs do not know as it is now.
struct Change<'k> {
    member: &'k Member,
    instance: Instance,
    line: Line,
    /// What is held of its line, each with the SOP Instance UID of what waits.
    covers: Vec<(HoldId, String)>,
}

/// Files every document that EHRs do not know as it is now, one after the other.
pub(super) fn tell(
    desk: &Desk,
    reader: &Reader,
    known: &Known,
    file: impl Fn(Vec<Told>) -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    changes(desk, reader, known)?.into_iter().try_for_each(|change| file(drafted(desk, reader, known, change)?))
}

/// What is filed of a document, as it is told or held.
fn drafted(desk: &Desk, reader: &Reader, known: &Known, change: Change) -> Result<Vec<Told>, JournalError> {
    let Change { member, instance, mut line, covers } = change;
    line.see_rivals(reader)?;
    let first_uid = line.first_uid.as_str();
    let subject_key = subject_key(first_uid);
    let content_key = content_key(&instance, reason_of(&line));
    // The same content may be told again with another status, which is another message.
    let number = reader.last_told(&subject_key)?.map_or(0, |before| before.report.0);
    let name = [content_key.as_slice(), &number.to_be_bytes()].concat();
    let mut charts = Charts::of_study(desk, reader, &subject_key, known)?;
    let content = match &line.doubt {
        // Held whole: a person decides whether it takes the place of what it names.
        Some(doubt) if line.is_aside() => Err(doubt.clone()),
        _ => desk.read(reader, member, &instance, first_uid)?.map_err(Doubt::from),
    };
    charts.doubt = both(charts.doubt, line.doubt.clone().filter(|_| !line.is_aside()));
    charts.doubt = both(charts.doubt.take(), unverified(reader, &content, &charts, None));
    let by = Replacing { desk, known, member, instance: &instance, name: &name };
    let draft = Draft { name: name.clone(), of_line: line.doubt.as_ref(), ..by.draft(first_uid, charts) };
    let Drafted { report, waits } = draft.report(reader, content, (subject_key, content_key))?;
    // As long as somebody may discard it, it covers nothing but itself and takes nothing back.
    let covers = covers.into_iter().filter(|(_, uid)| waits.is_none() || *uid == instance.sop_instance_uid);
    let covers = covers.map(|(hold, _)| hold).collect();
    let mut told = vec![Told { entry: member.entry, report, covers }];
    if waits.is_none() {
        told.extend(by.ended_again(reader, &line)?);
    }
    Ok(told)
}

/// Why a document that nobody has verified is held: it takes the place of what was told as final, besides this report.
fn unverified(
    reader: &Reader,
    content: &Result<Content, Doubt>,
    charts: &Charts,
    released: Option<ReportId>,
) -> Option<Doubt> {
    let why = "nobody has verified it, and it takes the place of what was told as final: release it to tell it as the \
               correction, discard it when a verified one is to come";
    let is_doubtful = content.as_ref().is_ok_and(Content::is_unverified) && charts.is_any_final();
    is_doubtful.then(|| Doubt::new(UNVERIFIED, why, facts(reader, charts.finals(released))))
}

/// True when EHRs do not know some document of a study as it is now.
pub(super) fn is_any_new(desk: &Desk, reader: &Reader, known: &Known) -> Result<bool, JournalError> {
    Ok(!changes(desk, reader, known)?.is_empty())
}

/// The documents that EHRs do not know as they are now, of each line the one it ends with.
fn changes<'k>(desk: &Desk, reader: &Reader, known: &'k Known) -> Result<Vec<Change<'k>>, JournalError> {
    let Documents { all, lines } = Documents::read(desk, reader, known)?;
    let mut ends: Vec<(&Member, Instance, Line)> = Vec::new();
    for (member, instance) in all {
        if let Some(line) = lines.ending_with(reader, &member.object.sop_instance_uid)? {
            ends.push((member, instance, line));
        }
    }
    // What waits for somebody to verify it, or was discarded, takes no place from one that only says what it replaces.
    let mut waiting = HashSet::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (member, _, line) in &ends {
        let key = subject_key(&line.first_uid);
        let own = reader.last_told_under(&key, member.entry)?;
        if is_discarded(reader, &line.names, member.entry)?
            || own.map_or(Ok(false), |own| is_unverified(reader, &own))?
        {
            waiting.insert(member.entry);
            continue;
        }
        // Nor does one in whose place another was told since.
        if !reader.was_told_by(&key, member.entry)? || line.rivals(reader)?.is_empty() {
            *counts.entry(line.first_uid.clone()).or_default() += 1;
        }
    }
    for (member, _, line) in &mut ends {
        if counts.get(&line.first_uid).is_some_and(|count| *count > 1) && !waiting.contains(&member.entry) {
            line.fork();
        }
    }
    let aside = ends.iter().filter(|(.., line)| line.is_aside());
    let aside: HashSet<String> = aside.map(|(_, instance, _)| instance.sop_instance_uid.clone()).collect();
    let entries: Vec<EntryId> = ends.iter().map(|(member, ..)| member.entry).collect();
    let mut changes = Vec::new();
    for (member, instance, mut line) in ends {
        let before = reader.last_told(&subject_key(&line.first_uid))?;
        let mut covers = held(reader, &line, |entry| *entry != member.entry && entries.contains(entry))?;
        covers.extend(own_aside(reader, &line, member)?);
        // One of which no EHR hears is nothing to them, unless it may take the place of what was.
        if desk.heard_as(member).is_none() && before.is_none() && covers.is_empty() && !line.is_asked_about() {
            continue;
        }
        let own = filed_last(reader, &line, member.entry)?;
        // What was filed last is not of this line when it is another branch, lies in another study, or its file is lost.
        let mut is_forked = !line.rivals(reader)?.is_empty();
        if let Some(before) = &before
            && let Some(said) = instance_of(reader, before.entry())?
            && !line.uids.contains(&said.sop_instance_uid)
            && !aside.contains(&said.sop_instance_uid)
        {
            if before.entry() > member.entry && own.as_ref().is_some_and(|own| !own.is_undone()) {
                continue;
            }
            let name = std::slice::from_ref(&line.first_uid);
            is_forked |= !is_unverified(reader, before)? && !is_discarded(reader, name, before.entry())?;
        }
        if is_forked && line.doubt.is_none() {
            line.fork();
        }
        // In doubt a person has seen that others told there.
        let told_over = if line.doubt.is_none() { told_over(reader, &line, member, &instance)? } else { None };
        // One that stands aside is asked about when it is released.
        if !line.is_aside() {
            let discarded = discarded_before(reader, &line, member.entry)?;
            let discarded = both(told_over.as_ref().and_then(|over| over.discarded.clone()), discarded);
            line.doubt = both(line.doubt.take(), discarded);
        }
        // Once it is certain which line it belongs to, it is decided about again.
        let doubt = reason_of(&line);
        if let Some(said) = own.as_ref().or(before.as_ref()).filter(|said| !said.is_undone()) {
            // What a person decided in doubt stays decided when the doubt is gone.
            let is_same = |doubt: &&str| said.same_content(&content_key(&instance, doubt));
            let is_settled =
                is_same(&doubt) || (is_same(&"") || DOUBTS.iter().any(is_same)) && reader.was_decided(said.report)?;
            // A document more, of which it is in doubt since, is another doubt. What is not told changes no chart of another.
            let is_shown = |doubt: &Doubt| -> Result<bool, JournalError> {
                let is_asked = !doubt.facts.is_empty() && !Record::read(&reader.decisions(said.report)?).has(doubt);
                let is_of_another = doubt.grounds.reason == ANOTHER_PATIENT;
                Ok(!is_asked || is_of_another && is_discarded(reader, &line.names, member.entry)?)
            };
            // What stands now is not what this told.
            let is_overtaken = told_over.is_some() && reader.went_out(said.report)?;
            if is_settled && !is_overtaken && line.doubt.as_ref().map_or(Ok(true), is_shown)? {
                continue;
            }
        }
        changes.push(Change { member, instance, line, covers });
    }
    Ok(changes)
}

/// Why a document is held of which a person discarded something under another name than it is filed under now: all of it
/// is shown once more, and each number is decided about by itself.
fn discarded_before(reader: &Reader, line: &Line, entry: EntryId) -> Result<Option<Doubt>, JournalError> {
    for name in &line.names {
        let discarded = reader.discarded_under(&subject_key(name), entry)?;
        // One that stands aside is filed under another name once it is released. Who discarded all of it as it stood aside
        // decided about what it includes.
        // One that was held again as it stood aside names more, for its numbers were decided about one by one.
        let counts = |decisions: &String| {
            let record = Record::read(decisions);
            !record.names(INCLUDED) || record.reasons().any(|reason| reason != INCLUDED)
        };
        let is_any = match *name == line.first_uid {
            true => line.is_aside() && discarded.iter().any(counts),
            false => !discarded.is_empty(),
        };
        if is_any {
            let why =
                "some of it was discarded before, under another name: release what is to be told, discard the rest";
            return Ok(Some(Doubt::new(DISCARDED, why, Facts::new())));
        }
    }
    Ok(None)
}

/// A document in whose place another of its line was told after it, of a study that does not lead to this one: that stands
/// now where this one takes the place.
struct ToldOver {
    /// Why it is not told again by itself: a person discarded some of it.
    discarded: Option<Doubt>,
}

/// Whether another document of the line was told after this one.
fn told_over(
    reader: &Reader,
    line: &Line,
    member: &Member,
    instance: &Instance,
) -> Result<Option<ToldOver>, JournalError> {
    let tellers = reader.tellers(&subject_key(&line.first_uid))?;
    let Some((last, before)) = tellers.split_first() else { return Ok(None) };
    let uid_of = |entry: &EntryId| -> Result<Option<String>, JournalError> {
        Ok(instance_of(reader, *entry)?.map(|of| of.sop_instance_uid))
    };
    let own = &instance.sop_instance_uid;
    if !uid_of(last)?.is_some_and(|by| by != *own && line.uids.contains(&by)) {
        return Ok(None);
    }
    // It may have come more than once.
    let mut entries = Vec::new();
    for entry in before {
        match uid_of(entry)? {
            Some(uid) if uid == *own => entries.push(*entry),
            // One of another branch was told in its place before: that one is told over, not this.
            Some(uid) if entries.is_empty() && !line.uids.contains(&uid) => return Ok(None),
            _ => {}
        }
    }
    if entries.is_empty() {
        return Ok(None);
    }
    entries.push(member.entry);
    for name in line.names.iter().chain([&line.first_uid]) {
        for entry in &entries {
            if !reader.discarded_under(&subject_key(name), *entry)?.is_empty() {
                let why = "some of it was discarded before, and another document was told in its place since: release \
                           what is to be told, discard the rest";
                let by = facts(reader, [format!("{}\u{1f}{}", line.first_uid, last.0)]);
                return Ok(Some(ToldOver { discarded: Some(Doubt::new(DISCARDED, why, by)) }));
            }
        }
    }
    Ok(Some(ToldOver { discarded: None }))
}

/// What was filed last of a document under the name of its line, or else what a person decided about it under one that the
/// line had before.
fn filed_last(reader: &Reader, line: &Line, entry: EntryId) -> Result<Option<Latest>, JournalError> {
    if let Some(own) = reader.last_told_under(&subject_key(&line.first_uid), entry)? {
        return Ok(Some(own));
    }
    let mut last: Option<Latest> = None;
    for name in &line.names {
        let key = subject_key(name);
        let is_decided = !reader.discarded_under(&key, entry)?.is_empty();
        let filed = if is_decided { reader.last_told_under(&key, entry)? } else { None };
        last = last.into_iter().chain(filed).max_by_key(|filed| filed.report.0);
    }
    Ok(last)
}

/// True when this was only held, because nobody has verified it.
fn is_unverified(reader: &Reader, said: &Latest) -> Result<bool, JournalError> {
    let is_held = !said.is_undone() && !reader.was_decided(said.report)?;
    Ok(is_held && Record::read(&reader.decisions(said.report)?).names(UNVERIFIED))
}

/// True when all that was filed of a document under these names was discarded as all of it waited: because of what it takes
/// the place of, of whoever discards that says that it takes none, or because it could not be told, and so replaced nothing.
pub(super) fn is_discarded(reader: &Reader, names: &[String], entry: EntryId) -> Result<bool, JournalError> {
    let mut is_discarded = false;
    for name in names {
        let key = subject_key(name);
        if reader.was_told_by(&key, entry)? || reader.held_of(&key)?.iter().any(|(.., of)| *of == entry) {
            return Ok(false);
        }
        if !reader.discarded_under(&key, entry)?.is_empty()
            && let Some(said) = reader.last_told_under(&key, entry)?
        {
            let waited = Record::read(&reader.decisions(said.report)?);
            is_discarded |= DOUBTS.iter().chain(&UNTOLD).any(|reason| waited.names(reason));
            is_discarded |= waited.reasons().any(|reason| reason.starts_with(UNSENDABLE));
        }
    }
    Ok(is_discarded)
}

/// What is held of the documents of a line, besides what is held of those that end it too, each with its SOP Instance UID.
/// What one of another branch waits with under the same name is its own.
fn held(
    reader: &Reader,
    line: &Line,
    is_other: impl Fn(&EntryId) -> bool,
) -> Result<Vec<(HoldId, String)>, JournalError> {
    let mut covers = Vec::new();
    for name in std::iter::once(&line.first_uid).chain(line.uids.iter().filter(|uid| **uid != line.first_uid)) {
        for (hold, _, entry) in reader.held_of(&subject_key(name))? {
            if !is_other(&entry)
                && let Some(of) = instance_of(reader, entry)?
                && line.uids.contains(&of.sop_instance_uid)
            {
                covers.push((hold, of.sop_instance_uid));
            }
        }
    }
    Ok(covers)
}

/// What is held of a document under names that are not of its line any more, as [`held`] gives it.
fn own_aside(reader: &Reader, line: &Line, member: &Member) -> Result<Vec<(HoldId, String)>, JournalError> {
    let mut covers = Vec::new();
    for name in line.names.iter().filter(|name| !line.uids.contains(name)) {
        let own = own_holds(reader, name, member.entry)?.into_iter();
        covers.extend(own.map(|hold| (hold, member.object.sop_instance_uid.clone())));
    }
    Ok(covers)
}

/// What is held of a document under this name of its line.
fn own_holds(reader: &Reader, first_uid: &str, entry: EntryId) -> Result<Vec<HoldId>, JournalError> {
    let held = reader.held_of(&subject_key(first_uid))?.into_iter();
    Ok(held.filter(|(.., of)| *of == entry).map(|(hold, ..)| hold).collect())
}

/// What is held of a document under other names than this one: an earlier version filed it anew and left that. What it is
/// to take back there is not itself.
fn doubled(reader: &Reader, line: &Line, first_uid: &str, entry: EntryId) -> Result<Vec<HoldId>, JournalError> {
    let mut doubled = Vec::new();
    if !reader.discarded_under(&subject_key(first_uid), entry)?.is_empty() {
        return Ok(doubled);
    }
    for name in line.names.iter().filter(|name| *name != first_uid) {
        for (hold, report, of) in reader.held_of(&subject_key(name))? {
            if of == entry && !is_withdrawal(reader, report)? {
                doubled.push(hold);
            }
        }
    }
    Ok(doubled)
}

/// True when a report only takes back what stands under its name, or cannot be read.
fn is_withdrawal(reader: &Reader, report: ReportId) -> Result<bool, JournalError> {
    match reader.report(report).map(|json| serde_json::from_slice(&json)) {
        Ok(Ok(super::Kept::Document(kept))) => Ok(kept.is_withdrawal),
        Ok(_) | Err(JournalError::Damaged) => Ok(true),
        Err(error) => Err(error),
    }
}

/// True when a document waits under the name of its line, or was told there and stands.
fn is_filed(reader: &Reader, first_uid: &str, entry: EntryId) -> Result<bool, JournalError> {
    let key = subject_key(first_uid);
    let Some(filed) = reader.last_told_under(&key, entry)?.filter(|filed| !filed.is_undone()) else { return Ok(false) };
    let stands = reader.went_out(filed.report)? && reader.tellers(&key)?.first() == Some(&entry);
    // Of what a person discarded there, this may be the one that was kept.
    let is_whole = reader.discarded_under(&key, entry)?.is_empty();
    Ok(is_whole && (stands || filed.is_held_of(entry)) && !is_withdrawal(reader, filed.report)?)
}

/// What EHRs are told of a line of documents, by the one under whose name they know it.
pub(super) fn subject_key(first_uid: &str) -> Vec<u8> {
    format!("document\u{1f}{first_uid}").into_bytes()
}

/// What tells a document from others of its line, and from itself with another doubt about which line that is.
fn content_key(instance: &Instance, doubt: &str) -> Vec<u8> {
    // Nothing but its bytes where no other came under its UID: EHRs were told of such under this key before.
    let content = if instance.conflict { instance.content_key() } else { instance.digest.to_vec() };
    [instance.sop_instance_uid.as_bytes(), &content, doubt.as_bytes()].concat()
}

/// The name of the doubt about which line a document belongs to; empty of none.
fn reason_of(line: &Line) -> &'static str {
    line.doubt.as_ref().map_or("", |doubt| doubt.grounds.reason)
}

/// True when any EHR hears of a document of this study.
pub(super) fn are_heard_of(desk: &Desk, known: &Known) -> bool {
    let mut members = known.series.iter().flat_map(|(_, members)| members);
    members.any(|member| desk.heard_as(member).is_some())
}

/// What becomes of measurements or of a document that a person released.
pub(super) fn release(
    desk: &Desk,
    reader: &Reader,
    item: &Released,
    kept: &Kept,
) -> Result<Vec<ReleaseFiling>, JournalError> {
    let mut known = match Known::read(reader, kept.study) {
        // What else was released goes on.
        Err(JournalError::Damaged) => None,
        known => known?,
    };
    if let Some(known) = &mut known {
        let passed = known.passed(reader)?;
        if let Some(held) = known.pass(desk, item, &passed) {
            return Ok(vec![held]);
        }
    }
    let instance = reader.instance(kept.entry)?;
    let (Some(known), Some(instance)) = (&known, instance) else {
        reader.set_unreadable(item.report);
        return Ok(Vec::new());
    };
    let documents = Documents::read(desk, reader, known)?;
    let Some((member, mut line)) = documents.last(reader, kept.entry)? else {
        let why = documents.lines.why_replaced(reader, &instance.sop_instance_uid, kept.entry)?.to_string();
        return Ok(vec![held_again(item, Grounds { reason: "replaced", rule: None, why }, &[])]);
    };
    let seen = Record::seen(item);
    let in_doubt = |doubt: Doubt| vec![held_again(item, doubt.grounds.clone(), &[doubt])];
    // Who releases what is held for that has seen that it is not known what was told before. Whose that is lets nobody pass.
    let is_unseen = |doubt: &Doubt| doubt.grounds.reason == ANOTHER_PATIENT || !seen.has(doubt);
    let name = released(item);
    let by = Replacing { desk, known, member, instance: &instance, name: &name };
    if let Some(doubt) = line.doubt.as_ref().filter(|doubt| doubt.grounds.reason == UNREAD) {
        return Ok(in_doubt(doubt.clone()));
    }
    line.see_rivals(reader)?;
    if line.is_aside() && line.doubt.as_ref().is_some_and(|doubt| seen.has(doubt)) {
        let of_line = documents.all.iter().filter(|(of, _)| line.uids.contains(&of.object.sop_instance_uid));
        let of_line: Vec<EntryId> = of_line.map(|(of, _)| of.entry).collect();
        let covers = held(reader, &line, |entry| !of_line.contains(entry))?.into_iter();
        let covers = covers.chain(own_aside(reader, &line, member)?);
        // What it would replace is withdrawn under each name it has; what it says itself goes out under the first.
        let Some((first_uid, others)) = line.stands.split_first() else { return Ok(Vec::new()) };
        let content = desk.read(reader, member, &instance, first_uid)?.map_err(Doubt::from);
        let (subject_key, content_key) = (subject_key(first_uid), content_key(&instance, ""));
        let mut charts = Charts::of_study(desk, reader, &subject_key, known)?;
        charts.doubt = both(charts.doubt.take().filter(is_unseen), unverified(reader, &content, &charts, None));
        // The whole of it is read, also what was discarded of it while it waited for something else.
        let discarded = || discarded_before(reader, &line, item.entry);
        charts.doubt = charts.doubt.take().filter(is_unseen).map_or_else(discarded, |doubt| Ok(Some(doubt)))?;
        let of_line = line.doubt.as_ref();
        let draft = Draft { certain: Certain::Everywhere, of_line, ..by.draft(first_uid, charts) };
        let Drafted { report, waits } = draft.report(reader, content, (subject_key, content_key))?;
        // As long as it is not told, what it takes the place of stands.
        let waits = match waits {
            Some(doubt) if doubt.grounds.reason != DISCARDED => return Ok(in_doubt(doubt)),
            waits => waits.is_some(),
        };
        let covers = covers.filter(|(_, uid)| !waits || *uid == instance.sop_instance_uid);
        let covers = covers.map(|(hold, _)| hold).collect();
        let mut told = Vec::new();
        for other in others.iter().rev().filter(|_| !waits) {
            told.push(by.withdrawn(reader, other, Certain::Everywhere)?);
        }
        told.push(Told { entry: item.entry, report, covers });
        return Ok(vec![ReleaseFiling::anew(item, told)]);
    }
    // What it is certain to take the place of may be more by now than the person has seen.
    let unseen = line.doubt.as_ref().filter(|doubt| match line.is_aside() {
        true => DOUBTS.iter().any(|reason| seen.names(reason)),
        false => [SEVERAL, ANOTHER_PATIENT].contains(&doubt.grounds.reason) && !kept.is_withdrawal && !seen.has(doubt),
    });
    if let Some(doubt) = unseen {
        return Ok(in_doubt(doubt.clone()));
    }
    let told_over = if line.doubt.is_none() { told_over(reader, &line, member, &instance)? } else { None };
    // What went out of it before stands no more: the rest of it alone would be all there is.
    let is_overtaken = told_over.is_some() && reader.went_out(item.report)?;
    // What it was held for left it without a name, or its line has another one since: it is filed anew under that.
    if !kept.is_withdrawal && !line.is_aside() && (line.first_uid != kept.first_uid || is_overtaken) {
        // An earlier version did that, and left what was held under the other name.
        if line.first_uid != kept.first_uid && is_filed(reader, &line.first_uid, item.entry)? {
            return Ok(vec![ReleaseFiling::anew(item, Vec::new())]);
        }
        if !line.rivals(reader)?.is_empty() {
            line.fork();
        }
        line.doubt = both(line.doubt.take(), told_over.and_then(|over| over.discarded));
        line.doubt = both(line.doubt.take(), discarded_before(reader, &line, item.entry)?);
        let own = own_holds(reader, &kept.first_uid, item.entry)?.into_iter();
        let mut covers: Vec<_> = own.map(|hold| (hold, instance.sop_instance_uid.clone())).collect();
        covers.extend(held(reader, &line, |entry| *entry == item.entry)?);
        let change = Change { member, instance: instance.clone(), line, covers };
        return Ok(vec![ReleaseFiling::anew(item, drafted(desk, reader, known, change)?)]);
    }
    let content = match &kept.measurements {
        _ if kept.is_withdrawal => Ok(Content::Silent),
        Some(report) => Ok(Content::Measurements(report.clone())),
        None => desk.read(reader, member, &instance, &kept.first_uid)?.map_err(Doubt::from),
    };
    let subject_key = subject_key(&kept.first_uid);
    let mut charts = Charts::of_study(desk, reader, &subject_key, known)?;
    if let Some(doubt) = charts.doubt.take().filter(is_unseen) {
        return Ok(in_doubt(doubt));
    }
    // Another document may have taken its place since.
    let rivals = line.rivals(reader)?;
    let forked = (!rivals.is_subset(&seen.facts_of(&DOUBTS))).then(|| forked(rivals));
    let unverified = unverified(reader, &content, &charts, Some(item.report));
    let unseen: Vec<Doubt> = [unverified, forked].into_iter().flatten().filter(|doubt| !seen.has(doubt)).collect();
    if let Some(all) = unseen.iter().cloned().fold(None, |all, doubt| both(all, Some(doubt))) {
        return Ok(vec![held_again(item, all.grounds, &unseen)]);
    }
    let first_uid = kept.first_uid.as_str();
    let is_everywhere = item.observations.iter().any(|at| *at as usize >= kept.elsewhere_at());
    let (released, of_line) = (Some(item.report), line.doubt.as_ref());
    let draft = Draft { released, certain: kept.certain, of_line, ..by.draft(first_uid, charts) };
    let elsewhere = draft.elsewhere(reader, matches!(content, Ok(Content::Silent))).filter(|_| is_everywhere);
    if let Some(doubt) = elsewhere.filter(|doubt| !seen.has(doubt)) {
        return Ok(in_doubt(doubt));
    }
    let certain = if is_everywhere { Certain::Everywhere } else { kept.certain };
    let draft = Draft { certain, ..draft };
    // As long as it was in doubt it covered nothing but itself. Of documents in a ring none covers another.
    let mut covers = match &line.doubt {
        Some(doubt) if doubt.grounds.reason == FORK => Vec::new(),
        _ if kept.is_withdrawal => Vec::new(),
        _ => held(reader, &line, |entry| *entry == item.entry)?.into_iter().map(|(hold, _)| hold).collect(),
    };
    if !kept.is_withdrawal {
        covers.extend(doubled(reader, &line, &kept.first_uid, item.entry)?);
    }
    // It can be read only now: each of its numbers is decided about by itself.
    if kept.measurements.is_none() && matches!(content, Ok(Content::Measurements(_))) {
        let content_key = content_key(&instance, "");
        let Drafted { report, waits } = draft.report(reader, content, (subject_key, content_key))?;
        if let Some(doubt) = waits {
            return Ok(in_doubt(doubt));
        }
        let covers = own_holds(reader, first_uid, item.entry)?.into_iter().chain(covers).collect();
        let mut told = by.others_withdrawn(reader, &line, kept, certain)?;
        told.push(Told { entry: item.entry, report, covers });
        return Ok(vec![ReleaseFiling::anew(item, told)]);
    }
    let going = item.observations.iter().map(|&at| at as usize).filter(|at| *at < kept.elsewhere_at());
    let going: Vec<usize> = going.collect();
    // What is released for EHRs that do not hear of it leaves the others what they have.
    let is_for_others = going.is_empty() && !matches!(content, Ok(Content::Silent));
    let outbox = match content {
        Ok(content) => draft.outbound(&content, &going).map_err(|error| uncarried(item.entry, &error)),
        Err(doubt) => Err(doubt.grounds),
    };
    let filing = match outbox {
        Ok(outbox) => {
            let filing = ReleaseFiling::sent(item, outbox, Vec::new());
            // Both or neither: a person may discard it before this is filed.
            vec![match is_for_others {
                true => filing,
                false => filing.covers(covers).told(by.others_withdrawn(reader, &line, kept, certain)?),
            }]
        }
        Err(grounds) => vec![held_again(item, grounds, &[])],
    };
    Ok(filing)
}

impl<'k> Documents<'k> {
    fn read(desk: &Desk, reader: &Reader, known: &'k Known) -> Result<Documents<'k>, JournalError> {
        let mut all = Vec::new();
        let is_any_ehr = desk.ehrs().next().is_some();
        for member in known.series.iter().flat_map(|(_, members)| members).filter(|_| is_any_ehr) {
            if is_document(&member.object.sop_class_uid)
                && let Some(instance) = reader.instance(member.entry)?
            {
                all.push((member, instance));
            }
        }
        // Of one that came in two series the newest counts.
        all.sort_by_key(|(member, _)| member.entry);
        let newest: HashMap<String, EntryId> =
            all.iter().map(|(member, _)| (member.object.sop_instance_uid.clone(), member.entry)).collect();
        all.retain(|(member, _)| newest[&member.object.sop_instance_uid] == member.entry);
        let lines = Lines::read(desk, reader, known, &all)?;
        Ok(Documents { all, lines })
    }

    /// The document of this entry with its line, unless another took its place.
    fn last(&self, reader: &Reader, entry: EntryId) -> Result<Option<(&'k Member, Line)>, JournalError> {
        let Some((member, _)) = self.all.iter().find(|(member, _)| member.entry == entry) else { return Ok(None) };
        let line = self.lines.ending_with(reader, &member.object.sop_instance_uid)?;
        Ok(line.map(|line| (*member, line)))
    }
}

/// A document that takes the place of others.
struct Replacing<'d> {
    desk: &'d Desk,
    known: &'d Known,
    member: &'d Member,
    instance: &'d Instance,
    name: &'d [u8],
}

impl<'d> Replacing<'d> {
    fn draft(&self, first_uid: &'d str, charts: Charts) -> Draft<'d> {
        let Replacing { desk, known, member, .. } = *self;
        let name = [self.name, first_uid.as_bytes()].concat();
        Draft { desk, known, member, first_uid, name, charts, of_line: None, released: None, certain: Certain::Nowhere }
    }

    /// Takes back what stands under this name.
    fn withdrawn(&self, reader: &Reader, first_uid: &str, certain: Certain) -> Result<Told, JournalError> {
        let subject_key = subject_key(first_uid);
        let charts = Charts::of_study(self.desk, reader, &subject_key, self.known)?;
        let draft = Draft { certain, ..self.draft(first_uid, charts) };
        let key = (subject_key, content_key(self.instance, ""));
        let Drafted { report, .. } = draft.report(reader, Ok(Content::Silent), key)?;
        Ok(Told { entry: self.member.entry, report, covers: Vec::new() })
    }

    /// Ends again what one document of the line ended under other names, where that was refused.
    fn ended_again(&self, reader: &Reader, line: &Line) -> Result<Vec<Told>, JournalError> {
        let mut told = Vec::new();
        for first_uid in &line.merged {
            if Charts::read(self.desk, reader, &subject_key(first_uid))?.is_any() {
                told.push(self.withdrawn(reader, first_uid, Certain::WhereHeard)?);
            }
        }
        Ok(told)
    }

    /// Takes back what stands under the other names of a line that a person has seen.
    fn others_withdrawn(
        &self,
        reader: &Reader,
        line: &Line,
        kept: &Kept,
        certain: Certain,
    ) -> Result<Vec<Told>, JournalError> {
        if kept.is_withdrawal {
            return Ok(Vec::new());
        }
        let certain = if certain == Certain::Nowhere { Certain::WhereHeard } else { certain };
        let others = line.others.iter().map(|first_uid| self.withdrawn(reader, first_uid, certain));
        let mut told = others.collect::<Result<Vec<_>, _>>()?;
        told.extend(self.ended_again(reader, line)?);
        Ok(told)
    }
}
