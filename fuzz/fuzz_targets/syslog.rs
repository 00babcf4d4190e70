//! What somebody in a container says to its log: all of it is told, bounded and harmless, whatever form it has.
#![no_main]

use honeyweave::container::Lessee;
use honeyweave::event::{EventId, MAX_DATA, SessionId};
use honeyweave::node::NodeIdx;
use honeyweave::record::syslog::{Login, Message, Telling};
use honeyweave::wire::Mac;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fuzz_target!(|data: &[u8]| {
    let message = Message::parse(data);
    assert!(message.tag.len() <= 64 && message.tag.iter().all(u8::is_ascii_graphic), "{message:?}");
    // Nothing but line feeds and zeros is behind what was said.
    let end = data.iter().rposition(|octet| !matches!(octet, 0 | b'\n')).map_or(0, |last| last + 1);
    assert!(data[..end].ends_with(message.text), "{message:?}");
    let login = Login::of(&message);
    // Who it is about is named as it was said.
    for part in login.iter().flat_map(|login| [login.user, login.by]).flatten() {
        let is_said = part.is_empty() || message.text.windows(part.len()).any(|text| text == part);
        assert!(is_said || part == b"root", "{message:?} {login:?}");
    }
    let of = Lessee {
        node: NodeIdx(3),
        host: [10, 0, 0, 5].into(),
        mac: Mac([2, 0, 0, 0, 0, 5]),
        session: Some(SessionId(7)),
        attacker: Some([192, 0, 2, 9].into()),
    };
    let said = Telling::new(0).tell(data, &of, 1).expect("there is a budget");
    assert!(said.data.len() <= MAX_DATA && said.data.iter().all(|octet| matches!(octet, b' '..=b'~')), "{said:?}");
    assert_eq!(said.event.id == EventId::ContainerLogin, login.is_some());
    let object: Map<String, Value> = serde_json::from_slice(&said.data).expect("an object");
    assert_eq!(object["severity"], message.severity);
    assert!(
        object["text"].is_string() && object.contains_key("user") == login.is_some_and(|login| login.user.is_some())
    );
});
