//! From a reference to a [`Fingerprint`]: a value for each attribute, and answers
//! that show these values.
//!
//! Where the reference leaves a choice, the first alternative and the middle of a
//! range are taken unless a [`Draft`] pins another value; of TTLs one that systems begin with. Where it says nothing,
//! values are invented that keep the others true. What cannot be shown together is
//! left out, as nmap counts only what it sees ("Remote OS Detection", OS Matching
//! Algorithms).

use std::collections::HashMap;

use super::super::fingerprint::{
    AckNumber, EchoAnswer, EchoCode, EchoDf, Fingerprint, IdPattern, IsnPattern, Opt, Quoted, QuotedChecksum,
    SeqNumber, Sequence, SynAnswer, TcpAnswer, UdpAnswer,
};
use super::db::{Db, Record};
use super::expr::{self, hex};
use super::isn::{Replies, Target};
use super::observe::{self, Clock, FLAGS};
use super::schema::{self, ECN, EchoKey, Key, Slot, UdpKey};
use super::show::can_show;
use super::{crc, options, usual};

/// Pairs of SP and ISR that are tried for a divisor.
const PAIRS: usize = 64;
/// Stands for a class of identifications that is to be left out.
pub(super) const LEFT_OUT: &str = "-";

/// What is decided other than by default.
#[derive(Clone, Default, Debug)]
pub(super) struct Draft {
    /// Values of attributes.
    pub pinned: Vec<(Slot, String)>,
    /// The pattern of sequence numbers.
    pub isn: Option<IsnPattern>,
    /// U1 gets no answer even if the reference describes one.
    pub silent_udp: bool,
    /// Too few of the SYNs of SEQ are answered for SP, GCD and ISR, as many of them only when they come again (OPS)
    /// as contradict TS, and three at least.
    pub few: bool,
}

impl Draft {
    fn get(&self, slot: Slot) -> Option<&str> {
        self.pinned.iter().rev().find(|(pinned, _)| *pinned == slot).map(|(_, value)| &**value)
    }

    /// The same with one value more.
    pub fn with(&self, slot: Slot, value: &str) -> Draft {
        let mut draft = self.clone();
        draft.pinned.retain(|(pinned, _)| *pinned != slot);
        draft.pinned.push((slot, value.to_owned()));
        draft
    }
}

/// One record's values.
pub(super) struct Synth<'a> {
    pub db: &'a Db,
    pub record: &'a Record,
    pub seed: u64,
    /// Values that its expressions allow and that an answer can show.
    allowed: HashMap<usize, Vec<String>, foldhash::fast::FixedState>,
    /// Patterns found for replies.
    patterns: Vec<(Replies, Option<IsnPattern>)>,
}

