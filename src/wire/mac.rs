//! 48-bit IEEE 802 addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A 48-bit MAC address in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// `00:00:00:00:00:00`, what an ARP request carries as its target.
    pub const ZERO: Mac = Mac([0; 6]);

    /// Reads an address from the first six octets of `bytes`.
    ///
    /// Returns `None` if there are fewer.
    pub fn from_slice(bytes: &[u8]) -> Option<Mac> {
        bytes.first_chunk().map(|octets| Mac(*octets))
    }

    /// Whether the group bit is set (multicast and broadcast).
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The 48 bits as a number, for hashing and for tables.
    pub fn to_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The address that [`Mac::to_u64`] made a number of; its highest 16 bits are ignored.
    #[inline]
    pub fn from_u64(number: u64) -> Mac {
        let [_, _, octets @ ..] = number.to_be_bytes();
        Mac(octets)
    }

    /// The group address of an IPv4 multicast group (RFC 1112 §6.4).
    pub fn ipv4_multicast(group: std::net::Ipv4Addr) -> Mac {
        let [_, b, c, d] = group.octets();
        Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// The group address of an IPv6 multicast group (RFC 2464 §7).
    pub fn ipv6_multicast(group: std::net::Ipv6Addr) -> Mac {
        let o = group.octets();
        Mac([0x33, 0x33, o[12], o[13], o[14], o[15]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six two-digit hexadecimal octets joined by `:` or `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address is six hexadecimal octets, such as 00:0c:29:aa:00:11")]
pub struct ParseMacError;

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Mac, ParseMacError> {
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or(ParseMacError)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseMacError);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
        }
        if parts.next().is_some() {
            return Err(ParseMacError);
        }
        Ok(Mac(octets))
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        // A busy log has two of these in each line, and formatting is what costs there.
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b':'; 17];
        for (octet, digits) in self.0.iter().zip(text.chunks_mut(3)) {
            digits[0] = HEX[usize::from(octet >> 4)];
            digits[1] = HEX[usize::from(octet & 15)];
        }
        serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
        if !deserializer.is_human_readable() {
            return <[u8; 6]>::deserialize(deserializer).map(Mac);
        }
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_text_for_people_and_octets_for_processes() {
        let mac = Mac([2, 0, 0xab, 3, 4, 5]);
        let mut buffer = [0; 32];
        let octets = postcard::to_slice(&mac, &mut buffer).unwrap();
        assert_eq!(octets, mac.0);
        assert_eq!(postcard::from_bytes::<Mac>(octets).unwrap(), mac);
        let text = serde_json::to_string(&mac).unwrap();
        assert_eq!(serde_json::from_str::<Mac>(&text).unwrap(), mac);
        assert_eq!(text, format!("\"{mac}\""));
    }

    #[test]
    fn prints_and_parses() {
        let mac: Mac = "00:0c:29:AA:00:11".parse().unwrap();
        assert_eq!(mac.to_string(), "00:0c:29:aa:00:11");
        assert_eq!("00-0c-29-aa-00-11".parse(), Ok(mac));
        for bad in ["", "00:0c:29:aa:00", "00:0c:29:aa:00:11:22", "0:c:29:aa:0:11", "00:0c:29:aa:00:+1"] {
            assert_eq!(bad.parse::<Mac>(), Err(ParseMacError), "{bad}");
        }
    }

    #[test]
    fn maps_multicast_groups() {
        assert_eq!(Mac::ipv4_multicast("239.129.2.3".parse().unwrap()).to_string(), "01:00:5e:01:02:03");
        assert_eq!(Mac::ipv6_multicast("ff02::1:ff00:11".parse().unwrap()).to_string(), "33:33:ff:00:00:11");
    }
}
