//! All connections that are being recorded.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use super::TapeLimits;
use super::marker::{self, Mark};
use super::notice::Notice;
use super::recording::{Desk, Over, Recording};
use super::redact::{redact, truncate};
use super::room::Look;
use super::store::Store;
use crate::event::{EventId, Now, Utc};
use crate::node::NodeIdx;
use crate::record::privacy::Mask;
use crate::record::{SESSIONS, Trust};
use crate::relay::tape::{Begin, Entry, Reason, Word};

/// How long words of a switch that is gone may still be on their way, in microseconds.
const ON_THE_WAY: i64 = 1_000_000;
/// How often it is told that connections are not recorded, in microseconds.
const TOLD: i64 = 60_000_000;

/// How recordings are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapeStats {
    /// Connections that are being recorded.
    pub open: u64,
    /// Words of connections whose beginning was not told, or that there was no room for.
    pub dropped: u64,
    /// Why less is recorded than should be, if that is so.
    pub failing: Option<String>,
}

/// Recordings of a honeynet's connections.
pub struct Tapes {
    pub(super) store: Store,
    limits: TapeLimits,
    redacts: bool,
    mask: Mask,
    nodes: Vec<String>,
    open: HashMap<u64, Recording>,
    /// Those that another process was recording, and nothing has been heard of since.
    before: HashMap<u64, Mark>,
    dropped: u64,
    /// Connections that there was no room for and nobody was told of, and when somebody was last.
    untold: u64,
    told_at: Option<i64>,
    /// The switch is gone: recordings that began by then end a little later. This and the next by the steady clock.
    gone: Option<(i64, i64)>,
    /// Since when the honeynet is being ended.
    ending: Option<i64>,
    told: Vec<Notice>,
    trust: Trust,
}

/// What the steady clock said at `at`, which was a moment before `now`: nobody has set the other one since.
fn steady_of(at: Utc, now: Now) -> i64 {
    now.steady.saturating_sub(now.utc.micros().saturating_sub(at.micros()))
}

/// What recordings share, at the time `$now`; the set's other fields stay free.
macro_rules! desk {
    ($set:ident, $now:expr) => {
        Desk {
            store: &mut $set.store,
            limits: &$set.limits,
            told: &mut $set.told,
            redacts: $set.redacts,
            now: $now.utc,
            steady: $now.steady,
        }
    };
}

impl Tapes {
    /// Recordings in the directory of a honeynet, `dir`, whose nodes have the names `nodes`. `redacts` says whether
    /// credentials are left out ([`redact`]).
    ///
    /// # Errors
    /// If what lies there cannot be listed.
    pub fn open(dir: &Path, limits: TapeLimits, redacts: bool, nodes: Vec<String>, look: Look) -> io::Result<Tapes> {
        Ok(Tapes {
            store: Store::open(dir.join(SESSIONS), limits, look)?,
            limits,
            redacts,
            mask: Mask::default(),
            nodes,
            open: HashMap::new(),
            before: HashMap::new(),
            dropped: 0,
            untold: 0,
            told_at: None,
            gone: None,
            ending: None,
            told: Vec::new(),
            trust: Trust::default(),
        })
    }

    /// The same, with addresses truncated by `mask`.
    #[must_use]
    pub fn masked(self, mask: Mask) -> Tapes {
        Tapes { mask, ..self }
    }

    /// The same, and nothing is deleted for being old while `trust` says so.
    #[must_use]
    pub fn trusting(mut self, trust: Trust) -> Tapes {
        self.store.trusting(trust.clone());
        self.trust = trust;
        self
    }

    /// How they are doing.
    pub fn stats(&self) -> TapeStats {
        let open = (self.open.len() + self.before.len()) as u64;
        TapeStats { open, dropped: self.dropped, failing: self.store.trouble() }
    }

