//! What SYNs and whole connections have in common: sequence numbers, ports and
//! the segment that begins a connection.
//!
//! The initial sequence number is a constant of the run and the probe's number:
//! an answer's acknowledgment number leads back to it, and a port that is used
//! again has a higher one each time, as a host demands that remembers the
//! connection before (RFC 9293 §3.6.1).

use super::targets::{Aim, Shot};
use super::template::{self, Template};
use crate::frame::Frame;
use crate::wire::{Mac, TcpHeader, flag, proto};

/// The first source port; those below are for privileged programs.
const FIRST_PORT: u16 = 1024;
/// Source ports of one address.
pub const PORTS: u64 = 65_536 - FIRST_PORT as u64;
/// The window that is announced, not scaled.
pub const WINDOW: u16 = 65_535;

/// Where connections come from and go to.
pub struct Tcp {
    /// From whom to whom.
    pub aim: Aim,
    port: u16,
    mark: u32,
    template: Template,
    /// Octets of the IP header; the MAC comes before them.
    mac: Mac,
}

impl Tcp {
    /// Connections to `port` of every target; `mark` tells this run from others.
    pub fn new(aim: Aim, mac: Mac, v4: bool, port: u16, mark: u64) -> Tcp {
        let mss: u16 = if v4 { 1460 } else { 1440 };
        let [high, low] = mss.to_be_bytes();
        let mut syn = [0; 24];
        syn[2..4].copy_from_slice(&port.to_be_bytes());
        syn[12..16].copy_from_slice(&[6 << 4, flag::SYN, (WINDOW >> 8) as u8, WINDOW as u8]);
        syn[20..24].copy_from_slice(&[2, 4, high, low]);
        Tcp { aim, port, mark: mark as u32, template: Template::new(mac, v4, proto::TCP, &syn), mac }
    }

    /// The MAC of all segments.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// The destination port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The source port of probe `n`.
    #[inline]
    pub fn port_of(&self, n: u64) -> u16 {
        FIRST_PORT + (n / self.aim.sources.count % PORTS) as u16
    }

    /// The initial sequence number of probe `n`.
    #[inline]
    pub fn isn(&self, n: u64) -> u32 {
        self.mark.wrapping_add(n as u32)
    }

    /// The last probe before `next` whose SYN is acknowledged by `ack`.
    #[inline]
    pub fn by_ack(&self, ack: u32, next: u64) -> Option<u64> {
        let low = ack.wrapping_sub(1).wrapping_sub(self.mark);
        let last = next.checked_sub(1)?;
        last.checked_sub(u64::from((last as u32).wrapping_sub(low)))
    }

    /// The last probe before `next` that came from that source (by its index) and port.
    #[inline]
    pub fn by_port(&self, source: u64, port: u16, next: u64) -> Option<u64> {
        let sources = self.aim.sources.count;
        let first = u64::from(port.checked_sub(FIRST_PORT)?) * sources + source;
        let flows = PORTS * sources;
        Some(first + next.checked_sub(first + 1)? / flows * flows)
    }

    /// Where probe `n` went, if these addresses and ports are those of an answer to it.
    #[inline]
    pub fn is_answer(&self, n: u64, src: u128, dst: u128, tcp: &TcpHeader) -> Option<Shot> {
        let shot = self.aim.at(n);
        let fits = shot.dst == src && shot.src == dst && tcp.src == self.port && tcp.dst == self.port_of(n);
        fits.then_some(shot)
    }

    /// Writes the SYN of probe `n`.
    #[inline]
    pub fn syn(&self, n: u64, frame: &mut Frame) {
        let shot = self.aim.at(n);
        let (port, isn) = (self.port_of(n), self.isn(n));
        let (segment, sum) = self.template.write(frame, shot.mac, shot.src, shot.dst, n as u16);
        segment[..2].copy_from_slice(&port.to_be_bytes());
        segment[4..8].copy_from_slice(&isn.to_be_bytes());
        template::finish(segment, 16, sum + u64::from(port) + u64::from(isn));
    }
}
