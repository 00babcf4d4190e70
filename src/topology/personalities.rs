//! The personalities that a topology may name: those that are built in, and those
//! of the nmap-os-db that is installed on this machine.
//!
//! The database is nmap's and is never shipped; it is read when a topology names
//! something that is not built in, and what was found travels in the plan.

use std::path::PathBuf;

use crate::emulate::{Builtin, Interned};

/// Where nmap's packages put it.
pub const USUAL: [&str; 2] = ["/usr/share/nmap/nmap-os-db", "/usr/local/share/nmap/nmap-os-db"];

/// Why there is no personality of a name.
pub struct Unknown {
    /// What is wrong, where it is not the name.
    pub why: Option<String>,
    /// What to do.
    pub help: String,
}

/// The names of those that are built in.
pub fn built_in() -> impl Iterator<Item = &'static str> + Clone {
    Builtin::ALL.iter().map(|builtin| &*builtin.get().name)
}

/// The personalities, the database read when it is first needed.
#[derive(Default)]
pub struct Personalities {
    path: Option<PathBuf>,
    #[cfg(feature = "nmap-db")]
    db: Option<Result<crate::emulate::nmap::Db, String>>,
}

impl Personalities {
    /// Those of the database at `path`, or where nmap puts it.
    pub fn new(path: Option<PathBuf>) -> Personalities {
        Personalities { path, ..Personalities::default() }
    }

    /// The one whose name is `name`.
    ///
    /// # Errors
    /// Why there is none, and what to do.
    pub fn find(&mut self, name: &str) -> Result<Interned, Unknown> {
        match Builtin::by_name(name) {
            Some(builtin) => Ok(builtin.into()),
            None => self.look_up(name),
        }
    }

    /// Whether there is one of that name.
    pub fn knows(&mut self, name: &str) -> bool {
        Builtin::by_name(name).is_some() || self.is_in_database(name)
    }

    #[cfg(not(feature = "nmap-db"))]
    fn is_in_database(&self, _name: &str) -> bool {
        false
    }

    #[cfg(not(feature = "nmap-db"))]
    fn look_up(&mut self, name: &str) -> Result<Interned, Unknown> {
        let _ = &self.path;
        let help = super::error::suggest(name, built_in());
        Err(Unknown { why: None, help: format!("{help}; the feature `nmap-db` adds those of nmap's database") })
    }
}

#[cfg(feature = "nmap-db")]
mod database {
    use std::path::Path;

    use super::{Personalities, USUAL, Unknown, built_in};
    use crate::emulate::Interned;
    use crate::emulate::nmap::{Choice, Db, personality};
    use crate::topology::error::{did_you_mean, suggest};

    /// More octets than that are no database of nmap's.
    const MOST: u64 = 64 << 20;
    /// Names that are suggested.
    const SUGGESTED: usize = 5;

    impl Personalities {
        /// The database.
        ///
        /// # Errors
        /// Why it cannot be used, and what to do.
        pub fn database(&mut self) -> Result<&Db, String> {
            let path = &self.path;
            let read = || match path {
                Some(path) => read(path),
                None => match USUAL.iter().map(Path::new).find(|path| path.exists()) {
                    Some(path) => read(path),
                    None => Err("nmap's database is not on this machine: install nmap (Debian's package \
                                 `nmap-common`), or name the file with `--os-db` or HONEYWEAVE_OS_DB"
                        .to_owned()),
                },
            };
            self.db.get_or_insert_with(read).as_ref().map_err(Clone::clone)
        }

        pub(super) fn is_in_database(&mut self, name: &str) -> bool {
            self.database().is_ok_and(|db| db.find(name).next().is_some())
        }

        pub(super) fn look_up(&mut self, name: &str) -> Result<Interned, Unknown> {
            if let Some(near) = did_you_mean(name, built_in()) {
                return Err(Unknown { why: None, help: format!("did you mean `{near}`?") });
            }
            let db = self.database().map_err(|why| Unknown { why: Some(why), help: suggest(name, built_in()) })?;
            if let Some(choice) = choose(db, name) {
                return Ok(Interned::new(choice.personality));
            }
            let found = db.search(name).into_iter().take(SUGGESTED).map(|(_, name)| format!("`{name}`"));
            let found = found.collect::<Vec<_>>().join(", ");
            let help = match &*found {
                "" => "`honeyweave personality search WORDS` finds the names of nmap's database".to_owned(),
                names => format!("did you mean one of {names}?"),
            };
            Err(Unknown { why: None, help })
        }
    }

    /// What stands for `name` in `db`. The same in every process and at every start.
    pub fn choose(db: &Db, name: &str) -> Option<Choice> {
        personality(db, name, 1).ok()
    }

    fn read(path: &Path) -> Result<Db, String> {
        let fail = |why: &dyn std::fmt::Display| format!("nmap's database {}: {why}", path.display());
        let length = std::fs::metadata(path).map_err(|error| fail(&error))?.len();
        if length > MOST {
            return Err(fail(&format_args!("{length} octets are too many for one")));
        }
        let text = std::fs::read(path).map_err(|error| fail(&error))?;
        Db::parse(&text).map_err(|error| fail(&error))
    }
}

#[cfg(feature = "nmap-db")]
pub use database::choose;
