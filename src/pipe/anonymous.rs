//! Anonymous pipe (`pipe:`): between a process and the children that inherit an end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

pub use super::stream::PIPE_ATOMIC;
use super::stream::{Direction, Stream};
use crate::error::{Error, Result};
use crate::limits::explain_descriptors;
use crate::timeout::Timeout;

const ADDRESS: &str = "pipe:";

/// How a pipe is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipeOptions {
    /// The bytes it can hold, rounded up by the kernel; 0 for the system's default (64 KiB as a rule).
    pub capacity: usize,
    /// Each write is a packet of 1 to [`PIPE_ATOMIC`] bytes, and each read takes one whole.
    pub packet: bool,
}

/// One end of an anonymous pipe.
///
/// A read of zero bytes is the end of the stream: every write end is closed, also by the death of its process. Nothing
/// to read yet is `EAGAIN` or `ETIMEDOUT`. Writing when no read end is left is `EPIPE`, and never SIGPIPE. Both ends are
/// closed on exec unless [`inherit`](Pipe::inherit) says otherwise; a child made by fork alone has both.
///
/// The timeouts rely on the non-blocking mode, which belongs to all that have an end in common by a fork. A program that
/// gets one in another way than by [`inherit`](Pipe::inherit) or [`into_fd`](Pipe::into_fd), and makes it block, makes it
/// block here too.
///
/// ```
/// use wigwag::{Pipe, PipeOptions, Timeout};
/// let (reader, writer) = Pipe::open(PipeOptions::default())?;
/// writer.write_all(b"Hello", Timeout::Now)?;
/// let mut buffer = [0; 100];
/// assert_eq!(reader.read(&mut buffer, Timeout::Now)?, 5);
/// drop(writer);
/// assert_eq!(reader.read(&mut buffer, Timeout::Now)?, 0, "the end");
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "pipe2")]
pub struct Pipe(Stream);

impl Pipe {
    /// Makes a pipe: its read end and its write end. Never blocks.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` no descriptor is left; `EPERM` the capacity is above what an unprivileged process may have.
    ///
    /// System calls: pipe2, fcntl(F_SETPIPE_SZ).
    pub fn open(options: PipeOptions) -> Result<(Pipe, Pipe)> {
        let mut flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        flags.set(OFlag::O_DIRECT, options.packet);
        let (reader, writer) =
            pipe2(flags).map_err(|errno| explain_descriptors(Error::new(errno, "pipe").on_text(ADDRESS)))?;
        let reader = Pipe(Stream::ours(ADDRESS, reader, Direction::Read, options.packet));
        let writer = Pipe(Stream::ours(ADDRESS, writer, Direction::Write, options.packet));
        if options.capacity != 0 {
            writer.set_capacity(options.capacity)?;
        }
        Ok((reader, writer))
    }

    /// Takes over one end that something else made, such as standard input; direction and packet mode are found out,
    /// and the descriptor's mode is left as it is. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` the descriptor is not a pipe's.
    pub fn from_fd(fd: OwnedFd) -> Result<Pipe> {
        Stream::adopt(ADDRESS, fd).map(Pipe)
    }

    /// Whether this end can be read from.
    pub fn is_reader(&self) -> bool {
        self.0.can_read()
    }

    /// Whether writes and reads are packets.
    pub fn is_in_packet_mode(&self) -> bool {
        self.0.is_in_packet_mode()
    }

    /// Reads what is there, at most the buffer's length; waits while nothing is. 0 is the end of the stream.
    ///
    /// # Errors
    /// `EBADF` this is the write end; `EINVAL` the buffer is empty; `EMSGSIZE` in packet mode the buffer has less than
    /// [`PIPE_ATOMIC`] bytes, so that a packet could be cut (nothing is taken); `EAGAIN`, `ETIMEDOUT`, `ECANCELED`.
    ///
    /// System call: read.
    #[inline]
    pub fn read(&self, buffer: &mut [u8], timeout: Timeout) -> Result<usize> {
        self.0.read(buffer, timeout)
    }

    /// Fills the buffer; waits until all of it has come.
    ///
    /// # Errors
    /// `EPIPE` the stream ended before; `EAGAIN`, `ETIMEDOUT`, `ECANCELED`; in all of these [`Error::done`] tells how
    /// many bytes the buffer holds. `EBADF` this is the write end; `ENOTSUP` the pipe is in packet mode.
    ///
    /// System call: read.
    pub fn read_exact(&self, buffer: &mut [u8], timeout: Timeout) -> Result<()> {
        self.0.read_exact(buffer, timeout)
    }

