//! Talking to a running honeynet over its control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::{IntoDiagnostic, WrapErr, miette};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::control::place::is_name;
use crate::control::request::{Answer, Request, Status};
use crate::record::escape;

/// The directory of control sockets, unless `HONEYWEAVE_RUN_DIR` names another.
const RUN_DIR: &str = "/run/honeyweave";

/// Where control sockets lie.
pub fn run_dir() -> PathBuf {
    std::env::var_os("HONEYWEAVE_RUN_DIR").filter(|dir| !dir.is_empty()).map_or_else(|| RUN_DIR.into(), PathBuf::from)
}

/// Why there is nobody to talk to.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ConnectError {
    /// None runs.
    #[error("no honeynet is running on this machine (no live socket in {})", .0.display())]
    #[diagnostic(help("`honeyweave up TOPOLOGY` starts one"))]
    NoneRuns(PathBuf),
    /// That one does not run.
    #[error("no honeynet called `{name}` is running{}", running(.others))]
    #[diagnostic(help("its socket would be {}", .socket.display()))]
    NotRunning {
        /// The name asked for.
        name: String,
        /// Where it would be found.
        socket: PathBuf,
        /// What does run.
        others: Vec<String>,
    },
    /// Several run, and none was named.
    #[error("several honeynets are running: {}", .0.join(", "))]
    #[diagnostic(help("say which with --name NAME, or set HONEYWEAVE_NAME"))]
    Several(Vec<String>),
    /// The name cannot be one.
    #[error("`{0}` cannot be the name of a honeynet")]
    #[diagnostic(help(
        "a name is made of at most 64 letters, digits, `-`, `_` and `.`, and begins with none of the last three but `_`"
    ))]
    BadName(String),
    /// Not allowed.
    #[error("not allowed to talk to the honeynet: {} is its owner's alone", .0.display())]
    #[diagnostic(help("run the command as root, for example with sudo"))]
    Forbidden(PathBuf),
    /// Anything else.
    #[error("cannot connect to {}: {source}", .path.display())]
    Other {
        /// The socket or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn running(others: &[String]) -> String {
    if others.is_empty() { String::new() } else { format!("; these are: {}", others.join(", ")) }
}

/// A connection to a running honeynet.
pub struct Client {
    /// Its name.
    pub name: String,
    stream: BufReader<UnixStream>,
}

enum Try {
    Live(UnixStream),
    Dead,
}

fn attempt(path: &Path) -> Result<Try, ConnectError> {
    match UnixStream::connect(path) {
        Ok(stream) => Ok(Try::Live(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(Try::Dead),
            io::ErrorKind::PermissionDenied => Err(ConnectError::Forbidden(path.to_owned())),
            _ => Err(ConnectError::Other { path: path.to_owned(), source: error }),
        },
    }
}

/// Names that have a socket in `dir`, sorted.
fn names(dir: &Path) -> Result<Vec<String>, ConnectError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(ConnectError::Forbidden(dir.to_owned()));
        }
        Err(source) => return Err(ConnectError::Other { path: dir.to_owned(), source }),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".sock").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// That `name` can be one, and names nothing outside of a directory.
///
/// # Errors
/// If it cannot.
pub fn check_name(name: &str) -> Result<(), ConnectError> {
    if is_name(name) { Ok(()) } else { Err(ConnectError::BadName(escape(name).into_owned())) }
}

impl Client {
    /// Connects to the honeynet `name`, or to the only one that has a live socket in `dir`.
    ///
    /// # Errors
    /// If there is none, or more than one and no name.
    pub fn connect(dir: &Path, name: Option<&str>) -> Result<Client, ConnectError> {
        let client = |name: String, stream| Client { name, stream: BufReader::new(stream) };
        if let Some(name) = name {
            check_name(name)?;
            let socket = dir.join(format!("{name}.sock"));
            return match attempt(&socket)? {
                Try::Live(stream) => Ok(client(name.to_owned(), stream)),
                Try::Dead => {
                    let others = Client::live(dir).unwrap_or_default();
                    Err(ConnectError::NotRunning { name: name.to_owned(), socket, others })
                }
            };
        }
        let mut live = Vec::new();
        let mut refused = None;
        for name in names(dir)? {
            match attempt(&dir.join(format!("{name}.sock"))) {
                Ok(Try::Live(stream)) => live.push((name, stream)),
                Ok(Try::Dead) => {}
                Err(error) => refused = Some(error),
            }
        }
        match (live.len(), refused) {
            (1, _) => {
                live.pop().map(|(name, stream)| client(name, stream)).ok_or(ConnectError::NoneRuns(dir.to_owned()))
            }
            (0, Some(error)) => Err(error),
            (0, None) => Err(ConnectError::NoneRuns(dir.to_owned())),
            _ => Err(ConnectError::Several(live.into_iter().map(|(name, _)| name).collect())),
        }
    }

    /// How it is doing, and where it lies.
    ///
    /// # Errors
    /// As for [`Client::ask`].
    pub fn status(&mut self) -> miette::Result<Status> {
        self.ask(&Request::Status)
    }

