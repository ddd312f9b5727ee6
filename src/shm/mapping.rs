//! Memory that other processes may write at any time, mapped into this one.
//!
//! Safe code gets no references to such memory, since Rust lets a reference's target change only through it: it copies
//! values in and out, or gets atomics, for which concurrent change is what they are made for. For the rest there is the
//! raw pointer, and slices by unsafe functions that state the peer's duty.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use bytemuck::Pod;
use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::copy;
use super::refusal;
use crate::error::{Error, Result};
use crate::sys::SysResult;
use crate::sys::memory::Region;
use crate::sys::taken::POPULATE;

/// What a process may do with memory that it attaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Read only; the permission to write is not needed.
    ReadOnly,
}

impl Access {
    pub(crate) fn is_writable(self) -> bool {
        self == Access::ReadWrite
    }
}

/// Which part of a file to map, and how.
#[derive(Clone, Debug, Default)]
pub struct MapOptions {
    /// Read and write by default.
    pub access: Access,
    /// The first byte, 0 by default; a multiple of the page size.
    pub offset: u64,
    /// How many bytes; 0 is all up to the end of the file.
    pub length: usize,
    /// Have all pages present from the start, so that no first access is slow.
    pub populate: bool,
    /// Keep the pages in memory, never in swap (mlock); counts against RLIMIT_MEMLOCK.
    pub lock: bool,
}

/// Memory shared with other processes, for as long as this value lives.
///
/// Nothing here blocks, except that the first access to a page may read it from a disk. Access is copying
/// ([`read_at`](Mapping::read_at), [`write_at`](Mapping::write_at), [`read`](Mapping::read), [`write`](Mapping::write)),
/// or through atomics ([`atomic_u32`](Mapping::atomic_u32) and its kin). Copies are not synchronised with anything: an
/// aligned word of eight bytes is never torn, anything larger may mix old and new unless a lock or a protocol on
/// atomics keeps writers out. Every offset and length is checked: outside is `EINVAL`, writing to what is attached
/// read-only is `EACCES`.
///
/// If another process makes the file behind the mapping shorter, touching what is gone raises SIGBUS; only a memfd
/// sealed against shrinking, and System V segments, exclude that.
pub struct Mapping {
    region: Region,
    access: Access,
    object: Arc<str>,
    /// What was asked for and is lost when another mapping takes its place. Read where nobody else has it.
    locked: AtomicBool,
    populated: AtomicBool,
}

impl Mapping {
    /// Maps a file, or any descriptor that can be mapped, whose name in errors is `fd:` and its number. The descriptor is
    /// not needed afterwards. Never waits for others. An empty file gives an empty mapping.
    ///
    /// # Errors
    /// `EINVAL` the offset is not a multiple of the page size, or what is asked for passes the end of the file; `EACCES`
    /// the descriptor was not opened for that access; `ENODEV` it cannot be mapped; `ENOMEM` no address space or memory
    /// is left, or RLIMIT_MEMLOCK is too low for `lock`; `EPERM` `lock` is not allowed at all, or a seal forbids writing.
    ///
    /// System calls: fstat, mmap; mlock and madvise on request.
    pub fn from_fd(fd: impl AsFd, options: &MapOptions) -> Result<Mapping> {
        use std::os::fd::AsRawFd;
        let fd = fd.as_fd();
        Mapping::of_file(fd, &Arc::from(format!("fd:{}", fd.as_raw_fd())), options)
    }

