//! System V shared memory (`sysv-shm:`): segments of fixed size with a numeric key.

use std::ops::Deref;
use std::path::Path;

use nix::errno::Errno;

use super::mapping::{Access, Mapping};
use super::options::MemoryOptions;
use super::refusal;
use super::space;
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::limits::setting;
use crate::sys::memory::{Region, page_size};
use crate::sys::shm as kernel;
use crate::sysv;
use crate::wait::Object;

/// How often a segment may vanish between being found and being attached before that counts as an error.
const TRIES: usize = 100;

/// A System V shared memory segment, attached.
///
/// It [is](Deref) a [`Mapping`]: read, write and use atomics through it. The segment outlives its processes; it is there
/// until somebody removes it ([`unlink`](SysvShm::unlink), [`SysvShm::remove`]), and its memory until the last process
/// that is attached then has gone, by whatever death. Dropping this value detaches. Its size is fixed from the moment
/// it exists, so that nobody ever finds it half made; its content starts as zeroes.
///
/// The kernel accounts for all pages at creation, so that running short of them is an error there (with the usual
/// overcommit only when it is obvious; ask for `populate` to be certain).
///
/// ```
/// use wigwag::{MemoryOptions, SysvShm};
/// let created = SysvShm::create(&"sysv-shm:private?size=4096".parse()?, &MemoryOptions::default())?;
/// created.unlink()?; // from now on it lives as long as somebody is attached
/// created.write_at(0, b"hello")?;
/// let attached_twice = SysvShm::from_id(created.id(), &MemoryOptions::default())?;
/// assert_eq!(attached_twice.read_vec(0, 5)?, b"hello");
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "shmget")]
#[doc(alias = "shmat")]
pub struct SysvShm {
    mapping: Mapping,
    object: Object,
    /// `None` for a segment adopted by its id.
    name: Option<Address>,
    id: i32,
    created: bool,
}

/// What the kernel keeps about shared memory. Times are seconds of the wall clock, 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SysvShmStatus {
    /// The size in bytes.
    pub size: usize,
    /// How often it is attached, over all processes.
    pub attached: u64,
    /// The process that created it; 0 if it lives in a pid namespace that this one cannot see.
    pub creator_pid: i32,
    /// The process that attached or detached last; 0 for none.
    pub last_pid: i32,
    /// When it was last attached.
    pub attached_at: i64,
    /// When it was last detached.
    pub detached_at: i64,
    /// When it was created, or its owner or mode changed.
    pub changed_at: i64,
    /// The user that owns it.
    pub uid: u32,
    /// The group that owns it.
    pub gid: u32,
    /// The user that created it.
    pub creator_uid: u32,
    /// The group that created it.
    pub creator_gid: u32,
    /// The permissions.
    pub mode: u32,
    /// Whether it is removed, and gone with the last that detaches.
    pub removed: bool,
    /// Whether somebody has locked the whole segment in memory.
    pub locked: bool,
}

impl SysvShm {
    /// Creates the segment and attaches it, for reading and writing. Never waits for others.
    ///
    /// # Errors
    /// `EEXIST` there is one with this key; `EINVAL` no size is given, or it is above kernel.shmmax; `ENOENT` the file
    /// that the key is derived from does not exist; `ENOSPC` kernel.shmmni segments exist, or kernel.shmall pages are in
    /// use; `ENOMEM` no memory, no free huge pages, or RLIMIT_MEMLOCK is too low; `EPERM` huge pages, or locking, is not
    /// allowed.
    ///
    /// System calls: shmget, shmctl, shmat.
    pub fn create(address: &Address, options: &MemoryOptions) -> Result<SysvShm> {
        let options = options.to_create(address, Scheme::SysvShm, "shmget")?;
        SysvShm::make(address, sysv::key(address, "shmget")?, &options)
    }

    /// Attaches the segment that exists. Never waits for others.
    ///
    /// # Errors
    /// `ENOENT` there is none with this key, or the file that the key is derived from does not exist; `EACCES` its mode
    /// does not allow this access; `EINVAL` it is smaller than asked for, or the address is `private`; `ENOMEM`, `EPERM`
    /// as for [`SysvShm::create`].
    ///
    /// System calls: shmget, shmctl, shmat.
    pub fn open(address: &Address, options: &MemoryOptions) -> Result<SysvShm> {
        let options = options.of(address, Scheme::SysvShm, "shmget")?;
        SysvShm::find(address, sysv::key(address, "shmget")?, &options)
    }

