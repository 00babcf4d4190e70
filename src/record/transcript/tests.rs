use std::fs::{self, File};
use std::io::BufReader;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::event::Utc;
use crate::record::is_harmless;

fn at(micros: i64) -> Utc {
    Utc::from_micros(1_800_000_000_000_000 + micros)
}

fn terminal() -> Terminal {
    Terminal { width: 80, height: 24, command: None, env: [("TERM".into(), "xterm\u{1b}[2J".into())].into() }
}

fn parts(dir: &std::path::Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn moments(path: &std::path::Path) -> Vec<Moment> {
    let mut cast = Cast::open(BufReader::new(File::open(path).unwrap())).unwrap();
    let moments = std::iter::from_fn(|| cast.next_moment().unwrap()).collect();
    assert_eq!(cast.skipped(), 0);
    moments
}

fn shown(moments: &[Moment]) -> String {
    let output = |moment: &Moment| match &moment.what {
        What::Output(text) => Some(text.clone()),
        _ => None,
    };
    moments.iter().filter_map(output).collect()
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut cast = Transcript::create(dir.path(), "ssh-1", terminal(), TranscriptLimits::default(), at(0)).unwrap();
    cast.output(at(250_000), b"$ \x1b[1mcaf\xc3");
    cast.input(at(300_000), b"i");
    cast.output(at(400_000), b"\xa9\x00\xff");
    cast.resize(at(500_000), 132, 43);
    // The clock is set back, and time goes on.
    cast.output(at(-9_000_000), "\u{202e}\u{9b}x".as_bytes());
    cast.output(at(86_400_000_001), b"\xe2\x82");
    let stats = cast.finish(at(86_400_000_002)).unwrap();
    let path = dir.path().join("ssh-1-0001.cast");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(stats, TranscriptStats { octets: 22, lost: 0, written: text.len() as u64, parts: 1 });
    assert!(text.chars().all(|c| c == '\n' || is_harmless(c)), "{text:?}");
    let what = [
        (250_000, What::Output("$ \u{1b}[1mcaf".into())),
        (300_000, What::Input("i".into())),
        (400_000, What::Output("\u{e9}\0\u{fffd}".into())),
        (500_000, What::Resize(132, 43)),
        (500_000, What::Output("\u{202e}\u{9b}x".into())),
        (86_400_000_002, What::Output("\u{fffd}".into())),
    ];
    assert_eq!(moments(&path), what.map(|(at, what)| Moment { at, what }));
    let cast = Cast::open(BufReader::new(File::open(&path).unwrap())).unwrap();
    assert_eq!(cast.header().env["TERM"], "xterm\u{1b}[2J");
    assert_eq!((cast.header().width, cast.header().timestamp), (80, Some(1_800_000_000.0)));
    // Nobody's cast is written over.
    assert!(Transcript::create(dir.path(), "ssh-1", terminal(), TranscriptLimits::default(), at(0)).is_err());
}

#[test]
fn a_long_transcript_goes_on_in_the_next_cast_and_counts_what_is_too_much() {
    let dir = tempfile::tempdir().unwrap();
    let limits = TranscriptLimits { part_octets: 200_000, total_octets: 1_000_000 };
    let mut cast = Transcript::create(dir.path(), "x", terminal(), limits, at(0)).unwrap();
    let line = [b'a'; 1000];
    for number in 0..2000 {
        cast.output(at(number * 1_000_000), &line);
        if number == 100 {
            cast.resize(at(number * 1_000_000), 100, 50);
        }
    }
    let stats = cast.finish(at(3_000_000_000)).unwrap();
    assert_eq!(stats.octets, 2_000_000);
    assert!((800_000..1_200_000).contains(&stats.lost), "{stats:?}");
    assert!((1_000_000..1_300_000).contains(&stats.written), "{stats:?}");
    let paths = parts(dir.path());
    assert_eq!(paths.len(), stats.parts as usize);
    assert!(paths.len() > 2, "{paths:?}");
    let all: Vec<Vec<Moment>> = paths.iter().map(|path| moments(path)).collect();
    let octets: usize = all.iter().map(|moments| shown(moments).len()).sum();
    assert_eq!(octets as u64 + stats.lost, stats.octets);
    for moments in &all[1..] {
        assert!(moments[0].at < 1_000_000, "each begins at its own beginning: {:?}", moments[0].at);
    }
    let second = Cast::open(BufReader::new(File::open(&paths[1]).unwrap())).unwrap();
    assert_eq!((second.header().width, second.header().height), (100, 50));
    let last = &all[all.len() - 1].last().unwrap().what;
    let told = format!("{} octets after this are not recorded: the transcript is full", stats.lost);
    assert_eq!(last, &What::Marker(told));
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let dir = tempfile::tempdir().unwrap();
    let limits = TranscriptLimits { part_octets: 1 << 20, total_octets: 4 << 20 };
    let mut cast = Transcript::create(dir.path(), "x", terminal(), limits, at(0)).unwrap();
    let piece = vec![0x1b; 8 << 20];
    for number in 0..8 {
        cast.output(at(number), &piece);
        assert!(cast.lines.capacity() < 1 << 20, "{}", cast.lines.capacity());
    }
    assert_eq!(cast.finish(at(99)).unwrap().octets, 64 << 20);
}

#[test]
fn where_the_directory_is_gone_what_is_lost_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let limits = TranscriptLimits { part_octets: 1, total_octets: 1 << 20 };
    let mut cast = Transcript::create(&dir.path().join(""), "x", terminal(), limits, at(0)).unwrap();
    cast.output(at(1), b"first");
    cast.flush().unwrap();
    let aside = dir.path().with_extension("aside");
    fs::rename(dir.path(), &aside).unwrap();
    cast.output(at(2), b"second");
    assert_eq!(cast.stats().lost, 6);
    fs::rename(&aside, dir.path()).unwrap();
    cast.output(at(3), b"third");
    assert_eq!(cast.finish(at(4)).unwrap().lost, 6);
    let all: Vec<Moment> = parts(dir.path()).iter().flat_map(|path| moments(path)).collect();
    assert_eq!(shown(&all), "firstthird");
    let third = all.iter().position(|moment| moment.what == What::Output("third".into())).unwrap();
    assert!(matches!(all[third - 1].what, What::Marker(_)), "it stands before what came next: {all:?}");
    let told = What::Marker("6 octets before this were lost: the disk took nothing".into());
    assert!(all.iter().any(|moment| moment.what == told), "{all:?}");
}

