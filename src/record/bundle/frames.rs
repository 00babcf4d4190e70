//! The frames of a session, picked out of the captures of all devices, into a pcapng file for each.
//!
//! Who is in front of a container has two connections between the same addresses and ports: one that passes the wire, and one
//! the container's device. In one file they would be one to whoever reads it.
//!
//! A session is what one address does to another, so its frames are those between the two, of whatever protocol, and
//! those between its container and whomever that talked to. Captures are read as they lie there, one file of each series
//! at a time, in bounded memory; one that ends in the middle of a block is being written, and its end is not waited for.
//!
//! They are read twice: an archive has to say how long a member is before that begins, and reading costs less than a
//! copy of it all on the disk would. What is written, rotated or compressed in between changes nothing, as the second
//! reading ends where the first one did; nor does what is deleted, as files with wanted frames stay open: all of them
//! where as many descriptors may be open, or else the oldest of each series, which go first. Others are not read again.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::Path;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::SectionHeaderOption;
use pcap_file::pcapng::blocks::unknown::UnknownBlock;
use pcap_file::pcapng::{Block, PcapNgParser, PcapNgWriter};
use pcap_file::{DataLink, PcapError};

use super::captured::{Capture, Extent, Told, clear, is_damage, open};
use crate::record::capture::captures;
use crate::record::flow::Ends;
use crate::record::pcap::{SNAPLEN, other, section};
use crate::sys::privileges;

/// Pairs of addresses of one session.
const PAIRS: usize = 65_536;
/// Series that are read.
const SERIES: usize = 256;
/// Files that stay open between the two readings: half of what may be open, within these. Others are opened by their names
/// again, for as much as there was.
const KEPT: usize = 256;
const KEPT_MOST: usize = 8192;
/// Octets of a block: more than the longest frame takes.
const BLOCK: usize = 1 << 20;
/// Octets at the beginning of a capture that tell what it is of.
const HEAD: u64 = 4096;
/// Octets that are read at once.
const READ: usize = 256 << 10;

/// Which frames are wanted.
#[derive(Clone, Debug, Default)]
pub struct Pick {
    pairs: HashSet<(IpAddr, IpAddr)>,
    /// Pairs that found no room.
    pub more: u64,
    /// The first and the last time, in nanoseconds since 1970.
    pub span: (u64, u64),
    /// What decrypts them, in lines as NSS writes them.
    pub secrets: String,
}

impl Pick {
    /// Wants the frames between `a` and `b`, too.
    pub fn add(&mut self, a: IpAddr, b: IpAddr) {
        let pair = (a.min(b), a.max(b));
        if self.pairs.len() < PAIRS || self.pairs.contains(&pair) {
            self.pairs.insert(pair);
        } else {
            self.more += 1;
        }
    }

    fn wants(&self, nanos: u64, frame: &[u8]) -> bool {
        (self.span.0..=self.span.1).contains(&nanos)
            && Ends::of(frame).is_some_and(|ends| self.pairs.contains(&ends.pair()))
    }
}

/// What was picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Picked {
    /// Frames.
    pub frames: u64,
    /// Interfaces that they passed, each of which has a capture in the bundle.
    pub interfaces: u64,
    /// Captures that were read.
    pub captures: u64,
    /// Captures that are damaged, and series for which there was no room.
    pub unread: u64,
}

/// The frames of one device that are wanted, found and not yet read.
pub struct Selection<'a> {
    /// The name of the device's captures.
    pub series: String,
    pick: &'a Pick,
    comment: &'a str,
    files: VecDeque<Capture>,
    /// Octets of the file that [`Selection::write`] writes.
    pub octets: u64,
}

/// Finds the frames that `pick` wants in the captures in `dir`, `comment` being about all of them: those of each device that
/// has some.
///
/// # Errors
/// If the captures cannot be listed or read.
pub fn select<'a>(dir: &Path, pick: &'a Pick, comment: &'a str) -> io::Result<(Vec<Selection<'a>>, Picked)> {
    select_within(dir, pick, comment, (privileges::descriptors() / 2).clamp(KEPT, KEPT_MOST))
}

/// The same with so many files that stay open.
fn select_within<'a>(
    dir: &Path,
    pick: &'a Pick,
    comment: &'a str,
    mut keep: usize,
) -> io::Result<(Vec<Selection<'a>>, Picked)> {
    let mut series: BTreeMap<String, VecDeque<Capture>> = BTreeMap::new();
    for (name, path) in captures(dir)? {
        series.entry(name).or_default().push_back(Capture::new(path));
    }
    // Of a honeynet of thousands of containers those that have nothing to do with it are left alone.
    series.retain(|_, files| files.front().is_none_or(|first| concerns(&first.path, pick)));
    let mut picked = Picked { unread: series.len().saturating_sub(SERIES) as u64, ..Picked::default() };
    let (mut selections, count) = (Vec::new(), series.len().min(SERIES));
    for (at, (series, files)) in series.into_iter().take(SERIES).enumerate() {
        let (mut reader, mut counter) = (Series::new(files), Counter(0));
        // What one series does not need is for those after it.
        let mut own = keep / (count - at);
        keep -= own;
        copy(&mut reader, pick, comment, &mut counter, &mut own)?;
        keep += own;
        picked.captures += reader.read;
        picked.unread += reader.damaged;
        if reader.frames > 0 {
            picked.frames += reader.frames;
            picked.interfaces += 1;
            selections.push(Selection { series, pick, comment, files: reader.kept, octets: counter.0 });
        }
    }
    Ok((selections, picked))
}

