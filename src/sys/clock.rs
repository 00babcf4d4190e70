//! The only place where clocks are read: everything above takes time as an argument.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds of the machine's monotonic clock, the same for every process.
pub fn monotonic_micros() -> i64 {
    micros(ClockId::Monotonic)
}

/// Microseconds of a clock that runs on while the machine is suspended, too, and that nobody sets.
pub fn boottime_micros() -> i64 {
    micros(ClockId::Boottime)
}

/// Microseconds since 1970, UTC.
pub fn realtime_micros() -> i64 {
    micros(ClockId::Realtime)
}

/// Nanoseconds of the same clock as [`monotonic_micros`].
pub fn monotonic_nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Microseconds for which the calling thread has had a processor.
pub fn thread_micros() -> i64 {
    micros(ClockId::ThreadCPUTime)
}

fn micros(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run_forward() {
        let first = monotonic_micros();
        assert!(first > 0 && monotonic_micros() >= first);
        assert!(monotonic_nanos() / 1000 >= first as u64);
        // 2020-01-01: the machine knows roughly what year it is.
        assert!(realtime_micros() > 1_577_836_800_000_000);
    }
}
