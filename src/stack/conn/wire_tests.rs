//! Conversations of two connections over a wire that loses and overtakes.

use proptest::prelude::*;

use super::tests::*;
use super::*;

/// Two connections over a wire.
struct Wire {
    ends: [Conn; 2],
    sockets: Sockets,
    now: Instant,
    rng: Lcg,
    /// Of a thousand segments.
    loss: u32,
    /// By how many microseconds a segment may be late.
    late: u32,
    /// Of a thousand chances to rest.
    rest: u32,
    rests: usize,
    flying: Vec<(Instant, usize, Flown)>,
    /// Octets of data that each has sent.
    octets: [usize; 2],
}

/// A segment, its window and its SACK option.
type Flown = (Sent, u32, Vec<u8>);

fn flown(out: &Outgoing<'_>) -> Flown {
    let blocks = out.sack.iter().flatten().flat_map(|edge| edge.to_be_bytes());
    let mut option: Vec<u8> = [1, 1, 5, 2 + 8 * out.sack.len() as u8].into_iter().chain(blocks).collect();
    option.truncate(if out.sack.is_empty() { 0 } else { option.len() });
    (sent(out), out.window, option)
}

impl Wire {
    fn new(seed: u64, loss: u32, rest: u32) -> Wire {
        let now = Instant::from_secs(5);
        let mut sockets = some_sockets();
        let mut client = Conn::connect(now, &mut sockets).unwrap();
        let mut isn = 0;
        client.egress(now, &mut sockets, false, |s| isn = s.seq);
        let agreed = Agreed { peer_isn: isn, scale: 3, sack: true, ..agreed(1460) };
        let server = Conn::accept(&agreed, now);
        let syn_ack = Incoming {
            seq: OURS,
            ack: isn.wrapping_add(1),
            flags: flag::SYN | flag::ACK,
            window: 65535,
            options: &SYN_OPTIONS,
            payload: &[],
        };
        assert!(client.ingress(&syn_ack, now, &mut sockets, |_| {}));
        assert!(client.is_open());
        client.tcb.sack = true;
        Wire::between([server, client], sockets, now, seed, loss, rest)
    }

    fn between(ends: [Conn; 2], sockets: Sockets, now: Instant, seed: u64, loss: u32, rest: u32) -> Wire {
        let (rng, flying) = (Lcg(seed), Vec::new());
        Wire { ends, sockets, now, rng, loss, late: 9000, rest, rests: 0, flying, octets: [0; 2] }
    }

    fn fly(&mut self, from: usize, out: Vec<Flown>) {
        for flown in out {
            self.octets[from] += flown.0.3.len();
            if self.rng.below(1000) >= self.loss {
                // Some overtake others.
                let way =
                    Duration::from_micros(20_000 + u64::from(self.rng.below(2)) * u64::from(self.rng.below(self.late)));
                self.flying.push((self.now + way, 1 - from, flown));
            }
        }
    }

    /// Lets everything due happen, and time pass until the next thing is due, or a pause ends.
    fn step(&mut self, pauses: [Instant; 2]) {
        for end in 0..2 {
            let mut out = Vec::new();
            self.ends[end].egress(self.now, &mut self.sockets, false, |s| out.push(flown(s)));
            self.fly(end, out);
            if self.rng.below(1000) < self.rest {
                self.ends[end].rest(self.now, &mut self.sockets);
                self.rests += usize::from(self.ends[end].is_resting());
            }
        }
        let timers = [0, 1].map(|end| self.ends[end].deadline(self.now, &mut self.sockets));
        let pauses = pauses.into_iter().filter(|until| *until > self.now);
        let next = timers.into_iter().flatten().chain(self.flying.iter().map(|(at, ..)| *at)).chain(pauses).min();
        self.now = next.unwrap_or(self.now).max(self.now + Duration::from_micros(100));
        let (due, later) = std::mem::take(&mut self.flying).into_iter().partition(|(at, ..)| *at <= self.now);
        self.flying = later;
        let mut due: Vec<_> = due;
        due.sort_by_key(|(at, ..)| *at);
        for (_, to, ((seq, ack, flags, payload), window, options)) in due {
            let window = (window >> 3) as u16;
            let segment = Incoming { seq, ack, flags, window, options: &options, payload: &payload };
            let mut out = Vec::new();
            let taken = self.ends[to].ingress(&segment, self.now, &mut self.sockets, |s| out.push(flown(s)));
            assert!(taken, "there is a socket for each");
            self.fly(to, out);
        }
    }
}

/// What one side says and has heard.
struct Talk {
    say: Vec<u8>,
    said: usize,
    heard: Vec<u8>,
    /// Said at once.
    piece: usize,
    /// Before that, it says and reads nothing.
    pause: Instant,
    closed: bool,
}

fn talk(seed: u64, loss: u32, rest: u32, lengths: [usize; 2], piece: usize, pauses: u32) -> usize {
    talk_on(&mut Wire::new(seed, loss, rest), lengths, piece, pauses)
}

