//! The thread that keeps what the switch tells of connections that it is in the middle of.
//!
//! Disks wait, so this has a thread of its own. What it has not taken waits in a short queue, and behind that in the
//! switch's channel: a slow disk slows the attackers, and needs no memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::shared::Shared;
use super::to_recorder::{Heard, ToRecorder};
use crate::event::{Now, Said, Utc};
use crate::record::tape::Tapes;
use crate::relay::tape::Word;
use crate::sys::clock;
use crate::wire::Instant;

/// Words that wait, each of at most 64 KiB.
const WAITING: usize = 128;
/// How often files are handed to the kernel, and the disk is looked at.
const TEND: Duration = Duration::from_millis(250);

/// What the thread is told.
pub enum Told {
    /// Something about a connection.
    Word(u64, Box<Word>),
    /// The switch is in the middle of these, and of no other that has begun.
    Open(Vec<u64>),
    /// The switch that told of connections ended then.
    SwitchEnded(Utc),
    /// The honeynet is being ended since then.
    Ending(Utc),
    /// It has ended, and nobody follows.
    Over,
}

/// Where that is told.
pub type Telling = Sender<Told>;

/// Somewhere to tell it, and what is told there.
pub fn queue() -> (Telling, Receiver<Told>) {
    channel(WAITING)
}

/// Keeps what is told until nobody tells anything more. If it was not told that all is over by then, another process goes
/// on with what is open.
///
/// # Errors
/// If there can be no timer.
pub fn run(
    mut tapes: Tapes,
    mut told: Receiver<Told>,
    to_recorder: &ToRecorder,
    shared: &Arc<Shared>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut tended = clock::monotonic_micros();
    tapes.remember(Utc::from_micros(clock::realtime_micros()));
    loop {
        let is_idle = tapes.is_idle();
        let next = runtime.block_on(async {
            if is_idle { Ok(told.recv().await) } else { tokio::time::timeout(TEND, told.recv()).await }
        });
        let (utc, monotonic) = (clock::realtime_micros(), clock::monotonic_micros());
        let now = Now { utc: Utc::from_micros(utc), steady: clock::boottime_micros() };
        match next {
            Ok(Some(Told::Word(conn, word))) => {
                tapes.take(conn, *word, now);
                // Whoever types, or tries passwords, is on the disk at once: what waits here dies with this process.
                if told.is_empty() {
                    tapes.flush(conn, now);
                }
            }
            Ok(Some(Told::Open(conns))) => tapes.retain(&conns, now),
            Ok(Some(Told::SwitchEnded(at))) => tapes.switch_ended(at, now),
            Ok(Some(Told::Ending(at))) => tapes.ending(at, now),
            Ok(Some(Told::Over)) => tapes.close(now),
            Ok(None) => {
                tapes.tend(now);
                pass_on(&mut tapes, to_recorder, utc - monotonic);
                return Ok(());
            }
            Err(_) => {}
        }
        if monotonic - tended >= TEND.as_micros() as i64 || tapes.is_idle() {
            tended = monotonic;
            tapes.tend(now);
            shared.recordings(tapes.stats());
        }
        pass_on(&mut tapes, to_recorder, utc - monotonic);
    }
}

/// Gives the recorder the events that are to be written. It waits for the recorder, which may wait for a disk; that there
/// is none any more is the end of all of it.
fn pass_on(tapes: &mut Tapes, to_recorder: &ToRecorder, offset: i64) {
    to_recorder.say(tapes.told().map(|notice| {
        let mut event = notice.event;
        event.at = Instant::from_micros(notice.at.micros().saturating_sub(offset));
        Heard { said: Said { event, data: notice.data }, at: Some(notice.at) }
    }));
}
