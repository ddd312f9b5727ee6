//! A lock for short holdings that a fork cannot leave locked.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wigwag::fork_generation;

/// A value and its lock. A child that was made while another thread changed the value, and which may be half changed then,
/// begins with a default one; what was there is left alone.
pub(crate) struct Lock<T> {
    /// 0: free; else which process holds it, as [`own_mark`].
    holder: AtomicU64,
    value: UnsafeCell<ManuallyDrop<T>>,
}

// SAFETY: the value is reached by one thread at a time, the holder.
unsafe impl<T: Send> Sync for Lock<T> {}

/// Frees a lock, also when a panic goes through.
struct Held<'a> {
    holder: &'a AtomicU64,
    mark: u64,
}

fn own_mark() -> u64 {
    1 << 32 | u64::from(fork_generation())
}

impl<T: Default> Lock<T> {
    pub(crate) fn new() -> Lock<T> {
        Lock { holder: AtomicU64::new(0), value: UnsafeCell::new(ManuallyDrop::new(T::default())) }
    }

    /// Works on the value, for a moment.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let mark = own_mark();
        let mut pause = Duration::from_micros(20);
        loop {
            let before = self.holder.load(Ordering::Relaxed);
            // Acquire pairs with the Release in `drop`.
            let is_mine = before != mark
                && self.holder.compare_exchange(before, mark, Ordering::Acquire, Ordering::Relaxed).is_ok();
            if is_mine {
                let held = Held { holder: &self.holder, mark };
                // SAFETY: this thread holds the lock, and its holder in a parent is no thread of this process.
                let value = unsafe { &mut **self.value.get() };
                if before != 0 {
                    std::mem::forget(std::mem::take(value));
                }
                let result = work(value);
                drop(held);
                return result;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }
}

impl<T> Drop for Lock<T> {
    fn drop(&mut self) {
        if *self.holder.get_mut() == 0 {
            // SAFETY: this drops it once, and nobody works on it; what a thread of a parent's may have half changed is left.
            unsafe { ManuallyDrop::drop(self.value.get_mut()) };
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Fails in a child made by a signal's handler in the middle of the holding, which may have taken it for itself.
        let _ = self.holder.compare_exchange(self.mark, 0, Ordering::Release, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time() {
        let lock = Lock::<u64>::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| lock.with(|value| *value += 1)));
            }
        });
        assert_eq!(lock.with(|value| *value), 4000);
    }

    #[test]
    fn what_a_parent_left_locked_begins_anew() {
        let lock = Lock::<Vec<u8>>::new();
        lock.with(|value| value.push(1));
        lock.holder.store(own_mark() - 1, Ordering::Relaxed); // as a thread of the parent's held it
        assert!(lock.with(|value| std::mem::replace(value, vec![2])).is_empty());
        assert_eq!(lock.with(|value| value.clone()), [2]);
        let panics = || lock.with(|_| panic!("on purpose"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert_eq!(lock.with(|value| value.len()), 1);
    }
}
