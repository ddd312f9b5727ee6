//! The byte stream that anonymous and named pipes share: one end, its direction, reading and writing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice, tee};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{FileStat, SFlag, fstat};

use crate::descriptor::Descriptor;
use crate::error::{Error, Result};
use crate::limits::setting;
use crate::paths;
use crate::sys::{SysResult, direct, file_size, nosigpipe};
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};

/// Writes of up to this many bytes are never torn and never mixed with another writer's (the kernel's PIPE_BUF).
pub const PIPE_ATOMIC: usize = libc::PIPE_BUF;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
    /// Only a FIFO kept open by its reader.
    Both,
}

/// One end of a pipe.
pub(crate) struct Stream {
    pub(super) object: Object,
    descriptor: Descriptor,
    direction: Direction,
    /// Each write is a packet and each read takes one (O_DIRECT).
    packets: bool,
}

impl Stream {
    /// One end of a pipe that we opened, in non-blocking mode.
    pub(super) fn ours(address: &str, fd: OwnedFd, direction: Direction, packets: bool) -> Stream {
        Stream { object: Object::new(address), descriptor: Descriptor::ours(fd), direction, packets }
    }

    /// One end of a pipe that something else opened; direction and packet mode are read from the description.
    pub(super) fn adopt(address: &str, fd: OwnedFd) -> Result<Stream> {
        let object = Object::new(address);
        let failed = |errno| object.error(errno, "adopt");
        if paths::kind(&fstat(&fd).map_err(failed)?) != SFlag::S_IFIFO {
            return Err(failed(Errno::EINVAL).because("the descriptor is not a pipe's"));
        }
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL).map_err(failed)?);
        let direction = match flags & OFlag::O_ACCMODE {
            OFlag::O_RDONLY => Direction::Read,
            OFlag::O_WRONLY => Direction::Write,
            _ => Direction::Both,
        };
        let packets = flags.contains(OFlag::O_DIRECT);
        Ok(Stream { object, descriptor: Descriptor::adopted(fd), direction, packets })
    }

    pub(super) fn can_read(&self) -> bool {
        self.direction != Direction::Write
    }

    pub(super) fn can_write(&self) -> bool {
        self.direction != Direction::Read
    }

    pub(super) fn is_in_packet_mode(&self) -> bool {
        self.packets
    }

    #[cold]
    fn wrong_end(&self, operation: &'static str) -> Error {
        let reason = if self.can_read() { "this is the read end" } else { "this is the write end" };
        self.object.error(Errno::EBADF, operation).because(reason)
    }

    #[inline]
    pub(super) fn read(&self, buffer: &mut [u8], timeout: Timeout) -> Result<usize> {
        if !self.can_read() {
            return Err(self.wrong_end("read"));
        }
        if buffer.is_empty() {
            return Err(self
                .object
                .error(Errno::EINVAL, "read")
                .because("a buffer of zero bytes could not tell data from the end of the stream"));
        }
        if self.packets && buffer.len() < PIPE_ATOMIC {
            return Err(self.object.error(Errno::EMSGSIZE, "read").with_true_size(PIPE_ATOMIC).because(
                "a packet may have 4096 bytes, and what a shorter read leaves is lost; give a buffer of 4096",
            ));
        }
        let mut operation = self.object.operation("read", timeout);
        self.read_some(&mut operation, buffer)
    }

    #[inline]
    fn read_some(&self, operation: &mut Operation<'_>, buffer: &mut [u8]) -> Result<usize> {
        operation.transfer(&self.descriptor, PollFlags::POLLIN, || direct::read(self.descriptor.as_fd(), buffer))
    }

    pub(super) fn read_exact(&self, buffer: &mut [u8], timeout: Timeout) -> Result<()> {
        if !self.can_read() {
            return Err(self.wrong_end("read"));
        }
        if self.packets {
            return Err(self
                .object
                .error(Errno::ENOTSUP, "read")
                .because("an exact length means nothing in packet mode: each read takes one packet"));
        }
        let mut operation = self.object.operation("read", timeout);
        let mut done = 0;
        while done < buffer.len() {
            match self.read_some(&mut operation, &mut buffer[done..]).map_err(|error| error.after(done))? {
                0 => {
                    let end = operation.error(Errno::EPIPE).after(done);
                    return Err(end.because("the stream ended before all bytes asked for had come"));
                }
                length => done += length,
            }
        }
        Ok(())
    }

    #[inline]
    pub(super) fn write(&self, bytes: &[u8], timeout: Timeout) -> Result<usize> {
        self.check_write(bytes)?;
        let mut operation = self.object.operation("write", timeout);
        self.write_some(&mut operation, bytes)
    }

    #[inline]
    pub(super) fn write_all(&self, bytes: &[u8], timeout: Timeout) -> Result<()> {
        self.check_write(bytes)?;
        let mut operation = self.object.operation("write", timeout);
        let mut done = 0;
        while done < bytes.len() {
            done += self.write_some(&mut operation, &bytes[done..]).map_err(|error| error.after(done))?;
        }
        Ok(())
    }

    #[inline]
    fn write_some(&self, operation: &mut Operation<'_>, bytes: &[u8]) -> Result<usize> {
        operation
            .transfer(&self.descriptor, PollFlags::POLLOUT, || nosigpipe::write(self.descriptor.as_fd(), bytes))
            .map_err(|error| if error.is(Errno::EPIPE) { error.because("no reader is left") } else { error })
    }

    #[inline]
    fn check_write(&self, bytes: &[u8]) -> Result<()> {
        if !self.can_write() {
            return Err(self.wrong_end("write"));
        }
        if self.packets && !(1..=PIPE_ATOMIC).contains(&bytes.len()) {
            return Err(self.not_a_packet(bytes.len()));
        }
        Ok(())
    }

    #[cold]
    fn not_a_packet(&self, length: usize) -> Error {
        if length == 0 {
            return self.object.error(Errno::EINVAL, "write").because("a pipe cannot carry an empty packet");
        }
        self.object
            .error(Errno::EMSGSIZE, "write")
            .with_true_size(length)
            .because_found(format!("a packet has at most {PIPE_ATOMIC} bytes, here are {length}; split it"))
    }

    /// Moves up to `length` bytes from this read end to `to` without copying them through user space.
    pub(super) fn splice_to(&self, to: BorrowedFd<'_>, length: usize, timeout: Timeout) -> Result<usize> {
        if !self.can_read() {
            return Err(self.wrong_end("splice"));
        }
        let operation = self.object.operation("splice", timeout);
        let attempt = || splice(self.as_fd(), None, to, None, length, SpliceFFlags::SPLICE_F_NONBLOCK);
        let limited = file_size::is_limited() && fstat(to).is_ok_and(|stat| paths::kind(&stat) == SFlag::S_IFREG);
        move_bytes(operation, self.as_fd(), to, may_block(to), length, || {
            if limited { file_size::masked(attempt) } else { attempt() }
        })
    }

    /// Moves up to `length` bytes from `from` into this write end without copying them through user space.
    pub(super) fn splice_from(&self, from: BorrowedFd<'_>, length: usize, timeout: Timeout) -> Result<usize> {
        if !self.can_write() {
            return Err(self.wrong_end("splice"));
        }
        let operation = self.object.operation("splice", timeout);
        move_bytes(operation, from, self.as_fd(), may_block(from), length, || {
            splice(from, None, self.as_fd(), None, length, SpliceFFlags::SPLICE_F_NONBLOCK)
        })
    }

    /// Copies up to `length` bytes into another pipe and leaves them here to be read.
    pub(super) fn tee(&self, to: BorrowedFd<'_>, length: usize, timeout: Timeout) -> Result<usize> {
        if !self.can_read() {
            return Err(self.wrong_end("tee"));
        }
        let operation = self.object.operation("tee", timeout);
        move_bytes(operation, self.as_fd(), to, false, length, || {
            tee(self.as_fd(), to, length, SpliceFFlags::SPLICE_F_NONBLOCK)
        })
    }

    /// The bytes that the pipe can hold.
    pub(super) fn capacity(&self) -> Result<usize> {
        let capacity = fcntl(&self.descriptor, FcntlArg::F_GETPIPE_SZ);
        let capacity = capacity.map_err(|errno| self.object.error(errno, "capacity"))?;
        Ok(capacity.unsigned_abs() as usize)
    }

    /// Sets it, and returns what the kernel made of it: the next power of two of pages.
    pub(super) fn set_capacity(&self, bytes: usize) -> Result<usize> {
        let failed = |errno| self.object.error(errno, "set capacity");
        let bytes = i32::try_from(bytes)
            .map_err(|_| failed(Errno::EINVAL).because("a pipe holds less than 2 GiB; ask for less"))?;
        fcntl(&self.descriptor, FcntlArg::F_SETPIPE_SZ(bytes)).map_err(|errno| match errno {
            Errno::EPERM => failed(errno).because_found(format!(
                "{bytes} bytes are more than an unprivileged process may have (fs.pipe-max-size={}); \
                     ask for less or raise the limit",
                setting("fs/pipe-max-size")
            )),
            Errno::EBUSY => failed(errno).because("more bytes than that are waiting in the pipe; read them first"),
            errno => failed(errno),
        })?;
        self.capacity()
    }

    /// Readies it for a program that knows nothing of this library.
    pub(super) fn share(&self, keep_on_exec: bool) -> Result<()> {
        self.descriptor.share_pipe(keep_on_exec).map_err(|errno| self.object.error(errno, "inherit"))
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.descriptor.into_owned()
    }
}

