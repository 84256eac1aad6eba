//! Autoverification: what the site's own rules decide about each result, and why. Pure, total and deterministic.
//!
//! The shell asks [`Rulebook::needs`] what has to be known besides the report (the patient's previous values, the
//! controls that ran), fetches it as [`Facts`] and calls [`Rulebook::judge`]. The rules look at the value after
//! dilution and before conversion. What a rule cannot judge, for want of a comparable unit for example, it holds
//! (invariant I13). A value such as `<5` stands for everything it may be.

use super::rule::{Action, Kind, Problem, Rule, Sex, Target, exact};
use crate::clinical::{Coding, Control, Decimal, Doubt, Exact, Observation, Patient, Report, Unit, Value};
use crate::wire::hex;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Hex digits of a rule's version.
const VERSION_DIGITS: usize = 12;
const HOUR_MS: i64 = 3_600_000;

/// What one rule decided about one result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Place of the result in the report, from 0.
    pub observation: u32,
    /// Name of the rule.
    pub rule: String,
    /// First digits of the SHA-256 of the rule: changes whenever the rule does.
    pub version: String,
    /// What the rule looks at.
    pub kind: Kind,
    /// What it decided.
    pub outcome: Outcome,
    /// Why, in plain words and without the value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What it changes in the result that is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// What a rule may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The rule has nothing against it.
    Passed,
    /// It stays for a person, or for what the rule waits for.
    Held,
    /// It goes out with a flag more.
    Flagged,
    /// It goes out although the instrument questions it.
    Released,
    /// It goes out in other digits or another unit.
    Changed,
    /// It is good, and covers what was held of the same test before.
    Covers,
}

/// A change to the result that is sent. The stored report stays as the instrument said it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Another flag.
    Flag(String),
    /// Multiplied, for a dilution.
    Multiply(Decimal),
    /// Said in another unit.
    Convert {
        /// What it is multiplied by.
        factor: Decimal,
        /// The new unit, UCUM.
        unit: String,
        /// The new LOINC, when it is another quantity.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        loinc: Option<String>,
    },
}

/// Everything that must be known besides the report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Codes whose previous value is wanted, and how many days back.
    pub previous: BTreeMap<String, u32>,
    /// Codes whose control runs are wanted.
    pub controls: BTreeSet<String>,
}

/// What the box remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The patient's previous results by code, the latest of each.
    pub previous: HashMap<String, Previous>,
    /// Control runs on the link by code, the newest first.
    pub controls: HashMap<String, Vec<ControlRun>>,
}

/// A result the patient had before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// Its value.
    pub value: Value,
    /// Its unit, UCUM.
    pub ucum: String,
    /// When it was taken into custody, Unix milliseconds.
    pub received_ms: i64,
}

/// A control that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRun {
    /// Which control.
    pub control: Control,
    /// Its value.
    pub value: Value,
    /// Its unit, UCUM.
    pub ucum: String,
    /// The instrument said that the run failed.
    pub failed: bool,
    /// When it was taken into custody, Unix milliseconds.
    pub received_ms: i64,
}