fn talk_on(wire: &mut Wire, lengths: [usize; 2], piece: usize, pauses: u32) -> usize {
    let mut talks = lengths.map(|len| Talk {
        say: (0..len).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect(),
        said: 0,
        heard: Vec::new(),
        piece,
        pause: Instant::ZERO,
        closed: false,
    });
    for round in 0.. {
        assert!(round < 300_000, "it does not end at {}", wire.now);
        for (end, talk) in talks.iter_mut().enumerate() {
            let Wire { ends, sockets, now, rng, .. } = wire;
            let conn = &mut ends[end];
            assert!(!conn.is_closed() || talk.closed, "reset at {now}");
            // What is unread when TIME-WAIT ends is gone.
            if *now < talk.pause && !conn.is_time_wait() {
                continue;
            }
            if rng.below(100) < pauses {
                talk.pause = *now + Duration::from_millis(u64::from(rng.below(4)) * u64::from(rng.below(4000)));
                continue;
            }
            while conn.recv(|bytes| {
                talk.heard.extend_from_slice(bytes);
                bytes.len()
            }) > 0
            {}
            let upto = (talk.said + 1 + rng.below(talk.piece as u32) as usize).min(talk.say.len());
            talk.said += conn.send(&talk.say[talk.said..upto], *now, sockets);
            if talk.said == talk.say.len() && !talk.closed && conn.is_open() {
                talk.closed = true;
                conn.close();
            }
        }
        if wire.ends.iter().all(|conn| conn.is_closed() || conn.is_time_wait()) {
            break;
        }
        wire.step([talks[0].pause, talks[1].pause]);
    }
    for (conn, talk) in wire.ends.iter_mut().zip(&mut talks) {
        while conn.recv(|bytes| {
            talk.heard.extend_from_slice(bytes);
            bytes.len()
        }) > 0
        {}
    }
    let [a, b] = &talks;
    assert!(
        a.heard == b.say && b.heard == a.say,
        "{} of {}, {} of {}",
        a.heard.len(),
        b.say.len(),
        b.heard.len(),
        a.say.len()
    );
    wire.rests
}

#[test]
fn megabytes_pass_a_lossy_wire_intact() {
    talk(9, 20, 0, [3_000_000, 10], 60_000, 0);
    assert!(talk(9, 20, 1000, [3_000_000, 10], 60_000, 0) > 10);
}

#[test]
fn a_loss_costs_a_segment_and_a_round_trip() {
    let mut wire = Wire::new(4, 10, 0);
    wire.late = 1;
    let start = wire.now;
    talk_on(&mut wire, [3_000_000, 0], 60_000, 0);
    let (octets, took) = (wire.octets[0], (wire.now - start).total_millis());
    println!("{octets} octets in {took} ms");
    // One in a hundred is lost, and hardly more is sent again: neither is the window behind it, nor does the
    // sender wait a second for each.
    assert!((3_010_000..3_000_000 * 102 / 100).contains(&octets), "{octets}");
    assert!(took < 6000, "{took} ms");
}

#[test]
fn whoever_both_connect_at_once_are_connected() {
    let now = Instant::from_secs(5);
    let mut sockets = some_sockets();
    let mut ends = [(); 2].map(|()| Conn::connect(now, &mut sockets).unwrap());
    let mut syns = Vec::new();
    for end in &mut ends {
        end.egress(now, &mut sockets, false, |s| syns.push(s.seq));
    }
    // Both SYNs cross, then both SYN/ACKs (RFC 9293 §3.5, figure 7).
    let mut answers = Vec::new();
    for (end, peer) in [(0, 1), (1, 0)] {
        let (seq, flags) = (syns[peer], flag::SYN);
        let syn = Incoming { seq, ack: 0, flags, window: 65_535, options: &SYN_OPTIONS, payload: &[] };
        let mut answer = |s: &Outgoing<'_>| answers.push((s.seq, s.ack, s.flags));
        assert!(ends[end].ingress(&syn, now, &mut sockets, &mut answer));
        ends[end].egress(now, &mut sockets, false, &mut answer);
        assert!(!ends[end].is_open());
    }
    let syn_ack = flag::SYN | flag::ACK;
    let both = [(0, 1), (1, 0)].map(|(end, peer)| (syns[end], syns[peer].wrapping_add(1), syn_ack));
    assert_eq!(answers, both);
    for (end, peer) in [(0, 1), (1, 0)] {
        let (seq, ack, flags) = answers[peer];
        let answer = Incoming { seq, ack, flags, window: 65_535, options: &SYN_OPTIONS, payload: &[] };
        assert!(ends[end].ingress(&answer, now, &mut sockets, |_| {}));
        assert!(ends[end].is_open());
    }
    talk_on(&mut Wire::between(ends, sockets, now, 3, 10, 100), [50_000, 40_000], 3000, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A conversation with pauses, on a wire that loses and overtakes, arrives as it was said,
    /// whether its connections rest or not.
    #[test]
    fn whoever_rests_misses_nothing(
        seed: u64,
        loss in 0u32..200,
        rest in prop::sample::select(vec![0u32, 100, 1000]),
        lengths in [0usize..30_000, 0usize..30_000],
        piece in prop::sample::select(vec![1usize, 40, 2000, 20_000]),
    ) {
        let lengths = lengths.map(|len| len.min(400 * piece));
        let rests = talk(seed, loss, rest, lengths, piece, 10);
        prop_assert!(rest > 0 || rests == 0);
    }
}
