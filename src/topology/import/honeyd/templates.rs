//! Templates: `create`, `set`, `add` and `delete` of honeyd(8).

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::rules::Choice;
use super::words::Words;
use crate::topology::import::draft::{Answer, Body};
use crate::topology::import::yaml::shown;
use crate::topology::import::{Settings, Warnings, personality};
use crate::topology::vendors;
use crate::wire::Mac;

/// Templates that may have a name.
const MAX_TEMPLATES: usize = 10_000;
/// Ports of one protocol that a template may have.
const MAX_PORTS: usize = 4096;
/// Ports that may be copied because hosts begin to differ from their template.
const MAX_COPIED: usize = 2_000_000;

/// A template as it is at some line.
#[derive(Clone, PartialEq, Debug)]
pub struct Template {
    /// What the topology says of it.
    pub body: Body,
    /// The MAC, where a whole one was given.
    pub mac: Option<Mac>,
    /// Loss, in thousandths of a percent.
    pub loss: u32,
    /// What it is instead by some rule, if it is dynamic. Those that are used have no rules.
    pub choices: Vec<Choice>,
}

impl Default for Template {
    fn default() -> Template {
        Template { body: Body::new(), mac: None, loss: 0, choices: Vec::new() }
    }
}

impl Template {
    /// Whether nothing was said of it.
    pub fn is_untouched(&self) -> bool {
        *self == Template::default()
    }
}

/// The templates that have names. Those of bound addresses are theirs: what is said of a template later
/// changes no host.
#[derive(Default)]
pub struct Templates {
    named: BTreeMap<String, Arc<Template>>,
    order: Vec<String>,
    copied: usize,
    /// Personalities that were warned of.
    guessed: HashMap<String, ()>,
}

impl Templates {
    /// Makes an empty one.
    pub fn create(&mut self, name: &str) -> Option<()> {
        self.put(name, Arc::default())
    }

    /// Gives `name` to `template`.
    pub fn put(&mut self, name: &str, template: Arc<Template>) -> Option<()> {
        if name.is_empty() || (self.named.len() >= MAX_TEMPLATES && !self.named.contains_key(name)) {
            return None;
        }
        if self.named.insert(name.to_owned(), template).is_none() {
            self.order.push(name.to_owned());
        }
        Some(())
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Template>> {
        self.named.get(name).map(Arc::clone)
    }

    /// Takes the one of that name out, to be put back changed: what nobody else has is not copied.
    pub fn take(&mut self, name: &str) -> Option<Arc<Template>> {
        self.named.get_mut(name).map(std::mem::take)
    }

    /// Forgets a name.
    pub fn remove(&mut self, name: &str) -> Option<()> {
        self.named.remove(name).map(drop)
    }

    /// All of them in the order of the text.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Arc<Template>)> {
        self.order.iter().filter_map(|name| Some((&**name, self.named.get(name)?)))
    }

