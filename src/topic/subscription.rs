//! One subscriber's side of a topic.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use super::held::TopicBorrowed;
use super::log::{Found, Log};
use super::options::TopicReceived;
use super::places::Seated;
use super::word::behind;
use super::{Part, doorbell, explained, number, tidy};
use crate::doorbell::{Doorbells, Listen};
use crate::error::{Error, Result};
use crate::lender::Lender;
use crate::segment::{ASK_EVERY, Bell, Member, Party, Patience, WaitMode};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::{SysResult, fork};
use crate::timeout::Timeout;
use crate::wait::Object;

/// A lossy subscriber that was overrun so often goes on in the middle of what is stored.
const HASTY_TRIES: u32 = 3;
const MANY_TRIES: u32 = 100;

/// A subscription to a [`Topic`](crate::Topic), which it keeps open. It ends when it is dropped.
///
/// All methods may be called from several threads at once; each message goes to one of them. It belongs to the process
/// that made it: a child made by fork subscribes anew.
pub struct Subscription {
    object: Object,
    /// Before `part`: its helper ends before the words go that it looks at.
    bells: Doorbells<()>,
    own: Arc<Own>,
    part: Arc<Part>,
    patience: Patience,
    hands: Mutex<Hands>,
    lossy: bool,
    generation: u32,
}

/// What the helper of the doorbell shares with the subscription.
pub(super) struct Own {
    pub(super) seated: Seated,
    /// The next message to be received; written under the lock of `hands`.
    pub(super) next: AtomicU64,
}

/// What its threads take turns at.
#[derive(Debug)]
struct Hands {
    /// As its place says.
    cursor: u64,
    next: u64,
    /// Borrowed messages, in order.
    borrowed: Vec<u64>,
    /// Messages missed since the last one that was received.
    missed: u64,
}

/// A message that was found, in place.
pub(super) struct InPlace {
    pub(super) block: u64,
    pub(super) length: usize,
    pub(super) sequence: u64,
}

/// What a try to receive gives.
enum Got {
    Received(TopicReceived),
    TooLong(usize),
}

impl Subscription {
    pub(super) fn new(
        part: &Arc<Part>,
        address: &Arc<str>,
        wait: WaitMode,
        seated: Seated,
        first: u64,
    ) -> Subscription {
        Subscription {
            object: Object::new(Arc::clone(address)),
            bells: Doorbells::default(),
            own: Arc::new(Own { seated, next: AtomicU64::new(first) }),
            part: Arc::clone(part),
            patience: Patience::new(wait),
            hands: Mutex::new(Hands { cursor: first, next: first, borrowed: Vec::new(), missed: 0 }),
            lossy: seated.is_lossy(),
            generation: fork::generation_in_handler(),
        }
    }

    /// Copies the next message out, and waits for it if there is none.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere; `EMSGSIZE` the buffer is too small: the message's length is the
    /// error's true size, and it is left; `ECONNABORTED` the subscriber was stuck for longer than its limit and was cut
    /// off, now and later; `ESTALE` its handle was declared dead because its lock was closed; `EPERM` it belongs to the
    /// process that this one was forked from; `EBADMSG` the topic is damaged.
    ///
    /// System call: futex, if it has to wait, or a publisher waits for room.
    #[inline]
    pub fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<TopicReceived> {
        let mut operation = self.object.operation("recv", timeout);
        let got = match self.try_recv(buffer) {
            Ok(Some(got)) => got,
            Ok(None) => self.patience.wait(self, &mut operation, || self.try_recv(buffer))?,
            Err(errno) => return Err(explained(operation.error(errno))),
        };
        match got {
            Got::Received(received) => Ok(received),
            Got::TooLong(length) => Err(operation
                .error(Errno::EMSGSIZE)
                .because("the buffer is too small for the message, which was left")
                .with_true_size(length)),
        }
    }

    /// Copies as many messages out as there are and fit into the buffer, one behind the other, and waits for the first if
    /// there is none; how many. What each is stands in `received`, which also bounds their number.
    ///
    /// # Errors
    /// As [`Subscription::recv`], if it happens to the first; what happens to a later one is found by the next call.
    pub fn recv_batch(&self, buffer: &mut [u8], received: &mut [TopicReceived], timeout: Timeout) -> Result<usize> {
        let Some((first, more)) = received.split_first_mut() else { return Ok(0) };
        *first = self.recv(buffer, timeout)?;
        let (mut used, mut done) = (first.length, 1);
        for place in more {
            match self.try_recv(&mut buffer[used..]) {
                Ok(Some(Got::Received(received))) => *place = received,
                _ => break,
            }
            used += place.length;
            done += 1;
        }
        Ok(done)
    }

