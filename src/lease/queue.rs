//! Who waits for a slot, and who is next.
//!
//! Each who waits has a place, a word that says when it came, for which group, and who it is; and a bell of its own, so that
//! a slot that comes back wakes the one who may have it. While nobody has waited for long, whoever comes may take it before
//! that one is awake: a slot is hardly ever idle then. Once somebody has waited for 0.4 ms, or always if the pool is fair,
//! only the first in line takes: so nobody waits for much longer than the rest.
//!
//! One who has been called and does not come, because it is stopped or gone, is passed over after 20 ms, by whoever comes or
//! looks then: those who sleep look every two seconds. Who finds something free that is another's turn calls that one, so that
//! a call that was left out, or lost with who died, holds up nobody for longer either.

use std::cell::Cell;
use std::time::Duration;

use nix::errno::Errno;

use super::layout::{SEAT, Seat};
use super::slots::{Allowed, Shared};
use super::word::Waiter;
use crate::error::Error;
use crate::segment::{ASK_EVERY, Bell, Member, Party, Tag};
use crate::sync_atomics::Ordering;
use crate::sys::{SysResult, fork};
use crate::timeout::now;

const WAITING: u64 = 1;
/// Somebody has waited for long.
const ORDERLY: u64 = 2;
const STEP: u64 = 4;
const LONG: Duration = Duration::from_micros(400);
const PASSED_OVER: Duration = Duration::from_millis(20);
/// Only somebody who keeps no rules makes so many exchanges fail.
const TRIES: u32 = 10_000;

