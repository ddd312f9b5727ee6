//! Declared one-to-one rings: one producer, one consumer, and a fast path without a single exchange.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::explain::full_or_over;
use super::one_end::{End, check_one, inherited, with_plan};
use super::one_held::{RingConsumerBorrowed, RingProducerReserved};
use super::one_layout::KIND;
use super::one_recv::{Found, Receiving, Record};
use super::one_send::{Room, Sending};
use super::options::{RingFull, RingOptions, RingStatistics};
use super::{ANONYMOUS, RingReceived};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::segment::{CONSUMER, PRODUCER, Party, Segment, look_around};
use crate::sync_atomics::Ordering;
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};

/// The sending end of a one-to-one ring (`ring:name`), the fastest way between two processes.
///
/// There is one producer and one consumer at a time; a second one is `EBUSY`, and takes over once the first has gone or
/// died. What was sent stays sent; a message that a consumer had taken and not finished when it died is delivered again,
/// marked. Storage is by the length of each message. A child made by fork cannot use an inherited end: it stays the
/// parent's.
///
/// ```
/// use wigwag::{RingOptions, RingProducer, Timeout};
/// let (mut producer, mut consumer) = RingProducer::anonymous(RingOptions::default())?;
/// producer.send(b"tick", Timeout::Forever)?;
/// let mut buffer = [0; 64];
/// assert_eq!(consumer.recv(&mut buffer, Timeout::Forever)?.length, 4);
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct RingProducer {
    pub(super) end: End,
    pub(super) state: Sending,
}

impl RingProducer {
    /// Opens the one-to-one ring of this name, or makes it, and becomes its producer. Never blocks.
    ///
    /// # Errors
    /// `EBUSY` it has a producer; `EBADMSG` the name is that of something else, such as a many-to-many ring; otherwise as
    /// [`Ring::open`](super::Ring::open).
    ///
    /// System calls: as there, and membarrier.
    pub fn open(address: &Address, options: RingOptions) -> Result<RingProducer> {
        RingProducer::of(End::open(address, &options, PRODUCER)?)
    }

    /// Makes a one-to-one ring without a name; both its ends. The consumer is usually not for this process: pass on its
    /// descriptor and drop it, or let [`RingConsumer::from_fd`] follow in a child. Never blocks. Errors: as
    /// [`Ring::anonymous`](super::Ring::anonymous).
    pub fn anonymous(options: RingOptions) -> Result<(RingProducer, RingConsumer)> {
        let options = options.check(ANONYMOUS)?;
        check_one(&options, ANONYMOUS)?;
        let segment = with_plan(&options, ANONYMOUS, |plan| Segment::anonymous(ANONYMOUS, plan))?;
        let producer = RingProducer::of(End::of(segment, ANONYMOUS.into(), &options, PRODUCER)?)?;
        let fd = producer.as_fd().try_clone_to_owned();
        let fd = fd.map_err(|error| Error::from_raw(error.raw_os_error().unwrap_or(libc::EIO), "dup"))?;
        let consumer = RingConsumer::from_fd(fd, RingOptions { full: RingFull::Wait, ..options })?;
        Ok((producer, consumer))
    }

    /// Becomes the producer of a ring whose descriptor came from elsewhere. Never blocks. Errors: as
    /// [`RingProducer::open`].
    pub fn from_fd(fd: OwnedFd, options: RingOptions) -> Result<RingProducer> {
        let options = options.check(ANONYMOUS)?;
        check_one(&options, ANONYMOUS)?;
        let segment = Segment::adopt(ANONYMOUS, fd, KIND)?;
        RingProducer::of(End::of(segment, ANONYMOUS.into(), &options, PRODUCER)?)
    }

    fn of(end: End) -> Result<RingProducer> {
        let state = Sending::resume(&end.shared.log).map_err(|errno| end.failed(errno, "open"))?;
        Ok(RingProducer { end, state })
    }

