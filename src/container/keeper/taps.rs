//! The TAPs of tap nodes: passed on to every switch, made anew when they vanish.
//!
//! A user may have moved such a device anywhere, so it must outlive both switch
//! and keeper: the supervisor makes it before either, and holds its descriptor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::uplinks::News;
use crate::container::{FromKeeper, KeeperConfig};
use crate::node::NodeIdx;
use crate::sys::{interface, tap};

/// What the kernel gives to a new TAP. Where a user has moved it to, it cannot be asked for.
const MTU: u32 = 1500;

/// Makes the TAP `name`, switched on. This machine itself stays silent on it.
///
/// # Errors
/// `AlreadyExists` if there is an interface of that name; what [`tap::open`] says.
pub fn open(name: &str) -> io::Result<OwnedFd> {
    // The kernel would hand out somebody else's TAP that nobody uses at the moment.
    if interface::index(name).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is an interface of that name already"));
    }
    let (fd, _) = tap::open(name, tap::Offload::Tcp)?;
    interface::shut_out_host(name)?;
    interface::set_up(name, true)?;
    Ok(fd)
}

/// The TAPs of a honeynet.
#[derive(Debug, Default)]
pub struct Taps(Vec<Tap>);

#[derive(Debug)]
struct Tap {
    node: NodeIdx,
    name: String,
    fd: Option<OwnedFd>,
    /// Whether the switch has it.
    passed: bool,
    /// What was said last about it, to say nothing twice.
    said: String,
}

impl Taps {
    /// Those of `config`, whose descriptors the supervisor has handed down in the same order.
    pub fn new(config: &KeeperConfig, handed: Vec<OwnedFd>) -> Taps {
        let fds = handed.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        let tap = |((node, tap), fd): ((NodeIdx, &crate::node::TapConfig), Option<OwnedFd>)| Tap {
            node,
            name: tap.interface.clone(),
            fd,
            passed: false,
            said: String::new(),
        };
        Taps(config.taps().zip(fds).map(tap).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A new switch needs all of them.
    pub fn forget(&mut self) {
        for tap in &mut self.0 {
            tap.passed = false;
        }
    }

    /// The switch has had that of `node` from a predecessor.
    pub fn inherit(&mut self, node: NodeIdx) {
        for tap in self.0.iter_mut().filter(|tap| tap.node == node) {
            tap.passed = true;
        }
    }

    /// Looks at every TAP and says what has changed.
    pub fn look(&mut self) -> Vec<News> {
        self.0.iter_mut().filter_map(Tap::look).collect()
    }
}

impl Tap {
    fn look(&mut self) -> Option<News> {
        match &self.fd {
            Some(fd) if tap::name(fd.as_fd()).is_ok() => (!self.passed).then(|| self.pass()).flatten(),
            // Somebody removed it, or the network namespace that it had been moved to.
            Some(_) => {
                self.fd = None;
                self.passed = false;
                Some(self.news("vanished", Some((FromKeeper::TapDown { node: self.node }, vec![]))))
            }
            None => match open(&self.name) {
                Ok(fd) => {
                    self.fd = Some(fd);
                    self.pass()
                }
                Err(error) => self.fail(&error),
            },
        }
    }

    fn pass(&mut self) -> Option<News> {
        match self.fd.as_ref()?.try_clone() {
            Ok(fd) => {
                self.passed = true;
                Some(self.news("is up", Some((FromKeeper::Tap { node: self.node, mtu: MTU }, vec![fd]))))
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &io::Error) -> Option<News> {
        let what = format!("cannot be opened: {error}");
        (self.said != what).then(|| self.news(&what, None))
    }

    fn news(&mut self, what: &str, message: Option<(FromKeeper, Vec<OwnedFd>)>) -> News {
        what.clone_into(&mut self.said);
        News { node: self.node, message, text: format!("{} {what}", self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::keeper::host::tests::config;
    use crate::node::{NodeConfig, TapConfig};
    use crate::sys::{netlink, privileges};

    fn alone(test: impl FnOnce() + Send + 'static) {
        let run = || {
            privileges::leave_network().unwrap();
            test();
        };
        std::thread::spawn(run).join().unwrap();
    }

    #[test]
    fn a_tap_is_passed_on_and_made_anew() {
        alone(|| {
            let tap = TapConfig { interface: "hwt-vm".into(), capture: true };
            let nodes = vec![("vm".into(), NodeConfig::Tap(tap))];
            let handed = open("hwt-vm").unwrap();
            assert!(interface::link_state("hwt-vm").unwrap().up);
            assert_eq!(open("hwt-vm").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            let mut taps = Taps::new(&KeeperConfig { nodes, ..config() }, vec![handed]);
            let mut look = |forget: bool| {
                if forget {
                    taps.forget();
                }
                let news = taps.look();
                assert!(news.len() <= 1);
                news.into_iter().next().map(|news| (news.text, news.message.map(|(message, fds)| (message, fds.len()))))
            };
            let node = NodeIdx(0);
            let is_up = Some(("hwt-vm is up".to_owned(), Some((FromKeeper::Tap { node, mtu: MTU }, 1))));
            assert_eq!(look(false), is_up);
            assert_eq!(look(false), None);
            assert_eq!(look(true), is_up);
            netlink::delete_link("hwt-vm").unwrap();
            let vanished = Some(("hwt-vm vanished".to_owned(), Some((FromKeeper::TapDown { node }, 0))));
            assert_eq!(look(false), vanished);
            let (stranger, _) = tap::open("hwt-vm", tap::Offload::Tcp).unwrap();
            let taken = "hwt-vm cannot be opened: there is an interface of that name already";
            assert_eq!(look(false), Some((taken.to_owned(), None)));
            assert_eq!(look(false), None);
            drop(stranger);
            assert_eq!(look(false), is_up);
            drop(taps);
            assert!(interface::index("hwt-vm").is_err(), "it goes with its last descriptor");
        });
    }
}
