//! One connection, from its beginning to its end.

mod counts;
mod files;
mod resume;
mod running;
mod standing;
mod tell;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use self::files::FileMoved;
use self::running::Running;
use self::standing::{Signs, Standing};
use super::TapeLimits;
use super::channel::{Channel, Place};
use super::content::Content;
use super::lines::Lines;
use super::marker::{Mark, Marker};
use super::notice::Notice;
use super::read::TAPE;
use super::redact::starred;
use super::room::{Kind, Limit, Scarce};
use super::store::Store;
use crate::event::{EventId, Utc};
use crate::record::transcript::Commands;
use crate::relay::tape::{Begin, Direction, Entry, Protocol, Reason, Stream, Text};

/// The longest that a connection lasts, in microseconds: ten years.
const LONGEST: u64 = 315_360_000_000_000;
/// How far a time that another process tells may be from now.
const FAR: i64 = 3_600_000_000;
/// Shells of one connection whose commands are told at once: each keeps the line that is being typed.
const SHELLS: usize = 8;
/// How often one connection may begin: the console before this one may have recorded its beginning.
const AGAIN: u32 = 9;

pub use counts::Counts;

/// What recordings share.
pub struct Desk<'a> {
    /// Where they lie.
    pub store: &'a mut Store,
    /// How much of them.
    pub limits: &'a TapeLimits,
    /// Takes events.
    pub told: &'a mut Vec<Notice>,
    /// Whether credentials are left out.
    pub redacts: bool,
    /// The time.
    pub now: Utc,
    /// The same by a clock that nobody sets, in microseconds.
    pub steady: i64,
}

/// Whether files are known by it: channels, what runs in them, and files on their way.
fn is_of_files(entry: &Entry) -> bool {
    matches!(
        entry,
        Entry::Opened { .. }
            | Entry::Pty { .. }
            | Entry::Shell { .. }
            | Entry::Exec { .. }
            | Entry::Closed { .. }
            | Entry::FileBegin { .. }
    )
}

/// A connection that is being recorded.
pub struct Recording {
    about: About,
    tape: Lines,
    channels: BTreeMap<u32, Channel>,
    files: BTreeMap<u32, Content>,
    /// Channels in which a password passes that is not to be kept.
    secret: BTreeSet<u32>,
    /// What is being typed, by channel.
    typing: BTreeMap<u32, Commands>,
    running: Running,
    counts: Counts,
    /// Whether somebody was let in.
    signs: Signs,
    /// Events, by their kind.
    events: HashMap<EventId, u32>,
    /// Microseconds since the beginning.
    last: u64,
    /// When that was, by the steady clock.
    began: i64,
    /// Tells who follows.
    marker: Marker,
    /// Channels from this number on may have been opened without a word: the process that was told died with it.
    untold: Option<u32>,
    /// Whether it is not known, for now, if a password passes.
    is_doubtful: bool,
    /// Another process began it, and nobody has asked for that.
    is_resumed: bool,
}

/// Whose recording it is, and where it lies.
struct About {
    begin: Begin,
    dir: PathBuf,
    stem: String,
    /// Whether there is more than events.
    keeps: bool,
}

#[derive(Serialize)]
struct Beginning<'a> {
    begin: Begun<'a>,
}

#[derive(Serialize)]
struct Begun<'a> {
    protocol: &'static str,
    time: Utc,
    session: String,
    node: Option<&'a str>,
    attacker: std::net::SocketAddr,
    host: std::net::SocketAddr,
}

#[derive(Serialize)]
struct Broken {
    broken: Why,
}

#[derive(Serialize)]
struct Why {
    reason: Reason,
}

/// How a connection is over.
pub enum Over<'a> {
    /// Its last entry has said it.
    Told(Reason, Option<&'a Text>),
    /// What it was part of was ended at that time by the steady clock, and it with that.
    At(i64, Reason),
    /// Nobody has seen its end, which was some time after it was heard of last.
    Unseen(Reason),
}

#[derive(Serialize)]
struct Closing<'a> {
    total: &'a Counts,
}

