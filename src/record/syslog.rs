//! What programs in a container say to its log, as events.
//!
//! Anybody inside can say anything there, in any amount: what is in a message is what somebody has said, in whichever form
//! (RFC 3164 at best). It has a budget as all that is told of a container, and is written out as all that attackers sent.
//! Where a message tells of a log-in, the end of it that its server has written counts, as a name may look like all the rest.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::inside::{Bucket, about, shown, untold};
use super::tape::fitted;
use crate::container::Lessee;
use crate::event::{EventId, Party, Said};

/// Octets of a message that are read: more than a C library or an SSH server writes.
pub const LONGEST: usize = 8192;
/// Octets of the name of who says something.
const TAG: usize = 64;
const SECOND: i64 = 1_000_000;

/// What a message without a priority has: user, notice.
const DEFAULT: usize = 13;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// One message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// What kind of program says it.
    pub facility: &'static str,
    /// How grave it is.
    pub severity: &'static str,
    /// Who says it, by its own words; may be empty.
    pub tag: &'a [u8],
    /// The number of its process, by its own words.
    pub pid: Option<u32>,
    /// What it says.
    pub text: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a message. Whatever is in none of the usual forms is text.
    pub fn parse(octets: &'a [u8]) -> Message<'a> {
        let end = octets.iter().rposition(|octet| !matches!(octet, 0 | b'\n')).map_or(0, |last| last + 1);
        let octets = octets.get(..end).unwrap_or_default();
        let (priority, rest) = priority(octets).unwrap_or((DEFAULT, octets));
        let rest = without_time(rest);
        let (tag, pid, text) = tag(rest).unwrap_or((b"", None, rest));
        Message {
            facility: FACILITIES.get(priority >> 3).copied().unwrap_or("user"),
            severity: SEVERITIES.get(priority & 7).copied().unwrap_or("notice"),
            tag,
            pid,
            text,
        }
    }
}

fn priority(octets: &[u8]) -> Option<(usize, &[u8])> {
    let rest = octets.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|octet| *octet == b'>')?;
    let priority = number(rest.get(..end)?)?;
    (priority < 192).then_some((priority as usize, rest.get(end + 1..)?))
}

/// Without a time like `Nov  3 07:15:00 `, which the container's clock and its programs decide.
fn without_time(octets: &[u8]) -> &[u8] {
    const FORM: &[u8; 16] = b"Mmm dd hh:mm:ss ";
    let Some((time, rest)) = octets.split_at_checked(FORM.len()) else { return octets };
    let fits = |(octet, form): (&u8, &u8)| match form {
        b'M' | b'm' if *form == b'M' || octet.is_ascii_lowercase() => true,
        b'd' | b'h' | b'm' | b's' => octet.is_ascii_digit() || *octet == b' ',
        form => octet == form,
    };
    let is_month = time.get(..3).is_some_and(|month| MONTHS.contains(&month));
    if is_month && time.iter().zip(FORM).skip(3).all(fits) { rest } else { octets }
}

/// Who says what: `tag[pid]: text` or `tag: text`. A program that has not said what it is called has an empty tag
/// (of musl's `syslog` such a message begins with `: `).
fn tag(octets: &[u8]) -> Option<(&[u8], Option<u32>, &[u8])> {
    let is_name = |octet: &u8| octet.is_ascii_graphic() && !matches!(octet, b'[' | b':');
    let len = octets.iter().take(TAG + 1).take_while(|octet| is_name(octet)).count();
    let (tag, rest) = octets.split_at_checked(len).filter(|_| len <= TAG)?;
    let (pid, rest) = match rest.strip_prefix(b"[") {
        Some(rest) => {
            let end = rest.iter().take(12).position(|octet| *octet == b']')?;
            (number(rest.get(..end)?), rest.get(end + 1..)?)
        }
        None => (None, rest),
    };
    let text = rest.strip_prefix(b":")?;
    Some((tag, pid, text.strip_prefix(b" ").unwrap_or(text)))
}

fn number(digits: &[u8]) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// An attempt to log in, or to become somebody else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Login<'a> {
    /// Who was asked.
    pub program: &'static str,
    /// Who somebody wanted to be, if that is said.
    pub user: Option<&'a [u8]>,
    /// Who that was before, inside.
    pub by: Option<&'a [u8]>,
    /// Where from.
    pub from: Option<(IpAddr, Option<u16>)>,
    /// Whether it was let in.
    pub accepted: bool,
    /// What it was to be proven by.
    pub method: Option<&'a [u8]>,
}

