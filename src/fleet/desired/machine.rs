//! What happens to a revision: a pure machine. What was found out goes in, what is to be done comes out. Each phase is
//! committed before what belongs to it is begun, so that whatever run of the program finds it knows what to do.
//!
//! ```text
//! offered -> checked -> probed -> written -> trial -> committed
//!    |          |          |         |         |
//!    +----------+----------+---------+         +-> reverted: the last good one runs again
//!                                    +-> refused: nothing had changed
//! ```
//!
//! | phase | what is done in it | the program ends in it |
//! |---|---|---|
//! | offered | the text, and all it names, is checked | it is offered again; the third time it was looked at it is refused |
//! | checked | addresses are bound, destinations dialled, while the old one runs | it is offered again |
//! | probed | it is written to disk | it is offered again |
//! | written | how the box is is noted | it is offered again |
//! | trial | it is applied, and watched until it is confirmed | it is started with; the second time it is reverted |
//! | committed, reverted, refused | nothing | nothing |
//!
//! What is applied in a trial is not quite what was sent, so that no result is lost by going back: see `tried.rs`.
//!
//! A trial is over when everything that was well before has been well for a quarter of its window without a break, and
//! destinations for which results wait then took one ([`Trial`]); it has failed when the window is over before.

use super::Why;
use std::time::{Duration, Instant};

/// Starts of the program with a revision that is not confirmed, the one that reverts it included.
pub const BOOTS_MAX: u32 = 2;

/// Starts of the program that begin to look at a revision.
pub const LOOKED_AT_MAX: u32 = 3;

/// Where a revision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Kept, not looked at.
    Offered,
    /// Sound as a text.
    Checked,
    /// What it names can be opened and reached.
    Probed,
    /// On disk.
    Written,
    /// It runs, or is about to, and is not confirmed.
    Trial,
    /// It runs, and is the last good one.
    Committed,
    /// It ran, and does not any more.
    Reverted,
    /// It never ran.
    Refused,
}

/// What is to be done in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Check the text.
    Check,
    /// Try what it names.
    Probe,
    /// Write it to disk.
    Write,
    /// Note how the box is.
    LookAround,
    /// Make the gateway run with it; then watch its trial.
    Apply,
    /// Watch its trial: it runs.
    Watch,
    /// Make the gateway run with the last good one.
    GoBack,
    /// Nothing is left to do.
    Rest,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 8] = [
        Phase::Offered,
        Phase::Checked,
        Phase::Probed,
        Phase::Written,
        Phase::Trial,
        Phase::Committed,
        Phase::Reverted,
        Phase::Refused,
    ];

    /// Its word in the store and on the bus.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Offered => "offered",
            Phase::Checked => "checked",
            Phase::Probed => "probed",
            Phase::Written => "written",
            Phase::Trial => "trial",
            Phase::Committed => "committed",
            Phase::Reverted => "reverted",
            Phase::Refused => "refused",
        }
    }

    /// The phase of a word.
    pub fn of(word: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.word() == word)
    }

    /// Where tests make the process die once a phase is committed.
    pub fn crash_point(self) -> &'static str {
        match self {
            Phase::Offered => "fleet-config-offered",
            Phase::Checked => "fleet-config-checked",
            Phase::Probed => "fleet-config-probed",
            Phase::Written => "fleet-config-written",
            Phase::Trial => "fleet-config-trial",
            Phase::Committed => "fleet-config-committed",
            Phase::Reverted => "fleet-config-reverted",
            Phase::Refused => "fleet-config-refused",
        }
    }

    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Committed | Phase::Reverted | Phase::Refused)
    }

    /// What is to be done in it by a run of the program that finds it so. `is_running` says that this run began with it.
    pub fn act(self, is_running: bool) -> Act {
        match self {
            Phase::Offered => Act::Check,
            Phase::Checked => Act::Probe,
            Phase::Probed => Act::Write,
            Phase::Written => Act::LookAround,
            Phase::Trial if is_running => Act::Watch,
            Phase::Trial => Act::Apply,
            Phase::Reverted => Act::GoBack,
            Phase::Committed | Phase::Refused => Act::Rest,
        }
    }

    /// The phase after what was to be done ended so.
    pub fn after(self, ended: Result<(), Why>) -> Phase {
        match (self, ended) {
            (Phase::Offered, Ok(())) => Phase::Checked,
            (Phase::Checked, Ok(())) => Phase::Probed,
            (Phase::Probed, Ok(())) => Phase::Written,
            (Phase::Written, Ok(())) => Phase::Trial,
            (Phase::Trial, Ok(())) => Phase::Committed,
            (Phase::Offered | Phase::Checked | Phase::Probed | Phase::Written, Err(_)) => Phase::Refused,
            (Phase::Trial, Err(_)) => Phase::Reverted,
            (Phase::Committed | Phase::Reverted | Phase::Refused, _) => self,
        }
    }
}

/// The count of a start with a revision in its trial that was started with `boots` times before; none when it is started
/// with no more, and the last good one is.
pub fn start(boots: u32) -> Option<u32> {
    (boots + 1 < BOOTS_MAX).then_some(boots + 1)
}

/// What is done with a revision that is not in its trial, and that `boots` starts began to look at before: the new count,
/// or none when it is given up. What ends the program while it is looked at would end it for ever.
pub fn look_at(boots: u32) -> Option<u32> {
    (boots < LOOKED_AT_MAX).then_some(boots + 1)
}

/// How far the messages are that destinations are tried with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// They are to be tried once all else is well.
    Due,
    /// Not all have ended.
    UnderWay,
    /// Each was taken, or there is none.
    Done,
}

