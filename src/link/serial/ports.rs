//! Which serial ports a machine has, and the names that stay with them.
//!
//! `/dev/ttyUSB0` is whichever adapter was found first. udev keeps two names beside it: under `/dev/serial/by-id/` for
//! the adapter (vendor, product, serial number), and under `/dev/serial/by-path/` for the socket it is plugged into.
//! Adapters of one kind without serial numbers are **twins**: they share one name by id, which points at whichever was
//! found last, so that only the socket tells them apart.
//!
//! A link may also name a USB identity: `usb:0403:6001:A5069RR4` (vendor, product, serial number) or `usb:1-1.4` (the
//! socket, by bus and hub ports). Names are resolved each time the port is opened, so that an adapter that comes back
//! under another number is found again.

use std::path::{Path, PathBuf};

/// Most terminals looked at; a machine has a few dozen.
const PORTS_MAX: usize = 1024;
/// Directories between a terminal and the USB device it belongs to; real ones are three or four apart.
const PARENTS_MAX: usize = 8;
/// How a USB identity begins.
const USB: &str = "usb:";

/// A serial port of this machine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Port {
    /// The device, such as `/dev/ttyUSB0`.
    pub device: PathBuf,
    /// Its name by the adapter's identity.
    pub by_id: Option<PathBuf>,
    /// Its name by the socket.
    pub by_path: Option<PathBuf>,
    /// The adapter, when it is on USB.
    pub usb: Option<Usb>,
    /// Another adapter has the same identity: only the socket tells them apart.
    pub twin: bool,
}

/// A USB adapter.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Usb {
    /// Vendor, four hexadecimal digits.
    pub vendor: String,
    /// Product, four hexadecimal digits.
    pub product: String,
    /// Serial number; twins have none, or the same one.
    pub serial: Option<String>,
    /// Bus and hub ports, such as `1-1.4`.
    pub socket: String,
    /// Which of the adapter's ports; most have one.
    pub interface: String,
}

/// Why a name leads to no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// Nothing of this name is plugged in.
    #[error("{} is not plugged in", .0.display())]
    Missing(PathBuf),
    /// More than one port has this identity.
    #[error("{} adapters are {name}: name one by its socket, for example {example}", .count)]
    Ambiguous {
        /// The identity asked for.
        name: String,
        /// How many there are.
        count: usize,
        /// A name that is not ambiguous.
        example: String,
    },
}

impl Port {
    /// The name a link should have for it: by the adapter's identity, by the socket for twins, else the device.
    pub fn stable_name(&self) -> &Path {
        let names = if self.twin { [&self.by_path, &None] } else { [&self.by_id, &self.by_path] };
        names.into_iter().flatten().next().unwrap_or(&self.device)
    }
}

/// The serial ports below `root`, which is `/` but in tests, by device.
pub fn list(root: &Path) -> Vec<Port> {
    let class = root.join("sys/class/tty");
    let names = std::fs::read_dir(&class).into_iter().flatten().filter_map(Result::ok).take(PORTS_MAX);
    let mut ports: Vec<Port> = names.filter_map(|entry| port(root, &entry.path())).collect();
    let identity = |port: &Port| port.usb.clone().map(|usb| (usb.vendor, usb.product, usb.serial, usb.interface));
    let all: Vec<_> = ports.iter().map(identity).collect();
    for (port, own) in ports.iter_mut().zip(&all) {
        port.twin = own.is_some() && all.iter().filter(|other| *other == own).count() > 1;
    }
    ports.sort_by(|a, b| a.device.cmp(&b.device));
    ports
}

/// The device a link's `serial` stands for now.
///
/// # Errors
/// [`Unresolved`] when nothing of this name is there, or several ports are.
pub fn resolve(root: &Path, name: &Path) -> Result<PathBuf, Unresolved> {
    let missing = || Unresolved::Missing(name.to_path_buf());
    let Some(wanted) = name.to_str().and_then(|name| name.strip_prefix(USB)) else {
        return std::fs::canonicalize(name).map_err(|_| missing());
    };
    let found: Vec<Port> =
        list(root).into_iter().filter(|port| port.usb.as_ref().is_some_and(|usb| usb.is(wanted))).collect();
    match found.as_slice() {
        [] => Err(missing()),
        [only] => Ok(std::fs::canonicalize(&only.device).unwrap_or_else(|_| only.device.clone())),
        [first, ..] => Err(Unresolved::Ambiguous {
            name: name.display().to_string(),
            count: found.len(),
            example: first.usb.as_ref().map_or(String::new(), |usb| format!("\"{USB}{}\"", usb.socket)),
        }),
    }
}

