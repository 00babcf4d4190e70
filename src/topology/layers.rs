//! What hosts are: `defaults`, `kinds`, templates and nodes' own values are read once each and laid over one another.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::at::{At, Texts};
use super::backend_limits::{self, LimitsLayer};
use super::cases::{self, CaseLayer};
use super::check::Checker;
use super::outward::{self, OutwardLayer};
use super::raw::{PortDefault, TcpEntry, TemplateKeys, UdpEntry};
use super::raw_services::{TcpWord, UdpWord};
use super::source::Span;
use super::{images, middle, normalize, services, units, vendors};
use crate::emulate::{
    Backend, Builtin, Grant, Hardware, Interned, Normalize, Says, ServiceId, Splicing, StartPolicy, TcpPort, Template,
    UdpPort,
};
use crate::service::tls::{Credentials, Secured};
use crate::service::{HttpSite, Middle, Profile, Proxy, Script, Service, ServiceKind};

/// Ports of all templates of all nodes together: a bound on what a small file may expand to.
const MAX_PORTS: usize = 1 << 20;

/// Octets of the pages of all nodes together.
const MAX_PAGE_OCTETS: usize = 64 << 20;

/// What a TCP port does, before services have numbers.
#[derive(Clone, PartialEq, Debug)]
pub enum TcpAct {
    Closed,
    Filtered,
    Tarpit,
    Sink,
    Container,
    Recorded(Middle),
    Banner {
        banner: Vec<u8>,
        close_after_secs: u32,
    },
    Http(HttpSite),
    Library(Box<Profile>),
    /// One of the last three within TLS.
    Tls(Credentials, Box<TcpAct>),
    Script(Script),
    Proxy {
        proxy: Proxy,
        allow_production: bool,
    },
}

/// What a UDP port does.
#[derive(Clone, PartialEq, Debug)]
pub enum UdpAct {
    Closed,
    Filtered,
    Open,
    Container,
    Reply(Vec<u8>),
    Library(Box<Profile>),
}

/// An entry of `tcp` or `udp`.
#[derive(Clone, Debug)]
pub struct PortRule<A> {
    pub first: u16,
    pub last: u16,
    pub act: A,
    pub span: Span,
}

/// The `backend` of a layer.
#[derive(Clone, Debug, Default)]
pub struct BackendLayer {
    pub image: Option<(String, Span)>,
    pub start: Option<StartPolicy>,
    pub grant: Option<Grant>,
    pub predefined: Option<bool>,
    pub freeze_secs: Option<u32>,
    pub idle_secs: Option<u32>,
    pub destroy_secs: Option<u32>,
    pub splice: Option<Splicing>,
    pub limits: LimitsLayer,
    pub hardware: Hardware,
    pub no_new_privs: Option<bool>,
    pub span: Span,
}

/// What one place says about hosts.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    pub personality: Option<Interned>,
    pub oui: Option<[u8; 3]>,
    pub ping: Option<bool>,
    pub tcp: Vec<PortRule<TcpAct>>,
    pub tcp_default: Option<PortDefault>,
    pub udp: Vec<PortRule<UdpAct>>,
    pub udp_default: Option<PortDefault>,
    pub backend: Option<BackendLayer>,
    pub outward: Option<OutwardLayer>,
    pub normalize: Option<Normalize>,
    pub cases: Option<Vec<CaseLayer>>,
    pub talk: Option<Talk>,
}

/// What `talk` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Talk {
    /// What the personality says.
    Auto,
    /// This.
    Says(Says),
}

