//! Which honeynet a command is about. All commands choose here, in one way:
//!
//! | said | chosen |
//! |---|---|
//! | `--name` | the one of that name |
//! | `--state-dir` | the one that lies there; of several the only one of them that runs |
//! | neither | the only one that runs; if none does, the only one that has left anything |

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::miette;

use super::client::{Client, ConnectError, check_name, run_dir};
use crate::control::place::{self, STATE_DIR};
use crate::record::escape;

/// How long a honeynet has to say where it lies. One that hangs is taken for the one that its name says it is.
const PATIENCE: Duration = Duration::from_secs(3);
/// Honeynets that an error names.
const NAMED: usize = 20;
/// Below a honeynet's directory, what each of them has; and what may be all that is there of one, for who asks for that.
const EVENTS: &str = "events";
const EVIDENCE: &str = "evidence";

const WHICH: &str = "say which with --name NAME, or set HONEYWEAVE_NAME";
const WHERE: &str = "--state-dir DIR, or HONEYWEAVE_STATE_DIR, says where honeynets lie";

/// Which honeynet a command is about.
#[derive(clap::Args, Clone, Debug)]
pub struct Target {
    /// Name of the honeynet, where there are several
    #[arg(long, env = "HONEYWEAVE_NAME")]
    pub name: Option<String>,
    /// Where state lies, in a directory for each name; the honeynet that is there is meant [default: /var/lib/honeyweave]
    #[arg(long, value_name = "DIR", env = "HONEYWEAVE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
}

/// A honeynet that has left something on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lying {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
}

impl Target {
    /// A connection to the honeynet that is meant, which has to run.
    ///
    /// # Errors
    /// If none is meant, or several, or it does not run.
    pub fn connect(&self) -> miette::Result<Client> {
        self.connect_in(&run_dir())
    }

    fn connect_in(&self, run: &Path) -> miette::Result<Client> {
        let Some((state, lying)) = self.lying(|lying| runs(run, lying))? else {
            return Ok(Client::connect(run, self.name.as_deref())?);
        };
        let mut client = Client::connect(run, Some(&lying.name)).map_err(|error| match error {
            ConnectError::NotRunning { .. } => not_running(&lying, &state),
            error => error.into(),
        })?;
        if is_elsewhere(&mut client, &lying.dir) { Err(not_running(&lying, &state)) } else { Ok(client) }
    }

    /// The name of the honeynet that is meant, which has to run: found by its lock, as its console may hang.
    ///
    /// # Errors
    /// As for [`Target::connect`].
    pub fn running(&self) -> miette::Result<String> {
        if let (Some(name), None) = (&self.name, &self.state_dir) {
            check_name(name)?;
            return Ok(name.clone());
        }
        let names = place::running().map_err(|error| {
            miette!(help = "run the command as root", "cannot look what runs in {}: {error}", place::RUN_DIR)
        })?;
        let run = run_dir();
        let is_running = |lying: &Lying| {
            names.contains(&lying.name)
                && !Client::connect(&run, Some(&lying.name))
                    .is_ok_and(|mut client| is_elsewhere(&mut client, &lying.dir))
        };
        match (self.lying(is_running)?, names.as_slice()) {
            (Some((_, lying)), _) if is_running(&lying) => Ok(lying.name),
            (Some((state, lying)), _) => Err(not_running(&lying, &state)),
            (None, [name]) => Ok(name.clone()),
            (None, []) => Err(miette!("no honeynet runs")),
            (None, names) => Err(miette!(help = WHICH, "several honeynets run: {}", names.join(", "))),
        }
    }

    /// The directory of the honeynet that is meant, whether it runs or has ended.
    ///
    /// # Errors
    /// If none is meant, or several, or it has left nothing.
    pub fn directory(&self) -> miette::Result<PathBuf> {
        self.directory_in(&run_dir(), Path::new(STATE_DIR))
    }

