//! Finding a name without knowing it exactly.

use super::db::Db;

/// Points for a word of the query by how it is found.
const WHOLE: u32 = 100;
const PREFIX: u32 = 80;
const WITHIN: u32 = 50;
const TYPO: u32 = 30;

impl Db {
    /// The names that have all words of `query` in any case, best first: a whole word is better than the
    /// beginning of one, that is better than what stands within one, that is better than a word with a typo.
    /// Of names that are equally good the shorter ones come first, then those that come first in the database.
    pub fn search(&self, query: &str) -> Vec<(u32, &str)> {
        let words: Vec<String> = words(&query.to_lowercase()).take(32).map(str::to_owned).collect();
        if words.is_empty() {
            return Vec::new();
        }
        let mut seen = std::collections::HashSet::new();
        let mut found = Vec::new();
        for record in self.records() {
            if !seen.insert(&*record.name) {
                continue;
            }
            let name = record.name.to_lowercase();
            let points: Option<u32> = words.iter().map(|word| points(word, &name)).sum();
            if let Some(points) = points {
                found.push((points * 10 / words.len() as u32, &*record.name));
            }
        }
        found.sort_by_key(|(points, name)| (std::cmp::Reverse(*points), name.len()));
        found
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '.').map(|word| word.trim_matches('.')).filter(|w| !w.is_empty())
}

fn points(word: &str, name: &str) -> Option<u32> {
    let best = words(name)
        .filter_map(|other| match other.strip_prefix(word) {
            Some("") => Some(WHOLE),
            Some(_) => Some(PREFIX),
            None => None,
        })
        .max();
    best.or_else(|| name.contains(word).then_some(WITHIN)).or_else(|| {
        let allowed = match word.chars().count() {
            0..4 => return None,
            4..8 => 1,
            _ => 2,
        };
        // A number with another digit is another version, not a typo.
        let plain = !word.bytes().any(|b| b.is_ascii_digit());
        let close = |other: &str| strsim::osa_distance(word, other) <= allowed;
        (plain && word.len() <= 64 && words(name).any(close)).then_some(TYPO)
    })
}
