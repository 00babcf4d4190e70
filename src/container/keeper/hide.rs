//! What would tell an intruder that this is a container, or on which machine it
//! runs, covered by something credible. `docs/tells.md` lists every tell, hidden or not.
//!
//! Files are generated on the machine's side, in two small file systems in memory,
//! and put over those of the running container from outside. So all this may
//! happen as late as the host is known, and nothing of it is in the image.
//!
//! lxcfs, where it is installed, is not used: it shows the container's limits in place of a
//! machine's memory, does not hide the processors' name, and names itself in the table of mounts.

mod proc;
mod sys;

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use super::machine::{Here, Machine};
use crate::container::ID_BASE;
use crate::sys::mounts;

/// What the root file system is mounted from, as the table of mounts and `df` show it.
pub const ROOT_DEVICE: &str = "/dev/sda1";

/// The root partition begins where installers put it, and the rest is for others.
const FIRST_SECTOR: u64 = 2048;
/// Where the container's network interface is.
const NET_DEVICE: &str = "devices/pci0000:00/0000:03:00.0";
/// Octets that all files together may have.
const SIZE: &CStr = c"size=32m,mode=755";

/// The directory below a container's own in which its machine's files are.
pub fn dir_in(dir: &Path) -> PathBuf {
    dir.join("machine")
}

/// Covers what tells of this machine in the container whose init is `init` and whose directory is `dir`. This process,
/// which has one thread, stays in the container's mount namespace.
///
/// # Errors
/// If the container is gone, or the kernel is too old.
pub fn cover(init: i32, machine: &Machine, root_size: u64, dir: &Path) -> io::Result<()> {
    let dir = dir_in(dir);
    write(machine, &Here::look(), root_size, &dir)?;
    put_on(init, &dir)
}

/// Writes the files of `machine` into `dir`, which is made.
fn write(machine: &Machine, here: &Here, root_size: u64, dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    // The names are what a table of mounts shows.
    for (at, name) in parts(dir).into_iter().zip(["proc", "sysfs"]) {
        fs::create_dir(&at)?;
        mounts::mount(Path::new(name), &at, c"tmpfs", SIZE)?;
        // Not by options, which a table of mounts shows.
        own(&at, 0)?;
    }
    trees(machine, here, root_size).iter().zip(parts(dir)).try_for_each(|(tree, at)| tree.put(&at))
}

/// Writes over the files of [`write`] those of another machine, in place, so that a container that they cover shows
/// them at once. Both machines must be alike in whether their memory is told. What they have in common, which is
/// nearly all, is left as it is.
///
/// # Errors
/// If the kernel refuses.
pub fn write_over((old, new): (&Machine, &Machine), here: &Here, root_size: u64, dir: &Path) -> io::Result<()> {
    let trees = |machine| trees(machine, here, root_size);
    let changes = trees(old).into_iter().zip(trees(new));
    changes.zip(parts(dir)).try_for_each(|((old, new), at)| new.put_over(&old, &at))
}

/// The two file systems of the files in `dir`.
fn parts(dir: &Path) -> [PathBuf; 2] {
    ["proc", "sys"].map(|part| dir.join(part))
}

/// What is mounted for the machine of the container whose directory is `dir`.
pub fn mounts_in(dir: &Path) -> [PathBuf; 2] {
    parts(&dir_in(dir))
}

/// What is in the two file systems of a machine.
fn trees(machine: &Machine, here: &Here, root_size: u64) -> [Tree; 2] {
    let (mut proc, mut sys) = (Tree::default(), Tree::default());
    for (name, content) in proc::files(machine, here, root_size) {
        proc.file(name, content);
    }
    // Not empty where one looks, but of nobody's business.
    for dir in ["acpi", "scsi"] {
        proc.dir(dir);
    }
    sys::files(&mut sys, machine, root_size);
    [proc, sys]
}

