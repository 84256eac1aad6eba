//! Reads a box, whether its gateway runs or not: everything twice, until nothing changed in between. So what was written
//! together is together: a certificate with its key, a revision with what is known of it.

use super::named::{Named, named};
use super::{ALL_MAX, BackupError, Contents, FILE_MAX, File, Manifest, Role, network, ports};
use crate::config::Config;
use crate::config::load::source_digest;
use crate::fleet::desired::tree;
use crate::fleet::identity::folder;
use crate::fleet::outlives::Outlives;
use crate::fleet::store::{self, Store};
use crate::fleet::telemetry::Digest;
use crate::{clock::Clock, credential, disk, journal, link, update};
use jiff::Timestamp;
use jiff::civil::date;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// It is read so often before it is given up.
const TRIES: usize = 10;
/// Between two of them: longer than whoever changes several files takes for it.
const PAUSE: Duration = Duration::from_millis(200);
/// What lies in the folder of a site's driver and is the driver's, but for its revisions.
const OF_A_DRIVER: [&str; 2] = ["driver.toml", "revisions.jsonl"];
/// Folder of the revisions of a driver.
const REVISIONS: &str = "revisions";

/// Everything that a backup of the box with this configuration file holds; `config` is what runs by it, which is the desk's
/// revision where there is one.
///
/// # Errors
/// [`BackupError`].
pub fn gather(file: &Path, config: &Config) -> Result<Contents, BackupError> {
    // Whoever may not look into it would find that there is nothing in it.
    let data = &config.gateway.data;
    match std::fs::read_dir(data).map(drop).and_then(|()| std::fs::File::open(data.join(journal::LOCK_FILE)).map(drop))
    {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(BackupError::Disk { file: data.clone(), source });
        }
        _ => {}
    }
    let known = data.join(store::FILE);
    if known.exists() && Store::peek(data).is_none() {
        let why = "it is damaged, or of another release: use the program of the release that runs";
        return Err(BackupError::Disk { file: known, source: std::io::Error::other(why) });
    }
    let mut before = Reading::of(file, config)?;
    let mut changed = file.to_path_buf();
    for _ in 0..TRIES {
        std::thread::sleep(PAUSE);
        let now = Reading::of(file, config)?;
        if now == before {
            let contents = now.contents(file, config)?;
            return contents.have_places().map(|()| contents);
        }
        if let Some(((file, _), _)) = now.files.iter().zip(&before.files).find(|(now, then)| now != then) {
            changed = file.path.clone();
        }
        before = now;
    }
    Err(BackupError::Restless(changed))
}

/// What was read, once.
#[derive(PartialEq, Eq)]
struct Reading {
    files: Vec<(File, Zeroizing<Vec<u8>>)>,
    absent: Vec<PathBuf>,
    credentials: Vec<PathBuf>,
    revision: Option<u64>,
    outlives: Outlives,
}

impl Reading {
    fn of(file: &Path, config: &Config) -> Result<Reading, BackupError> {
        let data = &config.gateway.data;
        // It moves with every moment of the clock; what it is now is added once the rest is read.
        let outlives = Outlives::at(data, None);
        let (files, absent, credentials) = (Vec::new(), Vec::new(), Vec::new());
        let mut reading = Reading { files, absent, credentials, revision: None, outlives };
        reading.take(Role::Configuration, file, &absolute(file))?;
        let text =
            reading.files.first().map(|(_, body)| String::from_utf8_lossy(body).into_owned()).unwrap_or_default();
        let (mut names, drivers) = named(&text);
        if let Some(kept) = tree::kept(data) {
            // The text of the desk names files of the box as well; drivers and rules came with it.
            let of_box = |named: &Named| !["gateway.rules", "gateway.drivers"].contains(&&*named.setting);
            names.extend(named(&kept.desired.config).0.into_iter().filter(of_box));
            reading.revision = Some(kept.desired.rev);
            reading.add(Role::Document, &kept.folder.join("document"), kept.document.into())?;
            reading.add(Role::Base, &kept.folder.join("base"), kept.base.into_bytes().into())?;
        }
        reading.named(names)?;
        drivers.map_or(Ok(()), |drivers| reading.drivers(&drivers))?;
        reading.enrolled(data)?;
        for name in link::directory::memory::NAMES {
            for entry in sorted(&data.join(name))? {
                let below = Path::new(name).join(entry.file_name().unwrap_or_default());
                reading.take(Role::Memory, &entry, &below)?;
            }
        }
        if let Some(settings) = &config.update {
            for (name, bytes) in update::floors(settings) {
                reading.add(Role::Release, Path::new(name), bytes.into())?;
            }
        }
        network::files().iter().try_for_each(|file| reading.take(Role::Network, file, file))?;
        Ok(reading)
    }

