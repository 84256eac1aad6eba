//! Outputs and inputs: whatever is on or off. [`Out`] and [`In`] make one of any pin of `embedded-hal`.

use embedded_hal::digital::{InputPin, OutputPin};

/// Something that is switched on and off: a status LED, a buzzer, a relay, a mode pin.
pub trait Output: Send {
    /// Switches it.
    ///
    /// # Errors
    /// In words, what the system said.
    fn set(&mut self, on: bool) -> Result<(), String>;
}

/// Something that is on or off by itself: a button, the supply.
pub trait Input: Send {
    /// Which.
    ///
    /// # Errors
    /// In words, what the system said.
    fn is_on(&mut self) -> Result<bool, String>;
}

/// A pin that drives something.
pub struct Out<P> {
    pin: P,
    active_low: bool,
}

/// A pin that is driven by something.
pub struct In<P> {
    pin: P,
    active_low: bool,
}

impl<P> Out<P> {
    /// With `active_low`, on is the low level.
    pub fn new(pin: P, active_low: bool) -> Out<P> {
        Out { pin, active_low }
    }

    /// The pin.
    pub fn into_pin(self) -> P {
        self.pin
    }
}

impl<P> In<P> {
    /// With `active_low`, on is the low level.
    pub fn new(pin: P, active_low: bool) -> In<P> {
        In { pin, active_low }
    }

    /// The pin.
    pub fn into_pin(self) -> P {
        self.pin
    }
}

impl<P: OutputPin + Send> Output for Out<P> {
    fn set(&mut self, on: bool) -> Result<(), String> {
        self.pin.set_state((on != self.active_low).into()).map_err(|error| format!("{error:?}"))
    }
}

impl<P: InputPin + Send> Input for In<P> {
    fn is_on(&mut self) -> Result<bool, String> {
        self.pin.is_high().map(|high| high != self.active_low).map_err(|error| format!("{error:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_hal_mock::eh1::MockError;
    use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

    #[test]
    fn on_is_a_level_that_depends_on_the_wiring() {
        for active_low in [false, true] {
            let (on, off) = if active_low { (State::Low, State::High) } else { (State::High, State::Low) };
            let mut led = Out::new(Mock::new(&[Transaction::set(on), Transaction::set(off)]), active_low);
            led.set(true).unwrap();
            led.set(false).unwrap();
            led.into_pin().done();
            let mut button = In::new(Mock::new(&[Transaction::get(on), Transaction::get(off)]), active_low);
            assert!(button.is_on().unwrap() && !button.is_on().unwrap());
            button.into_pin().done();
        }
    }

    #[test]
    fn a_pin_that_does_not_obey_says_so() {
        let error = MockError::Io(std::io::ErrorKind::PermissionDenied);
        let mut led = Out::new(Mock::new(&[Transaction::set(State::High).with_error(error)]), false);
        assert!(led.set(true).unwrap_err().contains("PermissionDenied"));
        led.into_pin().done();
    }
}
