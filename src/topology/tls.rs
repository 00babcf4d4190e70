//! TLS around a service: from what was typed to a certificate's contents.

use super::at::{At, Text};
use super::check::Checker;
use super::layers::TcpAct;
use super::raw_tls::{NameKeys, TlsEntry, TlsKeys};
use super::services;
use super::source::Span;
use crate::service::tls::{Credentials, Given, GivenKey, Leaf, Name};

/// Octets of one part of a name: the upper bounds of RFC 5280, appendix A.1.
const MAX_PART: usize = 64;
/// Names of a server.
const MAX_NAMES: usize = 32;
/// Days that a certificate may be valid: a hundred years.
const MAX_DAYS: u32 = 36_500;

/// `act` within TLS, if `entry` says so.
pub fn around(c: &mut Checker<'_>, entry: &At<TlsEntry>, act: TcpAct) -> Option<TcpAct> {
    match (said(c, entry)?, act) {
        // Who is in the middle of it has seen to that.
        (_, act @ TcpAct::Recorded(_)) | (None, act) => Some(act),
        (Some(credentials), act) => Some(TcpAct::Tls(credentials, Box::new(act))),
    }
}

/// What a server proves to be, if `entry` says that it speaks TLS.
pub fn said(c: &mut Checker<'_>, entry: &At<TlsEntry>) -> Option<Option<Credentials>> {
    Some(match &entry.value {
        TlsEntry::Whether(false) => None,
        TlsEntry::Whether(true) => Some(Credentials::Own(Box::default())),
        TlsEntry::Keys(keys) => Some(credentials(c, keys, entry.span)?),
    })
}

fn credentials(c: &mut Checker<'_>, keys: &TlsKeys, span: Span) -> Option<Credentials> {
    let Some(certificate) = &keys.certificate else {
        return leaf(c, keys, span).map(|leaf| Credentials::Own(Box::new(leaf)));
    };
    let said = keys.present().into_iter().find(|(name, _)| !matches!(*name, "certificate" | "key"));
    if let Some((name, value)) = said {
        let at = c.source.key_before(name, value);
        let message = format!("`{name}` says nothing beside `certificate`");
        c.error(at, message, "the certificate of the file says it", "remove one of them");
        return None;
    }
    given(c, certificate, keys.key.as_ref(), Given::new).map(Credentials::Given)
}

/// What files say of a certificate and its key.
fn given(
    c: &mut Checker<'_>,
    certificate: &At<Text>,
    key: Option<&At<Text>>,
    read: fn(&[u8], &[u8]) -> Result<Given, String>,
) -> Option<Given> {
    let Some(key) = key else {
        let help = "name the files of both, or neither, and each host has a certificate of its own";
        c.error(certificate.span, "a certificate needs its `key`", "this is one of two", help);
        return None;
    };
    let (chain, secret) = (services::read(c, certificate, "a certificate")?, services::read(c, key, "a private key")?);
    read(&chain, &secret)
        .map_err(|error| {
            let help = "both are PEM files; `openssl x509 -in FILE` and `openssl pkey -in FILE` read them";
            c.error(certificate.span, error, "this certificate and its key", help);
        })
        .ok()
}

fn leaf(c: &mut Checker<'_>, keys: &TlsKeys, span: Span) -> Option<Leaf> {
    let mut leaf = Leaf::default();
    if let Some(subject) = &keys.subject {
        leaf.subject = name(c, subject)?;
    }
    if let Some(issuer) = &keys.issuer {
        leaf.issuer = name(c, issuer)?;
    }
    let names = keys.names.iter().flat_map(|names| &names.value.0);
    for text in names.clone() {
        part(c, text, 253)?;
    }
    leaf.names = names.map(|text| text.value.0.clone()).collect();
    if let Some(names) = keys.names.as_ref().filter(|_| leaf.names.len() > MAX_NAMES) {
        c.error(names.span, "these are too many names", "more than 32", "leave some out");
        return None;
    }
    if let Some(days) = &keys.days {
        if !(1..=MAX_DAYS).contains(&days.value) {
            c.error(days.span, format!("`days: {}` is out of range", days.value), "1 to 36500", "write such as 825");
            return None;
        }
        leaf.days = days.value;
    }
    if let Some(key) = &keys.key {
        let secret = services::read(c, key, "a private key")?;
        let own = GivenKey::new(&secret).and_then(|key| {
            let leaf = Leaf { key: Some(key), ..Leaf::default() };
            leaf.check().map(|()| leaf.key)
        });
        match own {
            Ok(own) => leaf.key = own,
            Err(error) => {
                let help = "a PEM file with RSA, ECDSA on P-256 or P-384, or Ed25519, without a password";
                c.error(key.span, error, "this key", help);
                return None;
            }
        }
    }
    if let Some(ca) = &keys.ca {
        if let Some(issuer) = &keys.issuer {
            let at = c.source.key_before("issuer", issuer.span);
            c.error(
                at,
                "`issuer` says nothing beside `ca`",
                "the authority's certificate says it",
                "remove one of them",
            );
            return None;
        }
        let Some(certificate) = &ca.certificate else {
            let help = "write `ca: {certificate: ca.pem, key: ca.key}`";
            c.error(ca.span, "an authority needs its `certificate`", "here", help);
            return None;
        };
        leaf.authority = Some(given(c, certificate, ca.key.as_ref(), Given::authority)?);
    }
    if let Err(error) = leaf.check() {
        let help = "names of servers are ASCII, and a country is two letters";
        c.error(span, format!("no certificate can say this: {error}"), "here", help);
        return None;
    }
    Some(leaf)
}

