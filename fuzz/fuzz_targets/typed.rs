//! What was typed into a terminal, and text that comes in pieces: neither depends on how it came, and what is made of it is
//! bounded and harmless.
#![no_main]

use honeyweave::record::is_harmless;
use honeyweave::record::transcript::{Commands, Typed, Utf8Pieces};
use libfuzzer_sys::fuzz_target;

fn typed(data: &[u8], most: usize) -> Vec<Typed> {
    let (mut commands, mut all) = (Commands::default(), Vec::new());
    for piece in data.chunks(most) {
        commands.push(0, piece);
        all.extend(commands.take());
    }
    all
}

fn text(data: &[u8], most: usize) -> String {
    let (mut pieces, mut text) = (Utf8Pieces::default(), String::new());
    data.chunks(most).for_each(|piece| pieces.push(piece, &mut text));
    pieces.finish(&mut text);
    text
}

fuzz_target!(|data: &[u8]| {
    let most = data.len() % 7 + 1;
    let whole = typed(data, usize::MAX);
    assert_eq!(whole, typed(data, most));
    for Typed { command, .. } in &whole {
        assert!(!command.is_empty() && command.chars().all(is_harmless), "{command:?}");
    }
    assert_eq!(text(data, most), String::from_utf8_lossy(data));
});
