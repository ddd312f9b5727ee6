//! Memory with a descriptor instead of a name (`memfd:`), which can be sealed.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};

use super::backed::{Backed, require_memory};
use super::mapping::{Access, Mapping};
use super::options::MemoryOptions;
use super::space;
use super::sysv::SysvShmStatus;
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::limits::explain_descriptors;
use crate::paths::name_of;
use crate::wait::Object;

bitflags::bitflags! {
    /// Promises about a memfd that nobody can take back, its creator included.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Seals: u32 {
        /// No further seals.
        const SEAL = libc::F_SEAL_SEAL.cast_unsigned();
        /// It never becomes shorter: touching it never raises SIGBUS.
        const SHRINK = libc::F_SEAL_SHRINK.cast_unsigned();
        /// It never becomes longer.
        const GROW = libc::F_SEAL_GROW.cast_unsigned();
        /// Its content never changes. Nobody may have it mapped writable when this seal is set.
        const WRITE = libc::F_SEAL_WRITE.cast_unsigned();
        /// Its content changes only through mappings that are writable already.
        const FUTURE_WRITE = libc::F_SEAL_FUTURE_WRITE.cast_unsigned();
        /// The permission to execute it never changes.
        const EXEC = libc::F_SEAL_EXEC.cast_unsigned();
    }
}

/// Anonymous memory, mapped as a whole, that others get by its descriptor: inherited, or passed over a unix socket.
///
/// It [is](Deref) a [`Mapping`]: read, write and use atomics through it. It is gone when the last process has let go of
/// it, by whatever death; there is nothing to clean up. Its content starts as zeroes, and its pages are reserved at
/// creation. [Seals](Seals) protect the one who receives it: with [`Seals::SHRINK`] nobody can have it killed by SIGBUS,
/// with [`Seals::WRITE`] what was checked once stays as it is.
///
/// ```
/// use wigwag::{Access, Memfd, MemoryOptions, Seals};
/// use std::os::fd::AsFd;
/// let mut made = Memfd::new(4096)?;
/// made.write_at(0, b"hello")?;
/// made.seal(Seals::SHRINK | Seals::GROW | Seals::WRITE)?;
/// # let passed_on = made.as_fd().try_clone_to_owned().unwrap();
/// let reading = MemoryOptions { access: Access::ReadOnly, ..Default::default() };
/// let received = Memfd::from_fd(passed_on, &reading, Seals::SHRINK | Seals::WRITE)?;
/// assert_eq!(received.read_vec(0, 5)?, b"hello");
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "memfd_create")]
pub struct Memfd {
    backed: Backed,
}

impl Memfd {
    /// Makes memory of this size. Never waits for others. Errors and system calls: as [`Memfd::create`].
    pub fn new(size: usize) -> Result<Memfd> {
        let options = MemoryOptions { size, ..Default::default() };
        Memfd::create(&Address::parse("memfd:")?, &options)
    }

    /// Makes memory. The name in the address, if there is one, is a label that shows in `/proc`. On huge pages the size
    /// is rounded up to whole ones. The mode counts for those who open it through `/proc`. Never waits for others.
    ///
    /// # Errors
    /// `EINVAL` no size is given, or the system has no huge pages of that size; `ENOMEM` no memory, or RLIMIT_MEMLOCK is
    /// too low for `lock`; `ENOSPC` no free huge pages; `EFBIG` more than a file can have; `ENAMETOOLONG` a label of more
    /// than 249 bytes; `EMFILE`, `ENFILE` no descriptor is left.
    ///
    /// System calls: memfd_create with MFD_CLOEXEC, MFD_ALLOW_SEALING and MFD_NOEXEC_SEAL; fchmod, fallocate, mmap.
    pub fn create(address: &Address, options: &MemoryOptions) -> Result<Memfd> {
        let options = options.to_create(address, Scheme::Memfd, "memfd_create")?;
        let object = Object::new(address.without_options().to_string());
        let mut flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        if options.huge_pages {
            flags |= MFdFlags::MFD_HUGETLB | MFdFlags::from_bits_retain(options.huge_bits(libc::MFD_HUGE_SHIFT));
        }
        // Not executable, for which memory to share has no use, and which some systems insist on (vm.memfd_noexec).
        let no_exec = flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
        let fd = memfd_create(address.name(), no_exec)
            .or_else(|errno| match errno {
                Errno::EINVAL => memfd_create(address.name(), flags), // before Linux 6.3
                errno => Err(errno),
            })
            .map_err(|errno| explain(object.error(errno, "memfd_create"), address, &options))?;
        fchmod(&fd, Mode::from_bits_truncate(options.mode)).map_err(|errno| match errno {
            Errno::EPERM => {
                object.error(errno, "fchmod").because("memory to share is never executable; leave x out of the mode")
            }
            errno => object.error(errno, "fchmod"),
        })?;
        Backed::give_size(&object, fd.as_fd(), &options)?;
        let backed = Backed::map(object, fd, &options).map_err(|error| match Errno::from_raw(error.errno()) {
            Errno::ENOMEM if options.huge_pages && error.operation() == "map" => {
                space::huge_pages(error, options.size as u64)
            }
            _ => error,
        })?;
        Ok(Memfd { backed })
    }

