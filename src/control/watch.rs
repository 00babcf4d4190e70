//! Whether the switch still answers: the supervisor asks it every few seconds, and each thread of the data plane has to
//! say so between two steps. One that is overloaded does; one that was stopped, or hangs in a loop, does not.

/// How often the switch is asked, in microseconds, whether its data plane still answers: each time wakes it.
const CHECK: i64 = 5_000_000;
/// Checks that it may leave without an answer, and more of them until its first one: a large topology takes its time.
const MISSES: u32 = 2;
const MISSES_AT_FIRST: u32 = 12;

/// Whether the switch answers. Checks are counted and not timed: on a machine that stood still, everything is late.
pub(super) struct Watch {
    /// When it is asked next.
    pub(super) next: i64,
    /// Whether the last question waits for its answer, and how many checks it has done so.
    asked: bool,
    misses: u32,
    /// Whether the present switch has ever answered.
    heard: bool,
}

impl Watch {
    /// For a switch that starts now.
    pub(super) fn new(now: i64) -> Watch {
        Watch { next: now + CHECK, asked: false, misses: 0, heard: false }
    }

    /// It has answered.
    pub(super) fn answered(&mut self) {
        (self.asked, self.misses, self.heard) = (false, 0, true);
    }

    /// It is time for a check: whether the switch is to be asked, or has not answered for too long.
    pub(super) fn check(&mut self, now: i64) -> Check {
        self.next = now + CHECK;
        if !self.asked {
            self.asked = true;
            return Check::Ask;
        }
        self.misses += 1;
        let most = if self.heard { MISSES } else { MISSES_AT_FIRST };
        if self.misses < most { Check::Wait } else { Check::Hung }
    }
}

/// What a check is for.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Check {
    /// It is to be asked.
    Ask,
    /// It has not answered yet.
    Wait,
    /// It has not answered for too long.
    Hung,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_misses_two_checks_is_hung() {
        let mut watch = Watch::new(0);
        assert_eq!((watch.next, watch.check(CHECK)), (CHECK, Check::Ask));
        watch.answered();
        assert_eq!(watch.check(2 * CHECK), Check::Ask);
        assert_eq!((watch.check(3 * CHECK), watch.check(4 * CHECK)), (Check::Wait, Check::Hung));
        // An answer that is late, but comes, starts all over. How late it is does not matter: the machine may have slept.
        watch.answered();
        assert_eq!(watch.check(900 * CHECK), Check::Ask);
        assert_eq!(watch.check(9000 * CHECK), Check::Wait);
        watch.answered();
        assert_eq!(watch.check(9001 * CHECK), Check::Ask);
    }

    #[test]
    fn one_that_has_never_answered_has_more_time() {
        let mut watch = Watch::new(0);
        let checks: Vec<Check> = (1..=14).map(|n| watch.check(n * CHECK)).collect();
        assert_eq!(checks.iter().position(|check| *check == Check::Hung), Some(12));
    }
}
