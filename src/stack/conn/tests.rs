use super::*;
use crate::wire::Duration;
/// A small seeded generator.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as u32) % n
    }
}

const PEER: u32 = 0xffff_ff00;
const OURS: u32 = 0x1234_5678;

/// Moves segments between two connections over a lossy wire in virtual time until both are quiet.
fn shuttle(
    a: &mut Conn,
    b: &mut Conn,
    now: &mut Instant,
    loss: u32,
    rng: &mut Lcg,
    mut each: impl FnMut(&mut Conn, &mut Conn) -> bool,
) {
    let mut scratch = Scratch::default();
    let mut replies = Vec::new();
    for _ in 0..200_000 {
        let mut segments = std::mem::take(&mut replies);
        let mut keep =
            |from: usize, s: &Outgoing<'_>| segments.push((from, s.seq, s.ack, s.flags, s.window, s.payload.to_vec()));
        a.egress(*now, &mut scratch, |s| keep(0, s));
        b.egress(*now, &mut scratch, |s| keep(1, s));
        let quiet = segments.is_empty();
        for (from, seq, ack, flags, window, payload) in segments {
            if rng.below(1000) < loss {
                continue;
            }
            let options = [2, 4, 5, 0xb4];
            let segment = Incoming {
                seq,
                ack,
                flags,
                window: window as u16,
                payload: &payload,
                options: if flags & flag::SYN != 0 { &options } else { &[] },
            };
            let to = if from == 0 { &mut *b } else { &mut *a };
            to.ingress(&segment, *now, &mut scratch, |s| {
                replies.push((1 - from, s.seq, s.ack, s.flags, s.window, s.payload.to_vec()));
            });
        }
        if !each(a, b) {
            return;
        }
        if quiet {
            let next = a.deadline(*now).into_iter().chain(b.deadline(*now)).min();
            *now = next.unwrap_or(*now + Duration::from_millis(1)).max(*now + Duration::from_micros(100));
        }
    }
    panic!("it does not end at {now}");
}

fn pair(now: Instant, scratch: &mut Scratch) -> (Conn, Conn) {
    let server: SocketAddr = "10.0.0.2:80".parse().unwrap();
    let client: SocketAddr = "10.9.9.9:40000".parse().unwrap();
    let mut b = Conn::connect(client, server, Buffers::LARGE, 2, now, scratch).unwrap();
    let mut syn = None;
    b.egress(now, scratch, |s| syn = Some((s.seq, s.window)));
    let (isn, window) = syn.unwrap();
    let options = TcpOptions { mss: Some(1460), ..TcpOptions::default() };
    let info = SynInfo { isn, window: window as u16, options };
    let a = Conn::accept(server, client, &info, OURS, 1460, Buffers::LARGE, 1, now, scratch).unwrap();
    // The half-open table's SYN/ACK reaches the client.
    let syn_ack = Incoming {
        seq: OURS,
        ack: isn.wrapping_add(1),
        flags: flag::SYN | flag::ACK,
        window: 65535,
        options: &[2, 4, 5, 0xb4],
        payload: &[],
    };
    b.ingress(&syn_ack, now, scratch, |_| {});
    (a, b)
}

#[test]
fn a_replayed_handshake_has_our_sequence_numbers() {
    let (now, mut scratch) = (Instant::from_secs(5), Scratch::default());
    let (server, client) = ("10.0.0.2:80".parse().unwrap(), "10.9.9.9:40000".parse().unwrap());
    let info = SynInfo { isn: PEER, window: 1024, options: TcpOptions::default() };
    let mut conn = Conn::accept(server, client, &info, OURS, 536, Buffers::SMALL, 1, now, &mut scratch).unwrap();
    assert!(conn.is_open());
    let ack = Incoming {
        seq: PEER.wrapping_add(1),
        ack: OURS + 1,
        flags: flag::ACK,
        window: 1024,
        options: &[],
        payload: b"hello",
    };
    conn.ingress(&ack, now, &mut scratch, |_| {});
    assert_eq!(
        conn.recv(|bytes| {
            assert_eq!(bytes, b"hello");
            5
        }),
        5
    );
    assert_eq!(conn.send(b"world"), 5);
    let mut sent = Vec::new();
    conn.egress(now, &mut scratch, |s| sent.push((s.seq, s.ack, s.payload.to_vec())));
    assert_eq!(sent, [(OURS + 1, PEER.wrapping_add(6), b"world".to_vec())]);
}

#[test]
fn megabytes_pass_a_lossy_wire_intact() {
    let (mut now, mut scratch) = (Instant::from_secs(5), Scratch::default());
    let (mut a, mut b) = pair(now, &mut scratch);
    let mut rng = Lcg(9);
    let total = 3_000_000usize;
    let byte = |i: usize| (i.wrapping_mul(31) >> 3) as u8;
    let (mut sent, mut got) = (0, 0);
    shuttle(&mut a, &mut b, &mut now, 20, &mut rng, |a, b| {
        while a.room() > 0 && sent < total {
            let chunk: Vec<u8> = (sent..(sent + 4096).min(total)).map(byte).collect();
            let n = a.send(&chunk);
            if n == 0 {
                break;
            }
            sent += n;
        }
        if sent == total && a.is_open() && !a.at_end() {
            a.close();
        }
        loop {
            let n = b.recv(|bytes| {
                for (i, b) in bytes.iter().enumerate() {
                    assert_eq!(*b, byte(got + i), "at {}", got + i);
                }
                bytes.len()
            });
            got += n;
            if n == 0 {
                break;
            }
        }
        if b.at_end() {
            b.close();
        }
        !(b.is_closed() && got == total)
    });
    assert_eq!(got, total);
}
