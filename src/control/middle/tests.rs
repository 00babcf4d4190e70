//! Who is one too many, and connections that end badly.

use super::*;

fn there(addresses: &[(&str, usize)], peer: &str) -> Option<String> {
    let all = addresses.iter().flat_map(|(ip, n)| std::iter::repeat_n(ip.parse().unwrap(), *n));
    surplus(all, peer.parse().unwrap())
}

#[test]
fn one_network_takes_no_more_than_a_quarter() {
    assert_eq!(there(&[], "192.0.2.1"), None);
    assert_eq!(there(&[("192.0.2.1", SHARE - 1)], "192.0.2.1"), None);
    let why = there(&[("192.0.2.1", SHARE / 2), ("192.0.2.255", SHARE / 2)], "192.0.2.7").unwrap();
    assert!(why.contains("from one network"), "{why}");
    // Their neighbors still come in, and those of another family.
    assert_eq!(there(&[("192.0.2.1", SHARE)], "192.0.3.1"), None);
    assert_eq!(there(&[("192.0.2.1", SHARE), ("2001:db8::1", SHARE - 1)], "2001:db8::ffff:1"), None);
    assert!(there(&[("2001:db8::1", SHARE)], "2001:db8::ffff:1").is_some());
    assert_eq!(there(&[("2001:db8::1", SHARE)], "2001:db8:0:1::1"), None);
    // And all together have an end, too.
    let all: Vec<_> = ["10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.3.1"].map(|ip| (ip, SHARE)).into();
    assert_eq!(there(&all, "192.0.2.1").as_deref(), Some("too many connections have somebody in the middle"));
}

fn begin() -> Begin {
    Begin {
        protocol: Protocol::Ssh,
        session: SessionId(1),
        node: NodeIdx(0),
        peer: "192.0.2.9:40000".parse().unwrap(),
        local: "10.0.0.1:22".parse().unwrap(),
        at: Utc::EPOCH,
    }
}

#[tokio::test]
async fn a_console_that_follows_another_is_told_what_there_is() {
    let (middles, mut told) = Middles::new(Secret([7; 16]), HostKeys::start().unwrap());
    let tape = Told::new(7, begin(), middles.consoles.clone(), middles.to_console.clone());
    lock(&middles.open).insert(7, begin());
    let mut heard = async |tape: Option<&Told>| {
        if let Some(tape) = tape {
            tape.put(42, Entry::Secret { channel: 3, begins: true }).await;
        }
        let mut all = Vec::new();
        // What tells of them is a task of its own.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        while let Ok(message) = told.try_recv() {
            all.push(match message {
                ToConsole::Tape { conn: 7, word: Word::Begin(again) } if again == begin() => "begin",
                ToConsole::Tape { conn: 7, word: Word::Entry(42, Entry::Secret { channel: 3, begins: true }) } => {
                    "entry"
                }
                ToConsole::Open { conns } if conns == [7] => "open",
                other => panic!("{other:?}"),
            });
        }
        all
    };
    assert_eq!(heard(Some(&tape)).await, ["entry"]);
    middles.say_again();
    assert_eq!(heard(None).await, ["open"]);
    // And whether somebody types a password.
    assert_eq!(heard(Some(&tape)).await, ["begin", "entry", "entry"]);
    assert_eq!(heard(Some(&tape)).await, ["entry"]);
}

#[tokio::test]
async fn what_panics_has_an_end_on_its_tape() {
    let (to_console, mut told) = mpsc::channel(8);
    let tape = Told::new(7, begin(), Arc::default(), to_console);
    let clock: Clock = Arc::new(|| 42);
    to_the_end(async { panic!("this is a test") }, &tape, &clock).await;
    let expected = Reason::Failed.end();
    match told.try_recv() {
        Ok(ToConsole::Tape { conn: 7, word: Word::Entry(42, entry) }) => assert_eq!(entry, expected),
        other => panic!("{other:?}"),
    }
    // Whoever ends well says so itself.
    to_the_end(async {}, &tape, &clock).await;
    assert!(told.try_recv().is_err());
}