    /// Attaches the segment, made if there is none; [`created`](SysvShm::created) tells which. Of several processes
    /// that do so at once, exactly one creates it, and all get the whole size. Never waits for others.
    ///
    /// Errors and system calls: as [`SysvShm::create`] and [`SysvShm::open`].
    pub fn open_or_create(address: &Address, options: &MemoryOptions) -> Result<SysvShm> {
        let options = options.to_create(address, Scheme::SysvShm, "shmget")?;
        let key = sysv::key(address, "shmget")?;
        let mut result = SysvShm::make(address, key, &options);
        for _ in 0..TRIES {
            result = match result {
                Err(error) if error.is(Errno::EEXIST) => SysvShm::find(address, key, &options),
                Err(error) if error.is(Errno::ENOENT) => SysvShm::make(address, key, &options),
                result => return result,
            };
        }
        result
    }

    /// Attaches the segment with this id, as another program got it from shmget and passed it on. `size` and `access`
    /// count of the options, and `populate` and `lock`.
    ///
    /// # Errors
    /// `EIDRM` there is no segment with this id (any more); the others as for [`SysvShm::open`].
    ///
    /// System calls: shmctl, shmat.
    pub fn from_id(id: i32, options: &MemoryOptions) -> Result<SysvShm> {
        let text = match kernel::status(id).map(|status| status.key()) {
            Ok(0) | Err(_) => "sysv-shm:private".into(),
            Ok(key) => format!("sysv-shm:{key:#x}"),
        };
        let object = Object::new(text);
        SysvShm::attach(object, None, id, false, options)
            .map_err(|(object, errno)| match errno {
                Errno::EINVAL | Errno::EIDRM => object
                    .error(Errno::EIDRM, "shmat")
                    .because_found(format!("there is no segment with the id {id}; it was removed, or never existed")),
                errno => denied(object.error(errno, "shmat"), &object, options),
            })
            .and_then(|shm| shm.settled(options))
    }

    /// Removes the segment that the address names. Its memory stays for those that are attached.
    ///
    /// # Errors
    /// `ENOENT` there is none; `EPERM` it belongs to somebody else; `EINVAL` the address is `private`.
    ///
    /// System calls: shmget, shmctl with IPC_RMID.
    pub fn remove(address: &Address) -> Result<()> {
        address.require(&[Scheme::SysvShm], "shmctl")?;
        let object = Object::new(address.without_options().to_string());
        let Some(key) = sysv::key(address, "shmctl")? else { return Err(private(&object)) };
        let id = kernel::get(Some(key), 0, 0).map_err(|errno| explain_find(&object, errno))?;
        kernel::remove(id).map_err(|errno| explain_remove(&object, errno))
    }

    fn make(address: &Address, key: Option<i32>, options: &MemoryOptions) -> Result<SysvShm> {
        let object = Object::new(address.without_options().to_string());
        let mut flags = kernel::EXCLUSIVE | options.mode.cast_signed();
        if options.huge_pages {
            flags |= kernel::HUGE | options.huge_bits(kernel::HUGE_SHIFT).cast_signed();
        }
        let id = kernel::get(key, options.size, flags).map_err(|errno| explain_make(&object, errno, options))?;
        // A failure from here on must leave no segment behind, unless others have attached it by now.
        SysvShm::attach(object, Some(address.without_options()), id, true, options)
            .map_err(|(object, errno)| denied(object.error(errno, "shmat"), &object, options))
            .and_then(|shm| shm.settled(options))
            .inspect_err(|_| {
                // Where the mode lets not even the owner look, nobody else has attached it.
                if !kernel::status(id).is_ok_and(|status| status.raw.shm_nattch > 0) {
                    let _ = kernel::remove(id); // as good as gone: the error that led here is what matters
                }
            })
    }

