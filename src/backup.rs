//! Backup of a box, and its restore onto another one: a box dies or is swapped, and five minutes later the next one takes
//! what the analyzers send, under the same names.
//!
//! ```text
//! box runs -> read twice until nothing changes in between -> sealed ([`sealed`]) -> FILE, on a stick or fetched
//! FILE -> opened -> judged, nothing changed -> the intent is on disk (no way back) -> erased, put, floors -> history
//! ```
//!
//! ## What is in it
//!
//! | what | why |
//! |---|---|
//! | the configuration file as it is | comments and all |
//! | every file it names ([`named`]) | authorities, certificates and keys, passwords, rules, site drivers with their revisions |
//! | the revision of the desk that runs | as it was signed, with the digest of the file in whose place it runs |
//! | what is known of revisions and commands ([`Outlives`]) | no command of before counts again, no older revision |
//! | below what no release is installed, and the newest root of releases | the same |
//! | what links remember of files that stay in their folders | or every result in them comes twice |
//! | who the box is to its fleet | only for a box that takes the place of one that is dead |
//! | names and sockets of serial ports, addresses ([`ports`], [`network`]) | to find the same place on the new box |
//!
//! ## What is not
//!
//! Nothing of a patient: not the journal, no image, no capture. An old box that still runs delivers what it has; the disk
//! of a dead one is read with `afferent journal export`, for which the journal's key lies beside it, or is a file that the
//! configuration names, which is here. Nor how far an order feed was read: the new journal has none of its orders, so they
//! are asked for anew. Nor who may see the box's console ([`crate::access`]): people are invited anew, so that nobody who was
//! put out since comes back, and no code that was used counts again. Nor what only people look at.
//!
//! ## Two boxes at a time
//!
//! Somebody may start the old box again. On the bus one name is one connection, so the new one asks the desk to be let in
//! with a key of its own (`afferent desk enrol accept ... --replace` bars the old certificate), unless whoever restores
//! says that the old one is dead. What goes out is named by its content and moment ([`crate::mapping::message_id`]), never
//! by a count in the journal alone, so that two boxes never give one id to two messages. EHRs find a result again by names
//! made of the gateway's ([`crate::mapping`]), and times of instruments are read in its zone: a machine of another name
//! or zone, where the configuration says neither, is refused.
//!
//! ## Killed anywhere
//!
//! The intent is one file beside the configuration, whole or not there: it is what is to be put, everything. Until it is
//! there nothing is changed; behind it the same is done again until it is done ([`restore::finish`]), by the next
//! `afferent restore`, which the service runs as root before it starts the gateway, and no gateway starts on half of it.

pub mod gather;
pub mod named;
pub mod network;
pub mod ports;
pub mod restore;
pub mod sealed;
pub mod secret;

use crate::fleet::outlives::Outlives;
use crate::journal::{JournalError, OpenError, Undelivered};
use network::Interface;
use ports::Socket;
use secret::Kind;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};
use zeroize::Zeroizing;

/// Largest file, and most in all, in bytes.
const FILE_MAX: u64 = 16 << 20;
const ALL_MAX: usize = 64 << 20;
/// How hard it is compressed, of 10.
const LEVEL: u8 = 6;

/// What a file of a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The configuration.
    Configuration,
    /// Named by it.
    Named,
    /// Who the box is to its fleet, at a place that the configuration names.
    Identity,
    /// The same, of a box that enrolled: below the data directory.
    Enrolled,
    /// Kept by a link, below the data directory.
    Memory,
    /// The signed document of the revision that runs.
    Document,
    /// The digest of the file in whose place it runs.
    Base,
    /// Below what no release is installed, and the newest root, in the folder of releases.
    Release,
    /// How the network was set up, to look at: never put anywhere.
    Network,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// What it is.
    pub role: Role,
    /// Where it was; below the data directory or the folder of releases for what lies there.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// Whose it was, where that had a name.
    pub user: Option<String>,
    /// The same of its group.
    pub group: Option<String>,
    /// How long it is.
    pub length: usize,
}

/// What a backup says of itself and the box.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// When it was made, Unix milliseconds by the box's clock.
    pub made_ms: i64,
    /// Somebody vouched for that clock.
    pub is_made_surely: bool,
    /// The release that made it.
    pub version: String,
    /// The kind of machine it was made for.
    pub arch: String,
    /// What the machine says that it is.
    pub hardware: Option<String>,
    /// The gateway's name, as it was in effect.
    pub gateway: String,
    /// The zone of the instruments' clocks, as it was in effect, where it has a name.
    pub time_zone: Option<String>,
    /// How far that is from UTC in winter and summer, in seconds.
    pub offsets_s: [i32; 2],
    /// Where the configuration was.
    pub config: PathBuf,
    /// Where the data directory was, and whose.
    pub data: PathBuf,
    /// Its owner.
    pub data_user: Option<String>,
    /// The folder of releases.
    pub releases: Option<PathBuf>,
    /// Tenant and name on the bus, where the box had one.
    pub place: Option<(String, String)>,
    /// Which revision of the desk ran.
    pub revision: Option<u64>,
    /// The file was edited since that came.
    pub is_edited: bool,
    /// It asks for its certificate itself.
    pub enrols: bool,
    /// What must not be forgotten of the fleet.
    pub outlives: Outlives,
    /// Files that the configuration names and that were not there.
    pub absent: Vec<PathBuf>,
    /// Credentials of systemd that it names (`credential:NAME`), which are no files of the box.
    #[serde(default)]
    pub credentials: Vec<PathBuf>,
    /// The serial ports that links name, as they were found.
    pub sockets: Vec<Socket>,
    /// The network interfaces.
    pub interfaces: Vec<Interface>,
    /// The files, in the order in which their bytes follow.
    pub files: Vec<File>,
}

