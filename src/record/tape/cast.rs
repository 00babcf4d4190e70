//! The transcript of a channel that is being written.
//!
//! What a program without a terminal reads and says is kept as the content of a file, too: octets of a copy in a cast are
//! six times as many as in that, and nobody reads them there. So of each stream a transcript without a terminal has a
//! beginning only, and what has come after that is lost only as far as no content has it.

use super::room::{Kind, Scarce};
use super::store::Store;
use crate::event::{SessionId, Utc};
use crate::record::transcript::{Missing, Transcript, TranscriptStats};
use crate::relay::tape::Stream;

/// A transcript, and what is known of it here.
pub struct Cast {
    pub transcript: Transcript,
    /// What was counted of it already.
    counted: TranscriptStats,
    /// What there may be of each stream; none where there is a terminal.
    streams: Option<[Part; 3]>,
}

/// What there is of a stream.
#[derive(Clone, Copy, Default)]
struct Part {
    /// Octets of the cast that may still tell of it.
    left: u64,
    /// Octets that it tells of, and those after them.
    told: u64,
    beyond: u64,
}

impl Part {
    /// Octets beyond its end that are in no content either, of which the first `kept` octets are there.
    fn lost(self, kept: u64) -> u64 {
        self.beyond.saturating_sub(kept.saturating_sub(self.told))
    }
}

/// What a cast says where the beginning of a stream ends.
fn end_of(stream: Stream) -> &'static str {
    match stream {
        Stream::Input => {
            "the input after this is not in the transcript, as it has no terminal: the tape has the file with what is kept of it"
        }
        Stream::Output => {
            "the output after this is not in the transcript, as it has no terminal: the tape has the file with what is kept of it"
        }
        Stream::Error => "the errors after this are not recorded, as there are too many of them without a terminal",
    }
}

/// Whether a marker of a cast says that something is to be found elsewhere, and not that it is missing.
pub fn is_elsewhere(marker: &str) -> bool {
    [Stream::Input, Stream::Output].map(end_of).contains(&marker)
}

impl Cast {
    /// One that begins; `left` says what it may have of each stream, if there is a limit.
    pub fn new(transcript: Transcript, left: Option<u64>) -> Cast {
        let streams = left.map(|left| [Part { left, ..Part::default() }; 3]);
        Cast { transcript, counted: TranscriptStats::default(), streams }
    }

    /// One that another process has begun, whose octets are counted.
    pub fn resumed(transcript: Transcript, left: Option<u64>) -> Cast {
        let counted = transcript.stats();
        // Which of them were of which stream nobody knows: most of much are output.
        let left_of = |left: u64, stream| if stream == 1 { left.saturating_sub(counted.written) } else { left };
        let streams = left.map(|left| [0, 1, 2].map(|stream| Part { left: left_of(left, stream), ..Part::default() }));
        Cast { counted, streams, ..Cast::new(transcript, None) }
    }

    /// Takes octets.
    pub fn take(&mut self, at: Utc, stream: Stream, data: &[u8], (session, store): (SessionId, &mut Store)) {
        let count = data.len() as u64;
        if self.part(stream).is_some_and(|part| part.left == 0) {
            return self.pass_over(stream, count);
        }
        let before = self.transcript.octets();
        let (has, waiting) = (self.counted.written, before.saturating_sub(self.counted.written));
        if store.scarce() >= Scarce::Transcripts {
            return self.transcript.skip(count, Missing::Scarce);
        }
        if !store.has_room(session, Kind::Transcript, has, waiting.saturating_add(count)) {
            return self.transcript.skip(count, Missing::Share);
        }
        match stream {
            Stream::Input => self.transcript.input(at, data),
            Stream::Output | Stream::Error => self.transcript.output(at, data),
        }
        let came = self.transcript.octets().saturating_sub(before);
        let Some(part) = self.part(stream) else { return };
        part.told = part.told.saturating_add(count);
        part.left = part.left.saturating_sub(came);
        if part.left == 0 {
            self.transcript.mark(at, end_of(stream));
        }
    }

    fn part(&mut self, stream: Stream) -> Option<&mut Part> {
        let [input, output, error] = self.streams.as_mut()?;
        Some(match stream {
            Stream::Input => input,
            Stream::Output => output,
            Stream::Error => error,
        })
    }

    /// Octets behind the beginning of a stream.
    fn pass_over(&mut self, stream: Stream, count: u64) {
        match self.part(stream).filter(|_| stream != Stream::Error) {
            Some(part) => part.beyond = part.beyond.saturating_add(count),
            // Nothing else has them.
            None => self.transcript.skip(count, Missing::Share),
        }
    }

    /// Counts what has become of it since it was counted last; returns how many octets of that are in no file.
    pub fn settle(&mut self, session: SessionId, store: &mut Store) -> u64 {
        let stats = self.transcript.stats();
        (self.counted.parts..stats.parts).for_each(|_| store.created(session));
        store.wrote(session, stats.written.saturating_sub(self.counted.written));
        let lost = stats.lost.saturating_sub(self.counted.lost);
        self.counted = stats;
        lost
    }

    /// Ends it, where contents have the first `beside` octets of input and of output; returns how many more octets are in no
    /// file.
    pub fn finish(mut self, at: Utc, beside: [u64; 2], session: SessionId, store: &mut Store) -> u64 {
        let mut lost = self.settle(session, store);
        store.end_part(session);
        if let Some([input, output, _]) = self.streams {
            lost += input.lost(beside[0]).saturating_add(output.lost(beside[1]));
        }
        match self.transcript.finish(at) {
            Ok(stats) => {
                store.wrote(session, stats.written.saturating_sub(self.counted.written));
                lost + stats.lost.saturating_sub(self.counted.lost)
            }
            Err(error) => {
                store.refuse_of(session, &error);
                lost
            }
        }
    }
}
