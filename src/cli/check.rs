//! `honeyweave check`: what is wrong with a topology.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::container::ImageConfig;
use crate::container::image::{self, IMPORTED};
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
    /// Where images lie [default: /var/lib/honeyweave]
    #[arg(long, value_name = "DIR", env = "HONEYWEAVE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Checks the topology and prints every mistake.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let file = args.topology.display().to_string();
    let state_dir = args.state_dir.unwrap_or_else(|| crate::control::place::STATE_DIR.into());
    let warnings = |plan: &Plan| {
        let mut all = warnings(plan);
        all.extend(not_captured(plan, &state_dir));
        all
    };
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
            warnings(&plan).iter().for_each(|warning| super::remark(&format!("warning: {warning}")));
            let (nodes, links, hosts) = (plan.nodes.len(), plan.links.len(), hosts(&plan));
            let file = super::harmless(&file);
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

/// Images that nothing builds, and that were not captured or imported here.
fn not_captured(plan: &Plan, state_dir: &Path) -> Vec<String> {
    let missing = |image: &&ImageConfig| image.recipe == IMPORTED && image::find(state_dir, image).is_err();
    let warning = |image: &ImageConfig| {
        format!(
            "nothing was captured or imported as `{0}` in {1}, and `up` will refuse to start: work in a container and keep \
             that with `honeyweave image capture {0} --from HOST`, or `honeyweave image import {0} FILE`",
            image.name,
            state_dir.display()
        )
    };
    plan.images.iter().filter(missing).map(warning).collect()
}

fn hosts(plan: &Plan) -> u64 {
    plan.nodes.iter().map(|node| node.host_count()).sum()
}
