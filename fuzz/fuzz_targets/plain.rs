//! What both sides of a connection in the clear could say: its reader keeps up whatever it is, and what it tells does not depend on
//! how the octets came in pieces.
#![no_main]

use honeyweave::relay::plain::{READ, observer};
use honeyweave::relay::tape::{Entry, Stream};
use honeyweave::service::Spoken;
use libfuzzer_sys::fuzz_target;

/// What a reader tells of a story whose pieces are at most so long, octets of one direction put together; and whether it gave up.
fn told(spoken: Spoken, within: bool, story: &[(bool, Vec<u8>)], most: usize) -> (Vec<Entry>, [Vec<u8>; 2], bool) {
    let Some(mut observer) = observer(spoken, within, Default::default()) else { return Default::default() };
    let (mut all, mut data, mut gave_up) = (Vec::new(), <[Vec<u8>; 2]>::default(), false);
    let mut told = Vec::new();
    'story: for (is_input, octets) in story {
        let from = if *is_input { Stream::Input } else { Stream::Output };
        for piece in octets.chunks(most) {
            if observer.see(from, piece, &mut told).is_err() {
                gave_up = true;
                break 'story;
            }
        }
    }
    if !gave_up {
        observer.end(&mut told);
    }
    for entry in told {
        match entry {
            Entry::Data { stream, data: more, .. } => data[usize::from(stream != Stream::Input)].extend(more),
            entry => all.push(entry),
        }
    }
    (all, data, gave_up)
}

fuzz_target!(|input: (u8, bool, u8, Vec<(bool, Vec<u8>)>)| {
    let (spoken, within, most, story) = input;
    let spoken = READ[usize::from(spoken) % READ.len()];
    let whole = told(spoken, within, &story, usize::MAX);
    let total: usize = story.iter().map(|(_, octets)| octets.len()).sum();
    // An entry for each octet at most, and what it is about.
    assert!(whole.0.len() <= 2 * total + 2, "{} entries about {total} octets", whole.0.len());
    let pieces = told(spoken, within, &story, usize::from(most) % 16 + 1);
    assert_eq!(whole.2, pieces.2, "{:?}\n{:?}", whole.0, pieces.0);
    if !whole.2 {
        assert_eq!(whole.0, pieces.0);
        assert_eq!(whole.1, pieces.1);
    }
});
