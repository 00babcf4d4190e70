//! `honeyweave __import`: the process that reads what was brought, confined to
//! the root that it fills. The request is JSON on standard input, the answer JSON
//! on standard output.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::layout::{Layout, Section};
use super::manifest::{Config, config};
use super::unpack::{Tally, Unpacker};
use super::{Limits, ReadError, bad, overlay};
use crate::container::ID_BASE;
use crate::container::image::HostKey;
use crate::container::image::root::{Root, inside};
use crate::sys::privileges;

/// Octets of memory that the process may have: more than the largest window of a decoder.
const MEMORY: u64 = 2 << 30;
/// Where programs are looked for that are named without a path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// An archive or an OCI layout.
    Brought,
    /// The upper directory of an overlay, laid over what is in the root already.
    Overlay,
}

/// What the process is to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// What is read.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
    /// The root that it fills.
    pub rootfs: PathBuf,
    /// The first process, if somebody said so.
    pub init: Vec<String>,
    /// How large it may be.
    pub limits: Limits,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// What was made.
    pub tally: Tally,
    /// SHA-256 of the archive, or of the image's manifest; empty for an overlay.
    pub digest: String,
    /// The first process.
    pub init: Vec<String>,
    /// Its environment.
    pub environment: Vec<String>,
    /// Where it starts.
    pub workdir: Option<String>,
    /// As whom it would like to run, if not as root.
    pub user: Option<String>,
    /// Which SSH server there is.
    pub host_key: HostKey,
}

/// Runs as the process: reads a request, does it, answers. Ends with its parent.
///
/// # Errors
/// If the request or the answer does not get through.
pub fn main() -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut request = Vec::new();
    std::io::stdin().lock().read_to_end(&mut request)?;
    let request: Request = serde_json::from_slice(&request)?;
    let answer = serve(&request, true).map_err(|error| error.to_string());
    std::io::stdout().lock().write_all(&serde_json::to_vec(&answer)?)
}

/// Does what `request` says, `confined` or (in tests) not.
pub fn serve(request: &Request, confined: bool) -> Result<Answer, ReadError> {
    let opening = || ReadError::io(format!("cannot open {}", request.path.display()));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = rustix::fs::open(&request.path, flags, Mode::empty()).map_err(|e| opening()(e.into()))?;
    let root = Root::open(&request.rootfs).map_err(ReadError::io("cannot open the new root"))?;
    if confined {
        privileges::confine_to(&request.rootfs, MEMORY).map_err(ReadError::io("cannot give up rights"))?;
    }
    let is_folder = rustix::fs::fstat(&source).is_ok_and(|stat| stat.st_mode & 0o170_000 == 0o040_000);
    let mut limits = request.limits;
    let (tally, digest, config) = match (request.kind, is_folder) {
        (Kind::Overlay, _) => (overlay::lay(source, &root, &mut limits)?, String::new(), Config::default()),
        (Kind::Brought, true) => brought(&root, Some(Layout::Folder(source)), None, limits)?,
        (Kind::Brought, false) => {
            let file = File::from(regular(source)?);
            let again = file.try_clone().map_err(opening())?;
            brought(&root, Layout::in_archive(again)?, Some(file), limits)?
        }
    };
    for folder in ["dev", "proc", "sys", "tmp", "etc"] {
        let made = root.folder(Path::new(folder), ID_BASE, ID_BASE);
        made.map_err(ReadError::io(format!("cannot make /{folder}")))?;
    }
    let environment = config.env.clone().unwrap_or_default();
    let init = if request.init.is_empty() { config.command() } else { request.init.clone() };
    let workdir = config.working_dir.filter(|workdir| !workdir.is_empty() && workdir != "/");
    Ok(Answer {
        tally,
        digest,
        init: first_process(&root, init, &environment)?,
        environment,
        workdir,
        user: config.user.filter(|user| !["", "0", "root", "0:0", "root:root"].contains(&user.as_str())),
        host_key: host_key(&root),
    })
}

fn regular(source: OwnedFd) -> Result<OwnedFd, ReadError> {
    match rustix::fs::fstat(&source).is_ok_and(|stat| stat.st_mode & 0o170_000 == 0o100_000) {
        true => Ok(source),
        false => Err(bad!("it is neither a file nor a folder")),
    }
}

fn brought(
    root: &Root,
    layout: Option<Layout>,
    file: Option<File>,
    limits: Limits,
) -> Result<(Tally, String, Config), ReadError> {
    let mut unpacker = Unpacker { root, id_base: ID_BASE, left: limits, tally: Tally::default() };
    let (digest, config) = match (layout, file) {
        (Some(layout), _) => (unpacker.layout(&layout)?, config(&layout)?),
        (None, Some(file)) => {
            let section = Section::whole(file).map_err(ReadError::io("the archive cannot be read"))?;
            (unpacker.archive(section)?, Config::default())
        }
        (None, None) => return Err(bad!("there is nothing to read")),
    };
    match unpacker.tally.made {
        0 => Err(bad!("it is empty: is it the tar archive of a system's root, or an OCI layout?")),
        _ => Ok((unpacker.tally, digest, config)),
    }
}

/// The first process with the path of its program, which must be there.
fn first_process(root: &Root, mut init: Vec<String>, environment: &[String]) -> Result<Vec<String>, ReadError> {
    if init.is_empty() {
        init.push("/sbin/init".into());
    }
    let program = init[0].clone();
    let found = |path: &Path| inside(path).is_some_and(|path| root.is_program(&path));
    if program.starts_with('/') && found(Path::new(&program)) {
        return Ok(init);
    }
    if !program.contains('/') {
        let path = environment.iter().find_map(|variable| variable.strip_prefix("PATH="));
        for folder in path.unwrap_or(PATH).split(':').chain(PATH.split(':')) {
            let candidate = Path::new(folder).join(&program);
            if folder.starts_with('/') && found(&candidate) {
                init[0] = candidate.display().to_string();
                return Ok(init);
            }
        }
    }
    let shown = super::shown(program.as_bytes());
    Err(bad!("its first process, `{shown}`, is not there: name another by `--init`"))
}

fn host_key(root: &Root) -> HostKey {
    let any = |paths: [&str; 2]| paths.iter().any(|path| root.is_program(Path::new(path)));
    if any(["usr/sbin/sshd", "usr/local/sbin/sshd"]) {
        HostKey::Openssh
    } else if any(["usr/sbin/dropbear", "usr/bin/dropbear"]) {
        HostKey::Dropbear
    } else {
        HostKey::None
    }
}
