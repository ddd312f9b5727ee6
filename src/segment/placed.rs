//! Segments in memory that the caller brought: a range of a file that may hold other things as well.
//!
//! The range says by its first word what it is: 0, and all the rest too, is nothing yet; [`MAKING`] is one that somebody
//! makes, or was making when it died; [`MAGIC`] is a segment. Whoever makes one holds a lock of its open file description
//! on a byte of the file, which the kernel gives up when it dies, so that two who come at once agree on one. That byte and
//! those of the participants lie as far behind the usual ones as the range lies behind the file's first byte. A segment is
//! longer than it has such bytes, so no two that do not overlap share one.

use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::layout::{Header, MAGIC, PARTICIPANTS_MAX};
use super::member::{lock, open_anew};
use super::place::is_regular;
use super::{Plan, Segment, Shape, body_at, too_large};
use crate::error::{Error, Result};
use crate::sync_atomics::Ordering;
use crate::sys::SysResult;
use crate::sys::not_inherited::NotInherited;
use crate::sys::shared::Mapping;
use crate::sys::space::reserve;

const MAKING: u64 = u64::from_le_bytes(*b"wigwag\0?");
/// Two cache lines, which are fetched together.
const ALIGNMENT: u64 = 128;
/// Making takes no time, unless whoever does it is stopped.
const ROUNDS: u32 = 250;
const ROUND: Duration = Duration::from_millis(1);

impl Segment {
    /// Takes the segment in this range of a file, or makes it there if all the bytes that it needs are zero.
    pub(crate) fn place(address: &str, memory: BorrowedFd<'_>, range: Range<u64>, plan: &Plan<'_>) -> Result<Segment> {
        let fail = |errno| Error::new(errno, "place").on_text(address);
        let (room, start) = (room(memory, &range, &fail)?, range.start);
        let segment = |memory_of, shape| {
            let fd = duplicate(memory).map_err(fail)?;
            Ok(Segment { memory: memory_of, fd, shape, named: false, placed_at: Some(start) })
        };
        // Not the caller's description, whose locks would be those of all its copies.
        let locks = NotInherited::open(|| open_anew(memory)).map_err(fail)?;
        let locks = locks.fd().ok_or_else(|| fail(Errno::EBADF))?;
        let head = Mapping::of_range(memory, start, size_of::<Header>()).map_err(fail)?;
        let header: &Header = head.record(0).ok_or_else(|| fail(Errno::EINVAL))?;
        for _ in 0..ROUNDS {
            // Acquire pairs with the Release of whoever made it: who sees the magic sees what is behind it.
            match header.magic.load(Ordering::Acquire) {
                0 | MAKING => {}
                MAGIC => {
                    let shape = taken(&head, room, plan.kind, &fail)?;
                    let whole = Mapping::of_range(memory, start, shape.size).map_err(fail)?;
                    return segment(Arc::new(whole), shape);
                }
                _ => return Err(foreign(&fail)),
            }
            let byte = start + u64::from(PARTICIPANTS_MAX);
            match lock(locks, byte, libc::F_WRLCK) {
                Ok(()) => {
                    let made = made(memory, start, room, plan, &fail);
                    let _ = lock(locks, byte, libc::F_UNLCK); // explicitly: see `Member::leave`
                    if let Some((whole, shape)) = made? {
                        return segment(whole, shape);
                    }
                }
                Err(Errno::EAGAIN | Errno::EACCES) => std::thread::sleep(ROUND),
                Err(errno) => return Err(fail(errno)),
            }
        }
        Err(fail(Errno::EBUSY).because("another process is making it, and does not get on; try again, or end that one"))
    }

    /// Bytes of a segment with such a body in the caller's memory.
    pub(crate) fn placed_size_for(participants: u32, body: usize) -> usize {
        body_at(participants).saturating_add(body)
    }

    /// Where in the caller's file it lies; `None` if it has a file of its own.
    pub(crate) fn placed(&self) -> Option<Range<u64>> {
        self.placed_at.map(|start| start..start + self.shape.size as u64)
    }

