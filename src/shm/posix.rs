//! POSIX shared memory (`shm:/name`): named memory that can grow.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::{Mode, fchmod, fstat, lstat};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use nix::unistd::linkat;

use super::backed::{Backed, require_memory};
use super::mapping::{MapOptions, Mapping};
use super::options::MemoryOptions;
use super::space;
use super::sysv::SysvShmStatus;
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::limits::explain_descriptors;
use crate::paths::{name_of, of_descriptor};
use crate::sys::SysResult;
use crate::sys::taken::SHM_NAME;
use crate::timeout::Timeout;
use crate::wait::{Object, Operation};

/// Where the C libraries keep what shm_open names.
const DIRECTORY: &str = "/dev/shm";
/// How often an object may appear and vanish between two looks before that counts as an error.
const TRIES: usize = 100;

/// A POSIX shared memory object, mapped as a whole.
///
/// It [is](Deref) a [`Mapping`]: read, write and use atomics through it. The object outlives its processes; its name is
/// there until somebody removes it ([`unlink`](Shm::unlink), [`Shm::remove`]), and its memory until the last process has
/// let go of it, by whatever death. Dropping this value unmaps. Its content starts as zeroes.
///
/// An object gets its name only when it is complete – size, pages, mode, and mapped by its creator – so that nobody finds it
/// half made, and a creator killed on the way leaves nothing behind. (It is a file without a name in `/dev/shm` before that,
/// linked in the end. Where the system cannot do this, and for other programs that create in the usual steps, opening waits
/// until the object has a size.) Its pages are reserved at creation, so that a full `/dev/shm` is an error there, and never a
/// SIGBUS later. Under a memory limit on the control group that can end in the group's OOM killer instead.
///
/// ```
/// use wigwag::{MemoryOptions, Shm, Timeout};
/// # let address = format!("shm:/wwdoc-{}", std::process::id()).parse()?;
/// let created = Shm::create(&address, &MemoryOptions { size: 4096, ..Default::default() })?;
/// let opened = Shm::open(&address, &MemoryOptions::default(), Timeout::Now)?;
/// created.unlink()?;
/// created.write_at(0, b"hello")?;
/// assert_eq!(opened.read_vec(0, 5)?, b"hello");
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "shm_open")]
pub struct Shm {
    backed: Backed,
    created: bool,
}

impl Shm {
    /// Creates the object, for reading and writing. Never waits for others.
    ///
    /// # Errors
    /// `EEXIST` there is one of this name; `EINVAL` no size is given; `ENOSPC` /dev/shm is full; `ENOMEM` no memory, or
    /// RLIMIT_MEMLOCK is too low for `lock`; `EFBIG` more than a file can have; `ENOTSUP` huge pages.
    ///
    /// System calls: open with O_TMPFILE, fchmod, fallocate, mmap, linkat; mlock and madvise on request.
    pub fn create(address: &Address, options: &MemoryOptions) -> Result<Shm> {
        Shm::make(address, &options.to_create(address, Scheme::Shm, "shm_open")?)
    }

    /// Opens the object that exists. Waits while it has no size yet, because its creator – another program – is between
    /// making and sizing it. Should it be removed meanwhile, the one that has the name by then is opened.
    ///
    /// # Errors
    /// `ENOENT` there is none of this name; `EACCES` its mode does not allow this access; `EINVAL` it is smaller than
    /// asked for, or not shared memory; `EAGAIN`, `ETIMEDOUT` it has no size; `ECANCELED` as everywhere; `ENOMEM`,
    /// `EPERM` as for [`Shm::create`].
    ///
    /// System calls: shm_open, fstat, mmap; clock_nanosleep while it waits.
    pub fn open(address: &Address, options: &MemoryOptions, timeout: Timeout) -> Result<Shm> {
        Shm::find(address, &options.of(address, Scheme::Shm, "shm_open")?, timeout)
    }

    /// Opens the object, made if there is none; [`created`](Shm::created) tells which. Of several processes that do so
    /// at once, exactly one creates it, and all get the whole size. Waits as [`Shm::open`] does.
    ///
    /// Errors and system calls: as [`Shm::create`] and [`Shm::open`].
    pub fn open_or_create(address: &Address, options: &MemoryOptions, timeout: Timeout) -> Result<Shm> {
        let options = options.to_create(address, Scheme::Shm, "shm_open")?;
        let mut result = Shm::find(address, &options, timeout);
        for _ in 0..TRIES {
            result = match result {
                Err(error) if error.is(Errno::ENOENT) => Shm::make(address, &options),
                Err(error) if error.is(Errno::EEXIST) => Shm::find(address, &options, timeout),
                result => return result,
            };
        }
        result
    }

