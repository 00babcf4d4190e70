//! The console process: what happened goes from the rings to the disk, and who
//! asks is answered.
//!
//! One thread (`recorder`) reads rings and writes files, one (`tapes`) keeps what the switch tells of connections, one
//! (`inside`) reads what happens inside containers, one (`sinks`) sends what happened to others; a runtime of one
//! thread serves the control socket, the metrics, and the channels. It has no
//! capability and writes no file but those below its own directories; what sinks need (the machine's certificates, its
//! resolver's files, the host's name) it reads. Of a captured frame it
//! reads addresses and ports, with checked access only and without allocation; with
//! `privacy` it rewrites addresses, and cuts what follows the headers.

mod alerts;
mod ids;
mod inside;
mod keeper;
mod logs;
mod metrics;
mod private;
mod recorder;
mod shared;
mod sinks;
mod socket;
mod switch;
mod tapes;
mod to_recorder;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ConsoleConfig, ConsoleEnds};
use crate::event::{Event, EventId, HONEYNET_ENDS, Process, Said};
use crate::record::bundle::Key;
use crate::record::privacy::Mask;
use crate::record::tape::{self, TapeLimits, Tapes};
use crate::record::{SESSIONS, Utc};
use crate::sys::eventfd::EventFd;
use crate::sys::seqpacket::AsyncChannel;
use crate::sys::{clock, privileges, sched};
use crate::wire::Instant;

use keeper::Keeper;
use recorder::Recorder;
use shared::Shared;
use sinks::Sinks;
use socket::Desk;
use switch::Switch;
use tapes::{Telling, Told};
use to_recorder::ToRecorder;

pub use metrics::Metrics;

/// Makes the metrics' text.
pub type MetricsText = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync>;

/// Serves the metrics on a listening socket for ever.
pub type ServeMetrics = fn(tokio::net::TcpListener, MetricsText) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// How long the switch has to say what ends with it when nobody makes it go first.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs the console until the supervisor's channel closes.
///
/// # Errors
/// If log, captures, rings or sockets cannot be opened, or the recorder died.
pub fn run(config: ConsoleConfig, ends: ConsoleEnds, serve_metrics: Option<ServeMetrics>) -> io::Result<()> {
    let shared = Arc::new(Shared::new(&config.plan));
    shared.mask.learn(&config.dir.join("events"));
    let wake = EventFd::new()?;
    let (to_recorder, hear) = ToRecorder::new(wake.try_clone()?);
    // What was recorded can wait for somebody to vouch for it; to be recorded it cannot.
    if let Err(error) = Key::open_or_make(&config.dir) {
        tracing::error!(%error, dir = %config.dir.display(), "sessions cannot be exported: there is no key to sign them with");
    }
    let captures = config.plan.captures;
    let recorder = Recorder::open(shared.clone(), &config.dir, captures, ends.rings, hear, wake)?;
    let tapes = open_tapes(&config, shared.mask.clone())?.trusting(recorder.trust());
    let sinks = Sinks::start(&config.plan.sinks, &config.plan.name, &config.dir, &shared, &to_recorder)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = stop.clone();
    let (running, mut ended) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || {
        let _running = running;
        // In a flood, answering comes first: what the rings cannot hold is counted.
        sched::stand_back(19);
        if let Err(error) = recorder.run(&stopping) {
            tracing::error!(%error, "nothing is recorded");
        }
    })?;
    let (telling, told) = tapes::queue();
    let (of_tapes, of_shared) = (to_recorder.clone(), shared.clone());
    let keeping = std::thread::Builder::new().name("tapes".into()).spawn(move || {
        if let Err(error) = tapes::run(tapes, told, &of_tapes, &of_shared) {
            tracing::error!(%error, "connections are not recorded");
        }
    })?;
    let known = Arc::default();
    let watching = ends.inside.map(|fds| inside::start(fds, &known, to_recorder.clone(), &shared));
    let watching = watching.transpose()?;
    let (files, following) = follow_sensor(&config, &to_recorder)?.unzip();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    let result = runtime.block_on(async {
        let switch = Switch::new(ends.switch, config.plan.proxies.clone(), telling.clone())?;
        let supervisor = Arc::new(AsyncChannel::new(ends.supervisor)?);
        let keeper = Keeper::new(ends.keeper, known)?;
        let desk = Arc::new(Desk::new(shared.clone(), switch.clone(), supervisor.clone(), keeper.clone(), &config));
        let listener = std::os::unix::net::UnixListener::from(ends.control);
        listener.set_nonblocking(true)?;
        tokio::spawn(desk.clone().serve(tokio::net::UnixListener::from_std(listener)?));
        let switch = tokio::spawn(switch.run(shared.clone()));
        if watching.is_some() {
            let keeper = keeper.clone();
            tokio::spawn(async move { keeper.learn().await });
        }
        if let Some(files) = files {
            tokio::spawn(ids::ask(keeper.clone(), files));
        }
        tokio::spawn(logs::run(keeper.clone(), to_recorder.clone()));
        let of_keeper = to_recorder.clone();
        tokio::spawn(async move { keeper.listen(&of_keeper).await });
        match (ends.metrics, serve_metrics) {
            (Some(listener), Some(serve)) => {
                let listener = std::net::TcpListener::from(listener);
                listener.set_nonblocking(true)?;
                let text: MetricsText = Arc::new(move || {
                    let desk = desk.clone();
                    Box::pin(async move { desk.metrics().await })
                });
                tokio::spawn(serve(tokio::net::TcpListener::from_std(listener)?, text));
            }
            (Some(_), None) => tracing::warn!("this build has no metrics endpoint (feature `web`)"),
            (None, _) => {}
        }
        tokio::select! {
            is_gone = listen(&supervisor, &to_recorder, &telling) => {
                // Otherwise the switch has ended by now.
                if is_gone {
                    let _ = tokio::time::timeout(LAST_WORDS, switch).await;
                }
                drop(telling.send(Told::Over).await);
            }
            // A console without its recorder is none: the supervisor starts another.
            _ = &mut ended => {}
        }
        Ok(())
    });
    // Whoever follows is let go before the files are closed; a search that still runs is not waited for.
    runtime.shutdown_background();
    drop(telling);
    if following.is_some_and(|following| following.join().is_err()) {
        tracing::error!("the thread that reads alerts panicked");
    }
    // What it has to tell at the end is recorded, too.
    if keeping.join().is_err() {
        tracing::error!("the thread that keeps tapes panicked");
    }
    if let Some(watching) = watching {
        watching.stop();
    }
    stop.store(true, Ordering::Release);
    to_recorder.wake();
    let recorded = thread.join();
    // What happened last is sent, too.
    if let Some(sinks) = sinks {
        sinks.end();
    }
    if recorded.is_err() {
        return Err(io::Error::other("the recorder panicked"));
    }
    result
}

