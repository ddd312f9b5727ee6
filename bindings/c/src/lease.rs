//! Leases: slots that all processes of a host share, for connections, licences and the like.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use libc::ssize_t;
use wigwag::{Lease, LeaseGroup, LeaseOptions, LeasePool, LeaseRequest, Result};

use crate::boundary::{
    Options, address, adopt, bytes, call, expect_out, flag, give, invalid, object, object_mut, options, put,
    put_if_wanted, put_list, room, take, text, timeout,
};
use crate::calls::{Counted, close_counted};
use crate::segment::wait_mode;
use crate::sync::{inherited, nanos};

const POOL: &str = "pool of leases";
const LEASE: &str = "lease";

/// Bytes of information that a slot keeps.
pub const WW_LEASE_INFORMATION_MAX: usize = 1024;
/// Size of the members of ww_lease_holder that are text, the NUL at the end included.
pub const WW_LEASE_TEXT: usize = 72;
/// Counters of waits in ww_lease_pool_statistics.
pub const WW_LEASE_WAITS: usize = 24;

/// A pool of leases (lease:name): slots that all processes of a host share, each with what its holders keep about it.
/// The slot of a holder that dies comes back marked dirty.
///
/// May be shared between threads. A child made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE,
/// -ENFILE if it cannot), and holds nothing of its parent's.
pub struct ww_lease_pool(Counted<Arc<LeasePool>>);

/// One slot, from ww_lease_pool_acquire() to ww_lease_release(), ww_lease_abandon() or ww_lease_close(). It keeps its pool
/// open. One thread at a time may use it.
pub struct ww_lease(Lease<'static>);

/// How a pool is opened or made; initialise with WW_LEASE_POOL_OPTIONS_INIT. Zero means what the address says, or else
/// the default. participants and mode count when it is made, wait is each handle's own; what else differs from the pool
/// that there is already is refused.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_lease_pool_options {
    pub size: usize,
    /// How many slots there are, at most 4096; 0 for 8.
    pub slots: u32,
    /// How many it can be resized to, at most 4096; 0 for twice as many, and 64 at least. Each takes 2176 bytes, of as
    /// many as the next power of two.
    pub room: u32,
    /// 1: first come, first served; 0: whoever comes may be faster than those who wait, until one has waited for 0.4 ms.
    pub fair: u32,
    /// How many handles may be open at the same time, at most 256; 0 for 64.
    pub participants: u32,
    /// Permissions of the file; 0 for 0600.
    pub mode: u32,
    /// WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL.
    pub wait: u32,
    /// How long a lease lasts unless it is renewed, in milliseconds; 0 for as long as its holder lives.
    pub expires_ms: u64,
    /// Slots that are kept for groups, such as "web:6,cron:2", at most 8, with names of at most 32 bytes; NULL for what
    /// the address says, or else none.
    pub groups: *const c_char,
}

impl Default for ww_lease_pool_options {
    fn default() -> ww_lease_pool_options {
        ww_lease_pool_options {
            size: size_of::<ww_lease_pool_options>(),
            slots: 0,
            room: 0,
            fair: 0,
            participants: 0,
            mode: 0,
            wait: 0,
            expires_ms: 0,
            groups: std::ptr::null(),
        }
    }
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_lease_pool_options {}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells, whose `groups` is NULL or a C string.
unsafe fn pool_options(given: *const ww_lease_pool_options) -> Result<LeaseOptions> {
    const NOUN: &str = "ww_lease_pool_options";
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, NOUN) }?;
    let groups = if given.groups.is_null() {
        Vec::new()
    } else {
        // SAFETY: as the caller promises.
        LeaseGroup::parse_list(utf8(unsafe { text(given.groups, NOUN) }?)?)?
    };
    Ok(LeaseOptions {
        slots: given.slots,
        room: given.room,
        fair: flag(given.fair as c_int, "ww_lease_pool_options.fair")?,
        expires: Duration::from_millis(given.expires_ms),
        groups,
        participants: given.participants,
        mode: given.mode,
        wait: wait_mode(given.wait, NOUN)?,
    })
}

fn utf8(text: &[u8]) -> Result<&str> {
    std::str::from_utf8(text).map_err(|_| invalid(LEASE, "a group's name or a note is text in UTF-8"))
}

/// # Safety
/// As [`text`], NULL for an empty one.
unsafe fn optional_text<'a>(given: *const c_char) -> Result<&'a str> {
    // SAFETY: as the caller promises.
    if given.is_null() { Ok("") } else { utf8(unsafe { text(given, LEASE) }?) }
}

