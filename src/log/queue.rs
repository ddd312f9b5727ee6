//! Records that travel through a message queue of the kernel's.
//!
//! The kernel hands a message out once, and a writer may die as soon as it has it. So it has the kernel put the message into
//! shared memory: one system call, which SIGKILL does not split, takes it out of the queue and puts it where the next
//! writer looks first. A place there is free once its record is in a journal.
//!
//! ```text
//! 0   type i64, as msgrcv leaves it
//! 8   length u32, check u32 over the log's identity and the record; zero before anything is received
//! 16  the record
//! ```
//!
//! From the length on it is what travels. The numbers by which places are in use lie in the log's `Control`.

use nix::errno::Errno;

use super::Base;
use super::carrier::Load;
use super::layout::PLACES;
use super::options::LogThrough;
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::mq::{Mq, MqOptions, SysvMq, SysvMqOptions};
use crate::segment::{ASK_EVERY, Bell, Member, Party, Patience, WaitMode};
use crate::sync::core::explained;
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::Places;
use crate::timeout::Timeout;

/// Where a message begins in its place; in front of it there is room for a type.
const MESSAGE_AT: usize = 8;
/// What goes before a record.
pub(super) const PREFIX: usize = 8;
const RECORD_AT: usize = MESSAGE_AT + PREFIX;
/// A place's memory is touched in steps of the smallest page.
const PAGE: usize = 4096;
/// Messages up to so many bytes are put together without asking for memory.
const SMALL: usize = 4096;
/// Bytes of the log's name in its queue's.
const NAME_MAX: usize = 200;
/// The type of System V messages.
const TYPE: i64 = 1;

/// Bytes of a place.
pub(super) fn place_size(largest: u64) -> usize {
    usize::try_from(largest).unwrap_or(usize::MAX / 256).saturating_add(RECORD_AT).next_multiple_of(8)
}

/// The kernel's object.
enum Kernel {
    Posix(Mq),
    SystemV(SysvMq),
}

impl Kernel {
    fn send(&self, message: &[u8], room: Timeout) -> Result<()> {
        match self {
            Kernel::Posix(queue) => queue.send(message, 0, room),
            Kernel::SystemV(queue) => queue.send(message, TYPE, room),
        }
    }

    /// Has the kernel put the next message into this place; `EAGAIN` if there is none.
    fn receive(&self, places: &Places, place: u64) -> SysResult<()> {
        match self {
            Kernel::Posix(queue) => queue.recv_in_place(places, place, MESSAGE_AT),
            Kernel::SystemV(queue) => queue.recv_in_place(places, place, MESSAGE_AT),
        }
    }
}

pub(super) struct Queue {
    kernel: Kernel,
    places: Places,
    id: u64,
    largest: usize,
    patience: Patience,
    /// Places that the writer of this process has in its hand, a bit for each. Relaxed throughout, as are the places' numbers:
    /// the writer alone reads and changes them, and the lock of the log orders one writer after the other.
    in_hand: AtomicU64,
    /// Whether places may be in use that are in nobody's hand.
    left: AtomicU64,
}

/// The queue's own address: a name that no other log has.
fn name(through: LogThrough, address: &Address, id: u64) -> Result<Address> {
    if through == LogThrough::SysvMq {
        // A key has 32 bits, and 0 is none. That two logs have the same is one chance in 2³²; the check tells their records apart.
        let key = ((id ^ id >> 32) as u32).max(1);
        return Address::from_parts(Scheme::SysvMq, format!("0x{key:x}"), None, []);
    }
    let name = address.name().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut name = [b"/", &name[..name.len().min(NAME_MAX)]].concat();
    name.extend(format!(".{id:016x}.log").bytes());
    Address::from_parts(Scheme::Mq, name, None, [])
}

fn check(id: u64, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_ne_bytes());
    hasher.update(record);
    hasher.finalize()
}

