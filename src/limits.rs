//! The system's settings as they are now, and the limits that every mechanism may meet, for error texts.

use nix::errno::Errno;

use crate::error::Error;
use crate::sys::memory;

/// A setting by its place under /proc/sys, such as `fs/file-max`.
pub(crate) fn setting(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/{name}")).map_or_else(|_| "?".into(), |text| text.trim().to_owned())
}

/// RLIMIT_NOFILE.
pub(crate) fn descriptors() -> String {
    memory::limit(libc::RLIMIT_NOFILE).map_or_else(|| "unlimited".into(), |most| most.to_string())
}

/// Says which limit it is when no descriptor is left.
#[cold]
pub(crate) fn explain_descriptors(error: Error) -> Error {
    match Errno::from_raw(error.errno()) {
        Errno::EMFILE => error.because_found(format!(
            "this process has as many descriptors as RLIMIT_NOFILE={} allows; close some, or raise the limit (ulimit -n)",
            descriptors()
        )),
        Errno::ENFILE => error.because_found(format!(
            "the system has as many files open as fs.file-max={} allows; raise the limit with sysctl",
            setting("fs/file-max")
        )),
        _ => error,
    }
}