fn name(c: &mut Checker<'_>, keys: &At<NameKeys>) -> Option<Name> {
    if let Some(country) = keys.c.as_ref().filter(|c| c.len() != 2 || !c.bytes().all(|b| b.is_ascii_uppercase())) {
        c.error(country.span, format!("`{}` is no country", country.0), "two capital letters", "write such as `DE`");
        return None;
    }
    let mut text = |text: &Option<At<Text>>| match text {
        Some(text) => part(c, text, MAX_PART),
        None => Some(String::new()),
    };
    let name = Name {
        country: text(&keys.c)?,
        state: text(&keys.st)?,
        locality: text(&keys.l)?,
        organization: text(&keys.o)?,
        unit: text(&keys.ou)?,
        common_name: text(&keys.cn)?,
    };
    if name == Name::default() {
        c.error(keys.span, "this name says nothing", "here", "write such as `{cn: \"{host}\", o: Example}`");
        return None;
    }
    Some(name)
}

fn part(c: &mut Checker<'_>, text: &At<Text>, most: usize) -> Option<String> {
    if text.is_empty() || text.len() > most || text.bytes().any(|octet| octet.is_ascii_control()) {
        let label = format!("{} octets", text.len());
        c.error(text.span, "this cannot stand in a certificate", label, format!("write 1 to {most} printable octets"));
        return None;
    }
    Some(text.value.0.clone())
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use crate::node::NodeConfig;
    use crate::service::ServiceKind;

    fn credentials(tls: &str) -> Result<Credentials, String> {
        let text = format!(
            "templates: {{t: {{tcp: {{443: {{http: {{server: nginx}}, tls: {tls}}}}}}}}}\nnodes:\n  \
             wan: {{kind: uplink, interface: eth0}}\n  h: {{kind: host, address: 192.0.2.9, template: t}}\n\
             links:\n  - endpoints: [wan, h]\n"
        );
        let plan = parse("t", &text).map_err(|mistakes| format!("{:?}", miette::Report::new(mistakes)))?;
        let hosts = plan.nodes.into_iter().find_map(|node| match node.config {
            NodeConfig::Hosts(hosts) => Some(hosts.services),
            _ => None,
        });
        match hosts.unwrap_or_default().remove(0).kind {
            ServiceKind::Tls(secured) => Ok(secured.credentials),
            _ => Err("no TLS".to_owned()),
        }
    }

    #[test]
    fn what_is_not_said_is_usual() {
        assert_eq!(credentials("true"), Ok(Credentials::Own(Box::default())));
        assert_eq!(credentials("{}"), Ok(Credentials::Own(Box::default())));
        assert_eq!(credentials("false"), Err("no TLS".to_owned()));
        let said = "{subject: {cn: \"{host}.example.org\", o: Example}, issuer: {cn: CA, c: DE}, names: [a.example.org, 192.0.2.9], days: 90}";
        let subject =
            Name { common_name: "{host}.example.org".into(), organization: "Example".into(), ..Name::default() };
        let issuer = Name { common_name: "CA".into(), country: "DE".into(), ..Name::default() };
        let names = vec!["a.example.org".to_owned(), "192.0.2.9".to_owned()];
        assert_eq!(
            credentials(said),
            Ok(Credentials::Own(Box::new(Leaf { subject, issuer, names, days: 90, ..Leaf::default() })))
        );
    }

    #[test]
    fn what_no_certificate_can_say_is_a_mistake() {
        for (wrong, said) in [
            ("yes please", "true, false, or a mapping"),
            ("{days: 0}", "out of range"),
            ("{subject: {}}", "says nothing"),
            ("{subject: {c: Germany}}", "no country"),
            ("{subject: {cn: \"\"}}", "cannot stand in a certificate"),
            ("{names: [\"ä.example\"]}", "no certificate can say this"),
            ("{certificate: a.pem}", "needs its `key`"),
            ("{key: /nonexistent}", "cannot read"),
            ("{ca: {key: a.pem}}", "an authority needs its `certificate`"),
            ("{ca: {certificate: a.pem}}", "needs its `key`"),
            ("{ca: {certificate: a.pem, key: b.pem}, issuer: {cn: CA}}", "`issuer` says nothing beside `ca`"),
            ("{ca: {certificate: a.pem, key: b.pem}, certificate: c.pem, key: d.pem}", "`ca` says nothing beside"),
            ("{key: a.pem, certificate: b.pem, days: 3}", "`days` says nothing beside"),
            ("{key: /nonexistent, certificate: /nonexistent}", "cannot read"),
            ("{subjekt: {}}", "subject"),
        ] {
            let error = credentials(wrong).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_certificate_needs_its_own_key() {
        let pem = |kind: &str, der: &[u8]| {
            format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", crate::record::base64::encode(der))
        };
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = crate::service::tls::sample(1);
        let (_, other) = crate::service::tls::sample(2);
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let certificate = write("c.pem", pem("CERTIFICATE", &certificate));
        let key = write("k.pem", pem("PRIVATE KEY", &key));
        let other = write("o.pem", pem("PRIVATE KEY", &other));
        let of = |key: &str| credentials(&format!("{{certificate: {certificate}, key: {key}}}"));
        assert!(matches!(of(&key), Ok(Credentials::Given(_))));
        assert!(of(&other).unwrap_err().contains("is not that of the certificate"));
        assert!(of(&certificate).unwrap_err().contains("the private key cannot be read"));
        // A host's certificate signs no others, and a key may be that of many.
        let ca = credentials(&format!("{{ca: {{certificate: {certificate}, key: {key}}}}}"));
        assert!(ca.unwrap_err().contains("none of an authority"));
        let of_key = |key: &str| credentials(&format!("{{key: {key}}}"));
        assert!(matches!(of_key(&key), Ok(Credentials::Own(leaf)) if leaf.key.is_some()));
        assert!(of_key(&certificate).unwrap_err().contains("the private key cannot be read"));
    }
}