/// Opens the pool of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a slash is a
/// path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_lease_pool_close().
///
/// Errors: -EINVAL the address, or options that do not fit together, or that the pool that there is was not made with,
/// which are named; -ENOSPC the memory is not free; -EACCES the directory is somebody else's, or the mode does not
/// allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make and remove it all the time; -ELOOP a symbolic
/// link; -ENOTSUP the file system cannot make files without a name (a tmpfs can); -EBADMSG there is something else
/// under that name, or it is damaged; -EPROTO it was made by an incompatible version; -EUSERS it has no room for
/// another participant; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_open(
    out: *mut *mut ww_lease_pool,
    address: *const c_char,
    options: *const ww_lease_pool_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        give(
            out,
            ww_lease_pool(Counted::new(Arc::new(LeasePool::open(&self::address(address)?, pool_options(options)?)?))),
        )
    })
}

/// Makes a pool without a name, for children made by fork, and for others by its descriptor. Never blocks.
///
/// Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_anonymous(
    out: *mut *mut ww_lease_pool,
    options: *const ww_lease_pool_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        give(out, ww_lease_pool(Counted::new(Arc::new(LeasePool::anonymous(pool_options(options)?)?))))
    })
}

/// Joins the pool whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and closes fd;
/// after an error fd stays the caller's. Never blocks.
///
/// Errors: -EBADMSG it is something else, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_from_fd(
    out: *mut *mut ww_lease_pool,
    fd: c_int,
    options: *const ww_lease_pool_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = pool_options(options)?;
        give(out, ww_lease_pool(Counted::new(Arc::new(adopt(fd, POOL, |fd| LeasePool::from_fd(fd, options))?))))
    })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. Leases that were taken from it stay good. NULL is
/// allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_close(pool: *mut ww_lease_pool) {
    // SAFETY: as above.
    unsafe { close_counted(pool, |pool| &pool.0, |pool| pool.end_waits()) };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_end_waits(pool: *const ww_lease_pool) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(pool, "pool")?.0.get().end_waits();
        Ok(())
    })
}

/// Removes the name of a pool; those who have it open keep it. Never blocks.
///
/// Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { LeasePool::remove(&self::address(address)?) })
}

/// How many bytes of memory a pool with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_size_for(options: *const ww_lease_pool_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { LeasePool::size_for(&pool_options(options)?) })
}

/// Whether the name still stands for this pool. Never blocks. Errors: -ESTALE the name was removed; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_check(pool: *const ww_lease_pool) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(pool, POOL)?.0.get().check() })
}

/// The segment's descriptor, to pass on for ww_lease_pool_from_fd(); not for polling. It stays the handle's. Never blocks.
/// Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_segment_fd(pool: *const ww_lease_pool) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(pool, POOL)?.0.get().as_fd().as_raw_fd()) })
}

/// Takes a slot; waits until one is free. WW_INHERITED (1): the slot is dirty, see ww_lease_is_dirty().
///
/// group is that for which it is taken, one of those that the pool was made with, and note what it is used for, for
/// people who look at the statistics, of which 64 bytes are kept; both may be NULL.
///
/// Errors: -EINVAL there is no such group, a text is not UTF-8, or the timeout; -EAGAIN, -ETIMEDOUT, -ECANCELED;
/// -ESTALE this handle was declared dead because its lock was closed: open the pool anew; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_acquire(
    pool: *const ww_lease_pool,
    out: *mut *mut ww_lease,
    group: *const c_char,
    note: *const c_char,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let request = LeaseRequest { group: optional_text(group)?, note: optional_text(note)? };
        let lease = object(pool, POOL)?.0.begin().acquire_owned(&request, timeout(timeout_ns)?)?;
        let is_dirty = lease.is_dirty();
        give(out, ww_lease(lease))?;
        Ok(inherited(is_dirty))
    })
}

/// How many slots there are, held or not. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_slots(pool: *const ww_lease_pool) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(pool, POOL)?.0.get().slots() as c_int) })
}

/// How many of them are free, those that are kept for groups included. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_available(pool: *const ww_lease_pool) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(pool, POOL)?.0.get().available() as c_int) })
}

/// How many threads wait in line for one, of all processes. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_waiting(pool: *const ww_lease_pool) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(pool, POOL)?.0.get().waiting() as c_int) })
}

/// Waits until somebody waits in line for a slot: for those who keep one that they do not need just now.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE as ww_lease_pool_acquire(); -EINVAL the timeout; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_wait_wanted(pool: *const ww_lease_pool, timeout_ns: i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(pool, POOL)?.0.begin().wait_wanted(timeout(timeout_ns)?) })
}

/// Makes the pool larger or smaller, for all who have it open. Slots beyond the new size stay with their holders until these
/// give them back. Never blocks.
///
/// Errors: -EINVAL more than it has room for, or fewer than are kept for groups, or none; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_resize(pool: *const ww_lease_pool, slots: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(pool, POOL)?.0.get().resize(slots) })
}

