//! A rule as the site writes it: `[[rule]]`. What each kind needs, and everything that can be wrong with one.

use crate::clinical::{Decimal, Doubt, Exact, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most rules on one box.
pub const RULES_MAX: usize = 2_000;
/// Most controls one rule may ask for.
const CONTROLS_MAX: usize = 32;
/// Longest name, in characters.
const NAME_MAX_CHARS: usize = 64;

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The value must be a number within `low` and `high`, both included: what may be reported unseen.
    #[default]
    Range,
    /// A value below `low` or above `high` endangers the patient.
    Critical,
    /// The value must not be further from the patient's previous one than `absolute` or `percent`.
    Delta,
    /// The instrument set one of `flags`.
    Flag,
    /// Nothing goes out for the analyte while one of `controls` is out, too old or missing on the link.
    Qc,
    /// A good result covers what was held of the same specimen and test for one of `reasons`.
    Repeat,
    /// The value is multiplied by the dilution factor the driver reads or that stands behind `prefix` in a comment or
    /// flag, for instruments that send the value of the diluted specimen.
    Dilution,
    /// The value is said in another `unit`.
    Convert,
}

/// What a rule does when it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Keep the result for a person.
    #[default]
    Hold,
    /// Send it with a flag of HL7 table 0078: LL or HH (critical), D or U (delta).
    SendWithFlag,
    /// Send what was held only because the instrument questions it (flag).
    Release,
}

/// Whom a limit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Sex {
    /// Female.
    F,
    /// Male.
    M,
}

/// A control and where its value must lie.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// Name of the control as the instrument sends it; left out, any.
    pub name: Option<String>,
    /// Its lot; left out, any.
    pub lot: Option<String>,
    /// Its level; left out, any.
    pub level: Option<String>,
    /// Lowest value, in the rule's unit.
    pub low: String,
    /// Highest value, in the rule's unit.
    pub high: String,
}

/// An autoverification rule. It decides about results that no doubt of the driver holds already.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Name of the rule, unique; decisions and held results carry it with the version of the rule.
    pub name: String,
    /// What it looks at: "range", "critical", "delta", "flag", "qc", "repeat", "dilution" or "convert".
    pub kind: Kind,
    /// LOINC codes or instruments' own codes of the tests it is for; every test when the list is empty.
    pub analytes: Vec<String>,
    /// Names of the links it is for; every link when the list is empty.
    pub links: Vec<String>,
    /// What it does: "hold", "send-with-flag" (critical, delta) or "release" (flag).
    pub action: Action,
    /// UCUM unit of all its limits; with "convert" the unit to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Lowest value that passes, as decimal text (range, critical).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<String>,
    /// Highest value that passes, as decimal text (range, critical).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<String>,
    /// Only for this sex: "F" or "M". A patient whose sex is not known must pass both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sex: Option<Sex>,
    /// Only from this age on, in days. A patient whose age is not known must pass every rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_min_days: Option<u32>,
    /// Only below this age, in days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_max_days: Option<u32>,
    /// Most the value may differ from the previous one, in the rule's unit (delta).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absolute: Option<String>,
    /// Most it may differ, in percent of the previous one (delta).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<String>,
    /// How old the previous value may be, in days (delta). The journal must keep it that long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_days: Option<u32>,
    /// Flags as they are sent on (flag).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// The controls that must be good, each with name, lot, level, low and high (qc).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<Target>,
    /// How old the last control may be, in hours (qc); with "repeat", how long after the first the repeat may come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_hours: Option<u32>,
    /// Reasons for a hold that a good repeat covers, such as "failed-run" (repeat).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What stands before the factor in a comment or flag; left out, where the driver reads dilutions (dilution).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// UCUM unit the factor is for (convert).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Factor between units UCUM cannot convert, such as a molar mass (convert); needs `from` and `loinc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<String>,
    /// LOINC of the converted result: a mass and an amount of substance have different ones (convert).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loinc: Option<String>,
}

/// One thing that is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting it is about; `name` when one is missing.
    pub key: String,
    /// What is wrong; behind `; ` what to do about it.
    pub text: String,
}