impl Recording {
    /// A connection begins: number `conn`, at a host of the node called `node`.
    pub fn begin(mut begin: Begin, conn: u64, node: Option<&str>, desk: &mut Desk<'_>) -> Recording {
        if begin.at.micros().abs_diff(desk.now.micros()) > FAR.unsigned_abs() {
            begin.at = desk.now;
        }
        let session = begin.session;
        let protocol = begin.protocol.name();
        let dir = desk.store.enter(session, desk.now);
        let keeps = desk.store.has_room_for_tape(session);
        let first = format!("{}-{protocol}-{conn:016x}", begin.at.compact());
        let limit = if keeps { desk.limits.tape } else { 0 };
        let tape_of = |stem: &str| Lines::new(session, Kind::Tape, dir.join(format!("{stem}{TAPE}")), limit);
        let (mut stem, mut tape) = (first.clone(), tape_of(&first));
        for again in 2..=AGAIN {
            // Where there is no room for tapes it is created once there is.
            match (keeps && desk.store.scarce() < Scarce::Tapes).then(|| tape.create(desk.store)) {
                Some(Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                    stem = format!("{first}-r{again}");
                    tape = tape_of(&stem);
                }
                Some(Err(error)) => {
                    desk.store.refuse(&error);
                    break;
                }
                Some(Ok(())) | None => break,
            }
        }
        let mark = Mark {
            begin: begin.clone(),
            node: node.map(str::to_owned),
            stem: keeps.then(|| stem.clone()),
            counts: Counts::default(),
            more: Vec::new(),
            last: 0,
            began: Some(desk.steady),
        };
        let marker = Marker::create(&desk.store.open_connections(), conn, mark);
        let mut recording = Recording {
            marker,
            untold: None,
            is_doubtful: false,
            is_resumed: false,
            about: About { begin, dir, stem, keeps },
            tape,
            channels: BTreeMap::new(),
            files: BTreeMap::new(),
            secret: BTreeSet::new(),
            typing: BTreeMap::new(),
            running: Running::default(),
            counts: Counts::default(),
            signs: Signs::default(),
            events: HashMap::new(),
            last: 0,
            began: desk.steady,
        };
        recording.say_begin(node, desk);
        recording
    }

    fn say_begin(&mut self, node: Option<&str>, desk: &mut Desk<'_>) {
        let Begin { protocol, session, peer, local, at, .. } = self.about.begin.clone();
        let (protocol, session) = (protocol.name(), session.to_string());
        let begin = Begun { protocol, time: at, session, node, attacker: peer, host: local };
        self.tape.push(0, &Beginning { begin }, desk.store);
        self.tape.flush(desk.store);
    }

    /// The switch tells of it again, and of what is secret from then on.
    pub fn begin_again(&mut self) {
        self.is_doubtful = false;
        self.secret.clear();
    }

    /// Whether another process began it, which it says once.
    pub fn was_resumed(&mut self) -> bool {
        std::mem::take(&mut self.is_resumed)
    }

    /// When it began, by the steady clock.
    pub fn began_steady(&self) -> i64 {
        self.began
    }

    /// Takes what happened; returns whether that is the end.
    pub fn take(&mut self, micros: u64, entry: &Entry, desk: &mut Desk<'_>) -> bool {
        // Time does not run backward, nor away.
        if micros <= LONGEST {
            self.last = self.last.max(micros);
        }
        let at = self.time(desk.steady);
        match entry {
            Entry::Data { channel, stream, data } if self.is_doubtful || self.secret.contains(channel) => {
                self.data(*channel, *stream, &starred(data), at, desk);
            }
            Entry::Data { channel, stream, data } => self.data(*channel, *stream, data, at, desk),
            Entry::Secret { channel, begins } => {
                if *begins && desk.redacts && self.channel(*channel, desk).is_some() {
                    self.secret.insert(*channel);
                } else {
                    self.secret.remove(channel);
                }
            }
            // Whatever it is, it may be a password.
            Entry::Raw { .. } if desk.redacts => {}
            Entry::Raw { channel, stream, data } => self.raw(*channel, *stream, data, desk),
            Entry::Beyond { channel, stream, octets } => self.beyond(*channel, *stream, *octets, desk),
            Entry::FilePiece { file, offset, data } => self.piece(*file, *offset, data, desk),
            Entry::FileEnd { file, size, again, sha256, kept } => {
                let moved = FileMoved { size: *size, again: *again, sha256: sha256.as_deref(), kept: *kept };
                self.file_end(*file, &moved, at, desk);
            }
            _ => {
                self.tape.push(self.last, entry, desk.store);
                self.counts.add(entry, self.about.begin.protocol);
                // Who follows if this process dies knows files by what the tape says of them.
                if is_of_files(entry) {
                    self.tape.flush(desk.store);
                }
                self.tell(entry, at, desk);
                self.know(entry, at, desk);
                self.follow(entry, at, desk);
            }
        }
        matches!(entry, Entry::End { .. })
    }