    /// Takes over the descriptor of a memfd that came from elsewhere, provided that it has these seals. `size` and
    /// `access` count of the options, and `populate` and `lock`.
    ///
    /// # Errors
    /// `EPERM` a seal is missing, or one forbids this access; `EINVAL` it is not a memfd, or smaller than asked for;
    /// `EACCES` it was not opened for this access.
    ///
    /// System calls: fcntl with F_GET_SEALS, fstat, mmap.
    pub fn from_fd(fd: OwnedFd, options: &MemoryOptions, required: Seals) -> Result<Memfd> {
        let object = Object::new(address_of(fd.as_fd()).map_or("memfd:".into(), |address| address.to_string()));
        require_memory(&object, fd.as_fd(), "memfd")?;
        // Before its size is looked at: with the seals in place, the size does not change afterwards.
        let missing = required - seals_of(&object, fd.as_fd())?;
        if !missing.is_empty() {
            return Err(object.error(Errno::EPERM, "memfd").because_found(format!(
                "the sender has not sealed it as required; missing are {}",
                missing.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
            )));
        }
        Ok(Memfd { backed: Backed::map(object, fd, options)? })
    }

    /// The seals that are set. Never blocks.
    ///
    /// System call: fcntl with F_GET_SEALS.
    pub fn seals(&self) -> Result<Seals> {
        seals_of(&self.backed.object, self.as_fd())
    }

    /// Adds seals, for good. With [`Seals::WRITE`] this mapping becomes read-only, at the same address, and is locked and
    /// populated again if it was.
    ///
    /// # Errors
    /// `EPERM` it is sealed against further seals, or its descriptor was opened read-only; `EBUSY` for
    /// [`Seals::WRITE`], somebody has it mapped writable, such as a child forked since; `EINVAL` a seal that this kernel
    /// does not know; `ENOMEM` it cannot be locked or populated again. Nothing has changed then.
    ///
    /// System calls: fcntl with F_ADD_SEALS; for [`Seals::WRITE`] mmap, mlock, madvise.
    pub fn seal(&mut self, seals: Seals) -> Result<()> {
        let Backed { mapping, object, fd } = &mut self.backed;
        let freezes = seals.contains(Seals::WRITE) && mapping.access() == Access::ReadWrite;
        if freezes {
            mapping.set_unchanging(fd.as_fd(), true).map_err(|error| thaw(mapping, fd.as_fd()).unwrap_or(error))?;
        }
        let added = fcntl(fd.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::from_bits_retain(seals.bits().cast_signed())));
        added.map(drop).map_err(|errno| {
            if let Some(worse) = freezes.then(|| thaw(mapping, fd.as_fd())).flatten() {
                return worse;
            }
            let error = object.error(errno, "fcntl");
            match errno {
                Errno::EPERM => error.because("it is sealed against further seals, or was opened read-only"),
                Errno::EBUSY => error.because(
                    "somebody has it mapped writable; have all others detach first, or seal FUTURE_WRITE instead",
                ),
                _ => error,
            }
        })
    }

    /// Its address, `memfd:` and the label.
    pub fn address(&self) -> &str {
        self.backed.object.address()
    }

    /// Makes it at least `size` bytes large with all pages reserved, and maps all of it; the new size. The mapping may
    /// move: pointers into it are no longer good. Others see the new part when they [`refresh`](Memfd::refresh). It
    /// never becomes smaller, since others would be killed by SIGBUS.
    ///
    /// # Errors
    /// `EPERM` it is sealed against it; `ENOMEM` no memory; `EACCES` attached read-only; `EFBIG` more than a file can
    /// have; `ENOTSUP` it is on huge pages. Nothing has changed then. `ENOMEM` also for locked memory past RLIMIT_MEMLOCK:
    /// the memfd has grown then, the mapping has not.
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

    /// Takes all pages now, for memory that was made without, by another program or as `sparse`.
    ///
    /// # Errors
    /// `ENOMEM` no memory; `ENOSPC` no free huge pages; `EPERM` sealed against writing; `EBADF` opened read-only.
    ///
    /// System call: fallocate.
    pub fn reserve(&self) -> Result<()> {
        self.backed.reserve()
    }

    /// `ENOTSUP`: the kernel keeps neither attach count nor creator, see [`SysvShm::status`](crate::SysvShm).
    pub fn status(&self) -> Result<SysvShmStatus> {
        self.backed.no_status()
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
}

