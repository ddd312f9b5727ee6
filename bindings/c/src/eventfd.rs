//! Event counter.

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd};

use wigwag::{EventFd, EventFdOptions};

use crate::boundary::{Options, adopt, call, close, expect_out, flag, give, invalid, object, options, put, timeout};

/// An event counter (eventfd:): one side adds to a 64-bit number in the kernel, the other takes from it.
///
/// May be shared between threads. Shared with children made by fork, and with others by passing the descriptor. Gone
/// with its last descriptor.
pub struct ww_eventfd(EventFd);

/// How an event counter is made; initialise with WW_EVENTFD_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_eventfd_options {
    pub size: usize,
    /// The value at the start, at most 2^64 - 2.
    pub initial: u64,
    /// 1: each take gives 1 and leaves the rest, instead of taking all at once.
    pub semaphore: c_int,
    pub reserved: c_int,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_eventfd_options {}

/// Makes a counter; NULL options mean one that starts at 0 and is taken whole. Close it with ww_eventfd_close().
///
/// Never blocks. Errors: -EMFILE, -ENFILE no descriptor is left; -EINVAL the initial value or an option; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_eventfd_open(out: *mut *mut ww_eventfd, options: *const ww_eventfd_options) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        let given = self::options(options, "ww_eventfd_options")?;
        if given.reserved != 0 {
            return Err(invalid("ww_eventfd_options", "the reserved member must be 0"));
        }
        let semaphore = flag(given.semaphore, "ww_eventfd_options.semaphore")?;
        give(out, ww_eventfd(EventFd::open(EventFdOptions { initial: given.initial, semaphore })?))
    })
}

/// Takes over an eventfd that something else made; its mode is left as it is. The handle uses a copy of the descriptor and
/// closes fd; after an error fd stays the caller's. Never blocks. Errors: -EBADF, -EMFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_eventfd_from_fd(out: *mut *mut ww_eventfd, fd: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_eventfd(adopt(fd, "eventfd", |fd| Ok(EventFd::from_fd(fd)))?))
    })
}

/// Closes the counter; threads that wait on it return -ECANCELED first. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_eventfd_close(eventfd: *mut ww_eventfd) {
    // SAFETY: as above.
    unsafe { close(eventfd, |eventfd| eventfd.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_eventfd_end_waits(eventfd: *const ww_eventfd) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(eventfd, "eventfd")?.0.end_waits();
        Ok(())
    })
}

/// Adds to the counter; waits while the sum would pass 2^64 - 2.
///
/// Errors, with nothing added: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EINVAL the value is 2^64 - 1; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_eventfd_add(eventfd: *const ww_eventfd, value: u64, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(eventfd, "eventfd")?.0.add(value, timeout(timeout_ns)?) })
}

/// Takes the whole counter, or 1 in semaphore mode, into *value; waits while it is zero.
///
/// Errors, with nothing taken: -EAGAIN, -ETIMEDOUT, -ECANCELED; -EBADMSG an adopted descriptor is not an eventfd;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_eventfd_take(eventfd: *const ww_eventfd, value: *mut u64, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(value)?;
        let taken = object(eventfd, "eventfd")?.0.take(timeout(timeout_ns)?)?;
        put(value, taken, "value")
    })
}

/// The descriptor, to poll or to pass on: readable while the counter is above 0. It stays the handle's.
/// Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_eventfd_fd(eventfd: *const ww_eventfd) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(eventfd, "eventfd")?.0.as_fd().as_raw_fd()) })
}
