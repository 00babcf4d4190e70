//! nmap's version detection: is a product named for each open port.

use std::time::Duration;

use super::lab::{Lab, Side, Stop};
use super::report::{Report, clean};
use super::target::Host;

const CHECK: &str = "services";
/// How long something that says nothing by itself is waited for.
const SILENCE: Duration = Duration::from_millis(700);

/// What nmap found at the ports of a host; kept apart from the report so that several hosts can be asked at once.
#[cfg(feature = "nmap-db")]
pub struct Asked(Result<super::nmap::Scanned, String>);

/// Has nmap ask the ports of a host that answer.
#[cfg(feature = "nmap-db")]
pub fn ask(lab: &Lab, program: &str, host: &Host) -> Result<Asked, Stop> {
    let ports: Vec<String> = host.speaking.iter().map(u16::to_string).collect();
    let (ports, target) = (ports.join(","), host.ip.to_string());
    let quick = ["--version-light", "--max-retries", "2", "--host-timeout", "50s"];
    let args = ["-sV", "-n", "-Pn", "-p", &ports, "-oX", "-", &target];
    match lab.run(program, &[&quick[..], &args].concat(), Duration::from_secs(55)) {
        Ok(said) if said.ok => Ok(Asked(super::nmap::parse(&said.out))),
        Ok(said) => Ok(Asked(Err(said.err))),
        Err(Stop::Failed(why)) => Ok(Asked(Err(why))),
        Err(stop) => Err(stop),
    }
}

/// Judges what was found.
#[cfg(feature = "nmap-db")]
pub fn judge(host: &Host, asked: &Asked, report: &mut Report) {
    let scanned = match &asked.0 {
        Ok(scanned) if !scanned.timed_out => scanned,
        Ok(_) => return report.skip(CHECK, Some(&host.ip.to_string()), "nmap took too long"),
        Err(why) => return report.skip(CHECK, Some(&host.ip.to_string()), why.trim()),
    };
    let name = &host.template.name;
    let mut named = 0;
    for port in &host.speaking {
        let found = scanned.ports.iter().find(|found| found.port == *port);
        let (seen, severity) = match found {
            Some(found) if found.open && !found.product.is_empty() => {
                named += 1;
                continue;
            }
            Some(found) if found.open && !found.guessed => (format!("port {port}: {}, no product", found.service), 1),
            Some(found) if found.open => (format!("port {port} is open, and nmap knows nothing that answers so"), 2),
            _ => (format!("port {port} is not open"), 2),
        };
        let advice = "use a service of the library, or a banner that a real product has (docs/services.md)";
        report.find(severity, name, Some(&host.ip), CHECK, &seen, "a product", advice);
    }
    let asked = host.speaking.len() + host.silent.len();
    if let Some(row) = report.row(name).filter(|row| row.named.is_none()) {
        row.named = Some((named, asked));
    }
}

/// Connects to the ports that say nothing, and says so if they do.
pub fn silent(lab: &Lab, host: &Host, report: &mut Report) -> Result<(), Stop> {
    for port in &host.silent {
        lab.check()?;
        let heard = lab.inside(Side::Attacker, || listen(host, *port))?;
        let seen = match heard {
            Ok(0) => format!("port {port}: an open port that says nothing"),
            Ok(_) => continue,
            Err(error) => format!("port {port}: {}", clean(&error.to_string())),
        };
        let advice = "write a service in the place of `open`, or `closed`, or `filtered`";
        report.find(2, &host.template.name, Some(&host.ip), CHECK, &seen, "an answer", advice);
    }
    Ok(())
}

/// Octets that somebody says who was sent two empty lines.
fn listen(host: &Host, port: u16) -> std::io::Result<usize> {
    use std::io::{ErrorKind, Read, Write};
    let address = (host.ip, port).into();
    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.write_all(b"\r\n\r\n")?;
    match stream.read(&mut [0; 256]) {
        Ok(octets) => Ok(octets),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(0),
        Err(error) => Err(error),
    }
}
