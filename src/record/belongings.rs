//! The files that belong to a session: those in `STATE/NAME/sessions/ID`, whoever wrote them.
//!
//! The directory is the console's, and who lists it is root: a name is taken only if it can stand in a terminal and in
//! an archive as it is, and only for a regular file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::event::SessionId;

/// Below a honeynet's directory, where each session has a directory of its own.
pub const SESSIONS: &str = "sessions";
/// Files of one session.
const FILES: usize = 10_000;
/// Octets of a name.
const NAME: usize = 100;

/// A file that belongs to a session.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Belonging {
    /// Its name: letters, digits, `-`, `_` and `.`, not beginning with one of the last three.
    pub name: String,
    /// Its octets.
    pub octets: u64,
    /// Where it is.
    #[serde(skip)]
    pub path: PathBuf,
}

/// The files of session `id` of the honeynet in `dir`, by name, and how many entries are none or are too many.
///
/// # Errors
/// If they cannot be listed. That there are none is no error.
pub fn belongings(dir: &Path, id: SessionId) -> io::Result<(Vec<Belonging>, u64)> {
    let entries = match fs::read_dir(dir.join(SESSIONS).join(id.to_string())) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let (mut files, mut others) = (Vec::new(), 0);
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().filter(|name| is_harmless(name));
        // Of the entry itself: a link is not followed.
        match (name, entry.metadata()) {
            (Some(name), Ok(about)) if about.is_file() && files.len() < FILES => {
                files.push(Belonging { name, octets: about.len(), path: entry.path() });
            }
            _ => others += 1,
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((files, others))
}

/// Whether a file may have that name.
pub(super) fn is_harmless(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=NAME).contains(&name.len()) && name.bytes().all(fine) && !name.starts_with(['.', '-', '_'])
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn only_harmless_names_of_regular_files_belong() {
        let state = tempfile::tempdir().unwrap();
        let id = SessionId(0xabc);
        assert_eq!(belongings(state.path(), id).unwrap(), (vec![], 0));
        let dir = state.path().join("sessions/0000000000000abc");
        fs::create_dir_all(dir.join("directory")).unwrap();
        let harmful: [&[u8]; 6] = [b"a\nb", b"\xff\xfe", b"\x1b[2J", b".hidden", b"-rf", b"a b"];
        for name in harmful.into_iter().chain([&b"2.cast"[..], b"1.cast"]) {
            fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/shadow", dir.join("shadow")).unwrap();
        let (files, others) = belongings(state.path(), id).unwrap();
        let names: Vec<(&str, u64)> = files.iter().map(|file| (file.name.as_str(), file.octets)).collect();
        assert_eq!(names, [("1.cast", 6), ("2.cast", 6)]);
        assert_eq!(others, harmful.len() as u64 + 2);
    }
}