/// True for a name that is a USB identity and well-formed; false for one that is not; `None` for a path.
pub fn is_usb_identity(name: &Path) -> Option<bool> {
    let wanted = name.to_str()?.strip_prefix(USB)?;
    let hex = |text: &str| text.len() == 4 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = wanted.splitn(3, ':').collect();
    Some(match parts.as_slice() {
        [socket] => {
            let mut numbers = socket.split(['-', '.']);
            socket.contains('-') && numbers.all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        }
        [vendor, product] => hex(vendor) && hex(product),
        [vendor, product, serial] => hex(vendor) && hex(product) && !serial.is_empty(),
        _ => false,
    })
}

impl Usb {
    /// True when `wanted` (`vendor:product`, with `:serial`, or a socket) is this adapter.
    fn is(&self, wanted: &str) -> bool {
        let mut parts = wanted.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(socket), None, _) => socket == self.socket,
            (Some(vendor), Some(product), serial) => {
                vendor.eq_ignore_ascii_case(&self.vendor)
                    && product.eq_ignore_ascii_case(&self.product)
                    && serial.is_none_or(|serial| self.serial.as_deref() == Some(serial))
            }
            _ => false,
        }
    }
}

/// What `/sys/class/tty/NAME` says; `None` for terminals that are no serial ports.
fn port(root: &Path, class: &Path) -> Option<Port> {
    let name = class.file_name()?.to_str()?;
    // A console or a pseudo terminal has no hardware behind it, and a UART that is not fitted has type 0.
    let hardware = std::fs::canonicalize(class.join("device")).ok()?;
    if read(&class.join("type")).is_some_and(|kind| kind == "0") {
        return None;
    }
    let device = root.join("dev").join(name);
    let named = |folder: &str| {
        let links = std::fs::read_dir(root.join("dev/serial").join(folder)).ok()?;
        let mut links: Vec<PathBuf> = links.filter_map(Result::ok).map(|entry| entry.path()).collect();
        links.sort();
        // Only the last step is followed: what lies behind the device is not this module's business.
        links
            .into_iter()
            .find(|link| std::fs::read_link(link).is_ok_and(|target| target.file_name() == device.file_name()))
    };
    Some(Port { by_id: named("by-id"), by_path: named("by-path"), usb: usb(&hardware), twin: false, device })
}

fn usb(hardware: &Path) -> Option<Usb> {
    let device = hardware.ancestors().take(PARENTS_MAX).find(|folder| folder.join("idVendor").is_file())?;
    let below = hardware.strip_prefix(device).ok().and_then(|below| below.components().next());
    let interface = below.map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    Some(Usb {
        vendor: read(&device.join("idVendor"))?,
        product: read(&device.join("idProduct"))?,
        serial: read(&device.join("serial")).filter(|serial| !serial.is_empty()),
        socket: device.file_name()?.to_str()?.to_string(),
        // `1-1.4:1.0`: what follows the colon is the same for twins.
        interface: interface.split_once(':').map_or(String::new(), |(_, interface)| interface.to_string()),
    })
}

