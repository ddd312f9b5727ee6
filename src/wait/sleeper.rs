//! One record for each thread that has ever waited, by which others can end its wait.
//!
//! A thread that blocks is woken by its own timer (`sys::thread_timer`): whoever wants its wait to end arms that timer
//! to fire at once and to repeat. A shot that comes a moment before the thread blocks is followed by one that finds it
//! blocked, so no wake-up is lost; arming is one system call that is allowed in signal handlers.
//!
//! Records are never freed, only reused: whoever holds a pointer to one may at worst disturb another thread's wait,
//! which looks around, finds no reason to end, and goes on.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use crate::sys::taken::END_OF_WAITS;
use crate::sys::thread_timer::{self, TimerId};
use crate::sys::{fork, wake_signal};

const NO_TIMER: i32 = -1;

pub(super) struct Sleeper {
    /// Whether a thread has it now.
    taken: AtomicBool,
    /// The thread's timer, or `NO_TIMER`. Written by the thread, read by those who interrupt it.
    timer: AtomicI32,
    /// How many are about to use the number in `timer`; the thread deletes the timer only when nobody is.
    interrupting: AtomicU32,
    /// How deep the thread is in waits: a signal hook may start one inside another.
    depth: AtomicU32,
    /// How many of the thread's last waits were brief, in a row. Its own business.
    brief: AtomicU32,
    /// The fork generation in which the timer was made: timers do not pass to children.
    generation: AtomicU32,
    /// The next record of the list of all; written before the record is published, never after.
    next: AtomicPtr<Sleeper>,
}

/// All records. A record is pushed with Release after its fields are set; walkers load with Acquire.
static ALL: AtomicPtr<Sleeper> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    // Without a destructor, so that the signal handler may read it at any time.
    static CURRENT: Cell<Option<&'static Sleeper>> = const { Cell::new(None) };
    static RETURN_AT_EXIT: ReturnAtExit = const { ReturnAtExit };
}

struct ReturnAtExit;

impl Drop for ReturnAtExit {
    fn drop(&mut self) {
        if let Some(sleeper) = CURRENT.replace(None) {
            sleeper.drop_timer();
            // Pairs with the Acquire in `claim`: the next thread sees the record without a timer.
            sleeper.taken.store(false, Ordering::Release);
        }
    }
}

/// So many brief waits in a row, and the next is taken for brief, too.
const BRIEF_IN_A_ROW: u32 = 3;

/// Runs when a thread's timer fires: interrupting the system call is all it is for. A shot that finds its thread in no
/// wait was armed by somebody who came too late, and stops the timer.
extern "C" fn on_wake_signal(_: libc::c_int) {
    if let Some(sleeper) = CURRENT.get()
        && sleeper.depth.load(Ordering::Relaxed) == 0
    {
        let errno = Errno::last();
        sleeper.disarm();
        errno.set();
    }
}

/// Runs in a child made by fork, in its only thread: the record goes on being that thread's, without a timer, which does
/// not pass to children. The slots that it has in scopes stay its own; a moment in which they looked free would let
/// another thread take them. Async-signal-safe.
fn stay_in_child() {
    if let Some(sleeper) = CURRENT.get() {
        sleeper.timer.store(NO_TIMER, Ordering::SeqCst);
        // Threads that were about to interrupt it stayed behind in the parent, and will not count themselves out.
        sleeper.interrupting.store(0, Ordering::SeqCst);
        sleeper.generation.store(fork::generation_in_handler(), Ordering::SeqCst);
    }
}

