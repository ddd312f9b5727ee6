//! The many-to-many ring as its calls see it: its lanes, and who takes part.

use nix::errno::Errno;

use super::lane::{Held, Lane, ROUNDS, Taken};
use super::layout::{Control, Geometry, Terms};
use super::word::{Phase, Reason, Word};
use crate::segment::{Member, Tag};
use crate::sync_atomics::Ordering;
use crate::sys::SysResult;
use crate::sys::shared::Kept;

#[derive(Debug)]
pub(super) struct Many {
    pub member: Member,
    pub geometry: Geometry,
    pub control: Kept<Control>,
    pub lanes: Vec<Lane>,
    pub persistent: bool,
    /// After so many redeliveries a message becomes a dead letter; 0: never.
    pub redeliveries: u32,
}

impl Many {
    pub(super) fn new(member: Member) -> SysResult<Many> {
        let (geometry, terms, control, parts) = Geometry::read(member.segment())?;
        let lanes = (0..).zip(parts).map(|(number, parts)| Lane::of(&geometry, number, parts)).collect();
        let Terms { persistent, redeliveries } = terms;
        Ok(Many { member, geometry, control, lanes, persistent, redeliveries })
    }

    /// The lane of something that is held, or of a number that was checked.
    #[inline(always)]
    pub(super) fn lane(&self, number: u32) -> &Lane {
        &self.lanes[number as usize]
    }

    // --- producers ---

    /// Takes a free slot for writing; `None` if the ring is full. `eager`: slots that are held are passed over even if
    /// the one behind is not free, because the caller will make it so.
    #[inline]
    pub(super) fn claim(&self, lane: &Lane, me: Tag, eager: bool) -> SysResult<Option<Held>> {
        let tail = &lane.ends.tail.0;
        let mut late = 0;
        for _ in 0..lane.patience() {
            let position = tail.load(Ordering::Acquire);
            let word = lane.load(position);
            match (word.ahead_of(position >> lane.shift), word.phase()) {
                (0, Phase::Free) => {
                    let held = word.to(Phase::Writing, me);
                    if lane.step(position, word, held) {
                        Lane::help(tail, position, position.wrapping_add(1));
                        lane.note_depth(position);
                        return Ok(Some(lane.held(position, held)));
                    }
                }
                (0.., _) => Lane::help(tail, position, position.wrapping_add(1)),
                // Full, unless the tail was old.
                (-1, Phase::Ready | Phase::Returned) if tail.load(Ordering::Acquire) == position => {
                    lane.note_depth_now(position.wrapping_sub(1));
                    return Ok(None);
                }
                (-1, Phase::Ready | Phase::Returned) => {}
                (-1, Phase::Writing | Phase::Reading | Phase::DeadLetter) => {
                    if word.phase() != Phase::DeadLetter && !self.member.is_current(word.owner()) {
                        self.recover(lane, position, word);
                    } else if late == lane.slots.count() || !eager && lane.is_full_at(position.wrapping_add(1)) {
                        return Ok(None);
                    } else if late == 0 && !eager && !lane.has_slot() {
                        // None behind it is free either: passing them over again and again, by one who polls, would count up without
                        // end.
                        return Ok(None);
                    } else {
                        late += 1;
                        let phase = match word.phase() {
                            Phase::Writing => Phase::WritingLate,
                            Phase::Reading => Phase::ReadingLate,
                            _ => Phase::DeadLetterLate,
                        };
                        lane.step(position, word, word.to_late(phase));
                    }
                }
                (-1, Phase::WritingLate | Phase::ReadingLate | Phase::DeadLetterLate | Phase::Passed) => {
                    lane.settle(position, word)
                }
                // A free slot of a lap gone by, or laps further off: no order of steps leads there.
                _ if tail.load(Ordering::Acquire) == position => return Err(Errno::EBADMSG),
                _ => {}
            }
        }
        Ok(None)
    }

    /// A slot for a message of this length, described, if there is one now.
    #[inline]
    pub(super) fn claim_for(&self, lane: &Lane, me: Tag, length: usize, eager: bool) -> SysResult<Option<Held>> {
        loop {
            match self.claim(lane, me, eager)? {
                Some(held) => {
                    lane.describe(&held, length);
                    return Ok(Some(Held { length, ..held }));
                }
                None if eager && lane.drop_oldest() => {}
                None => return Ok(None),
            }
        }
    }

    /// A slot, and room for a message that is longer than one, if there are both now.
    #[cold]
    pub(super) fn claim_with_room(&self, lane: &Lane, me: Tag, length: usize, eager: bool) -> SysResult<Option<Held>> {
        // To take a slot in vain costs others a look at it, so room is looked for first. Each that is nevertheless taken in
        // vain was beaten by somebody who got on.
        while lane.may_fit(length) || eager && lane.drop_oldest_with_room() {
            let Some(mut held) = self.claim_for(lane, me, length, eager)? else { return Ok(None) };
            if lane.furnish(&mut held, None) {
                return Ok(Some(held));
            }
            lane.forgo(&held);
            if !eager {
                return Ok(None);
            }
        }
        Ok(None)
    }

    // --- consumers ---

    /// Takes the next message of at most `room` bytes, of the highest lane that has one.
    #[inline]
    pub(super) fn take(&self, me: Tag, room: usize) -> SysResult<Taken> {
        // Acquire pairs with the Release in `came_back`.
        let returns = self.control.rare.0.returns.load(Ordering::Acquire);
        for lane in self.lanes.iter().rev() {
            if returns != lane.returns_seen.load(Ordering::Relaxed) {
                match lane.take_returned(me, room)? {
                    Taken::Nothing => lane.returns_seen.store(returns, Ordering::Relaxed),
                    taken => return Ok(taken),
                }
            }
            match lane.take(me, room)? {
                Taken::Nothing => {}
                taken => return Ok(taken),
            }
        }
        Ok(Taken::Nothing)
    }

    // --- whoever comes by ---

    /// Takes a slot out of the hands of an owner who is not current.
    fn recover(&self, lane: &Lane, slot: u64, word: Word) {
        match word.phase() {
            Phase::Writing => {
                let passed = word.to_passed(Reason::Skipped);
                if lane.step(slot, word, passed) {
                    lane.settle(slot, passed);
                    lane.ring_freed(usize::MAX); // it may have had room, or been about to have it
                }
            }
            Phase::Reading => self.recover_message(lane, slot, word),
            _ => lane.settle(slot, word),
        }
    }

    /// Looks through all slots and takes from the dead what they held; also looks behind the heads next time.
    pub(super) fn tidy(&self) {
        for lane in &self.lanes {
            lane.returns_seen.store(u64::MAX, Ordering::Relaxed);
            (0..lane.slots.count()).for_each(|slot| self.tidy_slot(lane, slot));
        }
    }

    fn tidy_slot(&self, lane: &Lane, slot: u64) {
        for _ in 0..ROUNDS {
            let word = lane.load(slot);
            match word.phase() {
                Phase::Free | Phase::Ready | Phase::Returned | Phase::DeadLetter => return,
                Phase::Passed | Phase::DeadLetterLate => lane.settle(slot, word),
                _ if self.member.is_current(word.owner()) => return,
                _ => self.recover(lane, slot, word),
            }
        }
    }
}
