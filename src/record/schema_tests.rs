use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn line_of(record: &Record) -> String {
    let mut line = "what was there before".to_owned();
    record.write_line(&mut line).unwrap();
    line
}
use crate::wire::Instant;

/// Checks `value` against the part of JSON Schema that the event schema uses, and refuses what it does not know.
fn validate(schema: &Value, root: &Value, value: &Value) -> Result<(), String> {
    if let Value::Bool(allowed) = schema {
        return if *allowed { Ok(()) } else { Err(format!("{value} is not allowed")) };
    }
    let rules = schema.as_object().ok_or("a schema is an object")?;
    for (rule, arg) in rules {
        let fits = match rule.as_str() {
            "$schema" | "title" | "description" | "default" | "$defs" => true,
            // Of those that ask for something, that is of what is within the data.
            "allOf" => arg.as_array().is_some_and(|rules| rules.iter().all(|rule| rule.get("if").is_some())),
            "format" => match (arg.as_str(), value) {
                (_, Value::Null) => true,
                (Some("ip"), Value::String(text)) => text.parse::<IpAddr>().is_ok(),
                (Some("uint64"), number) => number.is_u64(),
                (Some("uint32"), number) => number.as_u64().is_some_and(|n| n <= u64::from(u32::MAX)),
                (Some("uint16"), number) => number.as_u64().is_some_and(|n| n <= u64::from(u16::MAX)),
                (other, _) => return Err(format!("unknown format {other:?}")),
            },
            "$ref" => {
                let name = arg.as_str().and_then(|r| r.strip_prefix("#/$defs/")).ok_or("strange $ref")?;
                validate(&root["$defs"][name], root, value)?;
                true
            }
            "type" => {
                let is = |name: &str| match name {
                    "object" => value.is_object(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "null" => value.is_null(),
                    _ => false,
                };
                match arg {
                    Value::Array(types) => types.iter().any(|t| is(t.as_str().unwrap_or(""))),
                    arg => is(arg.as_str().unwrap_or("")),
                }
            }
            "anyOf" => arg.as_array().is_some_and(|any| any.iter().any(|s| validate(s, root, value).is_ok())),
            "oneOf" => {
                arg.as_array().is_some_and(|one| one.iter().filter(|s| validate(s, root, value).is_ok()).count() == 1)
            }
            "enum" => arg.as_array().is_some_and(|names| names.contains(value)),
            "const" => arg == value,
            "minimum" => value.as_u64().is_none_or(|n| Some(n) >= arg.as_u64()),
            "maximum" => value.as_u64().is_none_or(|n| Some(n) <= arg.as_u64()),
            "required" => {
                arg.as_array().is_some_and(|names| names.iter().all(|n| value.get(n.as_str().unwrap_or("")).is_some()))
            }
            "pattern" => value.as_str().is_none_or(|text| matches_pattern(arg.as_str().unwrap_or(""), text)),
            "properties" => {
                for (name, schema) in arg.as_object().ok_or("properties is an object")? {
                    if let Some(member) = value.get(name) {
                        validate(schema, root, member).map_err(|e| format!("{name}: {e}"))?;
                    }
                }
                // What is published leaves room for what later versions add; what this one writes is all in it.
                let known = arg.as_object().ok_or("properties is an object")?;
                value.as_object().is_none_or(|members| members.keys().all(|name| known.contains_key(name)))
            }
            other => return Err(format!("unknown rule {other}")),
        };
        if !fits {
            return Err(format!("{value} against {rule}: {arg}"));
        }
    }
    Ok(())
}

/// The patterns of the schema, written out: a test that knew no pattern would accept every one.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    match pattern {
        r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$" => text.len() == 27 && text.parse::<Utc>().is_ok(),
        "^[0-9a-f]{16}$" => text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
        "^([0-9a-f]{2}:){5}[0-9a-f]{2}$" => text.parse::<Mac>().is_ok_and(|mac| mac.to_string() == text),
        "^[A-Za-z0-9+/]*={0,2}$" => crate::record::base64_decode(text).is_some(),
        "^[ -~]*$" => text.bytes().all(|b| matches!(b, b' '..=b'~')),
        other => panic!("unknown pattern {other}"),
    }
}