    /// Takes over the descriptor of an object that something else opened. `size` and `access` count of the options, and
    /// `populate` and `lock`.
    ///
    /// # Errors
    /// `EINVAL` it is not shared memory, or smaller than asked for; `EACCES` it was not opened for this access.
    ///
    /// System calls: fstat, mmap.
    pub fn from_fd(fd: OwnedFd, options: &MemoryOptions) -> Result<Shm> {
        let object = Object::new(address_of(fd.as_fd()).map_or("shm:".into(), |address| address.to_string()));
        require_memory(&object, fd.as_fd(), "shm_open")?;
        Ok(Shm { backed: Backed::map(object, fd, options)?, created: false })
    }

    /// Removes the name. The memory stays for those that have it open.
    ///
    /// # Errors
    /// `ENOENT` there is none of this name; `EACCES`, `EPERM` it belongs to somebody else.
    ///
    /// System call: shm_unlink.
    pub fn remove(address: &Address) -> Result<()> {
        address.require(&[Scheme::Shm], "shm_unlink")?;
        shm_unlink(address.name()).map_err(|errno| {
            explain_name(Object::new(address.without_options().to_string()).error(errno, "shm_unlink"))
        })
    }

    fn make(address: &Address, options: &MemoryOptions) -> Result<Shm> {
        let object = Object::new(address.without_options().to_string());
        let failed = |errno| explain_name(object.error(errno, "shm_open"));
        if options.huge_pages {
            return Err(object.error(Errno::ENOTSUP, "shm_open").because(
                "POSIX shared memory lies on a tmpfs, which has no huge pages on request; use memfd: or sysv-shm:",
            ));
        }
        let path = path_of(address);
        // The kernel has the last word when the name is linked; this look saves taking the memory in vain.
        if lstat(&path).is_ok() {
            return Err(failed(Errno::EEXIST));
        }
        let unnamed = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let fd = match open(DIRECTORY, unnamed, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(fd) => fd,
            // No such files on this file system, or not in this sandbox.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT | Errno::EINVAL | Errno::EPERM) => {
                return Shm::make_in_steps(address, object, options);
            }
            Err(Errno::ENOSPC) => {
                return Err(space::explain(failed(Errno::ENOSPC), directory(&object)?.as_fd(), options.size as u64));
            }
            Err(errno) => return Err(failed(errno)),
        };
        prepare(&object, fd.as_fd(), options)?;
        // Mapped, locked and populated before it has a name: what fails then has not been found by anybody.
        let backed = Backed::map(object, fd, options)?;
        match linkat(AT_FDCWD, of_descriptor(backed.fd.as_fd()).as_str(), AT_FDCWD, &path, AtFlags::AT_SYMLINK_FOLLOW) {
            Ok(()) => SHM_NAME.found(true),
            // Without /proc, for one, or in a sandbox.
            Err(Errno::ENOENT | Errno::EPERM | Errno::EXDEV | Errno::ENOSYS) => {
                let Backed { mapping, object, fd } = backed;
                drop((mapping, fd)); // the limits on memory are to be had by the one that follows
                return Shm::make_in_steps(address, object, options);
            }
            Err(errno) => return Err(explain_name(backed.object.error(errno, "shm_open"))),
        }
        Ok(Shm { backed: under_its_name(address, backed, options), created: true })
    }

    /// The usual way: the name first, then the mode, then size and pages at once.
    fn make_in_steps(address: &Address, object: Object, options: &MemoryOptions) -> Result<Shm> {
        SHM_NAME.found(false);
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
        let fd = shm_open(address.name(), flags, Mode::from_bits_truncate(options.mode))
            .map_err(|errno| explain_name(object.error(errno, "shm_open")))?;
        match prepare(&object, fd.as_fd(), options) {
            Ok(()) => Shm::map_new(address, object, fd, options),
            Err(error) => {
                remove_own(address, inode(&fd));
                Err(error)
            }
        }
    }

    /// Maps what was just made; if that fails, nothing is left behind.
    fn map_new(address: &Address, object: Object, fd: OwnedFd, options: &MemoryOptions) -> Result<Shm> {
        let inode = inode(&fd);
        Backed::map(object, fd, options)
            .map(|backed| Shm { backed, created: true })
            .inspect_err(|_| remove_own(address, inode))
    }

    fn find(address: &Address, options: &MemoryOptions, timeout: Timeout) -> Result<Shm> {
        let object = Object::new(address.without_options().to_string());
        let mut operation = object.operation("shm_open", timeout);
        let fd = find_sized(&object, address, options, &mut operation);
        drop(operation);
        Ok(Shm { backed: Backed::map(object, fd?, options)?, created: false })
    }

    /// Whether this call made it, as opposed to finding it.
    pub fn created(&self) -> bool {
        self.created
    }

    /// Its address; `shm:` for an adopted one whose name is not known.
    pub fn address(&self) -> &str {
        self.backed.object.address()
    }

    /// Makes it at least `size` bytes large with all pages reserved, and maps all of it; the new size. The mapping may
    /// move: pointers into it are no longer good. Others see the new part when they [`refresh`](Shm::refresh). It never
    /// becomes smaller, since others would be killed by SIGBUS.
    ///
    /// # Errors
    /// `ENOSPC` /dev/shm is full; `ENOMEM` no memory; `EACCES` attached read-only; `EFBIG` more than a file can have.
    /// Nothing has changed then. `ENOMEM` also for locked memory past RLIMIT_MEMLOCK: the object has grown then, the mapping
    /// has not.
    ///
    /// System calls: fallocate, mremap.
    pub fn grow(&mut self, size: usize) -> Result<usize> {
        self.backed.grow(size)
    }

    /// Maps what others have added meanwhile; the new size. The mapping may move: pointers into it are no longer good.
    ///
    /// # Errors
    /// `ENOMEM` no address space is left.
    ///
    /// System calls: fstat, mremap.
    pub fn refresh(&mut self) -> Result<usize> {
        self.backed.refresh()
    }

    /// Takes all pages now, for an object that was created without, by another program or as `sparse`.
    ///
    /// # Errors
    /// `ENOSPC` /dev/shm is full; `ENOMEM` no memory; `EBADF` opened read-only.
    ///
    /// System call: fallocate.
    pub fn reserve(&self) -> Result<()> {
        self.backed.reserve()
    }

    /// `ENOTSUP`: the kernel keeps neither attach count nor creator, see [`SysvShm::status`](crate::SysvShm).
    pub fn status(&self) -> Result<SysvShmStatus> {
        self.backed.no_status()
    }

    /// Whether its name still leads to this object. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` the name is gone; `ESTALE` it was removed and made anew: open it again; `ENOTSUP` adopted without a name.
    ///
    /// System calls: stat, fstat.
    pub fn check_name(&self) -> Result<()> {
        let failed = |errno| self.backed.object.error(errno, "stat");
        let path = path_of(&self.named("stat")?);
        let named = lstat(&path).map_err(|errno| match errno {
            Errno::ENOENT => failed(errno).because("the name was removed"),
            errno => failed(errno),
        })?;
        let own = fstat(&self.backed.fd).map_err(failed)?;
        if (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino) {
            return Ok(());
        }
        Err(failed(Errno::ESTALE).because("the object was removed and made anew; open it again"))
    }

    /// Removes the name; the memory goes with the last process that has it open. An object of the same name that was
    /// made meanwhile stays.
    ///
    /// # Errors
    /// `ENOENT` the name is gone already; `ESTALE` it belongs to a newer object by now; `EACCES`, `EPERM` it belongs to
    /// somebody else; `ENOTSUP` adopted without a name.
    ///
    /// System call: shm_unlink.
    pub fn unlink(&self) -> Result<()> {
        self.check_name()?;
        Shm::remove(&self.named("shm_unlink")?)
    }

    /// Keeps the descriptor open in programs started by this process (close-on-exec off).
    ///
    /// System call: fcntl.
    pub fn inherit(&self) -> Result<()> {
        self.backed.inherit()
    }

    /// Gives up the mapping and keeps the descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.backed.fd
    }

    fn named(&self, operation: &'static str) -> Result<Address> {
        Address::parse(self.address()).map_err(|_| {
            self.backed.object.error(Errno::ENOTSUP, operation).because("adopted, and its name is not known")
        })
    }
}

