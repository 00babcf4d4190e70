//! Services that answer within the data plane: they see the bytes that came and
//! the room there is, and never wait.

use super::library::{Caller, Talk};
use super::names::OverTcp;
use super::tls::{Notary, Owner, Wrapped};
use super::{HttpSite, Page, Service, ServiceKind, web};
use crate::event::EventId;
use crate::wire::{Duration, Instant};

/// The longest request head that the static web server reads (RFC 9112 §2.3 leaves the limit to us).
const MAX_HEAD: usize = 8 * 1024 - 1;
/// The longest form that is waited for; longer ones are skipped, as bodies are where no forms are.
const MAX_FORM: usize = 4096;
/// Headers of a request that are looked at.
const MAX_HEADERS: usize = 64;

/// How long a web client may take for a request, or for reading an answer, without getting on (what nginx
/// calls `client_header_timeout` and `send_timeout` are 60 s, too).
const PATIENCE: Duration = Duration::from_secs(60);

/// The state of one connection to an inline service.
pub enum Inline {
    /// Takes what comes.
    Sink,
    /// Says its piece, then takes what comes.
    Banner {
        /// Octets of the banner already sent.
        said: usize,
        /// Last time that anything came.
        heard: Instant,
    },
    /// Answers requests.
    Http(Box<Http>),
    /// Speaks one of the library's protocols.
    Talk(Box<Talk>),
    /// Tells addresses of names.
    Names(Box<OverTcp>),
    /// Speaks something within TLS.
    Tls(Box<Wrapped>),
}

/// The state of a connection to a static site.
pub struct Http {
    /// When the last request was read, or the last octet of an answer was taken.
    since: Instant,
    /// The present answer.
    answer: Answer,
    /// Octets of it that were sent.
    sent: usize,
    close: bool,
    /// Octets of a request's body that are still to be skipped.
    skip: usize,
    /// Requests come in clear where TLS is spoken.
    is_astray: bool,
}

/// What is answered to a request. A page is not copied for it.
#[derive(Default)]
struct Answer {
    /// The head, and the body of what is no page.
    head: Box<[u8]>,
    /// The page that follows: its place in the site.
    page: Option<usize>,
}

impl Answer {
    /// What lies together from octet `at` on; nothing at the end.
    fn from<'a>(&'a self, at: usize, site: &'a HttpSite) -> &'a [u8] {
        let page = || site.pages.values().nth(self.page?)?.body.get(at - self.head.len()..);
        self.head.get(at..).filter(|head| !head.is_empty()).or_else(page).unwrap_or_default()
    }
}

/// What an inline service sees of its connection.
pub trait Stream {
    /// What has come and was not taken yet, as one slice.
    fn peek(&mut self) -> &[u8];
    /// Takes `n` octets of it.
    fn take(&mut self, n: usize);
    /// Sends some of `bytes`; returns how much.
    fn send(&mut self, bytes: &[u8]) -> usize;
    /// Whether the peer will send no more, and all that it sent was taken.
    fn at_end(&mut self) -> bool;
    /// Whether the peer will send no more than what [`Stream::peek`] shows.
    fn is_last(&mut self) -> bool;
    /// Tells of a request that was understood, or of an attempt to log in.
    fn tell(&mut self, id: EventId, data: &[u8]);
}

/// What is to become of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// It goes on.
    Stay,
    /// It is closed once everything was sent.
    Close,
}

impl Inline {
    /// The state for a new connection; `None` if the service is not an inline one.
    pub fn new(service: &Service, caller: Caller) -> Option<Inline> {
        let now = caller.now;
        match &service.kind {
            ServiceKind::Sink => Some(Inline::Sink),
            ServiceKind::Banner { .. } => Some(Inline::Banner { said: 0, heard: now }),
            ServiceKind::Http(_) => Some(Inline::Http(Box::new(Http::new(now, false)))),
            ServiceKind::Tls(_) => Some(Inline::Tls(Box::new(Wrapped::new(caller)))),
            ServiceKind::Library(profile) => Some(Inline::Talk(Box::new(Talk::new(profile, caller)))),
            ServiceKind::Names(_) => Some(Inline::Names(Box::new(OverTcp::new(now)))),
            ServiceKind::Script(_) | ServiceKind::Proxy(_) | ServiceKind::Container | ServiceKind::Recorded(_) => None,
        }
    }

