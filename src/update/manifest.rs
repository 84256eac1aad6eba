//! What a release is, and whose word counts for it: TUF's idea, as far as one program for one box needs it. Pure.
//!
//! Two documents in the fleet's envelope ([`crate::fleet::envelope`]), each signed for a purpose of its own:
//!
//! - the **root**: which keys sign releases, and how many of them it takes. A new root has the next number and is
//!   signed by enough keys of the old one *and* enough of its own, so keys are changed without touching a box, and
//!   whoever has stolen fewer keys than it takes can do nothing.
//! - the **manifest**: one release, for every kind of machine: its length and SHA-256, the shape of its databases, from
//!   which release on it can be installed, and the **floor**: once this release is confirmed, nothing below it is ever
//!   installed again.
//!
//! Both expire, so that a box is not kept on an old release by being shown an old manifest for ever; what has expired
//! only a trusted clock can tell ([`crate::clock`]).

use super::record::{Schemas, Version};
use crate::fleet::envelope::{self, Operator, Purpose};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The version of both documents that is understood.
const FORMAT: u32 = 1;
/// Keys of a root at most.
const KEYS_MAX: usize = 16;
/// Kinds of machines in a manifest at most.
const TARGETS_MAX: usize = 16;
/// Kinds of operating systems in a manifest at most.
const SYSTEMS_MAX: usize = 16;
/// Longest release, in bytes.
pub const LENGTH_MAX: u64 = 512 << 20;
/// Longest bundle of an operating system, in bytes.
pub const BUNDLE_MAX: u64 = 4 << 30;
/// Longest version and longest `compatible` of an operating system, in bytes.
const SYSTEM_TEXT_MAX: usize = 128;
/// Longest address of a release, in bytes.
const URL_MAX: usize = 1024;

/// Whose signatures releases need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Format of the document.
    pub v: u32,
    /// Its number; the next root has the next number.
    pub version: u64,
    /// So many keys must have signed.
    pub threshold: usize,
    /// Not valid after.
    pub expires: Timestamp,
    /// The keys.
    pub keys: Vec<Key>,
}

/// A key that signs releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its name, unique in a root.
    pub kid: String,
    /// Ed25519 public key in base64 (32 bytes).
    pub key: String,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of the document.
    pub v: u32,
    /// The release.
    #[serde(with = "version_text")]
    pub version: Version,
    /// The oldest release that can be replaced by it.
    #[serde(with = "version_text")]
    pub min_version: Version,
    /// Once it is confirmed no release below this one is installed.
    #[serde(with = "version_text")]
    pub floor: Version,
    /// Not valid after.
    pub expires: Timestamp,
    /// Number of the schema it gives the journal.
    pub journal_schema: u64,
    /// Number of the schema it gives the fleet's file.
    pub fleet_schema: u64,
    /// The program, for each kind of machine; none when only an operating system comes, for boxes that run the release.
    pub targets: Vec<Target>,
    /// The operating system, for each kind that RAUC tells apart; none when only the release comes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub systems: Vec<System>,
}

/// The program for one kind of machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The kind, as the box says it in its birth, for example "aarch64".
    pub arch: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256 in lower-case hexadecimal digits.
    pub sha256: String,
    /// Where it is fetched, over HTTPS; over HTTP where the network is fenced, since what counts is the hash.
    pub url: String,
}

/// An operating system: a bundle that RAUC installs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// `compatible` of RAUC's system.conf and of the bundle.
    pub compatible: String,
    /// Version that the bundle's own manifest names.
    pub version: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256 of the bundle in lower-case hexadecimal digits.
    pub sha256: String,
    /// Where it is fetched.
    pub url: String,
}

mod version_text {
    use super::Version;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(version)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom("a version is three numbers, such as 1.2.3"))
    }
}