impl Sleeper {
    /// The calling thread's record, if it has ever waited.
    pub(super) fn known() -> Option<&'static Sleeper> {
        CURRENT.get()
    }

    /// The calling thread's record, with a timer made in this process, or without one where the system refuses it.
    pub(super) fn of_this_thread() -> &'static Sleeper {
        let sleeper = CURRENT.get().unwrap_or_else(|| {
            fork::then_in_child(stay_in_child);
            let sleeper = claim();
            CURRENT.set(Some(sleeper));
            // Fails only in a thread that is being torn down; its record then stays taken, and that is all.
            let _ = RETURN_AT_EXIT.try_with(|_| {});
            sleeper
        });
        sleeper.ensure_timer();
        sleeper
    }

    fn ensure_timer(&self) {
        let generation = fork::generation();
        if self.generation.load(Ordering::Relaxed) == generation && self.timer.load(Ordering::Relaxed) != NO_TIMER {
            return;
        }
        let timer = wake_signal::install(on_wake_signal).and_then(thread_timer::create);
        END_OF_WAITS.found(timer.is_ok());
        // SeqCst, as with every access that an interrupter makes: see `interrupt`.
        self.timer.store(timer.map_or(NO_TIMER, |id| id.0), Ordering::SeqCst);
        self.generation.store(generation, Ordering::SeqCst);
    }

    fn timer(&self) -> Option<TimerId> {
        match self.timer.load(Ordering::SeqCst) {
            NO_TIMER => None,
            id => Some(TimerId(id)),
        }
    }

    fn drop_timer(&self) {
        let timer = self.timer();
        self.timer.store(NO_TIMER, Ordering::SeqCst);
        // An interrupter counts itself in before it reads `timer` (both SeqCst): once the count is zero here, whoever
        // comes later reads NO_TIMER, so the number cannot be used after it is given back.
        while self.interrupting.load(Ordering::SeqCst) != 0 {
            std::thread::yield_now();
        }
        if let Some(timer) = timer
            && self.is_of_this_process()
        {
            thread_timer::delete(timer);
        }
    }

    /// False for a record whose thread stayed behind in a parent process.
    pub(super) fn is_of_this_process(&self) -> bool {
        self.generation.load(Ordering::SeqCst) == fork::generation()
    }

    /// Makes the thread's blocking system call return EINTR, now and every millisecond until it disarms its timer.
    /// Async-signal-safe.
    pub(super) fn interrupt(&self) {
        self.interrupting.fetch_add(1, Ordering::SeqCst);
        if let Some(timer) = self.timer()
            && self.is_of_this_process()
        {
            let errno = Errno::last();
            let _ = thread_timer::arm(timer, Duration::ZERO); // refused only if the timer is gone, and its thread too
            errno.set();
        }
        // Not below zero: a fork in a signal handler that came in between has reset the child's count.
        let _ = self.interrupting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1));
    }

    /// Has the calling thread interrupted after `left`, or not at all; false if there is no timer to do it.
    pub(super) fn arm(&self, left: Option<Duration>) -> bool {
        let Some(timer) = self.timer() else { return false };
        match left {
            Some(left) => thread_timer::arm(timer, left),
            None => thread_timer::disarm(timer),
        }
        .is_ok()
    }

    pub(super) fn disarm(&self) {
        if let Some(timer) = self.timer() {
            let _ = thread_timer::disarm(timer); // refused only if the timer is gone
        }
    }

    pub(super) fn has_timer(&self) -> bool {
        self.timer().is_some()
    }

    /// Whether the thread's waits have been brief of late. In a model always: nothing may depend on what was explored before,
    /// and there is more to explore in a brief one.
    pub(super) fn waits_briefly(&self) -> bool {
        cfg!(loom) || self.brief.load(Ordering::Relaxed) >= BRIEF_IN_A_ROW
    }

    /// Remembers whether a wait was brief.
    pub(super) fn remember(&self, brief: bool) {
        let row = if brief { self.brief.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.brief.store(row, Ordering::Relaxed);
    }

    pub(super) fn enter_wait(&self) {
        self.depth.fetch_add(1, Ordering::Relaxed); // read by this thread's own signal handler only
    }

    pub(super) fn leave_wait(&self) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes a record that no thread has, or makes one.
fn claim() -> &'static Sleeper {
    let mut next = ALL.load(Ordering::Acquire);
    // SAFETY: records are leaked boxes, published with Release after they were filled: non-null pointers found by an
    // Acquire load are to live records for ever.
    while let Some(sleeper) = unsafe { next.as_ref() } {
        if sleeper.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            sleeper.brief.store(0, Ordering::Relaxed); // was another thread's
            return sleeper;
        }
        next = sleeper.next.load(Ordering::Acquire);
    }
    let made: &'static Sleeper = Box::leak(Box::new(Sleeper {
        taken: AtomicBool::new(true),
        timer: AtomicI32::new(NO_TIMER),
        interrupting: AtomicU32::new(0),
        depth: AtomicU32::new(0),
        brief: AtomicU32::new(0),
        generation: AtomicU32::new(fork::generation()),
        next: AtomicPtr::new(ptr::null_mut()),
    }));
    let mut head = ALL.load(Ordering::Relaxed);
    loop {
        made.next.store(head, Ordering::Relaxed); // published by the Release below
        let pushed = ptr::from_ref(made).cast_mut();
        match ALL.compare_exchange_weak(head, pushed, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return made,
            Err(newer) => head = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_wait_among_brief_ones_is_remembered() {
        let sleeper = claim();
        let mut told = Vec::new();
        for brief in [true, true, true, true, false, true, true, true] {
            sleeper.remember(brief);
            told.push(sleeper.waits_briefly());
        }
        assert_eq!(told, [false, false, true, true, false, false, false, true]);
        sleeper.taken.store(false, Ordering::Release);
    }
}
