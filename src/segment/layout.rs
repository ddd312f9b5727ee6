//! What lies at the start of every segment: what it is, how large its parts are, and who takes part in it.
//!
//! ```text
//! 0        Header: magic, layout version, kind, sizes and offsets (written before anybody else can see the segment,
//!          never after), and the few words about all participants
//! 256      Participant × participants
//! body_at  the body, as its kind lays it out
//! ```

use std::mem::offset_of;

use crate::sync_atomics::{AtomicU32, AtomicU64};
use crate::sys::shared::Record;

/// The first eight bytes of every segment.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"wigwag\0\x01");
/// Changes with every change of any layout, bodies included; for a test of that, two builds can differ.
pub(crate) const LAYOUT: u32 = 8 + cfg!(wigwag_next_layout) as u32;
pub(super) const PARTICIPANTS_AT: usize = 256;
pub(super) const PARTICIPANTS_MAX: u32 = 256; // as many as a tag can tell apart

/// Fields above the line are constant; each is copied out once, on opening, and checked.
#[repr(C, align(128))]
pub(super) struct Header {
    pub magic: AtomicU64,
    pub layout: AtomicU32,
    pub kind: AtomicU32,
    pub size: AtomicU64,
    pub participants: AtomicU32,
    pub participant_size: AtomicU32,
    pub body_at: AtomicU64,
    pub body_size: AtomicU64,
    // ---
    _constant: [AtomicU64; 10],
    /// One more than the highest participant's index so far; only grows.
    pub used: AtomicU32,
    /// Every role that anybody has ever had; only grows.
    pub roles_seen: AtomicU32,
}

/// One participant: a handle of one process.
#[repr(C, align(64))]
pub(super) struct Participant {
    /// Epoch in the upper 32 bits, phase in the lower. Everything else is valid only while the phase is `ALIVE`.
    pub state: AtomicU64,
    /// As the participant sees itself.
    pub pid: AtomicU32,
    pub roles: AtomicU32,
    /// The namespaces in which `pid` and `started` mean something, 0 if unknown.
    pub namespace: AtomicU64,
    /// When the process started, in ticks since boot, 0 if unknown: with the pid, a process's identity.
    pub started: AtomicU64,
    /// When it joined, in seconds since 1970.
    pub since: AtomicU64,
    /// How many of its threads wait, and since when the first of them does, in nanoseconds since 1970. For others to see
    /// only.
    pub waiting_since: AtomicU64,
    pub waiting: AtomicU32,
}

const _: () = assert!(size_of::<Header>() == PARTICIPANTS_AT);
const _: () = assert!(offset_of!(Header, size) == 16 && offset_of!(Header, body_at) == 32);
const _: () = assert!(offset_of!(Header, used) == 128);
const _: () = assert!(size_of::<Participant>() == 64);

/// The kinds of bodies, by number; each kind of object has one.
const KINDS: [&str; 13] = [
    "nothing",
    "a ring",
    "a one-to-one ring",
    "a topic",
    "a cell",
    "a mutex",
    "permits",
    "an event",
    "a condition",
    "a read-write lock",
    "a barrier",
    "a pool of leases",
    "a log",
];

/// Whether there is such a kind.
pub(super) fn is_kind(kind: u32) -> bool {
    (1..KINDS.len() as u32).contains(&kind)
}

pub(super) fn kind_name(kind: u32) -> &'static str {
    KINDS.get(kind as usize).copied().unwrap_or("something unknown")
}

// SAFETY: atomics only.
unsafe impl Record for Header {}
// SAFETY: atomics only.
unsafe impl Record for Participant {}
