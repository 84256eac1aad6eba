//! Which files a configuration names.
//!
//! By the names of settings, not by what their values look like: a test reads the sample, which has every setting, and
//! insists that each one with a path is decided about here.

use std::path::PathBuf;
use toml::{Table, Value};

/// Settings that name a file, by how their path ends.
const FILES: [&str; 11] = [
    "gateway.rules",
    "journal.key_file",
    "link.operators",
    "board.definition",
    "update.root",
    "oauth.key_file",
    ".password_file",
    ".proxy_password_file",
    "tls.ca",
    "tls.client_ca",
    "tls.cert",
];
/// The key of a certificate; other things are called `key` too.
const KEY: &str = "tls.key";
/// The settings by which the fleet knows the box.
const IDENTITY: [&str; 4] = ["fleet.tls.cert", "fleet.tls.key", "fleet.sparkplug.tls.cert", "fleet.sparkplug.tls.key"];
/// The folder of the site's drivers.
const DRIVERS: &str = "gateway.drivers";

/// A file that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The setting, without numbers: `link.tls.cert`.
    pub setting: String,
    /// The file.
    pub path: PathBuf,
}

impl Named {
    /// Whether it says who the box is to its fleet.
    pub fn is_identity(&self) -> bool {
        IDENTITY.contains(&self.setting.as_str())
    }
}

/// The files that this text names, in its order, and the folder of drivers. Of a text that is no TOML there are none.
pub fn named(text: &str) -> (Vec<Named>, Option<PathBuf>) {
    let (mut files, mut drivers) = (Vec::new(), None);
    let table: Table = toml::from_str(text).unwrap_or_default();
    walk(&Value::Table(table), "", &mut |setting, value| {
        if setting == DRIVERS {
            drivers = Some(PathBuf::from(value));
        } else if is_file(setting) && (setting != "board.definition" || value.contains('/')) {
            files.push(Named { setting: setting.to_string(), path: PathBuf::from(value) });
        }
    });
    (files, drivers)
}

fn is_file(setting: &str) -> bool {
    FILES.iter().chain([&KEY]).any(|end| setting.ends_with(end))
}

fn walk(value: &Value, path: &str, found: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            walk(value, &path, found);
        }),
        Value::Array(all) => all.iter().for_each(|value| walk(value, path, found)),
        Value::String(text) => found(path, text),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Paths that are no files of the configuration: places of this machine, and what lies there.
    const OTHERS: [&str; 7] =
        ["gateway.data", "link.serial", "link.directory", "fleet.stick", "update.releases", "board.folder", DRIVERS];

    #[test]
    fn every_path_of_the_sample_is_decided_about() {
        // As if every setting were set: those that are left out stand there as comments.
        let sample = crate::config::sample::SAMPLE;
        let is_setting = |line: &str| line.split(" = ").next().is_some_and(|key| !key.trim().contains(' '));
        let set: Vec<&str> = sample
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| rest.starts_with('[') || is_setting(rest)).unwrap_or(line))
            .filter(|line| line.starts_with('[') || line.contains(" = \"/") || line.contains(" = \"cm4"))
            .collect();
        let mut path = String::new();
        let (mut decided, mut undecided) = (BTreeSet::new(), BTreeSet::new());
        for line in set {
            match line.strip_prefix('[') {
                Some(table) => path = table.trim_matches(['[', ']']).to_string(),
                None => {
                    let setting = format!("{path}.{}", line.split(" = ").next().unwrap());
                    match is_file(&setting) || OTHERS.contains(&setting.as_str()) {
                        true => decided.insert(setting),
                        false => undecided.insert(setting),
                    };
                }
            }
        }
        assert!(undecided.is_empty(), "say of these whether they are files of the configuration: {undecided:?}");
        for end in FILES.iter().chain([&KEY]).chain(&IDENTITY).chain(&OTHERS) {
            assert!(decided.iter().any(|setting| setting.ends_with(end)), "{end} is no setting: {decided:?}");
        }
    }

    #[test]
    fn files_are_found_wherever_they_are_named() {
        let (files, drivers) = named(
            "[gateway]\ndata = \"/d\"\ndrivers = \"/e/drivers\"\nrules = \"r.toml\"\n[board]\ndefinition = \"x86-1\"\n\
             [[link]]\nserial = \"/dev/ttyUSB0\"\ntls = { cert = \"/e/a.pem\", key = \"/e/a.key\" }\n\
             [[link]]\noperators = \"/e/o.csv\"\n[fleet.tls]\ncert = \"/e/box.pem\"\n\
             [[fleet.operator]]\nkid = \"ops\"\nkey = \"abc\"",
        );
        let found: Vec<(&str, &str)> = files.iter().map(|f| (&*f.setting, f.path.to_str().unwrap())).collect();
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(
            sorted,
            [
                ("fleet.tls.cert", "/e/box.pem"),
                ("gateway.rules", "r.toml"),
                ("link.operators", "/e/o.csv"),
                ("link.tls.cert", "/e/a.pem"),
                ("link.tls.key", "/e/a.key"),
            ]
        );
        assert_eq!(drivers, Some(PathBuf::from("/e/drivers")));
        assert_eq!(files.iter().filter(|file| file.is_identity()).count(), 1);
    }
}
