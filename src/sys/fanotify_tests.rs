//! Real files on a file system of their own, on this machine's kernel.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// A file system in memory.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Disk {
        let disk = Disk(tempfile::tempdir().unwrap());
        rustix::mount::mount("none", disk.0.path(), "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn watched(&self) -> (OwnedFd, u64) {
        let group = create().unwrap();
        let root = fs::File::open(self.0.path()).unwrap();
        mark(group.as_fd(), root.as_fd()).unwrap();
        (group, mount(root.as_fd()).unwrap())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

fn all(reader: &mut Reader) -> Vec<Seen> {
    let mut all = Vec::new();
    loop {
        let some = reader.read();
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

#[test]
fn what_is_executed_and_written_is_seen_and_nothing_elsewhere() {
    let disk = Disk::new();
    fs::copy("/bin/true", disk.path("worm")).unwrap();
    let (group, number) = disk.watched();
    let mut reader = Reader::new(group);
    let mut child = Command::new(disk.path("worm")).spawn().unwrap();
    child.wait().unwrap();
    Command::new("/bin/true").status().unwrap();
    fs::write(disk.path("a\nb"), "x").unwrap();
    fs::read(disk.path("a\nb")).unwrap();
    let seen = all(&mut reader);
    let worm = Seen {
        mount: number,
        process: child.id(),
        executed: true,
        written: false,
        path: disk.path("worm").into_os_string().into_vec(),
        is_cut: false,
        mode: fs::metadata(disk.path("worm")).unwrap().mode(),
    };
    let file = Seen {
        process: std::process::id(),
        executed: false,
        written: true,
        path: disk.path("a\nb").into_os_string().into_vec(),
        mode: fs::metadata(disk.path("a\nb")).unwrap().mode(),
        ..worm.clone()
    };
    assert_eq!(seen, [worm, file]);
    assert_eq!(reader.lost(), 0);
}

#[test]
fn mounts_of_a_process_are_found_and_those_that_keep_nothing_are_not() {
    let disk = Disk::new();
    let group = create().unwrap();
    let own = std::process::id() as i32;
    let marked = mark_all(group.as_fd(), own).unwrap();
    assert!(marked.len() <= MOUNTS && marked.contains(&mount(fs::File::open("/").unwrap().as_fd()).unwrap()));
    assert!(!marked.contains(&mount(fs::File::open("/proc").unwrap().as_fd()).unwrap()));
    drop(disk);
    let kept = |line| kept_below(line).map(Path::new);
    assert_eq!(kept("31 25 0:27 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw"), Some(Path::new("dev/shm")));
    assert_eq!(kept("31 25 0:27 / /sys ro - sysfs sysfs rw"), None);
    assert_eq!(kept("31 25 0:27 / / ro - overlay none rw"), None);
    assert_eq!(kept("31 25"), None);
}

#[test]
fn what_the_queue_cannot_hold_is_said_to_be_lost() {
    let disk = Disk::new();
    let (group, _) = disk.watched();
    let mut reader = Reader::new(group);
    let most: usize = fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap().trim().parse().unwrap();
    for number in 0..most + 100 {
        fs::write(disk.path(&number.to_string()), "").unwrap();
    }
    let seen = all(&mut reader);
    assert!(seen.len() <= most, "{} of {most}", seen.len());
    assert_eq!((reader.lost(), reader.lost()), (1, 0));
    // And it goes on.
    fs::write(disk.path("after"), "").unwrap();
    assert_eq!(all(&mut reader).len(), 1);
}

#[test]
fn what_is_no_event_is_none() {
    assert!(Raw::parse(&[]).is_none() && Raw::parse(&[0; EVENT]).is_none() && Raw::parse(&[255; EVENT - 1]).is_none());
}