/// What a look at a trial finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It goes on.
    GoesOn,
    /// All else is well: the messages are to be tried.
    TryOne,
    /// It is over.
    Ended(Result<(), Why>),
}

/// The trial of a revision that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    until: Instant,
    steady_for: Duration,
    steady_since: Option<Instant>,
}

impl Trial {
    /// A trial that begins now.
    pub fn new(now: Instant, window: Duration) -> Trial {
        Trial { until: now + window, steady_for: window / 4, steady_since: None }
    }

    /// How the box is at this moment: what was well before and is not, if anything, and how far the messages are that are
    /// tried.
    pub fn look(&mut self, lost: Option<Why>, tries: Tries, now: Instant) -> Look {
        if let Some(why) = lost {
            self.steady_since = None;
            return if now >= self.until { Look::Ended(Err(why)) } else { Look::GoesOn };
        }
        let since = *self.steady_since.get_or_insert(now);
        if now.saturating_duration_since(since) < self.steady_for {
            return Look::GoesOn;
        }
        match tries {
            Tries::Done => Look::Ended(Ok(())),
            Tries::Due => {
                // Late, they have a quarter as well.
                self.until = self.until.max(now + self.steady_for);
                Look::TryOne
            }
            Tries::UnderWay if now >= self.until => Look::Ended(Err(Why::DestinationLost)),
            Tries::UnderWay => Look::GoesOn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_goes_all_the_way_or_leaves_the_old_one() {
        let mut phase = Phase::Offered;
        let mut way = Vec::new();
        while !phase.is_final() {
            way.push((phase.word(), phase.act(false)));
            let failed = phase.after(Err(Why::Faults));
            let had_begun = phase == Phase::Trial;
            assert_eq!(failed, if had_begun { Phase::Reverted } else { Phase::Refused });
            phase = phase.after(Ok(()));
        }
        let acts = [Act::Check, Act::Probe, Act::Write, Act::LookAround, Act::Apply];
        assert_eq!(way.iter().map(|(_, act)| *act).collect::<Vec<_>>(), acts);
        assert_eq!((phase, Phase::Trial.act(true)), (Phase::Committed, Act::Watch));
        for ended in [Phase::Committed, Phase::Reverted, Phase::Refused] {
            assert!([Ok(()), Err(Why::Faults)].into_iter().all(|how| ended.after(how) == ended));
        }
        assert!(Phase::ALL.into_iter().all(|phase| Phase::of(phase.word()) == Some(phase)));
    }

    #[test]
    fn the_second_start_without_confirmation_reverts() {
        assert_eq!([0, 1, 7].map(start), [Some(1), None, None]);
        assert_eq!([0, 2, 3, 7].map(look_at), [Some(1), Some(3), None, None]);
    }

    #[test]
    fn a_trial_ends_well_when_all_is_well_for_a_quarter_and_badly_with_its_window() {
        let began = Instant::now();
        let at = |s: u64| began + Duration::from_secs(s);
        let begins = || Trial::new(began, Duration::from_secs(120));
        let look = |trial: &mut Trial, lost: Option<Why>, s: u64| trial.look(lost, Tries::Done, at(s));
        let (goes_on, well) = (Look::GoesOn, Look::Ended(Ok(())));
        let mut trial = begins();
        assert_eq!(look(&mut trial, Some(Why::LinkLost), 1), goes_on);
        assert_eq!(look(&mut trial, None, 10), goes_on);
        assert_eq!(look(&mut trial, None, 39), goes_on);
        assert_eq!(look(&mut trial, Some(Why::BusLost), 39), goes_on, "it begins anew");
        assert_eq!(look(&mut trial, None, 60), goes_on);
        assert_eq!(look(&mut trial, None, 90), well);
        let mut trial = begins();
        assert_eq!(look(&mut trial, None, 100), goes_on);
        assert_eq!(look(&mut trial, Some(Why::DestinationLost), 119), goes_on);
        assert_eq!(look(&mut trial, Some(Why::DestinationLost), 120), Look::Ended(Err(Why::DestinationLost)));
        let mut trial = begins();
        assert_eq!(look(&mut trial, None, 119), goes_on);
        assert_eq!(look(&mut trial, None, 125), goes_on, "what is well at the end may have its quarter");
        assert_eq!(look(&mut trial, None, 149), well);
    }

    #[test]
    fn a_message_is_tried_when_all_else_is_well_and_decides() {
        let began = Instant::now();
        let at = |s: u64| began + Duration::from_secs(s);
        let mut trial = Trial::new(began, Duration::from_secs(120));
        assert_eq!(trial.look(None, Tries::Due, at(0)), Look::GoesOn);
        assert_eq!(trial.look(None, Tries::Due, at(30)), Look::TryOne);
        assert_eq!(trial.look(None, Tries::UnderWay, at(31)), Look::GoesOn);
        let mut taken = trial;
        assert_eq!(taken.look(None, Tries::Done, at(32)), Look::Ended(Ok(())));
        assert_eq!(trial.look(Some(Why::DestinationLost), Tries::UnderWay, at(32)), Look::GoesOn);
        assert_eq!(trial.look(None, Tries::UnderWay, at(60)), Look::GoesOn);
        assert_eq!(
            trial.look(None, Tries::UnderWay, at(120)),
            Look::Ended(Err(Why::DestinationLost)),
            "no answer came"
        );
        let mut late = Trial::new(began, Duration::from_secs(120));
        assert_eq!(late.look(None, Tries::Due, at(119)), Look::GoesOn);
        assert_eq!(late.look(None, Tries::Due, at(149)), Look::TryOne);
        assert_eq!(late.look(None, Tries::UnderWay, at(150)), Look::GoesOn, "it has a quarter");
    }
}
