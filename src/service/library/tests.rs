mod irc;

use proptest::prelude::*;

use super::super::{Inline, Service, ServiceKind};
use super::*;

/// A connection whose peer has sent `came`; `room` octets can be sent at each call.
struct Fake {
    came: Vec<u8>,
    sent: Vec<u8>,
    room: usize,
    end: bool,
    told: Vec<(EventId, Vec<u8>)>,
}

impl Stream for Fake {
    fn peek(&mut self) -> &[u8] {
        &self.came
    }
    fn take(&mut self, n: usize) {
        self.came.drain(..n);
    }
    fn send(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room);
        self.sent.extend_from_slice(&bytes[..n]);
        n
    }
    fn at_end(&mut self) -> bool {
        self.end && self.came.is_empty()
    }
    fn is_last(&mut self) -> bool {
        self.end
    }
    fn tell(&mut self, id: EventId, data: &[u8]) {
        assert!(data.len() <= 1024);
        self.told.push((id, data.to_vec()));
    }
}

fn caller() -> Caller {
    Caller { from: [192, 0, 2, 9].into(), seed: 7, now: Instant::from_secs(1000) }
}

/// A connection to a service, and what it says and tells.
struct Client {
    service: Service,
    inline: Inline,
    stream: Fake,
    then: Then,
}

impl Client {
    fn of(profile: Profile) -> Client {
        let service = Service { name: "x".into(), kind: ServiceKind::Library(Box::new(profile)) };
        let inline = Inline::new(&service, caller()).unwrap();
        let stream = Fake { came: Vec::new(), sent: Vec::new(), room: usize::MAX, end: false, told: Vec::new() };
        let mut client = Client { service, inline, stream, then: Then::Stay };
        client.poll();
        client
    }

    fn new(protocol: Protocol, product: &str) -> Client {
        Client::of(Profile::new(protocol, (!product.is_empty()).then_some(product)))
    }

    fn poll(&mut self) {
        self.then = self.inline.poll(&self.service, Instant::from_secs(1000), &mut self.stream);
    }

    /// What was said since the last time.
    fn heard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.stream.sent)
    }

    fn say(&mut self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        self.stream.came.extend_from_slice(bytes.as_ref());
        self.poll();
        self.heard()
    }

    fn text(&mut self, bytes: impl AsRef<[u8]>) -> String {
        String::from_utf8_lossy(&self.say(bytes)).into_owned()
    }

    /// The log-ins that it told of.
    fn logins(&self) -> Vec<serde_json::Value> {
        let told = self.stream.told.iter().filter(|(id, _)| *id == EventId::ServiceLogin);
        told.map(|(_, data)| serde_json::from_slice(data).unwrap()).collect()
    }
}

#[track_caller]
fn assert_login(client: &Client, method: &str, user: &str, password: &str) {
    let logins = client.logins();
    let last = logins.last().expect("it told of a log-in");
    assert_eq!((&last["method"], &last["user"], &last["password"]), (&method.into(), &user.into(), &password.into()));
}

#[test]
fn ftp_takes_passwords_and_lets_nobody_in() {
    let mut ftp = Client::new(Protocol::Ftp, "");
    assert_eq!(ftp.heard(), b"220 (vsFTPd 3.0.3)\r\n");
    assert!(ftp.text("USER root\r\n").starts_with("331 "));
    assert_eq!(ftp.text("PASS to\"or\r\n"), "530 Login incorrect.\r\n");
    assert_login(&ftp, "PASS", "root", "to\"or");
    assert!(ftp.text("PASS again\r\n").starts_with("503 "));
    assert!(ftp.text("LIST\r\nQUIT\r\n").starts_with("530 "));
    assert_eq!(ftp.then, Then::Close);
}

