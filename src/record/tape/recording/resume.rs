//! Going on with what another process was recording: it died, and who is in the middle of the connection did not.
//!
//! What it had handed to the kernel is there, and that tells what goes on: the tape, which channels there are and what is
//! in them. What it had read and not written yet is lost, which is a fraction of a second; the tape and the transcripts
//! say where.

use serde::Serialize;

use super::{About, Counts, Desk, Recording};
use crate::event::Utc;
use crate::node::NodeIdx;
use crate::record::tape::channel::Channel;
use crate::record::tape::content::Content;
use crate::record::tape::lines::Lines;
use crate::record::tape::marker::{Mark, Marker};
use crate::record::tape::read::{TAPE, entries};
use crate::record::tape::room::Kind;
use crate::relay::tape::Entry;

#[derive(Serialize)]
struct Resumed {
    resumed: Since,
}

#[derive(Serialize)]
struct Since {
    time: Utc,
}

impl Recording {
    /// Goes on with connection `conn`, whose host belongs to `node`.
    pub fn resume(mark: Mark, conn: u64, node: NodeIdx, desk: &mut Desk<'_>) -> Recording {
        let Mark { mut begin, stem, counts, .. } = mark.clone();
        begin.node = node;
        let session = begin.session;
        let dir = desk.store.enter_again(session, desk.now);
        let (keeps, stem) = (stem.is_some(), stem.unwrap_or_default());
        let limit = if keeps { desk.limits.tape } else { 0 };
        let path = dir.join(format!("{stem}{TAPE}"));
        let mut tape = Lines::new(session, Kind::Tape, path.clone(), limit);
        if keeps && let Err(error) = tape.resume() {
            desk.store.refuse(&error);
        }
        let let_in = counts.channels > 0;
        let mut recording = Recording {
            about: About { begin, dir, stem, keeps },
            tape,
            channels: Default::default(),
            files: Default::default(),
            secret: Default::default(),
            doubtful: Default::default(),
            typing: Default::default(),
            counts: Counts { lost_lines: 0, ..counts },
            let_in,
            events: Default::default(),
            last: 0,
            marker: Marker::create(&desk.store.open_connections(), conn, mark),
            untold: None,
            is_resumed: true,
        };
        let mut first = 0;
        let read = entries(&path, |micros, entry| {
            if let Entry::Opened { channel, .. } = &entry {
                first = first.max(channel.saturating_add(1));
            }
            recording.has_taken(micros, &entry, desk);
        });
        if keeps && let Err(error) = read {
            tracing::warn!(%error, path = %path.display(), "the tape of a connection that goes on cannot be read");
        }
        recording.untold = Some(first);
        recording.reopen(desk);
        recording
    }

    /// Learns what another process was told.
    fn has_taken(&mut self, micros: u64, entry: &Entry, desk: &Desk<'_>) {
        self.last = self.last.max(micros);
        let at = self.time(desk.now);
        let most = desk.limits.of_connection;
        match entry {
            Entry::Attempt { accepted, .. } => self.let_in |= accepted,
            Entry::Opened { channel, .. } if self.channels.len() < most => {
                self.channels.entry(*channel).or_insert_with(|| Channel::new(*channel));
            }
            Entry::Pty { channel, term, columns, rows } => {
                if let Some(channel) = self.channels.get_mut(channel) {
                    channel.terminal(term, *columns, *rows);
                }
            }
            Entry::Resize { channel, columns, rows } => {
                if let Some(channel) = self.channels.get_mut(channel) {
                    channel.resize(at, *columns, *rows);
                }
            }
            Entry::Shell { channel } => {
                self.types(*channel);
                if let Some(channel) = self.channels.get_mut(channel) {
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
            Entry::FileBegin { file, path, direction, .. } if self.files.len() < most => {
                let content = Content::new(*file, path.clone(), *direction, &self.about.place(desk.limits));
                self.files.insert(*file, content);
            }
            Entry::FileEnd { file, .. } => drop(self.files.remove(file)),
            _ => {}
        }
    }

    /// Goes on with the files of what is not over.
    fn reopen(&mut self, desk: &mut Desk<'_>) {
        let at = self.time(desk.now);
        self.tape.push(self.last, &Resumed { resumed: Since { time: desk.now } }, desk.store);
        let place = self.about.place(desk.limits);
        for (number, channel) in &mut self.channels {
            let typed = channel.resume(at, &place, desk.store);
            // Of the line that is being typed the beginning is known; commands before it are told already.
            if let Some(commands) = self.typing.get_mut(number) {
                typed.iter().for_each(|text| commands.push(0, text));
                commands.take();
            }
        }
        // Whether somebody was typing a password, only the other process knew.
        if desk.redacts {
            self.secret = self.channels.keys().copied().collect();
            self.doubtful = self.secret.clone();
        }
        for content in self.files.values_mut() {
            content.resume(&place, desk.store);
        }
    }
}
