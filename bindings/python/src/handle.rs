//! An object of the core behind a Python object, which can be closed while other threads use it.

use std::cell::{Cell, UnsafeCell};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::support::forget_in_event_loops;

// A word of users: closed (1 bit) | generation of forks (31) | how many use the object (32).
const CLOSED: u64 = 1 << 63;
const GENERATION_AT: u32 = 32;
const COUNT: u64 = (1 << GENERATION_AT) - 1;

thread_local! {
    /// How many uses this thread is in, of whichever objects.
    static USES: Cell<u32> = const { Cell::new(0) };
}

/// Whether this process is a child whose first thread has come out of the fork in the middle of uses, which it goes on with. Those
/// of its parent's other threads have stayed behind.
static CAME_IN_USE: AtomicBool = AtomicBool::new(false);

extern "C" fn in_child() {
    CAME_IN_USE.store(USES.get() > 0, Ordering::Relaxed); // there is no other thread yet
}

/// To be called once, before there are objects.
pub(crate) fn watch_forks() {
    // SAFETY: the function stays, as modules are not unloaded. A failure (ENOMEM) is taken for every child's having come in use:
    // then what its parent's threads were using stays open in it until it ends.
    let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    CAME_IN_USE.store(failed != 0, Ordering::Relaxed);
}

fn generation() -> u64 {
    (u64::from(wigwag::fork_generation()) << GENERATION_AT) & !CLOSED
}

/// Users keep the object alive; close ends their waits, and the last to leave drops it. Two atomic operations a use,
/// where a lock and a reference count would take four.
pub(crate) struct Handle<T> {
    class: &'static str,
    /// How many use the object now, and CLOSED once nobody else may begin to.
    users: AtomicU64,
    object: UnsafeCell<Option<T>>,
}

// SAFETY: the object is only ever shared (T: Sync), and dropped by whichever thread leaves last (T: Send).
unsafe impl<T: Send + Sync> Sync for Handle<T> {}
// SAFETY: owns its object.
unsafe impl<T: Send> Send for Handle<T> {}

impl<T: Send + Sync> Handle<T> {
    pub(crate) fn new(class: &'static str, object: T) -> Handle<T> {
        Handle { class, users: AtomicU64::new(generation()), object: UnsafeCell::new(Some(object)) }
    }

    /// The object, or `ValueError` after close.
    #[inline]
    pub(crate) fn get(&self) -> PyResult<User<'_, T>> {
        self.enter(0).ok_or_else(|| PyValueError::new_err(format!("operation on a closed {}", self.class)))
    }

    /// Begins a use, and sets `also` with it, unless closed.
    #[inline]
    fn enter(&self, also: u64) -> Option<User<'_, T>> {
        let (mut users, generation) = (self.users.load(Ordering::Relaxed), generation());
        loop {
            if users & CLOSED != 0 {
                return None;
            }
            let is_own = users & !COUNT == generation || CAME_IN_USE.load(Ordering::Relaxed);
            let count = if is_own { users & COUNT } else { 0 };
            let used = generation | (count + 1) | also;
            // Acquire: pairs with the Release of whoever made or last used the object, should it be another thread.
            match self.users.compare_exchange_weak(users, used, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break,
                Err(newer) => users = newer,
            }
        }
        // SAFETY: the object goes only when CLOSED is set and nobody uses it: see `User::drop`.
        let object = unsafe { &*self.object.get() }.as_ref();
        object.map(|object| {
            USES.set(USES.get() + 1);
            User { handle: self, object }
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.users.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Ends the waits of other threads and lets go of the object; closing twice is fine. Event loops that watch its
    /// `descriptors` are told.
    pub(crate) fn close<D: IntoIterator<Item = i32>>(
        &self,
        py: Python<'_>,
        descriptors: impl FnOnce(&T) -> D,
        end_waits: impl FnOnce(&T) + Send,
    ) -> PyResult<()> {
        let Some(object) = self.enter(CLOSED) else { return Ok(()) };
        let told = descriptors(&object).into_iter().try_for_each(|fd| forget_in_event_loops(py, fd));
        // Whoever leaves last may have to wait for threads of the library.
        py.detach(move || {
            end_waits(&object);
            drop(object);
        });
        told
    }

    /// For `repr`: the class, what is told about the object, or that it is closed.
    pub(crate) fn describe(&self, details: impl FnOnce(&T) -> String) -> String {
        match self.enter(0) {
            Some(object) => format!("<wigwag.{} {}>", self.class, details(&object)),
            None => format!("<wigwag.{} closed>", self.class),
        }
    }
}

/// A use of the object, during which it stays.
pub(crate) struct User<'a, T> {
    handle: &'a Handle<T>,
    object: &'a T,
}

impl<T> Deref for User<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.object
    }
}

impl<T> Drop for User<'_, T> {
    #[inline]
    fn drop(&mut self) {
        USES.set(USES.get() - 1);
        // Release: what this use did comes before the drop by whoever leaves last; Acquire: for that one.
        let before = self.handle.users.fetch_sub(1, Ordering::AcqRel);
        if before & CLOSED != 0 && before & COUNT == 1 {
            // SAFETY: CLOSED keeps others from entering and nobody is left, so this is the only access, and there is no
            // second one: the count cannot rise again.
            drop(unsafe { (*self.handle.object.get()).take() });
        }
    }
}
