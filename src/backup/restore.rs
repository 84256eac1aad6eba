//! Puts a backup onto a box. What is to be done is found out first ([`plan`]), and nothing is changed by that; then it is
//! written down as a whole ([`Plan::begin`]) and done ([`finish`]). Done twice it is the same.

use super::gather::{hardware, offsets_s};
use super::ports::{self, Placed};
use super::{BackupError, Contents, File, Manifest, Role, named, network};
use crate::clock::{Clock, Quality};
use crate::config::load::{parse_below, places, source_digest};
use crate::config::{self, Config};
use crate::fleet::desired::{self, tree};
use crate::fleet::identity::folder;
use crate::fleet::outlives::{self, Outlives};
use crate::fleet::telemetry::Digest;
use crate::journal::{self, OpenError, Undelivered, crash};
use crate::tls::Code;
use crate::update::record::Version;
use crate::update::{self, slots};
use crate::{credential, disk, reset};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Behind the name of the configuration file: what is to be put.
const INTENT: &str = ".restoring";
/// Modes of a data directory and of a folder of releases.
const DATA: u32 = 0o700;
const RELEASES: u32 = 0o755;

/// What whoever restores says.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Where the configuration file goes.
    pub config: PathBuf,
    /// Ports by the name of the link.
    pub ports: BTreeMap<String, PathBuf>,
    /// The old box never runs again: this one is who that was, with its key.
    pub is_old_dead: bool,
    /// The desk's revision is left out, and the box's own file runs.
    pub without_revision: bool,
    /// By its clock the backup was made later than now, and that was wrong.
    pub was_clock_wrong: bool,
}

/// What becomes of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// There is none here.
    New,
    /// It is here as it is.
    Same,
    /// It takes the place of another.
    Replaces,
    /// In its place is something that is no file.
    InTheWay,
    /// It stays in the backup.
    Left,
}

/// What a restore would do, and why it is not done.
pub struct Plan {
    wish: Wish,
    /// What is put.
    contents: Contents,
    /// The configuration in it.
    config: Config,
    /// Each file, and what becomes of it.
    pub fates: Vec<(PathBuf, Fate)>,
    /// The port of each serial link.
    pub placed: Vec<Placed>,
    /// What is other on this box than on the old one.
    pub notes: Vec<String>,
    /// What stays to be done.
    pub open: Vec<String>,
    /// Why it is not done; nothing when it can be.
    pub refused: Option<BackupError>,
}

/// Finds out what a restore would do.
///
/// # Errors
/// [`BackupError`] for a backup that cannot be one of a box.
pub fn plan(contents: Contents, wish: Wish) -> Result<Plan, BackupError> {
    let mut contents = contents;
    contents.have_places()?;
    if wish.without_revision {
        leave(&mut contents, |role| matches!(role, Role::Document | Role::Base));
        contents.manifest.revision = None;
    }
    let mut notes = notes(&contents);
    let placed = on_ports(&mut contents, &wish)?;
    let crossed = ports::crossed(&ports::root(), &placed).map(BackupError::Line);
    let (config, crossed) = match (Staged::lay(&contents)?.parse(contents.text()?), crossed) {
        (Err(_), Some(crossed)) => return Err(crossed),
        (parsed, crossed) => (parsed?, crossed),
    };
    let data = config.gateway.data.clone();
    let revision = revision_of(&contents, &config)?;
    let in_effect = revision.as_ref().map_or(&config, |(config, _)| config);
    let text = revision.as_ref().map_or(contents.text()?, |(_, text)| text);
    let of_revision = match revision {
        Some(_) => places_of_revision(in_effect, &contents),
        None => Ok(Vec::new()),
    };
    let mut open = without_ports(&placed, of_revision.as_deref().unwrap_or_default());
    open.extend(not_here(&contents, text, in_effect));
    let (here, broken) = match config_here(&wish.config) {
        Ok(here) => (here, None),
        Err(why) => (None, Some(why)),
    };
    if !wish.is_old_dead {
        open.extend(identity_note(&contents, &config));
        let is_left = |role| matches!(role, Role::Identity | Role::Enrolled);
        leave(&mut contents, is_left);
    }
    let stands = || {
        of_revision.map(drop)?;
        no_strangers(&contents)?;
        refusal(&contents, in_effect, &config, here.as_ref(), &wish)
    };
    let refused = crossed.or(broken).or_else(|| stands().err());
    let of_backup = contents.manifest.outlives.seen();
    contents.manifest.outlives = taken_over(&contents, &config, here.as_ref());
    if let (Some(has), Some((seen, _))) = (contents.manifest.revision, contents.manifest.outlives.seen())
        && of_backup.is_none_or(|(of_backup, _)| of_backup < seen)
    {
        notes.push(format!(
            "revision {seen} of the desk was seen here, and this backup has {has}, which runs until the desk sends another"
        ));
    }
    // Where it goes is what the text says that was judged.
    contents.manifest.data = data.clone();
    contents.manifest.releases = config.update.as_ref().map(|settings| settings.releases.clone());
    contents.manifest.config = std::path::absolute(&wish.config).unwrap_or_else(|_| wish.config.clone());
    let fates = fates(&contents, &data);
    let in_the_way = fates.iter().find(|(_, fate)| *fate == Fate::InTheWay);
    let refused = refused.or_else(|| in_the_way.map(|(place, _)| BackupError::InTheWay(place.clone())));
    Ok(Plan { wish, contents, config, fates, placed, notes, open, refused })
}

