//! How a one-to-one ring's body is laid out: a log of records, each as long as its message needs.
//!
//! ```text
//! Control            constants, then one line each for what one side writes
//! log                records of whole 8-byte units: a header word, the message, up to 7 unused bytes
//! ```
//!
//! A header other than 0 is what publishes a record: the word behind the last published record is always 0, as it is
//! cleared before that record is published. A record lies in one piece; where it would reach past the log's end, a
//! header that says so takes the rest, and the record starts over at the front.

use std::sync::Arc;

use nix::errno::Errno;

use super::RingOptions;
use super::layout::Line;
use super::one_recv::Sleeps;
use crate::segment::{Bell, Segment};
use crate::sync_atomics::{AtomicU32, AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::{Kept, Mapping, Places, Record};

/// The number of this kind of body.
pub(super) const KIND: u32 = 2;
pub(super) const UNIT: usize = size_of::<AtomicU64>();
/// Units of a cache line.
const LINE: u64 = 8;

#[repr(C, align(128))]
pub(super) struct Control {
    pub capacity: AtomicU64,
    pub largest: AtomicU64,
    /// 1: persistent.
    pub flags: AtomicU64,
    /// Units up to here are free for the producer. The consumer's, moved on now and then.
    pub head: Line<AtomicU64>,
    pub consumer: Line<ConsumerSide>,
    pub producer: Line<ProducerSide>,
    /// Who holds the two roles: a tag above bit 0, which is 1; or 0.
    pub roles: Line<[AtomicU64; 2]>,
    pub consumers_bell: Line<ConsumersBell>,
    pub producers_bell: Line<Bell>,
}

/// Written for every message, and read by nobody else but a successor and those who ask for statistics: so it stays in
/// the consumer's cache.
#[repr(C)]
pub(super) struct ConsumerSide {
    /// A `Mark`: up to here messages are lent, if it is ahead of `released`.
    pub taken: AtomicU64,
    /// Up to this place messages may have been heard of before, if it is ahead of `released`.
    pub heard: AtomicU64,
    /// A `Mark`: up to here the consumer is done with them.
    pub released: AtomicU64,
    /// How many it is done with, or will be once `released` has followed.
    pub released_count: AtomicU64,
    pub redelivered: AtomicU64,
}

/// Written now and then: where a successor, and whoever counts, begins to walk along the published records.
#[repr(C)]
pub(super) struct ProducerSide {
    /// A `Mark`: a record begins here, or will be the next to begin, and so many messages lie before it.
    pub mark: AtomicU64,
    /// How many lie before the mark, or will once it has followed.
    pub marked_count: AtomicU64,
    pub dropped_newest: AtomicU64,
}

#[repr(C)]
pub(super) struct ConsumersBell {
    pub bell: Bell,
    /// 1: the consumer sleeps often, and the producer makes a barrier itself for each message. The consumer's.
    pub fencing: AtomicU32,
}

const _: () = assert!(size_of::<Control>() == 7 * 128);

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

    /// How many messages `later` lies ahead.
    pub(super) fn messages_to(self, later: Mark) -> u64 {
        later.count().wrapping_sub(self.count()) & ((1 << COUNT_BITS) - 1)
    }
}

/// A record's header. 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head(pub(super) u64);

const PRESENT: u64 = 1 << 33;
/// No message: the log goes on at its front, where there is one.
const TO_THE_FRONT: u64 = 1 << 32;
/// Above this bit: how often the message was delivered again.
const AGAIN_SHIFT: u32 = 48;

impl Head {
    pub(super) const FRONT: Head = Head(PRESENT | TO_THE_FRONT);

    #[inline(always)]
    pub(super) fn new(length: usize) -> Head {
        Head(PRESENT | length as u64)
    }

    #[inline(always)]
    pub(super) fn is_to_the_front(self) -> bool {
        self.0 & TO_THE_FRONT != 0
    }

