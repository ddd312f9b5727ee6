//! Ending waits early, from any thread or signal handler of the process.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::wait::{Ending, scope};

/// Ends the waits of every thread that is in its scope.
///
/// Inside the scope that [`Cancel::enter`] opens, every blocking call of this library by that thread returns
/// `ECANCELED` once the cancel has fired; a call that need not wait still succeeds. Scopes nest: any of them ends a
/// wait. Clones are the same cancel.
///
/// ```
/// use wigwag::{Cancel, EventFd, Timeout};
/// let (cancel, never) = (Cancel::new(), EventFd::new()?);
/// let from_elsewhere = cancel.clone();
/// let thread = std::thread::spawn(move || from_elsewhere.fire());
/// let scope = cancel.enter();
/// assert_eq!(never.take(Timeout::Forever).unwrap_err().errno(), libc::ECANCELED);
/// drop(scope);
/// # thread.join().unwrap();
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Cancel(Arc<Ending>);

impl Cancel {
    /// A cancel that has not fired. Never blocks.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Ends the waits of the threads in scope, now and later, with `ECANCELED`. Never blocks; async-signal-safe;
    /// firing twice is as good as once.
    ///
    /// System calls: timer_settime, one for each thread in scope.
    pub fn fire(&self) {
        self.0.raise();
    }

    /// Whether it has fired. Never blocks; async-signal-safe.
    pub fn is_fired(&self) -> bool {
        self.0.is_raised()
    }

    /// Makes it as new, so that waits in scope block again. Never blocks.
    pub fn reset(&self) {
        self.0.lower();
    }

    /// Puts the calling thread's waits under this cancel until the scope is dropped. Never blocks.
    pub fn enter(&self) -> CancelScope<'_> {
        scope::enter(&self.0);
        CancelScope { cancel: self, _of_this_thread: PhantomData }
    }

    /// As [`Cancel::enter`], to be undone by [`Cancel::leave`] of the same thread: for languages without scopes.
    pub fn enter_unscoped(&self) {
        scope::enter(&self.0);
    }

    /// Undoes the calling thread's newest [`Cancel::enter_unscoped`]; false if there is none.
    pub fn leave(&self) -> bool {
        scope::leave(&self.0)
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancel").field("fired", &self.is_fired()).finish()
    }
}

/// The calling thread's stay in the scope of a [`Cancel`]; ends when dropped.
#[derive(Debug)]
pub struct CancelScope<'a> {
    cancel: &'a Cancel,
    _of_this_thread: PhantomData<*const ()>, // neither Send nor Sync: a scope belongs to the thread that entered it
}

impl Drop for CancelScope<'_> {
    fn drop(&mut self) {
        self.cancel.leave();
    }
}
