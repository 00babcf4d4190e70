//! The thread that runs a fabric on the machine's clock: it sleeps until a device
//! has frames, a deadline comes, or the control side has something to say.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use super::{DeviceIdx, Fabric};
use crate::frame::PortNo;
use crate::netdev::Netdev;
use crate::node::{Command, NodeIdx, Request, Show};
use crate::stack::Wake;
use crate::sys::clock;
use crate::sys::epoll::Epoll;
use crate::sys::eventfd::EventFd;
use crate::wire::Instant;

/// Orders that may wait before the control side has to.
const ORDERS: usize = 1024;

/// What the control side has the worker do, between two steps.
pub(super) enum Order {
    /// Attach a device to a port, or to the first free one.
    Attach {
        /// The node.
        node: NodeIdx,
        /// The port, if a certain one.
        port: Option<PortNo>,
        /// The device.
        device: Box<dyn Netdev>,
        /// Its name for lists.
        name: String,
        /// The number of its interface in captures.
        capture: Option<u32>,
        /// Whether frames from it are this shard's, or it is only to send.
        receives: bool,
        /// Takes the port's number.
        reply: Sender<PortNo>,
    },
    /// Remove the device of a port.
    Detach {
        /// The node.
        node: NodeIdx,
        /// The port.
        port: PortNo,
    },
    /// Remove the device of a port, and keep it in lists until it is back.
    Unplug {
        /// The node.
        node: NodeIdx,
        /// Its port.
        port: PortNo,
        /// The device's name for lists.
        name: String,
        /// Whether there is no such device any more; else it is down.
        gone: bool,
    },
    /// Tell a node something.
    Command {
        /// The node.
        node: NodeIdx,
        /// What.
        command: Command,
    },
    /// Describe the nodes' state.
    Show {
        /// Of which kind.
        what: Show,
        /// At most so many rows a node.
        limit: usize,
        /// Takes the answer.
        reply: Sender<serde_json::Value>,
    },
    /// Counters of nodes, devices, drops and links, and what there is now: see [`super::Workers::status`].
    Status {
        /// Takes the answer.
        reply: Sender<serde_json::Value>,
    },
    /// Let time run: no frame is received and nobody does anything before.
    Begin,
    /// Say that it still takes orders.
    Ping,
    /// Have the nodes say what ends with the network, then end the thread.
    End {
        /// Told when that is said.
        reply: Sender<()>,
    },
    /// End the thread.
    Stop,
}

struct Waker(EventFd);

impl Wake for Waker {
    fn wake(&self) {
        self.0.raise();
    }
}

/// The thread's side.
pub(super) struct Worker {
    fabric: Fabric,
    orders: Receiver<Order>,
    requests: Sender<Request>,
    woken: EventFd,
    request_due: EventFd,
    /// Pings answered.
    pongs: Arc<AtomicU64>,
    epoll: Epoll,
    /// The fabric's device list that `epoll` was made from.
    version: Option<u64>,
    pace: Pace,
}

/// The number of the worker's own eventfd among devices.
const WOKEN: u64 = u64::MAX;

/// How often frames come: whoever looks again at once instead of going to sleep
/// answers a flood faster, but burns a core on a trickle.
struct Pace {
    /// There are processors to spare: on two, where the sender and a container want
    /// one each, looking again was measured to gain nothing and to cost a tenth.
    may_spin: bool,
    /// A moving average of how long nothing came, in microseconds.
    gap: i64,
}

impl Pace {
    /// Microseconds of looking before going to sleep.
    const SPIN: i64 = 50;

    fn new() -> Pace {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Pace { may_spin: cores > 3, gap: 1000 }
    }

    /// Nothing came for so long.
    fn waited(&mut self, micros: i64) {
        self.gap += (micros.min(1000) - self.gap) / 8;
    }

    fn is_busy(&self) -> bool {
        self.may_spin && self.gap < Pace::SPIN / 2
    }
}

/// The control side's end of a running worker.
pub(super) struct WorkerHandle {
    orders: SyncSender<Order>,
    requests: Receiver<Request>,
    pongs: Arc<AtomicU64>,
    waker: Arc<dyn Wake>,
    thread: Option<JoinHandle<()>>,
    ended: Arc<AtomicBool>,
}

/// Says that a thread has ended, whatever ended it.
struct End {
    ended: Arc<AtomicBool>,
    request_due: EventFd,
}

impl Drop for End {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.request_due.raise();
    }
}

/// The machine's monotonic clock.
fn now() -> Instant {
    Instant::from_micros(clock::monotonic_micros())
}

