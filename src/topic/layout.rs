//! How a topic's body is laid out.
//!
//! ```text
//! Control            constants, then one line each for the head, what is retired, and the two bells
//! entry × entries    the index: which block each message begins in, by sequence number
//! record × blocks    state word of a block, length of the message that begins in it, how many were skipped in it
//! place × places     one line for each subscriber
//! block × blocks     the messages
//! ```
//!
//! A message lies in as many blocks, one after the other, as it needs; a block is a sixteenth of the largest message, so
//! small ones use little. There are more entries than blocks, so that the next one is always empty, also when all blocks
//! are in use.

use std::sync::Arc;

use nix::errno::Errno;

use super::TopicOptions;
use super::word::BLOCKS_MAX;
use crate::segment::{Bell, Segment};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::{Mapping, Places, Record};

/// The number of this kind of body.
pub(super) const KIND: u32 = 3;

/// A word with the lines around it to itself: two, as processors fetch lines in pairs.
#[repr(C, align(128))]
pub(super) struct Line<T>(pub(super) T);

#[repr(C, align(128))]
pub(super) struct Control {
    pub largest: AtomicU64,
    pub block: AtomicU64,
    pub blocks: AtomicU64,
    pub depth: AtomicU64,
    pub places: AtomicU64,
    /// The sequence number of the next message. Behind by what nobody has helped along yet, never ahead.
    pub head: Line<AtomicU64>,
    pub retired: Line<Retired>,
    /// Rings when there is a message.
    pub subscribers_bell: Line<Bell>,
    /// Rings when there may be room.
    pub publishers_bell: Line<Bell>,
}

#[repr(C)]
pub(super) struct Retired {
    /// The oldest message that is stored. Behind by what nobody has helped along yet, never ahead.
    pub oldest: AtomicU64,
    /// What lies before it may be retired: a `Mark`, whose count is of lossless subscribers that have come.
    pub floor: AtomicU64,
}

const _: () = assert!(size_of::<Control>() == 5 * 128);

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Control {}

const RECORD: usize = 32;
const PLACE: usize = 128;
const BLOCK_MIN: u64 = 128;
/// The largest message has no more blocks; see `Block::first`.
const RUN_MAX: u64 = 16;
const LARGEST_MAX: u64 = 1 << 30;
const PLACES_MAX: u64 = 1024;

const CAPACITY_DEFAULT: u64 = 1 << 20;
const LARGEST_DEFAULT: u64 = 1024;

/// Numbers of blocks and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub largest: usize,
    pub block: usize,
    pub blocks: u64,
    pub depth: u64,
    pub places: u64,
}

/// The parts of a body behind its control record.
pub(super) struct Parts {
    pub index: Places,
    pub records: Places,
    pub places: Places,
    pub payload: Places,
}

