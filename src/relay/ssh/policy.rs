//! Who is let in, and as whom.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::service::Policy;

impl Policy {
    /// Whether a password lets in, of which `refused` others did not; none if the container's server is to be asked.
    pub(super) fn password(&self, user: &str, password: &str, refused: u32) -> Option<bool> {
        match self {
            Policy::Container => None,
            Policy::List(pairs) => Some(pairs.iter().any(|(u, p)| u == user && p == password)),
            Policy::Any => Some(true),
            Policy::After(tries) => Some(refused >= *tries),
            Policy::Never => Some(false),
        }
    }

    /// Whether the next attempt, after so many that were refused, needs the container, whatever it is: as it lets in, or as
    /// the container's server has to be asked. Who tries passwords of a list needs it when one of them is right.
    pub(super) fn expects(&self, refused: u32) -> bool {
        match self {
            Policy::Container | Policy::Any => true,
            Policy::After(tries) => refused >= *tries,
            Policy::List(_) | Policy::Never => false,
        }
    }

    /// Whether a public key does.
    pub(super) fn public_key(&self) -> bool {
        matches!(self, Policy::Any)
    }
}

/// How the middle logs into the container, where it is not the attacker's own credential that opens it.
#[derive(Clone)]
pub struct Login {
    /// As whom.
    pub user: String,
    /// By which password.
    pub password: String,
    /// Whether the host's server has refused it, most likely as an intruder has changed the password. All connections to the
    /// host share this: from then on its server is asked before anybody is answered, as on any machine.
    pub refused: Arc<AtomicBool>,
}

impl Login {
    /// One that was never refused.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Login {
        Login { user: user.into(), password: password.into(), refused: Arc::default() }
    }

    /// Whether it was refused when it was tried last.
    pub(super) fn is_doubted(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// It was tried.
    pub(super) fn tried(&self, is_refused: bool) {
        self.refused.store(is_refused, Ordering::Relaxed);
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_lets_in_whom_it_says() {
        let list = Policy::List(vec![("root".into(), "toor".into()), ("pi".into(), "raspberry".into())]);
        for (policy, refused, user, password, expected) in [
            (&list, 0, "root", "toor", Some(true)),
            (&list, 0, "root", "raspberry", Some(false)),
            (&list, 9, "root", "", Some(false)),
            (&Policy::Any, 0, "x", "", Some(true)),
            (&Policy::Never, 99, "root", "toor", Some(false)),
            (&Policy::After(2), 1, "root", "a", Some(false)),
            (&Policy::After(2), 2, "root", "a", Some(true)),
            (&Policy::Container, 0, "root", "a", None),
        ] {
            assert_eq!(policy.password(user, password, refused), expected, "{policy:?} {user}");
        }
        let expects = |policy: &Policy| [0, 1, 2].map(|refused| policy.expects(refused));
        assert_eq!(expects(&Policy::After(2)), [false, false, true]);
        assert_eq!([&Policy::Any, &Policy::Container].map(expects), [[true; 3]; 2]);
        assert_eq!([&list, &Policy::Never].map(expects), [[false; 3]; 2]);
        assert!(Policy::Any.public_key() && !Policy::After(0).public_key() && !Policy::Container.public_key());
    }
}
