//! Transcripts, as anybody could have made them, and what is made of them for a terminal.
#![no_main]

use honeyweave::record::is_harmless;
use honeyweave::record::transcript::{Cast, Commands, Harmless, PlainText, What};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    shown(&String::from_utf8_lossy(data));
    let mut file = b"{\"version\":2,\"width\":80,\"height\":24}\n".to_vec();
    file.extend_from_slice(data);
    for file in [data, &file] {
        let Ok(mut cast) = Cast::open(file) else { continue };
        let (mut last, mut commands) = (0, Commands::default());
        while let Some(moment) = cast.next_moment().expect("it lies in memory") {
            assert!(moment.at >= last);
            last = moment.at;
            match moment.what {
                What::Output(text) => shown(&text),
                What::Input(text) => commands.push(moment.at, &text),
                What::Resize(..) | What::Marker(_) => {}
            }
        }
        let (typed, _) = commands.finish();
        assert!(typed.iter().all(|typed| typed.command.chars().all(is_harmless)));
    }
});

/// A terminal that is given what remains of `output` only draws.
fn shown(output: &str) {
    let drawn = Harmless::default().push(output);
    let mut rest = drawn.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain(before);
        let after = after.strip_prefix('[').expect("a sequence of one kind");
        let end = after.find(|c: char| !c.is_ascii_digit() && c != ';').expect("an end");
        let (sequence, next) = after.split_at(end + 1);
        assert!("ABCDEFGHdfJKLMPXm@".contains(&sequence[end..]), "{sequence:?}");
        rest = next;
    }
    plain(rest);
    let mut text = PlainText::default();
    let lines = text.push(output);
    plain(&(lines + &text.finish()));
}

fn plain(text: &str) {
    let fine = |c: char| is_harmless(c) || matches!(c, '\n' | '\r' | '\t' | '\u{8}' | '\u{fffd}');
    assert!(text.chars().all(fine), "{text:?}");
}
