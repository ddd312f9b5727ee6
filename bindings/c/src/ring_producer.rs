//! One-to-one rings: the sending end.

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int, c_void};
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::{Error, Result, RingProducer, RingProducerReserved, RingWaits, Timeout};

use crate::boundary::{address, adopt, bytes, call, close, expect_out, give, invalid, object, put, timeout};
use crate::calls::Calls;
use crate::ring::{ring_options, tell, ww_ring_options, ww_ring_participant, ww_ring_statistics};
use crate::ring_consumer::{self, ww_ring_consumer};
use crate::segment::{in_chunks, token, ww_bytes, ww_loan};

/// The sending end of a one-to-one ring (ring:name), the fastest way between two processes: one producer, one consumer at
/// a time. A second one is -EBUSY, and takes over once the first has gone or died. What was sent stays sent; what a
/// consumer had taken and not finished when it died is delivered again, marked.
///
/// One thread at a time uses an end; another may close it, which ends a wait. A child made by fork cannot use an inherited
/// end: it stays the parent's.
pub struct ww_ring_producer {
    own: UnsafeCell<Own>,
    waits: RingWaits,
    /// Those that do something after they have waited: lend, or send a further chunk.
    calls: Calls,
}

enum Own {
    Idle(Box<RingProducer>),
    /// With the token.
    Lent(RingProducerReserved<Box<RingProducer>>, u64),
    /// Declared dead while a loan was out.
    Gone,
}

pub(crate) fn lent() -> Error {
    Error::from_raw(libc::EBUSY, "one-to-one ring").because("a loan is out; give it back first")
}

pub(crate) fn gone() -> Error {
    Error::from_raw(libc::ESTALE, "one-to-one ring").because("this end failed with a loan; close it, and open it anew")
}

pub(crate) fn no_loan() -> Error {
    invalid("one-to-one ring", "no loan of this handle: it was given back already, or comes from another one")
}

impl ww_ring_producer {
    fn new(producer: RingProducer) -> ww_ring_producer {
        let waits = producer.waits();
        ww_ring_producer { own: UnsafeCell::new(Own::Idle(Box::new(producer))), waits, calls: Calls::new() }
    }
}

/// What the handle holds.
///
/// # Safety
/// As [`object`], and no other thread uses the handle for `'a`, but to close it, which leaves this alone until the call
/// here has ended.
#[inline]
unsafe fn own<'a>(handle: *const ww_ring_producer) -> Result<&'a mut Own> {
    // SAFETY: as the caller promises.
    Ok(unsafe { &mut *object(handle, "producer")?.own.get() })
}

/// # Safety
/// As [`own`].
#[inline]
unsafe fn idle<'a>(handle: *const ww_ring_producer) -> Result<&'a mut RingProducer> {
    // SAFETY: as the caller promises.
    match unsafe { own(handle) }? {
        Own::Idle(producer) => Ok(producer),
        Own::Lent(..) => Err(lent()),
        Own::Gone => Err(gone()),
    }
}

/// For what may be asked while a loan is out.
///
/// # Safety
/// As [`own`].
unsafe fn any<'a>(handle: *const ww_ring_producer) -> Result<&'a RingProducer> {
    // SAFETY: as the caller promises.
    match unsafe { own(handle) }? {
        Own::Idle(producer) => Ok(producer),
        Own::Lent(reserved, _) => Ok(reserved.producer()),
        Own::Gone => Err(gone()),
    }
}

/// Opens the one-to-one ring of this name, or makes it, and becomes its producer. Of the options, role is not looked
/// at; redeliveries, dead_letters, depth, lanes above 1, lane and WW_RING_DROP_OLDEST are -EINVAL. Never blocks. Close
/// it with ww_ring_producer_close(); remove the name with ww_ring_remove().
///
/// Errors: -EBUSY it has a producer; -EBADMSG the name is that of something else, such as a many-to-many ring; otherwise
/// as ww_ring_open().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_open(
    out: *mut *mut ww_ring_producer,
    address: *const c_char,
    options: *const ww_ring_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        let producer = RingProducer::open(&self::address(address)?, ring_options(options)?)?;
        give(out, ww_ring_producer::new(producer))
    })
}

/// Makes a one-to-one ring without a name, and both its ends. The consumer is usually not for this process: pass on its
/// descriptor and close it. Never blocks. Errors: as ww_ring_anonymous().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_anonymous(
    out: *mut *mut ww_ring_producer,
    consumer: *mut *mut ww_ring_consumer,
    options: *const ww_ring_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        expect_out(consumer)?;
        let ends = RingProducer::anonymous(ring_options(options)?)?;
        ring_consumer::hand_out(consumer, ends.1)?;
        give(out, ww_ring_producer::new(ends.0))
    })
}

/// Becomes the producer of the ring whose descriptor came from a parent or a peer. The handle uses a copy of the
/// descriptor and closes fd; after an error fd stays the caller's. Never blocks.
///
/// Errors: -EBUSY it has a producer; -EBADMSG it is no one-to-one ring, or damaged; -EPROTO, -EUSERS, -EINVAL, -EBADF,
/// -EMFILE, -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_from_fd(
    out: *mut *mut ww_ring_producer,
    fd: c_int,
    options: *const ww_ring_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = ring_options(options)?;
        let producer = adopt(fd, "ring", |fd| RingProducer::from_fd(fd, options))?;
        give(out, ww_ring_producer::new(producer))
    })
}

/// Closes the end; a thread that waits on it returns -ECANCELED first. What it had reserved was never sent. NULL is
/// allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_close(producer: *mut ww_ring_producer) {
    // SAFETY: as above.
    unsafe {
        close(producer, |producer| {
            producer.waits.end();
            producer.calls.drain();
        })
    };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_end_waits(producer: *const ww_ring_producer) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(producer, "producer")?.waits.end();
        Ok(())
    })
}