impl Deref for Memfd {
    type Target = Mapping;

    fn deref(&self) -> &Mapping {
        &self.backed.mapping
    }
}

impl AsFd for Memfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.backed.fd.as_fd()
    }
}

impl std::fmt::Debug for Memfd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memfd")
            .field("address", &self.address())
            .field("fd", &self.as_fd())
            .field("len", &self.len())
            .finish()
    }
}

/// Makes the mapping writable again after a seal that came to nothing; what failed, if that does.
fn thaw(mapping: &mut Mapping, fd: BorrowedFd<'_>) -> Option<Error> {
    if mapping.access() == Access::ReadWrite {
        return None; // it was not made read-only in the first place
    }
    let worse = mapping.set_unchanging(fd, false).err()?;
    Some(if mapping.access() == Access::ReadOnly {
        worse.because("the seal was refused, and the mapping stays read-only")
    } else {
        worse // it is writable, and not locked or populated any more
    })
}

fn seals_of(object: &Object, fd: BorrowedFd<'_>) -> Result<Seals> {
    let bits = fcntl(fd, FcntlArg::F_GET_SEALS).map_err(|errno| match errno {
        Errno::EINVAL => object.error(errno, "fcntl").because("it is not a memfd: it has no seals"),
        errno => object.error(errno, "fcntl"),
    })?;
    Ok(Seals::from_bits_retain(bits.cast_unsigned()))
}

/// The label, from what the kernel shows: `/memfd:label (deleted)`.
fn address_of(fd: BorrowedFd<'_>) -> Option<Address> {
    let path = name_of(fd)?;
    let label = path.as_os_str().as_bytes().strip_prefix(b"/memfd:")?;
    Address::from_parts(Scheme::Memfd, label.strip_suffix(b" (deleted)").unwrap_or(label), None, []).ok()
}

fn explain(error: Error, address: &Address, options: &MemoryOptions) -> Error {
    const LONGEST_LABEL: usize = 249;
    match Errno::from_raw(error.errno()) {
        Errno::EINVAL if address.name().len() > LONGEST_LABEL => Error::new(Errno::ENAMETOOLONG, "memfd_create")
            .on_text(address.to_string())
            .because("a label has at most 249 bytes"),
        Errno::EINVAL | Errno::ENODEV | Errno::ENOENT if options.huge_pages => {
            error.because("the system has no huge pages of this size; see /sys/kernel/mm/hugepages")
        }
        Errno::ENOMEM | Errno::EPERM if options.huge_pages => space::huge_pages(error, options.size as u64),
        _ => explain_descriptors(error),
    }
}
