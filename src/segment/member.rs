//! Taking part in a segment: joining it, leaving it, and telling who of the others is still alive.
//!
//! # What says "alive"
//! Each participant holds a lock of its open file description (F_OFD_SETLK) on one byte of the segment's file, far
//! behind its end, chosen by its index. The kernel gives the lock up with the last copy of that description, which is
//! when the process dies, however it dies; asking is one system call and works across pid namespaces. The description
//! is opened anew for this and shown to nobody, so passing on, duplicating or closing the segment's own descriptor, or
//! opening the segment twice, cannot touch it. Its one trap, that a child made by fork keeps a copy, is closed twice:
//! children close theirs before fork returns in them (`sys::fork`), and where the process can be seen in /proc, a
//! participant whose process is gone is dead even if somebody still holds its lock (a child made by a bare clone call).
//!
//! # Who may do what
//! A participant's `state` holds an epoch and a phase, and moves only so, each time by compare-exchange:
//!
//! ```text
//! FREE(e) → JOINING(e+1)   by who holds the byte's lock; from any other phase too, should there be no free place
//! JOINING(e) → ALIVE(e)    by the same
//! ALIVE(e) → FREE(e)       by the participant, when it leaves with nothing in hand
//! JOINING(e), ALIVE(e) → DEAD(e)   by anybody who asked the kernel and found the lock free
//! DEAD(e) → FREE(e)        by anybody who has then looked through the whole body and left nothing in the dead's name
//! ```
//!
//! Words in the body name an owner by a [`Tag`], index and low bits of the epoch. A tag counts only while the state says
//! ALIVE in that epoch. So a process that was declared dead by mistake owns nothing any more: it fails its own next
//! compare-exchange, and finds the reason in its own state.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;

use super::Segment;
use super::identity::{Identity, namespace};
use super::layout::{Header, PARTICIPANTS_AT, Participant};
use crate::sync_atomics::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sys::SysResult;
use crate::sys::fork;
use crate::sys::not_inherited::NotInherited;
use crate::sys::shared::Kept;
use crate::timeout::{about_now, wall_clock};

/// Roles: what a participant does with the segment.
pub(crate) const PRODUCER: u32 = 1;
pub(crate) const CONSUMER: u32 = 2;

const FREE: u32 = 0;
const JOINING: u32 = 1;
const ALIVE: u32 = 2;
const DEAD: u32 = 3;

/// The first of the bytes that are locked: no file is ever that long. See `Segment::byte_of`.
const LOCKS_AT: u64 = 1 << 62;

/// How often a member asks for the liveness of others, at most.
pub(crate) const ASK_EVERY: Duration = Duration::from_secs(2);

/// An owner's name in a word of a segment's body: 8 bits of index, 13 bits of epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u32);

impl Tag {
    pub(crate) const BITS: u32 = 21;
    const INDEX_BITS: u32 = 8;

    fn new(index: u32, epoch: u32) -> Tag {
        Tag(((epoch << Self::INDEX_BITS) | index) & ((1 << Self::BITS) - 1))
    }

    /// From a word; any bits will do.
    pub(crate) fn from_bits(bits: u64) -> Tag {
        Tag(bits as u32 & ((1 << Self::BITS) - 1))
    }

    pub(crate) fn bits(self) -> u64 {
        u64::from(self.0)
    }

    pub(crate) fn index(self) -> u32 {
        self.0 & ((1 << Self::INDEX_BITS) - 1)
    }

    fn is_of(self, index: u32, state: u64) -> bool {
        let (epoch, phase) = split(state);
        phase == ALIVE && Tag::new(index, epoch) == self
    }
}

fn state(epoch: u32, phase: u32) -> u64 {
    u64::from(epoch) << 32 | u64::from(phase)
}

fn split(state: u64) -> (u32, u32) {
    ((state >> 32) as u32, state as u32)
}

