//! The real interfaces: opened, watched, opened anew when they come back.

use std::io;
use std::os::fd::OwnedFd;

use crate::container::FromKeeper;
use crate::node::{NodeConfig, NodeIdx};
use crate::sys::{interface, packet};

/// The uplinks of a honeynet.
#[derive(Debug, Default)]
pub struct Uplinks(Vec<Uplink>);

#[derive(Debug)]
struct Uplink {
    node: NodeIdx,
    interface: String,
    /// The interface's index while it is up and open.
    open: Option<u32>,
    /// What was said last about it, to say nothing twice.
    said: String,
}

/// What there is to tell about an uplink.
#[derive(Debug)]
pub struct News {
    /// Which node.
    pub node: NodeIdx,
    /// For the switch.
    pub message: Option<(FromKeeper, Option<OwnedFd>)>,
    /// For the event.
    pub text: String,
}

impl Uplinks {
    /// The uplinks among `nodes`; none is open yet.
    pub fn new(nodes: &[(String, NodeConfig)]) -> Uplinks {
        let uplinks = nodes.iter().enumerate().filter_map(|(index, (_, config))| match config {
            NodeConfig::Uplink(uplink) => Some(Uplink {
                node: NodeIdx(index as u16),
                interface: uplink.interface.clone(),
                open: None,
                said: String::new(),
            }),
            _ => None,
        });
        Uplinks(uplinks.collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what was opened: a new switch needs all of it.
    pub fn forget(&mut self) {
        for uplink in &mut self.0 {
            uplink.open = None;
        }
    }

    /// Looks at every interface and says what has changed.
    pub fn look(&mut self) -> Vec<News> {
        self.0.iter_mut().filter_map(Uplink::look).collect()
    }
}

impl Uplink {
    fn look(&mut self) -> Option<News> {
        let index = interface::index(&self.interface).ok();
        let up = index.is_some() && interface::link_state(&self.interface).is_ok_and(|state| state.up);
        match (self.open, index) {
            (Some(open), Some(index)) if open == index && up => None,
            // Switched off by someone: it is theirs to switch on again.
            (Some(open), Some(index)) if open == index => self.down("went down"),
            (Some(_), None) => self.down("vanished"),
            (Some(_), Some(_)) => {
                self.open = None;
                Some(self.open())
            }
            (None, Some(_)) if up || self.said != "went down" => Some(self.open()),
            (None, Some(_)) => None,
            (None, None) => self.say("is not there"),
        }
        .filter(|news| news.message.is_some() || !news.text.is_empty())
    }

    fn down(&mut self, what: &str) -> Option<News> {
        self.open = None;
        what.clone_into(&mut self.said);
        let message = Some((FromKeeper::UplinkDown { node: self.node }, None));
        Some(News { node: self.node, message, text: format!("{} {what}", self.interface) })
    }

    /// Only tells, once.
    fn say(&mut self, what: &str) -> Option<News> {
        if self.said == what || self.said == "vanished" {
            return None;
        }
        what.clone_into(&mut self.said);
        Some(News { node: self.node, message: None, text: format!("{} {what}", self.interface) })
    }

    fn open(&mut self) -> News {
        let opened = || -> io::Result<(u32, u32, OwnedFd)> {
            if !interface::link_state(&self.interface)?.up {
                interface::set_up(&self.interface, true)?;
            }
            let socket = packet::open(&self.interface, true)?;
            Ok((interface::index(&self.interface)?, interface::mtu(&self.interface)?, socket))
        };
        match opened() {
            Ok((index, mtu, socket)) => {
                self.open = Some(index);
                "is up".clone_into(&mut self.said);
                let message = Some((FromKeeper::Uplink { node: self.node, mtu }, Some(socket)));
                News { node: self.node, message, text: format!("{} is up", self.interface) }
            }
            Err(error) => {
                let what = format!("cannot be opened: {error}");
                let nothing = News { node: self.node, message: None, text: String::new() };
                self.say(&what).unwrap_or(nothing)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::UplinkConfig;
    use crate::sys::{netlink, privileges, tap};

    #[test]
    fn an_uplink_flaps_vanishes_and_returns() {
        let run = || {
            privileges::leave_network().unwrap();
            let uplink = UplinkConfig { interface: "hwt-up".into(), allow: vec![], mac_limit: 256, rate_bytes: 0 };
            let mut uplinks = Uplinks::new(&[("edge".into(), NodeConfig::Uplink(uplink))]);
            let mut look = move || {
                let news = uplinks.look();
                assert!(news.len() <= 1);
                news.into_iter()
                    .next()
                    .map(|news| (news.text, news.message.map(|(message, fd)| (message, fd.is_some()))))
            };
            let node = NodeIdx(0);
            let is_up = Some(("hwt-up is up".to_owned(), Some((FromKeeper::Uplink { node, mtu: 1500 }, true))));
            assert_eq!(look(), Some(("hwt-up is not there".into(), None)));
            assert_eq!(look(), None);
            let (fd, _) = tap::open("hwt-up", tap::Offload::Tcp).unwrap();
            assert_eq!(look(), is_up);
            assert!(interface::link_state("hwt-up").unwrap().up);
            assert_eq!(look(), None);
            interface::set_up("hwt-up", false).unwrap();
            let down = Some((FromKeeper::UplinkDown { node }, false));
            assert_eq!(look(), Some(("hwt-up went down".into(), down.clone())));
            assert_eq!(look(), None);
            assert!(!interface::link_state("hwt-up").unwrap().up);
            interface::set_up("hwt-up", true).unwrap();
            assert_eq!(look(), is_up);
            netlink::delete_link("hwt-up").unwrap();
            drop(fd);
            assert_eq!(look(), Some(("hwt-up vanished".into(), down)));
            assert_eq!(look(), None);
            let (_fd, _) = tap::open("hwt-up", tap::Offload::Tcp).unwrap();
            assert_eq!(look(), is_up);
        };
        std::thread::spawn(run).join().unwrap();
    }
}
