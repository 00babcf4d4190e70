//! What the kernel's numbers mean that tell of what is made inside containers, in words.

/// Permissions of a mode, as `chmod` takes them.
pub(super) fn permissions(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}

/// What something with a name is, and the number of the device if it is one.
pub(super) fn node(mode: u32, device: u32) -> (&'static str, Option<String>) {
    // As system calls have it (`new_encode_dev` of the kernel), whatever C libraries make of it.
    let number = || Some(format!("{}:{}", device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00));
    match mode >> 12 & 0xf {
        0o1 => ("fifo", None),
        0o2 => ("character", number()),
        0o6 => ("block", number()),
        0o14 => ("socket", None),
        // 0 is asked for, too.
        _ => ("file", None),
    }
}

/// The protocol of a port.
pub(super) fn transport(protocol: u16) -> String {
    match protocol {
        6 => "tcp".into(),
        17 => "udp".into(),
        33 => "dccp".into(),
        132 => "sctp".into(),
        136 => "udplite".into(),
        262 => "mptcp".into(),
        other => other.to_string(),
    }
}

/// What a socket sees that sees more than what is sent to it: the family, and of which protocol.
pub(super) fn raw((family, protocol): (u32, u32)) -> (&'static str, String) {
    const INET: u32 = 2;
    const INET6: u32 = 10;
    let of_ip = |name: &'static str| match protocol {
        1 => (name, "icmp".into()),
        58 => (name, "icmp6".into()),
        // It writes headers, and sees nothing.
        255 => (name, "raw".into()),
        other => (name, u16::try_from(other).map_or_else(|_| other.to_string(), transport)),
    };
    match family {
        INET => of_ip("ipv4"),
        INET6 => of_ip("ipv6"),
        // In network order: all of them, or nothing until it says more.
        _ => match (protocol as u16).to_be() {
            0 => ("packet", "none".into()),
            3 => ("packet", "all".into()),
            0x0800 => ("packet", "ipv4".into()),
            0x0806 => ("packet", "arp".into()),
            0x86dd => ("packet", "ipv6".into()),
            other => ("packet", format!("0x{other:04x}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_kernel_are_words() {
        let of = |mode, device| {
            let (kind, number) = node(mode, device);
            (kind, number.unwrap_or_default())
        };
        assert_eq!(of(0o060_660, 8 << 8 | 1), ("block", "8:1".to_owned()));
        assert_eq!(of(0o020_666, 0x1234_5678), ("character", "1110:74616".to_owned()));
        assert_eq!([0, 0o100_755, 0o010_644, 0o140_777].map(|mode| of(mode, 5).0), ["file", "file", "fifo", "socket"]);
        assert_eq!((permissions(0o104_755), permissions(0)), ("4755".to_owned(), "0000".to_owned()));
        assert_eq!([6, 17, 132, 999].map(transport), ["tcp", "udp", "sctp", "999"]);
        let packet = |kind: u16| raw((17, u32::from(kind.to_be()))).1;
        assert_eq!([0, 3, 0x0806, 0x88cc].map(packet), ["none", "all", "arp", "0x88cc"]);
        assert_eq!(raw((2, 1)), ("ipv4", "icmp".to_owned()));
        assert_eq!(raw((10, 58)), ("ipv6", "icmp6".to_owned()));
        assert_eq!(raw((2, u32::MAX)).1, "4294967295");
    }
}
