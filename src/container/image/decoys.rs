//! Decoys: files that are there for an intruder to find, with the owners and the
//! ages of files that somebody has worked with.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::recipe::Recipe;
use super::root::{Attributes, Root};
use super::{ImageError, at};
use crate::container::ID_BASE;

const DAY: i64 = 86_400;
/// Octets of `/etc/passwd` that are read.
const MAX_PASSWD: u64 = 1 << 20;

/// Writes the decoys of `recipe`, whose accounts have been made by now; `now` in seconds since 1970.
pub fn lay(recipe: &Recipe, root: &Root, now: i64) -> Result<(), ImageError> {
    let passwd = Path::new("etc/passwd");
    let mut text = String::new();
    if !recipe.decoys.is_empty() {
        let file = root.read(passwd).map_err(at("read", passwd))?;
        file.take(MAX_PASSWD).read_to_string(&mut text).map_err(at("read", passwd))?;
    }
    let ids = ids(&text);
    // Folders that are made on the way, which the files written into them make look new.
    let mut folders: Vec<(PathBuf, i64)> = Vec::new();
    for decoy in &recipe.decoys {
        let Some((uid, gid)) = ids.get(decoy.owner.as_str()) else {
            let why = format!("{} shall belong to `{}`, which is none of its accounts", decoy.path, decoy.owner);
            return Err(ImageError::Recipe(recipe.recipe.clone(), why));
        };
        let path = PathBuf::from(decoy.path.trim_start_matches('/'));
        // A little earlier or later in the day, as work has it; the same in every build.
        let within: u32 = path.as_os_str().as_encoded_bytes().iter().map(|b| u32::from(*b) * 131).sum();
        let mtime = now - i64::from(decoy.age_days) * DAY - i64::from(within % 20_000);
        let (uid, gid) = (ID_BASE + uid, ID_BASE + gid);
        let attributes = Attributes { mode: decoy.mode, uid, gid, mtime, capability: None };
        let mut made: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
        made.retain(|folder| !folder.as_os_str().is_empty() && root.stat(folder).is_none());
        if let Some(parent) = path.parent() {
            root.folder(parent, uid, gid).map_err(at("make", parent))?;
        }
        root.put_file(&path, &attributes, &mut decoy.content.as_bytes()).map_err(at("write", &path))?;
        folders.extend(made.into_iter().map(|folder| (folder, mtime)));
    }
    for (folder, mtime) in folders {
        root.touch(&folder, mtime).map_err(at("set the time of", &folder))?;
    }
    Ok(())
}

/// User and group ids by name.
fn ids(passwd: &str) -> HashMap<&str, (u32, u32)> {
    let id = |text: Option<&str>| text?.parse().ok().filter(|id| *id < crate::container::ID_COUNT);
    let line = |line: &'_ str| -> Option<(u32, u32)> {
        let mut fields = line.split(':').skip(2);
        Some((id(fields.next())?, id(fields.next())?))
    };
    passwd.lines().filter_map(|text| Some((text.split(':').next()?, line(text)?))).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::container::ImageConfig;

    #[test]
    fn decoys_have_owners_and_ages() {
        let dir = tempfile::tempdir().unwrap();
        let yaml = "
            name: mine
            decoys:
              - {path: /home/anna/notes/todo.txt, content: buy milk, owner: anna, mode: 0o600, age_days: 10}
              - {path: /home/anna/notes/old.txt, content: x, owner: anna, age_days: 100}";
        fs::write(dir.path().join("recipe.yaml"), yaml).unwrap();
        let recipe = dir.path().to_str().unwrap();
        let config = ImageConfig { name: "x".into(), recipe: recipe.into(), ..ImageConfig::default() };
        let recipe = Recipe::of(&config).unwrap();
        let rootfs = tempfile::tempdir().unwrap();
        fs::create_dir_all(rootfs.path().join("etc")).unwrap();
        fs::create_dir_all(rootfs.path().join("home")).unwrap();
        let passwd = rootfs.path().join("etc/passwd");
        fs::write(&passwd, "root:x:0:0::/root:/bin/sh\nanna:x:1000:1001::/home/anna:/bin/sh\n").unwrap();
        let root = Root::open(rootfs.path()).unwrap();
        let now = 1_700_000_000;
        lay(&recipe, &root, now).unwrap();
        let meta = fs::metadata(rootfs.path().join("home/anna/notes/todo.txt")).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (1_001_000, 1_001_001, 0o600));
        assert!((now - 11 * DAY..=now - 10 * DAY).contains(&meta.mtime()), "{}", meta.mtime());
        let folder = fs::metadata(rootfs.path().join("home/anna/notes")).unwrap();
        assert_eq!((folder.uid(), folder.mtime()), (1_001_000, meta.mtime()));
        fs::write(&passwd, "root:x:0:0::/root:/bin/sh\n").unwrap();
        let error = lay(&recipe, &root, now).unwrap_err().to_string();
        assert!(error.contains("none of its accounts"), "{error}");
    }
}
