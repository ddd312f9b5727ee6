//! A lane of the many-to-many ring: how its slots change hands.
//!
//! Every transition of a slot is one compare-exchange of its state word (`word.rs`), and each that takes something names
//! the owner in the same exchange: there is no instant at which something is taken and nobody knows by whom.
//!
//! ```text
//!              claim                 commit                take                  release
//! FREE(lap) ──────────→ WRITING(me) ────────→ READY(me) ──────────→ READING(you) ────────→ FREE(lap+1)
//!                            │  abort, or the owner died   │ drop-oldest  │  the owner died, or gave it back
//!                            ↓                             ↓              ↓
//!                         PASSED ──counted──→ FREE(lap+1) ←── PASSED    RETURNED ──take──→ READING(another)
//! ```
//!
//! `tail` and `head` follow: whoever finds one behind helps it along, so nobody waits for the one who should have. A
//! slot that is still held when its turn comes again is passed over (WRITING → WRITING-LATE, READING → READING-LATE, in
//! the next lap), so a stopped process keeps one slot from the others and nothing else.
//!
//! Orderings: the exchange that makes a message READY releases what was written before it; the loads of words that may be
//! READY acquire it. The exchange that frees a slot releases the reads before it; the claim acquires them. All exchanges
//! are SeqCst, which also orders them before the look at the bell that follows (see `segment/bell.rs`).

use std::sync::atomic::AtomicUsize;

use nix::errno::Errno;

use super::depth::Depth;
use super::layout::{Ends, Geometry, Parts};
use super::room::{Fit, Room, Tenant, UNSURE_LOOKS, Waiter};
use super::word::{Phase, Reason, Word};
use crate::segment::Tag;
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::{Kept, Places};

/// So often a consumer looks from the head on, and whoever tidies at a slot, before it lets its caller see whether time is up.
pub(super) const ROUNDS: u32 = 1 << 10;

/// A slot that this process holds, for writing or for reading.
#[derive(Debug)]
pub(super) struct Held {
    pub lane: u32,
    pub slot: u64,
    pub word: Word,
    pub length: usize,
    /// Where its bytes begin in the lane's room, if not in the slot.
    pub place: Option<u64>,
    /// How often it has been taken, this time included; 0 for writing.
    pub deliveries: u32,
}

/// What a try to take gives.
pub(super) enum Taken {
    Message(Held),
    Nothing,
    /// The next message is longer than the taker has room for; it was left.
    TooLong(usize),
}

/// A sequence of slots of its own: messages of a higher lane go first.
#[derive(Debug)]
pub(super) struct Lane {
    pub number: u32,
    pub ends: Kept<Ends>,
    pub slots: Places,
    pub accounts: Places,
    pub shift: u32,
    largest: usize,
    /// The longest message that lies in its slot, from `payload_at` on.
    pub inline: usize,
    payload_at: usize,
    /// Where longer ones lie, if there may be any.
    pub room: Option<Room>,
    /// The value of `returns` up to which this handle has looked behind the head.
    pub returns_seen: AtomicU64,
    pub depth: Depth,
    /// The length for which a sender of this handle found no room the last time; for its doorbell.
    pub wanted: AtomicUsize,
}

impl Lane {
    pub(super) fn of(geometry: &Geometry, number: u32, parts: Parts) -> Lane {
        let Parts { ends, slots, accounts, room } = parts;
        let shift = slots.count().trailing_zeros();
        let (returns_seen, depth, wanted) = (AtomicU64::new(u64::MAX), Depth::of(geometry.slots), AtomicUsize::new(0));
        let (largest, inline, payload_at) = (geometry.largest, geometry.inline(), geometry.payload_at());
        Lane { number, ends, slots, accounts, shift, largest, inline, payload_at, room, returns_seen, depth, wanted }
    }

    #[inline(always)]
    fn word(&self, slot: u64) -> &AtomicU64 {
        self.slots.word::<0>(slot)
    }

    /// Length in the lower half, deliveries in the upper. Written by who holds the slot, published by its state word.
    #[inline(always)]
    fn meta(&self, slot: u64) -> &AtomicU64 {
        self.slots.word::<1>(slot)
    }

    /// The lap in which the message was claimed that has room, or the last one that had. Only where there is room.
    fn tenancy(&self, slot: u64) -> &AtomicU64 {
        self.slots.word::<2>(slot)
    }

    /// Where the bytes of a message that has room begin there. Written and published as `meta`.
    fn place(&self, slot: u64) -> &AtomicU64 {
        self.slots.word::<3>(slot)
    }

