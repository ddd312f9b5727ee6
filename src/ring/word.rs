//! The state word of a slot: the one word that says what a slot holds and whose it is, and that moves only by
//! compare-exchange of its whole value.
//!
//! ```text
//! bit 63                          25  24   21  20            0
//!     +-----------------------------+---------+--------------+
//!     | lap (39)                    | phase   | owner (21)   |
//!     +-----------------------------+---------+--------------+
//! ```
//!
//! Position `p` of the ring is lap `p / slots` of slot `p % slots`. A lap of a slot begins FREE and ends when the word
//! becomes FREE of the next lap, so no value ever comes back (a lap counter of 39 bits wraps after hours at full speed,
//! and a stale compare-exchange would have to hit the very same lap, phase and owner).

use crate::segment::Tag;

pub(super) const LAP_BITS: u32 = 39;
const PHASE_SHIFT: u32 = Tag::BITS;
const PHASE_BITS: u32 = 4;
const LAP_SHIFT: u32 = PHASE_SHIFT + PHASE_BITS;
const _: () = assert!(LAP_SHIFT + LAP_BITS == 64);

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing; the next producer may take it. No owner.
    Free = 0,
    /// A message that its owner, a producer, is writing.
    Writing = 1,
    /// A whole message that nobody has taken. The owner is who sent it, which decides nothing but the order.
    Ready = 2,
    /// A message that its owner, a consumer, has taken and not finished.
    Reading = 3,
    /// Nothing more in this lap, for a [`Reason`] that has to be counted before the next one begins. The reason stands in
    /// the owner's place: whoever comes by counts and moves on.
    Passed = 4,
    /// As `Writing`, in a lap that began while the slot was still held; the lap before it has to be counted as late.
    WritingLate = 5,
    /// As `Reading`, likewise.
    ReadingLate = 6,
    /// As `Ready`, but a consumer that took it died before finishing. It may lie behind the head.
    Returned = 7,
    /// A message that came back too often: it is for those who ask for such only. No owner.
    DeadLetter = 8,
    /// As `DeadLetter`, in a lap that began while it lay there; the lap before it has to be counted as late.
    DeadLetterLate = 9,
}

/// Why a lap of a slot ended without a message being finished; each is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The lap began while the slot was still held, so the ring went on without it.
    Late = 0,
    /// The producer gave up the message that it was writing.
    Aborted = 1,
    /// The producer died while it was writing.
    Skipped = 2,
    /// The message was thrown away for a newer one.
    Dropped = 3,
}

impl Reason {
    fn from_bits(bits: u64) -> Reason {
        match bits & 3 {
            0 => Reason::Late,
            1 => Reason::Aborted,
            2 => Reason::Skipped,
            _ => Reason::Dropped,
        }
    }
}

/// A value of a state word. Any 64 bits are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    #[inline(always)]
    fn new(lap: u64, phase: Phase, owner: u64) -> Word {
        Word(lap << LAP_SHIFT | (phase as u64) << PHASE_SHIFT | owner)
    }

    #[inline(always)]
    pub(super) fn lap(self) -> u64 {
        self.0 >> LAP_SHIFT
    }

    #[inline(always)]
    pub(super) fn phase(self) -> Phase {
        match (self.0 >> PHASE_SHIFT) & ((1 << PHASE_BITS) - 1) {
            0 => Phase::Free,
            1 => Phase::Writing,
            2 => Phase::Ready,
            3 => Phase::Reading,
            5 => Phase::WritingLate,
            6 => Phase::ReadingLate,
            7 => Phase::Returned,
            8 => Phase::DeadLetter,
            9 => Phase::DeadLetterLate,
            _ => Phase::Passed, // also of what nobody writes: it is counted and gone
        }
    }

    #[inline(always)]
    pub(super) fn owner(self) -> Tag {
        Tag::from_bits(self.0)
    }

    /// Of a `Passed` word.
    pub(super) fn reason(self) -> Reason {
        Reason::from_bits(self.owner().bits())
    }

    /// The same lap in another phase.
    #[inline(always)]
    pub(super) fn to(self, phase: Phase, owner: Tag) -> Word {
        Word::new(self.lap(), phase, owner.bits())
    }

    pub(super) fn to_passed(self, reason: Reason) -> Word {
        Word::new(self.lap(), Phase::Passed, reason as u64)
    }

    /// The same lap in a phase without an owner.
    pub(super) fn to_nobody(self, phase: Phase) -> Word {
        Word::new(self.lap(), phase, 0)
    }

    /// The start of the next lap.
    #[inline(always)]
    pub(super) fn to_free(self) -> Word {
        Word::new(self.lap() + 1, Phase::Free, 0)
    }

    /// The next lap for a slot that is still held.
    pub(super) fn to_late(self, phase: Phase) -> Word {
        Word::new(self.lap() + 1, phase, self.owner().bits())
    }

    /// How many laps the word is ahead of this one (negative: behind).
    #[inline(always)]
    pub(super) fn ahead_of(self, lap: u64) -> i64 {
        (self.lap().wrapping_sub(lap) << LAP_SHIFT).cast_signed() >> LAP_SHIFT
    }

    /// The lap as a full number, given one close to it.
    pub(super) fn whole_lap(self, near: u64) -> u64 {
        near.wrapping_add_signed(self.ahead_of(near))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_touch() {
        let word = Word::new((1 << LAP_BITS) - 1, Phase::Reading, Tag::from_bits(u64::MAX).bits());
        assert_eq!((word.lap(), word.phase()), ((1 << LAP_BITS) - 1, Phase::Reading));
        assert_eq!(word.to_free(), Word(0), "the lap wraps");
        assert_eq!(word.to_passed(Reason::Skipped).reason(), Reason::Skipped);
    }

    #[test]
    fn laps_compare_across_the_wrap() {
        let last = Word::new((1 << LAP_BITS) - 1, Phase::Free, 0);
        assert_eq!(last.ahead_of(0), -1);
        assert_eq!(last.to_free().ahead_of((1 << LAP_BITS) - 1), 1);
        assert_eq!(last.whole_lap(1 << LAP_BITS), (1 << LAP_BITS) - 1);
        assert_eq!(Word(0).whole_lap((1 << LAP_BITS) - 1), 1 << LAP_BITS);
    }
}