    /// The files that settings name, each once: where one setting says that it is who the box is, it is that. What the
    /// service manager hands over is where its unit says, and may be for this machine alone: it is told of.
    fn named(&mut self, names: Vec<Named>) -> Result<(), BackupError> {
        let identity: BTreeSet<PathBuf> = names.iter().filter(|n| n.is_identity()).map(|n| n.path.clone()).collect();
        let all: BTreeSet<PathBuf> = names.into_iter().map(|named| named.path).collect();
        for path in all {
            if credential::name(&path).is_some() {
                self.credentials.push(path);
                continue;
            }
            let role = if identity.contains(&path) { Role::Identity } else { Role::Named };
            self.take(role, &path, &path)?;
        }
        Ok(())
    }

    fn drivers(&mut self, folder: &Path) -> Result<(), BackupError> {
        for driver in sorted(folder)?.into_iter().filter(|driver| driver.is_dir()) {
            let own = OF_A_DRIVER.iter().map(|name| driver.join(name)).filter(|file| file.is_file());
            own.chain(sorted(&driver.join(REVISIONS))?).try_for_each(|file| self.take(Role::Named, &file, &file))?;
        }
        Ok(())
    }

    fn enrolled(&mut self, data: &Path) -> Result<(), BackupError> {
        for file in [folder::current(data), folder::anchors(data)].into_iter().filter(|file| file.is_file()) {
            let below = file.strip_prefix(data).unwrap_or(&file).to_path_buf();
            self.take(Role::Enrolled, &file, &below)?;
        }
        Ok(())
    }