/// Why a release is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Fewer keys of the root signed it than it takes.
    #[error("not signed by as many keys of the root as it takes")]
    Threshold,
    /// Signed, and nothing this version understands.
    #[error("not a document that this version understands")]
    Unknown,
    /// The root is not the one behind the box's own, or not signed by both.
    #[error("the new root does not follow the one this box has")]
    RootOrder,
    /// Its time, or the root's, is over.
    #[error("no longer valid")]
    Expired,
    /// The box does not know what time it is.
    #[error("the box does not know what time it is")]
    NoClock,
    /// Below the floor.
    #[error("older than what may be installed on this box any more")]
    BelowFloor,
    /// It runs already.
    #[error("the release that runs")]
    Same,
    /// The box runs a release from which this one cannot be reached.
    #[error("needs a newer release to be installed first")]
    TooFar,
    /// No program for this kind of machine.
    #[error("holds no program for this kind of machine")]
    OtherMachine,
    /// It brings an operating system alone, for boxes that run another release.
    #[error("brings an operating system for another release than the one that runs")]
    OtherRelease,
    /// It brings an operating system, and RAUC does not say that this box has two slots for one.
    #[error("brings an operating system, and this box has no slots for one: `rauc status` tells")]
    NoSlots,
    /// It would not read what this box has kept.
    #[error("its databases are of an older shape than those of this box")]
    OlderSchema,
    /// Another update is under way beyond the point where it could be dropped.
    #[error("another update is on trial")]
    Busy,
    /// No such release lies ready.
    #[error("no release of that version lies ready")]
    NotStaged,
    /// With that release lies another operating system than was named, or one and none was named.
    #[error("another operating system lies ready with that release than the one that was named")]
    OtherSystem,
    /// This box has no `[update]`, or was not started by the launcher.
    #[error("this box does not update itself")]
    NotHere,
    /// The disk fails.
    #[error("the disk fails")]
    Disk,
}

impl Refusal {
    /// Its word on the bus.
    pub fn word(self) -> &'static str {
        match self {
            Refusal::Threshold => "threshold",
            Refusal::Unknown => "unknown",
            Refusal::RootOrder => "root-order",
            Refusal::Expired => "expired",
            Refusal::NoClock => "no-clock",
            Refusal::BelowFloor => "below-floor",
            Refusal::Same => "same",
            Refusal::TooFar => "too-far",
            Refusal::OtherMachine => "other-machine",
            Refusal::OtherRelease => "other-release",
            Refusal::NoSlots => "no-slots",
            Refusal::OlderSchema => "older-schema",
            Refusal::Busy => "busy",
            Refusal::NotStaged => "not-staged",
            Refusal::OtherSystem => "other-system",
            Refusal::NotHere => "not-here",
            Refusal::Disk => "disk",
        }
    }
}

impl Root {
    /// A root that a person put on the box: signed by as many of its own keys as it says.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn first(bytes: &[u8]) -> Result<Root, Refusal> {
        let claimed = Root::claimed(bytes)?;
        claimed.signed(bytes, Purpose::Root)?;
        Ok(claimed)
    }

    /// The root behind this one.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn next(&self, bytes: &[u8]) -> Result<Root, Refusal> {
        // The old keys speak first: only then is anything of the document believed.
        self.signed(bytes, Purpose::Root)?;
        let next = Root::first(bytes)?;
        if next.version == self.version + 1 { Ok(next) } else { Err(Refusal::RootOrder) }
    }

    /// What the document says before anybody is known to have signed it, in bounds.
    fn claimed(bytes: &[u8]) -> Result<Root, Refusal> {
        let document = envelope::unproven(bytes).map_err(|_| Refusal::Unknown)?;
        let root: Root = serde_json::from_slice(&document).map_err(|_| Refusal::Unknown)?;
        let kids: BTreeSet<&str> = root.keys.iter().map(|key| key.kid.as_str()).collect();
        let keys: BTreeSet<&str> = root.keys.iter().map(|key| key.key.trim()).collect();
        let are_keys = root.operators(Purpose::Root).iter().all(|operator| operator.public_key().is_some());
        // One key under two names would count twice.
        let is_sound = root.v == FORMAT
            && root.keys.len() <= KEYS_MAX
            && (kids.len(), keys.len()) == (root.keys.len(), root.keys.len())
            && are_keys
            && (1..=root.keys.len()).contains(&root.threshold);
        if is_sound { Ok(root) } else { Err(Refusal::Unknown) }
    }

    fn operators(&self, purpose: Purpose) -> Vec<Operator> {
        let operator = |key: &Key| Operator { kid: key.kid.clone(), key: key.key.clone(), may: [purpose].into() };
        self.keys.iter().map(operator).collect()
    }

    /// The document, signed by as many keys as it takes.
    fn signed(&self, bytes: &[u8], purpose: Purpose) -> Result<Vec<u8>, Refusal> {
        let signed = envelope::open(bytes, purpose, &self.operators(purpose)).map_err(|_| Refusal::Threshold)?;
        if signed.signers.len() >= self.threshold { Ok(signed.document) } else { Err(Refusal::Threshold) }
    }

    /// A release that these keys vouch for.
    ///
    /// # Errors
    /// [`Refusal::Threshold`], [`Refusal::Unknown`].
    pub fn manifest(&self, bytes: &[u8]) -> Result<Manifest, Refusal> {
        let manifest: Manifest =
            serde_json::from_slice(&self.signed(bytes, Purpose::Update)?).map_err(|_| Refusal::Unknown)?;
        let is_sound = manifest.v == FORMAT
            && manifest.targets.len() <= TARGETS_MAX
            && manifest.floor <= manifest.version
            && manifest.targets.iter().all(Target::is_sound)
            && manifest.systems.len() <= SYSTEMS_MAX
            && manifest.systems.iter().all(System::is_sound);
        if is_sound { Ok(manifest) } else { Err(Refusal::Unknown) }
    }
}

