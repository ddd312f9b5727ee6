//! The directory of a log: a file `control` that makes it one and is locked by whoever appends, segments with consecutive
//! numbers, and the positions of readers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use nix::sys::uio::pwrite;
use nix::unistd::{UnlinkatFlags, fsync, ftruncate, mkdir, unlinkat};

use super::fault::{Fault, Outcome};
use super::format::{self, HEADING, Heading, Identity, Unfit};
use super::segment::{Segment, read_at};
use crate::error::Result;
use crate::paths;
use crate::sys::SysResult;
use crate::sys::file_lock::{lock, try_lock, unlock};
use crate::sys::not_inherited::NotInherited;
use crate::wait::Operation;

pub(super) const CONTROL: &str = "control";
pub(super) const READERS: &str = "readers";
const SUFFIX: &str = ".log";
/// Nobody waits for a foreign FIFO that has one of our names, nor follows a link.
const CAREFUL: OFlag = OFlag::O_CLOEXEC.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK);

/// The directory of a log, open.
pub(super) struct Folder {
    directory: OwnedFd,
    control: OwnedFd,
    path: PathBuf,
    mode: Mode,
    pub log: Identity,
}

/// What exists of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub number: u64,
    pub size: u64,
}

/// The lock of a log: one process at a time appends, and none once it has died.
pub(super) struct Lock(NotInherited);

/// The lock while it is held.
pub(super) struct Held<'a>(&'a Lock);

impl Lock {
    pub fn is_of_this_process(&self) -> bool {
        self.0.is_of_this_process()
    }

