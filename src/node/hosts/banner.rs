//! What a container's service says first, with what gives it away replaced. Only where segments do not pass through yet,
//! and nothing that both ends vouch for: SSH signs the line that it was sent.

use regex::bytes::{Regex, RegexBuilder};

use crate::emulate::Template;
use crate::wire::{Duration, Instant};

/// Octets that are looked at.
const WINDOW: usize = 1024;
/// How long the rest of a line is waited for.
const REST: Duration = Duration::from_millis(100);
/// Octets that an expression may take, as the topology's check allows it.
const COMPILED: usize = 1 << 20;

/// The expressions of each template, by its index.
pub(super) struct Banners(Vec<Vec<(Regex, Vec<u8>)>>);

impl Banners {
    pub(super) fn new(templates: &[Template]) -> Banners {
        // One that is none was refused when the topology was read.
        let compile = |(pattern, becomes): &(String, String)| {
            let regex = RegexBuilder::new(pattern).size_limit(COMPILED).build().ok()?;
            Some((regex, becomes.clone().into_bytes()))
        };
        Banners(templates.iter().map(|t| t.normalize.banners.iter().filter_map(compile).collect()).collect())
    }

    /// The banner of a connection to a host of `template`, if anything of it is to be replaced.
    pub(super) fn of(&self, template: u16) -> Option<Box<Banner>> {
        let has = self.0.get(usize::from(template)).is_some_and(|list| !list.is_empty());
        has.then(|| Box::new(Banner { template, said: Vec::new(), since: None, done: false }))
    }
}

/// The first octets of one connection.
pub(super) struct Banner {
    template: u16,
    said: Vec<u8>,
    since: Option<Instant>,
    /// They are what they have to be, and only wait to be taken.
    done: bool,
}

impl Banner {
    /// Takes what the service says; returns how much.
    pub(super) fn take(&mut self, bytes: &[u8], now: Instant) -> usize {
        if self.done || bytes.is_empty() {
            return 0;
        }
        self.since.get_or_insert(now);
        let n = bytes.len().min(WINDOW - self.said.len());
        self.said.extend_from_slice(&bytes[..n]);
        n
    }

    /// What it becomes, once it is whole: a full window, a line's end, what comes before silence, or all that is said
    /// (`last`).
    pub(super) fn whole(&mut self, banners: &Banners, last: bool, now: Instant) -> Option<&mut Vec<u8>> {
        if !self.done {
            let waited = self.since.is_some_and(|since| now >= since + REST);
            if !(last || waited || self.said.len() >= WINDOW || self.said.ends_with(b"\n")) {
                return None;
            }
            self.done = true;
            for (regex, becomes) in banners.0.get(usize::from(self.template)).into_iter().flatten() {
                let replaced = regex.replace_all(&self.said, becomes.as_slice());
                if let std::borrow::Cow::Owned(mut replaced) = replaced {
                    // Each expression may make it longer.
                    replaced.truncate(4 * WINDOW);
                    self.said = replaced;
                }
            }
        }
        Some(&mut self.said)
    }

    /// When the rest of a line is waited for no longer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.filter(|_| !self.done).map(|since| since + REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulate::Normalize;

    fn banners(list: &[(&str, &str)]) -> Banners {
        let list = list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let mut template = super::super::tests::config().templates.remove(0);
        template.normalize = Normalize { banners: list, ..Normalize::default() };
        Banners::new(&[template])
    }

    #[test]
    fn a_line_is_replaced_when_it_is_whole() {
        let banners = banners(&[("(?i)vsFTPd ([0-9.]+)", "ProFTPD ${1}a")]);
        let mut banner = banners.of(0).unwrap();
        let now = Instant::from_secs(5);
        assert_eq!(banner.take(b"220 (vsFT", now), 9);
        assert!(banner.whole(&banners, false, now).is_none());
        assert_eq!(banner.take(b"Pd 3.0)\r\n", now), 9);
        assert_eq!(banner.whole(&banners, false, now).unwrap(), b"220 (ProFTPD 3.0a)\r\n");
        assert_eq!(banner.take(b"more", now), 0, "what follows goes its own way");
    }

    #[test]
    fn nobody_waits_for_a_line_without_an_end() {
        let banners = banners(&[("login", "Username")]);
        let mut banner = banners.of(0).unwrap();
        let now = Instant::from_secs(5);
        banner.take(b"login: ", now);
        assert!(banner.whole(&banners, false, now).is_none());
        let at = banner.deadline().unwrap();
        assert_eq!(banner.whole(&banners, false, at).unwrap(), b"Username: ");
        let mut banner = banners.of(0).unwrap();
        assert_eq!(banner.take(&[b'x'; 5000], now), WINDOW);
        assert_eq!(banner.whole(&banners, false, now).unwrap().len(), WINDOW);
        assert!(banners.of(7).is_none());
    }
}
