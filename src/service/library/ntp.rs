//! A time server (RFC 5905) whose clock always agrees with whoever asks: services read no clock.

use super::profile::Profile;
use super::say::{Turn, at};

/// Answers a client (mode 3) or a control message (mode 6, RFC 9327). Mode 7, which lists clients, is never
/// answered: it is what amplifiers are made of.
pub(super) fn answer(profile: &Profile, input: &[u8], turn: &mut Turn<'_>) {
    let Some(first) = input.first() else { return };
    let (version, mode) = (first >> 3 & 7, first & 7);
    match mode {
        3 if input.len() >= 48 && (1..=4).contains(&version) => client(version, input, turn),
        6 if input.len() >= 12 => control(profile, input, turn),
        _ => {}
    }
}

fn client(version: u8, input: &[u8], turn: &mut Turn<'_>) {
    let poll = input[2];
    let Some(sent) = at::<8>(input, 40) else { return };
    let [a, b, ..] = turn.caller.octets::<8>(5);
    // Half a millisecond away in each direction, set some minutes ago by a primary server.
    let time = u64::from_be_bytes(sent);
    let received = time.wrapping_add((1 << 21) + (u64::from(a) << 13));
    let told = received.wrapping_add((1 << 16) + (u64::from(b) << 8));
    let set = received.wrapping_sub((300 + u64::from(a)) << 32);
    turn.say([version << 3 | 4, 2, poll, 0xe7]);
    // Root delay and dispersion of some milliseconds, and the address of the server above (192.53.103.108).
    turn.say([0, 0, 2, a, 0, 0, 1, b, 192, 53, 103, 108]);
    for stamp in [set, time, received, told] {
        turn.say(stamp.to_be_bytes());
    }
}

fn control(profile: &Profile, input: &[u8], turn: &mut Turn<'_>) {
    let Some([first, operation, s0, s1]) = at(input, 0) else { return };
    // Only "read variables" of the system, and no response.
    if operation != 2 {
        return;
    }
    let (open, close) = ("version=\"", "\"");
    let room = (3 * input.len()).saturating_sub(12 + open.len() + close.len() + profile.product.len() + 1);
    let version = &profile.version[..profile.version.len().min(room.min(40))];
    let length = open.len() + profile.product.len() + 1 + version.len() + close.len();
    turn.say([first, 0x80 | operation, s0, s1, 0x06, 0x15, 0, 0, 0, 0]);
    turn.say((length as u16).to_be_bytes());
    for part in [open, &profile.product, " ", version, close] {
        turn.say(part);
    }
}
