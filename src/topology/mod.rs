//! YAML to a checked plan: raw syntax, resolved meaning, and every mistake with
//! its place. Nothing here looks at the machine or needs a right; only `file:`
//! pages, nmap's database and a list of MAC prefixes are read.
//!
//! The steps: `source` holds the text, `yaml` parses it into `raw` (what was
//! typed), `check` leads through the meaning: `layers` and `services` (what hosts
//! are), `nodes` and `devices` (each node by itself), `links`, `domains` (who
//! hears whom), `segments` (addresses). The outcome is a [`Plan`].

mod addr;
mod at;
mod backend_limits;
mod captures;
mod cases;
mod check;
mod claim;
mod devices;
mod dhcp;
mod domains;
mod error;
mod evidence;
mod granted;
mod graph;
mod images;
pub mod import;
mod layers;
mod library;
mod links;
mod mac_prefixes;
mod middle;
mod mirrors;
mod nodes;
mod normalize;
mod outward;
pub mod personalities;
mod plan;
mod population;
mod privacy;
mod raw;
mod raw_ports;
mod raw_router;
mod raw_services;
mod raw_tls;
mod segments;
mod services;
mod sinks;
mod source;
mod tls;
pub(crate) mod units;
mod vendors;
mod yaml;

#[cfg(test)]
mod meaning_tests;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::Path;

pub use check::Options;
pub use error::{Diagnostic, Diagnostics, Related};
pub use graph::{dot, json as graph_json, mermaid};
pub use plan::{Plan, PlanLink, PlanNode};

use crate::node::{NodeConfig, NodeIdx};
use source::Source;

/// Largest file that is read, in octets.
pub const MAX_FILE: u64 = 4 << 20;

/// A plan and the text that it was made from, for errors that only the machine can tell.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The plan.
    pub plan: Plan,
    source: Source,
    /// Where each node names its interface.
    interfaces: Vec<(NodeIdx, source::Span)>,
}

impl Loaded {
    /// A mistake that concerns the interface of `node`, an uplink or a TAP: it is
    /// missing, say, or its name is taken.
    pub fn interface_error(&self, node: NodeIdx, message: &str, help: &str) -> Diagnostics {
        let diagnostic = match self.interfaces.iter().find(|(of, _)| *of == node) {
            Some((_, span)) => Diagnostic::at(&self.source, *span, message, "this interface"),
            None => Diagnostic::of_file(self.source.name(), message),
        };
        Diagnostics::new(Some(&self.source), vec![diagnostic.help(help)])
    }
}

/// Loads the topology in file `path`.
pub fn load(path: &Path) -> Result<Plan, Diagnostics> {
    open(path, &Options::default()).map(|loaded| loaded.plan)
}

/// Loads the topology in file `path`, with what the command line adds to it.
pub fn open(path: &Path, options: &Options) -> Result<Loaded, Diagnostics> {
    let name = path.display().to_string();
    let text = read(path, &name)?;
    let base = path.parent().unwrap_or(Path::new("."));
    make(Source::new(&name, text.trim_start_matches('\u{feff}')), base, options)
}

/// Reads the topology `text`, which messages call `name`.
pub fn parse(name: &str, text: &str) -> Result<Plan, Diagnostics> {
    parse_with(name, text, &Options::default())
}

/// Reads the topology `text`, with what the command line adds to it.
pub fn parse_with(name: &str, text: &str, options: &Options) -> Result<Plan, Diagnostics> {
    if text.len() as u64 > MAX_FILE {
        return Err(too_large(name, text.len() as u64).into());
    }
    make(Source::new(name, text.trim_start_matches('\u{feff}')), Path::new("."), options).map(|loaded| loaded.plan)
}

/// The JSON Schema of topology files.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(raw::Topology);
    schema.insert("title".to_owned(), "honeyweave topology".into());
    schema.to_value()
}

fn make(source: Source, base: &Path, options: &Options) -> Result<Loaded, Diagnostics> {
    let raw = yaml::parse(&source).map_err(|error| Diagnostics::new(Some(&source), vec![*error]))?;
    let plan = check::plan(&source, &raw, base, options).map_err(|errors| Diagnostics::new(Some(&source), errors))?;
    let nodes = raw.nodes.iter().zip(&plan.nodes).enumerate();
    let interfaces = nodes.filter_map(|(at, ((name, node), planned))| {
        if options.uplink.is_some() && matches!(planned.config, NodeConfig::Uplink(_)) {
            return None;
        }
        let span = node.interface.as_ref().map_or(name.span, |interface| interface.span);
        Some((NodeIdx(u16::try_from(at).ok()?), span))
    });
    let interfaces = interfaces.collect();
    Ok(Loaded { plan, source, interfaces })
}

fn too_large(name: &str, length: u64) -> Diagnostic {
    Diagnostic::of_file(name, format!("{name} is too large for a topology: {length} octets"))
        .help("a topology has at most 4 MiB; a population of any size is a few lines (`kind: hosts`)")
}

fn read(path: &Path, name: &str) -> Result<String, Diagnostics> {
    let failed = |error: std::io::Error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path; topologies that come with honeyweave are in topologies/",
            std::io::ErrorKind::PermissionDenied => "check the file's permissions, or run with sudo",
            _ => "a topology is a YAML file; see topologies/minimal.yaml",
        };
        Diagnostics::from(Diagnostic::of_file(name, format!("cannot read {name}: {error}")).help(help))
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > MAX_FILE {
        return Err(too_large(name, length).into());
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(too_large(name, bytes.len() as u64).into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let source = Source::new(name, &text);
        let span = source::Span { start: valid, end: (valid + 3).min(text.len()) };
        let diagnostic = Diagnostic::at(&source, span, format!("{name} is not UTF-8"), "these octets are no text");
        Diagnostics::new(Some(&source), vec![diagnostic.help("save the file as UTF-8")])
    })
}
