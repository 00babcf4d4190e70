//! `honeyweave check`: what is wrong with a topology.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::node::{NodeConfig, UplinkIo};
use crate::sys::{claims, ethtool, interface};
use crate::topology::{self, Plan};

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The topology
    pub topology: PathBuf,
    #[command(flatten)]
    os_db: super::OsDb,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Checks the topology and prints every mistake.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let file = args.topology.display().to_string();
    match topology::open(&args.topology, &args.os_db.options()).map(|loaded| loaded.plan) {
        Ok(plan) if args.json => {
            let value = serde_json::json!({
                "ok": true,
                "file": file,
                "name": plan.name,
                "nodes": plan.nodes.len(),
                "links": plan.links.len(),
                "hosts": hosts(&plan),
                "errors": [],
                "warnings": warnings(&plan),
            });
            super::print(&format!("{value:#}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(plan) => {
            warnings(&plan).iter().for_each(|warning| eprintln!("warning: {warning}"));
            let (nodes, links, hosts) = (plan.nodes.len(), plan.links.len(), hosts(&plan));
            super::print(&format!("{file}: `{}` is sound: {nodes} nodes, {links} links, {hosts} hosts\n", plan.name))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) if args.json => {
            let value = serde_json::json!({
                "ok": false,
                "file": file,
                "errors": mistakes.errors,
                "more": mistakes.more,
            });
            super::print(&format!("{value:#}\n"))?;
            Ok(ExitCode::from(super::BAD_INPUT))
        }
        Err(mistakes) => Err(mistakes.into()),
    }
}

/// What is no mistake, but not what everybody wants, on this machine.
pub fn warnings(plan: &Plan) -> Vec<String> {
    let mut warnings = super::contradictions::find(plan);
    for node in &plan.nodes {
        let NodeConfig::Uplink(uplink) = &node.config else { continue };
        let (name, interface) = (&node.name, &uplink.interface);
        // Where the interface is another machine's, nothing is known of it.
        let Ok(index) = interface::index(interface) else { continue };
        if uplink.io != UplinkIo::Xdp {
            continue;
        }
        if let Ok(Some(claim)) = claims::of(index) {
            warnings.push(format!(
                "`{name}` takes frames from `{interface}` although {claim}: with `io: xdp` this machine's own network \
                 stack does not get them; `io: auto` looks before it takes"
            ));
        }
        if uplink.tagged && !ethtool::is_hardware(interface).unwrap_or(true) {
            warnings.push(format!(
                "tagged frames may lose their tags between `{interface}` and `{name}`: with `io: xdp` a virtual device \
                 hides tags that are not in the frame itself; `io: packet` sees them"
            ));
        }
    }
    warnings
}

fn hosts(plan: &Plan) -> u64 {
    plan.nodes.iter().map(|node| node.host_count()).sum()
}