/// A participant, as others see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) tag: Tag,
    pub(crate) is_self: bool,
    /// `None` if it lives in a pid namespace that the viewer cannot see.
    pub(crate) pid: Option<u32>,
    pub(crate) roles: u32,
    pub(crate) since: SystemTime,
    /// How many of its threads wait, and since when the first of them does.
    pub(crate) waiting: u32,
    pub(crate) waiting_since: Option<SystemTime>,
}

/// This handle's part in a segment.
#[derive(Debug)]
pub(crate) struct Member {
    segment: Segment,
    /// The description that holds the lock, in a box of its own, or null. Replaced in a child, which takes part as itself
    /// and leaks what it inherited, so that other threads may look at it without a lock: a lock that another thread
    /// of the parent held during fork would be held for ever.
    seat: AtomicPtr<NotInherited>,
    /// The generation, plus one, in which a thread is joining; one of another generation was left behind by fork.
    joining: AtomicU64,
    /// Index and state as of joining: `state >> 32 << 32 | index`. Valid while `generation` is current.
    place: AtomicU64,
    /// Its own state in the segment, which `segment` keeps mapped; null before it has first joined. Valid as `place` is.
    own_state: AtomicPtr<AtomicU64>,
    generation: AtomicU32,
    /// When others were last asked whether they live, in milliseconds of the monotonic clock.
    asked: AtomicU64,
}

impl Member {
    /// Joins a segment.
    pub(crate) fn join(segment: Segment) -> SysResult<Member> {
        let member = Member {
            segment,
            seat: AtomicPtr::new(ptr::null_mut()),
            joining: AtomicU64::new(0),
            place: AtomicU64::new(0),
            own_state: AtomicPtr::new(ptr::null_mut()),
            generation: AtomicU32::new(fork::generation().wrapping_sub(1)),
            asked: AtomicU64::new(0),
        };
        member.rejoin()?;
        Ok(member)
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// `ESTALE` once the segment was removed, or, in memory that the caller brought, cleared and made anew.
    pub(crate) fn check(&self) -> SysResult<()> {
        self.segment.check()?;
        if self.segment.placed().is_some() { self.tag().map(drop) } else { Ok(()) }
    }

    fn header(&self) -> SysResult<&Header> {
        self.segment.memory.record(0).ok_or(Errno::EBADMSG)
    }

    fn participant(&self, index: u32) -> SysResult<&Participant> {
        if index >= self.segment.shape.participants {
            return Err(Errno::EBADMSG);
        }
        let at = PARTICIPANTS_AT + index as usize * size_of::<Participant>();
        self.segment.memory.record(at).ok_or(Errno::EBADMSG)
    }

    /// The name under which this handle may own things now; joins first in a child that has inherited the handle.
    /// `ESTALE` if it was declared dead.
    #[inline]
    pub(crate) fn tag(&self) -> SysResult<Tag> {
        if self.generation.load(Ordering::Acquire) != fork::generation_in_handler() {
            self.rejoin()?;
        }
        let place = self.place.load(Ordering::Relaxed); // written before `generation`, whose Acquire is above
        let (epoch, index) = split(place);
        // SAFETY: set by `join_as` before the generation was, to a word of the segment that lives as long as `self` does.
        let own = unsafe { self.own_state.load(Ordering::Relaxed).as_ref() }.ok_or(Errno::ESTALE)?;
        // Relaxed: this is a convenience to the fenced, who learn the reason early; what fences them is that words no
        // longer name them.
        if own.load(Ordering::Relaxed) != state(epoch, ALIVE) {
            return Err(Errno::ESTALE);
        }
        Ok(Tag::new(index, epoch))
    }

    /// Whether this process is the one that has joined: not a child that has inherited the handle and not used it.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        self.generation.load(Ordering::Acquire) == fork::generation_in_handler()
    }

    /// This member's standing, looked up once.
    pub(crate) fn standing(&self) -> SysResult<Standing> {
        self.tag()?;
        let (epoch, index) = split(self.place.load(Ordering::Relaxed));
        let at = PARTICIPANTS_AT + index as usize * size_of::<Participant>();
        let seat = Kept::new(&self.segment.memory, at).ok_or(Errno::EBADMSG)?;
        Ok(Standing { seat, alive: state(epoch, ALIVE), generation: self.generation.load(Ordering::Acquire) })
    }

