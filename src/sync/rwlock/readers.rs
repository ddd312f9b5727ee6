//! Who reads: one word for each participant, `count | owner (21)`.
//!
//! A reader counts itself in and then looks whether somebody writes; a writer says that it will and then looks whether
//! somebody reads. Both by SeqCst accesses, so that of two who do it at once at least one sees the other. Each word is on a
//! line of its own, so that readers are not in each other's way.

use nix::errno::Errno;

use crate::segment::{Member, Tag};
use crate::sync_atomics::Ordering;
use crate::sys::SysResult;
use crate::sys::shared::Places;

pub(super) struct Readers(Places);

/// Bytes for each participant.
pub(super) const PLACE: usize = 128;
/// Only somebody who keeps no rules makes so many exchanges fail.
const TRIES: u32 = 10_000;

fn count(word: u64) -> u64 {
    word >> Tag::BITS
}

impl Readers {
    pub fn new(places: Places) -> Readers {
        Readers(places)
    }

    /// Counts in one more reader.
    #[inline]
    pub fn enter(&self, me: Tag) -> SysResult<()> {
        // What stands there of another is left over from the dead.
        self.change(me, |own| Ok(own + 1))
    }

    /// Counts one out. `ESTALE` if this handle was declared dead, and counted out; `EPERM` if it is not in.
    #[inline]
    pub fn leave(&self, me: Tag) -> SysResult<()> {
        self.change(me, |own| own.checked_sub(1).ok_or(Errno::EPERM))
    }

    #[inline]
    fn change(&self, me: Tag, to: impl Fn(u64) -> SysResult<u64>) -> SysResult<()> {
        let place = self.0.word::<0>(me.index().into());
        for _ in 0..TRIES {
            let found = place.load(Ordering::Relaxed); // the exchange is exact
            let own = if Tag::from_bits(found) == me { count(found) } else { 0 };
            let next = to(own)? << Tag::BITS | me.bits();
            // SeqCst: see above; releases what was read to the next writer.
            if place.compare_exchange(found, next, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
        }
        Err(Errno::EBADMSG)
    }

    /// How many reads this participant has.
    pub fn of(&self, tag: Tag) -> u64 {
        let word = self.0.word::<0>(tag.index().into()).load(Ordering::SeqCst);
        if Tag::from_bits(word) == tag { count(word) } else { 0 }
    }

    /// Whether nobody who lives reads.
    pub fn are_none(&self, member: &Member) -> bool {
        (0..self.0.count()).all(|index| {
            let word = self.0.word::<0>(index).load(Ordering::SeqCst);
            count(word) == 0 || !member.is_current(Tag::from_bits(word))
        })
    }

    /// Counts out those who are not current; whether there were any.
    pub fn tidy(&self, member: &Member) -> bool {
        let mut any = false;
        for index in 0..self.0.count() {
            let place = self.0.word::<0>(index);
            let word = place.load(Ordering::SeqCst);
            if word != 0 && !member.is_current(Tag::from_bits(word)) {
                let cleared = place.compare_exchange(word, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok();
                any |= cleared && count(word) > 0;
            }
        }
        any
    }

    /// Counts out all of one that leaves; whether there were any.
    pub fn clear(&self, me: Tag) -> bool {
        let place = self.0.word::<0>(me.index().into());
        let word = place.load(Ordering::SeqCst);
        Tag::from_bits(word) == me
            && place.compare_exchange(word, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            && count(word) > 0
    }
}
