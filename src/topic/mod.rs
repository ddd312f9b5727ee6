//! Topics (`topic:name`): each message to every subscriber, in shared memory.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the API of a topic |
//! | `subscription.rs` | the API of a subscription |
//! | `held.rs` | messages written and read in place |
//! | `options.rs` | options and statistics |
//! | `log.rs` | how messages get memory and their place in the order, and how they go again |
//! | `places.rs` | how far subscribers have come, and what may be retired |
//! | `word.rs` | the words of both |
//! | `layout.rs` | what lies where |
//! | `doorbell.rs` | the descriptor to poll |
//!
//! docs/ALGORITHMS.md tells the whole in one place.

mod doorbell;
mod held;
mod layout;
mod log;
mod options;
mod places;
mod subscription;
mod word;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

pub use held::{TopicBorrowed, TopicReserved};
pub use options::{SubscribeOptions, TopicOptions, TopicParticipant, TopicReceived, TopicStatistics, TopicSubscriber};
pub use subscription::Subscription;

use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::lender::Lender;
use crate::segment::{Bell, Member, NO_ROOM, Party, Patience, Plan, Segment, Tag, WaitMode, look_around, since};
use crate::sys::SysResult;
use crate::sys::shared::Mapping;
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};
use layout::{Geometry, KIND};
use log::{Held, Log};
use word::{Seat, behind};

const ANONYMOUS: &str = "topic:";

/// Broadcast in shared memory: each message goes to every subscriber.
///
/// Named (`topic:prices`), or anonymous and inherited by children or passed as a descriptor. Many may publish; all
/// subscribers see all messages in one order, and those of one publisher in its order. A message lies in memory once,
/// whoever reads it, and publishing does nothing for each subscriber.
///
/// A subscriber is lossless (publishers wait for it, as long as their timeout and its limit allow) or lossy (nobody waits
/// for it, and it is told exactly how many messages it missed). One that dies holds up nobody for more than two seconds; a
/// publisher that dies or stops while it makes a message holds up nobody at all.
///
/// Publishing and receiving make no system call unless somebody sleeps. A child made by fork that uses the handle takes
/// part as itself. All methods may be called from several threads at once.
///
/// ```
/// use wigwag::{SubscribeOptions, Timeout, Topic, TopicOptions};
/// let topic = Topic::anonymous(TopicOptions::default())?;
/// let subscription = topic.subscribe(SubscribeOptions::default())?;
/// topic.publish(b"rain", Timeout::Forever)?;
/// let mut buffer = [0; 64];
/// let received = subscription.recv(&mut buffer, Timeout::Now)?;
/// assert_eq!((&buffer[..received.length], received.sequence), (&b"rain"[..], 1));
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Topic {
    object: Object,
    part: Arc<Part>,
    patience: Patience,
    wait: WaitMode,
}

/// What a topic and its subscriptions share: taking part ends with the last of them, although the helper of a doorbell
/// may hold on to the log a moment longer.
struct Part {
    log: Arc<Log>,
}

impl Drop for Part {
    fn drop(&mut self) {
        // A child that has not used the handle has no part in the topic, and none to give up.
        if self.log.member.is_settled() {
            self.log.member.leave();
        }
    }
}

impl Topic {
    /// Opens the topic of this name, or makes it. Never blocks.
    ///
    /// A plain name lies in `$WIGWAG_DIR` or `/dev/shm/wigwag-UID`, a name with a slash is a path on a tmpfs. What the
    /// topic is decides who makes it; those who come later get it as it is.
    ///
    /// # Errors
    /// `EINVAL` the options do not fit together; `ENOSPC` the memory is not free; `EACCES` the directory is somebody
    /// else's; `EBADMSG` there is something else under that name, or it is damaged; `EPROTO` it was made by an
    /// incompatible version; `EUSERS` it has no room for another participant; `EMFILE`, `ENFILE`.
    ///
    /// System calls: openat, fallocate, linkat, mmap, fcntl.
    pub fn open(address: &Address, options: TopicOptions) -> Result<Topic> {
        address.require(&[Scheme::Topic], "open")?;
        let options = options.with(address)?;
        let text = address.without_options().to_string();
        let geometry = plan(&options, &text)?;
        let fill = |memory: &Arc<Mapping>, body| geometry.fill(memory, body);
        let body = geometry.size().unwrap_or(usize::MAX);
        let plan = Plan { kind: KIND, participants: options.participants, body, mode: options.mode, fill: &fill };
        let (segment, _) = Segment::open_or_create(address, &plan)?;
        Topic::of(segment, text, &options)
    }

