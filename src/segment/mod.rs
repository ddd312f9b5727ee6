//! Segments: memory that processes share, with a layout that says what it is and a list of who takes part.
//!
//! | file | holds |
//! | --- | --- |
//! | `layout.rs` | what lies where |
//! | `place.rs` | names and directories |
//! | `placed.rs` | segments inside memory that the caller brought |
//! | `member.rs` | joining, leaving, who is alive, and fencing those who are not |
//! | `identity.rs` | which process somebody is |
//! | `bell.rs` | sleeping and waking |
//! | `patience.rs` | how a call waits: spinning, sleeping, looking around for the dead |
//!
//! A named segment is filled while its file has no name, and then given one: nobody ever sees a half-made one, two who
//! create at once agree on one, and a crash on the way leaves nothing. All its memory is reserved before that, so a full
//! file system is `ENOSPC` on creation and never a SIGBUS later.

mod bell;
mod identity;
mod layout;
mod member;
mod patience;
mod place;
mod placed;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{FileStat, fstat};

pub(crate) use bell::{Bell, nanos};
pub(crate) use identity::namespace;
pub(crate) use member::{ASK_EVERY, CONSUMER, Member, PRODUCER, Peer, Standing, Tag, since};
pub use patience::WaitMode;
pub(crate) use patience::{Party, Patience, look_around};
pub(crate) use place::{own_path, path_of};

use crate::address::Address;
use crate::error::{Error, Result};
use crate::sync_atomics::Ordering;
use crate::sys::SysResult;
use crate::sys::shared::Mapping;
use crate::sys::space::reserve;
use layout::{Header, LAYOUT, MAGIC, PARTICIPANTS_AT, PARTICIPANTS_MAX, Participant, is_kind, kind_name};
use place::{Place, is_regular};

/// What a segment shall be, should it have to be made.
pub(crate) struct Plan<'a> {
    /// Which kind of body: no two kinds share a number.
    pub(crate) kind: u32,
    pub(crate) participants: u32,
    pub(crate) body: usize,
    pub(crate) mode: u32,
    /// Fills the body, which is all zeros and which nobody else sees yet.
    pub(crate) fill: &'a dyn Fn(&Arc<Mapping>, usize) -> Option<()>,
}

/// The shape of a segment: copied out of it once, and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    size: usize,
    participants: u32,
    body_at: usize,
    body_size: usize,
}

/// A mapped segment.
#[derive(Debug)]
pub(crate) struct Segment {
    memory: Arc<Mapping>,
    /// The description that users may pass on; liveness hangs on another one.
    fd: OwnedFd,
    shape: Shape,
    named: bool,
    /// Where it begins in the caller's file; `None` if the file is its own.
    placed_at: Option<u64>,
}

impl Segment {
    /// Opens the segment of this name, or makes it; whether it was made.
    pub(crate) fn open_or_create(address: &Address, plan: &Plan<'_>) -> Result<(Segment, bool)> {
        const OPERATION: &str = "open";
        let fail = |errno| Error::new(errno, OPERATION).on_text(address.to_string());
        let place = Place::of(address, OPERATION)?;
        // Each round fails only if somebody else removed or made the name meanwhile.
        for _ in 0..1000 {
            match place.open() {
                Ok(fd) => return Ok((Segment::from_file(fd, plan.kind, true, &fail)?, false)),
                Err(Errno::ENOENT) => {}
                Err(Errno::ELOOP) => return Err(fail(Errno::ELOOP).because("the name is a symbolic link; remove it")),
                Err(errno) => return Err(fail(errno)),
            }
            let fd = place.unnamed(plan.mode).map_err(|errno| match errno {
                Errno::EOPNOTSUPP | Errno::EISDIR => {
                    fail(Errno::ENOTSUP).because("this file system cannot make files without a name; use a tmpfs")
                }
                errno => fail(errno),
            })?;
            let segment = Segment::fill(fd, plan, true, &fail)?;
            match place.publish(&segment.fd) {
                Ok(()) => return Ok((segment, true)),
                Err(Errno::EEXIST) => {}
                Err(Errno::ENOENT) => return Err(fail(Errno::ENOENT).because("/proc is needed to name a segment")),
                Err(errno) => return Err(fail(errno)),
            }
        }
        Err(fail(Errno::EBUSY).because("others remove and make it all the time"))
    }

    /// Opens the segment of this name; `ENOENT` if there is none.
    pub(crate) fn existing(address: &Address, kind: u32) -> Result<Segment> {
        const OPERATION: &str = "open";
        let fail = |errno| Error::new(errno, OPERATION).on_text(address.to_string());
        let fd = Place::of(address, OPERATION)?.open().map_err(fail)?;
        Segment::from_file(fd, kind, true, &fail)
    }

