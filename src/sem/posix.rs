//! POSIX semaphore (`sem:`): one counter, by name or in memory that processes share.

use std::ffi::{CString, OsString};
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag};

use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::limits::explain_descriptors;
use crate::paths::Found;
use crate::sys::posix_sem::{self, Open, Semaphore};
use crate::sys::{SysResult, fork};
use crate::timeout::Timeout;
use crate::wait::Object;

/// The largest value of a POSIX semaphore, 2^31 - 1.
pub const SEM_VALUE_MAX: u32 = posix_sem::MAX;

/// How often a name that comes and goes is tried before `open_or_create` gives up.
const TRIES: u32 = 1000;

/// How to make a semaphore; an option of the address (`?mode=0660&initial=1`) counts where the field is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SemOptions {
    /// Permissions, whatever the umask; 0 means 0600.
    pub mode: u32,
    /// The value at the start: the number of permits. 1 makes a lock.
    pub initial: u32,
}

/// A POSIX semaphore: [`acquire`](Sem::acquire) takes a permit, or waits while there is none; [`release`](Sem::release)
/// gives one.
///
/// The cheapest way to make another process wait: without anybody waiting, neither call enters the kernel. Binary when
/// it starts at 1, counting otherwise. The counter knows no owners: **a process that is killed while it holds a permit
/// takes it to the grave** – where that matters use [`SysvSem`](crate::SysvSem), whose permits the kernel gives back. A
/// named one lives until [`Sem::remove`] or the next boot (a file in `/dev/shm`). Whoever may open it can write to its
/// memory at will: it is for processes that trust each other, hence the default mode.
///
/// The handle may be used by all threads at once, and by a child made by fork.
///
/// ```
/// use wigwag::{Address, Sem, SemOptions, Timeout};
/// # let address: Address = format!("sem:/wwdoc-{}", std::process::id()).parse()?;
/// # /*
/// let address: Address = "sem:/gate".parse()?;
/// # */
/// let gate = Sem::open_or_create(&address, &SemOptions { initial: 1, ..Default::default() })?;
/// let permit = gate.acquire(Timeout::Forever)?;
/// assert_eq!(gate.value()?, 0);
/// drop(permit);
/// assert_eq!(gate.value()?, 1);
/// Sem::remove(&address)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[doc(alias = "sem_open")]
pub struct Sem {
    object: Object,
    kernel: Semaphore,
}

impl Sem {
    /// Opens a semaphore that exists. Never blocks; the options of the address are not looked at.
    ///
    /// # Errors
    /// `ENOENT` there is none; `EACCES` it is somebody else's; `EBADMSG`, `EINVAL` the file of that name holds no
    /// semaphore; `EMFILE`, `ENFILE`, `ENOMEM`.
    ///
    /// System calls: stat, open, mmap (sem_open).
    pub fn open(address: &Address) -> Result<Sem> {
        let (object, name) = named(address)?;
        match open_existing(&name, address) {
            Ok(kernel) => Ok(Sem { object, kernel }),
            Err(errno) => Err(open_error(&object, errno)),
        }
    }

    /// Makes a semaphore that must not exist yet. Never blocks.
    ///
    /// # Errors
    /// `EEXIST` there is one; `EINVAL` the initial value is above [`SEM_VALUE_MAX`], or the mode is none; `ENOSPC`
    /// `/dev/shm` is full; and as [`Sem::open`].
    ///
    /// System calls: open, write, link, mmap (sem_open), chmod where a mode is asked for.
    pub fn create(address: &Address, options: &SemOptions) -> Result<Sem> {
        let (object, name) = named(address)?;
        let options = filled(&object, address, options)?;
        match make(&name, address, options) {
            Ok(kernel) => Ok(Sem { object, kernel }),
            Err(errno) => Err(make_error(&object, errno)),
        }
    }

