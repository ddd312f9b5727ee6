//! Messages written and read in place.

use std::ptr::NonNull;

use nix::errno::Errno;

use super::lane::Held;
use super::{Ring, fenced};
use crate::error::{Error, Result};
use crate::lender::Lender;
use crate::sys::fork;

/// A slot that a guard holds, and the process whose it is: a child made by fork has a copy of the guard, and the slot
/// stays the parent's.
struct Guard<'a> {
    ring: Lender<'a, Ring>,
    held: Option<Held>,
    generation: u32,
}

impl Guard<'_> {
    /// Takes the slot out of the guard, unless it is the parent's.
    fn end(&mut self) -> Option<Held> {
        self.held.take().filter(|_| self.generation == fork::generation_in_handler())
    }

    fn error(&self, errno: Errno, operation: &'static str) -> Error {
        fenced(self.ring.object.error(errno, operation))
    }

    fn not_ours(&self, operation: &'static str) -> Error {
        self.error(Errno::EPERM, operation).because("it belongs to the process that this one was forked from")
    }
}

/// Room for a message, to be written in place. Dropped without [`commit`](RingReserved::commit), it was never sent.
pub struct RingReserved<'a>(Guard<'a>);

impl<'a> RingReserved<'a> {
    pub(super) fn new(ring: Lender<'a, Ring>, held: Held) -> RingReserved<'a> {
        RingReserved(Guard { ring, held: Some(held), generation: fork::generation_in_handler() })
    }

    /// Bytes reserved.
    pub fn length(&self) -> usize {
        self.0.held.as_ref().map_or(0, |held| held.length)
    }

    /// Copies bytes into the message at this offset; what reaches beyond its length is not copied. How many were: none once
    /// this handle was declared dead, as the commit will tell.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let Some(held) = &self.0.held else { return 0 };
        let lane = self.0.ring.many.lane(held.lane);
        if !lane.is_still_written(held) {
            return 0;
        }
        let length = bytes.len().min(held.length.saturating_sub(offset));
        lane.write(held, offset, &bytes[..length]);
        length
    }

    /// Where the message's bytes lie, for writing in place; [`length`](RingReserved::length) bytes from here are the
    /// caller's until it is committed or dropped. What they hold before is left over from earlier messages.
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.held.as_ref().map_or(NonNull::dangling(), |held| self.0.ring.many.lane(held.lane).payload(held)).as_ptr()
    }

    /// Sends the message. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this handle was declared dead, and the room taken back; `EPERM` it was reserved by the process that this
    /// one was forked from.
    ///
    /// System call: futex, if a consumer sleeps.
    pub fn commit(mut self) -> Result<()> {
        let Some(held) = self.0.end() else { return Err(self.0.not_ours("commit")) };
        self.0.ring.commit(&held).map_err(|errno| self.0.error(errno, "commit"))
    }

    /// Gives the room back; the same as dropping it, but says if it could not be. Never blocks.
    ///
    /// # Errors
    /// As [`RingReserved::commit`].
    pub fn abort(mut self) -> Result<()> {
        let Some(held) = self.0.end() else { return Err(self.0.not_ours("abort")) };
        self.0.ring.abort(&held).map_err(|errno| self.0.error(errno, "abort"))
    }
}

impl Drop for RingReserved<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.0.end() {
            // Fails only where the room has been taken back already.
            let _ = self.0.ring.abort(&held);
        }
    }
}

impl std::fmt::Debug for RingReserved<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingReserved").field("length", &self.length()).finish()
    }
}

/// A message that was taken, to be read in place. Dropped without [`release`](RingBorrowed::release), it will be
/// delivered again, marked.
pub struct RingBorrowed<'a>(Guard<'a>);

impl<'a> RingBorrowed<'a> {
    pub(super) fn new(ring: Lender<'a, Ring>, held: Held) -> RingBorrowed<'a> {
        RingBorrowed(Guard { ring, held: Some(held), generation: fork::generation_in_handler() })
    }

    /// Bytes.
    pub fn length(&self) -> usize {
        self.0.held.as_ref().map_or(0, |held| held.length)
    }

    /// How often it has been taken, this time included; see [`RingReceived`](super::RingReceived).
    pub fn deliveries(&self) -> u32 {
        self.0.held.as_ref().map_or(0, |held| held.deliveries)
    }

    /// The lane that it came by.
    pub fn lane(&self) -> u32 {
        self.0.held.as_ref().map_or(0, |held| held.lane)
    }

    /// Whether somebody may have acted on this message before.
    pub fn is_redelivered(&self) -> bool {
        self.deliveries() > 1
    }

    /// Copies bytes out of the message from this offset on; how many.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        self.0.held.as_ref().map_or(0, |held| self.0.ring.many.lane(held.lane).read(held, offset, buffer))
    }

    /// A copy of the whole message.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length()];
        self.read(0, &mut bytes);
        bytes
    }

    /// Where the message's bytes lie, for reading in place; [`length`](RingBorrowed::length) bytes from here stay until it
    /// is released or dropped, provided that no peer breaks the rules.
    pub fn as_ptr(&self) -> *const u8 {
        self.0.held.as_ref().map_or(NonNull::dangling(), |held| self.0.ring.many.lane(held.lane).payload(held)).as_ptr()
    }

    /// Is done with the message. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this handle was declared dead, and the message will be delivered to another; `EPERM` it was taken by the
    /// process that this one was forked from.
    ///
    /// System call: futex, if a producer sleeps.
    pub fn release(mut self) -> Result<()> {
        let Some(held) = self.0.end() else { return Err(self.0.not_ours("release")) };
        self.0.ring.release(&held).map_err(|errno| self.0.error(errno, "release"))
    }

    /// Gives the message back without being done with it, as dropping does: it will be delivered again, marked. Never blocks.
    ///
    /// # Errors
    /// As [`RingBorrowed::release`].
    ///
    /// System call: futex, if a consumer sleeps.
    pub fn give_back(mut self) -> Result<()> {
        let Some(held) = self.0.end() else { return Err(self.0.not_ours("give back")) };
        self.0.ring.many.give_back(&held).map_err(|errno| self.0.error(errno, "give back"))
    }

    /// As [`RingBorrowed::release`], but those who wait for a slot or for room are not called: the caller does that once for
    /// many, by [`Ring::call_producers`].
    pub(crate) fn release_quietly(mut self) -> Result<()> {
        let Some(held) = self.0.end() else { return Err(self.0.not_ours("release")) };
        self.0.ring.many.lane(held.lane).release(&held).map_err(|errno| self.0.error(errno, "release"))
    }
}

impl Drop for RingBorrowed<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.0.end() {
            // Fails only where the message has been taken back already.
            let _ = self.0.ring.many.give_back(&held);
        }
    }
}

impl std::fmt::Debug for RingBorrowed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingBorrowed").field("length", &self.length()).field("deliveries", &self.deliveries()).finish()
    }
}
