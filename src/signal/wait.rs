//! Waiting for one of a set of signals in the calling thread, without a handler.

use std::time::Duration;

use nix::errno::Errno;

use super::mask::{SignalMask, checked_set};
use super::number::address_of;
use super::{Signal, SignalInfo};
use crate::error::Result;
use crate::sys::signal as kernel;
use crate::timeout::Timeout;
use crate::wait::Object;

/// Takes the next pending signal of a set, waiting for one: which, with its value, and its sender's pid and uid.
///
/// The signals are blocked in the calling thread while this runs, so that they reach it and no handler. Before and
/// after, they act as arranged, which for most ends the process, and so they do at any time in a thread that has not
/// blocked them: hold a [`SignalMask`] around all such waits, taken before further threads are made. Of several
/// pending signals the lowest number comes first, of one real-time signal the oldest.
///
/// # Errors
/// `EINVAL` SIGKILL, SIGSTOP, a signal of the C library, or an empty set; `EBUSY` the signal that this library uses
/// itself; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with nothing taken.
///
/// System calls: rt_sigprocmask, rt_sigtimedwait.
pub fn wait_signal(signals: &[Signal], timeout: Timeout) -> Result<SignalInfo> {
    let set = checked_set(signals, "wait")?;
    let taken = match kernel::timed_wait(&set, Duration::ZERO) {
        // What is waiting already was blocked before: there is nothing to block.
        Ok(info) => Ok(info),
        Err(_) => wait_blocked(signals, &set, timeout)?,
    };
    match taken {
        Ok(info) => {
            let signal = Signal::from_number(info.signal())?;
            Ok(SignalInfo::from_kernel(&info, signal))
        }
        Err(error) if error.is(Errno::EAGAIN) => Err(error),
        Err(error) => Err(error.on_text(address_of(signals))),
    }
}

/// Waits with the signals blocked for as long, so that one which comes in the middle is taken and not acted on.
#[cold]
fn wait_blocked(signals: &[Signal], set: &kernel::Set, timeout: Timeout) -> Result<Result<kernel::KernelInfo>> {
    let blocked = SignalMask::block(signals)?;
    let object = Object::new("signal:");
    let mut operation = object.operation("wait", timeout);
    let taken = operation.in_call(
        || kernel::timed_wait(set, Duration::ZERO),
        |deadline| match kernel::timed_wait(set, deadline.remaining().unwrap_or(Duration::from_secs(1 << 30))) {
            Err(Errno::EAGAIN) => Err(Errno::EINTR), // have the deadline looked at
            result => result,
        },
    );
    drop(operation);
    drop(blocked);
    Ok(taken)
}
