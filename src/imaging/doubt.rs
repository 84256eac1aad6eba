//! What keeps something from EHRs until a person has looked, and what a person has seen.
//!
//! Who releases something has seen what it was held for, as it was then. Of another patient, or of one document more, it is
//! another doubt under the same name. So what a doubt is about is kept with it, beside the report, as keyed digests
//! ([`Reader::fact`]): nothing of a patient stands there in clear. A version before kept the names alone; these were seen
//! of nothing, and what they let pass is held once more.

use crate::clinical::Patient;
use crate::journal::{Grounds, Reader, ReleaseFiling, Released};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most facts of one doubt that are told apart. Of more, all are one.
const FACTS_MAX: usize = 256;

/// Digests of what a doubt is about. Fewer of them are nothing new.
pub(super) type Facts = BTreeSet<String>;

/// A doubt with what it is about; about nothing where its name says all.
#[derive(Clone)]
pub(super) struct Doubt {
    pub grounds: Grounds,
    pub facts: Facts,
}

impl Doubt {
    pub fn new(reason: &'static str, why: &str, facts: Facts) -> Doubt {
        Doubt { grounds: Grounds { reason, rule: None, why: why.to_string() }, facts }
    }
}

impl From<Grounds> for Doubt {
    fn from(grounds: Grounds) -> Doubt {
        Doubt { grounds, facts: Facts::new() }
    }
}

/// Held on the first grounds, with the other in words: who releases something sees all that is doubtful about it.
pub(super) fn both(first: Option<Doubt>, other: Option<Doubt>) -> Option<Doubt> {
    match (first, other) {
        (Some(first), Some(other)) => {
            let why = format!("{}; {}", first.grounds.why, other.grounds.why);
            let facts = first.facts.union(&other.facts).cloned().collect();
            Some(Doubt { grounds: Grounds { why, ..first.grounds }, facts })
        }
        (first, other) => first.or(other),
    }
}

/// Digests of what a doubt is about.
pub(super) fn facts(reader: &Reader, about: impl IntoIterator<Item = String>) -> Facts {
    let about: BTreeSet<String> = about.into_iter().collect();
    if about.len() > FACTS_MAX {
        let all: Vec<&str> = about.iter().map(String::as_str).collect();
        return Facts::from([reader.fact(&all)]);
    }
    about.iter().map(|one| reader.fact(&[one])).collect()
}

/// Whom a doubt is about, before it is digested.
pub(super) fn of_patient(patient: &Patient) -> String {
    format!("{}\u{1f}{}", patient.id.expose(), patient.id_authority)
}

/// The doubts about a report that a person is shown, or has seen.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Record(Vec<Shown>);

/// A doubt that is shown with some results.
#[derive(Serialize, Deserialize)]
struct Shown {
    doubt: String,
    facts: Facts,
    /// The results that are held for it. Of none where they are held for something else that comes first.
    at: BTreeSet<u32>,
}

impl Record {
    /// What stands beside a report; nothing of one that an earlier version noted.
    pub fn read(decisions: &str) -> Record {
        serde_json::from_str(decisions).unwrap_or_default()
    }

    /// What a person has seen of something that was released: what it was held for, and each time it was held again. An
    /// order that releases it has seen nothing.
    pub fn seen(item: &Released) -> Record {
        if item.rematch {
            return Record::default();
        }
        let at: BTreeSet<u32> = item.observations.iter().copied().collect();
        let mut seen = Record::read(&item.decisions);
        seen.0.retain(|shown| !shown.at.is_disjoint(&at));
        for reason in &item.reasons {
            if !seen.names(reason) {
                seen.note(reason, &Facts::new(), &at);
            }
        }
        seen
    }

    /// True when this doubt is among them, as it is now.
    pub fn has(&self, doubt: &Doubt) -> bool {
        let is_shown = |shown: &Shown| shown.doubt == doubt.grounds.reason && doubt.facts.is_subset(&shown.facts);
        self.0.iter().any(is_shown)
    }

    /// True when a doubt of this name is among them, whatever it was about.
    pub fn names(&self, reason: &str) -> bool {
        self.reasons().any(|shown| shown == reason)
    }

    /// The names of the doubts among them.
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|shown| shown.doubt.as_str())
    }

    /// What doubts of these names were about.
    pub fn facts_of(&self, reasons: &[&str]) -> Facts {
        let named = self.0.iter().filter(|shown| reasons.contains(&shown.doubt.as_str()));
        named.flat_map(|shown| shown.facts.iter().cloned()).collect()
    }

    /// The same of those for which nothing is held: a person has let them pass.
    pub fn passed(&self, reason: &str) -> Facts {
        let named = self.0.iter().filter(|shown| shown.doubt == reason && shown.at.is_empty());
        named.flat_map(|shown| shown.facts.iter().cloned()).collect()
    }

    /// Notes that these results are held for a doubt as it is now, and no more for it as it was.
    pub fn shows(&mut self, doubt: &Doubt, at: impl IntoIterator<Item = u32>) {
        self.note(doubt.grounds.reason, &doubt.facts, &at.into_iter().collect());
    }

    fn note(&mut self, reason: &str, facts: &Facts, at: &BTreeSet<u32>) {
        for shown in self.0.iter_mut().filter(|shown| shown.doubt == reason) {
            shown.at.retain(|of| !at.contains(of));
        }
        self.0.retain(|shown| shown.doubt != reason || !shown.at.is_empty() || shown.facts == *facts);
        match self.0.iter_mut().find(|shown| shown.doubt == reason && shown.facts == *facts) {
            Some(shown) => shown.at.extend(at),
            None => self.0.push(Shown { doubt: reason.to_string(), facts: facts.clone(), at: at.clone() }),
        }
    }

    /// As it stands beside the report; empty when nothing was doubtful.
    pub fn json(&self) -> String {
        if self.0.is_empty() { String::new() } else { serde_json::to_string(self).unwrap_or_default() }
    }
}

/// What was released is held once more, on these grounds, and with these doubts in words: whoever releases that has seen
/// them. What a person has seen before stays seen, so that two doubts that come in turn end.
pub(super) fn held_again(item: &Released, grounds: Grounds, doubts: &[Doubt]) -> ReleaseFiling {
    let at: BTreeSet<u32> = item.observations.iter().copied().collect();
    let mut record = Record::read(&item.decisions);
    if item.rematch {
        // What was only shown is not seen; what was let pass before stays so.
        record.0.retain_mut(|shown| {
            let was_passed = shown.at.is_empty();
            shown.at.retain(|of| !at.contains(of));
            was_passed || !shown.at.is_empty()
        });
    }
    for Shown { doubt, facts, .. } in Record::seen(item).0 {
        record.note(&doubt, &facts, &at);
    }
    for doubt in doubts {
        record.note(doubt.grounds.reason, &doubt.facts, &at);
    }
    ReleaseFiling::held_again(item, grounds).decisions(record.json())
}