/// The site's rules, ready to judge.
#[derive(Debug, Clone, Default)]
pub struct Rulebook {
    rules: Vec<Ready>,
    by_code: HashMap<String, Vec<usize>>,
    for_every_test: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Ready {
    rule: Rule,
    version: String,
    unit: Option<Unit>,
    from: Option<Unit>,
    limits: Limits,
    absolute: Option<Exact>,
    percent: Option<Exact>,
    factor: Option<Exact>,
    targets: Vec<Limits>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    low: Option<Exact>,
    high: Option<Exact>,
}

/// Where a value lies to its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Within,
    Below,
    Above,
    /// It may be within or not, or cannot be compared.
    Unknown(&'static str),
}

/// Everything a value may be: a number is both ends, `<5` has no lower one.
#[derive(Debug, Clone, Copy)]
struct Span {
    least: Option<Exact>,
    most: Option<Exact>,
    /// The end itself is not meant (`<`, `>`).
    open: bool,
}

const NO_UNIT: &str = "its unit cannot be compared with the rule's";
const EITHER: &str = "it may lie on either side of the limit";

impl Rulebook {
    /// Makes rules ready.
    ///
    /// # Errors
    /// The first rule that is wrong, by its place, and what is wrong with it; a checked configuration has none.
    pub fn new(rules: &[Rule]) -> Result<Rulebook, (usize, Problem)> {
        let mut book = Rulebook::default();
        for (at, rule) in rules.iter().enumerate() {
            if let Some(problem) = rule.problems().into_iter().next() {
                return Err((at, problem));
            }
            if rule.analytes.is_empty() {
                book.for_every_test.push(at);
            }
            for code in &rule.analytes {
                book.by_code.entry(code.clone()).or_default().push(at);
            }
            book.rules.push(Ready::new(rule));
        }
        Ok(book)
    }

    /// True when there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Name and version of every rule, in the order in which they are tried.
    pub fn rules(&self) -> impl Iterator<Item = (&Rule, &str)> {
        self.rules.iter().map(|ready| (&ready.rule, ready.version.as_str()))
    }

    /// True when something on this link is locked by its controls.
    pub fn locks(&self, link: &str) -> bool {
        self.rules.iter().any(|ready| ready.rule.kind == Kind::Qc && ready.is_for(link))
    }

    /// What has to be known to judge this report.
    pub fn needs(&self, link: &str, report: &Report) -> Needs {
        let mut needs = Needs::default();
        if report.control.is_some() {
            return needs;
        }
        for observation in &report.observations {
            for ready in self.of(link, observation) {
                match ready.rule.kind {
                    Kind::Delta if !report.patient.id.is_empty() => {
                        let days = needs.previous.entry(code(observation).to_string()).or_default();
                        *days = (*days).max(ready.rule.within_days.unwrap_or(0));
                    }
                    Kind::Qc => drop(needs.controls.insert(code(observation).to_string())),
                    _ => {}
                }
            }
        }
        needs
    }

    /// Decides about every result, in the report's order and then in that of the rules. `received_ms` is when the box
    /// took custody, Unix milliseconds. Control runs are not judged: the hold rules keep them.
    pub fn judge(&self, link: &str, report: &Report, received_ms: i64, facts: &Facts) -> Vec<Decision> {
        let mut decisions = Vec::new();
        if report.control.is_some() || self.rules.is_empty() {
            return decisions;
        }
        let age_days = age_days(&report.patient, received_ms);
        for (at, sent) in (0_u32..).zip(&report.observations) {
            let mut observation = Cow::Borrowed(sent);
            let (dilutions, others): (Vec<&Ready>, Vec<&Ready>) =
                self.of(link, sent).partition(|ready| ready.rule.kind == Kind::Dilution);
            for ready in dilutions.into_iter().chain(others) {
                if !ready.is_for_patient(&report.patient, age_days) {
                    continue;
                }
                let Some((outcome, why, change)) = ready.judge(&observation, received_ms, facts) else { continue };
                if let Some(change @ Change::Multiply(_)) = &change {
                    change.apply(observation.to_mut());
                }
                decisions.push(ready.decision(at, outcome, why, change));
            }
        }
        decisions
    }

    /// Why a result is locked by its controls now, if it is: the first rule that locks it.
    pub fn lock(&self, link: &str, observation: &Observation, received_ms: i64, facts: &Facts) -> Option<Decision> {
        let locks = self.of(link, observation).filter(|ready| ready.rule.kind == Kind::Qc);
        let mut held = locks.filter_map(|ready| {
            let (outcome, why, change) = ready.judge(observation, received_ms, facts)?;
            (outcome == Outcome::Held).then(|| ready.decision(0, outcome, why, change))
        });
        held.next()
    }

