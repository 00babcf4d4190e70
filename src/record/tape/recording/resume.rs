//! Going on with what another process was recording: it died, and who is in the middle of the connection did not.
//!
//! What it had handed to the kernel is there, and that tells what goes on: the tape, which channels there are and what is
//! in them. What it had read and not written yet is lost, which is a fraction of a second; the tape and the transcripts
//! say where.

use std::path::Path;

use serde::Serialize;

use super::standing::Signs;
use super::{About, Counts, Desk, Recording};
use crate::event::Utc;
use crate::node::NodeIdx;
use crate::record::tape::channel::More;
use crate::record::tape::lines::Lines;
use crate::record::tape::marker::{Mark, Marker};
use crate::record::tape::read::{TAPE, Told, entries};
use crate::record::tape::room::Kind;
use crate::relay::tape::{Entry, Protocol};

#[derive(Serialize)]
struct Resumed {
    resumed: Since,
}

#[derive(Serialize)]
struct Since {
    time: Utc,
}

impl Recording {
    /// Goes on with connection `conn`, whose host belongs to `node`; none if it is over already. `lives` says whether anything
    /// more is to come of it.
    pub fn resume(mark: Mark, conn: u64, node: NodeIdx, lives: bool, desk: &mut Desk<'_>) -> Option<Recording> {
        let trying = Marker::trying(&desk.store.open_connections(), conn);
        let Mark { mut begin, node: name, stem, counts, more, last, began } = mark.clone();
        begin.node = node;
        let session = begin.session;
        let dir = desk.store.path(session);
        let (keeps, stem) = (stem.is_some(), stem.unwrap_or_default());
        let limit = if keeps { desk.limits.tape } else { 0 };
        let path = dir.join(format!("{stem}{TAPE}"));
        let mut tape = Lines::new(session, Kind::Tape, path.clone(), limit);
        if keeps && let Err(error) = tape.resume() {
            desk.store.refuse(&error);
        }
        tape.lost_before((counts.lost_lines, counts.untold_lines));
        let is_ssh = begin.protocol == Protocol::Ssh;
        let mut signs = Signs::default();
        if !is_ssh {
            // That they were let in may be what died with the other process.
            signs.let_in();
        }
        // It may have been idle since the last thing that happened. The wall's clock, which may have been set meanwhile, says
        // for how long only where the machine was started again: the other one began anew with it.
        let by_wall = desk.now.micros().saturating_sub(begin.at.micros());
        let by_steady = began.map(|began| desk.steady.saturating_sub(began)).filter(|since| *since >= 0);
        let since = by_steady.unwrap_or(by_wall).max(i64::try_from(last).unwrap_or(i64::MAX));
        let mut recording = Recording {
            about: About { begin, dir, stem, keeps },
            tape,
            channels: Default::default(),
            files: Default::default(),
            secret: Default::default(),
            typing: Default::default(),
            running: Default::default(),
            signs,
            counts,
            events: Default::default(),
            last,
            began: desk.steady.saturating_sub(since),
            marker: Marker::create(&desk.store.open_connections(), conn, mark),
            // Of SSH nobody tells when one does.
            is_doubtful: desk.redacts && !is_ssh,
            untold: None,
            is_resumed: true,
        };
        if keeps && recording.tape.is_empty() {
            recording.say_begin(name.as_deref(), desk);
        }
        let is_over = recording.read(&path, desk);
        Marker::tried(trying);
        if is_over {
            recording.marker.remove();
            desk.store.leave(session, desk.now);
            return None;
        }
        recording.reopen(lives, more, desk);
        Some(recording)
    }

    /// Learns from the tape what there is; returns whether it has an end.
    fn read(&mut self, path: &Path, desk: &mut Desk<'_>) -> bool {
        let (mut first, mut counts, mut is_over) = (0, Counts::default(), false);
        let protocol = self.about.begin.protocol;
        let read = entries(path, |micros, line| {
            let entry = match line {
                Told::Entry(entry) => entry,
                Told::Total => return is_over = true,
            };
            if let Entry::Opened { channel, .. } = &entry {
                first = channel.saturating_add(1).max(first);
            }
            self.last = self.last.max(micros);
            counts.add(&entry, protocol);
            counts.files += u64::from(matches!(entry, Entry::FileEnd { .. }));
            self.has_taken(micros, &entry, desk);
            self.knew(&entry, micros);
        });
        if self.about.keeps
            && let Err(error) = read
        {
            tracing::warn!(%error, path = %path.display(), "the tape of a connection that goes on cannot be read");
        }
        self.counts.at_least(&counts);
        self.untold = Some(first);
        is_over
    }

    /// Learns what another process was told, and has done.
    fn has_taken(&mut self, micros: u64, entry: &Entry, desk: &mut Desk<'_>) {
        let at = Utc::from_micros(self.about.begin.at.micros().saturating_add_unsigned(micros));
        match entry {
            Entry::Shell { channel: number } => {
                self.types(*number);
                if let Some(channel) = self.channels.get_mut(number) {
                    channel.has_run(at, None);
                }
            }
            Entry::Exec { channel: number, command } => {
                if let Some(channel) = self.channels.get_mut(number) {
                    channel.has_run(at, Some(command));
                    if channel.size().is_some() {
                        self.types(*number);
                    }
                }
            }
            Entry::Closed { channel } => {
                self.typing.remove(channel);
                self.channels.remove(channel);
            }
            Entry::FileEnd { file, .. } => drop(self.files.remove(file)),
            // Of these nothing is in a file.
            _ => self.follow(entry, at, desk),
        }
    }

    /// Goes on with the files of what is not over.
    fn reopen(&mut self, lives: bool, more: Vec<(u32, More)>, desk: &mut Desk<'_>) {
        let at = self.time(desk.steady);
        let place = self.about.place(desk.limits);
        for content in self.files.values_mut() {
            content.resume(&place, desk.store);
        }
        if !lives {
            // Transcripts and octets are as they were left.
            self.channels.clear();
            return;
        }
        self.tape.push(self.last, &Resumed { resumed: Since { time: desk.now } }, desk.store);
        for (number, channel) in &mut self.channels {
            let typed = channel.resume(at, &place, desk.store);
            let before = more.iter().find(|(of, _)| of == number);
            before.into_iter().for_each(|(_, more)| channel.has_more(*more));
            // Of the line that is being typed the beginning is known; commands before it are told already.
            if let Some(commands) = self.typing.get_mut(number) {
                typed.iter().for_each(|text| commands.push(0, text));
                commands.take();
            }
        }
    }
}
