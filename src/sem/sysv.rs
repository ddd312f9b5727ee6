//! System V semaphore set (`sysv-sem:`): several counters that one call can change together.

use std::time::{Duration, SystemTime};

use nix::errno::Errno;

use super::sysv_guard::SysvSemGuard;
use super::{sysv_make, sysv_text};
use crate::address::{Address, Scheme};
use crate::doorbell::Doorbells;
use crate::error::Result;
use crate::sys::SysResult;
use crate::sys::sysv_sem::{self as kernel, Ask, Op};
use crate::timeout::Timeout;
use crate::wait::Object;

/// How to make a set; an option of the address (`?mode=0660&count=3&initial=1`) counts where the field is 0 or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SysvSemOptions {
    /// Permissions, whatever the umask; 0 means 0600.
    pub mode: u32,
    /// How many semaphores; 0 means as many as `values`, or 1. Opening refuses a set that has fewer.
    pub count: usize,
    /// The value of each at the start, at most 32767.
    pub initial: u16,
    /// The values at the start one by one, in place of `initial`.
    pub values: Vec<u16>,
    /// How long to wait for another creator to put its values in before taking over; `None` is one second.
    pub settle: Option<Duration>,
}

/// What to do to one semaphore of a set, in [`SysvSem::operate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SemOp {
    /// Which semaphore, from 0.
    pub number: u16,
    /// Above 0: add this. Below 0: take this, waiting until the value is as large. 0: wait until the value is 0.
    pub change: i16,
    undo: bool,
}

impl SemOp {
    /// Adds to (above 0), takes from (below 0) or waits for zero of (0) semaphore `number`.
    pub const fn new(number: u16, change: i16) -> SemOp {
        SemOp { number, change, undo: false }
    }

    /// The same, and when the process ends, however it ends, the kernel takes the change back (`SEM_UNDO`).
    #[must_use]
    pub const fn with_undo(mut self) -> SemOp {
        self.undo = true;
        self
    }

    /// Whether the kernel takes it back when the process ends.
    pub const fn has_undo(self) -> bool {
        self.undo
    }
}

#[inline(always)]
fn kernel_ops(ops: &[SemOp]) -> impl ExactSizeIterator<Item = Op> {
    ops.iter().map(|op| Op { number: op.number, change: op.change, undo: op.undo })
}

/// What the kernel keeps about a set; see [`SysvSem::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SysvSemStatus {
    /// Its key, 0 if it has none (`private`).
    pub key: i32,
    /// The owner's user id.
    pub uid: u32,
    /// The owner's group id.
    pub gid: u32,
    /// The creator's user id.
    pub creator_uid: u32,
    /// The creator's group id.
    pub creator_gid: u32,
    /// Permissions.
    pub mode: u32,
    /// How many semaphores it has.
    pub count: usize,
    /// When an operation last succeeded, in whole seconds; `None` if none has yet.
    pub operated_at: Option<SystemTime>,
    /// When it was made, or values were last set, in whole seconds.
    pub changed_at: SystemTime,
}

/// A System V semaphore set: [`acquire`](SysvSem::acquire) takes a permit of one semaphore and the kernel gives it back
/// should the process die; [`operate`](SysvSem::operate) changes several at once, all or none.
///
/// Every operation is a system call. A set lives until [`SysvSem::unlink`] or the next boot. The handle may be used by
/// all threads at once, and by a child made by fork; what is undone at the end of a process is what this process did,
/// not its parent.
///
/// ```
/// use wigwag::{Address, SemOp, SysvSem, SysvSemOptions, Timeout};
/// let address: Address = "sysv-sem:private".parse()?; // or sysv-sem:semfile#65, found by other processes
/// let set = SysvSem::create(&address, &SysvSemOptions { values: vec![1, 0], ..Default::default() })?;
/// let permit = set.acquire(0, Timeout::Forever)?;
/// assert_eq!(set.values()?, [0, 0]);
/// drop(permit);
/// set.operate(&[SemOp::new(0, -1), SemOp::new(1, 5)], Timeout::Now)?;
/// assert_eq!(set.values()?, [0, 5]);
/// set.unlink()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "semget")]
pub struct SysvSem {
    pub(super) object: Object,
    pub(super) id: i32,
    pub(super) count: usize,
    /// By number and change.
    pub(super) bells: Doorbells<(u16, i16)>,
}