#[test]
fn what_is_missing_is_told_where_it_is_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let limits = TranscriptLimits::default();
    let mut cast = Transcript::create(dir.path(), "x", terminal(), limits, at(0)).unwrap();
    cast.output(at(1), b"before");
    cast.skip(100, Missing::Share);
    cast.skip(7, Missing::Disk);
    cast.skip(20, Missing::Share);
    cast.output(at(3), b"after");
    cast.flush().unwrap();
    cast.skip(1, Missing::Scarce);
    let stats = cast.finish(at(4)).unwrap();
    assert_eq!((stats.octets, stats.lost), (139, 128));
    let what: Vec<What> = moments(&dir.path().join("x-0001.cast")).into_iter().map(|moment| moment.what).collect();
    let marker = |text: &str| What::Marker(text.into());
    let expected = [
        What::Output("before".into()),
        marker("7 octets before this were lost: the disk took nothing"),
        marker("120 octets before this were lost: the session's recordings had as much as they may"),
        What::Output("after".into()),
        marker("1 octets before this were lost: the disk was nearly full"),
    ];
    assert_eq!(what, expected);
}

#[test]
fn what_is_no_event_is_skipped_and_what_is_no_cast_refused() {
    let open = |text: &str| Cast::open(std::io::Cursor::new(text.as_bytes().to_vec()));
    for (text, error) in [
        ("", "its first line is no header"),
        ("[1,\"o\",\"x\"]\n", "its first line is no header"),
        ("{\"version\":2}\n", "its first line is no header"),
        ("{\"version\":2,\"width\":99999999,\"height\":1}\n", "its first line is no header"),
        ("{\"version\":3,\"term\":{\"cols\":80}}\n", "version 3"),
    ] {
        let told = open(text).unwrap_err().to_string();
        assert!(told.contains(error), "{told}");
    }
    let long = "x".repeat(3 << 20);
    let text = format!(
        "{{\"version\":2,\"width\":80,\"height\":24}}\n\n[1,\"o\",\"a\"]\nnonsense\n[-1,\"o\",\"b\"]\n[1e300,\"o\",\"c\"]\n\
         [2,\"o\",\"{long}\"]\n[3,\"q\",\"d\"]\n[0.5,\"o\",\"e\"]\n[4,\"r\",\"5\"]\n[4,\"o\",\"\\ud800\"]\n[5,\"o\",\"f\",1]\n[6,\"o\",\"g\"]\n[7,\"o\""
    );
    let mut cast = open(&text).unwrap();
    let all: Vec<Moment> = std::iter::from_fn(|| cast.next_moment().unwrap()).collect();
    let times: Vec<i64> = all.iter().map(|moment| moment.at).collect();
    assert_eq!((shown(&all).as_str(), times), ("aeg", vec![1_000_000, 1_000_000, 6_000_000]));
    assert_eq!(cast.skipped(), 9);
}