/// Reads a layer.
pub fn read(c: &mut Checker<'_>, keys: &TemplateKeys<'_>) -> Layer {
    let personality = keys.personality.and_then(|name| match c.personalities.find(name) {
        Ok(found) => Some(found),
        Err(unknown) => {
            let label = unknown.why.unwrap_or_else(|| "no personality has this name".to_owned());
            c.error(name.span, format!("unknown personality `{}`", name.0), label, unknown.help);
            None
        }
    });
    let oui = keys.vendor.and_then(|name| oui(c, name, name.span));
    let mut tcp = Vec::new();
    for (key, entry) in keys.tcp.iter().flat_map(|tcp| tcp.iter()) {
        let ports = c.unit(key.span, units::ports(key));
        let act = match &entry.value {
            TcpEntry::Word(word) => Some(match word {
                TcpWord::Closed => TcpAct::Closed,
                TcpWord::Filtered => TcpAct::Filtered,
                TcpWord::Tarpit => TcpAct::Tarpit,
                TcpWord::Open => TcpAct::Sink,
                TcpWord::Container => TcpAct::Container,
            }),
            TcpEntry::Keys(service) => services::tcp(c, service, key.span),
        };
        if let (Some((first, last)), Some(act)) = (ports, act) {
            tcp.push(PortRule { first, last, act, span: key.span });
        }
    }
    let mut udp = Vec::new();
    for (key, entry) in keys.udp.iter().flat_map(|udp| udp.iter()) {
        let ports = c.unit(key.span, units::ports(key));
        let act = match &entry.value {
            UdpEntry::Word(word) => Some(match word {
                UdpWord::Closed => UdpAct::Closed,
                UdpWord::Filtered => UdpAct::Filtered,
                UdpWord::Open => UdpAct::Open,
                UdpWord::Container => UdpAct::Container,
            }),
            UdpEntry::Keys(service) => services::udp(c, service, key.span),
        };
        if let (Some((first, last)), Some(act)) = (ports, act) {
            udp.push(PortRule { first, last, act, span: key.span });
        }
    }
    let backend = keys.backend.map(|backend| BackendLayer {
        image: images::of_backend(c, backend),
        grant: backend.grant.as_ref().map(|grant| grant.value),
        predefined: backend.predefined.as_ref().map(|predefined| predefined.value),
        start: backend.start.as_ref().map(|start| start.value),
        freeze_secs: backend.freeze.as_ref().and_then(|freeze| c.unit(freeze.span, units::duration_secs(freeze))),
        idle_secs: backend.idle.as_ref().and_then(|idle| c.unit(idle.span, units::duration_secs(idle))),
        destroy_secs: backend.destroy.as_ref().and_then(|destroy| c.unit(destroy.span, units::duration_secs(destroy))),
        splice: backend.splice.as_ref().map(|splice| splice.value),
        limits: backend.limits.as_ref().map(|raw| backend_limits::limits(c, raw)).unwrap_or_default(),
        hardware: backend.hardware.as_ref().map(|raw| backend_limits::hardware(c, raw)).unwrap_or_default(),
        no_new_privs: backend.no_new_privs.as_ref().map(|no| no.value),
        span: backend.span,
    });
    Layer {
        personality,
        oui,
        ping: keys.ping.map(|ping| ping.value),
        tcp,
        tcp_default: keys.tcp_default.map(|default| default.value),
        udp,
        udp_default: keys.udp_default.map(|default| default.value),
        backend,
        outward: keys.outward.map(|entry| outward::read(c, entry)),
        normalize: keys.normalize.and_then(|keys| normalize::read(c, keys)),
        cases: keys.when.map(|when| cases::read(c, when)),
        talk: keys.talk.and_then(|talk| read_talk(c, talk)),
    }
}

/// What hosts say by themselves.
fn read_talk(c: &mut Checker<'_>, talk: &At<Texts>) -> Option<Talk> {
    let mut says = Says::NONE;
    for word in &talk.value.0 {
        match (&*word.value.0, talk.value.0.len()) {
            ("auto", 1) => return Some(Talk::Auto),
            ("none", 1) => return Some(Talk::Says(Says::NONE)),
            ("auto" | "none", _) => {
                let help = "write `auto` or `none` alone, or a list of the others";
                c.error(word.span, format!("`{}` is no part of a list", word.value.0), "here", help);
                return None;
            }
            (name, _) => match Says::NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, more)) => says = says.and(*more),
                None => {
                    let known = ["auto", "none"].into_iter().chain(Says::NAMES.map(|(known, _)| known));
                    c.unknown(word.span, "kind of talk", name, known);
                    return None;
                }
            },
        }
    }
    Some(Talk::Says(says))
}