/// The port of each serial link, which the box's own file names from now on.
fn on_ports(contents: &mut Contents, wish: &Wish) -> Result<Vec<Placed>, BackupError> {
    // Which ports it names, whatever they lead to here; it is judged once it names those of this box.
    let links = toml::from_str::<Config>(contents.text()?).map_err(|why| BackupError::Config(why.to_string()))?.links;
    let (were, is_same_board) = (&contents.manifest.sockets, is_same_board(contents));
    let placed = ports::place(&ports::root(), &links, were, &wish.ports, is_same_board).map_err(BackupError::Ports)?;
    for placed in placed.iter().filter(|placed| placed.to.is_some()) {
        rename(contents, &placed.link, placed.to.as_deref())?;
    }
    Ok(placed)
}

/// The links that have no port here.
fn without_ports(of_file: &[Placed], of_revision: &[Placed]) -> Vec<String> {
    let of_file = of_file.iter().filter_map(|Placed { link, serial, missing, .. }| {
        let missing = missing.as_ref()?;
        Some(format!("link `{link}` has no port ({}): {missing}; --ports {link}=NAME says which", serial.display()))
    });
    let of_revision = of_revision.iter().filter_map(|Placed { link, missing, .. }| {
        Some(format!("link `{link}` of the desk's revision has no port: {}", missing.as_ref()?))
    });
    of_file.chain(of_revision).collect()
}

/// What this machine does not have of what the old one had: addresses, files, credentials, orders.
fn not_here(contents: &Contents, text: &str, in_effect: &Config) -> Vec<String> {
    let addresses = network::missing(text).into_iter();
    let addresses =
        addresses.map(|address| format!("this machine does not have the address {address}, on which the box listened"));
    let absent = contents.manifest.absent.iter();
    let absent = absent.map(|path| format!("{} was missing on the old box already", path.display()));
    let away = contents.manifest.credentials.iter().filter(|named| credential::place(named).is_err());
    let away = away
        .filter_map(|named| credential::name(named))
        .map(|name| format!("`{name}` is a systemd credential, not in this backup: {}", credential::how(name)));
    let orders = (!in_effect.orders.is_empty()).then(|| {
        "orders that were sent to the old box are not on this one: have the EHR send open ones again".to_string()
    });
    addresses.chain(absent).chain(away).chain(orders).collect()
}