#[test]
fn one_that_is_being_written_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let write = |text: &str| {
        use std::io::Write;
        File::options().create(true).append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    write("{\"version\":2,\"width\":80,\"height\":24}\n[1,\"o\",");
    let mut cast = Cast::open(BufReader::new(File::open(&path).unwrap())).unwrap();
    assert_eq!(cast.next_moment().unwrap(), None);
    write("\"a\"]\n[2,\"o\",\"b\"]\n");
    assert_eq!(cast.next_moment().unwrap().unwrap().what, What::Output("a".into()));
    assert_eq!(cast.next_moment().unwrap().unwrap().what, What::Output("b".into()));
    assert_eq!(cast.next_moment().unwrap(), None);
}

fn plain(output: &str) -> String {
    let mut text = PlainText::default();
    let lines = text.push(output);
    lines + &text.finish()
}

#[test]
fn output_leaves_text() {
    for (output, text) in [
        ("a\r\nb\r\n", "a\nb\n"),
        ("\u{1b}]0;title\u{7}\u{1b}[01;32mroot@host\u{1b}[0m:~# id\r\n", "root@host:~# id\n"),
        // A typing error, as a shell corrects it.
        ("$ lss\u{8}\u{1b}[K\u{8} \u{8}s /\r\n", "$ ls /\n"),
        ("10%\r50%\r100%\n", "100%\n"),
        ("abc\u{1b}[2D\u{1b}[1P!\n", "a!\n"),
        ("ac\u{8}\u{1b}[1@b\n", "abc\n"),
        ("a\tb\n", "a       b\n"),
        ("\u{1b}P$q\"p\u{1b}\\\u{1b}_x\u{1b}\\\u{1b}^y\u{1b}\\z", "z\n"),
        ("\u{9b}2J\u{202e}\u{0}\u{7}t", "2Jt\n"),
        ("\u{1b}[99999999999999999C\u{1b}[5Gx", "    x\n"),
        ("", ""),
    ] {
        assert_eq!(plain(output), text, "{output:?}");
    }
}

#[test]
fn a_line_without_end_becomes_several() {
    let text = plain(&"x".repeat(100_000));
    assert_eq!(text.lines().map(str::len).max(), Some(4096));
    assert_eq!(text.matches('x').count(), 100_000);
    let far = plain(&"\u{1b}[65535C\u{1b}[65535@x".repeat(100));
    assert!(far.len() < 1 << 20, "{}", far.len());
}

fn typed(input: &str) -> Vec<String> {
    let mut commands = Commands::default();
    commands.push(5, input);
    let (typed, more) = commands.finish();
    assert_eq!(more, 0);
    typed.into_iter().inspect(|typed| assert_eq!(typed.at, 5)).map(|typed| typed.command).collect()
}

#[test]
fn keys_make_commands() {
    for (keys, commands) in [
        ("id\r  \runame -a\n", &["id", "uname -a"][..]),
        ("lss\u{7f}\u{7f}s /\r", &["ls /"]),
        ("wget x\u{3}curl y\r", &["curl y"]),
        ("rm -rf /\u{17}/tmp\u{15}echo a b\u{17}c\r", &["echo a c"]),
        ("bc\u{1b}[D\u{1b}[Da\u{5}d\u{1}_\r", &["_abcd"]),
        ("ab\u{2}\u{b}c\u{6}\r", &["ac"]),
        ("\u{1b}[200~echo pasted\u{1b}[201~\r", &["echo pasted"]),
        ("\u{1b}]0;x\u{7}a\tb\u{202e}\r", &["a\\x09b\\u{202e}"]),
        ("never entered", &[]),
    ] {
        assert_eq!(typed(keys), commands, "{keys:?}");
    }
    assert_eq!(typed(&format!("{}\r", "x".repeat(100_000)))[0].len(), 4096);
    let mut commands = Commands::default();
    for _ in 0..10_010 {
        commands.push(0, "x\r");
    }
    assert_eq!(commands.finish().1, 10);
}