    /// Opens a semaphore, or makes it if there is none. Never blocks.
    ///
    /// Whoever makes it publishes it with its value, so that no other process ever sees it without. The options count
    /// only for the one who makes it.
    ///
    /// Errors and system calls: as [`Sem::open`] and [`Sem::create`], without `EEXIST`, and with `ENOENT` only where
    /// there is no /dev/shm; `EBUSY` others make and remove it all the time.
    pub fn open_or_create(address: &Address, options: &SemOptions) -> Result<Sem> {
        let (object, name) = named(address)?;
        let options = filled(&object, address, options)?;
        for _ in 0..TRIES {
            let result = match open_existing(&name, address) {
                Err(Errno::ENOENT) => make(&name, address, options),
                result => result,
            };
            match result {
                Ok(kernel) => return Ok(Sem { object, kernel }),
                Err(Errno::EEXIST) => {} // made by another, between the two looks
                Err(errno) => return Err(make_error(&object, errno)),
            }
        }
        Err(object.error(Errno::EBUSY, "sem_open").because("others make and remove it faster than it can be opened"))
    }

    /// Makes a semaphore in memory that the caller provides, to be shared with other processes. Never blocks.
    ///
    /// It lives as long as the memory; dropping the handle leaves it there, for others to use by [`Sem::at`].
    ///
    /// # Safety
    /// `memory` is to [`Sem::SIZE`] bytes, aligned to [`Sem::ALIGNMENT`], that stay mapped and writable while the handle
    /// lives. Nobody uses a semaphore that is there already; other processes use it only after this call, and write to
    /// these bytes by semaphore calls only.
    ///
    /// # Errors
    /// `EFAULT` NULL; `EINVAL` not aligned, or the initial value is above [`SEM_VALUE_MAX`].
    ///
    /// System call: none (sem_init).
    #[doc(alias = "sem_init")]
    #[allow(unsafe_code)]
    pub unsafe fn init_at(memory: *mut u8, initial: u32) -> Result<Sem> {
        let object = Object::new("sem:");
        let place = place(&object, memory, "sem_init")?;
        if initial > SEM_VALUE_MAX {
            return Err(initial_error(&object, "sem_init", initial));
        }
        // SAFETY: what the callee asks for is promised by the caller of this function, in the same words.
        match unsafe { Semaphore::init_at(place, initial) } {
            Ok(kernel) => Ok(Sem { object, kernel }),
            Err(errno) => Err(object.error(errno, "sem_init")),
        }
    }

    /// Uses a semaphore that this or another process, or another library, has made in memory. Never blocks.
    ///
    /// # Safety
    /// As [`Sem::init_at`], except that there is a semaphore (a `sem_t` made by sem_init or sem_open) and it may be in use.
    ///
    /// # Errors
    /// `EFAULT` NULL; `EINVAL` not aligned; `EBADMSG` there is no semaphore in these bytes, as far as can be seen.
    ///
    /// System call: none.
    #[allow(unsafe_code)]
    pub unsafe fn at(memory: *mut u8) -> Result<Sem> {
        let object = Object::new("sem:");
        let place = place(&object, memory, "sem_at")?;
        // SAFETY: promised by the caller, as above.
        match unsafe { Semaphore::at(place) } {
            Ok(kernel) => Ok(Sem { object, kernel }),
            Err(errno) => Err(object
                .error(errno, "sem_at")
                .because("these bytes hold no semaphore; make one with init_at before others use it")),
        }
    }

    /// The bytes that a semaphore takes in memory.
    pub const SIZE: usize = size_of::<libc::sem_t>();
    /// What the address of a semaphore in memory must be a multiple of.
    pub const ALIGNMENT: usize = align_of::<libc::sem_t>();

