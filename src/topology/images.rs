//! Images: recipes, packages and accounts.

use std::path::PathBuf;

use super::at::{At, Text};
use super::check::Checker;
use super::raw::Backend;
use super::source::Span;
use crate::container::image::{HostKey, IMPORTED, Recipe};
use crate::container::{ImageConfig, ImageUser};

/// What can be built.
pub use crate::container::image::RECIPES;

/// Most containers that are kept ready of an image.
const MAX_POOL: u32 = 64;

/// The image that a `backend` names, as `image` or as `clone`.
pub fn of_backend(c: &mut Checker<'_>, backend: &Backend) -> Option<(String, Span)> {
    let named = match (&backend.image, &backend.clone) {
        (Some(image), Some(clone)) => {
            let help = "keep `clone` for what was captured of a container, `image` for everything else";
            c.error(clone.span, "a container has one origin", format!("here is another than `{}`", image.0), help);
            image
        }
        (Some(image), None) => image,
        (None, Some(clone)) => {
            is_captured(c, clone);
            return Some((clone.value.0.clone(), clone.span));
        }
        (None, None) => return None,
    };
    c.image(named, named.span);
    Some((named.value.0.clone(), named.span))
}

/// Notes that what was captured under a name is used, or reports that it is something else.
fn is_captured(c: &mut Checker<'_>, clone: &At<Text>) {
    let written = c.raw.images.as_ref().and_then(|images| images.iter().find(|(name, _)| name.0 == clone.0));
    match written {
        Some((_, image)) if image.recipe.as_ref().is_some_and(|recipe| recipe.0 == IMPORTED) => {}
        None if !RECIPES.contains(&clone.0.as_str()) && is_name(&clone.0) => {
            if !c.captured.contains(&clone.0) {
                c.captured.push(clone.value.0.clone());
            }
        }
        None if !is_name(&clone.0) => cannot_be_named(c, &clone.0, clone.span),
        _ => {
            let help = format!(
                "write `image: {0}`; or start a container of it, work in it, keep that with `honeyweave image capture \
                 CONTAINER NAME`, and write `clone: NAME`",
                clone.0
            );
            c.error(clone.span, format!("the image `{}` is built, not captured", clone.0), "here", help);
        }
    }
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('-')
}

fn cannot_be_named(c: &mut Checker<'_>, name: &str, span: Span) {
    c.error(
        span,
        format!("`{name}` cannot name an image"),
        "a folder is named after it",
        "use 1 to 64 lower-case letters, digits and `-`, beginning with a letter or a digit",
    );
}

/// Reads `images` and adds the built-in ones that are named without being written.
pub fn read(c: &mut Checker<'_>) -> Vec<ImageConfig> {
    let mut images = Vec::new();
    for (name, image) in c.raw.images.iter().flat_map(|map| map.iter()) {
        if !is_name(&name.0) {
            cannot_be_named(c, &name.0, name.span);
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
    for name in std::mem::take(&mut c.captured) {
        images.push(ImageConfig { name, recipe: IMPORTED.into(), ..ImageConfig::plain(IMPORTED) });
    }
    images
}

/// The first account of the image `name`: its user and password.
pub fn account(c: &mut Checker<'_>, name: &str) -> Option<(String, String)> {
    let written = c.raw.images.as_ref().and_then(|images| images.iter().find(|(named, _)| named.0 == name));
    if let Some(user) = written.and_then(|(_, image)| image.users.as_ref()?.first()) {
        return Some((user.name.value.0.clone(), user.password.value.0.clone()));
    }
    let recipe = recipe(c, name)?;
    recipe.users.first().map(|user| (user.name.clone(), user.password.clone()))
}

/// Whether the SSH server of the image `name` is Dropbear.
pub fn has_dropbear(c: &mut Checker<'_>, name: &str) -> bool {
    recipe(c, name).is_some_and(|recipe| recipe.host_key == HostKey::Dropbear)
}

/// Whether `package`, or one of the forms that it comes in (`package-light`), is in the image `name`.
pub fn has_package(c: &mut Checker<'_>, name: &str, package: &str) -> bool {
    let is_it = |other: &str| other.strip_prefix(package).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    let written = c.raw.images.as_ref().and_then(|images| images.iter().find(|(named, _)| named.0 == name));
    let mut more = written.iter().flat_map(|(_, image)| image.packages.iter().flat_map(|list| list.iter()));
    more.any(|more| is_it(&more.value.0))
        || recipe(c, name).is_some_and(|recipe| recipe.packages.iter().any(|of| is_it(of)))
}

/// The recipe of the image `name`, if it is made by one.
fn recipe(c: &mut Checker<'_>, name: &str) -> Option<Recipe> {
    let written = c.raw.images.as_ref().and_then(|images| images.iter().find(|(named, _)| named.0 == name));
    let recipe = match written.and_then(|(_, image)| image.recipe.as_ref()) {
        Some(recipe) if recipe.0.contains('/') || recipe.0 == "." => folder(c, recipe)?,
        Some(recipe) => recipe.value.0.clone(),
        None => name.to_owned(),
    };
    Recipe::of(&ImageConfig { recipe, ..ImageConfig::plain(name) }).ok()
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