    /// Gives up the part in the segment; nothing may be held any more.
    pub(crate) fn leave(&self) {
        let (epoch, index) = split(self.place.load(Ordering::Relaxed));
        if let Ok(participant) = self.participant(index) {
            // SeqCst: who rings after this is seen to have gone by who looks after setting a bell's bit. It also releases,
            // as in `bury`: whatever this member held, it has given back before.
            let _ = participant.state.compare_exchange(
                state(epoch, ALIVE),
                state(epoch, FREE),
                Ordering::SeqCst,
                Ordering::Relaxed,
            );
        }
        // Explicitly: a fork at this moment may copy the description that is about to be closed.
        if let Some(fd) = self.seat().and_then(NotInherited::fd) {
            let _ = lock(fd, self.segment.byte_of(index), libc::F_UNLCK);
        }
    }

    fn seat(&self) -> Option<&NotInherited> {
        // SAFETY: null, or a box that is freed only by `drop`, which has the member to itself.
        unsafe { self.seat.load(Ordering::Acquire).as_ref() }
    }

    #[cold]
    #[inline(never)]
    fn rejoin(&self) -> SysResult<()> {
        let generation = fork::generation();
        let own = u64::from(generation) + 1;
        loop {
            if self.generation.load(Ordering::Acquire) == generation {
                return Ok(()); // another thread was faster
            }
            let other = self.joining.load(Ordering::Relaxed);
            if other == own {
                std::thread::yield_now();
            } else if self.joining.compare_exchange(other, own, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                break;
            }
        }
        let joined = self.join_as(generation);
        self.joining.store(0, Ordering::Release); // pairs with the Acquire above
        joined
    }

    fn join_as(&self, generation: u32) -> SysResult<()> {
        if self.generation.load(Ordering::Acquire) == generation {
            return Ok(());
        }
        let lock = NotInherited::open(|| open_anew(self.segment.fd.as_fd()))?;
        let fd = lock.fd().ok_or(Errno::EBADF)?;
        let seats = self.segment.shape.participants;
        for (index, taken_over) in (0..seats).map(|index| (index, false)).chain((0..seats).map(|index| (index, true))) {
            if let Some(epoch) = self.try_seat(fd, index, taken_over)? {
                if taken_over {
                    self.asked.store(0, Ordering::Relaxed); // the body may hold something of the dead: look soon
                }
                self.place.store(state(epoch, 0) | u64::from(index), Ordering::Relaxed);
                let own = ptr::from_ref(&self.participant(index)?.state).cast_mut();
                self.own_state.store(own, Ordering::Relaxed);
                self.seat.store(Box::into_raw(Box::new(lock)), Ordering::Release); // what was there is leaked, see `seat`
                // Release pairs with the Acquire in `tag`: who sees the generation sees the place.
                self.generation.store(generation, Ordering::Release);
                return Ok(());
            }
        }
        Err(Errno::EUSERS)
    }

