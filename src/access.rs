//! Who may see the console of a box, and what they may do there.
//!
//! ```text
//! afferent console user add  -> invitation, good once and for a day -> password, second factor -> account
//! name and password          -> a session that may only show the second factor -> a session
//! ```
//!
//! Whoever makes an account knows neither password nor second factor of it: they hand an invitation over ([`Code`]), of
//! which only the digest is kept. The secret of the telephone lies in the file as it is, for root and the service alone.
//!
//! What decides is pure: time, random bytes and the text of the file come in. Only [`AccountsFile`] touches the disk.
//!
//! - **Passwords** ([`password`]) are argon2id. A name that nobody has costs the same time and gets the same answer as a
//!   wrong password, and so does an account that has to wait: an answer says nothing about who has an account.
//! - **The second factor** ([`totp`]) is RFC 6238, each step good once. The step is on the disk before anybody is let in,
//!   so that a code that was seen is worth nothing, also after a power cut. A recovery code stands in for it once.
//! - **Failures** ([`Door`]) make whoever fails wait, each time for at most a quarter of an hour: wrong passwords by
//!   account and address, so that a name alone keeps nobody out who comes from elsewhere (whoever comes through ssh
//!   comes from the box itself, and shares that address); behind fifty of an account all addresses together, but those
//!   from which somebody got in with it while this process ran; wrong codes by account, as only who knows the password
//!   can show them, and apart from what who is in shows. A try that does not count makes no wait longer. What is
//!   remembered is bounded, however many there are.
//! - **Sessions** ([`Door`]) live in the memory of the process that serves the console, and end with what they were
//!   begun on: an account that is disabled, removed, or has another role or password. What somebody changes of their own
//!   account they change only of the one that their session was begun on.
//!
//! A backup carries none of it ([`crate::backup`]): on another box an older file would let people in who were put out since,
//! and codes that were used count again. A factory reset erases it.

mod account;
mod code;
mod door;
mod file;
pub mod password;
pub mod totp;
mod tries;

pub use account::{Account, AccountAt, Accounts, RECOVERY_CODES, Refusal, Role, Stamp};
pub use code::Code;
pub(crate) use code::hash;
pub use door::{Door, Draft, Fresh, Passed, Said, Session, Stage};
pub(crate) use file::hold_still;
pub use file::{AccessError, AccountsFile, NAMES, random};
pub(crate) use tries::whose;

/// Accounts of a box; whoever has more has somebody else look after them.
pub const ACCOUNTS_MAX: usize = 64;
