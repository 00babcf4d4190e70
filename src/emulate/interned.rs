//! Personalities as templates share them.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::personality::{Builtin, Personality};

/// A personality as templates have it: one of few, which live as long as the process.
#[derive(Clone, Copy)]
pub struct Interned(&'static Personality);

impl Interned {
    /// The one and only `personality` with these values. What is kept is bounded by how many different ones
    /// the topologies of this process name.
    pub fn new(personality: Personality) -> Interned {
        static ALL: Mutex<Vec<&'static Personality>> = Mutex::new(Vec::new());
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            Builtin::ALL.into_iter().map(Builtin::get).chain(all.iter().copied()).find(|known| **known == personality);
        Interned(known.unwrap_or_else(|| {
            let kept: &'static Personality = Box::leak(Box::new(personality));
            all.push(kept);
            kept
        }))
    }

    /// Its values.
    #[inline]
    pub fn get(self) -> &'static Personality {
        self.0
    }
}

impl From<Builtin> for Interned {
    fn from(builtin: Builtin) -> Interned {
        Interned(builtin.get())
    }
}

impl PartialEq for Interned {
    fn eq(&self, other: &Interned) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Interned {}

impl fmt::Debug for Interned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl Serialize for Interned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Interned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Interned, D::Error> {
        Personality::deserialize(deserializer).map(Interned::new)
    }
}
