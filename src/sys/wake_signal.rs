//! The one signal that this library takes for itself, with a handler that does next to nothing: it makes a blocking
//! system call return EINTR.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;

use super::{SysResult, check};

/// 0 until it is looked for, then the number, or the negated errno if there is none. Release when set, after the handler
/// is in place; Acquire when read. No lock: a fork while another thread holds one would block the child for ever.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// The number of the signal once [`install`] has taken one.
pub(crate) fn taken() -> Option<libc::c_int> {
    Some(SIGNAL.load(Ordering::Acquire)).filter(|signal| *signal > 0)
}

/// The process in which the handler was last seen in place. A fork copies the handlers before the memory: a child may have the
/// number from a thread that took the signal in that instant, and not the handler. Relaxed: who finds another looks itself.
static SEEN_IN: AtomicI32 = AtomicI32::new(0);

/// Takes the highest real-time signal that nobody handles or has blocked yet and installs `handler` for it, once per process.
///
/// The two topmost are left alone: debuggers and instrumentation tools use them.
pub(crate) fn install(handler: extern "C" fn(libc::c_int)) -> SysResult<libc::c_int> {
    // SAFETY: takes nothing and cannot fail.
    let own = unsafe { libc::getpid() };
    let found = match SIGNAL.load(Ordering::Acquire) {
        0 => find(handler),
        known if known > 0 && SEEN_IN.load(Ordering::Relaxed) != own => keep(known, handler),
        known => return if known > 0 { Ok(known) } else { Err(Errno::from_raw(-known)) },
    };
    SIGNAL.store(found.unwrap_or_else(|errno| -(errno as i32)), Ordering::Release);
    SEEN_IN.store(own, Ordering::Relaxed);
    found
}

/// The signal that a parent has taken, if its handler has come along, or can be set again.
fn keep(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> SysResult<libc::c_int> {
    match current(signal)? {
        libc::SIG_DFL => set(signal, handler).map(|()| signal),
        other if other == handler as *const () as usize => Ok(signal),
        _ => find(handler),
    }
}

/// One that has our handler already will do, so that threads which look at the same time find the same as a rule; two of
/// them do no harm. Next best is one that the calling thread has not blocked: who blocks a signal means to wait for it.
/// A thread that blocks everything says nothing by it.
fn find(handler: extern "C" fn(libc::c_int)) -> SysResult<libc::c_int> {
    let ours = handler as *const () as usize;
    let blocked = blocked();
    let (mut free, mut last_choice) = (None, None);
    for signal in (libc::SIGRTMIN()..=libc::SIGRTMAX() - 2).rev() {
        let current = current(signal)?;
        if current == ours {
            return Ok(signal);
        }
        if current == libc::SIG_DFL {
            // SAFETY: a live set that the C library has filled.
            let choice = if unsafe { libc::sigismember(&raw const blocked, signal) } == 1 {
                &mut last_choice
            } else {
                &mut free
            };
            choice.get_or_insert(signal);
        }
    }
    let found = free.or(last_choice).ok_or(Errno::EBUSY)?;
    set(found, handler)?;
    Ok(found)
}

/// The calling thread's mask.
fn blocked() -> libc::sigset_t {
    // SAFETY: zeros are a valid set; with no set to apply the call only fills a live local.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut mask);
        mask
    }
}

/// The handler in place.
fn current(signal: libc::c_int) -> SysResult<usize> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the kernel writes the current action to a live local of the right type; zeros are a valid sigaction.
    let action = unsafe {
        check(libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()))?;
        action.assume_init()
    };
    Ok(action.sa_sigaction)
}

fn set(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> SysResult<()> {
    // SAFETY: zeros are a valid sigaction; the handler has the signature that a handler without SA_SIGINFO needs, is
    // async-signal-safe by its author's word, and stays mapped. No SA_RESTART: ending calls is its purpose. SA_ONSTACK
    // for runtimes whose threads have small stacks.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        check(libc::sigaction(signal, &raw const action, std::ptr::null_mut()))?;
    }
    Ok(())
}

/// Lets the signal through to the calling thread; true if it was blocked before.
pub(crate) fn unblock(signal: libc::c_int) -> bool {
    change_mask(libc::SIG_UNBLOCK, signal)
}

/// Blocks the signal for the calling thread again.
pub(crate) fn block(signal: libc::c_int) {
    change_mask(libc::SIG_BLOCK, signal);
}

/// The calling thread, as [`send`] takes it.
pub(crate) fn this_thread() -> libc::pid_t {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Sends the signal to a thread of this process. A full queue of signals loses it.
pub(crate) fn send(signal: libc::c_int, thread: libc::pid_t) {
    // SAFETY: takes numbers; a thread that is gone, or no longer ours, is refused.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
}

fn change_mask(how: libc::c_int, signal: libc::c_int) -> bool {
    // SAFETY: sets are live locals of the right type, filled before they are read; the call cannot fail with a valid
    // `how`.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(how, &raw const set, &raw mut old);
        libc::sigismember(&raw const old, signal) == 1
    }
}
