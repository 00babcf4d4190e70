//! Frames of HTTP/2, as both sides of a connection could send them: its reader keeps up whatever they say, what it tells does not
//! depend on how their octets came in pieces, and is not far more than those.
#![no_main]

use arbitrary::Arbitrary;
use honeyweave::relay::plain::observer;
use honeyweave::relay::tape::{Entry, Stream};
use honeyweave::service::Spoken;
use libfuzzer_sys::fuzz_target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;

#[derive(Arbitrary, Debug)]
struct Frame {
    is_input: bool,
    kind: u8,
    flags: u8,
    stream: u8,
    payload: Vec<u8>,
    /// How often it comes.
    times: u8,
}

impl Frame {
    fn octets(&self) -> Vec<u8> {
        let length = (self.payload.len() as u32).to_be_bytes();
        let head = [length[1], length[2], length[3], self.kind % 11, self.flags, 0, 0, 0, self.stream];
        [&head[..], &self.payload].concat().repeat(usize::from(self.times % 64) + 1)
    }
}

/// What is told of a story whose pieces are at most so long, and whether it was given up.
fn told(story: &[(Stream, Vec<u8>)], most: usize) -> (Vec<Entry>, bool) {
    let mut observer = observer(Spoken::Http, false, Default::default()).expect("there is one");
    let mut told = Vec::new();
    for (from, octets) in story {
        for piece in octets.chunks(most) {
            if observer.see(*from, piece, &mut told).is_err() {
                return (told, true);
            }
        }
    }
    observer.end(&mut told);
    (told, false)
}

fuzz_target!(|input: (u8, Vec<Frame>)| {
    let (most, frames) = input;
    let settings = Frame { is_input: true, kind: SETTINGS, flags: 0, stream: 0, payload: Vec::new(), times: 0 };
    let mut story = vec![(Stream::Input, [PREFACE, &settings.octets()].concat()), (Stream::Output, settings.octets())];
    story.extend(frames.iter().map(|frame| (if frame.is_input { Stream::Input } else { Stream::Output }, frame.octets())));
    let whole = told(&story, usize::MAX);
    let came: usize = story.iter().map(|(_, octets)| octets.len()).sum();
    let texts = whole.0.iter().map(|entry| match entry {
        Entry::Http { method, path, host, agent, .. } => {
            [method, path, host, agent].iter().map(|text| text.as_str().len()).sum::<usize>()
        }
        _ => 0,
    });
    let size: usize = texts.sum();
    assert!(size <= (1 << 20) + 128 * came, "{size} octets of {came}");
    assert_eq!(whole, told(&story, usize::from(most) % 16 + 1));
});
