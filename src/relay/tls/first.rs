//! What a connection begins with.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::relay::tape::{Entry, Text};
use crate::service::tls::{ClientHello, First, MOST_OF_HELLO, first};

/// It, and the octets that it was read from.
#[derive(Debug)]
pub(super) enum Began {
    /// A whole ClientHello, and perhaps more behind its records.
    Hello(Box<ClientHello>, Bytes),
    /// Not TLS.
    Other(Bytes),
    /// TLS, but nothing that a server goes on with.
    Broken(Bytes),
    /// The client has left.
    Gone(Bytes),
}

/// Reads no more than it takes to tell, which is 8 KiB at most.
pub(super) async fn hear<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Began> {
    let mut octets = BytesMut::new();
    loop {
        match first(&octets) {
            First::Part => {}
            First::Hello(hello) => return Ok(Began::Hello(hello, octets.freeze())),
            First::Other => return Ok(Began::Other(octets.freeze())),
            First::Broken => return Ok(Began::Broken(octets.freeze())),
        }
        // It is broken once there are so many.
        let room = MOST_OF_HELLO - octets.len().min(MOST_OF_HELLO - 1);
        octets.reserve(room.min(1024));
        if stream.read_buf(&mut (&mut octets).limit(room)).await? == 0 {
            return Ok(Began::Gone(octets.freeze()));
        }
    }
}

/// What is told of a ClientHello.
pub(super) fn told(hello: &ClientHello) -> Entry {
    Entry::TlsHello {
        sni: hello.sni.as_ref().map(Text::new),
        alpn: hello.alpn.iter().map(Text::new).collect(),
        versions: if hello.versions.is_empty() { vec![hello.version] } else { hello.versions.clone() },
        ja3: hello.ja3(),
        ja4: hello.ja4(),
    }
}
