//! Rings (`ring:name`): messages through shared memory, each to one consumer.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the API |
//! | `held.rs` | messages written and read in place |
//! | `claim.rs` | how a sender comes to a slot |
//! | `batch.rs` | several messages in one call |
//! | `options.rs` | options and statistics |
//! | `many.rs` | the many-to-many ring: its lanes, and who takes part |
//! | `lane.rs` | how the slots of a lane change hands between many producers and many consumers |
//! | `room.rs` | room for messages that are longer than a slot |
//! | `waiting.rs` | how calls and doorbells wait |
//! | `explain.rs` | what callers can do about errors |
//! | `letters.rs` | dead letters |
//! | `books.rs` | what is counted, and how |
//! | `depth.rs` | the most messages that there were at once |
//! | `word.rs` | the state word of a slot |
//! | `layout.rs` | what lies where |
//! | `one.rs` | the API of the declared one-to-one ring |
//! | `one_end.rs` | what both its ends have |
//! | `one_send.rs`, `one_recv.rs` | what its producer and its consumer do to the log |
//! | `one_held.rs` | its messages written and read in place |
//! | `one_bell.rs` | its doorbells |
//! | `one_layout.rs` | what lies where in it |
//!
//! docs/ALGORITHMS.md tells the whole in one place.

mod batch;
mod books;
mod claim;
mod depth;
mod explain;
mod held;
mod lane;
mod layout;
mod letters;
mod many;
mod one;
mod one_bell;
mod one_end;
mod one_held;
mod one_layout;
mod one_recv;
mod one_send;
mod options;
mod room;
mod waiting;
mod word;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

pub use held::{RingBorrowed, RingReserved};
pub use one::{RingConsumer, RingProducer, RingWaits};
pub use one_held::{RingConsumerBorrowed, RingProducerReserved};
pub use options::{RingFull, RingOptions, RingParticipant, RingRole, RingStatistics};

use crate::address::{Address, Scheme};
use crate::doorbell::Doorbells;
use crate::error::{Error, Result};
use crate::lender::Lender;
use crate::segment::{CONSUMER, Member, Patience, Plan, Segment, Tag};
use crate::sync_atomics::{AtomicU32, Ordering};
use crate::sys::shared::Mapping;
use crate::sys::{SysResult, fork};
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};
use explain::{damaged, fenced, join_error, no_lane};
use lane::{Held, Lane, Taken};
use layout::{Geometry, KIND, SLOT};
use many::Many;
use waiting::{Side, Wanted};
use word::{Phase, Word};

const ANONYMOUS: &str = "ring:";
const ROLE_BITS: u32 = 2;

/// What was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingReceived {
    /// Bytes.
    pub length: usize,
    /// How often this message has been taken, this time included: above 1, somebody took it before and died, or gave it
    /// back, and may have acted on it.
    pub deliveries: u32,
    /// The lane that it came by; 0 where there is one.
    pub lane: u32,
}

impl RingReceived {
    /// Whether somebody may have acted on this message before.
    pub fn is_redelivered(&self) -> bool {
        self.deliveries > 1
    }
}

/// A queue of messages in shared memory, for any number of producers and consumers; each message goes to one of them.
///
/// Named (`ring:jobs`), or anonymous and inherited by children or passed as a descriptor. A process killed at any
/// instruction hangs nobody and loses nothing that it had finished sending: a message that it was writing is skipped and
/// counted, one that it had taken and not released is delivered again, marked. A stopped one keeps what it holds, and
/// the others go on. Messages of one producer are first delivered in its order.
///
/// Sending and receiving make no system call unless somebody sleeps. A child made by fork that uses the handle takes part
/// as itself. All methods may be called from several threads at once.
///
/// ```
/// use wigwag::{Ring, RingOptions, Timeout};
/// let ring = Ring::anonymous(RingOptions::default())?;
/// ring.send(b"a job", Timeout::Forever)?;
/// let mut buffer = [0; 64];
/// let received = ring.recv(&mut buffer, Timeout::Forever)?;
/// assert_eq!(&buffer[..received.length], b"a job");
/// assert!(!received.is_redelivered());
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Ring {
    object: Object,
    many: Arc<Many>,
    full: RingFull,
    dead_letters: bool,
    lane: u32,
    patience: Patience,
    /// Roles taken on, to spare a look into shared memory, and above them the fork generation in which they were.
    roles: AtomicU32,
    bells: Doorbells<Wanted>,
}