    #[inline(always)]
    pub(super) fn length(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    pub(super) fn again(self) -> u32 {
        (self.0 >> AGAIN_SHIFT) as u32
    }

    pub(super) fn with_again(self, again: u32) -> Head {
        let again = u64::from(again.min(u16::MAX.into()));
        Head(self.0 & ((1 << AGAIN_SHIFT) - 1) | again << AGAIN_SHIFT)
    }
}

/// The place so many units ahead.
#[inline(always)]
pub(super) fn ahead(from: u64, units: u64) -> u64 {
    from.wrapping_add(units) & UNITS_MASK
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

    fn read(control: &Control, length: usize) -> SysResult<(Geometry, bool)> {
        // Relaxed: constant since before the segment could be seen. Each is read once.
        let geometry = Geometry {
            capacity: control.capacity.load(Ordering::Relaxed),
            largest: usize::try_from(control.largest.load(Ordering::Relaxed)).map_err(|_| Errno::EBADMSG)?,
        };
        let persistent = control.flags.load(Ordering::Relaxed) & 1 == 1;
        if !geometry.is_sound() || geometry.size().is_none_or(|size| size > length) {
            return Err(Errno::EBADMSG);
        }
        Ok((geometry, persistent))
    }
}

/// A ring's body in this process's memory, its constants copied out once and checked.
#[derive(Debug)]
pub(super) struct Log {
    pub control: Kept<Control>,
    pub geometry: Geometry,
    pub persistent: bool,
    units: Places,
    pub bytes: Places,
    pub sleeps: Sleeps,
}

impl Log {
    pub(super) fn of(segment: &Segment) -> SysResult<Log> {
        let ((body, length), memory) = (segment.body(), segment.memory());
        let control: Kept<Control> = Kept::new(memory, body).ok_or(Errno::EBADMSG)?;
        let (geometry, persistent) = Geometry::read(&control, length)?;
        let log = body + size_of::<Control>();
        let units = Places::new(memory, log, UNIT, geometry.capacity / UNIT as u64).ok_or(Errno::EBADMSG)?;
        let bytes = Places::new(memory, log, geometry.capacity as usize, 1).ok_or(Errno::EBADMSG)?;
        Ok(Log { control, geometry, persistent, units, bytes, sleeps: Sleeps::default() })
    }

    /// Units of the log.
    #[inline(always)]
    pub(super) fn whole(&self) -> u64 {
        self.units.count()
    }

    /// Units from here to the log's end.
    #[inline(always)]
    pub(super) fn to_end(&self, at: u64) -> u64 {
        self.whole() - (at & (self.whole() - 1))
    }

    #[inline(always)]
    pub(super) fn head(&self, at: u64) -> &AtomicU64 {
        self.units.word::<0>(at)
    }

    /// Bytes from this offset to the next line.
    #[inline(always)]
    pub(super) fn to_next_line(&self, offset: usize) -> usize {
        LINE as usize * UNIT - offset % (LINE as usize * UNIT)
    }

    /// Where the message of the record here begins, in bytes.
    #[inline(always)]
    pub(super) fn offset(&self, at: u64) -> usize {
        ((at & (self.whole() - 1)) + 1) as usize * UNIT
    }

    /// Whether a record is published here. If not, the line that it may go on in is asked for, so that both come at once.
    #[inline(always)]
    pub(super) fn is_published(&self, from: u64) -> bool {
        let published = self.head(from).load(Ordering::Relaxed) != 0; // for a hint; `record` looks again
        if !published {
            self.units.prefetch(from + LINE);
        }
        published
    }

    /// The record that begins here, or at the front if it had no room here: where its header is, its header, and how many
    /// units both take. `None` if none is published yet.
    #[inline(always)]
    pub(super) fn record(&self, from: u64) -> SysResult<Option<(u64, Head, u64)>> {
        // Acquire pairs with the producer's Release in `Sending::publish`: what is behind is visible, a header at the
        // front included. Each header is copied once, and checked.
        let mut head = Head(self.head(from).load(Ordering::Acquire));
        if head.0 == 0 {
            self.units.prefetch(from + LINE); // the message may go on there, and both lines come at once
            return Ok(None);
        }
        let (mut at, mut skipped) = (from, 0);
        if head.is_to_the_front() {
            skipped = self.to_end(from);
            at = ahead(from, skipped);
            head = Head(self.head(at).load(Ordering::Relaxed));
        }
        let need = units_of(head.length());
        let sound = head.0 & (PRESENT | TO_THE_FRONT) == PRESENT
            && head.length() <= self.geometry.largest
            && need <= self.to_end(at);
        if sound { Ok(Some((at, head, skipped + need))) } else { Err(Errno::EBADMSG) }
    }

    /// Walks along what is published: where it ends, and how many messages there are.
    pub(super) fn walk(&self, from: u64) -> SysResult<(u64, u64)> {
        let (mut at, mut messages) = (from, 0);
        while let Some((_, _, units)) = self.record(at)? {
            (at, messages) = (ahead(at, units), messages + 1);
            if distance(from, at) > self.whole() {
                return Err(Errno::EBADMSG);
            }
        }
        Ok((at, messages))
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
