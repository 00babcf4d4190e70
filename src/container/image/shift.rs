//! Gives a tree of files to the user ids of containers.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid, XattrFlags};

use super::{ImageError, at};

const CAPABILITY: &str = "security.capability";

/// Adds `base` to the owner and group of everything at and below `root` that is
/// not shifted yet. Set-uid bits and file capabilities, which the kernel takes
/// away from a file that changes its owner, are put back; capabilities are bound
/// to the user namespace whose root is `base`.
pub fn shift(root: &Path, base: u32) -> Result<(), ImageError> {
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).map_err(at("read", &path))?;
        if meta.uid() < base {
            let capability = if meta.is_file() { capability_of(&path, base) } else { None };
            let (uid, gid) = (Uid::from_raw(meta.uid() + base), Gid::from_raw(meta.gid() % base + base));
            rustix::fs::chownat(CWD, &path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| at("change the owner of", &path)(e.into()))?;
            if !meta.is_symlink() {
                rustix::fs::chmod(&path, Mode::from_raw_mode(meta.mode() & 0o7777))
                    .map_err(|e| at("set the mode of", &path)(e.into()))?;
            }
            if let Some(value) = capability {
                rustix::fs::lsetxattr(&path, CAPABILITY, &value, XattrFlags::empty())
                    .map_err(|e| at("set the capabilities of", &path)(e.into()))?;
            }
        }
        if meta.is_dir() {
            for entry in fs::read_dir(&path).map_err(at("list", &path))? {
                pending.push(entry.map_err(at("list", &path))?.path());
            }
        }
    }
    Ok(())
}

/// The file's capabilities (a `vfs_cap_data` of revision 2) as ones of revision 3 that hold in the namespace of `base`.
fn capability_of(path: &Path, base: u32) -> Option<Vec<u8>> {
    let mut value = [0u8; 64];
    let len = rustix::fs::lgetxattr(path, CAPABILITY, &mut value).ok()?;
    bind_capability(value.get(..len)?, base)
}

/// The capabilities `value` (a `vfs_cap_data` of revision 2) as ones of revision 3 for the namespace whose root is `base`.
pub fn bind_capability(value: &[u8], base: u32) -> Option<Vec<u8>> {
    let (magic, sets) = value.split_first_chunk::<4>()?;
    let magic = u32::from_le_bytes(*magic);
    if magic & 0xff00_0000 != 0x0200_0000 || sets.len() != 16 {
        return None;
    }
    let mut bound = (0x0300_0000 | magic & 0xff).to_le_bytes().to_vec();
    bound.extend_from_slice(sets);
    bound.extend_from_slice(&base.to_le_bytes());
    Some(bound)
}

/// The octets of all files below `root`.
pub fn size_of(root: &Path) -> u64 {
    let mut pending = vec![root.to_owned()];
    let mut size = 0;
    while let Some(path) = pending.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            match meta.is_dir() {
                true => pending.push(entry.path()),
                false => size += meta.len(),
            }
        }
    }
    size
}

/// Whether `name` may be part of a path: letters, digits, `-`, `_`, `.` without a dot in front.
pub fn is_plain(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 64
        && bytes[0] != b'.'
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn shifts_once_and_keeps_modes_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("su"), "x").unwrap();
        fs::set_permissions(path("su"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(path("su"), path("sg")).unwrap();
        symlink("/nowhere", path("link")).unwrap();
        fs::create_dir(path("sub")).unwrap();
        std::os::unix::fs::chown(path("sub"), Some(33), Some(42)).unwrap();
        for _ in 0..2 {
            shift(dir.path(), 1_000_000).unwrap();
        }
        let meta = |name: &str| fs::symlink_metadata(path(name)).unwrap();
        assert_eq!((meta("su").uid(), meta("su").mode() & 0o7777), (1_000_000, 0o4755));
        assert_eq!((meta("link").uid(), meta("link").gid()), (1_000_000, 1_000_000));
        assert_eq!((meta("sub").uid(), meta("sub").gid()), (1_000_033, 1_000_042));
    }

    #[test]
    fn binds_capabilities_to_the_namespace() {
        let mut old = 0x0200_0001u32.to_le_bytes().to_vec();
        old.extend([0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let new = bind_capability(&old, 1_000_000).unwrap();
        assert_eq!(new.len(), 24);
        assert_eq!(new[..4], 0x0300_0001u32.to_le_bytes());
        assert_eq!((&new[4..20], &new[20..]), (&old[4..], &1_000_000u32.to_le_bytes()[..]));
        assert_eq!(bind_capability(&new, 5), None);
    }

    #[test]
    fn plain_names() {
        for (name, plain) in [("small", true), ("a.b-c_1", true), ("..", false), ("a/b", false), ("", false)] {
            assert_eq!(is_plain(OsStr::new(name)), plain, "{name}");
        }
    }
}
