//! Root at work in a folder that is somebody else's, such as the data directory, which is the service's. Whoever may write
//! there can put a symbolic link in the way of whoever comes: what root writes, empties or gives away is another file then.
//! So root does not come: the work is done with the rights of whom the folder belongs to, and what it leaves there is theirs.

use std::io::{Error, Result};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Does the work with the rights that the owner of this folder has on files, where this is root; else as it is. A folder
/// that is not there yet, or is root's, but inside of somebody else's, is that somebody's to work in.
///
/// The work has a thread of its own, and its threads are as it is: Linux keeps a user for access to files for each thread
/// (setfsuid(2)), and takes away with root's what lets root pass by permissions. For signals and debuggers it is root's
/// still, so that the owner has no hold on it.
///
/// # Errors
/// What the system says of the folder, or of becoming its owner; nothing is done then.
pub fn as_owner_of<T: Send>(folder: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let Some((user, group)) = owner_of(folder)?.filter(|_| is_root()) else { return Ok(work()) };
    let done = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("owner".to_string());
        let thread = thread.spawn_scoped(scope, || become_for_files(user, group).map(|()| work()))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(done)
}

/// Whether this is root, who may give files away and pass by permissions.
pub fn is_root() -> bool {
    // SAFETY: it only tells who we are.
    unsafe { libc::geteuid() == 0 }
}

/// The name of a user or group, by its number. Accounts of a box are in files.
pub fn name_of(list: &str, number: u32) -> Option<String> {
    entries(list).find(|(_, found)| *found == number).map(|(name, _)| name)
}

/// The number of a user or group.
pub fn number_of(list: &str, name: &str) -> Option<u32> {
    entries(list).find(|(found, _)| found == name).map(|(_, number)| number)
}

fn entries(list: &str) -> impl Iterator<Item = (String, u32)> + use<> {
    let text = std::fs::read_to_string(list).unwrap_or_default();
    let all: Vec<(String, u32)> = text
        .lines()
        .filter_map(|line| {
            let mut parts = line.split(':');
            Some((parts.next()?.to_string(), parts.nth(1)?.parse().ok()?))
        })
        .collect();
    all.into_iter()
}

/// User and group of the innermost folder on this way that is not root's; none where all of them are.
fn owner_of(folder: &Path) -> Result<Option<(u32, u32)>> {
    for place in std::path::absolute(folder)?.ancestors() {
        match std::fs::metadata(place) {
            Ok(about) if about.uid() != 0 => return Ok(Some((about.uid(), about.gid()))),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(None)
}

/// This thread has the rights of this user and group on files from now on, and no other group's.
fn become_for_files(user: u32, group: u32) -> Result<()> {
    // No number of a user or group, so that nothing changes and the present one is told.
    const NONE: u32 = u32::MAX;
    // SAFETY: the calls change numbers of this thread in the kernel. The system call leaves other threads as they are,
    // which the function of the C library would not; it reads no list of none.
    unsafe {
        if libc::syscall(libc::SYS_setgroups, 0_usize, std::ptr::null::<libc::gid_t>()) != 0 {
            return Err(Error::last_os_error());
        }
        libc::setfsgid(group);
        libc::setfsuid(user);
        let is = (libc::setfsuid(NONE), libc::setfsgid(NONE));
        if is != (user.cast_signed(), group.cast_signed()) {
            return Err(Error::other(format!("root may not work as user {user} and group {group} here")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    const SERVICE: u32 = 4711;

    /// A folder of the service's in one of root's that everybody may pass; none where this is not root.
    fn services() -> Option<(tempfile::TempDir, std::path::PathBuf)> {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(dir.path(), open).unwrap();
        if chown(&data, Some(SERVICE), Some(SERVICE)).is_err() {
            println!("left out: root's work in another's folder (this is not root)");
            return None;
        }
        Some((dir, data))
    }

    #[test]
    fn what_root_leaves_in_the_folder_of_another_is_theirs() {
        let Some((dir, data)) = services() else { return };
        let deep = data.join("not/there/yet");
        as_owner_of(&deep, || {
            std::fs::create_dir_all(&deep).unwrap();
            // Threads that the work starts are as it is.
            std::thread::scope(|scope| {
                scope.spawn(|| crate::disk::replace_secret(&deep.join("key"), b"mine").unwrap());
            });
        })
        .unwrap();
        for file in ["not", "not/there/yet", "not/there/yet/key"] {
            let about = std::fs::metadata(data.join(file)).unwrap();
            assert_eq!((about.uid(), about.gid()), (SERVICE, SERVICE), "{file}");
        }
        std::fs::write(dir.path().join("after"), "").unwrap();
        assert_eq!(std::fs::metadata(dir.path().join("after")).unwrap().uid(), 0, "everybody else is root still");
    }

    #[test]
    fn a_link_out_of_the_folder_leads_root_nowhere() {
        let Some((dir, data)) = services() else { return };
        let roots = dir.path().join("roots");
        std::fs::create_dir(&roots).unwrap();
        std::fs::write(roots.join("key"), "root's").unwrap();
        std::fs::set_permissions(&roots, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        symlink(&roots, data.join("identity")).unwrap();
        for place in [data.clone(), data.join("identity")] {
            let key = data.join("identity/key");
            let why = as_owner_of(&place, || std::fs::write(&key, "other")).unwrap().unwrap_err();
            assert_eq!(why.kind(), std::io::ErrorKind::PermissionDenied);
        }
        assert_eq!(std::fs::read(roots.join("key")).unwrap(), b"root's");
    }

    #[test]
    fn in_a_folder_of_ones_own_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        let here = std::thread::current().id();
        assert_eq!(as_owner_of(dir.path(), || std::thread::current().id()).unwrap(), here);
        assert_eq!(owner_of(&dir.path().join("no/such")).unwrap(), owner_of(dir.path()).unwrap());
    }
}
