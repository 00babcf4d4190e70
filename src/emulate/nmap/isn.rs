//! Initial sequence numbers whose differences have the SP, GCD and ISR that a
//! reference wants.
//!
//! nmap sends six SYNs, a tenth of a second apart. Of the differences d between
//! the answers' numbers (the shorter way round the circle of 2³²) it takes the
//! greatest common divisor (GCD), of the rates r = d/dt eight times the binary
//! logarithm of the mean (ISR), and the same of their sample deviation, in units
//! of the GCD where that is above 9 (SP): "Remote OS Detection", TCP ISN tests.
//! So five rates with the mean and the deviation wanted are all it takes.

use super::super::fingerprint::IsnPattern;
use super::expr;

/// Seconds between two SYNs.
const GAP: f64 = 0.1;
/// The largest difference to rely on: half a circle, less what a late packet adds.
const MOST: f64 = 0.97 * 2_147_483_648.0;

/// Multiples that are tried one by one go up to this.
const FEW: u64 = 12;

/// What nmap makes of the numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Triple {
    /// Deviation.
    pub sp: u32,
    /// Greatest common divisor.
    pub gcd: u32,
    /// Rate.
    pub isr: u32,
}

/// Which answers there are to compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replies {
    /// Those that nmap takes into account.
    pub seen: [bool; 6],
    /// Whether the first one moves the pattern on although nmap does not take it into account.
    pub first_hidden: bool,
}

impl Replies {
    /// Gaps of the pattern that show, each with how many tenths of a second it lasts.
    fn gaps(&self) -> Vec<(usize, f64)> {
        let seen: Vec<usize> = (0..6).filter(|i| self.seen[*i]).collect();
        let first = usize::from(self.first_hidden && !self.seen[0]);
        let lasting = |(gap, pair): (usize, &[usize])| (first + gap, (pair[1] - pair[0]) as f64);
        seen.windows(2).enumerate().map(lasting).filter(|(gap, _)| *gap < 5).collect()
    }
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// What nmap computes of `pattern`; `None` if too few answers are there.
pub fn triple(pattern: &IsnPattern, replies: &Replies) -> Option<Triple> {
    let gaps = replies.gaps();
    if gaps.len() < 3 {
        return None;
    }
    let differences: Vec<u32> = gaps
        .iter()
        .map(|(gap, lasting)| match pattern {
            IsnPattern::Constant(_) => 0,
            IsnPattern::Steps(steps) => steps[*gap].min(steps[*gap].wrapping_neg()),
            IsnPattern::Rates { gcd, per_second } => {
                let of = f64::from((*gcd).max(1));
                (((per_second[*gap] as f64 * GAP * lasting) / of).round().max(1.0) * of).min(MOST * 1.03) as u32
            }
        })
        .collect();
    let divisor = match pattern {
        // Answers see to it.
        IsnPattern::Rates { gcd, .. } => (*gcd).max(1),
        _ => differences.iter().fold(0, |divisor, difference| gcd(*difference, divisor)),
    };
    if divisor == 0 {
        return Some(Triple { sp: 0, gcd: 0, isr: 0 });
    }
    let rates: Vec<f64> =
        differences.iter().zip(&gaps).map(|(d, (_, lasting))| f64::from(*d) / (GAP * lasting)).collect();
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let unit = if divisor > 9 { f64::from(divisor) } else { 1.0 };
    let squares: f64 = rates.iter().map(|rate| ((rate - mean) / unit).powi(2)).sum();
    let deviation = (squares / (rates.len() - 1) as f64).sqrt();
    let eighths = |x: f64| (8.0 * x.log2() + 0.5).floor() as u32;
    Some(Triple { sp: if deviation <= 1.0 { 0 } else { eighths(deviation) }, gcd: divisor, isr: eighths(mean) })
}

/// What the numbers should show; `None` where anything will do.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Expression for SP.
    pub sp: Option<&'a str>,
    /// For GCD.
    pub gcd: Option<&'a str>,
    /// For ISR.
    pub isr: Option<&'a str>,
    /// Which answers there are.
    pub replies: Replies,
    /// For a number that is always the same.
    pub seed: u64,
}

