//! `honeyweave check`: what is wrong with a topology.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::topology::{self, Plan};

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The topology
    pub topology: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Checks the topology and prints every mistake.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let file = args.topology.display().to_string();
    match topology::load(&args.topology) {
        Ok(plan) if args.json => {
            let value = serde_json::json!({
                "ok": true,
                "file": file,
                "name": plan.name,
                "nodes": plan.nodes.len(),
                "links": plan.links.len(),
                "hosts": hosts(&plan),
                "errors": [],
            });
            super::print(&format!("{value:#}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(plan) => {
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

fn hosts(plan: &Plan) -> u64 {
    plan.nodes.iter().map(|node| node.host_count()).sum()
}