impl<'a> Synth<'a> {
    pub fn new(db: &'a Db, record: &'a Record, seed: u64) -> Synth<'a> {
        let mut allowed: HashMap<_, _, foldhash::fast::FixedState> = HashMap::default();
        for slot in Slot::all() {
            if let Some(expression) = db.expression(record, slot) {
                let mut values = expr::candidates(expression);
                values.retain(|value| can_show(slot, value));
                if slot == schema::tcp(1, Key::F) {
                    // What is no SYN/ACK does not count for SEQ.
                    values.sort_by_key(|flags| !flags.contains("AS"));
                }
                allowed.insert(slot.index(), values);
            }
        }
        Synth { db, record, seed, allowed, patterns: Vec::new() }
    }

    /// The record's expression for an attribute.
    pub fn expression(&self, slot: Slot) -> Option<&'a str> {
        self.db.expression(self.record, slot)
    }

    /// Values that it allows and that an answer can show.
    pub fn allowed(&self, slot: Slot) -> &[String] {
        self.allowed.get(&slot.index()).map_or(&[], |values| values)
    }

    fn value<'b>(&'b self, draft: &'b Draft, slot: Slot) -> Option<&'b str> {
        draft.get(slot).or_else(|| self.allowed(slot).first().map(|value| &**value))
    }

    fn value_or<'b>(&'b self, draft: &'b Draft, slot: Slot, default: &'b str) -> &'b str {
        self.value(draft, slot).unwrap_or(default)
    }

    fn number(&self, draft: &Draft, slot: Slot) -> Option<u64> {
        self.value(draft, slot).and_then(hex)
    }

    /// Whether the answer to U1 is described, and can be sent.
    fn answers_udp(&self, draft: &Draft) -> bool {
        use UdpKey::{Df, Ipl, R, Rid, Ripck, Ripl, Ruck, Rud, Un};
        let possible = [Df, Ipl, Un, Ripl, Rid, Ripck, Ruck, Rud]
            .into_iter()
            .map(schema::u1)
            .all(|slot| self.expression(slot).is_none() || !self.allowed(slot).is_empty());
        let described =
            [Df, UdpKey::T, UdpKey::Tg, Ipl].into_iter().any(|key| self.expression(schema::u1(key)).is_some());
        let denied = self.expression(schema::u1(R)).is_some_and(|r| !expr::accepts(r, "Y"));
        described && possible && !denied && !draft.silent_udp
    }

    /// The initial TTL of an answer, and by how much more it has to seem. `exact` and `guess` are T and TG.
    fn ttl(&self, draft: &Draft, [exact, guess]: [Slot; 2], known: bool) -> Option<u16> {
        let whole = |text: &str| hex(text).and_then(|ttl| u16::try_from(ttl).ok());
        if let Some(pinned) = draft.get(exact) {
            return whole(pinned);
        }
        let described = self.expression(exact);
        let accepted = |ttl: &u16| described.is_some_and(|e| expr::accepts(e, &format!("{ttl:X}")));
        // The range is an estimate: whatever a system begins with is likelier than the middle.
        let usual = usual::TTLS.into_iter().filter(accepted);
        let ttls = usual.chain(self.allowed(exact).iter().filter_map(|ttl| whole(ttl)));
        let fits = |ttl: &u16| {
            let guessed = observe::guessed((*ttl).min(0xff) as u8);
            known || self.expression(guess).is_none_or(|expression| expr::accepts(expression, guessed))
        };
        // Above 255 only where the range leaves no choice.
        let mut best: Option<u16> = None;
        for ttl in ttls.filter(fits) {
            match best {
                None => best = Some(ttl),
                Some(high) if high > 0xff && ttl < high => best = Some(ttl),
                Some(_) => {}
            }
        }
        best.or_else(|| self.allowed(guess).first().and_then(|ttl| whole(ttl)))
    }

    /// Everything.
    pub fn fingerprint(&mut self, draft: &Draft) -> Fingerprint {
        let known = self.answers_udp(draft);
        let places: Vec<[Slot; 2]> = (0..schema::TCP_TESTS)
            .map(|test| [schema::tcp(test, Key::T), schema::tcp(test, Key::Tg)])
            .chain([[schema::u1(UdpKey::T), schema::u1(UdpKey::Tg)], [schema::ie(EchoKey::T), schema::ie(EchoKey::Tg)]])
            .collect();
        let ttls: Vec<Option<u16>> = places.iter().map(|place| self.ttl(draft, *place, known)).collect();
        let usual = ttls[1].or_else(|| ttls.iter().flatten().next().copied()).unwrap_or(64);
        // A TTL above 255 shows only if the probe seems to have come a longer way.
        let highest = ttls.iter().flatten().copied().max().unwrap_or(0);
        let more = if known { highest.saturating_sub(0xff).min(0x80) } else { 0 };
        let sent = |ttl: Option<u16>| ttl.unwrap_or(usual).saturating_sub(more).clamp(1, 0xff) as u8;

        let mut syn = self.syn(draft);
        let answers: Vec<Option<TcpAnswer>> =
            (0..schema::TCP_TESTS).map(|test| self.tcp(draft, test, sent(ttls[test]))).collect();
        let [ecn, t1, t2, t3, t4, t5, t6, t7]: [Option<TcpAnswer>; 8] = answers.try_into().unwrap_or_default();
        if t1.is_none() {
            // Without OPS and WIN in the reference nothing speaks for an answer to such SYNs.
            if (0..6).all(|i| self.expression(schema::ops(i)).is_none() && self.expression(schema::win(i)).is_none()) {
                syn = None;
            }
            if let Some(syn) = &mut syn {
                syn[0].only_repeated = true;
            }
        }
        let mut fingerprint = Fingerprint {
            seq: Sequence {
                isn: IsnPattern::Constant(1),
                ti: IdPattern::Unclassified,
                ci: IdPattern::Unclassified,
                ii: IdPattern::Unclassified,
                ii_shares_ti: true,
                ts_hz: 0,
            },
            syn: syn.map(Box::new),
            t1,
            ecn,
            open: [t2, t3, t4],
            closed: [t5, t6, t7],
            udp: known.then(|| self.udp(draft, sent(ttls[8]), more as u8)),
            echo: self.echo(draft, sent(ttls[9])),
        };
        self.settle_clock(draft, &mut fingerprint);
        self.settle_ids(draft, &mut fingerprint);
        fingerprint.seq.isn = match &draft.isn {
            Some(isn) => *isn,
            None => self.isn(&observe::replies(&fingerprint)),
        };
        fingerprint
    }

    fn isn(&mut self, replies: &Replies) -> IsnPattern {
        let found = match self.patterns.iter().find(|(known, _)| known == replies) {
            Some((_, found)) => *found,
            None => {
                let found = self.target(*replies).pattern(PAIRS, |_| true);
                self.patterns.push((*replies, found));
                found
            }
        };
        // Numbers that look random.
        found.unwrap_or(IsnPattern::Rates {
            gcd: 1,
            per_second: [17_100_000_000, 4_300_000_000, 16_900_000_000, 4_500_000_000, 10_700_000_000],
        })
    }

    /// What the sequence numbers should show.
    pub fn target(&self, replies: Replies) -> Target<'a> {
        Target {
            sp: self.expression(schema::SP),
            gcd: self.expression(schema::GCD),
            isr: self.expression(schema::ISR),
            replies,
            seed: self.seed,
        }
    }

    fn tcp(&self, draft: &Draft, test: usize, ttl: u8) -> Option<TcpAnswer> {
        let slot = |key| schema::tcp(test, key);
        let answered = match self.expression(slot(Key::R)) {
            Some(r) => expr::accepts(r, "Y"),
            // An ordinary host answers these; of the rest nothing is known.
            None => test <= 1 || self.expression(slot(Key::Df)).is_some() || self.expression(slot(Key::F)).is_some(),
        };
        if !answered {
            return None;
        }
        let text = |key, default| self.value_or(draft, slot(key), default);
        // Of what an open port answers to a SYN, and a closed one to anything.
        let opens = test <= 1 || test == 3;
        let mut flags = if test == ECN { 0x12 } else { flags(text(Key::F, if opens { "AS" } else { "AR" })) };
        if test == ECN {
            flags |= match text(Key::Cc, "N") {
                "S" => 0xc0,
                "Y" => 0x40,
                "O" => 0x80,
                _ => 0,
            };
        }
        let data = match text(Key::Rd, "0") {
            "0" => None,
            crc => hex(crc).and_then(|crc| u32::try_from(crc).ok()).filter(|_| flags & 0x04 != 0),
        };
        let quirks = text(Key::Q, "");
        Some(TcpAnswer {
            df: text(Key::Df, self.value_or(draft, schema::tcp(1, Key::Df), "N")) == "Y",
            ttl,
            window: hex(text(Key::W, if test == ECN { text_of(self.value(draft, schema::win(0))) } else { "0" }))
                .unwrap_or(0) as u16,
            options: if test == 1 {
                Vec::new()
            } else {
                options::parse(text(Key::O, if test == ECN { "M5B4" } else { "" })).unwrap_or_default()
            },
            seq: match text(Key::S, if opens { "O" } else { "Z" }) {
                "Z" => SeqNumber::Zero,
                "A" => SeqNumber::Ack,
                "A+" => SeqNumber::AckPlus,
                _ => SeqNumber::Own,
            },
            ack: match text(Key::A, "S+") {
                "Z" => AckNumber::Zero,
                "S" => AckNumber::Seq,
                "S+" => AckNumber::SeqPlus,
                _ => AckNumber::Other,
            },
            flags,
            reserved: quirks.contains('R'),
            urgent: quirks.contains('U'),
            data: data.map(|crc| crc::preimage(crc).to_vec()).unwrap_or_default(),
        })
    }

    fn udp(&self, draft: &Draft, ttl: u8, quoted_ttl_less: u8) -> UdpAnswer {
        let number = |key| self.number(draft, schema::u1(key)).and_then(|number| u16::try_from(number).ok());
        let quoted = |key| match number(key) {
            Some(value) if self.value(draft, schema::u1(key)) != Some("G") => Quoted::Value(value),
            _ => Quoted::Same,
        };
        UdpAnswer {
            df: self.value(draft, schema::u1(UdpKey::Df)) == Some("Y"),
            ttl,
            quoted_ttl_less,
            total: number(UdpKey::Ipl).unwrap_or(56),
            unused: number(UdpKey::Un).unwrap_or(0).into(),
            quoted_total: quoted(UdpKey::Ripl),
            quoted_id: quoted(UdpKey::Rid),
            quoted_checksum: match self.value(draft, schema::u1(UdpKey::Ripck)) {
                Some("Z") => QuotedChecksum::Zero,
                Some("I") => QuotedChecksum::Wrong,
                _ => QuotedChecksum::Good,
            },
            quoted_udp_checksum: quoted(UdpKey::Ruck),
            data_intact: self.value(draft, schema::u1(UdpKey::Rud)) != Some("I"),
        }
    }

    fn echo(&self, draft: &Draft, ttl: u8) -> Option<EchoAnswer> {
        let denied = self.expression(schema::ie(EchoKey::R)).is_some_and(|r| !expr::accepts(r, "Y"));
        let described =
            [EchoKey::Dfi, EchoKey::Cd, EchoKey::T].into_iter().any(|key| self.expression(schema::ie(key)).is_some());
        (described && !denied).then(|| EchoAnswer {
            df: match self.value(draft, schema::ie(EchoKey::Dfi)) {
                Some("Y") => EchoDf::Set,
                Some("S") => EchoDf::Same,
                Some("O") => EchoDf::Inverse,
                _ => EchoDf::Clear,
            },
            ttl,
            code: match self.value(draft, schema::ie(EchoKey::Cd)) {
                None | Some("S") => EchoCode::Same,
                Some("O") => EchoCode::Other,
                Some("Z") => EchoCode::Value(0),
                Some(code) => hex(code).and_then(|c| u8::try_from(c).ok()).map_or(EchoCode::Same, EchoCode::Value),
            },
        })
    }

    /// The answers to the six SYNs, options by their first alternatives.
    fn syn(&self, draft: &Draft) -> Option<[SynAnswer; 6]> {
        let known: Vec<Option<Vec<Opt>>> =
            (0..6).map(|i| self.value(draft, schema::ops(i)).and_then(options::parse)).collect();
        let of_ecn = self.value(draft, schema::tcp(ECN, Key::O)).and_then(options::parse);
        // What is not described is like what comes next to it.
        let any = known.iter().flatten().next().cloned().or(of_ecn).unwrap_or_else(|| vec![Opt::Mss(1460)]);
        let window = (0..6).find_map(|i| self.number(draft, schema::win(i))).unwrap_or(0x2000);
        Some(std::array::from_fn(|i| SynAnswer {
            options: known[i].clone().unwrap_or_else(|| any.clone()),
            window: self.number(draft, schema::win(i)).unwrap_or(window) as u16,
            only_repeated: false,
        }))
    }

    /// Chooses the clock, and options of the answers to SEQ that do not contradict it.
    fn settle_clock(&self, draft: &Draft, fingerprint: &mut Fingerprint) {
        let replies = observe::replies(fingerprint);
        let Some(syn) = &mut fingerprint.syn else { return };
        let wanted: Vec<&str> = match draft.get(schema::TS) {
            Some(pinned) => vec![pinned],
            // No clock is of that class, so it must not show: one that stands belongs to none.
            None if self.expression(schema::TS).is_some() && self.allowed(schema::TS).is_empty() => vec![LEFT_OUT],
            None => self.allowed(schema::TS).iter().map(|value| &**value).collect(),
        };
        // Fewer than four answers, and there are no SP, GCD and ISR.
        let count = replies.seen.iter().filter(|seen| **seen).count();
        let spare = if draft.few { count } else { count.saturating_sub(4) };
        let choices: [Vec<Vec<Opt>>; 6] = std::array::from_fn(|i| self.choices(draft, i, &syn[i].options));
        let plans = wanted.iter().filter_map(|class| Some((*class, settle(class, &choices, &replies.seen)?)));
        let mut best = plans.filter(|(_, plan)| plan.dropped() <= spare).min_by_key(|(_, plan)| plan.dropped());
        if draft.few {
            let class = wanted.first().copied();
            let (_, plan) = best.get_or_insert((class.unwrap_or(LEFT_OUT), Plan([class.is_none().then_some(0); 6])));
            let mut left: Vec<usize> = (0..6).filter(|i| replies.seen[*i] && plan.0[*i].is_some()).collect();
            for i in left.split_off(left.len().min(3)) {
                plan.0[i] = None;
            }
        }
        let class = match best {
            Some((class, plan)) => {
                for (i, (answer, choice)) in syn.iter_mut().zip(plan.0).enumerate() {
                    match choice {
                        Some(at) => answer.options.clone_from(&choices[i][at]),
                        None => answer.only_repeated = true,
                    }
                }
                Some(class)
            }
            None => wanted.first().copied(),
        };
        let counts = syn.iter().any(|answer| observe::timestamps(&answer.options) == Clock::Counts);
        fingerprint.seq.ts_hz = match class {
            Some(LEFT_OUT | "0") => 0,
            Some("U") | None => {
                if counts {
                    100
                } else {
                    0
                }
            }
            Some(class) => hex(class).and_then(observe::clock_hz).unwrap_or(0),
        };
    }

    /// Options that the answer to SYN `i` may have.
    fn choices(&self, draft: &Draft, i: usize, first: &[Opt]) -> Vec<Vec<Opt>> {
        let mut choices = vec![first.to_vec()];
        let slot = schema::ops(i);
        if draft.get(slot).is_some() {
            return choices;
        }
        if self.expression(slot).is_some() {
            choices.extend(self.allowed(slot).iter().skip(1).filter_map(|text| options::parse(text)));
        } else {
            let plain = options::without(first, options::is_timestamps);
            choices.extend(options::with_timestamps(&plain, true));
            choices.extend(options::with_timestamps(&plain, false));
            choices.push(plain);
        }
        choices
    }

    fn settle_ids(&self, draft: &Draft, fingerprint: &mut Fingerprint) {
        let rate = 1001 + 2 * (self.seed % 400) as u16;
        let pattern = |slot: Slot| match self.value(draft, slot) {
            None | Some(LEFT_OUT) => IdPattern::Unclassified,
            Some("Z") => IdPattern::Zero,
            Some("I") => IdPattern::Step(1),
            Some("BI") => IdPattern::Step(256),
            Some("RI") => IdPattern::Step(rate),
            Some("RD") => IdPattern::Random,
            Some(id) => {
                hex(id).and_then(|id| u16::try_from(id).ok()).map_or(IdPattern::Unclassified, IdPattern::Constant)
            }
        };
        let closed = fingerprint.closed.iter().flatten().count();
        let seq = &mut fingerprint.seq;
        (seq.ti, seq.ci, seq.ii) = (pattern(schema::TI), pattern(schema::CI), pattern(schema::II));
        if seq.ci == IdPattern::Random && closed < 3 {
            // Two numbers never look random.
            let increments = self.allowed(schema::CI).iter().any(|class| class == "RI");
            seq.ci = if increments { IdPattern::Step(rate) } else { IdPattern::Unclassified };
        }
        match self.value(draft, schema::SS) {
            Some("O") => seq.ii_shares_ti = false,
            Some(LEFT_OUT) if seq.ii == IdPattern::Step(1) => seq.ii = IdPattern::Step(2),
            Some(LEFT_OUT) if seq.ti == IdPattern::Step(1) => seq.ti = IdPattern::Step(2),
            // One counter cannot be of two kinds, unless it is said to be.
            None if seq.ii != seq.ti => seq.ii_shares_ti = false,
            _ => {}
        }
        if !matches!((seq.ti, seq.ii), (IdPattern::Step(_), IdPattern::Step(_))) {
            seq.ii_shares_ti = false;
        }
    }
}