impl Ring {
    /// Opens the ring of this name, or makes it. Never blocks.
    ///
    /// A plain name lies in `$WIGWAG_DIR` or `/dev/shm/wigwag-UID`, a name with a slash is a path on a tmpfs. What the
    /// ring is decides who makes it; those who come later get it as it is.
    ///
    /// # Errors
    /// `EINVAL` the options do not fit together; `ENOSPC` the capacity is not free; `EACCES` the directory is somebody
    /// else's; `EBADMSG` there is something else under that name, or it is damaged; `EPROTO` it was made by an
    /// incompatible version; `EUSERS` it has no room for another participant; `EMFILE`, `ENFILE`.
    ///
    /// System calls: openat, fallocate, linkat, mmap, fcntl.
    pub fn open(address: &Address, options: RingOptions) -> Result<Ring> {
        Ring::open_with_slots(address, options, SLOT)
    }

    /// As [`Ring::open`]; if it is made, with slots of so many bytes, a multiple of 64, where longer messages have room
    /// besides: for what is known to send messages that mostly fit into those.
    pub(crate) fn open_with_slots(address: &Address, options: RingOptions, slot: usize) -> Result<Ring> {
        address.require(&[Scheme::Ring], "open")?;
        let options = options.with(address)?;
        let text = address.without_options().to_string();
        let geometry = plan(&options, &text, slot)?;
        let fill = |memory: &Arc<Mapping>, body| geometry.fill(memory, body, &options);
        let body = geometry.size().unwrap_or(usize::MAX);
        let participants = options.participants;
        if options.lane >= geometry.lanes {
            // Only one that is there may have it.
            let error = no_lane(Error::new(Errno::EINVAL, "open").on_text(text.as_str()), geometry.lanes);
            let segment = Segment::existing(&address.without_options(), KIND)
                .map_err(|missing| if missing.is(Errno::ENOENT) { error } else { missing })?;
            return Ring::of(segment, text, &options);
        }
        let plan = Plan { kind: KIND, participants, body, mode: options.mode, fill: &fill };
        let (segment, _) = Segment::open_or_create(address, &plan)?;
        Ring::of(segment, text, &options)
    }

    /// As [`Ring::open`], for a ring that is there: `ENOENT` if it is not.
    pub(crate) fn existing(address: &Address, role: RingRole) -> Result<Ring> {
        let options = RingOptions { role, ..Default::default() }.with(address)?;
        Ring::of(Segment::existing(address, KIND)?, address.without_options().to_string(), &options)
    }

    /// Makes a ring without a name, for children and for those to whom its descriptor is passed. Never blocks. Nobody can
    /// change its size under its users.
    ///
    /// # Errors
    /// `EINVAL`, `ENOSPC`, `EMFILE`, `ENFILE` as [`Ring::open`].
    ///
    /// System calls: memfd_create, fallocate, mmap, fcntl.
    pub fn anonymous(options: RingOptions) -> Result<Ring> {
        let options = options.check(ANONYMOUS)?;
        let geometry = plan(&options, ANONYMOUS, SLOT)?;
        let fill = |memory: &Arc<Mapping>, body| geometry.fill(memory, body, &options);
        let body = geometry.size().unwrap_or(usize::MAX);
        let plan = Plan { kind: KIND, participants: options.participants, body, mode: 0o600, fill: &fill };
        Ring::of(Segment::anonymous(ANONYMOUS, &plan)?, ANONYMOUS.into(), &options)
    }

    /// Takes part in a ring whose descriptor came from elsewhere. Never blocks. Of the options, only those of the handle
    /// count.
    ///
    /// # Errors
    /// `EBADMSG`, `EPROTO`, `EUSERS`, `EMFILE`, `ENFILE` as [`Ring::open`].
    ///
    /// System calls: mmap, fcntl.
    pub fn from_fd(fd: OwnedFd, options: RingOptions) -> Result<Ring> {
        let options = options.check(ANONYMOUS)?;
        Ring::of(Segment::adopt(ANONYMOUS, fd, KIND)?, ANONYMOUS.into(), &options)
    }

    fn of(segment: Segment, address: String, options: &RingOptions) -> Result<Ring> {
        let object = Object::new(address);
        let fail = |errno| join_error(object.error(errno, "open"));
        let member = Member::join(segment).map_err(fail)?;
        let many = Arc::new(Many::new(member).map_err(fail)?);
        let (full, dead_letters, lane) = (options.full, options.dead_letters, options.lane);
        if lane >= many.geometry.lanes {
            return Err(no_lane(object.error(Errno::EINVAL, "open"), many.geometry.lanes));
        }
        let (patience, roles) = (Patience::new(options.wait), AtomicU32::new(0));
        let bells = Doorbells::default();
        let ring = Ring { object, many, full, dead_letters, lane, patience, roles, bells };
        ring.take_role(options.role.bits()).map_err(|errno| ring.object.error(errno, "open"))?;
        ring.announce_change();
        Ok(ring)
    }

