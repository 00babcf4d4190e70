//! FTP (RFC 959) up to the password.

use super::profile::Profile;
use super::say::{Turn, kept, line, word};

/// Passwords until the line is cut, as by vsftpd.
const TRIES: u8 = 3;

/// A connection.
#[derive(Default)]
pub struct Ftp {
    user: Option<Box<[u8]>>,
    tries: u8,
}

impl Ftp {
    pub(super) fn open(&mut self, profile: &Profile, turn: &mut Turn<'_>) {
        let (version, host) = (&profile.version, &profile.hostname);
        turn.say(match (&profile.banner, profile.product.as_str()) {
            (Some(banner), _) => format!("220 {}\r\n", banner.trim_end()),
            (_, "proftpd") => format!("220 ProFTPD {version} Server ({host}) [{host}]\r\n"),
            (_, "pure-ftpd") => "220---------- Welcome to Pure-FTPd [privsep] [TLS] ----------\r\n\
                                 220-You are user number 1 of 50 allowed.\r\n\
                                 220 You will be disconnected after 15 minutes of inactivity.\r\n"
                .to_owned(),
            (_, "filezilla") => format!("220 FileZilla Server {version}\r\n"),
            (_, "microsoft") => "220 Microsoft FTP Service\r\n".to_owned(),
            _ => format!("220 (vsFTPd {version})\r\n"),
        });
    }

    pub(super) fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        let Some((taken, line)) = line(input) else { return 0 };
        let (verb, rest) = word(line);
        let is_unix = !profile.is("microsoft");
        match verb.to_ascii_uppercase().as_slice() {
            b"USER" => {
                turn.request(line);
                self.user = Some(kept(rest));
                turn.say(if is_unix { "331 Please specify the password.\r\n" } else { "331 Password required\r\n" });
            }
            b"PASS" => {
                let Some(user) = self.user.take() else {
                    turn.say("503 Login with USER first.\r\n");
                    return taken;
                };
                turn.password("PASS", &user, rest);
                self.tries += 1;
                turn.say(if is_unix { "530 Login incorrect.\r\n" } else { "530 User cannot log in.\r\n" });
                turn.close = self.tries >= TRIES;
            }
            b"QUIT" => turn.end("221 Goodbye.\r\n"),
            b"SYST" if is_unix => turn.say("215 UNIX Type: L8\r\n"),
            b"SYST" => turn.say("215 Windows_NT\r\n"),
            b"FEAT" => turn.say(
                "211-Features:\r\n EPRT\r\n EPSV\r\n MDTM\r\n PASV\r\n REST STREAM\r\n SIZE\r\n TVFS\r\n211 End\r\n",
            ),
            b"NOOP" => turn.say("200 NOOP ok.\r\n"),
            b"AUTH" => {
                turn.request(line);
                turn.say("530 Please login with USER and PASS.\r\n");
            }
            b"" => turn.say("500 Unknown command.\r\n"),
            _ => {
                turn.request(line);
                turn.say("530 Please login with USER and PASS.\r\n");
            }
        }
        taken
    }
}