/// How many bytes of memory a one-to-one ring with these options takes, all in all. Never blocks. Errors: -EINVAL,
/// -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_size_for(options: *const ww_ring_options) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe { RingProducer::size_for(&ring_options(options)?) })
}

/// Whether the name still stands for this ring. Never blocks. Errors: -ESTALE the name was removed: what is sent from now
/// on reaches only who has the other end open; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_check(producer: *const ww_ring_producer) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { any(producer)?.check() })
}

/// The segment's descriptor, to pass on for ww_ring_consumer_from_fd(); not for polling. It stays the handle's. Never
/// blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_segment_fd(producer: *const ww_ring_producer) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(any(producer)?.as_fd().as_raw_fd()) })
}

/// A descriptor that is readable while there may be room for another message of any size: for poll, a wait set, an event
/// loop. It stays so until a call finds no room. It stays the handle's. From the first call on it costs a helper thread
/// that sleeps in the kernel. Never blocks.
///
/// Errors: -EMFILE, -ENFILE no descriptor is left; -ENOMEM no thread can be had; -EPERM this end is the parent's; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_fd(producer: *const ww_ring_producer) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(any(producer)?.doorbell()?.as_raw_fd()) })
}

/// Copies a message into the ring; waits while there is no room, unless the handle's options say otherwise. A message may
/// be empty.
///
/// Errors, with nothing sent: -EMSGSIZE it is larger than the ring's largest; -EPIPE there is no room and the consumer has
/// gone (never with a persistent ring or WW_RING_DROP_NEWEST); -EBUSY a loan is out; -EPERM this end is the parent's; -ESTALE it was declared dead
/// because its lock was closed: open it anew; -EBADMSG the ring is damaged; -EAGAIN, -ETIMEDOUT, -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_send(
    producer: *const ww_ring_producer,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { idle(producer)?.send(bytes(data, size)?, timeout(timeout_ns)?) })
}

/// Copies as many of these messages into the ring as there is room for, at least one unless count is 0, up to 64 of them at
/// one instant, and returns how many. Waits while there is no room for the first, unless the handle's options say otherwise:
/// with WW_RING_DROP_NEWEST those without room are dropped and counted, and it returns how many there were.
///
/// Errors, with nothing sent: as ww_ring_producer_send(); what stops a batch after its first message, such as one that is
/// too large, is met by the next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_send_batch(
    producer: *const ww_ring_producer,
    messages: *const ww_bytes,
    count: usize,
    timeout_ns: i64,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let calls = &object(producer, "producer")?.calls;
        let (producer, timeout) = (idle(producer)?, timeout(timeout_ns)?);
        let timeout = |first| if first { timeout } else { Timeout::Now };
        in_chunks(calls, messages, count, |chunk, first| producer.send_batch(chunk, timeout(first)))
    })
}

/// Lends room for a message of this size, in *loan, to be written in place and then given to ww_ring_producer_commit() or
/// ww_ring_producer_abort(); waits while there is none. One can be out at a time.
///
/// Errors: as ww_ring_producer_send(); a full ring with WW_RING_DROP_NEWEST is -EAGAIN, as there is nothing yet to drop.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_reserve(
    producer: *const ww_ring_producer,
    loan: *mut ww_loan,
    size: usize,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(loan)?;
        let _ongoing = object(producer, "producer")?.calls.begin();
        idle(producer)?.reserve(size, timeout(timeout_ns)?)?.abort();
        let own = own(producer)?;
        let Own::Idle(producer) = mem::replace(own, Own::Gone) else { return Err(gone()) };
        match producer.reserve_owned(size, Timeout::Now) {
            Ok(reserved) => {
                let (data, size, token) = (reserved.as_ptr().cast(), reserved.length(), token());
                *own = Own::Lent(reserved, token);
                put(loan, ww_loan { data, size, token }, "loan")
            }
            Err((producer, error)) => {
                *own = Own::Idle(producer);
                Err(error)
            }
        }
    })
}

/// The loan of this token, taken out of the handle.
fn take(own: &mut Own, token: u64) -> Result<RingProducerReserved<Box<RingProducer>>> {
    match mem::replace(own, Own::Gone) {
        Own::Lent(reserved, lent) if lent == token => Ok(reserved),
        other => {
            *own = other;
            Err(no_loan())
        }
    }
}

/// Sends the message that was written in place. Never blocks.
///
/// Errors: -EINVAL the token names no reservation of this handle; -ESTALE this end was declared dead; -EPERM it was
/// reserved by the process that this one was forked from; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_commit(producer: *const ww_ring_producer, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let own = own(producer)?;
        *own = Own::Idle(take(own, token)?.commit()?);
        Ok(())
    })
}

/// Gives reserved room back; nothing was sent. Never blocks. Errors: -EINVAL the token names no reservation of this
/// handle; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_abort(producer: *const ww_ring_producer, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let own = own(producer)?;
        *own = Own::Idle(take(own, token)?.abort());
        Ok(())
    })
}

/// Tells what the ring has seen and holds, as ww_ring_get_statistics(); a one-to-one ring has no writing, aborted, skipped
/// and dead_lettered. Never blocks. Errors: -EPERM, -ESTALE, -EBADMSG as ww_ring_producer_send(); -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_producer_get_statistics(
    producer: *const ww_ring_producer,
    statistics: *mut ww_ring_statistics,
    participants: *mut ww_ring_participant,
    room: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        tell(any(producer)?.statistics()?, statistics, participants, room)
    })
}
