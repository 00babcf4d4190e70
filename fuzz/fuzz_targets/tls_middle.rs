//! The beginning of protocols in which TLS begins later, as both sides could have written it: nothing is lost or put in, and
//! what waits is little. Lines are split as a fuzzer likes.
#![no_main]

use bytes::BytesMut;
use honeyweave::relay::tls::{Dialect, Said, Talk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, bool, Vec<(bool, Vec<u8>)>)| {
    let (dialect, announces, story) = input;
    let dialect = [Dialect::Smtp, Dialect::Imap, Dialect::Pop3, Dialect::Ftp][usize::from(dialect % 4)];
    let mut talk = Talk::new(dialect, announces);
    let (mut client, mut server) = (BytesMut::new(), BytesMut::new());
    for (is_client, octets) in story {
        if is_client {
            client.extend_from_slice(&octets);
        } else {
            server.extend_from_slice(&octets);
        }
        let before = client.clone();
        let mut passed = 0;
        while let Some((piece, said)) = talk.take(&mut client) {
            assert!(!piece.is_empty());
            assert_eq!(piece, before[passed..passed + piece.len()]);
            passed += piece.len();
            if said == Said::Upgrade {
                assert!(piece.ends_with(b"\n"));
                let agreed = talk.agree();
                assert!(agreed.ends_with(b"\r\n") && agreed.len() <= 8192 + 64);
            }
        }
        let before = server.clone();
        let mut passed = 0;
        while let Some(answer) = talk.answered(&mut server) {
            assert_eq!(answer.data, before[passed..passed + answer.data.len()]);
            passed += answer.data.len();
            assert!(answer.shown.is_none_or(|shown| announces && shown.len() <= answer.data.len() + 32));
        }
        assert!(server.len() < 8192, "{} octets of a server wait", server.len());
    }
});
