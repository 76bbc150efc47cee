//! Counters that LLVM puts into code compiled by `rustc.sh`: one byte for each branch, raised when it is taken.

use std::sync::Mutex;

/// Addresses of the counters, first and behind the last, of each object file.
static REGIONS: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// Called before `main` for each instrumented object file; not at all where nothing is instrumented.
#[unsafe(no_mangle)]
pub extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    let region = (start as usize, stop as usize);
    if let Ok(mut regions) = REGIONS.lock()
        && !regions.contains(&region)
    {
        regions.push(region);
    }
}

/// Which branches were ever taken how often, in powers of two.
#[derive(Default)]
pub struct Seen(Vec<u8>);

fn counters() -> impl Iterator<Item = *mut u8> {
    let regions = REGIONS.lock().map(|regions| regions.clone()).unwrap_or_default();
    regions.into_iter().flat_map(|(start, stop)| (start..stop).map(|at| at as *mut u8))
}

/// Something is instrumented.
pub fn is_guided() -> bool {
    counters().next().is_some()
}

/// Sets all counters to nothing.
pub fn clear() {
    for counter in counters() {
        // SAFETY: the address is one of a counter that LLVM gave; they live as long as the program. Other threads may raise it
        // meanwhile, as instrumented code does without any care: a count is then wrong, which only misleads the search.
        unsafe { counter.write_volatile(0) };
    }
}

impl Seen {
    /// Takes the counters; whether something new was reached.
    pub fn take(&mut self) -> bool {
        let mut new = false;
        for (at, counter) in counters().enumerate() {
            // SAFETY: as in `clear`.
            let count = unsafe { counter.read_volatile() };
            if count == 0 {
                continue;
            }
            if self.0.len() <= at {
                self.0.resize(at + 1, 0);
            }
            let bucket = 1 << (7 - count.leading_zeros());
            new |= self.0[at] & bucket == 0;
            self.0[at] |= bucket;
        }
        new
    }

    /// Branches taken so far.
    pub fn branches(&self) -> usize {
        self.0.iter().filter(|&&buckets| buckets != 0).count()
    }
}
