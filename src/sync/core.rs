//! What all of them have in common: a segment with a control record, a part in it, and how calls wait.

use std::ops::{Deref, Range};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use nix::errno::Errno;

use crate::address::Address;
use crate::error::{Error, Result};
use crate::segment::{Member, NO_ROOM, Party, Patience, Peer, Plan, Segment, WaitMode};
use crate::sys::SysResult;
use crate::sys::shared::{Kept, Mapping, Record};
use crate::wait::Object;

/// One kind of object.
pub(crate) trait Kind: Sized {
    /// What lies at the start of the body.
    type Control: Record;
    type Options;
    const NUMBER: u32;

    /// Fills in from the address what is default in the options.
    fn with(options: &mut Self::Options, address: &Address);

    /// What the options have in common with those of the other kinds. Says what is wrong with them.
    fn common(options: &Self::Options) -> std::result::Result<Common, &'static str>;

    /// Bytes of the body.
    fn size(options: &Self::Options, participants: u32) -> usize;

    /// Writes what is not zero into the control record of a new one.
    fn fill(options: &Self::Options, control: &Self::Control);

    fn of(core: Core<Self::Control>, options: &Self::Options) -> SysResult<Self>;
}

/// Options that all kinds have.
#[derive(Clone, Copy)]
pub(crate) struct Common {
    pub participants: u32,
    pub mode: u32,
    pub wait: WaitMode,
}

impl Common {
    pub fn check(mut self) -> std::result::Result<Common, &'static str> {
        const PARTICIPANTS_DEFAULT: u32 = 64;
        if self.participants > 256 {
            return Err("it has at most 256 participants");
        }
        if self.mode > 0o777 {
            return Err("the mode is permissions, octal 0 to 777");
        }
        if self.participants == 0 {
            self.participants = PARTICIPANTS_DEFAULT;
        }
        if self.mode == 0 {
            self.mode = 0o600;
        }
        Ok(self)
    }
}

pub(crate) struct Core<C> {
    pub object: Object,
    pub member: Member,
    pub control: Kept<C>,
    pub patience: Patience,
}

fn checked<K: Kind>(options: &K::Options, address: &str) -> Result<Common> {
    K::common(options).map_err(|reason| Error::new(Errno::EINVAL, "open").on_text(address).because(reason))
}