    /// Joins under this index if it is free; the epoch. With `taken_over` also if whoever had it is dead: nobody may be
    /// left to bury it. What still lies in its name is not current, and goes with the next sweep.
    fn try_seat(&self, fd: BorrowedFd<'_>, index: u32, taken_over: bool) -> SysResult<Option<u32>> {
        let participant = self.participant(index)?;
        let found = participant.state.load(Ordering::Relaxed);
        if split(found).1 != FREE && !taken_over {
            return Ok(None);
        }
        match lock(fd, self.segment.byte_of(index), libc::F_WRLCK) {
            Ok(()) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        let epoch = split(found).0.wrapping_add(1);
        // Acquire pairs with the Release of whoever freed it: the body holds nothing in its former name. SeqCst, should it
        // be taken over: see `is_current`.
        if participant
            .state
            .compare_exchange(found, state(epoch, JOINING), Ordering::SeqCst, Ordering::Relaxed)
            .is_err()
        {
            let _ = lock(fd, self.segment.byte_of(index), libc::F_UNLCK); // goes with the description at the latest
            return Ok(None);
        }
        // Release pairs with the fence in `each`: who reads a field that is written from here on finds that the state changed.
        fence(Ordering::Release);
        let own = Identity::own();
        participant.pid.store(own.pid, Ordering::Relaxed);
        participant.roles.store(0, Ordering::Relaxed);
        participant.waiting.store(0, Ordering::Relaxed);
        participant.waiting_since.store(0, Ordering::Relaxed);
        participant.namespace.store(own.namespace, Ordering::Relaxed);
        participant.started.store(own.started, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        participant.since.store(since.as_secs(), Ordering::Relaxed);
        // SeqCst, before anything can be owned: who finds this member's tag in a word also finds its index in range.
        self.header()?.used.fetch_max(index + 1, Ordering::SeqCst);
        // Release: who reads ALIVE (Acquire in `each`) reads the fields above. SeqCst for `has_company`.
        let joined = participant.state.compare_exchange(
            state(epoch, JOINING),
            state(epoch, ALIVE),
            Ordering::SeqCst,
            Ordering::Relaxed,
        );
        match joined {
            Ok(_) => Ok(Some(epoch)),
            Err(_) => Err(Errno::ESTALE), // declared dead in between, which only a lost lock can cause
        }
    }

    /// How many indices have ever been in use, bounded by how many there are.
    fn used(&self) -> SysResult<u32> {
        // Relaxed: grows before an index is used (see `try_seat`); one too few is an index that joined just now.
        Ok(self.header()?.used.load(Ordering::Relaxed).min(self.segment.shape.participants))
    }

    /// Those who are alive as far as anybody knows, this member included.
    pub(crate) fn each(&self, mut visit: impl FnMut(Peer)) -> SysResult<()> {
        let own = (self.place.load(Ordering::Relaxed) as u32, namespace());
        for index in 0..self.used()? {
            let participant = self.participant(index)?;
            // Acquire pairs with the Release in `try_seat`.
            let state = participant.state.load(Ordering::Acquire);
            let (epoch, phase) = split(state);
            if phase != ALIVE {
                continue;
            }
            let visible = participant.namespace.load(Ordering::Relaxed) == own.1 && own.1 != 0;
            let waiting = participant.waiting.load(Ordering::Acquire); // pairs with the Release in `waiting`
            let began = if waiting > 0 { participant.waiting_since.load(Ordering::Relaxed) } else { 0 };
            let peer = Peer {
                tag: Tag::new(index, epoch),
                is_self: index == own.0,
                pid: visible.then(|| participant.pid.load(Ordering::Relaxed)),
                roles: participant.roles.load(Ordering::Relaxed),
                since: UNIX_EPOCH + Duration::from_secs(participant.since.load(Ordering::Relaxed).min(1 << 40)),
                waiting,
                waiting_since: since(began),
            };
            // Pairs with the fence in `try_seat`: if any field was a successor's, so is the state.
            fence(Ordering::Acquire);
            if participant.state.load(Ordering::Relaxed) == state {
                visit(peer);
            }
        }
        Ok(())
    }

    /// Whether a tag found in a word is that of somebody alive, as far as anybody knows.
    pub(crate) fn is_current(&self, tag: Tag) -> bool {
        let index = tag.index();
        // SeqCst: an owner's ALIVE was stored before its tag could be in a word that was read before this.
        self.participant(index).is_ok_and(|participant| tag.is_of(index, participant.state.load(Ordering::SeqCst)))
    }

    /// Tells others that a thread of this member waits, for as long as what it returns lives.
    pub(super) fn waiting(&self) -> SysResult<Option<Waiting<'_>>> {
        if !self.is_settled() {
            return Ok(None); // a child that has not joined has no place to say it
        }
        let participant = self.participant(self.place.load(Ordering::Relaxed) as u32)?;
        // Relaxed, here and in `drop`: for others to see, and nothing hangs on it; but since when comes before that (Release,
        // pairs with the Acquire in `each`), and stays when it is over, so that who is seen to wait does so since some time.
        let is_first = participant.waiting.load(Ordering::Relaxed) == 0;
        if is_first {
            participant.waiting_since.store(wall_clock(), Ordering::Relaxed);
        }
        if participant.waiting.fetch_add(1, Ordering::Release) == 0 && !is_first {
            participant.waiting_since.store(wall_clock(), Ordering::Relaxed); // the others have ended meanwhile
        }
        Ok(Some(Waiting { participant, generation: fork::generation_in_handler() }))
    }

    /// Takes on roles, seen by all from then on.
    pub(crate) fn add_roles(&self, roles: u32) -> SysResult<()> {
        let index = self.place.load(Ordering::Relaxed) as u32;
        // SeqCst, as the look at them in `has` and `ever`: nobody may see a message and miss who may have sent it.
        self.participant(index)?.roles.fetch_or(roles, Ordering::SeqCst);
        self.header()?.roles_seen.fetch_or(roles, Ordering::SeqCst);
        Ok(())
    }

    /// Whether anybody ever had this role, and whether nobody has it any more.
    pub(crate) fn is_role_over(&self, role: u32) -> SysResult<bool> {
        if self.header()?.roles_seen.load(Ordering::SeqCst) & role == 0 {
            return Ok(false);
        }
        for index in 0..self.used()? {
            let participant = self.participant(index)?;
            let (_, phase) = split(participant.state.load(Ordering::SeqCst));
            if phase == JOINING || phase == ALIVE && participant.roles.load(Ordering::SeqCst) & role != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether somebody else takes part, whose death could matter.
    pub(crate) fn has_company(&self) -> SysResult<bool> {
        let own = self.place.load(Ordering::Relaxed) as u32;
        for index in 0..self.used()? {
            // SeqCst: one who joins rings all bells after this; either it is seen here, or it finds the bell's bit.
            if index != own && split(self.participant(index)?.state.load(Ordering::SeqCst)).1 != FREE {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks the kernel about all others, unless this member did so less than `ASK_EVERY` ago; true if it asked.
    pub(crate) fn ask_if_due(&self) -> SysResult<bool> {
        let now = u64::try_from(about_now().as_millis()).unwrap_or(u64::MAX).max(1);
        let asked = self.asked.load(Ordering::Relaxed);
        if asked != 0 && now.saturating_sub(asked) < ASK_EVERY.as_millis() as u64 {
            return Ok(false);
        }
        self.asked.store(now, Ordering::Relaxed); // a thread that asks at the same time asks in vain, no more
        self.ask()?;
        Ok(true)
    }

    /// Asks the kernel about all others, and notes who is dead.
    pub(crate) fn ask(&self) -> SysResult<()> {
        self.tag()?;
        let Some(fd) = self.seat().and_then(NotInherited::fd) else { return Err(Errno::ESTALE) };
        let (own, own_namespace) = (self.place.load(Ordering::Relaxed) as u32, namespace());
        for index in 0..self.used()? {
            let participant = self.participant(index)?;
            let found = participant.state.load(Ordering::Acquire);
            let (epoch, phase) = split(found);
            if index == own || (phase != ALIVE && phase != JOINING) {
                continue;
            }
            let identity = Identity {
                pid: participant.pid.load(Ordering::Relaxed),
                namespace: participant.namespace.load(Ordering::Relaxed),
                started: participant.started.load(Ordering::Relaxed),
            };
            if !is_locked(fd, self.segment.byte_of(index))? || (phase == ALIVE && identity.is_gone(own_namespace)) {
                // Exact: if it left and somebody else joined meanwhile, the epoch differs. SeqCst: see `is_current`.
                let _ =
                    participant.state.compare_exchange(found, state(epoch, DEAD), Ordering::SeqCst, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Whether somebody is known to be dead whose traces are not all gone.
    pub(crate) fn has_dead(&self) -> SysResult<bool> {
        for index in 0..self.used()? {
            // Acquire pairs with the exchange that frees a place after what its owner held was given back.
            if split(self.participant(index)?.state.load(Ordering::Acquire)).1 == DEAD {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Runs `sweep`, which must leave nothing in the body in the name of anybody who is not current, and frees the
    /// places of those who were dead before it began.
    pub(crate) fn bury(&self, sweep: impl FnOnce() -> SysResult<()>) -> SysResult<()> {
        let mut dead = Vec::new();
        for index in 0..self.used()? {
            let found = self.participant(index)?.state.load(Ordering::SeqCst);
            if split(found).1 == DEAD {
                dead.push((index, found));
            }
        }
        sweep()?;
        for (index, found) in dead {
            // Release pairs with the Acquire in `try_seat`: the next to have the place finds the body swept. A failure
            // means that another sweeper was faster.
            let _ = self.participant(index)?.state.compare_exchange(
                found,
                state(split(found).0, FREE),
                Ordering::Release,
                Ordering::Relaxed,
            );
        }
        Ok(())
    }
}

/// See [`Member::waiting`].
pub(super) struct Waiting<'a> {
    participant: &'a Participant,
    generation: u32,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.generation != fork::generation_in_handler() {
            return; // a copy in a child
        }
        // Not below 0: should this member have been declared dead, the place may be another's, who counts anew.
        let _ = self
            .participant
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| waiting.checked_sub(1));
    }
}

/// From nanoseconds since 1970; `None` for 0.
pub(crate) fn since(wall_clock: u64) -> Option<SystemTime> {
    (wall_clock != 0).then(|| UNIX_EPOCH + Duration::from_nanos(wall_clock))
}

/// That of a member which a child does not take on by using the handle.
#[derive(Debug)]
pub(crate) struct Standing {
    seat: Kept<Participant>,
    alive: u64,
    generation: u32,
}

impl Standing {
    /// `EPERM` in a child that has inherited the handle, `ESTALE` for who was declared dead.
    #[inline(always)]
    pub(crate) fn check(&self) -> SysResult<()> {
        if self.generation != fork::generation_in_handler() {
            return Err(Errno::EPERM);
        }
        // Relaxed: see `tag`.
        if self.seat.state.load(Ordering::Relaxed) == self.alive { Ok(()) } else { Err(Errno::ESTALE) }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.is_settled() {
            self.leave();
        }
        let seat = *self.seat.get_mut();
        if !seat.is_null() {
            // SAFETY: came from Box::into_raw in `join_as`, and `&mut self` says that nobody looks at it any more. In a
            // child that has not joined it is a copy of the parent's, which knows that its descriptor is not the child's.
            drop(unsafe { Box::from_raw(seat) });
        }
    }
}

impl AsFd for Member {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }
}

/// Another open file description of the file.
pub(super) fn open_anew(file: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    open(path.as_str(), OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
}

fn one_byte(byte: u64, kind: libc::c_int) -> SysResult<libc::flock> {
    let start = LOCKS_AT.checked_add(byte).and_then(|start| libc::off_t::try_from(start).ok());
    Ok(libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start.ok_or(Errno::EOVERFLOW)?,
        l_len: 1,
        l_pid: 0,
    })
}

pub(super) fn lock(fd: BorrowedFd<'_>, byte: u64, kind: libc::c_int) -> SysResult<()> {
    fcntl(fd, FcntlArg::F_OFD_SETLK(&one_byte(byte, kind)?)).map(drop)
}

/// Whether another description holds the lock of this byte.
fn is_locked(fd: BorrowedFd<'_>, byte: u64) -> SysResult<bool> {
    let mut found = one_byte(byte, libc::F_WRLCK)?;
    fcntl(fd, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(found.l_type != libc::F_UNLCK as libc::c_short)
}