    /// Where it keeps what it writes.
    ///
    /// # Errors
    /// As for [`Client::ask`].
    pub fn dir(&mut self) -> miette::Result<PathBuf> {
        #[derive(Deserialize)]
        struct Place {
            dir: PathBuf,
        }
        self.ask::<Place>(&Request::Status).map(|place| place.dir)
    }

    /// Does `what`, for which each answer has so long to come.
    pub fn within<T>(
        &mut self,
        patience: Duration,
        what: impl FnOnce(&mut Client) -> miette::Result<T>,
    ) -> miette::Result<T> {
        self.stream.get_ref().set_read_timeout(Some(patience)).into_diagnostic()?;
        let done = what(self);
        self.stream.get_ref().set_read_timeout(None).into_diagnostic()?;
        done
    }

    /// Names of those that have a live socket in `dir`, sorted.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub fn live(dir: &Path) -> Result<Vec<String>, ConnectError> {
        let is_live = |name: &String| matches!(attempt(&dir.join(format!("{name}.sock"))), Ok(Try::Live(_)));
        Ok(names(dir)?.into_iter().filter(is_live).collect())
    }

    /// Sends a request.
    ///
    /// # Errors
    /// If the honeynet went away.
    pub fn send(&mut self, request: &Request) -> miette::Result<()> {
        let mut text = serde_json::to_string(request).into_diagnostic()?;
        text.push('\n');
        self.stream
            .get_mut()
            .write_all(text.as_bytes())
            .into_diagnostic()
            .wrap_err_with(|| format!("the honeynet `{}` went away", self.name))
    }

    /// The next line of the answer; `None` if the honeynet went away.
    ///
    /// # Errors
    /// If what came is no answer.
    pub fn next(&mut self) -> miette::Result<Option<Answer>> {
        let mut text = Vec::new();
        match self.stream.read_until(b'\n', &mut text) {
            Ok(_) if text.last() != Some(&b'\n') => Ok(None),
            Ok(_) => serde_json::from_slice(&text).map(Some).into_diagnostic().wrap_err_with(|| {
                format!("the honeynet `{}` answered what this version does not understand", self.name)
            }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error).into_diagnostic(),
        }
    }

    /// Asks and takes the answer.
    ///
    /// # Errors
    /// What the honeynet says, or that it went away.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> miette::Result<T> {
        self.send(request)?;
        match self.next()? {
            Some(Answer::Ok(value)) => serde_json::from_value(value)
                .into_diagnostic()
                .wrap_err("another version of honeyweave runs than the one that asks"),
            Some(Answer::Error(why)) => Err(miette!("{}", escape(&why))),
            Some(other) => Err(miette!("the honeynet `{}` answered something else: {other:?}", self.name)),
            None => Err(miette!("the honeynet `{}` went away before it answered", self.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn error(dir: &Path, name: Option<&str>) -> String {
        Client::connect(dir, name).map(|client| client.name).unwrap_err().to_string()
    }

    #[test]
    fn finds_the_one_that_runs() {
        let dir = tempfile::tempdir().unwrap();
        assert!(error(&dir.path().join("none"), None).starts_with("no honeynet is running"));
        assert!(error(dir.path(), None).starts_with("no honeynet is running"));
        // A socket that was left behind is none.
        drop(UnixListener::bind(dir.path().join("stale.sock")).unwrap());
        assert!(error(dir.path(), None).starts_with("no honeynet is running"));
        let _office = UnixListener::bind(dir.path().join("office.sock")).unwrap();
        assert_eq!(Client::connect(dir.path(), None).unwrap().name, "office");
        assert_eq!(error(dir.path(), Some("stale")), "no honeynet called `stale` is running; these are: office");
        let _plant = UnixListener::bind(dir.path().join("plant.sock")).unwrap();
        assert_eq!(error(dir.path(), None), "several honeynets are running: office, plant");
        assert_eq!(Client::connect(dir.path(), Some("plant")).unwrap().name, "plant");
        for bad in ["", "../x", "a/b", ".", "\u{1b}[2J"] {
            assert!(error(dir.path(), Some(bad)).ends_with("cannot be the name of a honeynet"), "{bad}");
            assert!(!error(dir.path(), Some(bad)).contains('\u{1b}'));
        }
    }

    #[test]
    fn an_answer_is_taken_or_the_reason_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("x.sock")).unwrap();
        let answers = ["{\"ok\":[1,2]}\n", "{\"error\":\"no \\u001b\"}\n", "nonsense\n", "{\"ok\":", ""];
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            for answer in answers {
                let mut request = String::new();
                reader.read_line(&mut request).unwrap();
                assert_eq!(request, "{\"request\":\"hosts\",\"limit\":3}\n");
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
                if !answer.ends_with('\n') {
                    return;
                }
            }
        });
        let mut client = Client::connect(dir.path(), None).unwrap();
        let request = Request::Hosts { limit: 3 };
        assert_eq!(client.ask::<Vec<u8>>(&request).unwrap(), [1, 2]);
        assert_eq!(client.ask::<Vec<u8>>(&request).unwrap_err().to_string(), "no \\u{1b}");
        assert!(client.ask::<Vec<u8>>(&request).unwrap_err().to_string().contains("does not understand"));
        assert!(client.ask::<Vec<u8>>(&request).unwrap_err().to_string().contains("went away"));
        server.join().unwrap();
    }
}
