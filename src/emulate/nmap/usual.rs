//! How usual a host is that shows a record.
//!
//! nmap has many records of one name, some of them taken on a loopback interface, through a tunnel or behind a
//! firewall that terminates connections. Passive fingerprinting (p0f) knows the SYN/ACKs of a system as it sends them
//! by Ethernet, with the TTL that it begins with; of records that nmap takes alike, that one is believed by others, too.

use super::super::fingerprint::Opt;
use super::super::personality::{Builtin, IpIdClass};
use super::db::{Db, Record};
use super::schema::{self, Key};
use super::{expr, options};

/// TTLs that systems begin with, the most frequent ones first.
pub(super) const TTLS: [u16; 4] = [64, 128, 255, 32];

/// Built-in personalities of a family, by words of its systems' names in lower case.
const FAMILIES: [(&[&str], &[Builtin]); 6] = [
    (&["windows"], &[Builtin::Windows7, Builtin::Windows, Builtin::WindowsXp]),
    (&["linux", "android"], &[Builtin::Linux, Builtin::Linux26, Builtin::Android]),
    (&["freebsd"], &[Builtin::FreeBsd]),
    (&["openbsd"], &[Builtin::OpenBsd]),
    (&["mac os x", "macos"], &[Builtin::MacOs]),
    (&["cisco"], &[Builtin::CiscoIos]),
];

/// Options without their values, as the built-in personalities have them.
fn shape(option: &Opt) -> Opt {
    match *option {
        Opt::Mss(_) => Opt::Mss(0),
        Opt::Scale(_) => Opt::Scale(0),
        other => other,
    }
}

/// In how many respects the SYN/ACK of a record is one of its family by Ethernet. More is better.
pub(super) fn likeness(db: &Db, record: &Record) -> usize {
    let name = record.name.to_lowercase();
    let family = FAMILIES.iter().find(|(words, _)| words.iter().any(|word| name.contains(word)));
    let expression = |slot| db.expression(record, slot);
    let t1 = |key| expression(schema::tcp(1, key));
    let accepts = |expression: Option<&str>, value: &str| expression.is_some_and(|e| expr::accepts(e, value));
    let number = |value: u16| format!("{value:X}");
    let sent =
        expression(schema::ops(0)).and_then(|e| expr::candidates(e).first().and_then(|text| options::parse(text)));
    let sent = sent.unwrap_or_default();
    let ethernet = usize::from(sent.contains(&Opt::Mss(1460)));
    let like = |builtin: &Builtin| {
        let known = builtin.get();
        let window = number(known.syn_ack_window);
        let zero = known.syn_ack_ip_id == IpIdClass::Zero;
        [
            accepts(t1(Key::T), &number(known.ttl.into())),
            accepts(t1(Key::Df), if known.tcp_df { "Y" } else { "N" }),
            sent.iter().map(shape).eq(known.syn_ack_options.full.iter().copied()),
            sent.contains(&Opt::Scale(known.window_scale)),
            accepts(expression(schema::win(0)), &window),
            accepts(expression(schema::TI), "Z") == zero,
        ]
        .into_iter()
        .filter(|same| *same)
        .count()
    };
    let usual_ttl = usize::from(TTLS.iter().any(|ttl| accepts(t1(Key::T), &number(*ttl))));
    // What was taken by something else than Ethernet has its windows and options from there.
    let known = family.and_then(|(_, builtin)| builtin.iter().map(like).max()).unwrap_or(usual_ttl);
    known + 4 * ethernet
}
