//! Connections in the clear, from who is in the middle to what is kept.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::relay::plain::{Settings, serve};
use crate::relay::tape::Recorder;
use crate::service::Spoken;

const MEGABYTE: usize = 1_000_000;

/// What is told of a connection in which both sides say something, and hear it.
fn told(spoken: Spoken, keep: u64, said: [&[u8]; 2]) -> Vec<Entry> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tape = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder::new(tape.clone(), Arc::new(|| 1));
    runtime.block_on(async {
        let (attacker, outside) = tokio::io::duplex(1 << 16);
        let (server, inside) = tokio::io::duplex(1 << 16);
        let settings = Settings { spoken, within: false, keep };
        let served = serve(settings, outside, move || std::future::ready(Ok(inside)), recorder);
        let talk = async |mut end: DuplexStream, says: &[u8], hears: &[u8]| {
            let (mut reading, mut writing) = tokio::io::split(&mut end);
            let mut heard = Vec::new();
            let speaking = async {
                writing.write_all(says).await.unwrap();
                writing.shutdown().await.unwrap();
            };
            tokio::join!(speaking, async { reading.read_to_end(&mut heard).await.unwrap() });
            assert!(heard == hears, "{} octets of {}", heard.len(), hears.len());
        };
        tokio::join!(served, talk(attacker, said[0], said[1]), talk(server, said[1], said[0]));
    });
    let told = std::mem::take(&mut *tape.lock().unwrap());
    told.into_iter().map(|(_, entry)| entry).collect()
}

/// Has it recorded.
fn recorded(spoken: Spoken, told: Vec<Entry>, redacts: bool) -> Lab {
    let limits = TapeLimits::default();
    let limits = if redacts { TapeLimits { stream: 0, plain: 0, ..limits } } else { limits };
    let mut lab = Lab::with(limits, redacts);
    lab.tapes.take(7, Word::Begin(begin(spoken)), utc(0));
    told.into_iter().for_each(|entry| lab.put(7, 2, entry));
    lab
}

fn begin(spoken: Spoken) -> Begin {
    Begin {
        protocol: Protocol::Plain(spoken),
        session: SESSION,
        node: NodeIdx(1),
        peer: "192.0.2.9:40000".parse().unwrap(),
        local: "10.0.0.1:9000".parse().unwrap(),
        at: utc(0),
    }
}

/// What is kept of each direction, and the last line.
fn kept(lab: &Lab) -> ([Vec<u8>; 2], Value) {
    let mut kept = [Vec::new(), Vec::new()];
    let mut lines = lines(&lab.file(".octets"));
    for line in &lines {
        if let Some(data) = line["data"].as_str() {
            kept[usize::from(line["stream"] != "input")].extend(crate::record::base64::decode(data).unwrap());
        }
    }
    (kept, lines.pop().unwrap())
}

fn noise(count: usize) -> Vec<u8> {
    (0..count as u32).map(|n| (n ^ (n >> 8) ^ (n >> 15)) as u8).collect()
}

#[test]
fn of_each_direction_there_is_what_the_topology_says() {
    let (input, output) = (noise(3 * MEGABYTE), noise(3 * MEGABYTE + 7));
    for keep in [4 << 20, 1 << 20] {
        let told = told(Spoken::Raw, keep, [&input, &output]);
        let lab = recorded(Spoken::Raw, told, false);
        let (there, last) = kept(&lab);
        let most = usize::try_from(keep).unwrap();
        assert!(there[0] == input[..most.min(input.len())], "{keep}: {}", there[0].len());
        assert!(there[1] == output[..most.min(output.len())], "{keep}: {}", there[1].len());
        // The rest is counted.
        let more = [&input, &output].map(|said| said.len().saturating_sub(most));
        assert_eq!(last["more"], json!({"input": more[0], "output": more[1], "error": 0}));
        let total = lines(&lab.file(TAPE)).pop().unwrap()["total"].clone();
        assert_eq!((&total["input"], &total["output"]), (&json!(input.len()), &json!(output.len())));
        assert_eq!(total["lost"], more[0] + more[1]);
        assert_eq!(connection(&lab.file(TAPE)).unwrap().lost, (more[0] + more[1]) as u64);
    }
}

#[test]
fn small_pieces_do_not_fill_the_disk() {
    let mut lab = recorded(Spoken::Raw, vec![Entry::Opened { channel: 0, kind: ChannelKind::Stream }], false);
    for _ in 0..200_000 {
        lab.put(7, 2, data(0, Stream::Input, b"x"));
    }
    // What comes in large ones then has room again.
    for _ in 0..100 {
        lab.put(7, 2, data(0, Stream::Output, &[0xff; 16 << 10]));
    }
    lab.end(7, 3);
    let length = fs::metadata(lab.file(".octets")).unwrap().len();
    let ([input, output], last) = kept(&lab);
    assert!(length < 6 << 20, "{length}");
    assert_eq!(input.len() as u64 + last["more"]["input"].as_u64().unwrap(), 200_000);
    assert_eq!(output.len() as u64 + last["more"]["output"].as_u64().unwrap(), 100 << 14);
    assert!((30_000..60_000).contains(&input.len()) && output.len() == 100 << 14, "{} and {}", input.len(), output.len());
}

#[test]
fn nothing_that_is_said_to_be_missing_is_too_much() {
    let mut lab = recorded(Spoken::Raw, vec![Entry::Opened { channel: 0, kind: ChannelKind::Stream }], false);
    for channel in [0, 0, 9] {
        lab.put(7, 2, Entry::Beyond { channel, stream: Stream::Output, octets: u64::MAX });
    }
    lab.put(7, 2, data(9, Stream::Input, b"of nobody"));
    lab.end(7, 3);
    let total = lines(&lab.file(TAPE)).pop().unwrap()["total"].clone();
    assert_eq!((&total["lost"], &total["output"]), (&json!(u64::MAX), &json!(u64::MAX)));
}
