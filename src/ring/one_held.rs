//! Messages of one-to-one rings, written and read in place. The guard has its end to itself: there is one at a time.

use nix::errno::Errno;

use super::one::{RingConsumer, RingProducer};
use super::one_recv::Record;
use super::one_send::Room;
use crate::error::Result;

/// Room for a message, to be written in place. Dropped without [`commit`](RingProducerReserved::commit), it was never
/// sent.
pub struct RingProducerReserved<'a> {
    producer: &'a mut RingProducer,
    room: Room,
}

impl<'a> RingProducerReserved<'a> {
    pub(super) fn new(producer: &'a mut RingProducer, room: Room) -> RingProducerReserved<'a> {
        RingProducerReserved { producer, room }
    }

    /// Bytes reserved.
    pub fn length(&self) -> usize {
        self.room.length
    }

    /// Copies bytes into the message at this offset; what reaches beyond its length is not copied. How many were.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let length = bytes.len().min(self.room.length.saturating_sub(offset));
        if self.is_ours() {
            self.producer.end.shared.log.bytes.put(
                0,
                self.room.offset + offset.min(self.room.length),
                &bytes[..length],
            );
        }
        length
    }

    /// Where the message's bytes lie, for writing in place; [`length`](RingProducerReserved::length) bytes from here are
    /// the caller's until it is committed or dropped. What they hold before is left over from earlier messages.
    pub fn as_ptr(&self) -> *mut u8 {
        self.producer.end.shared.log.bytes.pointer(0, self.room.offset).as_ptr()
    }

    /// Sends the message. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this end was declared dead; `EPERM` it is that of the process that this one was forked from.
    ///
    /// System call: futex, if the consumer sleeps.
    pub fn commit(self) -> Result<()> {
        let RingProducer { end, state } = self.producer;
        end.shared.check().map_err(|errno| end.failed(errno, "commit"))?;
        state.end_behind(&end.shared.log, &self.room);
        state.commit(&end.shared.log, &self.room);
        Ok(())
    }

    /// Gives the room back; the same as dropping it. Never blocks, never fails.
    pub fn abort(self) {}

    /// A child made by fork has a copy, and the ring stays the parent's.
    fn is_ours(&self) -> bool {
        self.producer.end.shared.check() != Err(Errno::EPERM)
    }
}

impl std::fmt::Debug for RingProducerReserved<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingProducerReserved").field("length", &self.length()).finish()
    }
}

/// A message that was taken, to be read in place. Dropped without [`release`](RingConsumerBorrowed::release), it will be
/// delivered again, marked.
pub struct RingConsumerBorrowed<'a> {
    consumer: &'a mut RingConsumer,
    record: Record,
    released: bool,
}

impl<'a> RingConsumerBorrowed<'a> {
    pub(super) fn new(consumer: &'a mut RingConsumer, record: Record) -> RingConsumerBorrowed<'a> {
        RingConsumerBorrowed { consumer, record, released: false }
    }

    /// Bytes.
    pub fn length(&self) -> usize {
        self.record.length
    }

    /// How often it has been taken, this time included; see [`RingReceived`](super::RingReceived).
    pub fn deliveries(&self) -> u32 {
        self.record.deliveries
    }

    /// Whether somebody may have acted on this message before.
    pub fn is_redelivered(&self) -> bool {
        self.deliveries() > 1
    }

    /// Copies bytes out of the message from this offset on; how many.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(self.record.length.saturating_sub(offset));
        let from = self.record.offset + offset.min(self.record.length);
        self.consumer.end.shared.log.bytes.get_at(from, &mut buffer[..length])
    }

    /// A copy of the whole message.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length()];
        self.read(0, &mut bytes);
        bytes
    }

    /// Where the message's bytes lie, for reading in place; [`length`](RingConsumerBorrowed::length) bytes from here stay
    /// until it is released or dropped, provided that no peer breaks the rules.
    pub fn as_ptr(&self) -> *const u8 {
        self.consumer.end.shared.log.bytes.pointer(0, self.record.offset).as_ptr()
    }

    /// Is done with the message. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this end was declared dead, and the message will be delivered to another; `EPERM` it is that of the
    /// process that this one was forked from.
    ///
    /// System call: futex, if the producer sleeps.
    pub fn release(mut self) -> Result<()> {
        let RingConsumer { end, state } = &mut *self.consumer;
        end.shared.check().map_err(|errno| end.failed(errno, "release"))?;
        state.release(&end.shared.log, &self.record);
        self.released = true;
        Ok(())
    }
}

impl Drop for RingConsumerBorrowed<'_> {
    fn drop(&mut self) {
        let RingConsumer { end, state } = &mut *self.consumer;
        // Otherwise it is somebody else's to give back, or its successor's.
        if !self.released && end.shared.check().is_ok() {
            state.give_back(&end.shared.log);
        }
    }
}

impl std::fmt::Debug for RingConsumerBorrowed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("RingConsumerBorrowed");
        debug.field("length", &self.length()).field("deliveries", &self.deliveries()).finish()
    }
}