    /// The rule by which a good result covers one held `earlier` for `reason`, if there is one.
    pub fn covers<'a>(
        &'a self,
        link: &'a str,
        good: &Observation,
        reason: &str,
        hours_between: i64,
    ) -> Option<(&'a str, &'a str)> {
        let mut repeats = self.of(link, good).filter(|ready| ready.rule.kind == Kind::Repeat);
        let fits = |ready: &&Ready| {
            let most = ready.rule.max_age_hours.map_or(0, i64::from);
            (0..=most).contains(&hours_between) && ready.rule.reasons.iter().any(|r| r == reason)
        };
        repeats.find(fits).map(|ready| (ready.rule.name.as_str(), ready.version.as_str()))
    }

    /// True when a repeat may cover something held of this test.
    pub fn may_cover(&self, link: &str, observation: &Observation) -> bool {
        self.of(link, observation).any(|ready| ready.rule.kind == Kind::Repeat)
    }

    /// The rules for one result, in the order of the file.
    fn of<'a>(&'a self, link: &'a str, observation: &Observation) -> impl Iterator<Item = &'a Ready> {
        let listed = |code: &str| self.by_code.get(code).map_or(&[][..], Vec::as_slice);
        let own = listed(&observation.instrument_code);
        let loinc = observation.code.as_ref().map_or(&[][..], |coding| listed(&coding.code));
        let mut all: Vec<usize> = self.for_every_test.iter().chain(own).chain(loinc).copied().collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter().filter_map(|at| self.rules.get(at)).filter(move |ready| ready.is_for(link))
    }
}

impl Change {
    /// Makes the change. Numbers are rounded as [`Exact::scaled`] says; a reference range in the old unit goes, for it
    /// would be wrong beside the new value.
    pub fn apply(&self, observation: &mut Observation) {
        match self {
            Change::Flag(flag) => {
                if !observation.flags.contains(flag) {
                    observation.flags.push(flag.clone());
                }
            }
            Change::Multiply(factor) => {
                if let Some(value) = multiplied(&observation.value, factor) {
                    observation.value = value;
                }
            }
            Change::Convert { factor, unit, loinc } => {
                let Some(value) = multiplied(&observation.value, factor) else { return };
                observation.value = value;
                observation.unit.clone_from(unit);
                observation.ucum.clone_from(unit);
                observation.reference_range.clear();
                if let Some(loinc) = loinc {
                    observation.code = Some(Coding::loinc(loinc, ""));
                }
            }
        }
    }
}

/// The decision by which a result is held: the first of the file, and a lock only when nothing else holds it, for what
/// is locked goes out by itself.
pub fn held(decisions: &[Decision], observation: u32) -> Option<&Decision> {
    let mut held = decisions.iter().filter(|d| d.observation == observation && d.outcome == Outcome::Held);
    let first = held.next()?;
    if first.kind != Kind::Qc {
        return Some(first);
    }
    held.find(|d| d.kind != Kind::Qc).or(Some(first))
}

/// The report as it is sent: every change made to the results it is for.
pub fn changed<'r>(report: &'r Report, decisions: &[Decision]) -> Cow<'r, Report> {
    let mut report = Cow::Borrowed(report);
    for decision in decisions {
        let Some(change) = &decision.change else { continue };
        if let Some(observation) = report.to_mut().observations.get_mut(decision.observation as usize) {
            change.apply(observation);
        }
    }
    report
}

/// The code under which values of a test are compared: LOINC, else the instrument's own.
pub fn code(observation: &Observation) -> &str {
    observation.code.as_ref().map_or(observation.instrument_code.as_str(), |coding| coding.code.as_str())
}

type Judged = Option<(Outcome, String, Option<Change>)>;

