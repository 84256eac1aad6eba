//! RAUC: who writes the operating system into a slot, and asks the bootloader to start it. Driven by its own program,
//! `rauc`, which speaks D-Bus to its service; so the box needs no D-Bus of its own, and whoever stands in front of it can
//! do by hand what it does.
//!
//! What counts is what `rauc status` says (RAUC 1.8 and later, `--detailed --output-format=json`). It takes exactly two
//! slots that can be booted, and a `statusfile` in RAUC's system.conf where a slot holds no file system.

use super::program;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PROGRAM: &str = "rauc";
/// It only looks, or asks the bootloader.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A bundle is checked, and written to a slow disk.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(3600);
/// What RAUC says while somebody else has it install.
const BUSY: &str = "lready processing a different method";

/// [`TIMEOUT`]. A debug build can be told another, so that a test need not wait for it.
fn timeout() -> Duration {
    #[cfg(debug_assertions)]
    if let Some(Ok(ms)) = std::env::var("AFFERENT_RAUC_TIMEOUT_MS").ok().map(|ms| ms.parse()) {
        return Duration::from_millis(ms);
    }
    TIMEOUT
}
/// A slot that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// RAUC's name of it, for example "rootfs.0".
    pub name: String,
    /// The bootloader's name of it.
    pub bootname: String,
    /// Version of the bundle that was installed there; none when RAUC has not written it.
    pub version: Option<String>,
    /// How often it was written.
    pub installs: u64,
    /// It was written to its end.
    pub is_whole: bool,
}

/// What RAUC says of the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which bundles are for it.
    pub compatible: String,
    /// The slot that runs.
    pub booted: Slot,
    /// The other.
    pub other: Slot,
    /// The slot that runs is the one that the bootloader starts next.
    pub stays: bool,
}

#[derive(Deserialize)]
struct Said {
    compatible: String,
    booted: Option<String>,
    boot_primary: Option<String>,
    slots: Vec<BTreeMap<String, SaidSlot>>,
}

#[derive(Deserialize)]
struct SaidSlot {
    bootname: Option<String>,
    #[serde(default)]
    slot_status: SlotStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SlotStatus {
    bundle: Bundle,
    installed: Installed,
    status: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Bundle {
    version: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Installed {
    count: u64,
}

/// Asks RAUC.
///
/// # Errors
/// In words: there is no RAUC, no service, or it does not look after two slots.
pub fn status() -> Result<Status, String> {
    status_within(timeout())
}

/// The same, for whoever has no more time than this.
///
/// # Errors
/// As [`status`].
pub fn status_within(timeout: Duration) -> Result<Status, String> {
    let mut command = Command::new(PROGRAM);
    let said = program::answer(command.args(["status", "--detailed", "--output-format=json"]), timeout);
    read(&said.map_err(|why| format!("rauc status: {why}"))?)
}

fn read(said: &[u8]) -> Result<Status, String> {
    let said: Said = serde_json::from_slice(said).map_err(|error| format!("rauc status: {error}"))?;
    let slot = |(name, said): (String, SaidSlot)| {
        let SaidSlot { bootname, slot_status: SlotStatus { bundle, installed, status } } = said;
        let is_whole = status.as_deref() == Some("ok");
        Some(Slot { name, bootname: bootname?, version: bundle.version, installs: installed.count, is_whole })
    };
    let bootable: Vec<Slot> = said.slots.into_iter().flatten().filter_map(slot).collect();
    let found = bootable.len();
    let [one, two] = <[Slot; 2]>::try_from(bootable)
        .map_err(|_| format!("RAUC looks after {found} slots that can be booted, and it takes two"))?;
    let booted = said.booted.ok_or("RAUC does not know which slot runs")?;
    let (booted, other) = match (booted == one.bootname, booted == two.bootname) {
        (true, false) => (one, two),
        (false, true) => (two, one),
        _ => return Err(format!("RAUC says that `{booted}` runs, which is none of its slots")),
    };
    let stays = said.boot_primary.as_ref() == Some(&booted.name);
    Ok(Status { compatible: said.compatible, booted, other, stays })
}

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// RAUC installs already.
    #[error("RAUC is at work already")]
    Busy,
    /// It could not.
    #[error("rauc install: {0}")]
    Failed(String),
}

/// Has RAUC write a bundle into the slot that does not run, once it has checked whose it is.
///
/// # Errors
/// [`InstallError`].
pub fn install(bundle: &Path) -> Result<(), InstallError> {
    match program::answer(Command::new(PROGRAM).arg("install").arg(bundle), INSTALL_TIMEOUT) {
        Ok(_) => Ok(()),
        Err(why) if why.contains(BUSY) => Err(InstallError::Busy),
        Err(why) => Err(InstallError::Failed(why)),
    }
}

/// What a slot is marked as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It works.
    Good,
    /// It is not to be started.
    Bad,
    /// It is started next.
    Active,
}

/// Which slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that runs.
    Booted,
    /// The other.
    Other,
}