    /// Copies a message into the ring; waits while there is no room, unless the handle's options say otherwise.
    ///
    /// # Errors
    /// `EMSGSIZE` it is larger than the ring's largest, which is the error's true size; `EPIPE` there is no room and the
    /// consumer has gone (never with a persistent ring or [`RingFull::DropNewest`]); `EPERM` this end is the parent's; `ESTALE` it was declared dead
    /// because its lock was closed; `EBADMSG` the ring is damaged; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with
    /// nothing sent.
    ///
    /// System calls: futex, if somebody sleeps or it has to wait.
    #[inline]
    pub fn send(&mut self, message: &[u8], timeout: Timeout) -> Result<()> {
        let mut operation = self.end.object.operation("send", timeout);
        match self.state.room_for(&self.end, &mut operation, message.len())? {
            Some(room) => {
                self.state.write(&self.end.shared.log, &room, message);
                self.state.commit(&self.end.shared.log, &room);
            }
            None => self.end.shared.drop_newest(1),
        }
        Ok(())
    }

    /// Copies as many of these messages into the ring as there is room for, at least one, all at one instant; how many.
    /// Waits while there is no room for the first, unless the handle's options say otherwise: where the newest are to be
    /// dropped, those without room are counted as dropped, and it returns how many there were.
    ///
    /// # Errors
    /// As [`RingProducer::send`], with nothing sent; a message that is too large ends the batch before it, and is an error
    /// if it is the first.
    ///
    /// System calls: futex, if somebody sleeps or it has to wait.
    pub fn send_batch(&mut self, messages: &[&[u8]], timeout: Timeout) -> Result<usize> {
        let Some(first) = messages.first() else { return Ok(0) };
        let mut operation = self.end.object.operation("send_batch", timeout);
        let (shared, largest) = (&self.end.shared, self.end.shared.log.geometry.largest);
        if self.state.room_for(&self.end, &mut operation, first.len())?.is_some() {
            let sent =
                self.state.batch(&shared.log, messages).map_err(|errno| shared.explain(operation.error(errno)))?;
            let left = messages[sent..].iter().take_while(|message| message.len() <= largest).count();
            if self.end.full != RingFull::DropNewest {
                return Ok(sent);
            }
            shared.drop_newest(left as u64);
            return Ok(sent + left);
        }
        let dropped = messages.iter().take_while(|message| message.len() <= largest).count();
        shared.drop_newest(dropped as u64);
        Ok(dropped)
    }

    /// Reserves room for a message of this many bytes, in one piece, to be written in place and then committed; waits
    /// while there is none. Dropped without commit, it was never sent. Where the handle's options say that the newest
    /// message is to be dropped, a full ring is `EAGAIN` instead, as there is nothing yet to drop.
    ///
    /// # Errors
    /// As [`RingProducer::send`].
    ///
    /// System calls: futex, if it has to wait.
    pub fn reserve(&mut self, length: usize, timeout: Timeout) -> Result<RingProducerReserved<&mut RingProducer>> {
        let room = self.room(length, timeout)?;
        Ok(RingProducerReserved::new(self, room))
    }

    /// As [`RingProducer::reserve`], with a guard that keeps the producer itself, and gives it back when the message is
    /// committed or the room given up.
    ///
    /// # Errors
    /// As [`RingProducer::reserve`], beside the producer.
    pub fn reserve_owned(
        mut self: Box<Self>,
        length: usize,
        timeout: Timeout,
    ) -> std::result::Result<RingProducerReserved<Box<RingProducer>>, (Box<RingProducer>, Error)> {
        match self.room(length, timeout) {
            Ok(room) => Ok(RingProducerReserved::new(self, room)),
            Err(error) => Err((self, error)),
        }
    }

    fn room(&mut self, length: usize, timeout: Timeout) -> Result<Room> {
        let mut operation = self.end.object.operation("reserve", timeout);
        let room = self.state.room_for(&self.end, &mut operation, length)?;
        let full = || operation.error(Errno::EAGAIN).because("the ring is full, and there is no message yet to drop");
        room.ok_or_else(full)
    }

    /// What the handle does when the ring is full. Never blocks.
    pub fn full(&self) -> RingFull {
        self.end.full
    }

