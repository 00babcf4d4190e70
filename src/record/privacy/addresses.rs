//! Which addresses are truncated.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Map, Value};

use super::Privacy;
use crate::event::{AddressMask, EventId};
use crate::record::ascii::ascii;
use crate::record::search::tail;
use crate::record::{Record, base64};

/// Addresses that hosts have leased.
const LEASED: usize = 65_536;
/// Octets of the log that are looked through for them.
const TAIL: u64 = 64 << 20;

/// Truncates addresses of others than the honeynet's own hosts and routers, which it knows by what is recorded, too. What one
/// of its clones learns all of them know: an address that is ours in one file is ours in all.
#[derive(Clone, Debug, Default)]
pub struct Mask(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    addresses: AddressMask,
    leased: RwLock<HashSet<IpAddr>>,
}

impl Mask {
    /// What `privacy` asks for in a honeynet whose own addresses are `ours`, from the first to the last of each range.
    pub fn new(privacy: Privacy, ours: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Mask {
        Mask(Arc::new(Known { addresses: AddressMask::new(privacy.truncate, ours), leased: RwLock::default() }))
    }

    /// Learns which addresses our hosts have been given, as the end of the log in `events` tells it: who renews a lease does not
    /// tell it again.
    pub fn learn(&self, events: &Path) {
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
        self.0.addresses.is_any()
    }

    /// What is written of `ip`.
    pub fn ip(&self, ip: IpAddr) -> IpAddr {
        let is_leased = || self.0.leased.read().unwrap_or_else(PoisonError::into_inner).contains(&ip);
        if self.is_any() && is_leased() { ip } else { self.0.addresses.ip(ip) }
    }

    /// Truncates what `record` tells of; learns which addresses our hosts have been given.
    pub fn apply(&self, record: &mut Record) {
        if !self.is_any() {
            return;
        }
        if record.event == EventId::DhcpLeased
            && let Some(ip) = record.dst.as_ref().and_then(|dst| dst.ip)
        {
            // That of a lease that ended may yet be in a frame.
            let mut leased = self.0.leased.write().unwrap_or_else(PoisonError::into_inner);
            if leased.len() >= LEASED {
                leased.clear();
            }
            leased.insert(ip);
        }
        for end in [&mut record.src, &mut record.dst].into_iter().flatten() {
            end.ip = end.ip.map(|ip| self.ip(ip));
        }
        use EventId::{ContainerConnect, ContainerListen, ContainerLogin, SshForward, SshForwardData};
        if matches!(record.event, ContainerConnect | ContainerListen | ContainerLogin | SshForward | SshForwardData) {
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
        let text = ascii(&Value::Object(told).to_string());
        record.text = record.text.is_some().then(|| crate::record::escape(&text).into_owned());
        record.data = Some(base64::encode(text.as_bytes()));
    }

    /// What is written of an address as clients and servers write one: by itself, in brackets, with a port behind a colon or
    /// a word. Nothing if it is none.
    pub fn text(&self, text: &str) -> Option<String> {
        let (address, port) = text.find(" port ").map_or((text, ""), |at| text.split_at(at));
        let address = address.trim();
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let masked = match bare.parse::<IpAddr>() {
            Ok(ip) => self.ip(ip).to_string(),
            Err(_) => {
                let at: SocketAddr = bare.parse().ok()?;
                SocketAddr::new(self.ip(at.ip()), at.port()).to_string()
            }
        };
        Some(masked + port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Utc;
    use crate::record::End;

    fn mask() -> Mask {
        let ours = ("10.0.0.10".parse().unwrap(), "10.0.0.20".parse().unwrap());
        Mask::new(Privacy { truncate: Some(Default::default()), ..Privacy::default() }, [ours])
    }

    #[test]
    fn an_address_in_what_is_told_is_one_too() {
        let mask = mask();
        let masked = |id, told: &str| {
            let mut record = Record::bare(1, Utc::EPOCH, id);
            (record.data, record.text) = (Some(base64::encode(told.as_bytes())), Some(told.to_owned()));
            mask.apply(&mut record);
            let data = String::from_utf8(base64::decode(&record.data.unwrap()).unwrap()).unwrap();
            assert_eq!(record.text.as_ref(), Some(&data));
            data
        };
        let connect = r#"{"ip":"198.51.100.7","port":443,"name":"sh"}"#;
        assert_eq!(masked(EventId::ContainerConnect, connect), r#"{"ip":"198.51.100.0","port":443,"name":"sh"}"#);
        let forward = r#"{"host":"10.0.0.15","from":"198.51.100.7:4000"}"#;
        assert_eq!(masked(EventId::SshForward, forward), r#"{"host":"10.0.0.15","from":"198.51.100.0:4000"}"#);
        let beyond = r#"{"host":"198.51.100.7","from":"2001:db8:1:2::3 port 65536"}"#;
        let expected = r#"{"host":"198.51.100.0","from":"2001:db8:1:: port 65536"}"#;
        assert_eq!(masked(EventId::SshForward, beyond), expected);
        assert_eq!(masked(EventId::SshForward, r#"{"host":"a.example"}"#), r#"{"host":"a.example"}"#);
    }

    #[test]
    fn a_leased_address_is_ours() {
        let mask = mask();
        let elsewhere = mask.clone();
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
        assert_eq!(
            elsewhere.text("192.168.1.30:22").as_deref(),
            Some("192.168.1.30:22"),
            "who has a clone knows it, too"
        );
        let mut sixth = record(EventId::TcpOpen, "2001:db8:1:2:3:4:5:6", "fe80::1");
        mask.apply(&mut sixth);
        assert_eq!((sixth.src, sixth.dst), (end("2001:db8:1::"), end("fe80::1")));
    }
}
