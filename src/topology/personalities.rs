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
        Personalities {
            path,
            #[cfg(feature = "nmap-db")]
            db: None,
        }
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
            let near = did_you_mean(name, built_in()).map(|near| format!("did you mean `{near}`?"));
            let db = match (self.database(), &near) {
                (Ok(db), _) => db,
                (Err(_), Some(near)) => return Err(Unknown { why: None, help: near.clone() }),
                (Err(why), None) => return Err(Unknown { why: Some(why), help: suggest(name, built_in()) }),
            };
            if let Some(choice) = choose(db, name) {
                return Ok(Interned::new(choice.personality));
            }
            if let Some(near) = near {
                return Err(Unknown { why: None, help: near });
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
        let meta = std::fs::metadata(path).map_err(|error| fail(&error))?;
        // A device may never end.
        if !meta.is_file() {
            return Err(fail(&"it is no regular file"));
        }
        if meta.len() > MOST {
            return Err(fail(&format_args!("{} octets are too many for one", meta.len())));
        }
        let text = std::fs::read(path).map_err(|error| fail(&error))?;
        Db::parse(&text).map_err(|error| fail(&error))
    }
}

#[cfg(feature = "nmap-db")]
pub use database::choose;

#[cfg(all(test, feature = "nmap-db"))]
mod tests {
    use std::path::Path;

    use super::*;

    /// A database with one system, which nobody has.
    const ONE: &str = "\
MatchPoints
SEQ(SP=25%GCD=75%ISR=25%TI=100%CI=50%II=100%SS=80%TS=100)
OPS(O1=20%O2=20%O3=20%O4=20%O5=20%O6=20)
WIN(W1=15%W2=15%W3=15%W4=15%W5=15%W6=15)
ECN(R=100%DF=20%T=15%TG=15%W=15%O=15%CC=100%Q=20)
T1(R=100%DF=20%T=15%TG=15%S=20%A=20%F=30%RD=20%Q=20)

Fingerprint windows-6 Toaster
Class Crumbs | embedded || specialized
T1(R=Y%DF=Y%T=3B-45%TG=40%S=O%A=S+%F=AS%RD=0%Q=)
";

    fn at(text: &[u8], find: impl FnOnce(&mut Personalities)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        find(&mut Personalities::new(Some(file.path().to_owned())));
    }

    fn help(found: Result<Interned, Unknown>) -> String {
        found.err().map(|unknown| unknown.help).unwrap_or_default()
    }

    #[test]
    fn names_of_the_database_come_before_guesses_at_built_in_ones() {
        at(ONE.as_bytes(), |personalities| {
            // Like a built-in name, and nevertheless meant as it stands.
            let found = personalities.find("windows-6 Toaster").ok().unwrap().get();
            assert_eq!(found.name, "windows-6 Toaster");
            assert!(found.fingerprint.is_some() && personalities.knows("windows-6 Toaster"));
            assert_eq!(personalities.find("linux").ok().unwrap(), Builtin::Linux.into());
            assert!(help(personalities.find("windws")).contains("`windows`"));
            assert!(help(personalities.find("toaster")).contains("`windows-6 Toaster`"));
            assert!(!personalities.knows("toaster"));
        });
    }

    #[test]
    fn a_database_that_is_none_is_told() {
        at(b"\xff\x00 nothing", |personalities| {
            let why = personalities.find("some host").err().unwrap().why.unwrap();
            assert!(why.contains("nmap's database") && why.contains("no record"), "{why}");
            assert!(help(personalities.find("windws")).contains("`windows`"));
        });
        let mut device = Personalities::new(Some(Path::new("/dev/zero").to_owned()));
        assert!(device.find("some host").err().unwrap().why.unwrap().contains("regular file"));
        let mut missing = Personalities::new(Some(Path::new("/nonexistent/os-db").to_owned()));
        assert!(missing.find("some host").err().unwrap().why.unwrap().contains("/nonexistent/os-db"));
        assert!(missing.find("windows").is_ok());
    }
}
