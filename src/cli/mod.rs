//! The command line: one file per subcommand, each with its `Args` and `run`.
//!
//! Exit codes: 0 it worked, 1 it failed, 2 the arguments or the topology are
//! wrong and nothing was started. Results go to standard output, everything else
//! to standard error; colors only where a person looks (`NO_COLOR` is obeyed).

mod audit;
mod bench;
mod check;
mod client;
mod console_entry;
mod container;
mod contradictions;
mod doctor;
mod down;
mod events;
mod evidence;
mod graph;
mod hosts;
mod image;
mod import;
mod inspector_entry;
mod keeper_entry;
mod log;
mod lxc_entry;
mod personality;
mod schema;
mod session;
mod show;
mod status;
mod switch_entry;
mod table;
mod target;
mod up;
mod when;

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use target::Target;

/// Exit code of a failure.
pub const FAILURE: u8 = 1;
/// Exit code of wrong arguments or a wrong topology.
pub const BAD_INPUT: u8 = 2;

/// Weaves emulated hosts, on-demand containers, routers, switches and a real interface into one believable network.
#[derive(Parser, Debug)]
#[command(name = "honeyweave", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Bring a topology up and keep it up until it is told to end
    Up(up::Args),
    /// Say what is wrong with a topology, starting nothing
    Check(check::Args),
    /// Print the JSON Schema of topology files, for editors
    Schema(schema::Args),
    /// Make a topology of a Honeyd configuration or of a scan by nmap
    Import(import::Args),
    /// Draw a topology as Mermaid, DOT or JSON
    Graph(graph::Args),
    /// Say how a running honeynet is doing
    Status(status::Args),
    /// The hosts that someone has spoken to
    Hosts(hosts::Args),
    /// The containers of a running honeynet
    Container(container::Args),
    /// What happened
    Events(events::Args),
    /// What each attacker did on each host, from first contact to last
    Session(session::Args),
    /// What intruders left in containers
    Evidence(evidence::Args),
    /// The inner tables of a running honeynet
    Show(show::Args),
    /// The images that containers start from
    Image(image::Args),
    /// The operating systems that hosts may pass for
    Personality(personality::Args),
    /// End a running honeynet and clean up after it
    Down(down::Args),
    /// Say what this machine lacks and how to mend it
    Doctor(doctor::Args),
    /// Attack a topology in scratch network namespaces and say what gives its hosts away
    Audit(audit::Args),
    Bench(bench::Args),
    #[command(name = "__keeper", hide = true)]
    Keeper(keeper_entry::Args),
    #[command(name = "__switch", hide = true)]
    Switch(switch_entry::Args),
    #[command(name = "__console", hide = true)]
    Console(console_entry::Args),
    #[command(name = "__lxc", hide = true)]
    Lxc(lxc_entry::Args),
    /// The process that reads what is imported; started by `image import`
    #[command(name = "__import", hide = true)]
    ImportEntry(image::ImportEntry),
    #[command(name = "__inspector", hide = true)]
    Inspector(inspector_entry::Args),
}

/// Where nmap's database of operating systems is.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct OsDb {
    /// nmap's database of operating systems [default: where nmap's packages put it]
    #[arg(long, value_name = "FILE", env = "HONEYWEAVE_OS_DB")]
    pub os_db: Option<PathBuf>,
}

impl OsDb {
    /// What loading a topology needs to know of it, and of where MAC prefixes are.
    pub fn options(&self) -> crate::topology::Options {
        let mac_prefixes = std::env::var_os("HONEYWEAVE_MAC_PREFIXES").map(PathBuf::from);
        crate::topology::Options { os_db: self.os_db.clone(), mac_prefixes, ..Default::default() }
    }

    /// The personalities, with those of the database.
    pub fn personalities(&self) -> crate::topology::personalities::Personalities {
        crate::topology::personalities::Personalities::new(self.os_db.clone())
    }
}

/// Parses the arguments, runs the subcommand and reports its error.
pub fn main() -> ExitCode {
    // Elsewhere than on a terminal, a path that is cut in two lines is found by nobody. It is set once.
    let _ = miette::set_hook(Box::new(|_| {
        Box::new(miette::MietteHandlerOpts::new().wrap_lines(std::io::stderr().is_terminal()).build())
    }));
    let result = match Cli::parse().command {
        Command::Up(args) => up::run(args),
        Command::Check(args) => check::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Import(args) => import::run(args),
        Command::Graph(args) => graph::run(args),
        Command::Status(args) => status::run(args),
        Command::Hosts(args) => hosts::run(args),
        Command::Container(args) => container::run(args),
        Command::Events(args) => events::run(args),
        Command::Session(args) => session::run(args),
        Command::Evidence(args) => evidence::run(args),
        Command::Show(args) => show::run(args),
        Command::Image(args) => image::run(args),
        Command::Personality(args) => personality::run(args),
        Command::Down(args) => down::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Keeper(args) => keeper_entry::run(args),
        Command::Switch(args) => switch_entry::run(args),
        Command::Console(args) => console_entry::run(args),
        Command::Lxc(args) => lxc_entry::run(args),
        Command::ImportEntry(args) => image::import_entry(args),
        Command::Inspector(args) => inspector_entry::run(args),
    };
    match result {
        Ok(code) => code,
        Err(report) => {
            complain(&report);
            ExitCode::from(if report.is::<crate::topology::Diagnostics>() { BAD_INPUT } else { FAILURE })
        }
    }
}