    /// Makes a topic without a name, for children and for those to whom its descriptor is passed. Never blocks. Nobody can
    /// change its size under its users.
    ///
    /// # Errors
    /// `EINVAL`, `ENOSPC`, `EMFILE`, `ENFILE` as [`Topic::open`].
    ///
    /// System calls: memfd_create, fallocate, mmap, fcntl.
    pub fn anonymous(options: TopicOptions) -> Result<Topic> {
        let options = options.check(ANONYMOUS)?;
        let geometry = plan(&options, ANONYMOUS)?;
        let fill = |memory: &Arc<Mapping>, body| geometry.fill(memory, body);
        let body = geometry.size().unwrap_or(usize::MAX);
        let plan = Plan { kind: KIND, participants: options.participants, body, mode: 0o600, fill: &fill };
        Topic::of(Segment::anonymous(ANONYMOUS, &plan)?, ANONYMOUS.into(), &options)
    }

    /// Takes part in a topic whose descriptor came from elsewhere. Never blocks. Of the options, only those of the handle
    /// count.
    ///
    /// # Errors
    /// `EBADMSG`, `EPROTO`, `EUSERS`, `EMFILE`, `ENFILE` as [`Topic::open`].
    ///
    /// System calls: mmap, fcntl.
    pub fn from_fd(fd: OwnedFd, options: TopicOptions) -> Result<Topic> {
        let options = options.check(ANONYMOUS)?;
        Topic::of(Segment::adopt(ANONYMOUS, fd, KIND)?, ANONYMOUS.into(), &options)
    }

    fn of(segment: Segment, address: String, options: &TopicOptions) -> Result<Topic> {
        let object = Object::new(address);
        let fail = |errno| join_error(object.error(errno, "open"));
        let log = Member::join(segment).and_then(Log::new).map_err(fail)?;
        let part = Arc::new(Part { log: Arc::new(log) });
        let topic = Topic { object, part, patience: Patience::new(options.wait), wait: options.wait };
        // What the dead hold is best taken back by those who come, as nobody else may ever have a reason to look.
        look_around(&topic)
            .and_then(|_| topic.log().ring_all())
            .map_err(|errno| explained(topic.object.error(errno, "open")))?;
        Ok(topic)
    }

    /// How many bytes of memory a topic with these options takes, all in all. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` the options do not fit together.
    pub fn size_for(options: &TopicOptions) -> Result<usize> {
        let options = options.clone().check(ANONYMOUS)?;
        let body = plan(&options, ANONYMOUS)?.size().unwrap_or(usize::MAX);
        Ok(Segment::size_for(options.participants, body))
    }

    /// Removes a topic's name; those who have it open keep it. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` there is none; `EBADMSG` it is something else, which is left.
    ///
    /// System calls: openat, mmap, unlinkat.
    pub fn remove(address: &Address) -> Result<()> {
        address.require(&[Scheme::Topic], "remove")?;
        Segment::remove(address, &[KIND])
    }

    /// Whether the name still stands for this topic. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` the name was removed: what is published from now on reaches only those who have the topic open.
    ///
    /// System call: fstat.
    pub fn check(&self) -> Result<()> {
        let checked = self.log().member.segment().check();
        checked.map_err(|errno| self.object.error(errno, "check").because("the name was removed; open it anew"))
    }

    /// Publishes a copy of these bytes; its sequence number. Waits while there is no room because a lossless subscriber
    /// has not come so far.
    ///
    /// # Errors
    /// `EMSGSIZE` it is larger than the topic's largest, which is the error's true size; `EAGAIN`, `ETIMEDOUT`,
    /// `ECANCELED` as everywhere, and nothing was published; `ESTALE` this handle was declared dead because its lock was
    /// closed; `EUSERS` this is a child made by fork, and the topic has no room for another participant; `EBADMSG` the topic is
    /// damaged.
    ///
    /// System call: futex, if somebody sleeps, or to sleep.
    #[inline]
    pub fn publish(&self, message: &[u8], timeout: Timeout) -> Result<u64> {
        let mut operation = self.object.operation("publish", timeout);
        let (me, held) = self.claim(message.len(), &mut operation)?;
        self.log().write(&held, 0, message);
        self.append(&held, me)
    }

