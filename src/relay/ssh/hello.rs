//! How a client introduces itself: its first line (RFC 4253 §4.2) and its KEXINIT (§7.1), read as they pass by.
//!
//! The SSH library keeps neither, and what it does not understand it does not tell.

use md5::{Digest, Md5};

use crate::relay::tape::{Entry, Text};
use crate::wire::hex;

/// Most that is kept of the start: a first line of 255 octets, and a KEXINIT, which is 1.5 KB from OpenSSH and may be 35,000 (§6.1).
const MOST: usize = 36 * 1024;
/// Longest first line of OpenSSH's.
const LINE: usize = 8192;
const KEXINIT: u8 = 20;

/// What has been seen of a client's start.
#[derive(Default)]
pub(super) struct Seen {
    start: Vec<u8>,
    done: bool,
}

impl Seen {
    pub(super) fn look(&mut self, octets: &[u8]) {
        if !self.done {
            let room = MOST - self.start.len();
            self.start.extend_from_slice(octets.get(..room).unwrap_or(octets));
            self.done = self.start.len() >= MOST || kexinit(&self.start).is_some();
        }
    }

    /// The introduction, as far as there is one. What it was read from is forgotten.
    pub(super) fn take(&mut self) -> Entry {
        self.done = true;
        introduction(&std::mem::take(&mut self.start))
    }
}

/// What OpenSSH says to somebody who begins with `line`: nothing to who speaks SSH; none as long as that is not certain.
pub(super) fn complaint(line: &[u8]) -> Option<Option<&'static str>> {
    const INVALID: Option<Option<&str>> = Some(Some("Invalid SSH identification string.\r\n"));
    let end = line.iter().position(|octet| *octet == b'\n');
    let line = line.get(..end.unwrap_or(line.len())).unwrap_or_default();
    // A carriage return is followed by the end.
    let text = line.split(|octet| *octet == b'\r').next().unwrap_or_default();
    let is_split = line.get(text.len()..).is_some_and(|rest| rest.iter().any(|octet| *octet != b'\r'));
    if is_split || text.contains(&0) || text.len() > LINE {
        return INVALID;
    }
    end?;
    let Some((major, minor)) = version(text) else { return INVALID };
    let is_ours = major == 2 || (major, minor) == (1, 99);
    Some((!is_ours).then_some("Protocol major versions differ.\r\n"))
}

/// The protocol's version of an identification, `SSH-2.0-…`.
fn version(line: &[u8]) -> Option<(u32, u32)> {
    let (version, software) =
        std::str::from_utf8(line.get(4..).filter(|_| line.starts_with(b"SSH-"))?).ok()?.split_once('-')?;
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?)).filter(|_| !software.is_empty())
}

/// The first line without its end, and what follows it.
fn first_line(start: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = start.iter().position(|octet| *octet == b'\n')?;
    let line = &start[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), &start[end + 1..]))
}

/// The payload of a KEXINIT from its name-lists on, if that is what follows the first line, and all of it is there.
fn kexinit(start: &[u8]) -> Option<&[u8]> {
    let (_, packet) = first_line(start)?;
    let (length, rest) = packet.split_first_chunk()?;
    let body = rest.get(..u32::from_be_bytes(*length) as usize)?;
    let (padding, payload) = body.split_first()?;
    let payload = payload.get(..payload.len().checked_sub(usize::from(*padding))?)?;
    let (kind, rest) = payload.split_first()?;
    // A cookie of 16 octets first.
    (*kind == KEXINIT).then(|| rest.get(16..)).flatten()
}

/// The first `N` name-lists (RFC 4251 §5).
fn lists<const N: usize>(mut from: &[u8]) -> Option<[&[u8]; N]> {
    let mut lists = [&[][..]; N];
    for list in &mut lists {
        let (length, rest) = from.split_first_chunk()?;
        (*list, from) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    }
    Some(lists)
}

