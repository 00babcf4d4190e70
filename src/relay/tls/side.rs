//! One end of a connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio_rustls::TlsStream;

/// A stream in clear, or what is spoken within TLS on it.
pub(super) enum Side<T> {
    Clear(T),
    Tls(Box<TlsStream<BufReader<T>>>),
}

/// What TLS is spoken on: rustls reads 4 KiB at a time, each of which would wake who fills the stream.
pub(super) fn buffered<T: AsyncRead>(stream: T) -> BufReader<T> {
    BufReader::with_capacity(32 * 1024, stream)
}

/// A side that ends as it is told to.
pub(super) struct Ending<T> {
    side: Side<T>,
    /// Ends without `close_notify`: so has the other side.
    pub(super) bare: Arc<AtomicBool>,
}

impl<T> Ending<T> {
    pub(super) fn new(side: Side<T>) -> Ending<T> {
        Ending { side, bare: Arc::default() }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Ending<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.side {
            Side::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Side::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Ending<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.side {
            Side::Clear(stream) => Pin::new(stream).poll_write(cx, buf),
            Side::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.side {
            Side::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Side::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let bare = self.bare.load(Ordering::Relaxed);
        match &mut self.side {
            Side::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Side::Tls(stream) if bare => Pin::new(stream.get_mut().0).poll_shutdown(cx),
            Side::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
