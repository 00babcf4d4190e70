//! One pcapng file: frames of one interface, with times in UTC nanoseconds and
//! their direction, readable at any moment up to its last whole block.

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use foldhash::HashSet;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};

use super::file::Appender;

/// Longest frame that is kept whole: what the largest GSO super-frame takes.
pub const SNAPLEN: u32 = 65_550;

// Blocks are gathered up to this length before the kernel is bothered.
const GATHER: usize = 256 << 10;

// Pairs of addresses of one file whose sessions are told.
const PAIRS: usize = 1024;

// So many files have all of that; more share it, so that memory is bounded however many there are.
const EQUALS: usize = 64;

/// Which way a frame went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Into the honeynet's switch: from the wire, or from a container.
    In,
    /// Out of it: to the wire, or to a container.
    Out,
}

/// A pcapng file that is being written. It may be set down meanwhile, without a descriptor, and goes on by itself.
pub(super) struct PcapFile {
    path: PathBuf,
    file: Option<Appender>,
    /// Octets that are on the disk.
    len: u64,
    /// It was set down, and somebody deleted it.
    gone: bool,
    blocks: PcapNgWriter<Vec<u8>>,
    gathered: u64,
    frames: u64,
    dropped: u64,
    ring_lost: u64,
    /// Frames that were cut to their headers.
    cut: u64,
    first_nanos: u64,
    last_nanos: u64,
    /// The addresses of frames, and how many more pairs there were at least that found no room.
    pairs: HashSet<(IpAddr, IpAddr)>,
    is_more: bool,
}

