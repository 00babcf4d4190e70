//! The TLS server in the middle as a whole: a real client's handshake of which octets are wrong or missing, and whatever else comes
//! before, within and behind it; what is inside says what it likes, too. Time is virtual. However it goes, the connection has
//! one end, and what is inside is not reached in clear before there are keys.
//!
//! Who has been told of the end by one side says nothing wrong any more: where assertions are on, as they are here, rustls panics when it
//! would send an alert behind its `close_notify` (<https://github.com/rustls/rustls/issues/959>), and elsewhere it sends it.
#![no_main]

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use arbitrary::Arbitrary;
use honeyweave::emulate::{Identity, Secret};
use honeyweave::relay::tape::{Entry, Recorder, Stream};
use honeyweave::relay::tls::{Dialect, Face, Foreign, Inside, Settings, serve};
use honeyweave::service::tls::{Credentials, Leaf, Name, Owner, believer};
use honeyweave_fuzz::virtually;
use libfuzzer_sys::fuzz_target;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::time::timeout;

const WIRE: usize = 16 * 1024;
/// How long a step may take: who is not heard goes on.
const STEP: Duration = Duration::from_millis(100);
/// In which what was said is heard.
const REST: Duration = Duration::from_millis(100);
/// After both sides have gone: silence before STARTTLS, a handshake, what is inside that does not answer.
const END: Duration = Duration::from_secs(500);

#[derive(Arbitrary, Debug)]
struct Story {
    dialect: u8,
    is_inside_tls: bool,
    foreign: u8,
    asks_clients: bool,
    is_old: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// The client's octets, whatever they are.
    Client(Vec<u8>),
    /// A record with its length.
    Record(u8, Vec<u8>),
    /// What the client's TLS says next; an octet of it is another one, or it ends there.
    Flight(Option<(u16, u8, bool)>),
    /// What the client says within TLS.
    Say(Vec<u8>),
    /// A line with which TLS begins in protocols where that is later.
    Upgrade,
    /// What is inside says.
    Inside(Vec<u8>),
    /// So many seconds pass.
    Wait(u8),
    /// Either side ends.
    ClientEnds,
    InsideEnds,
}

fn face(asks_clients: bool) -> Face {
    let subject = Name { common_name: "{sni}".into(), ..Name::default() };
    let owner = Owner { ip: [192, 0, 2, 1].into(), name: "web01".into(), service: 0 };
    let identity = Identity::new(Secret([7; 16]), "web");
    let credentials = Credentials::Own(Box::new(Leaf { subject, ..Leaf::default() }));
    Face::new(identity, owner, credentials, asks_clients, true, Arc::new(|| 1_800_000_000)).expect("a face")
}

fn client(is_old: bool) -> ClientConnection {
    static CONFIGS: LazyLock<[Arc<ClientConfig>; 2]> = LazyLock::new(|| {
        [&rustls::version::TLS13, &rustls::version::TLS12].map(|version| {
            let mut config = believer(&[version]).expect("a version");
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        })
    });
    let name = "shop.example.org".try_into().expect("a name");
    ClientConnection::new(CONFIGS[usize::from(is_old)].clone(), name).expect("a client")
}

/// The client's end, and what it hears.
struct Client {
    wire: Option<DuplexStream>,
    tls: ClientConnection,
}

impl Client {
    /// Hears what there is. The client's TLS may have failed: then it hears nothing more.
    async fn hear(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        let mut piece = [0; 4096];
        // It comes at once, or not at all.
        while let Ok(Ok(count @ 1..)) = timeout(Duration::from_millis(1), wire.read(&mut piece)).await {
            let mut rest = &piece[..count];
            while !rest.is_empty() && matches!(self.tls.read_tls(&mut rest), Ok(1..)) {
                if self.tls.process_new_packets().is_err() {
                    break;
                }
                let _ = io::copy(&mut self.tls.reader(), &mut io::sink());
            }
        }
    }

    async fn say(&mut self, octets: &[u8]) {
        if let Some(wire) = &mut self.wire {
            let _ = timeout(STEP, wire.write_all(octets)).await;
        }
    }

    fn flight(&mut self) -> Vec<u8> {
        let mut flight = Vec::new();
        while self.tls.wants_write() && self.tls.write_tls(&mut flight).is_ok() {}
        flight
    }
}

/// What is inside: it takes everything.
type Service = Arc<Mutex<Option<tokio::io::WriteHalf<DuplexStream>>>>;

