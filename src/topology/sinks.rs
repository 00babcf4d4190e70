//! `sinks`: who is sent what happened, and in which form.

use std::net::Ipv6Addr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use schemars::JsonSchema;
use serde::Deserialize;

use super::at::{At, Text, Texts};
use super::check::Checker;
use super::error::suggest;
use super::raw::mapping;
use super::services;
use super::source::Span;
use crate::event::EventId;
use crate::record::sink::{CURSOR, Format, MOST_SINKS, Peer, Select, SharedSecret, SinkConfig, Target, Tls};
use crate::service::tls::Given;

/// Facilities of RFC 5424 §6.2.1, in the order of their numbers.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const LOCAL0: u8 = 16;
const SCHEMES: [&str; 6] = ["file", "udp", "tcp", "tls", "hpfeeds", "hpfeeds+tls"];

mapping! {
    /// A receiver of what happened.
    struct SinkKeys {
        /// The form: `ndjson` (our own records), `cowrie`, `ecs`, `eve`, `syslog` or `cef`.
        format: Format,
        /// Where: `file:NAME`, `udp://HOST:PORT`, `tcp://HOST:PORT`, `tls://HOST:PORT`, `hpfeeds://HOST:PORT` or `hpfeeds+tls://HOST:PORT`.
        to: Text,
        /// Which events, such as `[ssh, tcp.open]`; with `!` before it, all but that (default: all).
        events: Texts,
        /// A file with the certificates that the receiver's leads to, in PEM (`tls`; default: those that this machine believes).
        ca: Text,
        /// The name in the receiver's certificate, if it is not the host's (`tls`).
        server_name: Text,
        /// A file with a certificate in PEM that is shown to the receiver (`tls`).
        certificate: Text,
        /// A file with that certificate's private key in PEM (`tls`).
        key: Text,
        /// Who publishes (`hpfeeds`).
        ident: Text,
        /// A file with the secret that goes with it (`hpfeeds`).
        secret: Text,
        /// Where it is published (`hpfeeds`).
        channel: Text,
        /// The facility of messages (`syslog`, and `cef` by syslog; default `local0`).
        facility: Text,
    }
}

/// What was written.
pub fn read(c: &mut Checker<'_>) -> Vec<SinkConfig> {
    let Some(raw) = c.raw.sinks.as_ref() else { return Vec::new() };
    let mut sinks: Vec<SinkConfig> = Vec::new();
    for (number, (name, keys)) in raw.iter().enumerate() {
        if number == MOST_SINKS {
            c.error(name.span, format!("a honeynet has at most {MOST_SINKS} sinks"), "one too many", "remove some");
            break;
        }
        if !is_name(&name.0) {
            let help = "use 1 to 32 lower-case letters, digits, `-` and `_`, beginning with a letter or a digit";
            c.error(name.span, format!("`{}` cannot name a sink", name.0), "files are named after it", help);
            continue;
        }
        let Some(sink) = one(c, name, keys) else { continue };
        let file = |sink: &SinkConfig| match &sink.to {
            Target::File(name) => Some(name.clone()),
            _ => None,
        };
        if let (Some(own), Some(to)) = (file(&sink), &keys.to)
            && let Some(other) = sinks.iter().find(|other| file(other).as_ref() == Some(&own))
        {
            let message = format!("the sinks `{}` and `{}` write the same file", other.name, sink.name);
            c.error(to.span, message, "once more here", "choose another name");
        }
        sinks.push(sink);
    }
    sinks
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=32).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['-', '_'])
}

fn one(c: &mut Checker<'_>, name: &At<Text>, keys: &At<SinkKeys>) -> Option<SinkConfig> {
    let (Some(format), Some(to)) = (&keys.format, &keys.to) else {
        let help = "write such as `{format: ecs, to: \"tls://siem.example:6514\"}`";
        c.error(name.span, format!("the sink `{}` needs `format` and `to`", name.0), "one is missing", help);
        return None;
    };
    let before = c.errors.len();
    let target = target(c, keys, to, format.value);
    let events = events(c, keys.events.as_ref());
    let facility = facility(c, keys, target.as_ref(), format.value);
    let config = SinkConfig { name: name.value.0.clone(), format: format.value, to: target?, events, facility };
    (c.errors.len() == before).then_some(config)
}