#[test]
fn no_piece_hides_the_end_of_a_line() {
    let input: &[u8] = b"wget x\xdc\x8a\n\x8a\r\xe2\x82id\r\xf0\x9f\x98\x80\r";
    for size in [1, 2, 3, 7, 8, 100] {
        let mut commands = Commands::default();
        input.chunks(size).for_each(|piece| commands.push(0, piece));
        let typed: Vec<String> = commands.finish().0.into_iter().map(|typed| typed.command).collect();
        assert_eq!(typed, ["wget x\\u{70a}", "\\u{fffd}", "\\u{fffd}id", "\\u{1f600}"], "in pieces of {size}");
    }
}

#[test]
fn a_replay_only_draws() {
    for (output, drawn) in [
        ("a\r\n\tb\u{8}", "a\r\n\tb\u{8}"),
        ("\u{1b}[1;31mred\u{1b}[m", "\u{1b}[1;31mred\u{1b}[0m"),
        ("\u{1b}[38;5;196m\u{1b}[48;2;1;2;999mx", "\u{1b}[38;5;196m\u{1b}[48;2;1;2;255mx"),
        ("\u{1b}[38:5:196mx", "\u{1b}[38;5;196mx"),
        // Hidden and blinking text is shown as any other.
        ("\u{1b}[8msecret\u{1b}[5;1mx", "secret\u{1b}[1mx"),
        ("\u{1b}[2J\u{1b}[H\u{1b}[5;99999Hx\u{1b}[K", "\u{1b}[2J\u{1b}[0H\u{1b}[5;999Hx\u{1b}[0K"),
        // What is beyond the screen stays.
        ("\u{1b}[3J", ""),
        // Titles, the clipboard, links; queries; modes; sets of characters; a reset; programmed keys.
        ("\u{1b}]0;x\u{7}\u{1b}]52;c;eA==\u{1b}\\\u{1b}]8;;http://x\u{7}y", "y"),
        ("\u{1b}[c\u{1b}[6n\u{1b}[>0q\u{1b}[?1049h\u{1b}[?1000h\u{1b}[21t\u{1b}[=1u\u{5}", ""),
        ("\u{1b}(0\u{e}qqq\u{f}\u{1b}c\u{1b}#8\u{1b}%G\u{1b}=", "qqq"),
        ("\u{1b}P+q544e\u{1b}\\\u{1b}_Ga=T;x\u{1b}\\\u{1b}^x\u{1b}\\\u{1b}Xx\u{1b}\\.", "."),
        ("\u{1b}[20;20r\u{1b}[!p\u{1b}[4h\u{1b}[100b", ""),
        ("\u{9d}0;x\u{9c}\u{202e}\u{200b}\u{7}", "0;x??"),
        ("\u{1b}[1\u{1b}[1mx", "\u{1b}[1mx"),
    ] {
        assert_eq!(Harmless::default().push(output), drawn, "{output:?}");
    }
}