#[test]
fn smtp_relays_nothing() {
    let mut smtp = Client::new(Protocol::Smtp, "exim");
    assert_eq!(smtp.heard(), b"220 mail ESMTP Exim 4.96\r\n");
    assert!(smtp.text("EHLO me\r\n").contains("AUTH PLAIN LOGIN"));
    assert!(smtp.text("MAIL FROM:<a@b>\r\n").starts_with("250 "));
    assert!(smtp.text("RCPT TO:<c@d>\r\n").starts_with("554 5.7.1 <c@d>: Relay access denied"));
    assert!(smtp.text("DATA\r\n").starts_with("503 "));
    assert_eq!(smtp.text("AUTH LOGIN\r\n"), "334 VXNlcm5hbWU6\r\n");
    assert_eq!(smtp.text("cm9vdA==\r\n"), "334 UGFzc3dvcmQ6\r\n");
    assert!(smtp.text("dG9vcg==\r\n").starts_with("535 "));
    assert_login(&smtp, "LOGIN", "root", "toor");
    assert!(smtp.text("AUTH PLAIN AHUAcA==\r\n").starts_with("535 "));
    assert_login(&smtp, "PLAIN", "u", "p");
    assert!(smtp.text("Auth PLAIN AGEAYg==\r\n").starts_with("535 "));
    let is_told = |text: &[u8]| {
        let mut requests = smtp.stream.told.iter().filter(|(id, _)| *id == EventId::ServiceRequest);
        requests.any(|(_, told)| told.starts_with(text))
    };
    assert!(is_told(b"DATA") && !is_told(b"Auth"), "a password is no request");
}

#[test]
fn mailboxes_are_not_opened() {
    let mut pop3 = Client::new(Protocol::Pop3, "");
    assert_eq!(pop3.heard(), b"+OK Dovecot ready.\r\n");
    assert_eq!(pop3.text("USER u\r\nPASS p w\r\n"), "+OK\r\n-ERR [AUTH] Authentication failed.\r\n");
    assert_login(&pop3, "PASS", "u", "p w");
    let mut imap = Client::new(Protocol::Imap, "");
    assert!(imap.heard().starts_with(b"* OK [CAPABILITY IMAP4rev1"));
    assert!(imap.text("a1 LOGIN \"u\\\"1\" pw\r\n").starts_with("a1 NO "));
    assert_login(&imap, "LOGIN", "u\"1", "pw");
    assert_eq!(imap.text("a2 LOGIN {4}\r\n"), "+ OK\r\n");
    assert_eq!(imap.text("ro\"t {3+}\r\n"), "");
    assert!(imap.text("p q\r\n").starts_with("a2 NO "));
    assert_login(&imap, "LOGIN", "ro\"t", "p q");
    assert_eq!(imap.text("a3 AUTHENTICATE PLAIN\r\n"), "+ \r\n");
    assert!(imap.text("AHUAcA==\r\n").starts_with("a3 NO "));
    assert_login(&imap, "PLAIN", "u", "p");
}

#[test]
fn telnet_echoes_names_but_not_passwords() {
    let mut telnet = Client::new(Protocol::Telnet, "");
    assert!(telnet.heard().ends_with(b"gateway login: "));
    // WILL terminal type, a suboption, then a name with a mistake in it.
    assert_eq!(telnet.say(b"\xff\xfb\x18\xff\xfa\x1f\0\x50\0\x18\xff\xf0"), b"");
    assert_eq!(telnet.text("roox\x7ft\r\0"), "roox\x08 \x08t\r\nPassword: ");
    assert_eq!(telnet.text("toor\r\n"), "\r\nLogin incorrect\r\ngateway login: ");
    assert_login(&telnet, "telnet", "root", "toor");
    let mut linux = Client::new(Protocol::Telnet, "linux");
    assert_eq!(linux.heard(), [255, 253, 24, 255, 253, 32, 255, 253, 35, 255, 253, 39]);
    assert!(linux.text(b"\xff\xfc\x18").ends_with("server login: "));
}

