//! How a many-to-many ring's body is laid out.
//!
//! ```text
//! Control                      constants, then one line each for two bells and what is rarely written
//! Ends × lanes                 one line each for tail, head, the bells of producers, and the high-water mark
//! slot × slots × lanes         state word, length and deliveries, payload
//! accounts × slots × lanes     four counters for each slot, written only when a lap ends without a message
//! room × lanes                 chunk × chunks, if messages may be longer than a slot
//! node × nodes × lanes         a word for each chunk and each of its parts
//! ```
//!
//! Where messages may be longer than a slot of two lines, slots have two lines, and room for the longer ones lies apart (`room.rs`):
//! a message then takes what it needs, whatever the largest. Where they may not, slots have the stride of the largest. A ring of the
//! library's own may have longer slots, if it knows what its messages are like.

use std::sync::Arc;

use nix::errno::Errno;

use super::RingOptions;
use super::room::{Level, Room, SLOTS_MAX, levels, words_of_chunk};
use crate::segment::{Bell, Segment};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::{Kept, Mapping, Places, Record, Words};

/// The number of this kind of body.
pub(super) const KIND: u32 = 1;

/// A word with the lines around it to itself: two, as processors fetch lines in pairs.
#[repr(C, align(128))]
pub(super) struct Line<T>(pub(super) T);

#[repr(C, align(128))]
pub(super) struct Control {
    /// Of each lane.
    pub slots: AtomicU64,
    pub lanes: AtomicU64,
    pub stride: AtomicU64,
    pub largest: AtomicU64,
    /// 1: persistent.
    pub flags: AtomicU64,
    /// After so many redeliveries a message becomes a dead letter; 0: never.
    pub redeliveries: AtomicU64,
    /// Of each lane; 0: no message is longer than a slot.
    pub chunks: AtomicU64,
    /// Rings when there may be something for consumers.
    pub consumers_bell: Line<Bell>,
    /// Rings when there may be a dead letter.
    pub letters_bell: Line<Bell>,
    pub rare: Line<Rare>,
}

/// Where a lane begins and ends.
#[repr(C, align(128))]
pub(super) struct Ends {
    /// The first position that no producer has taken. Behind by what nobody has helped along yet, never ahead.
    pub tail: Line<AtomicU64>,
    /// The first position that may hold something for consumers. Behind or exact, never ahead.
    pub head: Line<AtomicU64>,
    /// Rings when there may be a slot for producers.
    pub producers_bell: Line<Bell>,
    /// Rings when there may be room for messages that are longer than a slot.
    pub room_bell: Line<Bell>,
    /// The most places that were in use at once, as far as anybody has looked.
    pub high_water: Line<AtomicU64>,
}

#[repr(C)]
pub(super) struct Rare {
    /// Changes when a message is given back; consumers then look behind the head.
    pub returns: AtomicU64,
    /// Messages that found no room and were dropped by their own sender.
    pub dropped_newest: AtomicU64,
    /// How often a message was given back; not part of the books.
    pub redelivered: AtomicU64,
}

const _: () = assert!(size_of::<Control>() == 4 * 128 && size_of::<Ends>() == 5 * 128);

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Control {}
// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Ends {}

/// What precedes the payload in a slot: state word and meta word.
const PAYLOAD_AT: usize = 16;
/// The same where there is room besides, with whose it is and where.
const PAYLOAD_AT_WITH_ROOM: usize = 32;
/// The stride of slots besides which there is room, unless the maker of the ring knows better; without, the largest message may take
/// as much.
pub(super) const SLOT: usize = 128;
/// So many slots are made where nobody says how many messages there may be, at most; and they take up a part of the capacity only.
const SLOTS_DEFAULT: u64 = 1 << 16;
const SLOTS_SHARE: u64 = 4;
/// Counters of a slot, by `Reason`.
const ACCOUNT: usize = 4 * size_of::<AtomicU64>();
/// Lengths have 32 bits, and a slot's stride must not come near the address space.
const LARGEST_MAX: u64 = 1 << 30;

pub(super) const LANES_MAX: u32 = 8;
const CAPACITY_DEFAULT: u64 = 1 << 20;
const LARGEST_DEFAULT: u64 = 1024;

/// Numbers of slots and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Of each lane.
    pub slots: u64,
    pub lanes: u32,
    pub stride: usize,
    pub largest: usize,
    /// Of each lane, for messages that are longer than a slot; 0: there are none.
    pub chunks: usize,
}

/// What was agreed when the ring was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub persistent: bool,
    pub redeliveries: u32,
}

/// Where the parts of a lane are.
pub(super) struct Parts {
    pub ends: Kept<Ends>,
    pub slots: Places,
    pub accounts: Places,
    pub room: Option<Room>,
}

