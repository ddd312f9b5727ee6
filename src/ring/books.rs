//! The books of a many-to-many ring, which derive from the words by which slots change hands; see docs/ALGORITHMS.md.

use super::Ring;
use super::lane::Lane;
use super::many::Many;
use super::options::{RingParticipant, RingStatistics, total};
use super::word::{Phase, Reason, Word};
use crate::error::Result;
use crate::segment::{CONSUMER, PRODUCER, Tag};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::SysResult;

/// So often a slot is looked at that changes all the time.
const TRIES: u32 = 1 << 14;

impl Ring {
    /// What the ring has seen and what it holds. Never blocks; takes time in proportion to the number of slots.
    ///
    /// # Errors
    /// `EBADMSG` the ring is damaged.
    pub fn statistics(&self) -> Result<RingStatistics> {
        self.read_statistics().map_err(|errno| self.object.error(errno, "statistics"))
    }

    fn read_statistics(&self) -> SysResult<RingStatistics> {
        self.many.member.tag()?;
        let books = self.many.books();
        let rare = &self.many.control.rare.0;
        let refused = rare.dropped_newest.load(Ordering::Relaxed);
        let (mut tags, mut participants) = (Vec::new(), Vec::new());
        self.many.member.each(|peer| {
            tags.push(peer.tag);
            participants.push(RingParticipant {
                is_self: peer.is_self,
                pid: peer.pid,
                producer: peer.roles & PRODUCER != 0,
                consumer: peer.roles & CONSUMER != 0,
                since: peer.since,
                holding: 0,
                waiting: peer.waiting,
                waiting_since: peer.waiting_since,
            });
        })?;
        for (participant, holding) in participants.iter_mut().zip(self.many.holdings(&tags)) {
            participant.holding = holding;
        }
        let (dropped, dead_lettered) = (total([books.dropped, refused]), books.dead_lettered);
        Ok(RingStatistics {
            sent: total([books.released, books.borrowed, books.queued, dropped, dead_lettered]),
            released: books.released,
            borrowed: books.borrowed,
            queued: books.queued,
            dropped,
            dead_lettered,
            writing: books.writing,
            aborted: books.aborted,
            skipped: books.skipped,
            redelivered: rare.redelivered.load(Ordering::Relaxed),
            lanes: self.many.geometry.lanes,
            slots: self.many.geometry.slots * u64::from(self.many.geometry.lanes),
            high_water: books.high_water,
            largest: self.many.geometry.largest,
            bytes: self.many.member.segment().size(),
            participants,
        })
    }
}

impl Many {
    /// How many slots each owner holds, in the order of `owners`.
    fn holdings(&self, owners: &[Tag]) -> Vec<u64> {
        let mut held = vec![0; owners.len()];
        for lane in &self.lanes {
            for slot in 0..lane.slots.count() {
                let word = lane.load(slot);
                let is_held =
                    matches!(word.phase(), Phase::Writing | Phase::WritingLate | Phase::Reading | Phase::ReadingLate);
                if is_held && let Some(owner) = owners.iter().position(|owner| *owner == word.owner()) {
                    held[owner] += 1;
                }
            }
        }
        held
    }

    /// What all slots have seen, each at one instant.
    fn books(&self) -> Books {
        let mut books = Books::default();
        for lane in &self.lanes {
            let (near, before) = (lane.ends.tail.0.load(Ordering::Acquire) >> lane.shift, books.queued);
            for slot in 0..lane.slots.count() {
                lane.read_slot(slot, near, &mut books);
            }
            books.high_water = books.high_water.max(lane.raise_high_water(books.queued - before));
        }
        books
    }
}

