//! A personality for a name: the record, of those that share the name, whose
//! values can be shown best, and values that no other record describes as well.
//!
//! nmap lists everything that nothing contradicts, in the database's order ("Remote
//! OS Detection", OS Matching Algorithms). So what counts is whether the record
//! itself is among it, and then whether others are, and come before.

use std::cmp::Reverse;

use super::super::personality::Personality;
use super::db::{Db, Record};
use super::derive;
use super::expr;
use super::observe::{self, Observation};
use super::schema::{self, SLOTS, Slot};
use super::show;
use super::synth::{Draft, LEFT_OUT, Synth};
use super::usual;

/// Rounds of setting one value against rivals.
const ROUNDS: usize = 8;
/// Pairs of SP and ISR that are tried against rivals.
const PAIRS: usize = 400;
/// Rivals beyond which no more are counted while values are compared.
const MANY: usize = 200;

/// What was chosen.
#[derive(Clone, PartialEq, Debug)]
pub struct Choice {
    /// The personality, with its fingerprint.
    pub personality: Personality,
    /// Line of the record in the database.
    pub line: usize,
    /// Attributes of the record that are shown otherwise or not at all, and why.
    pub not_reproduced: Vec<String>,
    /// Whether nothing that nmap sees contradicts the record.
    pub is_perfect: bool,
    /// Other names that match just as well.
    pub rivals: usize,
    /// Whether nmap lists the name before them.
    pub expected_first: bool,
}

/// There is no record with that name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no fingerprint is called `{name}`{}", .similar.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
pub struct NoSuch {
    /// What was asked for.
    pub name: String,
    /// The name that is most like it.
    pub similar: Option<String>,
}

/// How good a draft is; less is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rank {
    contradicted: bool,
    /// Few SYNs of SEQ are answered.
    few: bool,
    /// Other names that match and are listed before.
    before: usize,
    rivals: usize,
}

/// The personality that nmap calls `name`, of records that are equally good the most usual one. `seed` decides what is
/// left to chance: of records that are equally usual, and of values that nobody compares.
pub fn personality(db: &Db, name: &str, seed: u64) -> Result<Choice, NoSuch> {
    let mut places: Vec<usize> = db.find(name).map(|(at, _)| at).collect();
    let begin = (seed % places.len().max(1) as u64) as usize;
    places.rotate_left(begin);
    // The sort is stable: among those that are as usual, the seed decides.
    places.sort_by_cached_key(|at| Reverse(usual::likeness(db, &db.records()[*at])));
    let mut best: Option<(Rank, Choice)> = None;
    for at in places {
        let (rank, choice) = choose(db, at, seed);
        let found = rank.rivals == 0 && !rank.contradicted && !rank.few;
        if best.as_ref().is_none_or(|(other, _)| rank < *other) {
            best = Some((rank, choice));
        }
        if found {
            break;
        }
    }
    best.map(|(_, choice)| choice).ok_or_else(|| NoSuch {
        name: name.to_owned(),
        similar: db.search(name).first().map(|(_, name)| (*name).to_owned()),
    })
}

/// The same for one record, by its place among the records.
pub fn of_record(db: &Db, at: usize, seed: u64) -> Option<Choice> {
    (at < db.records().len()).then(|| choose(db, at, seed).1)
}

/// Names that match an observation: how many others there are, and how many of them are listed before `at`'s.
fn rivals(db: &Db, at: usize, seen: &Observation) -> (Vec<usize>, usize) {
    let own = &db.records()[at].name;
    let mut names: Vec<&str> = Vec::new();
    let mut others = Vec::new();
    let mut before = 0;
    let mut listed = false;
    for (i, record) in db.records().iter().enumerate() {
        let same = record.name == *own;
        if same && listed || !same && others.len() >= MANY {
            continue;
        }
        if !db.agrees(record, seen, expr::accepts_either) {
            continue;
        }
        if same {
            listed = true;
        } else if !names.contains(&&*record.name) {
            names.push(&record.name);
            others.push(i);
            before += usize::from(!listed);
        } else {
            others.push(i);
        }
    }
    (others, before)
}

/// One way to show a record.
struct Attempt {
    draft: Draft,
    seen: Observation,
    rank: Rank,
    rivals: Vec<usize>,
}

