//! Lines of documents: which takes the place of which (Predecessor Documents Sequence, PS3.3 C.17.2).
//!
//! All documents of a line are known to EHRs under the name of one of them: the one they were told of first, else the
//! first of the line. Where it is not certain which that is, nobody is told before a person has looked, or what is
//! missing came: a document under a name of its own would stand in the chart beside the one it takes the place of.

use super::Desk;
use crate::journal::{Grounds, Instance, JournalError, Reader};
use crate::message::dicom::{DataSet, End, HEAD_BYTES_MAX, Limits, predecessors, tags, walk};
use std::collections::{HashMap, HashSet};

/// Bytes of a document that mostly say which one it takes the place of.
const PREDECESSOR_BYTES: usize = 1 << 17;
/// Why it is not certain which line a document belongs to.
pub(super) const DOUBTS: [&str; 3] = ["no-predecessor", "several-predecessors", FORK];
/// Several documents take one place.
const FORK: &str = "several-successors";
/// Most documents of one line.
const LINE_MAX: usize = 64;

/// Which documents of a study take the place of which.
pub(super) struct Lines {
    /// The UIDs that each document names, itself not among them.
    predecessors: HashMap<String, Vec<String>>,
}

/// The line that ends with a document.
pub(super) struct Line {
    /// The document under whose name all of it is known.
    pub first_uid: String,
    /// Everything in it.
    pub uids: Vec<String>,
    /// Why that is not certain.
    pub doubt: Option<Grounds>,
}

impl Line {
    /// Says that another document takes the same place.
    pub fn fork(&mut self) {
        let why = "another document takes the same place: see which of them counts";
        let more = self.doubt.take().map(|doubt| format!("; {}", doubt.why)).unwrap_or_default();
        self.doubt = Some(Grounds { reason: FORK, rule: None, why: format!("{why}{more}") });
    }
}

impl Lines {
    /// Reads what documents say of it. One whose file is lost, or too long to be read that far, is not among them.
    pub fn read<'i>(
        desk: &Desk,
        reader: &Reader,
        instances: impl Iterator<Item = &'i Instance>,
    ) -> Result<Lines, JournalError> {
        let mut lines = Lines { predecessors: HashMap::new() };
        for instance in instances {
            for bytes in [PREDECESSOR_BYTES, desk.config.document_bytes_max() + HEAD_BYTES_MAX] {
                let file = match reader.open_instance(instance) {
                    Err(JournalError::Damaged) => break,
                    file => file?,
                };
                let walked = walk(file, &instance.transfer_syntax_uid, Limits { bytes, value_bytes: 256 });
                if walked.end == End::Limit && !is_past_predecessors(&walked.data_set) {
                    continue;
                }
                let own = &instance.sop_instance_uid;
                let named = predecessors(&walked.data_set).into_iter().filter(|uid| uid != own).collect();
                lines.predecessors.insert(own.clone(), named);
                break;
            }
        }
        Ok(lines)
    }

    /// The line that ends with this document; `None` when another one takes its place. `was_told` says whether EHRs
    /// were told of anything under the name of a document.
    pub fn ending_with(
        &self,
        uid: &str,
        was_told: impl Fn(&str) -> Result<bool, JournalError>,
    ) -> Result<Option<Line>, JournalError> {
        let (uids, is_whole) = self.back_from(uid);
        let mut replacing = self.predecessors.iter().filter(|(_, named)| named.iter().any(|named| named == uid));
        // Of documents that name each other in a ring, none takes the place of another.
        let is_ring = replacing.clone().next().is_some();
        if replacing.any(|(by, _)| !uids.contains(by)) {
            return Ok(None);
        }
        let mut told = Vec::new();
        for uid in &uids {
            if was_told(uid)? {
                told.push(uid);
            }
        }
        let held = |reason: &'static str, why: &str| Some(Grounds { reason, rule: None, why: why.to_string() });
        let (first, mut doubt) = match told[..] {
            [] if is_ring => (uids.iter().min().map_or(uid, String::as_str), None),
            [] => {
                let missing = "it takes the place of a document that is not here, or not readable";
                (self.first_of(uid), if is_whole { None } else { held(DOUBTS[0], missing) })
            }
            [first] => (first.as_str(), None),
            [first, ..] => {
                let several = "it takes the place of several documents in the chart, and would be told as one of them";
                (first.as_str(), held(DOUBTS[1], several))
            }
        };
        if is_ring {
            doubt = held(FORK, "it and others take the place of each other: see which of them counts");
        }
        Ok(Some(Line { first_uid: first.to_string(), uids: uids.clone(), doubt }))
    }

    /// This document and everything it goes back to; false when some of that is not known.
    fn back_from(&self, uid: &str) -> (Vec<String>, bool) {
        let (mut uids, mut is_whole) = (vec![uid.to_string()], true);
        let mut at = 0;
        while let Some(uid) = uids.get(at) {
            let Some(named) = self.predecessors.get(uid) else {
                (is_whole, at) = (false, at + 1);
                continue;
            };
            let more: Vec<String> = named.iter().filter(|named| !uids.contains(named)).cloned().collect();
            if uids.len() + more.len() > LINE_MAX {
                return (uids, false);
            }
            uids.extend(more);
            at += 1;
        }
        (uids, is_whole)
    }

    /// The first document of the line, where it parts by what is named first.
    fn first_of<'l>(&'l self, uid: &'l str) -> &'l str {
        let (mut first, mut seen) = (uid, HashSet::from([uid]));
        while let Some(before) = self.predecessors.get(first).and_then(|named| named.first()) {
            if !seen.insert(before) {
                break;
            }
            first = before;
        }
        first
    }
}

/// True when the elements that were read are past where the sequence stands.
fn is_past_predecessors(set: &DataSet) -> bool {
    set.elements().last().is_some_and(|element| element.tag > tags::PREDECESSOR_DOCUMENTS_SEQUENCE)
}
