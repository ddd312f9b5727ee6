//! System V semaphore set.

use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libc::ssize_t;
use wigwag::{Address, Error, Result, SemOp, SysvSem, SysvSemOptions};

use crate::boundary::{Options, address, call, close, expect_out, give, invalid, object, options, put, timeout};

/// Flag of ww_sysv_sem_op: when the process ends, however it ends, the kernel takes the change back (SEM_UNDO).
pub const WW_SYSV_SEM_UNDO: u16 = 1;

/// A System V semaphore set (sysv-sem:path#65, sysv-sem:0xKEY, sysv-sem:private): counters that one call can change
/// together. Semaphores are numbered from 0.
///
/// Every operation is a system call. A set lives until it is removed or the next boot; calls on one that was removed,
/// before or meanwhile, fail with -EIDRM. May be shared between threads, and used by children made by fork; what is
/// undone at the end of a process is what this process did.
pub struct ww_sysv_sem(SysvSem);

/// How a set is made; initialise with WW_SYSV_SEM_OPTIONS_INIT. What is 0 here counts as the address says, as in
/// "sysv-sem:semfile#65?mode=0660&count=3&initial=1".
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_sysv_sem_options {
    pub size: usize,
    /// How many semaphores; 0 means 1. Opening refuses a set that has fewer.
    pub count: usize,
    /// The values at the start, count of them, which must be given here then; NULL: each starts at initial.
    pub values: *const u16,
    /// How long to wait, in nanoseconds, for another creator to put its values in before taking over; 0 means one
    /// second.
    pub settle_ns: i64,
    /// The value of each at the start, at most 32767.
    pub initial: u32,
    /// Permissions, whatever the umask; 0 means 0600.
    pub mode: u32,
}

impl Default for ww_sysv_sem_options {
    fn default() -> ww_sysv_sem_options {
        ww_sysv_sem_options {
            size: size_of::<ww_sysv_sem_options>(),
            count: 0,
            values: std::ptr::null(),
            settle_ns: 0,
            initial: 0,
            mode: 0,
        }
    }
}

// SAFETY: repr(C), size first, no padding, any bytes are valid (the pointer is one that the caller answers for).
unsafe impl Options for ww_sysv_sem_options {}

/// What to do to one semaphore of a set, in ww_sysv_sem_operate().
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_sysv_sem_op {
    /// Which semaphore.
    pub number: u16,
    /// Above 0: add this. Below 0: take this, waiting until the value is as large. 0: wait until the value is 0.
    pub change: i16,
    /// 0 or WW_SYSV_SEM_UNDO.
    pub flags: u16,
}

/// What the kernel keeps about a set.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_sysv_sem_status {
    /// Seconds of the wall clock: when an operation last succeeded (0 for never), when it was created or values were set.
    pub operated_at: i64,
    pub changed_at: i64,
    /// How many semaphores it has.
    pub count: usize,
    /// Its key, 0 for a private one.
    pub key: i32,
    /// Owner and creator, and the permissions.
    pub uid: libc::uid_t,
    pub gid: libc::gid_t,
    pub creator_uid: libc::uid_t,
    pub creator_gid: libc::gid_t,
    pub mode: u32,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// How long to wait for a set that might not have its values yet.
fn settle(nanos: i64) -> Result<Option<Duration>> {
    match nanos {
        0 => Ok(None),
        1.. => Ok(Some(Duration::from_nanos(nanos.unsigned_abs()))),
        _ => Err(invalid("ww_sysv_sem_options", "settle_ns is nanoseconds, 0 for one second")),
    }
}

/// Opens a set that exists. Close it with ww_sysv_sem_close().
///
/// Waits only for a set that has just been made and that nobody has operated on yet, since it might not have its values:
/// for settle_ns at most, 0 for one second. After that it is opened as it is.
///
/// Errors: -ENOENT there is none, or the file that the key comes from is missing; -EINVAL it has fewer semaphores than
/// the address asks for, or the address is not one, or a negative settle_ns; -EACCES it is somebody else's; -ECANCELED;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_open(out: *mut *mut ww_sysv_sem, address: *const c_char, settle_ns: i64) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_sysv_sem(SysvSem::open(&self::address(address)?, settle(settle_ns)?)?))
    })
}

