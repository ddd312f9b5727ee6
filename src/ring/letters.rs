//! Dead letters: messages that came back too often.
//!
//! A dead letter stays in its slot, under a phase of its own: becoming one is a single exchange, and so is being taken
//! again. The ring goes around it as around a slot that somebody holds. So that the ring does not end up full of what nobody
//! can process, dead letters may take up half of its slots; one that would go beyond is dropped, and counted.

use super::many::{Held, Many, Taken};
use super::word::{Phase, Reason, Word};
use crate::segment::Tag;
use crate::sync_atomics::Ordering;
use crate::sys::SysResult;

/// So often a slot is looked at that the ring goes around meanwhile.
const TRIES: u32 = 16;

impl Many {
    /// What a message becomes that comes back after so many deliveries.
    pub(super) fn fate(&self, deliveries: u32) -> Fate {
        let first = self.redeliveries.saturating_add(1);
        if self.redeliveries == 0 || deliveries < first {
            Fate::Again
        } else if deliveries > first || self.letters() < (self.slots.count() / 2).max(1) {
            // One that was a dead letter before, and was taken as such, becomes one again whatever else there is.
            Fate::DeadLetter
        } else {
            Fate::Dropped
        }
    }

    /// After the exchange: tells those whom it concerns.
    pub(super) fn came_back(&self, slot: u64, fate: Fate) -> SysResult<()> {
        let control = self.control()?;
        match fate {
            Fate::Again => {
                control.rare.0.redelivered.fetch_add(1, Ordering::Relaxed);
                // Release, after the exchange: a consumer that sees the change finds the message. Should this process die in
                // between, `tidy` of another looks behind the head for it.
                control.rare.0.returns.fetch_add(1, Ordering::Release);
                control.consumers_bell.0.ring();
            }
            Fate::DeadLetter => control.letters_bell.0.ring(),
            Fate::Dropped => {
                self.settle(slot, self.load(slot));
                control.producers_bell.0.ring();
            }
        }
        Ok(())
    }

    /// How many there are. Whoever counts at the same time may make one more each.
    fn letters(&self) -> u64 {
        let is_letter = |slot: &u64| matches!(self.load(*slot).phase(), Phase::DeadLetter | Phase::DeadLetterLate);
        (0..self.slots.count()).filter(is_letter).count() as u64
    }

    /// Takes a dead letter of at most `room` bytes, one of those that lie longest if the ring has not gone around since.
    pub(super) fn take_letter(&self, me: Tag, room: usize) -> SysResult<Taken> {
        let first = self.control()?.tail.0.load(Ordering::Acquire);
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

    /// Ends a holding without being done: the message will be delivered again, or has come back too often.
    pub(super) fn give_back(&self, held: &Held) -> SysResult<()> {
        let fate = self.fate(held.deliveries);
        self.finish(held, |word| fate.of(word))?;
        self.came_back(held.slot, fate)
    }

    /// Takes a message out of the hands of an owner who is not current.
    pub(super) fn recover_message(&self, slot: u64, word: Word) -> SysResult<()> {
        let fate = self.fate(self.deliveries(slot, word));
        if self.step(slot, word, fate.of(word)) { self.came_back(slot, fate) } else { Ok(()) }
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