impl SysvSem {
    /// Opens a set that exists. Waits only for a set that has just been made and that nobody has operated on yet, since
    /// it might not have its values: for `settle` at most, a second by default. After that it is opened as it is.
    ///
    /// # Errors
    /// `ENOENT` there is none, or the file that the key comes from is missing; `EINVAL` it has fewer semaphores than the
    /// address asks for; `EACCES` it is somebody else's; `ECANCELED`.
    ///
    /// System calls: semget, semctl.
    pub fn open(address: &Address, settle: Option<Duration>) -> Result<SysvSem> {
        sysv_make::open(address, settle)
    }

    /// Makes a set that must not exist yet, with its values in place. Never blocks.
    ///
    /// # Errors
    /// `EEXIST` there is one; `ENOSPC` the system has no room for another; `EINVAL` more semaphores than a set may have,
    /// more or fewer values than semaphores, a mode that is none; `ERANGE` a value above 32767; `ENOENT` the file that
    /// the key comes from is missing.
    ///
    /// System calls: semget, semop.
    pub fn create(address: &Address, options: &SysvSemOptions) -> Result<SysvSem> {
        sysv_make::create(address, options)
    }

    /// Opens a set, or makes it with its values if there is none.
    ///
    /// The values go in by one semop, so a creator of this library is never seen halfway. A set that somebody else has
    /// made and nobody has operated on (`sem_otime` is 0) is waited for, for `settle` at most: its creator may be about
    /// to put the values in. If by then all its values are 0 and no process has set any, the creator is taken for dead.
    /// If its values were to be 0 anyway, the set is used; otherwise it is removed and made anew, and a creator that was
    /// only very slow finds its set gone (`EIDRM`) rather than two sets of permits in circulation. Nothing is ever
    /// waited for without end.
    ///
    /// # Errors
    /// As [`SysvSem::open`] and [`SysvSem::create`]; `EPERM` the creator seems to be dead, and the set is not ours to
    /// remove.
    ///
    /// System calls: semget, semop, semctl.
    pub fn open_or_create(address: &Address, options: &SysvSemOptions) -> Result<SysvSem> {
        sysv_make::open_or_create(address, options)
    }

    /// Uses a set by its kernel id, which another process or library has told. Never blocks.
    ///
    /// # Errors
    /// `EIDRM` there is no such set; `EACCES` it is somebody else's.
    ///
    /// System call: semctl.
    pub fn from_id(id: i32) -> Result<SysvSem> {
        let object = Object::new("sysv-sem:private");
        let stat = kernel::stat(id).map_err(|errno| sysv_text::of_object(&object, errno, "semctl"))?;
        let object = if stat.key == 0 { object } else { Object::new(format!("sysv-sem:0x{:x}", stat.key)) };
        Ok(SysvSem::from_parts(object, id, stat.count))
    }

    pub(super) fn from_parts(object: Object, id: i32, count: usize) -> SysvSem {
        SysvSem { object, id, count, bells: Doorbells::default() }
    }

