//! Writing a whole file so that every reader sees the old or the new content.
//!
//! The new content goes to a file without a name (O_TMPFILE), which vanishes by itself if the process dies; when it is
//! complete it gets a name of its own and is renamed over the old. Only a death between these last two system calls
//! leaves something behind: a complete file `.ww-new-…`. Where the file system has no O_TMPFILE, or /proc is not there
//! to give the file its name, it has that name from the start.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, linkat, unlinkat};

use super::{DEFAULT_MODE, File, mode, named, require_regular};
use crate::address::Address;
use crate::error::{Error, Result};
use crate::paths;
use crate::sys::taken::NEW_CONTENT;
use crate::sys::{self, SysResult};
use crate::wait::Object;

/// What a replaced file outlives. Whatever this says, other processes see the old or the new content, never a part, also
/// when the writer is killed at any moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A power failure at any time leaves the old or the new content, and once the call has returned, the new.
    #[default]
    Full,
    /// A power failure at any time leaves the old or the new content, for a while after the call maybe still the old.
    Content,
    /// Nothing is said about power failures; the content may then be neither, or empty. The fastest.
    None,
}

/// How to replace a file; all fields have the defaults that their types say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplaceOptions {
    /// What the file outlives.
    pub durability: Durability,
    /// Permissions of the file: the address's `mode=` if `None`, else those that the old file had, else 0600.
    pub mode: Option<u32>,
}

const NAME: &str = "replace";

impl File {
    /// Makes `bytes` the content of the file at `address`, a `file:` one, so that a reader sees the old or the new
    /// content, never a part; makes the file if it is missing. Blocks for the disk, according to the durability.
    ///
    /// It becomes another file of the same name: who has the old one open, locked or mapped keeps the old one, and its
    /// further hard links, access control lists and extended attributes stay behind. Permissions and group are kept,
    /// the owner where the process may give files away. Of several that replace at once, the last wins.
    ///
    /// # Errors
    /// With the old content untouched: `ENOSPC`, `EDQUOT`, `EFBIG` the new content does not fit; `EACCES`, `EROFS` the
    /// directory may not be written; `EPERM` the old file belongs to a group that the process is not in and no mode was
    /// given, or the directory is sticky and the file somebody else's; `ENOENT` the directory does not exist; `EISDIR`
    /// a directory; `ENOTSUP` something else that is no regular file; `ELOOP` a symbolic link: name the file itself;
    /// `EIO`. With the new content in place ([`Error::done`] is its length): any error of the directory's fsync.
    ///
    /// System calls: open (directory), fstatat, openat with O_TMPFILE, fchmod, write, fsync, linkat, renameat, fsync
    /// (directory).
    pub fn replace(address: &Address, bytes: &[u8], options: &ReplaceOptions) -> Result<()> {
        let (object, path) = named(address, NAME)?;
        let mode = mode(options.mode.or(address.mode()), &object, NAME)?;
        let Some((directory, name)) = paths::split(path) else { return Err(object.error(Errno::EISDIR, NAME)) };
        // Syncing a directory takes the right to read it, working in it does not.
        let access = if options.durability == Durability::Full { OFlag::O_RDONLY } else { OFlag::O_PATH };
        let directory = open(directory, access | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| without_directory(object.error(errno, NAME)))?;

        let new = New::without_name(directory.as_fd())
            .or_else(|_| New::with_name(directory.as_fd()))
            .map_err(|errno| without_directory(object.error(errno, NAME)))?;
        put_in_place(&object, new, directory.as_fd(), name, bytes, mode, options.durability)?;

        if options.durability == Durability::Full {
            fsync(&directory).map_err(|errno| {
                object
                    .error(errno, NAME)
                    .because("the new content is in place, but a power failure may bring back the old")
                    .after(bytes.len())
            })?;
        }
        Ok(())
    }
}

fn put_in_place(
    object: &Object,
    mut new: New<'_>,
    directory: BorrowedFd<'_>,
    name: &Path,
    bytes: &[u8],
    mode: Option<Mode>,
    durability: Durability,
) -> Result<()> {
    let failed = |errno| untouched(object.error(errno, NAME));
    match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(old) => {
            require_regular(object, NAME, paths::kind(&old))?;
            take_after(object, &new.fd, &old, mode)?;
        }
        Err(Errno::ENOENT) => fchmod(&new.fd, mode.unwrap_or(DEFAULT_MODE)).map_err(failed)?,
        Err(errno) => return Err(failed(errno)),
    }
    new.write(bytes).map_err(failed)?;
    if durability != Durability::None {
        fsync(&new.fd).map_err(failed)?;
    }
    if new.give_name().is_err() {
        // No /proc: the content has to be written again, to a file that has a name from the start.
        let named = New::with_name(directory).map_err(failed)?;
        return put_in_place(object, named, directory, name, bytes, mode, durability);
    }
    new.rename_to(name).map_err(failed)
}