impl Deref for Shm {
    type Target = Mapping;

    fn deref(&self) -> &Mapping {
        &self.backed.mapping
    }
}

impl AsFd for Shm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.backed.fd.as_fd()
    }
}

impl std::fmt::Debug for Shm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shm")
            .field("address", &self.address())
            .field("fd", &self.as_fd())
            .field("len", &self.len())
            .finish()
    }
}

/// The same opened by the name that it has got meanwhile: the kernel goes on showing the first descriptor, and its mappings,
/// as deleted. The first one serves as well, should the name be gone already, or the mode be in the way; and so does a
/// mapping that was locked or populated, which would have to be done again.
fn under_its_name(address: &Address, first: Backed, options: &MemoryOptions) -> Backed {
    let named = match shm_open(address.name(), OFlag::O_RDWR | OFlag::O_NONBLOCK, Mode::empty()) {
        Ok(named) if inode(&named) == inode(&first.fd) => named,
        _ => return first,
    };
    let Backed { mapping, object, .. } = first;
    let again = MapOptions { access: options.access, ..Default::default() };
    let mapping = if options.lock || options.populate {
        mapping
    } else {
        Mapping::of_file(named.as_fd(), object.address(), &again).unwrap_or(mapping)
    };
    Backed { mapping, object, fd: named }
}

