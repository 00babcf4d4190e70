//! Messages between processes: `SOCK_SEQPACKET` pairs over which descriptors
//! travel, too. One `send` is one `recv`; nothing is ever half there.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message, in octets; more goes into a memfd whose descriptor travels.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Descriptors that may travel with one message.
pub const MAX_FDS: usize = 32;

/// One end of a message channel.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// A message that arrived.
#[derive(Debug)]
pub struct Received {
    /// Its length; 0 means that the other side has closed.
    pub len: usize,
    /// The descriptors that came with it, closed on exec.
    pub fds: Vec<OwnedFd>,
}

impl Channel {
    /// Two connected ends, both blocking and closed on exec.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel(a), Channel(b)))
    }

    /// Takes over a descriptor that was handed down.
    pub fn from_fd(fd: OwnedFd) -> Channel {
        Channel(fd)
    }

    /// The descriptor itself.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Another descriptor of the same end.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Channel> {
        Ok(Channel(self.0.try_clone()?))
    }

    /// Makes sending and receiving fail with `WouldBlock` instead of waiting.
    /// This belongs to the end, not to the descriptor: every copy changes.
    ///
    /// # Errors
    /// Only if the descriptor is none.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.0, on)?)
    }

    /// Sends one message with its descriptors; the caller keeps its own copies of them.
    ///
    /// # Errors
    /// `InvalidInput` for an empty or overlong message or too many descriptors,
    /// `BrokenPipe` if nobody has the other end any more.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.is_empty() || bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a message of {} octets and {} descriptors", bytes.len(), fds.len()),
            ));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let sent = retry(|| rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL))?;
        if sent != bytes.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the message was sent in part"));
        }
        Ok(())
    }

    /// Receives one message.
    ///
    /// # Errors
    /// `InvalidData` for a message longer than `into` or with more than [`MAX_FDS`] descriptors.
    pub fn recv(&self, into: &mut [u8]) -> io::Result<Received> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = retry(|| {
            rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(into)], &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message longer than agreed"));
        }
        Ok(Received { len: got.bytes, fds })
    }

    /// Sends `message` in postcard.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub fn send_msg<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = postcard::to_stdvec(message).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        self.send(&bytes, fds)
    }

    /// Receives a message in postcard; `None` if the other side has closed.
    ///
    /// # Errors
    /// As [`Channel::recv`], and `InvalidData` for bytes that are no `T` or more than one.
    pub fn recv_msg<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let received = self.recv(&mut bytes)?;
        if received.len == 0 {
            return Ok(None);
        }
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let (message, rest) =
            postcard::take_from_bytes(&bytes[..received.len]).map_err(|e| invalid(format!("not a message: {e}")))?;
        if !rest.is_empty() {
            return Err(invalid(format!("{} octets behind a message", rest.len())));
        }
        Ok(Some((message, received.fds)))
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return result,
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A channel inside a tokio runtime: sending and receiving wait without
/// holding up the thread. The end becomes non-blocking.
#[derive(Debug)]
pub struct AsyncChannel(tokio::io::unix::AsyncFd<Channel>);

impl AsyncChannel {
    /// Must be called within a runtime.
    ///
    /// # Errors
    /// If the runtime cannot watch the descriptor.
    pub fn new(channel: Channel) -> io::Result<AsyncChannel> {
        channel.set_nonblocking(true)?;
        // SAFETY: a channel owns its descriptor, never changes it, and closes it only when dropped, after the registration.
        Ok(AsyncChannel(unsafe { tokio::io::unix::AsyncFd::register(channel) }?))
    }

    /// As [`Channel::send_msg`], waiting for room.
    ///
    /// # Errors
    /// As [`Channel::send_msg`].
    pub async fn send_msg<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.async_io(tokio::io::Interest::WRITABLE, |channel| channel.send_msg(message, fds)).await
    }

    /// As [`Channel::recv_msg`], waiting for a message.
    ///
    /// # Errors
    /// As [`Channel::recv_msg`].
    pub async fn recv_msg<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.0.async_io(tokio::io::Interest::READABLE, |channel| channel.recv_msg()).await
    }

    /// The channel itself, for a message that is to be sent only if there is room at once.
    pub fn get(&self) -> &Channel {
        self.0.get_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn carries_messages_and_descriptors() {
        let (a, b) = Channel::pair().unwrap();
        let (mut read, write) = io::pipe().unwrap();
        a.send_msg(&("file".to_string(), 7u32), &[write.as_fd()]).unwrap();
        a.send_msg(&("none".to_string(), 8u32), &[]).unwrap();
        drop(write);
        let (message, mut fds) = b.recv_msg::<(String, u32)>().unwrap().unwrap();
        assert_eq!((message, fds.len()), (("file".to_string(), 7), 1));
        let fd = fds.remove(0);
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        io::PipeWriter::from(fd).write_all(b"through").unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        assert_eq!(b.recv_msg::<(String, u32)>().unwrap().unwrap().0.1, 8);
        drop(a);
        assert!(b.recv_msg::<(String, u32)>().unwrap().is_none());
        assert_eq!(b.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn refuses_what_was_not_agreed() {
        let (a, b) = Channel::pair().unwrap();
        for (len, fds) in [(0, 0), (MAX_MESSAGE + 1, 0), (1, MAX_FDS + 1)] {
            let fds = vec![a.as_fd(); fds];
            assert_eq!(a.send(&vec![0; len], &fds).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        a.send(&[0; 9], &[]).unwrap();
        assert_eq!(b.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        a.send_msg(&[1u8; 32].to_vec(), &[]).unwrap();
        assert_eq!(b.recv_msg::<u8>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        a.send(&[5], &[]).unwrap();
        assert_eq!(b.recv_msg::<Vec<u8>>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        b.set_nonblocking(true).unwrap();
        assert_eq!(b.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        a.send(&vec![3; MAX_MESSAGE], &[]).unwrap();
        assert_eq!(b.recv(&mut vec![0; MAX_MESSAGE]).unwrap().len, MAX_MESSAGE);
    }

    #[tokio::test]
    async fn waits_inside_a_runtime() {
        let (a, b) = Channel::pair().unwrap();
        let (a, b) = (AsyncChannel::new(a).unwrap(), AsyncChannel::new(b).unwrap());
        let sending = async {
            for n in 0..1000u32 {
                a.send_msg(&(n, vec![0u8; 1000]), &[]).await.unwrap();
            }
        };
        let receiving = async {
            for n in 0..1000u32 {
                assert_eq!(b.recv_msg::<(u32, Vec<u8>)>().await.unwrap().unwrap().0.0, n);
            }
        };
        tokio::join!(sending, receiving);
        drop(a);
        assert!(b.recv_msg::<u32>().await.unwrap().is_none());
    }
}
