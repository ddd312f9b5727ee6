//! Ring: messages through shared memory, each to one consumer.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use libc::ssize_t;
use wigwag::{Result, Ring, RingBorrowed, RingFull, RingOptions, RingReserved, RingRole, RingStatistics};

use crate::boundary::{
    Options, address, adopt, bytes, call, close, expect_out, flag, give, invalid, object, options, put, put_if_wanted,
    put_list, room, timeout,
};
use crate::calls::Calls;
use crate::segment::{Loans, wait_mode, ww_loan};
use crate::sync::nanos;

/// A full ring: the sender waits as long as its timeout allows.
pub const WW_RING_WAIT: u32 = 0;
/// A full ring: the sender fails with -EAGAIN at once, whatever its timeout.
pub const WW_RING_FAIL: u32 = 1;
/// A full ring: the sender drops the message that it is sending, and counts it.
pub const WW_RING_DROP_NEWEST: u32 = 2;
/// A full ring: the sender drops the oldest message that nobody has taken, and counts it.
pub const WW_RING_DROP_OLDEST: u32 = 3;

/// A handle becomes a producer when it first sends and a consumer when it first receives.
pub const WW_RING_EITHER: u32 = 0;
/// It is a producer from the start.
pub const WW_RING_PRODUCER: u32 = 1;
/// It is a consumer from the start.
pub const WW_RING_CONSUMER: u32 = 2;

/// A ring (ring:name): messages through shared memory between any number of producers and consumers, each message to one
/// consumer.
///
/// A process killed at any instruction loses nothing that it had sent and hangs nobody: what it was writing is skipped
/// and counted; what it had taken and not released is delivered again, marked. May be shared between threads. A child
/// made by fork joins as itself when it first uses the handle (-EUSERS, -EMFILE, -ENFILE if it cannot); loans stay the
/// parent's.
pub struct ww_ring {
    pub(crate) ring: Arc<Ring>,
    reserved: Loans<RingReserved<'static>>,
    borrowed: Loans<RingBorrowed<'static>>,
    /// Those that do something after they have waited: lend, or send a further chunk.
    pub(crate) calls: Calls,
}

impl ww_ring {
    /// Keeps a reservation, and tells C where it is.
    ///
    /// # Safety
    /// `loan` may be written to.
    pub(crate) unsafe fn lend(&self, reserved: RingReserved<'static>, loan: *mut ww_loan) -> Result<()> {
        let (data, size) = (reserved.as_ptr().cast(), reserved.length());
        // SAFETY: as the caller promises.
        unsafe { put(loan, ww_loan { data, size, token: self.reserved.keep(reserved) }, "loan") }
    }
}

/// How a ring is opened or made; initialise with WW_RING_OPTIONS_INIT. capacity, largest, depth, participants, mode,
/// persistent, redeliveries and lanes count when it is made and are the ring's from then on; the rest is each handle's
/// own. Zero means what the address says, or else the default.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ww_ring_options {
    pub size: usize,
    /// Memory for messages in bytes, reserved at once; 0 for 1 MiB or, where a depth is given, for so many messages of the
    /// largest size.
    pub capacity: u64,
    /// The largest message in bytes; 0 for 1024, or a quarter of the capacity if that is less. A limit only: each
    /// message takes 128 bytes of the capacity, and one of more than 96 bytes its own length besides, rounded up to at
    /// most twice that (an eighth more on the average). Rings whose largest message has at most 112 bytes have 64 or
    /// 128 bytes for each instead.
    pub largest: u64,
    /// How many handles may be open at the same time, at most 256; 0 for 256.
    pub participants: u32,
    /// Permissions of the file; 0 for 0600.
    pub mode: u32,
    /// 1: nobody is told that the other side has gone; the ring is there for those to come.
    pub persistent: c_int,
    /// WW_RING_WAIT, WW_RING_FAIL, WW_RING_DROP_NEWEST or WW_RING_DROP_OLDEST.
    pub full: u32,
    /// WW_RING_EITHER, WW_RING_PRODUCER or WW_RING_CONSUMER.
    pub role: u32,
    /// WW_WAIT_ADAPTIVE, WW_WAIT_BLOCK or WW_WAIT_POLL.
    pub wait: u32,
    /// A message that was delivered again so often, and comes back once more, becomes a dead letter instead, which only
    /// handles with dead_letters receive; 0: never. Dead letters take up half of a lane at most; what would go beyond is
    /// dropped, and counted as such.
    pub redeliveries: u32,
    /// 1: what this handle receives are dead letters, in no particular order, instead of messages. It does not become a
    /// consumer by that. One that is not released stays a dead letter.
    pub dead_letters: c_int,
    /// How many lanes the ring has, at most 8; 0 for 1. Messages of a higher lane are received first. Each lane has its part
    /// of the capacity, and is full by itself.
    pub lanes: u32,
    /// The lane that this handle sends by where it names no other, from 0.
    pub lane: u32,
    /// How many messages there may be at once, all lanes together, rounded up to a power of two in each; 0 for as many as
    /// take a quarter of the capacity, 65536 at most (where the largest message has at most 112 bytes, the whole of it). Not
    /// with a one-to-one ring.
    pub depth: u64,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Options for ww_ring_options {}

