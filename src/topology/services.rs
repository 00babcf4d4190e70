//! What answers on a port: from what was typed to what the plan says.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;

use super::at::{At, Text};
use super::check::Checker;
use super::layers::{TcpAct, UdpAct};
use super::library;
use super::raw_services::{HttpKeys, LibraryKeys, TcpKeys, UdpKeys};
use super::source::Span;
use super::{middle, tls, units};
use crate::service::{self, HttpSite, Page, Protocol, Proxy, Script};

/// Largest file that is read, such as a page.
const MAX_PAGE: u64 = 1 << 20;

/// Files and folders of a site's folder.
const MAX_FILES: usize = 4096;

/// The keys that go with each of the services.
const COMPANIONS: &[(&str, &[&str])] = &[
    ("http", &["tls"]),
    ("banner", &["close_after", "tls"]),
    ("script", &["timeout", "max"]),
    ("proxy", &["connect_timeout", "allow_production"]),
    (
        "container",
        &[
            "opens",
            "passwords",
            "after",
            "login",
            "keyboard_interactive",
            "identification",
            "host_keys",
            "refusal",
            "acceptance",
            "keep",
            "tls",
            "inside",
            "starttls",
            "client_certificates",
            "server",
        ],
    ),
    ("ssh", &[]),
    ("ftp", &["tls"]),
    ("smtp", &["tls"]),
    ("pop3", &["tls"]),
    ("imap", &["tls"]),
    ("telnet", &["tls"]),
    ("mysql", &[]),
    ("postgresql", &[]),
    ("redis", &["tls"]),
    ("rdp", &[]),
    ("smb", &[]),
    ("vnc", &[]),
    ("modbus", &[]),
    ("irc", &["tls"]),
];

/// The service of a TCP port whose key stands at `port`.
pub fn tcp(c: &mut Checker<'_>, keys: &TcpKeys, port: Span) -> Option<TcpAct> {
    let present = keys.present();
    let mut services = COMPANIONS.iter().filter(|(name, _)| present.iter().any(|(key, _)| key == name));
    let Some((service, companions)) = services.next() else {
        c.error(
            port,
            "this port has no service",
            "a mapping names one of `http`, `banner`, `script`, `proxy`, `container` and the services of the library, such as `ssh`",
            "write such as `{banner: \"220 ready\\r\\n\"}`, or one of the words closed, filtered, tarpit, open, container",
        );
        return None;
    };
    if let Some((other, _)) = services.next() {
        c.error(
            port,
            format!("this port has two services, `{service}` and `{other}`"),
            "only one can answer",
            "keep one",
        );
        return None;
    }
    if let Some((key, value)) = present.iter().find(|(key, _)| key != service && !companions.contains(key)) {
        let at = c.source.key_before(key, *value);
        let owner = COMPANIONS.iter().find(|(_, keys)| keys.contains(key)).map_or("another service", |(name, _)| name);
        c.error(at, format!("`{key}` does not belong to `{service}`"), format!("it belongs to `{owner}`"), "remove it");
        return None;
    }
    let act = act(c, keys)?;
    match &keys.tls {
        Some(entry) => tls::around(c, entry, act),
        None => Some(act),
    }
}

/// The one service that `keys` name.
fn act(c: &mut Checker<'_>, keys: &TcpKeys) -> Option<TcpAct> {
    if let Some(http) = &keys.http {
        return site(c, http).map(TcpAct::Http);
    }
    if let Some(banner) = &keys.banner {
        let close_after_secs = seconds(c, keys.close_after.as_ref(), 120)?;
        return Some(TcpAct::Banner { banner: banner.as_bytes().to_vec(), close_after_secs });
    }
    if let Some(command) = &keys.script {
        return script(c, command, keys).map(TcpAct::Script);
    }
    if let Some((protocol, wishes)) = Protocol::TCP.into_iter().find_map(|p| Some((p, of_tcp(keys, p)?))) {
        return library::profile(c, protocol, wishes).map(|profile| TcpAct::Library(Box::new(profile)));
    }
    if let Some(word) = &keys.container {
        return middle::read(c, keys, word).map(TcpAct::Recorded);
    }
    let target = keys.proxy.as_ref()?;
    let connect_timeout_us = match &keys.connect_timeout {
        Some(text) => c.unit(text.span, units::duration_us(text, 60_000_000))?,
        None => 5_000_000,
    };
    let target = proxy_target(c, target)?;
    let proxy = Proxy { target, connect_timeout_ms: (connect_timeout_us / 1000).max(1) as u32 };
    let allow_production = keys.allow_production.as_ref().is_some_and(|allow| allow.value);
    Some(TcpAct::Proxy { proxy, allow_production })
}

