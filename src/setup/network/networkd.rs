//! systemd-networkd: the file of an interface, at first on trial. A trial is a file that the next start of the machine
//! forgets, and a timer of systemd that takes it away: whoever has cut himself off waits, or pulls the plug, and the box is
//! where it was. Nothing of it depends on this process.

use super::{NETWORKD_FOLDER, Network, Prefixed, file_name};
use crate::disk;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Mode of a file there: systemd-networkd has a user of its own.
const MODE: u32 = 0o644;
/// There where systemd runs.
const SYSTEMD: &str = "run/systemd/system";
/// There where systemd-networkd does.
const STATE: &str = "run/systemd/netif/state";
/// What systemd-networkd does with each interface.
const LINKS: &str = "run/systemd/netif/links";
/// Where a file on trial is.
const TRIAL_FOLDER: &str = "run/systemd/network";
/// The unit of the timer that ends a trial is called so, and as its interface: another one's trial has its own.
const UNIT: &str = "afferent-network-trial-";
/// Seconds until what was tried goes by itself.
pub const TRIAL_S: u64 = 180;
/// An interface is set within this time, DHCP included.
const SET_WITHIN: Duration = Duration::from_secs(30);
/// It takes another file up within this time, and a cable that is plugged in shows.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(10);
/// What the kernel says of each interface.
const INTERFACES: &str = "sys/class/net";
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The file of an interface: fixed addresses, or by DHCP where there are none, time servers included.
pub fn text(interface: &str, addresses: &[Prefixed], gateways: &[IpAddr], resolvers: &[IpAddr]) -> String {
    let mut text = format!("# Written by `afferent setup`.\n[Match]\nName={interface}\n\n[Network]\n");
    for address in addresses {
        let _ = writeln!(text, "Address={address}");
    }
    for gateway in gateways {
        let _ = writeln!(text, "Gateway={gateway}");
    }
    for resolver in resolvers {
        let _ = writeln!(text, "DNS={resolver}");
    }
    if addresses.is_empty() {
        text.push_str("DHCP=yes\n\n[DHCPv4]\nUseNTP=yes\n\n[DHCPv6]\nUseNTP=yes\n");
    }
    text
}

/// The network of a machine, below its root.
pub struct Networkd<'r> {
    /// Where `/` is.
    pub root: &'r Path,
    /// The interface.
    pub interface: &'r str,
}

/// Why systemd-networkd has not set the interface, in words.
pub enum Unset {
    /// Nobody is at the other end of its cable, which shows only once it was tried.
    NoCarrier(String),
    /// Anything else.
    Otherwise(String),
}

/// What is told of addresses that are written untried.
fn untried(why: &str) -> String {
    format!("it counts with `networkctl reload`. Nothing is tried: {why}")
}

