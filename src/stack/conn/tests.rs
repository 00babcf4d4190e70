use super::*;
use crate::stack::{Budget, KEEP_ALIVE};

/// A small seeded generator.
pub(super) struct Lcg(pub u64);

impl Lcg {
    pub fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as u32) % n
    }
}

pub(super) const PEER: u32 = 0xffff_ff00;
pub(super) const OURS: u32 = 0x1234_5678;
pub(super) const SYN_OPTIONS: [u8; 8] = [2, 4, 5, 0xb4, 3, 3, 3, 0];

pub(super) fn some_sockets() -> Sockets {
    Sockets::new(Budget::new(8 * Sockets::COST), 1)
}

pub(super) fn agreed(mss: u16) -> Agreed {
    let habits = TcpHabits::LINUX;
    let (peer_isn, isn, trip) = (PEER, OURS, Duration::ZERO);
    Agreed { peer_isn, isn, scale: 0, mss, sack: false, habits, keep_alive: true, trip }
}

/// What was sent: sequence and acknowledgment number, flags, data.
pub(super) type Sent = (u32, u32, u8, Vec<u8>);

pub(super) fn sent(out: &Outgoing<'_>) -> Sent {
    (out.seq, out.ack, out.flags, out.payload.to_vec())
}

/// A connection in our hands, segment by segment.
struct Hand {
    conn: Conn,
    sockets: Sockets,
    now: Instant,
}

impl Hand {
    /// One that was just opened by a peer that scales its windows by 2^3.
    fn new() -> Hand {
        let now = Instant::from_secs(1000);
        let conn = Conn::accept(&Agreed { scale: 3, ..agreed(1000) }, now);
        let mut hand = Hand { conn, sockets: some_sockets(), now };
        assert_eq!(hand.bare(0, 0, 125), []);
        hand
    }

    /// A segment whose numbers count from the first octet of each side.
    fn rx(&mut self, seq: i32, ack: u32, flags: u8, window: u16, payload: &[u8]) -> Vec<Sent> {
        let seq = PEER.wrapping_add(1).wrapping_add_signed(seq);
        let segment = Incoming { seq, ack: OURS + 1 + ack, flags, window, options: &[], payload };
        let mut out = Vec::new();
        let Hand { conn, sockets, now } = self;
        assert!(conn.ingress(&segment, *now, sockets, |s| out.push(sent(s))));
        let mut out = counted(out);
        out.extend(self.tick());
        out
    }

    fn bare(&mut self, seq: i32, ack: u32, window: u16) -> Vec<Sent> {
        self.rx(seq, ack, flag::ACK, window, b"")
    }

    fn tick(&mut self) -> Vec<Sent> {
        let mut out = Vec::new();
        let Hand { conn, sockets, now } = self;
        conn.egress(*now, sockets, false, |s| out.push(sent(s)));
        conn.rest(*now, sockets);
        counted(out)
    }