impl Manifest {
    /// What a document says before anybody is known to have signed it; none when it is no manifest.
    pub fn unproven(bytes: &[u8]) -> Option<Manifest> {
        serde_json::from_slice(&envelope::unproven(bytes).ok()?).ok()
    }

    /// Whether an operating system of this SHA-256 comes with it.
    pub fn names_system(&self, sha256: &str) -> bool {
        self.systems.iter().any(|system| system.sha256 == sha256)
    }
}

impl Target {
    fn is_sound(&self) -> bool {
        is_file(&self.url, &self.sha256) && (1..=LENGTH_MAX).contains(&self.length)
    }
}

impl System {
    fn is_sound(&self) -> bool {
        let is_text = |text: &str| (1..=SYSTEM_TEXT_MAX).contains(&text.len());
        let is_plain = self.compatible.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        let is_version = self.version.bytes().all(|b| b.is_ascii_graphic());
        let is_named = is_text(&self.compatible) && is_text(&self.version) && is_plain && is_version;
        is_named && is_file(&self.url, &self.sha256) && (1..=BUNDLE_MAX).contains(&self.length)
    }
}

/// An address and a hash as they are written here.
fn is_file(url: &str, sha256: &str) -> bool {
    let digits = sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_http = url.starts_with("https://") || url.starts_with("http://");
    let is_plain = url.len() <= URL_MAX && url.bytes().all(|b| b.is_ascii_graphic());
    digits && sha256.len() == 64 && is_http && is_plain
}

/// What the box is.
#[derive(Debug, Clone, Copy)]
pub struct Me<'a> {
    /// The release that runs.
    pub version: Version,
    /// The kind of machine.
    pub arch: &'a str,
    /// Nothing below this is installed.
    pub floor: Version,
    /// The shapes of its databases.
    pub schemas: Schemas,
}

/// Whether a release is for this box, and its program; none when that release runs and only an operating system may come.
/// `now` is its clock when that is trusted.
///
/// # Errors
/// [`Refusal`]: nothing of it is fetched.
pub fn judge<'m>(
    manifest: &'m Manifest,
    root: &Root,
    me: Me<'_>,
    now: Option<Timestamp>,
) -> Result<Option<&'m Target>, Refusal> {
    let now = now.ok_or(Refusal::NoClock)?;
    if now > root.expires || now > manifest.expires {
        return Err(Refusal::Expired);
    }
    if manifest.version < me.floor {
        return Err(Refusal::BelowFloor);
    }
    if manifest.version == me.version {
        return if manifest.systems.is_empty() { Err(Refusal::Same) } else { Ok(None) };
    }
    if manifest.targets.is_empty() {
        return Err(Refusal::OtherRelease);
    }
    if me.version < manifest.min_version {
        return Err(Refusal::TooFar);
    }
    if manifest.journal_schema < me.schemas.journal || manifest.fleet_schema < me.schemas.fleet {
        return Err(Refusal::OlderSchema);
    }
    manifest.targets.iter().find(|target| target.arch == me.arch).map(Some).ok_or(Refusal::OtherMachine)
}

/// The operating system of this kind; none when the one that runs is of its version, or the manifest brings none.
///
/// # Errors
/// [`Refusal::OtherMachine`]: half of what was signed is never installed.
pub fn system<'m>(manifest: &'m Manifest, compatible: &str, runs: Option<&str>) -> Result<Option<&'m System>, Refusal> {
    if manifest.systems.is_empty() {
        return Ok(None);
    }
    let system = manifest.systems.iter().find(|system| system.compatible == compatible);
    let system = system.ok_or(Refusal::OtherMachine)?;
    Ok(Some(system).filter(|system| runs != Some(&*system.version)))
}

#[cfg(test)]
mod tests;