/// A backup, open.
#[derive(Clone)]
pub struct Contents {
    /// What it says.
    pub manifest: Manifest,
    /// The bytes of each file.
    pub bodies: Vec<Zeroizing<Vec<u8>>>,
}

/// Why there is no backup, or no restore. Nothing was changed, but for what [`BackupError::Begun`] says.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
    /// It is another file.
    #[error("this is no backup of afferent")]
    NoBackup,
    /// A newer program wrote it.
    #[error("a newer afferent wrote this backup (format {found}, this one knows {known}): install that release first")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// The end is missing.
    #[error("this backup is cut short: it has {there} of {wanted} bytes; take the whole file, or another copy")]
    Cut {
        /// What is there.
        there: u64,
        /// What should be.
        wanted: u64,
    },
    /// It is not as it was written.
    #[error("this backup was altered or damaged since it was made; take another copy")]
    Altered,
    /// It does not open.
    #[error("this is not the {0} of this backup")]
    WrongSecret(Kind),
    /// It is no recovery key.
    #[error("this is no recovery key: a letter is wrong or missing; it is seven groups of four")]
    Slip,
    /// It is too short.
    #[error("a passphrase has at least {0} characters")]
    Short(usize),
    /// A file cannot be read or written.
    #[error("{}: {source}", file.display())]
    Disk {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is far too large.
    #[error("{}: larger than {} MiB, which no file of a configuration is", .0.display(), FILE_MAX >> 20)]
    TooLarge(PathBuf),
    /// All of it is.
    #[error("what the configuration names is more than {} MiB", ALL_MAX >> 20)]
    TooMuch,
    /// A place that depends on where somebody stands, or leads out of where it is said to be.
    #[error("{}: a backup holds files by absolute paths without `..`; name it so in the configuration", .0.display())]
    Place(PathBuf),
    /// Its name cannot be written down.
    #[error("the name of a file is no text, so the backup cannot say what it is: rename it ({0})")]
    Unwritable(serde_json::Error),
    /// They change while they are read.
    #[error("the files of this box change all the time; what changed last was {}: try again", .0.display())]
    Restless(PathBuf),
    /// The configuration is not one for this program.
    #[error("this release of afferent cannot run the configuration in the backup:\n{0}")]
    Config(String),
    /// The desk's revision, which ran on the old box, cannot run here.
    #[error(
        "the desk's revision that ran on the old box cannot run here as it is: {0}; --without-revision leaves it out: the \
         box's own file runs until the desk sends another"
    )]
    Revision(String),
    /// The configuration that is here cannot be read.
    #[error(
        "the configuration that is here cannot be read, so nobody knows which results would be lost:\n{0}\nmend it, or \
         move it away when nothing of this box is wanted"
    )]
    Here(String),
    /// This box has its journal elsewhere.
    #[error(
        "this box has its journal in {}, and the old one had it in {}: forget this box first (afferent reset --factory)",
        here.display(),
        there.display()
    )]
    OtherData {
        /// This box's data directory.
        here: PathBuf,
        /// The old one's.
        there: PathBuf,
    },
    /// Another bench's driver would read results.
    #[error("there is a driver here that the old box did not have, and results would be read by it: remove {}", .0.display())]
    Stranger(PathBuf),
    /// A folder or a device is where a file belongs.
    #[error("{} is no regular file, and one of the backup belongs there: move it away", .0.display())]
    InTheWay(PathBuf),
    /// A link would open another analyzer's line.
    #[error("{0}")]
    Line(String),
    /// The journal cannot be opened, or a gateway runs on it.
    #[error("{0}; stop the gateway first (systemctl stop afferent)")]
    Open(OpenError),
    /// The journal is here and does not open.
    #[error("there is a journal in {} that cannot be looked into ({why}): nobody knows what would be lost", data.display())]
    Unknown {
        /// The data directory.
        data: PathBuf,
        /// Why.
        why: OpenError,
    },
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Something is here that went nowhere.
    #[error(
        "{found} on this box went nowhere yet: let them be delivered, or settle them (afferent journal hold), or throw \
         them away (afferent reset --factory)"
    )]
    Undelivered {
        /// What.
        found: Undelivered,
    },
    /// A release is on trial.
    #[error("a release is on trial on this box: wait for its end (afferent update status)")]
    OnTrial,
    /// A reset has begun.
    #[error("a factory reset of this box has begun: let it end first (afferent reset --factory)")]
    Resetting,
    /// EHRs would not know the results again.
    #[error(
        "the old box called itself `{was}`, and this one would be `{is}`: corrections would not find what they correct; \
         where the configuration gives no name: hostnamectl set-hostname {was}"
    )]
    OtherName {
        /// The old box's.
        was: String,
        /// This one's.
        is: String,
    },
    /// Times of instruments would be read wrongly.
    #[error(
        "the old box read its instruments' clocks in {was}, and this one would in {is}; where the configuration gives no \
         zone: timedatectl set-timezone {was}"
    )]
    OtherZone {
        /// The old box's.
        was: String,
        /// This one's.
        is: String,
    },
    /// Commands of before might count again.
    #[error(
        "nobody vouches for this box's clock, and from now on is when commands of its operators count: let a time server or \
         its battery clock set it"
    )]
    NoClock,
    /// By this box's clock the backup is not made yet.
    #[error(
        "the backup was made at {made}, which by this box's clock is still to come: set this one, or say --its-clock-was-wrong"
    )]
    Ahead {
        /// When that was.
        made: jiff::Timestamp,
    },
    /// What is said of ports cannot be.
    #[error("{0}")]
    Ports(String),
    /// It was begun and is not done.
    #[error("a restore was interrupted, and this box is half another one: sudo afferent restore --config {}", .0.display())]
    Interrupted(PathBuf),
    /// Behind the point of no return.
    #[error(
        "the restore has begun and could not be ended ({0}): put that right and run `sudo afferent restore` again; no \
         gateway starts before"
    )]
    Begun(Box<BackupError>),
}