    /// How often the message in a slot has been taken, as far as those who took it have written down: one that died at once
    /// may be missing.
    pub(super) fn deliveries(&self, slot: u64, word: Word) -> u32 {
        let deliveries = (self.meta(slot).load(Ordering::Relaxed) >> 32) as u32;
        if word.phase() == Phase::Reading { deliveries.max(1) } else { deliveries }
    }

    /// Acquire pairs with the exchanges of `step`: what the word says was written is visible.
    #[inline(always)]
    pub(super) fn load(&self, slot: u64) -> Word {
        Word(self.word(slot).load(Ordering::Acquire))
    }

    /// The one way in which a state word changes.
    #[inline(always)]
    pub(super) fn step(&self, slot: u64, from: Word, to: Word) -> bool {
        self.word(slot).compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Moves an index on from where it was found, unless somebody else did. Release and Acquire (in `claim`, `take`):
    /// who sees the index sees the words that let it pass.
    #[inline(always)]
    pub(super) fn help(index: &AtomicU64, from: u64, to: u64) {
        let _ = index.compare_exchange(from, to, Ordering::Release, Ordering::Relaxed);
    }

    // --- producers ---

    /// A slot that was just taken for writing.
    #[inline(always)]
    pub(super) fn held(&self, position: u64, word: Word) -> Held {
        Held { lane: self.number, slot: position, word, length: 0, place: None, deliveries: 0 }
    }

    /// Takes the slot at this position, all before which are taken, if it is free; the tail is left where it is.
    #[inline]
    pub(super) fn claim_at(&self, me: Tag, position: u64) -> Option<Held> {
        let word = self.load(position);
        let held = word.to(Phase::Writing, me);
        let is_free = word.ahead_of(position >> self.shift) == 0 && word.phase() == Phase::Free;
        if !is_free || !self.step(position, word, held) {
            return None;
        }
        self.note_depth(position);
        Some(self.held(position, held))
    }

    /// Moves the tail over positions that were taken one behind the other, if it is still at the first.
    pub(super) fn move_tail(&self, from: u64, to: u64) {
        if from != to {
            Self::help(&self.ends.tail.0, from, to);
        }
    }

    /// Whether a message nobody has taken stands in the way of this position: then passing over the one before it would
    /// gain nothing.
    pub(super) fn is_full_at(&self, position: u64) -> bool {
        let word = self.load(position);
        word.ahead_of(position >> self.shift) == -1 && matches!(word.phase(), Phase::Ready | Phase::Returned)
    }

    /// Throws away the message that stands in the way; false if it is not one, or has gone.
    pub(super) fn drop_oldest(&self) -> bool {
        let position = self.ends.tail.0.load(Ordering::Acquire);
        let word = self.load(position);
        if word.ahead_of(position >> self.shift) != -1 || !matches!(word.phase(), Phase::Ready | Phase::Returned) {
            return false;
        }
        let (passed, length) = (word.to_passed(Reason::Dropped), self.length_in(position));
        let dropped = self.step(position, word, passed);
        if dropped {
            self.settle(position, passed);
            if length > self.inline {
                self.ends.room_bell.0.ring_all();
            }
        }
        dropped
    }

    /// So often a call looks before it lets its caller see whether time is up. By the rules it need not: only a tail or a
    /// head that a peer has put far behind takes longer to come after.
    pub(super) fn patience(&self) -> u64 {
        self.slots.count().saturating_mul(4).saturating_add(1 << 12)
    }

    /// Copies into a slot that is held for writing.
    #[inline(always)]
    pub(super) fn write(&self, held: &Held, offset: usize, bytes: &[u8]) {
        match (held.place, &self.room) {
            _ if bytes.is_empty() => {}
            (Some(place), Some(room)) => room.bytes.put_at(place as usize + offset, bytes),
            _ => self.slots.put(held.slot, self.payload_at + offset, bytes),
        }
    }

    /// Whether a slot that was taken for writing is still this process's. Whoever stores into it looks first: of one who was
    /// declared dead the slot may have another owner by now. Between the look and the store lies no promise.
    #[inline(always)]
    pub(super) fn is_still_written(&self, held: &Held) -> bool {
        // Relaxed: nothing is read by this, and a store that depends on it comes after.
        let word = Word(self.word(held.slot).load(Ordering::Relaxed));
        let is_of_later_lap =
            || matches!(word.phase(), Phase::Writing | Phase::WritingLate) && word.owner() == held.word.owner();
        word == held.word || is_of_later_lap()
    }

    /// Hands a written message over to consumers. `ESTALE` if it was taken from this process, declared dead.
    #[inline]
    pub(super) fn commit(&self, held: &Held) -> SysResult<()> {
        if !self.is_still_written(held) {
            return Err(Errno::ESTALE);
        }
        // Relaxed: published by the exchange below.
        self.meta(held.slot).store(held.length as u64, Ordering::Relaxed);
        self.finish(held, |word| word.to(Phase::Ready, word.owner()))
    }

    pub(super) fn abort(&self, held: &Held) -> SysResult<()> {
        self.finish(held, |word| word.to_passed(Reason::Aborted))?;
        let word = self.load(held.slot);
        if word.phase() == Phase::Passed {
            self.settle(held.slot, word);
        }
        Ok(())
    }

    /// Gives up a slot for whose message there was no room.
    #[cold]
    pub(super) fn forgo(&self, held: &Held) {
        let _ = self.abort(held); // fails only where the slot has been taken back already
        self.ring_freed(usize::MAX);
    }

    /// Calls those who wait for a slot, and for room if what is gone had any.
    #[inline]
    pub(super) fn ring_freed(&self, length: usize) {
        self.ends.producers_bell.0.ring_once();
        if length > self.inline {
            self.ends.room_bell.0.ring_all();
        }
    }

    // --- messages that are longer than a slot ---

    /// Says how long the message will be for which a slot was taken: from here on, what the slot's last one had is vacant.
    /// Needed only where there is room.
    #[inline]
    pub(super) fn describe(&self, held: &Held, length: usize) {
        if self.room.is_some() {
            // Release pairs with the Acquire in `has_gone`: it also passes on that the last one was done with.
            self.meta(held.slot).store(length as u64, Ordering::Release);
            if length > self.inline {
                self.tenancy(held.slot).store(held.word.lap(), Ordering::Release);
            }
        }
    }

    /// Whether there would be room for a message of this length now.
    pub(super) fn fit(&self, length: usize) -> Fit {
        match &self.room {
            _ if length <= self.inline => Fit::Now,
            Some(room) => self.fit_in_room(room, length),
            None => Fit::Not,
        }
    }

    /// The same, for who does not wait: looks again while it cannot be told, but not for long.
    pub(super) fn may_fit(&self, length: usize) -> bool {
        for _ in 1..UNSURE_LOOKS {
            match self.fit(length) {
                Fit::Unsure => std::thread::yield_now(),
                fit => return fit == Fit::Now,
            }
        }
        self.fit(length) == Fit::Now
    }

    /// Room for the message that was described, if there is now; for one that waits, others leave some for the next time.
    pub(super) fn furnish(&self, held: &mut Held, waiter: Option<&mut Waiter<'_>>) -> bool {
        let Some(room) = &self.room else { return false };
        let me = Tenant::of(held.slot, held.word);
        held.place = self.take_room(room, me, held.length, waiter);
        if let Some(place) = held.place {
            // Relaxed: published by the exchange that commits.
            self.place(held.slot).store(place, Ordering::Relaxed);
        }
        held.place.is_some()
    }

    /// Whether a tenant has left what it had; and whether that will be seen soon although nobody rings for it: the slot has
    /// been claimed anew, or passed over, and which of the two its owner has not said.
    pub(super) fn has_gone(&self, tenant: Tenant) -> (bool, bool) {
        let (slot, word) = (tenant.slot(), self.load(tenant.slot()));
        let phase = word.phase();
        // Acquire pairs with the Release in `describe`. Both are at least as new as the tenant, which wrote them before it took
        // anything.
        let is_other = || {
            (self.meta(slot).load(Ordering::Acquire) & u64::from(u32::MAX)) as usize <= self.inline
                || self.tenancy(slot).load(Ordering::Acquire) != tenant.lap()
        };
        let gone = matches!(phase, Phase::Free | Phase::Passed) || is_other();
        let is_new = matches!(phase, Phase::Writing | Phase::WritingLate) && word.lap() != tenant.lap();
        (gone, !gone && is_new)
    }

    /// Whether a message of which it was read that it has room could lie there.
    #[cold]
    fn is_sound(&self, held: &Held) -> bool {
        let lies_within = |room: &Room| held.place.is_some_and(|place| room.holds(place, held.length));
        held.length <= self.largest && self.room.as_ref().is_some_and(lies_within)
    }

    /// Throws away the oldest message that has room; false if there is none.
    #[cold]
    pub(super) fn drop_oldest_with_room(&self) -> bool {
        let first = self.ends.head.0.load(Ordering::Acquire);
        for position in (0..self.slots.count()).map(|offset| first.wrapping_add(offset)) {
            let word = self.load(position);
            match (word.ahead_of(position >> self.shift), word.phase()) {
                (0, Phase::Ready | Phase::Returned) if self.length_in(position) > self.inline => {
                    let passed = word.to_passed(Reason::Dropped);
                    if self.step(position, word, passed) {
                        self.settle(position, passed);
                        self.ring_freed(usize::MAX);
                        return true;
                    }
                }
                (0, Phase::Free) | (..0, _) => return false,
                _ => {}
            }
        }
        false
    }

    /// The length of the message in a slot, as far as it can be trusted.
    fn length_in(&self, slot: u64) -> usize {
        (self.meta(slot).load(Ordering::Relaxed) & u64::from(u32::MAX)) as usize
    }

    /// Whether the message in this slot, which comes back, had room.
    pub(super) fn has_room_taken(&self, slot: u64) -> bool {
        self.length_in(slot) > self.inline
    }

    /// Ends a holding, also where its slot was passed over meanwhile.
    #[inline]
    pub(super) fn finish(&self, held: &Held, to: impl Fn(Word) -> Word) -> SysResult<()> {
        if self.step(held.slot, held.word, to(held.word)) {
            return Ok(());
        }
        self.finish_late(held, to)
    }

    #[cold]
    fn finish_late(&self, held: &Held, to: impl Fn(Word) -> Word) -> SysResult<()> {
        let late = if held.word.phase() == Phase::Writing { Phase::WritingLate } else { Phase::ReadingLate };
        for _ in 0..self.patience() {
            let word = self.load(held.slot);
            if word.owner() != held.word.owner() {
                return Err(Errno::ESTALE);
            }
            match word.phase() {
                // Only the lap has changed: nobody but the owner takes a slot out of the owner's hands while it lives.
                phase if phase == held.word.phase() => {
                    if self.step(held.slot, word, to(word)) {
                        return Ok(());
                    }
                }
                phase if phase == late => self.settle(held.slot, word),
                _ => return Err(Errno::ESTALE),
            }
        }
        Err(Errno::EBADMSG) // nobody goes around the ring so often meanwhile
    }

    // --- consumers ---

    /// Takes the lane's next message of at most `room` bytes.
    #[inline]
    pub(super) fn take(&self, me: Tag, room: usize) -> SysResult<Taken> {
        let head = &self.ends.head.0;
        for _ in 0..ROUNDS {
            let first = head.load(Ordering::Acquire);
            let (mut position, mut open, mut writers) = (first, None, Writers::default());
            let found = loop {
                if position.wrapping_sub(first) == self.slots.count() {
                    break None;
                }
                let word = self.load(position);
                match (word.ahead_of(position >> self.shift), word.phase()) {
                    (0, Phase::Ready | Phase::Returned) => break Some(word),
                    (0, Phase::Writing | Phase::WritingLate) => {
                        open = open.or(Some(position));
                        writers.add(word.owner());
                    }
                    (0, Phase::Passed) => self.settle(position, word),
                    (0, Phase::Reading | Phase::ReadingLate | Phase::DeadLetter | Phase::DeadLetterLate) | (1.., _) => {
                    }
                    (0, Phase::Free) | (_, _) => break None, // nobody has come this far
                }
                position = position.wrapping_add(1);
            };
            let Some(mut word) = found else {
                // Whatever lies between is over for good, or taken.
                let passed = open.unwrap_or(position);
                if passed != first {
                    Self::help(head, first, passed);
                }
                if head.load(Ordering::Acquire) == first || position.wrapping_sub(first) < self.slots.count() {
                    return Ok(Taken::Nothing);
                }
                continue; // the head was found far behind
            };
            if writers.may_have(word.owner()) && word.phase() == Phase::Ready {
                // The same sender was writing an earlier message when we passed it. That one may be whole by now, and
                // must go first; one that is still unfinished after this message was seen whole need not.
                match self.first_of(first, position, word.owner()) {
                    Some((earlier, earlier_word)) => (position, word) = (earlier, earlier_word),
                    None => continue,
                }
            }
            match self.take_at(position, word, me, room)? {
                Some(taken) => {
                    if open.is_none() && matches!(taken, Taken::Message(_)) {
                        Self::help(head, first, position.wrapping_add(1));
                    }
                    return Ok(taken);
                }
                None => continue, // somebody else was faster
            }
        }
        Ok(Taken::Nothing)
    }

    /// Takes a message that was given back, which may lie behind the head.
    #[cold]
    pub(super) fn take_returned(&self, me: Tag, room: usize) -> SysResult<Taken> {
        for slot in 0..self.slots.count() {
            let word = self.load(slot);
            if word.phase() == Phase::Returned
                && let Some(taken) = self.take_at(slot, word, me, room)?
            {
                return Ok(taken);
            }
        }
        Ok(Taken::Nothing)
    }

    /// The first whole message of this sender from `first` to `last`.
    fn first_of(&self, first: u64, last: u64, sender: Tag) -> Option<(u64, Word)> {
        let positions = (0..=last.wrapping_sub(first)).map(|offset| first.wrapping_add(offset));
        positions.map(|position| (position, self.load(position))).find(|(position, word)| {
            word.ahead_of(position >> self.shift) == 0 && word.phase() == Phase::Ready && word.owner() == sender
        })
    }

    /// Takes the message that was seen in this slot; `None` if it is no longer there.
    #[inline(always)]
    pub(super) fn take_at(&self, slot: u64, word: Word, me: Tag, room: usize) -> SysResult<Option<Taken>> {
        // Relaxed: visible since the word was loaded. Copied once; if the exchange succeeds, it was this message's.
        let meta = self.meta(slot).load(Ordering::Relaxed);
        let length = (meta & u64::from(u32::MAX)) as usize;
        if length > room && length <= self.largest {
            return Ok((self.load(slot) == word).then_some(Taken::TooLong(length)));
        }
        let place = (length > self.inline).then(|| self.place(slot).load(Ordering::Relaxed));
        let held = word.to(Phase::Reading, me);
        if !self.step(slot, word, held) {
            return Ok(None);
        }
        let before = (meta >> 32) as u32;
        // A taker that died before it could write down its delivery has still left the mark in the phase.
        let before = if word.phase() == Phase::Returned { before.max(1) } else { before };
        let deliveries = before.saturating_add(1);
        let held = Held { lane: self.number, slot, word: held, length, place, deliveries };
        if length > self.inline && !self.is_sound(&held) {
            // No rule-abiding producer writes that: out with it, so that it does not block the ring.
            self.finish(&held, |word| word.to_passed(Reason::Dropped))?;
            return Err(Errno::EBADMSG);
        }
        // Published by whatever exchange ends this holding. Release: `has_gone` looks at the length by itself.
        self.meta(slot).store(u64::from(deliveries) << 32 | length as u64, Ordering::Release);
        Ok(Some(Taken::Message(held)))
    }

    /// Copies out of a slot that is held for reading; how many bytes.
    #[inline(always)]
    pub(super) fn read(&self, held: &Held, offset: usize, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(held.length.saturating_sub(offset));
        if length == 0 {
            return 0; // also of an offset with which no address could be computed
        }
        match (held.place, &self.room) {
            (Some(place), Some(room)) => room.bytes.get_at(place as usize + offset, &mut buffer[..length]),
            _ => self.slots.get(held.slot, self.payload_at + offset, &mut buffer[..length]),
        }
    }

    /// Where a held message's payload lies.
    pub(super) fn payload(&self, held: &Held) -> std::ptr::NonNull<u8> {
        match (held.place, &self.room) {
            (Some(place), Some(room)) => room.bytes.pointer(0, place as usize),
            _ => self.slots.pointer(held.slot, self.payload_at),
        }
    }

    /// Ends a holding for good: the message is done with. `ESTALE` if it was taken from this process, declared dead.
    #[inline]
    pub(super) fn release(&self, held: &Held) -> SysResult<()> {
        self.finish(held, Word::to_free)
    }
}

/// A set of senders, by the low bits of their tags; it may say yes for one that is not in it.
#[derive(Default)]
struct Writers([u64; 4]);

impl Writers {
    fn add(&mut self, tag: Tag) {
        let at = tag.bits() as usize & 255;
        self.0[at / 64] |= 1 << (at % 64);
    }

    #[inline(always)]
    fn may_have(&self, tag: Tag) -> bool {
        let at = tag.bits() as usize & 255;
        self.0[at / 64] & 1 << (at % 64) != 0
    }
}
