//! What nmap would print of a host with a given fingerprint, and how a record of
//! the database fits that: the formulas of "Remote OS Detection", Response tests,
//! and of its scoring.

use super::crc::crc32;
use super::db::{Db, Record};
use super::expr;
use super::options;
use super::schema::{self, EchoKey, Key, SLOTS, Slot, UdpKey};
use crate::emulate::fingerprint::{
    AckNumber, EchoCode, EchoDf, Fingerprint, IdPattern, IsnPattern, Opt, Quoted, QuotedChecksum, SeqNumber, TcpAnswer,
};
use crate::wire::flag;

/// Values by slot; what is not there was not seen.
pub type Observation = [Option<String>; SLOTS];

/// Seconds between two SYNs of SEQ.
const PACE: f64 = 0.1001;

/// What nmap sees of a host next to it.
pub fn observe(fingerprint: &Fingerprint) -> Observation {
    let mut seen: Observation = [const { None }; SLOTS];
    let less = fingerprint.udp.map(|udp| u32::from(udp.quoted_ttl_less));
    let mut put = |slot: Slot, value: String| seen[slot.index()] = Some(value);
    sequence(fingerprint, &mut put);
    if let Some(syns) = &fingerprint.syn {
        for (at, syn) in syns.iter().enumerate() {
            put(schema::ops(at), options::write(&syn.options));
            put(schema::win(at), format!("{:X}", syn.window));
        }
    }
    let answers = [&fingerprint.ecn, &fingerprint.t1].into_iter().chain(&fingerprint.open).chain(&fingerprint.closed);
    for (test, answer) in answers.enumerate() {
        tcp(test, answer.as_ref(), less, &mut put);
    }
    let ttl = |ttl: u8| match less {
        Some(less) => (true, format!("{:X}", u32::from(ttl) + less)),
        None => (false, guess(ttl).to_owned()),
    };
    match &fingerprint.udp {
        None => put(schema::u1(UdpKey::R), "N".into()),
        Some(udp) => {
            let quoted = |field: Quoted| match field {
                Quoted::Same => "G".to_owned(),
                Quoted::Value(value) => format!("{value:X}"),
            };
            put(schema::u1(UdpKey::R), "Y".into());
            put(schema::u1(UdpKey::Df), yes(udp.df));
            put(schema::u1(UdpKey::T), ttl(udp.ttl).1);
            put(schema::u1(UdpKey::Ipl), format!("{:X}", udp.total));
            put(schema::u1(UdpKey::Un), format!("{:X}", udp.unused & 0xffff));
            put(schema::u1(UdpKey::Ripl), quoted(udp.quoted_total));
            put(schema::u1(UdpKey::Rid), quoted(udp.quoted_id));
            let sum = match udp.quoted_checksum {
                QuotedChecksum::Good => "G",
                QuotedChecksum::Zero => "Z",
                QuotedChecksum::Wrong => "I",
            };
            put(schema::u1(UdpKey::Ripck), sum.into());
            put(schema::u1(UdpKey::Ruck), quoted(udp.quoted_udp_checksum));
            put(schema::u1(UdpKey::Rud), if udp.data_intact || udp.total <= 56 { "G" } else { "I" }.into());
        }
    }
    match &fingerprint.echo {
        None => put(schema::ie(EchoKey::R), "N".into()),
        Some(echo) => {
            put(schema::ie(EchoKey::R), "Y".into());
            let df = match echo.df {
                EchoDf::Set => "Y",
                EchoDf::Clear => "N",
                EchoDf::Same => "S",
                EchoDf::Inverse => "O",
            };
            put(schema::ie(EchoKey::Dfi), df.into());
            let (known, text) = ttl(echo.ttl);
            put(schema::ie(if known { EchoKey::T } else { EchoKey::Tg }), text);
            let code = match echo.code {
                EchoCode::Value(0) => "Z".to_owned(),
                EchoCode::Value(code) => format!("{code:X}"),
                EchoCode::Same => "S".to_owned(),
                EchoCode::Other => "O".to_owned(),
            };
            put(schema::ie(EchoKey::Cd), code);
        }
    }
    seen
}

fn yes(yes: bool) -> String {
    if yes { "Y" } else { "N" }.to_owned()
}

/// The initial TTL that nmap guesses.
fn guess(ttl: u8) -> &'static str {
    match ttl {
        0..=0x20 => "20",
        0x21..=0x40 => "40",
        0x41..=0x80 => "80",
        _ => "FF",
    }
}

