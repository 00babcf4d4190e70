//! Recipes: what an image consists of. A recipe is a folder:
//!
//! ```text
//! recipe.yaml          packages, services, accounts, decoys
//! tasks/NN-NAME.sh     shell scripts, run inside the image in the order of their names
//! files/...            what is copied into the image before they run
//! ```
//! To add or remove a task is to add or remove a file. Each method (see [`Method`])
//! brings tasks and files of its own, such as the one that makes the accounts;
//! a recipe's file of the same name takes its place.

mod folder;
mod ready;
mod source;

pub use ready::hash_of;
pub use source::{Decoy, Proto, Service};

use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::ImageError;
use crate::container::{ImageConfig, ImageUser};
use folder::{DESCRIPTION, Folder};
use source::Source;

/// The names of the built-in recipes.
pub const RECIPES: [&str; 7] = ["small", "debian", "file", "mail", "database", "workstation", "weak"];

/// In place of a recipe: the image was imported or captured, and cannot be built.
pub const IMPORTED: &str = "imported";

/// Counts up when images are built otherwise, which makes those of before out of date.
const BUILDER: u8 = 2;

/// How packages become files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Unpacked with all they depend on; their scripts are not run.
    Unpack,
    /// Installed upon a minimal Debian, which all images of this method share.
    #[default]
    Bootstrap,
}

impl Method {
    /// The shell inside the image.
    pub fn shell(self) -> &'static [&'static str] {
        match self {
            Method::Unpack => &["/bin/busybox", "sh"],
            Method::Bootstrap => &["/bin/sh"],
        }
    }
}

/// Which SSH server reads the host's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostKey {
    /// `/etc/dropbear/dropbear_ed25519_host_key`
    Dropbear,
    /// `/etc/ssh/ssh_host_ed25519_key`
    Openssh,
    /// None.
    None,
}

/// A file that is written into the image before the tasks run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecipeFile {
    /// Where, without a slash in front.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
    /// Its mode: 0755 for what begins with `#!`, or else 0644.
    pub mode: u32,
}

/// A shell script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    /// Its file's name.
    pub name: String,
    /// Its text.
    pub script: Vec<u8>,
}

/// A recipe together with what an image adds to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipe {
    /// The image's name.
    pub image: String,
    /// The recipe's name.
    pub recipe: String,
    /// What it is, for people.
    pub about: String,
    /// How packages become files.
    pub method: Method,
    /// Packages, sorted.
    pub packages: Vec<String>,
    /// What answers when it runs.
    pub services: Vec<Service>,
    /// The container's first process.
    pub init: Vec<String>,
    /// Where the host's SSH key belongs.
    pub host_key: HostKey,
    /// Accounts.
    pub users: Vec<ImageUser>,
    /// Files that are there before the tasks run.
    pub files: Vec<RecipeFile>,
    /// What finishes it, in order.
    pub tasks: Vec<Task>,
    /// Files that are there for an intruder to find; written last.
    pub decoys: Vec<Decoy>,
    /// Stands for everything above, in hexadecimal.
    pub hash: String,
}

