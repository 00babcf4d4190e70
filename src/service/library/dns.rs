//! A name server (RFC 1035) that tells its version (RFC 4892 §2 describes the custom) and refuses everything else.

use super::profile::Profile;
use super::say::{Turn, at};

const FORMERR: u8 = 1;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;
const TXT: u16 = 16;
const CHAOS: u16 = 3;

/// Answers a query.
pub(super) fn answer(profile: &Profile, input: &[u8], turn: &mut Turn<'_>) {
    let Some([id0, id1, flags, _, ..]) = at::<12>(input, 0) else { return };
    // An answer is not answered: two servers that were made to talk would never stop.
    if flags & 0x80 != 0 {
        return;
    }
    let opcode = flags & 0x78;
    let recursion = flags & 1;
    let head = |code: u8, authority: u8, questions: u8, answers: u8| {
        [id0, id1, 0x80 | opcode | authority | recursion, code, 0, questions, 0, answers, 0, 0, 0, 0]
    };
    if opcode != 0 {
        return turn.say(head(NOTIMP, 0, 0, 0));
    }
    let Some((end, kind, class)) = question(input) else {
        return turn.say(head(FORMERR, 0, 0, 0));
    };
    let asked = &input[12..end];
    let is_version = asked[..asked.len() - 4].eq_ignore_ascii_case(b"\x07version\x04bind\0")
        || asked[..asked.len() - 4].eq_ignore_ascii_case(b"\x07version\x06server\0");
    if !(is_version && kind == TXT && class == CHAOS) {
        turn.say(head(REFUSED, 0, 1, 0));
        return turn.say(asked);
    }
    let version = profile.version.as_str();
    let parts = match (&profile.banner, profile.product.as_str()) {
        (Some(banner), _) => ["", banner.as_str()],
        (_, "dnsmasq") => ["dnsmasq-", version],
        (_, "unbound") => ["unbound ", version],
        (_, "nsd") => ["NSD ", version],
        _ => ["", version],
    };
    let length = parts.iter().map(|part| part.len()).sum::<usize>().min(255) as u8;
    turn.say(head(0, 4, 1, 1));
    turn.say(asked);
    // The name once more, TXT, CHAOS, no time to live.
    turn.say([0xc0, 12, 0, 16, 0, 3, 0, 0, 0, 0, 0, length.saturating_add(1), length]);
    let from = turn.out.len();
    parts.iter().for_each(|part| turn.say(part));
    turn.out.truncate(from + usize::from(length));
}

/// Where the only question ends, and its type and class.
fn question(input: &[u8]) -> Option<(usize, u16, u16)> {
    if at(input, 4)? != [0, 1] {
        return None;
    }
    let mut end = 12;
    loop {
        match usize::from(*input.get(end)?) {
            0 => break,
            // A pointer has nothing to point to in a question.
            length @ 1..=63 => end += 1 + length,
            _ => return None,
        }
    }
    (end - 12 < 255).then_some(())?;
    let kind = u16::from_be_bytes(at(input, end + 1)?);
    let class = u16::from_be_bytes(at(input, end + 3)?);
    Some((end + 5, kind, class))
}