    /// `ESTALE` once its place was cleared.
    pub(super) fn check_placed(&self) -> SysResult<()> {
        let header: &Header = self.memory.record(0).ok_or(Errno::EBADMSG)?;
        // Relaxed: a question about the past.
        if header.magic.load(Ordering::Relaxed) == MAGIC { Ok(()) } else { Err(Errno::ESTALE) }
    }
}

fn duplicate(fd: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    fd.try_clone_to_owned().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EMFILE)))
}

/// The range's length, in the file and aligned.
fn room(memory: BorrowedFd<'_>, range: &Range<u64>, fail: &dyn Fn(Errno) -> Error) -> Result<usize> {
    let status = fstat(memory).map_err(fail)?;
    if !is_regular(&status) {
        return Err(fail(Errno::ENODEV).because(
            "the descriptor is not that of shared memory; use that of a shm: or memfd: object, or of a file",
        ));
    }
    if !range.start.is_multiple_of(ALIGNMENT) {
        return Err(fail(Errno::EINVAL).because_found(format!("it can start at multiples of {ALIGNMENT} only")));
    }
    let size = u64::try_from(status.st_size).unwrap_or(0);
    if range.end > size {
        return Err(fail(Errno::EINVAL).because_found(format!(
            "the range ends at {}, and the memory at {size}; make the memory larger first",
            range.end
        )));
    }
    let room = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    if room < size_of::<Header>() { Err(too_small(room, size_of::<Header>(), fail)) } else { Ok(room) }
}

fn too_small(room: usize, needed: usize, fail: &dyn Fn(Errno) -> Error) -> Error {
    fail(Errno::EINVAL).because_found(format!("it takes {needed} bytes, and the range has {room}"))
}

fn foreign(fail: &dyn Fn(Errno) -> Error) -> Error {
    fail(Errno::EBADMSG).because("something else lies there; clear the range to zeros if that may go")
}

/// What is there already.
fn taken(head: &Mapping, room: usize, kind: u32, fail: &dyn Fn(Errno) -> Error) -> Result<Shape> {
    let shape = Shape::read(head, kind, fail)?;
    if shape.size > room { Err(too_small(room, shape.size, fail)) } else { Ok(shape) }
}

/// Makes one, with the lock held; `None` if somebody else was faster.
fn made(
    memory: BorrowedFd<'_>,
    start: u64,
    room: usize,
    plan: &Plan<'_>,
    fail: &dyn Fn(Errno) -> Error,
) -> Result<Option<(Arc<Mapping>, Shape)>> {
    let shape = Shape::of(plan, Segment::placed_size_for(plan.participants, plan.body));
    if shape.size > room {
        return Err(too_small(room, shape.size, fail));
    }
    reserve(memory, start, shape.size).map_err(|errno| match errno {
        Errno::ENOSPC | Errno::ENOMEM => fail(Errno::ENOSPC).because("there is no memory for the range"),
        Errno::EOPNOTSUPP => fail(Errno::ENOTSUP).because("its file system cannot reserve memory; use a tmpfs"),
        errno => too_large(fail(errno), errno),
    })?;
    let whole = Arc::new(Mapping::of_range(memory, start, shape.size).map_err(fail)?);
    let header: &Header = whole.record(0).ok_or_else(|| fail(Errno::EINVAL))?;
    // Relaxed: the lock orders those who make.
    match header.magic.load(Ordering::Relaxed) {
        MAGIC => return Ok(None),
        MAKING => whole.clear_behind(size_of_val(&header.magic)), // what somebody left who died in the middle
        _ if whole.is_clear() => {}
        _ => return Err(foreign(fail)),
    }
    header.magic.store(MAKING, Ordering::Relaxed);
    shape.furnish(&whole, plan).ok_or_else(|| fail(Errno::EINVAL))?;
    // Release pairs with the Acquire in `place`.
    header.magic.store(MAGIC, Ordering::Release);
    Ok(Some((whole, shape)))
}