    /// As [`Mapping::from_fd`], for an object with an address.
    pub(crate) fn of_file(fd: BorrowedFd<'_>, object: &Arc<str>, options: &MapOptions) -> Result<Mapping> {
        let failed = |errno| Error::new(errno, "map").on(object);
        let size = u64::try_from(fstat(fd).map_err(failed)?.st_size).unwrap_or(0);
        let page = crate::sys::memory::page_size();
        if !options.offset.is_multiple_of(page as u64) {
            return Err(failed(Errno::EINVAL)
                .because_found(format!("the offset {} is not a multiple of the page size, {page}", options.offset)));
        }
        let rest = size.saturating_sub(options.offset);
        let length = if options.length == 0 { usize::try_from(rest).unwrap_or(usize::MAX) } else { options.length };
        if length as u64 > rest {
            return Err(failed(Errno::EINVAL).because_found(format!(
                "{length} bytes from offset {} pass the end of the file at {size}; make it larger first",
                options.offset
            )));
        }
        let region = Region::map(fd, options.offset, length, options.access.is_writable())
            .or_else(|errno| match errno {
                // Write-sealed: the content stays as it is, so that a private mapping shows the same for ever.
                Errno::EPERM if !options.access.is_writable() => Region::map_unchanging(fd, options.offset, length),
                errno => Err(errno),
            })
            .map_err(|errno| refusal::map(failed(errno), options.access))?;
        let mapping = Mapping::new(region, options.access, object);
        mapping.settle(options.populate, options.lock)?;
        Ok(mapping)
    }

    pub(super) fn new(region: Region, access: Access, object: &Arc<str>) -> Mapping {
        let (locked, populated) = (AtomicBool::new(false), AtomicBool::new(false));
        Mapping { region, access, object: Arc::clone(object), locked, populated }
    }

    /// Populates and locks, as asked for.
    pub(super) fn settle(&self, populate: bool, lock: bool) -> Result<()> {
        if lock {
            self.lock()?;
        }
        if populate { self.populate() } else { Ok(()) }
    }

    /// How many bytes can be accessed.
    pub fn len(&self) -> usize {
        self.region.length()
    }

    /// Whether there is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it may be written through this mapping.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The address of the first byte, for code that takes pointers; of an empty mapping a pointer to nothing. Good as
    /// long as the mapping lives and is not grown. Others may write what it points to at any time.
    pub fn as_ptr(&self) -> *mut u8 {
        self.region.base().as_ptr()
    }

    /// Copies bytes out, from `offset` on, as many as `bytes` takes. Errors: `EINVAL` outside.
    #[inline]
    pub fn read_at(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let from = self.range(offset, bytes.len(), "read")?;
        // SAFETY: the range was just checked and is mapped as long as `self` lives; `bytes` is exclusively borrowed.
        unsafe { copy::copy_out(from, bytes) };
        Ok(())
    }

