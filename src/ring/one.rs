//! Declared one-to-one rings: one producer, one consumer, and a fast path without a single exchange.
//!
//! The producer writes a record behind the tail, where nobody looks, and publishes it by storing the tail. The consumer
//! stores how far it has taken before it hands a message out, and how far it is done after. Each word is written by one
//! side only, a place and a count in one, so that whoever dies where, the survivor and the successor find it before or
//! after a step and never between. The head, by which the producer learns of free room, follows now and then, as each
//! move of it costs both sides a cache line.
//!
//! The roles are words that are taken by compare-exchange, and taken over from the dead. Unlike in the many-to-many
//! ring, what follows are plain stores, so they cannot fence a process that was declared dead by mistake and is in the
//! middle of one; it finds out at its next call. Only a process that closes the library's descriptors gets there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::one_layout::{Control, Geometry, KIND, Mark, UNIT, distance, units_of};
use super::options::{RingFull, RingOptions, RingParticipant, RingStatistics};
use super::{ANONYMOUS, RingReceived, damaged, fenced, join_error};
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::segment::{Bell, CONSUMER, Member, PRODUCER, Party, Patience, Plan, Segment, Tag, look_around};
use crate::sync_atomics::{AtomicU64, Ordering, compiler_fence, fence};
use crate::sys::shared::{Mapping, Places};
use crate::sys::{SysResult, membarrier};
use crate::timeout::Timeout;
use crate::wait::Object;

/// In a header: no message, the log goes on at its front.
const TO_THE_FRONT: u64 = 1 << 32;
/// In a header, above this bit: how often the message was delivered again.
const AGAIN_SHIFT: u32 = 48;

/// What both ends have.
#[derive(Debug)]
struct Shared {
    member: Member,
    geometry: Geometry,
    body: usize,
    units: Places,
    bytes: Places,
    persistent: bool,
    patience: Patience,
    role: u32,
}

struct End {
    object: Object,
    shared: Shared,
    full: RingFull,
}

impl End {
    fn open(address: &Address, options: &RingOptions, role: u32) -> Result<End> {
        address.require(&[Scheme::Ring], "open")?;
        let options = options.with(address)?;
        let text = address.without_options().to_string();
        let segment = with_plan(&options, &text, |plan| Ok(Segment::open_or_create(address, plan)?.0))?;
        End::of(segment, text, &options, role)
    }

    fn of(segment: Segment, address: String, options: &RingOptions, role: u32) -> Result<End> {
        let object = Object::new(address);
        if options.full == RingFull::DropOldest {
            return Err(object
                .error(Errno::EINVAL, "open")
                .because("a one-to-one ring's oldest message is the consumer's; drop the newest, or use a Ring"));
        }
        let fail = |errno| join_error(object.error(errno, "open"));
        let member = Member::join(segment).map_err(fail)?;
        let (geometry, persistent, units, bytes) = Geometry::read(member.segment()).map_err(fail)?;
        let body = member.segment().body().0;
        let patience = Patience::new(options.wait);
        let shared = Shared { member, geometry, body, units, bytes, persistent, patience, role };
        shared.take_role().map_err(|errno| match errno {
            Errno::EBUSY => object.error(errno, "open").because(if role == PRODUCER {
                "this one-to-one ring has its producer; use a Ring for several"
            } else {
                "this one-to-one ring has its consumer; use a Ring for several"
            }),
            errno => fail(errno),
        })?;
        Ok(End { object, shared, full: options.full })
    }
}

