//! Writing a bundle: in one go, in constant memory.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::changed;
use super::frames::{Pick, Picked, Selection, select};
use super::key::Key;
use super::manifest::{EVENTS, KIND, MANIFEST, Manifest, SIGNATURE, VERSION, is_path};
use super::pack::{COPY, Packer, pack};
use super::{MANIFEST_OCTETS, UNPACKED};
use crate::container::inspector::host_of;
use crate::event::{EventId, SessionId, Utc};
use crate::record::tape::{self, TAPE};
use crate::record::transcript::CAST;
use crate::record::{Record, Session, Unrecorded, add_untold, belongings, session};

/// Octets of what decrypts frames: some thousands of connections.
const SECRETS: usize = 1 << 20;
/// Sentences about what is left out.
const SENTENCES: usize = 1000;
/// Tapes that are read for what they do not have, the newest ones.
const TAPES: usize = 1000;
/// How long before its first record and after its last a session's frames are looked for, in microseconds.
const BEFORE: i64 = 1_000_000;
const AFTER: i64 = 5_000_000;

/// What is to be exported.
#[derive(Debug)]
pub struct Job<'a> {
    /// The honeynet's directory.
    pub dir: &'a Path,
    /// Its name.
    pub honeynet: &'a str,
    /// The session.
    pub session: SessionId,
    /// The key that vouches for it.
    pub key: &'a Key,
    /// Where what has to be counted before it is written lies meanwhile, without a name and for its owner alone.
    pub scratch: &'a Path,
    /// The time.
    pub now: Utc,
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Something cannot be read or written.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The log does not know it.
    #[error("there is no record of session {0}")]
    Unknown(SessionId),
    /// It is too large.
    #[error("the session has more than {} GiB", UNPACKED >> 30)]
    TooLarge,
}

pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.display().to_string();
    move |source| ExportError::Io { what, path, source }
}

/// Writes the bundle of a session to what `open` opens, and returns that and what is in it. `open` is called on another
/// thread while records and frames are gathered: it may take its time to make a key of a password.
///
/// # Errors
/// See [`ExportError`]. What was written by then is no bundle.
pub fn export<W: Write + Send>(
    job: &Job<'_>,
    open: impl FnOnce() -> io::Result<W> + Send,
) -> Result<(W, Manifest), ExportError> {
    pack(open, job.now, |bundle| {
        let mut left_out = Vec::new();
        let mut events = scratch(job.scratch)?;
        let mut unrecorded = tapes(job, &mut left_out)?;
        let (mut about, mut wanted) = gather(job, &mut events, &mut unrecorded)?;
        let unknown = add_untold(job.dir, &mut about).map_err(failed("look through the evidence in", job.dir))?;
        if unknown > 0 {
            left_out.push(format!(
                "{unknown} archives of evidence of which no record tells whose they are, and that are damaged or too many to be read"
            ));
        }
        unrecorded.finish();
        if unrecorded.count() > 0 {
            left_out.push(format!(
                "{} connections that are not recorded: {EVENTS} has what there is of them",
                unrecorded.count()
            ));
        }
        wanted.span = span(&about, job.now);
        if wanted.more > 0 {
            left_out.push(format!("frames between {} further pairs of addresses", wanted.more));
        }
        wanted.secrets = secrets(job, &mut left_out)?;
        let captures = job.dir.join("captures");
        let comment = format!("session {} of honeynet {}", job.session, job.honeynet);
        let frames = select(&captures, &wanted, &comment).map_err(failed("pick frames out of", &captures))?;
        if frames.1.unread > 0 {
            left_out.push(format!("frames of {} captures that are damaged or too many", frames.1.unread));
        }
        fill(bundle, job, &about, (events, frames), left_out)
    })
}

