//! Quantities with units, read strictly: a number without a unit is a mistake.

/// Why a quantity is not one, and what to write.
pub type UnitError = (String, String);

fn split(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let well_formed = number.starts_with(|c: char| c.is_ascii_digit()) && !number.ends_with('.');
    // The parts have a bounded length, hence no infinity.
    (well_formed && number.len() <= 18).then(|| Some((number.parse().ok()?, unit.trim_start())))?
}

fn scaled(what: &str, text: &str, units: &[(&str, f64)], example: &str) -> Result<f64, UnitError> {
    let names = || units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let Some((number, unit)) = split(text) else {
        return Err((format!("`{text}` is not a {what}"), format!("write it such as {example}")));
    };
    if unit.is_empty() {
        if number == 0.0 {
            return Ok(0.0);
        }
        return Err((
            format!("`{text}` has no unit"),
            format!("a {what} is a number and one of {}, such as {example}", names()),
        ));
    }
    match units.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => Ok(number * factor),
        None => {
            let lower = unit.to_lowercase();
            let meant = units.iter().find(|(name, _)| name.to_lowercase() == lower);
            let help = match meant {
                Some((name, _)) => format!("did you mean `{}{name}`?", &text[..text.len() - unit.len()].trim_end()),
                None => format!("a {what} is a number and one of {}, such as {example}", names()),
            };
            Err((format!("`{unit}` is no unit of a {what}"), help))
        }
    }
}

/// A duration in microseconds, at most `max_us`.
pub fn duration_us(text: &str, max_us: u64) -> Result<u64, UnitError> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 60e6), ("h", 3600e6), ("d", 86_400e6)];
    let value = scaled("duration", text, &units, "10ms or 5m")?.round();
    if value > max_us as f64 {
        let limit = if max_us >= 60_000_000 { max_us / 1_000_000 } else { max_us / 1000 };
        let unit = if max_us >= 60_000_000 { "s" } else { "ms" };
        return Err((format!("`{text}` is too long"), format!("at most {limit}{unit} are possible here")));
    }
    Ok(value as u64)
}

/// A duration in whole seconds; what is shorter than one second but not zero is a mistake.
pub fn duration_secs(text: &str) -> Result<u32, UnitError> {
    let us = duration_us(text, 10 * 365 * 86_400 * 1_000_000)?;
    if us % 1_000_000 != 0 {
        return Err((
            format!("`{text}` is not a whole number of seconds"),
            "write whole seconds, such as 5s".to_owned(),
        ));
    }
    u32::try_from(us / 1_000_000).map_err(|_| (format!("`{text}` is too long"), "write less than ten years".to_owned()))
}