/// Makes a set that must not exist yet, with its values in place; NULL options mean the address's. Never blocks.
///
/// Errors: -EEXIST there is one; -ENOSPC the system has no room for another; -EINVAL more semaphores than a set may
/// have, values without a count, the mode, or the address; -ERANGE a value above 32767; -ENOENT the file that the key
/// comes from is missing; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_create(
    out: *mut *mut ww_sysv_sem,
    address: *const c_char,
    options: *const ww_sysv_sem_options,
) -> c_int {
    // SAFETY: as above.
    unsafe { open_with(out, address, options, SysvSem::create) }
}

/// Opens a set, or makes it with its values if there is none. The options count only for the one who makes it.
///
/// No process that opens it by this library sees it without its values. A set that another program has made and nobody
/// has operated on is waited for, for settle_ns at most. If by then its values are all 0 and no process has set any, its
/// creator is taken for dead: the set is used if 0 is what was wanted, and otherwise removed and made anew.
///
/// Errors: as ww_sysv_sem_open() and ww_sysv_sem_create(); -EPERM the creator seems to be dead, and the set is not the
/// caller's to remove; -EBUSY others make and remove it all the time; -ECANCELED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_open_or_create(
    out: *mut *mut ww_sysv_sem,
    address: *const c_char,
    options: *const ww_sysv_sem_options,
) -> c_int {
    // SAFETY: as above.
    unsafe { open_with(out, address, options, SysvSem::open_or_create) }
}

/// # Safety
/// As of the callers.
unsafe fn open_with(
    out: *mut *mut ww_sysv_sem,
    address: *const c_char,
    options: *const ww_sysv_sem_options,
    open: impl Fn(&Address, &SysvSemOptions) -> Result<SysvSem>,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let given = self::options(options, "ww_sysv_sem_options")?;
        if !given.values.is_null() && given.count == 0 {
            return Err(invalid("ww_sysv_sem_options", "values need their count"));
        }
        let settle = settle(given.settle_ns)?;
        let values = if given.values.is_null() { Vec::new() } else { slice(given.values, given.count)?.to_vec() };
        let options =
            SysvSemOptions { mode: given.mode, count: given.count, initial: value(given.initial)?, values, settle };
        give(out, ww_sysv_sem(open(&self::address(address)?, &options)?))
    })
}

/// Elements that a caller wants read.
///
/// # Safety
/// `data` is valid for reads of `count` elements for `'a`.
unsafe fn slice<'a, T>(data: *const T, count: usize) -> Result<&'a [T]> {
    // More than a set or a call could ever have is a negative number, or rubbish.
    const MOST: usize = 1 << 20;
    if count > MOST {
        return Err(invalid("count", "more elements than can be; was it a negative number?"));
    }
    if data.is_null() && count > 0 {
        return Err(Error::from_raw(libc::EFAULT, "array"));
    }
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, of a sane length, and valid as the caller promises.
    Ok(unsafe { std::slice::from_raw_parts(data, count) })
}

/// A number that C gives in full width, so that nothing is cut in silence.
fn number(given: u32) -> Result<u16> {
    u16::try_from(given).map_err(|_| {
        Error::from_raw(libc::EFBIG, "semaphore number")
            .because("a number past the last semaphore that a set could have")
    })
}

fn value(given: u32) -> Result<u16> {
    u16::try_from(given)
        .map_err(|_| Error::from_raw(libc::ERANGE, "semaphore value").because("a value past the largest, semvmx=32767"))
}

/// Uses a set by its kernel id, as ww_sysv_sem_id() or semget() told it. Close it with ww_sysv_sem_close(), which leaves
/// the set. Never blocks. Errors: -EIDRM there is no such set; -EACCES; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_from_id(out: *mut *mut ww_sysv_sem, id: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_sysv_sem(SysvSem::from_id(id)?))
    })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. The set stays, and so does what was acquired.
/// NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_close(set: *mut ww_sysv_sem) {
    // SAFETY: as above.
    unsafe { close(set, |set| set.0.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_end_waits(set: *const ww_sysv_sem) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(set, "sysv_sem")?.0.end_waits();
        Ok(())
    })
}

/// Takes a permit of one semaphore, waiting while there is none. The kernel gives it back if the process ends before
/// ww_sysv_sem_release() does. A permit that is used up rather than given back is taken with ww_sysv_sem_add().
///
/// Errors, with nothing taken: -EFBIG there is no semaphore of that number; -EIDRM; -EACCES; -ERANGE 32767 permits are to
/// be given back at the end of this process; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_acquire(set: *const ww_sysv_sem, number: u32, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(set, "sysv_sem")?.0.take(self::number(number)?, timeout(timeout_ns)?) })
}

