//! The tests of nmap's second-generation OS detection and their attributes, as
//! "Remote OS Detection" of nmap's documentation lists them, laid out flat: one
//! slot for each attribute of each test, so that a reference fingerprint and an
//! observation are two arrays of the same length.

/// One attribute of one test.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Slot(u8);

/// How many there are.
pub const SLOTS: usize = 132;

/// SEQ: predictability of initial sequence numbers.
pub const SP: Slot = Slot(0);
/// SEQ: greatest common divisor of their differences.
pub const GCD: Slot = Slot(1);
/// SEQ: their rate.
pub const ISR: Slot = Slot(2);
/// SEQ: IP identification of the answers to SEQ.
pub const TI: Slot = Slot(3);
/// SEQ: that of the answers to T5, T6 and T7.
pub const CI: Slot = Slot(4);
/// SEQ: that of the answers to IE.
pub const II: Slot = Slot(5);
/// SEQ: whether TCP and ICMP share their counter.
pub const SS: Slot = Slot(6);
/// SEQ: the clock of TCP timestamps.
pub const TS: Slot = Slot(7);

const OPS: u8 = 8;
const WIN: u8 = 14;
const TCP: u8 = 20;
const TCP_KEYS: [&str; 12] = ["R", "DF", "T", "TG", "W", "S", "A", "F", "O", "RD", "CC", "Q"];
const U1: u8 = 116;
const IE: u8 = 127;

/// Every test: name, first slot, attributes.
const TESTS: [(&str, u8, &[&str]); 13] = [
    ("SEQ", 0, &["SP", "GCD", "ISR", "TI", "CI", "II", "SS", "TS"]),
    ("OPS", OPS, &["O1", "O2", "O3", "O4", "O5", "O6"]),
    ("WIN", WIN, &["W1", "W2", "W3", "W4", "W5", "W6"]),
    ("ECN", TCP, &TCP_KEYS),
    ("T1", TCP + 12, &TCP_KEYS),
    ("T2", TCP + 24, &TCP_KEYS),
    ("T3", TCP + 36, &TCP_KEYS),
    ("T4", TCP + 48, &TCP_KEYS),
    ("T5", TCP + 60, &TCP_KEYS),
    ("T6", TCP + 72, &TCP_KEYS),
    ("T7", TCP + 84, &TCP_KEYS),
    ("U1", U1, &["R", "DF", "T", "TG", "IPL", "UN", "RIPL", "RID", "RIPCK", "RUCK", "RUD"]),
    ("IE", IE, &["R", "DFI", "T", "TG", "CD"]),
];

/// Attribute of a test whose probe is a TCP segment (ECN, T1 to T7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Key {
    /// Whether there is an answer.
    R,
    /// The don't-fragment bit.
    Df,
    /// The initial TTL, where the distance is known.
    T,
    /// The guessed one, where it is not.
    Tg,
    /// The window.
    W,
    /// The sequence number.
    S,
    /// The acknowledgment number.
    A,
    /// The flags.
    F,
    /// The options.
    O,
    /// The CRC-32 of a RST's data.
    Rd,
    /// The flags of congestion control.
    Cc,
    /// Quirks.
    Q,
}

/// Attribute of U1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum UdpKey {
    /// Whether there is an answer.
    R,
    /// The don't-fragment bit.
    Df,
    /// The initial TTL, where the distance is known.
    T,
    /// The guessed one, where it is not.
    Tg,
    /// Total length of the answer.
    Ipl,
    /// The unused octets.
    Un,
    /// Quoted total length.
    Ripl,
    /// Quoted identification.
    Rid,
    /// Quoted IP checksum.
    Ripck,
    /// Quoted UDP checksum.
    Ruck,
    /// Quoted data.
    Rud,
}

/// Attribute of IE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EchoKey {
    /// Whether there is an answer.
    R,
    /// The don't-fragment bits.
    Dfi,
    /// The initial TTL, where the distance is known.
    T,
    /// The guessed one, where it is not.
    Tg,
    /// The codes.
    Cd,
}

/// The tests whose probe is a TCP segment to which one answer is awaited.
pub const TCP_TESTS: usize = 8;
/// ECN among them; T1 to T7 are 1 to 7.
pub const ECN: usize = 0;

/// The options of the answer to SYN `i` of six (O1 is 0).
pub const fn ops(i: usize) -> Slot {
    Slot(OPS + i as u8)
}

/// The window of it.
pub const fn win(i: usize) -> Slot {
    Slot(WIN + i as u8)
}

/// An attribute of TCP test `test` (0 is ECN, else its number).
pub const fn tcp(test: usize, key: Key) -> Slot {
    Slot(TCP + 12 * test as u8 + key as u8)
}

/// An attribute of U1.
pub const fn u1(key: UdpKey) -> Slot {
    Slot(U1 + key as u8)
}

/// An attribute of IE.
pub const fn ie(key: EchoKey) -> Slot {
    Slot(IE + key as u8)
}

impl Slot {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Slot> {
        (0..SLOTS as u8).map(Slot)
    }

    /// Its place in an array of [`SLOTS`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The names of its test and of itself.
    pub fn names(self) -> (&'static str, &'static str) {
        TESTS
            .iter()
            .rev()
            .find(|(_, first, _)| *first <= self.0)
            .and_then(|(test, first, keys)| Some((*test, *keys.get(usize::from(self.0 - first))?)))
            .unwrap_or(("?", "?"))
    }

    /// Its attribute, if it belongs to a TCP test, and that test's number.
    pub fn as_tcp(self) -> Option<(usize, Key)> {
        use Key::{A, Cc, Df, F, O, Q, R, Rd, S, T, Tg, W};
        let keys = [R, Df, T, Tg, W, S, A, F, O, Rd, Cc, Q];
        let at = usize::from(self.0.checked_sub(TCP)?);
        (self.0 < U1).then(|| (at / 12, keys[at % 12]))
    }
}

/// A test that is named in a database.
#[derive(Clone, Copy)]
pub(super) struct Test(usize);

impl Test {
    /// The test with this name.
    pub fn by_name(name: &str) -> Option<Test> {
        TESTS.iter().position(|(test, ..)| *test == name).map(Test)
    }

    /// Its place among the tests.
    pub fn index(self) -> usize {
        self.0
    }

    /// The slot of its attribute `key`.
    pub fn slot(self, key: &str) -> Option<Slot> {
        let (_, first, keys) = TESTS[self.0];
        keys.iter().position(|k| *k == key).map(|i| Slot(first + i as u8))
    }

    /// Whether it is SEQ, OPS or WIN: `R=N` is written there, too, but nothing compares it.
    pub fn has_no_r(self) -> bool {
        self.0 < 3
    }
}
