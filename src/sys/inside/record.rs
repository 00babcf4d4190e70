//! What the programs tell, as it lies in the ring: a head of fixed size and up to two strings.
//!
//! ```text
//!   0  u64 cgroup of the container
//!   8  u64 nanoseconds, monotonic
//!  16  u32 kind
//!  20  u32 user, as the machine has it
//!  24  u32 process, as the machine has it
//!  28  u32 the same, as the container has it
//!  32  u32 its parent, as the container has it
//!  36  u32 number of arguments; descriptor (`fchmod`); u16 address family, u16 protocol
//!  40  16 octets: name of the process
//!  56  u16 family, u16 port, …, 16 octets address: the connection that it descends from
//!  60  u32 mode of the file that the call has made, with its kind, or 0; what is taken away from the mode (`mkdir`, `mknod`)
//!  80  u64 flags, mode, or state at the end; u16 port, u16 port of the other end; u32 mode, u32 device (`mknod`);
//!      u32 family, u32 protocol (`socket`)
//!  88  u64 result of the call
//!  96  u32 octets of the first string
//! 100  u32 octets of the second
//! 104  the strings; behind them, if a path is relative to a directory that is known, the names of that, innermost first,
//!      each with a zero octet behind it, and one more such octet
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::program::ENDED;

/// Octets of a record without its strings.
pub const HEAD: usize = 104;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// A program was begun: its path, and the arguments, each with a zero octet behind it.
    Execute = 1,
    /// A process that was one of these is over.
    Exit = 2,
    /// A file was opened for more than reading.
    Open = 3,
    /// The same, by a call that has its flags in memory.
    OpenHow = 4,
    /// The same, by a call whose flags are implied.
    Create = 5,
    /// A name was removed.
    Delete = 6,
    /// A name became another.
    Rename = 7,
    /// A file got another name.
    Link = 8,
    /// A symbolic link was made: what it says, and its name.
    Symlink = 9,
    /// A file was made executable.
    Mode = 10,
    /// It was cut or made longer.
    Truncate = 11,
    /// A TCP connection was begun.
    Connect = 12,
    /// A TCP port was opened.
    Listen = 13,
    /// A directory was made.
    Directory = 14,
    /// A device was made, a pipe, or whatever else has a name.
    Node = 15,
    /// A port was opened for datagrams.
    Bind = 16,
    /// A socket was made that sees more than what is sent to it.
    Raw = 17,
}

impl Kind {
    const ALL: [Kind; 17] = [
        Kind::Execute,
        Kind::Exit,
        Kind::Open,
        Kind::OpenHow,
        Kind::Create,
        Kind::Delete,
        Kind::Rename,
        Kind::Link,
        Kind::Symlink,
        Kind::Mode,
        Kind::Truncate,
        Kind::Connect,
        Kind::Listen,
        Kind::Directory,
        Kind::Node,
        Kind::Bind,
        Kind::Raw,
    ];
}

/// One record. All of it but the numbers may be an attacker's choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Happened<'a> {
    /// The container's cgroup.
    pub cgroup: u64,
    /// When, on the machine's monotonic clock, in microseconds.
    pub at: i64,
    /// What.
    pub kind: Kind,
    /// The user, as the machine has it.
    pub uid: u32,
    /// The process, as the machine has it.
    pub process: u32,
    /// The same inside; 0 if it is in a namespace of its own there.
    pub pid: u32,
    /// Its parent inside; 0 if that began before anybody watched.
    pub parent: u32,
    /// How many arguments the program has, whatever is kept of them; a descriptor, [`u32::MAX`] for none.
    pub number: u32,
    /// The name of the process.
    pub name: &'a [u8],
    /// The connection that it descends from: the end that is not the container's.
    pub origin: Option<SocketAddr>,
    /// The mode of the file that the call has made, with its kind; 0 if it has made none. What is taken away from the mode.
    pub made: u32,
    /// Flags of an open file, the mode that a file got.
    pub flags: u64,
    /// The call's result.
    pub result: u64,
    /// A path, without the zero octet at its end.
    pub path: &'a [u8],
    /// Whether there was more of it.
    pub is_cut: bool,
    /// Arguments, or another path.
    pub rest: &'a [u8],
    /// What is told of the directory that paths are relative to.
    pub names: &'a [u8],
}

impl<'a> Happened<'a> {
    /// Reads what a program wrote.
    pub fn parse(record: &'a [u8]) -> Option<Happened<'a>> {
        let u16_at = |at: usize| Some(u16::from_ne_bytes(record.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?));
        let number = u32_at(16)?;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u32 == number)?;
        let (first, second) = (u32_at(96)? as usize, u32_at(100)? as usize);
        let strings = record.get(HEAD..)?;
        let path = strings.get(..first)?;
        let rest = strings.get(first..first.checked_add(second)?)?;
        let names = strings.get(first.checked_add(second)?..)?;
        let name = record.get(40..56)?;
        let is_text = !matches!(kind, Kind::Connect | Kind::Listen | Kind::Bind);
        Some(Happened {
            cgroup: u64_at(0)?,
            at: i64::try_from(u64_at(8)? / 1000).ok()?,
            kind,
            uid: u32_at(20)?,
            process: u32_at(24)?,
            pid: u32_at(28)?,
            parent: u32_at(32)?,
            number: u32_at(36)?,
            name: name.split(|octet| *octet == 0).next().unwrap_or_default(),
            origin: address(u16_at(56)?, u16::from_be(u16_at(58)?), record.get(64..80)?),
            made: u32_at(60)?,
            flags: u64_at(80)?,
            result: u64_at(88)?,
            path: if is_text { path.strip_suffix(&[0]).unwrap_or(path) } else { path },
            is_cut: is_text && path.len() >= super::program::PATH as usize,
            rest,
            names,
        })
    }

