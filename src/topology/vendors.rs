//! Vendors whose MAC prefixes a topology may name.
//!
//! One well-known assignment of the IEEE's MA-L registry for each.

/// Name and OUI, sorted by name.
const VENDORS: &[(&str, [u8; 3])] = &[
    ("apple", [0x00, 0x03, 0x93]),
    ("aruba", [0x00, 0x0b, 0x86]),
    ("asus", [0x00, 0x1e, 0x8c]),
    ("axis", [0x00, 0x40, 0x8c]),
    ("brother", [0x00, 0x80, 0x77]),
    ("canon", [0x00, 0x00, 0x85]),
    ("cisco", [0x00, 0x1b, 0x0d]),
    ("dell", [0xb8, 0xca, 0x3a]),
    ("epson", [0x00, 0x26, 0xab]),
    ("fortinet", [0x00, 0x09, 0x0f]),
    ("hp", [0x3c, 0xd9, 0x2b]),
    ("huawei", [0x00, 0xe0, 0xfc]),
    ("intel", [0x00, 0x1b, 0x21]),
    ("juniper", [0x00, 0x05, 0x85]),
    ("lenovo", [0x54, 0xee, 0x75]),
    ("microsoft", [0x00, 0x15, 0x5d]),
    ("mikrotik", [0x4c, 0x5e, 0x0c]),
    ("netgear", [0x20, 0x4e, 0x7f]),
    ("qemu", [0x52, 0x54, 0x00]),
    ("qnap", [0x00, 0x08, 0x9b]),
    ("raspberry", [0xb8, 0x27, 0xeb]),
    ("realtek", [0x00, 0xe0, 0x4c]),
    ("samsung", [0x00, 0x12, 0xfb]),
    ("siemens", [0x00, 0x1b, 0x1b]),
    ("supermicro", [0x00, 0x25, 0x90]),
    ("synology", [0x00, 0x11, 0x32]),
    ("tp-link", [0x50, 0xc7, 0xbf]),
    ("ubiquiti", [0x24, 0xa4, 0x3c]),
    ("virtualbox", [0x08, 0x00, 0x27]),
    ("vmware", [0x00, 0x0c, 0x29]),
    ("xen", [0x00, 0x16, 0x3e]),
    ("xerox", [0x00, 0x00, 0xaa]),
];

/// The names of all vendors.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    VENDORS.iter().map(|(name, _)| *name)
}

/// The OUI of a vendor's name, or of three octets such as `00:0c:29`.
pub fn oui(text: &str) -> Option<[u8; 3]> {
    if let Some((_, oui)) = VENDORS.iter().find(|(name, _)| *name == text) {
        return Some(*oui);
    }
    let mut octets = [0; 3];
    let mut parts = text.split([':', '-']);
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_unicast() {
        assert!(VENDORS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(VENDORS.iter().all(|(_, oui)| oui[0] & 1 == 0));
    }

    #[test]
    fn names_and_literals() {
        assert_eq!(oui("vmware"), Some([0, 0x0c, 0x29]));
        assert_eq!(oui("b8:27:EB"), oui("raspberry"));
        for bad in ["", "vmwar", "00:0c", "00:0c:29:01", "0:c:29", "zz:0c:29"] {
            assert_eq!(oui(bad), None, "{bad}");
        }
    }
}
