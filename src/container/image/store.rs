//! The images of a machine.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::build::lock;
use super::import::lowers;
use super::recipe::{HostKey, IMPORTED, Recipe, Service, hash_of};
use super::shift::{is_plain, size_of};
use super::{ImageError, at};
use crate::container::ImageConfig;

/// What an image is, as it lies beside its files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// The recipe it was built by.
    pub recipe: String,
    /// Stands for recipe, packages and accounts.
    pub hash: String,
    /// Packages that were asked for.
    pub packages: Vec<String>,
    /// Its accounts' names.
    pub users: Vec<String>,
    /// The container's first process.
    pub init: Vec<String>,
    /// Where the host's SSH key belongs.
    pub host_key: HostKey,
    /// What answers when it runs, as far as that is known.
    #[serde(default)]
    pub services: Vec<Service>,
    /// `NAME=VALUE`, for the first process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// Where the first process starts, if not in `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Octets of all files.
    pub size: u64,
}

/// A built image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// What it is.
    pub manifest: Manifest,
    /// Its folder.
    pub dir: PathBuf,
}

impl Image {
    /// Its files.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Marks it as in use until the file returned is closed.
    ///
    /// # Errors
    /// If it is just being removed.
    pub fn hold(&self) -> Result<File, ImageError> {
        let path = self.dir.join("manifest.json");
        let file = File::open(&path).map_err(at("open", &path))?;
        match file.try_lock_shared() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(ImageError::Busy(self.manifest.name.clone())),
            Err(TryLockError::Error(error)) => Err(at("lock", &path)(error)),
        }
    }

    /// Whether somebody holds it.
    fn is_held(&self) -> Result<bool, ImageError> {
        let path = self.dir.join("manifest.json");
        match File::open(&path).map_err(at("open", &path))?.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(at("lock", &path)(error)),
        }
    }

    /// When it was made; of what cannot be told, long ago.
    fn made(&self) -> Option<std::time::SystemTime> {
        fs::metadata(self.dir.join("manifest.json")).and_then(|meta| meta.modified()).ok()
    }

    fn load(dir: &Path) -> Option<Image> {
        let path = dir.join("manifest.json");
        let text = fs::read(&path).ok()?;
        let broken = |error: &serde_json::Error| {
            tracing::warn!(%error, path = %path.display(), "an image that cannot be read is none");
        };
        let manifest = serde_json::from_slice(&text).inspect_err(broken).ok()?;
        dir.join("rootfs").is_dir().then(|| Image { manifest, dir: dir.to_owned() })
    }
}

pub(super) fn images_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("images")
}

/// The image of `config`, if it is built as `config` says.
///
/// # Errors
/// If it is not built, or the recipe is unknown.
pub fn find(state_dir: &Path, config: &ImageConfig) -> Result<Image, ImageError> {
    let home = images_dir(state_dir).join(&config.name);
    if config.recipe == IMPORTED {
        let imported = |image: &Image| image.manifest.recipe == IMPORTED;
        return below(&home).into_iter().find(imported).ok_or_else(|| ImageError::NotImported(config.name.clone()));
    }
    Image::load(&home.join(hash_of(config)?)).ok_or_else(|| ImageError::Missing(config.name.clone()))
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.filter(|e| is_plain(&e.file_name())).map(|e| e.path()).collect();
    paths.sort();
    paths
}

/// The images of one name.
pub(super) fn below(home: &Path) -> Vec<Image> {
    folders(home).iter().filter_map(|dir| Image::load(dir)).collect()
}

/// All images, by name.
pub fn list(state_dir: &Path) -> Vec<Image> {
    folders(&images_dir(state_dir)).iter().flat_map(|home| below(home)).collect()
}

/// Removes every image named `name`. Returns how many there were.
///
/// # Errors
/// If one is in use.
pub fn remove(state_dir: &Path, name: &str) -> Result<usize, ImageError> {
    let images: Vec<Image> = list(state_dir).into_iter().filter(|image| image.manifest.name == name).collect();
    for image in &images {
        discard(image)?;
    }
    let dir = images_dir(state_dir).join(name);
    // What is left is at most an unfinished build, or nothing at all.
    if is_plain(name.as_ref()) && !images.is_empty() {
        let _ = fs::remove_dir_all(dir);
    }
    Ok(images.len())
}

/// What [`prune`] found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Pruned {
    /// Builds that are gone.
    pub removed: Vec<Image>,
    /// Older builds that something still uses.
    pub used: Vec<Image>,
}

