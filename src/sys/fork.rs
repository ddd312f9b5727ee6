//! How many forks lie between this process and the one that loaded the library.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);
static WATCH: Once = Once::new();

extern "C" fn in_child() {
    // The child has a single thread, so nothing can read between this and the return of fork.
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Changes in a child made by `fork`, so that what belongs to threads of the parent can be told apart.
pub(crate) fn generation() -> u32 {
    WATCH.call_once(|| {
        // SAFETY: in_child is an extern "C" function without arguments that only touches an atomic, and it stays
        // mapped for the life of the process: the shared library is linked with -z nodelete. A failure (ENOMEM) means
        // that children keep the parent's generation; they then miss early ends of waits, and nothing worse.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    // Relaxed: the value changes only across fork, which orders everything.
    GENERATION.load(Ordering::Relaxed)
}
