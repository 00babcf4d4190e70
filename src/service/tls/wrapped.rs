//! A service within TLS: from the first octet to the last alert.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::ServerConfig;

use super::channel::{Channel, Inside};
use super::hello::{First, first};
use super::{Notary, Owner, Secured};
use crate::event::EventId;
use crate::service::inline::{Inline, Stream, Then};
use crate::service::library::Caller;
use crate::wire::{Duration, Instant};

/// How long a handshake may take, and an alert to leave: nginx's `client_header_timeout` and `send_timeout`.
const PATIENCE: Duration = Duration::from_secs(60);

/// `decode_error`, fatal, as a record.
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];

/// The state of a connection to a service within TLS.
pub struct Wrapped {
    caller: Caller,
    state: State,
    /// When this state began.
    since: Instant,
}

enum State {
    /// The ClientHello is not whole.
    Listens,
    /// It is, and waits for its turn, if it has got one.
    Waits(Option<Instant>),
    /// The notary had it begin.
    Begins(Arc<ServerConfig>),
    /// Records pass; the service within is there once keys are agreed upon.
    Speaks(Box<Channel>, Option<Inline>),
    /// The client does not speak TLS, and the service answers that.
    Clear(Inline),
    /// The last octets have to leave.
    Ends(Box<Channel>),
    /// It is over.
    Over,
}

impl Wrapped {
    /// A new connection of `caller`.
    pub fn new(caller: Caller) -> Wrapped {
        Wrapped { caller, state: State::Listens, since: caller.now }
    }

    /// Does what can be done now.
    pub fn poll(&mut self, secured: &Secured, now: Instant, stream: &mut dyn Stream) -> Then {
        loop {
            let next = match &mut self.state {
                State::Listens => match self.listen(secured, now, stream) {
                    Some(next) => next,
                    None => break,
                },
                State::Begins(config) => match Channel::new(config.clone()) {
                    Some(channel) => State::Speaks(Box::new(channel), None),
                    None => State::Over,
                },
                State::Speaks(channel, inner) => {
                    if inner.is_none() {
                        channel.pump(stream);
                        if !channel.is_handshaking() {
                            *inner = Inline::new(&secured.inner, Caller { now, ..self.caller });
                        }
                    }
                    let then = match inner {
                        _ if channel.has_failed() => Then::Close,
                        Some(inner) => inner.poll(&secured.inner, now, &mut Inside { channel, stream }),
                        None if stream.at_end() => Then::Close,
                        None => Then::Stay,
                    };
                    // What the service has not taken may have failed meanwhile.
                    if then == Then::Stay && !channel.has_failed() {
                        break;
                    }
                    channel.close(stream);
                    match std::mem::replace(&mut self.state, State::Over) {
                        State::Speaks(channel, _) => State::Ends(channel),
                        other => other,
                    }
                }
                State::Ends(channel) => match channel.flush(stream) {
                    true => State::Over,
                    false => break,
                },
                State::Clear(inner) => return inner.poll(&secured.inner, now, stream),
                State::Waits(_) => break,
                State::Over => {
                    let left = stream.peek().len();
                    stream.take(left);
                    return Then::Close;
                }
            };
            if !matches!(next, State::Speaks(..)) {
                self.since = now;
            }
            self.state = next;
        }
        let is_patient = self.deadline_of_state().is_none_or(|at| now < at);
        if is_patient { Then::Stay } else { Then::Close }
    }

    /// Looks at what came first; nothing as long as that is not enough.
    fn listen(&self, secured: &Secured, now: Instant, stream: &mut dyn Stream) -> Option<State> {
        match first(stream.peek()) {
            First::Part if stream.is_last() => Some(State::Over),
            First::Part => None,
            First::Hello(hello) => {
                hello.write(&mut |id: EventId, data: &[u8]| stream.tell(id, data));
                Some(State::Waits(None))
            }
            // OpenSSL leaves without a word where it is spoken to in clear.
            First::Other => {
                let inner = Inline::in_clear(&secured.inner, now);
                Some(inner.map_or(State::Over, State::Clear))
            }
            First::Broken => {
                stream.send(&ALERT);
                Some(State::Over)
            }
        }
    }

    /// Asks the notary for what it waits for. Whether it goes on now.
    pub fn serve(&mut self, secured: &Secured, notary: &mut Notary, owner: &dyn Fn() -> Owner, now: Instant) -> bool {
        let State::Waits(turn) = &mut self.state else { return false };
        if turn.is_some_and(|at| now < at) {
            return false;
        }
        let owner = owner();
        let source: IpAddr = self.caller.from;
        let at = turn.or_else(|| notary.turn(source, &owner, &secured.credentials, now));
        self.state = match at {
            Some(at) if now < at => State::Waits(Some(at)),
            Some(_) => notary.config(secured, &owner, now).map_or(State::Over, State::Begins),
            None => State::Over,
        };
        !matches!(self.state, State::Waits(_))
    }

    /// Octets that it keeps.
    pub fn kept(&self) -> usize {
        size_of::<Wrapped>()
            + match &self.state {
                State::Speaks(channel, inner) => {
                    size_of::<Channel>() + channel.kept() + inner.as_ref().map_or(0, Inline::kept)
                }
                State::Ends(channel) => size_of::<Channel>() + channel.kept(),
                State::Clear(inner) => inner.kept(),
                State::Listens | State::Waits(_) | State::Begins(_) | State::Over => 0,
            }
    }

    /// When it gives up, or has something to do though nothing came.
    pub fn deadline(&self, secured: &Secured) -> Option<Instant> {
        let inner = match &self.state {
            State::Waits(turn) => *turn,
            State::Speaks(_, Some(inner)) | State::Clear(inner) => inner.deadline(&secured.inner),
            _ => None,
        };
        inner.into_iter().chain(self.deadline_of_state()).min()
    }

    fn deadline_of_state(&self) -> Option<Instant> {
        let is_bounded = !matches!(self.state, State::Speaks(_, Some(_)) | State::Clear(_));
        is_bounded.then(|| self.since + PATIENCE)
    }
}