impl Recipe {
    /// The recipe of `config`, with its packages and accounts.
    ///
    /// # Errors
    /// If it names a recipe that is not there, or that says what makes no sense.
    pub fn of(config: &ImageConfig) -> Result<Recipe, ImageError> {
        let own = folder_of(config)?;
        let broken = |why: String| ImageError::Recipe(config.recipe.clone(), why);
        let text = own.get(DESCRIPTION).ok_or_else(|| broken(format!("it has no {DESCRIPTION}")))?;
        let source = Source::parse(text).map_err(broken)?;
        let shared = Folder::of_method(source.method);
        let mut packages = source.packages.clone();
        packages.extend(config.packages.iter().cloned());
        packages.sort();
        packages.dedup();
        let mut users: Vec<ImageUser> = config.users.clone();
        for user in &source.users {
            // The topology's word about an account counts, not the recipe's.
            if !users.iter().any(|known| known.name == user.name) {
                users.push(user.clone());
            }
        }
        let mut digest = Sha256::new();
        digest.update([BUILDER]);
        shared.digest(&mut digest);
        own.digest(&mut digest);
        for (end, parts) in [
            (1, packages.iter().collect::<Vec<_>>()),
            (2, users.iter().flat_map(|user| [&user.name, &user.password]).collect()),
        ] {
            for part in parts {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
            digest.update([end]);
        }
        let hash = digest.finalize()[..8].iter().map(|octet| format!("{octet:02x}")).collect();
        let tasks = tasks(&shared, &own).map_err(broken)?;
        let files = files(&source, &shared, &own).map_err(broken)?;
        Ok(Recipe {
            image: config.name.clone(),
            recipe: source.name,
            about: source.about,
            method: source.method,
            packages,
            services: source.services,
            init: source.init,
            host_key: source.host_key.unwrap_or(match source.method {
                Method::Unpack => HostKey::Dropbear,
                Method::Bootstrap => HostKey::Openssh,
            }),
            users,
            files,
            tasks,
            decoys: source.decoys,
            hash,
        })
    }
}

/// Whether `recipe` is a folder of the user's and no name.
pub fn is_folder(recipe: &str) -> bool {
    recipe.starts_with('/')
}

fn folder_of(config: &ImageConfig) -> Result<Folder, ImageError> {
    let recipe = &config.recipe;
    if is_folder(recipe) {
        return Folder::read(Path::new(recipe));
    }
    let unknown = || ImageError::UnknownRecipe { image: config.name.clone(), recipe: recipe.clone() };
    let known = RECIPES.contains(&recipe.as_str());
    known.then(|| Folder::built_in(recipe)).flatten().ok_or_else(unknown)
}

fn tasks(shared: &Folder, own: &Folder) -> Result<Vec<Task>, String> {
    let mut tasks: Vec<Task> = Vec::new();
    // What the recipe says comes first, so it takes the place of the method's.
    for (name, script) in own.below("tasks").chain(shared.below("tasks")) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let numbered = name.len() > 3 && name.as_bytes()[..2].iter().all(u8::is_ascii_digit);
        if !numbered || name.as_bytes()[2] != b'-' || !name.bytes().all(plain) || !name.ends_with(".sh") {
            return Err(format!("tasks/{name} is no name of a task: two digits come first, as in tasks/20-web.sh"));
        }
        if !tasks.iter().any(|task| task.name == name) {
            tasks.push(Task { name: name.to_owned(), script: script.to_owned() });
        }
    }
    tasks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tasks)
}

fn files(source: &Source, shared: &Folder, own: &Folder) -> Result<Vec<RecipeFile>, String> {
    let mode_of = |content: &[u8]| if content.starts_with(b"#!") { 0o755 } else { 0o644 };
    let mut files: Vec<RecipeFile> = Vec::new();
    let mut put = |path: &str, content: Vec<u8>, mode: Option<u32>| {
        if !files.iter().any(|file| file.path == path) {
            let mode = mode.unwrap_or_else(|| mode_of(&content));
            files.push(RecipeFile { path: path.to_owned(), content, mode });
        }
    };
    for file in &source.files {
        put(file.path.trim_start_matches('/'), file.content.clone().into_bytes(), file.mode);
    }
    for (path, content) in own.below("files") {
        put(path, content.to_owned(), None);
    }
    put("etc/inittab", source.inittab().into_bytes(), None);
    for (path, content) in shared.below("files") {
        put(path, content.to_owned(), None);
    }
    match own.names().find(|name| !name.starts_with("files/") && !name.starts_with("tasks/") && *name != DESCRIPTION) {
        // Documentation may lie beside it.
        Some(name) if !name.ends_with(".md") => {
            Err(format!("{name} is neither in tasks/ nor in files/, where an image's things are"))
        }
        _ => Ok(files),
    }
}

#[cfg(test)]
mod tests;
