//! Blocking and unblocking signals for the calling thread, and ignoring them or not for the process, undone by scope.

use std::marker::PhantomData;

use nix::errno::Errno;

use super::number::address_of;
use super::{Signal, registry};
use crate::error::{Error, Result};
use crate::sys::signal::{self as kernel, Action, Set};

/// Signals that the calling thread has blocked, or let through, until this is dropped.
///
/// A blocked signal stays pending. The mask is the thread's own and passes to threads and children that it makes: to
/// keep a signal from the whole process, block it in the main thread before the others are made.
///
/// ```
/// use wigwag::{Signal, SignalMask, Timeout, wait_signal};
/// let blocked = SignalMask::block(&[Signal::USR1])?;
/// Signal::USR1.send_to_thread(std::process::id() as i32, Signal::this_thread())?; // would end the process
/// assert_eq!(wait_signal(&[Signal::USR1], Timeout::Now)?.signal, Signal::USR1);
/// drop(blocked);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it undoes the change at once"]
pub struct SignalMask {
    changed: Vec<i32>,
    blocked: bool,
    _of_this_thread: PhantomData<*const ()>, // neither Send nor Sync: the mask belongs to the thread that changed it
}

impl SignalMask {
    /// Blocks these signals for the calling thread. Never blocks the caller.
    ///
    /// # Errors
    /// `EINVAL` SIGKILL, SIGSTOP or a signal of the C library; `EBUSY` the signal that this library uses itself.
    ///
    /// System call: rt_sigprocmask.
    pub fn block(signals: &[Signal]) -> Result<SignalMask> {
        SignalMask::change(signals, "block", true)
    }

    /// Lets these signals through to the calling thread: pending ones act before this returns. Errors and system call:
    /// as [`SignalMask::block`].
    pub fn unblock(signals: &[Signal]) -> Result<SignalMask> {
        SignalMask::change(signals, "unblock", false)
    }

    fn change(signals: &[Signal], operation: &'static str, blocked: bool) -> Result<SignalMask> {
        let set = checked_set(signals, operation)?;
        let before = if blocked { kernel::block(&set) } else { kernel::unblock(&set) }
            .map_err(|errno| Error::new(errno, operation).on_text(address_of(signals)))?;
        let mut changed: Vec<_> = signals.iter().map(|signal| signal.number()).collect();
        changed.retain(|signal| before.contains(*signal) != blocked);
        Ok(SignalMask { changed, blocked, _of_this_thread: PhantomData })
    }

    /// The signals whose state this has changed, as numbers; those that were so before are not among them.
    pub fn changed(&self) -> &[i32] {
        &self.changed
    }

    /// Leaves the change in place for good.
    pub fn keep(mut self) {
        self.changed.clear();
    }

    /// For languages without scopes: undoes on the calling thread what [`SignalMask::changed`] told of a mask kept.
    pub fn undo(changed: &[i32], blocked: bool) {
        let set = Set::of(changed.iter().copied());
        let _ = if blocked { kernel::unblock(&set) } else { kernel::block(&set) }; // cannot fail with a valid set
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        SignalMask::undo(&self.changed, self.blocked);
    }
}

/// The set of these signals, each of which a program may take.
pub(super) fn checked_set(signals: &[Signal], operation: &'static str) -> Result<Set> {
    if signals.is_empty() {
        return Err(Error::new(Errno::EINVAL, operation).because("no signal is named; name at least one"));
    }
    signals.iter().try_for_each(|signal| signal.check_ours_to_take(operation))?;
    Ok(Set::of(signals.iter().map(|signal| signal.number())))
}

/// A signal that the process ignores, or leaves to its default action, until this is dropped.
///
/// The arrangement is the process's, not a thread's. Ignoring passes over exec.
///
/// ```
/// use wigwag::{Signal, SignalAction};
/// let ignored = SignalAction::ignore(Signal::HUP)?;
/// Signal::HUP.send(std::process::id() as i32)?; // would end the process
/// drop(ignored); // as it was before
/// # Ok::<(), wigwag::Error>(())
/// ```
#[must_use = "dropping it undoes the change at once"]
pub struct SignalAction {
    signal: Signal,
    before: Action,
    is_still: fn(&Action) -> bool,
}

impl SignalAction {
    /// Ignores a signal. Never blocks.
    ///
    /// # Errors
    /// `EBUSY` it has subscriptions in this process, or is the one that this library uses itself; `EINVAL` SIGKILL,
    /// SIGSTOP or a signal of the C library.
    ///
    /// System call: rt_sigaction.
    pub fn ignore(signal: Signal) -> Result<SignalAction> {
        SignalAction::set(signal, "ignore", Action::ignore(), Action::is_ignore)
    }

    /// Gives a signal its default action. Never blocks. Errors and system call: as [`SignalAction::ignore`].
    pub fn default_for(signal: Signal) -> Result<SignalAction> {
        SignalAction::set(signal, "default", Action::default(), Action::is_default)
    }

    fn set(signal: Signal, operation: &'static str, action: Action, is_still: fn(&Action) -> bool) -> Result<Self> {
        signal.check_ours_to_take(operation)?;
        let before = registry::set_plain(signal, action).map_err(|errno| {
            let error = Error::new(errno, operation).on_text(signal.address());
            match errno {
                Errno::EBUSY => error.because("this process has subscriptions to the signal; end them first"),
                _ => error,
            }
        })?;
        Ok(SignalAction { signal, before, is_still })
    }

    /// Which signal.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Leaves the change in place for good.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for SignalAction {
    fn drop(&mut self) {
        registry::unset_plain(self.signal, &self.before, self.is_still);
    }
}

impl std::fmt::Debug for SignalAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalAction").field("signal", &self.signal).finish()
    }
}