    /// Publishes these messages one after the other, and waits as [`Topic::publish`] for each within one timeout; how many
    /// there was room for. Others may publish in between.
    ///
    /// # Errors
    /// As [`Topic::publish`], if it happens to the first; what happens to a later one is found by the next call, but for an
    /// interrupt hook's wish that the call end, which is met by ending.
    pub fn publish_batch(&self, messages: &[&[u8]], timeout: Timeout) -> Result<usize> {
        let mut operation = self.object.operation("publish", timeout);
        for (done, message) in messages.iter().enumerate() {
            let published = self.claim(message.len(), &mut operation).and_then(|(me, held)| {
                self.log().write(&held, 0, message);
                self.append(&held, me)
            });
            match published {
                Ok(_) => {}
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            }
        }
        Ok(messages.len())
    }

    /// Reserves room for a message of this many bytes, to be written in place and then published. Waits as
    /// [`Topic::publish`]. A message gets its place in the order when it is published, so nobody waits for one that is
    /// not.
    ///
    /// # Errors
    /// As [`Topic::publish`].
    ///
    /// ```
    /// # use wigwag::{Timeout, Topic, TopicOptions};
    /// let topic = Topic::anonymous(TopicOptions::default())?;
    /// let mut reserved = topic.reserve(5, Timeout::Forever)?;
    /// reserved.write(0, b"12345");
    /// assert_eq!(reserved.publish()?, 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn reserve(&self, length: usize, timeout: Timeout) -> Result<TopicReserved<'_>> {
        let (me, held) = self.claim(length, &mut self.object.operation("reserve", timeout))?;
        Ok(TopicReserved::new(Lender::Lent(self), me, held))
    }

    /// As [`Topic::reserve`], with a guard that keeps the topic open itself.
    ///
    /// # Errors
    /// As [`Topic::publish`].
    pub fn reserve_owned(self: &Arc<Topic>, length: usize, timeout: Timeout) -> Result<TopicReserved<'static>> {
        let (me, held) = self.claim(length, &mut self.object.operation("reserve", timeout))?;
        Ok(TopicReserved::new(Lender::Kept(self.clone()), me, held))
    }

    /// Subscribes: gets all that is published from now on, and as much of the history as asked for. Never blocks. The
    /// subscription keeps the topic open.
    ///
    /// # Errors
    /// `EUSERS` the topic has no room for another subscriber; `ESTALE`, `EBADMSG` as [`Topic::publish`].
    pub fn subscribe(&self, options: SubscribeOptions) -> Result<Subscription> {
        let fail = |errno| explained(self.object.error(errno, "subscribe"));
        let log = self.log();
        let take = || log.take_place(log.member.tag()?, &options);
        let mut taken = take().map_err(fail)?;
        if taken.is_none() {
            // Some may be in the hands of the dead.
            taken = log.member.ask().and_then(|()| look_around(self)).and_then(|_| take()).map_err(fail)?;
        }
        let (seated, first) = taken.ok_or_else(|| {
            let error = self.object.error(Errno::EUSERS, "subscribe");
            error.because("it has no room for another subscriber; close one, or make it with more subscribers")
        })?;
        Ok(Subscription::new(&self.part, self.object.address(), self.wait, seated, first))
    }

    /// What the topic has seen and who uses it. Never blocks.
    ///
    /// # Errors
    /// `EBADMSG` the topic is damaged; `ESTALE` as [`Topic::publish`].
    pub fn statistics(&self) -> Result<TopicStatistics> {
        self.read_statistics().map_err(|errno| explained(self.object.error(errno, "statistics")))
    }

    fn read_statistics(&self) -> SysResult<TopicStatistics> {
        let log = self.log();
        log.member.tag()?;
        let (mut peers, mut participants) = (Vec::new(), Vec::new());
        log.member.each(|peer| {
            let (is_self, pid, since) = (peer.is_self, peer.pid, peer.since);
            participants.push(TopicParticipant { is_self, pid, since });
            peers.push(peer);
        })?;
        let (skipped, reserved) = log.skipped_and_reserved();
        let (oldest, seen, sent) = (log.oldest()?, log.seen()?, log.frontier()?);
        let subscribers = seen.iter().filter_map(|seen| {
            let peer = peers.iter().find(|peer| peer.tag == seen.word.owner())?;
            Some(TopicSubscriber {
                is_self: peer.is_self,
                pid: peer.pid,
                since: since(seen.since)?,
                lossless: seen.word.seat() != Seat::Lossy,
                lag: behind(seen.cursor, sent).max(0).cast_unsigned(),
                missed: seen.missed,
                cut_off: seen.word.seat() == Seat::CutOff,
            })
        });
        Ok(TopicStatistics {
            sent,
            skipped,
            stored: behind(oldest, sent).max(0).cast_unsigned(),
            reserved,
            capacity: log.geometry.blocks as usize * log.geometry.block,
            largest: log.geometry.largest,
            depth: log.geometry.depth,
            bytes: log.member.segment().size(),
            subscribers: subscribers.collect(),
            participants,
        })
    }

    /// The largest message in bytes. Never blocks.
    pub fn largest(&self) -> usize {
        self.log().geometry.largest
    }

    /// Its address; `topic:` for one without a name.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads in calls of this handle with `ECANCELED`, now and later; returns when they have left.
    /// Subscriptions have their own.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }

    // --- what the calls are made of ---

    #[inline(always)]
    fn log(&self) -> &Log {
        &self.part.log
    }

    #[inline]
    fn claim(&self, length: usize, operation: &mut Operation<'_>) -> Result<(Tag, Held)> {
        let log = self.log();
        if length > log.geometry.largest {
            return Err(operation
                .error(Errno::EMSGSIZE)
                .because("the message is larger than the topic's largest; make the topic with a larger one")
                .with_true_size(log.geometry.largest));
        }
        match self.try_claim(length) {
            Ok(Some(claimed)) => Ok(claimed),
            Ok(None) => self.patience.wait(self, operation, || self.try_claim(length)),
            Err(errno) => Err(explained(operation.error(errno))),
        }
    }

    #[inline(always)]
    fn try_claim(&self, length: usize) -> SysResult<Option<(Tag, Held)>> {
        let log = self.log();
        let me = log.member.tag()?;
        Ok(log.claim(me, length, |sequence, needed| log.is_passed(sequence, needed))?.map(|held| (me, held)))
    }

    #[inline]
    fn append(&self, held: &Held, me: Tag) -> Result<u64> {
        let appended = self.log().append(held, me);
        appended.map(number).map_err(|errno| explained(self.object.error(errno, "publish")))
    }
}

