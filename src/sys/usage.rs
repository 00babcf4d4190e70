//! What the process has cost so far.

use std::time::Duration;

/// Processor time of a process, all its threads together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// In its own code.
    pub user: Duration,
    /// In the kernel on its behalf. What the kernel does at once with a frame that
    /// is sent (a veth's other end, say) counts here, too.
    pub system: Duration,
}

impl Usage {
    /// What was used since `earlier`.
    pub fn since(self, earlier: Usage) -> Usage {
        Usage { user: self.user.saturating_sub(earlier.user), system: self.system.saturating_sub(earlier.system) }
    }
}

/// What this process has used.
pub fn own() -> Usage {
    // SAFETY: plain old data for which all zeroes is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the structure lives for the call. It cannot fail: the first argument is one of the constants.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let time = |t: libc::timeval| Duration::new(t.tv_sec.max(0) as u64, (t.tv_usec.clamp(0, 999_999) * 1000) as u32);
    Usage { user: time(usage.ru_utime), system: time(usage.ru_stime) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted() {
        let before = own();
        let mut sum = 0u64;
        // Until it shows, whatever the kernel's granularity.
        while own().since(before).user + own().since(before).system < Duration::from_millis(2) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert_eq!(before.since(own()), Usage::default());
    }
}
