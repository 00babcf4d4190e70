//! The part of a bundle that tells what the session has changed: the difference, the listings that it follows from, and
//! the executables and scripts in it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;

use super::manifest::{DIFFERENCE, is_path};
use super::pack::Packer;
use super::write::{ExportError, Job, failed, scratch};
use crate::container::inspector::{How, LISTINGS, SAMPLES, Sha256Hex};
use crate::record::{Difference, difference};

/// Puts it into `bundle`. A session that was in no container has nothing of it.
pub(super) fn fill(bundle: &mut Packer, job: &Job<'_>, left_out: &mut Vec<String>) -> Result<(), ExportError> {
    let evidence = job.dir.join("evidence");
    let found = difference(job.dir, job.session, false).map_err(failed("tell what was changed by", &evidence))?;
    let Some(found) = found.filter(|found| !found.containers.is_empty()) else { return Ok(()) };
    if found.more > 0 {
        left_out.push(format!("{} changes, containers or sessions that were there, in {DIFFERENCE}", found.more));
    }
    if found.containers.iter().any(|container| container.unlisted) {
        left_out.push(format!("what it changed since a container rested last, in {DIFFERENCE}"));
    }
    let mut text = scratch(job.scratch)?;
    write(&found, &mut text).map_err(failed("write", DIFFERENCE.as_ref()))?;
    bundle.scratched(DIFFERENCE, text)?;
    let windows = || found.containers.iter().flat_map(|container| &container.windows);
    let listings: BTreeSet<&String> = windows().flat_map(|window| &window.listings).collect();
    for name in listings {
        let path = format!("evidence/{name}");
        if is_path(&path) {
            bundle.file(&path, &evidence.join(LISTINGS).join(name), left_out)?;
        }
    }
    let changes = windows().flat_map(|window| &window.changes).map(|caused| &caused.change);
    let samples = changes.filter(|change| change.sample && change.change != How::Deleted);
    let samples: BTreeSet<Sha256Hex> = samples.filter_map(|change| change.sha256).collect();
    for hash in samples {
        let file = evidence.join(SAMPLES).join(format!("{hash}.zst"));
        // One that was too large to be kept, or that went when room was needed.
        if fs::symlink_metadata(&file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            left_out.push(format!("samples/{hash}.zst, which is not kept"));
            continue;
        }
        bundle.file(&format!("samples/{hash}.zst"), &file, left_out)?;
    }
    Ok(())
}

fn write(found: &Difference, to: &mut File) -> io::Result<()> {
    use io::Write;
    let mut to = io::BufWriter::new(to);
    serde_json::to_writer(&mut to, found)?;
    to.write_all(b"\n")?;
    to.flush()
}
