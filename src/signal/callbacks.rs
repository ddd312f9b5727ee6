//! Functions that run when a signal has come, one at a time and outside of signal context.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::lock::{Held, Lock, Replaceable};
use super::{Signal, SignalInfo};

type Function = Arc<dyn Fn(&SignalInfo) + Send + Sync>;

#[derive(Clone)]
struct Callback {
    id: u64,
    signal: Signal,
    function: Function,
}

/// The callbacks of one object. `running` is held while some of them run, so that whoever removes one or closes the
/// object knows when the last has returned.
pub(super) struct Callbacks {
    list: Replaceable<Arc<Vec<Callback>>>,
    next_id: AtomicU64,
    running: Lock,
    closed: AtomicBool,
}

/// The right to run callbacks.
pub(super) struct Turn<'a> {
    callbacks: &'a Callbacks,
    _held: Held<'a>,
}

impl Callbacks {
    pub(super) fn new() -> Callbacks {
        Callbacks {
            list: Replaceable::new(Arc::default()),
            next_id: AtomicU64::new(1),
            running: Lock::new(),
            closed: AtomicBool::new(false),
        }
    }

    pub(super) fn add(&self, signal: Signal, function: Function) -> u64 {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed); // unique, and that is all
        self.list.update(|list| {
            let mut longer = Vec::clone(list);
            longer.push(Callback { id, signal, function });
            (Arc::new(longer), ())
        });
        id
    }

    /// False if there is none of that number. When it returns, the function neither runs nor will, unless the caller
    /// is itself a callback.
    pub(super) fn remove(&self, id: u64) -> bool {
        let removed = self.list.update(|list| {
            let shorter: Vec<_> = list.iter().filter(|callback| callback.id != id).cloned().collect();
            let removed = shorter.len() < list.len();
            (Arc::new(shorter), removed)
        });
        self.let_finish();
        removed
    }

    /// Has no further callback run, and waits for one that does.
    pub(super) fn close(&self) {
        // SeqCst with the load in `run`: either the runner sees it, or `let_finish` finds the runner.
        self.closed.store(true, Ordering::SeqCst);
        self.let_finish();
        self.list.update(|_| (Arc::default(), ()));
    }

    fn let_finish(&self) {
        if !self.is_running_here() {
            drop(self.running.lock());
        }
    }

    /// Whether the caller is a callback of this object.
    pub(super) fn is_running_here(&self) -> bool {
        self.running.is_mine()
    }

    /// `None` while another thread has its turn.
    pub(super) fn turn(&self) -> Option<Turn<'_>> {
        Some(Turn { callbacks: self, _held: self.running.try_lock()? })
    }
}

impl Turn<'_> {
    pub(super) fn is_closed(&self) -> bool {
        self.callbacks.closed.load(Ordering::SeqCst)
    }

    /// Runs what is there for this signal, in the order it was added.
    pub(super) fn run(&self, info: &SignalInfo, catch: bool) {
        let list = self.callbacks.list.get();
        for callback in list.iter().filter(|callback| callback.signal == info.signal) {
            // An earlier callback may have removed a later one, or closed everything.
            let still = self.callbacks.list.get().iter().any(|other| other.id == callback.id);
            if !still || self.is_closed() {
                continue;
            }
            if catch {
                // The panic hook has told about it; the other callbacks still get their turn.
                let _ = catch_unwind(AssertUnwindSafe(|| (callback.function)(info)));
            } else {
                (callback.function)(info);
            }
        }
    }
}