impl Selection<'_> {
    /// Writes them to `out`.
    ///
    /// # Errors
    /// If `out` takes no more, or a capture cannot be read.
    pub fn write(self, out: impl Write) -> io::Result<()> {
        copy(&mut Series::new(self.files), self.pick, self.comment, out, &mut 0)
    }
}

/// Counts what is written.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0 += octets.len() as u64;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what `reader` finds. So many of its files stay open as `keep` says.
fn copy(reader: &mut Series, pick: &Pick, comment: &str, out: impl Write, keep: &mut usize) -> io::Result<()> {
    let mut header = section();
    header.options.push(SectionHeaderOption::Comment(comment.to_owned().into()));
    let mut out = PcapNgWriter::with_section_header(out, header).map_err(other)?;
    while let Some(frame) = reader.advance(pick, keep)? {
        let nanos = nanos(&frame);
        if reader.frames == 0 {
            // First of all: what comes before it has editcap and mergecap take the link for one that they cannot write.
            out.write_pcapng_block(description(&reader.name, &reader.about, comment)).map_err(other)?;
            if !pick.secrets.is_empty() {
                out.write_pcapng_block(secrets(&pick.secrets)).map_err(other)?;
            }
            reader.first = nanos;
        }
        out.write_pcapng_block(EnhancedPacketBlock { interface_id: 0, ..frame }).map_err(other)?;
        (reader.frames, reader.last) = (reader.frames + 1, nanos);
    }
    if reader.frames > 0 {
        out.write_pcapng_block(statistics(reader)).map_err(other)?;
    }
    out.into_inner().flush()
}

/// A block of secrets of TLS, which stands in front of the frames that they decrypt (draft-ietf-opsawg-pcapng-05 §4.7).
fn secrets(lines: &str) -> UnknownBlock<'static> {
    const BLOCK: u32 = 10;
    const KEY_LOG: u32 = 0x544c_534b;
    let mut body = [KEY_LOG.to_be_bytes(), (lines.len() as u32).to_be_bytes()].concat();
    body.extend_from_slice(lines.as_bytes());
    body.resize(body.len().next_multiple_of(4), 0);
    UnknownBlock { type_: BLOCK, length: body.len() as u32, value: body.into() }
}

/// Whether frames that are wanted may be in captures like the one at `path`: not if they are those of another container.
fn concerns(path: &Path, pick: &Pick) -> bool {
    let mut begin = Vec::new();
    let opened =
        open(path).and_then(|file| clear(file, Extent::ALL)).and_then(|file| file.take(HEAD).read_to_end(&mut begin));
    let Ok((rest, mut parser)) = opened.map_err(PcapError::IoError).and_then(|_| PcapNgParser::new(&begin)) else {
        return true;
    };
    let Ok((_, Block::InterfaceDescription(interface))) = parser.next_block(rest) else { return true };
    let named = interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfName(name) => name.parse::<IpAddr>().ok(),
        _ => None,
    });
    named.is_none_or(|host| pick.pairs.iter().any(|(a, b)| *a == host || *b == host))
}

fn description<'a>(name: &'a str, about: &'a str, comment: &'a str) -> InterfaceDescriptionBlock<'a> {
    InterfaceDescriptionBlock {
        linktype: DataLink::ETHERNET,
        snaplen: SNAPLEN,
        options: vec![
            InterfaceDescriptionOption::Comment(comment.into()),
            InterfaceDescriptionOption::IfName(name.into()),
            InterfaceDescriptionOption::IfDescription(about.into()),
            InterfaceDescriptionOption::IfTsResol(9),
        ],
    }
}

fn statistics(series: &Series) -> InterfaceStatisticsBlock<'static> {
    let about = "isb_ifdrop: frames, of whatever session, that the disk did not take; isb_osdrop: frames of all interfaces \
                 that were lost on their way to the disk; both in the whole of the captures that these frames are from";
    InterfaceStatisticsBlock {
        interface_id: 0,
        timestamp: series.last,
        options: vec![
            InterfaceStatisticsOption::Comment(Cow::Borrowed(about)),
            InterfaceStatisticsOption::IsbStartTime(series.first),
            InterfaceStatisticsOption::IsbEndTime(series.last),
            InterfaceStatisticsOption::IsbIfRecv(series.frames),
            InterfaceStatisticsOption::IsbIfDrop(series.dropped),
            InterfaceStatisticsOption::IsbOsDrop(series.lost),
        ],
    }
}

