//! What was done between two listings of a container.
//!
//! Each tells how the container differed from its image. What neither tells is as the image has it; what only one tells
//! was as the image has it in the other, unless something above it was gone, or was not the image's, by then. Where one of
//! them was cut, that it tells nothing means nothing.

use std::cmp::Ordering;

use super::listing::Listing;
use super::manifest::{Change, Cut, Differs, How, Kind, Why};
use super::name::Name;

/// What was changed after `before`, or since there was only the image, and by `after`: `was` is what there was before.
pub fn between(before: Option<&Listing>, after: &Listing) -> Vec<Change> {
    let before = before.map_or_else(|| Side::new(&[], &[]), |before| Side::new(&before.changes, &before.cut));
    compare(before, Side::new(&after.changes, &after.cut))
}

fn compare<'a>(mut before: Side<'a>, mut after: Side<'a>) -> Vec<Change> {
    let mut own = Vec::new();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return own,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => as_tree(&a.path, &b.path),
        };
        let (path, was, is) = match order {
            Ordering::Less => {
                let Some(was) = before.next() else { return own };
                (&was.path, Told::Listed(was), after.unlisted(was))
            }
            Ordering::Greater => {
                let Some(is) = after.next() else { return own };
                (&is.path, before.unlisted(is), Told::Listed(is))
            }
            Ordering::Equal => {
                let (Some(was), Some(is)) = (before.next(), after.next()) else { return own };
                (&was.path, Told::Listed(was), Told::Listed(is))
            }
        };
        own.extend(judge(path, was, is));
    }
}

/// What is known of a path in one listing.
#[derive(Clone, Copy)]
enum Told<'a> {
    /// What that tells.
    Listed(&'a Change),
    /// It is as the image has it, of which the other listing tells.
    Images(&'a Change),
    /// It is not there.
    Gone,
    /// The listing was cut where that would be.
    Unknown,
}

/// One listing, from its first path to its last, those in a directory right behind that.
struct Side<'a> {
    changes: Vec<&'a Change>,
    next: usize,
    /// A path below which nothing of the image is seen.
    hides: Option<&'a Name>,
    /// Where it was cut, those that were passed by and the one within which this is.
    cuts: Vec<&'a Name>,
    passed: usize,
    cut: Option<&'a Name>,
    /// It was cut everywhere: there was too much.
    blind: bool,
}

/// Whether `path` is within `above`.
fn is_within(path: &Name, above: &Name) -> bool {
    let root = above.as_bytes() == b"/";
    root || path.as_bytes().strip_prefix(above.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
}

impl<'a> Side<'a> {
    fn new(changes: &'a [Change], cuts: &'a [Cut]) -> Side<'a> {
        let mut changes: Vec<&Change> = changes.iter().collect();
        changes.sort_by(|a, b| as_tree(&a.path, &b.path));
        let blind = cuts.iter().any(|cut| cut.why == Why::TooManyChanges);
        let mut cuts: Vec<&Name> = cuts.iter().map(|cut| &cut.path).collect();
        cuts.sort_by(|a, b| as_tree(a, b));
        Side { changes, next: 0, hides: None, cuts, passed: 0, cut: None, blind }
    }

    fn peek(&self) -> Option<&'a Change> {
        self.changes.get(self.next).copied()
    }

    fn next(&mut self) -> Option<&'a Change> {
        let change = self.peek()?;
        self.next += 1;
        // What is within something that hides hides nothing more.
        let hides = change.change != How::Changed || change.opaque || change.entry.kind != Kind::Directory;
        if hides && !self.is_hidden(&change.path) {
            self.hides = Some(&change.path);
        }
        Some(change)
    }

    fn is_hidden(&self, path: &Name) -> bool {
        self.hides.is_some_and(|above| is_within(path, above))
    }

    /// Whether it was cut where `path` would be. It is asked for one path after the other, in their order.
    fn is_cut(&mut self, path: &Name) -> bool {
        while let Some(cut) = self.cuts.get(self.passed)
            && as_tree(cut, path) != Ordering::Greater
        {
            if !self.cut.is_some_and(|above| is_within(cut, above)) {
                self.cut = Some(cut);
            }
            self.passed += 1;
        }
        self.blind || self.cut.is_some_and(|cut| cut == path || is_within(path, cut))
    }

    /// What is known of the path of `other`, a change that only the other listing tells.
    fn unlisted(&mut self, other: &'a Change) -> Told<'a> {
        if self.is_cut(&other.path) {
            return Told::Unknown;
        }
        if other.change == How::Added || self.is_hidden(&other.path) { Told::Gone } else { Told::Images(other) }
    }
}

