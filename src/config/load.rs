//! Reads a configuration file.

use super::check::{self, Scene};
use super::diagnose::{Fault, Faults, Kind};
use super::{Config, schema};
use crate::disk;
use crate::driver::Registry;
use crate::rules::Rule;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use toml::de::DeTable;

/// Longest configuration file, file of rules or driver, in bytes. The commented sample is a fiftieth of it.
const TEXT_MAX_BYTES: u64 = 1 << 20;
/// What a gateway stands on.
const FOUNDATION: [&str; 6] = ["gateway.data", "gateway.clock_trusted", "journal", "fleet", "update", "board"];
/// Name of the file in a driver's folder.
const DRIVER_FILE: &str = "driver.toml";

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is missing or cannot work outside the file; none of it keeps a gateway from starting.
    pub missing: Faults,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is far too large, or is not text.
    #[error("{path} is not a configuration file: {reason}")]
    NotText {
        /// The file.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// The file says something wrong.
    #[error("{}", .0.render(false))]
    Faults(Faults),
}

/// Reads and checks a configuration file.
///
/// # Errors
/// [`LoadError`]; with [`LoadError::Faults`] everything that is wrong with the text and everything missing beside it.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    parse(&path.display().to_string(), &read(path)?)
}

fn read(path: &Path) -> Result<String, LoadError> {
    text(path, File::open(path))
}

/// As [`read`], of a file that another one names.
fn read_named(path: &Path) -> Result<String, LoadError> {
    text(path, disk::open_regular(path))
}

fn text(path: &Path, open: std::io::Result<File>) -> Result<String, LoadError> {
    let name = path.display().to_string();
    let unreadable = |source| LoadError::Unreadable { path: name.clone(), source };
    let bytes = open.and_then(bounded).map_err(unreadable)?;
    if bytes.len() as u64 > TEXT_MAX_BYTES {
        return Err(LoadError::NotText { path: name, reason: "it is larger than 1 MiB" });
    }
    String::from_utf8(bytes).map_err(|_| LoadError::NotText { path: name, reason: "it is not UTF-8" })
}

