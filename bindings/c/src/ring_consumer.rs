//! One-to-one rings: the receiving end.

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int, c_void};
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use libc::ssize_t;
use wigwag::{Result, RingConsumer, RingConsumerBorrowed, RingWaits, Timeout};

use crate::boundary::{
    address, adopt, call, close, expect_out, give, object, put, put_if_wanted, room as room_of, timeout,
};
use crate::calls::Calls;
use crate::ring::{ring_options, tell, ww_ring_options, ww_ring_participant, ww_ring_statistics};
use crate::ring_batch::{recv_into, ww_ring_received};
use crate::ring_producer::{gone, lent, no_loan};
use crate::segment::{token, ww_loan};

/// The receiving end of a one-to-one ring; see ww_ring_producer.
pub struct ww_ring_consumer {
    own: UnsafeCell<Own>,
    waits: RingWaits,
    /// Those that lend after they have waited.
    calls: Calls,
}

enum Own {
    Idle(Box<RingConsumer>),
    /// With the token.
    Lent(RingConsumerBorrowed<Box<RingConsumer>>, u64),
    /// Declared dead while a loan was out.
    Gone,
}

/// # Safety
/// `out` may be written to.
pub(crate) unsafe fn hand_out(out: *mut *mut ww_ring_consumer, consumer: RingConsumer) -> Result<()> {
    let (waits, own) = (consumer.waits(), UnsafeCell::new(Own::Idle(Box::new(consumer))));
    // SAFETY: as the caller promises.
    unsafe { give(out, ww_ring_consumer { own, waits, calls: Calls::new() }) }
}

/// What the handle holds.
///
/// # Safety
/// As [`object`], and no other thread uses the handle for `'a`, but to close it, which leaves this alone until the call
/// here has ended.
#[inline]
unsafe fn own<'a>(handle: *const ww_ring_consumer) -> Result<&'a mut Own> {
    // SAFETY: as the caller promises.
    Ok(unsafe { &mut *object(handle, "consumer")?.own.get() })
}

/// # Safety
/// As [`own`].
#[inline]
unsafe fn idle<'a>(handle: *const ww_ring_consumer) -> Result<&'a mut RingConsumer> {
    // SAFETY: as the caller promises.
    match unsafe { own(handle) }? {
        Own::Idle(consumer) => Ok(consumer),
        Own::Lent(..) => Err(lent()),
        Own::Gone => Err(gone()),
    }
}

/// For what may be asked while a loan is out.
///
/// # Safety
/// As [`own`].
unsafe fn any<'a>(handle: *const ww_ring_consumer) -> Result<&'a RingConsumer> {
    // SAFETY: as the caller promises.
    match unsafe { own(handle) }? {
        Own::Idle(consumer) => Ok(consumer),
        Own::Lent(borrowed, _) => borrowed.consumer().ok_or_else(gone),
        Own::Gone => Err(gone()),
    }
}

/// Opens the one-to-one ring of this name, or makes it, and becomes its consumer. Never blocks. Close it with
/// ww_ring_consumer_close(). Errors: -EBUSY it has a consumer; otherwise as ww_ring_producer_open().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_open(
    out: *mut *mut ww_ring_consumer,
    address: *const c_char,
    options: *const ww_ring_options,
) -> c_int {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        expect_out(out)?;
        hand_out(out, RingConsumer::open(&self::address(address)?, ring_options(options)?)?)
    })
}

/// Becomes the consumer of the ring whose descriptor came from a parent or a peer. The handle uses a copy of the descriptor
/// and closes fd; after an error fd stays the caller's. Never blocks. Errors: as ww_ring_producer_from_fd().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_from_fd(
    out: *mut *mut ww_ring_consumer,
    fd: c_int,
    options: *const ww_ring_options,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(out)?;
        let options = ring_options(options)?;
        hand_out(out, adopt(fd, "ring", |fd| RingConsumer::from_fd(fd, options))?)
    })
}

/// Closes the end; a thread that waits on it returns -ECANCELED first. What it had borrowed is delivered again, marked, to
/// the next consumer. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_close(consumer: *mut ww_ring_consumer) {
    // SAFETY: as above.
    unsafe {
        close(consumer, |consumer| {
            consumer.waits.end();
            consumer.calls.drain();
        })
    };
}

/// As ww_channel_end_waits(). Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_end_waits(consumer: *const ww_ring_consumer) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        object(consumer, "consumer")?.waits.end();
        Ok(())
    })
}

/// Whether the name still stands for this ring. Never blocks. Errors: -ESTALE the name was removed: whoever opens it from
/// now on gets another ring; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_check(consumer: *const ww_ring_consumer) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { any(consumer)?.check() })
}

/// The segment's descriptor, to pass on for ww_ring_producer_from_fd(); not for polling. It stays the handle's. Never
/// blocks. Errors: -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_segment_fd(consumer: *const ww_ring_consumer) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(any(consumer)?.as_fd().as_raw_fd()) })
}

