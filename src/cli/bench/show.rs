//! What was measured, for people.

use serde_json::{Map, Value};

use crate::bench::{Answers, FramesReport, Generator, Latency, ProbeReport, ReceiveReport, Sending};
use crate::cli::status::count;
use crate::cli::table;

/// Names and what belongs to them, one a line.
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        let line = format!("{name:<14}{value}");
        self.0 += line.trim_end();
        self.0.push('\n');
    }

    fn number(&mut self, name: &str, value: u64, more: &str) {
        self.add(name, &format!("{:>13}  {more}", count(value)));
    }

    /// What would be surprising, and is left out otherwise.
    fn unless_zero(&mut self, name: &str, value: u64, more: &str) {
        if value > 0 {
            self.number(name, value, more);
        }
    }

    fn sending(&mut self, sending: &Sending) {
        let rate = format!("{} a second for {:.1} s", count(sending.rate as u64), sending.seconds);
        self.number("sent", sending.sent, &rate);
        self.unless_zero("unsent", sending.unsent, "the interface's queue was full");
    }

    fn answers(&mut self, answers: &Answers, sent: u64, name: &str, more: &str) {
        let share = if sent == 0 { 0.0 } else { answers.answered as f64 / sent as f64 * 100.0 };
        let rate = count(answers.answer_rate as u64);
        self.number(name, answers.answered, &format!("{share:.2} %, {rate} a second{more}"));
        self.number("lost", answers.lost, "");
        self.number("duplicates", answers.duplicates, "");
        self.unless_zero("unexpected", answers.unexpected, "too late, or not what was asked");
    }

    fn latencies(&mut self, rows: &[(&str, Option<Latency>)]) {
        let rows: Vec<Value> = rows.iter().filter_map(|(name, latency)| Some(row(name, (*latency)?))).collect();
        if !rows.is_empty() {
            self.0 += "\n";
            self.0 += &table::render(&rows);
        }
    }

    fn generator(&mut self, generator: &Generator, seconds: f64, unpaced: bool, interrupted: bool) {
        let Generator { user_seconds, system_seconds, cpu_percent, behind_seconds, overruns } = generator;
        self.0 += "\n";
        let used = format!("{cpu_percent:.0} % of a processor: user {user_seconds:.2} s, system {system_seconds:.2} s");
        self.add("generator", &used);
        if *overruns > 0 {
            let lost = count(*overruns);
            self.0 += &format!("Note: {lost} frames came faster than the generator took them; it was the limit.\n");
        } else if *behind_seconds > seconds / 100.0 {
            self.0 += "Note: the generator did not keep up with its schedule; it may have been the limit.\n";
        } else if *cpu_percent >= 90.0 && unpaced {
            self.0 += "Note: the generator was busy all the time; it may have been the limit.\n";
        }
        if interrupted {
            self.0 += "Note: it was ended before its time.\n";
        }
    }
}