impl Plan {
    /// Makes sure that it will be done: from here there is no way back.
    ///
    /// # Errors
    /// [`BackupError`]: nothing was done.
    pub fn begin(mut self) -> Result<Begun, BackupError> {
        if let Some(refused) = self.refused.take() {
            return Err(refused);
        }
        let data = &self.config.gateway.data;
        // As its owner: a restore that comes to nothing leaves no lock that only root may open.
        let lock = data.is_dir().then(|| as_owner_of(data, || journal::lock(data).map_err(BackupError::Open)));
        let lock = lock.transpose()?;
        // Counted again, with nobody beside.
        nothing_to_lose(data)?;
        crash::point("restore-counted");
        let intent = intent(&self.wish.config);
        let around = self.contents.manifest.config.parent().unwrap_or(Path::new("/"));
        disk::make_folder(around, None, None).map_err(at(around))?;
        disk::replace_secret(&intent, &self.contents.write()?).map_err(at(&intent))?;
        crash::point("restore-begun");
        Ok(Begun { config: self.wish.config, _lock: lock })
    }

    /// What the backup says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.contents.manifest
    }
}

/// A restore from which there is no way back. No gateway starts while this is held.
pub struct Begun {
    config: PathBuf,
    _lock: Option<std::fs::File>,
}

impl Begun {
    /// Does it. The code under which the box asks to be let in comes back, where it has to ask.
    ///
    /// # Errors
    /// [`BackupError::Begun`]: it is still begun.
    pub fn end(self) -> Result<Option<Code>, BackupError> {
        put(&self.config, self._lock).map_err(|why| BackupError::Begun(Box::new(why)))
    }
}

/// True behind the point of no return.
pub fn is_begun(config: &Path) -> bool {
    std::fs::symlink_metadata(intent(config)).is_ok()
}

/// Whether a box is what it is said to be: none of it is while a restore was begun and is not done.
///
/// # Errors
/// [`BackupError::Interrupted`].
pub fn is_whole(config: &Path) -> Result<(), BackupError> {
    match is_begun(config) {
        true => Err(BackupError::Interrupted(config.to_path_buf())),
        false => Ok(()),
    }
}

/// Goes on with a restore that was begun, if one was, to its end. Says whether there was one.
///
/// # Errors
/// [`BackupError::Begun`]: it is still begun.
pub fn finish(config: &Path) -> Result<bool, BackupError> {
    match is_begun(config) {
        true => put(config, None).map(|_| true).map_err(|why| BackupError::Begun(Box::new(why))),
        false => Ok(false),
    }
}

fn put(file: &Path, lock: Option<std::fs::File>) -> Result<Option<Code>, BackupError> {
    let intent = intent(file);
    let contents = Contents::read(&Zeroizing::new(std::fs::read(&intent).map_err(at(&intent))?))?;
    let manifest = &contents.manifest;
    let data = &manifest.data;
    let user = manifest.data_user.as_deref();
    let service = owner(user, user);
    disk::make_folder(data, Some(DATA), Some(service)).and_then(|()| give(data, service)).map_err(at(data))?;
    let take = || as_owner_of(data, || journal::lock(data).map_err(BackupError::Open));
    let _lock = lock.map_or_else(take, Ok)?;
    as_owner_of(data, || reset::erase_all(data).map_err(|(file, source)| BackupError::Disk { file, source }))?;
    crash::point("restore-erased");
    if let Some(releases) = &manifest.releases {
        // What the trial of a release kept is of what is erased.
        as_owner_of(releases, || slots::forget_before(releases).map_err(at(releases)))?;
    }
    for (about, body) in contents.files() {
        let put = |place: &Path| {
            let owner = owner(about.user.as_deref(), about.group.as_deref());
            disk::put_file(place, body, about.mode, Some(owner)).map_err(at(place))
        };
        match (about.role, &manifest.releases) {
            (Role::Configuration, _) => put(file)?,
            (Role::Named | Role::Identity, _) => put(&about.path)?,
            (Role::Enrolled | Role::Memory, _) => put(&data.join(&about.path))?,
            (Role::Release, Some(releases)) => {
                let name = about.path.to_str().unwrap_or_default();
                // Whoever's the data directory is, and everybody may read it.
                let of_data = std::fs::metadata(data).map_err(at(data))?;
                let owner = Some((of_data.uid(), of_data.gid()));
                disk::make_folder(releases, Some(RELEASES), owner).map_err(at(releases))?;
                as_owner_of(releases, || update::take_over(releases, name, body).map_err(at(releases)))?;
            }
            (Role::Release | Role::Document | Role::Base | Role::Network, _) => {}
        }
        crash::point("restore-put");
    }
    let revision = match (contents.only(Role::Document), contents.only(Role::Base)) {
        (Some(document), Some(base)) => Some((document, base_of(file, base, manifest.is_edited)?)),
        _ => None,
    };
    as_owner_of(data, || {
        if let Some((document, base)) = &revision {
            tree::take_over(data, document, base).map_err(|why| at(data)(std::io::Error::other(why)))?;
        }
        let kept = data.join(outlives::FILE);
        disk::replace_secret(&kept, &manifest.outlives.bytes()).map_err(at(&kept))
    })?;
    let code = match manifest.enrols && contents.only(Role::Enrolled).is_none() {
        true => folder::code(data).map_err(at(data))?,
        false => None,
    };
    crash::point("restore-done");
    std::fs::remove_file(&intent).and_then(|()| disk::sync_folder(&intent)).map_err(at(&intent))?;
    crash::point("restore-ended");
    tracing::warn!(event = "restored", "this box was restored from a backup of {}", manifest.gateway);
    Ok(code)
}

