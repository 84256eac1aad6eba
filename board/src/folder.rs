//! A board without hardware: a folder with a file for each part. Any definition can be tried with it on any machine, and
//! tests look at what a running box shows.
//!
//! An output's file holds `on` or `off`; so does an input's, which somebody else writes; `temperature` holds degrees,
//! `rtc` Unix seconds, and an input that is not there is at rest. `display.pbm` is the picture, and `watchdog` says how
//! often that was fed. A part whose file holds `absent` is not there.

use crate::definition;
use crate::display::Display;
use crate::parts::{Absent, Hardware};
use crate::pin::{Input, Output};
use crate::screen::{HEIGHT, Screen, WIDTH};
use crate::seen::Temperature;
use crate::temperature::Thermometer;
use crate::watchdog::Watchdog;
use embedded_graphics::framebuffer::{Framebuffer, buffer_size};
use embedded_graphics::image::GetPixel;
use embedded_graphics::pixelcolor::raw::{BigEndian, RawU1};
use embedded_graphics::pixelcolor::{BinaryColor, PixelColor};
use embedded_graphics::prelude::Point;
use std::path::{Path, PathBuf};

/// How warm it is where no file says otherwise, and what the clock says.
const DEGREES: &str = "25";
const RTC_S: &str = "1800000000";

/// The folder.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder, should it not be there.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(path: &Path) -> std::io::Result<Folder> {
        std::fs::create_dir_all(path)?;
        Ok(Folder(path.to_path_buf()))
    }

    fn file(&self, part: &str) -> Result<File, Absent> {
        let file = File(self.0.join(part));
        match file.read("").as_str() {
            "absent" => Err((format!("{} says so", file.0.display()), "take that file away".to_string())),
            _ => Ok(file),
        }
    }

    fn output_file(&self, part: &str) -> Result<Box<dyn Output>, Absent> {
        let mut file = self.file(part)?;
        file.set(false).map_err(|what| (what, "the folder has to be writable".to_string()))?;
        Ok(Box::new(file))
    }
}

impl Hardware for Folder {
    fn led(&mut self, led: &definition::Led) -> Result<Box<dyn Output>, Absent> {
        self.output_file(&format!("led-{}", led.layer.get_ref().word()))
    }

    fn output(&mut self, part: &str, _: &str, _: bool) -> Result<Box<dyn Output>, Absent> {
        self.output_file(part)
    }

    fn input(&mut self, part: &str, _: &str, _: bool, rest: bool) -> Result<Box<dyn Input>, Absent> {
        Ok(Box::new(Level { file: self.file(part)?, rest }))
    }

    fn display(&mut self, _: &definition::Display) -> Result<Box<dyn Display>, Absent> {
        Ok(Box::new(self.file("display.pbm")?))
    }

    fn thermometer(&mut self, _: &definition::Temperature) -> Result<Box<dyn Thermometer>, Absent> {
        Ok(Box::new(self.file("temperature")?))
    }

    fn rtc(&mut self, _: &definition::Rtc) -> Result<i64, Absent> {
        let said = self.file("rtc")?.read(RTC_S);
        said.parse().map_err(|_| ("this is no number of seconds".to_string(), "write one into `rtc`".to_string()))
    }

    fn watchdog(&mut self, _: &definition::Watchdog) -> Result<Box<dyn Watchdog>, Absent> {
        Ok(Box::new(Fed { file: self.file("watchdog")?, times: 0 }))
    }
}

/// A watchdog's file, and how often that was fed.
struct Fed {
    file: File,
    times: u64,
}

/// A part's file.
struct File(PathBuf);

impl File {
    fn read(&self, otherwise: &str) -> String {
        std::fs::read_to_string(&self.0).map_or(otherwise.to_string(), |text| text.trim().to_string())
    }

    /// Whoever reads it sees the old or the new.
    fn write(&self, text: &str) -> Result<(), String> {
        let mut aside = self.0.clone().into_os_string();
        aside.push(".new");
        let written = std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, &self.0));
        written.map_err(|error| format!("{}: {error}", self.0.display()))
    }
}

impl Output for File {
    fn set(&mut self, on: bool) -> Result<(), String> {
        self.write(if on { "on\n" } else { "off\n" })
    }
}

/// An input's file.
struct Level {
    file: File,
    rest: bool,
}

impl Input for Level {
    fn is_on(&mut self) -> Result<bool, String> {
        let rest = if self.rest { "on" } else { "off" };
        match self.file.read(rest).as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            other => Err(format!("`{other}` is neither `on` nor `off`")),
        }
    }
}

impl Thermometer for File {
    fn read(&mut self) -> Result<Temperature, String> {
        let degrees = File::read(self, DEGREES).parse();
        degrees.map(Temperature::of_degrees).map_err(|error| format!("these are no whole degrees: {error}"))
    }
}

impl Watchdog for Fed {
    fn feed(&mut self) -> Result<(), String> {
        self.times += 1;
        self.file.write(&format!("fed {}\n", self.times))
    }

    fn disarm(&mut self) -> Result<(), String> {
        self.file.write("disarmed\n")
    }
}

impl Display for File {
    fn show(&mut self, screen: &Screen, _: bool) -> Result<(), String> {
        const BYTES: usize = buffer_size::<BinaryColor>(WIDTH as usize, HEIGHT as usize);
        type Raw = <BinaryColor as PixelColor>::Raw;
        let _: Option<RawU1> = None::<Raw>;
        let mut picture =
            Framebuffer::<BinaryColor, _, BigEndian, { WIDTH as usize }, { HEIGHT as usize }, BYTES>::new();
        let Ok(()) = screen.draw(&mut picture);
        // Plain PBM (netpbm): 1 is black, and lit is white.
        let mut text = format!("P1\n# {}\n{WIDTH} {HEIGHT}\n", screen.word());
        for y in 0..HEIGHT as i32 {
            let row = (0..WIDTH as i32).map(|x| picture.pixel(Point::new(x, y)).is_some_and(BinaryColor::is_on));
            text.extend(row.map(|is_lit| if is_lit { '0' } else { '1' }));
            text.push('\n');
        }
        self.write(&text)
    }
}
