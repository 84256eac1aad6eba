//! What the display shows: 128 x 64 pixels, on or off. A [`Screen`] is what is to be seen; drawing it is a pure function
//! of that. `goldens/` has a picture of each.
//!
//! Rooms: [`qr`] is the code that a telephone reads.

pub mod qr;

use crate::button::Hint;
use crate::led::{BoxState, Heard};
use crate::seen::{Seen, Stick, Temperature};
use embedded_graphics::Drawable;
use embedded_graphics::mono_font::MonoFont;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::{FONT_6X10, FONT_10X20};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{DrawTarget, Point, Primitive, Size};
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};

/// Pixels across and down.
pub const WIDTH: u32 = 128;
/// See [`WIDTH`].
pub const HEIGHT: u32 = 64;
/// Letters of a line in the small font, and in the large one.
const SMALL: usize = 21;
const LARGE: usize = 12;
/// Height of a line in the small font with its gap, of a title, and of a line in the large font.
const LINE: i32 = 12;
const TITLE: i32 = 12;
const LARGE_LINE: i32 = 22;
/// Lines of an address beside its code.
const ADDRESS_LINES: usize = 4;
/// Lines of why a stick is not taken.
const WHY_LINES: usize = 4;
/// Alerts that have room.
const ALERTS: usize = 4;

/// What is to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Screen {
    /// Nothing: the display is dark.
    Blank,
    /// How everything is.
    Status {
        /// Name of the box.
        name: String,
        /// Its address.
        address: Option<String>,
        /// How the box is.
        box_state: BoxState,
        /// Whether analyzers are heard.
        analyzer: Heard,
        /// Whether the hospital is heard.
        hospital: Heard,
        /// How warm it is.
        temperature: Option<Temperature>,
    },
    /// What a person should look at.
    Alerts {
        /// Each in a few words.
        alerts: Vec<String>,
    },
    /// Where the box is in the network, and the code of its page.
    Address {
        /// Its address.
        address: String,
        /// Its page.
        page_url: Option<String>,
    },
    /// What became of a configuration on a stick.
    Stick {
        /// See there.
        stick: Stick,
    },
    /// The code under which the box asks to be let in.
    Code {
        /// As it is read aloud.
        code: String,
    },
    /// Which box this is.
    Identify {
        /// Its name.
        name: String,
    },
    /// What holding the button on, or letting go, would do.
    Button {
        /// See there.
        hint: Hint,
    },
    /// The box starts or stops, or the supply is gone.
    Notice {
        /// In large letters.
        title: &'static str,
        /// Below it.
        lines: [&'static str; 2],
    },
}

impl Screen {
    /// How everything is.
    pub fn status(seen: &Seen, box_state: BoxState, temperature: Option<Temperature>) -> Screen {
        let Seen { analyzer, hospital, .. } = *seen;
        let (name, address) = (seen.name.clone(), seen.address.clone());
        Screen::Status { name, address, box_state, analyzer, hospital, temperature }
    }

    /// The box starts.
    pub const STARTING: Screen = Screen::Notice { title: "Starting", lines: ["No results yet.", ""] };
    /// The box stops in order.
    pub const STOPPING: Screen = Screen::Notice { title: "Stopping", lines: ["Results wait at the", "instruments."] };
    /// The supply is gone.
    pub const SUPPLY_LOST: Screen = Screen::Notice { title: "No supply", lines: ["What came is safe.", "Stopping."] };

