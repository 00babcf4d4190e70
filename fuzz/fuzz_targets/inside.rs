//! What programs of the kernel's tell of a container: whoever is inside chooses the names and arguments, and how many. Each
//! record is read as it was written, and what is told of it is bounded, harmless, and says what was done.
#![no_main]

use arbitrary::Arbitrary;
use honeyweave::container::Lessee;
use honeyweave::event::{EventId, MAX_DATA, SessionId};
use honeyweave::node::NodeIdx;
use honeyweave::record::inside::Telling;
use honeyweave::sys::inside::Happened;
use honeyweave::wire::Mac;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

/// Octets of a record without its strings, of its first string and of its second, as the programs write them.
const HEAD: usize = 104;
const PATH: usize = 512;
const REST: usize = 1024;

#[derive(Arbitrary, Debug)]
struct Made {
    kind: u8,
    process: u8,
    number: u32,
    name: [u8; 16],
    origin: (u16, u16, [u8; 16]),
    flags: u64,
    result: u8,
    path: Text,
    rest: Text,
}

/// Strings that an attacker may have chosen.
#[derive(Arbitrary, Debug)]
enum Text {
    Octets(Vec<u8>),
    Letters(Vec<String>),
    Repeated(char, u8, u8),
}

#[derive(Arbitrary, Debug)]
enum Input {
    Raw(Vec<u8>),
    Made(Vec<Made>),
}

impl Text {
    fn octets(&self, most: usize) -> Vec<u8> {
        let mut octets = match self {
            Text::Octets(octets) => octets.clone(),
            Text::Letters(words) => words.iter().flat_map(|word| word.bytes().chain([0])).collect(),
            Text::Repeated(c, length, count) => {
                format!("{}\0", c.to_string().repeat(usize::from(length % 16))).repeat(usize::from(*count)).into()
            }
        };
        octets.truncate(most);
        octets
    }
}

impl Made {
    fn record(&self) -> Vec<u8> {
        let (path, rest) = (self.path.octets(PATH), self.rest.octets(REST));
        let (family, port, address) = self.origin;
        let mut record = Vec::with_capacity(HEAD + path.len() + rest.len());
        for long in [1, 5_000_000_000u64] {
            record.extend(long.to_ne_bytes());
        }
        for word in [u32::from(self.kind % 16), 1_000_000, u32::from(self.process), 40, 39, self.number] {
            record.extend(word.to_ne_bytes());
        }
        record.extend(self.name);
        record.extend((family % 12).to_ne_bytes());
        record.extend(port.to_ne_bytes());
        record.extend([0; 4]);
        record.extend(address);
        record.extend(self.flags.to_ne_bytes());
        record.extend(u64::from(self.result).to_ne_bytes());
        record.extend((path.len() as u32).to_ne_bytes());
        record.extend((rest.len() as u32).to_ne_bytes());
        assert_eq!(record.len(), HEAD);
        [record, path, rest].concat()
    }
}

fuzz_target!(|input: Input| {
    let records = match &input {
        Input::Raw(record) => vec![record.clone()],
        Input::Made(all) => all.iter().map(Made::record).collect(),
    };
    let of = Lessee {
        node: NodeIdx(3),
        host: [10, 0, 0, 5].into(),
        mac: Mac([2, 0, 0, 0, 0, 5]),
        session: Some(SessionId(7)),
        attacker: Some([192, 0, 2, 9].into()),
    };
    let mut telling = Telling::default();
    for record in &records {
        let Some(happened) = Happened::parse(record) else { continue };
        let (arguments, _) = happened.arguments();
        assert!(arguments.len() <= happened.rest.len() + 1);
        let _ = (happened.code(), happened.end());
        let Some(said) = telling.tell(&happened, &of) else { continue };
        assert!(said.data.len() <= MAX_DATA && said.data.iter().all(|octet| matches!(octet, b' '..=b'~')), "{said:?}");
        let object: Map<String, Value> = serde_json::from_slice(&said.data).expect("an object");
        assert!(object.contains_key("uid"), "{object:?} of {happened:?}");
        match said.event.id {
            EventId::ContainerExec => assert!(object["path"].is_string() && object["args"].is_array()),
            EventId::ContainerFile => assert!(object["did"].is_string() && object.contains_key("path")),
            EventId::ContainerExit => assert!(object.contains_key("code") || object.contains_key("killed")),
            EventId::ContainerConnect | EventId::ContainerListen => assert!(object.contains_key("port")),
            other => panic!("{other:?}"),
        }
    }
});