/// # Safety
/// `given` is NULL or points to a struct of the size that its first member tells.
pub(crate) unsafe fn ring_options(given: *const ww_ring_options) -> Result<RingOptions> {
    const NOUN: &str = "ww_ring_options";
    // SAFETY: as the caller promises.
    let given = unsafe { options(given, NOUN) }?;
    let mut wanted = RingOptions::default();
    (wanted.capacity, wanted.largest, wanted.depth) = (given.capacity, given.largest, given.depth);
    (wanted.participants, wanted.mode) = (given.participants, given.mode);
    wanted.persistent = flag(given.persistent, "ww_ring_options.persistent")?;
    wanted.full = match given.full {
        WW_RING_WAIT => RingFull::Wait,
        WW_RING_FAIL => RingFull::Fail,
        WW_RING_DROP_NEWEST => RingFull::DropNewest,
        WW_RING_DROP_OLDEST => RingFull::DropOldest,
        _ => {
            return Err(invalid(
                NOUN,
                "full is WW_RING_WAIT, WW_RING_FAIL, WW_RING_DROP_NEWEST or WW_RING_DROP_OLDEST",
            ));
        }
    };
    wanted.role = match given.role {
        WW_RING_EITHER => RingRole::Either,
        WW_RING_PRODUCER => RingRole::Producer,
        WW_RING_CONSUMER => RingRole::Consumer,
        _ => return Err(invalid(NOUN, "role is WW_RING_EITHER, WW_RING_PRODUCER or WW_RING_CONSUMER")),
    };
    wanted.wait = wait_mode(given.wait, NOUN)?;
    wanted.redeliveries = given.redeliveries;
    (wanted.lanes, wanted.lane) = (given.lanes, given.lane);
    wanted.dead_letters = flag(given.dead_letters, "ww_ring_options.dead_letters")?;
    Ok(wanted)
}

/// # Safety
/// `out` may be written to.
unsafe fn hand_out(out: *mut *mut ww_ring, ring: Ring) -> Result<()> {
    // SAFETY: as the caller promises.
    unsafe {
        give(out, ww_ring { ring: Arc::new(ring), reserved: Loans::new(), borrowed: Loans::new(), calls: Calls::new() })
    }
}

/// Opens the ring of this name, or makes it: a plain name lies in $WIGWAG_DIR or /dev/shm/wigwag-UID, one with a slash is
/// a path on a tmpfs. NULL options mean defaults. Never blocks. Close it with ww_ring_close().
///
/// Errors: -EINVAL the address, or options that do not fit together; -ENOSPC the memory is not free; -EACCES the
/// directory is somebody else's, or the mode does not allow it; -ENOENT, -ENOTDIR no such directory; -ELOOP a symbolic
/// link; -ENOTSUP the file system cannot make files without a name (a tmpfs can); -EBADMSG there is something else
/// under that name, or it is damaged; -EPROTO it was made by an incompatible version; -EUSERS it has no room for
/// another participant; -EMFILE, -ENFILE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_open(
    out: *mut *mut ww_ring,
    address: *const c_char,
    options: *const ww_ring_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        hand_out(out, Ring::open(&self::address(address)?, ring_options(options)?)?)
    })
}

