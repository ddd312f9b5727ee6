//! Opening what a path leads to without side effects: look at it first, then open exactly what was looked at.
//!
//! A plain `open` hangs on a FIFO and may start a device. A descriptor made with O_PATH does neither; it is examined, and
//! opened for real through /proc, so that nothing can be swapped in between.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat};
use nix::unistd::geteuid;

use crate::error::Error;
use crate::limits::explain_descriptors;
use crate::sys::SysResult;

/// Says what is wrong with a path, and what to do, where the system's words leave that open.
#[cold]
pub(crate) fn explain(error: Error) -> Error {
    match error.errno() {
        libc::ENOENT => {
            error.because("nothing lies at this path, or one of its directories is missing; create it first")
        }
        libc::EEXIST => error.because("something lies at this path already; open it, or remove it first"),
        libc::ENOTDIR => error.because("a part of the path that should be a directory is none"),
        libc::EACCES => error.because(
            "its permissions, or those of a directory on the way to it, do not allow that to this user; its owner can \
             change them",
        ),
        libc::EPERM => error.because("only its owner and root may do that, and nobody if it is marked immutable"),
        libc::EROFS => error.because("its file system is mounted read-only; choose another place"),
        libc::ENAMETOOLONG => error.because("a name has at most 255 bytes, and a path 4095"),
        _ => explain_descriptors(error),
    }
}

/// A file that was found, and not yet opened for reading or writing.
pub(crate) struct Found {
    fd: OwnedFd,
    pub(crate) stat: FileStat,
}

impl Found {
    /// Finds what `path` leads to, through links.
    pub(crate) fn at(path: &Path) -> SysResult<Found> {
        let fd = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let stat = fstat(&fd)?;
        Ok(Found { fd, stat })
    }

    /// Finds what lies at `path` itself, be it a link.
    pub(crate) fn exactly_at(path: &Path) -> SysResult<Found> {
        let fd = open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let stat = fstat(&fd)?;
        Ok(Found { fd, stat })
    }

    /// Gives a file that this process has just made by a call which took the umask off its permissions those that were
    /// asked for, unless somebody was quick to put something else in its place.
    pub(crate) fn give_mode(&self, kind: SFlag, mode: Mode) -> SysResult<()> {
        let is_ours = self.kind() == kind && self.stat.st_uid == geteuid().as_raw();
        if is_ours && self.stat.st_mode & 0o777 != mode.bits() {
            fchmodat(AT_FDCWD, of_descriptor(self.as_fd()).as_str(), mode, FchmodatFlags::FollowSymlink)?;
        }
        Ok(())
    }

    pub(crate) fn kind(&self) -> SFlag {
        kind(&self.stat)
    }

    /// Opens it. `path` is used only where /proc is not mounted, and then must still lead to the same file (ESTALE).
    pub(crate) fn open(&self, path: &Path, flags: OFlag) -> SysResult<OwnedFd> {
        match reopen(self.fd.as_fd(), flags) {
            Err(Errno::ENOENT) if !Path::new("/proc/thread-self/fd").exists() => {
                let fd = open(path, flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, Mode::empty())?;
                if is_same(&fstat(&fd)?, &self.stat) { Ok(fd) } else { Err(Errno::ESTALE) }
            }
            result => result,
        }
    }
}

impl AsFd for Found {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The path by which the kernel leads to the file behind a descriptor of the calling thread.
pub(crate) fn of_descriptor(fd: BorrowedFd<'_>) -> String {
    format!("/proc/thread-self/fd/{}", fd.as_raw_fd())
}

/// The name that the kernel shows for a descriptor.
pub(crate) fn name_of(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    std::fs::read_link(of_descriptor(fd)).ok()
}

/// Opens the file behind `fd` once more: a description of its own. ENOENT where /proc is not mounted.
pub(crate) fn reopen(fd: BorrowedFd<'_>, flags: OFlag) -> SysResult<OwnedFd> {
    open(of_descriptor(fd).as_str(), flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, Mode::empty())
}

pub(crate) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// For error texts.
pub(crate) fn kind_name(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFREG => "a regular file",
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFIFO => "a FIFO or pipe",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFBLK | SFlag::S_IFCHR => "a device",
        _ => "no file at all",
    }
}

/// Whether two looks saw the same file.
pub(crate) fn is_same(one: &FileStat, other: &FileStat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// The directory and the name in it; `None` if the path can only name a directory.
pub(crate) fn split(path: &Path) -> Option<(&Path, &Path)> {
    let bytes = path.as_os_str().as_bytes();
    let (directory, name) = match bytes.iter().rposition(|byte| *byte == b'/') {
        None => (&b"."[..], bytes),
        Some(0) => (&b"/"[..], bytes.get(1..)?),
        Some(slash) => (bytes.get(..slash)?, bytes.get(slash + 1..)?),
    };
    if matches!(name, b"" | b"." | b"..") {
        return None;
    }
    Some((as_path(directory), as_path(name)))
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_into_directory_and_name() {
        let split =
            |path: &'static str| split(Path::new(path)).map(|(d, n)| (d.to_str().unwrap(), n.to_str().unwrap()));
        assert_eq!(split("/tmp/x"), Some(("/tmp", "x")));
        assert_eq!(split("x"), Some((".", "x")));
        assert_eq!(split("/x"), Some(("/", "x")));
        assert_eq!(split("a/b/c"), Some(("a/b", "c")));
        for directory in ["/", "", ".", "..", "a/", "a/.", "a/.."] {
            assert_eq!(split(directory), None, "{directory}");
        }
    }

    #[test]
    fn modes_are_given_to_what_was_made_and_not_through_links() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, b"").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mode = || std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        let before = mode();
        let wanted = Mode::from_bits_truncate(0o606);
        Found::exactly_at(&link).unwrap().give_mode(SFlag::S_IFREG, wanted).unwrap();
        Found::exactly_at(&file).unwrap().give_mode(SFlag::S_IFIFO, wanted).unwrap();
        assert_eq!(mode(), before);
        Found::exactly_at(&file).unwrap().give_mode(SFlag::S_IFREG, wanted).unwrap();
        assert_eq!(mode(), 0o606);
    }

    #[test]
    fn finds_without_opening() {
        let found = Found::at(Path::new("/dev/null")).unwrap();
        assert_eq!(found.kind(), SFlag::S_IFCHR);
        let opened = found.open(Path::new("/dev/null"), OFlag::O_RDONLY).unwrap();
        assert!(is_same(&fstat(&opened).unwrap(), &found.stat));
    }
}
