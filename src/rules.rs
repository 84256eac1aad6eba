//! Rules: what goes out, what stays on the box, and why.
//!
//! Hold rules, in this file: what may not go out as a normal final result, and stays on the box for a person (invariant I13).
//!
//! The driver says what it doubts about a result ([`Doubt`]); the rules say which doubts hold it. The defaults hold on
//! every doubt. A site may let single doubts pass, but never those that mean the message itself is not sound.
//!
//! Behind them the site's own [`rule`]s are tried ([`autoverification`]).

pub mod autoverification;
pub mod rule;

pub use autoverification::{Decision, Facts, Outcome, Rulebook};
pub use rule::Rule;

use crate::clinical::{Doubt, Report, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What happens to a test code without LOINC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unmapped {
    /// Keep it for a person.
    #[default]
    Hold,
    /// Send the instrument's own code and unit; the EHR maps them.
    SendLocal,
}

/// What orders of the EHR mean to the results of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Orders {
    /// Nothing: results go out as the instrument says.
    Off,
    /// A result whose order is known goes out under its numbers and patient; one without an order goes out as it is.
    #[default]
    WhenKnown,
    /// A result without an order is held.
    Required,
}

/// Doubts a site may decide to let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Releasable {
    /// Unit outside the driver's list, sent as the instrument wrote it.
    UnknownUnit,
    /// Control runs, for sites whose EHR keeps QC.
    Control,
    /// Results the instrument itself questions, with its flag.
    Questionable,
    /// Result status without an agreed meaning.
    UnknownStatus,
}

/// The rules of one link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// What happens to unmapped codes.
    pub unmapped: Unmapped,
    /// Doubts that do not hold.
    pub release: Vec<Releasable>,
    /// Most that instrument time and box time may disagree; zero switches the rule off.
    pub clock_limit: Duration,
    /// What orders mean.
    pub orders: Orders,
    /// Messages that are marked as training or debugging pass. Where they go then takes nothing else
    /// ([`crate::mapping::Target::tests_only`]).
    pub tests_pass: bool,
}

/// What the rules decided about one observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may go out.
    Release,
    /// It stays, for this reason.
    Hold(Doubt),
}

/// Decides for each observation of a report, in order. `received` is when the box took custody.
///
/// The clock rule: a result or message from the future, or a message (H.14, MSH-7) older than the limit, means that
/// the two clocks disagree. A result that is merely older than its message is normal: instruments store results.
pub fn decide(report: &Report, policy: &Policy, received: jiff::Timestamp) -> Vec<Verdict> {
    let message_clock = off_clock(report.message_time.as_ref(), received, policy.clock_limit, true);
    report
        .observations
        .iter()
        .map(|observation| {
            let held = report
                .control
                .is_some()
                .then_some(Doubt::Control)
                .into_iter()
                .chain(report.not_production.then_some(Doubt::NotProduction))
                .chain(observation.doubts.iter().copied())
                .filter(|doubt| !policy.passes(*doubt))
                .min_by_key(|doubt| rank(*doubt));
            if let Some(doubt) = held {
                return Verdict::Hold(doubt);
            }
            if message_clock || off_clock(observation.completed.as_ref(), received, policy.clock_limit, false) {
                return Verdict::Hold(Doubt::ClockDisagreement);
            }
            Verdict::Release
        })
        .collect()
}

/// The same, with what a rule of the site accepts although the instrument questions it.
pub fn decide_with(
    report: &Report,
    policy: &Policy,
    received: jiff::Timestamp,
    decisions: &[Decision],
) -> Vec<Verdict> {
    let mut verdicts = decide(report, policy, received);
    if decisions.iter().any(|decision| decision.outcome == Outcome::Released) {
        let mut accepting = policy.clone();
        accepting.release.push(Releasable::Questionable);
        let accepted = decide(report, &accepting, received);
        for (at, (verdict, accepted)) in (0..).zip(verdicts.iter_mut().zip(accepted)) {
            if decisions.iter().any(|d| d.observation == at && d.outcome == Outcome::Released) {
                *verdict = accepted;
            }
        }
    }
    verdicts
}

/// Of several doubts the one that says most about what to do is the reason: first those about the whole message.
fn rank(doubt: Doubt) -> u8 {
    match doubt {
        Doubt::Incomplete => 0,
        Doubt::Unreadable => 1,
        Doubt::Charset => 2,
        Doubt::NotProduction | Doubt::UnknownInstrument => 3,
        Doubt::Control => 4,
        Doubt::NoSpecimen => 5,
        Doubt::OrderMismatch => 6,
        Doubt::FailedRun => 7,
        Doubt::UnreadableValue => 8,
        Doubt::Questionable => 9,
        Doubt::ClockDisagreement => 10,
        Doubt::UnknownStatus => 11,
        Doubt::UnmappedCode => 12,
        Doubt::UnknownUnit => 13,
        // Last, because an order that comes late lifts it by itself: whatever else is wrong needs a person.
        Doubt::NoOrder => 14,
    }
}