impl Geometry {
    /// Of a new ring, whose slots have this stride where there is room besides; what is wrong with the options.
    pub(super) fn of(options: &RingOptions, slot: usize) -> Result<Geometry, &'static str> {
        let lanes = options.lanes.max(1);
        if lanes > LANES_MAX {
            return Err("a ring has 1 to 8 lanes");
        }
        let capacity = if options.capacity == 0 { CAPACITY_DEFAULT } else { options.capacity } / u64::from(lanes);
        let largest = if options.largest == 0 { LARGEST_DEFAULT.min(capacity / 4) } else { options.largest };
        if largest == 0 || largest > LARGEST_MAX {
            return Err("the largest message is from 1 byte to 1 GiB");
        }
        let depth = options.depth.div_ceil(lanes.into()).checked_next_power_of_two();
        let depth = depth.filter(|depth| options.depth == 0 || *depth <= SLOTS_MAX);
        let depth = depth.ok_or("a ring has at most 2^23 places for messages in each lane")?;
        let stride = (largest + PAYLOAD_AT as u64).next_multiple_of(64);
        let depth = (options.depth != 0).then_some(depth.max(2));
        let capacity = match depth {
            Some(depth) if options.capacity == 0 => Geometry::for_depth(depth, largest, stride, slot),
            _ => Some(capacity),
        };
        let capacity = capacity.ok_or("no address space is that large; lower the depth")?;
        // Where slots and room for two of the largest are too much, two slots of that size may still fit.
        let is_tight = || depth.is_none() && capacity / 2 < (slot + levels(largest as usize)[0].size) as u64;
        let geometry = if stride <= slot as u64 || is_tight() {
            let fit = capacity / stride;
            if fit < 2 {
                return Err(
                    "the capacity must hold, for each lane, two messages of the largest size, and 16 bytes for each",
                );
            }
            let slots = depth.unwrap_or(1 << fit.ilog2());
            if slots > fit {
                return Err("the capacity does not hold so many messages; lower the depth");
            }
            Geometry { slots, lanes, stride: stride as usize, largest: largest as usize, chunks: 0 }
        } else {
            Geometry::with_room(capacity, lanes, largest as usize, depth, slot)?
        };
        geometry.size().map(|_| geometry).ok_or("no address space is that large; lower the capacity")
    }

    /// What so many messages of the largest size take.
    fn for_depth(depth: u64, largest: u64, stride: u64, slot: usize) -> Option<u64> {
        let each = if stride <= slot as u64 { stride } else { (slot + levels(largest as usize)[0].size) as u64 };
        depth.checked_mul(each)
    }

    fn with_room(
        capacity: u64,
        lanes: u32,
        largest: usize,
        depth: Option<u64>,
        slot: usize,
    ) -> Result<Geometry, &'static str> {
        let chunk = levels(largest)[0].size as u64;
        let chunks =
            |slots: u64| capacity.checked_sub(slots.saturating_mul(slot as u64)).map_or(0, |left| left / chunk);
        let mut slots = match depth {
            Some(depth) => depth,
            None => {
                // By the usual stride: who makes longer slots gets as many, and less room besides.
                let share = (capacity / SLOTS_SHARE / SLOT as u64).clamp(2, SLOTS_DEFAULT);
                1 << share.ilog2()
            }
        };
        while depth.is_none() && slots > 2 && chunks(slots) < 2 {
            slots /= 2;
        }
        let chunks = chunks(slots);
        if chunks < 2 {
            return Err(
                "the capacity must hold, for each lane, two messages of the largest size, each rounded up by an eighth at \
                        most, and 128 bytes (256 in a log) for each message that there may be; lower the depth or the largest size",
            );
        }
        let chunks = usize::try_from(chunks).map_err(|_| "no address space is that large; lower the capacity")?;
        Ok(Geometry { slots, lanes, stride: slot, largest, chunks })
    }

    /// The longest message that lies in its slot.
    pub(super) fn inline(&self) -> usize {
        // Too short a stride is what `read` refuses.
        if self.chunks == 0 { self.largest } else { self.stride.saturating_sub(PAYLOAD_AT_WITH_ROOM) }
    }

    pub(super) fn payload_at(&self) -> usize {
        if self.chunks == 0 { PAYLOAD_AT } else { PAYLOAD_AT_WITH_ROOM }
    }

    /// Bytes of a lane's room, and words for its nodes.
    fn room(&self) -> Option<(usize, usize)> {
        if self.chunks == 0 {
            return Some((0, 0));
        }
        let levels: Vec<Level> = levels(self.largest);
        Some((self.chunks.checked_mul(levels[0].size)?, self.chunks.checked_mul(words_of_chunk(&levels))?))
    }

    /// Bytes of the whole body.
    pub(super) fn size(&self) -> Option<usize> {
        let slots = usize::try_from(self.slots).ok()?;
        let of_slots = slots.checked_mul(self.stride.checked_add(ACCOUNT)?)?;
        let (room, words) = self.room()?;
        let of_room = room.checked_add(words.checked_mul(size_of::<AtomicU64>())?)?;
        let of_lane = of_slots.checked_add(size_of::<Ends>())?.checked_add(of_room)?;
        of_lane.checked_mul(self.lanes as usize)?.checked_add(size_of::<Control>())
    }

    fn parts(&self, memory: &Arc<Mapping>, body: usize, lane: usize) -> Option<Parts> {
        let lanes = self.lanes as usize;
        let slots = usize::try_from(self.slots).ok()?;
        let ends_at = body + size_of::<Control>();
        let slots_at = ends_at + lanes * size_of::<Ends>();
        let accounts_at = slots_at + lanes * slots * self.stride;
        let (room, words) = self.room()?;
        let room_at = accounts_at + lanes * slots * ACCOUNT;
        let words_at = room_at + lanes * room;
        let room = if self.chunks == 0 {
            None
        } else {
            let words = Words::new(memory, words_at + lane * words * size_of::<AtomicU64>(), words)?;
            let bytes = Places::new(memory, room_at + lane * room, room, 1)?;
            Some(Room::new(words, bytes, self.largest, self.chunks))
        };
        Some(Parts {
            room,
            ends: Kept::new(memory, ends_at + lane * size_of::<Ends>())?,
            slots: Places::new(memory, slots_at + lane * slots * self.stride, self.stride, self.slots)?,
            accounts: Places::new(memory, accounts_at + lane * slots * ACCOUNT, ACCOUNT, self.slots)?,
        })
    }

    /// Writes the constants of a new ring; zeros are right for all else.
    pub(super) fn fill(&self, memory: &Arc<Mapping>, body: usize, options: &RingOptions) -> Option<()> {
        let control: &Control = memory.record(body)?;
        // Relaxed: nobody else can see the segment yet.
        control.slots.store(self.slots, Ordering::Relaxed);
        control.lanes.store(self.lanes.into(), Ordering::Relaxed);
        control.stride.store(self.stride as u64, Ordering::Relaxed);
        control.largest.store(self.largest as u64, Ordering::Relaxed);
        control.chunks.store(self.chunks as u64, Ordering::Relaxed);
        control.flags.store(u64::from(options.persistent), Ordering::Relaxed);
        control.redeliveries.store(u64::from(options.redeliveries), Ordering::Relaxed);
        Some(())
    }

    /// Reads the constants of a ring that is there, each once, and checks that they fit together and into the segment.
    pub(super) fn read(segment: &Segment) -> SysResult<(Geometry, Terms, Kept<Control>, Vec<Parts>)> {
        let ((body, length), memory) = (segment.body(), segment.memory());
        let control: Kept<Control> = Kept::new(memory, body).ok_or(Errno::EBADMSG)?;
        // Relaxed: constant since before the segment could be seen.
        let geometry = Geometry {
            slots: control.slots.load(Ordering::Relaxed),
            lanes: u32::try_from(control.lanes.load(Ordering::Relaxed)).map_err(|_| Errno::EBADMSG)?,
            stride: usize::try_from(control.stride.load(Ordering::Relaxed)).map_err(|_| Errno::EBADMSG)?,
            largest: usize::try_from(control.largest.load(Ordering::Relaxed)).map_err(|_| Errno::EBADMSG)?,
            chunks: usize::try_from(control.chunks.load(Ordering::Relaxed)).map_err(|_| Errno::EBADMSG)?,
        };
        let terms = Terms {
            persistent: control.flags.load(Ordering::Relaxed) & 1 == 1,
            redeliveries: u32::try_from(control.redeliveries.load(Ordering::Relaxed)).map_err(|_| Errno::EBADMSG)?,
        };
        let sound = geometry.slots.is_power_of_two()
            && geometry.slots >= 2
            && (1..=LANES_MAX).contains(&geometry.lanes)
            && (1..=LARGEST_MAX).contains(&(geometry.largest as u64))
            && (geometry.chunks == 0 || geometry.slots <= SLOTS_MAX)
            && geometry.stride >= geometry.inline() + geometry.payload_at()
            && geometry.inline() <= geometry.largest
            && geometry.size().is_some_and(|size| size <= length);
        if !sound {
            return Err(Errno::EBADMSG);
        }
        let parts = (0..geometry.lanes as usize).map(|lane| geometry.parts(memory, body, lane));
        let parts = parts.collect::<Option<Vec<Parts>>>().ok_or(Errno::EBADMSG)?;
        Ok((geometry, terms, control, parts))
    }
}
