//! Dead letters: messages that came back too often.
//!
//! A dead letter stays in its slot, under a phase of its own: becoming one is a single exchange, and so is being taken
//! again. The ring goes around it as around a slot that somebody holds. So that the ring does not end up full of what nobody
//! can process, dead letters may take up half of a lane's slots, and room in half of its chunks; one that would go beyond
//! is dropped, and counted.

use super::lane::{Held, Lane, Taken};
use super::many::Many;
use super::word::{Phase, Reason, Word};
use crate::segment::Tag;
use crate::sync_atomics::Ordering;
use crate::sys::SysResult;

/// So often a slot is looked at that the ring goes around meanwhile.
const TRIES: u32 = 16;

impl Many {
    /// What a message of this lane becomes that comes back after so many deliveries.
    fn fate(&self, lane: &Lane, slot: u64, deliveries: u32) -> Fate {
        let first = self.redeliveries.saturating_add(1);
        if self.redeliveries == 0 || deliveries < first {
            Fate::Again
        } else if deliveries > first || lane.has_place_for_letter(slot) {
            // One that was a dead letter before, and was taken as such, becomes one again whatever else there is.
            Fate::DeadLetter
        } else {
            Fate::Dropped
        }
    }

    /// After the exchange: tells those whom it concerns.
    fn came_back(&self, lane: &Lane, slot: u64, fate: Fate) {
        match fate {
            Fate::Again => {
                let rare = &self.control.rare.0;
                rare.redelivered.fetch_add(1, Ordering::Relaxed);
                // Release, after the exchange: a consumer that sees the change finds the message. Should this process die in
                // between, `tidy` of another looks behind the head for it.
                rare.returns.fetch_add(1, Ordering::Release);
                self.control.consumers_bell.0.ring();
            }
            Fate::DeadLetter => self.control.letters_bell.0.ring(),
            Fate::Dropped => {
                lane.settle(slot, lane.load(slot));
                lane.ring_freed(usize::MAX);
            }
        }
    }

    /// Takes a dead letter of at most `room` bytes, of the highest lane that has one.
    pub(super) fn take_letter(&self, me: Tag, room: usize) -> SysResult<Taken> {
        for lane in self.lanes.iter().rev() {
            match lane.take_letter(me, room)? {
                Taken::Nothing => {}
                taken => return Ok(taken),
            }
        }
        Ok(Taken::Nothing)
    }

    /// Ends a holding without being done: the message will be delivered again, or has come back too often.
    pub(super) fn give_back(&self, held: &Held) -> SysResult<()> {
        let lane = self.lane(held.lane);
        let fate = self.fate(lane, held.slot, held.deliveries);
        lane.finish(held, |word| fate.of(word))?;
        self.came_back(lane, held.slot, fate);
        Ok(())
    }

    /// Takes a message out of the hands of an owner who is not current.
    pub(super) fn recover_message(&self, lane: &Lane, slot: u64, word: Word) {
        let fate = self.fate(lane, slot, lane.deliveries(slot, word));
        if lane.step(slot, word, fate.of(word)) {
            self.came_back(lane, slot, fate);
        }
    }
}

impl Lane {
    /// Whether there is a place for one more, of the length of the message in this slot. Whoever counts at the same time may
    /// make one more each.
    fn has_place_for_letter(&self, slot: u64) -> bool {
        let is_letter = |slot: &u64| matches!(self.load(*slot).phase(), Phase::DeadLetter | Phase::DeadLetterLate);
        let (mut all, mut with_room) = (0, 0);
        for letter in (0..self.slots.count()).filter(is_letter) {
            all += 1;
            with_room += usize::from(self.has_room_taken(letter));
        }
        // One with room may keep a whole chunk from being used for a message of the largest size.
        let most = self.room.as_ref().map_or(usize::MAX, |room| (room.chunks / 2).max(1));
        all < (self.slots.count() / 2).max(1) && (!self.has_room_taken(slot) || with_room < most)
    }

    /// Takes a dead letter of at most `room` bytes, one of those that lie longest if the lane has not gone around since.
    fn take_letter(&self, me: Tag, room: usize) -> SysResult<Taken> {
        let first = self.ends.tail.0.load(Ordering::Acquire);
        for position in (0..self.slots.count()).map(|offset| first.wrapping_add(offset)) {
            for _ in 0..TRIES {
                let word = self.load(position);
                match word.phase() {
                    Phase::DeadLetterLate => self.settle(position, word),
                    Phase::DeadLetter => {
                        if let Some(taken) = self.take_at(position, word, me, room)? {
                            return Ok(taken);
                        }
                    }
                    _ => break,
                }
            }
        }
        Ok(Taken::Nothing)
    }
}

/// What becomes of a message that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Again,
    DeadLetter,
    Dropped,
}

impl Fate {
    fn of(self, word: Word) -> Word {
        match self {
            Fate::Again => word.to_nobody(Phase::Returned),
            Fate::DeadLetter => word.to_nobody(Phase::DeadLetter),
            Fate::Dropped => word.to_passed(Reason::Dropped),
        }
    }
}
