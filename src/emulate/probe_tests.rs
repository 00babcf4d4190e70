use super::*;
use crate::emulate::Sequence;

const SEQ: Sequence = Sequence {
    isn: IsnPattern::Rates { gcd: 1, per_second: [900_000, 1_100_000, 900_000, 1_100_000, 1_000_000] },
    ti: IdPattern::Step(1),
    ci: IdPattern::Step(1),
    ii: IdPattern::Step(256),
    ii_shares_ti: false,
    ts_hz: 100,
};

fn fingerprint(seq: Sequence) -> Fingerprint {
    Fingerprint {
        seq,
        syn: None,
        t1: None,
        ecn: None,
        open: [None, None, None],
        closed: [None, None, None],
        udp: None,
        echo: None,
    }
}

fn header(src: u16, seq: u32, flags: u8, window: u16, options: usize) -> TcpHeader {
    TcpHeader { src, dst: 80, seq, ack: 0xdead_beef, flags, window, len: 20 + options }
}

/// The numbers that a round of SEQ is answered with, `gap` microseconds apart.
fn round(fingerprint: &Fingerprint, scan: &mut Scan, port: u16, base: u32, start: Instant, gap: i64) -> Vec<u32> {
    let mut now = start;
    let answers = (0..6).map(|number| {
        let (window, options) = SYNS[number];
        let tcp = header(port + number as u16, base.wrapping_add(number as u32), flag::SYN, window, options.len());
        let Turn::Seq(isn) = scan.syn(fingerprint, number, &tcp, 0x1234_5678_9abc_def0, now) else {
            panic!("SEQ {number} was taken for something else")
        };
        // The same once more is answered with the same.
        assert_eq!(scan.syn(fingerprint, number, &tcp, 77, now), Turn::Seq(isn));
        now += Duration::from_micros(gap as u64);
        isn
    });
    answers.collect()
}

fn differences(isns: &[u32]) -> Vec<u32> {
    isns.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect()
}

#[test]
fn each_probe_is_known_by_its_oddities() {
    for (number, (window, options)) in SYNS.into_iter().enumerate() {
        let tcp = header(40_000, 1, flag::SYN, window, options.len());
        assert_eq!(recognize(&tcp, options), Some(Probe::Syn(number)));
        assert_eq!(recognize(&TcpHeader { window: window + 1, ..tcp }, options), None);
    }
    let (window, options) = ECN;
    assert_eq!(recognize(&header(1, 1, flag::SYN | ECE_CWR, window, options.len()), options), Some(Probe::Ecn));
    let mut last = OTHERS.to_vec();
    last[2] = 15;
    let expected =
        [Probe::Open(0), Probe::Open(1), Probe::Open(2), Probe::Closed(0), Probe::Closed(1), Probe::Closed(2)];
    for ((flags, window), probe) in FLAGS.into_iter().zip(expected) {
        let options = if probe == Probe::Closed(2) { &last } else { OTHERS };
        assert_eq!(recognize(&header(1, 1, flags, window, options.len()), options), Some(probe));
    }
    // What Linux and a port scan send is nobody's probe.
    let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    assert_eq!(recognize(&header(1, 1, flag::SYN, 64_240, linux.len()), &linux), None);
    assert_eq!(recognize(&header(1, 1, flag::SYN, 1024, 4), &[2, 4, 5, 0xb4]), None);
}

#[test]
fn sequence_numbers_follow_the_pattern_at_whatever_pace() {
    let known = fingerprint(SEQ);
    for gap in [100_000, 100_311, 250_007] {
        let mut scan = Scan::new(9, Instant::from_secs(5));
        let isns = round(&known, &mut scan, 40_000, 7, Instant::from_secs(5), gap);
        let rates: Vec<i64> = differences(&isns).iter().map(|d| i64::from(*d) * 1_000_000 / gap).collect();
        for (rate, wanted) in rates.iter().zip([900_000, 1_100_000, 900_000, 1_100_000, 1_000_000]) {
            assert!((rate - wanted).abs() <= 11, "{rates:?}");
        }
        assert_eq!(differences(&isns).into_iter().fold(0, gcd), 1);
    }
}

