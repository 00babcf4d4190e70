//! One liblxc call in a process of its own: `honeyweave __lxc`, the request as
//! JSON on standard input, the answer as JSON on standard output.
//!
//! liblxc forks inside its caller, leaves signal masks and descriptors behind and
//! may block for seconds. A worker that hangs is killed at its deadline, and takes
//! nothing of the keeper's with it.

use std::io::{Read, Write};
use std::net::Ipv6Addr;
use std::path::PathBuf;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::keeper::Machine;
use crate::emulate::{RsaKey, RsaSeed};
use crate::sys::seqpacket::Channel;

/// What a worker is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Start a container and wait until its init runs.
    Start(Start),
    /// Look for the RSA key of a host, while nobody else wants the processor.
    Find(RsaSeed),
    /// Remove a directory with all that is in it, which may be much.
    Remove {
        /// Which.
        path: PathBuf,
    },
}

/// The link to an image's files in a container's directory.
pub const LOWER: &str = "lower";

/// A container to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Its name.
    pub name: String,
    /// The directory that its name is unique in; absolute.
    pub lxcpath: PathBuf,
    /// liblxc's configuration, in order.
    pub config: Vec<(String, String)>,
    /// Its first process.
    pub init: Vec<String>,
    /// Where liblxc writes what went wrong.
    pub log: PathBuf,
    /// Its own directory: [`LOWER`], `upper` and `work` make an overlay on `rootfs`.
    pub dir: PathBuf,
    /// The machine that it passes for.
    pub machine: Box<Machine>,
    /// Octets of its disk.
    pub disk: u64,
    /// The number of a process after which those of sessions begin.
    pub last_pid: u32,
    /// IPv6 addresses of `eth0`, which liblxc would leave tentative for a second.
    pub ipv6: Vec<(Ipv6Addr, u8)>,
    /// The IPv6 default gateway.
    pub ipv6_gateway: Option<Ipv6Addr>,
    /// Whether it has a `/dev/log`.
    pub logs: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    /// The container's init runs.
    Started {
        /// Its init.
        init: i32,
        /// The process of liblxc's that watches over it.
        monitor: i32,
    },
    /// It was removed.
    Removed,
    /// The key.
    Found(Box<RsaKey>),
    /// It failed, and why.
    Failed(String),
}

/// Runs as a worker: reads a request, does it, answers. Ends with its parent.
pub fn main() -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Descriptors go to the keeper by what came as the standard error, which liblxc and its children may write to.
    let to_keeper = Channel::from_fd(rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3)?);
    rustix::stdio::dup2_stderr(std::fs::OpenOptions::new().write(true).open("/dev/null")?)?;
    let mut request = Vec::new();
    std::io::stdin().lock().read_to_end(&mut request)?;
    let done = match serde_json::from_slice::<Work>(&request) {
        Ok(Work::Remove { path }) => match super::keeper::remove_dir(&path) {
            Err(error) => Done::Failed(format!("cannot remove {}: {error}", path.display())),
            Ok(()) => Done::Removed,
        },
        Ok(Work::Find(seed)) => {
            crate::sys::sched::give_way();
            let found = seed.find().and_then(|found| seed.key(found));
            found.map_or_else(|| Done::Failed("there is none".into()), |key| Done::Found(Box::new(key)))
        }
        Ok(work) => act(work, &to_keeper),
        Err(error) => Done::Failed(format!("the keeper's request cannot be read: {error}")),
    };
    let answer = serde_json::to_vec(&done)?;
    std::io::stdout().lock().write_all(&answer)
}

#[cfg(not(feature = "lxc"))]
fn act(_work: Work, _to_keeper: &Channel) -> Done {
    Done::Failed(super::NO_LXC.into())
}

#[cfg(feature = "lxc")]
fn act(work: Work, to_keeper: &Channel) -> Done {
    match work {
        Work::Remove { .. } | Work::Find(_) => Done::Removed,
        Work::Start(start) => {
            let began = start_container(&start, to_keeper);
            began.unwrap_or_else(|error| {
                let log = last_errors(&start.log);
                Done::Failed(if log.is_empty() { error.to_string() } else { format!("{error}: {log}") })
            })
        }
    }
}