impl Queue {
    /// Opens the queue of this log, or makes it. Never blocks.
    pub fn open(address: &Address, base: &Base, wait: WaitMode) -> Result<Queue> {
        let (made, id) = (&base.made, base.id());
        let largest = made.largest as usize; // at most 1 MiB
        let (size, capacity) = (PREFIX + largest, usize::try_from(made.capacity).unwrap_or(usize::MAX));
        let address = name(made.through, address, id)?;
        let kernel = if made.through == LogThrough::SysvMq {
            let limits = SysvMq::limits()?;
            let bytes = if capacity == 0 { limits.bytes_max } else { capacity };
            let most = limits.message_max.min(bytes);
            if size > most {
                return Err(base.core.object.error(Errno::EINVAL, "open").because_found(format!(
                    "a record of largest={largest} bytes needs a message of {size}, and a System V queue takes {most} (kernel.msgmax, and kernel.msgmnb or capacity); make the log with a smaller largest, or through=ring"
                )));
            }
            let options = SysvMqOptions { mode: made.mode, bytes: capacity, ..Default::default() };
            Kernel::SystemV(SysvMq::open_or_create(&address, &options)?)
        } else {
            let depth = if capacity == 0 { 0 } else { (capacity / size).max(1) };
            let options = MqOptions { mode: made.mode, depth, size, ..Default::default() };
            Kernel::Posix(Mq::open_or_create(&address, &options)?)
        };
        let places = base.places.clone().ok_or_else(|| base.core.error(Errno::EBADMSG, "open"))?;
        let (in_hand, left) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Queue { kernel, places, id, largest, patience: Patience::new(wait), in_hand, left })
    }

    /// Removes the queue of this log.
    pub fn remove(through: LogThrough, address: &Address, id: u64) -> Result<()> {
        let address = name(through, address, id)?;
        if through == LogThrough::SysvMq { SysvMq::remove(&address) } else { Mq::remove(&address) }
    }

    /// Sends a message of so many bytes that `write` puts together.
    pub fn send(&self, base: &Base, length: usize, room: Timeout, write: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut small = [0; SMALL];
        let mut large = Vec::new();
        let message = match small.get_mut(..PREFIX + length) {
            Some(message) => message,
            None => {
                let failed = |_| base.core.object.error(Errno::ENOMEM, "send");
                large.try_reserve_exact(PREFIX + length).map_err(failed)?;
                large.resize(PREFIX + length, 0);
                &mut large[..]
            }
        };
        let (prefix, record) = message.split_at_mut(PREFIX);
        write(record);
        prefix[..4].copy_from_slice(&(length as u32).to_ne_bytes());
        prefix[4..].copy_from_slice(&check(self.id, record).to_ne_bytes());
        self.kernel.send(message, room)?;
        // After the message, whose queue the kernel locks: the writer either finds it there, or has said that it sleeps before.
        // Who dies in between is missed for no longer than a sleeper goes without a look.
        base.core.control.line.sent.ring();
        Ok(())
    }

    /// Begins to be the writer's: what earlier ones had in their hands is there again.
    pub fn begin(&self) {
        self.in_hand.store(0, Ordering::Relaxed);
        self.left.store(1, Ordering::Relaxed);
    }

    /// The next message; waits for one.
    pub fn borrow<'a>(&'a self, base: &'a Base, timeout: Timeout) -> Result<Held<'a>> {
        let mut operation = base.core.object.operation("receive", timeout);
        if let Some(held) = self.take(base).map_err(|errno| operation.error(errno))? {
            return Ok(held);
        }
        if timeout == Timeout::Now {
            return Err(operation.error(Errno::EAGAIN));
        }
        self.patience.wait(&Receiving(base), &mut operation, || self.take(base))
    }

    /// The next message, if there is one and room for it: what came back before what is new.
    fn take<'a>(&'a self, base: &'a Base) -> SysResult<Option<Held<'a>>> {
        if let Some(held) = self.take_left(base) {
            return Ok(Some(held));
        }
        let progress = &base.core.control.progress;
        loop {
            // All places in use are in this hand.
            let place = self.in_hand.load(Ordering::Relaxed).trailing_ones();
            let Some(number) = base.core.control.places.get(place as usize) else { return Ok(None) };
            let place = u64::from(place);
            self.make_ready(place);
            let arrived = progress.arrived.load(Ordering::Relaxed).wrapping_add(1).max(1);
            progress.arrived.store(arrived, Ordering::Relaxed);
            // Release: all of it before whatever the kernel puts there.
            number.store(arrived, Ordering::Release);
            if let Err(errno) = self.kernel.receive(&self.places, place) {
                number.store(0, Ordering::Relaxed);
                return if errno == Errno::EAGAIN { Ok(None) } else { Err(errno) };
            }
            if let Some(held) = self.hold(base, place, number, false) {
                return Ok(Some(held));
            }
            number.store(0, Ordering::Relaxed);
        }
    }

    /// The first of those that an earlier writer has left, or this one has put back.
    #[inline]
    fn take_left<'a>(&'a self, base: &'a Base) -> Option<Held<'a>> {
        while self.left.load(Ordering::Relaxed) != 0 {
            let in_hand = self.in_hand.load(Ordering::Relaxed);
            let used = (0..).zip(&base.core.control.places);
            let left = used.filter_map(|(place, number)| {
                let arrived = number.load(Ordering::Relaxed);
                (arrived != 0 && in_hand & 1 << place == 0).then_some((arrived, place, number))
            });
            match left.min_by_key(|(arrived, ..)| *arrived) {
                None => self.left.store(0, Ordering::Relaxed),
                Some((_, place, number)) => match self.hold(base, place, number, true) {
                    None => number.store(0, Ordering::Relaxed),
                    held => return held,
                },
            }
        }
        None
    }

    /// Has nothing in a place, and all its memory there: the kernel copies without a pause that a death could end.
    fn make_ready(&self, place: u64) {
        self.places.put(place, 0, &[0; RECORD_AT]);
        for at in (RECORD_AT..RECORD_AT + self.largest).step_by(PAGE) {
            self.places.put(place, at, &[0]);
        }
        self.places.put(place, RECORD_AT + self.largest - 1, &[0]);
    }

    /// Length and check of the message in a place.
    fn prefix(&self, place: u64) -> (usize, u32) {
        let mut prefix = [0; PREFIX];
        self.places.get(place, MESSAGE_AT, &mut prefix);
        let [a, b, c, d, e, f, g, h] = prefix;
        (u32::from_ne_bytes([a, b, c, d]) as usize, u32::from_ne_bytes([e, f, g, h]))
    }

    /// Takes what is in a place into the hand, unless that is nothing, or no whole message of this log.
    fn hold<'a>(&'a self, base: &Base, place: u64, number: &'a AtomicU64, came_back: bool) -> Option<Held<'a>> {
        let (length, told) = self.prefix(place);
        if length == 0 && came_back {
            return None; // its writer died before the kernel had put anything there
        }
        let mut record = vec![0; length.min(self.largest)];
        self.places.get(place, RECORD_AT, &mut record);
        if length > self.largest || check(self.id, &record) != told {
            base.core.control.progress.damaged.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.in_hand.fetch_or(1 << place, Ordering::Relaxed);
        Some(Held { queue: self, number, place, record, came_back })
    }

    /// What is in the queue, and what a writer has in its hand. In this order, which is that of a message: none is missed.
    pub fn load(&self, base: &Base) -> Result<Load> {
        let (messages, bytes) = match &self.kernel {
            Kernel::Posix(queue) => {
                let seen = queue.attributes()?;
                (seen.messages, seen.depth.saturating_mul(seen.size))
            }
            Kernel::SystemV(queue) => {
                let seen = queue.status()?;
                (seen.messages, seen.bytes_max)
            }
        };
        let used = (0..).zip(&base.core.control.places);
        let held = used.filter(|(place, number)| number.load(Ordering::Acquire) != 0 && self.prefix(*place).0 != 0);
        Ok(Load { messages: (messages + held.count()) as u64, skipped: 0, bytes })
    }

    pub fn end_waits(&self) {
        match &self.kernel {
            Kernel::Posix(queue) => queue.end_waits(),
            Kernel::SystemV(queue) => queue.end_waits(),
        }
    }
}

