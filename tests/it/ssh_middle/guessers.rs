//! Programs that guess passwords. `cargo bench --bench ssh_middle -- guessers` has each try 10,000.

use honeyweave::relay::ssh::Policy;
use honeyweave::relay::tape::Entry;

use super::lab::{Lab, run};

/// Passwords that are tried.
const WORDS: usize = 300;

/// `tool` tries all words, of which one may be right, and everything that it has tried is recorded.
fn guess(tool: &str, right: Option<&str>) {
    let words: Vec<String> = (1..=WORDS).map(|n| format!("word-{n}")).collect();
    let policy = right.map_or(Policy::Never, |right| Policy::List(vec![("root".into(), right.into())]));
    let lab = Lab::new(policy);
    std::fs::write(lab.path("words"), words.join("\n") + "\n").unwrap();
    let output = run(&mut lab.guesser(tool, &lab.path("words")));
    let said = String::from_utf8_lossy(&output.stdout);
    // Hydra fails if one of its workers was in the middle of something at the end.
    assert!(output.status.success() || tool == "hydra", "{output:?}");
    let told = lab.ended();
    let (tried, accepted) = lab.guesses();
    if let Some(right) = right {
        assert!(said.lines().any(|line| line.contains("root") && line.contains(right)), "{said}");
        assert_eq!(accepted, [right]);
    } else {
        // What a worker of hydra has in its hands when it gives up, as it says then, nobody was told.
        let given_up: usize = said
            .lines()
            .find_map(|line| {
                line.strip_prefix("[WARNING] Writing restore file because ")?.split(' ').next()?.parse().ok()
            })
            .unwrap_or(0);
        let missing: Vec<_> = words.iter().filter(|word| !tried.contains_key(*word)).collect();
        assert!(missing.len() <= given_up, "{missing:?} {output:?}");
        assert_eq!(accepted, [""; 0]);
    }
    // A word comes again whose answer was the connection's end.
    let again: Vec<_> = tried.iter().filter(|(_, times)| **times > 1).collect();
    assert!(again.len() <= WORDS / 6, "{again:?}");
    // Each connection has a beginning and an end.
    let count = |wanted: fn(&Entry) -> bool| told.iter().filter(|entry| wanted(entry)).count();
    assert_eq!(count(|entry| matches!(entry, Entry::Hello { .. })), count(|entry| matches!(entry, Entry::End { .. })));
    assert_eq!(count(|entry| matches!(entry, Entry::Unreachable { .. })), 0);
}

#[test]
fn hydra_tries_everything() {
    guess("hydra", None);
}

#[test]
fn hydra_finds_what_is_right() {
    guess("hydra", Some("word-40"));
}

#[test]
fn ncrack_tries_everything() {
    guess("ncrack", None);
}

#[test]
fn ncrack_finds_what_is_right() {
    guess("ncrack", Some("word-40"));
}
