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
//! A trial is over when everything that was well before has been well for a quarter of its window without a break
//! ([`Trial`]), and has failed when the window is over before.

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

/// What a start of the program does with a revision in its trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Run it; so many starts have been made with it, this one included.
    Run(u32),
    /// Run the last good one: it was started with too often.
    Revert,
    /// It had been confirmed, and only that was not noted.
    Confirmed,
}

/// What to start with, where a revision in its trial was started with `boots` times before; `is_last_good` says that the
/// disk has it as the last good one.
pub fn start(boots: u32, is_last_good: bool) -> Start {
    match boots + 1 {
        _ if is_last_good => Start::Confirmed,
        boots if boots < BOOTS_MAX => Start::Run(boots),
        _ => Start::Revert,
    }
}

/// What is done with a revision that is not in its trial, and that `boots` starts began to look at before: the new count,
/// or none when it is given up. What ends the program while it is looked at would end it for ever.
pub fn look_at(boots: u32) -> Option<u32> {
    (boots < LOOKED_AT_MAX).then_some(boots + 1)
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

    /// How the box is at this moment: what was well before and is not, if anything. `Some` when the trial is over.
    pub fn look(&mut self, lost: Option<Why>, now: Instant) -> Option<Result<(), Why>> {
        match lost {
            None => {
                let since = *self.steady_since.get_or_insert(now);
                (now.saturating_duration_since(since) >= self.steady_for).then_some(Ok(()))
            }
            Some(why) => {
                self.steady_since = None;
                (now >= self.until).then_some(Err(why))
            }
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
        assert_eq!(start(0, false), Start::Run(1));
        assert_eq!(start(1, false), Start::Revert);
        assert_eq!(start(7, false), Start::Revert);
        assert_eq!(start(7, true), Start::Confirmed);
        assert_eq!([0, 2, 3, 7].map(look_at), [Some(1), Some(3), None, None]);
    }

    #[test]
    fn a_trial_ends_well_when_all_is_well_for_a_quarter_and_badly_with_its_window() {
        let began = Instant::now();
        let at = |s: u64| began + Duration::from_secs(s);
        let mut trial = Trial::new(began, Duration::from_secs(120));
        assert_eq!(trial.look(Some(Why::LinkLost), at(1)), None);
        assert_eq!(trial.look(None, at(10)), None);
        assert_eq!(trial.look(None, at(39)), None);
        assert_eq!(trial.look(Some(Why::BusLost), at(39)), None, "it begins anew");
        assert_eq!(trial.look(None, at(60)), None);
        assert_eq!(trial.look(None, at(90)), Some(Ok(())));
        let mut trial = Trial::new(began, Duration::from_secs(120));
        assert_eq!(trial.look(None, at(100)), None);
        assert_eq!(trial.look(Some(Why::DestinationLost), at(119)), None);
        assert_eq!(trial.look(Some(Why::DestinationLost), at(120)), Some(Err(Why::DestinationLost)));
        let mut trial = Trial::new(began, Duration::from_secs(120));
        assert_eq!(trial.look(None, at(119)), None);
        assert_eq!(trial.look(None, at(125)), None, "what is well at the end may have its quarter");
        assert_eq!(trial.look(None, at(149)), Some(Ok(())));
    }
}
