//! The inspector's own side: it gives up everything, then reads its request.

use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit};

use super::archive::{Writer, stem};
use super::diff::compare_at_rest;
use super::listing::{self, Known, Shelf, listing_name};
use super::samples::Samples;
use super::{
    Answer, Change, Cut, Diff, INSPECTOR_UID, Job, Listing, MESSAGE, Manifest, Note, Noted, Nothing, Taken, VERSION,
    Why, compare, retention,
};
use crate::sys::{handed, privileges, sched, seccomp};

/// Octets of address space. The largest file that is kept and the list of changes are in memory.
const MEMORY: u64 = 1 << 30;
/// Octets of the largest file that it may write.
const FILE_SIZE: u64 = 4 << 30;
/// Seconds of processor time.
const CPU_SECS: u64 = 300;
/// Open descriptors; those that it is handed have numbers above 100.
const DESCRIPTORS: u64 = 128;
/// Archives that are named in an answer.
const NAMED: usize = 100;
/// By how much it stands back behind others.
const STAND_BACK: i32 = 10;
/// Octets of a list of changes, as it is told.
pub(super) const LISTED: usize = 8 << 20;
/// The same of a listing: that of before is in memory, too.
const NOTED: usize = 64 << 20;

/// Runs as an inspector: confines itself, reads a request, does it, answers. Ends with its parent.
///
/// # Errors
/// If it cannot confine itself, was not started by [`super::Inspector`], or nobody hears the answer.
pub fn main() -> io::Result<()> {
    let answer = match confine() {
        Ok([upper, lower, samples, evidence]) => {
            let mut request = Vec::new();
            io::stdin().lock().take(MESSAGE as u64 + 1).read_until(b'\n', &mut request)?;
            match serde_json::from_slice::<Job>(&request) {
                Ok(job) if job.list => match list(&job, [&upper, &lower]) {
                    Ok(diff) => Answer::Listed(diff),
                    Err(error) => Answer::Failed(error.to_string()),
                },
                Ok(job) if job.is_at_rest() => match note(&job, [&upper, &lower, &samples, &evidence], &rests) {
                    Ok(noted) => Answer::Noted(noted),
                    Err(error) => Answer::Failed(error.to_string()),
                },
                Ok(job) => match take(&job, [&upper, &lower, &samples, &evidence]) {
                    Ok(taken) => Answer::Taken(taken),
                    Err(error) => Answer::Failed(error.to_string()),
                },
                Err(error) => Answer::Failed(format!("the keeper's request cannot be read: {error}")),
            }
        }
        Err(error) => Answer::Failed(format!("the inspector cannot confine itself: {error}")),
    };
    io::stdout().lock().write_all(&serde_json::to_vec(&answer)?)
}

/// Gives up every right but that to read, and returns the directories: overlay, image, samples, evidence.
fn confine() -> io::Result<[OwnedFd; 4]> {
    // Those who live go first.
    sched::stand_back(STAND_BACK);
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get() as u32);
    privileges::die_with_parent(parent)?;
    let handed = (0..4).map(handed::inherited).collect::<io::Result<Vec<_>>>()?;
    privileges::leave_network()?;
    // The overlay and the image.
    let directories = privileges::leave_files(&handed.iter().map(AsFd::as_fd).collect::<Vec<_>>(), 2)?;
    drop(handed);
    for (resource, most) in [
        (Resource::As, MEMORY),
        (Resource::Fsize, FILE_SIZE),
        (Resource::Cpu, CPU_SECS),
        (Resource::Nofile, DESCRIPTORS),
        (Resource::Nproc, 1),
        (Resource::Core, 0),
    ] {
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    privileges::drop_to_reader(INSPECTOR_UID, INSPECTOR_UID)?;
    // A change of user forgets such a wish.
    privileges::die_with_parent(parent)?;
    seccomp::confine_reader()?;
    directories.try_into().map_err(|_| io::Error::other("a directory is missing"))
}

/// Whether whoever asked for a listing still holds the other end: then the container rests.
fn rests() -> bool {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}

/// Makes a listing of a container for as long as it `rests`.
pub(super) fn note(
    job: &Job,
    [upper, lower, samples, evidence]: [&OwnedFd; 4],
    rests: &dyn Fn() -> bool,
) -> io::Result<Noted> {
    let failed = |what: &'static str| move |error: io::Error| io::Error::other(format!("cannot {what}: {error}"));
    let Some(wanted) = &job.note else { return Err(io::Error::other("no listing was asked for")) };
    let (evidence, samples) = (evidence.as_fd(), samples.as_fd());
    let shelves = listing::shelves(evidence).map_err(failed("open the directory of listings"))?;
    let shelf = Shelf::new(&shelves, job.number, &job.leased);
    let last = shelf.last();
    let sampled = last.as_ref().map_or(0, |(_, last)| last.sampled);
    let name = listing_name(job.leased.began, job.leased.host, job.number, job.now);
    let mut kept = Samples::new(samples, name, job.now, job.limits.archive.saturating_sub(sampled));
    let known = last.as_ref().map_or_else(Known::nothing, |(_, last)| Known::by(last));
    let diff = compare_at_rest(upper, lower, job.ours(), (&job.limits, &known), rests, &mut kept);
    let Some(diff) = diff.map_err(failed("compare the container with its image"))? else { return Ok(Noted::WentOn) };
    drop(known);
    kept.touch();
    let sampled = sampled.saturating_add(kept.octets);
    let mut taken = Taken { counts: diff.counts, new_samples: kept.new, ..Taken::default() };
    let listing = Listing { sampled, ..listing_of(job, wanted, diff) };
    taken.cut = listing.cut.len() as u64;
    let partial = listing.partial;
    let written = shelf.put(listing, last).map_err(failed("write the listing"))?;
    if written.is_new || kept.new > 0 {
        prune(job, (evidence, samples), &[&written.name], &mut taken);
    }
    taken.archive = written.name;
    Ok(Noted::Made { taken: Box::new(taken), unchanged: !written.is_new, partial })
}

