//! The real interfaces: opened, watched, opened anew when they come back.

use std::io;
use std::os::fd::OwnedFd;

use super::xdp::{self, Sockets, Taken};
use crate::container::FromKeeper;
use crate::node::{MAX_SHARDS, NodeConfig, NodeIdx, Shard, UplinkConfig, UplinkIo};
use crate::sys::seqpacket::MAX_FDS;
use crate::sys::xdp::Mode;
use crate::sys::{claims, fanout, interface, packet};

/// The message of an uplink has a descriptor for each shard, and one to send by.
const _: () = assert!((MAX_SHARDS as usize) < MAX_FDS);

/// How often sockets of AF_XDP are tried to be bound while the queue is still another's. Those of a switch that has
/// ended go within about a second, which is two or three times.
const TRIES: u32 = 20;

/// The uplinks of a honeynet.
#[derive(Debug, Default)]
pub struct Uplinks(Vec<Uplink>);

#[derive(Debug)]
struct Uplink {
    node: NodeIdx,
    config: UplinkConfig,
    /// The interface's index while it is up and open.
    open: Option<u32>,
    /// What was said last about it, to say nothing twice.
    said: String,
    /// A switch is there that has not heard of that.
    unheard: bool,
    /// The program on the interface. It outlives the switch: without sockets it does nothing.
    taken: Option<Taken>,
    receiving: Receiving,
    shards: u16,
}

/// How frames come, and why not by AF_XDP.
#[derive(Debug)]
enum Receiving {
    Xdp,
    /// Somebody uses the interface, or the topology wants it so.
    Objection,
    /// So many times the sockets could not be bound yet.
    Busy(u32),
    /// It does not work with this interface.
    Failed,
}

/// What there is to tell about an uplink.
#[derive(Debug)]
pub struct News {
    /// Which node.
    pub node: NodeIdx,
    /// For the switch.
    pub message: Option<(FromKeeper, Vec<OwnedFd>)>,
    /// For the event.
    pub text: String,
}

