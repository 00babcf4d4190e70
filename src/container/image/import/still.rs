//! A container that is being copied is frozen: files that its processes write one after the other fit together.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::container::image::Progress;
use crate::container::keeper::Layout;
use crate::sys::clock;
use crate::sys::signal::Signals;

/// The kernel freezes within milliseconds, but for what is in the midst of a long call.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits for the end of its input, which comes even if who holds the other end is killed, and writes.
const WRITE_IN_THE_END: &str = "trap '' HUP INT TERM; cat >/dev/null; printf %s \"$1\" >\"$2\"";

/// A container that is frozen as long as this is there.
pub(super) struct Still {
    layout: Layout,
    container: String,
    /// Has it go on when this process is no more, however that came.
    guard: Child,
    /// Whoever interrupts this process waits until the container goes on.
    _signals: Option<Signals>,
}

impl Still {
    /// Freezes `container`, unless it does not run or is frozen anyway. One that cannot be frozen is copied as it is, which
    /// is said.
    pub fn keep(container: &str, image: &str, progress: &Progress) -> Option<Still> {
        Still::keep_in(Layout::find().everywhere(), container, image, progress)
    }

    fn keep_in(layout: Layout, container: &str, image: &str, progress: &Progress) -> Option<Still> {
        if layout.processes(container).is_empty() || layout.is_frozen(container) {
            return None;
        }
        let signals = Signals::take(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP]).ok();
        let as_it_runs = |why: &str| {
            progress.done(image, &format!("the container could not be frozen and is copied as it runs: {why}"));
        };
        let guard = match guard(&layout, container) {
            Ok(guard) => guard,
            Err(error) => {
                as_it_runs(&error.to_string());
                return None;
            }
        };
        // From here on it goes on whatever happens.
        let still = Still { layout, container: container.to_owned(), guard, _signals: signals };
        let done = still.layout.freeze(container, true);
        let end = clock::monotonic_micros() + PATIENCE.as_micros() as i64;
        while done.is_ok() && !still.layout.is_frozen(container) && clock::monotonic_micros() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        if still.layout.is_frozen(container) {
            return Some(still);
        }
        as_it_runs(&done.err().map_or("something in it takes long".to_owned(), |error| error.to_string()));
        None
    }
}

/// A process that lets `container` go on when this one has closed its end, or has ended.
fn guard(layout: &Layout, container: &str) -> io::Result<Child> {
    let (path, word) = layout.freezer(container, false)?;
    // A group of its own: what is sent to ours, by a terminal, does not end it.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", WRITE_IN_THE_END, "sh", word]).arg(path).process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for Still {
    fn drop(&mut self) {
        let _ = self.layout.freeze(&self.container, false);
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
