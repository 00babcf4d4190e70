//! Files below one directory, whatever names and links somebody else made there:
//! every path is resolved by the kernel with that directory as the root
//! (`openat2`, `RESOLVE_IN_ROOT`), and what a path names itself is never followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

/// Folders inside folders that are removed or copied.
pub const MAX_DEPTH: usize = 256;

/// A directory that is the root of everything done through it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// What a file has besides its content.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    /// Permissions with set-uid, set-gid and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last written, in seconds since 1970.
    pub mtime: i64,
    /// `security.capability` as it is on disk.
    pub capability: Option<Vec<u8>>,
}

/// `path` without slashes in front and dots in between; `None` if it leads out by `..`.
pub fn inside(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

impl Root {
    /// The directory `path`.
    ///
    /// # Errors
    /// If it is none.
    pub fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root { fd: rustix::fs::open(path, flags, Mode::empty())? })
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // Somebody renamed something above it meanwhile.
                Err(Errno::AGAIN) => continue,
                other => return other,
            }
        }
    }

    /// The folder `path`, made with those above it where they are missing (0755, owned by `uid` and `gid`).
    ///
    /// # Errors
    /// If something that is no folder stands in the way.
    pub fn folder(&self, path: &Path, uid: u32, gid: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match self.resolve(path, flags) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let mut way = PathBuf::new();
        let mut here = self.resolve(Path::new("."), flags)?;
        for name in path.components() {
            way.push(name);
            here = match self.resolve(&way, flags) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&here, name.as_os_str(), Mode::from_raw_mode(0o755))?;
                    let made = open_here(&here, name.as_os_str(), flags)?;
                    rustix::fs::fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
                    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
                    made
                }
                other => other?,
            };
        }
        Ok(here)
    }

    /// The folder that `path` lies in, and its name there.
    fn place<'p>(&self, path: &'p Path, owner: &Attributes) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        // Folders that nobody described belong to root, who is the first of the ids.
        let base = owner.uid - owner.uid % crate::container::ID_BASE;
        Ok((self.folder(parent, base, base)?, name))
    }

    /// Opens the file `path` for reading, links in it followed within the root.
    ///
    /// # Errors
    /// If it is not there or no regular file.
    pub fn read(&self, path: &Path) -> io::Result<File> {
        let file = self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(File::from(file)),
            _ => Err(Errno::INVAL.into()),
        }
    }

    /// Whether `path` leads to a file that somebody may execute.
    pub fn is_program(&self, path: &Path) -> bool {
        let stat = self.resolve(path, OFlags::PATH).and_then(rustix::fs::fstat);
        stat.is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o111 != 0
        })
    }

    /// What `path` itself is, if it is there.
    pub fn stat(&self, path: &Path) -> Option<Stat> {
        let fd = self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        rustix::fs::fstat(fd).ok()
    }

    /// Makes the folder `path`, or gives one that is there these attributes. Anything else of that name goes away.
    ///
    /// # Errors
    /// If the disk is full, or a folder on the way is something else.
    pub fn put_folder(&self, path: &Path, attributes: &Attributes) -> io::Result<()> {
        let made = if path.as_os_str().is_empty() {
            self.resolve(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY)?
        } else {
            let (parent, name) = self.place(path, attributes)?;
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                Err(Errno::EXIST) => {
                    if kind(&parent, name)? != FileType::Directory {
                        rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
                        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))?;
                    }
                }
                other => other?,
            }
            open_here(&parent, name, OFlags::RDONLY | OFlags::DIRECTORY)?
        };
        dress(&made, attributes)
    }

    /// Writes `content` into the new file `path`. Anything else of that name goes away.
    ///
    /// # Errors
    /// If the disk is full, `content` fails, or a folder on the way is something else.
    pub fn put_file(&self, path: &Path, attributes: &Attributes, content: &mut dyn io::Read) -> io::Result<u64> {
        let (parent, name) = self.place(path, attributes)?;
        clear(&parent, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?);
        let size = io::copy(content, &mut file)?;
        dress(&file, attributes)?;
        Ok(size)
    }

    /// Makes the symbolic link `path`. Anything else of that name goes away.
    ///
    /// # Errors
    /// If the disk is full, or a folder on the way is something else.
    pub fn put_link(&self, path: &Path, target: &OsStr, attributes: &Attributes) -> io::Result<()> {
        let (parent, name) = self.place(path, attributes)?;
        clear(&parent, name)?;
        rustix::fs::symlinkat(target, &parent, name)?;
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(rustix::fs::utimensat(&parent, name, &times(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Gives what is at `target` the second name `path`.
    ///
    /// # Errors
    /// If `target` is not there or a folder.
    pub fn put_second_name(&self, path: &Path, target: &Path, attributes: &Attributes) -> io::Result<()> {
        let (parent, name) = self.place(path, attributes)?;
        let target_name = target.file_name().ok_or(Errno::INVAL)?;
        let folder = target.parent().unwrap_or(Path::new(""));
        let folder = self.resolve(folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if kind(&folder, target_name)? == FileType::Directory {
            return Err(Errno::ISDIR.into());
        }
        if path == target {
            return Ok(());
        }
        clear(&parent, name)?;
        Ok(rustix::fs::linkat(&folder, target_name, &parent, name, AtFlags::empty())?)
    }

    /// Removes `path` with all below it; nothing happens if it is not there.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let Some(name) = path.file_name() else { return Ok(()) };
        let parent = path.parent().unwrap_or(Path::new(""));
        match self.resolve(parent, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(parent) => clear(&parent, name),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes all that is in the folder `path`; nothing happens if it is none.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn empty(&self, path: &Path) -> io::Result<()> {
        match self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            Ok(folder) => names(&folder)?.iter().try_for_each(|name| remove_below(&folder, name, 0)),
            Err(_) => Ok(()),
        }
    }

    /// Sets when the folder or file `path` was last written.
    ///
    /// # Errors
    /// If it is not there.
    pub fn touch(&self, path: &Path, mtime: i64) -> io::Result<()> {
        let fd = self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW)?;
        Ok(rustix::fs::futimens(fd, &times(mtime))?)
    }
}

/// The names in `folder` but for `.` and `..`.
///
/// # Errors
/// If it cannot be read.
pub fn names(folder: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            found.push(name);
        }
    }
    Ok(found)
}

/// Opens `name` in `folder`, unless it is a symbolic link.
///
/// # Errors
/// `ELOOP` or `ENOTDIR` for a link.
pub fn open_here(folder: impl AsFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn kind(folder: &OwnedFd, name: &OsStr) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode))
}

