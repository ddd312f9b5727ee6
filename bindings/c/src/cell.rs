//! Cell: the latest value in shared memory.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use libc::ssize_t;
use wigwag::{Cell, CellOptions, CellRead, CellReserved, Result};

use crate::boundary::{
    Options, address, adopt, bytes, call, close, expect_out, give, object, options, put, put_if_wanted, put_list, room,
    timeout,
};
use crate::calls::Calls;
use crate::segment::{Loans, wait_mode, ww_loan};

/// A cell (cell:name): the latest value, and nothing but the latest, in shared memory.
///
/// Reading takes a fixed number of steps and finds a whole value, also while writers are at full speed, stopped, or
/// killed half-way. Many may write. May be shared between threads. A child made by fork joins as itself when it first
/// uses the handle to write or wait (-EUSERS, -EMFILE, -ENFILE if it cannot); loans stay the parent's.
pub struct ww_cell {
    cell: Arc<Cell>,
    reserved: Loans<CellReserved<'static>>,
    /// Those that read after they have waited.
    calls: Calls,
}

/// How a cell is opened or made; initialise with WW_CELL_OPTIONS_INIT. largest, participants and mode count when it is
/// made and are the cell's from then on. Zero means what the address says, or else the default.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_cell_options {
    pub size: usize,
    /// The largest value in bytes; 0 for 256. Memory for 2 * participants + 2 of them is reserved at once.
    pub largest: u64,
    /// How many handles may be open at the same time, at most 256; 0 for 32.
    pub participants: u32,
    /// Permissions of the file; 0 for 0600.
    pub mode: u32,
    /// WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL.
    pub wait: u32,
    pub reserved: u32,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_cell_options {}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells.
unsafe fn cell_options(given: *const ww_cell_options) -> Result<CellOptions> {
    const NOUN: &str = "ww_cell_options";
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, NOUN) }?;
    if given.reserved != 0 {
        return Err(crate::boundary::invalid(NOUN, "the reserved member must be 0"));
    }
    let mut wanted = CellOptions::default();
    (wanted.largest, wanted.participants, wanted.mode) = (given.largest, given.participants, given.mode);
    wanted.wait = wait_mode(given.wait, NOUN)?;
    Ok(wanted)
}

/// # Safety
/// `out` may be written to.
unsafe fn hand_out(out: *mut *mut ww_cell, cell: Cell) -> Result<()> {
    // SAFETY: as the caller promises.
    unsafe { give(out, ww_cell { cell: Arc::new(cell), reserved: Loans::new(), calls: Calls::new() }) }
}

/// Opens the cell of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a slash is
/// a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_cell_close().
///
/// Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
/// directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -EBUSY others make
/// and remove it all the time; -ELOOP a symbolic link; -ENOTSUP the file system cannot make files without a name (a
/// tmpfs can); -EBADMSG there is something else under that name, or it is damaged; -EPROTO it was made by an
/// incompatible version; -EUSERS it has no room for another participant; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_open(
    out: *mut *mut ww_cell,
    address: *const c_char,
    options: *const ww_cell_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        hand_out(out, Cell::open(&self::address(address)?, cell_options(options)?)?)
    })
}

/// Makes a cell without a name, for children made by fork, and for others by its descriptor. Never blocks.
///
/// Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_anonymous(out: *mut *mut ww_cell, options: *const ww_cell_options) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        hand_out(out, Cell::anonymous(cell_options(options)?)?)
    })
}

/// Joins the cell whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and closes fd;
/// after an error fd stays the caller's. Never blocks.
///
/// Errors: -EBADMSG it is no cell, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_from_fd(out: *mut *mut ww_cell, fd: c_int, options: *const ww_cell_options) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = cell_options(options)?;
        hand_out(out, adopt(fd, "cell", |fd| Cell::from_fd(fd, options))?)
    })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. What it had reserved is not published. NULL is
/// allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_close(cell: *mut ww_cell) {
    // SAFETY: as above.
    unsafe {
        close(cell, |cell| {
            cell.cell.end_waits();
            cell.calls.drain();
        })
    };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_end_waits(cell: *const ww_cell) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(cell, "cell")?.cell.end_waits();
        Ok(())
    })
}

/// Removes a cell's name; those who have it open keep it. Never blocks.
///
/// Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Cell::remove(&self::address(address)?) })
}

/// How many bytes of memory a cell with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_size_for(options: *const ww_cell_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Cell::size_for(&cell_options(options)?) })
}

/// Whether the name still stands for this cell. Never blocks. Errors: -ESTALE the name was removed; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_check(cell: *const ww_cell) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(cell, "cell")?.cell.check() })
}

/// The segment's descriptor, to pass on for ww_cell_from_fd(); not for polling. It stays the handle's. Never blocks.
/// Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_segment_fd(cell: *const ww_cell) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(cell, "cell")?.cell.as_fd().as_raw_fd()) })
}

/// Makes a copy of these bytes the latest value; *sequence, which may be NULL, gets how many values there have been, this
/// one included. Never blocks.
///
/// Errors, with nothing written: -EMSGSIZE it is larger than the cell's largest; -EAGAIN all buffers are in use, which
/// takes more unfinished writes than the cell has participants; -ESTALE this handle was declared dead because its lock
/// was closed: open the cell anew; -EBADMSG the cell is damaged; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_write(
    cell: *const ww_cell,
    data: *const c_void,
    size: usize,
    sequence: *mut u64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let written = object(cell, "cell")?.cell.write(bytes(data, size)?)?;
        put_if_wanted(sequence, written);
        Ok(())
    })
}

/// Copies the latest value out and returns its size. *sequence, which may be NULL, gets how many values there had been,
/// this one included; *true_size, which may be NULL, its size also where the buffer is too small. Never blocks, and is
/// over after a fixed number of steps.
///
/// Errors: -ENODATA nothing has been written yet; -EMSGSIZE the buffer is too small; -ESTALE, -EBADMSG as
/// ww_cell_write(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_read(
    cell: *const ww_cell,
    buffer: *mut c_void,
    size: usize,
    sequence: *mut u64,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { put_read(object(cell, "cell")?.cell.read(room(buffer, size)?), sequence, true_size) })
}

/// Waits until there have been more values than after, and writes how many there have been then to *sequence, which may
/// be NULL. The sequence number of the last value that was read is what to give; 0 waits for the first.
///
/// Errors: -EAGAIN, -ETIMEDOUT, -ECANCELED; -ESTALE, -EBADMSG as ww_cell_write(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_wait(cell: *const ww_cell, after: u64, timeout_ns: i64, sequence: *mut u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let newest = object(cell, "cell")?.cell.wait(after, timeout(timeout_ns)?)?;
        put_if_wanted(sequence, newest);
        Ok(())
    })
}

/// Waits for a value newer than the one of this sequence number, and copies it out as ww_cell_read().
///
/// Errors: as ww_cell_wait() and ww_cell_read().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_wait_read(
    cell: *const ww_cell,
    after: u64,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
    sequence: *mut u64,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let cell = object(cell, "cell")?;
        let _ongoing = cell.calls.begin();
        put_read(cell.cell.wait_read(after, room(buffer, size)?, timeout(timeout_ns)?), sequence, true_size)
    })
}

/// # Safety
/// The pointers are NULL or may be written to.
unsafe fn put_read(read: Result<CellRead>, sequence: *mut u64, true_size: *mut usize) -> Result<usize> {
    // SAFETY: as the caller promises.
    unsafe {
        match read {
            Ok(read) => {
                put_if_wanted(sequence, read.sequence);
                put_if_wanted(true_size, read.length);
                Ok(read.length)
            }
            Err(error) => {
                if error.errno() == libc::EMSGSIZE {
                    put_if_wanted(true_size, error.true_size());
                }
                Err(error)
            }
        }
    }
}

