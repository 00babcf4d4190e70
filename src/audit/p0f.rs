//! p0f: what passive fingerprinting takes the SYN/ACKs of a host for.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use super::family::{Family, Scanner};
use super::lab::{Lab, Running, Side, Stop};
use super::report::{Report, clean};
use super::target::Host;

const CHECK: &str = "p0f";
/// Where Debian's package puts the database.
const DATABASE: &str = "/etc/p0f/p0f.fp";
/// Octets of the log that are read.
const MOST_LOG: u64 = 8 << 20;
/// Lines that are kept.
const MOST_LINES: usize = 10_000;

/// A SYN/ACK as p0f saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Whose it was.
    pub ip: Ipv4Addr,
    /// The system; `None` if p0f does not know it.
    pub os: Option<String>,
    /// Routers on the way.
    pub distance: Option<u32>,
    /// What was seen, as p0f writes it.
    pub signature: String,
}

/// Reads p0f's log: what it says of SYN/ACKs.
pub fn parse(log: &str) -> Vec<Seen> {
    let mut all = Vec::new();
    for line in log.lines() {
        let line = line.split_once("] ").map_or(line, |(_, rest)| rest);
        let value = |key: &str| line.split('|').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
        if value("mod") != Some("syn+ack") || value("subj") != Some("srv") {
            continue;
        }
        let server = value("srv").and_then(|text| text.split_once('/')).and_then(|(ip, _)| ip.parse().ok());
        let Some(ip) = server else { continue };
        let os = value("os").filter(|os| *os != "???" && !os.is_empty()).map(str::to_owned);
        let distance = value("dist").and_then(|text| text.parse().ok());
        all.push(Seen { ip, os, distance, signature: value("raw_sig").unwrap_or_default().to_owned() });
        if all.len() == MOST_LINES {
            break;
        }
    }
    all
}

/// p0f at the attacker's interfaces, as long as others connect.
pub struct Listening {
    runs: Vec<Running>,
    logs: Vec<PathBuf>,
}

impl Listening {
    /// Starts it.
    pub fn start(lab: &Lab, program: &str, interfaces: &[&str]) -> Result<Listening, Stop> {
        let (mut runs, mut logs) = (Vec::new(), Vec::new());
        for interface in interfaces {
            let log = lab.dir().join(format!("p0f-{interface}"));
            let path = log.to_string_lossy().into_owned();
            runs.push(lab.start(program, &["-i", interface, "-f", DATABASE, "-o", &path, "tcp"])?);
            logs.push(log);
        }
        // It makes its log when it listens, or just before.
        for _ in 0..100 {
            if logs.iter().all(|log| log.exists()) {
                break;
            }
            lab.pause(Duration::from_millis(20))?;
        }
        lab.pause(Duration::from_millis(300))?;
        Ok(Listening { runs, logs })
    }

    /// Ends it and returns what it saw.
    pub fn end(self, lab: &Lab) -> Result<Vec<Seen>, Stop> {
        use std::io::Read;
        lab.pause(Duration::from_millis(300))?;
        self.runs.into_iter().for_each(Running::end);
        let mut seen = Vec::new();
        for log in self.logs {
            let mut octets = Vec::new();
            let read = std::fs::File::open(&log).and_then(|file| file.take(MOST_LOG).read_to_end(&mut octets));
            read.map_err(|error| Stop::Failed(format!("p0f wrote nothing: {error}")))?;
            seen.extend(parse(&String::from_utf8_lossy(&octets)));
        }
        Ok(seen)
    }
}

/// Connects to a port of a host that is open and no container's.
pub fn connect(lab: &Lab, host: &Host) -> Result<(), Stop> {
    let Some(port) = host.speaking.first().or(host.silent.first()) else { return Ok(()) };
    let address = SocketAddr::from((host.ip, *port));
    // Whoever does not answer is found by other checks.
    lab.inside(Side::Attacker, || drop(TcpStream::connect_timeout(&address, Duration::from_secs(2))))
}

