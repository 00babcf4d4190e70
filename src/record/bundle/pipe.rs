//! Octets on their way from one thread to the next, in pieces whose memory goes round.
//!
//! A piece that was taken at the far end comes back, so that a gigabyte costs no more page faults than a megabyte.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// Octets of a piece.
pub const PIECE: usize = 256 << 10;
/// How many of these wait for the next thread.
const WAITING: usize = 8;

/// Some octets.
struct Piece {
    memory: Box<[u8]>,
    len: usize,
}

impl Piece {
    fn octets(&self) -> &[u8] {
        self.memory.get(..self.len).unwrap_or_default()
    }

    fn room(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.len..).unwrap_or_default()
    }
}

/// Where octets go in. What is written waits for [`Inlet::flush`] until a piece is full.
pub struct Inlet {
    to: SyncSender<Piece>,
    used: Receiver<Piece>,
    open: Option<Piece>,
}

/// Where they come out.
pub struct Outlet {
    from: Receiver<Piece>,
    used: SyncSender<Piece>,
}

/// Both ends of a pipe.
pub fn pipe() -> (Inlet, Outlet) {
    let (to, from) = sync_channel(WAITING);
    // All pieces there are: those that wait, and one at each end.
    let (back, used) = sync_channel(WAITING + 2);
    (Inlet { to, used, open: None }, Outlet { from, used: back })
}

impl Inlet {
    fn piece(&mut self) -> &mut Piece {
        let used = &self.used;
        self.open.get_or_insert_with(|| match used.try_recv() {
            Ok(piece) => Piece { len: 0, ..piece },
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                Piece { memory: vec![0; PIECE].into_boxed_slice(), len: 0 }
            }
        })
    }

    /// Takes all that `from` gives.
    ///
    /// # Errors
    /// Those of `from`, and that nobody takes anything any more.
    pub fn read_from(&mut self, mut from: impl Read) -> io::Result<()> {
        loop {
            match from.read(self.piece().room()) {
                Ok(0) => return Ok(()),
                Ok(n) => self.took(n)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn took(&mut self, n: usize) -> io::Result<()> {
        let piece = self.piece();
        piece.len += n;
        if piece.room().is_empty() { self.flush() } else { Ok(()) }
    }
}

impl Write for Inlet {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let room = self.piece().room();
        let n = room.len().min(octets.len());
        room[..n].copy_from_slice(&octets[..n]);
        self.took(n)?;
        Ok(n)
    }

    /// Passes on what there is.
    fn flush(&mut self) -> io::Result<()> {
        match self.open.take() {
            Some(piece) if piece.len > 0 => self.to.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into()),
            other => {
                self.open = other;
                Ok(())
            }
        }
    }
}

impl Outlet {
    /// Writes to `out` whatever comes, until nobody writes any more.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn pour(self, mut out: impl Write) -> io::Result<()> {
        for piece in &self.from {
            out.write_all(piece.octets())?;
            // Nobody may want it at the end.
            let _ = self.used.try_send(piece);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few octets at a time.
    struct Drop(u8, usize);

    impl Read for Drop {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(buffer.len()).min(1000);
            buffer[..n].fill(self.0);
            self.1 -= n;
            Ok(n)
        }
    }

    #[test]
    fn what_goes_in_comes_out_whole_and_in_order() {
        let (mut inlet, outlet) = pipe();
        let out = std::thread::spawn(move || {
            let mut all = Vec::new();
            outlet.pour(&mut all).unwrap();
            all
        });
        let mut expected = Vec::new();
        for round in 0..20u8 {
            let octets = vec![round; 100_000 + usize::from(round)];
            inlet.write_all(&octets).unwrap();
            expected.extend(octets);
            inlet.read_from(Drop(100 + round, 50_001)).unwrap();
            expected.extend(vec![100 + round; 50_001]);
        }
        inlet.flush().unwrap();
        drop(inlet);
        assert!(out.join().unwrap() == expected);
    }

    #[test]
    fn whoever_writes_hears_that_the_other_end_is_gone() {
        let (mut inlet, outlet) = pipe();
        drop(outlet);
        assert!(inlet.write_all(&vec![1; 3 * PIECE]).is_err());
    }
}
