//! What a release says of itself: to whoever asks it (`afferent update about`), and to whoever has only its file, as a
//! machine of another kind cannot run it. There a mark stands, one of a program:
//!
//! ```text
//! afferent-release 1.2.0 aarch64 17 2;     release, kind of machine, schemas of the journal and of the fleet's file
//! ```

use super::record::Schemas;
use super::{built_as, schemas};
use crate::{fleet, journal};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What the mark begins and ends with.
const HEAD: &str = "afferent-release ";
const END: u8 = b';';
/// Longest mark, bytes.
const MARK_MAX: usize = 128;

/// The mark of this program.
static MARK: [u8; MARK_MAX] = mark();

/// What a release says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The version it was built as.
    pub version: String,
    /// The kind of machine.
    pub arch: String,
    /// Number of the journal's schema.
    pub journal_schema: u64,
    /// Number of the fleet's schema.
    pub fleet_schema: u64,
}

impl About {
    /// This program.
    pub fn this() -> About {
        // Nobody else refers to it, and the linker leaves out what nobody does.
        std::hint::black_box(&MARK);
        let Schemas { journal, fleet } = schemas();
        About {
            version: built_as(),
            arch: std::env::consts::ARCH.to_string(),
            journal_schema: journal,
            fleet_schema: fleet,
        }
    }

    /// The program in a file; none when it has no mark.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn in_file(program: &Path) -> std::io::Result<Option<About>> {
        let bytes = std::fs::read(program)?;
        let marks = bytes.windows(HEAD.len()).enumerate().filter(|(_, window)| *window == HEAD.as_bytes());
        // Where it is looked for, as here, its head stands alone.
        Ok(marks.map(|(at, _)| &bytes[at + HEAD.len()..]).find_map(About::of_mark))
    }

    /// That of a mark behind its head.
    fn of_mark(bytes: &[u8]) -> Option<About> {
        let bytes = &bytes[..bytes.len().min(MARK_MAX)];
        let mark = std::str::from_utf8(&bytes[..bytes.iter().position(|byte| *byte == END)?]).ok()?;
        let mut words = mark.split(' ').map(str::to_string);
        let (version, arch) = (words.next()?, words.next()?);
        let mut number = || words.next()?.parse().ok();
        Some(About { version, arch, journal_schema: number()?, fleet_schema: number()? })
    }
}

const fn mark() -> [u8; MARK_MAX] {
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let mark = put(([0; MARK_MAX], 0), HEAD.as_bytes());
    let mark = put(put(mark, version), b" ");
    let mark = put(put(mark, std::env::consts::ARCH.as_bytes()), b" ");
    let mark = put(put_number(mark, journal::SCHEMA), b" ");
    put(put_number(mark, fleet::store::SCHEMA), &[END]).0
}

const fn put((mut mark, mut at): ([u8; MARK_MAX], usize), bytes: &[u8]) -> ([u8; MARK_MAX], usize) {
    let mut from = 0;
    while from < bytes.len() {
        mark[at] = bytes[from];
        (at, from) = (at + 1, from + 1);
    }
    (mark, at)
}

const fn put_number(mark: ([u8; MARK_MAX], usize), number: u64) -> ([u8; MARK_MAX], usize) {
    let mark = if number > 9 { put_number(mark, number / 10) } else { mark };
    put(mark, &[b'0' + (number % 10) as u8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_the_mark_of_what_it_says_and_other_files_have_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("program");
        let of = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            About::in_file(&file).unwrap()
        };
        let other = About { version: "1.20.3".into(), arch: "aarch64".into(), journal_schema: 170, fleet_schema: 2 };
        let mark = "\u{0}afferent-release aarch64 afferent-release 1.20.3 aarch64 170 2;\u{0}";
        assert_eq!(of(mark.as_bytes()), Some(other));
        assert_eq!(of(&[b"#!/bin/sh\n#", &MARK[..]].concat()), Some(About::this()));
        for none in ["", "afferent-release ", "afferent-release 1.2.0 x86_64 17;", "afferent-release 1.2.0 x86_64 a 2;"]
        {
            assert_eq!(of(none.as_bytes()), None, "{none}");
        }
    }
}