fn target(c: &mut Checker<'_>, keys: &SinkKeys, to: &At<Text>, format: Format) -> Option<Target> {
    let Some((scheme, rest)) = to.0.split_once(':').filter(|(scheme, _)| SCHEMES.contains(scheme)) else {
        let scheme = to.0.split(':').next().unwrap_or("");
        let help = match to.0.contains(':') {
            true => suggest(scheme, SCHEMES),
            false => "write such as \"tls://siem.example:6514\" or \"file:events.json\"".to_owned(),
        };
        c.error(to.span, format!("`{}` is no receiver", to.0), "nobody is reached this way", help);
        return None;
    };
    let is_tls = scheme.ends_with("tls");
    let is_hpfeeds = scheme.starts_with("hpfeeds");
    for (name, span) in keys.present() {
        let belongs = match name {
            "ca" | "server_name" | "certificate" | "key" => is_tls,
            "ident" | "secret" | "channel" => is_hpfeeds,
            _ => true,
        };
        if !belongs {
            let at = c.source.key_before(name, span);
            let help =
                if is_hpfeeds || scheme == "file" { "remove it" } else { "remove it, or write another scheme in `to`" };
            c.error(at, format!("`{name}` says nothing of `{scheme}:`"), "not used there", help);
        }
    }
    if scheme == "file" {
        return file(c, to, rest).map(Target::File);
    }
    let peer = peer(c, to, scheme, rest, format)?;
    let tls = if is_tls { Some(tls(c, keys)?) } else { None };
    Some(match (scheme, tls) {
        ("udp", _) => Target::Udp(peer),
        ("tcp", _) => Target::Tcp(peer),
        ("tls", Some(tls)) => Target::Tls(peer, tls),
        (_, tls) => return hpfeeds(c, keys, to, peer, tls),
    })
}

fn file(c: &mut Checker<'_>, to: &At<Text>, name: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_fine = (1..=64).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.');
    // One that is followed by the next is called `NAME.1`, and so on.
    let is_older = name.rsplit_once('.').is_some_and(|(_, end)| end.bytes().all(|b| b.is_ascii_digit()));
    if !is_fine || is_older || name.ends_with(CURSOR) || name.ends_with(".new") {
        let help = "it lies in STATE/NAME/sinks: write a plain name such as `file:cowrie.json`, and let whoever reads it look there";
        c.error(to.span, format!("`{name}` cannot name a sink's file"), "no path, and no name of our own", help);
        return None;
    }
    Some(name.to_owned())
}

fn peer(c: &mut Checker<'_>, to: &At<Text>, scheme: &str, rest: &str, format: Format) -> Option<Peer> {
    let example = format!("write such as \"{scheme}://siem.example:6514\", an IPv6 address in brackets");
    let Some(rest) = rest.strip_prefix("//") else {
        c.error(to.span, format!("`{}` is no receiver", to.0), "two slashes belong after the colon", example);
        return None;
    };
    let (host, port) = match rest.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, port))) if host.parse::<Ipv6Addr>().is_ok() => (host, port),
        Some(_) => ("", ""),
        None => rest.rsplit_once(':').map_or((rest, ""), |(host, _)| (host, &rest[host.len()..])),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let is_host = rest.starts_with('[') || ((1..=253).contains(&host.len()) && host.bytes().all(plain));
    if host.is_empty() || !is_host {
        c.error(to.span, format!("`{rest}` is no host and port"), "here", example);
        return None;
    }
    let usual = match (scheme, format) {
        ("tls", Format::Syslog | Format::Cef) => Some(6514),
        (_, Format::Syslog | Format::Cef) if !scheme.starts_with("hpfeeds") => Some(514),
        ("hpfeeds", _) => Some(10_000),
        _ => None,
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0),
        None if port.is_empty() => usual,
        None => None,
    };
    let Some(port) = port else {
        c.error(to.span, format!("`{rest}` has no port"), "1 to 65535 after a colon", example);
        return None;
    };
    Some(Peer { host: host.to_owned(), port })
}