/// The order in which a directory is right before what is in it.
fn as_tree(a: &Name, b: &Name) -> Ordering {
    let key = |octet: &u8| if *octet == b'/' { 0 } else { *octet };
    a.as_bytes().iter().map(key).cmp(b.as_bytes().iter().map(key))
}

fn judge(path: &Name, was: Told<'_>, is: Told<'_>) -> Option<Change> {
    if matches!(was, Told::Unknown) || matches!(is, Told::Unknown) {
        return None;
    }
    let there = |told: Told<'_>| match told {
        Told::Listed(change) if change.change == How::Deleted => None,
        Told::Listed(change) => Some(change.clone()),
        Told::Images(change) => Some(as_the_image(change)),
        Told::Gone | Told::Unknown => None,
    };
    let mut own = match (there(was), there(is)) {
        (None, None) => return None,
        (None, Some(is)) => Change { change: How::Added, differs: vec![], was: None, opaque: false, ..is },
        (Some(was), None) => Change { change: How::Deleted, differs: vec![], was: None, kept: false, why: None, ..was },
        (Some(old), Some(new)) => {
            let differs = match (was, is) {
                // The listing says in what it differs from the image.
                (Told::Images(_), Told::Listed(change)) | (Told::Listed(change), Told::Images(_)) => {
                    change.differs.clone()
                }
                _ => differs(&old, &new),
            };
            let emptied = new.opaque && !old.opaque;
            if differs.is_empty() && !emptied {
                return None;
            }
            Change { change: How::Changed, differs, opaque: emptied, was: Some(old.entry), ..new }
        }
    };
    own.path = path.clone();
    Some(own)
}

/// What the image has in the place of what `change` tells.
fn as_the_image(change: &Change) -> Change {
    let was = change.was.clone();
    let is_it = change.change == How::Deleted;
    Change {
        entry: was.unwrap_or_else(|| change.entry.clone()),
        target: change.target.clone().filter(|_| is_it),
        opaque: false,
        same_as: None,
        sha256: None,
        kept: false,
        sample: false,
        why: None,
        ..change.clone()
    }
}

