//! What both ends of a one-to-one ring have: a place in the segment, a role that nobody else has, and how they wait.
//!
//! The roles are words that are taken by compare-exchange, and taken over from the dead. Unlike in the many-to-many
//! ring, what follows are plain stores, so they cannot fence a process that was declared dead by mistake and is in the
//! middle of one; it finds out at its next call. Only a process that closes the library's descriptors gets there.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::one_bell::Listener;
use super::one_layout::{Control, Geometry, KIND, Log, Mark, distance};
use super::one_send::sent;
use super::options::{RingFull, RingOptions, RingParticipant, RingStatistics, total};
use super::{damaged, fenced, join_error};
use crate::address::{Address, Scheme};
use crate::doorbell::Doorbells;
use crate::error::{Error, Result};
use crate::segment::{Bell, CONSUMER, Member, PRODUCER, Party, Patience, Plan, Segment, Standing, Tag, look_around};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::Mapping;
use crate::wait::Object;

/// What both ends have.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) member: Member,
    standing: Standing,
    pub(super) log: Log,
    /// Where a producer found no room, and for how much; for its doorbell.
    pub(super) refused: [AtomicU64; 2],
    pub(super) patience: Patience,
    role: u32,
}

pub(super) struct End {
    pub(super) object: Arc<Object>,
    pub(super) shared: Arc<Shared>,
    pub(super) full: RingFull,
    pub(super) bells: Doorbells<()>,
}

impl End {
    pub(super) fn open(address: &Address, options: &RingOptions, role: u32) -> Result<End> {
        address.require(&[Scheme::Ring], "open")?;
        let options = options.with(address)?;
        let text = address.without_options().to_string();
        check_one(&options, &text)?;
        let segment = with_plan(&options, &text, |plan| Ok(Segment::open_or_create(address, plan)?.0))?;
        End::of(segment, text, &options, role)
    }

    pub(super) fn of(segment: Segment, address: String, options: &RingOptions, role: u32) -> Result<End> {
        let object = Arc::new(Object::new(address));
        let fail = |errno| join_error(object.error(errno, "open"));
        let member = Member::join(segment).map_err(fail)?;
        let (log, standing) = (Log::of(member.segment()).map_err(fail)?, member.standing().map_err(fail)?);
        let shared =
            Shared { member, standing, log, refused: Default::default(), patience: Patience::new(options.wait), role };
        shared.take_role().map_err(|errno| match errno {
            Errno::EBUSY => object.error(errno, "open").because(if role == PRODUCER {
                "this one-to-one ring has its producer; use a Ring for several"
            } else {
                "this one-to-one ring has its consumer; use a Ring for several"
            }),
            errno => fail(errno),
        })?;
        Ok(End { object, shared: Arc::new(shared), full: options.full, bells: Doorbells::default() })
    }

    #[cold]
    pub(super) fn failed(&self, errno: Errno, operation: &'static str) -> Error {
        self.shared.explain(self.object.error(errno, operation))
    }

    pub(super) fn doorbell(&self) -> Result<BorrowedFd<'_>> {
        self.shared.check().map_err(|errno| self.failed(errno, "doorbell"))?;
        self.bells.get((), &self.object, || Ok(Box::new(Listener(Arc::clone(&self.shared)))))
    }
}

/// Refuses what only a many-to-many ring has, before anything is made.
pub(super) fn check_one(options: &RingOptions, address: &str) -> Result<()> {
    let reason = if options.full == RingFull::DropOldest {
        "a one-to-one ring's oldest message is the consumer's; drop the newest, or use a Ring"
    } else if options.redeliveries != 0 || options.dead_letters {
        "a one-to-one ring has no dead letters; use a Ring"
    } else if options.lanes > 1 || options.lane != 0 {
        "a one-to-one ring has one lane; use a Ring"
    } else if options.depth != 0 {
        "a one-to-one ring has no depth, as it stores by length; lower its capacity, or use a Ring"
    } else {
        return Ok(());
    };
    Err(Error::new(Errno::EINVAL, "open").on_text(address).because(reason))
}