fn introduction(start: &[u8]) -> Entry {
    let banner = Text::new(first_line(start).map_or(start, |(line, _)| line));
    // Key exchange, host keys, then ciphers, MACs, compression and languages, each toward the server and back.
    let Some([kex, keys, ciphers, _, macs, _, compression, _, languages, _]) = kexinit(start).and_then(lists) else {
        let none = Text::default;
        return Entry::Hello {
            banner,
            kex: none(),
            keys: none(),
            ciphers: none(),
            macs: none(),
            compression: none(),
            languages: none(),
            hassh: String::new(),
        };
    };
    let digest = Md5::digest([kex, ciphers, macs, compression].join(&b';'));
    Entry::Hello {
        banner,
        kex: Text::new(kex),
        keys: Text::new(keys),
        ciphers: Text::new(ciphers),
        macs: Text::new(macs),
        compression: Text::new(compression),
        languages: Text::new(languages),
        hassh: hex(&digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(lists: &[&str]) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend([7; 16]);
        for list in lists {
            payload.extend((list.len() as u32).to_be_bytes());
            payload.extend(list.as_bytes());
        }
        payload.extend([0; 5]);
        let mut start = b"SSH-2.0-libssh2_1.4.3\r\n".to_vec();
        start.extend((payload.len() as u32 + 1 + 4).to_be_bytes());
        start.push(4);
        start.extend(payload);
        start.extend([0; 4]);
        start
    }

    const LISTS: [&str; 10] = [
        "diffie-hellman-group14-sha1,diffie-hellman-group-exchange-sha1,diffie-hellman-group1-sha1",
        "ssh-rsa,ssh-dss",
        "aes128-ctr,aes192-ctr,aes256-ctr,aes256-cbc,rijndael-cbc@lysator.liu.se,aes192-cbc,aes128-cbc,blowfish-cbc,arcfour128,arcfour,cast128-cbc,3des-cbc",
        "aes128-ctr",
        "hmac-sha1,hmac-sha1-96,hmac-md5,hmac-md5-96,hmac-ripemd160,hmac-ripemd160@openssh.com",
        "hmac-sha1",
        "none",
        "none",
        "",
        "",
    ];

    /// The fingerprint that Salesforce's and others' lists have for this client, which much malware is linked with.
    #[test]
    fn the_hassh_of_libssh2_is_the_known_one() {
        let mut seen = Seen::default();
        for piece in start(&LISTS).chunks(64) {
            seen.look(piece);
        }
        let Entry::Hello { banner, kex, ciphers, hassh, .. } = seen.take() else { panic!() };
        assert_eq!(banner, "SSH-2.0-libssh2_1.4.3");
        assert!(kex.as_str().starts_with("diffie-hellman-group14-sha1,") && ciphers.as_str().ends_with(",3des-cbc"));
        assert_eq!(hassh, "92674389fa1e47a27ddd8d9b63ecd42b");
    }

    #[test]
    fn whatever_comes_instead_is_shown() {
        for (sent, shown) in [
            (&b"GET / HTTP/1.1\r\nHost: x\r\n"[..], "GET / HTTP/1.1"),
            (b"\x16\x03\x01\x02\x00", "\\x16\\x03\\x01\\x02\\x00"),
            (b"", ""),
            (b"SSH-2.0-x\n\xff\xff\xff\xff\xff\x14", "SSH-2.0-x"),
        ] {
            let mut seen = Seen::default();
            for octet in sent {
                seen.look(&[*octet]);
            }
            let Entry::Hello { banner, hassh, .. } = seen.take() else { panic!() };
            assert_eq!((banner.as_str(), hassh.as_str()), (shown, ""));
        }
        let mut seen = Seen::default();
        for _ in 0..100 {
            seen.look(&[b'x'; 1000]);
        }
        assert_eq!(seen.start.len(), MOST);
    }

    #[test]
    fn who_speaks_something_else_is_told_so() {
        let (fine, invalid) = (Some(None), Some(Some("Invalid SSH identification string.\r\n")));
        let other = Some(Some("Protocol major versions differ.\r\n"));
        for (line, expected) in [
            (&b""[..], None),
            (b"GET / HTTP/1.0", None),
            (b"GET / HTTP/1.0\r", None),
            (b"GET / HTTP/1.0\r\n", invalid),
            (b"\x16\x03\x01\x02\x00", invalid),
            (b"a\rb", invalid),
            (b"\n", invalid),
            (&[b'x'; LINE], None),
            (&[b'x'; LINE + 1], invalid),
            (b"SSH-2.0-x\r\n\0\0", fine),
            (b"SSH-1.99-x\n", fine),
            (b"SSH-2.0-\n", invalid),
            (b"SSH-2\n", invalid),
            (b"SSH-1.5-x\n", other),
            (b"SSH-3.0-x\n", other),
        ] {
            assert_eq!(complaint(line), expected, "{:?}", Text::new(line));
        }
    }
}