fn listing_of(job: &Job, note: &Note, Diff { counts, mut cut, mut changes }: Diff) -> Listing {
    bound(&mut changes, &mut cut, NOTED);
    // Nothing of it is in an archive.
    changes.iter_mut().for_each(|change| change.kept = false);
    let listing = Listing { counts, cut, changes, ..Listing::new(job.number, job.now, job.leased.clone(), note) };
    Listing { partial: listing.is_unread(), ..listing }
}

/// Removes what is too old or too much, but nothing of what was just taken.
fn prune(job: &Job, (evidence, samples): (BorrowedFd<'_>, BorrowedFd<'_>), spared: &[&str], taken: &mut Taken) {
    match retention::prune(evidence, samples, &job.limits, job.now, spared) {
        Ok(mut pruned) => {
            taken.removed_archives = pruned.archives.len() as u64;
            pruned.archives.truncate(NAMED);
            taken.removed = pruned.archives;
            taken.removed_listings = pruned.listings;
            taken.removed_samples = pruned.samples;
            taken.removed_octets = pruned.octets;
        }
        Err(error) => taken.retention_failed = Some(error.to_string()),
    }
}

/// Tells what was changed, and keeps nothing. What is told last is left out if it is too long.
pub(super) fn list(job: &Job, [upper, lower]: [&OwnedFd; 2]) -> io::Result<Diff> {
    let mut diff = compare(upper, lower, job.ours(), &job.limits, &mut Nothing)?;
    bound(&mut diff.changes, &mut diff.cut, LISTED);
    Ok(diff)
}

/// Leaves out what comes last if the changes have more than `most` octets.
fn bound(changes: &mut Vec<Change>, cut: &mut Vec<Cut>, most: usize) {
    let mut octets = 0;
    let mut fits = |change: &Change| {
        octets += serde_json::to_vec(change).map_or(most, |text| text.len() + 1);
        octets <= most
    };
    let told = changes.iter().take_while(|change| fits(change)).count();
    if let Some(first) = changes.get(told) {
        cut.push(Cut { path: first.path.clone(), why: Why::TooManyChanges });
        changes.truncate(told);
    }
}

/// Does the job.
pub(super) fn take(job: &Job, [upper, lower, samples, evidence]: [&OwnedFd; 4]) -> io::Result<Taken> {
    let failed = |what: &'static str| move |error: io::Error| io::Error::other(format!("cannot {what}: {error}"));
    let stem = stem(job.now, job.leased.host, job.number);
    let (evidence, samples) = (evidence.as_fd(), samples.as_fd());
    let writer = Writer::new(evidence, samples, stem, job.now, job.contents, job.limits.archive);
    let mut writer = writer.map_err(failed("begin an archive"))?;
    let diff = compare(upper, lower, job.ours(), &job.limits, &mut writer);
    let diff = diff.map_err(failed("compare the container with its image"))?;
    let mut taken = Taken { counts: diff.counts, cut: diff.cut.len() as u64, ..Taken::default() };
    let manifest = Manifest {
        version: VERSION,
        taken: job.now,
        number: job.number,
        leased: job.leased.clone(),
        contents: job.contents,
        counts: diff.counts,
        cut: diff.cut,
        changes: diff.changes,
    };
    let written = writer.finish(&manifest).map_err(failed("write the archive"))?;
    (taken.octets, taken.new_samples) = (written.octets, written.new_samples);
    // The archive is there, whatever becomes of this.
    let diff = Diff { counts: manifest.counts, cut: manifest.cut, changes: manifest.changes };
    let listed = job.note.as_ref().map(|note| {
        let listing = listing_of(job, note, diff);
        let shelves = listing::shelves(evidence)?;
        let shelf = Shelf::new(&shelves, job.number, &job.leased);
        Ok(shelf.put(listing, shelf.last())?.name)
    });
    let listed: Option<String> = listed.and_then(|named: io::Result<String>| match named {
        Ok(name) => Some(name),
        Err(error) => {
            taken.unlisted = Some(error.to_string());
            None
        }
    });
    let spared: Vec<&str> = [Some(&written.name), listed.as_ref()].into_iter().flatten().map(String::as_str).collect();
    prune(job, (evidence, samples), &spared, &mut taken);
    taken.archive = written.name;
    Ok(taken)
}