/// What the revision that ran in the place of the file stands on here: this file; where the file had been edited, what it
/// stood on there, so that it does not run here either.
fn base_of(file: &Path, base: &[u8], is_edited: bool) -> Result<String, BackupError> {
    Ok(match is_edited {
        true => String::from_utf8_lossy(base).into_owned(),
        false => Digest::stored(source_digest(file).map_err(at(file))?).to_string(),
    })
}

/// Work in a folder that may be the service's, as whom it belongs to.
fn as_owner_of<T: Send>(folder: &Path, work: impl FnOnce() -> Result<T, BackupError> + Send) -> Result<T, BackupError> {
    disk::as_owner_of(folder, work).map_err(at(folder))?
}

/// The numbers of user and group here.
fn owner(user: Option<&str>, group: Option<&str>) -> disk::Owner {
    // Who is not here is root: nobody else is let in by that, and whoever is here keeps what is his.
    let user = user.and_then(|user| disk::number_of("/etc/passwd", user)).unwrap_or(0);
    let group = group.and_then(|group| disk::number_of("/etc/group", group)).unwrap_or(0);
    (user, group)
}

/// A data directory that is root's becomes the service's, with what is in it. Nobody but root may write there before, so
/// nothing is exchanged under root's hands; it is given itself last.
fn give(data: &Path, owner: disk::Owner) -> std::io::Result<()> {
    fn all(path: &Path, (user, group): disk::Owner) -> std::io::Result<()> {
        let Ok(about) = std::fs::symlink_metadata(path) else { return Ok(()) };
        if about.is_dir() {
            std::fs::read_dir(path)?.try_for_each(|entry| all(&entry?.path(), (user, group)))?;
        }
        lchown(path, Some(user), Some(group))
    }
    if !disk::is_root() || std::fs::metadata(data)?.uid() != 0 {
        return Ok(());
    }
    let names = reset::NAMES.into_iter().flatten().chain([&outlives::FILE, &journal::LOCK_FILE]);
    names.map(|name| data.join(name)).try_for_each(|path| all(&path, owner))?;
    lchown(data, Some(owner.0), Some(owner.1))
}

fn intent(config: &Path) -> PathBuf {
    let mut name = config.as_os_str().to_owned();
    name.push(INTENT);
    name.into()
}

/// The desk's revision as it would run here; none where none ran, or the file was edited since.
fn revision_of(contents: &Contents, own: &Config) -> Result<Option<(Config, String)>, BackupError> {
    let Some(document) = contents.only(Role::Document).filter(|_| !contents.manifest.is_edited) else {
        return Ok(None);
    };
    let wrong = |why: String| BackupError::Revision(why);
    let desired = desired::read_bytes(document).map_err(|why| wrong(why.to_string()))?;
    let staged = Staged::empty()?;
    let aside = tree::Aside::new(&staged.0, &desired).map_err(|why| wrong(why.to_string()))?;
    let loaded = tree::check(&desired, aside.path(), own).map_err(|why| wrong(why.to_string()))?;
    Ok(Some((loaded.config, desired.config)))
}

