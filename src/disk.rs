//! Small files that are replaced whole: who reads one finds what was there or what is there now, also after a power cut.
//! Entries, messages and images are not kept this way; see [`crate::journal`].

mod lock;
mod owner;
mod place;

pub use lock::{lies_at, open_locked};
pub use owner::{as_owner_of, is_root, name_of, number_of};
pub use place::{Owner, make_folder, put_file};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Result, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Mode of a file that nobody but its owner may read.
const SECRET: u32 = 0o600;
/// Mode of a configuration, which the service's group may read.
const SETTINGS: u32 = 0o640;
/// Mode of any other new file, of which the process's mask takes away.
const OPEN: u32 = 0o666;

/// Writes a file, or puts it in the place of the one that is there, whose permissions it takes over. On disk when this
/// returns.
///
/// # Errors
/// What the system refuses; the file that was there is untouched then.
pub fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let permissions = std::fs::metadata(file).ok().map(|there| there.permissions());
    write(file, bytes, OPEN, permissions)?.sync_all()?;
    put(file)?;
    sync_folder(file)
}

/// [`replace`] without waiting for the disk, for what may be lost: after a power cut the file may be the older one, or
/// empty.
///
/// # Errors
/// As [`replace`].
pub fn note(file: &Path, bytes: &[u8]) -> Result<()> {
    write(file, bytes, OPEN, None)?;
    put(file)
}

/// [`replace`] for what nobody but the owner may read (mode 0600), whatever was there.
///
/// # Errors
/// As [`replace`].
pub fn replace_secret(file: &Path, bytes: &[u8]) -> Result<()> {
    write(file, bytes, SECRET, Some(Permissions::from_mode(SECRET)))?.sync_all()?;
    put(file)?;
    sync_folder(file)
}

/// [`replace`], once whoever wants it has looked at what is on the disk: until then the file that was there stays.
///
/// # Errors
/// As [`replace`], and what was found.
pub fn replace_checked<E>(
    file: &Path,
    bytes: &[u8],
    look: impl FnOnce(&Path) -> std::result::Result<(), E>,
) -> Result<std::result::Result<(), E>> {
    let permissions = std::fs::metadata(file).ok().map(|there| there.permissions());
    write(file, bytes, OPEN, permissions)?.sync_all()?;
    if let Err(wrong) = look(&unfinished(file)) {
        std::fs::remove_file(unfinished(file))?;
        return Ok(Err(wrong));
    }
    put(file)?;
    sync_folder(file)?;
    Ok(Ok(()))
}

/// [`replace`] with these permissions, and for this user and group where they are given.
///
/// # Errors
/// As [`replace`].
pub fn replace_owned(file: &Path, bytes: &[u8], mode: u32, owner: Option<(u32, u32)>) -> Result<()> {
    let written = write(file, bytes, SECRET, Some(Permissions::from_mode(SECRET)))?;
    owner.map_or(Ok(()), |(user, group)| fchown(&written, Some(user), Some(group)))?;
    written.set_permissions(Permissions::from_mode(mode))?;
    written.sync_all()?;
    put(file)?;
    sync_folder(file)
}

/// [`replace_beside_settings`] for the configuration itself, which may be a symbolic link: that is followed.
///
/// # Errors
/// As [`replace`], and a symbolic link that leads nowhere, as to a disk that is not there now.
pub fn replace_settings(file: &Path, bytes: &[u8]) -> Result<()> {
    // A link leads on to what is replaced, and stays one.
    let file = &match std::fs::canonicalize(file) {
        Ok(whole) => whole,
        Err(error) if file.is_symlink() => return Err(error),
        Err(_) => file.to_path_buf(),
    };
    replace_beside_settings(file, bytes)
}

/// [`replace`] for what lies beside a configuration: a new file is mode 0640, and of its folder's group, which is the
/// service's; one that is there keeps mode, owner and group. Whoever may not give a file away writes it under its own
/// name. A symbolic link is no such file, and gives way.
///
/// # Errors
/// As [`replace`].
pub fn replace_beside_settings(file: &Path, bytes: &[u8]) -> Result<()> {
    let there = std::fs::symlink_metadata(file).ok().filter(std::fs::Metadata::is_file);
    let permissions = there.as_ref().map_or(Permissions::from_mode(SETTINGS), std::fs::Metadata::permissions);
    let (owner, group) = match there {
        Some(there) => (Some(there.uid()), there.gid()),
        None => (None, std::fs::metadata(folder(file))?.gid()),
    };
    let written = write(file, bytes, SECRET, Some(permissions))?;
    let _ = fchown(&written, owner, Some(group));
    written.sync_all()?;
    put(file)?;
    sync_folder(file)
}

fn write(file: &Path, bytes: &[u8], mode: u32, permissions: Option<Permissions>) -> Result<File> {
    // What a crash left behind may have had other permissions, and what somebody else put there may lead elsewhere.
    let _ = std::fs::remove_file(unfinished(file));
    let mut written = OpenOptions::new().write(true).create_new(true).mode(mode).open(unfinished(file))?;
    // Before there is anything in it; the process's mask takes away from the mode above.
    permissions.map_or(Ok(()), |permissions| written.set_permissions(permissions))?;
    written.write_all(bytes)?;
    Ok(written)
}

