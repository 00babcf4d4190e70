//! From a layout's index to one image: its layers and what it says about how it
//! is run (OCI Image Specification 1.1; Docker's media types are the same things
//! under other names).

use serde::Deserialize;

use super::layout::Layout;
use super::{ReadError, bad, shown};

/// Indexes inside indexes.
const MAX_NESTING: usize = 3;
/// Layers of an image.
const MAX_LAYERS: usize = 256;
/// Words of a command, variables of an environment.
const MAX_WORDS: usize = 256;

/// What names a file by its content.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Its octets.
    pub size: u64,
    platform: Option<Platform>,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize, Default)]
struct Document {
    #[serde(default)]
    config: Option<Config>,
}

/// How an image is run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// The program with its first arguments.
    pub entrypoint: Option<Vec<String>>,
    /// What follows it.
    pub cmd: Option<Vec<String>>,
    /// `NAME=VALUE`.
    pub env: Option<Vec<String>>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// As whom.
    pub user: Option<String>,
}

impl Config {
    /// The command with its arguments; empty if there is none.
    pub fn command(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).flatten().cloned().collect()
    }
}

impl Descriptor {
    /// The digest's hexadecimal digits, which are safe in a path.
    ///
    /// # Errors
    /// If it is another kind of digest.
    pub fn sha256(&self) -> Result<&str, ReadError> {
        let digits = self.digest.strip_prefix("sha256:").unwrap_or_default();
        let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match digits.len() == 64 && digits.bytes().all(lower) {
            true => Ok(digits),
            false => Err(bad!("`{}` is no SHA-256 digest", shown(self.digest.as_bytes()))),
        }
    }

    fn is_index(&self) -> bool {
        self.media_type.ends_with("image.index.v1+json") || self.media_type.ends_with("manifest.list.v2+json")
    }

    fn is_for_us(&self) -> bool {
        let ours = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        self.platform.as_ref().is_none_or(|of| of.os == "linux" && of.architecture == ours)
    }
}

/// The image's manifest in `layout`: the first for this machine's processor.
fn manifest(layout: &Layout) -> Result<(Manifest, String), ReadError> {
    let mut text = layout.index()?;
    for _ in 0..MAX_NESTING {
        let index: Index = parse(&text, "the index")?;
        let Some(descriptor) = index.manifests.iter().find(|descriptor| descriptor.is_for_us()) else {
            return Err(bad!("it has no image for Linux on {}", std::env::consts::ARCH));
        };
        text = layout.json(descriptor)?;
        if !descriptor.is_index() {
            return Ok((parse(&text, "the manifest")?, descriptor.sha256()?.to_owned()));
        }
    }
    Err(bad!("its indexes lead to indexes all the way"))
}

/// The layers of the image in `layout`, the lowest first, and the manifest's digest.
///
/// # Errors
/// If the layout is broken, was altered or has no image for this machine.
pub fn layers(layout: &Layout) -> Result<(Vec<Descriptor>, String), ReadError> {
    let (manifest, digest) = manifest(layout)?;
    if manifest.layers.len() > MAX_LAYERS {
        return Err(bad!("it has {} layers, which is too many", manifest.layers.len()));
    }
    Ok((manifest.layers, digest))
}

/// How the image in `layout` is run.
///
/// # Errors
/// If the layout is broken, was altered or has no image for this machine.
pub fn config(layout: &Layout) -> Result<Config, ReadError> {
    let (manifest, _) = manifest(layout)?;
    let document: Document = parse(&layout.json(&manifest.config)?, "the configuration")?;
    let config = document.config.unwrap_or_default();
    // They become lines of a configuration.
    let sound = |word: &String| word.len() <= 8192 && !word.chars().any(char::is_control);
    let lists = [&config.entrypoint, &config.cmd, &config.env];
    let sound_lists = lists.into_iter().flatten().all(|list| list.len() <= MAX_WORDS && list.iter().all(sound));
    if !sound_lists || !config.working_dir.iter().all(sound) {
        return Err(bad!("its command or environment is too long or has control characters"));
    }
    Ok(config)
}

fn parse<'t, T: Deserialize<'t>>(text: &'t [u8], what: &str) -> Result<T, ReadError> {
    serde_json::from_slice(text).map_err(|error| bad!("{what} is broken: {error}"))
}
