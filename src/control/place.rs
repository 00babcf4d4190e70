//! Where a honeynet lives on the machine: its directory, its lock, its socket
//! and its secret.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::config::CONSOLE_UID;
use crate::emulate::Secret;
use crate::record::SESSIONS;
use crate::record::bundle::KEY;
use crate::record::sink::SINKS;

/// Where state lies unless the command line says otherwise.
pub const STATE_DIR: &str = "/var/lib/honeyweave";
/// Where sockets and locks lie.
pub const RUN_DIR: &str = "/run/honeyweave";

/// The control socket of honeynet `name`.
pub fn socket_path(name: &str) -> PathBuf {
    Path::new(RUN_DIR).join(format!("{name}.sock"))
}

fn lock_path(name: &str) -> PathBuf {
    Path::new(RUN_DIR).join(format!("{name}.lock"))
}

/// Whether `name` can name a honeynet, and with it files, a cgroup and devices.
pub fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with(['.', '-'])
}

/// The right to run a honeynet of some name on this machine; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    name: String,
}

impl Lock {
    /// Takes the name.
    ///
    /// # Errors
    /// `AlreadyExists` if a honeynet of that name runs; its process is in the message.
    pub fn take(name: &str) -> io::Result<Lock> {
        DirBuilder::new().recursive(true).mode(0o755).create(RUN_DIR)?;
        let mut tries = 0;
        let mut file = loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(lock_path(name))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Whoever had it before has removed the file meanwhile: then this lock is nobody's.
                Ok(()) if is_at(&file, &lock_path(name)) => break file,
                Ok(()) => continue,
                // Whoever only looks (`status`, `down`) holds the lock for a moment.
                Err(rustix::io::Errno::WOULDBLOCK) if tries < 5 => {
                    tries += 1;
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let holder = holder(&mut file).map_or(String::new(), |pid| format!(" (process {pid})"));
                    return Err(io::Error::new(
                        ErrorKind::AlreadyExists,
                        format!("a honeynet named `{name}` runs already{holder}"),
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        };
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Lock { file, name: name.to_owned() })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while they are ours. Who waits for the lock has the file open.
        let _ = std::fs::remove_file(socket_path(&self.name));
        let _ = std::fs::remove_file(lock_path(&self.name));
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Whether `file` is what `path` names.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().and_then(|ours| Ok(same(ours, std::fs::metadata(path)?))).unwrap_or(false)
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    (&*file).take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// A honeynet that someone runs.
#[derive(Debug)]
pub struct Live {
    file: File,
    /// Its supervisor.
    pub pid: Option<u32>,
}

impl Live {
    /// Finds the honeynet `name`; `None` if it does not run.
    ///
    /// # Errors
    /// If the lock exists but cannot be looked at.
    pub fn find(name: &str) -> io::Result<Option<Live>> {
        let mut file = match OpenOptions::new().read(true).write(true).open(lock_path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let pid = holder(&mut file);
        let live = Live { file, pid };
        Ok((!live.has_ended()?).then_some(live))
    }

    /// Whether it has ended since.
    ///
    /// # Errors
    /// If the lock cannot be looked at.
    pub fn has_ended(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                rustix::fs::flock(&self.file, FlockOperation::Unlock)?;
                Ok(true)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Names of the honeynets that run on this machine, sorted.
///
/// # Errors
/// If the run directory cannot be read.
pub fn running() -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(RUN_DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let file = entry?.file_name();
        if let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".lock"))
            && Live::find(name)?.is_some()
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// What whoever runs a honeynet holds a lock on in its directory. A copy of the directory has one of its own.
const LIVES: &str = "lock";

/// The right to run a honeynet in some directory; given back when dropped, or when the process ends.
#[derive(Debug)]
pub struct Home {
    _file: File,
}

impl Home {
    /// Moves into `dir`, which there is.
    ///
    /// # Errors
    /// `AlreadyExists` if a honeynet runs there; what the file system says otherwise, with the path.
    pub fn take(dir: &Path) -> io::Result<Home> {
        let path = dir.join(LIVES);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|error| at(&path, &error))?;
        let mut tries = 0;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Home { _file: file }),
                // Whoever only looks holds it for a moment.
                Err(rustix::io::Errno::WOULDBLOCK) if tries < 5 => {
                    tries += 1;
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let why = format!("a honeynet runs in {} already, by another name", dir.display());
                    return Err(io::Error::new(ErrorKind::AlreadyExists, why));
                }
                Err(error) => return Err(at(&path, &error.into())),
            }
        }
    }
}

/// Whether the honeynet that lies in `dir` runs: by what its supervisor holds there, wherever `dir` is and whatever it is called.
///
/// # Errors
/// If that cannot be looked at.
pub fn is_lived_in(dir: &Path) -> io::Result<bool> {
    let file = match File::open(dir.join(LIVES)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Makes the honeynet's directory with those of the console in it.
///
/// # Errors
/// What the file system says, with the path.
pub fn make_dirs(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|e| at(dir, &e))?;
    for (name, mode) in [("events", 0o750), ("captures", 0o750), (SESSIONS, 0o750), (SINKS, 0o750), (KEY, 0o700)] {
        let path = dir.join(name);
        DirBuilder::new().recursive(true).mode(mode).create(&path).map_err(|e| at(&path, &e))?;
        std::os::unix::fs::chown(&path, Some(CONSOLE_UID), Some(CONSOLE_UID)).map_err(|e| at(&path, &e))?;
    }
    Ok(())
}

/// The installation's secret in `dir`: made at the first start, kept ever since.
///
/// # Errors
/// What the file system says, with the path; `InvalidData` for a file that is no secret.
pub fn secret(dir: &Path) -> io::Result<Secret> {
    let path = dir.join("secret");
    match std::fs::read(&path) {
        Ok(bytes) => {
            let secret = bytes.try_into().map_err(|bytes: Vec<u8>| {
                let why = format!("{} octets instead of 16; remove it to get new hosts", bytes.len());
                at(&path, &io::Error::new(ErrorKind::InvalidData, why))
            })?;
            return Ok(Secret(secret));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(at(&path, &error)),
    }
    let mut secret = [0; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut secret))?;
    // Renamed into place: a start that is interrupted, or a loss of power, leaves no half of a secret.
    let half = dir.join("secret.new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&secret)?;
        file.sync_all()?;
        std::fs::rename(&half, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| at(&path, &e))?;
    Ok(Secret(secret))
}

/// Listens on the control socket, for root only. The lock is held, so whatever lies there is dead.
///
/// # Errors
/// What the file system says, with the path.
pub fn listen(name: &str) -> io::Result<OwnedFd> {
    let path = socket_path(name);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(|e| at(&path, &e))?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(|e| at(&path, &e))?;
    Ok(listener.into())
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless() {
        for good in ["office", "a.b-c_1", "X"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = secret(dir.path()).unwrap();
        assert_ne!(first.0, [0; 16]);
        assert_eq!(secret(dir.path()).unwrap().0, first.0);
        let file = dir.path().join("secret");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        for len in (0..16).chain([17]) {
            std::fs::write(&file, vec![7; len]).unwrap();
            let error = secret(dir.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{len} octets");
            assert!(error.to_string().contains("remove it to get new hosts"), "{error}");
        }
        // Half of one that was being made is no secret, and in nobody's way.
        std::fs::rename(&file, dir.path().join("secret.new")).unwrap();
        assert_ne!(secret(dir.path()).unwrap().0, first.0);
        assert!(!dir.path().join("secret.new").exists());
    }

    #[test]
    fn a_directory_says_whether_somebody_runs_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let (home, copy, link) = (dir.path().join("home"), dir.path().join("copy"), dir.path().join("link"));
        std::fs::create_dir(&home).unwrap();
        std::fs::create_dir(&copy).unwrap();
        std::os::unix::fs::symlink(&home, &link).unwrap();
        assert!(!is_lived_in(&home).unwrap());
        let lives = Home::take(&home).unwrap();
        std::fs::copy(home.join(LIVES), copy.join(LIVES)).unwrap();
        assert!(is_lived_in(&home).unwrap() && is_lived_in(&link).unwrap() && is_lived_in(&home.join(".")).unwrap());
        assert!(!is_lived_in(&copy).unwrap());
        let error = Home::take(&link).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().ends_with("already, by another name"), "{error}");
        drop(lives);
        assert!(!is_lived_in(&home).unwrap());
        drop(Home::take(&link).unwrap());
        // What is left of one whose process was killed is no sign of life.
        assert_eq!(std::fs::metadata(home.join(LIVES)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_name_is_taken_once() {
        let name = format!("hwt-{}", std::process::id());
        assert!(Live::find(&name).unwrap().is_none());
        let lock = Lock::take(&name).unwrap();
        let error = Lock::take(&name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains(&std::process::id().to_string()));
        let live = Live::find(&name).unwrap().unwrap();
        assert_eq!((live.pid, live.has_ended().unwrap()), (Some(std::process::id()), false));
        drop(lock);
        assert!(live.has_ended().unwrap());
        assert!(!lock_path(&name).exists());
        drop(Lock::take(&name).unwrap());
    }
}
