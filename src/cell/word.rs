//! The words of a cell, each changed by compare-exchange of its whole value only.
//!
//! ```text
//! latest   sequence (50) | fence (4) | buffer (10)
//! buffer   sequence (40) | phase (3) | owner (21)
//! pin      count (31) | phase (2) | buffer (10) | owner (21)
//! ```
//!
//! A value's sequence number is the count of all values so far. A buffer keeps its lower 40 bits: who takes one value
//! for another has slept, in the middle of a copy, through an exact multiple of 2^40 of them.

use crate::segment::Tag;

const BUFFER_BITS: u32 = 10;
const FENCE_BITS: u32 = 4;
const STATE_BITS: u32 = 40;

/// Which buffer holds the latest value; all zeros: there has been none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Latest(pub(super) u64);

impl Latest {
    #[inline(always)]
    pub(super) fn sequence(self) -> u64 {
        self.0 >> (BUFFER_BITS + FENCE_BITS)
    }

    #[inline(always)]
    pub(super) fn buffer(self) -> u64 {
        self.0 & ((1 << BUFFER_BITS) - 1)
    }

    /// The next value, which lies in this buffer.
    #[inline(always)]
    pub(super) fn next(self, buffer: u64) -> Latest {
        Latest(
            (self.sequence() + 1) << (BUFFER_BITS + FENCE_BITS)
                | (self.0 & (((1 << FENCE_BITS) - 1) << BUFFER_BITS))
                | buffer,
        )
    }

    /// The same value under another word, so that an exchange that somebody has begun fails.
    pub(super) fn fenced(self) -> Latest {
        let fence = ((self.0 >> BUFFER_BITS) + 1) & ((1 << FENCE_BITS) - 1);
        Latest(self.sequence() << (BUFFER_BITS + FENCE_BITS) | fence << BUFFER_BITS | self.buffer())
    }
}

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing. Any writer may take it.
    Free = 0,
    /// A value that its owner is writing. The sequence number is still that of what was there before.
    Writing = 1,
    /// A whole value that its owner is about to make the latest under this sequence number, or has made.
    Publishing = 2,
    /// The value of this sequence number. A writer may take it once it is not the latest.
    Ready = 3,
}

/// The state word of a buffer. Any 64 bits are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub(super) u64);

impl State {
    fn new(sequence: u64, phase: Phase, owner: u64) -> State {
        State(sequence << (Tag::BITS + 3) | (phase as u64) << Tag::BITS | owner)
    }

    #[inline(always)]
    pub(super) fn phase(self) -> Phase {
        match (self.0 >> Tag::BITS) & 7 {
            1 => Phase::Writing,
            2 => Phase::Publishing,
            3 => Phase::Ready,
            _ => Phase::Free,
        }
    }

    #[inline(always)]
    pub(super) fn owner(self) -> Tag {
        Tag::from_bits(self.0)
    }

    /// Lower 40 bits.
    #[inline(always)]
    pub(super) fn sequence(self) -> u64 {
        self.0 >> (Tag::BITS + 3)
    }

    /// The whole number, given one that is not older.
    pub(super) fn whole_sequence(self, newer: u64) -> u64 {
        newer.wrapping_sub(newer.wrapping_sub(self.sequence()) & ((1 << STATE_BITS) - 1))
    }

    /// Whether it holds the whole value of this number.
    #[inline(always)]
    pub(super) fn holds(self, sequence: u64) -> bool {
        matches!(self.phase(), Phase::Publishing | Phase::Ready)
            && self.sequence() == sequence & ((1 << STATE_BITS) - 1)
    }

    #[inline(always)]
    pub(super) fn to_writing(self, owner: Tag) -> State {
        State::new(self.sequence(), Phase::Writing, owner.bits())
    }

    pub(super) fn to_free(self) -> State {
        State::new(self.sequence(), Phase::Free, 0)
    }