    /// A descriptor that is readable while there may be room for another message of any size, for `poll` and its like; it
    /// stays so until a call finds no room. Made on the first request, with a thread that waits for it.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM` it cannot be made; `EPERM` this end is the parent's.
    pub fn doorbell(&self) -> Result<BorrowedFd<'_>> {
        self.end.doorbell()
    }
}

impl Sending {
    /// Room for a message; `None` if the newest one is to be dropped instead.
    #[inline(always)]
    fn room_for(&mut self, end: &End, operation: &mut Operation<'_>, length: usize) -> Result<Option<Room>> {
        let shared = &*end.shared;
        let largest = shared.log.geometry.largest;
        if length > largest {
            return Err(operation
                .error(Errno::EMSGSIZE)
                .because("the message is larger than the ring's largest; make the ring with a larger one")
                .with_true_size(largest));
        }
        let mut attempt = || {
            shared.check()?;
            self.room(&shared.log, length)
        };
        match attempt() {
            Ok(Some(room)) => return Ok(Some(room)),
            Ok(None) => {}
            Err(errno) => return Err(shared.explain(operation.error(errno))),
        }
        let waited = match end.full {
            RingFull::Fail => match look_around(shared).and_then(|over| Ok((over, attempt()?))) {
                Ok((_, Some(room))) => return Ok(Some(room)), // made before the consumer left
                Ok((over, None)) => Err(full_or_over(operation, over)),
                Err(errno) => Err(shared.explain(operation.error(errno))),
            },
            RingFull::DropNewest => Ok(None),
            _ => shared.patience.wait(shared, operation, attempt).map(Some),
        };
        if !matches!(waited, Ok(Some(_))) {
            let (from, need) = self.refused(&shared.log, length);
            shared.refused[0].store(from, Ordering::Relaxed);
            shared.refused[1].store(need, Ordering::Release); // both seen by the helper, which waits anew after this
            end.bells.found_nothing(&());
        }
        waited
    }
}

/// So often the header alone is looked at before a wait begins.
const VAIN_LOOKS: u32 = 64;

/// The receiving end of a one-to-one ring; see [`RingProducer`].
pub struct RingConsumer {
    pub(super) end: End,
    pub(super) state: Receiving,
}

impl RingConsumer {
    /// Opens the one-to-one ring of this name, or makes it, and becomes its consumer. Never blocks.
    ///
    /// # Errors
    /// `EBUSY` it has a consumer; otherwise as [`RingProducer::open`].
    pub fn open(address: &Address, options: RingOptions) -> Result<RingConsumer> {
        RingConsumer::of(End::open(address, &options, CONSUMER)?)
    }

    /// Becomes the consumer of a ring whose descriptor came from elsewhere. Never blocks. Errors: as
    /// [`RingConsumer::open`].
    pub fn from_fd(fd: OwnedFd, options: RingOptions) -> Result<RingConsumer> {
        let options = options.check(ANONYMOUS)?;
        check_one(&options, ANONYMOUS)?;
        let segment = Segment::adopt(ANONYMOUS, fd, KIND)?;
        RingConsumer::of(End::of(segment, ANONYMOUS.into(), &options, CONSUMER)?)
    }

    fn of(end: End) -> Result<RingConsumer> {
        let state = Receiving::resume(&end.shared.log).map_err(|errno| end.failed(errno, "open"))?;
        Ok(RingConsumer { end, state })
    }

    /// Copies the next message out of the ring and is done with it; waits while there is none.
    ///
    /// # Errors
    /// `EMSGSIZE` the buffer is too small for it: its length is the error's true size, and it stays in the ring; `EPIPE`
    /// the ring is empty and its producer has gone (never with a persistent ring); `EPERM`, `ESTALE`, `EBADMSG` as
    /// [`RingProducer::send`]; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with nothing taken.
    ///
    /// System calls: futex, if the producer sleeps or it has to wait; membarrier, before it sleeps, now and then.
    #[inline]
    pub fn recv(&mut self, buffer: &mut [u8], timeout: Timeout) -> Result<RingReceived> {
        let RingConsumer { end, state } = self;
        let mut operation = end.object.operation("recv", timeout);
        let record = state.next(end, &mut operation, buffer.len())?;
        state.count(&end.shared.log, &record);
        let length = end.shared.log.bytes.get_at(record.offset, &mut buffer[..record.length]);
        state.release(&end.shared.log, &record);
        Ok(RingReceived { length, deliveries: record.deliveries, lane: 0 })
    }

