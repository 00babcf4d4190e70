//! What was measured. The names of the members are stable; docs/bench.md explains them.

use serde::Serialize;

use super::drive::Run;
use super::tally::{Latencies, Tally};

/// Latencies in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// The shortest.
    pub min: u64,
    /// Half of them were no longer.
    pub p50: u64,
    /// Nine of ten.
    pub p90: u64,
    /// 99 of a hundred.
    pub p99: u64,
    /// 999 of a thousand.
    pub p99_9: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    /// What a histogram says; `None` if it is empty.
    pub fn of(latencies: &Latencies) -> Option<Latency> {
        let at = |quantile| latencies.value_at_quantile(quantile);
        (!latencies.is_empty()).then(|| Latency {
            min: latencies.min(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: latencies.max(),
        })
    }
}

/// What left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sending {
    /// Frames that the interface took.
    pub sent: u64,
    /// Frames that it did not take: its queue was full.
    pub unsent: u64,
    /// How long frames were sent, in seconds.
    pub seconds: f64,
    /// Frames sent a second.
    pub rate: f64,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Answers {
    /// Frames that were answered (while forwarding is measured: that arrived), each counted once.
    pub answered: u64,
    /// Frames that were not.
    pub lost: u64,
    /// Further answers to the same frame.
    pub duplicates: u64,
    /// Answers to nothing that was waited for, or by somebody else.
    pub unexpected: u64,
    /// Answers a second, until the last one came.
    pub answer_rate: f64,
    /// From a frame to its first answer; nothing without answers.
    pub latency_ns: Option<Latency>,
}

/// What the generator itself has cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Generator {
    /// Processor time in its own code while it sent, in seconds.
    pub user_seconds: f64,
    /// Processor time in the kernel on its behalf, in seconds.
    pub system_seconds: f64,
    /// Both, in percent of one processor.
    pub cpu_percent: f64,
    /// By how much the schedule was put off altogether because it could not be kept, in seconds.
    pub behind_seconds: f64,
    /// Frames that arrived and found no room in its packet socket: their answers count as lost.
    pub overruns: u64,
}

/// What SYNs were answered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SynAnswers {
    /// SYN/ACK: the port is open.
    pub syn_ack: u64,
    /// RST: the port is closed.
    pub rst: u64,
}

/// What became of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Handshakes {
    /// Connections that stood.
    pub completed: u64,
    /// SYNs that were answered by RST.
    pub refused: u64,
    /// Connections on which the target said something.
    pub responses: u64,
    /// Connections that both sides ended in order.
    pub closed: u64,
    /// Connections that the target reset.
    pub reset: u64,
    /// Connections that were still open at the end, and were reset.
    pub aborted: u64,
    /// From the SYN to the first octet that the target said; nothing without responses.
    pub response_latency_ns: Option<Latency>,
}

/// What was measured by asking.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeReport {
    /// What was asked: `echo`, `arp`, `syn`, `handshake`.
    pub bench: &'static str,
    /// The interface.
    pub interface: String,
    /// Who was asked.
    pub prefix: String,
    /// Addresses that were asked.
    pub targets: u64,
    /// Addresses that were not, because nobody there answers when asked for a MAC.
    pub unresolved: u64,
    /// Different addresses that answered.
    pub responders: u64,
    /// What left.
    #[serde(flatten)]
    pub sending: Sending,
    /// What came back.
    #[serde(flatten)]
    pub answers: Answers,
    /// ICMP errors that came back.
    pub icmp_errors: u64,
    /// Of SYNs only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syn: Option<SynAnswers>,
    /// Of handshakes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Handshakes>,
    /// What it cost here.
    pub generator: Generator,
    /// Whether it was ended before its time.
    pub interrupted: bool,
}

/// What was sent to measure forwarding, and what arrived if that was counted here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FramesReport {
    /// `frames`.
    pub bench: &'static str,
    /// The interface.
    pub interface: String,
    /// Where they went.
    pub to: String,
    /// Octets of a frame on the wire, FCS included.
    pub size: usize,
    /// What left.
    #[serde(flatten)]
    pub sending: Sending,
    /// What arrived at the other interface.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
    /// What it cost here.
    pub generator: Generator,
    /// Whether it was ended before its time.
    pub interrupted: bool,
}

/// What arrived of somebody else's frames.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReceiveReport {
    /// `receive`.
    pub bench: &'static str,
    /// The interface.
    pub interface: String,
    /// Frames that arrived.
    pub received: u64,
    /// Frames before the last that arrived, which did not: lost, or never taken by the sender's interface.
    pub missing: u64,
    /// Octets of them on the wire, FCS included.
    pub octets: u64,
    /// From the first to the last, in seconds.
    pub seconds: f64,
    /// Frames a second.
    pub rate: f64,
    /// Frames of other runs, which were not counted.
    pub foreign: u64,
    /// What it cost here.
    pub generator: Generator,
    /// Whether it was ended before its time.
    pub interrupted: bool,
}

