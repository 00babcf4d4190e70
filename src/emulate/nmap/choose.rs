//! Which values stand for a name: those that its record accepts, chosen so that
//! other records do not.

use std::borrow::Cow;

use super::build::Wanted;
use super::db::{Db, Record};
use super::derive;
use super::expr;
use super::isn::Asked;
use super::observe::{Observation, is_perfect_rival, mismatches, observe};
use super::schema::{self, EchoKey, Key, SLOTS, Slot, UdpKey};
use crate::emulate::Personality;
use crate::emulate::fingerprint::{Fingerprint, IsnPattern};

/// Sequence number patterns that are tried against rivals.
const PATTERNS: usize = 12;
/// Values of an attribute that are tried.
const VALUES: usize = 10;
/// Rounds of trying.
const ROUNDS: usize = 3;

/// What stands for a name.
#[derive(Debug)]
pub struct Choice {
    /// The personality, with its fingerprint.
    pub personality: Personality,
    /// What cannot be reproduced: `TEST.ATTRIBUTE: asked for, shown`.
    pub not_reproduced: Vec<String>,
    /// Other names that fit as well.
    pub rivals: usize,
    /// Whether none of them stands before it in the database.
    pub expected_first: bool,
}

/// There is no such name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the database has no such name")]
pub struct NoSuch;

/// One attempt and what it is worth: less is better.
struct Attempt {
    fingerprint: Fingerprint,
    missing: Vec<Slot>,
    earlier: usize,
    rivals: usize,
}

impl Attempt {
    fn cost(&self) -> (usize, usize, usize) {
        (self.missing.len(), self.earlier, self.rivals)
    }
}

/// Chooses what stands for `name`; `seed` decides where chance does.
///
/// # Errors
/// If the database does not have it.
pub fn personality(db: &Db, name: &str, seed: u64) -> Result<Choice, NoSuch> {
    let records = db.find(name).ok_or(NoSuch)?;
    let mut best: Option<(Attempt, &Record)> = None;
    for record in records.iter().filter_map(|at| db.records().get(*at)) {
        let attempt = of_record(db, name, record, seed);
        let better = best.as_ref().is_none_or(|(known, _)| attempt.cost() < known.cost());
        let done = attempt.cost() == (0, 0, 0);
        if better {
            best = Some((attempt, record));
        }
        if done {
            break;
        }
    }
    let (attempt, record) = best.ok_or(NoSuch)?;
    let seen = observe(&attempt.fingerprint);
    let not_reproduced = attempt.missing.iter().map(|slot| {
        let (test, key) = slot.names();
        let shown = seen[slot.index()].as_deref().unwrap_or("nothing");
        format!("{test}.{key}: {} is asked for, {shown} is shown", db.get(record, *slot).unwrap_or("nothing"))
    });
    Ok(Choice {
        not_reproduced: not_reproduced.collect(),
        rivals: attempt.rivals,
        expected_first: attempt.missing.is_empty() && attempt.earlier == 0,
        personality: derive::personality(Cow::Owned(name.to_owned()), attempt.fingerprint, record.is_linux),
    })
}

/// The best attempt at one record.
fn of_record(db: &Db, name: &str, record: &Record, seed: u64) -> Attempt {
    let get = |slot| db.get(record, slot);
    let asked = Asked { sp: get(schema::SP), gcd: get(schema::GCD), isr: get(schema::ISR) };
    let mut wanted = wanted(db, record);
    // How many differences nmap sees depends on how many SYNs are answered.
    let draft = Wanted(wanted.clone()).build(IsnPattern::Constant(1));
    let left_out = draft.syn.iter().flat_map(|syns| syns.iter()).filter(|syn| syn.only_repeated).count();
    let silent = usize::from(get(schema::tcp(1, Key::S)) == Some("Z"));
    let gaps = 5usize.saturating_sub(left_out + silent).max(3);
    let mut patterns = asked.patterns(gaps, seed, PATTERNS);
    if patterns.is_empty() {
        let anything = Asked { sp: None, gcd: None, isr: None };
        patterns = anything.patterns(gaps, seed, 1);
    }
    let Some(mut pattern) = patterns.first().copied() else {
        return judge(db, name, record, Wanted(wanted).build(IsnPattern::Constant(1)));
    };
    let mut best = judge(db, name, record, Wanted(wanted.clone()).build(pattern));
    for _ in 0..ROUNDS {
        let before = best.cost();
        for other in &patterns {
            if best.rivals == 0 {
                break;
            }
            let attempt = judge(db, name, record, Wanted(wanted.clone()).build(*other));
            if attempt.cost() < best.cost() {
                (best, pattern) = (attempt, *other);
            }
        }
        for slot in Slot::all() {
            if best.rivals == 0 && best.missing.is_empty() {
                return best;
            }
            for value in values(db, record, slot) {
                let old = wanted[slot.index()].replace(value);
                let attempt = judge(db, name, record, Wanted(wanted.clone()).build(pattern));
                if attempt.cost() < best.cost() {
                    best = attempt;
                } else {
                    wanted[slot.index()] = old;
                }
            }
        }
        if best.cost() == before {
            break;
        }
    }
    best
}

