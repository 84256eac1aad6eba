//! The configuration that a box shall run, as the desk says it: a signed document ([`super::envelope`]) with the text of
//! the configuration, and with the drivers and rules that it names.
//!
//! ```json
//! {"v": 1, "tenant": "acme", "gateway": "bench-1", "rev": 7, "config": "[[link]]...",
//!  "files": {"drivers/acme-x/driver.toml": {"sha256": "<hex>", "text": "..."}}, "replaces": "<hex>"}
//! ```
//!
//! The document is compressed (zlib, RFC 1950) before it is signed, since the broker lets 256 KiB through at once.
//!
//! | what | how |
//! |---|---|
//! | for another box, or another tenant's | refused |
//! | a revision seen before, same bytes | nothing happens |
//! | a revision seen before, other bytes | refused, and an alarm: two desks, or somebody with a key |
//! | a revision below the highest seen, before a factory reset as well | refused |
//! | fewer operators have signed it than the box asks for (`config_signatures`) | refused |
//! | the file on the box was edited since | refused, unless `replaces` is the digest of what stands there |
//! | it takes away a destination for which messages wait, or a link with a connection, with files that wait, or over whose serial port an instrument was just heard | refused |
//! | it gives a link another name, and results wait in its trial | refused |
//!
//! It needs no clock that anybody vouches for: revisions only go up. What the box needs to start and to be reached is not
//! for the desk to change and stays what the box's own file says: `gateway.data`, `gateway.clock_trusted`, `[journal]`
//! and `[fleet]`.
//!
//! Rooms: [`machine`] decides what happens to a revision, purely; [`ledger`] is what must not be forgotten of it;
//! [`tree`] is the configuration on disk, and which one a box runs; [`probe`] tries one before it runs; `health.rs` says
//! what is well around its trial; `tried.rs` is how it runs in that, so that no result is lost when it goes back;
//! `adoption.rs` does what the machine says.

pub(super) mod adoption;
mod health;
pub mod ledger;
pub mod machine;
pub mod probe;
mod sound;
pub mod tree;
mod tried;

use super::command::Me;
use super::envelope::{ENVELOPE_MAX, Signed};
use super::telemetry::Digest;
use crate::config::check::name_is_usable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest document before it is compressed, in bytes.
const DOCUMENT_MAX: usize = 4 << 20;
/// Files in a document, and parts of the path of one.
const FILES_MAX: usize = 256;
const DEPTH_MAX: usize = 4;
/// The version of the document that is understood.
const VERSION: u32 = 1;
/// How hard it is compressed, of 10.
const LEVEL: u8 = 9;
/// The name under which the text of the configuration lies beside its files.
pub const TEXT_FILE: &str = "afferent.toml";

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// Version of the document.
    pub v: u32,
    /// For which tenant's box.
    pub tenant: String,
    /// For which box.
    pub gateway: String,
    /// Which revision: larger than every one before.
    pub rev: u64,
    /// The configuration, without what is the box's own.
    pub config: String,
    /// Files that it names, by their paths beside it.
    #[serde(default)]
    pub files: BTreeMap<String, File>,
    /// Digest of the box's own file, where that was edited and is to be replaced all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// A file of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// SHA-256 of the text, in hexadecimal.
    pub sha256: String,
    /// Its content.
    pub text: String,
}

impl File {
    /// A file with this content.
    pub fn of(text: String) -> File {
        File { sha256: Digest::of(text.as_bytes()).to_string(), text }
    }
}

