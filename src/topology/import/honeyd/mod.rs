//! Configurations of Honeyd, in the language that honeyd(8) describes.
//!
//! One statement a line. A line of which nothing can be made is a warning, and the next one is
//! read; what Honeyd takes for its default is taken here, too, unless it says so.

mod routes;
mod rules;
mod templates;
mod words;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::draft::{Draft, Host};
use super::yaml::shown;
use super::{Settings, Warnings};
use crate::topology::{Diagnostic, Diagnostics};
use routes::Routes;
use rules::Choice;
use templates::{Template, Templates};
use words::Words;

/// Longest line that is read, in octets.
const MAX_LINE: usize = 65_536;
/// Addresses that may be bound.
const MAX_BINDS: usize = 65_536;

/// An address and what answers there.
struct Bind {
    line: usize,
    address: IpAddr,
    template: Arc<Template>,
    name: String,
}

/// What has been read so far.
#[derive(Default)]
struct Reader {
    templates: Templates,
    binds: Vec<Bind>,
    /// Which of `binds` an address is.
    bound: HashMap<IpAddr, usize>,
    routes: Routes,
    /// Statements that were understood.
    understood: usize,
}

/// Reads `text`.
pub fn read(text: &str, settings: Settings<'_>, warnings: &mut Warnings) -> Result<Draft, Diagnostics> {
    let mut reader = Reader::default();
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        if line.len() > MAX_LINE {
            warnings.add(number, format!("this line has more than {MAX_LINE} octets and is not read: break it"));
            continue;
        }
        let mut words = Words::new(line);
        let Some(first) = words.next() else { continue };
        if reader.statement(number, &first, &mut words, settings, warnings).is_some() {
            reader.understood += 1;
        } else {
            warnings.add(number, format!("`{}` is not understood and left out: see honeyd(8)", shown(line.trim())));
        }
    }
    if reader.understood == 0 {
        let name = shown(settings.name);
        let first = warnings.list.first().map_or(1, |warning| warning.line);
        let message = format!("{name}:{first}: nothing here is a statement of a Honeyd configuration");
        let help = "give a file with lines such as `create web` and `bind 10.0.0.1 web`; for a scan: `import nmap`";
        return Err(Diagnostic::of_file(settings.name, message).help(help).into());
    }
    Ok(reader.draft(warnings))
}

impl Reader {
    /// Reads one statement; `None` if it is none.
    fn statement(
        &mut self,
        line: usize,
        first: &str,
        words: &mut Words<'_>,
        settings: Settings<'_>,
        warnings: &mut Warnings,
    ) -> Option<()> {
        let lost = |warnings: &mut Warnings, what: &str| {
            warnings.add(line, what);
            Some(())
        };
        match first {
            "create" => self.templates.create(&words.next()?),
            "clone" => {
                let (name, from) = (words.next()?, words.next()?);
                let template = self.find(&from)?;
                self.templates.put(&name, template)
            }
            "dynamic" => self.templates.create(&words.next()?),
            "set" | "add" | "delete" => {
                let name = words.next()?;
                let key = words.next();
                if first == "delete" && key.is_none() {
                    return self.delete(&name);
                }
                let key = key?;
                if first == "add" && (key == "use" || key == "otherwise") {
                    return self.choose(line, &name, &key, words, warnings);
                }
                let bind = name.parse().ok().and_then(|ip: IpAddr| self.bound.get(&ip).copied());
                let mut template = match bind.and_then(|at| self.binds.get_mut(at)) {
                    Some(bind) => std::mem::take(&mut bind.template),
                    None => self.templates.take(&name)?,
                };
                let changed = self.templates.change(&mut template, line, (first, &key), words, settings, warnings);
                match bind.and_then(|at| self.binds.get_mut(at)) {
                    Some(bind) => bind.template = template,
                    None => drop(self.templates.put(&name, template)),
                }
                changed
            }
            "bind" => self.bind(line, words, warnings),
            "dhcp" => lost(
                warnings,
                "addresses by DHCP are not possible: nothing is bound; add a node `kind: host` with a free `address:`",
            ),
            "route" => self.routes.statement(line, words, warnings),
            "annotate" => lost(
                warnings,
                "how fragments and FIN scans are answered follows from the personality: the annotation is left out",
            ),
            "option" => lost(warnings, "options of Honeyd's plugins have no counterpart: the option is left out"),
            "include" => {
                lost(warnings, "the included file is not read: replace this line with its text and import again")
            }
            "tunnel" => lost(warnings, "tunnels have no counterpart: what lies behind it is not reachable"),
            "hostname" | "ui" | "plugin" => lost(warnings, "this setting of Honeyd itself has no counterpart"),
            _ => None,
        }
    }

