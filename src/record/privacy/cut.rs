//! How much of a frame tells no secret: headers, and of what no log-in passes in the clear all.

use super::packet::{Carried, carried, network};
use crate::record::flow::word;
use crate::wire::ethertype;

/// What is spoken on it is encrypted before anybody says who they are.
const SSH: u16 = 22;
/// The community of SNMP is a password, and requests of SIP have credentials.
const TOLD_IN_DATAGRAMS: [u16; 3] = [161, 162, 5060];
/// Octets of a header.
const IPV4: usize = 20;
const TCP: usize = 20;
const UDP: usize = 8;
const ICMP: usize = 8;

/// How many octets of `frame` are left without the payload of TCP (but on port 22), SNMP and SIP. Which protocol it is that a
/// log-in passes in is not known before it has passed, on whatever port.
pub fn without_payload(frame: &[u8]) -> usize {
    let most = frame.len();
    match network(frame) {
        Some((ethertype::ARP, _)) | None => most,
        Some((kind, at)) => packet(frame, at, kind == ethertype::IPV6, false).min(most),
    }
}

fn packet(frame: &[u8], at: usize, is_v6: bool, is_within: bool) -> usize {
    let all = frame.len();
    let Some(Carried { proto, at, is_first }) = carried(frame, at, is_v6) else {
        // Nobody knows what that would be.
        return at + IPV4;
    };
    let ports = || Some([word(frame, at)?, word(frame, at + 2)?]);
    match proto {
        // What follows in a later fragment belongs to ports that it does not name.
        6 | 17 if !is_first => at,
        6 if ports().is_some_and(|ports| ports.contains(&SSH)) => all,
        6 => {
            let header = frame.get(at + 12).map_or(TCP, |octet| usize::from(octet >> 4) * 4);
            at + header.max(TCP)
        }
        17 if ports().is_some_and(|ports| ports.iter().any(|port| TOLD_IN_DATAGRAMS.contains(port))) => at + UDP,
        // An error has the beginning of another packet in it.
        1 | 58 if is_first && !is_within => {
            let is_error = match (proto, frame.get(at)) {
                (1, Some(kind)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
                (_, Some(kind)) => *kind < 128,
                _ => false,
            };
            if is_error { packet(frame, at + ICMP, is_v6, true) } else { all }
        }
        _ => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(proto: u8, offset: u16, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 0, 0, 1]);
        frame.extend(offset.to_be_bytes());
        frame.extend([64, proto, 0, 0, 198, 51, 100, 7, 10, 0, 0, 1]);
        frame.extend(body);
        frame
    }

    fn tcp(src: u16, dst: u16, words: u8, payload: &[u8]) -> Vec<u8> {
        let mut segment = [src.to_be_bytes(), dst.to_be_bytes()].concat();
        segment.extend([0; 8]);
        segment.extend([words << 4, 0x18]);
        segment.resize(usize::from(words.max(5)) * 4, 0);
        segment.extend(payload);
        segment
    }

    #[test]
    fn payload_in_which_a_log_in_may_be_goes() {
        let secret = b"PASS hunter2\r\n";
        let told = |frame: &[u8]| {
            let left = &frame[..without_payload(frame)];
            (left.len(), left.windows(7).any(|part| part == b"hunter2"))
        };
        for (src, dst) in [(4000, 21), (8080, 5000), (23, 4000)] {
            assert_eq!(told(&v4(6, 0, &tcp(src, dst, 5, secret))), (54, false));
            assert_eq!(told(&v4(6, 0, &tcp(src, dst, 8, secret))), (66, false));
        }
        // A header that is told shorter or longer than it can be.
        assert_eq!(told(&v4(6, 0, &tcp(4000, 21, 0, secret))), (54, false));
        let odd = v4(6, 0, &tcp(4000, 21, 5, secret));
        let mut long = odd.clone();
        long[46] = 0xf0;
        assert_eq!(without_payload(&long), long.len(), "it is all options, so it says");
        assert!(told(&v4(6, 0, &tcp(4000, 22, 5, secret))).1);
        assert_eq!(told(&v4(6, 100, secret)), (34, false));
        let udp = |port: u16| [&[15, 160][..], &port.to_be_bytes(), &[0; 4], secret].concat();
        assert_eq!(told(&v4(17, 0, &udp(161))), (42, false));
        assert_eq!(told(&v4(17, 0, &udp(5060))), (42, false));
        assert!(told(&v4(17, 0, &udp(53))).1);
        let quoted = &v4(6, 0, &tcp(4000, 21, 5, secret))[14..];
        assert_eq!(told(&v4(1, 0, &[&[3, 3, 0, 0, 0, 0, 0, 0][..], quoted].concat())), (82, false));
        let echo = v4(1, 0, &[&[8, 0, 0, 0, 0, 0, 0, 0][..], secret].concat());
        assert_eq!(without_payload(&echo), echo.len());
        for frame in [v4(6, 0, &tcp(4000, 21, 5, secret)), v4(1, 0, &[3; 40]), vec![0xff; 60]] {
            for len in 0..frame.len() {
                assert!(without_payload(&frame[..len]) <= len);
            }
        }
    }
}