    /// The directory that paths are relative to, in the container's own tree, if one of them is and it is known.
    pub fn directory(&self) -> Option<Vec<u8>> {
        let names = self.names.strip_suffix(&[0]).filter(|names| names.is_empty() || names.ends_with(&[0]))?;
        let mut directory = Vec::new();
        for name in names.split(|octet| *octet == 0).rev().filter(|name| !name.is_empty()) {
            directory.push(b'/');
            directory.extend_from_slice(name);
        }
        Some(if directory.is_empty() { vec![b'/'] } else { directory })
    }

    /// The code with which a process has ended, if it ended by itself.
    pub fn code(&self) -> Option<u8> {
        let state = self.flags as u32;
        (self.kind == Kind::Exit && state & ENDED as u32 != 0).then_some(state as u8)
    }

    /// The other end of a connection that was begun, or the end that waits.
    pub fn end(&self) -> Option<SocketAddr> {
        let (own, other) = (self.flags as u16, (self.flags >> 16) as u16);
        // Whatever family it is of, there is an address as of IPv6.
        const INET6: u16 = 10;
        match self.kind {
            Kind::Connect => address(INET6, other, self.path),
            Kind::Listen | Kind::Bind => address(INET6, own, self.path),
            _ => None,
        }
    }

    /// The protocol of what a port belongs to.
    pub fn protocol(&self) -> u16 {
        let [_, _, first, second] = self.number.to_ne_bytes();
        u16::from_ne_bytes([first, second])
    }

    /// Two numbers of 32 bits: mode and device of what was made, family and protocol of a socket.
    pub fn pair(&self) -> (u32, u32) {
        (self.flags as u32, (self.flags >> 32) as u32)
    }

    /// The arguments, and whether there were more octets or more of them.
    pub fn arguments(&self) -> (Vec<&'a [u8]>, bool) {
        let whole = self.rest.strip_suffix(&[0]);
        let text = whole.unwrap_or(self.rest);
        if self.rest.is_empty() {
            return (Vec::new(), self.number > 0);
        }
        let all: Vec<&[u8]> = text.split(|octet| *octet == 0).collect();
        // A last one that fills its room may have been longer.
        let last = all.last().map_or(0, |last| last.len() + 1);
        let is_cut = whole.is_none() || all.len() != self.number as usize || last >= super::program::REST as usize;
        (all, is_cut)
    }
}

fn address(family: u16, port: u16, octets: &[u8]) -> Option<SocketAddr> {
    let ip: IpAddr = match family {
        2 => Ipv4Addr::from(<[u8; 4]>::try_from(octets.get(..4)?).ok()?).into(),
        10 => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u32, number: u32, path: &[u8], rest: &[u8]) -> Vec<u8> {
        let mut record = vec![0; HEAD];
        record[16..20].copy_from_slice(&kind.to_ne_bytes());
        record[36..40].copy_from_slice(&number.to_ne_bytes());
        record[96..100].copy_from_slice(&(path.len() as u32).to_ne_bytes());
        record[100..104].copy_from_slice(&(rest.len() as u32).to_ne_bytes());
        [&record, path, rest].concat()
    }

    #[test]
    fn arguments_that_were_cut_are_said_to_be() {
        let of = |number, rest: &[u8]| {
            let record = record(1, number, b"/bin/sh\0", rest);
            let happened = Happened::parse(&record).unwrap();
            assert_eq!((happened.path, happened.is_cut), (&b"/bin/sh"[..], false));
            let (arguments, is_cut) = happened.arguments();
            (arguments.iter().map(|text| text.to_vec()).collect::<Vec<_>>(), is_cut)
        };
        assert_eq!(of(3, b"sh\0\0\xff\0"), (vec![b"sh".to_vec(), vec![], vec![0xff]], false));
        assert_eq!(of(1, b"\0"), (vec![vec![]], false));
        assert_eq!(of(0, b""), (vec![], false));
        assert_eq!(of(2, b""), (vec![], true), "they could not be read");
        assert!(of(9, b"sh\0-c\0").1, "there were more of them");
        assert!(of(1, &[b'a'; super::super::program::REST as usize]).1);
        let mut last = vec![b'a'; super::super::program::REST as usize];
        last[super::super::program::REST as usize - 1] = 0;
        assert!(of(1, &last).1);
        let long = record(3, u32::MAX, &[b'p'; super::super::program::PATH as usize], b"");
        assert!(Happened::parse(&long).unwrap().is_cut);
    }

    proptest! {
        #[test]
        fn anything_is_a_record_or_none(octets in prop::collection::vec(any::<u8>(), 0..400), kind in 0u32..20) {
            let mut octets = octets;
            if octets.len() >= HEAD {
                octets[16..20].copy_from_slice(&kind.to_ne_bytes());
                octets[97..100].fill(0);
                octets[101..104].fill(0);
            }
            if let Some(happened) = Happened::parse(&octets) {
                let _ = (happened.arguments(), happened.end(), happened.code(), happened.protocol(), happened.pair());
            }
        }
    }
}
