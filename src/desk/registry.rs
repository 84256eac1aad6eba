//! The boxes that the desk knows: `boxes.toml`, a file for people and for version control. Nothing of it is needed to
//! reach a box; it says what belongs to the fleet, where it stands and in which order changes reach it.
//!
//! ```toml
//! [[box]]
//! name = "bench-1"        # the common name of its certificate
//! site = "north"
//! ring = 0                # changes come to ring 0 first
//! tags = ["haematology"]
//! note = "behind the centrifuge"
//! ```

use super::DeskError;
use crate::config::check::name_is_usable;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Name of the file beside `desk.toml`.
pub const FILE: &str = "boxes.toml";
/// Boxes of one desk at most; a fleet that is larger takes several tenants.
pub const BOXES_MAX: usize = 20_000;

/// A box that belongs to the fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The common name of its certificate.
    pub name: String,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub site: String,
    /// Changes come to lower rings first.
    #[serde(default)]
    pub ring: u32,
    /// Words to choose it by.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// All that are known, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    boxes: BTreeMap<String, Entry>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default, rename = "box")]
    boxes: Vec<Entry>,
}

impl Registry {
    /// Reads the file of a folder; without one nothing is known.
    ///
    /// # Errors
    /// [`DeskError::File`].
    pub fn read(folder: &Path) -> Result<Registry, DeskError> {
        let file = folder.join(FILE);
        let wrong = |why: String| DeskError::File { file: file.clone(), why };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Registry::default()),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let document: Document = toml::from_str(&text).map_err(|error| wrong(error.message().to_string()))?;
        if document.boxes.len() > BOXES_MAX {
            return Err(wrong(format!("more than {BOXES_MAX} boxes")));
        }
        let mut registry = Registry::default();
        for entry in document.boxes {
            let name = entry.name.clone();
            if !registry.put(entry) {
                return Err(wrong(format!("`{name}` cannot be a box's name")));
            }
        }
        Ok(registry)
    }

    /// Changes the file: what `change` makes of it takes its place at once, and two desks change it one after the
    /// other.
    ///
    /// # Errors
    /// [`DeskError::File`].
    pub fn change<T>(folder: &Path, change: impl FnOnce(&mut Registry) -> T) -> Result<T, DeskError> {
        let (file, lock) = (folder.join(FILE), folder.join(format!("{FILE}.lock")));
        let wrong = |error: std::io::Error| DeskError::File { file: file.clone(), why: error.to_string() };
        let locked = std::fs::File::create(&lock).map_err(wrong)?;
        locked.lock().map_err(wrong)?;
        let mut registry = Registry::read(folder)?;
        let made = change(&mut registry);
        let document = Document { boxes: registry.boxes.into_values().collect() };
        let text = toml::to_string(&document)
            .map_err(|error| DeskError::File { file: file.clone(), why: error.to_string() })?;
        crate::disk::replace(&file, text.as_bytes()).map_err(wrong)?;
        Ok(made)
    }

    /// Puts a box in, in place of the one of its name. False when it cannot have that name.
    pub fn put(&mut self, entry: Entry) -> bool {
        let fits = name_is_usable(&entry.name) && (self.boxes.len() < BOXES_MAX || self.get(&entry.name).is_some());
        if fits {
            self.boxes.insert(entry.name.clone(), entry);
        }
        fits
    }

    /// Takes a box out. True when it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.boxes.remove(name).is_some()
    }

    /// A box.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.boxes.get(name)
    }

    /// All of a group, in order of name.
    pub fn of<'r>(&'r self, group: &Group) -> impl Iterator<Item = &'r Entry> {
        self.boxes.values().filter(move |entry| group.has(entry))
    }

    /// True when nothing is known.
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }
}

/// Some boxes of the registry: `all`, or terms with commas between them, each of which holds: `ring=1`, `site=north`,
/// `tag=haematology`, `name=bench-1`, with `!=` for what does not hold; a value that ends in `*` stands for all that
/// begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    key: Key,
    is: bool,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Name,
    Site,
    Ring,
    Tag,
}

