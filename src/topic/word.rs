//! The words by which everything in a topic changes hands. Each moves only by compare-exchange of its whole value.
//!
//! ```text
//! block   | phase 3 | version 28 | 12 × 0, owner 21                         |   first block of a message
//!         | phase 3 | version 28 | distance to the first 5, its version 28  |   the blocks behind it
//! index   | full 1  | lap 39     | first block 24, or while empty: fences   |
//! place   | phase 3 | version 40 | owner 21                                 |   of a subscriber
//! cursor  | version of the place 16 | sequence number 48                    |
//! floor   | joins 16                | sequence number 48                    |
//! ```
//!
//! Versions grow with each claim, so that no value comes back: a stale compare-exchange would have to hit the very same
//! version, phase and owner after a whole turn of the counter.

use crate::segment::Tag;

const PHASE_SHIFT: u32 = 61;
const VERSION_BITS: u32 = 28;
const VERSION_SHIFT: u32 = PHASE_SHIFT - VERSION_BITS;
const VERSION_MASK: u64 = (1 << VERSION_BITS) - 1;
const DISTANCE_MASK: u64 = 31;
const _: () = assert!(VERSION_SHIFT == 5 + VERSION_BITS);

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing.
    Free = 0,
    /// The start of a message that its owner is making, or has published and not yet marked so.
    Held = 1,
    /// The start of a message that is, or was, in the index. No owner.
    Live = 2,
    /// More of the message whose start lies so many blocks before it, for as long as that one has the same version.
    Follows = 3,
    /// The start of a message whose maker died; free as soon as that is counted.
    Skipped = 4,
}

/// A value of a block's word. Any 64 bits are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block(pub(super) u64);

impl Block {
    fn new(phase: Phase, version: u64, rest: u64) -> Block {
        Block((phase as u64) << PHASE_SHIFT | (version & VERSION_MASK) << VERSION_SHIFT | rest)
    }

    #[inline(always)]
    pub(super) fn phase(self) -> Phase {
        match self.0 >> PHASE_SHIFT {
            0 => Phase::Free,
            1 => Phase::Held,
            2 => Phase::Live,
            3 => Phase::Follows,
            _ => Phase::Skipped,
        }
    }

    #[inline(always)]
    pub(super) fn version(self) -> u64 {
        self.0 >> VERSION_SHIFT & VERSION_MASK
    }

    pub(super) fn owner(self) -> Tag {
        Tag::from_bits(self.0)
    }

    /// Of a block that follows: how far before it the first one lies, and that one's version.
    #[inline(always)]
    pub(super) fn first(self) -> (u64, u64) {
        (self.0 >> VERSION_BITS & DISTANCE_MASK, self.0 & VERSION_MASK)
    }

    #[inline(always)]
    pub(super) fn to_held(self, me: Tag) -> Block {
        Block::new(Phase::Held, self.version() + 1, me.bits())
    }

    #[inline(always)]
    pub(super) fn to_follow(self, distance: u64, first: Block) -> Block {
        Block::new(Phase::Follows, self.version() + 1, (distance & DISTANCE_MASK) << VERSION_BITS | first.version())
    }

    #[inline(always)]
    pub(super) fn to(self, phase: Phase) -> Block {
        Block::new(phase, self.version(), 0)
    }
}

const LAP_SHIFT: u32 = 24;
const LAP_BITS: u32 = 39;
const FULL: u64 = 1 << 63;
const LOW_MASK: u64 = (1 << LAP_SHIFT) - 1;

/// Blocks that an index entry can name.
pub(super) const BLOCKS_MAX: u64 = 1 << LAP_SHIFT;

/// A value of an entry of the index. Any 64 bits are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u64);

impl Entry {
    #[inline(always)]
    pub(super) fn is_full(self) -> bool {
        self.0 & FULL != 0
    }

    #[inline(always)]
    pub(super) fn block(self) -> u64 {
        self.0 & LOW_MASK
    }

    /// How many laps the word is ahead of this one (negative: behind).
    #[inline(always)]
    pub(super) fn ahead_of(self, lap: u64) -> i64 {
        ((self.0 >> LAP_SHIFT).wrapping_sub(lap) << (64 - LAP_BITS)).cast_signed() >> (64 - LAP_BITS)
    }

    #[inline(always)]
    pub(super) fn to_full(self, block: u64) -> Entry {
        Entry(FULL | self.0 & !LOW_MASK | block & LOW_MASK)
    }

    /// The next lap's.
    #[inline(always)]
    pub(super) fn to_empty(self) -> Entry {
        Entry((self.0 & !FULL & !LOW_MASK).wrapping_add(1 << LAP_SHIFT) & !FULL)
    }

    /// The same, but a compare-exchange that expects what it was fails.
    pub(super) fn fenced(self) -> Entry {
        Entry(self.0 & !LOW_MASK | (self.0 + 1) & LOW_MASK)
    }
}

