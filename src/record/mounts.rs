//! What was seen inside containers by their mounts ([`crate::sys::fanotify`]), as events: fewer than [`super::inside`] has, and
//! with what a process says of itself a moment later.

use serde_json::{Map, Value, json};

use super::inside::{Telling, about, is_a_sink, shown};
use super::inside_words::permissions;
use super::tape::{fits, fitted};
use crate::container::{Lessee, id_inside};
use crate::event::{EventId, Said};
use crate::sys::fanotify::Seen;
use crate::sys::process::Process;

/// What was seen, and whose doing it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// What the kernel told.
    pub seen: Seen,
    /// When it was read.
    pub at: i64,
    /// The process, if it was still there.
    pub by: Option<Process>,
}

impl Telling {
    /// The events of what was found in a container of `of`: none if it is of no interest or there is too much.
    pub fn tell_found(&mut self, found: &Found, of: &Lessee) -> Vec<Said> {
        let seen = &found.seen;
        // A file that was written and executed by one process was written first.
        let ids = [(seen.written, EventId::ContainerFile), (seen.executed, EventId::ContainerExec)];
        let ids = ids.into_iter().filter(|(is_it, _)| *is_it && !is_a_sink(&seen.path));
        let may = |(_, id): &(bool, EventId)| self.may(*id, (seen.mount, found.at), of);
        let told: Vec<Said> = ids
            .filter(may)
            .map(|(_, id)| Said { event: about(id, found.at, of), data: fitted(object(id, found)) })
            .collect();
        told.iter().for_each(|said| self.spend(seen.mount, said.data.len()));
        told
    }
}

fn object(id: EventId, Found { seen, by, .. }: &Found) -> Map<String, Value> {
    let mut object = Map::new();
    let mut say = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    let mut path = shown(&seen.path);
    if seen.is_cut {
        path = json!(format!("{}…", path.as_str().unwrap_or_default()));
    }
    let is_program = id == EventId::ContainerExec;
    if !is_program {
        say("did", "write".into());
    }
    say("path", path);
    if !is_program {
        say("mode", permissions(seen.mode).into());
    }
    say("source", "fanotify".into());
    let Some(by) = by else { return object };
    if is_program {
        let arguments = by.arguments.strip_suffix(&[0]).unwrap_or(&by.arguments);
        let words = arguments.split(|octet| *octet == 0).filter(|_| !arguments.is_empty()).map(shown);
        say("args", words.collect());
        if by.is_cut {
            say("args_cut", true.into());
        }
    } else {
        say("name", shown(&by.name));
    }
    say("uid", id_inside(by.uid).into());
    for (key, number) in [("pid", by.pid), ("parent", by.parent)] {
        if number != 0 {
            say(key, number.into());
        }
    }
    if is_program && !fits(&object) {
        object.insert("args_cut".into(), true.into());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{MAX_DATA, SessionId};

    fn found(path: &[u8], executed: bool, written: bool) -> Found {
        let seen =
            Seen { mount: 9, process: 4000, executed, written, path: path.to_vec(), is_cut: false, mode: 0o100_755 };
        let arguments = b"x\0\0a\x1b[2J\0".to_vec();
        let by = Process { name: b"sh".to_vec(), uid: 1_000_033, pid: 40, parent: 0, arguments, is_cut: false };
        Found { seen, at: 5, by: Some(by) }
    }

    fn told(telling: &mut Telling, found: &Found) -> Vec<(EventId, Value)> {
        let of = Lessee::of(3, "10.0.0.5", 7);
        let all = telling.tell_found(found, &of).into_iter().map(|said| {
            assert!(
                said.data.len() <= MAX_DATA && said.data.iter().all(|octet| matches!(octet, b' '..=b'~')),
                "{said:?}"
            );
            assert_eq!((said.event.session, said.event.node), (SessionId(7), 3));
            (said.event.id, serde_json::from_slice(&said.data).unwrap())
        });
        all.collect()
    }

    #[test]
    fn programs_and_written_files_are_told_with_who_did_it() {
        let both = found(b"/tmp/\xff", true, true);
        let file = json!({
            "did": "write", "path": "/tmp/\\xff", "mode": "0755", "source": "fanotify", "name": "sh", "uid": 33, "pid": 40,
        });
        let args = ["x", "", "a\\x1b[2J"];
        let program = json!({"path": "/tmp/\\xff", "source": "fanotify", "args": args, "uid": 33, "pid": 40});
        let wanted = [(EventId::ContainerFile, file), (EventId::ContainerExec, program)];
        assert_eq!(told(&mut Telling::default(), &both), wanted);
        let gone = Found { by: None, ..found(b"/bin/true", true, false) };
        let wanted = json!({"path": "/bin/true", "source": "fanotify"});
        assert_eq!(told(&mut Telling::default(), &gone), [(EventId::ContainerExec, wanted)]);
        assert!(told(&mut Telling::default(), &found(b"/dev/null", false, true)).is_empty());
        let mut long = found(&[b'\x1b'; 511], true, false);
        long.by.as_mut().unwrap().arguments = vec![7; 1024];
        assert_eq!(told(&mut Telling::default(), &long)[0].1["args_cut"], true);
    }

    #[test]
    fn a_container_that_does_too_much_is_counted() {
        let mut telling = Telling::default();
        let one = found(b"/tmp/x", false, true);
        let told = (0..40_000).filter(|_| !told(&mut telling, &one).is_empty()).count();
        assert_eq!(told, 30_000);
        assert_eq!(telling.untold(2_000_000).first().map(|said| said.event.count), Some(10_000));
    }
}