/// The OUI that `name` stands for.
pub fn oui(c: &mut Checker<'_>, name: &str, span: Span) -> Option<[u8; 3]> {
    match c.vendors.find(name) {
        Ok(oui) if oui[0] & 1 != 0 => {
            c.error(
                span,
                format!("`{name}` is a group address, no vendor"),
                "the first octet is odd",
                "the first octet of a vendor's MACs is even",
            );
            None
        }
        Ok(oui) => Some(oui),
        Err(unknown) => {
            let label = unknown.why.unwrap_or_else(|| "no vendor has this name".to_owned());
            c.error(span, format!("unknown vendor `{name}`"), label, unknown.help);
            None
        }
    }
}

/// The services of a node's templates, numbered.
#[derive(Default)]
pub struct Services {
    pub list: Vec<Service>,
}

impl Services {
    fn number(&mut self, name: String, kind: ServiceKind) -> Option<ServiceId> {
        let service = Service { name, kind };
        let at = self.list.iter().position(|known| *known == service).unwrap_or_else(|| {
            self.list.push(service);
            self.list.len() - 1
        });
        u16::try_from(at).ok().map(ServiceId)
    }
}

/// A template made of layers, the strongest last.
///
/// `named` is where errors of the whole template belong. In a case of `base`, the host's MAC and container are what
/// they are in every case.
pub fn merge(
    c: &mut Checker<'_>,
    name: &str,
    layers: &[&Layer],
    services: &mut Services,
    named: Span,
    is_container: bool,
    base: Option<&Template>,
) -> Option<Template> {
    let strongest = |pick: &dyn Fn(&Layer) -> Option<Span>| layers.iter().rev().find_map(|layer| pick(layer));
    let personality = layers.iter().rev().find_map(|layer| layer.personality).unwrap_or_else(|| Builtin::Linux.into());
    let oui = layers.iter().rev().find_map(|layer| layer.oui).unwrap_or_else(|| default_oui(personality));
    let mut backend = backend(c, layers);
    if let Some(base) = base {
        if backend.is_some() && backend != base.backend {
            let help = "give both templates the same `backend`, or name one without";
            c.error(named, "a host's container does not depend on who asks", "here it would be another one", help);
            return None;
        }
        backend.clone_from(&base.backend);
    }
    let has_backend = base.map_or_else(|| layers.iter().any(|layer| layer.backend.is_some()), |b| b.backend.is_some());
    if is_container && backend.is_none() && !has_backend {
        c.error(
            named,
            "a container needs a backend",
            "neither this node nor its template has one",
            "add `backend: {image: small}` to the node or to its template, or make it `kind: host`",
        );
        return None;
    }

    let mut tcp = BTreeMap::new();
    let mut container_port = false;
    for rule in overlaid(layers, |layer| &layer.tcp) {
        let label =
            if rule.first == rule.last { rule.first.to_string() } else { format!("{}-{}", rule.first, rule.last) };
        let mut open = |kind: ServiceKind| services.number(format!("{name}:{label}"), kind).map(TcpPort::Open);
        let port = match &rule.act {
            TcpAct::Closed => Some(TcpPort::Closed),
            TcpAct::Filtered => Some(TcpPort::Filtered),
            TcpAct::Tarpit => Some(TcpPort::Tarpit),
            TcpAct::Sink => open(ServiceKind::Sink),
            TcpAct::Container | TcpAct::Recorded(_) => {
                container_port = true;
                if !has_backend {
                    no_backend(c, name, &label, rule.span);
                }
                open(middle::kind(c, &rule.act, backend.as_ref(), rule.span))
            }
            TcpAct::Banner { .. } | TcpAct::Http(_) | TcpAct::Library(_) | TcpAct::Tls(..) => {
                open(emulated(c, &rule.act, rule.span)?)
            }
            TcpAct::Script(script) => c.script(script).and_then(|at| open(ServiceKind::Script(at))),
            TcpAct::Proxy { proxy, allow_production } => {
                c.proxy(proxy, *allow_production, rule.span).and_then(|at| open(ServiceKind::Proxy(at)))
            }
        };
        let Some(port) = port else {
            c.error(rule.span, "there are more than 65,536 different services", "one too many", "write fewer");
            return None;
        };
        tcp.extend((rule.first..=rule.last).map(|number| (number, port)));
    }
    let mut udp = BTreeMap::new();
    for rule in overlaid(layers, |layer| &layer.udp) {
        let port = match &rule.act {
            UdpAct::Closed => UdpPort::Closed,
            UdpAct::Filtered => UdpPort::Filtered,
            UdpAct::Open => UdpPort::Open(None),
            UdpAct::Container => {
                container_port = true;
                if !has_backend {
                    no_backend(c, name, &rule.first.to_string(), rule.span);
                }
                UdpPort::Container
            }
            UdpAct::Library(profile) => {
                let kind = ServiceKind::Library(profile.clone());
                UdpPort::Open(services.number(format!("{name}:{}/udp", rule.first), kind))
            }
            UdpAct::Reply(reply) => {
                let kind = ServiceKind::Banner { banner: reply.clone(), close_after_secs: 0 };
                UdpPort::Open(services.number(format!("{name}:{}/udp", rule.first), kind))
            }
        };
        udp.extend((rule.first..=rule.last).map(|number| (number, port)));
    }
    let mut of_cases = layers.iter().rev().find_map(|layer| layer.cases.as_ref()).into_iter().flatten();
    if let Some(Backend { start: StartPolicy::OnAccess, .. }) = backend
        && base.is_none()
        && !container_port
        && !of_cases.any(|case| {
            let (mut tcp, mut udp) = (case.layer.tcp.iter(), case.layer.udp.iter());
            tcp.any(|rule| matches!(rule.act, TcpAct::Container | TcpAct::Recorded(_)))
                || udp.any(|rule| rule.act == UdpAct::Container)
        })
    {
        let span = strongest(&|layer| layer.backend.as_ref().map(|backend| backend.span)).unwrap_or(named);
        c.error(
            span,
            format!("nothing ever starts the container of `{name}`"),
            "it starts on access, but no port is `container`",
            "add such as `tcp: {22: container}`, or `start: with-system`",
        );
    }
    c.ports += tcp.len() + udp.len();
    if c.ports > MAX_PORTS {
        c.error(
            named,
            "the port ranges of all templates are too many",
            "here they are over a million",
            "use `tcp_default` and `udp_default` for what most ports do",
        );
        return None;
    }
    let (outward, gate) = outward::merge(c, layers.iter().filter_map(|layer| layer.outward.as_ref()), base);
    let default = |default: Option<PortDefault>| default.unwrap_or(PortDefault::Closed);
    Some(Template {
        name: name.to_owned(),
        personality,
        oui: base.map_or(oui, |base| base.oui),
        tcp,
        tcp_default: match default(layers.iter().rev().find_map(|layer| layer.tcp_default)) {
            PortDefault::Closed => TcpPort::Closed,
            PortDefault::Filtered => TcpPort::Filtered,
        },
        udp,
        udp_default: match default(layers.iter().rev().find_map(|layer| layer.udp_default)) {
            PortDefault::Closed => UdpPort::Closed,
            PortDefault::Filtered => UdpPort::Filtered,
        },
        normalize: base
            .map(|base| base.normalize.clone())
            .unwrap_or_else(|| layers.iter().rev().find_map(|layer| layer.normalize.clone()).unwrap_or_default()),
        ping: layers.iter().rev().find_map(|layer| layer.ping).unwrap_or(true),
        backend,
        outward,
        gate,
        cases: Vec::new(),
        talk: match layers.iter().rev().find_map(|layer| layer.talk) {
            Some(Talk::Auto) => personality.get().talk.says,
            Some(Talk::Says(says)) => says,
            None => Says::NONE,
        },
    })
}

