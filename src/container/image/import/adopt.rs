//! Making an image of what was brought: a process reads it, this one puts the
//! outcome in its place.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::Limits;
use super::container::Overlay;
use super::still::Still;
use super::unpack::Tally;
use super::worker::{Answer, Kind, Request};
use crate::container::image::build::{Attempt, lock};
use crate::container::image::recipe::IMPORTED;
use crate::container::image::shift::{is_plain, size_of};
use crate::container::image::store::{self, Image, Manifest, images_dir};
use crate::container::image::{ImageError, Progress, at, base};
use crate::wire::hex;

/// An image and what its import had to say.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The image.
    pub image: Image,
    /// What was made of it and what was left out.
    pub tally: Tally,
    /// The account that it would like to start as, which it does not.
    pub user: Option<String>,
}

/// Makes the image `name` of `path`: the tar archive of a system's root (gzip, zstd, xz or not compressed), or an
/// OCI layout (a folder, or a tar archive that is not compressed). An image of that name that was imported before is
/// replaced. `init` is the first process; empty takes what the image says, or `/sbin/init`.
///
/// # Errors
/// If it cannot be read, is broken, was altered or is too large; if the image is in use. Nothing is left of an attempt.
pub fn import(
    state_dir: &Path,
    name: &str,
    path: &Path,
    init: &[String],
    limits: Limits,
    progress: &Progress,
) -> Result<Imported, ImageError> {
    let place = Place::take(state_dir, name, progress)?;
    progress.step(name, "reading it");
    let path = std::path::absolute(path).map_err(at("find", path))?;
    let answer = place.read(Kind::Brought, &path, init, limits)?;
    place.adopt(answer, None, progress)
}

/// Makes the image `name` of a container's `overlay`: what was changed over what its image has. A container that runs is
/// frozen while its files are read, so that they fit together.
///
/// # Errors
/// If it cannot be read or is too large; if an image of that name is in use. Nothing is left of an attempt.
pub fn capture(
    state_dir: &Path,
    name: &str,
    overlay: &Overlay,
    limits: Limits,
    progress: &Progress,
) -> Result<Imported, ImageError> {
    let Overlay { lower, upper, container } = overlay;
    let _held = lower.hold()?;
    let place = Place::take(state_dir, name, progress)?;
    progress.step(name, "copying the image below");
    base::copy(&lower.rootfs(), &place.rootfs, progress)?;
    progress.step(name, "laying the container's changes over it");
    let still = container.as_deref().and_then(|container| Still::keep(container, name, progress));
    let answer = place.read(Kind::Overlay, upper, &lower.manifest.init, limits);
    drop(still);
    let answer = answer?;
    // What tells one host from others of its image is given to each anew.
    place.adopt(answer, Some(&lower.manifest), progress)
}

struct Place {
    name: String,
    home: PathBuf,
    attempt: Attempt,
    rootfs: PathBuf,
    _lock: fs::File,
}

impl Place {
    fn take(state_dir: &Path, name: &str, progress: &Progress) -> Result<Place, ImageError> {
        if !rustix::process::geteuid().is_root() {
            return Err(ImageError::NotRoot);
        }
        if !is_plain(name.as_ref()) {
            let why = "an image's name has 1 to 64 letters, digits, `-`, `_` and `.`, and begins with none of the last";
            return Err(ImageError::Import { path: name.into(), why: why.into() });
        }
        let home = images_dir(state_dir).join(name);
        fs::create_dir_all(&home).map_err(at("create", &home))?;
        let lock = lock(&home.join(".lock"), || progress.step(name, "waiting for another build"))?;
        let attempt = Attempt { dir: home.join(format!(".tmp-{}", std::process::id())) };
        let _ = fs::remove_dir_all(&attempt.dir);
        let rootfs = attempt.dir.join("rootfs");
        fs::create_dir_all(&rootfs).map_err(at("create", &rootfs))?;
        for dir in [&attempt.dir, &rootfs] {
            fs::set_permissions(dir, Permissions::from_mode(0o755)).map_err(at("set the mode of", dir))?;
        }
        let id = Some(crate::container::ID_BASE);
        std::os::unix::fs::chown(&rootfs, id, id).map_err(at("change the owner of", &rootfs))?;
        Ok(Place { name: name.to_owned(), home, attempt, rootfs, _lock: lock })
    }

    /// Has a process read `path` into the root.
    fn read(&self, kind: Kind, path: &Path, init: &[String], limits: Limits) -> Result<Answer, ImageError> {
        let failed = |why: String| ImageError::Import { path: path.to_owned(), why };
        let told = |error: std::io::Error| failed(format!("the process that reads it cannot be started: {error}"));
        let rootfs = self.rootfs.clone();
        let request = Request { kind, path: path.to_owned(), rootfs, init: init.to_vec(), limits };
        let request = serde_json::to_vec(&request).map_err(|error| told(error.into()))?;
        let program = std::env::current_exe().map_err(told)?;
        let mut command = Command::new(program);
        command.arg("__import").arg(&self.name).env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(told)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends early says why in its answer.
            let _ = stdin.write_all(&request);
        }
        let output = child.wait_with_output().map_err(told)?;
        match serde_json::from_slice::<Result<Answer, String>>(&output.stdout) {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(failed(format!("the process that reads it ended with {}", output.status))),
        }
    }

    fn adopt(self, answer: Answer, lower: Option<&Manifest>, progress: &Progress) -> Result<Imported, ImageError> {
        let mut digest = Sha256::new();
        digest.update(&answer.digest);
        for word in &answer.init {
            digest.update([0]);
            digest.update(word);
        }
        if answer.digest.is_empty() {
            // Nobody says what a capture consists of, and each is another.
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            digest.update(format!("{}.{}", now.tv_sec, now.tv_nsec));
        }
        let hash = hex(&digest.finalize()[..8]);
        let manifest = Manifest {
            name: self.name.clone(),
            recipe: IMPORTED.into(),
            hash: hash.clone(),
            packages: lower.map(|lower| lower.packages.clone()).unwrap_or_default(),
            users: lower.map(|lower| lower.users.clone()).unwrap_or_default(),
            init: answer.init,
            host_key: lower.map_or(answer.host_key, |lower| lower.host_key),
            services: lower.map(|lower| lower.services.clone()).unwrap_or_default(),
            environment: lower.map_or(answer.environment, |lower| lower.environment.clone()),
            workdir: lower.map_or(answer.workdir, |lower| lower.workdir.clone()),
            size: size_of(&self.rootfs),
        };
        store::write_manifest(&self.attempt.dir, &manifest)?;
        // Only one was imported under a name: the one that a topology means.
        for old in store::below(&self.home).iter().filter(|image| image.manifest.recipe == IMPORTED) {
            store::discard(old)?;
        }
        let dir = self.home.join(&hash);
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(at("remove", &dir))?;
        }
        store::publish(&self.attempt.dir, &dir)?;
        progress.done(&self.name, &format!("imported, {} MB", manifest.size / 1_000_000));
        Ok(Imported { image: Image { manifest, dir }, tally: answer.tally, user: answer.user })
    }
}
