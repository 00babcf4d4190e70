//! What nmap would see of a [`Fingerprint`]: its tests and attributes, as the
//! methods of "Remote OS Detection" derive them from the answers.

use std::borrow::Cow;
use std::fmt;

use super::super::fingerprint::{
    AckNumber, EchoAnswer, EchoCode, EchoDf, Fingerprint, IdPattern, Opt, Quoted, QuotedChecksum, SeqNumber, TcpAnswer,
    UdpAnswer,
};
use super::isn::{self, Replies};
use super::schema::{self, ECN, EchoKey, Key, SLOTS, Slot, UdpKey};
use super::{crc, options};

/// Values of attributes; what is missing was not observed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observation {
    values: Vec<Option<Cow<'static, str>>>,
}

impl Observation {
    /// The value of an attribute.
    pub fn get(&self, slot: Slot) -> Option<&str> {
        self.at(slot.index())
    }

    pub(super) fn at(&self, index: usize) -> Option<&str> {
        self.values.get(index)?.as_deref()
    }

    fn put(&mut self, slot: Slot, value: impl Into<Cow<'static, str>>) {
        self.values[slot.index()] = Some(value.into());
    }

    fn put_hex(&mut self, slot: Slot, value: impl fmt::UpperHex) {
        self.put(slot, format!("{value:X}"));
    }
}

impl fmt::Display for Observation {
    /// As nmap prints a fingerprint, one test a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut open = None;
        for slot in Slot::all() {
            let Some(value) = self.get(slot) else { continue };
            let (test, key) = slot.names();
            match open {
                Some(last) if last == test => f.write_str("%")?,
                Some(_) => write!(f, ")\n{test}(")?,
                None => write!(f, "{test}(")?,
            }
            write!(f, "{key}={value}")?;
            open = Some(test);
        }
        f.write_str(if open.is_some() { ")" } else { "" })
    }
}

/// Which of the six SYNs of SEQ get an answer that counts: one with SYN and ACK and a number other than zero.
pub fn replies(fingerprint: &Fingerprint) -> Replies {
    let Some(syn) = &fingerprint.syn else { return Replies { seen: [false; 6], first_hidden: false } };
    let mut seen = std::array::from_fn(|i| !syn[i].only_repeated);
    let first = fingerprint.t1.as_ref();
    let own = first.is_some_and(|t1| t1.seq != SeqNumber::Zero);
    let first_hidden = seen[0] && own && first.is_none_or(|t1| t1.flags & 0x12 != 0x12);
    seen[0] &= own && !first_hidden;
    Replies { seen, first_hidden }
}

/// What nmap would see.
pub fn observe(fingerprint: &Fingerprint) -> Observation {
    let mut seen = Observation { values: vec![None; SLOTS] };
    sequence(fingerprint, &mut seen);
    if let Some(syn) = &fingerprint.syn {
        for (i, answer) in syn.iter().enumerate() {
            seen.put(schema::ops(i), options::write(&answer.options));
            seen.put_hex(schema::win(i), answer.window);
        }
    }
    let closer = fingerprint.udp.map(|udp| udp.quoted_ttl_less);
    let [t2, t3, t4] = &fingerprint.open;
    let [t5, t6, t7] = &fingerprint.closed;
    let tests = [&fingerprint.ecn, &fingerprint.t1, t2, t3, t4, t5, t6, t7];
    for (test, answer) in tests.into_iter().enumerate() {
        match answer {
            Some(answer) => tcp(test, answer, closer, &mut seen),
            None => seen.put(schema::tcp(test, Key::R), "N"),
        }
    }
    match &fingerprint.udp {
        Some(answer) => udp(answer, &mut seen),
        None => seen.put(schema::u1(UdpKey::R), "N"),
    }
    match &fingerprint.echo {
        Some(answer) => echo(*answer, closer, &mut seen),
        None => seen.put(schema::ie(EchoKey::R), "N"),
    }
    seen
}

/// T if the distance is known by what U1's answer quotes, else TG.
fn ttl(ttl: u8, closer: Option<u8>, [exact, guess]: [Slot; 2], seen: &mut Observation) {
    match closer {
        Some(closer) => seen.put_hex(exact, u16::from(ttl) + u16::from(closer)),
        None => seen.put(guess, guessed(ttl)),
    }
}

/// The initial TTL that nmap guesses of the one that comes.
pub(super) fn guessed(ttl: u8) -> &'static str {
    match ttl {
        0..=0x20 => "20",
        0x21..=0x40 => "40",
        0x41..=0x80 => "80",
        _ => "FF",
    }
}

fn yes(bit: bool) -> &'static str {
    if bit { "Y" } else { "N" }
}

