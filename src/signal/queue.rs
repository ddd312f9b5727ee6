//! The way from a handler to the program: a pipe of this process's own, and a count of what did not fit.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{getpid, pipe2, read, write};

use super::SignalInfo;
use super::info::RECORD;
use super::lock::Lock;
use crate::sys::{SysResult, fork};

/// A pipe inherited over fork is shared with the parent: used as it is, it would give the child's signals to the
/// parent and let the child take the parent's. So each queue knows the process that it belongs to; elsewhere nothing is
/// written, and the child that wants to use it first puts a pipe of its own under the same descriptor numbers.
pub(super) struct Queue {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Bytes; 0 for the kernel's usual.
    capacity: i32,
    /// Both must be right: the pid catches children that were not made by `fork`, the generation reused pids.
    pid: AtomicI32,
    generation: AtomicU32,
    lost: AtomicU64,
    moving: Lock,
}

impl Queue {
    /// A queue with room for at least this many signals, 0 for the usual (some 1,300).
    pub(super) fn new(capacity: usize) -> SysResult<Queue> {
        // A page holds whole records only.
        let pages = capacity.div_ceil(4096 / RECORD);
        let capacity = i32::try_from(pages.saturating_mul(4096)).map_err(|_| Errno::EINVAL)?;
        let (reader, writer) = make(capacity)?;
        Ok(Queue {
            reader,
            writer,
            capacity,
            generation: AtomicU32::new(fork::generation()),
            pid: AtomicI32::new(getpid().as_raw()),
            lost: AtomicU64::new(0),
            moving: Lock::new(),
        })
    }

    /// Whether it belongs to this process. Async-signal-safe.
    pub(super) fn is_own(&self) -> bool {
        // Acquire pairs with the Release in `ensure_own`: who sees the new owner writes to the new pipe.
        self.generation.load(Ordering::Acquire) == fork::generation_in_handler()
            && self.pid.load(Ordering::Relaxed) == getpid().as_raw()
    }

    /// Adds a signal, or counts it as lost. Async-signal-safe but for errno.
    pub(super) fn push(&self, info: &SignalInfo) {
        if write(&self.writer, &info.encode()) != Ok(RECORD) {
            self.lost.fetch_add(1, Ordering::Relaxed); // a count orders nothing
        }
    }

    /// The oldest signal; EAGAIN if there is none.
    pub(super) fn take(&self) -> SysResult<SignalInfo> {
        let mut record = [0; RECORD];
        match read(&self.reader, &mut record)? {
            RECORD => SignalInfo::decode(&record).ok_or(Errno::EBADMSG),
            _ => Err(Errno::EBADMSG), // somebody else has written to or read from our descriptor
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// In a child made by fork: gives it a pipe of its own under the same numbers; true if that was needed. What the
    /// parent had queued stays the parent's.
    /// `first` is done before the handler takes it for the child's.
    pub(super) fn ensure_own(&self, first: impl FnOnce()) -> SysResult<bool> {
        let generation = fork::generation();
        if self.generation.load(Ordering::Acquire) == generation {
            return Ok(false);
        }
        let _held = self.moving.lock();
        if self.generation.load(Ordering::Acquire) == generation {
            return Ok(false); // another thread was faster
        }
        let (reader, writer) = make(self.capacity)?;
        fork::replace_descriptor(self.reader.as_fd(), reader.as_fd())?;
        fork::replace_descriptor(self.writer.as_fd(), writer.as_fd())?;
        self.lost.store(0, Ordering::Relaxed);
        self.pid.store(getpid().as_raw(), Ordering::Relaxed);
        first();
        self.generation.store(generation, Ordering::Release);
        Ok(true)
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

fn make(capacity: i32) -> SysResult<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    if capacity > 0 {
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(capacity))?;
    }
    Ok((reader, writer))
}
