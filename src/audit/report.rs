//! What an audit found, for people and for programs.

use serde::Serialize;

use crate::record::escape;

/// Characters of a text from a tool or from the topology that are kept.
const MOST_TEXT: usize = 240;
/// Findings that are kept; what a topology of thousands of templates gives beyond that is counted.
const MOST_FINDINGS: usize = 2000;

/// Makes a text that somebody else wrote fit for a terminal and for a report.
pub fn clean(text: &str) -> String {
    let short: String = text.chars().take(MOST_TEXT).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", escape(&short))
}

/// Something that gives a host away.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// 3: whoever looks sees it; 2: a scanner's user who thinks sees it; 1: an expert may.
    pub severity: u8,
    /// The template.
    pub template: String,
    /// The host, if it is about one.
    pub host: Option<String>,
    /// Which check found it.
    pub check: &'static str,
    /// What was seen.
    pub seen: String,
    /// What was expected.
    pub expected: String,
    /// What to do.
    pub advice: String,
}

/// A kind of hosts, and how it did.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TemplateRow {
    /// Its name.
    pub template: String,
    /// Its personality.
    pub personality: String,
    /// The hosts that were attacked.
    pub hosts: Vec<String>,
    /// The best name that nmap gave the first of them.
    pub nmap: Option<String>,
    /// How sure it was, in percent.
    pub accuracy: Option<u8>,
    /// The names that fitted perfectly.
    pub perfect: Option<usize>,
    /// Open ports that nmap names a product for, and open ports that were asked.
    pub named: Option<(usize, usize)>,
    /// What p0f takes it for.
    pub p0f: Option<String>,
    /// Bits and names of arp-fingerprint.
    pub arp: Option<String>,
    /// Median time to an echo reply, in microseconds.
    pub echo_us: Option<u64>,
    /// From the tenth to the ninetieth percentile of it.
    pub echo_spread_us: Option<u64>,
    /// Median time to a SYN/ACK, in microseconds.
    pub syn_us: Option<u64>,
    /// The same of SYN/ACK.
    pub syn_spread_us: Option<u64>,
    /// How well the best threshold tells a first contact from the tenth: 0.5 not at all, 1 always.
    pub first_contact: Option<f64>,
    /// Findings.
    pub findings: usize,
    /// The highest severity among them, 0 without any.
    pub worst: u8,
}

impl TemplateRow {
    /// A row with nothing but names.
    pub fn new(template: &str, personality: &str) -> TemplateRow {
        TemplateRow {
            template: clean(template),
            personality: clean(personality),
            hosts: Vec::new(),
            nmap: None,
            accuracy: None,
            perfect: None,
            named: None,
            p0f: None,
            arp: None,
            echo_us: None,
            echo_spread_us: None,
            syn_us: None,
            syn_spread_us: None,
            first_contact: None,
            findings: 0,
            worst: 0,
        }
    }
}

/// A program that an audit uses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Where it is, if it is there.
    pub path: Option<String>,
    /// The package of Debian that has it.
    pub package: &'static str,
}

/// A check that was not made, or not of everything.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Skipped {
    /// Which.
    pub check: &'static str,
    /// Of which template or host, if not of all.
    pub of: Option<String>,
    /// Why.
    pub why: String,
}

/// All of it.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Report {
    /// The templates, the one that is given away most first.
    pub templates: Vec<TemplateRow>,
    /// The findings, the worst first.
    pub findings: Vec<Finding>,
    /// The programs.
    pub tools: Vec<Tool>,
    /// What was not looked at.
    pub skipped: Vec<Skipped>,
}

impl Report {
    /// The row of a template.
    pub fn row(&mut self, template: &str) -> Option<&mut TemplateRow> {
        let name = clean(template);
        self.templates.iter_mut().find(|row| row.template == name)
    }

    /// Adds a finding about `host` of `template`.
    #[expect(clippy::too_many_arguments, reason = "a finding has that many parts")]
    pub fn find(
        &mut self,
        severity: u8,
        template: &str,
        host: Option<&dyn ToString>,
        check: &'static str,
        seen: &str,
        expected: &str,
        advice: &str,
    ) {
        if self.findings.len() == MOST_FINDINGS {
            self.skip(check, None, "there are more findings than a report holds: mend these first");
            return;
        }
        self.findings.push(Finding {
            severity,
            template: clean(template),
            host: host.map(|host| clean(&host.to_string())),
            check,
            seen: clean(seen),
            expected: clean(expected),
            advice: clean(advice),
        });
    }

    /// Says that something was not looked at, once.
    pub fn skip(&mut self, check: &'static str, of: Option<&str>, why: &str) {
        let skipped = Skipped { check, of: of.map(clean), why: clean(why) };
        if self.skipped.len() < MOST_FINDINGS && !self.skipped.contains(&skipped) {
            self.skipped.push(skipped);
        }
    }

    /// Brings everything into the order in which it is shown: the worst first.
    pub fn settle(&mut self) {
        for row in &mut self.templates {
            let own = self.findings.iter().filter(|finding| finding.template == row.template);
            (row.findings, row.worst) = own.fold((0, 0), |(n, worst), found| (n + 1, worst.max(found.severity)));
        }
        // Stable: equals stay in the order of the topology.
        self.templates.sort_by_key(|row| std::cmp::Reverse((row.worst, row.findings)));
        let place: Vec<String> = self.templates.iter().map(|row| row.template.clone()).collect();
        let at = |finding: &Finding| place.iter().position(|name| *name == finding.template);
        self.findings.sort_by_cached_key(|finding| (std::cmp::Reverse(finding.severity), at(finding)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first() {
        let mut report = Report::default();
        for name in ["good", "bad", "middling"] {
            report.templates.push(TemplateRow::new(name, "linux"));
        }
        report.find(1, "good", None, "p0f", "a", "b", "c");
        report.find(2, "middling", Some(&"10.0.0.1"), "p0f", "a", "b", "c");
        report.find(1, "bad", None, "p0f", "a", "b", "c");
        report.find(3, "bad", None, "arp", "a", "b", "c");
        report.settle();
        let order: Vec<_> = report.templates.iter().map(|row| (&*row.template, row.worst, row.findings)).collect();
        assert_eq!(order, [("bad", 3, 2), ("middling", 2, 1), ("good", 1, 1)]);
        let order: Vec<_> = report.findings.iter().map(|found| (&*found.template, found.severity)).collect();
        assert_eq!(order, [("bad", 3), ("middling", 2), ("bad", 1), ("good", 1)]);
    }

    #[test]
    fn texts_are_short_and_harmless() {
        assert_eq!(clean("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert!(clean(&"\u{202e}".repeat(100_000)).len() < 10 * MOST_TEXT + 10);
        let mut report = Report::default();
        for _ in 0..3 {
            report.skip("p0f", Some("x"), "no");
        }
        assert_eq!(report.skipped.len(), 1);
    }
}
