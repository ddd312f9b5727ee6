//! System V shared memory: shmget and shmctl. Attaching is in `memory.rs`.

use std::mem::MaybeUninit;

use super::{SysResult, check};

/// For `get`: make it, and fail if there is one.
pub(crate) const EXCLUSIVE: i32 = libc::IPC_CREAT | libc::IPC_EXCL;
/// For `get`: on huge pages; their size's exponent goes into the bits from `HUGE_SHIFT` on.
pub(crate) const HUGE: i32 = libc::SHM_HUGETLB;
pub(crate) const HUGE_SHIFT: u32 = libc::MFD_HUGE_SHIFT;

/// In the mode: removed, and gone with the last that is attached.
const SHM_DEST: u32 = 0o1000;
/// In the mode: locked in memory by SHM_LOCK.
const SHM_LOCKED: u32 = 0o2000;

/// What the kernel keeps about a segment.
#[derive(Clone, Copy)]
pub(crate) struct Status {
    pub(crate) raw: libc::shmid_ds,
}

impl Status {
    pub(crate) fn key(&self) -> i32 {
        self.raw.shm_perm.__key
    }

    pub(crate) fn mode(&self) -> u32 {
        u32::from(self.raw.shm_perm.mode) & 0o777
    }

    pub(crate) fn is_removed(&self) -> bool {
        u32::from(self.raw.shm_perm.mode) & SHM_DEST != 0
    }

    pub(crate) fn is_locked(&self) -> bool {
        u32::from(self.raw.shm_perm.mode) & SHM_LOCKED != 0
    }
}

/// shmget; `key` `None` is IPC_PRIVATE.
pub(crate) fn get(key: Option<i32>, size: usize, flags: i32) -> SysResult<i32> {
    // SAFETY: takes plain numbers.
    check(unsafe { libc::shmget(key.unwrap_or(libc::IPC_PRIVATE), size, flags) })
}

/// shmctl with IPC_STAT.
pub(crate) fn status(id: i32) -> SysResult<Status> {
    let mut raw = MaybeUninit::<libc::shmid_ds>::zeroed();
    // SAFETY: the kernel fills the live local; all of its fields are integers, for which zeroes are values too.
    unsafe {
        check(libc::shmctl(id, libc::IPC_STAT, raw.as_mut_ptr()))?;
        Ok(Status { raw: raw.assume_init() })
    }
}

/// shmctl with IPC_RMID.
pub(crate) fn remove(id: i32) -> SysResult<()> {
    // SAFETY: this command takes no pointer.
    check(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
}
