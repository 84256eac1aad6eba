//! The watchdog: something that starts the box anew when nobody says for a while that all goes on. `embedded-hal` has no
//! trait for it.

use std::io::Write;

/// What a watchdog of Linux wants to read before it is left alone (`Documentation/watchdog/watchdog-api.rst`).
const MAGIC_CLOSE: &[u8] = b"V";

/// Something that waits to be told that all goes on.
pub trait Watchdog: Send {
    /// All goes on.
    ///
    /// # Errors
    /// In words, what is in the way.
    fn feed(&mut self) -> Result<(), String>;

    /// It ends in order, and nobody is to be missed.
    ///
    /// # Errors
    /// In words, what is in the way.
    fn disarm(&mut self) -> Result<(), String>;
}

/// The service manager, by whoever can tell it (`sd_notify(3)`): it ends the process and starts it anew.
pub struct Notify<F>(pub F);

impl<F: FnMut() -> Result<(), String> + Send> Watchdog for Notify<F> {
    fn feed(&mut self) -> Result<(), String> {
        (self.0)()
    }

    /// The service manager hears of the stop itself.
    fn disarm(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A watchdog of Linux, such as `/dev/watchdog`: it resets the machine. Opening the file arms it.
pub struct Device<W>(pub W);

impl<W: Write + Send> Watchdog for Device<W> {
    fn feed(&mut self) -> Result<(), String> {
        // Anything but the magic letter will do.
        self.0.write_all(b"\0").and_then(|()| self.0.flush()).map_err(|error| error.to_string())
    }

    fn disarm(&mut self) -> Result<(), String> {
        self.0.write_all(MAGIC_CLOSE).and_then(|()| self.0.flush()).map_err(|error| error.to_string())
    }
}

/// One that only counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fake {
    /// How often it was told that all goes on.
    pub fed: u64,
    /// It is left alone.
    pub is_disarmed: bool,
}

impl Watchdog for Fake {
    fn feed(&mut self) -> Result<(), String> {
        self.fed += 1;
        self.is_disarmed = false;
        Ok(())
    }

    fn disarm(&mut self) -> Result<(), String> {
        self.is_disarmed = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds it twice and ends in order, as every user does.
    fn live(watchdog: &mut dyn Watchdog) -> Result<(), String> {
        watchdog.feed()?;
        watchdog.feed()?;
        watchdog.disarm()
    }

    #[test]
    fn each_back_end_is_fed_and_left_alone() {
        let mut fake = Fake::default();
        live(&mut fake).unwrap();
        assert_eq!(fake, Fake { fed: 2, is_disarmed: true });
        let mut written = Vec::new();
        live(&mut Device(&mut written)).unwrap();
        assert_eq!(written, b"\0\0V");
        let (mut told, count) = (0, |told: &mut i32| *told += 1);
        live(&mut Notify(|| {
            count(&mut told);
            Ok(())
        }))
        .unwrap();
        assert_eq!(told, 2);
    }

    #[test]
    fn a_watchdog_that_cannot_be_fed_says_so() {
        assert_eq!(live(&mut Notify(|| Err("nobody there".to_string()))), Err("nobody there".to_string()));
        assert!(Device(&mut [][..]).feed().is_err(), "nothing takes the byte");
    }
}