    /// Copies as many messages out of the ring as are there, at least one, and is done with them; waits while there is
    /// none. They come one behind the other in `buffer`, and how long each is in `received`; how many there are. As many
    /// as fit into both.
    ///
    /// # Errors
    /// As [`RingConsumer::recv`]; `EINVAL` `received` is empty.
    ///
    /// System calls: as [`RingConsumer::recv`], once for all of them.
    pub fn recv_batch(&mut self, buffer: &mut [u8], received: &mut [RingReceived], timeout: Timeout) -> Result<usize> {
        let RingConsumer { end, state } = self;
        let shared = &*end.shared;
        let mut operation = end.object.operation("recv_batch", timeout);
        if received.is_empty() {
            return Err(operation.error(Errno::EINVAL).because("there is room for no message"));
        }
        let room = buffer.len();
        let first = state.next(end, &mut operation, room)?;
        let mut at = 0;
        Ok(state.batch(&shared.log, first, received.len(), room, |number, record| {
            let length = shared.log.bytes.get_at(record.offset, &mut buffer[at..at + record.length]);
            received[number] = RingReceived { length, deliveries: record.deliveries, lane: 0 };
            at += length;
        }))
    }

    /// Waits for the next message and tells how many bytes it has; it stays in the ring.
    ///
    /// # Errors
    /// As [`RingConsumer::recv`], without `EMSGSIZE`.
    ///
    /// System calls: as [`RingConsumer::recv`].
    pub fn next_length(&mut self, timeout: Timeout) -> Result<usize> {
        let mut operation = self.end.object.operation("next_length", timeout);
        Ok(self.state.next(&self.end, &mut operation, usize::MAX)?.length)
    }

    /// Takes the next message, to be read in place and then released; waits while there is none. Dropped without
    /// release, it will be delivered again, marked.
    ///
    /// # Errors
    /// As [`RingConsumer::recv`], without `EMSGSIZE`.
    ///
    /// System calls: as [`RingConsumer::recv`].
    pub fn borrow(&mut self, timeout: Timeout) -> Result<RingConsumerBorrowed<&mut RingConsumer>> {
        let record = self.taken(timeout)?;
        Ok(RingConsumerBorrowed::new(self, record))
    }

    /// As [`RingConsumer::borrow`], with a guard that keeps the consumer itself, and gives it back when the message is
    /// released or given back.
    ///
    /// # Errors
    /// As [`RingConsumer::borrow`], beside the consumer.
    pub fn borrow_owned(
        mut self: Box<Self>,
        timeout: Timeout,
    ) -> std::result::Result<RingConsumerBorrowed<Box<RingConsumer>>, (Box<RingConsumer>, Error)> {
        match self.taken(timeout) {
            Ok(record) => Ok(RingConsumerBorrowed::new(self, record)),
            Err(error) => Err((self, error)),
        }
    }

    fn taken(&mut self, timeout: Timeout) -> Result<Record> {
        let mut operation = self.end.object.operation("borrow", timeout);
        let record = self.state.next(&self.end, &mut operation, usize::MAX)?;
        self.state.take(&self.end.shared.log, &record);
        Ok(record)
    }

    /// A descriptor that is readable while there may be a message, for `poll` and its like; it stays so until a call
    /// finds none. Made on the first request, with a thread that waits for it.
    ///
    /// # Errors
    /// As [`RingProducer::doorbell`].
    pub fn doorbell(&self) -> Result<BorrowedFd<'_>> {
        self.end.doorbell()
    }
}