/// A message in the writer's hand.
pub(super) struct Held<'a> {
    queue: &'a Queue,
    number: &'a AtomicU64,
    place: u64,
    record: Vec<u8>,
    came_back: bool,
}

impl Held<'_> {
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let bytes = self.record.get(offset..).unwrap_or_default();
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        length
    }

    pub fn is_redelivered(&self) -> bool {
        self.came_back
    }

    /// Frees its place.
    pub fn release(self) {
        self.number.store(0, Ordering::Relaxed);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.queue.in_hand.fetch_and(!(1 << self.place), Ordering::Relaxed);
        self.queue.left.store(1, Ordering::Relaxed); // whether it was released shows in its number
    }
}

/// Waits for a message.
struct Receiving<'a>(&'a Base);

impl Party for Receiving<'_> {
    fn member(&self) -> &Member {
        &self.0.core.member
    }

    fn bell(&self) -> SysResult<&Bell> {
        Ok(&self.0.core.control.line.sent)
    }

    fn tidy(&self) -> SysResult<()> {
        Ok(())
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None)
    }

    fn explain(&self, error: Error) -> Error {
        explained(error)
    }

    /// Who sent may have died before it could tell.
    fn look_again(&self) -> Option<std::time::Duration> {
        Some(ASK_EVERY)
    }
}

const _: () = assert!(PLACES <= u64::BITS as usize, "a bit for each");