impl PcapFile {
    /// Creates the file at `path` for the interface called `name`; `about` describes it.
    pub fn create(path: PathBuf, name: &str, about: &str) -> io::Result<PcapFile> {
        let file = Appender::create(&path)?;
        let mut blocks = PcapNgWriter::with_section_header(Vec::new(), section()).map_err(other)?;
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: SNAPLEN,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfDescription(Cow::Borrowed(about)),
                InterfaceDescriptionOption::IfTsResol(9),
            ],
        };
        blocks.write_pcapng_block(interface).map_err(other)?;
        Ok(PcapFile {
            path,
            file: Some(file),
            len: 0,
            gone: false,
            blocks,
            gathered: 0,
            frames: 0,
            dropped: 0,
            ring_lost: 0,
            cut: 0,
            first_nanos: 0,
            last_nanos: 0,
            pairs: HashSet::default(),
            is_more: false,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length once everything gathered is written.
    pub fn bytes(&self) -> u64 {
        self.len + self.blocks.get_ref().len() as u64
    }

    /// Whether it has a descriptor.
    pub fn is_held(&self) -> bool {
        self.file.is_some()
    }

    /// Whether it cannot go on, as it is not there any more.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Gives its descriptor back, and what memory it has no use for until the next frame.
    pub fn set_down(&mut self) {
        self.file = None;
        if self.blocks.get_ref().is_empty() {
            *self.blocks.get_mut() = Vec::new();
        }
    }

    /// Frames that the disk did not take so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Counts a frame that is left out, as others have a better use for the room on the disk.
    pub fn count_left_out(&mut self) {
        self.dropped += 1;
    }

    /// Counts `n` frames, of whatever interface, that never came as far as here.
    pub fn count_ring_lost(&mut self, n: u64) {
        self.ring_lost += n;
    }

    /// Counts a frame that is cut to its headers.
    pub fn count_cut(&mut self) {
        self.cut += 1;
    }

    /// Notes that a frame is between two addresses, one of `files` files.
    pub fn between(&mut self, pair: (IpAddr, IpAddr), files: usize) {
        if self.pairs.len() < part(PAIRS, files) {
            self.pairs.insert(pair);
        } else {
            self.is_more |= !self.pairs.contains(&pair);
        }
    }

    /// Between whom frames were.
    pub fn pairs(&self) -> impl Iterator<Item = &(IpAddr, IpAddr)> {
        self.pairs.iter()
    }

    /// The times of the first and the last frame, in microseconds since 1970.
    pub fn span(&self) -> (i64, i64) {
        let micros = |nanos: u64| i64::try_from(nanos / 1000).unwrap_or(i64::MAX);
        (micros(self.first_nanos), micros(self.last_nanos))
    }

    /// Appends a frame that passed at `nanos` (UTC) and had `original_len` octets, one of `files` files. Returns what
    /// [`PcapFile::flush`] does, `false` if it is only gathered.
    pub fn frame(
        &mut self,
        nanos: u64,
        direction: Direction,
        original_len: u32,
        bytes: &[u8],
        files: usize,
    ) -> io::Result<bool> {
        let data = &bytes[..bytes.len().min(SNAPLEN as usize)];
        let flags = match direction {
            Direction::In => 0b01,
            Direction::Out => 0b10,
        };
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(nanos),
            original_len: original_len.max(data.len() as u32),
            data: Cow::Borrowed(data),
            options: vec![EnhancedPacketOption::Flags(flags)],
        };
        self.blocks.write_pcapng_block(block).map_err(other)?;
        if self.frames == 0 {
            self.first_nanos = nanos;
        }
        self.last_nanos = nanos;
        self.frames += 1;
        self.gathered += 1;
        if self.blocks.get_ref().len() >= part(GATHER, files) { self.flush() } else { Ok(false) }
    }

    /// Hands what was gathered to the kernel, and returns whether there was anything. What it does not take is dropped
    /// and counted.
    pub fn flush(&mut self) -> io::Result<bool> {
        if self.blocks.get_ref().is_empty() {
            return Ok(false);
        }
        let result = self.append().map(|()| true);
        let gathered = std::mem::take(&mut self.gathered);
        if result.is_err() && self.len == 0 {
            // Without its first two blocks the file would be none: keep them, and only them.
            self.dropped += gathered;
            let header = header_len(self.blocks.get_ref());
            self.blocks.get_mut().truncate(header);
            return result;
        }
        if result.is_err() {
            self.dropped += gathered;
        }
        self.blocks.get_mut().clear();
        result
    }

    fn append(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let opened = Appender::reopen(&self.path, self.len);
                self.gone = opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
                self.file.insert(opened?)
            }
        };
        let result = file.append(self.blocks.get_ref());
        self.len = file.len();
        result
    }

    /// Ends the file with the interface's statistics, and with the sessions that are in it. Returns its length, too.
    pub fn close(mut self, sessions: &str) -> (u64, io::Result<bool>) {
        let result = self.end(sessions);
        (self.len, result)
    }

    fn end(&mut self, sessions: &str) -> io::Result<bool> {
        self.flush()?;
        let mut options = vec![
            InterfaceStatisticsOption::Comment(Cow::Borrowed(
                "isb_ifdrop: frames that the disk did not take; isb_osdrop: frames of all interfaces that were \
                 lost on their way to the disk while this file was open",
            )),
            InterfaceStatisticsOption::IsbStartTime(self.first_nanos),
            InterfaceStatisticsOption::IsbEndTime(self.last_nanos),
            InterfaceStatisticsOption::IsbIfRecv(self.frames),
            InterfaceStatisticsOption::IsbIfDrop(self.dropped),
            InterfaceStatisticsOption::IsbOsDrop(self.ring_lost),
        ];
        if self.cut > 0 {
            let text = format!("of {} frames only the headers are kept, as their flows exceeded their limit", self.cut);
            options.push(InterfaceStatisticsOption::Comment(text.into()));
        }
        if !sessions.is_empty() {
            let more = if self.is_more { "; there are more" } else { "" };
            options.push(InterfaceStatisticsOption::Comment(format!("sessions: {sessions}{more}").into()));
        }
        let block = InterfaceStatisticsBlock { interface_id: 0, timestamp: self.last_nanos, options };
        self.blocks.write_pcapng_block(block).map_err(other)?;
        self.flush()
    }
}

// What each of `files` files has of that.
fn part(each: usize, files: usize) -> usize {
    if files <= EQUALS { each } else { each * EQUALS / files }
}

// The section header and the interface description, whose lengths stand in their second words.
fn header_len(blocks: &[u8]) -> usize {
    let mut end = 0;
    for _ in 0..2 {
        let length = blocks.get(end + 4..end + 8).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b));
        end += length as usize;
    }
    end.min(blocks.len())
}

/// What every capture of ours begins with.
pub(super) fn section() -> SectionHeaderBlock<'static> {
    // Big-endian, because the crate writes the two halves of a statistics block's times as one 64-bit
    // number, which the format has the high half first of.
    SectionHeaderBlock {
        endianness: Endianness::Big,
        options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(concat!(
            "honeyweave ",
            env!("CARGO_PKG_VERSION")
        )))],
        ..SectionHeaderBlock::default()
    }
}

/// The same as an error of input and output.
pub(super) fn other(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        error => io::Error::other(error),
    }
}
