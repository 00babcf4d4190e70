//! Each form against what is published of it: the lists in `tests/golden`, which name their sources.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// The lines of a list, in words.
fn lines(list: &str) -> impl Iterator<Item = Vec<&str>> {
    list.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_whitespace().collect())
}

/// Whether `value` is what the lists call that.
fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "text" | "keyword" | "wildcard" | "match_only_text" | "string" => value.is_string(),
        "number" => value.is_number(),
        "long" | "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "list" => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "ip" => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        "date" => value.as_str().is_some_and(|text| text.parse::<Utc>().is_ok()),
        other => panic!("{other} is no type"),
    }
}

const COWRIE: &str = include_str!("../../../tests/golden/cowrie-events.txt");

/// The fields of an event of Cowrie's, and whether all of that kind have them.
fn of_cowrie(id: &str) -> Option<BTreeMap<&'static str, (&'static str, bool)>> {
    let fields = |id: &str| lines(COWRIE).find(|words| words[0] == id);
    let all = fields("*").unwrap().into_iter().skip(1);
    let field = |word: &'static str| {
        let (name, kind) = word.split_once(':').unwrap();
        let bare = kind.split('?').next().unwrap();
        (name, (bare, bare == kind))
    };
    Some(all.chain(fields(id)?.into_iter().skip(1)).map(field).collect())
}

/// Whether Cowrie has written such a line.
pub fn check_cowrie(line: &Value) {
    let id = line["eventid"].as_str().unwrap();
    let fields = of_cowrie(id).unwrap_or_else(|| panic!("Cowrie has no {id}"));
    for (name, value) in line.as_object().unwrap() {
        // `size` of a file is ours, as Cowrie's readers know it of a log.
        if name.starts_with("honeyweave_") || (name == "size" && id.starts_with("cowrie.session.file_")) {
            continue;
        }
        let (kind, _) = fields.get(name.as_str()).unwrap_or_else(|| panic!("{id} has no {name}: {line}"));
        assert!(is(kind, value), "{id}: {name} is {value}");
    }
    for (name, (_, always)) in fields {
        assert!(!always || line.get(name).is_some(), "{id} lacks {name}: {line}");
    }
}

const ECS: &str = include_str!("../../../tests/golden/ecs-fields.txt");

/// What may be a field's value, and beside a category which types are expected.
fn allowed(field: &str, value: &str) -> Option<Vec<&'static str>> {
    let found =
        lines(ECS).find(|words| words[0] == "=" && words[1] == field && words[2].trim_end_matches(':') == value);
    found.map(|words| words[3..].to_vec())
}

fn leaves(prefix: &str, value: &Value, each: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            leaves(&name, member, each);
        }),
        leaf => each(prefix, leaf),
    }
}

/// Whether that is a document of ECS.
pub fn check_ecs(document: &Value) {
    let event = &document["event"];
    for field in ["kind", "outcome"] {
        let value = event[field].as_str();
        assert!(value.is_none_or(|value| allowed(&format!("event.{field}"), value).is_some()), "{event}");
    }
    let of =
        |name: &str| event[name].as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect::<Vec<_>>();
    let (categories, types) = (of("category"), of("type"));
    let expected: Vec<Vec<&str>> = categories.iter().map(|name| allowed("event.category", name).unwrap()).collect();
    assert!(!types.is_empty() && !expected.is_empty(), "{event}");
    for kind in &types {
        assert!(allowed("event.type", kind).is_some(), "{kind} is no type");
        assert!(expected.iter().any(|types| types.contains(kind)), "{categories:?} and {kind}");
    }
    // And none of the categories is there for nothing.
    assert!(
        expected.iter().all(|expected| types.iter().any(|kind| expected.contains(kind))),
        "{categories:?} {types:?}"
    );
    leaves("", document, &mut |name, value| {
        if name.starts_with("honeyweave.") {
            return;
        }
        let words = lines(ECS).find(|words| words[0] == name).unwrap_or_else(|| panic!("{name} is no field"));
        match (words.get(2), value) {
            (Some(&"array"), Value::Array(items)) => assert!(items.iter().all(|item| is(words[1], item)), "{name}"),
            (Some(_), other) => panic!("{name} is {other}, and no list"),
            (None, value) => assert!(is(words[1], value), "{name} is {value}"),
        }
    });
}

const EVE: &str = include_str!("../../../tests/golden/eve-members.txt");

/// Whether Suricata's schema allows such a line, but for what is ours in it.
pub fn check_eve(line: &Value) {
    fn each(path: &str, value: &Value) {
        let words = lines(EVE).find(|words| words[0] == path).unwrap_or_else(|| panic!("there is no {path}: {value}"));
        assert!(is(words[1], value), "{path} is {value}");
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| each(&format!("{path}.{name}"), value)),
            Value::Array(items) => items.iter().for_each(|item| each(&format!("{path}[]"), item)),
            _ => {}
        }
    }
    let members = line.as_object().unwrap();
    members.iter().filter(|(name, _)| *name != "honeyweave").for_each(|(name, value)| each(name, value));
    for words in lines(EVE).filter(|words| words.get(2) == Some(&"!")) {
        assert!(members.contains_key(words[0]), "{line}");
    }
    // `^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d+[+\-]\d+$`
    let time = line["timestamp"].as_str().unwrap();
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000+0000");
}

