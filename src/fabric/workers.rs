//! The threads of a network's shards, as one to the control side.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::Value;

use super::worker::{Order, Worker, WorkerHandle};
use super::{Fabric, merge};
use crate::frame::PortNo;
use crate::netdev::Netdev;
use crate::node::{Command, NodeIdx, Request, Show};
use crate::sys::eventfd::EventFd;

/// How long a worker may take to answer; one that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// A device that is to be attached, in all shards.
pub struct Attachment {
    /// The node.
    pub node: NodeIdx,
    /// The port, if a certain one; else the first free one.
    pub port: Option<PortNo>,
    /// One for each shard: the same device, by descriptors or sockets of their own.
    pub devices: Vec<Box<dyn Netdev>>,
    /// The shard that receives what comes; `None` if each gets its share.
    pub home: Option<u16>,
    /// Its name for lists.
    pub name: String,
    /// The number of its interface in captures.
    pub capture: Option<u32>,
}

/// One worker a shard.
pub struct Workers {
    workers: Vec<WorkerHandle>,
    request_due: EventFd,
}

fn stuck() -> io::Error {
    io::Error::other("the data plane does not answer")
}

impl Workers {
    /// Starts a thread for each of `fabrics`, which are the shards of one network. Until [`Workers::begin`] they only
    /// take orders: what hosts say by themselves would be lost before there is a wire.
    ///
    /// # Errors
    /// If the machine has no descriptor or thread left.
    pub fn spawn(fabrics: Vec<Fabric>) -> io::Result<Workers> {
        let request_due = EventFd::new()?;
        let spawn = |fabric| Worker::spawn(fabric, request_due.try_clone()?);
        Ok(Workers { workers: fabrics.into_iter().map(spawn).collect::<io::Result<_>>()?, request_due })
    }

    /// How many there are.
    pub fn count(&self) -> u16 {
        self.workers.len() as u16
    }

    /// Lets time run.
    pub fn begin(&self) {
        self.workers.iter().for_each(|worker| worker.order(Order::Begin));
    }

    /// Attaches a device; returns its port, which is the same in all shards.
    ///
    /// # Errors
    /// If a worker does not answer within five seconds, or there are too few devices.
    pub fn attach(&self, attachment: Attachment) -> io::Result<PortNo> {
        let Attachment { node, mut port, devices, home, name, capture } = attachment;
        if devices.len() != self.workers.len() {
            return Err(io::Error::other(format!("{} devices for {} shards", devices.len(), self.workers.len())));
        }
        for (shard, device) in devices.into_iter().enumerate() {
            let receives = home.is_none_or(|home| usize::from(home) == shard);
            let (reply, answer) = channel();
            let name = name.clone();
            self.workers[shard].order(Order::Attach { node, port, device, name, capture, receives, reply });
            port = Some(answer.recv_timeout(PATIENCE).map_err(|_| stuck())?);
        }
        port.ok_or_else(stuck)
    }

    /// Removes the device of a port.
    pub fn detach(&self, node: NodeIdx, port: PortNo) {
        self.workers.iter().for_each(|worker| worker.order(Order::Detach { node, port }));
    }

    /// Removes the device of a port that is to come back: `name` stays in lists, as `gone` or as down.
    pub fn unplug(&self, node: NodeIdx, port: PortNo, name: &str, gone: bool) {
        for worker in &self.workers {
            worker.order(Order::Unplug { node, port, name: name.to_owned(), gone });
        }
    }

    /// Tells a node's replica in `shard` something.
    pub fn command(&self, shard: u16, node: NodeIdx, command: Command) {
        if let Some(worker) = self.workers.get(usize::from(shard)) {
            worker.order(Order::Command { node, command });
        }
    }

    /// What nodes asked for since the last call, and in which shard.
    pub fn requests(&self) -> Vec<(u16, Request)> {
        self.request_due.take();
        let of = |(shard, worker): (usize, &WorkerHandle)| {
            worker.requests().map(move |r| (shard as u16, r)).collect::<Vec<_>>()
        };
        self.workers.iter().enumerate().flat_map(of).collect()
    }

    /// Has every worker say, between two steps, that it still takes orders.
    pub fn ping(&self) {
        self.workers.iter().for_each(|worker| worker.order(Order::Ping));
    }

    /// Pings that all workers have answered.
    pub fn pongs(&self) -> u64 {
        self.workers.iter().map(WorkerHandle::pongs).min().unwrap_or(0)
    }

    /// Readable when [`Workers::requests`] has something, a ping was answered, or a worker has ended.
    pub fn request_fd(&self) -> BorrowedFd<'_> {
        self.request_due.as_fd()
    }

    /// Has the nodes' state described, of one kind, at most `limit` rows a node: `[{"node": NAME, "rows": […]}, …]`.
    /// What is returned waits for that.
    pub fn show(&self, what: Show, limit: usize) -> impl FnOnce() -> io::Result<Value> + Send + 'static {
        let answers = self.ask(|reply| Order::Show { what, limit, reply });
        move || {
            let shards = all(answers)?;
            Ok(if shards.len() == 1 {
                shards.into_iter().next().unwrap_or_default()
            } else {
                merge::show(shards, limit)
            })
        }
    }

    /// Ends the network: nodes say what ends with it, and the threads end.
    ///
    /// # Errors
    /// If one does not answer within five seconds.
    pub fn end(&self) -> io::Result<()> {
        all(self.ask(|reply| Order::End { reply })).map(drop)
    }

    /// Counters of nodes, devices, drops and links, and what there is now:
    /// `{"nodes": […], "devices": […], "drops": […], "links": […], "standing": […]}`. What is returned waits for them.
    pub fn status(&self) -> impl FnOnce() -> io::Result<Value> + Send + 'static {
        let answers = self.ask(|reply| Order::Status { reply });
        move || Ok(merge::status(all(answers)?))
    }

    fn ask<T>(&self, order: impl Fn(Sender<T>) -> Order) -> Vec<Receiver<T>> {
        let ask = |worker: &WorkerHandle| {
            let (reply, answer) = channel();
            worker.order(order(reply));
            answer
        };
        self.workers.iter().map(ask).collect()
    }

    /// Whether one has ended.
    pub fn is_finished(&self) -> bool {
        self.workers.iter().any(WorkerHandle::is_finished)
    }
}

fn all<T>(answers: Vec<Receiver<T>>) -> io::Result<Vec<T>> {
    answers.iter().map(|answer| answer.recv_timeout(PATIENCE).map_err(|_| stuck())).collect()
}
