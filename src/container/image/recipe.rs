//! Recipes: what an image consists of, as data that is compiled in.

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::ImageError;
use crate::container::{ImageConfig, ImageUser};

/// The names of the built-in recipes.
pub const RECIPES: [&str; 2] = ["small", "debian"];

const SOURCES: [(&str, &str); 2] = [
    (include_str!("recipes/small.yaml"), include_str!("recipes/small.sh")),
    (include_str!("recipes/debian.yaml"), include_str!("recipes/debian.sh")),
];

/// How packages become files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Unpacked with all they depend on; their scripts are not run.
    Unpack,
    /// Installed by mmdebstrap upon a minimal system.
    Bootstrap,
}

/// Which SSH server reads the host's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostKey {
    /// `/etc/dropbear/dropbear_ed25519_host_key`
    Dropbear,
    /// `/etc/ssh/ssh_host_ed25519_key`
    Openssh,
}

/// A file that is written into the image.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    /// Where, absolute inside the image.
    pub path: String,
    /// Its content.
    pub content: String,
    /// Its mode; 0644 if none is given.
    pub mode: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
struct RecipeUser {
    name: String,
    password: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Source {
    name: String,
    about: String,
    method: Method,
    packages: Vec<String>,
    shell: Vec<String>,
    init: Vec<String>,
    host_key: HostKey,
    users: Vec<RecipeUser>,
    files: Vec<RecipeFile>,
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
    /// The shell that runs `task`, inside the image.
    pub shell: Vec<String>,
    /// The container's first process.
    pub init: Vec<String>,
    /// Where the host's SSH key belongs.
    pub host_key: HostKey,
    /// Accounts.
    pub users: Vec<ImageUser>,
    /// Files.
    pub files: Vec<RecipeFile>,
    /// Shell commands that finish it.
    pub task: &'static str,
    /// Stands for everything above, in hexadecimal.
    pub hash: String,
}

impl Recipe {
    /// The recipe of `config`, with its packages and accounts.
    ///
    /// # Errors
    /// If it names a recipe that is not there.
    pub fn of(config: &ImageConfig) -> Result<Recipe, ImageError> {
        let unknown = || ImageError::UnknownRecipe { image: config.name.clone(), recipe: config.recipe.clone() };
        let index = RECIPES.iter().position(|name| *name == config.recipe).ok_or_else(unknown)?;
        let (yaml, task) = SOURCES[index];
        let source: Source =
            serde_saphyr::from_str(yaml).map_err(|e| ImageError::Recipe(config.recipe.clone(), e.to_string()))?;
        let mut packages = source.packages;
        packages.extend(config.packages.iter().cloned());
        packages.sort();
        packages.dedup();
        let mut users: Vec<ImageUser> = config.users.clone();
        for user in source.users {
            // The topology's word about an account counts, not the recipe's.
            if !users.iter().any(|known| known.name == user.name) {
                users.push(ImageUser { name: user.name, password: user.password });
            }
        }
        let mut digest = Sha256::new();
        for part in [yaml, task, &config.recipe] {
            digest.update(part);
            digest.update([0]);
        }
        for package in &packages {
            digest.update(package);
            digest.update([1]);
        }
        for user in &users {
            digest.update(&user.name);
            digest.update([2]);
            digest.update(&user.password);
            digest.update([3]);
        }
        let hash = digest.finalize()[..8].iter().map(|octet| format!("{octet:02x}")).collect();
        Ok(Recipe {
            image: config.name.clone(),
            recipe: source.name,
            about: source.about,
            method: source.method,
            packages,
            shell: source.shell,
            init: source.init,
            host_key: source.host_key,
            users,
            files: source.files,
            task,
            hash,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(recipe: &str) -> ImageConfig {
        ImageConfig { name: "x".into(), ..ImageConfig::plain(recipe) }
    }

    #[test]
    fn built_in_recipes_are_complete() {
        for name in RECIPES {
            let recipe = Recipe::of(&config(name)).unwrap();
            assert_eq!(recipe.recipe, name);
            assert!(recipe.users.iter().any(|user| user.name == "root"), "{name}");
            assert!(recipe.files.iter().all(|file| file.path.starts_with('/')), "{name}");
            assert!(recipe.init[0].starts_with('/'), "{name}");
        }
        let shadow = Recipe::of(&config("small")).unwrap().files.into_iter().find(|f| f.path == "/etc/shadow");
        assert_eq!(shadow.unwrap().mode, Some(0o640));
        assert!(matches!(Recipe::of(&config("big")), Err(ImageError::UnknownRecipe { .. })));
    }

    #[test]
    fn the_hash_stands_for_what_goes_in() {
        let plain = Recipe::of(&config("small")).unwrap().hash;
        assert_eq!(plain, Recipe::of(&config("small")).unwrap().hash);
        assert_eq!(plain, Recipe::of(&ImageConfig { name: "other".into(), ..config("small") }).unwrap().hash);
        let packages = ImageConfig { packages: vec!["nmap".into()], ..config("small") };
        let user = ImageUser { name: "root".into(), password: "hunter2".into() };
        let users = ImageConfig { users: vec![user], ..config("small") };
        let all = [plain, Recipe::of(&packages).unwrap().hash, Recipe::of(&users).unwrap().hash];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{all:?}");
    }

    #[test]
    fn an_account_of_the_topology_wins() {
        let root = ImageUser { name: "root".into(), password: "hunter2".into() };
        let recipe = Recipe::of(&ImageConfig { users: vec![root.clone()], ..config("small") }).unwrap();
        assert_eq!(recipe.users, [root]);
    }
}