impl Contents {
    /// As bytes, compressed.
    ///
    /// # Errors
    /// [`BackupError::Unwritable`].
    pub fn write(&self) -> Result<Zeroizing<Vec<u8>>, BackupError> {
        let manifest = serde_json::to_vec(&self.manifest).map_err(BackupError::Unwritable)?;
        let mut plain = Zeroizing::new((manifest.len() as u32).to_be_bytes().to_vec());
        plain.extend(&manifest);
        self.bodies.iter().for_each(|body| plain.extend_from_slice(body));
        Ok(Zeroizing::new(miniz_oxide::deflate::compress_to_vec_zlib(&plain, LEVEL)))
    }

    /// Reads what [`Contents::write`] wrote.
    ///
    /// # Errors
    /// [`BackupError::Altered`].
    pub fn read(bytes: &[u8]) -> Result<Contents, BackupError> {
        let limit = ALL_MAX + FILE_MAX as usize;
        let plain = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(bytes, limit);
        let plain = Zeroizing::new(plain.map_err(|_| BackupError::Altered)?);
        let read = || {
            let (length, rest) = plain.split_first_chunk::<4>()?;
            let (manifest, mut rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            let manifest: Manifest = serde_json::from_slice(manifest).ok()?;
            let mut bodies = Vec::new();
            for file in &manifest.files {
                let (body, behind) = rest.split_at_checked(file.length)?;
                bodies.push(Zeroizing::new(body.to_vec()));
                rest = behind;
            }
            rest.is_empty().then_some(Contents { manifest, bodies })
        };
        read().ok_or(BackupError::Altered)
    }

    /// The files and their bytes.
    pub fn files(&self) -> impl Iterator<Item = (&File, &[u8])> {
        self.manifest.files.iter().zip(self.bodies.iter().map(|body| body.as_slice()))
    }

    /// The bytes of the only file in this role.
    pub fn only(&self, role: Role) -> Option<&[u8]> {
        self.files().find(|(file, _)| file.role == role).map(|(_, body)| body)
    }

    /// That everything has a place of its own: absolute for what the configuration names, below it for what does not.
    ///
    /// # Errors
    /// [`BackupError::Place`].
    pub fn have_places(&self) -> Result<(), BackupError> {
        let is_plain = |path: &Path| !path.components().any(|part| part == Component::ParentDir);
        let mut folders = [Some(&self.manifest.data), self.manifest.releases.as_ref()].into_iter().flatten();
        let absolute = |role: Role| matches!(role, Role::Named | Role::Identity);
        let relative = |role: Role| matches!(role, Role::Enrolled | Role::Memory | Role::Release);
        let wrong = folders.find(|path| !path.is_absolute() || !is_plain(path));
        let of_file = |file: &&File| {
            file.role != Role::Configuration && !is_plain(&file.path)
                || absolute(file.role) && !file.path.is_absolute()
                || relative(file.role) && file.path.is_absolute()
        };
        match wrong.or(self.manifest.files.iter().find(of_file).map(|file| &file.path)) {
            Some(path) => Err(BackupError::Place(path.clone())),
            None => Ok(()),
        }
    }

    /// The configuration's text.
    ///
    /// # Errors
    /// [`BackupError::Altered`].
    pub fn text(&self) -> Result<&str, BackupError> {
        let text = self.only(Role::Configuration).and_then(|body| std::str::from_utf8(body).ok());
        text.ok_or(BackupError::Altered)
    }
}