/// Puts the files of [`write`] over those of the container whose init is `init`.
fn put_on(init: i32, dir: &Path) -> io::Result<()> {
    let mut covers = Vec::new();
    let mut pending = vec![PathBuf::new()];
    let proc = dir.join("proc");
    while let Some(below) = pending.pop() {
        for entry in fs::read_dir(proc.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            // A directory is covered whole if there is nothing in it, and otherwise file by file.
            match entry.file_type()?.is_dir() && fs::read_dir(entry.path())?.next().is_some() {
                true => pending.push(path),
                false => covers.push((Path::new("/proc").join(path), mounts::pick(&entry.path())?)),
            }
        }
    }
    let sys = mounts::pick(&dir.join("sys"))?;
    mounts::enter(init)?;
    // Interfaces come and go, so theirs is the one directory that stays what it is.
    let net = Path::new("/sys/devices/virtual/net");
    let nets = [mounts::pick(net)?, mounts::pick(net)?];
    mounts::put(&sys, Path::new("/sys"))?;
    mounts::put(&nets[0], net)?;
    mounts::put(&nets[1], &Path::new("/sys").join(NET_DEVICE).join("net"))?;
    for (path, tree) in &covers {
        match mounts::put(tree, path) {
            // This kernel does not have such a file, or it is of another shape.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EINVAL)) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Fills `dir` with the devices that every machine has: none but harmless ones, owned by the container's root.
///
/// # Errors
/// If the kernel refuses.
pub fn devices(dir: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

    fs::create_dir_all(dir)?;
    mounts::mount(Path::new("udev"), dir, c"tmpfs", c"size=64m,mode=755")?;
    own(dir, 0)?;
    const TTY: u32 = 5;
    let nodes = [
        ("null", (1, 3), 0o666, 0),
        ("zero", (1, 5), 0o666, 0),
        ("full", (1, 7), 0o666, 0),
        ("random", (1, 8), 0o666, 0),
        ("urandom", (1, 9), 0o666, 0),
        ("tty", (5, 0), 0o666, TTY),
        // The machine's own console is not for it, and a terminal of liblxc's shows in the table of mounts.
        ("console", (1, 3), 0o600, 0),
        ("kmsg", (1, 3), 0o644, 0),
    ];
    for (name, (major, minor), mode, group) in nodes {
        let path = dir.join(name);
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(mode), makedev(major, minor))?;
        own(&path, group)?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode))?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("core", "/proc/kcore"),
    ] {
        symlink(to, dir.join(name))?;
        own(&dir.join(name), 0)?;
    }
    for (name, mode) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o755), ("hugepages", 0o755)] {
        let path = dir.join(name);
        fs::create_dir(&path)?;
        own(&path, 0)?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode))?;
    }
    Ok(())
}

fn own(path: &Path, group: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(ID_BASE), Some(ID_BASE + group))
}

/// What is in a directory, by relative paths.
#[derive(Default)]
struct Tree {
    entries: BTreeMap<String, Entry>,
}

#[derive(PartialEq, Eq)]
enum Entry {
    Dir,
    File { content: String, mode: u32 },
    Link(String),
}