fn with_plan<T>(options: &RingOptions, address: &str, make: impl FnOnce(&Plan<'_>) -> Result<T>) -> Result<T> {
    let geometry =
        Geometry::of(options).map_err(|reason| Error::new(Errno::EINVAL, "open").on_text(address).because(reason))?;
    let fill = |memory: &Arc<Mapping>, body| geometry.fill(memory, body, options.persistent);
    let body = geometry.size().unwrap_or(usize::MAX);
    make(&Plan { kind: KIND, participants: options.participants, body, mode: options.mode, fill: &fill })
}

impl Shared {
    #[inline(always)]
    fn control(&self) -> SysResult<&Control> {
        self.member.segment().memory().record(self.body).ok_or(Errno::EBADMSG)
    }

    fn role_word(&self) -> SysResult<&AtomicU64> {
        let [producer, consumer] = &self.control()?.roles.0;
        Ok(if self.role == PRODUCER { producer } else { consumer })
    }

    /// Takes the role, if nobody alive has it.
    fn take_role(&self) -> SysResult<()> {
        look_around(self)?;
        let own = self.member.tag()?.bits() << 1 | 1;
        let word = self.role_word()?;
        // Acquire pairs with the Release of a holder that left, and of its stores before it died (by way of the kernel,
        // which said so): what it wrote is visible.
        let found = word.load(Ordering::Acquire);
        if found != 0 && self.member.is_current(Tag::from_bits(found >> 1)) {
            return Err(Errno::EBUSY);
        }
        if word.compare_exchange(found, own, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return Err(Errno::EBUSY); // somebody else was faster
        }
        self.member.add_roles(self.role)?;
        let control = self.control()?;
        control.consumers_bell.0.ring_all();
        control.producers_bell.0.ring_all();
        Ok(())
    }

    /// `ESTALE` for who was declared dead, `EPERM` for a child that has inherited the handle: the role is the parent's.
    #[inline(always)]
    fn check(&self) -> SysResult<()> {
        if !self.member.is_settled() {
            return Err(Errno::EPERM);
        }
        self.member.tag().map(drop)
    }

    fn leave(&self) {
        if !self.member.is_settled() {
            return;
        }
        if let (Ok(tag), Ok(word), Ok(control)) = (self.member.tag(), self.role_word(), self.control()) {
            let own = tag.bits() << 1 | 1;
            // Release: a successor sees all that this side has written.
            let _ = word.compare_exchange(own, 0, Ordering::Release, Ordering::Relaxed);
            self.member.leave();
            control.consumers_bell.0.ring_all();
            control.producers_bell.0.ring_all();
        }
    }

    fn statistics(&self) -> SysResult<RingStatistics> {
        self.check()?;
        let control = self.control()?;
        let (consumer, producer) = (&control.consumer.0, &control.producer.0);
        // Released first, sent last: what was released had been sent. Acquire: the counts were written before.
        let released_mark = Mark(consumer.released.load(Ordering::Acquire));
        let released = released_mark.whole_count(consumer.released_count.load(Ordering::Acquire));
        let taken_mark = Mark(consumer.taken.load(Ordering::Acquire));
        let sent =
            Mark(control.tail.0.load(Ordering::Acquire)).whole_count(producer.sent_count.load(Ordering::Acquire));
        let taken = taken_mark.whole_count(sent);
        let dropped = producer.dropped_newest.load(Ordering::Relaxed);
        let borrowed = taken.saturating_sub(released); // at most what is sent, as the tail was read after
        let sent = sent.max(released + borrowed); // no rule-abiding peer needs this
        let mut participants = Vec::new();
        self.member.each(|peer| {
            let consumer = peer.roles & CONSUMER != 0;
            participants.push(RingParticipant {
                is_self: peer.is_self,
                pid: peer.pid,
                producer: peer.roles & PRODUCER != 0,
                consumer,
                since: peer.since,
                holding: if consumer { borrowed } else { 0 },
            });
        })?;
        Ok(RingStatistics {
            sent: sent + dropped,
            released,
            borrowed,
            queued: sent - released - borrowed,
            dropped,
            redelivered: consumer.redelivered.load(Ordering::Relaxed),
            largest: self.geometry.largest,
            bytes: self.member.segment().size(),
            participants,
            ..RingStatistics::default()
        })
    }
}

impl Party for Shared {
    fn member(&self) -> &Member {
        &self.member
    }

    fn bell(&self) -> SysResult<&Bell> {
        let control = self.control()?;
        Ok(if self.role == CONSUMER { &control.consumers_bell.0 } else { &control.producers_bell.0 })
    }

    /// Takes their roles from the dead.
    fn tidy(&self) -> SysResult<()> {
        for word in &self.control()?.roles.0 {
            let found = word.load(Ordering::Acquire);
            if found != 0 && !self.member.is_current(Tag::from_bits(found >> 1)) {
                let _ = word.compare_exchange(found, 0, Ordering::SeqCst, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        let (other, reason) = if self.role == CONSUMER {
            (PRODUCER, "the ring is empty, and its producer has gone")
        } else {
            (CONSUMER, "the consumer has gone")
        };
        let over = !self.persistent && self.member.is_role_over(other)?;
        Ok(over.then_some((Errno::EPIPE, reason)))
    }

    fn explain(&self, error: Error) -> Error {
        inherited(damaged(fenced(error)))
    }

    /// The producer stores the tail and then looks at the bell with nothing in between that would keep the processor from
    /// doing both at once: the barrier is put there from here. Where the kernel has none, whatever was under way has
    /// settled a moment later.
    fn settle(&self) -> bool {
        self.role != CONSUMER || membarrier::barrier().is_ok()
    }
}

fn inherited(error: Error) -> Error {
    if error.is(Errno::EPERM) {
        error.because(
            "this end belongs to the process that this one was forked from; hand it over before, or open it anew",
        )
    } else {
        error
    }
}

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
    end: End,
    state: Sending,
}

/// The producer's own view.
struct Sending {
    /// Where the next record begins, in units.
    tail: u64,
    sent: u64,
    /// The head as it was last seen; the true one is there or ahead.
    head: u64,
    /// The kernel cannot put barriers into this process: it makes its own.
    fences: bool,
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
        let segment = Segment::adopt(ANONYMOUS, fd, KIND)?;
        RingProducer::of(End::of(segment, ANONYMOUS.into(), &options, PRODUCER)?)
    }

    fn of(end: End) -> Result<RingProducer> {
        let control = end.shared.control().map_err(|errno| end.object.error(errno, "open"))?;
        // What the one before has published, if there was one. Its announced count may be one ahead; ours goes on from
        // the published one, as the message was not sent.
        let tail = Mark(control.tail.0.load(Ordering::Acquire));
        let sent = tail.whole_count(control.producer.0.sent_count.load(Ordering::Relaxed));
        let head = control.head.0.load(Ordering::Acquire);
        let state = Sending { tail: tail.units(), sent, head, fences: membarrier::register().is_err() };
        Ok(RingProducer { end, state })
    }

    /// Copies a message into the ring; waits while there is no room, unless the handle's options say otherwise.
    ///
    /// # Errors
    /// `EMSGSIZE` it is larger than the ring's largest, which is the error's true size; `EPIPE` there is no room and the
    /// consumer has gone (never with a persistent ring); `EPERM` this end is the parent's; `ESTALE` it was declared dead
    /// because its lock was closed; `EBADMSG` the ring is damaged; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with
    /// nothing sent.
    ///
    /// System calls: futex, if somebody sleeps or it has to wait.
    #[inline]
    pub fn send(&mut self, message: &[u8], timeout: Timeout) -> Result<()> {
        let RingProducer { end, state } = self;
        let mut operation = end.object.operation("send", timeout);
        if message.len() > end.shared.geometry.largest {
            return Err(operation
                .error(Errno::EMSGSIZE)
                .because("the message is larger than the ring's largest; make the ring with a larger one")
                .with_true_size(end.shared.geometry.largest));
        }
        match state.try_send(&end.shared, message) {
            Ok(Some(())) => return Ok(()),
            Ok(None) => {}
            Err(errno) => return Err(inherited(damaged(fenced(operation.error(errno))))),
        }
        match end.full {
            RingFull::Fail => {
                Err(operation.error(Errno::EAGAIN).because("the ring is full, and this handle does not wait for room"))
            }
            RingFull::DropNewest => {
                let control = end.shared.control().map_err(|errno| operation.error(errno))?;
                control.producer.0.dropped_newest.fetch_add(1, Ordering::Relaxed); // one step
                Ok(())
            }
            _ => end.shared.patience.wait(&end.shared, &mut operation, || state.try_send(&end.shared, message)),
        }
    }

    /// What the ring has seen and what it holds. Never blocks. `slots`, `writing`, `aborted` and `skipped` are 0: what a
    /// producer had not finished has never been there.
    ///
    /// # Errors
    /// `EPERM` this end is the parent's.
    pub fn statistics(&self) -> Result<RingStatistics> {
        self.end.shared.statistics().map_err(|errno| inherited(self.end.object.error(errno, "statistics")))
    }

    /// Its address; `ring:` for one without a name.
    pub fn address(&self) -> &str {
        self.end.object.address()
    }
}

impl Sending {
    #[inline(always)]
    fn try_send(&mut self, ring: &Shared, message: &[u8]) -> SysResult<Option<()>> {
        ring.check()?;
        let control = ring.control()?;
        let (need, whole) = (units_of(message.len()), ring.units.count());
        let to_end = whole - (self.tail & (whole - 1));
        let skipped = if to_end < need { to_end } else { 0 };
        if distance(self.head, self.tail) + skipped + need > whole {
            // Acquire pairs with the consumer's Release in `publish`: its reads of what is about to be overwritten are over.
            self.head = control.head.0.load(Ordering::Acquire);
            let used = distance(self.head, self.tail);
            if used > whole {
                return Err(Errno::EBADMSG);
            }
            if used + skipped + need > whole {
                return Ok(None);
            }
        }
        if skipped != 0 {
            ring.units.word::<0>(self.tail).store(TO_THE_FRONT, Ordering::Relaxed); // published by the tail below
        }
        let at = self.tail + skipped;
        ring.units.word::<0>(at).store(message.len() as u64, Ordering::Relaxed);
        let offset = ((at & (whole - 1)) + 1) as usize * UNIT;
        ring.bytes.put(0, offset, message);
        let sent = self.sent + 1;
        // In this order, see `Mark::whole_count`; the first is ordered before the second by its Release.
        control.producer.0.sent_count.store(sent, Ordering::Relaxed);
        let tail = Mark::new(at + need, sent);
        // Release pairs with the Acquire in `try_take`: who sees the tail sees the record.
        control.tail.0.store(tail.0, Ordering::Release);
        (self.tail, self.sent) = (tail.units(), sent);
        // Between the store of the tail and the look at the bell: see `settle` for who makes up for the barrier.
        if self.fences {
            fence(Ordering::SeqCst)
        } else {
            compiler_fence(Ordering::SeqCst)
        }
        control.consumers_bell.0.ring();
        Ok(Some(()))
    }
}

/// The receiving end of a one-to-one ring; see [`RingProducer`].
pub struct RingConsumer {
    end: End,
    state: Receiving,
}

/// The consumer's own view.
struct Receiving {
    /// Where the next record begins, in units.
    head: u64,
    /// The head that the producer knows.
    published: u64,
    released: u64,
    /// The tail as it was last seen; the true one is there or ahead.
    tail: u64,
    /// Up to here the one before had taken messages, or this one had and gave them back.
    taken: u64,
}

/// A record that has been taken.
struct Record {
    /// Where its message's bytes begin in the log.
    offset: usize,
    length: usize,
    deliveries: u32,
    /// Where the next one begins.
    next: u64,
}

enum Taken {
    Record(Record),
    TooLong(usize),
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
        let segment = Segment::adopt(ANONYMOUS, fd, KIND)?;
        RingConsumer::of(End::of(segment, ANONYMOUS.into(), &options, CONSUMER)?)
    }

    fn of(end: End) -> Result<RingConsumer> {
        let fail = |errno| damaged(end.object.error(errno, "open"));
        let control = end.shared.control().map_err(fail)?;
        let side = &control.consumer.0;
        // Where the one before was done, exactly; what it had taken beyond comes again, marked.
        let mark = Mark(side.released.load(Ordering::Acquire));
        let released = mark.whole_count(side.released_count.load(Ordering::Relaxed));
        let taken = Mark(side.taken.load(Ordering::Acquire)).units();
        let mut state = Receiving { head: mark.units(), published: mark.units(), released, tail: mark.units(), taken };
        if distance(state.head, taken) > end.shared.units.count() {
            return Err(fail(Errno::EBADMSG));
        }
        state.publish(control);
        Ok(RingConsumer { end, state })
    }

    /// Copies the next message out of the ring and is done with it; waits while there is none.
    ///
    /// # Errors
    /// `EMSGSIZE` the buffer is too small for it: its length is the error's true size, and it stays in the ring; `EPIPE`
    /// the ring is empty and its producer has gone (never with a persistent ring); `EPERM`, `ESTALE`, `EBADMSG` as
    /// [`RingProducer::send`]; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with nothing taken.
    ///
    /// System calls: futex, if the producer sleeps or it has to wait; membarrier, before it sleeps.
    #[inline]
    pub fn recv(&mut self, buffer: &mut [u8], timeout: Timeout) -> Result<RingReceived> {
        let RingConsumer { end, state } = self;
        let shared = &end.shared;
        let mut operation = end.object.operation("recv", timeout);
        let taken = match state.try_take(shared, buffer.len()) {
            Ok(Some(taken)) => taken,
            Ok(None) => shared.patience.wait(shared, &mut operation, || state.try_take(shared, buffer.len()))?,
            Err(errno) => return Err(inherited(damaged(fenced(operation.error(errno))))),
        };
        match taken {
            Taken::Record(record) => {
                let length = shared.bytes.get(0, record.offset, &mut buffer[..record.length]);
                let received = RingReceived { length, deliveries: record.deliveries };
                state.release(shared, &record).map_err(|errno| operation.error(errno))?;
                Ok(received)
            }
            Taken::TooLong(length) => Err(operation
                .error(Errno::EMSGSIZE)
                .because("the buffer is too small for the next message, which stays in the ring")
                .with_true_size(length)),
        }
    }

    /// As [`RingProducer::statistics`].
    pub fn statistics(&self) -> Result<RingStatistics> {
        self.end.shared.statistics().map_err(|errno| inherited(self.end.object.error(errno, "statistics")))
    }

    /// Its address; `ring:` for one without a name.
    pub fn address(&self) -> &str {
        self.end.object.address()
    }
}

impl Receiving {
    #[inline(always)]
    fn try_take(&mut self, ring: &Shared, room: usize) -> SysResult<Option<Taken>> {
        ring.check()?;
        let control = ring.control()?;
        let whole = ring.units.count();
        if self.head == self.tail {
            // Acquire pairs with the producer's Release in `try_send`.
            self.tail = Mark(control.tail.0.load(Ordering::Acquire)).units();
            if self.head == self.tail {
                if self.published != self.head {
                    self.publish(control);
                }
                return Ok(None);
            }
            if distance(self.head, self.tail) > whole {
                return Err(Errno::EBADMSG);
            }
        }
        // Relaxed: visible since the tail was loaded. Each header is copied once, and checked.
        let mut at = self.head;
        let mut header = ring.units.word::<0>(at).load(Ordering::Relaxed);
        if header & TO_THE_FRONT != 0 {
            at += whole - (at & (whole - 1));
            header = ring.units.word::<0>(at).load(Ordering::Relaxed);
        }
        let length = (header & u64::from(u32::MAX)) as usize;
        let (index, next) = (at & (whole - 1), at + units_of(length));
        let fits = length <= ring.geometry.largest
            && index + units_of(length) <= whole
            && distance(self.head, next) <= distance(self.head, self.tail);
        if !fits {
            return Err(Errno::EBADMSG);
        }
        if length > room {
            return Ok(Some(Taken::TooLong(length)));
        }
        let next = Mark::new(next, self.released + 1);
        let mut deliveries = 1;
        let is_again = distance(self.head, self.taken) != 0;
        if is_again {
            // Counted in the header before it is handed out, so that the next after this one counts on.
            deliveries = (header >> AGAIN_SHIFT) as u32 + 2;
            let again = u64::from(deliveries - 1).min(u64::from(u16::MAX)) << AGAIN_SHIFT;
            ring.units.word::<0>(at).store(length as u64 | again, Ordering::Relaxed);
            control.consumer.0.redelivered.fetch_add(1, Ordering::Relaxed);
        } else {
            self.taken = next.units();
        }
        // Release: before anybody hears of the message, it is known to be taken.
        control.consumer.0.taken.store(next.0, Ordering::Release);
        let offset = (index + 1) as usize * UNIT;
        Ok(Some(Taken::Record(Record { offset, length, deliveries, next: next.units() })))
    }

    #[inline(always)]
    fn release(&mut self, ring: &Shared, record: &Record) -> SysResult<()> {
        let control = ring.control()?;
        let released = self.released + 1;
        // In this order, see `Mark::whole_count`.
        control.consumer.0.released_count.store(released, Ordering::Relaxed);
        control.consumer.0.released.store(Mark::new(record.next, released).0, Ordering::Release);
        (self.head, self.released) = (record.next, released);
        if distance(self.published, self.head) >= ring.units.count() / 8 {
            self.publish(control);
        }
        Ok(())
    }

    /// Lets the producer have what is free.
    #[cold]
    fn publish(&mut self, control: &Control) {
        self.published = self.head;
        // Release pairs with the producer's Acquire in `try_send`.
        control.head.0.store(self.head, Ordering::Release);
        // Between the store and the look at the bell: a producer that sleeps has set it before it looked at the head.
        fence(Ordering::SeqCst);
        control.producers_bell.0.ring();
    }
}

macro_rules! ends {
    ($($end:ident)*) => { $(
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
