//! Archives of evidence of which no record tells.
//!
//! The keeper takes evidence last of all, when whoever would write down that it did may be gone: the console is killed, or
//! the supervisor, and all of the honeynet ends. Records are also deleted earlier than archives. But each archive says
//! itself for whom its container came to life.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::super::file::open_regular;
use super::super::search::scan;
use super::{Session, insert};
use crate::container::inspector::{Manifest, read, taken_of};
use crate::event::{SessionId, Utc};

/// Entries of the directory that are looked at.
const LISTED: usize = 100_000;
/// Archives that are opened for one session, and what is unpacked of all of them to come to their manifests.
const OPENED: usize = 256;
const UNPACKED: u64 = 4 << 30;
/// Clocks are set back.
const EARLY_MICROS: i64 = 3_600_000_000;

/// Adds the archives in the honeynet's directory `dir` that are of the session `about` by their own word, where no record
/// tells of them. Returns how many there are of which nobody knows: too many, or damaged.
///
/// # Errors
/// If the directory or the log cannot be read.
pub fn add_untold(dir: &Path, about: &mut Session) -> io::Result<u64> {
    let evidence = dir.join("evidence");
    let entries = match fs::read_dir(&evidence) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    // By name, which begins with when each was taken.
    let mut untold: BTreeMap<String, Utc> = BTreeMap::new();
    let begins = about.since.micros().saturating_sub(EARLY_MICROS);
    for entry in entries.take(LISTED) {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let taken = taken_of(&name).filter(|taken| taken.micros() >= begins && !about.archives.contains(&name));
        if let Some(taken) = taken {
            untold.insert(name, taken);
        }
    }
    if untold.is_empty() {
        return Ok(0);
    }
    scan(&dir.join("events"), |line| {
        if let Some((_, rest)) = line.split_once("\"archive\":\"")
            && let Some((name, _)) = rest.split_once('"')
        {
            untold.remove(name);
        }
        Ok(())
    })?;
    let (mut unread, mut room) = (0, UNPACKED);
    for (number, name) in untold.into_keys().enumerate() {
        if number >= OPENED || room == 0 {
            unread += 1;
            continue;
        }
        let file = match open_regular(&evidence.join(&name)) {
            Ok(file) => file,
            // It was old enough to go meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => {
                unread += 1;
                continue;
            }
        };
        match read::manifest(file, room) {
            Ok(manifest) => {
                let contents = manifest.counts.octets.saturating_add(manifest.changes.len() as u64 * 512);
                room = room.saturating_sub(contents);
                if is_of(&manifest, about.session) {
                    about.more += u64::from(!insert(&mut about.archives, name));
                }
            }
            Err(_) => {
                // Nobody knows how far that was.
                room /= 2;
                unread += 1;
            }
        }
    }
    Ok(unread)
}

/// Whether the container came to life for `session` at any time.
fn is_of(manifest: &Manifest, session: SessionId) -> bool {
    let leased = &manifest.leased;
    let visits = leased.leases.iter().filter_map(|visit| visit.session.as_deref());
    visits.chain(leased.session.as_deref()).any(|of| of.parse() == Ok(session))
}

#[cfg(test)]
mod tests {
    use super::super::session;
    use super::*;

    const ID: SessionId = SessionId(0xabc);

    fn archive(dir: &Path, name: &str, sessions: [&str; 2]) {
        let manifest = serde_json::json!({
            "version": 1, "taken": "2026-01-31T12:00:09.000000Z", "number": 7,
            "leased": {
                "honeynet": "office", "container": "c", "node": "lan", "host": "10.0.0.1", "hostname": "h", "template": "t",
                "image": "i", "image_hash": "0", "session": sessions[0], "began": "2026-01-31T12:00:00.000000Z",
                "leases": [{"began": "2026-01-31T12:00:00.000000Z", "session": sessions[1]}],
            },
            "contents": "all", "changes": [],
            "counts": {"added": 0, "changed": 0, "deleted": 0, "kept": 1, "octets": 3, "samples": 0, "passed_over": 0},
        });
        let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        let text = manifest.to_string();
        for (path, octets) in [(format!("files/{}", "0".repeat(64)), "abc"), ("manifest.json".into(), &text)] {
            let mut header = tar::Header::new_ustar();
            header.set_path(path).unwrap();
            header.set_size(octets.len() as u64);
            header.set_cksum();
            tar.append(&header, octets.as_bytes()).unwrap();
        }
        fs::write(dir.join("evidence").join(name), tar.into_inner().unwrap().finish().unwrap()).unwrap();
    }

    #[test]
    fn archives_of_which_no_record_tells_are_those_of_the_session_that_they_name() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir(dir.join("events")).unwrap();
        let told = "20260131T120009Z-10.0.0.1-1.tar.zst";
        let record = |event: &str, rest: &str| {
            format!("{{\"v\":1,\"seq\":1,\"time\":\"2026-01-31T12:00:05.000000Z\",\"event\":\"{event}\"{rest}}}\n")
        };
        let log = record("tcp.open", ",\"session\":\"0000000000000abc\"")
            + &record("evidence.taken", &format!(",\"session\":\"00000000000000ff\",\"archive\":\"{told}\""));
        fs::write(dir.join("events/events.ndjson"), log).unwrap();
        let found = || {
            let mut about = session(&dir.join("events"), ID, |_, _| Ok(())).unwrap().unwrap();
            let unread = add_untold(dir, &mut about).unwrap();
            (about.archives.into_iter().collect::<Vec<_>>(), unread)
        };
        assert_eq!(found(), (vec![], 0), "there is no directory");
        fs::create_dir(dir.join("evidence")).unwrap();
        let (mine, other) = ("0000000000000abc", "00000000000000ee");
        archive(dir, told, [mine, mine]);
        archive(dir, "20260131T120009Z-10.0.0.1-2.tar.zst", [mine, mine]);
        archive(dir, "20260131T120009Z-10.0.0.1-3.tar.zst", [other, other]);
        archive(dir, "20260131T120009Z-10.0.0.1-4.tar.zst", [other, mine]);
        archive(dir, "20260130T120009Z-10.0.0.1-5.tar.zst", [mine, mine]);
        archive(dir, "no name of one.tar.zst", [mine, mine]);
        let both = ["20260131T120009Z-10.0.0.1-2.tar.zst", "20260131T120009Z-10.0.0.1-4.tar.zst"];
        assert_eq!(found(), (both.map(str::to_owned).to_vec(), 0));
        // What is damaged may be anybody's, which is said.
        fs::write(dir.join("evidence/20260131T120009Z-10.0.0.1-6.tar.zst"), "damaged").unwrap();
        std::os::unix::fs::symlink("/etc/shadow", dir.join("evidence/20260131T120009Z-10.0.0.1-8.tar.zst")).unwrap();
        assert_eq!(found(), (both.map(str::to_owned).to_vec(), 2));
    }
}