/// A rate in octets a second.
pub fn rate_bytes(text: &str) -> Result<u64, UnitError> {
    let units = [("bit", 1.0), ("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9), ("tbit", 1e12)];
    let bits = scaled("rate", text, &units, "100mbit")?;
    let bytes = (bits / 8.0).round();
    if bytes < 1.0 {
        return Err((
            format!("`{text}` would let nothing pass"),
            "leave `rate` out for no limit, or write such as 100mbit".to_owned(),
        ));
    }
    if bytes > 1e15 {
        return Err((format!("`{text}` is more than any link carries"), "leave `rate` out for no limit".to_owned()));
    }
    Ok(bytes as u64)
}

/// A size in octets, by powers of two.
pub fn size_bytes(text: &str) -> Result<u64, UnitError> {
    let units = [("K", 1024.0), ("M", 1048576.0), ("G", 1073741824.0), ("T", 1099511627776.0)];
    let value = scaled("size", text, &units, "512M or 2G")?.round();
    if value >= 1e18 {
        return Err((format!("`{text}` is more than any machine has"), "write such as 512M or 2G".to_owned()));
    }
    Ok(value as u64)
}

/// A share, 0 to 1, written as a percentage.
pub fn percent(text: &str) -> Result<f64, UnitError> {
    let value = match split(text) {
        Some((number, "%")) => number,
        Some((number, "")) if number > 0.0 => {
            let meant = if number < 1.0 { number * 100.0 } else { number };
            return Err((format!("`{text}` has no unit"), format!("write a percentage, such as {meant}%")));
        }
        Some((number, "")) => number,
        _ => return Err((format!("`{text}` is not a percentage"), "write it such as 1% or 0.5%".to_owned())),
    };
    if value > 100.0 {
        return Err((format!("`{text}` is more than all of it"), "write 0% to 100%".to_owned()));
    }
    Ok(value / 100.0)
}

/// An L4 port or a range of them.
pub fn ports(text: &str) -> Result<(u16, u16), UnitError> {
    let bad = || (format!("`{text}` is not a port"), "write 1 to 65535, or a range such as 8000-8010".to_owned());
    let one = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u16>().ok()).flatten().filter(|port| *port > 0).ok_or_else(bad)
    };
    match text.split_once('-') {
        None => one(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (one(first.trim())?, one(last.trim())?);
            if first > last {
                return Err((format!("`{text}` ends before it begins"), format!("write {last}-{first}")));
            }
            Ok((first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, us) in [("10ms", 10_000), ("1.5s", 1_500_000), ("0", 0), ("250us", 250), ("5 m", 300_000_000)] {
            assert_eq!(duration_us(text, u64::MAX), Ok(us), "{text}");
        }
        for (text, message, help) in [
            ("10", "no unit", "10ms"),
            ("10 msec", "`msec` is no unit", "us, ms, s"),
            ("10MS", "`MS` is no unit", "did you mean `10ms`?"),
            ("-1s", "not a duration", "10ms"),
            ("1.s", "not a duration", "10ms"),
            ("", "not a duration", "10ms"),
            ("2h", "too long", "at most 60s"),
            ("99999999999999999999999s", "not a duration", "10ms"),
        ] {
            let (got, got_help) = duration_us(text, 60_000_000).unwrap_err();
            assert!(got.contains(message) && got_help.contains(help), "{text}: {got}; {got_help}");
        }
        assert_eq!(duration_secs("10m"), Ok(600));
        assert!(duration_secs("10ms").is_err());
        assert!(duration_secs("9999999h").is_err());
    }

    #[test]
    fn rates_and_shares() {
        assert_eq!(rate_bytes("100mbit"), Ok(12_500_000));
        assert_eq!(rate_bytes("9.6kbit"), Ok(1200));
        assert!(rate_bytes("100Mbit").unwrap_err().1.contains("100mbit"));
        assert!(rate_bytes("100").unwrap_err().0.contains("no unit"));
        assert!(rate_bytes("1bit").is_err());
        assert!(rate_bytes("0").is_err());
        assert!(rate_bytes("99999999tbit").is_err());
        assert_eq!(percent("1%"), Ok(0.01));
        assert_eq!(percent("0"), Ok(0.0));
        assert!(percent("0.01").unwrap_err().1.contains("1%"));
        assert!(percent("101%").is_err());
        assert!(percent("x%").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(size_bytes("512M"), Ok(512 << 20));
        assert_eq!(size_bytes("1.5G"), Ok(3 << 29));
        assert_eq!(size_bytes("0"), Ok(0));
        assert!(size_bytes("512").unwrap_err().0.contains("no unit"));
        assert!(size_bytes("512m").unwrap_err().1.contains("512M"));
        assert!(size_bytes("512MB").is_err() && size_bytes("-1M").is_err() && size_bytes("999999999999T").is_err());
    }

    #[test]
    fn port_ranges() {
        assert_eq!(ports("22"), Ok((22, 22)));
        assert_eq!(ports("8000-8010"), Ok((8000, 8010)));
        for bad in ["0", "65536", "a", "", "10-", "-1", "20-10", "+5"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
