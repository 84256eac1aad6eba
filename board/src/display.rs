//! Displays: what shows a [`Screen`].

use crate::screen::Screen;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_hal::i2c::I2c;
use ssd1306::mode::{BufferedGraphicsMode, DisplayConfig};
use ssd1306::prelude::{Brightness, DisplayRotation, DisplaySize128x64, I2CInterface};
use ssd1306::{I2CDisplayInterface, Ssd1306};

/// Something that shows a screen.
pub trait Display: Send {
    /// Shows it, with less light where that is `dim`.
    ///
    /// # Errors
    /// In words, what the bus said. The next call begins anew.
    fn show(&mut self, screen: &Screen, dim: bool) -> Result<(), String>;
}

/// An SSD1306 of 128 x 64 pixels on I2C.
pub struct Oled<I2C> {
    chip: Ssd1306<I2CInterface<I2C>, DisplaySize128x64, BufferedGraphicsMode<DisplaySize128x64>>,
    /// What it was told of its light; none before it was set up.
    dim: Option<bool>,
}

impl<I2C: I2c> Oled<I2C> {
    /// The one at this address.
    pub fn new(i2c: I2C, address: u8, upside_down: bool) -> Oled<I2C> {
        let rotation = if upside_down { DisplayRotation::Rotate180 } else { DisplayRotation::Rotate0 };
        let interface = I2CDisplayInterface::new_custom_address(i2c, address);
        Oled { chip: Ssd1306::new(interface, DisplaySize128x64, rotation).into_buffered_graphics_mode(), dim: None }
    }

    fn draw(&mut self, screen: &Screen, dim: bool) -> Result<(), display_interface::DisplayError> {
        if self.dim.is_none() {
            self.chip.init()?;
        }
        if self.dim != Some(dim) {
            self.chip.set_brightness(if dim { Brightness::DIMMEST } else { Brightness::NORMAL })?;
        }
        DrawTarget::clear(&mut self.chip, BinaryColor::Off)?;
        screen.draw(&mut self.chip)?;
        self.chip.flush()
    }
}

impl<I2C: I2c + Send> Display for Oled<I2C> {
    fn show(&mut self, screen: &Screen, dim: bool) -> Result<(), String> {
        let drawn = self.draw(screen, dim);
        // One that was away has forgotten how it was set up.
        self.dim = drawn.is_ok().then_some(dim);
        drawn.map_err(|error| format!("{error:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::{HEIGHT, WIDTH};
    use embedded_hal::i2c::{ErrorKind, ErrorType, NoAcknowledgeSource, Operation};
    use embedded_hal_mock::eh1::i2c::{Mock, Transaction};
    use std::sync::{Arc, Mutex};

    /// A bus that keeps what was written, to be read as the chip does.
    #[derive(Clone, Default)]
    struct Tape(Arc<Mutex<Vec<Written>>>);

    /// To which address, and what.
    type Written = (u8, Vec<u8>);

    impl ErrorType for Tape {
        type Error = ErrorKind;
    }

    impl I2c for Tape {
        fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
            for operation in operations {
                match operation {
                    Operation::Write(bytes) => self.0.lock().unwrap().push((address, bytes.to_vec())),
                    Operation::Read(_) => return Err(ErrorKind::Other),
                }
            }
            Ok(())
        }
    }

    #[test]
    fn the_chip_gets_the_picture() {
        let tape = Tape::default();
        let mut oled = Oled::new(tape.clone(), 0x3d, false);
        oled.show(&Screen::STARTING, false).unwrap();
        let written = tape.0.lock().unwrap().clone();
        assert!(written.iter().all(|(address, _)| *address == 0x3d));
        // Commands behind 0x00: charge pump on (8D 14), display on (AF); data behind 0x40 (datasheet, 8.1.5.2).
        let commands: Vec<&[u8]> = written.iter().filter(|(_, b)| b[0] == 0).map(|(_, bytes)| &bytes[1..]).collect();
        assert!(commands.contains(&&[0x8d, 0x14][..]) && commands.contains(&&[0xaf][..]), "{commands:02x?}");
        let data: Vec<u8> = written.iter().filter(|(_, b)| b[0] == 0x40).flat_map(|(_, b)| b[1..].to_vec()).collect();
        let mut picture = embedded_graphics_simulator::SimulatorDisplay::<BinaryColor>::new(
            embedded_graphics::prelude::Size::new(WIDTH, HEIGHT),
        );
        Screen::STARTING.draw(&mut picture).unwrap();
        // A byte is eight pixels down, the lowest bit at the top; a page is 128 of them.
        let lit = |x: i32, y: i32| data[(y / 8 * 128 + x) as usize] & (1 << (y % 8)) != 0;
        assert_eq!(data.len(), 1024);
        for (x, y) in (0..HEIGHT as i32).flat_map(|y| (0..WIDTH as i32).map(move |x| (x, y))) {
            let at = embedded_graphics::prelude::Point::new(x, y);
            assert_eq!(lit(x, y), picture.get_pixel(at).is_on(), "{x}, {y}");
        }
    }

    #[test]
    fn a_display_that_is_not_there_says_so_and_is_set_up_when_it_comes() {
        let gone = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);
        // The first of the chip's commands: display off.
        let first = Transaction::write(0x3c, vec![0, 0xae]).with_error(gone);
        let mut i2c = Mock::new(&[first.clone(), first]);
        let mut oled = Oled::new(i2c.clone(), 0x3c, false);
        assert!(oled.show(&Screen::Blank, false).is_err());
        assert!(oled.show(&Screen::Blank, false).is_err(), "it begins anew");
        i2c.done();
    }
}
