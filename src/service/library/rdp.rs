//! RDP up to TLS: the X.224 connection request and its answer (MS-RDPBCGR 2.2.1.1 and 2.2.1.2).

use super::profile::Profile;
use super::say::{Login, Turn, at};

const REQUEST: u8 = 0xe0;
const CONFIRM: u8 = 0xd0;
const PROTOCOL_SSL: u32 = 1;
const PROTOCOL_HYBRID: u32 = 2;
/// What a server since Windows 8 can do besides.
const FLAGS: u8 = 0x1f;

/// A connection.
#[derive(Default)]
pub struct Rdp;

impl Rdp {
    pub(super) fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        let Some([version, _, a, b]) = at(input, 0) else { return 0 };
        let length = usize::from(u16::from_be_bytes([a, b]));
        // TPKT (RFC 1006 §6); what follows a confirmed request is TLS, which is not spoken here.
        if version != 3 || !(11..=1024).contains(&length) {
            turn.close = true;
            return input.len();
        }
        let Some(packet) = input.get(..length) else { return 0 };
        if packet[5] != REQUEST {
            turn.close = true;
            return length;
        }
        let (cookie, negotiation) = parts(&packet[11..]);
        if let Some(user) = cookie {
            turn.login(&Login { method: "mstshash", user: Some(user), ..Login::default() });
        }
        let wanted = negotiation.map(u32::from_le_bytes);
        let source = if profile.is("xrdp") { [0, 0] } else { [0x12, 0x34] };
        let mut confirm = vec![CONFIRM, 0, 0, source[0], source[1], 0];
        match wanted {
            Some(wanted) if wanted & (PROTOCOL_HYBRID | PROTOCOL_SSL) != 0 => {
                let chosen = if wanted & PROTOCOL_HYBRID != 0 && !profile.is("xrdp") { 2 } else { 1 };
                let flags = if profile.is("xrdp") { 1 } else { FLAGS };
                confirm.extend_from_slice(&[2, flags, 8, 0, chosen, 0, 0, 0]);
            }
            // HYBRID_REQUIRED_BY_SERVER: whoever wants no TLS gets no session.
            Some(_) if !profile.is("xrdp") => confirm.extend_from_slice(&[3, 0, 8, 0, 5, 0, 0, 0]),
            _ => {}
        }
        turn.say([3, 0, 0, (5 + confirm.len()) as u8, confirm.len() as u8]);
        turn.say(confirm);
        length
    }
}

/// The user's name of the cookie, and the protocols of the negotiation request.
fn parts(rest: &[u8]) -> (Option<&[u8]>, Option<[u8; 4]>) {
    let end = rest.windows(2).position(|pair| pair == b"\r\n");
    let (cookie, rest) = end.map_or((&[][..], rest), |end| (&rest[..end], &rest[end + 2..]));
    let user = cookie.strip_prefix(b"Cookie: mstshash=");
    let negotiation = if rest.first() == Some(&1) { at(rest, 4) } else { None };
    (user, negotiation)
}