impl Sending {
    pub(super) fn of(run: &Run, tally: &Tally) -> Sending {
        let seconds = seconds(run.sending);
        Sending { sent: tally.sent, unsent: tally.unsent, seconds, rate: per_second(tally.sent, run.sending) }
    }
}

impl Answers {
    pub(super) fn of(run: &Run, tally: &Tally) -> Answers {
        Answers {
            answered: tally.answered,
            lost: tally.lost(),
            duplicates: tally.duplicates,
            unexpected: tally.unexpected,
            answer_rate: per_second(tally.answered, tally.last_answer.saturating_sub(run.begin)),
            latency_ns: Latency::of(&tally.latency),
        }
    }
}

impl Generator {
    pub(super) fn of(run: &Run, overruns: u64) -> Generator {
        let (user, system) = (run.used.user.as_secs_f64(), run.used.system.as_secs_f64());
        let cpu_percent = if run.sending == 0 { 0.0 } else { (user + system) / seconds(run.sending) * 100.0 };
        Generator {
            user_seconds: user,
            system_seconds: system,
            cpu_percent: round(cpu_percent),
            behind_seconds: seconds(run.behind),
            overruns,
        }
    }
}

pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// A rate; 0 if it took no time.
pub(super) fn per_second(frames: u64, nanos: u64) -> f64 {
    if nanos == 0 { 0.0 } else { round(frames as f64 / seconds(nanos)) }
}

/// To a tenth: more digits are noise.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::tally::Tally;
    use crate::sys::usage::Usage;

    fn members(value: &impl Serialize) -> Vec<String> {
        let value = serde_json::to_value(value).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn members_have_stable_names() {
        let used = Usage { user: Duration::from_millis(250), system: Duration::from_millis(500) };
        let run = Run { begin: 1000, sending: 3_000_000_000, used, behind: 1_000_000, interrupted: false };
        let mut tally = Tally::new(4, 8);
        tally.next = 3;
        tally.stamp(0, 1000);
        tally.sent = 3;
        tally.answer(0, 1, 3000);
        tally.answer(1, 1, 1_500_001_000);
        let report = ProbeReport {
            bench: "syn",
            interface: "eth1".into(),
            prefix: "10.0.0.0/30".into(),
            targets: 3,
            unresolved: 1,
            responders: tally.responders,
            sending: Sending::of(&run, &tally),
            answers: Answers::of(&run, &tally),
            icmp_errors: 0,
            syn: Some(SynAnswers { syn_ack: 2, rst: 0 }),
            handshake: None,
            generator: Generator::of(&run, 0),
            interrupted: false,
        };
        let expected = [
            "bench",
            "interface",
            "prefix",
            "targets",
            "unresolved",
            "responders",
            "sent",
            "unsent",
            "seconds",
            "rate",
            "answered",
            "lost",
            "duplicates",
            "unexpected",
            "answer_rate",
            "latency_ns",
            "icmp_errors",
            "syn",
            "generator",
            "interrupted",
        ];
        assert_eq!(members(&report), expected);
        assert_eq!((report.sending.seconds, report.sending.rate, report.answers.answer_rate), (3.0, 1.0, 1.3));
        assert_eq!((report.answers.lost, report.responders, report.generator.cpu_percent), (1, 1, 25.0));
        let latency = report.answers.latency_ns.unwrap();
        assert_eq!(members(&latency), ["min", "p50", "p90", "p99", "p99_9", "max"]);
        assert_eq!((latency.min, latency.max / 1_000_000), (2000, 1500));
        assert_eq!(
            members(&report.generator),
            ["user_seconds", "system_seconds", "cpu_percent", "behind_seconds", "overruns"]
        );
        let frames = FramesReport {
            bench: "frames",
            interface: "eth1".into(),
            to: "02:00:00:00:00:01".into(),
            size: 64,
            sending: report.sending,
            answers: None,
            generator: report.generator,
            interrupted: false,
        };
        let expected =
            ["bench", "interface", "to", "size", "sent", "unsent", "seconds", "rate", "generator", "interrupted"];
        assert_eq!(members(&frames), expected);
    }

    #[test]
    fn nothing_is_no_latency_and_no_rate() {
        assert_eq!(Latency::of(&crate::bench::tally::latencies()), None);
        assert_eq!(per_second(5, 0), 0.0);
        let run = Run { begin: 0, sending: 0, used: Usage::default(), behind: 0, interrupted: true };
        assert_eq!(Generator::of(&run, 0).cpu_percent, 0.0);
    }
}
