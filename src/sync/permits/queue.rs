//! Who waits for permits, in the order in which they came.
//!
//! One word for each who waits, `arrival (43) | owner (21)`, zero if free; the lowest arrival of somebody alive is next. Who
//! stops waiting, because it has got its permits or for another reason, clears its word; that of the dead is passed over.

use super::Control;
use crate::segment::{Member, Tag};
use crate::sync_atomics::Ordering;
use crate::sys::fork;
use crate::sys::shared::{Kept, Places};

pub(super) struct Queue {
    places: Places,
    control: Kept<Control>,
}

/// A place in the queue, as its word says.
pub(super) struct Turn<'a> {
    queue: &'a Queue,
    generation: u32,
    index: u64,
    word: u64,
}

fn owner(word: u64) -> Tag {
    Tag::from_bits(word)
}

impl Queue {
    pub fn new(places: Places, control: Kept<Control>) -> Queue {
        Queue { places, control }
    }

    fn words(&self) -> impl Iterator<Item = u64> {
        // SeqCst, as the stores: of two who come at the same time at least one sees the other.
        (0..self.places.count())
            .map(|index| self.places.word::<0>(index).load(Ordering::SeqCst))
            .filter(|word| *word != 0)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self, member: &Member) -> bool {
        self.words().all(|word| !member.is_current(owner(word)))
    }

    /// Takes a place at the end; `None` if all are taken.
    pub fn join(&self, me: Tag) -> Option<Turn<'_>> {
        let arrival = self.control.rare.arrivals.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        let word = arrival << Tag::BITS | me.bits();
        let free = (0..self.places.count()).find(|index| {
            let place = self.places.word::<0>(*index);
            place.load(Ordering::Relaxed) == 0
                && place.compare_exchange(0, word, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        });
        free.map(|index| Turn { queue: self, generation: fork::generation_in_handler(), index, word })
    }

    /// Clears the places of those who are not current; whether there were any.
    pub fn tidy(&self, member: &Member) -> bool {
        let mut any = false;
        for index in 0..self.places.count() {
            let place = self.places.word::<0>(index);
            let word = place.load(Ordering::SeqCst);
            if word != 0 && !member.is_current(owner(word)) {
                any |= place.compare_exchange(word, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok();
            }
        }
        any
    }
}

impl Turn<'_> {
    /// Whether nobody who lives has come before.
    pub fn is_next(&self, member: &Member) -> bool {
        self.queue.words().all(|word| word >= self.word || !member.is_current(owner(word)))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let place = self.queue.places.word::<0>(self.index);
        if self.generation != fork::generation_in_handler() {
            return; // a copy in a child
        }
        // A failure: this handle was declared dead, and the place may be somebody else's.
        if place.compare_exchange(self.word, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            self.queue.control.pool.bell.ring_all(); // for whoever is next now
        }
    }
}
