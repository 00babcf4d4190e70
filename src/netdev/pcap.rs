//! A capture file as a device, for tests: what was recorded comes in, what is
//! sent is recorded.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::{Block, PcapNgReader};

use super::{Caps, Netdev};
use crate::frame::{Batch, Frame, Pool};
use crate::wire::Instant;

enum Source {
    Nothing,
    Pcap(Box<PcapReader<BufReader<File>>>),
    PcapNg(Box<PcapNgReader<BufReader<File>>>),
}

/// Receives the frames of one file (pcap or pcapng) and sends into another (pcap).
pub struct Pcap {
    source: Source,
    sink: Option<PcapWriter<BufWriter<File>>>,
    now: Instant,
    sent: usize,
}

fn invalid(error: pcap_file::PcapError) -> io::Error {
    match error {
        pcap_file::PcapError::IoError(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}

impl Pcap {
    /// Opens what there is of both.
    ///
    /// # Errors
    /// If a file cannot be opened, or the source is no capture.
    pub fn open(source: Option<&Path>, sink: Option<&Path>) -> io::Result<Pcap> {
        let source = match source {
            None => Source::Nothing,
            Some(path) => {
                let open = || io::Result::Ok(BufReader::new(File::open(path)?));
                match PcapReader::new(open()?) {
                    Ok(reader) => Source::Pcap(Box::new(reader)),
                    Err(_) => Source::PcapNg(Box::new(PcapNgReader::new(open()?).map_err(invalid)?)),
                }
            }
        };
        let sink = match sink {
            None => None,
            Some(path) => Some(PcapWriter::new(BufWriter::new(File::create(path)?)).map_err(invalid)?),
        };
        Ok(Pcap { source, sink, now: Instant::ZERO, sent: 0 })
    }

    /// The next recorded frame; `None` at the end.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        match &mut self.source {
            Source::Nothing => Ok(None),
            Source::Pcap(reader) => {
                reader.next_packet().transpose().map_err(invalid).map(|p| p.map(|packet| packet.data.into_owned()))
            }
            Source::PcapNg(reader) => loop {
                match reader.next_block().transpose().map_err(invalid)? {
                    None => return Ok(None),
                    Some(Block::EnhancedPacket(packet)) => return Ok(Some(packet.data.into_owned())),
                    Some(Block::SimplePacket(packet)) => return Ok(Some(packet.data.into_owned())),
                    Some(_) => {}
                }
            },
        }
    }

    fn write(&mut self, frame: &Frame) -> bool {
        let Some(sink) = &mut self.sink else { return false };
        // Frames have no time of their own; a microsecond apart they keep their order everywhere.
        let at = Duration::from_micros(self.now.total_micros().max(0) as u64 + self.sent as u64);
        self.sent += 1;
        sink.write_packet(&PcapPacket::new(at, frame.len() as u32, frame.bytes())).is_ok()
    }
}

impl Netdev for Pcap {
    fn rx(&mut self, now: Instant, pool: &mut Pool, batch: &mut Batch) -> io::Result<bool> {
        self.now = now;
        for _ in 0..64 {
            let Some(bytes) = self.next()? else { return Ok(false) };
            if let Some(frame) = pool.copy_of(&bytes) {
                batch.push(frame);
            }
        }
        Ok(true)
    }

    fn tx(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let mut taken = 0;
        for frame in batch.drain(..) {
            taken += usize::from(self.write(&frame));
            pool.put(frame);
        }
        taken
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn caps(&self) -> Caps {
        Caps { mtu: 65_535, offload: false }
    }

    fn kind(&self) -> &'static str {
        "pcap"
    }
}