    /// The next message in place, to be released later, in any order; publishers wait until then for its room. Waits if
    /// there is none.
    ///
    /// # Errors
    /// As [`Subscription::recv`]; `ENOTSUP` the subscriber is lossy, and the message could be overwritten under its eyes.
    pub fn borrow(&self, timeout: Timeout) -> Result<TopicBorrowed<'_>> {
        let found = self.find(timeout)?;
        Ok(TopicBorrowed::new(Lender::Lent(self), found))
    }

    /// As [`Subscription::borrow`], with a guard that keeps the subscription itself.
    ///
    /// # Errors
    /// As [`Subscription::borrow`].
    pub fn borrow_owned(self: &Arc<Subscription>, timeout: Timeout) -> Result<TopicBorrowed<'static>> {
        let found = self.find(timeout)?;
        Ok(TopicBorrowed::new(Lender::Kept(self.clone()), found))
    }

    fn find(&self, timeout: Timeout) -> Result<InPlace> {
        let mut operation = self.object.operation("borrow", timeout);
        if self.lossy {
            let error = operation.error(Errno::ENOTSUP);
            return Err(error.because(
                "a lossy subscriber's messages may be overwritten; receive copies, or subscribe \
                                      lossless",
            ));
        }
        match self.try_borrow() {
            Ok(Some(found)) => Ok(found),
            Ok(None) => self.patience.wait(self, &mut operation, || self.try_borrow()),
            Err(errno) => Err(explained(operation.error(errno))),
        }
    }

    /// How many messages this subscriber has missed, as far as it has found out by receiving. Never blocks.
    pub fn missed(&self) -> u64 {
        self.log().missed_by(&self.own.seated)
    }

    /// The topic's largest message in bytes. Never blocks.
    pub fn largest(&self) -> usize {
        self.log().geometry.largest
    }

    /// A descriptor that is readable while there is a message, or the subscriber was cut off. For poll, a
    /// [`WaitSet`](crate::WaitSet), an event loop. Never blocks.
    ///
    /// A call that finds nothing quiets it. It belongs to this subscription, which closes it. The cost, from the first
    /// call on: a helper thread that sleeps in the kernel, and two switches of context for each time that it is woken.
    ///
    /// # Errors
    /// `ENOMEM` no helper thread can be had; `EMFILE`, `ENFILE` no descriptor is left.
    ///
    /// System calls: eventfd2, clone; in the helper futex.
    pub fn doorbell(&self) -> Result<BorrowedFd<'_>> {
        self.bells.get((), &self.object, || Ok(self.listener()))
    }

    /// The descriptors that were asked for in this process, for those who have to forget them before they go. Never
    /// blocks.
    pub fn doorbells(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.bells.descriptors()
    }

    /// Ends the waits of all threads on this subscription with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }

    /// Its topic's address.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    // --- what the calls are made of ---

    pub(crate) fn listener(&self) -> Box<dyn Listen> {
        Box::new(doorbell::Listener { log: Arc::clone(&self.part.log), own: Arc::clone(&self.own) })
    }

    #[inline(always)]
    pub(super) fn log(&self) -> &Log {
        &self.part.log
    }

    pub(super) fn error(&self, errno: Errno, operation: &'static str) -> Error {
        explained(self.object.error(errno, operation))
    }

    /// Whose turn it is. Before that: whether this process may have one, as a child made by fork would wait for ever for a
    /// thread of its parent's.
    #[inline]
    fn turn(&self) -> SysResult<MutexGuard<'_, Hands>> {
        if self.generation != fork::generation_in_handler() {
            return Err(Errno::EPERM);
        }
        let hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        self.log().check_place(&self.own.seated)?;
        Ok(hands)
    }

    #[inline(always)]
    fn try_recv(&self, buffer: &mut [u8]) -> SysResult<Option<Got>> {
        let mut hands = self.turn()?;
        let mut tried = 0;
        loop {
            match self.log().read(hands.next, buffer)? {
                Found::Message(length) => {
                    let received = TopicReceived { length, sequence: number(hands.next), missed: hands.missed };
                    hands.missed = 0;
                    let next = hands.next.wrapping_add(1);
                    self.move_on(&mut hands, next)?;
                    return Ok(Some(Got::Received(received)));
                }
                Found::Nothing => {
                    self.bells.found_nothing(&());
                    return Ok(None);
                }
                Found::TooLong(length) => return Ok(Some(Got::TooLong(length))),
                Found::Retired if tried < MANY_TRIES => {
                    tried += 1;
                    self.pass_over(&mut hands, tried)?;
                }
                // No publisher is that fast. The caller's timeout decides how often this is tried again.
                Found::Retired => return Ok(None),
            }
        }
    }

    /// Goes on with what is still stored, and counts what is not.
    #[cold]
    fn pass_over(&self, hands: &mut Hands, tried: u32) -> SysResult<()> {
        // That of a lossless one is retired only after it was cut off.
        self.log().check_place(&self.own.seated)?;
        if !self.lossy {
            return Err(Errno::EBADMSG);
        }
        let (mut next, frontier) = (hands.next.wrapping_add(1), self.log().frontier()?);
        let oldest = self.log().oldest()?;
        if behind(next, oldest) > 0 {
            next = oldest;
        }
        let stored = behind(next, frontier).max(0).cast_unsigned();
        if tried > HASTY_TRIES {
            next = next.wrapping_add(stored / 2);
        }
        let missed = next.wrapping_sub(hands.next);
        hands.missed = hands.missed.wrapping_add(missed);
        self.log().add_missed(&self.own.seated, missed);
        self.move_on(hands, next)
    }

    fn try_borrow(&self) -> SysResult<Option<InPlace>> {
        let mut hands = self.turn()?;
        match self.log().borrow(hands.next)? {
            Ok((block, length)) => {
                let sequence = hands.next;
                hands.borrowed.push(sequence);
                self.move_on(&mut hands, sequence.wrapping_add(1))?;
                Ok(Some(InPlace { block, length, sequence }))
            }
            Err(Found::Retired) => {
                self.log().check_place(&self.own.seated)?;
                Err(Errno::EBADMSG)
            }
            Err(_) => {
                self.bells.found_nothing(&());
                Ok(None)
            }
        }
    }

    /// Ends a borrowing. `ECONNABORTED` if what was read may have been overwritten.
    pub(super) fn release(&self, sequence: u64) -> SysResult<()> {
        let mut hands = self.turn()?;
        if let Some(at) = hands.borrowed.iter().position(|borrowed| *borrowed == sequence) {
            hands.borrowed.remove(at);
        }
        let next = hands.next;
        self.move_on(&mut hands, next)
    }

    #[inline]
    fn move_on(&self, hands: &mut Hands, next: u64) -> SysResult<()> {
        hands.next = next;
        self.own.next.store(next, Ordering::Release); // pairs with the Acquire of the doorbell's helper
        let cursor = hands.borrowed.first().copied().unwrap_or(next);
        if cursor != hands.cursor {
            self.log().advance(&self.own.seated, hands.cursor, cursor)?;
            hands.cursor = cursor;
        }
        Ok(())
    }
}

impl Party for Subscription {
    fn member(&self) -> &Member {
        &self.log().member
    }

    fn bell(&self) -> SysResult<&Bell> {
        Ok(&self.log().control()?.subscribers_bell.0)
    }

    fn is_told_who_joins(&self) -> bool {
        true
    }

    fn tidy(&self) -> SysResult<()> {
        tidy(self.log())
    }

    fn pass_on(&self, in_vain: bool) {
        if in_vain && let Ok(bell) = self.bell() {
            bell.ring_all_if_called();
        }
    }

    /// What a publisher has called one for is there for the others, too, also if this one has it already.
    fn relay(&self) {
        if let Ok(bell) = self.bell() {
            bell.ring_all();
        }
    }

    /// Whoever was called may not have come to tell, also if it is another thread of this process.
    fn look_again(&self) -> Option<Duration> {
        Some(ASK_EVERY)
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None) // somebody may come and publish
    }

    fn explain(&self, error: Error) -> Error {
        explained(error)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.generation == fork::generation_in_handler() {
            self.log().leave_place(&self.own.seated);
        }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("address", &self.address()).field("lossy", &self.lossy).finish()
    }
}
