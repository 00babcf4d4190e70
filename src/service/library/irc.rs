//! IRC (RFC 1459, RFC 2812) as a small server has it that nobody else is on: who comes registers, joins channels that are
//! empty, and waits for commands. Passwords are told of; nobody becomes an operator.

use super::profile::Profile;
use super::say::{Login, Turn, kept, line, printable};

/// Channels that somebody may be in.
const CHANNELS: usize = 10;
/// Octets of a nickname and of a channel's name that are kept.
const NICK: usize = 30;
const NAME: usize = 50;
/// Parameters of a message (RFC 2812 §2.3).
const PARAMETERS: usize = 15;

/// A connection.
#[derive(Default)]
pub struct Irc {
    nick: Box<[u8]>,
    user: Box<[u8]>,
    pass: Box<[u8]>,
    registered: bool,
    /// Asked whether it is still there, and has not answered.
    pinged: bool,
    channels: Vec<Box<[u8]>>,
}

impl Irc {
    pub(super) fn open(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        let (server, from) = (&profile.hostname, turn.caller.from);
        if let Some(banner) = &profile.banner {
            return turn.say(format!(":{server} NOTICE AUTH :{}\r\n", banner.trim_end()));
        }
        let to = match profile.product.as_str() {
            "inspircd" => "Auth",
            "unrealircd" => "AUTH",
            // It waits for its client.
            _ => return,
        };
        turn.say(format!(
            ":{server} NOTICE {to} :*** Looking up your hostname...\r\n\
             :{server} NOTICE {to} :*** Could not resolve your hostname: Domain name not found; using your IP address \
             ({from}) instead.\r\n"
        ));
    }

    pub(super) fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        let Some((taken, line)) = line(input) else { return 0 };
        self.pinged = false;
        let message = Message::read(line);
        let command = message.command.to_ascii_uppercase();
        if !matches!(command.as_slice(), b"" | b"PASS" | b"OPER" | b"PING" | b"PONG") {
            turn.request(line);
        }
        let mut server = Server { irc: self, profile, turn };
        match command.as_slice() {
            b"" | b"PONG" => {}
            b"CAP" => server.capabilities(&message),
            b"PASS" => server.irc.pass = kept(message.parameter(0)),
            b"NICK" => server.nick(&message),
            b"USER" => server.user(&message),
            b"PING" => server.pong(&message),
            b"QUIT" => server.quit(&message),
            _ if !server.irc.registered => server.reply("451", ":Connection not registered"),
            known => server.registered(known, &message),
        }
        taken
    }

    /// Nothing came for long. Whether it is worth while to go on waiting.
    pub(super) fn idle(&mut self, profile: &Profile, turn: &mut Turn<'_>) -> bool {
        let server = &profile.hostname;
        if !self.registered || self.pinged {
            let from = turn.caller.from;
            let who = if self.user.is_empty() { "unknown".to_owned() } else { printable(&self.user) };
            turn.end(format!("ERROR :Closing link: ({who}@{from}) [Ping timeout: 120 seconds]\r\n"));
            return false;
        }
        self.pinged = true;
        turn.say(format!("PING :{server}\r\n"));
        true
    }

    pub(super) fn kept(&self) -> usize {
        let names: usize = self.channels.iter().map(|name| name.len() + size_of::<Box<[u8]>>()).sum();
        self.nick.len() + self.user.len() + self.pass.len() + names
    }
}

/// A message of a client: its prefix means nothing to a server.
struct Message<'a> {
    command: &'a [u8],
    parameters: [&'a [u8]; PARAMETERS],
}

impl<'a> Message<'a> {
    fn read(line: &'a [u8]) -> Message<'a> {
        let mut rest = line.trim_ascii();
        if rest.first() == Some(&b':') {
            rest = next(rest).1;
        }
        let (command, mut rest) = next(rest);
        let mut parameters = [&b""[..]; PARAMETERS];
        for parameter in &mut parameters {
            match rest {
                [] => break,
                [b':', last @ ..] => (*parameter, rest) = (last, &[]),
                _ => (*parameter, rest) = next(rest),
            }
        }
        Message { command, parameters }
    }

    fn parameter(&self, at: usize) -> &'a [u8] {
        self.parameters.get(at).copied().unwrap_or_default()
    }
}