impl Ready {
    fn new(rule: &Rule) -> Ready {
        let of = |text: &Option<String>| text.as_deref().and_then(exact);
        let unit = |text: &Option<String>| text.as_deref().and_then(|code| Unit::parse(code).ok());
        let limits = |target: &Target| Limits { low: exact(&target.low), high: exact(&target.high) };
        let text = serde_json::to_string(rule).unwrap_or_default();
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        Ready {
            version: hex::digits(digest.as_ref())[..VERSION_DIGITS].to_string(),
            unit: unit(&rule.unit),
            from: unit(&rule.from),
            limits: Limits { low: of(&rule.low), high: of(&rule.high) },
            absolute: of(&rule.absolute),
            percent: of(&rule.percent),
            factor: of(&rule.factor),
            targets: rule.controls.iter().map(limits).collect(),
            rule: rule.clone(),
        }
    }

    fn is_for(&self, link: &str) -> bool {
        self.rule.links.is_empty() || self.rule.links.iter().any(|name| name == link)
    }

    /// A sex or age that is not known fits every rule, so that the value has to pass them all.
    fn is_for_patient(&self, patient: &Patient, age_days: Option<i64>) -> bool {
        let sex = !matches!((self.rule.sex, patient.sex.as_str()), (Some(Sex::F), "M") | (Some(Sex::M), "F"));
        let old_enough = self.rule.age_min_days.is_none_or(|least| age_days.is_none_or(|age| age >= least.into()));
        let young_enough = self.rule.age_max_days.is_none_or(|most| age_days.is_none_or(|age| age < most.into()));
        sex && old_enough && young_enough
    }

    fn decision(&self, observation: u32, outcome: Outcome, why: String, change: Option<Change>) -> Decision {
        let (rule, version) = (self.rule.name.clone(), self.version.clone());
        Decision { observation, rule, version, kind: self.rule.kind, outcome, why, change }
    }

    /// What the rule says about one result; `None` when it has nothing to do with it.
    fn judge(&self, observation: &Observation, received_ms: i64, facts: &Facts) -> Judged {
        match self.rule.kind {
            Kind::Range | Kind::Critical => self.judge_limits(observation),
            Kind::Delta => self.judge_delta(observation, received_ms, facts),
            Kind::Flag => self.judge_flags(observation),
            Kind::Qc => Some(self.judge_controls(observation, received_ms, facts)),
            Kind::Dilution => self.judge_dilution(observation),
            Kind::Convert => self.judge_conversion(observation),
            Kind::Repeat => None,
        }
    }

    fn judge_limits(&self, observation: &Observation) -> Judged {
        let word = if self.rule.kind == Kind::Critical { "critical" } else { "verification" };
        let unit = self.rule.unit.as_deref().unwrap_or_default();
        let limit = |text: &Option<String>| format!("{} {unit}", text.as_deref().unwrap_or_default());
        // The rule names this test: where a number is expected, a word is nothing that may go unseen.
        let Some(span) = Span::of(&observation.value) else {
            return Some((Outcome::Held, format!("it is no number ({word} limits in {unit})"), None));
        };
        let (flag, why) = match self.place(&self.limits, span, &observation.ucum) {
            Place::Within => return Some((Outcome::Passed, String::new(), None)),
            Place::Unknown(why) => return Some((Outcome::Held, format!("{why} ({word} limits in {unit})"), None)),
            Place::Below => ("LL", format!("below the {word} limit of {}", limit(&self.rule.low))),
            Place::Above => ("HH", format!("above the {word} limit of {}", limit(&self.rule.high))),
        };
        self.struck(why, flag)
    }