fn read(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok().map(|text| text.trim().to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A tree with these adapters: terminal, socket, serial number.
    pub(crate) fn tree(adapters: &[(&str, &str, Option<&str>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["sys/class/tty/tty0", "sys/class/tty/ttyS0", "dev/serial/by-id", "dev/serial/by-path"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        // A UART on the board that is not fitted.
        fs::create_dir_all(root.join("sys/devices/platform/serial8250")).unwrap();
        symlink(root.join("sys/devices/platform/serial8250"), root.join("sys/class/tty/ttyS0/device")).unwrap();
        fs::write(root.join("sys/class/tty/ttyS0/type"), "0\n").unwrap();
        for (tty, socket, serial) in adapters {
            let device = root.join("sys/devices/usb1").join(socket);
            let hardware = device.join(format!("{socket}:1.0")).join(tty);
            fs::create_dir_all(&hardware).unwrap();
            fs::write(device.join("idVendor"), "067b\n").unwrap();
            fs::write(device.join("idProduct"), "2303\n").unwrap();
            if let Some(serial) = serial {
                fs::write(device.join("serial"), format!("{serial}\n")).unwrap();
            }
            fs::create_dir_all(root.join("sys/class/tty").join(tty)).unwrap();
            symlink(&hardware, root.join("sys/class/tty").join(tty).join("device")).unwrap();
            fs::write(root.join("dev").join(tty), "").unwrap();
            let id = serial.map_or("usb-Prolific".to_string(), |serial| format!("usb-Prolific_{serial}"));
            let by_id = root.join("dev/serial/by-id").join(id);
            // As udev does: the one found last has the name.
            let _ = fs::remove_file(&by_id);
            symlink(format!("../../{tty}"), by_id).unwrap();
            let by_path = root.join("dev/serial/by-path").join(format!("pci-usb-{socket}"));
            symlink(format!("../../{tty}"), by_path).unwrap();
        }
        dir
    }

    fn stable(root: &Path) -> Vec<String> {
        let name = |port: &Port| port.stable_name().file_name().unwrap().to_string_lossy().into_owned();
        list(root).iter().map(name).collect()
    }

    #[test]
    fn adapters_are_named_by_their_number_and_twins_by_their_socket() {
        let told = tree(&[("ttyUSB0", "1-1.1", Some("A1")), ("ttyUSB1", "1-1.2", Some("A2"))]);
        assert_eq!(stable(told.path()), ["usb-Prolific_A1", "usb-Prolific_A2"]);
        assert!(list(told.path()).iter().all(|port| !port.twin), "and what is no port is not listed");
        for serial in [None, Some("0001")] {
            let twins =
                tree(&[("ttyUSB0", "1-1.1", serial), ("ttyUSB1", "1-1.2", serial), ("ttyUSB2", "1-2", Some("B"))]);
            assert_eq!(stable(twins.path()), ["pci-usb-1-1.1", "pci-usb-1-1.2", "usb-Prolific_B"]);
        }
    }

    #[test]
    fn a_usb_identity_is_followed_when_the_kernel_counts_anew() {
        for (tty, other) in [("ttyUSB0", "ttyUSB1"), ("ttyUSB1", "ttyUSB0")] {
            let tree = tree(&[(tty, "1-1.1", Some("A1")), (other, "1-1.2", Some("A2"))]);
            let device = fs::canonicalize(tree.path().join("dev").join(tty)).unwrap();
            for name in ["usb:067b:2303:A1", "usb:067B:2303:A1", "usb:1-1.1"] {
                assert_eq!(resolve(tree.path(), Path::new(name)), Ok(device.clone()), "{name}");
            }
            let both = resolve(tree.path(), Path::new("usb:067b:2303")).unwrap_err().to_string();
            assert!(both.starts_with("2 adapters are usb:067b:2303: name one by its socket"), "{both}");
            let none = resolve(tree.path(), Path::new("usb:067b:2303:A3")).unwrap_err().to_string();
            assert_eq!(none, "usb:067b:2303:A3 is not plugged in");
            let by_id = tree.path().join("dev/serial/by-id/usb-Prolific_A1");
            assert_eq!(resolve(tree.path(), &by_id), Ok(device));
        }
    }

    #[test]
    fn a_usb_identity_is_told_from_a_slip() {
        for (name, sound) in [
            ("usb:067b:2303", Some(true)),
            ("usb:067b:2303:A1:7", Some(true)),
            ("usb:1-1.4", Some(true)),
            ("usb:67b:2303", Some(false)),
            ("usb:1", Some(false)),
            ("usb:", Some(false)),
            ("/dev/ttyUSB0", None),
        ] {
            assert_eq!(is_usb_identity(Path::new(name)), sound, "{name}");
        }
    }
}