/// A port that is a container's, of a host that has none.
fn no_backend(c: &mut Checker<'_>, name: &str, label: &str, span: Span) {
    c.error(
        span,
        format!("port {label} is a container's, but `{name}` has no backend"),
        "no container can answer here",
        "add `backend: {image: small}` beside the ports, or write another answer",
    );
}

/// What a service of the data plane does; nothing, and an error, if it is too large.
fn emulated(c: &mut Checker<'_>, act: &TcpAct, span: Span) -> Option<ServiceKind> {
    Some(match act {
        TcpAct::Banner { banner, close_after_secs } => {
            ServiceKind::Banner { banner: banner.clone(), close_after_secs: *close_after_secs }
        }
        TcpAct::Http(site) => {
            c.page_octets += site.pages.values().map(|page| page.body.len()).sum::<usize>();
            if c.page_octets > MAX_PAGE_OCTETS {
                let help = "use smaller pages, or let a `proxy` or a container serve them";
                c.error(span, "the pages of all nodes are too large", "more than 64 MiB here", help);
                return None;
            }
            ServiceKind::Http(site.clone())
        }
        TcpAct::Library(profile) => ServiceKind::Library(profile.clone()),
        TcpAct::Tls(credentials, inner) => {
            let inner = Service { name: "tls".to_owned(), kind: emulated(c, inner, span)? };
            ServiceKind::Tls(Box::new(Secured { credentials: credentials.clone(), inner }))
        }
        _ => return None,
    })
}

