//! HTTP, of which version its first octets say, or a client and a server that agree to go on with another one.

use super::http::Http;
use super::http2::{Http2, PREFACE, SETTINGS};
use super::{Observer, Stream};
use crate::relay::tape::Entry;

/// Octets of a server that says something before its client has said which version it speaks: settings of HTTP/2, and what
/// is there to open the windows.
const EARLY: usize = 16 << 10;

/// A connection.
pub(super) enum Web {
    /// Its client has said so much of what HTTP/2 begins with, and its server that.
    Unknown(usize, Vec<u8>),
    One(Box<Http>),
    Two(Box<Http2>),
}

impl Default for Web {
    fn default() -> Web {
        Web::Unknown(0, Vec::new())
    }
}

impl Observer for Web {
    fn see(&mut self, from: Stream, octets: &[u8], told: &mut Vec<Entry>) -> Result<(), &'static str> {
        match self {
            Web::One(http) => {
                let seen = http.see(from, octets, told)?;
                let Some(agreed) = http.agreed() else { return Ok(()) };
                *self = Web::Two(Box::new(Http2::upgraded(&agreed.settings, agreed.login)));
                self.see(Stream::Input, &agreed.held, told)?;
                self.see(from, octets.get(seen..).unwrap_or_default(), told)
            }
            Web::Two(http) => http.see(from, octets, told),
            Web::Unknown(said, _) if from == Stream::Input => {
                let expected = PREFACE.get(*said..).unwrap_or_default();
                let same = octets.iter().zip(expected).take_while(|(octet, expected)| octet == expected).count();
                *said += same;
                let rest = octets.get(same..).unwrap_or_default();
                if *said == PREFACE.len() {
                    self.is(Web::Two(Box::default()), told)?;
                } else if !rest.is_empty() {
                    self.is(Web::One(Box::default()), told)?;
                } else {
                    return Ok(());
                }
                self.see(from, rest, told)
            }
            Web::Unknown(_, heard) => {
                heard.extend_from_slice(octets);
                match heard.get(3) {
                    // The type of a frame.
                    Some(kind) if *kind != SETTINGS => self.is(Web::One(Box::default()), told),
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
        let Web::Unknown(said, heard) = std::mem::replace(self, version) else { return Ok(()) };
        if let Web::One(http) = self {
            http.see(Stream::Input, PREFACE.get(..said).unwrap_or_default(), told)?;
        }
        self.see(Stream::Output, &heard, told)
    }
}