/// What was typed for a service of the library over TCP.
fn of_tcp(keys: &TcpKeys, protocol: Protocol) -> Option<&At<LibraryKeys>> {
    match protocol {
        Protocol::Ssh => keys.ssh.as_ref(),
        Protocol::Ftp => keys.ftp.as_ref(),
        Protocol::Smtp => keys.smtp.as_ref(),
        Protocol::Pop3 => keys.pop3.as_ref(),
        Protocol::Imap => keys.imap.as_ref(),
        Protocol::Telnet => keys.telnet.as_ref(),
        Protocol::Mysql => keys.mysql.as_ref(),
        Protocol::Postgresql => keys.postgresql.as_ref(),
        Protocol::Redis => keys.redis.as_ref(),
        Protocol::Rdp => keys.rdp.as_ref(),
        Protocol::Smb => keys.smb.as_ref(),
        Protocol::Vnc => keys.vnc.as_ref(),
        Protocol::Modbus => keys.modbus.as_ref(),
        Protocol::Irc => keys.irc.as_ref(),
        Protocol::Dns | Protocol::Ntp | Protocol::Snmp | Protocol::Sip => None,
    }
}

/// The service of a UDP port whose key stands at `port`.
pub fn udp(c: &mut Checker<'_>, keys: &UdpKeys, port: Span) -> Option<UdpAct> {
    let present = keys.present();
    if let [(one, _), (other, _), ..] = present[..] {
        let message = format!("this port has two services, `{one}` and `{other}`");
        c.error(port, message, "only one can answer", "keep one");
        return None;
    }
    let library = [
        (Protocol::Dns, &keys.dns),
        (Protocol::Ntp, &keys.ntp),
        (Protocol::Snmp, &keys.snmp),
        (Protocol::Sip, &keys.sip),
    ];
    if let Some((protocol, wishes)) = library.into_iter().find_map(|(p, keys)| Some((p, keys.as_ref()?))) {
        return library::profile(c, protocol, wishes).map(|profile| UdpAct::Library(Box::new(profile)));
    }
    match &keys.reply {
        Some(reply) if reply.len() <= 1400 => Some(UdpAct::Reply(reply.as_bytes().to_vec())),
        Some(reply) => {
            let message = "this reply is longer than a datagram that is not fragmented";
            c.error(reply.span, message, format!("{} octets", reply.len()), "write at most 1,400 octets");
            None
        }
        None => {
            let help = "write such as `{reply: \"...\"}`, or one of the words closed, filtered, open";
            c.error(
                port,
                "this port has no service",
                "a mapping has one of `reply`, `dns`, `ntp`, `snmp`, `sip`",
                help,
            );
            None
        }
    }
}

fn seconds(c: &mut Checker<'_>, text: Option<&At<Text>>, default: u32) -> Option<u32> {
    match text {
        Some(text) => c.unit(text.span, units::duration_secs(text)),
        None => Some(default),
    }
}

fn script(c: &mut Checker<'_>, command: &At<Vec<At<Text>>>, keys: &TcpKeys) -> Option<Script> {
    let Some(program) = command.first() else {
        let help = "write the program and its arguments: [/usr/local/bin/fake-ftp, --port, \"21\"]";
        c.error(command.span, "the script has no program", "this list is empty", help);
        return None;
    };
    if !program.starts_with('/') {
        let help = format!("write the whole path, such as /usr/local/bin/{}", program.rsplit('/').next().unwrap_or(""));
        c.error(program.span, format!("`{}` is not an absolute path", program.0), "which program is it?", help);
        return None;
    }
    if let Some(bad) = command.iter().find(|word| word.contains('\0')) {
        c.error(bad.span, "an argument cannot contain a NUL", "here", "remove it");
        return None;
    }
    let timeout_secs = seconds(c, keys.timeout.as_ref(), 60)?;
    let max_running = keys.max.as_ref().map_or(32, |max| max.value);
    if let Some(max) = keys.max.as_ref().filter(|max| max.value == 0 || max.value > 4096) {
        c.error(max.span, format!("`max: {}` is out of range", max.value), "1 to 4096", "write 32, the default");
        return None;
    }
    if let Some(timeout) = keys.timeout.as_ref().filter(|_| timeout_secs == 0) {
        c.error(timeout.span, "a script needs time to run", "zero is none", "write such as 60s");
        return None;
    }
    Some(Script { command: command.iter().map(|word| word.value.0.clone()).collect(), timeout_secs, max_running })
}

fn proxy_target(c: &mut Checker<'_>, text: &At<Text>) -> Option<SocketAddr> {
    let Ok(target) = text.parse::<SocketAddr>() else {
        let help = match text.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(ip)) => format!("add the port: {ip}:80"),
            Ok(std::net::IpAddr::V6(ip)) => format!("add the port: \"[{ip}]:80\""),
            Err(_) => "write a literal address and a port, such as 10.9.9.9:80; names are not looked up".to_owned(),
        };
        c.error(text.span, format!("`{}` is not an address and a port", text.0), "the target of a proxy", help);
        return None;
    };
    if target.port() == 0 || target.ip().is_unspecified() || target.ip().is_multicast() {
        c.error(
            text.span,
            format!("nothing can be reached at `{target}`"),
            "the target of a proxy",
            "write one server",
        );
        return None;
    }
    Some(target)
}

