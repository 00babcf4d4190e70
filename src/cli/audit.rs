//! `honeyweave audit`: what gives the hosts of a topology away.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValue;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::table;
use crate::audit::{self, Check, Options, Report, TemplateRow};
use crate::topology;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The topology
    pub topology: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Hosts of each template to attack
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub hosts: u16,
    /// Make these checks only, with commas between them
    #[arg(long, value_name = "CHECKS", value_delimiter = ',')]
    only: Vec<Check>,
    /// Longest time of all checks together
    #[arg(long, value_name = "N", default_value_t = 180, value_parser = clap::value_parser!(u32).range(10..=86_400))]
    pub seconds: u32,
    #[command(flatten)]
    os_db: super::OsDb,
}

impl clap::ValueEnum for Check {
    fn value_variants<'a>() -> &'a [Check] {
        &Check::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

/// Attacks the topology and prints what was seen.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let plan = topology::open(&args.topology, &args.os_db.options())?.plan;
    if let Some(wrong) = audit::unfit(&plan) {
        let help = "an audit attacks hosts by the uplinks of their topology";
        super::complain(&miette::miette!(help = help, "{wrong}"));
        return Ok(ExitCode::from(super::BAD_INPUT));
    }
    if !rustix::process::geteuid().is_root() {
        let help = "start it with sudo; all its traffic stays in namespaces that it makes and removes";
        return Err(miette::miette!(help = help, "an audit needs root: it makes network namespaces"));
    }
    let checks = if args.only.is_empty() { Check::ALL.to_vec() } else { args.only };
    for tool in audit::tools(&checks).iter().filter(|tool| tool.path.is_none()) {
        super::remark(&format!("MISSING: `{}`, and its checks with it: apt-get install {}", tool.name, tool.package));
    }
    let options = Options {
        topology: args.topology,
        os_db: args.os_db.os_db,
        hosts: args.hosts.into(),
        checks,
        seconds: args.seconds.into(),
    };
    let progress = Progress::new();
    let result = audit::run(&plan, &options, &mut |what| progress.say(what));
    drop(progress);
    let report = result.map_err(|stop| miette::miette!("the audit did not come to its end: {stop}"))?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| miette::miette!("{error}"))?;
        super::print(&format!("{}\n", table::safe_json(&text)))?;
    } else {
        super::print(&render(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line that changes on a terminal, otherwise a line for each step.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        if let (Some(bar), Ok(style)) = (&bar, ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}")) {
            bar.set_style(style);
        }
        Progress(bar)
    }

    fn say(&self, what: &str) {
        let what = crate::record::escape(what);
        match &self.0 {
            Some(bar) => {
                // Only now: a thread that ticks must not start before signals are taken over.
                bar.enable_steady_tick(Duration::from_millis(100));
                bar.set_message(what.into_owned());
            }
            // Nobody may be listening; an audit does not fail for that.
            None => drop(writeln!(std::io::stderr(), "audit: {what}")),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn row(row: &TemplateRow) -> Value {
    let ms = |us: Option<u64>, spread: Option<u64>| match (us, spread) {
        (Some(us), Some(spread)) => format!("{:.2}±{:.2}", us as f64 / 1e3, spread as f64 / 2e3),
        _ => String::new(),
    };
    let mut nmap = row.nmap.clone().unwrap_or_default();
    if let Some(accuracy) = row.accuracy {
        let _ = write!(nmap, " {accuracy}%");
    }
    json!({
        "template": row.template,
        "personality": row.personality,
        "hosts": row.hosts.len(),
        "worst": row.worst,
        "findings": row.findings,
        "nmap": nmap,
        "products": row.named.map_or(String::new(), |(named, asked)| format!("{named}/{asked}")),
        "p0f": row.p0f,
        "arp": row.arp.as_deref().and_then(|arp| arp.split(' ').next()),
        "echo_ms": ms(row.echo_us, row.echo_spread_us),
        "syn_ms": ms(row.syn_us, row.syn_spread_us),
        "first": row.first_contact,
    })
}

fn render(report: &Report) -> String {
    let rows: Vec<Value> = report.templates.iter().map(row).collect();
    // What is in a report is harmless already; a table escapes once more, which only doubles backslashes.
    let mut text = table::render(&rows);
    text += "\n";
    for found in &report.findings {
        let host = found.host.as_ref().map_or(String::new(), |host| format!(" {host}"));
        let _ = writeln!(text, "[{}] {}{host}: {}", found.severity, found.template, found.check);
        let _ = writeln!(text, "    seen      {}", found.seen);
        let _ = writeln!(text, "    expected  {}", found.expected);
        let _ = writeln!(text, "    to do     {}", found.advice);
    }
    if report.findings.is_empty() {
        text += "Nothing that was looked at gives a host away.\n";
    }
    if !report.skipped.is_empty() {
        text += "\nNot looked at:\n";
    }
    for skipped in &report.skipped {
        let of = skipped.of.as_ref().map_or(String::new(), |of| format!(" of {of}"));
        let _ = writeln!(text, "    {}{of}: {}", skipped.check, skipped.why);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_said_first_and_what_was_left_out_last() {
        let mut report = Report::default();
        report.templates.push(TemplateRow::new("good", "linux"));
        report.templates.push(TemplateRow::new("bad", "cisco-ios"));
        report.find(3, "bad", Some(&"10.0.0.1"), "arp", "a MAC of Dell", "a MAC of cisco", "write a `vendor`");
        report.skip("p0f", None, "`p0f` is not on this machine");
        report.settle();
        let text = render(&report);
        let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
        assert!(place("bad ") < place("good "));
        assert!(place("[3] bad 10.0.0.1: arp\n") < place("Not looked at:\n    p0f: `p0f` is not"));
        assert!(render(&Report::default()).contains("Nothing that was looked at"));
    }
}