impl<'a> Login<'a> {
    /// The attempt that `message` tells of, if it is one of a program that is known.
    pub fn of(message: &Message<'a>) -> Option<Login<'a>> {
        let name = message.tag.rsplit(|octet| *octet == b'/').next().unwrap_or_default();
        match name {
            b"sshd" | b"sshd-session" | b"sshd-auth" => openssh(message.text),
            b"dropbear" => dropbear(message.text),
            b"su" => su(message.text),
            b"sudo" => sudo(message.text),
            b"login" => login(message.text),
            _ => None,
        }
    }
}

fn openssh(text: &[u8]) -> Option<Login<'_>> {
    let (accepted, rest) = either(text, b"Accepted ", b"Failed ")?;
    let (method, rest) = split(rest, b" for ")?;
    let is_method = |octet: &u8| octet.is_ascii_lowercase() || matches!(octet, b'-' | b'/');
    // A client that only asks which ways there are is refused, too.
    let only_asks = method == b"none" && !accepted;
    if only_asks || method.is_empty() || method.len() > 40 || !method.iter().all(is_method) {
        return None;
    }
    let (user, end) = last_split(rest, b" from ")?;
    let (ip, end) = split(end, b" port ")?;
    let digits = end.iter().take_while(|octet| octet.is_ascii_digit()).count();
    Some(Login {
        program: "sshd",
        user: Some(user.strip_prefix(b"invalid user ").filter(|_| !accepted).unwrap_or(user)),
        by: None,
        from: Some((address(ip)?, Some(port(end.get(..digits)?)?))),
        accepted,
        method: Some(method),
    })
}

fn dropbear(text: &[u8]) -> Option<Login<'_>> {
    let (text, end) = last_split(text, b" from ")?;
    let (ip, number) = last_split(end, b":")?;
    let from = Some((address(ip)?, Some(port(number)?)));
    let told = |user, accepted, method| Login { program: "dropbear", user, by: None, from, accepted, method };
    for (words, accepted) in [(&b"assword auth succeeded for '"[..], true), (b"assword attempt for '", false)] {
        let begin = [&b"P"[..], b"Bad p", b"PAM p", b"Bad PAM p"];
        let rest = begin.iter().find_map(|begin| text.strip_prefix(*begin)?.strip_prefix(words));
        if let Some(user) = rest {
            return Some(told(user.strip_suffix(b"'"), accepted, Some(b"password")));
        }
    }
    if let Some(rest) = text.strip_prefix(b"Pubkey auth succeeded for '") {
        return Some(told(Some(last_split(rest, b"' with ")?.0), true, Some(b"publickey")));
    }
    // It does not say whom.
    text.starts_with(b"Login attempt for nonexistent user").then(|| told(None, false, None))
}

fn su(text: &[u8]) -> Option<Login<'_>> {
    let told = |user, by, accepted| {
        Some(Login { program: "su", user: Some(user), by: Some(by), from: None, accepted, method: None })
    };
    // shadow, util-linux, busybox.
    if let Some((accepted, rest)) = either(text, b"Successful su for ", b"FAILED su for ") {
        let (user, by) = split(rest, b" by ")?;
        return told(user, by, accepted);
    }
    if let Some((refused, rest)) = either(text, b"FAILED SU (to ", b"(to ") {
        let (user, rest) = split(rest, b") ")?;
        return told(user, last_split(rest, b" on ")?.0, !refused);
    }
    let (accepted, rest) = either(text, b"+ ", b"- ")?;
    let (_, who) = split(rest, b" ")?;
    let (by, user) = split(who, b":")?;
    told(user, by, accepted)
}

fn sudo(text: &[u8]) -> Option<Login<'_>> {
    let (by, rest) = split(text.trim_ascii_start(), b" : ")?;
    // Whom nobody knows has no command, and any name.
    let is_known = !rest.starts_with(b"unknown user ");
    // What comes after that is whoever asks to decide.
    let facts = if is_known { split(rest, b"COMMAND=")?.0 } else { rest };
    let (_, user) = last_split(facts, b"USER=")?;
    let accepted = facts.starts_with(b"TTY=") || facts.starts_with(b"PWD=") || facts.starts_with(b"HOST=");
    let user = user.strip_suffix(b" ; ").unwrap_or(user);
    let user = split(user, b" ; ").map_or(user, |(user, _)| user);
    Some(Login { program: "sudo", user: Some(user), by: Some(by.trim_ascii()), from: None, accepted, method: None })
}

