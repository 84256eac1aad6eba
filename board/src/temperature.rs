//! How warm the box is: sensors, and when that is too much.

use crate::seen::Temperature;
use embedded_hal::i2c::I2c;
use tmp1x2::{SlaveAddr, Tmp1x2, marker::mode};

/// A box that was too warm is no more when it is cooler than its limit by so much, in tenths of a degree.
const CALM: i32 = 50;

/// Something that knows how warm it is.
pub trait Thermometer: Send {
    /// How warm it is now.
    ///
    /// # Errors
    /// In words, what the bus said.
    fn read(&mut self) -> Result<Temperature, String>;
}

/// A TMP102 or TMP112.
pub struct Tmp<I2C>(Tmp1x2<I2C, mode::Continuous>);

impl<I2C: I2c> Tmp<I2C> {
    /// The one at this address, of the four there can be (0x48 to 0x4b).
    pub fn new(i2c: I2C, address: u8) -> Tmp<I2C> {
        Tmp(Tmp1x2::new(i2c, SlaveAddr::Alternative(address & 2 != 0, address & 1 != 0)))
    }

    /// The bus.
    pub fn into_i2c(self) -> I2C {
        self.0.destroy()
    }
}

impl<I2C: I2c + Send> Thermometer for Tmp<I2C>
where
    I2C::Error: Send,
{
    fn read(&mut self) -> Result<Temperature, String> {
        let degrees = self.0.read_temperature().map_err(|error| format!("{error:?}"))?;
        Ok(Temperature((degrees * 10.0).round() as i32))
    }
}

/// Whether the box is too warm. Pure.
#[derive(Debug)]
pub struct Heat {
    limit: Temperature,
    is_too_much: bool,
}

impl Heat {
    /// Above this it is.
    pub fn new(limit: Temperature) -> Heat {
        Heat { limit, is_too_much: false }
    }

    /// It is so warm now; says whether that is too much.
    pub fn observe(&mut self, now: Temperature) -> bool {
        let limit = if self.is_too_much { Temperature(self.limit.0 - CALM) } else { self.limit };
        self.is_too_much = now > limit;
        self.is_too_much
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
    use embedded_hal_mock::eh1::i2c::{Mock, Transaction};

    #[test]
    fn a_tmp102_is_read_at_its_address() {
        // 0x19 0x00: 25.0 degrees; 0xe7 0x00: -25.0; 0x29 0x50: 41.3125 (SBOS397, table 2).
        for (address, register, tenths) in
            [(0x48, [0x19, 0x00], 250), (0x49, [0xe7, 0x00], -250), (0x4a, [0x29, 0x50], 413), (0x4b, [0, 0], 0)]
        {
            let expected = [Transaction::write_read(address, vec![0], register.to_vec())];
            let mut sensor = Tmp::new(Mock::new(&expected), address);
            assert_eq!(sensor.read(), Ok(Temperature(tenths)));
            sensor.into_i2c().done();
        }
    }

    #[test]
    fn a_sensor_that_is_not_there_says_so() {
        let nobody = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);
        let gone = Transaction::write_read(0x48, vec![0], vec![0, 0]).with_error(nobody);
        let mut sensor = Tmp::new(Mock::new(&[gone]), 0x48);
        assert!(sensor.read().unwrap_err().contains("NoAcknowledge"));
        sensor.into_i2c().done();
    }

    #[test]
    fn a_temperature_that_hovers_is_told_once() {
        let mut heat = Heat::new(Temperature::of_degrees(70));
        let told = [690, 700, 701, 690, 655, 651, 650, 690, 710].map(|tenths| heat.observe(Temperature(tenths)));
        assert_eq!(told, [false, false, true, true, true, true, false, false, true]);
        assert_eq!([-52, -58, 44, 45].map(|tenths| Temperature(tenths).degrees()), [-5, -6, 4, 5]);
    }
}
