//! What captures are called: `SERIES-NUMBER.pcapng` while they are written and until they are compressed,
//! `SERIES-NUMBER.pcapng.zst` from then on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is added to the name of a compressed one.
const PACKED: &str = ".zst";

/// The captures that lie in `dir`, each with the name of its series: by that, and in the order in which they were written.
/// One that is about to be replaced by its compressed form is told once.
///
/// # Errors
/// If they cannot be listed.
pub(in crate::record) fn captures(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some((series, number, packed)) = name.to_str().and_then(parse) {
            found.push((series.to_owned(), number, packed, entry.path()));
        }
    }
    found.sort();
    found.dedup_by(|next, before| (&next.0, next.1) == (&before.0, before.1));
    Ok(found.into_iter().map(|(series, _, _, path)| (series, path)).collect())
}

/// The capture that comes to be compressed as `path`.
pub(in crate::record) fn packed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PACKED);
    name.into()
}

/// Where its compressed form is written. No reader takes that for a capture.
pub(super) fn half(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{PACKED}.half"))
}

/// Whether a file of that name is the beginning of a compressed capture that nobody finished.
pub(super) fn is_half(name: &str) -> bool {
    name.strip_prefix('.')
        .and_then(|name| name.strip_suffix(".half"))
        .and_then(parse)
        .is_some_and(|(.., packed)| packed)
}

/// The series, its number, and whether it is compressed.
pub(super) fn parse(name: &str) -> Option<(&str, u64, bool)> {
    let (name, is_packed) = name.strip_suffix(PACKED).map_or((name, false), |name| (name, true));
    let (series, number) = name.strip_suffix(".pcapng")?.rsplit_once('-')?;
    (!series.is_empty() && number.len() >= 6).then_some(())?;
    Some((series, number.parse().ok()?, is_packed))
}

/// Letters, digits and a few signs; what had others gets a mark of the whole, so that no two become one.
pub(super) fn safe(name: &str) -> String {
    const LONGEST: usize = 100;
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let bare = |name: &str| name.starts_with(['.', '-']) || name.is_empty();
    if name.len() <= LONGEST && name.chars().all(fine) && !bare(name) {
        return name.to_owned();
    }
    let mark = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3));
    let safe: String = name.chars().take(LONGEST).map(|c| if fine(c) { c } else { '_' }).collect();
    format!("{}{safe}.{mark:016x}", if bare(&safe) { "_" } else { "" })
}