    fn find(address: &Address, key: Option<i32>, options: &MemoryOptions) -> Result<SysvShm> {
        let mut object = Object::new(address.without_options().to_string());
        if key.is_none() {
            return Err(private(&object));
        }
        for _ in 0..TRIES {
            let id = kernel::get(key, 0, 0).map_err(|errno| explain_find(&object, errno))?;
            match SysvShm::attach(object, Some(address.without_options()), id, false, options) {
                Ok(shm) => return shm.settled(options),
                // Removed in between; perhaps there is a new one.
                Err((same, Errno::EINVAL | Errno::EIDRM)) => object = same,
                Err((object, errno)) => return Err(denied(object.error(errno, "shmat"), &object, options)),
            }
        }
        Err(object.error(Errno::ENOENT, "shmat").because("the segment is removed again and again by somebody"))
    }

    /// Attaches; on failure gives the object back.
    fn attach(
        object: Object,
        name: Option<Address>,
        id: i32,
        created: bool,
        options: &MemoryOptions,
    ) -> std::result::Result<SysvShm, (Object, Errno)> {
        let region = kernel::status(id)
            .and_then(|status| Region::attach(id, status.raw.shm_segsz, options.access.is_writable()));
        match region {
            Ok(region) => {
                let mapping = Mapping::new(region, options.access, object.address());
                Ok(SysvShm { mapping, object, name, id, created })
            }
            Err(errno) => Err((object, errno)),
        }
    }

    /// What remains to be done once it is attached.
    fn settled(self, options: &MemoryOptions) -> Result<SysvShm> {
        if self.len() < options.size {
            return Err(self.object.error(Errno::EINVAL, "shmat").because_found(too_small(self.len(), options.size)));
        }
        self.mapping.settle(options.populate, options.lock)?;
        Ok(self)
    }

    /// The kernel's id, which works in every process of the same IPC namespace.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The key; 0, IPC_PRIVATE, for one without a key, be it that it never had one or that it was removed.
    pub fn key(&self) -> Result<i32> {
        self.kernel_status().map(|status| status.key())
    }

    /// Whether this call made it, as opposed to finding it.
    pub fn created(&self) -> bool {
        self.created
    }

    /// Its address.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// What the kernel keeps about it. Never blocks.
    ///
    /// # Errors
    /// `EACCES` the mode does not allow reading any more.
    ///
    /// System call: shmctl with IPC_STAT.
    pub fn status(&self) -> Result<SysvShmStatus> {
        let status = self.kernel_status()?;
        let raw = &status.raw;
        Ok(SysvShmStatus {
            size: raw.shm_segsz,
            attached: raw.shm_nattch,
            creator_pid: raw.shm_cpid,
            last_pid: raw.shm_lpid,
            attached_at: raw.shm_atime,
            detached_at: raw.shm_dtime,
            changed_at: raw.shm_ctime,
            uid: raw.shm_perm.uid,
            gid: raw.shm_perm.gid,
            creator_uid: raw.shm_perm.cuid,
            creator_gid: raw.shm_perm.cgid,
            mode: status.mode(),
            removed: status.is_removed(),
            locked: status.is_locked(),
        })
    }

    /// Whether its name still leads to this segment. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` the name is gone; `ESTALE` the segment was removed and made anew, or the file behind the key was.
    ///
    /// System calls: shmctl, shmget.
    pub fn check_name(&self) -> Result<()> {
        let failed = |errno| self.object.error(errno, "shmget");
        let status = self.kernel_status()?;
        let key = match &self.name {
            Some(address) => sysv::key(address, "shmget")?,
            None => Some(status.key()).filter(|key| *key != 0),
        };
        match key.map(|key| kernel::get(Some(key), 0, 0)) {
            None if status.is_removed() => Err(failed(Errno::ENOENT).because("the segment was removed")),
            None => Ok(()),
            Some(Ok(id)) if id == self.id => Ok(()),
            Some(Ok(_)) => Err(failed(Errno::ESTALE).because("the segment was removed and made anew; open it again")),
            Some(Err(Errno::ENOENT)) => Err(failed(Errno::ENOENT).because("the segment was removed")),
            Some(Err(errno)) => Err(failed(errno)),
        }
    }

    /// Removes the segment: nobody can open it by its name any more, and its memory goes with the last process that is
    /// attached. On Linux it can be attached by its id until then. Doing it twice is as good as once.
    ///
    /// # Errors
    /// `EPERM` it belongs to somebody else.
    ///
    /// System call: shmctl with IPC_RMID.
    pub fn unlink(&self) -> Result<()> {
        kernel::remove(self.id).map_err(|errno| explain_remove(&self.object, errno))
    }

