//! The network, to compare: a new box has other hardware addresses, so what a site reserved for the old one (DHCP, a
//! firewall, the EHR's own list) does not hold for it. Nothing is set up here.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use toml::{Table, Value};

/// Where systemd-networkd is told.
const NETWORKD: &str = "/etc/systemd/network";
/// What files of a box of ours have in their names there.
const OURS: &str = "afferent";

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// The interfaces of this machine that have an address, but for loopback and addresses of one link.
pub fn interfaces() -> Vec<Interface> {
    let mut found: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (name, address) in addresses() {
        let is_local = match address {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.segments()[0] & 0xffc0 == 0xfe80,
        };
        if !is_local {
            found.entry(name).or_default().push(address);
        }
    }
    let mac = |name: &str| std::fs::read_to_string(format!("/sys/class/net/{name}/address")).unwrap_or_default();
    let interface = |(name, addresses): (String, _)| Interface { mac: mac(&name).trim().into(), name, addresses };
    found.into_iter().map(interface).collect()
}

fn addresses() -> Vec<(String, IpAddr)> {
    let (mut all, mut first) = (Vec::new(), std::ptr::null_mut());
    // SAFETY: the list is the system's own until it is freed below; each entry and what it points to is read only before.
    unsafe {
        if libc::getifaddrs(&raw mut first) != 0 {
            return all;
        }
        let mut at = first;
        while let Some(entry) = at.as_ref() {
            at = entry.ifa_next;
            let Some(address) = entry.ifa_addr.as_ref() else { continue };
            let address = match i32::from(address.sa_family) {
                libc::AF_INET => {
                    let v4 = &*entry.ifa_addr.cast::<libc::sockaddr_in>();
                    IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)))
                }
                libc::AF_INET6 => {
                    let v6 = &*entry.ifa_addr.cast::<libc::sockaddr_in6>();
                    IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr))
                }
                _ => continue,
            };
            all.push((CStr::from_ptr(entry.ifa_name).to_string_lossy().into_owned(), address));
        }
        libc::freeifaddrs(first);
    }
    all
}

/// Addresses that this text listens on and that this machine does not have.
pub fn missing(text: &str) -> Vec<SocketAddr> {
    let table: Table = toml::from_str(text).unwrap_or_default();
    let mut listens = Vec::new();
    listening(&Value::Table(table), &mut listens);
    listens.retain(|address| {
        let bound = UdpSocket::bind((address.ip(), 0));
        bound.is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable)
    });
    listens
}

fn listening(value: &Value, found: &mut Vec<SocketAddr>) {
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| match value.as_str() {
            Some(text) if key == "listen" => found.extend(text.parse::<SocketAddr>()),
            _ => listening(value, found),
        }),
        Value::Array(all) => all.iter().for_each(|value| listening(value, found)),
        _ => {}
    }
}

/// Files by which systemd-networkd is told what a box of ours wants.
pub fn files() -> Vec<PathBuf> {
    let listed = std::fs::read_dir(NETWORKD).into_iter().flatten().filter_map(Result::ok);
    let mut ours: Vec<PathBuf> =
        listed.filter(|entry| entry.file_name().to_string_lossy().contains(OURS)).map(|entry| entry.path()).collect();
    ours.sort();
    ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_box_listens_on_and_does_not_have_is_named() {
        // 192.0.2.0/24 is for documentation (RFC 5737): no machine has it.
        let text = "[[link]]\nlisten = \"192.0.2.7:4001\"\n[[link]]\nlisten = \"0.0.0.0:4002\"\n[dicom]\n\
                    listen = \"127.0.0.1:104\"\n[[orders]]\nlisten = \"[2001:db8::7]:2575\"\ndial = \"192.0.2.9:1\"";
        let missing: Vec<String> = missing(text).iter().map(ToString::to_string).collect();
        assert!(missing.contains(&"192.0.2.7:4001".to_string()), "{missing:?}");
        assert!(!missing.iter().any(|address| address.ends_with(":4002") || address.ends_with(":104")), "{missing:?}");
    }

    #[test]
    fn every_interface_that_is_told_of_has_an_address_and_none_is_loopback() {
        let all = interfaces();
        assert!(all.iter().all(|interface| !interface.addresses.is_empty() && interface.name != "lo"), "{all:?}");
        let own = addresses();
        assert!(own.iter().any(|(name, address)| name == "lo" && address.is_loopback()), "{own:?}");
    }
}
