//! Threads of the library's own: with every signal blocked, so that a program's handlers never run in them.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::{SysResult, fork};

/// What a thread that sits in one system call needs of stack, generously.
pub(crate) const SMALL_STACK: usize = 256 * 1024;

thread_local! {
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is one of these: no language's hook has any business in it.
pub(crate) fn is_ours() -> bool {
    OURS.get()
}

/// Runs `body` in a detached thread; the name shows in ps and debuggers. ENOMEM: no thread can be had, be it for a limit:
/// EAGAIN, as the C library has it, would look like a call that has to wait.
pub(crate) fn spawn(name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> SysResult<()> {
    // SAFETY: the sets are live locals, filled before they are read; the mask is the calling thread's own, which the
    // new thread inherits, and is put back.
    let before = unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        let mut before = all;
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    };
    let body = || {
        OURS.set(true);
        body();
    };
    let spawned = std::thread::Builder::new().name(name.into()).stack_size(stack).spawn(body);
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    spawned.map(drop).map_err(|_| Errno::ENOMEM)
}

/// Waits until the thread that shares `with` has let go of it, which it must be about to do; `generation` is the fork
/// generation that it was made in, for a child has no such thread to wait for.
pub(crate) fn wait_until_released<T>(with: &Arc<T>, generation: u32) {
    while Arc::strong_count(with) > 1 && generation == fork::generation() {
        std::thread::sleep(Duration::from_micros(20));
    }
}
