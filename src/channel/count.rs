//! A count of what a channel does, which costs the thread that began it no atomic read-modify-write: over shared memory two of
//! them would be a tenth of a message. Other threads share a second count. (After the biased reference count of Choi,
//! Shull and Torrellas, 2018.)

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    /// The number of this thread, never used again in this process; 0: none yet.
    static OWN: Cell<u64> = const { Cell::new(0) };
}

#[cold]
fn first() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1; // unique, which is all that is needed
    OWN.set(number);
    number
}

/// Relaxed throughout: for people, and orders nothing.
#[derive(Default)]
pub(super) struct Count {
    /// The thread that alone writes `own`; 0: none yet.
    owner: AtomicU64,
    own: AtomicU64,
    others: AtomicU64,
}

impl Count {
    /// Not from a signal's handler.
    #[inline]
    pub fn add(&self, more: u64) {
        let me = OWN.get();
        if me != 0 && self.owner.load(Ordering::Relaxed) == me {
            self.own.store(self.own.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        } else {
            self.add_as_another(more);
        }
    }

    #[cold]
    fn add_as_another(&self, more: u64) {
        let me = match OWN.get() {
            0 => first(),
            known => known,
        };
        match self.owner.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => self.own.store(more, Ordering::Relaxed),
            Err(_) => drop(self.others.fetch_add(more, Ordering::Relaxed)),
        }
    }

    pub fn get(&self) -> u64 {
        self.own.load(Ordering::Relaxed).wrapping_add(self.others.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_counts_exactly() {
        let count = Count::default();
        count.add(3);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| (0..10_000).for_each(|_| count.add(1)));
            }
            (0..10_000).for_each(|_| count.add(2));
        });
        assert_eq!(count.get(), 3 + 40_000 + 20_000);
    }

    #[test]
    fn one_that_has_ended_is_not_taken_for_another() {
        let count = Count::default();
        for _ in 0..10 {
            std::thread::scope(|threads| drop(threads.spawn(|| count.add(1))));
        }
        assert_eq!((count.get(), count.own.load(Ordering::Relaxed)), (10, 1));
    }
}