/// Removes the builds that another one of their name has taken the place of: all but the newest, unless a honeynet holds
/// them or a container's files lie over them. What was imported and what was built are told apart. With `dry`, nothing is
/// removed.
///
/// # Errors
/// If a build cannot be removed, or a container may need one of which nothing tells.
pub fn prune(state_dir: &Path, dry: bool) -> Result<Pruned, ImageError> {
    let lowers = lowers(state_dir)?;
    let mut pruned = Pruned::default();
    for home in folders(&images_dir(state_dir)) {
        // Nobody builds meanwhile: what has just been built is the newest.
        let _lock = lock(&home.join(".lock"), || {})?;
        let (imported, built): (Vec<Image>, Vec<Image>) =
            below(&home).into_iter().partition(|image| image.manifest.recipe == IMPORTED);
        for mut images in [imported, built] {
            images.sort_by_cached_key(Image::made);
            images.pop();
            for image in images {
                let free = !lowers.contains(&image.rootfs()) && !image.is_held()?;
                match (free, dry) {
                    (true, false) => match discard(&image) {
                        Ok(()) => pruned.removed.push(image),
                        Err(ImageError::Busy(_)) => pruned.used.push(image),
                        Err(error) => return Err(error),
                    },
                    (true, true) => pruned.removed.push(image),
                    (false, _) => pruned.used.push(image),
                }
            }
        }
    }
    Ok(pruned)
}