    /// Makes sure that it has `size` bytes, which a System V segment has from the start or never.
    ///
    /// # Errors
    /// `ENOTSUP` it is smaller.
    pub fn grow(&mut self, size: usize) -> Result<usize> {
        if size <= self.len() {
            return Ok(self.len());
        }
        Err(self.object.error(Errno::ENOTSUP, "grow").because(
            "the size of a System V segment is fixed; remove it and make a larger one, or use shm: or memfd:, which grow",
        ))
    }

    fn kernel_status(&self) -> Result<kernel::Status> {
        kernel::status(self.id).map_err(|errno| self.object.error(errno, "shmctl"))
    }
}

impl Deref for SysvShm {
    type Target = Mapping;

    fn deref(&self) -> &Mapping {
        &self.mapping
    }
}

impl std::fmt::Debug for SysvShm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SysvShm")
            .field("address", &self.address())
            .field("id", &self.id)
            .field("len", &self.len())
            .finish()
    }
}

fn private(object: &Object) -> Error {
    object
        .error(Errno::EINVAL, "shmget")
        .because("a private segment has no name to be found by; pass its id on instead")
}

pub(super) fn too_small(found: usize, wanted: usize) -> String {
    format!("it exists with {found} bytes, and {wanted} are asked for; ask for less, or remove it and make it anew")
}

fn explain_make(object: &Object, errno: Errno, options: &MemoryOptions) -> Error {
    let error = object.error(errno, "shmget");
    let size = options.size;
    match errno {
        Errno::EEXIST => error.because("the segment exists already; open it, or remove it first"),
        Errno::ENOSPC => error.because_found(limits_reached(size)),
        Errno::EINVAL => error.because_found(format!(
            "the size {size} is refused; the most is kernel.shmmax={}",
            setting("kernel/shmmax")
        )),
        Errno::ENOMEM | Errno::EPERM | Errno::ENOENT if options.huge_pages => space::huge_pages(error, size as u64),
        Errno::ENOMEM => error.because_found(format!("the kernel has no memory for {size} bytes")),
        _ => error,
    }
}

/// Which of the limits on all segments together was hit.
fn limits_reached(size: usize) -> String {
    let page = page_size();
    let sizes: Vec<usize> = std::fs::read_to_string(Path::new("/proc/sysvipc/shm"))
        .unwrap_or_default()
        .lines()
        .skip(1) // the heading
        .map(|line| line.split_whitespace().nth(3).and_then(|size| size.parse().ok()).unwrap_or(0))
        .collect();
    let (most, pages) = (setting("kernel/shmmni"), setting("kernel/shmall"));
    if most.parse().is_ok_and(|most: usize| sizes.len() >= most) {
        format!(
            "{} of kernel.shmmni={most} segments exist; remove those left over (ipcs -m, ipcrm -m ID) or raise the limit",
            sizes.len()
        )
    } else {
        format!(
            "{size} bytes are asked for, and {} of kernel.shmall={pages} pages of {page} bytes are in use; remove \
             segments left over (ipcs -m, ipcrm -m ID) or raise the limit",
            sizes.iter().map(|size| size.div_ceil(page)).sum::<usize>()
        )
    }
}

fn explain_find(object: &Object, errno: Errno) -> Error {
    let error = object.error(errno, "shmget");
    match errno {
        Errno::ENOENT => error.because("there is no segment with this key; create it first"),
        _ => error,
    }
}

fn explain_remove(object: &Object, errno: Errno) -> Error {
    let errno = if matches!(errno, Errno::EIDRM | Errno::EINVAL) { Errno::ENOENT } else { errno };
    let error = object.error(errno, "shmctl");
    match errno {
        Errno::ENOENT => error.because("the segment is removed already"),
        Errno::EPERM => error.because("only the owner, the creator and root may remove a segment"),
        _ => error,
    }
}

fn denied(error: Error, object: &Object, options: &MemoryOptions) -> Error {
    match Errno::from_raw(error.errno()) {
        Errno::EACCES if options.access == Access::ReadWrite => object.error(Errno::EACCES, "shmat").because(
            "the mode of the segment does not let this user read and write; attach read-only, or ask its owner",
        ),
        Errno::EACCES => object
            .error(Errno::EACCES, "shmat")
            .because("the mode of the segment does not let this user read; ask its owner"),
        Errno::ENOMEM => refusal::no_room(error),
        _ => error,
    }
}
