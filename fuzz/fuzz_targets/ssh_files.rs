//! Files that move by SFTP and SCP, as both sides could have it: what is told of them adds up, depends on no pieces, and
//! what is remembered is little.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use bytes::Bytes;
use honeyweave::relay::ssh::testing::Carried;
use honeyweave::relay::tape::{Entry, Stream};
use libfuzzer_sys::fuzz_target;

/// Files that move at a time.
const OPEN: usize = 256;
/// Those, by their handles and their numbers, as many that are to be opened, and reads that wait.
const REMEMBERED: usize = 3 * OPEN + 32 * 1024;

#[derive(Arbitrary, Debug)]
enum Way {
    Sftp,
    Upload,
    Download,
    /// Whatever a command may be.
    Any(Vec<u8>),
}

/// What one side says, in whole packets and lines, which chance would seldom find. Requests and handles are small numbers.
#[derive(Arbitrary, Debug)]
enum Said {
    Octets(Vec<u8>),
    /// Request, path, flags.
    Open(u8, Vec<u8>, u8),
    /// Request, handle.
    Handle(u8, u8),
    /// Request, handle, offset, octets.
    Write(u8, u8, u8, Vec<u8>),
    Read(u8, u8, u8),
    Data(u8, Vec<u8>),
    Close(u8, u8),
    Status(u8),
    /// Kind, request, strings.
    Packet(u8, u8, Vec<Vec<u8>>),
    /// Many that are all but alike: the first request, how many, the handle.
    Many(u8, u8, u8),
    /// A file of SCP: its name, its octets, how many are claimed if not those.
    File(Vec<u8>, Vec<u8>, Option<u16>),
    Directory(Vec<u8>),
    Up,
}

fn packet(kind: u8, id: u8, rest: &[&[u8]]) -> Vec<u8> {
    let rest = rest.concat();
    let mut packet = (rest.len() as u32 + 5).to_be_bytes().to_vec();
    packet.push(kind);
    packet.extend(u32::from(id).to_be_bytes());
    packet.extend(rest);
    packet
}

fn string(octets: &[u8]) -> Vec<u8> {
    [&(octets.len() as u32).to_be_bytes()[..], octets].concat()
}

impl Said {
    fn octets(&self) -> Vec<u8> {
        let long = |offset: &u8| u64::from(*offset).to_be_bytes();
        match self {
            Said::Octets(octets) => octets.clone(),
            Said::Open(id, path, flags) => packet(3, *id, &[&string(path), &[0, 0, 0, *flags], &[0; 4]]),
            Said::Handle(id, handle) => packet(102, *id, &[&string(&[*handle])]),
            Said::Write(id, handle, offset, data) => {
                packet(6, *id, &[&string(&[*handle]), &long(offset), &string(data)])
            }
            Said::Read(id, handle, offset) => packet(5, *id, &[&string(&[*handle]), &long(offset), &[0, 0, 1, 0]]),
            Said::Data(id, data) => packet(103, *id, &[&string(data)]),
            Said::Close(id, handle) => packet(4, *id, &[&string(&[*handle])]),
            Said::Status(id) => packet(101, *id, &[&[0; 4]]),
            Said::Packet(kind, id, strings) => {
                let strings: Vec<u8> = strings.iter().flat_map(|text| string(text)).collect();
                packet(*kind, *id, &[&strings])
            }
            Said::Many(from, count, handle) => (0..*count)
                .flat_map(|at| {
                    let id = from.wrapping_add(at);
                    match handle % 3 {
                        0 => packet(3, id, &[&string(b"x"), &[0, 0, 0, 2], &[0; 4]]),
                        1 => packet(102, id, &[&string(&[*handle])]),
                        _ => packet(102, id, &[&string(&[at])]),
                    }
                })
                .collect(),
            Said::File(name, data, claimed) => {
                let size = claimed.map_or(data.len(), usize::from);
                [b"C0644 ", size.to_string().as_bytes(), b" ", name, b"\n", data, b"\0"].concat()
            }
            Said::Directory(name) => [b"D0755 0 ", name.as_slice(), b"\n"].concat(),
            Said::Up => b"E\n".to_vec(),
        }
    }
}

fn told(way: &Way, keep: u64, story: &[(Stream, Vec<u8>)], most: usize) -> Vec<Entry> {
    let mut carried = match way {
        Way::Sftp => Carried::by_subsystem("sftp", keep),
        Way::Upload => Carried::by_command(b"scp -t /tmp", keep),
        Way::Download => Carried::by_command(b"scp -f /tmp", keep),
        Way::Any(command) => Carried::by_command(command, keep),
    };
    let (mut all, mut open) = (Vec::new(), 0);
    for (stream, octets) in story {
        for piece in octets.chunks(most) {
            // Octets and no more, from the beginning or from here on.
            let Some(told) = carried.look(*stream, &Bytes::copy_from_slice(piece)) else { return all };
            for entry in &told {
                match entry {
                    Entry::FileBegin { .. } => open += 1,
                    Entry::FileEnd { .. } => open -= 1,
                    _ => {}
                }
            }
            all.extend(told);
            assert!(open <= OPEN && carried.remembered() <= REMEMBERED, "{open}, {}", carried.remembered());
        }
    }
    all.extend(carried.end());
    all
}

/// Content put together, and everything else up to what is strange.
fn summed(told: Vec<Entry>) -> (Vec<Entry>, BTreeMap<u32, Vec<u8>>) {
    let (mut all, mut content) = (Vec::new(), BTreeMap::<u32, Vec<u8>>::new());
    for entry in told {
        match entry {
            Entry::FilePiece { file, data, .. } => content.entry(file).or_default().extend(data),
            Entry::Data { .. } => {}
            entry => all.push(entry),
        }
    }
    (all, content)
}

fuzz_target!(|input: (Way, u16, u8, Vec<(bool, Said)>)| {
    let (way, keep, most, story) = input;
    let keep = u64::from(keep);
    let story: Vec<(Stream, Vec<u8>)> = story
        .iter()
        .map(|(is_input, said)| (if *is_input { Stream::Input } else { Stream::Output }, said.octets()))
        .collect();
    let total: usize = story.iter().map(|(_, octets)| octets.len()).sum();
    let whole = summed(told(&way, keep, &story, usize::MAX));
    assert_eq!(whole, summed(told(&way, keep, &story, usize::from(most) % 16 + 1)));
    let (all, content) = whole;
    let mut open = BTreeSet::new();
    let mut octets = 0;
    for entry in &all {
        match entry {
            Entry::FileBegin { file, .. } => assert!(open.insert(*file)),
            Entry::FileEnd { file, size, again, sha256, kept } => {
                assert!(open.remove(file));
                let of = content.get(file).map_or(0, |content| content.len() as u64);
                assert!(of <= keep.min(*size) && (!kept || (of == *size && sha256.is_some())), "{entry:?}, {of} of it");
                octets += size + again;
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?} have no end");
    assert!(octets <= total as u64, "{octets} octets of {total}");
});
