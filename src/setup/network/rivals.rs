//! Who else sets the addresses of an interface: other files of systemd-networkd, of which the first that matches counts
//! alone, NetworkManager, and ifupdown.

use super::{NETWORKD_FOLDER, file_name};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folders of systemd-networkd (systemd.network(5)); a file of an earlier one takes the place of one with the same name.
const FOLDERS: [&str; 4] =
    [NETWORKD_FOLDER, "run/systemd/network", "usr/local/lib/systemd/network", "usr/lib/systemd/network"];
/// Folders of NetworkManager with a file for each connection.
const CONNECTIONS: [&str; 2] = ["etc/NetworkManager/system-connections", "run/NetworkManager/system-connections"];
/// There where NetworkManager runs.
const NETWORK_MANAGER: &str = "run/NetworkManager";

/// What else sets this interface, below this root; a sentence for each, with what to do.
pub fn rivals(root: &Path, interface: &str) -> Vec<String> {
    let mut found = of_networkd(root, interface);
    found.extend(of_network_manager(root, interface));
    found.extend(of_ifupdown(root, interface));
    found
}

fn of_networkd(root: &Path, interface: &str) -> Vec<String> {
    let mut by_name: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in FOLDERS {
        for file in
            files(&root.join(folder)).into_iter().filter(|file| file.extension().is_some_and(|e| e == "network"))
        {
            let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
            by_name.entry(name.to_string()).or_insert(file);
        }
    }
    let mac = std::fs::read_to_string(root.join("sys/class/net").join(interface).join("address")).unwrap_or_default();
    let ours = file_name(interface);
    let mut found = Vec::new();
    for (name, file) in by_name.iter().filter(|(name, _)| !name.starts_with(ours.trim_end_matches(".network"))) {
        // One that is empty, or leads nowhere, only takes the place of one with its name.
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.is_empty() || !matches(&text, interface, mac.trim()) {
            continue;
        }
        let shown = Path::new("/").join(file.strip_prefix(root).unwrap_or(file)).display().to_string();
        if *name < ours {
            found.push(format!(
                "{shown} is for {interface} too, and comes before ours, which then does not count: set the addresses there, \
                 or take that file away"
            ));
        } else if !shown.starts_with("/usr") {
            found.push(format!("{shown} is for {interface} too: ours comes before it, and it does not count any more"));
        }
    }
    found
}

/// Whether a file's `[Match]` fits this interface. What stands there besides its name and number may fit.
fn matches(text: &str, interface: &str, mac: &str) -> bool {
    let mut is_match = false;
    let mut has_any = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if line.starts_with('[') {
            is_match = line == "[Match]";
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| is_match) else { continue };
        has_any = true;
        let fits = match key.trim() {
            "Name" => named(value.trim(), interface),
            "MACAddress" | "PermanentMACAddress" => {
                value.split_whitespace().any(|one| one.replace('-', ":").eq_ignore_ascii_case(mac))
            }
            _ => true,
        };
        if !fits {
            return false;
        }
    }
    // Without one it counts for none (with a warning) or all.
    has_any
}

/// Names with `*` and `?` between blanks; with a `!` before them, every other one.
fn named(patterns: &str, interface: &str) -> bool {
    let (is_wanted, patterns) = match patterns.strip_prefix('!') {
        Some(rest) => (false, rest),
        None => (true, patterns),
    };
    patterns.split_whitespace().any(|pattern| globbed(pattern.as_bytes(), interface.as_bytes())) == is_wanted
}

fn globbed(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => globbed(rest, name) || (!name.is_empty() && globbed(pattern, &name[1..])),
        ([b'?', rest @ ..], [_, of_name @ ..]) => globbed(rest, of_name),
        ([one, rest @ ..], [other, of_name @ ..]) if one == other => globbed(rest, of_name),
        _ => false,
    }
}