impl Target<'_> {
    /// A pattern that shows what is wanted and of which `also` approves, as near the middle of the ranges as
    /// possible. At most `tries` pairs of SP and ISR are tried for each GCD.
    pub fn pattern(&self, tries: usize, also: impl Fn(Triple) -> bool) -> Option<IsnPattern> {
        let gaps = self.replies.gaps();
        if gaps.len() < 3 {
            return None;
        }
        let good = |pattern: &IsnPattern| {
            triple(pattern, &self.replies).is_some_and(|shown| {
                let fits = |expression: Option<&str>, value: u32| {
                    expression.is_none_or(|expression| expr::accepts(expression, &format!("{value:X}")))
                };
                fits(self.isr, shown.isr) && fits(self.sp, shown.sp) && fits(self.gcd, shown.gcd) && also(shown)
            })
        };
        let divisors = self.gcd.map_or_else(|| vec![1], expr::numbers);
        let (ones, others): (Vec<u64>, Vec<u64>) = divisors.into_iter().partition(|divisor| *divisor == 1);
        for divisor in ones.into_iter().chain(others) {
            let Ok(divisor) = u32::try_from(divisor) else { continue };
            let found = match divisor {
                0 => Some(IsnPattern::Constant((self.seed as u32 | 1) & 0x7fff_ffff)).filter(&good),
                _ => self.of_divisor(divisor, &gaps, tries, &good),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn of_divisor(
        &self,
        divisor: u32,
        gaps: &[(usize, f64)],
        tries: usize,
        good: &dyn Fn(&IsnPattern) -> bool,
    ) -> Option<IsnPattern> {
        let mut bases = Vec::new();
        let pairs = self.pairs(divisor);
        let slowest = pairs.iter().map(|(_, isr)| *isr).min().unwrap_or(0);
        for (sp, isr) in pairs.into_iter().take(tries) {
            let mean = (isr as f64 / 8.0).exp2();
            let unit = if divisor > 9 { f64::from(divisor) } else { 1.0 };
            let deviation = if sp == 0 { 0.0 } else { unit * (sp as f64 / 8.0).exp2() };
            let multiple = GAP / f64::from(divisor);
            // Where a unit more or less shows, whole numbers are looked for, which no clock then scales.
            let coarse = divisor > 9 || deviation * multiple < 1.0 || mean * multiple < 60.0;
            let found = if coarse {
                in_steps(divisor, mean * multiple, deviation * multiple, gaps, &mut bases, good)
            } else {
                in_rates(divisor, mean, deviation, gaps).filter(good)
            };
            if found.is_some() {
                return found;
            }
        }
        // A few small multiples are worth trying only where their mean is that small.
        let small = (slowest as f64 / 8.0).exp2() * GAP / f64::from(divisor) <= FEW as f64;
        if small { few(divisor, gaps, good) } else { None }
    }

    /// Pairs of SP and ISR: those in the middle first, those last that timing would blur.
    fn pairs(&self, divisor: u32) -> Vec<(u64, u64)> {
        // By how much the rate exceeds a deviation that comes of answers 30 µs early or late, in eighths of a power of two.
        const BLUR: f64 = 94.0;
        let unit = if divisor > 9 { 8.0 * f64::from(divisor).log2() } else { 0.0 };
        // Numbers drawn at random have 0x10A.
        let rates = self.isr.map_or_else(|| vec![0x10a], expr::numbers);
        let deviations = self.sp.map(expr::numbers);
        let mut pairs = Vec::new();
        for (i, isr) in rates.iter().enumerate() {
            // Of evenly spread rates the deviation is 0.58 of the mean.
            let deviations = deviations.clone().unwrap_or_else(|| vec![isr.saturating_sub(6)]);
            for (j, sp) in deviations.iter().enumerate() {
                let off = i as f64 / rates.len() as f64 + j as f64 / deviations.len() as f64;
                let blurred = (*isr as f64 - BLUR - unit - *sp as f64).max(0.0);
                pairs.push((off + blurred, *sp, *isr));
            }
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        pairs.into_iter().map(|(_, sp, isr)| (sp, isr)).collect()
    }
}

/// Shapes of `n` values: mean 0, sample deviation 1.
fn shapes(n: usize) -> Vec<Vec<f64>> {
    let alternating = (0..n).map(|i| if n % 2 == 1 && i == n - 1 { 0.0 } else { 1.0 - 2.0 * (i % 2) as f64 });
    let mut all = vec![alternating.collect::<Vec<f64>>()];
    all.extend((1..n).map(|high| (0..n).map(|i| if i < high { 1.0 } else { 0.0 }).collect()));
    for shape in &mut all {
        let mean = shape.iter().sum::<f64>() / n as f64;
        let squares: f64 = shape.iter().map(|x| (x - mean).powi(2)).sum();
        let deviation = (squares / (n - 1) as f64).sqrt();
        shape.iter_mut().for_each(|x| *x = (*x - mean) / deviation);
    }
    all
}

/// Puts a value for each gap that shows in its place; the other gaps get the first one's.
fn place<T: Copy>(values: &[T], gaps: &[(usize, f64)]) -> Option<[T; 5]> {
    let mut all = [*values.first()?; 5];
    for ((gap, _), value) in gaps.iter().zip(values) {
        *all.get_mut(*gap)? = *value;
    }
    Some(all)
}

fn in_rates(divisor: u32, mean: f64, deviation: f64, gaps: &[(usize, f64)]) -> Option<IsnPattern> {
    let most = |lasting: f64| MOST / (GAP * lasting);
    shapes(gaps.len()).into_iter().find_map(|shape| {
        let rates: Vec<f64> = shape.iter().map(|x| mean + deviation * x).collect();
        let possible = rates.iter().zip(gaps).all(|(rate, (_, lasting))| *rate >= 0.0 && *rate <= most(*lasting));
        let rates: Vec<u64> = rates.into_iter().map(|rate| rate.round() as u64).collect();
        let per_second = place(&rates, gaps).filter(|_| possible)?;
        Some(IsnPattern::Rates { gcd: divisor, per_second })
    })
}

/// Multiples of `divisor`, one for each gap that shows.
fn steps(divisor: u32, multiples: &[u64], gaps: &[(usize, f64)]) -> Option<IsnPattern> {
    let steps: Option<Vec<u32>> = multiples
        .iter()
        .map(|multiple| {
            multiple.checked_mul(u64::from(divisor)).filter(|step| *step as f64 <= MOST).map(|step| step as u32)
        })
        .collect();
    Some(IsnPattern::Steps(place(&steps?, gaps)?))
}

fn in_steps(
    divisor: u32,
    mean: f64,
    deviation: f64,
    gaps: &[(usize, f64)],
    bases: &mut Vec<u64>,
    good: &dyn Fn(&IsnPattern) -> bool,
) -> Option<IsnPattern> {
    // Whole multiples near the shape, then with one of them moved so that they have no common divisor.
    for shape in shapes(gaps.len()) {
        let wanted = shape.iter().zip(gaps).map(|(x, (_, lasting))| ((mean + deviation * x) * lasting).round());
        let wanted: Vec<f64> = wanted.collect();
        if wanted.iter().any(|multiple| *multiple < 0.0 || *multiple > MOST) {
            continue;
        }
        let multiples: Vec<u64> = wanted.into_iter().map(|multiple| multiple as u64).collect();
        let tries = std::iter::once((0, 0)).chain((0..gaps.len()).flat_map(|at| [(at, 1), (at, -1)]));
        for (at, by) in tries {
            let mut moved = multiples.clone();
            moved[at] = moved[at].saturating_add_signed(by);
            if let Some(pattern) = steps(divisor, &moved, gaps).filter(good) {
                return Some(pattern);
            }
        }
    }
    // Small deviations around a common value.
    let base = mean.round() as u64;
    if deviation > 8.0 || bases.contains(&base) {
        return None;
    }
    bases.push(base);
    let mut offsets = vec![0u64; gaps.len()];
    loop {
        let middle = offsets.iter().sum::<u64>() / offsets.len() as u64;
        let multiples: Vec<u64> = offsets
            .iter()
            .zip(gaps)
            .map(|(offset, (_, lasting))| (base * *lasting as u64 + offset).saturating_sub(middle))
            .collect();
        if let Some(pattern) = steps(divisor, &multiples, gaps).filter(good) {
            return Some(pattern);
        }
        if !advance(&mut offsets[1..], 6) {
            return None;
        }
    }
}

/// Few and small multiples: all there are.
fn few(divisor: u32, gaps: &[(usize, f64)], good: &dyn Fn(&IsnPattern) -> bool) -> Option<IsnPattern> {
    let mut multiples = vec![0; gaps.len()];
    while advance(&mut multiples, FEW) {
        if let Some(pattern) = steps(divisor, &multiples, gaps).filter(good) {
            return Some(pattern);
        }
    }
    None
}

/// The next of all sequences that do not go down; false if there is none with numbers up to `most`.
fn advance(numbers: &mut [u64], most: u64) -> bool {
    let Some(at) = numbers.iter().rposition(|number| *number < most) else { return false };
    let next = numbers[at] + 1;
    numbers[at..].fill(next);
    true
}
