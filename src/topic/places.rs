//! The subscribers of a topic: their places, how far each has come, and what may be retired.
//!
//! A lossless subscriber's cursor is the oldest message that it still needs. What lies before all such cursors may be
//! retired; the lowest of them is written down as the *floor*, and only what lies before the floor is retired. So
//! publishers look at the cursors only when they have used up what the last look gave.
//!
//! A subscriber that comes while a publisher looks: it first shows its place with a cursor that is low enough, then
//! counts itself in the floor's word, and begins at the floor that it finds there if that is higher. A publisher whose
//! look missed it fails to raise the floor, as the word has changed; one that raised it before is heeded.
//!
//! No wake-up is lost: a subscriber rings for publishers only if its cursor stood at the floor, or before it. Whoever raises
//! the floor therefore looks again until it does not rise any more: either that look sees the cursor move, or the
//! subscriber sees the floor that was raised to it.

use std::time::Duration;

use nix::errno::Errno;

use super::log::Log;
use super::options::SubscribeOptions;
use super::word::{Mark, Place, Seat, behind};
use crate::segment::{ASK_EVERY, Tag};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::timeout::{about_now, wall_clock};

/// Publishers look at the cursors once for such a part of the depth.
const AHEAD: u64 = 16;

/// A subscriber's place in this process's hands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seated {
    place: u64,
    /// The word as long as it is this subscriber's.
    word: Place,
}

impl Seated {
    pub(super) fn is_lossy(&self) -> bool {
        self.word.seat() == Seat::Lossy
    }
}

/// What a place says of its subscriber.
pub(super) struct Seen {
    pub(super) word: Place,
    pub(super) cursor: u64,
    pub(super) missed: u64,
    pub(super) since: u64,
}

impl Log {
    fn place(&self, place: u64) -> &AtomicU64 {
        self.parts.places.word::<0>(place)
    }

    fn cursor(&self, place: u64) -> &AtomicU64 {
        self.parts.places.word::<1>(place)
    }

    fn missed(&self, place: u64) -> &AtomicU64 {
        self.parts.places.word::<2>(place)
    }

    /// Milliseconds that a subscriber may be stuck; 0 for ever.
    fn limit(&self, place: u64) -> &AtomicU64 {
        self.parts.places.word::<3>(place)
    }

    /// Where it stood when it first held up a publisher, and when that was: 32 bits of each.
    fn stuck(&self, place: u64) -> &AtomicU64 {
        self.parts.places.word::<4>(place)
    }

    fn since(&self, place: u64) -> &AtomicU64 {
        self.parts.places.word::<5>(place)
    }

    fn load_place(&self, place: u64) -> Place {
        // SeqCst: see above.
        Place(self.place(place).load(Ordering::SeqCst))
    }

