//! A channel over the kernel's message queues: `mq:`, `sysv-mq:`. Any number of senders and receivers.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::gate::Gate;
use super::transport::Transport;
use super::way_back::queue_for_answers;
use super::{ChannelPeer, ChannelReceived, ChannelStatistics, Direction, refusal};
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::limits::explain_descriptors;
use crate::mq::{Mq, MqAccess, MqOptions, SysvMq, SysvMqOptions, SysvSelect};
use crate::sys::copy_descriptor;
use crate::timeout::Timeout;
use crate::wait::{Forked, Object, Operation, Turns};

/// The type of a channel's System V messages; messages of any type are received.
const TYPE: i64 = 1;

/// One end of a POSIX queue.
pub(super) struct Posix {
    object: Object,
    queue: Mq,
    /// The queue's largest message, which the kernel wants room for.
    largest: usize,
    /// As large as that one, once a receiver's buffer is smaller; taken for as long as such a receiver waits.
    room: Turns<Room>,
    aside: Turns<Aside>,
    has_aside: AtomicBool,
}

#[derive(Default)]
struct Room(Vec<u8>);

impl Forked for Room {
    fn after_fork(&mut self) {}

    fn replaced(&self) -> Room {
        Room::default()
    }
}

/// What does not lie in the queue any more.
#[derive(Default)]
struct Aside {
    /// A message that did not fit its receiver's buffer, and its priority: the next to be received here.
    message: Option<(Vec<u8>, u32)>,
    /// Shows it beside the queue, once somebody has asked for the descriptor.
    gate: Option<Gate>,
    rung: bool,
}

impl Aside {
    fn ring(&mut self) {
        if let Some(gate) = &self.gate {
            gate.ring(&mut self.rung);
        }
    }

    /// Gives the message out.
    fn clear(&mut self) {
        self.message = None;
        if let Some(gate) = &self.gate {
            gate.quiet(&mut self.rung);
        }
    }
}

impl Forked for Aside {
    /// The message stays with the parent, and so does the bell.
    fn after_fork(&mut self) {
        *self = Aside::default();
    }

    fn replaced(&self) -> Aside {
        Aside::default()
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
        Ok(Posix {
            object,
            queue,
            largest,
            room: Turns::new(Room::default()),
            aside: Turns::new(Aside::default()),
            has_aside: AtomicBool::new(false),
        })
    }

    /// The kernel wants room for any message of the queue; the caller's buffer has less.
    #[cold]
    fn recv_small(&self, buffer: &mut [u8], timeout: Timeout) -> Result<ChannelReceived> {
        let mut operation = self.object.operation("recv", timeout);
        let mut room = self.room.take(&mut operation)?;
        if let Some(received) = self.recv_aside(buffer, &operation)? {
            return Ok(received);
        }
        let Room(room) = &mut *room;
        let missing = self.largest - room.len();
        room.try_reserve_exact(missing).map_err(|_| operation.error(Errno::ENOMEM))?;
        room.resize(self.largest, 0);
        let received = self.queue.recv_into(room, operation.left())?;
        let Some(fitting) = buffer.get_mut(..received.size) else {
            let mut message = std::mem::take(room); // no memory to ask for, of which there might be none
            message.truncate(received.size);
            let mut aside = self.aside.take_soon();
            aside.message = Some((message, received.priority));
            aside.ring();
            self.has_aside.store(true, Ordering::Relaxed); // the turn orders it
            return Err(refusal::does_not_fit(operation.error(Errno::EMSGSIZE), received.size, buffer.len()));
        };
        fitting.copy_from_slice(&room[..received.size]);
        Ok(ChannelReceived { length: received.size, priority: received.priority, ..Default::default() })
    }

    /// Receives the message that lies aside, if there is one.
    fn recv_aside(&self, buffer: &mut [u8], operation: &Operation<'_>) -> Result<Option<ChannelReceived>> {
        let mut aside = self.aside.take_soon();
        let Some((message, priority)) = &aside.message else { return Ok(None) };
        let (length, priority) = (message.len(), *priority);
        let Some(room) = buffer.get_mut(..length) else {
            return Err(refusal::does_not_fit(operation.error(Errno::EMSGSIZE), length, buffer.len()));
        };
        room.copy_from_slice(message);
        aside.clear();
        self.has_aside.store(false, Ordering::Relaxed); // the turn orders it
        Ok(Some(ChannelReceived { length, priority, ..Default::default() }))
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
        let failed = |errno| explain_descriptors(self.object.error(errno, "descriptor"));
        if direction == Direction::Out {
            return copy_descriptor(self.queue.as_fd()).map(|fd| (fd, PollFlags::POLLOUT)).map_err(failed);
        }
        let mut aside = self.aside.take_soon();
        let gate = match aside.gate.take() {
            Some(gate) => gate,
            None => {
                let gate = Gate::new().map_err(failed)?;
                gate.add(self.queue.as_fd(), libc::EPOLLIN.cast_unsigned(), 0).map_err(failed)?;
                gate
            }
        };
        let shown = aside.gate.insert(gate).show().map_err(failed)?;
        if aside.message.is_some() {
            aside.ring();
        }
        Ok((shown, PollFlags::POLLIN))
    }

    fn count(&self, statistics: &mut ChannelStatistics) {
        let aside = u64::from(self.aside.take_soon().message.is_some());
        statistics.waiting = self.queue.attributes().ok().map(|attributes| attributes.messages as u64 + aside);
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