/// Makes a ring without a name, for children made by fork, and for others by its descriptor. Never blocks.
///
/// Errors: -EINVAL options that do not fit together; -ENOSPC, -EMFILE, -ENFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_anonymous(out: *mut *mut ww_ring, options: *const ww_ring_options) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        hand_out(out, Ring::anonymous(ring_options(options)?)?)
    })
}

/// Joins the ring whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor and closes fd;
/// after an error fd stays the caller's. Never blocks.
///
/// Errors: -EBADMSG it is no ring, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF, -EMFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_from_fd(out: *mut *mut ww_ring, fd: c_int, options: *const ww_ring_options) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = ring_options(options)?;
        hand_out(out, adopt(fd, "ring", |fd| Ring::from_fd(fd, options))?)
    })
}

/// Closes the handle; threads that wait on it return -ECANCELED first. What it had reserved was never sent; what it had
/// borrowed is delivered again, marked. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_close(ring: *mut ww_ring) {
    // SAFETY: as above.
    unsafe {
        close(ring, |ring| {
            ring.ring.end_waits();
            ring.calls.drain();
        })
    };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_end_waits(ring: *const ww_ring) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(ring, "ring")?.ring.end_waits();
        Ok(())
    })
}

/// Removes a ring's name; those who have it open keep it, and what it holds is gone with the last of them. Never blocks.
///
/// Errors: -ENOENT there is none; -EBADMSG it is something else, which is left; -EINVAL the address; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_remove(address: *const c_char) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ring::remove(&self::address(address)?) })
}

/// How many bytes of memory a ring with these options takes, all in all. Never blocks. Errors: -EINVAL, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_size_for(options: *const ww_ring_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { Ring::size_for(&ring_options(options)?) })
}

/// Whether the name still stands for this ring. Never blocks. Errors: -ESTALE the name was removed: what is sent from now
/// on reaches only those who have the ring open; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_check(ring: *const ww_ring) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(ring, "ring")?.ring.check() })
}

/// The descriptor, to pass on for ww_ring_from_fd(); not for polling. It stays the handle's. Never blocks.
/// Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_segment_fd(ring: *const ww_ring) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(ring, "ring")?.ring.as_fd().as_raw_fd()) })
}

/// A descriptor that is readable while there may be a message for this handle (a dead letter, if these are what it
/// receives): for poll, a wait set, an event loop. It stays so until a call finds none. It stays the handle's. From the
/// first call on it costs a helper thread that sleeps in the kernel. Never blocks.
///
/// Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -ESTALE this handle was declared dead;
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_fd(ring: *const ww_ring) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(ring, "ring")?.ring.doorbell()?.as_raw_fd()) })
}

/// As ww_ring_fd(), readable while there may be room for a message in this lane (0 where there is one), until a call finds
/// none. Never blocks. Errors: as ww_ring_fd(); -EINVAL there is no such lane.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_room_fd(ring: *const ww_ring, lane: u32) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(object(ring, "ring")?.ring.room_doorbell(lane)?.as_raw_fd()) })
}

/// Copies a message into the ring; waits while the ring is full, unless the handle's options say otherwise. A message
/// may be empty.
///
/// Errors, with nothing sent: -EMSGSIZE it is larger than the ring's largest; -EPIPE there is no room and the last
/// consumer has gone (never with a persistent ring or WW_RING_DROP_NEWEST); -ESTALE this handle was
/// declared dead because its lock was closed: open the ring anew; -EBADMSG the ring is damaged; -EAGAIN, -ETIMEDOUT,
/// -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_send(
    ring: *const ww_ring,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(ring, "ring")?.ring.send(bytes(data, size)?, timeout(timeout_ns)?) })
}

