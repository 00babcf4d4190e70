//! VLAN 7 on an interface of a test's namespace: 10.9.7.0/24 and fd09:7::/64 speak with its tag there.

use std::any::Any;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use honeyweave::sys::interface;

use crate::net::Ns;

/// Gives `interface` the addresses of `host` (1 or 2) in VLAN 7; keep what is returned for as long as they are wanted.
///
/// By a VLAN interface where the kernel has such; elsewhere two programs do what it does.
pub fn join(ns: &Ns, interface: &'static str, host: u8) -> Box<dyn Any> {
    let sub = ["ip", "link", "add", "link", interface, "name", "v7", "type", "vlan", "id", "7"];
    let made = ns.run(&sub).status.success();
    let name = if made { "v7" } else { interface };
    if made {
        ns.sh(&["ip", "link", "set", "v7", "addrgenmode", "none", "up"]);
    }
    let programs = (!made).then(|| ns.enter(|| attach(interface)));
    for at in [format!("10.9.7.{host}/24"), format!("fd09:7::{host}/64")] {
        ns.addr(name, &at);
    }
    // The programs know packets by their addresses, and who asks for a neighbor by multicast has not that of the VLAN.
    let other = 3 - host;
    for address in [format!("10.9.7.{other}"), format!("fd09:7::{other}")] {
        let mac = format!("02:00:00:00:00:{other:02x}");
        ns.sh(&["ip", "neigh", "add", &address, "lladdr", &mac, "dev", name, "nud", "permanent"]);
    }
    Box::new(programs)
}

/// `struct bpf_insn`, its registers as destination and source.
type Instruction = (u8, (u8, u8), i16, i32);

/// Pushes the tag onto what goes to an address of the VLAN.
const PUSH: [Instruction; 16] = [
    // r6 = frame; r0 = its Ethertype
    (0xbf, (6, 1), 0, 0),
    (0x28, (0, 0), 0, 12),
    (0x16, (0, 0), 4, 0x0800),
    (0x56, (0, 0), 10, 0x86dd),
    // IPv6: the destination's first 32 bits
    (0x20, (0, 0), 0, 38),
    (0x16, (0, 0), 4, 0xfd09_0007_u32 as i32),
    (0x05, (0, 0), 7, 0),
    // IPv4: the destination's first 24 bits
    (0x20, (0, 0), 0, 30),
    (0x74, (0, 0), 0, 8),
    (0x56, (0, 0), 4, 0x000a_0907),
    // bpf_skb_vlan_push(frame, htons(0x8100), 7)
    (0xbf, (1, 6), 0, 0),
    (0xb7, (2, 0), 0, 0x8100_u16.to_be() as i32),
    (0xb7, (3, 0), 0, 7),
    (0x85, (0, 0), 0, 18),
    // TCX_NEXT
    (0xb7, (0, 0), 0, -1),
    (0x95, (0, 0), 0, 0),
];

/// Takes the tag off what has one: `bpf_skb_vlan_pop(frame)` if `frame->vlan_present`.
const POP: [Instruction; 5] =
    [(0x61, (2, 1), 20, 0), (0x15, (2, 0), 1, 0), (0x85, (0, 0), 0, 19), (0xb7, (0, 0), 0, -1), (0x95, (0, 0), 0, 0)];

/// `BPF_TCX_INGRESS`, `BPF_TCX_EGRESS`
const INGRESS: u32 = 46;
const EGRESS: u32 = 47;

fn attach(name: &str) -> [OwnedFd; 2] {
    let index = interface::index(name).unwrap();
    [(&PUSH[..], EGRESS), (&POP[..], INGRESS)].map(|(program, way)| {
        let code: Vec<u64> = program.iter().map(|instruction| encode(*instruction)).collect();
        let license = c"GPL";
        // `union bpf_attr` for BPF_PROG_LOAD: kind (BPF_PROG_TYPE_SCHED_CLS) and length, code, license.
        let mut load = [3 | (code.len() as u64) << 32, code.as_ptr() as u64, license.as_ptr() as u64, 0, 0, 0];
        let program = bpf(5, &mut load).expect("the verifier takes it");
        // The same for BPF_LINK_CREATE: program and interface, how, and beside which others.
        let mut link = [program.as_raw_fd() as u64 | u64::from(index) << 32, way.into(), 0, 0];
        bpf(28, &mut link).expect("Linux 6.6, or one with VLAN interfaces")
    })
}

fn encode((code, (dst, src), offset, immediate): Instruction) -> u64 {
    let bytes = [[code, dst | src << 4].as_slice(), &offset.to_ne_bytes(), &immediate.to_ne_bytes()].concat();
    u64::from_ne_bytes(bytes.try_into().unwrap())
}

fn bpf(command: libc::c_int, attributes: &mut [u64]) -> io::Result<OwnedFd> {
    let size = size_of_val(attributes);
    // SAFETY: the attributes, and the code and the license that they point to, live for the call, their size is given, and
    // both commands give a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size) };
    // SAFETY: just made, and nobody else's.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }) }
}
