//! What lies where in a pool's body.
//!
//! ```text
//! 0   Control
//!     slots        128 bytes each: words, then the holder's note
//!     information  2 × 1024 bytes each: what is valid, and what is being written
//!     waiters      a word each
//!     seats        64 bytes each: the bell of the waiter of the same number
//! ```

use std::sync::Arc;

use super::options::{GROUP_NAME_MAX, GROUPS_MAX};
use super::word::LEASE_INFORMATION_MAX;
use crate::segment::Bell;
use crate::sync_atomics::{AtomicU32, AtomicU64, Ordering};
use crate::sys::shared::{Mapping, Places, Record};

pub(super) const WAITS: usize = 24;

pub(super) const SLOT: usize = 128;
/// Words of a slot.
pub(super) const WORD: usize = 0;
pub(super) const SINCE: usize = 1;
pub(super) const USED: usize = 2;
pub(super) const EXPIRY: usize = 3;
pub(super) const INFORMATION: usize = 4;
pub(super) const NOTED: usize = 5;
/// Where its note begins, and how long it can be.
pub(super) const NOTE_AT: usize = 48;
pub(super) const NOTE_MAX: usize = 64;

const BUFFERS: usize = 2 * LEASE_INFORMATION_MAX;
pub(super) const SEAT: usize = 64;

#[repr(C)]
pub(super) struct GroupRecord {
    pub name: [AtomicU64; GROUP_NAME_MAX / 8],
    pub minimum: AtomicU64,
}

/// Never changes once others can see it.
#[repr(C, align(128))]
pub(super) struct Constant {
    /// How many slots it was made with.
    pub slots: AtomicU32,
    pub room: AtomicU32,
    pub fair: AtomicU32,
    pub groups: AtomicU32,
    pub expires_ms: AtomicU64,
    pub group: [GroupRecord; GROUPS_MAX],
}

#[repr(C, align(128))]
pub(super) struct Line {
    /// How many slots can be had; those behind stay with their holders, and are not given out again.
    pub size: AtomicU32,
    /// One more than the highest waiter's number so far; only grows.
    pub seats_used: AtomicU32,
    /// Count above two bits: somebody waits, and somebody has waited for long. The bits may be set for nothing.
    pub hint: AtomicU64,
    /// Rings with each slot that comes back, for those who have no seat.
    pub bell: Bell,
    /// Rings when somebody begins to wait.
    pub wanted: Bell,
}

#[repr(C, align(128))]
pub(super) struct Counts {
    pub arrivals: AtomicU64,
    pub timeouts: AtomicU64,
    pub reclaims: AtomicU64,
    pub expiries: AtomicU64,
    pub refused: AtomicU64,
    pub waits: [AtomicU64; WAITS],
}

#[repr(C, align(128))]
pub(crate) struct Control {
    pub(super) constant: Constant,
    pub(super) line: Line,
    pub(super) counts: Counts,
}

/// Where a waiter sleeps.
#[repr(C, align(64))]
pub(super) struct Seat {
    pub bell: Bell,
    /// When it came, and when it was first called since it last looked (0: not), in nanoseconds of the monotonic clock.
    pub since: AtomicU64,
    pub called: AtomicU64,
}

const _: () = assert!(size_of::<Seat>() == SEAT);
const _: () = assert!(NOTE_AT + NOTE_MAX <= SLOT && (NOTED + 1) * 8 <= NOTE_AT);

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Control {}
// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Seat {}

/// The parts behind the control record.
pub(super) struct Parts {
    pub slots: Places,
    pub information: Places,
    pub waiters: Places,
    pub seats_at: usize,
}

fn offsets(room: u32, participants: u32) -> [usize; 5] {
    let room = room.next_power_of_two() as usize;
    let seats = seats(participants) as usize;
    let sizes = [size_of::<Control>(), room * SLOT, room * BUFFERS, seats * size_of::<AtomicU64>(), seats * SEAT];
    let mut end = 0;
    sizes.map(|size| {
        end += size.next_multiple_of(SLOT);
        end
    })
}

/// How many can wait in line.
fn seats(participants: u32) -> u32 {
    4 * participants.clamp(1, 256).next_power_of_two()
}

/// Bytes of a body.
pub(super) fn size(room: u32, participants: u32) -> usize {
    offsets(room, participants)[4]
}

impl Parts {
    pub fn new(memory: &Arc<Mapping>, body: usize, room: u32, participants: u32) -> Option<Parts> {
        let [slots_at, information_at, waiters_at, seats_at, _] = offsets(room, participants).map(|at| body + at);
        let count = u64::from(room.next_power_of_two());
        Some(Parts {
            slots: Places::new(memory, slots_at, SLOT, count)?,
            information: Places::new(memory, information_at, BUFFERS, count)?,
            waiters: Places::new(memory, waiters_at, size_of::<AtomicU64>(), seats(participants).into())?,
            seats_at,
        })
    }
}

impl GroupRecord {
    pub fn fill(&self, name: &str, minimum: u32) {
        // Relaxed: nobody else can see the segment yet.
        let mut bytes = [0; GROUP_NAME_MAX];
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        for (word, chunk) in self.name.iter().zip(bytes.chunks_exact(8)) {
            let chunk = chunk.try_into().unwrap_or([0; 8]);
            word.store(u64::from_ne_bytes(chunk), Ordering::Relaxed);
        }
        self.minimum.store(minimum.into(), Ordering::Relaxed);
    }

    pub fn name(&self) -> String {
        // Relaxed: constant since before the segment could be seen.
        let bytes: Vec<u8> = self
            .name
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
            .take_while(|byte| *byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
