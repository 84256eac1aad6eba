//! Serial ports by position: on another box of the same kind, the same socket is the same link.
//!
//! | the link names its port | on the new box |
//! |---|---|
//! | by socket (`usb:1-1.4`, `by-path`), or one of the board's own | the port that is there |
//! | by adapter (`by-id`, `usb:0403:6001:...`), and that very one is here | it, wherever it is plugged in |
//! | by adapter, and another one of its kind is in its socket | that one, under its own name |
//! | as `/dev/ttyUSB0`, which is whichever was found first | what is in the socket that it was in |
//!
//! Everything else is told: the link stays without a line, and `afferent check` says so. Where what it names would lead to
//! some line here all the same, which is another's, it names its socket from now on, or, on a box of another kind, where
//! sockets have other numbers, the restore is refused until a person says which port it is (`--ports`).

use crate::link;
use crate::link::serial::ports::{self, Port, Usb};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Devices that the kernel counts as it finds them.
const COUNTED: [&str; 2] = ["/dev/ttyUSB", "/dev/ttyACM"];

/// Where the port of a link was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// Which link.
    pub link: String,
    /// What its configuration calls the port.
    pub serial: PathBuf,
    /// What stood behind that on the old box; none where it was not plugged in, or is no adapter.
    pub usb: Option<Adapter>,
}

/// An adapter in its socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapter {
    /// Vendor and product, hexadecimal.
    pub kind: String,
    /// Bus and hub ports.
    pub socket: String,
    /// Which of its ports.
    pub interface: String,
}

impl Adapter {
    fn of(usb: &Usb) -> Adapter {
        let kind = format!("{}:{}", usb.vendor, usb.product);
        Adapter { kind, socket: usb.socket.clone(), interface: usb.interface.clone() }
    }

    fn is_at(&self, other: &Adapter) -> bool {
        (&self.socket, &self.interface) == (&other.socket, &other.interface)
    }
}

/// What becomes of the port of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// Which link.
    pub link: String,
    /// What the backup calls its port.
    pub serial: PathBuf,
    /// What the link is to name instead; none when it stays.
    pub to: Option<PathBuf>,
    /// Why it has no port here.
    pub missing: Option<String>,
}

impl Placed {
    /// What the link names from now on.
    fn name(&self) -> &Path {
        self.to.as_deref().unwrap_or(&self.serial)
    }
}

/// The root below which devices are looked for. A debug build can be told another, so that a test has adapters.
pub fn root() -> PathBuf {
    #[cfg(debug_assertions)]
    if let Some(root) = std::env::var_os("AFFERENT_DEVICES") {
        return root.into();
    }
    "/".into()
}

/// Where the ports of these links are now.
pub fn sockets(root: &Path, links: &[link::Config]) -> Vec<Socket> {
    let here = ports::list(root);
    let socket = |link: &link::Config| {
        let serial = link.serial.clone()?;
        let usb = found(root, &here, &serial).and_then(|port| port.usb.as_ref()).map(Adapter::of);
        Some(Socket { link: link.name.clone(), serial, usb })
    };
    links.iter().filter_map(socket).collect()
}

/// The port that a name leads to, but for a name that twins share.
fn found<'p>(root: &Path, here: &'p [Port], name: &Path) -> Option<&'p Port> {
    let device = ports::resolve(root, name).ok()?;
    let port = here.iter().find(|port| std::fs::canonicalize(&port.device).is_ok_and(|known| known == device))?;
    let is_by_id = name.parent().is_some_and(|folder| folder.ends_with("by-id"));
    (!(is_by_id && port.twin)).then_some(port)
}