fn tls(c: &mut Checker<'_>, keys: &SinkKeys) -> Option<Tls> {
    let mut tls = Tls::default();
    if let Some(ca) = &keys.ca {
        let pem = services::read(c, ca, "certificates")?;
        let roots: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&pem).map(|one| one.map(|one| one.to_vec())).collect();
        match roots {
            Ok(roots) if !roots.is_empty() => tls.roots = roots,
            _ => {
                let help = "it is a PEM file; `openssl x509 -in FILE` reads it";
                c.error(ca.span, "there is no certificate in this file", "here", help);
                return None;
            }
        }
    }
    tls.server = keys.server_name.as_ref().map(|name| name.value.0.clone());
    match (&keys.certificate, &keys.key) {
        (None, None) => {}
        (Some(certificate), Some(key)) => {
            let chain = services::read(c, certificate, "a certificate")?;
            let secret = services::read(c, key, "a private key")?;
            match Given::new(&chain, &secret) {
                Ok(given) => tls.client = Some(given),
                Err(error) => {
                    let help = "both are PEM files; `openssl x509 -in FILE` and `openssl pkey -in FILE` read them";
                    c.error(certificate.span, error, "this certificate and its key", help);
                    return None;
                }
            }
        }
        (Some(one), None) | (None, Some(one)) => {
            let help = "name the files of both, or neither, and nothing is shown to the receiver";
            c.error(one.span, "a certificate needs its `key`, and a key its `certificate`", "this is one of two", help);
            return None;
        }
    }
    Some(tls)
}

fn hpfeeds(c: &mut Checker<'_>, keys: &SinkKeys, to: &At<Text>, peer: Peer, tls: Option<Tls>) -> Option<Target> {
    let (Some(ident), Some(secret), Some(channel)) = (&keys.ident, &keys.secret, &keys.channel) else {
        let help = "write `ident`, `secret` (a file) and `channel`, as the broker knows them";
        c.error(to.span, "hpfeeds needs `ident`, `secret` and `channel`", "one of them is missing", help);
        return None;
    };
    for name in [ident, channel] {
        if !(1..=255).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_graphic()) {
            c.error(
                name.span,
                format!("`{}` is no name of hpfeeds", name.0),
                "here",
                "write 1 to 255 printable octets",
            );
            return None;
        }
    }
    let octets = services::read(c, secret, "a secret")?;
    // Editors end files with a line feed.
    let text = String::from_utf8(octets).ok().map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    let Some(text) = text.filter(|text| !text.is_empty() && text.len() <= 1024) else {
        let help = "put the secret into it, and nothing else";
        c.error(secret.span, "there is no secret in this file", "1 to 1024 octets of text belong there", help);
        return None;
    };
    Some(Target::Hpfeeds {
        peer,
        tls,
        ident: ident.value.0.clone(),
        secret: SharedSecret(text),
        channel: channel.value.0.clone(),
    })
}

fn events(c: &mut Checker<'_>, texts: Option<&At<Texts>>) -> Select {
    let Some(texts) = texts else { return Select::default() };
    let patterns = &texts.value.0;
    match Select::new(patterns.iter().map(|pattern| pattern.value.0.as_str())) {
        _ if patterns.is_empty() => {
            c.error(
                texts.span,
                "this sink would be sent nothing",
                "an empty list",
                "leave `events` out for all of them",
            );
            Select::default()
        }
        Ok(select) => select,
        Err(number) => {
            let pattern = patterns.get(number);
            let span = pattern.map_or(texts.span, |pattern| pattern.span);
            let name = pattern.map_or("", |pattern| &pattern.value.0);
            let plain = name.trim_start_matches('!').trim_end_matches(".*");
            let ids = EventId::ALL.iter().map(|id| id.as_str());
            let is_known = plain == "*" || ids.clone().any(|id| id == plain || id.starts_with(&format!("{plain}.")));
            if is_known {
                c.error(span, "this sink would be sent nothing", "nothing is left", "take away less");
            } else {
                let help = format!("{}; docs/events.md lists them", suggest(plain, ids));
                c.error(span, format!("there is no event `{plain}`"), "this pattern names none", help);
            }
            Select::default()
        }
    }
}

fn facility(c: &mut Checker<'_>, keys: &SinkKeys, to: Option<&Target>, format: Format) -> u8 {
    let Some(facility) = &keys.facility else { return LOCAL0 };
    let by_syslog = match format {
        Format::Syslog => true,
        Format::Cef => !matches!(to, Some(Target::File(_) | Target::Hpfeeds { .. })),
        _ => false,
    };
    if !by_syslog {
        let at: Span = c.source.key_before("facility", facility.span);
        let message = format!("`facility` says nothing of `format: {}` here", format.name());
        c.error(at, message, "only syslog messages have one", "remove it");
    }
    match FACILITIES.iter().position(|known| *known == facility.value.0) {
        Some(number) => number as u8,
        None => {
            c.unknown(facility.span, "facility", facility, FACILITIES);
            LOCAL0
        }
    }
}

#[cfg(test)]
#[path = "sinks_tests.rs"]
mod tests;