impl Attempt {
    fn new(synth: &mut Synth<'_>, at: usize, draft: Draft) -> Attempt {
        let seen = observe::observe(&synth.fingerprint(&draft));
        let contradicted = !synth.db.agrees(synth.record, &seen, expr::accepts);
        let (rivals, before) = rivals(synth.db, at, &seen);
        let names: std::collections::HashSet<&str> = rivals.iter().map(|i| &*synth.db.records()[*i].name).collect();
        let rank = Rank { contradicted, few: draft.few, before, rivals: names.len() };
        Attempt { draft, seen, rank, rivals }
    }
}

fn choose(db: &Db, at: usize, seed: u64) -> (Rank, Choice) {
    let record = &db.records()[at];
    let mut synth = Synth::new(db, record, seed);
    let mut best = Attempt::new(&mut synth, at, Draft::default());
    if best.rank.contradicted {
        best = reconcile(&mut synth, at, best);
    }
    for _ in 0..ROUNDS {
        if best.rank.contradicted || best.rivals.is_empty() {
            break;
        }
        match improve(&mut synth, at, &best) {
            Some(better) => best = better,
            None => break,
        }
    }
    let fingerprint = synth.fingerprint(&best.draft);
    let personality = derive::personality(&record.name, record.is_linux, &fingerprint);
    let choice = Choice {
        personality: Personality { fingerprint: Some(Box::new(fingerprint)), ..personality },
        line: record.line,
        not_reproduced: not_reproduced(&synth, &best.seen),
        is_perfect: !best.rank.contradicted,
        rivals: best.rank.rivals,
        expected_first: !best.rank.contradicted && best.rank.before == 0,
    };
    (best.rank, choice)
}

/// Attributes of `record` that the observation contradicts.
fn contradictions(synth: &Synth<'_>, seen: &Observation) -> Vec<Slot> {
    let contradicts = |slot: &Slot| match (synth.expression(*slot), seen.get(*slot)) {
        (Some(expression), Some(value)) => synth.db.counts(*slot) && !expr::accepts(expression, value),
        _ => false,
    };
    Slot::all().filter(contradicts).collect()
}

/// Leaves out what contradicts the record, where that is possible.
fn reconcile(synth: &mut Synth<'_>, at: usize, first: Attempt) -> Attempt {
    let mut draft = first.draft.clone();
    for slot in contradictions(synth, &first.seen) {
        if [schema::TI, schema::CI, schema::II, schema::SS].contains(&slot) {
            draft = draft.with(slot, LEFT_OUT);
        } else if slot.names().1 == "T" || slot.names().0 == "U1" {
            draft.silent_udp = true;
        }
    }
    let mut best = first;
    let silent = Draft { silent_udp: true, ..draft.clone() };
    let drafts = [draft.clone(), silent.clone(), Draft { few: true, ..draft }, Draft { few: true, ..silent }];
    for draft in drafts {
        if !best.rank.contradicted {
            break;
        }
        let other = Attempt::new(synth, at, draft);
        let fewer = contradictions(synth, &other.seen).len() < contradictions(synth, &best.seen).len();
        if other.rank.contradicted <= best.rank.contradicted && (fewer || other.rank < best.rank) {
            best = other;
        }
    }
    best
}

/// Sets one value so that fewer rivals are left; `None` if none helps.
fn improve(synth: &mut Synth<'_>, at: usize, now: &Attempt) -> Option<Attempt> {
    let db = synth.db;
    let mut best: Option<Attempt> = None;
    let mut consider = |synth: &mut Synth<'_>, draft: Draft| {
        let seen = observe::observe(&synth.fingerprint(&draft));
        let left = now.rivals.iter().filter(|i| db.agrees(&db.records()[**i], &seen, expr::accepts_either)).count();
        if left >= now.rivals.len() || !db.agrees(synth.record, &seen, expr::accepts) {
            return false;
        }
        let attempt = Attempt::new(synth, at, draft);
        if !attempt.rank.contradicted && attempt.rank < best.as_ref().unwrap_or(now).rank {
            best = Some(attempt);
        }
        best.as_ref().is_some_and(|best| best.rivals.is_empty())
    };
    let against: Vec<&Record> = now.rivals.iter().map(|i| &db.records()[*i]).collect();
    for slot in Slot::all().filter(|slot| db.counts(*slot)) {
        let expressions: Vec<&str> = against.iter().filter_map(|record| db.expression(record, slot)).collect();
        if expressions.is_empty() || [schema::SP, schema::GCD, schema::ISR].contains(&slot) {
            continue;
        }
        for value in values(synth, slot) {
            let helps = expressions.iter().any(|expression| !expr::accepts_either(expression, &value));
            if helps && now.seen.get(slot) != Some(&value) && consider(synth, now.draft.with(slot, &value)) {
                return best;
            }
        }
    }
    // Sequence numbers that some rival does not describe, or as many as possible do not.
    let replies = observe::replies(&synth.fingerprint(&now.draft));
    let refuses = |record: &Record, shown: super::isn::Triple| {
        [(schema::SP, shown.sp), (schema::GCD, shown.gcd), (schema::ISR, shown.isr)].iter().any(|(slot, value)| {
            let value = format!("{value:X}");
            db.expression(record, *slot).is_some_and(|expression| !expr::accepts_either(expression, &value))
        })
    };
    let all = |shown| against.iter().all(|record| refuses(record, shown));
    let mut patterns = vec![synth.target(replies).pattern(PAIRS, all)];
    if against.len() > 1 {
        for record in against.iter().take(8) {
            patterns.push(synth.target(replies).pattern(PAIRS, |shown| refuses(record, shown)));
        }
    }
    for isn in patterns.into_iter().flatten() {
        if consider(synth, Draft { isn: Some(isn), ..now.draft.clone() }) {
            return best;
        }
    }
    if !now.draft.silent_udp && synth.expression(schema::u1(schema::UdpKey::R)).is_none() {
        consider(synth, Draft { silent_udp: true, ..now.draft.clone() });
    }
    best
}

