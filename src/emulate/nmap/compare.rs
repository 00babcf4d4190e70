//! A fingerprint as nmap prints it, against what the database has of a name.

use super::db::Db;
use super::expr;
use super::schema::{SLOTS, Test};

/// Octets of a fingerprint that are looked at; nmap's have two thousand.
const MOST: usize = 16 << 10;

/// The values of a printed fingerprint, broken into `OS:` lines or not. What it does not know is left out.
fn read(text: &str) -> [Option<String>; SLOTS] {
    let mut end = text.len().min(MOST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let joined: String = text[..end].lines().map(|line| line.trim().trim_start_matches("OS:")).collect();
    let mut seen = [const { None }; SLOTS];
    for part in joined.split(')') {
        let Some((test, body)) = part.split_once('(').and_then(|(name, body)| Some((Test::by_name(name)?, body)))
        else {
            continue;
        };
        for (key, value) in body.split('%').filter_map(|pair| pair.split_once('=')) {
            if let Some(slot) = test.slot(key) {
                seen[slot.index()] = Some(value.to_owned());
            }
        }
    }
    seen
}

/// In which attributes what nmap saw differs from the record of `name` that is nearest to it: `TEST.ATTRIBUTE: seen,
/// expected`. `None` if the database does not have the name.
pub fn differences(db: &Db, name: &str, printed: &str) -> Option<Vec<String>> {
    let seen = read(printed);
    let of_record = |(_, record)| {
        let mut wrong = Vec::with_capacity(SLOTS);
        for slot in super::schema::Slot::all() {
            if let (Some(expression), Some(value)) = (db.expression(record, slot), &seen[slot.index()])
                && db.counts(slot)
                && !expr::accepts_either(expression, value)
            {
                let (test, key) = slot.names();
                wrong.push(format!("{test}.{key}: {} instead of {}", short(value), short(expression)));
            }
        }
        wrong
    };
    db.find(name).map(of_record).min_by_key(Vec::len)
}

/// The beginning of a text that somebody else wrote, for a message.
fn short(text: &str) -> String {
    text.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DB: &str = "MatchPoints\nSEQ(SP=25%GCD=75)\nOPS(O1=20)\nWIN(W1=15)\nT1(R=100%DF=20%T=15%S=20)\n\
                      Fingerprint A\nSEQ(SP=F0-FF%GCD=1)\nOPS(O1=M5B4)\nT1(R=Y%DF=Y%T=3B-45)\n\
                      Fingerprint A\nSEQ(SP=10%GCD=2)\nOPS(O1=M1)\nT1(R=N)\n";

    #[test]
    fn what_differs_from_the_nearest_record_is_told() {
        let db = Db::parse(DB.as_bytes()).unwrap();
        let printed = "OS:SCAN(V=7.93%E=4)SEQ(SP=F3%GCD=2%ISR=1)OP\nOS:S(O1=M5B4)T1(R=Y%DF=Y%T=40)";
        assert_eq!(differences(&db, "A", printed).unwrap(), ["SEQ.GCD: 2 instead of 1"]);
        assert_eq!(differences(&db, "B", printed), None);
        for absurd in ["", "(((", "SEQ(", "SEQ(SP", "SEQ(=%=)", "\u{1b}SEQ(SP=\u{1b})", &"T1(R=Y%".repeat(100_000)] {
            assert!(differences(&db, "A", absurd).is_some_and(|all| all.len() < 3), "{absurd:.40}");
        }
    }
}
