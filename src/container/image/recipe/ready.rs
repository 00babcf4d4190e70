//! Hashes of recipes that are known already. Every lease asks for one, and does
//! not read a recipe for it.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::{Recipe, is_folder};
use crate::container::ImageConfig;
use crate::container::image::ImageError;

/// Recipe, packages, accounts.
type Key = (String, Vec<String>, Vec<(String, String)>);

/// Images known at once; a plan has fewer.
const MAX_KNOWN: usize = 1024;

static KNOWN: OnceLock<Mutex<HashMap<Key, String>>> = OnceLock::new();

/// The hash of the recipe of `config`. What is compiled in is read once. Of a
/// folder of the user's counts what it was when the topology was read, which the
/// plan knows: editing a recipe does nothing to a honeynet that runs.
///
/// # Errors
/// Those of [`Recipe::of`].
pub fn hash_of(config: &ImageConfig) -> Result<String, ImageError> {
    if let Some(hash) = &config.hash {
        return Ok(hash.clone());
    }
    if is_folder(&config.recipe) {
        return Ok(Recipe::of(config)?.hash);
    }
    let users = config.users.iter().map(|user| (user.name.clone(), user.password.clone())).collect();
    let key: Key = (config.recipe.clone(), config.packages.clone(), users);
    let known = KNOWN.get_or_init(Mutex::default);
    let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(hash) = lock().get(&key) {
        return Ok(hash.clone());
    }
    let hash = Recipe::of(config)?.hash;
    let mut known = lock();
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
    known.insert(key, hash.clone());
    Ok(hash)
}