fn tcp(test: usize, answer: Option<&TcpAnswer>, less: Option<u32>, put: &mut impl FnMut(Slot, String)) {
    let Some(answer) = answer else { return put(schema::tcp(test, Key::R), "N".into()) };
    put(schema::tcp(test, Key::R), "Y".into());
    put(schema::tcp(test, Key::Df), yes(answer.df));
    match less {
        Some(less) => put(schema::tcp(test, Key::T), format!("{:X}", u32::from(answer.ttl) + less)),
        None => put(schema::tcp(test, Key::Tg), guess(answer.ttl).into()),
    }
    put(schema::tcp(test, Key::Q), quirks(answer));
    if test != 1 {
        put(schema::tcp(test, Key::W), format!("{:X}", answer.window));
        put(schema::tcp(test, Key::O), options::write(&answer.options));
    }
    if test == schema::ECN {
        let cc = match answer.flags & 0xc0 {
            0xc0 => "S",
            0x40 => "Y",
            0x80 => "O",
            _ => "N",
        };
        return put(schema::tcp(test, Key::Cc), cc.into());
    }
    let seq = match answer.seq {
        SeqNumber::Zero => "Z",
        SeqNumber::Ack => "A",
        SeqNumber::AckPlus => "A+",
        SeqNumber::Own => "O",
    };
    let ack = match answer.ack {
        AckNumber::Zero => "Z",
        AckNumber::Seq => "S",
        AckNumber::SeqPlus => "S+",
        AckNumber::Other => "O",
    };
    put(schema::tcp(test, Key::S), seq.into());
    put(schema::tcp(test, Key::A), ack.into());
    put(schema::tcp(test, Key::F), letters(answer.flags));
    let crc = if answer.flags & flag::RST != 0 && !answer.data.is_empty() { crc32(&answer.data) } else { 0 };
    put(schema::tcp(test, Key::Rd), format!("{crc:X}"));
}

fn quirks(answer: &TcpAnswer) -> String {
    format!("{}{}", if answer.reserved { "R" } else { "" }, if answer.urgent { "U" } else { "" })
}

/// Flags in nmap's letters and order.
pub const FLAGS: [(char, u8); 7] = [
    ('E', 0x40),
    ('U', 0x20),
    ('A', flag::ACK),
    ('P', flag::PSH),
    ('R', flag::RST),
    ('S', flag::SYN),
    ('F', flag::FIN),
];

fn letters(flags: u8) -> String {
    FLAGS.iter().filter(|(_, bit)| flags & bit != 0).map(|(letter, _)| *letter).collect()
}

fn sequence(fingerprint: &Fingerprint, put: &mut impl FnMut(Slot, String)) {
    let seq = &fingerprint.seq;
    let silent_first = fingerprint.t1.as_ref().is_none_or(|t1| t1.seq == SeqNumber::Zero);
    let answered = fingerprint.syn.iter().flat_map(|syns| syns.iter().enumerate());
    let answered: Vec<&[Opt]> = answered
        .filter(|(at, syn)| !syn.only_repeated && !(*at == 0 && silent_first))
        .map(|(_, syn)| &*syn.options)
        .collect();
    if answered.len() >= 4 {
        let (sp, gcd, isr) = predictability(&differences(&seq.isn, answered.len() - 1));
        put(schema::SP, format!("{sp:X}"));
        put(schema::GCD, format!("{gcd:X}"));
        put(schema::ISR, format!("{isr:X}"));
    }
    let ti = if answered.len() >= 3 { class(seq.ti, answered.len()) } else { None };
    let closed = fingerprint.closed.iter().flatten().count();
    let ci = if closed >= 2 { class(seq.ci, closed) } else { None };
    let ii = if fingerprint.echo.is_some() { class(seq.ii, 2) } else { None };
    let counts = |class: &Option<String>| matches!(class.as_deref(), Some("I" | "BI" | "RI"));
    if counts(&ti) && counts(&ii) {
        put(schema::SS, if seq.ii_shares_ti { "S" } else { "O" }.into());
    }
    for (slot, class) in [(schema::TI, ti), (schema::CI, ci), (schema::II, ii)] {
        if let Some(class) = class {
            put(slot, class);
        }
    }
    if let Some(ts) = clock(&answered, seq.ts_hz) {
        put(schema::TS, ts);
    }
}