#[cfg(feature = "lxc")]
fn start_container(start: &Start, to_keeper: &Channel) -> Result<Done, super::lxc::LxcError> {
    use super::keeper::hide;
    use super::lxc;

    if let Err(error) = mount_root(&start.dir) {
        return Ok(Done::Failed(format!("its root file system cannot be mounted: {error}")));
    }
    let mut container = lxc::Container::open(&start.name, &start.lxcpath)?;
    for (key, value) in &start.config {
        container.set(key, value)?;
    }
    container.start(&start.init)?;
    let Some(init) = container.init_pid() else {
        return Ok(Done::Failed("its init ended at once".into()));
    };
    let monitor = parent_of(init).unwrap_or(0);
    let network = std::fs::File::open(format!("/proc/{init}/ns/net"));
    if !start.ipv6.is_empty()
        && let Err(error) = add_ipv6(start, init)
    {
        container.stop();
        return Ok(Done::Failed(format!("its IPv6 address could not be set: {error}")));
    }
    // Where the kernel cannot do that, the container's numbers are small.
    let _ = crate::sys::pids::continue_after(init, start.last_pid);
    // Last: this process is inside from now on.
    if let Err(error) = hide::cover(init, &start.machine, start.disk, &start.dir) {
        container.stop();
        return Ok(Done::Failed(match error.kind() {
            std::io::ErrorKind::NotFound => "its init ended at once".into(),
            _ => format!("what tells of this machine cannot be covered: {error}"),
        }));
    }
    // A container without one is as a machine without a log daemon.
    if start.logs
        && let Err(error) = network.and_then(|network| send_log(&network, to_keeper))
    {
        let _ = to_keeper.send(format!("{LOG}: {error}").as_bytes(), &[]);
    }
    Ok(Done::Started { init, monitor })
}

/// Mounts the overlay that the container's files are, with a `/dev` of its own. The paths are relative, and the
/// source is a disk's, because the container's table of mounts shows them.
#[cfg(feature = "lxc")]
fn mount_root(dir: &std::path::Path) -> std::io::Result<()> {
    use std::ffi::CString;
    use std::path::Path;

    use super::keeper::hide;
    use crate::sys::mounts;

    std::env::set_current_dir(dir)?;
    // Marks of removed directories in `user.` attributes can be read without the right to rule the machine.
    let options = CString::new(format!("lowerdir={LOWER},upperdir=upper,workdir=work,userxattr"))?;
    mounts::mount(Path::new(hide::ROOT_DEVICE), Path::new("rootfs"), c"overlay", &options)?;
    hide::devices(Path::new("rootfs/dev"))
}

/// The socket that C libraries log to.
#[cfg(feature = "lxc")]
const LOG: &str = "/dev/log";

/// Makes [`LOG`] in the container that this process is inside of, but for its network namespace, and sends it to the keeper.
/// Made there, it has the name that `/proc/net/unix` shows of a log daemon's. Whatever an intruder has left may run by
/// now: no link is followed.
#[cfg(feature = "lxc")]
fn send_log(network: &std::fs::File, to_keeper: &Channel) -> std::io::Result<()> {
    use std::os::fd::AsFd;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

    let kind = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(network.as_fd(), Some(kind))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let log = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    // Everybody may write, and nobody execute; a mode that is set later could be another file's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o111));
    rustix::net::bind(&log, &SocketAddrUnix::new(LOG)?)?;
    std::os::unix::fs::lchown(LOG, Some(super::ID_BASE), Some(super::ID_BASE))?;
    to_keeper.send(b"log", &[log.as_fd()])
}

/// Gives `eth0` of the container its IPv6 addresses, from outside: liblxc would
/// have the kernel ask for a second whether someone else has them.
#[cfg(feature = "lxc")]
fn add_ipv6(start: &Start, init: i32) -> std::io::Result<()> {
    use std::os::fd::AsFd;

    use crate::sys::{interface, netlink};

    let namespace = std::fs::File::open(format!("/proc/{init}/ns/net"))?;
    let network = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(network))?;
    super::keeper::identity::add_ipv6(&start.ipv6)?;
    let index = interface::index("eth0")?;
    start.ipv6_gateway.map_or(Ok(()), |gateway| netlink::add_default_route6(index, gateway))
}

/// The parent of process `pid`.
pub fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so what follows the last one counts.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().filter(|parent| Pid::from_raw(*parent).is_some())
}

/// The errors at the end of liblxc's log, joined.
#[cfg(feature = "lxc")]
fn last_errors(log: &std::path::Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let said = |line: &str| Some(line.split_once(" - ")?.1.split_once(" - ").map_or(line, |(_, rest)| rest).to_owned());
    let mut lines: Vec<String> = text.lines().filter_map(said).take(4).collect();
    lines.dedup();
    lines.join("; ")
}
