//! # afferent-board
//!
//! The box itself: what it shows on LEDs, buzzer and display, and what it is told by its button, its sensors and its
//! supply. A box without any of it, such as a plain computer, is as good: nothing of the data path waits for this crate.
//!
//! ```text
//! Seen (what the box knows) + Sensed (what pins say) + time -> panel -> Face (what is shown), Event (what is asked)
//! ```
//!
//! The machines are pure: levels and time go in, patterns, screens, events and the next deadline come out. Time is a
//! [`std::time::Duration`] since any moment that stays the same. What drives pins is generic over the traits of
//! `embedded-hal` 1.0, and boards differ by their [`definition`], which names pins; a revision is a new file.
//!
//! Pure: [`pattern`] is how something blinks or beeps, [`led`] which state has which pattern, [`button`] what a press
//! means, [`supply`] when it is lost, [`buzzer`] what is heard, [`screen`] what the display shows, [`panel`] all of it
//! together; [`seen`] is what the box knows, [`definition`] what a board has.
//!
//! Not pure: [`pin`], [`display`], [`temperature`] and [`watchdog`] are drivers, [`parts`] finds the parts of a board and
//! turns it, in a folder of files ([`folder`]) or on a machine (`linux`, behind the feature of that name). [`apart`] is a
//! part on a slow bus, for which nothing else waits; [`guard`] is what must not wait for any of it: the supply and the
//! hardware watchdog.

pub mod apart;
pub mod button;
pub mod buzzer;
pub mod definition;
pub mod display;
pub mod folder;
pub mod guard;
pub mod led;
#[cfg(feature = "linux")]
pub mod linux;
pub mod panel;
pub mod parts;
pub mod pattern;
pub mod pin;
pub mod screen;
pub mod seen;
pub mod supply;
pub mod temperature;
pub mod watchdog;
