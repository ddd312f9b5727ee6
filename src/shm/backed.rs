//! What POSIX segments and memfds have in common: a descriptor of a file in memory, and a mapping of all of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};

use super::mapping::{Access, MapOptions, Mapping};
use super::options::MemoryOptions;
use super::refusal;
use super::space;
use super::sysv::{SysvShmStatus, too_small};
use crate::error::Result;
use crate::wait::Object;

pub(super) struct Backed {
    pub(super) mapping: Mapping,
    pub(super) object: Object,
    pub(super) fd: OwnedFd,
}

impl Backed {
    /// Maps the whole file, which must be as large as the options say.
    pub(super) fn map(object: Object, fd: OwnedFd, options: &MemoryOptions) -> Result<Backed> {
        let part =
            MapOptions { access: options.access, populate: options.populate, lock: options.lock, ..Default::default() };
        if options.populate && options.access.is_writable() {
            // With its pages reserved, what is full has a name, and a kernel that can only touch them raises no SIGBUS.
            Backed::reserve_as_is(&object, fd.as_fd())?;
        }
        let mapping = Mapping::of_file(fd.as_fd(), object.address(), &part)?;
        if mapping.len() < options.size {
            return Err(object.error(Errno::EINVAL, "map").because_found(too_small(mapping.len(), options.size)));
        }
        Ok(Backed { mapping, object, fd })
    }

    /// Gives a new file its size, with its pages unless asked otherwise.
    pub(super) fn give_size(object: &Object, fd: BorrowedFd<'_>, options: &MemoryOptions) -> Result<()> {
        let size = whole_pages(fd, options.size);
        let result = if options.sparse { space::set_size(fd, size) } else { space::reserve(fd, size, true) };
        result.map_err(|errno| space::explain(object.error(errno, "fallocate"), fd, size))
    }

    pub(super) fn grow(&mut self, size: usize) -> Result<usize> {
        let fd = self.fd.as_fd();
        let failed = |errno| self.object.error(errno, "fallocate");
        if self.mapping.access() == Access::ReadOnly {
            return Err(
                failed(Errno::EACCES).because("the memory is attached read-only; attach it for reading and writing")
            );
        }
        if size > self.mapping.len() {
            if space::is_on_huge_pages(fd) {
                return Err(failed(Errno::ENOTSUP).because("memory on huge pages keeps its size; make a larger one"));
            }
            space::reserve(fd, size as u64, true).map_err(|errno| match errno {
                Errno::EPERM => failed(errno).because("it is sealed against growing or writing"),
                errno => space::explain(failed(errno), fd, size as u64),
            })?;
        }
        self.refresh()
    }

    pub(super) fn refresh(&mut self) -> Result<usize> {
        let failed = |errno| self.object.error(errno, "mremap");
        let size = fstat(&self.fd).map_err(failed)?.st_size;
        let size = usize::try_from(size).map_err(|_| failed(Errno::EOVERFLOW))?;
        if self.mapping.is_empty() {
            let part = MapOptions { access: self.mapping.access(), ..Default::default() };
            self.mapping = Mapping::of_file(self.fd.as_fd(), self.object.address(), &part)?;
        } else if size > self.mapping.len() {
            let mapped = self.mapping.len();
            self.mapping.resize(size).map_err(|errno| match errno {
                Errno::EAGAIN => refusal::lock_grown(failed(errno), mapped, size),
                errno => failed(errno),
            })?;
        }
        Ok(self.mapping.len())
    }

    pub(super) fn reserve(&self) -> Result<()> {
        Backed::reserve_as_is(&self.object, self.fd.as_fd())
    }

    /// Takes the pages that are missing, and changes no size.
    fn reserve_as_is(object: &Object, fd: BorrowedFd<'_>) -> Result<()> {
        let failed = |errno| object.error(errno, "fallocate");
        match u64::try_from(fstat(fd).map_err(failed)?.st_size) {
            Ok(size @ 1..) => space::reserve(fd, size, true).map_err(|errno| space::explain(failed(errno), fd, size)),
            _ => Ok(()),
        }
    }

    pub(super) fn inherit(&self) -> Result<()> {
        fcntl(&self.fd, FcntlArg::F_SETFD(FdFlag::empty()))
            .map(drop)
            .map_err(|errno| self.object.error(errno, "inherit"))
    }

    pub(super) fn no_status(&self) -> Result<SysvShmStatus> {
        Err(self.object.error(Errno::ENOTSUP, "status").because(
            "the kernel keeps neither attach count nor creator for memory with a descriptor, only for System V segments",
        ))
    }
}

/// Fails unless the descriptor is of a file with content, such as memory is.
pub(super) fn require_memory(object: &Object, fd: BorrowedFd<'_>, operation: &'static str) -> Result<()> {
    let kind = fstat(fd).map_err(|errno| object.error(errno, operation))?.st_mode & SFlag::S_IFMT.bits();
    if kind == SFlag::S_IFREG.bits() {
        return Ok(());
    }
    Err(object.error(Errno::EINVAL, operation).because("it is not shared memory but a file of another kind"))
}

/// Rounded up where the file system deals in huge pages only.
fn whole_pages(fd: BorrowedFd<'_>, size: usize) -> u64 {
    let size = size as u64;
    if !space::is_on_huge_pages(fd) {
        return size;
    }
    let page = fstat(fd).map_or(1, |found| u64::try_from(found.st_blksize).unwrap_or(1));
    size.checked_next_multiple_of(page).unwrap_or(u64::MAX) // refused as too large later on
}
