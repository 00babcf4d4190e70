//! Hosts that are something else to some: which case of its template a host is in, for whoever asks.
//!
//! A case depends on the source and on what was known of it when it was first heard, so a host stays the same
//! during a scan and through a session, and all hosts of a template are the same to one source. What is remembered is the
//! source, in a table that forgets fairly: one that is pushed out is met as if for the first time.

use super::super::{Cx, HostsConfig};
use super::{Hosts, Target, event_of};
use crate::emulate::{Asker, ClockTable, OsFamily, SynTraits, Template, WallClock, os_of_syn};
use crate::event::{EventId, PortAnswer, SessionId};
use crate::frame::Frame;
use crate::wire::{Duration, ETH, Instant, Packet, be16, flag, proto};

/// Sources that a node remembers.
const SOURCES: usize = 65_536;

/// What is remembered of a source.
struct Source {
    asker: Asker,
    last: Instant,
}

/// Who has spoken to a node whose templates have cases.
pub(super) struct Sources {
    table: ClockTable<u128, Source>,
    wall: WallClock,
    /// How long a source may be silent before it is new again.
    idle: Duration,
    /// Whether a template has cases: all others cost this one look.
    pub any: bool,
}

impl Sources {
    pub(super) fn new(config: &HostsConfig, wall: WallClock, seed: u64) -> Sources {
        let any = config.templates.iter().any(|template| !template.cases.is_empty());
        let idle = Duration::from_secs(u64::from(config.limits.session_idle_secs));
        Sources { table: ClockTable::new(SOURCES, seed), wall, idle, any }
    }

    /// Takes note of a packet of a source.
    fn hear(&mut self, word: u128, now: Instant, os: impl FnOnce() -> Option<OsFamily>) -> Asker {
        let at = match self.table.slot(&word) {
            Ok(at) => at,
            Err(vacant) => {
                let asker = Asker { word, minute: self.wall.minute(now), os: None };
                self.table.insert_new(word, vacant, Source { asker, last: now }).0
            }
        };
        let source = self.table.value(at);
        if now - source.last > self.idle {
            source.asker = Asker { word, minute: self.wall.minute(now), os: None };
        }
        source.last = now;
        if source.asker.os.is_none() {
            source.asker.os = os();
        }
        source.asker
    }

    /// The template that `asker` meets where the plan has the one with index `base`.
    fn template_for(templates: &[Template], base: u16, asker: &Asker) -> u16 {
        let cases = templates.get(usize::from(base)).map_or(&[][..], |template| &template.cases);
        cases.iter().find(|case| case.applies(asker)).map_or(base, |case| case.template)
    }

    /// The same for a source that was heard before.
    pub(super) fn known(&self, templates: &[Template], base: u16, source: u128) -> u16 {
        match self.table.peek(&source) {
            Some(source) => Sources::template_for(templates, base, &source.asker),
            None => base,
        }
    }
}

impl Hosts {
    /// Tells of a segment to a port that nobody has opened, and once a session what system sent it.
    pub(super) fn probe(
        &mut self,
        frame: &Frame,
        packet: &Packet,
        session: SessionId,
        answer: PortAnswer,
        cx: &mut Cx<'_>,
    ) {
        let mut event = event_of(EventId::TcpProbe, frame, packet, session, cx.now);
        event.code = answer as u16;
        event.first = self.sessions.is_first_record();
        // Once a session: nobody changes it in the midst of a scan.
        if self.sessions.has_no_system()
            && let Some(os) = scanner_os(frame, packet)
        {
            self.sessions.has_system();
            event.code |= (os as u16) << 8;
        }
        cx.emit(&mut event, &[]);
    }

    /// The host as it is to whoever sent `packet`.
    #[inline(never)]
    pub(super) fn in_case(&mut self, frame: &Frame, packet: &Packet, target: &Target, cx: &Cx<'_>) -> Target {
        let asker = self.sources.hear(packet.src_word, cx.now, || scanner_os(frame, packet));
        let template = Sources::template_for(&self.config.templates, target.template, &asker);
        Target { template, ..*target }
    }

    /// The host whose address is `word` as it is to the address `source`, which has spoken to it before.
    pub(super) fn target_to(&self, word: u128, source: u128) -> Option<Target> {
        let target = self.target(word)?;
        if !self.sources.any {
            return Some(target);
        }
        Some(Target { template: self.sources.known(&self.config.templates, target.template, source), ..target })
    }
}

/// The system of whoever sent `packet`, if it is a SYN.
fn scanner_os(frame: &Frame, packet: &Packet) -> Option<OsFamily> {
    let l4 = packet.payload(frame.bytes());
    if packet.proto != proto::TCP || l4.len() < 20 {
        return None;
    }
    let len = usize::from(l4[12] >> 4) * 4;
    let options = l4.get(20..len)?;
    if l4[13] & (flag::SYN | flag::ACK | flag::RST | flag::FIN) != flag::SYN {
        return None;
    }
    let (df, ip_id) = match packet.is_v4() {
        true => (Some(frame.bytes()[ETH + 6] & 0x40 != 0), be16(frame.bytes(), ETH + 4)),
        false => (None, 0),
    };
    Some(os_of_syn(&SynTraits { ttl: packet.ttl, df, ip_id, window: be16(l4, 14), options }))
}
