//! The network of the box: what it has, and a file for systemd-networkd when somebody wants other addresses
//! ([`networkd`]), of which others that set them know nothing ([`rivals`]).

pub mod networkd;
pub mod rivals;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where systemd-networkd looks for files of the machine, below the root.
const NETWORKD_FOLDER: &str = "etc/systemd/network";
/// Processes between this one and the one that ssh started; sudo and shells are a few.
const PARENTS_MAX: usize = 16;
/// An address with the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefixed {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network.
    pub bits: u8,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// A cable is plugged in, as far as it knows.
    pub is_up: bool,
    /// Its addresses.
    pub addresses: Vec<Prefixed>,
}

/// What the network of a box looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Interfaces but the loopback, by name.
    pub interfaces: Vec<Interface>,
    /// Ways to everywhere else: gateway and interface.
    pub routes: Vec<(IpAddr, String)>,
    /// Who is asked for names.
    pub resolvers: Vec<IpAddr>,
}

impl std::fmt::Display for Prefixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Prefixed {
    /// Reads `10.0.0.7/24` or `2001:db8::7/64`: an address that a machine can have, in a network it is not the name of.
    ///
    /// # Errors
    /// In words, what it is not.
    pub fn parse(text: &str) -> Result<Prefixed, String> {
        let wrong = || format!("`{text}` is no address with its prefix, such as 10.0.0.7/24 or 2001:db8::7/64");
        let (address, bits) = text.trim().split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits: u8 = bits.parse().map_err(|_| wrong())?;
        let whole: u8 = if address.is_ipv4() { 32 } else { 128 };
        if !(1..=whole).contains(&bits) {
            return Err(format!("`{text}`: a prefix of this kind has 1 to {whole} bits"));
        }
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return Err(format!("`{text}` is no address of a machine"));
        }
        let found = Prefixed { address, bits };
        let host = found.host();
        if address.is_ipv4() && bits < 31 && (host == 0 || host == (1_u128 << (whole - bits)) - 1) {
            return Err(format!("`{text}` is the network itself or its broadcast, not a machine in it"));
        }
        Ok(found)
    }

    /// True when this address is in the same network.
    pub fn reaches(&self, other: IpAddr) -> bool {
        self.address.is_ipv4() == other.is_ipv4()
            && number(self.address) >> self.host_bits() == number(other) >> self.host_bits()
    }

    fn host_bits(&self) -> u32 {
        // No prefix has 0 bits, so this is less than the width.
        u32::from(if self.address.is_ipv4() { 32 } else { 128 } - self.bits)
    }

    fn host(&self) -> u128 {
        number(self.address) & ((1_u128 << self.host_bits()) - 1)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// What is written between commas or blanks.
pub fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty())
}

/// Addresses with their prefixes.
///
/// # Errors
/// In words, what is wrong with one of them.
pub fn addresses(text: &str) -> Result<Vec<Prefixed>, String> {
    let found: Vec<Prefixed> = listed(text).map(Prefixed::parse).collect::<Result<_, _>>()?;
    if found.is_empty() { Err("give at least one address, such as 10.0.0.7/24".to_string()) } else { Ok(found) }
}

/// Gateways, each of which one of these addresses reaches; `none` for none.
///
/// # Errors
/// In words, what is wrong with one of them.
pub fn gateways(text: &str, own: &[Prefixed], interface: &str) -> Result<Vec<IpAddr>, String> {
    let found = plain(text, interface)?;
    for gateway in &found {
        let is_own = own.iter().any(|own| own.address == *gateway);
        let is_link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
        if is_own {
            return Err(format!("{gateway} is this box itself"));
        }
        if !is_link_local && !own.iter().any(|own| own.reaches(*gateway)) {
            return Err(format!("{gateway} is in none of the networks of this box"));
        }
    }
    Ok(found)
}

/// Addresses without prefix, as they stand in the file of this interface; `none` for none. A scope, as in `fe80::1%eth0`,
/// can be no other interface, and goes without saying there.
///
/// # Errors
/// In words, which is none.
pub fn plain(text: &str, interface: &str) -> Result<Vec<IpAddr>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let parse = |text: &str| {
        let (address, scope) = unscoped(text).ok_or_else(|| format!("`{text}` is no IP address"))?;
        match scope {
            Some(other) if other != interface => Err(format!("`{text}` is on {other}, and this is about {interface}")),
            _ => Ok(address),
        }
    };
    listed(text).map(parse).collect()
}

/// An address and its scope (RFC 4007), which only a link-local one of IPv6 has.
fn unscoped(text: &str) -> Option<(IpAddr, Option<&str>)> {
    match text.split_once('%') {
        None => Some((text.parse().ok()?, None)),
        Some((address, scope)) => {
            let address: Ipv6Addr = address.parse().ok()?;
            (address.is_unicast_link_local() && !scope.is_empty()).then_some((address.into(), Some(scope)))
        }
    }
}