/// That of shadow, util-linux and busybox. A Telnet server tells it by `-h` where the client is; by a name or not at all, some do.
fn login(text: &[u8]) -> Option<Login<'_>> {
    let told = |user, accepted, place: &[u8]| {
        let from = last_split(place, b" from ").or_else(|| last_split(place, b" FROM "));
        let from = from.and_then(|(_, host)| address(unquoted(host))).map(|ip| (ip, None));
        Some(Login { program: "login", user: Some(user), by: None, from, accepted, method: None })
    };
    if let Some(rest) = text.strip_prefix(b"FAILED LOGIN") {
        let (place, rest) = split(rest, b" FOR ")?;
        let user = last_split(rest, b", ").map_or(rest, |(user, _)| user);
        return told(unquoted(user), false, place);
    }
    if let Some(rest) = text.strip_prefix(b"invalid password for ") {
        let (user, place) = last_split(rest, b" on ").unwrap_or((rest, b""));
        return told(unquoted(user), false, place);
    }
    // All that shadow's says of who is let in and is not root: root's is told in its own words, too.
    if let Some(rest) = text.strip_prefix(b"pam_unix(login:session): session opened for user ") {
        let (user, _) = last_split(rest, b" by ")?;
        let user = last_split(user, b"(uid=").map_or(user, |(user, _)| user);
        return (user != b"root").then(|| told(user, true, b"")).flatten();
    }
    if let Some(place) = text.strip_prefix(b"ROOT LOGIN").or_else(|| text.strip_prefix(b"root login")) {
        return told(b"root", true, place);
    }
    let (_, rest) = split(text.strip_prefix(b"LOGIN ON ")?, b" BY ")?;
    let (user, _) = split(rest, b" ").unwrap_or((rest, b""));
    told(user, true, rest)
}

fn unquoted(text: &[u8]) -> &[u8] {
    let inner = text.strip_prefix(b"'").and_then(|text| text.strip_suffix(b"'"));
    inner.or_else(|| text.strip_prefix(b"`")?.strip_suffix(b"'")).unwrap_or(text)
}

fn address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn port(text: &[u8]) -> Option<u16> {
    number(text)?.try_into().ok()
}

/// What follows one of two beginnings, and whether it is the first one.
fn either<'a>(text: &'a [u8], yes: &[u8], no: &[u8]) -> Option<(bool, &'a [u8])> {
    let with = |begin: &[u8], is| text.strip_prefix(begin).map(|rest| (is, rest));
    with(yes, true).or_else(|| with(no, false))
}

fn split<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let begin = text.windows(at.len()).position(|part| part == at)?;
    Some((text.get(..begin)?, text.get(begin + at.len()..)?))
}

fn last_split<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let begin = text.windows(at.len()).rposition(|part| part == at)?;
    Some((text.get(..begin)?, text.get(begin + at.len()..)?))
}

/// Makes events of what is said to the log of one container.
#[derive(Debug)]
pub struct Telling {
    left: Bucket,
    /// What was not told, whose it was, and since when.
    untold: Option<(u64, Lessee, i64)>,
}

impl Telling {
    /// Nothing was said before `now`.
    pub fn new(now: i64) -> Telling {
        Telling { left: Bucket::new(now), untold: None }
    }

    /// The event of what was said in a container of `of`, unless there is too much.
    pub fn tell(&mut self, octets: &[u8], of: &Lessee, now: i64) -> Option<Said> {
        if !self.left.take(now) {
            self.untold.get_or_insert((0, *of, now)).0 += 1;
            return None;
        }
        let message = Message::parse(octets);
        let mut object: Map<String, Value> = Map::new();
        let mut say = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
        say("facility", message.facility.into());
        say("severity", message.severity.into());
        if !message.tag.is_empty() {
            say("tag", shown(message.tag));
        }
        if let Some(pid) = message.pid {
            say("pid", pid.into());
        }
        say("text", shown(message.text));
        let login = Login::of(&message);
        let id = if login.is_some() { EventId::ContainerLogin } else { EventId::ContainerLog };
        let mut event = about(id, now, of);
        if let Some(login) = login {
            say("program", login.program.into());
            say("accepted", login.accepted.into());
            for (key, told) in [("user", login.user), ("by", login.by), ("method", login.method)] {
                if let Some(told) = told {
                    say(key, shown(told));
                }
            }
            if let Some((ip, port)) = login.from {
                say("from", ip.to_string().into());
                if let Some(port) = port {
                    say("port", port.into());
                }
                event.src = Party { ip: ip.into(), l4_port: port.unwrap_or(0), ..Party::default() };
            }
        }
        Some(Said { event, data: fitted(object) })
    }

    /// The event about what was not told, once a second.
    pub fn untold(&mut self, now: i64) -> Option<Said> {
        let (count, of, since) = self.untold.filter(|(_, _, since)| now - since >= SECOND)?;
        self.untold = None;
        Some(untold(count, &of, since))
    }

    /// Whether there may be something of that kind to tell.
    pub fn has_untold(&self) -> bool {
        self.untold.is_some()
    }
}

#[cfg(test)]
#[path = "syslog_tests.rs"]
mod tests;