    /// Reads what follows `set NAME`, `add NAME` and `delete NAME`: the key and its values.
    pub fn change(
        &mut self,
        template: &mut Arc<Template>,
        line: usize,
        (verb, key): (&str, &str),
        words: &mut Words<'_>,
        settings: Settings<'_>,
        warnings: &mut Warnings,
    ) -> Option<()> {
        if Arc::strong_count(template) > 1 {
            self.copied += template.body.tcp.len() + template.body.udp.len();
        }
        if self.copied > MAX_COPIED {
            warnings.once(line, "the templates have too many ports in all: from here on nothing is added to them");
            return Some(());
        }
        let template = Arc::make_mut(template);
        match (verb, key) {
            ("set", "personality") => self.personality(template, line, &words.next()?, settings, warnings),
            ("set", "default") => default(template, words)?,
            ("set", "ethernet") => ethernet(template, line, &words.next()?, warnings),
            ("set", "droprate") => {
                // `droprate in 5`, with or without the direction.
                let rate = words.find(|word| word != "in")?;
                template.loss = super::routes::loss(&rate)?;
            }
            ("set", "uptime") => warnings.once(
                line,
                "every host has an uptime of its own, fixed by its address: `uptime` is left out",
            ),
            ("set", "uid" | "gid") => warnings.once(
                line,
                "scripts run as a user of their own without rights: `uid` and `gid` are left out",
            ),
            ("set", "maxfds") => warnings.once(
                line,
                "`maxfds` is left out: the key `max` of a script bounds how many run at once",
            ),
            ("add", "tcp" | "udp") => port(template, line, key, words, warnings)?,
            ("add", "subsystem") => warnings.add(
                line,
                format!(
                    "a subsystem has no counterpart: {} is left out; run it in a container (`backend`), or behind a `proxy` port",
                    shown(words.rest())
                ),
            ),
            ("delete", "tcp" | "udp") => {
                words.next().filter(|word| word == "port")?;
                let port: u16 = words.next()?.parse().ok()?;
                let ports = if key == "tcp" { &mut template.body.tcp } else { &mut template.body.udp };
                ports.remove(&port)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn personality(
        &mut self,
        template: &mut Template,
        line: usize,
        name: &str,
        settings: Settings<'_>,
        warnings: &mut Warnings,
    ) {
        let (ours, sure) = personality(name, settings.known);
        if !sure && self.guessed.len() < MAX_TEMPLATES && self.guessed.insert(name.to_owned(), ()).is_none() {
            let what = format!("there is no personality like `{}`: such hosts behave as `{ours}`", shown(name));
            warnings.add(line, format!("{what}; choose another in the template if that gives them away"));
        }
        template.body.personality = ours;
        template.body.system = name.to_owned();
    }
}

/// `default PROTOCOL action ACTION`.
fn default(template: &mut Template, words: &mut Words<'_>) -> Option<()> {
    let protocol = words.next()?;
    words.next().filter(|word| word == "action")?;
    let mut action = words.next()?;
    let tarpit = action == "tarpit";
    if tarpit {
        action = words.next().unwrap_or_else(|| "open".to_owned());
    }
    let answer = match &*action {
        "open" if tarpit => Answer::Tarpit,
        "open" => Answer::Open,
        "block" | "filtered" => Answer::Filtered,
        "reset" | "closed" => Answer::Closed,
        _ => return None,
    };
    match &*protocol {
        "tcp" => template.body.tcp_default = answer,
        // A window that never opens is TCP's.
        "udp" if answer == Answer::Tarpit => template.body.udp_default = Answer::Open,
        "udp" => template.body.udp_default = answer,
        "icmp" => template.body.ping = matches!(answer, Answer::Open | Answer::Tarpit),
        _ => return None,
    }
    Some(())
}

fn ethernet(template: &mut Template, line: usize, text: &str, warnings: &mut Warnings) {
    if let Ok(mac) = text.parse::<Mac>() {
        if mac.is_group() || mac == Mac::ZERO {
            warnings.add(line, format!("{mac} is not the MAC of one station: it is left out"));
            return;
        }
        template.mac = Some(mac);
        let octets = mac.0;
        template.body.vendor = Some(format!("{:02x}:{:02x}:{:02x}", octets[0], octets[1], octets[2]));
        return;
    }
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric() && c != '-').collect();
    let found = vendors::names().find(|name| words.contains(name));
    match found {
        Some(vendor) => template.body.vendor = Some(vendor.to_owned()),
        None => {
            let what = format!("the vendor `{}` is not known: MACs follow from the personality", shown(text));
            warnings.add(line, format!("{what}; write `vendor:` with the first three octets, such as 00:0c:29"));
        }
    }
}

/// `tcp port NUMBER ACTION`.
fn port(
    template: &mut Template,
    line: usize,
    protocol: &str,
    words: &mut Words<'_>,
    warnings: &mut Warnings,
) -> Option<()> {
    words.next().filter(|word| word == "port")?;
    let number: u16 = words.next()?.parse().ok().filter(|port| *port > 0)?;
    let mut action = words.next()?;
    let tarpit = action == "tarpit" && !words.quoted;
    if tarpit {
        action = words.next().unwrap_or_else(|| "open".to_owned());
    }
    let (tcp, quoted) = (protocol == "tcp", words.quoted);
    let mut lost = |what: &str| {
        warnings.add(line, format!("{what}: {protocol} port {number} is open and says nothing"));
        Answer::Open
    };
    let answer = match &*action {
        _ if quoted && !tcp => lost("scripts answer TCP only (a fixed answer is `reply`)"),
        command if quoted => {
            let (words, dropped) = script(command);
            if tarpit {
                warnings.add(line, "a script cannot be slowed down: `tarpit` is left out");
            } else if let Some(dropped) = dropped {
                warnings.add(line, format!("tcp port {number}: {dropped}"));
            }
            Answer::Script(words)
        }
        "open" if tarpit && tcp => Answer::Tarpit,
        "open" => Answer::Open,
        "block" | "filtered" => Answer::Filtered,
        "reset" | "closed" => Answer::Closed,
        "proxy" if !tcp => lost("proxies pass TCP on only"),
        "proxy" => {
            // `HOST:PORT`, or the host and the port in quotes.
            let target = words.next()?;
            let target = match words.next() {
                Some(rest) if rest.starts_with(':') => format!("{target}{rest}"),
                _ => target,
            };
            match target.parse::<SocketAddr>() {
                Ok(target) if target.port() > 0 && !target.ip().is_unspecified() && !target.ip().is_multicast() => {
                    if !target.ip().is_loopback() {
                        let what = format!(
                            "tcp port {number} is open and says nothing: whoever connects would reach {target}, outside of \
                             the honeynet"
                        );
                        let help = format!(
                            "if that is meant, write `{{proxy: \"{target}\", allow_production: true}}`, as its comment has it"
                        );
                        warnings.add(line, format!("{what}; {help}"));
                    }
                    Answer::Proxy(target)
                }
                _ => lost("a proxy leads to an address and a port; names and `$ipsrc` are not looked up"),
            }
        }
        "internal" => lost("scripts inside of Honeyd have no counterpart"),
        // A command of one word may stand without quotes.
        command if tcp && command.starts_with('/') => Answer::Script(script(command).0),
        _ => return None,
    };
    let ports = if tcp { &mut template.body.tcp } else { &mut template.body.udp };
    if ports.len() >= MAX_PORTS && !ports.contains_key(&number) {
        warnings.once(line, format!("a template has at most {MAX_PORTS} ports of a protocol: the rest is left out"));
        return Some(());
    }
    ports.insert(number, answer);
    Some(())
}

/// The program and arguments of a command, which Honeyd gives to a shell; and what is not the same here.
fn script(command: &str) -> (Vec<String>, Option<&'static str>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || " \t/._-+:,=@".contains(c);
    if command.starts_with('/') && command.chars().all(plain) {
        let words: Vec<String> = command.split_ascii_whitespace().map(str::to_owned).collect();
        // An argument such as `scripts/web.pl` is a file that was found from Honeyd's folder.
        let relative = |word: &String| !word.starts_with(['/', '-']) && word.contains(['/', '.']);
        let lost = "its arguments are not found from Honeyd's folder: write whole paths in it";
        let lost = words.iter().skip(1).any(relative).then_some(lost);
        return (words, lost);
    }
    let lost = if command.contains('$') {
        "Honeyd's variables are not there; a script finds HONEYWEAVE_PEER and HONEYWEAVE_LOCAL in its environment"
    } else {
        "the command runs in a shell that is not in Honeyd's folder: write whole paths in it"
    };
    (vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()], Some(lost))
}
