//! Memory that has a descriptor: how configurations and long answers pass from
//! process to process.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};

/// A descriptor of memory that holds `bytes` and can never change again.
///
/// # Errors
/// If there is no memory or no descriptor left.
pub fn sealed(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(0))?;
    let fd = OwnedFd::from(file);
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(fd)
}

/// Reads what [`sealed`] wrote, from the beginning.
///
/// # Errors
/// If it is longer than `limit` octets, or cannot be read.
pub fn read_all(fd: OwnedFd, limit: usize) -> io::Result<Vec<u8>> {
    let mut file = File::from(fd);
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    let read = (&mut file).take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if read > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {limit} octets")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_bytes_that_cannot_change() {
        let fd = sealed(c"honeyweave-test", b"0123456789").unwrap();
        let mut file = File::from(fd.try_clone().unwrap());
        assert_eq!(file.write(b"x").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(file.set_len(0).is_err());
        assert_eq!(read_all(fd.try_clone().unwrap(), 10).unwrap(), b"0123456789");
        assert_eq!(read_all(fd, 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