    /// Reads a file; one that is not there is told of.
    fn take(&mut self, role: Role, file: &Path, path: &Path) -> Result<(), BackupError> {
        let failed = |source| BackupError::Disk { file: file.to_path_buf(), source };
        let open = match disk::open_regular(file) {
            Ok(open) => open,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.absent.push(path.to_path_buf());
                return Ok(());
            }
            Err(error) => return Err(failed(error)),
        };
        let about = open.metadata().map_err(failed)?;
        let mut body = Zeroizing::new(Vec::new());
        // What a link remembers of a folder of many files is larger than any file that somebody wrote.
        let most = if role == Role::Memory { ALL_MAX as u64 } else { FILE_MAX };
        open.take(most + 1).read_to_end(&mut body).map_err(failed)?;
        if body.len() as u64 > most {
            return Err(BackupError::TooLarge(file.to_path_buf()));
        }
        let (user, group) = (disk::name_of("/etc/passwd", about.uid()), disk::name_of("/etc/group", about.gid()));
        self.push(
            File { role, path: path.to_path_buf(), mode: about.mode() & 0o7777, user, group, length: body.len() },
            body,
        )
    }

    /// What is no file of its own, or is written anew.
    fn add(&mut self, role: Role, path: &Path, body: Zeroizing<Vec<u8>>) -> Result<(), BackupError> {
        let length = body.len();
        self.push(File { role, path: path.to_path_buf(), mode: 0o600, user: None, group: None, length }, body)
    }

    fn push(&mut self, file: File, body: Zeroizing<Vec<u8>>) -> Result<(), BackupError> {
        self.files.push((file, body));
        let all: usize = self.files.iter().map(|(file, _)| file.length).sum();
        if all > ALL_MAX { Err(BackupError::TooMuch) } else { Ok(()) }
    }

    fn contents(self, file: &Path, config: &Config) -> Result<Contents, BackupError> {
        let data = &config.gateway.data;
        let zone = config.gateway.time_zone();
        let now = Timestamp::now();
        let (files, bodies) = self.files.into_iter().unzip();
        let place = config.fleet.as_ref().and_then(|fleet| fleet.place(data).ok());
        let owner = std::fs::metadata(data).ok().and_then(|about| disk::name_of("/etc/passwd", about.uid()));
        // Revisions and commands as they were read: only the moment is added.
        let (moment, quality) = Clock::open(data, config.gateway.clock_trusted).now();
        let trusted = (quality == crate::clock::Quality::Trusted).then_some(moment);
        // Those of the box's own file as well, where the desk's revision runs in its place.
        let mut links = config.links.clone();
        let own = config.origin.iter().flat_map(|origin| &origin.own.links);
        links.extend(
            own.filter(|own| !config.links.iter().any(|link| (&link.name, &link.serial) == (&own.name, &own.serial)))
                .cloned(),
        );
        let manifest = Manifest {
            made_ms: now.as_millisecond(),
            is_made_surely: trusted.is_some(),
            version: update::built_as(),
            arch: std::env::consts::ARCH.to_string(),
            hardware: hardware(),
            gateway: config.gateway.name(),
            time_zone: zone.iana_name().map(str::to_string),
            offsets_s: offsets_s(&zone, now),
            config: absolute(file),
            data: data.clone(),
            data_user: owner,
            releases: config.update.as_ref().map(|settings| settings.releases.clone()),
            place: place.map(|place| (place.tenant().to_string(), place.gateway().to_string())),
            revision: self.revision,
            is_edited: tree::kept(data).is_some_and(|kept| {
                source_digest(file).is_ok_and(|own| Digest::stored(own).to_string() != kept.base.trim())
            }),
            enrols: config.fleet.as_ref().is_some_and(|fleet| fleet.enrol.is_some()),
            outlives: self.outlives.later(trusted),
            absent: self.absent,
            credentials: self.credentials,
            sockets: ports::sockets(&ports::root(), &links),
            interfaces: network::interfaces(),
            files,
        };
        Ok(Contents { manifest, bodies })
    }
}

/// What this machine is, as its kernel says; the one that a test gives its adapters to is always the same.
pub(super) fn hardware() -> Option<String> {
    #[cfg(debug_assertions)]
    if std::env::var_os("AFFERENT_DEVICES").is_some() {
        return Some("the board of a test".to_string());
    }
    let model = crate::fleet::telemetry::Hardware::model()?;
    serde_json::to_value(model).ok()?.as_str().map(str::to_string)
}

/// How far a zone is from UTC in winter and in summer of this year.
pub(super) fn offsets_s(zone: &TimeZone, now: Timestamp) -> [i32; 2] {
    let year = now.to_zoned(TimeZone::UTC).year();
    [1, 7].map(|month| {
        let moment = date(year, month, 1).to_zoned(TimeZone::UTC).map_or(now, |day| day.timestamp());
        zone.to_offset(moment).seconds()
    })
}

/// Files and folders of a folder, by name; none where there is none. What is being written is none of them, nor is the
/// copy that an editor made.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let failed = |source| BackupError::Disk { file: folder.to_path_buf(), source };
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut all = listed.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    all.retain(|path| !disk::is_unfinished(path) && !path.as_os_str().as_encoded_bytes().ends_with(b"~"));
    all.sort();
    Ok(all)
}

fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf())
}