/// Why a revision does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Not a document that this version knows.
    #[error("it is not a configuration that this version knows")]
    Unknown,
    /// For another box.
    #[error("it is for another box")]
    NotMine,
    /// A later one was seen.
    #[error("a later revision was seen")]
    Older,
    /// A later one was seen before the box was reset.
    #[error("a later revision was seen before this box was reset")]
    BeforeReset,
    /// Another document has this revision.
    #[error("another document has this revision")]
    OtherContent,
    /// Fewer operators signed than the box asks for.
    #[error("it takes the signatures of more operators")]
    TooFewSignatures,
    /// The file on the box was edited since.
    #[error("the file on the box was edited since, and the document does not say that it replaces it")]
    Drift,
    /// A later one came before this one ran.
    #[error("a later revision came")]
    Superseded,
    /// The text is wrong, or something it names cannot work.
    #[error("the check finds faults")]
    Faults,
    /// An address or a serial port cannot be opened.
    #[error("an address or a port of a link cannot be opened")]
    PortTaken,
    /// A destination that is new or changed cannot be reached.
    #[error("a new or changed destination cannot be reached")]
    Unreachable,
    /// Messages wait for a destination that it does not name.
    #[error(
        "messages wait for a destination that it takes away or gives another name: keep that until they are delivered, or \
         are discarded (afferent journal hold)"
    )]
    Undelivered,
    /// Somebody is connected to a link that it does not name.
    #[error(
        "somebody is connected to a link that it takes away, or files wait there: disconnect the instrument first, or keep \
         the link"
    )]
    LinkInUse,
    /// It names a link anew in whose trial results wait.
    #[error(
        "it gives a link another name and says otherwise what goes where: what came meanwhile would be of no link when the \
         box goes back; send one, then the other"
    )]
    LinkRenamed,
    /// The disk did not take it.
    #[error("the disk did not take it")]
    Disk,
    /// Parts of it did not start.
    #[error("a part of it did not start")]
    NotStarted,
    /// In its trial the broker was not there, or what the box is told did not reach it.
    #[error("the broker was lost")]
    BusLost,
    /// In its trial a destination that had been well was not.
    #[error("a destination that had been well was lost")]
    DestinationLost,
    /// In its trial a link that had been well was not.
    #[error("a link that had been well was lost")]
    LinkLost,
    /// The program ended each time it was looked at, before it ran.
    #[error("the program ended several times before it ran")]
    NeverTried,
    /// The program ended twice before it was confirmed.
    #[error("the program ended twice before it was confirmed")]
    NeverConfirmed,
}

impl Why {
    /// Its word on the bus and in the store.
    pub fn word(self) -> String {
        serde_json::to_value(self).ok().and_then(|word| word.as_str().map(str::to_string)).unwrap_or_default()
    }

    /// The reason of a word.
    pub fn of(word: &str) -> Option<Why> {
        serde_json::from_value(serde_json::Value::String(word.to_string())).ok()
    }
}

/// What the box knows of revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// The highest one seen, and the digest of its document.
    pub highest: Option<(u64, Digest)>,
    /// The same of what the box was before it was reset. That very one may come again, for it is new to this box.
    pub before_reset: Option<(u64, Digest)>,
}

/// What is done with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Keep it, then see whether it can run.
    Accept,
    /// It is known.
    Same,
}

/// The bytes that are signed.
pub fn write(desired: &Desired) -> Vec<u8> {
    let json = serde_json::to_vec(desired).unwrap_or_default();
    miniz_oxide::deflate::compress_to_vec_zlib(&json, LEVEL)
}

/// Reads a signed document.
///
/// # Errors
/// [`Why::Unknown`]; then nothing of it can be relied on but that it was signed.
pub fn read(signed: &Signed) -> Result<Desired, Why> {
    read_bytes(&signed.document)
}

/// As [`read`], of bytes that were read before.
///
/// # Errors
/// [`Why::Unknown`].
pub fn read_bytes(document: &[u8]) -> Result<Desired, Why> {
    if document.len() > ENVELOPE_MAX {
        return Err(Why::Unknown);
    }
    let json =
        miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(document, DOCUMENT_MAX).map_err(|_| Why::Unknown)?;
    let desired: Desired = serde_json::from_slice(&json).map_err(|_| Why::Unknown)?;
    let is_whole = |(path, file): (&String, &File)| is_path(path) && File::of(file.text.clone()) == *file;
    let is_sound = desired.v == VERSION
        && desired.rev > 0
        && i64::try_from(desired.rev).is_ok()
        && desired.files.len() <= FILES_MAX
        && desired.files.iter().all(is_whole);
    if is_sound { Ok(desired) } else { Err(Why::Unknown) }
}

/// True for a path that stays below the folder it is put in and takes no name that is ours.
pub fn is_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let is_name = |part: &&str| name_is_usable(part) && !part.starts_with('.');
    parts.len() <= DEPTH_MAX && parts.iter().all(is_name) && !tree::OURS.contains(&parts[0])
}

