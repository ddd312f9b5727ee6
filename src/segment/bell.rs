//! Sleeping until somebody else has done something, at no cost to them while nobody sleeps.
//!
//! A bell is one word: bit 0 says that somebody sleeps or is about to, bit 1 that one of them has been called, and the rest
//! changes with every call.
//!
//! * A sleeper sets bit 0 and takes bit 1 down, looks once more, and sleeps while the word stays as it was.
//! * Whoever has made something to find loads the word, and only if bit 0 is set makes a system call. It wakes one
//!   sleeper for each thing; when fewer were asleep it takes both bits down, which changes the word, so that one who is about to sleep
//!   does not, and wakes whoever has fallen asleep in between.
//! * Where many things are made in a row for several sleepers (`ring_once`), it sets bit 1 and wakes one; nobody does so again while that
//!   bit is set. The one that wakes takes it down, and passes on what it leaves (`Party::pass_on`). Where each thing is for all, whoever
//!   takes that bit down wakes all the others first (`Party::relay`).
//!
//! No wake-up is lost: what is made is made by a SeqCst exchange, and the bits are looked at after it; the bits are set, and
//! what was made is looked at after that, with a SeqCst fence in between. So either the sleeper finds what was made, or
//! the maker finds the bits. A process that dies or is stopped after it was woken, or between bit 1 and the waking, takes that wake-up with
//! it; others who sleep look again within two seconds (`Patience::wait`), as they do for any other trace of the dead.

use std::time::Duration;

use super::patience;
use crate::sync_atomics::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sys::futex;
use crate::sys::shared::Record;
use crate::timeout::now;

const SLEEPING: u32 = 1;
const CALLED: u32 = 2;
const STEP: u32 = 4;
/// One wake-up in so many is timed.
const SAMPLE: u32 = 16;

/// A bell in shared memory; zeros are one that nobody waits for.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Bell {
    word: AtomicU32,
    /// How often somebody was woken; counts for `SAMPLE` only.
    woken: AtomicU32,
    /// When a sleeper was last woken by the clock that all share, in nanoseconds, for one in `SAMPLE`. A hint: it only
    /// tells how long spinning may be worth its while.
    rung_at: AtomicU64,
}

const _: () = assert!(size_of::<Bell>() == 16);

// SAFETY: atomics only.
unsafe impl Record for Bell {}

impl Bell {
    /// The word to sleep on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// Says that the caller is about to sleep; the value to sleep on.
    pub(crate) fn announce(&self) -> u32 {
        self.announce_and_tell().0
    }

    /// The same, and whether this has taken down that somebody was called, perhaps another: nobody else will know of it.
    pub(crate) fn announce_and_tell(&self) -> (u32, bool) {
        // SeqCst pairs with the load in `ring`: if that one misses the bit, it comes before this in the one order of all
        // SeqCst accesses, and the exchange that it follows does too; the fence then makes what that exchange wrote visible
        // to the look that follows here, whose loads are only Acquire.
        let announced = |seen: u32| Some((seen | SLEEPING) & !CALLED);
        let seen = self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, announced);
        fence(Ordering::SeqCst);
        let seen = seen.unwrap_or_else(|seen| seen);
        ((seen | SLEEPING) & !CALLED, seen & CALLED != 0)
    }

    /// Whether somebody sleeps or is about to. Whoever asks has made what there is to find, and rings if so.
    #[inline(always)]
    pub(crate) fn is_slept_on(&self) -> bool {
        self.word.load(Ordering::SeqCst) & SLEEPING != 0
    }

    /// Has all sleepers look again if one was called who may not tell them.
    pub(crate) fn ring_all_if_called(&self) {
        if self.word.load(Ordering::SeqCst) & CALLED != 0 {
            self.wake_all();
        }
    }

    /// Wakes one sleeper, if there is any.
    #[inline(always)]
    pub(crate) fn ring(&self) {
        // SeqCst pairs with the exchange in `announce`.
        let seen = self.word.load(Ordering::SeqCst);
        if seen & SLEEPING != 0 {
            self.wake(1);
        }
    }

    /// Wakes one sleeper, unless one is on its way already: who makes many things in a row does not call the kernel for each.
    #[inline(always)]
    pub(crate) fn ring_once(&self) {
        let seen = self.word.load(Ordering::SeqCst);
        if seen & (SLEEPING | CALLED) == SLEEPING {
            self.wake_once(seen);
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_once(&self, seen: u32) {
        self.note_time();
        let called = seen.wrapping_add(STEP) | CALLED;
        // A failure means that somebody has been woken, or has announced itself and is about to look.
        if self.word.compare_exchange(seen, called, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            futex::wake(&self.word, 1);
        }
    }

    /// Wakes so many sleepers, if there are any: each has something to find.
    #[inline]
    pub(crate) fn ring_for(&self, found: usize) {
        let seen = self.word.load(Ordering::SeqCst);
        if seen & SLEEPING != 0 && found != 0 {
            self.wake(found.min(1 << 20) as u32);
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self, most: u32) {
        self.note_time();
        if futex::wake(&self.word, most) < most as usize {
            self.take_down();
        }
    }

    /// Has all sleepers look again: something has changed that more than one may have waited for.
    #[inline(always)]
    pub(crate) fn ring_all(&self) {
        let seen = self.word.load(Ordering::SeqCst);
        if seen & SLEEPING != 0 {
            self.wake_all();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_all(&self) {
        self.note_time();
        self.take_down();
    }

    fn note_time(&self) {
        // Relaxed: hints, whose count may lose some.
        let woken = self.woken.load(Ordering::Relaxed);
        self.woken.store(woken.wrapping_add(1), Ordering::Relaxed);
        if woken.is_multiple_of(SAMPLE) {
            self.rung_at.store(nanos(now()), Ordering::Relaxed);
        }
    }

    /// Takes the bits down and wakes everybody, in this order: whoever fell asleep on the old value before it changed must
    /// not stay asleep without the bit, and who comes later does not fall asleep on it.
    fn take_down(&self) {
        let calmed = |seen: u32| (seen & SLEEPING != 0).then_some(seen.wrapping_add(STEP) & !(SLEEPING | CALLED));
        // A failure means that another has just done the same.
        if self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, calmed).is_ok() {
            futex::wake(&self.word, i32::MAX.cast_unsigned());
        }
    }

    /// To be given to `learn` after the sleep.
    pub(super) fn before_sleep(&self) -> u64 {
        self.rung_at.load(Ordering::Relaxed)
    }

    /// Learns what a wake-up takes on this machine, if the one that has just ended a sleep was timed.
    pub(super) fn learn(&self, before: u64) {
        let rung_at = self.rung_at.load(Ordering::Relaxed);
        if rung_at != before {
            patience::learn_wake_up(now().saturating_sub(Duration::from_nanos(rung_at)));
        }
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