/// The next word, and what follows it.
fn next(rest: &[u8]) -> (&[u8], &[u8]) {
    let end = rest.iter().position(|octet| *octet == b' ').unwrap_or(rest.len());
    (&rest[..end], rest[end..].trim_ascii_start())
}

/// The server in one turn.
struct Server<'s, 't> {
    irc: &'s mut Irc,
    profile: &'s Profile,
    turn: &'s mut Turn<'t>,
}

impl Server<'_, '_> {
    /// A numeric reply (RFC 2812 §5).
    fn reply(&mut self, number: &str, text: impl AsRef<str>) {
        let nick = match self.irc.nick.as_ref() {
            b"" => "*".to_owned(),
            nick => printable(nick),
        };
        self.turn.say(format!(":{} {number} {nick} {}\r\n", self.profile.hostname, text.as_ref()));
    }

    /// Who the client is to others.
    fn mask(&self) -> String {
        format!("{}!{}@{}", printable(&self.irc.nick), printable(&self.irc.user), self.turn.caller.from)
    }

    fn say_of_client(&mut self, text: String) {
        let mask = self.mask();
        self.turn.say(format!(":{mask} {text}\r\n"));
    }

    fn missing(&mut self, command: &[u8]) {
        self.reply("461", format!("{} :Not enough parameters.", printable(command)));
    }

    fn capabilities(&mut self, message: &Message<'_>) {
        let server = &self.profile.hostname;
        match message.parameter(0).to_ascii_uppercase().as_slice() {
            b"LS" | b"LIST" => {
                let what = printable(message.parameter(0)).to_uppercase();
                self.turn.say(format!(":{server} CAP * {what} :\r\n"));
            }
            b"REQ" => {
                let wanted = printable(message.parameter(1));
                self.turn.say(format!(":{server} CAP * NAK :{wanted}\r\n"));
            }
            _ => {}
        }
    }

    fn nick(&mut self, message: &Message<'_>) {
        let nick = message.parameter(0);
        if nick.is_empty() {
            return self.reply("431", ":No nickname given");
        }
        let fine = |octet: &u8| octet.is_ascii_alphanumeric() || b"[]\\`_^{|}-".contains(octet);
        if nick.len() > NICK || !nick.iter().all(fine) || nick[0].is_ascii_digit() || nick[0] == b'-' {
            return self.reply("432", format!("{} :Erroneous Nickname", printable(nick)));
        }
        if self.irc.registered {
            self.say_of_client(format!("NICK :{}", printable(nick)));
        }
        self.irc.nick = nick.into();
        self.register();
    }

    fn user(&mut self, message: &Message<'_>) {
        if self.irc.registered {
            return self.reply("462", ":You may not reregister");
        }
        if message.parameter(3).is_empty() {
            return self.missing(b"USER");
        }
        let user = message.parameter(0);
        self.irc.user = user[..user.len().min(12)].into();
        self.register();
    }

    /// Lets the client in, once it has said both who it is.
    fn register(&mut self) {
        if self.irc.registered || self.irc.nick.is_empty() || self.irc.user.is_empty() {
            return;
        }
        self.irc.registered = true;
        if !self.irc.pass.is_empty() {
            let pass = std::mem::take(&mut self.irc.pass);
            let nick = self.irc.nick.clone();
            self.turn.password("PASS", &nick, &pass);
        }
        let (server, version, mask) = (self.profile.hostname.clone(), self.version(), self.mask());
        self.reply("001", format!(":Welcome to the {} IRC Network {mask}", network(&server)));
        self.reply("002", format!(":Your host is {server}, running version {version}"));
        self.reply("003", ":This server was created 21:14:05 Feb 11 2024");
        self.reply("004", format!("{server} {version} iosw biklmnopstv bklov"));
        self.reply(
            "005",
            format!(
                "CASEMAPPING=rfc1459 CHANTYPES=# CHANMODES=b,k,l,imnpst MAXCHANNELS={CHANNELS} NETWORK={} \
                 NICKLEN={NICK} PREFIX=(ov)@+ :are supported by this server",
                network(&server)
            ),
        );
        self.users();
        self.reply("422", ":MOTD File is missing");
    }