impl Receiving {
    /// The next record, whose message is at most so long; it waits for it and does not take it.
    #[inline(always)]
    fn next(&mut self, end: &End, operation: &mut Operation<'_>, room: usize) -> Result<Record> {
        let shared = &*end.shared;
        let attempt = |state: &Receiving| {
            shared.check()?;
            state.find(&shared.log, room)
        };
        let mut found = attempt(self);
        if matches!(found, Ok(None))
            && shared.patience.begins_spinning(operation.timeout())
            && self.poll_header(&shared.log, VAIN_LOOKS)
        {
            found = attempt(self);
        }
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) => {
                let found = shared.patience.wait(shared, operation, || attempt(self));
                if found.is_err() {
                    end.bells.found_nothing(&());
                }
                found?
            }
            Err(errno) => return Err(shared.explain(operation.error(errno))),
        };
        match found {
            Found::Record(record) => Ok(record),
            Found::TooLong(length) => Err(operation
                .error(Errno::EMSGSIZE)
                .because("the buffer is too small for the next message, which stays in the ring")
                .with_true_size(length)),
        }
    }
}

/// Ends the waits on one end of a one-to-one ring, from another thread than the one that has the end.
#[derive(Clone)]
pub struct RingWaits(Arc<Object>);

impl RingWaits {
    /// Ends them with `ECANCELED`, now and later; returns when they have left.
    pub fn end(&self) {
        self.0.end_waits();
    }
}

impl std::fmt::Debug for RingWaits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingWaits").field("address", self.0.address()).finish()
    }
}

macro_rules! ends {
    ($($end:ident)*) => { $(
        impl $end {
            /// How many bytes of memory a one-to-one ring with these options takes, all in all. Never blocks.
            ///
            /// # Errors
            /// `EINVAL` the options do not fit together.
            pub fn size_for(options: &RingOptions) -> Result<usize> {
                let options = options.clone().check(ANONYMOUS)?;
                with_plan(&options, ANONYMOUS, |plan| Ok(Segment::size_for(plan.participants, plan.body)))
            }

            /// Whether the name still stands for this ring. Never blocks.
            ///
            /// # Errors
            /// `ESTALE` the name was removed: what is sent from now on reaches only who has the other end open.
            ///
            /// System call: fstat.
            pub fn check(&self) -> Result<()> {
                let checked = self.end.shared.member.segment().check();
                let failed = |errno| self.end.object.error(errno, "check");
                checked.map_err(|errno| failed(errno).because("the name was removed; open it anew"))
            }

            /// What ends the waits of this end from another thread.
            pub fn waits(&self) -> RingWaits {
                RingWaits(Arc::clone(&self.end.object))
            }

            /// Ends the waits on this end with `ECANCELED`, now and later; returns when they have left. From another thread:
            #[doc = concat!("[`", stringify!($end), "::waits`].")]
            pub fn end_waits(&self) {
                self.end.object.end_waits();
            }

            /// What the ring has seen and what it holds. Never blocks. `slots`, `writing`, `aborted` and `skipped` are 0:
            /// what a producer had not finished has never been there; and there are no dead letters.
            ///
            /// # Errors
            /// `EPERM` this end is the parent's.
            pub fn statistics(&self) -> Result<RingStatistics> {
                self.end.shared.statistics().map_err(|errno| inherited(self.end.object.error(errno, "statistics")))
            }

            /// The largest message in bytes. Never blocks.
            pub fn largest(&self) -> usize {
                self.end.shared.log.geometry.largest
            }

            /// Its address; `ring:` for one without a name.
            pub fn address(&self) -> &str {
                self.end.object.address()
            }
        }

        impl Drop for $end {
            fn drop(&mut self) {
                self.end.shared.leave();
            }
        }

        impl AsFd for $end {
            /// The segment's descriptor, to be passed to another process for `from_fd`; not for polling.
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.end.shared.member.as_fd()
            }
        }

        impl std::fmt::Debug for $end {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($end)).field("address", &self.address()).finish()
            }
        }
    )* };
}

ends!(RingProducer RingConsumer);
