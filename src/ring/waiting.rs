//! How the calls of a many-to-many ring wait, and the helpers of its doorbells.

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::lane::Lane;
use super::many::Many;
use super::room::Fit;
use super::word::Phase;
use super::{Ring, damaged, fenced, no_lane};
use crate::doorbell::{Listen, ROUNDS};
use crate::error::{Error, Result};
use crate::segment::{ASK_EVERY, Bell, CONSUMER, Member, PRODUCER, Party, look_around};
use crate::sync_atomics::Ordering;
use crate::sys::{SysResult, futex};

/// Nobody's death can matter: the kernel is asked for so long at a time.
const LONG: Duration = Duration::from_secs(3600);

/// Somebody is just about to say that a slot is his; he may have been stopped there.
const UNSURE: Duration = Duration::from_millis(2);

/// What a handle may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// In this lane, for a message.
    Slot(u32),
    /// In this lane, for a message that is longer than a slot, and has one.
    Room(u32),
    Message,
    DeadLetter,
}

pub(super) struct Side<'a> {
    pub many: &'a Many,
    pub wanted: Wanted,
    /// Whether the last look for room may have been too early, without anybody to tell.
    pub unsure: Option<&'a Cell<bool>>,
}

impl Party for Side<'_> {
    fn member(&self) -> &Member {
        &self.many.member
    }

    fn bell(&self) -> SysResult<&Bell> {
        Ok(match self.wanted {
            Wanted::Slot(lane) => &self.many.lane(lane).ends.producers_bell.0,
            Wanted::Room(lane) => &self.many.lane(lane).ends.room_bell.0,
            Wanted::Message => &self.many.control.consumers_bell.0,
            Wanted::DeadLetter => &self.many.control.letters_bell.0,
        })
    }

    fn is_told_who_joins(&self) -> bool {
        true
    }

    fn tidy(&self) -> SysResult<()> {
        self.many.tidy();
        Ok(())
    }

    fn pass_on(&self, in_vain: bool) {
        let Wanted::Slot(lane) = self.wanted else { return };
        let lane = self.many.lane(lane);
        if lane.has_slot() {
            let bell = &lane.ends.producers_bell.0;
            // In vain, the bit that says that it was called may still be set.
            if in_vain { bell.ring() } else { bell.ring_once() }
        }
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        let (other, reason) = match self.wanted {
            Wanted::Slot(_) | Wanted::Room(_) => (CONSUMER, "the last consumer has gone"),
            Wanted::Message => (PRODUCER, "the ring is empty, and the last producer has gone"),
            Wanted::DeadLetter => (CONSUMER, "there is no dead letter, and the last consumer has gone"),
        };
        let over = !self.many.persistent && self.member().is_role_over(other)?;
        Ok(over.then_some((Errno::EPIPE, reason)))
    }

    fn look_again(&self) -> Option<Duration> {
        match self.wanted {
            // Another thread of this handle may have been called for several, and not come.
            Wanted::Slot(_) => Some(ASK_EVERY),
            _ => self.unsure.is_some_and(Cell::get).then_some(UNSURE),
        }
    }

    fn explain(&self, error: Error) -> Error {
        damaged(fenced(error))
    }
}

impl Ring {
    /// A descriptor that is readable while there may be a message for this handle (a dead letter, if these are what it
    /// receives), for `poll` and its like; it stays so until a call finds none. Made on the first request, with a thread that
    /// waits for it; until then it costs nobody anything.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM` it cannot be made; `ESTALE` this handle was declared dead.
    pub fn doorbell(&self) -> Result<BorrowedFd<'_>> {
        self.bell(self.wanted())
    }

    /// As [`Ring::doorbell`], readable while there may be room in this lane for a message as long as the last of this handle
    /// that found none, until a call finds none.
    ///
    /// # Errors
    /// As [`Ring::doorbell`]; `EINVAL` there is no such lane.
    pub fn room_doorbell(&self, lane: u32) -> Result<BorrowedFd<'_>> {
        if lane >= self.many.geometry.lanes {
            return Err(no_lane(self.object.error(Errno::EINVAL, "doorbell"), self.many.geometry.lanes));
        }
        self.bell(Wanted::Slot(lane))
    }

    /// The descriptors that were asked for in this process, for those who have to forget them before they go. Never
    /// blocks.
    pub fn doorbells(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.bells.descriptors()
    }

    #[cfg(loom)]
    pub(crate) fn message_listener(&self) -> Box<dyn Listen> {
        Listener::of(&self.many, Wanted::Message)
    }

    #[cfg(loom)]
    pub(crate) fn room_listener(&self) -> Box<dyn Listen> {
        Listener::of(&self.many, Wanted::Slot(0))
    }

    fn bell(&self, wanted: Wanted) -> Result<BorrowedFd<'_>> {
        self.many.member.tag().map_err(|errno| fenced(self.object.error(errno, "doorbell")))?;
        self.bells.get(wanted, &self.object, || Ok(Listener::of(&self.many, wanted)))
    }
}