/// The configuration of the box that this one was; none where it has none.
fn config_here(file: &Path) -> Result<Option<Config>, BackupError> {
    match disk::open_regular(file) {
        Ok(_) => config::load(file).map(|loaded| Some(loaded.config)).map_err(|why| BackupError::Here(why.to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BackupError::Here(format!("{}: {error}", file.display()))),
    }
}

/// Whether sockets have the same numbers as on the old box.
fn is_same_board(contents: &Contents) -> bool {
    contents.manifest.hardware.is_some() && contents.manifest.hardware == hardware()
}

/// The ports of the desk's revision. What the desk signed cannot be changed here, so they have to be those of this box.
fn places_of_revision(in_effect: &Config, contents: &Contents) -> Result<Vec<Placed>, BackupError> {
    let (were, root) = (&contents.manifest.sockets, ports::root());
    let placed = ports::place(&root, &in_effect.links, were, &BTreeMap::new(), is_same_board(contents));
    let placed = placed.map_err(BackupError::Revision)?;
    let is_another = |placed: &&Placed| {
        let device = |name: &Path| crate::link::serial::ports::resolve(&root, name).ok();
        placed.to.as_deref().is_some_and(|to| device(to).is_none() || device(to) != device(&placed.serial))
    };
    if let Some(Placed { link, to: Some(to), .. }) = placed.iter().find(is_another) {
        let says = format!("link `{link}` would have to be on {} here, and it says otherwise", to.display());
        return Err(BackupError::Revision(says));
    }
    ports::crossed(&root, &placed).map_or(Ok(placed), |why| Err(BackupError::Revision(why)))
}

/// A driver of the site that only this box has would be asked for results as well, and one that is called as a built-in
/// takes its place.
fn no_strangers(contents: &Contents) -> Result<(), BackupError> {
    let (_, Some(folder)) = named::named(contents.text()?) else { return Ok(()) };
    let folder = &folder;
    let drivers = contents.manifest.files.iter().filter(|file| file.path.ends_with("driver.toml"));
    let known: Vec<&Path> = drivers.filter_map(|file| file.path.parent()).collect();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.map_err(at(folder))?.path();
        if path.join("driver.toml").exists() && !known.contains(&path.as_path()) {
            return Err(BackupError::Stranger(path));
        }
    }
    Ok(())
}

/// Why it is not done.
fn refusal(
    contents: &Contents,
    in_effect: &Config,
    config: &Config,
    here: Option<&Config>,
    wish: &Wish,
) -> Result<(), BackupError> {
    let manifest = &contents.manifest;
    let (was, is) = (manifest.gateway.clone(), in_effect.gateway.name());
    if was != is {
        return Err(BackupError::OtherName { was, is });
    }
    let zone = in_effect.gateway.time_zone();
    if offsets_s(&zone, Timestamp::now()) != manifest.offsets_s {
        let was = manifest.time_zone.clone().unwrap_or_else(|| "another zone".to_string());
        return Err(BackupError::OtherZone { was, is: zone.iana_name().unwrap_or("another").to_string() });
    }
    if let Some(here) = here.map(|here| &here.gateway.data)
        && *here != config.gateway.data
        && here.join(journal::FILE).try_exists().unwrap_or(true)
    {
        return Err(BackupError::OtherData { here: here.clone(), there: config.gateway.data.clone() });
    }
    for config in here.into_iter().chain([config]) {
        let data = &config.gateway.data;
        if reset::is_begun(data) {
            return Err(BackupError::Resetting);
        }
        if !is_begun(&wish.config) && update::is_on_trial(config) {
            return Err(BackupError::OnTrial);
        }
        if journal::is_in_use(data) {
            return Err(BackupError::Open(OpenError::InUse(data.clone())));
        }
        nothing_to_lose(data)?;
    }
    let has_operators = config.fleet.as_ref().is_some_and(|fleet| !fleet.operators.is_empty());
    if has_operators {
        let (now, quality) = Clock::open(&config.gateway.data, config.gateway.clock_trusted).now();
        if quality != Quality::Trusted {
            return Err(BackupError::NoClock);
        }
        if manifest.is_made_surely && !wish.was_clock_wrong && now.as_millisecond() < manifest.made_ms {
            let made = Timestamp::from_millisecond(manifest.made_ms).unwrap_or_default();
            return Err(BackupError::Ahead { made });
        }
    }
    Ok(())
}