    /// Copies `bytes` in, from `offset` on. Errors: `EINVAL` outside, `EACCES` attached read-only.
    #[inline]
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        let to = self.writable_range(offset, bytes.len(), "write")?;
        // SAFETY: the range was just checked and is mapped writable as long as `self` lives.
        unsafe { copy::copy_in(bytes, to) };
        Ok(())
    }

    /// Copies a value out: any type whose every bit pattern is a value, such as integers, floats, arrays of them, and
    /// structs with `#[derive(bytemuck::Pod)]`. No alignment is needed. Errors: `EINVAL` outside.
    #[inline]
    pub fn read<T: Pod>(&self, offset: usize) -> Result<T> {
        let mut value = T::zeroed();
        self.read_at(offset, bytemuck::bytes_of_mut(&mut value))?;
        Ok(value)
    }

    /// Copies a value in. Errors: as [`Mapping::write_at`].
    #[inline]
    pub fn write<T: Pod>(&self, offset: usize, value: &T) -> Result<()> {
        self.write_at(offset, bytemuck::bytes_of(value))
    }

    /// Copies values out, as many as `values` takes. Errors: `EINVAL` outside.
    pub fn read_slice<T: Pod>(&self, offset: usize, values: &mut [T]) -> Result<()> {
        self.read_at(offset, bytemuck::cast_slice_mut(values))
    }

    /// Copies values in. Errors: as [`Mapping::write_at`].
    pub fn write_slice<T: Pod>(&self, offset: usize, values: &[T]) -> Result<()> {
        self.write_at(offset, bytemuck::cast_slice(values))
    }

    /// Copies `length` bytes out into a new vector. Errors: `EINVAL` outside, `ENOMEM` no memory for the copy.
    pub fn read_vec(&self, offset: usize, length: usize) -> Result<Vec<u8>> {
        self.range(offset, length, "read")?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| self.error(Errno::ENOMEM, "read"))?;
        bytes.resize(length, 0);
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Sets `length` bytes from `offset` on. Errors: as [`Mapping::write_at`].
    pub fn fill(&self, offset: usize, length: usize, byte: u8) -> Result<()> {
        let to = self.writable_range(offset, length, "fill")?;
        // SAFETY: the range was just checked and is mapped writable as long as `self` lives.
        unsafe { copy::fill(to, length, byte) };
        Ok(())
    }

    /// The memory as a slice, without copying.
    ///
    /// # Safety
    /// As long as the slice lives, no process may write to this memory in any way, nor make the file shorter: every peer
    /// has to keep to that, by a lock, by a seal, or by a protocol that all of them follow.
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: the range is mapped as long as `self` lives, and the caller answers for nobody writing to it.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// The memory as a slice that can be written. Errors: `EACCES` attached read-only.
    ///
    /// # Safety
    /// As long as the slice lives, no process may access this memory in any way but through the slice, nor make the file
    /// shorter; that goes for other threads of this process as well.
    #[allow(clippy::mut_from_ref)] // exclusive by the caller's word, which no `&mut` could give over processes
    pub unsafe fn as_mut_slice(&self) -> Result<&mut [u8]> {
        let base = self.writable_range(0, self.len(), "write")?;
        // SAFETY: the range is mapped writable as long as `self` lives, and the caller answers for its being exclusive.
        Ok(unsafe { std::slice::from_raw_parts_mut(base, self.len()) })
    }

    /// Keeps the pages in memory, never in swap, as long as this mapping lives.
    ///
    /// # Errors
    /// `ENOMEM` more than RLIMIT_MEMLOCK allows; `EPERM` nothing may be locked.
    ///
    /// System call: mlock.
    pub fn lock(&self) -> Result<()> {
        self.region.lock().map_err(|errno| refusal::lock(self.error(errno, "mlock"), self.len()))?;
        self.locked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Has all pages present now, so that no first access is slow later. The content stays as it is.
    ///
    /// # Errors
    /// `ENOMEM` the memory is used up.
    ///
    /// System call: madvise with MADV_POPULATE_WRITE or MADV_POPULATE_READ; on kernels before 5.14 each page is touched.
    pub fn populate(&self) -> Result<()> {
        let populated = match self.region.populate(self.access.is_writable()) {
            Ok(()) => {
                POPULATE.found(true);
                Ok(())
            }
            // What an old kernel answers (EINVAL), or a sandbox (ENOSYS, EPERM).
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => {
                POPULATE.found(false);
                self.touch()
            }
            Err(Errno::EFAULT) => Err(self
                .error(Errno::ENOMEM, "populate")
                .because("not all pages can be had: memory, huge pages or the file system ran out, or the file is shorter by now")),
            Err(errno) => Err(self.error(errno, "populate")),
        };
        populated.inspect(|()| self.populated.store(true, Ordering::Relaxed))
    }

    fn touch(&self) -> Result<()> {
        let page = crate::sys::memory::page_size();
        let mut byte = [0];
        (0..self.len()).step_by(page).try_for_each(|offset| self.read_at(offset, &mut byte))
    }

    /// Waits until the disk has what was written to a file's mapping; of use for disk files only. Blocks for as long as
    /// the disk takes, which cannot be bounded.
    ///
    /// # Errors
    /// `EINVAL` outside; `EIO` the disk failed.
    ///
    /// System call: msync with MS_SYNC.
    pub fn flush(&self, offset: usize, length: usize) -> Result<()> {
        self.range(offset, length, "msync")?;
        self.region.flush(offset, length).map_err(|errno| self.error(errno, "msync"))
    }

    /// Makes the mapping cover `length` bytes of its file; it may move.
    pub(crate) fn resize(&mut self, length: usize) -> SysResult<()> {
        self.region.resize(length)
    }

    /// Makes the mapping read-only and keeps its address, for a file whose content nobody changes any more; or undoes it.
    /// What was locked or populated is so again.
    pub(super) fn set_unchanging(&mut self, fd: BorrowedFd<'_>, unchanging: bool) -> Result<()> {
        self.region.replace(fd, unchanging).map_err(|errno| self.error(errno, "mmap"))?;
        self.access = if unchanging { Access::ReadOnly } else { Access::ReadWrite };
        self.settle(self.populated.load(Ordering::Relaxed), self.locked.load(Ordering::Relaxed))
    }

    #[cold]
    fn error(&self, errno: Errno, operation: &'static str) -> Error {
        Error::new(errno, operation).on(&self.object)
    }

    /// A pointer to `length` bytes from `offset` on, all of them inside.
    #[inline]
    fn range(&self, offset: usize, length: usize, operation: &'static str) -> Result<*mut u8> {
        match offset.checked_add(length) {
            Some(end) if end <= self.len() => Ok(self.as_ptr().wrapping_add(offset)),
            _ => Err(self.error(Errno::EINVAL, operation).because_found(format!(
                "{length} bytes from offset {offset} pass the end of the memory at {}",
                self.len()
            ))),
        }
    }

    #[inline]
    fn writable_range(&self, offset: usize, length: usize, operation: &'static str) -> Result<*mut u8> {
        if !self.access.is_writable() {
            return Err(self
                .error(Errno::EACCES, operation)
                .because("the memory is attached read-only; attach it for reading and writing"));
        }
        self.range(offset, length, operation)
    }

    /// As `range`, for an access of `size` bytes that must be aligned.
    #[inline]
    fn aligned(&self, offset: usize, size: usize, write: bool) -> Result<*mut u8> {
        let at = if write { self.writable_range(offset, size, "atomic") } else { self.range(offset, size, "atomic") }?;
        if at.addr() % size != 0 {
            return Err(self.error(Errno::EINVAL, "atomic").because_found(format!(
                "the offset {offset} is not a multiple of {size}, which an atomic access needs"
            )));
        }
        Ok(at)
    }
}

