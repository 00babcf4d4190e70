//! What web servers say to a client that does not speak TLS to them: nginx its error 497, Apache's mod_ssl a page of its own.
//! Others hang up without a word, as OpenSSL by itself does. Seen at nginx 1.22.1 and Apache 2.4.71 with OpenSSL 3.0.

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout_at;

use super::{Connection, Failure, handshake};
use crate::event::Utc;
use crate::relay::tape::{Reason, Stream};
use crate::service::astray;

/// Octets of a request that are waited for: nginx's `large_client_header_buffers`.
const MOST: usize = 8 * 1024;
/// Headers of one that are looked at.
const HEADERS: usize = 64;
/// Octets by which OpenSSL tells what it is spoken to: a record's header.
const TOLD_BY: usize = 5;

/// What is done about what has come so far.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    /// More has to come.
    Wait,
    /// This is said, and nothing more.
    Say(Vec<u8>),
}

impl Connection<'_> {
    /// Answers a client that began with `octets`, in clear, as a web server would that calls itself `server`.
    pub(super) async fn astray<S>(&self, mut stream: S, octets: BytesMut, server: &str) -> Result<Reason, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.strange("not TLS").await;
        let (mut came, mut recorded) = (octets, 0);
        let said = loop {
            self.recorder.data(0, Stream::Input, &came.clone().split_off(recorded).freeze()).await;
            recorded = came.len();
            match answer(server, &came, Utc::from_micros(self.settings.face.second().saturating_mul(1_000_000))) {
                Then::Say(said) => break said,
                Then::Wait => {}
            }
            let room = MOST.saturating_sub(came.len()).max(1);
            came.reserve(room.min(1024));
            let read = timeout_at(self.patience, stream.read_buf(&mut (&mut came).limit(room))).await;
            // Half a request of whom nothing more comes from is never answered.
            if read.unwrap_or(Ok(0))? == 0 {
                break Vec::new();
            }
        };
        if !said.is_empty() {
            self.recorder.data(0, Stream::Output, &said.clone().into()).await;
        }
        handshake::leave(stream, &said).await;
        Err(Failure::Why(Reason::ProtocolError, "not TLS".to_owned()))
    }

    /// Reads on until OpenSSL would know that this is no TLS.
    pub(super) async fn until_told<S: AsyncRead + Unpin>(&self, stream: &mut S, octets: &mut BytesMut) {
        while octets.len() < TOLD_BY {
            let room = TOLD_BY - octets.len();
            let read = timeout_at(self.patience, stream.read_buf(&mut (&mut *octets).limit(room))).await;
            if !read.is_ok_and(|read| read.is_ok_and(|n| n > 0)) {
                return;
            }
        }
    }
}

/// What `server` does when `came` is all that has come by `now`.
fn answer(server: &str, came: &[u8], now: Utc) -> Then {
    match server.split(['/', ' ']).next() {
        Some("nginx") => nginx(server, came, now),
        Some("Apache") => apache(server, came, now),
        _ if came.len() < TOLD_BY => Then::Wait,
        _ => Then::Say(Vec::new()),
    }
}

/// It reads a request whole before it says what is wrong with that.
fn nginx(server: &str, came: &[u8], now: Utc) -> Then {
    // To it that is an SSL 2 record.
    if came.first().is_some_and(|first| first & 0x80 != 0) {
        return Then::Say(Vec::new());
    }
    let page = |body: &str, with_body| {
        let (date, length) = (now.http(), body.len().to_string());
        let fields = [("Server", server), ("Date", &date), ("Content-Type", "text/html")];
        whole(&[&fields[..], &[("Content-Length", &length), ("Connection", "close")]].concat(), body, with_body)
    };
    let wrong = || {
        let status = "400 Bad Request";
        let body = format!(
            "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
             <hr><center>{server}</center>\r\n</body>\r\n</html>\r\n"
        );
        Then::Say(page(&body, true))
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(came);
    let body = astray(server).and_then(|body| String::from_utf8(body).ok()).unwrap_or_default();
    match parsed {
        Ok(httparse::Status::Complete(_)) => {
            let has_host = request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("host"));
            let method = request.method.unwrap_or_default();
            let is_method = method.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'_' | b'-'));
            let path = request.path.unwrap_or_default();
            let is_target = path.starts_with('/') || path.contains("://");
            if !is_method || !is_target || (request.version == Some(1) && !has_host) {
                return wrong();
            }
            Then::Say(page(&body, method != "HEAD"))
        }
        Ok(httparse::Status::Partial) if came.len() < MOST => Then::Wait,
        // HTTP/0.9 knows no status and no headers.
        Err(httparse::Error::Version | httparse::Error::NewLine | httparse::Error::Token) if is_simple(came) => {
            Then::Say(body.into_bytes())
        }
        _ => wrong(),
    }
}

