//! How long a service takes before it says something.
//!
//! A real server has to be woken, forks, reads a file; one that is emulated has its answer ready when the request is
//! read, and a stopwatch tells the two apart. So an emulated service waits: as long as the honeynet's containers
//! were seen to take at the same port, and until one was seen, as long as such servers take as a rule. Only services
//! wait; echo replies and SYN/ACKs of all hosts come from the same place already.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use super::super::{Cx, Rng};
use crate::wire::{Duration, Instant};

/// What it is that takes time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// From the handshake to what a server says unasked.
    Greeting,
    /// From a request, or a part of one, to the answer.
    Answer,
}

impl Wait {
    /// Median and spread (of the logarithm) where no container has shown it: a daemon that forks for each connection,
    /// and one that answers from memory.
    fn usual(self) -> (f64, f64) {
        match self {
            Wait::Greeting => (1_500.0, 0.30),
            Wait::Answer => (250.0, 0.35),
        }
    }
}

/// Times that are remembered of each port and kind: old ones make room.
const SAMPLES: usize = 64;
/// Fewer do not show how far they spread.
const ENOUGH: usize = 8;
/// Ports of containers that are observed.
const PORTS: usize = 64;
/// Later than that, in microseconds, a wait ends only if something else was in the way.
const MOST_LATE: u64 = 500;
/// What takes longer was something else: a disk, a container that was thawed, a server that thinks.
const LONGEST: Duration = Duration::from_millis(100);

/// Times of one port and kind. Several threads write, and none waits: a time that is lost, or seen twice, does no harm.
struct Seen {
    /// What these are times of; 0 if of nothing yet.
    key: AtomicU32,
    count: AtomicUsize,
    micros: [AtomicU32; SAMPLES],
}

/// What is known of the services of a honeynet's containers.
pub struct Pace {
    seen: Box<[Seen]>,
    /// By how much waits last longer than they should, in microseconds: a moving average. Timers are late, and
    /// what a container takes was seen without that.
    late: AtomicU32,
}

impl Default for Pace {
    fn default() -> Pace {
        let seen = || Seen {
            key: AtomicU32::new(0),
            count: AtomicUsize::new(0),
            micros: [const { AtomicU32::new(0) }; SAMPLES],
        };
        Pace { seen: (0..PORTS).map(|_| seen()).collect(), late: AtomicU32::new(0) }
    }
}

impl Pace {
    /// A container's server at `port` has taken so long.
    pub(super) fn learn(&self, port: u16, wait: Wait, took: Duration) {
        let key = key(port, wait);
        let is_mine = |seen: &&Seen| {
            let other = seen.key.compare_exchange(0, key, Relaxed, Relaxed);
            other.is_ok() || other == Err(key)
        };
        if took > LONGEST {
            return;
        }
        // Where there are too many ports, the last ones are not observed.
        if let Some(Seen { count, micros, .. }) = self.seen.iter().find(is_mine) {
            micros[count.load(Relaxed) % SAMPLES].store(took.total_micros() as u32, Relaxed);
            count.fetch_add(1, Relaxed);
        }
    }

