//! Which threads wait for which.

use std::io;

/// Changes by how much the calling thread, and what it starts from now on, stands back behind others (-20 to 19).
/// Not being allowed to is no failure: the thread runs, only later at times. Returns whether it was.
pub fn stand_back(by: i32) -> bool {
    rustix::process::nice(by).inspect_err(|error| tracing::debug!(%error, by, "a thread's priority stays")).is_ok()
}

/// Has the calling thread run only where a processor has nothing else to do (`SCHED_IDLE`), for good.
///
/// A processor with nothing but such threads passes for an idle one, on which the scheduler puts whatever wakes up. With a
/// thread of niceness 19, it is busy: two others share the next processor, for milliseconds at a time.
pub fn give_way() {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: changes the calling thread alone; the parameter lives for the call.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param) } != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "a thread takes its turns like others");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way() {
        let policy = std::thread::spawn(|| {
            give_way();
            // SAFETY: takes a number.
            unsafe { libc::sched_getscheduler(0) }
        });
        assert_eq!(policy.join().expect("nothing fails there"), libc::SCHED_IDLE);
    }
}
