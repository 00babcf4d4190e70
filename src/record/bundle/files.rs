//! What reading and writing have in common.

use std::io::{self, Read, Write};

use ring::digest::{Context, SHA256};

use crate::wire::hex;

/// Passes on what is read or written, and knows its SHA-256 and how much it was.
pub struct Hashing<T> {
    inner: T,
    digest: Context,
    octets: u64,
}

impl<T> Hashing<T> {
    /// Nothing has passed yet.
    pub fn new(inner: T) -> Hashing<T> {
        Hashing { inner, digest: Context::new(&SHA256), octets: 0 }
    }

    /// How much passed, and its SHA-256 in hexadecimal.
    pub fn finish(self) -> (u64, String) {
        (self.octets, hex(self.digest.finish().as_ref()))
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.digest.update(buffer.get(..n).unwrap_or_default());
        self.octets += n as u64;
        Ok(n)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(octets)?;
        self.digest.update(octets.get(..n).unwrap_or_default());
        self.octets += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