fn nanos(frame: &EnhancedPacketBlock<'_>) -> u64 {
    u64::try_from(frame.timestamp.as_nanos()).unwrap_or(u64::MAX)
}

/// The captures of one device, one after the other.
struct Series {
    files: VecDeque<Capture>,
    open: Option<Blocks>,
    /// Those that were read.
    kept: VecDeque<Capture>,
    name: String,
    about: String,
    frames: u64,
    first: u64,
    last: u64,
    dropped: u64,
    lost: u64,
    read: u64,
    damaged: u64,
}

impl Series {
    fn new(files: VecDeque<Capture>) -> Series {
        Series {
            files,
            open: None,
            kept: VecDeque::new(),
            name: String::new(),
            about: String::new(),
            frames: 0,
            first: 0,
            last: 0,
            dropped: 0,
            lost: 0,
            read: 0,
            damaged: 0,
        }
    }

    /// Goes on to the next frame that is wanted.
    fn advance(&mut self, pick: &Pick, keep: &mut usize) -> io::Result<Option<EnhancedPacketBlock<'static>>> {
        loop {
            let Some(blocks) = &mut self.open else {
                let Some(mut capture) = self.files.pop_front() else { return Ok(None) };
                if capture.was_read && capture.told.frames == 0 {
                    self.add(capture.told);
                    continue;
                }
                match capture.open() {
                    Ok(reader) => self.open = Some(Blocks::new(reader)),
                    // A limit took it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(_) => {
                        self.damaged += 1;
                        continue;
                    }
                }
                self.read += 1;
                (capture.told, capture.was_read) = (Told::default(), true);
                self.kept.push_back(capture);
                continue;
            };
            let Some(Capture { told, opened, .. }) = self.kept.back_mut() else { return Ok(None) };
            let found = blocks.find(|block| match block {
                Block::EnhancedPacket(frame) => pick.wants(nanos(&frame), &frame.data).then(|| frame.into_owned()),
                Block::InterfaceDescription(interface) => {
                    for option in &interface.options {
                        match option {
                            InterfaceDescriptionOption::IfName(name) => self.name = name.clone().into_owned(),
                            InterfaceDescriptionOption::IfDescription(about) => self.about = about.clone().into_owned(),
                            _ => {}
                        }
                    }
                    None
                }
                Block::InterfaceStatistics(statistics) => {
                    for option in &statistics.options {
                        match option {
                            InterfaceStatisticsOption::IsbIfDrop(n) => told.dropped = told.dropped.saturating_add(*n),
                            InterfaceStatisticsOption::IsbOsDrop(n) => told.lost = told.lost.saturating_add(*n),
                            _ => {}
                        }
                    }
                    None
                }
                _ => None,
            })?;
            match found {
                Found::Taken(frame) => {
                    told.frames += 1;
                    return Ok(Some(frame));
                }
                Found::End => {}
                Found::Damage => self.damaged += 1,
            }
            self.open = None;
            match keep.checked_sub(1).filter(|_| told.frames > 0) {
                Some(left) => *keep = left,
                None => *opened = None,
            }
            let told = *told;
            self.add(told);
        }
    }

    fn add(&mut self, told: Told) {
        self.dropped = self.dropped.saturating_add(told.dropped);
        self.lost = self.lost.saturating_add(told.lost);
    }
}

enum Found<T> {
    Taken(T),
    End,
    Damage,
}

/// The blocks of one file.
struct Blocks {
    reader: Box<dyn Read>,
    parser: Option<PcapNgParser>,
    buffer: Vec<u8>,
    /// Where the next block begins in the buffer.
    at: usize,
}

impl Blocks {
    fn new(reader: Box<dyn Read>) -> Blocks {
        Blocks { reader, parser: None, buffer: Vec::new(), at: 0 }
    }

    /// Goes on until `wanted` takes a block.
    fn find<T>(&mut self, mut wanted: impl FnMut(Block<'_>) -> Option<T>) -> io::Result<Found<T>> {
        loop {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            let parsed = match &mut self.parser {
                Some(parser) => parser.next_block(rest).map(|(after, block)| (after.len(), wanted(block))),
                none => PcapNgParser::new(rest).map(|(after, parser)| {
                    *none = Some(parser);
                    (after.len(), None)
                }),
            };
            match parsed {
                Ok((after, taken)) => {
                    self.at = self.buffer.len() - after;
                    if let Some(taken) = taken {
                        return Ok(Found::Taken(taken));
                    }
                }
                Err(PcapError::IncompleteBuffer) if rest.len() > BLOCK => return Ok(Found::Damage),
                Err(PcapError::IncompleteBuffer) => {
                    self.buffer.drain(..self.at);
                    self.at = 0;
                    match (&mut self.reader).take(READ as u64).read_to_end(&mut self.buffer) {
                        Ok(0) => return Ok(Found::End),
                        Ok(_) => {}
                        // It is no longer what was compressed.
                        Err(error) if is_damage(&error) => return Ok(Found::Damage),
                        Err(error) => return Err(error),
                    }
                }
                Err(_) => return Ok(Found::Damage),
            }
        }
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
