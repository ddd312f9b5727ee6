//! Memory that other processes write at the same time: mapped whole, and reached only through atomics and copies.
//!
//! # Safety
//! A [`Mapping`] stays where it is until it is dropped, and everything handed out borrows from it. Bytes in it may change
//! at any time, under the hands of a peer that keeps no rules, so nothing here makes a plain reference or slice to them:
//! words are atomics (any bits are a valid value), the rest is copied through raw pointers, and what a copy yields is
//! bytes that the caller checks.

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::SysResult;
#[cfg(loom)]
use crate::modelled::{copy_in, copy_out};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::memory::page_size;

/// A structure that may lie in shared memory.
///
/// # Safety
/// Made of atomics only (arrays and `repr(C)` structures of them included), so that any bits are a value and others may
/// write at any time.
pub(crate) unsafe trait Record {}

// SAFETY: an atomic.
unsafe impl Record for AtomicU64 {}

/// Bytes of a file, mapped for reading and writing, shared.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    length: usize,
    /// How many more are mapped in front of them, as mappings begin at pages.
    skipped: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and is reached through atomics and copies only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes, at least one; the file must be that long for as long as the mapping lives.
    pub(crate) fn new(fd: impl AsFd, length: usize) -> SysResult<Mapping> {
        Mapping::of_range(fd, 0, length)
    }

    /// The same from `start` on.
    pub(crate) fn of_range(fd: impl AsFd, start: u64, length: usize) -> SysResult<Mapping> {
        let skipped = start % page_size() as u64;
        let offset = libc::off_t::try_from(start - skipped).map_err(|_| Errno::EINVAL)?;
        let skipped = skipped as usize; // less than a page
        let size = length.checked_add(skipped).filter(|_| length > 0).and_then(NonZeroUsize::new);
        let size = size.ok_or(Errno::EINVAL)?;
        // SAFETY: the kernel chooses a free range, so nothing that lives is replaced.
        let base = unsafe {
            mmap(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, &fd, offset)?
        };
        // SAFETY: less than a page from the start of at least one.
        let base = unsafe { base.cast::<u8>().add(skipped) };
        #[cfg(loom)]
        crate::modelled::map(base.as_ptr() as usize, length, &fd);
        Ok(Mapping { base, length, skipped })
    }

    fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        (0..self.length / size_of::<AtomicU64>()).filter_map(|index| self.record(index * size_of::<AtomicU64>()))
    }

    /// Whether all its whole words are zero.
    pub(crate) fn is_clear(&self) -> bool {
        // Relaxed: nobody else writes, or what is found means nothing.
        self.words().all(|word| word.load(Ordering::Relaxed) == 0)
    }

    /// Sets all its whole words to zero, but for those that begin before this offset.
    pub(crate) fn clear_behind(&self, offset: usize) {
        // Relaxed: whoever may look is told by other means.
        self.words().skip(offset.div_ceil(size_of::<AtomicU64>())).for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// The record at this offset; `None` outside or unaligned.
    pub(crate) fn record<T: Record>(&self, offset: usize) -> Option<&T> {
        let at = self.within(offset, size_of::<T>())?;
        // SAFETY: in range and aligned, lives as long as `self`; the rest is what `Record` says.
        at.cast::<T>().is_aligned().then(|| unsafe { at.cast().as_ref() })
    }

    fn within(&self, offset: usize, length: usize) -> Option<NonNull<u8>> {
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.length);
        // SAFETY: inside the mapping, as just checked.
        fits.then(|| unsafe { self.base.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[cfg(loom)]
        crate::modelled::unmap(self.base.as_ptr() as usize);
        // SAFETY: the range is the one that `of_range` mapped, and whatever borrowed from it is gone. A failure is not
        // possible for a range that is mapped.
        let _ = unsafe { munmap(self.base.sub(self.skipped).cast(), self.skipped + self.length) };
    }
}

/// A record that keeps its mapping, checked once.
pub(crate) struct Kept<T> {
    at: NonNull<T>,
    _keeps: Arc<Mapping>,
}

// SAFETY: as for Mapping, which it keeps alive; what it points to is atomics.
unsafe impl<T: Record> Send for Kept<T> {}
// SAFETY: as above.
unsafe impl<T: Record> Sync for Kept<T> {}

impl<T: Record> Kept<T> {
    /// As [`Mapping::record`].
    pub(crate) fn new(memory: &Arc<Mapping>, offset: usize) -> Option<Kept<T>> {
        let at = NonNull::from(memory.record::<T>(offset)?);
        Some(Kept { at, _keeps: Arc::clone(memory) })
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Kept<T> {
        Kept { at: self.at, _keeps: Arc::clone(&self._keeps) }
    }
}

impl<T> std::fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kept").field(&self.at).finish()
    }
}

impl<T: Record> Deref for Kept<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: `new` had it from `Mapping::record`, and the mapping stays where it is as long as `self` lives.
        unsafe { self.at.as_ref() }
    }
}

/// A power of two of places of equal size inside a mapping, checked once so that reaching one costs a mask.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    first: NonNull<u8>,
    stride: usize,
    mask: u64,
    _keeps: Arc<Mapping>,
}

// SAFETY: as for Mapping, which it keeps alive.
unsafe impl Send for Places {}
// SAFETY: as above.
unsafe impl Sync for Places {}

impl Places {
    /// `None` unless `count` is a power of two, and all places lie inside and are aligned for words.
    pub(crate) fn new(memory: &Arc<Mapping>, offset: usize, stride: usize, count: u64) -> Option<Places> {
        let length = usize::try_from(count).ok()?.checked_mul(stride)?;
        let first = memory.within(offset, length)?;
        let aligned = first.cast::<AtomicU64>().is_aligned() && stride.is_multiple_of(8) && stride > 0;
        (aligned && count.is_power_of_two()).then(|| Places {
            first,
            stride,
            mask: count - 1,
            _keeps: Arc::clone(memory),
        })
    }