/// Copies the next message out of the ring, is done with it, and returns its size; waits while there is none.
/// *deliveries, which may be NULL, gets how often it has been taken, this time included: more than 1 says that somebody may
/// have acted on it before. *true_size, which may be NULL, gets its size also where the buffer is too small.
///
/// Errors, with nothing taken: -EMSGSIZE the buffer is too small; -EPIPE the ring is empty and the last producer has
/// gone (never with a persistent ring); -ESTALE, -EBADMSG as ww_ring_send(); -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_recv(
    ring: *const ww_ring,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
    deliveries: *mut u32,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        match object(ring, "ring")?.ring.recv(room(buffer, size)?, timeout(timeout_ns)?) {
            Ok(received) => {
                put_if_wanted(deliveries, received.deliveries);
                put_if_wanted(true_size, received.length);
                Ok(received.length)
            }
            Err(error) => {
                if error.errno() == libc::EMSGSIZE {
                    put_if_wanted(true_size, error.true_size());
                }
                Err(error)
            }
        }
    })
}

/// Lends room for a message of this size, in *loan, to be written in place and then given to ww_ring_commit() or
/// ww_ring_abort(); waits while the ring is full. Several can be out, and come back in any order.
///
/// Errors: as ww_ring_send(); a full ring with WW_RING_DROP_NEWEST is -EAGAIN, as there is nothing yet to drop.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_reserve(
    ring: *const ww_ring,
    loan: *mut ww_loan,
    size: usize,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(loan)?;
        let ring = object(ring, "ring")?;
        let _ongoing = ring.calls.begin();
        ring.lend(ring.ring.reserve_owned(size, timeout(timeout_ns)?)?, loan)
    })
}

/// Sends the message that was written in place. Never blocks.
///
/// Errors: -EINVAL the token names no reservation of this handle; -ESTALE this handle was declared dead, and the room
/// taken back; -EPERM it was reserved by the process that this one was forked from; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_commit(ring: *const ww_ring, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(ring, "ring")?.reserved.take(token, "commit")?.commit() })
}

/// Gives reserved room back; nothing was sent. Never blocks. Errors: as ww_ring_commit().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_abort(ring: *const ww_ring, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(ring, "ring")?.reserved.take(token, "abort")?.abort() })
}

/// Takes the next message and lends it in *loan, to be read in place and then given to ww_ring_release() or
/// ww_ring_give_back(); waits while there is none. *deliveries as in ww_ring_recv(). Several can be out, and come back in
/// any order.
///
/// Errors: as ww_ring_recv(), without -EMSGSIZE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_borrow(
    ring: *const ww_ring,
    loan: *mut ww_loan,
    timeout_ns: i64,
    deliveries: *mut u32,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(loan)?;
        let ring = object(ring, "ring")?;
        let _ongoing = ring.calls.begin();
        let borrowed = ring.ring.borrow_owned(timeout(timeout_ns)?)?;
        put_if_wanted(deliveries, borrowed.deliveries());
        let (data, size) = (borrowed.as_ptr().cast_mut().cast(), borrowed.length());
        put(loan, ww_loan { data, size, token: ring.borrowed.keep(borrowed) }, "loan")
    })
}

/// Is done with a borrowed message. Never blocks.
///
/// Errors: -EINVAL the token names no borrowed message of this handle; -ESTALE this handle was declared dead, and the
/// message will be delivered to another; -EPERM it was taken by the process that this one was forked from; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_release(ring: *const ww_ring, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(ring, "ring")?.borrowed.take(token, "release")?.release() })
}

/// Gives a borrowed message back without being done with it: it will be delivered again, marked. Never blocks.
/// Errors: as ww_ring_release().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_give_back(ring: *const ww_ring, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(ring, "ring")?.borrowed.take(token, "give back")?.give_back() })
}

