//! Ports of a session, for people: a scan is a line, and what it found stands alone.

use serde_json::Value;

use crate::record::Port;

/// Ports that nobody answered at which are told one by one; of more they are told together.
const FEW: usize = 10;
/// Ranges that are told of those.
const RANGES: usize = 40;

/// What is told one by one, and lines about the rest.
pub fn told(ports: &[Port]) -> (Vec<Value>, String) {
    let silent: Vec<&Port> = ports.iter().filter(|port| is_silent(port)).collect();
    let alone = |port: &&Port| silent.len() <= FEW || !is_silent(port);
    let rows = ports.iter().filter(alone).map(|port| serde_json::to_value(port).unwrap_or_default()).collect();
    let mut rest = String::new();
    let mut left = if silent.len() <= FEW { Vec::new() } else { silent };
    while let Some(first) = left.first().copied() {
        let (same, others): (Vec<&Port>, Vec<&Port>) =
            left.into_iter().partition(|port| (port.proto, port.answer) == (first.proto, first.answer));
        let probes: u64 = same.iter().map(|port| port.probes).sum();
        let answer = first.answer.unwrap_or("silent");
        let numbers = ranges(same.iter().map(|port| port.port).collect());
        rest += &format!("{} {} ports, {answer}, {probes} probes: {numbers}\n", same.len(), first.proto.as_str());
        left = others;
    }
    (rows, rest)
}

/// Whether there was nothing but probes, which nobody answered.
fn is_silent(port: &Port) -> bool {
    let did = port.connections + port.requests + port.logins;
    did == 0 && !port.tls && matches!(port.answer, Some("closed" | "filtered") | None)
}

fn ranges(mut ports: Vec<u16>) -> String {
    ports.sort_unstable();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    let more = ranges.len().saturating_sub(RANGES);
    let shown = ranges.iter().take(RANGES).map(|(first, last)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(", … ({more} more ranges)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Proto;

    fn port(number: u16, answer: &'static str, connections: u64) -> Port {
        let tls = false;
        Port {
            proto: Proto::Tcp,
            port: number,
            answer: Some(answer),
            probes: 1,
            connections,
            requests: 0,
            logins: 0,
            tls,
        }
    }

    #[test]
    fn a_scan_is_told_in_lines() {
        let open = [port(22, "open", 1), port(80, "open", 0)];
        let few: Vec<Port> = (1..=10).map(|number| port(number, "closed", 0)).chain(open.clone()).collect();
        let (rows, rest) = told(&few);
        assert_eq!((rows.len(), rest.as_str()), (12, ""));
        let closed = (1..=1000).filter(|number| ![22, 80, 90, 91, 500].contains(number));
        let many =
            closed.map(|number| port(number, "closed", 0)).chain([port(90, "filtered", 0), port(91, "filtered", 0)]);
        let (rows, rest) = told(&many.chain(open).collect::<Vec<_>>());
        assert_eq!(rows.iter().map(|row| &row["port"]).collect::<Vec<_>>(), [22, 80]);
        assert_eq!(
            rest,
            "995 tcp ports, closed, 995 probes: 1-21, 23-79, 81-89, 92-499, 501-1000\n2 tcp ports, filtered, 2 probes: 90-91\n"
        );
        let odd: Vec<Port> = (0..100).map(|number| port(number * 2, "closed", 0)).collect();
        assert!(told(&odd).1.ends_with("76, 78, … (60 more ranges)\n"), "{}", told(&odd).1);
    }
}
