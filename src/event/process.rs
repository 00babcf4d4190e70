//! What the supervisor says of processes (`process.state`). The sentences are made and read here alone: others learn by
//! them that a switch is another one, or that all is over.

use super::{EventId, Said};

/// How the supervisor begins to say that it is told to end everything.
pub const HONEYNET_ENDS: &str = "the honeynet ends";

/// A process that it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Process {
    /// Opens devices and drives containers.
    Keeper,
    /// Moves frames.
    Switch,
    /// Writes down what happens.
    Console,
}

impl Process {
    const ALL: [Process; 3] = [Process::Keeper, Process::Switch, Process::Console];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Process::Keeper => "keeper",
            Process::Switch => "switch",
            Process::Console => "console",
        }
    }
}

/// What became of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is the first one.
    Started,
    /// It follows another.
    StartedAgain,
    /// It ended by itself.
    Ended,
    /// It was ended by a signal.
    Killed,
}

impl Fate {
    /// What begins as another does comes before it.
    const ALL: [Fate; 4] = [Fate::StartedAgain, Fate::Started, Fate::Ended, Fate::Killed];

    /// The words for it.
    pub fn words(self) -> &'static str {
        match self {
            Fate::Started => "was started",
            Fate::StartedAgain => "was started again",
            Fate::Ended => "ended",
            Fate::Killed => "was ended",
        }
    }

    /// Whether it is gone.
    pub fn is_end(self) -> bool {
        matches!(self, Fate::Ended | Fate::Killed)
    }
}

/// The sentence that says what became of `process`; `more` follows it.
pub fn process_state(process: Process, fate: Fate, more: &str) -> String {
    format!("the {} {}{more}", process.name(), fate.words())
}

/// What such a sentence says.
pub fn told_of_process(sentence: &str) -> Option<(Process, Fate)> {
    let (name, rest) = sentence.strip_prefix("the ")?.split_once(' ')?;
    let process = Process::ALL.into_iter().find(|process| process.name() == name)?;
    Fate::ALL.into_iter().find(|fate| rest.starts_with(fate.words())).map(|fate| (process, fate))
}

impl Said {
    /// What it says became of a process.
    pub fn process(&self) -> Option<(Process, Fate)> {
        let sentence = std::str::from_utf8(&self.data).ok().filter(|_| self.event.id == EventId::ProcessState)?;
        told_of_process(sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for process in Process::ALL {
            for fate in Fate::ALL {
                for more in ["", " (process 7)", " by signal 9", " with exit code 1"] {
                    let said = process_state(process, fate, more);
                    assert_eq!(told_of_process(&said), Some((process, fate)), "{said}");
                }
            }
        }
        let again = process_state(Process::Switch, Fate::StartedAgain, " (process 7)");
        assert_eq!(again, "the switch was started again (process 7)");
        for other in [
            "the switch does not answer any more: it is ended and started again",
            "the honeynet ends: by signal 2",
            "the uplink ended",
            "the switch",
            "switch ended",
            "",
        ] {
            assert_eq!(told_of_process(other), None, "{other}");
        }
    }
}
