//! Messages of one-to-one rings, written and read in place. The guard has its end to itself, lent or for its own: there is
//! one at a time.

use std::ops::DerefMut;

use nix::errno::Errno;

use super::one::{RingConsumer, RingProducer};
use super::one_recv::Record;
use super::one_send::Room;
use crate::error::{Error, Result};

/// Room for a message, to be written in place. Dropped without `commit`, it was never sent.
///
/// `P` is the producer, either `&mut` ([`RingProducer::reserve`]) or boxed ([`RingProducer::reserve_owned`]); one that is
/// boxed comes back when the room is given up by `commit` or `abort`, and is closed if the guard is dropped.
pub struct RingProducerReserved<P: DerefMut<Target = RingProducer>> {
    producer: P,
    room: Room,
}

impl<P: DerefMut<Target = RingProducer>> RingProducerReserved<P> {
    pub(super) fn new(producer: P, room: Room) -> RingProducerReserved<P> {
        RingProducerReserved { producer, room }
    }

    /// Bytes reserved.
    pub fn length(&self) -> usize {
        self.room.length
    }

    /// The end that lent it.
    pub fn producer(&self) -> &RingProducer {
        &self.producer
    }

    /// Copies bytes into the message at this offset; what reaches beyond its length is not copied. How many were: none
    /// once this end was declared dead, and none in a child made by fork, as the commit will tell.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let shared = &self.producer.end.shared;
        if shared.check().is_err() {
            return 0;
        }
        let length = bytes.len().min(self.room.length.saturating_sub(offset));
        shared.log.bytes.put(0, self.room.offset + offset.min(self.room.length), &bytes[..length]);
        length
    }

    /// Where the message's bytes lie, for writing in place; [`length`](RingProducerReserved::length) bytes from here are
    /// the caller's until it is committed or dropped. What they hold before is left over from earlier messages.
    pub fn as_ptr(&self) -> *mut u8 {
        self.producer.end.shared.log.bytes.pointer(0, self.room.offset).as_ptr()
    }

    fn send(&mut self) -> Result<()> {
        let RingProducer { end, state } = &mut *self.producer;
        end.shared.check().map_err(|errno| end.failed(errno, "commit"))?;
        state.end_behind(&end.shared.log, &self.room);
        state.commit(&end.shared.log, &self.room);
        Ok(())
    }
}

impl RingProducerReserved<&mut RingProducer> {
    /// Sends the message. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this end was declared dead; `EPERM` it is that of the process that this one was forked from.
    ///
    /// System call: futex, if the consumer sleeps.
    pub fn commit(mut self) -> Result<()> {
        self.send()
    }

    /// Gives the room back; the same as dropping it. Never blocks, never fails.
    pub fn abort(self) {}
}

impl RingProducerReserved<Box<RingProducer>> {
    /// Sends the message, and gives the producer back. Never blocks. Errors, with which it is closed, and system call: as
    /// with one that is lent.
    pub fn commit(mut self) -> Result<Box<RingProducer>> {
        self.send()?;
        Ok(self.producer)
    }

    /// Gives the room and the producer back. Never blocks, never fails.
    pub fn abort(self) -> Box<RingProducer> {
        self.producer
    }
}

impl<P: DerefMut<Target = RingProducer>> std::fmt::Debug for RingProducerReserved<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingProducerReserved").field("length", &self.length()).finish()
    }
}

/// A message that was taken, to be read in place. Dropped without `release`, it will be delivered again, marked.
///
/// `C` is the consumer, either `&mut` ([`RingConsumer::borrow`]) or boxed ([`RingConsumer::borrow_owned`]); one that is
/// boxed comes back when the message is given up by `release` or `give_back`, and is closed if the guard is dropped.
pub struct RingConsumerBorrowed<C: DerefMut<Target = RingConsumer>> {
    /// `None` once the message is given up.
    consumer: Option<C>,
    record: Record,
}

impl<C: DerefMut<Target = RingConsumer>> RingConsumerBorrowed<C> {
    pub(super) fn new(consumer: C, record: Record) -> RingConsumerBorrowed<C> {
        RingConsumerBorrowed { consumer: Some(consumer), record }
    }

    /// Bytes.
    pub fn length(&self) -> usize {
        self.record.length
    }

    /// The end that lent it.
    pub fn consumer(&self) -> Option<&RingConsumer> {
        self.consumer.as_deref()
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
        self.consumer().map_or(0, |consumer| consumer.end.shared.log.bytes.get_at(from, &mut buffer[..length]))
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
        let bytes = |consumer: &RingConsumer| consumer.end.shared.log.bytes.pointer(0, self.record.offset).as_ptr();
        self.consumer().map_or(std::ptr::null(), |consumer| bytes(consumer).cast_const())
    }

    /// Is done with the message, or gives it back.
    fn end(&mut self, done: bool) -> Result<C> {
        let gone = || Error::from_raw(Errno::EINVAL as i32, "release").because("the message was given up before");
        let mut consumer = self.consumer.take().ok_or_else(gone)?;
        let RingConsumer { end, state } = &mut *consumer;
        // Otherwise it is somebody else's to give back, or its successor's.
        end.shared.check().map_err(|errno| end.failed(errno, "release"))?;
        if done {
            state.release(&end.shared.log, &self.record);
        } else {
            state.give_back(&end.shared.log);
        }
        Ok(consumer)
    }
}

impl RingConsumerBorrowed<&mut RingConsumer> {
    /// Is done with the message. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` this end was declared dead, and the message will be delivered to another; `EPERM` it is that of the
    /// process that this one was forked from.
    ///
    /// System call: futex, if the producer sleeps.
    pub fn release(mut self) -> Result<()> {
        self.end(true).map(drop)
    }
}

impl RingConsumerBorrowed<Box<RingConsumer>> {
    /// Is done with the message, and gives the consumer back. Never blocks. Errors, with which it is closed, and system call:
    /// as with one that is lent.
    pub fn release(mut self) -> Result<Box<RingConsumer>> {
        self.end(true)
    }

    /// Gives the message back, which will be delivered again, and the consumer. Never blocks. Errors: as
    /// [`release`](RingConsumerBorrowed::release).
    pub fn give_back(mut self) -> Result<Box<RingConsumer>> {
        self.end(false)
    }
}

impl<C: DerefMut<Target = RingConsumer>> Drop for RingConsumerBorrowed<C> {
    fn drop(&mut self) {
        // Fails only where there is nothing to give back.
        let _ = self.end(false);
    }
}

impl<C: DerefMut<Target = RingConsumer>> std::fmt::Debug for RingConsumerBorrowed<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("RingConsumerBorrowed");
        debug.field("length", &self.length()).field("deliveries", &self.deliveries()).finish()
    }
}