/// Compares what p0f saw with what a host is to pass for.
pub fn judge(host: &Host, seen: &[Seen], report: &mut Report) {
    let (name, ip) = (&host.template.name, Some(&host.ip as &dyn ToString));
    let personality = &*host.template.personality.get().name;
    let Some(found) = seen.iter().find(|seen| seen.ip == host.ip) else {
        let why = if host.speaking.is_empty() && host.silent.is_empty() {
            "it has no open port but containers'"
        } else {
            "p0f saw no SYN/ACK of it"
        };
        return report.skip(CHECK, Some(&host.ip.to_string()), why);
    };
    if let Some(row) = report.row(name).filter(|row| row.p0f.is_none()) {
        row.p0f = Some(found.os.as_deref().map_or("?".to_owned(), clean));
    }
    let advice = "choose a personality whose SYN/ACK p0f knows, or accept that it is a rare system";
    match (&found.os, Family::of(personality)) {
        (Some(os), Some(family)) if family.is_known_to(Scanner::P0f) && !family.is_named_by(Scanner::P0f, os) => {
            report.find(3, name, ip, CHECK, os, &format!("the family of `{personality}`"), advice);
        }
        (Some(os), Some(family)) if !family.is_known_to(Scanner::P0f) => {
            report.find(1, name, ip, CHECK, os, &format!("nothing, for p0f does not know `{personality}`"), advice);
        }
        (None, Some(family)) if family.is_known_to(Scanner::P0f) => {
            let seen = format!("unknown: {}", found.signature);
            report.find(1, name, ip, CHECK, &seen, &format!("the family of `{personality}`"), advice);
        }
        _ => {}
    }
    let routers = host.way.hops.len() as u32 - 1;
    if let Some(distance) = found.distance.filter(|distance| found.os.is_some() && *distance != routers) {
        let advice = "its TTL is not what its system begins with: report it as a bug";
        let expected = format!("{routers} routers");
        report.find(2, name, ip, CHECK, &format!("{distance} routers"), &expected, advice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read() {
        let log = "\
[2026/11/29 08:00:00] mod=syn|cli=10.0.0.2/40000|srv=10.0.0.1/22|subj=cli|os=Linux 3.11 and newer|dist=0|params=none|raw_sig=4:64+0:0:1460
[2026/11/29 08:00:00] mod=syn+ack|cli=10.0.0.2/40000|srv=10.0.0.1/22|subj=srv|os=Linux 3.x|dist=2|params=none|raw_sig=4:62+2:0:1460:mss*45,7
[2026/11/29 08:00:01] mod=syn+ack|cli=10.0.0.2/40002|srv=10.0.0.3/22|subj=srv|os=???|dist=0|params=none|raw_sig=4:255
";
        let ip = |n| Ipv4Addr::new(10, 0, 0, n);
        let linux = Some("Linux 3.x".to_owned());
        let wanted = [
            Seen { ip: ip(1), os: linux, distance: Some(2), signature: "4:62+2:0:1460:mss*45,7".to_owned() },
            Seen { ip: ip(3), os: None, distance: Some(0), signature: "4:255".to_owned() },
        ];
        assert_eq!(parse(log), wanted);
    }

    #[test]
    fn absurd_logs_do_no_harm() {
        for absurd in
            ["", "\n\n", "mod", "mod=syn+ack", "[ ] mod=syn+ack|subj=srv|srv=x/1", "]]] |||===", "\0\u{1b}[2J"]
        {
            assert_eq!(parse(absurd), [], "{absurd}");
        }
        let many = "mod=syn+ack|subj=srv|srv=10.0.0.1/1|dist=-1\n".repeat(MOST_LINES + 5);
        let all = parse(&many);
        assert_eq!((all.len(), all[0].distance), (MOST_LINES, None));
    }
}