/// Removes one image unless it is in use.
pub(super) fn discard(image: &Image) -> Result<(), ImageError> {
    let path = image.dir.join("manifest.json");
    let file = File::open(&path).map_err(at("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(ImageError::Busy(image.manifest.name.clone())),
        Err(TryLockError::Error(error)) => return Err(at("lock", &path)(error)),
    }
    // Renamed first: whoever looks for it finds all of it or nothing.
    let gone = image.dir.with_file_name(format!(".gone-{}", image.manifest.hash));
    let _ = fs::remove_dir_all(&gone);
    fs::rename(&image.dir, &gone).map_err(at("rename", &image.dir))?;
    fs::remove_dir_all(&gone).map_err(at("remove", &gone))
}

/// Gives the folder `made` of an image its name `dir`, when all that is in it has reached the disk: after a loss of power
/// it is there whole, or not at all.
pub(super) fn publish(made: &Path, dir: &Path) -> Result<(), ImageError> {
    let home = File::open(dir.parent().unwrap_or(dir)).map_err(at("open", dir))?;
    rustix::fs::syncfs(&home).map_err(|error| at("write", made)(error.into()))?;
    fs::rename(made, dir).and_then(|()| home.sync_all()).map_err(at("rename", made))
}

/// Writes `manifest` into the folder `dir` of an image, so that it survives a loss of power.
pub(super) fn write_manifest(dir: &Path, manifest: &Manifest) -> Result<(), ImageError> {
    let path = dir.join("manifest.json");
    let text = serde_json::to_vec_pretty(manifest).map_err(|e| at("write", &path)(e.into()))?;
    let mut file = File::create(&path).map_err(at("create", &path))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(at("write", &path))
}

pub(super) fn manifest_of(recipe: &Recipe, rootfs: &Path) -> Manifest {
    Manifest {
        name: recipe.image.clone(),
        recipe: recipe.recipe.clone(),
        hash: recipe.hash.clone(),
        packages: recipe.packages.clone(),
        users: recipe.users.iter().map(|user| user.name.clone()).collect(),
        init: recipe.init.clone(),
        host_key: recipe.host_key,
        services: recipe.services.clone(),
        environment: vec![],
        workdir: None,
        size: size_of(rootfs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(state: &Path, name: &str) -> Image {
        let config = ImageConfig { name: name.into(), ..ImageConfig::plain("small") };
        let recipe = Recipe::of(&config).unwrap();
        let dir = images_dir(state).join(name).join(&recipe.hash);
        fs::create_dir_all(dir.join("rootfs")).unwrap();
        fs::write(dir.join("rootfs/file"), [0; 100]).unwrap();
        let manifest = manifest_of(&recipe, &dir.join("rootfs"));
        fs::write(dir.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
        assert_eq!(find(state, &config).unwrap().manifest, manifest);
        Image { manifest, dir }
    }

    #[test]
    fn lists_and_removes_what_nobody_uses() {
        let state = tempfile::tempdir().unwrap();
        let (one, two) = (put(state.path(), "one"), put(state.path(), "two"));
        assert_eq!(one.manifest.size, 100);
        fs::create_dir_all(images_dir(state.path()).join("one/.tmp-7/rootfs")).unwrap();
        assert_eq!(list(state.path()), [one.clone(), two]);
        let held = one.hold().unwrap();
        assert!(matches!(remove(state.path(), "one"), Err(ImageError::Busy(_))));
        assert_eq!(list(state.path()).len(), 2);
        drop(held);
        assert_eq!(remove(state.path(), "one").unwrap(), 1);
        assert_eq!(remove(state.path(), "one").unwrap(), 0);
        assert_eq!(list(state.path()).len(), 1);
        assert!(!images_dir(state.path()).join("one").exists());
    }

    #[test]
    fn an_image_that_is_not_whole_is_none() {
        let state = tempfile::tempdir().unwrap();
        let (one, two) = (put(state.path(), "one"), put(state.path(), "two"));
        let text = serde_json::to_vec(&one.manifest).unwrap();
        for len in 0..text.len() {
            fs::write(one.dir.join("manifest.json"), &text[..len]).unwrap();
            assert_eq!(list(state.path()), std::slice::from_ref(&two), "{len} octets of {}", text.len());
        }
        fs::write(one.dir.join("manifest.json"), &text).unwrap();
        assert_eq!(list(state.path()).len(), 2);
        let moved = two.dir.with_file_name("moved");
        publish(&two.dir, &moved).unwrap();
        assert!(moved.join("rootfs/file").exists() && !two.dir.exists());
    }

    #[test]
    fn what_another_build_has_taken_the_place_of_is_removed_unless_somebody_uses_it() {
        let state = tempfile::tempdir().unwrap();
        let old = |image: &Image, hash: &str, age: u64| {
            let dir = image.dir.with_file_name(hash);
            fs::create_dir_all(dir.join("rootfs")).unwrap();
            let manifest = Manifest { hash: hash.into(), ..image.manifest.clone() };
            write_manifest(&dir, &manifest).unwrap();
            let file = File::options().append(true).open(dir.join("manifest.json")).unwrap();
            let then = file.metadata().unwrap().modified().unwrap() - std::time::Duration::from_secs(age);
            file.set_modified(then).unwrap();
            Image { manifest, dir }
        };
        let newest = put(state.path(), "one");
        let [held, over, free] = [("c", 10), ("b", 20), ("a", 30)].map(|(hash, age)| old(&newest, hash, age));
        let other = put(state.path(), "two");
        // Another kind of image under the same name is none of its builds.
        let brought = old(&other, "d", 40);
        let manifest = Manifest { recipe: IMPORTED.into(), ..brought.manifest.clone() };
        write_manifest(&brought.dir, &manifest).unwrap();
        let brought = Image { manifest, ..brought };
        let lock = held.hold().unwrap();
        // The files of a container that was stopped lie over it.
        let container = state.path().join("net/containers/hw-7");
        fs::create_dir_all(container.join("upper")).unwrap();
        std::os::unix::fs::symlink(over.rootfs(), container.join("lower")).unwrap();
        let removed = |dry| prune(state.path(), dry).unwrap();
        let expected = Pruned { removed: vec![free.clone()], used: vec![over.clone(), held.clone()] };
        assert_eq!(removed(true), expected);
        assert!(free.dir.exists(), "it was only looked at");
        assert_eq!(removed(false), expected);
        let mut left = list(state.path());
        left.sort_by_key(|image| image.manifest.hash.clone());
        let mut kept = vec![newest.clone(), over, held.clone(), other, brought];
        kept.sort_by_key(|image| image.manifest.hash.clone());
        assert_eq!(left, kept);
        drop(lock);
        fs::remove_dir_all(&container).unwrap();
        fs::write(container.with_extension("disk"), "").unwrap();
        let error = prune(state.path(), true).unwrap_err().to_string();
        assert!(error.contains("hw-7.disk") && error.contains("`down`"), "{error}");
        fs::remove_dir_all(state.path().join("net")).unwrap();
        assert_eq!(removed(false).removed.len(), 2);
        assert_eq!(removed(false), Pruned::default());
        assert!(newest.hold().is_ok());
    }

    #[test]
    fn a_changed_image_is_missing() {
        let state = tempfile::tempdir().unwrap();
        put(state.path(), "one");
        let config = ImageConfig { name: "one".into(), packages: vec!["nmap".into()], ..ImageConfig::plain("small") };
        assert!(matches!(find(state.path(), &config), Err(ImageError::Missing(_))));
    }
}
