//! Secrets that the service manager hands over (`LoadCredential=`, systemd.exec(5)). Every setting that names a file with a
//! key, a certificate or a password may name one of these instead, as `credential:NAME`: `key = "credential:ehr-key"` is
//! the file `ehr-key` in `$CREDENTIALS_DIRECTORY`.
//!
//! Commands by hand have no such folder of their own, and look into the one of the service, which it has while it runs.

use crate::disk;
use std::borrow::Cow;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// What such a name begins with.
const PREFIX: &str = "credential:";
/// Where the folder of the service is, for whoever may look into it.
const OF_THE_SERVICE: &str = "/run/credentials/afferent.service";

/// The name of the credential that a setting names in the place of a file.
pub fn name(named: &Path) -> Option<&str> {
    named.to_str().and_then(|named| named.strip_prefix(PREFIX))
}

/// What a setting names where files are named from this folder on; a credential is in none.
pub fn from_folder(folder: &Path, named: &Path) -> PathBuf {
    if name(named).is_some() { named.to_path_buf() } else { folder.join(named) }
}

/// How it is handed over, for a person.
pub fn how(name: &str) -> String {
    format!("`LoadCredential={name}:FILE` hands it over, where the unit does not yet (systemctl edit afferent)")
}

/// Where the file lies that a setting names: where it says, or among what the service manager handed over.
///
/// # Errors
/// Nothing of that name was handed over: which, where it was looked for, and what to do.
pub fn place(named: &Path) -> std::io::Result<Cow<'_, Path>> {
    let Some(name) = name(named) else {
        return Ok(Cow::Borrowed(named));
    };
    place_in(folder(), name).map(Cow::Owned)
}

/// Opens the file that a setting names.
///
/// # Errors
/// As [`place`] and [`disk::open_regular`].
pub fn open(named: &Path) -> std::io::Result<File> {
    disk::open_regular(&place(named)?)
}

/// A secret that is taken without being named, if it was handed over to this very process: by hand another journal may be
/// meant than the service's.
pub fn unasked(name: &str) -> Option<PathBuf> {
    own_folder().map(|folder| folder.join(name)).filter(|file| file.exists())
}

fn folder() -> Option<PathBuf> {
    own_folder().or_else(|| Some(PathBuf::from(OF_THE_SERVICE)).filter(|folder| folder.is_dir()))
}

fn own_folder() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

fn place_in(folder: Option<PathBuf>, name: &str) -> std::io::Result<PathBuf> {
    let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(usable) {
        let why = format!("`{name}` is no name of a credential, which has letters, digits, `-`, `_` and `.`");
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    let how = how(name);
    let Some(folder) = folder else {
        let why = format!("$CREDENTIALS_DIRECTORY, where `{name}` is looked for, is the service's alone; {how}");
        return Err(Error::new(ErrorKind::NotFound, why));
    };
    let file = folder.join(name);
    match file.try_exists() {
        Ok(true) => Ok(file),
        Ok(false) => {
            Err(Error::new(ErrorKind::NotFound, format!("there is no `{name}` in {}; {how}", folder.display())))
        }
        Err(error) => Err(Error::new(error.kind(), format!("{}: {error}", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_lies_in_the_folder_of_the_service_and_its_absence_says_where() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ehr-key"), "k").unwrap();
        let place = |name: &str| place_in(Some(dir.path().to_path_buf()), name);
        assert_eq!(place("ehr-key").unwrap(), dir.path().join("ehr-key"));
        for (name, told) in [
            ("broker-key", format!("no `broker-key` in {}; `LoadCredential=broker-key:FILE`", dir.path().display())),
            ("", "is no name of a credential".to_string()),
            ("../ehr-key", "`../ehr-key` is no name of a credential".to_string()),
            ("..", "`..` is no name of a credential".to_string()),
        ] {
            let said = place(name).unwrap_err().to_string();
            assert!(said.contains(&told), "{name}: {said}");
        }
        let said = place_in(None, "ehr-key").unwrap_err().to_string();
        assert!(said.contains("$CREDENTIALS_DIRECTORY, where `ehr-key` is looked for"), "{said}");
    }

    #[test]
    fn any_other_name_is_a_file() {
        assert_eq!(from_folder(Path::new("/desk"), Path::new("credential:x")), Path::new("credential:x"));
        for named in ["/etc/afferent/ehr.key", "credentials/ehr.key", "./credential:x"] {
            assert_eq!(place(Path::new(named)).unwrap(), Path::new(named));
            assert_eq!(from_folder(Path::new("/desk"), Path::new(named)), Path::new("/desk").join(named));
        }
    }
}