fuzz_target!(|story: Story| {
    let starttls = match story.dialect % 6 {
        0 => Some(Dialect::Smtp),
        1 => Some(Dialect::Imap),
        2 => Some(Dialect::Pop3),
        3 => Some(Dialect::Ftp),
        4 => Some(Dialect::Postgres),
        _ => None,
    };
    let foreign = match story.foreign % 3 {
        0 => Foreign::Pass,
        1 => Foreign::Close,
        _ => Foreign::Web("nginx/1.22.1".into()),
    };
    let passes = starttls.is_some() || foreign == Foreign::Pass || story.is_inside_tls;
    let settings = Settings {
        face: face(story.asks_clients),
        inside: if story.is_inside_tls { Inside::Tls } else { Inside::Clear },
        starttls,
        foreign,
        alpn: vec!["http/1.1".into()],
    };
    let told = virtually(async {
        let tape = Arc::<Mutex<Vec<(u64, Entry)>>>::default();
        let service = Service::default();
        let opened = service.clone();
        let seen = tape.clone();
        let dial = move || async move {
            let is_agreed = seen.lock().unwrap().iter().any(|(_, entry)| matches!(entry, Entry::TlsAgreed { .. }));
            assert!(is_agreed || passes, "it is reached before there are keys");
            let (ours, theirs) = duplex(WIRE);
            let (mut from, to) = split(theirs);
            tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
            *opened.lock().unwrap() = Some(to);
            Ok(ours)
        };
        let (wire, stream) = duplex(WIRE);
        let recorder = Recorder::new(tape.clone(), Arc::new(|| 0));
        let served = tokio::spawn(serve(Arc::new(settings), stream, dial, recorder));
        let mut client = Client { wire: Some(wire), tls: client(story.is_old) };
        for step in story.steps.iter().take(64) {
            client.hear().await;
            match step {
                Step::Client(octets) => client.say(octets).await,
                Step::Record(kind, payload) => {
                    let payload = &payload[..payload.len().min(1 << 14)];
                    let length = (payload.len() as u16).to_be_bytes();
                    client.say(&[&[*kind, 3, 3][..], &length, payload].concat()).await;
                }
                Step::Flight(wrong) => {
                    let mut flight = client.flight();
                    if let Some((at, flip, is_cut)) = wrong
                        && !flight.is_empty()
                    {
                        let at = usize::from(*at) % flight.len();
                        match is_cut {
                            true => flight.truncate(at),
                            false => flight[at] ^= flip,
                        }
                    }
                    client.say(&flight).await;
                }
                Step::Say(octets) => {
                    let _ = client.tls.writer().write_all(octets);
                    let flight = client.flight();
                    client.say(&flight).await;
                }
                Step::Upgrade => {
                    let line: &[u8] = match starttls {
                        Some(Dialect::Smtp) => b"STARTTLS\r\n",
                        Some(Dialect::Imap) => b"a STARTTLS\r\n",
                        Some(Dialect::Pop3) => b"STLS\r\n",
                        Some(Dialect::Ftp) => b"AUTH TLS\r\n",
                        _ => &[0, 0, 0, 8, 4, 210, 22, 47],
                    };
                    client.say(line).await;
                }
                Step::Inside(octets) if client.wire.is_some() || !story.is_inside_tls => {
                    let to = service.lock().unwrap().take();
                    if let Some(mut to) = to {
                        let _ = timeout(STEP, to.write_all(octets)).await;
                        *service.lock().unwrap() = Some(to);
                    }
                }
                Step::Inside(_) => {}
                Step::Wait(seconds) => tokio::time::sleep(Duration::from_secs((*seconds).into())).await,
                Step::ClientEnds => {
                    tokio::time::sleep(REST).await;
                    client.wire = None;
                }
                Step::InsideEnds => {
                    tokio::time::sleep(REST).await;
                    let to = service.lock().unwrap().take();
                    if let Some(mut to) = to {
                        let _ = to.shutdown().await;
                        client.hear().await;
                        client.wire = None;
                    }
                }
            }
        }
        // Both machines are gone.
        tokio::time::sleep(REST).await;
        client.wire = None;
        tokio::time::sleep(REST).await;
        let ending = async {
            let mut served = served;
            loop {
                let to = service.lock().unwrap().take();
                if let Some(mut to) = to {
                    let _ = to.shutdown().await;
                }
                if let Ok(ended) = timeout(Duration::from_secs(1), &mut served).await {
                    return ended;
                }
            }
        };
        timeout(END, ending).await.expect("it has an end").expect("it does not panic");
        let told = tape.lock().unwrap();
        told.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>()
    });
    assert!(matches!(told.last(), Some(Entry::End { .. })), "{told:?}");
    assert_eq!(told.iter().filter(|entry| matches!(entry, Entry::End { .. })).count(), 1, "{told:?}");
    // What is told came from somebody.
    let input = told.iter().filter(|entry| matches!(entry, Entry::Data { stream: Stream::Input, .. })).count();
    assert!(input <= 2048, "{input} pieces");
});
