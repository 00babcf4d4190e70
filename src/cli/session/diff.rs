//! `honeyweave session diff`: what an intrusion has changed in its containers.

use std::process::ExitCode;

use super::super::{evidence, table};
use super::{Which, directory, show, unreadable};
use crate::container::inspector::{Change, How};
use crate::record::{self, By, Difference, InContainer, Window, escape};

/// Digits of a hash that are shown to people.
const DIGITS: usize = 12;

/// What of it is told.
#[derive(clap::Args, Debug)]
pub struct Diff {
    /// Which session
    #[command(flatten)]
    pub which: Which,
    /// Whatever was changed since its containers became their hosts', by whomever
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Tells what a session has changed.
pub fn run(args: &Diff) -> miette::Result<ExitCode> {
    let dir = directory(&args.which.target)?;
    let id = args.which.id;
    let found = record::difference(&dir, id, args.all).map_err(|error| unreadable(&dir, &error))?;
    let found = found.ok_or_else(|| show::unknown(id))?;
    table::put(&if args.json { evidence::pretty(&found)? } else { tell(&found) })?;
    Ok(ExitCode::SUCCESS)
}

fn tell(found: &Difference) -> String {
    let mut text: String = found.containers.iter().map(container).collect();
    if found.containers.is_empty() {
        text += "no container is known that it was in: none has rested since, so that none was listed, or it was with emulated hosts only\n";
        if let Some(host) = found.host {
            text += &format!(
                "`honeyweave container freeze {host}` has one rest, and what was changed listed; `honeyweave container diff {host}` \
                 lists that as it is, whoever changed it\n"
            );
        }
    }
    if found.more > 0 {
        text += &format!("({} more things are not told: there are too many of them)\n", found.more);
    }
    text
}

fn container(of: &InContainer) -> String {
    let name = format!("container {} of {} [{}]", of.number, of.host, escape(&of.node));
    let mut text = format!("{}\n", table::bold(&name));
    text.extend(of.windows.iter().map(window));
    if of.windows.is_empty() && !of.unlisted {
        text += "nothing was changed\n";
    }
    if of.unlisted {
        text += &format!(
            "what it changed since the container rested last is not listed yet, or is lost; `honeyweave container freeze {0}` has it listed, \
             `honeyweave container diff {0}` lists what was changed as it is, by whomever\n",
            of.number
        );
    }
    text
}

fn window(window: &Window) -> String {
    let mut text = format!("from {} to {}", window.since, window.until);
    if !window.with.is_empty() {
        let others: Vec<_> = window.with.iter().map(|id| escape(id)).collect();
        text += &format!(", or by {}, who were there at the same time", others.join(", "));
    }
    text.push('\n');
    let rows: Vec<(Option<By>, [String; 6])> =
        window.changes.iter().map(|caused| (caused.by, cells(&caused.change))).collect();
    let width = |at: usize| rows.iter().filter_map(|(_, row)| row.get(at)).map(String::len).max().unwrap_or(0);
    let [w0, w1, w2, w3, w4] = [0, 1, 2, 3, 4].map(width);
    for (by, head) in [
        (None, ""),
        (Some(By::Start), "by the container's own start, before anybody was in it:\n"),
        (Some(By::Itself), "by programs in the container that descend from no connection:\n"),
    ] {
        let of = || rows.iter().filter(|(of, _)| *of == by);
        text += match (of().next(), by) {
            (Some(_), _) => head,
            (None, None) if rows.is_empty() => "nothing was changed\n",
            (None, None) => "nothing was changed by anybody who was there\n",
            (None, Some(_)) => "",
        };
        for (_, [sign, kind, mode, owner, size, rest]) in of() {
            text += &format!("{sign:w0$} {kind:w1$}  {mode:w2$}  {owner:w3$}  {size:>w4$}  {rest}\n");
        }
    }
    for cut in &window.cut {
        text += &format!("not told: {} ({})\n", cut.path, evidence::word(&cut.why));
    }
    if window.partial {
        text += "of some files it is not known what was in them: somebody came back before they were read\n";
    }
    text
}

/// A change in columns, its hash and its path last: nobody knows how long that is.
fn cells(change: &Change) -> [String; 6] {
    let entry = &change.entry;
    let sign = match change.change {
        How::Added => "+",
        How::Changed => "~",
        How::Deleted => "-",
    };
    let hash = change.sha256.map_or_else(|| "-".to_owned(), |hash| hash.to_string());
    let hash: String = hash.chars().take(DIGITS).collect();
    let owner = format!("{}:{}", entry.uid, entry.gid);
    let rest = format!("{hash:DIGITS$}  {}", evidence::path_with_notes(change));
    [sign.into(), evidence::word(&entry.kind), String::from(entry.mode), owner, entry.size.to_string(), rest]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::inspector::{Name, Occasion, Sha256Hex};
    use crate::event::Utc;
    use crate::record::Caused;

    #[test]
    fn what_an_attacker_chose_does_nothing_to_a_terminal() {
        let change: Change = serde_json::from_value(serde_json::json!({
            "path": Name::new("/root/\u{1b}]0;owned\u{7}\n"),
            "change": "changed",
            "differs": ["mode"],
            "kind": "file",
            "size": 17,
            "allocated": 4096,
            "mode": "4755",
            "uid": 0,
            "gid": 0,
            "mtime": Utc::EPOCH,
            "ctime": Utc::EPOCH,
            "target": Name::new("\u{1b}[2J"),
            "sha256": Sha256Hex([0xab; 32]),
        }))
        .unwrap();
        let window = Window {
            since: Utc::EPOCH,
            until: Utc::EPOCH,
            occasion: Occasion::Frozen,
            listings: vec![],
            with: vec!["\u{1b}c".into()],
            partial: true,
            cut: vec![],
            changes: vec![Caused { by: None, change }],
        };
        let of = InContainer {
            container: "hw-abcdef-7".into(),
            number: 7,
            node: "\u{1b}[31m".into(),
            host: "10.0.0.1".parse().unwrap(),
            began: Utc::EPOCH,
            windows: vec![window],
            unlisted: true,
        };
        let found = Difference { session: "0".into(), host: None, containers: vec![of], more: 3 };
        let text = tell(&found);
        let plain = text.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
        assert!(plain.chars().all(|c| !c.is_control() || c == '\n'), "{plain:?}");
        assert!(
            plain.contains("~ file  4755  0:0  17  abababababab  /root/\\x1b]0;owned\\x07\\x0a -> \\x1b[2J"),
            "{plain}"
        );
        assert!(plain.contains("3 more things") && plain.contains("container diff 7"), "{plain}");
        let nobody = Difference { session: "0".into(), host: None, containers: vec![], more: 0 };
        assert!(tell(&nobody).contains("no container is known"));
        let host = "192.0.2.9".parse().ok();
        let unlisted = tell(&Difference { host, ..nobody });
        assert!(
            unlisted.contains("container freeze 192.0.2.9") && unlisted.contains("container diff 192.0.2.9"),
            "{unlisted}"
        );
    }
}