/// Whether these octets begin with a request of HTTP/0.9: a method and a path, and nothing else in a line.
fn is_simple(came: &[u8]) -> bool {
    let Some(end) = came.iter().position(|b| *b == b'\n') else { return false };
    let line = came[..end].strip_suffix(b"\r").unwrap_or(&came[..end]);
    line.strip_prefix(b"GET /").is_some_and(|path| path.iter().all(|b| (b'!'..=b'~').contains(b)))
}

/// It says so as soon as OpenSSL tells it that this is HTTP, whatever the request is.
fn apache(server: &str, came: &[u8], now: Utc) -> Then {
    if came.len() < TOLD_BY {
        return Then::Wait;
    }
    let is_http = [&b"GET "[..], b"POST ", b"HEAD ", b"PUT "].iter().any(|method| came.starts_with(method));
    let body = astray(server).filter(|_| is_http).and_then(|body| String::from_utf8(body).ok());
    Then::Say(body.map_or_else(Vec::new, |body| {
        let (date, length) = (now.http(), body.len().to_string());
        let fields = [("Date", &date[..]), ("Server", server), ("Content-Length", &length), ("Connection", "close")];
        whole(&[&fields[..], &[("Content-Type", "text/html; charset=iso-8859-1")]].concat(), &body, true)
    }))
}

/// An answer of these header fields.
fn whole(fields: &[(&str, &str)], body: &str, with_body: bool) -> Vec<u8> {
    let mut said = "HTTP/1.1 400 Bad Request\r\n".to_owned();
    for (name, value) in fields {
        said += &format!("{name}: {value}\r\n");
    }
    said += "\r\n";
    if with_body {
        said += body;
    }
    said.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NGINX: &str = "nginx/1.22.1";
    const APACHE: &str = "Apache/2.4.62 (Debian)";

    fn said(server: &str, came: &[u8]) -> Option<String> {
        match answer(server, came, Utc::from_micros(784_111_777_000_000)) {
            Then::Wait => None,
            Then::Say(said) => Some(String::from_utf8(said).unwrap()),
        }
    }

    #[test]
    fn nginx_says_what_is_wrong_when_a_request_is_whole() {
        for part in [&b"G"[..], b"GET / HTTP/1.1\r\nHost: a\r\n", b"\r\n\r\n"] {
            assert_eq!(said(NGINX, part), None, "{part:?}");
        }
        let page = "<title>400 The plain HTTP request was sent to HTTPS port</title>";
        let answer = said(NGINX, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let head = "HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                    Content-Type: text/html\r\nContent-Length: 255\r\nConnection: close\r\n\r\n";
        assert!(answer.starts_with(head) && answer.contains(page) && answer.len() == head.len() + 255, "{answer}");
        assert_eq!(said(NGINX, b"HEAD / HTTP/1.0\r\n\r\n").unwrap(), head);
        assert!(said(NGINX, b"GET /\r\n").unwrap().starts_with("<html>\r\n<head><title>400 The plain"));
        for wrong in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"a LOGIN b c\r\n", b"\x01\x02\r\n\r\n", &[b'A'; MOST]] {
            assert!(said(NGINX, wrong).unwrap().contains("<title>400 Bad Request</title>"), "{wrong:?}");
        }
        assert_eq!(said(NGINX, b"\x80\x2e\x01").unwrap(), "");
    }

    #[test]
    fn apache_says_it_to_what_openssl_takes_for_http() {
        assert_eq!(said(APACHE, b"GET "), None);
        for method in ["GET /", "HEAD /", "POST /", "PUT /"] {
            let answer = said(APACHE, method.as_bytes()).unwrap();
            let head = "HTTP/1.1 400 Bad Request\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: Apache/2.4.62 (Debian)\r\n\
                        Content-Length: ";
            assert!(answer.starts_with(head) && answer.contains("speaking plain HTTP"), "{answer}");
        }
        for other in ["OPTIONS / HTTP/1.0\r\n\r\n", "EHLO x\r\n"] {
            assert_eq!(said(APACHE, other.as_bytes()).unwrap(), "");
        }
    }

    #[test]
    fn others_hang_up() {
        assert_eq!(said("lighttpd/1.4.69", b"GET "), None);
        assert_eq!(said("lighttpd/1.4.69", b"GET / HTTP/1.0\r\n\r\n").unwrap(), "");
    }
}