/// What a ring has seen and what it holds. Always sent = released + borrowed + queued + dropped + dead_lettered.
#[repr(C)]
pub struct ww_ring_statistics {
    /// Messages that were committed, or dropped by their sender because the ring was full.
    pub sent: u64,
    /// Messages that consumers were done with; have taken and not released; messages that nobody has taken.
    pub released: u64,
    pub borrowed: u64,
    pub queued: u64,
    /// Messages that were thrown away because the ring, or its room for dead letters, was full.
    pub dropped: u64,
    /// Messages that came back too often and that nobody has taken since.
    pub dead_lettered: u64,
    /// Places reserved and not committed; reservations given up; half-written messages of producers that died. None of
    /// them was ever sent.
    pub writing: u64,
    pub aborted: u64,
    pub skipped: u64,
    /// How often a message came back after it had been taken.
    pub redelivered: u64,
    /// The most messages that were in the ring at once (in one of its lanes, if there are several), those being written
    /// included; may be short by 16, or an eighth of what there is room for if that is less. 0 with a one-to-one ring.
    pub high_water: u64,
    /// The largest message, and all memory, in bytes.
    pub largest: usize,
    pub bytes: usize,
    /// How many handles take part.
    pub participants: usize,
    /// Lanes; 0 with a one-to-one ring.
    pub lanes: u64,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 5],
}

/// One handle on a ring, of this or another process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_ring_participant {
    /// Its process; 0 if it lives in a pid namespace that this one cannot see.
    pub pid: u32,
    /// 1 or 0: the handle that was asked; has sent, or was opened to send; has received, or was opened to receive.
    pub is_self: u32,
    pub producer: u32,
    pub consumer: u32,
    /// When it was opened, in seconds since 1970.
    pub since: u64,
    /// Messages that it is writing, or has taken and not released.
    pub holding: u64,
    /// Since when the first of its threads waits, in nanoseconds since 1970; 0: none does.
    pub waiting_since: u64,
    /// How many of its threads wait.
    pub waiting: u32,
    pub unused: u32,
    /// Room for what later versions tell; 0.
    pub reserved: [u64; 2],
}

/// Tells what the ring has seen and holds, and in participants, if it is not NULL, who takes part: at most so many as
/// there is room for; statistics->participants is how many there are. Never blocks; takes time in proportion to the
/// capacity. Errors: -EBADMSG the ring is damaged; -ESTALE; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_get_statistics(
    ring: *const ww_ring,
    statistics: *mut ww_ring_statistics,
    participants: *mut ww_ring_participant,
    room: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        tell(object(ring, "ring")?.ring.statistics()?, statistics, participants, room)
    })
}

/// # Safety
/// `statistics` may be written to; `participants` is NULL or may be written to for `room` entries.
pub(crate) unsafe fn tell(
    seen: RingStatistics,
    statistics: *mut ww_ring_statistics,
    participants: *mut ww_ring_participant,
    room: usize,
) -> Result<()> {
    let entries = seen.participants.iter().map(|peer| ww_ring_participant {
        pid: peer.pid.unwrap_or(0),
        is_self: peer.is_self.into(),
        producer: peer.producer.into(),
        consumer: peer.consumer.into(),
        since: peer.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        holding: peer.holding,
        waiting_since: peer.waiting_since.map_or(0, nanos),
        waiting: peer.waiting,
        unused: 0,
        reserved: [0; 2],
    });
    let told = ww_ring_statistics {
        sent: seen.sent,
        released: seen.released,
        borrowed: seen.borrowed,
        queued: seen.queued,
        dropped: seen.dropped,
        dead_lettered: seen.dead_lettered,
        writing: seen.writing,
        aborted: seen.aborted,
        skipped: seen.skipped,
        redelivered: seen.redelivered,
        high_water: seen.high_water,
        largest: seen.largest,
        bytes: seen.bytes,
        participants: seen.participants.len(),
        lanes: seen.lanes.into(),
        reserved: [0; 5],
    };
    // SAFETY: as the caller promises.
    unsafe {
        put_list(participants, room, entries);
        put(statistics, told, "statistics")
    }
}
