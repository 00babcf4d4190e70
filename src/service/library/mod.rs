//! Services with little interaction: each says enough for a scanner to name the product and version that its
//! template asks for, asks for credentials, tells of them, and lets nobody in.
//!
//! They are state machines: no I/O, no clock, and a few dozen octets for each connection. What comes is looked at
//! where it lies, message by message; whatever is too long for one ends the connection.
//!
//! * `profile`: what a template says; `say`: what is said and told
//! * one module for each protocol; those over UDP keep no state at all

mod dns;
mod ftp;
mod imap;
mod irc;
mod modbus;
mod mysql;
mod ntlm;
mod ntp;
mod pop3;
mod postgresql;
mod profile;
mod rdp;
mod redis;
mod say;
mod sip;
mod smb;
mod smtp;
mod snmp;
mod ssh;
mod telnet;
#[cfg(test)]
mod tests;
mod vnc;

pub use profile::{Profile, Protocol};
pub use say::{Caller, Login};
pub(super) use say::{Json, base64};

use super::inline::{Stream, Then};
use crate::event::EventId;
use crate::wire::{Duration, Instant};
use say::Turn;

/// How long a client may be silent: what OpenSSH calls `LoginGraceTime` is 120 s, too.
const PATIENCE: Duration = Duration::from_secs(120);
/// Octets that may lie unread for a message to become whole; what a connection keeps is no more.
const MOST: usize = 8 * 1024;
/// Octets of answers that are made without looking whether they leave.
const TOGETHER: usize = 2048;
/// Events of one connection, after which it is closed: no client has so much to say here.
const MAX_TOLD: u16 = 256;

/// One connection to a service of the library.
pub struct Talk {
    speaker: Speaker,
    caller: Caller,
    /// What is still to be sent, and how much of it was.
    out: Vec<u8>,
    sent: usize,
    /// When something came last, or left.
    since: Instant,
    begun: bool,
    closing: bool,
    /// Events that it has told.
    told: u16,
}

/// Who speaks.
enum Speaker {
    Ssh(ssh::Ssh),
    Ftp(ftp::Ftp),
    Smtp(Box<smtp::Smtp>),
    Pop3(pop3::Pop3),
    Imap(Box<imap::Imap>),
    Telnet(Box<telnet::Telnet>),
    Mysql(mysql::Mysql),
    Postgresql(Box<postgresql::Postgresql>),
    Redis(redis::Redis),
    Rdp(rdp::Rdp),
    Smb(smb::Smb),
    Vnc(vnc::Vnc),
    Modbus(modbus::Modbus),
    Irc(Box<irc::Irc>),
    /// Protocols over UDP have nothing to say here.
    Mute,
}

impl Speaker {
    fn new(protocol: Protocol) -> Speaker {
        match protocol {
            Protocol::Ssh => Speaker::Ssh(Default::default()),
            Protocol::Ftp => Speaker::Ftp(Default::default()),
            Protocol::Smtp => Speaker::Smtp(Default::default()),
            Protocol::Pop3 => Speaker::Pop3(Default::default()),
            Protocol::Imap => Speaker::Imap(Default::default()),
            Protocol::Telnet => Speaker::Telnet(Default::default()),
            Protocol::Mysql => Speaker::Mysql(Default::default()),
            Protocol::Postgresql => Speaker::Postgresql(Default::default()),
            Protocol::Redis => Speaker::Redis(Default::default()),
            Protocol::Rdp => Speaker::Rdp(Default::default()),
            Protocol::Smb => Speaker::Smb(Default::default()),
            Protocol::Vnc => Speaker::Vnc(Default::default()),
            Protocol::Modbus => Speaker::Modbus(Default::default()),
            Protocol::Irc => Speaker::Irc(Default::default()),
            Protocol::Dns | Protocol::Ntp | Protocol::Snmp | Protocol::Sip => Speaker::Mute,
        }
    }

    /// What is said before anything came.
    fn open(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        match self {
            Speaker::Ssh(ssh) => ssh.open(profile, turn),
            Speaker::Ftp(ftp) => ftp.open(profile, turn),
            Speaker::Smtp(smtp) => smtp.open(profile, turn),
            Speaker::Pop3(pop3) => pop3.open(profile, turn),
            Speaker::Imap(imap) => imap.open(profile, turn),
            Speaker::Telnet(telnet) => telnet.open(profile, turn),
            Speaker::Mysql(mysql) => mysql.open(profile, turn),
            Speaker::Vnc(vnc) => vnc.open(profile, turn),
            Speaker::Irc(irc) => irc.open(profile, turn),
            Speaker::Postgresql(_) | Speaker::Redis(_) | Speaker::Rdp(_) | Speaker::Smb(_) => {}
            Speaker::Modbus(_) | Speaker::Mute => {}
        }
    }

    /// Answers the first message of `input`; returns its length, 0 if it is not whole.
    fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        match self {
            Speaker::Ssh(ssh) => ssh.data(profile, input, turn),
            Speaker::Ftp(ftp) => ftp.data(profile, input, turn),
            Speaker::Smtp(smtp) => smtp.data(profile, input, turn),
            Speaker::Pop3(pop3) => pop3.data(profile, input, turn),
            Speaker::Imap(imap) => imap.data(profile, input, turn),
            Speaker::Telnet(telnet) => telnet.data(profile, input, turn),
            Speaker::Mysql(mysql) => mysql.data(profile, input, turn),
            Speaker::Postgresql(postgresql) => postgresql.data(profile, input, turn),
            Speaker::Redis(redis) => redis.data(profile, input, turn),
            Speaker::Rdp(rdp) => rdp.data(profile, input, turn),
            Speaker::Smb(smb) => smb.data(profile, input, turn),
            Speaker::Vnc(vnc) => vnc.data(profile, input, turn),
            Speaker::Modbus(modbus) => modbus.data(profile, input, turn),
            Speaker::Irc(irc) => irc.data(profile, input, turn),
            Speaker::Mute => input.len(),
        }
    }
}