#[test]
fn differences_have_the_very_divisor() {
    let seq = Sequence { isn: IsnPattern::Rates { gcd: 64, per_second: [640_000; 5] }, ..SEQ };
    let mut scan = Scan::new(9, Instant::ZERO);
    let isns = round(&fingerprint(seq), &mut scan, 40_000, 7, Instant::ZERO, 100_000);
    assert_eq!(differences(&isns).into_iter().fold(0, gcd), 64);
    let seq = Sequence { isn: IsnPattern::Steps([64_000, 128_000, 64_000, 64_000, 64_000]), ..SEQ };
    let isns = round(&fingerprint(seq), &mut scan, 50_000, 9, Instant::ZERO, 130_000);
    assert_eq!(differences(&isns), [64_000, 128_000, 64_000, 64_000, 64_000]);
    let seq = Sequence { isn: IsnPattern::Constant(0x0102_0304), ..SEQ };
    assert_eq!(round(&fingerprint(seq), &mut scan, 51_000, 9, Instant::ZERO, 100_000), [0x0102_0304; 6]);
}

#[test]
fn repetitions_and_later_rounds_are_told_apart() {
    let known = fingerprint(SEQ);
    let mut scan = Scan::new(9, Instant::ZERO);
    round(&known, &mut scan, 40_000, 7, Instant::ZERO, 100_000);
    let later = Instant::from_millis(700);
    let ask = |scan: &mut Scan, src, seq, number: usize| {
        let (window, options) = SYNS[number];
        scan.syn(&known, number, &header(src, seq, flag::SYN, window, options.len()), 5, later)
    };
    assert!(matches!(ask(&mut scan, 40_009, 7, 3), Turn::Ops(_)));
    assert!(matches!(ask(&mut scan, 40_013, 7, 0), Turn::T1(_)));
    // The next round has the same ports and other numbers.
    assert!(matches!(ask(&mut scan, 40_000, 99, 0), Turn::Seq(_)));
    assert!(matches!(ask(&mut scan, 40_001, 100, 1), Turn::Seq(_)));
}

#[test]
fn identifications_are_of_their_class_in_every_scan() {
    let known = fingerprint(SEQ);
    for random in (0..2_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let mut scan = Scan::new(random, Instant::ZERO);
        for base in 0..4 {
            round(&known, &mut scan, 40_000, base, Instant::from_secs(i64::from(base)), 100_000);
            let ids: Vec<u16> = (0..6).map(|n| scan.ip_id(&known, Probe::Syn(n))).collect();
            assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ids:?}");
            let echo = [scan.echo_id(&known), scan.echo_id(&known)];
            assert_eq!(echo[1], echo[0] + 256);
            assert!(echo[0] - 0x8000 >= ids[5] || echo[0] > ids[5] + 3, "a counter of its own lies above");
            let chance = Fingerprint { seq: Sequence { ti: IdPattern::Random, ..SEQ }, ..known.clone() };
            let ids: Vec<u16> = (0..6).map(|n| scan.ip_id(&chance, Probe::Syn(n))).collect();
            assert!(ids.windows(2).any(|pair| pair[1] < pair[0] || pair[1] - pair[0] > 20_000), "{ids:?}");
        }
    }
}

#[test]
fn a_slow_clock_ticks_within_a_round() {
    let scan = Scan::new(1, Instant::from_secs(3));
    let at = |millis| scan.timestamp(2, |_| 1000, Instant::from_secs(3) + Duration::from_millis(millis));
    assert_eq!((at(0), at(500)), (1000 + u32::from(at(0) != 1000), at(0) + 1));
    assert_eq!(scan.timestamp(0, |_| 5, Instant::from_secs(9)), 5, "one that stands");
    assert_eq!(scan.timestamp(100, |_| 0, Instant::from_secs(9)), 1, "never 0");
}