/// A descriptor that is readable while there may be a message: for poll, a wait set, an event loop. It stays so until a
/// call finds none. It stays the handle's. From the first call on it costs a helper thread that sleeps in the kernel. Never
/// blocks. Errors: as ww_ring_producer_fd().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_fd(consumer: *const ww_ring_consumer) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { Ok(any(consumer)?.doorbell()?.as_raw_fd()) })
}

/// Copies the next message out of the ring, is done with it, and returns its size; waits while there is none.
/// *deliveries, which may be NULL, gets how often it has been taken, this time included: more than 1 says that somebody may
/// have acted on it before. *true_size, which may be NULL, gets its size also where the buffer is too small.
///
/// Errors, with nothing taken: -EMSGSIZE the buffer is too small; -EPIPE the ring is empty and its producer has gone (never
/// with a persistent ring); -EBUSY a loan is out; -EPERM, -ESTALE, -EBADMSG as ww_ring_producer_send(); -EAGAIN, -ETIMEDOUT,
/// -ECANCELED; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_recv(
    consumer: *const ww_ring_consumer,
    buffer: *mut c_void,
    size: usize,
    timeout_ns: i64,
    deliveries: *mut u32,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        match idle(consumer)?.recv(room_of(buffer, size)?, timeout(timeout_ns)?) {
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

/// Copies as many messages out of the ring as are there and fit, at least one and at most 64, is done with them, all at one
/// instant, and returns how many; waits while there is none. They come one behind the other in buffer, which has size bytes,
/// and what each is in received, which has room for count entries. *true_size, which may be NULL, gets the size of the
/// first message where the buffer is too small for it.
///
/// Errors, with nothing taken: as ww_ring_consumer_recv(); -EINVAL count is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_recv_batch(
    consumer: *const ww_ring_consumer,
    buffer: *mut c_void,
    size: usize,
    received: *mut ww_ring_received,
    count: usize,
    timeout_ns: i64,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let (consumer, timeout) = (idle(consumer)?, timeout(timeout_ns)?);
        let buffer = room_of(buffer, size)?;
        recv_into(received, count, true_size, |list| consumer.recv_batch(buffer, list, timeout))
    })
}

/// Takes the next message and lends it in *loan, to be read in place and then given to ww_ring_consumer_release() or
/// ww_ring_consumer_give_back(); waits while there is none. *deliveries as in ww_ring_consumer_recv(). One can be out at a
/// time.
///
/// Errors: as ww_ring_consumer_recv(), without -EMSGSIZE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_borrow(
    consumer: *const ww_ring_consumer,
    loan: *mut ww_loan,
    timeout_ns: i64,
    deliveries: *mut u32,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(loan)?;
        let _ongoing = object(consumer, "consumer")?.calls.begin();
        idle(consumer)?.next_length(timeout(timeout_ns)?)?;
        let own = own(consumer)?;
        let Own::Idle(consumer) = mem::replace(own, Own::Gone) else { return Err(gone()) };
        match consumer.borrow_owned(Timeout::Now) {
            Ok(borrowed) => {
                put_if_wanted(deliveries, borrowed.deliveries());
                let (data, size, token) = (borrowed.as_ptr().cast_mut().cast(), borrowed.length(), token());
                *own = Own::Lent(borrowed, token);
                put(loan, ww_loan { data, size, token }, "loan")
            }
            Err((consumer, error)) => {
                *own = Own::Idle(consumer);
                Err(error)
            }
        }
    })
}

/// The loan of this token, taken out of the handle.
fn take(own: &mut Own, token: u64) -> Result<RingConsumerBorrowed<Box<RingConsumer>>> {
    match mem::replace(own, Own::Gone) {
        Own::Lent(borrowed, lent) if lent == token => Ok(borrowed),
        other => {
            *own = other;
            Err(no_loan())
        }
    }
}

/// Is done with the borrowed message. Never blocks.
///
/// Errors: -EINVAL the token names no borrowed message of this handle; -ESTALE this end was declared dead, and the message
/// will be delivered to another; -EPERM it was taken by the process that this one was forked from; -EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_release(consumer: *const ww_ring_consumer, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let own = own(consumer)?;
        *own = Own::Idle(take(own, token)?.release()?);
        Ok(())
    })
}

/// Gives the borrowed message back without being done with it: it will be delivered again, marked. Never blocks.
/// Errors: as ww_ring_consumer_release().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_give_back(consumer: *const ww_ring_consumer, token: u64) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        let own = own(consumer)?;
        *own = Own::Idle(take(own, token)?.give_back()?);
        Ok(())
    })
}

/// As ww_ring_producer_get_statistics(). Never blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_consumer_get_statistics(
    consumer: *const ww_ring_consumer,
    statistics: *mut ww_ring_statistics,
    participants: *mut ww_ring_participant,
    room: usize,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(statistics)?;
        tell(any(consumer)?.statistics()?, statistics, participants, room)
    })
}