/// The class of identifications, `count` of which are seen.
fn class(pattern: IdPattern, count: usize) -> Option<String> {
    let text = match pattern {
        IdPattern::Zero => "Z".to_owned(),
        IdPattern::Constant(id) => format!("{id:X}"),
        IdPattern::Random if count > 2 => "RD".to_owned(),
        IdPattern::Random => "RI".to_owned(),
        IdPattern::Step(step) if step > 1000 && !(step % 256 == 0 && step < 25600) => "RI".to_owned(),
        IdPattern::Step(step) if step % 256 == 0 && step <= 5120 => "BI".to_owned(),
        IdPattern::Step(step) if step < 10 => "I".to_owned(),
        IdPattern::Step(_) | IdPattern::Unclassified => return None,
    };
    Some(text)
}

/// What nmap says of the timestamps among these options.
pub fn clock(answered: &[&[Opt]], hz: u64) -> Option<String> {
    let mut odd = None;
    for list in answered {
        match list.iter().find(|option| options::is_timestamps(option)) {
            None => odd = Some("U"),
            Some(Opt::Timestamps { value: false, .. }) => odd = Some("0"),
            Some(_) => {}
        }
    }
    if odd.is_some() || answered.is_empty() {
        return odd.map(str::to_owned);
    }
    let hz = hz as f64;
    let class = match hz {
        0.0 => return None,
        _ if hz <= 5.66 => 1,
        _ if (70.0..=150.0).contains(&hz) => 7,
        _ if (150.0..=350.0).contains(&hz) => 8,
        _ => hz.log2().round() as u32,
    };
    Some(format!("{class:X}"))
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The differences of sequence numbers at nmap's pace.
pub fn differences(pattern: &IsnPattern, gaps: usize) -> Vec<u64> {
    match pattern {
        IsnPattern::Constant(_) => vec![0; gaps],
        IsnPattern::Steps(steps) => steps.iter().take(gaps).map(|step| u64::from(*step)).collect(),
        IsnPattern::Rates { gcd: of, per_second } => {
            let of = u64::from((*of).max(1));
            let mut times: Vec<u64> = per_second
                .iter()
                .take(gaps)
                .map(|rate| ((*rate as f64 * PACE / of as f64).round() as u64).max(1))
                .collect();
            if times.len() == 5 && times.iter().fold(0, |all, one| gcd(all, *one)) != 1 {
                times[4] += 1;
            }
            times.into_iter().map(|times| times * of).collect()
        }
    }
}

/// SP, GCD and ISR of differences (nmap's "TCP ISN sequence predictability index").
pub fn predictability(differences: &[u64]) -> (u64, u64, u64) {
    predictability_at(differences, [PACE; 5])
}

/// The same with so many seconds between the SYNs.
pub fn predictability_at(differences: &[u64], paces: [f64; 5]) -> (u64, u64, u64) {
    let folded: Vec<u64> = differences.iter().map(|d| (*d).min((1 << 32) - (*d).min(1 << 32))).collect();
    let divisor = folded.iter().fold(0, |all, one| gcd(all, *one));
    if divisor == 0 {
        return (0, 0, 0);
    }
    let rates: Vec<f64> = folded.iter().zip(paces).map(|(d, pace)| *d as f64 / pace).collect();
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let by = if divisor > 9 { divisor as f64 } else { 1.0 };
    let square = rates.iter().map(|rate| ((rate - mean) / by).powi(2)).sum::<f64>() / (count - 1.0);
    let deviation = square.sqrt();
    let sp = if deviation <= 1.0 { 0 } else { (8.0 * deviation.log2() + 0.5).floor() as u64 };
    let isr = (8.0 * mean.log2() + 0.5).floor().max(0.0) as u64;
    (sp, divisor, isr)
}

/// Slots in the order in which records differ soonest.
fn order() -> impl Iterator<Item = Slot> {
    let first = (0..6).flat_map(|at| [schema::ops(at), schema::win(at)]);
    first.chain(Slot::all().filter(|slot| !(8..20).contains(&slot.index())))
}

/// Whether nothing that both sides know differs, as either version of nmap compares.
pub fn is_perfect_rival(db: &Db, record: &Record, seen: &Observation) -> bool {
    order().all(|slot| match (db.get(record, slot), &seen[slot.index()]) {
        (Some(expression), Some(value)) => db.points(slot) == 0 || expr::accepts_either(expression, value),
        _ => true,
    })
}

/// The slots in which a record and what was seen differ, as the stricter version compares.
pub fn mismatches(db: &Db, record: &Record, seen: &Observation) -> Vec<Slot> {
    let differs = |slot: &Slot| match (db.get(record, *slot), &seen[slot.index()]) {
        (Some(expression), Some(value)) => db.points(*slot) > 0 && !expr::accepts(expression, value),
        _ => false,
    };
    Slot::all().filter(differs).collect()
}
