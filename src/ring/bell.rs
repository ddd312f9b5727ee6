//! Sleeping until the other side has done something, at no cost to it while nobody sleeps.
//!
//! A bell is one word: bit 0 says that somebody sleeps or is about to, the rest changes when the bit is taken down.
//!
//! * A sleeper sets the bit, looks once more, and sleeps while the word stays as it was.
//! * Whoever has made something to find loads the word, and only if the bit is set makes a system call. It wakes one
//!   sleeper; when nobody was asleep it takes the bit down, which changes the word, so that one who is about to sleep
//!   does not, and wakes whoever has fallen asleep in between.
//!
//! No wake-up is lost: what is made is made by a SeqCst exchange, and the bit is looked at after it; the bit is set, and
//! what was made is looked at after that, with a SeqCst fence in between. So either the sleeper finds what was made, or
//! the maker finds the bit. A process that dies after it was woken takes that wake-up
//! with it; others who sleep look again within two seconds (`Ring::sleep`), as they do for any other trace of the dead.

use crate::sync_atomics::{AtomicU32, Ordering, fence};
use crate::sys::futex;

const SLEEPING: u32 = 1;
const STEP: u32 = 2;

/// Says that the caller is about to sleep; the value to sleep on.
pub(super) fn announce(bell: &AtomicU32) -> u32 {
    // SeqCst pairs with the load in `ring`: if that one misses the bit, it comes before this in the one order of all
    // SeqCst accesses, and the exchange that it follows does too; the fence then makes what that exchange wrote visible to
    // the look that follows here, whose loads are only Acquire.
    let announced = bell.fetch_or(SLEEPING, Ordering::SeqCst) | SLEEPING;
    fence(Ordering::SeqCst);
    announced
}

/// Wakes one sleeper, if there is any.
#[inline(always)]
pub(super) fn ring(bell: &AtomicU32) {
    // SeqCst pairs with the exchange in `announce`.
    let seen = bell.load(Ordering::SeqCst);
    if seen & SLEEPING != 0 {
        wake_one(bell, seen);
    }
}

#[cold]
#[inline(never)]
fn wake_one(bell: &AtomicU32, seen: u32) {
    if futex::wake(bell, 1) == 0 {
        take_down(bell, seen);
    }
}

/// Has all sleepers look again: something has changed that is no message.
pub(super) fn ring_all(bell: &AtomicU32) {
    let seen = bell.load(Ordering::SeqCst);
    if seen & SLEEPING != 0 {
        take_down(bell, seen);
    }
}

/// Takes the bit down and wakes everybody, in this order: whoever fell asleep on the old value before it changed must
/// not stay asleep without the bit, and who comes later does not fall asleep on it.
fn take_down(bell: &AtomicU32, seen: u32) {
    let calm = seen.wrapping_add(STEP) & !SLEEPING;
    // A failure means that another is just doing the same.
    if bell.compare_exchange(seen, calm, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
        futex::wake(bell, i32::MAX.cast_unsigned());
    }
}
