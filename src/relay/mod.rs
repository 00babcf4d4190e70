//! Byte streams from an attacker to what answers: here, a pipe of the data plane
//! spliced with a descriptor that the keeper or the console has opened. [`ssh`] and [`tls`] stand in the middle of
//! encrypted ones, [`plain`] beside one in the clear, and they tell a [`tape`] of what they see.

pub mod plain;
pub mod ssh;
pub mod tape;
pub mod tls;

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::ReadHalf;

use crate::stack::{RelayEnd, RelayWriter};

/// Most octets that are read at once.
const CHUNK: usize = 8 * 1024;

/// What passed a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Octets from the attacker.
    pub inward: u64,
    /// Octets to the attacker.
    pub outward: u64,
}

/// Splices `pipe` with a connected, non-blocking stream socket until both sides have finished.
///
/// It has no buffer of its own: what waits, waits in the pipe or in the kernel.
///
/// # Errors
/// If the socket fails or the attacker resets; the pipe is reset then.
pub async fn serve(mut pipe: RelayEnd, fd: OwnedFd) -> io::Result<Passed> {
    // A script's socket is a Unix one, a proxy target's a TCP one; both are
    // streams that are only read, written and shut down here.
    let local = rustix::net::sockopt::socket_domain(&fd) == Ok(rustix::net::AddressFamily::UNIX);
    let stream = std::os::unix::net::UnixStream::from(fd);
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    let (from, mut to) = stream.split();
    let (mut reader, mut writer) = pipe.halves();
    let inward = async {
        let (mut total, mut listening) = (0, true);
        loop {
            let bytes = reader.peek().await.map_err(io::Error::other)?;
            if bytes.is_empty() {
                // A program that has ended already has nothing to be told.
                let _ = to.shutdown().await;
                return Ok::<u64, io::Error>(total);
            }
            // A program may end, or stop listening, before the attacker has said everything: what it has answered goes
            // out all the same, and the rest of what comes in is taken and thrown away.
            let mut taken = bytes.len();
            if listening {
                match to.write(bytes).await {
                    Ok(n) if n > 0 => taken = n,
                    _ => listening = false,
                }
            }
            reader.consume(taken);
            total += taken as u64;
        }
    };
    let outward = async {
        let mut total = 0;
        loop {
            let room = writer.room().await.map_err(io::Error::other)?;
            from.readable().await?;
            let n = match pull(&from, room, &mut writer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                // A program that ends without having read everything is no broken connection, but to the kernel it is.
                Err(error) if local && error.kind() == io::ErrorKind::ConnectionReset => 0,
                pulled => pulled?,
            };
            if n == 0 {
                writer.finish();
                return Ok::<u64, io::Error>(total);
            }
            total += n as u64;
        }
    };
    match tokio::try_join!(inward, outward) {
        Ok((inward, outward)) => Ok(Passed { inward, outward }),
        Err(error) => {
            pipe.reset();
            Err(error)
        }
    }
}

/// Moves what has come, at most `room` octets; returns how many. No part of a relay that waits: its buffer
/// is gone when it returns.
fn pull(from: &ReadHalf<'_>, room: usize, writer: &mut RelayWriter<'_>) -> io::Result<usize> {
    let mut buffer = [0; CHUNK];
    let n = from.try_read(&mut buffer[..room.min(CHUNK)])?;
    writer.write(&buffer[..n]);
    Ok(n)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::stack::{Budget, Due, PipeEnd, pipe};

    fn pipe_of(capacity: usize) -> (PipeEnd, RelayEnd) {
        let (queue, _) = std::sync::mpsc::channel();
        pipe(capacity, Due { queue, token: 0, waker: Arc::new(()) }, Budget::new(1 << 20))
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_until_both_have_finished() {
        let (mut plane, relay) = pipe_of(64);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let served = tokio::spawn(serve(relay, theirs.into()));
        ours.set_nonblocking(true).unwrap();
        let mut program = tokio::net::UnixStream::from_std(ours).unwrap();
        let sent: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        let mut offered = 0;
        let mut got = vec![0; 1000];
        let mut filled = 0;
        while filled < 1000 {
            offered += plane.write(&sent[offered..]);
            filled += program.read(&mut got[filled..]).await.unwrap();
        }
        assert_eq!(got, sent);
        plane.finish();
        assert_eq!(program.read(&mut [0; 8]).await.unwrap(), 0);
        program.write_all(b"bye").await.unwrap();
        drop(program);
        let passed = served.await.unwrap().unwrap();
        assert_eq!(passed, Passed { inward: 1000, outward: 3 });
        assert_eq!(plane.read_with(|bytes| bytes.len()), 3);
        assert!(plane.at_end() && !plane.is_reset());
    }

    /// A program that answers and ends without having read everything.
    #[tokio::test]
    async fn what_a_program_has_answered_arrives() {
        let (mut plane, relay) = pipe_of(64);
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(plane.write(b"GET / HTTP/1.1"), 14);
        std::io::Write::write_all(&mut ours, b"not here").unwrap();
        let served = tokio::spawn(serve(relay, theirs.into()));
        // Until the request lies unread in the program's socket.
        while rustix::io::ioctl_fionread(&ours).unwrap() < 14 {
            tokio::task::yield_now().await;
        }
        drop(ours);
        while !plane.take_due() || plane.read_with(|bytes| bytes.len()) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!plane.is_reset());
        // More of what nobody reads.
        plane.write(b"Host: x");
        tokio::task::yield_now().await;
        plane.finish();
        assert_eq!(served.await.unwrap().unwrap(), Passed { inward: 21, outward: 8 });
        assert!(plane.at_end() && !plane.is_reset());
    }

    #[tokio::test]
    async fn an_attackers_reset_ends_the_program() {
        let (plane, relay) = pipe_of(64);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let served = tokio::spawn(serve(relay, theirs.into()));
        drop(plane);
        assert!(served.await.unwrap().is_err());
        ours.set_nonblocking(true).unwrap();
        let mut program = tokio::net::UnixStream::from_std(ours).unwrap();
        assert_eq!(program.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