    /// Takes it; waits for it as the operation says.
    pub fn hold(&self, operation: &mut Operation<'_>) -> Result<Held<'_>> {
        let file = self.0.fd().ok_or_else(|| operation.error(Errno::ESTALE))?;
        operation.in_call(|| try_lock(file), |_| lock(file))?;
        Ok(Held(self))
    }
}

impl Held<'_> {
    /// Fails if the log was removed before the lock was taken.
    pub fn check(&self) -> Outcome<()> {
        if fstat(&self.0.0)?.st_nlink == 0 { Err(Fault::removed()) } else { Ok(()) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.0.0.fd() {
            unlock(file);
        }
    }
}

impl Folder {
    /// Opens the log at this path; makes it if that is wanted and nothing is there, waiting as the operation says for
    /// another process that just does.
    pub fn open(path: &Path, mode: u32, make: bool, operation: &mut Operation<'_>) -> Result<Folder> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mode = Mode::from_bits_truncate(mode);
        let directory = match directory(&path, mode, make) {
            Ok(directory) => directory,
            Err(fault) => return Err(fault.of(|errno| paths::explain(operation.error(errno)))),
        };
        let failed = |fault: Fault, operation: &Operation<'_>| fault.of(|errno| operation.error(errno));
        let found = match read_control(directory.as_fd(), &path) {
            Ok(None) if make => None,
            Ok(None) => Some(Err(Fault::unfit(&path.display().to_string(), Unfit::Foreign))),
            Ok(Some(found)) => Some(Ok(found)),
            Err(fault) => Some(Err(fault)),
        };
        let (control, log) = match found {
            Some(found) => found.map_err(|fault| failed(fault, operation))?,
            None => found_anew(directory.as_fd(), &path, mode, operation)?,
        };
        Ok(Folder { directory, control, path, mode, log })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn lock(&self) -> SysResult<Lock> {
        let open = || openat(&self.directory, CONTROL, OFlag::O_RDWR | CAREFUL, Mode::empty());
        NotInherited::open(open).map(Lock)
    }

    /// Fails if the log was removed.
    pub fn check(&self) -> Outcome<()> {
        if fstat(&self.control)?.st_nlink == 0 { Err(Fault::removed()) } else { Ok(()) }
    }

    /// The segments that exist, in order.
    pub fn segments(&self) -> SysResult<Vec<Listed>> {
        let mut found = Vec::new();
        for name in names(self.directory.as_fd())? {
            let Some(number) = number_in(&name) else { continue };
            match nix::sys::stat::fstatat(&self.directory, name.as_str(), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => found.push(Listed { number, size: u64::try_from(stat.st_size).unwrap_or(0) }),
                Err(Errno::ENOENT) => {} // it was too old, and removed meanwhile
                Err(errno) => return Err(errno),
            }
        }
        found.sort_by_key(|listed| listed.number);
        Ok(found)
    }

    /// Whether there is a segment of this number.
    pub fn has(&self, number: u64) -> bool {
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::sys::stat::fstatat(&self.directory, segment_name(number).as_str(), flags).is_ok()
    }

    /// What messages about this segment call it.
    pub fn name_of(&self, number: u64) -> String {
        self.path.join(segment_name(number)).display().to_string()
    }

    /// Opens a segment. `Ok(Err(…))`: it is not what it should be; ENOENT: it is gone.
    pub fn segment(&self, number: u64, access: OFlag) -> SysResult<std::result::Result<Segment, Unfit>> {
        let file = match openat(&self.directory, segment_name(number).as_str(), access | CAREFUL, Mode::empty()) {
            Err(Errno::ELOOP | Errno::EISDIR | Errno::ENXIO) => return Ok(Err(Unfit::Foreign)),
            file => file?,
        };
        if paths::kind(&fstat(&file)?) != SFlag::S_IFREG {
            return Ok(Err(Unfit::Foreign));
        }
        let mut bytes = [0; HEADING];
        let length = read_at(file.as_fd(), &mut bytes, 0)?;
        let heading = Heading::decode(bytes.get(..length).unwrap_or_default());
        Ok(match heading {
            Ok(heading) if heading.log != self.log || heading.number != number => Err(Unfit::Foreign),
            Ok(heading) => Ok(Segment::new(file, heading)),
            Err(unfit) => Err(unfit),
        })
    }

    /// Makes a segment; `sync` also brings it and its name to the disk. What a dead process left of it goes.
    pub fn begin(&self, heading: Heading, sync: bool) -> SysResult<Segment> {
        let name = segment_name(heading.number);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | CAREFUL;
        let file = match openat(&self.directory, name.as_str(), flags, Mode::from_bits_truncate(0o600)) {
            Err(Errno::EEXIST) => {
                unlinkat(&self.directory, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
                openat(&self.directory, name.as_str(), flags, Mode::from_bits_truncate(0o600))?
            }
            file => file?,
        };
        let made = fchmod(&file, self.mode).and_then(|()| {
            write_all(file.as_fd(), &heading.encode())?;
            if sync {
                fsync(&file)?;
                fsync(&self.directory)?;
            }
            Ok(())
        });
        match made {
            Ok(()) => Ok(Segment::new(file, heading)),
            Err(errno) => {
                let _ = unlinkat(&self.directory, name.as_str(), UnlinkatFlags::NoRemoveDir);
                Err(errno)
            }
        }
    }

    pub fn discard(&self, number: u64) -> SysResult<()> {
        gone(unlinkat(&self.directory, segment_name(number).as_str(), UnlinkatFlags::NoRemoveDir))
    }

    /// The directory of the positions, made if it is missing.
    pub fn readers(&self) -> SysResult<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | CAREFUL;
        match openat(&self.directory, READERS, flags, Mode::empty()) {
            Err(Errno::ENOENT) => {
                match mkdirat(&self.directory, READERS, searchable(self.mode)) {
                    Err(Errno::EEXIST) => {}
                    made => made?,
                }
                let readers = openat(&self.directory, READERS, flags, Mode::empty())?;
                fchmod(&readers, searchable(self.mode))?;
                fsync(&self.directory)?;
                Ok(readers)
            }
            readers => readers,
        }
    }

    /// Removes all that belongs to the log. The lock must be held, so that nobody appends meanwhile.
    pub fn remove(self) -> Outcome<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | CAREFUL;
        if let Ok(readers) = openat(&self.directory, READERS, flags, Mode::empty()) {
            for name in names(readers.as_fd())? {
                gone(unlinkat(&readers, name.as_str(), UnlinkatFlags::NoRemoveDir))?;
            }
            gone(unlinkat(&self.directory, READERS, UnlinkatFlags::RemoveDir))?;
        }
        for listed in self.segments()? {
            self.discard(listed.number)?;
        }
        // Last: what is left when this is broken off is still a log, and can be removed.
        gone(unlinkat(&self.directory, CONTROL, UnlinkatFlags::NoRemoveDir))?;
        match std::fs::remove_dir(&self.path) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => {
                Err(Fault::new(Errno::ENOTEMPTY, "the log is removed, but its directory holds other files, which stay"))
            }
            Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)).into()),
            Ok(()) => Ok(()),
        }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn segment_name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