    /// Hands to the kernel what was gathered.
    pub fn flush(&mut self, desk: &mut Desk<'_>) {
        self.tape.flush(desk.store);
        let session = self.about.begin.session;
        let lost = self.channels.values_mut().map(|channel| channel.flush(session, desk.store)).sum::<u64>();
        self.counts.lose(lost);
        (self.counts.lost_lines, self.counts.untold_lines) = self.tape.lost();
        let more = self.channels.iter().filter_map(|(number, channel)| Some((*number, channel.more()?)));
        self.marker.update(&self.counts, more, self.last);
    }

    /// The connection is over.
    pub fn finish(mut self, over: &Over<'_>, desk: &mut Desk<'_>) {
        let session = self.about.begin.session;
        let (reason, detail) = match *over {
            Over::Told(reason, detail) => (reason, detail),
            Over::At(at, reason) => {
                let lasted = at.saturating_sub(self.began);
                self.last = self.last.max(u64::try_from(lasted).unwrap_or(0).min(LONGEST));
                self.tape.push(self.last, &reason.end(), desk.store);
                (reason, None)
            }
            Over::Unseen(reason) => {
                self.tape.push(self.last, &Broken { broken: Why { reason } }, desk.store);
                (reason, None)
            }
        };
        let at = self.time(desk.steady);
        for file in self.files.keys().copied().collect::<Vec<_>>() {
            let size = self.files.get(&file).map_or(0, |content| content.came);
            self.file_end(file, &FileMoved { size, again: 0, sha256: None, kept: false }, at, desk);
        }
        self.tell_exits(at, desk);
        for (_, channel) in std::mem::take(&mut self.channels) {
            self.counts.lose(channel.finish((self.last, at), session, desk.store));
        }
        (self.counts.lost_lines, self.counts.untold_lines) = (self.tape.lost().0, 0);
        if self.may_stay(desk) {
            let closing = Closing { total: &self.counts };
            // The disk may take less of the end than the tape could say.
            self.counts.lost_lines = self.tape.finish(self.last, &closing, desk.store);
        } else if self.tape.discard(desk.store) {
            // What is no SSH has but this channel.
            let files = self.about.place(desk.limits).files(0);
            files.iter().for_each(|path| desk.store.discard(session, path));
        }
        self.marker.remove();
        desk.store.leave(session, desk.now);
        if self.about.begin.protocol == Protocol::Ssh {
            desk.told.push(tell::closed(&self.about.begin, &self.counts, (self.last, at), (reason, detail)));
        }
    }

    /// Whether the session has room for the files of who was in it.
    fn may_stay(&self, desk: &mut Desk<'_>) -> bool {
        let Begin { session, protocol, .. } = self.about.begin;
        match self.signs.tell(&self.counts, protocol) {
            Standing::Inside => true,
            Standing::Unsure => desk.store.may_stay(session, Limit::Unsure),
            Standing::Stranger => desk.store.may_stay(session, Limit::Strangers),
        }
    }

    /// When the last thing happened: so long after the beginning, whatever is done to the wall's clock meanwhile.
    fn time(&self, steady: i64) -> Utc {
        let most = steady.saturating_sub(self.began).saturating_add(FAR);
        let since = i64::try_from(self.last).unwrap_or(i64::MAX).min(most);
        Utc::from_micros(self.about.begin.at.micros().saturating_add(since))
    }

    /// So many octets passed that nobody tells.
    fn beyond(&mut self, number: u32, stream: Stream, count: u64, desk: &mut Desk<'_>) {
        let lost = self.channel(number, desk).map_or(count, |channel| channel.miss(stream, count));
        self.running.pass_beyond(number, stream, count);
        self.counts.passed(stream, lost);
        self.counts.lose(lost);
    }