    fn step_place(&self, place: u64, from: Place, to: Place) -> bool {
        self.place(place).compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    // --- subscribers ---

    /// Takes a place; where the subscriber begins. `None` if there is none.
    pub(super) fn take_place(&self, me: Tag, options: &SubscribeOptions) -> SysResult<Option<(Seated, u64)>> {
        for place in 0..self.geometry.places {
            let free = self.load_place(place);
            let joining = free.to_joining(me);
            if free.seat() == Seat::Free && self.step_place(place, free, joining) {
                return self.sit_down(place, joining, options).map(Some);
            }
        }
        Ok(None)
    }

    fn sit_down(&self, place: u64, joining: Place, options: &SubscribeOptions) -> SysResult<(Seated, u64)> {
        let begin = |log: &Log| {
            let (oldest, frontier) = (log.oldest()?, log.frontier()?);
            SysResult::Ok(frontier.wrapping_sub(options.history.min(behind(oldest, frontier).max(0).cast_unsigned())))
        };
        let limit = options.stuck.map_or(0, |stuck| u64::try_from(stuck.as_millis()).unwrap_or(u64::MAX).max(1));
        // Relaxed: published by the step below.
        self.missed(place).store(0, Ordering::Relaxed);
        self.limit(place).store(limit, Ordering::Relaxed);
        self.stuck(place).store(0, Ordering::Relaxed);
        self.since(place).store(wall_clock(), Ordering::Relaxed);
        let mut first = begin(self)?;
        let before = self.cursor(place).load(Ordering::Relaxed);
        // Declared dead, this process writes nothing that could be the next one's: that one's cursor has another version.
        if self.load_place(place) != joining || !self.step_cursor(place, Mark(before), joining.cursor(first)) {
            return Err(Errno::ESTALE);
        }
        let word = joining.to(if options.lossy { Seat::Lossy } else { Seat::Lossless });
        if !self.step_place(place, joining, word) {
            return Err(Errno::ESTALE);
        }
        if !options.lossy {
            let floor = Mark(self.control()?.retired.0.floor.fetch_add(Mark::ONE, Ordering::SeqCst));
            // With a history of so many as of now; not before the floor, and not before what this place has kept.
            let floor = floor.whole(first);
            let now = begin(self)?;
            let lowest = if behind(first, floor) > 0 { floor } else { first };
            let start = if behind(lowest, now) > 0 { now } else { lowest };
            if start != first && !self.step_cursor(place, joining.cursor(first), joining.cursor(start)) {
                return Err(Errno::ESTALE);
            }
            first = start;
        }
        Ok((Seated { place, word }, first))
    }

    fn step_cursor(&self, place: u64, from: Mark, to: Mark) -> bool {
        // SeqCst: see above. It also releases: what lies before the cursor has been read.
        self.cursor(place).compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// `ECONNABORTED` for one that was cut off, `ESTALE` for one that was declared dead.
    #[inline]
    pub(super) fn check_place(&self, seated: &Seated) -> SysResult<()> {
        // Acquire: whoever took the place away did so before the look.
        let found = Place(self.place(seated.place).load(Ordering::Acquire));
        if found == seated.word {
            Ok(())
        } else if found == seated.word.to(Seat::CutOff) {
            Err(Errno::ECONNABORTED)
        } else {
            Err(Errno::ESTALE)
        }
    }

    /// Moves a cursor on.
    #[inline]
    pub(super) fn advance(&self, seated: &Seated, from: u64, to: u64) -> SysResult<()> {
        if !self.step_cursor(seated.place, seated.word.cursor(from), seated.word.cursor(to)) {
            return Err(Errno::ESTALE);
        }
        if seated.word.seat() == Seat::Lossless {
            let control = self.control()?;
            // SeqCst, after the exchange: see above.
            let floor = Mark(control.retired.0.floor.load(Ordering::SeqCst)).whole(from);
            if behind(floor, from) <= 0 {
                control.publishers_bell.0.ring_all();
            }
        }
        Ok(())
    }

    pub(super) fn add_missed(&self, seated: &Seated, missed: u64) {
        // Relaxed: for others to see.
        self.missed(seated.place).fetch_add(missed, Ordering::Relaxed);
    }

    pub(super) fn missed_by(&self, seated: &Seated) -> u64 {
        self.missed(seated.place).load(Ordering::Relaxed)
    }

    /// Gives a place up.
    pub(super) fn leave_place(&self, seated: &Seated) {
        let free = seated.word.to(Seat::Free);
        // Fails where it was cut off, or taken from this process, declared dead.
        if !self.step_place(seated.place, seated.word, free) {
            self.step_place(seated.place, seated.word.to(Seat::CutOff), free);
        }
        if let Ok(control) = self.control() {
            control.publishers_bell.0.ring_all();
        }
    }

    // --- publishers ---

    /// Whether no lossless subscriber needs this message any more. If its room is `needed`, those who have stood in the way for too
    /// long are cut off.
    #[inline]
    pub(super) fn is_passed(&self, sequence: u64, needed: bool) -> SysResult<bool> {
        let floor = Mark(self.control()?.retired.0.floor.load(Ordering::SeqCst)).whole(sequence);
        if behind(sequence, floor) > 0 {
            return Ok(true);
        }
        self.raise_floor(sequence, needed)
    }

    /// Raises the floor past this message, if that goes, and somewhat further; whether it did. Not as far as it goes, as
    /// a lossless subscriber to come finds no history before the floor.
    fn raise_floor(&self, sequence: u64, needed: bool) -> SysResult<bool> {
        let word = &self.control()?.retired.0.floor;
        loop {
            let floor = Mark(word.load(Ordering::SeqCst));
            let (lowest, known) = (self.lowest_cursor(sequence, needed)?, floor.whole(sequence));
            let enough = sequence.wrapping_add(1 + self.geometry.depth / AHEAD);
            let wanted = if behind(lowest, enough) > 0 { lowest } else { enough };
            if behind(known, wanted) <= 0 {
                return Ok(behind(sequence, known) > 0);
            }
            let raised = Mark::new(wanted, floor.count());
            // And then again, whether this fails or not: see above.
            let _ = word.compare_exchange(floor.0, raised.0, Ordering::SeqCst, Ordering::Relaxed);
        }
    }

    /// The lowest cursor of all lossless subscribers, if `needed` after cutting off those who have held up this message for too long.
    fn lowest_cursor(&self, wanted: u64, needed: bool) -> SysResult<u64> {
        let mut lowest = self.frontier()?;
        for place in 0..self.geometry.places {
            let word = self.load_place(place);
            if word.seat() != Seat::Lossless {
                continue;
            }
            if !self.member.is_current(word.owner()) {
                self.step_place(place, word, word.to(Seat::Free));
                continue;
            }
            let cursor = Mark(self.cursor(place).load(Ordering::SeqCst));
            let whole = cursor.whole(lowest);
            // One of another version: the place has just changed hands, and who has it now sees to itself.
            if cursor != word.cursor(whole) || behind(whole, lowest) <= 0 {
                continue;
            }
            if behind(whole, wanted) < 0 || !needed || !self.cut_off_if_stuck(place, word, cursor) {
                lowest = whole;
            }
        }
        Ok(lowest)
    }

    /// Cuts a subscriber off that has stood here, in the way of publishers, for longer than its limit.
    fn cut_off_if_stuck(&self, place: u64, word: Place, cursor: Mark) -> bool {
        // Relaxed: constant while the place is taken, and a judgement on time needs no order.
        let limit = self.limit(place).load(Ordering::Relaxed);
        if limit == 0 {
            return false;
        }
        let (here, now) = (cursor.0 << 32, about_now().as_millis() as u32);
        let noted = self.stuck(place).load(Ordering::Relaxed);
        if noted & !u64::from(u32::MAX) != here || noted == 0 {
            let note = here | u64::from(now);
            let _ = self.stuck(place).compare_exchange(noted, note, Ordering::Relaxed, Ordering::Relaxed);
            if let Ok(control) = self.control() {
                // It may sleep, as the one that was called to tell it has not come: that is not to count against it.
                control.subscribers_bell.0.ring_all();
            }
            return false;
        }
        let stuck = u64::from(now.wrapping_sub(noted as u32));
        let cut = stuck > limit && self.step_place(place, word, word.to(Seat::CutOff));
        if cut && let Ok(control) = self.control() {
            control.subscribers_bell.0.ring_all(); // it may sleep, and is to be told
        }
        cut
    }

    /// How soon somebody may have been stuck for too long.
    pub(super) fn look_again(&self) -> Option<Duration> {
        let limited = (0..self.geometry.places).filter(|place| self.load_place(*place).seat() == Seat::Lossless);
        let limits = limited.map(|place| self.limit(place).load(Ordering::Relaxed)).filter(|limit| *limit != 0);
        limits.min().map(|limit| Duration::from_millis(limit / 4 + 1).min(ASK_EVERY))
    }

    // --- whoever comes by ---

    /// Frees the places of the dead.
    pub(super) fn tidy_places(&self) -> bool {
        let mut freed = false;
        for place in 0..self.geometry.places {
            let word = self.load_place(place);
            if word.seat() != Seat::Free && !self.member.is_current(word.owner()) {
                freed |= self.step_place(place, word, word.to(Seat::Free));
            }
        }
        freed
    }

    /// Those who have subscribed.
    pub(super) fn seen(&self) -> SysResult<Vec<Seen>> {
        let near = self.frontier()?;
        let mut all = Vec::new();
        for place in 0..self.geometry.places {
            let word = self.load_place(place);
            if !matches!(word.seat(), Seat::Free | Seat::Joining) {
                let cursor = Mark(self.cursor(place).load(Ordering::SeqCst)).whole(near);
                let missed = self.missed(place).load(Ordering::Relaxed);
                let since = self.since(place).load(Ordering::Relaxed);
                all.push(Seen { word, cursor, missed, since });
            }
        }
        Ok(all)
    }
}