/// What a file holds, or one byte more than a text may have.
fn bounded(open: File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open.take(TEXT_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks the text of a configuration file; `name` is what faults call it.
///
/// # Errors
/// [`LoadError::Faults`].
pub fn parse(name: &str, text: &str) -> Result<Loaded, LoadError> {
    parse_on(name, text, None, None)
}

/// Checks the text of a configuration whose drivers and rules lie below another root, as they are to be put later.
///
/// # Errors
/// [`LoadError::Faults`].
pub fn parse_below(name: &str, text: &str, root: &Path) -> Result<Loaded, LoadError> {
    parse_on(name, text, None, Some(root))
}

/// Where a path lies below another root.
pub fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Checks the text of a configuration that a box shall run in the place of `own`, its own. Drivers and rules are looked
/// for from `folder` on. What a gateway stands on is the box's alone to say ([`Config::foundation_differs`]).
///
/// # Errors
/// [`LoadError::Faults`].
pub fn parse_for(name: &str, text: &str, folder: &Path, own: &Config) -> Result<Loaded, LoadError> {
    parse_on(name, text, Some((folder, own)), None)
}

/// SHA-256 of a configuration file and of the drivers and rules that it names, as they are on disk now.
///
/// # Errors
/// What the system said of the file itself.
pub fn source_digest(file: &Path) -> std::io::Result<[u8; 32]> {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut add = |bytes: &[u8]| {
        digest.update(&(bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    let named = |path: &Path| disk::open_regular(path).and_then(bounded).unwrap_or_default();
    let bytes = disk::open_regular(file).and_then(bounded)?;
    add(&bytes);
    let text = String::from_utf8_lossy(&bytes);
    for folder in gateway_path(&text, "drivers").iter().flat_map(|drivers| driver_folders(drivers).unwrap_or_default())
    {
        add(folder.as_os_str().as_encoded_bytes());
        add(&named(&folder.join(DRIVER_FILE)));
    }
    if let Some(rules) = gateway_path(&text, "rules") {
        add(&named(&rules));
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    Ok(bytes)
}

/// A path that `[gateway]` names in a text, which may be wrong elsewhere.
fn gateway_path(text: &str, setting: &str) -> Option<PathBuf> {
    let (document, _) = DeTable::parse_recoverable(text);
    let gateway = document.get_ref().get("gateway")?.get_ref().as_table()?;
    Some(PathBuf::from(gateway.get(setting)?.get_ref().as_str()?))
}

/// Where the settings of a text stand, as far as it can be read.
pub fn places(text: &str) -> Places {
    let (document, _) = DeTable::parse_recoverable(text);
    schema::compare(document.get_ref()).places
}

/// `own` is the configuration of the box that this one is for, and `folder` where its files are, when it came from afar.
/// `root` is where its drivers and rules lie meanwhile.
fn parse_on(name: &str, text: &str, afar: Option<(&Path, &Config)>, root: Option<&Path>) -> Result<Loaded, LoadError> {
    let (document, broken) = DeTable::parse_recoverable(text);
    if !broken.is_empty() {
        // What follows a syntax error is guesswork; only the syntax is told.
        let faults = broken.iter().map(|error| Fault::setting(error.span().unwrap_or(0..0), syntax(error.message())));
        return Err(LoadError::Faults(Faults::new(name, text, faults.collect())));
    }
    let structure = schema::compare(document.get_ref());
    let mut faults = structure.faults;
    // With nothing wrong serde reads the text itself and can still point at it, should the schema allow more than
    // serde does; else it is given what fits.
    let read = if faults.is_empty() { toml::from_str(text) } else { structure.table.try_into() };
    let mut config: Config = match read {
        Ok(config) => config,
        Err(error) => {
            if faults.is_empty() {
                faults.push(Fault::setting(error.span().unwrap_or(0..0), error.message()));
            }
            return Err(LoadError::Faults(Faults::new(name, text, faults)));
        }
    };
    if let Some((folder, own)) = afar {
        for setting in FOUNDATION.iter().filter(|setting| structure.places.has(setting)) {
            let message = format!("`{setting}` is the box's own to say");
            let fault = Fault::setting(structure.places.header(setting), message);
            faults.push(fault.hint("take it out: what the box needs to start and to be reached is not set from afar"));
        }
        config.stand_on(own);
        let named = [("gateway.drivers", &mut config.gateway.drivers), ("gateway.rules", &mut config.gateway.rules)];
        for (setting, named) in named.into_iter().filter_map(|(setting, named)| Some((setting, named.as_mut()?))) {
            if !named.components().all(|part| matches!(part, Component::Normal(_))) {
                let fault =
                    Fault::setting(structure.places.value(setting), "this is not among the files that came along");
                faults.push(fault.hint("name a path below the configuration, without `..`"));
                return Err(LoadError::Faults(Faults::new(name, text, faults)));
            }
            *named = folder.join(&*named);
        }
    }
    if let Some(root) = root {
        let named = [&mut config.gateway.drivers, &mut config.gateway.rules];
        named.into_iter().flatten().for_each(|named| *named = below(root, named));
    }
    let (registry, drivers_complete) = read_site_drivers(&mut config, &structure.places, &mut faults);
    read_rules(&mut config, &structure.places, &mut faults);
    faults.extend(check::check(&config, &Scene { places: &structure.places, registry: &registry, drivers_complete }));
    let (settings, missing): (Vec<_>, Vec<_>) = faults.into_iter().partition(|f| f.kind == Kind::Setting);
    if settings.is_empty() {
        return Ok(Loaded { config, missing: Faults::new(name, text, missing) });
    }
    let all = settings.into_iter().chain(missing).collect();
    Err(LoadError::Faults(Faults::new(name, text, all)))
}

/// Where settings stand in the text, by path such as `link[0].listen`.
#[derive(Debug, Default)]
pub struct Places {
    spans: BTreeMap<String, (Range<usize>, Range<usize>)>,
    spoilt: BTreeSet<String>,
}

impl Places {
    /// The value of a setting; where it was left out, the table it belongs in.
    pub fn value(&self, path: &str) -> Range<usize> {
        match self.spans.get(path) {
            Some((_, value)) => value.clone(),
            None => path.rsplit_once('.').map_or(0..0, |(table, _)| self.header(table)),
        }
    }

    /// The key of a setting, or the header of a table.
    pub fn header(&self, path: &str) -> Range<usize> {
        match self.spans.get(path) {
            Some((key, _)) => key.clone(),
            None => path.rsplit_once('.').map_or(0..0, |(table, _)| self.header(table)),
        }
    }

    /// True when the text has this setting.
    pub fn has(&self, path: &str) -> bool {
        self.spans.contains_key(path)
    }

    /// The path of the innermost setting that stands around this byte of the text.
    pub fn path_at(&self, at: usize) -> Option<&str> {
        let around = |(key, value): &(Range<usize>, Range<usize>)| key.contains(&at) || value.contains(&at);
        let found = self.spans.iter().filter(|(_, spans)| around(spans));
        found.map(|(path, _)| path.as_str()).max_by_key(|path| path.len())
    }

    /// True when something in this table did not fit: what seems to be missing may only be misspelt.
    pub fn is_spoilt(&self, table: &str) -> bool {
        self.spoilt.contains(table)
    }

    pub(super) fn note(&mut self, path: &str, key: Range<usize>, value: Range<usize>) {
        self.spans.insert(path.to_owned(), (key, value));
    }

    pub(super) fn spoil(&mut self, table: &str) {
        self.spoilt.insert(table.to_owned());
    }
}

/// Reads `gateway.drivers`. False with the registry when it is not complete, so that an unknown id is no news.
fn read_site_drivers(config: &mut Config, places: &Places, faults: &mut Vec<Fault>) -> (Registry, bool) {
    let mut registry = Registry::builtin();
    let Some(folder) = config.gateway.drivers.clone() else { return (registry, true) };
    let at = places.value("gateway.drivers");
    let folders = match driver_folders(&folder) {
        Ok(folders) => folders,
        Err(error) => {
            let message = format!("the folder of drivers {} cannot be read: {error}", folder.display());
            faults.push(Fault::setting(at, message));
            return (registry, false);
        }
    };
    let mut complete = true;
    for folder in folders {
        let file = folder.join(DRIVER_FILE);
        let id = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let read = read_named(&file).map_err(|error| error.to_string());
        let added = read.and_then(|text| registry.add(&id, &text).map(|()| text).map_err(|e| e.to_string()));
        match added {
            Ok(text) => config.site_drivers.push((id, text)),
            Err(message) => {
                complete = false;
                faults.push(Fault::setting(at.clone(), message.trim_end()));
            }
        }
    }
    (registry, complete)
}

/// The folders of a site's drivers, sorted.
fn driver_folders(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders: Vec<_> = std::fs::read_dir(folder)?.filter_map(Result::ok).map(|e| e.path()).collect();
    folders.retain(|f| f.join(DRIVER_FILE).is_file());
    folders.sort();
    Ok(folders)
}

/// A file of rules.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RulesFile {
    /// The rules.
    #[serde(rename = "rule")]
    rules: Vec<Rule>,
}

/// Reads `gateway.rules` and adds what it holds to the rules of the configuration. What is wrong in it is told with its
/// line, at the setting that names it.
fn read_rules(config: &mut Config, places: &Places, faults: &mut Vec<Fault>) {
    let Some(path) = config.gateway.rules.clone() else { return };
    let at = places.value("gateway.rules");
    match rules_file(&path) {
        Ok(rules) => config.rules.extend(rules),
        Err(LoadError::Faults(wrong)) => {
            faults.extend(wrong.list().iter().map(|fault| {
                let (line, column) = wrong.line_and_column(fault.at.start);
                let told = Fault::setting(at.clone(), format!("{}:{line}:{column}: {}", path.display(), fault.message));
                match &fault.hint {
                    Some(hint) => told.hint(hint),
                    None => told,
                }
            }));
        }
        Err(error) => faults.push(Fault::setting(at, error.to_string())),
    }
}

/// Reads and checks a file of rules.
///
/// # Errors
/// [`LoadError`]; with [`LoadError::Faults`] everything that is wrong with it, each at its line.
pub fn rules_file(path: &Path) -> Result<Vec<Rule>, LoadError> {
    let name = path.display().to_string();
    let text = read_named(path)?;
    let (document, broken) = DeTable::parse_recoverable(&text);
    if !broken.is_empty() {
        let faults = broken.iter().map(|error| Fault::setting(error.span().unwrap_or(0..0), syntax(error.message())));
        return Err(LoadError::Faults(Faults::new(&name, &text, faults.collect())));
    }
    let root = schemars::schema_for!(RulesFile).to_value();
    let structure = schema::compare_with(&root, document.get_ref());
    let mut faults = structure.faults;
    let read: Result<RulesFile, _> = structure.table.try_into();
    match read {
        Ok(file) => {
            faults.extend(check::check_rules(&file.rules, &structure.places));
            if faults.is_empty() {
                return Ok(file.rules);
            }
        }
        Err(error) if faults.is_empty() => faults.push(Fault::setting(0..0, error.message())),
        Err(_) => {}
    }
    Err(LoadError::Faults(Faults::new(&name, &text, faults)))
}

/// The parser's words, as a sentence.
fn syntax(message: &str) -> String {
    format!("this is not TOML: {}", message.trim().replace('\n', "; "))
}