    /// How many bytes of memory a ring with these options takes, all in all. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` the options do not fit together.
    pub fn size_for(options: &RingOptions) -> Result<usize> {
        let options = options.clone().check(ANONYMOUS)?;
        let body = plan(&options, ANONYMOUS, SLOT)?.size().unwrap_or(usize::MAX);
        Ok(Segment::size_for(options.participants, body))
    }

    /// Removes a ring's name; those who have it open keep it, and what it holds is gone with the last of them. Never
    /// blocks.
    ///
    /// # Errors
    /// `ENOENT` there is none; `EBADMSG` it is something else, which is left.
    ///
    /// System calls: openat, mmap, unlinkat.
    pub fn remove(address: &Address) -> Result<()> {
        address.require(&[Scheme::Ring], "remove")?;
        Segment::remove(address, &[KIND, one_layout::KIND])
    }

    /// Whether the name still stands for this ring. Never blocks.
    ///
    /// # Errors
    /// `ESTALE` the name was removed: what is sent from now on reaches only those who have the ring open.
    ///
    /// System call: fstat.
    pub fn check(&self) -> Result<()> {
        let checked = self.many.member.segment().check();
        checked.map_err(|errno| self.object.error(errno, "check").because("the name was removed; open it anew"))
    }

    /// Copies a message into the ring; waits while the ring is full, unless the handle's options say otherwise.
    ///
    /// # Errors
    /// `EMSGSIZE` it is larger than the ring's largest, which is the error's true size; `EPIPE` there is no room and the
    /// last consumer has gone (never with a persistent ring or [`RingFull::DropNewest`]); `ESTALE` this handle was declared dead because its lock was closed;
    /// `EBADMSG` the ring is damaged; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with nothing sent.
    ///
    /// System calls: futex, if somebody sleeps or it has to wait.
    #[inline]
    pub fn send(&self, message: &[u8], timeout: Timeout) -> Result<()> {
        self.send_in_lane(self.lane, message, timeout)
    }

    /// As [`Ring::send`], by this lane.
    ///
    /// # Errors
    /// As [`Ring::send`]; `EINVAL` there is no such lane.
    #[inline]
    pub fn send_in_lane(&self, lane: u32, message: &[u8], timeout: Timeout) -> Result<()> {
        self.send_by(lane, message.len(), timeout, |lane, held| lane.write(held, 0, message))
    }

    /// As [`Ring::send`], for a message of so many bytes that lies about in pieces: `fill` hands each over with where it goes,
    /// once there is room. It must not panic, which would leave the slot behind as one that is still being written.
    #[inline]
    pub(crate) fn send_in_pieces(
        &self,
        length: usize,
        timeout: Timeout,
        fill: impl FnOnce(&mut dyn FnMut(usize, &[u8])),
    ) -> Result<()> {
        self.send_by(self.lane, length, timeout, |lane, held| {
            fill(&mut |at, piece| lane.write(held, at, &piece[..piece.len().min(length.saturating_sub(at))]));
        })
    }

    #[inline(always)]
    fn send_by(&self, lane: u32, length: usize, timeout: Timeout, write: impl FnOnce(&Lane, &Held)) -> Result<()> {
        let mut operation = self.object.operation("send", timeout);
        let Some(held) = self.claim(&mut operation, lane, length)? else {
            self.drop_newest(1);
            return Ok(());
        };
        write(self.many.lane(held.lane), &held);
        self.commit(&held).map_err(|errno| fenced(operation.error(errno)))
    }

    /// Copies the next message out of the ring and is done with it; waits while there is none.
    ///
    /// # Errors
    /// `EMSGSIZE` the buffer is too small for it: its length is the error's true size, and it stays in the ring;
    /// `EPIPE` the ring is empty and the last producer has gone (never with a persistent ring); `ESTALE`, `EBADMSG` as
    /// [`Ring::send`]; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with nothing taken.
    ///
    /// System calls: futex, if somebody sleeps or it has to wait.
    #[inline]
    pub fn recv(&self, buffer: &mut [u8], timeout: Timeout) -> Result<RingReceived> {
        let mut operation = self.object.operation("recv", timeout);
        let held = self.take(&mut operation, buffer.len())?;
        let length = self.many.lane(held.lane).read(&held, 0, buffer);
        self.release(&held).map_err(|errno| fenced(operation.error(errno)))?;
        Ok(RingReceived { length, deliveries: held.deliveries, lane: held.lane })
    }

