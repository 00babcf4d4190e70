//! `honeyweave up`: brings a topology up.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use miette::{IntoDiagnostic, WrapErr, miette};
use rustix::thread::CapabilitySet;

use crate::container::image;
use crate::control::place;
use crate::control::supervisor::{self, Setup, SupervisorError};
use crate::control::watching::Source;
use crate::node::{MAX_SHARDS, MirrorConfig, NodeConfig, NodeIdx};
use crate::sys::{handed, interface};
use crate::topology::{self, Diagnostics, Loaded, Plan};

/// `ARPHRD_ETHER` of the kernel.
const ETHERNET: u16 = 1;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The topology
    pub topology: PathBuf,
    /// Put the topology's uplink on this interface
    #[arg(long, value_name = "IFACE", env = "HONEYWEAVE_UPLINK")]
    pub uplink: Option<String>,
    /// Where state lies, in a directory for each honeynet [default: /var/lib/honeyweave]
    #[arg(long, value_name = "DIR", env = "HONEYWEAVE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Give the honeynet another name than its topology does
    #[arg(long, env = "HONEYWEAVE_NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    os_db: super::OsDb,
    /// Return as soon as frames flow; it logs to NAME/log in the directory of `--state-dir`, and `honeyweave down` ends it
    #[arg(long)]
    pub detach: bool,
    /// Serve metrics for Prometheus at this address, such as 127.0.0.1:9477
    #[arg(long, value_name = "ADDR", env = "HONEYWEAVE_METRICS")]
    pub metrics: Option<SocketAddr>,
    /// Threads of the data plane, 1 to 16 [default: 1, or half of the processors from four on, at most 8]
    #[arg(long, value_name = "N", env = "HONEYWEAVE_THREADS", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_SHARDS)))]
    pub threads: Option<u16>,
    /// By what it is watched what happens inside containers
    #[arg(long, hide = true, value_name = "SOURCE", env = "HONEYWEAVE_INSIDE", default_value = "best")]
    inside: Inside,
    /// Start no container and build no image, as `audit` wants it: connections to ports of containers are refused
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub without_containers: bool,
}

/// By what it is watched what happens inside containers.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Inside {
    /// eBPF, or fanotify where that cannot be
    Best,
    /// The same, with files of programs of 32 bits
    All,
    /// fanotify
    Fanotify,
    /// Nothing
    Off,
}

impl From<Inside> for Source {
    fn from(inside: Inside) -> Source {
        match inside {
            Inside::Best => Source::Best,
            Inside::All => Source::All,
            Inside::Fanotify => Source::Fanotify,
            Inside::Off => Source::Off,
        }
    }
}

impl Args {
    /// Threads of the data plane. On two processors, where who sends and what stands behind a host want one
    /// each, a second thread gains nothing.
    fn threads(&self) -> u16 {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads.unwrap_or(if processors < 4 { 1 } else { (processors / 2).min(8) as u16 })
    }
}

