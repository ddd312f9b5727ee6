//! Why the kernel refused memory: the limit that was hit, its current value, and the remedy.

use nix::errno::Errno;

use super::mapping::Access;
use crate::error::Error;
use crate::limits::setting;
use crate::sys::memory::limit;

/// Of mmap.
pub(super) fn map(error: Error, access: Access) -> Error {
    match Errno::from_raw(error.errno()) {
        Errno::EACCES if access.is_writable() => {
            error.because("the descriptor was opened without the permission to read and write; attach read-only")
        }
        Errno::EACCES => error.because("the descriptor was opened without the permission to read"),
        Errno::EPERM => error.because("a seal forbids writing; attach read-only"),
        Errno::ENODEV => error.because("the descriptor is of a kind that cannot be mapped; only files and memory can"),
        Errno::ENOMEM => no_room(error),
        _ => error,
    }
}

/// ENOMEM of mmap and shmat.
pub(super) fn no_room(error: Error) -> Error {
    error.because_found(match limit(libc::RLIMIT_AS) {
        Some(most) => format!(
            "no memory or address space is left; RLIMIT_AS allows {most} bytes, and vm.max_map_count={} mappings",
            setting("vm/max_map_count")
        ),
        None => format!(
            "no memory or address space is left, or the process has vm.max_map_count={} mappings",
            setting("vm/max_map_count")
        ),
    })
}

/// Of mlock.
pub(super) fn lock(error: Error, length: usize) -> Error {
    match Errno::from_raw(error.errno()) {
        // EAGAIN would say "try again later" in this library; some pages could not be locked, and that is lasting.
        Errno::ENOMEM | Errno::EAGAIN => error.with_errno(Errno::ENOMEM).because_found(not_locked(length)),
        Errno::EPERM => error.because_found(not_locked(length)),
        _ => error,
    }
}

/// Of mremap of locked memory, which fails when the object has become larger already.
pub(super) fn lock_grown(error: Error, mapped: usize, length: usize) -> Error {
    error.with_errno(Errno::ENOMEM).because_found(format!(
        "{}; the object has grown to {length} bytes all the same, and this mapping goes on with {mapped}",
        not_locked(length)
    ))
}

fn not_locked(length: usize) -> String {
    let allowed = limit(libc::RLIMIT_MEMLOCK).map_or("no limit".into(), |most| format!("{most} bytes"));
    format!(
        "{length} bytes are to be locked in memory, and RLIMIT_MEMLOCK allows {allowed} in all; raise it (ulimit -l, \
         LimitMEMLOCK=) or do without lock"
    )
}
