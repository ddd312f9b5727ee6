//! Sending signals.

use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;

use libc::pid_t;
use wigwag::{Error, Signal, SignalTarget};

use crate::boundary::{adopt, call, expect_out, give, object, put_if_wanted, take};

/// A process to send signals to that stays the same one: once it has ended and is reaped, sending fails with -ESRCH,
/// also when its number has gone to another.
///
/// That holds from the opening on: do it while the process cannot have been reaped, as its parent or with a message from
/// it at hand. May be shared between threads.
pub struct ww_signal_target(SignalTarget);

/// Sends a signal to a process. Never blocks. The number may by now belong to another process than the one meant:
/// ww_signal_target excludes that.
///
/// Errors: -ESRCH there is no such process; -EPERM it belongs to another user; -EINVAL a pid below 1, or no signal.
#[unsafe(no_mangle)]
pub extern "C" fn ww_signal_send(pid: pid_t, signal: c_int) -> c_int {
    call(|| Signal::from_number(signal)?.send(pid))
}

/// Sends a signal to a process with a number: real-time signals queue up, in order; of a classic signal one is pending
/// at a time. Never blocks.
///
/// Errors: -EAGAIN the receiver has as many signals pending as its RLIMIT_SIGPENDING allows, nothing was sent;
/// otherwise as ww_signal_send().
#[unsafe(no_mangle)]
pub extern "C" fn ww_signal_send_value(pid: pid_t, signal: c_int, value: c_int) -> c_int {
    call(|| Signal::from_number(signal)?.send_value(pid, value))
}

/// Sends a signal to every process of a process group. Never blocks. Errors: as ww_signal_send(); -EINVAL below 2.
#[unsafe(no_mangle)]
pub extern "C" fn ww_signal_send_group(group: pid_t, signal: c_int) -> c_int {
    call(|| Signal::from_number(signal)?.send_to_group(group))
}

/// Sends a signal to one thread of a process. Never blocks. Errors: as ww_signal_send(); -ESRCH also if the thread is
/// not one of that process.
#[unsafe(no_mangle)]
pub extern "C" fn ww_signal_send_thread(pid: pid_t, thread: pid_t, signal: c_int) -> c_int {
    call(|| Signal::from_number(signal)?.send_to_thread(pid, thread))
}

/// The calling thread's number, for ww_signal_send_thread(). Never blocks, never fails.
#[unsafe(no_mangle)]
pub extern "C" fn ww_signal_this_thread() -> pid_t {
    Signal::this_thread()
}

/// Takes hold of the process that has this number now. Close it with ww_signal_target_close().
///
/// Never blocks. Errors: -ESRCH there is none; -EINVAL a number below 1, or a further thread's; -EMFILE, -ENFILE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_target_open(out: *mut *mut ww_signal_target, pid: pid_t) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_signal_target(SignalTarget::open(pid)?))
    })
}

/// The same by an address such as "signal:USR1@1234", whose signal goes to *signal (which may be NULL).
///
/// Never blocks. Errors: as ww_signal_target_open(); -EINVAL the address, also one without a pid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_target_open_address(
    out: *mut *mut ww_signal_target,
    address: *const c_char,
    signal: *mut c_int,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let (target, named) = SignalTarget::at(&crate::boundary::address(address)?)?;
        give(out, ww_signal_target(target))?;
        put_if_wanted(signal, named.number());
        Ok(())
    })
}

/// Takes over a pidfd. The handle uses a copy and closes fd; after an error fd stays the caller's. Never blocks.
/// Errors: -EBADF it is none; -EMFILE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_target_from_fd(out: *mut *mut ww_signal_target, fd: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_signal_target(adopt(fd, "pidfd", SignalTarget::from_fd)?))
    })
}

/// Lets go of the process, which is not affected. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_target_close(target: *mut ww_signal_target) {
    // SAFETY: as above.
    drop(unsafe { take(target) });
}

/// Sends a signal. Never blocks. Errors: -ESRCH the process has ended and was reaped; -EPERM it belongs to another user;
/// -EINVAL no signal; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_target_send(target: *const ww_signal_target, signal: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(target, "target")?.0.send(Signal::from_number(signal)?) })
}

/// Sends a signal with a number. Never blocks. Errors: as ww_signal_target_send(); -EAGAIN as ww_signal_send_value().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_target_send_value(
    target: *const ww_signal_target,
    signal: c_int,
    value: c_int,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(target, "target")?.0.send_value(Signal::from_number(signal)?, value) })
}

/// Whether the process is there still, 1 or 0; one that has ended and is not reaped yet is. Never blocks.
/// Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_target_exists(target: *const ww_signal_target) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::from(object(target, "target")?.0.exists())) })
}

/// Its number. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_target_pid(target: *const ww_signal_target) -> pid_t {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(target, "target")?.0.pid()) })
}

/// The pidfd, readable once the process has ended. It stays the handle's. Never blocks.
/// Errors: -ENOTSUP the kernel has none; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_target_fd(target: *const ww_signal_target) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(target, "target")?.0.pidfd().map(|pidfd| pidfd.as_raw_fd()).ok_or_else(|| {
            Error::from_raw(libc::ENOTSUP, "pidfd")
                .because("this kernel, or the sandbox that the process runs in, has no pidfd_open")
        })
    })
}

/// How signals get there: "pidfd_send_signal", which cannot meet another process, or "kill" where the kernel lacks it:
/// then the time at which the process started is compared first, which leaves a moment for the number to change hands.
/// NULL for a NULL target. Never blocks. The text is the library's and good for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_signal_target_path(target: *const ww_signal_target) -> *const c_char {
    // SAFETY: as above.
    match unsafe { target.as_ref() } {
        Some(target) if target.0.path() == "kill" => c"kill".as_ptr(),
        Some(_) => c"pidfd_send_signal".as_ptr(),
        None => std::ptr::null(),
    }
}
