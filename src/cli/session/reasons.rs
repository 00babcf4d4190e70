//! Why connections are over, for people. Programs read the words.

/// The phrase for a word of `tcp.close`, of a tape, or of what ended a session. One that is not known stands for itself.
pub fn phrase(word: &str) -> &str {
    match word {
        "client-closed" => "closed by the client",
        "server-closed" => "closed by the host",
        "reset" => "broken off",
        "reset-by-peer" => "reset by the client",
        "reset-by-us" => "reset by the host",
        "timed-out" => "timed out",
        "evicted" => "given up to make room",
        "too-many-attempts" => "too many attempts to log in",
        "protocol-error" => "not as the protocol has it",
        "no-agreement" => "no agreement on encryption",
        "unreachable" => "nothing inside could be reached",
        "failed" => "failed in the middle",
        "honeynet-ended" => "the honeynet ended",
        "switch-ended" => "the switch ended",
        "not-seen" => "its end was not seen",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::tape::Reason;

    #[test]
    fn there_is_a_phrase_for_each_word() {
        for word in Reason::NAMES.into_iter().chain(["reset-by-peer", "reset-by-us", "timed-out", "evicted"]) {
            assert_ne!(phrase(word), word);
        }
        assert_eq!(phrase("closed"), "closed");
    }
}