/// Finds the ports of `links` here. `said` is what a person says of some, `is_same_board` whether sockets have the same
/// numbers as on the old box.
///
/// # Errors
/// In words, when what was said cannot be.
pub fn place(
    root: &Path,
    links: &[link::Config],
    were: &[Socket],
    said: &BTreeMap<String, PathBuf>,
    is_same_board: bool,
) -> Result<Vec<Placed>, String> {
    let here = ports::list(root);
    if let Some(name) = said.keys().find(|name| !links.iter().any(|link| link.name == **name && link.serial.is_some()))
    {
        return Err(format!("no link on a serial port is called `{name}`"));
    }
    let mut placed = Vec::new();
    for link in links {
        let Some(serial) = link.serial.clone() else { continue };
        let of = |to, missing| Placed { link: link.name.clone(), serial: serial.clone(), to, missing };
        let was =
            were.iter().find(|was| was.link == link.name && was.serial == serial).and_then(|was| was.usb.as_ref());
        placed.push(match said.get(&link.name) {
            // What is plugged in may come yet; anything else has to be there.
            Some(name) if ports::resolve(root, name).is_err() && !matches!(By::of(name), By::Adapter | By::Socket) => {
                return Err(format!("there is no serial port {} for `{}` here", name.display(), link.name));
            }
            Some(name) => {
                let missing = ports::resolve(root, name).err().map(|why| why.to_string());
                of(Some(name.clone()).filter(|name| *name != serial), missing)
            }
            None => match by_position(root, &here, &serial, was, is_same_board) {
                Ok(to) => of(to, None),
                // Its socket is empty, whoever is found under the name it had.
                Err(missing) => {
                    // An adapter with several ports has one socket for all of them.
                    let is_alone = |was: &&Adapter| {
                        let in_it =
                            were.iter().filter(|other| other.usb.as_ref().is_some_and(|usb| usb.socket == was.socket));
                        in_it.count() == 1
                    };
                    // Its name leads to some port here, or will, and not for sure to the one that was meant.
                    let leads = By::of(&serial) == By::Count || ports::resolve(root, &serial).is_ok();
                    let socket = was.filter(|_| is_same_board && leads).filter(is_alone);
                    of(socket.map(|was| PathBuf::from(format!("usb:{}", was.socket))), Some(missing))
                }
            },
        });
    }
    Ok(placed)
}

/// Why nobody may start with these ports: a link would open the line of another analyzer, and results would be read as
/// that one's.
pub fn crossed(root: &Path, placed: &[Placed]) -> Option<String> {
    let devices: Vec<Option<PathBuf>> = placed.iter().map(|placed| ports::resolve(root, placed.name()).ok()).collect();
    // What the kernel counts leads to some port as soon as anything is plugged in.
    let leads = |at: usize, placed: &Placed| {
        devices[at].is_some() || placed.missing.is_some() && By::of(placed.name()) == By::Count
    };
    for (at, placed) in placed.iter().enumerate().filter(|(at, placed)| leads(*at, placed)) {
        let Placed { link, missing, .. } = placed;
        let name = placed.name().display();
        // One port serves one link; which of two is meant only a person knows.
        if devices[at].is_some() && devices.iter().filter(|other| **other == devices[at]).count() > 1 {
            return Some(format!("more than one link would have {name}: --ports {link}=NAME says which port it is"));
        }
        if let Some(missing) = missing {
            return Some(format!(
                "link `{link}` would open {name}, which may be another analyzer's line ({missing}): --ports {link}=NAME \
                 says which port it is"
            ));
        }
    }
    None
}

/// What a name of a port goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The order in which the kernel found it.
    Count,
    /// What the adapter is, wherever it is plugged in.
    Adapter,
    /// Where it is plugged in, whatever that is.
    Socket,
    /// It is the board's own.
    Board,
}

impl By {
    fn of(name: &Path) -> By {
        let is_in = |folder: &str| name.parent().is_some_and(|parent| parent.ends_with(folder));
        let text = name.to_str().unwrap_or_default();
        match ports::is_usb_identity(name) {
            Some(true) if text.matches(':').count() > 1 => By::Adapter,
            Some(true) => By::Socket,
            _ if is_in("by-id") => By::Adapter,
            _ if is_in("by-path") => By::Socket,
            _ if COUNTED.iter().any(|counted| text.starts_with(counted)) => By::Count,
            _ => By::Board,
        }
    }
}

/// The name under which the port is found here: none when it is the same.
fn by_position(
    root: &Path,
    here: &[Port],
    serial: &Path,
    was: Option<&Adapter>,
    is_same_board: bool,
) -> Result<Option<PathBuf>, String> {
    let there = found(root, here, serial);
    let is_counted = By::of(serial) == By::Count;
    if !is_counted && (there.is_some() || ports::resolve(root, serial).is_ok() && !is_shared(here, serial)) {
        // An adapter is the same wherever it is; a place has another name on another kind of box.
        return match is_same_board || By::of(serial) == By::Adapter {
            true => Ok(None),
            false => Err(format!("{} is a place of another kind of box", serial.display())),
        };
    }
    let Some(was) = was else {
        return Err(format!("where {} led to on the old box is not known", serial.display()));
    };
    if !is_same_board {
        return Err(format!("it was in socket {} of another kind of box", was.socket));
    }
    let in_place = here.iter().find(|port| port.usb.as_ref().is_some_and(|usb| Adapter::of(usb).is_at(was)));
    match in_place {
        None => Err(format!("nothing is plugged into socket {}", was.socket)),
        Some(port) if port.usb.as_ref().is_some_and(|usb| Adapter::of(usb).kind != was.kind) => {
            Err(format!("in socket {} is another kind of adapter ({})", was.socket, port.stable_name().display()))
        }
        // What is counted is pinned to its socket: at the next start another one may be the first.
        Some(port) if there == Some(port) && !is_counted => Ok(None),
        Some(port) => Ok(Some(port.stable_name().to_path_buf())),
    }
}

