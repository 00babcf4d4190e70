//! What is told of log-ins, and what of a terminal may be a password.

use super::*;

const IN: Stream = Stream::Input;
const OUT: Stream = Stream::Output;

/// What is told of a conversation: log-ins and commands, then the octets with each that may be a password as an asterisk.
#[track_caller]
fn check(turns: &[(Stream, &[u8])], expected: &[&str]) {
    for piece in [usize::MAX, 1, 2, 5] {
        let (mut telnet, mut told) = (Telnet::default(), Vec::new());
        for (from, octets) in turns {
            octets.chunks(piece).for_each(|part| telnet.see(*from, part, &mut told).unwrap());
        }
        telnet.end(&mut told);
        let (mut all, mut octets, mut is_secret) = (Vec::new(), [String::new(), String::new()], false);
        for entry in told {
            match entry {
                Entry::Attempt { user, credential: Credential::Password { password }, accepted } => {
                    all.push(format!("{user}:{password} {accepted}"));
                }
                Entry::Command { text } => all.push(format!("> {text}")),
                Entry::Secret { begins, .. } => {
                    assert_ne!(is_secret, begins, "it begins and ends by turns");
                    is_secret = begins;
                }
                Entry::Data { stream, data, .. } => {
                    let data = String::from_utf8(data.to_vec()).unwrap();
                    let shown: String = data
                        .chars()
                        .filter(|c| *c != '\r')
                        .map(|c| if is_secret && c != '\n' { '*' } else { c })
                        .collect();
                    octets[usize::from(stream != IN)] += &shown;
                }
                _ => {}
            }
        }
        all.extend(octets.map(|octets| octets.replace('\n', "|")));
        assert_eq!(all, expected, "in pieces of {piece}");
    }
}

#[test]
fn a_password_is_no_command() {
    check(
        &[
            (OUT, b"router login: "),
            (IN, b"root\r\n"),
            (OUT, b"root\r\nPassword: "),
            (IN, b"guess\r\n"),
            (OUT, b"\r\nLogin incorrect\r\nrouter login: "),
            (IN, b"root\r\n"),
            (OUT, b"root\r\nPasswort: "),
            (IN, b"toor\r\n"),
            (OUT, b"\r\nWelcome\r\n# "),
            (IN, b"id\r\n"),
            (OUT, b"id\r\nuid=0\r\n# "),
        ],
        &[
            "root:guess false",
            "root:toor true",
            "> id",
            "root|*****|root|****|id|",
            "router login: root|Password: |***************|router login: root|Passwort: |*******|# id|uid=0|# ",
        ],
    );
}

#[test]
fn nor_is_one_that_is_typed_ahead() {
    // The server takes it, and what it echoes is a password, too.
    check(
        &[
            (OUT, b"login: "),
            (IN, b"root\r\ntoor\r\nid\r\n"),
            (OUT, b"root\r\ntoor\r\nid\r\nPassword: \r\n"),
            (OUT, b"Welcome\r\n# "),
        ],
        &["root:toor true", "> id", "root|****|**|", "login: ****|****|**|**********|*******|# "],
    );
    // Two of them, of which the first is wrong.
    check(
        &[
            (IN, b"root\r\nwrong\r\nadmin\r\nsecret\r\nls\r\n"),
            (OUT, b"login: root\r\nPassword: \r\nLogin incorrect\r\n"),
            (OUT, b"login: admin\r\nPassword: \r\nWelcome\r\n$ "),
        ],
        &[
            "root:wrong false",
            "admin:secret true",
            "> ls",
            "root|*****|*****|******|**|",
            "***********|**********|***************|************|**********|*******|$ ",
        ],
    );
    // The server throws it away, and asks.
    check(
        &[
            (OUT, b"login: "),
            (IN, b"root\r\nearly\r\n"),
            (OUT, b"root\r\nearly\r\nPassword: "),
            (IN, b"toor\r\n"),
            (OUT, b"\r\nLogin incorrect\r\nlogin: "),
        ],
        &["root:toor false", "root|*****|****|", "login: ****|*****|**********|***************|login: "],
    );
}

#[test]
fn what_failed_before_is_told_to_who_is_in() {
    check(
        &[
            (OUT, b"login: "),
            (IN, b"root\r\n"),
            (OUT, b"root\r\nPassword: "),
            (IN, b"toor\r\n"),
            (OUT, b"\r\nLast failed login: Mon Nov 30\r\n# "),
            (IN, b"id\r\n"),
            (OUT, b"id\r\n# "),
        ],
        &["root:toor true", "> id", "root|****|id|", "login: root|Password: |*****************************|# id|# "],
    );
}

#[test]
fn some_ask_for_a_password_only_or_for_none() {
    check(
        &[
            (OUT, b"User Access Verification\r\n\r\nPassword: "),
            (IN, b"cisco\r\n"),
            (OUT, b"\r\nPassword: "),
            (IN, b"secret\r\n"),
            (OUT, b"\r\nrouter>"),
            (IN, b"show run\r\n"),
        ],
        &[
            ":cisco false",
            ":secret true",
            "> show run",
            "*****|******|show run|",
            "User Access Verification||Password: |**********|*******",
        ],
    );
    check(
        &[(OUT, b"login: "), (IN, b"root\r\n"), (OUT, b"root\r\n# "), (IN, b"id\r\n"), (OUT, b"id\r\n# ")],
        &["root: true", "> id", "root|id|", "login: root|# id|# "],
    );
    // A prompt of one's own hides nothing.
    check(
        &[
            (OUT, b"login: "),
            (IN, b"root\r\n"),
            (OUT, b"root\r\n# "),
            (IN, b"PS1='login: '\r\n"),
            (OUT, b"PS1='login: '\r\nlogin: "),
            (IN, b"id\r\n"),
            (OUT, b"id\r\nlogin: "),
            (IN, b"w\r\n"),
        ],
        &[
            "root: true",
            "> PS1='login: '",
            "> id",
            "> w",
            "root|PS1='login: '|id|w|",
            "login: root|# PS1='login: '|login: id|login: ",
        ],
    );
    check(&[(OUT, b"# "), (IN, b"id\r\n"), (OUT, b"id\r\n")], &["> id", "id|", "# id|"]);
    // Nobody waits for ever.
    check(
        &[(OUT, b"login: "), (IN, b"root\r\nx\r\n"), (IN, &b"y\r\n".repeat(40))],
        &["root:x false", &format!("root|*|{}", "*|".repeat(40)), "login: "],
    );
}
