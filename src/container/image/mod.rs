//! Images that containers start from: built from Debian packages by recipes,
//! imported, or captured from a container; all with the containers' user ids.
//!
//! ```text
//! STATE/images/NAME/HASH/rootfs         the files, owned by uid 1,000,000 and up
//! STATE/images/NAME/HASH/manifest.json  what they are
//! STATE/cache/apt/                      packages and package lists
//! STATE/cache/base/                     the minimal Debian that images share
//! ```
//! HASH stands for recipe, packages and accounts (or for what was imported): two topologies that give one
//! name to different images do not hurt each other, and a container goes on
//! while its image is built anew.

mod base;
mod build;
mod decoys;
pub mod import;
mod inside;
mod packages;
mod progress;
mod recipe;
mod root;
mod shift;
mod store;

pub use build::{build, ensure};
pub use packages::sources;
pub use progress::Progress;
pub use recipe::{HostKey, IMPORTED, Proto, RECIPES, Recipe, Service};
pub use store::{Image, Manifest, Pruned, find, list, prune, remove};

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no such recipe.
    #[error("image `{image}`: there is no recipe `{recipe}`; there are {}, and folders (`./NAME`)", RECIPES.join(", "))]
    UnknownRecipe {
        /// The image.
        image: String,
        /// The recipe asked for.
        recipe: String,
    },
    /// A recipe is broken.
    #[error("the recipe `{0}` cannot be used: {1}")]
    Recipe(String, String),
    /// It is not built.
    #[error("image `{0}` is not built: run `honeyweave image build` with the topology")]
    Missing(String),
    /// A file operation.
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A program is not installed.
    #[error("`{0}` is not installed: run `honeyweave doctor`, which says how to install it")]
    NoProgram(String),
    /// A program failed.
    #[error("{what} failed ({status}){}", last_lines(output))]
    Tool {
        /// What was being done.
        what: String,
        /// How it ended.
        status: String,
        /// The last lines that it wrote.
        output: Vec<String>,
    },
    /// A task of a recipe failed.
    #[error("task {task} failed ({status}){}\nmend its script, or remove it, and build again", last_lines(output))]
    Task {
        /// Its file's name.
        task: String,
        /// How it ended.
        status: String,
        /// The last lines that it wrote.
        output: Vec<String>,
    },
    /// It was never imported.
    #[error("image `{0}` is not on this machine: run `honeyweave image import {0} FILE` or `image capture {0}`")]
    NotImported(String),
    /// What was to be imported cannot be.
    #[error("cannot import {}: {why}", path.display())]
    Import {
        /// What it was.
        path: PathBuf,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// Nothing tells which image a container needs.
    #[error(
        "{}: this is the disk of a container whose honeynet did not end orderly, and nothing tells which image it needs: \
         bring that honeynet up, and end it by `down`",
        .0.display()
    )]
    Unclear(PathBuf),
    /// The machine has no sources of Debian packages.
    #[error("this machine has no APT sources of a Debian release: write some into a file and name it in {SOURCES_ENV}")]
    NoSources,
    /// Somebody uses it.
    #[error("image `{0}` is in use by a running honeynet: end that first")]
    Busy(String),
    /// Not root.
    #[error("images belong to the user ids of containers, so building them needs root: use sudo")]
    NotRoot,
}

/// Environment variable that names a file of APT sources to use in place of the machine's.
pub const SOURCES_ENV: &str = "HONEYWEAVE_APT_SOURCES";

fn last_lines(output: &[String]) -> String {
    output.iter().map(|line| format!("\n  | {line}")).collect()
}

/// Names the operation and the path of a failed file operation.
fn at<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ImageError + use<'a> {
    move |error| ImageError::Io { what, path: path.to_owned(), error }
}