fn nothing_to_lose(data: &Path) -> Result<(), BackupError> {
    match as_owner_of(data, || Ok(Undelivered::look(data)))? {
        Err(why) => Err(BackupError::Unknown { data: data.to_path_buf(), why }),
        Ok(found) if found.total() > 0 => Err(BackupError::Undelivered { found }),
        Ok(_) => Ok(()),
    }
}

/// This moment, where somebody vouches for it.
fn trusted_now(config: &Config) -> Option<Timestamp> {
    let (now, quality) = Clock::open(&config.gateway.data, config.gateway.clock_trusted).now();
    (quality == Quality::Trusted).then_some(now)
}

/// What must not be forgotten of the fleet, from now on. Where this box was the same one before, of both.
fn taken_over(contents: &Contents, config: &Config, here: Option<&Config>) -> Outlives {
    let manifest = &contents.manifest;
    let place_of = |config: &Config| {
        let place = config.fleet.as_ref()?.place(&config.gateway.data).ok()?;
        Some((place.tenant().to_string(), place.gateway().to_string()))
    };
    let is_same = |here: &&Config| manifest.place.is_some() && place_of(here) == manifest.place;
    let known = here.filter(is_same).map_or(manifest.outlives, |here| {
        manifest.outlives.max(Outlives::now(&here.gateway.data, &Clock::open(&here.gateway.data, false)))
    });
    known.taken_over(trusted_now(config))
}

fn notes(contents: &Contents) -> Vec<String> {
    let manifest = &contents.manifest;
    let (version, arch) = (update::built_as(), std::env::consts::ARCH);
    let mut notes = Vec::new();
    if (&*manifest.version, &*manifest.arch) != (&*version, arch) {
        let (was, is) = (&manifest.version, &manifest.arch);
        notes.push(format!("the old box ran release {was} for {is}, this one runs {version} for {arch}"));
    }
    let hardware = hardware();
    if manifest.hardware != hardware {
        let [was, is] = [&manifest.hardware, &hardware].map(|model| model.as_deref().unwrap_or("of no name"));
        notes.push(format!("the old box was a {was}, this one is a {is}: its sockets may be others"));
    }
    let floor = contents.files().find(|(file, _)| file.role == Role::Release && file.path == Path::new("floor"));
    let floor: Option<Version> = floor.and_then(|(_, body)| std::str::from_utf8(body).ok()?.trim().parse().ok());
    if let (Some(floor), Ok(version)) = (floor, version.parse::<Version>())
        && version < floor
    {
        notes.push(format!("release {version} is below {floor}, below which the old box installed nothing: update it"));
    }
    let here = network::interfaces();
    for was in manifest.interfaces.iter().filter(|was| !here.contains(was)) {
        let addresses: Vec<String> = was.addresses.iter().map(ToString::to_string).collect();
        notes.push(format!("the old box had {} on {} ({})", addresses.join(", "), was.name, was.mac));
    }
    notes
}

/// What is to be done so that the fleet knows this box.
fn identity_note(contents: &Contents, config: &Config) -> Option<String> {
    let fleet = config.fleet.as_ref()?;
    let name = contents.manifest.place.as_ref().map_or("NAME", |(_, name)| name);
    Some(match fleet.enrol {
        Some(_) => {
            format!("at the desk, once it shows its code: afferent desk enrol accept CODE --name {name} --replace")
        }
        None => format!(
            "it has no certificate for its fleet: give it a new one for {name} (`cert` and `key` of [fleet.tls]), or say \
             --old-box-is-dead"
        ),
    })
}

/// Takes files out.
fn leave(contents: &mut Contents, is_left: impl Fn(Role) -> bool) {
    let files = std::mem::take(&mut contents.manifest.files).into_iter();
    let kept = files.zip(std::mem::take(&mut contents.bodies)).filter(|(file, _)| !is_left(file.role));
    (contents.manifest.files, contents.bodies) = kept.unzip();
}

