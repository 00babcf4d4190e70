//! Entries as others read them.

use super::*;

#[test]
fn an_entry_reads_as_it_was_written() {
    let attempt = Entry::Attempt {
        user: Text::new("root"),
        credential: Credential::Password { password: Text::new("123456") },
        accepted: false,
    };
    let json = serde_json::to_string(&attempt).unwrap();
    assert_eq!(json, r#"{"attempt":{"user":"root","credential":{"password":{"password":"123456"}},"accepted":false}}"#);
    assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), attempt);
    // Between processes.
    let octets = postcard::to_stdvec(&attempt).unwrap();
    assert_eq!(postcard::from_bytes::<Entry>(&octets).unwrap(), attempt);
    assert!(size_of::<Entry>() <= 192, "{}", size_of::<Entry>());
}

#[tokio::test]
async fn data_is_put_in_pieces() {
    let tape = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder::new(tape.clone(), Arc::new(|| 7));
    recorder.data(3, Stream::Output, &Bytes::from(vec![b'x'; PIECE + 1])).await;
    let sizes: Vec<_> = tape
        .lock()
        .unwrap()
        .iter()
        .map(|(at, entry)| match entry {
            Entry::Data { channel: 3, stream: Stream::Output, data } => (*at, data.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sizes, [(7, PIECE), (7, 1)]);
}
