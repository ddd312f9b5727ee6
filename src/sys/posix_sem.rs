//! POSIX semaphores: a counter in memory that processes share, waited for by futex. nix has none of it.

use std::ffi::CStr;
use std::ptr::NonNull;

use nix::errno::Errno;

use super::{SysResult, check};
use crate::timeout::Deadline;

/// The largest value, SEM_VALUE_MAX.
pub(crate) const MAX: u32 = i32::MAX.cast_unsigned();

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    // In glibc since 2.30; the libc crate does not declare it.
    fn sem_clockwait(sem: *mut libc::sem_t, clock: libc::clockid_t, deadline: *const libc::timespec) -> libc::c_int;
}

/// A pointer to a live semaphore: the one invariant that all calls here rest on. Whoever makes one guarantees it, for
/// as long as the value lives: `open` by owning a mapping until drop, `init_at` and `at` by their callers' promise.
pub(crate) struct Semaphore {
    pointer: NonNull<libc::sem_t>,
    mapped: bool,
}

// SAFETY: the sem_ functions may be called from any thread at any time; that is what a semaphore is for.
unsafe impl Send for Semaphore {}
// SAFETY: as above.
unsafe impl Sync for Semaphore {}

/// How `open` treats a name.
#[derive(Clone, Copy)]
pub(crate) enum Open {
    Existing,
    New { mode: u32, initial: u32 },
}

impl Semaphore {
    pub(crate) fn open(name: &CStr, how: Open) -> SysResult<Semaphore> {
        // SAFETY: `name` is a live C string; with O_CREAT the two further arguments that the call reads are there, both
        // of the width that C passes them in.
        let pointer = unsafe {
            match how {
                Open::Existing => libc::sem_open(name.as_ptr(), 0),
                Open::New { mode, initial } => {
                    libc::sem_open(name.as_ptr(), libc::O_CREAT | libc::O_EXCL, mode as libc::c_uint, initial)
                }
            }
        };
        if pointer == libc::SEM_FAILED {
            return Err(Errno::last());
        }
        let semaphore = Semaphore { pointer: NonNull::new(pointer).ok_or(Errno::EIO)?, mapped: true };
        if semaphore.is_sound() { Ok(semaphore) } else { Err(Errno::EBADMSG) }
    }

    /// Makes a semaphore that processes share in memory of the caller's.
    ///
    /// # Safety
    /// `pointer` is to memory of the size and alignment of a `sem_t`, writable and mapped for as long as the value
    /// lives, and nobody uses a semaphore that is there already.
    pub(crate) unsafe fn init_at(pointer: NonNull<libc::sem_t>, initial: u32) -> SysResult<Semaphore> {
        // SAFETY: the caller promises memory for it.
        check(unsafe { libc::sem_init(pointer.as_ptr(), 1, initial) })?;
        Ok(Semaphore { pointer, mapped: false })
    }

    /// Uses a semaphore that somebody made.
    ///
    /// # Safety
    /// As `init_at`, except that a semaphore is there and may be in use.
    pub(crate) unsafe fn at(pointer: NonNull<libc::sem_t>) -> SysResult<Semaphore> {
        let semaphore = Semaphore { pointer, mapped: false };
        if semaphore.is_sound() { Ok(semaphore) } else { Err(Errno::EBADMSG) }
    }

    pub(crate) fn as_ptr(&self) -> *mut libc::sem_t {
        self.pointer.as_ptr()
    }

    /// Whether waiting on it can be left to the C library, which aborts the process when the flags that it keeps in the
    /// semaphore are none that it has written: a file of the right name and size may hold anything.
    fn is_sound(&self) -> bool {
        #[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
        {
            const FLAGS_AT: usize = 8; // after a 64-bit word with the value and the number of waiters
            const PRIVATE: u32 = 0;
            const SHARED: u32 = 128;
            // SAFETY: lies inside the live semaphore and is aligned; volatile, as another process may write it.
            let flags = unsafe { self.pointer.as_ptr().byte_add(FLAGS_AT).cast::<u32>().read_volatile() };
            flags == SHARED || (flags == PRIVATE && !self.mapped)
        }
        #[cfg(not(all(target_env = "gnu", target_pointer_width = "64")))]
        true
    }

    #[inline]
    pub(crate) fn try_wait(&self) -> SysResult<()> {
        // SAFETY: a live semaphore, by the invariant.
        check(unsafe { libc::sem_trywait(self.pointer.as_ptr()) }).map(drop)
    }

    /// Waits until the value is above zero and takes one; EINTR when a signal was handled, also one with SA_RESTART
    /// (which holds for waits with a deadline only, and so even for ever gets one).
    pub(crate) fn wait(&self, deadline: Deadline) -> SysResult<()> {
        #[cfg(target_env = "gnu")]
        {
            let deadline = deadline.as_timespec();
            // SAFETY: a live semaphore, by the invariant; the deadline is a live local.
            check(unsafe { sem_clockwait(self.pointer.as_ptr(), libc::CLOCK_MONOTONIC, &raw const deadline) }).map(drop)
        }
        #[cfg(not(target_env = "gnu"))]
        {
            let _ = deadline; // elsewhere the caller's timer ends the wait
            // SAFETY: a live semaphore, by the invariant.
            check(unsafe { libc::sem_wait(self.pointer.as_ptr()) }).map(drop)
        }
    }

    #[inline]
    pub(crate) fn post(&self) -> SysResult<()> {
        // SAFETY: a live semaphore, by the invariant.
        check(unsafe { libc::sem_post(self.pointer.as_ptr()) }).map(drop)
    }

    pub(crate) fn value(&self) -> SysResult<u32> {
        let mut value = 0;
        // SAFETY: a live semaphore, by the invariant, and a live local.
        check(unsafe { libc::sem_getvalue(self.pointer.as_ptr(), &raw mut value) })?;
        Ok(u32::try_from(value).unwrap_or(0)) // POSIX allows the number of waiters, negated
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        if self.mapped {
            // SAFETY: came from sem_open, is closed once, and `self` was the last that could use it.
            unsafe { libc::sem_close(self.pointer.as_ptr()) };
        }
    }
}

pub(crate) fn unlink(name: &CStr) -> SysResult<()> {
    // SAFETY: a live C string.
    check(unsafe { libc::sem_unlink(name.as_ptr()) }).map(drop)
}
