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
        Errno::ENOMEM => error.because_found(match limit(libc::RLIMIT_AS) {
            Some(most) => format!(
                "no memory or address space is left; RLIMIT_AS allows {most} bytes, and vm.max_map_count={} mappings",
                setting("vm/max_map_count")
            ),
            None => format!(
                "no memory or address space is left, or the process has vm.max_map_count={} mappings",
                setting("vm/max_map_count")
            ),
        }),
        _ => error,
    }
}

/// Of mlock.
pub(super) fn lock(error: Error, length: usize) -> Error {
    let (operation, object) = (error.operation(), error.object().unwrap_or_default().to_owned());
    match Errno::from_raw(error.errno()) {
        errno @ (Errno::ENOMEM | Errno::EPERM | Errno::EAGAIN) => {
            let allowed = limit(libc::RLIMIT_MEMLOCK).map_or("no limit".into(), |most| format!("{most} bytes"));
            // EAGAIN would say "try again later" in this library; some pages could not be locked, and that is lasting.
            let errno = if errno == Errno::EAGAIN { Errno::ENOMEM } else { errno };
            Error::new(errno, operation).on_text(object).because_found(format!(
                "{length} bytes are to be locked in memory, and RLIMIT_MEMLOCK allows {allowed} in all; raise it \
                 (ulimit -l, LimitMEMLOCK=) or do without lock"
            ))
        }
        _ => error,
    }
}
