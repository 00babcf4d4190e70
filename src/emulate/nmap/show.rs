//! Which values an answer can show: those that fit into the fields of a packet, written
//! as nmap writes them ("Remote OS Detection", Response Tests).

use super::expr::hex;
use super::observe::{self, FLAGS};
use super::options;
use super::schema::{self, ECN, Key, Slot};

/// Whether an answer can show this value.
pub(super) fn can_show(slot: Slot, value: &str) -> bool {
    let below = |limit: u64| hex(value).is_some_and(|number| number < limit && value == format!("{number:X}"));
    let of = |values: &[&str]| values.contains(&value);
    if let Some((test, key)) = slot.as_tcp() {
        return match key {
            Key::R | Key::Df => of(&["Y", "N"]),
            Key::T => below(0x180) && value != "0",
            Key::Tg => of(&["20", "40", "80", "FF"]),
            Key::W => below(0x10000),
            Key::S => of(&["Z", "A", "A+", "O"]),
            Key::A => of(&["Z", "S", "S+", "O"]),
            Key::F => value == FLAGS.iter().filter(|(l, _)| value.contains(*l)).map(|(l, _)| *l).collect::<String>(),
            Key::O => test == 1 || options::parse(value).is_some_and(|parsed| options::write(&parsed) == value),
            Key::Rd => value == "0" || value.len() == 8 && hex(value).is_some(),
            Key::Cc => of(&["S", "Y", "N", "O"]),
            Key::Q => of(&["", "R", "U", "RU"]),
        };
    }
    let at = slot.index();
    if at < schema::ops(0).index() {
        return match slot {
            schema::TI => of(&["I", "BI", "RI", "RD", "Z"]),
            schema::CI | schema::II => of(&["I", "BI", "RI", "RD", "Z"]) || below(0x10000) && value != "0",
            schema::SS => of(&["S", "O"]),
            schema::TS => of(&["U", "0"]) || hex(value).and_then(observe::clock_hz).is_some(),
            _ => below(1 << 32),
        };
    }
    if at < schema::win(0).index() {
        return options::parse(value).is_some_and(|parsed| options::write(&parsed) == value);
    }
    if at < schema::tcp(ECN, Key::R).index() {
        return below(0x10000);
    }
    match slot.names() {
        (_, "R" | "DF") => of(&["Y", "N"]),
        (_, "T") => below(0x180) && value != "0",
        (_, "TG") => of(&["20", "40", "80", "FF"]),
        // 20 and 8 octets of header, and as much of the quotation.
        (_, "IPL") => below(1501) && hex(value) >= Some(56),
        (_, "UN") => below(0x10000),
        (_, "RIPL" | "RID" | "RUCK") => value == "G" || below(0x10000),
        (_, "RIPCK") => of(&["G", "Z", "I"]),
        (_, "RUD") => of(&["G", "I"]),
        (_, "DFI") => of(&["Y", "N", "S", "O"]),
        (_, "CD") => of(&["Z", "S", "O"]) || below(0x100) && value != "0",
        _ => false,
    }
}