/// Text that is no [`Group`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` chooses no boxes: write `all`, or `ring=1`, `site=north`, `tag=haematology`, `name=bench-*`, with commas"
)]
pub struct NoGroup(String);

impl Group {
    /// Whether a box belongs to it.
    pub fn has(&self, entry: &Entry) -> bool {
        let matches = |value: &str, wanted: &str| match wanted.strip_suffix('*') {
            Some(beginning) => value.starts_with(beginning),
            None => value == wanted,
        };
        self.0.iter().all(|Term { key, is, value }| {
            let holds = match key {
                Key::Name => matches(&entry.name, value),
                Key::Site => matches(&entry.site, value),
                Key::Ring => matches(&entry.ring.to_string(), value),
                Key::Tag => entry.tags.iter().any(|tag| matches(tag, value)),
            };
            holds == *is
        })
    }
}

impl FromStr for Group {
    type Err = NoGroup;

    fn from_str(text: &str) -> Result<Group, NoGroup> {
        if text.trim() == "all" {
            return Ok(Group(Vec::new()));
        }
        let term = |term: &str| {
            let (key, value) = term.split_once('=')?;
            let (key, is) = key.strip_suffix('!').map_or((key, true), |key| (key, false));
            let key = match key.trim() {
                "name" => Key::Name,
                "site" => Key::Site,
                "ring" => Key::Ring,
                "tag" => Key::Tag,
                _ => return None,
            };
            let value = value.trim().to_string();
            (!value.is_empty()).then_some(Term { key, is, value })
        };
        let terms: Option<Vec<Term>> = text.split(',').map(term).collect();
        terms.map(Group).ok_or_else(|| NoGroup(text.to_string()))
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("all");
        }
        for (at, Term { key, is, value }) in self.0.iter().enumerate() {
            let key = match key {
                Key::Name => "name",
                Key::Site => "site",
                Key::Ring => "ring",
                Key::Tag => "tag",
            };
            write!(f, "{}{key}{}{value}", if at > 0 { "," } else { "" }, if *is { "=" } else { "!=" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, site: &str, ring: u32, tags: &[&str]) -> Entry {
        let tags = tags.iter().map(|tag| (*tag).to_string()).collect();
        Entry { name: name.into(), site: site.into(), ring, tags, note: String::new() }
    }

    #[test]
    fn a_group_is_what_all_its_terms_choose() {
        let dir = tempfile::tempdir().unwrap();
        let all = [
            entry("bench-1", "north", 0, &["haematology"]),
            entry("bench-2", "north", 1, &[]),
            entry("ct-1", "south", 1, &["imaging", "night"]),
        ];
        Registry::change(dir.path(), |registry| all.map(|entry| assert!(registry.put(entry)))).unwrap();
        let registry = Registry::read(dir.path()).unwrap();
        for (text, wanted) in [
            ("all", vec!["bench-1", "bench-2", "ct-1"]),
            ("ring=1", vec!["bench-2", "ct-1"]),
            ("ring=1,site=north", vec!["bench-2"]),
            ("ring!=1", vec!["bench-1"]),
            ("tag=imaging", vec!["ct-1"]),
            ("tag!=imaging, name=bench-*", vec!["bench-1", "bench-2"]),
            ("ring=10", vec![]),
        ] {
            let group: Group = text.parse().unwrap();
            let names: Vec<&str> = registry.of(&group).map(|entry| entry.name.as_str()).collect();
            assert_eq!(names, wanted, "{text}");
            assert_eq!(group.to_string().parse(), Ok(group));
        }
        for text in ["", "ring", "ring=", "rings=1", "ring=1,", "=1"] {
            assert!(text.parse::<Group>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_that_says_something_unknown_is_not_read_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[[box]]\nname = \"bench-1\"\nrack = 3\n";
        std::fs::write(dir.path().join(FILE), text).unwrap();
        assert!(Registry::change(dir.path(), |registry| registry.remove("bench-1")).is_err());
        assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), text);
        std::fs::write(dir.path().join(FILE), "[[box]]\nname = \"a/b\"\n").unwrap();
        assert!(Registry::read(dir.path()).is_err());
    }
}