fn put(file: &Path) -> Result<()> {
    std::fs::rename(unfinished(file), file)
}

/// Makes durable that a file was made, renamed or removed.
///
/// # Errors
/// What the system refuses.
pub fn sync_folder(file: &Path) -> Result<()> {
    File::open(folder(file))?.sync_all()
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Nothing of ours has a name that ends so, and no editor's copy.
const UNFINISHED: &str = ".unfinished";

/// What a file is called until it is whole.
pub(crate) fn unfinished(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

/// True for what is called so.
pub(crate) fn is_unfinished(file: &Path) -> bool {
    file.as_os_str().as_encoded_bytes().ends_with(UNFINISHED.as_bytes())
}

/// Opens a file to read it. A pipe or a device, which may have no end, is none: nobody waits for it.
///
/// # Errors
/// What the system refuses, and [`std::io::ErrorKind::InvalidInput`] for what is no regular file.
pub fn open_regular(file: &Path) -> Result<File> {
    let is_regular = |about: std::fs::Metadata| match about.is_file() {
        true => Ok(()),
        false => Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file")),
    };
    // Some devices do something as soon as they are opened.
    is_regular(std::fs::metadata(file)?)?;
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(file)?;
    is_regular(open.metadata()?)?;
    Ok(open)
}

/// Has the system forget what it keeps of a file that was synced, so that the next read is of the disk.
pub fn forget_cached(file: &File) {
    // SAFETY: the descriptor is open as long as the file is; the call only advises.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(file: &Path) -> u32 {
        std::fs::metadata(file).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.json");
        replace(&file, b"one, and long").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::fs::write(unfinished(&file), "what a power cut left, which is longer").unwrap();
        replace(&file, b"two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert_eq!(mode(&file), 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let kept = dir.path().join("a.json~");
        std::fs::write(&kept, "a copy that an editor made").unwrap();
        replace(&file, b"three").unwrap();
        assert_eq!(std::fs::read(&kept).unwrap(), b"a copy that an editor made");
    }

    #[test]
    fn a_secret_is_its_owners_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "open").unwrap();
        std::fs::write(unfinished(&file), "open").unwrap();
        replace_secret(&file, b"mine").unwrap();
        assert_eq!((std::fs::read(&file).unwrap(), mode(&file)), (b"mine".to_vec(), SECRET));
    }

    #[test]
    fn a_link_in_the_place_of_what_is_half_written_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("key"), dir.path().join("other"));
        std::fs::write(&other, "another's").unwrap();
        std::os::unix::fs::symlink(&other, unfinished(&file)).unwrap();
        replace_secret(&file, b"mine").unwrap();
        assert_eq!(
            (std::fs::read(&file).unwrap(), std::fs::read(&other).unwrap()),
            (b"mine".into(), b"another's".into())
        );
    }

    #[test]
    fn a_configuration_is_for_its_group_and_keeps_the_mode_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        replace_settings(&file, b"one").unwrap();
        assert_eq!(mode(&file), SETTINGS);
        assert_eq!(std::fs::metadata(&file).unwrap().gid(), std::fs::metadata(dir.path()).unwrap().gid());
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink("a.toml", &link).unwrap();
        replace_settings(&link, b"two").unwrap();
        assert_eq!((std::fs::read(&file).unwrap(), mode(&file)), (b"two".to_vec(), 0o644));
        assert!(link.is_symlink(), "a link stays one");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(replace_settings(&link, b"three").unwrap_err().kind(), std::io::ErrorKind::NotFound);
        assert!(link.is_symlink(), "also where it leads to a disk that is away");
        let other = dir.path().join("other");
        std::fs::write(&other, "another's").unwrap();
        let report = dir.path().join("report");
        std::os::unix::fs::symlink(&other, &report).unwrap();
        replace_beside_settings(&report, b"ours").unwrap();
        assert_eq!((std::fs::read(&other).unwrap(), mode(&report)), (b"another's".to_vec(), SETTINGS));
    }

    #[test]
    fn what_is_not_right_on_the_disk_does_not_take_the_place_of_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, "older").unwrap();
        let look = |place: &Path| if std::fs::read(place).unwrap() == b"whole" { Ok(()) } else { Err("cut") };
        assert_eq!(replace_checked(&file, b"half", look).unwrap(), Err("cut"));
        assert_eq!(std::fs::read(&file).unwrap(), b"older");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of it");
        assert_eq!(replace_checked(&file, b"whole", look).unwrap(), Ok(()));
        assert_eq!(std::fs::read(&file).unwrap(), b"whole");
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        replace(&file, b"one").unwrap();
        std::fs::create_dir(unfinished(&file)).unwrap();
        assert!(replace(&file, b"two").is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"one");
    }
}