    /// Takes a permit of semaphore `number`, waiting while there is none; the guard gives it back when dropped, and the
    /// kernel does if the process dies first.
    ///
    /// # Errors
    /// `EFBIG` there is no semaphore of that number; `EIDRM` the set was removed, before or meanwhile; `EACCES`;
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with nothing taken.
    ///
    /// System call: semop with SEM_UNDO.
    #[inline]
    pub fn acquire(&self, number: u16, timeout: Timeout) -> Result<SysvSemGuard<'_>> {
        self.take(number, timeout)?;
        Ok(SysvSemGuard::new(self, number))
    }

    /// As [`SysvSem::acquire`], without a guard: taken until [`SysvSem::release`], or until the process ends. A permit
    /// that is used up rather than given back is taken with [`SysvSem::add`].
    ///
    /// Errors: as [`SysvSem::acquire`], and `ERANGE`: 32767 permits are to be given back at the end of this process.
    #[inline]
    pub fn take(&self, number: u16, timeout: Timeout) -> Result<()> {
        self.perform("acquire", &[SemOp::new(number, -1).with_undo()], timeout)
    }

    /// Gives back a permit of semaphore `number` that this process has acquired. Never blocks.
    ///
    /// For permits that one process gives and another takes use [`SysvSem::add`]: what is released here is taken back
    /// when this process ends, as what it acquired is given back.
    ///
    /// # Errors
    /// `ERANGE` the value would pass 32767; `EFBIG`, `EIDRM`, `EACCES` as [`SysvSem::acquire`].
    ///
    /// System call: semop with SEM_UNDO.
    #[inline]
    pub fn release(&self, number: u16) -> Result<()> {
        self.perform("release", &[SemOp::new(number, 1).with_undo()], Timeout::Now)
    }

    /// Adds `change` to semaphore `number`; below 0 takes that many at once, waiting until there are as many. Nothing is
    /// undone when the process ends.
    ///
    /// # Errors
    /// `EINVAL` the change is 0; `ERANGE` the value would pass 32767; and as [`SysvSem::acquire`].
    ///
    /// System call: semop.
    pub fn add(&self, number: u16, change: i16, timeout: Timeout) -> Result<()> {
        if change == 0 {
            return Err(self.object.error(Errno::EINVAL, "add").because("a change of 0; wait_zero waits for zero"));
        }
        self.perform("add", &[SemOp::new(number, change)], timeout)
    }

    /// Waits until the value of semaphore `number` is 0. Errors and system call: as [`SysvSem::acquire`].
    pub fn wait_zero(&self, number: u16, timeout: Timeout) -> Result<()> {
        self.perform("wait_zero", &[SemOp::new(number, 0)], timeout)
    }

    /// Does all of `ops` at one moment, waiting until all can be done; none is done if one fails.
    ///
    /// # Errors
    /// `EINVAL` no operation; `E2BIG` more than the system allows in a call; `ERANGE` a value would pass 32767; and as
    /// [`SysvSem::acquire`].
    ///
    /// System call: semop.
    #[doc(alias = "semop")]
    #[doc(alias = "semtimedop")]
    pub fn operate(&self, ops: &[SemOp], timeout: Timeout) -> Result<()> {
        self.perform("operate", ops, timeout)
    }

    #[inline(always)] // each return between here and the caller costs nanoseconds after a system call
    fn perform(&self, name: &'static str, ops: &[SemOp], timeout: Timeout) -> Result<()> {
        match kernel::try_operate(self.id, kernel_ops(ops)) {
            Ok(()) => Ok(()),
            Err(errno) => self.wait_to_perform(name, ops, timeout, errno),
        }
    }

    #[cold]
    fn wait_to_perform(&self, name: &'static str, ops: &[SemOp], timeout: Timeout, tried: Errno) -> Result<()> {
        let mut operation = self.object.operation(name, timeout);
        if tried == Errno::EAGAIN {
            ops.iter().for_each(|op| self.bells.found_nothing(&(op.number, op.change)));
        }
        let result = match tried {
            Errno::EAGAIN if timeout != Timeout::Now => {
                operation.wait().call(|_| kernel::operate(self.id, kernel_ops(ops)))
            }
            errno => Err(errno),
        };
        result.map_err(|errno| match errno {
            Errno::EINVAL if ops.is_empty() => operation.error(errno).because("no operation was given"),
            errno => sysv_text::explained(operation.error(errno), self.count, ops.len()),
        })
    }

    /// The value of one semaphore at this moment. Never blocks.
    ///
    /// # Errors
    /// `EFBIG` there is no semaphore of that number; `EIDRM` the set was removed; `EACCES`.
    ///
    /// System call: semctl GETVAL.
    pub fn value(&self, number: u16) -> Result<u16> {
        self.ask(number, Ask::Value, "value").map(|value| u16::try_from(value).unwrap_or(u16::MAX))
    }

    /// All values at one moment. Never blocks. Errors as [`SysvSem::value`]. System calls: semctl IPC_STAT, GETALL.
    pub fn values(&self) -> Result<Vec<u16>> {
        self.known("values", kernel::values(self.id))
    }

    /// Sets the value of one semaphore and wakes those whom it lets go on. Never blocks.
    ///
    /// All processes forget what they would have undone for this semaphore.
    ///
    /// # Errors
    /// `ERANGE` a value above 32767; and as [`SysvSem::value`].
    ///
    /// System call: semctl SETVAL.
    pub fn set_value(&self, number: u16, value: u16) -> Result<()> {
        self.in_range(number, "set_value")?;
        self.known("set_value", kernel::set_value(self.id, number, value))
    }

    /// Sets all values at one moment; otherwise as [`SysvSem::set_value`].
    ///
    /// # Errors
    /// `EINVAL` more or fewer values than semaphores; and as [`SysvSem::set_value`].
    ///
    /// System calls: semctl IPC_STAT, SETALL.
    pub fn set_values(&self, values: &[u16]) -> Result<()> {
        if values.len() != self.count {
            return Err(self.object.error(Errno::EINVAL, "set_values").because_found(format!(
                "{} values for a set of {} semaphores",
                values.len(),
                self.count
            )));
        }
        self.known("set_values", kernel::set_values(self.id, values))
    }

    /// How many threads wait until the value of semaphore `number` grows. Never blocks. Errors as [`SysvSem::value`].
    ///
    /// System call: semctl GETNCNT.
    #[doc(alias = "GETNCNT")]
    pub fn waiting(&self, number: u16) -> Result<u32> {
        self.ask(number, Ask::WaitingForMore, "waiting")
    }

    /// How many threads wait until semaphore `number` is zero. Never blocks. Errors as [`SysvSem::value`].
    ///
    /// System call: semctl GETZCNT.
    #[doc(alias = "GETZCNT")]
    pub fn waiting_for_zero(&self, number: u16) -> Result<u32> {
        self.ask(number, Ask::WaitingForZero, "waiting_for_zero")
    }

    /// The process that last changed or set the value of semaphore `number`; `None` if none has, or if it lives in a
    /// pid namespace that this process cannot see into. Never blocks. Errors as [`SysvSem::value`].
    ///
    /// System call: semctl GETPID.
    #[doc(alias = "GETPID")]
    pub fn last_pid(&self, number: u16) -> Result<Option<i32>> {
        let pid = self.ask(number, Ask::LastPid, "last_pid")?;
        Ok(i32::try_from(pid).ok().filter(|pid| *pid != 0))
    }

    fn ask(&self, number: u16, what: Ask, name: &'static str) -> Result<u32> {
        self.in_range(number, name)?;
        self.known(name, kernel::ask(self.id, number, what))
    }

    /// semctl would give EINVAL both for a number that the set does not have and for a set that is gone.
    fn in_range(&self, number: u16, name: &'static str) -> Result<()> {
        if usize::from(number) < self.count {
            return Ok(());
        }
        Err(sysv_text::explained(self.object.error(Errno::EFBIG, name), self.count, 1))
    }

    fn known<T>(&self, name: &'static str, result: SysResult<T>) -> Result<T> {
        result.map_err(|errno| sysv_text::of_object(&self.object, errno, name))
    }

    /// What the kernel keeps about the set. Never blocks. Errors: `EIDRM`, `EACCES`. System call: semctl IPC_STAT.
    pub fn status(&self) -> Result<SysvSemStatus> {
        let stat = self.known("status", kernel::stat(self.id))?;
        let time = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Ok(SysvSemStatus {
            key: stat.key,
            uid: stat.uid,
            gid: stat.gid,
            creator_uid: stat.creator_uid,
            creator_gid: stat.creator_gid,
            mode: stat.mode,
            count: stat.count,
            operated_at: (stat.operated_at != 0).then(|| time(stat.operated_at)),
            changed_at: time(stat.changed_at),
        })
    }

    /// How many semaphores it has.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The kernel's id of the set, for calls of the C library.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Removes the set at once, for everybody: who waits on it gets `EIDRM`. Never blocks.
    ///
    /// # Errors
    /// `EIDRM` it is gone already; `EPERM` it is somebody else's.
    ///
    /// System call: semctl IPC_RMID.
    pub fn unlink(&self) -> Result<()> {
        self.known("remove", kernel::remove(self.id))
    }

    /// Removes the set that `address` names, without opening it first. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` there is none; `EPERM` it is somebody else's.
    ///
    /// System calls: semget, semctl IPC_RMID.
    pub fn remove(address: &Address) -> Result<()> {
        address.require(&[Scheme::SysvSem], "semctl")?;
        sysv_make::remove(address)
    }

    /// Its address.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads of this process on this handle with `ECANCELED`, now and later; returns when they
    /// have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }
}

impl std::fmt::Debug for SysvSem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SysvSem")
            .field("address", &self.address())
            .field("id", &self.id)
            .field("count", &self.count)
            .finish()
    }
}