pub(super) fn with_plan<T>(
    options: &RingOptions,
    address: &str,
    make: impl FnOnce(&Plan<'_>) -> Result<T>,
) -> Result<T> {
    let geometry =
        Geometry::of(options).map_err(|reason| Error::new(Errno::EINVAL, "open").on_text(address).because(reason))?;
    let fill = |memory: &Arc<Mapping>, body| geometry.fill(memory, body, options.persistent);
    let body = geometry.size().unwrap_or(usize::MAX);
    make(&Plan { kind: KIND, participants: options.participants, body, mode: options.mode, fill: &fill })
}

impl Shared {
    pub(super) fn control(&self) -> &Control {
        &self.log.control
    }

    pub(super) fn is_consumer(&self) -> bool {
        self.role == CONSUMER
    }

    fn role_word(&self) -> &AtomicU64 {
        let [producer, consumer] = &self.control().roles.0;
        if self.is_consumer() { consumer } else { producer }
    }

    /// Takes the role, if nobody alive has it.
    pub(super) fn take_role(&self) -> SysResult<()> {
        look_around(self)?;
        let own = self.member.tag()?.bits() << 1 | 1;
        let word = self.role_word();
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
        self.announce_change();
        Ok(())
    }

    /// `ESTALE` for who was declared dead, `EPERM` for a child that has inherited the handle: the role is the parent's.
    #[inline(always)]
    pub(super) fn check(&self) -> SysResult<()> {
        self.standing.check()
    }

    pub(super) fn leave(&self) {
        if !self.member.is_settled() {
            return;
        }
        if let Ok(tag) = self.member.tag() {
            let own = tag.bits() << 1 | 1;
            // Release: a successor sees all that this side has written.
            let _ = self.role_word().compare_exchange(own, 0, Ordering::Release, Ordering::Relaxed);
            self.member.leave();
            self.announce_change();
        }
    }

    /// Has both sides look again who is there.
    fn announce_change(&self) {
        self.control().consumers_bell.0.bell.ring_all();
        self.control().producers_bell.0.ring_all();
    }

    #[cold]
    pub(super) fn drop_newest(&self, messages: u64) {
        // Relaxed: one step, which a death can only leave out or leave done.
        self.control().producer.0.dropped_newest.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn statistics(&self) -> SysResult<RingStatistics> {
        self.check()?;
        let (consumer, producer) = (&self.control().consumer.0, &self.control().producer.0);
        // Released first, sent last: what was released had been sent. Acquire: the count was written before.
        let read = || {
            let released = consumer.released.load(Ordering::Acquire);
            let count = consumer.released_count.load(Ordering::Acquire);
            let taken = consumer.taken.load(Ordering::Acquire);
            // What was taken belongs to what was released only while that has not moved on.
            (Mark(released), count, Mark(taken), consumer.released.load(Ordering::Acquire) == released)
        };
        let (mark, count, taken, _) = (0..64).map(|_| read()).find(|read| read.3).unwrap_or_else(read);
        let released = mark.whole_count(count);
        let is_ahead = (1..=self.log.whole()).contains(&distance(mark.units(), taken.units()));
        let borrowed = if is_ahead { mark.messages_to(taken) } else { 0 };
        let dropped = producer.dropped_newest.load(Ordering::Relaxed);
        let sent = sent(&self.log).max(total([released, borrowed])); // while others are at work it may be a little behind
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
                waiting: peer.waiting,
                waiting_since: peer.waiting_since,
            });
        })?;
        Ok(RingStatistics {
            sent: total([sent, dropped]),
            released,
            borrowed,
            queued: sent.wrapping_sub(total([released, borrowed])),
            dropped,
            redelivered: consumer.redelivered.load(Ordering::Relaxed),
            largest: self.log.geometry.largest,
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
        let control = self.control();
        Ok(if self.is_consumer() { &control.consumers_bell.0.bell } else { &control.producers_bell.0 })
    }

    fn is_told_who_joins(&self) -> bool {
        true
    }

    /// Takes their roles from the dead.
    fn tidy(&self) -> SysResult<()> {
        for word in &self.control().roles.0 {
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
        let over = !self.log.persistent && self.member.is_role_over(other)?;
        Ok(over.then_some((Errno::EPIPE, reason)))
    }

    fn explain(&self, error: Error) -> Error {
        inherited(damaged(fenced(error)))
    }

    /// The producer stores a header and then looks at the bell; see `Sleeps`. Where the kernel has no barrier for others,
    /// whatever was under way has settled a moment later.
    fn settle(&self) -> bool {
        !self.is_consumer() || self.log.sleeps.settle(&self.log)
    }
}

pub(super) fn inherited(error: Error) -> Error {
    if error.is(Errno::EPERM) {
        error.because(
            "this end belongs to the process that this one was forked from; hand it over before, or open it anew",
        )
    } else {
        error
    }
}
