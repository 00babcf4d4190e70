//! Bots and their channels.

use super::*;

#[test]
fn irc_lets_a_bot_in_that_finds_nobody() {
    let mut irc = Client::new(Protocol::Irc, "");
    assert!(irc.heard().starts_with(b":irc NOTICE Auth :*** Looking up your hostname...\r\n"));
    assert_eq!(irc.text("JOIN #x\r\n"), ":irc 451 * :Connection not registered\r\n");
    assert_eq!(irc.text("PASS s3cret\r\nNICK 9bad\r\n"), ":irc 432 * 9bad :Erroneous Nickname\r\n");
    assert_eq!(irc.text("NICK bot\r\nUSER b 0 *\r\n"), ":irc 461 bot USER :Not enough parameters.\r\n");
    let welcome = irc.text("USER b 0 * :a bot\r\n");
    assert!(welcome.starts_with(":irc 001 bot :Welcome to the irc IRC Network bot!b@192.0.2.9\r\n"), "{welcome}");
    assert!(welcome.ends_with(":irc 422 bot :MOTD File is missing\r\n"), "{welcome}");
    assert_login(&irc, "PASS", "bot", "s3cret");
    assert_eq!(irc.text("PING :abc\r\n"), ":irc PONG irc :abc\r\n");
    assert_eq!(
        irc.text(":x JOIN #owned key\r\n"),
        ":bot!b@192.0.2.9 JOIN :#owned\r\n:irc 353 bot = #owned :@bot\r\n:irc 366 bot #owned :End of /NAMES list.\r\n"
    );
    assert_eq!(irc.text("PRIVMSG #owned :ready\r\nNOTICE nobody :x\r\n"), "");
    assert_eq!(irc.text("PRIVMSG boss :ready\r\n"), ":irc 401 bot boss :No such nick/channel\r\n");
    assert_eq!(irc.text("PRIVMSG BOT :hi there\r\n"), ":bot!b@192.0.2.9 PRIVMSG BOT :hi there\r\n");
    assert_eq!(irc.text("PRIVMSG #owned\r\n"), ":irc 412 bot :No text to send\r\n");
    assert_eq!(irc.text("OPER root toor\r\n"), ":irc 491 bot :Invalid oper credentials\r\n");
    assert_login(&irc, "OPER", "root", "toor");
    assert!(irc.text("WHO #owned\r\n").starts_with(":irc 352 bot #owned b 192.0.2.9 irc bot H@ "));
    assert_eq!(irc.text("JOIN x\r\n"), ":irc 403 bot x :No such channel\r\n");
    assert!(irc.text("FROB\r\n").starts_with(":irc 421 "));
    let more: String = (0..20).map(|n| format!("JOIN #c{n}\r\n")).collect();
    assert_eq!(irc.text(more).matches(" 405 ").count(), 11, "ten channels");
    assert_eq!(irc.text("QUIT :bye\r\n"), "ERROR :Closing link: (b@192.0.2.9) [Quit: bye]\r\n");
    assert_eq!(irc.then, Then::Close);
    let told: Vec<_> = irc.stream.told.iter().filter(|(id, _)| *id == EventId::ServiceRequest).collect();
    assert!(told.iter().any(|(_, data)| data == b"PRIVMSG boss :ready"));
    assert!(!told.iter().any(|(_, data)| data.starts_with(b"PASS") || data.starts_with(b"PING")));
}

#[test]
fn irc_asks_a_silent_bot_whether_it_is_still_there() {
    let mut irc = Client::new(Protocol::Irc, "unrealircd");
    irc.say("NICK bot\r\nUSER b 0 * :b\r\n");
    let poll = |irc: &mut Client, secs: i64| {
        irc.then = irc.inline.poll(&irc.service, Instant::from_secs(1000 + secs), &mut irc.stream);
        String::from_utf8(irc.heard()).unwrap()
    };
    assert_eq!((poll(&mut irc, 119), irc.then), (String::new(), Then::Stay));
    assert_eq!((poll(&mut irc, 120), irc.then), ("PING :irc\r\n".to_owned(), Then::Stay));
    irc.stream.came.extend_from_slice(b"PONG :irc\r\n");
    assert_eq!((poll(&mut irc, 130), irc.then), (String::new(), Then::Stay));
    assert_eq!((poll(&mut irc, 250), irc.then), ("PING :irc\r\n".to_owned(), Then::Stay));
    let end = poll(&mut irc, 370);
    assert!(end.contains("Ping timeout") && irc.then == Then::Close, "{end}");
    // Who has not even registered is not asked.
    let mut mute = Client::new(Protocol::Irc, "ngircd");
    assert_eq!(mute.heard(), b"");
    assert!(poll(&mut mute, 120).contains("Ping timeout") && mute.then == Then::Close);
}
