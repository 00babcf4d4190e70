//! Which addresses are truncated.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde_json::{Map, Value};

use super::secrets::ascii;
use super::{Prefixes, Privacy};
use crate::event::EventId;
use crate::record::search::tail;
use crate::record::{Record, base64};
use crate::wire::{ip_of, word_of};

/// Addresses that hosts have leased.
const LEASED: usize = 65_536;
/// Octets of the log that are looked through for them.
const TAIL: u64 = 64 << 20;

/// Truncates addresses of others than the honeynet's own hosts and routers.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    prefixes: Option<Prefixes>,
    /// From the first to the last of each range, by the first.
    ours: Vec<(u128, u128)>,
    leased: HashSet<IpAddr>,
}

impl Mask {
    /// What `privacy` asks for in a honeynet whose own addresses are `ours`, from the first to the last of each range.
    pub fn new(privacy: Privacy, ours: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Mask {
        let mut ours: Vec<_> = ours.into_iter().map(|(first, last)| (word_of(first), word_of(last))).collect();
        ours.sort_unstable();
        // One that lies within another would hide what lies behind it.
        let mut apart: Vec<(u128, u128)> = Vec::with_capacity(ours.len());
        for (first, last) in ours {
            match apart.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => apart.push((first, last)),
            }
        }
        Mask { prefixes: privacy.truncate, ours: apart, leased: HashSet::new() }
    }

    /// Learns which addresses our hosts have been given, as the end of the log in `events` tells it: who renews a lease does not
    /// tell it again.
    pub fn learn(&mut self, events: &Path) {
        if !self.is_any() {
            return;
        }
        let leased = br#""event":"dhcp.leased""#;
        tail(events, TAIL, |line| {
            if line.windows(leased.len()).any(|part| part == leased)
                && let Ok(mut record) = serde_json::from_slice::<Record>(line)
            {
                self.apply(&mut record);
            }
        });
    }

    /// Whether anything is truncated.
    pub fn is_any(&self) -> bool {
        self.prefixes.is_some()
    }

    /// What is written of `ip`.
    pub fn ip(&self, ip: IpAddr) -> IpAddr {
        let Some(prefixes) = self.prefixes else { return ip };
        let is_general = match ip {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.is_unspecified(),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified(),
        };
        if is_general || ip.is_multicast() || ip.is_loopback() || self.is_ours(ip) {
            return ip;
        }
        let host_bits = match ip {
            IpAddr::V4(_) => 32u32.saturating_sub(prefixes.ipv4.into()),
            IpAddr::V6(_) => 128u32.saturating_sub(prefixes.ipv6.into()),
        };
        ip_of(word_of(ip) & u128::MAX.checked_shl(host_bits).unwrap_or(0))
    }

    fn is_ours(&self, ip: IpAddr) -> bool {
        let word = word_of(ip);
        let before = self.ours.partition_point(|(first, _)| *first <= word);
        let within = before.checked_sub(1).and_then(|at| self.ours.get(at)).is_some_and(|(_, last)| word <= *last);
        within || self.leased.contains(&ip)
    }

    /// Truncates what `record` tells of; learns which addresses our hosts have been given.
    pub fn apply(&mut self, record: &mut Record) {
        if !self.is_any() {
            return;
        }
        if record.event == EventId::DhcpLeased
            && let Some(ip) = record.dst.as_ref().and_then(|dst| dst.ip)
        {
            // That of a lease that ended may yet be in a frame.
            if self.leased.len() >= LEASED {
                self.leased.clear();
            }
            self.leased.insert(ip);
        }
        for end in [&mut record.src, &mut record.dst].into_iter().flatten() {
            end.ip = end.ip.map(|ip| self.ip(ip));
        }
        use EventId::{ContainerConnect, ContainerListen, ContainerLogin, SshForward};
        if matches!(record.event, ContainerConnect | ContainerListen | ContainerLogin | SshForward) {
            self.told(record);
        }
    }

    /// The same for addresses in what an event tells as a JSON object.
    fn told(&self, record: &mut Record) {
        let data = record.data.as_deref().and_then(base64::decode).unwrap_or_default();
        let Ok(mut told) = serde_json::from_slice::<Map<String, Value>>(&data) else { return };
        for member in ["ip", "host", "from"] {
            if let Some(value) = told.get_mut(member)
                && let Some(masked) = value.as_str().and_then(|text| self.text(text))
            {
                *value = masked.into();
            }
        }
        let ascii = ascii(&Value::Object(told));
        record.text = record.text.is_some().then(|| String::from_utf8_lossy(&ascii).into_owned());
        record.text = record.text.take().map(|text| crate::record::escape(&text).into_owned());
        record.data = Some(base64::encode(&ascii));
    }

