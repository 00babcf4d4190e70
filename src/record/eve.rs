//! Alerts as Suricata tells them: EVE, a JSON object a line.
//!
//! What a sensor writes quotes what attackers sent, so a line is read within bounds and for a few of its members only. What
//! is kept of it is written anew.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::schema::Record;
use crate::event::{MAX_DATA, Utc};

/// Octets of a line: what is longer is no alert, or one that cannot be told.
const LONGEST: usize = 1 << 20;

/// What a sensor saw, and the packet that it saw it in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// When, by the sensor's clock.
    pub at: Utc,
    /// Where the packet was from: the address, and the port or 0.
    pub src: (IpAddr, u16),
    /// Where it was for.
    pub dst: (IpAddr, u16),
    /// Its IP protocol; 0 if the sensor has another name for it.
    pub proto: u8,
    /// The rule, as a JSON object of at most [`MAX_DATA`] octets.
    pub data: String,
}

/// A sensor's rule, as a record has it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Rule {
    /// Its number.
    pub sid: u64,
    /// The number of what it belongs to.
    #[serde(default)]
    pub gid: u64,
    /// Its revision.
    #[serde(default)]
    pub rev: u64,
    /// Its text.
    #[serde(default)]
    pub signature: String,
    /// Its class.
    #[serde(default)]
    pub category: String,
    /// How bad it is: 1 is worst.
    #[serde(default)]
    pub severity: u64,
}

impl Rule {
    /// The rule that an `ids.alert` tells of.
    pub fn of(record: &Record) -> Option<Rule> {
        let data = super::base64::decode(record.data.as_deref()?)?;
        serde_json::from_slice(&data).ok()
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    src_ip: IpAddr,
    #[serde(default)]
    src_port: u16,
    dest_ip: IpAddr,
    #[serde(default)]
    dest_port: u16,
    #[serde(borrow, default)]
    proto: Cow<'a, str>,
    #[serde(borrow, default)]
    app_proto: Option<Cow<'a, str>>,
    #[serde(borrow)]
    alert: Alert<'a>,
}

#[derive(Deserialize)]
struct Alert<'a> {
    #[serde(default)]
    gid: u64,
    signature_id: u64,
    #[serde(default)]
    rev: u64,
    #[serde(borrow, default)]
    signature: Cow<'a, str>,
    #[serde(borrow, default)]
    category: Cow<'a, str>,
    #[serde(default)]
    severity: u64,
    #[serde(borrow, default)]
    action: Option<Cow<'a, str>>,
}

/// The alert in `line`; `None` if it is something else, or none that can be read.
pub fn alert(line: &[u8]) -> Option<Seen> {
    // Most lines tell of flows; looking costs less than parsing.
    has_word(line).then_some(())?;
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    (line.event_type == "alert").then_some(())?;
    Some(Seen {
        at: time(&line.timestamp)?,
        src: (line.src_ip, line.src_port),
        dst: (line.dest_ip, line.dest_port),
        proto: proto(&line.proto),
        data: told(&line.alert, line.app_proto.as_deref()),
    })
}

/// Whether `line`, which has told no [`alert`], is no line of this format, or one of an alert that cannot be read.
pub fn is_broken(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Any<'a> {
        #[serde(borrow, default)]
        event_type: Cow<'a, str>,
    }
    let line = line.trim_ascii();
    if !line.starts_with(b"{") || !line.ends_with(b"}") {
        return !line.is_empty();
    }
    // Of others only their form is known, as they are not parsed.
    has_word(line) && serde_json::from_slice::<Any<'_>>(line).map_or(true, |any| any.event_type == "alert")
}

fn has_word(line: &[u8]) -> bool {
    const WORD: &[u8] = b"\"alert\"";
    line.windows(WORD.len()).any(|part| part == WORD)
}

/// `2026-01-31T23:59:59.000000+0100`.
fn time(text: &str) -> Option<Utc> {
    let (local, zone) = text.split_at_checked(26)?;
    let local: Utc = format!("{local}Z").parse().ok()?;
    if zone == "Z" {
        return Some(local);
    }
    let (sign, digits) = zone.split_at_checked(1)?;
    let digits = digits.replace(':', "");
    (digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_digit())).then_some(())?;
    let (hours, minutes) = digits.split_at_checked(2)?;
    let behind = 60 * hours.parse::<i64>().ok()? + minutes.parse::<i64>().ok()?;
    let sign = match sign {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    Some(Utc::from_micros(local.micros() - sign * behind * 60_000_000))
}