impl Uplinks {
    /// The uplinks among `nodes`; none is open yet. So many shards share what comes.
    pub fn new(nodes: &[(String, NodeConfig)], shards: u16) -> Uplinks {
        let uplinks = nodes.iter().enumerate().filter_map(|(index, (_, config))| match config {
            NodeConfig::Uplink(uplink) => Some(Uplink {
                node: NodeIdx(index as u16),
                config: uplink.clone(),
                open: None,
                said: String::new(),
                unheard: false,
                taken: None,
                receiving: Receiving::Busy(0),
                shards,
            }),
            _ => None,
        });
        Uplinks(uplinks.collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one waits for something that nobody announces.
    pub fn is_waiting(&self) -> bool {
        self.0.iter().any(|uplink| uplink.open.is_none() || matches!(uplink.receiving, Receiving::Busy(_)))
    }

    /// Forgets what was opened: a new switch needs all of it.
    pub fn forget(&mut self) {
        for uplink in &mut self.0 {
            uplink.open = None;
            uplink.unheard = true;
        }
    }

    /// The switch has had uplink `node` from a predecessor: interface `index`, and whether frames come by AF_XDP. It is
    /// open as if it had been opened here.
    pub fn inherit(&mut self, node: NodeIdx, index: u32, by_xdp: bool) {
        for uplink in self.0.iter_mut().filter(|uplink| uplink.node == node) {
            uplink.open = Some(index);
            "is up".clone_into(&mut uplink.said);
            // Where AF_XDP failed it would now, too: it is tried as long as for one that is busy.
            uplink.receiving = match by_xdp {
                true => Receiving::Xdp,
                false if uplink.objection(index).is_some() => Receiving::Objection,
                false => Receiving::Busy(0),
            };
        }
    }

    /// Looks at every interface and says what has changed.
    pub fn look(&mut self) -> Vec<News> {
        self.0.iter_mut().filter_map(Uplink::look).collect()
    }
}

impl Uplink {
    fn look(&mut self) -> Option<News> {
        let index = interface::index(&self.config.interface).ok();
        let up = index.is_some() && interface::link_state(&self.config.interface).is_ok_and(|state| state.up);
        match (self.open, index) {
            (Some(open), Some(index)) if open == index && up => self.reconsider(index),
            // Switched off by someone: it is theirs to switch on again.
            (Some(open), Some(index)) if open == index => self.down("went down", false),
            (Some(_), None) => self.down("vanished", true),
            (Some(_), Some(_)) => {
                self.open = None;
                Some(self.open())
            }
            (None, Some(_)) if up || self.said != "went down" => Some(self.open()),
            (None, Some(_)) => self.again(false),
            (None, None) => match self.say("is not there") {
                // Switched off before, perhaps.
                Some(news) => Some(News { message: self.away(true), ..news }),
                None => self.again(true),
            },
        }
        .filter(|news| news.message.is_some() || !news.text.is_empty())
    }

    fn down(&mut self, what: &str, gone: bool) -> Option<News> {
        self.open = None;
        what.clone_into(&mut self.said);
        let message = self.away(gone);
        Some(News { node: self.node, message, text: format!("{} {what}", self.config.interface) })
    }

    fn away(&mut self, gone: bool) -> Option<(FromKeeper, Vec<OwnedFd>)> {
        self.unheard = false;
        Some((FromKeeper::UplinkDown { node: self.node, gone }, vec![]))
    }

    /// Tells a switch that was not there when it went: only that one.
    fn again(&mut self, gone: bool) -> Option<News> {
        let message = if self.unheard { self.away(gone) } else { None };
        message.is_some().then(|| News { node: self.node, message, text: String::new() })
    }

    /// Only tells, once.
    fn say(&mut self, what: &str) -> Option<News> {
        if self.said == what || self.said == "vanished" {
            return None;
        }
        what.clone_into(&mut self.said);
        Some(News { node: self.node, message: None, text: format!("{} {what}", self.config.interface) })
    }

    fn open(&mut self) -> News {
        let up = || -> io::Result<u32> {
            if !interface::link_state(&self.config.interface)?.up {
                interface::set_up(&self.config.interface, true)?;
            }
            interface::index(&self.config.interface)
        };
        let opened = up().and_then(|index| {
            self.receiving = Receiving::Busy(0);
            let sockets = self.take(index);
            self.hand_over(index, sockets)
        });
        opened.unwrap_or_else(|error| {
            let what = format!("cannot be opened: {error}");
            let nothing = News { node: self.node, message: None, text: String::new() };
            self.say(&what).unwrap_or(nothing)
        })
    }

    /// Opens the packet socket. Those of AF_XDP come first: what the program takes is not to come by both.
    fn hand_over(&mut self, index: u32, sockets: Option<Sockets>) -> io::Result<News> {
        let packet = match &sockets {
            None => fanout::open(&self.config.interface, self.shards, Shard::SPREAD)?,
            Some(_) => vec![packet::open(&self.config.interface, true)?],
        };
        let sender = packet::open_sender(&self.config.interface)?;
        let mtu = interface::mtu(&self.config.interface)?;
        self.open = Some(index);
        "is up".clone_into(&mut self.said);
        let text = match sockets.as_ref().map(|sockets| sockets.mode) {
            None => format!("{} is up", self.config.interface),
            Some(Mode::Generic) => format!("{} is up, with AF_XDP", self.config.interface),
            Some(Mode::Native) => format!("{} is up, with AF_XDP in its driver", self.config.interface),
        };
        let xdp = sockets.as_ref().map(|sockets| sockets.mode);
        let fds =
            [sender].into_iter().chain(packet).chain(sockets.into_iter().flat_map(|sockets| sockets.fds)).collect();
        let message = Some((FromKeeper::Uplink { node: self.node, index, mtu, xdp }, fds));
        Ok(News { node: self.node, message, text })
    }

    /// Why frames are not to come by AF_XDP.
    fn objection(&self, index: u32) -> Option<String> {
        if self.shards > 1 && self.config.io != UplinkIo::Xdp {
            return Some("several threads share the interface, which packet sockets do better".into());
        }
        xdp::objection(&self.config, index)
    }

    /// Has frames taken by AF_XDP if that may be and works.
    fn take(&mut self, index: u32) -> Option<Sockets> {
        let interface = &self.config.interface;
        if let Some(why) = self.objection(index) {
            (self.receiving, self.taken) = (Receiving::Objection, None);
            tracing::info!(interface, why, "frames are received by a packet socket");
            return None;
        }
        match (xdp::take(&mut self.taken, &self.config, index), &self.receiving) {
            (Ok(sockets), _) => {
                tracing::info!(interface, mode = ?sockets.mode, queues = sockets.fds.len() - 2, "frames are received by AF_XDP");
                if let (UplinkIo::Xdp, Ok(Some(claim))) = (self.config.io, claims::of(index)) {
                    tracing::warn!(interface, %claim, "this machine's network stack misses what the honeynet receives");
                }
                self.receiving = Receiving::Xdp;
                return Some(sockets);
            }
            (Err(error), Receiving::Busy(tries)) if error.raw_os_error() == Some(libc::EBUSY) && *tries < TRIES => {
                self.receiving = Receiving::Busy(tries + 1);
            }
            (Err(error), _) => {
                tracing::warn!(interface, %error, "AF_XDP does not work here: frames are received by a packet socket");
                (self.receiving, self.taken) = (Receiving::Failed, None);
            }
        }
        None
    }

    /// An open uplink: somebody may have begun or ceased to use the interface, or its queues may be free now.
    fn reconsider(&mut self, index: u32) -> Option<News> {
        let objects = || self.objection(index).is_some();
        match self.receiving {
            Receiving::Xdp if objects() => return Some(self.open()),
            Receiving::Objection if !objects() => self.receiving = Receiving::Busy(0),
            Receiving::Busy(_) => {}
            _ => return None,
        }
        let sockets = self.take(index)?;
        match self.hand_over(index, Some(sockets)) {
            Ok(news) => Some(news),
            Err(error) => {
                tracing::warn!(self.config.interface, %error, "AF_XDP could not be begun with");
                self.receiving = Receiving::Busy(0);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::sys::{netlink, privileges, tap};

    #[test]
    fn an_uplink_flaps_vanishes_and_returns() {
        let run = || {
            privileges::leave_network().unwrap();
            let uplink = UplinkConfig { io: UplinkIo::Packet, ..UplinkConfig::new("hwt-up") };
            let uplinks = RefCell::new(Uplinks::new(&[("edge".into(), NodeConfig::Uplink(uplink))], 1));
            let forget = || uplinks.borrow_mut().forget();
            let look = || {
                let news = uplinks.borrow_mut().look();
                assert!(news.len() <= 1);
                news.into_iter().next().map(|news| (news.text, news.message.map(|(message, fds)| (message, fds.len()))))
            };
            let node = NodeIdx(0);
            let opened = |index| {
                Some(("hwt-up is up".to_owned(), Some((FromKeeper::Uplink { node, index, mtu: 1500, xdp: None }, 2))))
            };
            let index = || interface::index("hwt-up").unwrap();
            let down = |gone| Some((FromKeeper::UplinkDown { node, gone }, 0));
            assert_eq!(look(), Some(("hwt-up is not there".into(), down(true))));
            assert_eq!(look(), None);
            let (fd, _) = tap::open("hwt-up", tap::Offload::Tcp).unwrap();
            assert_eq!(look(), opened(index()));
            assert!(interface::link_state("hwt-up").unwrap().up);
            assert_eq!(look(), None);
            interface::set_up("hwt-up", false).unwrap();
            assert_eq!(look(), Some(("hwt-up went down".into(), down(false))));
            assert_eq!(look(), None);
            assert!(!interface::link_state("hwt-up").unwrap().up);
            // Another switch hears of it, nobody else.
            forget();
            assert_eq!(look(), Some((String::new(), down(false))));
            assert_eq!(look(), None);
            interface::set_up("hwt-up", true).unwrap();
            assert_eq!(look(), opened(index()));
            netlink::delete_link("hwt-up").unwrap();
            drop(fd);
            assert_eq!(look(), Some(("hwt-up vanished".into(), down(true))));
            assert_eq!(look(), None);
            let (fd, _) = tap::open("hwt-up", tap::Offload::Tcp).unwrap();
            assert_eq!(look(), opened(index()));
            // Removed when it was switched off already.
            interface::set_up("hwt-up", false).unwrap();
            assert_eq!(look(), Some(("hwt-up went down".into(), down(false))));
            netlink::delete_link("hwt-up").unwrap();
            drop(fd);
            assert_eq!(look(), Some(("hwt-up is not there".into(), down(true))));
            assert_eq!(look(), None);
            forget();
            assert_eq!(look(), Some((String::new(), down(true))));
            assert_eq!(look(), None);
        };
        std::thread::spawn(run).join().unwrap();
    }
    /// Looks until there is news.
    fn wait(uplinks: &mut Uplinks) -> (Option<Mode>, Vec<OwnedFd>) {
        for _ in 0..500 {
            for news in uplinks.look() {
                if let Some((FromKeeper::Uplink { xdp, .. }, fds)) = news.message {
                    return (xdp, fds);
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("no news");
    }

    #[test]
    fn frames_are_taken_only_where_nobody_else_waits_for_them() {
        let run = || {
            privileges::leave_network().unwrap();
            let ip = |args: &str| {
                let output = std::process::Command::new("ip").args(args.split(' ')).output().unwrap();
                let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                assert!(output.status.success(), "ip {args}: {said}");
                said
            };
            let taken = || ip("link show hwt-x").contains("prog/xdp");
            ip("link add hwt-x type veth peer name hwt-y");
            ip("link set hwt-y up");
            let config = UplinkConfig::new("hwt-x");
            let new = |config: UplinkConfig| Uplinks::new(&[("edge".into(), NodeConfig::Uplink(config))], 1);
            let mut uplinks = new(config.clone());
            let (mode, fds) = wait(&mut uplinks);
            assert_eq!((mode, fds.len(), taken()), (Some(Mode::Generic), 5, true));
            assert!(uplinks.look().is_empty());
            // Another switch, while the sockets of the one before it are still there.
            uplinks.forget();
            let (mode, second) = wait(&mut uplinks);
            assert_eq!((mode, second.len()), (None, 2));
            assert!(uplinks.look().is_empty());
            drop((fds, second));
            let (mode, fds) = wait(&mut uplinks);
            assert_eq!((mode, fds.len()), (Some(Mode::Generic), 5));
            // Somebody gives the interface an address, and takes it away again.
            ip("addr add 10.9.0.1/24 dev hwt-x");
            let (mode, _fds) = wait(&mut uplinks);
            drop(fds);
            assert_eq!((mode, taken()), (None, false));
            assert!(uplinks.look().is_empty());
            ip("addr del 10.9.0.1/24 dev hwt-x");
            let (mode, fds) = wait(&mut uplinks);
            assert_eq!(mode, Some(Mode::Generic));
            // Who follows leaves alone what the switch has.
            drop(uplinks);
            assert!(taken());
            let mut uplinks = new(config.clone());
            uplinks.inherit(NodeIdx(0), interface::index("hwt-x").unwrap(), true);
            assert!(uplinks.look().is_empty() && !uplinks.is_waiting());
            ip("addr add 10.9.0.1/24 dev hwt-x");
            let (mode, packet) = wait(&mut uplinks);
            assert_eq!((mode, taken()), (None, true));
            drop((fds, packet, uplinks));
            ip("addr del 10.9.0.1/24 dev hwt-x");
            assert!(!taken(), "with the keeper and the switch");
            // What the topology says of it.
            for (io, tagged, mode) in [
                (UplinkIo::Auto, true, None),
                (UplinkIo::Packet, false, None),
                (UplinkIo::Xdp, true, Some(Mode::Generic)),
            ] {
                let mut uplinks = new(UplinkConfig { io, tagged, ..config.clone() });
                while wait(&mut uplinks).0 != mode {}
                assert_eq!(taken(), mode.is_some());
            }
            ip("addr add 10.9.0.1/24 dev hwt-x");
            let mut uplinks = new(UplinkConfig { io: UplinkIo::Xdp, ..config.clone() });
            while wait(&mut uplinks).0.is_none() {}
            // Another's program is left alone.
            let mut other = new(UplinkConfig { io: UplinkIo::Xdp, ..config });
            assert_eq!(wait(&mut other).0, None);
            drop(other);
            assert!(taken());
        };
        std::thread::spawn(run).join().unwrap();
    }
}
