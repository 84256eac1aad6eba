//! The panel: what the box shows, and what somebody in front of it wants. Pure: what the box knows, what pins say and the
//! time go in; a [`Face`], [`Event`]s and the next deadline come out.
//!
//! What is shown, the first of these that is so: the box is off; the supply is lost; it stops; somebody holds the button;
//! somebody asked which box this is; somebody asked how it is set up; it starts; how everything is, page by page.

use crate::button::{self, Button, Hint};
use crate::buzzer;
use crate::definition::Definition;
use crate::led::{BoxState, Heard, Layer};
use crate::pattern::Pattern;
use crate::screen::Screen;
use crate::seen::{Seen, Stick, Temperature};
use crate::temperature::Heat;
use std::collections::VecDeque;
use std::time::Duration;

/// A page of the display is shown for so long.
pub const PAGE: Duration = Duration::from_secs(6);
/// So long the box shows which it is.
pub const IDENTIFY: Duration = Duration::from_secs(60);
/// So long it shows how it is set up.
pub const SET_UP: Duration = Duration::from_secs(600);
/// The display has less light when nobody touched the box for so long: its pixels wear out.
pub const DIM_AFTER: Duration = Duration::from_secs(300);

/// What pins and sensors say; none where there is no such part, or it does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sensed {
    /// The button is down.
    pub button: Option<bool>,
    /// How warm it is.
    pub temperature: Option<Temperature>,
}

/// What the box shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Face {
    /// What the LED of the box stands for.
    pub box_state: BoxState,
    /// What that of the analyzers does.
    pub analyzer: Heard,
    /// What that of the hospital does.
    pub hospital: Heard,
    /// Which LEDs are lit, in the order of [`Layer::ALL`].
    pub lit: [bool; 3],
    /// The buzzer sounds.
    pub beeps: bool,
    /// How the box is, whatever is shown: relays go by it.
    pub condition: BoxState,
    /// The display.
    pub screen: Screen,
    /// It has less light.
    pub dim: bool,
}

/// What somebody wants, or what the board noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The button; what it asks to be shown is shown already.
    Button(button::Event),
    /// The box is too warm.
    TooWarm(Temperature),
    /// It is no more.
    CooledDown(Temperature),
}

/// See the module docs.
pub struct Panel {
    button: Button,
    heat: Option<Heat>,
    is_too_warm: bool,
    identify_until: Option<Duration>,
    set_up_until: Option<Duration>,
    touched: Duration,
    /// Since when each LED has the pattern it has.
    patterns: [(Pattern, Duration); 3],
    chime: (Pattern, Duration),
    was_fault: bool,
    /// The pages there are, and since when the first of them is shown.
    pages: (Vec<&'static str>, Duration),
    deadline: Option<Duration>,
    events: VecDeque<Event>,
}

impl Panel {
    /// For this board.
    pub fn new(definition: &Definition) -> Panel {
        let roles = definition.button.as_ref().map_or(&[][..], |button| button.may.get_ref());
        let limit = definition.temperature.as_ref().map(|sensor| Temperature::of_degrees(*sensor.high_c.get_ref()));
        Panel {
            button: Button::new(roles),
            heat: limit.map(Heat::new),
            is_too_warm: false,
            identify_until: None,
            set_up_until: None,
            touched: Duration::ZERO,
            patterns: [(Pattern::OFF, Duration::ZERO); 3],
            chime: (Pattern::OFF, Duration::ZERO),
            was_fault: false,
            pages: (Vec::new(), Duration::ZERO),
            deadline: None,
            events: VecDeque::new(),
        }
    }

    /// Somebody elsewhere asks which box this is.
    pub fn identify(&mut self, now: Duration) {
        (self.identify_until, self.touched) = (Some(now + IDENTIFY), now);
        self.chime = (buzzer::answer(button::Event::Identify).unwrap_or(Pattern::OFF), now);
    }

    /// Looks at everything, and says what is shown from now on.
    pub fn turn(&mut self, seen: &Seen, sensed: &Sensed, now: Duration) -> Face {
        self.listen(sensed, now);
        let for_now = |until: &mut Option<Duration>| until.take_if(|until| now >= *until);
        for_now(&mut self.identify_until);
        for_now(&mut self.set_up_until);

        let condition = match seen.box_state {
            BoxState::Well if self.is_too_warm || !seen.alerts.is_empty() => BoxState::Attention,
            state => state,
        };
        let is_fault = condition == BoxState::Fault;
        if is_fault && !self.was_fault {
            self.chime = (buzzer::FAULT, now);
        }
        self.was_fault = is_fault;

        let hint = self.button.hint(now);
        let box_state = self.shown_state(condition, seen, hint);
        let is_dark = box_state == BoxState::Off;
        let heard = |heard: Heard| if is_dark { Heard::None } else { heard };
        let (analyzer, hospital) = (heard(seen.analyzer), heard(seen.hospital));
        let shown = [box_state.pattern(), analyzer.pattern(), hospital.pattern()];
        let mut deadlines = Vec::new();
        let mut lit = [false; 3];
        for ((pattern, since), (shown, lit)) in self.patterns.iter_mut().zip(shown.into_iter().zip(&mut lit)) {
            if *pattern != shown {
                (*pattern, *since) = (shown, now);
            }
            let (is_on, left) = pattern.at(now.saturating_sub(*since));
            *lit = is_on;
            deadlines.extend(left.map(|left| now + left));
        }
        let (beeps, left) = self.chime.0.at(now.saturating_sub(self.chime.1));
        deadlines.extend(left.map(|left| now + left));

        let screen = self.screen(seen, sensed, (condition, box_state), hint, now, &mut deadlines);
        let is_left_alone = now >= self.touched + DIM_AFTER;
        if !is_left_alone {
            deadlines.push(self.touched + DIM_AFTER);
        }
        deadlines.extend([self.identify_until, self.set_up_until].into_iter().flatten());
        deadlines.extend(self.button.poll_timeout(now));
        self.deadline = deadlines.into_iter().min();
        let (dim, beeps) = (is_left_alone, beeps && !is_dark);
        Face { box_state, analyzer, hospital, lit, beeps, condition, screen, dim }
    }