/// Repeats a splice or tee until something has moved, the input has ended (0), or the wait ends.
fn move_bytes(
    mut operation: Operation<'_>,
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    may_block: bool,
    length: usize,
    attempt: impl Fn() -> nix::Result<usize>,
) -> Result<usize> {
    if length == 0 {
        return Err(operation.error(Errno::EINVAL).because("zero bytes could not be told from the end of the input"));
    }
    let (input, output) = ((from, PollFlags::POLLIN), (to, PollFlags::POLLOUT));
    loop {
        // splice and tee raise SIGPIPE and know no flag against it.
        let result = if may_block {
            until_ready(&mut operation, input)?;
            until_ready(&mut operation, output)?;
            operation.interruptible(|| nosigpipe::masked(&attempt))
        } else {
            nosigpipe::masked(&attempt)
        };
        match result {
            Ok(length) => return Ok(length),
            Err(Errno::EINTR) if !may_block => {}
            Err(Errno::EAGAIN) if may_block && operation.timeout() == Timeout::Now => {
                return Err(operation.error(Errno::EAGAIN));
            }
            // Either the input is empty or the output is full: wait for the one that is not ready.
            Err(Errno::EAGAIN) => {
                until_ready(&mut operation, if is_ready(input).unwrap_or(true) { output } else { input })?
            }
            Err(Errno::EPIPE) => return Err(operation.error(Errno::EPIPE).because("no reader is left")),
            Err(Errno::EFBIG) => {
                let error = operation.error(Errno::EFBIG);
                return Err(match file_size::limit() {
                    Some(most) => error.because_found(format!(
                        "the process may not make files larger than {most} bytes (RLIMIT_FSIZE); nothing was taken"
                    )),
                    None => error.because("the file cannot grow further; nothing was taken"),
                });
            }
            Err(Errno::EINVAL) => {
                let error = operation.error(Errno::EINVAL);
                return Err(error.because(
                    "neither side may be opened for appending or be the same pipe, and the other side must be a pipe, \
                     a regular file or a socket",
                ));
            }
            Err(errno) => return Err(operation.error(errno)),
        }
    }
}

type Side<'a> = (BorrowedFd<'a>, PollFlags);

fn until_ready(operation: &mut Operation<'_>, side: Side<'_>) -> Result<()> {
    operation.until_ready(side.0, side.1, || if is_ready(side)? { Ok(()) } else { Err(Errno::EAGAIN) })
}

fn is_ready((fd, events): Side<'_>) -> SysResult<bool> {
    Ok(poll(&mut [PollFd::new(fd, events)], PollTimeout::ZERO)? != 0)
}

/// Whether splice may wait in the kernel for the side that is not ours: its flag against that is for pipes alone. What
/// cannot be looked at makes splice fail.
fn may_block(fd: BorrowedFd<'_>) -> bool {
    let waits = |flags| !OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK);
    let of_a_kind_that_does = |stat: FileStat| !matches!(paths::kind(&stat), SFlag::S_IFIFO | SFlag::S_IFREG);
    fcntl(fd, FcntlArg::F_GETFL).is_ok_and(waits) && fstat(fd).is_ok_and(of_a_kind_that_does)
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
