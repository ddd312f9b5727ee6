//! Disk file (`file:/path`): bytes that stay, replaced as a whole or appended record by record.
//!
//! What names a file works on its address: [`File::replace`], [`File::load`], [`File::until_exists`]. What must stay
//! with one and the same file, whatever happens to its name, works on an open [`File`]: appending, locking, mapping.

mod load;
mod lock;
mod map;
mod replace;
mod watch;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, fdatasync, ftruncate, unlinkat};

pub use lock::{FileLock, FileRange, LockMode};
pub use replace::{Durability, ReplaceOptions};
pub use watch::{FileEvents, FileWatch};

use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::paths::{self, Found};
use crate::sys::{self, SysResult};
use crate::timeout::Timeout;
use crate::wait::Object;

/// What a file is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileAccess {
    /// Reading, appending, and both kinds of locks.
    #[default]
    ReadWrite,
    /// Reading and shared locks.
    Read,
    /// Appending and exclusive locks, for files that may be written and not read.
    Append,
}

/// What to do about a file that is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileCreate {
    /// Fail with `ENOENT`.
    #[default]
    Never,
    /// Make an empty one.
    IfMissing,
    /// Make an empty one, and fail with `EEXIST` if it is not missing.
    Exclusively,
}

/// How to open a file; all fields have the defaults that their types say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// What for.
    pub access: FileAccess,
    /// What if it is missing.
    pub create: FileCreate,
    /// Permissions of a file made here, set against the umask: the address's `mode=` if `None`, else 0600.
    pub mode: Option<u32>,
}

/// The most that the kernel takes in one write: 2^31 less a page of 4 KiB.
const RECORD_MAX: usize = 0x7fff_f000;

/// An open disk file.
///
/// It stays with the file that was opened, also after the name has been given to another one by [`File::replace`] or
/// removed. May be used by several threads at once; a forked child may go on using it. Nothing is removed on drop.
///
/// ```
/// use wigwag::{Address, Durability, File, FileCreate, FileOptions, ReplaceOptions, Timeout};
/// # let directory = std::env::temp_dir().join(format!("wwtest-file-doc-{}", std::process::id()));
/// # std::fs::create_dir(&directory).unwrap();
/// # let text = |name: &str| format!("file:{}/{name}", directory.display());
/// let state: Address = text("state").parse()?;
/// File::replace(&state, b"all of it", &ReplaceOptions::default())?;
/// assert_eq!(File::load(&state, 4096)?, b"all of it");
///
/// let journal: Address = text("journal").parse()?;
/// let journal = File::open(&journal, &FileOptions { create: FileCreate::IfMissing, ..Default::default() })?;
/// journal.append(b"one record\n")?;
/// # std::fs::remove_dir_all(&directory).unwrap();
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct File {
    object: Object,
    fd: OwnedFd,
    /// Where it was opened; `None` for an adopted descriptor.
    path: Option<PathBuf>,
    flags: OFlag,
    /// Whether the process had a limit on file sizes when the file was opened: past one, a write raises SIGXFSZ. Asking
    /// each time would be a second system call for each record.
    size_is_limited: bool,
}

impl File {
    /// Opens the file at `address`, a `file:` one. Never blocks, other than for the disk.
    ///
    /// # Errors
    /// `ENOENT` no such file, and none is to be made; `EEXIST` with [`FileCreate::Exclusively`]; `EISDIR` a directory;
    /// `ENOTSUP` something else that is no regular file (a FIFO, a socket, a device), which is left untouched; `EACCES`,
    /// `EROFS`, `ENOSPC`, `EMFILE`, `ENAMETOOLONG` as from the kernel; `EINVAL` an address or option of another kind.
    ///
    /// System calls: open with O_PATH, fstat, open through /proc; for a new file open with O_EXCL and fchmod.
    pub fn open(address: &Address, options: &FileOptions) -> Result<File> {
        let (object, path) = named(address, "open")?;
        let mode = mode(options.mode.or(address.mode()), &object, "open")?;
        let flags = match options.access {
            FileAccess::ReadWrite => OFlag::O_RDWR | OFlag::O_APPEND,
            FileAccess::Read => OFlag::O_RDONLY,
            FileAccess::Append => OFlag::O_WRONLY | OFlag::O_APPEND,
        };
        let fd = open_or_create(&object, path, flags, options.create, mode)?;
        // Absolute, so that it leads to the same place after a chdir.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(File { object, fd, path: Some(path), flags, size_is_limited: sys::file_size::is_limited() })
    }