#[test]
fn databases_refuse_and_tell_who_asked() {
    let mut mysql = Client::new(Protocol::Mysql, "mariadb");
    let greeting = mysql.heard();
    assert_eq!(usize::from(greeting[0]), greeting.len() - 4);
    assert!(greeting[5..].starts_with(b"5.5.5-10.11.6-MariaDB"));
    let mut packet = (0x8000u32 | PROTOCOL_41_AND_DB).to_le_bytes().to_vec();
    packet.extend_from_slice(&[0; 28]);
    packet.extend_from_slice(b"root\0\x03abcshop\0");
    let mut message = vec![packet.len() as u8, 0, 0, 1];
    message.extend_from_slice(&packet);
    assert!(mysql.text(message).contains("Access denied for user 'root'@'192.0.2.9' (using password: YES)"));
    assert_eq!((&mysql.logins()[0]["realm"], &mysql.logins()[0]["response"]), (&"shop".into(), &"616263".into()));

    let mut postgresql = Client::new(Protocol::Postgresql, "");
    assert_eq!(postgresql.say([0, 0, 0, 8, 4, 210, 22, 47]), b"N");
    let mut startup = vec![0, 0, 0, 0, 0, 3, 0, 0];
    startup.extend_from_slice(b"user\0root\0database\0shop\0\0");
    startup[3] = startup.len() as u8;
    assert_eq!(postgresql.say(startup), [b'R', 0, 0, 0, 8, 0, 0, 0, 3]);
    assert!(postgresql.text(b"p\0\0\0\x09toor\0").contains("password authentication failed for user \"root\""));
    assert_login(&postgresql, "password", "root", "toor");
    assert_eq!(postgresql.then, Then::Close);

    let mut redis = Client::new(Protocol::Redis, "");
    assert_eq!(redis.text("PING\r\n*1\r\n$4\r\nPING\r\n"), "+PONG\r\n+PONG\r\n");
    assert!(redis.text("*1\r\n$4\r\ninfo\r\n").contains("\r\nredis_version:7.0.15\r\n"));
    assert_eq!(redis.text("*2\r\n$3\r\nGET\r\n$1\r\nx\r\n"), "-NOAUTH Authentication required.\r\n");
    assert!(redis.text("*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n").starts_with("-WRONGPASS"));
    assert_login(&redis, "AUTH", "default", "pw");
}

const PROTOCOL_41_AND_DB: u32 = 0x208;

