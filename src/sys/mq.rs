//! POSIX message queues.
//!
//! nix has these calls too, but drops the mode of a queue that is created with the default attributes, and wants each
//! descriptor in a type of its own that neither closes nor borrows it.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;

use super::shared::Places;
use super::{SysResult, check, direct};

/// What is set when a queue is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The most messages it holds.
    pub(crate) depth: libc::c_long,
    /// The largest message in bytes.
    pub(crate) size: libc::c_long,
}

/// mq_open; `name` has the slash. Without a shape, a queue that is created gets the defaults of the system.
pub(crate) fn open(name: &[u8], flags: libc::c_int, mode: libc::mode_t, shape: Option<Shape>) -> SysResult<OwnedFd> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let attributes = shape.map(|shape| {
        // SAFETY: plain data for which zeros are valid.
        let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
        attributes.mq_maxmsg = shape.depth as _;
        attributes.mq_msgsize = shape.size as _;
        attributes
    });
    let attributes = attributes.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `name` is a live C string, `attributes` NULL or a live local; both are only read, during the call. The
    // two further arguments are of the types that a call with O_CREAT takes, and ignored without.
    let fd = check(unsafe { libc::mq_open(name.as_ptr(), flags, mode, attributes) })?;
    // SAFETY: a descriptor that the kernel has just given to us alone (on Linux an mqd_t is one).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What keeps a call from waiting: its descriptor's mode, or a time that is past already, which the kernel has to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwaiting {
    ByMode,
    ByTime,
}

impl Unwaiting {
    #[inline]
    fn deadline(self) -> usize {
        static PAST: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        match self {
            Unwaiting::ByMode => 0,
            Unwaiting::ByTime => (&raw const PAST) as usize,
        }
    }
}

/// Not waiting has one errno, not one for each mode of the descriptor.
#[inline]
fn would_wait<T>(result: SysResult<T>) -> SysResult<T> {
    result.map_err(|errno| if errno == Errno::ETIMEDOUT { Errno::EAGAIN } else { errno })
}

/// mq_timedsend that never waits.
#[inline]
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8], priority: u32, how: Unwaiting) -> SysResult<()> {
    let (fd, start) = (fd.as_raw_fd() as usize, bytes.as_ptr() as usize);
    // SAFETY: the kernel only reads `bytes` and the time, during the call; anything that is no queue is refused.
    let sent =
        unsafe { direct::call6(libc::SYS_mq_timedsend, fd, start, bytes.len(), priority as usize, how.deadline(), 0) };
    would_wait(sent).map(drop)
}

/// mq_timedreceive that never waits; the size of the message and its priority.
#[inline]
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], how: Unwaiting) -> SysResult<(usize, u32)> {
    // SAFETY: the memory is `buffer`, borrowed exclusively.
    unsafe { receive_at(fd, buffer.as_mut_ptr(), buffer.len(), how) }
}

/// As [`receive`], into the spare room of a vector, which grows by the message; its priority.
pub(crate) fn receive_onto(fd: BorrowedFd<'_>, bytes: &mut Vec<u8>, how: Unwaiting) -> SysResult<u32> {
    let spare = bytes.spare_capacity_mut();
    // SAFETY: the memory is the spare room, borrowed exclusively, and is only written.
    let (size, priority) = unsafe { receive_at(fd, spare.as_mut_ptr().cast(), spare.len(), how) }?;
    // SAFETY: the kernel has initialised `size` bytes behind the present length, which is within the capacity.
    unsafe { bytes.set_len(bytes.len() + size) };
    Ok(priority)
}

/// As [`receive`], into a place in shared memory, from this offset on.
pub(crate) fn receive_in_place(
    fd: BorrowedFd<'_>,
    places: &Places,
    place: u64,
    skip: usize,
    how: Unwaiting,
) -> SysResult<(usize, u32)> {
    let (start, room) = places.span(place, skip);
    // SAFETY: all of it lies in the mapping that `places` keeps, which is reached through atomics and copies only.
    unsafe { receive_at(fd, start.as_ptr(), room, how) }
}

/// # Safety
/// `room` bytes at `start` must be the caller's to write; they need not be initialised.
#[inline]
unsafe fn receive_at(fd: BorrowedFd<'_>, start: *mut u8, room: usize, how: Unwaiting) -> SysResult<(usize, u32)> {
    let mut priority = 0u32;
    let (fd, start) = (fd.as_raw_fd() as usize, start as usize);
    // SAFETY: the kernel writes at most `room` bytes at `start`, which the caller answers for, and the priority into a
    // live local, both during the call; anything that is no queue is refused.
    let received = unsafe {
        direct::call6(libc::SYS_mq_timedreceive, fd, start, room, (&raw mut priority) as usize, how.deadline(), 0)
    };
    would_wait(received).map(|size| (size, priority))
}

/// mq_getattr: the shape, and how many messages are in the queue.
pub(crate) fn attributes(fd: BorrowedFd<'_>) -> SysResult<(Shape, libc::c_long)> {
    let mut attributes = MaybeUninit::<libc::mq_attr>::zeroed();
    // SAFETY: the kernel fills a live local of the right type, for which zeros are valid too.
    let attributes = unsafe {
        check(libc::mq_getattr(fd.as_raw_fd(), attributes.as_mut_ptr()))?;
        attributes.assume_init()
    };
    let shape = Shape { depth: attributes.mq_maxmsg as _, size: attributes.mq_msgsize as _ };
    Ok((shape, attributes.mq_curmsgs as _))
}

/// mq_notify with SIGEV_SIGNAL: a signal with a value, once, to this process. Called raw, as musl's bindings lack it.
pub(crate) fn notify(fd: BorrowedFd<'_>, signal: libc::c_int, value: libc::c_int) -> SysResult<()> {
    // SAFETY: a sigevent is plain data for which zeros are valid.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = signal;
    // A union of an int and a pointer in C: the int lies at its start, on big-endian machines too.
    // SAFETY: sival_int occupies the first bytes of the live sigev_value.
    unsafe { ptr::from_mut(&mut event.sigev_value).cast::<libc::c_int>().write(value) };
    // SAFETY: the kernel only reads the event, during the call.
    check(unsafe { libc::syscall(libc::SYS_mq_notify, fd.as_raw_fd(), &raw const event) }).map(drop)
}

/// mq_notify without an event: takes back the registration of this process, if there is one.
pub(crate) fn cancel_notify(fd: BorrowedFd<'_>) -> SysResult<()> {
    // SAFETY: NULL is how the call is told so.
    check(unsafe { libc::syscall(libc::SYS_mq_notify, fd.as_raw_fd(), ptr::null::<libc::sigevent>()) }).map(drop)
}
