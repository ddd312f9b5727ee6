//! Sleeping on a word of shared memory, and waking those who do.
//!
//! System calls: futex FUTEX_WAIT and FUTEX_WAKE, without FUTEX_PRIVATE_FLAG: the word is known to the kernel by the
//! page of the file that it lies in, so processes may have it mapped at different addresses.

use std::time::Duration;

use super::direct::call6;
use super::{SysResult, check};
use crate::sync_atomics::AtomicU32;
use crate::timeout::timespec;

/// Sleeps while `word` holds `expected`, for at most `most`. `EAGAIN`: it holds something else; `ETIMEDOUT`; `EINTR`.
///
/// There is always a timeout: without one the kernel restarts the call after a signal whose handler asked for that,
/// and nobody could end the wait.
pub(crate) fn wait(word: &AtomicU32, expected: u32, most: Duration) -> SysResult<()> {
    let most = timespec(most);
    // SAFETY: the word is live and aligned for the length of the borrow, the timeout is a live local; FUTEX_WAIT only
    // reads both.
    check(unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const most, 0usize, 0)
    })?;
    Ok(())
}

/// Wakes up to `most` sleepers; how many there were. Never blocks.
pub(crate) fn wake(word: &AtomicU32, most: u32) -> usize {
    // SAFETY: FUTEX_WAKE takes the address for a name and does not touch what is there.
    let woken =
        unsafe { call6(libc::SYS_futex, word.as_ptr() as usize, libc::FUTEX_WAKE as usize, most as usize, 0, 0, 0) };
    // Refused only for an address that is no futex's (EINVAL, EFAULT); a live reference is one.
    woken.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    use crate::sync_atomics::Ordering;

    #[test]
    fn waits_only_for_the_value_and_only_so_long() {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 2, Duration::from_secs(30)), Err(Errno::EAGAIN));
        assert_eq!(wait(&word, 1, Duration::from_millis(5)), Err(Errno::ETIMEDOUT));
        assert_eq!(wake(&word, 1), 0);
    }

    #[test]
    fn wakes_a_sleeper() {
        let word = AtomicU32::new(0);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while word.load(Ordering::Acquire) == 0 {
                    let _ = wait(&word, 0, Duration::from_secs(30));
                }
            });
            word.store(1, Ordering::Release);
            wake(&word, 1);
        });
    }
}