impl Lane {
    /// Counts a lap that ended without a message, then moves the slot on. Does nothing if it is done already.
    #[cold]
    pub(super) fn settle(&self, slot: u64, word: Word) {
        let (reason, next) = match word.phase() {
            Phase::Passed => (word.reason(), word.to_free()),
            Phase::WritingLate => (Reason::Late, word.to(Phase::Writing, word.owner())),
            Phase::ReadingLate => (Reason::Late, word.to(Phase::Reading, word.owner())),
            Phase::DeadLetterLate => (Reason::Late, word.to_nobody(Phase::DeadLetter)),
            _ => return,
        };
        let account = self.account(slot, reason);
        for _ in 0..TRIES {
            // The account first, the word second: if the word still stands, the count was taken while it stood, so that
            // either it includes this lap (its mark says so), or the exchange adds it exactly once.
            let counted = account.load(Ordering::Acquire);
            if self.load(slot) != word {
                return;
            }
            if counted as u32 == mark(word)
                || account
                    .compare_exchange(counted, add_one(counted, word), Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                self.step(slot, word, next);
                return;
            }
        }
    }

    fn account(&self, slot: u64, reason: Reason) -> &AtomicU64 {
        match reason {
            Reason::Late => self.accounts.word::<0>(slot),
            Reason::Aborted => self.accounts.word::<1>(slot),
            Reason::Skipped => self.accounts.word::<2>(slot),
            Reason::Dropped => self.accounts.word::<3>(slot),
        }
    }

    /// Adds what a slot has seen in its life: its lap says how many laps, its accounts how many of them were nothing,
    /// its phase what it holds now.
    fn read_slot(&self, slot: u64, near: u64, books: &mut Books) {
        let read = || {
            let word = self.load(slot);
            let reasons = [Reason::Late, Reason::Aborted, Reason::Skipped, Reason::Dropped];
            let counts = reasons.map(|reason| self.account(slot, reason).load(Ordering::Acquire));
            (word, counts, self.load(slot) == word)
        };
        let (word, counts, _) = (0..TRIES).map(|_| read()).find(|read| read.2).unwrap_or_else(read);
        let pending = match word.phase() {
            Phase::Passed => Some(word.reason()),
            Phase::WritingLate | Phase::ReadingLate | Phase::DeadLetterLate => Some(Reason::Late),
            _ => None,
        };
        let count = |reason: Reason| {
            let counted = counts[reason as usize];
            let is_missing = pending == Some(reason) && counted as u32 != mark(word);
            (counted >> 32) + u64::from(is_missing)
        };
        let ended = word.whole_lap(near).wrapping_add(u64::from(word.phase() == Phase::Passed));
        let (late, aborted) = (count(Reason::Late), count(Reason::Aborted));
        let (skipped, dropped) = (count(Reason::Skipped), count(Reason::Dropped));
        let released = ended.saturating_sub(late + aborted + skipped + dropped);
        books.released = books.released.wrapping_add(released); // what a peer may have written is not checked here
        books.aborted += aborted;
        books.skipped += skipped;
        books.dropped += dropped;
        match word.phase() {
            Phase::Ready | Phase::Returned => books.queued += 1,
            Phase::Reading | Phase::ReadingLate => books.borrowed += 1,
            Phase::Writing | Phase::WritingLate => books.writing += 1,
            Phase::DeadLetter | Phase::DeadLetterLate => books.dead_lettered += 1,
            Phase::Free | Phase::Passed => {}
        }
    }
}

/// What all slots have seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Books {
    pub released: u64,
    pub borrowed: u64,
    pub queued: u64,
    pub dropped: u64,
    pub dead_lettered: u64,
    pub aborted: u64,
    pub skipped: u64,
    pub writing: u64,
    /// Of the fullest lane.
    pub high_water: u64,
}

/// Accounts hold a count in the upper half and, in the lower, a mark of the lap that was counted last.
fn mark(word: Word) -> u32 {
    (word.lap() as u32).wrapping_add(1) // never the zero of a fresh account in its first lap
}

fn add_one(counted: u64, word: Word) -> u64 {
    (counted >> 32).wrapping_add(1) << 32 | u64::from(mark(word))
}
