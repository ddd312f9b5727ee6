//! How a sender comes to a slot, and to room where its message is longer than one.

use std::cell::Cell;

use nix::errno::Errno;

use super::Ring;
use super::explain::{damaged, fenced, full_or_over, no_lane};
use super::lane::{Held, Lane};
use super::options::RingFull;
use super::room::Waiter;
use super::waiting::{Side, Wanted};
use crate::error::Result;
use crate::segment::{PRODUCER, look_around};
use crate::sync_atomics::Ordering;
use crate::sys::SysResult;
use crate::timeout::Timeout;
use crate::wait::Operation;

impl Ring {
    /// A slot to write to; `None` if the newest message is to be dropped instead, which the caller counts if it has one.
    #[inline]
    pub(super) fn claim(&self, operation: &mut Operation<'_>, lane: u32, length: usize) -> Result<Option<Held>> {
        let Some(lane) = self.many.lanes.get(lane as usize) else {
            return Err(no_lane(operation.error(Errno::EINVAL), self.many.geometry.lanes));
        };
        let largest = self.many.geometry.largest;
        if length > largest {
            return Err(operation
                .error(Errno::EMSGSIZE)
                .because("the message is larger than the ring's largest; make the ring with a larger one")
                .with_true_size(largest));
        }
        let attempt = || Ok(self.try_claim(lane, length)?.map(Some));
        match attempt() {
            Ok(Some(claimed)) => return Ok(claimed),
            Ok(None) => {}
            Err(errno) => return Err(damaged(fenced(operation.error(errno)))),
        }
        let waits = matches!(self.full, RingFull::Wait | RingFull::DropOldest) && operation.timeout() != Timeout::Now;
        let claimed = if length > lane.inline && waits {
            self.wait_for_room(operation, lane, length).map(Some)
        } else {
            self.claim_from_full(operation, Wanted::Slot(lane.number), attempt)
        };
        if !matches!(claimed, Ok(Some(_))) {
            lane.wanted.store(length, Ordering::Relaxed);
            self.bells.found_nothing(&Wanted::Slot(lane.number));
        }
        claimed
    }

    /// Waits for a slot, and then, with the slot in hand, for room: so the other senders leave it some.
    #[cold]
    fn wait_for_room(&self, operation: &mut Operation<'_>, lane: &Lane, length: usize) -> Result<Held> {
        let (me, eager) = (self.member_in(PRODUCER), self.full == RingFull::DropOldest);
        let me = me.map_err(|errno| fenced(operation.error(errno)))?;
        let attempt = || self.many.claim_for(lane, me, length, eager);
        let mut held = match attempt() {
            Ok(Some(held)) => held,
            Ok(None) => self.patience.wait(&self.side(Wanted::Slot(lane.number)), operation, attempt)?,
            Err(errno) => return Err(damaged(fenced(operation.error(errno)))),
        };
        let unsure = Cell::new(false);
        let mut waiter = Waiter::new(&unsure);
        let mut attempt = || {
            if !lane.is_still_written(&held) {
                return Err(Errno::ESTALE); // before it takes room that its successor may have
            }
            // Of those that were dropped, or that others have left, it may be the last that is missing.
            while !lane.furnish(&mut held, Some(&mut waiter)) {
                if !eager || !lane.drop_oldest_with_room() {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        };
        let furnished = match attempt() {
            Ok(Some(())) => Ok(()),
            _ => {
                let side = Side { unsure: Some(&unsure), ..self.side(Wanted::Room(lane.number)) };
                self.patience.wait(&side, operation, attempt)
            }
        };
        match furnished {
            Ok(()) => Ok(held),
            Err(error) => {
                if !operation.wait().is_parents() {
                    lane.forgo(&held);
                }
                Err(error)
            }
        }
    }

    /// What this handle does when the ring is full.
    #[cold]
    fn claim_from_full(
        &self,
        operation: &mut Operation<'_>,
        room: Wanted,
        mut attempt: impl FnMut() -> SysResult<Option<Option<Held>>>,
    ) -> Result<Option<Held>> {
        if matches!(self.full, RingFull::Wait | RingFull::DropOldest) {
            return self.patience.wait(&self.side(room), operation, attempt);
        }
        let failed = |operation: &Operation<'_>, errno| damaged(fenced(operation.error(errno)));
        let over = look_around(&self.side(room)).map_err(|errno| failed(operation, errno))?;
        // What the dead held may be free by that, and who has gone may have made room before.
        if let Some(held) = attempt().map_err(|errno| failed(operation, errno))? {
            return Ok(held);
        }
        if self.full == RingFull::DropNewest { Ok(None) } else { Err(full_or_over(operation, over)) }
    }

    /// A slot to write so many bytes to, and room where they are too many for it, if there are now.
    #[inline]
    pub(super) fn try_claim(&self, lane: &Lane, length: usize) -> SysResult<Option<Held>> {
        let me = self.member_in(PRODUCER)?;
        let eager = self.full == RingFull::DropOldest;
        if length > lane.inline {
            return self.many.claim_with_room(lane, me, length, eager);
        }
        self.many.claim_for(lane, me, length, eager)
    }

    #[cold]
    pub(super) fn drop_newest(&self, messages: usize) {
        // Relaxed: one step, which a death can only leave out or leave done.
        self.many.control.rare.0.dropped_newest.fetch_add(messages as u64, Ordering::Relaxed);
    }
}
