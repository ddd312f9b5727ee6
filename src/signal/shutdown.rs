//! An orderly end on SIGTERM or SIGINT, in one call.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::number::address_of;
use super::queue::Queue;
use super::registry::{self, Registration, To};
use super::{Signal, SignalInfo};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::limits::explain_descriptors;
use crate::sys::SysResult;
use crate::timeout::Timeout;
use crate::wait::Object;

/// How a [`Shutdown`] is set up.
#[derive(Clone, Debug, Default)]
pub struct ShutdownOptions {
    /// The signals that ask for the end; empty for SIGTERM and SIGINT.
    pub signals: Vec<Signal>,
    /// Fired by the first of them: every wait in its scope ends with `ECANCELED`.
    pub cancel: Option<Cancel>,
    /// A second one is left to the earlier handler or the default action, which ends the process at once. Without,
    /// further ones are only counted.
    pub second_ends: bool,
    /// Of the signals, those whose earlier handlers are not called.
    pub unchained: Vec<Signal>,
}

/// The wish that this process should end, as its user or supervisor sends it: SIGTERM or SIGINT.
///
/// From its making on these signals no longer end the process; look with [`requested`](Shutdown::requested), wait with
/// [`wait`](Shutdown::wait), poll its descriptor, or hand it a [`Cancel`]. Dropping it puts things back as they were.
/// Fork: as with [`Signals`](super::Signals); the wish to the parent is none to the child.
///
/// ```
/// use wigwag::{Shutdown, Signal, Timeout};
/// let shutdown = Shutdown::install()?;
/// Signal::TERM.send(std::process::id() as i32)?; // what a supervisor does
/// assert_eq!(shutdown.wait(Timeout::Forever)?, Signal::TERM);
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Shutdown {
    _registrations: Vec<Registration>,
    object: Object,
    signals: Vec<Signal>,
    state: Arc<State>,
}

/// What the handler works on.
pub(super) struct State {
    /// Gets the first signal and is never read, so its descriptor stays readable.
    queue: Queue,
    first: AtomicI32,
    count: AtomicU32,
    cancel: Option<Cancel>,
    second_ends: bool,
}

impl State {
    /// Async-signal-safe but for errno.
    pub(super) fn deliver(&self, info: &SignalInfo) -> bool {
        if !self.queue.is_own() {
            return false;
        }
        if self.count.fetch_add(1, Ordering::Relaxed) > 0 {
            return !self.second_ends;
        }
        // Release pairs with the Acquire in `requested`.
        self.first.store(info.signal.number(), Ordering::Release);
        self.queue.push(info);
        if let Some(cancel) = &self.cancel {
            cancel.fire();
        }
        true
    }

    fn ensure_own(&self, signals: &[Signal]) -> SysResult<()> {
        let forget = || {
            self.first.store(0, Ordering::Relaxed);
            self.count.store(0, Ordering::Relaxed);
        };
        if self.queue.ensure_own(forget)? {
            signals.iter().try_for_each(|signal| registry::reinstall(*signal))?;
        }
        Ok(())
    }
}

impl Shutdown {
    /// Turns SIGTERM and SIGINT into a wish. Never blocks. Errors and system calls: as [`Shutdown::open`].
    pub fn install() -> Result<Shutdown> {
        Shutdown::open(ShutdownOptions::default())
    }

    /// Turns signals into a wish. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` SIGKILL, SIGSTOP, a signal of the C library or a fault; `EBUSY` the signal that this library uses itself;
    /// `EMFILE`, `ENFILE` no descriptor is left.
    ///
    /// System calls: pipe2, rt_sigaction.
    pub fn open(options: ShutdownOptions) -> Result<Shutdown> {
        let mut signals = if options.signals.is_empty() { vec![Signal::TERM, Signal::INT] } else { options.signals };
        // One that is named twice would count twice each time it comes.
        let mut seen = std::collections::HashSet::new();
        signals.retain(|signal| seen.insert(*signal));
        signals.iter().try_for_each(|signal| signal.check_queueable("shutdown"))?;
        let object = Object::new(address_of(&signals));
        let fail = |errno| explain_descriptors(object.error(errno, "shutdown"));
        let state = Arc::new(State {
            queue: Queue::new(0).map_err(fail)?,
            first: AtomicI32::new(0),
            count: AtomicU32::new(0),
            cancel: options.cancel,
            second_ends: options.second_ends,
        });
        let registrations = signals
            .iter()
            .map(|signal| {
                Registration::new(*signal, To::Shutdown(Arc::clone(&state)), options.unchained.contains(signal))
            })
            .collect::<SysResult<Vec<_>>>()
            .map_err(fail)?;
        Ok(Shutdown { _registrations: registrations, object, signals, state })
    }

    /// The signal that asked for the end, if one has. Never blocks.
    pub fn requested(&self) -> Option<Signal> {
        match self.state.first.load(Ordering::Acquire) {
            0 => None,
            number if self.state.queue.is_own() => Signal::from_number(number).ok(),
            _ => None, // it asked the parent
        }
    }

    /// Waits until the end is asked for; again at once each time after.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere.
    ///
    /// System call: poll.
    pub fn wait(&self, timeout: Timeout) -> Result<Signal> {
        self.state.ensure_own(&self.signals).map_err(|errno| self.object.error(errno, "wait"))?;
        let mut operation = self.object.operation("wait", timeout);
        operation.until_ready(self.state.queue.as_fd(), PollFlags::POLLIN, || self.requested().ok_or(Errno::EAGAIN))
    }

    /// How often it was asked for. Never blocks.
    pub fn count(&self) -> u32 {
        if self.state.queue.is_own() { self.state.count.load(Ordering::Relaxed) } else { 0 }
    }

    /// Its address, such as `signal:TERM,INT`.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads on this object with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }
}

impl AsFd for Shutdown {
    /// Readable from the first wish on; not to be read from.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // If the child cannot get a pipe of its own (EMFILE), the next wait says so.
        let _ = self.state.ensure_own(&self.signals);
        self.state.queue.as_fd()
    }
}

impl std::fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shutdown").field("signals", &self.signals).field("requested", &self.requested()).finish()
    }
}
