//! Whether the service may read what root names in the setup.

use crate::credential;
use crate::disk::number_of;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The user and group that `afferent.service` runs as.
const NAME: &str = "afferent";
/// Its configuration lies below this.
const SETTINGS: &str = "/etc/afferent";
/// Hidden from the service (`ProtectHome=`).
const HIDDEN: [&str; 3] = ["/home", "/root", "/run/user"];

/// Refuses a file that the service will not be able to read, when this is the setup of the service.
///
/// # Errors
/// In words, what keeps it from that, and what helps.
pub(super) fn can_read(settings: &Path, file: &Path) -> Result<(), String> {
    let (user, group) = (number_of("/etc/passwd", NAME), number_of("/etc/group", NAME));
    let (Some(user), Some(group), true) = (user, group, settings.starts_with(SETTINGS)) else { return Ok(()) };
    can_read_as(user, group, file)
}

fn can_read_as(user: u32, group: u32, file: &Path) -> Result<(), String> {
    // That one is handed over, whoever may read where it lies.
    if credential::name(file).is_some() {
        return Ok(());
    }
    let shown = file.display();
    let whole = file.canonicalize().map_err(|error| format!("{shown}: {error}"))?;
    if let Some(hidden) = HIDDEN.iter().find(|hidden| whole.starts_with(hidden)) {
        return Err(format!("the service sees nothing of {hidden}: put the file below {SETTINGS}"));
    }
    match kept_from(&whole, user, group) {
        None => Ok(()),
        Some(place) if place == whole => Err(format!(
            "the service, which runs as `{NAME}`, may not read it: chgrp {NAME} {shown}; chmod 640 {shown}"
        )),
        Some(place) => Err(format!("the service, which runs as `{NAME}`, may not look into {}", place.display())),
    }
}

/// The folder or file where this user is stopped on the way to reading a file; none where he may.
fn kept_from(file: &Path, user: u32, group: u32) -> Option<PathBuf> {
    let may = |about: &Metadata, bit: u32| {
        let shift = if about.uid() == user {
            6
        } else if about.gid() == group {
            3
        } else {
            0
        };
        about.mode() >> shift & bit != 0
    };
    let folders: Vec<&Path> = file.ancestors().skip(1).collect();
    let way = folders.into_iter().rev().map(|folder| (folder, 1)).chain([(file, 4)]);
    let mut stops = way.filter(|(place, bit)| !std::fs::metadata(place).is_ok_and(|about| may(&about, *bit)));
    stops.next().map(|(place, _)| place.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_of_root_alone_is_none_for_the_service() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.pem");
        std::fs::write(&file, "key").unwrap();
        let group = std::fs::metadata(&file).unwrap().gid();
        let nobody = 4_000_000;
        let mode = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for (folder, own, stops) in [
            (0o755, 0o600, Some(file.as_path())),
            (0o755, 0o640, None),
            (0o700, 0o640, Some(dir.path())),
            (0o710, 0o640, None),
        ] {
            mode(dir.path(), folder);
            mode(&file, own);
            assert_eq!(kept_from(&file, nobody, group).as_deref(), stops, "{folder:o} {own:o}");
        }
        mode(&file, 0o640);
        assert_eq!(kept_from(&file, nobody, nobody).as_deref(), Some(dir.path()));
        assert!(can_read_as(nobody, nobody, &file).is_err());
        assert_eq!(can_read_as(nobody, nobody, Path::new("credential:ehr-key")), Ok(()), "systemd hands that over");
        assert_eq!(can_read(Path::new("/tmp/a.toml"), &file), Ok(()), "nobody's service");
    }
}
