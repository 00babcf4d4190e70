//! Files that move in a connection.

use serde::Serialize;
use serde_json::json;

use super::{Desk, Recording};
use crate::event::{EventId, Utc};
use crate::record::tape::content::{INTERRUPTED, Kept, REDACTED};
use crate::relay::tape::{Direction, Entry, Protocol};

/// The end of a file, and what is kept of it.
#[derive(Serialize)]
struct FileEnd<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    content_octets: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    missing: &'a [(u64, u64)],
}

/// How a file has moved.
pub(super) struct FileMoved<'a> {
    /// Octets of it, each counted once.
    pub(super) size: u64,
    /// Those that moved although they had before.
    pub(super) again: u64,
    pub(super) sha256: Option<&'a str>,
    /// Whether all of it came here.
    pub(super) kept: bool,
}

impl Recording {
    pub(super) fn piece(&mut self, file: u32, offset: u64, data: &[u8], desk: &mut Desk<'_>) {
        let Some(content) = self.files.get_mut(&file) else {
            self.counts.lose(data.len() as u64);
            return;
        };
        let lost = content.take(offset, data, &self.about.place(desk.limits), desk.store);
        // What a program reads and says is in its transcript, too.
        if !content.direction.is_of_channel() {
            self.counts.lose(lost);
        }
    }

    pub(super) fn file_end(&mut self, file: u32, end: &FileMoved<'_>, at: Utc, desk: &mut Desk<'_>) {
        let FileMoved { size, again, sha256, kept } = *end;
        let content = self.files.remove(&file);
        let (path, direction) = content.as_ref().map(|content| (content.path.clone(), content.direction)).unzip();
        let came = content.as_ref().map(|content| content.came);
        let number = content.as_ref().map(|content| content.channel);
        let there = content.map_or_else(Kept::default, |content| content.finish(self.about.begin.session, desk.store));
        if let (Some(direction), Some(channel)) = (direction, number.and_then(|number| self.channels.get_mut(&number)))
        {
            channel.has_beside(direction, there.octets);
        }
        // Who is in the middle has a limit of its own, and knows the digest of what is beyond it.
        let not_all = if sha256.is_some() { "file-too-large" } else { "not-from-first-to-last" };
        // Of a file that nobody has heard the beginning of each piece was counted as it came.
        let missing = came.filter(|_| kept).map_or(0, |came| size.saturating_sub(came));
        if !direction.is_some_and(Direction::is_of_channel) {
            self.counts.lose(missing);
        }
        // What nobody knows to be another thing may be what a program reads.
        let is_secret = there.cut == Some(REDACTED) || (desk.redacts && came.is_none());
        // Where another process has put zeros in it, that process knew.
        let is_other = there.resumed && sha256.is_some() && there.sha256.as_deref() != sha256;
        let has_gap = missing > 0 || is_other || (came.is_none() && size > 0);
        let sha256 = sha256.filter(|_| !is_secret);
        let cut = there.cut.or((!kept).then_some(not_all)).or(has_gap.then_some(INTERRUPTED));
        // If all of it is there, what it is was seen here, too.
        let sha256 = if cut.is_none() && there.octets > 0 { there.sha256.as_deref() } else { sha256 };
        let entry = Entry::FileEnd { file, size, again, sha256: sha256.map(str::to_owned), kept: cut.is_none() };
        let content = there.content.as_deref();
        let line = FileEnd { entry: &entry, content, content_octets: there.octets, cut, missing: &there.missing };
        self.tape.push(self.last, &line, desk.store);
        self.tape.flush(desk.store);
        self.counts.files += 1;
        // Of what went through the connection, what moved twice counts twice.
        let passed = size.saturating_add(again);
        if let Some(direction) = direction {
            self.running.pass_file(file, direction, passed);
        }
        match direction {
            Some(Direction::Upload) => self.counts.input = self.counts.input.saturating_add(passed),
            Some(Direction::Download) => self.counts.output = self.counts.output.saturating_add(passed),
            // Its octets came as those of a channel, too.
            Some(Direction::Input | Direction::Output) | None => {}
        }
        if self.about.begin.protocol != Protocol::Ssh {
            return;
        }
        let told = json!({
            "path": path, "direction": direction, "size": size, "sha256": sha256, "content": content, "cut": cut,
            "again": (again > 0).then_some(again), "duplicate": there.duplicate.then_some(true),
        });
        self.notice(EventId::SshFile, at, told, desk);
    }
}