    /// What a transcript tells of came like that. It counts as what the transcript has of it.
    fn raw(&mut self, number: u32, stream: Stream, data: &[u8], desk: &mut Desk<'_>) {
        self.channel(number, desk);
        let place = self.about.place(desk.limits);
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.take_raw(self.last, stream, data, &place, desk.store);
        }
    }

    fn data(&mut self, number: u32, stream: Stream, data: &[u8], at: Utc, desk: &mut Desk<'_>) {
        let count = data.len() as u64;
        self.counts.passed(stream, count);
        self.passes(number, stream, data, at, desk);
        if self.channel(number, desk).is_none() {
            self.counts.lose(count);
            return;
        }
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let place = self.about.place(desk.limits);
        self.counts.lose(channel.take((self.last, at), stream, data, &place, desk.store));
        if stream == Stream::Input
            && let Some(commands) = self.typing.get_mut(&number)
        {
            commands.push(0, data);
            for typed in commands.take() {
                self.notice(EventId::ShellCommand, at, json!({"command": typed.command}), desk);
            }
        }
    }

    /// A channel that is open. One that another process was told of, and nobody else, is known now.
    fn channel(&mut self, number: u32, desk: &mut Desk<'_>) -> Option<&mut Channel> {
        let is_new = self.untold.is_some_and(|first| number >= first)
            && self.channels.len() < desk.limits.of_connection
            && !self.channels.contains_key(&number);
        if is_new {
            let at = self.time(desk.steady);
            let mut channel = Channel::new(number);
            channel.resume(at, &self.about.place(desk.limits), desk.store);
            self.channels.insert(number, channel);
            self.counts.channels += 1;
            self.signs.let_in();
        }
        self.channels.get_mut(&number)
    }

    /// From here on what comes in that channel is typed, or read by a shell that has no terminal. Of what is spoken in the clear
    /// its observer tells commands.
    fn types(&mut self, channel: u32) {
        let Some(has_terminal) = self.channels.get(&channel).map(|channel| channel.size().is_some()) else { return };
        if self.about.begin.protocol == Protocol::Ssh && self.typing.len() < SHELLS {
            self.typing.entry(channel).or_insert_with(match has_terminal {
                true => Commands::default,
                false => Commands::script,
            });
        }
    }

    /// Nothing more comes in that channel: tells the last line; returns how many were no text.
    fn typed_all(&mut self, channel: u32, at: Utc, desk: &mut Desk<'_>) -> u64 {
        let Some(mut commands) = self.typing.remove(&channel) else { return 0 };
        commands.end(0);
        for typed in commands.take() {
            self.notice(EventId::ShellCommand, at, json!({"command": typed.command}), desk);
        }
        commands.no_text()
    }

    /// Does what an entry means for the recording.
    fn follow(&mut self, entry: &Entry, at: Utc, desk: &mut Desk<'_>) {
        let most = desk.limits.of_connection;
        let micros = self.last;
        self.signs.add(entry, self.about.begin.protocol);
        match entry {
            Entry::Opened { channel, .. } if self.channels.len() < most => {
                self.channels.entry(*channel).or_insert_with(|| Channel::new(*channel));
            }
            Entry::Pty { channel, term, columns, rows } => {
                if let Some(channel) = self.channel(*channel, desk) {
                    channel.terminal(term, *columns, *rows);
                }
            }
            Entry::Resize { channel, columns, rows } => {
                if let Some(channel) = self.channel(*channel, desk) {
                    channel.resize(at, *columns, *rows);
                }
            }
            Entry::Shell { channel } => {
                self.channel(*channel, desk);
                self.types(*channel);
                self.run(*channel, None, at, desk);
            }
            Entry::Exec { channel, command } => {
                // Without a terminal it is data, with one it may be for a shell.
                if self.channel(*channel, desk).is_some_and(|channel| channel.size().is_some()) {
                    self.types(*channel);
                }
                self.run(*channel, Some(command), at, desk);
            }
            Entry::Closed { channel } => {
                self.secret.remove(channel);
                if let Some(channel) = self.channels.remove(channel) {
                    self.counts.lose(channel.finish((micros, at), self.about.begin.session, desk.store));
                }
            }
            Entry::FileBegin { channel, file, path, direction }
                if self.files.len() < most && !self.files.contains_key(file) =>
            {
                let way = (*direction, *channel);
                let mut content = Content::new(*file, path.clone(), way, &self.about.place(desk.limits));
                // What a program reads may be a password that it has asked for.
                if desk.redacts && *direction == Direction::Input {
                    content.leave_out();
                }
                self.files.insert(*file, content);
            }
            _ => {}
        }
    }

    fn run(&mut self, number: u32, command: Option<&Text>, at: Utc, desk: &mut Desk<'_>) {
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.run((self.last, at), command, &self.about.place(desk.limits), desk.store);
        }
    }
}

impl About {
    fn place<'a>(&'a self, limits: &'a TapeLimits) -> Place<'a> {
        let Begin { session, protocol, .. } = self.begin;
        Place { session, protocol, dir: &self.dir, stem: &self.stem, limits, keeps: self.keeps }
    }
}