/// Puts everything into the bundle.
fn fill(
    bundle: &mut Packer,
    job: &Job<'_>,
    about: &Session,
    (events, (frames, picked)): (File, (Vec<Selection<'_>>, Picked)),
    mut left_out: Vec<String>,
) -> Result<Manifest, ExportError> {
    let fail = || failed("write the bundle of", Path::new("this session"));
    bundle.scratched(EVENTS, events)?;
    for (number, of_device) in frames.into_iter().enumerate() {
        let mut path = format!("captures/{}.pcapng", of_device.series);
        if !is_path(&path) {
            path = format!("captures/device-{number}.pcapng");
        }
        bundle.written(&path, of_device.octets, |out| of_device.write(out))?;
    }
    let (belongings, others) = belongings(job.dir, job.session).map_err(failed("list the files of", job.dir))?;
    if others > 0 {
        left_out
            .push(format!("{others} entries of the session's directory whose names are harmful, or that are no files"));
    }
    for file in belongings {
        let folder = if file.name.ends_with(CAST) { "transcripts" } else { "files" };
        bundle.file(&format!("{folder}/{}", file.name), &file.path, &mut left_out)?;
    }
    for name in &about.archives {
        let path = format!("evidence/{name}");
        if host_of(name).is_none() || !is_path(&path) {
            left_out.push("an archive of evidence whose name is none".into());
            continue;
        }
        bundle.file(&path, &job.dir.join("evidence").join(name), &mut left_out)?;
    }
    changed::fill(bundle, job, &mut left_out)?;
    let more = left_out.len().saturating_sub(SENTENCES);
    left_out.truncate(SENTENCES);
    if more > 0 {
        left_out.push(format!("{more} more things"));
    }
    let manifest = Manifest {
        kind: KIND.into(),
        version: VERSION,
        tool: concat!("honeyweave ", env!("CARGO_PKG_VERSION")).into(),
        made: job.now,
        honeynet: job.honeynet.into(),
        session: job.session.to_string(),
        key: job.key.public().fingerprint(),
        about: serde_json::to_value(about).map_err(io::Error::from).map_err(fail())?,
        frames: picked,
        left_out,
        members: std::mem::take(&mut bundle.members),
    };
    let mut text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from).map_err(fail())?;
    text.push(b'\n');
    if text.len() as u64 > MANIFEST_OCTETS {
        return Err(ExportError::TooLarge);
    }
    bundle.member(MANIFEST, &text[..], text.len() as u64).map_err(fail())?;
    let signature = job.key.sign(&text);
    bundle.member(SIGNATURE, &signature[..], signature.len() as u64).map_err(fail())?;
    Ok(manifest)
}

/// Writes the session's records to `events`, and finds what it was and between whom its frames are.
fn gather(job: &Job<'_>, events: &mut File, unrecorded: &mut Unrecorded) -> Result<(Session, Pick), ExportError> {
    let log = job.dir.join("events");
    let mut wanted = Pick::default();
    let mut lines = BufWriter::with_capacity(COPY, events);
    let found = session(&log, job.session, |line, record| {
        between(record, &mut wanted);
        if record.session == Some(job.session) {
            unrecorded.add(record);
        }
        lines.write_all(line.as_bytes())?;
        lines.write_all(b"\n")
    });
    let found = found.and_then(|found| lines.flush().map(|()| found)).map_err(failed("gather the records in", &log))?;
    Ok((found.ok_or(ExportError::Unknown(job.session))?, wanted))
}

/// Whose frames a record is about.
fn between(record: &Record, wanted: &mut Pick) {
    // Those about containers are of what honeyweave itself does.
    let is_contact = !matches!(
        record.event,
        EventId::EvidenceTaken | EventId::EvidenceListed | EventId::EvidenceFailed | EventId::ContainerDestroyed
    );
    let ends = (record.src.as_ref().and_then(|src| src.ip), record.dst.as_ref().and_then(|dst| dst.ip));
    if let (true, (Some(src), Some(dst))) = (is_contact, ends) {
        wanted.add(src, dst);
    }
}

/// When the session's frames passed, in nanoseconds. Where its end is not on record, it may go on.
fn span(about: &Session, now: Utc) -> (u64, u64) {
    let nanos = |micros: i64| u64::try_from(micros).unwrap_or(0).saturating_mul(1000);
    let end = match about.over {
        Some(over) => about.heard.max(over.since),
        None if about.ended => about.heard,
        None => about.heard.max(now),
    };
    let end = end.micros();
    (nanos(about.since.micros().saturating_sub(BEFORE)), nanos(end.saturating_add(AFTER)))
}

/// Learns from the newest tapes what they do not have, and which connections have one.
fn tapes(job: &Job<'_>, left_out: &mut Vec<String>) -> Result<Unrecorded, ExportError> {
    let (belongings, _) = belongings(job.dir, job.session).map_err(failed("list the files of", job.dir))?;
    let tapes: Vec<_> = belongings.iter().filter(|file| file.name.ends_with(TAPE)).collect();
    let (mut lines, mut octets, mut began) = (0_u64, 0_u64, Vec::new());
    let mut room = tape::Room::default();
    for file in tapes.iter().rev().take(TAPES) {
        let Ok(told) = tape::connection_within(&file.path, &mut room) else { continue };
        (lines, octets) = (lines.saturating_add(told.lost_lines), octets.saturating_add(told.lost));
        began.extend(told.ports.zip(told.since.parse::<Utc>().ok()));
    }
    if lines > 0 || octets > 0 {
        left_out.push(format!("{lines} lines of tapes and {octets} octets of connections, which were not recorded"));
    }
    let from = began.iter().map(|(_, since)| *since).min().filter(|_| tapes.len() > TAPES);
    Ok(Unrecorded::beside(began.into_iter(), from, job.now))
}

/// What decrypts the session's frames, from the tapes of its connections.
fn secrets(job: &Job<'_>, left_out: &mut Vec<String>) -> Result<String, ExportError> {
    let (belongings, _) = belongings(job.dir, job.session).map_err(failed("list the files of", job.dir))?;
    let (mut lines, mut more) = (String::new(), 0);
    for tape in belongings.iter().filter(|file| file.name.ends_with(TAPE) && file.name.contains("-tls-")) {
        let read = tape::secrets(&tape.path).unwrap_or_default();
        if lines.len() + read.len() > SECRETS {
            more += 1;
        } else {
            lines.push_str(&read);
        }
    }
    if more > 0 {
        left_out.push(format!("what decrypts {more} more connections, in the capture; their tapes have it"));
    }
    Ok(lines)
}

/// A file without a name in `dir`.
pub(super) fn scratch(dir: &Path) -> Result<File, ExportError> {
    let mut number = 0;
    loop {
        let path: PathBuf = dir.join(format!(".honeyweave-export-{}-{number}", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path).map_err(failed("remove", &path))?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            Err(error) => return Err(failed("create a file in", dir)(error)),
        }
    }
}