    /// Writes what fits; waits until something does. Up to [`PIPE_ATOMIC`] bytes are written whole or not at all.
    ///
    /// # Errors
    /// `EPIPE` no reader is left; `EBADF` this is the read end; `EMSGSIZE` longer than a packet, `EINVAL` an empty one;
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` with nothing written.
    ///
    /// System call: pwritev2 with RWF_NOSIGNAL, or write with SIGPIPE masked on kernels before 6.18.
    #[inline]
    pub fn write(&self, bytes: &[u8], timeout: Timeout) -> Result<usize> {
        self.0.write(bytes, timeout)
    }

    /// Writes all of it; waits as long as there is no room. Above [`PIPE_ATOMIC`] bytes other writers may come between.
    ///
    /// # Errors
    /// As [`Pipe::write`], where [`Error::done`] tells how many bytes were written.
    #[inline]
    pub fn write_all(&self, bytes: &[u8], timeout: Timeout) -> Result<()> {
        self.0.write_all(bytes, timeout)
    }

    /// Moves up to `length` bytes from this read end to a pipe, file or socket, without copying them through this
    /// process; waits until some can be moved. 0 is the end of the stream.
    ///
    /// # Errors
    /// `EINVAL` the other side cannot take part (a file opened for appending, the same pipe); `EPIPE` the other side has
    /// no reader left; `EBADF` this is the write end; `EFBIG` the file may not grow further (never SIGXFSZ); `EAGAIN`,
    /// `ETIMEDOUT`, `ECANCELED`.
    ///
    /// System call: splice.
    pub fn splice_to(&self, to: impl AsFd, length: usize, timeout: Timeout) -> Result<usize> {
        self.0.splice_to(to.as_fd(), length, timeout)
    }

    /// Moves up to `length` bytes from a pipe, file or socket into this write end, as [`Pipe::splice_to`]. 0 is the end
    /// of the input.
    pub fn splice_from(&self, from: impl AsFd, length: usize, timeout: Timeout) -> Result<usize> {
        self.0.splice_from(from.as_fd(), length, timeout)
    }

    /// Copies up to `length` bytes from this read end into the write end of another pipe and leaves them here to be
    /// read; waits until some can be copied. 0 is the end of the stream. Errors: as [`Pipe::splice_to`].
    ///
    /// System call: tee.
    pub fn tee(&self, to: &Pipe, length: usize, timeout: Timeout) -> Result<usize> {
        if !to.0.can_write() {
            return Err(Error::new(Errno::EBADF, "tee").on_text(ADDRESS).because("the target is a read end"));
        }
        self.0.tee(to.as_fd(), length, timeout)
    }

    /// The bytes that the pipe can hold. Never blocks. System call: fcntl(F_GETPIPE_SZ).
    pub fn capacity(&self) -> Result<usize> {
        self.0.capacity()
    }

    /// Sets the bytes that the pipe can hold, and returns what the kernel made of it. Never blocks.
    ///
    /// # Errors
    /// `EPERM` more than an unprivileged process may have; `EBUSY` more is waiting to be read; `EINVAL` 2 GiB or more.
    ///
    /// System call: fcntl(F_SETPIPE_SZ).
    pub fn set_capacity(&self, bytes: usize) -> Result<usize> {
        self.0.set_capacity(bytes)
    }

    /// Keeps this end open over exec, in blocking mode as programs expect of a pipe that they inherit. Never blocks.
    /// Not to be called while another thread uses this end. Other processes that have the end by a fork keep theirs as it is; a
    /// wait set or event loop that watches this one has to be told of it anew.
    ///
    /// System calls: open through /proc, dup3, fcntl(F_SETFD, F_SETFL).
    pub fn inherit(&self) -> Result<()> {
        self.0.share(true)
    }

    /// Gives up the object and keeps its descriptor, in blocking mode, closed on exec. Never blocks.
    pub fn into_fd(self) -> Result<OwnedFd> {
        self.0.share(false)?;
        Ok(self.0.into_fd())
    }

    /// Its address, `pipe:`.
    pub fn address(&self) -> &str {
        self.0.object.address()
    }

    /// Ends the waits of all threads on this end with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.0.object.end_waits();
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = if self.is_reader() { "reader" } else { "writer" };
        f.debug_struct("Pipe").field("end", &end).field("fd", &self.as_fd()).finish()
    }
}