/// How a doorbell's helper waits.
pub(super) struct Listener {
    many: Arc<Many>,
    wanted: Wanted,
}

impl Listener {
    pub(super) fn of(many: &Arc<Many>, wanted: Wanted) -> Box<dyn Listen> {
        Box::new(Listener { many: Arc::clone(many), wanted })
    }

    /// What is missing for what is wanted: what a call could use may want both a slot and room.
    fn missing(&self) -> Wanted {
        match self.wanted {
            Wanted::Slot(lane) if self.many.lane(lane).fit_wanted() != Fit::Now => Wanted::Room(lane),
            wanted => wanted,
        }
    }

    fn sleep(&self) -> SysResult<()> {
        for _ in 0..ROUNDS {
            let side = Side { many: &self.many, wanted: self.missing(), unsure: None };
            look_around(&side)?;
            let bell = side.bell()?;
            let announced = bell.announce();
            // That nothing can come any more is for the caller to meet.
            if side.over()?.is_some() || self.look().is_ok() {
                return Ok(());
            }
            if self.missing() != side.wanted {
                bell.ring(); // it may have been called for several
                continue;
            }
            let most = match side.wanted {
                // Nobody rings for it; or it has become sure since.
                Wanted::Room(lane) if self.many.lane(lane).fit_wanted() != Fit::Not => UNSURE,
                Wanted::Slot(_) => ASK_EVERY, // may have been passed over
                _ if side.member().has_company()? => ASK_EVERY,
                _ => LONG,
            };
            match futex::wait(bell.word(), announced, most) {
                Ok(()) | Err(Errno::EAGAIN | Errno::ETIMEDOUT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EINTR)
    }
}

impl Listen for Listener {
    fn look(&self) -> SysResult<()> {
        let is_ready = match self.wanted {
            Wanted::Slot(lane) | Wanted::Room(lane) => self.many.lane(lane).has_room(),
            Wanted::Message => self.many.lanes.iter().any(Lane::has_message) || self.many.has_returned(),
            Wanted::DeadLetter => {
                let is_in = |phase| self.many.lanes.iter().any(|lane| lane.any_in(phase));
                is_in(Phase::DeadLetter) || is_in(Phase::DeadLetterLate)
            }
        };
        if is_ready { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    fn wait(&self) -> SysResult<()> {
        let waited = self.sleep();
        // Whoever rings wakes one sleeper for each thing, or one for several; this one takes nothing, so it passes on what may have
        // been another's.
        Side { many: &self.many, wanted: self.wanted, unsure: None }.bell()?.ring();
        waited
    }
}

impl Lane {
    /// Whether a producer would find room now, as `claim` looks for it.
    fn has_room(&self) -> bool {
        self.fit_wanted() == Fit::Now && self.has_slot()
    }

    /// The same, whatever its length.
    pub(super) fn has_slot(&self) -> bool {
        let first = self.ends.tail.0.load(Ordering::Acquire);
        for position in (0..self.slots.count()).map(|offset| first.wrapping_add(offset)) {
            let word = self.load(position);
            match (word.ahead_of(position >> self.shift), word.phase()) {
                (0, Phase::Free) | (-1, Phase::Passed) => return true,
                (-1, Phase::Ready | Phase::Returned) => return false,
                _ => {} // taken by now, or held and passed over
            }
        }
        false
    }

    /// Whether there would be room for what found none the last time.
    fn fit_wanted(&self) -> Fit {
        self.fit(self.wanted.load(Ordering::Relaxed))
    }

    /// Whether a consumer would find a message now, as `take` looks for it.
    fn has_message(&self) -> bool {
        let first = self.ends.head.0.load(Ordering::Acquire);
        for position in (0..self.slots.count()).map(|offset| first.wrapping_add(offset)) {
            let word = self.load(position);
            match (word.ahead_of(position >> self.shift), word.phase()) {
                (0, Phase::Ready | Phase::Returned) => return true,
                (0, Phase::Free) | (..0, _) => return false,
                _ => {}
            }
        }
        false
    }

    fn any_in(&self, phase: Phase) -> bool {
        (0..self.slots.count()).any(|slot| self.load(slot).phase() == phase)
    }
}

impl Many {
    /// Whether a message has come back, and nobody has looked behind the heads since.
    fn has_returned(&self) -> bool {
        let returns = self.control.rare.0.returns.load(Ordering::Acquire);
        let unseen = |lane: &&Lane| lane.returns_seen.load(Ordering::Relaxed) != returns;
        self.lanes.iter().filter(unseen).any(|lane| lane.any_in(Phase::Returned))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::{RingBorrowed, RingOptions, Timeout};

    const GENEROUS: Duration = Duration::from_secs(20);
    const LARGEST: usize = 1 << 12;

    /// One with eight slots, and room for two long messages.
    fn ring() -> Ring {
        let (slots, largest) = (8, LARGEST as u64);
        let capacity = slots * 128 + 2 * largest;
        Ring::anonymous(RingOptions { capacity, largest, depth: slots, persistent: true, ..Default::default() })
            .unwrap()
    }

    /// Takes the slot whose last message had the only room that is left, and does not say yet how long the next one will be.
    fn claim_in_doubt(ring: &Ring) -> (super::super::lane::Held, RingBorrowed<'_>) {
        let (lane, long) = (ring.many.lane(0), vec![1; LARGEST]);
        assert_eq!(lane.room.as_ref().unwrap().chunks, 2);
        let mut buffer = vec![0; LARGEST];
        ring.send(&long, Timeout::Now).unwrap();
        ring.send(&long, Timeout::Now).unwrap();
        ring.recv(&mut buffer, Timeout::Now).unwrap();
        let other = ring.borrow(Timeout::Now).unwrap();
        for _ in 2..lane.slots.count() {
            ring.send(b"s", Timeout::Now).unwrap();
            ring.recv(&mut buffer, Timeout::Now).unwrap();
        }
        let held = ring.many.claim(lane, ring.many.member.tag().unwrap(), false).unwrap().unwrap();
        assert_eq!(lane.fit(LARGEST), Fit::Unsure);
        (held, other)
    }

    #[test]
    fn room_that_was_in_doubt_is_looked_for_again_though_nobody_rings() {
        let ring = ring();
        let ((held, _other), lane) = (claim_in_doubt(&ring), ring.many.lane(0));
        assert!(ring.send(&vec![1; LARGEST], Timeout::Now).unwrap_err().is(Errno::EAGAIN), "while it is in doubt");
        let bell = ring.room_doorbell(0).unwrap();
        let begun = Instant::now();
        while !lane.ends.room_bell.0.is_slept_on() {
            assert!(begun.elapsed() < GENEROUS, "the helper does not sleep");
            thread::yield_now();
        }
        lane.describe(&held, 1);
        let timeout = PollTimeout::try_from(GENEROUS).unwrap();
        assert_eq!(poll(&mut [PollFd::new(bell.as_fd(), PollFlags::POLLIN)], timeout), Ok(1));
        ring.send(&vec![1; LARGEST], Timeout::Now).unwrap();
        lane.forgo(&held);
    }

    #[test]
    fn who_does_not_wait_looks_again_while_it_is_in_doubt() {
        let ring = ring();
        let ((held, _other), lane) = (claim_in_doubt(&ring), ring.many.lane(0));
        // Others say it a moment later; here nobody does until it is known that this ends.
        assert!(!lane.may_fit(LARGEST));
        lane.describe(&held, 1);
        assert!(lane.may_fit(LARGEST));
        lane.forgo(&held);
    }

    #[test]
    fn a_bell_that_never_stands_still_keeps_nothing_open() {
        let ring = ring();
        ring.doorbell().unwrap();
        let (many, stop) = (Arc::clone(&ring.many), AtomicBool::new(false));
        let (ended, ends) = mpsc::channel();
        thread::scope(|threads| {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    many.control.consumers_bell.0.word().fetch_add(4, Ordering::Relaxed);
                }
            });
            threads.spawn(move || {
                thread::sleep(Duration::from_millis(20)); // the helper is at it
                drop(ring);
                ended.send(()).unwrap();
            });
            let result = ends.recv_timeout(GENEROUS);
            stop.store(true, Ordering::Relaxed);
            assert_eq!(result, Ok(()));
        });
    }
}