/// Gives back a permit that this process has acquired. Never blocks. For permits that one process gives and another
/// takes use ww_sysv_sem_add(): what is released here is taken back when this process ends.
///
/// Errors: -ERANGE the value would pass 32767; -EFBIG, -EIDRM, -EACCES; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_release(set: *const ww_sysv_sem, number: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(set, "sysv_sem")?.0.release(self::number(number)?) })
}

/// Adds change to one semaphore; below 0 takes that many at once, waiting until there are as many. Nothing is undone when
/// the process ends.
///
/// Errors: -EINVAL the change is 0; -ERANGE the value would pass 32767; and as ww_sysv_sem_acquire().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_add(
    set: *const ww_sysv_sem,
    number: u32,
    change: c_int,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let set = object(set, "sysv_sem")?;
        let change = i16::try_from(change).map_err(|_| {
            Error::from_raw(libc::ERANGE, "add").because("a change past the largest value of a semaphore, semvmx=32767")
        })?;
        set.0.add(self::number(number)?, change, timeout(timeout_ns)?)
    })
}

/// Waits until the value of one semaphore is 0. Errors: as ww_sysv_sem_acquire().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_wait_zero(set: *const ww_sysv_sem, number: u32, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(set, "sysv_sem")?.0.wait_zero(self::number(number)?, timeout(timeout_ns)?) })
}

/// A descriptor that is readable when change may be possible for one semaphore: -1 for a permit, less for several at once,
/// 0 for the value being 0; to poll, or for ww_waitset_add_fd(). It hears processes that know nothing of this library. It
/// stays the handle's. Never blocks.
///
/// It stays readable until an operation by this handle with the same number and change (ww_sysv_sem_acquire() is -1) gives
/// -EAGAIN; it may be readable for nothing when another process was faster. A child made by fork asks again and gets one of
/// its own. The cost, from the first call on: a helper thread that sleeps in the kernel, a descriptor, and each time that
/// the helper is woken two switches of context and a few system calls. The helper takes and gives back in one operation:
/// the value never moves, but the helper counts in ww_sysv_sem_waiting(), and shows as the last pid.
///
/// Errors: -EINVAL the change is above 0, or -32768; -ERANGE it is below that; -EFBIG, -EIDRM, -EACCES as
/// ww_sysv_sem_acquire(); -ENOMEM no helper thread can be had; -EMFILE, -ENFILE no descriptor is left; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_doorbell(set: *const ww_sysv_sem, number: u32, change: c_int) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let set = object(set, "sysv_sem")?;
        let change = i16::try_from(change).map_err(|_| {
            Error::from_raw(libc::ERANGE, "doorbell")
                .because("a change past the largest value of a semaphore, semvmx=32767")
        })?;
        Ok(set.0.doorbell(self::number(number)?, change)?.as_raw_fd())
    })
}

/// Does all of count operations at one moment, waiting until all can be done; none is done if one fails.
///
/// Errors: -EINVAL no operation, or an unknown flag; -E2BIG more than the system allows in a call; -ERANGE a value would
/// pass 32767; and as ww_sysv_sem_acquire().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_operate(
    set: *const ww_sysv_sem,
    ops: *const ww_sysv_sem_op,
    count: usize,
    timeout_ns: i64,
) -> c_int {
    const FEW: usize = 8;
    let converted = |op: &ww_sysv_sem_op| match op.flags {
        0 => Ok(SemOp::new(op.number, op.change)),
        WW_SYSV_SEM_UNDO => Ok(SemOp::new(op.number, op.change).with_undo()),
        _ => Err(invalid("ww_sysv_sem_op", "flags are 0 or WW_SYSV_SEM_UNDO")),
    };
    // SAFETY: as above.
    call(|| unsafe {
        let (set, timeout) = (object(set, "sysv_sem")?, timeout(timeout_ns)?);
        let given = slice(ops, count)?;
        let mut few = [SemOp::new(0, 0); FEW];
        match few.get_mut(..given.len()) {
            Some(few) => {
                for (to, op) in few.iter_mut().zip(given) {
                    *to = converted(op)?;
                }
                set.0.operate(few, timeout)
            }
            None => set.0.operate(&given.iter().map(converted).collect::<Result<Vec<_>>>()?, timeout),
        }
    })
}