/// Values that an attribute may be set to.
fn values(synth: &Synth<'_>, slot: Slot) -> Vec<String> {
    if synth.expression(slot).is_some() {
        return synth.allowed(slot).to_vec();
    }
    let any: &[&str] = match slot.names() {
        (_, "TI") => &["I", "Z", "RD", "RI", "BI"],
        (_, "CI") => &["I", "Z", "RI", "RD", "BI"],
        (_, "II") => &["I", "RI", "Z", "BI"],
        (_, "SS") => &["S", "O"],
        (_, "TS") => &["U", "0", "7", "A", "8", "1"],
        (_, "CC") => &["N", "Y", "S", "O"],
        (_, "Q") => &["", "U", "R"],
        (_, "DF") => &["N", "Y"],
        ("WIN" | "ECN" | "T2" | "T3" | "T4" | "T5" | "T6" | "T7", key) if key.starts_with('W') => {
            &["0", "2000", "FFFF", "1000"]
        }
        ("OPS", _) => &["", "M5B4", "M5B4NNS", "M5B4NW0", "M5B4NNT11", "M5B4ST11NW0"],
        (_, "O") => &["", "M5B4", "M5B4NNS"],
        (_, "DFI") => &["N", "S", "Y"],
        (_, "CD") => &["S", "Z"],
        (_, "UN") => &["0", "1"],
        (_, "RUCK" | "RID" | "RIPL") => &["G", "0"],
        (_, "RIPCK") => &["G", "Z", "I"],
        (_, "RUD") => &["G", "I"],
        _ => &[],
    };
    any.iter().filter(|value| show::can_show(slot, value)).map(|value| (*value).to_owned()).collect()
}

/// What nmap does not see as the record has it.
fn not_reproduced(synth: &Synth<'_>, seen: &Observation) -> Vec<String> {
    let mut all = Vec::new();
    let contradicted = contradictions(synth, seen);
    for at in 0..SLOTS {
        let Some(slot) = Slot::all().nth(at) else { continue };
        let Some(expression) = synth.expression(slot).filter(|_| synth.db.counts(slot)) else { continue };
        let (test, key) = slot.names();
        if contradicted.contains(&slot) {
            let value = seen.get(slot).unwrap_or_default();
            all.push(format!("{test}.{key}={expression}: shown as `{value}`, {}", reason(slot)));
        } else if seen.get(slot).is_none() && test == "SEQ" {
            all.push(format!("{test}.{key}={expression}: left out, {}", reason(slot)));
        }
    }
    let silent = seen.get(schema::u1(schema::UdpKey::R)) == Some("N");
    if silent && synth.expression(schema::u1(schema::UdpKey::Ipl)).is_some() {
        all.push("U1: not answered, as no answer could show it, or as nmap would confuse the host with another".into());
    }
    all
}

fn reason(slot: Slot) -> &'static str {
    match slot {
        schema::SP | schema::GCD | schema::ISR => "as no numbers have these three, or timing would blur them",
        schema::TI => "as nmap drops answers to SEQ whose identification is always the same",
        schema::CI => "as it takes at least two answers of closed ports, three for random ones",
        schema::II => "as it takes two echo replies",
        schema::SS => "as it takes counters that can be compared",
        schema::TS => "as it contradicts the options of OPS",
        _ => "as it contradicts other attributes or no packet can show it",
    }
}
