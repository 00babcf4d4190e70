//! Services of the library: from what was typed to what they pass for.

use super::at::{At, Text};
use super::check::Checker;
use super::raw_services::LibraryKeys;
use crate::service::{Profile, Protocol};

/// Octets that a text may have: more than any product says of itself, and what a datagram bears.
const MAX_TEXT: usize = 255;

/// What a service passes for.
pub fn profile(c: &mut Checker<'_>, protocol: Protocol, wishes: &At<LibraryKeys>) -> Option<Profile> {
    let name = protocol.name();
    let mut sound = true;
    for (key, value) in wishes.present() {
        let known =
            key == "product" || protocol.keys().contains(&key) || (key == "banner" && protocol.banner().is_some());
        if !known {
            let at = c.source.key_before(key, value);
            let message = format!("`{key}` says nothing to `{name}`");
            c.error(at, message, "nothing of this service would show it", "remove it");
            sound = false;
        }
    }
    let texts = [&wishes.product, &wishes.version, &wishes.hostname, &wishes.workgroup];
    for text in texts.into_iter().flatten() {
        sound &= is_sound(c, text, false);
    }
    if let Some(banner) = &wishes.banner {
        // Elsewhere a second line would be an answer to nothing.
        sound &= is_sound(c, banner, matches!(protocol, Protocol::Telnet | Protocol::Snmp));
    }
    let communities = wishes.community.as_ref().map(|texts| &texts.value.0);
    for community in communities.into_iter().flatten() {
        sound &= is_sound(c, community, false);
    }
    if let Some(product) = &wishes.product
        && !protocol.takes_any_product()
        && !protocol.products().iter().any(|(known, ..)| *known == &*product.value.0)
    {
        c.unknown(product.span, "product", product, protocol.products().iter().map(|(known, ..)| *known));
        sound = false;
    }
    if !sound {
        return None;
    }
    let mut profile = Profile::new(protocol, wishes.product.as_ref().map(|product| &*product.value.0));
    let wish = |to: &mut String, text: &Option<At<Text>>| {
        if let Some(text) = text {
            *to = text.value.0.clone();
        }
    };
    wish(&mut profile.version, &wishes.version);
    wish(&mut profile.hostname, &wishes.hostname);
    wish(&mut profile.workgroup, &wishes.workgroup);
    profile.banner = wishes.banner.as_ref().map(|banner| banner.value.0.clone());
    if let Some(communities) = communities {
        profile.communities = communities.iter().map(|text| text.value.0.clone()).collect();
    }
    Some(profile)
}

/// Whether a text can be said, in one line or in several.
fn is_sound(c: &mut Checker<'_>, text: &At<Text>, lines: bool) -> bool {
    if text.len() > MAX_TEXT {
        let label = format!("{} octets", text.len());
        c.error(text.span, "this text is too long for a service to say", label, "write at most 255 octets");
        return false;
    }
    let allowed = |octet: u8| !octet.is_ascii_control() || (lines && matches!(octet, b'\r' | b'\n' | b'\t'));
    if !text.bytes().all(allowed) {
        c.error(text.span, "a service cannot say control characters here", "this text", "remove them");
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use crate::node::NodeConfig;
    use crate::service::{Service, ServiceKind};

    fn services(template: &str) -> Result<Vec<Service>, String> {
        let text = format!(
            "templates: {{t: {template}}}\nnodes:\n  wan: {{kind: uplink, interface: eth0}}\n  \
             h: {{kind: host, address: 192.0.2.9, template: t}}\nlinks:\n  - endpoints: [wan, h]\n"
        );
        let plan = parse("t", &text).map_err(|mistakes| format!("{:?}", miette::Report::new(mistakes)))?;
        let hosts = plan.nodes.into_iter().find_map(|node| match node.config {
            NodeConfig::Hosts(hosts) => Some(hosts.services),
            _ => None,
        });
        Ok(hosts.unwrap_or_default())
    }

    #[test]
    fn every_service_needs_nothing_but_its_name_and_is_documented() {
        let page = include_str!("../../docs/services.md");
        for (transport, protocols) in [("tcp", &Protocol::TCP[..]), ("udp", &Protocol::UDP)] {
            for protocol in protocols {
                let name = protocol.name();
                let found = services(&format!("{{{transport}: {{99: {{{name}: {{}}}}}}}}")).unwrap();
                assert_eq!(found[0].kind, ServiceKind::Library(Box::new(Profile::new(*protocol, None))));
                let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
                let row = row.unwrap_or_else(|| panic!("{name} is not in docs/services.md"));
                let products = protocol.products().iter().filter(|_| !protocol.takes_any_product());
                for word in products.map(|(product, ..)| *product).chain(protocol.keys().iter().copied()) {
                    assert!(row.contains(&format!("`{word}`")), "{name}: {word}");
                }
                assert_eq!(row.contains("`banner`"), protocol.banner().is_some(), "{name}");
            }
        }
    }

    #[test]
    fn the_documented_template_is_sound() {
        let page = include_str!("../../docs/services.md");
        let example = page.split("```").find_map(|block| block.strip_prefix("yaml\ntemplates:\n")).unwrap();
        let rest = "nodes:\n  wan: {kind: uplink, interface: eth0}\n  h: {kind: host, address: 192.0.2.9, template: server}\n\
                    links:\n  - endpoints: [wan, h]\n";
        parse("t", &format!("templates:\n{example}{rest}")).unwrap();
    }

    #[test]
    fn wishes_that_nothing_shows_are_mistakes() {
        for (wrong, said) in [
            ("{tcp: {21: {ftp: {product: vsftp}}}}", "vsftpd"),
            ("{tcp: {21: {ftp: {workgroup: x}}}}", "`workgroup` says nothing to `ftp`"),
            ("{tcp: {21: {ftp: {version: \"1\\n2\"}}}}", "control characters"),
            ("{tcp: {21: {ftp: {banner: \"1\\r\\n2\"}}}}", "control characters"),
            ("{tcp: {21: {ftp: {}, ssh: {}}}}", "two services"),
            ("{tcp: {21: {ftp: {}, timeout: 5s}}}", "does not belong"),
            ("{udp: {53: {dns: {}, reply: x}}}", "two services"),
            ("{tcp: {80: {http: {title: x}}}}", "only an `app` has a title"),
            ("{tcp: {80: {http: {directory: /nonexistent}}}}", "cannot read"),
        ] {
            let error = services(wrong).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }
}