    /// What answers a client that does not speak TLS to a service within it; `None` if nothing does.
    pub(super) fn in_clear(inner: &Service, now: Instant) -> Option<Inline> {
        let ServiceKind::Http(site) = &inner.kind else { return None };
        web::astray(&site.server).map(|_| Inline::Http(Box::new(Http::new(now, true))))
    }

    /// Has `notary` give what the connection waits for: a certificate, and leave to begin. Whether it is to be polled
    /// again now. `owner` says whose certificate it is.
    pub fn serve(
        &mut self,
        service: &Service,
        notary: &mut Notary,
        owner: &dyn Fn(&Service) -> Owner,
        now: Instant,
    ) -> bool {
        match (self, &service.kind) {
            (Inline::Tls(tls), ServiceKind::Tls(secured)) => tls.serve(secured, notary, &|| owner(&secured.inner), now),
            _ => false,
        }
    }

    /// Does what can be done now.
    pub fn poll(&mut self, service: &Service, now: Instant, stream: &mut dyn Stream) -> Then {
        match (self, &service.kind) {
            (Inline::Banner { said, heard }, ServiceKind::Banner { banner, close_after_secs }) => {
                if *said < banner.len() {
                    *said += stream.send(&banner[*said..]);
                }
                if drain(stream) > 0 {
                    *heard = now;
                }
                let patience = Duration::from_secs(u64::from(*close_after_secs));
                let silent = *close_after_secs > 0 && now - *heard >= patience;
                if stream.at_end() || silent { Then::Close } else { Then::Stay }
            }
            (Inline::Http(http), ServiceKind::Http(site)) => http.poll(site, now, stream),
            (Inline::Talk(talk), ServiceKind::Library(profile)) => talk.poll(profile, now, stream),
            (Inline::Names(tcp), ServiceKind::Names(names)) => tcp.poll(names, now, stream),
            (Inline::Tls(tls), ServiceKind::Tls(secured)) => tls.poll(secured, now, stream),
            _ => {
                drain(stream);
                if stream.at_end() { Then::Close } else { Then::Stay }
            }
        }
    }

    /// Octets that it keeps for this connection.
    pub fn kept(&self) -> usize {
        match self {
            Inline::Http(http) => http.answer.head.len(),
            Inline::Talk(talk) => talk.kept(),
            Inline::Tls(tls) => tls.kept(),
            Inline::Names(tcp) => tcp.kept() + size_of::<OverTcp>(),
            Inline::Sink | Inline::Banner { .. } => 0,
        }
    }

    /// When [`Inline::poll`] wants to be called though nothing came.
    pub fn deadline(&self, service: &Service) -> Option<Instant> {
        match (self, &service.kind) {
            (Inline::Banner { heard, .. }, ServiceKind::Banner { close_after_secs, .. }) if *close_after_secs > 0 => {
                Some(*heard + Duration::from_secs(u64::from(*close_after_secs)))
            }
            (Inline::Http(http), _) => Some(http.since + PATIENCE),
            (Inline::Talk(talk), _) => Some(talk.deadline()),
            (Inline::Names(tcp), _) => Some(tcp.deadline()),
            (Inline::Tls(tls), ServiceKind::Tls(secured)) => tls.deadline(secured),
            _ => None,
        }
    }
}

fn drain(stream: &mut dyn Stream) -> usize {
    let mut total = 0;
    loop {
        let n = stream.peek().len();
        if n == 0 {
            return total;
        }
        stream.take(n);
        total += n;
    }
}