fn number_in(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// That something is not there is as good as done.
fn gone(result: SysResult<()>) -> SysResult<()> {
    if result == Err(Errno::ENOENT) { Ok(()) } else { result }
}

/// Who may read a directory may also go in.
fn searchable(mode: Mode) -> Mode {
    mode | Mode::from_bits_truncate((mode.bits() & 0o444) >> 2)
}

fn names(directory: BorrowedFd<'_>) -> SysResult<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::openat(directory, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?.iter() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

pub(super) fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> SysResult<()> {
    let mut at = 0;
    while !bytes.is_empty() {
        match pwrite(file, bytes, at) {
            Err(Errno::EINTR) => {}
            Ok(0) => return Err(Errno::ENOSPC),
            written => {
                let written = written?;
                bytes = bytes.get(written..).unwrap_or_default();
                at += i64::try_from(written).unwrap_or(0);
            }
        }
    }
    Ok(())
}

fn directory(path: &Path, mode: Mode, make: bool) -> Outcome<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match open(path, flags, Mode::empty()) {
        Err(Errno::ENOENT) if make => {
            match mkdir(path, Mode::S_IRWXU) {
                Err(Errno::EEXIST) => return Ok(open(path, flags, Mode::empty())?),
                made => made?,
            }
            let directory = open(path, flags, Mode::empty())?;
            fchmod(&directory, searchable(mode))?;
            sync_name(path)?;
            Ok(directory)
        }
        Err(Errno::ENOTDIR) if std::fs::metadata(path).is_ok() => Err(Fault::new(
            Errno::EBADMSG,
            "a log of messages is a directory, and this is something else; name another path, or one that does not exist",
        )),
        directory => Ok(directory?),
    }
}

/// Brings the name of a directory to the disk: it is there when the directory is that has it. Where we may not look, it is left
/// to the kernel.
fn sync_name(path: &Path) -> SysResult<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match open(path.parent().unwrap_or(Path::new("/")), flags, Mode::empty()) {
        Err(Errno::EACCES) => Ok(()),
        parent => fsync(&parent?),
    }
}

