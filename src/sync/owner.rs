//! The line of a lock that says who has it, and since when at the latest.

use std::time::SystemTime;

use nix::errno::Errno;

use super::word::{Owner, Phase, Word};
use crate::segment::{Bell, Member, since};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::{SysResult, fork};
use crate::timeout::wall_clock;

#[repr(C, align(128))]
pub(super) struct OwnerLine {
    word: AtomicU64,
    /// Rings when the lock has become free.
    pub bell: Bell,
    /// What somebody who had to wait read in the word, and when, in nanoseconds since 1970: the holder writes its name
    /// only, and those who wait have the time to look at the clock.
    noted: AtomicU64,
    noted_at: AtomicU64,
}

/// A lock in the hands of a thread of this process, which ends holding it once.
pub(super) struct Holding {
    /// As it stood when it was taken; `None` once that has ended. The same thread may have taken it again since.
    word: Option<Word>,
    /// A child made by fork has a copy, and the lock stays the parent's.
    generation: u32,
}

impl Holding {
    #[inline]
    pub fn new(word: Word) -> Holding {
        Holding { word: Some(word), generation: fork::generation_in_handler() }
    }

    /// Whether it is that of this process, and not of the one that it was forked from.
    #[inline]
    pub fn is_own(&self) -> bool {
        self.generation == fork::generation_in_handler()
    }

    /// Ends it: the word that it was taken with, to be put; `None` if it had ended already. `EPERM` in a child.
    #[inline]
    pub fn end(&mut self) -> SysResult<Option<Word>> {
        match self.word.take() {
            Some(_) if !self.is_own() => Err(Errno::EPERM),
            word => Ok(word),
        }
    }
}

impl OwnerLine {
    #[inline(always)]
    pub fn load(&self) -> Word {
        // SeqCst: looked at after announcing sleep, and before and after the bits of readers.
        Word(self.word.load(Ordering::SeqCst))
    }

    /// SeqCst: acquires what the last holder released, releases to the next, and comes before the look at the bell.
    #[inline(always)]
    pub fn step(&self, found: Word, next: Word) -> bool {
        self.word.compare_exchange(found.0, next.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// The word, if it says that this one holds the lock; else `EPERM`.
    #[inline]
    pub fn held_by(&self, me: Owner) -> SysResult<Word> {
        let found = self.load();
        let holds = matches!(found.phase()?, Phase::Held | Phase::Inherited) && found.owner() == me;
        if holds { Ok(found) } else { Err(Errno::EPERM) }
    }

    /// Has the holder of this word say that all is well again; `EINVAL` if it was not inherited.
    pub fn make_consistent(&self, held: Word) -> SysResult<()> {
        if held.phase()? != Phase::Inherited {
            return Err(Errno::EINVAL);
        }
        if self.step(held, held.with(Phase::Held)) { Ok(()) } else { Err(Errno::ESTALE) }
    }

    /// Has the holder of this word leave the lock to nobody.
    pub fn give_up(&self, held: Word) -> SysResult<()> {
        if !self.step(held, held.without_owner(Phase::GivenUp)) {
            return Err(Errno::ESTALE);
        }
        self.bell.ring_all();
        Ok(())
    }

    /// Has the holder of this word leave the lock to the next; that one is told if nobody has made good. `ESTALE`: it was taken
    /// from this handle, declared dead.
    #[inline]
    pub fn put(&self, held: Word) -> SysResult<()> {
        // Without a look first, which would wait for the exchange that took it.
        if self.leave(held)? { Ok(()) } else { self.put_changed(held.owner()) }
    }

    /// The same when the word has changed: it was made consistent since, or is held anew.
    #[cold]
    #[inline(never)]
    fn put_changed(&self, owner: Owner) -> SysResult<()> {
        let held = self.held_by(owner).map_err(|_| Errno::ESTALE)?;
        if self.leave(held)? { Ok(()) } else { Err(Errno::ESTALE) }
    }

    #[inline(always)]
    fn leave(&self, held: Word) -> SysResult<bool> {
        let phase = if held.phase()? == Phase::Inherited { Phase::Abandoned } else { Phase::Free };
        Ok(self.step(held, held.without_owner(phase)))
    }

    /// For one who has to wait and is about to sleep.
    #[cold]
    pub fn note(&self) {
        // Relaxed: for others to see, and nothing hangs on it.
        let found = self.word.load(Ordering::Relaxed);
        if self.noted.load(Ordering::Relaxed) != found {
            self.noted_at.store(wall_clock(), Ordering::Relaxed);
            self.noted.store(found, Ordering::Relaxed);
        }
    }

    /// Since when this is known to stand in the word.
    pub fn since(&self, word: Word) -> Option<SystemTime> {
        let noted = self.noted.load(Ordering::Relaxed) == word.0;
        noted.then(|| since(self.noted_at.load(Ordering::Relaxed))).flatten()
    }

    /// Takes the lock from an owner who is not current.
    pub fn tidy(&self, member: &Member) -> SysResult<()> {
        let found = self.load();
        match found.phase()? {
            Phase::Free | Phase::Abandoned | Phase::GivenUp => Ok(()),
            _ if member.is_current(found.owner().tag) => Ok(()),
            _ => self.abandon(found),
        }
    }

    /// Takes the lock from this holder, who is dead or has left. Whoever had only claimed it had not touched anything.
    pub fn abandon(&self, found: Word) -> SysResult<()> {
        let phase = if found.phase()? == Phase::Claimed { Phase::Free } else { Phase::Abandoned };
        // A failure: somebody else did it, or the holder lives and has just released it.
        if self.step(found, found.without_owner(phase)) {
            self.bell.ring_all();
        }
        Ok(())
    }

    /// Takes it from a thread of this member that ends, or, without one, from all, as the handle is closed.
    pub fn give_back(&self, member: &Member, thread: Option<u32>) {
        if !member.is_settled() {
            return; // what an unused copy in a child names is the parent's
        }
        let Ok(own) = member.tag() else { return };
        let found = self.load();
        let Owner { tag, thread: holder } = found.owner();
        let held = !matches!(found.phase(), Ok(Phase::Free | Phase::Abandoned | Phase::GivenUp) | Err(_));
        if held && tag == own && thread.is_none_or(|thread| thread == holder) {
            let _ = self.abandon(found); // fails for no word that has just passed
        }
    }
}