    #[inline(always)]
    pub(super) fn publishing(sequence: u64, owner: Tag) -> State {
        State::new(sequence & ((1 << STATE_BITS) - 1), Phase::Publishing, owner.bits())
    }

    #[inline(always)]
    pub(super) fn ready(sequence: u64) -> State {
        State::new(sequence & ((1 << STATE_BITS) - 1), Phase::Ready, 0)
    }
}

/// What a pin says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nobody uses it.
    Free = 0,
    /// Its owner asks for the latest value; it or any writer may fill in the buffer.
    Asking = 1,
    /// Its owner has this buffer under its hands; nobody may write there.
    Held = 2,
}

/// Any 64 bits are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pin(pub(super) u64);

const COUNT_SHIFT: u32 = Tag::BITS + BUFFER_BITS + 2;

impl Pin {
    fn new(count: u64, hold: Hold, buffer: u64, owner: u64) -> Pin {
        let hold = (hold as u64) << (Tag::BITS + BUFFER_BITS);
        Pin(count << COUNT_SHIFT | hold | buffer << Tag::BITS | owner)
    }

    pub(super) fn hold(self) -> Hold {
        match (self.0 >> (Tag::BITS + BUFFER_BITS)) & 3 {
            1 => Hold::Asking,
            2 => Hold::Held,
            _ => Hold::Free,
        }
    }

    pub(super) fn buffer(self) -> u64 {
        self.0 >> Tag::BITS & ((1 << BUFFER_BITS) - 1)
    }

    pub(super) fn owner(self) -> Tag {
        Tag::from_bits(self.0)
    }

    /// A new question; no word of an earlier one comes back before 2^31 more.
    pub(super) fn asking(self, owner: Tag) -> Pin {
        Pin::new((self.0 >> COUNT_SHIFT) + 1, Hold::Asking, 0, owner.bits())
    }

    /// The answer to this question.
    pub(super) fn held(self, buffer: u64) -> Pin {
        Pin::new(self.0 >> COUNT_SHIFT, Hold::Held, buffer, self.owner().bits())
    }

    /// Whether this is an answer to that question.
    pub(super) fn answers(self, question: Pin) -> bool {
        self == question.held(self.buffer())
    }

    pub(super) fn free(self) -> Pin {
        Pin::new(self.0 >> COUNT_SHIFT, Hold::Free, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_touch() {
        let owner = Tag::from_bits(u64::MAX);
        let latest = (0..20).fold(Latest(7 << 14), |latest, _| latest.fenced());
        assert_eq!((latest.sequence(), latest.buffer()), (7, 0));
        assert_ne!(latest.fenced().0, latest.0);
        let next = latest.next(1023);
        assert_eq!(
            (next.sequence(), next.buffer(), next.fenced().sequence(), next.fenced().buffer()),
            (8, 1023, 8, 1023)
        );
        let state = State::publishing(u64::MAX, owner);
        assert_eq!((state.phase(), state.owner(), state.sequence()), (Phase::Publishing, owner, (1 << 40) - 1));
        assert!(state.holds(u64::MAX) && !state.holds(5) && !state.to_writing(owner).holds(u64::MAX));
        let pin = Pin(u64::MAX).free().asking(owner);
        assert_eq!((pin.hold(), pin.owner(), pin.buffer()), (Hold::Asking, owner, 0));
        let held = pin.held(1023);
        assert_eq!((held.hold(), held.owner(), held.buffer()), (Hold::Held, owner, 1023));
        assert!(held.answers(pin) && !pin.answers(pin) && !pin.free().asking(owner).held(3).answers(pin));
    }

    #[test]
    fn sequence_numbers_come_back_whole() {
        let newer = (5 << 40) + 3;
        assert_eq!(State::ready(newer).whole_sequence(newer), newer);
        assert_eq!(State::ready(newer - 10).whole_sequence(newer), newer - 10);
    }
}
