use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::{MAX_DATA, SessionId};

fn of() -> Lessee {
    Lessee::of(3, "10.0.0.5", 7)
}

fn told(octets: &[u8]) -> (Said, Value) {
    let said = Telling::new(0).tell(octets, &of(), 1).unwrap();
    let object = serde_json::from_slice(&said.data).unwrap();
    (said, object)
}

#[test]
fn what_is_usual_is_understood() {
    let (said, object) = told(b"<38>Nov  3 07:15:00 cron[123]: (root) CMD (x)\n\0");
    assert_eq!(
        object,
        json!({"facility": "auth", "severity": "info", "tag": "cron", "pid": 123, "text": "(root) CMD (x)"})
    );
    assert_eq!((said.event.id, said.event.session, said.event.node), (EventId::ContainerLog, SessionId(7), 3));
    assert_eq!(said.event.dst.ip.get(), Some(of().host));
    let text = |octets: &[u8]| {
        let object = told(octets).1;
        (object["facility"].clone(), object["tag"].clone(), object["text"].clone())
    };
    assert_eq!(text(b"<13>Nov 13 07:15:00 root: hello: you"), ("user".into(), "root".into(), "hello: you".into()));
    assert_eq!(text(b"<191>x"), ("local7".into(), Value::Null, "x".into()));
    assert_eq!(text(b"<192>x"), ("user".into(), Value::Null, "<192>x".into()));
    assert_eq!(text(b"<>a[b: c"), ("user".into(), Value::Null, "<>a[b: c".into()));
    assert_eq!(text(b"<13>Nox 13 07:15:00 a: b"), ("user".into(), Value::Null, "Nox 13 07:15:00 a: b".into()));
    // Of a program that has not said what it is called.
    let nameless = ("user".into(), Value::Null, "Password auth succeeded".into());
    assert_eq!(text(b"<13>Nov 13 07:15:00 : Password auth succeeded"), nameless);
    assert_eq!(told(b"<13>Nov 13 07:15:00 [7]: x").1["pid"], 7);
    assert_eq!(text(b""), ("user".into(), Value::Null, "".into()));
    assert_eq!(text(b"<13>a: b\n\x1b[2J\xff").2, "b\\x0a\\x1b[2J\\xff");
}

#[test]
fn log_ins_are_told_with_where_they_came_from() {
    let ssh = |user: &str, accepted: bool, method: &str| json!([user, null, "192.0.2.2", 4000, accepted, method]);
    let telnet = |user: &str, accepted: bool| json!([user, null, "192.0.2.2", null, accepted, null]);
    let local = |user: &str, by: Option<&str>, accepted: bool| json!([user, by, null, null, accepted, null]);
    for (line, wanted) in [
        ("sshd[7]: Accepted password for root from 192.0.2.2 port 4000 ssh2", ssh("root", true, "password")),
        (
            "sshd-session[7]: Accepted publickey for a from 192.0.2.2 port 4000 ssh2: ED25519 SHA256:x",
            ssh("a", true, "publickey"),
        ),
        ("sshd[7]: Failed password for invalid user bob from 192.0.2.2 port 4000 ssh2", ssh("bob", false, "password")),
        ("sshd[7]: Failed password for  from 192.0.2.2 port 4000 ssh2", ssh("", false, "password")),
        (
            "sshd[7]: Failed password for x from 1.1.1.1 port 1 ssh2 from ::ffff:192.0.2.2 port 4000 ssh2",
            ssh("x from 1.1.1.1 port 1 ssh2", false, "password"),
        ),
        ("dropbear[7]: Password auth succeeded for 'root' from 192.0.2.2:4000", ssh("root", true, "password")),
        ("dropbear[7]: Bad password attempt for 'o'x' from 192.0.2.2:4000", ssh("o'x", false, "password")),
        (
            "dropbear[7]: Pubkey auth succeeded for 'root' with ssh-ed25519 key SHA256:x from 192.0.2.2:4000",
            ssh("root", true, "publickey"),
        ),
        (
            "dropbear[7]: Login attempt for nonexistent user from 192.0.2.2:4000",
            json!([null, null, "192.0.2.2", 4000, false, null]),
        ),
        ("su: Successful su for root by web", local("root", Some("web"), true)),
        ("su[9]: FAILED SU (to root) web on pts/0", local("root", Some("web"), false)),
        ("su: (to root) web on pts/0", local("root", Some("web"), true)),
        ("su: - /dev/pts/0 web:root", local("root", Some("web"), false)),
        ("su: + /dev/pts/0 web:root", local("root", Some("web"), true)),
        ("sudo:   web : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh USER=x", local("root", Some("web"), true)),
        (
            "sudo: web : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
            local("root", Some("web"), false),
        ),
        ("sudo: web : PWD=/ ; USER=root ; COMMAND=/bin/sh", local("root", Some("web"), true)),
        ("sudo: web : a password is required ; PWD=/ ; USER=a ; COMMAND=list", local("a", Some("web"), false)),
        ("sudo: web : user NOT in sudoers ; TTY=pts/0 ; PWD=/ ; USER=a ; COMMAND=/b", local("a", Some("web"), false)),
        ("sudo: web : unknown user x COMMAND= ; PWD=/ ; USER=x COMMAND= ; ", local("x COMMAND=", Some("web"), false)),
        (
            "login[1]: pam_unix(login:session): session opened for user bob(uid=1000) by LOGIN(uid=0)",
            local("bob", None, true),
        ),
        ("login[1]: pam_unix(login:session): session opened for user bob by (uid=0)", local("bob", None, true)),
        ("login[1]: FAILED LOGIN (1) on '/dev/tty1' FOR 'bob', Authentication failure", local("bob", None, false)),
        ("login[1]: invalid password for 'bob' on 'tty1'", local("bob", None, false)),
        ("login[1]: ROOT LOGIN ON tty1", local("root", None, true)),
        ("login[1]: LOGIN ON tty1 BY bob FROM far", local("bob", None, true)),
        ("login[1]: LOGIN ON pts/0 BY bob FROM 192.0.2.2", telnet("bob", true)),
        ("login[1]: ROOT LOGIN  on '/dev/pts/0' from '192.0.2.2'", telnet("root", true)),
        ("login[1]: root login on 'pts/0' from '::ffff:192.0.2.2'", telnet("root", true)),
        (
            "login[1]: FAILED LOGIN (1) on '/dev/pts/0' from '192.0.2.2' FOR 'bob', Authentication failure",
            telnet("bob", false),
        ),
        (
            "login[1]: FAILED LOGIN 2 FROM 192.0.2.2 FOR x FROM 1.1.1.1 FOR y, Authentication failure",
            telnet("x FROM 1.1.1.1 FOR y", false),
        ),
        (
            "login[1]: invalid password for 'x' on 'pts/9' from '1.1.1.1' on 'pts/0' from '192.0.2.2'",
            telnet("x' on 'pts/9' from '1.1.1.1", false),
        ),
    ] {
        let (said, object) = told(format!("<38>Nov  3 07:15:00 {line}").as_bytes());
        assert_eq!(said.event.id, EventId::ContainerLogin, "{line}");
        let got = ["user", "by", "from", "port", "accepted", "method"].map(|key| object[key].clone());
        assert_eq!(Value::from(got.to_vec()), wanted, "{line}");
        let from = said.event.src.ip.get().map(|ip| (ip.to_string(), said.event.src.l4_port));
        let port = wanted[3].as_u64().unwrap_or(0) as u16;
        assert_eq!(from, wanted[2].as_str().map(|ip| (ip.to_owned(), port)), "{line}");
    }
    for line in [
        "sshd[7]: Accepted",
        "sshd[7]: Accepted password for root from nowhere port 4000 ssh2",
        "sshd[7]: Accepted password for root from 192.0.2.2 port 99999 ssh2",
        "sshd[7]: Invalid user bob from 192.0.2.2 port 4000",
        "sshd[7]: Failed none for invalid user bob from 192.0.2.2 port 4000 ssh2",
        "dropbear[7]: Exit before auth from <192.0.2.2:4000>: x",
        "other: Accepted password for root from 192.0.2.2 port 4000 ssh2",
        "sudo: pam_unix(sudo:session): session opened",
        "sudo: web : problem with defaults entries ; TTY=pts/0 ; PWD=/ ; ",
        "login[1]: pam_unix(login:session): session opened for user root(uid=0) by LOGIN(uid=0)",
        "login[1]: pam_unix(login:session): session closed for user bob",
    ] {
        assert_eq!(told(format!("<38>{line}").as_bytes()).0.event.id, EventId::ContainerLog, "{line}");
    }
}

