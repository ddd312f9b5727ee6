//! When a bell rings, and when it falls silent.

use crate::sync_atomics::{AtomicU32, Ordering};

/// What is readable while it is full: an event counter, or what a model has for one.
pub(crate) trait Counter {
    /// Makes it readable; it stays so if it was.
    fn fill(&self);
    /// False if it was empty.
    fn empty(&self) -> bool;
}

pub(crate) struct Ringing<C> {
    counter: C,
    /// That it has rung, or is about to, and was not quieted since. A hint that spares system calls: the counter is what
    /// counts. Set before the counter is filled and taken back before it is emptied, so that whoever has seen the
    /// descriptor readable and then finds nothing quiets it.
    rung: AtomicU32,
}

impl<C: Counter> Ringing<C> {
    pub fn new(counter: C) -> Ringing<C> {
        Ringing { counter, rung: AtomicU32::new(0) }
    }

    pub fn counter(&self) -> &C {
        &self.counter
    }

    /// The helper's work: rings for each time that `comes` says that there is something, and goes on once the counter has
    /// been emptied; until either says that it has ended.
    pub fn help(&self, mut comes: impl FnMut() -> bool, mut is_emptied: impl FnMut(&C) -> bool) {
        while comes() {
            // SeqCst, as in `quiet`: the counter, which both sides change next, is in the kernel.
            self.rung.store(1, Ordering::SeqCst);
            self.counter.fill();
            if !is_emptied(&self.counter) {
                return;
            }
        }
    }

    /// To be called by who has found nothing.
    pub fn quiet(&self) {
        if self.rung.swap(0, Ordering::SeqCst) != 0 && !self.counter.empty() {
            self.rung.store(1, Ordering::SeqCst); // not filled yet, or somebody has read the descriptor
        }
    }
}