    /// What is written of an address, with a port or without; nothing if it is none.
    pub fn text(&self, text: &str) -> Option<String> {
        match text.parse::<IpAddr>() {
            Ok(ip) => Some(self.ip(ip).to_string()),
            Err(_) => {
                let at: SocketAddr = text.parse().ok()?;
                Some(SocketAddr::new(self.ip(at.ip()), at.port()).to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Utc;
    use crate::record::End;

    fn mask(truncate: Option<Prefixes>) -> Mask {
        let ours = [
            ("10.0.0.10", "10.0.0.20"),
            ("203.0.113.1", "203.0.113.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.12", "10.0.0.13"),
        ];
        let ours = ours.map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap()));
        Mask::new(Privacy { truncate, ..Privacy::default() }, ours)
    }

    fn shown(mask: &Mask, ip: &str) -> String {
        mask.ip(ip.parse().unwrap()).to_string()
    }

    #[test]
    fn only_addresses_of_others_are_truncated() {
        let mask = mask(Some(Prefixes::default()));
        for ours in ["10.0.0.1", "203.0.113.1", "10.0.0.10", "10.0.0.15", "10.0.0.20"] {
            assert_eq!(shown(&mask, ours), ours);
        }
        for nobodys in
            ["0.0.0.0", "255.255.255.255", "224.0.0.251", "127.0.0.1", "169.254.3.4", "::", "::1", "ff02::1", "fe80::1"]
        {
            assert_eq!(shown(&mask, nobodys), nobodys);
        }
        assert_eq!(shown(&mask, "10.0.0.21"), "10.0.0.0");
        assert_eq!(shown(&mask, "203.0.113.77"), "203.0.113.0");
        assert_eq!(shown(&mask, "2001:db8:1:2:3:4:5:6"), "2001:db8:1::");
        let some = Mask { prefixes: Some(Prefixes { ipv4: 0, ipv6: 0 }), ..mask };
        assert_eq!((shown(&some, "198.51.100.7"), shown(&some, "2001:db8::1")), ("0.0.0.0".into(), "::".into()));
        let all = Mask { prefixes: Some(Prefixes { ipv4: 32, ipv6: 128 }), ..some.clone() };
        assert_eq!(shown(&all, "198.51.100.7"), "198.51.100.7");
        assert_eq!(shown(&Mask { prefixes: None, ..some }, "198.51.100.7"), "198.51.100.7");
    }

    #[test]
    fn an_address_in_what_is_told_is_one_too() {
        let mask = mask(Some(Prefixes::default()));
        let masked = |id, told: &str| {
            let mut record = Record::bare(1, Utc::EPOCH, id);
            (record.data, record.text) = (Some(base64::encode(told.as_bytes())), Some(told.to_owned()));
            mask.clone().apply(&mut record);
            let data = String::from_utf8(base64::decode(&record.data.unwrap()).unwrap()).unwrap();
            assert_eq!(record.text.as_ref(), Some(&data));
            data
        };
        let connect = r#"{"ip":"198.51.100.7","port":443,"name":"sh"}"#;
        assert_eq!(masked(EventId::ContainerConnect, connect), r#"{"ip":"198.51.100.0","port":443,"name":"sh"}"#);
        let forward = r#"{"host":"10.0.0.15","from":"198.51.100.7:4000"}"#;
        assert_eq!(masked(EventId::SshForward, forward), r#"{"host":"10.0.0.15","from":"198.51.100.0:4000"}"#);
        assert_eq!(masked(EventId::SshForward, r#"{"host":"a.example"}"#), r#"{"host":"a.example"}"#);
    }

    #[test]
    fn a_leased_address_is_ours() {
        let mut mask = mask(Some(Prefixes::default()));
        let end = |ip: &str| Some(End { ip: Some(ip.parse().unwrap()), port: Some(7), ..End::default() });
        let record = |id, src: &str, dst: &str| {
            let mut record = Record::bare(1, Utc::EPOCH, id);
            (record.src, record.dst) = (end(src), end(dst));
            record
        };
        let mut before = record(EventId::TcpOpen, "198.51.100.7", "192.168.1.30");
        mask.apply(&mut before);
        assert_eq!((before.src, before.dst), (end("198.51.100.0"), end("192.168.1.0")));
        mask.apply(&mut record(EventId::DhcpLeased, "192.168.1.1", "192.168.1.30"));
        let mut after = record(EventId::TcpOpen, "198.51.100.7", "192.168.1.30");
        mask.apply(&mut after);
        assert_eq!((after.src, after.dst), (end("198.51.100.0"), end("192.168.1.30")));
    }
}
