//! The least that a responder in user space does: frames come by AF_XDP, an ARP request, an echo request or a SYN is
//! turned into its answer in place, and a burst of answers is sent by one call. Every address answers, nothing is
//! looked up, counted or recorded. `make compare` holds honeyweave against it.
//!
//! ```text
//! cargo run --release --example bare_responder INTERFACE
//! ```
//!
//! It says `ready` and answers until it is killed. Without arguments it answers some requests in a network namespace of
//! its own, and exits 1 if an answer is not what it should be.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use honeyweave::sys::packet::{self, BURST, Burst};
use honeyweave::sys::tap::{self, Offload};
use honeyweave::sys::vnet::VNET_HEADER;
use honeyweave::sys::xdp::{self, Attachment, Mode, Socket};
use honeyweave::sys::{interface, privileges};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Room for a frame and its virtio header.
const SLOT: usize = 2048;
/// Of every host.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

struct Responder {
    socket: Socket,
    sender: OwnedFd,
    burst: Burst,
    slots: Vec<[u8; SLOT]>,
    lens: [usize; BURST],
    _attachment: Attachment,
}

impl Responder {
    fn open(name: &str) -> io::Result<Responder> {
        let index = interface::index(name)?;
        let memory = xdp::memory(1, xdp::ENTRIES)?;
        let attachment = Attachment::new(index, Mode::Generic, 1)?;
        let socket = xdp::bind(memory.as_fd(), 0, xdp::ENTRIES, (index, 0), Mode::Generic)?;
        attachment.serve(0, socket.as_fd())?;
        Ok(Responder {
            socket: Socket::open(socket, memory.as_fd(), 0, xdp::ENTRIES)?,
            sender: packet::open_sender(name)?,
            burst: Burst::new(),
            slots: vec![[0; SLOT]; BURST],
            lens: [0; BURST],
            _attachment: attachment,
        })
    }

