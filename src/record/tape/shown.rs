//! Words of a tape as they are told.

use crate::record::is_harmless;
use crate::relay::tape::Credential;

/// Characters of a word that are told.
const WORD: usize = 1024;

/// By what somebody has tried to log in: its kind, and what it said.
pub fn credential_of(credential: &Credential) -> (&'static str, String) {
    match credential {
        Credential::None => ("none", String::new()),
        Credential::Password { password } => ("password", shown(password.as_str())),
        Credential::PasswordChange { old, new } => {
            ("password-change", format!("{} to {}", shown(old.as_str()), shown(new.as_str())))
        }
        Credential::KeyboardInteractive { answers } => {
            let answers: Vec<String> = answers.iter().take(8).map(|answer| shown(answer.as_str())).collect();
            ("keyboard-interactive", answers.join(", "))
        }
        Credential::Digest { value, .. } => ("digest", shown(value.as_str())),
        Credential::PublicKey { fingerprint, signed, .. } => {
            let offered = if *signed { "" } else { " (only offered)" };
            ("publickey", format!("{}{offered}", shown(fingerprint.as_str())))
        }
    }
}

/// Without what a terminal acts upon: somebody else may have written the tape.
pub fn harmless(c: char) -> char {
    if is_harmless(c) { c } else { '?' }
}

/// As much of `text` as is told. It should be harmless already: what is not is none of our making.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(WORD).map(harmless).collect();
    if text.chars().nth(WORD).is_some() {
        shown.push('…');
    }
    shown
}
