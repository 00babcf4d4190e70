//! What the kernel knows of a connection.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Octets that were written to a TCP socket and that its peer has not acknowledged.
///
/// # Errors
/// If it is no socket.
pub fn unacknowledged(socket: impl AsFd) -> io::Result<usize> {
    let mut octets: libc::c_int = 0;
    // SAFETY: the request writes one int, which `octets` is, and the descriptor is borrowed for the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut octets) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(octets).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::sys::clock;

    #[test]
    fn what_a_peer_has_taken_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut written = 0;
        // More than the kernel keeps for somebody who reads nothing.
        while let Ok(count) = stream.write(&[7; 65_536]) {
            written += count;
        }
        assert!(unacknowledged(&stream).unwrap() > 0);
        drop(stream.try_clone().unwrap());
        let reader = std::thread::spawn(move || {
            let mut rest = vec![0; written];
            peer.read_exact(&mut rest).map(|()| peer)
        });
        let peer = reader.join().unwrap().unwrap();
        let deadline = clock::monotonic_micros() + 10_000_000;
        while unacknowledged(&stream).unwrap() > 0 {
            assert!(clock::monotonic_micros() < deadline);
            std::thread::yield_now();
        }
        drop(peer);
        assert!(unacknowledged(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
