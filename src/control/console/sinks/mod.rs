//! The thread that sends what happened to others ([`crate::record::sink`]): a task for each sink, none of which waits for
//! another, and none of which the recorder waits for. They read the log as anybody could; the recorder only says that
//! there is more in it.

mod delivery;
mod file;
mod tls;
mod wire;

pub use file::forget;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::shared::Shared;
use super::to_recorder::ToRecorder;
use crate::record::sink::{Cursor, Origin, SINKS, SinkConfig};
use crate::sys::sched;

use delivery::Delivery;

/// The thread; it ends when it is told to.
pub struct Sinks {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Sinks {
    /// Begins to send, to each of `sinks` from where it stopped. `dir` is the honeynet's directory.
    ///
    /// # Errors
    /// If there can be no thread. A sink that cannot work says so and is left out.
    pub fn start(
        sinks: &[SinkConfig],
        honeynet: &str,
        dir: &Path,
        shared: &Arc<Shared>,
        to_recorder: &ToRecorder,
    ) -> io::Result<Option<Sinks>> {
        if sinks.is_empty() {
            return Ok(None);
        }
        // Beside the supervisor's there may be no other: tests have none.
        std::fs::create_dir_all(dir.join(SINKS))?;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let (stop, stopped) = watch::channel(false);
        let newest = shared.newest();
        let first = newest.borrow().saturating_add(1);
        let mut deliveries = Vec::new();
        for sink in sinks {
            let origin = Origin { honeynet: honeynet.to_owned(), host: host.clone(), facility: sink.facility };
            match Cursor::open(&dir.join(SINKS), &sink.name, first) {
                Ok(cursor) => deliveries.push(Delivery::new(
                    sink.clone(),
                    origin,
                    cursor,
                    dir,
                    (newest.clone(), stopped.clone()),
                    shared.clone(),
                    to_recorder.clone(),
                )),
                Err(error) => {
                    tracing::error!(%error, sink = sink.name, "nothing is sent: the sink's place in the log cannot be read");
                }
            }
        }
        // Each may wait for a disk or a name, and for a name that was given up, too.
        let waiting = 2 * deliveries.len() + 1;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(waiting).build()?;
        let thread = std::thread::Builder::new().name("sinks".into()).spawn(move || {
            // In a flood, answering comes first: what is not sent yet waits in the log.
            sched::stand_back(19);
            runtime.block_on(async {
                let tasks: Vec<_> = deliveries.into_iter().map(|delivery| tokio::spawn(delivery.run())).collect();
                for task in tasks {
                    if let Err(error) = task.await {
                        tracing::error!(%error, "a sink failed");
                    }
                }
            });
            // A name that is still being looked up is not waited for, nor is a disk.
            runtime.shutdown_background();
        })?;
        Ok(Some(Sinks { stop, thread }))
    }

    /// Sends what there is, which takes a moment at most, and ends.
    pub fn end(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the thread that sends to receivers panicked");
        }
    }
}

#[cfg(test)]
mod tests;
