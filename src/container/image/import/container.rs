//! Which overlay is a container's, and of what image.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::container::image::root::Root;
use crate::container::image::shift::is_plain;
use crate::container::image::{Image, ImageError, list};
use crate::container::worker::LOWER;

/// An overlay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overlay {
    /// What is below.
    pub lower: Image,
    /// What was changed.
    pub upper: PathBuf,
    /// The name of the container that may be at work in it.
    pub container: Option<String>,
}

/// Finds the overlay of `from`: a container that runs, by its own name or its host's, or a folder with `upper` in it, which was made over the image `upon`.
///
/// # Errors
/// If there is none of that name, or several are; or nothing says of which image it is.
pub fn find_overlay(state_dir: &Path, from: &str, upon: Option<&str>) -> Result<Overlay, ImageError> {
    let failed = |why: String| ImageError::Import { path: from.into(), why };
    let images = list(state_dir);
    let dir = match from.contains('/') {
        true => Some(PathBuf::from(from)),
        false => container_dir(state_dir, from).map_err(failed)?,
    };
    let upper = dir.map(|dir| dir.join("upper")).filter(|upper| upper.is_dir());
    let Some(upper) = upper else {
        let names = containers(state_dir).join(", ");
        let there = if names.is_empty() { "none runs".to_owned() } else { format!("there are {names}") };
        return Err(failed(format!("it is neither a container that runs ({there}) nor a folder with `upper` in it")));
    };
    let upper = std::path::absolute(&upper).map_err(|error| failed(error.to_string()))?;
    let lower = match upon {
        Some(name) => {
            let of: Vec<&Image> = images.iter().filter(|image| image.manifest.name == name).collect();
            match of[..] {
                [one] => Some(one.clone()),
                [] => return Err(failed(format!("there is no image `{name}`"))),
                _ => return Err(failed(format!("there are several images `{name}`: remove those that are not meant"))),
            }
        }
        None => lower_of(&upper).and_then(|lower| images.into_iter().find(|image| image.rootfs() == lower)),
    };
    match lower {
        Some(lower) => {
            let container = upper.parent().and_then(Path::file_name).and_then(|name| name.to_str()).map(str::to_owned);
            Ok(Overlay { lower, upper, container })
        }
        None => Err(failed("no container that runs has it: name the image that it started from by `--upon`".into())),
    }
}

/// The directories of containers, as they are seen from here and by keepers: one that runs within `ip netns exec` has
/// mounts of its own, and the disks of its containers are among them.
fn dirs(state_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let state_dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    let views = std::iter::once(state_dir.clone()).chain(keepers().map(move |pid| {
        let inside = state_dir.strip_prefix("/").unwrap_or(&state_dir);
        Path::new("/proc").join(pid).join("root").join(inside)
    }));
    let nets = views.flat_map(|view| fs::read_dir(view).into_iter().flatten().flatten());
    let all = nets.flat_map(|net| fs::read_dir(net.path().join("containers")).into_iter().flatten().flatten());
    all.map(|entry| entry.path()).filter(|dir| dir.join("upper").is_dir())
}

/// The processes that are keepers.
fn keepers() -> impl Iterator<Item = String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|octet| *octet == 0).nth(1) == Some(b"__keeper")
    })
}

/// The directory of the container `name`, or else of the only one whose host is called so.
fn container_dir(state_dir: &Path, name: &str) -> Result<Option<PathBuf>, String> {
    if !is_plain(name.as_ref()) {
        return Ok(None);
    }
    let own_name = |dir: &PathBuf| dir.file_name().map(OsStr::to_owned);
    let mut found: Vec<PathBuf> = dirs(state_dir).filter(|dir| dir.ends_with(name)).collect();
    if found.is_empty() {
        found = dirs(state_dir).filter(|dir| hostname(dir).is_some_and(|hostname| hostname == name)).collect();
    }
    // A keeper's view and this one's show the same container twice.
    found.sort_by_key(own_name);
    found.dedup_by_key(|dir| own_name(dir));
    if found.len() > 1 {
        let names: Vec<String> = found.iter().filter_map(own_name).map(|name| name.to_string_lossy().into()).collect();
        return Err(format!("several containers have this host name: take one of {}", names.join(", ")));
    }
    Ok(found.pop())
}

/// What the container in `dir` calls itself. Intruders may have put anything there.
fn hostname(dir: &Path) -> Option<String> {
    let mut text = String::new();
    let file = Root::open(&dir.join("upper")).ok()?.read(Path::new("etc/hostname")).ok()?;
    file.take(256).read_to_string(&mut text).ok()?;
    Some(text.trim_end().to_owned())
}

fn containers(state_dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        dirs(state_dir).filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned())).take(20).collect();
    names.sort();
    names.dedup();
    names
}

/// The files of images that those of containers lie over, of all honeynets whose state is in `state_dir`, whether the
/// containers run or not.
///
/// # Errors
/// If there are containers of which nothing tells: their honeynet did not end orderly, and their disks are not mounted.
pub fn lowers(state_dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let seen: Vec<PathBuf> = dirs(state_dir).collect();
    let nets = fs::read_dir(state_dir).into_iter().flatten().flatten();
    let entries = nets.flat_map(|net| fs::read_dir(net.path().join("containers")).into_iter().flatten().flatten());
    for disk in entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|kind| kind == "disk")) {
        if !seen.iter().any(|dir| dir.file_name() == disk.file_stem()) {
            return Err(ImageError::Unclear(disk));
        }
    }
    let mut lowers: Vec<PathBuf> = seen.iter().filter_map(|dir| lower_of(&dir.join("upper"))).collect();
    lowers.sort();
    lowers.dedup();
    Ok(lowers)
}

/// The lower directory of the overlay whose upper one is `upper`.
fn lower_of(upper: &Path) -> Option<PathBuf> {
    fs::read_link(upper.parent()?.join(LOWER)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir_all(state.path().join("net/containers/hw-7/upper/etc")).unwrap();
        fs::write(state.path().join("net/containers/hw-7/upper/etc/hostname"), "web-3\n").unwrap();
        let error = |from: &str, upon: Option<&str>| find_overlay(state.path(), from, upon).unwrap_err().to_string();
        assert!(error("hw-8", None).contains("there are hw-7"), "{}", error("hw-8", None));
        assert!(error("../hw-7", None).contains("neither"));
        assert!(error("hw-7", None).contains("--upon"));
        assert!(error("web-3", None).contains("--upon"));
        assert!(error("hw-7", Some("none")).contains("no image `none`"));
        // Another honeynet has a host of the same name: nobody can know which one is meant.
        fs::create_dir_all(state.path().join("other/containers/hw-9/upper/etc")).unwrap();
        fs::write(state.path().join("other/containers/hw-9/upper/etc/hostname"), "web-3\n").unwrap();
        assert!(error("web-3", None).contains("take one of hw-7, hw-9"), "{}", error("web-3", None));
        assert!(error("hw-9", None).contains("--upon"));
    }
}
