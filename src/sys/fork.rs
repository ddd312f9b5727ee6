//! How many forks lie between this process and the one that loaded the library, and what a fork does not hand on.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use super::{SysResult, check};

static GENERATION: AtomicU32 = AtomicU32::new(0);
static WATCHED: AtomicBool = AtomicBool::new(false);

/// What a floor above has to do in a child, a `fn()` or null. Release when set, Acquire when called.
static THEN: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Forks that this process has begun, and that it has come back from.
static BEGUN: AtomicU32 = AtomicU32::new(0);
static ENDED: AtomicU32 = AtomicU32::new(0);

extern "C" fn before() {
    BEGUN.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn in_parent() {
    ENDED.fetch_add(1, Ordering::SeqCst);
}

/// Runs `step` at a time when no fork is under way; `None` if one began meanwhile, so that a child may have a copy of
/// what `step` made.
pub(super) fn between_forks<T>(step: impl FnOnce() -> T) -> Option<T> {
    let begun = BEGUN.load(Ordering::SeqCst);
    if ENDED.load(Ordering::SeqCst) != begun {
        return None;
    }
    let made = step();
    (BEGUN.load(Ordering::SeqCst) == begun).then_some(made)
}

extern "C" fn in_child() {
    super::not_inherited::close_all_in_child();
    // The child has a single thread, so nothing can read between this and the return of fork.
    GENERATION.fetch_add(1, Ordering::Relaxed);
    ENDED.store(BEGUN.load(Ordering::Relaxed), Ordering::Relaxed);
    let then = THEN.load(Ordering::Acquire);
    if !then.is_null() {
        // SAFETY: the only non-null values ever stored are `fn()` pointers, below.
        unsafe { std::mem::transmute::<*mut (), fn()>(then)() };
    }
}

/// Has `then`, of which there is one in the library, run in every child made by fork from now on, after the generation
/// has changed and before fork returns. It must be async-signal-safe.
pub(crate) fn then_in_child(then: fn()) {
    THEN.store(then as *mut (), Ordering::Release);
    generation();
}

/// A number that changes in a child made by `fork`, so that bindings can tell what belongs to threads of the parent. Never
/// blocks. Library call: pthread_atfork.
pub fn generation() -> u32 {
    // No Once: a fork while another thread is inside would leave the child waiting for that thread for ever. Threads
    // that come here together register twice, and forks then count twice, which is as good.
    if !WATCHED.load(Ordering::Relaxed) {
        // SAFETY: these are extern "C" functions without arguments that only touch atomics and close, and they stay
        // mapped for the life of the process: the shared library is linked with -z nodelete. A failure (ENOMEM) means
        // that children keep the parent's generation; they then miss early ends of waits, and nothing worse.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        WATCHED.store(true, Ordering::Relaxed);
    }
    // Relaxed: the value changes only across fork, which orders everything.
    GENERATION.load(Ordering::Relaxed)
}

/// As [`generation`], and async-signal-safe: for code that runs after a first call of `generation`.
#[inline]
pub(crate) fn generation_in_handler() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Puts `new` in the place of `old` under its number, closed on exec: for a process that gives an inherited object a
/// kernel object, or a description, of its own.
pub(crate) fn replace_descriptor(old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> SysResult<()> {
    // SAFETY: both are open for the length of the call, and so is the number of `old` after it: it changes what it
    // refers to and not who owns it.
    check(unsafe { libc::dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) }).map(drop)
}