    /// Takes over a descriptor of a regular file (also a memfd) that something else opened. Never blocks.
    ///
    /// # Errors
    /// `EISDIR`, `ENOTSUP` it is no regular file.
    ///
    /// System calls: fstat, fcntl F_GETFL.
    pub fn from_fd(fd: OwnedFd) -> Result<File> {
        let object = Object::new("file:(descriptor)");
        let failed = |errno| object.error(errno, "from_fd");
        require_regular(&object, "from_fd", paths::kind(&fstat(&fd).map_err(failed)?))?;
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL).map_err(failed)?);
        Ok(File { object, fd, path: None, flags, size_is_limited: sys::file_size::is_limited() })
    }

    /// Removes the name at `address`; who has the file open keeps it. Never blocks, other than for the disk.
    ///
    /// # Errors
    /// `ENOENT` no such file; `EISDIR`, `ENOTSUP` no regular file, which is left alone; `EACCES`, `EPERM`, `EROFS`.
    ///
    /// System calls: fstatat, unlinkat.
    pub fn remove(address: &Address) -> Result<()> {
        let (object, path) = named(address, "remove")?;
        let failed = |errno| paths::explain(object.error(errno, "remove"));
        let stat = nix::sys::stat::lstat(path).map_err(failed)?;
        require_regular(&object, "remove", paths::kind(&stat))?;
        unlinkat(nix::fcntl::AT_FDCWD, path, UnlinkatFlags::NoRemoveDir).map_err(failed)
    }

    /// Appends `record` in one write: no other process that appends can come in between. Never blocks, other than for
    /// the disk.
    ///
    /// All or nothing as far as other processes and this one go; what can tear a record is the disk becoming full in the
    /// middle, a limit on file sizes, a SIGKILL or a power failure. The first two are reported, with the part that is in
    /// the file as [`Error::done`]: it is left there, since cutting it off could cut off what others have appended
    /// meanwhile. [`File::append_locked`] can take it back.
    ///
    /// # Errors
    /// `ENOSPC`, `EDQUOT` the disk or quota is full; `EFBIG` the file or the process may not grow further (never SIGXFSZ, if
    /// the process had its limit when it opened the file: who sets RLIMIT_FSIZE later ignores the signal, opens the file anew
    /// or appends by [`File::append_locked`]); `EMSGSIZE` more than 2147479552 bytes, with nothing written; `EBADF` not
    /// opened for appending; `EINVAL` adopted without O_APPEND; `EIO`.
    ///
    /// System call: write, on a description with O_APPEND.
    #[inline]
    pub fn append(&self, record: &[u8]) -> Result<()> {
        self.require_append("append")?;
        self.require_one_write("append", record)?;
        match self.write_once(record, self.size_is_limited) {
            Ok(written) if written == record.len() => Ok(()),
            Ok(written) => {
                let (errno, cause) = self.why_short();
                Err(self.short("append", errno, written, record.len(), "is left in the file", cause).after(written))
            }
            Err(errno) => Err(self.full(self.object.error(errno, "append"))),
        }
    }

    /// As [`File::append`] under an exclusive lock of the whole file, so that a record which did not fit is taken back:
    /// among processes that all append this way (or hold an exclusive lock), each record is there as a whole or not at
    /// all. Waits for the lock at most `timeout`.
    ///
    /// # Errors
    /// As [`File::append`], with nothing left in the file; as [`File::lock`].
    ///
    /// System calls: those of [`File::lock`], getrlimit, write, on failure ftruncate.
    pub fn append_locked(&self, record: &[u8], timeout: Timeout) -> Result<()> {
        const NAME: &str = "append_locked";
        self.require_append(NAME)?;
        self.require_one_write(NAME, record)?;
        // Kept to the end, so that nobody frees the file while it is written to.
        let mut operation = self.object.operation(NAME, timeout);
        let _lock = self.lock_in(&mut operation, LockMode::Exclusive, FileRange::WHOLE)?;
        let failed = |errno| self.full(self.object.error(errno, NAME));
        let before = fstat(&self.fd).map_err(failed)?.st_size;
        match self.write_once(record, sys::file_size::is_limited()) {
            Ok(written) if written == record.len() => Ok(()),
            Ok(written) => {
                let (errno, cause) = self.why_short();
                Err(match ftruncate(&self.fd, before) {
                    Ok(()) => self.short(NAME, errno, written, record.len(), "was taken back", cause),
                    Err(_) => {
                        self.short(NAME, errno, written, record.len(), "could not be taken back", cause).after(written)
                    }
                })
            }
            Err(errno) => Err(failed(errno)),
        }
    }

    fn require_append(&self, name: &'static str) -> Result<()> {
        if self.flags.contains(OFlag::O_APPEND) {
            return Ok(());
        }
        Err(if self.path.is_some() {
            self.object.error(Errno::EBADF, name).because("the file was opened for reading only; open it for appending")
        } else {
            self.object.error(Errno::EINVAL, name).because(
                "the adopted descriptor lacks O_APPEND, without which records of several processes overwrite each \
                 other; open the file by its address",
            )
        })
    }

    /// The kernel cuts what is longer, and that would look like a full disk.
    #[inline]
    fn require_one_write(&self, name: &'static str, record: &[u8]) -> Result<()> {
        if record.len() <= RECORD_MAX {
            return Ok(());
        }
        Err(self.object.error(Errno::EMSGSIZE, name).with_true_size(record.len()).because_found(format!(
            "a record of {} bytes is more than one write takes, {RECORD_MAX}; split it",
            record.len()
        )))
    }

    #[inline]
    fn write_once(&self, record: &[u8], size_is_limited: bool) -> SysResult<usize> {
        loop {
            match sys::file_size::write(self.fd.as_fd(), record, size_is_limited) {
                Err(Errno::EINTR) => {}
                result => return result,
            }
        }
    }

    /// Why only a part of a record went in. The kernel gives no reason with a short write; it is one of two.
    fn why_short(&self) -> (Errno, &'static str) {
        let size = fstat(&self.fd).ok().and_then(|stat| u64::try_from(stat.st_size).ok());
        match sys::file_size::limit() {
            Some(limit) if size.is_none_or(|size| size >= limit) => {
                (Errno::EFBIG, "the process may not make files larger (RLIMIT_FSIZE)")
            }
            _ => (Errno::ENOSPC, "the disk or quota is full"),
        }
    }

    fn short(&self, name: &'static str, errno: Errno, written: usize, length: usize, fate: &str, cause: &str) -> Error {
        let text = format!("{written} of {length} bytes fitted, the part {fate}: {cause}; make room and append again");
        self.object.error(errno, name).because_found(text)
    }

    fn full(&self, error: Error) -> Error {
        match error.errno() {
            libc::ENOSPC => error.because("the disk is full; nothing was appended"),
            libc::EDQUOT => error.because("the disk quota is used up; nothing was appended"),
            libc::EFBIG => match sys::file_size::limit() {
                Some(limit) => error.because_found(format!(
                    "the process may not make files larger than {limit} bytes (RLIMIT_FSIZE); nothing was appended"
                )),
                None => error.because("the file cannot grow further; nothing was appended"),
            },
            _ => error,
        }
    }

    /// The size in bytes. Never blocks. System call: fstat.
    pub fn size(&self) -> Result<u64> {
        let stat = fstat(&self.fd).map_err(|errno| self.object.error(errno, "size"))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Returns once what was appended is on the disk, to survive a power failure. Blocks for the disk.
    ///
    /// # Errors
    /// `EIO`, `ENOSPC`, `EDQUOT`: some of it may be lost; a later call may not tell again.
    ///
    /// System call: fdatasync.
    pub fn sync(&self) -> Result<()> {
        fdatasync(&self.fd).map_err(|errno| self.object.error(errno, "sync"))
    }

    /// Its address, as given when it was opened, without options; `file:(descriptor)` if it was adopted.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// Ends the waits of all threads on this file with `ECANCELED`, now and later; returns when they have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }

    /// Gives up the object and keeps its descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

/// The object and the path that an address of a file names.
fn named<'a>(address: &'a Address, operation: &'static str) -> Result<(Object, &'a Path)> {
    address.require(&[Scheme::File], operation)?;
    let object = Object::new(address.without_options().to_string());
    let path = address.path();
    if paths::split(path).is_none() {
        return Err(object.error(Errno::EISDIR, operation).because("the path names a directory"));
    }
    Ok((object, path))
}