impl Kind {
    /// Why a result is held by such a rule, for counters and lists: a closed set.
    pub fn reason(self) -> &'static str {
        match self {
            Kind::Range => "rule-range",
            Kind::Critical => "rule-critical",
            Kind::Delta => "rule-delta",
            Kind::Flag => "rule-flag",
            Kind::Qc => "qc-lock",
            Kind::Repeat => "rule-repeat",
            Kind::Dilution => "rule-dilution",
            Kind::Convert => "rule-convert",
        }
    }

    /// Settings that belong to this kind, besides those every rule has.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Kind::Range | Kind::Critical => &["unit", "low", "high", "sex", "age_min_days", "age_max_days"],
            Kind::Delta => &["unit", "absolute", "percent", "within_days", "sex", "age_min_days", "age_max_days"],
            Kind::Flag => &["flags"],
            Kind::Qc => &["unit", "controls", "max_age_hours"],
            Kind::Repeat => &["reasons", "max_age_hours"],
            Kind::Dilution => &["prefix"],
            Kind::Convert => &["unit", "from", "factor", "loinc"],
        }
    }
}

impl Rule {
    /// Everything that is wrong with it, as far as it stands alone.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut wrong = |key: &str, text: String| found.push(Problem { key: key.to_string(), text });
        if self.name.trim().is_empty() || self.name.chars().count() > NAME_MAX_CHARS || self.name.contains('@') {
            wrong("name", format!("a rule needs a name of up to {NAME_MAX_CHARS} characters without `@`"));
        }
        for key in self.given().into_iter().filter(|key| !self.kind.settings().contains(key)) {
            let belong = self.kind.settings().join("`, `");
            wrong(key, format!("`{key}` does not belong to this kind of rule; it takes `{belong}`"));
        }
        for (key, text) in [
            ("low", &self.low),
            ("high", &self.high),
            ("absolute", &self.absolute),
            ("percent", &self.percent),
            ("factor", &self.factor),
        ] {
            if let Some(text) = text
                && exact(text).is_none()
            {
                wrong(key, format!("`{text}` is no decimal number; write it with digits and a point, such as \"3.5\""));
            }
        }
        for (key, text) in [("unit", &self.unit), ("from", &self.from)] {
            if let Some(Err(error)) = text.as_deref().map(Unit::parse) {
                wrong(key, error.to_string());
            }
        }
        if backwards(self.low.as_deref(), self.high.as_deref()) {
            wrong("high", "`high` is below `low`".to_string());
        }
        if let (Some(least), Some(most)) = (self.age_min_days, self.age_max_days)
            && most <= least
        {
            wrong("age_max_days", "`age_max_days` must be more than `age_min_days`".to_string());
        }
        let allowed = match self.action {
            Action::Hold => true,
            Action::SendWithFlag => matches!(self.kind, Kind::Critical | Kind::Delta),
            Action::Release => self.kind == Kind::Flag,
        };
        if !allowed {
            wrong("action", "this kind of rule cannot do that; leave `action` out to hold".to_string());
        }
        self.needs(&mut wrong);
        found
    }

    /// What this kind cannot do without.
    fn needs(&self, wrong: &mut impl FnMut(&str, String)) {
        let tests = |wrong: &mut dyn FnMut(&str, String)| {
            if self.analytes.is_empty() {
                wrong("analytes", "limits are for one test; name its codes in `analytes`".to_string());
            }
        };
        match self.kind {
            Kind::Range | Kind::Critical => {
                tests(wrong);
                if self.low.is_none() && self.high.is_none() {
                    wrong("low", "there is no limit; give `low`, `high` or both".to_string());
                }
                if self.unit.is_none() {
                    wrong("unit", "a limit needs its unit; write it in UCUM, \"1\" for a mere number".to_string());
                }
            }
            Kind::Delta => {
                tests(wrong);
                if self.absolute.is_none() && self.percent.is_none() {
                    wrong("absolute", "there is no limit; give `absolute`, `percent` or both".to_string());
                }
                if self.absolute.is_some() && self.unit.is_none() {
                    wrong("unit", "`absolute` needs its unit; write it in UCUM".to_string());
                }
                if self.within_days.is_none_or(|days| days == 0) {
                    wrong(
                        "within_days",
                        "say how old the previous value may be; `within_days` of at least 1".to_string(),
                    );
                }
            }
            Kind::Flag if self.flags.is_empty() => {
                wrong("flags", "there is no flag; list those it is for".to_string());
            }
            Kind::Qc => {
                tests(wrong);
                if self.unit.is_none() {
                    wrong("unit", "the controls' limits need their unit; write it in UCUM".to_string());
                }
                if self.controls.is_empty() || self.controls.len() > CONTROLS_MAX {
                    wrong(
                        "controls",
                        format!("from 1 to {CONTROLS_MAX} controls are needed; each with its `low` and `high`"),
                    );
                }
                if self.max_age_hours.is_none_or(|hours| hours == 0) {
                    wrong("max_age_hours", "say for how long a control is good; in hours".to_string());
                }
                for (at, target) in self.controls.iter().enumerate() {
                    let limits = [("low", &target.low), ("high", &target.high)];
                    for (key, text) in limits.into_iter().filter(|(_, text)| exact(text).is_none()) {
                        wrong(
                            &format!("controls[{at}].{key}"),
                            format!("`{text}` is no decimal number; such as \"3.5\""),
                        );
                    }
                    if backwards(Some(&target.low), Some(&target.high)) {
                        wrong(&format!("controls[{at}].high"), "`high` is below `low`".to_string());
                    }
                }
            }
            Kind::Repeat => {
                if self.reasons.is_empty() {
                    wrong("reasons", "there is no reason; such as [\"failed-run\"]".to_string());
                }
                let kinds = [Kind::Range, Kind::Critical, Kind::Delta, Kind::Flag].map(Kind::reason);
                let doubts = [Doubt::FailedRun, Doubt::Questionable, Doubt::UnreadableValue].map(Doubt::name);
                for reason in self.reasons.iter().filter(|r| !kinds.iter().chain(&doubts).any(|known| known == r)) {
                    let known = [&doubts[..], &kinds[..]].concat().join(", ");
                    wrong("reasons", format!("`{reason}` is nothing a repeat covers; it can be {known}"));
                }
                if self.max_age_hours.is_none_or(|hours| hours == 0) {
                    wrong("max_age_hours", "say how long after the first the repeat may come; in hours".to_string());
                }
            }
            Kind::Dilution if self.prefix.as_deref() == Some("") => {
                wrong("prefix", "say what stands before the factor; such as \"DIL:\"".to_string());
            }
            Kind::Convert => {
                tests(wrong);
                self.conversion(wrong);
            }
            Kind::Flag | Kind::Dilution => {}
        }
    }

    fn conversion(&self, wrong: &mut impl FnMut(&str, String)) {
        let unit = |text: &Option<String>| text.as_deref().and_then(|code| Unit::parse(code).ok());
        if self.unit.is_none() {
            wrong("unit", "say which unit to send; write it in UCUM".to_string());
        }
        if self.loinc.as_deref().is_some_and(|code| !crate::driver::identify::is_loinc(code)) {
            wrong("loinc", "this is not a LOINC code; its check digit does not fit".to_string());
        }
        let pair = unit(&self.from).zip(unit(&self.unit));
        if self.factor.is_none() {
            if pair.is_some_and(|(from, to)| from.factor_to(&to).is_none()) {
                wrong("from", "UCUM has no exact factor between these; declare `factor` and `loinc`".to_string());
            }
            return;
        }
        if self.from.is_none() {
            wrong("from", "a factor needs the unit it starts from; in UCUM".to_string());
        }
        if self.loinc.is_none() {
            wrong("loinc", "another quantity has another LOINC; name that of the converted result".to_string());
        }
        if pair.is_some_and(|(from, to)| from.is_commensurable(&to)) {
            wrong("factor", "UCUM knows the factor between these units; leave `factor` out".to_string());
        }
        if self.factor.as_deref().and_then(exact).is_some_and(|factor| !factor.is_positive()) {
            wrong("factor", "a factor is more than zero".to_string());
        }
    }

    /// Settings that are given, besides those every rule has.
    fn given(&self) -> Vec<&'static str> {
        [
            ("unit", self.unit.is_some()),
            ("low", self.low.is_some()),
            ("high", self.high.is_some()),
            ("sex", self.sex.is_some()),
            ("age_min_days", self.age_min_days.is_some()),
            ("age_max_days", self.age_max_days.is_some()),
            ("absolute", self.absolute.is_some()),
            ("percent", self.percent.is_some()),
            ("within_days", self.within_days.is_some()),
            ("flags", !self.flags.is_empty()),
            ("controls", !self.controls.is_empty()),
            ("max_age_hours", self.max_age_hours.is_some()),
            ("reasons", !self.reasons.is_empty()),
            ("prefix", self.prefix.is_some()),
            ("from", self.from.is_some()),
            ("factor", self.factor.is_some()),
            ("loinc", self.loinc.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect()
    }
}

/// The number a limit stands for.
pub(super) fn exact(text: &str) -> Option<Exact> {
    Decimal::parse(text).as_ref().and_then(Exact::of)
}

fn backwards(low: Option<&str>, high: Option<&str>) -> bool {
    let (Some(low), Some(high)) = (low.and_then(exact), high.and_then(exact)) else { return false };
    high.compare(low) == Some(std::cmp::Ordering::Less)
}
