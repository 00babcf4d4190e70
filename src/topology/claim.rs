//! `claim` of a population: when addresses that nobody answers for become its own.

use super::at::At;
use super::check::Checker;
use super::raw::Claim;
use super::units;
use crate::node::ClaimConfig;

/// The longest time within which requests may have to come.
const LONGEST: u32 = 3600;
/// The shortest time after which an address is let go: hosts forget MACs no sooner.
const SHORTEST: u32 = 10;

/// What was written, with the defaults for what was not.
pub fn read(c: &mut Checker<'_>, claim: &Claim) -> Option<ClaimConfig> {
    let default = ClaimConfig::default();
    let mut bounded = |value: &Option<At<u32>>, default: u32, max: u32, what: &str| match value {
        Some(at) if at.value == 0 || at.value > max => {
            c.error(at.span, format!("{} {what}", at.value), "out of range", format!("write 1 to {max}"));
            default
        }
        Some(at) => at.value,
        None => default,
    };
    let most = u32::from(ClaimConfig::MOST_REQUESTS);
    let after = bounded(&claim.after, default.after.into(), most, "unanswered requests cannot be waited for");
    let limit = bounded(&claim.limit, default.limit, ClaimConfig::MOST_ADDRESSES, "addresses cannot be claimed at once");
    let within_secs = match &claim.within {
        Some(text) => match c.unit(text.span, units::duration_secs(text))? {
            secs if (1..=LONGEST).contains(&secs) => secs,
            _ => {
                let message = format!("requests cannot be counted within `{}`", text.0);
                c.error(text.span, message, "out of range", "write 1s to 1h");
                return None;
            }
        },
        None => default.within_secs,
    };
    let release_secs = match &claim.release {
        Some(text) => match c.unit(text.span, units::duration_secs(text))? {
            secs if secs == 0 || secs >= SHORTEST => secs,
            _ => {
                let message = format!("`{}` is too short to let go of an address", text.0);
                let help = format!("write {SHORTEST}s or more, or 0 for never");
                c.error(text.span, message, "hosts remember each other for longer", help);
                return None;
            }
        },
        None => default.release_secs,
    };
    let probe = claim.probe.as_ref().map_or(default.probe, |probe| probe.value);
    Some(ClaimConfig { after: after as u8, within_secs, probe, limit, release_secs, machine: Vec::new() })
}
