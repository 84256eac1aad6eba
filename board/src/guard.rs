//! The guard: what must not wait for anything else of the board, the input of the supply and the hardware watchdog. A
//! display that hangs on its bus keeps neither the loss of the supply from being heard nor the watchdog from being fed.

use crate::definition::Definition;
use crate::parts::{Absent, Hardware};
use crate::pin::Input;
use crate::seen::Trouble;
use crate::supply::{self, Supply};
use crate::watchdog::Watchdog;
use std::time::Duration;

/// The supply is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The hardware watchdog is fed this often: that of a Raspberry Pi waits for fifteen seconds at most.
pub const FED_EVERY: Duration = Duration::from_secs(5);

/// See the module docs.
pub struct Guard {
    supply: Option<(Box<dyn Input>, Supply)>,
    watchdog: Option<Box<dyn Watchdog>>,
    /// When the watchdog may be fed next.
    feed_at: Duration,
    /// What is wrong now, one of each part.
    standing: Vec<Trouble>,
}

/// What came of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// What became of the supply.
    pub event: Option<supply::Event>,
    /// Parts that are missing or failed, as of now; told once.
    pub troubles: Vec<Trouble>,
    /// Parts that work again.
    pub mended: Vec<&'static str>,
}

impl Guard {
    /// Finds the supply's input and the watchdog, and what is in the way. The watchdog is armed from now on.
    pub fn find(definition: &Definition, hardware: &mut dyn Hardware) -> (Guard, Vec<Trouble>) {
        let mut standing = Vec::new();
        let mut absent = |part: &str, (what, hint): Absent| standing.push(Trouble::new(part, what, hint));
        let supply = definition.supply.as_ref().and_then(|supply| {
            let found = hardware.input("supply", supply.pin.get_ref(), supply.active_low, true);
            let lost_after = Duration::from_millis(u64::from(*supply.lost_after_ms.get_ref()));
            found.map(|input| (input, Supply::new(lost_after))).map_err(|why| absent("supply", why)).ok()
        });
        let watchdog = definition.watchdog.as_ref().map(|watchdog| hardware.watchdog(watchdog));
        let watchdog = watchdog.and_then(|found| found.map_err(|why| absent("watchdog", why)).ok());
        let troubles = standing.clone();
        (Guard { supply, watchdog, feed_at: Duration::ZERO, standing }, troubles)
    }

    /// True when there is nothing to guard.
    pub fn is_idle(&self) -> bool {
        self.supply.is_none() && self.watchdog.is_none()
    }

    /// Looks at the supply, and feeds the watchdog should it be time, and should all that results need go on.
    pub fn turn(&mut self, goes_on: bool, now: Duration) -> Turn {
        let mut turn = Turn::default();
        if let Some((input, supply)) = &mut self.supply {
            let level = input.is_on();
            supply.handle_level(level.as_ref().ok().copied(), now);
            turn.event = supply.poll_event();
            note(&mut self.standing, &mut turn, "supply", level.err());
        }
        if let Some(watchdog) = self.watchdog.as_mut().filter(|_| goes_on && now >= self.feed_at) {
            self.feed_at = now + FED_EVERY;
            let fed = watchdog.feed();
            note(&mut self.standing, &mut turn, "watchdog", fed.err());
        }
        turn
    }

    /// When it is to be turned next.
    pub fn next(&self, now: Duration) -> Duration {
        now + if self.supply.is_some() { LOOK_EVERY } else { FED_EVERY / 5 }
    }

    /// What is wrong now.
    pub fn standing(&self) -> &[Trouble] {
        &self.standing
    }

    /// True from the supply's loss until it is back.
    pub fn supply_is_lost(&self) -> bool {
        self.supply.as_ref().is_some_and(|(_, supply)| supply.is_lost())
    }

    /// It ends in order: nobody is to be missed.
    ///
    /// # Errors
    /// In words, what is in the way.
    pub fn disarm(&mut self) -> Result<(), String> {
        self.watchdog.as_mut().map_or(Ok(()), |watchdog| watchdog.disarm())
    }
}