    /// Its name, for a log.
    pub fn word(&self) -> &'static str {
        match self {
            Screen::Blank => "blank",
            Screen::Status { .. } => "status",
            Screen::Alerts { .. } => "alerts",
            Screen::Address { .. } => "address",
            Screen::Stick { .. } => "stick",
            Screen::Code { .. } => "code",
            Screen::Identify { .. } => "identify",
            Screen::Button { .. } => "button",
            Screen::Notice { .. } => "notice",
        }
    }

    /// Draws it over whatever was there.
    ///
    /// # Errors
    /// What the target says.
    pub fn draw<D: DrawTarget<Color = BinaryColor>>(&self, target: &mut D) -> Result<(), D::Error> {
        target.clear(BinaryColor::Off)?;
        let mut page = Page { target };
        match self {
            Screen::Blank => Ok(()),
            Screen::Status { name, address, box_state, analyzer, hospital, temperature } => {
                let degrees = temperature.map(|t| format!("{} C", t.degrees())).unwrap_or_default();
                page.title(name, &degrees)?;
                page.small(0, TITLE + 3, address.as_deref().unwrap_or("no network"))?;
                let rows = [
                    ("Box", box_words(*box_state)),
                    ("Analyzers", heard_words(*analyzer, "silent")),
                    ("Hospital", heard_words(*hospital, "no answer")),
                ];
                for (at, (what, how)) in rows.into_iter().enumerate() {
                    let y = TITLE + 16 + at as i32 * LINE;
                    page.small(0, y, what)?;
                    page.small(60, y, how)?;
                }
                Ok(())
            }
            Screen::Alerts { alerts } => {
                page.title("Please look", &alerts.len().to_string())?;
                // With one more than has room, the last line says how many more there are.
                let shown = if alerts.len() > ALERTS { ALERTS - 1 } else { alerts.len() };
                for (at, alert) in alerts.iter().take(shown).enumerate() {
                    page.small(0, TITLE + 3 + at as i32 * LINE, alert)?;
                }
                if shown < alerts.len() {
                    let more = format!("and {} more", alerts.len() - shown);
                    page.small(0, TITLE + 3 + shown as i32 * LINE, &more)?;
                }
                Ok(())
            }
            Screen::Address { address, page_url } => page.address(address, page_url.as_deref()),
            Screen::Stick { stick: Stick::Runs(rev) } => {
                page.title("Stick", "")?;
                page.small_centred(TITLE + 8, &format!("Revision {rev} runs."))?;
                page.small_centred(TITLE + 8 + LINE, "Pull the stick out.")
            }
            Screen::Stick { stick: Stick::NotTaken(why) } => {
                page.title("Stick: not taken", "")?;
                for (at, line) in broken(why, SMALL).iter().take(WHY_LINES).enumerate() {
                    page.small(0, TITLE + 3 + at as i32 * LINE, line.trim_end())?;
                }
                Ok(())
            }
            Screen::Code { code } => {
                page.title("Enrolment code", "")?;
                let lines = broken(code, LARGE);
                let y = if lines.len() > 1 { TITLE + 2 } else { TITLE + 13 };
                for (at, line) in lines.iter().take(2).enumerate() {
                    page.centred(&FONT_10X20, y + at as i32 * (LARGE_LINE - 2), line)?;
                }
                page.small_centred(HEIGHT as i32 - 10, "Tell it to the desk")
            }
            Screen::Identify { name } => {
                page.fill(0, HEIGHT)?;
                page.black(&FONT_10X20, 8, "Here I am")?;
                page.black(&FONT_6X10, 40, name)
            }
            Screen::Button { hint } => page.button(*hint),
            Screen::Notice { title, lines } => {
                page.centred(&FONT_10X20, 6, title)?;
                page.small_centred(34, lines[0])?;
                page.small_centred(34 + LINE, lines[1])
            }
        }
    }
}

/// How the box is, in a word that fits.
fn box_words(state: BoxState) -> &'static str {
    match state {
        BoxState::Well => "well",
        BoxState::Attention => "please look",
        BoxState::Fault => "NO RESULTS",
        other => other.word(),
    }
}

fn heard_words(heard: Heard, lost: &'static str) -> &'static str {
    match heard {
        Heard::None => "none",
        Heard::Waiting => "waiting",
        Heard::Heard => "heard",
        Heard::Lost => lost,
    }
}

/// What is drawn on.
struct Page<'a, D> {
    target: &'a mut D,
}