impl Policy {
    /// True when this doubt alone does not hold a result.
    fn passes(&self, doubt: Doubt) -> bool {
        let allowed = |r| self.release.contains(&r);
        match doubt {
            Doubt::UnmappedCode => self.unmapped == Unmapped::SendLocal,
            // A unit is only ever "unknown" beside a code the driver maps; an unmapped code goes out with its own.
            Doubt::UnknownUnit => allowed(Releasable::UnknownUnit),
            Doubt::Control => allowed(Releasable::Control),
            Doubt::Questionable => allowed(Releasable::Questionable),
            Doubt::UnknownStatus => allowed(Releasable::UnknownStatus),
            Doubt::ClockDisagreement => self.clock_limit.is_zero(),
            Doubt::NotProduction => self.tests_pass,
            Doubt::FailedRun
            | Doubt::UnreadableValue
            | Doubt::NoSpecimen
            | Doubt::Incomplete
            | Doubt::Unreadable
            | Doubt::Charset
            | Doubt::NoOrder
            | Doubt::OrderMismatch
            | Doubt::UnknownInstrument => false,
        }
    }
}

/// True when `time` lies further ahead of `received` than `limit`, or with `both_ways` further behind.
fn off_clock(time: Option<&Timestamp>, received: jiff::Timestamp, limit: Duration, both_ways: bool) -> bool {
    let Some(instant) = time.and_then(Timestamp::instant) else { return false };
    if limit.is_zero() {
        return false;
    }
    let ahead_s = instant.as_second() - received.as_second();
    let limit_s = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    ahead_s > limit_s || (both_ways && -ahead_s > limit_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clinical::{Control, Observation};

    fn at(text: &str) -> Option<Timestamp> {
        Timestamp::parse(text, &jiff::tz::TimeZone::UTC)
    }

    fn now() -> jiff::Timestamp {
        at("20260301120000").and_then(|t| t.instant()).unwrap()
    }

    fn report(doubts: &[Doubt]) -> Report {
        let observation =
            Observation { doubts: doubts.to_vec(), completed: at("20260301115900"), ..Default::default() };
        Report { observations: vec![observation], message_time: at("20260301115930"), ..Default::default() }
    }

    fn policy() -> Policy {
        Policy { clock_limit: Duration::from_secs(900), ..Default::default() }
    }

    #[test]
    fn i13_every_doubt_holds_by_default_and_a_plain_result_goes() {
        assert_eq!(decide(&report(&[]), &policy(), now()), [Verdict::Release]);
        for doubt in [
            Doubt::UnmappedCode,
            Doubt::UnknownUnit,
            Doubt::Control,
            Doubt::FailedRun,
            Doubt::Questionable,
            Doubt::UnreadableValue,
            Doubt::NoSpecimen,
            Doubt::NotProduction,
            Doubt::Incomplete,
            Doubt::Unreadable,
            Doubt::UnknownStatus,
            Doubt::Charset,
            Doubt::NoOrder,
            Doubt::OrderMismatch,
            Doubt::UnknownInstrument,
        ] {
            assert_eq!(decide(&report(&[doubt]), &policy(), now()), [Verdict::Hold(doubt)]);
        }
    }

    #[test]
    fn i13_a_site_lets_single_doubts_pass_but_not_a_second_one() {
        let local = Policy { unmapped: Unmapped::SendLocal, ..policy() };
        assert_eq!(decide(&report(&[Doubt::UnmappedCode]), &local, now()), [Verdict::Release]);
        let both = report(&[Doubt::UnmappedCode, Doubt::FailedRun]);
        assert_eq!(decide(&both, &local, now()), [Verdict::Hold(Doubt::FailedRun)]);
    }

    #[test]
    fn of_several_doubts_the_one_about_the_whole_message_is_the_reason() {
        let both = report(&[Doubt::UnmappedCode, Doubt::Incomplete]);
        assert_eq!(decide(&both, &policy(), now()), [Verdict::Hold(Doubt::Incomplete)]);
    }

    #[test]
    fn i13_controls_and_training_messages_never_pass_as_results() {
        let control = Report { control: Some(Control::default()), ..report(&[]) };
        assert_eq!(decide(&control, &policy(), now()), [Verdict::Hold(Doubt::Control)]);
        let training = Report { not_production: true, ..report(&[]) };
        assert_eq!(decide(&training, &policy(), now()), [Verdict::Hold(Doubt::NotProduction)]);
        let testing = Policy { tests_pass: true, ..policy() };
        assert_eq!(decide(&training, &testing, now()), [Verdict::Release], "but where nothing else goes");
    }

    #[test]
    fn i13_clocks_that_disagree_hold_but_an_old_result_in_a_new_message_goes() {
        let mut late = report(&[]);
        late.observations[0].completed = at("20260214083000");
        assert_eq!(decide(&late, &policy(), now()), [Verdict::Release]);
        let mut future = report(&[]);
        future.observations[0].completed = at("20260301130000");
        assert_eq!(decide(&future, &policy(), now()), [Verdict::Hold(Doubt::ClockDisagreement)]);
        let stale = Report { message_time: at("20060301120000"), ..report(&[]) };
        assert_eq!(decide(&stale, &policy(), now()), [Verdict::Hold(Doubt::ClockDisagreement)]);
        let off = Policy { clock_limit: Duration::ZERO, ..policy() };
        assert_eq!(decide(&stale, &off, now()), [Verdict::Release]);
    }
}
