//! SSH up to the key exchange (RFC 4253): identification, algorithms, and a polite goodbye.

use super::profile::Profile;
use super::say::{Turn, at, line};

/// What an OpenSSH 9 offers, in the order of RFC 4253 §7.1: key exchange, host keys, then ciphers, MACs and
/// compression for both directions.
const OPENSSH: [&str; 5] = [
    "sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,\
     ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,\
     diffie-hellman-group18-sha512,diffie-hellman-group14-sha256",
    "rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256,ssh-ed25519",
    "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com",
    "umac-64-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,\
     hmac-sha1-etm@openssh.com,umac-64@openssh.com,umac-128@openssh.com,hmac-sha2-256,hmac-sha2-512,hmac-sha1",
    "none,zlib@openssh.com",
];
const DROPBEAR: [&str; 5] = [
    "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp521,ecdh-sha2-nistp384,ecdh-sha2-nistp256,\
     diffie-hellman-group14-sha256,kexguess2@matt.ucc.asn.au",
    "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-256,ssh-rsa",
    "chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr",
    "hmac-sha1,hmac-sha2-256",
    "zlib@openssh.com,none",
];

const DISCONNECT: u8 = 1;
const IGNORE: u8 = 2;
const DEBUG: u8 = 4;
const KEXINIT: u8 = 20;

/// A connection.
#[derive(Default)]
pub struct Ssh {
    /// The client has said who it is.
    met: bool,
}

impl Ssh {
    pub(super) fn open(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        turn.say(identification(profile) + "\r\n");
    }

    pub(super) fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        if self.met {
            return self.packet(input, turn);
        }
        let Some((taken, line)) = line(input) else { return 0 };
        if !line.starts_with(b"SSH-2.0-") && !line.starts_with(b"SSH-1.99-") {
            turn.end("Invalid SSH identification string.\r\n");
            return taken;
        }
        turn.request(line);
        self.met = true;
        let algorithms = if profile.is("dropbear") { &DROPBEAR } else { &OPENSSH };
        let mut payload = vec![KEXINIT];
        payload.extend_from_slice(&turn.caller.octets::<16>(1));
        // Key exchange, host keys; cipher, MAC and compression twice; languages twice, of which there are none.
        for list in [0, 1, 2, 2, 3, 3, 4, 4] {
            payload.extend_from_slice(&(algorithms[list].len() as u32).to_be_bytes());
            payload.extend_from_slice(algorithms[list].as_bytes());
        }
        payload.extend_from_slice(&[0; 8 + 1 + 4]);
        say_packet(&payload, turn);
        taken
    }

    /// A packet in clear (RFC 4253 §6).
    fn packet(&mut self, input: &[u8], turn: &mut Turn<'_>) -> usize {
        let Some(length) = at(input, 0).map(u32::from_be_bytes) else { return 0 };
        // OpenSSH's own clients stay far below this, which is what a connection leaves unread.
        if !(5..=8000).contains(&length) {
            turn.close = true;
            return input.len();
        }
        let whole = 4 + length as usize;
        let Some(packet) = input.get(4..whole) else { return 0 };
        match packet[1] {
            KEXINIT | IGNORE | DEBUG => {}
            DISCONNECT => turn.close = true,
            _ => {
                // SSH_DISCONNECT_KEY_EXCHANGE_FAILED (RFC 4253 §11.1).
                let why = b"key exchange failed";
                let mut payload = vec![DISCONNECT, 0, 0, 0, 3, 0, 0, 0, why.len() as u8];
                payload.extend_from_slice(why);
                payload.extend_from_slice(&[0; 4]);
                say_packet(&payload, turn);
                turn.close = true;
            }
        }
        whole
    }
}

fn identification(profile: &Profile) -> String {
    if let Some(banner) = &profile.banner {
        return banner.trim_end().to_owned();
    }
    let version = &profile.version;
    // Either the whole software version, as it stands in a banner, or the product's version.
    if version.starts_with(|c: char| c.is_ascii_alphabetic()) {
        format!("SSH-2.0-{version}")
    } else if profile.is("dropbear") {
        format!("SSH-2.0-dropbear_{version}")
    } else {
        format!("SSH-2.0-OpenSSH_{version}")
    }
}

/// Says a packet without encryption: padded to a multiple of eight by at least four octets.
fn say_packet(payload: &[u8], turn: &mut Turn<'_>) {
    let padding = 4 + (8 - (5 + payload.len() + 4) % 8) % 8;
    turn.say(((1 + payload.len() + padding) as u32).to_be_bytes());
    turn.say([padding as u8]);
    turn.say(payload);
    turn.say(&[0; 16][..padding]);
}