/// Gives the new file the owner, the group and the permissions of the old one.
fn take_after(object: &Object, new: &OwnedFd, old: &FileStat, mode: Option<Mode>) -> Result<()> {
    let failed = |errno| object.error(errno, NAME);
    let stat = nix::sys::stat::fstat(new).map_err(failed)?;
    let (owner, group) = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
    if (stat.st_uid, stat.st_gid) != (old.st_uid, old.st_gid)
        && fchown(new, Some(owner), Some(group)).is_err()
        && stat.st_gid != old.st_gid
        && let Err(errno) = fchown(new, None, Some(group))
        && mode.is_none()
    {
        // Permissions for that group would be given to another one.
        return Err(failed(errno).because_found(format!(
            "the file belongs to group {group}, which this process is not in; say which mode the new file shall have"
        )));
    }
    fchmod(new, mode.unwrap_or(Mode::from_bits_truncate(old.st_mode & 0o777))).map_err(failed)
}

/// The new content on its way: removed if it does not get in place.
struct New<'a> {
    fd: OwnedFd,
    directory: BorrowedFd<'a>,
    name: Option<String>,
}

impl<'a> New<'a> {
    fn without_name(directory: BorrowedFd<'a>) -> SysResult<New<'a>> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let fd = openat(directory, c".", flags, DEFAULT_MODE)?;
        Ok(New { fd, directory, name: None })
    }

    fn with_name(directory: BorrowedFd<'a>) -> SysResult<New<'a>> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        NEW_CONTENT.found(false);
        let (fd, name) = with_fresh_name(|name| openat(directory, name, flags, DEFAULT_MODE))?;
        Ok(New { fd, directory, name: Some(name) })
    }

    fn write(&self, mut bytes: &[u8]) -> SysResult<()> {
        let limited = sys::file_size::is_limited();
        while !bytes.is_empty() {
            match sys::file_size::write(self.fd.as_fd(), bytes, limited) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn give_name(&mut self) -> SysResult<()> {
        if self.name.is_none() {
            let path = paths::of_descriptor(self.fd.as_fd());
            let link = |name: &str| linkat(AT_FDCWD, path.as_str(), self.directory, name, AtFlags::AT_SYMLINK_FOLLOW);
            self.name = Some(with_fresh_name(link)?.1);
            NEW_CONTENT.found(true);
        }
        Ok(())
    }

    fn rename_to(mut self, name: &Path) -> SysResult<()> {
        if let Some(own) = &self.name {
            renameat(self.directory, own.as_str(), self.directory, name)?;
            self.name = None; // there is nothing left to remove
        }
        Ok(())
    }
}

impl Drop for New<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Fails only if somebody else has removed it, or has taken the right to: nothing to be done either way.
            let _ = unlinkat(self.directory, name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Tries names until one is free.
fn with_fresh_name<T>(mut make: impl FnMut(&str) -> SysResult<T>) -> SysResult<(T, String)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut last = Errno::EEXIST;
    // Taken are only names that a process of the same number left behind, or has in another pid namespace.
    for _ in 0..100 {
        let name = format!(".ww-new-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        match make(&name) {
            Ok(made) => return Ok((made, name)),
            Err(Errno::EEXIST) => last = Errno::EEXIST,
            Err(errno) => return Err(errno),
        }
    }
    Err(last)
}

fn without_directory(error: Error) -> Error {
    match error.errno() {
        libc::ENOENT => error.because("its directory does not exist; make the directory first"),
        libc::ENOTDIR => error.because("what should be its directory is none"),
        libc::EACCES => error.because(
            "the new content is written beside the old and renamed, for which its directory must be writable, and \
             readable for full durability",
        ),
        _ => error,
    }
}

fn untouched(error: Error) -> Error {
    match error.errno() {
        libc::ENOSPC => error.because("the disk is full; the file is as it was"),
        libc::EDQUOT => error.because("the disk quota is used up; the file is as it was"),
        libc::EFBIG => error.because(
            "the new content is larger than a file may be here (file system, or RLIMIT_FSIZE); the file is as it was",
        ),
        _ => without_directory(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(way: for<'a> fn(BorrowedFd<'a>) -> SysResult<New<'a>>) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("x"), b"old").unwrap();
        let open_directory = open(directory.path(), OFlag::O_PATH, Mode::empty()).unwrap();
        let object = Object::new("file:x");
        let new = way(open_directory.as_fd()).unwrap();
        put_in_place(&object, new, open_directory.as_fd(), Path::new("x"), b"new", None, Durability::Content).unwrap();
        assert_eq!(std::fs::read(directory.path().join("x")).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left");
    }

    #[test]
    fn both_ways_of_making_the_new_file_work() {
        put(|directory| New::without_name(directory));
        put(|directory| New::with_name(directory));
    }

    #[test]
    fn what_does_not_get_in_place_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let open_directory = open(directory.path(), OFlag::O_PATH, Mode::empty()).unwrap();
        let new = New::with_name(open_directory.as_fd()).unwrap();
        new.write(b"half of").unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        drop(new);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_left_by_somebody_else_is_passed_over() {
        let mut taken = 3;
        let (_, name) = with_fresh_name(|_| {
            taken -= 1;
            if taken > 0 { Err(Errno::EEXIST) } else { Ok(()) }
        })
        .unwrap();
        assert!(name.starts_with(".ww-new-"));
        assert_eq!(with_fresh_name(|_| Err::<(), _>(Errno::EEXIST)).unwrap_err(), Errno::EEXIST);
    }
}
