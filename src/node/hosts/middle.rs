//! Connections into containers with somebody in the middle: the attacker is connected to a relay on the control side, by a
//! pipe, and the relay to the container, by another one, when it has dialed. What the container sees is still the
//! attacker's own address and port.

#[cfg(test)]
mod tests;

use super::super::Cx;
use super::Hosts;
use super::connection::FIRST_ATTEMPT;
use super::flow::{App, Flow, poll_pipe};
use super::patience;
use crate::stack::{Conn, PipeEnd, Sockets};
use crate::wire::Instant;

/// Who is in the middle.
pub(super) struct Middle {
    /// To the relay, from the attacker's connection.
    pub attacker: PipeEnd,
    /// To the relay, from the connection inside, from when it dials until that is over.
    pub inside: Option<PipeEnd>,
}

impl Middle {
    /// Octets that its pipes hold.
    pub(super) fn held(&self) -> usize {
        self.attacker.held() + self.inside.as_ref().map_or(0, PipeEnd::held)
    }
}

/// Whom the connection inside is for.
pub(super) enum Outer<'a> {
    Attacker(&'a mut Conn),
    Relay(&'a mut PipeEnd),
}

impl Outer<'_> {
    /// Shows `f` some of what has come, which takes some of it; returns how much.
    pub(super) fn recv(&mut self, f: impl FnOnce(&[u8]) -> usize) -> usize {
        match self {
            Outer::Attacker(conn) => conn.recv(f),
            Outer::Relay(pipe) => pipe.read_with(f),
        }
    }

    /// Sends what there is room for; returns how much.
    pub(super) fn send(&mut self, bytes: &[u8], now: Instant, sockets: &mut Sockets) -> usize {
        match self {
            Outer::Attacker(conn) => conn.send(bytes, now, sockets),
            Outer::Relay(pipe) => pipe.write(bytes),
        }
    }

    /// Octets that can be sent.
    pub(super) fn room(&self) -> usize {
        match self {
            Outer::Attacker(conn) => conn.room(),
            Outer::Relay(pipe) => pipe.writable(),
        }
    }

    /// Whether nothing more will come.
    pub(super) fn at_end(&self) -> bool {
        match self {
            Outer::Attacker(conn) => conn.at_end(),
            Outer::Relay(pipe) => pipe.at_end(),
        }
    }
}

impl Flow {
    fn middle(&mut self) -> Option<&mut Middle> {
        match &mut self.app {
            App::Inner(inner) => inner.middle.as_mut(),
            _ => None,
        }
    }

    /// What is behind it does not answer, or no longer: a relay that has dialed is told so, any other attacker is reset.
    pub(super) fn fail(&mut self, now: Instant) {
        match &mut self.app {
            App::Inner(inner) if inner.middle.is_some() => {
                let say = if inner.established { PipeEnd::reset } else { PipeEnd::refuse };
                inner
                    .middle
                    .iter_mut()
                    .filter_map(|middle| middle.inside.take())
                    .for_each(|mut inside| say(&mut inside));
            }
            _ => self.abort(now),
        }
    }

    /// What is behind it has said everything.
    pub(super) fn hang_up(&mut self, now: Instant) {
        match self.middle() {
            Some(middle) => middle.inside.iter_mut().for_each(PipeEnd::finish),
            None => self.close(now),
        }
    }
}

impl Hosts {
    /// Does what a relay in the middle of a connection, if there is one, has to have done. Whether there is a
    /// connection inside to look after, or to make.
    pub(super) fn drive_middle(&mut self, index: usize, cx: &mut Cx<'_>) -> bool {
        let Some(flow) = self.flows.slab.get_mut(index) else { return false };
        let App::Inner(inner) = &mut flow.app else { return false };
        let Some(middle) = &mut inner.middle else { return true };
        let dialed = middle.attacker.take_dialed();
        let conn = inner.conn.as_ref();
        let is_closed = conn.is_some_and(|conn| (conn.is_closed() || conn.is_time_wait()) && !conn.has_data());
        let is_over = |inside: &PipeEnd| {
            inside.take_due();
            inside.is_reset() || (is_closed && inside.at_end())
        };
        if dialed.is_some() || middle.inside.as_ref().is_some_and(is_over) {
            // Whoever has said everything does not give up.
            middle.inside.iter_mut().filter(|_| is_closed).for_each(PipeEnd::finish);
            middle.inside = dialed;
            self.end_dialed(index, cx);
        }
        let Some(flow) = self.flows.slab.get_mut(index) else { return false };
        poll_pipe(flow, &mut self.sockets, cx);
        let App::Inner(inner) = &flow.app else { return false };
        let is_dialed = inner.middle.as_ref().is_some_and(|middle| middle.inside.is_some());
        if !is_dialed && (inner.conn.is_some() || inner.lease != patience::NONE) {
            self.end_dialed(index, cx);
        }
        is_dialed
    }

    /// Ends the connection inside that a relay had dialed, and has the next one begin from the start.
    fn end_dialed(&mut self, index: usize, cx: &mut Cx<'_>) {
        self.hang_up_inside(index, cx);
        self.flows.adopt(index, patience::NONE, cx.now);
        let Some(Flow { app: App::Inner(inner), .. }) = self.flows.slab.get_mut(index) else { return };
        (inner.since, inner.retry_at, inner.attempt) = (cx.now, cx.now, FIRST_ATTEMPT);
        (inner.given, inner.tries, inner.deaf_since) = (0, 0, None);
        (inner.established, inner.clock) = (false, None);
    }
}
