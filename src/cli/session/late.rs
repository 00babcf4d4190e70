//! A file that gets its name when all of it is there: whatever ends who writes it, there is no half of it by that name.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

/// Such a file, for its owner alone.
pub struct Late {
    file: File,
    path: PathBuf,
    /// What it is called meanwhile where the file system knows no file without a name.
    meanwhile: Option<PathBuf>,
}

impl Late {
    /// One that will be at `path`.
    ///
    /// # Errors
    /// That there is something already, or what the system says.
    pub fn create(path: &Path) -> io::Result<Late> {
        if path.symlink_metadata().is_ok() {
            return Err(Errno::EXIST.into());
        }
        let dir = directory(path);
        let nameless = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(dir);
        match nameless {
            Ok(file) => Ok(Late { file, path: path.to_owned(), meanwhile: None }),
            // One that does not know the flag opens the directory, or tries to.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)) => {
                Late::named(path)
            }
            Err(error) => Err(error),
        }
    }

    fn named(path: &Path) -> io::Result<Late> {
        let meanwhile = directory(path).join(format!(".honeyweave-export-{}-late", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&meanwhile)?;
        Ok(Late { file, path: path.to_owned(), meanwhile: Some(meanwhile) })
    }

    /// What is written to.
    ///
    /// # Errors
    /// What the system says.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// It is whole: it lies on the disk, and has its name.
    ///
    /// # Errors
    /// That somebody else has taken the name, or what the system says.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let Some(meanwhile) = &self.meanwhile else {
            let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            return Ok(rustix::fs::linkat(CWD, open, CWD, &self.path, AtFlags::SYMLINK_FOLLOW)?);
        };
        match rustix::fs::renameat_with(CWD, meanwhile, CWD, &self.path, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) if self.path.symlink_metadata().is_err() => {
                fs::rename(meanwhile, &self.path)?;
            }
            renamed => renamed?,
        }
        self.meanwhile = None;
        Ok(())
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        if let Some(meanwhile) = &self.meanwhile {
            // Half of it is nothing.
            let _ = fs::remove_file(meanwhile);
        }
    }
}

/// The directory that the file at `path` is in.
pub fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_has_its_name_when_it_is_whole() {
        for create in [Late::create, Late::named] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("bundle");
            let late = create(&path).unwrap();
            late.file().unwrap().write_all(b"half").unwrap();
            assert!(!path.exists());
            drop(late);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left of half a file");
            let late = create(&path).unwrap();
            late.file().unwrap().write_all(b"whole").unwrap();
            late.finish().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"whole");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
            // What somebody else puts there meanwhile stays.
            assert_eq!(Late::create(&path).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
            fs::remove_file(&path).unwrap();
            let late = create(&path).unwrap();
            fs::write(&path, b"other").unwrap();
            assert_eq!(late.finish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&path).unwrap(), b"other");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        assert!(Late::create(Path::new("/nowhere/at/all")).is_err());
    }
}
