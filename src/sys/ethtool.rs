//! What a network card's driver tells and does about it (`SIOCETHTOOL`).

use std::io;

use super::interface::{ioctl, request};

const GET_DRIVER: u32 = 0x03;
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
/// `ETH_FLAG_RXVLAN`: the tag is taken out of received frames.
const RX_VLAN: u32 = 1 << 8;

/// `struct ethtool_drvinfo`
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    versions: [[u8; 32]; 2],
    bus: [u8; 32],
    rest: [u8; 64],
}

const _: () = assert!(size_of::<DriverInfo>() == 196);

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

fn call<T>(name: &str, argument: &mut T) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = std::ptr::from_mut(argument).cast();
    ioctl(libc::SIOCETHTOOL as libc::Ioctl, &mut request)
}

/// Whether the interface is a device on a bus of this machine; others (veth, bridges, TAPs) live in the kernel alone.
///
/// # Errors
/// `ENODEV` if there is none of that name.
pub fn is_hardware(name: &str) -> io::Result<bool> {
    let mut info =
        DriverInfo { command: GET_DRIVER, driver: [0; 32], versions: [[0; 32]; 2], bus: [0; 32], rest: [0; 64] };
    match call(name, &mut info) {
        Ok(()) => {
            let bus = String::from_utf8_lossy(&info.bus);
            Ok(!matches!(bus.trim_end_matches('\0'), "" | "N/A" | "tun" | "tap"))
        }
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the interface takes the tag out of what it receives and hands it over beside the frame.
///
/// # Errors
/// `ENODEV` if there is none of that name, `EOPNOTSUPP` if the driver does not tell.
pub fn strips_tags(name: &str) -> io::Result<bool> {
    let mut flags = Value { command: GET_FLAGS, data: 0 };
    call(name, &mut flags)?;
    Ok(flags.data & RX_VLAN != 0)
}

/// Has the interface take tags out or leave them in.
///
/// # Errors
/// `EOPNOTSUPP` or `EINVAL` if it can do only what it does, `EPERM` without `CAP_NET_ADMIN`.
pub fn strip_tags(name: &str, on: bool) -> io::Result<()> {
    let mut flags = Value { command: GET_FLAGS, data: 0 };
    call(name, &mut flags)?;
    flags.command = SET_FLAGS;
    flags.data = if on { flags.data | RX_VLAN } else { flags.data & !RX_VLAN };
    call(name, &mut flags)?;
    if strips_tags(name)? == on { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::privileges;

    #[test]
    fn tells_and_sets_what_becomes_of_tags() {
        let run = || {
            privileges::leave_network().unwrap();
            let made = std::process::Command::new("ip").args(["link", "add", "hwt0", "type", "veth"]).status().unwrap();
            assert!(made.success());
            assert!(!is_hardware("hwt0").unwrap());
            assert!(strips_tags("hwt0").unwrap());
            strip_tags("hwt0", false).unwrap();
            assert!(!strips_tags("hwt0").unwrap());
            strip_tags("hwt0", true).unwrap();
            assert!(strips_tags("hwt0").unwrap());
            let (_fd, tap) = crate::sys::tap::open("hwt%d", crate::sys::tap::Offload::None).unwrap();
            assert!(!is_hardware("lo").unwrap() && !is_hardware(&tap).unwrap());
            for result in [is_hardware("none"), strips_tags("none")] {
                assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ENODEV));
            }
        };
        std::thread::spawn(run).join().unwrap();
    }
}