/// Starts the thread that reads what a sensor writes, if the topology names one: where its files are put, and the thread.
fn follow_sensor(
    config: &ConsoleConfig,
    to_recorder: &ToRecorder,
) -> io::Result<Option<(std::sync::mpsc::Sender<std::fs::File>, std::thread::JoinHandle<()>)>> {
    let Some(eve) = config.plan.eve.clone() else { return Ok(None) };
    let (files, given) = std::sync::mpsc::channel();
    let (dir, to_recorder) = (config.dir.clone(), to_recorder.clone());
    let thread = std::thread::Builder::new()
        .name("ids".into())
        .spawn(move || ids::run(&dir, eve.as_ref(), &given, &to_recorder))?;
    Ok(Some((files, thread)))
}

/// The recordings of connections in the honeynet's directory.
fn open_tapes(config: &ConsoleConfig, mask: Mask) -> io::Result<Tapes> {
    let nodes = config.plan.nodes.iter().map(|node| node.name.clone()).collect();
    // Log, captures and clients need some, too.
    let most = privileges::descriptors() / 4;
    let limits = TapeLimits::default();
    let limits = TapeLimits { open: limits.open.min(most), parts: limits.parts.min(most), ..limits };
    let privacy = config.plan.privacy;
    let limits = TapeLimits { age_secs: privacy.retention_secs, ..limits };
    // A log-in in the clear is among the octets of whatever is no terminal.
    let limits = if privacy.redact { TapeLimits { stream: 0, plain: 0, ..limits } } else { limits };
    Tapes::open(&config.dir, limits, privacy.redact, nodes, Box::new(tape::space))
        .map(|tapes| tapes.masked(mask))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", config.dir.join(SESSIONS).display())))
}

/// Passes on what the supervisor says until the channel closes. Whether it has gone without taking its leave.
async fn listen(channel: &AsyncChannel, to_recorder: &ToRecorder, telling: &Telling) -> bool {
    let mut is_told = false;
    loop {
        match channel.recv_msg::<Said>().await {
            Ok(Some((message, _))) => {
                let since = clock::monotonic_micros() - message.event.at.total_micros();
                let at = Utc::from_micros(clock::realtime_micros().saturating_sub(since));
                // Without the thread nothing is recorded, which it has said.
                match message.process() {
                    _ if message.data.starts_with(HONEYNET_ENDS.as_bytes()) => {
                        is_told = true;
                        let _ = telling.send(Told::Ending(at)).await;
                    }
                    Some((Process::Switch, fate)) if fate.is_end() => {
                        let _ = telling.send(Told::SwitchEnded(at)).await;
                    }
                    _ => {}
                }
                if !to_recorder.tell(message).await {
                    return false;
                }
            }
            // It takes its leave before it goes. Whoever kills it ends the honeynet, as nobody else does without it.
            Ok(None) if !is_told => {
                let at = Utc::from_micros(clock::realtime_micros());
                let _ = telling.send(Told::Ending(at)).await;
                let event = Event::new(EventId::ProcessState, Instant::from_micros(clock::monotonic_micros()));
                let data = format!("{HONEYNET_ENDS}: the supervisor is gone").into_bytes();
                return to_recorder.tell(Said { event, data }).await;
            }
            Ok(None) => return false,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(%error, "a process of ours sent what is no message");
            }
            Err(error) => {
                tracing::error!(%error, "a channel to a process of ours failed");
                return false;
            }
        }
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod standing_tests;
#[cfg(test)]
mod tests;