/// Permission bits; `None` is left to the caller.
fn mode(mode: Option<u32>, object: &Object, operation: &'static str) -> Result<Option<Mode>> {
    match mode {
        Some(bits) if bits > 0o777 => {
            Err(object.error(Errno::EINVAL, operation).because("mode must be permissions from 0 to 0777"))
        }
        mode => Ok(mode.map(Mode::from_bits_truncate)),
    }
}

const DEFAULT_MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

fn require_regular(object: &Object, operation: &'static str, kind: SFlag) -> Result<()> {
    match kind {
        SFlag::S_IFREG => Ok(()),
        SFlag::S_IFDIR => Err(object.error(Errno::EISDIR, operation)),
        SFlag::S_IFLNK => Err(object
            .error(Errno::ELOOP, operation)
            .because("it is a symbolic link, which is left alone; name the file that it leads to")),
        SFlag::S_IFIFO => Err(object
            .error(Errno::ENOTSUP, operation)
            .because("it is a FIFO or pipe, not a regular file; open it as fifo:")),
        kind => Err(object
            .error(Errno::ENOTSUP, operation)
            .because_found(format!("it is {}, not a regular file", paths::kind_name(kind)))),
    }
}

fn open_or_create(
    object: &Object,
    path: &Path,
    flags: OFlag,
    create: FileCreate,
    mode: Option<Mode>,
) -> Result<OwnedFd> {
    let failed = |errno| paths::explain(object.error(errno, "open"));
    // Each round either ends or has seen the file come or go; a link that leads nowhere never ends, hence the bound.
    for _ in 0..16 {
        if create != FileCreate::Exclusively {
            match Found::at(path) {
                Ok(found) => {
                    require_regular(object, "open", found.kind())?;
                    return found.open(path, flags).map_err(failed);
                }
                Err(Errno::ENOENT) if create == FileCreate::IfMissing => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        let new = flags | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match open(path, new, DEFAULT_MODE) {
            Ok(fd) => {
                fchmod(&fd, mode.unwrap_or(DEFAULT_MODE)).map_err(failed)?;
                return Ok(fd);
            }
            Err(Errno::EEXIST) if create == FileCreate::IfMissing => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::ENOENT).because("the path is a symbolic link that leads nowhere; remove the link or its cause"))
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("address", &self.address()).field("fd", &self.fd).finish()
    }
}

#[cfg(test)]
mod tests;
