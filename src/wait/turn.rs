//! A value that one thread at a time works on, where waiting for one's turn obeys deadline and cancel, and a fork leaves
//! nobody waiting for a thread that stayed behind in the parent.
//!
//! The word: the fork generation above two bits, 0 free, 1 taken, 2 taken and somebody may sleep.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::ptr;

use nix::errno::Errno;

use super::Operation;
use crate::error::Result;
use crate::sync_atomics::{AtomicU32, Ordering};
use crate::sys::{fork, futex};
use crate::timeout::Timeout;

const TAKEN: u32 = 1;
const AWAITED: u32 = 2;
const HELD: u32 = TAKEN | AWAITED;

/// What becomes of a value in a child made by fork.
pub(crate) trait Forked {
    /// Called once in the child before its first turn, if nobody had the turn at the time of the fork.
    fn after_fork(&mut self);
    /// What takes the value's place if a thread of the parent had it, perhaps half changed: may look only at what never
    /// changes.
    fn replaced(&self) -> Self;
}

/// A value with turns.
pub(crate) struct Turns<T> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by whoever has the turn alone, and may move between threads.
unsafe impl<T: Send> Sync for Turns<T> {}

impl<T: Forked> Turns<T> {
    pub(crate) fn new(value: T) -> Turns<T> {
        Turns { word: AtomicU32::new(fork::generation() << 2), value: UnsafeCell::new(value) }
    }

    /// Takes the turn; waits for it as the operation says.
    #[inline]
    pub(crate) fn take(&self, operation: &mut Operation<'_>) -> Result<Turn<'_, T>> {
        let own = fork::generation() << 2;
        // Acquire pairs with the Release of whoever gave the turn back.
        match self.word.compare_exchange(own, own | TAKEN, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Turn { turns: self, own }),
            Err(seen) => self.take_after(own, seen, |word, taken| {
                if operation.timeout() == Timeout::Now {
                    return Err(operation.error(Errno::EAGAIN));
                }
                let slept = operation.wait().futex(word, taken, None);
                slept.map(drop).map_err(|errno| operation.error(errno))
            }),
        }
    }

    /// Takes the turn if nobody has it now.
    pub(crate) fn take_if_free(&self) -> Option<Turn<'_, T>> {
        let own = fork::generation() << 2;
        // Acquire as in `take`. One of another generation is for who waits for it.
        let taken = self.word.compare_exchange(own, own | TAKEN, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok().then_some(Turn { turns: self, own })
    }

    /// Takes the turn where nobody keeps it for longer than a few system calls.
    #[inline]
    pub(crate) fn take_soon(&self) -> Turn<'_, T> {
        let own = fork::generation() << 2;
        if self.word.compare_exchange(own, own | TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Turn { turns: self, own };
        }
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            let taken = self.take_after(own, seen, |word, taken| {
                // Whatever ends the sleep, the word is looked at again.
                let _ = futex::wait(word, taken, std::time::Duration::from_millis(100));
                Ok(())
            });
            if let Ok(turn) = taken {
                return turn;
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn take_after(
        &self,
        own: u32,
        mut seen: u32,
        mut sleep: impl FnMut(&AtomicU32, u32) -> Result<()>,
    ) -> Result<Turn<'_, T>> {
        let mut wanted = own | TAKEN;
        loop {
            let is_stale = seen & !HELD != own;
            if !is_stale && seen & HELD != 0 {
                let awaited = own | AWAITED;
                if seen != awaited
                    && let Err(newer) = self.word.compare_exchange(seen, awaited, Ordering::Relaxed, Ordering::Relaxed)
                {
                    seen = newer;
                    continue;
                }
                sleep(&self.word, own | AWAITED)?;
                wanted = own | AWAITED; // others may sleep still
                seen = self.word.load(Ordering::Relaxed);
                continue;
            }
            match self.word.compare_exchange(seen, wanted, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if !is_stale => return Ok(Turn { turns: self, own }),
                Ok(_) => {
                    let mut turn = Turn { turns: self, own };
                    if seen & HELD == 0 {
                        turn.after_fork();
                    } else {
                        let fresh = turn.replaced();
                        // SAFETY: we have the turn. What was there may be half changed, so it is not dropped.
                        unsafe { ptr::write(self.value.get(), fresh) };
                    }
                    return Ok(turn);
                }
                Err(newer) => seen = newer,
            }
        }
    }
}

/// Somebody's turn, until dropped.
pub(crate) struct Turn<'a, T> {
    turns: &'a Turns<T>,
    own: u32,
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: whoever has the turn is alone with the value until it is dropped.
        unsafe { &*self.turns.value.get() }
    }
}

impl<T> DerefMut for Turn<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { &mut *self.turns.value.get() }
    }
}

impl<T> Drop for Turn<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire of the next to take it.
        if self.turns.word.swap(self.own, Ordering::Release) & AWAITED != 0 {
            futex::wake(&self.turns.word, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;
    use crate::wait::Object;

    struct Value(Vec<u32>);

    impl Forked for Value {
        fn after_fork(&mut self) {
            self.0.clear();
        }
        fn replaced(&self) -> Value {
            Value(Vec::new())
        }
    }

    #[test]
    fn turns_exclude_each_other() {
        let (turns, object) = (Turns::new(Value(Vec::new())), Object::new("test"));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (turns, object) = (&turns, &object);
                scope.spawn(move || {
                    for _ in 0..1000 {
                        let mut operation = object.operation("take", Timeout::After(Duration::from_secs(60)));
                        turns.take(&mut operation).unwrap().0.push(thread);
                        turns.take_soon().0.push(thread);
                    }
                });
            }
        });
        assert_eq!(turns.take_soon().0.len(), 8000);
    }

    #[test]
    fn a_wait_for_a_turn_ends_by_deadline_and_by_cancel() {
        let (turns, object) = (Turns::new(Value(Vec::new())), Object::new("test"));
        let held = turns.take_soon();
        let take = |timeout| turns.take(&mut object.operation("take", timeout)).map(drop);
        assert_eq!(take(Timeout::Now).unwrap_err().errno(), libc::EAGAIN);
        assert_eq!(take(Timeout::After(Duration::from_millis(1))).unwrap_err().errno(), libc::ETIMEDOUT);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(take(Timeout::Forever).unwrap_err().errno(), libc::ECANCELED);
                done.store(true, Ordering::SeqCst);
            });
            while !done.load(Ordering::SeqCst) {
                object.end_waits();
            }
        });
        drop(held);
        take(Timeout::Now).unwrap();
    }
}