/// What is done with a document whose signatures hold; `has_enough` says that they are as many as the box asks for.
///
/// # Errors
/// [`Why`]: it never runs.
pub fn judge(desired: &Desired, digest: Digest, me: Me<'_>, known: Known, has_enough: bool) -> Result<Verdict, Why> {
    if desired.tenant != me.tenant || desired.gateway != me.gateway {
        return Err(Why::NotMine);
    }
    match known.highest {
        Some((rev, seen)) if rev == desired.rev => match seen == digest {
            true => Ok(Verdict::Same),
            false => Err(Why::OtherContent),
        },
        Some((rev, _)) if rev > desired.rev => Err(Why::Older),
        _ if known.before_reset.is_some_and(|(rev, _)| rev > desired.rev) => Err(Why::BeforeReset),
        _ if known.before_reset.is_some_and(|(rev, seen)| rev == desired.rev && seen != digest) => {
            Err(Why::OtherContent)
        }
        _ if !has_enough => Err(Why::TooFewSignatures),
        _ => Ok(Verdict::Accept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn desired(rev: u64) -> Desired {
        let driver = File::of("[identity]".to_string());
        Desired {
            v: 1,
            tenant: "acme".to_string(),
            gateway: "bench-1".to_string(),
            rev,
            config: "[[link]]".repeat(100),
            files: BTreeMap::from([("drivers/x/driver.toml".to_string(), driver)]),
            replaces: None,
        }
    }

    fn signed(document: Vec<u8>) -> Signed {
        Signed { document, signers: BTreeSet::from(["ann".to_string()]) }
    }

    #[test]
    fn a_document_is_read_as_it_was_written_and_files_stay_in_their_folder() {
        assert_eq!(read(&signed(write(&desired(7)))), Ok(desired(7)));
        for path in ["../x", "/etc/x", "a//b", "a/./b", ".x", "a/b/c/d/e", "", "document", "base", "afferent.toml"] {
            let files = BTreeMap::from([(path.to_string(), File::of(String::new()))]);
            assert_eq!(read(&signed(write(&Desired { files, ..desired(7) }))), Err(Why::Unknown), "{path}");
        }
        let mut damaged = desired(7);
        damaged.files.values_mut().for_each(|file| file.text.push('x'));
        assert_eq!(read(&signed(write(&damaged))), Err(Why::Unknown), "not the bytes its digest is of");
        for other in [Desired { v: 2, ..desired(7) }, desired(0), desired(u64::MAX)] {
            assert_eq!(read(&signed(write(&other))), Err(Why::Unknown));
        }
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b' '; DOCUMENT_MAX + 1], 1);
        assert_eq!(read(&signed(bomb)), Err(Why::Unknown));
    }

    #[test]
    fn revisions_only_go_up() {
        let me = Me { tenant: "acme", gateway: "bench-1" };
        let digest = |desired: &Desired| Digest::of(&write(desired));
        let known = Known { highest: Some((7, digest(&desired(7)))), before_reset: None };
        let judged = |desired: &Desired| judge(desired, digest(desired), me, known, true);
        assert_eq!(judged(&desired(8)), Ok(Verdict::Accept));
        assert_eq!(judged(&desired(7)), Ok(Verdict::Same));
        assert_eq!(judged(&Desired { config: String::new(), ..desired(7) }), Err(Why::OtherContent));
        assert_eq!(judged(&desired(6)), Err(Why::Older));
        assert_eq!(judged(&Desired { gateway: "bench-2".to_string(), ..desired(8) }), Err(Why::NotMine));
        assert_eq!(judged(&Desired { tenant: "other".to_string(), ..desired(8) }), Err(Why::NotMine));
        let first = |has_enough| judge(&desired(1), digest(&desired(1)), me, Known::default(), has_enough);
        assert_eq!((first(true), first(false)), (Ok(Verdict::Accept), Err(Why::TooFewSignatures)));
        assert_eq!(judge(&desired(7), digest(&desired(7)), me, known, false), Ok(Verdict::Same), "it was taken before");
    }

    #[test]
    fn a_box_that_was_reset_gets_what_is_current_and_nothing_older() {
        let me = Me { tenant: "acme", gateway: "bench-1" };
        let digest = |desired: &Desired| Digest::of(&write(desired));
        let known = Known { highest: None, before_reset: Some((7, digest(&desired(7)))) };
        let judged = |desired: &Desired| judge(desired, digest(desired), me, known, true);
        assert_eq!(judged(&desired(6)), Err(Why::BeforeReset));
        assert_eq!(judged(&desired(7)), Ok(Verdict::Accept), "the broker kept it, and it is new to this box");
        assert_eq!(judged(&Desired { config: String::new(), ..desired(7) }), Err(Why::OtherContent));
        assert_eq!(judged(&desired(8)), Ok(Verdict::Accept));
        let taken = Known { highest: known.before_reset, ..known };
        assert_eq!(judge(&desired(7), digest(&desired(7)), me, taken, true), Ok(Verdict::Same));
    }

    #[test]
    fn a_reason_is_read_as_it_is_written() {
        assert_eq!((Why::BusLost.word().as_str(), Why::of("bus-lost")), ("bus-lost", Some(Why::BusLost)));
        assert_eq!(Why::of("whatever"), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0_usize..400) {
            let _ = read_bytes(&bytes);
            let mut document = write(&desired(7));
            let at = at % document.len();
            document[at] = *bytes.first().unwrap_or(&0);
            let _ = read_bytes(&document);
        }
    }
}
