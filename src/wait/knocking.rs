//! Where the system refuses timers: a second thread that has a blocking call interrupted again and again.

use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;

use crate::sys::{SysResult, background, wake_signal};

/// Runs `call`, which may block, and has it interrupted every `pause`: it then gives EINTR, or what it has done so far.
/// For the length of a `Wait`, which lets the signal through.
///
/// Fails with ENOMEM where there can be no second thread, with EBUSY where all real-time signals are taken.
pub(super) fn knocking<T>(pause: Duration, call: impl FnOnce() -> SysResult<T>) -> SysResult<T> {
    let signal = wake_signal::taken().ok_or(Errno::EBUSY)?;
    let thread = wake_signal::this_thread();
    let (done, until_done) = mpsc::channel::<()>();
    let (gone, until_gone) = mpsc::channel::<()>();
    background::spawn("wigwag-knock", background::SMALL_STACK, move || {
        while until_done.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
            wake_signal::send(signal, thread);
        }
        drop(gone);
    })?;
    let result = call();
    drop(done);
    let _ = until_gone.recv(); // no knock meets another call
    result
}
