//! Topologies from what others wrote: configurations of Honeyd, and scans of nmap.
//!
//! Text in, YAML and warnings out; nothing here reads a file or looks at the machine. Both
//! sources become a `draft` (hosts, routers and the segments between them), `emit` writes
//! that in the topology language, and the outcome is checked before anybody gets it.
//! Names in a scan were chosen by whoever runs the scanned machines, so nothing of them
//! reaches a terminal or a file unquoted.

mod draft;
mod emit;
mod honeyd;
mod nmap;
mod settle;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde::Serialize;

use super::{Diagnostic, Diagnostics};
use yaml::shown;

/// Largest input that is read, in octets.
pub const MAX_INPUT: u64 = 64 << 20;
/// More warnings than this are counted only.
const MAX_WARNINGS: usize = 1000;

/// Something of the input that has no counterpart, or only a similar one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Warning {
    /// Line of the input, counted from 1; 0 if it is about the whole.
    pub line: usize,
    /// What is lost, and what to do about it.
    pub text: String,
}

/// A topology that `honeyweave check` accepts, and what it lacks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Imported {
    /// The topology.
    pub yaml: String,
    /// What was lost on the way, in the order of the input.
    pub warnings: Vec<Warning>,
}

/// What an import needs to know besides the text.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// What messages call the input.
    pub name: &'a str,
    /// Whether there is a personality of exactly this name, which is then used as it is.
    pub known: &'a dyn Fn(&str) -> bool,
}

/// Translates a configuration of Honeyd, in the language of honeyd(8).
pub fn honeyd(text: &[u8], settings: Settings<'_>) -> Result<Imported, Diagnostics> {
    let text = readable(text, settings.name, "a Honeyd configuration")?;
    let mut warnings = Warnings::default();
    let draft = honeyd::read(&text, settings, &mut warnings)?;
    finish(draft, warnings, settings)
}

/// Translates a scan that nmap wrote with `-oX`, in the format of nmap.dtd.
pub fn nmap(text: &[u8], settings: Settings<'_>) -> Result<Imported, Diagnostics> {
    let text = readable(text, settings.name, "a scan of nmap")?;
    let mut warnings = Warnings::default();
    let draft = nmap::read(&text, settings, &mut warnings)?;
    finish(draft, warnings, settings)
}

/// Whether one of the built-in personalities has this name.
pub fn is_builtin(name: &str) -> bool {
    crate::emulate::Builtin::by_name(name).is_some()
}

fn finish(draft: draft::Draft, mut warnings: Warnings, settings: Settings<'_>) -> Result<Imported, Diagnostics> {
    let yaml = emit::emit(draft, &mut warnings);
    if let Err(mistakes) = super::parse("import.yaml", &yaml) {
        let first = mistakes.errors.first();
        let why = first.map_or_else(String::new, |mistake| shown(&mistake.message));
        let message = format!("no sound topology comes of {}: {why}", shown(settings.name));
        let help = "split the input into smaller ones, and tell the developers what is special about it";
        return Err(Diagnostic::of_file(settings.name, message).help(help).into());
    }
    Ok(Imported { yaml, warnings: warnings.done() })
}

/// The text of a file, or why it is none. Latin-1 in old files is taken as far as it goes.
fn readable(bytes: &[u8], name: &str, what: &str) -> Result<String, Diagnostics> {
    let fail = |message: String, help: &str| Err(Diagnostic::of_file(name, message).help(help).into());
    let name = shown(name);
    if bytes.len() as u64 > MAX_INPUT {
        let message = format!("{name} is too large: {} octets, of which at most {MAX_INPUT} are read", bytes.len());
        return fail(message, "split it: import parts of it, and join the outcomes");
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Some(at) = bytes.iter().position(|octet| *octet == 0) {
        let line = bytes[..at].iter().filter(|octet| **octet == b'\n').count() + 1;
        return fail(format!("{name}:{line}: this is no text, it has octets of value 0"), &format!("give {what}"));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return fail(format!("{name} is empty"), &format!("give {what}"));
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// Collects warnings, each once, up to a bound.
#[derive(Default)]
struct Warnings {
    list: Vec<Warning>,
    seen: HashSet<String>,
    more: usize,
}

impl Warnings {
    /// Warns; `text` has nothing raw of the input in it.
    fn add(&mut self, line: usize, text: impl Into<String>) {
        if self.list.len() >= MAX_WARNINGS {
            self.more += 1;
            return;
        }
        self.list.push(Warning { line, text: text.into() });
    }

    /// The same, but a text that was said already is not said again for another line.
    fn once(&mut self, line: usize, text: impl Into<String>) {
        let text = text.into();
        if self.seen.len() < MAX_WARNINGS && self.seen.insert(text.clone()) {
            self.add(line, text);
        }
    }

    fn done(mut self) -> Vec<Warning> {
        self.list.sort_by_key(|warning| warning.line);
        if self.more > 0 {
            let text = format!("{} more warnings are not listed: mend these first", self.more);
            self.list.push(Warning { line: 0, text });
        }
        self.list
    }
}

/// What `name`, an operating system in the words of nmap's database, is called in a topology; and
/// whether that is more than a guess.
fn personality(name: &str, known: &dyn Fn(&str) -> bool) -> (String, bool) {
    if known(name) {
        return (name.to_owned(), true);
    }
    const WORDS: &[(&str, &str)] = &[
        ("windows", "windows"),
        ("microsoft", "windows"),
        ("xbox", "windows"),
        ("cisco", "cisco-ios"),
        ("catalyst", "cisco-ios"),
        ("linux", "linux"),
        ("android", "linux"),
        ("ubuntu", "linux"),
        ("debian", "linux"),
        ("red hat", "linux"),
        ("openwrt", "linux"),
        ("routeros", "linux"),
        ("synology", "linux"),
    ];
    let lower = name.to_lowercase();
    let found = WORDS.iter().filter_map(|(word, ours)| Some((lower.find(word)?, *ours))).min();
    match found {
        Some((_, ours)) => (ours.to_owned(), true),
        None => ("linux".to_owned(), false),
    }
}
