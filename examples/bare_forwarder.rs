//! The least that a switch in user space does: what is read from one TAP is
//! written to the other, through one buffer, its virtio header as it is. Nothing
//! is looked at, counted or learned. `make compare` holds honeyweave against it.
//!
//! ```text
//! cargo run --release --example bare_forwarder NAME NAME
//! ```
//!
//! It makes both TAPs, says `ready` and forwards until it is killed. Without
//! arguments it forwards some frames in a network namespace of its own, and exits
//! 1 if they do not arrive as they were.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use honeyweave::sys::packet::{self, BURST, Burst};
use honeyweave::sys::tap::{self, Offload};
use honeyweave::sys::vnet::VNET_HEADER;
use honeyweave::sys::{interface, privileges};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Octets of the longest frame with its virtio header.
const BUFFER: usize = (64 + 4) * 1024;
/// IEEE Std 802 local experimental Ethertype 1, for the check.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

struct Forwarder {
    taps: [OwnedFd; 2],
    buffer: Box<[u8]>,
}

impl Forwarder {
    fn open(names: [&str; 2]) -> io::Result<Forwarder> {
        let [a, b] = names.map(|name| {
            let (tap, _) = tap::open(name, Offload::Tcp)?;
            interface::set_up(name, true)?;
            io::Result::Ok(tap)
        });
        Ok(Forwarder { taps: [a?, b?], buffer: vec![0; BUFFER].into() })
    }

    /// Waits for frames and forwards a burst in each direction.
    fn step(&mut self, timeout: Option<&Timespec>) -> io::Result<()> {
        let [a, b] = &self.taps;
        let mut fds = [PollFd::new(a, PollFlags::IN), PollFd::new(b, PollFlags::IN)];
        poll(&mut fds, timeout)?;
        let [from_a, from_b] = fds.map(|fd| !fd.revents().is_empty());
        for (ready, from, to) in [(from_a, a, b), (from_b, b, a)] {
            if ready {
                burst(from, to, &mut self.buffer)?;
            }
        }
        Ok(())
    }
}

fn burst(from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8]) -> io::Result<()> {
    for _ in 0..BURST {
        let len = match rustix::io::read(from, &mut *buffer) {
            Ok(len) => len,
            // EIO: the device is down.
            Err(Errno::AGAIN | Errno::IO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match rustix::io::write(to, &buffer[..len]) {
            // A frame that finds no room is lost, as in every switch.
            Ok(_) | Err(Errno::AGAIN | Errno::IO | Errno::NOBUFS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends numbered frames through a forwarder; returns whether all arrived in order.
fn check() -> io::Result<bool> {
    privileges::leave_network()?;
    let mut forwarder = Forwarder::open(["left", "right"])?;
    let (left, right) = (packet::open("left", false)?, packet::open("right", false)?);
    // A virtio header that asks for nothing is in front.
    let frame = |n: u8| [&[0; VNET_HEADER][..], &[2; 12], &ETHERTYPE, &[n; 200]].concat();
    let sent: Vec<Vec<u8>> = (0..200).map(frame).collect();
    let (mut burst, mut arrived, mut space) = (Burst::new(), Vec::new(), [0; 2048]);
    let (mut next, tick) = (0, Timespec { tv_sec: 0, tv_nsec: 10_000_000 });
    // Ten times the steps that it takes.
    for _ in 0..200 {
        if next < sent.len() {
            next += burst.send(&left, sent[next..].iter().map(Vec::as_slice).take(16))?;
        }
        forwarder.step(Some(&tick))?;
        loop {
            match packet::recv(&right, &mut space, &mut []) {
                // The kernel says things of its own on a new interface.
                Ok(got) if space[VNET_HEADER + 12..][..2] == ETHERTYPE => {
                    arrived.push(space[VNET_HEADER..][..got.len].to_vec())
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if arrived.len() >= sent.len() {
            break;
        }
    }
    println!("{} of {} frames arrived", arrived.len(), sent.len());
    Ok(sent.iter().map(|frame| &frame[VNET_HEADER..]).eq(arrived))
}

fn run(names: &[String]) -> io::Result<bool> {
    match names {
        [] => check(),
        [left, right] => {
            let mut forwarder = Forwarder::open([left, right])?;
            println!("ready");
            loop {
                forwarder.step(None)?;
            }
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: bare_forwarder [NAME NAME]")),
    }
}

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    match run(&names) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bare_forwarder: {error}");
            ExitCode::FAILURE
        }
    }
}