impl Networkd<'_> {
    /// Where its file is.
    pub fn place(&self) -> PathBuf {
        self.root.join(NETWORKD_FOLDER).join(file_name(self.interface))
    }

    /// Where its file on trial is, which comes before that.
    fn trial(&self) -> PathBuf {
        self.root.join(TRIAL_FOLDER).join(format!("10-afferent-{}-trial.network", self.interface))
    }

    /// Why nothing can be tried here, and how a file comes to count then; none where it can.
    pub fn obstacle(&self) -> Option<String> {
        if self.root != Path::new("/") {
            return Some(format!("it counts once it is in /{NETWORKD_FOLDER}, with `networkctl reload`"));
        }
        if !Path::new("/").join(SYSTEMD).exists() || !Path::new("/").join(STATE).exists() {
            let says = "systemd-networkd does not run here; it counts with `systemctl enable --now systemd-networkd`";
            return Some(format!("{says}, and what runs the network now has to let go of the interface"));
        }
        if !crate::disk::is_root() {
            return Some("it counts with `sudo networkctl reload`".to_string());
        }
        let interface = self.interface;
        let why = if self.is_without_carrier() {
            self.no_carrier()
        } else if self.is_set_by_others() {
            format!("systemd-networkd does not set {interface} now, and could not give back what did")
        } else {
            return None;
        };
        Some(untried(&why))
    }

    fn no_carrier(&self) -> String {
        format!("{} has no carrier, as without a cable", self.interface)
    }

    /// True where nobody is at the other end of its cable. One that is not up does not know that.
    fn is_without_carrier(&self) -> bool {
        let carrier = std::fs::read_to_string(self.root.join(INTERFACES).join(self.interface).join("carrier"));
        carrier.is_ok_and(|carrier| carrier.trim() == "0")
    }

    /// True where it has addresses that systemd-networkd knows nothing of.
    fn is_set_by_others(&self) -> bool {
        let is_managed = self.state().is_some_and(|state| !state.contains("ADMIN_STATE=unmanaged"));
        let is_its_own = |address: &Prefixed| match address.address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        let found = Network::look().interfaces.into_iter().find(|found| found.name == self.interface);
        !is_managed && found.is_some_and(|found| !found.addresses.iter().all(is_its_own))
    }

    /// Writes the file for good.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn write(&self, text: &str) -> std::io::Result<()> {
        put(&self.place(), text)
    }

    /// Has it tried: it counts at once, and goes by itself.
    ///
    /// # Errors
    /// In words, what did not work; all is as it was then.
    pub fn try_out(&self, text: &str) -> Result<(), String> {
        // An earlier trial is over before its timer goes.
        self.take_back()?;
        // First who takes it back.
        let take_back = "rm -f \"$1\" && networkctl reload";
        let (unit, after) = (format!("--unit={}", self.unit()), format!("--on-active={TRIAL_S}"));
        let timer = ["--quiet", "--collect", &unit, &after, "--timer-property=AccuracySec=1s"];
        let file = self.trial().display().to_string();
        run("systemd-run", &[&timer[..], &["/bin/sh", "-c", take_back, "sh", &file]].concat())?;
        let put = put(&self.trial(), text).map_err(|error| format!("cannot write {file}: {error}"));
        put.and_then(|()| run("networkctl", &["reload"])).map_err(|why| self.ended(why))
    }

    /// Ends a trial that did not work, and says why; also where the addresses of before come back by the timer alone.
    fn ended(&self, why: String) -> String {
        match self.take_back() {
            Ok(()) => why,
            Err(also) => format!("{why}; {also}: the addresses are as they were within {TRIAL_S} s"),
        }
    }

    fn unit(&self) -> String {
        format!("{UNIT}{}", escaped(self.interface))
    }

    /// Where it has run out there is none any more.
    fn stop_timer(&self) {
        let _ = run("systemctl", &["stop", &format!("{}.timer", self.unit())]);
    }

    /// True while it is on trial.
    pub fn is_tried(&self) -> bool {
        self.trial().exists()
    }

    /// What was tried counts from now on.
    ///
    /// # Errors
    /// In words, what did not work.
    pub fn keep(&self, text: &str) -> Result<(), String> {
        // Cut off anywhere here, one of the two files is there, and they say the same.
        self.write(text).map_err(|error| format!("cannot write {}: {error}", self.place().display()))?;
        self.take_back()
    }

    /// Ends the trial.
    ///
    /// # Errors
    /// In words, what did not work; the timer goes on then.
    pub fn take_back(&self) -> Result<(), String> {
        match std::fs::remove_file(self.trial()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("cannot remove {}: {error}", self.trial().display()));
            }
            _ => {}
        }
        run("networkctl", &["reload"])?;
        self.stop_timer();
        Ok(())
    }

    /// Waits until systemd-networkd has set the interface by the file on trial.
    ///
    /// # Errors
    /// What it did instead; the trial is over then.
    pub fn settle(&self) -> Result<(), Unset> {
        self.watch().map_err(|unset| match unset {
            Unset::NoCarrier(why) => Unset::NoCarrier(self.ended(why)),
            Unset::Otherwise(why) => Unset::Otherwise(self.ended(why)),
        })
    }

    fn watch(&self) -> Result<(), Unset> {
        let (began, interface) = (Instant::now(), self.interface);
        let ours = self.trial().display().to_string();
        while began.elapsed() < SET_WITHIN {
            let state = self.state().unwrap_or_default();
            let value = |key: &str| state.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            let file = value("NETWORK_FILE=");
            if file == ours && value("ADMIN_STATE=") == "configured" {
                return Ok(());
            }
            if began.elapsed() > TAKEN_UP_WITHIN {
                if file != ours && !file.is_empty() {
                    let why = format!("{file} sets {interface} in its place: ours does not count");
                    return Err(Unset::Otherwise(why));
                }
                // Without one it never gets that far.
                if self.is_without_carrier() {
                    return Err(Unset::NoCarrier(untried(&self.no_carrier())));
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let why = format!("systemd-networkd has not set {interface} within {} s", SET_WITHIN.as_secs());
        Err(Unset::Otherwise(why))
    }

    /// What systemd-networkd keeps of the interface.
    fn state(&self) -> Option<String> {
        let index = std::fs::read_to_string(self.root.join(INTERFACES).join(self.interface).join("ifindex")).ok()?;
        std::fs::read_to_string(self.root.join(LINKS).join(index.trim())).ok()
    }
}

/// As it stands in the name of a unit (systemd-escape(1)).
fn escaped(name: &str) -> String {
    let is_plain =
        |at: usize, byte: u8| byte.is_ascii_alphanumeric() || b":_".contains(&byte) || byte == b'.' && at > 0;
    name.bytes().enumerate().fold(String::new(), |mut escaped, (at, byte)| {
        let _ = match is_plain(at, byte) {
            true => write!(escaped, "{}", byte as char),
            false => write!(escaped, "\\x{byte:02x}"),
        };
        escaped
    })
}

fn put(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    disk::replace_owned(file, text.as_bytes(), MODE, None)
}

/// Runs a program to its end.
///
/// # Errors
/// In words, why it did not do what it was to.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_string();
            Err(format!("`{program} {}` did not work: {why}", arguments.first().copied().unwrap_or_default()))
        }
        Err(error) => Err(format!("`{program}` cannot be started: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_has_a_timer_of_its_own_by_the_rules_for_names_of_units() {
        // As systemd-escape(1) of systemd 252 says them.
        for (name, wanted) in [
            ("eth0", "eth0"),
            ("eth0.100", "eth0.100"),
            ("br-lan", "br\\x2dlan"),
            (".x*[1]@%", "\\x2ex\\x2a\\x5b1\\x5d\\x40\\x25"),
            ("läb", "l\\xc3\\xa4b"),
        ] {
            let networkd = Networkd { root: Path::new("/"), interface: name };
            assert_eq!(networkd.unit(), format!("afferent-network-trial-{wanted}"));
        }
    }
}
