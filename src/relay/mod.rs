//! Byte streams from an attacker to what answers: here, a pipe of the data plane
//! spliced with a descriptor that the keeper or the console has opened.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::stack::RelayEnd;

/// Octets that are moved at once.
const CHUNK: usize = 16 * 1024;

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
/// # Errors
/// If the socket fails or the attacker resets; the pipe is reset then.
pub async fn serve(pipe: RelayEnd, fd: OwnedFd) -> io::Result<Passed> {
    // A script's socket is a Unix one, a proxy target's a TCP one; both are
    // streams that are only read, written and shut down here.
    let local = rustix::net::sockopt::socket_domain(&fd) == Ok(rustix::net::AddressFamily::UNIX);
    let stream = std::os::unix::net::UnixStream::from(fd);
    stream.set_nonblocking(true)?;
    // A program that ends without having read everything is no broken connection, but to the kernel it is.
    let is_end = |error: &io::Error| local && error.kind() == io::ErrorKind::ConnectionReset;
    pass(pipe, tokio::net::UnixStream::from_std(stream)?, is_end).await
}

/// Splices `pipe` with `stream` until both sides have finished.
///
/// # Errors
/// If the stream fails or the attacker resets; the pipe is reset then.
pub async fn splice<S: AsyncRead + AsyncWrite>(pipe: RelayEnd, stream: S) -> io::Result<Passed> {
    pass(pipe, stream, |_| false).await
}

async fn pass<S: AsyncRead + AsyncWrite>(
    mut pipe: RelayEnd,
    stream: S,
    is_end: impl Fn(&io::Error) -> bool,
) -> io::Result<Passed> {
    let (mut from, mut to) = tokio::io::split(stream);
    let (mut reader, mut writer) = pipe.halves();
    let inward = async {
        let mut buffer = vec![0; CHUNK];
        let (mut total, mut listening) = (0, true);
        loop {
            let n = reader.read(&mut buffer).await.map_err(io::Error::other)?;
            if n == 0 {
                // A program that has ended already has nothing to be told.
                let _ = to.shutdown().await;
                return Ok::<u64, io::Error>(total);
            }
            // A program may end, or stop listening, before the attacker has said everything: what it has answered goes
            // out all the same, and the rest of what comes in is taken and thrown away.
            if listening && to.write_all(&buffer[..n]).await.is_err() {
                listening = false;
            }
            total += n as u64;
        }
    };
    let outward = async {
        let mut buffer = vec![0; CHUNK];
        let mut total = 0;
        loop {
            let n = match from.read(&mut buffer).await {
                Err(error) if is_end(&error) => 0,
                read => read?,
            };
            if n == 0 {
                writer.finish();
                return Ok::<u64, io::Error>(total);
            }
            let mut rest = &buffer[..n];
            while !rest.is_empty() {
                let taken = writer.write(rest).await.map_err(io::Error::other)?;
                rest = &rest[taken..];
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stack::pipe;

    #[tokio::test]
    async fn bytes_pass_both_ways_until_both_have_finished() {
        let (mut plane, relay) = pipe(64, Arc::new(()));
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
        let (mut plane, relay) = pipe(64, Arc::new(()));
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
        let (plane, relay) = pipe(64, Arc::new(()));
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let served = tokio::spawn(serve(relay, theirs.into()));
        drop(plane);
        assert!(served.await.unwrap().is_err());
        ours.set_nonblocking(true).unwrap();
        let mut program = tokio::net::UnixStream::from_std(ours).unwrap();
        assert_eq!(program.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