fn arb_party() -> impl Strategy<Value = Party> {
    (any::<Option<IpAddr>>(), any::<[u8; 6]>(), any::<u16>()).prop_map(|(ip, mac, l4_port)| Party {
        ip: ip.into(),
        mac: Mac(mac),
        l4_port,
    })
}

fn arb_event() -> impl Strategy<Value = Event> {
    let ids = proptest::sample::select(EventId::ALL.to_vec());
    (ids, any::<u64>(), arb_party(), arb_party(), any::<u8>(), 0u16..40, any::<(u64, u64, u64)>()).prop_map(
        |(id, session, src, dst, proto, code, (count, bytes_in, bytes_out))| Event {
            session: SessionId(session),
            src,
            dst,
            proto,
            code,
            count,
            bytes_in,
            bytes_out,
            ..Event::new(id, Instant::ZERO)
        },
    )
}

proptest! {
    #[test]
    fn any_event_is_one_valid_line_that_round_trips(
        event in arb_event(),
        data in proptest::collection::vec(any::<u8>(), 0..1500),
        text in "\\PC*|[ -~\\r\\n\\t]*|[\\x00-\\x{9f}]*",
        as_text: bool,
        node in proptest::option::of("\\PC{0,12}|[\\x00-\\x{ff}]{0,12}"),
        micros: i64,
        seq: u64,
    ) {
        let data = if as_text { text.as_bytes() } else { &data };
        let record = Record::of_event(seq, Utc::from_micros(micros), node.as_deref(), &event, data);
        let line = line_of(&record);
        prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
        prop_assert!(line.len() < 8192);
        prop_assert_eq!(&serde_json::from_str::<Record>(&line).unwrap(), &record);
        let value: Value = serde_json::from_str(&line).unwrap();
        let schema = event_schema();
        prop_assert_eq!(validate(&schema, &schema, &value), Ok(()));
        for shown in [record.text.as_deref(), record.reason.as_deref()].into_iter().flatten() {
            prop_assert!(shown.chars().all(is_harmless), "{:?}", shown);
        }
        if let Some(data_text) = &record.data {
            let cut = &data[..data.len().min(event.id.most_data())];
            prop_assert_eq!(crate::record::base64_decode(data_text).unwrap(), cut);
        }
    }

    /// What a hostile switch may put into the ring: any bytes, and good ones with a few that are not.
    #[test]
    fn what_comes_from_the_ring_is_a_valid_record_or_none(
        event in arb_event(),
        noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..1200),
        junk: bool,
    ) {
        let mut bytes = if junk { Vec::new() } else { postcard::to_stdvec(&event).unwrap() };
        bytes.extend_from_slice(&tail);
        for (at, octet) in noise {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = octet;
            }
        }
        if let Some((event, data)) = crate::event::decode(&bytes) {
            let time = Utc::from_micros(event.at.total_micros());
            let record = Record::of_event(1, time, None, &event, data);
            let value: Value = serde_json::from_str(&line_of(&record)).unwrap();
            let schema = event_schema();
            prop_assert_eq!(validate(&schema, &schema, &value), Ok(()));
        }
    }

    #[test]
    fn escaped_text_is_harmless_and_nothing_is_lost(text: String) {
        let escaped = escape(&text).into_owned();
        prop_assert!(escaped.chars().all(is_harmless));
        prop_assert_eq!(unescape(&escaped), text);
    }
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next().unwrap() {
                'r' => plain.push('\r'),
                'n' => plain.push('\n'),
                't' => plain.push('\t'),
                'u' => {
                    let hex: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    plain.push(char::from_u32(u32::from_str_radix(&hex, 16).unwrap()).unwrap());
                }
                other => plain.push(other),
            },
            c => plain.push(c),
        }
    }
    plain
}

