//! The words of a pool.
//!
//! ```text
//! slot         token (40) | - (1) | dirty (1) | held (1) | owner (21)
//! since        milliseconds since 1970 (44) | group (4) | token (16)
//! expiry       milliseconds of the monotonic clock (40) | token (24)
//! information  CRC-32 (32) | sequence (20) | length (11) | buffer (1)
//! waiter       arrival (39) | group (4) | owner (21)
//! ```
//!
//! The slot's word says all: whose it is, under which token, and whether its last holder died with it. It changes by
//! compare-exchange only, so there is no instruction between two of its states. The others tell more about it, and carry
//! enough of the token to be told from those of another lease.

use crate::segment::Tag;

/// Bytes of information that a slot keeps.
pub const LEASE_INFORMATION_MAX: usize = 1024;

const HELD: u64 = 1 << Tag::BITS;
const DIRTY: u64 = 1 << (Tag::BITS + 1);
const TOKEN_AT: u32 = Tag::BITS + 3;

fn low(value: u64, bits: u32) -> u64 {
    value & ((1 << bits) - 1)
}

/// A slot. Any 64 bits are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub u64);

impl Word {
    #[inline(always)]
    pub fn is_held(self) -> bool {
        self.0 & HELD != 0
    }

    #[inline(always)]
    pub fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    #[inline(always)]
    pub fn owner(self) -> Tag {
        Tag::from_bits(self.0)
    }

    /// How many have had it.
    #[inline(always)]
    pub fn token(self) -> u64 {
        self.0 >> TOKEN_AT
    }

    /// In the hands of the next.
    #[inline(always)]
    pub fn taken(self, owner: Tag) -> Word {
        Word((self.token() + 1) << TOKEN_AT | self.0 & DIRTY | HELD | owner.bits())
    }

    /// In nobody's; dirty if it was, or is now.
    #[inline(always)]
    pub fn freed(self, dirty: bool) -> Word {
        Word(self.0 >> TOKEN_AT << TOKEN_AT | self.0 & DIRTY | if dirty { DIRTY } else { 0 })
    }

    pub fn clean(self) -> Word {
        Word(self.0 & !DIRTY)
    }

    /// Whether both are of the same lease.
    #[inline(always)]
    pub fn is_lease_of(self, other: Word) -> bool {
        self.clean() == other.clean()
    }
}

/// Since when it is held, and for which group.
#[derive(Clone, Copy)]
pub(super) struct Since(pub u64);

impl Since {
    #[inline(always)]
    pub fn new(millis: u64, group: u32, word: Word) -> Since {
        Since(millis << 20 | low(group.into(), 4) << 16 | low(word.token(), 16))
    }

    pub fn is_of(self, word: Word) -> bool {
        low(self.0, 16) == low(word.token(), 16)
    }

    pub fn group(self) -> u32 {
        low(self.0 >> 16, 4) as u32
    }

    pub fn millis(self) -> u64 {
        self.0 >> 20
    }
}

/// When a lease ends unless it is renewed.
#[derive(Clone, Copy)]
pub(super) struct Expiry(pub u64);

impl Expiry {
    pub fn new(millis: u64, word: Word) -> Expiry {
        Expiry(millis << 24 | low(word.token(), 24))
    }

    pub fn is_of(self, word: Word) -> bool {
        low(self.0, 24) == low(word.token(), 24)
    }

    pub fn millis(self) -> u64 {
        self.0 >> 24
    }
}

/// Which bytes are a slot's information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Information(pub u64);

impl Information {
    pub fn crc(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub fn length(self) -> usize {
        low(self.0 >> 1, 11) as usize
    }

    pub fn buffer(self) -> usize {
        low(self.0, 1) as usize
    }

    /// What comes after it, in the other buffer.
    pub fn next(self, crc: u32, length: usize) -> Information {
        let sequence = low((self.0 >> 12) + 1, 20);
        Information(u64::from(crc) << 32 | sequence << 12 | low(length as u64, 11) << 1 | low(self.0 ^ 1, 1))
    }

    /// The same under another word, so that an exchange that somebody has begun fails.
    pub fn fenced(self) -> Information {
        Information(self.0 & !(((1 << 20) - 1) << 12) | low((self.0 >> 12) + 1, 20) << 12)
    }
}

/// One who waits. Zero is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter(pub u64);

impl Waiter {
    pub fn new(arrival: u64, group: u32, owner: Tag) -> Waiter {
        Waiter(arrival << (Tag::BITS + 4) | low(group.into(), 4) << Tag::BITS | owner.bits())
    }

    pub fn owner(self) -> Tag {
        Tag::from_bits(self.0)
    }

    pub fn group(self) -> u32 {
        low(self.0 >> Tag::BITS, 4) as u32
    }

    pub fn arrival(self) -> u64 {
        self.0 >> (Tag::BITS + 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_touch() {
        let owner = Tag::from_bits(u64::MAX);
        let first = Word(0).taken(owner);
        assert_eq!((first.token(), first.is_held(), first.is_dirty(), first.owner()), (1, true, false, owner));
        let dead = first.freed(true);
        assert_eq!((dead.token(), dead.is_held(), dead.is_dirty()), (1, false, true));
        let second = dead.taken(Tag::from_bits(0));
        assert_eq!((second.token(), second.is_dirty(), second.owner().bits()), (2, true, 0));
        assert!(second.freed(false).is_dirty() && !second.clean().freed(false).is_dirty());
        assert!(second.is_lease_of(second.clean()) && !second.is_lease_of(first));
        assert_eq!(Word(u64::MAX).taken(owner).token(), 0);
        let since = Since::new(123, 8, Word(u64::MAX));
        assert_eq!(
            (since.millis(), since.group(), since.is_of(Word(u64::MAX)), since.is_of(first)),
            (123, 8, true, false)
        );
        let expiry = Expiry::new(77, second);
        assert_eq!((expiry.millis(), expiry.is_of(second), expiry.is_of(first)), (77, true, false));
        let information = Information(u64::MAX).next(5, LEASE_INFORMATION_MAX);
        assert_eq!((information.crc(), information.length(), information.buffer()), (5, LEASE_INFORMATION_MAX, 0));
        let fenced = information.fenced();
        assert_ne!(fenced, information);
        assert_eq!((fenced.crc(), fenced.length(), fenced.buffer()), (5, LEASE_INFORMATION_MAX, 0));
        let waiter = Waiter::new(9, 8, owner);
        assert_eq!((waiter.arrival(), waiter.group(), waiter.owner()), (9, 8, owner));
    }
}
