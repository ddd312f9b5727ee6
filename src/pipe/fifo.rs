//! Named pipe (`fifo:/path`): a byte stream between processes that need not be related.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, SpliceFFlags, fcntl, tee};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, lstat};
use nix::unistd::{UnlinkatFlags, mkfifo, pipe2, unlinkat};

use super::stream::{Direction, Stream};
use crate::address::{Address, Scheme};
use crate::error::Result;
use crate::paths::{self, Found};
use crate::sys::SysResult;
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};

/// How to make or open a FIFO; all fields have the defaults that are said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FifoOptions {
    /// Make the FIFO if it is missing. By default that is `ENOENT`.
    pub create: bool,
    /// Permissions of a FIFO made here, set against the umask: the address's `mode=` if `None`, else 0600.
    pub mode: Option<u32>,
    /// A reader stays without an end of the stream while writers come and go, and need not wait for the first when
    /// opening; also by the address's `keep-open=1`. It takes the permission to write. A writer is not affected.
    pub keep_open: bool,
    /// The bytes it can hold, rounded up by the kernel: the address's `capacity=` if 0, else what it has already.
    pub capacity: usize,
}

/// One end of a named pipe.
///
/// A read of zero bytes is the end of the stream: every write end is closed, also by the death of its process; a later
/// writer starts it again, and a reader that was opened with `keep_open` never sees it. Writing when no read end is left
/// is `EPIPE`, and never SIGPIPE. Closed on exec. What nobody has read when the last end is closed is lost; the name
/// stays until [`Fifo::remove`].
///
/// ```
/// use wigwag::{Address, Fifo, FifoOptions, Timeout};
/// # let path = std::env::temp_dir().join(format!("wwtest-fifo-doc-{}", std::process::id()));
/// # let text = format!("fifo:{}", path.display());
/// let address: Address = text.parse()?;
/// let options = FifoOptions { create: true, keep_open: true, ..Default::default() };
/// let reader = Fifo::open_reader(&address, &options, Timeout::Now)?;
/// let writer = Fifo::open_writer(&address, &FifoOptions::default(), Timeout::Now)?; // as another process would
/// writer.write_all(b"Hello FIFO", Timeout::Now)?;
/// let mut buffer = [0; 100];
/// assert_eq!(reader.read(&mut buffer, Timeout::Forever)?, 10);
/// Fifo::remove(&address)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "mkfifo")]
pub struct Fifo(Stream);

impl Fifo {
    /// Makes the FIFO at `address`, a `fifo:` one, without opening it. Never blocks.
    ///
    /// # Errors
    /// `EEXIST` the name is taken, by a FIFO or something else; `ENOENT`, `ENOTDIR` no such directory; `EACCES`, `EROFS`,
    /// `ENOSPC`, `ENAMETOOLONG`; `EINVAL` an address or mode of another kind.
    ///
    /// System calls: mkfifo, fchmodat.
    pub fn create(address: &Address, options: &FifoOptions) -> Result<()> {
        let object = named(address, "create")?;
        let mode = mode(&object, address, options, "create")?;
        make(address.path(), mode).map_err(|errno| {
            let error = object.error(errno, "create");
            if errno == Errno::EEXIST {
                error.because("the name is taken already; open it, or remove it first")
            } else {
                paths::explain(error)
            }
        })
    }

    /// Removes the name at `address`; who has the FIFO open keeps it. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` no such FIFO; `ENOTSUP` it is something else, which is left alone; `EACCES`, `EPERM`, `EROFS`.
    ///
    /// System calls: lstat, unlinkat.
    #[doc(alias = "unlink")]
    pub fn remove(address: &Address) -> Result<()> {
        let object = named(address, "remove")?;
        let failed = |errno| paths::explain(object.error(errno, "remove"));
        require_fifo(&object, "remove", paths::kind(&lstat(address.path()).map_err(failed)?))?;
        unlinkat(AT_FDCWD, address.path(), UnlinkatFlags::NoRemoveDir).map_err(failed)
    }