impl Tree {
    fn dir(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            self.entries.insert(path[..end].to_owned(), Entry::Dir);
        }
        self.entries.insert(path.to_owned(), Entry::Dir);
    }

    fn add(&mut self, path: &str, entry: Entry) {
        if let Some((dir, _)) = path.rsplit_once('/') {
            self.dir(dir);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    fn file(&mut self, path: &str, content: String) {
        self.add(path, Entry::File { content, mode: 0o444 });
    }

    fn file_of_mode(&mut self, path: &str, content: String, mode: u32) {
        self.add(path, Entry::File { content, mode });
    }

    fn link(&mut self, path: &str, to: &str) {
        self.add(path, Entry::Link(to.to_owned()));
    }

    /// Makes all of it in the empty directory `root`. A directory comes before what is in it.
    fn put(&self, root: &Path) -> io::Result<()> {
        self.entries.iter().try_for_each(|(path, entry)| entry.put(&root.join(path)))
    }

    /// Makes the directory `root`, in which `old` was put, what this says.
    fn put_over(&self, old: &Tree, root: &Path) -> io::Result<()> {
        // What is in a directory goes before it.
        for (path, entry) in old.entries.iter().rev().filter(|(path, _)| !self.entries.contains_key(*path)) {
            match entry {
                Entry::Dir => fs::remove_dir(root.join(path))?,
                _ => fs::remove_file(root.join(path))?,
            }
        }
        let changed = self.entries.iter().filter(|(path, entry)| old.entries.get(*path) != Some(*entry));
        changed.into_iter().try_for_each(|(path, entry)| entry.put(&root.join(path)))
    }
}

impl Entry {
    fn put(&self, path: &Path) -> io::Result<()> {
        match self {
            Entry::Dir => fs::DirBuilder::new().mode(0o755).create(path)?,
            Entry::Link(to) => symlink(to, path)?,
            Entry::File { content, mode } => {
                // In place, if it is there: whatever shows it goes on to show it.
                let mut file = fs::File::options().write(true).create(true).truncate(true).mode(*mode).open(path)?;
                io::Write::write_all(&mut file, content.as_bytes())?;
            }
        }
        own(path, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::keeper::host::{self, tests::config};
    use crate::container::keeper::machine::tests::here;
    use crate::emulate::Secret;
    use crate::node::NodeIdx;

    pub fn machine() -> Machine {
        let config = config();
        let host = host::find(&config, NodeIdx(1), "10.1.0.12".parse().unwrap()).unwrap();
        Machine::of(&host, Secret([1; 16]), &here())
    }

    #[test]
    fn its_files_are_the_containers_roots_and_vanish_with_its_directory() {
        use std::os::unix::fs::MetadataExt;
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("machine");
        write(&machine(), &here(), 1 << 30, &dir).unwrap();
        for path in ["proc/cpuinfo", "sys/class/dmi/id/sys_vendor", "sys/devices/system/cpu", "sys/block/sda/size"] {
            assert_eq!(fs::metadata(dir.join(path)).unwrap().uid(), ID_BASE, "{path}");
        }
        assert_eq!(fs::read_to_string(dir.join("sys/block/sda/device/type")).unwrap(), "0\n");
        let other = Machine { cpus: 1, vendor: "Other".into(), ..machine() };
        let cpuinfo = fs::File::open(dir.join("proc/cpuinfo")).unwrap();
        write_over((&machine(), &other), &here(), 1 << 30, &dir).unwrap();
        assert_eq!(std::io::read_to_string(cpuinfo).unwrap().matches("processor\t").count(), 1, "the same file");
        assert_eq!(fs::read_to_string(dir.join("sys/class/dmi/id/sys_vendor")).unwrap(), "Other\n");
        assert!(!dir.join("sys/devices/system/cpu/cpu1").exists());
        let afresh = state.path().join("afresh");
        write(&other, &here(), 1 << 30, &afresh).unwrap();
        let listing = |dir: &Path| {
            let find = ["find", ".", "-printf", "%p %l %m %U %G %y\n", "-type", "f", "-exec", "cat", "{}", ";"];
            let output = std::process::Command::new("env").arg("-C").arg(dir).args(find).output().unwrap();
            let mut lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert!(listing(&dir).len() > 100, "{:?}", listing(&dir));
        assert_eq!(listing(&dir), listing(&afresh), "whatever it was before");
        parts(&afresh).iter().for_each(|part| mounts::unmount(part).unwrap());
        devices(&dir.join("dev")).unwrap();
        let meta = fs::metadata(dir.join("dev/tty")).unwrap();
        assert_eq!((meta.mode() & 0o777, meta.uid(), meta.gid()), (0o666, ID_BASE, ID_BASE + 5));
        for mounted in ["proc", "sys", "dev"] {
            mounts::unmount(&dir.join(mounted)).unwrap();
            assert_eq!(fs::read_dir(dir.join(mounted)).unwrap().count(), 0);
        }
    }
}