    fn version(&self) -> String {
        let (product, version) = (self.profile.product.as_str(), printable(self.profile.version.as_bytes()));
        match product {
            "unrealircd" => format!("Unreal{version}"),
            "ngircd" => format!("ngircd-{version}"),
            _ => format!("InspIRCd-{version}"),
        }
    }

    fn users(&mut self) {
        self.reply("251", ":There are 1 users and 0 invisible on 1 servers");
        let channels = self.irc.channels.len();
        self.reply("254", format!("{channels} :channels formed"));
        self.reply("255", ":I have 1 clients and 0 servers");
    }

    fn pong(&mut self, message: &Message<'_>) {
        let server = &self.profile.hostname;
        self.turn.say(format!(":{server} PONG {server} :{}\r\n", printable(message.parameter(0))));
    }

    fn quit(&mut self, message: &Message<'_>) {
        let (user, from) = (printable(&self.irc.user), self.turn.caller.from);
        self.turn.end(format!("ERROR :Closing link: ({user}@{from}) [Quit: {}]\r\n", printable(message.parameter(0))));
    }

    fn registered(&mut self, command: &[u8], message: &Message<'_>) {
        let first = message.parameter(0);
        match command {
            b"JOIN" | b"PART" | b"PRIVMSG" | b"WHOIS" | b"TOPIC" | b"USERHOST" | b"ISON" | b"OPER"
                if first.is_empty() =>
            {
                self.missing(command);
            }
            b"JOIN" => first.split(|octet| *octet == b',').take(CHANNELS).for_each(|name| self.join(name)),
            b"PART" => first.split(|octet| *octet == b',').take(CHANNELS).for_each(|name| self.part(name)),
            b"PRIVMSG" if message.parameter(1).is_empty() => self.reply("412", ":No text to send"),
            b"PRIVMSG" => self.message("PRIVMSG", first, message.parameter(1)),
            b"NOTICE" => self.message("NOTICE", first, message.parameter(1)),
            b"MODE" => self.mode(first, message.parameter(1)),
            b"NAMES" => self.names(first),
            b"TOPIC" => self.topic(first, message.parameter(1)),
            b"WHO" => self.who(first),
            b"WHOIS" => self.whois(first),
            b"LIST" => self.list(),
            b"USERHOST" | b"ISON" => self.is_on(command, first),
            b"LUSERS" => self.users(),
            b"MOTD" => self.reply("422", ":MOTD File is missing"),
            b"VERSION" => {
                let text = format!("{}. {} :", self.version(), self.profile.hostname);
                self.reply("351", text);
            }
            b"AWAY" if first.is_empty() => self.reply("305", ":You are no longer marked as being away"),
            b"AWAY" => self.reply("306", ":You have been marked as being away"),
            b"OPER" => {
                self.turn.login(&Login {
                    method: "OPER",
                    user: Some(first),
                    password: Some(message.parameter(1)),
                    ..Login::default()
                });
                self.reply("491", ":Invalid oper credentials");
            }
            b"KICK" | b"INVITE" => {
                self.reply("401", format!("{} :No such nick/channel", printable(message.parameter(1))))
            }
            _ => self.reply("421", format!("{} :Unknown command", printable(command))),
        }
    }

    fn is_in(&self, channel: &[u8]) -> bool {
        self.irc.channels.iter().any(|own| own.eq_ignore_ascii_case(channel))
    }

    fn join(&mut self, channel: &[u8]) {
        let shown = printable(channel);
        let plain = |octet: &u8| *octet > b' ' && *octet != 7;
        if channel.first() != Some(&b'#') || channel.len() > NAME || !channel.iter().all(plain) {
            return self.reply("403", format!("{shown} :No such channel"));
        }
        if self.is_in(channel) {
            return;
        }
        if self.irc.channels.len() >= CHANNELS {
            return self.reply("405", format!("{shown} :You are on too many channels"));
        }
        self.irc.channels.push(channel.into());
        self.say_of_client(format!("JOIN :{shown}"));
        self.names(channel);
    }

    fn part(&mut self, channel: &[u8]) {
        let shown = printable(channel);
        if !self.is_in(channel) {
            return self.reply("442", format!("{shown} :You're not on that channel"));
        }
        self.irc.channels.retain(|own| !own.eq_ignore_ascii_case(channel));
        self.say_of_client(format!("PART {shown}"));
    }

