//! HTTP/2 (RFC 9113): who asks for what in which stream, and how that is answered.
//!
//! Of frames only those with fields are looked into, and those that say how fields are to be read.

mod frame;
mod hpack;
#[cfg(test)]
mod hpack_tests;
mod huffman;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::asked::{Asked, Place};
use super::http::{Agreed, answered, basic};
use super::line::MOST;
use super::{Observer, Stream};
use crate::relay::tape::{Entry, Text};
use frame::{Frame, Frames, Kind};
use hpack::Decoder;

/// With what a client begins (RFC 9113 §3.4); behind it are frames.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The type of a frame with settings, which is a server's first.
pub(super) const SETTINGS: u8 = 4;

/// Octets of a head as they come: servers take less, or little more.
const BLOCK: usize = 64 << 10;
/// Streams whose answer is waited for, as they came with a user and password: about as many as servers take at a time.
const LOGINS: usize = 128;
/// Streams of which it is known what they are for.
const STREAMS: usize = 1024;
/// How many octets may be told for each one that came, and before that: a table has long ones, which one may stand for.
const MORE: u64 = 128;
const FIRST: u64 = 1 << 20;

/// A connection, behind [`PREFACE`].
#[derive(Default)]
pub(super) struct Http2 {
    /// What is still to come of that, where it was HTTP/1 before.
    preface: &'static [u8],
    requests: Side,
    answers: Side,
    /// Users and passwords of streams that are not answered.
    logins: BTreeMap<u32, (Text, Text)>,
    /// What streams are for that are not answered.
    places: BTreeMap<u32, Place>,
    /// Where the host has asked for users and passwords.
    asked: Asked,
    /// Octets that have come, and of what is told.
    came: u64,
    told: u64,
}

/// One direction.
#[derive(Default)]
struct Side {
    frames: Frames,
    fields: Decoder,
    block: Option<Block>,
}

/// A head that goes on in the next frame.
struct Block {
    stream: u32,
    /// The server says what the client would ask for.
    is_promise: bool,
    octets: Vec<u8>,
}

/// What is of interest in a head.
#[derive(Default)]
struct Head {
    method: Vec<u8>,
    path: Vec<u8>,
    authority: Vec<u8>,
    host: Vec<u8>,
    agent: Vec<u8>,
    authorization: Vec<u8>,
    status: Option<u16>,
    length: Option<u64>,
}

impl Head {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        let place = match name {
            b":method" => &mut self.method,
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            b"host" => &mut self.host,
            b"user-agent" => &mut self.agent,
            b"authorization" => &mut self.authorization,
            b":status" => return self.status = number(value).and_then(|status| status.try_into().ok()),
            b"content-length" => return self.length = number(value),
            _ => return,
        };
        place.clear();
        place.extend_from_slice(value.get(..MOST).unwrap_or(value));
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Side {
    /// Takes a part of a head; all of it once it is complete.
    fn head(&mut self, frame: Frame, payload: Vec<u8>) -> Result<Option<(u32, Head)>, &'static str> {
        let mut block = match (frame.kind, self.block.take()) {
            (Kind::Continuation, Some(mut block)) => {
                block.octets.extend_from_slice(&payload);
                block
            }
            (kind, _) => {
                let is_promise = kind == Kind::Promise;
                let octets = frame.fields(&payload).ok_or("a frame that is cut")?.to_vec();
                Block { stream: frame.stream, is_promise, octets }
            }
        };
        if !frame.ends_head() {
            self.block = Some(block);
            return Ok(None);
        }
        let mut head = Head::default();
        let octets = std::mem::take(&mut block.octets);
        self.fields.decode(&octets, |name, value| head.field(name, value))?;
        Ok(Some((block.stream, head)).filter(|_| !block.is_promise))
    }

    /// A frame begins. Whether its payload is of interest.
    fn begins(&self, frame: Frame, from: Stream) -> Result<bool, &'static str> {
        let before = self.block.as_ref().map_or(0, |block| block.octets.len());
        let is_next = self.block.as_ref().is_some_and(|block| block.stream == frame.stream);
        match frame.kind {
            Kind::Continuation if !is_next => Err("the rest of no head"),
            Kind::Continuation | Kind::Headers | Kind::Promise if frame.stream == 0 => Err("a head of no stream"),
            Kind::Promise if from == Stream::Input => Err("a promise of a client's"),
            kind if self.block.is_some() && kind != Kind::Continuation => Err("a head that is not gone on with"),
            Kind::Continuation | Kind::Headers | Kind::Promise | Kind::Settings => {
                if frame.length > BLOCK - before.min(BLOCK) {
                    return Err("a head, or settings, without an end");
                }
                Ok(true)
            }
            Kind::Reset | Kind::Other => Ok(false),
        }
    }
}

