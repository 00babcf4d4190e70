//! The commands in a transcript.
//!
//! Who runs a command without a terminal sends it data, which is nothing that was typed: of `ssh host 'cat >/tmp/bot' <bot`
//! the command is told, and how much it has read. A shell without a terminal runs what it reads, line by line.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::super::status;
use super::ends::Names;
use super::gaps;
use super::replay::{Open, next_of};
use crate::record::tape::{Moved, Ran, is_elsewhere, ran};
use crate::record::transcript::{Commands, Typed, What};
use crate::relay::tape::Text;

/// Markers of a transcript that are told, and characters of one.
const GAPS: usize = 1000;
const WIDE: usize = 200;

/// What ran in channels, by the tape that was asked last.
#[derive(Default)]
pub struct Inputs {
    tape: PathBuf,
    channels: HashMap<u32, Ran>,
}

impl Inputs {
    /// What ran in a cast and what it has read, as its tape has it. Of one that cannot be read nothing is known.
    fn of(&mut self, names: &Names) -> Option<&Ran> {
        if self.tape != names.tape {
            self.tape.clone_from(&names.tape);
            self.channels = ran(&names.tape).unwrap_or_default();
        }
        u32::try_from(names.number).ok().and_then(|number| self.channels.get(&number))
    }
}

/// What was typed into a cast, or read by what ran there.
#[derive(Default)]
pub struct Told {
    /// The command itself, and what was typed.
    pub typed: Vec<Typed>,
    /// Lines that are no text.
    pub no_text: u64,
    /// Commands that are not told.
    pub more: u64,
    /// What the transcript says of itself, such as what is missing before that; the first ones.
    pub gaps: Vec<(i64, String)>,
    /// What was read from when on, as the tape has it.
    pub read: Vec<(i64, Moved)>,
    /// From when on something was read that no tape tells of.
    untold: Option<i64>,
}

/// The commands in a cast.
///
/// # Errors
/// If it cannot be read.
pub fn typed(cast: &mut Open, path: &Path, inputs: &mut Inputs) -> miette::Result<Told> {
    let names = Names::of(path);
    let header = cast.header();
    let has_terminal = header.env.contains_key("TERM") || !names.as_ref().is_some_and(Names::is_ssh);
    let is_data = header.command.is_some() && !has_terminal;
    let mut told = Told::default();
    if let Some(command) = header.command.as_ref().filter(|_| names.as_ref().is_none_or(|names| names.part == 1)) {
        // In a transcript, which is JSON, what was no UTF-8 is U+FFFD. The tape knows what it was.
        let of_tape = names.as_ref().filter(|names| names.is_ssh()).and_then(|names| inputs.of(names)?.command.clone());
        told.typed.push(Typed { at: 0, command: of_tape.unwrap_or_else(|| Text::command(command).to_string()) });
    }
    let mut commands = if has_terminal { Commands::default() } else { Commands::script() };
    let (mut first, mut last, mut octets) = (None, 0, 0);
    while let Some(moment) = next_of(cast, path)? {
        if let What::Marker(text) = &moment.what
            && told.gaps.len() < GAPS
            && !is_elsewhere(text)
        {
            told.gaps.push((moment.at, text.chars().take(WIDE).collect()));
        }
        if let What::Input(input) = moment.what {
            first.get_or_insert(moment.at);
            (last, octets) = (moment.at, octets + input.len() as u64);
            if !is_data {
                commands.push(moment.at, &input);
            }
        }
    }
    commands.end(last);
    told.no_text = commands.no_text();
    let (typed, more) = commands.finish();
    told.typed.extend(typed);
    told.more = more;
    if let Some(names) = names.filter(|names| !has_terminal && names.part == 1) {
        let first = first.unwrap_or(0);
        let read = inputs.of(&names).map_or(&[][..], |ran| &ran.read);
        told.read = read.iter().map(|read| (first, read.clone())).collect();
        told.untold = Some(first).filter(|_| told.read.is_empty() && is_data && octets > 0);
    }
    Ok(told)
}

