//! Giving files in memory their pages at once, so that what is missing is an error now and never a SIGBUS later.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::stat::fstat;

use super::SysResult;
use super::memory::limit;

/// From this size on, it is looked up first whether there is as much memory: the kernel would take all there is before it
/// refuses, or on a file system without a limit of its own (a memfd has none) kill processes to get some.
pub(crate) const WORTH_ASKING: u64 = 1 << 20;

/// Gives a range of a file its length and all its memory. All or nothing.
///
/// System call: fallocate.
pub(crate) fn reserve(fd: BorrowedFd<'_>, start: u64, length: usize) -> SysResult<()> {
    let (size, end) = (length as u64, start.checked_add(length as u64).ok_or(Errno::EFBIG)?);
    if size >= WORTH_ASKING && available_memory().is_some_and(|available| size > available) {
        return Err(Errno::ENOSPC);
    }
    if end > fstat(fd)?.st_size.cast_unsigned() {
        checked(end)?; // the kernel asks nobody who stays within the file
    }
    let too_far = |_| Errno::EFBIG;
    let (start, length) = (i64::try_from(start).map_err(too_far)?, i64::try_from(size).map_err(too_far)?);
    allocate(|| fallocate(fd, FallocateFlags::empty(), start, length))
}

/// A size as the kernel wants it. Past RLIMIT_FSIZE the kernel would raise SIGXFSZ, which kills.
pub(crate) fn checked(size: u64) -> SysResult<i64> {
    match limit(libc::RLIMIT_FSIZE) {
        Some(most) if size > most => Err(Errno::EFBIG),
        _ => i64::try_from(size).map_err(|_| Errno::EFBIG),
    }
}

/// An allocation that a signal interrupts is undone, so that frequent signals could keep a large one from ever ending:
/// after a few tries they wait until it is through.
pub(crate) fn allocate(attempt: impl Fn() -> SysResult<()>) -> SysResult<()> {
    for _ in 0..8 {
        match attempt() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let result = attempt();
    before.thread_set_mask()?;
    result
}

/// Memory and swap that could be had without pushing out others, in bytes, as the kernel estimates it; `None` where it does not
/// tell.
pub(crate) fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().strip_suffix(" kB")?.parse().ok()
    };
    Some((field("MemAvailable")? + field("SwapFree").unwrap_or(0)) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn reserving_a_range_takes_its_pages() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        reserve(file.as_fd(), 4096, 8192).unwrap();
        let found = fstat(&file).unwrap();
        assert_eq!((found.st_size, found.st_blocks * 512), (4096 + 8192, 8192));
    }

    #[test]
    fn what_cannot_fit_is_refused_before_it_is_tried() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        assert_eq!(reserve(file.as_fd(), 0, 1 << 50), Err(Errno::ENOSPC));
        assert_eq!(reserve(file.as_fd(), u64::MAX, 1), Err(Errno::EFBIG));
        assert_eq!(reserve(file.as_fd(), 1 << 63, 1), Err(Errno::EFBIG));
        assert_eq!(fstat(&file).unwrap().st_size, 0);
    }
}
