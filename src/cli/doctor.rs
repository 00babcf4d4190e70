//! `honeyweave doctor`: what this machine lacks and how to mend it.

mod checks;
mod packages;

use std::process::ExitCode;

use serde::Serialize;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How one thing stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// Something will not work, but a honeynet comes up.
    Limited,
    /// No honeynet comes up, or no container starts.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Check {
    /// A stable name.
    id: &'static str,
    verdict: Verdict,
    /// What was found, and what follows from it.
    found: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Check {
    fn ok(id: &'static str, found: impl Into<String>) -> Check {
        Check { id, verdict: Verdict::Ok, found: found.into(), mend: None }
    }

    fn limited(id: &'static str, found: impl Into<String>, mend: impl Into<Option<String>>) -> Check {
        Check { id, verdict: Verdict::Limited, found: found.into(), mend: mend.into() }
    }

    fn missing(id: &'static str, found: impl Into<String>, mend: impl Into<Option<String>>) -> Check {
        Check { id, verdict: Verdict::Missing, found: found.into(), mend: mend.into() }
    }
}

/// What nobody can mend, and what surprises everyone once.
const NOTES: [&str; 3] = [
    "This machine itself cannot ping its own decoys: frames that a packet socket sends on an interface go out on \
     the wire and are not delivered to the machine's own network stack, nor does what the stack sends reach the \
     socket as received. Try from another machine, a virtual machine, or a network namespace (`make demo` does).",
    "On a virtual machine or in a cloud the network outside may deliver no frame for a MAC that it did not hand \
     out: allow promiscuous mode and forged transmits on the virtual switch, or use `mac: shared`.",
    "Images can be built on a Debian machine and copied: `rsync -aHAX --numeric-ids` the folder images/ of the \
     state directory.",
];

/// Looks at the machine and prints what it lacks.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let checks = checks::all();
    let missing = checks.iter().filter(|check| check.verdict == Verdict::Missing).count();
    let limited = checks.iter().filter(|check| check.verdict == Verdict::Limited).count();
    if args.json {
        let value = serde_json::json!({ "ok": missing == 0, "checks": checks, "notes": NOTES });
        super::print(&format!("{value:#}\n"))?;
    } else {
        super::print(&render(&checks, missing, limited))?;
    }
    Ok(if missing == 0 { ExitCode::SUCCESS } else { ExitCode::from(super::FAILURE) })
}

fn render(checks: &[Check], missing: usize, limited: usize) -> String {
    let width = checks.iter().map(|check| check.id.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Check { id, verdict, found, mend } in checks {
        let mark = match verdict {
            Verdict::Ok => "ok     ",
            Verdict::Limited => "limited",
            Verdict::Missing => "MISSING",
        };
        text += &format!("{mark}  {id:width$}  {found}\n");
        if let Some(mend) = mend {
            text += &format!("{:7}  {:width$}  mend it: {mend}\n", "", "");
        }
    }
    text += "\n";
    for note in NOTES {
        text += &format!("Note: {note}\n");
    }
    text += &match (missing, limited) {
        (0, 0) => "\nThis machine has all that honeyweave needs.\n".to_owned(),
        (0, _) => format!("\nA honeynet can come up here; {limited} of its parts will be limited.\n"),
        (1, _) => "\nOne thing is missing.\n".to_owned(),
        _ => format!("\n{missing} things are missing.\n"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_its_command() {
        let checks = [
            Check::ok("tun", "/dev/net/tun works"),
            Check::missing("overlay", "no overlayfs", Some("modprobe overlay".to_owned())),
        ];
        let text = render(&checks, 1, 0);
        assert!(text.contains("MISSING  overlay  no overlayfs\n"), "{text}");
        assert!(text.contains("mend it: modprobe overlay\n"), "{text}");
        assert!(text.contains("cannot ping its own decoys"), "{text}");
        assert!(text.ends_with("\nOne thing is missing.\n"), "{text}");
        assert!(render(&checks, 2, 0).ends_with("\n2 things are missing.\n"));
    }

    #[test]
    fn json_is_stable() {
        let check = Check::limited("mmdebstrap", "not installed", Some("apt-get install".to_owned()));
        let text = serde_json::to_string(&check).unwrap();
        assert_eq!(text, r#"{"id":"mmdebstrap","verdict":"limited","found":"not installed","mend":"apt-get install"}"#);
    }
}