const CEF: &str = include_str!("../../../tests/golden/cef-keys.txt");

/// Whether CEF has such a key, and it such values.
pub fn check_cef(key: &str, value: &str) {
    let words = lines(CEF).find(|words| words[0] == key).unwrap_or_else(|| panic!("{key} is no key of CEF"));
    let fits = match words[1] {
        "text" => value.chars().count() <= words[2].parse().unwrap(),
        "integer" => value.parse::<u64>().is_ok(),
        "time" => value.parse::<i64>().is_ok(),
        "mac" => value.parse::<crate::wire::Mac>().is_ok(),
        "ipv4" => value.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => value.parse::<std::net::Ipv6Addr>().is_ok(),
        other => panic!("{other} is no type"),
    };
    assert!(fits, "{key} is {value}");
}

/// Whether RFC 5424 §6 allows that.
pub fn check_syslog(message: &[u8]) {
    let text = std::str::from_utf8(message).unwrap();
    let is_graphic =
        |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let (priority, rest) = text.strip_prefix('<').unwrap().split_once('>').unwrap();
    assert!(priority.parse::<u8>().unwrap() <= 191 && (priority == "0" || !priority.starts_with('0')));
    let mut words = rest.splitn(7, ' ');
    let mut next = || words.next().unwrap();
    assert_eq!(next(), "1");
    // Six digits of a second at most, upper-case letters.
    let time = next();
    assert!(time.parse::<Utc>().is_ok() && time.len() == 27 && time.ends_with('Z'), "{time}");
    for most in [255, 48, 128, 32] {
        let word = next();
        assert!(is_graphic(word, most), "{word}");
    }
    let mut rest = next();
    let is_name = |name: &str| is_graphic(name, 32) && !name.contains(['=', ']', '"']);
    let mut elements = BTreeSet::new();
    if let Some(after) = rest.strip_prefix('-') {
        rest = after;
    }
    while let Some(element) = rest.strip_prefix('[') {
        let (id, mut inner) = element.split_at(element.find([' ', ']']).unwrap());
        // What is no name of the IANA's has somebody's number, and none comes twice.
        let (name, number) = id.split_once('@').unwrap();
        assert!(is_name(id) && is_name(name) && number.parse::<u32>().is_ok() && elements.insert(id), "{id}");
        while let Some(parameter) = inner.strip_prefix(' ') {
            let (name, value) = parameter.split_once("=\"").unwrap();
            assert!(is_name(name), "{name}");
            let (mut end, mut chars) = (None, value.char_indices());
            while let Some((at, c)) = chars.next() {
                match c {
                    '\\' => assert!(matches!(chars.next(), Some((_, '"' | '\\' | ']'))), "{value}"),
                    '"' => {
                        end = Some(at);
                        break;
                    }
                    c => assert!(c != ']', "{value}"),
                }
            }
            inner = &value[end.unwrap() + 1..];
        }
        rest = inner.strip_prefix(']').unwrap();
    }
    // A text that is not ASCII would begin with a byte order mark.
    assert!(rest.is_empty() || rest.strip_prefix(' ').unwrap().bytes().all(|b| matches!(b, b' '..=b'~')), "{rest}");
}

#[test]
fn cowries_lines_are_its_own() {
    for record in everything() {
        objects(Format::Cowrie, &record).iter().for_each(check_cowrie);
    }
}

#[test]
fn documents_have_the_fields_of_ecs() {
    let mut used = BTreeSet::new();
    for record in everything() {
        let document = objects(Format::Ecs, &record).remove(0);
        check_ecs(&document);
        assert_eq!(document["event"]["action"], record.event.as_str());
        leaves("", &document, &mut |name, _| {
            used.insert(name.to_owned());
        });
    }
    // Nothing is listed that is not used.
    let page = include_str!("../../../docs/sinks.md");
    for words in lines(ECS).filter(|words| words[0] != "=") {
        assert!(page.contains(&format!("`{}`", words[0])), "docs/sinks.md does not list {}", words[0]);
        assert!(used.contains(words[0]), "{} is never used", words[0]);
    }
}

#[test]
fn flows_and_alerts_are_as_suricatas_schema_has_them() {
    for record in everything() {
        objects(Format::Eve, &record).iter().for_each(check_eve);
    }
}

#[test]
fn headers_of_syslog_are_as_the_rfc_has_them() {
    let hosts = ["sensor", "", "a b\u{7f}ü", &"h".repeat(300)].map(str::to_owned);
    for (record, host) in everything().iter().zip(hosts.iter().cycle()) {
        let origin = Origin { host: host.clone(), facility: u8::MAX, ..origin() };
        check_syslog(&syslog::message(record, &origin));
        let cef = cef::message(record);
        check_syslog(&syslog::around(record, &origin, &cef));
    }
}

