//! What a client shows of itself in its ClientHello (RFC 8446 §4.1.2), read from the octets that came: TLS
//! libraries do not pass the lists on, and the order of what stands in them tells who wrote the client.
//!
//! * JA3 (Salesforce, 2017): the MD5 of the lists in decimal
//! * JA4 (FoxIO, 2023): what a person can read, then SHA-256 of the sorted lists
//!
//! Both leave out the values of GREASE (RFC 8701), which clients draw anew each time.

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::event::EventId;
use crate::service::library::Json;
use crate::wire::hex;

/// Octets, record headers included, within which a ClientHello has to be whole. OpenSSL takes 128 KiB; those of
/// browsers with a post-quantum key share have two.
pub const MOST: usize = 8 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Largest fragment of a record (RFC 8446 §5.1).
const FRAGMENT: usize = 1 << 14;
/// Names of protocols that are told.
const MAX_ALPN: usize = 8;
/// Numbers of a list that are read: three times as many as any client sends.
const MOST_NUMBERS: usize = 256;

/// What the first octets of a connection are.
#[derive(PartialEq, Debug)]
pub enum First {
    /// The beginning of a ClientHello.
    Part,
    /// A whole one.
    Hello(Box<ClientHello>),
    /// Not TLS.
    Other,
    /// TLS, but nothing that a server goes on with.
    Broken,
}

/// What a ClientHello says, in its order and with GREASE left out.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct ClientHello {
    /// The field `legacy_version`.
    pub version: u16,
    /// Cipher suites.
    pub ciphers: Vec<u16>,
    /// Types of the extensions.
    pub extensions: Vec<u16>,
    /// Groups for the key exchange.
    pub groups: Vec<u16>,
    /// Formats of points.
    pub points: Vec<u8>,
    /// Signature algorithms.
    pub signatures: Vec<u16>,
    /// Versions of TLS, where they are an extension.
    pub versions: Vec<u16>,
    /// Protocols within TLS (RFC 7301).
    pub alpn: Vec<Vec<u8>>,
    /// The name of the server (RFC 6066 §3).
    pub sni: Option<Vec<u8>>,
}

/// A reader of lists with a length before them.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|octets| octets[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|octets| u16::from_be_bytes([octets[0], octets[1]]))
    }

    /// What follows a length of one octet.
    fn short(&mut self) -> Option<Reader<'a>> {
        let len = self.u8()?;
        self.take(usize::from(len)).map(Reader)
    }

    /// What follows a length of two octets.
    fn long(&mut self) -> Option<Reader<'a>> {
        let len = self.u16()?;
        self.take(usize::from(len)).map(Reader)
    }

    /// Numbers of two octets to the end, GREASE left out: as many as any client has of them, and no more.
    fn numbers(mut self) -> Vec<u16> {
        std::iter::from_fn(|| self.u16()).filter(|number| !is_grease(*number)).take(MOST_NUMBERS).collect()
    }
}

/// Whether clients send it only so that servers learn to skip what they do not know (RFC 8701 §2).
fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

/// Looks at what a connection began with.
pub fn first(bytes: &[u8]) -> First {
    // As OpenSSL tells: a record of a handshake, in some version 3.
    let Some(kind) = bytes.first() else { return First::Part };
    if *kind != HANDSHAKE || bytes.get(1).is_some_and(|major| *major != 3) {
        return First::Other;
    }
    let mut records = Reader(bytes);
    let mut fragments = [&bytes[..0]; 64];
    let (mut count, mut len) = (0, 0);
    loop {
        let header = records.take(5);
        let Some(&[kind, major, _, high, low]) = header else { return part(bytes) };
        let size = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || major != 3 || size == 0 || size > FRAGMENT || count == fragments.len() {
            return First::Broken;
        }
        let fragment = &records.0[..size.min(records.0.len())];
        fragments[count] = fragment;
        count += 1;
        len += fragment.len();
        let mut head = fragments[..count].iter().flat_map(|fragment| fragment.iter().copied());
        if let [Some(kind), Some(a), Some(b), Some(c)] = [head.next(), head.next(), head.next(), head.next()] {
            let whole = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
            if kind != CLIENT_HELLO || whole > MOST {
                return First::Broken;
            }
            if len >= whole {
                let hello = fragments[..count].concat();
                // Nothing may follow in its records (RFC 8446 §5.1).
                let parsed = hello.get(4..whole).filter(|_| len == whole).and_then(parse);
                return parsed.map_or(First::Broken, |hello| First::Hello(Box::new(hello)));
            }
        }
        if records.take(size).is_none() {
            return part(bytes);
        }
    }
}

fn part(bytes: &[u8]) -> First {
    if bytes.len() < MOST { First::Part } else { First::Broken }
}

fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    let mut hello = ClientHello { version: body.u16()?, ..ClientHello::default() };
    body.take(32)?;
    body.short()?;
    hello.ciphers = body.long()?.numbers();
    body.short()?;
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = body.long()?;
    while !extensions.0.is_empty() {
        let (kind, data) = (extensions.u16()?, extensions.long()?);
        if is_grease(kind) {
            continue;
        }
        if hello.extensions.len() < MOST_NUMBERS {
            hello.extensions.push(kind);
        }
        // An extension that cannot be read says nothing; whether the client is refused for it is not decided here.
        hello.extension(kind, data);
    }
    Some(hello)
}

impl ClientHello {
    fn extension(&mut self, kind: u16, mut data: Reader<'_>) -> Option<()> {
        match kind {
            0 => {
                let mut names = data.long()?;
                // `host_name` is the only type there is.
                if names.u8()? == 0 {
                    self.sni = Some(names.long()?.0.to_vec());
                }
            }
            10 => self.groups = data.long()?.numbers(),
            11 => self.points = data.short()?.0.to_vec(),
            13 => self.signatures = data.long()?.numbers(),
            16 => {
                let mut names = data.long()?;
                while let Some(name) = names.short()
                    && self.alpn.len() < MAX_ALPN
                {
                    self.alpn.push(name.0.to_vec());
                }
            }
            43 => self.versions = data.short()?.numbers(),
            _ => {}
        }
        Some(())
    }

    /// The fingerprint JA3.
    pub fn ja3(&self) -> String {
        let join = |numbers: &mut dyn Iterator<Item = u16>| {
            let text: Vec<String> = numbers.map(|number| number.to_string()).collect();
            text.join("-")
        };
        let text = format!(
            "{},{},{},{},{}",
            self.version,
            join(&mut self.ciphers.iter().copied()),
            join(&mut self.extensions.iter().copied()),
            join(&mut self.groups.iter().copied()),
            join(&mut self.points.iter().map(|point| u16::from(*point)))
        );
        hex(&Md5::digest(text))
    }

    /// The fingerprint JA4.
    pub fn ja4(&self) -> String {
        let version = match self.versions.iter().max().unwrap_or(&self.version) {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            _ => "00",
        };
        let sni = if self.extensions.contains(&0) { 'd' } else { 'i' };
        let (ciphers, extensions) = (self.ciphers.len().min(99), self.extensions.len().min(99));
        let mut sorted = self.ciphers.clone();
        sorted.sort_unstable();
        // Server name and ALPN are left out: they depend on whom the client addresses.
        let mut rest: Vec<u16> = self.extensions.iter().copied().filter(|kind| !matches!(kind, 0 | 16)).collect();
        rest.sort_unstable();
        let mut second = words(&rest);
        if !self.signatures.is_empty() {
            second = second + "_" + &words(&self.signatures);
        }
        let (first, second) = (digest(&sorted, &words(&sorted)), digest(&rest, &second));
        format!("t{version}{sni}{ciphers:02}{extensions:02}{}_{first}_{second}", self.ja4_alpn())
    }

    /// First and last character of the first protocol.
    fn ja4_alpn(&self) -> String {
        let Some([first, .., last] | [first @ last]) = self.alpn.first().map(Vec::as_slice) else {
            return "00".to_owned();
        };
        if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
            return format!("{}{}", char::from(*first), char::from(*last));
        }
        format!("{:x}{:x}", first >> 4, last & 15)
    }

    /// Tells what it shows, as a JSON object of printable ASCII.
    pub fn write(&self, tell: &mut dyn FnMut(EventId, &[u8])) {
        let mut json = Json::default();
        json.put(b"{");
        if let Some(sni) = &self.sni {
            json.member("sni", sni, 300);
            json.put(b",");
        }
        if !self.alpn.is_empty() {
            json.put(b"\"alpn\":[");
            for (at, name) in self.alpn.iter().enumerate() {
                json.put(if at > 0 { b"," } else { b"" });
                json.string(name, 40);
            }
            json.put(b"],");
        }
        json.member("ja3", self.ja3().as_bytes(), 64);
        json.put(b",");
        json.member("ja4", self.ja4().as_bytes(), 64);
        json.put(b"}");
        tell(EventId::TlsHello, json.text());
    }
}

fn words(numbers: &[u16]) -> String {
    let text: Vec<String> = numbers.iter().map(|number| format!("{number:04x}")).collect();
    text.join(",")
}

/// The first twelve digits of a list's SHA-256; zeros if it has nothing.
fn digest(list: &[u16], text: &str) -> String {
    if list.is_empty() { "0".repeat(12) } else { hex(&Sha256::digest(text)[..6]) }
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