/// The same, one a line.
///
/// # Errors
/// If it cannot be read.
pub fn commands(cast: &mut Open, path: &Path, inputs: &mut Inputs) -> miette::Result<String> {
    let told = typed(cast, path, inputs)?;
    let gaps = told.gaps.iter().map(|(at, gap)| (*at, line(*at, &gaps::of_marker(gap))));
    let mut lines: Vec<_> =
        gaps.chain(told.typed.iter().map(|typed| (typed.at, line(typed.at, &typed.command)))).collect();
    lines.sort_by_key(|(at, _)| *at);
    let mut text: String = lines.into_iter().map(|(_, line)| line).collect();
    if told.no_text > 0 {
        let lines = match told.no_text {
            1 => "1 line of its input is".to_owned(),
            lines => format!("{} lines of its input are", status::count(lines)),
        };
        text += &note(&format!("{lines} no text"));
    }
    if told.more > 0 {
        text += &note(&format!("{} more", told.more));
    }
    text.extend(told.read.iter().map(|(at, read)| input(*at, read)));
    if let Some(at) = told.untold {
        // The transcript has of what is no text something else in its place.
        text += &line(at, "(input: not told as a file; the transcript shows it)");
    }
    Ok(text)
}

fn line(at: i64, text: &str) -> String {
    format!("{:>10.3}  {text}\n", at as f64 / 1e6)
}

fn note(text: &str) -> String {
    format!("{:>10}  ({text})\n", "")
}

/// What was read from `at` on.
fn input(at: i64, read: &Moved) -> String {
    let mut told = format!("input: {} octets", status::count(read.size));
    if let Some(sha256) = &read.sha256 {
        told += &format!(", sha256 {sha256}");
    }
    if let Some(cut) = &read.cut {
        told += &format!(", kept in part: {cut}");
    }
    line(at, &format!("({told})"))
}

#[cfg(test)]
mod tests {
    use super::super::replay::open;
    use super::*;

    const STEM: &str = "20261130T025429Z-ssh-00000000000000a7";

    /// What is told of a cast, channel 3 of a connection whose tape has these lines.
    fn told(name: &str, header: &str, inputs_of: &[&str], tape: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let moments = inputs_of
            .iter()
            .enumerate()
            .map(|(at, input)| format!("[{}.5,\"i\",{}]\n", at, serde_json::to_string(input).unwrap()));
        let header = format!("{{\"version\":2,\"width\":80,\"height\":24{header}}}\n");
        std::fs::write(&path, header + &moments.collect::<String>()).unwrap();
        std::fs::write(dir.path().join(format!("{STEM}.ndjson")), tape).unwrap();
        commands(&mut open(&path).unwrap(), &path, &mut Inputs::default()).unwrap()
    }

