//! What runs in a channel until it is over, and what is sent first through a connection beyond the host.

use std::collections::BTreeMap;

use ring::digest::{Context, SHA256};
use serde_json::json;

use super::{Desk, Recording};
use crate::event::{EventId, Utc};
use crate::record::tape::notice::said;
use crate::relay::tape::{ChannelKind, Direction, Entry, Protocol, Stream, Text};
use crate::service::Spoken;
use crate::wire::hex;

/// Octets of input of which the digest is told: what is longer is no session at a keyboard.
const DIGESTED: u64 = 16 << 20;
/// Octets that are told of what is sent through a connection.
const FIRST: usize = 512;
/// Files of which it is known through which channel they move; of others the channel does not count the octets.
const FILES: usize = 4096;
/// Octets that are kept of a command, as it is shown, until it is over: so many fit into the event of its end, unless JSON
/// writes many of them out. That of its beginning has told more.
const NAME: usize = 768;

/// What there is of a connection's channels besides their files.
#[derive(Default)]
pub(super) struct Running {
    /// Shells, commands and subsystems, by their channel.
    programs: BTreeMap<u32, Program>,
    /// Connections beyond the host through which nothing was sent yet: where to.
    aimed: BTreeMap<u32, (Text, u32)>,
    /// Files on their way that are told of in place of a channel's octets, and the channel.
    files: BTreeMap<u32, u32>,
}

struct Program {
    kind: &'static str,
    /// The beginning of the command, or of the subsystem's name.
    name: Option<Text>,
    /// When it began, in microseconds.
    since: u64,
    input: u64,
    output: u64,
    /// Of its input; none if another process has heard some of it, or some is told as files.
    digest: Option<Context>,
    resumed: bool,
    status: Option<u32>,
    signal: Option<Text>,
}

impl Running {
    /// Octets of a channel.
    pub(super) fn pass(&mut self, channel: u32, stream: Stream, data: &[u8]) {
        let Some(program) = self.programs.get_mut(&channel) else { return };
        let count = data.len() as u64;
        match stream {
            Stream::Input => {
                program.input = program.input.saturating_add(count);
                if program.input > DIGESTED {
                    program.digest = None;
                } else if let Some(digest) = &mut program.digest {
                    digest.update(data);
                }
            }
            Stream::Output | Stream::Error => program.output = program.output.saturating_add(count),
        }
    }

    /// A file that has come or gone through a channel.
    pub(super) fn pass_file(&mut self, file: u32, direction: Direction, size: u64) {
        let channel = self.files.remove(&file);
        let Some(program) = channel.and_then(|channel| self.programs.get_mut(&channel)) else { return };
        match direction {
            Direction::Upload => program.input = program.input.saturating_add(size),
            Direction::Download => program.output = program.output.saturating_add(size),
            Direction::Input | Direction::Output => {}
        }
    }

    /// What ran in a channel is over.
    fn close(&mut self, channel: u32) -> Option<Program> {
        self.files.retain(|_, of| *of != channel);
        self.programs.remove(&channel)
    }

    /// So many more that nobody has.
    pub(super) fn pass_beyond(&mut self, channel: u32, stream: Stream, count: u64) {
        let Some(program) = self.programs.get_mut(&channel) else { return };
        match stream {
            Stream::Input => {
                program.input = program.input.saturating_add(count);
                program.digest = None;
            }
            Stream::Output | Stream::Error => program.output = program.output.saturating_add(count),
        }
    }
}

/// Whether what runs speaks SFTP or SCP, or may.
fn moves_files(kind: &str, name: &str) -> bool {
    match kind {
        "subsystem" => name == "sftp",
        _ => name.split_whitespace().next().is_some_and(|program| program.rsplit('/').next() == Some("scp")),
    }
}

impl Recording {
    /// Learns from an entry what runs where; what a channel's end ends is told of.
    pub(super) fn know(&mut self, entry: &Entry, at: Utc, desk: &mut Desk<'_>) {
        if !matches!(self.about.begin.protocol, Protocol::Ssh | Protocol::Plain(Spoken::Telnet)) {
            return;
        }
        self.learn(entry, self.last, false);
        match entry {
            Entry::Opened { channel, kind: ChannelKind::DirectTcpip { host, port, .. } }
                if self.running.aimed.len() < desk.limits.of_connection =>
            {
                self.running.aimed.insert(*channel, (host.clone(), *port));
            }
            Entry::Closed { channel } => {
                self.running.aimed.remove(channel);
                self.tell_exit(*channel, at, desk);
            }
            _ => {}
        }
    }

    /// The same of what another process has told. What it has not is told by whoever is there at the end.
    pub(super) fn knew(&mut self, entry: &Entry, micros: u64) {
        self.learn(entry, micros, true);
        if let Entry::Closed { channel } = entry {
            self.running.close(*channel);
        }
    }