fn planned<K: Kind, T>(options: &K::Options, common: Common, make: impl FnOnce(&Plan<'_>) -> T) -> T {
    let fill = |memory: &Arc<Mapping>, body| memory.record::<K::Control>(body).map(|control| K::fill(options, control));
    let body = K::size(options, common.participants);
    make(&Plan { kind: K::NUMBER, participants: common.participants, body, mode: common.mode, fill: &fill })
}

pub(crate) fn open<K: Kind>(address: &Address, mut options: K::Options) -> Result<K> {
    K::with(&mut options, address);
    let text = address.without_options().to_string();
    let common = checked::<K>(&options, &text)?;
    let (segment, _) = planned::<K, _>(&options, common, |plan| Segment::open_or_create(address, plan))?;
    join::<K>(segment, text, &options, common)
}

/// Opens one that is there already.
pub(crate) fn existing<K: Kind>(address: &Address, mut options: K::Options) -> Result<K> {
    K::with(&mut options, address);
    let text = address.without_options().to_string();
    let common = checked::<K>(&options, &text)?;
    join::<K>(Segment::existing(&address.without_options(), K::NUMBER)?, text, &options, common)
}

pub(crate) fn anonymous<K: Kind>(scheme: &'static str, options: &K::Options) -> Result<K> {
    let common = checked::<K>(options, scheme)?;
    let segment = planned::<K, _>(options, common, |plan| Segment::anonymous(scheme, plan))?;
    join::<K>(segment, scheme.into(), options, common)
}

pub(crate) fn adopt<K: Kind>(scheme: &'static str, fd: OwnedFd, options: &K::Options) -> Result<K> {
    let common = checked::<K>(options, scheme)?;
    join::<K>(Segment::adopt(scheme, fd, K::NUMBER)?, scheme.into(), options, common)
}

/// In memory that the caller brought.
pub(crate) fn place<K: Kind>(
    scheme: &'static str,
    memory: BorrowedFd<'_>,
    range: Range<u64>,
    options: &K::Options,
) -> Result<K> {
    let common = checked::<K>(options, scheme)?;
    let address = format!("{scheme} at byte {}", range.start);
    let segment = planned::<K, _>(options, common, |plan| Segment::place(&address, memory, range, plan))?;
    join::<K>(segment, address, options, common)
}

pub(crate) fn placed_size_for<K: Kind>(scheme: &'static str, options: &K::Options) -> Result<usize> {
    let common = checked::<K>(options, scheme)?;
    Ok(Segment::placed_size_for(common.participants, K::size(options, common.participants)))
}

pub(crate) fn size_for<K: Kind>(scheme: &'static str, options: &K::Options) -> Result<usize> {
    let common = checked::<K>(options, scheme)?;
    Ok(Segment::size_for(common.participants, K::size(options, common.participants)))
}

fn join<K: Kind>(segment: Segment, address: String, options: &K::Options, common: Common) -> Result<K> {
    let object = Object::new(address);
    let address = Arc::clone(object.address());
    let fail = |errno| explained(Error::new(errno, "open").on(&address));
    let (body, length) = segment.body();
    let control = Kept::new(segment.memory(), body).filter(|_| length >= size_of::<K::Control>());
    let control = control.ok_or(Errno::EBADMSG).map_err(fail)?;
    let member = Member::join(segment).map_err(fail)?;
    K::of(Core { object, member, control, patience: Patience::new(common.wait) }, options).map_err(fail)
}

/// Adds what the caller can do about it.
pub(crate) fn explained(error: Error) -> Error {
    if error.is(Errno::ESTALE) {
        error.because("this handle was declared dead, as its lock on the file was closed; open it anew")
    } else if error.is(Errno::EBADMSG) {
        error.because("it holds what no user of it could have written: it is damaged; remove it")
    } else if error.is(Errno::EUSERS) {
        error.because(NO_ROOM)
    } else {
        error
    }
}

/// The same for a lock.
pub(crate) fn lock_explained(error: Error) -> Error {
    if error.is(Errno::EDEADLK) {
        error.because("this thread holds it already; release it first, or open a mutex as recursive")
    } else if error.is(Errno::ENOTRECOVERABLE) {
        error.because("it was given up for good by who took it over from the dead; remove it and make it anew")
    } else if error.is(Errno::EPERM) {
        error.because("this thread does not hold it; only the holder may do this")
    } else if error.is(Errno::EINVAL) {
        error.because("it was not taken over from the dead; there is nothing to make good")
    } else {
        explained(error)
    }
}

impl<C> Core<C> {
    #[cold]
    pub fn error(&self, errno: Errno, operation: &'static str) -> Error {
        explained(self.object.error(errno, operation))
    }

    #[cold]
    pub fn lock_error(&self, errno: Errno, operation: &'static str) -> Error {
        lock_explained(self.object.error(errno, operation))
    }

    /// Those who take part, and what each holds, as `holding` says.
    pub fn participants(
        &self,
        mut holding: impl FnMut(&Peer) -> (u64, Option<SystemTime>),
    ) -> SysResult<Vec<SyncParticipant>> {
        let mut participants = Vec::new();
        self.member.each(|peer| {
            let (holding, holding_since) = holding(&peer);
            participants.push(SyncParticipant {
                is_self: peer.is_self,
                pid: peer.pid,
                since: peer.since,
                holding,
                holding_since,
                waiting: peer.waiting,
                waiting_since: peer.waiting_since,
            });
        })?;
        Ok(participants)
    }
}

/// What a handle has of its core. The part in the segment ends with the handle: others may hold on to the core a moment
/// longer, and in a child the helper of a doorbell, which has no thread there, for ever.
pub(crate) struct Part<S: Party>(Arc<S>);

impl<S: Party> Part<S> {
    pub fn new(core: S) -> Part<S> {
        Part(Arc::new(core))
    }

    pub fn shared(&self) -> &Arc<S> {
        &self.0
    }
}

impl<S: Party> Deref for Part<S> {
    type Target = S;

    #[inline(always)]
    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S: Party> Drop for Part<S> {
    fn drop(&mut self) {
        // A child that has not used the handle has no part in it, and none to give up.
        if self.0.member().is_settled() {
            self.0.member().leave();
        }
    }
}

/// One handle on a lock or the like, of this or another process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncParticipant {
    /// The handle that was asked.
    pub is_self: bool,
    /// Its process; `None` if it lives in a pid namespace that this one cannot see.
    pub pid: Option<u32>,
    /// When it was opened, to the second.
    pub since: SystemTime,
    /// What it holds: 1 for a lock, permits for permits, read locks.
    pub holding: u64,
    /// Since when, at the latest: when somebody who had to wait first saw it. `None` while nobody had to.
    pub holding_since: Option<SystemTime>,
    /// How many of its threads wait.
    pub waiting: u32,
    /// Since when the first of them does.
    pub waiting_since: Option<SystemTime>,
}
