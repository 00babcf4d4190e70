//! Building an image: everything happens in a folder beside its place, which is
//! renamed when it is complete.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::packages::{Apt, unpack};
use super::recipe::{IMPORTED, Method, Recipe};
use super::root::{Attributes, Root};
use super::shift::shift;
use super::store::{self, Image, find, images_dir, manifest_of};
use super::{ImageError, Progress, at, base, decoys, inside};
use crate::container::{ID_BASE, ImageConfig};

/// Where tasks find the accounts.
const USERS: &str = ".recipe/users";
/// The task that runs.
const TASK: &str = ".recipe/task";

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
    let home = images_dir(state_dir).join(&config.name);
    if !force && let Ok(image) = find(state_dir, config) {
        return Ok(image);
    }
    if config.recipe == IMPORTED {
        return Err(ImageError::NotImported(config.name.clone()));
    }
    let recipe = Recipe::of(config)?;
    if config.hash.as_ref().is_some_and(|planned| *planned != recipe.hash) {
        return Err(ImageError::Recipe(config.recipe.clone(), "it was changed just now: try again".into()));
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
        Method::Unpack => {
            unpack_all(state_dir, &recipe, &rootfs, progress)?;
            shift(&rootfs, ID_BASE)?;
        }
        Method::Bootstrap => {
            let base = base::base(state_dir, &config.name, force, progress)?;
            base::copy(&base, &rootfs, progress)?;
            base::install(state_dir, &config.name, &recipe.packages, &rootfs, progress)?;
        }
    }
    finish(&recipe, &rootfs, progress)?;
    // What was written from outside on the way.
    shift(&rootfs, ID_BASE)?;
    let manifest = manifest_of(&recipe, &rootfs);
    store::write_manifest(&attempt.dir, &manifest)?;
    let dir = home.join(&recipe.hash);
    // A folder without a manifest: what an interrupted removal left.
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(at("remove", &dir))?;
    }
    store::publish(&attempt.dir, &dir)?;
    progress.done(&config.name, &format!("built, {} MB", manifest.size / 1_000_000));
    Ok(Image { manifest, dir })
}

/// The folder of a build, which is removed if it is still there in the end.
pub(super) struct Attempt {
    pub dir: PathBuf,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Locks the file `path`; calls `waiting` if another process has it.
pub(super) fn lock(path: &Path, waiting: impl FnOnce()) -> Result<File, ImageError> {
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

/// Writes the recipe's files, runs its tasks in order, and lays its decoys.
fn finish(recipe: &Recipe, rootfs: &Path, progress: &Progress) -> Result<(), ImageError> {
    let root = Root::open(rootfs).map_err(at("open", rootfs))?;
    let now = seconds_now();
    let put = |path: &str, content: &[u8], mode: u32| {
        let attributes = Attributes { mode, uid: ID_BASE, gid: ID_BASE, mtime: now, capability: None };
        let path = Path::new(path);
        root.put_file(path, &attributes, &mut &*content).map(drop).map_err(at("write", path))
    };
    for file in &recipe.files {
        put(&file.path, &file.content, file.mode)?;
    }
    let users: String = recipe.users.iter().map(|user| format!("{}:{}\n", user.name, user.password)).collect();
    put(USERS, users.as_bytes(), 0o600)?;
    let environment = [("USERS", "/.recipe/users"), ("DEBIAN_FRONTEND", "noninteractive"), ("LC_ALL", "C")];
    for task in &recipe.tasks {
        progress.step(&recipe.image, &format!("task {}", task.name));
        put(TASK, &task.script, 0o600)?;
        let shell = recipe.method.shell();
        let script = format!("exec {} /.recipe/task", shell.join(" "));
        let what = format!("task {}", task.name);
        inside::run_inside(rootfs, shell, &script, &environment, &what, progress).map_err(|error| match error {
            ImageError::Tool { status, output, .. } => ImageError::Task { task: task.name.clone(), status, output },
            other => other,
        })?;
    }
    root.remove(Path::new(".recipe")).map_err(at("remove", &rootfs.join(".recipe")))?;
    decoys::lay(recipe, &root, now)
}

fn seconds_now() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
}
