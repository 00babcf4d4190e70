//! Fetching memory before it is needed.

/// Asks the processor to fetch the cache lines in which `value` begins and ends, and does not wait for them. Nothing
/// happens where the processor or the compiler offers no way.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let begin = std::ptr::from_ref(value).cast::<i8>();
        // SAFETY: a hint; it changes nothing that a program sees, and a reference points to valid memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(begin) }
        // What is aligned to its size, or small, hardly lies in two.
        if size_of::<T>() > 16 && align_of::<T>() < size_of::<T>() {
            // SAFETY: as above; this is its last octet.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(begin.add(size_of::<T>() - 1)) }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
