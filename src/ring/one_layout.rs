//! How a one-to-one ring's body is laid out: a log of records, each as long as its message needs.
//!
//! ```text
//! Control            constants, then one line each for what one side writes
//! log                records of whole 8-byte units: a header word (length, flags), the message, up to 7 unused bytes
//! ```
//!
//! A record lies in one piece; where it would reach past the log's end, a header that says so takes the rest, and the record
//! starts over at the front.

use std::sync::Arc;

use nix::errno::Errno;

use super::RingOptions;
use super::layout::Line;
use crate::segment::{Bell, Segment};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::{Mapping, Places, Record};

/// The number of this kind of body.
pub(super) const KIND: u32 = 2;
pub(super) const UNIT: usize = size_of::<AtomicU64>();

#[repr(C, align(128))]
pub(super) struct Control {
    pub capacity: AtomicU64,
    pub largest: AtomicU64,
    /// 1: persistent.
    pub flags: AtomicU64,
    /// A `Mark`: where the next record begins, and how many messages lie before it. The producer's; its store publishes.
    pub tail: Line<AtomicU64>,
    /// Units up to here are free for the producer. The consumer's, moved on now and then.
    pub head: Line<AtomicU64>,
    pub consumer: Line<ConsumerSide>,
    pub producer: Line<ProducerSide>,
    /// Who holds the two roles: a tag above bit 0, which is 1; or 0.
    pub roles: Line<[AtomicU64; 2]>,
    pub consumers_bell: Line<Bell>,
    pub producers_bell: Line<Bell>,
}

/// Written for every message, and read by nobody else but a successor and those who ask for statistics: so it stays in
/// the consumer's cache.
#[repr(C)]
pub(super) struct ConsumerSide {
    /// A `Mark`: up to here messages were taken.
    pub taken: AtomicU64,
    /// A `Mark`: up to here the consumer is done with them.
    pub released: AtomicU64,
    /// How many it is done with, or will be once `released` has followed.
    pub released_count: AtomicU64,
    pub redelivered: AtomicU64,
}

#[repr(C)]
pub(super) struct ProducerSide {
    /// How many were sent, or will be once `tail` has followed.
    pub sent_count: AtomicU64,
    pub dropped_newest: AtomicU64,
}

const _: () = assert!(size_of::<Control>() == 8 * 128);

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Control {}

/// A place in the log and a count of messages in one word, so that both change at one instant: 40 bits of units, which
/// wrap, and the low 24 bits of the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(pub(super) u64);

const COUNT_BITS: u32 = 24;
const UNITS_MASK: u64 = (1 << 40) - 1;

impl Mark {
    #[inline(always)]
    pub(super) fn new(units: u64, count: u64) -> Mark {
        Mark(units << COUNT_BITS | count & ((1 << COUNT_BITS) - 1))
    }

    #[inline(always)]
    pub(super) fn units(self) -> u64 {
        self.0 >> COUNT_BITS
    }

    fn count(self) -> u64 {
        self.0 & ((1 << COUNT_BITS) - 1)
    }

    /// The whole count, given one that was written before this mark or read after it: this one is behind it, by less than
    /// the bits can tell.
    pub(super) fn whole_count(self, announced: u64) -> u64 {
        let behind = announced.wrapping_sub(self.count()) & ((1 << COUNT_BITS) - 1);
        announced.wrapping_sub(behind)
    }
}

/// How many units `to` lies ahead of `from`.
#[inline(always)]
pub(super) fn distance(from: u64, to: u64) -> u64 {
    to.wrapping_sub(from) & UNITS_MASK
}

/// Units of a record with a message of this length.
#[inline(always)]
pub(super) fn units_of(length: usize) -> u64 {
    (1 + length.div_ceil(UNIT)) as u64
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Bytes of the log, a power of two.
    pub capacity: u64,
    pub largest: usize,
}

/// So that no more messages can be queued than the count in a mark can tell apart.
const CAPACITY_MAX: u64 = (UNIT as u64) << COUNT_BITS;
const LARGEST_MAX: u64 = 1 << 30;

impl Geometry {
    pub(super) fn of(options: &RingOptions) -> Result<Geometry, &'static str> {
        let capacity = if options.capacity == 0 { 1 << 20 } else { options.capacity };
        if !(64..=CAPACITY_MAX).contains(&capacity) {
            return Err("the capacity is from 64 bytes to 128 MiB");
        }
        let capacity = 1u64 << capacity.ilog2();
        let largest = if options.largest == 0 { 1024.min(capacity / 4 - 8) } else { options.largest };
        let geometry = Geometry { capacity, largest: usize::try_from(largest).unwrap_or(usize::MAX) };
        if !geometry.is_sound() {
            return Err(
                "the capacity, a power of two, must hold four messages of the largest size, and 8 bytes for each",
            );
        }
        Ok(geometry)
    }

    fn is_sound(&self) -> bool {
        self.capacity.is_power_of_two()
            && (64..=CAPACITY_MAX).contains(&self.capacity)
            && (1..=LARGEST_MAX).contains(&(self.largest as u64))
            && units_of(self.largest) * UNIT as u64 <= self.capacity / 4
    }

    pub(super) fn size(&self) -> Option<usize> {
        usize::try_from(self.capacity).ok()?.checked_add(size_of::<Control>())
    }

    pub(super) fn fill(&self, memory: &Arc<Mapping>, body: usize, persistent: bool) -> Option<()> {
        let control: &Control = memory.record(body)?;
        // Relaxed: nobody else can see the segment yet.
        control.capacity.store(self.capacity, Ordering::Relaxed);
        control.largest.store(self.largest as u64, Ordering::Relaxed);
        control.flags.store(u64::from(persistent), Ordering::Relaxed);
        Some(())
    }

    /// Reads the constants, each once, and checks them. The log comes as units, and as one run of bytes.
    pub(super) fn read(segment: &Segment) -> SysResult<(Geometry, bool, Places, Places)> {
        let (body, length) = segment.body();
        let control: &Control = segment.memory().record(body).ok_or(Errno::EBADMSG)?;
        // Relaxed: constant since before the segment could be seen.
        let geometry = Geometry {
            capacity: control.capacity.load(Ordering::Relaxed),
            largest: usize::try_from(control.largest.load(Ordering::Relaxed)).map_err(|_| Errno::EBADMSG)?,
        };
        let persistent = control.flags.load(Ordering::Relaxed) & 1 == 1;
        if !geometry.is_sound() || geometry.size().is_none_or(|size| size > length) {
            return Err(Errno::EBADMSG);
        }
        let (log, memory) = (body + size_of::<Control>(), segment.memory());
        let units = Places::new(memory, log, UNIT, geometry.capacity / UNIT as u64).ok_or(Errno::EBADMSG)?;
        let bytes = Places::new(memory, log, geometry.capacity as usize, 1).ok_or(Errno::EBADMSG)?;
        Ok((geometry, persistent, units, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_wrap_and_counts_come_back_whole() {
        let mark = Mark::new((1 << 40) - 1, (1 << 24) + 5);
        assert_eq!((mark.units(), mark.whole_count((1 << 24) + 5)), ((1 << 40) - 1, (1 << 24) + 5));
        assert_eq!(mark.whole_count((1 << 24) + 6), (1 << 24) + 5, "announced, and then killed");
        assert_eq!(Mark::new(1 << 40, 0).units(), 0);
        assert_eq!(distance((1 << 40) - 1, 2), 3);
    }
}