/// A descriptor that is readable while a slot can be had that is not kept for a group; a ww_lease_pool_acquire() without
/// waiting that fails quiets it: for poll, a wait set, an event loop. It stays the handle's; a child made by fork asks for
/// its own. From the first call on it costs a helper thread that sleeps in the kernel. Never blocks.
///
/// Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_fd(pool: *const ww_lease_pool) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(pool, POOL)?.0.get().doorbell()?.as_raw_fd()) })
}

/// Who holds a slot. Times are in nanoseconds since 1970.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_lease_holder {
    /// The slot's number, from 0.
    pub slot: u32,
    /// The process; 0 if it lives in a pid namespace that this one cannot see, or is dead.
    pub pid: u32,
    /// 1: it is the handle that was asked.
    pub is_self: u32,
    /// 1: somebody died with the slot, or lost it, and it is not clean yet.
    pub dirty: u32,
    /// The lease's fencing token.
    pub token: u64,
    /// When it was taken, to some milliseconds; 0 in the instant before that is written.
    pub since: u64,
    /// For which group it was taken; empty for none.
    pub group: [c_char; WW_LEASE_TEXT],
    /// What its holder says it is for.
    pub note: [c_char; WW_LEASE_TEXT],
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 2],
}

/// What a pool tells about itself.
#[repr(C)]
pub struct ww_lease_pool_statistics {
    /// How many slots can be had, and how many it can be resized to.
    pub slots: u32,

    pub room: u32,
    /// How many slots are held, and how many of those that can be had are dirty, held or not.
    pub held: u32,

    pub dirty: u32,
    /// How many threads wait in line.
    pub waiting: u32,
    /// 1: first come, first served.
    pub fair: u32,
    /// How long a lease lasts unless it is renewed, in milliseconds; 0 for as long as its holder lives.
    pub expires_ms: u64,
    /// All memory, in bytes.
    pub bytes: usize,
    /// Leases so far.
    pub leases: u64,
    /// Calls that ended without one, as their time had passed.
    pub timeouts: u64,
    /// Slots taken back from the dead.
    pub reclaims: u64,
    /// Slots taken back from who did not renew in time.
    pub expiries: u64,
    /// Calls under leases that were lost.
    pub refused: u64,
    /// How many had to wait: entry n for less than 2^n microseconds and not for less than 2^(n-1), the last for longer.
    pub waits: [u64; WW_LEASE_WAITS],
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

fn text_field(text: &str) -> [c_char; WW_LEASE_TEXT] {
    let mut field = [0; WW_LEASE_TEXT];
    for (to, from) in field.iter_mut().take(WW_LEASE_TEXT - 1).zip(text.bytes()) {
        *to = from as c_char;
    }
    field
}

/// Tells what is known of a pool, and in holders, if it is not NULL, who holds its slots: at most so many as there is room
/// for; statistics->held is how many there are. Never blocks.
///
/// Errors: -EBADMSG the pool is damaged; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_pool_get_statistics(
    pool: *const ww_lease_pool,
    statistics: *mut ww_lease_pool_statistics,
    holders: *mut ww_lease_holder,
    room: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        let seen = object(pool, POOL)?.0.get().statistics()?;
        let entries = seen.holders.iter().map(|holder| ww_lease_holder {
            slot: holder.slot,
            pid: holder.pid.unwrap_or(0),
            is_self: holder.is_self.into(),
            dirty: holder.dirty.into(),
            token: holder.token,
            since: holder.since.map_or(0, nanos),
            group: text_field(holder.group.as_deref().unwrap_or_default()),
            note: text_field(&holder.note),
            reserved: [0; 2],
        });
        put_list(holders, room, entries);
        let mut waits = [0; WW_LEASE_WAITS];
        for (to, (_, count)) in waits.iter_mut().zip(&seen.waits) {
            *to = *count;
        }
        let told = ww_lease_pool_statistics {
            slots: seen.slots,
            room: seen.room,
            held: seen.held,
            dirty: seen.dirty,
            waiting: seen.waiting,
            fair: seen.fair.into(),
            expires_ms: seen.expires.map_or(0, millis),
            bytes: seen.bytes,
            leases: seen.leases,
            timeouts: seen.timeouts,
            reclaims: seen.reclaims,
            expiries: seen.expiries,
            refused: seen.refused,
            waits,
            reserved: [0; 4],
        };
        put(statistics, told, "statistics")
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The number of a lease's slot, from 0. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_slot(lease: *const ww_lease) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(lease, LEASE)?.0.slot() as c_int) })
}

/// A lease's fencing token: higher than that of every earlier lease of its slot. What the slot stands for can refuse whoever
/// comes with a lower one than it has seen. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_token(lease: *const ww_lease, token: *mut u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { put(token, object(lease, LEASE)?.0.token(), "token") })
}

