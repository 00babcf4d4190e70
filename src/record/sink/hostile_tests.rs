//! Whatever an attacker writes, each form stays what it is, as its readers take it apart.

use proptest::prelude::*;

use super::published::{check_cef, check_cowrie, check_ecs, check_eve, check_syslog};
use super::*;
use crate::event::MAX_DATA;
use crate::record::is_harmless;
use crate::record::sink::fields::clean;

/// Header, parameters, text.
type Syslog<'a> = (Vec<&'a str>, Vec<(String, String)>, &'a str);

/// What a syslog receiver makes of a message: its header, its elements of structured data, and the rest.
fn parse_syslog(text: &str) -> Option<Syslog<'_>> {
    let parts: Vec<&str> = text.splitn(7, ' ').collect();
    let (header, mut rest) = (parts[..6].to_vec(), *parts.get(6)?);
    let mut parameters = Vec::new();
    while let Some(element) = rest.strip_prefix('[') {
        let (_, mut inner) = element.split_at(element.find([' ', ']'])?);
        while let Some(parameter) = inner.strip_prefix(' ') {
            let (name, value) = parameter.split_once("=\"")?;
            let (mut read, mut chars) = (String::new(), value.char_indices());
            let end = loop {
                match chars.next()? {
                    (_, '\\') => read.push(chars.next().filter(|(_, c)| matches!(c, '"' | '\\' | ']'))?.1),
                    (at, '"') => break at,
                    (_, ']') => return None,
                    (_, c) => read.push(c),
                }
            };
            parameters.push((name.to_owned(), read));
            inner = &value[end + 1..];
        }
        rest = inner.strip_prefix(']')?;
    }
    Some((header, parameters, rest.strip_prefix(' ')?))
}

fn parse_cef(text: &str) -> Option<Vec<(String, String)>> {
    let mut parts = Vec::from([String::new()]);
    let mut chars = text.chars();
    while parts.len() < 8 {
        match chars.next()? {
            '\\' => parts.last_mut()?.push(chars.next()?),
            '|' => parts.push(String::new()),
            c => parts.last_mut()?.push(c),
        }
    }
    let rest: String = chars.collect();
    // A key is what stands before an equals sign without a backslash.
    let (mut pairs, mut word, mut escaped) = (Vec::<(String, String)>::new(), String::new(), false);
    for c in rest.chars() {
        match c {
            c if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '=' => {
                let (before, key) = word.rsplit_once(' ').unwrap_or(("", &word));
                let (before, key) = (before.to_owned(), key.to_owned());
                if let Some(last) = pairs.last_mut() {
                    last.1 = before;
                }
                pairs.push((key, String::new()));
                word.clear();
            }
            c => word.push(c),
        }
    }
    pairs.last_mut()?.1 = word;
    (parts[0] == "CEF:0" && !escaped).then_some(pairs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_octets_of_an_attackers_break_a_form(
        which in 0..everything().len(),
        words in proptest::collection::vec("\\PC{0,300}|[ -~]{0,300}|[\\x00-\\x{9f}\\r\\n\"\\\\=|\\]]{0,300}|[\\u{202a}-\\u{2030}]{0,90}", 4),
        raw in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..MAX_DATA)),
    ) {
        let mut record = everything().swap_remove(which);
        let details = json!({
            "user": words[0], "password": words[1], "command": words[2], "path": words[3], "banner": words[0],
            "answers": [words[1]], "sni": words[2], "host": words[3], "direction": "upload", "kind": "direct-tcpip",
            "accepted": true, "method": "telnet", words[0].clone(): words[1], "deep": {"a": [words[2]]},
        });
        let data = raw.unwrap_or_else(|| details.to_string().into_bytes());
        record.data = Some(base64::encode(&data));
        // These are harmless in the log, which somebody else may have written.
        record.text = Some(words[0].clone());
        record.reason = Some(words[1].clone());
        record.node = Some(words[2].clone());
        for format in Format::ALL {
            for text in rendered(format, &record) {
                prop_assert!(format == Format::Ndjson || text.chars().all(is_harmless), "{:?}", text);
                prop_assert!(!text.contains('\n'));
                prop_assert!(text.len() < 16_384, "{} octets", text.len());
                if format.is_json() {
                    prop_assert!(serde_json::from_str::<Value>(&text).unwrap().is_object());
                }
                match format {
                    Format::Ecs => check_ecs(&serde_json::from_str(&text).unwrap()),
                    Format::Cowrie => check_cowrie(&serde_json::from_str(&text).unwrap()),
                    Format::Eve => check_eve(&serde_json::from_str(&text).unwrap()),
                    Format::Syslog => {
                        check_syslog(text.as_bytes());
                        prop_assert!(text.len() <= syslog::MOST && text.bytes().all(|b| matches!(b, b' '..=b'~')));
                        let (header, parameters, _) = parse_syslog(&text).expect(&text);
                        prop_assert_eq!((header.len(), header[5]), (6, record.event.as_str()));
                        prop_assert_eq!(&parameters[0], &("seq".to_owned(), "7".to_owned()));
                        prop_assert!(parameters.iter().filter(|(name, _)| name == "seq").count() == 1);
                    }
                    Format::Cef => {
                        let pairs = parse_cef(&text).expect(&text);
                        pairs.iter().for_each(|(key, value)| check_cef(key, value));
                        check_syslog(&syslog::around(&record, &origin(), text.as_bytes()));
                        let keys: std::collections::HashSet<_> = pairs.iter().map(|(key, _)| key.as_str()).collect();
                        prop_assert_eq!(keys.len(), pairs.len(), "{:?}", pairs);
                        prop_assert!(keys.iter().all(|key| key.bytes().all(|b| b.is_ascii_alphanumeric())), "{:?}", keys);
                        let reason = pairs.iter().find(|(key, _)| key == "reason").map(|(_, value)| value.trim_end());
                        let wanted = clean(&words[1], 1022);
                        prop_assert_eq!(reason.unwrap_or_default(), wanted.trim_end());
                    }
                    _ => {}
                }
            }
        }
    }
}
