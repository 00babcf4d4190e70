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

#[tokio::test]
async fn what_panics_has_an_end_on_its_tape() {
    let (to_console, mut told) = mpsc::channel(8);
    let tape = Told { conn: 7, to_console };
    let clock: Clock = Arc::new(|| 42);
    to_the_end(async { panic!("this is a test") }, &tape, &clock).await;
    let expected = Entry::End { reason: Text::new("failed") };
    match told.try_recv() {
        Ok(ToConsole::Tape { conn: 7, word: Word::Entry(42, entry) }) => assert_eq!(entry, expected),
        other => panic!("{other:?}"),
    }
    // Whoever ends well says so itself.
    to_the_end(async {}, &tape, &clock).await;
    assert!(told.try_recv().is_err());
}
