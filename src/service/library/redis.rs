//! Redis: RESP and inline commands (its "protocol specification"), of which PING, INFO and AUTH are answered.

use super::profile::Profile;
use super::say::{MAX_LINE, Turn, line, printable};

/// Arguments of a command that are looked at.
const MAX_ARGUMENTS: usize = 16;

/// A connection.
#[derive(Default)]
pub struct Redis;

/// What stands at the beginning of the input.
enum Read<'a> {
    /// A command, and its octets.
    Whole(usize, Vec<&'a [u8]>),
    /// Not all of it has come.
    Part,
    /// No command.
    Bad,
}

impl Redis {
    pub(super) fn data(&mut self, profile: &Profile, input: &[u8], turn: &mut Turn<'_>) -> usize {
        let (taken, arguments) = match read(input) {
            Read::Whole(taken, arguments) => (taken, arguments),
            Read::Part => return 0,
            Read::Bad => {
                turn.end("-ERR Protocol error: invalid multibulk length\r\n");
                return input.len();
            }
        };
        let Some((command, rest)) = arguments.split_first() else { return taken };
        match (command.to_ascii_uppercase().as_slice(), rest) {
            (b"PING", []) => turn.say("+PONG\r\n"),
            (b"PING", [text, ..]) => {
                turn.say(format!("${}\r\n", text.len()));
                turn.say(text);
                turn.say("\r\n");
            }
            (b"QUIT", _) => turn.end("+OK\r\n"),
            (b"AUTH", [password]) => {
                turn.password("AUTH", b"default", password);
                turn.say("-WRONGPASS invalid username-password pair or user is disabled.\r\n");
            }
            (b"AUTH", [user, password]) => {
                turn.password("AUTH", user, password);
                turn.say("-WRONGPASS invalid username-password pair or user is disabled.\r\n");
            }
            (b"AUTH", _) => turn.say("-ERR wrong number of arguments for 'auth' command\r\n"),
            (b"INFO", _) => {
                turn.request(&joined(&arguments));
                info(profile, turn);
            }
            (b"COMMAND" | b"HELLO" | b"CLIENT" | b"ECHO", _) => turn.say("-NOAUTH Authentication required.\r\n"),
            _ => {
                turn.request(&joined(&arguments));
                turn.say("-NOAUTH Authentication required.\r\n");
            }
        }
        taken
    }
}

fn joined(arguments: &[&[u8]]) -> Vec<u8> {
    arguments.join(&b' ')
}

fn info(profile: &Profile, turn: &mut Turn<'_>) {
    let id = u64::from_be_bytes(turn.caller.octets::<8>(9));
    let text = format!(
        "# Server\r\nredis_version:{}\r\nredis_git_sha1:00000000\r\nredis_git_dirty:0\r\nredis_mode:standalone\r\n\
         os:Linux 6.1.0-28-amd64 x86_64\r\narch_bits:64\r\nmultiplexing_api:epoll\r\nprocess_id:{}\r\n\
         run_id:{id:016x}{:016x}{:08x}\r\ntcp_port:6379\r\n\r\n# Clients\r\nconnected_clients:1\r\n\r\n\
         # Memory\r\nused_memory:951472\r\nused_memory_human:929.17K\r\n\r\n# Replication\r\nrole:master\r\n\
         connected_slaves:0\r\n\r\n# Keyspace\r\n",
        printable(profile.version.as_bytes()),
        600 + id % 300,
        id.rotate_left(17),
        id as u32
    );
    turn.say(format!("${}\r\n{text}\r\n", text.len()));
}

fn read(input: &[u8]) -> Read<'_> {
    let Some((mut taken, first)) = line(input) else { return Read::Part };
    let Some(count) = first.strip_prefix(b"*") else {
        let words = first.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        return Read::Whole(taken, words.take(MAX_ARGUMENTS).collect());
    };
    let Some(count) = number(count).filter(|count| *count <= MAX_ARGUMENTS) else { return Read::Bad };
    let mut arguments = Vec::with_capacity(count);
    for _ in 0..count {
        let Some((head, text)) = line(&input[taken..]) else { return Read::Part };
        let length = text.strip_prefix(b"$").and_then(number).filter(|length| *length <= MAX_LINE);
        let Some(length) = length else { return Read::Bad };
        let Some(value) = input.get(taken + head..taken + head + length + 2) else { return Read::Part };
        arguments.push(&value[..length]);
        taken += head + length + 2;
    }
    Read::Whole(taken, arguments)
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