impl Http {
    fn new(now: Instant, is_astray: bool) -> Http {
        Http { since: now, answer: Answer::default(), sent: 0, close: false, skip: 0, is_astray }
    }

    fn poll(&mut self, site: &HttpSite, now: Instant, stream: &mut dyn Stream) -> Then {
        let then = self.serve(site, now, stream);
        if now - self.since >= PATIENCE { Then::Close } else { then }
    }

    fn serve(&mut self, site: &HttpSite, now: Instant, stream: &mut dyn Stream) -> Then {
        loop {
            loop {
                let rest = self.answer.from(self.sent, site);
                if rest.is_empty() {
                    break;
                }
                let sent = stream.send(rest);
                if sent == 0 {
                    return Then::Stay;
                }
                self.sent += sent;
                self.since = now;
            }
            (self.answer, self.sent) = (Answer::default(), 0);
            if self.close {
                drain(stream);
                return Then::Close;
            }
            if self.skip > 0 {
                let n = stream.peek().len().min(self.skip);
                stream.take(n);
                self.skip -= n;
                if n > 0 {
                    self.since = now;
                    continue;
                }
            } else if self.request(site, stream) {
                self.since = now;
                continue;
            }
            // Half a request of whom nothing more comes from is never answered, as by web servers.
            return if stream.is_last() { Then::Close } else { Then::Stay };
        }
    }

    /// Reads one request, if a whole head is there, and prepares its answer.
    fn request(&mut self, site: &HttpSite, stream: &mut dyn Stream) -> bool {
        let bytes = stream.peek();
        if bytes.is_empty() {
            return false;
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let outcome = request.parse(bytes);
        let too_long = bytes.len() >= MAX_HEAD;
        match outcome {
            Ok(httparse::Status::Complete(len)) => {
                let header = |name: &str| {
                    let found = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
                    found.and_then(|h| std::str::from_utf8(h.value).ok()).map(str::trim)
                };
                let body = header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
                let wants_close = match (request.version, header("connection")) {
                    (_, Some(value)) if value.eq_ignore_ascii_case("close") => true,
                    (Some(0), Some(value)) => !value.eq_ignore_ascii_case("keep-alive"),
                    (Some(0), None) => true,
                    _ => header("transfer-encoding").is_some(),
                };
                let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or("/"));
                let is_form = method == "POST" && !site.denied.is_empty() && body <= MAX_FORM.min(MAX_HEAD - len);
                let skip = if is_form { len + body } else { len };
                if bytes.len() < skip {
                    return false;
                }
                let path = if is_form { &site.denied } else { path.split(['?', '#']).next().unwrap_or("/") };
                self.answer = match web::astray(&site.server).filter(|_| self.is_astray) {
                    Some(body) => whole(site, "400 Bad Request", &body, method != "HEAD", true),
                    None => respond(site, method, path, wants_close),
                };
                self.close = wants_close || self.is_astray;
                self.skip = if is_form { 0 } else { body };
                let mut logins = Vec::new();
                let mut tell = |id: EventId, data: &[u8]| logins.push((id, data.to_vec()));
                if let Some(credentials) = header("authorization") {
                    web::basic(credentials.as_bytes(), &mut tell);
                }
                if is_form {
                    web::form(&bytes[len..skip], &mut tell);
                }
                let head = bytes[..len].to_vec();
                stream.tell(EventId::ServiceRequest, &head);
                logins.iter().for_each(|(id, data)| stream.tell(*id, data));
                stream.take(skip);
                true
            }
            Ok(httparse::Status::Partial) if !too_long => false,
            _ => {
                // What is not HTTP is answered as web servers do: 400, and the line is cut.
                let head = bytes[..bytes.len().min(1024)].to_vec();
                stream.tell(EventId::ServiceRequest, &head);
                self.answer = error(site, "400 Bad Request", true, true);
                self.close = true;
                true
            }
        }
    }
}