/// Marks a slot.
///
/// # Errors
/// In words: RAUC could not, or is not there.
pub fn mark(which: Which, mark: Mark) -> Result<(), String> {
    let verb = match mark {
        Mark::Good => "mark-good",
        Mark::Bad => "mark-bad",
        Mark::Active => "mark-active",
    };
    let slot = match which {
        Which::Booted => "booted",
        Which::Other => "other",
    };
    let done = program::answer(Command::new(PROGRAM).args(["status", verb, slot]), timeout());
    done.map(drop).map_err(|why| format!("rauc status {verb} {slot}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RAUC 1.8 prints it, behind an installation.
    const SAID: &str = r#"{"compatible":"afferent-box","variant":"","booted":"A","boot_primary":"rootfs.1","slots":[
        {"rootfs.1":{"class":"rootfs","device":"/dev/mmcblk0p3","type":"ext4","bootname":"B","state":"inactive",
        "parent":null,"mountpoint":null,"boot_status":"bad","slot_status":{"bundle":{"compatible":"afferent-box",
        "version":"2026.11-1"},"checksum":{"sha256":"16","size":300000},"installed":{"timestamp":"2026-11-27T12:39:37Z",
        "count":2},"activated":{"timestamp":"2026-11-27T12:39:37Z","count":1},"status":"ok"}}},
        {"rootfs.0":{"class":"rootfs","device":"/dev/mmcblk0p2","type":"ext4","bootname":"A","state":"booted",
        "parent":null,"mountpoint":null,"boot_status":"good","slot_status":{"bundle":{"compatible":null}}}},
        {"app.0":{"class":"app","device":"/dev/mmcblk0p4","type":"ext4","bootname":null,"state":"inactive",
        "parent":"rootfs.0","mountpoint":null,"boot_status":null,"slot_status":{"bundle":{"compatible":null}}}}]}"#;

    #[test]
    fn what_rauc_says_is_read_and_nothing_is_guessed() {
        let said = read(SAID.as_bytes()).unwrap();
        assert_eq!((said.compatible.as_str(), said.stays), ("afferent-box", false));
        let slot = |name: &str, bootname: &str| Slot {
            name: name.to_string(),
            bootname: bootname.to_string(),
            version: None,
            installs: 0,
            is_whole: false,
        };
        assert_eq!(said.booted, slot("rootfs.0", "A"));
        let version = Some("2026.11-1".to_string());
        assert_eq!(said.other, Slot { version, installs: 2, is_whole: true, ..slot("rootfs.1", "B") });
        let changed = |from: &str, to: &str| read(SAID.replace(from, to).as_bytes());
        assert!(changed("\"boot_primary\":\"rootfs.1\"", "\"boot_primary\":\"rootfs.0\"").unwrap().stays);
        assert!(!changed("\"boot_primary\":\"rootfs.1\"", "\"boot_primary\":null").unwrap().stays);
        assert!(!changed("\"status\":\"ok\"", "\"status\":\"failed\"").unwrap().other.is_whole);
        for (from, to, why) in [
            ("\"booted\":\"A\"", "\"booted\":null", "does not know which slot runs"),
            ("\"booted\":\"A\"", "\"booted\":\"C\"", "none of its slots"),
            ("\"bootname\":null", "\"bootname\":\"C\"", "3 slots"),
            ("\"bootname\":\"B\"", "\"bootname\":null", "1 slots"),
            ("{\"compatible\"", "[\"compatible\"", "rauc status: "),
        ] {
            let found = changed(from, to).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
    }
}