/// The box's own file names another port for this link.
fn rename(contents: &mut Contents, link: &str, to: Option<&Path>) -> Result<(), BackupError> {
    let text = contents.text()?.to_string();
    let table: toml::Table = toml::from_str(&text).unwrap_or_default();
    let links = table.get("link").and_then(toml::Value::as_array);
    let names = links.into_iter().flatten().map(|link| link.get("name").and_then(toml::Value::as_str));
    let Some(number) = names.into_iter().position(|name| name == Some(link)) else { return Ok(()) };
    let (span, mut changed) = (places(&text).value(&format!("link[{number}].serial")), text);
    let to = to.and_then(Path::to_str).unwrap_or_default();
    changed.replace_range(span, &toml::Value::from(to).to_string());
    let place = contents.manifest.files.iter().position(|file| file.role == Role::Configuration);
    if let Some(at) = place {
        contents.manifest.files[at].length = changed.len();
        contents.bodies[at] = Zeroizing::new(changed.into_bytes());
    }
    Ok(())
}

fn fates(contents: &Contents, data: &Path) -> Vec<(PathBuf, Fate)> {
    let fate = |(file, body): (&File, &[u8])| {
        let place = match file.role {
            Role::Configuration => contents.manifest.config.clone(),
            Role::Enrolled | Role::Memory => data.join(&file.path),
            Role::Release => contents.manifest.releases.clone().unwrap_or_default().join(&file.path),
            Role::Named | Role::Identity | Role::Document | Role::Base | Role::Network => file.path.clone(),
        };
        let fate = match disk::open_regular(&place) {
            _ if file.role == Role::Network => Fate::Left,
            Ok(here) if is_same(&here, body) => Fate::Same,
            Err(error) if error.kind() == ErrorKind::NotFound => Fate::New,
            Err(error) if error.kind() == ErrorKind::NotADirectory => Fate::InTheWay,
            _ if std::fs::metadata(&place).is_ok_and(|about| !about.is_file()) => Fate::InTheWay,
            _ => Fate::Replaces,
        };
        (place, fate)
    };
    contents.files().map(fate).collect()
}

fn is_same(here: &std::fs::File, body: &[u8]) -> bool {
    let mut bytes = Zeroizing::new(Vec::new());
    here.take(body.len() as u64 + 1).read_to_end(&mut bytes).is_ok() && *bytes == body
}

/// Drivers and rules of a backup, laid out so that its configuration can be read. It goes with this.
struct Staged(PathBuf);

impl Staged {
    /// With nothing in it yet.
    fn empty() -> Result<Staged, BackupError> {
        let staged = Staged(std::env::temp_dir().join(format!("afferent-restore-{}", std::process::id())));
        std::fs::DirBuilder::new().mode(0o700).create(&staged.0).map_err(at(&staged.0))?;
        Ok(staged)
    }

    fn lay(contents: &Contents) -> Result<Staged, BackupError> {
        let staged = Staged::empty()?;
        let (files, drivers) = named::named(contents.text()?);
        let rules = files.into_iter().find(|named| named.setting == "gateway.rules").map(|named| named.path);
        let is_wanted = |path: &Path| {
            rules.as_deref() == Some(path) || drivers.as_deref().is_some_and(|drivers| path.starts_with(drivers))
        };
        for (file, body) in contents.files().filter(|(file, _)| file.role == Role::Named && is_wanted(&file.path)) {
            let place = config::load::below(&staged.0, &file.path);
            let lay = || {
                std::fs::create_dir_all(place.parent().unwrap_or(&staged.0))?;
                std::fs::write(&place, body)
            };
            lay().map_err(at(&place))?;
        }
        if let Some(drivers) = drivers {
            std::fs::create_dir_all(config::load::below(&staged.0, &drivers)).map_err(at(&drivers))?;
        }
        Ok(staged)
    }

    fn parse(&self, text: &str) -> Result<Config, BackupError> {
        let loaded = parse_below("the configuration in the backup", text, &self.0);
        loaded.map(|loaded| loaded.config).map_err(|why| BackupError::Config(why.to_string()))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn at(file: &Path) -> impl Fn(std::io::Error) -> BackupError + use<'_> {
    move |source| BackupError::Disk { file: file.to_path_buf(), source }
}