    /// When it is to be turned next, even if nothing happens.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.deadline
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn listen(&mut self, sensed: &Sensed, now: Duration) {
        match sensed.button {
            Some(is_down) => self.button.handle_level(is_down, now),
            None => self.button.handle_timeout(now),
        }
        while let Some(event) = self.button.poll_event() {
            self.touched = now;
            match event {
                button::Event::Identify => {
                    self.identify_until = self.identify_until.is_none().then_some(now + IDENTIFY);
                }
                button::Event::SetUp => self.set_up_until = Some(now + SET_UP),
                _ => {}
            }
            if let Some(chime) = buzzer::answer(event) {
                self.chime = (chime, now);
            }
            self.events.push_back(Event::Button(event));
        }
        if let (Some(heat), Some(temperature)) = (&mut self.heat, sensed.temperature) {
            let is_too_warm = heat.observe(temperature);
            if is_too_warm != self.is_too_warm {
                let told = if is_too_warm { Event::TooWarm } else { Event::CooledDown };
                self.events.push_back(told(temperature));
            }
            self.is_too_warm = is_too_warm;
        }
    }

    fn shown_state(&self, condition: BoxState, seen: &Seen, hint: Hint) -> BoxState {
        match condition {
            BoxState::Off | BoxState::Stopping => condition,
            _ if seen.supply_is_lost => BoxState::Stopping,
            _ if matches!(hint, Hint::LetGo | Hint::Armed { .. } | Hint::Confirming { .. }) => BoxState::ResetArmed,
            _ if self.identify_until.is_some() => BoxState::Identify,
            _ if self.set_up_until.is_some() || matches!(hint, Hint::SetUp { .. }) => BoxState::SetUp,
            // Whoever put the stick in waits for this.
            _ => match (condition, seen.stick.as_ref()) {
                (BoxState::Well, Some(Stick::Runs(_))) => BoxState::StickRuns,
                (BoxState::Well | BoxState::Attention, Some(Stick::NotTaken(_))) => BoxState::StickRefused,
                _ => condition,
            },
        }
    }

    fn screen(
        &mut self,
        seen: &Seen,
        sensed: &Sensed,
        (condition, shown): (BoxState, BoxState),
        hint: Hint,
        now: Duration,
        deadlines: &mut Vec<Duration>,
    ) -> Screen {
        match shown {
            BoxState::Off => return Screen::Blank,
            _ if seen.supply_is_lost => return Screen::SUPPLY_LOST,
            BoxState::Stopping => return Screen::STOPPING,
            _ if hint != Hint::None => return Screen::Button { hint },
            BoxState::Identify => return Screen::Identify { name: seen.name.clone() },
            BoxState::Starting => return Screen::STARTING,
            _ => {}
        }
        let is_set_up = shown == BoxState::SetUp;
        let mut pages = Vec::new();
        // Whoever sets the box up wants these first, and so does whoever let it wait.
        pages.extend(seen.stick.clone().map(|stick| Screen::Stick { stick }));
        pages.extend(seen.enrolment_code.clone().map(|code| Screen::Code { code }));
        let address = seen.address.clone().filter(|_| is_set_up || seen.page_url.is_some());
        pages.extend(address.map(|address| Screen::Address { address, page_url: seen.page_url.clone() }));
        let alerts = self.alerts(seen, sensed);
        if !alerts.is_empty() && !is_set_up {
            pages.push(Screen::Alerts { alerts });
        }
        let status = Screen::status(seen, if is_set_up { BoxState::SetUp } else { condition }, sensed.temperature);
        // What was not asked for comes behind how everything is.
        let at = if is_set_up {
            pages.len()
        } else {
            usize::from(seen.stick.is_some()) + usize::from(seen.enrolment_code.is_some())
        };
        pages.insert(at, status);

        let words: Vec<&'static str> = pages.iter().map(Screen::word).collect();
        if self.pages.0 != words {
            self.pages = (words, now);
        }
        let turned = now.saturating_sub(self.pages.1).as_nanos() / PAGE.as_nanos();
        if pages.len() > 1 {
            deadlines.push(self.pages.1 + PAGE * (turned as u32).saturating_add(1));
        }
        pages.swap_remove((turned % pages.len() as u128) as usize)
    }

    fn alerts(&self, seen: &Seen, sensed: &Sensed) -> Vec<String> {
        let warm = sensed.temperature.filter(|_| self.is_too_warm);
        let warm = warm.map(|temperature| format!("too warm: {} C", temperature.degrees()));
        warm.into_iter().chain(seen.alerts.iter().cloned()).collect()
    }
}

/// The state of a layer in a word, for a log.
impl Face {
    /// What the LED of a layer stands for.
    pub fn word(&self, layer: Layer) -> &'static str {
        match layer {
            Layer::Box => self.box_state.word(),
            Layer::Analyzer => self.analyzer.word(),
            Layer::Hospital => self.hospital.word(),
        }
    }
}

#[cfg(test)]
mod tests;
