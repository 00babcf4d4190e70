//! HTTP, of which version its first octets say, or a client and a server that agree to go on with another one.

use super::http::Http;
use super::http2::{Http2, PREFACE, SETTINGS};
use super::{Asked, Observer, Stream};
use crate::relay::tape::Entry;

/// Octets of a server that says something before its client has said which version it speaks: settings of HTTP/2, and what
/// is there to open the windows.
const EARLY: usize = 16 << 10;

/// A connection.
pub(super) enum Web {
    /// Its client has said so much of what HTTP/2 begins with, and its server that.
    Unknown(usize, Vec<u8>, Asked),
    One(Box<Http>),
    Two(Box<Http2>),
}

impl Web {
    /// One with a host that has asked for users and passwords there.
    pub(super) fn new(asked: Asked) -> Web {
        Web::Unknown(0, Vec::new(), asked)
    }
}

impl Observer for Web {
    fn see(&mut self, from: Stream, octets: &[u8], told: &mut Vec<Entry>) -> Result<(), &'static str> {
        match self {
            Web::One(http) => {
                let seen = http.see(from, octets, told)?;
                let Some(mut agreed) = http.agreed() else { return Ok(()) };
                let held = std::mem::take(&mut agreed.held);
                *self = Web::Two(Box::new(Http2::upgraded(agreed)));
                self.see(Stream::Input, &held, told)?;
                self.see(from, octets.get(seen..).unwrap_or_default(), told)
            }
            Web::Two(http) => http.see(from, octets, told),
            Web::Unknown(said, _, asked) if from == Stream::Input => {
                let expected = PREFACE.get(*said..).unwrap_or_default();
                let same = octets.iter().zip(expected).take_while(|(octet, expected)| octet == expected).count();
                *said += same;
                let rest = octets.get(same..).unwrap_or_default();
                if *said == PREFACE.len() {
                    let http = Http2::new(asked.clone());
                    self.is(Web::Two(Box::new(http)), told)?;
                } else if !rest.is_empty() {
                    let http = Http::new(asked.clone());
                    self.is(Web::One(Box::new(http)), told)?;
                } else {
                    return Ok(());
                }
                self.see(from, rest, told)
            }
            Web::Unknown(_, heard, asked) => {
                heard.extend_from_slice(octets);
                match heard.get(3) {
                    // The type of a frame.
                    Some(kind) if *kind != SETTINGS => {
                        let http = Http::new(asked.clone());
                        self.is(Web::One(Box::new(http)), told)
                    }
                    _ if heard.len() > EARLY => Err("an answer before it is known to what"),
                    _ => Ok(()),
                }
            }
        }
    }

    fn end(&mut self, told: &mut Vec<Entry>) {
        match self {
            Web::Unknown(..) => {}
            Web::One(http) => http.end(told),
            Web::Two(http) => http.end(told),
        }
    }
}

impl Web {
    /// Goes on with a version, which sees what was said before.
    fn is(&mut self, version: Web, told: &mut Vec<Entry>) -> Result<(), &'static str> {
        let Web::Unknown(said, heard, _) = std::mem::replace(self, version) else { return Ok(()) };
        if let Web::One(http) = self {
            http.see(Stream::Input, PREFACE.get(..said).unwrap_or_default(), told)?;
        }
        self.see(Stream::Output, &heard, told)
    }
}