impl Observer for Http2 {
    fn see(&mut self, from: Stream, octets: &[u8], told: &mut Vec<Entry>) -> Result<(), &'static str> {
        let mut rest = octets;
        if from == Stream::Input {
            let len = self.preface.len().min(rest.len());
            if rest.get(..len) != self.preface.get(..len) {
                return Err("no HTTP/2");
            }
            (self.preface, rest) = (self.preface.get(len..).unwrap_or_default(), rest.get(len..).unwrap_or_default());
        }
        while !rest.is_empty() {
            let side = if from == Stream::Input { &mut self.requests } else { &mut self.answers };
            let (n, begun) = side.frames.take(rest);
            (self.came, rest) = (self.came + n as u64, rest.get(n..).unwrap_or_default());
            if let Some((frame, is_first)) = begun {
                // Both sides begin with them (RFC 9113 §3.4), which nothing else looks like.
                if is_first && (frame.kind != Kind::Settings || frame.is_acknowledged()) {
                    return Err("no HTTP/2");
                }
                let is_wanted = side.begins(frame, from)?;
                side.frames.wants(is_wanted);
            }
            if let Some((frame, payload)) = side.frames.complete() {
                self.frame(from, frame, payload, told)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, told: &mut Vec<Entry>) {
        let streams: Vec<u32> = self.logins.keys().copied().collect();
        streams.into_iter().for_each(|stream| self.is_answered(stream, None, told));
    }
}

impl Http2 {
    /// A connection with a host that has asked for users and passwords there.
    pub(super) fn new(asked: Asked) -> Http2 {
        Http2 { asked, ..Http2::default() }
    }

    /// One that was HTTP/1 before: the request that asked for it is stream 1, which may have come with a user and password,
    /// and which had the client's settings with it.
    pub(super) fn upgraded(agreed: Agreed) -> Http2 {
        let mut http = Http2 { preface: PREFACE, ..Http2::new(agreed.asked) };
        http.logins.extend(agreed.login.map(|login| (1, login)));
        http.places.insert(1, agreed.place);
        frame::table_sizes(&agreed.settings).for_each(|size| http.answers.fields.allow(size));
        http
    }

    /// A frame is complete.
    fn frame(
        &mut self,
        from: Stream,
        frame: Frame,
        payload: Vec<u8>,
        told: &mut Vec<Entry>,
    ) -> Result<(), &'static str> {
        let is_input = from == Stream::Input;
        let (side, other) = match is_input {
            true => (&mut self.requests, &mut self.answers),
            false => (&mut self.answers, &mut self.requests),
        };
        match frame.kind {
            Kind::Headers | Kind::Promise | Kind::Continuation => match side.head(frame, payload)? {
                Some((stream, head)) if is_input => self.request(stream, head, told)?,
                Some((stream, head)) => self.answer(stream, &head, told),
                None => {}
            },
            // How large a table is that the other side may use.
            Kind::Settings => frame::table_sizes(&payload).for_each(|size| other.fields.allow(size)),
            // There will be no answer.
            Kind::Reset => self.is_answered(frame.stream, None, told),
            Kind::Other => {}
        }
        Ok(())
    }

    fn request(&mut self, stream: u32, head: Head, told: &mut Vec<Entry>) -> Result<(), &'static str> {
        // What comes behind a body.
        if head.method.is_empty() {
            return Ok(());
        }
        let host = if head.authority.is_empty() { &head.host } else { &head.authority };
        // `CONNECT` has no path; HTTP/1 has what it asks for in its place.
        let path = if head.path.is_empty() { &head.authority } else { &head.path };
        let texts = [&head.method, path, host, &head.agent].map(Text::new);
        let told_now = texts.iter().map(|text| text.as_str().len()).sum::<usize>() + head.authorization.len();
        self.told += told_now as u64;
        if self.told > FIRST + MORE.saturating_mul(self.came) {
            return Err("far more than came");
        }
        let place = self.asked.place(&head.path);
        let [method, path, host, agent] = texts;
        told.push(Entry::Http { method, path, host, agent, stream: Some(stream) });
        // One that nobody will answer, as another one follows in its stream.
        self.is_answered(stream, None, told);
        if self.places.len() < STREAMS {
            self.places.insert(stream, place);
        }
        match basic(&head.authorization) {
            Some(login) if self.logins.len() < LOGINS => _ = self.logins.insert(stream, login),
            Some(login) => told.push(answered(login, place, None)),
            None => {}
        }
        Ok(())
    }

    fn answer(&mut self, stream: u32, head: &Head, told: &mut Vec<Entry>) {
        // What comes behind a body, and what nobody has asked for: streams of even numbers are the server's.
        let Some(status) = head.status.filter(|_| stream % 2 == 1) else { return };
        told.push(Entry::Status { status, length: head.length, stream: Some(stream) });
        if !(100..200).contains(&status) {
            self.is_answered(stream, Some(status), told);
        }
    }

    /// What a stream was for is answered so, or not at all.
    fn is_answered(&mut self, stream: u32, status: Option<u16>, told: &mut Vec<Entry>) {
        let (login, place) = (self.logins.remove(&stream), self.places.remove(&stream));
        if status == Some(401)
            && let Some(place) = place
        {
            self.asked.refused(place);
        }
        told.extend(login.map(|login| answered(login, place.unwrap_or_default(), status)));
    }
}
