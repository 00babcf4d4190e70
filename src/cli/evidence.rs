//! `honeyweave evidence`: what intruders left in containers.
//!
//! Everything in an archive but hashes and figures may be an attacker's, or that of
//! whoever had the archive in hand: nothing of it reaches a terminal as it is.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use miette::miette;
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Target, show, table};
use crate::container::inspector::{
    self, Change, Diff, How, Limits, Manifest, Nothing, SAMPLES, Sha256Hex, Taken, read,
};
use crate::record::escape;

const SUDO: &str = "evidence is for root's eyes: use sudo";

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with evidence.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List the archives, of all honeynets or of one
    Ls {
        /// Whose
        #[command(flatten)]
        target: Target,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a container was for, and what was changed in it
    Show {
        /// An archive, by its path or by the name that `ls` tells
        file: PathBuf,
        /// Whose, if it is a name
        #[command(flatten)]
        target: Target,
        /// Print the manifest
        #[arg(long)]
        json: bool,
    },
    /// Check that an archive holds what its manifest says; exit code 1 if it does not
    Verify {
        /// An archive, by its path or by the name that `ls` tells
        file: PathBuf,
        /// Whose, if it is a name
        #[command(flatten)]
        target: Target,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare the upper directory of an overlay with the files of an image, as is done for an archive
    Diff {
        /// The upper directory
        #[arg(long, value_name = "DIR")]
        upper: PathBuf,
        /// The files of the image
        #[arg(long, value_name = "DIR")]
        lower: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Lists, shows and checks evidence.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    match args.command {
        Command::Ls { target, json } => show::print_rows(&list(&target)?, json),
        Command::Show { file, target, json } => {
            let path = find(&file, &target)?;
            let manifest = open(&path)?.manifest;
            let text = if json { pretty(&manifest)? } else { tell(&manifest) };
            table::put(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Verify { file, target, json } => verify(&find(&file, &target)?, json),
        Command::Diff { upper, lower, json } => {
            let (upper, lower) = (directory(&upper)?, directory(&lower)?);
            let diff = inspector::compare(upper, lower, inspector::Ours::default(), &Limits::default(), &mut Nothing);
            let diff = diff.map_err(|error| miette!("cannot compare the directories: {error}"))?;
            let text = if json { pretty(&diff)? } else { changes(&diff) };
            table::put(&text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// `value` as JSON that a terminal may show.
pub(super) fn pretty(value: &impl serde::Serialize) -> miette::Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| miette!("{error}"))?;
    Ok(format!("{}\n", table::safe_json(&text)))
}

fn directory(path: &Path) -> miette::Result<File> {
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    opened.map(File::from).map_err(|error| miette!("cannot open the directory {}: {error}", path.display()))
}

/// The directories of evidence that `target` means, with the names of their honeynets.
fn directories(target: &Target) -> miette::Result<Vec<(String, PathBuf)>> {
    let all = target.all()?.into_iter().map(|lying| (lying.name, lying.dir.join("evidence")));
    Ok(all.filter(|(_, dir)| dir.is_dir()).collect())
}

fn list(target: &Target) -> miette::Result<Vec<Value>> {
    let mut rows = Vec::new();
    for (honeynet, dir) in directories(target)? {
        let entries =
            fs::read_dir(&dir).map_err(|error| miette!(help = SUDO, "cannot list {}: {error}", dir.display()))?;
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        for name in names {
            let Some((host, number)) = inspector::host_of(&name) else { continue };
            let Ok(meta) = fs::symlink_metadata(dir.join(&name)) else { continue };
            let Some(taken) = inspector::taken_of(&name) else { continue };
            // Its name has no more than seconds, and the rest is in the manifest, which is at the end of all that is packed.
            let taken = taken.to_string().replace(".000000", "");
            rows.push(json!({
                "honeynet": honeynet,
                "taken": taken,
                "host": host,
                "container": number,
                "octets": meta.len(),
                "archive": name,
            }));
        }
    }
    Ok(rows)
}

/// The archive that is meant by `file`.
fn find(file: &Path, target: &Target) -> miette::Result<PathBuf> {
    if file.components().count() != 1 || file.exists() {
        return Ok(file.to_owned());
    }
    let mut found = Vec::new();
    for (_, dir) in directories(target)? {
        let path = dir.join(file);
        match path.symlink_metadata() {
            Ok(_) => found.push(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(miette!(help = SUDO, "cannot look into {}: {error}", dir.display()));
            }
            Err(_) => {}
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        (Some(_), false) => Err(miette!(
            help = "say which with --name NAME, or by its path",
            "several honeynets have an archive {}",
            file.display()
        )),
        (None, _) => Err(miette!(
            help = "`honeyweave evidence ls` lists what there is; --state-dir says where honeynets lie",
            "there is no archive {}",
            file.display()
        )),
    }
}

fn open(path: &Path) -> miette::Result<read::Archive> {
    read::open(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &read::ReadError) -> miette::Report {
    // What is wrong may be told in the words of whoever made the file.
    let why = format!("{}: {}", path.display(), escape(&error.to_string()));
    match error {
        read::ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            miette!(help = "`honeyweave evidence ls` lists what there is", "{why}")
        }
        read::ReadError::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            miette!(help = SUDO, "{why}")
        }
        _ => miette!(
            help = "bundles of sessions are checked by `honeyweave session verify`; what is cut off or damaged is copied once more",
            "{why}"
        ),
    }
}

fn verdict(path: &Path, mistakes: &[String]) -> Value {
    json!({ "archive": path.display().to_string(), "ok": mistakes.is_empty(), "mistakes": mistakes })
}

fn verify(path: &Path, json: bool) -> miette::Result<ExitCode> {
    let archive = match read::open(path) {
        Ok(archive) => archive,
        // What cannot be looked at is neither good nor bad.
        Err(error) if json && File::open(path).is_ok() => {
            let why = escape(&error.to_string()).into_owned();
            table::put(&pretty(&verdict(path, &[why]))?)?;
            return Ok(ExitCode::from(super::FAILURE));
        }
        Err(error) => return Err(unreadable(path, &error)),
    };
    let samples = path.parent().unwrap_or(Path::new(".")).join(SAMPLES);
    let mistakes = archive.mistakes(|hash| sample(&samples, hash));
    if json {
        table::put(&pretty(&verdict(path, &mistakes))?)?;
    } else if mistakes.is_empty() {
        let octets: u64 = archive.files.values().sum();
        let (changes, files) = (archive.manifest.changes.len(), archive.files.len());
        table::put(&format!("ok: {changes} changes, contents of {files} files with {octets} octets\n"))?;
    } else {
        table::put(&mistakes.iter().map(|mistake| format!("{}\n", escape(mistake))).collect::<String>())?;
    }
    Ok(if mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(super::FAILURE) })
}

/// The hash of what is kept as the sample `hash`, if it is there.
fn sample(samples: &Path, hash: &Sha256Hex) -> Option<io::Result<Sha256Hex>> {
    let file = match File::open(samples.join(format!("{hash}.zst"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        file => file,
    };
    let read = file.and_then(|file| {
        let mut digest = Sha256::new();
        // The largest that is kept, and one octet that it must not have.
        let most = Limits::MOST_FILE + 1;
        io::copy(&mut io::Read::take(zstd::Decoder::new(file)?, most), &mut Digesting(&mut digest))?;
        Ok(Sha256Hex(digest.finalize().into()))
    });
    Some(read)
}

struct Digesting<'a>(&'a mut Sha256);

impl io::Write for Digesting<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.update(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A manifest for people.
fn tell(manifest: &Manifest) -> String {
    let leased = &manifest.leased;
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let facts = [
        ("taken", manifest.taken.to_string()),
        ("honeynet", leased.honeynet.clone()),
        ("container", leased.container.clone()),
        ("node", leased.node.clone()),
        ("host", format!("{} {}", leased.host, leased.hostname)),
        ("template", leased.template.clone()),
        ("image", format!("{} {}", leased.image, leased.image_hash)),
        ("attacker", known(leased.attacker.map(|ip| ip.to_string()))),
        ("session", known(leased.session.clone())),
        ("began", leased.began.to_string()),
        ("ended", known(leased.ended.map(|at| at.to_string()))),
        ("why", known(leased.why.clone())),
    ];
    let mut text: String = facts.iter().map(|(name, value)| format!("{name:10} {}\n", escape(value))).collect();
    let later = leased.leases.iter().skip(1);
    for visit in later {
        let (ended, who) =
            (known(visit.ended.map(|at| at.to_string())), known(visit.attacker.map(|ip| ip.to_string())));
        text += &format!("again      {} to {ended}, {}\n", visit.began, escape(&who));
    }
    if leased.more_leases > 0 {
        text += &format!("and        {} times before the last\n", leased.more_leases);
    }
    text.push('\n');
    let diff = Diff { counts: manifest.counts, cut: manifest.cut.clone(), changes: manifest.changes.clone() };
    text + &changes(&diff)
}

/// What was taken, for people.
pub(super) fn taken(taken: &Taken) -> String {
    let counts = &taken.counts;
    let mut text = format!(
        "{}\n{} added, {} changed, {} deleted; contents of {} files kept\n",
        escape(&taken.archive),
        counts.added,
        counts.changed,
        counts.deleted,
        counts.kept
    );
    if taken.cut > 0 {
        text += &format!("{} places are not told; `honeyweave evidence show` says which\n", taken.cut);
    }
    text
}

/// Changes for people, one a line, its path last: nobody knows how long it is.
pub(super) fn changes(diff: &Diff) -> String {
    let rows: Vec<[String; 6]> = diff.changes.iter().map(cells).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].len()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    for [how, kind, mode, owner, size, path] in &rows {
        let [w0, w1, w2, w3, w4] = widths;
        text += &format!("{how:w0$}  {kind:w1$}  {mode:w2$}  {owner:w3$}  {size:>w4$}  {path}\n");
    }
    for cut in &diff.cut {
        text += &format!("not told: {} ({})\n", cut.path, word(&cut.why));
    }
    let counts = &diff.counts;
    text + &format!(
        "{} added, {} changed, {} deleted; contents of {} files kept\n",
        counts.added, counts.changed, counts.deleted, counts.kept
    )
}

fn cells(change: &Change) -> [String; 6] {
    let entry = &change.entry;
    let how = match change.change {
        How::Added => "added",
        How::Changed => "changed",
        How::Deleted => "deleted",
    };
    let owner = format!("{}:{}", entry.uid, entry.gid);
    let mut path = path_with_notes(change);
    if let Some(hash) = &change.sha256 {
        path += &format!("  sha256 {hash}");
    }
    [how.into(), word(&entry.kind), String::from(entry.mode), owner, entry.size.to_string(), path]
}

/// The path of a change, and what is to be said about it.
pub(super) fn path_with_notes(change: &Change) -> String {
    let mut path = change.path.to_string();
    let mut notes: Vec<String> = change.differs.iter().map(word).collect();
    if change.opaque {
        notes.push("nothing of what was in it is left".into());
    }
    if change.sample {
        notes.push("executable".into());
    }
    notes.extend(change.why.iter().map(word));
    if let Some(target) = &change.target {
        path += &format!(" -> {target}");
    }
    if let Some(other) = &change.same_as {
        path += &format!(" = {other}");
    }
    if !notes.is_empty() {
        path += &format!("  [{}]", notes.join(", "));
    }
    path
}

/// What the manifest calls it.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