    /// The template of a name, or of an address that is bound.
    fn find(&self, name: &str) -> Option<Arc<Template>> {
        let bound = name.parse().ok().and_then(|ip: IpAddr| self.bound.get(&ip));
        match bound.and_then(|at| self.binds.get(*at)) {
            Some(bind) => Some(Arc::clone(&bind.template)),
            None => self.templates.get(name),
        }
    }

    fn delete(&mut self, name: &str) -> Option<()> {
        let bound = name.parse().ok().and_then(|ip: IpAddr| self.bound.remove(&ip));
        match bound.and_then(|at| self.binds.get_mut(at)) {
            // Its place stays, so that the numbers of the others do.
            Some(bind) => bind.name.clear(),
            None => self.templates.remove(name)?,
        }
        Some(())
    }

    /// `add DYNAMIC use NAME if ...` and `add DYNAMIC otherwise use NAME`. Where nobody says what is used otherwise, that is
    /// the first.
    fn choose(
        &mut self,
        line: usize,
        name: &str,
        key: &str,
        words: &mut Words<'_>,
        warnings: &mut Warnings,
    ) -> Option<()> {
        let otherwise = key == "otherwise";
        if otherwise && words.next()? != "use" {
            return None;
        }
        let used = words.next()?;
        let chosen = self.find(&used)?;
        let rule = match otherwise {
            true => None,
            false => {
                words.next().filter(|word| word == "if")?;
                rules::read(words.rest(), line, warnings)?
            }
        };
        let nested = !chosen.choices.is_empty();
        if nested {
            let what = format!("`{}` is dynamic itself: what it is otherwise is used here", shown(&used));
            warnings.add(line, what);
        }
        let mut template = self.templates.take(name)?;
        let begins = template.is_untouched();
        let dynamic = Arc::make_mut(&mut template);
        if otherwise || begins {
            dynamic.body.clone_from(&chosen.body);
            (dynamic.mac, dynamic.loss) = (chosen.mac, chosen.loss);
        }
        if let Some(rule) = rule {
            if dynamic.choices.len() < rules::MAX_RULES {
                let template =
                    if nested { Arc::new(Template { choices: Vec::new(), ..(*chosen).clone() }) } else { chosen };
                dynamic.choices.push(Choice { rule, name: used, template });
            } else {
                warnings.once(line, format!("a template has at most {} rules: the rest is left out", rules::MAX_RULES));
            }
        }
        self.templates.put(name, template)
    }