    /// Makes a segment without a name, whose size nobody can change.
    pub(crate) fn anonymous(address: &str, plan: &Plan<'_>) -> Result<Segment> {
        let fail = |errno| Error::new(errno, "create").on_text(address);
        let fd = memfd_create(c"wigwag", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).map_err(fail)?;
        let segment = Segment::fill(fd, plan, false, &fail)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&segment.fd, FcntlArg::F_ADD_SEALS(seals)).map_err(fail)?;
        Ok(segment)
    }

    /// Takes over a segment's descriptor that came from a parent or a peer.
    pub(crate) fn adopt(address: &str, fd: OwnedFd, kind: u32) -> Result<Segment> {
        let fail = |errno| Error::new(errno, "adopt").on_text(address);
        Segment::from_file(fd, kind, false, &fail)
    }

    fn fill(fd: OwnedFd, plan: &Plan<'_>, named: bool, fail: &dyn Fn(Errno) -> Error) -> Result<Segment> {
        let size = Segment::size_for(plan.participants, plan.body);
        reserve(fd.as_fd(), 0, size).map_err(|errno| match errno {
            Errno::ENOSPC | Errno::ENOMEM => fail(Errno::ENOSPC).because_found(format!(
                "{size} bytes are not free on its file system; lower the capacity, or make room in /dev/shm"
            )),
            errno => too_large(fail(errno), errno),
        })?;
        let memory = Arc::new(Mapping::new(&fd, size).map_err(fail)?);
        let shape = Shape::of(plan, size);
        let header = shape.furnish(&memory, plan).ok_or_else(|| fail(Errno::EINVAL))?;
        // Relaxed: nobody else can see the segment before it has a name or its descriptor is passed, and those are
        // system calls, which order everything.
        header.magic.store(MAGIC, Ordering::Relaxed);
        Ok(Segment { memory, fd, shape, named, placed_at: None })
    }

    fn from_file(fd: OwnedFd, kind: u32, named: bool, fail: &dyn Fn(Errno) -> Error) -> Result<Segment> {
        let status: FileStat = fstat(&fd).map_err(fail)?;
        let size = usize::try_from(status.st_size).unwrap_or(0);
        if !is_regular(&status) || size < size_of::<Header>() {
            return Err(not_ours(fail));
        }
        let memory = Arc::new(Mapping::new(&fd, size).map_err(fail)?);
        let shape = Shape::read(&memory, kind, fail)?;
        if shape.size != size {
            return Err(damaged(fail));
        }
        Ok(Segment { memory, fd, shape, named, placed_at: None })
    }

    /// Bytes of a segment with such a body.
    pub(crate) fn size_for(participants: u32, body: usize) -> usize {
        body_at(participants).saturating_add(body).checked_next_multiple_of(4096).unwrap_or(usize::MAX)
    }

    pub(crate) fn memory(&self) -> &Arc<Mapping> {
        &self.memory
    }

    pub(crate) fn size(&self) -> usize {
        self.shape.size
    }

    /// How many can take part.
    pub(crate) fn participants(&self) -> u32 {
        self.shape.participants
    }

    /// Offset and length of the body.
    pub(crate) fn body(&self) -> (usize, usize) {
        (self.shape.body_at, self.shape.body_size)
    }

    /// The byte of its file that says of a participant that it is alive, counted from where such bytes begin.
    fn byte_of(&self, index: u32) -> u64 {
        self.placed_at.unwrap_or(0).saturating_add(u64::from(index))
    }

    /// `ESTALE` once its name has been removed, or given to another, or its place in the caller's memory cleared.
    pub(crate) fn check(&self) -> SysResult<()> {
        if self.placed_at.is_some() {
            return self.check_placed();
        }
        match fstat(&self.fd)?.st_nlink {
            0 if self.named => Err(Errno::ESTALE),
            _ => Ok(()),
        }
    }

    /// Removes the name of a segment of one of these kinds, also of a damaged one or of another version; those who have it open
    /// keep it.
    pub(crate) fn remove(address: &Address, kinds: &[u32]) -> Result<()> {
        const OPERATION: &str = "remove";
        let fail = |errno| Error::new(errno, OPERATION).on_text(address.to_string());
        let place = Place::of(address, OPERATION)?;
        let fd = place.open().map_err(fail)?;
        let memory = Mapping::new(&fd, size_of::<Header>()).map_err(fail)?;
        let length = fstat(&fd).map_err(fail)?.st_size;
        let whole = usize::try_from(length).is_ok_and(|length| length >= size_of::<Header>());
        // Relaxed throughout, as in `Shape::read`.
        let header = memory.record::<Header>(0).filter(|header| whole && header.magic.load(Ordering::Relaxed) == MAGIC);
        let Some(header) = header else {
            let error = fail(Errno::EBADMSG);
            return Err(error.because("it is not a segment of wigwag's; remove it by hand if it should go"));
        };
        let (layout, kind) = (header.layout.load(Ordering::Relaxed), header.kind.load(Ordering::Relaxed));
        if layout == LAYOUT && is_kind(kind) && !kinds.contains(&kind) {
            let text = format!("it is {}, which is left; remove it as what it is", kind_name(kind));
            return Err(fail(Errno::EBADMSG).because_found(text));
        }
        place.remove().map_err(fail)
    }
}

