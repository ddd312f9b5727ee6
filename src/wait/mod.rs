//! Waiting: every blocking call of the library goes through here, so that each has a deadline, obeys cancellation and
//! the closing of its object, and never shows EINTR.
//!
//! All of it is the slow path: a call tries first, and comes here when it would block.

mod ending;
mod knocking;
mod operation;
mod pauses;
pub(crate) mod scope;
mod sleeper;
mod turn;

use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, ppoll};
use nix::sys::time::TimeSpec;

pub(crate) use ending::Ending;
pub(crate) use operation::{Object, Operation};
pub(crate) use pauses::Pauses;
use sleeper::Sleeper;
pub(crate) use turn::{Forked, Turn, Turns};

use crate::sync_atomics::AtomicU32;
use crate::sys::{SysResult, background, fork, futex, wake_signal};
use crate::timeout::{Deadline, Timeout, about_now};

/// Without a timer that could interrupt it, a wait looks around this often.
const LOOK_AROUND: Duration = Duration::from_millis(20);
/// The shortest time between two interruptions by a second thread.
const KNOCK_AGAIN: Duration = Duration::from_millis(1);
/// A sleep without end; a futex needs some timeout to be interruptible.
const FAR: Duration = Duration::from_secs(3600);
/// A wait asks the hook this often though nothing has interrupted it: a signal that comes just before it sleeps interrupts
/// nothing.
const ASK_HOOK: Duration = Duration::from_secs(2);

/// A language's hook: called when a signal interrupts a wait; true if the wait shall end (with EINTR).
static HOOK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Has `hook` called, in the waiting thread, whenever a signal interrupts a wait, and now and then in between; if it returns
/// true, the wait ends with `EINTR`. This is how Python runs its signal handlers inside waits; there is one hook per process.
pub fn set_interrupt_hook(hook: fn() -> bool) {
    // Release pairs with the Acquire in `hook_says_stop`.
    HOOK.store(hook as *mut (), Ordering::Release);
}

/// Whether the waits of this thread ask a hook.
fn has_hook() -> bool {
    !HOOK.load(Ordering::Relaxed).is_null() && !background::is_ours()
}

fn hook_says_stop() -> bool {
    let hook = HOOK.load(Ordering::Acquire);
    if hook.is_null() || background::is_ours() {
        return false;
    }
    // SAFETY: the only non-null values ever stored are `fn() -> bool` pointers, above.
    let hook: fn() -> bool = unsafe { std::mem::transmute::<*mut (), fn() -> bool>(hook) };
    hook()
}

/// One wait of the calling thread on one object; others can end it from `begin` until it is dropped.
pub(crate) struct Wait<'a> {
    sleeper: &'static Sleeper,
    slot: &'a AtomicPtr<Sleeper>,
    object: &'a Ending,
    deadline: Deadline,
    /// Whether the wake signal is known to get through to this thread.
    open: std::cell::Cell<bool>,
    /// The wake signal, if this thread had it blocked and gets it blocked again.
    block_again: std::cell::Cell<Option<libc::c_int>>,
    armed: std::cell::Cell<bool>,
    /// When it first slept, if it was taken for a long one.
    slept: std::cell::Cell<Option<Duration>>,
    /// When the hook is to be asked though nothing has interrupted.
    ask_hook: std::cell::Cell<Option<Duration>>,
    generation: u32,
}