    /// Takes a permit, waiting while there is none; the guard gives it back when dropped.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ECANCELED` as everywhere, with nothing taken.
    ///
    /// System call: none if there is a permit, else futex (sem_trywait, sem_clockwait on the monotonic clock).
    #[inline]
    #[doc(alias = "sem_wait")]
    pub fn acquire(&self, timeout: Timeout) -> Result<SemGuard<'_>> {
        self.take(timeout)?;
        Ok(SemGuard { sem: self, generation: fork::generation() })
    }

    /// As [`Sem::acquire`], without a guard: the permit is taken until somebody, here or elsewhere, releases one.
    #[inline]
    pub fn take(&self, timeout: Timeout) -> Result<()> {
        match self.kernel.try_wait() {
            Ok(()) => Ok(()),
            Err(_) => self.take_slowly(timeout),
        }
    }

    #[cold]
    fn take_slowly(&self, timeout: Timeout) -> Result<()> {
        let mut operation = self.object.operation("acquire", timeout);
        operation.in_call(|| self.kernel.try_wait(), |deadline| self.kernel.wait(deadline))
    }

    /// Gives a permit: wakes one that waits, or adds 1 to the value. Never blocks;
    /// async-signal-safe while it succeeds.
    ///
    /// # Errors
    /// `EOVERFLOW` the value is [`SEM_VALUE_MAX`] already.
    ///
    /// System call: none if nobody waits, else futex (sem_post).
    #[inline]
    #[doc(alias = "sem_post")]
    pub fn release(&self) -> Result<()> {
        self.kernel.post().map_err(|errno| self.release_error(errno))
    }

    #[cold]
    fn release_error(&self, errno: Errno) -> Error {
        let error = self.object.error(errno, "release");
        match errno {
            Errno::EOVERFLOW => error.because("the value is 2147483647, the largest; more is released than acquired"),
            _ => error,
        }
    }

    /// Gives several permits, one after the other. Never blocks.
    ///
    /// # Errors
    /// `EOVERFLOW` as [`Sem::release`]; [`Error::done`] tells how many were given before.
    ///
    /// System call: as [`Sem::release`].
    pub fn release_many(&self, count: u32) -> Result<()> {
        for done in 0..count {
            self.release().map_err(|error| error.after(done as usize))?;
        }
        Ok(())
    }

    /// The value at this moment: how many permits are left. Never blocks. System call: none (sem_getvalue).
    ///
    /// # Errors
    /// None on a sound semaphore.
    #[doc(alias = "sem_getvalue")]
    pub fn value(&self) -> Result<u32> {
        self.kernel.value().map_err(|errno| self.object.error(errno, "value"))
    }

    /// Removes the name: those who have it open go on using it, and the name is free for a new one. Never blocks.
    ///
    /// # Errors
    /// `ENOENT` there is none; `EACCES` it is somebody else's.
    ///
    /// System call: unlink (sem_unlink).
    #[doc(alias = "sem_unlink")]
    pub fn remove(address: &Address) -> Result<()> {
        let (object, name) = named(address)?;
        posix_sem::unlink(&name).map_err(|errno| {
            let error = object.error(errno, "sem_unlink");
            match errno {
                Errno::ENOENT => error.because("there is no semaphore of this name"),
                Errno::EACCES | Errno::EPERM => error.because("only its owner may remove it"),
                _ => error,
            }
        })
    }

    /// Its address; `sem:` for one in memory.
    pub fn address(&self) -> &str {
        self.object.address()
    }

    /// The `sem_t` behind it, for calls of the C library; valid while the handle lives.
    pub fn as_ptr(&self) -> *mut libc::sem_t {
        self.kernel.as_ptr()
    }

    /// Ends the waits of all threads of this process on this handle with `ECANCELED`, now and later; returns when they
    /// have left.
    pub fn end_waits(&self) {
        self.object.end_waits();
    }
}

impl std::fmt::Debug for Sem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sem").field("address", &self.address()).field("value", &self.kernel.value().ok()).finish()
    }
}

/// A permit of a [`Sem`], given back when dropped.
///
/// A process that ends without dropping it takes the permit along. The permit stays with the process that acquired it:
/// in a child made by fork, dropping the copy of the guard gives nothing back.
#[must_use = "dropping the guard gives the permit back at once"]
pub struct SemGuard<'a> {
    sem: &'a Sem,
    generation: u32,
}

impl SemGuard<'_> {
    /// Gives the permit back, telling whether that went well; dropping does the same without telling. Errors: as
    /// [`Sem::release`].
    #[inline]
    pub fn release(self) -> Result<()> {
        ManuallyDrop::new(self).sem.release()
    }

    /// Keeps the permit taken when the guard goes: somebody will [`Sem::release`] it, or it was consumed.
    #[inline]
    pub fn keep(self) {
        let _ = ManuallyDrop::new(self);
    }
}

impl Drop for SemGuard<'_> {
    fn drop(&mut self) {
        if self.generation == fork::generation() {
            // Fails only if others have released what they never acquired, up to the largest value: no waiter misses it.
            let _ = self.sem.release();
        }
    }
}

impl std::fmt::Debug for SemGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SemGuard").field(&self.sem.address()).finish()
    }
}

fn named(address: &Address) -> Result<(Object, CString)> {
    address.require(&[Scheme::Sem], "sem_open")?;
    let object = Object::new(address.without_options().to_string());
    match CString::new(address.name()) {
        Ok(name) => Ok((object, name)),
        Err(_) => Err(object.error(Errno::EINVAL, "sem_open")), // the grammar lets no NUL through
    }
}

