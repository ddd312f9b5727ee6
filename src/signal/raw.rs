//! Functions that run inside the signal handler.

use std::sync::Arc;

use nix::errno::Errno;

use super::registry::{Registration, To};
use super::{Signal, SignalInfo};
use crate::error::{Error, Result};

/// A function that runs inside the signal handler, with the pointer given when it was subscribed.
pub type RawHandler = unsafe extern "C" fn(info: *const SignalInfo, user: *mut libc::c_void);

/// A function that runs inside the handler of a signal until this is dropped.
///
/// For the rare case that cannot wait for a thread: a counter that must be true at once, a fault. Everything else is
/// safer with [`Signals`](super::Signals).
#[must_use = "dropping it ends the subscription at once"]
pub struct RawSubscription {
    signal: Signal,
    _registration: Registration,
}

impl RawSubscription {
    /// Has `handler` called in the signal's context, on whatever thread the kernel chose, beside other subscriptions.
    /// Never blocks.
    ///
    /// # Safety
    /// The handler and what `user` points to stay valid until this is dropped. It calls async-signal-safe functions
    /// only: it takes no lock, allocates nothing, does not panic, subscribes and drops nothing of this module. It
    /// returns: leaving by longjmp makes the end of the subscription wait for ever. For a fault (`SEGV`, `BUS`, `FPE`,
    /// `ILL`) returning means that the instruction runs again, so it has to have removed the cause.
    ///
    /// # Errors
    /// `EINVAL` SIGKILL, SIGSTOP or a signal of the C library; `EBUSY` the signal that this library uses itself.
    ///
    /// System call: rt_sigaction.
    pub unsafe fn new(signal: Signal, handler: RawHandler, user: *mut libc::c_void) -> Result<RawSubscription> {
        signal.check_ours_to_take("subscribe")?;
        let registration = Registration::new(signal, To::Raw(handler, user as usize), false)
            .map_err(|errno: Errno| Error::new(errno, "subscribe").on_text(signal.address()))?;
        Ok(RawSubscription { signal, _registration: registration })
    }

    /// Which signal.
    pub fn signal(&self) -> Signal {
        self.signal
    }
}

impl std::fmt::Debug for RawSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawSubscription").field("signal", &self.signal).finish()
    }
}

/// A function that is called when a signal comes, before the handler that was there, or the default action, until this is
/// dropped.
pub(crate) struct Before {
    _registration: Registration,
}

impl Before {
    /// The function runs in the signal's context: it is async-signal-safe, and does not panic.
    pub(crate) fn new(signal: Signal, function: Arc<dyn Fn(&SignalInfo) + Send + Sync>) -> Result<Before> {
        let registration = Registration::new(signal, To::Before(function), false)
            .map_err(|errno| Error::new(errno, "subscribe").on_text(signal.address()))?;
        Ok(Before { _registration: registration })
    }
}
