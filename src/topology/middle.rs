//! Who is in the middle of connections to containers, and whom they let in.

use super::at::{At, Text};
use super::check::Checker;
use super::layers::TcpAct;
use super::raw_services::{InsideWord, MiddleWord, OpensWord, SshKeyWord, TcpKeys};
use super::source::Span;
use super::{images, tls, units};
use crate::emulate::Backend;
use crate::service::{Middle, Policy, ServiceKind, Spoken, SshKeyKind, SshMiddle, TlsMiddle};

/// The SSH servers of Debian 12.
const OPENSSH: &str = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3";
const DROPBEAR: &str = "SSH-2.0-dropbear_2022.83";
/// Web servers of Debian 12 and how they call themselves there, by the package that has them.
const WEB: [(&str, &str); 3] =
    [("nginx", "nginx/1.22.1"), ("apache2", "Apache/2.4.62 (Debian)"), ("lighttpd", "lighttpd/1.4.69")];
/// Octets of it without the line's end (RFC 4253 §4.2).
const MOST: usize = 253;
/// Pairs of user and password.
const PASSWORDS: usize = 1000;
/// Refusals before anything is let in.
const AFTER: u32 = 100;
/// Octets that are kept of a file if nothing is said.
const KEEP: u64 = 16 << 20;
/// The same of each direction of a connection in the clear.
const KEEP_PLAIN: u64 = 1 << 20;

/// Who is in the middle where `word` says what is spoken.
pub fn read(c: &mut Checker<'_>, keys: &TcpKeys, word: &At<MiddleWord>) -> Option<Middle> {
    let spoken = match word.value {
        MiddleWord::Ssh => return ssh(c, keys, word.span).map(Middle::Ssh),
        MiddleWord::Raw => Spoken::Raw,
        MiddleWord::Http => Spoken::Http,
        MiddleWord::Telnet => Spoken::Telnet,
        MiddleWord::Ftp => Spoken::Ftp,
        MiddleWord::Smtp => Spoken::Smtp,
        MiddleWord::Pop3 => Spoken::Pop3,
        MiddleWord::Imap => Spoken::Imap,
        MiddleWord::Redis => Spoken::Redis,
        MiddleWord::Mysql => Spoken::Mysql,
        MiddleWord::Postgresql => Spoken::Postgresql,
    };
    let of_tls = ["inside", "starttls", "client_certificates", "server"];
    let is_tls = keys.tls.is_some();
    let is_known = |key: &str| matches!(key, "container" | "keep" | "tls") || (is_tls && of_tls.contains(&key));
    if let Some((key, value)) = keys.present().into_iter().find(|(key, _)| !is_known(key)) {
        let (at, name) = (c.source.key_before(key, value), spoken.name());
        let message = format!("`{key}` says nothing beside `container: {name}`");
        let (owner, help) = match of_tls.contains(&key) {
            true => ("it belongs to `tls`", "add `tls: true`, or remove it"),
            false => ("it belongs to `container: ssh`", "remove it"),
        };
        c.error(at, message, owner, help);
        return None;
    }
    let keep = match &keys.keep {
        Some(text) => c.unit(text.span, units::size_bytes(text))?,
        None => KEEP_PLAIN,
    };
    let credentials = match &keys.tls {
        Some(entry) => tls::said(c, entry)?,
        None => None,
    };
    let Some(credentials) = credentials else { return Some(Middle::Plain { spoken, keep }) };
    let starttls = keys.starttls.as_ref().filter(|starttls| starttls.value);
    let may_start = matches!(spoken, Spoken::Smtp | Spoken::Imap | Spoken::Pop3 | Spoken::Ftp | Spoken::Postgresql);
    if let Some(starttls) = starttls.filter(|_| !may_start) {
        let message = format!("`{}` does not begin TLS later", spoken.name());
        c.error(starttls.span, message, "here", "`smtp`, `imap`, `pop3`, `ftp` and `postgresql` do; remove it");
        return None;
    }
    let inside = keys.inside.as_ref().is_none_or(|inside| inside.value == InsideWord::Tls);
    let server = match &keys.server {
        Some(server) => web(c, server, spoken, inside)?,
        // That of the image's, when it is known whose.
        None => String::new(),
    };
    Some(Middle::Tls(Box::new(TlsMiddle {
        credentials,
        asks_clients: keys.client_certificates.as_ref().is_some_and(|asks| asks.value),
        starttls: starttls.is_some(),
        inside,
        spoken,
        server,
        keep,
    })))
}