fn filled(object: &Object, address: &Address, options: &SemOptions) -> Result<SemOptions> {
    let mut options = *options;
    if options.mode == 0 {
        options.mode = address.mode().unwrap_or(0);
    }
    if options.mode > 0o777 {
        return Err(object.error(Errno::EINVAL, "sem_open").because("a mode is permissions from 0 to 0777"));
    }
    if options.initial == 0 {
        let initial = address.number("initial").unwrap_or(0);
        options.initial = u32::try_from(initial).unwrap_or(u32::MAX); // too large is refused below
    }
    if options.initial > SEM_VALUE_MAX {
        return Err(initial_error(object, "sem_open", options.initial));
    }
    Ok(options)
}

fn initial_error(object: &Object, operation: &'static str, initial: u32) -> Error {
    object
        .error(Errno::EINVAL, operation)
        .because_found(format!("the initial value {initial} is past the largest, {SEM_VALUE_MAX}"))
}

fn make(name: &CString, address: &Address, options: SemOptions) -> SysResult<Semaphore> {
    let mode = if options.mode == 0 { 0o600 } else { options.mode };
    let kernel = Semaphore::open(name, Open::New { mode, initial: options.initial })?;
    if options.mode != 0 {
        widen(address, mode);
    }
    Ok(kernel)
}

fn open_existing(name: &CString, address: &Address) -> SysResult<Semaphore> {
    // sem_open maps a file of any size, and the first access to one that is too short would be a SIGBUS.
    match std::fs::symlink_metadata(file_of(address)) {
        Ok(file) if file.len() < Sem::SIZE as u64 => Err(Errno::EBADMSG),
        _ => Semaphore::open(name, Open::Existing),
    }
}

/// Gives the file behind the name the mode that was asked for, from which sem_open has taken the umask.
fn widen(address: &Address, mode: u32) {
    // In a directory that everybody may write to, a link may lie there by now: it is not followed. Fails if somebody has removed
    // it meanwhile, which changes nothing for the one that is open, and without /proc: others then get EACCES when they open it.
    let _ = Found::exactly_at(&file_of(address))
        .and_then(|found| found.give_mode(SFlag::S_IFREG, Mode::from_bits_truncate(mode)));
}

/// Where the C library keeps the semaphore of that name.
fn file_of(address: &Address) -> PathBuf {
    let prefix: &[u8] = if cfg!(target_env = "gnu") { b"/dev/shm/sem." } else { b"/dev/shm/" };
    OsString::from_vec([prefix, address.name().get(1..).unwrap_or_default()].concat()).into()
}

/// As `open_error`, for a call that may have made it.
fn make_error(object: &Object, errno: Errno) -> Error {
    match errno {
        Errno::ENOENT | Errno::ENOSYS => {
            object.error(errno, "sem_open").because("there is no /dev/shm to make it in; mount a tmpfs there")
        }
        _ => open_error(object, errno),
    }
}

fn open_error(object: &Object, errno: Errno) -> Error {
    let error = object.error(errno, "sem_open");
    match errno {
        Errno::ENOENT => error.because("there is no semaphore of this name; create it, or start the program that does"),
        Errno::EEXIST => error.because("there is a semaphore of this name; open it, or unlink it if it is left over"),
        Errno::EACCES | Errno::EPERM => error
            .because("it belongs to another user and its mode does not let you in; its creator can give a wider mode"),
        Errno::EINVAL | Errno::EBADMSG | Errno::EISDIR | Errno::ELOOP => {
            error.because("what is in /dev/shm under this name is not a semaphore; unlink it if it is left over")
        }
        Errno::ENOSPC => error.because("/dev/shm is full; remove what is left over there, or mount it larger"),
        _ => explain_descriptors(error),
    }
}

fn place(object: &Object, memory: *mut u8, operation: &'static str) -> Result<NonNull<libc::sem_t>> {
    let Some(place) = NonNull::new(memory.cast::<libc::sem_t>()) else {
        return Err(object.error(Errno::EFAULT, operation));
    };
    if !place.is_aligned() {
        return Err(object
            .error(Errno::EINVAL, operation)
            .because_found(format!("the address of a semaphore must be a multiple of {}", Sem::ALIGNMENT)));
    }
    Ok(place)
}
