//! Rings: several messages in one call, and lanes.

use std::ffi::{c_int, c_void};

use libc::ssize_t;
use wigwag::{Error, Result, RingReceived, Timeout};

use crate::boundary::{bytes, call, expect_out, object, put_if_wanted, room, timeout};
use crate::ring::ww_ring;
use crate::segment::{in_chunks, ww_bytes, ww_loan};

/// One message of a batch that was received.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ww_ring_received {
    /// Its bytes, which follow those of the message before it.
    pub size: usize,
    /// How often it has been taken, this time included: more than 1 says that somebody may have acted on it before.
    pub deliveries: u32,
    /// The lane that it came by; 0 where there is one.
    pub lane: u32,
}

/// Copies as many of these messages into the ring as there is room for, at least one unless count is 0, in their order,
/// and returns how many. Waits while there is no room for the first, unless the handle's options say otherwise: with
/// WW_RING_DROP_NEWEST those without room are dropped and counted, and it returns how many there were. Each message is sent
/// whole or not at all; others may see the first before the last is sent, and send in between.
///
/// Errors, with nothing sent: as ww_ring_send(); what stops a batch after its first message, such as one that is too
/// large, is met by the next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_send_batch(
    ring: *const ww_ring,
    messages: *const ww_bytes,
    count: usize,
    timeout_ns: i64,
) -> ssize_t {
    // SAFETY: the caller's promises, as the header states them; likewise below.
    call(|| unsafe {
        let (ring, timeout) = (object(ring, "ring")?, timeout(timeout_ns)?);
        let timeout = |first| if first { timeout } else { Timeout::Now };
        in_chunks(&ring.calls, messages, count, |chunk, first| ring.ring.send_batch(chunk, timeout(first)))
    })
}

/// As ww_ring_send(), by this lane of the ring; messages of a higher lane are received first. Errors: as there; -EINVAL
/// there is no such lane.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_send_in_lane(
    ring: *const ww_ring,
    lane: u32,
    data: *const c_void,
    size: usize,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe { object(ring, "ring")?.ring.send_in_lane(lane, bytes(data, size)?, timeout(timeout_ns)?) })
}

/// As ww_ring_send_batch(), by this lane. Errors: as there; -EINVAL there is no such lane.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_send_batch_in_lane(
    ring: *const ww_ring,
    lane: u32,
    messages: *const ww_bytes,
    count: usize,
    timeout_ns: i64,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let (ring, timeout) = (object(ring, "ring")?, timeout(timeout_ns)?);
        let timeout = |first| if first { timeout } else { Timeout::Now };
        in_chunks(&ring.calls, messages, count, |chunk, first| {
            ring.ring.send_batch_in_lane(lane, chunk, timeout(first))
        })
    })
}

/// As ww_ring_reserve(), by this lane. Errors: as there; -EINVAL there is no such lane.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_reserve_in_lane(
    ring: *const ww_ring,
    lane: u32,
    loan: *mut ww_loan,
    size: usize,
    timeout_ns: i64,
) -> c_int {
    // SAFETY: as above.
    call(|| unsafe {
        expect_out(loan)?;
        let ring = object(ring, "ring")?;
        let _ongoing = ring.calls.begin();
        ring.lend(ring.ring.reserve_owned_in_lane(lane, size, timeout(timeout_ns)?)?, loan)
    })
}

/// Copies as many messages out of the ring as are there and fit, at least one and at most 64, is done with them, and
/// returns how many; waits while there is none. They come one behind the other in buffer, which has size bytes, and what
/// each is in received, which has room for count entries. *true_size, which may be NULL, gets the size of the first message
/// where the buffer is too small for it. A process that dies in this call was not done with them, or not with all.
///
/// Errors, with nothing taken: as ww_ring_recv(); -EINVAL count is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ww_ring_recv_batch(
    ring: *const ww_ring,
    buffer: *mut c_void,
    size: usize,
    received: *mut ww_ring_received,
    count: usize,
    timeout_ns: i64,
    true_size: *mut usize,
) -> ssize_t {
    // SAFETY: as above.
    call(|| unsafe {
        let (ring, timeout) = (&object(ring, "ring")?.ring, timeout(timeout_ns)?);
        let buffer = room(buffer, size)?;
        recv_into(received, count, true_size, |list| ring.recv_batch(buffer, list, timeout))
    })
}

/// So many messages are received in one call at most.
const MOST: usize = 64;

/// Receives a batch and writes what each message is to C's list.
///
/// # Safety
/// `received` is valid for writes of `count` entries; `true_size` is NULL or may be written to.
pub(crate) unsafe fn recv_into(
    received: *mut ww_ring_received,
    count: usize,
    true_size: *mut usize,
    recv: impl FnOnce(&mut [RingReceived]) -> Result<usize>,
) -> Result<usize> {
    if received.is_null() && count != 0 {
        return Err(Error::from_raw(libc::EFAULT, "received"));
    }
    let mut list = [RingReceived::default(); MOST];
    let taken = recv(&mut list[..count.min(MOST)]).inspect_err(|error| {
        if error.errno() == libc::EMSGSIZE {
            // SAFETY: as the caller promises.
            unsafe { put_if_wanted(true_size, error.true_size()) };
        }
    })?;
    for (index, message) in list[..taken].iter().enumerate() {
        let told = ww_ring_received { size: message.length, deliveries: message.deliveries, lane: message.lane };
        // SAFETY: `taken` is at most `count`, for which the caller promises room.
        unsafe { received.add(index).write(told) };
    }
    Ok(taken)
}