/// True for a name by identity that twins share: it leads to whichever was found last.
fn is_shared(here: &[Port], name: &Path) -> bool {
    here.iter().any(|port| port.twin && port.by_id.as_deref() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::serial::ports::tests::tree;

    type Adapters<'a> = &'a [(&'a str, &'a str, Option<&'a str>)];

    fn links(names: &[(&str, &str)], root: &Path) -> Vec<link::Config> {
        let named = |name: &str| match name.strip_prefix('~') {
            Some(below) => root.join(below),
            None => PathBuf::from(name),
        };
        let link = |(name, serial): &(&str, &str)| link::Config {
            name: name.to_string(),
            serial: Some(named(serial)),
            ..link::Config::default()
        };
        names.iter().map(link).collect()
    }

    /// What becomes of these links, of a box with these adapters, on one with those.
    fn moved(names: &[(&str, &str)], old: Adapters<'_>, new: Adapters<'_>, is_same_board: bool) -> Vec<String> {
        let (old, new) = (tree(old), tree(new));
        let root = new.path();
        let mut were = sockets(old.path(), &links(names, old.path()));
        for was in &mut were {
            // Both boxes have the same names for what lies below `/`.
            was.serial = was.serial.strip_prefix(old.path()).map_or(was.serial.clone(), |below| root.join(below));
        }
        let placed = place(root, &links(names, root), &were, &BTreeMap::new(), is_same_board).unwrap();
        let told = |placed: &Placed| match (&placed.to, &placed.missing) {
            (_, Some(missing)) => missing.replace(&root.display().to_string(), ""),
            (Some(to), _) => format!("-> {}", to.file_name().unwrap().to_string_lossy()),
            (None, None) => "same".to_string(),
        };
        placed.iter().map(told).collect()
    }

    const OLD: Adapters<'_> = &[("ttyUSB0", "1-1.1", Some("A1")), ("ttyUSB1", "1-1.2", Some("A2"))];
    const BY_ID: &[(&str, &str)] = &[("one", "~dev/serial/by-id/usb-Prolific_A1"), ("two", "usb:067b:2303:A2")];

    #[test]
    fn adapters_of_the_same_kind_take_each_others_places_by_socket() {
        let new: Adapters<'_> = &[("ttyUSB0", "1-1.2", Some("B2")), ("ttyUSB1", "1-1.1", Some("B1"))];
        assert_eq!(moved(BY_ID, OLD, new, true), ["-> usb-Prolific_B1", "-> usb-Prolific_B2"]);
        // Without numbers of their own they are told apart by their sockets.
        let twins: Adapters<'_> = &[("ttyUSB0", "1-1.2", None), ("ttyUSB1", "1-1.1", None)];
        assert_eq!(moved(BY_ID, OLD, twins, true), ["-> pci-usb-1-1.1", "-> pci-usb-1-1.2"]);
        let other = moved(BY_ID, OLD, new, false);
        assert!(other.iter().all(|told| told.contains("of another kind of box")), "{other:?}");
    }

    #[test]
    fn the_very_adapter_is_found_wherever_it_is_and_a_socket_is_a_socket() {
        let swapped: Adapters<'_> = &[("ttyUSB0", "1-1.2", Some("A1")), ("ttyUSB1", "1-1.1", Some("A2"))];
        assert_eq!(moved(BY_ID, OLD, swapped, true), ["same", "same"]);
        let by_socket = &[("one", "usb:1-1.1"), ("two", "~dev/serial/by-path/pci-usb-1-1.2")];
        assert_eq!(moved(by_socket, OLD, swapped, true), ["same", "same"]);
        let other = moved(by_socket, OLD, swapped, false);
        assert!(other.iter().all(|told| told.ends_with("is a place of another kind of box")), "{other:?}");
    }

    #[test]
    fn a_counted_name_is_what_was_in_its_socket_and_what_is_not_there_is_named() {
        let counted = &[("one", "~dev/ttyUSB0"), ("two", "~dev/ttyUSB1")];
        let new: Adapters<'_> = &[("ttyUSB0", "1-1.2", Some("B2")), ("ttyUSB1", "1-1.1", Some("B1"))];
        // Below the root of a test they are paths like any other; by their own names they are counted.
        assert_eq!(moved(counted, OLD, new, true), ["same", "same"]);
        let (old, new) = (tree(OLD), tree(new));
        let was = |socket: &str| Adapter { kind: "067b:2303".into(), socket: socket.into(), interface: "1.0".into() };
        let here = ports::list(new.path());
        let of = |socket: &str| by_position(old.path(), &here, Path::new("/dev/ttyUSB0"), Some(&was(socket)), true);
        assert_eq!(of("1-1.1"), Ok(Some(new.path().join("dev/serial/by-id/usb-Prolific_B1"))));
        assert_eq!(of("1-1.3"), Err("nothing is plugged into socket 1-1.3".to_string()));
        let one: Adapters<'_> = &[("ttyUSB0", "1-1.1", Some("B1"))];
        let told = moved(BY_ID, OLD, one, true);
        assert_eq!(told, ["-> usb-Prolific_B1", "nothing is plugged into socket 1-1.2"]);
        let unknown = moved(BY_ID, &[], one, true);
        assert!(unknown.iter().all(|told| told.ends_with("led to on the old box is not known")), "{unknown:?}");
    }

    #[test]
    fn i13_a_link_without_its_adapter_never_opens_the_line_of_another() {
        let tree = tree(&[("ttyUSB0", "1-1.2", Some("B2"))]);
        let counted = tree.path().join("dev/ttyUSB0");
        let links = links(&[("one", "~dev/ttyUSB0")], tree.path());
        let adapter =
            |socket: &str| Adapter { kind: "067b:2303".into(), socket: socket.into(), interface: "1.0".into() };
        // It was the first that was found there; the first here is in another socket, and its own is empty.
        let placed = |is_same_board: bool| Placed {
            link: links[0].name.clone(),
            serial: counted.clone(),
            to: is_same_board.then(|| PathBuf::from("usb:1-1.1")),
            missing: by_position(
                Path::new("/"),
                &ports::list(tree.path()),
                Path::new("/dev/ttyUSB0"),
                Some(&adapter("1-1.1")),
                is_same_board,
            )
            .err(),
        };
        assert_eq!(crossed(tree.path(), &[placed(true)]), None, "its socket is empty, and it waits for that");
        // Nothing is plugged in yet; later something will be.
        let counted = Placed { serial: PathBuf::from("/dev/ttyUSB7"), ..placed(false) };
        assert!(crossed(tree.path(), &[counted]).is_some());
        let why = crossed(tree.path(), &[placed(false)]).unwrap();
        assert!(why.contains("may be another analyzer's line") && why.contains("--ports one=NAME"), "{why}");
    }

    #[test]
    fn a_person_says_otherwise_and_two_links_never_share_a_port() {
        let tree = tree(&[("ttyUSB0", "1-1.1", Some("B1"))]);
        let both = links(&[("one", "usb:1-1.1"), ("two", "usb:067b:2303:A2")], tree.path());
        let said = |link: &str, name: &str| BTreeMap::from([(link.to_string(), PathBuf::from(name))]);
        let placed = place(tree.path(), &both, &[], &said("two", "usb:067b:2303:B1"), true).unwrap();
        let why = crossed(tree.path(), &placed).unwrap();
        assert_eq!(why, "more than one link would have usb:1-1.1: --ports one=NAME says which port it is");
        let wrong = place(tree.path(), &both, &[], &said("two", "/dev/ttyS99"), true).unwrap_err();
        assert_eq!(wrong, "there is no serial port /dev/ttyS99 for `two` here");
        // A socket may be empty yet.
        let placed = place(tree.path(), &both, &[], &said("two", "usb:1-1.7"), true).unwrap();
        assert_eq!(placed[1].missing.as_deref(), Some("usb:1-1.7 is not plugged in"));
        assert_eq!(crossed(tree.path(), &placed), None);
        assert!(place(tree.path(), &both, &[], &said("three", "usb:1-1.1"), true).is_err());
    }
}