/// The name of the file of an interface. It goes before those of distributions, which begin with higher numbers.
fn file_name(interface: &str) -> String {
    format!("10-afferent-{interface}.network")
}

/// The address of this box that whoever sits at this terminal came to over ssh. sudo takes the variable that says so
/// away, so that the processes it was started from are asked.
pub fn session_address() -> Option<IpAddr> {
    let mut process = std::process::id().to_string();
    for _ in 0..PARENTS_MAX {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        if let Some(found) = variables.find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION=")) {
            return reached_at(&String::from_utf8_lossy(found));
        }
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        process = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().to_string();
    }
    None
}

/// Our address in `SSH_CONNECTION`: client address, client port, our address, our port.
fn reached_at(connection: &str) -> Option<IpAddr> {
    connection.split(' ').nth(2)?.parse().ok()
}

impl Network {
    /// Looks at the network of this machine.
    pub fn look() -> Network {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut routes = routes_v4(&read("/proc/net/route"));
        routes.extend(routes_v6(&read("/proc/net/ipv6_route")));
        Network { interfaces: interfaces(), routes, resolvers: resolvers(&read("/etc/resolv.conf")) }
    }

    /// The interface that most goes over: that of the first route, else the first that is up.
    pub fn main_interface(&self) -> Option<&str> {
        let routed = self.routes.first().map(|(_, interface)| interface.as_str());
        let is_up = || self.interfaces.iter().find(|interface| interface.is_up).or(self.interfaces.first());
        routed.or_else(|| is_up().map(|interface| interface.name.as_str()))
    }

    /// In words, a line for each thing.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for Interface { name, is_up, addresses } in &self.interfaces {
            let cable = if *is_up { "" } else { ", no cable" };
            let found: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let found = if found.is_empty() { "no address".to_string() } else { found.join(", ") };
            words.push(format!("{name}: {found}{cable}"));
        }
        if self.interfaces.is_empty() {
            words.push("there is no network interface".to_string());
        }
        match self.routes.as_slice() {
            [] => words.push("no default route: nothing beyond its own networks is reached".to_string()),
            routes => {
                words.extend(routes.iter().map(|(gateway, interface)| format!("default route: {gateway}, {interface}")))
            }
        }
        let resolvers: Vec<String> = self.resolvers.iter().map(ToString::to_string).collect();
        words.push(match resolvers.is_empty() {
            true => "nobody is asked for names (DNS)".to_string(),
            false => format!("names are asked of {}", resolvers.join(", ")),
        });
        words
    }
}

fn interfaces() -> Vec<Interface> {
    let mut found: BTreeMap<String, Interface> = BTreeMap::new();
    let names = std::fs::read_dir("/sys/class/net").into_iter().flatten().filter_map(Result::ok);
    for entry in names {
        let Ok(name) = entry.file_name().into_string() else { continue };
        // What is no folder there is a file of the bonding driver.
        if name == "lo" || !entry.path().is_dir() {
            continue;
        }
        let state = std::fs::read_to_string(entry.path().join("operstate")).unwrap_or_default();
        let is_up = matches!(state.trim(), "up" | "unknown");
        found.insert(name.clone(), Interface { name, is_up, addresses: Vec::new() });
    }
    for (name, address) in kernel_addresses() {
        if let Some(interface) = found.get_mut(&name) {
            interface.addresses.push(address);
        }
    }
    found.into_values().collect()
}

/// What the kernel says of every interface.
fn kernel_addresses() -> Vec<(String, Prefixed)> {
    let mut found = Vec::new();
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs fills in a list that is ours until freeifaddrs; its pointers are valid or null until then, and an
    // address is as long as its family says.
    unsafe {
        if libc::getifaddrs(&mut list) != 0 {
            return found;
        }
        let mut at = list;
        while let Some(entry) = at.as_ref() {
            at = entry.ifa_next;
            let (Some(address), Some(mask)) = (ip(entry.ifa_addr), ip(entry.ifa_netmask)) else { continue };
            let name = CStr::from_ptr(entry.ifa_name).to_string_lossy().into_owned();
            let bits = u8::try_from(number(mask).count_ones()).unwrap_or_default();
            found.push((name, Prefixed { address, bits }));
        }
        libc::freeifaddrs(list);
    }
    found
}

