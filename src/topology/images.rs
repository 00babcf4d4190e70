//! Images: recipes, packages and accounts.

use std::path::PathBuf;

use super::at::{At, Text};
use super::check::Checker;
use crate::container::image::{IMPORTED, Recipe};
use crate::container::{ImageConfig, ImageUser};

/// What can be built.
pub use crate::container::image::RECIPES;

/// Most containers that are kept ready of an image.
const MAX_POOL: u32 = 64;

/// Reads `images` and adds the built-in ones that are named without being written.
pub fn read(c: &mut Checker<'_>) -> Vec<ImageConfig> {
    let mut images = Vec::new();
    for (name, image) in c.raw.images.iter().flat_map(|map| map.iter()) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) || name.starts_with('-') {
            c.error(
                name.span,
                format!("`{}` cannot name an image", name.0),
                "a folder is named after it",
                "use 1 to 64 lower-case letters, digits and `-`, beginning with a letter or a digit",
            );
        }
        let recipe = match &image.recipe {
            Some(recipe) if RECIPES.contains(&recipe.0.as_str()) || recipe.0 == IMPORTED => recipe.value.0.clone(),
            Some(recipe) if recipe.0.contains('/') || recipe.0 == "." => match folder(c, recipe) {
                Some(folder) => folder,
                None => continue,
            },
            Some(recipe) => {
                c.unknown(recipe.span, "recipe", recipe, RECIPES.into_iter().chain([IMPORTED]));
                continue;
            }
            None => match RECIPES.iter().find(|recipe| **recipe == name.0) {
                Some(recipe) => (*recipe).to_owned(),
                None => {
                    let help = "add `recipe: small` (busybox and dropbear) or `recipe: debian` (OpenSSH and nginx)";
                    c.error(name.span, format!("the image `{}` has no recipe", name.0), "what is it built from?", help);
                    continue;
                }
            },
        };
        let mut packages = Vec::new();
        for package in image.packages.iter().flat_map(|list| list.iter()) {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
            if package.len() < 2 || !package.bytes().all(plain) || !package.as_bytes()[0].is_ascii_alphanumeric() {
                let help = "Debian's names are lower-case letters, digits, `+`, `-` and `.`, such as `nginx-light`";
                c.error(package.span, format!("`{}` is no name of a package", package.0), "here", help);
                continue;
            }
            packages.push(package.value.0.clone());
        }
        let mut users: Vec<ImageUser> = Vec::new();
        for user in image.users.iter().flat_map(|list| list.iter()) {
            let (login, password) = (&user.name, &user.password);
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
            let digit_first = login.starts_with(|first: char| first.is_ascii_digit() || first == '-');
            if !(1..=32).contains(&login.len()) || !login.bytes().all(plain) || digit_first {
                let help = "use 1 to 32 lower-case letters, digits, `-` and `_`, beginning with a letter";
                c.error(login.span, format!("`{}` is no log-in name", login.0), "here", help);
            } else if password.is_empty() || password.bytes().any(|b| b < b' ' || b == b':') {
                let help = "choose a password without `:` and without control characters";
                c.error(password.span, "this password cannot be set", "here", help);
            } else if users.iter().any(|known| known.name == login.0) {
                c.error(login.span, format!("the account `{}` is written twice", login.0), "again here", "remove one");
            } else {
                users.push(ImageUser { name: login.value.0.clone(), password: password.value.0.clone() });
            }
        }
        let pool = match &image.pool {
            Some(pool) if pool.value > MAX_POOL => {
                let help = "each takes some megabytes of memory: a few are enough for a burst of attackers";
                c.error(pool.span, format!("a pool has at most {MAX_POOL} containers"), "too many", help);
                0
            }
            pool => pool.as_ref().map_or(0, |pool| pool.value as u16),
        };
        if recipe == IMPORTED && !(packages.is_empty() && users.is_empty()) {
            let help = "log in to a container of it and capture that (`image capture`), or use a recipe";
            let message = format!("packages and accounts cannot be added to the imported image `{}`", name.0);
            c.error(name.span, message, "it is what was imported", help);
            continue;
        }
        let mut config = ImageConfig { name: name.value.0.clone(), recipe, hash: None, packages, users, pool };
        // What is compiled in is sound; a folder of the user's may be anything, and may change while the plan is carried out.
        if let Some(recipe) = image.recipe.as_ref().filter(|_| config.recipe.starts_with('/')) {
            match Recipe::of(&config) {
                Ok(recipe) => config.hash = Some(recipe.hash),
                Err(error) => {
                    let help =
                        "docs/images.md says what a recipe's folder holds; paths are relative to the topology's folder";
                    c.error(recipe.span, error.to_string(), "here", help);
                    continue;
                }
            }
        }
        images.push(config);
    }
    for recipe in std::mem::take(&mut c.used_recipes) {
        images.push(ImageConfig::plain(recipe));
    }
    images
}

/// The absolute path of a recipe's folder.
fn folder(c: &mut Checker<'_>, recipe: &At<Text>) -> Option<String> {
    let path = std::path::absolute(c.base.join(&recipe.value.0));
    match path.map(PathBuf::into_os_string).map(std::ffi::OsString::into_string) {
        Ok(Ok(path)) => Some(path),
        _ => {
            let help = "move it to where every folder's name is UTF-8";
            c.error(recipe.span, format!("`{}` is no path that can be written down", recipe.0), "here", help);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::topology;

    fn images(dir: &std::path::Path, images: &str) -> Result<Vec<super::ImageConfig>, String> {
        let path = dir.join("t.yaml");
        std::fs::write(&path, format!("images:\n  x: {images}\nnodes: {{s: {{kind: switch}}}}\n")).unwrap();
        topology::load(&path).map(|plan| plan.images).map_err(|errors| format!("{errors:?}"))
    }

    #[test]
    fn a_folder_is_a_recipe() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("mine")).unwrap();
        std::fs::write(dir.path().join("mine/recipe.yaml"), "name: mine").unwrap();
        let first = images(dir.path(), "{recipe: ./mine}").unwrap();
        assert_eq!(first[0].recipe, dir.path().join("./mine").to_str().unwrap().replace("/./", "/"));
        std::fs::write(dir.path().join("mine/recipe.yaml"), "name: mine\npackages: [nmap]").unwrap();
        let second = images(dir.path(), "{recipe: ./mine}").unwrap();
        assert!(first[0].hash.is_some() && second[0].hash.is_some() && first[0].hash != second[0].hash);
        let error = images(dir.path(), "{recipe: ./other}").unwrap_err();
        assert!(error.contains("other") && error.contains("it has no recipe.yaml"), "{error}");
        std::fs::write(dir.path().join("mine/recipe.yaml"), "nmae: mine").unwrap();
        assert!(images(dir.path(), "{recipe: ./mine}").unwrap_err().contains("nmae"));
    }

    #[test]
    fn what_was_imported_is_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let imported = images(dir.path(), "{recipe: imported}").unwrap();
        assert_eq!((imported[0].recipe.as_str(), &imported[0].hash), ("imported", &None));
        assert!(images(dir.path(), "{recipe: imported, packages: [nmap]}").unwrap_err().contains("cannot be added"));
    }
}