fn row(name: &str, latency: Latency) -> Value {
    let Latency { min, p50, p90, p99, p99_9, max } = latency;
    let values = [("min", min), ("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p99_9), ("max", max)];
    let mut row = Map::new();
    row.insert("latency".to_owned(), name.into());
    row.extend(values.map(|(name, nanos)| (name.to_owned(), time(nanos).into())));
    row.into()
}

/// Nanoseconds with three digits.
fn time(nanos: u64) -> String {
    let (value, unit) = match nanos as f64 {
        n if n < 999.5e3 => (n / 1e3, "us"),
        n if n < 999.5e6 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

/// What was measured by asking; `unpaced` if as much was sent as the machine sends.
pub fn probes(report: &ProbeReport, unpaced: bool) -> String {
    let what = match report.bench {
        "echo" => "echo requests",
        "arp" => "questions for MACs",
        "syn" => "SYNs",
        _ => "connections",
    };
    let mut lines = Lines(format!("{what} to {} by {}\n\n", report.prefix, report.interface));
    let silent = match report.unresolved {
        0 => String::new(),
        n => format!("{} more have no MAC and were not asked", count(n)),
    };
    lines.number("targets", report.targets, &silent);
    lines.sending(&report.sending);
    let by = format!(", by {} addresses", count(report.responders));
    lines.answers(&report.answers, report.sending.sent, "answered", &by);
    lines.unless_zero("ICMP errors", report.icmp_errors, "");
    if let Some(syn) = &report.syn {
        lines.number("SYN/ACK", syn.syn_ack, "");
        lines.number("RST", syn.rst, "");
    }
    if let Some(handshake) = &report.handshake {
        lines.number("completed", handshake.completed, "");
        lines.number("refused", handshake.refused, "");
        lines.number("responses", handshake.responses, "");
        lines.number("closed", handshake.closed, "in order, by both sides");
        lines.unless_zero("reset", handshake.reset, "by the target");
        lines.unless_zero("aborted", handshake.aborted, "still open when nothing more was waited for");
    }
    let response = report.handshake.and_then(|handshake| handshake.response_latency_ns);
    lines.latencies(&[("answer", report.answers.latency_ns), ("response", response)]);
    lines.generator(&report.generator, report.sending.seconds, unpaced, report.interrupted);
    lines.0
}

/// What was sent to measure forwarding.
pub fn frames(report: &FramesReport, unpaced: bool) -> String {
    let FramesReport { interface, to, size, .. } = report;
    let mut lines = Lines(format!("frames of {size} octets to {to} by {interface}\n\n"));
    lines.sending(&report.sending);
    if let Some(answers) = &report.answers {
        lines.answers(answers, report.sending.sent, "arrived", "");
        lines.latencies(&[("one way", answers.latency_ns)]);
    }
    lines.generator(&report.generator, report.sending.seconds, unpaced, report.interrupted);
    lines.0
}

/// What arrived of somebody else's frames; `spin` if it was never to sleep.
pub fn received(report: &ReceiveReport, spin: bool) -> String {
    let mut lines = Lines(format!("frames received by {}\n\n", report.interface));
    let rate = format!("{} a second for {:.1} s", count(report.rate as u64), report.seconds);
    lines.number("received", report.received, &rate);
    lines.number("missing", report.missing, "lost, or never taken by the sender's interface");
    lines.number("octets", report.octets, "");
    lines.unless_zero("foreign", report.foreign, "of another run, not counted");
    lines.generator(&report.generator, report.seconds, !spin, report.interrupted);
    lines.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Handshakes;

    #[test]
    fn times_have_three_digits() {
        for (nanos, text) in [
            (0, "0.00 us"),
            (850, "0.85 us"),
            (9_994, "9.99 us"),
            (9_996, "10.0 us"),
            (99_960, "100 us"),
            (999_400, "999 us"),
            (999_600, "1.00 ms"),
            (61_000_000_000, "61.0 s"),
        ] {
            assert_eq!(time(nanos), text);
        }
    }

    #[test]
    fn a_report_says_what_was_the_limit() {
        let latency = Latency { min: 2100, p50: 4000, p90: 9000, p99: 20_000, p99_9: 1_500_000, max: 2_000_000_000 };
        let mut report = ProbeReport {
            bench: "handshake",
            interface: "eth1".into(),
            prefix: "10.0.0.0/16".into(),
            targets: 65_000,
            unresolved: 536,
            responders: 60_000,
            sending: Sending { sent: 100_000, unsent: 0, seconds: 10.0, rate: 10_000.0 },
            answers: Answers {
                answered: 99_000,
                lost: 1000,
                duplicates: 0,
                unexpected: 2,
                answer_rate: 9900.0,
                latency_ns: Some(latency),
            },
            icmp_errors: 0,
            syn: None,
            handshake: Some(Handshakes {
                completed: 99_000,
                refused: 0,
                responses: 98_000,
                closed: 97_999,
                reset: 0,
                aborted: 1001,
                response_latency_ns: None,
            }),
            generator: Generator {
                user_seconds: 2.0,
                system_seconds: 7.5,
                cpu_percent: 95.0,
                behind_seconds: 0.05,
                overruns: 0,
            },
            interrupted: true,
        };
        let expected = "\
connections to 10.0.0.0/16 by eth1

targets              65,000  536 more have no MAC and were not asked
sent                100,000  10,000 a second for 10.0 s
answered             99,000  99.00 %, 9,900 a second, by 60,000 addresses
lost                  1,000
duplicates                0
unexpected                2  too late, or not what was asked
completed            99,000
refused                   0
responses            98,000
closed               97,999  in order, by both sides
aborted               1,001  still open when nothing more was waited for

LATENCY  MIN      P50      P90      P99      P99.9    MAX
answer   2.10 us  4.00 us  9.00 us  20.0 us  1.50 ms  2.00 s

generator     95 % of a processor: user 2.00 s, system 7.50 s
Note: the generator was busy all the time; it may have been the limit.
Note: it was ended before its time.
";
        assert_eq!(probes(&report, true), expected);
        assert!(!probes(&report, false).contains("busy all the time"));
        report.generator.behind_seconds = 0.2;
        assert!(probes(&report, false).contains("did not keep up with its schedule"));
        report.generator.overruns = 1234;
        assert!(probes(&report, true).contains("1,234 frames came faster than the generator took them"));
    }
}
