//! From what an observation is wanted to say to the fingerprint that says it.

use super::crc;
use super::expr;
use super::observe::{FLAGS, Observation, clock};
use super::options;
use super::schema::{self, EchoKey, Key, Slot, UdpKey};
use crate::emulate::fingerprint::{
    AckNumber, EchoAnswer, EchoCode, EchoDf, Fingerprint, IdPattern, IsnPattern, Opt, Quoted, QuotedChecksum,
    SeqNumber, Sequence, SynAnswer, TcpAnswer, UdpAnswer,
};
use crate::wire::flag;

/// What is wanted, by slot.
pub struct Wanted(pub Observation);

impl Wanted {
    fn get(&self, slot: Slot) -> Option<&str> {
        self.0[slot.index()].as_deref()
    }

    fn number(&self, slot: Slot) -> Option<u64> {
        self.get(slot).and_then(expr::hex)
    }

    /// The fingerprint, with these sequence numbers.
    pub fn build(&self, isn: IsnPattern) -> Fingerprint {
        let less = self.beyond();
        let udp = self.udp(less);
        let mut fingerprint = Fingerprint {
            seq: self.sequence(isn),
            syn: self.syns(),
            t1: self.tcp(1, less),
            ecn: self.tcp(schema::ECN, less),
            open: [2, 3, 4].map(|test| self.tcp(test, less)),
            closed: [5, 6, 7].map(|test| self.tcp(test, less)),
            udp,
            echo: self.echo(less),
        };
        if let Some(t1) = &mut fingerprint.t1
            && let Some(syns) = &fingerprint.syn
        {
            (t1.options, t1.window) = (syns[0].options.clone(), syns[0].window);
        }
        self.leave_out(&mut fingerprint);
        fingerprint
    }

    /// By how much the largest initial TTL that is wanted exceeds what a header holds: so much nearer the quoted one must be.
    fn beyond(&self) -> u8 {
        let tests = (0..schema::TCP_TESTS).map(|test| schema::tcp(test, Key::T));
        let all = tests.chain([schema::u1(UdpKey::T), schema::ie(EchoKey::T)]);
        let most = all.filter_map(|slot| self.number(slot)).max().unwrap_or(0);
        most.saturating_sub(255).min(64) as u8
    }

    fn ttl(&self, known: Slot, guessed: Slot, less: u8) -> u8 {
        let ttl = self.number(known).or_else(|| self.number(guessed)).unwrap_or(64);
        ttl.saturating_sub(u64::from(less)).clamp(1, 255) as u8
    }

    fn sequence(&self, isn: IsnPattern) -> Sequence {
        let ids = |slot| match self.get(slot) {
            Some("Z") => IdPattern::Zero,
            Some("I") => IdPattern::Step(1),
            Some("BI") => IdPattern::Step(256),
            Some("RI") => IdPattern::Step(1503),
            // Two packets never look random.
            Some("RD") if slot != schema::II => IdPattern::Random,
            // Equal packets are taken for one.
            Some(text) if slot != schema::TI => {
                expr::hex(text).map_or(IdPattern::Unclassified, |id| IdPattern::Constant(id as u16))
            }
            _ => IdPattern::Unclassified,
        };
        Sequence {
            isn,
            ti: ids(schema::TI),
            ci: ids(schema::CI),
            ii: ids(schema::II),
            ii_shares_ti: self.get(schema::SS) == Some("S"),
            ts_hz: match self.number(schema::TS) {
                _ if matches!(self.get(schema::TS), None | Some("U" | "0")) => 0,
                None | Some(0) => 0,
                Some(class @ 1..=13) => {
                    [2, 4, 8, 16, 32, 60, 100, 200, 500, 1000, 2000, 4000, 8192][class as usize - 1]
                }
                Some(class) => 1 << class.min(34),
            },
        }
    }

    fn syns(&self) -> Option<Box<[SynAnswer; 6]>> {
        // Nothing is said of either, and SYNs with odd options are not answered.
        let said = (0..6).any(|at| self.get(schema::ops(at)).is_some() || self.get(schema::win(at)).is_some());
        if !said && self.get(schema::tcp(1, Key::R)) != Some("Y") {
            return None;
        }
        let answer = |at| {
            let options = self.get(schema::ops(at)).and_then(options::parse).unwrap_or_else(|| self.invented());
            let window = self.number(schema::win(at)).unwrap_or(0x2000).min(0xffff) as u16;
            SynAnswer { options, window, only_repeated: false }
        };
        Some(Box::new([0, 1, 2, 3, 4, 5].map(answer)))
    }

    /// Options that agree with TS.
    fn invented(&self) -> Vec<Opt> {
        let mss = vec![Opt::Mss(1460)];
        match self.get(schema::TS) {
            Some("U") | None => mss,
            Some(ts) => [&mss[..], &[Opt::Nop, Opt::Nop, Opt::Timestamps { value: ts != "0", echo: true }]].concat(),
        }
    }

