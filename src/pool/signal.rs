//! Waiting for something that other threads of this process do.

use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::sync_atomics::AtomicU32;
use crate::sys::futex;
use crate::wait::Operation;

/// Counts changes of something behind a lock.
#[derive(Default)]
pub(super) struct Changes {
    count: AtomicU32,
    waiting: AtomicU32,
}

impl Changes {
    /// How many there have been; read before the look that decides to wait.
    pub fn seen(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// There has been one more; called after it is visible.
    pub fn announce(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            futex::wake(&self.count, u32::MAX >> 1);
        }
    }

    /// Sleeps until there is a change after `seen`.
    pub fn wait(&self, seen: u32, operation: &mut Operation<'_>) -> Result<()> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let slept = operation.wait().futex(&self.count, seen, None);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        slept.map(drop).map_err(|errno| operation.error(errno))
    }
}
