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

/// Says which limit it is when inotify refuses: of watches, or of descriptors.
#[cold]
pub(crate) fn explain_watches(error: Error) -> Error {
    let limit = |name: &str| format!("fs.inotify.{name}={}", setting(&format!("fs/inotify/{name}")));
    match Errno::from_raw(error.errno()) {
        // The kernel says it for two limits; another descriptor tells which.
        Errno::EMFILE if std::fs::File::open("/dev/null").is_ok() => error.because_found(format!(
            "this user has as many watches as {} allows; close some or raise the limit",
            limit("max_user_instances")
        )),
        Errno::ENOSPC => error.because_found(format!(
            "this user watches as many directories as {} allows; close some watches or raise the limit",
            limit("max_user_watches")
        )),
        _ => explain_descriptors(error),
    }
}
