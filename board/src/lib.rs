//! # afferent-board
//!
//! The box itself: what it shows on LEDs, buzzer and display, and what it is told by its button, its sensors and its
//! supply. A box without any of it, such as a plain computer, is as good: nothing of the data path waits for this crate.
//!
//! ```text
//! what the box knows + what pins say + time -> what is shown, what is asked
//! ```
//!
//! The machines are pure: levels and time go in, patterns, screens, events and the next deadline come out. Time is a
//! [`std::time::Duration`] since any moment that stays the same. What drives pins is generic over the traits of
//! `embedded-hal` 1.0, and boards differ by their [`definition`], which names pins; a revision is a new file.
//!
//! Rooms: [`pattern`] is how something blinks or beeps, [`led`] which state has which pattern, [`button`] what a press
//! means, [`definition`] what a board has, [`pin`] outputs and inputs, [`seen`] what the box knows, [`screen`] what the
//! display shows.

pub mod button;
pub mod definition;
pub mod led;
pub mod pattern;
pub mod pin;
pub mod screen;
pub mod seen;
