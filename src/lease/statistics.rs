//! What a pool tells about itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::LeasePool;
use super::layout::{SINCE, WAITS};
use super::word::Since;
use crate::error::Result;
use crate::sync::SyncParticipant;
use crate::sync_atomics::{AtomicU64, Ordering};

/// Who holds a pool's slots, who waits, and what has happened so far.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseStatistics {
    /// How many slots can be had.
    pub slots: u32,
    /// How many it can be resized to.
    pub room: u32,
    /// Of all slots, how many are held, more than there are for a while after it was made smaller.
    pub held: u32,
    /// How many of those that can be had are dirty, held or not.
    pub dirty: u32,
    /// How many threads wait in line.
    pub waiting: u32,
    /// Whether first come is first served.
    pub fair: bool,
    /// How long a lease lasts unless it is renewed; `None` for as long as its holder lives.
    pub expires: Option<Duration>,
    /// Memory in bytes, all of it.
    pub bytes: usize,
    /// Leases so far.
    pub leases: u64,
    /// Calls that ended without one, as their time had passed.
    pub timeouts: u64,
    /// Slots taken back from the dead.
    pub reclaims: u64,
    /// Slots taken back from who did not renew in time.
    pub expiries: u64,
    /// Calls under leases that were lost.
    pub refused: u64,
    /// How many had to wait, by how long: each entry counts those that waited for less than its duration, and not for less
    /// than that of the one before. What took no waiting is not counted.
    pub waits: Vec<(Duration, u64)>,
    /// The groups, in their order.
    pub groups: Vec<LeaseGroupStatistics>,
    /// Each slot that is held.
    pub holders: Vec<LeaseHolder>,
    /// Who takes part, and holds how many.
    pub participants: Vec<SyncParticipant>,
}

/// One group of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseGroupStatistics {
    /// Its name.
    pub name: String,
    /// How many slots are kept for it.
    pub minimum: u32,
    /// How many it holds, of these and others.
    pub held: u32,
    /// How many of its threads wait in line.
    pub waiting: u32,
}

/// Who holds a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseHolder {
    /// The slot's number.
    pub slot: u32,
    /// The lease's fencing token.
    pub token: u64,
    /// The process; `None` if it lives in a pid namespace that this one cannot see, or is dead.
    pub pid: Option<u32>,
    /// Whether it is the handle that was asked.
    pub is_self: bool,
    /// When it was taken, to some milliseconds; `None` in the instant before that is written.
    pub since: Option<SystemTime>,
    /// How long it still lasts.
    pub expires_in: Option<Duration>,
    /// Whether somebody died with the slot, or lost it, and it is not clean yet.
    pub dirty: bool,
    /// For which group it was taken.
    pub group: Option<String>,
    /// What its holder says it is for.
    pub note: String,
    /// What is known about what it stands for; `None` if it was spoilt.
    pub information: Option<Vec<u8>>,
}

/// The longest wait that a counter of the histogram is for.
fn bound(bucket: usize) -> Duration {
    Duration::from_micros(1 << bucket)
}

pub(super) fn count_wait(waits: &[AtomicU64; WAITS], waited: Duration) {
    let bucket = (0..WAITS - 1).find(|bucket| waited < bound(*bucket)).unwrap_or(WAITS - 1);
    waits[bucket].fetch_add(1, Ordering::Relaxed);
}

impl LeasePool {
    /// Who holds which slot, who waits, and what has happened so far. Never blocks. Of different instants while others are at
    /// work; counts of a process that is killed in the middle of something may lack its last one.
    ///
    /// # Errors
    /// `EBADMSG` the pool is damaged.
    pub fn statistics(&self) -> Result<LeaseStatistics> {
        let shared = &*self.core;
        let mut peers = Vec::new();
        shared.member.each(|peer| peers.push(peer)).map_err(|errno| shared.error(errno, "statistics"))?;
        let mut holders = Vec::new();
        let (mut leases, mut dirty) = (0, 0);
        for slot in 0..shared.room {
            let word = shared.word(slot);
            leases += word.token();
            dirty += u32::from(word.is_dirty() && slot < shared.size());
            if !word.is_held() {
                continue;
            }
            let owner = peers.iter().find(|peer| peer.tag == word.owner());
            let since = Since(shared.parts.slots.word::<SINCE>(slot.into()).load(Ordering::Relaxed));
            let since = Some(since).filter(|since| since.is_of(word));
            holders.push(LeaseHolder {
                slot,
                token: word.token(),
                pid: owner.and_then(|peer| peer.pid),
                is_self: owner.is_some_and(|peer| peer.is_self),
                since: since.map(|since| UNIX_EPOCH + Duration::from_millis(since.millis())),
                expires_in: (shared.expires_ms != 0).then(|| shared.left(slot, word)),
                dirty: word.is_dirty(),
                group: since.and_then(|since| shared.group_name(since.group()).map(str::to_owned)),
                note: shared.note(slot, word),
                information: shared.information(slot).ok(),
            });
        }
        let participants = shared.participants(|peer| {
            let held = |slot: &&LeaseHolder| shared.word(slot.slot).owner() == peer.tag;
            let first = holders.iter().filter(held).filter_map(|holder| holder.since).min();
            (holders.iter().filter(held).count() as u64, first)
        });
        let groups = shared.groups.iter().enumerate().map(|(index, (name, kept))| LeaseGroupStatistics {
            name: name.clone(),
            minimum: kept.len() as u32,
            held: holders.iter().filter(|holder| holder.group.as_ref() == Some(name)).count() as u32,
            waiting: shared.waiting(Some(index as u32 + 1)),
        });
        let counts = &shared.control.counts;
        // Relaxed: each is a number of its own.
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(LeaseStatistics {
            slots: shared.size(),
            room: shared.room,
            held: holders.len() as u32,
            dirty,
            waiting: shared.waiting(None),
            fair: shared.fair,
            expires: (shared.expires_ms != 0).then(|| Duration::from_millis(shared.expires_ms)),
            bytes: shared.member.segment().size(),
            leases,
            timeouts: count(&counts.timeouts),
            reclaims: count(&counts.reclaims),
            expiries: count(&counts.expiries),
            refused: count(&counts.refused),
            waits: counts
                .waits
                .iter()
                .enumerate()
                .map(|(bucket, waits)| (if bucket + 1 < WAITS { bound(bucket) } else { Duration::MAX }, count(waits)))
                .collect(),
            groups: groups.collect(),
            participants: participants.map_err(|errno| shared.error(errno, "statistics"))?,
            holders,
        })
    }

    /// What has become of a slot, for an error's text.
    pub(super) fn who_has(&self, slot: u32) -> String {
        let word = self.core.word(slot);
        if !word.is_held() {
            return "is free".into();
        }
        let mut pid = None;
        let _ = self.core.member.each(|peer| {
            if peer.tag == word.owner() {
                pid = peer.pid;
            }
        });
        match pid {
            Some(pid) => format!("is held by process {pid} under lease {}", word.token()),
            None => format!("is held by another process under lease {}", word.token()),
        }
    }
}
