//! The cancellations in whose scope the calling thread is.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;

use super::ending::Ending;
use super::sleeper::Sleeper;

struct Scope {
    ending: Arc<Ending>,
    slot: *const AtomicPtr<Sleeper>, // inside `ending`, which the Arc keeps where it is
}

thread_local! {
    static SCOPES: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Scope {
    fn drop(&mut self) {
        // SAFETY: the slot lies in the Ending that `self.ending` keeps alive, and was given to this scope alone.
        Ending::leave(unsafe { &*self.slot });
    }
}

/// Puts the calling thread's waits under `ending` until `leave`.
pub(crate) fn enter(ending: &Arc<Ending>) {
    let ending = Arc::clone(ending);
    let slot: *const _ = ending.join(Sleeper::of_this_thread());
    SCOPES.with_borrow_mut(|scopes| scopes.push(Scope { ending, slot }));
}

/// Undoes the newest `enter` of this thread for `ending`; false if there is none.
pub(crate) fn leave(ending: &Arc<Ending>) -> bool {
    // During a thread's teardown the list may be gone already, and every scope with it.
    let found = SCOPES.try_with(|scopes| {
        let mut scopes = scopes.borrow_mut();
        let at = scopes.iter().rposition(|scope| Arc::ptr_eq(&scope.ending, ending))?;
        Some(scopes.remove(at))
    });
    matches!(found, Ok(Some(_)))
}

/// Whether any cancellation that covers the calling thread has fired.
pub(crate) fn any_raised() -> bool {
    SCOPES.try_with(|scopes| scopes.borrow().iter().any(|scope| scope.ending.is_raised())).unwrap_or(false)
}
