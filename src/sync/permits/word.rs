//! The words of permits.
//!
//! ```text
//! pool     sequence (28) | author (8) | held (14) | available (14)
//! holding  phase (2) | epoch (13) | sequence (28) | held (14)
//! ```
//!
//! The pool names who changed it last and how many permits that one holds since: so a permit leaves the pool and comes into
//! somebody's hands in one exchange. What the last author holds is written down in its own holding by whoever changes the
//! pool next, before that.

use crate::segment::Tag;

/// Permits there can be.
pub(super) const PERMITS_MAX: u64 = (1 << COUNT_BITS) - 1;

const COUNT_BITS: u32 = 14;
const INDEX_BITS: u32 = 8;
const SEQUENCE_BITS: u32 = 28;
const SEQUENCES: u64 = 1 << SEQUENCE_BITS;
const AUTHOR_AT: u32 = 2 * COUNT_BITS;
const POOL_SEQUENCE_AT: u32 = AUTHOR_AT + INDEX_BITS;
const EPOCH_AT: u32 = COUNT_BITS + SEQUENCE_BITS;
const EPOCH_BITS: u32 = Tag::BITS - INDEX_BITS;
const PHASE_AT: u32 = EPOCH_AT + EPOCH_BITS;

fn part(word: u64, at: u32, bits: u32) -> u64 {
    word >> at & ((1 << bits) - 1)
}

/// Any 64 bits are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pool(pub u64);

impl Pool {
    #[inline(always)]
    pub fn available(self) -> u64 {
        part(self.0, 0, COUNT_BITS)
    }

    /// What its author holds.
    #[inline(always)]
    pub fn held(self) -> u64 {
        part(self.0, COUNT_BITS, COUNT_BITS)
    }

    #[inline(always)]
    pub fn author(self) -> u64 {
        part(self.0, AUTHOR_AT, INDEX_BITS)
    }

    #[inline(always)]
    pub fn sequence(self) -> u64 {
        self.0 >> POOL_SEQUENCE_AT
    }

    /// Changed by this author, who holds so many from then on; the counts are at most `PERMITS_MAX`.
    #[inline(always)]
    pub fn next(self, available: u64, author: u64, held: u64) -> Pool {
        let sequence = (self.sequence() + 1) % SEQUENCES;
        Pool(sequence << POOL_SEQUENCE_AT | author << AUTHOR_AT | held << COUNT_BITS | available)
    }
}

/// What a holding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody's.
    Free = 0,
    /// That of the participant of its epoch.
    Enrolled = 1,
    /// That of one who is dead or has left, whose permits go back to the pool.
    Leaving = 2,
}

/// One participant's holding. Any 64 bits are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holding(pub u64);

impl Holding {
    pub fn free() -> Holding {
        Holding(0)
    }

    pub fn enrolled(owner: Tag) -> Holding {
        Holding((Standing::Enrolled as u64) << PHASE_AT | (owner.bits() >> INDEX_BITS) << EPOCH_AT)
    }

    #[inline(always)]
    pub fn standing(self) -> Standing {
        match self.0 >> PHASE_AT & 3 {
            1 => Standing::Enrolled,
            2 => Standing::Leaving,
            _ => Standing::Free,
        }
    }

    pub fn leaving(self) -> Holding {
        Holding(self.0 & ((1 << PHASE_AT) - 1) | (Standing::Leaving as u64) << PHASE_AT)
    }

    /// Whose it is, given its index.
    #[inline(always)]
    pub fn owner(self, index: u64) -> Tag {
        Tag::from_bits(part(self.0, EPOCH_AT, EPOCH_BITS) << INDEX_BITS | index)
    }

    #[inline(always)]
    pub fn held(self) -> u64 {
        part(self.0, 0, COUNT_BITS)
    }

    /// As of which change of the pool.
    #[inline(always)]
    pub fn sequence(self) -> u64 {
        part(self.0, COUNT_BITS, SEQUENCE_BITS)
    }

    /// With what the pool says of it.
    #[inline(always)]
    pub fn settled(self, pool: Pool) -> Holding {
        Holding(self.0 >> EPOCH_AT << EPOCH_AT | pool.sequence() << COUNT_BITS | pool.held())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_touch() {
        let pool = Pool(u64::MAX).next(PERMITS_MAX, 255, 0);
        assert_eq!((pool.available(), pool.author(), pool.held(), pool.sequence()), (PERMITS_MAX, 255, 0, 0));
        let pool = pool.next(0, 3, PERMITS_MAX);
        assert_eq!((pool.available(), pool.author(), pool.held(), pool.sequence()), (0, 3, PERMITS_MAX, 1));
        let owner = Tag::from_bits(u64::MAX);
        let holding = Holding::enrolled(owner).settled(Pool(u64::MAX));
        assert_eq!((holding.standing(), holding.owner(owner.index().into())), (Standing::Enrolled, owner));
        assert_eq!((holding.held(), holding.sequence()), (PERMITS_MAX, SEQUENCES - 1));
        let leaving = holding.leaving();
        assert_eq!((leaving.standing(), leaving.owner(255), leaving.held()), (Standing::Leaving, owner, PERMITS_MAX));
        assert_eq!(Holding(u64::MAX).standing(), Standing::Free);
    }
}