    /// Opens the read end; waits until a writer has it open too, or has it waiting to be opened, as the kernel's `open`
    /// does, but at most `timeout`. What a writer left in it counts as a writer. With `keep_open` it waits for nothing.
    ///
    /// A writer that waits for a reader is let go as soon as this call has begun, also if it then runs out.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere: no writer came; `ENOENT` no such FIFO, and none is to be made;
    /// `ENOTSUP` it is something else, which is left untouched; `EACCES`; `EMFILE`; `EPERM` the capacity is above what an
    /// unprivileged process may have; `EINVAL` an address or mode of another kind.
    ///
    /// System calls: open with O_PATH, fstat, open through /proc; fcntl.
    pub fn open_reader(address: &Address, options: &FifoOptions, timeout: Timeout) -> Result<Fifo> {
        const NAME: &str = "open for reading";
        let object = named(address, NAME)?;
        let mut operation = object.operation(NAME, timeout);
        let found = find(&object, address, options, NAME)?;
        let fd = if options.keep_open || address.flag("keep-open") == Some(true) {
            // Linux lets a FIFO be opened for both: the reader's own write end is what keeps the stream from ending.
            found.open(address.path(), OFlag::O_RDWR | OFlag::O_NONBLOCK).map_err(|errno| {
                let error = operation.error(errno);
                if errno == Errno::EACCES {
                    error.because("keeping it open takes the permission to write, too")
                } else {
                    error
                }
            })?
        } else {
            wait_for_writer(&mut operation, &found, address.path(), timeout)?
        };
        Fifo::finish(object.address(), fd, Direction::Read, address, options)
    }

    /// Opens the write end; waits until a reader has it open too, as the kernel's `open` does, but at most `timeout`.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere: no reader came; otherwise as [`Fifo::open_reader`].
    ///
    /// System calls: open with O_PATH, fstat, open through /proc with and without O_NONBLOCK; fcntl.
    pub fn open_writer(address: &Address, options: &FifoOptions, timeout: Timeout) -> Result<Fifo> {
        const NAME: &str = "open for writing";
        let object = named(address, NAME)?;
        let mut operation = object.operation(NAME, timeout);
        let found = find(&object, address, options, NAME)?;
        let fd = operation.in_call(
            || match found.open(address.path(), OFlag::O_WRONLY | OFlag::O_NONBLOCK) {
                Err(Errno::ENXIO) => Err(Errno::EAGAIN), // no reader
                result => result,
            },
            |_| found.open(address.path(), OFlag::O_WRONLY),
        );
        let fd = fd.map_err(paths::explain)?;
        Fifo::finish(object.address(), fd, Direction::Write, address, options)
    }

