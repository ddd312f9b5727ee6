//! Where a named segment's file lies, and how it comes there whole.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, geteuid, linkat, mkdir, unlinkat};

use crate::address::Address;
use crate::error::{Error, Result};
use crate::sys::SysResult;

/// A directory held open, and a name in it.
pub(super) struct Place {
    directory: OwnedFd,
    name: OsString,
}

impl Place {
    /// Finds the directory: the address's own where the name is a path, else wigwag's, which is made if it is missing.
    pub(super) fn of(address: &Address, operation: &'static str) -> Result<Place> {
        let fail = |errno| Error::new(errno, operation).on_text(address.to_string());
        let path = address.path();
        if address.name().contains(&b'/') {
            let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
                return Err(fail(Errno::EINVAL).because("the path names a directory; give it a file name"));
            };
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let directory = open(parent, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| {
                fail(errno).because_found(format!("the directory {} cannot be opened", parent.display()))
            })?;
            return Ok(Place { directory, name: name.to_owned() });
        }
        let path = own_directory();
        let directory = open_own(&path).map_err(|(errno, reason)| {
            fail(errno).because_found(format!("{} {reason}; set WIGWAG_DIR to another place", path.display()))
        })?;
        Ok(Place { directory, name: own_name(address) })
    }

    /// Opens the file that is there.
    pub(super) fn open(&self) -> SysResult<OwnedFd> {
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        openat(&self.directory, self.name.as_os_str(), flags, Mode::empty())
    }

    /// A new file without a name on the same file system: nobody sees it, and a crash leaves nothing behind.
    pub(super) fn unnamed(&self, mode: u32) -> SysResult<OwnedFd> {
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let file = openat(&self.directory, ".", flags, Mode::from_bits_truncate(0o600))?;
        fchmod(&file, Mode::from_bits_truncate(mode))?;
        Ok(file)
    }

    /// Gives the file its name, unless that is taken (`EEXIST`).
    pub(super) fn publish(&self, file: impl AsFd) -> SysResult<()> {
        let source = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        linkat(AT_FDCWD, source.as_str(), &self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_FOLLOW)
    }

    /// Takes the name away.
    pub(super) fn remove(&self) -> SysResult<()> {
        unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir)
    }
}

/// Where the file of a segment with this name lies, or would lie.
pub(crate) fn path_of(address: &Address) -> PathBuf {
    if address.name().contains(&b'/') {
        return address.path().to_owned();
    }
    own_directory().join(own_name(address))
}

/// The name in wigwag's directory.
fn own_name(address: &Address) -> OsString {
    let mut name = address.name().to_vec();
    name.extend(format!(".{}", address.scheme()).bytes());
    OsString::from_vec(name)
}

/// The path of a file of the library's own in its directory, which is made if it is missing.
pub(crate) fn own_path(name: &str) -> std::result::Result<PathBuf, (Errno, String)> {
    let path = own_directory();
    open_own(&path)
        .map_err(|(errno, reason)| (errno, format!("{} {reason}; set WIGWAG_DIR to another place", path.display())))?;
    Ok(path.join(name))
}

fn own_directory() -> PathBuf {
    match std::env::var_os("WIGWAG_DIR").filter(|directory| !directory.is_empty()) {
        Some(directory) => directory.into(),
        None => OsStr::from_bytes(format!("/dev/shm/wigwag-{}", geteuid()).as_bytes()).into(),
    }
}

fn open_own(path: &Path) -> std::result::Result<OwnedFd, (Errno, &'static str)> {
    match mkdir(path, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err((errno, "cannot be made")),
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::ENOTDIR | Errno::ELOOP => (Errno::EACCES, "is a link, or no directory"),
        errno => (errno, "cannot be opened"),
    })?;
    let status = fstat(&directory).map_err(|errno| (errno, "cannot be looked at"))?;
    if status.st_uid != geteuid().as_raw() {
        return Err((Errno::EACCES, "belongs to somebody else"));
    }
    Ok(directory)
}

/// Whether it is a plain file, the only kind that keeps its length and its memory.
pub(super) fn is_regular(status: &FileStat) -> bool {
    SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
}