fn site(c: &mut Checker<'_>, keys: &HttpKeys) -> Option<HttpSite> {
    let mut site = application(c, keys)?;
    if let Some(server) = &keys.server {
        site.server = server.value.0.clone();
    }
    if let Some(bad) = keys.server.as_ref().filter(|server| server.bytes().any(|b| b < b' ' || b == 0x7f)) {
        c.error(bad.span, "a header cannot contain control characters", "the `Server:` header", "remove them");
        return None;
    }
    if let Some(directory) = &keys.directory {
        folder(c, directory, &mut site.pages)?;
    }
    for (path, page) in keys.pages.iter().flat_map(|pages| pages.iter()) {
        if !path.starts_with('/') {
            c.error(
                path.span,
                format!("the path `{}` does not begin with `/`", path.0),
                "a path of the site",
                format!("write `/{}`", path.0),
            );
            continue;
        }
        let page = &page.value.0;
        let body = match (&page.body, &page.file) {
            (Some(body), None) => body.as_bytes().to_vec(),
            (None, Some(file)) => match read(c, file, "the body of a page") {
                Some(body) => body,
                None => continue,
            },
            _ => {
                c.error(path.span, "a page has either `body` or `file`", "this page", "keep one of them");
                continue;
            }
        };
        let content_type = match &page.r#type {
            Some(text) if text.bytes().any(|b| b < b' ' || b == 0x7f) => {
                c.error(text.span, "a header cannot contain control characters", "the type of a page", "remove them");
                continue;
            }
            Some(text) => text.value.0.clone(),
            None => content_type(page.file.as_ref().map_or(&path.0, |file| &file.value.0)).to_owned(),
        };
        site.pages.insert(path.0.clone(), Page { content_type, body });
    }
    Some(site)
}

/// The site of the application that was asked for; an empty one if there was none.
fn application(c: &mut Checker<'_>, keys: &HttpKeys) -> Option<HttpSite> {
    let Some(app) = &keys.app else {
        if let Some(title) = &keys.title {
            c.error(title.span, "only an `app` has a title", "these pages have their own", "remove it");
            return None;
        }
        return Some(HttpSite::default());
    };
    let site = service::app(app, keys.title.as_ref().map(|title| &*title.value.0));
    if site.is_none() {
        c.unknown(app.span, "application", app, service::APPS);
    }
    site
}

/// Reads the files of a folder, and of those in it, as pages. Links and hidden files are left out.
fn folder(c: &mut Checker<'_>, directory: &At<Text>, pages: &mut BTreeMap<String, Page>) -> Option<()> {
    let base = c.base.join(&directory.value.0);
    let mut folders = vec![(base.clone(), "/".to_owned())];
    let mut files = 0;
    while let Some((folder, at)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries.flatten(),
            Err(error) => {
                let message = format!("cannot read `{}`: {error}", folder.display());
                c.error(directory.span, message, "the folder of a site", "paths are relative to the topology's folder");
                return None;
            }
        };
        for entry in entries {
            let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else { continue };
            if name.starts_with('.') {
                continue;
            }
            files += 1;
            if files > MAX_FILES {
                let label = format!("more than {MAX_FILES} files");
                c.error(directory.span, "this folder is too large for a site", label, "use a smaller one");
                return None;
            }
            if kind.is_dir() {
                folders.push((entry.path(), format!("{at}{name}/")));
            } else if kind.is_file() {
                let path = entry.path().to_string_lossy().into_owned();
                let body = read(c, &At { value: Text(path), span: directory.span }, "the body of a page")?;
                let page = Page { content_type: content_type(&name).to_owned(), body };
                pages.insert(if name == "index.html" { at.clone() } else { format!("{at}{name}") }, page);
            }
        }
    }
    Some(())
}

/// Reads a file that a topology names; `what` says for what.
pub fn read(c: &mut Checker<'_>, file: &At<Text>, what: &str) -> Option<Vec<u8>> {
    let path = c.base.join(&file.value.0);
    let mut body = Vec::new();
    let result = std::fs::File::open(&path).and_then(|opened| {
        if !opened.metadata()?.is_file() {
            return Err(std::io::Error::other("it is no regular file"));
        }
        opened.take(MAX_PAGE + 1).read_to_end(&mut body)
    });
    match result {
        Ok(_) if body.len() as u64 <= MAX_PAGE => Some(body),
        Ok(_) => {
            c.error(file.span, format!("`{}` is larger than 1 MiB", file.0), what, "use a smaller one");
            None
        }
        Err(error) => {
            let help = "paths are relative to the topology's folder";
            c.error(file.span, format!("cannot read `{}`: {error}", path.display()), what, help);
            None
        }
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        Some("xml") => "application/xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("svg") => "image/svg+xml",
        Some("ico") => "image/x-icon",
        Some("pdf") => "application/pdf",
        Some("zip") => "application/zip",
        _ => "text/html; charset=utf-8",
    }
}
