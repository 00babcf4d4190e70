//! What of a container's own habits is replaced by its host's, from what was typed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::{At, Map, Text};
use super::check::Checker;
use super::raw::mapping;
use super::source::Span;
use crate::emulate::Normalize;

/// Expressions of one template.
const MOST: usize = 16;
/// Octets of an expression or of what it is replaced by.
const LONGEST: usize = 1024;
/// Octets that a compiled expression may take.
const COMPILED: usize = 1 << 20;

mapping! {
    /// Which fields of what a container sends are written as the host's personality writes them.
    struct NormalizeKeys {
        /// TTL and hop limit, except where a program has chosen its own (default true).
        ttl: bool,
        /// Options, window and sequence numbers of the TCP connections that it begins (default true).
        options: bool,
        /// IP identification, DF and the IPv6 flow label (default true).
        #[serde(alias = "ip-id")]
        ip_id: bool,
        /// TOS and traffic class (default true).
        tos: bool,
        /// The timestamp clock of the TCP connections that it begins (default true).
        timestamps: bool,
        /// What is replaced in the first octets that its services say: regular expressions, and what their matches become.
        banners: Map<At<Text>>,
    }
}

/// Reads it.
pub fn read(c: &mut Checker<'_>, keys: &At<NormalizeKeys>) -> Option<Normalize> {
    let whether = |key: &Option<At<bool>>| key.as_ref().is_none_or(|key| key.value);
    let mut banners = Vec::new();
    for (pattern, becomes) in keys.banners.iter().flat_map(|banners| banners.iter()) {
        let (text, span) = (&pattern.value.0, pattern.span);
        if text.is_empty() || text.len() > LONGEST || becomes.len() > LONGEST {
            c.error(span, "an expression has 1 to 1024 octets, and so has what replaces it", "here", "write less");
            return None;
        }
        if let Err(error) = regex::bytes::RegexBuilder::new(text).size_limit(COMPILED).build() {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let help = "the syntax is that of https://docs.rs/regex; (?i) ignores case, and \\. is a dot";
            c.error(span, format!("`{text}` is no regular expression"), why, help);
            return None;
        }
        banners.push((text.clone(), becomes.value.0.clone()));
    }
    if banners.len() > MOST {
        c.error(keys.span, "there are more than 16 expressions", "in this `normalize`", "join some of them with `|`");
        return None;
    }
    Some(Normalize {
        ttl: whether(&keys.ttl),
        options: whether(&keys.options),
        ip_id: whether(&keys.ip_id),
        tos: whether(&keys.tos),
        timestamps: whether(&keys.timestamps),
        banners,
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::emulate::Normalize;
    use crate::node::NodeConfig;

    fn normalize(yaml: &str) -> Result<Normalize, String> {
        let text = format!(
            "nodes:\n  a: {{kind: host, address: 10.0.0.1, tcp: {{22: container}}, backend: {{image: small}}{yaml}}}\n"
        );
        let plan = parse("t", &text).map_err(|errors| errors.to_string())?;
        let NodeConfig::Hosts(hosts) = &plan.nodes[0].config else { panic!("a host") };
        Ok(hosts.templates[0].normalize.clone())
    }

    #[test]
    fn all_is_normalized_unless_it_is_said() {
        assert_eq!(normalize("").unwrap(), Normalize::default());
        let some =
            normalize(", normalize: {ttl: false, ip_id: false, banners: {'(?i)dropbear_\\S+': 'OpenSSH'}}").unwrap();
        let banners = vec![("(?i)dropbear_\\S+".to_owned(), "OpenSSH".to_owned())];
        assert_eq!(some, Normalize { ttl: false, ip_id: false, banners, ..Normalize::default() });
        assert!(!normalize(", normalize: {ip-id: false}").unwrap().ip_id, "as the column of a table would name it");
    }

    #[test]
    fn what_is_no_expression_is_told() {
        let error = normalize(", normalize: {banners: {'Server: (': x}}").unwrap_err();
        assert!(error.contains("is no regular expression"), "{error}");
        let error = normalize(", normalize: {banners: {'(a{1000}){1000}': x}}").unwrap_err();
        assert!(error.contains("is no regular expression"), "{error}");
        assert!(normalize(", normalize: {mss: true}").is_err());
    }
}