    fn judge_delta(&self, observation: &Observation, received_ms: i64, facts: &Facts) -> Judged {
        let passed = |why: &str| Some((Outcome::Passed, why.to_string(), None));
        let held = |why: &str| Some((Outcome::Held, why.to_string(), None));
        let days = self.rule.within_days.unwrap_or(0);
        let is_recent = |p: &&Previous| received_ms.saturating_sub(p.received_ms) <= i64::from(days) * 24 * HOUR_MS;
        let Some(previous) = facts.previous.get(code(observation)).filter(is_recent) else {
            return passed("no previous value");
        };
        let Value::Number(before) = &previous.value else { return passed("the previous value is no number") };
        let Value::Number(now) = &observation.value else {
            return held("it is no number that can be compared with the previous value");
        };
        let Some((diff, before)) = difference(now, &observation.ucum, before, &previous.ucum) else {
            return held("the previous value is in a unit that cannot be compared");
        };
        let in_rule = || match self.unit {
            Some(_) => diff.times(self.factor_from(&observation.ucum)?),
            None => Some(diff),
        };
        if let (Some(most), text) = (self.absolute, self.rule.absolute.as_deref().unwrap_or_default()) {
            let unit = self.rule.unit.as_deref().unwrap_or_default();
            match in_rule().and_then(|diff| diff.magnitude().compare(most)) {
                None => return held(NO_UNIT),
                Some(Ordering::Greater) => {
                    let why = format!("differs from the previous value by more than {text} {unit}");
                    return self.struck(why, if diff.is_positive() { "U" } else { "D" });
                }
                Some(_) => {}
            }
        }
        if let (Some(most), text) = (self.percent, self.rule.percent.as_deref().unwrap_or_default()) {
            let (hundredfold, allowed) = (diff.magnitude().times(Exact::new(1, 2)), before.magnitude().times(most));
            match hundredfold.zip(allowed).and_then(|(diff, allowed)| diff.compare(allowed)) {
                None => return held("the difference has more digits than can be reckoned with"),
                Some(Ordering::Greater) => {
                    let why = format!("differs from the previous value by more than {text} %");
                    return self.struck(why, if diff.is_positive() { "U" } else { "D" });
                }
                Some(_) => {}
            }
        }
        passed("")
    }

    fn judge_flags(&self, observation: &Observation) -> Judged {
        let listed = |flag: &&String| self.rule.flags.contains(flag);
        let found = observation.flags.iter().find(listed)?;
        if self.rule.action != Action::Release {
            return Some((Outcome::Held, format!("the instrument flagged it {found}"), None));
        }
        let all = observation.flags.iter().all(|flag| listed(&flag));
        let only_questioned = observation.doubts.iter().all(|doubt| *doubt == Doubt::Questionable);
        let outcome = if all && only_questioned { Outcome::Released } else { Outcome::Passed };
        Some((outcome, format!("the instrument's flag {found} is accepted"), None))
    }

    fn judge_controls(
        &self,
        observation: &Observation,
        received_ms: i64,
        facts: &Facts,
    ) -> (Outcome, String, Option<Change>) {
        let runs = facts.controls.get(code(observation)).map_or(&[][..], Vec::as_slice);
        let hours = self.rule.max_age_hours.unwrap_or(0);
        for (target, limits) in self.rule.controls.iter().zip(&self.targets) {
            let called = called(target);
            let is_one = |run: &&ControlRun| is_target(target, &run.control);
            let locked = match runs.iter().find(is_one) {
                None => format!("{called} has not run"),
                Some(run) if received_ms.saturating_sub(run.received_ms) > i64::from(hours) * HOUR_MS => {
                    format!("{called} is older than {hours} h")
                }
                Some(run) if run.failed => format!("{called} failed"),
                Some(run) => match Span::of(&run.value).map(|span| self.place(limits, span, &run.ucum)) {
                    Some(Place::Within) => continue,
                    Some(Place::Below | Place::Above) => format!("{called} is out of its range"),
                    Some(Place::Unknown(_)) | None => format!("{called} cannot be judged"),
                },
            };
            return (Outcome::Held, locked, None);
        }
        (Outcome::Passed, String::new(), None)
    }

