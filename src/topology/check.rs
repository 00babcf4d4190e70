//! What was typed to what it means: the order of the steps, and what they share.

use std::path::Path;

use super::error::{Diagnostic, suggest};
use super::layers::{self, Layer, NamedProxy};
use super::personalities::Personalities;
use super::raw::{Kind, Topology};
use super::source::{Source, Span};
use super::units::UnitError;
use super::vendors::Vendors;
use super::{captures, domains, evidence, images, links, mirrors, nodes, privacy, segments, sinks};
use crate::node::{NodeConfig, TapIo};
use crate::service::{Proxy, Script};
use crate::topology::plan::{Plan, PlanNode};

/// What `up --uplink` and tests add to a topology.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Put the only uplink on this interface.
    pub uplink: Option<String>,
    /// Where nmap's database of operating systems is, if not where its packages put it.
    pub os_db: Option<std::path::PathBuf>,
    /// Where a list of the vendors of MAC prefixes is, if not where packages put one.
    pub mac_prefixes: Option<std::path::PathBuf>,
}

/// More mistakes than this are not even looked at.
const MAX_ERRORS: usize = 1000;

/// What the steps share.
pub struct Checker<'a> {
    pub source: &'a Source,
    pub raw: &'a Topology,
    /// The folder that `file:` starts from.
    pub base: &'a Path,
    pub errors: Vec<Diagnostic>,
    pub scripts: Vec<Script>,
    pub proxies: Vec<Proxy>,
    pub named_proxies: Vec<NamedProxy>,
    /// Built-in images that are named without being written.
    pub used_recipes: Vec<&'static str>,
    /// Captured images that are named without being written.
    pub captured: Vec<String>,
    /// Ports of all templates so far.
    pub ports: usize,
    /// Octets of the pages of all nodes so far.
    pub page_octets: usize,
    /// What may be a `personality`.
    pub personalities: Personalities,
    /// What may be a `vendor`.
    pub vendors: Vendors,
}

/// The layers of the whole topology, each read once.
pub struct Layers {
    pub defaults: Layer,
    pub kinds: Vec<(Kind, Layer)>,
    pub templates: Vec<Layer>,
    pub nodes: Vec<Layer>,
}

/// Checks `raw` and makes the plan of it.
pub fn plan(source: &Source, raw: &Topology, base: &Path, options: &Options) -> Result<Plan, Vec<Diagnostic>> {
    let mut c = Checker {
        source,
        raw,
        base,
        errors: Vec::new(),
        scripts: Vec::new(),
        proxies: Vec::new(),
        named_proxies: Vec::new(),
        used_recipes: Vec::new(),
        captured: Vec::new(),
        ports: 0,
        page_octets: 0,
        personalities: Personalities::new(options.os_db.clone()),
        vendors: Vendors::new(options.mac_prefixes.clone()),
    };
    let name = c.name();
    let layers = c.layers();
    let mut drafts = nodes::read(&mut c, &layers);
    if let Some(interface) = &options.uplink {
        put_on_interface(&mut c, &mut drafts, interface);
    }
    let links = links::read(&mut c, &drafts);
    mirrors::settle(&mut c, &mut drafts);
    let map = domains::find(&mut c, &drafts, &links);
    domains::find_tagged(&mut drafts, &links);
    let inside = segments::settle(&mut c, &mut drafts, &map);
    c.judge_proxies(&inside);
    let images = images::read(&mut c);
    let mut evidence = evidence::read(&mut c);
    let mut captures = captures::read(&mut c);
    let privacy = privacy::read(&mut c, &mut evidence, &mut captures);
    let sinks = sinks::read(&mut c);
    let eve = mirrors::sensor(&mut c);
    if !c.errors.is_empty() {
        return Err(c.errors);
    }
    let nodes = drafts
        .into_iter()
        .filter_map(|draft| Some(PlanNode { name: draft.name, config: draft.config? }))
        .collect::<Vec<_>>();
    Ok(Plan {
        name,
        nodes,
        tap_io: raw.tap_io.as_ref().map_or(TapIo::default(), |at| at.value),
        links: links.into_iter().map(|link| link.plan).collect(),
        images,
        evidence,
        privacy,
        sinks,
        captures,
        eve,
        scripts: c.scripts,
        proxies: c.proxies,
    })
}

fn put_on_interface(c: &mut Checker<'_>, drafts: &mut [nodes::Draft], interface: &str) {
    let mut uplinks = drafts.iter_mut().filter_map(|draft| match &mut draft.config {
        Some(NodeConfig::Uplink(config)) => Some(config),
        _ => None,
    });
    match (uplinks.next(), uplinks.next()) {
        (Some(config), None) => config.interface = interface.to_owned(),
        (None, _) => {
            let error = Diagnostic::of_file(c.source.name(), format!("there is no uplink to put on `{interface}`"));
            c.errors.push(error.help("add a node with `kind: uplink`, or leave `--uplink` out"));
        }
        (Some(_), Some(_)) => {
            let message = format!("`--uplink {interface}` is ambiguous: there are several uplinks");
            let help = "write `interface:` at each of them, and leave `--uplink` out";
            c.errors.push(Diagnostic::of_file(c.source.name(), message).help(help));
        }
    }
}