/// The control file and the identity in it; `None` if it is for the next to make: a log is just being made
/// of the directory, or was.
fn read_control(directory: BorrowedFd<'_>, path: &Path) -> Outcome<Option<(OwnedFd, Identity)>> {
    let name = path.join(CONTROL).display().to_string();
    let control = match openat(directory, CONTROL, OFlag::O_RDONLY | CAREFUL, Mode::empty()) {
        Err(Errno::ENOENT) => None,
        Err(Errno::ELOOP | Errno::ENXIO | Errno::EISDIR) => return Err(Fault::unfit(&name, Unfit::Foreign)),
        control => Some(control?),
    };
    if let Some(control) = control {
        if paths::kind(&fstat(&control)?) != SFlag::S_IFREG {
            return Err(Fault::unfit(&name, Unfit::Foreign));
        }
        let mut bytes = [0; format::CONTROL];
        let length = read_at(control.as_fd(), &mut bytes, 0)?;
        match format::read_control(bytes.get(..length).unwrap_or_default()) {
            Ok(log) => return Ok(Some((control, log))),
            Err(Unfit::Unfinished) => {}
            Err(unfit) => return Err(Fault::unfit(&name, unfit)),
        }
    }
    let others = names(directory)?.into_iter().find(|name| name != CONTROL && name != READERS);
    // With segments it is a log whose control file a power failure has taken.
    let Some(other) = others.filter(|_| of_segments(directory).is_none()) else { return Ok(None) };
    // Unless the log was completed since.
    let finished = openat(directory, CONTROL, OFlag::O_RDONLY | CAREFUL, Mode::empty()).ok().and_then(|control| {
        let mut bytes = [0; format::CONTROL];
        read_at(control.as_fd(), &mut bytes, 0).ok()?;
        format::read_control(&bytes).ok().map(|log| (control, log))
    });
    match finished {
        Some(finished) => Ok(Some(finished)),
        None => Err(Fault::new(
            Errno::EBADMSG,
            format!(
                "the directory holds something else ({other}), and no log; name an empty one, or one that does not exist"
            ),
        )),
    }
}

/// The identity of the log that the segments here belong to.
fn of_segments(directory: BorrowedFd<'_>) -> Option<Identity> {
    let segments = names(directory).ok()?.into_iter().filter(|name| number_in(name).is_some());
    segments.into_iter().find_map(|name| {
        let file = openat(directory, name.as_str(), OFlag::O_RDONLY | CAREFUL, Mode::empty()).ok()?;
        let mut bytes = [0; HEADING];
        read_at(file.as_fd(), &mut bytes, 0).ok()?;
        Heading::decode(&bytes).ok().map(|heading| heading.log)
    })
}

/// Makes a log of a directory that is empty, or has segments alone, unless another process does.
fn found_anew(
    directory: BorrowedFd<'_>,
    path: &Path,
    mode: Mode,
    operation: &mut Operation<'_>,
) -> Result<(OwnedFd, Identity)> {
    let failed = |fault: Fault, operation: &Operation<'_>| fault.of(|errno| operation.error(errno));
    let open = || openat(directory, CONTROL, OFlag::O_RDWR | OFlag::O_CREAT | CAREFUL, Mode::from_bits_truncate(0o600));
    let control = NotInherited::open(open).map_err(|errno| failed(errno.into(), operation))?;
    let lock = Lock(control);
    let held = lock.hold(operation)?;
    let made = || -> Outcome<(OwnedFd, Identity)> {
        if let Some(found) = read_control(directory, path)? {
            return Ok(found);
        }
        let log = of_segments(directory).unwrap_or_else(fresh_identity);
        fchmod(&lock.0, mode)?;
        ftruncate(&lock.0, 0)?;
        write_all(lock.0.as_fd(), &format::control(&log))?;
        fsync(&lock.0)?;
        fsync(directory)?;
        sync_name(path)?;
        let control = openat(directory, CONTROL, OFlag::O_RDONLY | CAREFUL, Mode::empty())?;
        Ok((control, log))
    };
    let made = made();
    drop(held);
    made.map_err(|fault| failed(fault, operation))
}

/// Chance: from the kernel, by the seeds of the standard library's maps.
fn fresh_identity() -> Identity {
    use std::hash::{BuildHasher, RandomState};
    let half = || RandomState::new().hash_one(std::process::id()).to_le_bytes();
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&half());
    identity[8..].copy_from_slice(&half());
    identity
}

/// Which start of the machine this is; zeros where the kernel does not tell.
pub(super) fn this_boot() -> Identity {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map_or([0; 16], u128::to_be_bytes)
}
