//! A reason for waits to end, and the threads that it concerns: a cancellation, or the closing of an object.
//!
//! Free of locks, so that raising it is allowed in signal handlers and a fork in the middle of anything does no harm.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

use super::sleeper::Sleeper;

/// The flag and the threads. Each object that can be waited for has one, and each `Cancel` is one.
///
/// Why no wake-up is lost: a waiter joins, then looks at the flag, then blocks; whoever raises sets the flag, then
/// walks the slots. All four accesses are SeqCst, so either the waiter sees the flag, or the raiser sees the waiter
/// and its timer keeps firing until the waiter has left.
#[derive(Default)]
pub(crate) struct Ending {
    raised: AtomicBool,
    first: Slots,
}

const SLOTS: usize = 4;

/// Places for threads; a further set is appended when all are taken, and freed with the whole.
#[derive(Default)]
struct Slots {
    sleepers: [AtomicPtr<Sleeper>; SLOTS],
    more: AtomicPtr<Slots>,
}

impl Ending {
    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    /// Ends the waits of all joined threads, and those that come later, at once. Async-signal-safe.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        self.each(|sleeper| sleeper.interrupt());
    }

    /// Forgets that it was raised.
    pub(crate) fn lower(&self) {
        self.raised.store(false, Ordering::SeqCst);
    }

    /// Raises it and returns when the last joined thread has left, but for the calling one: a signal hook may run this in
    /// the middle of a wait, which then ends when the hook returns.
    pub(crate) fn raise_and_drain(&self) {
        self.raise();
        let own = Sleeper::known();
        let mut pause = Duration::from_micros(20);
        loop {
            let mut left = 0;
            // Again in every round: a thread that joined while the flag went up is interrupted as well.
            self.each(|sleeper| {
                if own.is_none_or(|own| !ptr::eq(own, sleeper)) {
                    left += 1;
                    sleeper.interrupt();
                }
            });
            if left == 0 {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }

    fn each(&self, mut visit: impl FnMut(&'static Sleeper)) {
        for slots in self.chain() {
            for slot in &slots.sleepers {
                // SAFETY: slots hold null or pointers to records, which are never freed.
                let sleeper = unsafe { slot.load(Ordering::SeqCst).as_ref() };
                if let Some(sleeper) = sleeper.filter(|sleeper| sleeper.is_of_this_process()) {
                    visit(sleeper);
                }
            }
        }
    }

    fn chain(&self) -> impl Iterator<Item = &Slots> {
        // SAFETY: `more` is null or a leaked box that only `drop` frees, for which nobody may hold `self` any more.
        std::iter::successors(Some(&self.first), |slots| unsafe { slots.more.load(Ordering::Acquire).as_ref() })
    }

    /// Adds a thread until the guard is dropped.
    pub(super) fn join(&self, sleeper: &'static Sleeper) -> &AtomicPtr<Sleeper> {
        let own = ptr::from_ref(sleeper).cast_mut();
        loop {
            let mut last = &self.first;
            for slots in self.chain() {
                for slot in &slots.sleepers {
                    let held = slot.load(Ordering::SeqCst);
                    // SAFETY: as in `each`. A slot whose thread stayed behind in a parent process is free.
                    let free = unsafe { held.as_ref() }.is_none_or(|other| !other.is_of_this_process());
                    if free && slot.compare_exchange(held, own, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                        return slot;
                    }
                }
                last = slots;
            }
            let more = Box::into_raw(Box::<Slots>::default());
            // Release publishes the empty slots to the Acquire in `chain`.
            if last.more.compare_exchange(ptr::null_mut(), more, Ordering::Release, Ordering::Relaxed).is_err() {
                // SAFETY: the box was made above and nobody else has seen it.
                drop(unsafe { Box::from_raw(more) });
            }
        }
    }

    /// Takes a thread out of the slot that `join` gave.
    pub(super) fn leave(slot: &AtomicPtr<Sleeper>) {
        slot.store(ptr::null_mut(), Ordering::SeqCst);
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let more = *self.more.get_mut();
        if !more.is_null() {
            // SAFETY: came from Box::into_raw in `join`, and `&mut self` says that nobody walks the chain any more.
            drop(unsafe { Box::from_raw(more) });
        }
    }
}
