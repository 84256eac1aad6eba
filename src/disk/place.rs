//! What root makes, and whose it is: in a folder of root's whose it is said to be, and in anybody else's theirs.

use super::{as_owner_of, is_root, replace_owned, sync_folder, unfinished};
use std::fs::Permissions;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// User and group.
pub type Owner = (u32, u32);

/// Makes a folder where there is none, and those that it is in, on disk when this returns. What is not said of it is as of
/// the folder that it is in, and so are those.
///
/// # Errors
/// What the system refuses.
pub fn make_folder(folder: &Path, mode: Option<u32>, owner: Option<Owner>) -> Result<()> {
    let folder = &std::path::absolute(folder)?;
    if folder.try_exists()? {
        return Ok(());
    }
    let around = around(folder)?;
    make_folder(&around, None, None)?;
    let about = std::fs::metadata(&around)?;
    let owner = owner_in(&about, owner).or(is_root().then(|| (about.uid(), about.gid())));
    as_owner_of(&around, || {
        // Under its name only once it is as it is to be: one that a crash left half made would be taken for whole.
        let half = unfinished(folder);
        match std::fs::create_dir(&half) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        owner.map_or(Ok(()), |(user, group)| lchown(&half, Some(user), Some(group)))?;
        // Whatever the process's mask takes away from new ones.
        std::fs::set_permissions(&half, Permissions::from_mode(mode.unwrap_or(about.mode() & 0o777)))?;
        std::fs::rename(&half, folder)?;
        sync_folder(folder)
    })?
}

/// [`replace_owned`] in a folder that is made where there is none ([`make_folder`]).
///
/// # Errors
/// As both.
pub fn put_file(file: &Path, bytes: &[u8], mode: u32, owner: Option<Owner>) -> Result<()> {
    let file = &std::path::absolute(file)?;
    let around = around(file)?;
    make_folder(&around, None, None)?;
    let owner = owner_in(&std::fs::metadata(&around)?, owner);
    as_owner_of(&around, || replace_owned(file, bytes, mode, owner))?
}

/// Whose something new in this folder is to be; none where it is whoever's makes it.
fn owner_in(folder: &std::fs::Metadata, said: Option<Owner>) -> Option<Owner> {
    said.filter(|_| is_root() && folder.uid() == 0)
}

fn around(place: &Path) -> Result<PathBuf> {
    place.parent().map(Path::to_path_buf).ok_or(ErrorKind::IsADirectory.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;

    const SERVICE: Owner = (4711, 4712);
    const OTHER: Owner = (4713, 4714);

    fn about(place: &Path) -> (u32, Owner) {
        let about = std::fs::metadata(place).unwrap();
        (about.mode() & 0o777, (about.uid(), about.gid()))
    }

    #[test]
    fn what_is_new_is_whose_it_is_said_to_be_in_roots_folders_and_theirs_in_others() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
        let (roots, services) = (dir.path().join("roots"), dir.path().join("services"));
        make_folder(&roots, Some(0o751), None).unwrap();
        let own = about(dir.path()).1;
        assert_eq!(about(&roots), (0o751, own));
        put_file(&roots.join("deep/file"), b"one", 0o640, None).unwrap();
        assert_eq!(about(&roots.join("deep")), (0o751, own), "as the one that it is in");
        assert_eq!(about(&roots.join("deep/file")), (0o640, own));
        std::fs::create_dir(&services).unwrap();
        if chown(&services, Some(SERVICE.0), Some(SERVICE.1)).is_err() {
            println!("left out: what root makes for others (this is not root)");
            return;
        }
        make_folder(&roots.join("given"), Some(0o700), Some(OTHER)).unwrap();
        put_file(&roots.join("file"), b"two", 0o600, Some(OTHER)).unwrap();
        assert_eq!(about(&roots.join("given")), (0o700, OTHER));
        assert_eq!(about(&roots.join("file")), (0o600, OTHER));
        make_folder(&services.join("given"), Some(0o700), Some(OTHER)).unwrap();
        put_file(&services.join("deep/file"), b"three", 0o644, Some(OTHER)).unwrap();
        for (place, mode) in [("given", 0o700), ("deep", 0o755), ("deep/file", 0o644)] {
            assert_eq!(about(&services.join(place)), (mode, SERVICE), "{place}");
        }
        make_folder(&services, Some(0o700), Some(OTHER)).unwrap();
        assert_eq!(about(&services), (0o755, SERVICE), "what is there stays as it is");
    }
}