    /// To a channel it reaches nobody else; to itself, itself; to anybody else, nobody.
    fn message(&mut self, kind: &str, to: &[u8], text: &[u8]) {
        let shown = printable(to);
        let (own, there) = (to.eq_ignore_ascii_case(&self.irc.nick), self.is_in(to));
        match (own, there, kind) {
            (true, ..) => self.say_of_client(format!("{kind} {shown} :{}", printable(text))),
            (_, true, _) | (.., "NOTICE") => {}
            _ => self.reply("401", format!("{shown} :No such nick/channel")),
        }
    }

    fn mode(&mut self, of: &[u8], change: &[u8]) {
        let shown = printable(of);
        if of.eq_ignore_ascii_case(&self.irc.nick) {
            match change {
                b"" => self.reply("221", "+i"),
                change => self.say_of_client(format!("MODE {shown} :{}", printable(change))),
            }
        } else if self.is_in(of) {
            match change {
                b"" => self.reply("324", format!("{shown} +nt")),
                b"b" | b"+b" => self.reply("368", format!("{shown} :End of channel ban list")),
                change => self.say_of_client(format!("MODE {shown} {}", printable(change))),
            }
        } else {
            self.reply("401", format!("{shown} :No such nick/channel"));
        }
    }

    fn names(&mut self, channel: &[u8]) {
        let shown = printable(channel);
        if self.is_in(channel) {
            let nick = printable(&self.irc.nick);
            self.reply("353", format!("= {shown} :@{nick}"));
        }
        self.reply("366", format!("{shown} :End of /NAMES list."));
    }

    fn topic(&mut self, channel: &[u8], text: &[u8]) {
        let shown = printable(channel);
        match (self.is_in(channel), text) {
            (false, _) => self.reply("442", format!("{shown} :You're not on that channel")),
            (true, b"") => self.reply("331", format!("{shown} :No topic is set.")),
            (true, text) => self.say_of_client(format!("TOPIC {shown} :{}", printable(text))),
        }
    }

    fn who(&mut self, of: &[u8]) {
        let (shown, nick, user) = (printable(of), printable(&self.irc.nick), printable(&self.irc.user));
        if self.is_in(of) {
            let (server, from) = (self.profile.hostname.clone(), self.turn.caller.from);
            self.reply("352", format!("{shown} {user} {from} {server} {nick} H@ :0 {user}"));
        }
        self.reply("315", format!("{shown} :End of /WHO list."));
    }

    fn whois(&mut self, who: &[u8]) {
        let shown = printable(who);
        if who.eq_ignore_ascii_case(&self.irc.nick) {
            let (server, from, user) = (&self.profile.hostname, self.turn.caller.from, printable(&self.irc.user));
            let (about, at) = (format!("{shown} {user} {from} * :{user}"), format!("{shown} {server} :{server}"));
            self.reply("311", about);
            self.reply("312", at);
        } else {
            self.reply("401", format!("{shown} :No such nick/channel"));
        }
        self.reply("318", format!("{shown} :End of /WHOIS list."));
    }

    fn list(&mut self) {
        self.reply("321", "Channel :Users Name");
        let names: Vec<String> = self.irc.channels.iter().map(|name| printable(name)).collect();
        names.iter().for_each(|name| self.reply("322", format!("{name} 1 :[+nt]")));
        self.reply("323", ":End of channel list.");
    }

    fn is_on(&mut self, command: &[u8], who: &[u8]) {
        let own = who.eq_ignore_ascii_case(&self.irc.nick);
        let (nick, user) = (printable(&self.irc.nick), printable(&self.irc.user));
        match (command, own) {
            (b"ISON", true) => self.reply("303", format!(":{nick}")),
            (b"ISON", false) => self.reply("303", ":"),
            (_, true) => {
                let text = format!(":{nick}=+{user}@{}", self.turn.caller.from);
                self.reply("302", text);
            }
            (_, false) => self.reply("302", ":"),
        }
    }
}

/// The name of the network that a server belongs to: the last part but one of its own.
fn network(server: &str) -> &str {
    let mut labels = server.rsplit('.');
    let last = labels.next().unwrap_or(server);
    labels.next().filter(|label| !label.is_empty()).unwrap_or(last)
}