/// Whether a terminal that is given `text` only draws.
fn only_draws(text: &str) -> bool {
    let sequence = regex::Regex::new(r"\x1b\[[0-9;]*[ABCDEFGHdfJKLMPXm@]").unwrap();
    let rest = sequence.replace_all(text, "");
    rest.chars().all(|c| matches!(c, '\n' | '\r' | '\t' | '\u{8}' | char::REPLACEMENT_CHARACTER) || is_harmless(c))
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<Vec<u8>>(),
        "\\PC{0,8}".prop_map(String::into_bytes),
        prop::sample::select(vec![
            "\u{1b}[", "\u{1b}]", "\u{1b}P", ";", "\u{9b}", "\u{7}", "38;5", "m", "J", "\u{1b}", "?", "\r", "\n"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn pieces_of_utf8_make_what_the_whole_makes(octets in hostile(), cuts in prop::collection::vec(0..200usize, 0..20)) {
        let mut pieces = Utf8Pieces::default();
        let (mut text, mut from) = (String::new(), 0);
        for cut in cuts {
            let to = (from + cut).min(octets.len());
            pieces.push(&octets[from..to], &mut text);
            from = to;
        }
        pieces.push(&octets[from..], &mut text);
        pieces.finish(&mut text);
        prop_assert_eq!(text, String::from_utf8_lossy(&octets));
    }

    #[test]
    fn any_transcript_is_read_back(pieces in prop::collection::vec((0..4u8, -5_000_000..90_000_000_000i64, hostile()), 0..30), part in 1..5000u64) {
        let dir = tempfile::tempdir().unwrap();
        let limits = TranscriptLimits { part_octets: part, total_octets: 1 << 30 };
        let mut cast = Transcript::create(dir.path(), "x", terminal(), limits, at(0)).unwrap();
        let (mut output, mut input) = (Vec::new(), Vec::new());
        for (kind, time, octets) in &pieces {
            match kind {
                0 => { cast.output(at(*time), octets); output.extend_from_slice(octets); }
                1 => { cast.input(at(*time), octets); input.extend_from_slice(octets); }
                2 => cast.resize(at(*time), *time as u16, 1),
                _ => cast.flush().unwrap(),
            }
        }
        let stats = cast.finish(at(0)).unwrap();
        prop_assert_eq!((stats.octets, stats.lost), ((output.len() + input.len()) as u64, 0));
        let (mut read_output, mut read_input) = (String::new(), String::new());
        for path in parts(dir.path()) {
            let all = moments(&path);
            prop_assert!(all.windows(2).all(|pair| pair[0].at <= pair[1].at));
            for moment in all {
                match moment.what {
                    What::Output(text) => read_output += &text,
                    What::Input(text) => read_input += &text,
                    _ => {}
                }
            }
        }
        prop_assert_eq!(read_output, String::from_utf8_lossy(&output));
        prop_assert_eq!(read_input, String::from_utf8_lossy(&input));
    }

    #[test]
    fn nothing_that_is_shown_does_more_than_draw(octets in hostile()) {
        let output = String::from_utf8_lossy(&octets);
        let drawn = Harmless::default().push(&output);
        prop_assert!(only_draws(&drawn), "{:?}", drawn);
        let text = plain(&output);
        prop_assert!(text.chars().all(|c| c == '\n' || c == char::REPLACEMENT_CHARACTER || is_harmless(c)), "{:?}", text);
        for command in typed(&output) {
            prop_assert!(command.chars().all(is_harmless), "{:?}", command);
        }
    }

    #[test]
    fn any_file_is_read_or_refused(octets in hostile(), lines in prop::collection::vec(hostile(), 0..5)) {
        let _ = Cast::open(&octets[..]).map_err(|error| error.to_string());
        let mut file = b"{\"version\":2,\"width\":80,\"height\":24}\n".to_vec();
        for line in lines {
            file.extend(b"[1,\"o\",\"");
            file.extend(line);
            file.extend(b"\"]\n");
        }
        let mut cast = Cast::open(&file[..]).unwrap();
        while cast.next_moment().unwrap().is_some() {}
    }
}

/// What a shell without a terminal reads is not edited, and what is no text in it is counted.
#[test]
fn lines_of_a_shell_without_a_terminal() {
    let long = "a".repeat(5000);
    let input = [
        b"uname -a\r\n\n  echo '\xc3\xbc\x09x'\n".as_slice(),
        b"\x7fELF\x02\x01\x00\n\xff\xfe\nls\x7f\x7fid\n",
        long.as_bytes(),
        b"\n",
        &[b'b'; 70_000],
        b"\x01\nwhoami",
    ]
    .concat();
    for piece in [1, 7, usize::MAX] {
        let mut commands = Commands::script();
        for part in input.chunks(piece.min(input.len())) {
            commands.push(5, part);
        }
        assert_eq!(commands.no_text(), 4, "{piece}");
        commands.end(6);
        let (typed, more) = commands.finish();
        let typed: Vec<(i64, &str)> = typed.iter().map(|typed| (typed.at, typed.command.as_str())).collect();
        let cut = format!("{}…", "a".repeat(4096));
        assert_eq!(typed, [(5, "uname -a"), (5, "echo 'ü\\x09x'"), (5, &cut), (6, "whoami")]);
        assert_eq!(more, 0);
    }
}
