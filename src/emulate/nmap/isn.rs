//! Sequence numbers whose SP, GCD and ISR are what a record asks for.

use super::expr;
use super::observe::{differences, predictability, predictability_at};
use crate::emulate::fingerprint::IsnPattern;

/// Sets of steps that are tried where rounding decides.
const TRIES: usize = 1500;
/// Seconds between two SYNs, nominally.
const PACE: f64 = 0.1;
/// By which part the time between two SYNs is off: some tens of microseconds.
const JITTER: f64 = 3e-4;
/// A difference beyond this is taken for one in the other direction.
const MOST: f64 = (1u64 << 31) as f64;

/// What is asked of the three values; `None` is anything.
pub struct Asked<'a> {
    pub sp: Option<&'a str>,
    pub gcd: Option<&'a str>,
    pub isr: Option<&'a str>,
}

impl Asked<'_> {
    /// Whether nmap would see what is asked for, with so many differences.
    fn accepts(&self, pattern: &IsnPattern, gaps: usize) -> bool {
        self.fits(predictability(&differences(pattern, gaps)))
    }

    /// Whether that is so, too, if its clock and ours do not quite agree.
    fn is_sturdy(&self, pattern: &IsnPattern, gaps: usize) -> bool {
        let seen = differences(pattern, gaps);
        let at = |off: [f64; 5]| off.map(|off| PACE * (1.001 + JITTER * off));
        let paces = [[0.0, 1.0, -1.0, 1.0, 0.0], [1.0, -1.0, 0.0, 0.0, -1.0], [-2.0, 1.0, 0.0, 1.0, -1.0]];
        paces.into_iter().all(|off| self.fits(predictability_at(&seen, at(off))))
    }

    fn fits(&self, (sp, gcd, isr): (u64, u64, u64)) -> bool {
        let fits = |expression: Option<&str>, value: u64| {
            expression.is_none_or(|expression| expr::accepts(expression, &format!("{value:X}")))
        };
        fits(self.sp, sp) && fits(self.gcd, gcd) && fits(self.isr, isr)
    }

    /// Patterns for these differences, the sturdiest first; at most `most`.
    pub fn patterns(&self, gaps: usize, seed: u64, most: usize) -> Vec<IsnPattern> {
        let numbers = |expression: Option<&str>, usual: u64| expression.map_or(vec![usual], expr::numbers);
        let (sps, mut gcds, isrs) = (numbers(self.sp, 0x104), numbers(self.gcd, 1), numbers(self.isr, 0x10a));
        // One more or less is seen at once where 1 is not allowed; it mostly is.
        gcds.sort_unstable();
        gcds.dedup();
        let (mut found, mut frail) = (Vec::new(), Vec::new());
        let mut keep = |found: &mut Vec<IsnPattern>, pattern: IsnPattern| {
            if found.len() < most && self.accepts(&pattern, gaps) && !found.contains(&pattern) {
                if self.is_sturdy(&pattern, gaps) {
                    found.push(pattern);
                } else if frail.len() < most {
                    frail.push(pattern);
                }
            }
        };
        if gcds.first() == Some(&0) {
            keep(&mut found, IsnPattern::Constant((seed as u32) | 1));
        }
        for gcd in gcds.iter().copied().filter(|gcd| *gcd > 0) {
            let Ok(of) = u32::try_from(gcd) else { continue };
            for isr in &isrs {
                for sp in &sps {
                    if found.len() >= most {
                        return found;
                    }
                    let mean = 2f64.powf(*isr as f64 / 8.0);
                    let deviation = 2f64.powf(*sp as f64 / 8.0) * if gcd > 9 { gcd as f64 } else { 1.0 };
                    let Some(rates) = rates(mean, if *sp == 0 { 0.0 } else { deviation }) else { continue };
                    let coarse = deviation < 10.0 * gcd as f64 || mean * PACE / (gcd as f64) < 60.0;
                    if gcd <= 9 && !coarse {
                        let per_second = rates.map(|rate| rate as u64);
                        keep(&mut found, IsnPattern::Rates { gcd: of, per_second });
                    }
                    if gcd > 9 || coarse {
                        let steps =
                            rates.map(|rate| ((rate * PACE / gcd as f64).round().max(1.0) as u32).saturating_mul(of));
                        keep(&mut found, IsnPattern::Steps(steps));
                    }
                }
                keep(&mut found, IsnPattern::Steps([of; 5]));
            }
            if found.is_empty() {
                self.search(of, &isrs, gaps, seed, |pattern| keep(&mut found, pattern));
            }
        }
        if found.is_empty() { frail } else { found }
    }

    /// Tries steps of all kinds.
    fn search(&self, of: u32, isrs: &[u64], gaps: usize, seed: u64, mut keep: impl FnMut(IsnPattern)) {
        let mut state = seed | 1;
        // Marsaglia's xorshift; what is found is checked.
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for isr in isrs {
            let mean = 2f64.powf(*isr as f64 / 8.0) * PACE / f64::from(of);
            for round in 0..TRIES {
                let spread = 3.0 * (round as f64 + 1.0) / TRIES as f64;
                let steps = [(); 5].map(|()| {
                    // Numbers may stand still, too.
                    let times = (mean * (1.0 + spread * (2.0 * random() - 1.0))).round().max(0.0);
                    (times as u32).saturating_mul(of)
                });
                if self.accepts(&IsnPattern::Steps(steps), gaps) {
                    keep(IsnPattern::Steps(steps));
                    return;
                }
            }
        }
    }
}

/// Five numbers a second with that mean and sample deviation, none below zero.
fn rates(mean: f64, deviation: f64) -> Option<[f64; 5]> {
    let rates = if deviation <= mean {
        [1.0, -1.0, 1.0, -1.0, 0.0].map(|sign| mean + sign * deviation)
    } else {
        let off = deviation / 5f64.sqrt();
        [4.0, -1.0, -1.0, -1.0, -1.0].map(|times| mean + times * off)
    };
    rates.iter().all(|rate| *rate >= 0.0 && rate * PACE < MOST).then_some(rates)
}
