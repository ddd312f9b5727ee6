//! How many processors there are: for the calling thread, and at all.
//!
//! System call: sched_getaffinity; sysconf, which reads what /sys says.

use std::sync::OnceLock;

/// At least one.
pub(crate) fn available() -> usize {
    // SAFETY: all zeros is a valid set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the set's size into a live local.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return 2; // more than 1024 processors: certainly several
    }
    // SAFETY: reads a live local.
    usize::try_from(unsafe { libc::CPU_COUNT(&set) }).unwrap_or(1).max(1)
}

/// Those of the machine that were switched on when this was first asked for; at least one.
pub(crate) fn online() -> usize {
    static ONLINE: OnceLock<usize> = OnceLock::new();
    // SAFETY: takes a number.
    *ONLINE.get_or_init(|| usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1).max(1))
}