fn text_of(text: Option<&str>) -> &str {
    text.unwrap_or("0")
}

fn flags(letters: &str) -> u8 {
    FLAGS.iter().filter(|(letter, _)| letters.contains(*letter)).fold(0, |flags, (_, bit)| flags | bit)
}

/// For each answer the choice of options; `None` where it must not come.
struct Plan([Option<usize>; 6]);

impl Plan {
    fn dropped(&self) -> usize {
        self.0.iter().filter(|choice| choice.is_none()).count()
    }
}

/// Which options make a clock of class `class`. Of answers without timestamps and with zero the last decides.
fn settle(class: &str, choices: &[Vec<Vec<Opt>>; 6], seen: &[bool; 6]) -> Option<Plan> {
    let find =
        |i: usize, fits: &dyn Fn(Clock) -> bool| choices[i].iter().position(|choice| fits(observe::timestamps(choice)));
    let mut plan = Plan([Some(0); 6]);
    let (decides, other) = match class {
        "U" => (Clock::None, Clock::Zero),
        "0" => (Clock::Zero, Clock::None),
        _ => {
            for i in (0..6).filter(|i| seen[*i]) {
                plan.0[i] = find(i, &|clock| clock == Clock::Counts);
            }
            return Some(plan);
        }
    };
    let natural = (0..6).rfind(|i| seen[*i] && observe::timestamps(choices[*i].first().map_or(&[], |c| c)) == decides);
    let last = natural.or_else(|| (0..6).rfind(|i| seen[*i] && find(*i, &|clock| clock == decides).is_some()))?;
    plan.0[last] = find(last, &|clock| clock == decides);
    for i in (last + 1..6).filter(|i| seen[*i]) {
        plan.0[i] = find(i, &|clock| clock != other);
    }
    Some(plan)
}
