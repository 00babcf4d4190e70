//! A telephone exchange (RFC 3261): OPTIONS are answered, everybody else is asked for a password (§22) and
//! turned away.

use super::profile::Profile;
use super::say::{Login, Turn, line, octets, word};

/// Headers that are looked at.
const MAX_HEADERS: usize = 40;

/// What of a request comes back in its answer (§8.2.6), and its credentials.
#[derive(Default)]
struct Request<'a> {
    line: &'a [u8],
    method: &'a [u8],
    via: &'a [u8],
    from: &'a [u8],
    to: &'a [u8],
    call: &'a [u8],
    sequence: &'a [u8],
    /// The header with credentials, and its value.
    credentials: Option<(&'a [u8], &'a [u8])>,
}

/// Answers a request.
pub(super) fn answer(profile: &Profile, input: &[u8], turn: &mut Turn<'_>) {
    let Some(request) = read(input) else { return };
    let status = match (request.method, request.credentials) {
        (b"ACK" | b"CANCEL", _) => return,
        (b"OPTIONS", _) => "200 OK",
        (_, Some((header, credentials))) => {
            let response = parameter(credentials, b"response").map(octets);
            turn.login(&Login {
                method: "SIP digest",
                user: parameter(credentials, b"username"),
                realm: parameter(credentials, b"realm"),
                response: response.as_deref(),
                ..Login::default()
            });
            // All that the digest was made of, under the name by which it is known as credentials.
            turn.request(&[request.line, header].join(&b"\r\n"[..]));
            "403 Forbidden"
        }
        (b"REGISTER" | b"INVITE" | b"SUBSCRIBE" | b"MESSAGE", None) => "401 Unauthorized",
        _ => "405 Method Not Allowed",
    };
    turn.say("SIP/2.0 ");
    turn.say(status);
    for (name, value) in [("Via", request.via), ("From", request.from), ("To", request.to)] {
        turn.say("\r\n");
        turn.say(name);
        turn.say(": ");
        turn.say(value);
    }
    if !request.to.windows(5).any(|text| text == b";tag=") {
        turn.say(";tag=as");
        for octet in turn.caller.octets::<4>(6) {
            turn.say([b"0123456789abcdef"[usize::from(octet >> 4)], b"0123456789abcdef"[usize::from(octet & 15)]]);
        }
    }
    turn.say("\r\nCall-ID: ");
    turn.say(request.call);
    turn.say("\r\nCSeq: ");
    turn.say(request.sequence);
    turn.say("\r\nServer: ");
    match (&profile.banner, profile.product.as_str()) {
        (Some(banner), _) => turn.say(banner),
        (_, "opensips") => ["OpenSIPS (", &profile.version, " (x86_64/linux))"].iter().for_each(|part| turn.say(part)),
        _ => ["Asterisk PBX ", &profile.version].iter().for_each(|part| turn.say(part)),
    }
    if status.starts_with("401") {
        turn.say("\r\nWWW-Authenticate: Digest algorithm=MD5, realm=\"asterisk\", nonce=\"");
        for octet in turn.caller.octets::<4>(7) {
            turn.say([b"0123456789abcdef"[usize::from(octet >> 4)], b"0123456789abcdef"[usize::from(octet & 15)]]);
        }
        turn.say("\"");
    }
    turn.say("\r\nAllow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, SUBSCRIBE, NOTIFY, INFO, PUBLISH\r\n");
    turn.say("Content-Length: 0\r\n\r\n");
}

fn read(input: &[u8]) -> Option<Request<'_>> {
    let (mut at, first) = line(input)?;
    let (method, rest) = word(first);
    if !rest.ends_with(b"SIP/2.0") || !method.iter().all(u8::is_ascii_uppercase) || method.is_empty() {
        return None;
    }
    let mut request = Request { line: first, method, ..Request::default() };
    for _ in 0..MAX_HEADERS {
        let Some((taken, header)) = line(&input[at..]) else { break };
        at += taken;
        let Some(colon) = header.iter().position(|octet| *octet == b':') else { break };
        let (name, value) = (header[..colon].trim_ascii(), header[colon + 1..].trim_ascii());
        // The compact forms are those of §7.3.3.
        let is = |known: &str, compact: &str| [known, compact].iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()));
        let place = if is("via", "v") && request.via.is_empty() {
            &mut request.via
        } else if is("from", "f") {
            &mut request.from
        } else if is("to", "t") {
            &mut request.to
        } else if is("call-id", "i") {
            &mut request.call
        } else if is("cseq", "cseq") {
            &mut request.sequence
        } else if is("authorization", "proxy-authorization") {
            request.credentials = Some((header, value));
            continue;
        } else {
            continue;
        };
        *place = value;
    }
    Some(request)
}

/// The value of a parameter of digest credentials.
fn parameter<'a>(credentials: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (scheme, parameters) = word(credentials);
    scheme.eq_ignore_ascii_case(b"Digest").then_some(())?;
    parameters.split(|octet| *octet == b',').find_map(|part| {
        let value = part.trim_ascii().strip_prefix(name)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
        Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
    })
}