#[test]
fn ssh_exchanges_algorithms_and_leaves() {
    let mut ssh = Client::new(Protocol::Ssh, "");
    assert_eq!(ssh.heard(), b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n");
    let offer = ssh.say("SSH-2.0-Go\r\n");
    let length = u32::from_be_bytes(offer[..4].try_into().unwrap()) as usize;
    assert_eq!((offer.len(), offer.len() % 8, offer[5]), (4 + length, 0, 20));
    assert!(offer[4] >= 4);
    // An elliptic curve's first message.
    let goodbye = ssh.say([0, 0, 0, 12, 6, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((goodbye[5], ssh.then), (1, Then::Close));
    let mut other = Client::new(Protocol::Ssh, "dropbear");
    assert_eq!(other.heard(), b"SSH-2.0-dropbear_2022.83\r\n");
    assert!(other.text("GET / HTTP/1.0\r\n").starts_with("Invalid"));
}

#[test]
fn desktops_ask_for_what_they_never_grant() {
    let mut rdp = Client::new(Protocol::Rdp, "");
    let request = b"\x03\0\0\x2a\x25\xe0\0\0\0\0\0Cookie: mstshash=anna\r\n\x01\0\x08\0\x03\0\0\0";
    assert_eq!(rdp.say(request), b"\x03\0\0\x13\x0e\xd0\0\0\x124\0\x02\x1f\x08\0\x02\0\0\0");
    assert_eq!(rdp.logins()[0]["user"], "anna");
    let mut vnc = Client::new(Protocol::Vnc, "");
    assert_eq!(vnc.heard(), b"RFB 003.008\n");
    assert_eq!(vnc.say("RFB 003.008\n"), [1, 2]);
    assert_eq!(vnc.say([2]).len(), 16);
    assert!(vnc.text([9; 16]).ends_with("Authentication failed"));
    assert_eq!(vnc.logins()[0]["response"], "09".repeat(16));
}

#[test]
fn a_controller_says_what_it_is() {
    let mut modbus = Client::new(Protocol::Modbus, "");
    let identity = modbus.text([0, 1, 0, 0, 0, 5, 1, 0x2b, 14, 1, 0]);
    assert!(identity.contains("Schneider Electric") && identity.contains("M221") && identity.contains("V1.6.2.0"));
    assert_eq!(modbus.say([0, 2, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1]), [0, 2, 0, 0, 0, 3, 1, 0x83, 2]);
}

#[test]
fn a_file_server_asks_by_ntlm() {
    let mut smb = Client::new(Protocol::Smb, "");
    let mut header = b"\xfeSMB\x40\0".to_vec();
    header.resize(64, 0);
    let mut negotiate = header.clone();
    negotiate.extend_from_slice(&[36, 0, 2, 0]);
    negotiate.resize(100, 0);
    negotiate.extend_from_slice(&[2, 2, 0x10, 2]);
    let said = smb.say(framed(&negotiate));
    assert_eq!((&said[4..8], &said[72..74]), (&b"\xfeSMB"[..], &[0x10, 2][..]));
    let setup = |ntlm: &[u8]| {
        let mut setup = header.clone();
        setup[12] = 1;
        setup.extend_from_slice(&[25, 0]);
        setup.resize(76, 0);
        setup.extend_from_slice(&[88, 0, ntlm.len() as u8, 0]);
        setup.resize(88, 0);
        setup.extend_from_slice(ntlm);
        framed(&setup)
    };
    let said = smb.say(setup(b"NTLMSSP\0\x01\0\0\0\0\0\0\0"));
    assert!(said.windows(8).any(|window| window == b"NTLMSSP\0"));
    let mut authenticate = b"NTLMSSP\0\x03\0\0\0".to_vec();
    authenticate.resize(64, 0);
    authenticate[36..44].copy_from_slice(&[4, 0, 4, 0, 64, 0, 0, 0]);
    authenticate.extend_from_slice(b"m\0e\0");
    smb.say(setup(&authenticate));
    assert_eq!(smb.logins()[0]["user"], "me");
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes()[..], message].concat()
}

fn ask(profile: &Profile, datagram: &[u8]) -> (Vec<u8>, Vec<(EventId, Vec<u8>)>) {
    let (mut out, mut told) = (Vec::new(), Vec::new());
    answer(profile, caller(), datagram, &mut out, &mut |id, data| told.push((id, data.to_vec())));
    (out, told)
}

#[test]
fn a_name_server_resolves_nothing() {
    let profile = Profile::new(Protocol::Dns, None);
    let version = b"\0\x06\x01\0\0\x01\0\0\0\0\0\0\x07version\x04bind\0\0\x10\0\x03";
    let (said, _) = ask(&profile, version);
    assert!(said.ends_with(b"9.18.28-1~deb12u2-Debian"), "{said:?}");
    let (said, _) = ask(&profile, b"\0\x06\x01\0\0\x01\0\0\0\0\0\0\x03www\0\0\x01\0\x01");
    assert_eq!((said[3] & 15, said.len()), (5, 21));
    assert_eq!(ask(&profile, &said).0, b"", "an answer is not answered");
}

#[test]
fn an_agent_answers_to_its_communities() {
    let profile = Profile { communities: vec!["secret".into()], ..Profile::new(Protocol::Snmp, None) };
    let request = |community: &[u8], kind: u8, last: &[u8]| {
        let mut name = vec![6, 6 + last.len() as u8, 0x2b, 6, 1, 2, 1, 1];
        name.extend_from_slice(last);
        name.extend_from_slice(&[5, 0]);
        let wrap = |tag: u8, inner: Vec<u8>| [vec![tag, inner.len() as u8], inner].concat();
        let list = wrap(0x30, wrap(0x30, name));
        let pdu = wrap(kind, [vec![2, 1, 9, 2, 1, 0, 2, 1, 0], list].concat());
        wrap(0x30, [vec![2, 1, 1], wrap(4, community.to_vec()), pdu].concat())
    };
    let (said, told) = ask(&profile, &request(b"public", 0xa0, &[5, 0]));
    assert_eq!((said.len(), told.len()), (0, 1));
    assert!(String::from_utf8_lossy(&told[0].1).contains("\"password\":\"public\""));
    let (said, _) = ask(&profile, &request(b"secret", 0xa0, &[5, 0]));
    assert!(said.ends_with(b"\x04\x06server"), "{said:02x?}");
    // From the name before the first object one goes to the first, from there to the second.
    let (said, _) = ask(&profile, &request(b"secret", 0xa1, &[1, 0]));
    assert!(said.windows(10).any(|window| window == [6, 8, 0x2b, 6, 1, 2, 1, 1, 2, 0]), "{said:02x?}");
    let (said, _) = ask(&profile, &request(b"secret", 0xa1, &[7, 0]));
    assert!(said.ends_with(&[0x82, 0]), "{said:02x?}");
}

#[test]
fn an_exchange_answers_options_and_asks_for_passwords() {
    let profile = Profile::new(Protocol::Sip, None);
    let request = |method: &str, more: &str| {
        format!(
            "{method} sip:nm SIP/2.0\r\nVia: SIP/2.0/UDP nm;branch=foo;rport\r\nFrom: <sip:nm@nm>;tag=root\r\n\
             To: <sip:nm2@nm2>\r\nCall-ID: 50000\r\nCSeq: 42 {method}\r\nMax-Forwards: 70\r\n{more}\r\n"
        )
    };
    let (said, _) = ask(&profile, request("OPTIONS", "").as_bytes());
    assert!(String::from_utf8_lossy(&said).contains("\r\nServer: Asterisk PBX 20.6.0\r\n"));
    let (said, _) = ask(&profile, request("REGISTER", "").as_bytes());
    assert!(said.starts_with(b"SIP/2.0 401 "));
    let digest = "Authorization: Digest username=\"100\", realm=\"asterisk\", response=\"00fE\"\r\n";
    let (said, told) = ask(&profile, request("REGISTER", digest).as_bytes());
    assert!(said.starts_with(b"SIP/2.0 403 "));
    assert!(String::from_utf8_lossy(&told[0].1).contains("\"user\":\"100\""));
    assert!(String::from_utf8_lossy(&told[0].1).ends_with(",\"response\":\"00fe\"}"));
    let header = format!("REGISTER sip:nm SIP/2.0\r\n{}", digest.trim_end());
    assert_eq!(String::from_utf8_lossy(&told[1].1), header, "its name says that it is a secret");
}

#[test]
fn a_time_server_answers_clients_only() {
    let profile = Profile::new(Protocol::Ntp, None);
    let mut request = vec![0; 48];
    request[0] = 0xe3;
    let (said, _) = ask(&profile, &request);
    assert_eq!((said.len(), said[0], said[1]), (48, 0x24, 2));
    assert_eq!(ask(&profile, &said).0, b"");
    assert_eq!(ask(&profile, &[0x17, 0, 3, 42, 0, 0, 0, 0]).0, b"", "no list of clients");
    let (said, _) = ask(&profile, &[0x16, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(said.len() <= 36 && String::from_utf8_lossy(&said).contains("ntpd 4.2.8p15"), "{said:?}");
}

#[test]
fn the_silent_are_left_and_take_little_memory() {
    for protocol in Protocol::TCP {
        let mut client = Client::new(protocol, "");
        let kept = client.inline.kept();
        assert!(kept < 600, "{protocol:?}: {kept}");
        let end = Instant::from_secs(1000) + PATIENCE;
        assert_eq!(client.inline.deadline(&client.service), Some(end));
        assert_eq!(client.inline.poll(&client.service, end, &mut client.stream), Then::Close);
    }
}

#[test]
fn what_is_said_to_the_deaf_is_bounded() {
    for protocol in Protocol::TCP {
        for what in ["\r", "\n", "x\n", "a\n", "INFO\n", "FEAT\r\n", "EHLO\n", "\u{0}", "PING\r\n"] {
            let mut client = Client::new(protocol, "");
            client.stream.room = 0;
            client.heard();
            client.say(what.repeat(MOST / what.len()));
            assert!(client.inline.kept() < 8 * 1024, "{protocol:?} {what:?}: {}", client.inline.kept());
            client.stream.room = usize::MAX;
            client.say("");
            assert!(client.stream.told.len() <= 256 + 1, "{protocol:?} {what:?}: {}", client.stream.told.len());
        }
    }
}

/// Messages that are nearly sound get further than noise does.
fn seeds() -> Vec<&'static [u8]> {
    vec![
        b"USER root\r\nPASS x\r\n",
        b"a LOGIN {3}\r\nabc {2+}\r\n\"\\\r\n",
        b"AUTH PLAIN\r\nAHUAcA==\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$2\r\nxx\r\n",
        b"SSH-2.0-x\r\n\0\0\0\x0c\x06\x1e\0\0\0\0\0\0\0\0\0\0",
        b"\0\0\0\x17\0\x03\0\0user\0root\0\0p\0\0\0\x06x\0",
        b"\x03\0\0\x0b\x06\xe0\0\0\0\0\0",
        b"\0\0\0\x44\xfeSMB\x40\0",
        b"\xff\xfa\x18\0\xff\xf0root\r\0x\r\n",
        b"RFB 003.008\n\x02",
        b"\x30\x26\x02\x01\x01\x04\x06public\xa1\x19\x02\x01\x01\x02\x01\0\x02\x01\0\x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x01\0\x05\0",
        b"OPTIONS sip:x SIP/2.0\r\nVia: a\r\n\r\n",
    ]
}

proptest! {
    #[test]
    fn whatever_comes_in_whatever_pieces_is_answered_or_awaited(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..600),
                prop::sample::select(seeds()).prop_map(<[u8]>::to_vec),
                (prop::sample::select(seeds()), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(seed, at, octet)| {
                    let mut seed = seed.to_vec();
                    let at = at.index(seed.len());
                    seed[at] = octet;
                    seed
                }),
            ],
            1..20,
        ),
        room in 1usize..4000,
    ) {
        for protocol in Protocol::TCP {
            for (product, ..) in protocol.products() {
                let mut client = Client::new(protocol, product);
                client.stream.room = room;
                for piece in &pieces {
                    if client.then == Then::Close {
                        break;
                    }
                    let space = MOST.saturating_sub(client.stream.came.len());
                    client.stream.came.extend_from_slice(&piece[..piece.len().min(space)]);
                    client.poll();
                    let kept = client.inline.kept();
                    prop_assert!(kept < 8 * 1024, "{protocol:?} keeps {kept}");
                }
                client.stream.end = true;
                for _ in 0..100_000 {
                    if client.then == Then::Close {
                        break;
                    }
                    client.poll();
                }
                prop_assert_eq!(client.then, Then::Close, "{:?} goes on after the end", protocol);
            }
        }
    }

    #[test]
    fn no_datagram_is_answered_by_more_than_three_times_its_size(
        datagram in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..600),
            (prop::sample::select(seeds()), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)).prop_map(|(seed, edits)| {
                let mut seed = seed.to_vec();
                for (at, octet) in edits {
                    let at = at.index(seed.len());
                    seed[at] = octet;
                }
                seed
            }),
        ],
    ) {
        for protocol in Protocol::UDP {
            let (said, told) = ask(&Profile::new(protocol, None), &datagram);
            prop_assert!(said.len() <= 3 * datagram.len());
            prop_assert!(told.iter().all(|(_, data)| data.len() <= 1400));
        }
    }
}