fn tcp(test: usize, answer: &TcpAnswer, closer: Option<u8>, seen: &mut Observation) {
    let slot = |key| schema::tcp(test, key);
    seen.put(slot(Key::R), "Y");
    seen.put(slot(Key::Df), yes(answer.df));
    ttl(answer.ttl, closer, [slot(Key::T), slot(Key::Tg)], seen);
    seen.put(
        slot(Key::Q),
        match (answer.reserved, answer.urgent && answer.flags & 0x20 == 0) {
            (true, true) => "RU",
            (true, false) => "R",
            (false, true) => "U",
            (false, false) => "",
        },
    );
    if test != 1 {
        seen.put_hex(slot(Key::W), answer.window);
        seen.put(slot(Key::O), options::write(&answer.options));
    }
    if test == ECN {
        let both = (answer.flags & 0x40 != 0, answer.flags & 0x80 != 0);
        let cc = match both {
            (true, true) => "S",
            (true, false) => "Y",
            (false, true) => "O",
            (false, false) => "N",
        };
        return seen.put(slot(Key::Cc), cc);
    }
    seen.put(
        slot(Key::S),
        match answer.seq {
            SeqNumber::Zero => "Z",
            SeqNumber::Ack => "A",
            SeqNumber::AckPlus => "A+",
            SeqNumber::Own => "O",
        },
    );
    seen.put(
        slot(Key::A),
        match answer.ack {
            AckNumber::Zero => "Z",
            AckNumber::Seq => "S",
            AckNumber::SeqPlus => "S+",
            AckNumber::Other => "O",
        },
    );
    seen.put(
        slot(Key::F),
        FLAGS.iter().filter(|(_, bit)| answer.flags & bit != 0).map(|(l, _)| *l).collect::<String>(),
    );
    match &*answer.data {
        data if answer.flags & 0x04 != 0 && !data.is_empty() => {
            seen.put(slot(Key::Rd), format!("{:08X}", crc::crc32(data)))
        }
        _ => seen.put(slot(Key::Rd), "0"),
    }
}

/// Letters of F in their order, with the bits of the flags octet.
pub(super) const FLAGS: [(char, u8); 7] =
    [('E', 0x40), ('U', 0x20), ('A', 0x10), ('P', 0x08), ('R', 0x04), ('S', 0x02), ('F', 0x01)];

fn udp(answer: &UdpAnswer, seen: &mut Observation) {
    let slot = schema::u1;
    // What U1's datagram has there: 300 octets of data, and identification 0x1042.
    let quoted = |field, sent: u16| match field {
        Quoted::Value(value) if value != sent => format!("{value:X}").into(),
        Quoted::Same | Quoted::Value(_) => Cow::Borrowed("G"),
    };
    seen.put(slot(UdpKey::R), "Y");
    seen.put(slot(UdpKey::Df), yes(answer.df));
    ttl(answer.ttl, Some(answer.quoted_ttl_less), [slot(UdpKey::T), slot(UdpKey::Tg)], seen);
    seen.put_hex(slot(UdpKey::Ipl), answer.total);
    seen.put_hex(slot(UdpKey::Un), answer.unused & 0xffff);
    seen.put(slot(UdpKey::Ripl), quoted(answer.quoted_total, 328));
    seen.put(slot(UdpKey::Rid), quoted(answer.quoted_id, 0x1042));
    seen.put(
        slot(UdpKey::Ripck),
        match answer.quoted_checksum {
            QuotedChecksum::Good => "G",
            QuotedChecksum::Zero => "Z",
            QuotedChecksum::Wrong => "I",
        },
    );
    match answer.quoted_udp_checksum {
        Quoted::Same => seen.put(slot(UdpKey::Ruck), "G"),
        Quoted::Value(value) => seen.put_hex(slot(UdpKey::Ruck), value),
    }
    // The headers of the answer and of what it quotes take 56 octets.
    seen.put(slot(UdpKey::Rud), if answer.data_intact || answer.total <= 56 { "G" } else { "I" });
}

fn echo(answer: EchoAnswer, closer: Option<u8>, seen: &mut Observation) {
    let slot = schema::ie;
    seen.put(slot(EchoKey::R), "Y");
    seen.put(
        slot(EchoKey::Dfi),
        match answer.df {
            EchoDf::Set => "Y",
            EchoDf::Clear => "N",
            EchoDf::Same => "S",
            EchoDf::Inverse => "O",
        },
    );
    ttl(answer.ttl, closer, [slot(EchoKey::T), slot(EchoKey::Tg)], seen);
    match answer.code {
        EchoCode::Value(0) => seen.put(slot(EchoKey::Cd), "Z"),
        EchoCode::Value(code) => seen.put_hex(slot(EchoKey::Cd), code),
        EchoCode::Same => seen.put(slot(EchoKey::Cd), "S"),
        EchoCode::Other => seen.put(slot(EchoKey::Cd), "O"),
    }
}

