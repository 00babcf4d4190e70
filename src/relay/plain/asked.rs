//! What a web server has asked a user and password for (RFC 7617 §2.2): everything at or below where it did.
//!
//! Who sends some unasked is answered as everybody is, by a page that is anybody's: that says nothing of the password. So
//! it counts as accepted only where the host has refused somebody without one, or with another, before. Whoever guesses
//! comes with a new connection each time; hence it is the host that remembers, not the connection.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

/// Directories of a host that are remembered, the latest ones.
const DIRECTORIES: usize = 64;
/// Levels of a path that are looked at.
const LEVELS: usize = 32;

/// Where a port of a host has asked for a user and password.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    hasher: RandomState,
    /// Directories, by what they hash to.
    directories: VecDeque<u64>,
}

/// A path of a request, by what its directories hash to: there may be many that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    directory: u64,
    /// The path itself.
    path: u64,
    /// It is in the directory that everything is below, and is not that.
    is_at_top: bool,
    /// Whether what is there was asked for by then.
    pub was_asked: bool,
}

impl Asked {
    /// Where `path` is.
    pub fn place(&self, path: &[u8]) -> Place {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let path = path.split(|octet| matches!(octet, b'?' | b'#')).next().unwrap_or_default();
        let is_at_top = path.len() > 1 && path.iter().rposition(|octet| *octet == b'/') == Some(0);
        let (directory, own) = (inner.hasher.hash_one(&path[..0]), inner.hasher.hash_one(path));
        let mut place = Place { directory, path: own, is_at_top, was_asked: false };
        place.was_asked = inner.directories.contains(&own) || inner.directories.contains(&place.directory);
        let ends = path.iter().enumerate().filter(|(_, octet)| **octet == b'/').take(LEVELS);
        for (at, _) in ends {
            place.directory = inner.hasher.hash_one(&path[..=at]);
            place.was_asked |= inner.directories.contains(&place.directory);
        }
        place
    }

    /// A request without a user and password, or with wrong ones, was refused there.
    pub fn refused(&self, place: Place) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One file at the top says nothing of all others.
        let place_or_path = if place.is_at_top { place.path } else { place.directory };
        if place.was_asked || inner.directories.contains(&place_or_path) {
            return;
        }
        if inner.directories.len() >= DIRECTORIES {
            inner.directories.pop_front();
        }
        inner.directories.push_back(place_or_path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_all_below() {
        let asked = Asked::default();
        asked.refused(asked.place(b"/admin/index.html?x=/a/b"));
        for (path, is_asked) in [
            (&b"/admin/"[..], true),
            (b"/admin/a/b?c", true),
            (b"/admin", false),
            (b"/", false),
            (b"/other/admin/", false),
            (b"*", false),
        ] {
            assert_eq!(asked.place(path).was_asked, is_asked, "{path:?}");
        }
        // Of many the latest are remembered, and what is below one of them takes no room.
        for at in 0..1000 {
            asked.refused(asked.place(b"/admin/deep/er"));
            asked.refused(asked.place(format!("/{at}/x").as_bytes()));
        }
        assert_eq!(asked.0.lock().unwrap().directories.len(), DIRECTORIES);
        assert!(asked.place(b"/999/y").was_asked && !asked.place(b"/1/y").was_asked);
        // One file at the top is itself alone.
        asked.refused(asked.place(b"/secret?x"));
        assert!(asked.place(b"/secret").was_asked && !asked.place(b"/public").was_asked);
        assert!(!asked.place(b"/secret/x").was_asked);
        asked.refused(asked.place(b"/"));
        assert!(asked.place(b"/anything").was_asked);
    }
}