#[test]
fn beyond_its_budget_a_log_is_counted() {
    let mut telling = Telling::new(0);
    let told = (0..40_000).filter(|_| telling.tell(b"<13>a: b", &of(), 5).is_some()).count();
    assert_eq!((told, telling.untold(5 + SECOND - 1)), (30_000, None));
    let said = telling.untold(5 + SECOND).unwrap();
    assert_eq!((said.event.id, said.event.count), (EventId::ContainerUntold, 10_000));
    assert!(!telling.has_untold() && telling.tell(b"x", &of(), SECOND).is_some());
}

proptest! {
    #[test]
    fn whatever_is_said_is_an_event_of_bounded_size(octets in prop::collection::vec(any::<u8>(), 0..LONGEST)) {
        let (said, object) = told(&octets);
        prop_assert!(said.data.len() <= MAX_DATA && said.data.iter().all(|octet| matches!(octet, b' '..=b'~')));
        prop_assert!(object["text"].is_string());
    }

    #[test]
    fn so_is_what_looks_usual(
        line in "<[0-9]{0,4}>(Nov  3 07:15:00 )?(sshd|dropbear|su|sudo|login)(\\[[0-9]{0,11}\\])?: ?\
            (Accepted |Failed |FAILED |Bad |\\+ |- |password | for | from | port |'|:|;|USER=|COMMAND=|[0-9.]{1,9}|\\PC){0,24}"
    ) {
        prop_assert!(told(line.as_bytes()).0.data.len() <= MAX_DATA);
    }

    #[test]
    fn a_name_hides_no_address(user in "\\PC{0,40}( from 1\\.1\\.1\\.1 port 1 ssh2|' from 1\\.1\\.1\\.1:1)?\\PC{0,9}") {
        let from = Some(([192, 0, 2, 2].into(), Some(4000)));
        let line = format!("sshd[1]: Failed password for {user} from 192.0.2.2 port 4000 ssh2");
        prop_assert_eq!(Login::of(&Message::parse(line.as_bytes())).unwrap().from, from);
        let line = format!("dropbear[1]: Bad password attempt for '{user}' from 192.0.2.2:4000");
        prop_assert_eq!(Login::of(&Message::parse(line.as_bytes())).unwrap().from, from);
    }
}
