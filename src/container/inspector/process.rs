//! The inspector's own side: it gives up everything, then reads its request.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Resource, Rlimit};

use super::archive::{Writer, stem};
use super::{
    Answer, Change, Cut, Diff, INSPECTOR_UID, Job, MESSAGE, Manifest, Nothing, Taken, VERSION, Why, compare, retention,
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

/// Runs as an inspector: confines itself, reads a request, does it, answers. Ends with its parent.
///
/// # Errors
/// If it cannot confine itself, was not started by [`super::Inspector`], or nobody hears the answer.
pub fn main() -> io::Result<()> {
    let answer = match confine() {
        Ok([upper, lower, samples, evidence]) => {
            let mut request = Vec::new();
            io::stdin().lock().take(MESSAGE as u64 + 1).read_to_end(&mut request)?;
            match serde_json::from_slice::<Job>(&request) {
                Ok(job) if job.list => match list(&job, [&upper, &lower]) {
                    Ok(diff) => Answer::Listed(diff),
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

/// Tells what was changed, and keeps nothing. What is told last is left out if it is too long.
pub(super) fn list(job: &Job, [upper, lower]: [&OwnedFd; 2]) -> io::Result<Diff> {
    let mut diff = compare(upper, lower, job.prepared, &job.limits, &mut Nothing)?;
    let mut octets = 0;
    let mut fits = |change: &Change| {
        octets += serde_json::to_vec(change).map_or(LISTED, |text| text.len() + 1);
        octets <= LISTED
    };
    let told = diff.changes.iter().take_while(|change| fits(change)).count();
    if let Some(first) = diff.changes.get(told) {
        diff.cut.push(Cut { path: first.path.clone(), why: Why::TooManyChanges });
        diff.changes.truncate(told);
    }
    Ok(diff)
}

/// Does the job.
pub(super) fn take(job: &Job, [upper, lower, samples, evidence]: [&OwnedFd; 4]) -> io::Result<Taken> {
    let failed = |what: &'static str| move |error: io::Error| io::Error::other(format!("cannot {what}: {error}"));
    let stem = stem(job.now, job.leased.host, job.number);
    let (evidence, samples) = (evidence.as_fd(), samples.as_fd());
    let writer = Writer::new(evidence, samples, stem, job.now, job.contents, job.limits.archive);
    let mut writer = writer.map_err(failed("begin an archive"))?;
    let diff = compare(upper, lower, job.prepared, &job.limits, &mut writer);
    let diff = diff.map_err(failed("compare the container with its image"))?;
    let (counts, cut) = (diff.counts, diff.cut.len() as u64);
    let manifest = Manifest {
        version: VERSION,
        taken: job.now,
        number: job.number,
        leased: job.leased.clone(),
        contents: job.contents,
        counts,
        cut: diff.cut,
        changes: diff.changes,
    };
    let written = writer.finish(&manifest).map_err(failed("write the archive"))?;
    let pruned = retention::prune(evidence, samples, &job.limits, job.now, &written.name);
    let (mut pruned, retention_failed) = match pruned {
        Ok(pruned) => (pruned, None),
        Err(error) => (retention::Pruned::default(), Some(error.to_string())),
    };
    let removed_archives = pruned.archives.len() as u64;
    pruned.archives.truncate(NAMED);
    Ok(Taken {
        archive: written.name,
        octets: written.octets,
        counts,
        cut,
        new_samples: written.new_samples,
        removed: pruned.archives,
        removed_archives,
        removed_samples: pruned.samples,
        removed_octets: pruned.octets,
        retention_failed,
    })
}