    fn finish(name: &str, fd: OwnedFd, direction: Direction, address: &Address, options: &FifoOptions) -> Result<Fifo> {
        let stream = Stream::ours(name, fd, direction, false);
        let failed = |errno| stream.object.error(errno, "open");
        // The description is ours; it may have been opened in blocking mode, to wait.
        let flags = OFlag::from_bits_retain(fcntl(stream.as_fd(), FcntlArg::F_GETFL).map_err(failed)?);
        if !flags.contains(OFlag::O_NONBLOCK) {
            fcntl(stream.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map_err(failed)?;
        }
        let capacity = match options.capacity {
            0 => address.number("capacity").map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            bytes => bytes,
        };
        if capacity != 0 {
            stream.set_capacity(capacity)?;
        }
        Ok(Fifo(stream))
    }

    /// Takes over one end that something else opened; its direction is found out, its mode left as it is. Never blocks.
    ///
    /// # Errors
    /// `EINVAL` the descriptor is not a pipe's.
    pub fn from_fd(fd: OwnedFd) -> Result<Fifo> {
        Stream::adopt("fifo:(descriptor)", fd).map(Fifo)
    }

    /// Whether this end can be read from.
    pub fn is_reader(&self) -> bool {
        self.0.can_read()
    }

    /// Reads what is there, at most the buffer's length; waits while nothing is. 0 is the end of the stream.
    ///
    /// # Errors
    /// `EBADF` this is the write end; `EINVAL` the buffer is empty; `EAGAIN`, `ETIMEDOUT`, `ECANCELED`.
    ///
    /// System call: read.
    #[inline]
    pub fn read(&self, buffer: &mut [u8], timeout: Timeout) -> Result<usize> {
        self.0.read(buffer, timeout)
    }

    /// Fills the buffer; waits until all of it has come.
    ///
    /// # Errors
    /// `EPIPE` the stream ended before; `EAGAIN`, `ETIMEDOUT`, `ECANCELED`; in all of these
    /// [`Error::done`](crate::Error::done) tells how many bytes the buffer holds. `EBADF` this is the write end.
    ///
    /// System call: read.
    pub fn read_exact(&self, buffer: &mut [u8], timeout: Timeout) -> Result<()> {
        self.0.read_exact(buffer, timeout)
    }

    /// Writes what fits; waits until something does. Up to [`PIPE_ATOMIC`](crate::PIPE_ATOMIC) bytes are written whole
    /// or not at all, and not mixed with another writer's.
    ///
    /// # Errors
    /// `EPIPE` no reader is left; `EBADF` this is the read end; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` with nothing written.
    ///
    /// System call: pwritev2 with RWF_NOSIGNAL, or write with SIGPIPE masked on kernels before 6.18.
    #[inline]
    pub fn write(&self, bytes: &[u8], timeout: Timeout) -> Result<usize> {
        self.0.write(bytes, timeout)
    }

    /// Writes all of it; waits as long as there is no room. Above [`PIPE_ATOMIC`](crate::PIPE_ATOMIC) bytes other
    /// writers may come between.
    ///
    /// # Errors
    /// As [`Fifo::write`], where [`Error::done`](crate::Error::done) tells how many bytes were written.
    #[inline]
    pub fn write_all(&self, bytes: &[u8], timeout: Timeout) -> Result<()> {
        self.0.write_all(bytes, timeout)
    }

    /// The bytes that the FIFO can hold. Never blocks. System call: fcntl(F_GETPIPE_SZ).
    pub fn capacity(&self) -> Result<usize> {
        self.0.capacity()
    }

    /// Sets the bytes that the FIFO can hold, and returns what the kernel made of it. Never blocks.
    ///
    /// # Errors
    /// `EPERM` more than an unprivileged process may have; `EBUSY` more is waiting to be read; `EINVAL` 2 GiB or more.
    ///
    /// System call: fcntl(F_SETPIPE_SZ).
    pub fn set_capacity(&self, bytes: usize) -> Result<usize> {
        self.0.set_capacity(bytes)
    }

    /// Gives up the object and keeps its descriptor, in blocking mode, closed on exec. Never blocks. Other
    /// processes that have it by a fork keep theirs as it is.
    pub fn into_fd(self) -> Result<OwnedFd> {
        self.0.share(false)?;
        Ok(self.0.into_fd())
    }

    /// Its address, as given when it was opened, without options; `fifo:(descriptor)` if it was adopted.
    pub fn address(&self) -> &str {
        self.0.object.address()
    }

    /// Ends the waits of all threads on this end with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.0.object.end_waits();
    }
}

fn named(address: &Address, operation: &'static str) -> Result<Object> {
    address.require(&[Scheme::Fifo], operation)?;
    Ok(Object::new(address.without_options().to_string()))
}

fn mode(object: &Object, address: &Address, options: &FifoOptions, operation: &'static str) -> Result<Mode> {
    match options.mode.or(address.mode()).unwrap_or(0o600) {
        bits @ 0..=0o777 => Ok(Mode::from_bits_truncate(bits)),
        _ => Err(object.error(Errno::EINVAL, operation).because("mode must be permissions from 0 to 0777")),
    }
}

