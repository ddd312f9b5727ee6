//! Threads of the library's own: with every signal blocked, so that a program's handlers never run in them.

use std::cell::Cell;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
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

/// What a new thread is given.
struct Start {
    name: CString,
    body: Box<dyn FnOnce() + Send>,
}

/// Runs `body` in a detached thread; the name, of at most 15 bytes, shows in ps and debuggers. ENOMEM: no thread can be had, be
/// it for a limit: EAGAIN, as the C library has it, would look like a call that has to wait.
///
/// Not by the standard library: its threads begin by taking a lock that is nobody's to release in a child which was forked while
/// another thread began or ended, and such a child's threads would never get to their work.
pub(crate) fn spawn(name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> SysResult<()> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let start = Box::into_raw(Box::new(Start { name, body: Box::new(body) }));
    // SAFETY: the sets and attributes are live locals, filled before they are read; the mask is the calling thread's own, which
    // the new thread inherits, and is put back; `start` goes to the new thread alone.
    let created = unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        let mut before = all;
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::zeroed().assume_init();
        libc::pthread_attr_init(&raw mut attributes);
        libc::pthread_attr_setstacksize(&raw mut attributes, stack.max(libc::PTHREAD_STACK_MIN));
        libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
        let mut thread = 0;
        let created = libc::pthread_create(&raw mut thread, &raw const attributes, run, start.cast());
        libc::pthread_attr_destroy(&raw mut attributes);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        created
    };
    if created != 0 {
        // SAFETY: from Box::into_raw above, and no thread has it.
        drop(unsafe { Box::from_raw(start) });
        return Err(Errno::ENOMEM);
    }
    Ok(())
}

extern "C" fn run(start: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: what `spawn` has made for this thread.
    let Start { name, body } = *unsafe { Box::from_raw(start.cast::<Start>()) };
    // SAFETY: the calling thread's own name, and a live string.
    unsafe { libc::pthread_setname_np(libc::pthread_self(), name.as_ptr()) };
    OURS.set(true);
    let _ = catch_unwind(AssertUnwindSafe(body)); // a panic has been told by the hook, and ends this thread alone
    std::ptr::null_mut()
}

/// Waits until the thread that shares `with` has let go of it, which it must be about to do; `generation` is the fork
/// generation that it was made in, for a child has no such thread to wait for.
pub(crate) fn wait_until_released<T>(with: &Arc<T>, generation: u32) {
    while Arc::strong_count(with) > 1 && generation == fork::generation() {
        std::thread::sleep(Duration::from_micros(20));
    }
}
