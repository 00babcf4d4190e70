//! Log-ins by mail in all their forms, and that they are no commands.

use proptest::prelude::*;

use super::tests::{IN, OUT, check, told};
use super::{Spoken, Stream};

#[test]
fn log_ins_that_are_not_waited_for() {
    check(
        Spoken::Pop3,
        &[
            (OUT, b"+OK\r\n"),
            (IN, b"USER a\r\nPASS b\r\nUSER c\r\nPASS d\r\nNOOP\r\n"),
            (OUT, b"+OK\r\n-ERR\r\n+OK\r\n"),
            (OUT, b"-ERR no\r\n+OK\r\n"),
        ],
        &[
            "< +OK",
            "> USER a",
            "a:b false",
            "> USER c",
            "> NOOP",
            "< +OK",
            "< -ERR",
            "< +OK",
            "c:d false",
            "< -ERR no",
            "< +OK",
        ],
    );
    check(
        Spoken::Ftp,
        &[
            (OUT, b"220 ftp\r\n"),
            (IN, b"USER a\r\nPASS b\r\n"),
            (OUT, b"331-we have\r\n3 rules\r\n331 password\r\n230 in\r\n"),
            (IN, b"RETR x\r\nUSER c\r\nPASS d\r\n"),
            (OUT, b"150 here\r\n226 done\r\n331 password\r\n530 no\r\n"),
        ],
        &[
            "< 220 ftp",
            "> USER a",
            "< 331-we have",
            "< 3 rules",
            "< 331 password",
            "a:b true",
            "< 230 in",
            "> RETR x",
            "> USER c",
            "< 150 here",
            "< 226 done",
            "< 331 password",
            "c:d false",
            "< 530 no",
        ],
    );
    check(
        Spoken::Imap,
        &[(IN, b"\r\na LOGIN x y\r\nb LOGIN x z\r\n"), (OUT, b"* BAD empty\r\na NO no\r\nb OK in\r\n")],
        &["x:y false", "< * BAD empty", "< a NO no", "x:z true", "< b OK in"],
    );
    // Before the greeting has come.
    check(
        Spoken::Pop3,
        &[(IN, b"USER a\r\nPASS b\r\n"), (OUT, b"+OK ready\r\n+OK\r\n-ERR no\r\n")],
        &["> USER a", "< +OK ready", "< +OK", "a:b false", "< -ERR no"],
    );
    check(
        Spoken::Smtp,
        &[
            (IN, b"EHLO x\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\n"),
            (OUT, b"220-mail\r\n220 mail\r\n250-mail\r\n250 AUTH\r\n535 no\r\n"),
        ],
        &[
            "> EHLO x",
            "> AUTH PLAIN",
            "< 220-mail",
            "< 220 mail",
            "< 250-mail",
            "< 250 AUTH",
            "user:secret false",
            "< 535 no",
        ],
    );
}

#[test]
fn what_was_refused_and_is_said_all_the_same() {
    check(
        Spoken::Smtp,
        &[
            (OUT, b"220 mail\r\n"),
            (IN, b"AUTH LOGIN\r\n"),
            (OUT, b"503 not enabled\r\n"),
            (IN, b"cm9vdA==\r\n"),
            (OUT, b"502 what\r\n"),
            (IN, b"cGFzc3dvcmQ=\r\n"),
            (OUT, b"502 what\r\n"),
            (IN, b"AUTH LOGIN\r\n"),
            (OUT, b"503 not enabled\r\n"),
            (IN, b"noop\r\n"),
            (OUT, b"250 yes\r\n"),
        ],
        &[
            "< 220 mail",
            "> AUTH LOGIN",
            "< 503 not enabled",
            "< 502 what",
            "root:password false",
            "< 502 what",
            "> AUTH LOGIN",
            "< 503 not enabled",
            "> noop",
            "< 250 yes",
        ],
    );
    // Which ways there are is no log-in.
    check(
        Spoken::Pop3,
        &[
            (OUT, b"+OK\r\n"),
            (IN, b"AUTH\r\n"),
            (OUT, b"+OK\r\nPLAIN\r\n.\r\n"),
            (IN, b"USER a\r\n"),
            (OUT, b"+OK\r\n"),
            (IN, b"PASS b\r\n"),
            (OUT, b"-ERR no\r\n"),
        ],
        &["< +OK", "> AUTH ", "< +OK", "< PLAIN", "< .", "> USER a", "< +OK", "a:b false", "< -ERR no"],
    );
    check(
        Spoken::Imap,
        &[
            (IN, b"a LOGIN root pass{8}\r\n"),
            (OUT, b"a NO no\r\n"),
            (IN, b"b LOGIN root {4}\r\n"),
            (OUT, b"b NO not so\r\n"),
            (IN, b"c NOOP\r\nd LOGIN root {+4}\r\n"),
            (OUT, b"c OK\r\nd BAD\r\n"),
            (IN, b"e LOGIN root {4+}\r\n"),
            (OUT, b"e NO too long\r\n"),
            (IN, b"toor\r\nf NOOP\r\n"),
        ],
        &[
            "root:pass{8} false",
            "< a NO no",
            "root: false",
            "< b NO not so",
            "> NOOP",
            "< c OK",
            "root:{+4} false",
            "< d BAD",
            "< e NO too long",
            "> NOOP",
            "root:toor false",
        ],
    );
}