/// What a web server calls itself where the middle answers in its place.
fn web(c: &mut Checker<'_>, server: &At<Text>, spoken: Spoken, inside: bool) -> Option<String> {
    if spoken != Spoken::Http || inside {
        let help = "write it beside `container: http` and `inside: clear`, or remove it";
        c.error(server.span, "`server` says nothing here", "what is inside answers who does not speak TLS", help);
        return None;
    }
    if server.is_empty() || server.len() > MOST || server.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
        let help = "write such as `nginx/1.22.1` or `Apache/2.4.62 (Debian)`";
        c.error(server.span, "a web server does not call itself so", "the `Server:` header", help);
        return None;
    }
    Some(server.value.0.clone())
}

/// What an SSH server in the middle is.
fn ssh(c: &mut Checker<'_>, keys: &TcpKeys, at: Span) -> Option<SshMiddle> {
    let of_tls = ["tls", "inside", "starttls", "client_certificates", "server"];
    if let Some((key, value)) = keys.present().into_iter().find(|(key, _)| of_tls.contains(key)) {
        let at = c.source.key_before(key, value);
        c.error(at, format!("`{key}` says nothing beside `container: ssh`"), "SSH needs no TLS", "remove it");
        return None;
    }
    let identification = match &keys.identification {
        Some(text) => identification(c, text)?,
        // That of the image's, when it is known whose.
        None => String::new(),
    };
    let host_keys = match &keys.host_keys {
        Some(kinds) => host_keys(c, kinds)?,
        None => SshKeyKind::USUAL.to_vec(),
    };
    let refusal_us = match &keys.refusal {
        Some(text) => c.unit(text.span, units::duration_us(text, 60_000_000))?,
        None => 2_000_000,
    };
    let acceptance_us = match &keys.acceptance {
        Some(text) => c.unit(text.span, units::duration_us(text, 10_000_000))?,
        None => 300_000,
    };
    let keep = match &keys.keep {
        Some(text) => c.unit(text.span, units::size_bytes(text))?,
        None => KEEP,
    };
    let keyboard_interactive = keys.keyboard_interactive.as_ref().is_some_and(|asks| asks.value);
    let opens = opens(c, keys, at)?;
    let login = match &keys.login {
        Some(text) if opens == Policy::Container => {
            let help = "remove it, or say who else is let in: `opens: any`, `after: 3` or `passwords`";
            c.error(text.span, "nobody logs in by this", "the container's own server is asked instead", help);
            return None;
        }
        Some(text) => match text.split_once(':') {
            Some((user, password)) if !user.is_empty() => Some((user.to_owned(), password.to_owned())),
            _ => {
                c.error(text.span, format!("`{}` is no log-in", text.0), "here", "write `user:password`");
                return None;
            }
        },
        None => None,
    };
    let (refusal_ms, acceptance_ms) = ((refusal_us / 1000) as u32, (acceptance_us / 1000) as u32);
    Some(SshMiddle { identification, host_keys, opens, login, keyboard_interactive, refusal_ms, acceptance_ms, keep })
}

fn identification(c: &mut Checker<'_>, text: &At<Text>) -> Option<String> {
    let is_plain = text.bytes().all(|b| (b' '..=b'~').contains(&b));
    if text.starts_with("SSH-2.0-") && text.len() <= MOST && is_plain {
        return Some(text.value.0.clone());
    }
    let help = "write such as `SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3` (RFC 4253, section 4.2)";
    c.error(text.span, "an SSH server does not call itself so", "here", help);
    None
}