impl Worker {
    /// Starts a thread that runs `fabric` and raises `request_due` when nodes have asked for something,
    /// and when it ends.
    ///
    /// # Errors
    /// If the machine has no descriptor or thread left.
    pub(super) fn spawn(mut fabric: Fabric, request_due: EventFd) -> io::Result<WorkerHandle> {
        let (orders_tx, orders) = sync_channel(ORDERS);
        let (requests, requests_rx) = channel();
        let woken = EventFd::new()?;
        let waker: Arc<dyn Wake> = Arc::new(Waker(woken.try_clone()?));
        fabric.set_waker(waker.clone());
        let (epoll, pace) = (Epoll::new()?, Pace::new());
        let name = match fabric.shard() {
            shard if shard.is_alone() => "fabric".to_owned(),
            shard => format!("fabric-{}", shard.index),
        };
        let ended = Arc::new(AtomicBool::new(false));
        let end = End { ended: ended.clone(), request_due: request_due.try_clone()? };
        let pongs = Arc::new(AtomicU64::new(0));
        let answered = pongs.clone();
        let worker = Worker { fabric, orders, requests, woken, request_due, pongs, epoll, version: None, pace };
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let _end = end;
            worker.run();
        })?;
        let (orders, requests, pongs) = (orders_tx, requests_rx, answered);
        Ok(WorkerHandle { orders, requests, pongs, waker, thread: Some(thread), ended })
    }

    fn run(mut self) {
        loop {
            match self.orders.recv() {
                Ok(Order::Begin) => break,
                Ok(order) => {
                    if self.obey(order).is_break() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
        let mut ready = Vec::new();
        let mut more = true;
        loop {
            ready.clear();
            let woken = self.wait(more, &mut ready);
            if woken {
                self.woken.take();
                self.fabric.wake();
                while let Ok(order) = self.orders.try_recv() {
                    if self.obey(order).is_break() {
                        return;
                    }
                }
            }
            more = self.fabric.step(now(), Some(&ready));
            let requests = self.fabric.take_requests();
            if !requests.is_empty() {
                requests.into_iter().for_each(|request| drop(self.requests.send(request)));
                self.request_due.raise();
            }
        }
    }

    /// Sleeps until there is something to do. Fills in the devices that have
    /// frames; returns whether the control side raised its hand.
    fn wait(&mut self, at_once: bool, ready: &mut Vec<DeviceIdx>) -> bool {
        if self.version != Some(self.fabric.devices_version()) {
            self.version = Some(self.fabric.devices_version());
            if let Err(error) = self.watch() {
                tracing::error!(%error, "cannot wait for devices");
            }
        }
        if at_once {
            return self.ask(Some(Duration::ZERO), ready);
        }
        let start = clock::monotonic_micros();
        let due = self.fabric.next_deadline().map(|deadline| (deadline.total_micros() - start).max(0));
        let mut woken = false;
        if self.pace.is_busy() {
            let end = start + due.unwrap_or(Pace::SPIN).min(Pace::SPIN);
            while !woken && ready.is_empty() && !self.fabric.has_parcels() && clock::monotonic_micros() < end {
                woken = self.look(ready);
            }
        }
        if !woken && ready.is_empty() {
            let due = due.map(|due| Duration::from_micros((start + due - clock::monotonic_micros()).max(0) as u64));
            // Another shard may hand something over at any moment.
            let due = if self.fabric.may_sleep() { due } else { Some(Duration::ZERO) };
            woken = self.ask(due, ready);
            self.fabric.is_awake();
        }
        self.pace.waited(clock::monotonic_micros() - start);
        woken
    }

    /// Asks the kernel what there is, and waits for it.
    fn ask(&self, timeout: Option<Duration>, ready: &mut Vec<DeviceIdx>) -> bool {
        let mut woken = false;
        // An interrupted wait is one that found nothing.
        let _ = self.epoll.wait(timeout, |number| match number {
            WOKEN => woken = true,
            number => ready.push(DeviceIdx(number as usize)),
        });
        woken
    }

    /// Looks for about a microsecond at what is seen without a call, then asks for the rest.
    fn look(&self, ready: &mut Vec<DeviceIdx>) -> bool {
        for _ in 0..32 {
            self.fabric.look(ready);
            if !ready.is_empty() {
                break;
            }
            std::hint::spin_loop();
        }
        // Always: devices that have no ring must not wait for those that do.
        self.ask(Some(Duration::ZERO), ready)
    }

    /// Has the kernel tell of the present devices.
    fn watch(&mut self) -> io::Result<()> {
        self.epoll = Epoll::new()?;
        self.epoll.add(self.woken.as_fd(), WOKEN)?;
        self.fabric.devices().try_for_each(|(index, fd)| self.epoll.add(fd, index.0 as u64))
    }

    fn obey(&mut self, order: Order) -> std::ops::ControlFlow<()> {
        match order {
            Order::Attach { node, port, device, name, capture, receives, reply } => {
                let port = self.fabric.attach(node, port, device, &name, capture);
                if !receives {
                    self.fabric.only_send(node, port);
                }
                let _ = reply.send(port);
            }
            Order::Detach { node, port } => self.fabric.detach(node, port),
            Order::Unplug { node, port, name, gone } => self.fabric.unplug(node, port, &name, gone),
            Order::Command { node, command } => self.fabric.command(node, command, now()),
            Order::Show { what, limit, reply } => drop(reply.send(self.fabric.show(what, limit))),
            Order::Status { reply } => {
                // Devices ask the kernel what it has thrown away when they are read from: idle ones, too.
                self.fabric.step(now(), None);
                let _ = reply.send(json!({
                    "nodes": self.fabric.show_nodes(),
                    "devices": self.fabric.show_devices(),
                    "drops": self.fabric.show_drops(),
                    "links": self.fabric.show_links(),
                    "standing": self.fabric.show_standing(),
                }));
            }
            Order::Begin => {}
            Order::Ping => {
                self.pongs.fetch_add(1, Ordering::Release);
                self.request_due.raise();
            }
            Order::End { reply } => {
                self.fabric.end(now());
                let _ = reply.send(());
                return std::ops::ControlFlow::Break(());
            }
            Order::Stop => return std::ops::ControlFlow::Break(()),
        }
        std::ops::ControlFlow::Continue(())
    }
}

impl WorkerHandle {
    /// Hands an order over. Waits only if the worker is far behind; an order to
    /// a worker that has ended is dropped.
    pub(super) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
        self.waker.wake();
    }

    /// What nodes asked for since the last call.
    pub(super) fn requests(&self) -> impl Iterator<Item = Request> {
        self.requests.try_iter()
    }

    /// Pings that it has answered.
    pub(super) fn pongs(&self) -> u64 {
        self.pongs.load(Ordering::Acquire)
    }

    /// Whether the thread has ended.
    pub(super) fn is_finished(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
