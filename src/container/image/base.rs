//! The minimal Debian that images of the method `bootstrap` share. It is
//! bootstrapped once, which takes half a minute, and copied for each image.
//!
//! Debian's own tools bootstrap it, as root; everything that is installed upon it
//! is installed by the container's user ids (see `inside`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::build::{Attempt, lock};
use super::packages::{Apt, first_source, run, sources};
use super::shift::shift;
use super::store;
use super::{ImageError, Progress, at, inside};
use crate::container::ID_BASE;

/// What is on every Debian machine that a person logs in to.
const PACKAGES: &str = "busybox-static,openssh-server,iproute2,procps,iputils-ping,netcat-openbsd,wget,ca-certificates";
/// Counts up when the base is made otherwise.
const VERSION: u8 = 1;

/// The root of the base, which is bootstrapped if it is not there yet, or if it is to be made `anew`.
pub fn base(state_dir: &Path, image: &str, anew: bool, progress: &Progress) -> Result<PathBuf, ImageError> {
    let sources = sources()?;
    let home = state_dir.join("cache/base");
    fs::create_dir_all(&home).map_err(at("create", &home))?;
    let mut digest = Sha256::new();
    digest.update([VERSION]);
    digest.update(PACKAGES);
    digest.update([0]);
    digest.update(&sources);
    let name: String = digest.finalize()[..8].iter().map(|octet| format!("{octet:02x}")).collect();
    let dir = home.join(&name);
    let rootfs = dir.join("rootfs");
    let _lock = lock(&home.join(".lock"), || progress.step(image, "waiting for another build"))?;
    if rootfs.is_dir() && !anew {
        return Ok(rootfs);
    }
    // Those of other sources and of interrupted attempts are of no more use.
    for entry in fs::read_dir(&home).map_err(at("list", &home))?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(at("remove", &path))?;
        }
    }
    let attempt = Attempt { dir: home.join(format!(".tmp-{}", std::process::id())) };
    let made = attempt.dir.join("rootfs");
    fs::create_dir_all(&made).map_err(at("create", &made))?;
    progress.step(image, "bootstrapping a minimal Debian, which takes half a minute");
    bootstrap(&attempt.dir, &sources, &made, progress)?;
    shift(&made, ID_BASE)?;
    store::publish(&attempt.dir, &dir)?;
    Ok(rootfs)
}

fn bootstrap(dir: &Path, sources: &str, rootfs: &Path, progress: &Progress) -> Result<(), ImageError> {
    let path = dir.join(if sources.contains("URIs:") { "apt.sources" } else { "apt.list" });
    fs::write(&path, sources).map_err(at("write", &path))?;
    let packages = format!("--include={PACKAGES}");
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--mode=root", "--format=directory", "--skip=output/dev", &packages]);
    // Without a suite it takes what the sources say.
    command.arg("").arg(rootfs).arg(&path);
    match run(command, "mmdebstrap", progress) {
        // Distributions that do not come from Debian often have the older tool only, which takes a single source.
        Err(ImageError::NoProgram(_)) => {
            let (mirror, suite) = first_source(sources).ok_or(ImageError::NoSources)?;
            let mut command = Command::new("debootstrap");
            command.args(["--variant=minbase", &packages, &suite]).arg(rootfs).arg(&mirror);
            match run(command, "debootstrap", progress) {
                Err(ImageError::NoProgram(_)) => Err(ImageError::NoProgram("mmdebstrap".into())),
                other => other,
            }?;
        }
        other => other?,
    }
    fs::remove_file(&path).map_err(at("remove", &path))
}

/// Copies `base` to the empty directory `rootfs`.
pub fn copy(base: &Path, rootfs: &Path, progress: &Progress) -> Result<(), ImageError> {
    let mut command = Command::new("cp");
    command.args(["--archive", "--reflink=auto", "--no-target-directory"]).arg(base).arg(rootfs);
    run(command, "copying the minimal Debian", progress)
}

/// Puts a package's files where the tasks' shell finds them. Services are not started by being installed.
const INSTALL: &str = r#"set -e
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get --quiet --yes --no-install-recommends -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold \
    -o Dpkg::Options::=--path-exclude=/usr/share/doc/* -o Dpkg::Options::=--path-exclude=/usr/share/man/* \
    -o Dpkg::Options::=--path-exclude=/usr/share/locale/* \
    install /.recipe/packages/*.deb
rm -f /usr/sbin/policy-rc.d
"#;

/// Installs `packages` and all they depend on in `rootfs`, a copy of the base.
pub fn install(
    state_dir: &Path,
    image: &str,
    packages: &[String],
    rootfs: &Path,
    progress: &Progress,
) -> Result<(), ImageError> {
    if packages.is_empty() {
        return Ok(());
    }
    let cache = state_dir.join("cache/apt");
    fs::create_dir_all(&cache).map_err(at("create", &cache))?;
    progress.step(image, "fetching packages");
    let lock = lock(&cache.join("lock"), || progress.step(image, "waiting for another download"))?;
    let status = rootfs.join("var/lib/dpkg/status");
    let files = Apt::upon(cache, status)?.fetch(packages, progress)?;
    drop(lock);
    if files.is_empty() {
        return Ok(());
    }
    let dir = rootfs.join(".recipe/packages");
    fs::create_dir_all(&dir).map_err(at("create", &dir))?;
    for file in &files {
        let Some(name) = file.file_name() else { continue };
        fs::copy(file, dir.join(name)).map_err(at("copy", file))?;
    }
    progress.step(image, &format!("installing {} packages", files.len()));
    let environment = [("DEBIAN_FRONTEND", "noninteractive"), ("LC_ALL", "C")];
    inside::run_inside(rootfs, &["/bin/sh"], INSTALL, &environment, "installing packages", progress)?;
    fs::remove_dir_all(&dir).map_err(at("remove", &dir))
}