impl<D: DrawTarget<Color = BinaryColor>> Page<'_, D> {
    /// A white bar with a name and something at its right.
    fn title(&mut self, left: &str, right: &str) -> Result<(), D::Error> {
        self.fill(0, TITLE as u32)?;
        let right = fit(right, SMALL);
        let room = if right.is_empty() { SMALL } else { SMALL - 1 - right.len() };
        self.text(&FONT_6X10, Point::new(1, 1), &fit(left, room), BinaryColor::Off)?;
        let x = WIDTH as i32 - 1 - 6 * right.len() as i32;
        self.text(&FONT_6X10, Point::new(x, 1), &right, BinaryColor::Off)
    }

    fn address(&mut self, address: &str, page_url: Option<&str>) -> Result<(), D::Error> {
        let code = page_url.and_then(qr::Code::of);
        let Some(code) = code else {
            self.title("Address", "")?;
            let lines = page_url.into_iter().chain([address]).flat_map(|text| broken(text, SMALL));
            for (at, line) in lines.take(4).enumerate() {
                self.small(0, TITLE + 4 + at as i32 * LINE, &line)?;
            }
            return Ok(());
        };
        // Dark modules on a lit panel, which is the quiet zone as well.
        Rectangle::new(Point::zero(), Size::new(HEIGHT, HEIGHT))
            .into_styled(PrimitiveStyle::with_fill(BinaryColor::On))
            .draw(self.target)?;
        for (at, size) in code.squares(HEIGHT) {
            Rectangle::new(at, Size::new(size, size))
                .into_styled(PrimitiveStyle::with_fill(BinaryColor::Off))
                .draw(self.target)?;
        }
        let x = HEIGHT as i32 + 4;
        self.small(x, 0, "Scan, or:")?;
        let shown = page_url.unwrap_or(address);
        let shown = shown.strip_prefix("https://").or(shown.strip_prefix("http://")).unwrap_or(shown);
        let lines = broken(shown.trim_end_matches('/'), 10);
        for (at, line) in lines.iter().take(ADDRESS_LINES).enumerate() {
            let is_cut = at + 1 == ADDRESS_LINES && lines.len() > ADDRESS_LINES;
            let line = if is_cut { format!("{line}..........") } else { line.clone() };
            self.small(x, LINE + 4 + at as i32 * LINE, &line)?;
        }
        Ok(())
    }

    fn button(&mut self, hint: Hint) -> Result<(), D::Error> {
        let (title, lines, left) = match hint {
            Hint::None => return Ok(()),
            Hint::Holding { left_s } => ("Button", ["Hold on for set-up", ""], Some(left_s)),
            Hint::SetUp { left_s: Some(left_s) } => {
                ("Let go: set-up", ["Hold on for the", "factory reset"], Some(left_s))
            }
            Hint::SetUp { left_s: None } => ("Let go: set-up", ["", ""], None),
            Hint::LetGo => ("FACTORY RESET", ["Let go, then hold it", "for 5 s to confirm."], None),
            Hint::Armed { left_s } => ("FACTORY RESET", ["Hold it for 5 s to", "erase everything."], Some(left_s)),
            Hint::Confirming { left_s } => {
                ("FACTORY RESET", ["Let go to keep all.", "Erases everything in"], Some(left_s))
            }
        };
        self.title(title, "")?;
        self.small(0, TITLE + 4, lines[0])?;
        self.small(0, TITLE + 4 + LINE, lines[1])?;
        match left {
            Some(left_s) => self.centred(&FONT_10X20, HEIGHT as i32 - 22, &format!("{left_s} s")),
            None => Ok(()),
        }
    }

    fn fill(&mut self, y: i32, height: u32) -> Result<(), D::Error> {
        let bar = Rectangle::new(Point::new(0, y), Size::new(WIDTH, height));
        bar.into_styled(PrimitiveStyle::with_fill(BinaryColor::On)).draw(self.target)
    }

    fn small(&mut self, x: i32, y: i32, text: &str) -> Result<(), D::Error> {
        let room = (WIDTH as i32 - x) / 6;
        // A letter has its gap at its right.
        self.text(&FONT_6X10, Point::new(x + 1, y), &fit(text, room.unsigned_abs() as usize), BinaryColor::On)
    }

    fn small_centred(&mut self, y: i32, text: &str) -> Result<(), D::Error> {
        self.centred(&FONT_6X10, y, text)
    }

    fn centred(&mut self, font: &MonoFont<'_>, y: i32, text: &str) -> Result<(), D::Error> {
        self.centre(font, y, text, BinaryColor::On)
    }

    /// Dark on a lit ground.
    fn black(&mut self, font: &MonoFont<'_>, y: i32, text: &str) -> Result<(), D::Error> {
        self.centre(font, y, text, BinaryColor::Off)
    }

    fn centre(&mut self, font: &MonoFont<'_>, y: i32, text: &str, colour: BinaryColor) -> Result<(), D::Error> {
        let width = font.character_size.width;
        let text = fit(text, (WIDTH / width) as usize);
        let x = (WIDTH - width * text.len() as u32) / 2;
        self.text(font, Point::new(x as i32, y), &text, colour)
    }

    fn text(&mut self, font: &MonoFont<'_>, at: Point, text: &str, colour: BinaryColor) -> Result<(), D::Error> {
        Text::with_baseline(text, at, MonoTextStyle::new(font, colour), Baseline::Top).draw(self.target).map(drop)
    }
}

/// The fonts have ASCII alone. What is too long ends in two dots.
fn fit(text: &str, room: usize) -> String {
    let ascii = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let letters: Vec<char> = text.chars().map(ascii).collect();
    if letters.len() <= room {
        return letters.into_iter().collect();
    }
    letters.iter().take(room.saturating_sub(2)).chain(&['.', '.']).collect()
}

/// Lines of at most `room` letters, broken behind a blank, `-`, `.`, `:` or `/` where that can be.
fn broken(text: &str, room: usize) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let (mut lines, mut rest) = (Vec::new(), letters.as_slice());
    while rest.len() > room {
        let breaks = |c: &char| matches!(c, ' ' | '-' | '.' | ':' | '/');
        let at = rest[..room].iter().rposition(breaks).map_or(room, |at| at + 1);
        lines.push(rest[..at].iter().collect());
        rest = &rest[at..];
    }
    lines.push(rest.iter().collect());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_where_a_reader_would() {
        assert_eq!(broken("7H2K-9QWD-0M3X-VT5A", LARGE), ["7H2K-9QWD-", "0M3X-VT5A"]);
        assert_eq!(broken("192.168.100.200", 10), ["192.168.", "100.200"]);
        assert_eq!(broken("abcdefghijkl", 10), ["abcdefghij", "kl"]);
        assert_eq!(broken("", 10), [""]);
    }

    #[test]
    fn what_has_no_room_or_no_letter_is_seen_to_be_so() {
        assert_eq!(fit("bench-1", 7), "bench-1");
        assert_eq!(fit("bench-10", 7), "bench..");
        assert_eq!(fit("Zürich\n", 10), "Z?rich?");
        assert_eq!(fit("abc", 1), "..");
    }
}