    fn directory_in(&self, run: &Path, default: &Path) -> miette::Result<PathBuf> {
        if let Some((_, lying)) = self.lying(|lying| runs(run, lying))? {
            return Ok(lying.dir);
        }
        match (Client::connect(run, self.name.as_deref()), &self.name) {
            (Ok(mut client), _) => client.dir(),
            // It may have left something.
            (Err(ConnectError::NotRunning { .. }), Some(name)) => existing(default, name, &[EVENTS]),
            (Err(ConnectError::NoneRuns(_)), None) => {
                let lying = only(lying_in(default, &[EVENTS])?, default, |_| false)?;
                lying.map(|lying| lying.dir).ok_or_else(|| {
                    miette!(
                        help = format!("`honeyweave up TOPOLOGY` starts one; {WHERE}"),
                        "no honeynet runs, and none has left anything in {}",
                        default.display()
                    )
                })
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// All that are meant by a command that tells of several: the one of that name, those that lie where state does, or
    /// whatever lies on this machine or runs on it.
    ///
    /// # Errors
    /// If the one of that name has left nothing, or they cannot be listed.
    pub fn all(&self) -> miette::Result<Vec<Lying>> {
        self.all_in(&run_dir(), Path::new(STATE_DIR))
    }

    fn all_in(&self, run: &Path, default: &Path) -> miette::Result<Vec<Lying>> {
        match (&self.name, &self.state_dir) {
            (Some(name), Some(state)) => {
                check_name(name)?;
                Ok(vec![Lying { name: name.clone(), dir: existing(state, name, &[EVENTS, EVIDENCE])? }])
            }
            (Some(name), None) => Ok(vec![Lying { name: name.clone(), dir: self.directory_in(run, default)? }]),
            (None, Some(state)) if !state.exists() => {
                Err(miette!(help = WHERE, "there is no directory {}", state.display()))
            }
            (None, Some(state)) => lying_in(state, &[EVENTS, EVIDENCE]),
            (None, None) => {
                let mut all = lying_in(default, &[EVENTS, EVIDENCE])?;
                for name in Client::live(run)? {
                    let dir = Client::connect(run, Some(&name))
                        .ok()
                        .and_then(|mut client| client.within(PATIENCE, Client::dir).ok());
                    // One that lies in the usual place is there already.
                    all.extend(
                        dir.filter(|dir| !all.iter().any(|one| is_same(&one.dir, dir))).map(|dir| Lying { name, dir }),
                    );
                }
                all.sort_by(|one, other| (&one.name, &one.dir).cmp(&(&other.name, &other.dir)));
                Ok(all)
            }
        }
    }

    /// The honeynet that lies where state does, if that is said: the one of that name, if there is one; and where that is.
    fn lying(&self, runs: impl Fn(&Lying) -> bool) -> miette::Result<Option<(PathBuf, Lying)>> {
        let Some(state) = &self.state_dir else { return Ok(None) };
        if let Some(name) = &self.name {
            check_name(name)?;
            let dir = existing(state, name, &[EVENTS])?;
            return Ok(Some((state.clone(), Lying { name: name.clone(), dir })));
        }
        match only(lying_in(state, &[EVENTS])?, state, runs)? {
            Some(lying) => Ok(Some((state.clone(), lying))),
            None => Err(miette!(
                help = format!("`honeyweave up TOPOLOGY --state-dir DIR` starts one there; {WHERE}"),
                "no honeynet has left anything in {}{}",
                state.display(),
                if state.exists() { "" } else { ": there is no such directory" }
            )),
        }
    }
}

/// The honeynets of which anything that one `has` is left in `state`, by name. That it is not there is no error.
fn lying_in(state: &Path, has: &[&str]) -> miette::Result<Vec<Lying>> {
    let is_honeynet = |dir: &Path| has.iter().any(|part| dir.join(part).is_dir());
    let unreadable = |error: io::Error| {
        let help = match error.kind() {
            io::ErrorKind::PermissionDenied => "what was recorded is for root's eyes: use sudo",
            _ => WHERE,
        };
        miette!(help = help, "cannot look for honeynets in {}: {error}", state.display())
    };
    let entries = match fs::read_dir(state) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        if let Ok(name) = entry.file_name().into_string()
            && is_honeynet(&entry.path())
        {
            found.push(Lying { name, dir: entry.path() });
        }
    }
    // Somebody may say the directory of a honeynet itself.
    if found.is_empty()
        && is_honeynet(state)
        && let Some(name) =
            fs::canonicalize(state).ok().as_deref().and_then(Path::file_name).and_then(|name| name.to_str())
    {
        found.push(Lying { name: name.to_owned(), dir: state.to_owned() });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// The only one of those that lie in `state`, or the only one of them that runs.
fn only(mut lying: Vec<Lying>, state: &Path, runs: impl Fn(&Lying) -> bool) -> miette::Result<Option<Lying>> {
    if lying.len() < 2 {
        return Ok(lying.pop());
    }
    let (mut running, ended): (Vec<Lying>, Vec<Lying>) = lying.into_iter().partition(runs);
    match (running.pop(), running.is_empty()) {
        (Some(one), true) => Ok(Some(one)),
        (last, _) => {
            let names = |all: &mut dyn Iterator<Item = &Lying>| {
                let mut names: Vec<String> = all.take(NAMED).map(|lying| escape(&lying.name).into_owned()).collect();
                names.extend((names.len() == NAMED).then(|| "...".to_owned()));
                names.join(", ")
            };
            let told = match last {
                Some(last) => format!("several honeynets that lie in {} run: {}", state.display(), {
                    running.push(last);
                    names(&mut running.iter())
                }),
                None => format!("several honeynets lie in {}: {}", state.display(), names(&mut ended.iter())),
            };
            Err(miette!(help = WHICH, "{told}"))
        }
    }
}

/// Whether that one runs, by its socket in `run`.
fn runs(run: &Path, lying: &Lying) -> bool {
    Client::connect(run, Some(&lying.name)).is_ok_and(|mut client| !is_elsewhere(&mut client, &lying.dir))
}

/// Whether what answers says that it lies elsewhere than in `dir`.
fn is_elsewhere(client: &mut Client, dir: &Path) -> bool {
    client.within(PATIENCE, Client::dir).is_ok_and(|other| !is_same(&other, dir))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino())).ok();
    one == other || place(one).is_some_and(|one| Some(one) == place(other))
}

fn not_running(lying: &Lying, state: &Path) -> miette::Report {
    miette!(
        help = "`honeyweave up TOPOLOGY` starts one; --name NAME says which, wherever it lies",
        "the honeynet `{}` in {} is not running",
        escape(&lying.name),
        state.display()
    )
}

fn existing(state: &Path, name: &str, has: &[&str]) -> miette::Result<PathBuf> {
    let dir = state.join(name);
    if has.iter().any(|part| dir.join(part).is_dir()) {
        return Ok(dir);
    }
    let lying = lying_in(state, has)?;
    let names: Vec<_> = lying.iter().take(NAMED).map(|lying| escape(&lying.name)).collect();
    let others = if names.is_empty() { String::new() } else { format!("; these have: {}", names.join(", ")) };
    Err(miette!(help = WHERE, "no honeynet has left anything in {}{others}", dir.display()))
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