/// Notes how it went with a part, for whoever is to be told of a change.
fn note(standing: &mut Vec<Trouble>, turn: &mut Turn, part: &'static str, wrong: Option<String>) {
    let is_known = standing.iter().any(|trouble| trouble.part == part);
    match wrong {
        Some(what) if !is_known => {
            let trouble = Trouble::new(part, what, "it is tried again; look at its cable and at the definition");
            standing.push(trouble.clone());
            turn.troubles.push(trouble);
        }
        None if is_known => {
            standing.retain(|trouble| trouble.part != part);
            turn.mended.push(part);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;
    use crate::supply::Event;
    use std::path::Path;

    const BOARD: &str = "[board]\nname = \"b\"\nrevision = \"1\"\n[supply]\npin = \"A1\"\n[watchdog]\n\
                         device = \"/dev/watchdog0\"\n";

    fn guard(folder: &Path) -> (Guard, Vec<Trouble>) {
        let definition = Definition::parse("b", BOARD).unwrap();
        Guard::find(&definition, &mut Folder::open(folder).unwrap())
    }

    /// Turns it for so long; what came of it.
    fn run(guard: &mut Guard, goes_on: bool, now: &mut Duration, time: Duration) -> Turn {
        let (mut all, end) = (Turn::default(), *now + time);
        while *now < end {
            let turn = guard.turn(goes_on, *now);
            all.event = all.event.or(turn.event);
            all.troubles.extend(turn.troubles);
            all.mended.extend(turn.mended);
            *now = guard.next(*now);
        }
        all
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_watchdog_is_fed_in_time_and_only_while_results_can_come() {
        let dir = tempfile::tempdir().unwrap();
        let fed = || std::fs::read_to_string(dir.path().join("watchdog")).unwrap_or_default().trim().to_string();
        let ((mut guard, troubles), mut now) = (guard(dir.path()), Duration::ZERO);
        assert_eq!(troubles, []);
        run(&mut guard, true, &mut now, 60 * SECOND);
        assert_eq!(fed(), "fed 12", "every five seconds");
        run(&mut guard, false, &mut now, 60 * SECOND);
        assert_eq!(fed(), "fed 12", "not while something is stuck");
        run(&mut guard, true, &mut now, SECOND);
        assert_eq!(fed(), "fed 13", "at once when it goes on");
        guard.disarm().unwrap();
        assert_eq!(fed(), "disarmed");
    }

    #[test]
    fn a_supply_that_cannot_be_read_is_told_once_and_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let ((mut guard, _), mut now) = (guard(dir.path()), Duration::ZERO);
        let supply = |level: &str| std::fs::write(dir.path().join("supply"), level).unwrap();
        run(&mut guard, true, &mut now, SECOND);
        supply("off");
        guard.turn(true, now);
        supply("maybe");
        now += Duration::from_millis(20);
        let turn = run(&mut guard, true, &mut now, 30 * SECOND);
        assert_eq!((turn.event, turn.troubles.len()), (None, 1));
        assert!(turn.troubles[0].to_string().starts_with("supply: `maybe` is neither"), "{}", turn.troubles[0]);
        assert_eq!(guard.standing().len(), 1);
        supply("on");
        let turn = run(&mut guard, true, &mut now, SECOND);
        assert_eq!((turn.mended, guard.standing()), (vec!["supply"], &[][..]));
        supply("off");
        let turn = run(&mut guard, true, &mut now, SECOND);
        assert_eq!((turn.event, guard.supply_is_lost()), (Some(Event::Lost), true));
        supply("on");
        let turn = run(&mut guard, true, &mut now, 6 * SECOND);
        assert_eq!((turn.event, guard.supply_is_lost()), (Some(Event::Back), false));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for part in ["supply", "watchdog"] {
            std::fs::write(dir.path().join(part), "absent").unwrap();
        }
        let (guard, troubles) = guard(dir.path());
        let parts: Vec<&str> = troubles.iter().map(|trouble| trouble.part.as_str()).collect();
        assert!(guard.is_idle() && parts == ["supply", "watchdog"], "{troubles:?}");
    }
}