/// 1 if somebody has died with the slot, or lost it, and nobody has made it clean since: what the information tells of may
/// still be alive somewhere. Make sure that it is not, then call ww_lease_make_clean(). Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_is_dirty(lease: *const ww_lease) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::from(object(lease, LEASE)?.0.is_dirty())) })
}

/// When the slot was last given back, or, if it was not, taken, in nanoseconds since 1970, to some milliseconds; 0 if nobody
/// ever had it. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_last_used(lease: *const ww_lease, last_used_ns: *mut u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { put(last_used_ns, object(lease, LEASE)?.0.last_used().map_or(0, nanos), "last_used_ns") })
}

/// How long a lease still lasts, in nanoseconds; WW_FOREVER for as long as its holder lives. Never blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_expires_in(lease: *const ww_lease, left_ns: *mut i64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let left = object(lease, LEASE)?.0.expires_in();
        put(left_ns, left.map_or(-1, |left| i64::try_from(left.as_nanos()).unwrap_or(i64::MAX)), "left_ns")
    })
}

/// Whether it is still this lease's slot. Never blocks.
///
/// Errors: -ESTALE it was lost, and ww_last_error() says who has it; -EPERM it is that of the process that this one was
/// forked from; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_check(lease: *const ww_lease) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(lease, LEASE)?.0.check() })
}

/// Copies what holders of the slot have last said about it; nothing at first. length, if not NULL, is how long it is, also
/// after -EMSGSIZE. Never blocks.
///
/// Errors: -EMSGSIZE there is not enough room, WW_LEASE_INFORMATION_MAX always is; -EBADMSG it was spoilt by a holder that
/// had lost the slot in the middle of writing; -ESTALE, -EPERM as ww_lease_check(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_information(
    lease: *const ww_lease,
    buffer: *mut c_void,
    room: usize,
    length: *mut usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let (lease, buffer) = (object(lease, LEASE)?, self::room(buffer, room)?);
        let information = lease.0.information()?;
        put_if_wanted(length, information.len());
        let Some(buffer) = buffer.get_mut(..information.len()) else {
            let error = wigwag::Error::from_raw(libc::EMSGSIZE, "information").with_true_size(information.len());
            return Err(error.because("the buffer is too small for it; WW_LEASE_INFORMATION_MAX is enough"));
        };
        buffer.copy_from_slice(&information);
        Ok(())
    })
}

/// Says what the slot stands for now, for those who come later. Who is killed in the middle of it leaves what was there
/// before. Never blocks.
///
/// Errors: -EMSGSIZE more than WW_LEASE_INFORMATION_MAX bytes; -ESTALE, -EPERM as ww_lease_check(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_set_information(
    lease: *mut ww_lease,
    information: *const c_void,
    length: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object_mut(lease, LEASE)?.0.set_information(bytes(information, length)?) })
}

/// Says what it is used for, for people who look at the statistics; 64 bytes of it are kept. Never blocks.
///
/// Errors: -EINVAL it is not UTF-8; -ESTALE, -EPERM as ww_lease_check(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_set_note(lease: *mut ww_lease, note: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object_mut(lease, LEASE)?.0.set_note(utf8(text(note, "note")?)?) })
}

/// Says that nothing is left of what the one who died with the slot, or lost it, had begun. Never blocks.
///
/// Errors: -ESTALE, -EPERM as ww_lease_check(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_make_clean(lease: *mut ww_lease) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object_mut(lease, LEASE)?.0.make_clean() })
}

/// Has its time begin anew; does nothing where leases last as long as their holders. Never blocks.
///
/// Errors: -ESTALE, -EPERM as ww_lease_check(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_renew(lease: *const ww_lease) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(lease, LEASE)?.0.renew() })
}

/// 1 if it would do good to give it back soon: somebody waits who could have this slot, or the pool was made smaller. Never
/// blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_is_wanted(lease: *const ww_lease) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(c_int::from(object(lease, LEASE)?.0.is_wanted())) })
}

/// Gives the slot back, and frees the handle, whatever is returned. NULL is allowed. Never blocks.
///
/// Errors: -ESTALE, -EPERM as ww_lease_check().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_release(lease: *mut ww_lease) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { take(lease).map_or(Ok(()), |lease| lease.0.release()) })
}

/// Gives the slot back as dirty, for who cannot tell what is left of what it stood for, and frees the handle, whatever is
/// returned. NULL is allowed. Never blocks.
///
/// Errors: -ESTALE, -EPERM as ww_lease_check().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_abandon(lease: *mut ww_lease) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { take(lease).map_or(Ok(()), |lease| lease.0.abandon()) })
}

/// As ww_lease_release() for those who do not want to know. NULL is allowed. Never blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_lease_close(lease: *mut ww_lease) {
    // SAFETY: as above.
    drop(unsafe { take(lease) });
}