/// A descriptor that is readable while there is a value that this handle has not seen: for poll, a wait set, an event
/// loop. A read, or a wait with the latest sequence number, quiets it. It stays the handle's; a child made by fork asks for
/// its own. From the first call on it costs a helper thread that sleeps in the kernel. Never blocks.
///
/// Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_fd(cell: *const ww_cell) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(cell, "cell")?.cell.doorbell()?.as_raw_fd()) })
}

/// Lends room for a value of this size, in *loan, to be written in place and then given to ww_cell_publish() or
/// ww_cell_abort(). Never blocks. Errors: as ww_cell_write().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_reserve(cell: *const ww_cell, loan: *mut ww_loan, size: usize) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(loan)?;
        let cell = object(cell, "cell")?;
        let reserved = cell.cell.reserve_owned(size)?;
        let (data, size) = (reserved.as_ptr().cast(), reserved.length());
        put(loan, ww_loan { data, size, token: cell.reserved.keep(reserved) }, "loan")
    })
}

/// Makes a value that was written in place the latest; *sequence, which may be NULL, as in ww_cell_write(). Never blocks.
///
/// Errors: -EINVAL the token names no reservation of this handle; -ESTALE this handle was declared dead, and the room
/// taken back; -EPERM it was reserved by the process that this one was forked from; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_publish(cell: *const ww_cell, token: u64, sequence: *mut u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let written = object(cell, "cell")?.reserved.take(token, "publish")?.publish()?;
        put_if_wanted(sequence, written);
        Ok(())
    })
}

/// Gives reserved room back; nothing has happened. Never blocks. Errors: as ww_cell_publish().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_abort(cell: *const ww_cell, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(cell, "cell")?.reserved.take(token, "abort")?.abort() })
}

/// What a cell has seen.
#[repr(C)]
pub struct ww_cell_statistics {
    /// Values so far.
    pub sequence: u64,
    /// Buffers reserved and not published; values that were being written by those who died, and were never published.
    pub writing: u64,
    pub skipped: u64,
    /// Buffers, each for one value.
    pub buffers: u64,
    /// The largest value, and all memory, in bytes.
    pub largest: usize,
    pub bytes: usize,
    /// How many handles take part.
    pub participants: usize,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 4],
}

/// One handle on a cell, of this or another process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_cell_participant {
    /// Its process; 0 if it lives in a pid namespace that this one cannot see.
    pub pid: u32,
    /// 1 or 0: the handle that was asked.
    pub is_self: u32,
    /// When it was opened, in seconds since 1970.
    pub since: u64,
    /// Buffers that it has reserved and not published.
    pub writing: u64,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 2],
}

/// Tells what the cell has seen, and in participants, if it is not NULL, who takes part: at most so many as there is room
/// for; statistics->participants is how many there are. Never blocks. Errors: -EBADMSG the cell is damaged; -ESTALE;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_cell_get_statistics(
    cell: *const ww_cell,
    statistics: *mut ww_cell_statistics,
    participants: *mut ww_cell_participant,
    room: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        let seen = object(cell, "cell")?.cell.statistics()?;
        let entries = seen.participants.iter().map(|peer| ww_cell_participant {
            pid: peer.pid.unwrap_or(0),
            is_self: peer.is_self.into(),
            since: peer.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            writing: peer.writing,
            reserved: [0; 2],
        });
        put_list(participants, room, entries);
        let told = ww_cell_statistics {
            sequence: seen.sequence,
            writing: seen.writing,
            skipped: seen.skipped,
            buffers: seen.buffers,
            largest: seen.largest,
            bytes: seen.bytes,
            participants: seen.participants.len(),
            reserved: [0; 4],
        };
        put(statistics, told, "statistics")
    })
}
