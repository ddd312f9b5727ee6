//! Messages written and read in place.

use std::ptr::NonNull;

use nix::errno::Errno;

use super::log::Held;
use super::subscription::{InPlace, Subscription};
use super::{Topic, explained, number};
use crate::error::{Error, Result};
use crate::lender::Lender;
use crate::segment::Tag;
use crate::sys::fork;

/// Room for a message, to be written in place. Dropped without [`publish`](TopicReserved::publish), nothing has happened.
pub struct TopicReserved<'a> {
    topic: Lender<'a, Topic>,
    me: Tag,
    held: Option<Held>,
    /// A child made by fork has a copy of the guard, and the room stays the parent's.
    generation: u32,
}

impl<'a> TopicReserved<'a> {
    pub(super) fn new(topic: Lender<'a, Topic>, me: Tag, held: Held) -> TopicReserved<'a> {
        TopicReserved { topic, me, held: Some(held), generation: fork::generation_in_handler() }
    }

    fn end(&mut self) -> Option<Held> {
        self.held.take().filter(|_| self.generation == fork::generation_in_handler())
    }

    fn not_ours(&self, operation: &'static str) -> Error {
        let error = self.topic.object.error(Errno::EPERM, operation);
        error.because("it belongs to the process that this one was forked from")
    }

    /// Bytes reserved.
    pub fn length(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.length)
    }

    /// Copies bytes into the message at this offset; what reaches beyond its length is not copied. How many were: none once
    /// this handle was declared dead, as the commit will tell.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let Some(held) = self.held.as_ref().filter(|held| self.topic.log().is_still_held(held)) else { return 0 };
        let length = bytes.len().min(held.length.saturating_sub(offset));
        self.topic.log().write(held, offset, &bytes[..length]);
        length
    }

    /// Where the message's bytes lie, for writing in place; [`length`](TopicReserved::length) bytes from here are the
    /// caller's until it is published or dropped. What they hold before is left over from earlier messages.
    pub fn as_ptr(&self) -> *mut u8 {
        self.held.as_ref().map_or(NonNull::dangling(), |held| self.topic.log().payload(held)).as_ptr()
    }

    /// Publishes the message; its sequence number. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this handle was declared dead, and the room taken back; `EPERM` it was reserved by the process that this
    /// one was forked from; `EBADMSG` the topic is damaged.
    ///
    /// System call: futex, if somebody sleeps.
    pub fn publish(mut self) -> Result<u64> {
        let Some(held) = self.end() else { return Err(self.not_ours("publish")) };
        self.topic.append(&held, self.me)
    }

    /// Gives the room back; the same as dropping it, but says if it could not be. Never blocks.
    ///
    /// # Errors
    /// `ESTALE`, `EPERM` as [`TopicReserved::publish`].
    pub fn abort(mut self) -> Result<()> {
        let Some(held) = self.end() else { return Err(self.not_ours("abort")) };
        let aborted = self.topic.log().abort(&held);
        aborted.map_err(|errno| explained(self.topic.object.error(errno, "abort")))
    }
}

impl Drop for TopicReserved<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.end() {
            // Fails only where the room has been taken back already.
            let _ = self.topic.log().abort(&held);
        }
    }
}

impl std::fmt::Debug for TopicReserved<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicReserved").field("length", &self.length()).finish()
    }
}

/// A message in place, of a lossless subscriber. Dropped, it is released.
pub struct TopicBorrowed<'a> {
    subscription: Lender<'a, Subscription>,
    found: InPlace,
    released: bool,
}

impl<'a> TopicBorrowed<'a> {
    pub(super) fn new(subscription: Lender<'a, Subscription>, found: InPlace) -> TopicBorrowed<'a> {
        TopicBorrowed { subscription, found, released: false }
    }

    /// Bytes.
    pub fn length(&self) -> usize {
        self.found.length
    }

    /// Which message of the topic it is; the first is 1.
    pub fn sequence(&self) -> u64 {
        number(self.found.sequence)
    }

    /// Copies bytes out of the message from this offset on; how many.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(self.found.length.saturating_sub(offset));
        if length > 0 {
            self.subscription.log().read_at(self.found.block, offset, &mut buffer[..length]);
        }
        length
    }

    /// A copy of the message.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length()];
        self.read(0, &mut bytes);
        bytes
    }

    /// Where the message's bytes lie, for reading in place; [`length`](TopicBorrowed::length) bytes from here stay as they
    /// are until it is released, unless somebody keeps no rules or this subscriber is cut off: then
    /// [`release`](TopicBorrowed::release) says so.
    pub fn as_ptr(&self) -> *const u8 {
        self.subscription.log().pointer(self.found.block).as_ptr()
    }

    /// Releases the message; the same as dropping it, but says if it was not this subscriber's to the end. Never blocks.
    ///
    /// # Errors
    /// `ECONNABORTED` the subscriber was cut off, `ESTALE` its handle was declared dead: the message may have been
    /// overwritten while it was read; `EPERM` it was borrowed by the process that this one was forked from.
    pub fn release(mut self) -> Result<()> {
        self.released = true;
        let released = self.subscription.release(self.found.sequence);
        released.map_err(|errno| self.subscription.error(errno, "release"))
    }
}

impl Drop for TopicBorrowed<'_> {
    fn drop(&mut self) {
        if !self.released {
            // Fails only where there is nothing to release any more.
            let _ = self.subscription.release(self.found.sequence);
        }
    }
}

impl std::fmt::Debug for TopicBorrowed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicBorrowed").field("length", &self.length()).field("sequence", &self.sequence()).finish()
    }
}
