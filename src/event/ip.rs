//! An address that may be missing, as events carry it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::wire::{ip_of, is_mapped, word_of};

/// A network address or none, as one word (see [`word_of`]): an enum is written in small pieces and then
/// read in large ones, on which processors stall.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<IpAddr>", into = "Option<IpAddr>")]
// Without the alignment of a `u128` an event has no gaps.
#[repr(C, packed(8))]
pub struct MaybeIp(u128);

impl MaybeIp {
    /// No address. Nobody has the last multicast address of IPv6: its scope is reserved (RFC 4291 §2.7).
    pub const NONE: MaybeIp = MaybeIp(u128::MAX);

    /// The address that is that word.
    #[inline]
    pub fn of_word(word: u128) -> MaybeIp {
        MaybeIp(word)
    }

    /// An IPv4 address.
    #[inline]
    pub fn of_v4(ip: u32) -> MaybeIp {
        MaybeIp(word_of(IpAddr::V4(ip.into())))
    }

    /// The word; that of [`MaybeIp::NONE`] is all ones.
    #[inline]
    pub fn word(self) -> u128 {
        self.0
    }

    /// The address, if there is one.
    pub fn get(self) -> Option<IpAddr> {
        (self != MaybeIp::NONE).then(|| ip_of(self.0))
    }

    /// The address if it is one of IPv4.
    #[inline]
    pub fn v4(self) -> Option<u32> {
        is_mapped(self.0).then_some(self.0 as u32)
    }
}

impl Default for MaybeIp {
    fn default() -> MaybeIp {
        MaybeIp::NONE
    }
}

impl std::fmt::Debug for MaybeIp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

impl From<IpAddr> for MaybeIp {
    #[inline]
    fn from(ip: IpAddr) -> MaybeIp {
        MaybeIp(word_of(ip))
    }
}

impl From<Option<IpAddr>> for MaybeIp {
    fn from(ip: Option<IpAddr>) -> MaybeIp {
        ip.map_or(MaybeIp::NONE, MaybeIp::from)
    }
}

impl From<MaybeIp> for Option<IpAddr> {
    fn from(ip: MaybeIp) -> Option<IpAddr> {
        ip.get()
    }
}
