//! Whether this machine is a board that is known, which has LEDs, a button or a display to show how the box is.

use std::path::Path;

/// What the device tree calls the machine: names between zeros.
#[cfg(feature = "board")]
const COMPATIBLE: &str = "proc/device-tree/compatible";

/// A board that this machine may be on.
pub struct Known {
    /// The name of its definition.
    pub name: &'static str,
    /// What it is called, and has.
    pub says: String,
}

/// The board that the machine whose `/` is at `root` may be on.
#[cfg(feature = "board")]
pub fn known(root: &Path) -> Option<Known> {
    use afferent_board::definition::{BUILTIN, Definition};
    let machine = std::fs::read(root.join(COMPATIBLE)).unwrap_or_default();
    let machine = String::from_utf8_lossy(&machine).into_owned();
    let known = BUILTIN.iter().filter_map(|(name, text)| Some((name, Definition::parse(name, text).ok()?)));
    // One that is for any machine says nothing about this one.
    let mut fits = known.filter(|(_, board)| !board.board.compatible.is_empty() && board.is_for(machine.split('\0')));
    let (name, board) = fits.next()?;
    let has = [
        (!board.leds.is_empty()).then(|| format!("{} LEDs", board.leds.len())),
        board.button.is_some().then(|| "a button".to_string()),
        board.display.is_some().then(|| "a display".to_string()),
    ];
    let has: Vec<String> = has.into_iter().flatten().collect();
    Some(Known { name, says: format!("{}, if it is on that: {}", board.title(), has.join(", ")) })
}

/// This program was built without them.
#[cfg(not(feature = "board"))]
pub fn known(_: &Path) -> Option<Known> {
    None
}

/// In words.
pub fn words(root: &Path) -> String {
    match known(root) {
        Some(Known { name, says }) => format!("{says}; used with [board] definition = {name:?}"),
        None if cfg!(feature = "board") => "no board that is known: no LEDs, button or display of its own".to_string(),
        None => "this program knows no boards".to_string(),
    }
}

#[cfg(all(test, feature = "board"))]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_known_by_what_the_device_tree_calls_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        assert!(words(dir.path()).starts_with("no board that is known"), "a plain computer");
        std::fs::create_dir_all(dir.path().join("proc/device-tree")).unwrap();
        std::fs::write(dir.path().join(COMPATIBLE), b"raspberrypi,4-compute-module\0brcm,bcm2711\0").unwrap();
        let says = words(dir.path());
        assert!(says.contains("LEDs") && says.contains("definition = \"cm4-carrier-1\""), "{says}");
    }
}