/// What a subscriber's place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    Free = 0,
    /// Being filled in; of no consequence to publishers.
    Joining = 1,
    /// No message is retired before its cursor has passed it.
    Lossless = 2,
    Lossy = 3,
    /// Was lossless, and stuck for longer than its limit.
    CutOff = 4,
}

/// A value of a place's word. Any 64 bits are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(pub(super) u64);

const PLACE_VERSION_BITS: u32 = 40;

impl Place {
    fn new(seat: Seat, version: u64, owner: u64) -> Place {
        Place((seat as u64) << PHASE_SHIFT | (version & ((1 << PLACE_VERSION_BITS) - 1)) << Tag::BITS | owner)
    }

    pub(super) fn seat(self) -> Seat {
        match self.0 >> PHASE_SHIFT {
            0 => Seat::Free,
            1 => Seat::Joining,
            2 => Seat::Lossless,
            3 => Seat::Lossy,
            _ => Seat::CutOff,
        }
    }

    fn version(self) -> u64 {
        self.0 >> Tag::BITS & ((1 << PLACE_VERSION_BITS) - 1)
    }

    pub(super) fn owner(self) -> Tag {
        Tag::from_bits(self.0)
    }

    pub(super) fn to_joining(self, me: Tag) -> Place {
        Place::new(Seat::Joining, self.version() + 1, me.bits())
    }

    pub(super) fn to(self, seat: Seat) -> Place {
        Place::new(seat, self.version(), if seat == Seat::Free { 0 } else { self.owner().bits() })
    }

    /// A cursor of this place in its present version.
    pub(super) fn cursor(self, sequence: u64) -> Mark {
        Mark::new(sequence, self.version())
    }
}

const SEQUENCE_BITS: u32 = 48;

/// A sequence number of 48 bits, and a count of 16 that makes stale exchanges fail: a cursor, or the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(pub(super) u64);

impl Mark {
    #[inline(always)]
    pub(super) fn new(sequence: u64, count: u64) -> Mark {
        Mark(count << SEQUENCE_BITS | sequence & ((1 << SEQUENCE_BITS) - 1))
    }

    /// One more in the count.
    pub(super) const ONE: u64 = 1 << SEQUENCE_BITS;

    pub(super) fn count(self) -> u64 {
        self.0 >> SEQUENCE_BITS
    }

    /// The whole sequence number, given one close to it.
    #[inline(always)]
    pub(super) fn whole(self, near: u64) -> u64 {
        let ahead = (self.0.wrapping_sub(near) << (64 - SEQUENCE_BITS)).cast_signed() >> (64 - SEQUENCE_BITS);
        near.wrapping_add_signed(ahead)
    }
}

/// How far `a` lies behind `b`; negative if it does not.
#[inline(always)]
pub(super) fn behind(a: u64, b: u64) -> i64 {
    b.wrapping_sub(a).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_block_do_not_touch() {
        let me = Tag::from_bits(u64::MAX);
        let held = Block::new(Phase::Free, VERSION_MASK - 1, 0).to_held(me);
        assert_eq!((held.phase(), held.version(), held.owner()), (Phase::Held, VERSION_MASK, me));
        let follows = Block(0).to_follow(31, held);
        assert_eq!((follows.phase(), follows.version(), follows.first()), (Phase::Follows, 1, (31, VERSION_MASK)));
        assert_eq!(held.to(Phase::Free).to_held(me).version(), 0, "the version wraps");
    }

    #[test]
    fn laps_of_an_entry_wrap() {
        let full = Entry(0).to_full(7);
        assert_eq!((full.is_full(), full.block(), full.ahead_of(0)), (true, 7, 0));
        let next = full.to_empty();
        assert_eq!((next.is_full(), next.ahead_of(0), next.ahead_of(1)), (false, 1, 0));
        assert_eq!(next.fenced().ahead_of(1), 0);
        let last = Entry(((1 << LAP_BITS) - 1) << LAP_SHIFT);
        assert_eq!((last.ahead_of(0), last.to_full(1).to_empty()), (-1, Entry(0)));
    }

    #[test]
    fn marks_are_whole_near_either_side() {
        for near in [0, 5, (1 << 48) + 3, u64::MAX] {
            for ahead in [-3i64, 0, 9] {
                let sequence = near.wrapping_add_signed(ahead);
                let mark = Mark::new(sequence, 0xffff);
                assert_eq!((mark.whole(near), mark.count()), (sequence, 0xffff));
            }
        }
    }

    #[test]
    fn places_keep_their_version() {
        let place = Place(0).to_joining(Tag::from_bits(9)).to(Seat::Lossless);
        assert_eq!(
            (place.seat(), place.owner(), place.cursor(4)),
            (Seat::Lossless, Tag::from_bits(9), Mark::new(4, 1))
        );
        assert_eq!(place.to(Seat::Free).to_joining(Tag::from_bits(1)).cursor(0), Mark::new(0, 2));
    }
}
