//! Protocols before TLS, line by line.

use bytes::BytesMut;
use proptest::prelude::*;

use crate::relay::tls::{Dialect, Said, Talk};

/// A conversation of which each line is checked: `C` is said, `A` is answered.
struct Play {
    talk: Talk,
    client: BytesMut,
    server: BytesMut,
}

impl Play {
    fn new(dialect: Dialect, announces: bool) -> Play {
        Play { talk: Talk::new(dialect, announces), client: BytesMut::new(), server: BytesMut::new() }
    }

    /// What goes on when the client has said this, too.
    fn says(&mut self, text: &str) -> Vec<(String, Said)> {
        self.client.extend_from_slice(text.as_bytes());
        let mut gone = Vec::new();
        while let Some((piece, said)) = self.talk.take(&mut self.client) {
            gone.push((String::from_utf8_lossy(&piece).into_owned(), said));
        }
        gone
    }

    /// One line goes on, and is this.
    fn is(&mut self, text: &str, said: Said) {
        assert_eq!(self.says(text), [(text.to_owned(), said)]);
    }

    /// What a client sees of an answer, and whether it was one.
    fn hears(&mut self, text: &str) -> (String, Option<bool>) {
        self.server.extend_from_slice(text.as_bytes());
        let (mut shown, mut done) = (Vec::new(), None);
        while let Some(answer) = self.talk.answered(&mut self.server) {
            shown.extend_from_slice(answer.shown.as_ref().unwrap_or(&answer.data));
            done = done.or(answer.done);
        }
        (String::from_utf8(shown).unwrap(), done)
    }

    /// It is passed as it is.
    fn passes(&mut self, text: &str, done: Option<bool>) {
        assert_eq!(self.hears(text), (text.to_owned(), done));
    }
}

#[test]
fn smtp_has_its_upgrade_where_a_command_is() {
    let mut play = Play::new(Dialect::Smtp, false);
    assert_eq!(play.says("EHLO x\r\n"), [], "not before the greeting");
    play.passes("220-mx\r\n", None);
    play.passes("220 ready\r\n", Some(true));
    assert_eq!(play.says(""), [("EHLO x\r\n".to_owned(), Said::Ask)]);
    play.passes("250-mx\r\n250-SIZE\r\n250 STARTTLS\r\n", Some(true));
    // A message that speaks of it.
    play.is("DATA\r\n", Said::Ask);
    play.passes("354 go on\r\n", Some(false));
    play.is("STARTTLS\r\n", Said::Tell);
    play.is(".\r\n", Said::Ask);
    play.passes("250 taken\r\n", Some(true));
    // A refused one is none.
    play.is("DATA\r\n", Said::Ask);
    play.passes("503 no recipient\r\n", Some(false));
    // A chunk, and what is behind it.
    let gone = play.says("BDAT 10 LAST\r\nSTARTTLS\r\nNOOP\r\n");
    assert_eq!(gone, [("BDAT 10 LAST\r\n".to_owned(), Said::Ask), ("STARTTLS\r\n".to_owned(), Said::Tell)]);
    play.passes("250 ok\r\n", Some(true));
    assert_eq!(play.says(""), [("NOOP\r\n".to_owned(), Said::Ask)]);
    play.passes("250 ok\r\n", Some(true));
    // A log-in whose answer is the word.
    play.is("AUTH LOGIN\r\n", Said::Ask);
    play.passes("334 VXNlcm5hbWU6\r\n", Some(false));
    play.is("STARTTLS\r\n", Said::Ask);
    play.passes("535 no\r\n", Some(false));
    play.is("STARTTLS now\r\n", Said::Ask);
    play.passes("501 syntax\r\n", Some(false));
    play.is(" \tstarttls \n", Said::Upgrade);
    play.passes("454 not now\r\n", Some(false));
    play.is("StartTLS\r\n", Said::Upgrade);
    play.passes("220 go\r\n", Some(true));
}