    /// How long an emulated server at `port` is to take this time.
    pub(super) fn draw(&self, port: u16, wait: Wait, rng: &mut Rng) -> Duration {
        let key = key(port, wait);
        let seen = self.seen.iter().find(|seen| seen.key.load(Relaxed) == key);
        let micros = match seen.map(|seen| (seen, seen.count.load(Relaxed))) {
            Some((seen, count)) if count >= ENOUGH => {
                let mut pick = || {
                    let at = rng.next_u64() % count.min(SAMPLES) as u64;
                    f64::from(seen.micros[at as usize].load(Relaxed))
                };
                let (a, b) = (pick(), pick());
                // A little beside it, or the same few times would be seen again and again.
                a + (b - a) * 0.05 * rng.unit()
            }
            _ => {
                let (median, spread) = wait.usual();
                // The sum of twelve numbers in [0, 1) is all but normal, with a deviation of 1.
                let normal: f64 = (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0;
                median * (spread * normal).exp()
            }
        };
        let late = u64::from(self.late.load(Relaxed));
        Duration::from_micros((micros as u64).min(LONGEST.total_micros()).saturating_sub(late))
    }

    /// A wait that was to end at `until` has ended now.
    fn ended(&self, until: Instant, now: Instant) {
        let late = (now - until).total_micros().min(MOST_LATE) as u32;
        let mean = self.late.load(Relaxed);
        // An eighth of the way there, and rounded towards it.
        let next = if late > mean { mean + (late - mean).div_ceil(8) } else { mean - (mean - late).div_ceil(8) };
        self.late.store(next, Relaxed);
    }
}

fn key(port: u16, wait: Wait) -> u32 {
    u32::from(port) << 2 | (wait as u32 + 1)
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopwatch {
    /// Since when a container's server has had something to say.
    asked: Option<(Wait, Instant)>,
    /// Until when an emulated server says nothing.
    quiet: Option<Instant>,
}

impl Stopwatch {
    /// A connection that was opened just now.
    pub(super) fn new(now: Instant) -> Stopwatch {
        Stopwatch { asked: Some((Wait::Greeting, now)), quiet: None }
    }

    /// Data came from the attacker.
    #[inline]
    pub(super) fn ask(&mut self, now: Instant) {
        // A second part of a request does not begin a wait anew.
        if !matches!(self.asked, Some((Wait::Answer, _))) {
            self.asked = Some((Wait::Answer, now));
        }
    }

    /// Data goes to the attacker: what took how long.
    #[inline]
    pub(super) fn say(&mut self, now: Instant) -> Option<(Wait, Duration)> {
        self.asked.take().map(|(wait, since)| (wait, now - since))
    }

    /// Has an emulated server take its time; what it takes already counts.
    pub(super) fn keep_quiet(&mut self, pace: &Pace, port: u16, wait: Wait, cx: &mut Cx<'_>) {
        if self.quiet(cx.now).is_none() {
            self.quiet = Some(cx.now + pace.draw(port, wait, cx.rng));
        }
    }

    /// Until when an emulated server says nothing, if it still does.
    pub(super) fn quiet(&self, now: Instant) -> Option<Instant> {
        self.quiet.filter(|until| now < *until)
    }

    /// Takes note of the end of a wait; whether there is none under way.
    pub(super) fn may_speak(&mut self, pace: &Pace, now: Instant) -> bool {
        if let Some(until) = self.quiet.take_if(|until| now >= *until) {
            pace.ended(until, now);
        }
        self.quiet.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median(pace: &Pace, port: u16, wait: Wait) -> u64 {
        let mut rng = Rng::new(7);
        let mut drawn: Vec<u64> = (0..1001).map(|_| pace.draw(port, wait, &mut rng).total_micros()).collect();
        drawn.sort_unstable();
        assert!(drawn[50] < drawn[950], "they spread");
        drawn[500]
    }

    #[test]
    fn services_take_as_long_as_containers_do() {
        let pace = Pace::default();
        assert!((1_400..1_600).contains(&median(&pace, 22, Wait::Greeting)));
        (0..ENOUGH as u64 - 1).for_each(|n| pace.learn(22, Wait::Greeting, Duration::from_micros(4_000 + 10 * n)));
        assert!((1_400..1_600).contains(&median(&pace, 22, Wait::Greeting)), "too few to tell");
        (0..100).for_each(|n| pace.learn(22, Wait::Greeting, Duration::from_micros(4_000 + 10 * n)));
        pace.learn(22, Wait::Greeting, Duration::from_secs(3));
        assert!((4_500..4_800).contains(&median(&pace, 22, Wait::Greeting)), "of the latest ones");
        assert!((230..270).contains(&median(&pace, 22, Wait::Answer)), "each by itself");
        assert!((1_400..1_600).contains(&median(&pace, 2222, Wait::Greeting)));
    }

    #[test]
    fn late_timers_make_no_difference() {
        let (pace, start) = (Pace::default(), Instant::from_secs(1));
        (0..100).for_each(|_| pace.learn(80, Wait::Answer, Duration::from_micros(900)));
        (0..50).for_each(|_| pace.ended(start, start + Duration::from_micros(120)));
        assert_eq!(pace.draw(80, Wait::Answer, &mut Rng::new(1)), Duration::from_micros(780));
        (0..50).for_each(|_| pace.ended(start, start + Duration::from_secs(9)));
        assert_eq!(pace.draw(80, Wait::Answer, &mut Rng::new(1)), Duration::from_micros(400));
        (0..80).for_each(|_| pace.ended(start, start));
        assert_eq!(pace.draw(80, Wait::Answer, &mut Rng::new(1)), Duration::from_micros(900));
    }

    #[test]
    fn what_is_observed_is_bounded() {
        let pace = Pace::default();
        (0..10_000).for_each(|port| pace.learn(port, Wait::Answer, Duration::from_millis(50)));
        assert!((230..270).contains(&median(&pace, 9_999, Wait::Answer)));
        assert!((230..270).contains(&median(&pace, 3, Wait::Answer)), "one is too few");
    }

    #[test]
    fn a_wait_ends_with_the_first_octet() {
        let (start, ms) = (Instant::from_secs(1), Duration::from_millis);
        let mut watch = Stopwatch::new(start);
        assert_eq!(watch.say(start + ms(3)), Some((Wait::Greeting, ms(3))));
        assert_eq!(watch.say(start + ms(4)), None);
        watch.ask(start + ms(10));
        watch.ask(start + ms(12));
        assert_eq!(watch.say(start + ms(15)), Some((Wait::Answer, ms(5))));
    }
}
