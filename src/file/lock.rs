//! Locks on a file or a part of it, by open file descriptions (OFD locks): advisory, released by the kernel when the
//! holder dies.
//!
//! Each lock gets a description of its own. So threads exclude each other as processes do, locks that overlap do not
//! merge, and releasing one releases nothing else.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{fstat, stat};

use super::File;
use crate::error::Result;
use crate::paths;
use crate::sys::SysResult;
use crate::sys::not_inherited::NotInherited;
use crate::timeout::Timeout;
use crate::wait::Operation;

/// What a lock keeps out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Exclusive locks; any number of shared ones go together. The file must be open for reading.
    Shared,
    /// All other locks. The file must be open for writing.
    Exclusive,
}

/// The part of a file that a lock covers, in bytes; it need not exist yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileRange {
    /// The first byte.
    pub start: u64,
    /// How many bytes; 0 is all to the end, however far the file grows.
    pub length: u64,
}

impl FileRange {
    /// The whole file.
    pub const WHOLE: FileRange = FileRange { start: 0, length: 0 };
}

/// A lock that is held; dropping it releases it.
///
/// It stands on its own: the [`File`] may be closed meanwhile. It belongs to the process: a child made by fork does not
/// have it, and dropping the child's copy does nothing. When the process dies, also by SIGKILL, the kernel releases it;
/// it does not tell the next holder that this has happened, so what the lock protects must be fit to be found half done
/// (or be written with [`File::replace`]).
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct FileLock {
    own: NotInherited,
    mode: LockMode,
    range: FileRange,
}

impl File {
    /// Locks a part of the file, or all of it, against other locks of this kind: the same call by any process or thread,
    /// and F_OFD_SETLK and F_SETLK (not flock) by programs that know nothing of this library. Advisory: reading and
    /// writing without a lock goes on. Waits at most `timeout`. A thread that asks for what it has locked itself waits too.
    ///
    /// Lock a file that stays: of one that is replaced or removed meanwhile, the lock is worth nothing and not given.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere; `ESTALE` since it was opened, the file was removed or replaced
    /// by another: open it again; `EBADF` not open for what the lock takes; `EINVAL` a range past 2^63 - 1; `ENOLCK` the
    /// system has no more locks; `EACCES`, `EMFILE` the file cannot be opened once more; `ENOENT` /proc is not mounted.
    ///
    /// System calls: open through /proc, fcntl F_OFD_SETLK, F_OFD_SETLKW if it has to wait, fstat, stat.
    pub fn lock(&self, mode: LockMode, range: FileRange, timeout: Timeout) -> Result<FileLock> {
        self.lock_in(&mut self.object.operation("lock", timeout), mode, range)
    }

    pub(super) fn lock_in(&self, operation: &mut Operation<'_>, mode: LockMode, range: FileRange) -> Result<FileLock> {
        let access = self.flags & OFlag::O_ACCMODE;
        match mode {
            LockMode::Shared if access == OFlag::O_WRONLY => {
                return Err(operation
                    .error(Errno::EBADF)
                    .because("a shared lock takes a file that is open for reading"));
            }
            LockMode::Exclusive if access == OFlag::O_RDONLY => {
                return Err(operation
                    .error(Errno::EBADF)
                    .because("an exclusive lock takes a file that is open for writing"));
            }
            _ => {}
        }
        let kind = if mode == LockMode::Shared { libc::F_RDLCK } else { libc::F_WRLCK };
        let Some(request) = request(kind, range) else {
            return Err(operation.error(Errno::EINVAL).because("the range passes the largest file, 2^63 - 1 bytes"));
        };
        // No child made by fork has a copy of it, which would keep the lock beyond this process.
        let own = NotInherited::open(|| paths::reopen(self.fd.as_fd(), access)).map_err(|errno| match errno {
            Errno::ENOENT => operation.error(errno).because("a lock takes /proc, which is not mounted here"),
            errno => operation.error(errno).because_found(format!(
                "a lock takes a description of its own, but the file cannot be opened once more: {}",
                errno.desc()
            )),
        })?;
        operation
            .in_call(
                || match fcntl(own.as_fd(), FcntlArg::F_OFD_SETLK(&request)) {
                    Err(Errno::EACCES) => Err(Errno::EAGAIN), // either may say that another lock is in the way
                    result => result,
                },
                |_| fcntl(own.as_fd(), FcntlArg::F_OFD_SETLKW(&request)),
            )
            .map_err(|error| match error.errno() {
                libc::ENOLCK => error.because("the system has no more locks, or this file system has none"),
                _ => error,
            })?;
        let lock = FileLock { own, mode, range };
        if self.is_stale(lock.own.as_fd()) {
            return Err(operation
                .error(Errno::ESTALE)
                .because("since it was opened, the file was removed or another one put in its place; open it again"));
        }
        Ok(lock)
    }

    /// Whether the name under which it was opened leads elsewhere by now. Where that cannot be told, it does not.
    fn is_stale(&self, fd: BorrowedFd<'_>) -> bool {
        let Some(path) = &self.path else { return false };
        match (stat(path), fstat(fd)) {
            (Ok(named), Ok(open)) => !paths::is_same(&named, &open),
            (Err(errno), _) => errno == Errno::ENOENT,
            _ => false,
        }
    }
}

fn request(kind: libc::c_int, range: FileRange) -> Option<libc::flock> {
    let start = i64::try_from(range.start).ok()?;
    let length = i64::try_from(range.length).ok()?;
    start.checked_add(length)?;
    Some(libc::flock {
        l_type: i16::try_from(kind).ok()?,
        l_whence: i16::try_from(libc::SEEK_SET).ok()?,
        l_start: start,
        l_len: length,
        l_pid: 0,
    })
}

impl FileLock {
    /// What it keeps out.
    pub fn mode(&self) -> LockMode {
        self.mode
    }

    /// What it covers.
    pub fn range(&self) -> FileRange {
        self.range
    }

    /// Releases it; the same as dropping it. Never blocks.
    ///
    /// System calls: fcntl F_OFD_SETLK, close.
    pub fn release(self) {}

    fn unlock(&self) -> SysResult<()> {
        let request = request(libc::F_UNLCK, self.range).ok_or(Errno::EINVAL)?;
        fcntl(self.own.as_fd(), FcntlArg::F_OFD_SETLK(&request)).map(drop)
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.own.is_of_this_process() {
            // Closing would do, but for a program that another thread is just starting. Cannot fail for what is locked.
            let _ = self.unlock();
        }
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LockMode::Shared => "shared",
            LockMode::Exclusive => "exclusive",
        })
    }
}
