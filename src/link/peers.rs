//! Which addresses the instruments of a link dial from, so that several links can share one port.

use std::net::IpAddr;
use std::str::FromStr;

/// An address, or all that begin with the same bits: `10.0.0.5`, `10.0.1.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peers {
    network: IpAddr,
    bits: u8,
}

impl Peers {
    /// One network has one form, however it was written: no bits behind the leading ones.
    fn of(network: IpAddr, bits: u8) -> Self {
        let network = match network {
            IpAddr::V4(v4) => {
                (u32::from(v4) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).to_be_bytes().into()
            }
            IpAddr::V6(v6) => {
                (u128::from(v6) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).to_be_bytes().into()
            }
        };
        Peers { network, bits }
    }

    /// How many leading bits are given, when `address` is one of them: of several that fit, the one with most is meant.
    pub fn fit(&self, address: IpAddr) -> Option<u8> {
        let same = match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (u32::from(network) ^ u32::from(address)).leading_zeros() >= self.bits.into()
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (u128::from(network) ^ u128::from(address)).leading_zeros() >= self.bits.into()
            }
            _ => false,
        };
        same.then_some(self.bits)
    }
}

impl FromStr for Peers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let network: IpAddr = address.parse().map_err(|_| format!("`{text}` is no address"))?;
        // As a listener on [::] would show it.
        let network = if bits.is_none() { network.to_canonical() } else { network };
        let most = if network.is_ipv4() { 32 } else { 128 };
        let bits =
            match bits {
                None => most,
                Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(|| {
                    format!("`{text}` is no network: it ends in the number of leading bits, 0 to {most}")
                })?,
            };
        Ok(Peers::of(network, bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_a_network_when_its_leading_bits_are() {
        let fit = |peers: &str, address: &str| peers.parse::<Peers>().unwrap().fit(address.parse().unwrap());
        assert_eq!(fit("10.0.0.5", "10.0.0.5"), Some(32));
        assert_eq!(fit("10.0.0.5", "10.0.0.6"), None);
        assert_eq!(fit("10.0.1.0/24", "10.0.1.255"), Some(24));
        assert_eq!(fit("10.0.1.0/24", "10.0.2.0"), None);
        assert_eq!(fit("0.0.0.0/0", "192.168.7.1"), Some(0));
        assert_eq!(fit("fd00::/8", "fd12::1"), Some(8));
        assert_eq!(fit("10.0.0.5", "::ffff:10.0.0.5"), Some(32), "as a listener on [::] sees it");
        assert_eq!(fit("::/0", "10.0.0.5"), None);
        assert_eq!(fit("::ffff:10.0.0.5", "10.0.0.5"), Some(32));
        let same = |a: &str, b: &str| a.parse::<Peers>() == b.parse::<Peers>();
        assert!(same("10.0.0.5", "10.0.0.5/32") && same("10.0.1.0/24", "10.0.1.7/24") && same("fd00::1/8", "fd00::/8"));
        assert!(!same("10.0.1.0/24", "10.0.1.0/25") && same("1.2.3.4/0", "0.0.0.0/0"));
        for wrong in ["", "lab-1", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "fd00::/129", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Peers>().is_err(), "{wrong}");
        }
    }
}
