//! Building an image: everything happens in a folder beside its place, which is
//! renamed when it is complete.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::packages::{Apt, first_source, run, sources, unpack};
use super::recipe::{Method, Recipe};
use super::shift::shift;
use super::store::{self, Image, find, images_dir, manifest_of};
use super::{ImageError, Progress, at};
use crate::container::{ID_BASE, ImageConfig};

/// Builds those of `images` that are not built yet.
///
/// # Errors
/// At the first one that cannot be built.
pub fn ensure(state_dir: &Path, images: &[ImageConfig], progress: &Progress) -> Result<(), ImageError> {
    for image in images {
        build(state_dir, image, false, progress)?;
    }
    Ok(())
}

/// Builds the image of `config`, unless it is built already and not to be `forced`.
///
/// # Errors
/// If the machine lacks something or a package cannot be had. Nothing is left of an attempt.
pub fn build(state_dir: &Path, config: &ImageConfig, force: bool, progress: &Progress) -> Result<Image, ImageError> {
    let recipe = Recipe::of(config)?;
    let home = images_dir(state_dir).join(&config.name);
    if !force && let Ok(image) = find(state_dir, config) {
        return Ok(image);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(ImageError::NotRoot);
    }
    fs::create_dir_all(&home).map_err(at("create", &home))?;
    let _lock = lock(&home.join(".lock"), || progress.step(&config.name, "waiting for another build"))?;
    // Whoever held the lock may have built it meanwhile.
    if let Ok(image) = find(state_dir, config) {
        if !force {
            return Ok(image);
        }
        store::discard(&image)?;
    }
    for entry in fs::read_dir(&home).map_err(at("list", &home))?.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(".tmp-") || name.to_string_lossy().starts_with(".gone-") {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(at("remove", &path))?;
        }
    }
    let attempt = Attempt { dir: home.join(format!(".tmp-{}", std::process::id())) };
    let rootfs = attempt.dir.join("rootfs");
    fs::create_dir_all(&rootfs).map_err(at("create", &rootfs))?;
    for dir in [&attempt.dir, &rootfs] {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).map_err(at("set the mode of", dir))?;
    }
    match recipe.method {
        Method::Unpack => unpack_all(state_dir, &recipe, &rootfs, progress)?,
        Method::Bootstrap => bootstrap(&attempt.dir, &recipe, &rootfs, progress)?,
    }
    progress.step(&config.name, "setting it up");
    finish(&recipe, &rootfs, progress)?;
    progress.step(&config.name, "giving it to the containers' user ids");
    shift(&rootfs, ID_BASE)?;
    let manifest = manifest_of(&recipe, &rootfs);
    let path = attempt.dir.join("manifest.json");
    let text = serde_json::to_vec_pretty(&manifest).map_err(|e| at("write", &path)(e.into()))?;
    let mut file = File::create(&path).map_err(at("create", &path))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(at("write", &path))?;
    let dir = home.join(&recipe.hash);
    // A folder without a manifest: what an interrupted removal left.
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(at("remove", &dir))?;
    }
    fs::rename(&attempt.dir, &dir).map_err(at("rename", &attempt.dir))?;
    progress.done(&config.name, &format!("built, {} MB", manifest.size / 1_000_000));
    Ok(Image { manifest, dir })
}

/// The folder of a build, which is removed if it is still there in the end.
struct Attempt {
    dir: PathBuf,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Locks the file `path`; calls `waiting` if another process has it.
fn lock(path: &Path, waiting: impl FnOnce()) -> Result<File, ImageError> {
    let file = File::options().create(true).append(true).mode(0o600).open(path).map_err(at("open", path))?;
    if file.try_lock().is_err() {
        waiting();
        file.lock().map_err(at("lock", path))?;
    }
    Ok(file)
}

fn unpack_all(state_dir: &Path, recipe: &Recipe, rootfs: &Path, progress: &Progress) -> Result<(), ImageError> {
    let cache = state_dir.join("cache/apt");
    fs::create_dir_all(&cache).map_err(at("create", &cache))?;
    progress.step(&recipe.image, "fetching packages");
    let lock = lock(&cache.join("lock"), || progress.step(&recipe.image, "waiting for another download"))?;
    let files = Apt::new(cache)?.fetch(&recipe.packages, progress)?;
    drop(lock);
    progress.step(&recipe.image, &format!("unpacking {} packages", files.len()));
    files.iter().try_for_each(|file| unpack(file, rootfs, progress))
}

fn bootstrap(dir: &Path, recipe: &Recipe, rootfs: &Path, progress: &Progress) -> Result<(), ImageError> {
    let sources = sources()?;
    let path = dir.join(if sources.contains("URIs:") { "apt.sources" } else { "apt.list" });
    fs::write(&path, &sources).map_err(at("write", &path))?;
    progress.step(&recipe.image, "bootstrapping, which takes half a minute");
    let packages = format!("--include={}", recipe.packages.join(","));
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--mode=root", "--format=directory", "--skip=output/dev", &packages]);
    // Without a suite it takes what the sources say.
    command.arg("").arg(rootfs).arg(&path);
    match run(command, "mmdebstrap", progress) {
        // Distributions that do not come from Debian often have the older tool only, which takes a single source.
        Err(ImageError::NoProgram(_)) => {
            let (mirror, suite) = first_source(&sources).ok_or(ImageError::NoSources)?;
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

/// Writes the recipe's files and runs its task.
fn finish(recipe: &Recipe, rootfs: &Path, progress: &Progress) -> Result<(), ImageError> {
    for file in &recipe.files {
        let path = rootfs.join(file.path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at("create", parent))?;
        }
        fs::write(&path, &file.content).map_err(at("write", &path))?;
        let mode = Permissions::from_mode(file.mode.unwrap_or(0o644));
        fs::set_permissions(&path, mode).map_err(at("set the mode of", &path))?;
    }
    let users: String = recipe.users.iter().map(|user| format!("{}:{}\n", user.name, user.password)).collect();
    let given = [(rootfs.join(".users"), users.as_str()), (rootfs.join(".task"), recipe.task)];
    for (path, content) in &given {
        fs::write(path, content).map_err(at("write", path))?;
    }
    let mut command = Command::new("chroot");
    command.arg(rootfs).args(&recipe.shell).arg("/.task");
    command.env_clear().env("USERS", "/.users").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let done = run(command, "setting up the image", progress);
    for (path, _) in &given {
        fs::remove_file(path).map_err(at("remove", path))?;
    }
    done
}