impl Geometry {
    /// Says what is wrong with the options.
    pub(super) fn of(options: &TopicOptions) -> Result<Geometry, &'static str> {
        let capacity = if options.capacity == 0 { CAPACITY_DEFAULT } else { options.capacity };
        let largest = if options.largest == 0 { LARGEST_DEFAULT.min(capacity / 4) } else { options.largest };
        if largest == 0 || largest > LARGEST_MAX {
            return Err("the largest message is from 1 byte to 1 GiB");
        }
        let block = largest.div_ceil(RUN_MAX).next_multiple_of(BLOCK_MIN);
        let blocks = capacity / block;
        if blocks > BLOCKS_MAX {
            return Err("the capacity is at most 2^24 blocks of a sixteenth of the largest message");
        }
        if blocks < 2 * largest.div_ceil(block) {
            return Err("the capacity must hold two messages of the largest size, in blocks of a sixteenth of it, at \
                        least 128 bytes");
        }
        let depth = if options.depth == 0 { blocks } else { options.depth.min(blocks) };
        let places = options.subscribers.into();
        if places > PLACES_MAX {
            return Err("a topic has at most 1024 subscribers");
        }
        let geometry = Geometry { largest: largest as usize, block: block as usize, blocks, depth, places };
        geometry.size().map(|_| geometry).ok_or("no address space is that large; lower the capacity")
    }

    /// Blocks of a message of this length.
    #[inline(always)]
    pub(super) fn run(&self, length: usize) -> u64 {
        (length.div_ceil(self.block) as u64).max(1)
    }

    fn entries(&self) -> u64 {
        (self.blocks + 1).next_power_of_two()
    }

    fn at(&self) -> Option<[usize; 5]> {
        let many = usize::try_from(self.blocks.next_power_of_two()).ok()?;
        let index = size_of::<Control>();
        let records = index + (usize::try_from(self.entries()).ok()? * 8).next_multiple_of(PLACE);
        let places = records + (many * RECORD).next_multiple_of(PLACE);
        let payload = places + usize::try_from(self.places.next_power_of_two()).ok()? * PLACE;
        let end = payload.checked_add(usize::try_from(self.blocks).ok()?.checked_mul(self.block)?)?;
        Some([index, records, places, payload, end])
    }

    /// Bytes of the whole body.
    pub(super) fn size(&self) -> Option<usize> {
        self.at().map(|[.., end]| end)
    }

    /// Writes the constants of a new topic; zeros are right for all else.
    pub(super) fn fill(&self, memory: &Arc<Mapping>, body: usize) -> Option<()> {
        let control: &Control = memory.record(body)?;
        // Relaxed: nobody else can see the segment yet.
        control.largest.store(self.largest as u64, Ordering::Relaxed);
        control.block.store(self.block as u64, Ordering::Relaxed);
        control.blocks.store(self.blocks, Ordering::Relaxed);
        control.depth.store(self.depth, Ordering::Relaxed);
        control.places.store(self.places, Ordering::Relaxed);
        Some(())
    }

    /// Reads the constants of a topic that is there, each once, and checks that they fit together and into the segment.
    pub(super) fn read(segment: &Segment) -> SysResult<(Geometry, Parts)> {
        let (body, length) = segment.body();
        let control: &Control = segment.memory().record(body).ok_or(Errno::EBADMSG)?;
        // Relaxed: constant since before the segment could be seen.
        let geometry = Geometry {
            largest: usize::try_from(control.largest.load(Ordering::Relaxed)).map_err(|_| Errno::EBADMSG)?,
            block: usize::try_from(control.block.load(Ordering::Relaxed)).map_err(|_| Errno::EBADMSG)?,
            blocks: control.blocks.load(Ordering::Relaxed),
            depth: control.depth.load(Ordering::Relaxed),
            places: control.places.load(Ordering::Relaxed),
        };
        let sound = (1..=LARGEST_MAX).contains(&(geometry.largest as u64))
            && geometry.block as u64 >= BLOCK_MIN
            && geometry.block.is_multiple_of(BLOCK_MIN as usize)
            && (1..=BLOCKS_MAX).contains(&geometry.blocks)
            && geometry.run(geometry.largest) <= RUN_MAX.min(geometry.blocks / 2)
            && (1..=geometry.blocks).contains(&geometry.depth)
            && (1..=PLACES_MAX).contains(&geometry.places);
        if !sound {
            return Err(Errno::EBADMSG);
        }
        let parts = geometry.parts(segment.memory(), body, length).ok_or(Errno::EBADMSG)?;
        Ok((geometry, parts))
    }

    fn parts(&self, memory: &Arc<Mapping>, body: usize, length: usize) -> Option<Parts> {
        let [index, records, places, payload, end] = self.at()?;
        if end > length {
            return None;
        }
        let many = self.blocks.next_power_of_two();
        Some(Parts {
            index: Places::new(memory, body + index, 8, self.entries())?,
            records: Places::new(memory, body + records, RECORD, many)?,
            places: Places::new(memory, body + places, PLACE, self.places.next_power_of_two())?,
            payload: Places::new(memory, body + payload, end - payload, 1)?,
        })
    }
}