/// Opens the object that has the name, once it has a size.
fn find_sized(
    object: &Object,
    address: &Address,
    options: &MemoryOptions,
    operation: &mut Operation<'_>,
) -> Result<OwnedFd> {
    // O_NONBLOCK means nothing for memory, but keeps the open from hanging should a FIFO lie there.
    let access = if options.access.is_writable() { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    for _ in 0..TRIES {
        let fd = shm_open(address.name(), access | OFlag::O_NONBLOCK, Mode::empty())
            .map_err(|errno| explain_name(object.error(errno, "shm_open")))?;
        require_memory(object, fd.as_fd(), "shm_open")?;
        if wait_for_size(operation, fd.as_fd())? {
            return Ok(fd);
        }
    }
    Err(operation.error(Errno::ENOENT).because("somebody creates and removes it again and again"))
}

/// What tells an object from others of the same name.
fn inode(fd: &OwnedFd) -> SysResult<(u64, u64)> {
    fstat(fd).map(|found| (found.st_dev, found.st_ino))
}

/// Takes back the name of an object that was made in vain, unless it belongs to another one by now.
fn remove_own(address: &Address, made: SysResult<(u64, u64)>) {
    let named = lstat(&path_of(address)).map(|found| (found.st_dev, found.st_ino));
    if named.is_ok() && named == made {
        let _ = shm_unlink(address.name()); // as good as gone: the error that led here is what matters
    }
}

/// Mode, size and pages of a new file.
fn prepare(object: &Object, fd: BorrowedFd<'_>, options: &MemoryOptions) -> Result<()> {
    fchmod(fd, Mode::from_bits_truncate(options.mode)).map_err(|errno| object.error(errno, "fchmod"))?;
    Backed::give_size(object, fd, options)
}

/// There is nothing to poll for a size, so that it is looked at, ever less often. False if the object was removed while it
/// had none: nobody finds it any more to give it one.
fn wait_for_size(operation: &mut Operation<'_>, fd: BorrowedFd<'_>) -> Result<bool> {
    let look = || -> SysResult<bool> {
        let found = fstat(fd)?;
        match found.st_size > 0 {
            false if found.st_nlink > 0 => Err(Errno::EAGAIN),
            sized => Ok(sized),
        }
    };
    let mut pause = Duration::from_micros(50);
    operation
        .in_call(look, |_| {
            match look() {
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
            clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::empty(), &TimeSpec::from(pause))?;
            pause = (pause * 2).min(Duration::from_millis(20));
            Err(Errno::EINTR) // as if a signal had come: one may have, between the sleeps, and waits for the language's handler
        })
        .map_err(|error| match Errno::from_raw(error.errno()) {
            Errno::ETIMEDOUT => error.because("it still has the size 0; if its creator died on the way, remove it"),
            _ => error,
        })
}

fn path_of(address: &Address) -> PathBuf {
    // The grammar has seen to it that the name is a slash and one component.
    Path::new(DIRECTORY).join(address.path().strip_prefix("/").unwrap_or(address.path()))
}

/// The address of an object that is known by its descriptor, as long as it has a name.
fn address_of(fd: BorrowedFd<'_>) -> Option<Address> {
    if fstat(fd).ok()?.st_nlink == 0 {
        return None;
    }
    let path = name_of(fd)?;
    let name = path.strip_prefix(DIRECTORY).ok()?;
    Address::from_parts(Scheme::Shm, [b"/", name.as_os_str().as_bytes()].concat(), None, []).ok()
}

fn directory(object: &Object) -> Result<OwnedFd> {
    open(DIRECTORY, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| object.error(errno, "shm_open"))
}

fn explain_name(error: Error) -> Error {
    match Errno::from_raw(error.errno()) {
        Errno::EEXIST => error.because("the object exists already; open it, or remove it first"),
        Errno::ENOENT => error.because("there is no shared memory of this name; create it first"),
        Errno::EACCES => {
            error.because("its mode, or that of /dev/shm, does not allow it; ask its owner, or attach read-only")
        }
        Errno::EPERM => error.because("only its owner and root may do that in /dev/shm"),
        Errno::ELOOP => error.because("a symbolic link lies at this name in /dev/shm; such are not followed"),
        _ => explain_descriptors(error),
    }
}
