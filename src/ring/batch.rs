//! Several messages in one call: the tail is moved, and the other side called, once for all of them.

use nix::errno::Errno;

use super::lane::{Held, Lane, Taken};
use super::options::RingFull;
use super::{Ring, RingReceived, damaged, fenced};
use crate::error::Result;
use crate::segment::PRODUCER;
use crate::sys::SysResult;
use crate::timeout::Timeout;

/// So many messages are taken in one call at most.
const MOST: usize = 64;

impl Ring {
    /// Copies as many of these messages into the ring as there is room for, at least one, in their order; how many. Waits
    /// while there is no room for the first, unless the handle's options say otherwise: where the newest are to be
    /// dropped, those without room are counted as dropped, and it returns how many there were. Each message is sent whole
    /// or not at all; others may see the first before the last is sent, and send in between.
    ///
    /// # Errors
    /// As [`Ring::send`], with nothing sent. Whatever stops a batch after its first message is met by the next call; so
    /// does a message that is too large.
    ///
    /// System calls: futex, if somebody sleeps or it has to wait, once for all of them.
    pub fn send_batch(&self, messages: &[&[u8]], timeout: Timeout) -> Result<usize> {
        self.send_batch_in_lane(self.lane, messages, timeout)
    }

    /// As [`Ring::send_batch`], by this lane.
    ///
    /// # Errors
    /// As [`Ring::send_batch`]; `EINVAL` there is no such lane.
    pub fn send_batch_in_lane(&self, lane: u32, messages: &[&[u8]], timeout: Timeout) -> Result<usize> {
        let Some(first) = messages.first() else { return Ok(0) };
        let mut operation = self.object.operation("send_batch", timeout);
        let largest = self.many.geometry.largest;
        let fit = messages.iter().take_while(|message| message.len() <= largest).count();
        let Some(held) = self.claim(&mut operation, lane, first.len())? else {
            self.drop_newest(fit);
            return Ok(fit);
        };
        let (sent, ended) = self.send_run(held, &messages[..fit]);
        match ended {
            Err(errno) if sent == 0 => Err(damaged(fenced(operation.error(errno)))),
            Ok(()) if sent < fit && self.full == RingFull::DropNewest => {
                self.drop_newest(fit - sent);
                Ok(fit)
            }
            _ => Ok(sent),
        }
    }

    /// Sends these messages, the first from a slot that is held, until there is no more room; how many.
    fn send_run(&self, first: Held, messages: &[&[u8]]) -> (usize, SysResult<()>) {
        let lane = self.many.lane(first.lane);
        let mut run = Run { from: first.slot.wrapping_add(1), to: first.slot.wrapping_add(1) };
        let (mut claimed, mut sent) = (Ok(Some(first)), 0);
        let ended = loop {
            let held = match claimed {
                Ok(Some(held)) => held,
                Ok(None) => break Ok(()),
                Err(errno) => break Err(errno),
            };
            lane.write(&held, 0, messages[sent]);
            if let Err(errno) = lane.commit(&held) {
                break Err(errno);
            }
            sent += 1;
            if sent == messages.len() {
                break Ok(());
            }
            claimed = self.claim_behind(lane, &mut run, messages[sent].len());
        };
        lane.move_tail(run.from, run.to);
        self.many.control.consumers_bell.0.ring_for(sent);
        (sent, ended)
    }

    /// The slot behind the run, or one further on.
    fn claim_behind(&self, lane: &Lane, run: &mut Run, length: usize) -> SysResult<Option<Held>> {
        let me = self.member_in(PRODUCER)?;
        if length <= lane.inline
            && let Some(held) = lane.claim_at(me, run.to)
        {
            run.to = run.to.wrapping_add(1);
            lane.describe(&held, length);
            return Ok(Some(Held { length, ..held }));
        }
        lane.move_tail(run.from, run.to);
        let held = self.try_claim(lane, length)?;
        if let Some(held) = &held {
            *run = Run { from: held.slot.wrapping_add(1), to: held.slot.wrapping_add(1) };
        }
        Ok(held)
    }

    /// Copies as many messages out of the ring as are there, at least one and at most 64, and is done with them; waits while
    /// there is none. They come one behind the other in `buffer`, and how long each is in `received`; how many there are.
    /// As many as fit into both. A process that dies in this call has not been done with them, or not with all.
    ///
    /// # Errors
    /// As [`Ring::recv`]; `EINVAL` `received` is empty.
    ///
    /// System calls: futex, if somebody sleeps or it has to wait, once for all of them.
    pub fn recv_batch(&self, buffer: &mut [u8], received: &mut [RingReceived], timeout: Timeout) -> Result<usize> {
        let mut operation = self.object.operation("recv_batch", timeout);
        if received.is_empty() {
            return Err(operation.error(Errno::EINVAL).because("there is room for no message"));
        }
        let mut taken = [const { None }; MOST];
        let first = self.take(&mut operation, buffer.len())?;
        let (mut next, mut at, mut count) = (Some(first), 0, 0);
        while let Some(held) = next {
            let length = self.many.lane(held.lane).read(&held, 0, &mut buffer[at..]);
            received[count] = RingReceived { length, deliveries: held.deliveries, lane: held.lane };
            at += length;
            taken[count] = Some(held);
            count += 1;
            next = if count == received.len().min(MOST) { None } else { self.take_more(buffer.len() - at) };
        }
        // Only now, when all are copied: a death before this has had none of them.
        let (mut done, mut released) = (0, Ok(()));
        for held in taken.iter().flatten() {
            released = self.many.lane(held.lane).release(held);
            if released.is_err() {
                break; // declared dead, or a peer that keeps no rules
            }
            done += 1;
        }
        if released.is_err() {
            // They were taken back already, or come to somebody now.
            for held in taken.iter().flatten().skip(done + 1) {
                let _ = self.many.give_back(held);
            }
        }
        for lane in &self.many.lanes {
            let of_lane = || taken.iter().flatten().filter(|held| held.lane == lane.number);
            if of_lane().next().is_some() {
                lane.ends.producers_bell.0.ring_once();
            }
            if of_lane().any(|held| held.place.is_some()) {
                lane.ends.room_bell.0.ring_all();
            }
        }
        match released {
            // What is done with comes to nobody else, so the caller is to have it.
            Err(errno) if done == 0 => Err(damaged(fenced(operation.error(errno)))),
            _ => Ok(done),
        }
    }

    /// Calls those who wait for a slot, or for room, after messages were released quietly. They pass on what they leave.
    pub(crate) fn call_producers(&self) {
        self.many.lanes.iter().for_each(|lane| lane.ring_freed(usize::MAX));
    }

    /// One more message, if there is one of at most so many bytes. Whatever is wrong is met by the next call.
    fn take_more(&self, room: usize) -> Option<Held> {
        match self.try_take(room) {
            Ok(Taken::Message(held)) => Some(held),
            _ => None,
        }
    }
}

/// Positions that were taken one behind the other, and that the tail has not been moved over.
struct Run {
    from: u64,
    to: u64,
}