    /// Lets time pass until something is sent; returns that and after how many milliseconds.
    fn wait(&mut self) -> (u64, Vec<Sent>) {
        let start = self.now;
        loop {
            let next = self.conn.deadline(self.now, &mut self.sockets).expect("something is due");
            self.now = next.max(self.now + Duration::from_micros(1));
            let out = self.tick();
            if !out.is_empty() {
                return ((self.now - start).total_millis(), out);
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Vec<Sent> {
        assert_eq!(self.conn.send(bytes, self.now, &mut self.sockets), bytes.len());
        self.tick()
    }

    fn read(&mut self) -> Vec<u8> {
        let mut got = Vec::new();
        while self.conn.recv(|bytes| {
            got.extend_from_slice(bytes);
            bytes.len()
        }) > 0
        {}
        self.tick();
        got
    }
}

/// Numbers counted from the first octet of each side.
fn counted(mut out: Vec<Sent>) -> Vec<Sent> {
    for (seq, ack, ..) in &mut out {
        *seq = seq.wrapping_sub(OURS + 1);
        *ack = ack.wrapping_sub(PEER.wrapping_add(1));
    }
    out
}

const ACK: u8 = flag::ACK;
const PSH: u8 = flag::ACK | flag::PSH;
const FIN: u8 = flag::ACK | flag::FIN;

fn told(seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Sent {
    (seq, ack, flags, payload.to_vec())
}

#[test]
fn at_rest_it_is_small() {
    assert!(std::mem::size_of::<Conn>() <= 96, "{}", std::mem::size_of::<Conn>());
}

#[test]
fn it_rests_while_nothing_happens_and_data_passes_both_ways() {
    let mut hand = Hand::new();
    assert!(hand.conn.is_resting() && hand.conn.is_open());
    assert_eq!(hand.send(b"220 ready\r\n"), [told(0, 0, PSH, b"220 ready\r\n")]);
    assert!(hand.conn.is_resting() && hand.conn.is_unacknowledged());
    // The acknowledgment comes with data.
    assert_eq!(hand.rx(0, 11, PSH, 125, b"USER x\r\n"), []);
    assert!(!hand.conn.is_resting(), "nobody has read it");
    assert_eq!(hand.read(), b"USER x\r\n");
    assert!(hand.conn.is_resting() && !hand.conn.is_unacknowledged());
    assert_eq!(hand.wait(), (10, vec![told(11, 8, ACK, b"")]));
    assert_eq!(hand.sockets.budget().used(), 0);
}

#[test]
fn what_is_not_acknowledged_is_sent_again_ever_more_seldom() {
    let mut hand = Hand::new();
    hand.send(b"hello");
    let times: Vec<u64> = (0..8)
        .map(|_| {
            let (after, out) = hand.wait();
            assert_eq!(out, [told(0, 0, PSH, b"hello")]);
            assert!(hand.conn.is_resting());
            after
        })
        .collect();
    assert_eq!(times, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    // Part of it has arrived.
    assert_eq!(hand.bare(0, 3, 125), []);
    assert_eq!(hand.wait(), (1000, vec![told(3, 0, PSH, b"lo")]));
    assert_eq!(hand.bare(0, 5, 125), []);
    assert!(!hand.conn.is_unacknowledged());
}

#[test]
fn a_long_way_is_not_taken_for_a_loss() {
    let mut hand = Hand::new();
    hand.conn = Conn::accept(&Agreed { trip: Duration::from_millis(600), ..agreed(1000) }, hand.now);
    hand.bare(0, 0, 1000);
    hand.send(b"hello");
    assert_eq!(hand.wait(), (1800, vec![told(0, 0, PSH, b"hello")]));
    // At work it is the same: what is more than it rests with, and the acknowledgment that tells how long it took.
    let mut hand = Hand::new();
    hand.conn = Conn::accept(&Agreed { trip: Duration::from_millis(600), ..agreed(1000) }, hand.now);
    hand.bare(0, 0, 20_000);
    assert_eq!(hand.send(&[7; 8000]).len(), 8);
    assert!(!hand.conn.is_resting());
    assert_eq!(hand.wait().0, 1800);
}

#[test]
fn data_out_of_order_wakes_it_and_waits_for_what_is_missing() {
    let mut hand = Hand::new();
    assert_eq!(hand.rx(5, 0, PSH, 125, b"world"), [told(0, 0, ACK, b"")]);
    assert!(!hand.conn.is_resting());
    assert_eq!(hand.rx(0, 0, PSH, 125, b"hello"), [told(0, 10, ACK, b"")]);
    assert_eq!(hand.read(), b"helloworld");
    assert!(hand.conn.is_resting());
    // What is missing does not come: in the end nothing is kept for it, and the peer sends all of it again.
    hand.rx(15, 0, PSH, 125, b"early");
    while !hand.conn.is_resting() {
        hand.now = hand.conn.deadline(hand.now, &mut hand.sockets).unwrap().max(hand.now + Duration::from_millis(1));
        hand.tick();
    }
    assert_eq!((hand.now - Instant::from_secs(1000)).secs(), 3);
    hand.rx(10, 0, PSH, 125, b"not so");
    hand.rx(16, 0, PSH, 125, b"early");
    assert_eq!(hand.read(), b"not soearly");
}

#[test]
fn a_closed_window_is_probed() {
    let mut hand = Hand::new();
    hand.bare(0, 0, 0);
    let probe = told(0, 0, PSH, b"h");
    // smoltcp asks at once, and then leaves it to us.
    assert_eq!(hand.send(b"hello"), [told(0, 0, ACK, b"h")]);
    assert!(hand.conn.is_resting());
    assert_eq!(hand.wait(), (1000, vec![probe.clone()]));
    assert_eq!(hand.bare(0, 0, 0), []);
    assert_eq!(hand.wait(), (2000, vec![probe]));
    // One octet was taken; the window is closed again.
    assert_eq!(hand.bare(0, 1, 0), []);
    assert_eq!(hand.wait(), (1000, vec![told(1, 0, PSH, b"e")]));
    // It opens: all the rest goes out.
    let out = hand.bare(0, 2, 125);
    assert_eq!(out, [told(2, 0, PSH, b"llo")]);
    assert_eq!(hand.bare(0, 5, 125), []);
    assert!(!hand.conn.is_unacknowledged());
}

#[test]
fn a_window_that_is_taken_back_is_probed() {
    let mut hand = Hand::new();
    hand.bare(0, 0, 1000);
    // More than it rests with.
    assert_eq!(hand.send(&[7; 5000]).len(), 5);
    assert_eq!(hand.bare(0, 0, 0), []);
    // The timer runs out, and nothing may be sent: yet somebody has to ask.
    assert_eq!(hand.wait(), (1000, vec![told(0, 0, PSH, &[7])]));
    assert_eq!(hand.wait(), (2000, vec![told(0, 0, PSH, &[7])]));
    assert_eq!(hand.bare(0, 0, 0), []);
    assert_eq!(hand.wait(), (4000, vec![told(0, 0, PSH, &[7])]));
    let out = hand.bare(0, 0, 1000);
    assert_eq!(out.iter().map(|(.., payload)| payload.len()).sum::<usize>(), 5000);
    assert_eq!(hand.bare(0, 5000, 1000), []);
    assert!(!hand.conn.is_unacknowledged());
}

#[test]
fn a_peer_closes_and_we_do() {
    let mut hand = Hand::new();
    assert_eq!(hand.rx(0, 0, FIN, 125, b"bye"), []);
    assert!(!hand.conn.at_end());
    assert_eq!(hand.read(), b"bye");
    assert!(hand.conn.at_end() && hand.conn.is_resting());
    // It may still be told something (RFC 9293 §3.6).
    assert_eq!(hand.send(b"ok"), [told(0, 4, PSH, b"ok")]);
    hand.conn.close();
    assert_eq!(hand.tick(), [told(2, 4, FIN, b"")]);
    assert!(hand.conn.is_resting());
    assert_eq!(hand.wait(), (1000, vec![told(0, 4, PSH | FIN, b"ok")]));
    assert_eq!(hand.bare(4, 2, 125), []);
    assert_eq!(hand.wait(), (1000, vec![told(2, 4, FIN, b"")]));
    // Its own FIN again: our acknowledgment was lost.
    assert_eq!(hand.rx(3, 2, FIN, 125, b""), [told(3, 4, ACK, b"")]);
    assert!(hand.conn.is_open());
    assert_eq!(hand.bare(4, 3, 125), []);
    assert!(hand.conn.is_closed());
}

#[test]
fn we_close_and_a_peer_does() {
    let mut hand = Hand::new();
    hand.conn.close();
    assert_eq!(hand.tick(), [told(0, 0, FIN, b"")]);
    assert_eq!(hand.wait(), (1000, vec![told(0, 0, FIN, b"")]));
    assert_eq!(hand.bare(0, 1, 125), []);
    assert!(hand.conn.is_resting() && hand.conn.is_open());
    // Data is still taken.
    hand.rx(0, 1, PSH, 125, b"late");
    assert_eq!(hand.read(), b"late");
    assert!(hand.conn.is_resting());
    assert_eq!(hand.rx(4, 1, FIN, 125, b""), [told(1, 5, ACK, b"")]);
    assert!(hand.conn.is_time_wait());
    // Both at once.
    let mut hand = Hand::new();
    hand.conn.close();
    hand.tick();
    assert_eq!(hand.rx(0, 0, FIN, 125, b""), [told(1, 1, ACK, b"")]);
    hand.bare(1, 1, 125);
    assert!(hand.conn.is_time_wait());
}

#[test]
fn a_reset_counts_where_it_is_in_the_window() {
    let mut hand = Hand::new();
    assert_eq!(hand.rx(1 << 20, 0, flag::RST, 0, b""), []);
    assert!(hand.conn.is_open() && hand.conn.is_resting());
    assert_eq!(hand.rx(0, 0, flag::RST | flag::ACK, 0, b""), []);
    assert!(hand.conn.is_closed());
    let mut hand = Hand::new();
    hand.conn.abort();
    assert_eq!(hand.tick(), [told(0, 0, flag::RST | flag::ACK, b"")]);
    assert!(hand.conn.is_closed());
    assert_eq!((hand.tick(), hand.bare(0, 0, 1)), (vec![], vec![]));
}

#[test]
fn a_silent_peer_is_asked_whether_it_is_there_and_so_are_we() {
    let mut hand = Hand::new();
    let probe = told(u32::MAX, 0, ACK, b"");
    for _ in 0..2 {
        assert_eq!(hand.wait(), (KEEP_ALIVE.total_millis(), vec![probe.clone()]));
        assert_eq!(hand.bare(0, 0, 125), []);
    }
    // Without an octet, as Linux asks, and with one, as Windows does.
    assert_eq!(hand.bare(-1, 0, 125), [told(0, 0, ACK, b"")]);
    assert_eq!(hand.rx(-1, 0, ACK, 125, b"\0"), [told(0, 0, ACK, b"")]);
    assert!(hand.conn.is_resting());
}

#[test]
fn nonsense_is_answered_twice_a_second() {
    let mut hand = Hand::new();
    let answer = told(0, 0, ACK, b"");
    assert_eq!(hand.bare(0, 9, 125), std::slice::from_ref(&answer), "of what was never sent");
    assert_eq!(hand.bare(1 << 20, 0, 125), [], "far outside of the window");
    hand.conn.challenge(hand.now, |_| panic!("too soon"));
    hand.now += Duration::from_millis(500);
    assert_eq!(hand.bare(1 << 20, 0, 125), [answer]);
    hand.now += Duration::from_millis(500);
    let mut challenged = 0;
    hand.conn.challenge(hand.now, |_| challenged += 1);
    assert_eq!((challenged, hand.conn.is_resting()), (1, true));
}

#[test]
fn without_a_socket_segments_are_lost_and_nothing_else() {
    let mut hand = Hand::new();
    hand.sockets = Sockets::new(Budget::new(Sockets::COST - 1), 1);
    let Hand { conn, sockets, now } = &mut hand;
    let segment = Incoming { seq: PEER + 1, ack: OURS + 1, flags: PSH, window: 125, options: &[], payload: b"hello" };
    assert!(!conn.ingress(&segment, *now, sockets, |_| panic!("nothing is known of it")));
    assert!(sockets.take_refused() && !sockets.take_refused());
    assert_eq!((conn.send(b"hello", *now, sockets), sockets.take_refused()), (0, true));
    assert!(conn.is_resting() && conn.is_open());
    hand.sockets = some_sockets();
    hand.rx(0, 0, PSH, 125, b"hello");
    assert_eq!(hand.read(), b"hello");
}

#[test]
fn more_than_it_rests_with_keeps_its_socket() {
    let mut hand = Hand::new();
    hand.bare(0, 0, 8000);
    assert_eq!(hand.send(&[1; 3000]).len(), 3);
    assert!(hand.conn.is_resting());
    assert_eq!(hand.send(&[2; 3000]).len(), 3);
    assert!(!hand.conn.is_resting());
    assert_eq!(hand.sockets.budget().used(), Sockets::COST);
    assert_eq!(hand.bare(0, 6000, 8000), []);
    assert!(hand.conn.is_resting());
    assert_eq!(hand.sockets.budget().used(), 0);
    hand.send(&[3; 5000]);
    drop(hand.conn);
    assert_eq!(hand.sockets.budget().used(), 0, "a connection that is dropped gives everything back, too");
}

#[test]
fn whoever_does_not_answer_is_gone() {
    let mut hand = Hand::new();
    for (habits, probe, after, times) in [
        (TcpHabits::LINUX, &b""[..], 75_000, 9),
        (TcpHabits::WINDOWS, b"\0", 1000, 10),
        (TcpHabits::BSD, b"", 75_000, 8),
    ] {
        hand.conn = Conn::accept(&Agreed { habits, ..agreed(1000) }, hand.now);
        hand.bare(0, 0, 125);
        // An answer counts for all questions before it.
        for _ in 0..2 {
            assert_eq!(hand.bare(0, 0, 125), []);
            assert_eq!(hand.wait(), (7_200_000, vec![told(u32::MAX, 0, ACK, probe)]));
            for _ in 1..times {
                assert_eq!(hand.wait(), (after, vec![told(u32::MAX, 0, ACK, probe)]));
            }
        }
        assert_eq!(hand.wait(), (after, vec![told(0, 0, flag::RST | flag::ACK, b"")]));
        assert!(hand.conn.is_closed());
    }
    // Who does not want to know is not asked.
    hand.conn = Conn::accept(&Agreed { keep_alive: false, ..agreed(1000) }, hand.now);
    assert_eq!(hand.conn.deadline(hand.now, &mut hand.sockets), None);
}

#[test]
fn old_systems_believe_what_others_question() {
    let mut hand = Hand::new();
    let again = told(0, 0, ACK, b"");
    // In the window, but not where it is expected.
    assert_eq!(hand.rx(7, 0, flag::RST, 0, b""), std::slice::from_ref(&again));
    hand.now += Duration::from_secs(1);
    assert_eq!(hand.rx(7, 0, flag::SYN, 0, b""), std::slice::from_ref(&again));
    assert!(hand.conn.is_resting() && hand.conn.is_open());
    // At work it is the same, and the window is what is left of it.
    hand.now += Duration::from_secs(1);
    hand.rx(0, 0, PSH, 125, b"hello");
    let mut windows = Vec::new();
    let syn = Incoming { seq: PEER + 100, ack: 0, flags: flag::SYN, window: 0, options: &[], payload: b"" };
    assert!(hand.conn.ingress(&syn, hand.now, &mut hand.sockets, |out| windows.push((out.ack, out.window))));
    assert_eq!(windows, [(PEER.wrapping_add(6), 65_530)]);
    let old = || {
        let mut hand = Hand::new();
        let habits = TcpHabits { challenges: false, ..TcpHabits::LINUX };
        hand.conn = Conn::accept(&Agreed { scale: 3, habits, ..agreed(1000) }, hand.now);
        hand.bare(0, 0, 125);
        hand
    };
    let mut hand = old();
    assert_eq!((hand.rx(7, 0, flag::RST, 0, b""), hand.conn.is_closed()), (vec![], true));
    for at_work in [false, true] {
        let mut hand = old();
        if at_work {
            hand.rx(0, 0, PSH, 125, b"hello");
        }
        // Of whom it says no number (RFC 9293 §3.10.7.1).
        let rst = told(0u32.wrapping_sub(OURS + 1), 8, flag::RST | flag::ACK, b"");
        assert_eq!(hand.rx(7, 0, flag::SYN, 0, b""), [rst]);
        assert!(hand.conn.is_closed());
        assert_eq!((hand.tick(), hand.sockets.budget().used()), (vec![], 0));
    }
}

#[test]
fn a_fin_comes_with_data_and_again_until_it_is_acknowledged() {
    // Both sides have said all, at the same time: CLOSING, then TIME-WAIT.
    let mut hand = Hand::new();
    hand.send(b"last words");
    hand.conn.close();
    assert_eq!(hand.tick(), [told(10, 0, FIN, b"")]);
    // The peer's own, with data, which does not acknowledge ours.
    let mut answer = hand.rx(0, 0, FIN | PSH, 125, b"mine");
    if answer.is_empty() {
        answer = hand.wait().1;
    }
    assert_eq!(answer, [told(11, 5, ACK, b"")]);
    assert_eq!(hand.read(), b"mine");
    assert!(hand.conn.at_end() && !hand.conn.is_time_wait());
    // Neither was acknowledged: both are sent again.
    assert_eq!(hand.wait().1, [told(0, 5, FIN, b"last words")]);
    // Its FIN again: it has not heard us either.
    assert_eq!(hand.rx(0, 0, FIN | PSH, 125, b"mine"), [told(11, 5, ACK, b"")]);
    assert_eq!(hand.bare(5, 11, 125), []);
    assert!(hand.conn.is_time_wait());
    assert_eq!(hand.rx(0, 11, FIN | PSH, 125, b"mine"), [told(11, 5, ACK, b"")]);
}