impl Speaker {
    /// Nothing came for long. Whether it goes on waiting, with what it says meanwhile.
    fn idle(&mut self, profile: &Profile, turn: &mut Turn<'_>) -> bool {
        match self {
            Speaker::Irc(irc) => irc.idle(profile, turn),
            _ => false,
        }
    }
}

impl Talk {
    /// A new connection of `caller`.
    pub fn new(profile: &Profile, caller: Caller) -> Talk {
        Talk {
            speaker: Speaker::new(profile.protocol),
            caller,
            out: Vec::new(),
            sent: 0,
            since: caller.now,
            begun: false,
            closing: false,
            told: 0,
        }
    }

    /// Does what can be done now.
    pub fn poll(&mut self, profile: &Profile, now: Instant, stream: &mut dyn Stream) -> Then {
        let then = self.serve(profile, now, stream);
        if now - self.since < PATIENCE {
            return then;
        }
        // What it could not even send, nobody waits for.
        if self.sent < self.out.len() {
            return Then::Close;
        }
        let mut waits = false;
        self.turn(stream, |speaker, _, turn| {
            waits = speaker.idle(profile, turn);
            0
        });
        if waits {
            self.since = now;
        }
        let then = self.serve(profile, now, stream);
        if waits { then } else { Then::Close }
    }

    fn serve(&mut self, profile: &Profile, now: Instant, stream: &mut dyn Stream) -> Then {
        self.caller.now = now;
        if !std::mem::replace(&mut self.begun, true) {
            self.turn(stream, |speaker, _, turn| {
                speaker.open(profile, turn);
                0
            });
        }
        loop {
            while self.sent < self.out.len() {
                let sent = stream.send(&self.out[self.sent..]);
                if sent == 0 {
                    return Then::Stay;
                }
                self.sent += sent;
                self.since = now;
            }
            // Most connections wait most of the time: they keep no memory for it.
            (self.out, self.sent) = (Vec::new(), 0);
            if self.closing {
                let left = stream.peek().len();
                stream.take(left);
                return Then::Close;
            }
            let mut taken = 0;
            while self.out.len() < TOGETHER && !self.closing && !stream.peek().is_empty() {
                let n = self.turn(stream, |speaker, input, turn| {
                    let n = speaker.data(profile, input, turn);
                    // What will never be whole is not waited for.
                    turn.close |= n == 0 && input.len() >= MOST;
                    n
                });
                stream.take(n);
                taken += n;
                if n == 0 {
                    break;
                }
            }
            if taken > 0 {
                self.since = now;
            }
            if taken == 0 && self.out.is_empty() && !self.closing {
                return if stream.is_last() { Then::Close } else { Then::Stay };
            }
        }
    }

    /// One turn, and what it tells of.
    fn turn(
        &mut self,
        stream: &mut dyn Stream,
        act: impl FnOnce(&mut Speaker, &[u8], &mut Turn<'_>) -> usize,
    ) -> usize {
        let mut told: Vec<(EventId, Vec<u8>)> = Vec::new();
        let mut tell = |id: EventId, data: &[u8]| told.push((id, data[..data.len().min(1024)].to_vec()));
        let mut turn = Turn { caller: self.caller, out: &mut self.out, tell: &mut tell, close: false };
        let input = stream.peek();
        let n = act(&mut self.speaker, input, &mut turn).min(input.len());
        let close = turn.close;
        self.told = self.told.saturating_add(told.len() as u16);
        self.closing |= close || self.told >= MAX_TOLD;
        for (id, data) in told {
            stream.tell(id, &data);
        }
        n
    }

    /// Octets that it keeps besides itself.
    pub fn kept(&self) -> usize {
        let own = match &self.speaker {
            Speaker::Irc(irc) => irc.kept() + size_of::<irc::Irc>(),
            Speaker::Imap(imap) => imap.kept() + size_of::<imap::Imap>(),
            Speaker::Telnet(telnet) => telnet.kept() + size_of::<telnet::Telnet>(),
            Speaker::Ftp(_) | Speaker::Pop3(_) => 128,
            Speaker::Smtp(_) => 128 + size_of::<smtp::Smtp>(),
            Speaker::Postgresql(_) => 256 + size_of::<postgresql::Postgresql>(),
            _ => 0,
        };
        self.out.capacity() + own + size_of::<Talk>()
    }

    /// When it gives up a silent client.
    pub fn deadline(&self) -> Instant {
        self.since + PATIENCE
    }
}

/// Answers a datagram into `out`: at most three times its length, and only where the protocol has something to say.
pub fn answer(
    profile: &Profile,
    caller: Caller,
    datagram: &[u8],
    out: &mut Vec<u8>,
    tell: &mut dyn FnMut(EventId, &[u8]),
) {
    out.clear();
    let mut turn = Turn { caller, out, tell, close: false };
    match profile.protocol {
        Protocol::Dns => dns::answer(profile, datagram, &mut turn),
        Protocol::Ntp => ntp::answer(profile, datagram, &mut turn),
        Protocol::Snmp => snmp::answer(profile, datagram, &mut turn),
        Protocol::Sip => sip::answer(profile, datagram, &mut turn),
        _ => {}
    }
    // Half an answer would be none, so there is none (RFC 9000 §8 has the same bound for unproven addresses).
    if out.len() > (3 * datagram.len()).min(1400) {
        out.clear();
    }
}
