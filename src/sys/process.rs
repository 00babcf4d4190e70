//! What the kernel says of a process that is somebody else's, which everybody may read.

use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};

/// Octets of arguments that are read.
const ARGUMENTS: usize = 1024;
/// Octets of `status` that are read: all but what comes after many thousand groups.
const STATUS: usize = 32 << 10;

/// A process. All of it but the numbers is its own choice.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Process {
    /// Its name, at most 15 octets, as the kernel escapes it.
    pub name: Vec<u8>,
    /// Its user, as the machine has it.
    pub uid: u32,
    /// Its number in the innermost namespace that it is in; 0 if that cannot be known.
    pub pid: u32,
    /// The same of its parent; 0 if that is in another one.
    pub parent: u32,
    /// Its arguments, each with a zero octet behind it.
    pub arguments: Vec<u8>,
    /// Whether there are more of them.
    pub is_cut: bool,
}

impl Process {
    /// Looks at the process with this number; `None` if it is over.
    pub fn look(number: u32) -> Option<Process> {
        // However the number is used anew, this remains the one process.
        let directory = directory(number)?;
        let status = Status::parse(&read(&directory, "status", STATUS)?)?;
        let mut arguments = read(&directory, "cmdline", ARGUMENTS + 1)?;
        let is_cut = arguments.len() > ARGUMENTS;
        arguments.truncate(ARGUMENTS);
        let (pid, depth) = (status.numbers.last().copied().unwrap_or(0), status.numbers.len());
        let above = directory_of(status.parent).and_then(|directory| read(&directory, "status", STATUS));
        let above = above.and_then(|text| Status::parse(&text)).filter(|above| above.numbers.len() == depth);
        let parent = above.and_then(|above| above.numbers.last().copied()).unwrap_or(0);
        Some(Process { name: status.name, uid: status.uid, pid, parent, arguments, is_cut })
    }
}

fn directory_of(number: u32) -> Option<OwnedFd> {
    (number != 0).then(|| directory(number))?
}

fn directory(number: u32) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, format!("/proc/{number}"), flags, Mode::empty()).ok()
}

fn read(directory: &OwnedFd, name: &str, most: usize) -> Option<Vec<u8>> {
    let file = rustix::fs::openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = Vec::new();
    std::fs::File::from(file).take(most as u64).read_to_end(&mut text).ok()?;
    Some(text)
}

/// `/proc/PID/status`, as far as it is of interest.
struct Status {
    name: Vec<u8>,
    parent: u32,
    uid: u32,
    /// Its numbers, from the namespace of who reads inwards.
    numbers: Vec<u32>,
}

impl Status {
    fn parse(text: &[u8]) -> Option<Status> {
        let field = |name: &str| {
            let found = text.split(|octet| *octet == b'\n').find_map(|line| line.strip_prefix(name.as_bytes()));
            found.and_then(|rest| rest.strip_prefix(b":\t"))
        };
        let numbers = |name| {
            let words = std::str::from_utf8(field(name)?).ok()?.split_ascii_whitespace();
            Some(words.map_while(|word| word.parse().ok()).collect::<Vec<u32>>())
        };
        Some(Status {
            name: field("Name")?.to_vec(),
            parent: *numbers("PPid")?.first()?,
            uid: *numbers("Uid")?.first()?,
            numbers: numbers("NSpid").unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_looked_at_and_one_that_is_over_is_not() {
        let long = "y".repeat(2000);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "echo; read x", "sh", &long]);
        let mut child =
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        // Whoever speaks has its arguments; who was only begun may not have them yet.
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let seen = Process::look(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen.arguments.starts_with(b"sh\0-c\0echo; read x\0sh\0y") && seen.is_cut, "{seen:?}");
        assert_eq!((seen.uid, seen.parent), (rustix::process::getuid().as_raw(), std::process::id()));
        assert_eq!(Process::look(child.id()), None);
    }

    #[test]
    fn of_numbers_the_innermost_counts() {
        let text = b"Name:\ta\\nUid:\t7\nPPid:\t12\nUid:\t1000\t0\t0\t0\nNSpid:\t4000\t40\n";
        let status = Status::parse(text).unwrap();
        assert_eq!((status.parent, status.uid, status.numbers), (12, 1000, vec![4000, 40]));
        assert!(Status::parse(b"Name:\tx\nPPid:\n").is_none() && Status::parse(b"").is_none());
    }
}
