//! Handles whose calls wait several times, or do something between waits or after one: their calls are counted, and closing
//! waits for them.
//!
//! For the other calls, ending the waits is enough: they touch nothing of their object after their wait.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wigwag::{Cancel, CancelScope, fork_generation};

use crate::boundary::close;

/// How many calls are in progress, below, and above it the process that this holds for: the calls of a parent's threads do
/// not go on in a child.
pub(crate) struct Calls(AtomicU64);

/// A call in progress; gone, it touches nothing of the handle any more.
pub(crate) struct Ongoing<'a> {
    calls: &'a Calls,
    generation: u32,
}

impl Calls {
    pub(crate) fn new() -> Calls {
        Calls(AtomicU64::new(0))
    }

    /// Starts a call. Keep what it gives until the call needs nothing of the handle.
    #[inline]
    pub(crate) fn begin(&self) -> Ongoing<'_> {
        let generation = fork_generation();
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            let after = match in_progress(before, generation) {
                0 => u64::from(generation) << 32 | 1,
                _ => before + 1,
            };
            // Relaxed: whoever closes does not run at the same time as a call that begins; it sees those that wait.
            match self.0.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ongoing { calls: self, generation },
                Err(now) => before = now,
            }
        }
    }

    /// Returns when all calls, whose waits have been ended, have touched their handle for the last time.
    pub(crate) fn drain(&self) {
        let mut pause = Duration::from_micros(20);
        while in_progress(self.0.load(Ordering::Acquire), fork_generation()) > 0 {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }
}

fn in_progress(calls: u64, generation: u32) -> u32 {
    if (calls >> 32) as u32 == generation { calls as u32 } else { 0 }
}

impl Drop for Ongoing<'_> {
    #[inline]
    fn drop(&mut self) {
        // A call during which the process forked is not counted in the child.
        if self.generation == fork_generation() {
            // Release: what the call did is before the end of the object, see the Acquire in `drain`.
            self.calls.0.fetch_sub(1, Ordering::Release);
        }
    }
}

/// An object all of whose calls that may wait are counted.
pub(crate) struct Counted<T> {
    object: T,
    calls: Calls,
}

/// A call in progress on a [`Counted`] object.
pub(crate) struct Call<'a, T> {
    object: &'a T,
    _ongoing: Ongoing<'a>,
}

impl<T> Counted<T> {
    pub(crate) fn new(object: T) -> Counted<T> {
        Counted { object, calls: Calls::new() }
    }

    /// Starts a call. Keep what it gives until the call needs nothing of the object.
    #[inline]
    pub(crate) fn begin(&self) -> Call<'_, T> {
        Call { object: &self.object, _ongoing: self.calls.begin() }
    }

    /// For what neither waits nor runs beside a call that closes.
    #[inline]
    pub(crate) fn get(&self) -> &T {
        &self.object
    }
}

impl<T> Deref for Call<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.object
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
        counted.calls.drain();
    };
    // SAFETY: as the caller promises; nobody waits any more, and every call has touched its object for the last time.
    unsafe { close(handle, wait) };
}

/// Calls that wait on another object than that of their handle: closing the handle ends these waits, too.
pub(crate) struct WaitsElsewhere {
    calls: Calls,
    closing: Cancel,
}

/// A call in progress that waits elsewhere.
pub(crate) struct WaitElsewhere<'a> {
    _scope: CancelScope<'a>, // left before the call is over, and `closing` with it
    _ongoing: Ongoing<'a>,
}

impl WaitsElsewhere {
    pub(crate) fn new() -> WaitsElsewhere {
        WaitsElsewhere { calls: Calls::new(), closing: Cancel::new() }
    }

    /// Starts a call. Keep what it gives until the call needs nothing of the handle.
    pub(crate) fn begin(&self) -> WaitElsewhere<'_> {
        let ongoing = self.calls.begin();
        WaitElsewhere { _scope: self.closing.enter(), _ongoing: ongoing }
    }

    /// Whether the handle is being closed.
    pub(crate) fn is_ended(&self) -> bool {
        self.closing.is_fired()
    }

    /// Ends the waits, and returns when the calls have touched their handle for the last time.
    pub(crate) fn end(&self) {
        self.closing.fire();
        self.calls.drain();
    }
}
