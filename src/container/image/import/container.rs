//! Which overlay is a container's, and of what image.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::container::image::root::Root;
use crate::container::image::shift::is_plain;
use crate::container::image::{Image, ImageError, list};

/// An overlay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overlay {
    /// What is below.
    pub lower: Image,
    /// What was changed.
    pub upper: PathBuf,
}

/// Finds the overlay of `from`: a container that runs, by its own name or its host's, or a folder with `upper` in it, which was made over the image `upon`.
///
/// # Errors
/// If there is none of that name, or nothing says of which image it is.
pub fn find_overlay(state_dir: &Path, from: &str, upon: Option<&str>) -> Result<Overlay, ImageError> {
    let failed = |why: String| ImageError::Import { path: from.into(), why };
    let images = list(state_dir);
    let dir = match from.contains('/') {
        true => Some(PathBuf::from(from)),
        false => container_dir(state_dir, from),
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
        Some(lower) => Ok(Overlay { lower, upper }),
        None => Err(failed("no container that runs has it: name the image that it started from by `--upon`".into())),
    }
}

fn dirs(state_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let nets = fs::read_dir(state_dir).into_iter().flatten().flatten().map(|net| net.path().join("containers"));
    nets.flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten()).map(|entry| entry.path())
}

fn container_dir(state_dir: &Path, name: &str) -> Option<PathBuf> {
    let named = |dir: &PathBuf| dir.ends_with(name) || hostname(dir).is_some_and(|hostname| hostname == name);
    is_plain(name.as_ref()).then(|| dirs(state_dir).find(named))?
}

/// What the container in `dir` calls itself. Intruders may have put anything there.
fn hostname(dir: &Path) -> Option<String> {
    let mut text = String::new();
    let file = Root::open(&dir.join("upper")).ok()?.read(Path::new("etc/hostname")).ok()?;
    file.take(256).read_to_string(&mut text).ok()?;
    Some(text.trim_end().to_owned())
}

fn containers(state_dir: &Path) -> Vec<String> {
    let with_upper = dirs(state_dir).filter(|dir| dir.join("upper").is_dir());
    with_upper.filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned())).take(20).collect()
}

/// The lower directory of the overlay that is mounted with `upper` in some process's namespace.
fn lower_of(upper: &Path) -> Option<PathBuf> {
    let upper = upper.to_str()?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())).find_map(
        |entry| {
            let mounts = fs::read_to_string(entry.path().join("mountinfo")).ok()?;
            mounts.lines().find_map(|line| lower_in(line, upper))
        },
    )
}

fn lower_in(line: &str, upper: &str) -> Option<PathBuf> {
    let (_, after) = line.split_once(" - overlay ")?;
    let options = after.split_whitespace().nth(1)?;
    let option = |name: &str| options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    (option("upperdir")? == upper).then(|| PathBuf::from(option("lowerdir").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_tells_what_is_below() {
        let line = "87 86 0:52 / / rw,relatime - overlay overlay rw,lowerdir=/i/a/1/rootfs,upperdir=/c/hw-1/upper,workdir=/c/hw-1/work";
        assert_eq!(lower_in(line, "/c/hw-1/upper"), Some("/i/a/1/rootfs".into()));
        assert_eq!(lower_in(line, "/c/hw-2/upper"), None);
        assert_eq!(lower_in("1 2 3:4 / / rw - ext4 /dev/sda rw", "/c/hw-1/upper"), None);
    }

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
    }
}
