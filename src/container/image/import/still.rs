//! A container that is being copied is frozen: files that its processes write one after the other fit together.

use std::time::Duration;

use crate::container::image::Progress;
use crate::container::keeper::Layout;
use crate::sys::clock;
use crate::sys::signal::Signals;

/// The kernel freezes within milliseconds, but for what is in the midst of a long call.
const PATIENCE: Duration = Duration::from_secs(2);

/// A container that is frozen as long as this is there.
pub(super) struct Still {
    layout: Layout,
    container: String,
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
        // From here on it goes on whatever happens.
        let still = Still { layout, container: container.to_owned(), _signals: signals };
        let done = still.layout.freeze(container, true);
        let end = clock::monotonic_micros() + PATIENCE.as_micros() as i64;
        while done.is_ok() && !still.layout.is_frozen(container) && clock::monotonic_micros() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        if still.layout.is_frozen(container) {
            return Some(still);
        }
        let why = done.err().map_or("something in it takes long".to_owned(), |error| error.to_string());
        progress.done(image, &format!("the container could not be frozen and is copied as it runs: {why}"));
        None
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        let _ = self.layout.freeze(&self.container, false);
    }
}
