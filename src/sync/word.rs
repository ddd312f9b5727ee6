//! The word that says who has a lock.
//!
//! ```text
//! count (8) | thread (32) | owner (21) | phase (3)
//! ```
//!
//! The thread is its number in the kernel. The count goes up each time that the lock is taken, so that who looks twice can
//! tell one holding from the next.

use nix::errno::Errno;

use crate::segment::Tag;
use crate::sys::SysResult;

const PHASE_BITS: u32 = 3;
const THREAD_AT: u32 = PHASE_BITS + Tag::BITS;
const COUNT_AT: u32 = THREAD_AT + 32;

/// What a lock's word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free = 0,
    Held = 1,
    /// Held by who took it over from the dead and has not yet said that what it guards is consistent again.
    Inherited = 2,
    /// Nobody's; whoever held it died.
    Abandoned = 3,
    /// For good.
    GivenUp = 4,
    /// A writer's to be, once the readers have left.
    Claimed = 5,
    /// The same, where whoever held it before had died.
    ClaimedInherited = 6,
}

/// A thread of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub tag: Tag,
    pub thread: u32,
}

/// Any 64 bits are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub u64);

impl Word {
    /// `EBADMSG` for what nobody writes.
    #[inline(always)]
    pub fn phase(self) -> SysResult<Phase> {
        Ok(match self.0 & ((1 << PHASE_BITS) - 1) {
            0 => Phase::Free,
            1 => Phase::Held,
            2 => Phase::Inherited,
            3 => Phase::Abandoned,
            4 => Phase::GivenUp,
            5 => Phase::Claimed,
            6 => Phase::ClaimedInherited,
            _ => return Err(Errno::EBADMSG),
        })
    }

    #[inline(always)]
    pub fn owner(self) -> Owner {
        Owner { tag: Tag::from_bits(self.0 >> PHASE_BITS), thread: (self.0 >> THREAD_AT) as u32 }
    }

    /// Taken by `owner`, whoever had it before.
    #[inline(always)]
    pub fn taken(self, phase: Phase, owner: Owner) -> Word {
        let count = (self.0 >> COUNT_AT) + 1;
        Word(count << COUNT_AT | u64::from(owner.thread) << THREAD_AT | owner.tag.bits() << PHASE_BITS | phase as u64)
    }

    /// In the same hands.
    #[inline(always)]
    pub fn with(self, phase: Phase) -> Word {
        Word(self.0 & !((1 << PHASE_BITS) - 1) | phase as u64)
    }

    /// In nobody's.
    #[inline(always)]
    pub fn without_owner(self, phase: Phase) -> Word {
        Word(self.0 >> COUNT_AT << COUNT_AT | phase as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_touch() {
        let owner = Owner { tag: Tag::from_bits(u64::MAX), thread: u32::MAX };
        let phases = [
            Phase::Free,
            Phase::Held,
            Phase::Inherited,
            Phase::Abandoned,
            Phase::GivenUp,
            Phase::Claimed,
            Phase::ClaimedInherited,
        ];
        for phase in phases {
            let taken = Word(u64::MAX).taken(phase, owner);
            assert_eq!((taken.phase(), taken.owner(), taken.0 >> COUNT_AT), (Ok(phase), owner, 0));
            assert_eq!(taken.with(Phase::Free).with(phase), taken);
            let nobodys = Word(u64::MAX).without_owner(phase);
            assert_eq!((nobodys.phase(), nobodys.owner().thread, nobodys.0 >> COUNT_AT), (Ok(phase), 0, 255));
        }
        assert_eq!(Word(7).phase(), Err(Errno::EBADMSG));
    }
}