/// # Safety
/// It is null, or points at a socket address of the length that its family has.
unsafe fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: as the caller promises; unaligned, since nothing says that it is not.
    unsafe {
        match i32::from(address.as_ref()?.sa_family) {
            libc::AF_INET => {
                let address: libc::sockaddr_in = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                let address: libc::sockaddr_in6 = address.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

/// Default routes of `/proc/net/route`, whose addresses are hexadecimal in the machine's own order.
fn routes_v4(table: &str) -> Vec<(IpAddr, String)> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [interface, destination, gateway, _, _, _, _, mask, ..] = fields.as_slice() else { return None };
        let number = |text: &str| u32::from_str_radix(text, 16).ok();
        let gateway = Ipv4Addr::from(number(gateway)?.to_ne_bytes());
        (number(destination)? == 0 && number(mask)? == 0).then(|| (gateway.into(), (*interface).to_string()))
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// Default routes of `/proc/net/ipv6_route`. One without a gateway is how the kernel refuses all else.
fn routes_v6(table: &str) -> Vec<(IpAddr, String)> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, bits, _, _, gateway, .., interface] = fields.as_slice() else { return None };
        let number = |text: &str| u128::from_str_radix(text, 16).ok();
        let gateway = Ipv6Addr::from_bits(number(gateway)?);
        let is_default = number(destination)? == 0 && *bits == "00" && !gateway.is_unspecified();
        is_default.then(|| (gateway.into(), (*interface).to_string()))
    };
    table.lines().filter_map(route).collect()
}

fn resolvers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|address| unscoped(address.trim())).map(|(address, _)| address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_machine_can_have_is_an_address() {
        for right in ["10.0.0.7/24", "192.168.1.1/31", "2001:db8::7/64", "fd00::1/128", "10.0.0.1/32"] {
            assert_eq!(Prefixed::parse(right).unwrap().to_string(), right);
        }
        for (wrong, says) in [
            ("10.0.0.7", "with its prefix"),
            ("10.0.0.300/24", "with its prefix"),
            ("10.0.0.7/33", "1 to 32"),
            ("2001:db8::7/129", "1 to 128"),
            ("2001:db8::7/0", "1 to 128"),
            ("10.0.0.0/24", "the network itself"),
            ("10.0.0.255/24", "broadcast"),
            ("127.0.0.1/8", "no address of a machine"),
            ("ff02::1/64", "no address of a machine"),
            ("0.0.0.0/8", "no address of a machine"),
        ] {
            let why = Prefixed::parse(wrong).unwrap_err();
            assert!(why.contains(says), "{wrong}: {why}");
        }
        assert!(addresses(" , ").is_err());
        assert_eq!(addresses("10.0.0.7/24, 2001:db8::7/64").unwrap().len(), 2);
    }

    #[test]
    fn a_gateway_is_within_reach() {
        let own = addresses("10.0.1.7/23 2001:db8:1::7/48").unwrap();
        for right in ["10.0.0.1", "2001:db8:1:ffff::1", "fe80::1", "fe80::1%eth0", "none", "10.0.1.1, 2001:db8:1::1"] {
            gateways(right, &own, "eth0").unwrap_or_else(|why| panic!("{right}: {why}"));
        }
        for wrong in
            ["10.0.2.1", "2001:db8:2::1", "10.0.1.7", "gateway", "fe80::1%eth1", "2001:db8:1::1%eth0", "fe80::1%"]
        {
            assert!(gateways(wrong, &own, "eth0").is_err(), "{wrong}");
        }
        let far = addresses("10.0.0.1/32").unwrap();
        assert!(gateways("10.0.0.2", &far, "eth0").is_err(), "nothing is in a network of one");
    }

    #[test]
    fn the_kernel_s_tables_are_read() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                  eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        if cfg!(target_endian = "little") {
            assert_eq!(routes_v4(v4), [("192.168.0.1".parse().unwrap(), "eth0".to_string())]);
        }
        let none = "00000000000000000000000000000000";
        let v6 = format!(
            "{none} 00 {none} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
             {none} 00 {none} 00 {none} ffffffff 00000001 00000000 00200200       lo\n"
        );
        assert_eq!(routes_v6(&v6), [("fe80::1".parse().unwrap(), "eth0".to_string())]);
        assert_eq!(
            resolvers("# a\nsearch x\nnameserver 10.0.0.1\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\n").len(),
            3
        );
        assert_eq!(interfaces().iter().filter(|interface| interface.name == "lo").count(), 0);
        assert!(kernel_addresses().iter().any(|(name, found)| name == "lo" && found.to_string() == "127.0.0.1/8"));
    }

    #[test]
    fn the_file_says_what_was_answered() {
        let own = addresses("10.0.0.7/24,2001:db8::7/64").unwrap();
        let gateways = gateways("10.0.0.1 fe80::1%eth0", &own, "eth0").unwrap();
        let written = networkd::text("eth0", &own, &gateways, &plain("10.0.0.2", "eth0").unwrap());
        let wanted = "[Match]\nName=eth0\n\n[Network]\nAddress=10.0.0.7/24\nAddress=2001:db8::7/64\n\
                      Gateway=10.0.0.1\nGateway=fe80::1\nDNS=10.0.0.2\n";
        assert!(written.ends_with(wanted), "{written}");
        let by_dhcp = networkd::text("eth0", &[], &[], &[]);
        assert!(by_dhcp.contains("[Network]\nDHCP=yes\n") && by_dhcp.contains("[DHCPv4]\nUseNTP=yes\n"), "{by_dhcp}");
        assert_eq!(reached_at("10.0.0.9 51234 10.0.0.7 22"), "10.0.0.7".parse().ok());
    }
}