    /// Whether nobody need look before something happens: no connection is being recorded, and the disk has room.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.before.is_empty() && self.store.trouble().is_none()
    }

    /// Events that are to be written, in their order.
    pub fn told(&mut self) -> impl Iterator<Item = Notice> + '_ {
        self.told.drain(..)
    }

    /// Learns of the connections that another process was recording. With each of them it goes on with the first word about
    /// it; [`Tapes::retain`] ends those that are over.
    pub fn remember(&mut self, now: Utc) {
        let marks = marker::all(&self.store.open_connections(), self.limits.open).unwrap_or_else(|error| {
            self.store.refuse(&error);
            Vec::new()
        });
        for (conn, mut mark) in marks {
            mark.begin.peer.set_ip(self.mask.ip(mark.begin.peer.ip()));
            self.store.enter_again(mark.begin.session, now);
            self.before.insert(conn, mark);
        }
    }

    /// The switch is in the middle of `conns`: whatever else is being recorded is over.
    pub fn retain(&mut self, conns: &[u64], now: impl Into<Now>) {
        let now = now.into();
        let there: HashSet<u64> = conns.iter().copied().collect();
        self.end(&Over::Unseen(Reason::NotSeen), |conn, _| !there.contains(&conn), now);
        let resumed: u64 = self.open.values_mut().map(|recording| u64::from(recording.was_resumed())).sum();
        let count = resumed + self.before.len() as u64;
        if count > 0 {
            let why = "restart: recordings of connections go on; some of what came just before may be missing";
            self.told.push(Notice::of_recording(EventId::RecordingFailed, now.utc, count, why));
        }
    }

    /// Goes on with connection `conn`, if another process was recording it.
    fn resume(&mut self, conn: u64, lives: bool, now: Now) {
        let Some(mark) = self.before.remove(&conn) else { return };
        let node = mark.node.as_ref().and_then(|name| self.nodes.iter().position(|node| node == name));
        let node = NodeIdx(node.and_then(|at| at.try_into().ok()).unwrap_or(u16::MAX));
        let mut desk = desk!(self, now);
        if let Some(recording) = Recording::resume(mark, conn, node, lives, &mut desk) {
            self.open.insert(conn, recording);
        }
    }

    /// Takes a word about connection `conn`.
    pub fn take(&mut self, conn: u64, word: Word, now: impl Into<Now>) {
        let now = now.into();
        self.resume(conn, true, now);
        let (micros, entry) = match word {
            Word::Begin(begin) => return self.begin(conn, begin, now),
            Word::Entry(micros, entry) => (micros, truncate(redact(entry, self.redacts), &self.mask)),
        };
        let Some(recording) = self.open.get_mut(&conn) else {
            self.dropped += 1;
            return;
        };
        let mut desk = desk!(self, now);
        let ended = recording.take(micros, &entry, &mut desk);
        if let Entry::End { reason, detail } = entry
            && ended
            && let Some(recording) = self.open.remove(&conn)
        {
            recording.finish(&Over::Told(reason, detail.as_ref()), &mut desk);
        }
    }

    /// Hands to the kernel what was gathered of connection `conn`.
    pub fn flush(&mut self, conn: u64, now: impl Into<Now>) {
        let now = now.into();
        let mut desk = desk!(self, now);
        if let Some(recording) = self.open.get_mut(&conn) {
            recording.flush(&mut desk);
        }
    }

    /// Hands to the kernel what was gathered, makes room, and ends what has to.
    pub fn tend(&mut self, now: impl Into<Now>) {
        let now = now.into();
        let mut desk = desk!(self, now);
        for recording in self.open.values_mut() {
            recording.flush(&mut desk);
        }
        if let Some((before, since)) = self.gone
            && now.steady - since >= ON_THE_WAY
        {
            self.gone = None;
            self.end_with_switch(before, now);
        }
        self.trust.look(now);
        self.store.tend(now.utc, &mut self.told);
        self.tell_of_dropped(now.utc);
    }

    /// The switch ended at `at`: what it was in the middle of is over, once its last words have come.
    pub fn switch_ended(&mut self, at: Utc, now: impl Into<Now>) {
        let now = now.into();
        self.gone = Some((steady_of(at, now), now.steady));
    }

    /// The honeynet is being ended since `at`: that the switch ends, which is done first, is no accident from then on.
    pub fn ending(&mut self, at: Utc, now: impl Into<Now>) {
        self.ending.get_or_insert(steady_of(at, now.into()));
    }

    /// The honeynet has ended. All that was open was so until its switch was ended, however long the rest took.
    pub fn close(&mut self, now: impl Into<Now>) {
        let now = now.into();
        if let Some((before, _)) = self.gone.take() {
            self.end_with_switch(before, now);
        }
        let at = self.ending.map_or(now.steady, |at| at.min(now.steady));
        self.end(&Over::At(at, Reason::HoneynetEnded), |_, _| true, now);
        self.trust.look(now);
        self.store.tend(now.utc, &mut self.told);
    }

    /// Ends those that had begun before the switch ended at `before`.
    fn end_with_switch(&mut self, before: i64, now: Now) {
        let over = match self.ending {
            Some(ending) if ending <= before => Over::At(before.min(now.steady), Reason::HoneynetEnded),
            _ => Over::Unseen(Reason::SwitchEnded),
        };
        self.end(&over, |_, recording| recording.is_none_or(|it| it.began_steady() <= before), now);
    }

    fn begin(&mut self, conn: u64, mut begin: Begin, now: Now) {
        begin.peer.set_ip(self.mask.ip(begin.peer.ip()));
        // A switch says it again to a console that follows another.
        if let Some(recording) = self.open.get_mut(&conn) {
            return recording.begin_again();
        }
        if self.open.len() + self.before.len() >= self.limits.open {
            self.dropped += 1;
            self.untold += 1;
            return self.tell_of_dropped(now.utc);
        }
        let node = self.nodes.get(usize::from(begin.node.0)).map(String::as_str);
        let mut desk = desk!(self, now);
        self.open.insert(conn, Recording::begin(begin, conn, node, &mut desk));
    }

    /// Ends those that `which` says, by number; of what another process began, and this one has not gone on with, there is no
    /// recording yet.
    fn end(&mut self, over: &Over<'_>, which: impl Fn(u64, Option<&Recording>) -> bool, now: Now) {
        let before: HashSet<u64> = self.before.keys().copied().filter(|conn| which(*conn, None)).collect();
        before.iter().for_each(|conn| self.resume(*conn, false, now));
        let is_over = |conn: &u64, recording| before.contains(conn) || which(*conn, Some(recording));
        let ended = self.open.iter().filter(|(conn, recording)| is_over(conn, recording));
        let ended: Vec<u64> = ended.map(|(conn, _)| *conn).collect();
        let mut desk = desk!(self, now);
        for recording in ended.iter().filter_map(|conn| self.open.remove(conn)) {
            recording.finish(over, &mut desk);
        }
    }

    fn tell_of_dropped(&mut self, now: Utc) {
        let due = self.told_at.is_none_or(|at| !(0..TOLD).contains(&(now.micros() - at)));
        if self.untold > 0 && due {
            self.told_at = Some(now.micros());
            let why = format!("limit: {} connections are being recorded already; these are not", self.limits.open);
            let count = std::mem::take(&mut self.untold);
            self.told.push(Notice::of_recording(EventId::RecordingFailed, now, count, &why));
        }
    }
}
