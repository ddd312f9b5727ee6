//! What locks and the like have in common: who takes part, and what stands in a lock.

use std::ffi::c_int;
use std::time::{SystemTime, UNIX_EPOCH};

use wigwag::{MutexState, SyncParticipant};

use crate::boundary::put_list;

/// What a lock returns instead of 0 when it was taken over from the dead.
pub const WW_INHERITED: c_int = 1;

/// What stands in a lock: nobody holds it.
pub const WW_LOCK_FREE: u32 = 0;
/// Somebody does.
pub const WW_LOCK_HELD: u32 = 1;
/// Somebody holds it who has taken it over from the dead.
pub const WW_LOCK_INHERITED: u32 = 2;
/// Its holder died.
pub const WW_LOCK_ABANDONED: u32 = 3;
/// It was given up for good.
pub const WW_LOCK_GIVEN_UP: u32 = 4;

/// One handle on a lock or the like, of this or another process. Times are in nanoseconds since 1970.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_sync_participant {
    /// Its process; 0 if it lives in a pid namespace that this one cannot see.
    pub pid: u32,
    /// 1 or 0: the handle that was asked.
    pub is_self: u32,
    /// When it was opened, to the second.
    pub since: u64,
    /// What it holds: 1 for a lock, permits for permits, read locks.
    pub holding: u64,
    /// Since when, at the latest: when somebody who had to wait first saw it. 0 while nobody had to.
    pub holding_since: u64,
    /// Since when the first of its threads waits; 0: none does.
    pub waiting_since: u64,
    /// How many of its threads wait.
    pub waiting: u32,
    pub unused: u32,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 2],
}

pub(crate) fn inherited(inherited: bool) -> c_int {
    if inherited { WW_INHERITED } else { 0 }
}

/// The range of memory where an object is placed.
pub(crate) fn place(offset: u64, size: usize) -> std::ops::Range<u64> {
    offset..offset.saturating_add(size as u64)
}

pub(crate) fn lock_state(state: MutexState) -> u32 {
    match state {
        MutexState::Free => WW_LOCK_FREE,
        MutexState::Inherited => WW_LOCK_INHERITED,
        MutexState::Abandoned => WW_LOCK_ABANDONED,
        MutexState::GivenUp => WW_LOCK_GIVEN_UP,
        _ => WW_LOCK_HELD,
    }
}

pub(crate) fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// # Safety
/// `out` is NULL or has room for as many.
pub(crate) unsafe fn put_participants(out: *mut ww_sync_participant, room: usize, participants: &[SyncParticipant]) {
    let entries = participants.iter().map(|other| ww_sync_participant {
        pid: other.pid.unwrap_or(0),
        is_self: other.is_self.into(),
        since: nanos(other.since),
        holding: other.holding,
        holding_since: other.holding_since.map_or(0, nanos),
        waiting_since: other.waiting_since.map_or(0, nanos),
        waiting: other.waiting,
        unused: 0,
        reserved: [0; 2],
    });
    // SAFETY: as the caller promises.
    unsafe { put_list(out, room, entries) };
}
