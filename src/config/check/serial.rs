//! The serial ports that links name: whether they are there, are only one, and are no other link's.

use crate::link;
use crate::link::serial::ports::{self, Port, Unresolved};
use std::path::{Path, PathBuf};

/// What is wrong with a link's `serial`.
pub(super) struct Trouble {
    /// Which link, from 0.
    pub link: usize,
    /// True when it is wrong whatever is plugged in.
    pub is_setting: bool,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

/// Looks at every serial link; `root` is `/` but in tests.
pub(super) fn troubles(root: &Path, links: &[link::Config]) -> Vec<Trouble> {
    let ports = ports::list(root);
    let mut found = Vec::new();
    let mut taken: Vec<(&Path, Option<PathBuf>, &str)> = Vec::new();
    for (at, link) in links.iter().enumerate() {
        let Some(name) = link.serial.as_deref() else { continue };
        let mut say = |is_setting, message, hint| found.push(Trouble { link: at, is_setting, message, hint });
        if ports::is_usb_identity(name) == Some(false) {
            let hint =
                "write \"usb:0403:6001:A5069RR4\" (vendor, product, serial number) or \"usb:1-1.4\" (the socket)";
            say(true, format!("`{}` is no USB identity", name.display()), hint);
            continue;
        }
        let resolved = ports::resolve(root, name);
        match &resolved {
            Ok(device) if is_shared_name(&ports, name, device) => say(
                false,
                format!("{} is the name of two adapters that are just alike", name.display()),
                "it leads to whichever was found last: name each by its socket, under /dev/serial/by-path/",
            ),
            Ok(_) => {}
            Err(Unresolved::Missing(_)) => say(
                false,
                format!("{} is not there now", name.display()),
                "`ls -l /dev/serial/by-id/` shows the adapters that are plugged in, and `afferent probe` too",
            ),
            Err(ambiguous @ Unresolved::Ambiguous { .. }) => {
                say(false, ambiguous.to_string(), "`afferent probe` lists every port with its names");
            }
        }
        let device = resolved.ok();
        // Two names may lead to one port, and then the second link would never hear anything.
        let other = taken.iter().find(|(other, known, _)| *other == name || (device.is_some() && *known == device));
        if let Some((other, _, owner)) = other {
            let message = match *other == name {
                true => format!("link `{owner}` has this serial port already"),
                false => format!("link `{owner}` has this serial port already, as {}", other.display()),
            };
            say(true, message, "one port serves one link");
        }
        taken.push((name, device, &link.name));
    }
    found
}

/// True for a name by identity of an adapter that has a twin.
pub fn is_shared_name(ports: &[Port], name: &Path, device: &Path) -> bool {
    let is_by_id = name.parent().is_some_and(|folder| folder.ends_with("by-id"));
    let is_device = |port: &Port| std::fs::canonicalize(&port.device).is_ok_and(|known| known == device);
    is_by_id && ports.iter().any(|port| port.twin && is_device(port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::serial::ports::tests::tree;

    fn serial(name: &str, path: impl Into<PathBuf>) -> link::Config {
        link::Config { name: name.to_string(), serial: Some(path.into()), ..link::Config::default() }
    }

    fn told(root: &Path, links: &[link::Config]) -> Vec<(usize, bool, String)> {
        troubles(root, links)
            .into_iter()
            .map(|t| (t.link, t.is_setting, format!("{}; {}", t.message, t.hint)))
            .collect()
    }

    #[test]
    fn one_port_under_two_names_serves_one_link() {
        let tree = tree(&[("ttyUSB0", "1-1.1", Some("A1")), ("ttyUSB1", "1-1.2", Some("A2"))]);
        let by_id = tree.path().join("dev/serial/by-id/usb-Prolific_A1");
        let by_path = tree.path().join("dev/serial/by-path/pci-usb-1-1.2");
        assert!(told(tree.path(), &[serial("one", &by_id), serial("two", &by_path)]).is_empty());
        for other in ["usb:1-1.1", "usb:067b:2303:A1", &tree.path().join("dev/ttyUSB0").display().to_string()] {
            let told = told(tree.path(), &[serial("one", &by_id), serial("two", other)]);
            assert_eq!((told.len(), told[0].0, told[0].1), (1, 1, true), "{told:?}");
            assert!(told[0].2.starts_with("link `one` has this serial port already, as "), "{told:?}");
        }
    }

    #[test]
    fn twins_are_recognised_and_said_so() {
        let tree = tree(&[("ttyUSB0", "1-1.1", None), ("ttyUSB1", "1-1.2", None)]);
        let by_id = tree.path().join("dev/serial/by-id/usb-Prolific");
        let told_by_id = told(tree.path(), &[serial("one", by_id)]);
        assert!(!told_by_id[0].1 && told_by_id[0].2.contains("just alike"), "{told_by_id:?}");
        assert!(told_by_id[0].2.contains("by-path"), "{told_by_id:?}");
        let ambiguous = told(tree.path(), &[serial("one", "usb:067b:2303")]);
        assert!(ambiguous[0].2.contains("for example \"usb:1-1.1\""), "{ambiguous:?}");
        let sound = [serial("one", tree.path().join("dev/serial/by-path/pci-usb-1-1.1")), serial("two", "usb:1-1.2")];
        assert!(told(tree.path(), &sound).is_empty());
        assert!(told(tree.path(), &[serial("one", "usb:12")])[0].2.contains("is no USB identity"));
    }
}