fn host_keys(c: &mut Checker<'_>, kinds: &At<Vec<At<SshKeyWord>>>) -> Option<Vec<SshKeyKind>> {
    let help = "write such as `[rsa, ecdsa, ed25519]`";
    if kinds.is_empty() {
        c.error(kinds.span, "an SSH server has a host key", "here is none", help);
        return None;
    }
    let mut known = Vec::new();
    for kind in &kinds.value {
        let read = match kind.value {
            SshKeyWord::Rsa => SshKeyKind::Rsa,
            SshKeyWord::Ecdsa => SshKeyKind::Ecdsa,
            SshKeyWord::Ed25519 => SshKeyKind::Ed25519,
        };
        if known.contains(&read) {
            c.error(kind.span, "a host has one key of a kind", "again here", "remove it");
            return None;
        }
        known.push(read);
    }
    Some(known)
}

fn opens(c: &mut Checker<'_>, keys: &TcpKeys, at: Span) -> Option<Policy> {
    let said = [
        keys.opens.as_ref().map(|word| word.span),
        keys.passwords.as_ref().map(|map| map.span),
        keys.after.as_ref().map(|after| after.span),
    ];
    if let [_, span, ..] = said.into_iter().flatten().collect::<Vec<_>>()[..] {
        c.error(span, "who is let in is said twice", "again here", "keep one of `opens`, `passwords` and `after`");
        return None;
    }
    if let Some(after) = &keys.after {
        if !(1..=AFTER).contains(&after.value) {
            c.error(after.span, format!("`after: {}` is out of range", after.value), "1 to 100", "write such as 3");
            return None;
        }
        return Some(Policy::After(after.value));
    }
    let Some(passwords) = &keys.passwords else {
        return Some(match keys.opens.as_ref().map(|word| word.value) {
            None | Some(OpensWord::Container) => Policy::Container,
            Some(OpensWord::Any) => Policy::Any,
            Some(OpensWord::Never) => Policy::Never,
        });
    };
    let of_user = |(user, all): (&At<Text>, &At<super::at::Texts>)| {
        let pair = |password: &At<Text>| (user.value.0.clone(), password.value.0.clone());
        all.value.0.iter().map(pair).collect::<Vec<_>>()
    };
    let list: Vec<_> = passwords.iter().flat_map(|(user, all)| of_user((user, all))).collect();
    if list.is_empty() || list.len() > PASSWORDS {
        let help = "write such as `{root: [toor, \"123456\"], admin: admin}`";
        c.error(at, "these are no passwords, or too many", "1 to 1,000", help);
        return None;
    }
    Some(Policy::List(list))
}