fn of_network_manager(root: &Path, interface: &str) -> Vec<String> {
    if !root.join(NETWORK_MANAGER).is_dir() {
        return Vec::new();
    }
    let is_for = |text: &str| {
        let bound = text.lines().find_map(|line| line.trim().strip_prefix("interface-name="));
        bound.map_or(text.lines().any(|line| line.trim() == "type=ethernet"), |name| name == interface)
    };
    let connections = CONNECTIONS.iter().flat_map(|folder| files(&root.join(folder)));
    let found = connections.filter(|file| std::fs::read_to_string(file).is_ok_and(|text| is_for(&text)));
    found
        .map(|file| {
            format!(
                "NetworkManager sets {interface} too (/{}): have it leave that alone with `nmcli device set {interface} managed \
                 no`, and for good in /etc/NetworkManager/conf.d",
                file.strip_prefix(root).unwrap_or(&file).display()
            )
        })
        .collect()
}

fn of_ifupdown(root: &Path, interface: &str) -> Vec<String> {
    let etc = root.join("etc/network");
    let all = std::iter::once(etc.join("interfaces")).chain(files(&etc.join("interfaces.d")));
    let sets = |text: &str| {
        text.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some("iface") && words.next() == Some(interface)
        })
    };
    let found = all.filter(|file| std::fs::read_to_string(file).is_ok_and(|text| sets(&text)));
    found
        .map(|file| {
            let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            format!("ifupdown sets {interface} too (/{shown}): take its `iface {interface}` out of there")
        })
        .collect()
}

/// Files of a folder, by name; none where there is none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let file = root.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    #[test]
    fn what_hides_ours_and_what_ours_hides_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(rivals(root, "eth0").is_empty());
        put(root, "sys/class/net/eth0/address", "02:00:00:00:00:01\n");
        put(root, "etc/systemd/network/10-afferent-eth0.network", "[Match]\nName=eth0\n");
        put(root, "etc/systemd/network/05-lab.network", "# the lab's\n[Match]\nName=en* eth?\n[Network]\nDHCP=yes\n");
        put(root, "run/systemd/network/10-netplan-eth0.network", "[Match]\nMACAddress=02:00:00:00:00:01\n");
        put(root, "etc/systemd/network/04-other.network", "[Match]\nName=!eth*\n");
        put(root, "etc/systemd/network/03-other.network", "[Match]\nMACAddress=02-00-00-00-00-02\n");
        // Its name is taken by one that is empty.
        put(root, "usr/lib/systemd/network/02-wide.network", "[Match]\nName=*\n");
        put(root, "etc/systemd/network/02-wide.network", "");
        put(root, "usr/lib/systemd/network/80-ether.network", "[Match]\nType=ether\n");
        let found = rivals(root, "eth0");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("/etc/systemd/network/05-lab.network is for eth0 too, and comes before"),
            "{found:?}"
        );
        assert!(
            found[1].starts_with("/run/systemd/network/10-netplan-eth0.network is for eth0 too: ours"),
            "{found:?}"
        );
        assert!(rivals(root, "wlan0").iter().all(|says| says.contains("04-other")), "{:?}", rivals(root, "wlan0"));
    }

    #[test]
    fn others_that_set_it_are_named_with_what_has_them_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let connection = "[connection]\nid=lab\ntype=ethernet\ninterface-name=eth0\n";
        put(root, "etc/NetworkManager/system-connections/lab.nmconnection", connection);
        put(root, "etc/network/interfaces", "auto lo eth0\n# iface eth0\niface lo inet loopback\n");
        put(root, "etc/network/interfaces.d/lab", "allow-hotplug eth0\niface eth0 inet dhcp\n");
        let found = rivals(root, "eth0");
        assert_eq!(found.len(), 1, "NetworkManager does not run: {found:?}");
        assert!(found[0].contains("ifupdown") && found[0].contains("/etc/network/interfaces.d/lab"), "{found:?}");
        std::fs::create_dir_all(root.join("run/NetworkManager")).unwrap();
        let found = rivals(root, "eth0");
        assert!(found[0].contains("lab.nmconnection") && found[0].contains("managed no"), "{found:?}");
        assert!(rivals(root, "eth1").is_empty());
    }
}