/// Writes `text` to standard output. A reader that went away (`| head`) is not
/// an error.
pub fn print(text: &str) -> miette::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(miette::miette!("cannot write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// Writes `text` and a line feed to standard error, and nothing that a terminal obeys. That nobody reads it is no error.
pub fn remark(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", harmless(text));
}

/// The same of what went wrong. It may quote the name of a file that an attacker gave it, or what is in such a file.
pub fn complain(report: &miette::Report) {
    let mut plain = String::new();
    let handler =
        miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor()).with_links(false);
    let handler = handler.with_wrap_lines(std::io::stderr().is_terminal());
    let text = match handler.render_report(&mut plain, &**report) {
        // What is drawn for a terminal has escape sequences of its own, that cannot be told from those of others.
        Ok(()) if is_harmless(&plain) => format!("{report:?}"),
        Ok(()) => harmless(&plain).into_owned(),
        Err(_) => harmless(&report.to_string()).into_owned(),
    };
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// `text` with whatever a terminal obeys written out, but for line feeds.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if is_harmless(text) {
        return text.into();
    }
    let shown = |c: char| if is_shown(c) { c.to_string() } else { c.escape_unicode().to_string() };
    text.chars().map(shown).collect::<String>().into()
}

fn is_harmless(text: &str) -> bool {
    text.chars().all(is_shown)
}

fn is_shown(c: char) -> bool {
    c == '\n' || crate::record::is_harmless(c)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out() {
        for text in ["", "plain\nüöä\\x", "╰─▶ it"] {
            assert_eq!(harmless(text), text);
        }
        assert_eq!(harmless("a\u{1b}]0;x\u{7}\r\u{202e}\nb"), "a\\u{1b}]0;x\\u{7}\\u{d}\\u{202e}\nb");
    }

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_documented_form_parses() {
        for line in [
            "up t.yaml --uplink eth0 --state-dir /tmp/x --name x --detach --metrics 127.0.0.1:9477",
            "check t.yaml --json",
            "schema",
            "graph t.yaml --format dot",
            "import honeyd honeyd.conf",
            "import nmap scan.xml -o t.yaml --force --json",
            "status --json",
            "status --metrics",
            "hosts ls --json",
            "container ls --json",
            "container freeze 10.0.0.7 --node lan",
            "container shell 3",
            "events ls",
            "events -f",
            "events ls --last 5 --session 0123456789abcdef --event tcp --json",
            "session ls --attacker 192.0.2.9 --host 10.0.0.1 --since 2h --until 2026-01-31T12:00 --last 5 --json",
            "session show 8f3a00c1d2e4b596 --name x --state-dir /tmp/x --json",
            "session replay 8f3a00c1d2e4b596 --speed 2 --max-idle 0.5 --from 60 --name x",
            "session replay /tmp/x.cast --text",
            "session follow 8f3a00c1d2e4b596",
            "session export 8f3a00c1d2e4b596 --plain -o /tmp/x.tar.zst",
            "session export 8f3a00c1d2e4b596 --password-file /tmp/p --json",
            "session verify /tmp/x.tar.zst --key /tmp/key.pem --password-file /tmp/p --json",
            "session key --name x",
            "container snapshot 10.0.0.1 --json",
            "container diff 7 --name x --node lan --json",
            "evidence ls --json --name x",
            "evidence show 20260131T235959Z-10.1.0.10-7.tar.zst --state-dir /tmp/x",
            "evidence verify /tmp/x.tar.zst --json",
            "evidence diff --upper /tmp/a --lower /tmp/b",
            "show fdb",
            "show fib",
            "show neigh",
            "show flows",
            "show drops",
            "show links --json",
            "image build t.yaml",
            "image ls",
            "image import old ./rootfs.tar.xz --init /sbin/init -v",
            "image import app ./layout --max-size 2 --state-dir /tmp/x",
            "image capture worked --from hw-ab12-3",
            "image capture worked --from /tmp/overlay --upon debian",
            "image rm small",
            "personality ls --json",
            "personality show linux",
            "check t.yaml --os-db /tmp/nmap-os-db",
            "down",
            "doctor",
            "audit t.yaml --json --hosts 3 --only nmap-os,p0f --seconds 60",
            "bench echo -i eth1 --prefix 10.1.0.0/16 --rate 50k --duration 5s --wait 500ms --json",
            "bench arp --interface eth1 --prefix 10.1.0.0/24 --once --on-link",
            "bench syn -i eth1 --prefix 10.1.0.0/16 --via 192.0.2.1 --port 22 --source-prefix 192.0.2.128/25 --sources 9",
            "bench handshake -i eth1 --prefix 10.1.0.7 --gateway-mac 02:00:00:00:00:01 --request hello --count 5",
            "bench frames -i tap0 --to 02:00:00:00:00:01 --size 1518 --sources 16 --rate max --count-on tap1",
            "bench frames -i tap1 --receive --duration 30s --spin",
        ] {
            let words = std::iter::once("honeyweave").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        for line in [
            "nonsense",
            "import honeyd",
            "audit t.yaml --only everything",
            "audit t.yaml --hosts 0",
            "import other x",
            "container snapshot",
            "container diff",
            "session",
            "session show 8f3a",
            "session ls --since yesterday",
            "session replay 8f3a00c1d2e4b596 --speed 0",
            "session export 8f3a00c1d2e4b596 --plain --password-file /tmp/p",
            "evidence show",
            "evidence diff --upper /tmp/a",
            "bench echo --prefix 10.1.0.0/16",
            "bench echo -i eth1 --prefix 10.1.0.0/16 --sources 5",
            "bench echo -i eth1 --prefix 10.1.0.0/16 --via 10.0.0.1 --on-link",
            "bench frames -i eth1",
            "bench frames -i eth1 --receive --to 02:00:00:00:00:01",
        ] {
            let words = std::iter::once("honeyweave").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