#[test]
fn smtp_of_a_server_without_tls_is_completed() {
    let mut play = Play::new(Dialect::Smtp, true);
    play.passes("220 ready\r\n", Some(true));
    play.is("EHLO x\r\n", Said::Ask);
    assert_eq!(play.hears("250-mx\r\n250 SIZE\r\n").0, "250-mx\r\n250-SIZE\r\n250 STARTTLS\r\n");
    play.is("EHLO x\r\n", Said::Ask);
    assert_eq!(play.hears("250 mx\r\n").0, "250-mx\r\n250 STARTTLS\r\n");
    play.is("EHLO x\r\n", Said::Ask);
    play.passes("250-mx\r\n250-STARTTLS\r\n250 SIZE\r\n", Some(true));
    play.is("HELO x\r\n", Said::Ask);
    play.passes("250 mx\r\n", Some(true));
    play.is("STARTTLS\r\n", Said::Upgrade);
    assert!(play.talk.agree().starts_with(b"220 "));
}

#[test]
fn imap_has_its_upgrade_where_a_command_is() {
    let mut play = Play::new(Dialect::Imap, true);
    let (shown, done) = play.hears("* OK [CAPABILITY IMAP4rev1 ID] ready\r\n");
    assert_eq!((&shown[..], done), ("* OK [CAPABILITY IMAP4rev1 ID STARTTLS] ready\r\n", Some(true)));
    play.is("a1 CAPABILITY\r\n", Said::Ask);
    let (shown, done) = play.hears("* CAPABILITY IMAP4rev1\r\na1 OK done\r\n");
    assert_eq!((&shown[..], done), ("* CAPABILITY IMAP4rev1 STARTTLS\r\na1 OK done\r\n", Some(true)));
    // Literals that speak of it, waited for and not.
    play.is("a2 LOGIN {14}\r\n", Said::Ask);
    play.passes("+ go on\r\n", Some(true));
    let gone = play.says("a3 STARTTLS\r\n\n x\r\n");
    assert_eq!(gone, [("a3 STARTTLS\r\n\n".to_owned(), Said::Tell), (" x\r\n".to_owned(), Said::Ask)]);
    play.passes("a2 NO\r\n", Some(false));
    let gone = play.says("a4 LOGIN {13+}\r\na3 STARTTLS\r\n {2+}\r\nab\r\n");
    let told = gone.iter().map(|(_, said)| *said).collect::<Vec<_>>();
    assert_eq!(told, [Said::Tell, Said::Tell, Said::Tell, Said::Tell, Said::Ask], "{gone:?}");
    play.passes("a4 NO\r\n", Some(false));
    // A log-in whose answer is the word.
    play.is("a5 AUTHENTICATE PLAIN\r\n", Said::Ask);
    play.passes("+ \r\n", Some(true));
    play.is("a6 STARTTLS\r\n", Said::Ask);
    play.passes("* CAPABILITY x\r\n".replace("x", "STARTTLS").as_str(), None);
    play.passes("a5 BAD\r\n", Some(false));
    play.is("xy sTARTtls\r\n", Said::Upgrade);
    assert_eq!(play.talk.agree(), b"xy OK Begin TLS negotiation now.\r\n");
}

#[test]
fn imap_is_let_go_once_somebody_is_logged_in() {
    let mut play = Play::new(Dialect::Imap, false);
    play.passes("* OK ready\r\n", Some(true));
    play.is("a1 LOGIN a b\r\n", Said::Ask);
    play.passes("* CAPABILITY IMAP4rev1\r\n", None);
    play.passes("a1 OK in\r\n", Some(true));
    assert!(play.talk.is_free());
    let mut play = Play::new(Dialect::Imap, false);
    play.passes("* PREAUTH ready\r\n", Some(true));
    assert!(play.talk.is_free());
}

#[test]
fn pop3_has_its_upgrade_where_a_command_is() {
    let mut play = Play::new(Dialect::Pop3, true);
    play.passes("+OK ready\r\n", Some(true));
    play.is("CAPA\r\n", Said::Ask);
    assert_eq!(play.hears("+OK\r\nUSER\r\n.\r\n"), ("+OK\r\nUSER\r\nSTLS\r\n.\r\n".to_owned(), Some(true)));
    play.is("CAPA\r\n", Said::Ask);
    play.passes("+OK\r\nSTLS\r\n.\r\n", Some(true));
    play.is("AUTH\r\n", Said::Ask);
    play.passes("+OK\r\nPLAIN\r\n.\r\n", Some(true));
    play.is("AUTH PLAIN\r\n", Said::Ask);
    play.passes("+ \r\n", Some(true));
    play.is("STLS\r\n", Said::Ask);
    play.passes("-ERR\r\n", Some(false));
    play.is("STLS\r\n", Said::Upgrade);
    play.passes("-ERR not now\r\n", Some(false));
    play.is("USER x\r\n", Said::Ask);
    play.passes("+OK\r\n", Some(true));
    play.is("PASS y\r\n", Said::Ask);
    assert!(!play.talk.is_free());
    play.passes("+OK in\r\n", Some(true));
    assert!(play.talk.is_free());
}