fn make(path: &Path, mode: Mode) -> SysResult<()> {
    mkfifo(path, mode)?;
    Found::exactly_at(path)?.give_mode(SFlag::S_IFIFO, mode)
}

fn require_fifo(object: &Object, operation: &'static str, kind: SFlag) -> Result<()> {
    if kind == SFlag::S_IFIFO {
        return Ok(());
    }
    Err(object
        .error(Errno::ENOTSUP, operation)
        .because_found(format!("it is {}, not a FIFO; it was left alone", paths::kind_name(kind))))
}

/// The FIFO at `address`, made if it is missing and that is wanted.
fn find(object: &Object, address: &Address, options: &FifoOptions, operation: &'static str) -> Result<Found> {
    let failed = |errno| paths::explain(object.error(errno, operation));
    let mode = mode(object, address, options, operation)?;
    let mut found = Found::at(address.path());
    // Each round has seen the FIFO come or go; a link that leads nowhere would do so for ever, hence the bound.
    for _ in 0..16 {
        match found {
            Err(Errno::ENOENT) if options.create => match make(address.path(), mode) {
                Ok(()) | Err(Errno::EEXIST | Errno::ENOENT) => found = Found::at(address.path()),
                Err(errno) => return Err(failed(errno)),
            },
            _ => break,
        }
    }
    let found = found.map_err(|errno| match errno {
        Errno::ENOENT => failed(errno).because("no such FIFO; have it created, or wait for whoever creates it"),
        errno => failed(errno),
    })?;
    require_fifo(object, operation, found.kind())?;
    Ok(found)
}

/// Opens the read end when a writer is there.
///
/// The waiting is the kernel's own, in `open`: only there is a writer noticed that comes, writes and leaves at once. A
/// try that does not wait has to open the read end to look, and to close it if nobody is there, which a writer that comes
/// in that moment meets as a broken pipe; so it is made only where there is no waiting, or no more.
fn wait_for_writer(operation: &mut Operation<'_>, found: &Found, path: &Path, timeout: Timeout) -> Result<OwnedFd> {
    let attempt = || loop {
        let opened = found.open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
        match has_writer(opened.as_fd()) {
            Ok(true) => return Ok(opened),
            Ok(false) => return Err(Errno::EAGAIN),
            Err(Errno::EINTR) => {} // poll looks for signals even when it does not wait
            Err(errno) => return Err(errno),
        }
    };
    let result = if timeout == Timeout::Now {
        attempt()
    } else {
        let waited = operation.wait().call(|_| found.open(path, OFlag::O_RDONLY));
        match waited {
            // A writer that is there counts, however late it is.
            Err(end @ (Errno::ECANCELED | Errno::ETIMEDOUT)) => attempt().map_err(|_| end),
            result => result,
        }
    };
    result.map_err(|errno| paths::explain(operation.error(errno)))
}

/// Whether a writer has the FIFO open, or has been there since `reader` was opened, or left something.
fn has_writer(reader: BorrowedFd<'_>) -> SysResult<bool> {
    // Bytes are POLLIN, a writer that came and went is POLLHUP; one that is there and silent, neither.
    if poll(&mut [PollFd::new(reader, PollFlags::POLLIN)], PollTimeout::ZERO)? != 0 {
        return Ok(true);
    }
    // Copying from an empty pipe gives EAGAIN as long as there are writers, and the end of the stream if not.
    let (_scratch, to) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    match tee(reader, to, 1, SpliceFFlags::SPLICE_F_NONBLOCK) {
        Ok(0) => Ok(false),
        Ok(_) | Err(Errno::EAGAIN) => Ok(true),
        Err(errno) => Err(errno),
    }
}

impl AsFd for Fifo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::fmt::Debug for Fifo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = if self.is_reader() { "reader" } else { "writer" };
        f.debug_struct("Fifo").field("address", &self.address()).field("end", &end).field("fd", &self.as_fd()).finish()
    }
}