#[test]
fn log_ins_in_other_words() {
    check(
        Spoken::Imap,
        &[
            (IN, b"a LOGIN {6}\r\n"),
            (OUT, b"+ go\r\n"),
            (IN, b"sv\r\ngt {6+}\r\na b \"c\r\n"),
            (OUT, b"a NO no\r\n"),
            (IN, b"b LOGIN \"x y\" \"a\\\"\\\\ b\"\r\nc LOGIN {4}\r\n"),
            (OUT, b"b OK in\r\nc BAD too long\r\n"),
            (IN, b"d APPEND INBOX (\\Seen) {300}\r\n"),
            (OUT, b"+ go\r\n"),
            (IN, &[&[b'\n'; 300][..], b"\r\ne SEARCH SUBJECT {0}\r\n\r\nf LOGIN z {4}\r\nhu"].concat()),
        ],
        &[
            "< + go",
            r#"sv\x0d\x0agt:a b "c false"#,
            "< a NO no",
            r#"x y:a"\\ b true"#,
            "< b OK in",
            "< c BAD too long",
            "< + go",
            r#"> APPEND INBOX (\\Seen) {300}"#,
            r#"> SEARCH SUBJECT """#,
            "z:hu false",
        ],
    );
    check(
        Spoken::Imap,
        &[
            (IN, b"a AUTHENTICATE XOAUTH2 dG9rZW4=\r\n"),
            (OUT, b"+ e30=\r\n"),
            (IN, b"AQ==\r\n"),
            (OUT, b"a NO no\r\n"),
            (IN, b"b AUTHENTICATE PLAIN\r\n"),
            (OUT, b"b NO not so\r\n"),
            (IN, b"c NOOP\r\nd LOGIN anna gehe"),
        ],
        &[
            "> AUTHENTICATE XOAUTH2",
            "< + e30=",
            " xoauth2 dG9rZW4= AQ== false",
            "< a NO no",
            "> AUTHENTICATE PLAIN",
            "< b NO not so",
            "> NOOP",
            "anna:gehe false",
        ],
    );
    check(
        Spoken::Smtp,
        &[
            (OUT, b"220 mail\r\n"),
            (IN, b"AUTH CRAM-MD5\r\n"),
            (OUT, b"334 PDE+\r\n"),
            (IN, b"YW5uYSAwMA==\r\n"),
            (OUT, b"235 in\r\n"),
            (IN, b"AUTH LOGIN\r\n"),
            (OUT, b"334 VXNlcg==\r\n"),
            (IN, b"*\r\nNOOP\r\n"),
        ],
        &[
            "< 220 mail",
            "> AUTH CRAM-MD5",
            "< 334 PDE+",
            " cram-md5 YW5uYSAwMA== true",
            "< 235 in",
            "> AUTH LOGIN",
            "< 334 VXNlcg==",
            "> NOOP",
        ],
    );
    check(
        Spoken::Pop3,
        &[
            (OUT, b"+OK <1@x>\r\n"),
            (IN, b"APOP anna c4c9334b\r\n"),
            (OUT, b"-ERR no\r\n"),
            (IN, b"USER anna\r\nPASS gehe"),
        ],
        &["< +OK <1@x>", "anna apop c4c9334b false", "< -ERR no", "> USER anna", "anna:gehe false"],
    );
    check(
        Spoken::Ftp,
        &[(IN, b"AUTH TLS\r\n"), (OUT, b"504 no\r\n"), (IN, b"SYST\r\n")],
        &["> AUTH TLS", "< 504 no", "> SYST"],
    );
}

#[test]
fn endless_literals_take_no_memory() {
    let many: Vec<u8> = (0..20_000).flat_map(|_| *b"{0}\r\n{3+}\r\n\"\\\"").collect();
    let said = told(Spoken::Imap, &[(IN, b"a "), (IN, &many), (IN, b"\r\nb NOOP\r\n")], usize::MAX);
    assert!(said.len() == 2 && said[0].len() < 4 * 1024 * 4 && said[1] == "> NOOP", "{said:?}");
}

proptest! {
    #[test]
    fn mail_is_read_the_same_in_pieces(
        imap in any::<bool>(),
        turns in prop::collection::vec((any::<bool>(), prop::collection::vec(0..WORDS.len(), 0..24)), 0..8),
        piece in 1usize..6,
    ) {
        let said: Vec<(Stream, Vec<u8>)> = turns
            .iter()
            .map(|(input, words)| (if *input { IN } else { OUT }, words.iter().flat_map(|at| WORDS[*at].bytes()).collect()))
            .collect();
        let turns: Vec<(Stream, &[u8])> = said.iter().map(|(from, octets)| (*from, octets.as_slice())).collect();
        let spoken = if imap { Spoken::Imap } else { Spoken::Smtp };
        prop_assert_eq!(told(spoken, &turns, usize::MAX), told(spoken, &turns, piece));
    }
}

/// What log-ins by mail are made of.
const WORDS: [&str; 16] = [
    "\r\n",
    "\r\n",
    "a LOGIN ",
    "a NO",
    "a OK",
    "+ ",
    "334 ",
    "235 ",
    "535 ",
    "{3}\r\n",
    "{0+}\r\n",
    "\"",
    "\\",
    " x",
    "*",
    "AUTH LOGIN",
];