fn body_at(participants: u32) -> usize {
    let participants = participants.clamp(1, PARTICIPANTS_MAX);
    (PARTICIPANTS_AT + participants as usize * size_of::<Participant>()).next_multiple_of(128)
}

/// When nobody else can take part (EUSERS).
pub(crate) const NO_ROOM: &str = "as many handles are open as it has room for; close one, or remove it and make it with more \
     participants (?participants=, at most 256)";

/// Says what forbids files of that size.
fn too_large(error: Error, errno: Errno) -> Error {
    if errno != Errno::EFBIG {
        return error;
    }
    error.because("it is larger than RLIMIT_FSIZE allows a file; lower the capacity, or raise the limit (ulimit -f)")
}

fn not_ours(fail: &dyn Fn(Errno) -> Error) -> Error {
    fail(Errno::EBADMSG).because("it is not a segment of wigwag's; remove it, or use another name")
}

fn damaged(fail: &dyn Fn(Errno) -> Error) -> Error {
    fail(Errno::EBADMSG).because("its header contradicts itself: it is damaged; remove it")
}

impl Shape {
    /// That of a new one of this size.
    fn of(plan: &Plan<'_>, size: usize) -> Shape {
        let participants = plan.participants.clamp(1, PARTICIPANTS_MAX);
        Shape { size, participants, body_at: body_at(participants), body_size: plan.body }
    }

    /// Fills memory that is all zeros, but for the magic, which says that the rest is there.
    fn furnish<'a>(&self, memory: &'a Arc<Mapping>, plan: &Plan<'_>) -> Option<&'a Header> {
        let header: &Header = memory.record(0)?;
        // Relaxed throughout: nobody looks at this before the magic is there.
        header.layout.store(LAYOUT, Ordering::Relaxed);
        header.kind.store(plan.kind, Ordering::Relaxed);
        header.size.store(self.size as u64, Ordering::Relaxed);
        header.participants.store(self.participants, Ordering::Relaxed);
        header.participant_size.store(size_of::<Participant>() as u32, Ordering::Relaxed);
        header.body_at.store(self.body_at as u64, Ordering::Relaxed);
        header.body_size.store(self.body_size as u64, Ordering::Relaxed);
        (plan.fill)(memory, self.body_at)?;
        Some(header)
    }

    /// That of one that is there, of which at least the header is mapped.
    fn read(memory: &Mapping, kind: u32, fail: &dyn Fn(Errno) -> Error) -> Result<Shape> {
        let header: &Header = memory.record(0).ok_or_else(|| not_ours(fail))?;
        // Relaxed throughout: these were written before the segment could be seen. Each is read once.
        if header.magic.load(Ordering::Relaxed) != MAGIC {
            return Err(not_ours(fail));
        }
        let layout = header.layout.load(Ordering::Relaxed);
        if layout != LAYOUT {
            return Err(fail(Errno::EPROTO).because_found(format!(
                "it was made by another version of wigwag: its layout is {layout}, this library's is {LAYOUT}"
            )));
        }
        let found = header.kind.load(Ordering::Relaxed);
        if found != kind {
            let (found_name, name) = (kind_name(found), kind_name(kind));
            return Err(fail(Errno::EBADMSG).because_found(format!(
                "it holds another kind of object: {found_name} (kind {found}), expected {name} (kind {kind})"
            )));
        }
        let shape = Shape {
            size: usize::try_from(header.size.load(Ordering::Relaxed)).unwrap_or(0),
            participants: header.participants.load(Ordering::Relaxed),
            body_at: usize::try_from(header.body_at.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
            body_size: usize::try_from(header.body_size.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
        };
        let stride = header.participant_size.load(Ordering::Relaxed) as usize;
        if stride == size_of::<Participant>() && shape.is_consistent() { Ok(shape) } else { Err(damaged(fail)) }
    }

    fn is_consistent(&self) -> bool {
        let table_end = PARTICIPANTS_AT + self.participants as usize * size_of::<Participant>();
        (1..=PARTICIPANTS_MAX).contains(&self.participants)
            && self.body_at >= table_end
            && self.body_at.is_multiple_of(128)
            && self.body_at.checked_add(self.body_size).is_some_and(|end| end <= self.size)
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