fn error_body(status: &str, site: &HttpSite) -> Vec<u8> {
    let server = &site.server;
    format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
         <hr><center>{server}</center>\r\n</body>\r\n</html>\r\n"
    )
    .into_bytes()
}

fn respond(site: &HttpSite, method: &str, path: &str, close: bool) -> Answer {
    let path = match path {
        "/index.html" | "" => "/",
        path => path,
    };
    let with_body = method != "HEAD";
    match (method, site.pages.iter().enumerate().find(|(_, (name, _))| *name == path)) {
        ("GET" | "HEAD" | "POST", Some((place, (_, Page { content_type, body })))) => {
            let head = head(site, "200 OK", content_type, body.len(), close);
            Answer { head: head.into(), page: with_body.then_some(place) }
        }
        ("GET" | "HEAD" | "POST", None) => error(site, "404 Not Found", with_body, close),
        _ => error(site, "405 Not Allowed", with_body, close),
    }
}

fn error(site: &HttpSite, status: &str, with_body: bool, close: bool) -> Answer {
    whole(site, status, &error_body(status, site), with_body, close)
}

fn whole(site: &HttpSite, status: &str, body: &[u8], with_body: bool, close: bool) -> Answer {
    let mut answer = head(site, status, "text/html", body.len(), close);
    if with_body {
        answer.extend_from_slice(body);
    }
    Answer { head: answer.into(), page: None }
}

