//! Asks the processor for memory before it is needed.
//!
//! Keys are spread over more memory than any cache holds, so a shard would wait for memory at each row. Told some rows
//! ahead, the waits overlap: the measured gain is in `benches/README.md`.

/// Fetches the cache line where `value` begins. Elsewhere than on x86-64 nothing happens.
#[inline(always)]
pub(crate) fn prefetch<T>(value: &T) {
    fetch(std::ptr::from_ref(value).cast());
}

/// Fetches the cache line of a word. Whether it is there is not looked at: asking for one that is not does nothing.
#[inline(always)]
pub(crate) fn prefetch_word(words: &[u64], at: usize) {
    fetch(words.as_ptr().wrapping_add(at).cast());
}

#[inline(always)]
fn fetch(line: *const i8) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    // SAFETY: a hint; the processor reads nothing that a program could see and cannot fault. SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