/// The number of a message for users, who count from 1.
#[inline(always)]
fn number(sequence: u64) -> u64 {
    sequence.wrapping_add(1)
}

/// More blocks than can be looked at in a few microseconds.
const MANY_BLOCKS: u64 = 4096;

fn tidy(log: &Log) -> SysResult<()> {
    let freed = log.tidy_places();
    log.tidy(freed)
}

impl Party for Topic {
    fn member(&self) -> &Member {
        &self.log().member
    }

    fn bell(&self) -> SysResult<&Bell> {
        Ok(&self.log().control()?.publishers_bell.0)
    }

    fn is_told_who_joins(&self) -> bool {
        true
    }

    fn tidy(&self) -> SysResult<()> {
        tidy(self.log())
    }

    fn over(&self) -> SysResult<Option<(Errno, &'static str)>> {
        Ok(None) // who stands in the way may come on
    }

    fn explain(&self, error: Error) -> Error {
        explained(error)
    }

    /// Whoever was called for all subscribers may not have come; this publisher waits for all of them.
    fn before_sleep(&self) {
        if let Ok(control) = self.log().control() {
            control.subscribers_bell.0.ring_all();
        }
    }

    fn look_again(&self) -> Option<Duration> {
        self.log().look_again()
    }

    /// Where nothing can be retired, an attempt looks at all blocks.
    fn looks_long(&self) -> bool {
        self.log().geometry.blocks > MANY_BLOCKS
    }
}

fn plan(options: &TopicOptions, address: &str) -> Result<Geometry> {
    Geometry::of(options).map_err(|reason| Error::new(Errno::EINVAL, "open").on_text(address).because(reason))
}

fn join_error(error: Error) -> Error {
    if error.is(Errno::EUSERS) {
        error.because(NO_ROOM)
    } else if error.is(Errno::EBADMSG) {
        error.because("its layout contradicts itself: it is damaged; remove it")
    } else {
        error
    }
}

fn explained(error: Error) -> Error {
    if error.is(Errno::ESTALE) {
        error.because("this handle was declared dead, as its lock on the topic was closed; open the topic anew")
    } else if error.is(Errno::EBADMSG) {
        error.because("the topic holds what no user of it could have written: it is damaged; remove it")
    } else if error.is(Errno::EUSERS) {
        error.because("it has no room for this child's own part in it; close one, or make it with more participants")
    } else if error.is(Errno::ECONNABORTED) {
        error.because("it was stuck for longer than its limit while publishers waited, and was cut off; subscribe anew")
    } else if error.is(Errno::EPERM) {
        error.because("it belongs to the process that this one was forked from; subscribe anew")
    } else {
        error
    }
}

impl AsFd for Topic {
    /// The segment's descriptor, to be passed to another process for [`Topic::from_fd`]; not for polling.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.log().member.as_fd()
    }
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic")
            .field("address", &self.address())
            .field("largest", &self.log().geometry.largest)
            .finish()
    }
}
