//! A channel over shared memory: `ring:` gives each message to one receiver, `topic:` to all.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::transport::Transport;
use super::{ChannelPeer, ChannelReceived, ChannelStatistics, Direction, refusal};
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::ring::{Ring, RingOptions};
use crate::sys::copy_descriptor;
use crate::timeout::{Deadline, Timeout};
use crate::topic::{SubscribeOptions, Subscription, Topic, TopicOptions};
use crate::wait::Object;

fn refuse(address: &str, errno: Errno, operation: &'static str, reason: &'static str) -> Error {
    Error::new(errno, operation).on_text(address).because(reason)
}

#[cold]
fn explained(error: Error, scheme: Scheme, length: usize) -> Error {
    if error.is(Errno::EMSGSIZE) { refusal::too_large(error, scheme, length) } else { error }
}

fn no_answers(address: &str) -> Error {
    refusal::no_answers(&Object::new(address).operation("reply", Timeout::Now))
}

impl Transport for Ring {
    #[inline]
    fn send(&self, message: &[u8], _: u32, timeout: Timeout) -> Result<()> {
        Ring::send(self, message, timeout).map_err(|error| explained(error, Scheme::Ring, message.len()))
    }

    fn send_batch(&self, messages: &[&[u8]], timeout: Timeout) -> (usize, Result<()>) {
        let deadline = Deadline::after(timeout);
        let mut done = 0;
        while done < messages.len() {
            match Ring::send_batch(self, &messages[done..], deadline.left_of(timeout)) {
                Ok(sent) => done += sent,
                Err(error) => return (done, Err(explained(error, Scheme::Ring, messages[done].len()))),
            }
        }
        (done, Ok(()))
    }

    #[inline]
    fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        let received = Ring::recv(self, buffer, timeout)?;
        Ok(ChannelReceived { length: received.length, deliveries: received.deliveries, ..Default::default() })
    }

    fn reply(&self, _: &ChannelPeer, _: &[u8], _: Timeout) -> Result<()> {
        Err(no_answers(self.address()))
    }

    fn flush(&self, _: Timeout) -> Result<()> {
        Ok(()) // what is in the ring outlives its sender
    }

    fn descriptor(&self, direction: Direction) -> Result<(OwnedFd, PollFlags)> {
        let bell = if direction == Direction::In { self.doorbell()? } else { self.room_doorbell(0)? };
        let copied = copy_descriptor(bell).map_err(|errno| Error::new(errno, "descriptor").on_text(self.address()));
        Ok((copied?, PollFlags::POLLIN))
    }

    fn count(&self, statistics: &mut ChannelStatistics) {
        if let Ok(ring) = Ring::statistics(self) {
            statistics.waiting = Some(ring.queued);
            statistics.dropped = ring.dropped;
        }
    }

    fn end_waits(&self) {
        Ring::end_waits(self);
    }
}

/// Opens the ring, or makes it, for one side. Never blocks.
pub(super) fn ring(address: &Address, role: crate::ring::RingRole) -> Result<Ring> {
    Ring::open(address, RingOptions { role, ..Default::default() })
}

/// Opens the topic, or makes it. Never blocks.
pub(super) fn topic(plain: &Address) -> Result<Topic> {
    Topic::open(plain, TopicOptions::default())
}

/// Subscribes as the address says.
pub(super) fn subscription(topic: &Topic, address: &Address) -> Result<Subscription> {
    debug_assert_eq!(address.scheme(), Scheme::Topic);
    topic.subscribe(SubscribeOptions {
        lossy: address.flag("lossy").unwrap_or(false),
        history: address.number("history").unwrap_or(0),
        ..Default::default()
    })
}

impl Transport for Topic {
    #[inline]
    fn send(&self, message: &[u8], _: u32, timeout: Timeout) -> Result<()> {
        match self.publish(message, timeout) {
            Ok(_) => Ok(()),
            Err(error) => Err(explained(error, Scheme::Topic, message.len())),
        }
    }

    fn recv(&self, _: &mut [u8], _: Timeout) -> Result<ChannelReceived> {
        Err(refuse(self.address(), Errno::EBADF, "recv", "it is open for sending"))
    }

    fn reply(&self, _: &ChannelPeer, _: &[u8], _: Timeout) -> Result<()> {
        Err(no_answers(self.address()))
    }

    fn flush(&self, _: Timeout) -> Result<()> {
        Ok(())
    }

    fn descriptor(&self, _: Direction) -> Result<(OwnedFd, PollFlags)> {
        Err(refuse(self.address(), Errno::ENOTSUP, "descriptor", "a topic has nothing to wait for room by"))
    }

    fn count(&self, _: &mut ChannelStatistics) {}

    fn end_waits(&self) {
        Topic::end_waits(self);
    }
}

impl Transport for Subscription {
    fn send(&self, _: &[u8], _: u32, _: Timeout) -> Result<()> {
        Err(refuse(self.address(), Errno::EBADF, "send", "it is open for receiving"))
    }

    #[inline]
    fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        let received = Subscription::recv(self, buffer, timeout)?;
        Ok(ChannelReceived { length: received.length, missed: received.missed, ..Default::default() })
    }

    fn reply(&self, _: &ChannelPeer, _: &[u8], _: Timeout) -> Result<()> {
        Err(no_answers(self.address()))
    }

    fn flush(&self, _: Timeout) -> Result<()> {
        Ok(())
    }

    fn descriptor(&self, _: Direction) -> Result<(OwnedFd, PollFlags)> {
        let bell = self.doorbell()?;
        let copied = copy_descriptor(bell).map_err(|errno| Error::new(errno, "descriptor").on_text(self.address()));
        Ok((copied?, PollFlags::POLLIN))
    }

    fn count(&self, statistics: &mut ChannelStatistics) {
        statistics.missed = self.missed();
    }

    fn end_waits(&self) {
        Subscription::end_waits(self);
    }
}
