//! System V semaphore sets: semget, semop, semctl. nix has none of them.

use nix::errno::Errno;

use super::direct::call3;
use super::{SysResult, check};

/// Room on the stack for the operations of one call; more go to the heap.
const FEW: usize = 8;

/// What a set is like, from IPC_STAT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) key: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) creator_uid: u32,
    pub(crate) creator_gid: u32,
    pub(crate) mode: u32,
    pub(crate) count: usize,
    /// Seconds since 1970; 0 if there has been no operation.
    pub(crate) operated_at: i64,
    pub(crate) changed_at: i64,
}

/// What to do to one semaphore of a set.
#[derive(Clone, Copy)]
pub(crate) struct Op {
    pub(crate) number: u16,
    pub(crate) change: i16,
    pub(crate) undo: bool,
}

/// One number that semctl tells about one semaphore.
#[derive(Clone, Copy)]
pub(crate) enum Ask {
    Value,
    LastPid,
    WaitingForMore,
    WaitingForZero,
}

/// The set of an existing key, if it has at least `count` semaphores.
pub(crate) fn open(key: i32, count: usize) -> SysResult<i32> {
    get(key, count, 0)
}

/// A new set; EEXIST if the key has one. `None` makes one without a key.
pub(crate) fn create(key: Option<i32>, count: usize, mode: u32) -> SysResult<i32> {
    let mode = (mode & 0o777).cast_signed();
    get(key.unwrap_or(libc::IPC_PRIVATE), count, libc::IPC_CREAT | libc::IPC_EXCL | mode)
}

fn get(key: i32, count: usize, flags: libc::c_int) -> SysResult<i32> {
    let count = libc::c_int::try_from(count).map_err(|_| Errno::EINVAL)?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::semget(key, count, flags) })
}

/// Performs all operations or none, at once: EAGAIN if it would have to wait.
#[inline(always)]
pub(crate) fn try_operate(id: i32, ops: impl ExactSizeIterator<Item = Op>) -> SysResult<()> {
    with_kernel_ops(ops, libc::IPC_NOWAIT, |ops| {
        // SAFETY: the kernel reads as many operations as there are, from a live borrow.
        unsafe { call3(libc::SYS_semop, id as usize, ops.as_ptr() as usize, ops.len()) }.map(drop)
    })
}

/// Performs all operations or none, once all can be.
pub(crate) fn operate(id: i32, ops: impl ExactSizeIterator<Item = Op>) -> SysResult<()> {
    with_kernel_ops(ops, 0, |ops| {
        // SAFETY: as above.
        check(unsafe { libc::semop(id, ops.as_mut_ptr(), ops.len()) }).map(drop)
    })
}

#[inline(always)]
fn with_kernel_ops(
    ops: impl ExactSizeIterator<Item = Op>,
    flags: libc::c_int,
    call: impl FnOnce(&mut [libc::sembuf]) -> SysResult<()>,
) -> SysResult<()> {
    let kernel = |op: Op| libc::sembuf {
        sem_num: op.number,
        sem_op: op.change,
        sem_flg: (flags | if op.undo { libc::SEM_UNDO } else { 0 }) as libc::c_short,
    };
    let mut few = [libc::sembuf { sem_num: 0, sem_op: 0, sem_flg: 0 }; FEW];
    match few.get_mut(..ops.len()) {
        Some(few) => {
            few.iter_mut().zip(ops).for_each(|(to, op)| *to = kernel(op));
            call(few)
        }
        None => call(&mut ops.map(kernel).collect::<Vec<_>>()),
    }
}

pub(crate) fn stat(id: i32) -> SysResult<Stat> {
    // SAFETY: a semid_ds is plain data for which all zeros is valid.
    let mut ds: libc::semid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: IPC_STAT writes one semid_ds to a live local.
    check(unsafe { libc::semctl(id, 0, libc::IPC_STAT, &raw mut ds) })?;
    Ok(Stat {
        key: ds.sem_perm.__key,
        uid: ds.sem_perm.uid,
        gid: ds.sem_perm.gid,
        creator_uid: ds.sem_perm.cuid,
        creator_gid: ds.sem_perm.cgid,
        mode: u32::from(ds.sem_perm.mode) & 0o777,
        count: usize::try_from(ds.sem_nsems).unwrap_or(0),
        operated_at: ds.sem_otime,
        changed_at: ds.sem_ctime,
    })
}

pub(crate) fn ask(id: i32, number: u16, what: Ask) -> SysResult<u32> {
    let command = match what {
        Ask::Value => libc::GETVAL,
        Ask::LastPid => libc::GETPID,
        Ask::WaitingForMore => libc::GETNCNT,
        Ask::WaitingForZero => libc::GETZCNT,
    };
    // SAFETY: these commands take numbers only.
    check(unsafe { libc::semctl(id, number.into(), command) }).map(|n| n.unsigned_abs())
}

pub(crate) fn set_value(id: i32, number: u16, value: u16) -> SysResult<()> {
    // SAFETY: SETVAL takes a number, passed in the width of the union that C has here.
    check(unsafe { libc::semctl(id, number.into(), libc::SETVAL, libc::c_ulong::from(value)) }).map(drop)
}

/// All values at one moment.
pub(crate) fn values(id: i32) -> SysResult<Vec<u16>> {
    let mut values = vec![0_u16; stat(id)?.count];
    // SAFETY: GETALL writes one number for each semaphore of the set, whose size never changes; the kernel gives the
    // same id to another set only after its sequence number has wrapped, which does not happen between two calls.
    check(unsafe { libc::semctl(id, 0, libc::GETALL, values.as_mut_ptr()) })?;
    Ok(values)
}

/// Sets all values at once; EINVAL unless there are as many as semaphores.
pub(crate) fn set_values(id: i32, values: &[u16]) -> SysResult<()> {
    if stat(id)?.count != values.len() {
        return Err(Errno::EINVAL);
    }
    // SAFETY: SETALL reads one number for each semaphore of the set, as many as there are: see `values`.
    check(unsafe { libc::semctl(id, 0, libc::SETALL, values.as_ptr()) }).map(drop)
}

pub(crate) fn remove(id: i32) -> SysResult<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::semctl(id, 0, libc::IPC_RMID) }).map(drop)
}
