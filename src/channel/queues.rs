//! A channel over the kernel's message queues: `mq:`, `sysv-mq:`. Any number of senders and receivers.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::transport::Transport;
use super::way_back::queue_for_answers;
use super::{ChannelPeer, ChannelReceived, ChannelStatistics, Direction, refusal};
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::mq::{Mq, MqAccess, MqOptions, SysvMq, SysvMqOptions, SysvSelect};
use crate::sys::copy_descriptor;
use crate::timeout::Timeout;
use crate::wait::{Forked, Object, Turns};

/// The type of a channel's System V messages; messages of any type are received.
const TYPE: i64 = 1;

/// One end of a POSIX queue.
pub(super) struct Posix {
    object: Object,
    queue: Mq,
    /// The queue's largest message, which the kernel wants room for.
    largest: usize,
    small: Turns<Small>,
    has_aside: AtomicBool,
}

/// For receivers whose buffers are smaller than the queue's largest message.
#[derive(Default)]
struct Small {
    /// As large as that one, once it is needed.
    room: Vec<u8>,
    /// A message that did not fit its receiver's buffer, and its priority: the next to be received here.
    aside: Option<(Vec<u8>, u32)>,
}

impl Forked for Small {
    /// The message stays with the parent.
    fn after_fork(&mut self) {
        self.aside = None;
    }

    fn replaced(&self) -> Small {
        Small::default()
    }
}

impl Posix {
    /// Opens the queue, or makes it. Never blocks.
    pub fn open(address: &Address, access: MqAccess) -> Result<Posix> {
        Posix::over(address, Mq::open_or_create(address, &MqOptions { access, ..Default::default() })?)
    }

    /// Opens the queue that is there. Never blocks.
    pub fn existing(address: &Address, access: MqAccess) -> Result<Posix> {
        Posix::over(address, Mq::open(address, &MqOptions { access, ..Default::default() })?)
    }

    fn over(address: &Address, queue: Mq) -> Result<Posix> {
        let largest = queue.attributes()?.size;
        let object = Object::new(address.to_string());
        Ok(Posix { object, queue, largest, small: Turns::new(Small::default()), has_aside: AtomicBool::new(false) })
    }

    /// The kernel wants room for any message of the queue; the caller's buffer has less.
    #[cold]
    fn recv_small(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        let mut operation = self.object.operation("recv", timeout);
        let mut small = self.small.take(&mut operation)?;
        let small = &mut *small;
        let (message, priority) = match small.aside.take() {
            Some(aside) => aside,
            None => {
                let missing = self.largest - small.room.len();
                small.room.try_reserve_exact(missing).map_err(|_| operation.error(Errno::ENOMEM))?;
                small.room.resize(self.largest, 0);
                let received = self.queue.recv_into(&mut small.room, operation.left())?;
                let message = &small.room[..received.size];
                if let Some(room) = buffer.get_mut(..message.len()) {
                    room.copy_from_slice(message);
                    return Ok(ChannelReceived {
                        length: message.len(),
                        priority: received.priority,
                        ..Default::default()
                    });
                }
                (message.to_vec(), received.priority)
            }
        };
        let fits = message.len() <= buffer.len();
        self.has_aside.store(!fits, Ordering::Relaxed); // the turn orders it
        if !fits {
            let error = refusal::does_not_fit(operation.error(Errno::EMSGSIZE), message.len(), buffer.len());
            small.aside = Some((message, priority));
            return Err(error);
        }
        buffer[..message.len()].copy_from_slice(&message);
        Ok(ChannelReceived { length: message.len(), priority, ..Default::default() })
    }
}

impl Transport for Posix {
    #[inline]
    fn send(&self, message: &[u8], priority: u32, timeout: Timeout) -> Result<()> {
        match self.queue.send(message, priority, timeout) {
            Err(error) if error.is(Errno::EMSGSIZE) => Err(refusal::too_large(error, Scheme::Mq, message.len())),
            outcome => outcome,
        }
    }

    #[inline]
    fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        if buffer.len() < self.largest || self.has_aside.load(Ordering::Relaxed) {
            return self.recv_small(buffer, timeout);
        }
        let received = self.queue.recv_into(buffer, timeout)?;
        Ok(ChannelReceived { length: received.size, priority: received.priority, ..Default::default() })
    }

    fn reply(&self, _: &ChannelPeer, _: &[u8], timeout: Timeout) -> Result<()> {
        Err(refusal::no_answers(&self.object.operation("reply", timeout)))
    }

    fn flush(&self, _: Timeout) -> Result<()> {
        Ok(()) // what is in the queue outlives its sender
    }

    fn descriptor(&self, direction: Direction) -> Result<(OwnedFd, PollFlags)> {
        let events = if direction == Direction::In { PollFlags::POLLIN } else { PollFlags::POLLOUT };
        let copied = copy_descriptor(self.queue.as_fd());
        copied.map(|fd| (fd, events)).map_err(|errno| self.object.error(errno, "descriptor"))
    }

    fn count(&self, statistics: &mut ChannelStatistics) {
        statistics.waiting = self.queue.attributes().ok().map(|attributes| attributes.messages as u64);
    }

    fn end_waits(&self) {
        self.queue.end_waits();
        self.object.end_waits();
    }
}

/// One end of a System V queue.
pub(super) struct SystemV {
    queue: SysvMq,
    receives: bool,
}

impl SystemV {
    /// Opens the queue, or makes it. Never blocks.
    pub fn open(address: &Address, access: MqAccess) -> Result<SystemV> {
        let queue = SysvMq::open_or_create(address, &SysvMqOptions { access, ..Default::default() })?;
        Ok(SystemV { queue, receives: access == MqAccess::Receive })
    }

    /// Opens a queue that a caller has made for answers, to send them. Never blocks.
    pub fn for_answers(address: &Address) -> Result<SystemV> {
        Ok(SystemV { queue: queue_for_answers(address)?, receives: false })
    }
}

impl Transport for SystemV {
    #[inline]
    fn send(&self, message: &[u8], _: u32, timeout: Timeout) -> Result<()> {
        match self.queue.send(message, TYPE, timeout) {
            Err(error) if error.is(Errno::EMSGSIZE) => Err(refusal::too_large(error, Scheme::SysvMq, message.len())),
            outcome => outcome,
        }
    }

    #[inline]
    fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        let received = self.queue.recv_into(SysvSelect::Any, buffer, timeout)?;
        Ok(ChannelReceived { length: received.size, ..Default::default() })
    }

    fn reply(&self, _: &ChannelPeer, _: &[u8], timeout: Timeout) -> Result<()> {
        let object = Object::new(self.queue.address());
        Err(refusal::no_answers(&object.operation("reply", timeout)))
    }

    fn flush(&self, _: Timeout) -> Result<()> {
        Ok(())
    }

    fn descriptor(&self, _: Direction) -> Result<(OwnedFd, PollFlags)> {
        let failed = |errno| Error::new(errno, "descriptor").on_text(self.queue.address());
        if !self.receives {
            return Err(
                failed(Errno::ENOTSUP).because("a System V queue has nothing to wait for room by; send with a timeout")
            );
        }
        let bell = self.queue.doorbell(SysvSelect::Any)?;
        copy_descriptor(bell).map(|fd| (fd, PollFlags::POLLIN)).map_err(failed)
    }

    fn count(&self, statistics: &mut ChannelStatistics) {
        statistics.waiting = self.queue.status().ok().map(|status| status.messages as u64);
    }

    fn end_waits(&self) {
        self.queue.end_waits();
    }
}
