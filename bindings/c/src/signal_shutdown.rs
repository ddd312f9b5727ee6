//! Shutdown by signal.

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd};

use wigwag::{Shutdown, ShutdownOptions, Signal};

use crate::boundary::{Options, call, close, expect_out, flag, give, object, options, timeout};
use crate::cancel::ww_cancel;
use crate::signal::list;

/// The wish that this process should end, as its user or supervisor sends it: WW_SIGTERM or WW_SIGINT.
///
/// While it is open these signals no longer end the process. May be shared between threads. Fork: as ww_signal; the wish
/// to the parent is none to the child.
pub struct ww_signal_shutdown(Shutdown);

/// How a wish to end is received; initialise with WW_SIGNAL_SHUTDOWN_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_signal_shutdown_options {
    pub size: usize,
    /// The signals that ask for the end; NULL for WW_SIGTERM and WW_SIGINT.
    pub signals: *const c_int,
    /// How many signals there are; 0 with NULL.
    pub count: usize,
    /// Fired by the first of them: every wait in its scope returns -ECANCELED. NULL for none; may be closed any time.
    pub cancel: *const ww_cancel,
    /// 1: a second one is left to the earlier handler or the default action, which ends the process at once.
    pub second_ends: c_int,
    /// 1: handlers that were there before are not called.
    pub unchained: c_int,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid: the pointers are looked at as other arguments are.
unsafe impl Options for ww_signal_shutdown_options {}

/// Turns WW_SIGTERM and WW_SIGINT, or the signals of the options, into a wish that this process should end; NULL options
/// mean defaults. Close it with ww_signal_shutdown_close().
///
/// Never blocks. Errors: -EINVAL WW_SIGKILL, WW_SIGSTOP, a signal of the C library, a fault, or an option; -EBUSY the
/// signal that this library uses itself; -EMFILE, -ENFILE no descriptor is left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_shutdown_open(
    out: *mut *mut ww_signal_shutdown,
    options: *const ww_signal_shutdown_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        let given = self::options(options, "ww_signal_shutdown_options")?;
        let signals = list(given.signals, given.count)?; // none: the usual ones
        let unchained = flag(given.unchained, "ww_signal_shutdown_options.unchained")?;
        let options = ShutdownOptions {
            signals,
            unchained: if unchained { Signal::all().collect() } else { Vec::new() },
            cancel: given.cancel.as_ref().map(|cancel| cancel.0.clone()),
            second_ends: flag(given.second_ends, "ww_signal_shutdown_options.second_ends")?,
        };
        give(out, ww_signal_shutdown(Shutdown::open(options)?))
    })
}

/// Puts back what the signals did before; threads that wait return -ECANCELED first. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_shutdown_close(shutdown: *mut ww_signal_shutdown) {
    // SAFETY: as above.
    unsafe { close(shutdown, |shutdown| shutdown.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_shutdown_end_waits(shutdown: *const ww_signal_shutdown) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(shutdown, "shutdown")?.0.end_waits();
        Ok(())
    })
}

/// The signal that asked for the end, or 0 if none has. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_shutdown_requested(shutdown: *const ww_signal_shutdown) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(shutdown, "shutdown")?.0.requested().map_or(0, Signal::number)) })
}

/// Waits until the end is asked for, again at once each time after; the signal that asked.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; in a forked child -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_shutdown_wait(shutdown: *const ww_signal_shutdown, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(shutdown, "shutdown")?.0.wait(timeout(timeout_ns)?).map(Signal::number) })
}

/// How often the end was asked for. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_shutdown_count(shutdown: *const ww_signal_shutdown) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::try_from(object(shutdown, "shutdown")?.0.count()).unwrap_or(c_int::MAX)) })
}

/// The descriptor, to poll: readable from the first wish on; not to be read from. It stays the handle's. Never blocks.
/// Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_shutdown_fd(shutdown: *const ww_signal_shutdown) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(shutdown, "shutdown")?.0.as_fd().as_raw_fd()) })
}