    /// SYNs whose timestamps contradict TS are answered only when they are repeated.
    fn leave_out(&self, fingerprint: &mut Fingerprint) {
        let (Some(ts), Some(syns)) = (self.get(schema::TS), &mut fingerprint.syn) else { return };
        let hz = fingerprint.seq.ts_hz;
        let fits = |out: [usize; 2], syns: &[SynAnswer; 6]| {
            let left = syns.iter().enumerate().filter(|(at, _)| !out.contains(at));
            let left: Vec<&[Opt]> = left.map(|(_, syn)| &*syn.options).collect();
            clock(&left, hz).is_none_or(|seen| seen == ts)
        };
        // 6 is none of them.
        let pairs = (0..=6).rev().flat_map(|a| (a..=6).rev().map(move |b| [a, b]));
        if let Some(out) = pairs.into_iter().find(|out| fits(*out, syns)) {
            for at in out {
                if let Some(syn) = syns.get_mut(at) {
                    syn.only_repeated = true;
                }
            }
        }
    }

    fn tcp(&self, test: usize, less: u8) -> Option<TcpAnswer> {
        let get = |key| self.get(schema::tcp(test, key));
        if get(Key::R) != Some("Y") {
            return None;
        }
        let mut flags = 0;
        match get(Key::F) {
            Some(text) => {
                flags = FLAGS.iter().filter(|(letter, _)| text.contains(*letter)).fold(0, |all, (_, bit)| all | bit);
            }
            None if test < 2 => flags = flag::SYN | flag::ACK,
            None => flags |= flag::RST,
        }
        if test == schema::ECN {
            flags |= match get(Key::Cc) {
                Some("S") => 0xc0,
                Some("Y") => 0x40,
                Some("O") => 0x80,
                _ => 0,
            };
        }
        let crc = self.number(schema::tcp(test, Key::Rd)).unwrap_or(0) as u32;
        Some(TcpAnswer {
            df: get(Key::Df) == Some("Y"),
            ttl: self.ttl(schema::tcp(test, Key::T), schema::tcp(test, Key::Tg), less),
            window: self.number(schema::tcp(test, Key::W)).unwrap_or(0).min(0xffff) as u16,
            options: get(Key::O).and_then(options::parse).unwrap_or_default(),
            seq: match get(Key::S) {
                Some("Z") => SeqNumber::Zero,
                Some("A") => SeqNumber::Ack,
                Some("A+") => SeqNumber::AckPlus,
                _ => SeqNumber::Own,
            },
            ack: match get(Key::A) {
                Some("Z") => AckNumber::Zero,
                Some("S") => AckNumber::Seq,
                Some("O") => AckNumber::Other,
                _ => AckNumber::SeqPlus,
            },
            flags,
            reserved: get(Key::Q).is_some_and(|q| q.contains('R')),
            urgent: get(Key::Q).is_some_and(|q| q.contains('U')),
            data: if crc != 0 && flags & flag::RST != 0 { crc::preimage(crc).to_vec() } else { Vec::new() },
        })
    }

    fn udp(&self, less: u8) -> Option<UdpAnswer> {
        let get = |key| self.get(schema::u1(key));
        let total = self.number(schema::u1(UdpKey::Ipl)).unwrap_or(0x38);
        // One record's length is swapped, so that such a packet never arrives.
        if get(UdpKey::R) != Some("Y") || total > 1000 {
            return None;
        }
        let quoted = |key| match self.number(schema::u1(key)) {
            Some(value) if get(key) != Some("G") => Quoted::Value(value as u16),
            _ => Quoted::Same,
        };
        Some(UdpAnswer {
            df: get(UdpKey::Df) == Some("Y"),
            ttl: self.ttl(schema::u1(UdpKey::T), schema::u1(UdpKey::Tg), less),
            quoted_ttl_less: less,
            total: total.max(0x38) as u16,
            unused: self.number(schema::u1(UdpKey::Un)).unwrap_or(0) as u32,
            quoted_total: quoted(UdpKey::Ripl),
            quoted_id: quoted(UdpKey::Rid),
            quoted_checksum: match get(UdpKey::Ripck) {
                Some("Z") => QuotedChecksum::Zero,
                Some("I") => QuotedChecksum::Wrong,
                _ => QuotedChecksum::Good,
            },
            quoted_udp_checksum: quoted(UdpKey::Ruck),
            data_intact: get(UdpKey::Rud) != Some("I"),
        })
    }

    fn echo(&self, less: u8) -> Option<EchoAnswer> {
        let get = |key| self.get(schema::ie(key));
        if get(EchoKey::R) != Some("Y") {
            return None;
        }
        Some(EchoAnswer {
            df: match get(EchoKey::Dfi) {
                Some("Y") => EchoDf::Set,
                Some("S") => EchoDf::Same,
                Some("O") => EchoDf::Inverse,
                _ => EchoDf::Clear,
            },
            ttl: self.ttl(schema::ie(EchoKey::T), schema::ie(EchoKey::Tg), less),
            code: match get(EchoKey::Cd) {
                Some("S") => EchoCode::Same,
                Some("O") => EchoCode::Other,
                Some(text) => EchoCode::Value(expr::hex(text).unwrap_or(0) as u8),
                None => EchoCode::Value(0),
            },
        })
    }
}