/// Brings it up and waits for its end.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let loaded =
        topology::open(&args.topology, &topology::Options { uplink: args.uplink.clone(), ..args.os_db.options() })?;
    if let Err(refusal) = check_rights() {
        super::complain(&refusal);
        return Ok(ExitCode::from(super::BAD_INPUT));
    }
    let name = args.name.as_ref().unwrap_or(&loaded.plan.name).clone();
    if !place::is_name(&name) {
        let help = "use 1 to 64 letters, digits, `-`, `_` and `.`";
        super::complain(&miette!(help = help, "`{name}` cannot name a honeynet"));
        return Ok(ExitCode::from(super::BAD_INPUT));
    }
    // Before anything that takes long, and before its own TAPs are taken for somebody else's.
    if let Some(live) = place::Live::find(&name).into_diagnostic()? {
        let pid = live.pid.map_or(String::new(), |pid| format!(" (process {pid})"));
        let running = format!("a honeynet named `{name}` runs already{pid}");
        Err(SupervisorError::Running(std::io::Error::new(std::io::ErrorKind::AlreadyExists, running)))?;
    }
    check_interfaces(&loaded)?;
    super::check::warnings(&loaded.plan).iter().for_each(|warning| super::remark(&format!("warning: {warning}")));
    let mut plan = Plan { name, ..loaded.plan };
    if args.without_containers {
        remove_containers(&mut plan);
    }
    spare_own_addresses(&mut plan).into_diagnostic()?;
    let state_dir = args.state_dir.clone().unwrap_or_else(|| place::STATE_DIR.into());
    let state_dir = std::path::absolute(state_dir).into_diagnostic()?;
    if !plan.images.is_empty() {
        image::ensure(&state_dir, &plan.images, &image::Progress::stderr()).into_diagnostic()?;
    }
    if args.detach {
        return detach(&args, &plan.name, &state_dir);
    }
    super::log::start();
    let name = plan.name.clone();
    let (metrics, threads, inside) = (args.metrics, args.threads(), args.inside.into());
    supervisor::run(&Setup { plan, state_dir, metrics, threads, inside }, || {
        // Whoever waits for this line may have gone away.
        let _ = super::print(&format!("ready {name}\n"));
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The machine's own addresses are claimed, and leased, by nobody: what it answers by an uplink is not heard there.
fn spare_own_addresses(plan: &mut Plan) -> std::io::Result<()> {
    for node in &mut plan.nodes {
        let NodeConfig::Hosts(hosts) = &mut node.config else { continue };
        let claimed = hosts.claim.as_mut().map(|claim| &mut claim.machine);
        for machine in claimed.into_iter().chain(hosts.dhcp.as_mut().map(|dhcp| &mut dhcp.machine)) {
            *machine = interface::all_addresses()?;
        }
    }
    Ok(())
}

/// Leaves the hosts and takes what is behind them away.
fn remove_containers(plan: &mut Plan) {
    plan.images.clear();
    for node in &mut plan.nodes {
        if let NodeConfig::Hosts(hosts) = &mut node.config {
            hosts.templates.iter_mut().for_each(|template| template.backend = None);
        }
    }
}

/// Runs the same once more in a session of its own, and waits until it is ready.
fn detach(args: &Args, name: &str, state_dir: &Path) -> miette::Result<ExitCode> {
    place::make_dirs(&state_dir.join(name)).map_err(SupervisorError::State)?;
    let path = state_dir.join(name).join("log");
    let log = OpenOptions::new().create(true).append(true).mode(0o640).open(&path);
    let log = log.into_diagnostic().wrap_err_with(|| format!("cannot write {}", path.display()))?;
    let begin = log.metadata().map_or(0, |meta| meta.len());
    let mut command = alone(args, name, state_dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(log));
    handed::in_own_session(&mut command);
    let mut child = command.spawn().into_diagnostic()?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut said).into_diagnostic()?;
    }
    if said.starts_with("ready ") {
        super::print(&said)?;
        super::remark(&format!("it logs to {}; `honeyweave down --name {name}` ends it", path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait().into_diagnostic()?;
    copy_from(&path, begin);
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(super::FAILURE);
    Ok(ExitCode::from(code.max(super::FAILURE)))
}

/// What runs it as `args` say, but not detached.
fn alone(args: &Args, name: &str, state_dir: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("up").arg(&args.topology).args(["--name", name]).arg("--state-dir").arg(state_dir);
    if let Some(uplink) = &args.uplink {
        command.args(["--uplink", uplink]);
    }
    if let Some(metrics) = &args.metrics {
        command.args(["--metrics", &metrics.to_string()]);
    }
    if let Some(threads) = args.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    if let Some(inside) = clap::ValueEnum::to_possible_value(&args.inside) {
        command.args(["--inside", inside.get_name()]);
    }
    if let Some(os_db) = &args.os_db.os_db {
        command.arg("--os-db").arg(os_db);
    }
    command
}

/// Shows what the log has gained since it was `begin` octets long.
fn copy_from(path: &Path, begin: u64) {
    use std::io::{Seek, SeekFrom};
    let copy = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(begin))?;
        std::io::copy(&mut file, &mut std::io::stderr().lock())?;
        std::io::stderr().flush()
    };
    if let Err(error) = copy() {
        super::remark(&format!("it did not come up, and {} cannot be read: {error}", path.display()));
    }
}

/// What starting processes, devices and containers needs.
fn check_rights() -> miette::Result<()> {
    let needed = [
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::SETUID, "CAP_SETUID"),
        (CapabilitySet::SETGID, "CAP_SETGID"),
        (CapabilitySet::SETPCAP, "CAP_SETPCAP"),
        (CapabilitySet::CHOWN, "CAP_CHOWN"),
    ];
    let help = "start it with sudo; the processes that face the network give up every right";
    if !rustix::process::geteuid().is_root() {
        return Err(miette!(help = help, "bringing a honeynet up needs root: it opens network devices"));
    }
    let has = rustix::thread::capabilities(None).into_diagnostic()?.effective;
    let missing: Vec<&str> =
        needed.iter().filter(|(capability, _)| !has.contains(*capability)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let help = "run it outside of a container, or give the container these capabilities";
    Err(miette!(help = help, "root lacks {} here", missing.join(", ")))
}

/// Every uplink's interface is there and carries Ethernet, and every TAP's name is free.
fn check_interfaces(loaded: &Loaded) -> Result<(), Diagnostics> {
    for (i, node) in loaded.plan.nodes.iter().enumerate() {
        let refuse = |message: &str, help: &str| Err(loaded.interface_error(NodeIdx(i as u16), message, help));
        let name = match &node.config {
            NodeConfig::Uplink(uplink) => &uplink.interface,
            NodeConfig::Tap(tap) | NodeConfig::Mirror(MirrorConfig { tap, .. })
                if interface::index(&tap.interface).is_err() =>
            {
                continue;
            }
            NodeConfig::Tap(tap) | NodeConfig::Mirror(MirrorConfig { tap, .. }) => {
                let name = &tap.interface;
                let help = format!("`up` makes it: choose another name, or run `ip link del {name}`");
                return refuse(&format!("there is an interface `{name}` on this machine already"), &help);
            }
            _ => continue,
        };
        match interface::mac(name) {
            Ok((ETHERNET, _)) => {}
            Ok(_) => {
                let help = "an uplink is an Ethernet interface: a network card, a veth, a bridge; not lo";
                return refuse(&format!("`{name}` does not carry Ethernet frames"), help);
            }
            Err(_) => {
                let help = format!("this machine has {}; choose one with `--uplink`", interfaces());
                return refuse(&no_interface(name, &node.name), &help);
            }
        }
    }
    Ok(())
}

/// What is wrong with an uplink whose interface is not there: none is named, or one of another machine.
fn no_interface(interface: &str, node: &str) -> String {
    if interface.is_empty() {
        format!("no interface is named for the uplink `{node}`")
    } else {
        format!("there is no interface `{interface}` on this machine")
    }
}

/// The machine's Ethernet interfaces, for a message.
fn interfaces() -> String {
    let mut names: Vec<String> = std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| interface::mac(name).is_ok_and(|(kind, _)| kind == ETHERNET))
        .collect();
    names.sort();
    if names.is_empty() { "no Ethernet interface".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Up {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn who_is_detached_is_told_all_that_was_said() {
        let said = "up t.yaml --uplink eth7 --state-dir /s --name other --os-db /db --metrics 127.0.0.1:9 --threads 3 --inside off";
        let mut detached = Up::parse_from(said.split(' ').chain(["--detach"]));
        let command = alone(&detached.args, "other", Path::new("/s"));
        let alone = Up::parse_from(command.get_args());
        assert!(detached.args.detach && !alone.args.detach);
        detached.args.detach = false;
        assert_eq!(format!("{detached:?}"), format!("{alone:?}"));
    }

    #[test]
    fn an_uplink_without_an_interface_is_named() {
        assert_eq!(no_interface("", "wan"), "no interface is named for the uplink `wan`");
        assert_eq!(no_interface("eth7", "wan"), "there is no interface `eth7` on this machine");
    }
}
