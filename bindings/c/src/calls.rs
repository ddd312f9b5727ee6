//! Handles whose calls wait several times, or do something between waits: their calls are counted, and closing waits for them.
//!
//! For the other handles, ending the waits is enough: a call on them touches nothing of its object after its wait.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wigwag::fork_generation;

use crate::boundary::close;

/// An object, and how many calls are in progress on it.
pub(crate) struct Counted<T> {
    object: T,
    /// The number below, and above it the process that it holds for: the calls of a parent's threads do not go on in a child.
    calls: AtomicU64,
}

/// A call in progress; gone, it touches nothing of the object any more.
pub(crate) struct Call<'a, T> {
    of: &'a Counted<T>,
    generation: u32,
}

impl<T> Counted<T> {
    pub(crate) fn new(object: T) -> Counted<T> {
        Counted { object, calls: AtomicU64::new(0) }
    }

    /// Starts a call. Keep what it gives until the call needs nothing of the object.
    #[inline]
    pub(crate) fn begin(&self) -> Call<'_, T> {
        let generation = fork_generation();
        let mut before = self.calls.load(Ordering::Relaxed);
        loop {
            let after = match in_progress(before, generation) {
                0 => u64::from(generation) << 32 | 1,
                _ => before + 1,
            };
            // Relaxed: whoever closes does not run at the same time as a call that begins; it sees those that wait.
            match self.calls.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Call { of: self, generation },
                Err(now) => before = now,
            }
        }
    }

    /// For what neither waits nor runs beside a call that closes.
    #[inline]
    pub(crate) fn get(&self) -> &T {
        &self.object
    }
}

fn in_progress(calls: u64, generation: u32) -> u32 {
    if (calls >> 32) as u32 == generation { calls as u32 } else { 0 }
}

impl<T> Deref for Call<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.of.object
    }
}

impl<T> Drop for Call<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // A call during which the process forked is not counted in the child.
        if self.generation == fork_generation() {
            // Release: what the call did is before the end of the object, see the Acquire in `close_counted`.
            self.of.calls.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Ends the waits of other threads on a handle, waits until their calls have returned, then frees it; NULL is allowed.
///
/// # Safety
/// As [`close`].
pub(crate) unsafe fn close_counted<H, T>(
    handle: *mut H,
    counted: impl FnOnce(&H) -> &Counted<T>,
    end_waits: impl FnOnce(&T),
) {
    let wait = |handle: &H| {
        let counted = counted(handle);
        end_waits(&counted.object);
        let mut pause = Duration::from_micros(20);
        while in_progress(counted.calls.load(Ordering::Acquire), fork_generation()) > 0 {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    };
    // SAFETY: as the caller promises; nobody waits any more, and every call has touched its object for the last time.
    unsafe { close(handle, wait) };
}