    /// Reserves room for a message of this many bytes, to be written in place and then committed; waits while the ring
    /// is full. Dropped without commit, it was never sent. Where the handle's options say that the newest message is to
    /// be dropped, a full ring is `EAGAIN` instead, as there is nothing yet to drop.
    ///
    /// # Errors
    /// As [`Ring::send`].
    ///
    /// System calls: futex, if it has to wait.
    pub fn reserve(&self, length: usize, timeout: Timeout) -> Result<RingReserved<'_>> {
        self.reserve_in_lane(self.lane, length, timeout)
    }

    /// As [`Ring::reserve`], by this lane.
    ///
    /// # Errors
    /// As [`Ring::reserve`]; `EINVAL` there is no such lane.
    pub fn reserve_in_lane(&self, lane: u32, length: usize, timeout: Timeout) -> Result<RingReserved<'_>> {
        Ok(RingReserved::new(Lender::Lent(self), self.reserve_held(lane, length, timeout)?))
    }

    /// As [`Ring::reserve`], with a guard that keeps the ring open itself.
    ///
    /// # Errors
    /// As [`Ring::reserve`].
    pub fn reserve_owned(self: &Arc<Ring>, length: usize, timeout: Timeout) -> Result<RingReserved<'static>> {
        self.reserve_owned_in_lane(self.lane, length, timeout)
    }

    /// As [`Ring::reserve_owned`], by this lane.
    ///
    /// # Errors
    /// As [`Ring::reserve_in_lane`].
    pub fn reserve_owned_in_lane(
        self: &Arc<Ring>,
        lane: u32,
        length: usize,
        timeout: Timeout,
    ) -> Result<RingReserved<'static>> {
        Ok(RingReserved::new(Lender::Kept(self.clone()), self.reserve_held(lane, length, timeout)?))
    }

    fn reserve_held(&self, lane: u32, length: usize, timeout: Timeout) -> Result<Held> {
        let mut operation = self.object.operation("reserve", timeout);
        match self.claim(&mut operation, lane, length)? {
            Some(held) => Ok(held),
            None => {
                Err(operation.error(Errno::EAGAIN).because("the ring is full, and there is no message yet to drop"))
            }
        }
    }

    /// Takes the next message, to be read in place and then released; waits while there is none. Dropped without
    /// release, it will be delivered again, marked. Several can be held, and released in any order.
    ///
    /// # Errors
    /// As [`Ring::recv`], without `EMSGSIZE`.
    ///
    /// System calls: futex, if it has to wait.
    pub fn borrow(&self, timeout: Timeout) -> Result<RingBorrowed<'_>> {
        Ok(RingBorrowed::new(Lender::Lent(self), self.borrow_held(timeout)?))
    }

    /// As [`Ring::borrow`], with a guard that keeps the ring open itself.
    ///
    /// # Errors
    /// As [`Ring::borrow`].
    pub fn borrow_owned(self: &Arc<Ring>, timeout: Timeout) -> Result<RingBorrowed<'static>> {
        Ok(RingBorrowed::new(Lender::Kept(self.clone()), self.borrow_held(timeout)?))
    }

    fn borrow_held(&self, timeout: Timeout) -> Result<Held> {
        let mut operation = self.object.operation("borrow", timeout);
        self.take(&mut operation, usize::MAX)
    }

    /// The largest message in bytes. Never blocks.
    pub fn largest(&self) -> usize {
        self.many.geometry.largest
    }

    /// The lane by which the handle sends where no other is named. Never blocks.
    pub fn lane(&self) -> u32 {
        self.lane
    }

    /// What the handle does when the ring is full. Never blocks.
    pub fn full(&self) -> RingFull {
        self.full
    }

    /// Whether the handle receives dead letters instead of messages. Never blocks.
    pub fn receives_dead_letters(&self) -> bool {
        self.dead_letters
    }

    /// Its address; `ring:` for one without a name.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads on this handle with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }

    /// Takes from the dead what they held, so that it can be received; how many messages others still hold. For who is the
    /// only consumer, and makes sure that those before it have let go.
    pub(crate) fn others_hold(&self) -> Result<usize> {
        let look = || {
            let many = &self.many;
            let me = many.member.tag()?;
            many.member.ask()?;
            many.member.bury(|| {
                many.tidy();
                Ok(())
            })?;
            let words = many.lanes.iter().flat_map(|lane| (0..lane.slots.count()).map(|slot| lane.load(slot)));
            let is_taken = |word: &Word| matches!(word.phase(), Phase::Reading | Phase::ReadingLate);
            Ok(words.filter(|word| is_taken(word) && word.owner() != me).count())
        };
        look().map_err(|errno| fenced(self.object.error(errno, "take over")))
    }

    // --- what the calls are made of ---

    #[inline]
    fn take(&self, operation: &mut Operation<'_>, room: usize) -> Result<Held> {
        let attempt = || {
            Ok(match self.try_take(room)? {
                Taken::Message(held) => Some(Ok(held)),
                Taken::TooLong(length) => Some(Err(length)),
                Taken::Nothing => None,
            })
        };
        let taken = match attempt() {
            Ok(Some(taken)) => taken,
            Ok(None) => {
                let taken = self.patience.wait(&self.side(self.wanted()), operation, attempt);
                if taken.is_err() {
                    self.bells.found_nothing(&self.wanted());
                }
                taken?
            }
            Err(errno) => return Err(damaged(fenced(operation.error(errno)))),
        };
        taken.map_err(|length| {
            // Whoever was woken for it leaves it to others.
            let control = &self.many.control;
            if self.dead_letters {
                control.letters_bell.0.ring()
            } else {
                control.consumers_bell.0.ring()
            }
            operation
                .error(Errno::EMSGSIZE)
                .because("the buffer is too small for the next message, which stays in the ring")
                .with_true_size(length)
        })
    }

    /// The next of what this handle receives, if there is one now.
    #[inline]
    fn try_take(&self, room: usize) -> SysResult<Taken> {
        if self.dead_letters {
            return self.many.take_letter(self.many.member.tag()?, room);
        }
        self.many.take(self.member_in(CONSUMER)?, room)
    }

    fn wanted(&self) -> Wanted {
        if self.dead_letters { Wanted::DeadLetter } else { Wanted::Message }
    }

    #[inline]
    fn commit(&self, held: &Held) -> SysResult<()> {
        self.many.lane(held.lane).commit(held)?;
        self.many.control.consumers_bell.0.ring();
        Ok(())
    }

    fn abort(&self, held: &Held) -> SysResult<()> {
        let lane = self.many.lane(held.lane);
        lane.abort(held)?;
        lane.ring_freed(held.length);
        Ok(())
    }

    #[inline]
    fn release(&self, held: &Held) -> SysResult<()> {
        let lane = self.many.lane(held.lane);
        lane.release(held)?;
        lane.ring_freed(held.length);
        Ok(())
    }

    /// The name to own things under, with this role.
    #[inline]
    fn member_in(&self, role: u32) -> SysResult<Tag> {
        let tag = self.many.member.tag()?;
        let roles = self.roles.load(Ordering::Relaxed);
        if roles & role == 0 || roles >> ROLE_BITS != fork::generation_in_handler() {
            self.take_role(role)?;
        }
        Ok(tag)
    }

    #[cold]
    fn take_role(&self, roles: u32) -> SysResult<()> {
        if roles != 0 {
            self.many.member.add_roles(roles)?;
            // What a child has inherited is not its own. Relaxed: a thread that reads an older value adds its role again.
            let known = self.roles.load(Ordering::Relaxed);
            let kept = if known >> ROLE_BITS == fork::generation_in_handler() {
                known
            } else {
                fork::generation_in_handler() << ROLE_BITS
            };
            self.roles.store(kept | roles, Ordering::Relaxed);
            // Also after joining in a child: those who sleep learn that there is somebody whose death could matter.
            self.announce_change();
        }
        Ok(())
    }

    fn side(&self, wanted: Wanted) -> Side<'_> {
        Side { many: &self.many, wanted, unsure: None }
    }

    /// Has everybody who sleeps look again who is there.
    fn announce_change(&self) {
        self.many.control.consumers_bell.0.ring_all();
        self.many.control.letters_bell.0.ring_all();
        for lane in &self.many.lanes {
            lane.ends.producers_bell.0.ring_all();
            lane.ends.room_bell.0.ring_all();
        }
    }
}

fn plan(options: &RingOptions, address: &str, slot: usize) -> Result<Geometry> {
    Geometry::of(options, slot).map_err(|reason| Error::new(Errno::EINVAL, "open").on_text(address).because(reason))
}

impl Drop for Ring {
    fn drop(&mut self) {
        let member = &self.many.member;
        // A child that has not used the handle has no part in the ring, and none to give up.
        if member.is_settled() {
            member.leave();
            self.announce_change(); // those who wait for the last of a kind look again
        }
    }
}

impl AsFd for Ring {
    /// The segment's descriptor, to be passed to another process for [`Ring::from_fd`]; not for polling.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.many.member.as_fd()
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("address", &self.address()).field("slots", &self.many.geometry.slots).finish()
    }
}