fn head(site: &HttpSite, status: &str, content_type: &str, len: usize, close: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\n");
    if !site.server.is_empty() {
        head += &format!("Server: {}\r\n", site.server);
    }
    head += &format!("Content-Type: {content_type}\r\nContent-Length: {len}\r\n");
    head += if close { "Connection: close\r\n\r\n" } else { "Connection: keep-alive\r\n\r\n" };
    head.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A connection whose peer has sent `came`; `room` octets can be sent at each call.
    #[derive(Default)]
    struct Fake {
        came: Vec<u8>,
        sent: Vec<u8>,
        room: usize,
        end: bool,
        requests: Vec<Vec<u8>>,
        logins: Vec<Vec<u8>>,
    }

    impl Stream for Fake {
        fn peek(&mut self) -> &[u8] {
            &self.came
        }
        fn take(&mut self, n: usize) {
            self.came.drain(..n);
        }
        fn send(&mut self, bytes: &[u8]) -> usize {
            let n = bytes.len().min(self.room);
            self.sent.extend_from_slice(&bytes[..n]);
            n
        }
        fn at_end(&mut self) -> bool {
            self.end && self.came.is_empty()
        }
        fn is_last(&mut self) -> bool {
            self.end
        }
        fn tell(&mut self, id: EventId, data: &[u8]) {
            let told = if id == EventId::ServiceLogin { &mut self.logins } else { &mut self.requests };
            told.push(data.to_vec());
        }
    }

    fn caller(now: Instant) -> Caller {
        Caller { from: [192, 0, 2, 9].into(), seed: 7, now }
    }

    fn site() -> Service {
        let page = Page { content_type: "text/html".into(), body: b"<h1>hi</h1>".to_vec() };
        let pages = BTreeMap::from([("/".to_owned(), page)]);
        Service {
            name: "http".into(),
            kind: ServiceKind::Http(HttpSite { server: "nginx/1.22.1".into(), pages, ..HttpSite::default() }),
        }
    }

    #[test]
    fn serves_pages_in_small_pieces() {
        let (service, now) = (site(), Instant::from_secs(1));
        let mut inline = Inline::new(&service, caller(now)).unwrap();
        let mut fake = Fake {
            came: b"GET /index.html?x=1 HTTP/1.1\r\nHost: a\r\n\r\nGET /no HTTP/1.1\r\nConnection: close\r\n\r\n"
                .to_vec(),
            room: 7,
            ..Fake::default()
        };
        let mut calls = 0;
        while inline.poll(&service, now, &mut fake) == Then::Stay {
            calls += 1;
            assert!(calls < 200);
        }
        let text = String::from_utf8(fake.sent).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\n"), "{text}");
        assert!(text.contains("\r\n\r\n<h1>hi</h1>HTTP/1.1 404 Not Found\r\n"), "{text}");
        assert_eq!(fake.requests.len(), 2);
    }

    #[test]
    fn a_form_is_waited_for_told_and_denied() {
        let site = web::app("webmail", None).unwrap();
        let (service, now) = (Service { name: "w".into(), kind: ServiceKind::Http(site) }, Instant::from_secs(1));
        let mut inline = Inline::new(&service, caller(now)).unwrap();
        let head = "POST /login HTTP/1.1\r\nContent-Length: 20\r\n\r\n_user=a&_p";
        let mut fake = Fake { came: head.into(), room: usize::MAX, ..Fake::default() };
        assert_eq!(inline.poll(&service, now, &mut fake), Then::Stay);
        assert!(fake.sent.is_empty());
        fake.came.extend_from_slice(b"ass=secret");
        inline.poll(&service, now, &mut fake);
        let said = String::from_utf8(fake.sent).unwrap();
        assert!(said.starts_with("HTTP/1.1 200 OK") && said.contains("Login failed."), "{said}");
        assert_eq!(fake.logins, [br#"{"method":"form","user":"a","password":"secret"}"#]);
    }

    #[test]
    fn half_a_request_ends_with_the_peer() {
        let (service, now) = (site(), Instant::from_secs(1));
        for half in ["GET / HT", "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"] {
            let mut inline = Inline::new(&service, caller(now)).unwrap();
            let mut fake = Fake { came: half.into(), room: usize::MAX, ..Fake::default() };
            assert_eq!(inline.poll(&service, now, &mut fake), Then::Stay);
            fake.end = true;
            assert_eq!(inline.poll(&service, now, &mut fake), Then::Close, "{half}");
        }
    }

    #[test]
    fn a_request_that_trickles_in_is_not_waited_for() {
        let (service, start) = (site(), Instant::from_secs(1));
        let mut inline = Inline::new(&service, caller(start)).unwrap();
        let mut fake = Fake { came: b"GET / HTTP/1.1\r\n".to_vec(), room: usize::MAX, ..Fake::default() };
        for second in (0..60).step_by(5) {
            fake.came.extend_from_slice(b"X: y\r\n");
            let now = start + Duration::from_secs(second);
            assert_eq!(inline.poll(&service, now, &mut fake), Then::Stay, "{second}");
        }
        let end = start + Duration::from_secs(60);
        assert_eq!(inline.deadline(&service), Some(end));
        assert_eq!(inline.poll(&service, end, &mut fake), Then::Close);
    }

    #[test]
    fn a_banner_is_said_and_the_silent_are_left() {
        let service = Service {
            name: "ftp".into(),
            kind: ServiceKind::Banner { banner: b"220 hi\r\n".to_vec(), close_after_secs: 30 },
        };
        let mut inline = Inline::new(&service, caller(Instant::from_secs(0))).unwrap();
        let mut fake = Fake { room: 3, ..Fake::default() };
        for _ in 0..3 {
            assert_eq!(inline.poll(&service, Instant::from_secs(1), &mut fake), Then::Stay);
        }
        assert_eq!(fake.sent, b"220 hi\r\n");
        assert_eq!(inline.poll(&service, Instant::from_secs(30), &mut fake), Then::Close);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_answered_or_awaited(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            let (service, now) = (site(), Instant::from_secs(1));
            let mut inline = Inline::new(&service, caller(now)).unwrap();
            let mut fake = Fake { came: bytes, room: usize::MAX, end: true, ..Fake::default() };
            inline.poll(&service, now, &mut fake);
        }
    }
}
