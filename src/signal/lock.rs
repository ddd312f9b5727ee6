//! A lock that a fork cannot leave locked: in the child it is free, whoever in the parent held it.
//!
//! For short holdings only: whoever finds it taken sleeps a little and looks again.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sys::fork;

/// High half: the fork generation of the holder; low half: its thread, 0 if free.
#[derive(Default)]
pub(super) struct Lock(AtomicU64);

/// Holds a [`Lock`] until dropped.
pub(super) struct Held<'a> {
    lock: &'a Lock,
    state: u64,
}

impl Lock {
    pub(super) const fn new() -> Lock {
        Lock(AtomicU64::new(0))
    }

    pub(super) fn try_lock(&self) -> Option<Held<'_>> {
        let mine = own_state();
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen >> 32 == mine >> 32 && seen & u64::from(u32::MAX) != 0 {
                return None;
            }
            // Acquire pairs with the Release in `drop`.
            match self.0.compare_exchange_weak(seen, mine, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Held { lock: self, state: mine }),
                Err(newer) => seen = newer,
            }
        }
    }

    pub(super) fn lock(&self) -> Held<'_> {
        let mut pause = Duration::from_micros(20);
        loop {
            if let Some(held) = self.try_lock() {
                return held;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }

    /// Whether the calling thread holds it.
    pub(super) fn is_mine(&self) -> bool {
        self.0.load(Ordering::Relaxed) == own_state() // only this thread stores this value
    }
}

fn own_state() -> u64 {
    let thread = u64::from(nix::unistd::gettid().as_raw().cast_unsigned());
    u64::from(fork::generation()) << 32 | thread
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let free = self.state >> 32 << 32;
        // Fails when the holder forked and this is the child, where another thread may have taken it by now.
        let _ = self.lock.0.compare_exchange(self.state, free, Ordering::Release, Ordering::Relaxed);
    }
}

/// A value that is read as a copy and replaced as a whole. It is one machine word (an `Arc`, say), so that a fork in
/// the middle of anything leaves the child the old or the new one.
pub(super) struct Replaceable<T> {
    lock: Lock,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only under the lock.
unsafe impl<T: Send> Sync for Replaceable<T> {}

impl<T: Clone> Replaceable<T> {
    pub(super) fn new(value: T) -> Replaceable<T> {
        const { assert!(size_of::<T>() == size_of::<usize>()) };
        Replaceable { lock: Lock::new(), value: UnsafeCell::new(value) }
    }

    pub(super) fn get(&self) -> T {
        let _held = self.lock.lock();
        // SAFETY: the lock is held, so nobody writes.
        unsafe { (*self.value.get()).clone() }
    }

    /// Puts what `change` makes of the value in its place.
    pub(super) fn update<R>(&self, change: impl FnOnce(&T) -> (T, R)) -> R {
        let held = self.lock.lock();
        // SAFETY: the lock is held, so nobody else reads or writes; the old value is dropped after it is out of place.
        let (old, result) = unsafe {
            let (new, result) = change(&*self.value.get());
            (self.value.get().replace(new), result)
        };
        drop(held);
        drop(old);
        result
    }
}