/// What answers where `act` says that a container of `backend` does.
pub fn kind(c: &mut Checker<'_>, act: &TcpAct, backend: Option<&Backend>, at: Span) -> ServiceKind {
    let mut ssh = match act {
        TcpAct::Recorded(Middle::Ssh(ssh)) => ssh.clone(),
        TcpAct::Recorded(Middle::Tls(tls)) if tls.spoken == Spoken::Http && !tls.inside && tls.server.is_empty() => {
            let has = |c: &mut Checker<'_>, backend: &Backend, package| images::has_package(c, &backend.image, package);
            let known = WEB.iter().find(|(package, _)| backend.is_some_and(|backend| has(c, backend, package)));
            let server = known.unwrap_or(&WEB[0]).1.to_owned();
            return ServiceKind::Recorded(Box::new(Middle::Tls(Box::new(TlsMiddle { server, ..(**tls).clone() }))));
        }
        TcpAct::Recorded(other) => return ServiceKind::Recorded(Box::new(other.clone())),
        _ => return ServiceKind::Container,
    };
    // Neither the attacker's own credential opens it nor does the topology say what does.
    if let (None, Policy::Any | Policy::After(_) | Policy::List(_), Some(backend)) = (&ssh.login, &ssh.opens, backend) {
        ssh.login = images::account(c, &backend.image);
        if ssh.login.is_none() {
            let help = "add `login: \"user:password\"` beside `container: ssh`";
            c.error(at, "nobody can log in inside", "no account of the container's is known", help);
        }
    }
    if ssh.identification.is_empty() {
        let is_dropbear = backend.is_some_and(|backend| images::has_dropbear(c, &backend.image));
        ssh.identification = if is_dropbear { DROPBEAR } else { OPENSSH }.to_owned();
    }
    ServiceKind::Recorded(Box::new(Middle::Ssh(ssh)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeConfig;
    use crate::topology::tests::good;

    /// The SSH server of a container's host whose image is `image`, with these keys.
    fn ssh_of(image: &str, keys: &str) -> SshMiddle {
        let text = format!(
            "nodes:\n  h: {{kind: container, address: 10.0.0.1, tcp: {{22: {{container: ssh{keys}}}}}, backend: {{image: {image}}}}}\n"
        );
        let plan = good(&text);
        let Some(NodeConfig::Hosts(hosts)) = plan.nodes.first().map(|node| &node.config) else { panic!("{plan:?}") };
        let found = hosts.services.iter().find_map(|service| match &service.kind {
            ServiceKind::Recorded(middle) => match &**middle {
                Middle::Ssh(ssh) => Some(ssh.clone()),
                _ => None,
            },
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn a_server_calls_itself_what_its_image_has() {
        assert_eq!(ssh_of("small", "").identification, DROPBEAR);
        assert_eq!(ssh_of("debian", "").identification, OPENSSH);
        assert_eq!(ssh_of("small", ", identification: SSH-2.0-x").identification, "SSH-2.0-x");
    }

    #[test]
    fn a_server_has_the_keys_of_debians_or_those_that_are_said() {
        use SshKeyKind::{Ecdsa, Ed25519, Rsa};

        assert_eq!(ssh_of("debian", "").host_keys, [Rsa, Ecdsa, Ed25519]);
        assert_eq!(ssh_of("small", "").host_keys, [Rsa, Ecdsa, Ed25519]);
        assert_eq!(ssh_of("debian", ", host_keys: [ed25519]").host_keys, [Ed25519]);
    }

    #[test]
    fn a_web_server_calls_itself_what_its_image_has() {
        let server_of = |images: &str, keys: &str| {
            let text = format!(
                "images: {{x: {images}}}\nnodes:\n  h: {{kind: container, address: 10.0.0.1, \
                 tcp: {{443: {{container: http, tls: true{keys}}}}}, backend: {{image: x}}}}\n"
            );
            let plan = good(&text);
            let Some(NodeConfig::Hosts(hosts)) = plan.nodes.first().map(|node| &node.config) else {
                panic!("{plan:?}")
            };
            let found = hosts.services.iter().find_map(|service| match &service.kind {
                ServiceKind::Recorded(middle) => match &**middle {
                    Middle::Tls(tls) => Some(tls.server.clone()),
                    _ => None,
                },
                _ => None,
            });
            found.unwrap_or_else(|| panic!("{text}"))
        };
        assert_eq!(server_of("{recipe: debian}", ", inside: clear"), "nginx/1.22.1");
        let apache = "{recipe: small, packages: [apache2]}";
        assert_eq!(server_of(apache, ", inside: clear"), "Apache/2.4.62 (Debian)");
        assert_eq!(server_of(apache, ", inside: clear, server: lighttpd/1.4.69"), "lighttpd/1.4.69");
        assert_eq!(server_of("{recipe: weak}", ", inside: clear"), "nginx/1.22.1");
        assert_eq!(server_of(apache, ""), "", "it is asked itself");
    }

    #[test]
    fn times_are_those_that_are_said() {
        let times = |keys| {
            let ssh = ssh_of("small", keys);
            (ssh.refusal_ms, ssh.acceptance_ms)
        };
        assert_eq!(times(""), (2000, 300));
        assert_eq!(times(", opens: any, refusal: 1s, acceptance: 50ms"), (1000, 50));
    }

    #[test]
    fn a_server_asks_by_keyboard_interactive_if_that_is_said() {
        assert!(!ssh_of("small", "").keyboard_interactive);
        assert!(!ssh_of("small", ", keyboard_interactive: false").keyboard_interactive);
        assert!(ssh_of("small", ", keyboard_interactive: true").keyboard_interactive);
    }
}