fn differs(old: &Change, new: &Change) -> Vec<Differs> {
    let (was, is) = (&old.entry, &new.entry);
    let same_kind = was.kind == is.kind;
    let content = match (old.sha256, new.sha256) {
        (Some(old), Some(new)) => old != new,
        // One of them was not read: nobody inside can set when anything about it last changed.
        _ => is.kind == Kind::File && (was.size, was.mtime, was.ctime) != (is.size, is.mtime, is.ctime),
    };
    let content = content || old.target != new.target || was.device != is.device;
    [
        (Differs::Kind, !same_kind),
        (Differs::Content, same_kind && content),
        (Differs::Mode, was.mode != is.mode),
        (Differs::Owner, (was.uid, was.gid) != (is.uid, is.gid)),
        // A directory's tells of what is in it, and that is told already.
        (Differs::Time, is.kind != Kind::Directory && was.mtime != is.mtime),
    ]
    .into_iter()
    .filter_map(|(differ, it_does)| it_does.then_some(differ))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::inspector::{Entry, Mode, Sha256Hex};
    use crate::event::Utc;

    fn entry(kind: Kind, size: u64) -> Entry {
        Entry {
            kind,
            size,
            allocated: 0,
            mode: Mode(0o644),
            uid: 0,
            gid: 0,
            mtime: Utc::from_micros(size as i64),
            ctime: Utc::from_micros(size as i64),
            device: None,
        }
    }

    fn change(path: &str, change: How, kind: Kind, size: u64) -> Change {
        Change {
            path: Name::new(path),
            change,
            differs: if change == How::Changed { vec![Differs::Content] } else { vec![] },
            entry: entry(kind, size),
            opaque: false,
            target: None,
            same_as: None,
            sha256: (kind == Kind::File && change != How::Deleted).then_some(Sha256Hex([size as u8; 32])),
            kept: false,
            sample: false,
            why: None,
            was: (change == How::Changed).then(|| entry(kind, 1)),
        }
    }

    fn added(path: &str, size: u64) -> Change {
        change(path, How::Added, Kind::File, size)
    }

    fn changed(path: &str, size: u64) -> Change {
        change(path, How::Changed, Kind::File, size)
    }

    fn deleted(path: &str, kind: Kind) -> Change {
        change(path, How::Deleted, kind, 1)
    }

    fn dir(path: &str, how: How) -> Change {
        change(path, how, Kind::Directory, 4096)
    }

    fn between(before: &[Change], after: &[Change]) -> Vec<Change> {
        compare(Side::new(before, &[]), Side::new(after, &[]))
    }

    /// Sign, path and in what it differs.
    fn told(before: &[Change], after: &[Change]) -> Vec<String> {
        let sign = |change: &Change| match change.change {
            How::Added => '+',
            How::Changed => '~',
            How::Deleted => '-',
        };
        between(before, after)
            .iter()
            .map(|change| {
                let differs = if change.differs.is_empty() { String::new() } else { format!(" {:?}", change.differs) };
                format!("{}{}{differs}", sign(change), change.path)
            })
            .collect()
    }

    #[test]
    fn each_is_told_what_was_done_since_the_other() {
        let first = [deleted("/etc/issue", Kind::File), changed("/etc/passwd", 7), added("/root/tool", 5)];
        assert_eq!(told(&[], &first), ["-/etc/issue", "~/etc/passwd [Content]", "+/root/tool"]);
        assert_eq!(told(&first, &first), [] as [&str; 0]);
        let mut second = first.to_vec();
        second.push(added("/root/tool2", 9));
        second[2].entry.mode = Mode(0o755);
        second[1].sha256 = Some(Sha256Hex([9; 32]));
        assert_eq!(told(&first, &second), ["~/etc/passwd [Content]", "~/root/tool [Mode]", "+/root/tool2"]);
        let own = between(&first, &second);
        assert_eq!(own[1].was.as_ref().unwrap().mode, Mode(0o644), "what it was before, not in the image");
        // All is put back.
        assert_eq!(told(&second, &[]), ["+/etc/issue", "~/etc/passwd [Content]", "-/root/tool", "-/root/tool2"]);
        let own = between(&second, &[]);
        assert_eq!((own[1].entry.size, own[1].sha256, own[1].was.as_ref().unwrap().size), (1, None, 7));
    }

    #[test]
    fn what_is_gone_with_what_was_above_it_is_told_as_that() {
        let before = [added("/srv/a", 2), changed("/srv/b", 3), deleted("/srv/c", Kind::File), added("/srv-", 4)];
        // The image's directory is removed with all that was in it.
        let removed = [added("/srv-", 4), deleted("/srv", Kind::Directory)];
        assert_eq!(told(&before, &removed), ["-/srv", "-/srv/a", "-/srv/b"]);
        // It comes back with the image's file of before.
        assert_eq!(told(&removed, &before), ["+/srv", "+/srv/a", "+/srv/b"]);
        // It is another one in its place.
        let emptied = Change { opaque: true, ..dir("/srv", How::Changed) };
        let emptied = [added("/srv-", 4), Change { differs: vec![], ..emptied }, added("/srv/b", 8)];
        assert_eq!(told(&before, &emptied), ["~/srv", "-/srv/a", "~/srv/b [Content, Time]"]);
        assert!(between(&before, &emptied)[0].opaque);
        assert_eq!(told(&emptied, &emptied), [] as [&str; 0]);
        // One of the intruder's own.
        let own = [dir("/x", How::Added), dir("/x/y", How::Added), added("/x/y/z", 1), added("/x.y", 1)];
        assert_eq!(told(&own, &[added("/x.y", 1)]), ["-/x", "-/x/y", "-/x/y/z"]);
    }

    #[test]
    fn what_was_not_read_is_judged_by_when_it_changed() {
        let before = [added("/a", 5), added("/b", 5), added("/c", 5)];
        let mut after = before.to_vec();
        after[0].sha256 = None;
        (after[1].sha256, after[1].entry.ctime) = (None, Utc::from_micros(77));
        // A file that was only touched has the same contents.
        after[2].entry.mtime = Utc::from_micros(78);
        assert_eq!(told(&before, &after), ["~/b [Content]", "~/c [Time]"]);
        // A directory's time is that of what is in it; a link that leads elsewhere is another.
        let before = [dir("/d", How::Added), change("/l", How::Added, Kind::Symlink, 3)];
        let mut after = before.to_vec();
        after[0].entry.mtime = Utc::from_micros(79);
        after[1].target = Some(Name::new("/etc/shadow"));
        assert_eq!(told(&before, &after), ["~/l [Content]"]);
        let mut other = before.to_vec();
        other[1] = added("/l", 3);
        assert_eq!(told(&before, &other), ["~/l [Kind]"]);
    }

    #[test]
    fn where_one_was_cut_nothing_is_made_of_that() {
        let cut = |path: &str, why: Why| [Cut { path: Name::new(path), why }];
        let before = [added("/a", 1), added("/flood/1", 1), added("/flood/2/x", 1), added("/flood.d", 1)];
        let after = [added("/flood/3", 1), added("/z", 1)];
        let paths = |before: &[Cut], after: &[Cut], of: (&[Change], &[Change])| -> Vec<String> {
            let own = compare(Side::new(of.0, before), Side::new(of.1, after));
            own.iter().map(|change| change.path.to_string()).collect()
        };
        let both = (&before[..], &after[..]);
        assert_eq!(paths(&[], &[], both), ["/a", "/flood/1", "/flood/2/x", "/flood/3", "/flood.d", "/z"]);
        let flood = cut("/flood", Why::TooManyEntries);
        assert_eq!(paths(&[], &flood, both), ["/a", "/flood/3", "/flood.d", "/z"]);
        assert_eq!(paths(&flood, &[], both), ["/a", "/flood/1", "/flood/2/x", "/flood.d", "/z"]);
        assert_eq!(paths(&cut("/", Why::TooManyEntries), &flood, both), ["/a", "/flood.d"]);
        // The listing ends there.
        assert_eq!(paths(&[], &cut("/flood/3", Why::TooManyChanges), both), ["/flood/3", "/z"]);
        // What both tell is told all the same.
        let mut changed = before.to_vec();
        changed[1].sha256 = Some(Sha256Hex([9; 32]));
        assert_eq!(paths(&flood, &flood, (&before, &changed)), ["/flood/1"]);
    }

    #[test]
    fn deep_trees_take_no_more_time_than_flat_ones() {
        let deep = |count: usize| -> Vec<Change> {
            let mut path = String::new();
            (0..count)
                .map(|_| {
                    path.push_str("/a");
                    dir(&path, How::Added)
                })
                .collect()
        };
        let many: Vec<Change> = (0..50_000).map(|n| added(&format!("/flood/{n:06}"), 1)).collect();
        assert_eq!(between(&[], &many).len(), 50_000);
        assert_eq!(between(&deep(2000), &[]).len(), 2000);
    }
}
