//! Unix socket paths: taken over only from the dead, removed only by who made them.

use std::fs::{File, Permissions, TryLockError, symlink_metadata};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{SockFlag, socket};
use nix::sys::stat::{Mode, fchmod};

use super::{explain::explain, kernel_kind};
use crate::address::Scheme;
use crate::error::{Error, Result};
use crate::paths::of_descriptor;
use crate::sys::SysResult;
use crate::sys::socket::{self as sys, Name};
use crate::timeout::Timeout;
use crate::wait::Operation;

/// The path that a socket is bound to; removed when dropped, if this process made it and it is still the same file.
pub(super) struct BoundPath {
    path: PathBuf, // absolute: the working directory may change
    device: u64,
    inode: u64,
    creator: u32,
}

impl BoundPath {
    /// Leaves the path where it is.
    pub(super) fn keep(mut self) {
        self.creator = 0; // no process
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        if self.creator != std::process::id() {
            return;
        }
        // The socket is still open, so its inode number cannot have been given to another file meanwhile.
        if let Ok(found) = symlink_metadata(&self.path)
            && (found.dev(), found.ino()) == (self.device, self.inode)
        {
            let _ = std::fs::remove_file(&self.path); // refused only if the directory changed since; a later server sees
        }
    }
}

/// How long to wait for another process that is claiming a path in the same directory.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a path may come back while it is being claimed.
const ATTEMPTS: u32 = 8;

/// Binds `fd` to a path with exactly these permissions, taking it over if it is a socket where nobody listens any more,
/// and runs `then` (listen) before any other claimant can find the socket without a listener.
pub(super) fn claim(
    operation: &mut Operation<'_>,
    fd: &OwnedFd,
    scheme: Scheme,
    name: &Name,
    path: &Path,
    mode: u32,
    then: impl FnOnce() -> SysResult<()>,
) -> Result<BoundPath> {
    let _lock = lock_directory(operation, path)?;
    // The kernel makes the file with the socket's own permissions less the umask: never with more than asked for.
    fchmod(fd, Mode::from_bits_truncate(mode)).map_err(|errno| operation.error(errno))?;
    let mut attempts = 0;
    loop {
        match sys::bind(fd.as_fd(), name) {
            Ok(()) => break,
            Err(Errno::EADDRINUSE) if attempts < ATTEMPTS => remove_if_stale(operation, scheme, name, path)?,
            Err(Errno::ENOENT) => {
                return Err(operation.error(Errno::ENOENT).because("the directory does not exist; create it first"));
            }
            Err(errno) => return Err(explain(operation.error(errno), scheme)),
        }
        attempts += 1;
    }
    let failed = |error: std::io::Error| operation.error(errno_of(&error));
    let found = symlink_metadata(path).map_err(failed)?;
    let bound = BoundPath {
        path: std::path::absolute(path).map_err(failed)?,
        device: found.dev(),
        inode: found.ino(),
        creator: std::process::id(),
    };
    if found.mode() & 0o777 != mode {
        set_mode(&bound, mode).map_err(failed)?;
    }
    then().map_err(|errno| explain(operation.error(errno), scheme))?;
    Ok(bound)
}

/// Keeps other claimants of paths in the same directory out until the lock is dropped.
///
/// Between bind and listen a socket looks like a dead one; with two servers starting at once the second would take the
/// path from the first. A directory that cannot be locked, or that a stranger keeps locked, costs that safety alone.
fn lock_directory(operation: &mut Operation<'_>, path: &Path) -> Result<Option<File>> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let opened = File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NONBLOCK).open(directory);
    let Ok(directory) = opened else { return Ok(None) };
    let start = Instant::now();
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(Some(directory)),
            Err(TryLockError::WouldBlock) if operation.timeout() != Timeout::Now && start.elapsed() < PATIENCE => {
                operation.wait().check().map_err(|errno| {
                    operation.error(errno).because("another program keeps the socket's directory locked (flock)")
                })?;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return Ok(None),
        }
    }
}

/// Removes the path if it is a socket that nobody listens on; fails if it is anything else.
fn remove_if_stale(operation: &Operation<'_>, scheme: Scheme, name: &Name, path: &Path) -> Result<()> {
    let found = match symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()), // gone meanwhile
        Err(error) => return Err(operation.error(errno_of(&error))),
    };
    let kind = found.file_type();
    if !kind.is_socket() {
        let what = if kind.is_dir() {
            "a directory"
        } else if kind.is_symlink() {
            "a symbolic link"
        } else {
            "a file"
        };
        return Err(operation
            .error(Errno::ENOTSOCK)
            .because_found(format!("the path is {what}, not a socket; it was left alone: choose another path")));
    }
    match probe(scheme, name) {
        Err(Errno::ECONNREFUSED) => {}
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => {
            return Err(explain(operation.error(errno), scheme));
        }
        // Connected, refused for its type, its backlog or its permissions: somebody is there, or may be.
        _ => return Err(in_use(operation.error(Errno::EADDRINUSE))),
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let errno = errno_of(&error);
            Err(operation
                .error(errno)
                .because("the path is left over from a server that is gone, but may not be removed"))
        }
        _ => Ok(()),
    }
}

fn in_use(error: Error) -> Error {
    error.because("somebody listens on this path; stop that program, or choose another path")
}

/// Tries to connect, without waiting.
fn probe(scheme: Scheme, name: &Name) -> SysResult<()> {
    let Some((Some(family), kind)) = kernel_kind(scheme) else { return Err(Errno::EINVAL) };
    let probe = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    sys::connect(probe.as_fd(), name)
}

/// Sets permissions that the umask kept from the socket, on the very file: not through a link put in its place.
fn set_mode(bound: &BoundPath, mode: u32) -> std::io::Result<()> {
    let file = File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(&bound.path)?;
    let found = file.metadata()?;
    if (found.dev(), found.ino()) != (bound.device, bound.inode) {
        return Err(std::io::Error::from_raw_os_error(libc::ESTALE));
    }
    std::fs::set_permissions(of_descriptor(file.as_fd()), Permissions::from_mode(mode))
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
