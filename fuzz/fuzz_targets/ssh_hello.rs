//! How an SSH client introduces itself: whatever comes in its place is shown, and whole lists of algorithms have a
//! fingerprint.
#![no_main]

use arbitrary::Arbitrary;
use honeyweave::relay::ssh::testing::introduction;
use honeyweave::relay::tape::{Entry, Text};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input {
    Raw(Vec<u8>),
    /// A line, and a packet whose lengths are right.
    Made {
        line: Vec<u8>,
        kind: Option<u8>,
        lists: Vec<Vec<u8>>,
        padding: u8,
        behind: Vec<u8>,
    },
}

const KEXINIT: u8 = 20;

fuzz_target!(|input: (Input, u8)| {
    let (input, most) = input;
    let octets = match &input {
        Input::Raw(octets) => octets.clone(),
        Input::Made { line, kind, lists, padding, behind } => {
            let mut payload = vec![kind.unwrap_or(KEXINIT)];
            payload.extend([7; 16]);
            for list in lists {
                payload.extend((list.len() as u32).to_be_bytes());
                payload.extend(list);
            }
            let mut octets = [line, &b"\r\n"[..]].concat();
            octets.extend((payload.len() as u32 + 1 + u32::from(*padding)).to_be_bytes());
            octets.push(*padding);
            octets.extend(payload);
            octets.resize(octets.len() + usize::from(*padding), 0);
            octets.extend(behind);
            octets
        }
    };
    let whole = introduction([&octets[..]]);
    assert_eq!(whole, introduction(octets.chunks(usize::from(most) + 1)));
    let Entry::Hello { banner, kex, hassh, .. } = whole else { panic!("{whole:?}") };
    assert!(hassh.is_empty() || (hassh.len() == 32 && hassh.bytes().all(|digit| digit.is_ascii_hexdigit())));
    if let Input::Made { line, kind: None, lists, .. } = &input
        && !line.contains(&b'\n')
        && lists.len() >= 8
        && octets.len() < 30_000
    {
        assert_eq!((banner, kex), (Text::new(line), Text::new(&lists[0])));
        assert!(!hassh.is_empty());
    }
});
