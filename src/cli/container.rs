//! `honeyweave container`: the containers of a running honeynet.

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use miette::{IntoDiagnostic, WrapErr, miette};
use serde_json::json;

use super::client::Client;
use super::show::print_rows;
use super::{Target, evidence, table};
use crate::container::inspector::{Diff, Taken};
use crate::container::{ContainerRow, Order};
use crate::control::request::Request;
use crate::node::attacker_of;
use crate::record::escape;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with containers.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List the containers there are: live, frozen, kept ready, or stopped with their files kept
    Ls {
        /// Which honeynet
        #[command(flatten)]
        target: Target,
        /// Print JSON: one array of rows
        #[arg(long)]
        json: bool,
    },
    /// Freeze one until somebody speaks to it
    Freeze(Which),
    /// Have a frozen one go on
    Thaw(Which),
    /// End one; its files stay for who comes back
    Stop(Which),
    /// End one and remove its files
    Destroy(Which),
    /// Take evidence of one as it is now; its processes rest meanwhile, for 5 s at most
    Snapshot {
        /// Which container
        #[command(flatten)]
        which: Which,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List what was changed in one: path, kind, size, mode, owner, SHA-256
    Diff {
        /// Which container
        #[command(flatten)]
        which: Which,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Look around in one that runs, as its root. What an intruder left there may watch you
    Shell(Which),
}

/// One container.
#[derive(clap::Args, Debug)]
pub struct Which {
    /// Its number, its name, or the address of its host
    pub container: String,
    /// Which honeynet
    #[command(flatten)]
    pub target: Target,
    /// The node of the host, where several have its address
    #[arg(long)]
    pub node: Option<String>,
    /// The attacker, where each has a container of their own
    #[arg(long, value_name = "IP")]
    pub attacker: Option<IpAddr>,
}

/// Does what was asked for.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let (which, order): (Which, fn(u32) -> Order) = match args.command {
        Command::Ls { target, json } => {
            let rows: Vec<ContainerRow> = list(&mut target.connect()?)?;
            let shown = |row: &ContainerRow| match json {
                true => json!(row),
                false => json!({"container": row.number, "host": row.host, "attacker": row.attacker, "node": row.node,
                                "state": row.state, "image": row.image, "process": row.init}),
            };
            return print_rows(&rows.iter().map(shown).collect::<Vec<_>>(), json);
        }
        Command::Freeze(which) => (which, Order::Freeze),
        Command::Thaw(which) => (which, Order::Thaw),
        Command::Stop(which) => (which, Order::Stop),
        Command::Destroy(which) => (which, Order::Destroy),
        Command::Shell(which) => return shell(&which),
        Command::Snapshot { which, json } => {
            let taken: Taken = look(&which, Order::Snapshot)?;
            let text = if json { evidence::pretty(&taken)? } else { evidence::taken(&taken) };
            table::put(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Diff { which, json } => {
            let diff: Diff = look(&which, Order::Diff)?;
            let text = if json { evidence::pretty(&diff)? } else { evidence::changes(&diff) };
            table::put(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let mut client = which.target.connect()?;
    let row = find(list(&mut client)?, &which)?;
    client.ask::<Vec<ContainerRow>>(&Request::Container { order: order(row.number) })?;
    Ok(ExitCode::SUCCESS)
}

/// What somebody changed in a container.
fn look<T: serde::de::DeserializeOwned>(which: &Which, order: fn(u32) -> Order) -> miette::Result<T> {
    let mut client = which.target.connect()?;
    let row = find(list(&mut client)?, which)?;
    client.ask(&Request::Container { order: order(row.number) })
}

fn list(client: &mut Client) -> miette::Result<Vec<ContainerRow>> {
    client.ask(&Request::Container { order: Order::Ls(0) })
}

/// The container that is meant.
fn find(rows: Vec<ContainerRow>, which: &Which) -> miette::Result<ContainerRow> {
    let (text, ip) = (&which.container, which.container.parse::<IpAddr>().ok());
    let is_it = |row: &ContainerRow| {
        let named = row.name == *text || row.number.to_string() == *text || (ip.is_some() && row.host == ip);
        let is_granted = |ip: IpAddr| row.attacker == Some(attacker_of(ip));
        named
            && which.node.as_ref().is_none_or(|node| row.node.as_ref() == Some(node))
            && which.attacker.is_none_or(is_granted)
    };
    let mut found: Vec<ContainerRow> = rows.into_iter().filter(is_it).collect();
    match (found.pop(), found.is_empty()) {
        (Some(row), true) => Ok(row),
        (None, _) => Err(miette!(
            help = "`honeyweave container ls` says which there are",
            "there is no container `{}`",
            escape(text)
        )),
        (Some(row), false) => {
            let attackers: Vec<_> =
                found.iter().chain([&row]).filter_map(|row| row.attacker).map(|ip| ip.to_string()).collect();
            if !attackers.is_empty() {
                let help = format!("say whose by its number, or by --attacker: {}", attackers.join(", "));
                return Err(miette!(help = help, "{} has several containers", escape(text)));
            }
            let nodes: Vec<_> = found.iter().chain([&row]).filter_map(|row| row.node.as_deref()).map(escape).collect();
            let help = format!("say of which node by --node: {}", nodes.join(", "));
            Err(miette!(help = help, "several hosts have the address {}", escape(text)))
        }
    }
}

/// Becomes a shell in the container.
fn shell(which: &Which) -> miette::Result<ExitCode> {
    let row = find(list(&mut which.target.connect()?)?, which)?;
    let Some(init) = row.init else {
        return Err(miette!(
            help = "whoever speaks to its host, or `start: with-system`, starts it",
            "container {} does not run ({})",
            row.number,
            escape(&row.state)
        ));
    };
    if row.state == "frozen" {
        let help = format!("`honeyweave container thaw {}` has it go on", row.number);
        return Err(miette!(help = help, "container {} is frozen", row.number));
    }
    let init = init.to_string();
    let mut command = std::process::Command::new("nsenter");
    command.args(["--target", &init, "--all", "--setuid", "0", "--setgid", "0", "/bin/sh"]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
    command.env("TERM", std::env::var_os("TERM").unwrap_or("linux".into()));
    // Only returns if it cannot be started.
    Err(command.exec()).into_diagnostic().wrap_err("nsenter (of util-linux) cannot be started")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u32, node: &str, host: &str) -> ContainerRow {
        ContainerRow {
            number,
            state: "live".into(),
            node: Some(node.into()),
            host: host.parse().ok(),
            attacker: None,
            image: "small".into(),
            name: format!("hw-abcdef-{number}"),
            since: None,
            by: None,
            init: None,
            upper: "/u".into(),
            lower: "/l".into(),
        }
    }

    #[test]
    fn containers_are_found_by_number_name_and_host() {
        let rows = || vec![row(1, "lan", "10.0.0.1"), row(11, "lan", "10.0.0.2"), row(12, "dmz", "10.0.0.2")];
        let find = |text: &str, node: Option<&str>| {
            let which = Which {
                container: text.into(),
                target: Target { name: None, state_dir: None },
                node: node.map(str::to_owned),
                attacker: None,
            };
            find(rows(), &which).map(|row| row.number).map_err(|error| error.to_string())
        };
        assert_eq!(find("1", None), Ok(1));
        assert_eq!(find("hw-abcdef-11", None), Ok(11));
        assert_eq!(find("10.0.0.1", None), Ok(1));
        assert_eq!(find("10.0.0.2", Some("dmz")), Ok(12));
        assert!(find("10.0.0.2", None).unwrap_err().contains("several"));
        assert!(find("10.0.0.3", None).unwrap_err().contains("no container"));
        assert!(find("\u{1b}[2J", None).unwrap_err().contains("\\u{1b}"));
    }
}