    fn learn(&mut self, entry: &Entry, since: u64, resumed: bool) {
        match entry {
            // Of Telnet the terminal is there from the first octet on, and nobody's before somebody is let in.
            Entry::Attempt { accepted: true, .. } if self.about.begin.protocol == Protocol::Plain(Spoken::Telnet) => {
                if let Some(channel) = self.channels.keys().next().copied() {
                    self.begins(channel, "shell", None, since, resumed);
                }
            }
            Entry::Shell { .. } if self.about.begin.protocol == Protocol::Plain(Spoken::Telnet) => {}
            Entry::Shell { channel } => self.begins(*channel, "shell", None, since, resumed),
            Entry::Exec { channel, command } => {
                self.begins(*channel, "command", Some(command), since, resumed);
            }
            Entry::Subsystem { channel, name } => {
                self.begins(*channel, "subsystem", Some(name), since, resumed);
            }
            // Its octets are no longer told as the channel's.
            Entry::FileBegin { channel, file, direction, .. } if !direction.is_of_channel() => {
                if let Some(program) = self.running.programs.get_mut(channel) {
                    program.digest = None;
                    if self.running.files.len() < FILES {
                        self.running.files.insert(*file, *channel);
                    }
                }
            }
            Entry::Exit { channel, status, signal } => {
                if let Some(program) = self.running.programs.get_mut(channel) {
                    (program.status, program.signal) = (*status, signal.clone());
                }
            }
            _ => {}
        }
    }

    fn begins(&mut self, channel: u32, kind: &'static str, name: Option<&Text>, since: u64, resumed: bool) {
        let has_channels = matches!(self.about.begin.protocol, Protocol::Ssh | Protocol::Plain(Spoken::Telnet));
        // One runs in a channel, and is not told of twice.
        if !has_channels || !self.channels.contains_key(&channel) || self.running.programs.contains_key(&channel) {
            return;
        }
        // What a protocol of files says besides them is not told.
        let moves = name.is_some_and(|name| moves_files(kind, name.as_str()));
        let digest = (!resumed && !moves).then(|| Context::new(&SHA256));
        let (name, input, output) = (name.map(|name| name.beginning(NAME)), 0, 0);
        let (status, signal) = (None, None);
        let program = Program { kind, name, since, input, output, digest, resumed, status, signal };
        self.running.programs.insert(channel, program);
    }

    /// Octets go through a channel.
    pub(super) fn passes(&mut self, channel: u32, stream: Stream, data: &[u8], at: Utc, desk: &mut Desk<'_>) {
        self.running.pass(channel, stream, data);
        if stream == Stream::Input
            && !data.is_empty()
            && let Some((host, port)) = self.running.aimed.remove(&channel)
        {
            // A log-in in the clear may be in them.
            let first = (!desk.redacts).then(|| Text::new(data.get(..FIRST).unwrap_or(data)));
            let told = json!({"host": host, "port": port, "channel": channel, "octets": first});
            self.notice(EventId::SshForwardData, at, told, desk);
        }
    }

    /// All that runs is over.
    pub(super) fn tell_exits(&mut self, at: Utc, desk: &mut Desk<'_>) {
        for channel in self.running.programs.keys().copied().collect::<Vec<_>>() {
            self.tell_exit(channel, at, desk);
        }
    }

    fn tell_exit(&mut self, channel: u32, at: Utc, desk: &mut Desk<'_>) {
        let no_text = self.typed_all(channel, at, desk);
        let Some(program) = self.running.close(channel) else { return };
        let transcript = self.channels.get(&channel).is_some_and(|channel| channel.has_transcript()).then(|| {
            let [_, cast] = self.about.place(desk.limits).files(channel);
            cast.file_name().map(|name| name.to_string_lossy().into_owned())
        });
        let name = program.name.as_ref().and_then(said);
        let is_command = program.kind == "command";
        let told = json!({
            "kind": program.kind,
            "command": name.filter(|_| is_command),
            "name": name.filter(|_| !is_command),
            "status": program.status,
            "signal": program.signal,
            // Of a short password it is as good as the password.
            "sha256": program.digest.filter(|_| !desk.redacts).map(|digest| hex(digest.finish().as_ref())),
            "transcript": transcript.flatten(),
            "no_text": (no_text > 0).then_some(no_text),
            "resumed": program.resumed.then_some(true),
        });
        let before = desk.told.len();
        let is_telnet = self.about.begin.protocol == Protocol::Plain(Spoken::Telnet);
        self.notice(if is_telnet { EventId::TelnetExit } else { EventId::SshExit }, at, told, desk);
        if let Some(notice) = desk.told.get_mut(before) {
            notice.event.count = self.last.saturating_sub(program.since);
            (notice.event.bytes_in, notice.event.bytes_out) = (program.input, program.output);
        }
    }
}