    /// Waits for frames and answers a burst of them.
    fn step(&mut self, timeout: Option<&Timespec>) -> io::Result<()> {
        if !self.socket.has_frames() {
            poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], timeout)?;
        }
        let (slots, lens, mut count) = (&mut self.slots, &mut self.lens, 0);
        self.socket.recv(BURST, |bytes| {
            if let Some(frame) = slots[count].get_mut(VNET_HEADER..VNET_HEADER + bytes.len()) {
                frame.copy_from_slice(bytes);
                if let Some(len) = answer(frame) {
                    lens[count] = VNET_HEADER + len;
                    count += 1;
                }
            }
        });
        if count > 0 {
            let answers = self.slots.iter().zip(&self.lens).map(|(slot, len)| &slot[..*len]).take(count);
            match self.burst.send(&self.sender, answers) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Turns a request into its answer; returns how long that is.
fn answer(frame: &mut [u8]) -> Option<usize> {
    let len = match (*frame.get(12..14)?.first_chunk()?, frame.get(20..24)?) {
        ([8, 6], [_, 1, ..]) => {
            let (asker, asked) = (frame[22..32].to_vec(), frame[38..42].to_vec());
            frame[21] = 2;
            frame[22..28].copy_from_slice(&MAC);
            frame[28..32].copy_from_slice(&asked);
            frame[32..42].copy_from_slice(&asker);
            42
        }
        // IPv4 without options.
        ([8, 0], [_, _, _, 1]) if frame[14] == 0x45 && *frame.get(34)? == 8 => {
            swap(frame, 26, 30, 4);
            frame[34] = 0;
            // RFC 1624: the checksum knows that the type is 8 less.
            let (sum, carry) = u16::from_be_bytes([frame[36], frame[37]]).overflowing_add(0x800);
            frame[36..38].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
            frame.len()
        }
        ([8, 0], [_, _, _, 6]) if frame[14] == 0x45 && *frame.get(47)? & 0x12 == 2 => {
            swap(frame, 26, 30, 4);
            swap(frame, 34, 36, 2);
            let next = u32::from_be_bytes(*frame[38..].first_chunk()?).wrapping_add(1);
            frame[42..46].copy_from_slice(&next.to_be_bytes());
            frame[38..42].fill(0);
            frame[46..54].copy_from_slice(&[0x50, 0x14, 0, 0, 0, 0, 0, 0]);
            let tcp = checksum(&frame[26..54], 6 + 20);
            frame[50..52].copy_from_slice(&tcp.to_be_bytes());
            frame[16..18].copy_from_slice(&[0, 40]);
            frame[24..26].fill(0);
            let ip = checksum(&frame[14..34], 0);
            frame[24..26].copy_from_slice(&ip.to_be_bytes());
            54
        }
        _ => return None,
    };
    frame.copy_within(6..12, 0);
    frame[6..12].copy_from_slice(&MAC);
    Some(len)
}

fn swap(frame: &mut [u8], a: usize, b: usize, len: usize) {
    (0..len).for_each(|i| frame.swap(a + i, b + i));
}

fn checksum(bytes: &[u8], more: u32) -> u16 {
    let words = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = more + words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Asks a responder for each of the three and looks at its answers.
fn check() -> io::Result<bool> {
    privileges::leave_network()?;
    let (tap, _) = tap::open("asker", Offload::Tcp)?;
    interface::set_up("asker", true)?;
    let mut responder = Responder::open("asker")?;
    let to_from = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 9]].concat();
    let ip = |protocol: u8, rest: &[u8]| {
        let mut header =
            [0x45, 0, 0, 20 + rest.len() as u8, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 9, 10, 1, 2, 3];
        let sum = checksum(&header, 0);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [&to_from[..], &[8, 0], &header, rest].concat()
    };
    let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 1, 2, 3];
    let mut echo = [8, 0, 0, 0, 0, 7, 0, 1, 1, 2, 3, 4];
    let sum = checksum(&echo, 0);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    // With a checksum: what seems to have a partial one is left to the packet socket.
    let mut syn = [0x80, 0, 0, 81, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0];
    let sum = checksum(&[&[10, 0, 0, 9, 10, 1, 2, 3][..], &syn].concat(), 6 + 20);
    syn[16..18].copy_from_slice(&sum.to_be_bytes());
    let (mut good, tick) = (0, Timespec { tv_sec: 1, tv_nsec: 0 });
    for (what, request, at, is) in [
        ("ARP", [&to_from[..], &[8, 6], &arp].concat(), 20, &[0, 2, 2, 0, 0, 0, 0, 1, 10, 1, 2, 3][..]),
        ("echo", ip(1, &echo), 26, &[10, 1, 2, 3, 10, 0, 0, 9, 0, 0][..]),
        ("SYN", ip(6, &syn), 34, &[0, 81, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0x50, 0x14][..]),
    ] {
        rustix::io::write(&tap, &[&[0; VNET_HEADER][..], &request].concat())?;
        responder.step(Some(&tick))?;
        let (mut space, mut right) = ([0; SLOT], false);
        // The kernel says things of its own on a new interface.
        while let Ok(len) = rustix::io::read(&tap, &mut space) {
            let Some(frame) = space.get(VNET_HEADER..len) else { continue };
            let sums = frame[12..14] == [8, 6] || checksum(&frame[14..34], 0) == 0;
            right |= sums && frame.get(..6) == Some(&to_from[6..]) && frame.get(at..at + is.len()) == Some(is);
        }
        println!("{what}: {}", if right { "answered" } else { "not answered as it should be" });
        good += usize::from(right);
    }
    Ok(good == 3)
}

fn run(names: &[String]) -> io::Result<bool> {
    match names {
        [] => check(),
        [name] => {
            let mut responder = Responder::open(name)?;
            println!("ready");
            loop {
                responder.step(None)?;
            }
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: bare_responder [INTERFACE]")),
    }
}

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    match run(&names) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bare_responder: {error}");
            ExitCode::FAILURE
        }
    }
}
