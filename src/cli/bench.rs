//! `honeyweave bench`: traffic to size a machine with.

mod show;
mod watch;

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::bench::{self, BenchError, FramesTo, Load, Probes, Question, Route};
use crate::topology::units;
use crate::wire::Mac;

/// The longest time that anything may take.
const LONGEST_US: u64 = 86_400_000_000;
/// The highest rate that can be asked for; no machine sends that much.
const HIGHEST_RATE: f64 = 1e9;

/// Arguments.
#[derive(clap::Args, Debug)]
#[command(
    about = "Generate traffic and measure the answers, to size a machine",
    long_about = "Generate traffic and measure the answers, to size a machine.\n\n\
        This is a load generator. Send only to networks that are yours or whose owner has agreed: other people's \
        networks take it for a scan or a flood, which it is. It sends 10,000 frames a second for 10 seconds unless \
        it is told otherwise, and to no router that was not named."
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Send echo requests (ping)
    Echo(ProbeArgs),
    /// Ask who has the addresses: ARP, or neighbor discovery over IPv6
    Arp(ProbeArgs),
    /// Send SYNs to a TCP port; count SYN/ACK and RST. Open ports keep half-open connections for a while
    Syn(SynArgs),
    /// Open TCP connections, wait for what the target says, and close them
    Handshake(HandshakeArgs),
    /// Send frames of no protocol to one MAC, or count them at the other end, to measure forwarding
    Frames(FramesArgs),
}

/// How much to send.
#[derive(clap::Args, Debug)]
struct LoadArgs {
    /// Frames a second, such as 10000, 50k or 1.5M; `max` for as many as this machine sends
    #[arg(long, value_name = "N", default_value = "10k", value_parser = rate)]
    rate: Rate,
    /// Longest time of sending [default: 10s; a day if --count or --once ends it]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Frames to send at most
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// How long late answers are waited for
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    wait: Duration,
    /// Never sleep: keeps a processor busy, and measures latencies without the time of waking up
    #[arg(long)]
    spin: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl LoadArgs {
    fn load(&self, default: Duration) -> Load {
        let bound = if self.count.is_some() { Duration::from_micros(LONGEST_US) } else { default };
        Load {
            rate: self.rate.0,
            duration: self.duration.unwrap_or(bound),
            count: self.count,
            wait: self.wait,
            spin: self.spin,
        }
    }
}

/// Whom to ask.
#[derive(clap::Args, Debug)]
struct ProbeArgs {
    /// The interface to send by
    #[arg(long, short, value_name = "IFACE")]
    interface: String,
    /// Whom to ask: every address of this prefix, in a mixed order, again and again
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    prefix: IpNet,
    /// Ask every address once only
    #[arg(long)]
    once: bool,
    /// The prefix is behind this router, whose MAC is asked for
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["gateway_mac", "on_link"])]
    via: Option<IpAddr>,
    /// Send everything to this MAC, asking for none
    #[arg(long, value_name = "MAC", conflicts_with = "on_link")]
    gateway_mac: Option<Mac>,
    /// The prefix is on this link, whatever the interface's addresses are
    #[arg(long)]
    on_link: bool,
    /// Send from that many addresses in turn
    #[arg(long, value_name = "N", default_value_t = 1, requires = "source_prefix")]
    sources: u64,
    /// Send from the first addresses of this prefix, which nobody else may have [default: the interface's address]
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    source_prefix: Option<IpNet>,
    #[command(flatten)]
    load: LoadArgs,
}

#[derive(clap::Args, Debug)]
struct SynArgs {
    /// The destination port
    #[arg(long, default_value_t = 80)]
    port: u16,
    #[command(flatten)]
    probe: ProbeArgs,
}

#[derive(clap::Args, Debug)]
struct HandshakeArgs {
    /// The destination port
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// What to say first, with \r, \n, \t, \0, \\ and \xHH; nothing to wait for a banner
    #[arg(long, value_name = "TEXT", value_parser = unescape, default_value = "")]
    request: Request,
    #[command(flatten)]
    probe: ProbeArgs,
}

#[derive(clap::Args, Debug)]
struct FramesArgs {
    /// The interface to send by, or to count on
    #[arg(long, short, value_name = "IFACE")]
    interface: String,
    /// The destination
    #[arg(long, value_name = "MAC", required_unless_present = "receive")]
    to: Option<Mac>,
    /// Octets of a frame on the wire, FCS included
    #[arg(long, value_name = "OCTETS", default_value_t = 64)]
    size: usize,
    /// Source MACs that take turns
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    sources: u64,
    /// Count what arrives at this other interface
    #[arg(long, value_name = "IFACE", conflicts_with = "receive")]
    count_on: Option<String>,
    /// Count what another process sends, until none has come for --wait [default of --duration then: 60s]
    #[arg(long, conflicts_with_all = ["to", "count", "rate", "sources"])]
    receive: bool,
    #[command(flatten)]
    load: LoadArgs,
}

/// Frames a second, `None` without a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rate(Option<u64>);

/// Octets to be sent. (A vector would be a list of arguments to clap.)
#[derive(Clone, PartialEq, Eq, Debug)]
struct Request(Vec<u8>);