macro_rules! atomics {
    ($($accessor:ident $load:ident $atomic:ident $value:ident;)*) => {
        /// Atomics in the memory. Peers must access the same bytes atomically too, in the same size.
        impl Mapping {
            $(
                /// The atomic at `offset`. Errors: `EINVAL` outside or not aligned to its size, `EACCES` attached
                /// read-only (load it instead).
                #[inline]
                pub fn $accessor(&self, offset: usize) -> Result<&$atomic> {
                    let at = self.aligned(offset, size_of::<$value>(), true)?;
                    // SAFETY: in bounds, aligned, mapped writable as long as `self` is borrowed; other processes change
                    // it as atomics may be changed, and this one makes no other reference to it in safe code.
                    Ok(unsafe { $atomic::from_ptr(at.cast()) })
                }

                /// Loads the atomic at `offset`, also from memory attached read-only; what its writer wrote before a
                /// release store of the value is visible afterwards. Errors: `EINVAL` outside or not aligned.
                #[inline]
                pub fn $load(&self, offset: usize) -> Result<$value> {
                    let at = self.aligned(offset, size_of::<$value>(), false)?;
                    // SAFETY: in bounds, aligned and mapped; a load this small never writes. Acquire pairs with the
                    // release store of whoever published the value.
                    Ok(unsafe { $atomic::from_ptr(at.cast()).load(std::sync::atomic::Ordering::Acquire) })
                }
            )*
        }
    };
}

atomics! {
    atomic_u8 load_u8 AtomicU8 u8;
    atomic_u16 load_u16 AtomicU16 u16;
    atomic_u32 load_u32 AtomicU32 u32;
    atomic_u64 load_u64 AtomicU64 u64;
    atomic_i32 load_i32 AtomicI32 i32;
    atomic_i64 load_i64 AtomicI64 i64;
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping")
            .field("object", &self.object)
            .field("len", &self.len())
            .field("access", &self.access)
            .finish()
    }
}
