//! Fetching memory before it is needed.

/// Asks the processor to fetch the cache line in which `value` begins, and does
/// not wait for it. Nothing happens where the processor or the compiler offers no way.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; it changes nothing that a program sees, and a reference points to valid memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