/// Sees to it that there is nothing named `name`.
fn clear(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    remove_below(folder, name, 0)
}

fn remove_below(folder: &OwnedFd, name: &OsStr, depth: usize) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    if depth >= MAX_DEPTH {
        return Err(Errno::NAMETOOLONG.into());
    }
    let inner = open_here(folder, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
    for name in names(&inner)? {
        remove_below(&inner, &name, depth + 1)?;
    }
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime.max(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Gives what was just made its owner, its mode and the rest: in this order, because each undoes what follows.
fn dress(file: impl AsFd, attributes: &Attributes) -> io::Result<()> {
    let file: BorrowedFd<'_> = file.as_fd();
    rustix::fs::fchown(file, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode & 0o7777))?;
    if let Some(capability) = &attributes.capability {
        rustix::fs::fsetxattr(file, "security.capability", capability, XattrFlags::empty())?;
    }
    Ok(rustix::fs::futimens(file, &times(attributes.mtime))?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn plain() -> Attributes {
        let me = rustix::process::geteuid().as_raw();
        Attributes { mode: 0o644, uid: me, gid: rustix::process::getegid().as_raw(), mtime: 7, capability: None }
    }

    #[test]
    fn links_lead_nowhere_outside() {
        let (outside, inner) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = Root::open(inner.path()).unwrap();
        symlink(outside.path(), inner.path().join("absolute")).unwrap();
        symlink("../../../../../../../..", inner.path().join("up")).unwrap();
        let name = outside.path().strip_prefix("/").unwrap();
        for path in [Path::new("absolute/x").to_owned(), Path::new("up").join(name).join("x")] {
            // The link's target is looked for inside, where it is not.
            let _ = root.put_file(&path, &plain(), &mut &b"x"[..]);
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{path:?}");
        }
        fs::write(outside.path().join("kept"), "1").unwrap();
        let _ = root.remove(Path::new("absolute/kept"));
        let _ = root.empty(Path::new("absolute"));
        assert!(root.read(Path::new("absolute/kept")).is_err());
        assert!(root.put_second_name(Path::new("stolen"), Path::new("absolute/kept"), &plain()).is_err());
        assert_eq!(fs::read(outside.path().join("kept")).unwrap(), b"1");
        // A file takes the place of the link, not of what it leads to.
        symlink(outside.path().join("kept"), inner.path().join("file")).unwrap();
        root.put_file(Path::new("file"), &plain(), &mut &b"2"[..]).unwrap();
        assert_eq!(fs::read(outside.path().join("kept")).unwrap(), b"1");
        assert_eq!(fs::read(inner.path().join("file")).unwrap(), b"2");
    }

    #[test]
    fn links_are_followed_inside() {
        let inner = tempfile::tempdir().unwrap();
        let root = Root::open(inner.path()).unwrap();
        fs::create_dir_all(inner.path().join("run")).unwrap();
        fs::create_dir_all(inner.path().join("var")).unwrap();
        symlink("/run", inner.path().join("var/run")).unwrap();
        root.put_file(Path::new("var/run/a/b"), &plain(), &mut &b"1"[..]).unwrap();
        let meta = fs::metadata(inner.path().join("run/a/b")).unwrap();
        assert_eq!((meta.mode() & 0o777, meta.mtime()), (0o644, 7));
        root.put_folder(Path::new("var/run"), &Attributes { mode: 0o755, ..plain() }).unwrap();
        assert!(fs::symlink_metadata(inner.path().join("var/run")).unwrap().is_dir());
        root.remove(Path::new("run")).unwrap();
        assert!(!inner.path().join("run").exists());
    }

    #[test]
    fn names_that_lead_out_are_none() {
        for (path, plain) in [("a/b", Some("a/b")), ("/./a//b/", Some("a/b")), ("a/../../b", None), ("..", None)] {
            assert_eq!(inside(Path::new(path)).as_deref(), plain.map(Path::new), "{path}");
        }
    }
}