fn proto(name: &str) -> u8 {
    match name {
        "TCP" => 6,
        "UDP" => 17,
        "ICMP" => 1,
        "IPv6-ICMP" => 58,
        _ => 0,
    }
}

/// The rule as it is kept.
fn told(alert: &Alert<'_>, app_proto: Option<&str>) -> String {
    // A rule's texts are as long as who wrote it likes.
    let mut most = 400;
    loop {
        let cut = |text: &str| ascii(text.chars().take(most));
        let mut value = json!({
            "sid": alert.signature_id,
            "gid": alert.gid,
            "rev": alert.rev,
            "signature": cut(&alert.signature),
            "category": cut(&alert.category),
            "severity": alert.severity,
        });
        for (name, text) in [("action", alert.action.as_deref()), ("app_proto", app_proto)] {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                value[name] = ascii(text.chars().take(32)).into();
            }
        }
        let text = value.to_string();
        if text.len() <= MAX_DATA || most == 0 {
            return text;
        }
        most /= 2;
    }
}

/// With everything that is not printable ASCII replaced.
fn ascii(text: impl Iterator<Item = char>) -> String {
    text.map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

/// Whole lines of what is read piece by piece.
#[derive(Debug, Default)]
pub struct Lines {
    half: Vec<u8>,
    /// The line that has begun is longer than any.
    skips: bool,
    /// Octets since the last line feed.
    open: u64,
    /// Lines that were too long.
    pub skipped: u64,
}

impl Lines {
    /// Gives `each` the lines that `piece` ends, without their line feeds.
    pub fn push(&mut self, piece: &[u8], mut each: impl FnMut(&[u8])) {
        for part in piece.split_inclusive(|octet| *octet == b'\n') {
            let (text, is_end) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            if self.half.len() + text.len() > LONGEST {
                (self.skips, self.half) = (true, Vec::new());
            }
            if !self.skips && is_end && self.half.is_empty() {
                each(text);
            } else if !self.skips {
                self.half.extend_from_slice(text);
                if is_end {
                    each(&self.half);
                }
            }
            if is_end {
                self.skipped += u64::from(std::mem::take(&mut self.skips));
                self.half.clear();
                self.open = 0;
            } else {
                self.open += part.len() as u64;
            }
        }
    }

    /// Octets of the line that has only begun.
    pub fn open(&self) -> u64 {
        self.open
    }

    /// Forgets the line that has only begun: what follows is another file.
    pub fn begin(&mut self) {
        self.half.clear();
        (self.skips, self.open) = (false, 0);
    }

    /// Leaves out what comes until the next line.
    pub fn begin_within(&mut self) {
        self.begin();
        self.skips = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::EventId;

    /// As Suricata 7 writes it, shortened by what is not read.
    const ALERT: &str = r#"{"timestamp":"2026-11-30T07:12:13.123456+0100","flow_id":1779,"in_iface":"hw-ids","event_type":"alert","src_ip":"192.0.2.9","src_port":40000,"dest_ip":"10.0.0.5","dest_port":80,"proto":"TCP","pkt_src":"wire/pcap","tx_id":0,"alert":{"action":"allowed","gid":1,"signature_id":9000001,"rev":2,"signature":"TEST passwd asked for","category":"Attempted Information Leak","severity":2},"http":{"hostname":"x\u001b[2J","url":"/etc/passwd"},"app_proto":"http","direction":"to_server","flow":{"pkts_toserver":4,"src_ip":"192.0.2.9","dest_ip":"10.0.0.5"}}"#;

    #[test]
    fn what_is_no_line_of_the_format_is_broken() {
        let other = ALERT.replace("\"event_type\":\"alert\"", "\"event_type\":\"flow\"");
        for fine in [ALERT, &other, "{\"event_type\":\"flow\"}", "", "\r"] {
            assert!(!is_broken(fine.as_bytes()) || fine == ALERT, "{fine}");
        }
        let zone = ALERT.replace("+0100", "somewhere");
        for broken in [&ALERT[..200], &ALERT[20..], "x", "{\"alert\" }", &zone] {
            assert!(alert(broken.as_bytes()).is_none() && is_broken(broken.as_bytes()), "{broken}");
        }
    }

    #[test]
    fn an_alert_is_read() {
        let seen = alert(ALERT.as_bytes()).unwrap();
        assert_eq!(seen.at.to_string(), "2026-11-30T06:12:13.123456Z");
        assert_eq!((seen.src, seen.proto), (("192.0.2.9".parse().unwrap(), 40_000), 6));
        assert_eq!(seen.dst, ("10.0.0.5".parse().unwrap(), 80));
        let data: serde_json::Value = serde_json::from_str(&seen.data).unwrap();
        let expected = json!({
            "sid": 9_000_001, "gid": 1, "rev": 2, "signature": "TEST passwd asked for",
            "category": "Attempted Information Leak", "severity": 2, "action": "allowed", "app_proto": "http",
        });
        assert_eq!(data, expected);
        assert_eq!(crate::record::details::complaint(EventId::IdsAlert, &data), None);
        let mut record = Record::bare(0, Utc::EPOCH, EventId::IdsAlert);
        record.data = Some(crate::record::base64_encode(seen.data.as_bytes()));
        let rule = Rule::of(&record).unwrap();
        assert_eq!((rule.sid, &*rule.signature, rule.severity), (9_000_001, "TEST passwd asked for", 2));
    }

    #[test]
    fn what_is_no_alert_is_none() {
        let icmp = ALERT.replace(r#""src_port":40000,"#, "").replace(r#""dest_port":80,"#, "").replace("TCP", "ICMP");
        let seen = alert(icmp.as_bytes()).unwrap();
        assert_eq!((seen.proto, seen.src.1, seen.dst.1), (1, 0, 0));
        assert_eq!(alert(ALERT.replace("\"event_type\":\"alert\"", "\"event_type\":\"flow\"").as_bytes()), None);
        for (from, to) in [
            ("192.0.2.9", "nowhere"),
            ("40000", "70000"),
            ("9000001", "-1"),
            ("+0100", "+1"),
            ("2026-11-30", "2026-13-30"),
            ("\"alert\":{", "\"alert\":7,\"x\":{"),
        ] {
            assert_eq!(alert(ALERT.replacen(from, to, 1).as_bytes()), None, "{to}");
        }
        assert_eq!(alert(&ALERT.as_bytes()[..200]), None);
        assert_eq!(alert(b"{\"alert\""), None);
        assert_eq!(time("2026-11-30T07:12:13.123456-0330").unwrap().to_string(), "2026-11-30T10:42:13.123456Z");
        assert_eq!(time("2026-11-30T07:12:13.123456Z").unwrap().to_string(), "2026-11-30T07:12:13.123456Z");
    }

    #[test]
    fn what_it_says_is_bounded_and_harmless() {
        let long = ALERT.replace("TEST passwd", &"\u{202e}\\u001b\\\"".repeat(5000));
        let seen = alert(long.as_bytes()).unwrap();
        assert!(seen.data.len() <= MAX_DATA && seen.data.is_ascii(), "{}", seen.data.len());
        let rule: Rule = serde_json::from_str(&seen.data).unwrap();
        assert!(rule.signature.starts_with("??\"??\"") && rule.signature.len() >= 100, "{rule:?}");
    }

    #[test]
    fn lines_come_whole_or_not_at_all() {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        let mut push = |lines: &mut Lines, piece: &[u8]| {
            lines.push(piece, |line| got.push(line.len()));
            std::mem::take(&mut got)
        };
        assert_eq!(push(&mut lines, b"a\nbc\nde"), [1, 2]);
        assert_eq!(lines.open(), 2);
        assert_eq!(push(&mut lines, b"f\n"), [3]);
        assert_eq!(lines.open(), 0);
        for _ in 0..40 {
            assert_eq!(push(&mut lines, &[b'x'; 100_000]), [0; 0]);
        }
        assert!(lines.half.capacity() <= 2 * LONGEST);
        assert_eq!((lines.open(), push(&mut lines, b"\nnext\n")), (4_000_000, vec![4]));
        assert_eq!(lines.skipped, 1);
        lines.begin_within();
        assert_eq!(push(&mut lines, b"half of a line\nwhole\n"), [5]);
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_none(line in ".*", cut in 0usize..600) {
            alert(line.as_bytes());
            alert(&ALERT.as_bytes()[..cut.min(ALERT.len())]);
        }

        #[test]
        fn lines_do_not_depend_on_pieces(text in "[ab\n]{0,80}", size in 1usize..20) {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            text.as_bytes().chunks(size).for_each(|piece| lines.push(piece, |line| got.push(line.to_vec())));
            let mut expected: Vec<Vec<u8>> = text.as_bytes().split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            let rest = expected.pop().unwrap_or_default();
            prop_assert_eq!(got, expected);
            prop_assert_eq!(lines.open(), rest.len() as u64);
        }
    }
}