/// A place in line.
pub(super) struct Turn<'a> {
    shared: &'a Shared,
    index: u64,
    waiter: Waiter,
    generation: u32,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Shared {
    #[inline(always)]
    fn hint(&self) -> u64 {
        // SeqCst: after a slot came back, and before one is taken.
        self.control.line.hint.load(Ordering::SeqCst)
    }

    #[inline(always)]
    pub fn somebody_waits(&self) -> bool {
        self.hint() & WAITING != 0
    }

    /// Whether those who come have to look at who came before.
    #[inline(always)]
    pub fn is_orderly(&self) -> bool {
        self.hint() & ORDERLY != 0
    }

    fn raise(&self, bits: u64) {
        for _ in 0..TRIES {
            let found = self.hint();
            // Changes also where the bits are set already: who clears them has looked before this.
            let next = found.wrapping_add(STEP) | bits;
            let hint = &self.control.line.hint;
            if hint.compare_exchange(found, next, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Clears bits, unless somebody has come since `found`.
    fn lower(&self, found: u64, bits: u64) {
        let next = found.wrapping_add(STEP) & !bits;
        let _ = self.control.line.hint.compare_exchange(found, next, Ordering::SeqCst, Ordering::Relaxed);
    }

    fn seat(&self, index: u64) -> SysResult<&Seat> {
        let at = self.parts.seats_at + (index as usize) * SEAT;
        self.member.segment().memory().record(at).ok_or(Errno::EBADMSG)
    }

    /// Those who wait and live.
    fn waiters(&self) -> impl Iterator<Item = (u64, Waiter)> {
        let used = u64::from(self.control.line.seats_used.load(Ordering::SeqCst)).min(self.parts.waiters.count());
        (0..used)
            .map(|index| (index, Waiter(self.parts.waiters.word::<0>(index).load(Ordering::SeqCst))))
            .filter(|(_, waiter)| waiter.0 != 0 && self.member.is_current(waiter.owner()))
    }

    /// Those who could have a slot that is kept for this group, or for nobody (0).
    fn waiters_for(&self, kept_for: u32) -> impl Iterator<Item = Waiter> {
        self.waiters().map(|(_, waiter)| waiter).filter(move |waiter| kept_for == 0 || waiter.group() == kept_for)
    }

    /// Whether there are any of them.
    pub fn is_waited_for(&self, kept_for: u32) -> bool {
        self.somebody_waits() && self.waiters_for(kept_for).next().is_some()
    }

    /// How many of them.
    pub fn waiting_for(&self, kept_for: u32) -> u32 {
        if self.somebody_waits() { self.waiters_for(kept_for).count() as u32 } else { 0 }
    }

    /// How many wait, of one group or at all.
    pub fn waiting(&self, group: Option<u32>) -> u32 {
        self.waiters().filter(|(_, waiter)| group.is_none_or(|group| waiter.group() == group)).count() as u32
    }

    /// Takes a place at the end; `None` if all are taken.
    pub fn join(&self, me: Tag, group: u32) -> Option<Turn<'_>> {
        let arrival = self.control.counts.arrivals.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        let waiter = Waiter::new(arrival, group, me);
        let index = (0..self.parts.waiters.count()).find(|index| {
            let place = self.parts.waiters.word::<0>(*index);
            place.load(Ordering::Relaxed) == 0
                && place.compare_exchange(0, waiter.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        })?;
        if let Ok(seat) = self.seat(index) {
            // Relaxed: until they are written those of the last one count, which is no harm.
            seat.since.store(nanos(now()), Ordering::Relaxed);
            seat.called.store(0, Ordering::Relaxed);
        }
        self.control.line.seats_used.fetch_max(index as u32 + 1, Ordering::SeqCst);
        // Last: whoever frees a slot and does not see this has freed it before the look that follows here.
        self.raise(if self.fair { WAITING | ORDERLY } else { WAITING });
        self.control.line.wanted.ring_all();
        Some(Turn { shared: self, index, waiter, generation: fork::generation_in_handler() })
    }

    fn was_passed_over(&self, index: u64, now: u64) -> bool {
        let called = self.seat(index).map_or(0, |seat| seat.called.load(Ordering::Relaxed));
        called != 0 && now.saturating_sub(called) > nanos(PASSED_OVER)
    }

    fn has_waited_long(&self, index: u64, now: u64) -> bool {
        self.fair
            || self.seat(index).is_ok_and(|seat| now.saturating_sub(seat.since.load(Ordering::Relaxed)) > nanos(LONG))
    }

    /// What one who has come at this turn, or comes just now, may take.
    #[inline]
    pub fn allowed(&self, turn: Option<&Turn<'_>>, group: u32) -> Allowed {
        if self.is_orderly() { self.allowed_in_line(turn, group) } else { Allowed::ALL }
    }

    #[cold]
    fn allowed_in_line(&self, turn: Option<&Turn<'_>>, group: u32) -> Allowed {
        let (found, now) = (self.hint(), nanos(now()));
        let mut allowed = Allowed::ALL;
        let mut any = false;
        for (index, waiter) in self.waiters() {
            any = true;
            let later = turn.is_some_and(|turn| waiter.arrival() >= turn.waiter.arrival());
            if !later && !self.was_passed_over(index, now) {
                allowed.common = false;
                allowed.own &= waiter.group() != group;
            }
        }
        if !any {
            self.lower(found, WAITING | ORDERLY);
        }
        allowed
    }

    /// Wakes who may have a slot that is kept for this group, or for nobody (0).
    #[cold]
    pub fn call_next(&self, kept_for: u32) {
        self.call(kept_for, true);
    }

    /// `again`: also one who was called already.
    fn call(&self, kept_for: u32, again: bool) {
        let (found, now) = (self.hint(), nanos(now()));
        let (mut any, mut long) = (false, false);
        let mut next: Option<(bool, u64, u64)> = None;
        for (index, waiter) in self.waiters() {
            any = true;
            long |= self.has_waited_long(index, now);
            if kept_for == 0 || waiter.group() == kept_for {
                let rank = (self.was_passed_over(index, now), waiter.arrival(), index);
                next = Some(next.map_or(rank, |next| next.min(rank)));
            }
        }
        if !any {
            self.lower(found, WAITING | ORDERLY);
        } else if long && found & ORDERLY == 0 {
            self.raise(ORDERLY);
        } else if !long && found & ORDERLY != 0 {
            self.lower(found, ORDERLY);
        }
        if let Some((_, _, index)) = next
            && let Ok(seat) = self.seat(index)
        {
            let called = seat.called.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
            if again || called.is_ok() {
                seat.bell.ring();
            }
        }
    }

    /// Clears the places of those who are not current.
    pub fn dismiss_dead(&self) {
        let mut any = false;
        for index in 0..self.parts.waiters.count() {
            let place = self.parts.waiters.word::<0>(index);
            let waiter = Waiter(place.load(Ordering::SeqCst));
            if waiter.0 != 0 && !self.member.is_current(waiter.owner()) {
                any |= place.compare_exchange(waiter.0, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok();
            }
        }
        if any {
            self.pass_on(true);
        }
    }

    /// Calls those who may have the slots that are free.
    fn pass_on(&self, again: bool) {
        if !self.somebody_waits() {
            return;
        }
        let free = (0..self.size()).filter(|index| !self.word(*index).is_held());
        let mut kept_for: Vec<u32> = free.map(|index| self.kept_for(index)).collect();
        kept_for.dedup();
        if kept_for.is_empty() {
            // Nobody to call, but the bits are to say what is so.
            self.settle_hint();
        }
        for kept_for in kept_for {
            self.call(kept_for, again);
        }
    }

    fn settle_hint(&self) {
        let (found, now) = (self.hint(), nanos(now()));
        let (mut any, mut long) = (false, false);
        for (index, _) in self.waiters() {
            any = true;
            long |= self.has_waited_long(index, now);
        }
        if !any {
            self.lower(found, WAITING | ORDERLY);
        } else if !long && found & ORDERLY != 0 {
            self.lower(found, ORDERLY);
        }
    }

    /// Wakes all who wait.
    pub fn call_all(&self) {
        for (index, _) in self.waiters() {
            if let Ok(seat) = self.seat(index) {
                seat.bell.ring_all();
            }
        }
        self.control.line.bell.ring_all();
    }
}

impl Turn<'_> {
    /// Says that it has looked, as it was called.
    pub fn came(&self) {
        if let Ok(seat) = self.shared.seat(self.index)
            && seat.called.load(Ordering::Relaxed) != 0
        {
            seat.called.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let place = self.shared.parts.waiters.word::<0>(self.index);
        if self.generation != fork::generation_in_handler() {
            return; // a copy in a child
        }
        // A failure: this handle was declared dead, and the place may be somebody else's.
        if place.compare_exchange(self.waiter.0, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            self.shared.pass_on(true); // it may have been called, and leave for another reason
        }
    }
}

/// One who waits, as the wait sees it.
pub(super) struct Waiting<'a> {
    pub shared: &'a Shared,
    /// Nobody's who only tries, nor where all places are taken.
    pub turn: Option<Turn<'a>>,
    /// How soon there is something to look at again that no bell tells.
    pub again: Cell<Option<Duration>>,
}

impl Waiting<'_> {
    /// After a look in vain; something is to be looked at again that soon.
    pub fn found_nothing(&self, group: u32, next: Option<Duration>) {
        if let Some(turn) = &self.turn {
            turn.came();
        }
        // Something is free, and it is another's turn, who may not have been called for it. Not again and again while one who
        // was called wakes up: should that be lost, the next look is soon.
        let other = self.shared.has_free(group).then(|| {
            self.shared.pass_on(false);
            PASSED_OVER
        });
        let soon = [next.map(|left| left + Duration::from_millis(1)), other].into_iter().flatten().min();
        self.again.set(soon.map(|soon| soon.min(ASK_EVERY)));
    }
}

impl Party for Waiting<'_> {
    fn member(&self) -> &Member {
        self.shared.member()
    }

    fn bell(&self) -> SysResult<&Bell> {
        match &self.turn {
            Some(turn) => self.shared.seat(turn.index).map(|seat| &seat.bell),
            None => self.shared.bell(),
        }
    }

    fn tidy(&self) -> SysResult<()> {
        self.shared.tidy()
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None)
    }

    fn explain(&self, error: Error) -> Error {
        self.shared.explain(error)
    }

    fn look_again(&self) -> Option<Duration> {
        self.again.get()
    }
}

/// One who waits until somebody else waits.
pub(super) struct Wanted<'a>(pub &'a Shared);

impl Party for Wanted<'_> {
    fn member(&self) -> &Member {
        self.0.member()
    }

    fn bell(&self) -> SysResult<&Bell> {
        Ok(&self.0.control.line.wanted)
    }

    fn tidy(&self) -> SysResult<()> {
        self.0.tidy()
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None)
    }

    fn explain(&self, error: Error) -> Error {
        self.0.explain(error)
    }
}