#[test]
fn ftp_has_its_upgrade_where_a_command_is() {
    let mut play = Play::new(Dialect::Ftp, true);
    play.passes("220-Welcome\r\n220 ready\r\n", Some(true));
    play.is("FEAT\r\n", Said::Ask);
    let (shown, _) = play.hears("211-Features:\r\n PASV\r\n 220 is no end\r\n211 End\r\n");
    assert_eq!(shown, "211-Features:\r\n PASV\r\n 220 is no end\r\n AUTH TLS\r\n211 End\r\n");
    play.is("RETR x\r\n", Said::Ask);
    play.passes("150 here it comes\r\n", None);
    // What is under way may be stopped; TLS waits for its end.
    play.is("ABOR\r\n", Said::Ask);
    assert_eq!(play.says("AUTH TLS\r\n"), []);
    play.passes("426 stopped\r\n", Some(false));
    assert_eq!(play.says(""), []);
    play.passes("226 done\r\n", Some(true));
    assert_eq!(play.says(""), [("AUTH TLS\r\n".to_owned(), Said::Upgrade)]);
    play.passes("500 what?\r\n", Some(false));
    play.is("auth\tssl\r\n", Said::Upgrade);
    play.passes("500 what?\r\n", Some(false));
    play.is("AUTH KERBEROS_V4\r\n", Said::Ask);
}

#[test]
fn lines_that_are_too_long_are_no_commands() {
    let mut play = Play::new(Dialect::Smtp, false);
    play.passes("220 ready\r\n", Some(true));
    let long = "x".repeat(3 * 8192 - 4) + "STARTTLS\r\n";
    let gone = play.says(&long);
    assert_eq!(gone.iter().map(|(piece, _)| piece.len()).sum::<usize>(), long.len());
    assert!(gone.iter().all(|(_, said)| *said != Said::Upgrade), "{gone:?}");
    assert_eq!(gone.last().unwrap().1, Said::Ask);
    play.passes(&("5".repeat(20_000) + "\r\n"), None);
    play.passes("500 too long\r\n", Some(false));
    play.is("STARTTLS\r\n", Said::Upgrade);
}

proptest! {
    #[test]
    fn nothing_is_lost(dialect in 0..4usize, story in prop::collection::vec((any::<bool>(), prop::sample::select(vec![
        "EHLO x\r\n", "DATA\r\n", "354 x\r\n", ".\r\n", "220 x\r\n", "250-x\r\n", "250 x\r\n", "a LOGIN {3}\r\n", "+ x\r\n", "a OK\r\n",
        "a STARTTLS\r\n", "* OK\r\n", "+OK\r\n", "CAPA\r\n", "AUTH TLS\r\n", "\n", "xyz", "150 x\r\n", "BDAT 4\r\n", "{", "}\r\n", "\u{0}",
    ])), 0..40)) {
        let dialect = [Dialect::Smtp, Dialect::Imap, Dialect::Pop3, Dialect::Ftp][dialect];
        let mut play = Play::new(dialect, false);
        let (mut said, mut heard, mut passed, mut shown) = (String::new(), String::new(), String::new(), String::new());
        for (is_client, text) in story {
            if is_client {
                said += text;
                for (piece, _) in play.says(text) {
                    passed += &piece;
                }
            } else {
                heard += text;
                shown += &play.hears(text).0;
            }
            prop_assert!(said.starts_with(&passed) && heard.starts_with(&shown));
        }
        prop_assert_eq!(shown + &String::from_utf8_lossy(&play.server), heard);
        prop_assert_eq!(passed + &String::from_utf8_lossy(&play.client), said);
    }
}