fn sequence(fingerprint: &Fingerprint, seen: &mut Observation) {
    let shown = replies(fingerprint);
    let replies = shown.seen.iter().filter(|seen| **seen).count();
    let seq = &fingerprint.seq;
    if let Some(triple) = isn::triple(&seq.isn, &shown) {
        seen.put_hex(schema::SP, triple.sp);
        seen.put_hex(schema::GCD, triple.gcd);
        seen.put_hex(schema::ISR, triple.isr);
    }
    let ti = if replies >= 3 { id_class(seq.ti, replies) } else { None };
    // Equal numbers in answers to SEQ are taken for copies of one packet.
    let ti = ti.filter(|_| !matches!(seq.ti, IdPattern::Constant(_)));
    let closed = fingerprint.closed.iter().flatten().count();
    let ci = if closed >= 2 { id_class(seq.ci, closed) } else { None };
    let ii = fingerprint.echo.and_then(|_| id_class(seq.ii, 2));
    if counts(seq.ti) && counts(seq.ii) && ti.is_some() && ii.is_some() {
        seen.put(schema::SS, if seq.ii_shares_ti { "S" } else { "O" });
    }
    for (slot, class) in [(schema::TI, ti), (schema::CI, ci), (schema::II, ii)] {
        if let Some(class) = class {
            seen.put(slot, class);
        }
    }
    if let Some(class) = clock_class(fingerprint, &shown.seen) {
        seen.put(schema::TS, class);
    }
}

/// Whether the numbers count up in a way that lets nmap compare two counters: even steps do not.
fn counts(pattern: IdPattern) -> bool {
    matches!(pattern, IdPattern::Step(step) if step % 2 != 0 || step % 256 == 0 || step > 1000)
}

/// The class of identifications in `packets` packets.
fn id_class(pattern: IdPattern, packets: usize) -> Option<Cow<'static, str>> {
    let class = match pattern {
        IdPattern::Zero | IdPattern::Constant(0) => "Z",
        IdPattern::Constant(id) => return Some(format!("{id:X}").into()),
        IdPattern::Random if packets > 2 => "RD",
        // Nothing goes down that nmap would notice: one large difference.
        IdPattern::Random => "RI",
        IdPattern::Step(step) if step > 1000 && !(step % 256 == 0 && step < 25_600) => "RI",
        IdPattern::Step(step) if step % 256 == 0 && step <= 5120 => "BI",
        IdPattern::Step(step) if step % 2 == 0 || step < 10 => "I",
        IdPattern::Step(_) | IdPattern::Unclassified => return None,
    };
    Some(class.into())
}

/// The class of the timestamps' clock. Of answers without timestamps and answers with a zero, the last decides.
fn clock_class(fingerprint: &Fingerprint, answered: &[bool; 6]) -> Option<Cow<'static, str>> {
    let syn = fingerprint.syn.as_ref()?;
    let mut class = None;
    let mut any = false;
    for (answer, _) in syn.iter().zip(answered).filter(|(_, answered)| **answered) {
        any = true;
        match timestamps(&answer.options) {
            Clock::None => class = Some("U"),
            Clock::Zero => class = Some("0"),
            Clock::Counts => {}
        }
    }
    match class {
        _ if !any => None,
        Some(class) => Some(class.into()),
        None => clock_rate(fingerprint.seq.ts_hz).map(|class| format!("{class:X}").into()),
    }
}

/// What an answer's options tell about the clock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// There is none.
    None,
    /// It stands at zero.
    Zero,
    /// It counts.
    Counts,
}

pub(super) fn timestamps(options: &[Opt]) -> Clock {
    options
        .iter()
        .find_map(|option| match option {
            Opt::Timestamps { value, .. } => Some(if *value { Clock::Counts } else { Clock::Zero }),
            _ => None,
        })
        .unwrap_or(Clock::None)
}

/// The class of a clock that counts `hz` a second.
pub(super) fn clock_rate(hz: u64) -> Option<u32> {
    match hz {
        0 => None,
        1..=5 => Some(1),
        6..=70 => Some((hz as f64).log2().round() as u32),
        71..=150 => Some(7),
        151..=350 => Some(8),
        _ => Some((hz as f64).log2().round() as u32),
    }
}

/// A rate of class `class`.
pub(super) fn clock_hz(class: u64) -> Option<u64> {
    let hz = match class {
        1 => 2,
        6 => 60,
        7 => 100,
        8 => 200,
        9 => 500,
        0xa => 1000,
        0xb => 2000,
        0xc => 4000,
        // Above, a tenth of a second is more than half of the numbers that there are.
        3..=0x22 => 1 << class,
        _ => return None,
    };
    (clock_rate(hz) == Some(class as u32)).then_some(hz)
}