    fn judge_dilution(&self, observation: &Observation) -> Judged {
        let factor = match self.rule.prefix.as_deref() {
            None => observation.dilution.trim(),
            Some(prefix) => {
                let texts = observation.comments.iter().chain(&observation.flags);
                texts.filter_map(|text| text.trim().strip_prefix(prefix)).next()?.trim()
            }
        };
        if factor.is_empty() && self.rule.prefix.is_none() {
            return None;
        }
        let Some(factor) = Decimal::parse(factor).filter(|f| Exact::of(f).is_some_and(Exact::is_positive)) else {
            return Some((Outcome::Held, "its dilution factor cannot be read".to_string(), None));
        };
        match multiplied(&observation.value, &factor) {
            Some(_) => {
                Some((Outcome::Changed, "multiplied for its dilution".to_string(), Some(Change::Multiply(factor))))
            }
            None => Some((Outcome::Held, "it is diluted, and its value cannot be multiplied".to_string(), None)),
        }
    }

    fn judge_conversion(&self, observation: &Observation) -> Judged {
        Span::of(&observation.value)?;
        let to = self.rule.unit.as_deref().unwrap_or_default();
        if observation.ucum == to {
            return Some((Outcome::Passed, format!("it is in {to} already"), None));
        }
        let held = || Some((Outcome::Held, format!("it cannot be converted from its unit to {to}"), None));
        let sent = Unit::parse(&observation.ucum).ok();
        let factor = match (self.factor, &self.from) {
            (Some(factor), Some(from)) => {
                let to_from = sent.and_then(|sent| sent.factor_to(from));
                to_from.and_then(|to_from| to_from.times(factor))
            }
            (_, Some(from)) if sent.as_ref() != Some(from) => None,
            _ => self.factor_from(&observation.ucum),
        };
        let Some(factor) = factor.and_then(Exact::decimal) else { return held() };
        if multiplied(&observation.value, &factor).is_none() {
            return held();
        }
        let change = Change::Convert { factor, unit: to.to_string(), loinc: self.rule.loinc.clone() };
        Some((Outcome::Changed, format!("converted to {to}"), Some(change)))
    }

    /// The outcome of a limit that was passed: held, or sent with this flag.
    fn struck(&self, why: String, flag: &str) -> Judged {
        match self.rule.action {
            Action::SendWithFlag => Some((Outcome::Flagged, why, Some(Change::Flag(flag.to_string())))),
            Action::Hold | Action::Release => Some((Outcome::Held, why, None)),
        }
    }

    /// What a number in this unit is multiplied by to be one in the rule's.
    fn factor_from(&self, ucum: &str) -> Option<Exact> {
        // The usual case, and the only one for a mere number sent without a unit.
        let own = self.rule.unit.as_deref()?;
        if ucum == own || (ucum.is_empty() && own == "1") {
            return Some(Exact::ONE);
        }
        Unit::parse(ucum).ok()?.factor_to(self.unit.as_ref()?)
    }

    fn place(&self, limits: &Limits, span: Span, ucum: &str) -> Place {
        let Some(factor) = self.factor_from(ucum) else { return Place::Unknown(NO_UNIT) };
        limits.place(span, factor).unwrap_or(Place::Unknown("it has more digits than can be compared"))
    }
}

impl Limits {
    /// `None` when the numbers are too long to be compared.
    fn place(&self, span: Span, factor: Exact) -> Option<Place> {
        let scaled = |end: Option<Exact>| end.map_or(Some(None), |end| end.times(factor).map(Some));
        let (least, most) = (scaled(span.least)?, scaled(span.most)?);
        let compare = |a: Exact, b: Exact| a.compare(b);
        if let Some(low) = self.low {
            let below = match most {
                Some(most) => match compare(most, low)? {
                    Ordering::Less => true,
                    Ordering::Equal => span.open && least.is_none(),
                    Ordering::Greater => false,
                },
                None => false,
            };
            if below {
                return Some(Place::Below);
            }
        }
        if let Some(high) = self.high {
            let above = match least {
                Some(least) => match compare(least, high)? {
                    Ordering::Greater => true,
                    Ordering::Equal => span.open && most.is_none(),
                    Ordering::Less => false,
                },
                None => false,
            };
            if above {
                return Some(Place::Above);
            }
        }
        let low_passes = match (self.low, least) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(low), Some(least)) => compare(least, low)? != Ordering::Less,
        };
        let high_passes = match (self.high, most) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(high), Some(most)) => compare(most, high)? != Ordering::Greater,
        };
        Some(if low_passes && high_passes { Place::Within } else { Place::Unknown(EITHER) })
    }
}

