//! Modbus over TCP ("Modbus Application Protocol" and "Modbus Messaging on TCP/IP"): a controller that says what
//! it is, and takes exception to everything else.

use super::profile::Profile;
use super::say::{Turn, at};

const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_ADDRESS: u8 = 2;
const ILLEGAL_VALUE: u8 = 3;
const READ_IDENTIFICATION: u8 = 0x2b;

/// A connection.
#[derive(Default)]
pub struct Modbus;

impl Modbus {
    pub(super) fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        let Some([t0, t1, p0, p1, l0, l1, unit, function]) = at::<8>(input, 0) else { return 0 };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        // Many controllers look at the function first: what is no Modbus gets an exception from them, too.
        let is_sound = [p0, p1] == [0, 0] && (2..=254).contains(&length);
        let whole = if is_sound { 6 + length } else { input.len() };
        let Some(frame) = input.get(..whole) else { return 0 };
        turn.request(frame);
        let request = &frame[8..];
        let answer = match function {
            READ_IDENTIFICATION if is_sound => identification(profile, request),
            // Reads of coils, inputs and registers: the addresses of this controller are not those.
            1..=4 if is_sound => Err(ILLEGAL_ADDRESS),
            5 | 6 | 15 | 16 if is_sound => Err(ILLEGAL_ADDRESS),
            _ => Err(ILLEGAL_FUNCTION),
        };
        let pdu = answer.map_or_else(
            |exception| vec![function | 0x80, exception],
            |mut data| {
                data.insert(0, function);
                data
            },
        );
        turn.say([t0, t1, 0, 0]);
        turn.say((1 + pdu.len() as u16).to_be_bytes());
        turn.say([unit]);
        turn.say(pdu);
        whole
    }
}

/// The basic objects of a device identification: vendor, product code, revision.
fn identification(profile: &Profile, request: &[u8]) -> Result<Vec<u8>, u8> {
    let [14, code @ 1..=4, first, ..] = *request else { return Err(ILLEGAL_VALUE) };
    let objects = [vendor(&profile.product), &profile.product, &profile.version];
    let first = usize::from(first);
    let wanted = match code {
        4 if first >= objects.len() => return Err(ILLEGAL_ADDRESS),
        4 => first..first + 1,
        _ if first < objects.len() => first..objects.len(),
        _ => 0..objects.len(),
    };
    // Basic identification, by stream and by object; nothing follows.
    let mut answer = vec![14, code, 0x81, 0, 0, wanted.len() as u8];
    for id in wanted {
        let value = &objects[id].as_bytes()[..objects[id].len().min(64)];
        answer.extend_from_slice(&[id as u8, value.len() as u8]);
        answer.extend_from_slice(value);
    }
    Ok(answer)
}

fn vendor(product: &str) -> &'static str {
    let upper = product.to_ascii_uppercase();
    if upper.starts_with("SIMATIC") || upper.starts_with("S7") || upper.starts_with("6ES7") {
        "Siemens"
    } else if upper.starts_with("750-") {
        "WAGO"
    } else {
        "Schneider Electric"
    }
}
