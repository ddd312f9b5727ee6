//! Who takes part in something that a death has to be told to the others: one word for each participant, its tag above a
//! bit that says that there is one.

use nix::errno::Errno;

use crate::segment::{Member, Tag};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::{Mapping, Places};

pub(super) struct Roster(Places);

/// Bytes for each participant.
pub(super) const PLACE: usize = size_of::<AtomicU64>();
/// Only somebody who keeps no rules makes so many exchanges fail.
const TRIES: u32 = 10_000;

fn word(tag: Tag) -> u64 {
    tag.bits() << 1 | 1
}

impl Roster {
    pub fn new(memory: &std::sync::Arc<Mapping>, at: usize, participants: u32) -> SysResult<Roster> {
        let places = Places::new(memory, at, PLACE, participants.next_power_of_two().into());
        places.map(Roster).ok_or(Errno::EBADMSG)
    }

    /// Enters this participant; whether it has taken the place of one who died. `ESTALE` if it was declared dead itself.
    #[inline]
    pub fn enter(&self, member: &Member, me: Tag) -> SysResult<bool> {
        let place = self.0.word::<0>(me.index().into());
        // Relaxed: its own word.
        if place.load(Ordering::Relaxed) == word(me) { Ok(false) } else { self.enter_anew(member, me) }
    }

    #[cold]
    fn enter_anew(&self, member: &Member, me: Tag) -> SysResult<bool> {
        let place = self.0.word::<0>(me.index().into());
        for _ in 0..TRIES {
            let found = place.load(Ordering::SeqCst);
            if place.compare_exchange(found, word(me), Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                // After it was written: either whoever declares this one dead finds it, or that is seen here.
                if member.is_current(me) {
                    return Ok(found != 0 && found != word(me));
                }
                self.leave(me);
                return Err(Errno::ESTALE);
            }
        }
        Err(Errno::EBADMSG)
    }

    pub fn leave(&self, me: Tag) {
        // A failure: it was declared dead, and others have told so.
        let place = self.0.word::<0>(me.index().into());
        let _ = place.compare_exchange(word(me), 0, Ordering::SeqCst, Ordering::Relaxed);
    }

    /// Has `tell` tell the others, if there are dead, and then crosses those out. Told twice, should who tells die between.
    pub fn tidy(&self, member: &Member, tell: impl FnOnce()) {
        let dead: Vec<(u64, u64)> = (0..self.0.count())
            .map(|index| (index, self.0.word::<0>(index).load(Ordering::SeqCst)))
            .filter(|(_, word)| *word != 0 && !member.is_current(Tag::from_bits(word >> 1)))
            .collect();
        if dead.is_empty() {
            return;
        }
        tell();
        for (index, word) in dead {
            let _ = self.0.word::<0>(index).compare_exchange(word, 0, Ordering::SeqCst, Ordering::Relaxed);
        }
    }
}