/// The value of one semaphore at this moment. Never blocks. Errors: -EFBIG, -EIDRM, -EACCES, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_value(set: *const ww_sysv_sem, number: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::from(object(set, "sysv_sem")?.0.value(self::number(number)?)?)) })
}

/// Sets the value of one semaphore and wakes those whom it lets go on. All processes forget what they would have undone
/// for it. Never blocks. Errors: -ERANGE a value above 32767; -EFBIG, -EIDRM, -EACCES, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_set_value(set: *const ww_sysv_sem, number: u32, value: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(set, "sysv_sem")?.0.set_value(self::number(number)?, self::value(value)?) })
}

/// Writes all values at one moment to values, which has room for count. Never blocks. Returns how many semaphores the
/// set has. Errors: -EMSGSIZE it has more than count, with nothing written; -EIDRM, -EACCES, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_values(set: *const ww_sysv_sem, values: *mut u16, count: usize) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(values)?;
        let found = object(set, "sysv_sem")?.0.values()?;
        if found.len() > count {
            return Err(Error::from_raw(libc::EMSGSIZE, "values")
                .because("the set has more semaphores than there is room for; ww_sysv_sem_count() tells"));
        }
        values.copy_from_nonoverlapping(found.as_ptr(), found.len());
        Ok(found.len())
    })
}

/// Sets all values at one moment, count of them, one for each semaphore; otherwise as ww_sysv_sem_set_value().
///
/// Errors: -EINVAL more or fewer values than semaphores; -ERANGE, -EIDRM, -EACCES, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_set_values(set: *const ww_sysv_sem, values: *const u16, count: usize) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(set, "sysv_sem")?.0.set_values(slice(values, count)?) })
}

/// How many threads wait until the value of one semaphore grows. Never blocks.
/// Errors: -EFBIG, -EIDRM, -EACCES, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_waiting(set: *const ww_sysv_sem, number: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(small(object(set, "sysv_sem")?.0.waiting(self::number(number)?)?)) })
}

/// How many threads wait until one semaphore is zero. Never blocks. Errors: -EFBIG, -EIDRM, -EACCES, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_waiting_for_zero(set: *const ww_sysv_sem, number: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(small(object(set, "sysv_sem")?.0.waiting_for_zero(self::number(number)?)?)) })
}

fn small(count: u32) -> c_int {
    c_int::try_from(count).unwrap_or(c_int::MAX)
}

/// The process that last changed or set the value of one semaphore; 0 if none has, or if it lives in a pid namespace that
/// this process cannot see into. Never blocks. Errors: -EFBIG, -EIDRM, -EACCES, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_last_pid(set: *const ww_sysv_sem, number: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(set, "sysv_sem")?.0.last_pid(self::number(number)?)?.unwrap_or(0)) })
}

/// What the kernel keeps about the set, into *status. Never blocks. Errors: -EIDRM, -EACCES, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_get_status(set: *const ww_sysv_sem, status: *mut ww_sysv_sem_status) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let found = object(set, "sysv_sem")?.0.status()?;
        let status_found = ww_sysv_sem_status {
            operated_at: found.operated_at.map_or(0, seconds),
            changed_at: seconds(found.changed_at),
            count: found.count,
            key: found.key,
            uid: found.uid,
            gid: found.gid,
            creator_uid: found.creator_uid,
            creator_gid: found.creator_gid,
            mode: found.mode,
            reserved: [0; 4],
        };
        put(status, status_found, "status")
    })
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// How many semaphores the set has. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_count(set: *const ww_sysv_sem) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(set, "sysv_sem")?.0.count()) })
}

/// The kernel's id of the set, for calls of the C library. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_id(set: *const ww_sysv_sem) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(set, "sysv_sem")?.0.id()) })
}

/// Removes the set at once, for everybody: who waits on it gets -EIDRM. The handle is still to be closed. Never blocks.
/// Errors: -EIDRM it is gone already; -EPERM it is somebody else's; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_unlink(set: *const ww_sysv_sem) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(set, "sysv_sem")?.0.unlink() })
}

/// Removes the set that an address names, without opening it first. Never blocks.
/// Errors: -ENOENT there is none; -EPERM it is somebody else's; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_sysv_sem_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { SysvSem::remove(&self::address(address)?) })
}
