//! What the buzzer says. It is heard rarely: when somebody uses the button, and once when no results are taken any more.

use crate::button::Event;
use crate::pattern::Pattern;

/// Results are not taken any more.
pub const FAULT: Pattern = Pattern::once(&[600, 300, 600]);

/// What is heard when the button did that.
pub fn answer(event: Event) -> Option<Pattern> {
    match event {
        Event::Identify => Some(Pattern::once(&[80, 80, 80, 80, 80])),
        Event::SetUp => Some(Pattern::once(&[200])),
        Event::ResetArmed => Some(Pattern::once(&[400, 200, 400, 200, 400])),
        Event::ResetCancelled => Some(Pattern::once(&[60])),
        Event::FactoryReset => Some(Pattern::once(&[1500])),
        Event::Stuck => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_one_of_its_own_and_ends() {
        use Event::{FactoryReset, Identify, ResetArmed, ResetCancelled, SetUp};
        let answers = [Identify, SetUp, ResetArmed, ResetCancelled, FactoryReset].map(|event| answer(event).unwrap());
        for (at, chime) in answers.iter().enumerate() {
            assert!(!answers[..at].contains(chime) && *chime != FAULT);
            assert_eq!(chime.at(chime.length()), (false, None));
        }
        assert_eq!(answer(Event::Stuck), None);
    }
}
