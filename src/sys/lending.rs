//! What an object and the threads that work for it share. Unlike an `Arc`, it knows that a child made by fork has none of its
//! parent's threads: what they had borrowed counts for nothing there, and is freed with the object.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::fork;

struct Inner<T> {
    what: T,
    /// Fork generation, and how many threads of it have borrowed.
    borrowed: AtomicU64,
}

/// The owner; dropping it waits until the threads have given back what they borrowed, which they must be about to do.
pub(crate) struct Lending<T>(NonNull<Inner<T>>);

/// What a thread has borrowed.
pub(crate) struct Borrowed<T> {
    inner: NonNull<Inner<T>>,
    generation: u64,
}

// SAFETY: owns a T that threads look at through & alone.
unsafe impl<T: Send + Sync> Send for Lending<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Lending<T> {}
// SAFETY: a & of a T that others look at too.
unsafe impl<T: Send + Sync> Send for Borrowed<T> {}

fn generation() -> u64 {
    u64::from(fork::generation()) << 32
}

impl<T> Lending<T> {
    pub(crate) fn new(what: T) -> Lending<T> {
        let inner = Box::new(Inner { what, borrowed: AtomicU64::new(generation()) });
        Lending(NonNull::from(Box::leak(inner)))
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: from a box that is freed in `drop` alone; only & are made of it until then.
        unsafe { self.0.as_ref() }
    }

    /// For a thread of this process.
    pub(crate) fn lend(&self) -> Borrowed<T> {
        let generation = generation();
        let borrowed = &self.inner().borrowed;
        // Relaxed: the owner, who lends, is the one who frees.
        let mut seen = borrowed.load(Ordering::Relaxed);
        loop {
            // Those of another generation are threads of the parent.
            let lent = if seen >> 32 << 32 == generation { seen + 1 } else { generation + 1 };
            match borrowed.compare_exchange_weak(seen, lent, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Borrowed { inner: self.0, generation },
                Err(newer) => seen = newer,
            }
        }
    }
}

impl<T> Deref for Lending<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner().what
    }
}

impl<T> Drop for Lending<T> {
    fn drop(&mut self) {
        let generation = generation();
        loop {
            // Acquire pairs with the Release of who gave back: what it did comes before the end.
            let seen = self.inner().borrowed.load(Ordering::Acquire);
            if seen >> 32 << 32 != generation || seen == generation {
                break;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        // SAFETY: came from a box in `new`, and nobody in this process has it any more: `lend` needs the owner.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl<T> Deref for Borrowed<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the owner frees it only when this has been given back.
        &unsafe { self.inner.as_ref() }.what
    }
}

impl<T> Drop for Borrowed<T> {
    fn drop(&mut self) {
        // A child that drops what it inherited from its parent's thread, which has no business here, leaves the count alone.
        if self.generation == generation() {
            // SAFETY: as above; this is the last touch. Release: see `Lending::drop`.
            unsafe { self.inner.as_ref() }.borrowed.fetch_sub(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn is_freed_when_the_last_has_given_back() {
        let lending = Lending::new(AtomicBool::new(false));
        let borrowed = [lending.lend(), lending.lend()];
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            borrowed.iter().for_each(|borrowed| borrowed.store(true, Ordering::Relaxed));
        });
        drop(lending);
        thread.join().unwrap();
        let lending = Lending::new(AtomicBool::new(false));
        drop(lending.lend());
        assert!(!lending.load(Ordering::Relaxed));
    }
}