impl Span {
    /// `None` for what is no number: words, codes, titres.
    fn of(value: &Value) -> Option<Span> {
        let too_long = || Span { least: None, most: None, open: false };
        let number = |decimal: &Decimal| Exact::of(decimal);
        Some(match value {
            Value::Number(n) => {
                let n = number(n);
                n.map_or_else(too_long, |n| Span { least: Some(n), most: Some(n), open: false })
            }
            Value::Compared { comparator, number: n } => {
                let (n, open) = (number(n), !comparator.ends_with('='));
                match comparator.starts_with('<') {
                    true => Span { least: None, most: n, open },
                    false => Span { least: n, most: None, open },
                }
            }
            Value::Range { low, high } => Span { least: number(low), most: number(high), open: false },
            Value::Absent | Value::Ratio { .. } | Value::Text(_) | Value::Coded(_) | Value::Data { .. } => return None,
        })
    }
}

/// The value times a factor; `None` for what is no number.
fn multiplied(value: &Value, factor: &Decimal) -> Option<Value> {
    let factor = Exact::of(factor)?;
    let times = |decimal: &Decimal| Exact::of(decimal)?.scaled(factor);
    match value {
        Value::Number(number) => times(number).map(Value::Number),
        Value::Compared { comparator, number } => {
            Some(Value::Compared { comparator: comparator.clone(), number: times(number)? })
        }
        Value::Range { low, high } => Some(Value::Range { low: times(low)?, high: times(high)? }),
        _ => None,
    }
}

/// How much a value differs from the one before, and the one before, both in the unit of the new one.
fn difference(now: &Decimal, ucum: &str, before: &Decimal, before_ucum: &str) -> Option<(Exact, Exact)> {
    let (now, mut before) = (Exact::of(now)?, Exact::of(before)?);
    if ucum != before_ucum {
        before = before.times(Unit::parse(before_ucum).ok()?.factor_to(&Unit::parse(ucum).ok()?)?)?;
    }
    Some((now.minus(before)?, before))
}

fn is_target(target: &Target, control: &Control) -> bool {
    let same = |wanted: &Option<String>, sent: &str| wanted.as_deref().is_none_or(|wanted| wanted == sent);
    same(&target.name, &control.name) && same(&target.lot, &control.lot) && same(&target.level, &control.level)
}

/// A control in words.
fn called(target: &Target) -> String {
    let mut words = String::from("the control");
    for (word, text) in [("", &target.name), ("lot ", &target.lot), ("level ", &target.level)] {
        if let Some(text) = text {
            words.push_str(&format!(" {word}{text}"));
        }
    }
    words
}

/// The patient's age in whole days when the result came; `None` when no whole date of birth is known.
fn age_days(patient: &Patient, received_ms: i64) -> Option<i64> {
    let born = patient.birth_date.expose();
    if born.len() != 8 || !born.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, month, day) =
        (born.get(..4)?.parse().ok()?, born.get(4..6)?.parse().ok()?, born.get(6..)?.parse().ok()?);
    let born = jiff::civil::Date::new(year, month, day).ok()?;
    let today = jiff::Timestamp::from_millisecond(received_ms).ok()?.to_zoned(jiff::tz::TimeZone::UTC).date();
    let days = born.until(today).ok()?.get_days();
    Some(i64::from(days))
}

#[cfg(test)]
mod tests;