impl<'a> Checker<'a> {
    /// Reports a mistake.
    pub fn error(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>, help: impl Into<String>) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(Diagnostic::at(self.source, span, message, label).help(help));
        }
    }

    /// Reports a mistake that has a second place.
    pub fn error_with(
        &mut self,
        (span, message, label, help): (Span, String, &str, &str),
        (other, what): (Span, &str),
    ) {
        if self.errors.len() < MAX_ERRORS {
            let error = Diagnostic::at(self.source, span, message, label).help(help);
            self.errors.push(error.related(self.source, other, what));
        }
    }

    /// The value of a quantity, or its mistake reported.
    pub fn unit<T>(&mut self, span: Span, result: Result<T, UnitError>) -> Option<T> {
        result.map_err(|(message, help)| self.error(span, message, "here", help)).ok()
    }

    /// Reports a name that nothing has.
    pub fn unknown<'k>(
        &mut self,
        span: Span,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'k str> + Clone,
    ) {
        if self.errors.len() >= MAX_ERRORS {
            return;
        }
        let help = suggest(name, known);
        self.error(span, format!("unknown {what} `{name}`"), format!("no {what} has this name"), help);
    }

    fn name(&mut self) -> String {
        if let Some(name) = &self.raw.name {
            if !valid_name(name) {
                self.error(
                    name.span,
                    format!("`{}` cannot name a honeynet", name.0),
                    "sockets and folders are named after it",
                    "use 1 to 32 lower-case letters, digits and `-`, beginning with a letter or a digit",
                );
            }
            return name.value.0.clone();
        }
        let stem = Path::new(self.source.name()).file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        let lower: String =
            stem.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name: String = lower.trim_matches('-').chars().take(32).collect();
        if valid_name(&name) { name } else { "honeynet".to_owned() }
    }

    fn layers(&mut self) -> Layers {
        let raw = self.raw;
        let mut templates = Vec::new();
        for (name, template) in raw.templates.iter().flat_map(|map| map.iter()) {
            if name.is_empty() || name.len() > 64 {
                self.error(name.span, "a template's name has 1 to 64 octets", "this one", "choose another name");
            }
            templates.push(layers::read(self, &template.template_keys()));
        }
        let defaults = raw.defaults.as_ref().map_or_else(Layer::default, |d| layers::read(self, &d.template_keys()));
        let mut kinds = Vec::new();
        for kind in [Kind::Hosts, Kind::Host, Kind::Container] {
            if let Some(node) = raw.kinds.as_ref().and_then(|kinds| kinds.get(kind)) {
                kinds.push((kind, layers::read(self, &node.template_keys())));
            }
        }
        let nodes = raw.nodes.iter().map(|(_, node)| layers::read(self, &node.template_keys())).collect();
        Layers { defaults, kinds, templates, nodes }
    }

    /// Notes that an image is named, or reports that there is none of that name.
    pub fn image(&mut self, name: &str, span: Span) {
        let written = self.raw.images.as_ref();
        if written.is_some_and(|images| images.position(name).is_some()) {
            return;
        }
        match images::RECIPES.iter().find(|recipe| **recipe == name) {
            Some(recipe) => {
                if !self.used_recipes.contains(recipe) {
                    self.used_recipes.push(recipe);
                }
            }
            None => {
                let names: Vec<&str> =
                    written.iter().flat_map(|images| images.names()).chain(images::RECIPES).collect();
                self.unknown(span, "image", name, names.iter().copied());
            }
        }
    }

    /// The number of a script.
    pub fn script(&mut self, script: &Script) -> Option<u16> {
        number(&mut self.scripts, script)
    }

    /// The number of a proxy.
    pub fn proxy(&mut self, proxy: &Proxy, allow_production: bool, span: Span) -> Option<u16> {
        self.named_proxies.push(NamedProxy { target: proxy.target, allow_production, span });
        number(&mut self.proxies, proxy)
    }

    fn judge_proxies(&mut self, inside: &[ipnet::IpNet]) {
        for NamedProxy { target, allow_production, span } in std::mem::take(&mut self.named_proxies) {
            let ip = target.ip();
            if allow_production || ip.is_loopback() || inside.iter().any(|net| net.contains(&ip)) {
                continue;
            }
            self.error(
                span,
                format!("the proxy's target `{target}` is a production address"),
                "it is neither loopback nor inside the honeynet",
                "an attacker will reach it through this port; if that is meant, add `allow_production: true`",
            );
        }
    }
}

fn number<T: PartialEq + Clone>(list: &mut Vec<T>, item: &T) -> Option<u16> {
    let at = list.iter().position(|known| known == item).unwrap_or_else(|| {
        list.push(item.clone());
        list.len() - 1
    });
    u16::try_from(at).ok()
}

fn valid_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
}
