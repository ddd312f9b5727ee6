//! Which of two ways was taken where kernels, file systems or sandboxes differ: for `wigwag::paths()`.

use std::sync::atomic::{AtomicU8, Ordering};

const UNKNOWN: u8 = 0;
const USUAL: u8 = 1;
const FALLBACK: u8 = 2;

/// What was found last; every value is right at any time, so relaxed accesses need no partner.
pub(crate) struct Taken {
    way: AtomicU8,
    usual: &'static str,
    fallback: &'static str,
}

impl Taken {
    pub(crate) const fn new(usual: &'static str, fallback: &'static str) -> Taken {
        Taken { way: AtomicU8::new(UNKNOWN), usual, fallback }
    }

    /// Remembers the way for [`Taken::path`]. Async-signal-safe.
    pub(crate) fn found(&self, usual: bool) {
        self.way.store(if usual { USUAL } else { FALLBACK }, Ordering::Relaxed);
    }

    pub(crate) fn path(&self) -> &'static str {
        match self.way.load(Ordering::Relaxed) {
            USUAL => self.usual,
            FALLBACK => self.fallback,
            _ => "not yet probed",
        }
    }
}

/// How a wait in a call without a timeout, or for a cancel, comes to its end.
pub(crate) static END_OF_WAITS: Taken = Taken::new("a timer for each thread", "looking around every 20 ms");
/// How all pages of a mapping are made present.
pub(crate) static POPULATE: Taken = Taken::new("madvise with MADV_POPULATE", "touching each page");
/// How POSIX shared memory comes by its name.
pub(crate) static SHM_NAME: Taken = Taken::new("linkat when it is complete", "shm_open, then its size");
/// How a file's new content is kept until it gets in place.
pub(crate) static NEW_CONTENT: Taken = Taken::new("without a name, O_TMPFILE", "under a name of its own");