/// The rules in the order in which they are to be applied: stronger layers
/// later, and within a layer the narrower later.
fn overlaid<'a, A>(layers: &[&'a Layer], pick: impl Fn(&'a Layer) -> &'a Vec<PortRule<A>>) -> Vec<&'a PortRule<A>> {
    let mut all = Vec::new();
    for layer in layers {
        let mut rules: Vec<&PortRule<A>> = pick(layer).iter().collect();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.last - rule.first));
        all.extend(rules);
    }
    all
}

fn backend(c: &mut Checker<'_>, layers: &[&Layer]) -> Option<Backend> {
    let mut parts = layers.iter().rev().filter_map(|layer| layer.backend.as_ref());
    let first = parts.next()?;
    let all = || std::iter::once(first).chain(parts.clone());
    let Some((image, _)) = all().find_map(|part| part.image.clone()) else {
        c.error(
            first.span,
            "the backend has no image",
            "an image to start from is missing",
            "add `image: small` or `image: debian`, the name of one of `images`, or `clone: NAME` of what was captured",
        );
        return None;
    };
    Some(Backend {
        image,
        start: all().find_map(|part| part.start).unwrap_or_default(),
        grant: all().find_map(|part| part.grant).unwrap_or_default(),
        predefined: all().find_map(|part| part.predefined).unwrap_or_default(),
        freeze_secs: all().find_map(|part| part.freeze_secs).unwrap_or(120),
        idle_secs: all().find_map(|part| part.idle_secs).unwrap_or(600),
        destroy_secs: all().find_map(|part| part.destroy_secs).unwrap_or(86_400),
        splice: all().find_map(|part| part.splice).unwrap_or_default(),
        limits: LimitsLayer::merged(all().map(|part| &part.limits)),
        hardware: all().fold(Hardware::default(), |strong, part| backend_limits::over(strong, &part.hardware)),
        no_new_privs: all().find_map(|part| part.no_new_privs).unwrap_or_default(),
    })
}

/// What such a machine is most often.
fn default_oui(personality: Interned) -> [u8; 3] {
    let name = personality.get().name.to_lowercase();
    let vendor = match name.split(['-', ' ']).next() {
        Some("windows" | "microsoft") => "dell",
        Some("macos") => "apple",
        Some("android") => "samsung",
        Some("printer") => "hp",
        Some("plc") => "siemens",
        // Many a name begins with who makes the thing.
        Some(maker) if vendors::oui(maker).is_some() => maker,
        _ => "vmware",
    };
    vendors::oui(vendor).unwrap_or([0x02, 0, 0])
}

/// A proxy that was named, to be judged when all prefixes of the honeynet are known.
pub struct NamedProxy {
    pub target: SocketAddr,
    pub allow_production: bool,
    pub span: Span,
}