    fn bind(&mut self, line: usize, words: &mut Words<'_>, warnings: &mut Warnings) -> Option<()> {
        let first = words.next()?;
        if first == "to" {
            words.next()?;
            let what =
                "an interface cannot be chosen here: the topology has one uplink, `up --uplink` names its interface";
            warnings.add(line, what);
            return Some(());
        }
        let Ok(address) = first.parse::<IpAddr>() else {
            let what = "only single addresses can be bound; for DHCP, an interface or a network there is no counterpart: \
                        add a node `kind: host` with a free `address:`, or `kind: hosts` with the network";
            warnings.add(line, what);
            return words.next().map(drop);
        };
        let name = words.next()?;
        if name == "to" {
            let what = format!(
                "{address} belongs to a machine at an interface of its own: it is left out; add a node `kind: tap` there"
            );
            warnings.add(line, what);
            return words.next().map(drop);
        }
        let Some(template) = self.find(&name) else {
            warnings.add(
                line,
                format!("there is no template `{}`: {address} is left out; `create` it above", shown(&name)),
            );
            return Some(());
        };
        if words.next().is_some() {
            warnings.add(line, "a binding holds whatever the condition says: what follows the template is left out");
        }
        if self.binds.len() >= MAX_BINDS {
            warnings.once(line, format!("more than {MAX_BINDS} addresses are bound: the rest is left out"));
            return Some(());
        }
        let bind = Bind { line, address, template, name };
        match self.bound.get(&address).and_then(|at| self.binds.get_mut(*at)) {
            // Bound again: the last word counts.
            Some(old) => *old = bind,
            None => {
                self.bound.insert(address, self.binds.len());
                self.binds.push(bind);
            }
        }
        Some(())
    }

    fn draft(self, warnings: &mut Warnings) -> Draft {
        let mut draft = Draft {
            heading: vec![
                "From a configuration of Honeyd, by `honeyweave import honeyd`.".to_owned(),
                "Look through it, and through what it warned of, before it faces anybody.".to_owned(),
            ],
            ..Draft::default()
        };
        let routers = self.routes.plan(&mut draft, warnings);
        let linked: Vec<(IpNet, usize)> = draft
            .segments
            .iter()
            .enumerate()
            .filter_map(|(at, segment)| segment.owner.map(|_| (segment.net, at)))
            .collect();
        let mut numbers: HashMap<*const Template, usize> = HashMap::new();
        for (name, template) in self.templates.named() {
            number(&mut draft, &mut numbers, name, template);
        }
        let mut wire: HashMap<IpNet, usize> = HashMap::new();
        for (at, segment) in draft.segments.iter().enumerate() {
            if segment.owner.is_none() {
                wire.insert(segment.net, at);
            }
        }
        for bind in self.binds.into_iter().filter(|bind| !bind.name.is_empty()) {
            let Bind { line, address, template, name } = bind;
            let number = number(&mut draft, &mut numbers, &name, &template);
            let segment = routes::segment_of(&mut draft, &linked, &mut wire, address, line, warnings);
            if routers.contains(&address) {
                let what = format!("{address} is a router: what its template says, its ports most of all, is left out");
                warnings.add(line, what);
                continue;
            }
            let path = super::draft::Path { loss: template.loss, ..Default::default() };
            let host = Host { line, address, segment, template: number, mac: template.mac, name: String::new(), path };
            draft.hosts.push(host);
        }
        one_mac_each(&mut draft, warnings);
        if let Some(template) = self.templates.get("default") {
            let number = number(&mut draft, &mut numbers, "default", &template);
            routes::populate(&mut draft, number, warnings);
        }
        draft
    }
}

/// The number of a template in the draft, those that it uses by some rule before it.
fn number(
    draft: &mut Draft,
    numbers: &mut HashMap<*const Template, usize>,
    name: &str,
    template: &Arc<Template>,
) -> usize {
    if let Some(at) = numbers.get(&Arc::as_ptr(template)) {
        return *at;
    }
    let mut body = template.body.clone();
    for choice in &template.choices {
        // As deep as this: what is used has no rules.
        let at = number(draft, numbers, &choice.name, &choice.template);
        body.cases.push((choice.rule.clone(), at));
    }
    let at = draft.template(name, body);
    numbers.insert(Arc::as_ptr(template), at);
    at
}

/// Hosts of one template with one MAC would be the same station: each but the first gets its own.
fn one_mac_each(draft: &mut Draft, warnings: &mut Warnings) {
    let mut taken = std::collections::HashSet::new();
    for host in &mut draft.hosts {
        let Some(mac) = host.mac else { continue };
        if !taken.insert(mac) {
            host.mac = None;
            warnings.once(host.line, format!("{mac} is bound to several addresses: only the first host has it"));
        }
    }
}
