//! A range of addresses that memory shared with others is mapped at.
//!
//! System calls: mmap, mremap, munmap, mlock, madvise, msync, shmat, shmdt.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{self, MRemapFlags, MapFlags, MsFlags, ProtFlags};

use super::SysResult;

/// Owns the mapping; it is taken down on drop. Reading and writing through it is the business of the caller, who must
/// expect that other processes write at any time.
pub(crate) struct Region {
    base: NonNull<u8>,
    length: usize,
    origin: Origin,
}

enum Origin {
    Nothing,
    Mmap,
    Shmat,
}

// SAFETY: a Region is an address range that belongs to the process, not to a thread; nothing in it is dereferenced here,
// and what changes the range takes `&mut self`.
unsafe impl Send for Region {}
// SAFETY: as above: through `&self` only the numbers can be read, and calls made that the kernel serialises.
unsafe impl Sync for Region {}

impl Region {
    /// mmap of a file shared with all others that map it; `length` 0 gives an empty region without a mapping.
    pub(crate) fn map(fd: BorrowedFd<'_>, offset: u64, length: usize, writable: bool) -> SysResult<Region> {
        Region::mmap(fd, offset, length, writable, MapFlags::MAP_SHARED)
    }

    /// The same read-only and private: for a file that nobody can change any more, such as a sealed memfd, which kernels
    /// before 6.7 do not map otherwise.
    pub(crate) fn map_unchanging(fd: BorrowedFd<'_>, offset: u64, length: usize) -> SysResult<Region> {
        Region::mmap(fd, offset, length, false, MapFlags::MAP_PRIVATE)
    }

    fn mmap(fd: BorrowedFd<'_>, offset: u64, length: usize, writable: bool, flags: MapFlags) -> SysResult<Region> {
        let Some(size) = NonZeroUsize::new(length) else {
            return Ok(Region { base: NonNull::dangling(), length: 0, origin: Origin::Nothing });
        };
        let offset = libc::off_t::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        // SAFETY: without MAP_FIXED the kernel picks a range that nothing else uses.
        let base = unsafe { mman::mmap(None, size, protection(writable), flags, fd, offset)? };
        Ok(Region { base: base.cast(), length, origin: Origin::Mmap })
    }

    /// shmat of the System V segment `id`, whose size is `length`.
    pub(crate) fn attach(id: i32, length: usize, writable: bool) -> SysResult<Region> {
        let flags = if writable { 0 } else { libc::SHM_RDONLY };
        // SAFETY: with a NULL address the kernel picks a range that nothing else uses.
        let base = unsafe { libc::shmat(id, std::ptr::null(), flags) };
        if base.addr() == usize::MAX {
            return Err(Errno::last());
        }
        let base = NonNull::new(base.cast()).ok_or(Errno::ENOMEM)?;
        Ok(Region { base, length, origin: Origin::Shmat })
    }

    /// The first byte; of an empty region a pointer to nothing.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Puts a mapping of the same file in the place of this one, at the same address: `private` and read-only, or
    /// shared and writable.
    pub(crate) fn replace(&mut self, fd: BorrowedFd<'_>, private: bool) -> SysResult<()> {
        let Some(size) = NonZeroUsize::new(self.length) else { return Ok(()) };
        let share = if private { MapFlags::MAP_PRIVATE } else { MapFlags::MAP_SHARED };
        // SAFETY: the range that MAP_FIXED overwrites is the one this region owns (mmap rounds both to whole pages in
        // the same way), and `&mut self` says that nobody holds references into it.
        unsafe {
            let at = NonZeroUsize::new(self.base.addr().get());
            mman::mmap(at, size, protection(!private), share | MapFlags::MAP_FIXED, fd, 0)?;
        }
        Ok(())
    }

    /// Changes the length; the region may move.
    pub(crate) fn resize(&mut self, length: usize) -> SysResult<()> {
        if length == self.length {
            return Ok(());
        }
        if length == 0 || !matches!(self.origin, Origin::Mmap) {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the old range is the one this region owns, and `&mut self` says that nobody holds references into it.
        self.base =
            unsafe { mman::mremap(self.base.cast(), self.length, length, MRemapFlags::MREMAP_MAYMOVE, None)?.cast() };
        self.length = length;
        Ok(())
    }

    /// mlock: keeps the pages in memory.
    pub(crate) fn lock(&self) -> SysResult<()> {
        if self.length == 0 {
            return Ok(());
        }
        // SAFETY: the range is mapped for as long as `self` lives; locking changes no content.
        unsafe { mman::mlock(self.pointer(), self.length) }
    }

    /// Has all pages present for reading, or for writing. EINVAL on kernels before 5.14.
    pub(crate) fn populate(&self, writable: bool) -> SysResult<()> {
        if self.length == 0 {
            return Ok(());
        }
        let advice = if writable { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
        // SAFETY: the range is mapped for as long as `self` lives; populating changes no content.
        super::check(unsafe { libc::madvise(self.pointer().as_ptr(), self.length, advice) }).map(drop)
    }

    /// msync of whole pages around the range, which must lie inside: waits until a file's disk has the content.
    pub(crate) fn flush(&self, offset: usize, length: usize) -> SysResult<()> {
        if length == 0 {
            return Ok(());
        }
        let into_page = offset % page_size();
        // SAFETY: the caller's range lies inside; rounding its start down to a page keeps it inside, since the region
        // begins on a page. The range is mapped for as long as `self` lives, and no content changes.
        unsafe {
            let start = self.base.add(offset - into_page);
            mman::msync(start.cast(), length + into_page, MsFlags::MS_SYNC)
        }
    }

    fn pointer(&self) -> NonNull<c_void> {
        self.base.cast()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the range came from the call that this one undoes, and the owner of the region has gone, and with it
        // all that borrowed from it. A failure would mean that the range is not mapped: nothing to be done about it.
        unsafe {
            match self.origin {
                Origin::Nothing => {}
                Origin::Mmap => drop(mman::munmap(self.pointer(), self.length)),
                Origin::Shmat => drop(libc::shmdt(self.pointer().as_ptr())),
            }
        }
    }
}

fn protection(writable: bool) -> ProtFlags {
    if writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ }
}

/// The size of a page in bytes.
pub(crate) fn page_size() -> usize {
    // SAFETY: a plain call; it has no way to fail for this name.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// A limit of the process (the soft one); `None` is no limit.
pub(crate) fn limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a live local.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}