impl<'a> Wait<'a> {
    /// Starts the clock, and lets others end this wait.
    pub(crate) fn begin(object: &'a Ending, timeout: Timeout) -> Wait<'a> {
        let sleeper = Sleeper::of_this_thread();
        sleeper.enter_wait();
        let slot = object.join(sleeper);
        let deadline = Deadline::after(timeout);
        Wait {
            sleeper,
            slot,
            object,
            deadline,
            open: std::cell::Cell::new(false),
            block_again: std::cell::Cell::new(None),
            armed: std::cell::Cell::new(false),
            slept: std::cell::Cell::new(None),
            ask_hook: std::cell::Cell::new(None),
            generation: fork::generation_in_handler(),
        }
    }

    /// Whether this process is a child that a signal's handler, run by the hook, has made in the middle of it.
    pub(crate) fn is_parents(&self) -> bool {
        self.generation != fork::generation_in_handler()
    }

    /// Lets the wake signal through for as long as this wait lasts. A system call, so not for waits that may be short.
    fn open_up(&self) {
        if !self.open.replace(true) {
            self.block_again.set(wake_signal::taken().filter(|signal| wake_signal::unblock(*signal)));
        }
    }

    /// Starts the clock anew.
    pub(crate) fn restart(&mut self, timeout: Timeout) {
        self.deadline = Deadline::after(timeout);
    }

    /// Fails if the wait has to end: ECANCELED, or ETIMEDOUT.
    pub(crate) fn check(&self) -> SysResult<()> {
        if self.object.is_raised() || scope::any_raised() {
            return Err(Errno::ECANCELED);
        }
        if self.deadline.has_passed() {
            return Err(Errno::ETIMEDOUT);
        }
        Ok(())
    }

    /// What to do after EINTR: language hook, then look whether to go on.
    pub(crate) fn interrupted(&self) -> SysResult<()> {
        // The shot may be a repeating one from somebody who wanted an earlier wait to end: stop it first, look second;
        // whoever wants this one to end has set the flag before arming.
        self.sleeper.disarm();
        if hook_says_stop() {
            return Err(Errno::EINTR);
        }
        // The hook may have forked, and this may be the child: it needs a timer of its own.
        Sleeper::of_this_thread();
        self.check()
    }

    /// How long a sleep may be before the hook is to be asked. The first time that is soon, as the caller may have looked
    /// again and again before, for long enough to miss a signal; but not at once, as asking may take longer than the wait.
    fn until_hook(&self) -> Option<Duration> {
        if !has_hook() {
            return None;
        }
        let now = about_now();
        let at = self.ask_hook.get().unwrap_or(now + LOOK_AROUND);
        self.ask_hook.set(Some(at));
        Some(at.saturating_sub(now).max(KNOCK_AGAIN))
    }

    /// Asks the hook if that is due, as after an interruption, and then `again` after this time.
    pub(crate) fn ask_hook_if_due(&self, again: Duration) -> SysResult<()> {
        if self.until_hook().is_some_and(|left| left <= KNOCK_AGAIN) {
            self.ask_hook.set(Some(about_now() + again));
            self.interrupted()?;
        }
        Ok(())
    }

    /// Sleeps until one of `fds` is ready; the caller looks at `revents`.
    pub(crate) fn poll(&self, fds: &mut [PollFd<'_>]) -> SysResult<()> {
        self.poll_until(fds, Deadline::Never)
    }

    /// As [`Wait::poll`], but no longer than to `end`, which is no failure.
    pub(crate) fn poll_until(&self, fds: &mut [PollFd<'_>], end: Deadline) -> SysResult<()> {
        self.open_up();
        loop {
            self.check()?;
            let look_around = (!self.sleeper.has_timer()).then_some(LOOK_AROUND);
            let left = [self.deadline.remaining(), end.remaining(), look_around].into_iter().flatten().min();
            match ppoll(fds, left.map(TimeSpec::from), None) {
                Ok(0) if end.has_passed() => return Ok(()),
                Ok(0) => {}
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => self.interrupted()?,
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Sleeps while `word` holds `expected`, for at most `most` if given; true if it was woken or the word differs,
    /// false once `most` is over, or earlier.
    ///
    /// The caller may have the wake signal blocked. A thread whose waits have been brief of late sleeps for a moment without
    /// asking: only if nobody comes is it worth a system call to let the signal through. Others let it through first, and are
    /// not woken for that.
    pub(crate) fn futex(&self, word: &AtomicU32, expected: u32, most: Option<Duration>) -> SysResult<bool> {
        self.check()?;
        if !self.open.get() && !self.sleeper.waits_briefly() {
            self.slept.set(Some(about_now()));
            self.open_up();
        }
        let look_around = (!self.open.get() || !self.sleeper.has_timer()).then_some(LOOK_AROUND);
        let bounds = [self.deadline.remaining(), most, look_around, self.until_hook(), Some(FAR)];
        match futex::wait(word, expected, bounds.into_iter().flatten().min().unwrap_or(FAR)) {
            Ok(()) | Err(Errno::EAGAIN) => Ok(true),
            Err(Errno::ETIMEDOUT) => {
                if !self.open.get() {
                    self.sleeper.remember(false);
                    self.open_up();
                }
                self.ask_hook_if_due(ASK_HOOK)?;
                Ok(false)
            }
            Err(Errno::EINTR) => self.interrupted().map(|()| true),
            Err(errno) => Err(errno),
        }
    }

    /// Has a call without a timeout that comes next interrupted at the deadline; false if there is no timer for it.
    fn arm(&self) -> bool {
        if self.deadline == Deadline::Never && !self.armed.get() {
            return self.sleeper.has_timer(); // nobody has armed it: nothing to undo
        }
        self.armed.set(true);
        self.sleeper.arm(self.deadline.remaining())
    }

    /// Runs `call`, which blocks in the kernel and knows no timeout, until it gives something else than EINTR.
    ///
    /// Where no timer can be had, a second thread knocks now and then: ENOMEM if there can be none.
    pub(crate) fn call<T>(&self, mut call: impl FnMut(Deadline) -> SysResult<T>) -> SysResult<T> {
        self.open_up();
        loop {
            // Arm first, look second: an interrupter sets its flag and then arms, so if the look misses the flag, the
            // interrupter's arming comes after ours and stands.
            let armed = self.arm();
            self.check()?;
            let result = if armed {
                call(self.deadline)
            } else {
                let pause = self.deadline.remaining().map_or(LOOK_AROUND, |left| left.min(LOOK_AROUND));
                knocking::knocking(pause.max(KNOCK_AGAIN), || call(self.deadline))
            };
            match result {
                Err(Errno::EINTR) => self.interrupted()?,
                result => return result,
            }
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.armed.get() {
            self.sleeper.disarm();
        }
        if let Some(slept) = self.slept.get() {
            self.sleeper.remember(about_now().saturating_sub(slept) < LOOK_AROUND);
        }
        Ending::leave(self.slot);
        self.sleeper.leave_wait();
        if let Some(signal) = self.block_again.get() {
            wake_signal::block(signal);
        }
    }
}
