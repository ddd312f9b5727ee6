//! Cancellation.

use std::ffi::c_int;

use crate::boundary::{call, expect_out, give, invalid, object, take};

/// Ends the waits of every thread that is in its scope.
///
/// Between ww_cancel_enter() and ww_cancel_leave(), every blocking wigwag call of that thread returns -ECANCELED once
/// the cancel has fired; a call that need not wait still succeeds. Scopes nest, and any of them ends a wait. May be
/// shared between threads. After fork, the child's copy is its own.
pub struct ww_cancel(pub(crate) wigwag::Cancel);

/// Makes a cancel that has not fired. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cancel_new(out: *mut *mut ww_cancel) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_cancel(wigwag::Cancel::new()))
    })
}

/// Frees a cancel; no thread may be in its scope or about to fire it. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cancel_close(cancel: *mut ww_cancel) {
    // SAFETY: as above.
    drop(unsafe { take(cancel) });
}

/// Ends the waits of the threads in scope, now and later. Never blocks; allowed in signal handlers. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cancel_fire(cancel: *const ww_cancel) -> c_int {
    // In a signal handler: nothing here allocates, locks or formats.
    // SAFETY: as above.
    match unsafe { cancel.as_ref() } {
        Some(cancel) => {
            cancel.0.fire();
            0
        }
        None => -libc::EFAULT,
    }
}

/// Whether it has fired: 1 or 0. Never blocks; allowed in signal handlers. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cancel_is_fired(cancel: *const ww_cancel) -> c_int {
    // SAFETY: as above.
    unsafe { cancel.as_ref() }.map_or(-libc::EFAULT, |cancel| c_int::from(cancel.0.is_fired()))
}

/// Makes it as new, so that waits in scope block again. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cancel_reset(cancel: *const ww_cancel) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(cancel, "cancel")?.0.reset();
        Ok(())
    })
}

/// Puts the calling thread's waits under this cancel until the matching ww_cancel_leave(). Never blocks.
/// Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cancel_enter(cancel: *const ww_cancel) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(cancel, "cancel")?.0.enter_unscoped();
        Ok(())
    })
}

/// Undoes the calling thread's newest ww_cancel_enter() for this cancel. Never blocks.
///
/// Errors: -EINVAL this thread is not in its scope; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cancel_leave(cancel: *const ww_cancel) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        if object(cancel, "cancel")?.0.leave() {
            Ok(())
        } else {
            Err(invalid("cancel", "this thread is not in the cancel's scope; each leave needs an enter of its own"))
        }
    })
}