    pub(crate) fn count(&self) -> u64 {
        self.mask + 1
    }

    #[inline(always)]
    fn at(&self, index: u64) -> NonNull<u8> {
        // SAFETY: a masked index is below the count, and `new` found count × stride bytes inside the mapping, which
        // `_keeps` keeps where it is. No wider than usize, as the length was not.
        unsafe { self.first.add((index & self.mask) as usize * self.stride) }
    }

    /// The word `at` words into a place; the index wraps.
    #[inline(always)]
    pub(crate) fn word<const AT: usize>(&self, index: u64) -> &AtomicU64 {
        debug_assert!((AT + 1) * size_of::<AtomicU64>() <= self.stride);
        let at = AT.min(self.stride / size_of::<AtomicU64>() - 1);
        // SAFETY: inside the place by the line above, aligned as `new` checked; otherwise as in `Mapping::record`.
        unsafe { self.at(index).cast::<AtomicU64>().add(at).as_ref() }
    }

    /// Asks for a place's first bytes to come near, where the processor can be told so. Changes nothing else.
    #[inline(always)]
    pub(crate) fn prefetch(&self, index: u64) {
        let at = self.at(index).as_ptr();
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, which may name any address; SSE is part of x86-64.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(at.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = at;
    }

    /// Copies bytes into a place, `skip` bytes from its start; what does not fit is not copied.
    #[inline(always)]
    pub(crate) fn put(&self, index: u64, skip: usize, bytes: &[u8]) {
        let (skip, length) = self.clamp(skip, bytes.len());
        // SAFETY: source and target are live for `length` bytes and cannot overlap, as one is private. The target is
        // the caller's to write until it is published; a peer that writes there nevertheless spoils bytes, not memory.
        unsafe { copy_in(self.at(index).add(skip).as_ptr(), &bytes[..length]) };
    }

    /// Copies bytes out of a place; as many as fit, and how many that was.
    #[inline(always)]
    pub(crate) fn get(&self, index: u64, skip: usize, buffer: &mut [u8]) -> usize {
        let (skip, length) = self.clamp(skip, buffer.len());
        // SAFETY: as in `put`, the other way round; the bytes may be any, and bytes are what the caller gets.
        unsafe { copy_out(self.at(index).add(skip).as_ptr(), &mut buffer[..length]) };
        length
    }

    /// As [`Places::put`] where there is one place.
    #[inline(always)]
    pub(crate) fn put_at(&self, skip: usize, bytes: &[u8]) {
        let (skip, length) = self.clamp(skip, bytes.len());
        // SAFETY: as in `put`; the first place is one.
        unsafe { copy_in(self.first.add(skip).as_ptr(), &bytes[..length]) };
    }

    /// As [`Places::get`] where there is one place.
    #[inline(always)]
    pub(crate) fn get_at(&self, skip: usize, buffer: &mut [u8]) -> usize {
        let (skip, length) = self.clamp(skip, buffer.len());
        // SAFETY: as in `get`; the first place is one.
        unsafe { copy_out(self.first.add(skip).as_ptr(), &mut buffer[..length]) };
        length
    }

    /// Where a place's bytes lie, for access in place.
    pub(crate) fn pointer(&self, index: u64, skip: usize) -> NonNull<u8> {
        let (skip, _) = self.clamp(skip, 0);
        // SAFETY: inside the place, or just behind it.
        unsafe { self.at(index).add(skip) }
    }

    /// The bytes of a place from this offset on, for the kernel to write: where, and how many.
    pub(crate) fn span(&self, index: u64, skip: usize) -> (NonNull<u8>, usize) {
        let (skip, length) = self.clamp(skip, usize::MAX);
        (self.pointer(index, skip), length)
    }

    #[inline(always)]
    fn clamp(&self, skip: usize, length: usize) -> (usize, usize) {
        let skip = skip.min(self.stride);
        (skip, length.min(self.stride - skip))
    }
}

/// A row of words inside a mapping, checked once.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    first: NonNull<AtomicU64>,
    last: usize,
    _keeps: Arc<Mapping>,
}

// SAFETY: as for Mapping, which it keeps alive; what it points to is atomics.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// `None` unless there is at least one, and all lie inside and are aligned.
    pub(crate) fn new(memory: &Arc<Mapping>, offset: usize, count: usize) -> Option<Words> {
        let first = memory.within(offset, count.checked_mul(size_of::<AtomicU64>())?)?;
        let last = count.checked_sub(1)?;
        offset.is_multiple_of(8).then(|| Words { first: first.cast(), last, _keeps: Arc::clone(memory) })
    }

    /// The word at this index; one that is too high stands for the last.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> &AtomicU64 {
        // SAFETY: no further than the last, and `new` found all of them inside the mapping, which `_keeps` keeps where it is;
        // aligned as `new` checked; otherwise as in `Mapping::record`.
        unsafe { self.first.add(index.min(self.last)).as_ref() }
    }
}

/// # Safety
/// There is room for as many bytes.
#[cfg(not(loom))]
#[inline(always)]
unsafe fn copy_in(to: *mut u8, bytes: &[u8]) {
    // SAFETY: what the caller says; a slice of this process does not overlap with a segment.
    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

/// # Safety
/// There are as many bytes.
#[cfg(not(loom))]
#[inline(always)]
unsafe fn copy_out(from: *const u8, bytes: &mut [u8]) {
    // SAFETY: as in `copy_in`.
    unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
}