/// Sends, measures and prints.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let (probe, question) = match args.command {
        Command::Frames(args) => return run_frames(&args),
        Command::Echo(args) => (args, Question::Echo),
        Command::Arp(args) => (args, Question::Arp),
        Command::Syn(SynArgs { port, probe }) => (probe, Question::Syn { port }),
        Command::Handshake(HandshakeArgs { port, request, probe }) => {
            (probe, Question::Handshake { port, request: request.0 })
        }
    };
    let route = match (probe.via, probe.gateway_mac, probe.on_link) {
        (Some(router), ..) => Route::Via(router),
        (_, Some(mac), _) => Route::Mac(mac),
        (.., true) => Route::SurelyLink,
        _ => Route::Link,
    };
    let probes = Probes {
        question,
        prefix: probe.prefix,
        route,
        sources: probe.sources,
        source_prefix: probe.source_prefix,
        once: probe.once,
    };
    // Once round ends by itself.
    let longest = if probe.once { Duration::from_micros(LONGEST_US) } else { Duration::from_secs(10) };
    let mut watch = watch::Onlooker::new()?;
    let result = bench::probe(&probe.interface, &probes, &probe.load.load(longest), &mut watch);
    drop(watch);
    report(result, probe.load.json, |report| show::probes(report, probe.load.rate.0.is_none()))
}

fn run_frames(args: &FramesArgs) -> miette::Result<ExitCode> {
    let mut watch = watch::Onlooker::new()?;
    let Some(mac) = args.to else {
        let load = args.load.load(Duration::from_secs(60));
        let ready = |mac| super::remark(&format!("receiving on {}, whose MAC is {mac}", args.interface));
        let result = bench::receive(&args.interface, &load, ready, &mut watch);
        drop(watch);
        return report(result, args.load.json, |report| show::received(report, args.load.spin));
    };
    let frames = FramesTo { mac, size: args.size, flows: args.sources, count_on: args.count_on.clone() };
    let result = bench::frames(&args.interface, &frames, &args.load.load(Duration::from_secs(10)), &mut watch);
    drop(watch);
    report(result, args.load.json, |report| show::frames(report, args.load.rate.0.is_none()))
}

fn report<R: Serialize>(
    result: Result<R, BenchError>,
    json: bool,
    show: impl FnOnce(&R) -> String,
) -> miette::Result<ExitCode> {
    match result {
        Ok(report) if json => {
            let text = serde_json::to_string(&report).map_err(|error| miette::miette!("{error}"))?;
            super::print(&format!("{text}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(report) => {
            super::print(&show(&report))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            super::complain(&miette::miette!("{error}"));
            Ok(ExitCode::from(if error.is_input() { super::BAD_INPUT } else { super::FAILURE }))
        }
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    let number = text.strip_suffix("/s").unwrap_or(text);
    let (number, factor) = match number.char_indices().last() {
        Some((at, 'k')) => (&number[..at], 1e3),
        Some((at, 'M')) => (&number[..at], 1e6),
        _ => (number, 1.0),
    };
    let digits = number.starts_with(|c: char| c.is_ascii_digit()) && number.len() <= 18;
    let value = digits.then(|| number.parse::<f64>().ok()).flatten().map(|number| (number * factor).round());
    match value {
        Some(value) if (1.0..=HIGHEST_RATE).contains(&value) => Ok(Rate(Some(value as u64))),
        _ => Err("write frames a second, 1 to 1000M, such as 10000, 50k or 1.5M, or `max`".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let micros = units::duration_us(text, LONGEST_US).map_err(|(what, help)| format!("{what}: {help}"))?;
    Ok(Duration::from_micros(micros))
}

/// A prefix, or an address alone.
fn prefix(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    net.ok_or_else(|| "write a prefix such as 10.1.0.0/16 or fd00::/112, or an address".to_owned())
}

fn unescape(text: &str) -> Result<Request, String> {
    let help = || "after a backslash come r, n, t, 0, another one, or x and two hexadecimal digits".to_owned();
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        octets.push(match rest.next().ok_or_else(help)? {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '0' => 0,
            '\\' => b'\\',
            'x' => {
                let mut digit = || rest.next().and_then(|c| c.to_digit(16)).ok_or_else(help);
                (digit()? << 4 | digit()?) as u8
            }
            _ => return Err(help()),
        });
    }
    Ok(Request(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_people_write_them() {
        for (text, expected) in [
            ("10000", Some(10_000)),
            ("50k", Some(50_000)),
            ("700k/s", Some(700_000)),
            ("1.5M", Some(1_500_000)),
            ("1", Some(1)),
            ("max", None),
        ] {
            assert_eq!(rate(text), Ok(Rate(expected)), "{text}");
        }
        for wrong in ["", "0", "k", "-1", "1G", "nan", "inf", "1e400", "2000M", "0.1", "fast"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn requests_have_escapes() {
        assert_eq!(unescape(r"GET / HTTP/1.0\r\n\x41\0\\é"), Ok(Request("GET / HTTP/1.0\r\nA\0\\é".into())));
        for wrong in [r"\", r"\q", r"\x4", r"\x4g"] {
            assert!(unescape(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn prefixes_and_addresses() {
        assert_eq!(prefix("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(prefix("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert!(prefix("10.0.0").is_err());
    }
}