#[test]
fn the_validator_refuses_what_is_wrong() {
    let schema = event_schema();
    let good = json!({"v": 1, "seq": 1, "time": "2026-01-31T23:59:59.000000Z", "event": "tcp.probe"});
    assert_eq!(validate(&schema, &schema, &good), Ok(()));
    for (name, bad) in [
        ("v", json!(2)),
        ("time", json!("2026-01-31")),
        ("event", json!("tcp.knock")),
        ("session", json!("12")),
        ("src", json!({"mac": "x"})),
        ("answer", json!("maybe")),
        ("data", json!("%")),
        ("text", json!("\u{1b}[2J")),
        ("port", json!(1)),
    ] {
        let mut record = good.clone();
        record[name] = bad;
        assert!(validate(&schema, &schema, &record).is_err(), "{record}");
    }
}

#[test]
fn a_probe_reads_as_documented() {
    let mut event = Event::new(EventId::TcpProbe, Instant::ZERO);
    event.session = SessionId(0xabc);
    event.src =
        Party { ip: IpAddr::from([10, 0, 0, 9]).into(), mac: "00:0c:29:aa:00:11".parse().unwrap(), l4_port: 40000 };
    event.dst = Party { ip: IpAddr::from([10, 0, 0, 1]).into(), mac: Mac::ZERO, l4_port: 22 };
    event.proto = 6;
    event.code = PortAnswer::Held as u16;
    let record = Record::of_event(7, Utc::from_micros(0), Some("office"), &event, b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(
        line_of(&record),
        concat!(
            r#"{"v":1,"seq":7,"time":"1970-01-01T00:00:00.000000Z","event":"tcp.probe","session":"0000000000000abc","#,
            r#""node":"office","src":{"ip":"10.0.0.9","mac":"00:0c:29:aa:00:11","port":40000},"#,
            r#""dst":{"ip":"10.0.0.1","port":22},"proto":"tcp","answer":"held","#,
            r#""data":"R0VUIC8gSFRUUC8xLjANCg0K","text":"GET / HTTP/1.0\\r\\n\\r\\n"}"#,
            "\n"
        )
    );
}

#[test]
fn times_are_durations_and_not_counts() {
    for (id, count, duration) in [
        (EventId::TcpClose, 1, Some(1)),
        (EventId::ContainerLive, 140_000, Some(140_000)),
        (EventId::ContainerStop, 140_000, Some(140_000)),
        (EventId::ContainerFailed, 1, None),
    ] {
        let event = Event { count, ..Event::new(id, Instant::ZERO) };
        let record = Record::of_event(1, Utc::default(), None, &event, b"");
        assert_eq!((record.duration_us, record.count), (duration, None), "{id:?}");
    }
}

#[test]
fn how_connections_end_is_documented() {
    let page = include_str!("../../docs/events.md");
    let row = page.lines().find(|line| line.starts_with("| `tcp.close`")).unwrap();
    let reason = |code: u16| {
        let event = Event { code, ..Event::new(EventId::TcpClose, Instant::ZERO) };
        Record::of_event(1, Utc::default(), None, &event, b"").reason.unwrap()
    };
    for code in 0..6 {
        assert!(row.contains(&format!("`{}`", reason(code))), "{code} in {row}");
    }
    assert_eq!([reason(5).as_str(), &reason(6)], [HONEYNET_ENDED, "code-6"]);
}

#[test]
fn an_archive_is_named_apart_from_the_reason() {
    let read = |id, data: &[u8]| {
        let record = Record::of_event(1, Utc::default(), None, &Event::new(id, Instant::ZERO), data);
        (record.archive, record.reason, record.data)
    };
    let told = |archive: &str, why: &str| {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (some(archive), some(why), None)
    };
    let destroyed = EventId::ContainerDestroyed;
    assert_eq!(read(destroyed, b"a-7.tar.zst\0nobody came back"), told("a-7.tar.zst", "nobody came back"));
    assert_eq!(read(destroyed, b"\0released"), told("", "released"));
    assert_eq!(read(EventId::EvidenceTaken, b"a-7.tar.zst\0"), told("a-7.tar.zst", ""));
    assert_eq!(read(EventId::EvidenceFailed, b"\0full\x1b"), told("", "full\\u{1b}"));
    // Others say what they say.
    assert_eq!(read(EventId::ContainerStop, b"a\0b"), told("", "a\\u{0}b"));
    assert_eq!(read(EventId::ContainerStop, b""), told("", ""));
}

#[test]
fn the_published_schema_is_this_one() {
    let published = include_str!("../../docs/events.schema.json");
    let published: Value = serde_json::from_str(published).unwrap();
    let current = event_schema();
    assert!(
        published == current,
        "docs/events.schema.json is out of date; `honeyweave schema --events` prints the present one:\n{}",
        serde_json::to_string_pretty(&current).unwrap()
    );
}

#[test]
fn what_is_published_takes_records_of_other_versions() {
    let schema = event_schema();
    assert!(!schema.to_string().contains("additionalProperties"), "later versions add members");
    let file = &schema["$defs"]["container.file"];
    for path in [json!("/tmp/x"), Value::Null] {
        let object = json!({"did": "delete", "path": path, "pid": 7});
        assert_eq!(validate(file, &schema, &object), Ok(()));
        assert_eq!(super::super::details::complaint(EventId::ContainerFile, &object).is_some(), path.is_null());
    }
}

#[test]
fn every_event_and_field_is_documented() {
    let page = include_str!("../../docs/events.md");
    let rows: Vec<&str> = page.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
    for id in EventId::ALL {
        assert!(rows.contains(&id.as_str()), "docs/events.md does not describe {}", id.as_str());
    }
    let schema = event_schema();
    let fields: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    for field in &fields {
        assert!(rows.contains(&field.as_str()), "docs/events.md does not describe the field {field}");
    }
    // Options have tables, too.
    for row in rows.into_iter().filter(|row| !row.starts_with("--")) {
        let known = EventId::ALL.iter().any(|id| id.as_str() == row) || fields.iter().any(|f| *f == row);
        assert!(known, "docs/events.md describes {row}, which there is not");
    }
}

#[test]
fn port_zero_is_a_port() {
    let of = |id, proto, src, dst| {
        let mut event = Event::new(id, Instant::ZERO);
        (event.proto, event.src.l4_port, event.dst.l4_port) = (proto, src, dst);
        event.src.ip = IpAddr::from([192, 0, 2, 9]).into();
        event.dst.ip = IpAddr::from([10, 0, 0, 1]).into();
        let record = Record::of_event(1, Utc::from_micros(0), None, &event, b"");
        (record.src.and_then(|end| end.port), record.dst.and_then(|end| end.port))
    };
    assert_eq!(of(EventId::TcpProbe, 6, 40_000, 0), (Some(40_000), Some(0)));
    assert_eq!(of(EventId::UdpDatagram, 17, 0, 0), (Some(0), Some(0)));
    assert_eq!(of(EventId::SessionStart, 6, 0, 0), (None, Some(0)));
    assert_eq!(of(EventId::IcmpEcho, 1, 0, 0), (None, None));
    assert_eq!(of(EventId::SessionEnd, 0, 0, 0), (None, None));
}

proptest::proptest! {
    #[test]
    fn safe_json_is_the_same_json(text: String, key: String) {
        let value = serde_json::json!({ key: [text] });
        let safe = safe_json(&format!("{value:#}"));
        proptest::prop_assert!(safe.chars().all(|c| is_harmless(c) || c == '\n'));
        proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