fn judge(db: &Db, name: &str, record: &Record, fingerprint: Fingerprint) -> Attempt {
    let seen = observe(&fingerprint);
    let missing = mismatches(db, record, &seen);
    let others = db.records().iter().filter(|other| is_perfect_rival(db, other, &seen));
    let (mut earlier, mut rivals) = (0, 0);
    for other in others.filter(|other| db.name(other) != name) {
        rivals += 1;
        earlier += usize::from(other.line < record.line);
    }
    Attempt { fingerprint, missing, earlier, rivals }
}

/// Values that may be tried for a slot besides the first.
fn values(db: &Db, record: &Record, slot: Slot) -> Vec<String> {
    if let Some(expression) = db.get(record, slot) {
        return expr::candidates(expression).into_iter().skip(1).take(VALUES).collect();
    }
    let usual: &[&str] = match slot {
        schema::TI => &["I", "Z", "RD", "RI", "BI"],
        schema::CI => &["I", "Z", "RD", "RI", "BI"],
        schema::II => &["I", "Z", "RI", "BI"],
        schema::SS => &["S", "O"],
        _ if slot == schema::u1(UdpKey::R) || slot == schema::ie(EchoKey::R) => &["N", "Y"],
        _ => match slot.as_tcp() {
            Some((test, Key::R)) if test != 1 => &["Y", "N"],
            Some((_, Key::Df)) => &["Y", "N"],
            Some((_, Key::W)) => &["0", "400", "1000"],
            Some((_, Key::Cc)) => &["Y", "N", "S"],
            Some((_, Key::Q)) => &["", "R"],
            Some((_, Key::S)) => &["Z", "A", "O"],
            Some((_, Key::A)) => &["Z", "S", "S+", "O"],
            Some((_, Key::F)) => &["R", "AR"],
            Some((_, Key::T)) => &["40", "80", "FF"],
            _ => &[],
        },
    };
    usual.iter().map(|value| (*value).to_owned()).collect()
}

/// What the record asks for, each value the first that it accepts, and answers where it names values.
fn wanted(db: &Db, record: &Record) -> Observation {
    let mut wanted: Observation = [const { None }; SLOTS];
    for slot in Slot::all() {
        wanted[slot.index()] =
            db.get(record, slot).and_then(|expression| expr::candidates(expression).into_iter().next());
    }
    let keys = [Key::Df, Key::T, Key::Tg, Key::W, Key::S, Key::A, Key::F, Key::O];
    let of_test = |test| (schema::tcp(test, Key::R), keys.map(|key| schema::tcp(test, key)).to_vec());
    let u1 = [UdpKey::T, UdpKey::Tg, UdpKey::Ipl, UdpKey::Un, UdpKey::Ripl].map(schema::u1).to_vec();
    let ie = [EchoKey::Dfi, EchoKey::T, EchoKey::Tg, EchoKey::Cd].map(schema::ie).to_vec();
    let more = [(schema::u1(UdpKey::R), u1), (schema::ie(EchoKey::R), ie)];
    for (r, values) in (0..schema::TCP_TESTS).map(of_test).chain(more) {
        if wanted[r.index()].is_none() && values.iter().any(|slot| wanted[slot.index()].is_some()) {
            wanted[r.index()] = Some("Y".into());
        }
    }
    wanted
}