#[test]
fn what_happens_inside_a_container_has_its_process() {
    let document = |event, details| objects(Format::Ecs, &with(event, details)).remove(0);
    let of = |at: &Value, path: &str| at.pointer(path).cloned().unwrap_or(Value::Null);
    let exec = document(
        EventId::ContainerExec,
        json!({"path": "/usr/bin/wget", "args": ["wget", "-q", "http://192.0.2.1/x"], "uid": 33, "pid": 812, "parent": 811}),
    );
    for (path, value) in [
        ("/process/executable", json!("/usr/bin/wget")),
        ("/process/name", json!("wget")),
        ("/process/args", json!(["wget", "-q", "http://192.0.2.1/x"])),
        ("/process/args_count", json!(3)),
        ("/process/command_line", json!("wget -q http://192.0.2.1/x")),
        ("/process/pid", json!(812)),
        ("/process/parent/pid", json!(811)),
        ("/user/id", json!("33")),
        ("/event/kind", json!("event")),
    ] {
        assert_eq!(of(&exec, path), value, "{path}");
    }
    let exit = document(EventId::ContainerExit, json!({"code": 1, "name": "sh", "uid": 0, "pid": 9}));
    assert_eq!((of(&exit, "/process/exit_code"), of(&exit, "/event/outcome")), (json!(1), json!("failure")));
    // What was opened to be made if it is not there has a mode only if it was not.
    for (did, mode, kind) in [
        ("open", None, "access"),
        ("open", Some("0755"), "creation"),
        ("mkdir", Some("0755"), "creation"),
        ("mknod", Some("0644"), "creation"),
        ("delete", None, "deletion"),
        ("executable", Some("0755"), "change"),
    ] {
        let mut told = json!({"did": did, "path": "/tmp/.x", "flags": ["write", "create"], "name": "sh", "uid": 0});
        mode.into_iter().for_each(|mode| told["mode"] = mode.into());
        let file = document(EventId::ContainerFile, told);
        assert_eq!((of(&file, "/event/type"), of(&file, "/file/mode")), (json!([kind]), json!(mode)));
        assert_eq!(of(&file, "/file/type"), json!((did == "mkdir").then_some("dir")));
        assert_eq!((of(&file, "/file/name"), of(&file, "/process/name")), (json!(".x"), json!("sh")));
        assert_eq!(of(&file, "/process/executable"), Value::Null);
    }
    // It goes from the container to the target; whose connection it follows from is related.
    let connect = document(EventId::ContainerConnect, json!({"ip": "198.51.100.7", "port": 443, "name": "wget"}));
    assert_eq!((of(&connect, "/source/ip"), of(&connect, "/source/port")), (json!("10.0.0.1"), Value::Null));
    assert_eq!(
        (of(&connect, "/destination/ip"), of(&connect, "/destination/port")),
        (json!("198.51.100.7"), json!(443))
    );
    assert_eq!(of(&connect, "/related/ip"), json!(["10.0.0.1", "198.51.100.7", "192.0.2.9"]));
    let port = |protocol: Value| {
        let listen = json!({"ip": "::", "port": 4444, "protocol": protocol, "name": "nc"});
        of(&document(EventId::ContainerListen, listen), "/network/transport")
    };
    assert_eq!([json!("udp"), json!("tcp"), Value::Null].map(port), ["udp", "tcp", "tcp"]);
    let su = json!({"program": "su", "user": "root", "by": "www-data", "accepted": true, "tag": "su", "pid": 7});
    let su = document(EventId::ContainerLogin, su);
    assert_eq!((of(&su, "/user/name"), of(&su, "/user/effective/name")), (json!("www-data"), json!("root")));
}

#[test]
fn an_alert_is_one_in_every_form_that_has_some() {
    let alert = with(
        EventId::IdsAlert,
        json!({
            "sid": 9_000_001, "gid": 1, "rev": 2, "signature": "TEST", "category": "Leak", "severity": 2, "action": "allowed",
            "app_proto": "http",
        }),
    );
    let ecs = objects(Format::Ecs, &alert).remove(0);
    assert_eq!((&ecs["event"]["kind"], &ecs["event"]["severity"]), (&json!("alert"), &json!(2)));
    assert_eq!(ecs["rule"], json!({"id": "9000001", "name": "TEST", "category": "Leak", "version": "2"}));
    let eve = objects(Format::Eve, &alert).remove(0);
    assert_eq!((&eve["event_type"], &eve["app_proto"]), (&json!("alert"), &json!("http")));
    assert_eq!(
        eve["alert"],
        json!({
            "gid": 1, "signature_id": 9_000_001, "rev": 2, "severity": 2, "action": "allowed", "signature": "TEST",
            "category": "Leak",
        })
    );
    assert!(rendered(Format::Cef, &alert).remove(0).ends_with(" msg=TEST"));
    // Ours are alerts, too.
    let blocked = objects(Format::Ecs, &Record { reason: Some("rate".into()), ..record(EventId::GateBlock) }).remove(0);
    assert_eq!((&blocked["event"]["kind"], &blocked["rule"]["id"]), (&json!("alert"), &json!("gate.block")));
}
