//! The files of a recipe: compiled in, or a folder of the user's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use sha2::{Digest, Sha256};

use super::Method;
use crate::container::image::{ImageError, at};

static RECIPES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/container/image/recipes");
static METHODS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/container/image/methods");

/// What a recipe is described in.
pub const DESCRIPTION: &str = "recipe.yaml";
/// Files that a recipe may consist of.
const MAX_FILES: usize = 4096;
/// Octets that they may have together.
const MAX_SIZE: u64 = 64 << 20;

/// Files by their paths in the folder, in the order of these.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Folder(BTreeMap<String, Cow<'static, [u8]>>);

impl Folder {
    /// The built-in recipe `name`.
    pub fn built_in(name: &str) -> Option<Folder> {
        let mut folder = Folder::default();
        let dir = RECIPES.get_dir(name)?;
        folder.embed(dir, dir.path());
        Some(folder)
    }

    /// What every recipe of `method` has besides its own files.
    pub fn of_method(method: Method) -> Folder {
        let mut folder = Folder::default();
        let name = match method {
            Method::Unpack => "unpack",
            Method::Bootstrap => "bootstrap",
        };
        if let Some(dir) = METHODS.get_dir(name) {
            folder.embed(dir, dir.path());
        }
        folder
    }

    fn embed(&mut self, dir: &'static Dir<'static>, base: &Path) {
        for file in dir.files() {
            let path = file.path().strip_prefix(base).unwrap_or(file.path());
            self.0.insert(path.to_string_lossy().into_owned(), Cow::Borrowed(file.contents()));
        }
        dir.dirs().for_each(|dir| self.embed(dir, base));
    }

    /// The folder `root` of the user's.
    pub fn read(root: &Path) -> Result<Folder, ImageError> {
        let mut folder = Folder::default();
        // Looked for first: of another folder, `/proc` say, no file is opened.
        if !root.join(DESCRIPTION).is_file() {
            return Err(ImageError::Recipe(root.display().to_string(), format!("it has no {DESCRIPTION}")));
        }
        for (name, path) in survey(root)? {
            folder.0.insert(name, Cow::Owned(fs::read(&path).map_err(at("read", &path))?));
        }
        Ok(folder)
    }

    /// The content of `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(AsRef::as_ref)
    }

    /// The files below `dir`, by their paths from there.
    pub fn below(&self, dir: &str) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().filter_map(move |(name, content)| {
            let rest = name.strip_prefix(dir)?.strip_prefix('/')?;
            Some((rest, content.as_ref()))
        })
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Names and contents go into `digest`, with their lengths: no two folders look alike.
    pub fn digest(&self, digest: &mut Sha256) {
        digest.update((self.0.len() as u64).to_le_bytes());
        for (name, content) in &self.0 {
            for part in [name.as_bytes(), content] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
    }
}

/// The files below `root`. Names with a dot in front are left out: editors and version control put them there.
fn survey(root: &Path) -> Result<Vec<(String, PathBuf)>, ImageError> {
    let broken = |path: &Path, why: &str| ImageError::Recipe(path.display().to_string(), why.to_owned());
    let mut found = Vec::new();
    let mut pending = vec![(String::new(), root.to_owned())];
    let mut size = 0;
    while let Some((name, dir)) = pending.pop() {
        for entry in fs::read_dir(&dir).map_err(at("list", &dir))? {
            let path = entry.map_err(at("list", &dir))?.path();
            let Some(own) = path.file_name().and_then(|name| name.to_str()) else {
                return Err(broken(&path, "its name is not UTF-8: give it another"));
            };
            if own.starts_with('.') && name.is_empty() {
                continue;
            }
            let name = if name.is_empty() { own.to_owned() } else { format!("{name}/{own}") };
            let meta = fs::symlink_metadata(&path).map_err(at("read", &path))?;
            if meta.is_dir() {
                pending.push((name, path));
            } else if meta.is_file() {
                size += meta.len();
                found.push((name, path));
            } else {
                return Err(broken(&path, "a recipe has files and folders only: let a task make links and the like"));
            }
            if found.len() + pending.len() > MAX_FILES || size > MAX_SIZE {
                return Err(broken(root, "it has more than 4096 files or 64 MiB: is this the right folder?"));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A compiler that has the folders from before would build yesterday's images.
    #[test]
    fn what_is_compiled_in_is_what_lies_there() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/container/image");
        for (name, dir) in [("recipes", &RECIPES), ("methods", &METHODS)] {
            let mut embedded = Folder::default();
            embedded.embed(dir, Path::new(""));
            assert!(embedded.0.len() > 4);
            let on_disk = survey(&source.join(name)).unwrap();
            assert!(embedded.names().eq(on_disk.iter().map(|(name, _)| name.as_str())), "touch folder.rs");
            for (name, path) in on_disk {
                assert_eq!(embedded.get(&name), Some(fs::read(path).unwrap().as_slice()), "touch folder.rs: {name}");
            }
        }
    }

    #[test]
    fn takes_files_and_folders_only() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("files/etc/.hidden")).unwrap();
        fs::create_dir_all(dir.path().join(".git")).unwrap();
        for name in ["recipe.yaml", "files/etc/.hidden/x", ".git/config"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let folder = Folder::read(dir.path()).unwrap();
        assert_eq!(folder.names().collect::<Vec<_>>(), ["files/etc/.hidden/x", "recipe.yaml"]);
        assert_eq!(folder.below("files").map(|(name, _)| name).collect::<Vec<_>>(), ["etc/.hidden/x"]);
        std::os::unix::fs::symlink("/etc/shadow", dir.path().join("files/shadow")).unwrap();
        let error = Folder::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("files/shadow") && error.contains("files and folders only"), "{error}");
    }
}
