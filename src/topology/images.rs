//! Images: recipes, packages and accounts.

use super::check::Checker;
use crate::container::{ImageConfig, ImageUser};

/// What can be built.
pub const RECIPES: [&str; 2] = ["small", "debian"];

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
            Some(recipe) if RECIPES.contains(&recipe.0.as_str()) => recipe.value.0.clone(),
            Some(recipe) => {
                c.unknown(recipe.span, "recipe", recipe, RECIPES);
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
        images.push(ImageConfig { name: name.value.0.clone(), recipe, packages, users, pool });
    }
    for recipe in std::mem::take(&mut c.used_recipes) {
        images.push(ImageConfig::plain(recipe));
    }
    images
}