    #[test]
    fn what_a_command_reads_is_no_command() {
        let tape = r#"{"at":1,"file-begin":{"channel":3,"file":0,"path":"cat >x","direction":"input"}}
{"at":1,"file-begin":{"channel":3,"file":1,"path":"cat >x","direction":"output"}}
{"at":1,"file-begin":{"channel":4,"file":2,"path":"y","direction":"input"}}
{"at":2,"file-end":{"file":0,"size":70000,"sha256":"ab12","kept":false},"cut":"file-too-large"}
{"at":2,"file-end":{"file":1,"size":1,"sha256":"00","kept":true}}
{"at":2,"file-end":{"file":2,"size":2,"sha256":"00","kept":true}}
"#;
        let name = format!("{STEM}-0003-0001.cast");
        let command = r#","command":"cat >x","env":{}"#;
        let binary = ["\u{7f}ELF\n", "a\nb\n"];
        let data = told(&name, command, &binary, tape);
        assert_eq!(
            data,
            "     0.000  cat >x\n     0.500  (input: 70,000 octets, sha256 ab12, kept in part: file-too-large)\n"
        );
        let no_tape = told(&name, command, &binary, "");
        assert!(no_tape.lines().count() == 2 && no_tape.contains("not told as a file"), "{no_tape}");
        // What came in the next part of it is told with the first.
        assert_eq!(told(&format!("{STEM}-0003-0002.cast"), command, &binary, tape), "");
        // With a terminal it is typed, and what is typed by Telnet is.
        let with_terminal = told(&name, r#","command":"vi","env":{"TERM":"xterm"}"#, &["ls\r"], tape);
        assert_eq!(with_terminal, "     0.000  vi\n     0.500  ls\n");
        assert_eq!(told(&name.replace("-ssh-", "-telnet-"), "", &["lx\u{7f}s\r"], ""), "     0.500  ls\n");
        assert_eq!(told("other.cast", "", &["lx\u{7f}s\r"], ""), "     0.500  ls\n");
    }

    #[test]
    fn controls_and_what_is_no_text_are_written_in_one_way() {
        let tape = r#"{"at":1,"exec":{"channel":3,"command":"echo \\x1b[2J \\xff \\\\x"}}
"#;
        let name = format!("{STEM}-0003-0001.cast");
        let command = r#","command":"echo \u001b[2J \ufffd \\x","env":{}"#;
        assert_eq!(told(&name, command, &[], tape), "     0.000  echo \\x1b[2J \\xff \\\\x\n");
        // Without the tape nobody knows which octet it was.
        assert_eq!(told(&name, command, &[], ""), "     0.000  echo \\x1b[2J \\u{fffd} \\\\x\n");
        // What is typed or read by a shell, too.
        let with_terminal = r#","env":{"TERM":"xterm"}"#;
        assert_eq!(told(&name, with_terminal, &["a\\\u{202e}\u{16}\t\r"], ""), "     0.500  a\\\\\\u{202e}\n");
        assert_eq!(told(&name, r#","env":{}"#, &["a\t\u{202e}b\n"], ""), "     0.500  a\\x09\\u{202e}b\n");
    }

    #[test]
    fn where_something_is_missing_is_told_among_the_commands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.cast");
        let text = "{\"version\":2,\"width\":80,\"height\":24}\n[1,\"i\",\"tick-11\\r\"]\n\
            [9,\"m\",\"6126 octets before this were lost: the disk took nothing\"]\n[9,\"i\",\"tick-79\\r\"]\n";
        std::fs::write(&path, text).unwrap();
        let told = commands(&mut open(&path).unwrap(), &path, &mut Inputs::default()).unwrap();
        let gap = "     9.000  (recording: 6126 octets before this were lost: the disk took nothing)\n";
        assert_eq!(told, format!("     1.000  tick-11\n{gap}     9.000  tick-79\n"));
        let told = typed(&mut open(&path).unwrap(), &path, &mut Inputs::default()).unwrap();
        assert_eq!((told.typed.len(), told.gaps.len()), (2, 1));
        // What is to be found elsewhere is not missing.
        let marker = "the input after this is not in the transcript, as it has no terminal: the tape has the file with what is kept of it";
        assert!(is_elsewhere(marker));
        std::fs::write(&path, text.replace("6126 octets before this were lost: the disk took nothing", marker))
            .unwrap();
        let told = typed(&mut open(&path).unwrap(), &path, &mut Inputs::default()).unwrap();
        assert_eq!((told.typed.len(), told.gaps.len()), (2, 0));
    }

    #[test]
    fn what_a_shell_without_a_terminal_reads_are_commands() {
        let name = format!("{STEM}-0003-0001.cast");
        let lines = ["uname -a\nls\u{0}x\n", "\u{fffd}\nid"];
        let shell = told(&name, r#","env":{}"#, &lines, "");
        assert_eq!(shell, "     0.500  uname -a\n     1.500  id\n            (2 lines of its input are no text)\n");
    }
}
